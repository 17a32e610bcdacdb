//! What keys do to the statement being typed: editing, walking through the history, searching in it.

use crate::shell::buffer::Buffer;
use crate::shell::keys::Key;
use crate::shell::screen::Picture;

/// What a key comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is to come.
    On,
    /// The statement is whole.
    Submitted,
    /// It is thrown away.
    Interrupted,
    EndOfInput,
    /// What could the word before the cursor be?
    Completion,
    ClearScreen,
}

/// A statement being typed.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) buffer: Buffer,
    mode: Mode,
}

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Typing,
    /// An entry of the history is shown; what was typed waits behind the newest.
    Browsing { index: usize, draft: String },
    /// The newest entry that holds `query` is shown.
    Searching {
        query: String,
        index: usize,
        draft: String,
        prompt: String,
    },
}

impl Line {
    pub(crate) fn picture(&self) -> Picture<'_> {
        let first = match &self.mode {
            Mode::Searching { prompt, .. } => prompt,
            Mode::Typing | Mode::Browsing { .. } => "kalamdb> ",
        };
        Picture {
            prompts: (first, "    ...> "),
            text: self.buffer.text(),
            cursor: self.buffer.cursor(),
        }
    }

    /// The text; the next one begins.
    pub(crate) fn take(&mut self) -> String {
        self.mode = Mode::Typing;
        self.buffer.take()
    }

    /// What a key does. `is_complete` says whether a text is a whole statement.
    pub(crate) fn apply(&mut self, key: Key, history: &[String], is_complete: fn(&str) -> bool) -> Step {
        if matches!(self.mode, Mode::Searching { .. }) {
            match key {
                Key::Char(character) => return self.search(history, |query| query.push(character)),
                Key::Backspace => {
                    return self.search(history, |query| {
                        query.pop();
                    });
                }
                Key::Search => return self.search_older(history),
                Key::Abort | Key::Interrupt => {
                    if let Mode::Searching { draft, .. } = std::mem::take(&mut self.mode) {
                        self.buffer.set(draft);
                    }
                    return Step::On;
                }
                // Any other key takes what was found, and does what it does.
                _ => self.mode = Mode::Typing,
            }
        }
        match key {
            Key::Char(character) => self.buffer.insert(character.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => self.buffer.insert(&text),
            Key::Enter if is_complete(self.buffer.text()) => return Step::Submitted,
            Key::Enter if self.buffer.text().trim().is_empty() => return Step::Submitted,
            Key::Enter | Key::NewLine => self.buffer.insert("\n"),
            Key::Tab => return self.tab(),
            Key::Backspace => self.buffer.backspace(),
            Key::Delete => self.buffer.delete(),
            Key::Left => self.buffer.left(),
            Key::Right => self.buffer.right(),
            Key::Up => {
                if !self.buffer.up() {
                    self.older(history);
                }
            }
            Key::Down => {
                if !self.buffer.down() {
                    self.newer(history);
                }
            }
            Key::WordLeft => self.buffer.word_left(),
            Key::WordRight => self.buffer.word_right(),
            Key::Home => self.buffer.home(),
            Key::End => self.buffer.end(),
            Key::KillLineLeft => self.buffer.kill_line_left(),
            Key::KillLineRight => self.buffer.kill_line_right(),
            Key::KillWordLeft => self.buffer.kill_word_left(),
            Key::KillWordRight => self.buffer.kill_word_right(),
            Key::Yank => self.buffer.yank(),
            Key::ClearScreen => return Step::ClearScreen,
            Key::Search => {
                self.mode = Mode::Searching {
                    query: String::new(),
                    index: history.len(),
                    draft: self.buffer.text().to_owned(),
                    prompt: search_prompt("", true),
                };
            }
            Key::Abort => {}
            Key::Interrupt => return Step::Interrupted,
            Key::EndOfInput if self.buffer.text().is_empty() => return Step::EndOfInput,
            Key::EndOfInput => self.buffer.delete(),
        }
        Step::On
    }

    /// At the beginning of a further line it indents.
    fn tab(&mut self) -> Step {
        let before = &self.buffer.text()[..self.buffer.cursor()];
        match before.rsplit_once('\n') {
            Some((_, line)) if line.trim().is_empty() => {
                self.buffer.insert("    ");
                Step::On
            }
            _ => Step::Completion,
        }
    }

    fn older(&mut self, history: &[String]) {
        let index = match &self.mode {
            Mode::Browsing { index, .. } => *index,
            Mode::Typing | Mode::Searching { .. } => history.len(),
        };
        self.show(index.checked_sub(1), history);
    }

    fn newer(&mut self, history: &[String]) {
        if let Mode::Browsing { index, .. } = &self.mode {
            let next = index + 1;
            self.show(Some(next), history);
        }
    }

    /// Shows an entry, or what was typed if there is none so new.
    fn show(&mut self, index: Option<usize>, history: &[String]) {
        let Some(index) = index else { return };
        let draft = match std::mem::take(&mut self.mode) {
            Mode::Browsing { draft, .. } => draft,
            Mode::Typing | Mode::Searching { .. } => self.buffer.text().to_owned(),
        };
        match history.get(index) {
            Some(entry) => {
                self.buffer.set(entry.clone());
                self.mode = Mode::Browsing { index, draft };
            }
            None => self.buffer.set(draft),
        }
    }

    /// Changes what is searched for and looks from the newest entry on.
    fn search(&mut self, history: &[String], change: impl FnOnce(&mut String)) -> Step {
        if let Mode::Searching { query, index, .. } = &mut self.mode {
            change(query);
            *index = history.len();
        }
        self.search_older(history)
    }

    fn search_older(&mut self, history: &[String]) -> Step {
        if let Mode::Searching {
            query, index, prompt, ..
        } = &mut self.mode
        {
            let older = &history[..(*index).min(history.len())];
            let found = older.iter().rposition(|entry| entry.contains(query.as_str()));
            if let Some(found) = found {
                *index = found;
                self.buffer.set(older[found].clone());
            }
            *prompt = search_prompt(query, found.is_some());
        }
        Step::On
    }
}

