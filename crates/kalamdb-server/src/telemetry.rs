//! The log: to standard error, as text or JSON. No statement's text and no credential is ever handed to it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One object per line.
    Json,
}

impl LogFormat {
    /// Its name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// Whether this is a filter, such as `info` or `info,kalamdb_sql=debug`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_filter(text: &str) -> Result<(), ParseError> {
    EnvFilter::try_new(text).map(|_| ())
}

/// Libraries that log tokens of statements, literals included, and plans below this level, whatever the filter says of the rest.
const WITHOUT_TEXTS: [&str; 2] = ["sqlparser=warn", "datafusion=warn"];

/// Starts the log of this process, panics included; call it once.
///
/// # Errors
/// A message for people: a bad filter, or a log that is already there.
pub(crate) fn start_log(filter: &str, format: LogFormat) -> Result<(), String> {
    let bad_filter = |error: ParseError| format!("log filter '{filter}': {error}");
    let mut allowed = EnvFilter::try_new(filter).map_err(bad_filter)?;
    for limit in WITHOUT_TEXTS {
        allowed = allowed.add_directive(limit.parse().map_err(bad_filter)?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(allowed)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))?;
    // A panic becomes an entry of the log like any other.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a thread panicked");
    }));
    Ok(())
}
