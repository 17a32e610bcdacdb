//! Which start of a database used a storage last. A data directory that was copied and its copy know the same files of a storage, and each
//! would erase what the other still needs; the lock keeps them apart only while both run. So each start leaves a word of its own in the
//! storage and in the database, and whoever finds another word in the storage than its own last one leaves the storage alone.
//!
//! On a full disk that takes no room if the storage has such a file, and otherwise is done as soon as there is room: as long as it is not,
//! nothing is written there, and only what erasing gives back is a reason to go in at all.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::engine::{Engine, storage};
use crate::error::StoreError;
use crate::ids::StorageId;
use crate::meta;
use crate::run_writer::random_name;
use crate::storage_marker::{MARKER_FILE, away, write_line};

/// Storages that are used and have not been told so, for want of room, and their directories.
#[derive(Default)]
pub(crate) struct Untold {
    storages: Mutex<HashMap<StorageId, PathBuf>>,
    /// Held while one of them is told. A disk that hangs then holds up what is for it, and nothing else.
    turns: Mutex<HashMap<StorageId, Arc<Mutex<()>>>>,
}

impl Untold {
    fn turn(&self, id: StorageId) -> Arc<Mutex<()>> {
        Arc::clone(self.turns.lock().entry(id).or_default())
    }

    fn directory(&self, id: StorageId) -> Option<PathBuf> {
        self.storages.lock().get(&id).cloned()
    }
}

/// The word's file, in the storage's own directory.
pub(crate) fn file_name(id: StorageId) -> String {
    format!("{MARKER_FILE}-{id}.used")
}

/// Checks that nobody else has used the storage since this database did, and says that it is used from here on; if there is no room
/// to say it, [`tell`] does later. Its directory is locked.
///
/// # Errors
/// [`StoreError::Away`] if somebody has, [`StoreError::Storage`].
pub(crate) fn begin(engine: &Engine, id: StorageId, root: &Path) -> Result<(), StoreError> {
    let untold = engine.untold();
    let turn = untold.turn(id);
    let _turn = turn.lock();
    let known = check(engine, id, root)?;
    match note(engine, id, root, known)? {
        Ok(()) => {
            untold.storages.lock().remove(&id);
            Ok(())
        }
        Err(error) if is_full(&error) && !mistake!(ErasingNeedsRoom) => {
            tracing::warn!(
                directory = %root.display(),
                %error,
                "a storage is full; nothing is written there until it has room"
            );
            untold.storages.lock().insert(id, root.to_path_buf());
            Ok(())
        }
        Err(error) => Err(failed(id, root, &error)),
    }
}

/// Says what [`begin`] could not say. To be called before anything is written, and when something was erased.
///
/// # Errors
/// As [`begin`], also if there is still no room.
pub(crate) fn tell(engine: &Engine, id: StorageId) -> Result<(), StoreError> {
    let untold = engine.untold();
    if untold.directory(id).is_none() {
        return Ok(());
    }
    let turn = untold.turn(id);
    let _turn = turn.lock();
    // Somebody else may have told it meanwhile.
    let Some(root) = untold.directory(id) else {
        return Ok(());
    };
    let known = check(engine, id, &root)?;
    note(engine, id, &root, known)?.map_err(|error| failed(id, &root, &error))?;
    untold.storages.lock().remove(&id);
    Ok(())
}

/// Whether nothing but room is missing.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The word that is in the storage, which is one that the database knows.
///
/// # Errors
/// As [`begin`].
pub(crate) fn check(engine: &Engine, id: StorageId, root: &Path) -> Result<Option<String>, StoreError> {
    let name = file_name(id);
    let found = match fs::read_to_string(root.join(&name)) {
        Ok(text) => Some(text.trim_end().to_string()),
        // As before there were such files, or as somebody who knows better wants it.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(id, root, &error)),
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
                 the other one; or, if that is never to be started again, remove the file {name} there"
            ),
        ));
    }
    Ok(found)
}

/// Has the database and the storage know a new word; what the storage says to that.
fn note(engine: &Engine, id: StorageId, root: &Path, known: Option<String>) -> Result<io::Result<()>, StoreError> {
    let next = random_name();
    // Both, since the process may end before the file has the new one.
    let both = match &known {
        Some(known) => format!("{known} {next}"),
        None => next.clone(),
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(engine.meta(), meta::storage_used(id), both);
    engine.write_synced(batch)?;
    crate::crash::point("open-storage-noted");
    let name = file_name(id);
    Ok(match write_line(root, &name, &next) {
        Err(error) if is_full(&error) && known.is_some_and(|known| known.len() == next.len()) => {
            overwrite(&root.join(&name), &next).map_err(|_| error)
        }
        written => written,
    })
}

/// As long as the line before, in its place: most file systems need no room for that. It is in one block, so that it is there whole or
/// not at all.
fn overwrite(path: &Path, line: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(line.as_bytes(), 0)?;
    file.sync_all()
}

fn failed(id: StorageId, root: &Path, error: &io::Error) -> StoreError {
    StoreError::Storage(format!("{}: {error}", root.join(file_name(id)).display()))
}
