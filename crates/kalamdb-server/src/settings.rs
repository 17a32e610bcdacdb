//! The table of settings: name, unit, default, bound and meaning of each, and how its text is read and shown.
//! Flags, variables, file keys, `system.settings`, `--help` and `docs/configuration.md` are all made from it.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use kalamdb_core::Durability;

use crate::config::Config;
use crate::issuer_keys::KeySource;
use crate::telemetry::{LogFormat, check_filter};

/// One setting.
pub(crate) struct Definition {
    /// As in the configuration file; the flag and the variable follow from it.
    pub(crate) name: &'static str,
    /// What it does, one sentence or two.
    pub(crate) about: &'static str,
    /// In words, where the default depends on the machine or on another setting.
    pub(crate) default_in_words: Option<&'static str>,
    /// Where its value is, and what values there are.
    pub(crate) field: Field,
}

/// Where a setting's value is in [`Config`], and what values it takes.
pub(crate) enum Field {
    Path(fn(&mut Config) -> &mut PathBuf),
    /// A path, or none.
    File(fn(&mut Config) -> &mut Option<PathBuf>),
    Address(fn(&mut Config) -> &mut SocketAddr),
    Switch(fn(&mut Config) -> &mut bool),
    /// Bytes.
    Size(fn(&mut Config) -> &mut usize, RangeInclusive<usize>),
    Count(fn(&mut Config) -> &mut usize, RangeInclusive<usize>),
    /// Seconds, with fractions.
    Time(fn(&mut Config) -> &mut Duration, RangeInclusive<u64>),
    Durability(fn(&mut Config) -> &mut Durability),
    LogFormat(fn(&mut Config) -> &mut LogFormat),
    LogFilter(fn(&mut Config) -> &mut String),
    Text(fn(&mut Config) -> &mut String),
    /// A file or URL with an issuer's keys.
    Keys(fn(&mut Config) -> &mut Option<KeySource>),
    /// A URI of this server for its clients.
    Location(fn(&mut Config) -> &mut Option<String>),
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const TIB: usize = 1 << 40;
const DAY_S: u64 = 24 * 60 * 60;

/// Every setting, in the order of `--help`.
pub(crate) const SETTINGS: &[Definition] = &[
    Definition {
        name: "data_dir",
        about: "Directory of the database; created if missing.",
        default_in_words: None,
        field: Field::Path(|config| &mut config.data_dir),
    },
    Definition {
        name: "flight_listen",
        about: "Address on which Flight SQL (gRPC) listens; port 0 picks a free one.",
        default_in_words: None,
        field: Field::Address(|config| &mut config.flight_listen),
    },
    Definition {
        name: "http_listen",
        about: "Address on which HTTP listens; port 0 picks a free one.",
        default_in_words: None,
        field: Field::Address(|config| &mut config.http_listen),
    },
    Definition {
        name: "tls_certificate",
        about: "PEM file with the server's certificate and those up to its authority; with it and tls_key, Flight SQL and HTTP \
                speak TLS only. Renewed files are taken up while the server runs.",
        default_in_words: None,
        field: Field::File(|config| &mut config.tls_certificate),
    },
    Definition {
        name: "tls_key",
        about: "PEM file with the private key of tls_certificate.",
        default_in_words: None,
        field: Field::File(|config| &mut config.tls_key),
    },
    Definition {
        name: "tls_client_authority",
        about: "PEM file with the certificates of those who certify clients (mutual TLS): a client without a certificate of \
                theirs is turned away before it can say anything. Users still log in.",
        default_in_words: None,
        field: Field::File(|config| &mut config.tls_client_authority),
    },
    Definition {
        name: "allow_plaintext_on_network",
        about: "Lets the server listen on other addresses than loopback without TLS: whoever sees the \
                network's traffic then sees passwords and rows.",
        default_in_words: None,
        field: Field::Switch(|config| &mut config.allow_plaintext_on_network),
    },
    Definition {
        name: "advertise",
        about: "Location that Flight clients are sent to for results, as grpc://host:port; empty: they reuse their connection.",
        default_in_words: None,
        field: Field::Location(|config| &mut config.advertise),
    },
    Definition {
        name: "durability",
        about: "synced: a commit is acknowledged once it is on disk. relaxed: once it is written, so a power failure may \
                lose the last commits; a crash of the server does not.",
        default_in_words: None,
        field: Field::Durability(|config| &mut config.durability),
    },
    Definition {
        name: "memory_limit",
        about: "What all running queries together may hold in memory; beyond it they spill to disk.",
        default_in_words: Some("half of the machine's memory"),
        field: Field::Size(|config| &mut config.memory_limit_bytes, 16 * MIB..=16 * TIB),
    },
    Definition {
        name: "block_cache",
        about: "Cache of blocks of RocksDB, which holds the rows that are not in segments, beside memory_limit.",
        default_in_words: Some("an eighth of the machine's memory, between 64 MiB and 4 GiB"),
        field: Field::Size(|config| &mut config.block_cache_bytes, MIB..=16 * TIB),
    },
    Definition {
        name: "segment_cache",
        about: "Indexes, filters and footers of segments in use, beside memory_limit: about 1.5 MiB for a million rows. Those \
                for which there is no room are read anew by every statement.",
        default_in_words: Some("a sixteenth of the machine's memory, between 64 MiB and 1 GiB"),
        field: Field::Size(|config| &mut config.segment_cache_bytes, 8 * MIB..=TIB),
    },
    Definition {
        name: "write_buffers",
        about: "Committed rows held in memory before they are written into files, beside memory_limit.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.write_buffer_bytes, 4 * MIB..=64 * GIB),
    },
    Definition {
        name: "spill_dir",
        about: "Directory for what queries spill; the default one is emptied at each start.",
        default_in_words: Some("<data_dir>/spill"),
        field: Field::Path(|config| &mut config.spill_dir),
    },
    Definition {
        name: "statement_timeout",
        about: "A statement that runs longer is cancelled with TIMEOUT; 0: no limit. A session may set its own.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.statement_timeout, 0..=7 * DAY_S),
    },
    Definition {
        name: "snapshot_life",
        about: "How long a statement may go on to read the database as it was when it began after others have committed: what it \
                reads then is kept on disk for it alone. Past it the statement ends with SNAPSHOT_TOO_OLD when it reads on, and what \
                was kept is erased in any case; 0: no limit.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.snapshot_life, 0..=365 * DAY_S),
    },
    Definition {
        name: "statement_text_limit",
        about: "The largest text of one statement; a larger one is refused with STATEMENT_TOO_LARGE.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.statement_text_limit_bytes, KIB..=256 * MIB),
    },
    Definition {
        name: "statement_write_limit",
        about: "What the rows written by one UPDATE, DELETE or small INSERT may hold in memory until its commit; more is \
                refused with STATEMENT_TOO_LARGE. A statement that writes much into a SHARED or USER table writes segments as it \
                goes, and of it only the keys of hot rows to be removed count.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.statement_write_limit_bytes, MIB..=64 * GIB),
    },
    Definition {
        name: "max_queries_per_user",
        about: "Statements of one user that run at once; one more is refused with TOO_MANY_REQUESTS.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.max_queries_per_user, 1..=100_000),
    },
    Definition {
        name: "max_sessions",
        about: "Sessions open at once; one more is refused with TOO_MANY_REQUESTS. The last three, or tenth of them if that is fewer, are \
                for roles dba and system.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.max_sessions, 1..=1_000_000),
    },
    Definition {
        name: "max_connections",
        about: "Connections open at once to Flight SQL, and as many to HTTP; one more waits five seconds for another to close, and is \
                then refused with TOO_MANY_REQUESTS. A connection over which nobody logs in is closed after a minute; of those \
                to Flight SQL one user may hold all but an eighth, dba and system all.",
        default_in_words: Some("4096, or fewer where the process may not open so many files"),
        field: Field::Count(|config| &mut config.max_connections, 1..=1_000_000),
    },
    Definition {
        name: "session_idle",
        about: "A session without a call for so long ends.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.session_idle, 1..=30 * DAY_S),
    },
    Definition {
        name: "token_life",
        about: "Life of the bearer token that a login gives.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.token_life, 1..=365 * DAY_S),
    },
    Definition {
        name: "jwt_keys",
        about: "JWK set of an outside issuer whose JWTs are taken as bearer tokens: a file, or a URL that starts with https:// (http:// \
                on loopback only). It is looked at again every five minutes, when it changes, and when a token names an unknown key.",
        default_in_words: None,
        field: Field::Keys(|config| &mut config.jwt_keys),
    },
    Definition {
        name: "jwt_issuer",
        about: "The claim iss that the outside issuer's tokens must have.",
        default_in_words: None,
        field: Field::Text(|config| &mut config.jwt_issuer),
    },
    Definition {
        name: "jwt_audience",
        about: "What the outside issuer's tokens must have in their claim aud.",
        default_in_words: None,
        field: Field::Text(|config| &mut config.jwt_audience),
    },
    Definition {
        name: "jwt_user_claim",
        about: "The claim of an outside token that names the user. Users with a password are never meant.",
        default_in_words: None,
        field: Field::Text(|config| &mut config.jwt_user_claim),
    },
    Definition {
        name: "jwt_role_claim",
        about: "The claim of an outside token that gives the role: user, service or dba, or a list of which the highest counts. \
                With it users are made when they first come, and have the role of their last token; without it they must exist.",
        default_in_words: None,
        field: Field::Text(|config| &mut config.jwt_role_claim),
    },
    Definition {
        name: "query_history",
        about: "Finished queries that system.queries remembers.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.query_history, 0..=1_000_000),
    },
    Definition {
        name: "mover_threads",
        about: "Threads that flush tables, and as many more that compact and check them, for all tables together: neither waits \
                for the other. Each works on one table at a time.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.mover_threads, 1..=64),
    },
    Definition {
        name: "hot_limit",
        about: "Rows of one table that are not in segments yet, those that a flush is moving included: from half of it on the \
                table is flushed whatever its FLUSH_POLICY, and at all of it INSERT and UPDATE wait for a flush to make room.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.hot_limit_bytes, MIB..=TIB),
    },
    Definition {
        name: "hot_limit_wait",
        about: "How long they wait before they are refused with TOO_MANY_REQUESTS.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.hot_limit_wait, 0..=600),
    },
    Definition {
        name: "job_history",
        about: "Ended jobs that system.jobs remembers, across restarts.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.job_history, 1..=100_000),
    },
    Definition {
        name: "batch_rows",
        about: "Rows in one batch of a result at most.",
        default_in_words: None,
        field: Field::Count(|config| &mut config.batch_rows, 1..=1_048_576),
    },
    Definition {
        name: "message_size",
        about: "Size of one Flight message of a result that the server aims at; 1 to 2 MiB transfer fastest.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.message_bytes, 16 * KIB..=3 * MIB),
    },
    Definition {
        name: "max_request",
        about: "The largest Flight message or HTTP body that a client may send. A load is many messages.",
        default_in_words: None,
        field: Field::Size(|config| &mut config.max_request_bytes, MIB..=GIB),
    },
    Definition {
        name: "drain",
        about: "How long a stopping server waits for what is running before it cancels it.",
        default_in_words: None,
        field: Field::Time(|config| &mut config.drain, 0..=600),
    },
    Definition {
        name: "serve_threads",
        about: "Threads that serve gRPC and HTTP.",
        default_in_words: Some("one per core"),
        field: Field::Count(|config| &mut config.serve_threads, 1..=1024),
    },
    Definition {
        name: "query_threads",
        about: "Threads that run queries and writes; more than cores, so that an operator that computes for long without a pause \
                does not hold up the others. As many more, of lower priority, take over statements that are long.",
        default_in_words: Some("four per core"),
        field: Field::Count(|config| &mut config.query_threads, 1..=1024),
    },
    Definition {
        name: "log",
        about: "What is logged to standard error: error, warn, info, debug, trace or off, also per target, as in \
                info,kalamdb_sql=debug.",
        default_in_words: None,
        field: Field::LogFilter(|config| &mut config.log),
    },
    Definition {
        name: "log_format",
        about: "text: a line for people. json: an object per line.",
        default_in_words: None,
        field: Field::LogFormat(|config| &mut config.log_format),
    },
];

/// A variable that is no setting.
pub(crate) struct OtherVariable {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

/// Variables beside the settings' own.
pub(crate) const OTHER_VARIABLES: &[OtherVariable] = &[
    OtherVariable {
        name: "KALAMDB_CONFIG",
        about: "The configuration file, as `--config`.",
    },
    OtherVariable {
        name: "KALAMDB_ROOT_PASSWORD",
        about: "`root`'s password, used at the very first start only. Without it a random one is written to \
                `<data_dir>/root-password`, readable by its owner alone.",
    },
    OtherVariable {
        name: "KALAMDB_PASSWORD",
        about: "The password with which `kalamdb sql` logs in.",
    },
    OtherVariable {
        name: "KALAMDB_URL",
        about: "Where `kalamdb sql` connects to, as `--url`.",
    },
    OtherVariable {
        name: "KALAMDB_USER",
        about: "As whom `kalamdb sql` logs in, as `--user`.",
    },
    OtherVariable {
        name: "KALAMDB_TLS_AUTHORITY",
        about: "Whose certificates `kalamdb sql` trusts, as `--tls-authority`.",
    },
    OtherVariable {
        name: "KALAMDB_TLS_CLIENT_CERTIFICATE",
        about: "The certificate that `kalamdb sql` shows, as `--tls-client-certificate`.",
    },
    OtherVariable {
        name: "KALAMDB_TLS_CLIENT_KEY",
        about: "Its private key, as `--tls-client-key`.",
    },
    OtherVariable {
        name: "KALAMDB_TLS_SERVER_NAME",
        about: "The name in the server's certificate, as `--tls-server-name`.",
    },
];

/// The names of a setting outside the file.
pub(crate) struct Names {
    /// Without the dashes.
    pub(crate) flag: String,
    /// `KALAMDB_…`.
    pub(crate) variable: String,
}

static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let names = |setting: &Definition| Names {
        flag: setting.name.replace('_', "-"),
        variable: format!("KALAMDB_{}", setting.name.to_ascii_uppercase()),
    };
    SETTINGS.iter().map(names).collect()
});

