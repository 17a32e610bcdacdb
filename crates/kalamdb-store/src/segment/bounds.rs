//! The smallest and largest values of a segment's column as its file states them.

use std::ops::Range;

use arrow::array::{ArrayRef, UInt64Array};

/// Bounds of a column: of each row group, and of each page where the file has them.
#[derive(Clone, Debug)]
pub(crate) struct ColumnBounds {
    /// Of the row groups, in the order of [`crate::segment::SegmentFile::row_groups`].
    pub(crate) row_groups: PageBounds,
    /// Of the data pages of the column.
    pub(crate) pages: Option<PageBounds>,
}

/// Bounds of parts of a column, one value for each part; null where unknown.
#[derive(Clone, Debug)]
pub(crate) struct PageBounds {
    /// The rows of each part.
    pub(crate) rows: Vec<Range<u32>>,
    /// Not larger than any value, of the column's type.
    pub(crate) min: ArrayRef,
    /// Not smaller than any value, of the column's type.
    pub(crate) max: ArrayRef,
    /// How many nulls.
    pub(crate) nulls: UInt64Array,
}
