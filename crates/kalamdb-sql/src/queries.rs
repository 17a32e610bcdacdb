//! The registry of running and finished queries behind `system.queries`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use kalamdb_core::{Clock, Error, ErrorCode, Principal, Quota, Quotas, Result};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::interruption::Interruption;
use crate::memory_share::MemoryShare;
use crate::secrets;
use crate::session::Session;

/// Failed logins that are remembered.
const FAILED_LOGINS_KEPT: usize = 1_000;

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
    statement: String,
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
        let statement = without_literals(sql);
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
            statement,
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
            ..self.refusal(
                Some(session.principal().clone()),
                without_literals(sql),
                code,
                now_micros,
            )
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
    let hidden = secrets::hidden(&tokens);
    for (at, token) in tokens.iter().enumerate() {
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
            Token::Word(word) if hidden.contains(&at) && !secrets::is_grammar(&word.to_string()) => {
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
        check(
            "CREATE USER ann WITH PASWORD hunter2 PASSWORD \"hunter3\" ROLE user",
            "CREATE USER $1 WITH $2 $3 PASSWORD $4 ROLE user",
        );
        check(
            "alter user 'a' set password = hunter2",
            "alter user $1 set password = $2",
        );
        check("CREATE USER TABLE t (a INT)", "CREATE USER TABLE t (a INT)");
        check("CREATE USR zed PASSWORD hunter2", "CREATE USR zed PASSWORD $1");
        check("SET PASSWORD = hunter3", "SET PASSWORD = $1");
        check("SET PASSWORD FOR zed = hunter3", "SET PASSWORD $1 $2 = $3");
        check(
            "CREATE ROLE zed LOGIN PASSWORD \"hunter22\"",
            "CREATE ROLE zed LOGIN PASSWORD $1",
        );
        check(
            "UPDATE USER zed SET PASSWORD = hunter2",
            "UPDATE USER zed SET PASSWORD = $1",
        );
        check(
            "EXPLAIN ALTR USER zed PASSWORD hunter2 ROLE user",
            "EXPLAIN ALTR USER zed PASSWORD $1 ROLE user",
        );
        for columns in [
            "SELECT password, name FROM accounts",
            "EXECUTE AS ALL USERS (SELECT password FROM accounts)",
            "CREATE SHARED TABLE accounts (password TEXT, name TEXT)",
            "CREATE OR REPLACE VIEW v AS SELECT password, name FROM accounts",
        ] {
            check(columns, columns);
        }
        check("EXECUTE AS USER 'a' (SELECT 'x')", "EXECUTE AS USER $1 (SELECT $2)");
    }

    #[test]
    fn a_long_statement_is_cut_before_the_token_at_the_cut() {
        let sql = format!("SELECT '{}', 'secret'", "x".repeat(KEPT_TEXT_BYTES));
        check(&sql, "SELECT …");
    }
}
