//! Text that is being typed, perhaps over several lines, with a cursor in it.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Text and cursor. What the cursor steps over is a grapheme.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    text: String,
    /// In bytes.
    cursor: usize,
    /// What was cut last.
    killed: String,
}

impl Buffer {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Another text, the cursor at its end.
    pub(crate) fn set(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.cursor = self.text.len();
    }

    /// The text; nothing is left.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// What comes from a keyboard or clipboard, without control characters that are neither tab nor new line.
    pub(crate) fn insert(&mut self, text: &str) {
        let text: String = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .chars()
            .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
            .collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
    }

    /// Puts `text` in place of a part that ends at the cursor.
    pub(crate) fn complete(&mut self, start: usize, text: &str) {
        self.text.replace_range(start..self.cursor, text);
        self.cursor = start + text.len();
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(crate) fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub(crate) fn home(&mut self) {
        self.cursor = self.line().start;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.line().end;
    }

    /// To the line above; false if this is the first.
    pub(crate) fn up(&mut self) -> bool {
        let line = self.line();
        if line.start == 0 {
            return false;
        }
        let column = self.text[line.start..self.cursor].width();
        self.cursor = line.start - 1;
        self.go_to_column(column);
        true
    }

    /// To the line below; false if this is the last.
    pub(crate) fn down(&mut self) -> bool {
        let line = self.line();
        if line.end == self.text.len() {
            return false;
        }
        let column = self.text[line.start..self.cursor].width();
        self.cursor = line.end + 1;
        self.go_to_column(column);
        true
    }

    pub(crate) fn backspace(&mut self) {
        let start = self.before();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn delete(&mut self) {
        let end = self.after();
        self.text.replace_range(self.cursor..end, "");
    }

    pub(crate) fn kill_line_left(&mut self) {
        self.kill(self.line().start..self.cursor);
    }

    pub(crate) fn kill_line_right(&mut self) {
        self.kill(self.cursor..self.line().end);
    }

    pub(crate) fn kill_word_left(&mut self) {
        self.kill(self.word_start()..self.cursor);
    }

    pub(crate) fn kill_word_right(&mut self) {
        self.kill(self.cursor..self.word_end());
    }

    /// What was cut last, at the cursor.
    pub(crate) fn yank(&mut self) {
        let killed = std::mem::take(&mut self.killed);
        self.insert(&killed);
        self.killed = killed;
    }

    fn kill(&mut self, range: Range<usize>) {
        self.killed = self.text[range.clone()].to_owned();
        self.cursor = range.start;
        self.text.replace_range(range, "");
    }

    fn before(&self) -> usize {
        let last = self.text[..self.cursor].graphemes(true).next_back();
        self.cursor - last.map_or(0, str::len)
    }

    fn after(&self) -> usize {
        let next = self.text[self.cursor..].graphemes(true).next();
        self.cursor + next.map_or(0, str::len)
    }

    fn word_start(&self) -> usize {
        let before = self.text[..self.cursor].trim_end_matches(|character| !is_word(character));
        before.trim_end_matches(is_word).len()
    }

    fn word_end(&self) -> usize {
        let after = self.text[self.cursor..].trim_start_matches(|character| !is_word(character));
        self.text.len() - after.trim_start_matches(is_word).len()
    }

    /// The line that the cursor is in, without its end.
    fn line(&self) -> Range<usize> {
        let start = self.text[..self.cursor].rfind('\n').map_or(0, |index| index + 1);
        let end = self.text[self.cursor..]
            .find('\n')
            .map_or(self.text.len(), |index| self.cursor + index);
        start..end
    }

    /// In the line that the cursor is in, as far as it goes.
    fn go_to_column(&mut self, column: usize) {
        let line = self.line();
        self.cursor = line.start;
        let mut width = 0;
        for grapheme in self.text[line].graphemes(true) {
            width += grapheme.width();
            if width > column {
                break;
            }
            self.cursor += grapheme.len();
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with `|` at the cursor.
    fn buffer(text: &str) -> Buffer {
        let (before, after) = text.split_once('|').expect("a cursor");
        Buffer {
            text: format!("{before}{after}"),
            cursor: before.len(),
            killed: String::new(),
        }
    }

    fn shown(buffer: &Buffer) -> String {
        format!("{}|{}", &buffer.text[..buffer.cursor], &buffer.text[buffer.cursor..])
    }

    #[test]
    fn keys_move_and_change() {
        let check = |text: &str, act: fn(&mut Buffer), expected: &str| {
            let mut buffer = buffer(text);
            act(&mut buffer);
            assert_eq!(shown(&buffer), expected, "{text}");
        };
        check("ae\u{301}|", Buffer::left, "a|e\u{301}");
        check("a|e\u{301}b", Buffer::right, "ae\u{301}|b");
        check("|a", Buffer::left, "|a");
        check("a|", Buffer::right, "a|");
        check("select a_b.c  |", Buffer::word_left, "select a_b.|c  ");
        check("sel|ect a", Buffer::word_right, "select| a");
        check("a\nbc|d\ne", Buffer::home, "a\n|bcd\ne");
        check("a\nbc|d\ne", Buffer::end, "a\nbcd|\ne");
        check("ae\u{301}|b", Buffer::backspace, "a|b");
        check("a|語b", Buffer::delete, "a|b");
        check("|", Buffer::backspace, "|");
        check("|", Buffer::delete, "|");
        check("a\nbc|d\ne", Buffer::kill_line_left, "a\n|d\ne");
        check("a\nbc|d\ne", Buffer::kill_line_right, "a\nbc|\ne");
        check("select from_x|", Buffer::kill_word_left, "select |");
        check("|select x", Buffer::kill_word_right, "| x");
        check("a|", |buffer| buffer.insert("x\r\ny\rz\u{1b}[A\t"), "ax\ny\nz[A\t|");
        check("SELECT na|", |buffer| buffer.complete(7, "name"), "SELECT name|");
        check(
            "ab cd|",
            |buffer| {
                buffer.kill_word_left();
                buffer.home();
                buffer.yank();
            },
            "cd|ab ",
        );
    }

    #[test]
    fn up_and_down_keep_the_column_and_stop_at_the_ends() {
        let mut buffer = buffer("語語語\nab\nabcdef|");
        assert!(buffer.up());
        assert_eq!(shown(&buffer), "語語語\nab|\nabcdef");
        assert!(buffer.up());
        assert_eq!(shown(&buffer), "語|語語\nab\nabcdef");
        assert!(!buffer.up());
        assert!(buffer.down());
        assert!(buffer.down());
        assert!(!buffer.down());
        assert_eq!(shown(&buffer), "語語語\nab\nab|cdef");
    }
}
