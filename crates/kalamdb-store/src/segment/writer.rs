//! Writes one segment file, row by row in order, and its index.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};

use crate::error::StoreError;
use crate::files::Files;
use crate::ids::{ScopeId, StorageId};
use crate::mover::SegmentCompression;
use crate::schema::StoreSchema;

/// Which columns a segment has beside the schema's: `_row_id`, then `_seq` and `_updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentShape {
    /// `_row_id`, UInt64: of tables without a key whose rows have moved.
    pub(crate) row_ids: bool,
    /// `_seq`, UInt64, and `_updated`, Timestamp(µs, "UTC").
    pub(crate) seqs: bool,
}

/// What the manifest has to know of a finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) rows: u32,
    pub(crate) size_bytes: u64,
    /// `scope | key` of the first row, the scope alone without stored keys.
    pub(crate) min_key: Vec<u8>,
    /// Of the last row.
    pub(crate) max_key: Vec<u8>,
    pub(crate) tail_offset: u64,
    pub(crate) checksum: u64,
}

/// Writes one segment. Dropped unfinished, it leaves no file.
#[derive(Debug)]
pub(crate) struct SegmentWriter {}

impl SegmentWriter {
    pub(crate) fn create(
        files: &Arc<Files>,
        storage: StorageId,
        path: &str,
        schema: Arc<StoreSchema>,
        shape: SegmentShape,
        compression: SegmentCompression,
    ) -> Result<Self, StoreError> {
        let _ = (files, storage, path, schema, shape, compression);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// Adds rows of one scope, which come after all added before in the order of (scope, key). `columns` are the schema's and
    /// then those of the shape; `keys` the encoded ones, `None` for a file without stored keys.
    pub(crate) fn write(
        &mut self,
        scope: ScopeId,
        keys: Option<&BinaryArray>,
        columns: &[ArrayRef],
    ) -> Result<(), StoreError> {
        let _ = (scope, keys, columns);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    pub(crate) fn rows(&self) -> u32 {
        0
    }

    /// About how large the file will be with what was added so far.
    pub(crate) fn bytes(&self) -> u64 {
        0
    }

    /// Completes the file; it is durable then.
    pub(crate) fn finish(self) -> Result<SegmentSummary, StoreError> {
        Err(StoreError::Unsupported("being built".to_string()))
    }
}
