//! What the tests of this crate share: a store in a temporary directory, with rows of (id Int64 key, text Utf8).

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use futures::executor::block_on;

use crate::storage_marker::MARKER_FILE;
use crate::{
    BulkLoad, ColumnId, CommitError, Committed, DbState, Durability, GiveUp, KeyEncoder, KeyRange, Lifetime, Moved,
    OnDuplicate, Progress, Publication, Put, PutKey, Removal, RowEncoder, Scan, ScanColumn, ScanOrder, ScanSpec,
    SchemaVersion, ScopeId, SeenSegments, SegmentCompression, SegmentOptions, Seq, Step, StorageId, Store, StoreError,
    StoreId, StoreOptions, StoreSchema, StoredColumn, TableChange, TableClaim, TableVersion, WriteRequest,
};

/// The catalog of tests.
pub(crate) type TestStore = Store<u64>;

pub(crate) const T: StoreId = StoreId(7);
pub(crate) const GLOBAL: ScopeId = ScopeId::GLOBAL;
pub(crate) const VERSION: SchemaVersion = SchemaVersion(1);

pub(crate) fn options(path: &Path) -> StoreOptions {
    StoreOptions {
        path: path.to_path_buf(),
        durability: Durability::Synced,
        block_cache_bytes: 8 << 20,
        segment_cache_bytes: 8 << 20,
        write_buffer_bytes: 8 << 20,
    }
}

pub(crate) fn open(path: &Path) -> Arc<TestStore> {
    Store::open(options(path), 0, |_, _| Ok::<_, StoreError>(1)).expect("the store opens")
}

/// A store with the table [`T`], and the directory that it is in.
pub(crate) fn new_store() -> (tempfile::TempDir, Arc<TestStore>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    create(&store, T);
    (directory, store)
}

pub(crate) fn create(store: &TestStore, table: StoreId) {
    step(
        store,
        vec![TableChange::Create(
            table,
            TableVersion::new(VERSION, Lifetime::Durable),
        )],
    )
    .expect("created");
}

pub(crate) fn step(store: &TestStore, changes: Vec<TableChange>) -> Result<Committed, CommitError> {
    let catalog = Arc::new(*store.state().catalog().as_ref() + 1);
    block_on(store.step(Step {
        changes,
        removals: vec![],
        puts: vec![],
        meta: vec![],
        catalog: Some(catalog),
        now_micros: 0,
    }))
}

pub(crate) fn schema() -> Arc<StoreSchema> {
    schema_of(Lifetime::Durable, vec![0])
}

pub(crate) fn schema_of(lifetime: Lifetime, key: Vec<usize>) -> Arc<StoreSchema> {
    Arc::new(StoreSchema {
        version: VERSION,
        columns: vec![
            StoredColumn {
                id: ColumnId(1),
                data_type: DataType::Int64,
            },
            StoredColumn {
                id: ColumnId(2),
                data_type: DataType::Utf8,
            },
        ],
        key,
        lifetime,
    })
}

pub(crate) fn columns(id: i64, text: &str) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from(vec![id])),
        Arc::new(StringArray::from(vec![text])),
    ]
}

pub(crate) fn key(id: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let encoder = KeyEncoder::new(&schema()).expect("a key");
    encoder
        .encode(&[Arc::new(Int64Array::from(vec![id])) as ArrayRef], 0, &mut out)
        .expect("encodes");
    out
}

pub(crate) fn value(id: i64, text: &str) -> Vec<u8> {
    RowEncoder::new(schema())
        .expect("a schema")
        .encode(&columns(id, text), 0, None)
        .expect("encodes")
}

pub(crate) fn put(table: StoreId, scope: ScopeId, id: i64, text: &str) -> Put {
    Put {
        store: table,
        scope,
        key: PutKey::Key(key(id)),
        value: value(id, text),
    }
}

pub(crate) fn claim(table: StoreId, scope: ScopeId) -> TableClaim {
    TableClaim {
        store: table,
        schema_version: VERSION,
        scope,
        exclusive: false,
    }
}

/// A request of these puts, validated at the newest state.
pub(crate) fn request(store: &TestStore, puts: Vec<Put>) -> WriteRequest {
    let tables = puts.iter().map(|put| claim(put.store, put.scope)).collect();
    WriteRequest {
        validated_at: store.state().seq(),
        tables,
        removals: vec![],
        puts,
        now_micros: 0,
    }
}

pub(crate) fn insert(store: &TestStore, table: StoreId, id: i64, text: &str) -> Result<Committed, CommitError> {
    block_on(store.commit(request(store, vec![put(table, GLOBAL, id, text)])))
}

/// The removal of a row that exists at `state`.
pub(crate) fn removal(state: &DbState<u64>, table: StoreId, scope: ScopeId, id: i64) -> Removal {
    let found = state
        .find(&schema(), table, scope, &key(id), 0)
        .expect("reads")
        .expect("exists");
    Removal {
        store: table,
        scope,
        key: key(id),
        location: found.location,
        seq: found.row.seq,
    }
}

