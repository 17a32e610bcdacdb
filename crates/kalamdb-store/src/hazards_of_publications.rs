//! The hazards of the moments in which a mover begins, writes, publishes and leaves its inputs behind. See `hazards_of_movers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::engine::Fault;
use crate::files::SYNCED;
use crate::hazards::bytes_under;
use crate::key;
use crate::testing::{
    At, AtEach, GLOBAL, T, TestStore, assert_rows, begin_change, compact_while, copy_directory, create, delete, finish,
    flush, ids, insert, load, load_all, new_store, open, options, put, request, schema, segment_files, segment_options,
    step, update,
};
use crate::{BulkLoad, CommitError, Durability, Epoch, Moved, OnDuplicate, Store, StoreError, TableChange};

type Model = BTreeMap<i64, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mover {
    Flush,
    Compaction,
}

const MOVERS: [Mover; 2] = [Mover::Flush, Mover::Compaction];

impl Mover {
    /// The moment after it has taken its state.
    fn begun(self) -> &'static str {
        match self {
            Self::Flush => "flush-begun",
            Self::Compaction => "compaction-begun",
        }
    }

    /// Rows `0..rows` for it to move.
    fn prepare(self, store: &Arc<TestStore>, rows: i64) -> Model {
        let model: Model = (0..rows).map(|id| (id, format!("old {id}"))).collect();
        let puts = |parity: i64| {
            let wanted = model.iter().filter(move |(id, _)| *id % 2 == parity);
            wanted.map(|(id, text)| put(T, GLOBAL, *id, text)).collect::<Vec<_>>()
        };
        for parity in [0, 1] {
            futures::executor::block_on(store.commit(request(store, puts(parity)))).expect("commits");
            if self == Self::Compaction {
                flush(store);
            }
        }
        model
    }

    fn run(self, store: &Arc<TestStore>, meanwhile: impl Fn(At) + Sync) -> Result<Moved, StoreError> {
        let (schema, options, progress) = (schema(), segment_options(), AtEach::new(meanwhile));
        match self {
            Self::Flush => store.flush(T, &schema, &options, &progress),
            Self::Compaction => store.compact(T, &schema, &options, true, &progress),
        }
    }
}

/// Deletes, updates and inserts rows from `id` on.
fn change(store: &TestStore, model: &mut Model, id: i64) {
    delete(store, id).expect("commits");
    model.remove(&id);
    update(store, id + 1, "new").expect("commits");
    model.insert(id + 1, "new".to_string());
    delete(store, id + 2).expect("commits");
    insert(store, T, id + 2, "again").expect("commits");
    model.insert(id + 2, "again".to_string());
    insert(store, T, 10_000 + id, "more").expect("commits");
    model.insert(10_000 + id, "more".to_string());
    update(store, 10_000 + id, "and changed").expect("commits");
    model.insert(10_000 + id, "and changed".to_string());
}

/// Rows less those deleted of all segments, and hot rows.
fn counted(store: &TestStore) -> u64 {
    let segments = store.state().segments(T).expect("reads");
    let cold: u64 = segments.iter().map(|(entry, dead)| u64::from(entry.rows - dead)).sum();
    let hot = store.hot_usage(T);
    cold + hot.rows + hot.sealed_rows
}

/// Of so many rows, those from `first` on are changed.
fn hazard_13_rows_changed_at_any_moment(mover: Mover, rows: i64, first: i64) {
    let (directory, store) = new_store();
    let model = Arc::new(Mutex::new(mover.prepare(&store, rows)));
    let old = (store.state(), model.lock().clone());
    let (hooked, hooked_model) = (Arc::downgrade(&store), model.clone());
    store.engine().at(mover.begun(), move || {
        let store = hooked.upgrade().expect("the mover has it");
        change(&store, &mut hooked_model.lock(), first);
    });
    let seen = Mutex::new(Vec::new());
    mover
        .run(&store, |at| {
            let mut model = model.lock();
            let mut seen = seen.lock();
            if !seen.contains(&at) {
                seen.push(at);
                change(&store, &mut model, first + 3 * seen.len() as i64);
            }
            assert_rows(&store.state(), GLOBAL, &model);
        })
        .expect("moves");
    assert_eq!(*seen.lock(), [At::Rows, At::Written, At::Settled]);
    let model = model.lock().clone();
    let check = |store: &TestStore| {
        assert_rows(&store.state(), GLOBAL, &model);
        assert_eq!(counted(store), model.len() as u64);
    };
    check(&store);
    assert_rows(&old.0, GLOBAL, &old.1);
    drop(old);
    if mover == Mover::Flush {
        assert_eq!(
            bytes_under(&store, &key::epoch_prefix(T, Epoch(0))),
            0,
            "the epoch is empty"
        );
    }
    drop(store);
    let store = open(directory.path());
    check(&store);
    flush(&store);
    check(&store);
    compact_while(&store, |_, _| {});
    check(&store);
}

