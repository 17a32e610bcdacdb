//! Hazards 7 and 19: what was acknowledged is on disk, and what becomes of commits whose sync fails.

use futures::executor::block_on;
use futures::future::join_all;

use crate::engine::Fault;
use crate::testing::{
    GLOBAL, T, begin_load, copy_directory, create, ids, insert, load_rows, new_store, open, options, put, request,
    segment_files, step,
};
use crate::{CommitError, Durability, OnDuplicate, Store, StoreError, TableChange};

#[test]
fn hazard_7_acknowledged_rows_are_in_a_copy_of_the_files() {
    let (directory, store) = new_store();
    let before = store.statistics();
    let count = 50;
    for id in 0..count {
        insert(&store, T, id, "kept").expect("commits");
    }
    let after = store.statistics();
    assert_eq!(after.commits - before.commits, count as u64);
    // One after the other, each was a group, and each group was synced.
    assert_eq!(after.log_syncs - before.log_syncs, count as u64);
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(directory.path(), copy.path());
    let copied = open(copy.path());
    assert_eq!(ids(&copied, T), (0..count).collect::<Vec<_>>());
    assert_eq!(copied.state().seq(), store.state().seq());
}

#[test]
fn hazard_7_a_torn_log_loses_nothing_that_was_acknowledged() {
    let (directory, store) = new_store();
    for id in 0..10 {
        insert(&store, T, id, "kept").expect("commits");
    }
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(directory.path(), copy.path());
    let newest_log = std::fs::read_dir(copy.path().join("rocksdb"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .expect("a log");
    let mut log = std::fs::read(&newest_log).expect("read");
    // The start of a record that never got to the disk whole.
    let start = log[..200].to_vec();
    log.extend_from_slice(&start[..57]);
    std::fs::write(&newest_log, log).expect("written");
    assert_eq!(ids(&open(copy.path()), T), (0..10).collect::<Vec<_>>());
}

#[test]
fn concurrent_commits_share_syncs() {
    let (_directory, store) = new_store();
    let before = store.statistics();
    let count = 500;
    let futures: Vec<_> = (0..count)
        .map(|id| store.commit(request(&store, vec![put(T, GLOBAL, id, "x")])))
        .collect();
    let results = block_on(join_all(futures));
    assert!(results.iter().all(Result::is_ok));
    let after = store.statistics();
    assert_eq!(after.commits - before.commits, count as u64);
    assert!(after.log_syncs - before.log_syncs < count as u64);
    assert_eq!(ids(&store, T).len(), count as usize);
}

#[test]
fn relaxed_durability_syncs_nothing_and_survives_a_tidy_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut relaxed = options(directory.path());
    relaxed.durability = Durability::Relaxed;
    let store = Store::open(relaxed, 0, |_, _| Ok::<_, StoreError>(1)).expect("opens");
    create(&store, T);
    let before = store.statistics();
    insert(&store, T, 1, "x").expect("commits");
    assert_eq!(store.statistics().log_syncs, before.log_syncs);
    drop(store);
    assert_eq!(ids(&open(directory.path()), T), [1]);
}

#[test]
fn hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible() {
    let (directory, store) = new_store();
    insert(&store, T, 1, "before").expect("commits");
    let before = store.state().seq();
    let engine = store.engine().clone();

    engine.set_fault(Some(Fault::Sync));
    assert!(matches!(
        insert(&store, T, 2, "unknown"),
        Err(CommitError::UnknownOutcome(_))
    ));
    assert_eq!((store.state().seq(), ids(&store, T)), (before, vec![1]));
    // It goes on when the disk does, without using a number twice, and the same key is not in conflict with what failed.
    let after = insert(&store, T, 2, "again").expect("commits");
    assert!(after.seq.0 > before.0 + 1);

    engine.set_fault(Some(Fault::Refuse));
    assert!(matches!(insert(&store, T, 3, "refused"), Err(CommitError::Storage(_))));
    insert(&store, T, 3, "again").expect("commits");

    engine.set_fault(Some(Fault::SyncForEver));
    assert!(matches!(
        insert(&store, T, 4, "unknown"),
        Err(CommitError::UnknownOutcome(_))
    ));
    // From now on nothing is attempted, and each caller is told so; reads go on.
    for _ in 0..2 {
        assert!(matches!(
            insert(&store, T, 5, "not tried"),
            Err(CommitError::Storage(_))
        ));
        assert!(matches!(
            step(&store, vec![TableChange::Retire(T)]),
            Err(CommitError::Storage(_))
        ));
    }
    assert_eq!(ids(&store, T), [1, 2, 3]);
    engine.set_fault(None);
    let last = insert(&store, T, 5, "again").expect("commits");
    drop((store, engine));
    let store = open(directory.path());
    assert_eq!(ids(&store, T), [1, 2, 3, 5]);
    assert_eq!(store.state().seq(), last.seq);
}

#[test]
fn hazard_19_a_load_whose_publication_is_unknown_is_not_erased() {
    let (directory, store) = new_store();
    let mut load_under_way = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load_under_way, 0..10);
    let load = block_on(load_under_way.finish()).expect("finishes");
    let file = segment_files(directory.path());
    assert_eq!(file.len(), 1);
    store.engine().set_fault(Some(Fault::Refuse));
    assert!(matches!(
        step(&store, vec![TableChange::Publish(load.clone())]),
        Err(CommitError::Storage(_))
    ));
    store.engine().set_fault(Some(Fault::Sync));
    assert!(matches!(
        step(&store, vec![TableChange::Publish(load)]),
        Err(CommitError::UnknownOutcome(_))
    ));
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), file);
    drop(store);
    // It did not get into the log, so the restart finds the file announced and erases it.
    let store = open(directory.path());
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), [] as [std::path::PathBuf; 0]);
    assert_eq!(ids(&store, T), [] as [i64; 0]);
}
