//! Writes one segment file, rows in order, and its index. What the file's columns look like is `layout`'s.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::schema::types::SchemaDescriptor;

use crate::error::StoreError;
use crate::files::Files;
use crate::ids::{ScopeId, StorageId};
use crate::mover::SegmentCompression;
use crate::row_bytes;
use crate::schema::StoreSchema;
use crate::segment::blocks::SummedWriter;
use crate::segment::index::{IndexBuilder, METADATA_KEY};
use crate::segment::layout::{Layout, SegmentShape};
use crate::tuning::{ROW_GROUP_BYTES, ROW_GROUP_ROWS, SEGMENT_CHUNK_BYTES, SEGMENT_CHUNK_ROWS, SEGMENT_ROWS};

/// What the manifest has to know of a finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) rows: u32,
    pub(crate) size_bytes: u64,
    /// Of the rows as they came.
    pub(crate) memory_bytes: u64,
    /// `scope | key` of the first row, the scope alone without stored keys.
    pub(crate) min_key: Vec<u8>,
    /// Of the last row.
    pub(crate) max_key: Vec<u8>,
    pub(crate) tail_offset: u64,
    pub(crate) checksum: u64,
}

/// Writes one segment. Dropped unfinished, it leaves no file.
pub(crate) struct SegmentWriter {
    writer: Writer,
    layout: Layout,
    index: IndexBuilder,
    nan: Vec<bool>,
    /// Rows taken but not yet encoded, columns in the form of the file.
    pending: VecDeque<Piece>,
    pending_rows: usize,
    pending_bytes: usize,
    rows: u32,
    memory_bytes: u64,
    min_key: Option<Vec<u8>>,
    max_key: Vec<u8>,
    /// Of the file, for messages.
    name: String,
}

/// How columns are encoded is decided when there are rows to look at.
enum Writer {
    Waiting {
        file: Box<SummedWriter>,
        parquet: SchemaDescriptor,
        compression: SegmentCompression,
    },
    Encoding(Box<ArrowWriter<SummedWriter>>),
    /// Between the two, and after an error.
    Gone,
}

struct Piece {
    scope: ScopeId,
    keys: Option<BinaryArray>,
    columns: Vec<ArrayRef>,
    rows: usize,
}

impl Piece {
    fn slice(&self, start: usize, rows: usize) -> Self {
        Self {
            scope: self.scope,
            keys: self.keys.as_ref().map(|keys| keys.slice(start, rows)),
            columns: self.columns.iter().map(|column| column.slice(start, rows)).collect(),
            rows,
        }
    }
}

impl SegmentWriter {
    pub(crate) fn create(
        files: &Arc<Files>,
        storage: StorageId,
        path: &str,
        schema: Arc<StoreSchema>,
        shape: SegmentShape,
        compression: SegmentCompression,
    ) -> Result<Self, StoreError> {
        let layout = Layout::new(schema, shape);
        let parquet = ArrowSchemaConverter::new().convert(&layout.arrow).map_err(unwritable)?;
        let file = files.create(storage, path)?;
        Ok(Self {
            name: file.name().to_string(),
            writer: Writer::Waiting {
                file: Box::new(SummedWriter::new(file)),
                parquet,
                compression,
            },
            index: IndexBuilder::new(layout.key_positions().is_some()),
            nan: vec![false; layout.columns.len()],
            layout,
            pending: VecDeque::new(),
            pending_rows: 0,
            pending_bytes: 0,
            rows: 0,
            memory_bytes: 0,
            min_key: None,
            max_key: Vec::new(),
        })
    }