pub(crate) fn output() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("_seq", DataType::UInt64, false),
    ]))
}

pub(crate) fn spec(table: StoreId, scope: ScopeId) -> ScanSpec {
    ScanSpec {
        store: table,
        scope,
        range: KeyRange {
            start: std::ops::Bound::Unbounded,
            end: std::ops::Bound::Unbounded,
        },
        columns: vec![ScanColumn::Column(0), ScanColumn::Column(1), ScanColumn::Seq],
        schema: output(),
        now_micros: 0,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 8192,
        seen: SeenSegments::default(),
    }
}

pub(crate) fn collect(mut scan: Scan) -> Vec<(i64, String, Seq)> {
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch().expect("the scan goes on") {
        assert!(batch.num_rows() > 0);
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let texts = batch.column(1).as_string::<i32>();
        let seqs = batch.column(2).as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            rows.push((ids.value(row), texts.value(row).to_string(), Seq(seqs.value(row))));
        }
    }
    rows
}

/// (id, text) of all rows, in the order of the scan.
pub(crate) fn rows(state: &Arc<DbState<u64>>, table: StoreId, scope: ScopeId) -> Vec<(i64, String)> {
    let scan = state.scan(&schema(), spec(table, scope)).expect("the scan starts");
    collect(scan).into_iter().map(|(id, text, _)| (id, text)).collect()
}

/// The ids of all rows of everybody's scope, sorted.
pub(crate) fn ids(store: &TestStore, table: StoreId) -> Vec<i64> {
    let mut ids: Vec<i64> = rows(&store.state(), table, GLOBAL)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Begins a load into [`T`].
pub(crate) fn begin_load(store: &Arc<TestStore>, scope: ScopeId, on_duplicate: OnDuplicate) -> BulkLoad<u64> {
    BulkLoad::begin(store, T, scope, &schema(), &segment_options(), on_duplicate, false).expect("begins")
}

/// Adds rows (id, `loaded <id>`).
pub(crate) fn load_rows(load: &mut BulkLoad<u64>, ids: std::ops::Range<i64>) {
    load_all(load, &ids.collect::<Vec<_>>(), "loaded").expect("writes");
}

/// Adds rows (id, `<text> <id>`) in this order.
pub(crate) fn load_all(load: &mut BulkLoad<u64>, ids: &[i64], text: &str) -> Result<(), StoreError> {
    let texts: Vec<String> = ids.iter().map(|id| format!("{text} {id}")).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from(texts)),
    ];
    load.write(&columns, ids.len()).map(|_| ())
}

/// Begins a load into [`T`] that removes these rows as they are in `state`.
pub(crate) fn begin_change(store: &Arc<TestStore>, state: &DbState<u64>, ids: &[i64]) -> BulkLoad<u64> {
    let mut load = begin_load(store, GLOBAL, OnDuplicate::Fail);
    let keys: Vec<Vec<u8>> = ids.iter().map(|&id| key(id)).collect();
    let found = state.find_all(&schema(), T, GLOBAL, &keys).expect("reads");
    for (key, found) in keys.iter().zip(found) {
        let found = found.expect("is there");
        let is_new = load
            .remove(state, key, found.location, found.row.seq)
            .expect("is there");
        assert!(is_new);
    }
    load
}

/// Completes a load and looks its keys up. Polls by itself, because what a test does meanwhile waits for commits in turn, and
/// one executor refuses to run within another.
pub(crate) fn finish(load: BulkLoad<u64>) -> Result<Arc<Publication>, StoreError> {
    finish_unless(load, &|| false)
}

