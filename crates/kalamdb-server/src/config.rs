//! The configuration: flags over `KALAMDB_…` variables over the file over defaults, and what the floors below are given of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kalamdb_core::{Durability, EngineOptions, MaintenanceOptions, OutsideIssuer};
use kalamdb_flight::FlightOptions;
use kalamdb_sql::{DatabaseOptions, Setting};

use crate::issuer_keys::KeySource;
use crate::machine;
use crate::settings::{Definition, OTHER_VARIABLES, SETTINGS, nearest, settings};
use crate::telemetry::LogFormat;

/// Connections of each door, unless the process may not open so many files.
const MOST_CONNECTIONS: usize = 4096;

/// Descriptors that the store and everything else but connections may need.
const OTHER_DESCRIPTORS: usize = 768;

/// Each password that is hashed takes 19 MiB.
const MOST_PASSWORDS_AT_ONCE: usize = 8;

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Created if missing.
    pub data_dir: PathBuf,
    /// Flight SQL listens here; port 0 picks a free one.
    pub flight_listen: SocketAddr,
    /// HTTP listens here; port 0 picks a free one.
    pub http_listen: SocketAddr,
    /// The server's certificate and those between it and its authority, PEM; with it both doors encrypt.
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Certificates of those who certify clients, PEM; with it a client must show a certificate.
    pub tls_client_authority: Option<PathBuf>,
    /// Whether other addresses than loopback may be listened on without encryption.
    pub allow_plaintext_on_network: bool,
    /// The location put into FlightInfo, if any.
    pub advertise: Option<String>,
    /// Whether acknowledged means fsynced.
    pub durability: Durability,
    /// What all queries together may hold.
    pub memory_limit_bytes: usize,
    /// Cache of stored blocks.
    pub block_cache_bytes: usize,
    /// Indexes of open segments.
    pub segment_cache_bytes: usize,
    /// Committed rows that are not in files yet.
    pub write_buffer_bytes: usize,
    /// Where queries spill.
    pub spill_dir: PathBuf,
    /// Zero for none.
    pub statement_timeout: Duration,
    /// One statement's text.
    pub statement_text_limit_bytes: usize,
    /// One statement's row-path writes.
    pub statement_write_limit_bytes: usize,
    /// Statements of one user at once.
    pub max_queries_per_user: usize,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Connections of each door at once.
    pub max_connections: usize,
    /// A session without a call ends after this.
    pub session_idle: Duration,
    /// How long a state of the database can be read after another took its place; zero: for ever.
    pub snapshot_life: Duration,
    /// A bearer token's life.
    pub token_life: Duration,
    /// The JWK set of an outside issuer of tokens: a file or a URL.
    pub jwt_keys: Option<KeySource>,
    /// The issuer's name, as its tokens have it.
    pub jwt_issuer: String,
    /// What its tokens for this server name as their audience.
    pub jwt_audience: String,
    /// The claim that is the user's name.
    pub jwt_user_claim: String,
    /// The claim that is the user's role; empty: users and roles are this database's own.
    pub jwt_role_claim: String,
    /// Finished queries that are remembered.
    pub query_history: usize,
    /// Threads that flush, compact and check.
    pub mover_threads: usize,
    /// Rows of one table that are not in segments yet.
    pub hot_limit_bytes: usize,
    /// How long a writer waits for room below that.
    pub hot_limit_wait: Duration,
    /// Jobs that ended and are remembered.
    pub job_history: usize,
    /// Rows per batch of a result.
    pub batch_rows: usize,
    /// Aim of one Flight message's size.
    pub message_bytes: usize,
    /// Largest Flight message or HTTP body of a client.
    pub max_request_bytes: usize,
    /// How long a stopping server waits for what is running.
    pub drain: Duration,
    /// Threads of the runtime that serves; the binary makes it, [`crate::serve`] uses its caller's.
    pub serve_threads: usize,
    /// Threads of the runtime that runs queries.
    pub query_threads: usize,
    /// Filter of the log.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// `root`'s password at the first start; without it a random one is written to the data directory.
    pub root_password: Option<Secret>,
    sources: BTreeMap<&'static str, Source>,
}

/// Text that is shown to nobody.
#[derive(Clone)]
pub struct Secret(String);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    File,
    Environment,
    Flag,
}

/// What a configuration is made of.
#[derive(Default)]
pub(crate) struct Sources {
    /// Text of each flag given, by setting.
    pub(crate) flags: BTreeMap<&'static str, String>,
    /// The process's variables.
    pub(crate) environment: Vec<(String, String)>,
    /// The file's name for messages, and its text.
    pub(crate) file: Option<(String, String)>,
}

