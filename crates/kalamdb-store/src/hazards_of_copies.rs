//! The hazard of a data directory that was copied while storages elsewhere were not: both databases know the same files there, and each
//! erases what it needs no more itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::crashes::records;
use crate::last_use::file_name;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, copy_directory, create, files_under, ids, insert, key, new_store, open, schema,
    segment_options, step,
};
use crate::{SegmentOptions, StorageId, StoreError, StoreId, TableChange};

const SHARED: StorageId = StorageId(4);

/// Another table, in no storage.
const HOT: StoreId = StoreId(8);

/// A table with two segments in a storage elsewhere, and that storage.
fn table() -> (TempDir, TempDir, Arc<TestStore>) {
    let (directory, store) = new_store();
    let storage = tempfile::tempdir().expect("a directory");
    store.create_storage(SHARED, storage.path()).expect("a storage");
    create(&store, HOT);
    insert(&store, HOT, 1, "hot").expect("commits");
    for id in [1, 2] {
        insert(&store, T, id, "cold").expect("commits");
        flush(&store).expect("flushes");
    }
    (directory, storage, store)
}

fn options() -> SegmentOptions {
    SegmentOptions {
        storage: SHARED,
        ..segment_options()
    }
}

fn flush(store: &Arc<TestStore>) -> Result<(), StoreError> {
    store.flush(T, &schema(), &options(), &Meanwhile(|_, _| {})).map(|_| ())
}

/// Two segments become one.
fn compact(store: &Arc<TestStore>) -> Result<(), StoreError> {
    let compacted = store.compact(T, &schema(), &options(), true, &Meanwhile(|_, _| {}));
    store.wait_for_eraser();
    compacted.map(|_| ())
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copy_directory(directory, copy.path());
    copy
}

/// Everything in the storage, with its bytes.
fn contents(storage: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_under(storage).into_iter();
    let own = std::fs::read_dir(storage)
        .expect("reads")
        .map(|entry| entry.expect("an entry").path());
    let own = own.filter(|path| path.is_file());
    files
        .chain(own)
        .map(|path| (path.clone(), std::fs::read(path).expect("reads")))
        .collect()
}

/// Checks that the storage is away for a reason, that its table is refused and no other, and that nothing happens in it.
#[track_caller]
fn assert_left_alone(directory: &Path, storage: &Path, reason: &str) {
    let before = contents(storage);
    let store = open(directory);
    match store.add_storage(SHARED, storage) {
        Err(StoreError::Away { problem, .. }) => assert!(problem.contains(reason), "{problem}"),
        other => panic!("{other:?}"),
    }
    assert!(store.state().find(&schema(), T, GLOBAL, &key(1), 0).is_err());
    assert!(flush(&store).is_err());
    assert!(compact(&store).is_err());
    step(&store, vec![TableChange::Retire(T)]).expect("retires");
    store.wait_for_eraser();
    insert(&store, HOT, 2, "more").expect("commits");
    assert_eq!(ids(&store, HOT), [1, 2]);
    drop(store);
    assert_eq!(contents(storage), before);
}

#[test]
fn two_processes_do_not_use_one_storage() {
    let (directory, storage, store) = table();
    let in_use = format!("it is in use by process {}", std::process::id());
    let copy = copy_of(directory.path());
    assert_left_alone(copy.path(), storage.path(), &in_use);
    // The mark may be lost and put back meanwhile, or be written anew.
    let mark = storage.path().join(crate::storage_marker::MARKER_FILE);
    let text = std::fs::read(&mark).expect("reads");
    std::fs::remove_file(&mark).expect("removed");
    std::fs::write(&mark, text).expect("written");
    insert(&store, T, 3, "cold").expect("commits");
    flush(&store).expect("flushes");
    let copy = copy_of(directory.path());
    assert_left_alone(copy.path(), storage.path(), &in_use);
    // Nor does a copy make a storage of it.
    let copy = copy_of(directory.path());
    let before = contents(storage.path());
    let other = open(copy.path());
    let made = other.create_storage(StorageId(5), storage.path());
    assert!(matches!(made, Err(StoreError::Taken { .. })), "{made:?}");
    drop(other);
    assert_eq!(contents(storage.path()), before);

    compact(&store).expect("compacts");
    assert_eq!(ids(&store, T), [1, 2, 3]);
    drop(store);
    let store = open(directory.path());
    store.add_storage(SHARED, storage.path()).expect("nobody else has it");
    assert_eq!(ids(&store, T), [1, 2, 3]);
}

#[test]
fn a_copy_of_a_data_directory_leaves_alone_what_another_one_used_since() {
    for copy_goes_on in [false, true] {
        let (directory, storage, store) = table();
        // With a file announced that it will erase, and the other will have published.
        let copies = [copy_of(directory.path()), copy_of(directory.path())];
        drop(store);
        let original = directory.path();
        let (first, second) = match copy_goes_on {
            true => (copies[0].path(), original),
            false => (original, copies[0].path()),
        };
        // Whoever starts first goes on with the storage.
        let store = open(first);
        store.add_storage(SHARED, storage.path()).expect("nobody else used it");
        insert(&store, T, 3, "cold").expect("commits");
        flush(&store).expect("flushes");
        compact(&store).expect("compacts");
        assert_eq!(ids(&store, T), [1, 2, 3]);
        drop(store);
        assert_left_alone(second, storage.path(), "another copy of this database's data directory");
        for _ in 0..2 {
            let store = open(first);
            store.add_storage(SHARED, storage.path()).expect("it is its own");
            assert_eq!(ids(&store, T), [1, 2, 3]);
        }
        // Who knows better says so; what is gone by then is missing.
        std::fs::remove_file(storage.path().join(file_name(SHARED))).expect("removed");
        let store = open(copies[1].path());
        store
            .add_storage(SHARED, storage.path())
            .expect("it is said to be its own");
        let found = store.state().find(&schema(), T, GLOBAL, &key(1), 0);
        assert!(matches!(found, Err(StoreError::Damaged { .. })), "{found:?}");
    }
}

#[test]
fn a_start_that_ends_before_the_storage_knows_of_it_is_none() {
    let (directory, storage, store) = table();
    drop(store);
    let word = storage.path().join(file_name(SHARED));
    let before = std::fs::read(&word).expect("reads");
    for _ in 0..3 {
        let store = open(directory.path());
        store.add_storage(SHARED, storage.path()).expect("it is its own");
        drop(store);
        // As if the process had ended when the database knew the new word, and the storage did not.
        std::fs::write(&word, &before).expect("written");
        let store = open(directory.path());
        store.add_storage(SHARED, storage.path()).expect("it is its own still");
        let known = records(&store, "storage-used/");
        assert_eq!(known.len(), 2, "{known:?}");
        drop(store);
        std::fs::write(&word, &before).expect("written");
    }
}
