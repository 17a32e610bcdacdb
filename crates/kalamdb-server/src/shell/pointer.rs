//! Shows where in a script a statement went wrong: the file, the line and the column, and the line with a caret under the place.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::shell::printable::printable_lines;
use crate::shell::words::words;

/// A text that statements are taken from: a file, an argument, what was typed.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    /// What people know it by, if they do not have it before them.
    pub(crate) name: Option<String>,
}

/// Line and column, both from 1.
type Place = (usize, usize);

impl Script {
    /// What a server says of the statement that begins at the byte `start`. Where it ends with `(line x, column y)`, which is of
    /// the statement, that is the place in the script instead, and the line is shown in at most `width` columns; where it does
    /// not, the statement's line is told.
    pub(crate) fn pointed(&self, message: &str, start: usize, width: usize) -> String {
        let printable = printable_lines(message);
        let name = self.name.as_deref().map(|name| format!(" of {name}"));
        let name = printable_lines(name.as_deref().unwrap_or_default()).into_owned();
        let found = split_place(&printable).and_then(|(said, place)| {
            let (line, column) = self.place(start, place);
            Some((said, line, column, self.text.split('\n').nth(line - 1)?))
        });
        let Some((said, line, column, source)) = found else {
            let (line, _) = self.place(self.first_word(start), (1, 1));
            if line == 1 && name.is_empty() {
                return printable.into_owned();
            }
            return format!("{printable} (in the statement at line {line}{name})");
        };
        let head = format!("LINE {line}: ");
        let (shown, caret) = window(source, column, width.saturating_sub(head.len()).max(20));
        let caret = " ".repeat(head.len() + caret);
        format!("{said} (line {line}, column {column}{name})\n{head}{shown}\n{caret}^")
    }

    /// A place of the text from `start` on, as one of the whole.
    fn place(&self, start: usize, (line, column): Place) -> Place {
        let before = &self.text[..start];
        let own_line = before.rfind('\n').map_or(0, |index| index + 1);
        let column = match line {
            1 => before[own_line..].chars().count() + column,
            _ => column,
        };
        (before.matches('\n').count() + line, column)
    }

    /// Where the statement's own words begin, behind its comments.
    fn first_word(&self, start: usize) -> usize {
        let (words, _) = words(&self.text[start..]);
        words.first().map_or(start, |word| start + word.start)
    }
}

/// A message, and the place that it ends with.
fn split_place(message: &str) -> Option<(&str, Place)> {
    let (said, place) = message.rsplit_once(" (line ")?;
    let (line, column) = place.strip_suffix(')')?.split_once(", column ")?;
    let (line, column) = (line.parse().ok()?, column.parse().ok()?);
    (line > 0 && column > 0).then_some((said, (line, column)))
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

    fn script(text: &str, name: Option<&str>) -> Script {
        Script {
            text: text.to_owned(),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let check = |message: &str, sql: &str, expected: &str| {
            assert_eq!(script(sql, None).pointed(message, 0, 80), expected, "{sql}");
        };
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
    fn places_are_those_of_the_script() {
        let text = "SELECT 1; -- ä\n\n-- about\n/* it */ SELECT\n nmae; SELECT ä, x";
        let script = script(text, Some("all.sql"));
        let check = |statement: &str, message: &str, expected: &str| {
            let start = text.find(statement).expect("it is there");
            assert_eq!(script.pointed(message, start, 80), expected, "{statement} {message}");
        };
        check(
            "SELECT 1",
            "X: y (line 1, column 8)",
            "X: y (line 1, column 8 of all.sql)\nLINE 1: SELECT 1; -- ä\n               ^",
        );
        // A comment before a statement is sent with it.
        check(
            "-- ä",
            "X: y (line 5, column 2)",
            "X: y (line 5, column 2 of all.sql)\nLINE 5:  nmae; SELECT ä, x\n         ^",
        );
        check(
            "SELECT ä",
            "X: y (line 1, column 11)",
            "X: y (line 5, column 18 of all.sql)\nLINE 5:  nmae; SELECT ä, x\n                         ^",
        );
        check("-- ä", "X: y", "X: y (in the statement at line 4 of all.sql)");
        let nameless = Script {
            name: None,
            ..script.clone()
        };
        assert_eq!(nameless.pointed("X: y", 0, 80), "X: y");
        let start = text.find("SELECT\n").expect("it is there");
        assert_eq!(nameless.pointed("X: y", start, 80), "X: y (in the statement at line 4)");
    }

    #[test]
    fn a_long_line_is_shown_around_its_place() {
        let sql = format!("{}here{}", "a".repeat(300), "b".repeat(300));
        let text = script(&sql, None).pointed("X: y (line 1, column 301)", 0, 60);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].len() <= 60, "{text}");
        let caret = lines[2].len() - 1;
        assert_eq!(&lines[1][caret..caret + 4], "here", "{text}");
    }
}
