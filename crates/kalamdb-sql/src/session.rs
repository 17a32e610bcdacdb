//! A session: who, from where, and its settings. Handshakes make them; a call with bare credentials has one for itself.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::array::timezone::Tz;
use kalamdb_core::{Clock, Error, ErrorCode, OnConflict, Principal, Result, TableKind};
use parking_lot::Mutex;

use crate::names::{CATALOG, DEFAULT_NAMESPACE, nearest};
use crate::time_zones::UTC;

/// Where a session comes from, for `system.sessions`.
#[derive(Clone, Debug, Default)]
pub struct SessionOrigin {
    /// Address of the peer.
    pub peer: String,
    /// What the client says it is (user agent).
    pub client: String,
}

/// The value of a session option, as the protocol has them.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionValue {
    /// Text.
    String(String),
    /// Boolean.
    Bool(bool),
    /// Integer.
    Int64(i64),
    /// Float.
    Double(f64),
    /// List of text.
    StringList(Vec<String>),
}

/// One open session as `system.sessions` shows it.
#[derive(Clone, Debug)]
pub(crate) struct SessionSnapshot {
    pub(crate) session_id: String,
    /// Whose it is: this incarnation of the user, and no later one of the same name.
    pub(crate) owner: Principal,
    pub(crate) user_id: String,
    pub(crate) peer: String,
    pub(crate) client: String,
    pub(crate) created_at_micros: i64,
    pub(crate) last_active_at_micros: i64,
}

/// Whose rows of USER and STREAM tables a session's statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of its principal.
    Own,
    /// Everyone's, for EXECUTE AS ALL USERS.
    Everyone,
}

/// An open session.
pub struct Session {
    id: String,
    principal: Principal,
    reach: Reach,
    origin: SessionOrigin,
    clock: Arc<dyn Clock>,
    created_at_micros: i64,
    last_active_at_micros: AtomicI64,
    /// See [`Session::set_own_credential`].
    own_credential_version: AtomicU64,
    settings: Mutex<Settings>,
}

/// Each option has its checked form here; what is `None` follows the server's default.
#[derive(Clone, Debug, Default)]
struct Settings {
    schema: Option<String>,
    time_zone: Option<String>,
    statement_timeout_ms: Option<u64>,
    ingest_table_type: Option<TableKind>,
    ingest_primary_key: Option<Vec<String>>,
    /// WITH options of tables that loads create, names in upper case.
    ingest_with: BTreeMap<String, String>,
    ingest_on_conflict: Option<OnConflict>,
}

/// What the names of options for tables that loads create start with.
const INGEST_WITH: &str = "ingest.with.";

const OPTIONS: &[&str] = &[
    "catalog",
    "schema",
    "time_zone",
    "statement_timeout",
    "ingest.table_type",
    "ingest.primary_key",
    "ingest.on_conflict",
];

impl Session {
    pub(crate) fn new(id: String, principal: Principal, origin: SessionOrigin, clock: Arc<dyn Clock>) -> Self {
        let now_micros = clock.now_micros();
        Session {
            id,
            principal,
            reach: Reach::Own,
            origin,
            clock,
            created_at_micros: now_micros,
            last_active_at_micros: AtomicI64::new(now_micros),
            own_credential_version: AtomicU64::new(0),
            settings: Mutex::new(Settings::default()),
        }
    }

    /// The same session as one statement of it sees it that runs with another's scope and rights. Nothing that is set in it lasts.
    pub(crate) fn acting(&self, principal: Principal, reach: Reach) -> Session {
        Session {
            id: self.id.clone(),
            principal,
            reach,
            origin: self.origin.clone(),
            clock: Arc::clone(&self.clock),
            created_at_micros: self.created_at_micros,
            last_active_at_micros: AtomicI64::new(self.last_active_at_micros()),
            own_credential_version: AtomicU64::new(0),
            settings: Mutex::new(self.settings.lock().clone()),
        }
    }

