//! The SQL database as the doors see it: sessions, statements, loads and metadata over one engine.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::FutureExt;
use futures::future::{Either, select};
use futures::stream::BoxStream;
use kalamdb_core::{Engine, Error, ErrorCode, Login, Principal, Quota, Quotas, Result, Task, UserRecord, View};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::administration;
use crate::environment::Environment;
use crate::execution::{Completion, Execution, Report, RowStream};
use crate::identifiers;
use crate::ingest::{self, IngestRequest};
use crate::interruption::aside;
use crate::login_queue::LoginQueue;
use crate::memory_share::MemoryShare;
use crate::metadata::{self, TableFilter, TableInfo};
use crate::parameters::Parameters;
use crate::planning::Description;
use crate::queries::{Queries, QuerySnapshot, RunningQuery};
use crate::run::{self, Output};
use crate::runtimes::Runtimes;
use crate::session::{Session, SessionOrigin, SessionSnapshot, SessionValue};

/// Result batches between the query's task and whoever reads them: one being sent, one ready. More would only hold memory.
const BATCHES_IN_FLIGHT: usize = 2;

/// So many of the sessions, or a tenth if that is fewer, are for those who may end sessions of others: whoever takes all that there are
/// keeps nobody out who can do something about it.
const MOST_RESERVED_SESSIONS: usize = 3;

fn reserved_sessions(max_sessions: usize) -> usize {
    (max_sessions / 10).min(MOST_RESERVED_SESSIONS)
}

/// One row of `system.settings`.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As in the configuration file.
    pub name: String,
    /// In force.
    pub value: String,
    /// `bytes`, `ms`, `s`, or empty.
    pub unit: String,
    /// Without configuration.
    pub default: String,
    /// `default`, `file`, `environment` or `flag`.
    pub source: String,
    /// What it does.
    pub description: String,
}

/// Limits and places.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// What all queries together may hold, bytes; beyond it operators spill.
    pub memory_limit_bytes: usize,
    /// Where they spill.
    pub spill_dir: PathBuf,
    /// A statement's time, milliseconds; 0 = none.
    pub statement_timeout_ms: u64,
    /// Queries of one user at once.
    pub max_queries_per_user: usize,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Passwords that are hashed at once, each on a core of its own and with 19 MiB.
    pub passwords_at_once: usize,
    /// A session without a call ends after this, seconds.
    pub session_idle_seconds: u64,
    /// One statement's text, bytes.
    pub statement_text_limit_bytes: usize,
    /// Rows per batch of a result.
    pub batch_rows: usize,
    /// How many finished queries `system.queries` remembers.
    pub query_history: usize,
    /// `system.settings`.
    pub settings: Vec<Setting>,
}

/// The database.
pub struct Database {
    engine: Arc<Engine>,
    options: DatabaseOptions,
    runtimes: Runtimes,
    environment: Environment,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    queries: Arc<Queries>,
    logins: LoginQueue,
}

impl Database {
    /// A database over an open engine, its statements run on these threads.
    ///
    /// # Errors
    /// STORAGE_ERROR when the spill directory cannot be made.
    pub fn new(engine: Arc<Engine>, options: DatabaseOptions, runtimes: Runtimes) -> Result<Arc<Self>> {
        let environment = Environment::new(&options)?;
        let queries = Queries::new(
            Arc::clone(engine.clock()),
            options.query_history,
            options.max_queries_per_user,
        );
        Ok(Arc::new(Database {
            logins: LoginQueue::new(options.passwords_at_once),
            engine,
            options,
            runtimes,
            environment,
            sessions: Mutex::new(HashMap::new()),
            queries,
        }))
    }

    /// The engine below.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The options it was made with.
    pub fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// Sets or erases an option of a session, as SET does.
    ///
    /// # Errors
    /// NOT_FOUND for an unknown name; INVALID_ARGUMENT and NAMESPACE_NOT_FOUND for a value that cannot be.
    pub fn set_session_option(&self, session: &Session, name: &str, value: Option<SessionValue>) -> Result<()> {
        administration::set_option(self, session, name, value)
    }

    /// Checks a password, if it was not right lately; no more at once than the machine bears.
    ///
    /// # Errors
    /// UNAUTHENTICATED, TOO_MANY_REQUESTS.
    pub async fn authenticate(&self, user_id: &str, password: &str, peer: &str) -> Result<UserRecord> {
        let checked = self.check_login(user_id, password, peer).await;
        checked.inspect_err(|error| self.record_failed_login(Some(user_id), peer, error))
    }

