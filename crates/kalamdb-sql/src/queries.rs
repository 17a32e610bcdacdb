//! The registry of running and finished queries behind `system.queries`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use kalamdb_core::{Clock, Error, ErrorCode, Principal, Result};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::interruption::Interruption;
use crate::session::Session;

/// How much of a statement's text is kept, bytes: what a person reads, not what a bulk INSERT carries.
const KEPT_TEXT_BYTES: usize = 4_096;

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
    /// Whose it is: this incarnation of the user, and no later one of the same name.
    pub(crate) owner: Principal,
    pub(crate) user_id: String,
    /// Differs from `user_id` under EXECUTE AS USER only.
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
    statement: String,
    started_at_micros: i64,
    /// Negative until planned.
    planned_at_micros: AtomicI64,
    rows: AtomicU64,
    bytes: AtomicU64,
    peak_memory_bytes: AtomicU64,
    committing: AtomicBool,
    interruption: Interruption,
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
    ) -> Result<RunningQuery> {
        let user_id = session.principal().user_id.clone();
        let statement = without_literals(sql);
        let started_at_micros = self.clock.now_micros();
        let mut random = [0u8; 16];
        self.clock.fill_random(&mut random);
        let query_id = ulid::Ulid::from_parts(
            u64::try_from(started_at_micros / 1_000).unwrap_or(0),
            u128::from_le_bytes(random),
        )
        .to_string();
        let mut entries = self.entries.lock();
        let running = entries.running_by_user.entry(user_id.clone()).or_default();
        if *running >= self.per_user {
            return Err(Error::new(
                ErrorCode::TooManyRequests,
                format!(
                    "user '{user_id}' already runs {running} queries, the limit (max_queries_per_user); wait for one to end"
                ),
            ));
        }
        *running += 1;
        entries.started += 1;
        let number = entries.started;
        let entry = Arc::new(Entry {
            query_id,
            session_id: session.id().to_owned(),
            owner: session.principal().clone(),
            user_id,
            statement,
            started_at_micros,
            planned_at_micros: AtomicI64::new(-1),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            peak_memory_bytes: AtomicU64::new(0),
            committing: AtomicBool::new(false),
            interruption: Interruption::new(CancellationToken::new(), timeout),
        });
        entries.running.insert(number, Arc::clone(&entry));
        Ok(RunningQuery {
            registry: Arc::clone(self),
            number,
            entry,
        })
    }

    /// Finished ones first, each part in the order of starting or finishing.
    pub(crate) fn snapshot(&self) -> Vec<QuerySnapshot> {
        let now_micros = self.clock.now_micros();
        let entries = self.entries.lock();
        let running = entries
            .running
            .values()
            .map(|entry| entry.snapshot(QueryStatus::Running, None, now_micros));
        entries.finished.iter().cloned().chain(running).collect()
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
        let picked: Vec<Arc<Entry>> = {
            let entries = self.entries.lock();
            entries
                .running
                .values()
                .filter(|entry| which(&entry.query_id, &entry.session_id))
                .cloned()
                .collect()
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
        while entries.finished.len() >= self.history.max(1) {
            entries.finished.pop_front();
        }
        if self.history > 0 {
            entries
                .finished
                .push_back(entry.snapshot(status, error_code, now_micros));
        }
    }
}

impl Entries {
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
            owner: self.owner.clone(),
            user_id: self.user_id.clone(),
            executed_as: self.user_id.clone(),
            statement: self.statement.clone(),
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

    /// Planning is over, running begins.
    pub(crate) fn planned(&self) {
        let now_micros = self.registry.clock.now_micros().max(self.entry.started_at_micros);
        self.entry.planned_at_micros.store(now_micros, Ordering::Relaxed);
    }

    pub(crate) fn add_rows(&self, rows: u64, bytes: u64) {
        self.entry.rows.fetch_add(rows, Ordering::Relaxed);
        self.entry.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory_peak(&self, bytes: usize) {
        self.entry.peak_memory_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// From here on a cancellation or timeout waits for the outcome: the commit may already be durable.
    pub(crate) fn committing(&self) {
        self.entry.committing.store(true, Ordering::SeqCst);
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

/// The statement's text with every literal replaced by `$n`, blanks made one. What cannot be tokenized is left out, since it
/// may be part of a literal.
fn without_literals(sql: &str) -> String {
    let mut end = sql.len().min(KEPT_TEXT_BYTES);
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    let mut tokens = Vec::new();
    let complete = Tokenizer::new(&PostgreSqlDialect {}, &sql[..end])
        .tokenize_with_location_into_buf(&mut tokens)
        .is_ok();
    let cut = !complete || end < sql.len();
    if cut && complete {
        // The last token may be the beginning of a longer one.
        tokens.pop();
    }
    let mut text = String::with_capacity(end);
    let mut literals = 0usize;
    for token in &tokens {
        match &token.token {
            Token::EOF => {}
            Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_) => {
                literals += 1;
                text.push('$');
                text.push_str(&literals.to_string());
            }
            other => text.push_str(&other.to_string()),
        }
    }
    let mut text = text.trim_end().to_owned();
    if cut {
        text.push_str(" …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        assert_eq!(without_literals(sql), expected);
    }

    #[test]
    fn a_statement_is_kept_without_its_literals() {
        check(
            "SELECT *\n  FROM t WHERE a = 'se''cret' AND b > 1.5",
            "SELECT * FROM t WHERE a = $1 AND b > $2",
        );
        check("CREATE USER 'a' WITH PASSWORD 'p'", "CREATE USER $1 WITH PASSWORD $2");
        check(
            "SELECT \"Name\", E'x', X'00', $1 -- note",
            "SELECT \"Name\", $1, $2, $3",
        );
        check("SELECT 1; SELECT 'unfinished", "SELECT $1; SELECT …");
    }

    #[test]
    fn a_long_statement_is_cut_before_the_token_at_the_cut() {
        let sql = format!("SELECT '{}', 'secret'", "x".repeat(KEPT_TEXT_BYTES));
        check(&sql, "SELECT …");
    }
}
