//! Accepted connections: their socket options, their encryption, and the cord by which a stopping server pulls those that do
//! not drain in time. What is said over them is not here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A failing accept (too many open files) fails again at once: waiting keeps it from taking a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client has so long for its side of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS handshakes at once; more connections wait in the listener's queue.
const MAX_HANDSHAKES: usize = 1024;

/// Certificates, key and demands of a door that encrypts. They may be exchanged while it serves: new connections get the new ones.
pub type Encryption = Arc<ArcSwap<ServerConfig>>;

/// A connection's bytes, encrypted on their way or not.
pub type Socket = Either<TcpStream, TlsStream<TcpStream>>;

/// Sets the options of an accepted socket and does the server's part of the handshake, if the door encrypts.
///
/// # Errors
/// When the handshake fails or takes too long.
pub async fn prepare(socket: TcpStream, encryption: Option<&Encryption>) -> io::Result<Socket> {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let Some(encryption) = encryption else {
        return Ok(Either::Left(socket));
    };
    let accepted = TlsAcceptor::from(encryption.load_full()).accept(socket);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepted).await {
        Ok(accepted) => Ok(Either::Right(accepted?)),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the TLS handshake took too long",
        )),
    }
}

/// How long connections that were broken off may take to notice.
const BREAK_OFF_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the connections of a listener until `shutdown` resolves, with how long calls under way may take; what runs longer is broken
/// off. `serve` is given the connections and what tells it to take no more.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve_until<S, F>(
    listener: TcpListener,
    encryption: Option<Encryption>,
    shutdown: impl Future<Output = Duration> + Send + 'static,
    serve: S,
) -> io::Result<()>
where
    S: FnOnce(BoxStream<'static, io::Result<Connection>>, BoxFuture<'static, ()>) -> F,
    F: Future<Output = Result<(), tonic::transport::Error>>,
{
    let cord = CancellationToken::new();
    let (tell, told) = oneshot::channel();
    let stop = async move {
        // Whoever waited for it may have ended.
        tell.send(shutdown.await).ok();
    };
    let mut server = pin!(serve(accept(listener, encryption, cord.clone()).boxed(), stop.boxed()));
    let too_long = async {
        match told.await {
            Ok(drain) => {
                tokio::time::sleep(drain).await;
                drain
            }
            // The server let go of it and is about to end.
            Err(oneshot::Canceled) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = &mut server => return served.map_err(io::Error::other),
        drain = too_long => {
            tracing::warn!(drain_ms = drain.as_millis(), "some calls did not finish in time and are broken off");
        }
    }
    cord.cancel();
    match tokio::time::timeout(BREAK_OFF_TIMEOUT, server).await {
        Ok(served) => served.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}

/// The connections of a listener, each with TCP_NODELAY (tonic sets it only on listeners of its own making) and broken off
/// when `cord` is cancelled. One that is slow to shake hands delays no other.
fn accept(
    listener: TcpListener,
    encryption: Option<Encryption>,
    cord: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let entrance = Entrance {
        listener,
        encryption,
        cord,
        handshakes: FuturesUnordered::new(),
    };
    futures::stream::unfold(entrance, |mut entrance| async move {
        let next = entrance.next().await;
        Some((next, entrance))
    })
}

/// A listener and the connections that are not ready yet.
struct Entrance {
    listener: TcpListener,
    encryption: Option<Encryption>,
    cord: CancellationToken,
    handshakes: FuturesUnordered<BoxFuture<'static, (SocketAddr, io::Result<Socket>)>>,
}

impl Entrance {
    async fn next(&mut self) -> io::Result<Connection> {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((socket, peer)) => {
                        let encryption = self.encryption.clone();
                        let prepared = async move { (peer, prepare(socket, encryption.as_ref()).await) };
                        self.handshakes.push(prepared.boxed());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        return Err(error);
                    }
                },
                Some((peer, prepared)) = self.handshakes.next() => match prepared {
                    Ok(socket) => {
                        return Ok(Connection {
                            socket,
                            broken_off: Box::pin(self.cord.clone().cancelled_owned()),
                        });
                    }
                    // Mostly clients that do not speak TLS, or do not trust the certificate.
                    Err(error) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                },
            }
        }
    }
}

/// A client's connection.
pub(crate) struct Connection {
    socket: Socket,
    broken_off: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.socket {
            Either::Left(socket) => socket.connect_info(),
            Either::Right(encrypted) => encrypted.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    /// HTTP/2 always waits for a read, so this is where the cord takes hold.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken_off.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server stopped",
            )));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
