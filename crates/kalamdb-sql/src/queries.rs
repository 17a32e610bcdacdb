//! The registry of running and finished queries behind `system.queries`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use kalamdb_core::{Clock, Error, ErrorCode, Principal, Quota, Quotas, Result};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::interruption::Interruption;
use crate::memory_share::MemoryShare;
use crate::session::Session;
use crate::statement_text::{outline, shown, without_literals};

/// Failed logins that are remembered.
const FAILED_LOGINS_KEPT: usize = 1_000;

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryStatus {
    Running,
    Finished,
    Failed,
    Cancelled,
}

impl QueryStatus {
    /// As `system.queries` shows it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            QueryStatus::Running => "running",
            QueryStatus::Finished => "finished",
            QueryStatus::Failed => "failed",
            QueryStatus::Cancelled => "cancelled",
        }
    }
}

/// One query as `system.queries` shows it.
#[derive(Clone, Debug)]
pub(crate) struct QuerySnapshot {
    pub(crate) query_id: String,
    pub(crate) session_id: String,
    /// Whose it is: this incarnation of the user, and no later one of the same name. `None`: a login as nobody who is known.
    pub(crate) owner: Option<Principal>,
    /// Empty without an owner.
    pub(crate) user_id: String,
    /// Differs from `user_id` under EXECUTE AS only.
    pub(crate) executed_as: String,
    /// Literals are replaced by `$n`; cut at a few thousand characters.
    pub(crate) statement: String,
    pub(crate) status: QueryStatus,
    pub(crate) plan_micros: Option<i64>,
    pub(crate) execute_micros: Option<i64>,
    pub(crate) rows: u64,
    /// Arrow memory of the result's batches.
    pub(crate) bytes: u64,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) error_code: Option<&'static str>,
    pub(crate) started_at_micros: i64,
    pub(crate) finished_at_micros: Option<i64>,
}

/// The registry.
pub(crate) struct Queries {
    clock: Arc<dyn Clock>,
    history: usize,
    per_user: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// By start order, so that snapshots come in order.
    running: BTreeMap<u64, Arc<Entry>>,
    finished: VecDeque<QuerySnapshot>,
    /// Apart from the statements, so that whoever guesses passwords does not push those out.
    failed_logins: VecDeque<QuerySnapshot>,
    running_by_user: HashMap<String, usize>,
    started: u64,
    ended: Ended,
}

/// Counts since the start.
#[derive(Clone, Copy, Default)]
struct Ended {
    finished: u64,
    failed: u64,
    cancelled: u64,
}

struct Entry {
    query_id: String,
    session_id: String,
    owner: Principal,
    user_id: String,
    /// As whom it runs, where it says so.
    executed_as: OnceLock<String>,
    /// Its first words, which is all that is shown of what turns out to be no statement.
    outline: String,
    /// The text, once it is known to be a statement.
    text: OnceLock<String>,
    started_at_micros: i64,
    /// Negative until planned.
    planned_at_micros: AtomicI64,
    rows: AtomicU64,
    bytes: AtomicU64,
    peak_memory_bytes: AtomicU64,
    committing: AtomicBool,
    interruption: Interruption,
    /// What its user may have of one statement; the count goes on only where bytes are limited.
    row_limit: u64,
    byte_limit: Option<u64>,
    returned_bytes: AtomicU64,
}

/// A query while it runs. Dropped without an outcome, it was cancelled.
pub(crate) struct RunningQuery {
    registry: Arc<Queries>,
    number: u64,
    entry: Arc<Entry>,
}

impl Queries {
    pub(crate) fn new(clock: Arc<dyn Clock>, history: usize, per_user: usize) -> Arc<Self> {
        Arc::new(Queries {
            clock,
            history,
            per_user,
            entries: Mutex::new(Entries::default()),
        })
    }

