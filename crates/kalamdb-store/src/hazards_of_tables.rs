//! Tables of every shape on their way through everything that moves rows: the hot tier, flushes, loads, compactions, restarts.
//! After each step all ways of reading are compared with a map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use futures::executor::block_on;
use parking_lot::Mutex;

use crate::testing::{At, AtEach, T, TestStore, VERSION, claim, finish, new_store, open, segment_options, spec, step};
use crate::{
    BulkLoad, ColumnId, DbState, KeyEncoder, Lifetime, Location, OnDuplicate, Put, PutKey, Removal, RowEncoder,
    ScanColumn, ScanOrder, ScanSpec, ScopeId, StoreSchema, StoredColumn, TableChange, WriteRequest,
};

/// What a table looks like. The first column is always an id, an Int64 that no two rows of a scope share.
#[derive(Clone)]
struct Shape {
    schema: Arc<StoreSchema>,
    /// The columns of a row, given its id and a version of it.
    row: fn(i64, i64) -> Vec<ArrayRef>,
}

/// What a row should be: its key and its columns, each as text.
type Row = (Vec<u8>, Vec<String>);
type Model = BTreeMap<(u64, i64), Row>;

struct Table {
    directory: tempfile::TempDir,
    store: Option<Arc<TestStore>>,
    shape: Shape,
    scopes: Vec<u64>,
    model: Mutex<Model>,
    old: Vec<(Arc<DbState<u64>>, Model)>,
}

fn shape(types: &[DataType], key: Vec<usize>, row: fn(i64, i64) -> Vec<ArrayRef>) -> Shape {
    let columns = (1..).zip(types).map(|(id, data_type)| StoredColumn {
        id: ColumnId(id),
        data_type: data_type.clone(),
    });
    Shape {
        schema: Arc::new(StoreSchema {
            version: VERSION,
            columns: columns.collect(),
            key,
            lifetime: Lifetime::Durable,
        }),
        row,
    }
}

fn id_and_text(id: i64, version: i64) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from(vec![id])),
        Arc::new(StringArray::from(vec![format!("{id} {version}")])),
    ]
}

fn texts(columns: &[ArrayRef], row: usize) -> Vec<String> {
    // By what they show, so that NaN is as good as any other value.
    columns
        .iter()
        .map(|column| format!("{:?}", column.slice(row, 1)))
        .collect()
}

impl Table {
    fn new(shape: Shape, scopes: &[u64]) -> Self {
        let (directory, store) = new_store();
        Self {
            directory,
            store: Some(store),
            shape,
            scopes: scopes.to_vec(),
            model: Mutex::default(),
            old: Vec::new(),
        }
    }

    fn store(&self) -> &Arc<TestStore> {
        self.store.as_ref().expect("open")
    }

    fn keyless(&self) -> bool {
        self.shape.schema.key.is_empty()
    }

    /// The key of a row, unless it gets one when it is committed.
    fn key(&self, columns: &[ArrayRef]) -> Option<Vec<u8>> {
        if self.keyless() {
            return None;
        }
        let schema = &self.shape.schema;
        let columns: Vec<ArrayRef> = schema.key.iter().map(|&column| columns[column].clone()).collect();
        let mut key = Vec::new();
        let encoder = KeyEncoder::new(schema).expect("a key");
        encoder.encode(&columns, 0, &mut key).expect("encodes");
        Some(key)
    }

    fn put(&self, scope: u64, key: PutKey, columns: &[ArrayRef]) -> Put {
        let encoder = RowEncoder::new(self.shape.schema.clone()).expect("a schema");
        Put {
            store: T,
            scope: ScopeId(scope),
            key,
            value: encoder.encode(columns, 0, None).expect("encodes"),
        }
    }

    fn removal(&self, scope: u64, key: &[u8]) -> Removal {
        let found = self.store().state().find(&self.shape.schema, T, ScopeId(scope), key, 0);
        let found = found.expect("reads").expect("is there");
        Removal {
            store: T,
            scope: ScopeId(scope),
            key: key.to_vec(),
            location: found.location,
            seq: found.row.seq,
        }
    }

    fn request(&self) -> WriteRequest {
        WriteRequest {
            validated_at: self.store().state().seq(),
            tables: self.scopes.iter().map(|&scope| claim(T, ScopeId(scope))).collect(),
            removals: vec![],
            puts: vec![],
            now_micros: 0,
        }
    }

