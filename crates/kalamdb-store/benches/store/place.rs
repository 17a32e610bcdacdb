//! A store in a temporary directory, and what is done to it.

use std::cell::Cell;
use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use futures::executor::block_on;
use futures::future::join_all;
use kalamdb_store::{
    BulkLoad, Durability, KeyRange, Lifetime, OnDuplicate, Progress, Put, PutKey, ScanColumn, ScanOrder, ScanSpec,
    SchemaVersion, ScopeId, SeenSegments, SegmentCompression, SegmentOptions, Step, StorageId, Store, StoreError,
    StoreId, StoreOptions, TableChange, TableClaim, TableVersion, WriteRequest,
};

use crate::rows::Shape;

/// Of every table.
const VERSION: SchemaVersion = SchemaVersion(1);
/// Rows of one request when a table is filled with hot rows.
const FILL_ROWS: u64 = 1000;
/// Rows of a batch that a scan returns.
const SCAN_ROWS: usize = 8192;
const OPTIONS: SegmentOptions = SegmentOptions {
    storage: StorageId::DEFAULT,
    compression: SegmentCompression::Lz4,
};

/// See above.
pub(crate) struct Place {
    store: Arc<Store<()>>,
    next_table: Cell<u32>,
    // The last field: the directory goes when the store is closed.
    _directory: tempfile::TempDir,
}

/// A table that is retired when this is dropped, which criterion does not measure.
pub(crate) struct Retired<'a> {
    place: &'a Place,
    pub(crate) store: StoreId,
}

impl Drop for Retired<'_> {
    fn drop(&mut self) {
        self.place.step(TableChange::Retire(self.store));
    }
}

impl Place {
    /// A new store, with enough memory that rows of the usual number are read from it and not from disk.
    pub(crate) fn new(durability: Durability) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = StoreOptions {
            path: directory.path().to_path_buf(),
            durability,
            block_cache_bytes: 256 << 20,
            segment_cache_bytes: 256 << 20,
            write_buffer_bytes: 256 << 20,
        };
        let store = Store::open(options, (), |_, _| Ok::<_, StoreError>(())).expect("the store opens");
        Self {
            store,
            next_table: Cell::new(1000),
            _directory: directory,
        }
    }

    pub(crate) fn create(&self, shape: &Shape, table: StoreId) {
        assert_eq!(shape.schema.version, VERSION);
        let version = TableVersion::new(VERSION, Lifetime::Durable);
        self.step(TableChange::Create(table, version));
    }

    pub(crate) fn new_table(&self, shape: &Shape) -> Retired<'_> {
        let store = StoreId(self.next_table.replace(self.next_table.get() + 1));
        self.create(shape, store);
        Retired { place: self, store }
    }

    fn step(&self, change: TableChange) {
        let step = Step {
            changes: vec![change],
            removals: vec![],
            puts: vec![],
            meta: vec![],
            catalog: None,
            now_micros: 0,
        };
        block_on(self.store.step(step)).expect("the step is written");
    }

    /// Submits requests, all of them before the first answer, and waits for the last.
    pub(crate) fn put(&self, shape: &Shape, table: StoreId, requests: &[Vec<ArrayRef>]) {
        let commits = requests.iter().map(|columns| {
            let mut key = Vec::new();
            let puts = (0..columns[0].len()).map(|row| {
                key.clear();
                shape.encode_key(columns, row, &mut key);
                Put {
                    store: table,
                    scope: ScopeId::GLOBAL,
                    key: PutKey::Key(key.clone()),
                    value: shape.rows.encode(columns, row, None).expect("a row"),
                }
            });
            self.store.commit(WriteRequest {
                validated_at: self.store.state().seq(),
                tables: vec![TableClaim {
                    store: table,
                    schema_version: VERSION,
                    scope: ScopeId::GLOBAL,
                    exclusive: false,
                }],
                removals: vec![],
                puts: puts.collect(),
                now_micros: 0,
            })
        });
        for committed in block_on(join_all(commits)) {
            committed.expect("committed");
        }
    }

    /// Makes hot rows.
    pub(crate) fn put_all(&self, shape: &Shape, table: StoreId, rows: Range<u64>) {
        for start in rows.clone().step_by(FILL_ROWS as usize) {
            let numbers: Vec<u64> = (start..rows.end.min(start + FILL_ROWS)).collect();
            self.put(shape, table, &[shape.columns(&numbers)]);
        }
    }

    /// Loads batches and publishes them.
    pub(crate) fn load(&self, shape: &Shape, table: StoreId, batches: &[Vec<ArrayRef>]) {
        let (scope, schema) = (ScopeId::GLOBAL, &shape.schema);
        let load = BulkLoad::begin(&self.store, table, scope, schema, &OPTIONS, OnDuplicate::Fail, false);
        let mut load = load.expect("begins");
        for columns in batches {
            load.write(columns, columns[0].len()).expect("writes");
        }
        let publication = block_on(load.finish()).expect("finishes");
        self.step(TableChange::Publish(publication));
    }

    /// Rows that were moved.
    pub(crate) fn flush(&self, shape: &Shape, table: StoreId) -> u64 {
        let moved = self.store.flush(table, &shape.schema, &OPTIONS, &Quiet);
        moved.expect("flushes").rows
    }

    /// Rows that were merged.
    pub(crate) fn compact(&self, shape: &Shape, table: StoreId) -> u64 {
        let moved = self.store.compact(table, &shape.schema, &OPTIONS, true, &Quiet);
        moved.expect("is compacted").rows
    }

    /// How many rows there are.
    pub(crate) fn scan(&self, shape: &Shape, table: StoreId, columns: &[usize]) -> u64 {
        let state = self.store.state();
        let mut scan = state
            .scan(&shape.schema, spec(shape, table, columns))
            .expect("the scan starts");
        let mut rows = 0;
        while let Some(batch) = scan.next_batch().expect("the scan goes on") {
            rows += batch.num_rows() as u64;
        }
        rows
    }

    /// One row.
    pub(crate) fn get(&self, shape: &Shape, table: StoreId, columns: &[usize], key: &[u8]) -> RecordBatch {
        let row = self
            .store
            .state()
            .get(&shape.schema, &spec(shape, table, columns), key)
            .expect("reads");
        assert_eq!(row.num_rows(), 1);
        row
    }
}

fn spec(shape: &Shape, table: StoreId, columns: &[usize]) -> ScanSpec {
    let fields = columns.iter().map(|&column| {
        let stored = &shape.schema.columns[column];
        Field::new(stored.id.to_string(), stored.data_type.clone(), true)
    });
    ScanSpec {
        store: table,
        scope: ScopeId::GLOBAL,
        range: KeyRange {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        },
        columns: columns.iter().map(|&column| ScanColumn::Column(column)).collect(),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        now_micros: 0,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: SCAN_ROWS,
        seen: SeenSegments::default(),
    }
}

/// Tells nobody how far a mover is.
struct Quiet;

impl Progress for Quiet {
    fn expect(&self, _: u64) {}

    fn advance(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}
