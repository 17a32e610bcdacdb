//! Builds the floors bottom-up and stops them top-down: store and engine, database, doors; and the tasks between them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_core::{Clock, Engine};
use kalamdb_sql::Database;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{Config, whole_millis};
use crate::encryption::Encryptions;
use crate::http::{self, Door};
use crate::issuer_keys;
use crate::metrics::Metrics;

/// How often idle sessions and expired rows are looked for.
const TEND_INTERVAL: Duration = Duration::from_secs(2);

/// How often flushes and compactions are looked for that are due: FLUSH_POLICY counts whole seconds ...
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(1);
/// ... and how soon again at the word of a writer.
const MAINTAIN_PAUSE: Duration = Duration::from_millis(50);

/// After the drain, cancelled statements have so long to end before their connections are cut.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// What blocks on the query runtime at the end, such as a write under way, is waited for so long.
const RUNTIME_GRACE: Duration = Duration::from_secs(10);

/// Planning recurses with the depth of an expression.
const QUERY_STACK_BYTES: usize = 8 << 20;

/// A server that is ready. Dropping it begins a graceful stop that nobody waits for.
pub struct Running {
    /// Where Flight SQL listens.
    pub flight: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    supervisor: JoinHandle<io::Result<()>>,
    stop_on_drop: DropGuard,
}

impl Running {
    /// Resolves when the shutdown future given to [`serve`] resolved and everything is drained and closed.
    ///
    /// # Errors
    /// When a door or a task failed.
    pub async fn stopped(self) -> io::Result<()> {
        let ended = self.supervisor.await;
        drop(self.stop_on_drop);
        ended.map_err(|error| io::Error::other(format!("the server's supervisor ended by a bug: {error}")))?
    }

    /// Begins a graceful stop and waits for its end.
    ///
    /// # Errors
    /// As [`Running::stopped`].
    pub async fn stop(self) -> io::Result<()> {
        let Running {
            supervisor,
            stop_on_drop,
            ..
        } = self;
        drop(stop_on_drop);
        supervisor
            .await
            .map_err(|error| io::Error::other(format!("the server's supervisor ended by a bug: {error}")))?
    }
}

/// Starts everything; returns when both doors are ready.
///
/// # Errors
/// A message for people: directory in use, address in use, bad setting.
pub async fn serve(
    config: Config,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, String> {
    config.check()?;
    let encryptions = Encryptions::open(&config)?;
    let floors = Floors::open(&config, clock).await?;
    match open_doors(&config, &floors).await {
        Ok((flight, http)) => Ok(start(config, floors, flight, http, encryptions, shutdown)),
        Err(message) => {
            floors.close().await;
            Err(message)
        }
    }
}

async fn open_doors(config: &Config, floors: &Floors) -> Result<(Listening, Listening), String> {
    let flight = Listening::bind("flight_listen", config.flight_listen).await?;
    let http = Listening::bind("http_listen", config.http_listen).await?;
    tracing::info!(
        flight = %flight.address,
        http = %http.address,
        data_dir = %config.data_dir.display(),
        tables = floors.engine.view().catalog().tables.len(),
        "ready"
    );
    Ok((flight, http))
}

/// A door's listener and the address it got.
struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    async fn bind(setting: &str, address: SocketAddr) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{setting}: cannot listen on {address}: {error}");
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listening { listener, address })
    }
}

