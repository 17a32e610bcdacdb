//! The connection to a server: login, what failures mean, and a new connection in place of a lost one.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{TryStreamExt, stream};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::shell::Shell;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may be silent while it owes an answer, before it is asked for a sign of life; and how long that may take.
const SILENCE: Duration = Duration::from_secs(30);

/// How long tidying up behind a statement or session may take; servers forget both by themselves.
pub(crate) const TIDY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type Client = FlightSqlServiceClient<Channel>;

/// A session on a server.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// For the next login: nobody is to type it twice.
    password: String,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// A message for people.
    pub(crate) async fn open(shell: &Shell) -> Result<Self, String> {
        let address = server_address(&shell.url)?;
        let channel = connect(shell, address).await?;
        let password = password(shell, address)?;
        let client = log_in(channel, &shell.user, &password).await?;
        Ok(Connection { client, password })
    }

    /// A new session in place of this one.
    ///
    /// # Errors
    /// A message for people; the connection is as before then.
    pub(crate) async fn reopen(&mut self, shell: &Shell) -> Result<(), String> {
        let channel = connect(shell, server_address(&shell.url)?).await?;
        self.client = log_in(channel, &shell.user, &self.password).await?;
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn close(mut self) {
        let close = Action {
            r#type: "CloseSession".to_owned(),
            body: Vec::new().into(),
        };
        // The server also ends idle sessions by itself, so nothing is lost where this fails.
        match tokio::time::timeout(TIDY_TIMEOUT, self.client.do_action(close)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(error = message(&error), "the session was not closed"),
            Err(_) => tracing::debug!("the session was not closed in time"),
        }
    }
}

async fn connect(shell: &Shell, address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("--url {}: {error}", shell.url))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| {
        format!(
            "no server answers at {}: {}. Is it running? `make run` or `kalamdb serve` starts one, --url names another place",
            shell.url,
            root_cause(&error)
        )
    })
}

async fn log_in(channel: Channel, user: &str, password: &str) -> Result<Client, String> {
    let mut inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
    let basic = MetadataValue::try_from(format!("Basic {credentials}")).map_err(|error| error.to_string())?;
    request.metadata_mut().insert("authorization", basic);
    let response = inner
        .handshake(request)
        .await
        .map_err(|status| message(&FlightError::from(status)))?;
    let header = response
        .metadata()
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = header.map(str::to_owned);
    // The answer is read to its end, so that a failure in it is seen.
    let messages: Vec<_> = response
        .into_inner()
        .try_collect()
        .await
        .map_err(|status| message(&FlightError::from(status)))?;
    let payload = || {
        String::from_utf8(messages.first()?.payload.to_vec())
            .ok()
            .filter(|token| !token.is_empty())
    };
    let token = token.or_else(payload).ok_or("the server's handshake gave no token")?;
    let mut client = FlightSqlServiceClient::new_from_inner(inner);
    client.set_token(token);
    Ok(client)
}

/// `host:port` of a URL.
fn server_address(url: &str) -> Result<&str, String> {
    if url.starts_with("grpc+tls://") || url.starts_with("https://") {
        return Err(format!("--url {url}: this version has no TLS; use grpc://host:port"));
    }
    let address = ["grpc://", "grpc+tcp://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let address = address.map(|address| address.trim_end_matches('/'));
    let is_whole = |address: &&str| {
        address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    address
        .filter(is_whole)
        .ok_or_else(|| format!("--url {url}: it must be grpc://host:port"))
}

/// From the variable, the server's own file, or a prompt.
fn password(shell: &Shell, address: &str) -> Result<String, String> {
    if let Ok(password) = std::env::var("KALAMDB_PASSWORD") {
        return Ok(password);
    }
    let file = shell.data_dir.join("root-password");
    let mut hint = String::new();
    if shell.user == "root" && is_loopback(address) {
        match fs::read_to_string(&file) {
            Ok(text) => return Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                hint = format!(
                    ", or --data-dir for {}/root-password ({error})",
                    shell.data_dir.display()
                )
            }
        }
    }
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("Password of {}: ", shell.user))
            .map_err(|error| format!("the password cannot be read: {error}"));
    }
    Err(format!("no password for {}: set KALAMDB_PASSWORD{hint}", shell.user))
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a call failed for want of a connection or session, not by the server's decision about the statement.
pub(crate) fn is_lost(error: &FlightError) -> bool {
    match error {
        // What the server says comes without a cause; what goes wrong on the way has one. A session that is over, be it with
        // its server, is told from a refusal by the product's code alone.
        FlightError::Tonic(status) => status.source().is_some() || status.message().starts_with("UNAUTHENTICATED:"),
        _ => false,
    }
}

/// The server's own words where there are any.
pub(crate) fn message(error: &FlightError) -> String {
    match error {
        FlightError::Tonic(status) if status.source().is_none() && !status.message().is_empty() => {
            status.message().to_owned()
        }
        FlightError::Tonic(status) => format!("the connection to the server broke: {}", root_cause(status.as_ref())),
        other => root_cause(other),
    }
}

fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        let check = |url: &str, expected: Option<&str>| assert_eq!(server_address(url).ok(), expected, "{url}");
        check("grpc://127.0.0.1:50051", Some("127.0.0.1:50051"));
        check("grpc+tcp://db.example:1/", Some("db.example:1"));
        check("grpc://[::1]:50051", Some("[::1]:50051"));
        check("grpc://127.0.0.1", None);
        check("127.0.0.1:50051", None);
        check("grpc+tls://127.0.0.1:50051", None);
    }

    #[test]
    fn the_password_file_serves_this_machine_alone() {
        let check = |address: &str, expected: bool| assert_eq!(is_loopback(address), expected, "{address}");
        check("127.0.0.1:50051", true);
        check("localhost:1", true);
        check("[::1]:50051", true);
        check("10.0.0.1:50051", false);
        check("localhost.example:50051", false);
    }
}
