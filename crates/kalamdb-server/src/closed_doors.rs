//! The doors while the database is opened anew: they say so to everybody, and `/health` and `/ready` to whoever looks after the server.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kalamdb_core::{Error, ErrorCode};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::encryption::Encryption;
use crate::http::{self, Entrance};
use crate::listeners::Listeners;
use crate::refusal::Refusal;

/// An answer under way is short.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// See above.
pub(crate) struct ClosedDoors {
    flight: JoinHandle<io::Result<()>>,
    http: JoinHandle<io::Result<()>>,
    close_flight: oneshot::Sender<Duration>,
    /// Ends the HTTP door ...
    stopping: CancellationToken,
    /// ... and cuts it off.
    deadline: CancellationToken,
}

impl ClosedDoors {
    pub(crate) fn begin(listeners: Listeners, encryption: Encryption, max_connections: usize) -> Self {
        let (stopping, deadline) = (CancellationToken::new(), CancellationToken::new());
        let (close_flight, flight_closes) = oneshot::channel();
        let entrance = Entrance {
            router: Router::new().route("/health", get(health)).fallback(refuse),
            max_connections,
            encryption: encryption.http,
            stopping: stopping.clone(),
        };
        ClosedDoors {
            flight: tokio::spawn(kalamdb_flight::refuse(
                listeners.flight,
                encryption.flight,
                max_connections,
                reopening(),
                // Whoever is gone waits for nobody.
                async move { flight_closes.await.unwrap_or_default() },
            )),
            http: tokio::spawn(http::serve(listeners.http, entrance, deadline.clone())),
            close_flight,
            stopping,
            deadline,
        }
    }

    /// Clients find other doors on the same addresses afterwards.
    pub(crate) async fn end(self) {
        self.stopping.cancel();
        // It has ended if nobody hears this, which is told below.
        self.close_flight.send(CLOSE_GRACE).ok();
        let mut http = self.http;
        let ended = match tokio::time::timeout(CLOSE_GRACE, &mut http).await {
            Ok(ended) => ended,
            Err(_) => {
                self.deadline.cancel();
                http.await
            }
        };
        for (door, ended) in [("HTTP", ended), ("Flight", self.flight.await)] {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, door, "a closed door failed"),
                Err(error) => tracing::error!(%error, door, "a closed door ended by a bug"),
            }
        }
    }
}

/// It names neither files nor causes: `/ready` answers anybody, and the log says more.
fn reopening() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "the database is being opened anew, because writes failed; try again soon",
    )
}

async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "reopening"})).into_response()
}

async fn refuse() -> Response {
    Refusal::from(reopening()).into_response()
}
