//! The HTTP door: connections, routes and the one layer of authentication. What `/api/sql` does is in `script`.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kalamdb_core::{Error, ErrorCode, Task};
use kalamdb_flight::{Encryption, Place, Places, SessionLease, Waiting};
use kalamdb_sql::Database;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::script;

/// A client has so long for the head of a request; idle connections end by it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// The same where there is no place for it, which is all that it is told.
const TOLD_TIMEOUT: Duration = Duration::from_secs(5);

/// The listener rests for so long when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every request needs.
pub(crate) struct Door {
    pub(crate) database: Arc<Database>,
    pub(crate) max_request_bytes: usize,
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the server begins to stop, or to open its database anew.
    pub(crate) stopping: CancellationToken,
}

/// How connections are served.
pub(crate) struct Entrance {
    pub(crate) router: Router,
    /// Connections at once; more are told that there is no place.
    pub(crate) max_connections: usize,
    /// With it the door speaks HTTPS only.
    pub(crate) encryption: Option<Encryption>,
    /// Cancelled when no more are taken.
    pub(crate) stopping: CancellationToken,
}

/// The other end of the connection.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

/// Serves until `entrance.stopping`, then lets the requests under way end; whatever still runs at `deadline` is cut off.
///
/// # Errors
/// When a connection's task panicked: everything else is dealt with here.
pub(crate) async fn serve(listener: TcpListener, entrance: Entrance, deadline: CancellationToken) -> io::Result<()> {
    let places = Places::new(entrance.max_connections);
    let entrance = Arc::new(entrance);
    let mut connections = JoinSet::new();
    let mut panicked = None;
    loop {
        tokio::select! {
            () = entrance.stopping.cancelled() => break,
            accepted = accept(&listener, &places) => match accepted {
                Ok((stream, peer, waiting)) => {
                    let (places, entrance) = (places.clone(), Arc::clone(&entrance));
                    connections.spawn(async move {
                        let place = tokio::select! {
                            place = places.settle(waiting) => place,
                            () = entrance.stopping.cancelled() => return,
                        };
                        connection(stream, peer, entrance, &place).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => panicked = panicked.or(report(ended)),
        }
    }
    drop(listener);
    loop {
        tokio::select! {
            () = deadline.cancelled() => {
                connections.shutdown().await;
                break;
            }
            ended = connections.join_next() => match ended {
                Some(ended) => panicked = panicked.or(report(ended)),
                None => break,
            },
        }
    }
    match panicked {
        Some(panic) => Err(io::Error::other(format!("an HTTP connection ended by a bug: {panic}"))),
        None => Ok(()),
    }
}

fn report(ended: Result<(), JoinError>) -> Option<JoinError> {
    let error = ended.err().filter(JoinError::is_panic)?;
    tracing::error!(%error, "an HTTP connection ended by a bug");
    Some(error)
}

/// The next connection, once it may wait for a place.
async fn accept(listener: &TcpListener, places: &Places) -> io::Result<(TcpStream, SocketAddr, Waiting)> {
    let waiting = places.room().await?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, waiting))
}

async fn connection(stream: TcpStream, peer: SocketAddr, entrance: Arc<Entrance>, place: &Place) {
    let prepared = tokio::select! {
        prepared = kalamdb_flight::prepare(stream, entrance.encryption.as_ref()) => prepared,
        () = entrance.stopping.cancelled() => return,
    };
    let stream = match prepared {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            return;
        }
    };
    let router = match place.refusal() {
        None => entrance.router.clone(),
        // Its place is for the next who has none.
        Some(error) => {
            let error = error.clone();
            Router::new().fallback(move || async move { closing(Refusal::from(error).into_response()) })
        }
    };
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    let header_timeout = match place.refusal() {
        Some(_) => TOLD_TIMEOUT,
        None => HEADER_TIMEOUT,
    };
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = entrance.stopping.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // Mostly clients that went away.
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}

/// The routes of a door that is open.
pub(crate) fn router(door: &Arc<Door>) -> Router {
    Router::new()
        .route("/api/sql", post(script::run))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(door), authenticated))
        .layer(middleware::from_fn_with_state(Arc::clone(door), observed))
        .with_state(Arc::clone(door))
}

/// Lets through who may come in; the session stays open as long as the request holds the lease.
async fn authenticated(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return Refusal::from(Error::new(ErrorCode::Internal, "the connection has no peer address")).into_response();
    };
    let open = match request.uri().path() {
        "/health" | "/ready" => true,
        "/metrics" => peer.ip().to_canonical().is_loopback(),
        _ => false,
    };
    if open {
        return closing(next.run(request).await);
    }
    let authorization = header_text(request.headers(), &header::AUTHORIZATION);
    let client = header_text(request.headers(), &header::USER_AGENT).unwrap_or_default();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
    match kalamdb_flight::authenticate(&door.database, authorization, &peer, client).await {
        Ok(lease) => {
            request.extensions_mut().insert(Arc::new(lease));
            next.run(request).await
        }
        Err(error) => closing(Refusal::from(error).into_response()),
    }
}

