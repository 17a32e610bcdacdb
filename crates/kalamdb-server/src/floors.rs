//! What is below the doors: store and engine, the database, and the runtime of its queries. Opened bottom-up, closed top-down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_core::{Clock, Engine};
use kalamdb_sql::Database;
use tokio::runtime::Runtime;

use crate::config::Config;

/// What blocks on the query runtime at the end, such as a write under way, is waited for so long.
const RUNTIME_GRACE: Duration = Duration::from_secs(10);

/// Planning recurses with the depth of an expression.
const QUERY_STACK_BYTES: usize = 8 << 20;

/// What is below the doors.
pub(crate) struct Floors {
    pub(crate) engine: Arc<Engine>,
    pub(crate) database: Arc<Database>,
    runtime: QueryRuntime,
}

impl Floors {
    /// Opens again what was open before, and creates nothing: where a disk is not mounted any more there is an empty directory.
    ///
    /// # Errors
    /// A message for people.
    pub(crate) async fn open_again(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let data_dir = config.data_dir.clone();
        let is_there = tokio::task::spawn_blocking(move || Engine::is_at(&data_dir)).await;
        if !is_there.map_err(|error| format!("looking at the data directory ended by a bug: {error}"))? {
            return Err(format!(
                "the database in {} is not there any more: is its disk mounted?",
                config.data_dir.display()
            ));
        }
        Floors::open(config, clock).await
    }

    /// Opens what the configuration names, or creates it.
    ///
    /// # Errors
    /// A message for people.
    pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let password_file = config.data_dir.join("root-password");
        let had_password_file = password_file.exists();
        let runtime = QueryRuntime::start(config.query_threads)?;
        let opened = runtime
            .handle()
            .spawn(Engine::open(config.engine_options(), clock))
            .await;
        let engine = opened
            .map_err(|error| format!("opening {} ended by a bug: {error}", config.data_dir.display()))?
            .map_err(|error| error.message)?;
        if !had_password_file && password_file.exists() {
            tracing::warn!(
                "the first start made user root; its password is in {}",
                password_file.display()
            );
        }
        clear_default_spill(config);
        let database = Database::new(Arc::clone(&engine), config.database_options(), runtime.handle().clone());
        match database {
            Ok(database) => Ok(Floors {
                engine,
                database,
                runtime,
            }),
            Err(error) => {
                close_engine(engine).await;
                Err(error.message)
            }
        }
    }

    /// Cancels what runs and waits until all is closed, but for computations that do not end.
    pub(crate) async fn close(self) {
        let Floors {
            engine,
            database,
            runtime,
        } = self;
        database.cancel_all();
        drop(database);
        runtime.end().await;
        close_engine(engine).await;
    }
}

/// Removes what queries of a killed server spilled. Only in the default place, which the lock on the data directory guards: another
/// place may hold others' files.
fn clear_default_spill(config: &Config) {
    if config.spill_dir != config.data_dir.join("spill") {
        return;
    }
    match std::fs::remove_dir_all(&config.spill_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "{} cannot be emptied", config.spill_dir.display()),
    }
}

/// Closing the store waits for its threads and its disk.
async fn close_engine(engine: Arc<Engine>) {
    let closed = tokio::task::spawn_blocking(move || match Arc::try_unwrap(engine) {
        Ok(engine) => drop(engine),
        Err(shared) => {
            tracing::warn!(
                holders = Arc::strong_count(&shared) - 1,
                "the store is still in use and closes later"
            );
        }
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "closing the store ended by a bug");
    }
}

/// The runtime of queries and writes. Tokio forbids to drop a runtime within another one; this may be dropped anywhere.
struct QueryRuntime {
    runtime: Option<Runtime>,
}

impl QueryRuntime {
    fn start(threads: usize) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("kalamdb-query")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| format!("the query runtime cannot start: {error}"))?;
        Ok(QueryRuntime { runtime: Some(runtime) })
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime
            .as_ref()
            .expect("only `end` and `drop` take the runtime")
            .handle()
    }

    async fn end(mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(RUNTIME_GRACE));
        if let Err(error) = ended.await {
            tracing::error!(%error, "ending the query runtime ended by a bug");
        }
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
