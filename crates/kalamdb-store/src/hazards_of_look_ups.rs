//! The hazards of a load that looks its keys up while others commit, move rows and load: nobody waits for it, and it takes along what they
//! do. Interleavings are forced: see `Engine::at`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::executor::block_on;

use crate::histories::{memory_directory, open_relaxed};
use crate::testing::{
    GLOBAL, T, TestStore, assert_rows, begin_change, begin_load, compact_while, create, delete, finish, flush, insert,
    key, load, load_all, new_store, put, removal, request, rows, schema, step, update,
};
use crate::{BulkLoad, OnDuplicate, Seq, StoreError, TableChange};

/// What others do, by name.
type Others = (&'static str, fn(&Arc<TestStore>));

/// While a load looks its keys up, of which it brings or replaces 1, 2 and 3.
const OTHERS: [Others; 15] = [
    ("nothing", |_| {}),
    ("a flush", flushes),
    ("a compaction", merges),
    ("a flush and a compaction", |store| {
        flushes(store);
        merges(store);
    }),
    ("all rows moved twice", |store| {
        flushes(store);
        merges(store);
        writes(store, -5);
        flushes(store);
        merges(store);
    }),
    ("2 written and flushed", |store| {
        writes(store, 2);
        flushes(store);
    }),
    ("2 written, flushed and merged", |store| {
        writes(store, 2);
        flushes(store);
        merges(store);
    }),
    ("1 changed and flushed", |store| {
        writes(store, 1);
        flushes(store);
    }),
    ("1 flushed and changed", |store| {
        flushes(store);
        writes(store, 1);
    }),
    ("1 removed and the rest flushed", |store| {
        removes(store, 1);
        flushes(store);
    }),
    ("1 made anew, flushed and merged", |store| {
        removes(store, 1);
        insert(store, T, 1, "anew").expect("commits");
        flushes(store);
        merges(store);
    }),
    ("another load", |store| loads(store, &[1, 2])),
    ("another load that is merged", |store| {
        loads(store, &[2]);
        merges(store);
    }),
    ("another load that removes", |store| drops(store)),
    ("another load that removes, and a compaction", |store| {
        drops(store);
        merges(store);
    }),
];

/// Once more, when the load follows what was done the first time.
const OTHERS_AGAIN: [&str; 3] = ["nothing", "all rows moved twice", "another load that removes"];

fn flushes(store: &Arc<TestStore>) {
    flush(store);
}

fn merges(store: &Arc<TestStore>) {
    compact_while(store, |_, _| {});
}

fn is_there(store: &TestStore, id: i64) -> bool {
    seq_of(store, id).is_some()
}

fn seq_of(store: &TestStore, id: i64) -> Option<Seq> {
    let found = store.state().find(&schema(), T, GLOBAL, &key(id), 0).expect("reads");
    found.map(|found| found.row.seq)
}

fn writes(store: &TestStore, id: i64) {
    match is_there(store, id) {
        true => update(store, id, "changed"),
        false => insert(store, T, id, "inserted"),
    }
    .expect("commits");
}

fn removes(store: &TestStore, id: i64) {
    if is_there(store, id) {
        delete(store, id).expect("commits");
    }
}

fn loads(store: &Arc<TestStore>, ids: &[i64]) {
    load(store, GLOBAL, OnDuplicate::Replace, ids, "another");
}

/// Has a large DELETE remove 1.
fn drops(store: &Arc<TestStore>) {
    if is_there(store, 1) {
        let publication = finish(begin_change(store, &store.state(), &[1])).expect("finishes");
        step(store, vec![TableChange::Publish(publication)]).expect("publishes");
    }
}

/// Where rows are before a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Hot,
    /// In a run of their own; others are hot.
    Cold,
}

/// A table with these rows and two more. It is in memory, as there are many of them.
fn table(place: Place, ids: &[i64]) -> (tempfile::TempDir, Arc<TestStore>) {
    let directory = memory_directory();
    let store = open_relaxed(directory.path());
    create(&store, T);
    insert(&store, T, 8, "cold").expect("commits");
    flush(&store);
    for &id in ids {
        insert(&store, T, id, "old").expect("commits");
    }
    if place == Place::Cold {
        flush(&store);
    }
    insert(&store, T, 9, "hot").expect("commits");
    (directory, store)
}

fn contents(store: &Arc<TestStore>) -> BTreeMap<i64, String> {
    rows(&store.state(), T, GLOBAL).into_iter().collect()
}

#[track_caller]
fn check(store: &Arc<TestStore>, expected: &BTreeMap<i64, String>, described: &str) {
    assert_eq!(contents(store), *expected, "{described}");
    assert_rows(&store.state(), GLOBAL, expected);
    let segments = store.state().segments(T).expect("reads");
    let cold: u64 = segments.iter().map(|(entry, dead)| u64::from(entry.rows - dead)).sum();
    let hot = store.hot_usage(T);
    assert_eq!(cold + hot.rows + hot.sealed_rows, expected.len() as u64, "{described}");
}

