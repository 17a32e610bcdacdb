//! The conversation at a terminal: reads statements and commands, runs them, says what went wrong, and goes on.

use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::shell::assistant::Assistant;
use crate::shell::completeness::is_complete;
use crate::shell::connection::{Connection, is_lost, message};
use crate::shell::editor::{Editor, Event, PROMPT};
use crate::shell::history::History;
use crate::shell::meta_command::{self, MetaCommand, is_like};
use crate::shell::names::{self, KnownTable};
use crate::shell::output::{OutputFormat, Printer};
use crate::shell::pointer::Script;
use crate::shell::printable::printable_lines;
use crate::shell::statement::{self, Effect, Failure, Interrupts};
use crate::shell::table::Table;
use crate::shell::words::{quoted, words};
use crate::shell::{Shell, WIDTH, output_failure};

/// Where a session begins.
const DEFAULT_NAMESPACE: &str = "public";

/// Talks until the input ends.
///
/// # Errors
/// A message for people: no connection, no terminal. What statements fail with is said, and no error.
pub(crate) async fn run(shell: &Shell) -> Result<(), String> {
    let connection = Connection::open(shell).await?;
    let (history, trouble) = History::open();
    let assistant = Assistant::new(connection.client.clone(), DEFAULT_NAMESPACE);
    let editor = Editor::open(assistant, history.entries()).map_err(|error| format!("the terminal: {error}"))?;
    let mut conversation = Conversation {
        shell,
        connection,
        printer: Printer::new(shell.format, shell.output.clone()),
        interrupts: Interrupts::of_a_prompt()?,
        history,
        editor,
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
    let outcome = conversation.run().await;
    conversation.connection.close().await;
    outcome.map_err(|error| format!("the terminal: {error}"))
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
    /// None at a terminal that cannot place its cursor: there lines are read as it edits them itself.
    editor: Option<Editor>,
    is_timing: bool,
}

impl Conversation<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let event = match &mut self.editor {
                Some(editor) => {
                    editor.assistant().set_client(&self.connection.client);
                    editor.read()?
                }
                None => read_lines()?,
            };
            match event {
                Event::Submitted(text) => {
                    if self.obey(&text).await == Flow::Leave {
                        return Ok(());
                    }
                }
                Event::EndOfInput => return Ok(()),
                Event::Interrupted => {}
                Event::NoText => say("What was typed is not UTF-8 and is thrown away."),
            }
        }
    }

    async fn obey(&mut self, text: &str) -> Flow {
        let text = text.trim();
        if text.is_empty() {
            return Flow::On;
        }
        if let Some(editor) = &mut self.editor {
            editor.remember(text);
        }
        if let Err(error) = self.history.add(text) {
            say(&format!("the history is not written any more: {error}"));
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
        let script = typed(text);
        match kalamdb_sql::statement_ranges(text) {
            Ok(ranges) => {
                for range in ranges {
                    if self.statement(&script, range).await.is_err() {
                        break;
                    }
                }
            }
            Err(error) => self.say_pointed(&script, &error.to_string(), 0),
        }
        Flow::On
    }

    /// Runs a statement and says how it went; an error ends the text that it is of.
    async fn statement(&mut self, script: &Script, range: Range<usize>) -> Result<(), ()> {
        let start = range.start;
        let sql = &script.text[range];
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
                let left = self.printer.abandon();
                self.say_failure(failure, script, start);
                if let Some(left) = left {
                    say(&left);
                }
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
            Ok(reopened) => reopened.map_err(|message| Failure::Lost { message, ran: false })?,
            Err(_) => return Err(Failure::Cancelled(Effect::None)),
        }
        say("connected: a new session, without what SET and USE did in the old one");
        if let Some(editor) = &self.editor {
            editor.assistant().set_namespace(DEFAULT_NAMESPACE);
            editor.assistant().forget_names();
        }
        let (client, printer) = (&mut self.connection.client, &mut self.printer);
        statement::run(client, sql, printer, &mut self.interrupts).await
    }

    /// What a statement that succeeded changes for completion.
    fn note(&self, sql: &str) {
        let (words, _) = words(sql);
        let (Some(first), Some(editor)) = (words.first(), &self.editor) else {
            return;
        };
        if first.is("USE") {
            let namespace = words.get(1).and_then(|word| word.name());
            editor
                .assistant()
                .set_namespace(namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE));
        }
        if ["CREATE", "DROP", "ALTER"].iter().any(|keyword| first.is(keyword)) {
            editor.assistant().forget_names();
        }
    }

    fn say_pointed(&mut self, script: &Script, message: &str, start: usize) {
        let width = self.editor.as_mut().map_or(WIDTH, Editor::width);
        say(&script.pointed(message, start, width));
    }

    fn say_failure(&mut self, failure: Failure, script: &Script, start: usize) {
        match failure {
            Failure::Refused(message) => self.say_pointed(script, &message, start),
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
            Failure::Cancelled(effect) => say(&format!("\n{}", effect.cancelled())),
        }
    }

    async fn command(&mut self, command: MetaCommand) -> Flow {
        match command {
            MetaCommand::Quit => return Flow::Leave,
            MetaCommand::Help => print(&meta_command::help()),
            MetaCommand::List(pattern) => self.list(pattern.as_deref()).await,
            MetaCommand::Describe(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
                let script = typed(&format!("DESCRIBE TABLE {}", parts.join(".")));
                // What it fails with is said.
                let _ = self.statement(&script, 0..script.text.len()).await;
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

/// One text, line by line.
fn read_lines() -> io::Result<Event> {
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { PROMPT } else { "    ...> " };
        // Where nobody sees it, the lines are read all the same.
        let _ = write!(io::stderr(), "{prompt}").and_then(|()| io::stderr().flush());
        match io::stdin().lock().read_line(&mut text) {
            Ok(0) => return Ok(Event::EndOfInput),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Event::NoText),
            read => read?,
        };
        if text.trim().is_empty() || is_complete(&text) {
            return Ok(Event::Submitted(text));
        }
    }
}

/// A word to the person, beside the rows.
fn say(text: &str) {
    // There is nobody to tell where this fails.
    let _ = writeln!(io::stderr(), "{}", printable_lines(text));
}

/// What a person has before them needs no name.
fn typed(text: &str) -> Script {
    Script {
        text: text.to_owned(),
        name: None,
    }
}

fn print(text: &str) {
    let mut out = io::stdout();
    // As for `say`.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
