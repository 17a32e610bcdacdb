//! `kalamdb sql`: its options, and the process that they ask for.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::shell::{self, OutputFormat, Script, Shell};

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
    /// Where the server is.
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
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// Write rows to this file instead of standard output. A Parquet file holds one result.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let shell = Shell {
        url: options.url,
        user: options.user,
        data_dir: options.data_dir,
        format: options.format,
        output: options.output,
    };
    let outcome = runtime.block_on(shell::run(&shell, script));
    runtime.shutdown_background();
    outcome
}
