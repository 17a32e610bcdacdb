//! FLUSH, COMPACT and CHECK as statements ask for them, jobs as people see and stop them, and the bounds of all that.

use std::sync::Arc;

use crate::access::Principal;
use crate::catalog::{Table, TableName};
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::job_queue::{Jobs, stopping};
use crate::jobs::{ABANDONED, Job, JobKind, JobReport, JobSnapshot, KILLED, Work};
use crate::rights::Task;
use crate::storages;
use crate::table_kind::TableKind;

/// The bounds of what runs in the background, and of what it falls behind with.
#[derive(Clone, Debug)]
pub struct MaintenanceOptions {
    /// Threads that flush, and as many that compact and check, for all tables together; at least one.
    pub mover_threads: usize,
    /// Bytes of hot rows that a table may have, those that a flush is moving included. From half of it on it is flushed whatever
    /// its policy, and at all of it its writers wait.
    pub hot_limit_bytes: u64,
    /// How long they wait, milliseconds.
    pub hot_limit_wait_ms: u64,
    /// Jobs that ended and are still shown.
    pub job_history: usize,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        MaintenanceOptions {
            mover_threads: 1,
            // A flush of half of it takes seconds, and a read seldom has more than it to go through row by row.
            hot_limit_bytes: 256 << 20,
            hot_limit_wait_ms: 30_000,
            job_history: 1_000,
        }
    }
}

impl Engine {
    /// Moves the rows that are hot now into segments and waits until that is published. Dropped before, it stops.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND, PERMISSION_DENIED, INVALID_STATEMENT for a table that never has segments; CANCELLED by KILL JOB;
    /// CONFLICT if the table was truncated meanwhile; STORAGE_ERROR. Whatever it is, no row is lost.
    pub async fn flush_table(&self, principal: &Principal, name: &TableName) -> Result<JobReport> {
        self.run_job(principal, name, Work::Flush).await
    }

    /// Merges a table's segments into one run, deleted rows left out, and waits until that is published.
    ///
    /// # Errors
    /// As [`Engine::flush_table`].
    pub async fn compact_table(&self, principal: &Principal, name: &TableName) -> Result<JobReport> {
        self.run_job(principal, name, Work::CompactFully).await
    }

    /// Verifies every segment of a table; what it finds is no error but in the report.
    ///
    /// # Errors
    /// As [`Engine::flush_table`].
    pub async fn check_table(&self, principal: &Principal, name: &TableName) -> Result<JobReport> {
        self.run_job(principal, name, Work::Check).await
    }

    /// The tables to which `principal` may do `kind`, by name.
    ///
    /// # Errors
    /// PERMISSION_DENIED if the role may do it to none at all.
    pub fn maintained_tables(&self, view: &View, principal: &Principal, kind: JobKind) -> Result<Vec<TableName>> {
        principal.require(match kind {
            JobKind::Flush => Task::FlushAll,
            JobKind::Compact => Task::CompactAll,
            JobKind::Check => Task::CheckAll,
        })?;
        let tables = view.catalog().tables.values().filter(|table| table.kind.flushes());
        let allowed = tables.filter(|table| principal.check(kind.action(), table).is_ok());
        Ok(allowed.map(|table| table.name.clone()).collect())
    }

    /// Jobs: the last that ended, those that run, and those that wait. Who may see which is for the caller to filter.
    pub fn job_snapshots(&self) -> Vec<JobSnapshot> {
        self.jobs().snapshot()
    }

    /// How many jobs wait or run.
    pub fn active_jobs(&self) -> usize {
        self.jobs().active()
    }

    /// KILL JOB: for whoever might have started it. It ends soon, and nothing of it stays.
    ///
    /// # Errors
    /// NOT_FOUND if no such job waits or runs, or if the principal sees none; PERMISSION_DENIED.
    pub fn cancel_job(&self, principal: &Principal, job_id: &str) -> Result<()> {
        let missing = || {
            Error::new(
                ErrorCode::NotFound,
                format!("no job '{job_id}' waits or runs; system.jobs lists them"),
            )
        };
        let job = self.jobs().find(job_id).ok_or_else(missing)?;
        let view = self.view();
        let table = view
            .catalog()
            .tables
            .values()
            .find(|table| table.table_id == job.table_id);
        match table {
            Some(table) if principal.may_do(Task::KillJob) && principal.sees(table) => {
                principal.check(job.work.kind().action(), table)?;
            }
            // Its table was dropped and it is about to notice.
            None if principal.may_do(Task::KillJobOfDroppedTable) => {}
            Some(_) | None => return Err(missing()),
        }
        if self.jobs().cancel(job_id, KILLED) {
            Ok(())
        } else {
            Err(missing())
        }
    }

    /// Cancels all jobs and starts none any more, and lets held writers go with UNAVAILABLE: part of stopping the server.
    pub fn stop_maintenance(&self) {
        self.jobs().stop();
        self.held().stop();
    }

    async fn run_job(&self, principal: &Principal, name: &TableName, work: Work) -> Result<JobReport> {
        let kind = work.kind();
        let view = self.view();
        let table = view.catalog().table(name).filter(|table| principal.sees(table));
        let table = table.ok_or_else(|| Error::table_not_found(name))?.clone();
        refuse_without_segments(&table, kind)?;
        principal.check(kind.action(), &table)?;
        storages::check(&view.state, name, &table.options.storage)?;
        // Not held while waiting: what the job replaces could not go.
        drop(view);
        let (job, outcome) = self.jobs().submit(work, &table)?;
        let mut asked = Asked {
            jobs: self.jobs(),
            job: Some(job),
        };
        let outcome = outcome.await;
        asked.job = None;
        // No answer means that the threads are gone.
        outcome.unwrap_or_else(|_| Err(stopping()))
    }
}

/// A job that a statement waits for: it stops with it.
struct Asked<'a> {
    jobs: &'a Arc<Jobs>,
    job: Option<Arc<Job>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            self.jobs.cancel(&job.job_id, ABANDONED);
        }
    }
}

fn refuse_without_segments(table: &Table, kind: JobKind) -> Result<()> {
    let reason = match table.kind {
        TableKind::Shared | TableKind::User => return Ok(()),
        TableKind::System => "the database's own tables are never moved into segments",
        TableKind::Stream => "rows of STREAM tables are gone before they would be moved into segments",
    };
    Err(Error::new(
        ErrorCode::InvalidStatement,
        format!(
            "there is nothing to {} in table {}: {reason}",
            kind.as_str(),
            table.name
        ),
    ))
}