#[test]
fn hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed() {
    hazard_13_rows_changed_at_any_moment(Mover::Flush, 40, 0);
}

#[test]
fn hazard_13_rows_changed_at_any_moment_of_a_large_flush_stay_changed() {
    // More than are deleted one by one.
    hazard_13_rows_changed_at_any_moment(Mover::Flush, 1100, 0);
}

#[test]
fn hazard_13_rows_changed_at_any_moment_of_a_compaction_stay_changed() {
    hazard_13_rows_changed_at_any_moment(Mover::Compaction, 40, 0);
}

#[test]
fn hazard_13_rows_changed_at_any_moment_of_a_compaction_into_several_segments_stay_changed() {
    let rows = 2 * i64::from(crate::tuning::RUN_SEGMENT_ROWS) + 100;
    // The last row of the second segment and the first ones of the third among them.
    hazard_13_rows_changed_at_any_moment(Mover::Compaction, rows, rows - 107);
}

#[test]
fn a_flush_does_not_wait_for_a_compaction_nor_a_compaction_for_a_flush() {
    for (outer, inner) in [(Mover::Compaction, Mover::Flush), (Mover::Flush, Mover::Compaction)] {
        let (directory, store) = new_store();
        let mut model = Mover::Compaction.prepare(&store, 40);
        for id in 100..140 {
            insert(&store, T, id, "hot").expect("commits");
            model.insert(id, "hot".to_string());
        }
        let state = Mutex::new((model, 0));
        outer
            .run(&store, |at| {
                let (model, runs) = &mut *state.lock();
                // From here on the other one would wait, as it does for loads: to publish is a moment.
                if at == At::Settled {
                    return;
                }
                let gate = match inner {
                    Mover::Flush => store.flushes(),
                    Mover::Compaction => store.compactions(),
                };
                assert!(!gate.is_held(T), "{inner:?} need not wait for {outer:?}");
                // Rows in segments, and rows that were hot when it began.
                change(&store, model, 3 * *runs);
                change(&store, model, 100 + 3 * *runs);
                inner.run(&store, |_| {}).expect("moves");
                *runs += 1;
                assert_rows(&store.state(), GLOBAL, model);
                assert_eq!(counted(&store), model.len() as u64);
            })
            .expect("moves");
        let (model, runs) = state.into_inner();
        assert!(runs >= 2, "{runs}");
        let check = |store: &TestStore| {
            assert_rows(&store.state(), GLOBAL, &model);
            assert_eq!(counted(store), model.len() as u64);
        };
        check(&store);
        drop(store);
        let store = open(directory.path());
        check(&store);
        flush(&store);
        compact_while(&store, |_, _| {});
        check(&store);
        store.wait_for_eraser();
        assert_eq!(segment_files(directory.path()), named_files(&store, directory.path()));
    }
}

#[test]
fn hazard_1_rows_that_a_load_replaces_while_they_are_moved_stay_replaced() {
    for mover in MOVERS {
        let (_directory, store) = new_store();
        let mut model = mover.prepare(&store, 40);
        let loaded = AtomicBool::new(false);
        mover
            .run(&store, |at| {
                if at == At::Rows && !loaded.swap(true, Ordering::SeqCst) {
                    load(&store, GLOBAL, OnDuplicate::Replace, &[3, 4, 100], "loaded");
                }
            })
            .expect("moves");
        for id in [3, 4, 100] {
            model.insert(id, format!("loaded {id}"));
        }
        assert_rows(&store.state(), GLOBAL, &model);
        assert_eq!(counted(&store), model.len() as u64);
    }
}

