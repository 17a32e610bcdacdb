//! What was typed before: kept in a file of the user's, but never what may hold a password.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::shell::words::{Kind, words};

/// So many entries are remembered.
pub(crate) const LIMIT: usize = 1_000;

/// Words that stand for a secret, wherever they are: also in a statement with a mistake in it.
const SECRETS: [&str; 7] = [
    "passw",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "credential",
    "access_key",
];

/// Entries, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: Vec<String>,
    path: Option<PathBuf>,
}

impl History {
    /// The user's history; one for this session alone, and the reason, where there can be no file.
    pub(crate) fn open() -> (Self, Option<String>) {
        let Some(path) = default_path(|name| env::var_os(name)) else {
            return (History::default(), None);
        };
        match History::read(&path) {
            Ok(history) => (history, None),
            Err(error) => {
                let reason = format!("the history {} cannot be used: {error}", path.display());
                (History::default(), Some(reason))
            }
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut entries: Vec<String> = text.lines().map(unescaped).collect();
        if entries.len() > LIMIT {
            entries.drain(..entries.len() - LIMIT);
        }
        let history = History {
            entries,
            path: Some(path.to_owned()),
        };
        // The file grows by what each session adds, and shrinks here.
        if text.lines().count() > 2 * LIMIT {
            history.rewrite(path)?;
        }
        Ok(history)
    }

    pub(crate) fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Remembers a text, in the file if it has no secret.
    ///
    /// # Errors
    /// The file cannot be written; from now on it is left alone.
    pub(crate) fn add(&mut self, text: &str) -> io::Result<()> {
        let text = text.trim();
        if text.is_empty() || self.entries.last().is_some_and(|last| last == text) {
            return Ok(());
        }
        self.entries.push(text.to_owned());
        if self.entries.len() > LIMIT {
            self.entries.remove(0);
        }
        let Some(path) = self.path.as_ref().filter(|_| !may_hold_a_secret(text)) else {
            return Ok(());
        };
        // One write, so that sessions side by side do not mix their lines.
        let line = format!("{}\n", escaped(text));
        let written = private(OpenOptions::new().append(true))
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if written.is_err() {
            self.path = None;
        }
        written
    }

    fn rewrite(&self, path: &Path) -> io::Result<()> {
        let mut name = OsString::from(path);
        name.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(name);
        let mut file: File = private(OpenOptions::new().write(true).truncate(true)).open(&beside)?;
        let lines: String = self
            .entries
            .iter()
            .map(|entry| format!("{}\n", escaped(entry)))
            .collect();
        file.write_all(lines.as_bytes())?;
        fs::rename(&beside, path)
    }
}

/// Made if it is not there, for its owner alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.create(true).mode(0o600)
}

/// Where the XDG base directory specification has state.
fn default_path(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("kalamdb").join("history"))
}

/// Rather too often than once too little: an entry less does no harm.
pub(crate) fn may_hold_a_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    if SECRETS.iter().any(|secret| lower.contains(secret)) {
        return true;
    }
    // CREATE USER 'a' and ALTER USER 'a', whatever is mistyped behind them. USER TABLEs are fine.
    let (words, _) = words(text);
    words
        .windows(2)
        .any(|pair| (pair[0].is("user") || pair[0].is("exists")) && pair[1].kind == Kind::Literal)
}

/// One line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn entries_come_back_in_the_next_session() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state/kalamdb/history");
        let mut history = History::read(&path).expect("opens");
        let lines = "SELECT '\\n',\n  \"ä\";";
        for text in ["SELECT 1;", "SELECT 1;", lines, "  "] {
            history.add(text).expect("writes");
        }
        assert_eq!(history.entries(), ["SELECT 1;", lines]);
        assert_eq!(History::read(&path).expect("opens").entries(), ["SELECT 1;", lines]);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn secrets_stay_out_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("history");
        let check = |text: &str, is_kept: bool| {
            let mut history = History::read(&path).expect("opens");
            history.add(text).expect("writes");
            assert_eq!(
                history.entries().last().map(String::as_str),
                Some(text),
                "the session knows it"
            );
            let kept = History::read(&path).expect("opens");
            assert_eq!(
                kept.entries().last().is_some_and(|last| last == text),
                is_kept,
                "{text}"
            );
        };
        check("CREATE USER 'a' WITH PASSWORD 'correct horse' ROLE user;", false);
        check("alter user 'a' with\n password 'correct horse';", false);
        check("CREATE USER 'a' WITH PASWORD 'correct horse';", false);
        check("CREATE USER IF NOT EXISTS 'a' WTH PASWORD 'correct horse';", false);
        check("ALTER STORAGE s SET secret_access_key = 'x';", false);
        check("CREATE USER TABLE t (id INT PRIMARY KEY);", true);
        check("SELECT user_id FROM system.users WHERE user_id = 'ann';", true);
        check("SELECT * FROM passengers;", true);
    }

    #[test]
    fn the_file_stays_small() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("history");
        let lines: String = (0..2 * LIMIT + 1).map(|number| format!("SELECT {number};\n")).collect();
        fs::write(&path, lines).expect("writes");
        let history = History::read(&path).expect("opens");
        assert_eq!(history.entries().len(), LIMIT);
        assert_eq!(fs::read_to_string(&path).expect("reads").lines().count(), LIMIT);
        assert_eq!(
            history.entries().last().map(String::as_str),
            Some(format!("SELECT {};", 2 * LIMIT).as_str())
        );
    }

    #[test]
    fn the_file_is_where_state_belongs() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(default_path(variable), expected.map(PathBuf::from), "{variables:?}");
        };
        check(&[("HOME", "/home/ann")], Some("/home/ann/.local/state/kalamdb/history"));
        check(
            &[("HOME", "/home/ann"), ("XDG_STATE_HOME", "/state")],
            Some("/state/kalamdb/history"),
        );
        check(
            &[("HOME", "/home/ann"), ("XDG_STATE_HOME", "")],
            Some("/home/ann/.local/state/kalamdb/history"),
        );
        check(&[], None);
    }
}
