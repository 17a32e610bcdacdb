//! Table options: their names, bounds, defaults and text form.

use std::collections::BTreeMap;

use crate::access::AccessLevel;
use crate::error::{Error, ErrorCode, Result};
use crate::table_kind::TableKind;

/// When hot rows are moved to a segment: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FlushPolicy {
    /// After this many rows.
    pub rows: Option<u64>,
    /// After this many seconds.
    pub interval_seconds: Option<u64>,
}

/// The options of one table, checked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableOptions {
    /// Who may read and write it.
    pub access_level: AccessLevel,
    /// SHARED and USER tables only.
    pub flush_policy: Option<FlushPolicy>,
    /// STREAM tables only, and required there.
    pub ttl_seconds: Option<u64>,
    /// STREAM tables only: at most this many rows a user, the oldest go first.
    pub max_rows: Option<u64>,
    /// The storage of its segments.
    pub storage: String,
    /// The codec of its segments.
    pub compression: String,
}

const ACCESS_LEVEL: &str = "ACCESS_LEVEL";
const FLUSH_POLICY: &str = "FLUSH_POLICY";
const TTL_SECONDS: &str = "TTL_SECONDS";
const MAX_ROWS: &str = "MAX_ROWS";
const STORAGE: &str = "STORAGE";
const COMPRESSION: &str = "COMPRESSION";

/// Every option but `TYPE`, which says the kind and is not among them.
const KNOWN: &[&str] = &[ACCESS_LEVEL, COMPRESSION, FLUSH_POLICY, MAX_ROWS, STORAGE, TTL_SECONDS];

/// The storage that the first start makes.
pub(crate) const DEFAULT_STORAGE: &str = "local";
const DEFAULT_FLUSH_POLICY: FlushPolicy = FlushPolicy {
    rows: Some(500_000),
    interval_seconds: Some(300),
};
const CODECS: &[&str] = &["lz4", "zstd", "snappy", "none"];

/// Rows before a flush: past a billion the policy would mean never.
const FLUSH_ROWS: Bounds = Bounds {
    least: 1,
    most: 1_000_000_000,
};
/// Seconds between flushes: at most a week.
const FLUSH_INTERVAL_SECONDS: Bounds = Bounds {
    least: 1,
    most: 7 * 86_400,
};
/// A STREAM row's life: at most ten years, so that no expiry overflows.
const TTL_BOUNDS_SECONDS: Bounds = Bounds {
    least: 1,
    most: 10 * 365 * 86_400,
};
/// Each insert into a table with MAX_ROWS looks at all live rows of its user, so this also bounds an insert's cost.
const MAX_ROWS_BOUNDS: Bounds = Bounds {
    least: 1,
    most: 1_000_000,
};

/// What a number may be, ends included.
struct Bounds {
    least: u64,
    most: u64,
}

impl TableOptions {
    /// Checks WITH options (names in upper case, values as text) for a table of this kind.
    ///
    /// # Errors
    /// INVALID_ARGUMENT names an unknown option (with the nearest known one), a value out of bounds, an option that this kind
    /// of table does not have, or a missing required one.
    pub fn parse(kind: TableKind, given: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = TableOptions {
            access_level: AccessLevel::Private,
            flush_policy: kind.flushes().then_some(DEFAULT_FLUSH_POLICY),
            ttl_seconds: None,
            max_rows: None,
            storage: DEFAULT_STORAGE.to_owned(),
            compression: CODECS[0].to_owned(),
        };
        for (name, value) in given {
            let value = value.trim();
            match name.as_str() {
                ACCESS_LEVEL => {
                    require_kind(name, kind, &[TableKind::Shared])?;
                    options.access_level = access_level(value)?;
                }
                FLUSH_POLICY => {
                    require_kind(name, kind, &[TableKind::Shared, TableKind::User])?;
                    let policy = flush_policy(value)?;
                    if !mistake!(FlushPoliciesAreNotKept) {
                        options.flush_policy = Some(policy);
                    }
                }
                TTL_SECONDS => {
                    require_kind(name, kind, &[TableKind::Stream])?;
                    options.ttl_seconds = Some(number(name, value, &TTL_BOUNDS_SECONDS)?);
                }
                MAX_ROWS => {
                    require_kind(name, kind, &[TableKind::Stream])?;
                    options.max_rows = Some(number(name, value, &MAX_ROWS_BOUNDS)?);
                }
                STORAGE => {
                    require_kind(name, kind, &[TableKind::Shared, TableKind::User])?;
                    options.storage = value.to_owned();
                }
                COMPRESSION => {
                    require_kind(name, kind, &[TableKind::Shared, TableKind::User])?;
                    options.compression = compression(value)?;
                }
                _ => return Err(unknown_option(name)),
            }
        }
        options.check_required(kind)?;
        Ok(options)
    }

