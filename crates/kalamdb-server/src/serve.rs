//! Starts the server, opens its database anew when that is needed, and stops it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use kalamdb_core::Clock;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::closed_doors::ClosedDoors;
use crate::config::Config;
use crate::encryption::{Encryption, Encryptions};
use crate::floors::Floors;
use crate::listeners::{Bound, Listeners};
use crate::refused_writes::{SHORTEST_PATIENCE, patience_after};
use crate::round::{Ended, Round};

/// An opening that failed is tried again after this, ...
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// ... and after twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    let floors = Floors::open(&config, Arc::clone(&clock)).await?;
    let bound = match Bound::bind(&config).await {
        Ok(bound) => bound,
        Err(message) => {
            floors.close().await;
            return Err(message);
        }
    };
    let (flight, http) = (bound.flight_address, bound.http_address);
    let stopping = CancellationToken::new();
    let encryption = encryptions.as_ref().map(Encryptions::of_doors).unwrap_or_default();
    let house = House {
        config,
        clock,
        bound,
        encryption,
        stopping: stopping.clone(),
    };
    let listeners = match house.listeners() {
        Ok(listeners) => listeners,
        Err(message) => {
            floors.close().await;
            return Err(message);
        }
    };
    if let Some(encryptions) = encryptions {
        tokio::spawn(stopping.clone().run_until_cancelled_owned(encryptions.renew()));
    }
    house.announce(&floors);
    Ok(Running {
        flight,
        http,
        supervisor: tokio::spawn(house.live(floors, listeners, shutdown)),
        stop_on_drop: stopping.drop_guard(),
    })
}

/// What stays while the database is opened anew.
struct House {
    config: Config,
    clock: Arc<dyn Clock>,
    bound: Bound,
    encryption: Encryption,
    /// Cancelled when the server is to stop.
    stopping: CancellationToken,
}

impl House {
    fn listeners(&self) -> Result<Listeners, String> {
        let listeners = self.bound.listeners();
        listeners.map_err(|error| format!("the listeners cannot be used: {error}"))
    }

    fn announce(&self, floors: &Floors) {
        tracing::info!(
            flight = %self.bound.flight_address,
            http = %self.bound.http_address,
            data_dir = %self.config.data_dir.display(),
            tables = floors.engine.view().catalog().tables.len(),
            "ready"
        );
    }

    /// Until the server is to stop, or a door or task of its own fails.
    async fn live(
        self,
        mut floors: Floors,
        mut listeners: Listeners,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut patience = SHORTEST_PATIENCE;
        loop {
            let (began, stopping) = (Instant::now(), self.stopping.child_token());
            let round = Round::begin(&self.config, floors, listeners, self.encryption.clone(), stopping);
            let (left, outcome) = round.end(shutdown.as_mut(), patience).await;
            if !matches!(outcome, Ok(Ended::WritesRefused(_))) {
                left.close().await;
                tracing::info!("stopped");
                return outcome.map(|_| ());
            }
            patience = patience_after(patience, began.elapsed());
            let Some(opened) = self.reopen(left, shutdown.as_mut()).await else {
                tracing::info!("stopped");
                return Ok(());
            };
            (floors, listeners) = opened;
            self.announce(&floors);
        }
    }

    /// Closes the database and opens it, however often that takes; none if the server is to stop before.
    async fn reopen<S: Future<Output = ()>>(
        &self,
        floors: Floors,
        mut shutdown: Pin<&mut S>,
    ) -> Option<(Floors, Listeners)> {
        let closed = match self.listeners() {
            Ok(listeners) => Some(ClosedDoors::begin(
                listeners,
                self.encryption.clone(),
                self.config.max_connections,
            )),
            Err(message) => {
                tracing::warn!("nobody is told that the database is opened anew: {message}");
                None
            }
        };
        floors.close().await;
        let mut pause = SHORTEST_PAUSE;
        let opened = loop {
            match self.try_to_reopen().await {
                Ok(opened) => break Some(opened),
                Err(message) => {
                    tracing::error!(
                        pause_s = pause.as_secs(),
                        "the database cannot be opened, which is tried again: {message}"
                    );
                }
            }
            tokio::select! {
                biased;
                () = shutdown.as_mut() => break None,
                () = self.stopping.cancelled() => break None,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if let Some(closed) = closed {
            closed.end().await;
        }
        opened
    }

    async fn try_to_reopen(&self) -> Result<(Floors, Listeners), String> {
        let listeners = self.listeners()?;
        let floors = Floors::open_again(&self.config, Arc::clone(&self.clock)).await?;
        Ok((floors, listeners))
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::SystemClock;
    use tokio::net::TcpListener;

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
