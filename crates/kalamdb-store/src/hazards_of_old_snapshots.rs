//! The hazards of readers that take long, or never read on: what they pin goes once it is too old, they hear of it and of nothing
//! worse, and nobody else is concerned.

use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::WaitForCompactOptions;

use crate::crashes::records;
use crate::pinned::IterateOptions;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, compact_while, delete, finish, flush, ids, insert, key, load,
    load_all, new_store, schema, segment_files, segment_options, spec, step, update,
};
use crate::{OnDuplicate, Scan, ScanOrder, ScanSpec, StoreError, TableChange};

/// How long what was replaced may be read, µs.
const LIFE: i64 = 10;

/// Rows in segments, and as many hot ones.
const ROWS: i64 = 40;

/// Looks for what is too old at this time.
fn end_old(store: &TestStore, now_micros: i64) -> usize {
    store.end_old_snapshots(now_micros, Some(LIFE))
}

/// Two segments of two runs, and hot rows in a file of RocksDB; that file.
fn table() -> (tempfile::TempDir, Arc<TestStore>, PathBuf) {
    let (directory, store) = new_store();
    let even: Vec<i64> = (0..ROWS / 2).map(|id| 2 * id).collect();
    let odd: Vec<i64> = even.iter().map(|id| id + 1).collect();
    load(&store, GLOBAL, OnDuplicate::Fail, &even, "loaded");
    load(&store, GLOBAL, OnDuplicate::Fail, &odd, "loaded");
    for id in ROWS..2 * ROWS {
        insert(&store, T, id, "hot").expect("commits");
    }
    let engine = store.engine();
    engine.db().flush_cf(engine.hot()).expect("is written");
    let live = engine.db().live_files().expect("are listed");
    let hot: Vec<_> = live.iter().filter(|file| file.column_family_name == "hot").collect();
    let [file] = hot[..] else { panic!("{hot:?}") };
    let path = directory.path().join("rocksdb").join(file.name.trim_start_matches('/'));
    (directory, store, path)
}

/// Replaces all that is there: segments by a merged one, and hot rows and their file by a flush and RocksDB's own work.
fn replace_everything(store: &Arc<TestStore>) {
    delete(store, 0).expect("commits");
    flush(store);
    compact_while(store, |_, _| {});
    let engine = store.engine();
    let whole: Option<&[u8]> = None;
    engine.db().flush_cf(engine.hot()).expect("is written");
    engine.db().compact_range_cf(engine.hot(), whole, whole);
    let wait = WaitForCompactOptions::default();
    engine.db().wait_for_compact(&wait).expect("nothing is wrong");
    store.wait_for_eraser();
}

fn short(order: ScanOrder) -> ScanSpec {
    ScanSpec {
        order,
        batch_rows: 3,
        ..spec(T, GLOBAL)
    }
}

#[track_caller]
fn assert_too_old<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::SnapshotTooOld)), "{answer:?}");
}

fn held_snapshots(store: &TestStore) -> u64 {
    let engine = store.engine();
    let held = engine.db().property_int_value("rocksdb.num-snapshots");
    held.expect("is known").expect("is a number")
}

/// Takes batches until rows of an id from `from` on come.
fn read_to(scan: &mut Scan, from: i64) {
    use arrow::array::AsArray;
    loop {
        let batch = scan.next_batch().expect("reads").expect("there are more");
        let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        if ids.values().iter().any(|id| *id >= from) {
            return;
        }
    }
}

#[test]
fn what_a_reader_pins_goes_when_it_is_too_old_although_it_never_reads_on() {
    for order in [ScanOrder::Any, ScanOrder::Ascending] {
        // In the middle of segments, and of hot rows.
        for from in [1, ROWS + 1] {
            let (directory, store, hot_file) = table();
            let old = store.state();
            let mut scan = old.scan(&schema(), short(order)).expect("the scan starts");
            read_to(&mut scan, from);
            let files = segment_files(directory.path());
            replace_everything(&store);
            let is_there = |file: &PathBuf| file.exists();
            assert!(files.iter().all(is_there), "a reader has them");
            assert_eq!(hot_file.exists(), from > ROWS, "an iterator has it");

            assert_eq!(end_old(&store, 100), 0);
            assert_eq!(end_old(&store, 100 + LIFE - 1), 0);
            store.wait_for_eraser();
            assert!(files.iter().all(is_there));
            assert!(scan.next_batch().expect("reads").is_some());
            assert_eq!(end_old(&store, 100 + LIFE), 1);
            store.wait_for_eraser();
            assert!(!files.iter().any(is_there), "{files:?}");
            assert!(!hot_file.exists());
            assert_eq!(held_snapshots(&store), 1);
            assert_eq!(records(&store, "file/"), [""; 0]);

            // Whoever reads on is told why, and it is no damage.
            assert_too_old(scan.next_batch());
            assert_too_old(old.find(&schema(), T, GLOBAL, &key(1), 0));
            assert_too_old(old.get(&schema(), &spec(T, GLOBAL), &key(ROWS)));
            assert_too_old(old.find_all(&schema(), T, GLOBAL, &[key(1), key(2)]));
            assert_too_old(old.scan(&schema(), short(order)).map(|_| ()));
            assert_too_old(old.segments(T));
            assert_eq!(end_old(&store, 1000), 0, "once is enough");
            assert_eq!(ids(&store, T), (1..2 * ROWS).collect::<Vec<_>>());
            let checked = store.check(T, &schema(), &Meanwhile(|_, _| {})).expect("checks");
            assert_eq!(checked.problems, []);
        }
    }
}

