//! Leaves a damaged file of RocksDB behind, if no row that is live needs it: as after TRUNCATE or DROP of the tables that it is about.
//! RocksDB itself gets rid of a file by merging it, and so by reading all of it. So at start-up, before anything else reads, the live rows of
//! its column family are written into a file beside RocksDB, and the family is made anew from that.
//!
//! A file that names the families, with the checksums of their tables, says that these are complete. They are read once more before anything
//! is dropped: a disk that spoilt one file may spoil another. From there on it is done to the end, by later starts if need be, and doing a
//! part of it again changes nothing. Until then it is given up when anything is amiss, for want of room too: nobody needs it.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, IngestExternalFileOptions, Options, ReadOptions, SstFileWriter};

use crate::engine::storage;
use crate::error::StoreError;

/// Names the families, a line each, with the checksums of their tables.
const DECIDED: &str = "rebuilt-rows";
const DRAFT: &str = "rebuilt-rows.new";
/// The same, once the tables were read.
const CHECKED: &str = "rebuilt-rows.checked";

/// A column family whose rows are written.
pub(crate) struct Written {
    name: String,
    /// `None` if it has no rows, and so no table.
    checksum: Option<u64>,
}

impl Written {
    fn line(&self) -> String {
        match self.checksum {
            Some(checksum) => format!("{} {checksum:016x}", self.name),
            None => format!("{} -", self.name),
        }
    }
}

/// Writes the rows of these ranges of keys, which are in order. `None` if they cannot all be read or written: nothing has changed then.
///
/// # Errors
/// [`StoreError::Storage`] when what was written cannot be removed.
pub(crate) fn write_rows(
    directory: &Path,
    db: &DB,
    (name, family): (&str, &ColumnFamily),
    options: &Options,
    ranges: &[Range<Vec<u8>>],
) -> Result<Option<Written>, StoreError> {
    let path = file_of(directory, name);
    remove(&path)?;
    match copy(&path, db, family, options, ranges) {
        Ok(checksum) => Ok(Some(Written {
            name: name.to_owned(),
            checksum,
        })),
        Err(problem) => {
            tracing::warn!(
                problem,
                family = name,
                "a damaged file of RocksDB stays: rows that are needed cannot be written anew"
            );
            remove(&path)?;
            Ok(None)
        }
    }
}

/// The checksum of the file, if there are rows.
fn copy(
    path: &Path,
    db: &DB,
    family: &ColumnFamily,
    options: &Options,
    ranges: &[Range<Vec<u8>>],
) -> Result<Option<u64>, String> {
    let mut writer = None;
    let words = |error: rocksdb::Error| error.to_string();
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
                    new.open(path).map_err(words)?;
                    none.insert(new)
                }
            };
            writer.put(key, value).map_err(words)?;
            rows.next();
        }
        rows.status().map_err(words)?;
    }
    let Some(mut writer) = writer else { return Ok(None) };
    crate::crash::point("rebuild-writing");
    writer.finish().map_err(words)?;
    crate::crash::point("rebuild-written");
    let synced = File::open(path).and_then(|file| file.sync_all());
    let checksum = synced.and_then(|()| checksum_of(path));
    checksum.map(Some).map_err(|error| error.to_string())
}

/// Says that the rows of these families are written. `false` if that cannot be written.
///
/// # Errors
/// [`StoreError::Storage`] if it is not known whether it is.
pub(crate) fn decide(directory: &Path, written: &[Written]) -> Result<bool, StoreError> {
    let (path, draft) = (directory.join(DECIDED), directory.join(DRAFT));
    let lines: Vec<String> = written.iter().map(Written::line).collect();
    let drafted = fs::write(&draft, lines.join("\n")).and_then(|()| File::open(&draft)?.sync_all());
    if let Err(error) = drafted {
        tracing::warn!(%error, "a damaged file of RocksDB stays: rows that are needed cannot be written anew");
        remove(&draft)?;
        let mut tables = written.iter().map(|written| file_of(directory, &written.name));
        return tables.try_for_each(|table| remove(&table)).map(|()| false);
    }
    crate::crash::point("rebuild-drafted");
    rename(directory, &draft, &path)?;
    step("decided")?;
    crate::crash::point("rebuild-decided");
    Ok(true)
}

/// Makes those of these families anew for which that was decided, if any were; whether they were.
///
/// # Errors
/// [`StoreError::Storage`].
pub(crate) fn finish(directory: &Path, db: &mut DB, families: &[&str], options: &Options) -> Result<bool, StoreError> {
    let (decided, checked) = (directory.join(DECIDED), directory.join(CHECKED));
    if let Some(lines) = read(&decided)? {
        if are_whole(directory, &lines) || mistake!(RebuiltRowsAreNotRead) {
            rename(directory, &decided, &checked)?;
            step("checked")?;
            crate::crash::point("rebuild-checked");
        } else {
            tracing::warn!("a damaged file of RocksDB stays: what was written in its place is damaged, too");
            remove(&decided)?;
            sync(directory)?;
        }
    }
    // Without it, what is written is of a start that ended before, or after.
    let lines = read(&checked)?.unwrap_or_default();
    for name in lines.lines().filter_map(|line| line.split(' ').next()) {
        let rows = file_of(directory, name);
        if db.cf_handle(name).is_some() {
            db.drop_cf(name).map_err(|error| storage(&error))?;
        }
        step("dropped")?;
        crate::crash::point("rebuild-dropped");
        db.create_cf(name, options).map_err(|error| storage(&error))?;
        step("created")?;
        crate::crash::point("rebuild-created");
        if let (true, Some(family)) = (rows.exists(), db.cf_handle(name)) {
            // Copied, so that it is there if this is done again.
            let mut ingest = IngestExternalFileOptions::default();
            ingest.set_move_files(false);
            db.ingest_external_file_cf_opts(family, &ingest, vec![&rows])
                .map_err(|error| storage(&error))?;
        }
        step("filled")?;
        crate::crash::point("rebuild-filled");
    }
    if !lines.is_empty() {
        remove(&checked)?;
        sync(directory)?;
        step("done")?;
        crate::crash::point("rebuild-done");
    }
    families.iter().try_for_each(|name| remove(&file_of(directory, name)))?;
    if !lines.is_empty() {
        crate::crash::point("rebuild-tables-gone");
    }
    Ok(!lines.is_empty())
}

/// Whether the tables are as they were written.
fn are_whole(directory: &Path, lines: &str) -> bool {
    lines.lines().all(|line| {
        line.split_once(' ').is_some_and(|(name, checksum)| {
            let path = file_of(directory, name);
            match checksum {
                "-" => !path.exists(),
                checksum => checksum_of(&path).is_ok_and(|found| checksum == format!("{found:016x}")),
            }
        })
    })
}

fn checksum_of(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut hasher = twox_hash::xxhash3_64::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            bytes => hasher.write(&piece[..bytes]),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn rename(directory: &Path, from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| failed(to, &error))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(directory, &error))
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
