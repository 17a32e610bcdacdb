//! The hazards of a large UPDATE or DELETE: a load that removes rows, between the moment at which they were found and its
//! publication. Interleavings are forced: see `Engine::at`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::executor::block_on;

use crate::testing::{
    GLOBAL, T, TestStore, assert_rows, begin_change, compact_while, delete, finish, flush, ids, insert, key, load_all,
    new_store, put, removal, request, step, update,
};
use crate::{CommitError, Publication, StoreError, TableChange};

/// A table with the rows 0..10: hot, or in a segment.
fn table(cold: bool) -> (tempfile::TempDir, Arc<TestStore>) {
    let (directory, store) = new_store();
    for id in 0..10 {
        insert(&store, T, id, "old").expect("commits");
    }
    if cold {
        flush(&store);
    }
    (directory, store)
}

fn rows(ids: impl IntoIterator<Item = i64>, text: impl Fn(i64) -> String) -> BTreeMap<i64, String> {
    ids.into_iter().map(|id| (id, text(id))).collect()
}

fn publish(store: &TestStore, publication: Arc<Publication>) -> Result<(), CommitError> {
    step(store, vec![TableChange::Publish(publication)]).map(|_| ())
}

#[test]
fn hazard_12_a_small_change_of_a_row_at_any_moment_of_a_large_one() {
    type Change = fn(&Arc<TestStore>);
    let changes: Change = |store| {
        update(store, 3, "small").expect("commits");
    };
    let removes: Change = |store| {
        delete(store, 3).expect("commits");
    };
    let makes_anew: Change = |store| {
        delete(store, 3).expect("commits");
        insert(store, T, 3, "small").expect("commits");
    };
    let cases: [(Change, bool); 3] = [(changes, true), (removes, false), (makes_anew, true)];
    // Before the large change looks its rows up, where they were or moved meanwhile; while it does; and after that.
    for moment in [
        "planned",
        "moved",
        "load-begun",
        "load-resolved",
        "load-following",
        "finished",
    ] {
        for (cold, replaces) in [(false, false), (false, true), (true, false), (true, true)] {
            for (number, (small, stays)) in cases.into_iter().enumerate() {
                let described = format!("case {number}, cold: {cold}, replaces: {replaces}, {moment}");
                let (_directory, store) = table(cold);
                let mut load = begin_change(&store, &store.state(), &[2, 3, 4]);
                if replaces {
                    load_all(&mut load, &[2, 3, 4], "large").expect("writes");
                }
                if moment == "moved" {
                    insert(&store, T, 10, "old").expect("commits");
                    flush(&store);
                    compact_while(&store, |_, _| {});
                }
                let hooked = Arc::downgrade(&store);
                let small = move || small(&hooked.upgrade().expect("the test holds it"));
                store.engine().at(moment, small);
                store.engine().moment("planned");
                store.engine().moment("moved");
                let ended = finish(load).and_then(|publication| {
                    store.engine().moment("finished");
                    publish(&store, publication).map_err(StoreError::from)
                });
                assert!(matches!(ended, Err(StoreError::Conflict)), "{described}: {ended:?}");
                let mut expected = rows(0..10, |_| "old".to_string());
                expected.remove(&3);
                if stays {
                    expected.insert(3, "small".to_string());
                }
                if moment == "moved" {
                    expected.insert(10, "old".to_string());
                }
                assert_rows(&store.state(), GLOBAL, &expected);
            }
        }
    }
}

#[test]
fn hazard_12_a_small_change_planned_before_a_large_one_was_published() {
    for cold in [false, true] {
        for replaces in [false, true] {
            let (_directory, store) = table(cold);
            let mut deletion = request(&store, vec![]);
            deletion.removals = vec![removal(&store.state(), T, GLOBAL, 3)];
            let mut change = request(&store, vec![put(T, GLOBAL, 3, "small")]);
            change.removals = deletion.removals.clone();
            let mut load = begin_change(&store, &store.state(), &[2, 3, 4]);
            if replaces {
                load_all(&mut load, &[2, 3, 4], "large").expect("writes");
            }
            publish(&store, finish(load).expect("finishes")).expect("publishes");
            for planned in [deletion, change] {
                assert!(matches!(block_on(store.commit(planned)), Err(CommitError::Stale)));
            }
            let mut expected = rows([0, 1, 5, 6, 7, 8, 9], |_| "old".to_string());
            if replaces {
                expected.extend(rows([2, 3, 4], |id| format!("large {id}")));
            }
            assert_rows(&store.state(), GLOBAL, &expected);
        }
    }
}

#[test]
fn hazard_13_rows_that_moved_since_a_large_change_found_them_are_found_again() {
    type Move = fn(&Arc<TestStore>);
    let flushes: Move = |store| {
        flush(store);
    };
    let merges: Move = |store| {
        compact_while(store, |_, _| {});
    };
    let flushes_and_merges: Move = |store| {
        flush(store);
        compact_while(store, |_, _| {});
    };
    let moves_twice: Move = |store| {
        flush(store);
        compact_while(store, |_, _| {});
        // Other rows between, so that these have other numbers.
        for id in [-3, 25] {
            insert(store, T, id, "other").expect("commits");
        }
        flush(store);
        compact_while(store, |_, _| {});
    };
    for (number, moves) in [flushes, merges, flushes_and_merges, moves_twice]
        .into_iter()
        .enumerate()
    {
        for replaces in [false, true] {
            let (_directory, store) = table(true);
            // Two runs, and hot rows.
            for id in 10..15 {
                insert(&store, T, id, "old").expect("commits");
            }
            flush(&store);
            for id in 15..20 {
                insert(&store, T, id, "old").expect("commits");
            }
            delete(&store, 7).expect("commits");
            let changed: Vec<i64> = (0..20).filter(|id| id % 3 != 1).collect();
            let state = store.state();
            let mut load = begin_change(&store, &state, &changed);
            if replaces {
                load_all(&mut load, &changed, "large").expect("writes");
            }
            drop(state);
            moves(&store);
            store.wait_for_eraser();
            publish(&store, finish(load).expect("finishes")).expect("publishes");
            let mut expected = rows([1, 4, 10, 13, 16, 19], |_| "old".to_string());
            if replaces {
                expected.extend(rows(changed.iter().copied(), |id| format!("large {id}")));
            }
            if number == 3 {
                expected.extend(rows([-3, 25], |_| "other".to_string()));
            }
            assert_rows(&store.state(), GLOBAL, &expected);
            flush(&store);
            compact_while(&store, |_, _| {});
            assert_rows(&store.state(), GLOBAL, &expected);
        }
    }
}

#[test]
fn keys_of_a_large_change_may_shift_over_each_other_but_not_onto_rows_that_stay() {
    for cold in [false, true] {
        let (_directory, store) = table(cold);
        let mut load = begin_change(&store, &store.state(), &[2, 3, 4]);
        load_all(&mut load, &[3, 4, 5], "large").expect("writes");
        match finish(load) {
            Err(StoreError::DuplicateKey { key: found }) => assert_eq!(found, key(5)),
            other => panic!("cold: {cold}: {:?}", other.map(|_| ())),
        }
        assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
        let mut load = begin_change(&store, &store.state(), &[7, 8, 9]);
        load_all(&mut load, &[8, 9, 10], "large").expect("writes");
        publish(&store, finish(load).expect("finishes")).expect("publishes");
        let mut expected = rows(0..7, |_| "old".to_string());
        expected.extend(rows([8, 9, 10], |id| format!("large {id}")));
        assert_rows(&store.state(), GLOBAL, &expected);
    }
}