fn start(
    config: Config,
    floors: Floors,
    flight: Listening,
    http: Listening,
    encryptions: Option<Encryptions>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Running {
    let stopping = CancellationToken::new();
    let deadline = CancellationToken::new();
    let door = Arc::new(Door {
        database: Arc::clone(&floors.database),
        max_request_bytes: config.max_request_bytes,
        max_connections: config.max_connections,
        metrics: Arc::new(Metrics::new(&floors.database)),
        encryption: encryptions.as_ref().map(|encryptions| Arc::clone(&encryptions.http)),
        stopping: stopping.clone(),
    });
    let flight_encryption = encryptions.as_ref().map(|encryptions| Arc::clone(&encryptions.flight));
    if let Some(encryptions) = encryptions {
        tokio::spawn(stopping.clone().run_until_cancelled_owned(encryptions.renew()));
    }
    if let Some(source) = config.jwt_keys.clone() {
        let kept = issuer_keys::keep(source, Arc::clone(&floors.engine));
        tokio::spawn(stopping.clone().run_until_cancelled_owned(kept));
    }
    let mut flight_options = config.flight_options();
    // Statements that are cancelled at the end of the drain get to say so to their clients.
    flight_options.drain_ms = flight_options.drain_ms.saturating_add(whole_millis(CANCEL_GRACE));
    let tasks = Tasks {
        flight: tokio::spawn(kalamdb_flight::serve(
            flight.listener,
            flight_encryption,
            Arc::clone(&floors.database),
            flight_options,
            stopping.clone().cancelled_owned(),
        )),
        http: tokio::spawn(http::serve(http.listener, door, deadline.clone())),
        tend: tokio::spawn(tend(Arc::clone(&floors.database), stopping.clone())),
        maintain: tokio::spawn(maintain(Arc::clone(&floors.database), stopping.clone())),
    };
    let supervisor = tokio::spawn(supervise(
        floors,
        tasks,
        shutdown,
        stopping.clone(),
        deadline,
        config.drain,
    ));
    Running {
        flight: flight.address,
        http: http.address,
        supervisor,
        stop_on_drop: stopping.drop_guard(),
    }
}

/// What runs beside the supervisor.
struct Tasks {
    flight: JoinHandle<io::Result<()>>,
    http: JoinHandle<io::Result<()>>,
    tend: JoinHandle<()>,
    maintain: JoinHandle<()>,
}

/// Waits for the end, whatever brings it, and stops everything top-down.
async fn supervise(
    floors: Floors,
    mut tasks: Tasks,
    shutdown: impl Future<Output = ()> + Send + 'static,
    stopping: CancellationToken,
    deadline: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    let mut failures = Vec::new();
    let mut flight_ended = false;
    let mut http_ended = false;
    let mut tend_ended = false;
    let mut maintain_ended = false;
    tokio::select! {
        // In this order: a door that ends because it was asked to has not ended by itself.
        biased;
        () = shutdown => {}
        () = stopping.cancelled() => {}
        ended = &mut tasks.flight => {
            flight_ended = true;
            failures.push(early("the Flight door", ended));
        }
        ended = &mut tasks.http => {
            http_ended = true;
            failures.push(early("the HTTP door", ended));
        }
        ended = &mut tasks.tend => {
            tend_ended = true;
            failures.push(early("the tending task", ended.map(Ok)));
        }
        ended = &mut tasks.maintain => {
            maintain_ended = true;
            failures.push(early("the maintaining task", ended.map(Ok)));
        }
    }
    tracing::info!(drain_ms = drain.as_millis(), "stopping");
    stopping.cancel();
    let mut doors = Box::pin(async {
        if !flight_ended {
            failures.extend(failed("the Flight door", (&mut tasks.flight).await));
        }
        if !http_ended {
            failures.extend(failed("the HTTP door", (&mut tasks.http).await));
        }
    });
    if tokio::time::timeout(drain, &mut doors).await.is_err() {
        tracing::warn!(drain_ms = drain.as_millis(), "cancelling what still runs");
        floors.database.cancel_all();
        if tokio::time::timeout(CANCEL_GRACE, &mut doors).await.is_err() {
            deadline.cancel();
            // The Flight door may not end even then; it is cut off below.
            let ended = tokio::time::timeout(CANCEL_GRACE, &mut doors).await;
            tracing::warn!(cut = ended.is_err(), "connections were left");
        }
    }
    drop(doors);
    for (what, task) in [("the Flight door", tasks.flight), ("the HTTP door", tasks.http)] {
        if !task.is_finished() {
            tracing::warn!("cutting off {what}");
            task.abort();
            if let Err(error) = task.await
                && error.is_panic()
            {
                failures.push(format!("{what} ended by a bug: {error}"));
            }
        }
    }
    if !tend_ended {
        failures.extend(failed("the tending task", tasks.tend.await.map(Ok)));
    }
    if !maintain_ended {
        failures.extend(failed("the maintaining task", tasks.maintain.await.map(Ok)));
    }
    floors.close().await;
    tracing::info!("stopped");
    match failures.into_iter().next() {
        Some(message) => Err(io::Error::other(message)),
        None => Ok(()),
    }
}

/// What to say of a task that was not asked to end.
fn early(what: &str, ended: Result<io::Result<()>, JoinError>) -> String {
    let message = failed(what, ended).unwrap_or_else(|| format!("{what} ended by itself"));
    tracing::error!("{message}");
    message
}

fn failed(what: &str, ended: Result<io::Result<()>, JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{what} failed: {error}")),
        Err(error) => Some(format!("{what} ended by a bug: {error}")),
    }
}

/// Ends idle sessions and erases expired rows, until `stopping`.
async fn tend(database: Arc<Database>, stopping: CancellationToken) {
    let mut interval = tokio::time::interval(TEND_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Err(error) = database.tend().await {
            tracing::warn!(%error, "tending failed; it is tried again");
        }
    }
}

/// Has flushes and compactions started when they are due, until `stopping`.
async fn maintain(database: Arc<Database>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(MAINTAIN_INTERVAL) => {}
            () = database.engine().wait_for_due() => {}
        }
        if let Err(error) = database.maintain().await {
            tracing::warn!(%error, "looking for flushes that are due failed; it is tried again");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(MAINTAIN_PAUSE) => {}
        }
    }
}

/// What is below the doors.
struct Floors {
    engine: Arc<Engine>,
    database: Arc<Database>,
    runtime: QueryRuntime,
}

impl Floors {
    async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
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

    async fn close(self) {
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

#[cfg(test)]
mod tests {
    use kalamdb_core::SystemClock;

    use super::*;

    async fn start(config: Config) -> Result<Running, String> {
        serve(config, Arc::new(SystemClock), std::future::pending()).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stopped_server_has_closed_its_store() {
        let directory = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            let running = start(Config::new(directory.path())).await.expect("starts");
            assert!(running.flight.port() != 0 && running.http.port() != 0);
            let refused = start(Config::new(directory.path()))
                .await
                .err()
                .expect("the directory is in use");
            assert!(refused.contains("in use"), "{refused}");
            running.stop().await.expect("stops");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_cannot_listen_leaves_nothing_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let http_listen = taken.local_addr().expect("an address");
        let mut config = Config::new(directory.path());
        config.http_listen = http_listen;
        let refused = start(config).await.err().expect("the port is taken");
        assert!(
            refused.contains("http_listen") && refused.contains(&http_listen.to_string()),
            "{refused}"
        );
        start(Config::new(directory.path()))
            .await
            .expect("starts")
            .stop()
            .await
            .expect("stops");
    }
}
