//! Reads rows of a segment as batches of columns.

use arrow::array::ArrayRef;

use crate::error::StoreError;
use crate::segment::RowNumbers;

/// Batches of some columns of some rows, in order.
#[derive(Debug)]
pub(crate) struct SegmentRead {}

impl SegmentRead {
    /// The next batch: the numbers of its rows, its columns, and how many rows it has. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(RowNumbers, Vec<ArrayRef>, usize)>, StoreError> {
        Err(StoreError::Unsupported("being built".to_string()))
    }
}
