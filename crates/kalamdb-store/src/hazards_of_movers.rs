//! The hazards of storage that rows meet on their way into segments and between them. Interleavings are forced: what happens
//! meanwhile is done by the mover's own reports of progress.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;
use parking_lot::Mutex;

use crate::crashes::records;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, collect, compact_while, copy_directory, delete, files_under, flush,
    flush_while, ids, insert, key, load, load_all, load_rows, new_store, open, put, removal, request, rows, schema,
    segment_files, segment_options, spec, step, update,
};
use crate::{
    CommitError, DbState, HotUsage, Location, OnDuplicate, SegmentOptions, Seq, StorageId, StoreError, StoreId,
    TableChange, TableVersion,
};

/// Does something once.
struct Once<F>(AtomicBool, F);

impl<F: Fn()> Once<F> {
    fn new(what: F) -> Self {
        Self(AtomicBool::new(false), what)
    }

    fn run(&self) {
        if !self.0.swap(true, Ordering::SeqCst) {
            (self.1)();
        }
    }
}

fn text_of(store: &TestStore, id: i64) -> Option<String> {
    let found = rows(&store.state(), T, GLOBAL).into_iter().filter(|row| row.0 == id);
    let found: Vec<String> = found.map(|row| row.1).collect();
    assert!(found.len() <= 1, "{id} is there {} times", found.len());
    found.into_iter().next()
}

#[test]
fn flushed_rows_are_what_they_were() {
    let (directory, store) = new_store();
    for id in [5, 1, 3] {
        insert(&store, T, id, &format!("row {id}")).expect("commits");
    }
    let before = collect(store.state().scan(&schema(), spec(T, GLOBAL)).expect("scans"));
    let old = store.state();
    let moved = flush(&store);
    assert_eq!((moved.rows, moved.segments), (3, 1));
    assert_eq!(flush(&store).rows, 0);
    let check = |store: &TestStore| {
        let state = store.state();
        assert_eq!(collect(state.scan(&schema(), spec(T, GLOBAL)).expect("scans")), before);
        let found = state
            .find(&schema(), T, GLOBAL, &key(3), 0)
            .expect("reads")
            .expect("is there");
        assert!(matches!(found.location, Location::Cold(..)));
        assert_eq!(found.row.seq, before.iter().find(|row| row.0 == 3).expect("3").2);
        let got = state.get(&schema(), &spec(T, GLOBAL), &key(5)).expect("reads");
        assert_eq!(got.num_rows(), 1);
        assert_eq!(
            state
                .get(&schema(), &spec(T, GLOBAL), &key(4))
                .expect("reads")
                .num_rows(),
            0
        );
    };
    check(&store);
    assert_eq!(collect(old.scan(&schema(), spec(T, GLOBAL)).expect("scans")), before);
    drop((store, old));
    check(&open(directory.path()));
}

#[test]
fn a_limit_and_a_range_read_no_more_than_they_need() {
    let (_directory, store) = new_store();
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 0..6000);
    step(
        &store,
        vec![TableChange::Publish(block_on(load.finish()).expect("finishes"))],
    )
    .expect("publishes");
    for id in 0..10 {
        delete(&store, id).expect("commits");
    }
    let mut limited = spec(T, GLOBAL);
    limited.limit = Some(5);
    let mut scan = store.state().scan(&schema(), limited).expect("scans");
    let batch = scan.next_batch().expect("reads").expect("rows");
    assert_eq!(batch.num_rows(), 5);
    assert!(scan.next_batch().expect("reads").is_none());
    assert_eq!(scan.keys_read(), 15);

    let mut range = spec(T, GLOBAL);
    range.range.start = Bound::Included(key(4000));
    range.range.end = Bound::Excluded(key(4010));
    let mut scan = store.state().scan(&schema(), range).expect("scans");
    let batch = scan.next_batch().expect("reads").expect("rows");
    assert_eq!((batch.num_rows(), scan.keys_read()), (10, 10));
}

#[test]
fn parts_of_a_scan_are_disjoint_and_together_all() {
    let (_directory, store) = new_store();
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 0..6001);
    step(
        &store,
        vec![TableChange::Publish(block_on(load.finish()).expect("finishes"))],
    )
    .expect("publishes");
    insert(&store, T, 7000, "hot").expect("commits");
    for parts in [1, 2, 3] {
        let mut all = Vec::new();
        for part in 0..parts {
            let mut of_part = spec(T, GLOBAL);
            of_part.part = (part, parts);
            all.extend(
                collect(store.state().scan(&schema(), of_part).expect("scans"))
                    .into_iter()
                    .map(|row| row.0),
            );
        }
        all.sort_unstable();
        assert_eq!(all, (0..6001).chain([7000]).collect::<Vec<i64>>());
    }
}