    async fn check_login(&self, user_id: &str, password: &str, peer: &str) -> Result<UserRecord> {
        let begin = || self.engine.begin_login(user_id, password, peer);
        let mut login = begin()?;
        if let Login::Known(user) = login {
            return Ok(user);
        }
        let place = self.logins.place(peer)?;
        let attempt = loop {
            match login {
                Login::Known(user) => return Ok(user),
                Login::Unchecked(attempt) => break attempt,
                Login::Busy(mut busy) => busy.ended().await,
            }
            login = begin()?;
        };
        let turn = place.turn().await;
        let (engine, password) = (Arc::clone(&self.engine), password.to_owned());
        // Argon2 takes tens of milliseconds of CPU by design: a blocking thread, so that it never holds up a query's worker.
        let check = self.runtimes.short.spawn_blocking(move || {
            let checked = engine.check_password(attempt, &password);
            drop(turn);
            checked
        });
        check.await.map_err(|_| stopping())?
    }

    /// Notes a login that was refused, for `system.queries`. `claimed` is kept only where there is such a user: people
    /// type passwords into the wrong field.
    pub fn record_failed_login(&self, claimed: Option<&str>, peer: &str, error: &Error) {
        // Nobody was refused by a server that could not tell.
        if matches!(
            error.code,
            ErrorCode::Internal | ErrorCode::StorageError | ErrorCode::Unavailable
        ) {
            return;
        }
        let known = claimed.and_then(|user_id| {
            let user = self.engine.user(&self.engine.view(), user_id);
            // Whoever cannot be looked up is recorded as nobody.
            user.ok().flatten()
        });
        self.queries
            .failed_login(known.map(|user| user.principal), peer, error.code);
    }