    /// Registers a statement that starts now, and its time with it; without a timeout that has no end.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when the user runs as many as one may.
    pub(crate) fn start(
        self: &Arc<Self>,
        session: &Session,
        sql: &str,
        timeout: Option<Duration>,
        quotas: &Quotas,
        memory: Option<MemoryShare>,
    ) -> Result<RunningQuery> {
        let user_id = session.principal().user_id.clone();
        let started_at_micros = self.clock.now_micros();
        let query_id = self.new_id(started_at_micros);
        let (limit, code, named) = match quotas.limit(Quota::Queries) {
            Some(limit) => (
                usize::try_from(limit).unwrap_or(usize::MAX),
                Quota::Queries.breach(),
                "quota queries",
            ),
            None => (self.per_user, ErrorCode::TooManyRequests, "max_queries_per_user"),
        };
        let mut entries = self.entries.lock();
        let running = entries.running_by_user.get(&user_id).copied().unwrap_or_default();
        if running >= limit {
            drop(entries);
            self.refused(session, sql, code);
            return Err(Error::new(
                code,
                format!("user '{user_id}' already runs {running} queries, the limit ({named}); wait for one to end"),
            ));
        }
        entries.running_by_user.insert(user_id.clone(), running + 1);
        entries.started += 1;
        let number = entries.started;
        let entry = Arc::new(Entry {
            query_id,
            session_id: session.id().to_owned(),
            owner: session.principal().clone(),
            user_id,
            executed_as: OnceLock::new(),
            outline: outline(sql),
            text: OnceLock::new(),
            started_at_micros,
            planned_at_micros: AtomicI64::new(-1),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            peak_memory_bytes: AtomicU64::new(0),
            committing: AtomicBool::new(false),
            row_limit: quotas.limit(Quota::Rows).unwrap_or(u64::MAX),
            byte_limit: quotas.limit(Quota::Bytes),
            returned_bytes: AtomicU64::new(0),
            interruption: Interruption::new(CancellationToken::new(), timeout)
                .within(quotas.limit(Quota::StatementTime).map(Duration::from_millis), memory),
        });
        entries.running.insert(number, Arc::clone(&entry));
        Ok(RunningQuery {
            registry: Arc::clone(self),
            number,
            entry,
        })
    }

    /// A statement that was not even begun.
    pub(crate) fn refused(&self, session: &Session, sql: &str, code: ErrorCode) {
        let now_micros = self.clock.now_micros();
        let snapshot = QuerySnapshot {
            session_id: session.id().to_owned(),
            ..self.refusal(Some(session.principal().clone()), shown(sql), code, now_micros)
        };
        let mut entries = self.entries.lock();
        entries.ended.failed += 1;
        entries.remember(snapshot, self.history);
    }

    /// Credentials that were refused; `user` is whose they claim to be, where there is such a user.
    pub(crate) fn failed_login(&self, user: Option<Principal>, peer: &str, code: ErrorCode) {
        let peer = peer
            .parse()
            .map_or(peer.to_owned(), |peer: SocketAddr| peer.ip().to_string());
        let now_micros = self.clock.now_micros();
        let snapshot = self.refusal(user, format!("LOGIN FROM {peer}"), code, now_micros);
        let logins = &mut self.entries.lock().failed_logins;
        if logins.len() >= FAILED_LOGINS_KEPT {
            logins.pop_front();
        }
        logins.push_back(snapshot);
    }

    fn refusal(&self, owner: Option<Principal>, statement: String, code: ErrorCode, now_micros: i64) -> QuerySnapshot {
        let user_id = owner.as_ref().map_or_else(String::new, |owner| owner.user_id.clone());
        QuerySnapshot {
            query_id: self.new_id(now_micros),
            session_id: String::new(),
            executed_as: user_id.clone(),
            user_id,
            owner,
            statement,
            status: QueryStatus::Failed,
            plan_micros: None,
            execute_micros: None,
            rows: 0,
            bytes: 0,
            peak_memory_bytes: None,
            error_code: Some(code.as_str()),
            started_at_micros: now_micros,
            finished_at_micros: Some(now_micros),
        }
    }

    fn new_id(&self, now_micros: i64) -> String {
        let mut random = [0u8; 16];
        self.clock.fill_random(&mut random);
        let now_ms = u64::try_from(now_micros / 1_000).unwrap_or(0);
        ulid::Ulid::from_parts(now_ms, u128::from_le_bytes(random)).to_string()
    }

    /// Failed logins and finished ones first, each part in the order of starting or finishing.
    pub(crate) fn snapshot(&self) -> Vec<QuerySnapshot> {
        let now_micros = self.clock.now_micros();
        let entries = self.entries.lock();
        let running = entries
            .running
            .values()
            .map(|entry| entry.snapshot(QueryStatus::Running, None, now_micros));
        let ended = entries.failed_logins.iter().chain(&entries.finished).cloned();
        ended.chain(running).collect()
    }

    pub(crate) fn running(&self) -> usize {
        self.entries.lock().running.len()
    }