    fn insert(&self, ids: std::ops::Range<i64>) {
        for &scope in &self.scopes {
            let rows: Vec<Vec<ArrayRef>> = ids.clone().map(|id| (self.shape.row)(id, 0)).collect();
            let mut request = self.request();
            request.puts = rows
                .iter()
                .map(|columns| self.put(scope, self.key(columns).map_or(PutKey::RowId, PutKey::Key), columns))
                .collect();
            let committed = block_on(self.store().commit(request)).expect("commits");
            let first = committed.seq.0 + 1 - rows.len() as u64;
            let mut model = self.model.lock();
            for ((seq, id), columns) in (first..).zip(ids.clone()).zip(rows) {
                let key = self.key(&columns).unwrap_or_else(|| seq.to_be_bytes().to_vec());
                model.insert((scope, id), (key, texts(&columns, 0)));
            }
        }
    }

    /// Deletes the first of these and gives the others another version, in every scope.
    fn change(&self, ids: &[i64], version: i64) {
        let Some((deleted, updated)) = ids.split_first() else {
            return;
        };
        for &scope in &self.scopes {
            let mut model = self.model.lock();
            let mut request = self.request();
            let (key, _) = model.remove(&(scope, *deleted)).expect("is there");
            request.removals.push(self.removal(scope, &key));
            for &id in updated {
                let columns = (self.shape.row)(id, version);
                let (key, row) = model.get_mut(&(scope, id)).expect("is there");
                request.removals.push(self.removal(scope, key));
                request.puts.push(self.put(scope, PutKey::Key(key.clone()), &columns));
                *row = texts(&columns, 0);
            }
            block_on(self.store().commit(request)).expect("commits");
        }
    }

    /// Loads rows into one scope, in no order.
    fn load(&self, scope: u64, ids: &[i64], version: i64, on_duplicate: OnDuplicate) {
        let store = self.store();
        let (schema, options) = (&self.shape.schema, segment_options());
        let mut load =
            BulkLoad::begin(store, T, ScopeId(scope), schema, &options, on_duplicate, false).expect("begins");
        let mut loaded = Vec::new();
        for &id in ids {
            let columns = (self.shape.row)(id, version);
            load.write(&columns, 1).expect("writes");
            loaded.push((id, columns));
        }
        let publication = finish(load).expect("finishes");
        let before = store.state().seq();
        step(store, vec![TableChange::Publish(publication)]).expect("publishes");
        let mut model = self.model.lock();
        for (seq, (id, columns)) in (before.0 + 1..).zip(loaded) {
            // Rows without a key stay in their order.
            let key = self.key(&columns).unwrap_or_else(|| seq.to_be_bytes().to_vec());
            model.insert((scope, id), (key, texts(&columns, 0)));
        }
    }

    /// Flushes, and deletes and updates rows while it goes on.
    fn flush(&self, meanwhile: &[i64]) {
        let progress = AtEach::new(|at| {
            if at == At::Written {
                self.change(meanwhile, 100);
                self.check();
            }
        });
        let (schema, options) = (&self.shape.schema, segment_options());
        self.store().flush(T, schema, &options, &progress).expect("flushes");
    }

    fn compact(&self, meanwhile: &[i64]) {
        let progress = AtEach::new(|at| {
            if at == At::Written {
                self.change(meanwhile, 200);
                self.check();
            }
        });
        let (schema, options) = (&self.shape.schema, segment_options());
        self.store()
            .compact(T, schema, &options, true, &progress)
            .expect("compacts");
        let segments = self.store().state().segments(T).expect("reads");
        assert!(segments.len() <= 1, "they are few rows");
    }

    fn restart(&mut self) {
        self.old.clear();
        self.store = None;
        self.store = Some(open(self.directory.path()));
    }

    fn keep_a_reader(&mut self) {
        self.old.push((self.store().state(), self.model.lock().clone()));
    }

    fn check(&self) {
        let model = self.model.lock();
        let state = self.store().state();
        self.check_state(&state, &model);
        let segments = state.segments(T).expect("reads");
        let cold: u64 = segments.iter().map(|(entry, dead)| u64::from(entry.rows - dead)).sum();
        let sealed = state.table(T).expect("live").epochs.len() > 1;
        assert!(
            sealed || cold + self.store().hot_usage(T).rows == model.len() as u64,
            "counts of rows"
        );
        for (state, model) in &self.old {
            self.check_state(state, model);
        }
    }

    fn check_state(&self, state: &Arc<DbState<u64>>, model: &Model) {
        for &scope in &self.scopes {
            self.check_scope(state, scope, model);
        }
        let mut nobody = self.spec(17);
        nobody.limit = Some(1);
        let mut scan = state.scan(&self.shape.schema, nobody).expect("scans");
        assert!(scan.next_batch().expect("reads").is_none(), "rows of nobody");
    }

