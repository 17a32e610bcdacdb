//! The hazards of storage that rows meet on their way into segments and between them. Interleavings are forced: what happens
//! meanwhile is done by the mover's own reports of progress.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;
use parking_lot::Mutex;

use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, collect, compact_while, delete, flush, flush_while, ids, insert, key,
    load, load_rows, new_store, open, put, removal, request, rows, schema, segment_files, segment_options, spec, step,
    update,
};
use crate::{CommitError, HotUsage, Location, OnDuplicate, Seq, StoreError, StoreId, TableChange, TableVersion};

/// Does something once.
pub(crate) struct Once<F>(AtomicBool, F);

impl<F: Fn()> Once<F> {
    pub(crate) fn new(what: F) -> Self {
        Self(AtomicBool::new(false), what)
    }

    pub(crate) fn run(&self) {
        if !self.0.swap(true, Ordering::SeqCst) {
            (self.1)();
        }
    }
}

pub(crate) fn text_of(store: &TestStore, id: i64) -> Option<String> {
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
    for deletion_first in [true, false] {
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
        let (first, second) = match deletion_first {
            true => (deletion, change),
            false => (change, deletion),
        };
        block_on(store.commit(first)).expect("commits");
        let refused = block_on(store.commit(second));
        assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
        let left = (!deletion_first).then_some("changed");
        assert_eq!(text_of(&store, 1).as_deref(), left);
        assert_eq!(ids(&store, T).len(), 2 + usize::from(left.is_some()));
        let segments = store.state().segments(T).expect("reads");
        assert_eq!(segments.iter().map(|segment| segment.1).collect::<Vec<_>>(), [1]);
    }
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
fn hazard_5_hot_rows_are_as_old_as_the_first_of_them() {
    let (directory, store) = new_store();
    let first = insert(&store, T, 1, "first").expect("commits").updated_micros;
    let second = insert(&store, T, 2, "second").expect("commits").updated_micros;
    assert!(second > first);
    assert_eq!(store.hot_usage(T).since_micros, first);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.hot_usage(T).since_micros, first);
    flush(&store);
    assert_eq!(store.hot_usage(T), HotUsage::default());
    let third = insert(&store, T, 3, "third").expect("commits").updated_micros;
    update(&store, 3, "changed").expect("commits");
    assert_eq!(store.hot_usage(T).since_micros, third);
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
    assert!(after.bytes > 0 && after.sealed_bytes == before.bytes);
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
    // A long row is not forgotten with short ones.
    insert(&store, T, 7, &"long".repeat(1_000)).expect("commits");
    for id in 20..30 {
        insert(&store, T, id, "short").expect("commits");
    }
    for id in 20..30 {
        delete(&store, id).expect("commits");
    }
    assert!(store.hot_usage(T).rows == 1 && store.hot_usage(T).bytes > 4_000);
    delete(&store, 7).expect("commits");
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