pub(crate) fn finish_unless(load: BulkLoad<u64>, give_up: GiveUp<'_>) -> Result<Arc<Publication>, StoreError> {
    let mut finished = std::pin::pin!(load.finish_unless(give_up));
    let waker = futures::task::noop_waker();
    loop {
        match finished.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(publication) => return publication,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// Loads rows (id, `<text> <id>`) of a scope and publishes them.
pub(crate) fn load(store: &Arc<TestStore>, scope: ScopeId, on_duplicate: OnDuplicate, ids: &[i64], text: &str) {
    let mut load = begin_load(store, scope, on_duplicate);
    load_all(&mut load, ids, text).expect("writes");
    let publication = finish(load).expect("finishes");
    step(store, vec![TableChange::Publish(publication)]).expect("publishes");
}

pub(crate) fn segment_options() -> SegmentOptions {
    SegmentOptions {
        storage: StorageId::DEFAULT,
        compression: SegmentCompression::Lz4,
    }
}

/// All files under `segments`.
pub(crate) fn segment_files(data_dir: &Path) -> Vec<std::path::PathBuf> {
    files_under(&data_dir.join("segments"))
}

/// All files under a storage's directory but those that are about itself.
pub(crate) fn files_under(root: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                directories.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with(MARKER_FILE) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Goes on to the end, and does something at each step of the way.
pub(crate) struct Meanwhile<F>(pub(crate) F);

impl<F: Fn(u64, u64) + Sync> Progress for Meanwhile<F> {
    fn expect(&self, _rows: u64) {}

    fn advance(&self, rows: u64, bytes: u64) {
        (self.0)(rows, bytes);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// Where a mover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// It has written a batch of rows.
    Rows,
    /// All files are complete; what was removed meanwhile is not settled yet.
    Written,
    /// What was removed is settled, and the committer is asked next.
    Settled,
}

/// Goes on to the end, and does something wherever the mover is.
pub(crate) struct AtEach<F> {
    meanwhile: F,
    written: AtomicBool,
}

impl<F: Fn(At) + Sync> AtEach<F> {
    pub(crate) fn new(meanwhile: F) -> Self {
        Self {
            meanwhile,
            written: AtomicBool::new(false),
        }
    }
}

impl<F: Fn(At) + Sync> Progress for AtEach<F> {
    fn expect(&self, _rows: u64) {}

    fn advance(&self, rows: u64, _bytes: u64) {
        self.written.store(rows == 0, Ordering::SeqCst);
        (self.meanwhile)(if rows == 0 { At::Written } else { At::Rows });
    }

    fn cancelled(&self) -> bool {
        if self.written.swap(false, Ordering::SeqCst) {
            (self.meanwhile)(At::Settled);
        }
        false
    }
}

pub(crate) fn flush(store: &Arc<TestStore>) -> Moved {
    flush_while(store, |_, _| {})
}

/// Flushes [`T`], and calls `meanwhile` with (rows, 0) after each batch and with (0, bytes) before it is published.
pub(crate) fn flush_while(store: &Arc<TestStore>, meanwhile: impl Fn(u64, u64) + Sync) -> Moved {
    store
        .flush(T, &schema(), &segment_options(), &Meanwhile(meanwhile))
        .expect("flushes")
}

/// Merges all segments of [`T`], likewise.
pub(crate) fn compact_while(store: &Arc<TestStore>, meanwhile: impl Fn(u64, u64) + Sync) -> Moved {
    store
        .compact(T, &schema(), &segment_options(), true, &Meanwhile(meanwhile))
        .expect("compacts")
}

pub(crate) fn delete(store: &TestStore, id: i64) -> Result<Committed, CommitError> {
    let state = store.state();
    let mut request = request(store, vec![]);
    request.removals = vec![removal(&state, T, GLOBAL, id)];
    block_on(store.commit(request))
}

pub(crate) fn update(store: &TestStore, id: i64, text: &str) -> Result<Committed, CommitError> {
    let state = store.state();
    let mut request = request(store, vec![put(T, GLOBAL, id, text)]);
    request.removals = vec![removal(&state, T, GLOBAL, id)];
    block_on(store.commit(request))
}

/// Copies the files of a running store, as a crash of the machine would leave those that are synced.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("created");
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// Checks that every way of reading finds these rows of [`T`] once, and no others.
#[track_caller]
pub(crate) fn assert_rows(state: &Arc<DbState<u64>>, scope: ScopeId, expected: &BTreeMap<i64, String>) {
    let mut scanned = collect(state.scan(&schema(), spec(T, scope)).expect("the scan starts"));
    scanned.sort();
    let found: Vec<(i64, &String)> = scanned.iter().map(|row| (row.0, &row.1)).collect();
    assert_eq!(found, expected.iter().map(|(id, text)| (*id, text)).collect::<Vec<_>>());
    let low = expected.keys().next().map_or(0, |id| id - 3);
    let ids: Vec<i64> = (low..low + 10).chain(expected.keys().copied()).collect();
    let keys: Vec<Vec<u8>> = ids.iter().map(|&id| key(id)).collect();
    let all = state.find_all(&schema(), T, scope, &keys).expect("reads");
    for ((id, key), found) in ids.iter().zip(&keys).zip(all) {
        let seq = scanned.iter().find(|row| row.0 == *id).map(|row| row.2);
        assert_eq!(found.map(|found| found.row.seq), seq, "{id} among many");
        if *id < low + 40 {
            let found = state.find(&schema(), T, scope, key, 0).expect("reads");
            assert_eq!(found.map(|found| found.row.seq), seq, "{id}");
            let read = state.get(&schema(), &spec(T, scope), key).expect("reads");
            let texts: Vec<&str> = read.column(1).as_string::<i32>().iter().flatten().collect();
            assert_eq!(
                texts.first().copied(),
                expected.get(id).map(String::as_str),
                "{id} read"
            );
        }
    }
}