/// Each of [`OTHERS`] while a load looks its keys up, and each of [`OTHERS_AGAIN`] while it follows them. `attempt` has the load done, and
/// says what it has to come to.
fn among_others(rows: &[i64], attempt: impl Fn(&Arc<TestStore>, &str)) {
    let again = OTHERS.iter().filter(|(name, _)| OTHERS_AGAIN.contains(name));
    for place in [Place::Hot, Place::Cold] {
        for ((first_name, first), (second_name, second)) in OTHERS
            .iter()
            .flat_map(|first| again.clone().map(move |second| (first, second)))
        {
            let (_directory, store) = table(place, rows);
            for (moment, others) in [("load-begun", first), ("load-behind", second)] {
                let (hooked, others) = (Arc::downgrade(&store), *others);
                let others = move || others(&hooked.upgrade().expect("the test has it"));
                store.engine().at(moment, others);
            }
            let described = format!("{place:?}, {first_name}, then {second_name}");
            attempt(&store, &described);
            let expected = contents(&store);
            flush(&store);
            merges(&store);
            check(&store, &expected, &described);
        }
    }
}

/// Completes a load and publishes it; the rows of the table before that, and the outcome.
fn ended(store: &Arc<TestStore>, load: BulkLoad<u64>) -> (BTreeMap<i64, String>, Result<(), StoreError>) {
    let finished = finish(load);
    let before = contents(store);
    let published = finished.and_then(|publication| {
        let step = step(store, vec![TableChange::Publish(publication)]);
        step.map(|_| ()).map_err(StoreError::from)
    });
    (before, published)
}

#[test]
fn nobody_waits_for_a_load_that_looks_its_keys_up() {
    for moment in ["load-begun", "load-resolved", "load-behind"] {
        let (_directory, store) = new_store();
        for id in [1, 20, 21] {
            insert(&store, T, id, "old").expect("commits");
        }
        let done = Arc::new(AtomicUsize::new(0));
        if moment == "load-behind" {
            let hooked = Arc::downgrade(&store);
            store.engine().at("load-begun", move || {
                flush(&hooked.upgrade().expect("the test has it"));
            });
        }
        let (hooked, counted) = (Arc::downgrade(&store), done.clone());
        store.engine().at(moment, move || {
            let store = hooked.upgrade().expect("the test has it");
            assert!(!store.publishers().is_held(T));
            insert(&store, T, 10, "inserted").expect("commits");
            update(&store, 20, "changed").expect("commits");
            delete(&store, 21).expect("commits");
            // A writer at the hot limit waits for this.
            assert!(flush(&store).rows > 0);
            assert_eq!(store.hot_usage(T).rows, 0);
            compact_while(&store, |_, _| {});
            load(&store, GLOBAL, OnDuplicate::Fail, &[30], "another");
            counted.fetch_add(1, Ordering::SeqCst);
        });
        load(&store, GLOBAL, OnDuplicate::Replace, &[1, 2], "loaded");
        assert_eq!(done.load(Ordering::SeqCst), 1, "{moment}");
        let expected = [
            (1, "loaded 1"),
            (2, "loaded 2"),
            (10, "inserted"),
            (20, "changed"),
            (30, "another 30"),
        ];
        let expected = expected.map(|(id, text)| (id, text.to_string()));
        check(&store, &BTreeMap::from(expected), moment);
    }
}

#[test]
fn hazard_17_what_others_publish_while_a_load_looks_its_keys_up() {
    for on_duplicate in [OnDuplicate::Fail, OnDuplicate::Replace, OnDuplicate::Ignore] {
        // A load that is to meet nobody meets nobody at its first look.
        let there: &[i64] = if on_duplicate == OnDuplicate::Fail { &[] } else { &[1] };
        among_others(there, |store, described| {
            let described = format!("{on_duplicate:?}, {described}");
            let mut load = begin_load(store, GLOBAL, on_duplicate);
            load_all(&mut load, &[1, 2, 3], "loaded").expect("writes");
            let (mut expected, published) = ended(store, load);
            let is_new = [1, 2, 3].map(|id| !expected.contains_key(&id));
            match published {
                Err(StoreError::DuplicateKey { .. }) => {
                    assert_eq!(on_duplicate, OnDuplicate::Fail, "{described}");
                    assert!(is_new.contains(&false), "{described}");
                }
                Err(error) => panic!("{described}: {error}"),
                Ok(()) => {
                    let passes = on_duplicate != OnDuplicate::Fail || !is_new.contains(&false);
                    assert!(passes, "{described}");
                    for (id, is_new) in (1..).zip(is_new) {
                        if is_new || on_duplicate == OnDuplicate::Replace {
                            expected.insert(id, format!("loaded {id}"));
                        }
                    }
                }
            }
            check(store, &expected, &described);
        });
    }
}

