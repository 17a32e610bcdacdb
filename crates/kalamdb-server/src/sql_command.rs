//! `kalamdb sql`: its options, and the process that they ask for.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::shell::{self, OutputFormat, Script, Shell, Trust};

#[derive(Args)]
pub(crate) struct SqlOptions {
    /// Run these statements and exit.
    // They may begin with a comment.
    #[arg(
        short = 'c',
        long,
        value_name = "STATEMENT",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    command: Option<String>,
    /// Run the statements in this file and exit.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where the server is: grpc://host:port, or grpc+tls://host:port for TLS.
    #[arg(
        long,
        env = "KALAMDB_URL",
        hide_env_values = true,
        default_value = "grpc://127.0.0.1:50051"
    )]
    url: String,
    /// As whom to log in. The password comes from KALAMDB_PASSWORD, for root on this machine from
    /// <DATA_DIR>/root-password, else from a prompt.
    #[arg(long, env = "KALAMDB_USER", hide_env_values = true, default_value = "root")]
    user: String,
    /// Where to look for root's password.
    #[arg(long, env = "KALAMDB_DATA_DIR", hide_env_values = true, default_value = "./data")]
    data_dir: PathBuf,
    /// TLS: PEM file with the certificates of those who certify the server [default: those that the system trusts].
    #[arg(long, value_name = "FILE", env = "KALAMDB_TLS_AUTHORITY", hide_env_values = true)]
    tls_authority: Option<OsString>,
    /// TLS: PEM file with a certificate of our own, for a server that asks its clients for one.
    #[arg(
        long,
        value_name = "FILE",
        env = "KALAMDB_TLS_CLIENT_CERTIFICATE",
        hide_env_values = true
    )]
    tls_client_certificate: Option<OsString>,
    /// TLS: PEM file with the private key of --tls-client-certificate.
    #[arg(long, value_name = "FILE", env = "KALAMDB_TLS_CLIENT_KEY", hide_env_values = true)]
    tls_client_key: Option<OsString>,
    /// TLS: the name that the server's certificate must have, where it is not that in --url.
    #[arg(long, value_name = "NAME", env = "KALAMDB_TLS_SERVER_NAME", hide_env_values = true)]
    tls_server_name: Option<String>,
    /// Let the password and all rows cross a network without TLS: whoever sees its traffic sees them.
    #[arg(
        long,
        value_name = "BOOL",
        env = "KALAMDB_ALLOW_PLAINTEXT_ON_NETWORK",
        hide_env_values = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    allow_plaintext_on_network: bool,
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// Write rows to this file instead of standard output. A Parquet file holds one result.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// An empty variable counts as none.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "" => Ok(false),
        text => text.parse().map_err(|_| "it is true or false".to_owned()),
    }
}

/// Runs the statements, or the shell.
///
/// # Errors
/// A message for people, perhaps with lines of the script.
pub(crate) fn run_sql(options: SqlOptions) -> Result<(), String> {
    let script = match (options.command, options.file) {
        (Some(text), _) => Some(Script { text, name: None }),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).map_err(|error| format!("file {name}: {error}"))?;
            Some(Script { text, name: Some(name) })
        }
        (None, None) => None,
    };
    // The connection is served by a thread of its own, so that a prompt may wait for as long as it likes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("the client's runtime cannot start: {error}"))?;
    let file = |path: Option<OsString>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
    let shell = Shell {
        url: options.url,
        user: options.user,
        data_dir: options.data_dir,
        trust: Trust {
            authority: file(options.tls_authority),
            client_certificate: file(options.tls_client_certificate),
            client_key: file(options.tls_client_key),
            server_name: options.tls_server_name.filter(|name| !name.is_empty()),
        },
        allow_plaintext_on_network: options.allow_plaintext_on_network,
        format: options.format,
        output: options.output,
    };
    let outcome = runtime.block_on(shell::run(&shell, script));
    runtime.shutdown_background();
    outcome
}
