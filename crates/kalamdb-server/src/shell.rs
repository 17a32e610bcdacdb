//! `kalamdb sql`: a Flight SQL client for a terminal or a script. It speaks to any server by the protocol alone.
//!
//! A script goes from [`run`] to `statement`, which runs one statement, and to `output`, which prints what comes. At a terminal
//! `prompt` stands between: `editor` (`keys`, `buffer`, `screen`, `raw_mode`) reads a statement, `completion` knows `names`,
//! `history` keeps lines, `meta_command` reads `\` commands, `pointer` shows where errors are.
//!
//! Invariants:
//! 1. Nothing that a server sends reaches a terminal but through `printable`.
//! 2. No result is ever whole in memory.
//! 3. A statement that may have run is never run again by itself.

mod buffer;
mod cells;
mod completion;
mod connection;
mod editor;
mod history;
mod keys;
mod line;
mod meta_command;
mod names;
mod output;
mod parquet_file;
mod pointer;
mod printable;
mod prompt;
mod raw_mode;
mod screen;
mod statement;
mod table;
mod words;

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use crate::shell::connection::Connection;
pub(crate) use crate::shell::output::OutputFormat;
use crate::shell::output::Printer;
pub(crate) use crate::shell::printable::printable_line;
use crate::shell::statement::{Failure, Interrupts};

/// Whom to ask, and how to print.
pub(crate) struct Shell {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) format: OutputFormat,
    /// Where rows go instead of standard output.
    pub(crate) output: Option<PathBuf>,
}

/// Runs a script, or what standard input holds, or what is typed at a prompt.
///
/// # Errors
/// A message for people; a script stops at its first error.
pub(crate) async fn run(shell: &Shell, script: Option<String>) -> Result<(), String> {
    let script = match script {
        None if io::stdin().is_terminal() => return prompt::run(shell).await,
        None => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            text
        }
        Some(script) => script,
    };
    let mut connection = Connection::open(shell).await?;
    let outcome = run_script(&mut connection, &script, shell).await;
    connection.close().await;
    outcome
}

async fn run_script(connection: &mut Connection, script: &str, shell: &Shell) -> Result<(), String> {
    let mut printer = Printer::new(shell.format, shell.output.clone());
    for statement in kalamdb_sql::split(script).map_err(|error| error.to_string())? {
        let outcome = statement::run(&mut connection.client, &statement, &mut printer, &mut Interrupts::Never).await;
        match outcome {
            Ok(_) => {}
            Err(Failure::Refused(message) | Failure::Lost { message, .. }) => return Err(message),
            Err(Failure::Cancelled(_)) => return Err("cancelled".to_owned()),
            // Whoever reads the output has enough, such as `head`.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(Failure::Output(error)) => return Err(output_failure(&printer, &error)),
        }
    }
    Ok(())
}

fn output_failure(printer: &Printer, error: &io::Error) -> String {
    match printer.path() {
        Some(path) => format!("file {}: {error}", path.display()),
        None => format!("standard output: {error}"),
    }
}
