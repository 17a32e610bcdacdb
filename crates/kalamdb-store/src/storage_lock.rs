//! The lock of a storage's directory: two processes that use one, as with a data directory and a copy of it, would erase each other's
//! files. What is locked is the file by which the directory is recognised.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::process_lock::{Wait, holder, is_at, take};
use crate::storage_marker::{MARKER_FILE, away};

/// ENOLCK, of which the standard library has no kind: NFS without its service for locks.
const NO_LOCKS: i32 = if cfg!(target_os = "macos") { 77 } else { 37 };

/// Held for as long as the storage is used.
#[derive(Debug)]
pub(crate) struct StorageLock {
    root: PathBuf,
    mark: Mutex<Arc<File>>,
}

/// Those of this process: several storages, one after the other, may have had one directory.
#[derive(Debug, Default)]
pub(crate) struct StorageLocks {
    held: Mutex<HashMap<PathBuf, Weak<StorageLock>>>,
}

impl StorageLocks {
    /// Locks a directory that has a mark.
    ///
    /// # Errors
    /// [`StoreError::Away`] if another process has it, [`StoreError::Storage`] if it cannot be locked.
    pub(crate) fn take(&self, root: &Path, wait: Wait) -> Result<Arc<StorageLock>, StoreError> {
        let root = root.canonicalize().map_err(|error| failed(root, &error))?;
        let mut held = self.held.lock();
        if let Some(lock) = held.get(&root).and_then(Weak::upgrade) {
            lock.check()?;
            return Ok(lock);
        }
        // It may have been moved meanwhile.
        let path = root.join(MARKER_FILE);
        let others = held.values().filter_map(Weak::upgrade);
        let own = others
            .map(|lock| lock.mark.lock().clone())
            .find(|mark| is_at(mark, &path).unwrap_or(false));
        let mark = match own {
            Some(mark) => mark,
            None => Arc::new(lock_mark(&root, wait)?),
        };
        let lock = Arc::new(StorageLock {
            mark: Mutex::new(mark),
            root: root.clone(),
        });
        held.retain(|_, lock| lock.strong_count() > 0);
        held.insert(root, Arc::downgrade(&lock));
        Ok(lock)
    }
}

impl StorageLock {
    /// Takes the lock anew if the mark is another file by now: it was written anew, or was lost and put back.
    ///
    /// # Errors
    /// As [`StorageLocks::take`].
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut mark = self.mark.lock();
        let is_there = is_at(&mark, &self.root.join(MARKER_FILE)).map_err(|error| failed(&self.root, &error))?;
        if !is_there {
            *mark = Arc::new(lock_mark(&self.root, Wait::Moments)?);
        }
        Ok(())
    }
}

fn lock_mark(root: &Path, wait: Wait) -> Result<File, StoreError> {
    let path = root.join(MARKER_FILE);
    // NFS gives locks of files that are open for writing.
    let taken = match take(&path, OpenOptions::new().read(true).write(true), wait) {
        Err(error) if error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(NO_LOCKS) => {
            tracing::warn!(
                directory = %root.display(),
                "the file system has no locks: make sure that no other kalamdb uses this storage"
            );
            File::open(&path).map(Some)
        }
        taken => taken,
    };
    match taken {
        Ok(Some(mark)) => Ok(mark),
        Ok(None) if mistake!(StoragesAreSharedByProcesses) => File::open(&path).map_err(|error| failed(root, &error)),
        Ok(None) => Err(away(root, in_use_by(holder(&path)))),
        Err(error) => Err(failed(root, &error)),
    }
}

fn in_use_by(process: Option<u32>) -> String {
    let who = process.map_or_else(|| "another process".to_string(), |process| format!("process {process}"));
    format!(
        "it is in use by {who}, which holds the lock of its file {MARKER_FILE}; stop that one, or, if it is a kalamdb with a copy \
         of this data directory, give one of the two a copy of this directory"
    )
}

fn failed(root: &Path, error: &io::Error) -> StoreError {
    StoreError::Storage(format!(
        "the storage directory {} cannot be locked: {error}",
        root.display()
    ))
}
