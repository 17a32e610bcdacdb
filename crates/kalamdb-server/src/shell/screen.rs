//! Draws the text being typed: prompts, lines wrapped at the terminal's width, the cursor. Rows are counted by ourselves, so
//! that the next drawing begins where this one did.

use std::io::{self, Write};

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What stands on the terminal.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Rows drawn, and which of them the cursor is in.
    rows: usize,
    cursor_row: usize,
}

/// What to draw.
pub(crate) struct Picture<'a> {
    /// Before the first line, and before each of the others.
    pub(crate) prompts: (&'a str, &'a str),
    pub(crate) text: &'a str,
    /// In bytes of the text.
    pub(crate) cursor: usize,
}

/// Rows as wide as the terminal at most.
struct Layout {
    rows: Vec<String>,
    cursor_row: usize,
    cursor_column: usize,
}

impl Screen {
    /// Draws in place of what was drawn before; the terminal has `size` columns and rows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn draw(&mut self, picture: &Picture<'_>, size: (usize, usize), out: &mut impl Write) -> io::Result<()> {
        let layout = lay_out(picture, size.0);
        // What is taller than the terminal is seen around the cursor.
        let height = size.1.max(1);
        let first = layout.cursor_row.saturating_sub(height - 1);
        let visible = &layout.rows[first..layout.rows.len().min(first + height)];
        let cursor_row = layout.cursor_row - first;
        let mut text = self.to_first_row();
        text.push_str(&visible.join("\r\n"));
        text.push_str(&up(visible.len() - 1 - cursor_row));
        text.push('\r');
        text.push_str(&right(layout.cursor_column));
        (self.rows, self.cursor_row) = (visible.len(), cursor_row);
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Leaves what is drawn where it is; what comes next begins below it.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub(crate) fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        let below = self.rows.saturating_sub(self.cursor_row + 1);
        let text = format!("{}\r\n", "\x1b[B".repeat(below));
        *self = Screen::default();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Clears the whole terminal.
    ///
    /// # Errors
    /// As [`Screen::draw`].
    pub(crate) fn clear(&mut self, out: &mut impl Write) -> io::Result<()> {
        *self = Screen::default();
        out.write_all(b"\x1b[H\x1b[2J")
    }

    /// To the beginning of what was drawn, which is cleared.
    fn to_first_row(&self) -> String {
        format!("{}\r\x1b[J", up(self.cursor_row))
    }
}

fn up(rows: usize) -> String {
    match rows {
        0 => String::new(),
        rows => format!("\x1b[{rows}A"),
    }
}

fn right(columns: usize) -> String {
    match columns {
        0 => String::new(),
        columns => format!("\x1b[{columns}C"),
    }
}

fn lay_out(picture: &Picture<'_>, width: usize) -> Layout {
    let width = width.max(2);
    let mut layout = Layout {
        rows: Vec::new(),
        cursor_row: 0,
        cursor_column: 0,
    };
    let mut offset = 0;
    for (index, line) in picture.text.split('\n').enumerate() {
        let prompt = if index == 0 {
            picture.prompts.0
        } else {
            picture.prompts.1
        };
        let mut row = prompt.to_owned();
        let mut column = prompt.width();
        for grapheme in line.graphemes(true) {
            // A row that is full and the cursor at its end would leave the cursor nowhere to be.
            let (shown, grapheme_width) = if grapheme.contains(char::is_control) {
                (" ", 1)
            } else {
                (grapheme, grapheme.width())
            };
            if column + grapheme_width > width {
                layout.rows.push(std::mem::take(&mut row));
                column = 0;
            }
            if offset == picture.cursor {
                (layout.cursor_row, layout.cursor_column) = (layout.rows.len(), column);
            }
            row.push_str(shown);
            column += grapheme_width;
            offset += grapheme.len();
        }
        if offset == picture.cursor {
            if column == width {
                layout.rows.push(std::mem::take(&mut row));
                column = 0;
            }
            (layout.cursor_row, layout.cursor_column) = (layout.rows.len(), column);
        }
        layout.rows.push(row);
        // The line feed.
        offset += 1;
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(text: &str, cursor: usize) -> Picture<'_> {
        Picture {
            prompts: ("> ", ". "),
            text,
            cursor,
        }
    }

    #[test]
    fn lines_are_wrapped_and_the_cursor_is_found() {
        let check = |text: &str, cursor: usize, rows: &[&str], place: (usize, usize)| {
            let layout = lay_out(&picture(text, cursor), 6);
            assert_eq!(layout.rows, rows, "{text:?}");
            assert_eq!((layout.cursor_row, layout.cursor_column), place, "{text:?} {cursor}");
        };
        check("", 0, &["> "], (0, 2));
        check("abc", 3, &["> abc"], (0, 5));
        check("abc", 1, &["> abc"], (0, 3));
        check("a\nb", 3, &["> a", ". b"], (1, 3));
        check("a\nb", 1, &["> a", ". b"], (0, 3));
        check("abcdef", 6, &["> abcd", "ef"], (1, 2));
        check("abcdef", 4, &["> abcd", "ef"], (1, 0));
        // The cursor behind a full row has a row of its own.
        check("abcd", 4, &["> abcd", ""], (1, 0));
        check("abcd\nx", 4, &["> abcd", "", ". x"], (1, 0));
        check("abcd\nx", 0, &["> abcd", ". x"], (0, 2));
        // A wide character is not split, an accent adds no width, a tab is a blank.
        check("abc語", 6, &["> abc", "語"], (1, 2));
        check("e\u{301}x", 3, &["> e\u{301}x"], (0, 3));
        check("a\tb", 3, &["> a b"], (0, 5));
    }

    #[test]
    fn what_is_taller_than_the_terminal_is_seen_around_the_cursor() {
        let mut out = Vec::new();
        let mut screen = Screen::default();
        let text = "a\nb\nc\nd\ne";
        screen
            .draw(&picture(text, text.len()), (20, 3), &mut out)
            .expect("draws");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "\r\x1b[J. c\r\n. d\r\n. e\r\x1b[3C"
        );
        let mut out = Vec::new();
        screen.draw(&picture(text, 0), (20, 3), &mut out).expect("draws");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "\x1b[2A\r\x1b[J> a\r\n. b\r\n. c\x1b[2A\r\x1b[2C"
        );
    }
}
