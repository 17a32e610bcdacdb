//! The conversation at a terminal: reads statements and commands, runs them, says what went wrong, and goes on.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::shell::completion::{complete, quoted};
use crate::shell::connection::{Connection, is_lost, message};
use crate::shell::editor::{Editor, Event};
use crate::shell::history::History;
use crate::shell::meta_command::{self, MetaCommand, is_like};
use crate::shell::names::{self, KnownTable, Names};
use crate::shell::output::{OutputFormat, Printer};
use crate::shell::pointer::pointed;
use crate::shell::printable::printable_lines;
use crate::shell::raw_mode::terminal_size;
use crate::shell::statement::{self, Effect, Failure, Interrupts};
use crate::shell::table::Table;
use crate::shell::words::words;
use crate::shell::{Shell, output_failure};

/// Where a session begins.
const DEFAULT_NAMESPACE: &str = "public";

/// Talks until the input ends.
///
/// # Errors
/// A message for people: no connection, no terminal. What statements fail with is said, and no error.
pub(crate) async fn run(shell: &Shell) -> Result<(), String> {
    let connection = Connection::open(shell).await?;
    let (history, trouble) = History::open();
    let mut conversation = Conversation {
        shell,
        connection,
        printer: Printer::new(shell.format, shell.output.clone()),
        interrupts: Interrupts::listen()?,
        history,
        names: Names::default(),
        namespace: DEFAULT_NAMESPACE.to_owned(),
        is_timing: false,
    };
    say(&format!(
        "kalamdb {} at {}; end a statement with ; and leave with \\q; \\? has more",
        env!("CARGO_PKG_VERSION"),
        shell.url
    ));
    if let Some(trouble) = trouble {
        say(&trouble);
    }
    let mut source = Source::of_this_terminal();
    let outcome = conversation.run(&mut source).await;
    conversation.connection.close().await;
    outcome.map_err(|error| format!("the terminal: {error}"))
}

/// How statements are typed.
enum Source {
    Editor(Box<Editor>),
    /// A terminal that cannot place its cursor: line by line, as it edits them itself.
    Lines(String),
}

impl Source {
    fn of_this_terminal() -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if is_dumb || !io::stderr().is_terminal() {
            Source::Lines(String::new())
        } else {
            Source::Editor(Box::default())
        }
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Leave,
}

struct Conversation<'a> {
    shell: &'a Shell,
    connection: Connection,
    printer: Printer,
    interrupts: Interrupts,
    history: History,
    names: Names,
    /// What names without one belong to.
    namespace: String,
    is_timing: bool,
}

