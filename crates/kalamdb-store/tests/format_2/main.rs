//! A data directory of format 2 opens and holds what was written, for as long as there is a KalamDB that says it reads format 2.
//!
//! It is in `fixtures/format-2`, and `cargo test -p kalamdb-store --test format_2 -- --ignored` writes it anew: only for what
//! format 2 gains before it is released. Another table needs an entry in `expected`, its rows in `write` after all others (their
//! numbers stay then), and the new `LAST_SEQ`.

mod expected;
mod kinds;
mod write;

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use kalamdb_store::{
    Counter, DbState, Durability, KeyRange, Lifetime, Progress, ScanColumn, ScanOrder, ScanSpec, ScopeId, SeenSegments,
    SegmentSeqs, Store, StoreError, StoreOptions,
};
use rocksdb::{DB, IteratorMode, Options};

use crate::expected::{
    DROPPED, ELSEWHERE, LAST_SEQ, NUMBERS, OTHER, READINGS, RECORD, RETIRED, Rows, SEALED, SESSIONS, Table, table,
    tables,
};

/// The column families.
const FAMILIES: [&str; 5] = ["default", "meta", "hot", "stream", "dv"];
const SECOND: i64 = 1_000_000;

#[test]
fn every_row_is_there_and_stays_through_flush_compaction_and_restart() {
    let directory = unpacked();
    let store = open(directory.path());
    assert_eq!(store.state().seq().0, LAST_SEQ);
    check_all(&store, "as it was found");

    for table in durable_tables() {
        let moved = store.flush(table.store, &table.schema, &table.options, &Quiet);
        moved.unwrap_or_else(|error| panic!("store {} flushes: {error}", table.store));
        assert_eq!(store.hot_usage(table.store).rows, 0);
    }
    check_all(&store, "after the flush");

    for table in durable_tables() {
        let moved = store.compact(table.store, &table.schema, &table.options, true, &Quiet);
        moved.unwrap_or_else(|error| panic!("store {} is compacted: {error}", table.store));
        let segments = store.state().segments(table.store).expect("a live store");
        assert!(segments.len() <= 1 && segments.iter().all(|(_, deleted)| *deleted == 0));
    }
    check_all(&store, "after the compaction");

    drop(store);
    check_all(&open(directory.path()), "after a restart");
}

/// The fixture has every form that it is there for.
#[test]
fn every_form_of_a_segment_and_of_a_deletion_vector_is_in_it() {
    let directory = unpacked();
    let store = open(directory.path());
    let state = store.state();
    let (mut stored, mut numbered) = (0, 0);
    for table in tables() {
        for (entry, _) in state.segments(table.store).expect("a live store") {
            match entry.seqs {
                SegmentSeqs::Stored { .. } => stored += 1,
                SegmentSeqs::Base { .. } => numbered += 1,
            }
        }
    }
    assert_eq!((stored, numbered), (4, 7));
    let segments = state.segments(ELSEWHERE).expect("a live store");
    assert_eq!(segments[0].0.storage, OTHER);
    let (entry, deleted) = state.segments(NUMBERS).expect("a live store").remove(0);
    assert_eq!(deleted, 1365 + 10);
    assert!(entry.tail_offset > 32 << 10, "more than two checksummed blocks");
    assert_eq!(state.table(SEALED).expect("a live store").epochs.len(), 2);
    assert!(state.table(RETIRED).is_none());
    let buckets = state.table(SESSIONS).expect("a live store").buckets();
    assert_eq!(buckets, (2, Some(100 * SECOND)));
    drop((state, store));

    let vectors = values(directory.path(), "dv");
    let lengths = |wanted: fn(usize) -> bool| vectors.iter().filter(|(_, value)| wanted(value.len())).count();
    assert_eq!(lengths(|length| length == 512), 1, "a bitmap");
    // Of NOTES two, of EVENTS two, of NUMBERS one, and as many counts of four bytes as segments with deletions.
    assert_eq!(lengths(|length| length < 512), 5 + 5, "lists");
}

#[test]
fn what_was_to_be_erased_is_erased() {
    let directory = unpacked();
    let left = |directory: &Path| {
        let prefixes = ["retired/", "scope-retired/", "file/"];
        let records = values(directory, "meta").into_iter().map(|(name, _)| name);
        let records = records.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes())));
        let retired = RETIRED.0.to_be_bytes();
        let dropped = [&READINGS.0.to_be_bytes()[..], &[0, 0, 0, 1], &DROPPED.0.to_be_bytes()].concat();
        let rows = values(directory, "hot").into_iter().map(|(key, _)| key);
        let rows = rows.filter(|key| key.starts_with(&retired) || key.starts_with(&dropped));
        (records.count(), rows.count(), segment_files(directory))
    };
    let (records, rows, files) = left(directory.path());
    assert_eq!((records, rows), (3, 2));
    drop(open(directory.path()));
    let (records, rows, files_after) = left(directory.path());
    // That of the dropped user stays: segments may have rows of theirs until they are rewritten.
    assert_eq!((records, rows, files_after), (1, 0, files - 1));
}

