//! Reading hot rows: a range of one scope of one store, decoded straight into Arrow.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::decode::{RowBuffer, RowDecoder};
use crate::error::StoreError;
use crate::ids::Epoch;
use crate::key;
use crate::pace::Pace;
use crate::pinned::{IterateOptions, Pinned, PinnedIterator, Rows};
use crate::scan::{ScanCounters, ScanOrder, ScanSpec};
use crate::schema::{Lifetime, StoreSchema};
use crate::snapshot::DbState;
use crate::tuning::{SCAN_BATCH_BYTES, SCAN_READAHEAD_BYTES};

/// A running scan of hot rows. Rows come in key order within an epoch, backward if the scan's order is; epochs follow each other.
pub(crate) struct HotScan {
    pinned: Arc<Pinned>,
    decoder: RowDecoder,
    buffer: RowBuffer,
    spec: ScanSpec,
    lifetime: Lifetime,
    /// Epochs not begun.
    epochs: VecDeque<Epoch>,
    /// The epoch being read.
    current: Option<Current>,
    /// Rows that may still be returned.
    remaining: usize,
    batches: Pace,
    keys_read: u64,
}

struct Current {
    epoch: Epoch,
    iterator: PinnedIterator,
    /// The key that the iterator is on was taken. It moves on when another is wanted, so that a limit reads no key more.
    taken: bool,
}

/// An epoch that has keys of a scan's range, and the first and the last of them.
pub(crate) struct EpochKeys {
    pub(crate) epoch: Epoch,
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

/// The epochs that have a key of the range.
pub(crate) fn edges<C>(state: &Arc<DbState<C>>, spec: &ScanSpec) -> Result<Vec<EpochKeys>, StoreError> {
    let (table, visible) = state.live(spec.store, spec.scope)?;
    let pinned = state.pinned();
    let mut found = Vec::new();
    for &epoch in table.epochs.iter().filter(|_| visible) {
        let Some(options) = range(spec, epoch) else { break };
        let iterator = pinned.iterate(pinned.engine().rows(table.lifetime), &options);
        let mut rows = iterator.rows()?;
        let own = |key: Option<&[u8]>| key.and_then(|key| key.get(key::PREFIX_BYTES..)).map(<[u8]>::to_vec);
        let end = |rows: &Rows| rows.end().map_err(|error| state.of_hot(spec.store, error));
        rows.seek(&options.lower);
        let first = own(rows.key());
        end(&rows)?;
        rows.seek_to_last();
        let last = own(rows.key());
        end(&rows)?;
        if let (Some(first), Some(last)) = (first, last) {
            found.push(EpochKeys { epoch, first, last });
        }
    }
    Ok(found)
}

/// The keys of the scan in one epoch; `None` if there can be none, in this epoch as in all.
fn range(spec: &ScanSpec, epoch: Epoch) -> Option<IterateOptions> {
    let prefix = key::scope_prefix(spec.store, epoch, spec.scope);
    let (lower, upper) = key::bounds(&prefix, &spec.range.start, &spec.range.end)?;
    Some(IterateOptions {
        lower,
        upper,
        readahead_bytes: 0,
    })
}

impl HotScan {
    /// Reads all epochs of the table.
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
    ) -> Result<Self, StoreError> {
        let (table, _) = state.live(spec.store, spec.scope)?;
        Self::of_epochs(state, schema, spec, table.epochs.iter().copied().collect())
    }

    /// Reads these.
    pub(crate) fn of_epochs<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
        epochs: VecDeque<Epoch>,
    ) -> Result<Self, StoreError> {
        let (table, visible) = state.live(spec.store, spec.scope)?;
        let decoder = RowDecoder::new(schema, spec.store, spec.scope, &spec.columns, &spec.schema)?;
        Ok(Self {
            pinned: state.pinned().clone(),
            decoder,
            buffer: RowBuffer::default(),
            lifetime: table.lifetime,
            epochs: if visible { epochs } else { VecDeque::new() },
            current: None,
            remaining: spec.limit.unwrap_or(usize::MAX),
            batches: Pace::new(None, spec.batch_rows),
            keys_read: 0,
            spec,
        })
    }

    /// The next batch, never empty, or `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row that does not decode; [`StoreError::SnapshotTooOld`]; [`StoreError::Storage`] when reading
    /// fails.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        self.pinned.check()?;
        let rows = self.batches.next().min(self.remaining);
        while self.buffer.rows() < rows && self.buffer.bytes() < SCAN_BATCH_BYTES {
            if self.current.is_none() {
                match self.next_epoch()? {
                    Some(next) => self.current = Some(next),
                    None => break,
                }
            }
            if !self.fill(rows)? {
                self.current = None;
            }
        }
        if self.buffer.rows() == 0 {
            return Ok(None);
        }
        self.remaining -= self.buffer.rows();
        if self.remaining == 0 {
            self.current = None;
            self.epochs.clear();
        }
        self.decoder.decode(&mut self.buffer).map(Some)
    }

    /// Returns at most this many rows more.
    pub(crate) fn limit(&mut self, rows: usize) {
        self.remaining = self.remaining.min(rows);
    }

    /// Begins with short batches, of about so many rows.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        self.batches = Pace::new(Some(rows), self.spec.batch_rows);
    }

    /// Keys read from RocksDB so far are those of expired rows as well.
    pub(crate) fn counters(&self) -> ScanCounters {
        ScanCounters {
            keys_read: self.keys_read,
            ..ScanCounters::default()
        }
    }

    /// The next epoch that the range is not empty in by its bounds alone, its iterator on the first key.
    fn next_epoch(&mut self) -> Result<Option<Current>, StoreError> {
        let Some(epoch) = self.epochs.pop_front() else {
            return Ok(None);
        };
        let Some(mut options) = range(&self.spec, epoch) else {
            self.epochs.clear();
            return Ok(None);
        };
        let whole_scope = matches!(
            (&self.spec.range.start, &self.spec.range.end),
            (Bound::Unbounded, Bound::Unbounded)
        );
        // RocksDB reads ahead in one direction.
        if whole_scope && self.spec.limit.is_none() && !self.backward() {
            options.readahead_bytes = SCAN_READAHEAD_BYTES;
        }
        let iterator = self.pinned.iterate(self.pinned.engine().rows(self.lifetime), &options);
        let mut rows = iterator.rows()?;
        match self.backward() {
            false => rows.seek(&options.lower),
            true => rows.seek_to_last(),
        }
        drop(rows);
        Ok(Some(Current {
            epoch,
            iterator,
            taken: false,
        }))
    }

    fn backward(&self) -> bool {
        self.spec.order == ScanOrder::Descending
    }

    /// Gathers rows of the current epoch; `false` at its end.
    fn fill(&mut self, rows: usize) -> Result<bool, StoreError> {
        let backward = self.backward();
        let Some(Current { epoch, iterator, taken }) = &mut self.current else {
            return Ok(false);
        };
        let with_value = self.decoder.reads_values();
        let mut found = iterator.rows()?;
        while self.buffer.rows() < rows && self.buffer.bytes() < SCAN_BATCH_BYTES {
            if std::mem::take(taken) {
                match backward {
                    false => found.next(),
                    true => found.previous(),
                }
            }
            let Some((key, value)) = found.item(with_value) else {
                let damages = self.pinned.engine().damages();
                let ended = found.end().map_err(|error| damages.of_hot(self.spec.store, error));
                return ended.map(|()| false);
            };
            self.keys_read += 1;
            self.decoder
                .push(&mut self.buffer, *epoch, self.spec.now_micros, key, value)?;
            *taken = true;
        }
        Ok(true)
    }
}
