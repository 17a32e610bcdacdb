//! Storages: the directories that hold segments. `local` comes with the database; CREATE STORAGE makes others, each with a
//! number that segments name it by and that is never given again.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kalamdb_store::{DbState, Overlap, SegmentCompression, SegmentOptions, StorageId, StoragePlace, Store};

use crate::access::Principal;
use crate::catalog::{Catalog, StorageEntry, Table, TableName};
use crate::define::check_name;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::options::DEFAULT_STORAGE;
use crate::rights::Task;

/// The one type of storage so far.
pub(crate) const FILESYSTEM: &str = "filesystem";

/// The store's record of the numbers of storages, JSON.
const NUMBERS: &str = "storages";

/// Bytes of a directory's name at most, as Linux has it.
const MOST_PATH_BYTES: usize = 4096;

/// A storage to create.
#[derive(Clone, Debug)]
pub struct NewStorage {
    /// Its name.
    pub name: String,
    /// The absolute path of its directory on the server's machine; made if missing.
    pub location: String,
    /// A storage of that name is left as it is.
    pub if_not_exists: bool,
}

/// The numbers of storages by name. `local` has the first and is not in it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct StorageNumbers {
    /// The highest number ever given.
    last: u32,
    numbers: BTreeMap<String, u32>,
}

impl StorageNumbers {
    pub(crate) fn read(store: &Store<Catalog>) -> Result<Self> {
        let Some(record) = store.meta_get(NUMBERS)? else {
            return Ok(StorageNumbers::default());
        };
        serde_json::from_slice(&record).map_err(|problem| {
            Error::new(
                ErrorCode::DataCorrupted,
                format!("the record of storages does not decode: {problem}"),
            )
        })
    }

    pub(crate) fn of(&self, name: &str) -> Option<StorageId> {
        if name == DEFAULT_STORAGE {
            return Some(StorageId::DEFAULT);
        }
        self.numbers.get(name).copied().map(StorageId)
    }

    fn give(&mut self, name: &str) -> StorageId {
        self.last += 1;
        self.numbers.insert(name.to_owned(), self.last);
        StorageId(self.last)
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers always serialise")
    }
}

/// Makes a storage known to the store. One that is away is no reason not to start.
pub(crate) fn open(store: &Store<Catalog>, storage: &StorageEntry) {
    let opened = match storage.id {
        // The store opens this one by itself.
        StorageId::DEFAULT => store.check_storage(storage.id),
        id => store.add_storage(id, Path::new(&storage.uri)),
    };
    if let Err(error) = opened {
        tracing::warn!(
            storage = storage.storage_id,
            directory = storage.uri,
            %error,
            "a storage cannot be opened; its tables are refused until it can, which is tried again"
        );
    }
}

/// Refuses a table whose storage has been away since it was to be opened.
///
/// # Errors
/// STORAGE_ERROR names both.
pub(crate) fn check(state: &DbState<Catalog>, table: &TableName, storage: &str) -> Result<()> {
    let entry = state.catalog().storages.get(storage);
    match entry.and_then(|entry| state.why_away(entry.id)) {
        None => Ok(()),
        Some(problem) => Err(Error::new(
            ErrorCode::StorageError,
            format!(
                "table {table} is in storage {storage}, which cannot be used ({problem}); it is tried again every second"
            ),
        )),
    }
}

/// How segments of a table are written.
///
/// # Errors
/// STORAGE_ERROR if its storage is away since it was to be opened.
pub(crate) fn segment_options(state: &DbState<Catalog>, table: &Table) -> Result<SegmentOptions> {
    check(state, &table.name, &table.options.storage)?;
    state.catalog().segment_options(table)
}