    /// The same session as a query sees it that comes with options of its own: these and no others.
    ///
    /// # Errors
    /// As for [`Session::set_option`].
    pub fn with_options(&self, options: &BTreeMap<String, SessionValue>) -> Result<Session> {
        let session = self.acting(self.principal.clone(), self.reach);
        *session.settings.lock() = Settings::default();
        for (name, value) in options {
            session.set_option(name, Some(value.clone()))?;
        }
        Ok(session)
    }

    /// Whose rows it reads.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Notes that this session gave its user a new password: it goes on, while tokens of earlier logins end.
    pub(crate) fn set_own_credential(&self, credential_version: u64) {
        self.own_credential_version.store(credential_version, Ordering::Release);
    }

    /// Whether this session itself made this version of its user's credential.
    pub fn made_credential(&self, credential_version: u64) -> bool {
        self.own_credential_version.load(Ordering::Acquire) == credential_version
    }

    /// Its id: unguessable text.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who it belongs to, as of its start; each statement reads the user anew.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Sets an option: `catalog`, `schema`, `time_zone`, `statement_timeout`, `ingest.table_type`, `ingest.primary_key`,
    /// `ingest.on_conflict`; `None` erases it.
    ///
    /// # Errors
    /// NOT_FOUND for an unknown name (with the nearest), INVALID_ARGUMENT for a bad value.
    pub fn set_option(&self, name: &str, value: Option<SessionValue>) -> Result<()> {
        let mut settings = self.settings.lock();
        match name {
            "catalog" => match value.map(|value| text(name, value)).transpose()? {
                Some(catalog) if catalog != CATALOG => {
                    return Err(invalid(
                        name,
                        &format!("the only catalog is {CATALOG}, not '{catalog}'"),
                    ));
                }
                Some(_) | None => {}
            },
            "schema" => {
                settings.schema = match value.map(|value| text(name, value)).transpose()? {
                    Some(schema) if schema.is_empty() => return Err(invalid(name, "it may not be empty")),
                    schema => schema,
                };
            }
            "time_zone" => {
                settings.time_zone = match value.map(|value| text(name, value)).transpose()? {
                    Some(zone) if Tz::from_str(&zone).is_err() => {
                        let problem = format!(
                            "'{zone}' is no time zone: give a name such as Europe/Paris, or an offset such as +02:00"
                        );
                        return Err(invalid(name, &problem));
                    }
                    zone => zone,
                };
            }
            "statement_timeout" => {
                settings.statement_timeout_ms = value.map(|value| duration_ms(name, value)).transpose()?
            }
            "ingest.table_type" => {
                settings.ingest_table_type = match value.map(|value| text(name, value)).transpose()? {
                    None => None,
                    Some(kind) => Some(
                        [TableKind::Shared, TableKind::User, TableKind::Stream]
                            .into_iter()
                            .find(|known| known.as_str().eq_ignore_ascii_case(&kind))
                            .ok_or_else(|| invalid(name, &format!("'{kind}' is none of SHARED, USER, STREAM")))?,
                    ),
                };
            }
            "ingest.primary_key" => settings.ingest_primary_key = value.map(|value| names(name, value)).transpose()?,
            "ingest.on_conflict" => {
                settings.ingest_on_conflict = match value.map(|value| text(name, value)).transpose()?.as_deref() {
                    None => None,
                    Some("error") => Some(OnConflict::Error),
                    Some("replace") => Some(OnConflict::Replace),
                    Some("ignore") => Some(OnConflict::Ignore),
                    Some(other) => return Err(invalid(name, &format!("'{other}' is none of error, replace, ignore"))),
                };
            }
            with if with.starts_with(INGEST_WITH) && with.len() > INGEST_WITH.len() => {
                let option = with[INGEST_WITH.len()..].to_ascii_uppercase();
                match value {
                    None => drop(settings.ingest_with.remove(&option)),
                    Some(SessionValue::Int64(number)) => drop(settings.ingest_with.insert(option, number.to_string())),
                    Some(value) => drop(settings.ingest_with.insert(option, text(name, value)?)),
                }
            }
            unknown => {
                let hint = nearest(unknown, OPTIONS.iter().copied())
                    .map_or_else(String::new, |known| format!("; did you mean {known}?"));
                return Err(Error::new(
                    ErrorCode::NotFound,
                    format!("there is no session option '{unknown}'{hint}"),
                ));
            }
        }
        Ok(())
    }