/// Every setting with its names.
pub(crate) fn settings() -> impl Iterator<Item = (&'static Definition, &'static Names)> {
    SETTINGS.iter().zip(NAMES.iter())
}

/// The name in `known` that is nearest to `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // What all variables begin with says nothing.
    let plain = |name: &str| name.to_ascii_lowercase().trim_start_matches("kalamdb_").to_owned();
    let wanted = plain(name);
    // A slip or two in the letters is told by their number. Jaro-Winkler favours a common beginning: `memory` is nearer to
    // `memory_limit` than to `log`; but letters changed about make it blind.
    let slips = |candidate: &str| strsim::damerau_levenshtein(&wanted, &plain(candidate));
    let likeness = |candidate: &str| strsim::jaro_winkler(&wanted, &plain(candidate));
    let known: Vec<&str> = known.into_iter().collect();
    let misspelt = known
        .iter()
        .map(|candidate| (slips(candidate), *candidate))
        .filter(|(slips, candidate)| *slips <= candidate.len().min(name.len()) / 3)
        .min();
    match misspelt {
        Some((_, candidate)) => Some(candidate),
        None => known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))),
    }
}

impl Definition {
    /// Reads a value's text into the configuration.
    ///
    /// # Errors
    /// What is expected instead, bound included.
    pub(crate) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let text = text.trim();
        let refuse = || format!("{} is '{text}', but must be {}", self.name, self.expectation());
        match &self.field {
            Field::Path(field) if !text.is_empty() => *field(config) = PathBuf::from(text),
            Field::Path(_) => return Err(refuse()),
            Field::File(field) => *field(config) = (!text.is_empty()).then(|| PathBuf::from(text)),
            Field::Address(field) => *field(config) = text.parse().map_err(|_| refuse())?,
            Field::Switch(field) => *field(config) = text.parse().map_err(|_| refuse())?,
            Field::Size(field, bound) => {
                *field(config) = parse_size(text)
                    .filter(|size| bound.contains(size))
                    .ok_or_else(refuse)?;
            }
            Field::Count(field, bound) => {
                *field(config) = text
                    .parse()
                    .ok()
                    .filter(|count| bound.contains(count))
                    .ok_or_else(refuse)?;
            }
            Field::Time(field, bound) => {
                let within = Duration::from_secs(*bound.start())..=Duration::from_secs(*bound.end());
                *field(config) = parse_time(text)
                    .filter(|time| within.contains(time))
                    .ok_or_else(refuse)?;
            }
            Field::Durability(field) => {
                *field(config) = match text {
                    "synced" => Durability::Synced,
                    "relaxed" => Durability::Relaxed,
                    _ => return Err(refuse()),
                };
            }
            Field::LogFormat(field) => {
                *field(config) = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(refuse()),
                };
            }
            Field::LogFilter(field) => {
                check_filter(text).map_err(|reason| format!("{}: {reason}", refuse()))?;
                *field(config) = text.to_owned();
            }
            Field::Text(field) => *field(config) = text.to_owned(),
            Field::Keys(field) => {
                *field(config) = match text {
                    "" => None,
                    // Without the text, which may have a password in it.
                    place => Some(
                        KeySource::parse(place)
                            .map_err(|reason| format!("{} must be {}: {reason}", self.name, self.expectation()))?,
                    ),
                };
            }
            Field::Location(field) => {
                *field(config) = match text {
                    "" => None,
                    uri if is_location(uri) => Some(uri.to_owned()),
                    _ => return Err(refuse()),
                };
            }
        }
        Ok(())
    }

    /// The value in force, as `set` reads it, in the setting's unit.
    pub(crate) fn show(&self, config: &Config) -> String {
        // The accessors give access for writing; a copy lets one table serve both directions.
        let mut config = config.clone();
        match &self.field {
            Field::Path(field) => field(&mut config).display().to_string(),
            Field::File(field) => field(&mut config)
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string()),
            Field::Address(field) => field(&mut config).to_string(),
            Field::Switch(field) => field(&mut config).to_string(),
            Field::Size(field, _) | Field::Count(field, _) => field(&mut config).to_string(),
            Field::Time(field, _) => field(&mut config).as_secs_f64().to_string(),
            Field::Durability(field) => match field(&mut config) {
                Durability::Synced => "synced".to_owned(),
                Durability::Relaxed => "relaxed".to_owned(),
            },
            Field::LogFormat(field) => field(&mut config).as_str().to_owned(),
            Field::LogFilter(field) => field(&mut config).clone(),
            Field::Text(field) => field(&mut config).clone(),
            Field::Keys(field) => field(&mut config)
                .as_ref()
                .map_or_else(String::new, KeySource::to_string),
            Field::Location(field) => field(&mut config).clone().unwrap_or_default(),
        }
    }

    /// `bytes`, `s`, or empty.
    pub(crate) fn unit(&self) -> &'static str {
        match &self.field {
            Field::Size(..) => "bytes",
            Field::Time(..) => "s",
            Field::Path(_)
            | Field::File(_)
            | Field::Address(_)
            | Field::Switch(_)
            | Field::Count(..)
            | Field::Durability(_)
            | Field::LogFormat(_)
            | Field::LogFilter(_)
            | Field::Text(_)
            | Field::Keys(_)
            | Field::Location(_) => "",
        }
    }

    /// The default for people: words where it depends on something, sizes with a unit.
    pub(crate) fn default_text(&self) -> String {
        if let Some(words) = self.default_in_words {
            return words.to_owned();
        }
        let mut config = Config::with_default_addresses("./data");
        match &self.field {
            Field::Size(field, _) => size_text(*field(&mut config)),
            Field::Time(field, _) => format!("{} s", field(&mut config).as_secs_f64()),
            _ => match self.show(&config) {
                empty if empty.is_empty() => "none".to_owned(),
                value => value,
            },
        }
    }

    /// Which values there are, for people.
    pub(crate) fn bound(&self) -> String {
        match &self.field {
            Field::Path(_) => "a path".to_owned(),
            Field::File(_) => "a path, or empty".to_owned(),
            Field::Address(_) => "an IP address and a port".to_owned(),
            Field::Switch(_) => "true or false".to_owned(),
            Field::Size(_, bound) => format!("{} to {}", size_text(*bound.start()), size_text(*bound.end())),
            Field::Count(_, bound) => format!("{} to {}", bound.start(), bound.end()),
            Field::Time(_, bound) => format!("{} s to {} s", bound.start(), bound.end()),
            Field::Durability(_) => "synced or relaxed".to_owned(),
            Field::LogFormat(_) => "text or json".to_owned(),
            Field::LogFilter(_) => "a level or a list of target=level".to_owned(),
            Field::Text(_) => "text, or empty".to_owned(),
            Field::Keys(_) => "a path, https://…, http://… on loopback, or empty".to_owned(),
            Field::Location(_) => "grpc://host:port or grpc+tls://host:port, or empty".to_owned(),
        }
    }

    /// What stands for the value in `--help`.
    pub(crate) fn placeholder(&self) -> &'static str {
        match &self.field {
            Field::Path(_) | Field::File(_) => "PATH",
            Field::Address(_) => "ADDRESS:PORT",
            Field::Switch(_) => "BOOL",
            Field::Size(..) => "SIZE",
            Field::Count(..) => "COUNT",
            Field::Time(..) => "TIME",
            Field::Durability(_) => "DURABILITY",
            Field::LogFormat(_) => "FORMAT",
            Field::LogFilter(_) => "FILTER",
            Field::Text(_) => "TEXT",
            Field::Keys(_) => "PATH-OR-URL",
            Field::Location(_) => "URI",
        }
    }

    fn expectation(&self) -> String {
        let bound = self.bound();
        match &self.field {
            Field::Size(..) => format!("a size of {bound} (such as 64MiB or 1GB; a bare number counts bytes)"),
            Field::Time(..) => {
                format!("a time of {bound} (such as 500ms, 90s, 5min or 12h; a bare number counts seconds)")
            }
            Field::Count(..) => format!("a whole number, {bound}"),
            Field::Address(_) => format!("{bound}, such as 127.0.0.1:50051 or [::1]:0"),
            _ => bound,
        }
    }
}

