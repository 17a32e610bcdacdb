//! A program at a pseudo-terminal: typed to, and seen as the screen that a person sees.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use unicode_width::UnicodeWidthChar;

use crate::wait::DEADLINE;

/// Columns of the terminal. It has so many rows that nothing scrolls out of what a program redraws.
const COLUMNS: usize = 100;

const TAB_STOP: usize = 8;

/// In the second column of a wide character.
const BEHIND_WIDE: char = '\0';

/// Gives its arguments a pseudo-terminal and passes bytes on. Python has one in its library.
const HELPER: &str = r#"
import fcntl, os, pty, select, struct, sys, termios
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 1000, 100, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
inputs = [0, master]
while True:
    ready, _, _ = select.select(inputs, [], [])
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            inputs.remove(0)
        if data.startswith(b"\0"):
            data = data[1:]
            while termios.tcgetattr(master)[3] & termios.ECHO:
                select.select([], [], [], 0.01)
        while data:
            data = data[os.write(master, data):]
    if master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if not data:
            break
        os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xff)
"#;

/// A terminal with a program. Dropped, it hangs up.
pub struct Terminal {
    helper: Child,
    input: ChildStdin,
    seen: Arc<Seen>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    view: Mutex<View>,
    changed: Condvar,
}

/// What came so far.
#[derive(Default)]
struct View {
    bytes: Vec<u8>,
    screen: Screen,
    is_over: bool,
}

impl Terminal {
    /// Starts `program` with these arguments and variables, and none of `KALAMDB_…` besides.
    ///
    /// # Panics
    /// When there is no python3.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", HELPER]).arg(program).args(args);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KALAMDB_") {
                command.env_remove(name);
            }
        }
        command.env("TERM", "xterm").envs(env.iter().copied());
        let mut helper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let input = helper.stdin.take().expect("stdin is piped");
        let mut output = helper.stdout.take().expect("stdout is piped");
        let seen = Arc::new(Seen::default());
        let filled = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0u8; 65536];
            loop {
                let length = output.read(&mut chunk).unwrap_or(0);
                let mut view = filled.view.lock().expect("no holder panics");
                view.bytes.extend_from_slice(&chunk[..length]);
                view.screen.take(&chunk[..length]);
                view.is_over = length == 0;
                filled.changed.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        Terminal {
            helper,
            input,
            seen,
            reader: Some(reader),
        }
    }

    /// Types what is not shown, once the program shows it no more: its prompt may be there before.
    ///
    /// # Panics
    /// When the program is gone.
    pub fn press_hidden(&mut self, keys: &str) {
        self.press(&format!("\0{keys}"));
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the program is gone.
    pub fn press(&mut self, keys: &str) {
        let pressed = self.input.write_all(keys.as_bytes()).and_then(|()| self.input.flush());
        if let Err(error) = pressed {
            panic!("keys cannot be pressed: {error}\n{}", self.screen());
        }
    }

    /// Waits until the screen is as `until` says; gives what that gives.
    ///
    /// # Panics
    /// When the deadline passes, or the program ends before.
    pub fn wait<T>(&self, what: &str, until: impl Fn(&Screen) -> Option<T>) -> T {
        let started = Instant::now();
        let mut view = self.seen.view.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = until(&view.screen) {
                return found;
            }
            let left = DEADLINE.saturating_sub(started.elapsed());
            if view.is_over || left.is_zero() {
                let screen = view.screen.text(0);
                drop(view);
                panic!("{what} is not on the screen:\n{screen}");
            }
            view = self
                .seen
                .changed
                .wait_timeout(view, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a text below row `from`.
    ///
    /// # Panics
    /// As [`Terminal::wait`].
    pub fn expect(&self, text: &str, from: usize) {
        self.wait(text, |screen| screen.text(from).contains(text).then_some(()));
    }

    /// Everything that stands on the screen.
    pub fn screen(&self) -> String {
        self.seen
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen
            .text(0)
    }

    /// The row that the cursor is in.
    pub fn row(&self) -> usize {
        self.seen.view.lock().unwrap_or_else(PoisonError::into_inner).screen.row
    }

    /// Every byte that came.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes
            .clone()
    }

    /// Waits for the program's end; how it ended, and the last screen.
    ///
    /// # Panics
    /// When the deadline passes.
    pub fn end(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let mut view = self.seen.view.lock().unwrap_or_else(PoisonError::into_inner);
        while !view.is_over {
            let left = DEADLINE.saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "the program does not end:\n{}", view.screen.text(0));
            let waited = self.seen.changed.wait_timeout(view, left);
            view = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let screen = view.screen.text(0);
        drop(view);
        (self.helper.wait().expect("a child can be waited for"), screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when the process is gone already. The program at the terminal gets SIGHUP with its end.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
        if let Some(reader) = self.reader.take() {
            // It ends with the pipe; a panic in it has been printed.
            let _ = reader.join();
        }
    }
}

/// Where the cursor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row, from 0.
    pub row: usize,
    /// The text of that row before the cursor.
    pub before: String,
    /// Whether nothing stands below it or behind the cursor.
    pub is_last: bool,
}

/// As much of a terminal as a line editor needs, without a bottom.
#[derive(Default)]
pub struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// An escape sequence that is not whole.
    sequence: Option<Vec<u8>>,
    /// A character that is not whole.
    character: Vec<u8>,
}

