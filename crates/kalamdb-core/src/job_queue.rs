//! The queue of jobs: which run next, which failed lately, and which ended and are still shown. What starts by itself is decided
//! in `scheduler`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};
use ulid::Ulid;

use crate::catalog::Table;
use crate::clock::Clock;
use crate::error::{Error, ErrorCode, Result};
use crate::jobs::{Job, JobKind, JobReport, JobSnapshot, JobStatus, Lane, STOPPED, Work};

/// Jobs that wait for their turn at most. A statement waits for its own job and the scheduler has at most one a table, so only
/// very many tables that are due at once come near it; those that find no room are due again at the next look.
const MOST_WAITING: usize = 10_000;

/// After a failure a job does not start by itself for this long, doubled with each failure that follows ...
const FIRST_PAUSE_MICROS: i64 = 1_000_000;
/// ... up to this: a full disk is noticed within minutes of being mended, and the log is not flooded until then.
const LONGEST_PAUSE_MICROS: i64 = 300 * 1_000_000;

/// What a mover does next.
pub(crate) enum Next {
    /// This job, which is its own now.
    Run(Arc<Job>),
    /// There are changes to keep.
    Save,
    /// Nothing any more.
    Stop,
}

/// All jobs: those that wait, run, and the last ones that ended.
pub(crate) struct Jobs {
    clock: Arc<dyn Clock>,
    /// How many that ended are remembered.
    history: usize,
    state: Mutex<State>,
    changed: Condvar,
    #[cfg(test)]
    moments: Mutex<HashMap<JobKind, Meanwhile>>,
}

/// What a test does at a moment.
#[cfg(test)]
type Meanwhile = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Job>>,
    running: Vec<Arc<Job>>,
    /// Oldest first.
    ended: VecDeque<JobSnapshot>,
    /// What is not in the store yet, by job id; `None`: it is forgotten.
    unsaved: BTreeMap<String, Option<JobSnapshot>>,
    troubles: HashMap<(String, JobKind), Trouble>,
    /// The id given last.
    last_id: Option<Ulid>,
    stopping: bool,
}

/// Jobs of one kind and table that failed one after the other.
struct Trouble {
    failures: u32,
    /// None starts by itself before this, µs.
    until_micros: i64,
}

impl Jobs {
    /// With those that an earlier process knew, oldest first. What had not ended then failed.
    pub(crate) fn new(clock: Arc<dyn Clock>, history: usize, known: Vec<JobSnapshot>) -> Self {
        let now_micros = clock.now_micros();
        let mut state = State::default();
        for mut job in known {
            if matches!(job.status, JobStatus::Queued | JobStatus::Running) {
                job.status = JobStatus::Failed;
                job.error = Some("the server ended before the job did".to_owned());
                job.finished_at_micros = Some(now_micros.max(job.created_at_micros));
                state.unsaved.insert(job.job_id.clone(), Some(job.clone()));
            }
            state.ended.push_back(job);
        }
        state.forget(history);
        Jobs {
            clock,
            history,
            state: Mutex::new(state),
            changed: Condvar::new(),
            #[cfg(test)]
            moments: Mutex::default(),
        }
    }

    /// Queues a job; its outcome comes through the receiver.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, UNAVAILABLE when the server is stopping.
    pub(crate) fn submit(&self, work: Work, table: &Table) -> Result<(Arc<Job>, oneshot::Receiver<Result<JobReport>>)> {
        let (answer, outcome) = oneshot::channel();
        let mut state = self.state.lock();
        if state.stopping {
            return Err(stopping());
        }
        if state.waiting.len() >= MOST_WAITING {
            return Err(Error::new(
                ErrorCode::TooManyRequests,
                format!("{MOST_WAITING} jobs are waiting already; try again later"),
            ));
        }
        let job = self.new_job(&mut state, work, table, Some(answer));
        state.waiting.push_back(job.clone());
        // One thread might be of the other lane.
        self.changed.notify_all();
        Ok((job, outcome))
    }

