//! Rows of the `system` tables that show the running server: jobs, sessions, queries, transactions, segments, settings.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use kalamdb_core::{
    Error, ErrorCode, JobSnapshot, Principal, Result, SYSTEM_NAMESPACE, SegmentInfo, SystemRowFilter, SystemTable,
    TableName, View,
};

use crate::database::{Database, Setting};
use crate::queries::QuerySnapshot;
use crate::session::SessionSnapshot;

/// The rows of a table that is not stored, as `principal` may see them in `view`, all columns in order.
///
/// # Errors
/// STORAGE_ERROR when the list of segments cannot be read; INTERNAL if the columns made here are not those of the catalog, or for a table whose rows are stored.
pub(crate) fn rows(
    database: &Arc<Database>,
    principal: &Principal,
    view: &View,
    table: SystemTable,
) -> Result<RecordBatch> {
    let name = TableName::new(SYSTEM_NAMESPACE, table.name());
    let schema = match view.catalog().table(&name) {
        Some(entry) => Arc::clone(&entry.schema.arrow),
        None => return Err(Error::new(ErrorCode::Internal, format!("{name} is not in the catalog"))),
    };
    let columns = match table {
        SystemTable::Sessions => {
            let mut all = database.sessions();
            all.retain(|session| is_not_of_a_namesake(&session.owner, principal));
            sessions(&all)
        }
        SystemTable::Queries => {
            let mut all = database.queries();
            all.retain(|query| {
                let owner = query.owner.as_ref();
                owner.is_none_or(|owner| is_not_of_a_namesake(owner, principal))
            });
            queries(&all)
        }
        SystemTable::Settings => settings(&database.options().settings),
        SystemTable::Jobs => jobs(&database.engine().job_snapshots()),
        SystemTable::Segments => segments(&view.segments()?),
        // Transactions come with a later version; until then there are none.
        SystemTable::Transactions => {
            return SystemRowFilter::new(table, principal, view.catalog()).apply(&RecordBatch::new_empty(schema));
        }
        SystemTable::Users
        | SystemTable::Namespaces
        | SystemTable::Tables
        | SystemTable::TableSchemas
        | SystemTable::Storages
        | SystemTable::LiveQueries
        | SystemTable::Grants
        | SystemTable::Quotas => {
            return Err(Error::new(
                ErrorCode::Internal,
                format!("the rows of {name} are stored"),
            ));
        }
    };
    let batch = RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("rows of {name}: {error}")))?;
    SystemRowFilter::new(table, principal, view.catalog()).apply(&batch)
}

/// The filter by user id that follows cannot tell a user from a dropped one who had the same name.
fn is_not_of_a_namesake(owner: &Principal, reader: &Principal) -> bool {
    owner.user_id != reader.user_id || owner.scope == reader.scope
}

fn sessions(all: &[SessionSnapshot]) -> Vec<ArrayRef> {
    vec![
        text(all.iter().map(|session| Some(session.session_id.as_str()))),
        text(all.iter().map(|session| Some(session.user_id.as_str()))),
        text(all.iter().map(|session| known(&session.peer))),
        text(all.iter().map(|session| known(&session.client))),
        times(all.iter().map(|session| Some(session.created_at_micros))),
        times(all.iter().map(|session| Some(session.last_active_at_micros))),
    ]
}

fn queries(all: &[QuerySnapshot]) -> Vec<ArrayRef> {
    vec![
        text(all.iter().map(|query| Some(query.query_id.as_str()))),
        text(all.iter().map(|query| known(&query.session_id))),
        text(all.iter().map(|query| Some(query.user_id.as_str()))),
        text(all.iter().map(|query| Some(query.executed_as.as_str()))),
        text(all.iter().map(|query| Some(query.statement.as_str()))),
        text(all.iter().map(|query| Some(query.status.as_str()))),
        milliseconds(all.iter().map(|query| query.plan_micros)),
        milliseconds(all.iter().map(|query| query.execute_micros)),
        counts(all.iter().map(|query| Some(query.rows))),
        counts(all.iter().map(|query| Some(query.bytes))),
        counts(all.iter().map(|query| query.peak_memory_bytes)),
        text(all.iter().map(|query| query.error_code)),
        times(all.iter().map(|query| Some(query.started_at_micros))),
        times(all.iter().map(|query| query.finished_at_micros)),
    ]
}

