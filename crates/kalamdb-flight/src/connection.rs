//! Accepted connections: their socket options, their encryption, how long they may stay
//! without a login, and the cord by which a stopping server pulls those that do not drain in time. What is said over them is not here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt as _, Stream, StreamExt as _};
use kalamdb_core::{Error, Principal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::places::{Held, PATIENCE, Place, Places, Waiting};

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
    limits: Limits,
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
    let mut server = pin!(serve(
        accept(listener, encryption, limits, cord.clone()).boxed(),
        stop.boxed()
    ));
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

/// A connection is closed that has brought no right credentials for so long: otherwise whoever reaches the door could take all places.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// What a door lets in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// More wait so long for a place.
    pub(crate) patience: Duration,
    /// A connection is closed that has brought no right credentials for so long.
    pub(crate) login: Duration,
}

impl Limits {
    /// So many connections, and a minute for a login.
    pub(crate) fn of_connections(connections: usize) -> Self {
        Limits {
            connections,
            patience: PATIENCE,
            login: LOGIN_TIMEOUT,
        }
    }
}

/// The connections of a listener, each with TCP_NODELAY (tonic sets it only on listeners of its own making) and broken off
/// when `cord` is cancelled. One that is slow to shake hands delays no other.
fn accept(
    listener: TcpListener,
    encryption: Option<Encryption>,
    limits: Limits,
    cord: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let entrance = Entrance {
        listener,
        encryption,
        login_timeout: limits.login,
        places: Places::with_patience(limits.connections, limits.patience),
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
    places: Places,
    cord: CancellationToken,
    handshakes: FuturesUnordered<BoxFuture<'static, (SocketAddr, io::Result<Socket>, Place)>>,
}

impl Entrance {
    async fn next(&mut self) -> io::Result<Connection> {
        loop {
            tokio::select! {
                accepted = accept_within(&self.listener, &self.places), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((socket, peer, waiting)) => {
                        let (encryption, places) = (self.encryption.clone(), self.places.clone());
                        let prepared = async move {
                            let place = places.settle(waiting).await;
                            (peer, prepare(socket, encryption.as_ref()).await, place)
                        };
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
                        // Whoever is only told something keeps nothing for long.
                        let time = match place.refusal() {
                            Some(_) => self.login_timeout.min(PATIENCE),
                            None => self.login_timeout,
                        };
                        return Ok(Connection {
                            socket,
                            broken_off: Box::pin(self.cord.clone().cancelled_owned()),
                            login: Login::new(self.places.clone()),
                            login_ends: Some(Box::pin(tokio::time::sleep(time))),
                            place,
                        });
                    }
                    // Mostly clients that do not speak TLS, or do not trust the certificate.
                    Err(error) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                },
            }
        }
    }
}

/// The next connection, once it may wait for a place.
async fn accept_within(listener: &TcpListener, places: &Places) -> io::Result<(TcpStream, SocketAddr, Waiting)> {
    let waiting = places.room().await?;
    let (socket, peer) = listener.accept().await?;
    Ok((socket, peer, waiting))
}

/// Whether somebody logged in over a connection, and to whom it counts since then.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    places: Places,
    holder: Arc<OnceLock<Held>>,
}

impl Login {
    fn new(places: Places) -> Self {
        Login {
            places,
            holder: Arc::default(),
        }
    }

    /// Notes whose credentials were right: the connection may stay, and counts to whoever was the first.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS if that user has too many already.
    pub(crate) fn succeeded(&self, user: &Principal) -> Result<(), Error> {
        if self.holder.get().is_none() {
            // Of two at once the second is let go of here.
            let _ = self.holder.set(self.places.hold(user)?);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.holder.get().is_some()
    }
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) login: Login,
    /// What every call gets on a connection for which there is no place.
    pub(crate) refused: Option<Error>,
}

/// A client's connection.
pub(crate) struct Connection {
    socket: Socket,
    broken_off: Pin<Box<WaitForCancellationFutureOwned>>,
    login: Login,
    /// None after a login.
    login_ends: Option<Pin<Box<Sleep>>>,
    place: Place,
}

impl Connection {
    /// Whether the time for a login is over.
    fn is_too_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends) = &mut self.login_ends else { return false };
        let over = ends.as_mut().poll(cx).is_ready();
        if self.login.is_done() {
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
            refused: self.place.refusal().cloned(),
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
    use kalamdb_core::{ErrorCode, Role};
    use kalamdb_store::ScopeId;
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
            patience: PATIENCE,
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
        let user = user("ada", Role::User);
        kept.connect_info().login.succeeded(&user).expect("there are places");
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
            patience: Duration::from_secs(3_600),
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

    #[tokio::test]
    async fn who_finds_no_place_in_time_is_told_and_has_none_in_the_way_of_others() {
        let (listener, address) = listener().await;
        let limits = Limits {
            connections: 1,
            patience: Duration::from_millis(1),
            login: Duration::from_secs(3_600),
        };
        let mut accepted = Box::pin(accept(listener, None, limits, CancellationToken::new()));
        let mut clients = vec![TcpStream::connect(address).await.expect("it listens")];
        let first = accepted.next().await.expect("no end").expect("accepted");
        assert!(first.connect_info().refused.is_none());
        clients.push(TcpStream::connect(address).await.expect("it listens"));
        let second = accepted.next().await.expect("no end").expect("accepted");
        let refused = second.connect_info().refused.expect("there is no place");
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        for part in ["all 1 connections", "max_connections", "close some of yours"] {
            assert!(refused.message.contains(part), "{refused}");
        }
        drop(first);
        // What the second has is not the first's, which is for whoever comes, and for nobody before.
        assert!(futures::poll!(accepted.next()).is_pending());
        clients.push(TcpStream::connect(address).await.expect("it listens"));
        let third = accepted.next().await.expect("no end").expect("accepted");
        assert!(third.connect_info().refused.is_none());
        clients.push(TcpStream::connect(address).await.expect("it listens"));
        let fourth = accepted.next().await.expect("no end").expect("accepted");
        assert!(fourth.connect_info().refused.is_some());
        drop((second, third));
    }

    fn user(user_id: &str, role: Role) -> Principal {
        Principal {
            user_id: user_id.to_owned(),
            role,
            scope: ScopeId(7),
            grants: Arc::default(),
        }
    }

    #[tokio::test]
    async fn no_user_holds_all_places_but_who_may_end_others() {
        let places = Places::new(8);
        let logins: Vec<Login> = (0..9).map(|_| Login::new(places.clone())).collect();
        let (ada, bob, root) = (
            user("ada", Role::User),
            user("bob", Role::Service),
            user("root", Role::System),
        );
        for login in &logins[..7] {
            // Once more over the same connection counts once, whoever it is.
            for user in [&ada, &ada, &bob] {
                login.succeeded(user).expect("the eighth is for others");
            }
        }
        let refused = logins[7].succeeded(&ada).expect_err("all but an eighth");
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        assert!(refused.message.contains("7 connections of this user"), "{refused}");
        assert!(!logins[7].is_done());
        logins[7].succeeded(&bob).expect("not ada");
        let mut logins = logins.into_iter();
        drop(logins.next());
        let last = logins.next_back().expect("one that nobody used");
        last.succeeded(&ada).expect("one of hers is closed");
        for _ in 0..8 {
            Login::new(places.clone()).succeeded(&root).expect("within the limit");
        }
        drop((logins, last));
        assert!(places.is_unheld());
    }
}
