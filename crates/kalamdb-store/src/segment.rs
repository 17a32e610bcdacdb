//! Segment files: Parquet sorted by (scope, key), with an index of our own inside. Which segments a table has is `manifest`'s.

mod bounds;
mod file;
mod read;
mod writer;

use std::ops::Range;

pub(crate) use bounds::{ColumnBounds, PageBounds};
pub(crate) use file::SegmentFile;
pub(crate) use read::SegmentRead;
pub(crate) use writer::{SegmentShape, SegmentSummary, SegmentWriter};

/// What is read of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentColumn {
    /// The column at this index of the schema.
    Column(usize),
    /// The encoded key without the scope, Binary. Segments without stored keys have none.
    Key,
    /// The stored row id, UInt64.
    RowId,
    /// The stored `_seq`, UInt64.
    Seq,
    /// The stored `_updated`, Timestamp(µs, "UTC").
    Updated,
}

/// The numbers of the rows of a batch, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowNumbers {
    /// All of these.
    Range(Range<u32>),
    /// These, with gaps.
    List(Vec<u32>),
}