    /// Queues a job that nobody waits for, unless the table has such a one already, one failed lately, or there is no room.
    pub(crate) fn start_by_itself(&self, work: Work, table: &Table, now_micros: i64) -> Option<Arc<Job>> {
        let mut state = self.state.lock();
        let has_job = |other: &Arc<Job>| other.table_id == table.table_id && other.work.lane() == work.lane();
        let trouble = state.troubles.get(&(table.table_id.clone(), work.kind()));
        if state.stopping
            || state.waiting.len() >= MOST_WAITING
            || state.waiting.iter().chain(&state.running).any(has_job)
            || trouble.is_some_and(|trouble| now_micros < trouble.until_micros)
        {
            return None;
        }
        let job = self.new_job(&mut state, work, table, None);
        state.waiting.push_back(job.clone());
        // One thread might be of the other lane.
        self.changed.notify_all();
        Some(job)
    }

    /// Waits for something to do in a lane.
    pub(crate) fn next(&self, lane: Lane) -> Next {
        let mut state = self.state.lock();
        loop {
            if !state.unsaved.is_empty() {
                return Next::Save;
            }
            if state.stopping {
                return Next::Stop;
            }
            if let Some(job) = state.take_ready(lane) {
                let now_micros = self.clock.now_micros();
                job.start(now_micros);
                state.running.push(job.clone());
                state.unsaved.insert(job.job_id.clone(), Some(job.snapshot()));
                return Next::Run(job);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends a running job. Its waiter is told by [`Job::answer`], once that is kept.
    pub(crate) fn end(&self, job: &Arc<Job>, outcome: &Result<JobReport>) {
        let now_micros = self.clock.now_micros();
        let mut state = self.state.lock();
        state.running.retain(|running| !Arc::ptr_eq(running, job));
        state.note_trouble(job, outcome, now_micros);
        state.note_end(job.ended(outcome, now_micros), self.history);
        // Another job of the table may begin.
        self.changed.notify_all();
    }

    /// Tells a job to stop; one that waits ends at once. False if no such job waits or runs.
    pub(crate) fn cancel(&self, job_id: &str, reason: &'static str) -> bool {
        let mut state = self.state.lock();
        if let Some(index) = state.waiting.iter().position(|job| job.job_id == job_id) {
            if let Some(job) = state.waiting.remove(index) {
                self.end_unstarted(&mut state, &job, reason);
            }
            return true;
        }
        match state.running.iter().find(|job| job.job_id == job_id) {
            Some(job) => {
                job.cancel(reason);
                true
            }
            None => false,
        }
    }

    /// Cancels everything; nothing starts any more.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        for job in std::mem::take(&mut state.waiting) {
            self.end_unstarted(&mut state, &job, STOPPED);
        }
        for job in &state.running {
            job.cancel(STOPPED);
        }
        self.changed.notify_all();
    }

    /// What a job is to do and to which table, while it waits or runs.
    pub(crate) fn find(&self, job_id: &str) -> Option<Arc<Job>> {
        let state = self.state.lock();
        let mut all = state.waiting.iter().chain(&state.running);
        all.find(|job| job.job_id == job_id).cloned()
    }

    /// Those that ended first, then those that run, then those that wait.
    pub(crate) fn snapshot(&self) -> Vec<JobSnapshot> {
        let state = self.state.lock();
        let active = state.running.iter().chain(&state.waiting).map(|job| job.snapshot());
        state.ended.iter().cloned().chain(active).collect()
    }

    /// How many jobs wait or run.
    pub(crate) fn active(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.running.len()
    }

    /// What is to be kept since the last call, by job id.
    pub(crate) fn take_unsaved(&self) -> BTreeMap<String, Option<JobSnapshot>> {
        std::mem::take(&mut self.state.lock().unsaved)
    }

    /// Forgets failures of tables that are gone.
    pub(crate) fn forget_troubles(&self, is_there: impl Fn(&str) -> bool) {
        self.state.lock().troubles.retain(|(table_id, _), _| is_there(table_id));
    }

    /// Something to do once, when a job of this kind has moved rows.
    #[cfg(test)]
    pub(crate) fn at(&self, kind: JobKind, meanwhile: impl FnOnce() + Send + 'static) {
        self.moments.lock().insert(kind, Box::new(meanwhile));
    }

    /// A job has moved rows, of which tests make use.
    #[cfg(test)]
    pub(crate) fn moved(&self, kind: JobKind) {
        let meanwhile = self.moments.lock().remove(&kind);
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }

    fn new_job(
        &self,
        state: &mut State,
        work: Work,
        table: &Table,
        answer: Option<oneshot::Sender<Result<JobReport>>>,
    ) -> Arc<Job> {
        let now_micros = self.clock.now_micros();
        let now_ms = u64::try_from(now_micros / 1_000).unwrap_or(0);
        let following = state.last_id.filter(|last| last.timestamp_ms() >= now_ms);
        let id = following.and_then(|last| last.increment().ok()).unwrap_or_else(|| {
            let mut random = [0u8; 16];
            self.clock.fill_random(&mut random);
            Ulid::from_parts(now_ms, u128::from_le_bytes(random))
        });
        state.last_id = Some(id);
        Arc::new(Job::new(id.to_string(), work, table, now_micros, answer))
    }

    fn end_unstarted(&self, state: &mut State, job: &Job, reason: &'static str) {
        job.cancel(reason);
        let outcome = Err(Error::new(ErrorCode::Cancelled, reason));
        state.note_end(job.ended(&outcome, self.clock.now_micros()), self.history);
        job.answer(outcome);
        self.changed.notify_one();
    }
}

impl State {
    /// The first job of the lane whose table no other one of the lane works on.
    fn take_ready(&mut self, lane: Lane) -> Option<Arc<Job>> {
        let of_lane = |job: &&Arc<Job>| job.work.lane() == lane;
        let running = self.running.iter().filter(of_lane);
        let busy: HashSet<&str> = running.map(|job| job.table_id.as_str()).collect();
        let is_ready = |job: &Arc<Job>| of_lane(&job) && !busy.contains(job.table_id.as_str());
        let index = self.waiting.iter().position(is_ready)?;
        self.waiting.remove(index)
    }

