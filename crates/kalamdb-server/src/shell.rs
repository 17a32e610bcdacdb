//! `kalamdb sql`: a Flight SQL client for a terminal or a script. It speaks to any server by the protocol alone.
//!
//! A script goes from [`run`] to `statement`, which runs one statement over a `connection` (`address`, `trust`), and to `output`,
//! which prints what comes; `pointer` shows where errors are. At a terminal `prompt` stands between: `editor` reads statements and
//! asks its `assistant`, which knows their `completeness` and the `completion` of `names`; `history` keeps them, `meta_command`
//! reads `\` commands.
//!
//! Invariants:
//! 1. Nothing that a server sends reaches a terminal but through `printable`.
//! 2. No result is ever whole in memory.
//! 3. A statement that may have run is never run again by itself.
//! 4. No password crosses a network in clear unless somebody said so.

mod address;
mod assistant;
mod cells;
mod completeness;
mod completion;
mod connection;
mod editor;
mod history;
mod meta_command;
mod names;
mod output;
mod parquet_file;
mod pointer;
mod printable;
mod program_rows;
mod prompt;
mod statement;
mod table;
mod trust;
mod words;

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use crate::shell::connection::Connection;
pub(crate) use crate::shell::output::OutputFormat;
use crate::shell::output::Printer;
pub(crate) use crate::shell::pointer::Script;
pub(crate) use crate::shell::printable::{printable_line, printable_lines};
use crate::shell::statement::{Failure, Interrupts};
pub(crate) use crate::shell::trust::Trust;

/// Columns in which a line of a script is shown, where no terminal says how many it has.
const WIDTH: usize = 80;

/// Whom to ask, and how to print.
pub(crate) struct Shell {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) trust: Trust,
    /// Whether the password may go where others can read it.
    pub(crate) allow_plaintext_on_network: bool,
    pub(crate) format: OutputFormat,
    /// Where rows go instead of standard output.
    pub(crate) output: Option<PathBuf>,
}

/// Runs a script, or what standard input holds, or what is typed at a prompt.
///
/// # Errors
/// A message for people, perhaps of several lines; a script stops at its first error.
pub(crate) async fn run(shell: &Shell, script: Option<Script>) -> Result<(), String> {
    let script = match script {
        None if io::stdin().is_terminal() => return prompt::run(shell).await,
        None => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            let name = Some("standard input".to_owned());
            Script { text, name }
        }
        Some(script) => script,
    };
    let mut connection = Connection::open(shell).await?;
    let outcome = run_script(&mut connection, &script, shell).await;
    connection.close().await;
    outcome
}

async fn run_script(connection: &mut Connection, script: &Script, shell: &Shell) -> Result<(), String> {
    let mut printer = Printer::new(shell.format, shell.output.clone());
    let mut interrupts = Interrupts::of_a_script()?;
    let ranges =
        kalamdb_sql::statement_ranges(&script.text).map_err(|error| script.pointed(&error.to_string(), 0, WIDTH))?;
    for range in ranges {
        let start = range.start;
        let sql = &script.text[range];
        let failure = match statement::run(&mut connection.client, sql, &mut printer, &mut interrupts).await {
            Ok(_) => continue,
            Err(failure) => failure,
        };
        let left = printer.abandon();
        let message = match failure {
            Failure::Refused(message) | Failure::Lost { message, .. } => script.pointed(&message, start, WIDTH),
            Failure::Cancelled(effect) => script.pointed(effect.cancelled(), start, WIDTH),
            // Whoever reads the output has enough, such as `head`.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Failure::Output(error) => output_failure(&printer, &error),
        };
        return Err(match left {
            Some(left) => format!("{message}\n{left}"),
            None => message,
        });
    }
    Ok(())
}

fn output_failure(printer: &Printer, error: &io::Error) -> String {
    match printer.path() {
        Some(path) => format!("file {}: {error}", path.display()),
        None => format!("standard output: {error}"),
    }
}
