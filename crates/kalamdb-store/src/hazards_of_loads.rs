//! The hazards of a load between the first look at its table and its publication. Interleavings are forced: see `Engine::at`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;

use futures::executor::block_on;

use crate::engine::Fault;
use crate::hazards_of_movers::text_of;
use crate::testing::{
    At, AtEach, GLOBAL, T, TestStore, assert_rows, begin_change, begin_load, collect, compact_while, delete, finish,
    finish_unless, flush, ids, insert, key, load, load_all, load_rows, new_store, open, put, removal, request, rows,
    schema, segment_files, segment_options, spec, step, update,
};
use crate::{CommitError, Lifetime, OnDuplicate, Publication, StoreError, StoreId, TableChange, TableVersion};

/// A load of these ids, complete and looked up.
fn prepared(store: &Arc<TestStore>, on_duplicate: OnDuplicate, ids: &[i64]) -> Result<Arc<Publication>, StoreError> {
    let mut load = begin_load(store, GLOBAL, on_duplicate);
    load_all(&mut load, ids, "loaded")?;
    finish(load)
}

fn publish(store: &TestStore, publication: Arc<Publication>) -> Result<(), CommitError> {
    step(store, vec![TableChange::Publish(publication)]).map(|_| ())
}

/// Has something done at a moment, by the thread that comes by.
fn at(store: &Arc<TestStore>, moment: &'static str, what: impl FnOnce(&Arc<TestStore>) + Send + 'static) {
    let hooked = Arc::downgrade(store);
    store
        .engine()
        .at(moment, move || what(&hooked.upgrade().expect("somebody uses it")));
}

#[test]
fn hazard_17_what_others_do_at_any_moment_of_a_load_is_met() {
    // Of the load's keys 1 is there from the start, hot or cold; others insert 2, change 1 or remove it.
    type Change = fn(&Arc<TestStore>);
    let inserts: Change = |store| {
        insert(store, T, 2, "inserted").expect("commits");
    };
    let changes: Change = |store| {
        update(store, 1, "changed").expect("commits");
    };
    let removes: Change = |store| {
        delete(store, 1).expect("commits");
    };
    let makes_anew: Change = |store| {
        delete(store, 1).expect("commits");
        insert(store, T, 1, "anew").expect("commits");
    };
    let cases: [(OnDuplicate, Change, &str, &str); 8] = [
        (OnDuplicate::Replace, inserts, "loaded 1", "loaded 2"),
        (OnDuplicate::Replace, changes, "loaded 1", "loaded 2"),
        (OnDuplicate::Replace, removes, "loaded 1", "loaded 2"),
        (OnDuplicate::Replace, makes_anew, "loaded 1", "loaded 2"),
        (OnDuplicate::Ignore, inserts, "old", "inserted"),
        (OnDuplicate::Ignore, changes, "changed", "loaded 2"),
        (OnDuplicate::Ignore, removes, "loaded 1", "loaded 2"),
        (OnDuplicate::Ignore, makes_anew, "anew", "loaded 2"),
    ];
    for moment in ["load-begun", "load-resolved", "load-following", "finished"] {
        for cold in [false, true] {
            for (number, (on_duplicate, change, first, second)) in cases.into_iter().enumerate() {
                let (_directory, store) = new_store();
                insert(&store, T, 1, "old").expect("commits");
                if cold {
                    flush(&store);
                }
                at(&store, moment, change);
                let publication = prepared(&store, on_duplicate, &[1, 2, 3]).expect("finishes");
                store.engine().moment("finished");
                publish(&store, publication).expect("publishes");
                let expected = BTreeMap::from([
                    (1, first.to_string()),
                    (2, second.to_string()),
                    (3, "loaded 3".to_string()),
                ]);
                let described = format!("case {number}, cold: {cold}, {moment}");
                assert_eq!(ids(&store, T), [1, 2, 3], "{described}");
                assert_rows(&store.state(), GLOBAL, &expected);
                let segments = store.state().segments(T).expect("reads");
                let cold: i64 = segments
                    .iter()
                    .map(|(entry, dead)| i64::from(entry.rows) - i64::from(*dead))
                    .sum();
                assert_eq!(cold + store.hot_usage(T).rows as i64, 3, "{described}");
            }
        }
    }
}

