//! Hazards 7 and 19: what was acknowledged is on disk, and what becomes of commits whose sync fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use futures::future::join_all;
use tempfile::TempDir;

use crate::engine::Fault;
use crate::testing::{
    GLOBAL, T, TestStore, begin_load, copy_directory, create, ids, insert, load_rows, new_store, open, options, put,
    request, segment_files, step,
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
    let newest_log = newest_log(copy.path());
    let mut log = std::fs::read(&newest_log).expect("read");
    // The start of a record that never got to the disk whole.
    let start = log[..200].to_vec();
    log.extend_from_slice(&start[..57]);
    std::fs::write(&newest_log, log).expect("written");
    assert_eq!(ids(&open(copy.path()), T), (0..10).collect::<Vec<_>>());
}

/// The newest log of a data directory.
fn newest_log(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory.join("rocksdb")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let logs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().expect("a log")
}

fn copied(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(directory, copy.path());
    copy
}

fn try_open(directory: &Path) -> Result<Arc<TestStore>, StoreError> {
    Store::open(options(directory), 0, |_, _| Ok::<_, StoreError>(0))
}

#[test]
fn hazard_7_damage_in_the_middle_of_a_log_is_no_torn_end() {
    let (directory, store) = new_store();
    let length = || std::fs::metadata(newest_log(directory.path())).expect("a log").len();
    // Short rows, one of several blocks, and files that come with a commit.
    let mut ends = vec![length()];
    for id in 0..4 {
        let text = if id == 2 {
            "long ".repeat(20_000)
        } else {
            "kept".to_string()
        };
        insert(&store, T, id, &text).expect("commits");
        ends.push(length());
    }
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 100..110);
    let publication = block_on(load.finish()).expect("finishes");
    step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
    for id in 4..7 {
        insert(&store, T, id, "kept").expect("commits");
    }
    for (id, ends) in (0..).zip(ends.windows(2)) {
        // The checksum, the length, the type and what they are of.
        for byte in [ends[0], ends[0] + 4, ends[0] + 6, (ends[0] + ends[1]) / 2, ends[1] - 1] {
            let copy = copied(directory.path());
            let log = newest_log(copy.path());
            let mut bytes = std::fs::read(&log).expect("read");
            bytes[byte as usize] ^= 1;
            std::fs::write(&log, &bytes).expect("written");
            let refused = try_open(copy.path()).map(|_| ()).expect_err("something is missing");
            let message = refused.to_string();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{message}");
            assert!(message.contains(&log.display().to_string()), "{message}");
            assert_eq!(
                std::fs::read(&log).expect("read"),
                bytes,
                "a start that is refused changes nothing"
            );
            // As the message says, for whoever has no copy.
            let size = message
                .split("--size=")
                .nth(1)
                .and_then(|rest| rest.split(' ').next()?.parse().ok());
            let cut = std::fs::OpenOptions::new().write(true).open(&log).expect("opens");
            cut.set_len(size.expect("a number")).expect("cut");
            drop(cut);
            let store = open(copy.path());
            assert_eq!(ids(&store, T), (0..id).collect::<Vec<_>>());
            insert(&store, T, 50, "on it goes").expect("commits");
        }
    }
    // Nothing follows the last commit, which looks as one that was never synced.
    let copy = copied(directory.path());
    let log = newest_log(copy.path());
    let mut bytes = std::fs::read(&log).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&log, &bytes).expect("written");
    let kept: Vec<i64> = (0..6).chain(100..110).collect();
    assert_eq!(ids(&open(copy.path()), T), kept);
}

#[test]
fn hazard_7_writes_that_were_not_synced_may_be_lost_one_without_the_other() {
    let (directory, store) = new_store();
    for id in 0..3 {
        insert(&store, T, id, "kept").expect("commits");
    }
    let length = || std::fs::metadata(newest_log(directory.path())).expect("a log").len() as usize;
    let synced = length();
    // A write beside commits that nobody waits for, and then a commit of several blocks.
    let engine = store.engine();
    let mut batch = rocksdb::WriteBatch::default();
    batch.put_cf(engine.meta(), crate::meta::record("beside"), vec![7; 9000]);
    engine.write_unsynced(batch).expect("written");
    insert(&store, T, 3, &"long ".repeat(20_000)).expect("commits");
    let end = length();
    // Power fails before its sync: any page may be there, and any not.
    let bytes = std::fs::read(newest_log(directory.path())).expect("read");
    for page in synced / 4096..=end / 4096 {
        for only in [false, true] {
            let mut torn = bytes.clone();
            for (at, byte) in torn.iter_mut().enumerate().skip(synced) {
                if (at / 4096 == page) != only {
                    *byte = 0;
                }
            }
            let copy = copied(directory.path());
            std::fs::write(newest_log(copy.path()), torn).expect("written");
            let store = open(copy.path());
            assert_eq!(ids(&store, T), [0, 1, 2], "page {page}, only: {only}");
            insert(&store, T, 3, "again").expect("commits");
            drop(store);
            assert_eq!(ids(&open(copy.path()), T), [0, 1, 2, 3]);
        }
    }
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
    // The fault is above RocksDB, which would refuse what follows after an error of its own files until it is opened anew, but for a
    // full disk. Where it does not, the store goes on, without using a number twice, and the same key is not in conflict with what failed.
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
    assert_eq!(segment_files(directory.path()), [] as [PathBuf; 0]);
    assert_eq!(ids(&store, T), [] as [i64; 0]);
}
