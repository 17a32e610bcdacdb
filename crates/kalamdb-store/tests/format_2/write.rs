//! How the fixture was written: numbers and times in `expected` follow from the order of what happens here.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};
use futures::executor::block_on;
use kalamdb_store::{
    BulkLoad, Counter, KeyEncoder, Lifetime, OnDuplicate, Put, PutKey, Removal, RowEncoder, ScopeId, Step, Store,
    StoreId, StoreSchema, TableChange, TableClaim, TableVersion, WriteRequest,
};
use rocksdb::{DB, Options, WriteBatch};

use crate::expected::{
    DROPPED, ELSEWHERE, EVENTS, KINDS, NAMELESS, NORTH, NOTES, NUMBERS, READINGS, RECORD, RETIRED, SEALED, SESSIONS,
    VERSION, ZERO, number_is_gone, number_value, reading_columns, table, tables, texts,
};
use crate::{FAMILIES, Quiet, SECOND, copy_directory, fixture, kinds, open};

#[test]
#[ignore = "writes the fixture anew, which is for a format that was not released yet"]
fn write_the_fixture() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    fs::create_dir(path.join("other")).expect("created");
    let mut store = open(path);
    create_all(&store);
    write_notes(&store);
    write_events(&store);
    write_readings(&store);
    // What was in the log goes to files of RocksDB.
    drop(store);
    store = open(path);
    write_kinds(&store);
    write_numbers(&store);
    write_sealed(&store);
    write_elsewhere(&store);
    write_retired(&store);
    rewrite_an_event(&store);
    write_sessions(&store);
    drop(store);
    bring_back_what_is_to_be_erased(path);

    remove_what_rocksdb_does_not_need(path);
    let fixture = fixture();
    if fixture.exists() {
        fs::remove_dir_all(&fixture).expect("removed");
    }
    fs::create_dir_all(&fixture).expect("created");
    copy_directory(path, &fixture);
}

fn create_all(store: &Arc<Store<()>>) {
    let create = |(store, lifetime)| TableChange::Create(store, TableVersion::new(VERSION, lifetime));
    let stores = tables().into_iter().map(|table| (table.store, table.schema.lifetime));
    let changes = stores.chain([(RETIRED, Lifetime::Durable)]).map(create).collect();
    let meta = vec![(RECORD.0.to_string(), Some(RECORD.1.to_vec()))];
    step(store, 1, changes, meta);
    for counter in [Counter::Store, Counter::Scope, Counter::Table] {
        assert_eq!(store.next_id(counter).expect("an id"), 1);
    }
}

fn write_notes(store: &Arc<Store<()>>) {
    let notes: Vec<(i64, String)> = (1..=10).map(|id| (id, format!("loaded {id}"))).collect();
    load(store, 2, NOTES, &text_columns(&notes), OnDuplicate::Fail);
    let notes: Vec<(i64, String)> = (11..=15).map(|id| (id, format!("put {id}"))).collect();
    put(store, 3, NOTES, ScopeId::GLOBAL, &text_columns(&notes), &[]);
    flush(store, NOTES);
    let changed = text_columns(&[(3, "changed 3".to_string())]);
    put(
        store,
        4,
        NOTES,
        ScopeId::GLOBAL,
        &changed,
        &[number_key(3), number_key(12)],
    );
    let again = text_columns(&[(16, "again 16".to_string()), (5, "again 5".to_string())]);
    load(store, 5, NOTES, &again, OnDuplicate::Replace);
}

fn events(kinds: Vec<Option<&str>>, amounts: Vec<Option<i128>>) -> Vec<ArrayRef> {
    let amounts = Decimal128Array::from(amounts).with_precision_and_scale(12, 2);
    vec![
        Arc::new(StringArray::from(kinds)),
        Arc::new(amounts.expect("they have fewer digits")),
    ]
}

