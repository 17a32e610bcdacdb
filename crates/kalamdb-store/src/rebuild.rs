//! Leaves a damaged file of RocksDB behind, if no row that is live needs it: as after TRUNCATE or DROP of the tables that it is about.
//! RocksDB itself gets rid of a file by merging it, and so by reading all of it. So at start-up, before anything else reads, the live rows of
//! its column family are written into a file beside RocksDB, and the family is made anew from that.
//!
//! A file that names the families says that their files are complete. From there on it is done to the end, by later starts if need be, and
//! doing a part of it again changes nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, IngestExternalFileOptions, Options, ReadOptions, SstFileWriter};

use crate::engine::storage;
use crate::error::StoreError;

/// Names the families, a line each.
const NAMES: &str = "rebuilt-rows";
const DRAFT: &str = "rebuilt-rows.new";

/// Writes the rows of these ranges of keys, which are in order. `false` if they cannot all be read: nothing has changed then.
///
/// # Errors
/// [`StoreError::Storage`] when they cannot be written.
pub(crate) fn write_rows(
    directory: &Path,
    db: &DB,
    (name, family): (&str, &ColumnFamily),
    options: &Options,
    ranges: &[Range<Vec<u8>>],
) -> Result<bool, StoreError> {
    let path = file_of(directory, name);
    remove(&path)?;
    let mut writer = None;
    for range in ranges {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_iterate_lower_bound(range.start.as_slice());
        read.set_iterate_upper_bound(range.end.as_slice());
        let mut rows = db.raw_iterator_cf_opt(family, read);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let writer = match &mut writer {
                Some(writer) => writer,
                none @ None => {
                    let new = SstFileWriter::create(options);
                    new.open(&path).map_err(|error| storage(&error))?;
                    none.insert(new)
                }
            };
            writer.put(key, value).map_err(|error| storage(&error))?;
            rows.next();
        }
        if let Err(error) = rows.status() {
            tracing::warn!(%error, family = name, "rows that are needed are in a damaged file of RocksDB");
            drop(writer);
            remove(&path)?;
            return Ok(false);
        }
    }
    if let Some(mut writer) = writer {
        writer.finish().map_err(|error| storage(&error))?;
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| failed(&path, &error))?;
    }
    Ok(true)
}

/// Says that the rows of these families are written, and from here on are the families.
///
/// # Errors
/// [`StoreError::Storage`].
pub(crate) fn decide(directory: &Path, names: &[&str]) -> Result<(), StoreError> {
    let (path, draft) = (directory.join(NAMES), directory.join(DRAFT));
    let write = || -> io::Result<()> {
        fs::write(&draft, names.join("\n"))?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| failed(&path, &error))?;
    step("decided")
}

/// Makes those of these families anew for which that was decided, if any were.
///
/// # Errors
/// [`StoreError::Storage`]; [`StoreError::Corrupt`] if the files that were written are damaged now.
pub(crate) fn finish(directory: &Path, db: &mut DB, families: &[&str], options: &Options) -> Result<(), StoreError> {
    let path = directory.join(NAMES);
    let names = match fs::read_to_string(&path) {
        Ok(names) => names,
        // What is written is of a start that ended before, or after.
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(&path, &error)),
    };
    for name in names.lines() {
        let rows = file_of(directory, name);
        if db.cf_handle(name).is_some() {
            db.drop_cf(name).map_err(|error| storage(&error))?;
        }
        step("dropped")?;
        db.create_cf(name, options).map_err(|error| storage(&error))?;
        step("created")?;
        if let (true, Some(family)) = (rows.exists(), db.cf_handle(name)) {
            // Copied, so that it is there if this is done again.
            let mut ingest = IngestExternalFileOptions::default();
            ingest.set_move_files(false);
            db.ingest_external_file_cf_opts(family, &ingest, vec![&rows])
                .map_err(|error| storage(&error))?;
        }
        step("filled")?;
    }
    if !names.is_empty() {
        remove(&path)?;
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed(directory, &error))?;
        step("done")?;
    }
    families.iter().try_for_each(|name| remove(&file_of(directory, name)))
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("rebuilt-{name}.sst"))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Storage(format!("{}: {error}", path.display()))
}

/// Where a test ends it.
fn step(name: &str) -> Result<(), StoreError> {
    #[cfg(test)]
    if ENDS_AT.with(std::cell::Cell::get) == Some(name) {
        return Err(StoreError::Storage(format!("a test ends it when it is {name}")));
    }
    #[cfg(not(test))]
    let _ = name;
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// At which step the next opening by this thread fails.
    pub(crate) static ENDS_AT: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}
