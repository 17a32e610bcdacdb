//! The threads that flush, and as many that compact and check: a bounded number, so that this work takes a bounded part of the
//! machine, and none of them a runtime's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use kalamdb_store::{Checked, Progress, SegmentOptions, Store, StoreError, StoreId};
use parking_lot::Mutex;

use crate::catalog::{Catalog, Table};
use crate::clock::Clock;
use crate::error::{Error, ErrorCode, Result};
use crate::hot_limit::HeldWriters;
use crate::job_queue::{Jobs, Next};
use crate::job_rows;
use crate::jobs::{Job, JobReport, Lane, SegmentProblem, Work};
use crate::priority::give_way;
use crate::storages;

/// The threads. Dropping them cancels what runs and waits until they ended.
pub(crate) struct Movers {
    jobs: Arc<Jobs>,
    threads: Vec<JoinHandle<()>>,
}

/// What each of them knows.
struct Mover {
    lane: Lane,
    store: Arc<Store<Catalog>>,
    clock: Arc<dyn Clock>,
    jobs: Arc<Jobs>,
    held: Arc<HeldWriters>,
    /// Who saves holds it, so that an older state of a job is not written over a newer one.
    saving: Arc<Mutex<()>>,
}

impl Movers {
    /// Starts `count` threads of each lane.
    ///
    /// # Errors
    /// STORAGE_ERROR when the machine gives no thread.
    pub(crate) fn start(
        count: usize,
        store: &Arc<Store<Catalog>>,
        clock: &Arc<dyn Clock>,
        jobs: &Arc<Jobs>,
        held: &Arc<HeldWriters>,
    ) -> Result<Self> {
        let saving = Arc::new(Mutex::new(()));
        let mut movers = Movers {
            jobs: jobs.clone(),
            threads: Vec::with_capacity(Lane::ALL.len() * count),
        };
        for (lane, number) in Lane::ALL
            .into_iter()
            .flat_map(|lane| (1..=count).map(move |number| (lane, number)))
        {
            let mover = Mover {
                lane,
                store: store.clone(),
                clock: clock.clone(),
                jobs: jobs.clone(),
                held: held.clone(),
                saving: saving.clone(),
            };
            // Linux shows 15 characters.
            let what = match lane {
                Lane::Flush => "flush",
                Lane::Segments => "mover",
            };
            let thread = std::thread::Builder::new()
                .name(format!("kalamdb-{what}-{number}"))
                .spawn(move || {
                    give_way();
                    mover.run();
                });
            movers.threads.push(thread.map_err(|error| {
                Error::new(ErrorCode::StorageError, format!("a thread cannot be started: {error}"))
            })?);
        }
        Ok(movers)
    }
}

impl Drop for Movers {
    fn drop(&mut self) {
        self.jobs.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a mover panicked outside of its work");
            }
        }
    }
}

impl Mover {
    fn run(self) {
        loop {
            match self.jobs.next(self.lane) {
                Next::Run(job) => self.run_job(&job),
                Next::Save => self.save(),
                Next::Stop => return,
            }
        }
    }