fn write_events(store: &Arc<Store<()>>) {
    let loaded = events(
        vec![Some("login"), Some("gone"), None, Some("logout")],
        vec![Some(100), Some(1), Some(-250), None],
    );
    load(store, 6, EVENTS, &loaded, OnDuplicate::Fail);
    let flushed = events(
        vec![Some("login"), Some("gone"), Some("timeout")],
        vec![Some(0), None, Some(99_999)],
    );
    put(store, 7, EVENTS, ScopeId::GLOBAL, &flushed, &[]);
    flush(store, EVENTS);
    let gone = [27u64, 32].map(|id| id.to_be_bytes().to_vec());
    put(
        store,
        8,
        EVENTS,
        ScopeId::GLOBAL,
        &events(vec![Some("last")], vec![None]),
        &gone,
    );
}

fn write_readings(store: &Arc<Store<()>>) {
    let readings = |scope, rows: &[(&str, Option<f64>, Option<&str>)]| {
        puts(READINGS, &table(READINGS).schema, scope, &reading_columns(rows))
    };
    let first = [
        readings(
            ScopeId(1),
            &[(NORTH, Some(1.5), Some("first")), (ZERO, Some(f64::NAN), None)],
        ),
        readings(
            ScopeId(2),
            &[(NORTH, Some(-0.0), Some("second")), (ZERO, None, Some(""))],
        ),
        readings(DROPPED, &[(NORTH, Some(9.0), None)]),
    ];
    commit(store, 9, first.concat(), vec![]);
    flush(store, READINGS);
    let second = [
        readings(ScopeId(1), &[(NAMELESS, Some(f64::INFINITY), Some(""))]),
        readings(ScopeId(3), &[(NORTH, Some(3.0), None)]),
        readings(DROPPED, &[(ZERO, Some(9.0), None)]),
    ];
    commit(store, 10, second.concat(), vec![]);
}

fn write_kinds(store: &Arc<Store<()>>) {
    let part = |from| -> Vec<ArrayRef> { kinds::columns().iter().map(|column| column.slice(from, 2)).collect() };
    load(store, 11, KINDS, &part(0), OnDuplicate::Fail);
    put(store, 12, KINDS, ScopeId::GLOBAL, &part(2), &[]);
    flush(store, KINDS);
    put(store, 13, KINDS, ScopeId::GLOBAL, &part(4), &[]);
}

fn write_numbers(store: &Arc<Store<()>>) {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(1..=6000)),
        Arc::new(Int64Array::from_iter_values((1..=6000).map(number_value))),
    ];
    load(store, 14, NUMBERS, &columns, OnDuplicate::Fail);
    let gone: Vec<Vec<u8>> = (1..=6000).filter(|&id| number_is_gone(id)).map(number_key).collect();
    assert_eq!(gone.len(), 1365 + 10);
    let removals = removals(store, NUMBERS, ScopeId::GLOBAL, &gone);
    commit(store, 15, vec![], removals);
}

fn write_sealed(store: &Arc<Store<()>>) {
    let before: Vec<(i64, String)> = (1..=4).map(|id| (id, format!("before {id}"))).collect();
    put(store, 16, SEALED, ScopeId::GLOBAL, &text_columns(&before), &[]);
    step(store, 17, vec![TableChange::Seal(SEALED)], vec![]);
    let after = text_columns(&[(2, "after 2".to_string()), (5, "after 5".to_string())]);
    put(store, 18, SEALED, ScopeId::GLOBAL, &after, &[number_key(2)]);
}

fn write_elsewhere(store: &Arc<Store<()>>) {
    let rows: Vec<(i64, String)> = (-1..=1).map(|id| (id, format!("there {id}"))).collect();
    load(store, 19, ELSEWHERE, &text_columns(&rows), OnDuplicate::Fail);
}

fn write_retired(store: &Arc<Store<()>>) {
    let rows = puts(
        RETIRED,
        &texts(),
        ScopeId::GLOBAL,
        &text_columns(&[(1, "gone".to_string())]),
    );
    commit(store, 20, rows, vec![]);
    let changes = vec![TableChange::Retire(RETIRED), TableChange::RetireScope(DROPPED)];
    step(store, 21, changes, vec![]);
}

