//! The command line: `kalamdb serve` and `kalamdb sql`, exit codes, signals, and the line that says the server is ready.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use kalamdb_core::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Sources, check_environment};
use crate::serve::serve;
use crate::settings::{Field, OTHER_VARIABLES, nearest, settings};
use crate::shell::{self, OutputFormat, Shell, printable_line};
use crate::telemetry::start_log;

/// A SQL database behind Arrow Flight SQL.
///
/// Each option of `serve` is also a variable and a key of the configuration file (its name with `_`): an option wins over a
/// variable, a variable over the file, the file over the default. Sizes may have a unit (64MiB, 1GB), times too (500ms, 5min).
#[derive(Parser)]
#[command(name = "kalamdb", version, flatten_help = true, max_term_width = 120, after_help = other_variables())]
struct CommandLine {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Serve the database in a directory until SIGTERM or SIGINT.
    Serve(ServeOptions),
    /// Run SQL statements on a running server: from -c, a file, standard input, or in a shell.
    Sql(SqlOptions),
}

/// The options of `serve`: made from the table of settings.
struct ServeOptions {
    file: Option<PathBuf>,
    flags: BTreeMap<&'static str, String>,
}

#[derive(Args)]
struct SqlOptions {
    /// Run these statements and exit.
    #[arg(short = 'c', long, value_name = "STATEMENT", conflicts_with = "file")]
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

/// The end of `--help`.
fn other_variables() -> String {
    let mut text = String::from("Other variables:\n");
    for variable in OTHER_VARIABLES {
        let about = variable.about.replace('`', "");
        text.push_str(&format!("  {}: {about}\n", variable.name));
    }
    text
}

/// Runs the process's command line; the exit code is 0, 1 for a failure, 2 for a wrong use.
pub fn run_command_line() -> ExitCode {
    let action = match CommandLine::try_parse() {
        Ok(CommandLine { command }) => command,
        Err(error) => return wrong_use(&error),
    };
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .filter(|(name, _)| name.starts_with("KALAMDB_"))
        .collect();
    match action {
        Action::Serve(options) => match configure(options, environment) {
            Ok(config) => ended(serve_process(config)),
            Err(message) => complain(&message, 2),
        },
        Action::Sql(options) => match check_environment(&environment) {
            Ok(()) => ended(sql_process(options)),
            Err(message) => complain(&message, 2),
        },
    }
}

/// Help and version are no errors; an unknown option is told the nearest one.
fn wrong_use(error: &clap::Error) -> ExitCode {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => Some(unknown),
        _ => None,
    };
    if let Some(unknown) = unknown.filter(|_| error.get(ContextKind::SuggestedArg).is_none()) {
        let line: Vec<String> = std::env::args().skip(1).collect();
        if let Some(nearest) = nearest_flag(&line, unknown) {
            return complain(
                &format!("unknown option {unknown}; did you mean --{nearest}? See kalamdb --help"),
                2,
            );
        }
    }
    // Where this cannot be printed, nothing else can either.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

/// The option nearest to an unknown one, among those of the subcommand that the line names.
fn nearest_flag(line: &[String], unknown: &str) -> Option<String> {
    let command = CommandLine::command();
    let named = command
        .get_subcommands()
        .find(|subcommand| line.iter().any(|word| word == subcommand.get_name()));
    let flags: Vec<&str> = match named {
        Some(subcommand) => subcommand.get_arguments().filter_map(Arg::get_long).collect(),
        None => {
            let all = command.get_subcommands().flat_map(Command::get_arguments);
            all.filter_map(Arg::get_long).collect()
        }
    };
    nearest(unknown.trim_start_matches('-'), flags).map(str::to_owned)
}

fn complain(message: &str, code: u8) -> ExitCode {
    let line: Vec<&str> = message.split_whitespace().collect();
    // A server may have sent it.
    eprintln!("kalamdb: {}", printable_line(&line.join(" ")));
    ExitCode::from(code)
}

fn ended(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => complain(&message, 1),
    }
}

fn configure(options: ServeOptions, environment: Vec<(String, String)>) -> Result<Config, String> {
    let variable = environment
        .iter()
        .find(|(name, value)| name == "KALAMDB_CONFIG" && !value.is_empty());
    let path = options.file.or_else(|| variable.map(|(_, value)| PathBuf::from(value)));
    let file = match path {
        Some(path) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).map_err(|error| format!("configuration file {name}: {error}"))?;
            Some((name, text))
        }
        None => None,
    };
    Config::resolve(&Sources {
        flags: options.flags,
        environment,
        file,
    })
}

