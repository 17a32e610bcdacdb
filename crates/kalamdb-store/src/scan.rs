//! Reading rows of one scope of one store: those in segments, then the hot ones, one after the other.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::cold::ColdScan;
use crate::error::StoreError;
use crate::hot::HotScan;
use crate::ids::{ScopeId, StoreId};
use crate::schema::StoreSchema;
use crate::segment::Bounds;
use crate::snapshot::DbState;

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
    /// Where it is, UInt64 not null: likewise, through [`crate::Location::from_bits`].
    Location,
}

/// Rules out parts of segments by the bounds of their columns: saves reading rows that are filtered away above.
pub trait Prune: Send + Sync + fmt::Debug {
    /// Conditions, all of which a row must meet: for each, the columns (by index in the schema) that it is about.
    fn conditions(&self) -> &[Vec<usize>];
    /// Which parts may hold a row that meets a condition. `bounds` are those of its columns, `None` where they are unknown; of
    /// those that are known the parts are the same. `None`: no telling.
    fn may_hold(&self, condition: usize, bounds: &[Option<&Bounds>]) -> Option<Vec<bool>>;
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
    /// Which part of the rows, of how many: parts are disjoint, about equal, and together all.
    pub part: (usize, usize),
    /// What else the rows have to meet. It may rule out none.
    pub prune: Option<Arc<dyn Prune>>,
    /// Rows per batch at most; a batch is also cut at 2 MiB of encoded rows.
    pub batch_rows: usize,
}

/// A running scan.
pub struct Scan {
    cold: Option<ColdScan>,
    hot: Option<HotScan>,
    keys_read: u64,
    remaining: Option<usize>,
}

impl Scan {
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
    ) -> Result<Self, StoreError> {
        let remaining = spec.limit;
        let (part, parts) = spec.part;
        let cold = ColdScan::open(state, schema, &spec)?;
        // Hot rows are few beside those of segments: one part has them all.
        let hot = match part + 1 == parts.max(1) || mistake!(PartsShareTheHotRows) {
            true => Some(HotScan::open(state, schema, spec)?),
            false => None,
        };
        Ok(Self {
            cold,
            hot,
            keys_read: 0,
            remaining,
        })
    }

    /// The next batch, never empty, or `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row or the file that does not decode; [`StoreError::Storage`] when reading fails.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        if self.remaining == Some(0) || (mistake!(ScansStopAtACap) && self.keys_read() >= 10_000) {
            return Ok(None);
        }
        let mut batch = None;
        if let Some(cold) = &mut self.cold {
            batch = cold.next_batch()?;
            if batch.is_none() {
                self.keys_read += cold.rows_read();
                self.cold = None;
            }
        }
        if batch.is_none()
            && let Some(hot) = &mut self.hot
        {
            if let Some(remaining) = self.remaining {
                hot.limit(remaining);
            }
            batch = hot.next_batch()?;
        }
        if let (Some(batch), Some(remaining)) = (&batch, &mut self.remaining) {
            *remaining = remaining.saturating_sub(batch.num_rows());
        }
        Ok(batch)
    }

    /// Rows looked at so far: keys read from RocksDB, expired ones included, and rows read from segments.
    pub fn keys_read(&self) -> u64 {
        self.keys_read
            + self.cold.as_ref().map_or(0, ColdScan::rows_read)
            + self.hot.as_ref().map_or(0, HotScan::keys_read)
    }
}