/// A large UPDATE of a table without a key: a load whose row keeps its id.
fn rewrite_an_event(store: &Arc<Store<()>>) {
    let table = table(EVENTS);
    let (schema, options) = (&table.schema, &table.options);
    let id = 26u64.to_be_bytes();
    let found = removals(store, EVENTS, ScopeId::GLOBAL, &[id.to_vec()]).remove(0);
    let fail = OnDuplicate::Fail;
    let mut load = BulkLoad::begin(store, EVENTS, ScopeId::GLOBAL, schema, options, fail, true).expect("begins");
    let is_new = load.remove(&store.state(), &found.key, found.location, found.seq);
    assert!(is_new.expect("it is there"));
    let row = puts(
        EVENTS,
        schema,
        ScopeId::GLOBAL,
        &events(vec![Some("relogged")], vec![Some(5)]),
    )
    .remove(0);
    load.write_encoded(vec![(Some(Arc::from(id)), row.value)])
        .expect("writes");
    let publication = block_on(load.finish()).expect("finishes");
    step(store, 22, vec![TableChange::Publish(publication)], vec![]);
}

fn write_sessions(store: &Arc<Store<()>>) {
    let session = |id: i64, until: i64| {
        let columns = text_columns(&[(id, format!("until {until}"))]);
        let row = RowEncoder::new(table(SESSIONS).schema).expect("a schema");
        Put {
            store: SESSIONS,
            scope: ScopeId::GLOBAL,
            key: PutKey::Key(number_key(id)),
            value: row.encode(&columns, 0, Some(until * SECOND)).expect("a row"),
        }
    };
    commit(store, 23, vec![session(1, 60), session(2, 100)], vec![]);
    let rotate = TableChange::Rotate {
        store: SESSIONS,
        seals: Some(100 * SECOND),
        now_micros: 24 * SECOND,
    };
    step(store, 24, vec![rotate], vec![]);
    commit(store, 25, vec![session(3, 200)], vec![]);
}