#[test]
fn hazard_17_a_key_inserted_at_any_moment_of_a_load_is_a_duplicate() {
    for moment in ["load-begun", "load-resolved", "load-following", "finished"] {
        let (_directory, store) = new_store();
        at(&store, moment, |store| {
            insert(store, T, 2, "inserted").expect("commits");
        });
        let finished = prepared(&store, OnDuplicate::Fail, &[1, 2, 3]);
        store.engine().moment("finished");
        assert_eq!(ids(&store, T), [2]);
        if moment != "finished" {
            assert!(
                matches!(finished, Err(StoreError::DuplicateKey { .. })),
                "{moment}: {:?}",
                finished.map(|_| ())
            );
            continue;
        }
        let publication = finished.expect("finishes");
        // Each time anew, however often.
        for _ in 0..2 {
            let refused = publish(&store, publication.clone());
            assert!(matches!(refused, Err(CommitError::DuplicateKey { .. })), "{refused:?}");
        }
        assert_eq!(ids(&store, T), [2]);
        // Whoever takes it away again opens the way.
        delete(&store, 2).expect("commits");
        publish(&store, publication).expect("publishes");
        assert_eq!(ids(&store, T), [1, 2, 3]);
    }
}

#[test]
fn hazard_17_a_commit_is_visible_before_a_load_hears_of_it() {
    let (_directory, store) = new_store();
    // So many that the load does not leave them to the committer.
    let many: Vec<i64> = (0..2 * crate::tuning::WATCH_REST_KEYS as i64).collect();
    let (half_published, at_half) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel::<()>();
    store.engine().at("half-published", move || {
        half_published.send(()).expect("the load waits");
        gone_on.recv().expect("the test lets it go on");
    });
    let inserted = many.clone();
    at(&store, "load-resolved", move |store| {
        let puts = inserted.iter().map(|&id| put(T, GLOBAL, id, "inserted")).collect();
        // Submitted; the answer is of no interest here.
        drop(store.commit(request(store, puts)));
        at_half.recv().expect("the committer comes by");
    });
    let publication = prepared(&store, OnDuplicate::Fail, &many).expect("finishes");
    go_on.send(()).expect("the committer waits");
    let refused = publish(&store, publication);
    assert!(matches!(refused, Err(CommitError::DuplicateKey { .. })), "{refused:?}");
    assert_eq!(ids(&store, T), many);
}

#[test]
fn hazard_17_more_changes_than_a_watch_holds_fail_the_load() {
    let (_directory, store) = new_store();
    let publication = prepared(&store, OnDuplicate::Fail, &[1, 2, 3]).expect("finishes");
    let puts = (0..=crate::tuning::WATCH_KEYS as i64).map(|id| put(T, GLOBAL, 10 + id, ""));
    block_on(store.commit(request(&store, puts.collect()))).expect("commits");
    insert(&store, T, 2, "inserted").expect("commits");
    for _ in 0..2 {
        let refused = publish(&store, publication.clone());
        assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
    }
}

#[test]
fn hazard_17_rows_stay_where_a_load_found_them_until_it_is_published() {
    for on_duplicate in [OnDuplicate::Replace, OnDuplicate::Ignore] {
        let (_directory, store) = new_store();
        insert(&store, T, 1, "old").expect("commits");
        let publication = prepared(&store, on_duplicate, &[1, 2]).expect("finishes");
        assert!(store.publishers().is_held(T));
        let (written, wait) = mpsc::channel();
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| {
                let progress = AtEach::new(|at| {
                    if at == At::Written {
                        written.send(()).expect("the test waits");
                    }
                });
                store.flush(T, &schema(), &segment_options(), &progress)
            });
            wait.recv().expect("the flush comes by");
            publish(&store, publication).expect("publishes");
            flush.join().expect("no panic").expect("flushes");
        });
        let first = if on_duplicate == OnDuplicate::Replace {
            "loaded 1"
        } else {
            "old"
        };
        let expected = BTreeMap::from([(1, first.to_string()), (2, "loaded 2".to_string())]);
        assert_rows(&store.state(), GLOBAL, &expected);
        assert!(!store.publishers().is_held(T));
    }
}

