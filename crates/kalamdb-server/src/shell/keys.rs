//! Bytes of a terminal into keys: UTF-8, control characters, the escape sequences of ECMA-48 and xterm, bracketed paste.

/// What a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    /// Text from the clipboard, whatever it holds.
    Paste(String),
    Enter,
    /// Alt-Enter: a new line, whether the statement is complete or not.
    NewLine,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    WordLeft,
    WordRight,
    Home,
    End,
    KillLineLeft,
    KillLineRight,
    KillWordLeft,
    KillWordRight,
    Yank,
    ClearScreen,
    Search,
    /// Ctrl-G: leaves a search.
    Abort,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
}

/// An escape sequence has no more bytes than this; longer ones are no keys.
const SEQUENCE_LIMIT: usize = 32;

const PASTE_END: &[u8] = b"\x1b[201~";

/// Takes bytes, gives keys.
#[derive(Debug, Default)]
pub(crate) struct KeyDecoder {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// The bytes of a character that is not whole.
    Character(Vec<u8>),
    /// After ESC.
    Escape,
    /// After `ESC [`.
    Sequence(Vec<u8>),
    /// After `ESC O`.
    Function,
    Paste(Vec<u8>),
}

impl KeyDecoder {
    /// The key that this byte completes. What is no key vanishes.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Character(bytes) => self.character(bytes, byte),
            State::Escape => self.escape(byte),
            State::Sequence(mut bytes) => {
                if matches!(byte, 0x40..=0x7e) {
                    if bytes == b"200" && byte == b'~' {
                        self.state = State::Paste(Vec::new());
                        return None;
                    }
                    return sequence(&bytes, byte);
                }
                // An escape within one begins another.
                if byte == 0x1b {
                    self.state = State::Escape;
                } else if bytes.len() < SEQUENCE_LIMIT {
                    bytes.push(byte);
                    self.state = State::Sequence(bytes);
                }
                None
            }
            State::Function => sequence(b"", byte),
            State::Paste(mut bytes) => {
                bytes.push(byte);
                if bytes.ends_with(PASTE_END) {
                    bytes.truncate(bytes.len() - PASTE_END.len());
                    return Some(Key::Paste(String::from_utf8_lossy(&bytes).into_owned()));
                }
                self.state = State::Paste(bytes);
                None
            }
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let key = match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::EndOfInput,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x07 => Key::Abort,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Tab,
            // A line feed is what was typed before the mode changed.
            b'\r' | b'\n' => Key::Enter,
            0x0b => Key::KillLineRight,
            0x0c => Key::ClearScreen,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x12 => Key::Search,
            0x15 => Key::KillLineLeft,
            0x17 => Key::KillWordLeft,
            0x19 => Key::Yank,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x20..=0x7e => Key::Char(char::from(byte)),
            0x80.. => return self.character(Vec::new(), byte),
            _ => return None,
        };
        Some(key)
    }

    fn character(&mut self, mut bytes: Vec<u8>, byte: u8) -> Option<Key> {
        bytes.push(byte);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text
                .chars()
                .next()
                .filter(|character| !character.is_control())
                .map(Key::Char),
            Err(error) if error.error_len().is_none() => {
                self.state = State::Character(bytes);
                None
            }
            // A byte that does not continue a character may begin something.
            Err(_) if bytes.len() > 1 => self.ground(byte),
            Err(_) => None,
        }
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => {
                self.state = State::Sequence(Vec::new());
                None
            }
            b'O' => {
                self.state = State::Function;
                None
            }
            0x1b => {
                self.state = State::Escape;
                None
            }
            b'b' => Some(Key::WordLeft),
            b'f' => Some(Key::WordRight),
            b'd' => Some(Key::KillWordRight),
            0x08 | 0x7f => Some(Key::KillWordLeft),
            b'\r' | b'\n' => Some(Key::NewLine),
            // The escape key by itself means nothing here; what comes next is as it is.
            _ => self.ground(byte),
        }
    }
}

/// The key of `ESC [ parameters final`.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    // `1;5` is with Ctrl, `1;3` with Alt.
    let is_modified = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    let key = match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if is_modified => Key::WordRight,
        b'D' if is_modified => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'~' => match parameters {
            b"1" | b"7" => Key::Home,
            b"4" | b"8" => Key::End,
            b"3" => Key::Delete,
            _ => return None,
        },
        _ => return None,
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = KeyDecoder::default();
        bytes.iter().filter_map(|&byte| decoder.push(byte)).collect()
    }

    #[test]
    fn bytes_become_keys() {
        let check = |bytes: &[u8], expected: &[Key]| assert_eq!(keys(bytes), expected, "{bytes:?}");
        check("aä語".as_bytes(), &[Key::Char('a'), Key::Char('ä'), Key::Char('語')]);
        check(
            b"\x03\x04\r\n\t\x7f",
            &[
                Key::Interrupt,
                Key::EndOfInput,
                Key::Enter,
                Key::Enter,
                Key::Tab,
                Key::Backspace,
            ],
        );
        check(
            b"\x1b[A\x1bOB\x1b[1;5C\x1b[1;3D\x1b[3~\x1b[4~\x1bb",
            &[
                Key::Up,
                Key::Down,
                Key::WordRight,
                Key::WordLeft,
                Key::Delete,
                Key::End,
                Key::WordLeft,
            ],
        );
        check(
            b"\x1b[200~a\r\n\tb\x1b[A\x1b[201~c",
            &[Key::Paste("a\r\n\tb\x1b[A".to_owned()), Key::Char('c')],
        );
    }

    #[test]
    fn what_is_no_key_does_no_harm() {
        let check = |bytes: &[u8], expected: &[Key]| assert_eq!(keys(bytes), expected, "{bytes:?}");
        check(b"\x1b[99;99Xa", &[Key::Char('a')]);
        check(b"\x1b\x1b[Aa", &[Key::Up, Key::Char('a')]);
        check(b"\x1bxa", &[Key::Char('x'), Key::Char('a')]);
        // A broken character gives way to the next one; a C1 control is none.
        check(b"\xe8a", &[Key::Char('a')]);
        check(b"\xffa", &[Key::Char('a')]);
        check("\u{9b}a".as_bytes(), &[Key::Char('a')]);
        let long = [&b"\x1b["[..], &[b'1'; 100], b"ab"].concat();
        assert!(keys(&long).ends_with(&[Key::Char('b')]));
    }
}
