//! The connection to a server: login, what failures mean, and a new connection in place of a lost one.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, IsTerminal};
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
use crate::shell::address::Address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may be silent while it owes an answer, before it is asked for a sign of life; and how long that may take.
const SILENCE: Duration = Duration::from_secs(30);

/// How long tidying up behind a statement or session may take; servers forget both by themselves.
pub(crate) const TIDY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type Client = FlightSqlServiceClient<Channel>;

/// A session on a server.
pub(crate) struct Connection {
    pub(crate) client: Client,
    address: Address,
    /// For the next login: nobody is to type it twice.
    password: String,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// A message for people.
    pub(crate) async fn open(shell: &Shell) -> Result<Self, String> {
        let address = Address::parse(&shell.url)?;
        check_way(shell, &address)?;
        let channel = connect(shell, &address).await?;
        let password = password(shell, &address)?;
        let client = log_in(channel, shell, &address, &password).await?;
        Ok(Connection {
            client,
            address,
            password,
        })
    }

    /// A new session in place of this one.
    ///
    /// # Errors
    /// A message for people; the connection is as before then.
    pub(crate) async fn reopen(&mut self, shell: &Shell) -> Result<(), String> {
        let channel = connect(shell, &self.address).await?;
        self.client = log_in(channel, shell, &self.address, &self.password).await?;
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

/// Refuses to send a password where others can read it, and options that would have no effect.
fn check_way(shell: &Shell, address: &Address) -> Result<(), String> {
    if address.is_encrypted {
        return Ok(());
    }
    if let Some(option) = shell.trust.given() {
        return Err(format!(
            "{option} is for TLS, and --url {} is not: write grpc+tls://host:port",
            shell.url
        ));
    }
    if address.is_loopback() || shell.allow_plaintext_on_network {
        return Ok(());
    }
    Err(format!(
        "--url {} is neither encrypted nor a loopback address: the password and all rows would cross the network in clear. \
         Write grpc+tls://host:port, or add --allow-plaintext-on-network (KALAMDB_ALLOW_PLAINTEXT_ON_NETWORK=true) if the \
         network is trusted",
        shell.url
    ))
}

async fn connect(shell: &Shell, address: &Address) -> Result<Channel, String> {
    let mut endpoint = Endpoint::from_shared(address.to_string())
        .map_err(|error| format!("--url {}: {error}", shell.url))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .tcp_nodelay(true);
    if address.is_encrypted {
        let config = shell.trust.config(CONNECT_TIMEOUT)?;
        endpoint = endpoint.tls_config(config).map_err(|error| {
            let advice = match (&shell.trust.client_certificate, &shell.trust.authority) {
                (Some(_), _) => "; do --tls-client-certificate and --tls-client-key belong together?",
                (None, None) => "; name the certificate of the server's authority with --tls-authority",
                (None, Some(_)) => "",
            };
            format!("TLS cannot be set up: {}{advice}", root_cause(&error))
        })?;
    }
    endpoint.connect().await.map_err(|error| {
        let cause = root_cause(&error);
        if let Some(explanation) = shell.trust.explain(&cause).filter(|_| address.is_encrypted) {
            return format!("no TLS connection to {}: {explanation}", shell.url);
        }
        format!(
            "no server answers at {}: {cause}. Is it running? `make run` or `kalamdb serve` starts one, --url names another place",
            shell.url,
        )
    })
}

async fn log_in(channel: Channel, shell: &Shell, address: &Address, password: &str) -> Result<Client, String> {
    let mut inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let credentials = BASE64_STANDARD.encode(format!("{}:{password}", shell.user));
    let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
    let basic = MetadataValue::try_from(format!("Basic {credentials}")).map_err(|error| error.to_string())?;
    request.metadata_mut().insert("authorization", basic);
    let response = inner.handshake(request).await.map_err(|status| {
        let error = FlightError::from(status);
        let text = message(&error);
        match first_answer(shell, address, &text) {
            Some(explanation) if is_broken(&error) => format!("{text}; {explanation}"),
            _ => text,
        }
    })?;
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

/// What it may mean that a server hangs up before it answers anything. Of a client's certificate it hears after its own side of
/// the handshake, so that this is where it turns one away.
fn first_answer(shell: &Shell, address: &Address, text: &str) -> Option<String> {
    if !address.is_encrypted {
        return Some("if it speaks TLS, its URL is grpc+tls://host:port".to_owned());
    }
    let explanation = shell.trust.explain(text);
    Some(explanation.unwrap_or_else(|| shell.trust.unwelcome().to_owned()))
}

/// From the variable, the server's own file, or a prompt.
fn password(shell: &Shell, address: &Address) -> Result<String, String> {
    if let Ok(password) = std::env::var("KALAMDB_PASSWORD") {
        return Ok(password);
    }
    let file = shell.data_dir.join("root-password");
    let mut hint = String::new();
    if shell.user == "root" && address.is_loopback() {
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

/// Whether a call failed for want of a connection or session, not by the server's decision about the statement.
pub(crate) fn is_lost(error: &FlightError) -> bool {
    match error {
        // What the server says comes without a cause; what goes wrong on the way has one. A session that is over, be it with
        // its server, is told from a refusal by the product's code alone.
        FlightError::Tonic(status) => is_broken(error) || status.message().starts_with("UNAUTHENTICATED:"),
        _ => false,
    }
}

/// Whether no answer came at all.
fn is_broken(error: &FlightError) -> bool {
    matches!(error, FlightError::Tonic(status) if status.source().is_some())
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
