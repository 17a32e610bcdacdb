//! What the tests of segment files share: a storage in a temporary directory, and files with rows of it.

mod damage;
mod lookups;
mod types;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::datatypes::DataType;

use super::*;
use crate::error::StoreError;
use crate::files::Files;
use crate::manifest::{SegmentEntry, SegmentSeqs};
use crate::mover::SegmentCompression;
use crate::segment::keys::KeyColumns;
use crate::segment::layout::Layout;
use crate::storage_marker::Marker;
use crate::{ColumnId, Lifetime, SchemaVersion, ScopeId, SegmentId, Seq, StorageId, StoreSchema, StoredColumn};

const PATH: &str = "7/12-ab.parquet";

struct Place {
    directory: tempfile::TempDir,
    files: Arc<Files>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Arc::new(Files::new());
        files
            .create_and_add(&Marker::new("test", StorageId::DEFAULT), directory.path())
            .expect("a storage");
        Self { directory, files }
    }

    fn writer(&self, schema: &Arc<StoreSchema>, shape: SegmentShape) -> SegmentWriter {
        let compression = SegmentCompression::Lz4;
        SegmentWriter::create(
            &self.files,
            StorageId::DEFAULT,
            PATH,
            schema.clone(),
            shape,
            compression,
        )
        .expect("a writer")
    }

    /// Writes a file of these rows of scopes, which are in order.
    fn write(&self, schema: &Arc<StoreSchema>, shape: SegmentShape, scopes: &[(u64, Vec<ArrayRef>)]) -> SegmentEntry {
        let mut writer = self.writer(schema, shape);
        for (scope, columns) in scopes {
            let keys = keys_of(schema, shape, columns);
            writer.write(ScopeId(*scope), keys.as_ref(), columns).expect("written");
        }
        entry(writer.finish().expect("finished"), shape)
    }

    fn open(&self, schema: &Arc<StoreSchema>, entry: &SegmentEntry) -> Arc<SegmentFile> {
        Arc::new(SegmentFile::open(&self.files, entry, schema).expect("opens"))
    }
}

const PLAIN: SegmentShape = SegmentShape {
    row_ids: false,
    seqs: false,
};

fn schema_of(types: &[DataType], key: Vec<usize>) -> Arc<StoreSchema> {
    Arc::new(StoreSchema {
        version: SchemaVersion(1),
        columns: (1..)
            .zip(types)
            .map(|(id, data_type)| StoredColumn {
                id: ColumnId(id),
                data_type: data_type.clone(),
            })
            .collect(),
        key,
        lifetime: Lifetime::Durable,
    })
}

fn keys_of(schema: &Arc<StoreSchema>, shape: SegmentShape, columns: &[ArrayRef]) -> Option<BinaryArray> {
    let keys = KeyColumns::new(&Layout::new(schema.clone(), shape)).expect("key types")?;
    let columns: Vec<ArrayRef> = keys.positions().iter().map(|&at| columns[at].clone()).collect();
    Some(keys.encode_all(&columns).expect("encodes"))
}

fn entry(summary: SegmentSummary, shape: SegmentShape) -> SegmentEntry {
    let seqs = match shape.seqs {
        true => SegmentSeqs::Stored {
            min: Seq(1),
            max: Seq(2),
        },
        false => SegmentSeqs::Base {
            base: Seq(1),
            updated_micros: 0,
        },
    };
    SegmentEntry {
        segment: SegmentId(12),
        run: 1,
        storage: StorageId::DEFAULT,
        path: PATH.to_string(),
        rows: summary.rows,
        size_bytes: summary.size_bytes,
        memory_bytes: summary.memory_bytes,
        min_key: summary.min_key,
        max_key: summary.max_key,
        schema_version: SchemaVersion(1),
        seqs,
        tail_offset: summary.tail_offset,
        checksum: summary.checksum,
        created_micros: 0,
    }
}

/// Everything that a read gives: row numbers, and each column as one array.
fn read(
    file: &Arc<SegmentFile>,
    columns: &[SegmentColumn],
    rows: Vec<Range<u32>>,
    batch_rows: usize,
) -> Result<(Vec<u32>, Vec<ArrayRef>), StoreError> {
    let mut read = file.read(columns, rows, batch_rows)?;
    let (mut numbers, mut parts) = (Vec::new(), vec![Vec::new(); columns.len()]);
    while let Some((batch_numbers, batch, rows)) = read.next()? {
        assert!(rows > 0 && rows <= batch_rows);
        match batch_numbers {
            RowNumbers::Range(range) => numbers.extend(range),
            RowNumbers::List(list) => numbers.extend(list),
        }
        for (column, parts) in batch.into_iter().zip(&mut parts) {
            assert_eq!(column.len(), rows);
            parts.push(column);
        }
    }
    let concat = |parts: &Vec<ArrayRef>| {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        arrow::compute::concat(&parts).expect("batches of one type")
    };
    Ok((numbers, parts.iter().map(concat).collect()))
}

struct Quiet;

impl crate::Progress for Quiet {
    fn expect(&self, _rows: u64) {}

    fn advance(&self, _rows: u64, _bytes: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}