    /// A new session, registered until it is closed, idle too long, or dropped by a door that made it for one call.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when `max_sessions` are open, or all but a few that are not for this user; SESSION_QUOTA_EXCEEDED; STORAGE_ERROR.
    pub fn open_session(self: &Arc<Self>, user: &UserRecord, origin: SessionOrigin) -> Result<Arc<Session>> {
        let mut random = [0u8; 16];
        self.engine.clock().fill_random(&mut random);
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = Arc::new(Session::new(
            id.clone(),
            user.principal.clone(),
            origin,
            Arc::clone(self.engine.clock()),
        ));
        let own_limit = self.quotas(&user.principal)?.limit(Quota::Sessions);
        let mut sessions = self.sessions.lock();
        if let Some(limit) = own_limit {
            let of_user = sessions
                .values()
                .filter(|open| open.principal().scope == user.principal.scope);
            let open = of_user.count() as u64;
            if open >= limit {
                return Err(Error::new(
                    Quota::Sessions.breach(),
                    format!(
                        "user '{}' has {open} sessions open, the quota (sessions); close one or try again later",
                        user.principal.user_id
                    ),
                ));
            }
        }
        let reserved = match user.principal.may_do(Task::KillSession) {
            true => 0,
            false => reserved_sessions(self.options.max_sessions),
        };
        if sessions.len() >= self.options.max_sessions - reserved {
            let kept = match reserved {
                0 => String::new(),
                reserved => format!(" but for {reserved} that are kept for who may end others"),
            };
            return Err(Error::new(
                ErrorCode::TooManyRequests,
                format!(
                    "{} sessions are open, the limit (max_sessions){kept}; close one or try again later",
                    sessions.len()
                ),
            ));
        }
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// The open session of that id, marked active. Whether the caller is its principal is for the caller to check.
    pub fn find_session(&self, session_id: &str) -> Option<Arc<Session>> {
        let session = self.sessions.lock().get(session_id).cloned()?;
        session.touch();
        Some(session)
    }

    /// Ends a session and cancels what it runs; false if it was not open.
    pub fn close_session(&self, session_id: &str) -> bool {
        let open = self.sessions.lock().remove(session_id).is_some();
        if open {
            self.queries.cancel(|_, of_session| of_session == session_id);
        }
        open
    }

    /// Ends all sessions of a user but the one that sees to it, and cancels what they run.
    pub(crate) fn end_sessions(&self, user: &Principal, spared: &Session) {
        let is_to_end = |open: &Session| open.principal().scope == user.scope && open.id() != spared.id();
        self.sessions.lock().retain(|_, open| !is_to_end(open));
        self.queries.cancel_of_user(user, spared.id());
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Ends idle sessions and erases expired rows; the server calls it every few seconds.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub async fn tend(self: &Arc<Self>) -> Result<()> {
        let idle_micros = i64::try_from(self.options.session_idle_seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        let limit_micros = self.engine.clock().now_micros().saturating_sub(idle_micros);
        let idle: Vec<String> = {
            let sessions = self.sessions.lock();
            let idle = sessions
                .values()
                .filter(|session| session.last_active_at_micros() < limit_micros);
            idle.map(|session| session.id().to_owned()).collect()
        };
        for session_id in idle {
            if !self.queries.session_is_busy(&session_id) {
                self.close_session(&session_id);
            }
        }
        let engine = Arc::clone(&self.engine);
        self.on_query_runtime(async move { engine.sweep_expired().await })
            .await?;
        Ok(())
    }

    /// What a statement is and what it returns and takes. Executes nothing. In `system.queries` it shows while it is planned, so
    /// that it can be cancelled, and afterwards if it failed.
    ///
    /// # Errors
    /// Whatever parsing and planning say.
    pub async fn describe(self: &Arc<Self>, session: &Arc<Session>, sql: &str) -> Result<Description> {
        self.describe_bound(session, sql, &Parameters::none()).await
    }

    /// The same for a statement that is going to run with these parameters, of which only the types matter.
    ///
    /// # Errors
    /// As [`Database::describe`].
    pub async fn describe_bound(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<Description> {
        session.touch();
        self.check_text(session, sql)?;
        let query = self.begin(session, sql, self.timeout(session))?;
        // Held to the end, so that a caller who goes away cancels it.
        let _abandoned = query.cancel_token().drop_guard();
        let (database, session, sql) = (Arc::clone(self), Arc::clone(session), sql.to_owned());
        let bound = parameters.types();
        let described = self.runtimes.short.spawn(async move {
            let work = async { aside(|| run::describe(&database, &session, &sql, bound, &query)) };
            let outcome = interruptible(&query, work).await;
            match &outcome {
                Ok(_) => query.described(),
                Err(error) => query.failed(error),
            }
            outcome
        });
        described.await.map_err(|_| stopping())?
    }

    /// Runs one statement. A query's rows stream while it runs; everything else is done when this returns.
    ///
    /// # Errors
    /// Whatever parsing, planning and running say; nothing is changed then.
    pub async fn execute(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sql: &str,
        parameters: Parameters,
    ) -> Result<Execution> {
        session.touch();
        self.check_text(session, sql)?;
        let query = self.begin(session, sql, self.timeout(session))?;
        let query_id = query.id().to_owned();
        let cancel = query.cancel_token();
        // Held until the rows have a stream of their own, so that a caller who goes away cancels the statement.
        let abandoned = cancel.clone().drop_guard();
        let (head, answer) = oneshot::channel();
        let (batches, received) = mpsc::channel(BATCHES_IN_FLIGHT);
        let output = Output::new(head, batches);
        let takes_long = query.interruption().takes_long();
        let work = supervise(
            Arc::clone(self),
            Arc::clone(session),
            sql.to_owned(),
            parameters,
            query,
            output,
        );
        self.runtimes.spawn(takes_long, work);
        let answer = answer.await.map_err(|_| stopping())?;
        let cancel_with_stream = abandoned.disarm();
        match answer? {
            Head::Rows(schema) => Ok(Execution::Rows(RowStream::new(
                schema,
                query_id,
                received,
                cancel_with_stream,
            ))),
            Head::Done(completion) => Ok(Execution::Done(completion)),
            Head::Report(report) => Ok(Execution::Report(report)),
        }
    }

    /// Loads a stream of batches into a table: all of it or nothing; how many rows.
    ///
    /// # Errors
    /// As for INSERT and CREATE TABLE, and whatever error the stream ends with.
    pub async fn ingest(
        self: &Arc<Self>,
        session: &Arc<Session>,
        request: IngestRequest,
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch>>,
    ) -> Result<u64> {
        session.touch();
        let namespace = request.namespace.clone().unwrap_or_else(|| session.namespace());
        // No statement timeout: how long a load takes is the client's matter, and a client that goes away cancels it.
        let statement = format!("INGEST INTO \"{namespace}\".\"{}\"", request.table);
        let query = self.begin(session, &statement, None)?;
        query.show_text(&statement);
        let abandoned = query.cancel_token().drop_guard();
        let (database, session) = (Arc::clone(self), Arc::clone(session));
        let (ended, load) = oneshot::channel();
        self.runtimes.spawn(query.interruption().takes_long(), async move {
            let work = ingest::run(&database, &session, request, schema, batches, &query);
            let outcome = interruptible(&query, work).await;
            match &outcome {
                Ok(rows) => {
                    query.add_rows(*rows, 0);
                    query.finished();
                }
                Err(error) => query.failed(error),
            }
            // A caller who went away does not want it.
            let _gone = ended.send(outcome);
        });
        let outcome = load.await.map_err(|_| stopping())?;
        abandoned.disarm();
        outcome
    }

    /// The namespaces that the session's principal sees, by name, `information_schema` and `system` included.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub async fn namespaces(self: &Arc<Self>, session: &Arc<Session>) -> Result<Vec<String>> {
        session.touch();
        let (database, session) = (Arc::clone(self), Arc::clone(session));
        self.on_query_runtime(async move { metadata::namespaces(&database, &session) })
            .await
    }

    /// The tables that the session's principal sees, ordered by namespace and name.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub async fn tables(self: &Arc<Self>, session: &Arc<Session>, filter: &TableFilter) -> Result<Vec<TableInfo>> {
        session.touch();
        let (database, session, filter) = (Arc::clone(self), Arc::clone(session), filter.clone());
        self.on_query_runtime(async move { metadata::tables(&database, &session, &filter) })
            .await
    }

    /// Running queries.
    pub fn running_queries(&self) -> usize {
        self.queries.running()
    }

    /// How many queries ended so since the start, by the status that `system.queries` shows.
    pub fn ended_queries(&self) -> [(&'static str, u64); 3] {
        self.queries.ended()
    }

    /// Cancels the query of that id as KILL QUERY does, if the session's user may; false if there is none.
    ///
    /// # Errors
    /// UNAUTHENTICATED if the session's user is gone.
    pub fn cancel_query(&self, session: &Session, query_id: &str) -> Result<bool> {
        let principal = self.principal(&self.engine.view(), session)?;
        let Some(owner) = self.queries.owner(query_id) else {
            return Ok(false);
        };
        let may = owner.scope == principal.scope || principal.require(Task::KillQuery).is_ok();
        Ok(may && self.queries.cancel(|id, _| id == query_id) > 0)
    }

    /// Starts the flushes and compactions that are due and does not wait for them, has storages that are away tried again, and notes how
    /// far identifiers have come; the server calls it every second, and when [`Engine::wait_for_due`] resolves.
    ///
    /// # Errors
    /// UNAVAILABLE when the server is stopping, STORAGE_ERROR.
    pub async fn maintain(self: &Arc<Self>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.on_query_runtime(async move {
            engine.end_old_snapshots();
            engine.find_storages();
            engine.run_due();
            match identifiers::latest_snowflake_micros() {
                Some(latest_micros) => engine.keep_time_mark(latest_micros).await,
                None => Ok(()),
            }
        })
        .await
    }

    /// Cancels everything that still runs, jobs included; part of stopping the server.
    pub fn cancel_all(&self) {
        self.queries.cancel(|_, _| true);
        self.engine.stop_maintenance();
    }

    /// Open sessions, for `system.sessions`.
    pub(crate) fn sessions(&self) -> Vec<SessionSnapshot> {
        let mut sessions: Vec<SessionSnapshot> = self
            .sessions
            .lock()
            .values()
            .map(|session| session.snapshot())
            .collect();
        sessions.sort_by(|a, b| (a.created_at_micros, &a.session_id).cmp(&(b.created_at_micros, &b.session_id)));
        sessions
    }

    /// Running and remembered queries, for `system.queries`.
    pub(crate) fn queries(&self) -> Vec<QuerySnapshot> {
        self.queries.snapshot()
    }

    /// What all statements share of DataFusion.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Who the session's user is as of `view`: the one place where a statement gets its rights and scope.
    ///
    /// # Errors
    /// UNAUTHENTICATED if the user was dropped (or dropped and made again) since the session began.
    pub(crate) fn principal(&self, view: &View, session: &Session) -> Result<Principal> {
        let of_session = session.principal();
        match self.engine.user(view, &of_session.user_id)? {
            Some(user) if user.principal.scope == of_session.scope => Ok(user.principal),
            Some(_) | None => Err(Error::new(
                ErrorCode::Unauthenticated,
                format!("user '{}' does not exist any more; log in again", of_session.user_id),
            )),
        }
    }

    /// How long a statement of the session may take.
    fn timeout(&self, session: &Session) -> Option<Duration> {
        let timeout_ms = session
            .statement_timeout_ms()
            .unwrap_or(self.options.statement_timeout_ms);
        (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms))
    }

    /// What holds for the session's user, who is asked anew: roles and quotas change.
    fn quotas(&self, of_session: &Principal) -> Result<Quotas> {
        let view = self.engine.view();
        if !view.has_quotas() {
            return Ok(Quotas::default());
        }
        let user = self.engine.user(&view, &of_session.user_id)?;
        let user = user.filter(|user| user.principal.scope == of_session.scope);
        Ok(user.map_or_else(Quotas::default, |user| view.quotas(&user.principal)))
    }

    /// Registers a statement that starts now, within its user's quotas.
    fn begin(&self, session: &Session, sql: &str, timeout: Option<Duration>) -> Result<RunningQuery> {
        let quotas = self.quotas(session.principal())?;
        let memory = self.share_of(session, &quotas);
        self.queries.start(session, sql, timeout, &quotas, memory)
    }

    /// The account of the session's user, if they have a quota of memory.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub(crate) fn memory_share(&self, session: &Session) -> Result<Option<MemoryShare>> {
        Ok(self.share_of(session, &self.quotas(session.principal())?))
    }

    fn share_of(&self, session: &Session, quotas: &Quotas) -> Option<MemoryShare> {
        quotas.limit(Quota::Memory).map(|limit| {
            let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
            self.environment.shares().of(&session.principal().user_id, limit_bytes)
        })
    }

    fn check_text(&self, session: &Session, sql: &str) -> Result<()> {
        let limit = self.options.statement_text_limit_bytes;
        if sql.len() > limit {
            self.queries.refused(session, sql, ErrorCode::StatementTooLarge);
            return Err(Error::new(
                ErrorCode::StatementTooLarge,
                format!(
                    "the statement's text has {} bytes, the limit is {limit} (setting statement_text_limit); send rows as parameters or by bulk ingest",
                    sql.len()
                ),
            ));
        }
        Ok(())
    }

    async fn on_query_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match self.runtimes.short.spawn(AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(panicked()),
            Err(_) => Err(stopping()),
        }
    }
}