#[test]
fn hazard_17_a_row_found_before_a_load_replaced_it_is_to_be_looked_up_again() {
    for cold in [false, true] {
        let (_directory, store) = new_store();
        insert(&store, T, 1, "old").expect("commits");
        if cold {
            flush(&store);
        }
        let mut change = request(&store, vec![put(T, GLOBAL, 1, "changed")]);
        change.removals = vec![removal(&store.state(), T, GLOBAL, 1)];
        let mut deletion = change.clone();
        deletion.puts.clear();
        // A request with removals alone, and one that also puts.
        load(&store, GLOBAL, OnDuplicate::Replace, &[1], "loaded");
        for planned in [deletion, change] {
            assert!(matches!(block_on(store.commit(planned)), Err(CommitError::Stale)));
        }
        let expected = BTreeMap::from([(1, "loaded 1".to_string())]);
        assert_rows(&store.state(), GLOBAL, &expected);
        assert_eq!(store.hot_usage(T).rows, 0);
    }
}

#[test]
fn a_load_meets_keys_in_a_sealed_epoch() {
    for on_duplicate in [OnDuplicate::Fail, OnDuplicate::Replace, OnDuplicate::Ignore] {
        let (_directory, store) = new_store();
        insert(&store, T, 1, "sealed").expect("commits");
        step(&store, vec![TableChange::Seal(T)]).expect("seals");
        match prepared(&store, on_duplicate, &[1, 2]) {
            Err(StoreError::DuplicateKey { .. }) => assert_eq!(on_duplicate, OnDuplicate::Fail),
            Err(error) => panic!("{error}"),
            Ok(publication) => {
                publish(&store, publication).expect("publishes");
                let first = if on_duplicate == OnDuplicate::Replace {
                    "loaded 1"
                } else {
                    "sealed"
                };
                let expected = BTreeMap::from([(1, first.to_string()), (2, "loaded 2".to_string())]);
                assert_rows(&store.state(), GLOBAL, &expected);
                flush(&store);
                assert_rows(&store.state(), GLOBAL, &expected);
            }
        }
    }
}

#[test]
fn hazard_15_a_truncate_between_a_loads_check_and_its_publication() {
    let (directory, store) = new_store();
    insert(&store, T, 1, "old").expect("commits");
    let publication = prepared(&store, OnDuplicate::Replace, &[1, 2]).expect("finishes");
    let next = StoreId(70);
    let version = TableVersion::new(crate::testing::VERSION, Lifetime::Durable);
    step(&store, vec![TableChange::Retire(T), TableChange::Create(next, version)]).expect("commits");
    assert!(matches!(publish(&store, publication), Err(CommitError::Retired(T))));
    assert_eq!(ids(&store, next), [] as [i64; 0]);
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), [] as [std::path::PathBuf; 0]);
}

#[test]
fn hazard_20_a_load_that_was_not_published_is_gone_after_a_crash() {
    let (directory, store) = new_store();
    insert(&store, T, 1, "old").expect("commits");
    let crashed = |name: &str| {
        let copy = tempfile::tempdir().expect("a directory");
        crate::testing::copy_directory(directory.path(), copy.path());
        let store = open(copy.path());
        store.wait_for_eraser();
        assert_eq!(segment_files(copy.path()), [] as [std::path::PathBuf; 0], "{name}");
        assert_rows(&store.state(), GLOBAL, &BTreeMap::from([(1, "old".to_string())]));
    };
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Replace);
    load_all(&mut load, &[1, 2], "loaded").expect("writes");
    // Out of order: a run of its own.
    load_all(&mut load, &(-1500..0).rev().collect::<Vec<_>>(), "loaded").expect("writes");
    crashed("while it is written");
    let publication = finish(load).expect("finishes");
    crashed("before it is published");
    publish(&store, publication).expect("publishes");
    assert_eq!(ids(&store, T).len(), 1502);
}

#[test]
fn the_files_of_a_load_that_is_given_up_or_refused_go() {
    let (directory, store) = new_store();
    let none = [] as [std::path::PathBuf; 0];
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_all(&mut load, &[1, 2], "loaded").expect("writes");
    load_all(&mut load, &(-1500..0).rev().collect::<Vec<_>>(), "loaded").expect("writes");
    drop(load);
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), none);

    let publication = prepared(&store, OnDuplicate::Fail, &[1, 2]).expect("finishes");
    store.engine().set_fault(Some(Fault::Refuse));
    assert!(matches!(publish(&store, publication), Err(CommitError::Storage(_))));
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), none);
    assert_eq!(ids(&store, T), [] as [i64; 0]);
}

