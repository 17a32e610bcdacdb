//! Shows where in its text a statement went wrong: the line that the server names, and a caret under the column.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::shell::printable::printable_lines;

/// A message of the server, and, where it ends with `(line x, column y)`, that place of `sql` in at most `width` columns.
pub(crate) fn pointed(message: &str, sql: &str, width: usize) -> String {
    let mut text = printable_lines(message).into_owned();
    let place = place(message).and_then(|(line, column)| Some((line, column, sql.split('\n').nth(line - 1)?)));
    let Some((line, column, source)) = place else {
        return text;
    };
    let head = format!("LINE {line}: ");
    let (shown, caret) = window(source, column, width.saturating_sub(head.len()).max(20));
    text.push_str(&format!("\n{head}{shown}\n{}^", " ".repeat(head.len() + caret)));
    text
}

/// Line and column, both from 1.
fn place(message: &str) -> Option<(usize, usize)> {
    let (_, place) = message.rsplit_once("(line ")?;
    let (line, column) = place.strip_suffix(')')?.split_once(", column ")?;
    let (line, column) = (line.parse().ok()?, column.parse().ok()?);
    (line > 0 && column > 0).then_some((line, column))
}

/// The part of a line around a column (in characters, from 1), at most `width` wide, and how far into it the column is.
fn window(line: &str, column: usize, width: usize) -> (String, usize) {
    let line: String = line
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let place = line
        .char_indices()
        .nth(column - 1)
        .map_or(line.len(), |(index, _)| index);
    let before_width = line[..place].width();
    let mut start = 0;
    // The place stands in the second half at most, so that what follows it is seen, too.
    let mut cut = before_width.saturating_sub(width / 2);
    if line.width() <= width {
        cut = 0;
    }
    while cut > 0 && start < place {
        let next = line[start..].chars().next().expect("the place is further on");
        cut = cut.saturating_sub(next.width().unwrap_or(0).max(1));
        start += next.len_utf8();
    }
    let mut shown = String::new();
    let mut shown_width = 0;
    for grapheme in line[start..].graphemes(true) {
        shown_width += grapheme.width();
        if shown_width > width {
            break;
        }
        shown.push_str(grapheme);
    }
    (shown, line[start..place].width())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let check = |message: &str, sql: &str, expected: &str| assert_eq!(pointed(message, sql, 80), expected, "{sql}");
        check(
            "COLUMN_NOT_FOUND: column \"nmae\" does not exist (line 1, column 8)",
            "SELECT nmae FROM t",
            "COLUMN_NOT_FOUND: column \"nmae\" does not exist (line 1, column 8)\nLINE 1: SELECT nmae FROM t\n               ^",
        );
        check(
            "X: y (line 2, column 3)",
            "SELECT\n\t語x",
            "X: y (line 2, column 3)\nLINE 2:  語x\n           ^",
        );
        // The place is the end of the text.
        check(
            "X: y (line 1, column 7)",
            "SELECT",
            "X: y (line 1, column 7)\nLINE 1: SELECT\n              ^",
        );
        check("X: no place", "SELECT", "X: no place");
        check("X: y (line 9, column 1)", "SELECT", "X: y (line 9, column 1)");
        check("X: y (line 0, column 0)", "SELECT", "X: y (line 0, column 0)");
        check("X: \u{1b}[2J", "SELECT", "X: \\x1b[2J");
    }

    #[test]
    fn a_long_line_is_shown_around_its_place() {
        let sql = format!("{}here{}", "a".repeat(300), "b".repeat(300));
        let text = pointed("X: y (line 1, column 301)", &sql, 60);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].len() <= 60, "{text}");
        let caret = lines[2].len() - 1;
        assert_eq!(&lines[1][caret..caret + 4], "here", "{text}");
    }
}
