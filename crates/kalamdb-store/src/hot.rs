//! Reading hot rows: a range of one scope of one store, decoded straight into Arrow.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::committer::Removal;
use crate::decode::{self, RowBuffer, RowDecoder};
use crate::error::StoreError;
use crate::ids::{ScopeId, StoreId};
use crate::key;
use crate::pinned::{IterateOptions, Pinned, PinnedIterator};
use crate::row::RowView;
use crate::schema::{Lifetime, StoreSchema};
use crate::snapshot::{DbState, EpochEntry};
use crate::tuning::{SCAN_BATCH_BYTES, SCAN_READAHEAD_BYTES};

/// A range of encoded keys (see [`crate::KeyEncoder`]); a prefix of a composite key is a valid bound.
#[derive(Clone, Debug)]
pub struct KeyRange {
    /// Lower end.
    pub start: Bound<Vec<u8>>,
    /// Upper end.
    pub end: Bound<Vec<u8>>,
}

/// What a scan puts into an output column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanColumn {
    /// The column at this index of [`StoreSchema::columns`], with its stored type.
    Column(usize),
    /// The row's commit sequence number, UInt64 not null.
    Seq,
    /// The time of its commit, Timestamp(µs, "UTC") not null.
    Updated,
    /// The encoded key, Binary not null: hand it back in a [`crate::Removal`].
    Key,
    /// The epoch that holds it, UInt32 not null: likewise.
    Location,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ScanSpec {
    /// Which store.
    pub store: StoreId,
    /// Whose rows.
    pub scope: ScopeId,
    /// Which keys.
    pub range: KeyRange,
    /// Output columns, in order; may be empty (then batches carry a row count only).
    pub columns: Vec<ScanColumn>,
    /// Names for the output columns, same length as `columns`.
    pub schema: SchemaRef,
    /// For expiring stores: rows whose expiry is at or before this (µs) do not exist.
    pub now_micros: i64,
    /// Stop after this many rows.
    pub limit: Option<usize>,
    /// Rows per batch at most; a batch is also cut at 2 MiB of encoded rows.
    pub batch_rows: usize,
}

/// A running scan. Rows come in key order within an epoch; epochs follow each other.
pub struct HotScan {
    pinned: Arc<Pinned>,
    decoder: RowDecoder,
    buffer: RowBuffer,
    spec: ScanSpec,
    lifetime: Lifetime,
    /// Epochs not begun.
    epochs: VecDeque<EpochEntry>,
    /// The epoch being read.
    current: Option<Current>,
    /// Rows that may still be returned.
    remaining: usize,
    keys_read: u64,
}

struct Current {
    entry: EpochEntry,
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
        let (lifetime, epochs) = state.live(spec.store, spec.scope)?;
        let decoder = RowDecoder::new(schema, spec.store, spec.scope, &spec.columns, &spec.schema)?;
        Ok(Self {
            pinned: state.pinned().clone(),
            decoder,
            buffer: RowBuffer::default(),
            lifetime,
            epochs: epochs.iter().cloned().collect(),
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
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
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

    /// Keys read from RocksDB so far, expired ones included.
    pub fn keys_read(&self) -> u64 {
        self.keys_read
    }

    /// The next epoch that the range is not empty in by its bounds alone, its iterator on the first key.
    fn next_epoch(&mut self) -> Option<Current> {
        let entry = self.epochs.pop_front()?;
        let prefix = key::scope_prefix(self.spec.store, entry.epoch, self.spec.scope);
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
            entry,
            iterator,
            taken: false,
        })
    }

    /// Gathers rows of the current epoch; `false` at its end.
    fn fill(&mut self, rows: usize) -> Result<bool, StoreError> {
        let Some(Current { entry, iterator, taken }) = &mut self.current else {
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
                .push(&mut self.buffer, entry, self.spec.now_micros, key, value)?;
            *taken = true;
        }
        Ok(true)
    }
}

impl<C> DbState<C> {
    /// Rows of an expiring store that ceased to exist at or before `now_micros`, of every scope that is not retired, at most
    /// `limit`: what a sweep removes. Reads the whole store if there are fewer.
    ///
    /// # Errors
    /// As [`DbState::find`], and [`StoreError::Corrupt`] for a row that does not decode.
    pub fn expired(&self, store: StoreId, now_micros: i64, limit: usize) -> Result<Vec<Removal>, StoreError> {
        let (lifetime, epochs) = self.live(store, ScopeId::GLOBAL)?;
        let mut expired = Vec::new();
        for entry in epochs {
            let lower = key::epoch_prefix(store, entry.epoch).to_vec();
            let options = IterateOptions {
                upper: key::successor(&lower),
                lower,
                readahead_bytes: SCAN_READAHEAD_BYTES,
            };
            let mut iterator = self.pinned().iterate(self.pinned().engine().rows(lifetime), &options);
            iterator.seek(&options.lower);
            while expired.len() < limit {
                let Some((whole, value)) = iterator.item(true) else {
                    iterator.end()?;
                    break;
                };
                let row = RowView::read(value).map_err(|problem| decode::corrupt(whole, &problem.to_string()))?;
                if row.expired(now_micros) {
                    let (scope, key) = whole
                        .get(options.lower.len()..)
                        .and_then(|rest| rest.split_first_chunk())
                        .ok_or_else(|| decode::corrupt(whole, "the key ends before its scope"))?;
                    let scope = ScopeId(u64::from_be_bytes(*scope));
                    if !self.retired_scopes().contains(&scope) {
                        expired.push(Removal {
                            store,
                            scope,
                            key: key.to_vec(),
                            epoch: entry.epoch,
                            seq: row.seq,
                        });
                    }
                }
                iterator.next();
            }
        }
        Ok(expired)
    }
}