impl Catalog {
    fn segment_options(&self, table: &Table) -> Result<SegmentOptions> {
        let internal = |what: String| Error::new(ErrorCode::Internal, format!("table {}: {what}", table.name));
        let storage = self
            .storages
            .get(&table.options.storage)
            .ok_or_else(|| internal(format!("there is no storage {}", table.options.storage)))?;
        let compression = match table.options.compression.as_str() {
            "lz4" => SegmentCompression::Lz4,
            "zstd" => SegmentCompression::Zstd,
            "snappy" => SegmentCompression::Snappy,
            "none" => SegmentCompression::None,
            other => return Err(internal(format!("there is no codec {other}"))),
        };
        Ok(SegmentOptions {
            storage: storage.id,
            compression,
        })
    }
}

impl Engine {
    /// Tries storages again that are away, and files that could not be erased, and does not wait for it. To be called every second or so.
    pub fn find_storages(&self) {
        self.storage_finder().wake();
    }

    /// CREATE STORAGE; false if it existed and that is no error. Works on the server's directories.
    ///
    /// # Errors
    /// ALREADY_EXISTS, also for a directory that another storage has; PERMISSION_DENIED; INVALID_ARGUMENT for a path that is
    /// not absolute, or that is in the data directory or another storage's, or around one, or that has files or is another database's;
    /// UNSUPPORTED for a URL; STORAGE_ERROR names a directory that cannot be used.
    pub async fn create_storage(&self, principal: &Principal, new: NewStorage) -> Result<bool> {
        // It opens a path of the server's machine.
        principal.require(Task::CreateStorage)?;
        check_name("storage", &new.name)?;
        let directory = directory_of(&new.location)?;
        self.change(move |change| {
            if change.catalog.storages.contains_key(&new.name) {
                return if new.if_not_exists {
                    Ok(false)
                } else {
                    Err(Error::new(
                        ErrorCode::AlreadyExists,
                        format!("storage {} exists already", new.name),
                    ))
                };
            }
            let place = StoragePlace::of(&directory)?;
            let data_dir = format!("the data directory, where storage {DEFAULT_STORAGE} is");
            refuse_overlap(&directory, &place, &StoragePlace::of(self.data_dir())?, &data_dir)?;
            for other in change
                .catalog
                .storages
                .values()
                .filter(|other| other.id != StorageId::DEFAULT)
            {
                // One that cannot be reached now is known by its name alone.
                let there = StoragePlace::of(Path::new(&other.uri))
                    .unwrap_or_else(|_| StoragePlace::unseen(Path::new(&other.uri)));
                let whose = format!("the directory {} of storage {}", other.uri, other.storage_id);
                refuse_overlap(&directory, &place, &there, &whose)?;
            }
            let mut numbers = StorageNumbers::read(self.store())?;
            let id = numbers.give(&new.name);
            self.store().create_storage(id, &directory)?;
            let storage = StorageEntry {
                storage_id: new.name.clone(),
                id,
                storage_type: FILESYSTEM.to_owned(),
                uri: directory.display().to_string(),
                created_at_micros: change.now_micros,
                updated_at_micros: change.now_micros,
            };
            change.put_meta(NUMBERS, numbers.to_bytes());
            change.catalog.storages.insert(new.name.clone(), Arc::new(storage));
            change.refresh_storage(&new.name)?;
            Ok(true)
        })
        .await
    }