impl Screen {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.sequence.take() {
                Some(mut sequence) => {
                    sequence.push(byte);
                    let is_whole = sequence.len() > 1 && matches!(byte, 0x40..=0x7e);
                    if is_whole || sequence[0] != b'[' {
                        self.obey(&sequence);
                    } else {
                        self.sequence = Some(sequence);
                    }
                }
                None => self.put(byte),
            }
        }
    }

    fn put(&mut self, byte: u8) {
        match byte {
            0x1b => self.sequence = Some(Vec::new()),
            b'\r' => self.column = 0,
            b'\t' => self.column = (self.column / TAB_STOP + 1) * TAB_STOP,
            b'\n' => self.row += 1,
            0x08 => self.column = self.column.saturating_sub(1),
            0x07 => {}
            _ => {
                self.character.push(byte);
                let Ok(text) = std::str::from_utf8(&self.character) else {
                    return;
                };
                let character = text.chars().next().unwrap_or(' ');
                self.character.clear();
                let width = character.width().unwrap_or(0);
                if self.column + width > COLUMNS {
                    self.row += 1;
                    self.column = 0;
                }
                while self.rows.len() <= self.row {
                    self.rows.push(Vec::new());
                }
                let row = &mut self.rows[self.row];
                while row.len() < self.column + width {
                    row.push(' ');
                }
                // What has no width stands on what is there already, and is not seen here.
                for place in 0..width {
                    row[self.column + place] = if place == 0 { character } else { BEHIND_WIDE };
                }
                self.column += width;
            }
        }
    }

    fn obey(&mut self, sequence: &[u8]) {
        let text = String::from_utf8_lossy(sequence);
        let inner = text.trim_start_matches('[');
        let count = inner[..inner.len() - 1].parse::<usize>().unwrap_or(1);
        match text.as_ref() {
            "[J" => {
                self.rows.truncate(self.row + 1);
                if let Some(row) = self.rows.get_mut(self.row) {
                    row.truncate(self.column);
                }
            }
            "[2J" => self.rows.clear(),
            "[K" => {
                if let Some(row) = self.rows.get_mut(self.row) {
                    row.truncate(self.column);
                }
            }
            "[H" => (self.row, self.column) = (0, 0),
            // Bracketed paste, and drawing in one go.
            "[?2004h" | "[?2004l" | "[?2026h" | "[?2026l" => {}
            _ if text.ends_with('A') => self.row = self.row.saturating_sub(count),
            _ if text.ends_with('B') => self.row += count,
            _ if text.ends_with('C') => self.column += count,
            _ if text.ends_with('D') => self.column = self.column.saturating_sub(count),
            other => panic!("the program sends ESC {other}, which it has no need for"),
        }
    }

    /// What stands from a row on.
    pub fn text(&self, from: usize) -> String {
        let rows = self.rows.iter().skip(from).map(|row| shown(row));
        rows.map(|row| format!("{}\n", row.trim_end())).collect()
    }

    /// Where the cursor is.
    pub fn place(&self) -> Place {
        let empty = Vec::new();
        let row = self.rows.get(self.row).unwrap_or(&empty);
        Place {
            row: self.row,
            before: shown(&row[..self.column.min(row.len())]),
            is_last: row.len() <= self.column && self.rows.iter().skip(self.row + 1).all(Vec::is_empty),
        }
    }
}

fn shown(row: &[char]) -> String {
    row.iter().filter(|&&character| character != BEHIND_WIDE).collect()
}
