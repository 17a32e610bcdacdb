//! An open segment: its footer and index in memory, look-ups by key. Decoding rows is `read`'s.

use std::ops::Range;
use std::sync::Arc;

use crate::error::StoreError;
use crate::files::Files;
use crate::ids::ScopeId;
use crate::manifest::SegmentEntry;
use crate::mover::Progress;
use crate::scan::KeyRange;
use crate::schema::StoreSchema;
use crate::segment::{ColumnBounds, SegmentColumn, SegmentRead};

/// An open segment. It never changes, and reading takes no lock.
#[derive(Debug)]
pub(crate) struct SegmentFile {}

impl SegmentFile {
    /// Reads and verifies index and footer of the file that `entry` names; `schema` is of the entry's version.
    pub(crate) fn open(
        files: &Arc<Files>,
        entry: &SegmentEntry,
        schema: &Arc<StoreSchema>,
    ) -> Result<Self, StoreError> {
        let _ = (files, entry, schema);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// What it takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        0
    }

    pub(crate) fn rows(&self) -> u32 {
        0
    }

    /// The scopes in it and the rows of each, ascending.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (ScopeId, Range<u32>)> {
        std::iter::empty()
    }

    /// The rows of one scope, an empty range if it has none.
    pub(crate) fn scope_rows(&self, scope: ScopeId) -> Range<u32> {
        let _ = scope;
        0..0
    }

    pub(crate) fn row_groups(&self) -> Vec<Range<u32>> {
        Vec::new()
    }

    /// The rows of `scope` whose keys are in `range`, exactly. Reads key columns of at most two blocks. Not for files without
    /// stored keys.
    pub(crate) fn rows_in(&self, scope: ScopeId, range: &KeyRange) -> Result<Range<u32>, StoreError> {
        let _ = (scope, range);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// The row of each of `keys`, sorted and all of `scope`; `None` for those that are not there.
    pub(crate) fn find(&self, scope: ScopeId, keys: &[&[u8]]) -> Result<Vec<Option<u32>>, StoreError> {
        let _ = (scope, keys);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// Reads `rows`: sorted, disjoint ranges, none empty.
    pub(crate) fn read(
        self: &Arc<Self>,
        columns: &[SegmentColumn],
        rows: Vec<Range<u32>>,
        batch_rows: usize,
    ) -> Result<SegmentRead, StoreError> {
        let _ = (columns, rows, batch_rows);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// Bounds of a column of the schema, for pruning; `None` where the file states none.
    pub(crate) fn bounds(&self, column: usize) -> Option<ColumnBounds> {
        let _ = column;
        None
    }

    /// Reads the whole file and verifies all checksums; its bytes.
    pub(crate) fn verify(&self, progress: &dyn Progress) -> Result<u64, StoreError> {
        let _ = progress;
        Err(StoreError::Unsupported("being built".to_string()))
    }
}