fn jobs(all: &[JobSnapshot]) -> Vec<ArrayRef> {
    vec![
        text(all.iter().map(|job| Some(job.job_id.as_str()))),
        text(all.iter().map(|job| Some(job.kind.as_str()))),
        text(all.iter().map(|job| Some(job.table_id.as_str()))),
        text(all.iter().map(|job| Some(job.status.as_str()))),
        Arc::new(all.iter().map(|job| job.progress).collect::<Float64Array>()),
        counts(all.iter().map(|job| Some(job.rows))),
        counts(all.iter().map(|job| Some(job.bytes))),
        text(all.iter().map(|job| job.error.as_deref())),
        times(all.iter().map(|job| Some(job.created_at_micros))),
        times(all.iter().map(|job| job.started_at_micros)),
        times(all.iter().map(|job| job.finished_at_micros)),
    ]
}

fn segments(all: &[SegmentInfo]) -> Vec<ArrayRef> {
    let numbers = |values: Vec<u64>| Arc::new(UInt64Array::from(values)) as ArrayRef;
    vec![
        text(all.iter().map(|segment| Some(segment.segment_id.as_str()))),
        text(all.iter().map(|segment| Some(segment.table_id.as_str()))),
        text(all.iter().map(|segment| Some(segment.path.as_str()))),
        counts(all.iter().map(|segment| Some(u64::from(segment.run)))),
        counts(all.iter().map(|segment| Some(segment.rows))),
        counts(all.iter().map(|segment| Some(segment.deleted_rows))),
        counts(all.iter().map(|segment| Some(segment.size_bytes))),
        numbers(all.iter().map(|segment| segment.min_seq).collect()),
        numbers(all.iter().map(|segment| segment.max_seq).collect()),
        text(all.iter().map(|segment| Some(segment.checksum.as_str()))),
        times(all.iter().map(|segment| Some(segment.created_at_micros))),
    ]
}

fn settings(all: &[Setting]) -> Vec<ArrayRef> {
    vec![
        text(all.iter().map(|setting| Some(setting.name.as_str()))),
        text(all.iter().map(|setting| Some(setting.value.as_str()))),
        text(all.iter().map(|setting| known(&setting.unit))),
        text(all.iter().map(|setting| Some(setting.default.as_str()))),
        text(all.iter().map(|setting| Some(setting.source.as_str()))),
        text(all.iter().map(|setting| Some(setting.description.as_str()))),
    ]
}

/// Empty text stands for "unknown" where it comes from.
fn known(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let signed = values.map(|value| value.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
    Arc::new(signed.collect::<Int64Array>())
}

fn milliseconds(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    // Times of queries are far below 2^53 microseconds.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let milliseconds = micros.map(|micros| micros.map(|micros| micros as f64 / 1_000.0));
    Arc::new(milliseconds.collect::<Float64Array>())
}

fn times(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    #[test]
    fn the_running_server_shows_by_role() {
        let fixture = Fixture::with(|options| {
            options.settings.push(Setting {
                name: "statement_timeout".into(),
                value: "0".into(),
                unit: "ms".into(),
                default: "300000".into(),
                source: "flag".into(),
                description: "A statement's time.".into(),
            });
        });
        fixture.run(&["CREATE USER 'ann' ROLE user"]);
        let ann = fixture.session("ann");
        let rows = |session, sql: &str| fixture.rows_as(session, sql, Parameters::none());
        assert_eq!(rows(&ann, "SELECT user_id FROM system.sessions"), ["ann"]);
        assert_eq!(
            rows(&fixture.root, "SELECT user_id FROM system.sessions ORDER BY user_id"),
            ["ann", "root"]
        );
        let own = rows(&ann, "SELECT DISTINCT user_id, executed_as FROM system.queries");
        assert_eq!(own, ["ann|ann"]);
        let running = "SELECT status, statement, error_code FROM system.queries WHERE status = 'running'";
        assert_eq!(
            rows(&ann, running),
            ["running|SELECT status, statement, error_code FROM system.queries WHERE status = $1|NULL"]
        );
        assert!(rows(&ann, "SELECT * FROM system.settings").is_empty());
        let settings = "SELECT name, value, unit, \"default\", source FROM system.settings";
        assert_eq!(rows(&fixture.root, settings), ["statement_timeout|0|ms|300000|flag"]);
        for table in ["transactions", "segments"] {
            assert!(rows(&fixture.root, &format!("SELECT * FROM system.{table}")).is_empty());
        }
    }
}