#[test]
fn nothing_is_ended_without_a_limit_and_never_what_is_still_the_newest() {
    let (_directory, store, _) = table();
    let mut scan = store
        .state()
        .scan(&schema(), short(ScanOrder::Any))
        .expect("the scan starts");
    for now_micros in [0, LIFE, 1_000_000] {
        assert_eq!(end_old(&store, now_micros), 0);
    }
    assert!(scan.next_batch().expect("reads").is_some());
    replace_everything(&store);
    for now_micros in [1_000_000, 2_000_000] {
        assert_eq!(store.end_old_snapshots(now_micros, None), 0);
    }
    assert!(scan.next_batch().expect("reads").is_some());
}

#[test]
fn who_reads_at_that_moment_comes_to_the_end_of_the_batch() {
    let (_directory, store, hot_file) = table();
    let old = store.state();
    let engine = store.engine();
    let options = IterateOptions {
        lower: Vec::new(),
        upper: None,
        readahead_bytes: 0,
    };
    let iterator = old.pinned().iterate(engine.hot(), &options);
    let mut rows = iterator.rows().expect("reads");
    rows.seek(&[]);
    replace_everything(&store);
    assert_eq!(end_old(&store, 0), 0);
    assert_eq!(end_old(&store, LIFE), 1);
    rows.next();
    assert!(rows.key().is_some());
    assert!(hot_file.exists());
    drop(rows);
    assert_too_old(iterator.rows().map(|_| ()));
    assert_eq!(end_old(&store, LIFE), 0);
    assert!(!hot_file.exists());
    assert_eq!(held_snapshots(&store), 1);
}

/// What ends old snapshots at a moment of work that goes on.
fn end_everything_at(store: &Arc<TestStore>, moment: &'static str) {
    let meanwhile = store.clone();
    store.engine().at(moment, move || {
        update(&meanwhile, ROWS + 5, "changed").expect("commits");
        assert_eq!(end_old(&meanwhile, 0), 0);
        assert_eq!(end_old(&meanwhile, LIFE), 0, "{moment}");
    });
}

#[test]
fn the_databases_own_work_is_not_ended() {
    let (_directory, store, _) = table();
    end_everything_at(&store, "flush-begun");
    flush(&store);
    for moment in ["load-begun", "load-resolved"] {
        end_everything_at(&store, moment);
        let mut load = begin_load(&store, GLOBAL, OnDuplicate::Replace);
        load_all(&mut load, &[1, ROWS + 5, 1000], "again").expect("writes");
        let publication = finish(load).expect("finishes");
        step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
    }
    end_everything_at(&store, "compaction-begun");
    compact_while(&store, |_, _| {});
    let expected: Vec<i64> = (0..2 * ROWS).chain([1000]).collect();
    assert_eq!(ids(&store, T), expected);
    let options = segment_options();
    let moved = store.flush(T, &schema(), &options, &Meanwhile(|_, _| {}));
    assert_eq!(moved.expect("flushes").rows, 1, "what was changed meanwhile");
}

#[test]
fn a_segment_that_is_held_alone_has_its_time_too() {
    let (directory, store, _) = table();
    let segments: Vec<_> = {
        let state = store.state();
        let table = state.table(T).expect("live");
        table.segments.iter().cloned().collect()
    };
    let files = segment_files(directory.path());
    replace_everything(&store);
    for now_micros in [0, LIFE - 1] {
        end_old(&store, now_micros);
        store.wait_for_eraser();
        assert!(files.iter().all(|file| file.exists()), "{now_micros}");
    }
    end_old(&store, LIFE);
    store.wait_for_eraser();
    assert!(!files.iter().any(|file| file.exists()));
    for segment in &segments {
        let opened = store.engine().opened().get(segment, &schema());
        // One of them is in it, and not in the index, which is in memory.
        let keys = [key(3), key(4)];
        assert_too_old(opened.and_then(|file| file.find(GLOBAL, &[&keys[0], &keys[1]])));
    }
    store.state().check_segments(T).expect("nothing is damaged");
    // Their records are gone, and nothing is erased twice.
    drop(segments);
    store.wait_for_eraser();
    assert_eq!(records(&store, "file/"), [""; 0]);
}
