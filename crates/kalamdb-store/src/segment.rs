//! Segment files: Parquet sorted by (scope, key), with an index of our own inside. Which segments a table has is `manifest`'s.
//!
//! ```text
//! "PAR1", row groups | index (see `index`), Parquet's page indexes, Parquet's footer, "PAR1"
//!  blocks of 16 KiB, |  the tail, read when the file is opened and held decoded; one checksum of it is in the manifest
//!  each with its     |
//!  checksum in the   |
//!  index             |
//! ```
//!
//! Columns are called `c<column id>`, so that a renamed one needs no new file; then come `_row_id`, `_seq` and `_updated` as far
//! as the file has them. Scopes and encoded keys are no columns: the index says which rows are whose, and keys are encoded anew
//! from the key columns.

mod blocks;
mod bounds;
mod file;
mod form;
mod index;
mod keys;
mod layout;
mod read;
#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "rows are read by a list of ranges, often of one"
)]
mod tests;
mod writer;

use std::ops::Range;

pub use bounds::Bounds;
pub(crate) use file::SegmentFile;
pub(crate) use layout::SegmentShape;
pub(crate) use read::{ReadSize, SegmentRead};
pub(crate) use writer::{SegmentSummary, SegmentWriter};

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