/// What `execute` waits for.
pub(crate) enum Head {
    /// Rows of this schema follow.
    Rows(SchemaRef),
    /// All is done.
    Done(Completion),
    /// All is done, and these rows say what.
    Report(Report),
}

/// How long an answer waits for threads that still compute for the statement: its caller's next one finds its place free then.
const PATIENCE: Duration = Duration::from_millis(500);

/// One statement's task: runs it, sees to its limits, and reports how it ended before the caller learns it, unless its threads take
/// too long to end.
async fn supervise(
    database: Arc<Database>,
    session: Arc<Session>,
    sql: String,
    parameters: Parameters,
    query: RunningQuery,
    mut output: Output,
) {
    let work = run::statement(&database, &session, &sql, parameters, &query, &mut output);
    let outcome = interruptible(&query, work).await;
    let recorded = match &outcome {
        Ok(ended) => Ok(ended.changed_rows()),
        Err(error) => Err(error.clone()),
    };
    let record = |query: RunningQuery| match recorded {
        Ok(rows) => {
            query.add_rows(rows.unwrap_or_default(), 0);
            query.finished();
        }
        Err(error) => query.failed(&error),
    };
    let answer = async {
        match outcome {
            Ok(ended) => output.done(ended),
            Err(error) => output.failed(error).await,
        }
    };
    let interruption = query.interruption().clone();
    if interruption.is_at_rest() || tokio::time::timeout(PATIENCE, interruption.rest()).await.is_ok() {
        // Nothing that counts against the user is left once the caller knows.
        drop(interruption);
        record(query);
        answer.await;
    } else {
        // It counts as running for as long as it computes.
        let ending = async {
            interruption.rest().await;
            record(query);
        };
        futures::join!(answer, ending);
    }
}

/// Runs `work` until it ends, is cancelled, takes too long or panics. Work that is committing is waited for: only its own
/// outcome is the truth then.
async fn interruptible<T>(query: &RunningQuery, work: impl Future<Output = Result<T>>) -> Result<T> {
    let interruption = query.interruption().wait();
    let work = std::pin::pin!(AssertUnwindSafe(work).catch_unwind());
    let interruption = std::pin::pin!(interruption);
    let outcome = match select(work, interruption).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right((_, work)) if query.is_committing() => work.await,
        Either::Right((error, _)) => return Err(error),
    };
    let outcome = outcome.unwrap_or_else(|_| Err(panicked()));
    outcome.map_err(|error| query.logged(error))
}

/// The log has where, from the hook of panics.
fn panicked() -> Error {
    Error::internal(
        "KalamDB, a panic",
        "the statement failed because of a bug in KalamDB; the server's log says where",
    )
}

fn stopping() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is stopping")
}
