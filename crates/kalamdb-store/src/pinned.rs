//! A RocksDB snapshot and iterators that own what they borrow: the one place of the crate with `unsafe`.

use std::sync::Arc;

use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, ReadOptions, Snapshot};

use crate::engine::Engine;
use crate::error::StoreError;

/// A snapshot that keeps its database open.
pub(crate) struct Pinned {
    // Fields are dropped in this order: options, which hold a bare pointer to the snapshot, then the snapshot, which releases
    // itself in the database, then the database.
    read: ReadOptions,
    snapshot: Snapshot<'static>,
    engine: Arc<Engine>,
}

/// An iterator over part of a column family at a snapshot that it keeps.
pub(crate) struct PinnedIterator {
    // Dropped before what it reads.
    iterator: DBRawIterator<'static>,
    pinned: Arc<Pinned>,
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
    // this file and put the borrow into a struct that also holds the `Arc` (itself or through `Pinned`) in a field declared
    // after the borrower, hence dropped after it. The borrowers are private fields and never leave their structs; what is lent
    // from them is bounded by a borrow of the struct.
    unsafe { &*std::ptr::from_ref(engine.db()) }
}

impl Pinned {
    /// The database as it is now.
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let snapshot = unbounded(engine).snapshot();
        let mut read = ReadOptions::default();
        if !mistake!(ReadersTakeTheNewestRows) {
            read.set_snapshot(&snapshot);
        }
        Self {
            read,
            snapshot,
            engine: engine.clone(),
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.engine
            .db()
            .get_pinned_cf_opt(family, key, &self.read)
            .map_err(|error| self.engine.error(&error))
    }

    pub(crate) fn get_all<'a>(
        &'a self,
        family: &ColumnFamily,
        keys: &'a [Vec<u8>],
    ) -> Result<Vec<Option<DBPinnableSlice<'a>>>, StoreError> {
        self.engine
            .db()
            .batched_multi_get_cf_opt(family, keys, false, &self.read)
            .into_iter()
            .map(|found| found.map_err(|error| self.engine.error(&error)))
            .collect()
    }

    /// An iterator that stands before its first key: call [`PinnedIterator::seek`] or
    /// [`PinnedIterator::seek_to_last`].
    pub(crate) fn iterate(self: &Arc<Self>, family: &ColumnFamily, options: &IterateOptions) -> PinnedIterator {
        let mut read = ReadOptions::default();
        if !mistake!(ReadersTakeTheNewestRows) {
            read.set_snapshot(&self.snapshot);
        }
        read.set_iterate_lower_bound(options.lower.as_slice());
        if let Some(upper) = &options.upper {
            read.set_iterate_upper_bound(upper.as_slice());
        }
        read.set_readahead_size(options.readahead_bytes);
        let iterator = unbounded(&self.engine).raw_iterator_cf_opt(family, read);
        PinnedIterator {
            iterator,
            pinned: self.clone(),
        }
    }
}

impl PinnedIterator {
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
        self.iterator.status().map_err(|error| self.pinned.engine.error(&error))
    }
}