#[test]
fn hazard_1_a_deletion_never_comes_back() {
    let (directory, store) = new_store();
    for id in 0..10 {
        insert(&store, T, id, "first").expect("commits");
    }
    flush(&store);
    delete(&store, 4).expect("commits");
    update(&store, 5, "second").expect("commits");
    flush(&store);
    delete(&store, 5).expect("commits");
    let expected: Vec<i64> = (0..10).filter(|id| ![4, 5].contains(id)).collect();
    assert_eq!(ids(&store, T), expected);
    compact_while(&store, |_, _| {});
    assert_eq!(ids(&store, T), expected);
    drop(store);
    let store = open(directory.path());
    assert_eq!(ids(&store, T), expected);
    insert(&store, T, 4, "again").expect("commits");
    flush(&store);
    compact_while(&store, |_, _| {});
    assert_eq!(text_of(&store, 4).as_deref(), Some("again"));
}

#[test]
fn hazard_10_a_write_planned_before_a_seal_lands_after_it() {
    let (_directory, store) = new_store();
    insert(&store, T, 1, "before").expect("commits");
    let planned = request(&store, vec![put(T, GLOBAL, 2, "planned")]);
    step(&store, vec![TableChange::Seal(T)]).expect("seals");
    block_on(store.commit(planned)).expect("a seal bounces nobody");
    let found = store
        .state()
        .find(&schema(), T, GLOBAL, &key(2), 0)
        .expect("reads")
        .expect("is there");
    assert_eq!(found.location, Location::Hot(crate::Epoch(1)));
    flush(&store);
    assert_eq!(ids(&store, T), [1, 2]);
    assert_eq!(store.state().table(T).expect("live").epochs.len(), 1);
}

#[test]
fn hazard_11_two_inserts_of_one_key_on_both_sides_of_a_seal() {
    let (_directory, store) = new_store();
    let (first, second) = (
        request(&store, vec![put(T, GLOBAL, 1, "first")]),
        request(&store, vec![put(T, GLOBAL, 1, "second")]),
    );
    block_on(store.commit(first)).expect("commits");
    step(&store, vec![TableChange::Seal(T)]).expect("seals");
    assert!(matches!(block_on(store.commit(second)), Err(CommitError::Conflict)));
    flush(&store);
    assert_eq!(text_of(&store, 1).as_deref(), Some("first"));
}

#[test]
fn hazard_12_one_cold_row_deleted_and_updated_from_two_snapshots() {
    let (_directory, store) = new_store();
    for id in 0..3 {
        insert(&store, T, id, "cold").expect("commits");
    }
    flush(&store);
    let state = store.state();
    let mut deletion = request(&store, vec![]);
    deletion.removals = vec![removal(&state, T, GLOBAL, 1)];
    let mut change = request(&store, vec![put(T, GLOBAL, 1, "changed")]);
    change.removals = vec![removal(&state, T, GLOBAL, 1)];
    block_on(store.commit(deletion)).expect("commits");
    assert!(matches!(block_on(store.commit(change)), Err(CommitError::Conflict)));
    assert_eq!(ids(&store, T), [0, 2]);
    let segments = store.state().segments(T).expect("reads");
    assert_eq!(segments.iter().map(|segment| segment.1).collect::<Vec<_>>(), [1]);
}

#[test]
fn hazard_13_a_row_that_moved_is_to_be_looked_up_again() {
    let (_directory, store) = new_store();
    for id in 0..3 {
        insert(&store, T, id, "hot").expect("commits");
    }
    let planned = |store: &TestStore| {
        let state = store.state();
        let mut change = request(store, vec![put(T, GLOBAL, 1, "changed")]);
        change.removals = vec![removal(&state, T, GLOBAL, 1)];
        change
    };
    let before_flush = planned(&store);
    flush(&store);
    assert!(matches!(block_on(store.commit(before_flush)), Err(CommitError::Stale)));
    insert(&store, T, 9, "another run").expect("commits");
    flush(&store);
    let before_compaction = planned(&store);
    compact_while(&store, |_, _| {});
    assert!(matches!(
        block_on(store.commit(before_compaction)),
        Err(CommitError::Stale)
    ));
    block_on(store.commit(planned(&store))).expect("looked up again");
    assert_eq!(text_of(&store, 1).as_deref(), Some("changed"));
}

