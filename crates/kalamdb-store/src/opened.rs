//! Segments that are open: their indexes and footers stay in memory, up to a bound, for as long as they are used.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::damage::Damage;
use crate::error::StoreError;
use crate::files::Files;
use crate::ids::SegmentId;
use crate::manifest::{Segment, SegmentEntry};
use crate::schema::StoreSchema;
use crate::segment::SegmentFile;

/// See above.
pub(crate) struct OpenSegments {
    files: Arc<Files>,
    cache: Cache<SegmentId, Arc<SegmentFile>, ByMemory>,
}

#[derive(Clone)]
struct ByMemory;

impl Weighter<SegmentId, Arc<SegmentFile>> for ByMemory {
    fn weight(&self, _: &SegmentId, file: &Arc<SegmentFile>) -> u64 {
        file.memory_bytes() as u64
    }
}

/// Entries that the cache makes room for at first.
const EXPECTED_SEGMENTS: usize = 64;

impl OpenSegments {
    pub(crate) fn new(files: Arc<Files>, most_bytes: usize) -> Self {
        Self {
            files,
            cache: Cache::with_weighter(EXPECTED_SEGMENTS, most_bytes as u64, ByMemory),
        }
    }

    /// The open segment, its file opened and checked if it is not open.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names a file that is missing or damaged.
    pub(crate) fn get(&self, segment: &Segment, schema: &Arc<StoreSchema>) -> Result<Arc<SegmentFile>, StoreError> {
        segment.check()?;
        self.open(&segment.entry, &segment.damage, schema)
    }

    /// The same of a file that no state shows yet.
    pub(crate) fn open(
        &self,
        entry: &SegmentEntry,
        damage: &Arc<Damage>,
        schema: &Arc<StoreSchema>,
    ) -> Result<Arc<SegmentFile>, StoreError> {
        self.cache.get_or_insert_with(&entry.segment, || {
            let opened = damage.note(SegmentFile::open(&self.files, entry, schema))?;
            Ok(Arc::new(opened.of_table(damage)))
        })
    }

    /// What it holds, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.cache.weight()
    }
}
