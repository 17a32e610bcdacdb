//! Reads statements at a terminal: bytes come in, the line is drawn on standard error.

use std::collections::VecDeque;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::shell::completion::Completion;
use crate::shell::keys::KeyDecoder;
use crate::shell::line::{Line, Step};
use crate::shell::raw_mode::{RawMode, read_bytes, terminal_size};
use crate::shell::screen::Screen;

/// Bracketed paste (xterm): pasted text comes between marks, so that what is in it are no keys.
const PASTE_ON: &[u8] = b"\x1b[?2004h";
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// More candidates than this are not listed.
const LISTED: usize = 200;

/// What a person wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Submitted(String),
    Interrupted,
    EndOfInput,
    /// The word before the cursor is to be completed: [`Editor::around_cursor`], [`Editor::offer`], and read on.
    Completion,
}

/// A terminal at which statements are typed.
#[derive(Default)]
pub(crate) struct Editor {
    /// While a line is edited.
    raw: Option<RawMode>,
    /// Bytes that came and are not yet keys: what was typed ahead is for the next line.
    unread: VecDeque<u8>,
    keys: KeyDecoder,
    line: Line,
    screen: Screen,
}

impl Editor {
    /// Reads until something is to be done.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn read(&mut self, history: &[String], is_complete: fn(&str) -> bool) -> io::Result<Event> {
        if self.raw.is_none() {
            self.raw = Some(RawMode::enter()?);
            io::stderr().write_all(PASTE_ON)?;
        }
        loop {
            while let Some(byte) = self.unread.pop_front() {
                let Some(key) = self.keys.push(byte) else { continue };
                match self.line.apply(key, history, is_complete) {
                    Step::On => {}
                    Step::ClearScreen => self.screen.clear(&mut io::stderr())?,
                    Step::Completion => return Ok(Event::Completion),
                    Step::Submitted => {
                        self.draw()?;
                        self.leave()?;
                        return Ok(Event::Submitted(self.line.take()));
                    }
                    Step::Interrupted => {
                        self.draw()?;
                        io::stderr().write_all(b"^C")?;
                        self.leave()?;
                        self.unread.clear();
                        self.line.take();
                        return Ok(Event::Interrupted);
                    }
                    Step::EndOfInput => {
                        self.draw()?;
                        self.leave()?;
                        return Ok(Event::EndOfInput);
                    }
                }
            }
            self.draw()?;
            let bytes = read_bytes()?;
            if bytes.is_empty() {
                self.leave()?;
                return Ok(Event::EndOfInput);
            }
            self.unread.extend(bytes);
        }
    }

    /// The text before the cursor, and after it.
    pub(crate) fn around_cursor(&self) -> (&str, &str) {
        let buffer = &self.line.buffer;
        buffer.text().split_at(buffer.cursor())
    }

    /// Completes the word before the cursor as far as the candidates agree; where they do not, lists them.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn offer(&mut self, completion: &Completion) -> io::Result<()> {
        let word_length = self.line.buffer.cursor() - completion.start;
        let agreed = completion.agreed();
        if completion.candidates.len() == 1 || agreed.len() > word_length {
            self.line.buffer.complete(completion.start, agreed);
        } else if completion.candidates.len() > 1 {
            self.draw()?;
            let mut out = io::stderr();
            self.screen.leave(&mut out)?;
            let (width, _) = terminal_size();
            out.write_all(list(&completion.candidates, width).as_bytes())?;
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        self.screen
            .draw(&self.line.picture(), terminal_size(), &mut io::stderr())
    }

    /// The line stays where it is, and the terminal is as it was.
    fn leave(&mut self) -> io::Result<()> {
        let mut out = io::stderr();
        self.screen.leave(&mut out)?;
        out.write_all(PASTE_OFF)?;
        self.raw = None;
        Ok(())
    }
}

/// Candidates in columns.
fn list(candidates: &[String], width: usize) -> String {
    let listed = &candidates[..candidates.len().min(LISTED)];
    let widest = listed.iter().map(|candidate| candidate.width()).max().unwrap_or(0) + 2;
    let columns = (width / widest).max(1);
    let mut text = String::new();
    for row in listed.chunks(columns) {
        let (last, others) = row.split_last().expect("a chunk is not empty");
        for candidate in others {
            text.push_str(candidate);
            text.push_str(&" ".repeat(widest - candidate.width()));
        }
        text.push_str(last);
        text.push_str("\r\n");
    }
    if candidates.len() > LISTED {
        text.push_str(&format!("… and {} more\r\n", candidates.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_listed_in_columns() {
        let check = |candidates: &[&str], width: usize, expected: &str| {
            let candidates: Vec<String> = candidates.iter().map(|&candidate| candidate.to_owned()).collect();
            assert_eq!(list(&candidates, width), expected);
        };
        check(&["a", "bcd", "e"], 10, "a    bcd\r\ne\r\n");
        check(&["a", "bcd"], 3, "a\r\nbcd\r\n");
        let many: Vec<String> = (0..LISTED + 3).map(|number| number.to_string()).collect();
        assert!(list(&many, 80).ends_with("… and 3 more\r\n"));
    }
}
