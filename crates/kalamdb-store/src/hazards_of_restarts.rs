//! What a restart finds after a crash or a power failure: every row once, every file that is named, and none that is not.

use std::path::PathBuf;

use crate::crashes::records;
use crate::hazards_of_movers::Once;
use crate::testing::{
    Meanwhile, T, copy_directory, create, delete, files_under, flush, flush_while, ids, insert, new_store, open,
    schema, segment_files, segment_options, step,
};
use crate::{SegmentOptions, StorageId, StoreId, TableChange};

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
        assert_eq!(segment_files(copy.path()), [] as [PathBuf; 0]);
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
}

fn crash_with_files_elsewhere(storage: StorageId) -> CrashedElsewhere {
    let (directory, store) = new_store();
    let root = tempfile::tempdir().expect("a directory");
    store
        .create_storage(storage, &root.path().join("there"))
        .expect("a storage");
    let elsewhere = SegmentOptions {
        storage,
        ..segment_options()
    };
    let dropped = StoreId(8);
    create(&store, dropped);
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
    // What crashed has nothing any more, the storage's lock included. In this order it erases nothing.
    drop(store);
    drop(reader);
    assert_eq!(files_under(root.path()).len(), 2);
    CrashedElsewhere { copy, root }
}

#[test]
fn hazard_16_what_a_crash_left_in_another_storage_goes_although_nobody_adds_it() {
    let CrashedElsewhere { copy, root } = crash_with_files_elsewhere(StorageId(4));
    let store = open(copy.path());
    store.wait_for_eraser();
    assert_eq!(files_under(root.path()), [] as [PathBuf; 0]);
    assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
    assert_eq!(records(&store, "file/"), [""; 0]);
}

#[test]
fn hazard_16_what_a_crash_left_in_a_storage_that_was_away_goes_when_it_is_back() {
    let storage = StorageId(4);
    for instead in ["nothing", "a file", "an empty directory"] {
        let CrashedElsewhere { copy, root } = crash_with_files_elsewhere(storage);
        let (there, away) = (root.path().join("there"), root.path().join("away"));
        std::fs::rename(&there, &away).expect("moved");
        match instead {
            "a file" => std::fs::write(&there, "").expect("written"),
            "an empty directory" => std::fs::create_dir(&there).expect("made"),
            _ => {}
        }
        let mut store = open(copy.path());
        store.wait_for_eraser();
        assert_eq!(files_under(&away).len(), 2);
        assert_eq!(records(&store, "file/").len(), 2, "{instead}");
        assert_eq!(ids(&store, T), (0..10).collect::<Vec<_>>());
        // Nobody asked for it.
        match instead {
            "a file" => std::fs::remove_file(&there).expect("removed"),
            "an empty directory" => std::fs::remove_dir(&there).expect("still empty"),
            _ => assert!(!there.exists()),
        }
        std::fs::rename(&away, &there).expect("moved back");
        store.add_storage(storage, &there).expect("a storage");
        store.wait_for_eraser();
        assert_eq!(files_under(root.path()), [] as [PathBuf; 0]);
        assert_eq!(records(&store, "file/"), [""; 0]);
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