fn serve_process(config: Config) -> Result<(), String> {
    start_log(&config.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.serve_threads)
        .thread_name("kalamdb-serve")
        .enable_all()
        .build()
        .map_err(|error| format!("the serving runtime cannot start: {error}"))?;
    let outcome = runtime.block_on(serve_until_signalled(config));
    // After a second signal something may still run that nobody waits for.
    runtime.shutdown_background();
    outcome
}

/// What closing takes after the drain, at most.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

async fn serve_until_signalled(config: Config) -> Result<(), String> {
    let mut signals = StopSignals::new()?;
    let longest = config.drain + AFTER_DRAIN;
    let stop = CancellationToken::new();
    let starting = serve(config, Arc::new(SystemClock), stop.clone().cancelled_owned());
    let running = tokio::select! {
        started = starting => started?,
        () = signals.next() => return Ok(()),
    };
    let mut out = std::io::stdout();
    let ready = writeln!(out, "ready flight={} http={}", running.flight, running.http).and_then(|()| out.flush());
    if let Err(error) = ready {
        tracing::warn!(%error, "the ready line cannot be written to standard output");
    }
    let mut stopped = pin!(running.stopped());
    tokio::select! {
        ended = &mut stopped => return ended.map_err(|error| error.to_string()),
        () = signals.next() => stop.cancel(),
    }
    tokio::select! {
        ended = &mut stopped => ended.map_err(|error| error.to_string()),
        () = tokio::time::sleep(longest) => {
            // What is acknowledged is in the log: nothing is lost by not waiting for a computation that cannot be interrupted.
            tracing::warn!("something still computes after the drain; ended without waiting for it");
            Ok(())
        }
        () = signals.next() => Err("a second signal: ended without waiting for what was running".to_owned()),
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(StopSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn sql_process(options: SqlOptions) -> Result<(), String> {
    let script = match (options.command, options.file) {
        (Some(statements), _) => Some(statements),
        (None, Some(path)) => {
            Some(fs::read_to_string(&path).map_err(|error| format!("file {}: {error}", path.display()))?)
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

impl Args for ServeOptions {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("PATH").help(
            "Configuration file in TOML, such as kalamdb.toml [env: KALAMDB_CONFIG] [default: none] [bound: a readable file]",
        );
        let settings = settings().map(|(setting, names)| {
            let unit = Some(setting.unit()).filter(|unit| !unit.is_empty());
            let unit = unit.map(|unit| format!(" [unit: {unit}]")).unwrap_or_default();
            let help = format!(
                "{} [env: {}]{unit} [default: {}] [bound: {}]",
                setting.about,
                names.variable,
                setting.default_text(),
                setting.bound()
            );
            let arg = Arg::new(setting.name)
                .long(names.flag.as_str())
                .value_name(setting.placeholder())
                .help(help);
            match setting.field {
                Field::Switch(_) => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                _ => arg.allow_negative_numbers(true),
            }
        });
        command.arg(file).args(settings).after_help(other_variables())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str| matches.get_one::<String>(name).cloned();
        let flags = settings()
            .filter_map(|(setting, _)| Some((setting.name, given(setting.name)?)))
            .collect();
        Ok(ServeOptions {
            file: given("config").map(PathBuf::from),
            flags,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_documents_every_setting() {
        let help = CommandLine::command().render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (setting, names) in settings() {
            for part in [
                format!("--{}", names.flag),
                format!("[env: {}]", names.variable),
                format!("[default: {}]", setting.default_text()),
                format!("[bound: {}]", setting.bound()),
            ] {
                assert!(words.contains(&part), "help lacks {part}");
            }
        }
        for variable in OTHER_VARIABLES {
            assert!(words.contains(variable.name), "help lacks {}", variable.name);
        }
    }

    #[test]
    fn the_nearest_option_is_one_of_the_subcommand() {
        let check = |line: &str, unknown: &str, expected: &str| {
            let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(nearest_flag(&line, unknown).as_deref(), Some(expected), "{line:?}");
        };
        check("sql --ulr grpc://localhost:1", "--ulr", "url");
        check("sql --usr ann", "--usr", "user");
        check("serve --datadir x", "--datadir", "data-dir");
        check("serve --memory 1GB", "--memory", "memory-limit");
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = [
            "kalamdb",
            "serve",
            "--max-sessions",
            "7",
            "--allow-plaintext-on-network",
            "--http-listen=0.0.0.0:0",
        ];
        let Action::Serve(options) = CommandLine::try_parse_from(line)
            .map_err(|error| error.to_string())
            .expect("parses")
            .command
        else {
            panic!("serve was asked for")
        };
        let config = configure(options, Vec::new()).expect("a configuration");
        assert_eq!(config.max_sessions, 7);
        assert!(config.allow_plaintext_on_network);
    }
}
