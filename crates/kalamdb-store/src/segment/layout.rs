//! The columns of a segment file: their names, order, types in the file and encodings.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use crate::mover::SegmentCompression;
use crate::schema::StoreSchema;
use crate::segment::SegmentColumn;
use crate::segment::form::Form;
use crate::tuning::{DICTIONARY_BYTES, PAGE_BYTES, PAGE_ROWS, ZSTD_LEVEL};

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
    pub(crate) shape: SegmentShape,
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
            shape,
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

    /// How the columns are written, given the schema that they have in Parquet.
    pub(crate) fn properties(
        &self,
        compression: SegmentCompression,
        parquet: &SchemaDescriptor,
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
        // Values that hardly repeat: a dictionary would be read for nothing, and sorted numbers have small differences.
        let last_of_key = self.key_positions().and_then(|positions| positions.last().copied());
        let distinct = [last_of_key, self.position(SegmentColumn::Seq)];
        for position in distinct.into_iter().flatten() {
            let Some(column) = parquet
                .columns()
                .iter()
                .find(|column| is_root(column.path(), &self.arrow, position))
            else {
                continue;
            };
            properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
            if matches!(column.physical_type(), Type::INT32 | Type::INT64) {
                properties = properties.set_column_encoding(column.path().clone(), Encoding::DELTA_BINARY_PACKED);
            }
        }
        Ok(properties.build())
    }
}

fn is_root(path: &ColumnPath, schema: &Schema, position: usize) -> bool {
    path.parts().first() == Some(schema.field(position).name())
}