    /// How many ended so since the start.
    pub(crate) fn ended(&self) -> [(&'static str, u64); 3] {
        let Ended {
            finished,
            failed,
            cancelled,
        } = self.entries.lock().ended;
        [
            (QueryStatus::Finished.as_str(), finished),
            (QueryStatus::Failed.as_str(), failed),
            (QueryStatus::Cancelled.as_str(), cancelled),
        ]
    }

    /// Whose query that is, while it runs.
    pub(crate) fn owner(&self, query_id: &str) -> Option<Principal> {
        let entries = self.entries.lock();
        entries
            .running
            .values()
            .find(|entry| entry.query_id == query_id)
            .map(|entry| entry.owner.clone())
    }

    /// Cancels the running queries that `which` picks by (query id, session id); how many.
    pub(crate) fn cancel(&self, which: impl Fn(&str, &str) -> bool) -> usize {
        self.cancel_entries(|entry| which(&entry.query_id, &entry.session_id))
    }

    /// Cancels what a user runs in any session but this.
    pub(crate) fn cancel_of_user(&self, user: &Principal, spared_session: &str) -> usize {
        self.cancel_entries(|entry| entry.owner.scope == user.scope && entry.session_id != spared_session)
    }

    fn cancel_entries(&self, which: impl Fn(&Entry) -> bool) -> usize {
        let picked: Vec<Arc<Entry>> = {
            let entries = self.entries.lock();
            entries.running.values().filter(|entry| which(entry)).cloned().collect()
        };
        for entry in &picked {
            entry.interruption.cancel_token().cancel();
        }
        picked.len()
    }

    /// Whether the session runs anything.
    pub(crate) fn session_is_busy(&self, session_id: &str) -> bool {
        self.entries
            .lock()
            .running
            .values()
            .any(|entry| entry.session_id == session_id)
    }

    fn forget(&self, number: u64) {
        self.entries.lock().end(number);
    }

    fn finish(&self, number: u64, status: QueryStatus, error_code: Option<ErrorCode>) {
        let now_micros = self.clock.now_micros();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.end(number) else {
            return;
        };
        match status {
            QueryStatus::Running => {}
            QueryStatus::Finished => entries.ended.finished += 1,
            QueryStatus::Failed => entries.ended.failed += 1,
            QueryStatus::Cancelled => entries.ended.cancelled += 1,
        }
        entries.remember(entry.snapshot(status, error_code, now_micros), self.history);
    }
}

impl Entries {
    /// Keeps what ended, in the place of the oldest.
    fn remember(&mut self, ended: QuerySnapshot, history: usize) {
        while self.finished.len() >= history.max(1) {
            self.finished.pop_front();
        }
        if history > 0 {
            self.finished.push_back(ended);
        }
    }

    /// Takes a query out of those that run.
    fn end(&mut self, number: u64) -> Option<Arc<Entry>> {
        let entry = self.running.remove(&number)?;
        if let Some(running) = self.running_by_user.get_mut(&entry.user_id) {
            *running -= 1;
            if *running == 0 {
                self.running_by_user.remove(&entry.user_id);
            }
        }
        Some(entry)
    }
}

impl Entry {
    fn snapshot(&self, status: QueryStatus, error_code: Option<ErrorCode>, now_micros: i64) -> QuerySnapshot {
        let planned_at = self.planned_at_micros.load(Ordering::Relaxed);
        let planned = (planned_at >= 0).then_some(planned_at);
        let peak = self.peak_memory_bytes.load(Ordering::Relaxed);
        QuerySnapshot {
            query_id: self.query_id.clone(),
            session_id: self.session_id.clone(),
            owner: Some(self.owner.clone()),
            user_id: self.user_id.clone(),
            executed_as: self.executed_as.get().unwrap_or(&self.user_id).clone(),
            statement: self.text.get().unwrap_or(&self.outline).clone(),
            status,
            plan_micros: planned.map(|at| at - self.started_at_micros),
            execute_micros: planned.map(|at| (now_micros - at).max(0)),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            peak_memory_bytes: (peak > 0).then_some(peak),
            error_code: error_code.map(ErrorCode::as_str),
            started_at_micros: self.started_at_micros,
            finished_at_micros: (status != QueryStatus::Running).then_some(now_micros),
        }
    }
}

impl RunningQuery {
    pub(crate) fn id(&self) -> &str {
        &self.entry.query_id
    }

    pub(crate) fn cancel_token(&self) -> CancellationToken {
        self.entry.interruption.cancel_token().clone()
    }

    /// When it must stop.
    pub(crate) fn interruption(&self) -> &Interruption {
        &self.entry.interruption
    }

    /// Shows the whole text from now on: it is a statement.
    pub(crate) fn show_text(&self, sql: &str) {
        self.entry.text.get_or_init(|| without_literals(sql));
    }

    /// It runs as somebody else, or was to.
    pub(crate) fn executed_as(&self, whom: &str) {
        self.entry.executed_as.get_or_init(|| whom.to_owned());
    }