#[test]
fn numbers_go_on_where_they_ended() {
    let directory = unpacked();
    let store = open(directory.path());
    assert_eq!(store.meta_get(RECORD.0).expect("reads").as_deref(), Some(RECORD.1));
    // Ids are reserved 64 at a time, and the fixture was opened twice.
    let counters = [
        (Counter::Store, 65),
        (Counter::Scope, 65),
        (Counter::Table, 65),
        (Counter::Segment, 129),
    ];
    for (counter, next) in counters {
        assert_eq!(store.next_id(counter).expect("an id"), next, "{counter:?}");
    }
}

/// Every record that is in a fixture, this one or that of the crate above, is one that the document names.
#[test]
fn the_document_names_every_kind_of_record() {
    let document = include_str!("../../../../docs/format.md");
    let section = document.split("## ").find(|section| section.starts_with("Records"));
    let names = section
        .expect("a section")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    // Some lines are of several; an odd part is between backticks.
    let names = names.flat_map(|line| {
        let cell = line.split(" |").next().unwrap_or_default();
        cell.split('`').step_by(2).map(str::to_string).collect::<Vec<_>>()
    });
    let names: Vec<String> = names.collect();
    let is_named = |record: &[u8], is_ours: bool| {
        names.iter().any(|name| match name.strip_suffix('/') {
            // What a record of the catalog is called is for the catalog to say.
            Some("record") if !is_ours => false,
            Some(_) => record.starts_with(name.as_bytes()),
            None => record == name.as_bytes(),
        })
    };
    let mut kinds = std::collections::BTreeSet::new();
    for (fixture, is_ours) in [(fixture(), true), (catalog_fixture(), false)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        copy_directory(&fixture, directory.path());
        for (record, _) in values(directory.path(), "meta") {
            let shown = record.escape_ascii().to_string();
            assert!(is_named(&record, is_ours), "docs/format.md does not name {shown}");
            kinds.insert(shown.split('/').next().unwrap_or_default().to_string());
        }
    }
    assert!(kinds.len() > 10, "{kinds:?}");
}

/// The row of the catalog that the document draws is the one that is there.
#[test]
fn the_row_in_the_document_is_that_of_the_fixture() {
    let document = include_str!("../../../../docs/format.md");
    let drawn = document
        .split("The row of namespace `chat`")
        .nth(1)
        .expect("it is drawn");
    let drawn = drawn.split("```").nth(1).expect("a block");
    // Bytes are in front of two spaces, what they mean is behind.
    let digits = drawn.lines().filter_map(|line| line.split("  ").next());
    let drawn: String = digits.flat_map(str::chars).filter(char::is_ascii_hexdigit).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    copy_directory(&catalog_fixture(), directory.path());
    let namespaces = 4_294_967_041_u32.to_be_bytes();
    let rows = values(directory.path(), "hot").into_iter();
    let (key, value) = rows
        .filter(|(key, _)| key.starts_with(&namespaces))
        .find(|(key, _)| key.ends_with(b"chat\0\0"))
        .expect("the row is there");
    let found: String = key.iter().chain(&value).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(drawn, found);
}

fn catalog_fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kalamdb-core/fixtures/format-2/data")
}

fn durable_tables() -> impl Iterator<Item = Table> {
    tables()
        .into_iter()
        .filter(|table| table.schema.lifetime == Lifetime::Durable)
}

/// Compares everything with what is expected.
fn check_all(store: &Arc<Store<()>>, when: &str) {
    let state = store.state();
    for table in tables() {
        for rows in &table.scopes {
            check_rows(
                &state,
                &table,
                rows,
                &format!("store {}, scope {}, {when}", table.store, rows.scope),
            );
        }
        for (scope, key) in &table.gone {
            let found = state
                .find(&table.schema, table.store, *scope, key, table.now * SECOND)
                .expect("reads");
            assert!(found.is_none(), "store {}, {when}: {key:02x?} is back", table.store);
        }
        let checked = store.check(table.store, &table.schema, &Quiet).expect("checks");
        assert!(
            checked.problems.is_empty(),
            "store {}, {when}: {:?}",
            table.store,
            checked.problems
        );
    }
}

