//! The columns of a segment file: their names, order, types in the file and encodings.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::SchemaDescriptor;

use crate::mover::SegmentCompression;
use crate::row::fixed_width;
use crate::schema::StoreSchema;
use crate::segment::SegmentColumn;
use crate::segment::form::Form;
use crate::tuning::{DICTIONARY_BYTES, PAGE_BYTES, PAGE_ROWS, SAMPLE_ROWS, ZSTD_LEVEL};

/// Which columns a segment has beside the schema's: `_row_id`, then `_seq` and `_updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentShape {
    /// `_row_id`, UInt64: of tables without a key whose rows have moved.
    pub(crate) row_ids: bool,
    /// `_seq`, UInt64, and `_updated`, Timestamp(µs, "UTC").
    pub(crate) seqs: bool,
}

const ROW_ID: &str = "_row_id";
const SEQ: &str = "_seq";
const UPDATED: &str = "_updated";

/// One column of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileColumn {
    pub(crate) data_type: DataType,
    pub(crate) form: Form,
}

/// The columns of a file: those of a schema, then those of a shape.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) schema: Arc<StoreSchema>,
    pub(crate) columns: Vec<FileColumn>,
    /// With the names and types in the file.
    pub(crate) arrow: SchemaRef,
}

impl Layout {
    pub(crate) fn new(schema: Arc<StoreSchema>, shape: SegmentShape) -> Self {
        let mut columns = Vec::with_capacity(schema.columns.len() + 3);
        let mut fields = Vec::with_capacity(columns.capacity());
        for column in &schema.columns {
            let form = Form::of(&column.data_type);
            fields.push(Field::new(
                format!("c{}", column.id),
                form.file_type(&column.data_type),
                true,
            ));
            columns.push(FileColumn {
                data_type: column.data_type.clone(),
                form,
            });
        }
        let mut add = |name: &str, data_type: DataType| {
            fields.push(Field::new(name, data_type.clone(), false));
            columns.push(FileColumn {
                data_type,
                form: Form::Same,
            });
        };
        if shape.row_ids {
            add(ROW_ID, DataType::UInt64);
        }
        if shape.seqs {
            add(SEQ, DataType::UInt64);
            add(UPDATED, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        }
        Self {
            schema,
            columns,
            arrow: Arc::new(Schema::new(fields)),
        }
    }

    /// Where in the file a column is; `None` if the file has none, and for the key, which several may make up.
    pub(crate) fn position(&self, column: SegmentColumn) -> Option<usize> {
        let name = match column {
            SegmentColumn::Column(index) => return (index < self.schema.columns.len()).then_some(index),
            SegmentColumn::Key => return None,
            SegmentColumn::RowId => ROW_ID,
            SegmentColumn::Seq => SEQ,
            SegmentColumn::Updated => UPDATED,
        };
        // A column of the schema is never called so.
        self.arrow.index_of(name).ok()
    }

    /// The columns in the file that make up the key; `None` if the rows have no stored key.
    pub(crate) fn key_positions(&self) -> Option<Vec<usize>> {
        match self.schema.key.is_empty() {
            false => Some(self.schema.key.clone()),
            true => self.position(SegmentColumn::RowId).map(|position| vec![position]),
        }
    }

    /// How the columns are written, given the schema that they have in Parquet and the first rows.
    pub(crate) fn properties(
        &self,
        compression: SegmentCompression,
        parquet: &SchemaDescriptor,
        sample: &[ArrayRef],
    ) -> Result<WriterProperties, ParquetError> {
        let compression = match compression {
            SegmentCompression::Lz4 => Compression::LZ4_RAW,
            SegmentCompression::Zstd => Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?),
            SegmentCompression::Snappy => Compression::SNAPPY,
            SegmentCompression::None => Compression::UNCOMPRESSED,
        };
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("kalamdb ", env!("CARGO_PKG_VERSION")).to_string())
            .set_compression(compression)
            // The writer ends row groups itself.
            .set_max_row_group_row_count(None)
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_dictionary_enabled(true)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_statistics_enabled(EnabledStatistics::Page);
        let key = self.key_positions().unwrap_or_default();
        let seq = self.position(SegmentColumn::Seq);
        for column in parquet.columns() {
            let name = column.path().parts().first();
            let Some(position) = name.and_then(|name| self.arrow.index_of(name).ok()) else {
                continue;
            };
            let integer = matches!(column.physical_type(), Type::INT32 | Type::INT64);
            let sorted = key.contains(&position) || seq == Some(position);
            // Sorted numbers have small differences; a dictionary of values that hardly repeat is read for nothing.
            if sorted && integer {
                properties = properties.set_column_encoding(column.path().clone(), Encoding::DELTA_BINARY_PACKED);
            }
            let distinct = key.last() == Some(&position) || sample.get(position).is_some_and(mostly_distinct);
            if distinct || (sorted && integer) {
                properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
            }
        }
        Ok(properties.build())
    }
}

/// Whether most values are different from each other, as far as these few rows tell.
fn mostly_distinct(sample: &ArrayRef) -> bool {
    fn count<'a, T: Hash + Eq + 'a>(values: impl Iterator<Item = T>) -> usize {
        values.collect::<HashSet<T>>().len()
    }
    let rows = sample.len() - sample.null_count();
    if rows < SAMPLE_ROWS {
        return false;
    }
    let data = sample.to_data();
    let distinct = match sample.data_type() {
        DataType::Utf8 => count(sample.as_string::<i32>().iter().flatten()),
        DataType::LargeUtf8 => count(sample.as_string::<i64>().iter().flatten()),
        DataType::Binary => count(sample.as_binary::<i32>().iter().flatten()),
        DataType::LargeBinary => count(sample.as_binary::<i64>().iter().flatten()),
        other => match fixed_width(other) {
            Some(width) if width > 0 => {
                let values = data.buffers()[0]
                    .as_slice()
                    .chunks_exact(width)
                    .skip(data.offset())
                    .take(data.len());
                count(
                    values
                        .enumerate()
                        .filter(|(row, _)| data.is_valid(*row))
                        .map(|(_, value)| value),
                )
            }
            _ => return false,
        },
    };
    distinct * 4 > rows * 3
}
