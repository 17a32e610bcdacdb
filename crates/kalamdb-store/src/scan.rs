//! Reading rows of one scope of one store: those in segments, then the hot ones, one after the other, unless an order is asked for.

use std::collections::HashSet;
use std::fmt;
use std::ops::{AddAssign, Bound};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;

use crate::cold_scan::{self, ColdScan};
use crate::error::StoreError;
use crate::hot::HotScan;
use crate::ids::{ScopeId, SegmentId, StoreId};
use crate::ordered::OrderedScan;
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

/// In which order rows come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOrder {
    /// As they lie: nothing is compared, so this is the fastest.
    #[default]
    Any,
    /// By key.
    Ascending,
    /// By key, the largest first.
    Descending,
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
    /// The order of the rows of this part.
    pub order: ScanOrder,
    /// What else the rows have to meet. It may rule out none.
    pub prune: Option<Arc<dyn Prune>>,
    /// Rows per batch at most; a batch is also cut at 2 MiB of encoded rows.
    pub batch_rows: usize,
    /// The segments that were read already, for [`ScanCounters::segments_read`].
    pub seen: SeenSegments,
}

/// The segments that a statement took rows from, shared by its scans: each counts once.
#[derive(Clone, Debug, Default)]
pub struct SeenSegments(Arc<Mutex<HashSet<SegmentId>>>);

impl SeenSegments {
    /// How many more they are with this one.
    pub(crate) fn add(&self, segment: SegmentId) -> u64 {
        u64::from(self.0.lock().insert(segment))
    }
}

/// What a scan looked at, and what it did not have to. Nothing in it depends on rows of other scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCounters {
    /// Rows looked at: keys read from RocksDB, expired ones included, and rows of segments of which a column was read.
    pub keys_read: u64,
    /// Segments that rows were taken from and that no scan before had seen: see [`SeenSegments`].
    pub segments_read: u64,
    /// Row groups that the bounds of their columns ruled out.
    pub row_groups_pruned: u64,
    /// Pages of the others that theirs did.
    pub pages_pruned: u64,
}

/// A running scan.
pub struct Scan {
    source: Source,
    /// Of what is used up.
    counters: ScanCounters,
    remaining: Option<usize>,
}

enum Source {
    AsTheyLie {
        cold: Option<Box<ColdScan>>,
        hot: Option<Box<HotScan>>,
    },
    Ordered(Box<OrderedScan>),
}

impl Scan {
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
    ) -> Result<Self, StoreError> {
        let remaining = spec.limit;
        let source = match spec.order {
            ScanOrder::Any => {
                let shares = cold_scan::shares(state, schema, &spec)?;
                let cold =
                    (!shares.is_empty()).then(|| Box::new(ColdScan::new(state.pinned(), schema, shares, spec.clone())));
                let hot = match spec.has_hot_rows() {
                    true => Some(Box::new(HotScan::open(state, schema, spec)?)),
                    false => None,
                };
                Source::AsTheyLie { cold, hot }
            }
            ScanOrder::Ascending | ScanOrder::Descending => {
                Source::Ordered(Box::new(OrderedScan::open(state, schema, spec)?))
            }
        };
        Ok(Self {
            source,
            counters: ScanCounters::default(),
            remaining,
        })
    }

    /// Whoever reads in key order is likely to take so many rows and to stop: the first batches are short, later ones have as many
    /// rows as they may. Of no effect once reading has begun, or without an order.
    pub fn expect_rows(&mut self, rows: usize) {
        match &mut self.source {
            Source::Ordered(scan) => scan.expect_rows(rows),
            Source::AsTheyLie { .. } => {}
        }
    }

    /// The next batch, never empty, or `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row or the file that does not decode; [`StoreError::SnapshotTooOld`];
    /// [`StoreError::Storage`] when reading fails.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        if self.remaining == Some(0) || (mistake!(ScansStopAtACap) && self.keys_read() >= 10_000) {
            return Ok(None);
        }
        let batch = match &mut self.source {
            Source::AsTheyLie { cold, hot } => {
                let mut batch = None;
                if let Some(scan) = cold {
                    batch = scan.next_batch()?;
                    if batch.is_none() {
                        self.counters += scan.counters();
                        *cold = None;
                    }
                }
                if batch.is_none()
                    && let Some(hot) = hot
                {
                    if let Some(remaining) = self.remaining {
                        hot.limit(remaining);
                    }
                    batch = hot.next_batch()?;
                }
                batch
            }
            Source::Ordered(scan) => scan.next_batch()?,
        };
        if let (Some(batch), Some(remaining)) = (&batch, &mut self.remaining) {
            *remaining = remaining.saturating_sub(batch.num_rows());
        }
        Ok(batch)
    }

    /// What it looked at so far.
    pub fn counters(&self) -> ScanCounters {
        let mut counters = self.counters;
        match &self.source {
            Source::AsTheyLie { cold, hot } => {
                counters += cold.as_ref().map(|cold| cold.counters()).unwrap_or_default();
                counters += hot.as_ref().map(|hot| hot.counters()).unwrap_or_default();
            }
            Source::Ordered(scan) => counters += scan.counters(),
        }
        counters
    }

    /// [`ScanCounters::keys_read`].
    pub fn keys_read(&self) -> u64 {
        self.counters().keys_read
    }
}

impl ScanSpec {
    /// Hot rows are few beside those of segments: one part has them all.
    pub(crate) fn has_hot_rows(&self) -> bool {
        let (part, parts) = self.part;
        part + 1 == parts.max(1) || mistake!(PartsShareTheHotRows)
    }
}

impl AddAssign for ScanCounters {
    fn add_assign(&mut self, other: Self) {
        self.keys_read += other.keys_read;
        self.segments_read += other.segments_read;
        self.row_groups_pruned += other.row_groups_pruned;
        self.pages_pruned += other.pages_pruned;
    }
}
