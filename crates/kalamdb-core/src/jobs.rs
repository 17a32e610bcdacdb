//! One job: what flushes, compacts or checks a table, from being asked for to its end. Its place among the others is in
//! `job_queue`, who does the work in `movers`, how it outlives the process in `job_rows`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::channel::oneshot;
use parking_lot::Mutex;

use crate::catalog::{Table, TableName};
use crate::error::{ErrorCode, Result};
use crate::rights::Action;

/// Why a job was cancelled, as `system.jobs` shows it.
pub(crate) const KILLED: &str = "cancelled by KILL JOB";
pub(crate) const ABANDONED: &str = "the statement that asked for it was cancelled";
pub(crate) const STOPPED: &str = "the server stopped";

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Moves hot rows into segments.
    Flush,
    /// Merges segments.
    Compact,
    /// Verifies segments.
    Check,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for a thread, or for another job of its table: a flush for a flush, others for others.
    Queued,
    /// It runs.
    Running,
    /// It did what it should.
    Finished,
    /// It did not, and changed nothing.
    Failed,
    /// It was told to stop, and changed nothing.
    Cancelled,
}

/// A job as `system.jobs` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSnapshot {
    /// A ULID: ids of one run of the server sort as they were given.
    pub job_id: String,
    /// What it does.
    pub kind: JobKind,
    /// To which table.
    pub table_id: String,
    /// How far it is.
    pub status: JobStatus,
    /// From 0 to 1, where that is known.
    pub progress: Option<f64>,
    /// Rows moved or read so far.
    pub rows: u64,
    /// Bytes written or read so far.
    pub bytes: u64,
    /// Why it failed or was cancelled, or what a check found.
    pub error: Option<String>,
    /// When it was asked for, µs.
    pub created_at_micros: i64,
    /// When it began to run, µs.
    pub started_at_micros: Option<i64>,
    /// When it ended, µs.
    pub finished_at_micros: Option<i64>,
}

/// What a job did, for whoever waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// The job.
    pub job_id: String,
    /// The table.
    pub table: TableName,
    /// Rows moved or read.
    pub rows: u64,
    /// Bytes written or read.
    pub bytes: u64,
    /// Segments written or read.
    pub segments: u64,
    /// What a check found, in no particular order.
    pub problems: Vec<SegmentProblem>,
}

/// A segment that is missing or damaged, or what is wrong with rows that are in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentProblem {
    /// Which, if it is a segment.
    pub segment_id: Option<String>,
    /// Its file, in its storage; unknown if it went meanwhile.
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// What a job is to do, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Flush,
    /// As far as it is worth it.
    CompactAsNeeded,
    /// Into one run.
    CompactFully,
    Check,
}

/// Which threads do it. Those that flush do nothing else: writers may be waiting, and what goes over segments may take hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Flushes.
    Flush,
    /// Compactions and checks.
    Segments,
}

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Lane; 2] = [Lane::Flush, Lane::Segments];
}

impl JobKind {
    /// Its name in `system.jobs`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::Flush => "flush",
            JobKind::Compact => "compact",
            JobKind::Check => "check",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<JobKind> {
        [JobKind::Flush, JobKind::Compact, JobKind::Check]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// The right that it takes to start or stop one.
    pub(crate) fn action(self) -> Action {
        match self {
            JobKind::Flush => Action::Flush,
            JobKind::Compact | JobKind::Check => Action::Maintain,
        }
    }
}

impl JobStatus {
    /// Its name in `system.jobs`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Finished => "finished",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<JobStatus> {
        [
            JobStatus::Queued,
            JobStatus::Running,
            JobStatus::Finished,
            JobStatus::Failed,
            JobStatus::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }
}

impl Work {
    pub(crate) fn kind(self) -> JobKind {
        match self {
            Work::Flush => JobKind::Flush,
            Work::CompactAsNeeded | Work::CompactFully => JobKind::Compact,
            Work::Check => JobKind::Check,
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Work::Flush => Lane::Flush,
            Work::CompactAsNeeded | Work::CompactFully | Work::Check => Lane::Segments,
        }
    }
}

/// A job that has not ended.
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) work: Work,
    pub(crate) table_id: String,
    /// When it was asked for.
    pub(crate) table_name: TableName,
    created_at_micros: i64,
    started_at_micros: OnceLock<i64>,
    /// How many rows there are to move or read, if that is known.
    /// None, as long as nobody knows how many.
    expected_rows: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Why it shall stop.
    cancelled: OnceLock<&'static str>,
    answer: Mutex<Option<oneshot::Sender<Result<JobReport>>>>,
}