    fn run_job(&self, job: &Arc<Job>) {
        self.save();
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(job)));
        let outcome = worked.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorCode::Internal,
                format!(
                    "the {} of table {} failed because of a bug in KalamDB; the server's log says more",
                    job.work.kind().as_str(),
                    job.table_name
                ),
            ))
        });
        let (job_id, kind, table) = (&job.job_id, job.work.kind().as_str(), &job.table_name);
        match &outcome {
            Ok(report) => {
                tracing::debug!(job_id, kind, %table, rows = report.rows, bytes = report.bytes, "a job finished");
            }
            Err(error) => tracing::warn!(job_id, kind, %table, error = %error.for_log(), "a job did not finish"),
        }
        self.jobs.end(job, &outcome);
        // Kept first: who was told of a job finds it, after a crash too.
        self.save();
        job.answer(outcome);
        self.held.look_again(&job.table_id);
    }

    fn work(&self, job: &Job) -> Result<JobReport> {
        let (table, options) = self.prepare(job)?;
        let (target, schema) = (table.store, &table.schema.stored);
        let watched = Watched {
            job,
            #[cfg(test)]
            jobs: &self.jobs,
            store: &self.store,
            target,
        };
        let moved = match job.work {
            Work::Flush => self.store.flush(target, schema, &options, &watched),
            Work::CompactAsNeeded => self.store.compact(target, schema, &options, false, &watched),
            Work::CompactFully => self.store.compact(target, schema, &options, true, &watched),
            Work::Check => {
                let checked = self.store.check(target, schema, &watched);
                let checked = checked.map_err(|error| self.failure(job, &table, error))?;
                return self.checked_report(job, &table, checked);
            }
        };
        let moved = moved.map_err(|error| self.failure(job, &table, error))?;
        Ok(JobReport {
            job_id: job.job_id.clone(),
            table: table.name.clone(),
            rows: moved.rows,
            bytes: moved.bytes,
            segments: moved.segments,
            problems: Vec::new(),
        })
    }

    /// The table as it is now. No state is held on to: it would keep rows and files that the work is about to replace.
    fn prepare(&self, job: &Job) -> Result<(Arc<Table>, SegmentOptions)> {
        let state = self.store.state();
        let catalog = state.catalog();
        // The name may be another's by now, the id never.
        let table = catalog.tables.values().find(|table| table.table_id == job.table_id);
        let table = table.ok_or_else(|| {
            Error::new(
                ErrorCode::TableNotFound,
                format!("table {} was dropped meanwhile", job.table_name),
            )
        })?;
        let options = storages::segment_options(&state, table)?;
        match job.work {
            Work::Flush => {
                let usage = self.store.hot_usage(table.store);
                job.expect_rows(usage.rows + usage.sealed_rows);
            }
            Work::CompactFully | Work::Check => {
                let segments = state.segments(table.store)?;
                let cold: u64 = segments.iter().map(|(segment, _)| u64::from(segment.rows)).sum();
                let usage = self.store.hot_usage(table.store);
                let hot = if job.work == Work::Check {
                    usage.rows + usage.sealed_rows
                } else {
                    0
                };
                job.expect_rows(cold + hot);
            }
            // How much of it is worth merging is the store's to say, merge by merge.
            Work::CompactAsNeeded => {}
        }
        Ok((table.clone(), options))
    }

    fn checked_report(&self, job: &Job, table: &Table, checked: Checked) -> Result<JobReport> {
        let mut problems = Vec::with_capacity(checked.problems.len());
        if !checked.problems.is_empty() {
            let segments = self.store.state().segments(table.store)?;
            for (segment_id, problem) in checked.problems {
                let entry = segments.iter().find(|(entry, _)| Some(entry.segment) == segment_id);
                problems.push(SegmentProblem {
                    segment_id: segment_id.map(|segment| segment.to_string()),
                    path: entry.map(|(entry, _)| entry.path.clone()),
                    problem,
                });
            }
        }
        Ok(JobReport {
            job_id: job.job_id.clone(),
            table: table.name.clone(),
            rows: checked.rows,
            bytes: checked.bytes,
            segments: checked.segments,
            problems,
        })
    }

    /// The error of work that ended early, in a person's words.
    fn failure(&self, job: &Job, table: &Table, error: StoreError) -> Error {
        match (error, job.cancelled()) {
            (StoreError::Cancelled, Some(reason)) => Error::new(ErrorCode::Cancelled, reason),
            // It was told to stop because its table is gone.
            (StoreError::Cancelled | StoreError::Retired(_), _) => Error::gone(table, self.store.state().catalog()),
            (error, _) => {
                let error = Error::from(error);
                let what = job.work.kind().as_str();
                Error {
                    message: format!("the {what} of table {} failed: {}", table.name, error.message),
                    ..error
                }
            }
        }
    }

    fn save(&self) {
        let _one_at_a_time = self.saving.lock();
        let jobs = self.jobs.take_unsaved();
        if jobs.is_empty() {
            return;
        }
        if let Err(error) = job_rows::save(&self.store, &jobs, self.clock.now_micros()) {
            tracing::warn!(%error, "system.jobs will not be complete after a restart");
        }
    }
}

/// A job as its work sees it.
struct Watched<'a> {
    job: &'a Job,
    #[cfg(test)]
    jobs: &'a Jobs,
    store: &'a Store<Catalog>,
    target: StoreId,
}

impl Progress for Watched<'_> {
    fn expect(&self, rows: u64) {
        self.job.expect_rows(rows);
    }

    fn advance(&self, rows: u64, bytes: u64) {
        self.job.advance(rows, bytes);
        #[cfg(test)]
        self.jobs.moved(self.job.work.kind());
    }

    fn cancelled(&self) -> bool {
        // What was dropped or truncated needs no more work.
        self.job.cancelled().is_some() || self.store.state().table(self.target).is_none()
    }
}
