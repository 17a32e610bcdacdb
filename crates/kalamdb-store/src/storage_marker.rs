//! The file by which a storage's directory is recognised. A disk that is not mounted leaves an empty directory, or none, in its
//! place: nothing is made, written or erased where this file does not say that it is the storage that is meant.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::StoreError;
use crate::files::{PROBE_PREFIX, sync_path};
use crate::ids::StorageId;

/// Its name, in the storage's own directory.
pub(crate) const MARKER_FILE: &str = "KALAMDB-STORAGE";
/// The end of the name under which such a file is written.
const DRAFT: &str = ".new";
const LEAD: &str = "kalamdb storage of database ";

/// Which storage of which database a directory is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    database: String,
    storage: StorageId,
}

/// What a file says.
struct Found {
    database: String,
    /// Those of this database that had the directory, one after the other: files of the earlier ones may be left to erase.
    storages: Vec<u32>,
}

impl Marker {
    pub(crate) fn new(database: &str, storage: StorageId) -> Self {
        Self {
            database: database.to_string(),
            storage,
        }
    }

    pub(crate) fn storage(&self) -> StorageId {
        self.storage
    }

    /// Checks that this directory is the storage.
    ///
    /// # Errors
    /// [`StoreError::Away`] if it is another one, or none; [`StoreError::Storage`] if it cannot be read.
    pub(crate) fn check(&self, root: &Path) -> Result<(), StoreError> {
        if mistake!(StoragesAreNotRecognised) {
            return Ok(());
        }
        let found = read(root)?.ok_or_else(|| {
            away(
                root,
                format!(
                    "it is not there or has no file {MARKER_FILE}. Mount its disk; if that file alone was lost, put it back (one \
                     line, '{}')",
                    line(&self.database, &[self.storage.0])
                ),
            )
        })?;
        if found.database != self.database {
            return Err(self.of_another_database(root, &found));
        }
        if !found.storages.contains(&self.storage.0) {
            let numbers = numbers(&found.storages);
            return Err(away(
                root,
                format!(
                    "what is there is storage {numbers} of this database, not {}",
                    self.storage
                ),
            ));
        }
        Ok(())
    }

    /// Whether a directory is a storage of the same database already.
    ///
    /// # Errors
    /// As [`Marker::write`].
    pub(crate) fn is_of_database(&self, root: &Path) -> Result<bool, StoreError> {
        match read(root)? {
            None => Ok(false),
            Some(found) if found.database != self.database => Err(self.of_another_database(root, &found)),
            Some(_) => Ok(true),
        }
    }

    /// Makes a directory this storage, durably; it may have been another one of the same database.
    ///
    /// # Errors
    /// [`StoreError::Away`] if it is one of another database, [`StoreError::Storage`].
    pub(crate) fn write(&self, root: &Path) -> Result<(), StoreError> {
        let mut storages = match read(root)? {
            None => Vec::new(),
            Some(found) if found.database != self.database => return Err(self.of_another_database(root, &found)),
            Some(found) if found.storages.contains(&self.storage.0) => return Ok(()),
            Some(found) => found.storages,
        };
        storages.push(self.storage.0);
        write_line(root, MARKER_FILE, &line(&self.database, &storages))
            .map_err(|error| failed(&root.join(MARKER_FILE), &error))
    }

    fn of_another_database(&self, root: &Path, found: &Found) -> StoreError {
        away(
            root,
            format!(
                "its file {MARKER_FILE} says that it is a storage of database {}, not of {}",
                found.database, self.database
            ),
        )
    }
}

/// Writes a file of one line into a storage's directory, durably.
///
/// # Errors
/// The operating system's; the file is then as it was.
pub(crate) fn write_line(root: &Path, name: &str, line: &str) -> io::Result<()> {
    let path = root.join(name);
    // Written beside and renamed, so that a crash leaves no half of one.
    let draft = root.join(format!("{name}{DRAFT}"));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{line}")?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // What is left is written over the next time.
        fs::remove_file(&draft).ok();
        return Err(error);
    }
    fs::rename(&draft, &path)?;
    sync_path(root)?;
    crate::crash::synced(|| path);
    Ok(())
}