    /// All options that have a value.
    pub fn options(&self) -> BTreeMap<String, SessionValue> {
        let settings = self.settings.lock().clone();
        let mut options = BTreeMap::new();
        let mut set = |name: &str, value: SessionValue| {
            options.insert(name.to_owned(), value);
        };
        set("catalog", SessionValue::String(CATALOG.to_owned()));
        set(
            "schema",
            SessionValue::String(settings.schema.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
        );
        if let Some(zone) = settings.time_zone {
            set("time_zone", SessionValue::String(zone));
        }
        if let Some(timeout_ms) = settings.statement_timeout_ms {
            set(
                "statement_timeout",
                SessionValue::Int64(i64::try_from(timeout_ms).unwrap_or(i64::MAX)),
            );
        }
        if let Some(kind) = settings.ingest_table_type {
            set("ingest.table_type", SessionValue::String(kind.as_str().to_owned()));
        }
        if let Some(columns) = settings.ingest_primary_key {
            set("ingest.primary_key", SessionValue::String(columns.join(",")));
        }
        for (option, value) in settings.ingest_with {
            let name = format!("{INGEST_WITH}{}", option.to_ascii_lowercase());
            set(&name, SessionValue::String(value));
        }
        if let Some(on_conflict) = settings.ingest_on_conflict {
            let name = match on_conflict {
                OnConflict::Error => "error",
                OnConflict::Replace => "replace",
                OnConflict::Ignore => "ignore",
            };
            set("ingest.on_conflict", SessionValue::String(name.to_owned()));
        }
        options
    }

    /// Where names of one part are looked up.
    pub(crate) fn namespace(&self) -> String {
        self.settings
            .lock()
            .schema
            .clone()
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }

    /// The zone of texts without one, and of local times.
    pub fn time_zone(&self) -> Arc<str> {
        self.settings
            .lock()
            .time_zone
            .as_deref()
            .map_or_else(|| UTC.into(), Arc::from)
    }

    /// The session's own statement timeout, milliseconds; 0 = none; `None`: the server's.
    pub(crate) fn statement_timeout_ms(&self) -> Option<u64> {
        self.settings.lock().statement_timeout_ms
    }

    pub(crate) fn ingest_table_type(&self) -> Option<TableKind> {
        self.settings.lock().ingest_table_type
    }

    pub(crate) fn ingest_primary_key(&self) -> Option<Vec<String>> {
        self.settings.lock().ingest_primary_key.clone()
    }

    pub(crate) fn ingest_with(&self) -> BTreeMap<String, String> {
        self.settings.lock().ingest_with.clone()
    }

    pub(crate) fn ingest_on_conflict(&self) -> Option<OnConflict> {
        self.settings.lock().ingest_on_conflict
    }

    pub(crate) fn touch(&self) {
        self.last_active_at_micros
            .fetch_max(self.clock.now_micros(), Ordering::Relaxed);
    }

    pub(crate) fn last_active_at_micros(&self) -> i64 {
        self.last_active_at_micros.load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot(&self) -> SessionSnapshot {
        SessionSnapshot {
            session_id: self.id.clone(),
            owner: self.principal.clone(),
            user_id: self.principal.user_id.clone(),
            peer: self.origin.peer.clone(),
            client: self.origin.client.clone(),
            created_at_micros: self.created_at_micros,
            last_active_at_micros: self.last_active_at_micros(),
        }
    }
}

fn invalid(name: &str, problem: &str) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("session option {name}: {problem}"))
}

fn text(name: &str, value: SessionValue) -> Result<String> {
    match value {
        SessionValue::String(text) => Ok(text),
        SessionValue::Bool(_) | SessionValue::Int64(_) | SessionValue::Double(_) | SessionValue::StringList(_) => {
            Err(invalid(name, "it takes text"))
        }
    }
}

