//! A database in a temporary directory for this crate's tests, called from one runtime and run on another, as the doors do.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use kalamdb_core::{DrivenClock, Durability, Engine, EngineOptions, ErrorCode, MaintenanceOptions, Result, UserRecord};

use crate::database::{Database, DatabaseOptions};
use crate::execution::{Execution, RowStream};
use crate::parameters::Parameters;
use crate::runtimes::Runtimes;
use crate::session::{Session, SessionOrigin};

/// 2024-05-01 12:00:00 UTC.
pub(crate) const NOW_MICROS: i64 = 1_714_564_800_000_000;

/// A database of its own, and a session of `root`.
pub(crate) struct Fixture {
    pub(crate) database: Arc<Database>,
    pub(crate) root: Arc<Session>,
    pub(crate) clock: Arc<DrivenClock>,
    caller: tokio::runtime::Runtime,
    _queries: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Fixture::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut DatabaseOptions)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let caller = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let queries = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let clock = Arc::new(DrivenClock::new(NOW_MICROS));
        let engine_options = EngineOptions {
            data_dir: directory.path().join("data"),
            durability: Durability::Relaxed,
            root_password: Some("a password for tests".into()),
            block_cache_bytes: 8 << 20,
            segment_cache_bytes: 8 << 20,
            write_buffer_bytes: 8 << 20,
            statement_write_limit_bytes: 64 << 20,
            snapshot_life_ms: 60_000,
            token_life_seconds: 3_600,
            outside_issuer: None,
            maintenance: MaintenanceOptions::default(),
        };
        let opened = Arc::clone(&clock);
        let engine = queries
            .block_on(Engine::open(engine_options, opened))
            .expect("a new database opens");
        let mut options = DatabaseOptions {
            memory_limit_bytes: 256 << 20,
            spill_dir: directory.path().join("spill"),
            statement_timeout_ms: 0,
            max_queries_per_user: 16,
            max_sessions: 100,
            passwords_at_once: 2,
            session_idle_seconds: 1_800,
            statement_text_limit_bytes: 1 << 20,
            batch_rows: 8_192,
            query_history: 100,
            settings: Vec::new(),
        };
        change(&mut options);
        let runtimes = Runtimes {
            short: queries.handle().clone(),
            long: queries.handle().clone(),
        };
        let database = Database::new(engine, options, runtimes).expect("a database");
        let root = Fixture::session_of(&database, "root");
        Fixture {
            database,
            root,
            clock,
            caller,
            _queries: queries,
            directory,
        }
    }

    /// Where the database is.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn session_of(database: &Arc<Database>, user_id: &str) -> Arc<Session> {
        let view = database.engine().view();
        let user: UserRecord = database
            .engine()
            .user(&view, user_id)
            .expect("readable")
            .expect("there");
        database
            .open_session(&user, SessionOrigin::default())
            .expect("room for a session")
    }

    /// A session of a user made before by SQL.
    pub(crate) fn session(&self, user_id: &str) -> Arc<Session> {
        Fixture::session_of(&self.database, user_id)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.caller.block_on(future)
    }

    /// Runs one statement as a session.
    pub(crate) fn execute_as(&self, session: &Arc<Session>, sql: &str, parameters: Parameters) -> Result<Outcome> {
        self.block_on(async {
            match self.database.execute(session, sql, parameters).await? {
                Execution::Rows(stream) => collect(stream).await.map(Outcome::Rows),
                Execution::Done(completion) => Ok(Outcome::Done(completion.rows)),
                Execution::Report(report) => Ok(Outcome::Rows(vec![report.rows])),
            }
        })
    }

    /// Runs statements of `root` that must succeed.
    #[track_caller]
    pub(crate) fn run(&self, statements: &[&str]) {
        for sql in statements {
            if let Err(error) = self.execute_as(&self.root, sql, Parameters::none()) {
                panic!("{sql}: {error}");
            }
        }
    }

    /// The rows of a query of `root`, one text each, values separated by `|`.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.rows_as(&self.root, sql, Parameters::none())
    }

    #[track_caller]
    pub(crate) fn rows_as(&self, session: &Arc<Session>, sql: &str, parameters: Parameters) -> Vec<String> {
        match self.execute_as(session, sql, parameters) {
            Ok(Outcome::Rows(batches)) => batches.iter().flat_map(texts).collect(),
            Ok(Outcome::Done(rows)) => panic!("{sql}: no rows but {rows:?}"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// A query of `root` gives exactly these rows, in this order.
    #[track_caller]
    pub(crate) fn check(&self, sql: &str, expected: &[&str]) {
        assert_eq!(self.rows(sql), expected, "{sql}");
    }

    /// A write of `root` changes so many rows.
    #[track_caller]
    pub(crate) fn check_count(&self, sql: &str, parameters: Parameters, expected: u64) {
        match self.execute_as(&self.root, sql, parameters) {
            Ok(Outcome::Done(rows)) => assert_eq!(rows, Some(expected), "{sql}"),
            Ok(Outcome::Rows(_)) => panic!("{sql}: rows"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// A statement of `root` fails so; `place` is line and column, and the message contains `part`.
    #[track_caller]
    pub(crate) fn check_error(&self, sql: &str, code: ErrorCode, place: Option<(u64, u64)>, part: &str) {
        self.check_error_as(&self.root, sql, Parameters::none(), code, place, part);
    }

    /// A statement of `root` fails so, wherever.
    #[track_caller]
    pub(crate) fn check_error_part(&self, sql: &str, code: ErrorCode, part: &str) {
        match self.execute_as(&self.root, sql, Parameters::none()) {
            Ok(_) => panic!("{sql}: no error"),
            Err(error) => {
                assert_eq!(error.code, code, "{sql}: {error}");
                assert!(error.message.contains(part), "{sql}: {error}");
            }
        }
    }

    #[track_caller]
    pub(crate) fn check_error_as(
        &self,
        session: &Arc<Session>,
        sql: &str,
        parameters: Parameters,
        code: ErrorCode,
        place: Option<(u64, u64)>,
        part: &str,
    ) {
        let Err(error) = self.execute_as(session, sql, parameters) else {
            panic!("{sql}: no error")
        };
        assert_eq!(error.code, code, "{sql}: {error}");
        assert_eq!(
            error.position.map(|position| (position.line, position.column)),
            place,
            "{sql}: {error}"
        );
        assert!(error.message.contains(part), "{sql}: {error}");
        for sign in [
            "External error",
            "DataFusion",
            "backtrace",
            "Error during planning",
            "\u{1}",
        ] {
            assert!(!error.message.contains(sign), "{sql}: {error}");
        }
    }
}

/// What a statement gave.
#[derive(Debug)]
pub(crate) enum Outcome {
    Rows(Vec<RecordBatch>),
    Done(Option<u64>),
}

/// Parameters from columns.
pub(crate) fn parameters(columns: Vec<Arc<dyn Array>>) -> Parameters {
    let named = columns
        .into_iter()
        .enumerate()
        .map(|(index, column)| (format!("p{index}"), column, true));
    Parameters {
        batch: Some(RecordBatch::try_from_iter_with_nullable(named).expect("columns of one length")),
    }
}

pub(crate) async fn collect(mut stream: RowStream) -> Result<Vec<RecordBatch>> {
    let schema = stream.schema();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        assert_eq!(batch.schema(), schema, "every batch has the stream's schema");
        batches.push(batch);
    }
    Ok(batches)
}

/// Its rows, one text each, values separated by `|`.
pub(crate) fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that can be shown"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect()
}
