//! Runs FLUSH, COMPACT and CHECK: each is done when it returns, exactly once, and gives rows that say what was done.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use kalamdb_core::{Error, ErrorCode, JobKind, JobReport, Principal, Result, SegmentProblem, TableName};

use crate::database::Database;
use crate::execution::{Completion, Report};
use crate::insert::row_count;
use crate::names::placed;
use crate::session::Session;
use crate::show;
use crate::statement::{Operation, Tables};

/// The columns of the rows, known without running anything. Each may be NULL.
pub(crate) fn schema(operation: &Operation) -> SchemaRef {
    let text = |name: &'static str| (name, DataType::Utf8);
    let count = |name: &'static str| (name, DataType::Int64);
    let columns = match operation {
        Operation::Flush(_) | Operation::Compact(_) => vec![
            text("job_id"),
            text("namespace_id"),
            text("table_name"),
            count("rows"),
            count("bytes"),
            count("segments"),
        ],
        Operation::Check(_) => vec![
            text("job_id"),
            text("namespace_id"),
            text("table_name"),
            text("status"),
            text("segment_id"),
            text("path"),
            text("problem"),
            count("segments"),
            count("rows"),
            count("bytes"),
        ],
    };
    let fields: Vec<Field> = columns
        .into_iter()
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// Runs an operation; called on the query runtime. Dropped before its end, it stops what it started.
///
/// # Errors
/// TABLE_NOT_FOUND and PERMISSION_DENIED with the place of the name; those of the engine's calls. With ALL every table is
/// tried, and the failures are told at the end.
pub(crate) async fn run(database: &Arc<Database>, session: &Arc<Session>, operation: &Operation) -> Result<Report> {
    let engine = database.engine();
    let (kind, tables) = match operation {
        Operation::Flush(tables) => (JobKind::Flush, tables),
        Operation::Compact(tables) => (JobKind::Compact, tables),
        Operation::Check(tables) => (JobKind::Check, tables),
    };
    let view = engine.view();
    let principal = database.principal(&view, session)?;
    let reports = match tables {
        Tables::One(written) => {
            let name = show::find_table(session, &principal, &view, written)?.name.clone();
            drop(view);
            let report = run_one(database, &principal, &name, kind).await;
            vec![report.map_err(|error| match error.code {
                ErrorCode::PermissionDenied | ErrorCode::InvalidStatement => placed(error, written.position),
                _ => error,
            })?]
        }
        Tables::All => {
            let names = engine.maintained_tables(&view, &principal, kind)?;
            drop(view);
            run_all(database, &principal, names, kind).await?
        }
    };
    let rows = match operation {
        Operation::Flush(_) | Operation::Compact(_) => moved(schema(operation), &reports)?,
        Operation::Check(_) => checked(schema(operation), &reports)?,
    };
    Ok(Report {
        rows,
        completion: completion(kind, &reports),
    })
}

async fn run_one(
    database: &Arc<Database>,
    principal: &Principal,
    name: &TableName,
    kind: JobKind,
) -> Result<JobReport> {
    let engine = database.engine();
    match kind {
        JobKind::Flush => engine.flush_table(principal, name).await,
        JobKind::Compact => engine.compact_table(principal, name).await,
        JobKind::Check => engine.check_table(principal, name).await,
    }
}

async fn run_all(
    database: &Arc<Database>,
    principal: &Principal,
    names: Vec<TableName>,
    kind: JobKind,
) -> Result<Vec<JobReport>> {
    let mut reports = Vec::with_capacity(names.len());
    let mut failures: Vec<(&TableName, Error)> = Vec::new();
    for name in &names {
        match run_one(database, principal, name, kind).await {
            Ok(report) => reports.push(report),
            // Dropped since it was listed.
            Err(error) if error.code == ErrorCode::TableNotFound => {}
            Err(error) if error.code == ErrorCode::Unavailable => return Err(error),
            Err(error) => failures.push((name, error)),
        }
    }
    match all_failures(&failures, names.len(), reports.len()) {
        None => Ok(reports),
        Some(error) => Err(error),
    }
}

/// Tables named in one error at most.
const MOST_NAMED: usize = 20;

/// The failures of a statement about all tables: which tables they are of, and why the first of them failed.
fn all_failures(failures: &[(&TableName, Error)], tables: usize, done: usize) -> Option<Error> {
    let (_, first) = failures.first()?;
    let named: Vec<String> = failures
        .iter()
        .take(MOST_NAMED)
        .map(|(name, _)| name.to_string())
        .collect();
    let more = match failures.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let count = failures.len();
    let named = named.join(", ");
    Some(Error {
        message: format!(
            "{count} of {tables} tables failed ({named}{more}), {done} are done; the first: {}",
            first.message
        ),
        ..first.clone()
    })
}

/// A row for each table.
fn moved(schema: SchemaRef, reports: &[JobReport]) -> Result<RecordBatch> {
    let text =
        |value: fn(&JobReport) -> &str| Arc::new(StringArray::from_iter_values(reports.iter().map(value))) as ArrayRef;
    let count = |value: fn(&JobReport) -> u64| counts(reports.iter().map(value));
    batch(
        schema,
        vec![
            text(|report| &report.job_id),
            text(|report| &report.table.namespace),
            text(|report| &report.table.table),
            count(|report| report.rows),
            count(|report| report.bytes),
            count(|report| report.segments),
        ],
    )
}

/// A row for each problem of a table, or one that says that there is none. The counts are those of the whole check.
fn checked(schema: SchemaRef, reports: &[JobReport]) -> Result<RecordBatch> {
    let rows: Vec<(&JobReport, Option<&SegmentProblem>)> = reports
        .iter()
        .flat_map(|report| {
            let problems = report.problems.iter().map(move |problem| (report, Some(problem)));
            let none = report.problems.is_empty().then_some((report, None));
            problems.chain(none)
        })
        .collect();
    let text = |value: fn(&JobReport) -> &str| {
        let values = rows.iter().map(|(report, _)| value(report));
        Arc::new(StringArray::from_iter_values(values)) as ArrayRef
    };
    let problem = |value: fn(&SegmentProblem) -> Option<&str>| {
        let values = rows.iter().map(|(_, problem)| problem.and_then(value));
        Arc::new(values.collect::<StringArray>()) as ArrayRef
    };
    let count = |value: fn(&JobReport) -> u64| counts(rows.iter().map(|(report, _)| value(report)));
    let status = rows.iter().map(|(_, problem)| match problem {
        None => "ok",
        Some(_) => "damaged",
    });
    batch(
        schema,
        vec![
            text(|report| &report.job_id),
            text(|report| &report.table.namespace),
            text(|report| &report.table.table),
            Arc::new(StringArray::from_iter_values(status)),
            problem(|problem| problem.segment_id.as_deref()),
            problem(|problem| problem.path.as_deref()),
            problem(|problem| Some(&problem.problem)),
            count(|report| report.segments),
            count(|report| report.rows),
            count(|report| report.bytes),
        ],
    )
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    let signed = values.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(signed))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("rows about jobs: {error}")))
}

