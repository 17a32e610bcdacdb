//! Accepted connections: how many at once, their socket options, their encryption, how long they may stay without a login, and the
//! cord by which a stopping server pulls those that do not drain in time. What is said over them is not here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

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

/// What a door lets in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once; more wait in the listener's queue.
    pub(crate) connections: usize,
    /// A connection is closed that has brought no right credentials for so long.
    pub(crate) login: Duration,
}

/// The connections of a listener, each with TCP_NODELAY (tonic sets it only on listeners of its own making) and broken off
/// when `cord` is cancelled. One that is slow to shake hands delays no other.
pub(crate) fn accept(
    listener: TcpListener,
    encryption: Option<Encryption>,
    limits: Limits,
    cord: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let entrance = Entrance {
        listener,
        encryption,
        login_timeout: limits.login,
        places: Arc::new(Semaphore::new(limits.connections)),
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
    login_timeout: Duration,
    places: Arc<Semaphore>,
    cord: CancellationToken,
    handshakes: FuturesUnordered<BoxFuture<'static, (SocketAddr, io::Result<Socket>, OwnedSemaphorePermit)>>,
}

impl Entrance {
    async fn next(&mut self) -> io::Result<Connection> {
        loop {
            tokio::select! {
                accepted = accept_within(&self.listener, &self.places), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((socket, peer, place)) => {
                        let encryption = self.encryption.clone();
                        let prepared = async move { (peer, prepare(socket, encryption.as_ref()).await, place) };
                        self.handshakes.push(prepared.boxed());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        return Err(error);
                    }
                },
                Some((peer, prepared, place)) = self.handshakes.next() => match prepared {
                    Ok(socket) => {
                        return Ok(Connection {
                            socket,
                            broken_off: Box::pin(self.cord.clone().cancelled_owned()),
                            login: Login::default(),
                            login_ends: Some(Box::pin(tokio::time::sleep(self.login_timeout))),
                            _place: place,
                        });
                    }
                    // Mostly clients that do not speak TLS, or do not trust the certificate.
                    Err(error) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                },
            }
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept_within(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, peer) = listener.accept().await?;
    Ok((socket, peer, place))
}

/// Whether somebody logged in over a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login(Arc<AtomicBool>);

impl Login {
    /// Notes that credentials were right: the connection may stay.
    pub(crate) fn succeeded(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) login: Login,
}

/// A client's connection.
pub(crate) struct Connection {
    socket: Socket,
    broken_off: Pin<Box<WaitForCancellationFutureOwned>>,
    login: Login,
    /// None after a login.
    login_ends: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Whether the time for a login is over.
    fn is_too_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends) = &mut self.login_ends else { return false };
        let over = ends.as_mut().poll(cx).is_ready();
        if self.login.0.load(Ordering::Acquire) {
            self.login_ends = None;
            return false;
        }
        over
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let socket = match &self.socket {
            Either::Left(socket) => socket,
            Either::Right(encrypted) => encrypted.get_ref().0,
        };
        Caller {
            // It has none when it is gone already.
            peer: socket.peer_addr().ok(),
            login: self.login.clone(),
        }
    }
}

impl AsyncRead for Connection {
    /// HTTP/2 always waits for a read, so this is where the cord and the time for a login take hold.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken_off.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server stopped",
            )));
        }
        if self.is_too_late(cx) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nobody logged in over this connection",
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    #[tokio::test]
    async fn a_connection_without_a_login_is_closed_and_one_with_stays() {
        let (listener, address) = listener().await;
        let limits = Limits {
            connections: 2,
            login: Duration::from_millis(1),
        };
        let mut accepted = Box::pin(accept(listener, None, limits, CancellationToken::new()));
        let mut silent = TcpStream::connect(address).await.expect("it listens");
        let mut closed = accepted.next().await.expect("no end").expect("accepted");
        let error = closed.read_u8().await.expect_err("its time is over");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(closed);
        assert_eq!(silent.read(&mut [0]).await.expect("an orderly end"), 0);

        let client = TcpStream::connect(address).await.expect("it listens");
        let mut kept = accepted.next().await.expect("no end").expect("accepted");
        kept.connect_info().login.succeeded();
        if let Some(ends) = &mut kept.login_ends {
            ends.as_mut().await;
        }
        drop(client);
        assert_eq!(kept.read(&mut [0]).await.expect("the client's end"), 0);
    }

    #[tokio::test]
    async fn more_connections_than_there_are_places_wait_for_one() {
        let (listener, address) = listener().await;
        let limits = Limits {
            connections: 1,
            login: Duration::from_secs(3_600),
        };
        let mut accepted = Box::pin(accept(listener, None, limits, CancellationToken::new()));
        let _first = TcpStream::connect(address).await.expect("it listens");
        let first = accepted.next().await.expect("no end").expect("accepted");
        // The listener's queue has it at once.
        let _second = TcpStream::connect(address).await.expect("it listens");
        let waits = futures::poll!(accepted.next());
        assert!(waits.is_pending());
        drop(first);
        accepted.next().await.expect("no end").expect("accepted");
    }
}