/// The last answer on its connection: whoever brings no credentials keeps no place.
fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A header that is not text is as good as a wrong one.
fn header_text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Counts and logs every request, and turns a panic into an answer.
async fn observed(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%method, path, "a request ended by a bug");
            Refusal::from(Error::new(
                ErrorCode::Internal,
                "this request met a bug of the server; its log says where",
            ))
            .into_response()
        }
    };
    let status = response.status();
    door.metrics.count_request(status);
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status = status.as_u16(), elapsed_ms, "http request");
    response
}

async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "ok"})).into_response()
}

async fn ready(State(door): State<Arc<Door>>) -> Response {
    if door.stopping.is_cancelled() {
        return Refusal::from(Error::new(ErrorCode::Unavailable, "the server is stopping")).into_response();
    }
    axum::Json(serde_json::json!({"status": "ready"})).into_response()
}

async fn metrics(State(door): State<Arc<Door>>, lease: Option<Extension<Arc<SessionLease>>>) -> Response {
    // Without a lease the layer let a loopback peer through.
    if let Some(Extension(lease)) = lease
        && let Err(error) = lease.session().principal().require(Task::ReadMetrics)
    {
        return Refusal::from(error).into_response();
    }
    let metrics = Arc::clone(&door.metrics);
    let text = tokio::task::spawn_blocking(move || metrics.text()).await;
    let text = text.unwrap_or_else(|error| {
        Err(Error::new(
            ErrorCode::Internal,
            format!("reading metrics failed: {error}"),
        ))
    });
    match text {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response()
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}

async fn unknown_route(request: Request) -> Response {
    let message = format!(
        "there is no {}; there are /api/sql, /health, /ready and /metrics",
        request.uri().path()
    );
    Refusal::from(Error::new(ErrorCode::NotFound, message)).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let wanted = if path == "/api/sql" { "POST" } else { "GET" };
    let error = Error::new(
        ErrorCode::InvalidRequest,
        format!("{path} takes {wanted}, not {method}"),
    );
    Refusal::from(error)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use kalamdb_core::{Engine, NewUser, Role, SystemClock};
    use kalamdb_sql::Runtimes;

    use super::*;
    use crate::config::Config;

    const PASSWORD: &str = "a password for the test";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn metrics_are_for_this_machine_and_for_whom_the_table_of_rights_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = Config::new(directory.path());
        let engine = Engine::open(config.engine_options(), Arc::new(SystemClock)).await;
        let engine = engine.expect("opens");
        let root = engine.user(&engine.view(), "root").expect("reads").expect("is there");
        for &role in Role::ALL {
            let new = NewUser {
                user_id: role.as_str().to_owned(),
                password: Some(PASSWORD.to_owned()),
                role,
                if_not_exists: false,
            };
            engine.create_user(&root.principal, new).await.expect("made");
        }
        let runtime = tokio::runtime::Handle::current();
        let runtimes = Runtimes {
            short: runtime.clone(),
            long: runtime,
        };
        let database = Database::new(engine, config.database_options(), runtimes).expect("a database");
        let door = Arc::new(Door {
            metrics: Arc::new(Metrics::new(&database)),
            database,
            max_request_bytes: config.max_request_bytes,
            stopping: CancellationToken::new(),
        });
        let status = async |peer: &str, user: Option<&str>| {
            let mut request = Request::get("/metrics");
            if let Some(user) = user {
                let credentials = BASE64_STANDARD.encode(format!("{user}:{PASSWORD}"));
                request = request.header(header::AUTHORIZATION, format!("Basic {credentials}"));
            }
            let peer: SocketAddr = peer.parse().expect("an address");
            let request = request.extension(Peer(peer)).body(Body::empty()).expect("a request");
            let answer = router(&door).oneshot(request).await.expect("it answers");
            answer.status()
        };
        for here in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(status(here, None).await, StatusCode::OK, "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "[2001:db8::1]:1"] {
            assert_eq!(status(elsewhere, None).await, StatusCode::UNAUTHORIZED);
            for &role in Role::ALL {
                let expected = match role >= Task::ReadMetrics.least_role() {
                    true => StatusCode::OK,
                    false => StatusCode::FORBIDDEN,
                };
                assert_eq!(status(elsewhere, Some(role.as_str())).await, expected, "{role:?}");
            }
        }
    }
}
