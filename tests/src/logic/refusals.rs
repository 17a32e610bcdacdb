//! Errors: where a file expects one, does ours say the same?
//!
//! The words are ours by design, and the code tells what they are about: a mistake in the statement is a mistake in the
//! statement in anybody's words. What would hide a gap of ours (not supported, table not found, internal) must be what the
//! file expects.

use std::collections::BTreeSet;
use std::error::Error;

use sqllogictest::ExpectedError;

use crate::client::SqlError;

/// Why an error is not the expected one; none if it is. `missing` are the tables that the file could not make.
pub(super) fn disagreement(
    expected: &ExpectedError,
    error: &(dyn Error + Send + Sync + 'static),
    missing: &BTreeSet<String>,
) -> Option<String> {
    let Some(error) = error.downcast_ref::<SqlError>() else {
        return Some(error.to_string());
    };
    let message = error.message.to_ascii_lowercase();
    let wanted = match expected {
        ExpectedError::Empty => None,
        ExpectedError::Inline(pattern) => Some(pattern.as_str().to_ascii_lowercase()),
        ExpectedError::Multiline(text) => Some(text.to_ascii_lowercase()),
        ExpectedError::SqlState(state) => return Some(format!("SQL state {state} expected, got {error}")),
    };
    let mentions = |signs: &[&str]| match &wanted {
        Some(wanted) => signs.iter().any(|sign| wanted.contains(sign)),
        None => true,
    };
    let agrees = match error.code() {
        _ if wanted.is_some() && expected.is_match(&error.message, None) => true,
        "SYNTAX_ERROR" => mentions(&[
            "sql error",
            "pars",
            "expected",
            "syntax",
            "support",
            "placeholder",
            "requires",
        ]),
        "UNSUPPORTED" => mentions(&["not implemented", "support", "not been implemented", "not permitted"]),
        "TABLE_NOT_FOUND" | "NAMESPACE_NOT_FOUND" | "NOT_FOUND" => {
            mentions(&["not found", "n't exist", "not exist", "no table", "failed to resolve"])
                && !missing
                    .iter()
                    .any(|table| message.contains(&format!(".{table} does not exist")))
        }
        "INVALID_STATEMENT" | "INVALID_ARGUMENT" | "TYPE_MISMATCH" | "COLUMN_NOT_FOUND" | "ALREADY_EXISTS"
        | "NOT_NULL_VIOLATION" | "DUPLICATE_KEY" => true,
        "STATEMENT_TOO_LARGE" => mentions(&["too large", "exceeds", "overflow"]),
        "OUT_OF_MEMORY" => mentions(&["resources exhausted", "memory"]),
        _ => false,
    };
    (!agrees).then(|| match wanted {
        Some(_) => format!("{}\nwhere this error is expected: {expected}", error.message),
        None => format!("{}\nwhere an error is expected", error.message),
    })
}

/// The table or view that a statement makes, or would have made: the last part of its name.
pub(super) fn table_made(sql: &str) -> Option<String> {
    let mut words = sql.split_ascii_whitespace().filter(|word| !word.is_empty());
    if !words.next()?.eq_ignore_ascii_case("create") {
        return None;
    }
    let name = words
        .skip_while(|word| !["table", "view"].iter().any(|kind| word.eq_ignore_ascii_case(kind)))
        .skip(1)
        .find(|word| {
            !["if", "not", "exists"]
                .iter()
                .any(|kind| word.eq_ignore_ascii_case(kind))
        })?;
    let name = name.split('(').next()?.trim_end_matches(';').to_ascii_lowercase();
    let last = name.rsplit('.').next()?;
    Some(last.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_compared_by_what_it_is_about() {
        let missing = BTreeSet::from(["gone".to_owned()]);
        let text = |text: &str| ExpectedError::Multiline(text.to_owned());
        for (expected, ours, agrees) in [
            (
                text("DataFusion error: Arrow error: Divide by zero error"),
                "INVALID_ARGUMENT: division by zero",
                true,
            ),
            (
                text("DataFusion error: Error during planning: x"),
                "UNSUPPORTED: x",
                false,
            ),
            (text("This feature is not implemented: x"), "UNSUPPORTED: y", true),
            (
                text("Cast error: a"),
                "TABLE_NOT_FOUND: table public.t does not exist",
                false,
            ),
            (
                text("table 't' not found"),
                "TABLE_NOT_FOUND: table public.t does not exist",
                true,
            ),
            (
                ExpectedError::Empty,
                "TABLE_NOT_FOUND: table public.t does not exist",
                true,
            ),
            (
                ExpectedError::Empty,
                "TABLE_NOT_FOUND: table public.gone does not exist",
                false,
            ),
            (ExpectedError::Empty, "UNSUPPORTED: x", true),
            (ExpectedError::Empty, "INTERNAL: x", false),
        ] {
            let ours = SqlError {
                grpc: tonic::Code::Unknown,
                message: ours.to_owned(),
            };
            let disagreement = disagreement(&expected, &ours, &missing);
            assert_eq!(disagreement.is_none(), agrees, "{expected}: {ours}");
        }
    }

    #[test]
    fn a_made_table_is_known_by_name() {
        for (sql, name) in [
            ("CREATE TABLE t(a INT)", Some("t")),
            ("create or replace table if not exists s.\"T\" as select 1", Some("t")),
            ("CREATE VIEW v AS SELECT 1", Some("v")),
            ("SELECT 'CREATE TABLE t'", None),
            ("CREATE SCHEMA s", None),
        ] {
            assert_eq!(table_made(sql).as_deref(), name, "{sql}");
        }
    }
}
