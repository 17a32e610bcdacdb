//! Which start of a database used a storage last. A data directory that was copied and its copy know the same files of a storage, and each
//! would erase what the other still needs; the lock keeps them apart only while both run. So each start leaves a word of its own in the
//! storage and in the database, and whoever finds another word in the storage than its own last one leaves the storage alone.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rocksdb::WriteBatch;

use crate::engine::{Engine, storage};
use crate::error::StoreError;
use crate::ids::StorageId;
use crate::meta;
use crate::run_writer::random_name;
use crate::storage_marker::{MARKER_FILE, away, write_line};

/// The word's file, in the storage's own directory.
pub(crate) fn file_name(id: StorageId) -> String {
    format!("{MARKER_FILE}-{id}.used")
}

/// Checks that nobody else has used the storage since this database did, and says that it is used from here on. Its directory is locked.
///
/// # Errors
/// [`StoreError::Away`] if somebody has, [`StoreError::Storage`].
pub(crate) fn begin(engine: &Engine, id: StorageId, root: &Path) -> Result<(), StoreError> {
    let name = file_name(id);
    let path = root.join(&name);
    let found = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim_end().to_string()),
        // As before there were such files, or as somebody who knows better wants it.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(StoreError::Storage(format!("{}: {error}", path.display()))),
    };
    let record = engine.db().get_pinned_cf(engine.meta(), meta::storage_used(id));
    let record = record.map_err(|error| storage(&error))?;
    let known = record.map(|record| String::from_utf8_lossy(&record).into_owned());
    let known = known.unwrap_or_default();
    if let Some(found) = &found
        && !known.split(' ').any(|word| word == found)
        && !mistake!(CopiesShareTheirStorages)
    {
        return Err(away(
            root,
            format!(
                "it was last used by another copy of this database's data directory, or one of the two was restored from a copy: \
                 files that this database needs may be gone there, and files that the other one needs would be erased. Start \
                 the other one; or, if that is never to be started again, remove the file {name} there and start this one again"
            ),
        ));
    }
    let next = random_name();
    // Both, since the process may end before the file has the new one.
    let both = match found {
        Some(found) => format!("{found} {next}"),
        None => next.clone(),
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(engine.meta(), meta::storage_used(id), both);
    engine.write_synced(batch)?;
    crate::crash::point("open-storage-noted");
    write_line(root, &name, &next)
}
