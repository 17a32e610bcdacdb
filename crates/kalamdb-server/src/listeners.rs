//! Where the doors listen: bound once, and kept while the database is opened anew, so that addresses stay and clients find a door.

use std::io;
use std::net::{self, SocketAddr};

use tokio::net::TcpListener;

use crate::config::Config;

/// The listeners of both doors, for as long as the server runs.
pub(crate) struct Bound {
    flight: net::TcpListener,
    http: net::TcpListener,
    /// The addresses that they got.
    pub(crate) flight_address: SocketAddr,
    pub(crate) http_address: SocketAddr,
}

/// The same to be served from, once.
pub(crate) struct Listeners {
    pub(crate) flight: TcpListener,
    pub(crate) http: TcpListener,
}

impl Bound {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// A message for people that names the setting.
    pub(crate) async fn bind(config: &Config) -> Result<Self, String> {
        let (flight, flight_address) = bind("flight_listen", config.flight_listen).await?;
        let (http, http_address) = bind("http_listen", config.http_listen).await?;
        Ok(Bound {
            flight,
            http,
            flight_address,
            http_address,
        })
    }

    /// Listeners of the same addresses. Whoever connects while nobody serves from any waits.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn listeners(&self) -> io::Result<Listeners> {
        Ok(Listeners {
            flight: TcpListener::from_std(self.flight.try_clone()?)?,
            http: TcpListener::from_std(self.http.try_clone()?)?,
        })
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<(net::TcpListener, SocketAddr), String> {
    let failed = |error: io::Error| format!("{setting}: cannot listen on {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener.into_std().map_err(failed)?, address))
}