    /// Planning is over, running begins.
    pub(crate) fn planned(&self) {
        let now_micros = self.registry.clock.now_micros().max(self.entry.started_at_micros);
        self.entry.planned_at_micros.store(now_micros, Ordering::Relaxed);
    }

    /// Rows that are about to be returned.
    ///
    /// # Errors
    /// ROW_QUOTA_EXCEEDED, BYTE_QUOTA_EXCEEDED.
    pub(crate) fn return_rows(&self, batch: &RecordBatch) -> Result<()> {
        let entry = &self.entry;
        let rows = entry
            .rows
            .load(Ordering::Relaxed)
            .saturating_add(batch.num_rows() as u64);
        let bytes = entry.byte_limit.map_or(0, |_| {
            let size_bytes = data_bytes(batch);
            let before = entry.returned_bytes.fetch_add(size_bytes, Ordering::Relaxed);
            before.saturating_add(size_bytes)
        });
        self.check_returned(rows, bytes)?;
        self.add_rows(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
        Ok(())
    }

    /// All rows of a RETURNING, before the write is committed: a breach changes nothing. They are counted at its end, as rows that
    /// it changed, however often it is tried.
    ///
    /// # Errors
    /// As [`RunningQuery::return_rows`].
    pub(crate) fn check_returning(&self, batch: &RecordBatch) -> Result<()> {
        let bytes = self.entry.byte_limit.map_or(0, |_| data_bytes(batch));
        self.check_returned(batch.num_rows() as u64, bytes)
    }

    /// Whether the statement may return so much.
    fn check_returned(&self, rows: u64, bytes: u64) -> Result<()> {
        let entry = &self.entry;
        let (quota, limit) = match entry.byte_limit {
            _ if rows > entry.row_limit => (Quota::Rows, entry.row_limit),
            Some(limit) if bytes > limit => (Quota::Bytes, limit),
            Some(_) | None => return Ok(()),
        };
        let message = format!(
            "the statement returns more than {limit} {}, the quota; it was ended there",
            quota.as_str()
        );
        Err(Error::new(quota.breach(), message))
    }

    pub(crate) fn add_rows(&self, rows: u64, bytes: u64) {
        self.entry.rows.fetch_add(rows, Ordering::Relaxed);
        self.entry.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory_peak(&self, bytes: usize) {
        self.entry.peak_memory_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the statement is to stop, for whoever works at length before it commits.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.interruption().check().is_err()
    }

    /// From here on a cancellation or timeout waits for the outcome: the commit may already be durable. One that came before
    /// wins over what is about to be committed.
    ///
    /// # Errors
    /// As [`Interruption::check`].
    pub(crate) fn committing(&self) -> Result<()> {
        self.entry.interruption.check()?;
        self.entry.committing.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.entry.committing.load(Ordering::SeqCst)
    }

    /// The attempt to commit failed and changed nothing: the statement runs again and may be cancelled again.
    pub(crate) fn not_committing(&self) {
        self.entry.committing.store(false, Ordering::SeqCst);
    }

    /// It was described and not run: nothing is remembered, since whoever runs it registers it again.
    pub(crate) fn described(self) {
        self.registry.forget(self.number);
    }

    pub(crate) fn finished(self) {
        self.registry.finish(self.number, QueryStatus::Finished, None);
    }

    /// An error that is a bug, with the id under which the log has it. The log has no words of it and no literal of the statement.
    pub(crate) fn logged(&self, mut error: Error) -> Error {
        if error.code == ErrorCode::Internal {
            let query_id = self.id();
            let statement = self.entry.text.get().unwrap_or(&self.entry.outline);
            tracing::error!(query_id, error = %error.for_log(), statement, "a statement met a bug");
            error.message = format!("{}; the server's log has it as query {query_id}", error.message);
        }
        error
    }

    pub(crate) fn failed(self, error: &Error) {
        let status = if error.code == ErrorCode::Cancelled {
            QueryStatus::Cancelled
        } else {
            QueryStatus::Failed
        };
        self.registry.finish(self.number, status, Some(error.code));
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.registry
            .finish(self.number, QueryStatus::Cancelled, Some(ErrorCode::Cancelled));
    }
}

/// Bytes of the rows alone, without what their buffers hold beside them.
fn data_bytes(batch: &RecordBatch) -> u64 {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            let data = column.to_data();
            // A type that cannot tell has the size of its buffers.
            let bytes = data.get_slice_memory_size();
            bytes.unwrap_or_else(|_| data.get_array_memory_size()) as u64
        })
        .sum()
}