#[test]
fn a_load_that_is_to_give_up_stops_wherever_it_is_and_leaves_nothing() {
    let (directory, store) = new_store();
    let old: Vec<i64> = (0..3000).collect();
    load(&store, GLOBAL, OnDuplicate::Fail, &old, "old");
    insert(&store, T, -1, "hot").expect("commits");
    let files = segment_files(directory.path());
    let all = || {
        let mut all = rows(&store.state(), T, GLOBAL);
        all.sort();
        all
    };
    let before = all();
    // Each time it is asked it says so a little later, until nobody asks so often.
    let mut stopped = 0;
    loop {
        // Rows that were found, were moved then, and are to be replaced out of order, in several passes.
        let mut change = begin_change(&store, &store.state(), &[-1, 1, 2000]);
        if stopped == 0 {
            flush(&store);
            compact_while(&store, |_, _| {});
        }
        let backwards: Vec<i64> = (3000..16_000).rev().chain([2000, 1, -1]).collect();
        for part in backwards.chunks(1000) {
            load_all(&mut change, part, "new").expect("writes");
        }
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let give_up = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= stopped;
        match finish_unless(change, &give_up) {
            Err(StoreError::Cancelled) => stopped += 1,
            Ok(publication) => {
                publish(&store, publication).expect("publishes");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        store.wait_for_eraser();
        if stopped > 1 {
            assert_eq!(segment_files(directory.path()).len(), files.len(), "{stopped}");
        }
        assert!(all() == before, "{stopped}");
        assert!(!store.publishers().is_held(T));
    }
    assert!(stopped >= 4, "it was asked {stopped} times");
    assert_eq!(text_of(&store, 2000).as_deref(), Some("new 2000"));
}

#[test]
fn rows_of_one_key_that_are_merged_in_two_batches_are_one_row() {
    // Out of order and in several parts, so that all of them are merged.
    let many = crate::tuning::MOVE_BATCH_ROWS as i64;
    let backwards: Vec<i64> = (0..many + 500).rev().collect();
    for (on_duplicate, text) in [
        (OnDuplicate::Fail, None),
        (OnDuplicate::Replace, Some("second")),
        (OnDuplicate::Ignore, Some("first")),
    ] {
        let (directory, store) = new_store();
        let mut load = begin_load(&store, GLOBAL, on_duplicate);
        for part in backwards.chunks(4000) {
            load_all(&mut load, part, "first").expect("writes");
        }
        // In the order of keys, the first one is the last of a batch and the second the first of the next.
        load_all(&mut load, &[many - 1], "second").expect("writes");
        match (finish(load), text) {
            (Err(StoreError::DuplicateKey { key: found }), None) => assert_eq!(found, key(many - 1)),
            (Ok(publication), Some(text)) => {
                publish(&store, publication).expect("publishes");
                let found = rows(&store.state(), T, GLOBAL);
                let expected = (0..many + 500).map(|id| {
                    let text = if id == many - 1 { text } else { "first" };
                    (id, format!("{text} {id}"))
                });
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
            (Err(error), _) => panic!("{error}"),
            (Ok(_), None) => panic!("two rows of one key are loaded"),
        }
        drop(store);
        let store = open(directory.path());
        store.wait_for_eraser();
        assert_eq!(
            segment_files(directory.path()).len(),
            if text.is_some() { 4 } else { 0 }
        );
    }
}

#[test]
fn loaded_rows_take_numbers_that_nobody_else_has() {
    let (_directory, store) = new_store();
    for round in 0..3 {
        insert(&store, T, 1000 + round, "row").expect("commits");
        load(
            &store,
            GLOBAL,
            OnDuplicate::Fail,
            &[10 * round, 10 * round + 1],
            "loaded",
        );
    }
    let state = store.state();
    let mut seqs: Vec<_> = collect(state.scan(&schema(), spec(T, GLOBAL)).expect("scans"))
        .into_iter()
        .map(|row| row.2)
        .collect();
    assert!(seqs.iter().all(|seq| *seq <= state.seq()));
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 9);
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