#[test]
fn hazard_13_a_mover_follows_however_many_rows_are_removed_meanwhile() {
    for (mover, in_bulk) in MOVERS.into_iter().flat_map(|mover| [(mover, false), (mover, true)]) {
        let (directory, store) = new_store();
        let many = crate::tuning::WATCH_KEYS as i64 + 100;
        let mut model = mover.prepare(&store, many);
        let deleted = AtomicBool::new(false);
        let moved = mover.run(&store, |at| {
            if at == At::Rows && !deleted.swap(true, Ordering::SeqCst) {
                let state = store.state();
                let gone: Vec<i64> = (0..many - 5).collect();
                if in_bulk {
                    let publication = finish(begin_change(&store, &state, &gone)).expect("finishes");
                    step(&store, vec![TableChange::Publish(publication.clone())]).expect("publishes");
                    let watch = publication.watch.as_ref().expect("it looked its rows up");
                    assert!(watch.take().deleted.is_empty(), "it knows what it removed itself");
                    return;
                }
                let keys: Vec<Vec<u8>> = gone.iter().map(|&id| crate::testing::key(id)).collect();
                let found = state.find_all(&schema(), T, GLOBAL, &keys).expect("reads");
                let mut change = request(&store, vec![]);
                change.removals = keys
                    .into_iter()
                    .zip(found)
                    .map(|(key, found)| {
                        let found = found.expect("is there");
                        let (location, seq) = (found.location, found.row.seq);
                        crate::Removal {
                            store: T,
                            scope: GLOBAL,
                            key,
                            location,
                            seq,
                        }
                    })
                    .collect();
                futures::executor::block_on(store.commit(change)).expect("commits");
            }
        });
        assert_eq!(
            moved.expect("follows").rows,
            many as u64,
            "{mover:?}, in bulk: {in_bulk}"
        );
        model.retain(|id, _| *id >= many - 5);
        assert_rows(&store.state(), GLOBAL, &model);
        assert_eq!(counted(&store), model.len() as u64, "{mover:?}, in bulk: {in_bulk}");
        drop(store);
        let store = open(directory.path());
        assert_rows(&store.state(), GLOBAL, &model);
    }
}

#[test]
fn hazard_16_writes_on_both_sides_of_a_seal_survive_a_crash() {
    let (directory, store) = new_store();
    let model = Mutex::new(Mover::Flush.prepare(&store, 20));
    let copies = Mutex::new(Vec::new());
    Mover::Flush
        .run(&store, |at| {
            change(&store, &mut model.lock(), copies.lock().len() as i64 * 3);
            let copy = tempfile::tempdir().expect("a directory");
            copy_directory(directory.path(), copy.path());
            copies.lock().push((at, copy, model.lock().clone()));
        })
        .expect("flushes");
    let copies = copies.into_inner();
    assert_eq!(copies.len(), 3);
    for (at, copy, mut model) in copies {
        let store = open(copy.path());
        assert_rows(&store.state(), GLOBAL, &model);
        store.wait_for_eraser();
        assert_eq!(segment_files(copy.path()), [] as [PathBuf; 0], "{at:?}");
        change(&store, &mut model, 12);
        flush(&store);
        assert_rows(&store.state(), GLOBAL, &model);
        assert_eq!(store.state().table(T).expect("live").epochs.len(), 1);
        assert_eq!(counted(&store), model.len() as u64);
    }
}

/// The files that the manifest names.
fn named_files(store: &TestStore, data_dir: &Path) -> Vec<PathBuf> {
    let segments = store.state().segments(T).expect("reads");
    let mut files: Vec<PathBuf> = segments
        .iter()
        .map(|(entry, _)| data_dir.join("segments").join(&entry.path))
        .collect();
    files.sort();
    files
}

#[test]
fn hazard_16_a_restart_erases_replaced_files_and_no_others() {
    let (directory, store) = new_store();
    let model = Mover::Compaction.prepare(&store, 40);
    // It holds the replaced files back, and with them their erasing.
    let reader = store.state();
    Mover::Compaction.run(&store, |_| {}).expect("compacts");
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()).len(), 3);
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(directory.path(), copy.path());
    drop((reader, store));
    for path in [copy.path(), directory.path()] {
        for _ in 0..2 {
            let store = open(path);
            store.wait_for_eraser();
            assert_eq!(segment_files(path), named_files(&store, path));
            assert_rows(&store.state(), GLOBAL, &model);
        }
    }
}