fn check_rows(state: &Arc<DbState<()>>, table: &Table, rows: &Rows, when: &str) {
    let expected = expected_batch(table, rows);
    let scanned = scan(state, spec(table, rows.scope));
    let order = sort_to_indices(scanned.column(scanned.num_columns() - 3), None, None).expect("numbers sort");
    let scanned = take_record_batch(&scanned, &order).expect("indices of its rows");
    for (index, (found, wanted)) in scanned.columns().iter().zip(expected.columns()).enumerate() {
        assert_eq!(found, wanted, "{when}: column {index}");
    }

    // Counting reads no column; two parts make up the whole.
    let count = |part| {
        let mut spec = spec(table, rows.scope);
        spec.columns.clear();
        spec.schema = Arc::new(Schema::empty());
        spec.part = part;
        scan(state, spec).num_rows()
    };
    assert_eq!(count((0, 1)), rows.seqs.len(), "{when}: count");
    assert_eq!(count((0, 2)) + count((1, 2)), rows.seqs.len(), "{when}: count in parts");

    let found = state.find_all(&table.schema, table.store, rows.scope, &rows.keys);
    let found = found.expect("reads");
    for ((found, key), (&seq, &second)) in found.iter().zip(&rows.keys).zip(rows.seqs.iter().zip(&rows.updated)) {
        let found = found
            .as_ref()
            .unwrap_or_else(|| panic!("{when}: {key:02x?} is not found"));
        assert_eq!(
            (found.row.seq.0, found.row.updated_micros),
            (seq, second * SECOND),
            "{when}: {key:02x?}"
        );
    }
    // Every row of small tables, some of the large one.
    for index in (0..rows.keys.len()).step_by(rows.keys.len() / 50 + 1) {
        let row = state.get(&table.schema, &spec(table, rows.scope), &rows.keys[index]);
        assert_eq!(
            row.expect("reads").columns(),
            expected.slice(index, 1).columns(),
            "{when}: row {index}"
        );
    }
}

/// The columns, then `_seq`, `_updated` and the key.
fn expected_batch(table: &Table, rows: &Rows) -> RecordBatch {
    let updated = rows.updated.iter().map(|second| second * SECOND);
    let mut columns = rows.columns.clone();
    let others: [ArrayRef; 3] = [
        Arc::new(UInt64Array::from(rows.seqs.clone())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(updated).with_timezone("UTC")),
        Arc::new(BinaryArray::from_iter_values(&rows.keys)),
    ];
    columns.extend(others);
    RecordBatch::try_new(output(table), columns).expect("columns of the schema's types")
}

fn output(table: &Table) -> SchemaRef {
    let columns = table.schema.columns.iter();
    let mut fields: Vec<Field> = columns
        .map(|column| Field::new(column.id.to_string(), column.data_type.clone(), true))
        .collect();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.extend([
        Field::new("_seq", DataType::UInt64, false),
        Field::new("_updated", utc, false),
        Field::new("_key", DataType::Binary, false),
    ]);
    Arc::new(Schema::new(fields))
}

fn spec(table: &Table, scope: ScopeId) -> ScanSpec {
    let mut columns: Vec<ScanColumn> = (0..table.schema.columns.len()).map(ScanColumn::Column).collect();
    columns.extend([ScanColumn::Seq, ScanColumn::Updated, ScanColumn::Key]);
    ScanSpec {
        store: table.store,
        scope,
        range: KeyRange {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        },
        columns,
        schema: output(table),
        now_micros: table.now * SECOND,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 1000,
        seen: SeenSegments::default(),
    }
}

fn scan(state: &Arc<DbState<()>>, spec: ScanSpec) -> RecordBatch {
    let (schema, store) = (spec.schema.clone(), spec.store);
    let mut scan = state.scan(&table(store).schema, spec).expect("the scan starts");
    let mut batches = Vec::new();
    while let Some(batch) = scan.next_batch().expect("the scan goes on") {
        batches.push(batch);
    }
    concat_batches(&schema, &batches).expect("batches of one schema")
}

fn open(path: &Path) -> Arc<Store<()>> {
    let options = StoreOptions {
        path: path.to_path_buf(),
        durability: Durability::Synced,
        block_cache_bytes: 8 << 20,
        segment_cache_bytes: 8 << 20,
        write_buffer_bytes: 8 << 20,
    };
    let store = Store::open(options, (), |_, _| Ok::<_, StoreError>(())).expect("the store opens");
    store.add_storage(OTHER, &path.join("other")).expect("a directory");
    store
}

/// The fixture, where it can be changed.
fn unpacked() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    copy_directory(&fixture(), directory.path());
    directory
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-2")
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs::create_dir(&target).expect("created");
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// Everything in a column family of a store that is closed.
fn values(path: &Path, family: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = DB::open_cf_for_read_only(&Options::default(), path.join("rocksdb"), FAMILIES, false);
    let db = db.expect("RocksDB opens");
    let family = db.cf_handle(family).expect("a family");
    let entries = db.iterator_cf(family, IteratorMode::Start);
    entries
        .map(|entry| {
            entry
                .map(|(key, value)| (key.into_vec(), value.into_vec()))
                .expect("reads")
        })
        .collect()
}

/// How many segments there are in the default storage.
fn segment_files(path: &Path) -> usize {
    let mut directories = vec![path.join("segments")];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("a type").is_dir() {
                true => directories.push(entry.path()),
                false => files += usize::from(entry.path().extension().is_some_and(|kind| kind == "parquet")),
            }
        }
    }
    files
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