fn names(name: &str, value: SessionValue) -> Result<Vec<String>> {
    let names: Vec<String> = match value {
        SessionValue::String(list) => list.split(',').map(|part| part.trim().to_owned()).collect(),
        SessionValue::StringList(list) => list,
        SessionValue::Bool(_) | SessionValue::Int64(_) | SessionValue::Double(_) => {
            return Err(invalid(name, "it takes column names separated by commas"));
        }
    };
    if names.iter().any(String::is_empty) {
        return Err(invalid(
            name,
            "it takes column names separated by commas, none of them empty",
        ));
    }
    Ok(names)
}

/// A number of milliseconds, or text with a unit: `1500`, `1500ms`, `30s`, `5min`, `1h`. 0 means no limit.
fn duration_ms(name: &str, value: SessionValue) -> Result<u64> {
    const HELP: &str = "it takes milliseconds, or a number with a unit: 1500ms, 30s, 5min, 1h (0 for no limit)";
    match value {
        SessionValue::Int64(number) => u64::try_from(number).map_err(|_| invalid(name, HELP)),
        SessionValue::String(text) => {
            let text = text.trim();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let number: u64 = text[..digits].parse().map_err(|_| invalid(name, HELP))?;
            let unit_ms = match text[digits..].trim() {
                "" | "ms" => 1,
                "s" => 1_000,
                "min" => 60_000,
                "h" => 3_600_000,
                _ => return Err(invalid(name, HELP)),
            };
            number.checked_mul(unit_ms).ok_or_else(|| invalid(name, HELP))
        }
        SessionValue::Bool(_) | SessionValue::Double(_) | SessionValue::StringList(_) => Err(invalid(name, HELP)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kalamdb_core::{Role, SystemClock};

    fn session() -> Session {
        let principal = Principal {
            user_id: "a".into(),
            role: Role::User,
            scope: serde_json::from_str("1").expect("a number"),
            grants: Arc::default(),
        };
        Session::new("s".into(), principal, SessionOrigin::default(), Arc::new(SystemClock))
    }

    fn check(name: &str, value: &str, expected: Result<&str, ErrorCode>) {
        let session = session();
        let outcome = session.set_option(name, Some(SessionValue::String(value.to_owned())));
        match (outcome, expected) {
            (Ok(()), Ok(shown)) => {
                let shown_now = match session.options().remove(name) {
                    Some(SessionValue::String(text)) => text,
                    Some(SessionValue::Int64(number)) => number.to_string(),
                    other => panic!("{name} shows {other:?}"),
                };
                assert_eq!(shown_now, shown, "{name}");
                session.set_option(name, None).expect("any option can be erased");
            }
            (Err(error), Err(code)) => assert_eq!(error.code, code, "{error}"),
            (outcome, expected) => panic!("{name} = {value}: {outcome:?}, not {expected:?}"),
        }
    }

    #[test]
    fn options_are_checked_when_they_are_set() {
        check("catalog", "kalam", Ok("kalam"));
        check("catalog", "other", Err(ErrorCode::InvalidArgument));
        check("schema", "chat", Ok("chat"));
        check("schema", "", Err(ErrorCode::InvalidArgument));
        check("time_zone", "Europe/Paris", Ok("Europe/Paris"));
        check("time_zone", "Mars", Err(ErrorCode::InvalidArgument));
        check("statement_timeout", "30s", Ok("30000"));
        check("statement_timeout", "soon", Err(ErrorCode::InvalidArgument));
        check("ingest.table_type", "user", Ok("USER"));
        check("ingest.table_type", "system", Err(ErrorCode::InvalidArgument));
        check("ingest.primary_key", "a, b", Ok("a,b"));
        check("ingest.primary_key", "a,,b", Err(ErrorCode::InvalidArgument));
        check("ingest.on_conflict", "replace", Ok("replace"));
        check("ingest.on_conflict", "panic", Err(ErrorCode::InvalidArgument));
        check("shema", "chat", Err(ErrorCode::NotFound));
    }
}