    /// DROP STORAGE; false if it did not exist and `if_exists`. The directory stays.
    ///
    /// # Errors
    /// NOT_FOUND, DEPENDENT_OBJECTS while a table is in it, PERMISSION_DENIED, INVALID_ARGUMENT for `local`.
    pub async fn drop_storage(&self, principal: &Principal, name: &str, if_exists: bool) -> Result<bool> {
        principal.require(Task::DropStorage)?;
        if name == DEFAULT_STORAGE {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("storage {DEFAULT_STORAGE} is part of the database and cannot be dropped"),
            ));
        }
        self.change(|change| {
            if !change.catalog.storages.contains_key(name) {
                return if if_exists {
                    Ok(false)
                } else {
                    Err(Error::new(
                        ErrorCode::NotFound,
                        format!("storage {name} does not exist; SHOW STORAGES lists them"),
                    ))
                };
            }
            let mut users = change
                .catalog
                .tables
                .values()
                .filter(|table| table.kind.flushes() && table.options.storage == name);
            if let Some(first) = users.next().filter(|_| !mistake!(StoragesGoFromUnderTheirTables)) {
                let others = users.count();
                let more = if others == 0 {
                    String::new()
                } else {
                    format!(" and of {others} more")
                };
                return Err(Error::new(
                    ErrorCode::DependentObjects,
                    format!(
                        "storage {name} is that of table {}{more}; drop what is in it first",
                        first.name
                    ),
                ));
            }
            let mut numbers = StorageNumbers::read(self.store())?;
            numbers.numbers.remove(name);
            change.put_meta(NUMBERS, numbers.to_bytes());
            change.catalog.storages.remove(name);
            change.refresh_storage(name)?;
            Ok(true)
        })
        .await
    }
}

/// Checks what a person wrote as a directory.
fn directory_of(location: &str) -> Result<PathBuf> {
    let invalid = |problem: &str| {
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("the location of a storage {problem}; write an absolute path such as '/mnt/fast/kalamdb'"),
        ))
    };
    if let Some((scheme, _)) = location.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return invalid("is a URL");
        }
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!(
                "a storage at a URL ({scheme}://…) is not supported yet; a storage is a directory of the server's machine, \
                 written as an absolute path"
            ),
        ));
    }
    if location.is_empty() {
        return invalid("is empty");
    }
    if location.len() > MOST_PATH_BYTES {
        return invalid("is longer than a path can be");
    }
    if location.chars().any(char::is_control) {
        return invalid("contains a control character");
    }
    let path = Path::new(location);
    if !path.is_absolute() {
        return invalid("is not an absolute path");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return invalid("goes up by '..'");
    }
    // Without '.' and without doubled or trailing slashes.
    Ok(path.components().collect())
}

/// Two storages have nothing in common: whoever erases, copies or mounts one would do so to the other.
fn refuse_overlap(directory: &Path, place: &StoragePlace, other: &StoragePlace, whose: &str) -> Result<()> {
    let (code, relation) = match place.overlap(other) {
        Some(Overlap::Same) => (ErrorCode::AlreadyExists, "is"),
        Some(_) if mistake!(StoragesOverlap) => return Ok(()),
        Some(Overlap::Inside) => (ErrorCode::InvalidArgument, "is in"),
        Some(Overlap::Around) => (ErrorCode::InvalidArgument, "contains"),
        None => return Ok(()),
    };
    Err(Error::new(
        code,
        format!(
            "the directory {} {relation} {whose}; a storage has a directory of its own, in no other and around none",
            directory.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_an_absolute_path() {
        let check = |location: &str, expected: &str| {
            assert_eq!(
                directory_of(location).expect(location),
                Path::new(expected),
                "{location}"
            );
        };
        check("/mnt/fast", "/mnt/fast");
        check("/mnt//fast/./a b/", "/mnt/fast/a b");
        let refuse = |location: &str, code: ErrorCode, part: &str| {
            let error = directory_of(location).expect_err(location);
            assert_eq!(error.code, code, "{location}: {error}");
            assert!(error.message.contains(part), "{location}: {error}");
        };
        refuse("", ErrorCode::InvalidArgument, "empty");
        refuse("fast", ErrorCode::InvalidArgument, "absolute");
        refuse("./fast", ErrorCode::InvalidArgument, "absolute");
        refuse("/mnt/../etc", ErrorCode::InvalidArgument, "'..'");
        refuse("/mnt/a\nb", ErrorCode::InvalidArgument, "control");
        refuse("file:///mnt/fast", ErrorCode::InvalidArgument, "/mnt/fast");
        refuse("s3://bucket/prefix", ErrorCode::Unsupported, "not supported yet");
        refuse(&"/x".repeat(MOST_PATH_BYTES), ErrorCode::InvalidArgument, "longer");
    }
}
