//! The smallest and largest values of a segment's column as its file states them.

use std::ops::Range;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use crate::segment::file::SegmentFile;
use crate::segment::form::Form;

/// Bounds of a column, of its row groups and of its pages.
#[derive(Clone, Debug)]
pub(crate) struct ColumnBounds {
    /// Of the row groups, in the order of [`SegmentFile::row_groups`].
    pub(crate) row_groups: Bounds,
    /// Of the column's pages; other columns may have other pages.
    pub(crate) pages: Bounds,
}

/// Bounds of parts of a column, one value for each part; null where unknown, which includes parts that have only nulls.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The rows of each part.
    pub rows: Vec<Range<u32>>,
    /// Not larger than any value, of the column's type. It need not be a value: long ones are cut.
    pub min: ArrayRef,
    /// Not smaller than any value, of the column's type.
    pub max: ArrayRef,
    /// How many nulls.
    pub nulls: UInt64Array,
}

/// Bounds of a column of the schema.
pub(super) fn of(file: &SegmentFile, position: usize) -> Option<ColumnBounds> {
    let column = file
        .layout
        .columns
        .get(position)
        .filter(|_| position < file.layout.schema.columns.len())?;
    // Values in another form are compared in another way; intervals have no order that bytes would keep; of durations the
    // `parquet` crate gives no statistics.
    let unordered = matches!(
        column.data_type,
        DataType::Null | DataType::Interval(_) | DataType::Duration(_)
    );
    let ordered = !column.data_type.is_nested() && !unordered;
    if column.form != Form::Same || !ordered || file.index.nan_columns.contains(&position) {
        return None;
    }
    let metadata = file.metadata.metadata();
    let parquet = metadata.file_metadata().schema_descr();
    let groups = metadata.row_groups();
    let numbers: Vec<usize> = (0..groups.len()).collect();
    let (column_index, offset_index) = (metadata.column_index()?, metadata.offset_index()?);
    let name = file.layout.arrow.field(position).name();
    // What fails to convert is unknown: bounds only save work.
    let converter = StatisticsConverter::try_new(name, &file.layout.arrow, parquet)
        .ok()?
        .with_missing_null_counts_as_zero(false);
    let leaf = converter.parquet_column_index()?;
    let row_groups = Bounds {
        rows: file.row_groups(),
        min: converter.row_group_mins(groups).ok()?,
        max: converter.row_group_maxes(groups).ok()?,
        nulls: converter.row_group_null_counts(groups).ok()?,
    };
    let mut rows = Vec::new();
    for (group, index) in row_groups.rows.iter().zip(offset_index) {
        let starts = index.get(leaf)?.page_locations().iter();
        let starts: Vec<u32> = starts
            .map(|page| u32::try_from(page.first_row_index).ok())
            .collect::<Option<_>>()?;
        let ends = starts
            .iter()
            .skip(1)
            .map(|start| group.start + start)
            .chain([group.end]);
        rows.extend(starts.iter().zip(ends).map(|(start, end)| group.start + start..end));
    }
    let pages = Bounds {
        rows,
        min: converter.data_page_mins(column_index, offset_index, &numbers).ok()?,
        max: converter.data_page_maxes(column_index, offset_index, &numbers).ok()?,
        nulls: converter
            .data_page_null_counts(column_index, offset_index, &numbers)
            .ok()?,
    };
    let consistent = |bounds: &Bounds| {
        bounds.min.len() == bounds.rows.len()
            && bounds.max.len() == bounds.rows.len()
            && bounds.nulls.len() == bounds.rows.len()
            && *bounds.min.data_type() == column.data_type
            && *bounds.max.data_type() == column.data_type
    };
    (consistent(&row_groups) && consistent(&pages)).then_some(ColumnBounds { row_groups, pages })
}