    fn check_scope(&self, state: &Arc<DbState<u64>>, scope: u64, model: &Model) {
        let schema = &self.shape.schema;
        let spec = self.spec(scope);
        let mut scan = state.scan(schema, spec.clone()).expect("the scan starts");
        let mut batches = Vec::new();
        while let Some(batch) = scan.next_batch().expect("it goes on") {
            batches.push(batch);
        }
        let all = concat_batches(&spec.schema, &batches).expect("of one schema");
        let expected: BTreeMap<i64, &Row> = model
            .range((scope, i64::MIN)..=(scope, i64::MAX))
            .map(|((_, id), row)| (*id, row))
            .collect();
        assert_eq!(all.num_rows(), expected.len());
        let width = schema.columns.len();
        let ids = all.column(0).as_primitive::<Int64Type>();
        let keys = all.column(width).as_binary::<i32>();
        let seqs = all.column(width + 1).as_primitive::<UInt64Type>();
        let locations = all.column(width + 2).as_primitive::<UInt64Type>();
        let mut found = BTreeMap::new();
        for row in 0..all.num_rows() {
            let columns = texts(&all.columns()[..width], row);
            found.insert(ids.value(row), (keys.value(row).to_vec(), columns));
            let key = keys.value(row);
            let looked_up = state.find(schema, T, ScopeId(scope), key, 0);
            let looked_up = looked_up.expect("reads").expect("a scan shows it");
            assert_eq!(looked_up.row.seq.0, seqs.value(row));
            assert_eq!(looked_up.location, Location::from_bits(locations.value(row)));
            let read = state.get(schema, &spec, key).expect("reads");
            assert_eq!(texts(read.columns(), 0), texts(all.columns(), row));
        }
        let expected: BTreeMap<i64, Row> = expected.into_iter().map(|(id, row)| (id, row.clone())).collect();
        assert_eq!(found, expected);
        let keys: Vec<Vec<u8>> = keys.iter().flatten().map(<[u8]>::to_vec).collect();
        let many = state.find_all(schema, T, ScopeId(scope), &keys).expect("reads");
        let numbers = many.iter().map(|found| found.as_ref().map(|found| found.row.seq.0));
        assert_eq!(numbers.collect::<Vec<_>>(), seqs.iter().collect::<Vec<_>>());
        self.check_order(state, &spec, &keys);
        self.check_ranges(state, &spec, keys, &all);
    }

    /// Scans in key order give the same keys, whole and up to a limit.
    fn check_order(&self, state: &Arc<DbState<u64>>, spec: &ScanSpec, keys: &[Vec<u8>]) {
        let mut expected = keys.to_vec();
        expected.sort();
        for order in [ScanOrder::Ascending, ScanOrder::Descending] {
            for (limit, batch_rows) in [(None, 8192), (None, 3), (Some(1), 8192), (Some(7), 4)] {
                let wanted = ScanSpec {
                    order,
                    limit,
                    batch_rows,
                    ..spec.clone()
                };
                let mut found = Vec::new();
                let mut scan = state.scan(&self.shape.schema, wanted).expect("scans");
                while let Some(batch) = scan.next_batch().expect("it goes on") {
                    assert!((1..=batch_rows).contains(&batch.num_rows()));
                    let keys = batch.column(self.shape.schema.columns.len()).as_binary::<i32>();
                    found.extend(keys.iter().flatten().map(<[u8]>::to_vec));
                }
                let rows = limit.unwrap_or(expected.len()).min(expected.len());
                assert_eq!(found, expected[..rows], "{order:?}, limit {limit:?}");
            }
            expected.reverse();
        }
    }

    /// Keys bound what a scan reads.
    fn check_ranges(&self, state: &Arc<DbState<u64>>, spec: &ScanSpec, mut keys: Vec<Vec<u8>>, all: &RecordBatch) {
        keys.sort();
        let Some(middle) = keys.get(keys.len() / 2).cloned() else {
            return;
        };
        let count = |spec: ScanSpec| {
            let mut scan = state.scan(&self.shape.schema, spec).expect("scans");
            let mut count = 0;
            while let Some(batch) = scan.next_batch().expect("it goes on") {
                count += batch.num_rows();
            }
            count
        };
        let (mut below, mut above) = (spec.clone(), spec.clone());
        below.range.end = std::ops::Bound::Excluded(middle.clone());
        above.range.start = std::ops::Bound::Included(middle);
        assert_eq!(count(below), keys.len() / 2);
        assert_eq!(count(above), all.num_rows() - keys.len() / 2);
    }

    /// All columns, then key, number and place.
    fn spec(&self, scope: u64) -> ScanSpec {
        let columns = &self.shape.schema.columns;
        let mut fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new(column.id.to_string(), column.data_type.clone(), true))
            .collect();
        fields.push(Field::new("key", DataType::Binary, false));
        fields.push(Field::new("seq", DataType::UInt64, false));
        fields.push(Field::new("location", DataType::UInt64, false));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut wanted: Vec<ScanColumn> = (0..columns.len()).map(ScanColumn::Column).collect();
        wanted.extend([ScanColumn::Key, ScanColumn::Seq, ScanColumn::Location]);
        ScanSpec {
            columns: wanted,
            schema,
            ..spec(T, ScopeId(scope))
        }
    }
}