fn segment_count(segments: u64) -> String {
    match segments {
        1 => "1 segment".to_owned(),
        _ => format!("{segments} segments"),
    }
}

fn completion(kind: JobKind, reports: &[JobReport]) -> Completion {
    let rows: u64 = reports.iter().map(|report| report.rows).sum();
    let segments: u64 = reports.iter().map(|report| report.segments).sum();
    let (rows, message) = match kind {
        JobKind::Flush => (
            Some(rows),
            format!("{} moved into {}", row_count(rows), segment_count(segments)),
        ),
        JobKind::Compact => (
            Some(rows),
            format!("{} merged into {}", row_count(rows), segment_count(segments)),
        ),
        JobKind::Check => {
            let problems = reports.iter().flat_map(|report| &report.problems);
            let (damaged, others): (Vec<_>, Vec<_>) = problems.partition(|problem| problem.segment_id.is_some());
            let mut message = format!("{} read, {} missing or damaged", segment_count(segments), damaged.len());
            if !others.is_empty() {
                let tables = if others.len() == 1 { "table" } else { "tables" };
                message = format!(
                    "{message}; {} {tables} with other rows that cannot be read",
                    others.len()
                );
            }
            (None, message)
        }
    };
    Completion { rows, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::planning::StatementKind;
    use crate::testing::Fixture;

    fn report(table: &str, problems: Vec<SegmentProblem>) -> JobReport {
        JobReport {
            job_id: format!("job of {table}"),
            table: TableName::new("n", table),
            rows: 10,
            bytes: 100,
            segments: 3,
            problems,
        }
    }

    #[test]
    fn rows_say_what_was_done() {
        let operation = |sql: &str| match crate::statement::parse(sql) {
            Ok(crate::statement::Statement::Operation(operation)) => operation,
            other => panic!("{sql}: {other:?}"),
        };
        let reports = [report("a", Vec::new()), report("b", Vec::new())];
        let flushed = moved(schema(&operation("FLUSH TABLE n.a")), &reports).expect("rows");
        assert_eq!(
            crate::testing::texts(&flushed),
            ["job of a|n|a|10|100|3", "job of b|n|b|10|100|3"]
        );
        let problem = |segment_id: Option<&str>, path: Option<&str>| SegmentProblem {
            segment_id: segment_id.map(str::to_owned),
            path: path.map(str::to_owned),
            problem: "torn".to_owned(),
        };
        let damaged = report(
            "a",
            vec![
                problem(Some("7"), Some("db/1/7-x")),
                problem(Some("8"), None),
                problem(None, None),
            ],
        );
        let check = schema(&operation("STORAGE CHECK TABLE n.a"));
        assert_eq!(
            crate::testing::texts(&checked(Arc::clone(&check), std::slice::from_ref(&damaged)).expect("rows")),
            [
                "job of a|n|a|damaged|7|db/1/7-x|torn|3|10|100",
                "job of a|n|a|damaged|8|NULL|torn|3|10|100",
                "job of a|n|a|damaged|NULL|NULL|torn|3|10|100",
            ]
        );
        assert_eq!(
            crate::testing::texts(&checked(check, &reports[..1]).expect("rows")),
            ["job of a|n|a|ok|NULL|NULL|NULL|3|10|100"]
        );
        let message = |kind, reports: &[JobReport]| completion(kind, reports).message;
        assert_eq!(message(JobKind::Flush, &reports), "20 rows moved into 6 segments");
        assert_eq!(
            message(JobKind::Check, &reports),
            "6 segments read, 0 missing or damaged"
        );
        assert_eq!(
            message(JobKind::Check, &[damaged]),
            "3 segments read, 2 missing or damaged; 1 table with other rows that cannot be read"
        );
    }

    #[test]
    fn failures_of_a_statement_about_all_tables_name_the_tables() {
        let names: Vec<TableName> = (0..25)
            .map(|number| TableName::new("n", format!("t{number}")))
            .collect();
        let failure = |name| (name, Error::new(ErrorCode::DataCorrupted, format!("{name} is damaged")));
        let failures: Vec<_> = names.iter().map(failure).collect();
        let check = |count: usize, expected: &str| {
            let error = all_failures(&failures[..count], 30, 5).expect("some failed");
            assert_eq!(error.code, ErrorCode::DataCorrupted);
            assert!(error.message.contains(expected), "{error}");
        };
        assert_eq!(all_failures(&[], 30, 30), None);
        check(
            1,
            "1 of 30 tables failed (n.t0), 5 are done; the first: n.t0 is damaged",
        );
        check(2, "2 of 30 tables failed (n.t0, n.t1), 5");
        check(20, "n.t19), 5");
        check(25, "n.t19 and 5 more), 5");
    }

    #[test]
    fn operations_are_refused_where_they_make_no_sense() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE USER 'sue' ROLE service",
            "CREATE TABLE t (id BIGINT PRIMARY KEY)",
            "CREATE USER TABLE own (id BIGINT PRIMARY KEY)",
            "CREATE STREAM TABLE events (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 60)",
        ]);
        let (ann, sue) = (fixture.session("ann"), fixture.session("sue"));
        let check = |session: &Arc<Session>, sql: &str, code: ErrorCode, place: Option<(u64, u64)>, part: &str| {
            fixture.check_error_as(session, sql, Parameters::none(), code, place, part);
        };
        let root = &fixture.root;
        for words in [
            "FLUSH TABLE",
            "STORAGE FLUSH TABLE",
            "STORAGE COMPACT TABLE",
            "STORAGE CHECK TABLE",
        ] {
            let column = words.len() as u64 + 2;
            let at = Some((1, column));
            check(
                root,
                &format!("{words} nothing"),
                ErrorCode::TableNotFound,
                at,
                "public.nothing",
            );
            check(
                root,
                &format!("{words} system.users"),
                ErrorCode::InvalidStatement,
                at,
                "system.users",
            );
            check(
                root,
                &format!("{words} events"),
                ErrorCode::InvalidStatement,
                at,
                "STREAM",
            );
            check(&ann, &format!("{words} t"), ErrorCode::TableNotFound, at, "public.t");
            check(&ann, &format!("{words} own"), ErrorCode::PermissionDenied, at, "own");
        }
        check(
            &sue,
            "STORAGE COMPACT TABLE t",
            ErrorCode::PermissionDenied,
            Some((1, 23)),
            "t",
        );
        check(&sue, "STORAGE COMPACT ALL", ErrorCode::PermissionDenied, None, "dba");
        check(&sue, "STORAGE CHECK ALL", ErrorCode::PermissionDenied, None, "dba");
        check(&ann, "STORAGE FLUSH ALL", ErrorCode::PermissionDenied, None, "service");
        check(root, "KILL JOB 'x'", ErrorCode::NotFound, Some((1, 10)), "system.jobs");
        check(
            root,
            "FLUSH TABLE t, own",
            ErrorCode::SyntaxError,
            Some((1, 14)),
            "the end",
        );
        assert!(fixture.rows("SELECT * FROM system.jobs").is_empty());
    }

    #[test]
    fn describing_an_operation_starts_nothing() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id BIGINT PRIMARY KEY)"]);
        for sql in [
            "FLUSH TABLE t",
            "STORAGE COMPACT ALL",
            "STORAGE CHECK TABLE t",
            "STORAGE CHECK ALL",
        ] {
            let described = fixture
                .block_on(fixture.database.describe(&fixture.root, sql))
                .expect(sql);
            assert_eq!(described.kind, StatementKind::Operation, "{sql}");
            assert_eq!(described.result.field(0).name(), "job_id", "{sql}");
        }
        assert!(fixture.rows("SHOW JOBS").is_empty());
        fixture.check_error(
            "EXPLAIN FLUSH TABLE t",
            ErrorCode::SyntaxError,
            Some((1, 9)),
            "to explain",
        );
    }
}
