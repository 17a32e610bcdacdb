//! New segments on their way into a table: what a load or a mover hands to the committer, to become visible in one step.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::damage::Damage;
use crate::deletion_vector::Deleted;
use crate::erase::{EraseJob, EraserHandle};
use crate::error::{CommitError, StoreError};
use crate::gate::GateGuard;
use crate::ids::{Epoch, SchemaVersion, ScopeId, SegmentId, Seq, StorageId, StoreId};
use crate::manifest::{FileName, SegmentEntry, SegmentSeqs};
use crate::segment::SegmentSummary;
use crate::watch::{News, Watch};

/// Segments that replace others, or hot rows, or are added. Dropped unpublished, their files are erased.
pub struct Publication {
    pub(crate) store: StoreId,
    pub(crate) schema_version: SchemaVersion,
    /// Rows that were loaded or moved.
    pub(crate) rows: u64,
    /// Whose rows a load brings; every one of them must still be live.
    pub(crate) scopes: BTreeSet<ScopeId>,
    pub(crate) outputs: Vec<NewSegment>,
    /// What goes as they come.
    pub(crate) inputs: Inputs,
    pub(crate) resolution: Mutex<Resolution>,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) settle: Settle,
    /// Held from the end of the resolution on, so that rows stay where they were found.
    pub(crate) _gate: Option<GateGuard>,
}

/// Takes what others did meanwhile into the resolution. Runs in the committer for what is left then.
pub(crate) type Settle = Box<dyn Fn(&News, &mut Resolution) -> Result<(), CommitError> + Send + Sync>;

/// What a mover moves.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// A sealed epoch.
    pub(crate) epoch: Option<Epoch>,
    /// Whole keys of all that was in it, if they are few: deleting them is cheaper for readers than deleting a range.
    pub(crate) hot_keys: Option<Vec<Vec<u8>>>,
    pub(crate) segments: Vec<SegmentId>,
}

/// Which rows are gone when the segments come.
#[derive(Debug, Default)]
pub(crate) struct Resolution {
    /// Of segments: of the new ones from the start, of others because a new row replaces them.
    pub(crate) deleted: HashMap<SegmentId, Deleted>,
    /// Hot rows that a new row replaces.
    pub(crate) hot: HashMap<(ScopeId, Vec<u8>), Epoch>,
}

/// A finished file that no state shows yet.
pub(crate) struct NewSegment {
    pub(crate) segment: SegmentId,
    pub(crate) file: FileName,
    pub(crate) summary: SegmentSummary,
    /// The smallest and the largest `_seq` in it; `None` if it has none.
    pub(crate) seqs: Option<(Seq, Seq)>,
    /// What a load finds wrong with it when it looks its own keys up, for the table.
    pub(crate) damage: Arc<Damage>,
    /// Whether dropping it erases it.
    armed: AtomicBool,
    eraser: EraserHandle,
}

impl NewSegment {
    pub(crate) fn new(
        segment: SegmentId,
        file: FileName,
        summary: SegmentSummary,
        seqs: Option<(Seq, Seq)>,
        damage: Arc<Damage>,
        eraser: &EraserHandle,
    ) -> Self {
        Self {
            segment,
            file,
            summary,
            seqs,
            damage,
            armed: AtomicBool::new(true),
            eraser: eraser.clone(),
        }
    }

    /// Its entry in the manifest. `base` is the number of its first row, if it stores none.
    pub(crate) fn entry(&self, run: u32, version: SchemaVersion, base: Seq, published_micros: i64) -> SegmentEntry {
        let seqs = match self.seqs {
            Some((min, max)) => SegmentSeqs::Stored { min, max },
            None => SegmentSeqs::Base {
                base,
                updated_micros: published_micros,
            },
        };
        SegmentEntry {
            segment: self.segment,
            run,
            storage: self.storage(),
            path: self.file.path.clone(),
            rows: self.summary.rows,
            size_bytes: self.summary.size_bytes,
            memory_bytes: self.summary.memory_bytes,
            min_key: self.summary.min_key.clone(),
            max_key: self.summary.max_key.clone(),
            schema_version: version,
            seqs,
            tail_offset: self.summary.tail_offset,
            checksum: self.summary.checksum,
            created_micros: published_micros,
        }
    }

    pub(crate) fn storage(&self) -> StorageId {
        self.file.storage
    }
}

impl Drop for NewSegment {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Acquire) && !mistake!(UnpublishedFilesStay) {
            self.eraser.erase(EraseJob::Segment(self.segment, self.file.clone()));
        }
    }
}

impl Publication {
    /// Rows that were loaded.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.summary.size_bytes).sum()
    }

    /// Whether it brings rows, and does not move them only.
    pub(crate) fn is_load(&self) -> bool {
        self.inputs.epoch.is_none() && self.inputs.segments.is_empty()
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.outputs.iter().all(|output| output.armed.load(Ordering::Acquire))
    }

    /// Whether dropping it erases its files: not from the moment on in which they may be in the log.
    pub(crate) fn arm(&self, armed: bool) {
        for output in &self.outputs {
            output.armed.store(armed, Ordering::Release);
        }
    }

    /// Settles what others did since the last look.
    ///
    /// # Errors
    /// What [`Settle`] says, and [`CommitError::Conflict`] if too much happened to follow.
    pub(crate) fn catch_up(&self) -> Result<(), CommitError> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let news = watch.take();
        if news.overflowed && !mistake!(WatchesOverflowUnnoticed) {
            watch.put_back(news);
            return Err(CommitError::Conflict);
        }
        let settled = (self.settle)(&news, &mut self.resolution.lock());
        if settled.is_err() && !mistake!(NewsAreSettledOnce) {
            watch.put_back(news);
        }
        settled
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("store", &self.store)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DuplicateKey { key } => Self::DuplicateKey { key },
            StoreError::Retired(store) => Self::Retired(store),
            StoreError::Conflict => Self::Conflict,
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::DuplicateKey { key } => Self::DuplicateKey { key },
            CommitError::Retired(store) => Self::Retired(store),
            CommitError::Conflict | CommitError::Stale => Self::Conflict,
            other => Self::Storage(other.to_string()),
        }
    }
}