    /// Adds rows of one scope, which come after all added before in the order of (scope, key). `columns` are the schema's and
    /// then those of the shape; `keys` the encoded ones, `None` for a file without stored keys.
    pub(crate) fn write(
        &mut self,
        scope: ScopeId,
        keys: Option<&BinaryArray>,
        columns: &[ArrayRef],
    ) -> Result<(), StoreError> {
        let rows = self.check_columns(keys, columns)?;
        if rows == 0 {
            return Ok(());
        }
        let total = u32::try_from(rows).ok().and_then(|rows| self.rows.checked_add(rows));
        let total = total
            .filter(|&total| total <= SEGMENT_ROWS)
            .ok_or_else(|| StoreError::Unsupported(format!("a segment has at most {SEGMENT_ROWS} rows")))?;
        let (mut in_file, mut bytes) = (Vec::with_capacity(columns.len()), 0);
        for ((array, column), nan) in columns.iter().zip(&self.layout.columns).zip(&mut self.nan) {
            *nan = *nan || has_nan(array);
            let array = column.form.to_file(array)?;
            bytes += row_bytes::of_array(&array);
            in_file.push(array);
        }
        self.check_order(scope, keys)?;
        self.rows = total;
        self.pending_rows += rows;
        self.pending_bytes += bytes;
        self.memory_bytes += bytes as u64;
        self.pending.push_back(Piece {
            scope,
            keys: keys.cloned(),
            columns: in_file,
            rows,
        });
        while self.pending_rows >= SEGMENT_CHUNK_ROWS || self.pending_bytes >= SEGMENT_CHUNK_BYTES {
            self.encode_chunk()?;
        }
        Ok(())
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Completes the file; it is durable then.
    pub(crate) fn finish(mut self) -> Result<SegmentSummary, StoreError> {
        while self.pending_rows > 0 {
            self.encode_chunk()?;
        }
        let min_key = self
            .min_key
            .take()
            .ok_or_else(|| StoreError::Unsupported("a segment without rows cannot be written".to_string()))?;
        let mut writer = self.take_writer(&[])?;
        let name = &self.name;
        end_group(&mut writer, &mut self.index, name)?;
        // The writer buffers, and what is counted from here on has to be exact.
        writer.sync().map_err(|error| storage_failed(name, error.into()))?;
        let tail_offset = writer.bytes_written() as u64;
        let checksums = writer.inner_mut().start_tail();
        let nan_columns: Vec<usize> = (0..self.nan.len()).filter(|&column| self.nan[column]).collect();
        let index = self.index.encode(&checksums, &nan_columns);
        writer
            .write_all(&index)
            .map_err(|error| storage_failed(name, error.into()))?;
        let place = format!("{tail_offset} {}", index.len());
        writer.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_string(), place));
        let file = writer.into_inner().map_err(|error| storage_failed(name, error))?;
        let (size_bytes, checksum) = file.finish()?;
        Ok(SegmentSummary {
            rows: self.rows,
            size_bytes,
            memory_bytes: self.memory_bytes,
            min_key,
            max_key: self.max_key,
            tail_offset,
            checksum,
        })
    }

    /// Checks that there is what the layout asks for; how many rows.
    fn check_columns(&self, keys: Option<&BinaryArray>, columns: &[ArrayRef]) -> Result<usize, StoreError> {
        let wrong = |problem: String| Err(StoreError::Unsupported(format!("rows for a segment: {problem}")));
        let wanted = &self.layout.columns;
        if columns.len() != wanted.len() {
            return wrong(format!("{} columns instead of {}", columns.len(), wanted.len()));
        }
        for (column, wanted) in columns.iter().zip(wanted) {
            if column.data_type() != &wanted.data_type {
                return wrong(format!(
                    "a column of type {} instead of {}",
                    column.data_type(),
                    wanted.data_type
                ));
            }
        }
        if keys.is_some() != self.layout.key_positions().is_some() {
            return wrong("keys where none are stored, or none where they are".to_string());
        }
        let rows = match (columns.first(), keys) {
            (Some(column), _) => column.len(),
            (None, Some(keys)) => keys.len(),
            (None, None) => 0,
        };
        let lengths = columns.iter().map(|column| column.len()).chain(keys.map(Array::len));
        if lengths.into_iter().any(|length| length != rows) {
            return wrong("columns of different lengths".to_string());
        }
        Ok(rows)
    }

    /// Checks that rows follow those before, and notes the first and the last.
    fn check_order(&mut self, scope: ScopeId, keys: Option<&BinaryArray>) -> Result<(), StoreError> {
        let whole = |key: &[u8]| [&scope.0.to_be_bytes(), key].concat();
        let (first, last, sorted) = match keys {
            None => (whole(&[]), whole(&[]), true),
            Some(keys) => {
                let sorted = (1..keys.len()).all(|row| keys.value(row - 1) < keys.value(row));
                (whole(keys.value(0)), whole(keys.value(keys.len() - 1)), sorted)
            }
        };
        // Without stored keys, the rows of one scope may come in any order.
        let follows = self.min_key.is_none() || self.max_key < first || (keys.is_none() && self.max_key == first);
        if !sorted || !follows || keys.is_some_and(|keys| keys.null_count() > 0) {
            let name = &self.name;
            return Err(StoreError::Storage(format!(
                "{name}: rows are not in the order of their keys"
            )));
        }
        self.min_key.get_or_insert(first);
        self.max_key = last;
        Ok(())
    }

    /// Encodes the first of the gathered rows, as many as make a chunk.
    fn encode_chunk(&mut self) -> Result<(), StoreError> {
        let in_group = match &self.writer {
            Writer::Encoding(writer) => writer.in_progress_rows(),
            Writer::Waiting { .. } | Writer::Gone => 0,
        };
        let room = ROW_GROUP_ROWS - in_group;
        // Of long rows fewer, so that a row group can end when it is large enough.
        let row_bytes = self.pending_bytes / self.pending_rows.max(1) + 1;
        let limit = room
            .min(SEGMENT_CHUNK_ROWS)
            .min(4 * SEGMENT_CHUNK_BYTES / row_bytes)
            .max(1);
        let (mut pieces, mut rows) = (Vec::new(), 0);
        while let Some(piece) = self.pending.pop_front() {
            let wanted = limit - rows;
            if piece.rows > wanted {
                self.pending.push_front(piece.slice(wanted, piece.rows - wanted));
                pieces.push(piece.slice(0, wanted));
                rows += wanted;
            } else {
                rows += piece.rows;
                pieces.push(piece);
            }
            if rows == limit {
                break;
            }
        }
        self.pending_rows -= rows;
        self.pending_bytes = self
            .pending
            .iter()
            .flat_map(|piece| &piece.columns)
            .map(row_bytes::of_array)
            .sum();
        let columns: Vec<ArrayRef> = (0..self.layout.columns.len())
            .map(|column| {
                let parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece.columns[column].as_ref()).collect();
                match parts.as_slice() {
                    [_] => Ok(pieces[0].columns[column].clone()),
                    parts => arrow::compute::concat(parts),
                }
            })
            .collect::<Result<_, _>>()
            .map_err(|error| {
                self.writer = Writer::Gone;
                StoreError::Unsupported(error.to_string())
            })?;
        // After an error it stays away: rows are lost, and there can be no file.
        let mut writer = self.take_writer(&columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.layout.arrow.clone(), columns, &options)
            .map_err(|error| StoreError::Unsupported(error.to_string()))?;
        writer
            .write(&batch)
            .map_err(|error| storage_failed(&self.name, error))?;
        for piece in &pieces {
            let keys = piece
                .keys
                .as_ref()
                .map(|keys| (0..keys.len()).map(|row| keys.value(row)));
            // A piece has fewer rows than a file may have.
            let rows = u32::try_from(piece.rows).unwrap_or(u32::MAX);
            self.index.add(piece.scope, rows, keys);
        }
        if writer.in_progress_rows() >= ROW_GROUP_ROWS || writer.in_progress_size() >= ROW_GROUP_BYTES {
            end_group(&mut writer, &mut self.index, &self.name)?;
        }
        self.writer = Writer::Encoding(writer);
        Ok(())
    }

    /// The writer, started with the first rows if it has not been.
    fn take_writer(&mut self, first: &[ArrayRef]) -> Result<Box<ArrowWriter<SummedWriter>>, StoreError> {
        let (file, parquet, compression) = match std::mem::replace(&mut self.writer, Writer::Gone) {
            Writer::Encoding(writer) => return Ok(writer),
            Writer::Waiting {
                file,
                parquet,
                compression,
            } => (file, parquet, compression),
            Writer::Gone => {
                let name = &self.name;
                return Err(StoreError::Storage(format!("{name}: writing it has failed before")));
            }
        };
        let properties = self
            .layout
            .properties(compression, &parquet, first)
            .map_err(unwritable)?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_parquet_schema(parquet);
        let writer = ArrowWriter::try_new_with_options(*file, self.layout.arrow.clone(), options);
        writer.map(Box::new).map_err(unwritable)
    }
}

fn end_group(writer: &mut ArrowWriter<SummedWriter>, index: &mut IndexBuilder, name: &str) -> Result<(), StoreError> {
    writer.flush().map_err(|error| storage_failed(name, error))?;
    index.end_group();
    Ok(())
}

fn unwritable(error: ParquetError) -> StoreError {
    StoreError::Unsupported(error.to_string())
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("file", &self.name)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// The storage's own words if it was the storage that failed.
fn storage_failed(name: &str, error: ParquetError) -> StoreError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(stored) = inner.and_then(|inner| inner.downcast_ref::<StoreError>()) {
            return stored.clone();
        }
        cause = error.source();
    }
    StoreError::Storage(format!("{name}: {error}"))
}

/// NaN has no place in Parquet's statistics: a column with one has no bounds.
fn has_nan(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float16 => array
            .as_primitive::<Float16Type>()
            .values()
            .iter()
            .any(|value| value.is_nan()),
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .any(|value| value.is_nan()),
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .any(|value| value.is_nan()),
        _ => false,
    }
}