    /// The options as `NAME = 'value'` pairs, as `system.tables.options` shows them (a JSON object).
    /// The access level has a column of its own.
    pub fn to_json(&self) -> String {
        let mut shown = BTreeMap::new();
        if let Some(policy) = self.flush_policy {
            shown.insert(FLUSH_POLICY, policy.to_string());
            shown.insert(STORAGE, self.storage.clone());
            shown.insert(COMPRESSION, self.compression.clone());
        }
        if let Some(ttl_seconds) = self.ttl_seconds {
            shown.insert(TTL_SECONDS, ttl_seconds.to_string());
        }
        if let Some(max_rows) = self.max_rows {
            shown.insert(MAX_ROWS, max_rows.to_string());
        }
        serde_json::to_string(&shown).expect("a map of strings always serialises")
    }

    /// Refuses options that lack what the kind requires.
    pub(crate) fn check_required(&self, kind: TableKind) -> Result<()> {
        match kind {
            TableKind::Stream if self.ttl_seconds.is_none() => Err(invalid(
                "a STREAM table needs TTL_SECONDS, the life of its rows, such as WITH (TTL_SECONDS = 60)",
            )),
            TableKind::Stream | TableKind::System | TableKind::Shared | TableKind::User => Ok(()),
        }
    }
}

impl std::fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.rows.map(|rows| format!("rows:{rows}"));
        let interval = self.interval_seconds.map(|seconds| format!("interval:{seconds}s"));
        let parts: Vec<String> = rows.into_iter().chain(interval).collect();
        f.write_str(&parts.join(","))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

fn unknown_option(name: &str) -> Error {
    let upper = name.to_ascii_uppercase();
    let distance = |known: &&&str| strsim::damerau_levenshtein(&upper, known);
    let is_near = |known: &&&str| known.starts_with(&upper) || distance(known) <= upper.len().max(known.len()) / 3;
    let nearest = KNOWN.iter().filter(is_near).min_by_key(distance);
    let hint = nearest.map_or_else(|| ".".to_owned(), |nearest| format!("; did you mean {nearest}?"));
    invalid(format!(
        "unknown table option {name}{hint} The options are TYPE, {}",
        KNOWN.join(", ")
    ))
}

