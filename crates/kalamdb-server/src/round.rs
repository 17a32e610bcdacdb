//! From opening the doors to closing them: their tasks and those that look after the database meanwhile, and what ends them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_sql::Database;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::encryption::Encryption;
use crate::floors::Floors;
use crate::http::{self, Door, Entrance};
use crate::issuer_keys;
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::refused_writes;

/// How often idle sessions and expired rows are looked for.
const TEND_INTERVAL: Duration = Duration::from_secs(2);

/// How often flushes and compactions are looked for that are due: FLUSH_POLICY counts whole seconds ...
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(1);
/// ... and how soon again at the word of a writer.
const MAINTAIN_PAUSE: Duration = Duration::from_millis(50);

/// After the drain, cancelled statements have so long to end before their connections are cut.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// The drain before the database is opened anew is no longer: reads may end, but no write can succeed.
const LONGEST_DRAIN_TO_REOPEN: Duration = Duration::from_secs(2);

/// Doors that are open.
pub(crate) struct Round {
    floors: Floors,
    tasks: Tasks,
    /// Ends all of them.
    stopping: CancellationToken,
    /// Cuts HTTP requests off.
    deadline: CancellationToken,
    drain: Duration,
}

/// Why doors are closed.
pub(crate) enum Ended {
    /// The server stops.
    Stopped,
    /// No write is possible, for this reason, until the database is opened anew, and the disk takes writes.
    WritesRefused(String),
}

/// What runs beside the supervisor.
struct Tasks {
    flight: JoinHandle<io::Result<()>>,
    http: JoinHandle<io::Result<()>>,
    tend: JoinHandle<()>,
    maintain: JoinHandle<()>,
    keys: Option<JoinHandle<()>>,
    /// Closes the Flight door, with how long its calls may take.
    close_flight: oneshot::Sender<Duration>,
}

impl Round {
    /// Opens the doors, until `stopping` or until writes are refused.
    pub(crate) fn begin(
        config: &Config,
        floors: Floors,
        listeners: Listeners,
        encryption: Encryption,
        stopping: CancellationToken,
    ) -> Self {
        let deadline = CancellationToken::new();
        let door = Arc::new(Door {
            database: Arc::clone(&floors.database),
            max_request_bytes: config.max_request_bytes,
            metrics: Arc::new(Metrics::new(&floors.database)),
            stopping: stopping.clone(),
        });
        let entrance = Entrance {
            router: http::router(&door),
            max_connections: config.max_connections,
            encryption: encryption.http,
            stopping: stopping.clone(),
        };
        let (close_flight, flight_closes) = oneshot::channel();
        let keys = config.jwt_keys.clone().map(|source| {
            let kept = issuer_keys::keep(source, Arc::clone(&floors.engine));
            let kept = stopping.clone().run_until_cancelled_owned(kept);
            tokio::spawn(async move { kept.await.unwrap_or_default() })
        });
        let tasks = Tasks {
            flight: tokio::spawn(kalamdb_flight::serve(
                listeners.flight,
                encryption.flight,
                Arc::clone(&floors.database),
                config.flight_options(),
                // The supervisor that is gone waits for nobody.
                async move { flight_closes.await.unwrap_or_default() },
            )),
            http: tokio::spawn(http::serve(listeners.http, entrance, deadline.clone())),
            tend: tokio::spawn(tend(Arc::clone(&floors.database), stopping.clone())),
            maintain: tokio::spawn(maintain(Arc::clone(&floors.database), stopping.clone())),
            keys,
            close_flight,
        };
        Round {
            floors,
            tasks,
            stopping,
            deadline,
            drain: config.drain,
        }
    }

    /// Waits for the end, whatever brings it, and closes the doors; what is below is still open then. Writes that are refused bring it
    /// when the disk has taken others for `patience`.
    ///
    /// # Errors
    /// When a door or a task failed, which ends the server, too.
    pub(crate) async fn end<S: Future<Output = ()>>(
        self,
        shutdown: Pin<&mut S>,
        patience: Duration,
    ) -> (Floors, io::Result<Ended>) {
        let Round {
            floors,
            mut tasks,
            stopping,
            deadline,
            drain,
        } = self;
        let mut failures = Vec::new();
        let mut flight_ended = false;
        let mut http_ended = false;
        let mut tend_ended = false;
        let mut maintain_ended = false;
        let mut ended = Ended::Stopped;
        tokio::select! {
            // In this order: a door that ends because it was asked to has not ended by itself.
            biased;
            () = shutdown => {}
            () = stopping.cancelled() => {}
            outcome = &mut tasks.flight => {
                flight_ended = true;
                failures.push(early("the Flight door", outcome));
            }
            outcome = &mut tasks.http => {
                http_ended = true;
                failures.push(early("the HTTP door", outcome));
            }
            outcome = &mut tasks.tend => {
                tend_ended = true;
                failures.push(early("the tending task", outcome.map(Ok)));
            }
            outcome = &mut tasks.maintain => {
                maintain_ended = true;
                failures.push(early("the maintaining task", outcome.map(Ok)));
            }
            cause = refused_writes::last(&floors.engine, patience) => ended = Ended::WritesRefused(cause),
        }
        let drain = match &ended {
            Ended::Stopped => {
                tracing::info!(drain_ms = drain.as_millis(), "stopping");
                drain
            }
            Ended::WritesRefused(cause) => {
                let drain = drain.min(LONGEST_DRAIN_TO_REOPEN);
                tracing::error!(
                    cause,
                    drain_ms = drain.as_millis(),
                    "writes are refused although the disk takes them again: the database is opened anew"
                );
                drain
            }
        };
        stopping.cancel();
        // Statements that are cancelled at the end of the drain get to say so to their clients. A door that ended needs no word.
        tasks.close_flight.send(drain.saturating_add(CANCEL_GRACE)).ok();
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
                let left = tokio::time::timeout(CANCEL_GRACE, &mut doors).await;
                tracing::warn!(cut = left.is_err(), "connections were left");
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
        if let Some(keys) = tasks.keys {
            failures.extend(failed("the task of the outside issuer's keys", keys.await.map(Ok)));
        }
        let outcome = match (ended, failures.into_iter().next()) {
            (Ended::Stopped, Some(message)) => Err(io::Error::other(message)),
            // What ended with this round is begun anew with the next.
            (ended @ Ended::WritesRefused(_), Some(message)) => {
                tracing::error!("{message}");
                Ok(ended)
            }
            (ended, None) => Ok(ended),
        };
        (floors, outcome)
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
