//! A RocksDB snapshot and iterators that own what they borrow: the one place of the crate with `unsafe`. Both can be let go of while
//! somebody holds on to them, who then hears that the snapshot is too old. When that is due is `snapshots`'.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, ReadOptions, Snapshot};

use crate::engine::Engine;
use crate::error::StoreError;

/// A snapshot that keeps its database open.
pub(crate) struct Pinned {
    /// Later ones have higher numbers.
    number: u64,
    /// `None` once it was let go of.
    held: ArcSwapOption<Held>,
    is_too_old: AtomicBool,
    /// Whoever works for the database itself, and must not be stopped half way.
    exempt: AtomicUsize,
    /// Those that are open, to be let go of with it.
    iterators: Mutex<HashMap<u64, IteratorCell>>,
    last_iterator: AtomicU64,
    engine: Arc<Engine>,
}

/// What RocksDB keeps for a snapshot.
struct Held {
    // Fields are dropped in this order: options, which hold a bare pointer to the snapshot, then the snapshot, which releases
    // itself in the database, then the database.
    read: ReadOptions,
    snapshot: Snapshot<'static>,
    engine: Arc<Engine>,
}

/// Keeps a snapshot from becoming too old for as long as it lives.
pub(crate) struct Exempt(Arc<Pinned>);

/// An iterator over part of a column family at a snapshot that it keeps.
pub(crate) struct PinnedIterator {
    number: u64,
    rows: IteratorCell,
    pinned: Arc<Pinned>,
}

/// Locked while rows are read; empty once it was let go of.
type IteratorCell = Arc<Mutex<Option<Rows>>>;

/// Where an iterator stands.
pub(crate) struct Rows {
    // Dropped before what it reads.
    iterator: DBRawIterator<'static>,
    held: Arc<Held>,
}

/// What an iterator may expect.
#[derive(Clone, Debug)]
pub(crate) struct IterateOptions {
    /// The first key that may be read.
    pub(crate) lower: Vec<u8>,
    /// The first key that may not; `None` for the end of the column family.
    pub(crate) upper: Option<Vec<u8>>,
    /// Bytes to read ahead; 0 leaves it to RocksDB.
    pub(crate) readahead_bytes: usize,
}

/// The database with a lifetime that the caller bounds by owning `engine` for longer than what it makes of it.
#[expect(
    unsafe_code,
    reason = "snapshots and iterators borrow from the database, which an Arc beside them keeps alive"
)]
fn unbounded(engine: &Arc<Engine>) -> &'static DB {
    // SAFETY: the engine is on the heap behind an `Arc`, so it does not move, and `db()` points into it. Both callers are in
    // this file and put the borrow into a struct that also holds the `Arc` (itself or through `Held`) in a field declared
    // after the borrower, hence dropped after it. The borrowers are private fields and never leave their structs; what is lent
    // from them is bounded by a borrow of the struct.
    unsafe { &*std::ptr::from_ref(engine.db()) }
}

impl Pinned {
    /// The database as it is now.
    pub(crate) fn new(engine: &Arc<Engine>) -> Arc<Self> {
        let snapshot = unbounded(engine).snapshot();
        let mut read = ReadOptions::default();
        if !mistake!(ReadersTakeTheNewestRows) {
            read.set_snapshot(&snapshot);
        }
        let held = Held {
            read,
            snapshot,
            engine: engine.clone(),
        };
        engine.snapshots().add(|number| Self {
            number,
            held: ArcSwapOption::from_pointee(held),
            is_too_old: AtomicBool::new(false),
            exempt: AtomicUsize::new(0),
            iterators: Mutex::default(),
            last_iterator: AtomicU64::new(0),
            engine: engine.clone(),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether it may be read still.
    ///
    /// # Errors
    /// [`StoreError::SnapshotTooOld`].
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.is_too_old.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(StoreError::SnapshotTooOld),
        }
    }

    /// Keeps it from becoming too old, for work that a reader cannot hold up and that has to come to its end.
    pub(crate) fn exempt(self: &Arc<Self>) -> Exempt {
        self.exempt.fetch_add(1, Ordering::SeqCst);
        Exempt(self.clone())
    }

    /// Ends all reads of it, and lets go of what RocksDB keeps for it: obsolete files and what compactions would drop. `false` if
    /// somebody is reading at this moment, or works for the database itself: try again later.
    pub(crate) fn let_go(&self) -> bool {
        let is_exempt = self.exempt.load(Ordering::SeqCst) > 0 && !mistake!(TheDatabasesWorkIsEnded);
        if is_exempt || mistake!(OldSnapshotsStay) {
            return false;
        }
        self.is_too_old.store(true, Ordering::SeqCst);
        self.held.store(None);
        let mut are_all_free = true;
        let mut free = Vec::new();
        for cell in self.iterators.lock().values().filter(|_| !mistake!(IteratorsStay)) {
            match cell.try_lock() {
                Some(mut rows) => free.extend(rows.take()),
                None => are_all_free = false,
            }
        }
        // Without the lock: files may be deleted with them.
        drop(free);
        are_all_free
    }

    pub(crate) fn is_too_old(&self) -> bool {
        self.is_too_old.load(Ordering::SeqCst)
    }

    pub(crate) fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        let held = self.held.load();
        let held = held.as_ref().ok_or(StoreError::SnapshotTooOld)?;
        self.engine
            .db()
            .get_pinned_cf_opt(family, key, &held.read)
            .map_err(|error| self.engine.error(&error))
    }

