//! Files of RocksDB that are known to be damaged, by their names. A compaction that meets damage stops every write to the database until
//! it is opened again (RocksDB's *background error*, which here cannot be taken back), so as long as such a file is there nothing is
//! compacted: writes go on, and reads of what is not damaged.
//!
//! The names are in a file of their own, because RocksDB may take no record any more when damage is met.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, LiveFile, ReadOptions};

use crate::engine::storage;
use crate::error::StoreError;

const NAMES: &str = "damaged-files";
const DRAFT: &str = "damaged-files.new";
const EXTENSION: &str = ".sst";
const OPTION: &str = "disable_auto_compactions";

/// What is known, in memory and beside RocksDB's directory.
pub(crate) struct DamagedFiles {
    directory: PathBuf,
    names: Mutex<BTreeSet<String>>,
}

impl DamagedFiles {
    /// What was known when the database was open before.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(NAMES);
        let names = match fs::read_to_string(&path) {
            Ok(names) => names.lines().map(str::to_string).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(StoreError::Storage(format!("{}: {error}", path.display()))),
        };
        Ok(Self {
            directory: directory.to_path_buf(),
            names: Mutex::new(names),
        })
    }

    pub(crate) fn any(&self) -> bool {
        !self.names.lock().is_empty()
    }

    /// The column families that have one of them.
    pub(crate) fn families(&self, db: &DB) -> Result<BTreeSet<String>, StoreError> {
        let names = self.names.lock();
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let live = db.live_files().map_err(|error| storage(&error))?;
        let damaged = live
            .into_iter()
            .filter(|file| names.iter().any(|name| file.name.ends_with(name.as_str())));
        Ok(damaged.map(|file| file.column_family_name).collect())
    }

    /// Looks at the files once more, of a database that was opened just now and compacts nothing: one that is gone, or can be read from
    /// end to end, is damaged no more. Without any, compactions begin.
    pub(crate) fn look_again(&self, db: &DB, families: &[(&str, &ColumnFamily)]) -> Result<(), StoreError> {
        let mut names = self.names.lock();
        if names.is_empty() {
            return Ok(());
        }
        let live = db.live_files().map_err(|error| storage(&error))?;
        names.retain(|name| {
            let file = live.iter().find(|file| file.name.ends_with(name.as_str()));
            let read = file.map(|file| read(db, families, file));
            match read {
                Some(Err(problem)) => {
                    tracing::error!(
                        file = name,
                        problem,
                        "a file of RocksDB is damaged; RocksDB compacts nothing until it is as it was written: put it back \
                         from a copy and restart, or restore the data directory; STORAGE CHECK ALL says which tables it is \
                         about, and when these are truncated or dropped, the next start leaves it behind"
                    );
                    true
                }
                Some(Ok(())) | None => {
                    tracing::info!(file = name, "a file of RocksDB that was damaged can be read again, or is gone");
                    false
                }
            }
        });
        self.write(&names)
            .map_err(|error| StoreError::Storage(format!("{}: {error}", self.directory.join(NAMES).display())))?;
        match names.is_empty() {
            true => set_compactions(db, families, true).map_err(|error| storage(&error)),
            false => Ok(()),
        }
    }

    /// Notes the file that an error of RocksDB names, if it names one: from here on, restarts included, nothing is compacted.
    pub(crate) fn note(&self, db: &DB, families: &[(&str, &ColumnFamily)], problem: &str) {
        let Some(name) = named_in(problem) else { return };
        let mut names = self.names.lock();
        if mistake!(DamagedFilesAreCompacted) || !names.insert(name.clone()) {
            return;
        }
        tracing::error!(
            file = name,
            problem,
            "a file of RocksDB is damaged; RocksDB compacts nothing from here on"
        );
        // After an error of a compaction it is too late for this, until the next start.
        if let Err(error) = set_compactions(db, families, false) {
            tracing::warn!(%error, "compactions cannot be switched off");
        }
        if let Err(error) = self.write(&names) {
            tracing::error!(%error, "that a file is damaged could not be written down; a restart forgets it");
        }
    }

    fn write(&self, names: &BTreeSet<String>) -> io::Result<()> {
        let path = self.directory.join(NAMES);
        if names.is_empty() {
            fs::remove_file(path)?;
        } else {
            let draft = self.directory.join(DRAFT);
            let mut file = File::create(&draft)?;
            for name in names {
                writeln!(file, "{name}")?;
            }
            file.sync_all()?;
            fs::rename(draft, path)?;
        }
        crate::crash::point("damage-noted");
        File::open(&self.directory)?.sync_all()
    }
}

/// The name of the file that RocksDB says it could not read.
pub(crate) fn named_in(problem: &str) -> Option<String> {
    // The last: a directory may have such a name.
    let before = &problem[..problem.rfind(EXTENSION)?];
    let number = before.trim_end_matches(|digit: char| digit.is_ascii_digit()).len();
    let number = &before[number..];
    (!number.is_empty()).then(|| format!("{number}{EXTENSION}"))
}

fn set_compactions(db: &DB, families: &[(&str, &ColumnFamily)], on: bool) -> Result<(), rocksdb::Error> {
    let value = if on { "false" } else { "true" };
    families
        .iter()
        .try_for_each(|(_, family)| db.set_options_cf(*family, &[(OPTION, value)]))
}

/// Reads all keys between the file's first and last, those in ranges that were deleted as well, as a compaction would.
#[expect(
    deprecated,
    reason = "nothing else reads what a deleted range hides, and a compaction does; it is deprecated as a help to performance"
)]
fn read(db: &DB, families: &[(&str, &ColumnFamily)], file: &LiveFile) -> Result<(), String> {
    let family = families.iter().find(|(name, _)| *name == file.column_family_name);
    let Some((_, family)) = family else { return Ok(()) };
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_ignore_range_deletions(true);
    if let Some(first) = &file.start_key {
        options.set_iterate_lower_bound(first.as_slice());
    }
    if let Some(last) = &file.end_key {
        options.set_iterate_upper_bound([last.as_slice(), &[0]].concat());
    }
    let mut rows = db.raw_iterator_cf_opt(*family, options);
    rows.seek_to_first();
    while rows.valid() {
        rows.next();
    }
    rows.status().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_a_message_names() {
        let cases = [
            (
                "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /data.sst/rocksdb/000012.sst offset 0 size 9",
                Some("000012.sst"),
            ),
            (
                "Corruption: mismatch in /data/rocksdb/000012.sst offset 0",
                Some("000012.sst"),
            ),
            ("Corruption: bad magic number in 7.sst", Some("7.sst")),
            ("Corruption: mismatch in the log 000012.log", None),
            ("", None),
        ];
        for (problem, expected) in cases {
            assert_eq!(named_in(problem).as_deref(), expected, "{problem}");
        }
    }
}
