//! `kalamdb sql`: a Flight SQL client for a terminal or a script. It speaks to any server by the protocol alone.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::shell_output::{OutputFormat, Printer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to ask, and how to print.
pub(crate) struct Shell {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) format: OutputFormat,
}

type Client = FlightSqlServiceClient<Channel>;

/// Runs a script, or what standard input holds, or what is typed at a prompt.
///
/// # Errors
/// A message for people; a script stops at its first error.
pub(crate) async fn run(shell: &Shell, script: Option<String>) -> Result<(), String> {
    let interactive = script.is_none() && io::stdin().is_terminal();
    let script = match script {
        Some(script) => Some(script),
        None if interactive => None,
        None => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            Some(text)
        }
    };
    let mut client = connect(shell).await?;
    let outcome = match script {
        Some(script) => run_script(&mut client, &script, shell.format).await,
        None => prompt(&mut client, shell).await,
    };
    // The server also ends idle sessions by itself, so nothing is lost where this fails.
    let close = Action {
        r#type: "CloseSession".to_owned(),
        body: Vec::new().into(),
    };
    if let Err(error) = client.do_action(close).await {
        tracing::debug!(error = message(&error), "the session was not closed");
    }
    outcome
}

async fn run_script(client: &mut Client, script: &str, format: OutputFormat) -> Result<(), String> {
    let mut printer = Printer::new(io::stdout(), format);
    for statement in kalamdb_sql::split(script).map_err(|error| error.to_string())? {
        match run_statement(client, &statement, &mut printer).await {
            Ok(()) => {}
            Err(Failure::Refused(message)) => return Err(message),
            // Whoever reads the output has enough, such as `head`.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(Failure::Output(error)) => return Err(format!("standard output: {error}")),
        }
    }
    Ok(())
}

/// Why a statement did not come to its end.
enum Failure {
    Refused(String),
    Output(io::Error),
}

impl From<FlightError> for Failure {
    fn from(error: FlightError) -> Self {
        Failure::Refused(message(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

async fn run_statement(client: &mut Client, sql: &str, printer: &mut Printer<io::Stdout>) -> Result<(), Failure> {
    let mut prepared = client.prepare(sql.to_owned(), None).await?;
    let outcome = async {
        if prepared.dataset_schema()?.fields().is_empty() {
            let rows = prepared.execute_update().await?;
            printer.completion(rows)?;
            return Ok(());
        }
        let info = prepared.execute().await?;
        printer.begin()?;
        for endpoint in info.endpoint {
            let Some(ticket) = endpoint.ticket else { continue };
            let mut batches = client.do_get(ticket).await?;
            while let Some(batch) = batches.next().await {
                printer.rows(&batch?)?;
            }
            if let Some(schema) = batches.schema() {
                printer.schema(schema)?;
            }
        }
        printer.end()?;
        Ok(())
    }
    .await;
    if let Err(error) = prepared.close().await {
        tracing::debug!(error = message(&error), "the statement was not closed");
    }
    outcome
}

/// Reads statements up to their `;` and runs them until the end of the input.
async fn prompt(client: &mut Client, shell: &Shell) -> Result<(), String> {
    eprintln!(
        "kalamdb {} at {}; end a statement with ; and leave with \\q",
        env!("CARGO_PKG_VERSION"),
        shell.url
    );
    let mut text = String::new();
    loop {
        eprint!(
            "{}",
            if text.trim().is_empty() {
                "kalamdb> "
            } else {
                "    ...> "
            }
        );
        io::stderr().flush().map_err(|error| format!("the terminal: {error}"))?;
        let mut line = String::new();
        let read = io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| format!("the terminal: {error}"))?;
        if read == 0 || (text.trim().is_empty() && matches!(line.trim(), "\\q" | "exit" | "quit")) {
            return Ok(());
        }
        text.push_str(&line);
        if is_complete(&text) {
            if let Err(message) = run_script(client, &text, shell.format).await {
                eprintln!("{message}");
            }
            text.clear();
        }
    }
}

/// Whether the text ends with a semicolon that ends a statement. A semicolon in an open literal does not.
fn is_complete(text: &str) -> bool {
    let text = text.trim_end();
    if !text.ends_with(';') {
        return false;
    }
    // One more statement after it can only be split off where the semicolon was a real one.
    match (
        kalamdb_sql::split(text),
        kalamdb_sql::split(&format!("{text} SELECT 1")),
    ) {
        (Ok(whole), Ok(longer)) => longer.len() > whole.len(),
        _ => false,
    }
}

async fn connect(shell: &Shell) -> Result<Client, String> {
    let address = server_address(&shell.url)?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("--url {}: {error}", shell.url))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(|error| {
        format!(
            "no server answers at {}: {}. Is it running? `make run` or `kalamdb serve` starts one, --url names another place",
            shell.url,
            root_cause(&error)
        )
    })?;
    let mut inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let password = password(shell, address)?;
    let credentials = BASE64_STANDARD.encode(format!("{}:{password}", shell.user));
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

/// The server's own words where there are any.
fn message(error: &FlightError) -> String {
    match error {
        // What the server says comes without a cause; what goes wrong on the way has one.
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

    #[test]
    fn a_statement_ends_with_its_semicolon() {
        let check = |text: &str, expected: bool| assert_eq!(is_complete(text), expected, "{text}");
        check("SELECT 1;\n", true);
        check("SELECT 1\n", false);
        check("SELECT ';\n", false);
        check("SELECT 1 -- ;\n", false);
        check("SELECT ';';\n", true);
    }
}