impl Conversation<'_> {
    async fn run(&mut self, source: &mut Source) -> io::Result<()> {
        loop {
            match self.read(source).await? {
                Event::Submitted(text) => {
                    if self.obey(&text).await == Flow::Leave {
                        return Ok(());
                    }
                }
                Event::EndOfInput => return Ok(()),
                Event::Interrupted | Event::Completion => {}
            }
        }
    }

    async fn read(&mut self, source: &mut Source) -> io::Result<Event> {
        let editor = match source {
            Source::Lines(text) => return read_lines(text),
            Source::Editor(editor) => editor,
        };
        loop {
            match editor.read(self.history.entries(), is_complete)? {
                Event::Completion => {
                    self.names.refresh(&mut self.connection.client).await;
                    let (before, after) = editor.around_cursor();
                    let completion = complete(before, after, self.names.tables(), &self.namespace);
                    editor.offer(&completion)?;
                }
                event => return Ok(event),
            }
        }
    }

    async fn obey(&mut self, text: &str) -> Flow {
        let text = text.trim();
        if let Err(error) = self.history.add(text) {
            say(&format!("the history is not written any more: {error}"));
        }
        if text.is_empty() {
            return Flow::On;
        }
        if matches!(text, "exit" | "quit") {
            return Flow::Leave;
        }
        if text.starts_with('\\') {
            return match meta_command::parse(text) {
                Ok(command) => self.command(command).await,
                Err(message) => {
                    say(&message);
                    Flow::On
                }
            };
        }
        match kalamdb_sql::split(text) {
            Ok(statements) => {
                for statement in statements {
                    if self.statement(&statement).await.is_err() {
                        break;
                    }
                }
            }
            Err(error) => say_pointed(&error.to_string(), text),
        }
        Flow::On
    }

    /// Runs a statement and says how it went; an error ends the text that it is of.
    async fn statement(&mut self, sql: &str) -> Result<(), ()> {
        self.interrupts.forget();
        let started = Instant::now();
        let outcome = self.run_statement(sql).await;
        let elapsed = started.elapsed();
        let outcome = match outcome {
            Ok(word) => {
                if let Some(word) = word {
                    say(&word);
                }
                self.note(sql);
                Ok(())
            }
            Err(failure) => {
                self.say_failure(failure, sql);
                Err(())
            }
        };
        if self.is_timing {
            say(&format!("Time: {:.3} ms", elapsed.as_secs_f64() * 1000.0));
        }
        outcome
    }

    /// Runs it, in a new session if there is none any more. Only a statement that has not run is run again.
    async fn run_statement(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        let (client, printer) = (&mut self.connection.client, &mut self.printer);
        let first = statement::run(client, sql, printer, &mut self.interrupts).await;
        let Err(Failure::Lost { message, ran: false }) = first else {
            return first;
        };
        say(&format!("{message}; connecting anew"));
        match self.interrupts.unless(self.connection.reopen(self.shell)).await {
            Ok(reopened) => reopened.map_err(Failure::Refused)?,
            Err(_) => return Err(Failure::Cancelled(Effect::None)),
        }
        say("connected: a new session, without what SET and USE did in the old one");
        self.namespace = DEFAULT_NAMESPACE.to_owned();
        self.names.forget();
        let (client, printer) = (&mut self.connection.client, &mut self.printer);
        statement::run(client, sql, printer, &mut self.interrupts).await
    }

    /// What a statement that succeeded changes for completion.
    fn note(&mut self, sql: &str) {
        let (words, _) = words(sql);
        let Some(first) = words.first() else { return };
        if first.is("USE") {
            let namespace = words.get(1).and_then(|word| word.name());
            self.namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        }
        if ["CREATE", "DROP", "ALTER"].iter().any(|keyword| first.is(keyword)) {
            self.names.forget();
        }
    }

    fn say_failure(&self, failure: Failure, sql: &str) {
        match failure {
            Failure::Refused(message) => say_pointed(&message, sql),
            Failure::Lost { message, ran } => {
                say(&message);
                let about = if ran {
                    "; whether this one took effect is not known"
                } else {
                    ""
                };
                say(&format!("The next statement connects anew{about}."));
            }
            Failure::Output(error) => say(&output_failure(&self.printer, &error)),
            // The terminal shows ^C, and the cursor stands behind it.
            Failure::Cancelled(Effect::None) => say("\nCancelled."),
            Failure::Cancelled(Effect::Unknown) => {
                say("\nCancelled. If it was being committed already, it has taken effect.");
            }
        }
    }

    async fn command(&mut self, command: MetaCommand) -> Flow {
        match command {
            MetaCommand::Quit => return Flow::Leave,
            MetaCommand::Help => print(&meta_command::help()),
            MetaCommand::List(pattern) => self.list(pattern.as_deref()).await,
            MetaCommand::Describe(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
                // What it fails with is said.
                let _ = self.statement(&format!("DESCRIBE TABLE {}", parts.join("."))).await;
            }
            MetaCommand::Timing(is_on) => {
                self.is_timing = is_on.unwrap_or(!self.is_timing);
                say(if self.is_timing {
                    "Timing is on."
                } else {
                    "Timing is off."
                });
            }
            MetaCommand::Expanded => {
                let format = match self.printer.format() {
                    OutputFormat::Record => OutputFormat::Table,
                    OutputFormat::Table | OutputFormat::Csv | OutputFormat::Json | OutputFormat::Parquet => {
                        OutputFormat::Record
                    }
                };
                self.set_format(format);
            }
            MetaCommand::Format(Some(format)) => self.set_format(format),
            MetaCommand::Format(None) => self.say_format(),
            MetaCommand::Output(path) => {
                self.printer.redirect(path);
                match self.printer.path() {
                    Some(path) => say(&format!("Rows go to {}.", path.display())),
                    None => say("Rows are printed here."),
                }
            }
        }
        Flow::On
    }

    fn set_format(&mut self, format: OutputFormat) {
        self.printer.set_format(format);
        self.say_format();
        if let Err(message) = self.printer.check() {
            say(&message);
        }
    }

    fn say_format(&self) {
        say(match self.printer.format() {
            OutputFormat::Table => "Rows are printed as tables.",
            OutputFormat::Record => "Rows are printed as records.",
            OutputFormat::Csv => "Rows are printed as CSV.",
            OutputFormat::Json => "Rows are printed as JSON.",
            OutputFormat::Parquet => "Rows are written as Parquet.",
        });
    }

    /// Tables that a pattern stands for; without one all but the system's.
    async fn list(&mut self, pattern: Option<&str>) {
        self.interrupts.forget();
        let tables = match self.interrupts.unless(tables(&mut self.connection, self.shell)).await {
            Ok(Ok(tables)) => tables,
            Ok(Err(failure)) => return say(&failure),
            Err(_) => return say("\nCancelled."),
        };
        let is_listed = |table: &&KnownTable| match pattern {
            Some(pattern) => is_like(pattern, &table.namespace, &table.name),
            None => table.table_type != "SYSTEM TABLE" && table.namespace != "information_schema",
        };
        let tables: Vec<&KnownTable> = tables.iter().filter(is_listed).collect();
        if tables.is_empty() {
            return say("There is no such table.");
        }
        let column = |value: fn(&KnownTable) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(tables.iter().map(|table| value(table))))
        };
        let columns = [
            ("namespace", column(|table| &table.namespace)),
            ("table", column(|table| &table.name)),
            ("type", column(|table| &table.table_type)),
        ];
        let printed = RecordBatch::try_from_iter(columns)
            .map_err(io::Error::other)
            .and_then(|rows| {
                let mut out = io::stdout();
                let mut table = Table::new(&rows.schema());
                table.rows(&rows, &mut out)?;
                table.end(&mut out)?;
                out.flush()
            });
        if let Err(error) = printed {
            say(&format!("standard output: {error}"));
        }
    }
}