#[test]
fn hazard_12_what_others_publish_while_a_large_change_looks_its_rows_up() {
    // Rows are removed, replaced, or get the key of the next one, which may be somebody else's by then.
    for (name, new_ids) in [("removes", [].as_slice()), ("replaces", &[1, 4]), ("shifts", &[2, 5])] {
        among_others(&[1, 4], |store, described| {
            let described = format!("{name}, {described}");
            let seqs = || [1, 4].map(|id| seq_of(store, id));
            let planned = seqs();
            let mut load = begin_change(store, &store.state(), &[1, 4]);
            load_all(&mut load, new_ids, "large").expect("writes");
            let (mut expected, published) = ended(store, load);
            let untouched = match &published {
                // The rows are as they were planned with, or gone by what was published.
                Ok(()) => true,
                Err(_) => seqs() == planned,
            };
            let taken = name == "shifts" && expected.contains_key(&2);
            match published {
                Err(StoreError::Conflict) => assert!(!untouched, "{described}"),
                Err(StoreError::DuplicateKey { key: found }) => {
                    assert!(taken && found == key(2), "{described}");
                }
                Err(error) => panic!("{described}: {error}"),
                Ok(()) => {
                    assert!(!taken, "{described}");
                    let old = [1, 4].map(|id| expected.remove(&id));
                    assert_eq!(old, [1, 4].map(|_| Some("old".to_string())), "{described}");
                    expected.extend(new_ids.iter().map(|id| (*id, format!("large {id}"))));
                }
            }
            check(store, &expected, &described);
        });
    }
}

#[test]
fn hazard_17_more_changes_than_a_watch_holds_have_a_load_look_again() {
    // In one commit with what matters to the load: all of it is told, or nothing.
    let many = |id: i64| (0..=crate::tuning::WATCH_KEYS as i64).map(move |more| put(T, GLOBAL, id + more, ""));
    for on_duplicate in [OnDuplicate::Replace, OnDuplicate::Ignore] {
        let (_directory, store) = new_store();
        let hooked = Arc::downgrade(&store);
        store.engine().at("load-begun", move || {
            let store = hooked.upgrade().expect("the test has it");
            let puts = many(10).chain([put(T, GLOBAL, 2, "inserted")]).collect();
            block_on(store.commit(request(&store, puts))).expect("commits");
        });
        let mut load = begin_load(&store, GLOBAL, on_duplicate);
        load_all(&mut load, &[1, 2], "loaded").expect("writes");
        let (mut expected, published) = ended(&store, load);
        published.expect("publishes");
        assert_eq!(expected.get(&2).map(String::as_str), Some("inserted"));
        expected.insert(1, "loaded 1".to_string());
        if on_duplicate == OnDuplicate::Replace {
            expected.insert(2, "loaded 2".to_string());
        }
        check(&store, &expected, &format!("{on_duplicate:?}"));
    }
    // Rows to be changed have to be the same after as many.
    for changed in [1, 2] {
        let (_directory, store) = new_store();
        for id in [1, 2] {
            insert(&store, T, id, "old").expect("commits");
        }
        let hooked = Arc::downgrade(&store);
        store.engine().at("load-begun", move || {
            let store = hooked.upgrade().expect("the test has it");
            let puts = many(10).chain([put(T, GLOBAL, changed, "changed")]).collect();
            let mut change = request(&store, puts);
            change.removals = vec![removal(&store.state(), T, GLOBAL, changed)];
            block_on(store.commit(change)).expect("commits");
        });
        let (mut expected, published) = ended(&store, begin_change(&store, &store.state(), &[1]));
        match published {
            Err(error) => assert!(changed == 1 && matches!(error, StoreError::Conflict), "{error}"),
            Ok(()) => {
                assert_eq!(changed, 2);
                expected.remove(&1);
            }
        }
        check(&store, &expected, "a large change");
    }
}

#[test]
fn a_load_that_waits_for_the_gate_does_not_keep_a_commit_from_it() {
    // The gate is a mover's or another load's; commits pass none.
    let (_directory, store) = new_store();
    let mut other = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_all(&mut other, &[1], "another").expect("writes");
    let held = finish(other).expect("finishes");
    assert!(store.publishers().is_held(T));
    let hooked = Arc::downgrade(&store);
    store.engine().at("load-resolved", move || {
        let store = hooked.upgrade().expect("the test has it");
        insert(&store, T, 2, "inserted").expect("commits");
        step(&store, vec![TableChange::Publish(held)]).expect("publishes");
    });
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_all(&mut load, &[1, 5], "loaded").expect("writes");
    let refused = finish(load);
    assert!(matches!(refused, Err(StoreError::DuplicateKey { key: found }) if found == key(1)));
    let expected = BTreeMap::from([(1, "another 1".to_string()), (2, "inserted".to_string())]);
    check(&store, &expected, "refused");
    assert!(!store.publishers().is_held(T));
}
