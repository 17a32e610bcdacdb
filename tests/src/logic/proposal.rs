//! A guess at why a record does not hold, from its text and its failure; the recording run writes it for a person to confirm.

use std::collections::BTreeMap;

use super::exclusions::Reason;
use super::{Verdict, refusals};

/// Guesses for the records of one file, in their order: what reads a table that could not be made has the reason of the
/// statement that was to make it.
#[derive(Default)]
pub(super) struct Guesses {
    missing: BTreeMap<String, Reason>,
}

/// Beginnings of a statement, lower case, each with what they suggest.
const BY_BEGINNING: &[(&[&str], Reason)] = &[
    (
        &[
            "create external",
            "create unbounded external",
            "create or replace external",
            "copy ",
        ],
        Reason::ExternalData,
    ),
    (&["explain"], Reason::PlanText),
    (
        &["set ", "reset ", "show datafusion", "show time", "show all"],
        Reason::RuntimeOptions,
    ),
    (
        &[
            "prepare",
            "exec",
            "deallocate",
            "create function",
            "drop function",
            "create database",
            "show create",
        ],
        Reason::OtherStatement,
    ),
    (
        &["merge", "create view", "create or replace view", "drop view"],
        Reason::NotBuilt,
    ),
];

/// Signs in the failure, lower case.
const BY_FAILURE: &[(&[&str], Reason)] = &[
    (
        &["varchar(", "type char ", "unique is not", "check is not", "references"],
        Reason::RefusedByDesign,
    ),
    (
        &[
            "not supported yet",
            "takes its columns from the query",
            "type struct",
            "no table function values",
        ],
        Reason::NotBuilt,
    ),
    (&["is not part of kalamdb", "select into"], Reason::OtherStatement),
    (&["df_settings", "is not a catalog"], Reason::CatalogNames),
    (&["syntax error", "row in values"], Reason::NotBuilt),
    (&["describe takes a table"], Reason::OtherMeaning),
];

/// Signs in the statement, lower case.
const BY_TEXT: &[(&[&str], Reason)] = &[
    (&["information_schema", "datafusion."], Reason::CatalogNames),
    (&["->", "describe", "desc "], Reason::OtherMeaning),
    (&["timestamptz", "to_timestamp", "now()"], Reason::RuntimeOptions),
    (
        &["view", "dictionary(", "arrow_typeof", "ree_", "sensor_readings"],
        Reason::PlainTypes,
    ),
    (&["from values", "struct("], Reason::NotBuilt),
];

impl Guesses {
    pub(super) fn guess(&mut self, verdict: &Verdict) -> Reason {
        let sql = code(&verdict.sql).to_ascii_lowercase();
        let failure = verdict.failure.as_deref().unwrap_or_default().to_ascii_lowercase();
        let of_missing_table = self
            .missing
            .iter()
            .find(|(table, _)| failure.contains(&format!(".{table} does not exist")))
            .map(|(_, reason)| *reason);
        let reason = find(BY_BEGINNING, |sign| sql.starts_with(sign))
            .or(of_missing_table)
            .or_else(|| failure.contains("actually succeed").then_some(Reason::WorksHere))
            .or_else(|| find(BY_FAILURE, |sign| failure.contains(sign)))
            .or_else(|| find(BY_TEXT, |sign| sql.contains(sign)))
            .unwrap_or(Reason::Mistake);
        if let Some(table) = refusals::table_made(&verdict.sql) {
            self.missing.insert(table, reason);
        }
        reason
    }
}

fn find(signs: &[(&[&str], Reason)], holds: impl Fn(&str) -> bool) -> Option<Reason> {
    let found = signs.iter().find(|(signs, _)| signs.iter().any(|sign| holds(sign)));
    found.map(|(_, reason)| *reason)
}

/// The statement without the lines of comments before it.
fn code(sql: &str) -> String {
    let lines = sql.lines().skip_while(|line| line.trim_start().starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}