#[test]
fn hazard_13_rows_changed_while_they_are_flushed_stay_changed() {
    for before_publish in [false, true] {
        let (directory, store) = new_store();
        for id in 0..20 {
            insert(&store, T, id, "old").expect("commits");
        }
        let meanwhile = Once::new(|| {
            delete(&store, 3).expect("commits");
            update(&store, 4, "new").expect("commits");
            insert(&store, T, 100, "new").expect("commits");
            delete(&store, 5).expect("commits");
            insert(&store, T, 5, "again").expect("commits");
        });
        flush_while(&store, |_, bytes| {
            if (bytes > 0) == before_publish {
                meanwhile.run();
            }
        });
        let expected: Vec<i64> = (0..20).filter(|&id| id != 3).chain([100]).collect();
        let check = |store: &TestStore| {
            assert_eq!(ids(store, T), expected);
            assert_eq!(text_of(store, 4).as_deref(), Some("new"));
            assert_eq!(text_of(store, 5).as_deref(), Some("again"));
            assert_eq!(text_of(store, 6).as_deref(), Some("old"));
        };
        check(&store);
        drop(store);
        check(&open(directory.path()));
    }
}

#[test]
fn hazard_13_rows_changed_while_they_are_merged_stay_changed() {
    for before_publish in [false, true] {
        let (_directory, store) = new_store();
        for run in 0..3 {
            for id in 0..20 {
                insert(&store, T, 3 * id + run, "old").expect("commits");
            }
            flush(&store);
        }
        delete(&store, 30).expect("commits");
        let meanwhile = Once::new(|| {
            delete(&store, 3).expect("commits");
            update(&store, 4, "new").expect("commits");
        });
        let moved = compact_while(&store, |_, bytes| {
            if (bytes > 0) == before_publish {
                meanwhile.run();
            }
        });
        assert_eq!(moved.rows, 59);
        let expected: Vec<i64> = (0..60).filter(|&id| id != 3 && id != 30).collect();
        assert_eq!(ids(&store, T), expected);
        assert_eq!(text_of(&store, 4).as_deref(), Some("new"));
        assert_eq!(store.state().segments(T).expect("reads").len(), 1);
    }
}

#[test]
fn hazard_14_an_old_state_keeps_its_rows_and_its_files() {
    let (directory, store) = new_store();
    for id in 0..10 {
        insert(&store, T, id, "cold").expect("commits");
    }
    flush(&store);
    let old = store.state();
    delete(&store, 1).expect("commits");
    insert(&store, T, 20, "more").expect("commits");
    flush(&store);
    compact_while(&store, |_, _| {});
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()).len(), 2);
    assert_eq!(rows(&old, T, GLOBAL).len(), 10);
    drop(old);
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()).len(), 1);
    assert_eq!(ids(&store, T).len(), 10);
}

