//! Reading hot rows: a range of one scope of one store, decoded straight into Arrow.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::decode::{RowBuffer, RowDecoder};
use crate::error::StoreError;
use crate::ids::Epoch;
use crate::key;
use crate::pinned::{IterateOptions, Pinned, PinnedIterator};
use crate::scan::ScanSpec;
use crate::schema::{Lifetime, StoreSchema};
use crate::snapshot::DbState;
use crate::tuning::{SCAN_BATCH_BYTES, SCAN_READAHEAD_BYTES};

/// A running scan of hot rows. Rows come in key order within an epoch; epochs follow each other.
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
    keys_read: u64,
}

struct Current {
    epoch: Epoch,
    iterator: PinnedIterator,
    /// The key that the iterator is on was taken. It moves on when another is wanted, so that a limit reads no key more.
    taken: bool,
}

impl HotScan {
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
    ) -> Result<Self, StoreError> {
        let (table, visible) = state.live(spec.store, spec.scope)?;
        let decoder = RowDecoder::new(schema, spec.store, spec.scope, &spec.columns, &spec.schema)?;
        Ok(Self {
            pinned: state.pinned().clone(),
            decoder,
            buffer: RowBuffer::default(),
            lifetime: table.lifetime,
            epochs: if visible {
                table.epochs.iter().copied().collect()
            } else {
                VecDeque::new()
            },
            current: None,
            remaining: spec.limit.unwrap_or(usize::MAX),
            keys_read: 0,
            spec,
        })
    }

    /// The next batch, never empty, or `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row that does not decode; [`StoreError::Storage`] when reading fails.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        let rows = self.spec.batch_rows.max(1).min(self.remaining);
        while self.buffer.rows() < rows && self.buffer.bytes() < SCAN_BATCH_BYTES {
            if self.current.is_none() {
                match self.next_epoch() {
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

    /// Keys read from RocksDB so far, expired ones included.
    pub(crate) fn keys_read(&self) -> u64 {
        self.keys_read
    }

    /// The next epoch that the range is not empty in by its bounds alone, its iterator on the first key.
    fn next_epoch(&mut self) -> Option<Current> {
        let epoch = self.epochs.pop_front()?;
        let prefix = key::scope_prefix(self.spec.store, epoch, self.spec.scope);
        let Some((lower, upper)) = key::bounds(&prefix, &self.spec.range.start, &self.spec.range.end) else {
            // The range is empty, in this epoch as in all.
            self.epochs.clear();
            return None;
        };
        let whole_scope = matches!(
            (&self.spec.range.start, &self.spec.range.end),
            (Bound::Unbounded, Bound::Unbounded)
        );
        let readahead_bytes = if whole_scope && self.spec.limit.is_none() {
            SCAN_READAHEAD_BYTES
        } else {
            0
        };
        let options = IterateOptions {
            lower,
            upper,
            readahead_bytes,
        };
        let mut iterator = self.pinned.iterate(self.pinned.engine().rows(self.lifetime), &options);
        iterator.seek(&options.lower);
        Some(Current {
            epoch,
            iterator,
            taken: false,
        })
    }

    /// Gathers rows of the current epoch; `false` at its end.
    fn fill(&mut self, rows: usize) -> Result<bool, StoreError> {
        let Some(Current { epoch, iterator, taken }) = &mut self.current else {
            return Ok(false);
        };
        let with_value = self.decoder.reads_values();
        while self.buffer.rows() < rows && self.buffer.bytes() < SCAN_BATCH_BYTES {
            if std::mem::take(taken) {
                iterator.next();
            }
            let Some((key, value)) = iterator.item(with_value) else {
                return iterator.end().map(|()| false);
            };
            self.keys_read += 1;
            self.decoder
                .push(&mut self.buffer, *epoch, self.spec.now_micros, key, value)?;
            *taken = true;
        }
        Ok(true)
    }
}