    fn note_end(&mut self, job: JobSnapshot, history: usize) {
        self.unsaved.insert(job.job_id.clone(), Some(job.clone()));
        self.ended.push_back(job);
        self.forget(history);
    }

    fn forget(&mut self, history: usize) {
        while self.ended.len() > history {
            if let Some(oldest) = self.ended.pop_front() {
                self.unsaved.insert(oldest.job_id, None);
            }
        }
    }

    fn note_trouble(&mut self, job: &Job, outcome: &Result<JobReport>, now_micros: i64) {
        let key = (job.table_id.clone(), job.work.kind());
        if outcome.is_ok() {
            self.troubles.remove(&key);
            return;
        }
        let trouble = self.troubles.entry(key).or_insert(Trouble {
            failures: 0,
            until_micros: 0,
        });
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.until_micros = now_micros.saturating_add(pause_micros(trouble.failures));
    }
}

/// How long a job does not start by itself after so many failures, at least one.
fn pause_micros(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(30);
    FIRST_PAUSE_MICROS
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE_MICROS)
}

/// The error for whoever wants work from a server that stops.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DrivenClock;
    use crate::jobs::KILLED;
    use crate::system_schema::SystemTable;

    const SECOND: i64 = 1_000_000;

    fn table(table_id: &str) -> Table {
        Table {
            table_id: table_id.to_owned(),
            ..Table::clone(&SystemTable::Jobs.table())
        }
    }

    fn queue(history: usize) -> (Arc<DrivenClock>, Jobs) {
        let clock = Arc::new(DrivenClock::new(1_000 * SECOND));
        (clock.clone(), Jobs::new(clock, history, Vec::new()))
    }

    /// Begins the job that a mover of the lane would take next; one must be ready.
    #[track_caller]
    fn begin_in(jobs: &Jobs, lane: Lane) -> Arc<Job> {
        jobs.take_unsaved();
        assert!(is_ready(jobs, lane), "no job is ready");
        match jobs.next(lane) {
            Next::Run(job) => job,
            Next::Save | Next::Stop => panic!("there is a job"),
        }
    }

    /// Begins a flush.
    #[track_caller]
    fn begin(jobs: &Jobs) -> Arc<Job> {
        begin_in(jobs, Lane::Flush)
    }

    /// Whether a mover of the lane would have a job.
    fn is_ready(jobs: &Jobs, lane: Lane) -> bool {
        let mut state = jobs.state.lock();
        let waiting = state.waiting.clone();
        let is_ready = state.take_ready(lane).is_some();
        state.waiting = waiting;
        is_ready
    }

    fn report(job: &Job) -> Result<JobReport> {
        Ok(JobReport {
            job_id: job.job_id.clone(),
            table: job.table_name.clone(),
            rows: 5,
            bytes: 50,
            segments: 1,
            problems: Vec::new(),
        })
    }

    fn failure() -> Result<JobReport> {
        Err(Error::new(ErrorCode::StorageError, "no space"))
    }

    fn statuses(jobs: &Jobs) -> Vec<(JobKind, JobStatus)> {
        jobs.snapshot().into_iter().map(|job| (job.kind, job.status)).collect()
    }

    #[test]
    fn flushes_wait_for_flushes_alone_and_a_table_has_one_job_of_a_lane_at_a_time() {
        let (_, jobs) = queue(10);
        let submit = |work, table_id: &str| jobs.submit(work, &table(table_id)).expect("queued").0;
        let compact_a = submit(Work::CompactFully, "a");
        let check_a = submit(Work::Check, "a");
        let flush_a = submit(Work::Flush, "a");
        let again_a = submit(Work::Flush, "a");
        let flush_b = submit(Work::Flush, "b");
        let check_b = submit(Work::Check, "b");
        let is = |begun: Arc<Job>, job: &Arc<Job>| assert!(Arc::ptr_eq(&begun, job), "{:?}", begun.work);
        is(begin_in(&jobs, Lane::Segments), &compact_a);
        is(begin_in(&jobs, Lane::Flush), &flush_a);
        // The others of table a have to wait.
        is(begin_in(&jobs, Lane::Flush), &flush_b);
        is(begin_in(&jobs, Lane::Segments), &check_b);
        assert!(!is_ready(&jobs, Lane::Flush) && !is_ready(&jobs, Lane::Segments));
        jobs.end(&flush_a, &report(&flush_a));
        assert!(!is_ready(&jobs, Lane::Segments), "the compaction goes on");
        is(begin_in(&jobs, Lane::Flush), &again_a);
        jobs.end(&compact_a, &failure());
        is(begin_in(&jobs, Lane::Segments), &check_a);
        assert_eq!(
            statuses(&jobs),
            [
                (JobKind::Flush, JobStatus::Finished),
                (JobKind::Compact, JobStatus::Failed),
                (JobKind::Flush, JobStatus::Running),
                (JobKind::Check, JobStatus::Running),
                (JobKind::Flush, JobStatus::Running),
                (JobKind::Check, JobStatus::Running),
            ]
        );
    }

    #[test]
    fn what_starts_by_itself_starts_once() {
        let (clock, jobs) = queue(10);
        let now_micros = clock.now_micros();
        let start = |work| jobs.start_by_itself(work, &table("a"), now_micros).is_some();
        assert!(start(Work::CompactAsNeeded));
        assert!(!start(Work::CompactAsNeeded));
        let compaction = begin_in(&jobs, Lane::Segments);
        assert!(!start(Work::CompactAsNeeded));
        assert!(start(Work::Flush), "a flush does not wait for it");
        assert!(!start(Work::Flush));
        let flush = begin(&jobs);
        assert!(!start(Work::Flush));
        jobs.end(&compaction, &report(&compaction));
        assert!(start(Work::CompactAsNeeded), "nor it for a flush");
        jobs.end(&flush, &report(&flush));
        assert!(start(Work::Flush));
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses = [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (11, 300), (u32::MAX, 300)];
        for (failures, seconds) in pauses {
            assert_eq!(pause_micros(failures), seconds * SECOND, "{failures}");
        }
    }

    #[test]
    fn after_a_failure_a_job_pauses_until_one_succeeds() {
        let (clock, jobs) = queue(10);
        let start = |table_id: &str| {
            let started = jobs.start_by_itself(Work::Flush, &table(table_id), clock.now_micros());
            started.inspect(|_| drop(begin(&jobs)))
        };
        let fail = |job: Option<Arc<Job>>| jobs.end(&job.expect("started"), &failure());
        fail(start("a"));
        assert!(start("a").is_none());
        assert!(start("b").is_some(), "another table has no trouble");
        clock.advance_micros(SECOND);
        fail(start("a"));
        clock.advance_micros(2 * SECOND - 1);
        assert!(start("a").is_none());
        // A statement need not wait, and its success ends the trouble.
        let (asked, _) = jobs.submit(Work::Flush, &table("a")).expect("queued");
        begin(&jobs);
        jobs.end(&asked, &report(&asked));
        fail(start("a"));
        assert!(start("a").is_none());
        jobs.forget_troubles(|table_id| table_id != "a");
        assert!(start("a").is_some());
    }

    #[test]
    fn a_waiting_job_is_cancelled_at_once_and_a_running_one_is_told() {
        let (_, jobs) = queue(10);
        let (waiting, mut outcome) = jobs.submit(Work::Flush, &table("a")).expect("queued");
        let (running, _) = jobs.submit(Work::Flush, &table("b")).expect("queued");
        assert!(jobs.cancel(&waiting.job_id, KILLED));
        let heard = outcome.try_recv().expect("an answer").expect("by now");
        assert_eq!(heard, Err(Error::new(ErrorCode::Cancelled, KILLED)));
        assert!(Arc::ptr_eq(&begin(&jobs), &running));
        assert_eq!(running.cancelled(), None);
        assert!(jobs.cancel(&running.job_id, KILLED));
        assert_eq!(running.cancelled(), Some(KILLED));
        jobs.end(&running, &Err(Error::new(ErrorCode::Cancelled, KILLED)));
        assert!(!jobs.cancel(&running.job_id, KILLED) && !jobs.cancel("none", KILLED));
        for job in jobs.snapshot() {
            assert_eq!((job.status, job.error.as_deref()), (JobStatus::Cancelled, Some(KILLED)));
            assert!(job.finished_at_micros.is_some());
        }
    }

    #[test]
    fn the_last_that_ended_are_remembered_and_the_others_forgotten() {
        let (_, jobs) = queue(2);
        let mut ids = Vec::new();
        for _ in 0..4 {
            let (job, _) = jobs.submit(Work::Flush, &table("a")).expect("queued");
            begin(&jobs);
            jobs.end(&job, &report(&job));
            ids.push(job.job_id.clone());
        }
        let shown: Vec<String> = jobs.snapshot().into_iter().map(|job| job.job_id).collect();
        assert_eq!(shown, ids[2..]);
        let unsaved = jobs.take_unsaved();
        assert_eq!(unsaved[&ids[1]], None);
        let last = unsaved[&ids[3]].as_ref().expect("is kept");
        assert_eq!((last.status, last.rows, last.bytes), (JobStatus::Finished, 5, 50));
        assert!(jobs.take_unsaved().is_empty());
    }

    #[test]
    fn what_had_not_ended_when_the_process_did_has_failed() {
        let (clock, jobs) = queue(10);
        for table_id in ["a", "b"] {
            let _nobody_waits = jobs.submit(Work::Flush, &table(table_id)).expect("queued");
        }
        let running = begin(&jobs);
        jobs.end(&running, &report(&running));
        begin(&jobs);
        let known = jobs.snapshot();
        clock.advance_micros(SECOND);
        let later = Jobs::new(clock.clone(), 10, known.clone());
        let shown = later.snapshot();
        assert_eq!(shown[0], known[0]);
        assert_eq!(shown[1].status, JobStatus::Failed);
        assert_eq!(shown[1].finished_at_micros, Some(clock.now_micros()));
        assert_eq!(later.take_unsaved().keys().collect::<Vec<_>>(), [&known[1].job_id]);
    }

    #[test]
    fn nothing_starts_once_it_stops() {
        let (clock, jobs) = queue(10);
        let (running, _) = jobs.submit(Work::Flush, &table("a")).expect("queued");
        let (_, mut outcome) = jobs.submit(Work::Check, &table("a")).expect("queued");
        begin(&jobs);
        jobs.stop();
        assert_eq!(running.cancelled(), Some(STOPPED));
        let heard = outcome.try_recv().expect("an answer").expect("by now");
        assert_eq!(heard.expect_err("cancelled").code, ErrorCode::Cancelled);
        let refused = jobs.submit(Work::Flush, &table("b")).map(|_| ()).expect_err("refused");
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(
            jobs.start_by_itself(Work::Flush, &table("b"), clock.now_micros())
                .is_none()
        );
        assert!(matches!(jobs.next(Lane::Flush), Next::Save));
        jobs.take_unsaved();
        for lane in Lane::ALL {
            assert!(matches!(jobs.next(lane), Next::Stop));
        }
    }
}
