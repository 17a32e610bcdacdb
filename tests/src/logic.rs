//! DataFusion's own sqllogictest files against the running server: which are run, how, and what came of it.
//!
//! `package` has the files, `engine` runs a record over Flight SQL, `cells` shows values as those files write them,
//! `refusals` compares errors, `exclusions` is the committed list of records that do not hold, `proposal` says why a new
//! one may not, and `report` adds up.

mod cells;
mod engine;
mod exclusions;
mod package;
mod proposal;
mod refusals;
mod report;

use std::collections::BTreeSet;

use futures::StreamExt;
use sqllogictest::{QueryExpect, Record, RecordOutput, Runner, StatementExpect, TestErrorKind};

use self::cells::{Freedom, Letter};
use self::engine::Engine;
use crate::server::{ROOT_PASSWORD, Server, Settings};

pub use self::exclusions::{Exclusions, Reason};
pub use self::package::{LogicFile, logic_files};
pub use self::report::{Outcomes, Report};

/// Files that run at a time, each against a server of its own.
const AT_A_TIME: usize = 2;

/// Where a file's rows are when its statements read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Where the file's statements leave them.
    Hot,
    /// In segments: every table is flushed before a statement reads what was written since the last flush.
    Flushed,
}

/// What came of the records of one file.
#[derive(Clone, Debug)]
pub(crate) struct FileOutcome {
    pub(crate) name: String,
    pub(crate) verdicts: Vec<Verdict>,
}

/// What came of one record.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Its line, after the name of the file if that is an included one.
    pub(crate) place: String,
    pub(crate) sql: String,
    /// Why it does not hold; none if it does.
    pub(crate) failure: Option<String>,
}

/// Runs every file on a fresh database.
///
/// # Panics
/// When a file cannot be parsed or a server does not start.
pub async fn run_logic_files(files: &[LogicFile], pass: Pass) -> Outcomes {
    let outcomes = futures::stream::iter(files.to_vec())
        .map(|file| tokio::spawn(run_file(file, pass)))
        .buffered(AT_A_TIME)
        .map(|outcome| outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
        .collect()
        .await;
    Outcomes(outcomes)
}

async fn run_file(file: LogicFile, pass: Pass) -> FileOutcome {
    let records = sqllogictest::parse_file::<Letter>(&file.path)
        .unwrap_or_else(|error| panic!("{} cannot be parsed: {error}", file.path.display()));
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &Settings::with_args(&["--statement-timeout", "60"]));
    let address = server.flight;
    let mut runner = Runner::new(move || Engine::open(address, ROOT_PASSWORD, pass));
    // The label of DataFusion's own runner, so that `onlyif` and `skipif` choose as they do there.
    runner.add_label("Datafusion");
    runner.with_column_validator(sqllogictest::strict_column_validator);
    runner.with_normalizer(cells::without_trailing_space);
    let mut missing = BTreeSet::new();
    let mut verdicts = Vec::new();
    for record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        verdicts.extend(run_record(&mut runner, record, &file, &mut missing).await);
    }
    server.kill();
    FileOutcome {
        name: file.name,
        verdicts,
    }
}

/// Runs a record; none if it is no statement, or not one for this engine. A record that is excluded runs like any other,
/// so that those after it meet what they expect. `missing` gathers the names of tables that could not be made.
async fn run_record<M>(
    runner: &mut Runner<Engine, M>,
    record: Record<Letter>,
    file: &LogicFile,
    missing: &mut BTreeSet<String>,
) -> Option<Verdict>
where
    M: sqllogictest::MakeConnection<Conn = Engine>,
{
    let (place, sql, expected_error) = match &record {
        Record::Statement { loc, sql, expected, .. } => {
            let error = match expected {
                StatementExpect::Error(error) => Some(error.clone()),
                StatementExpect::Ok | StatementExpect::Count(_) => None,
            };
            (file.place(loc), sql.clone(), error)
        }
        Record::Query { loc, sql, expected, .. } => {
            let error = match expected {
                QueryExpect::Error(error) => Some(error.clone()),
                QueryExpect::Results { .. } => None,
            };
            runner.with_validator(match Freedom::of(sql) {
                Freedom::Nothing => cells::rows_agree,
                Freedom::Order => cells::rows_agree_in_any_order,
                Freedom::Choice => cells::rows_agree_in_number,
            });
            (file.place(loc), sql.clone(), error)
        }
        _ => {
            // Controls and comments; the runner keeps what they set.
            return match runner.run_async(record).await {
                Ok(_) => None,
                Err(error) => panic!("{}", error.display(false)),
            };
        }
    };
    let outcome = runner.run_async(record).await;
    let failure = match (outcome, expected_error) {
        (Ok(RecordOutput::Nothing), _) => return None,
        (
            Ok(RecordOutput::Query { error: Some(error), .. } | RecordOutput::Statement { error: Some(error), .. }),
            Some(expected),
        ) => refusals::disagreement(&expected, error.as_ref(), missing),
        (Ok(_), _) => None,
        (Err(error), Some(expected)) => match error.kind() {
            TestErrorKind::ErrorMismatch { err, .. } => refusals::disagreement(&expected, err.as_ref(), missing),
            other => Some(other.to_string()),
        },
        (Err(error), None) => Some(match error.kind() {
            TestErrorKind::Fail { err, .. } => err.to_string(),
            other => other.to_string(),
        }),
    };
    if failure.is_some() {
        missing.extend(refusals::table_made(&sql));
    }
    Some(Verdict { place, sql, failure })
}
