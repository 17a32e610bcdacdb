//! Text that cannot drive a terminal: control characters, which may come from any row, name or message, as escapes.

use std::borrow::Cow;

/// For one line: every control character is an escape.
pub(crate) fn printable_line(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character.is_control())
}

/// For several lines: every control character but the line feed is an escape.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character.is_control() && character != '\n')
}

/// JSON text, whose own escapes leave out DEL and what follows it (U+0080 to U+009F): the same text with those as escapes, too.
pub(crate) fn printable_json(text: &str) -> Cow<'_, str> {
    let is_left_out = |character: char| character.is_control() && character >= '\u{7f}';
    if !text.contains(is_left_out) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_left_out(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, is_escaped: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            match character {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\0'..='\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(character))),
                other => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            }
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escapes() {
        let check = |text: &str, line: &str, lines: &str| {
            assert_eq!(printable_line(text), line, "{text:?}");
            assert_eq!(printable_lines(text), lines, "{text:?}");
        };
        check("plain ä 語 \\n", "plain ä 語 \\n", "plain ä 語 \\n");
        check("a\nb\r\tc", "a\\nb\\r\\tc", "a\nb\\r\\tc");
        check("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07");
        check("\u{9b}31m\u{7f}", "\\u009b31m\\x7f", "\\u009b31m\\x7f");
    }

    #[test]
    fn json_stays_json() {
        let check = |value: &str| {
            let json = serde_json::to_string(value).expect("text serialises");
            let printable = printable_json(&json);
            assert!(!printable.contains(char::is_control), "{printable:?}");
            let back: String = serde_json::from_str(&printable).expect("it is JSON");
            assert_eq!(back, value);
        };
        check("plain");
        check("\u{1b}[2J\u{9b}2J\u{7f}\n");
    }
}