/// Refuses a directory to become a storage that has files of somebody else's. One that was a storage may have files that are left
/// to erase.
///
/// # Errors
/// [`StoreError::Taken`] names one of them.
pub(crate) fn refuse_strange_files(root: &Path) -> Result<(), StoreError> {
    if read(root)?.is_some() {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(root) else {
        // It is yet to be made, or whoever writes to it says why it cannot be used.
        return Ok(());
    };
    for entry in entries {
        let name = entry.map_err(|error| failed(root, &error))?.file_name();
        let name = name.to_string_lossy();
        // What a file system makes by itself, and what a crash leaves of an attempt to make a storage here.
        let is_draft = name.starts_with(MARKER_FILE) && name.ends_with(DRAFT);
        let is_known = name == "lost+found" || is_draft || name.starts_with(PROBE_PREFIX);
        if !is_known {
            return Err(StoreError::Taken {
                directory: root.display().to_string(),
                problem: format!("it has something in it already ({name})"),
            });
        }
    }
    Ok(())
}

/// That a storage is not where it should be.
pub(crate) fn away(root: &Path, problem: String) -> StoreError {
    StoreError::Away {
        directory: root.display().to_string(),
        problem,
    }
}

/// The database of which a directory says that it is a storage, if it says so.
///
/// # Errors
/// [`StoreError::Away`] if it says something else, [`StoreError::Storage`] if it cannot be read.
pub(crate) fn database_of(root: &Path) -> Result<Option<String>, StoreError> {
    Ok(read(root)?.map(|found| found.database))
}

/// What a directory says that it is; nothing if it is not there.
fn read(root: &Path) -> Result<Option<Found>, StoreError> {
    let path = root.join(MARKER_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    parse(&text).map(Some).ok_or_else(|| {
        let read = format!("its file {MARKER_FILE} does not read '{LEAD}<UUID>: <number>'");
        away(root, read)
    })
}

fn parse(text: &str) -> Option<Found> {
    let (database, storages) = text.strip_prefix(LEAD)?.trim_end().split_once(": ")?;
    // What is no number is none of ours, and then the whole is not.
    let storages = storages.split(' ').map(|number| number.parse().ok());
    Some(Found {
        database: database.to_string(),
        storages: storages.collect::<Option<_>>()?,
    })
}

fn line(database: &str, storages: &[u32]) -> String {
    format!("{LEAD}{database}: {}", numbers(storages))
}

fn numbers(storages: &[u32]) -> String {
    let numbers: Vec<String> = storages.iter().map(u32::to_string).collect();
    numbers.join(" ")
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Storage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(database: &str, storage: u32) -> Marker {
        Marker::new(database, StorageId(storage))
    }

    #[test]
    fn a_directory_is_what_its_file_says() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path();
        marker("a", 1).write(path).expect("marked");
        // Once more changes nothing, and a later storage does not take it from the earlier one.
        for storage in [1, 2] {
            marker("a", storage).write(path).expect("marked");
        }
        let text = fs::read_to_string(path.join(MARKER_FILE)).expect("reads");
        assert_eq!(text, "kalamdb storage of database a: 1 2\n");
        assert_eq!(fs::read_dir(path).expect("a directory").count(), 1);
        let is_there = |marker: &Marker| marker.check(path);
        assert!(is_there(&marker("a", 1)).is_ok() && is_there(&marker("a", 2)).is_ok());
        for (other, words) in [
            (marker("a", 3), "storage 1 2"),
            (marker("b", 1), "database a, not of b"),
        ] {
            match is_there(&other) {
                Err(StoreError::Away { directory, problem }) => {
                    assert_eq!(directory, path.display().to_string());
                    assert!(problem.contains(words), "{problem}");
                }
                found => panic!("{other:?}: {found:?}"),
            }
        }
        let refused = marker("b", 1).write(path);
        assert!(matches!(refused, Err(StoreError::Away { .. })), "{refused:?}");
        assert_eq!(fs::read_to_string(path.join(MARKER_FILE)).expect("reads"), text);
    }

    #[test]
    fn a_directory_with_files_of_others_does_not_become_a_storage() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path();
        assert!(refuse_strange_files(&path.join("missing")).is_ok());
        fs::create_dir(path.join("lost+found")).expect("made");
        for name in [format!("{MARKER_FILE}{DRAFT}"), format!("{PROBE_PREFIX}17")] {
            fs::write(path.join(name), "").expect("written");
        }
        assert!(refuse_strange_files(path).is_ok());
        fs::write(path.join("passwd"), "").expect("written");
        let refused = refuse_strange_files(path).expect_err("it is somebody's");
        assert!(matches!(refused, StoreError::Taken { .. }), "{refused:?}");
        let refused = refused.to_string();
        assert!(
            refused.contains("passwd") && refused.contains(&path.display().to_string()),
            "{refused}"
        );
        marker("a", 1).write(path).expect("marked");
        assert!(refuse_strange_files(path).is_ok(), "it is a storage already");
    }

    #[test]
    fn what_cannot_be_told_is_away() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [root.path().join("missing"), root.path().to_path_buf(), file] {
            let found = marker("a", 1).check(&path);
            assert!(
                matches!(&found, Err(StoreError::Away { problem, .. }) if problem.contains("'kalamdb storage of database a: 1'")),
                "{found:?}"
            );
        }
        for text in [
            "",
            "kalamdb storage of database a",
            "kalamdb storage of database a: x",
            "a: 1",
        ] {
            fs::write(root.path().join(MARKER_FILE), text).expect("written");
            for found in [marker("a", 1).check(root.path()), marker("a", 1).write(root.path())] {
                assert!(matches!(found, Err(StoreError::Away { .. })), "{text}: {found:?}");
            }
        }
    }
}