/// Bytes of `64MiB`, `1 GB`, `4096`.
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text);
    let factor: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => KIB,
        "mib" => MIB,
        "gib" => GIB,
        "tib" => TIB,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// The time of `90s`, `1.5h`, `500 ms`, `30`; not finer than a millisecond.
fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let unit_ms: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => DAY_S * 1000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction_digits = u32::try_from(fraction.len())
        .ok()
        .filter(|digits| (1..=9).contains(digits))?;
    let scale = 10_u64.pow(fraction_digits);
    let scaled_ms = fraction.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    if scaled_ms % scale != 0 {
        return None;
    }
    let total_ms = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(unit_ms)?
        .checked_add(scaled_ms / scale)?;
    Some(Duration::from_millis(total_ms))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn size_text(bytes: usize) -> String {
    for (factor, unit) in [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} bytes")
}

fn is_location(uri: &str) -> bool {
    let rest = ["grpc://", "grpc+tcp://", "grpc+tls://"]
        .iter()
        .find_map(|scheme| uri.strip_prefix(scheme));
    let port = rest
        .and_then(|rest| rest.rsplit_once(':'))
        .filter(|(host, _)| !host.is_empty());
    port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        let check = |text: &str, expected: Option<usize>| assert_eq!(parse_size(text), expected, "{text}");
        check("4096", Some(4096));
        check("64MiB", Some(64 << 20));
        check("64 mib", Some(64 << 20));
        check("1GB", Some(1_000_000_000));
        check("2TiB", Some(2 << 40));
        check("7b", Some(7));
        check("", None);
        check("MiB", None);
        check("-1", None);
        check("1.5GiB", None);
        check("12 parsecs", None);
        check("99999999999999999999", None);
        check("18446744073709551615GiB", None);
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let check = |text: &str, expected_ms: Option<u64>| {
            assert_eq!(parse_time(text), expected_ms.map(Duration::from_millis), "{text}");
        };
        check("300", Some(300_000));
        check("500ms", Some(500));
        check("0.5", Some(500));
        check("1.5 h", Some(5_400_000));
        check("5min", Some(300_000));
        check("30m", Some(1_800_000));
        check("2d", Some(172_800_000));
        check("0", Some(0));
        check("0.5ms", None);
        check("1.", None);
        check(".5", None);
        check("5 weeks", None);
        check("", None);
        check("99999999999999999999", None);
    }

    #[test]
    fn every_default_is_within_its_bound_and_reads_back() {
        let defaults = Config::with_default_addresses("./data");
        for setting in SETTINGS {
            let mut config = Config::new("elsewhere");
            let shown = setting.show(&defaults);
            setting.set(&mut config, &shown).expect(setting.name);
            assert_eq!(setting.show(&config), shown, "{}", setting.name);
        }
    }

    #[test]
    fn names_are_unique_and_every_setting_is_described() {
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(SETTINGS.iter().all(|setting| setting.about.ends_with('.')));
    }

    #[test]
    fn the_nearest_name_is_found() {
        let check = |name: &str, expected: &str| {
            assert_eq!(
                nearest(name, SETTINGS.iter().map(|setting| setting.name)),
                Some(expected),
                "{name}"
            );
        };
        check("http_port", "http_listen");
        check("memory_limits", "memory_limit");
        check("memory", "memory_limit");
        check("DATADIR", "data_dir");
        check("max_session", "max_sessions");
        check("KALAMDB_DATADIR", "data_dir");
        check("lgo", "log");
    }
}