/// All tables, asked for in a new session if there is none any more.
async fn tables(connection: &mut Connection, shell: &Shell) -> Result<Vec<KnownTable>, String> {
    let mut found = names::tables(&mut connection.client).await;
    if found.as_ref().is_err_and(is_lost) {
        connection.reopen(shell).await?;
        found = names::tables(&mut connection.client).await;
    }
    found.map_err(|error| message(&error))
}

/// Whether what was typed can be obeyed.
fn is_complete(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('\\') || matches!(text, "exit" | "quit") || ends_a_statement(text)
}

/// Whether the text ends with a semicolon that ends a statement. One in an open literal does not.
fn ends_a_statement(text: &str) -> bool {
    // A comment behind the semicolon is fine, and one more statement can only be split off where the semicolon was a real one.
    let count = |text: &str| kalamdb_sql::split(text).map(|statements| statements.len());
    let is_blank = text
        .chars()
        .all(|character| character == ';' || character.is_whitespace());
    match (count(text), count(&format!("{text}\n SELECT 1"))) {
        (Ok(whole), Ok(longer)) => is_blank || (longer > whole && whole > 0),
        _ => false,
    }
}

/// One text, line by line.
fn read_lines(text: &mut String) -> io::Result<Event> {
    loop {
        let prompt = if text.trim().is_empty() {
            "kalamdb> "
        } else {
            "    ...> "
        };
        eprint!("{prompt}");
        io::stderr().flush()?;
        if io::stdin().lock().read_line(text)? == 0 {
            return Ok(Event::EndOfInput);
        }
        if text.trim().is_empty() || is_complete(text) {
            return Ok(Event::Submitted(std::mem::take(text)));
        }
    }
}

/// A word to the person, beside the rows.
fn say(text: &str) {
    // There is nobody to tell where this fails.
    let _ = writeln!(io::stderr(), "{}", printable_lines(text));
}

fn say_pointed(message: &str, sql: &str) {
    let (width, _) = terminal_size();
    say(&pointed(message, sql, width));
}

fn print(text: &str) {
    let mut out = io::stdout();
    // As for `say`.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_its_semicolon() {
        let check = |text: &str, expected: bool| assert_eq!(is_complete(text), expected, "{text}");
        check("SELECT 1;\n", true);
        check("SELECT 1\n", false);
        check("SELECT 1; SELECT 2", false);
        check("SELECT ';\n", false);
        check("SELECT 1 -- ;\n", false);
        check("SELECT 1; -- that is all\n", true);
        check("SELECT 1 /* ;", false);
        check("SELECT ';';\n", true);
        check("SELECT \"a;", false);
        check("SELECT $$ ;", false);
        check("SELECT $$ ; $$;", true);
        check("SELECT $x$ ; $$ ;", false);
        check("-- nothing;\n", false);
        check(";", true);
        check("\\d shop.orders", true);
        check("quit", true);
        check("quit the", false);
    }
}
