//! Reads statements at a terminal. rustyline knows keys, editing, history and how a line is drawn.

use std::env;
use std::io::{self, Write};

use rustyline::config::{Behavior, BellStyle};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Cmd, ColorMode, CompletionType, Config, EventHandler, KeyCode, KeyEvent, Modifiers};
use unicode_width::UnicodeWidthStr;

use crate::shell::WIDTH;
use crate::shell::assistant::{Assistant, Listing, without_controls};
use crate::shell::history;

pub(crate) const PROMPT: &str = "kalamdb> ";

/// Terminals that cannot place their cursor: rustyline's list, and those without a name.
const PLAIN_TERMINALS: [&str; 4] = ["", "dumb", "cons25", "emacs"];

/// EIO: what a terminal that has hung up answers.
const HUNG_UP: i32 = 5;

/// More candidates than this are not listed.
const LISTED: usize = 200;

/// What a person wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Submitted(String),
    Interrupted,
    EndOfInput,
    /// Bytes came that are no UTF-8.
    NoText,
}

/// A terminal at which statements are typed.
pub(crate) struct Editor {
    lines: rustyline::Editor<Assistant, MemHistory>,
    assistant: Assistant,
}

impl Editor {
    /// None where the terminal has no line to edit.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn open(assistant: Assistant, history: &[String]) -> io::Result<Option<Self>> {
        let name = env::var_os("TERM").unwrap_or_default();
        if PLAIN_TERMINALS.iter().any(|plain| name.eq_ignore_ascii_case(plain)) {
            return Ok(None);
        }
        let config = Config::builder()
            // Rows may go elsewhere than to the terminal: the line is drawn where it is typed.
            .behavior(Behavior::PreferTerm)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            // So that `highlight` is asked, NO_COLOR or not: it gives no colours.
            .color_mode(ColorMode::Forced)
            .max_history_size(history::LIMIT)
            .map_err(io::Error::other)?
            .build();
        let lines = MemHistory::with_config(&config);
        let mut lines = rustyline::Editor::with_history(config, lines).map_err(io::Error::other)?;
        if lines.dimensions().is_none() {
            return Ok(None);
        }
        lines.set_helper(Some(assistant.clone()));
        let tab = KeyEvent(KeyCode::Tab, Modifiers::NONE);
        lines.bind_sequence(tab, EventHandler::Conditional(Box::new(assistant.clone())));
        let alt_enter = KeyEvent(KeyCode::Enter, Modifiers::ALT);
        lines.bind_sequence(alt_enter, EventHandler::Simple(Cmd::Newline));
        let mut editor = Editor { lines, assistant };
        for entry in history {
            editor.remember(entry);
        }
        Ok(Some(editor))
    }

    /// Reads until something is to be done.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn read(&mut self) -> io::Result<Event> {
        let mut begun = String::new();
        let mut cursor = 0;
        loop {
            let text = match self.lines.readline_with_initial(PROMPT, begun.split_at(cursor)) {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => return Ok(Event::Interrupted),
                Err(ReadlineError::Eof) => return Ok(Event::EndOfInput),
                Err(ReadlineError::Io(error)) if error.raw_os_error() == Some(HUNG_UP) => return Ok(Event::EndOfInput),
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Event::NoText);
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let Some(listing) = self.assistant.take_listing() else {
                return Ok(Event::Submitted(without_controls(&text).into_owned()));
            };
            let width = self.width();
            io::stderr().write_all(list(&listing, width).as_bytes())?;
            cursor = listing.cursor;
            begun = text;
        }
    }

    /// For Up and Ctrl-R.
    pub(crate) fn remember(&mut self, text: &str) {
        // A history in memory takes everything.
        let _ = self.lines.add_history_entry(text);
    }

    pub(crate) fn assistant(&self) -> &Assistant {
        &self.assistant
    }

    /// Columns of the terminal.
    pub(crate) fn width(&mut self) -> usize {
        self.lines
            .dimensions()
            .map_or(WIDTH, |(columns, _)| usize::from(columns))
    }
}

/// Candidates in columns.
fn list(Listing { candidates, .. }: &Listing, width: usize) -> String {
    let listed = &candidates[..candidates.len().min(LISTED)];
    let widest = listed.iter().map(|candidate| candidate.width()).max().unwrap_or(0) + 2;
    let columns = (width / widest).max(1);
    let mut text = String::new();
    for row in listed.chunks(columns) {
        let mut line = String::new();
        for candidate in row {
            line.push_str(candidate);
            line.push_str(&" ".repeat(widest - candidate.width()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if candidates.len() > LISTED {
        text.push_str(&format!("… and {} more\n", candidates.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_listed_in_columns() {
        let check = |candidates: &[&str], width: usize, expected: &str| {
            let candidates = candidates.iter().map(|&candidate| candidate.to_owned()).collect();
            assert_eq!(list(&Listing { cursor: 0, candidates }, width), expected);
        };
        check(&["a", "bcd", "e"], 10, "a    bcd\ne\n");
        check(&["a", "bcd"], 3, "a\nbcd\n");
        check(&["語", "b"], 10, "語  b\n");
        let many: Vec<String> = (0..LISTED + 3).map(|number| number.to_string()).collect();
        let listing = Listing {
            cursor: 0,
            candidates: many,
        };
        assert!(list(&listing, 80).ends_with("… and 3 more\n"));
    }
}