/// Connections of each of the two doors.
fn default_connections(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(64, MOST_CONNECTIONS)
}

impl Config {
    /// The defaults over this directory, on free ports of loopback: what a test starts from.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config {
            flight_listen: any_port,
            http_listen: any_port,
            ..Config::with_default_addresses(data_dir)
        }
    }

    /// The defaults over this directory, on the documented ports.
    pub(crate) fn with_default_addresses(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let memory_bytes = machine::memory_bytes();
        let cores = machine::cores();
        Config {
            spill_dir: data_dir.join("spill"),
            data_dir,
            flight_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls_certificate: None,
            tls_key: None,
            tls_client_authority: None,
            allow_plaintext_on_network: false,
            advertise: None,
            durability: Durability::Synced,
            memory_limit_bytes: (memory_bytes / 2).max(16 << 20),
            block_cache_bytes: (memory_bytes / 8).clamp(64 << 20, 4 << 30),
            segment_cache_bytes: (memory_bytes / 16).clamp(64 << 20, 1 << 30),
            write_buffer_bytes: 128 << 20,
            statement_timeout: Duration::from_secs(300),
            statement_text_limit_bytes: 16 << 20,
            statement_write_limit_bytes: 256 << 20,
            max_queries_per_user: 16,
            max_sessions: 1000,
            max_connections: machine::descriptors().map_or(MOST_CONNECTIONS, default_connections),
            session_idle: Duration::from_secs(30 * 60),
            snapshot_life: Duration::from_secs(24 * 60 * 60),
            token_life: Duration::from_secs(12 * 60 * 60),
            jwt_keys: None,
            jwt_issuer: String::new(),
            jwt_audience: String::new(),
            jwt_user_claim: "sub".to_owned(),
            jwt_role_claim: String::new(),
            query_history: 1000,
            mover_threads: 1,
            hot_limit_bytes: 256 << 20,
            hot_limit_wait: Duration::from_secs(30),
            job_history: 1000,
            batch_rows: 8192,
            message_bytes: 2 << 20,
            max_request_bytes: 64 << 20,
            drain: Duration::from_secs(10),
            serve_threads: cores,
            query_threads: 4 * cores,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            root_password: None,
            sources: BTreeMap::new(),
        }
    }

    /// Puts flags over variables over the file over defaults.
    ///
    /// # Errors
    /// A message for people: an unknown name with the nearest one, a value out of its bound, values that contradict.
    pub(crate) fn resolve(sources: &Sources) -> Result<Self, String> {
        check_environment(&sources.environment)?;
        let file = match &sources.file {
            Some((name, text)) => read_file(name, text)?,
            None => BTreeMap::new(),
        };
        let variable = |name: &str| {
            // An empty variable is the common way to have none.
            let found = sources
                .environment
                .iter()
                .find(|(other, value)| other == name && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let mut given: Vec<(&'static Definition, Source, &str, String)> = Vec::new();
        for (setting, names) in settings() {
            if let Some(text) = sources.flags.get(setting.name) {
                given.push((setting, Source::Flag, text, format!("--{}", names.flag)));
            } else if let Some(text) = variable(&names.variable) {
                given.push((setting, Source::Environment, text, names.variable.clone()));
            } else if let Some(text) = file.get(setting.name) {
                let name = sources.file.as_ref().map_or("", |(name, _)| name);
                given.push((setting, Source::File, text, format!("key {} in {name}", setting.name)));
            }
        }
        let data_dir = given.iter().find(|(setting, ..)| setting.name == "data_dir");
        let mut config = Config::with_default_addresses(data_dir.map_or("./data", |(_, _, text, _)| text));
        for (setting, source, text, place) in given {
            setting
                .set(&mut config, text)
                .map_err(|message| format!("{place}: {message}"))?;
            config.sources.insert(setting.name, source);
        }
        config.root_password = variable("KALAMDB_ROOT_PASSWORD").map(Secret::from);
        config.check()?;
        Ok(config)
    }

    /// What one setting's own bound cannot say.
    ///
    /// # Errors
    /// A message for people.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, address) in [("flight_listen", self.flight_listen), ("http_listen", self.http_listen)] {
            let encrypted = self.tls_certificate.is_some();
            if !address.ip().is_loopback() && !encrypted && !self.allow_plaintext_on_network {
                return Err(format!(
                    "{name} is {address}, which is not a loopback address: passwords and rows would cross the network \
                     unencrypted. Give --tls-certificate and --tls-key, listen on 127.0.0.1, or add \
                     --allow-plaintext-on-network (KALAMDB_ALLOW_PLAINTEXT_ON_NETWORK=true) if the network is trusted"
                ));
            }
        }
        match (&self.tls_certificate, &self.tls_key, &self.tls_client_authority) {
            (Some(_), None, _) => return Err("tls_certificate is given without tls_key; TLS needs both".to_owned()),
            (None, Some(_), _) => return Err("tls_key is given without tls_certificate; TLS needs both".to_owned()),
            (None, None, Some(_)) => {
                return Err(
                    "tls_client_authority asks clients for certificates, which needs TLS: give tls_certificate and \
                            tls_key too"
                        .to_owned(),
                );
            }
            (Some(_), Some(_), _) | (None, None, None) => {}
        }
        if self.jwt_keys.is_some() {
            for (name, value) in [
                ("jwt_issuer", &self.jwt_issuer),
                ("jwt_audience", &self.jwt_audience),
                ("jwt_user_claim", &self.jwt_user_claim),
            ] {
                if value.is_empty() {
                    return Err(format!(
                        "jwt_keys is given without {name}: whose tokens are to be taken, and for what?"
                    ));
                }
            }
        } else if let Some((name, _)) = [("jwt_issuer", &self.jwt_issuer), ("jwt_audience", &self.jwt_audience)]
            .into_iter()
            .find(|(_, value)| !value.is_empty())
        {
            return Err(format!(
                "{name} is given without jwt_keys, so no token could be checked"
            ));
        }
        if self.flight_listen == self.http_listen && self.flight_listen.port() != 0 {
            return Err(format!(
                "flight_listen and http_listen are both {}: give each its own port",
                self.http_listen
            ));
        }
        if self.statement_text_limit_bytes > self.max_request_bytes {
            return Err(format!(
                "statement_text_limit ({} bytes) is above max_request ({} bytes), so no such statement could arrive: raise \
                 max_request too",
                self.statement_text_limit_bytes, self.max_request_bytes
            ));
        }
        Ok(())
    }

    /// What the engine is given.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            data_dir: self.data_dir.clone(),
            durability: self.durability,
            root_password: self.root_password.as_ref().map(|secret| secret.0.clone()),
            block_cache_bytes: self.block_cache_bytes,
            segment_cache_bytes: self.segment_cache_bytes,
            write_buffer_bytes: self.write_buffer_bytes,
            statement_write_limit_bytes: self.statement_write_limit_bytes,
            // A positive time stays positive: zero means none.
            snapshot_life_ms: whole_millis(self.snapshot_life).max(u64::from(!self.snapshot_life.is_zero())),
            token_life_seconds: whole_seconds(self.token_life),
            outside_issuer: self.outside_issuer(),
            maintenance: MaintenanceOptions {
                mover_threads: self.mover_threads,
                hot_limit_bytes: self.hot_limit_bytes as u64,
                hot_limit_wait_ms: whole_millis(self.hot_limit_wait),
                job_history: self.job_history,
            },
        }
    }

    /// Whose tokens are taken; `check` sees to it that all of it is there.
    fn outside_issuer(&self) -> Option<OutsideIssuer> {
        self.jwt_keys.as_ref().map(|_| OutsideIssuer {
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            user_claim: self.jwt_user_claim.clone(),
            role_claim: Some(self.jwt_role_claim.clone()).filter(|name| !name.is_empty()),
        })
    }

    /// What the database is given.
    pub(crate) fn database_options(&self) -> DatabaseOptions {
        DatabaseOptions {
            memory_limit_bytes: self.memory_limit_bytes,
            spill_dir: self.spill_dir.clone(),
            statement_timeout_ms: whole_millis(self.statement_timeout),
            max_queries_per_user: self.max_queries_per_user,
            max_sessions: self.max_sessions,
            passwords_at_once: machine::cores().min(MOST_PASSWORDS_AT_ONCE),
            session_idle_seconds: whole_seconds(self.session_idle),
            statement_text_limit_bytes: self.statement_text_limit_bytes,
            batch_rows: self.batch_rows,
            query_history: self.query_history,
            settings: self.setting_rows(),
        }
    }

    /// What the Flight door is given.
    pub(crate) fn flight_options(&self) -> FlightOptions {
        FlightOptions {
            message_bytes: self.message_bytes,
            max_request_bytes: self.max_request_bytes,
            advertise: self.advertise.clone(),
            max_connections: self.max_connections,
        }
    }

    /// The rows of `system.settings`. Secrets are no settings.
    fn setting_rows(&self) -> Vec<Setting> {
        let defaults = Config::with_default_addresses(&self.data_dir);
        let row = |setting: &Definition| Setting {
            name: setting.name.to_owned(),
            value: setting.show(self),
            unit: setting.unit().to_owned(),
            default: if setting.name == "data_dir" {
                "./data".to_owned()
            } else {
                setting.show(&defaults)
            },
            source: match self.sources.get(setting.name) {
                None => "default",
                Some(Source::File) => "file",
                Some(Source::Environment) => "environment",
                Some(Source::Flag) => "flag",
            }
            .to_owned(),
            description: setting.about.to_owned(),
        };
        SETTINGS.iter().map(row).collect()
    }
}

