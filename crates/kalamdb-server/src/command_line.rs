//! The command line: `kalamdb serve` and `kalamdb sql`, exit codes, signals, and the line that says the server is ready.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
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
use crate::shell::{printable_line, printable_lines};
use crate::sql_command::{SqlOptions, run_sql};
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
        Action::Sql(options) => match check_environment(&environment).map(|()| run_sql(options)) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(message)) => complain_in_lines(&message, 1),
            Err(message) => complain(&message, 2),
        },
    }
}

/// Help and version are no errors; an unknown option is told the nearest one, and what is no option what is expected.
fn wrong_use(error: &clap::Error) -> ExitCode {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => Some(unknown),
        _ => None,
    };
    if let Some(unknown) = unknown {
        let line: Vec<String> = std::env::args().skip(1).collect();
        let command = CommandLine::command();
        let named = command
            .get_subcommands()
            .find(|subcommand| line.iter().any(|word| word == subcommand.get_name()));
        if !unknown.starts_with('-') {
            return complain(&unexpected(&command, named, unknown), 2);
        }
        if error.get(ContextKind::SuggestedArg).is_none()
            && let Some(nearest) = nearest_flag(&command, named, unknown)
        {
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

/// The options of the subcommand that a line names, or of all.
fn flags<'a>(command: &'a Command, named: Option<&'a Command>) -> Vec<&'a str> {
    let commands = named.map_or_else(|| command.get_subcommands().collect(), |named| vec![named]);
    let arguments = commands.into_iter().flat_map(Command::get_arguments);
    arguments.filter_map(Arg::get_long).collect()
}

/// The option nearest to an unknown one.
fn nearest_flag(command: &Command, named: Option<&Command>, unknown: &str) -> Option<String> {
    nearest(unknown.trim_start_matches('-'), flags(command, named)).map(str::to_owned)
}

/// What to say of a word that is no option and belongs to none.
fn unexpected(command: &Command, named: Option<&Command>, word: &str) -> String {
    let name = named.map_or(String::new(), |subcommand| format!(" {}", subcommand.get_name()));
    let start = format!("kalamdb{name} takes options only, and '{word}' is none");
    let flag = word.split('=').next().unwrap_or_default();
    if flags(command, named).contains(&flag) {
        return format!("{start}; did you mean --{word}?");
    }
    let advice = match name.as_str() {
        " sql" => "; statements stand behind -c, and a file of them behind -f.",
        _ => ".",
    };
    format!("{start}{advice} See kalamdb{name} --help")
}

fn complain(message: &str, code: u8) -> ExitCode {
    let line: Vec<&str> = message.split_whitespace().collect();
    // A server may have sent it.
    say(&printable_line(&line.join(" ")));
    ExitCode::from(code)
}

/// The same for a message that shows lines of a script.
fn complain_in_lines(message: &str, code: u8) -> ExitCode {
    say(&printable_lines(message));
    ExitCode::from(code)
}

fn say(message: &str) {
    // Where nobody reads it, the exit code still tells.
    let _ = writeln!(io::stderr(), "kalamdb: {message}");
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
    let mut out = io::stdout();
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
        let command = CommandLine::command();
        let check = |name: &str, unknown: &str, expected: &str| {
            let named = command.find_subcommand(name);
            assert_eq!(
                nearest_flag(&command, named, unknown).as_deref(),
                Some(expected),
                "{unknown}"
            );
        };
        check("sql", "--ulr", "url");
        check("sql", "--usr", "user");
        check("serve", "--datadir", "data-dir");
        check("serve", "--memory", "memory-limit");
    }

    #[test]
    fn a_word_that_is_no_option_is_called_so() {
        let command = CommandLine::command();
        let check = |name: &str, word: &str, expected: &str| {
            let text = unexpected(&command, command.find_subcommand(name), word);
            assert_eq!(text, expected, "{word}");
        };
        check(
            "serve",
            "extra",
            "kalamdb serve takes options only, and 'extra' is none. See kalamdb serve --help",
        );
        check(
            "serve",
            "data-dir=/tmp/x",
            "kalamdb serve takes options only, and 'data-dir=/tmp/x' is none; did you mean --data-dir=/tmp/x?",
        );
        check(
            "sql",
            "SELECT 1",
            "kalamdb sql takes options only, and 'SELECT 1' is none; statements stand behind -c, and a file of them \
             behind -f. See kalamdb sql --help",
        );
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