#[test]
fn hazard_19_a_mover_whose_publication_fails_moves_nothing_twice() {
    for (mover, fault) in MOVERS
        .into_iter()
        .flat_map(|mover| [(mover, Fault::Sync), (mover, Fault::Refuse)])
    {
        let (directory, store) = new_store();
        let model = mover.prepare(&store, 40);
        let files = segment_files(directory.path());
        let failed = mover.run(&store, |at| {
            if at == At::Settled {
                store.engine().set_fault(Some(fault));
            }
        });
        assert!(matches!(failed, Err(StoreError::Storage(_))), "{failed:?}");
        assert_rows(&store.state(), GLOBAL, &model);
        store.wait_for_eraser();
        let left = segment_files(directory.path()).len() - files.len();
        assert_eq!(
            left,
            usize::from(fault == Fault::Sync),
            "what may be in the log stays: {fault:?}"
        );
        mover.run(&store, |_| {}).expect("moves");
        assert_rows(&store.state(), GLOBAL, &model);
        drop(store);
        let store = open(directory.path());
        store.wait_for_eraser();
        assert_eq!(segment_files(directory.path()), named_files(&store, directory.path()));
        assert_rows(&store.state(), GLOBAL, &model);
    }
}

/// As a power failure leaves a data directory: of segments, what was synced, in directories that were.
fn after_power_failure(data_dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(data_dir, copy.path());
    let root = data_dir.join("segments").canonicalize().expect("a path");
    let synced = SYNCED.lock();
    for file in segment_files(data_dir) {
        let file = file.canonicalize().expect("a path");
        let inside = file.strip_prefix(&root).expect("a segment");
        let mut path = file.ancestors().take_while(|path| path.starts_with(&root));
        if !path.all(|path| synced.contains(path)) {
            std::fs::remove_file(copy.path().join("segments").join(inside)).expect("removed");
        }
    }
    copy
}

#[test]
fn hazard_20_after_a_power_failure_every_published_file_is_there() {
    for mover in MOVERS {
        let (directory, store) = new_store();
        let model = mover.prepare(&store, 40);
        let copies = Mutex::new(Vec::new());
        let keep = |_| copies.lock().push(after_power_failure(directory.path()));
        mover.run(&store, keep).expect("moves");
        keep(At::Settled);
        store.wait_for_eraser();
        keep(At::Settled);
        for copy in copies.into_inner() {
            let store = open(copy.path());
            assert_rows(&store.state(), GLOBAL, &model);
            store.wait_for_eraser();
            assert_eq!(segment_files(copy.path()), named_files(&store, copy.path()));
        }
    }
}

#[test]
fn hazard_20_a_new_database_is_there_after_a_power_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("deep/data");
    let storage = directory.path().join("other/disk");
    let store = open(&data);
    store.create_storage(crate::StorageId(1), &storage).expect("a storage");
    // Each has a new entry.
    for path in ["", "deep", "deep/data", "other"] {
        let path = directory.path().join(path);
        assert!(SYNCED.lock().contains(&path), "{}", path.display());
    }
}

#[test]
fn hazard_20_files_come_and_go_synced_even_if_commits_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let relaxed = crate::StoreOptions {
        durability: Durability::Relaxed,
        ..options(directory.path())
    };
    let store = Store::open(relaxed, 0, |_, _| Ok::<_, StoreError>(1)).expect("opens");
    create(&store, T);
    for mover in MOVERS {
        mover.prepare(&store, 10);
        let before = Mutex::new(0);
        mover
            .run(&store, |at| {
                if at == At::Settled {
                    *before.lock() = store.statistics().log_syncs;
                }
            })
            .expect("moves");
        assert_eq!(store.statistics().log_syncs, *before.lock() + 1, "{mover:?}");
        for id in 0..10 {
            delete(&store, id).expect("commits");
        }
    }
    let before = store.statistics().log_syncs;
    let mut load = begin(&store);
    load_all(&mut load, &[1, 2], "loaded").expect("writes");
    let announced = store.statistics().log_syncs;
    assert!(announced > before, "before the first file");
    let publication = finish(load).expect("finishes");
    step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
    step(&store, vec![TableChange::Retire(T)]).expect("retires");
    assert_eq!(store.statistics().log_syncs, announced + 2);
}

fn begin(store: &Arc<TestStore>) -> BulkLoad<u64> {
    crate::testing::begin_load(store, GLOBAL, OnDuplicate::Fail)
}

#[test]
fn a_publication_is_published_once() {
    let (_directory, store) = new_store();
    let mut load = begin(&store);
    load_all(&mut load, &[1, 2], "loaded").expect("writes");
    let publication = finish(load).expect("finishes");
    step(&store, vec![TableChange::Publish(publication.clone())]).expect("publishes");
    let again = step(&store, vec![TableChange::Publish(publication)]);
    assert!(matches!(again, Err(CommitError::Storage(_))), "{again:?}");
    assert_eq!(ids(&store, T), [1, 2]);
}