/// Writes, byte by byte, what a crash would have left if the store had not erased it before it was closed.
fn bring_back_what_is_to_be_erased(path: &Path) {
    let db = DB::open_cf(&Options::default(), path.join("rocksdb"), FAMILIES).expect("RocksDB opens");
    let family = |name| db.cf_handle(name).expect("a family");
    let row = |bytes: &[&[u8]]| bytes.concat();
    let mut batch = WriteBatch::default();
    batch.put_cf(family("meta"), row(&[b"retired/", &RETIRED.0.to_be_bytes()]), b"");
    batch.put_cf(family("meta"), row(&[b"scope-retired/", &DROPPED.0.to_be_bytes()]), b"");
    // store | epoch | scope | key
    let left = row(&[&RETIRED.0.to_be_bytes(), &[0; 4], &[0; 8], &number_key(1)]);
    batch.put_cf(family("hot"), left, b"a row that nobody reads");
    let left = row(&[
        &READINGS.0.to_be_bytes(),
        &[0, 0, 0, 1],
        &DROPPED.0.to_be_bytes(),
        b"key",
    ]);
    batch.put_cf(family("hot"), left, b"a row that nobody reads");

    let database = fs::read_dir(path.join("segments")).expect("a directory").next();
    let database = database.expect("there are segments").expect("an entry").file_name();
    let database = database.to_str().expect("a UUID");
    let file = format!("{database}/{NUMBERS}/1000-0123456789abcdef.parquet");
    fs::write(path.join("segments").join(&file), "PAR1 and not more").expect("written");
    let record = format!(r#"{{"storage":0,"path":"{file}"}}"#);
    batch.put_cf(family("meta"), row(&[b"file/", &1000u32.to_be_bytes()]), record);
    db.write(batch).expect("written");
    db.flush_wal(true).expect("synced");
}

/// Files that say what RocksDB did and how it was set, with names of the machine.
fn remove_what_rocksdb_does_not_need(path: &Path) {
    for entry in fs::read_dir(path.join("rocksdb")).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        if name.starts_with("LOG") || name.starts_with("OPTIONS-") {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
}

fn step(store: &Arc<Store<()>>, second: i64, changes: Vec<TableChange>, meta: Vec<(String, Option<Vec<u8>>)>) {
    let step = Step {
        changes,
        removals: vec![],
        puts: vec![],
        meta,
        catalog: None,
        now_micros: second * SECOND,
    };
    block_on(store.step(step)).expect("the step is written");
}

fn load(store: &Arc<Store<()>>, second: i64, target: StoreId, columns: &[ArrayRef], on_duplicate: OnDuplicate) {
    let table = table(target);
    let (schema, options) = (&table.schema, &table.options);
    let mut load =
        BulkLoad::begin(store, target, ScopeId::GLOBAL, schema, options, on_duplicate, false).expect("begins");
    load.write(columns, columns[0].len()).expect("writes");
    let publication = block_on(load.finish()).expect("finishes");
    step(store, second, vec![TableChange::Publish(publication)], vec![]);
}

fn flush(store: &Arc<Store<()>>, target: StoreId) {
    let table = table(target);
    let moved = store
        .flush(target, &table.schema, &table.options, &Quiet)
        .expect("flushes");
    assert_eq!(moved.segments, 1);
}

/// Puts rows, after the removal of those with the keys `gone`.
fn put(store: &Arc<Store<()>>, second: i64, target: StoreId, scope: ScopeId, columns: &[ArrayRef], gone: &[Vec<u8>]) {
    let removals = removals(store, target, scope, gone);
    commit(
        store,
        second,
        puts(target, &table(target).schema, scope, columns),
        removals,
    );
}

fn puts(target: StoreId, schema: &Arc<StoreSchema>, scope: ScopeId, columns: &[ArrayRef]) -> Vec<Put> {
    let keys = KeyEncoder::new(schema).expect("a key");
    let rows = RowEncoder::new(schema.clone()).expect("a schema");
    let key_columns: Vec<ArrayRef> = schema.key.iter().map(|&column| columns[column].clone()).collect();
    let put = |row| {
        let mut key = Vec::new();
        keys.encode(&key_columns, row, &mut key).expect("a key");
        Put {
            store: target,
            scope,
            key: if key.is_empty() {
                PutKey::RowId
            } else {
                PutKey::Key(key)
            },
            value: rows.encode(columns, row, None).expect("a row"),
        }
    };
    (0..columns[0].len()).map(put).collect()
}

fn removals(store: &Arc<Store<()>>, target: StoreId, scope: ScopeId, keys: &[Vec<u8>]) -> Vec<Removal> {
    let found = store
        .state()
        .find_all(&table(target).schema, target, scope, keys)
        .expect("reads");
    let removal = |(key, found): (&Vec<u8>, Option<kalamdb_store::Found>)| {
        let found = found.expect("it is there");
        Removal {
            store: target,
            scope,
            key: key.clone(),
            location: found.location,
            seq: found.row.seq,
        }
    };
    keys.iter().zip(found).map(removal).collect()
}

fn commit(store: &Arc<Store<()>>, second: i64, puts: Vec<Put>, removals: Vec<Removal>) {
    let rows = puts.iter().map(|put| (put.store, put.scope));
    let claims: HashSet<_> = rows
        .chain(removals.iter().map(|removal| (removal.store, removal.scope)))
        .collect();
    let claim = |(store, scope)| TableClaim {
        store,
        schema_version: VERSION,
        scope,
        exclusive: false,
    };
    let request = WriteRequest {
        validated_at: store.state().seq(),
        tables: claims.into_iter().map(claim).collect(),
        removals,
        puts,
        now_micros: second * SECOND,
    };
    block_on(store.commit(request)).expect("committed");
}

fn text_columns(rows: &[(i64, String)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
    ]
}

fn number_key(id: i64) -> Vec<u8> {
    let encoder = KeyEncoder::new(&texts()).expect("a key");
    let mut key = Vec::new();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    encoder.encode(&[column], 0, &mut key).expect("a key");
    key
}
