//! What is below the doors: store and engine, the database, and the threads of its statements. Opened bottom-up, closed top-down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kalamdb_core::{Clock, Engine, give_way};
use kalamdb_sql::{Database, Runtimes};
use tokio::runtime::Runtime;

use crate::config::Config;

/// What blocks on a query runtime at the end, such as a write under way, is waited for so long.
const RUNTIME_GRACE: Duration = Duration::from_secs(10);

/// Planning recurses with the depth of an expression.
const QUERY_STACK_BYTES: usize = 8 << 20;

/// What is below the doors.
pub(crate) struct Floors {
    pub(crate) engine: Arc<Engine>,
    pub(crate) database: Arc<Database>,
    runtimes: QueryRuntimes,
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
        let runtimes = QueryRuntimes::start(config.query_threads)?;
        let opened = runtimes
            .handles()
            .short
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
        let database = Database::new(Arc::clone(&engine), config.database_options(), runtimes.handles());
        match database {
            Ok(database) => Ok(Floors {
                engine,
                database,
                runtimes,
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
            runtimes,
        } = self;
        database.cancel_all();
        drop(database);
        runtimes.end().await;
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

/// The threads of queries and writes: of usual priority, and those that give way. Tokio forbids to drop a runtime within another one;
/// this may be dropped anywhere.
struct QueryRuntimes {
    short: Option<Runtime>,
    long: Option<Runtime>,
}

impl QueryRuntimes {
    fn start(threads: usize) -> Result<Self, String> {
        Ok(QueryRuntimes {
            short: Some(start("kalamdb-query", threads, || {})?),
            long: Some(start("kalamdb-long", threads, give_way)?),
        })
    }

    fn handles(&self) -> Runtimes {
        let handle = |runtime: &Option<Runtime>| {
            let runtime = runtime.as_ref().expect("only `end` and `drop` take the runtimes");
            runtime.handle().clone()
        };
        Runtimes {
            short: handle(&self.short),
            long: handle(&self.long),
        }
    }

    async fn end(mut self) {
        let runtimes = [self.short.take(), self.long.take()];
        let ending = runtimes
            .into_iter()
            .flatten()
            .map(|runtime| tokio::task::spawn_blocking(move || runtime.shutdown_timeout(RUNTIME_GRACE)));
        for ended in join_all(ending).await {
            if let Err(error) = ended {
                tracing::error!(%error, "ending a query runtime ended by a bug");
            }
        }
    }
}

impl Drop for QueryRuntimes {
    fn drop(&mut self) {
        for runtime in [self.short.take(), self.long.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime for statements, each of whose threads begins so.
fn start(name: &str, threads: usize, begin: impl Fn() + Send + Sync + 'static) -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .thread_stack_size(QUERY_STACK_BYTES)
        .on_thread_start(begin)
        .enable_all()
        .build()
        .map_err(|error| format!("the threads of queries cannot start: {error}"))
}
