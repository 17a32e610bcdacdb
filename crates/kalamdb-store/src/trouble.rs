//! Writes of RocksDB that fail: who hears of it, and whether the disk would take them again. Why it matters: RocksDB refuses every write
//! after most errors of its files, until it is opened anew. That is done above this crate.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::properties::BACKGROUND_ERRORS;

use crate::engine::Engine;
use crate::error::StoreError;
use crate::files;

/// What is written to find out whether the disk has room: no less than a small commit takes.
const PROBE_BYTES: usize = 64 << 10;

/// What failed since a write succeeded that was made to find out.
#[derive(Default)]
pub(crate) struct Trouble {
    failed: Mutex<Option<String>>,
    /// Failures of RocksDB's own work that are known of.
    background_errors: AtomicU64,
}

impl Trouble {
    /// A write failed.
    pub(crate) fn note(&self, problem: &str) {
        if mistake!(FailedWritesAreNotNoted) {
            return;
        }
        self.failed.lock().get_or_insert_with(|| problem.to_owned());
    }

    pub(crate) fn forget(&self) {
        *self.failed.lock() = None;
    }

    /// What failed, RocksDB's flushes and compactions included: after those it may refuse writes that nobody has tried yet.
    pub(crate) fn noted(&self, engine: &Engine) -> Option<String> {
        // A count that cannot be read tells nothing: whoever writes will.
        let count = engine
            .db()
            .property_int_value(BACKGROUND_ERRORS)
            .ok()
            .flatten()
            .unwrap_or(0);
        if count > self.background_errors.fetch_max(count, Ordering::Relaxed) {
            self.note("a flush or compaction of RocksDB's own failed");
        }
        self.failed.lock().clone()
    }
}

/// Creates, writes, syncs and removes a file beside RocksDB's, where the largest of them ends: a limit to files is met, too. It takes
/// no more room than its last bytes.
pub(crate) fn try_disk(rocksdb: &Path) -> Result<(), StoreError> {
    let tried = largest_file_bytes(rocksdb).and_then(|end| files::probe(rocksdb, end, &[1; PROBE_BYTES]));
    tried.map_err(|error| StoreError::Storage(format!("{} takes no writes: {error}", rocksdb.display())))
}

fn largest_file_bytes(rocksdb: &Path) -> io::Result<u64> {
    let mut largest = 0;
    for entry in fs::read_dir(rocksdb)? {
        match entry?.metadata() {
            Ok(metadata) if metadata.is_file() => largest = largest.max(metadata.len()),
            Ok(_) => {}
            // RocksDB removes files when it likes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(largest)
}
