//! The door while there is no database behind it: every call gets the same error, and none is left waiting.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use kalamdb_core::Error;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::Server;
use tower::Service;

use crate::connection::{Encryption, Limits, serve_until};
use crate::status::status;

/// Answers every call with `error` until `shutdown` resolves, with how long calls under way may take then.
///
/// # Errors
/// When the listener fails.
pub async fn refuse(
    listener: TcpListener,
    encryption: Option<Encryption>,
    max_connections: usize,
    error: Error,
    shutdown: impl Future<Output = Duration> + Send + 'static,
) -> io::Result<()> {
    let router = Server::builder().add_service(Closed { error });
    let serve = |connections, stop| router.serve_with_incoming_shutdown(connections, stop);
    let limits = Limits::of_connections(max_connections);
    serve_until(listener, encryption, limits, shutdown, serve).await
}

#[derive(Clone)]
struct Closed {
    error: Error,
}

impl NamedService for Closed {
    const NAME: &'static str = <FlightServiceServer<()> as NamedService>::NAME;
}

impl Service<Request<Body>> for Closed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(status(self.error.clone()).into_http()))
    }
}