#[test]
fn hazard_15_a_truncate_during_a_flush_or_a_compaction_wins() {
    for compaction in [false, true] {
        let (directory, store) = new_store();
        let next = StoreId(70);
        for id in 0..10 {
            insert(&store, T, id, "old").expect("commits");
        }
        if compaction {
            flush(&store);
            insert(&store, T, 10, "old").expect("commits");
            flush(&store);
        }
        let truncate = Once::new(|| {
            let version = TableVersion::new(crate::testing::VERSION, crate::Lifetime::Durable);
            step(&store, vec![TableChange::Retire(T), TableChange::Create(next, version)]).expect("commits");
            insert(&store, next, 1, "new").expect("commits");
        });
        let meanwhile = Meanwhile(|_, _| truncate.run());
        let options = segment_options();
        let moved = if compaction {
            store.compact(T, &schema(), &options, true, &meanwhile)
        } else {
            store.flush(T, &schema(), &options, &meanwhile)
        };
        assert!(matches!(moved, Err(StoreError::Retired(T))), "{moved:?}");
        assert_eq!(ids(&store, next), [1]);
        store.wait_for_eraser();
        assert_eq!(segment_files(directory.path()), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn hazard_16_a_restart_between_seal_and_publish_loses_and_doubles_nothing() {
    let (directory, store) = new_store();
    for id in 0..10 {
        insert(&store, T, id, "sealed").expect("commits");
    }
    let copies = [
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    ];
    flush_while(&store, |_, bytes| {
        let copy = &copies[usize::from(bytes > 0)];
        copy_directory(directory.path(), copy.path());
    });
    for copy in &copies {
        let store = open(copy.path());
        assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
        // What the crash left of the flush is gone.
        store.wait_for_eraser();
        assert_eq!(segment_files(copy.path()), [] as [std::path::PathBuf; 0]);
        insert(&store, T, 10, "later").expect("commits");
        delete(&store, 3).expect("commits");
        assert_eq!(flush(&store).rows, 10);
        assert_eq!(ids(&store, T), (0..11).filter(|&id| id != 3).collect::<Vec<_>>());
        assert_eq!(store.state().table(T).expect("live").epochs.len(), 1);
    }
}

/// What a crash left of a store when a flush had written a file into another storage. Another file in it was of a table that was
/// gone, and a reader had kept it.
struct CrashedElsewhere {
    copy: tempfile::TempDir,
    /// The storage is in it, in `there`.
    root: tempfile::TempDir,
    /// What crashed, and must not go on while the test looks.
    _crashed: (Arc<DbState<u64>>, Arc<TestStore>, tempfile::TempDir),
}

fn crash_with_files_elsewhere(storage: StorageId) -> CrashedElsewhere {
    let (directory, store) = new_store();
    let root = tempfile::tempdir().expect("a directory");
    store
        .add_storage(storage, &root.path().join("there"))
        .expect("a storage");
    let elsewhere = SegmentOptions {
        storage,
        ..segment_options()
    };
    let dropped = StoreId(8);
    crate::testing::create(&store, dropped);
    insert(&store, dropped, 1, "cold").expect("commits");
    store
        .flush(dropped, &schema(), &elsewhere, &Meanwhile(|_, _| {}))
        .expect("flushes");
    let reader = store.state();
    step(&store, vec![TableChange::Retire(dropped)]).expect("retires");
    for id in 0..10 {
        insert(&store, T, id, "hot").expect("commits");
    }
    let copy = tempfile::tempdir().expect("a directory");
    let crash = Once::new(|| copy_directory(directory.path(), copy.path()));
    let unpublished = Meanwhile(|_, bytes| {
        if bytes > 0 {
            crash.run();
        }
    });
    store.flush(T, &schema(), &elsewhere, &unpublished).expect("flushes");
    assert_eq!(files_under(root.path()).len(), 2);
    CrashedElsewhere {
        copy,
        root,
        _crashed: (reader, store, directory),
    }
}

#[test]
fn hazard_16_what_a_crash_left_in_another_storage_goes_although_nobody_adds_it() {
    let CrashedElsewhere { copy, root, _crashed } = crash_with_files_elsewhere(StorageId(4));
    let store = open(copy.path());
    store.wait_for_eraser();
    assert_eq!(files_under(root.path()), [] as [std::path::PathBuf; 0]);
    assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
    assert_eq!(records(&store, "file/"), [""; 0]);
}

#[test]
fn hazard_16_what_a_crash_left_in_a_storage_that_was_away_goes_when_it_is_back() {
    let storage = StorageId(4);
    for in_the_way in [false, true] {
        let CrashedElsewhere { copy, root, _crashed } = crash_with_files_elsewhere(storage);
        let (there, away) = (root.path().join("there"), root.path().join("away"));
        std::fs::rename(&there, &away).expect("moved");
        if in_the_way {
            std::fs::write(&there, "").expect("written");
        }
        let mut store = open(copy.path());
        store.wait_for_eraser();
        assert_eq!(files_under(&away).len(), 2);
        assert!(!there.is_dir(), "nobody asked for it");
        assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
        if in_the_way {
            std::fs::remove_file(&there).expect("removed");
        }
        std::fs::rename(&away, &there).expect("moved back");
        store.add_storage(storage, &there).expect("a storage");
        store.wait_for_eraser();
        assert_eq!(files_under(root.path()), [] as [std::path::PathBuf; 0]);
        // A storage that was moved is remembered where it is now.
        std::fs::rename(&there, &away).expect("moved");
        store.add_storage(storage, &away).expect("a storage");
        for _ in 0..2 {
            let paths = records(&store, "storage/");
            assert_eq!(paths, [away.to_str().expect("UTF-8")]);
            drop(store);
            store = open(copy.path());
        }
    }
}

#[test]
fn hazard_17_a_row_inserted_between_a_loads_check_and_its_publication() {
    for (on_duplicate, expected) in [
        (OnDuplicate::Fail, None),
        (OnDuplicate::Replace, Some("loaded 5")),
        (OnDuplicate::Ignore, Some("inserted")),
    ] {
        let (_directory, store) = new_store();
        let mut load = begin_load(&store, GLOBAL, on_duplicate);
        load_rows(&mut load, 0..10);
        let publication = block_on(load.finish()).expect("finishes");
        insert(&store, T, 5, "inserted").expect("commits");
        let published = step(&store, vec![TableChange::Publish(publication)]);
        match expected {
            None => {
                assert!(matches!(published, Err(CommitError::DuplicateKey { key: found }) if found == key(5)));
                assert_eq!(ids(&store, T), [5]);
            }
            Some(text) => {
                published.expect("publishes");
                assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
                assert_eq!(text_of(&store, 5).as_deref(), Some(text));
            }
        }
    }
}

#[test]
fn hazard_17_a_row_inserted_from_a_state_before_a_publication() {
    let (_directory, store) = new_store();
    let planned = request(&store, vec![put(T, GLOBAL, 5, "planned")]);
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 0..10);
    step(
        &store,
        vec![TableChange::Publish(block_on(load.finish()).expect("finishes"))],
    )
    .expect("publishes");
    assert!(matches!(block_on(store.commit(planned)), Err(CommitError::Stale)));
    assert_eq!(text_of(&store, 5).as_deref(), Some("loaded 5"));
}

#[test]
fn loads_in_any_order_with_duplicates_inside_and_against_the_table() {
    type Case = (OnDuplicate, Option<&'static str>, &'static str);
    let cases: [Case; 2] = [
        (OnDuplicate::Replace, Some("second 100"), "second 7"),
        (OnDuplicate::Ignore, Some("first 100"), "hot"),
    ];
    for (on_duplicate, inside, against) in cases {
        let (_directory, store) = new_store();
        insert(&store, T, 8, "cold").expect("commits");
        flush(&store);
        insert(&store, T, 7, "hot").expect("commits");
        let mut load = begin_load(&store, GLOBAL, on_duplicate);
        // 7,919 is prime to 6,000: all of them, in no order; then some again.
        let shuffled: Vec<i64> = (0..6000).map(|id| (id * 7919) % 6000).collect();
        for part in shuffled.chunks(700) {
            load_all(&mut load, part, "first").expect("writes");
        }
        load_all(&mut load, &[100, 7, 5999, 0], "second").expect("writes");
        assert_eq!(load.rows(), 6004);
        let publication = block_on(load.finish()).expect("finishes");
        assert_eq!(
            publication.rows(),
            if on_duplicate == OnDuplicate::Replace {
                6000
            } else {
                5998
            }
        );
        step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
        assert_eq!(ids(&store, T), (0..6000).collect::<Vec<_>>());
        assert_eq!(text_of(&store, 100).as_deref(), inside);
        assert_eq!(text_of(&store, 7).as_deref(), Some(against));
        compact_while(&store, |_, _| {});
        flush(&store);
        assert_eq!(ids(&store, T), (0..6000).collect::<Vec<_>>());
        assert_eq!(text_of(&store, 7).as_deref(), Some(against));
    }
}

#[test]
fn a_load_with_a_duplicate_is_refused_whole_and_leaves_no_file() {
    for (name, before, loaded) in [
        ("inside, in order", None, vec![1, 2, 2]),
        ("inside, out of order", None, vec![3, 1, 3]),
        ("against a hot row", Some(false), vec![1, 2, 9]),
        ("against a cold row", Some(true), vec![1, 2, 9]),
    ] {
        let (directory, store) = new_store();
        if let Some(cold) = before {
            insert(&store, T, 9, "there").expect("commits");
            if cold {
                flush(&store);
            }
        }
        let files = segment_files(directory.path());
        let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
        let refused = load_all(&mut load, &loaded, "no").and_then(|()| block_on(load.finish()).map(|_| ()));
        assert!(
            matches!(refused, Err(StoreError::DuplicateKey { .. })),
            "{name}: {refused:?}"
        );
        store.wait_for_eraser();
        assert_eq!(segment_files(directory.path()), files, "{name}");
        assert_eq!(ids(&store, T), if before.is_some() { vec![9] } else { vec![] });
    }
}

#[test]
fn the_count_of_hot_rows_follows_what_happens() {
    let (directory, store) = new_store();
    for id in 0..5 {
        insert(&store, T, id, "row").expect("commits");
    }
    assert_eq!(store.hot_usage(T).rows, 5);
    assert!(store.hot_usage(T).bytes > 0 && store.hot_usage(T).since_micros > 0);
    delete(&store, 1).expect("commits");
    update(&store, 2, "changed").expect("commits");
    assert_eq!(store.hot_usage(T).rows, 4);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.hot_usage(T).rows, 4);

    // Rows that wait for their flush, or are in it, are hot; a restart knows of them as well.
    let before = store.hot_usage(T);
    step(&store, vec![TableChange::Seal(T)]).expect("seals");
    let sealed = HotUsage {
        sealed_rows: before.rows,
        sealed_bytes: before.bytes,
        ..HotUsage::default()
    };
    assert_eq!((store.hot_usage(T), sealed.all_bytes()), (sealed, before.bytes));
    insert(&store, T, 5, "row").expect("commits");
    delete(&store, 3).expect("commits");
    let after = store.hot_usage(T);
    assert_eq!((after.rows, after.sealed_rows), (1, 3));
    assert!(after.bytes > 0 && after.sealed_bytes > 0 && after.sealed_bytes < before.bytes);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.hot_usage(T), after);
    // The sealed ones first, and then the others.
    let seen = Mutex::new(Vec::new());
    flush_while(&store, |_, bytes| {
        if bytes > 0 {
            let usage = store.hot_usage(T);
            seen.lock().push((usage.rows, usage.sealed_rows));
        }
    });
    assert_eq!(seen.into_inner(), [(1, 3), (0, 1)]);
    assert_eq!(store.hot_usage(T), HotUsage::default());
    delete(&store, 2).expect("commits");
    insert(&store, T, 9, "hot").expect("commits");
    assert_eq!(store.hot_usage(T).rows, 1);
    load(&store, GLOBAL, OnDuplicate::Replace, &[9], "loaded");
    assert_eq!(store.hot_usage(T), HotUsage::default());
    assert!(store.state().seq() > Seq(0));
    drop(store);
    assert_eq!(open(directory.path()).hot_usage(T), HotUsage::default());
}

