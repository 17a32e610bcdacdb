//! Accepted connections: their socket options, and the cord by which a stopping server pulls those that do not drain in time.
//! What is said over them is not here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A failing accept (too many open files) fails again at once: waiting keeps it from taking a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of a listener, each with TCP_NODELAY (tonic sets it only on listeners of its own making) and broken off
/// when `cord` is cancelled.
pub(crate) fn accept(listener: TcpListener, cord: CancellationToken) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold((listener, cord), |(listener, cord)| async move {
        let accepted = listener.accept().await.map(|(socket, peer)| {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%peer, %error, "a connection keeps Nagle's algorithm");
            }
            Connection {
                socket,
                broken_off: Box::pin(cord.clone().cancelled_owned()),
            }
        });
        if let Err(error) = &accepted {
            tracing::warn!(%error, "accepting a connection failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        Some((accepted, (listener, cord)))
    })
}

/// A client's connection.
pub(crate) struct Connection {
    socket: TcpStream,
    broken_off: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
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