/// The way of a table through everything.
fn check(shape: Shape, scopes: &[u64]) {
    let mut table = Table::new(shape, scopes);
    table.insert(0..12);
    table.change(&[0, 1], 1);
    table.check();
    table.keep_a_reader();
    table.flush(&[2, 3, 4]);
    table.check();
    table.change(&[5, 3, 6], 2);
    table.insert(20..26);
    table.check();
    let first = scopes[0];
    table.load(first, &[45, 41, 43, 47, 49, 42, 46], 0, OnDuplicate::Fail);
    table.check();
    for (number, &scope) in scopes.iter().enumerate().skip(1) {
        table.load(
            scope,
            &[41, 42, 43, 45, 46, 47, 49 + number as i64],
            0,
            OnDuplicate::Fail,
        );
        table.check();
    }
    table.keep_a_reader();
    table.change(&[45, 41, 46, 20], 3);
    table.check();
    table.flush(&[21, 22, 41]);
    table.check();
    table.compact(&[42, 43, 3]);
    table.check();
    table.change(&[43, 47, 23], 4);
    table.insert(60..63);
    table.check();
    table.restart();
    table.check();
    table.keep_a_reader();
    table.flush(&[60, 61, 7]);
    table.compact(&[61, 8, 9]);
    table.check();
    if !table.keyless() {
        // Some exist, and some were there once.
        table.load(first, &[8, 47, 0, 5, 70], 5, OnDuplicate::Replace);
        table.check();
        table.compact(&[8, 9]);
        table.check();
    }
    table.restart();
    table.check();
    // Nothing stays of a table whose rows are all gone.
    let ids: BTreeSet<i64> = table.model.lock().keys().map(|(_, id)| *id).collect();
    for id in ids {
        let mut request = table.request();
        for &scope in scopes {
            if let Some((key, _)) = table.model.lock().remove(&(scope, id)) {
                request.removals.push(table.removal(scope, &key));
            }
        }
        block_on(table.store().commit(request)).expect("commits");
    }
    table.check();
    table.compact(&[]);
    table.check();
    assert!(table.store().state().segments(T).expect("reads").is_empty());
}

#[test]
fn a_table_with_a_key_of_one_column_goes_through_everything() {
    let shape = shape(&[DataType::Int64, DataType::Utf8], vec![0], id_and_text);
    check(shape, &[0]);
}

#[test]
fn hazard_2_rows_that_share_the_first_column_of_a_key_stay_apart() {
    // The first column of the key is the same in all rows.
    let row: fn(i64, i64) -> Vec<ArrayRef> = |id, version| {
        let mut columns = id_and_text(id, version);
        columns.push(Arc::new(Int64Array::from(vec![77])));
        columns
    };
    let types = [DataType::Int64, DataType::Utf8, DataType::Int64];
    check(shape(&types, vec![2, 0], row), &[0]);
}

#[test]
fn a_key_of_text_and_number_goes_through_everything() {
    let row: fn(i64, i64) -> Vec<ArrayRef> = |id, version| {
        let mut columns = id_and_text(id, version);
        columns.push(Arc::new(StringArray::from(vec!["\0".repeat(id as usize % 4)])));
        columns
    };
    let types = [DataType::Int64, DataType::Utf8, DataType::Utf8];
    check(shape(&types, vec![2, 0], row), &[5]);
}

#[test]
fn rows_without_a_key_keep_their_ids_through_everything() {
    check(shape(&[DataType::Int64, DataType::Utf8], vec![], id_and_text), &[0]);
}

#[test]
fn users_with_the_same_keys_go_through_everything_side_by_side() {
    let shape = shape(&[DataType::Int64, DataType::Utf8], vec![0], id_and_text);
    check(shape, &[3, 1, u64::MAX]);
}

#[test]
fn users_with_rows_without_a_key_go_through_everything_side_by_side() {
    let shape = shape(&[DataType::Int64, DataType::Utf8], vec![], id_and_text);
    check(shape, &[1, 2, 3]);
}

#[test]
fn every_type_goes_through_everything() {
    let row: fn(i64, i64) -> Vec<ArrayRef> = |id, version| {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![id]))];
        for array in crate::decode::tests::every_type() {
            let row = (id + version) as usize % array.len();
            columns.push(array.slice(row, 1));
        }
        columns
    };
    let types: Vec<DataType> = row(0, 0).iter().map(|column| column.data_type().clone()).collect();
    assert!(types.len() > 35, "{}", types.len());
    check(shape(&types, vec![0], row), &[0]);
}