    pub(crate) fn get_all<'a>(
        &'a self,
        family: &ColumnFamily,
        keys: &'a [Vec<u8>],
    ) -> Result<Vec<Option<DBPinnableSlice<'a>>>, StoreError> {
        let held = self.held.load();
        let held = held.as_ref().ok_or(StoreError::SnapshotTooOld)?;
        self.engine
            .db()
            .batched_multi_get_cf_opt(family, keys, false, &held.read)
            .into_iter()
            .map(|found| found.map_err(|error| self.engine.error(&error)))
            .collect()
    }

    /// An iterator that stands before its first key: call [`Rows::seek`] or [`Rows::seek_to_last`].
    pub(crate) fn iterate(self: &Arc<Self>, family: &ColumnFamily, options: &IterateOptions) -> PinnedIterator {
        let rows = self.held.load_full().map(|held| {
            let mut read = ReadOptions::default();
            if !mistake!(ReadersTakeTheNewestRows) {
                read.set_snapshot(&held.snapshot);
            }
            read.set_iterate_lower_bound(options.lower.as_slice());
            if let Some(upper) = &options.upper {
                read.set_iterate_upper_bound(upper.as_slice());
            }
            read.set_readahead_size(options.readahead_bytes);
            let iterator = unbounded(&held.engine).raw_iterator_cf_opt(family, read);
            Rows { iterator, held }
        });
        let number = self.last_iterator.fetch_add(1, Ordering::Relaxed);
        let rows: IteratorCell = Arc::new(Mutex::new(rows));
        self.iterators.lock().insert(number, rows.clone());
        PinnedIterator {
            number,
            rows,
            pinned: self.clone(),
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.engine.snapshots().forget(self.number);
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        self.0.exempt.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PinnedIterator {
    /// To read on. What is lent is not let go of before it is given back: hold it for a batch at most.
    ///
    /// # Errors
    /// [`StoreError::SnapshotTooOld`].
    pub(crate) fn rows(&self) -> Result<MappedMutexGuard<'_, Rows>, StoreError> {
        self.pinned.check()?;
        MutexGuard::try_map(self.rows.lock(), Option::as_mut).map_err(|_| StoreError::SnapshotTooOld)
    }
}

impl Drop for PinnedIterator {
    fn drop(&mut self) {
        self.pinned.iterators.lock().remove(&self.number);
    }
}

impl Rows {
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.iterator.seek(key);
    }

    pub(crate) fn next(&mut self) {
        self.iterator.next();
    }

    /// Goes to the last key before the upper bound.
    pub(crate) fn seek_to_last(&mut self) {
        self.iterator.seek_to_last();
    }

    pub(crate) fn previous(&mut self) {
        self.iterator.prev();
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.iterator.key()
    }

    /// The key, and the value unless it is of no interest.
    #[inline]
    pub(crate) fn item(&self, with_value: bool) -> Option<(&[u8], &[u8])> {
        if with_value {
            self.iterator.item()
        } else {
            self.iterator.key().map(|key| (key, [].as_slice()))
        }
    }

    /// Why there is no item: the end, or an error.
    pub(crate) fn end(&self) -> Result<(), StoreError> {
        let engine = &self.held.engine;
        self.iterator.status().map_err(|error| engine.error(&error))
    }
}