fn require_kind(name: &str, kind: TableKind, kinds: &[TableKind]) -> Result<()> {
    if kinds.contains(&kind) {
        return Ok(());
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Err(invalid(format!(
        "{name} belongs to {} tables, this is a {} table",
        names.join(" and "),
        kind.as_str()
    )))
}

fn number(name: &str, value: &str, bounds: &Bounds) -> Result<u64> {
    match value.parse::<u64>() {
        Ok(number) if (bounds.least..=bounds.most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(invalid(format!(
            "{name} must be a whole number from {} to {}, not '{value}'",
            bounds.least, bounds.most
        ))),
    }
}

fn access_level(value: &str) -> Result<AccessLevel> {
    [AccessLevel::Public, AccessLevel::Private, AccessLevel::Restricted]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(value))
        .ok_or_else(|| {
            invalid(format!(
                "{ACCESS_LEVEL} must be public, private or restricted, not '{value}'"
            ))
        })
}

fn compression(value: &str) -> Result<String> {
    CODECS
        .iter()
        .find(|codec| codec.eq_ignore_ascii_case(value))
        .map(|&codec| codec.to_owned())
        .ok_or_else(|| {
            invalid(format!(
                "{COMPRESSION} must be one of {}, not '{value}'",
                CODECS.join(", ")
            ))
        })
}

/// `rows:100000,interval:300s`, either or both.
fn flush_policy(value: &str) -> Result<FlushPolicy> {
    let wrong = || {
        invalid(format!(
            "{FLUSH_POLICY} must look like 'rows:100000,interval:300s' (either or both), not '{value}'"
        ))
    };
    let mut policy = FlushPolicy {
        rows: None,
        interval_seconds: None,
    };
    for part in value.split(',') {
        let (name, amount) = part.split_once(':').ok_or_else(wrong)?;
        let (name, amount) = (name.trim().to_ascii_lowercase(), amount.trim());
        match name.as_str() {
            "rows" if policy.rows.is_none() => {
                policy.rows = Some(number("rows in FLUSH_POLICY", amount, &FLUSH_ROWS)?);
            }
            "interval" if policy.interval_seconds.is_none() => {
                policy.interval_seconds = Some(interval_seconds(amount)?);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(policy)
}

/// `300s`, `5m`, `1h`, `2d`; seconds without a unit.
fn interval_seconds(amount: &str) -> Result<u64> {
    let (digits, unit_seconds) = match amount.char_indices().last() {
        Some((at, 's')) => (&amount[..at], 1),
        Some((at, 'm')) => (&amount[..at], 60),
        Some((at, 'h')) => (&amount[..at], 3_600),
        Some((at, 'd')) => (&amount[..at], 86_400),
        Some(_) | None => (amount, 1),
    };
    let seconds = digits
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit_seconds));
    match seconds {
        Some(seconds) if (FLUSH_INTERVAL_SECONDS.least..=FLUSH_INTERVAL_SECONDS.most).contains(&seconds) => Ok(seconds),
        Some(_) | None => Err(invalid(format!(
            "interval in {FLUSH_POLICY} must be from {}s to {}s (units s, m, h, d), not '{amount}'",
            FLUSH_INTERVAL_SECONDS.least, FLUSH_INTERVAL_SECONDS.most
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind, options and what is expected of them.
    type Case = (TableKind, &'static [(&'static str, &'static str)], &'static str);

    fn parse(kind: TableKind, given: &[(&str, &str)]) -> Result<TableOptions> {
        let given = given
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        TableOptions::parse(kind, &given)
    }

    #[test]
    fn options_are_kept_as_given() {
        let cases: &[Case] = &[
            (
                TableKind::Shared,
                &[],
                r#"{"COMPRESSION":"lz4","FLUSH_POLICY":"rows:500000,interval:300s","STORAGE":"local"}"#,
            ),
            (
                TableKind::User,
                &[
                    ("FLUSH_POLICY", "interval:5m"),
                    ("COMPRESSION", "ZSTD"),
                    ("STORAGE", "s"),
                ],
                r#"{"COMPRESSION":"zstd","FLUSH_POLICY":"interval:300s","STORAGE":"s"}"#,
            ),
            (
                TableKind::Shared,
                &[("FLUSH_POLICY", " interval: 1d , rows:10 ")],
                r#"{"COMPRESSION":"lz4","FLUSH_POLICY":"rows:10,interval:86400s","STORAGE":"local"}"#,
            ),
            (
                TableKind::Stream,
                &[("TTL_SECONDS", "60"), ("MAX_ROWS", "5")],
                r#"{"MAX_ROWS":"5","TTL_SECONDS":"60"}"#,
            ),
        ];
        for (kind, given, expected) in cases {
            assert_eq!(parse(*kind, given).expect("valid").to_json(), *expected);
        }
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        let cases: &[Case] = &[
            (
                TableKind::Shared,
                &[("FLUSH_POLICI", "rows:1")],
                "did you mean FLUSH_POLICY",
            ),
            (TableKind::Shared, &[("FLUSH_POLICY", "rows:0")], "1 to 1000000000"),
            (TableKind::Shared, &[("FLUSH_POLICY", "")], "must look like"),
            (
                TableKind::Shared,
                &[("FLUSH_POLICY", "rows:1,rows:2")],
                "must look like",
            ),
            (TableKind::Shared, &[("FLUSH_POLICY", "interval:8d")], "interval"),
            (TableKind::Shared, &[("FLUSH_POLICY", "interval:é")], "interval"),
            (TableKind::Shared, &[("TTL_SECONDS", "1")], "STREAM"),
            (TableKind::User, &[("ACCESS_LEVEL", "public")], "SHARED"),
            (
                TableKind::Shared,
                &[("ACCESS_LEVEL", "open")],
                "public, private or restricted",
            ),
            (TableKind::Shared, &[("COMPRESSION", "gzip")], "lz4"),
            (TableKind::Stream, &[], "TTL_SECONDS"),
            (TableKind::Stream, &[("TTL_SECONDS", "0")], "from 1 to"),
            (TableKind::Stream, &[("TTL_SECONDS", "1.5")], "from 1 to"),
            (
                TableKind::Stream,
                &[("TTL_SECONDS", "1"), ("STORAGE", "local")],
                "SHARED and USER",
            ),
            (
                TableKind::Stream,
                &[("TTL_SECONDS", "1"), ("MAX_ROWS", "0")],
                "from 1 to",
            ),
        ];
        for (kind, given, expected) in cases {
            let error = parse(*kind, given).expect_err("refused");
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert!(error.message.contains(expected), "{given:?}: {error}");
        }
    }
}