fn search_prompt(query: &str, is_found: bool) -> String {
    let word = if is_found { "search" } else { "not found" };
    format!("({word}) {query}: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_complete(text: &str) -> bool {
        text.ends_with(';')
    }

    /// Types and returns the last step.
    fn press(line: &mut Line, history: &[String], keys: &[Key]) -> Step {
        let mut step = Step::On;
        for key in keys {
            step = line.apply(key.clone(), history, is_complete);
        }
        step
    }

    fn typed(text: &str) -> Vec<Key> {
        text.chars().map(Key::Char).collect()
    }

    #[test]
    fn enter_submits_what_is_complete() {
        let mut line = Line::default();
        assert_eq!(press(&mut line, &[], &typed("SELECT 1")), Step::On);
        assert_eq!(press(&mut line, &[], &[Key::Enter]), Step::On);
        assert_eq!(press(&mut line, &[], &typed(";")), Step::On);
        assert_eq!(press(&mut line, &[], &[Key::Left, Key::Enter]), Step::Submitted);
        assert_eq!(line.take(), "SELECT 1\n;");
        assert_eq!(press(&mut line, &[], &[Key::Enter]), Step::Submitted);
        assert_eq!(line.take(), "");
        // A paste is not submitted by the lines in it.
        assert_eq!(press(&mut line, &[], &[Key::Paste("a;\nb".to_owned())]), Step::On);
        assert_eq!(line.take(), "a;\nb");
    }

    #[test]
    fn ctrl_c_and_ctrl_d() {
        let mut line = Line::default();
        assert_eq!(press(&mut line, &[], &[Key::EndOfInput]), Step::EndOfInput);
        press(&mut line, &[], &typed("ab"));
        assert_eq!(press(&mut line, &[], &[Key::Home, Key::EndOfInput]), Step::On);
        assert_eq!(line.buffer.text(), "b");
        assert_eq!(press(&mut line, &[], &[Key::Interrupt]), Step::Interrupted);
    }

    #[test]
    fn up_and_down_walk_through_the_history() {
        let history = ["SELECT 1;".to_owned(), "SELECT\n2;".to_owned()];
        let mut line = Line::default();
        let mut check = |key: Key, expected: &str| {
            line.apply(key, &history, is_complete);
            assert_eq!(line.buffer.text(), expected);
        };
        check(Key::Down, "");
        check(Key::Char('x'), "x");
        check(Key::Up, "SELECT\n2;");
        // First through its lines.
        check(Key::Up, "SELECT\n2;");
        check(Key::Up, "SELECT 1;");
        check(Key::Up, "SELECT 1;");
        check(Key::Down, "SELECT\n2;");
        check(Key::Down, "x");
        check(Key::Down, "x");
    }

    #[test]
    fn a_search_finds_older_entries() {
        let history = ["SELECT one;", "SELECT two;", "INSERT one;"].map(str::to_owned);
        let mut line = Line::default();
        let mut check = |key: Key, prompt: &str, text: &str| {
            line.apply(key, &history, is_complete);
            let picture = line.picture();
            assert_eq!((picture.prompts.0, picture.text), (prompt, text));
        };
        check(Key::Char('x'), "kalamdb> ", "x");
        check(Key::Search, "(search) : ", "x");
        check(Key::Char('o'), "(search) o: ", "INSERT one;");
        check(Key::Char('n'), "(search) on: ", "INSERT one;");
        check(Key::Search, "(search) on: ", "SELECT one;");
        check(Key::Search, "(not found) on: ", "SELECT one;");
        check(Key::Backspace, "(search) o: ", "INSERT one;");
        check(Key::Abort, "kalamdb> ", "x");
        check(Key::Search, "(search) : ", "x");
        check(Key::Char('t'), "(search) t: ", "SELECT two;");
        check(Key::Home, "kalamdb> ", "SELECT two;");
    }

    #[test]
    fn tab_completes_or_indents() {
        let mut line = Line::default();
        press(&mut line, &[], &typed("SEL"));
        assert_eq!(press(&mut line, &[], &[Key::Tab]), Step::Completion);
        assert_eq!(press(&mut line, &[], &[Key::NewLine, Key::Tab]), Step::On);
        assert_eq!(line.buffer.text(), "SEL\n    ");
    }
}