impl Job {
    /// A job that waits; `answer` is for its outcome, if anyone wants it.
    pub(crate) fn new(
        job_id: String,
        work: Work,
        table: &Table,
        created_at_micros: i64,
        answer: Option<oneshot::Sender<Result<JobReport>>>,
    ) -> Self {
        Job {
            job_id,
            work,
            table_id: table.table_id.clone(),
            table_name: table.name.clone(),
            created_at_micros,
            started_at_micros: OnceLock::new(),
            expected_rows: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            cancelled: OnceLock::new(),
            answer: Mutex::new(answer),
        }
    }

    /// It runs from now on.
    pub(crate) fn start(&self, now_micros: i64) {
        self.started_at_micros
            .get_or_init(|| now_micros.max(self.created_at_micros));
    }

    pub(crate) fn advance(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many rows more are to be done.
    pub(crate) fn expect_rows(&self, rows: u64) {
        self.expected_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Why it shall stop, if it shall.
    pub(crate) fn cancelled(&self) -> Option<&'static str> {
        self.cancelled.get().copied()
    }

    /// The first reason counts.
    pub(crate) fn cancel(&self, reason: &'static str) {
        self.cancelled.get_or_init(|| reason);
    }

    /// As it is now, not ended.
    pub(crate) fn snapshot(&self) -> JobSnapshot {
        let started_at_micros = self.started_at_micros.get().copied();
        let rows = self.rows.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
        let progress = match (started_at_micros, self.expected_rows.load(Ordering::Relaxed)) {
            (Some(_), expected) if expected > 0 => Some((rows as f64 / expected as f64).min(1.0)),
            _ => None,
        };
        JobSnapshot {
            job_id: self.job_id.clone(),
            kind: self.work.kind(),
            table_id: self.table_id.clone(),
            status: match started_at_micros {
                None => JobStatus::Queued,
                Some(_) => JobStatus::Running,
            },
            progress,
            rows,
            bytes: self.bytes.load(Ordering::Relaxed),
            error: None,
            created_at_micros: self.created_at_micros,
            started_at_micros,
            finished_at_micros: None,
        }
    }

    /// As it ended.
    pub(crate) fn ended(&self, outcome: &Result<JobReport>, now_micros: i64) -> JobSnapshot {
        let running = self.snapshot();
        let finished_at_micros = Some(now_micros.max(self.created_at_micros));
        match outcome {
            Ok(report) => JobSnapshot {
                status: JobStatus::Finished,
                progress: Some(1.0),
                rows: report.rows,
                bytes: report.bytes,
                error: found(report),
                finished_at_micros,
                ..running
            },
            Err(error) => JobSnapshot {
                status: match error.code {
                    ErrorCode::Cancelled => JobStatus::Cancelled,
                    _ => JobStatus::Failed,
                },
                error: Some(error.message.clone()),
                finished_at_micros,
                ..running
            },
        }
    }

    /// Tells who waits for it how it ended.
    pub(crate) fn answer(&self, outcome: Result<JobReport>) {
        if let Some(answer) = self.answer.lock().take() {
            // A statement that was cancelled does not want it.
            answer.send(outcome).ok();
        }
    }
}

/// What a check found, in a sentence.
fn found(report: &JobReport) -> Option<String> {
    let first = report.problems.first()?;
    let damaged = report.problems.iter().filter(|problem| problem.segment_id.is_some());
    Some(match &first.segment_id {
        Some(segment_id) => format!(
            "{} of {} segments are missing or damaged, the first: {segment_id}: {}",
            damaged.count(),
            report.segments,
            first.problem
        ),
        None => first.problem.clone(),
    })
}