#[test]
fn a_missing_or_damaged_file_is_named_and_refuses_its_table_only() {
    let other = StoreId(8);
    for (storage, remove) in [
        (StorageId::DEFAULT, true),
        (StorageId::DEFAULT, false),
        (StorageId(4), true),
        (StorageId(4), false),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let add = |store: &TestStore| match storage {
            StorageId::DEFAULT => {}
            named => store.add_storage(named, root.path()).expect("a storage"),
        };
        let (directory, store) = new_store();
        add(&store);
        crate::testing::create(&store, other);
        insert(&store, other, 1, "fine").expect("commits");
        for id in 0..10 {
            insert(&store, T, id, "cold").expect("commits");
        }
        let options = SegmentOptions {
            storage,
            ..segment_options()
        };
        store
            .flush(T, &schema(), &options, &Meanwhile(|_, _| {}))
            .expect("flushes");
        let in_default = segment_files(directory.path());
        let file = files_under(root.path())
            .into_iter()
            .chain(in_default)
            .next()
            .expect("one");
        drop(store);
        if remove {
            std::fs::remove_file(&file).expect("removed");
        } else {
            let bytes = std::fs::read(&file).expect("reads");
            std::fs::write(&file, &bytes[..bytes.len() - 1]).expect("writes");
        }
        let store = open(directory.path());
        add(&store);
        // Nothing was read yet: it was seen when the storage was opened.
        let state = store.state();
        let mut segments = state.table(T).expect("live").segments.iter();
        assert!(segments.next().is_some_and(|segment| segment.check().is_err()));
        assert_eq!(ids(&store, other), [1]);
        let error = state
            .find(&schema(), T, GLOBAL, &key(1), 0)
            .expect_err("refused")
            .to_string();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(error.contains(&name), "{error}");
        assert!(state.scan(&schema(), spec(T, GLOBAL)).is_err());
        let checked = store.check(T, &schema(), &Meanwhile(|_, _| {})).expect("checks");
        assert_eq!(checked.problems.len(), 1);
    }
}
