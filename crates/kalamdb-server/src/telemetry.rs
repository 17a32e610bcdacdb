//! The log: to standard error, as text or JSON. No statement's text and no credential is ever handed to it.

use std::any::Any;
use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Libraries that log tokens of statements, literals included, and plans at the levels below WARN: how their targets begin. No
/// filter lets those through.
const LOG_TEXTS: [&str; 2] = ["sqlparser", "datafusion"];

/// Starts the log of this process, panics included; call it once.
///
/// # Errors
/// A message for people: a bad filter, or a log that is already there.
pub(crate) fn start_log(filter: &str, format: LogFormat) -> Result<(), String> {
    let allowed = EnvFilter::try_new(filter).map_err(|error| format!("log filter '{filter}': {error}"))?;
    let without_texts = filter_fn(|metadata| {
        let logs_texts = LOG_TEXTS.iter().any(|library| metadata.target().starts_with(library));
        !logs_texts || *metadata.level() <= Level::WARN
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(allowed)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal());
            builder.finish().with(without_texts).try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.finish().with(without_texts).try_init()
        }
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))?;
    // A panic becomes an entry of the log like any other.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = words_of(panic.payload());
        tracing::error!(place, words, %backtrace, "a thread panicked");
    }));
    Ok(())
}

/// What a panic says in words of the program's text. Words that were put together when it ran may hold values of a statement.
fn words_of(payload: &dyn Any) -> &'static str {
    match payload.downcast_ref::<&'static str>() {
        Some(words) => words,
        None => "(words with values are not logged)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_values_are_left_out() {
        assert_eq!(words_of(&"a lock is held twice"), "a lock is held twice");
        let put_together = format!("'{}' is no number", "secret");
        assert!(!words_of(&put_together).contains("secret"));
    }
}