/// Refuses a `KALAMDB_…` variable that nothing reads: a mistyped one would be silently without effect.
///
/// # Errors
/// Names the nearest one.
pub(crate) fn check_environment(environment: &[(String, String)]) -> Result<(), String> {
    let known = || {
        settings()
            .map(|(_, names)| names.variable.as_str())
            .chain(OTHER_VARIABLES.iter().map(|variable| variable.name))
    };
    for (name, _) in environment {
        if name.starts_with("KALAMDB_") && !known().any(|other| other == name) {
            let nearest = nearest(name, known())
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            return Err(format!("unknown variable {name}{nearest}"));
        }
    }
    Ok(())
}

/// What is wrong with a file, and where. The line is not repeated: it may have a password in it.
fn without_text(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

/// The keys of a configuration file, as text.
fn read_file(name: &str, text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| format!("{name}: {}", without_text(&error, text)))?;
    let mut keys = BTreeMap::new();
    for (key, value) in table {
        if !SETTINGS.iter().any(|setting| setting.name == key) {
            let nearest = nearest(&key, SETTINGS.iter().map(|setting| setting.name));
            let nearest = nearest
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            return Err(format!("{name}: unknown key {key}{nearest}"));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                return Err(format!("{name}: key {key} must be a string, a number or a boolean"));
            }
        };
        keys.insert(key, text);
    }
    Ok(keys)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Rounded up, so that a positive time stays positive.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

