//! The rows of `system.jobs` in the store: the last jobs, so that they are there after a restart. While the process lives,
//! `jobs` knows more.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use futures::executor::block_on;
use kalamdb_store::{CommitError, DbState, Put, PutKey, Removal, RowEncoder, ScopeId, Store, TableClaim, WriteRequest};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::jobs::{JobKind, JobSnapshot, JobStatus};
use crate::system_rows::{key_of, optional_text, optional_time, read_all, text, time};
use crate::system_schema::SystemTable;

/// Times that a save looks the rows up again because very much was committed meanwhile.
const ATTEMPTS: usize = 4;

/// The columns of a job's row.
pub(crate) fn job_row(job: &JobSnapshot) -> Vec<ArrayRef> {
    let count = |value: u64| Arc::new(Int64Array::from(vec![i64::try_from(value).unwrap_or(i64::MAX)])) as ArrayRef;
    vec![
        text(&job.job_id),
        text(job.kind.as_str()),
        text(&job.table_id),
        text(job.status.as_str()),
        Arc::new(Float64Array::from(vec![job.progress])),
        count(job.rows),
        count(job.bytes),
        optional_text(job.error.as_deref()),
        time(job.created_at_micros),
        optional_time(job.started_at_micros),
        optional_time(job.finished_at_micros),
    ]
}

/// The jobs that were kept, oldest first.
pub(crate) fn load(state: &Arc<DbState<Catalog>>) -> Result<Vec<JobSnapshot>> {
    let mut jobs = Vec::new();
    if state.table(SystemTable::Jobs.store()).is_none() {
        return Ok(jobs);
    }
    read_all(state, SystemTable::Jobs, |rows, row| {
        let kind = rows.text("job_type", row)?;
        let status = rows.text("status", row)?;
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        jobs.push(JobSnapshot {
            job_id: rows.text("job_id", row)?.to_owned(),
            kind: JobKind::parse(kind).ok_or_else(|| rows.corrupt("job_type", kind))?,
            table_id: rows.optional_text("table_id", row)?.unwrap_or_default().to_owned(),
            status: JobStatus::parse(status).ok_or_else(|| rows.corrupt("status", status))?,
            progress: rows.optional_number::<Float64Type>("progress", row)?,
            rows: count(rows.optional_number::<Int64Type>("rows", row)?),
            bytes: count(rows.optional_number::<Int64Type>("bytes", row)?),
            error: rows.optional_text("error", row)?.map(str::to_owned),
            created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
            started_at_micros: rows.optional_number::<TimestampMicrosecondType>("started_at", row)?,
            finished_at_micros: rows.optional_number::<TimestampMicrosecondType>("finished_at", row)?,
        });
        Ok(())
    })?;
    // Ids sort by time to the millisecond only.
    jobs.sort_by(|a, b| (a.created_at_micros, &a.job_id).cmp(&(b.created_at_micros, &b.job_id)));
    Ok(jobs)
}

/// Writes rows over those with their ids, and removes those that are `None`. Blocks until that is durable.
pub(crate) fn save(
    store: &Store<Catalog>,
    jobs: &BTreeMap<String, Option<JobSnapshot>>,
    now_micros: i64,
) -> Result<()> {
    let table = SystemTable::Jobs.table();
    let encoder = RowEncoder::new(table.schema.stored.clone())?;
    let (store_id, scope) = (table.store, ScopeId::GLOBAL);
    let mut keys = Vec::with_capacity(jobs.len());
    let mut puts = Vec::with_capacity(jobs.len());
    for (job_id, job) in jobs {
        let key = key_of(&table.schema.stored, &[text(job_id)])?;
        if let Some(job) = job {
            puts.push(Put {
                store: store_id,
                scope,
                key: PutKey::Key(key.clone()),
                value: encoder.encode(&job_row(job), 0, None)?,
            });
        }
        keys.push(key);
    }
    let mut attempt = 1;
    loop {
        let state = store.state();
        let found = state.find_all(&table.schema.stored, store_id, scope, &keys)?;
        let removals = keys.iter().zip(found).filter_map(|(key, found)| {
            found.map(|found| Removal {
                store: store_id,
                scope,
                key: key.clone(),
                location: found.location,
                seq: found.row.seq,
            })
        });
        let request = WriteRequest {
            validated_at: state.seq(),
            tables: vec![TableClaim {
                store: store_id,
                schema_version: table.schema.version,
                scope,
                exclusive: false,
            }],
            removals: removals.collect(),
            puts: puts.clone(),
            now_micros,
        };
        match block_on(store.commit(request)) {
            Ok(_) => return Ok(()),
            Err(CommitError::Stale | CommitError::Conflict) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Database;

    #[test]
    fn rows_of_jobs_make_the_round_trip() {
        let db = Database::new();
        let full = JobSnapshot {
            job_id: "01".to_owned(),
            kind: JobKind::Compact,
            table_id: "7".to_owned(),
            status: JobStatus::Failed,
            progress: Some(0.5),
            rows: 3,
            bytes: 4,
            error: Some("no space".to_owned()),
            created_at_micros: 5,
            started_at_micros: Some(6),
            finished_at_micros: Some(7),
        };
        let bare = JobSnapshot {
            job_id: "02".to_owned(),
            kind: JobKind::Flush,
            status: JobStatus::Queued,
            progress: None,
            error: None,
            started_at_micros: None,
            finished_at_micros: None,
            ..full.clone()
        };
        let kept_after = |jobs: &[(&str, Option<&JobSnapshot>)]| {
            let jobs = jobs.iter().map(|(id, job)| ((*id).to_owned(), job.cloned())).collect();
            save(db.engine.store(), &jobs, 8).expect("saved");
            load(&db.engine.store().state()).expect("loads")
        };
        assert_eq!(
            kept_after(&[("01", Some(&full)), ("02", Some(&bare))]),
            [full.clone(), bare.clone()]
        );
        let finished = JobSnapshot {
            status: JobStatus::Finished,
            ..bare
        };
        assert_eq!(
            kept_after(&[("01", None), ("02", Some(&finished)), ("03", None)]),
            [finished]
        );
    }
}
