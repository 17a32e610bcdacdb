//! What moves rows into segments and between them, as the crate above calls it: flush, compaction, check.

use std::sync::Arc;

use crate::error::StoreError;
use crate::ids::{SegmentId, StorageId, StoreId};
use crate::key;
use crate::pinned::IterateOptions;
use crate::schema::StoreSchema;
use crate::segment::SegmentFile;
use crate::snapshot::DbState;
use crate::store::Store;
use crate::tuning::{MOVE_BATCH_ROWS, SCAN_READAHEAD_BYTES};

/// How segments of a table are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Where.
    pub storage: StorageId,
    /// With which codec.
    pub compression: SegmentCompression,
}

/// The codec of a segment's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentCompression {
    /// LZ4, raw blocks.
    Lz4,
    /// Zstandard.
    Zstd,
    /// Snappy.
    Snappy,
    /// None.
    None,
}

/// Hears how far a mover is, and tells it to stop.
pub trait Progress: Sync {
    /// So many rows more are to be done. A compaction that goes from merge to merge learns of each when it is its turn.
    fn expect(&self, rows: u64);
    /// So many rows and bytes more are done.
    fn advance(&self, rows: u64, bytes: u64);
    /// Whether to give up: what was written is erased, nothing has changed.
    fn cancelled(&self) -> bool;
}

/// What a mover did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows in the new segments.
    pub rows: u64,
    /// Bytes of the new segments.
    pub bytes: u64,
    /// How many new segments.
    pub segments: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Segments read.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments that are missing or damaged, and how; without a segment what is wrong with hot rows.
    pub problems: Vec<(Option<SegmentId>, String)>,
}

/// The hot rows of a store: those of the current epoch, which the next flush moves, and those that one is moving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotUsage {
    /// Rows of the current epoch.
    pub rows: u64,
    /// Bytes of the keys and values that were put into it, of rows that have gone since as well: their versions stay in memory and on
    /// disk, and how long they were is not known. 0 without rows.
    pub bytes: u64,
    /// When the oldest of them was committed, µs; 0 without rows.
    pub since_micros: i64,
    /// Rows of the sealed epoch of a durable store, until a flush has moved them.
    pub sealed_rows: u64,
    /// Bytes that were put into it; 0 without rows.
    pub sealed_bytes: u64,
}

impl HotUsage {
    /// Bytes of all hot rows.
    pub fn all_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.sealed_bytes)
    }
}

impl<C: Send + Sync + 'static> Store<C> {
    /// Moves all rows that are hot now into segments and returns when that is published. Blocks on CPU and disk.
    ///
    /// # Errors
    /// [`StoreError::Retired`] if the store goes away meanwhile, [`StoreError::Cancelled`], [`StoreError::Storage`]; whatever
    /// it is, nothing is lost: rows stay where they were.
    pub fn flush(
        self: &Arc<Self>,
        target: StoreId,
        schema: &Arc<StoreSchema>,
        options: &SegmentOptions,
        progress: &dyn Progress,
    ) -> Result<Moved, StoreError> {
        crate::flush::flush(self, target, schema, options, progress)
    }

    /// Merges runs and rewrites segments with many deleted rows, as far as that is worth it (`full`: into one run). Blocks.
    ///
    /// # Errors
    /// As [`Store::flush`].
    pub fn compact(
        self: &Arc<Self>,
        target: StoreId,
        schema: &Arc<StoreSchema>,
        options: &SegmentOptions,
        full: bool,
        progress: &dyn Progress,
    ) -> Result<Moved, StoreError> {
        crate::compact::compact(self, target, schema, options, full, progress)
    }

    /// Whether [`Store::compact`] without `full` would find work: more than 8 runs, or a segment more than 20 % deleted, or with
    /// rows of a scope that is gone. May read the indexes of segments.
    pub fn wants_compaction(&self, target: StoreId, schema: &Arc<StoreSchema>) -> bool {
        // A table that is gone wants nothing, and one that cannot be read can get nothing.
        matches!(crate::compact::next_inputs(&self.state(), target, schema), Ok(Some(_)))
    }

    /// Reads every segment of a store and all its hot rows, and verifies all checksums: the table of what is missing or damaged is
    /// refused from then on, and what is sound is no reason any more. Blocks.
    ///
    /// # Errors
    /// As [`Store::flush`], and if a storage cannot be used, of which nothing is known then; damage is no error but in the answer.
    pub fn check(
        &self,
        target: StoreId,
        schema: &Arc<StoreSchema>,
        progress: &dyn Progress,
    ) -> Result<Checked, StoreError> {
        let state = self.state();
        let _exempt = state.exempt();
        let table = state.table(target).ok_or(StoreError::Retired(target))?;
        let mut checked = Checked::default();
        for segment in table.segments.iter() {
            if progress.cancelled() {
                return Err(StoreError::Cancelled);
            }
            self.check_storage(segment.entry.storage)?;
            checked.segments += 1;
            checked.rows += u64::from(segment.entry.rows);
            let since = segment.damage.now();
            let verified = segment.damage.note(|| {
                // Opened anew, so that the file is read and not what is in memory.
                SegmentFile::open(self.engine().files(), &segment.entry, schema).and_then(|file| file.verify(progress))
            });
            match verified.and_then(|bytes| segment.damage.is_repaired(since).map(|()| bytes)) {
                Ok(bytes) => checked.bytes += bytes,
                // What went away while it was read is not damaged.
                Err(error @ (StoreError::Cancelled | StoreError::Away { .. })) => return Err(error),
                Err(error) => checked.problems.push((Some(segment.entry.segment), error.to_string())),
            }
        }
        match self.check_hot_rows(&state, target, progress) {
            Ok((rows, bytes)) => {
                checked.rows += rows;
                checked.bytes += bytes;
                self.engine().damages().hot_is_sound(target);
            }
            Err(StoreError::Cancelled) => return Err(StoreError::Cancelled),
            Err(error) => checked.problems.push((None, error.to_string())),
        }
        Ok(checked)
    }

    /// Reads all hot rows from where they are, and not from what is in memory of their files; how many and how many bytes.
    fn check_hot_rows(
        &self,
        state: &Arc<DbState<C>>,
        target: StoreId,
        progress: &dyn Progress,
    ) -> Result<(u64, u64), StoreError> {
        let table = state.table(target).ok_or(StoreError::Retired(target))?;
        self.engine().forget_blocks();
        let (mut rows, mut bytes) = (0, 0);
        for &epoch in &table.epochs {
            let lower = key::epoch_prefix(target, epoch).to_vec();
            let options = IterateOptions {
                upper: key::successor(&lower),
                lower,
                readahead_bytes: SCAN_READAHEAD_BYTES,
            };
            let iterator = state.pinned().iterate(self.engine().rows(table.lifetime), &options);
            let mut found = iterator.rows()?;
            found.seek(&options.lower);
            while let Some((key, value)) = found.item(true) {
                if rows % MOVE_BATCH_ROWS as u64 == 0 && progress.cancelled() {
                    return Err(StoreError::Cancelled);
                }
                rows += 1;
                bytes += (key.len() + value.len()) as u64;
                found.next();
            }
            found.end().map_err(|error| state.of_hot(target, error))?;
        }
        progress.advance(rows, bytes);
        Ok((rows, bytes))
    }

    /// The hot rows of a live store.
    pub fn hot_usage(&self, target: StoreId) -> HotUsage {
        self.shared().hot.read().get(&target).copied().unwrap_or_default()
    }
}