/// The names of what is given: among the values are secrets, and among the process's variables those of others.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Sources")
            .field("flags", &self.flags.keys())
            .field("environment", &variables)
            .field("file", &self.file.as_ref().map(|(name, _)| name))
            .finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_store() {
        for (descriptors, connections) in [(20_000, 4_096), (1_024, 128), (256, 64), (usize::MAX, 4_096)] {
            assert_eq!(default_connections(descriptors), connections, "{descriptors}");
        }
    }

    fn sources(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> Sources {
        let pairs = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Sources {
            flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            environment: pairs.collect(),
            file: Some(("kalamdb.toml".to_owned(), file.to_owned())),
        }
    }

    /// What `system.settings` says of one setting: value and source.
    fn setting(config: &Config, name: &str) -> (String, String) {
        let row = config
            .setting_rows()
            .into_iter()
            .find(|row| row.name == name)
            .expect("a known setting");
        (row.value, row.source)
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let check =
            |flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str, value: &str, source: &str| {
                let config = Config::resolve(&sources(flags, environment, file)).expect("resolves");
                assert_eq!(setting(&config, "max_sessions"), (value.to_owned(), source.to_owned()));
            };
        let (flag, variable, key) = (
            [("max_sessions", "3")],
            [("KALAMDB_MAX_SESSIONS", "2")],
            "max_sessions = 1",
        );
        check(&[], &[], "", "1000", "default");
        check(&[], &[], key, "1", "file");
        check(&[], &variable, key, "2", "environment");
        check(&flag, &variable, key, "3", "flag");
        check(&flag, &[], "", "3", "flag");
        check(&[], &[("KALAMDB_MAX_SESSIONS", "")], key, "1", "file");
    }

    #[test]
    fn values_are_shown_in_their_unit() {
        let file = "statement_timeout = '5min'\nmemory_limit = '1GiB'\nsession_idle = 90\ndrain = 0.25\n";
        let config = Config::resolve(&sources(&[], &[], file)).expect("resolves");
        assert_eq!(setting(&config, "statement_timeout").0, "300");
        assert_eq!(setting(&config, "memory_limit").0, "1073741824");
        assert_eq!(setting(&config, "drain").0, "0.25");
        assert_eq!(config.database_options().session_idle_seconds, 90);
        assert_eq!(config.drain, Duration::from_millis(250));
    }

    #[test]
    fn the_spill_directory_follows_the_data_directory() {
        let config = Config::resolve(&sources(&[("data_dir", "/x")], &[], "")).expect("resolves");
        assert_eq!(config.spill_dir, PathBuf::from("/x/spill"));
        let config = Config::resolve(&sources(&[("data_dir", "/x")], &[], "spill_dir = '/y'")).expect("resolves");
        assert_eq!(config.spill_dir, PathBuf::from("/y"));
    }

    #[test]
    fn secrets_show_nowhere() {
        let environment = [("KALAMDB_ROOT_PASSWORD", "correct horse")];
        let flags = [
            ("jwt_keys", "https://127.0.0.1:1/keys?token=horse-2"),
            ("jwt_issuer", "i"),
            ("jwt_audience", "a"),
        ];
        let sources = sources(&flags, &environment, "# horse-3");
        let config = Config::resolve(&sources).expect("resolves");
        assert_eq!(config.engine_options().root_password.as_deref(), Some("correct horse"));
        assert_eq!(setting(&config, "jwt_keys").0, "https://127.0.0.1:1/keys");
        let shown = format!("{config:?} {sources:?} {:?}", config.setting_rows());
        assert!(!shown.contains("horse"), "{shown}");
        assert!(shown.contains("KALAMDB_ROOT_PASSWORD"), "{shown}");
    }

    #[test]
    fn mistakes_are_errors_that_help() {
        let check = |flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str, expected: &[&str]| {
            let message = Config::resolve(&sources(flags, environment, file)).expect_err("is refused");
            for part in expected {
                assert!(message.contains(part), "'{message}' lacks '{part}'");
            }
        };
        check(
            &[],
            &[("KALAMDB_MAX_SESSION", "1")],
            "",
            &["KALAMDB_MAX_SESSION", "did you mean KALAMDB_MAX_SESSIONS?"],
        );
        check(
            &[],
            &[("KALAMDB_PASWORD", "x")],
            "",
            &["did you mean KALAMDB_PASSWORD?"],
        );
        check(
            &[],
            &[],
            "memory = '1GiB'",
            &["kalamdb.toml: unknown key memory", "did you mean memory_limit?"],
        );
        check(&[], &[], "root_password = 'x'", &["unknown key root_password"]);
        check(&[], &[], "drain = [1]", &["key drain must be"]);
        check(&[], &[], "drain = ", &["kalamdb.toml", "line 1"]);
        let file = "max_sessions = 5\njwt_keys = \"https://issuer.example.org/?token=secret\n";
        check(&[], &[], file, &["kalamdb.toml: line 2, column "]);
        let message = Config::resolve(&sources(&[], &[], file)).expect_err("is refused");
        assert!(!message.contains("secret"), "{message}");
        check(&[("max_sessions", "0")], &[], "", &["--max-sessions", "1 to 1000000"]);
        check(&[("max_sessions", "-4")], &[], "", &["1 to 1000000"]);
        check(
            &[],
            &[("KALAMDB_MEMORY_LIMIT", "1MiB")],
            "",
            &["KALAMDB_MEMORY_LIMIT", "16 MiB to 16 TiB"],
        );
        check(&[], &[], "statement_timeout = '9d'", &["0 s to 604800 s"]);
        check(&[("durability", "maybe")], &[], "", &["synced or relaxed"]);
        check(&[("log", "info,=,=")], &[], "", &["--log"]);
        check(&[("flight_listen", "localhost")], &[], "", &["127.0.0.1:50051"]);
        check(&[("advertise", "http://x:1")], &[], "", &["grpc://host:port"]);
        check(
            &[("http_listen", "0.0.0.0:8080")],
            &[],
            "",
            &["http_listen", "not a loopback", "--allow-plaintext-on-network"],
        );
        check(
            &[("http_listen", "127.0.0.1:50051")],
            &[],
            "",
            &["give each its own port"],
        );
        check(&[], &[], "statement_text_limit = '128MiB'", &["raise max_request"]);
    }

    #[test]
    fn the_network_opens_in_so_many_words() {
        let flags = [
            ("flight_listen", "0.0.0.0:0"),
            ("http_listen", "[::]:0"),
            ("allow_plaintext_on_network", "true"),
        ];
        Config::resolve(&sources(&flags, &[], "")).expect("resolves");
    }
}
