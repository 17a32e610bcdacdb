//! RocksDB refuses all writes since its files failed it, for real: what the store says of it, and the opening that ends it.

use std::collections::BTreeMap;
use std::fs;

use futures::executor::block_on;

use crate::crashes::check_structure;
use crate::engine::Fault;
use crate::failures::{WORK, all, fill};
use crate::testing::{T, TestStore, insert, new_store, open};
use crate::{CommitError, Store};

/// Commits until one fails: what is there then, and what it said.
fn insert_until_refused(store: &TestStore, mut rows: BTreeMap<i64, String>) -> (BTreeMap<i64, String>, String) {
    let large = "x".repeat(1 << 20);
    for id in 1000..1100 {
        match insert(store, T, id, &large) {
            Ok(_) => rows.insert(id, large.clone()),
            Err(error) => return (rows, error.to_string()),
        };
    }
    panic!("RocksDB can create no file, and takes commits");
}

#[test]
fn a_store_whose_files_failed_refuses_writes_until_it_is_opened_anew() {
    let (directory, store) = new_store();
    fill(&store);
    assert_eq!(block_on(store.why_no_writes()), None);
    let (place, elsewhere) = (directory.path().join("rocksdb"), directory.path().join("elsewhere"));
    fs::rename(&place, &elsewhere).expect("renamed");
    let (rows, error) = insert_until_refused(&store, all(&store));
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(block_on(store.why_no_writes()).is_some());
    let away = store.try_disk().expect_err("it is away").to_string();
    assert!(away.contains(&place.display().to_string()), "{away}");

    fs::rename(&elsewhere, &place).expect("renamed");
    store.try_disk().expect("it is back");
    for _ in 0..2 {
        assert!(block_on(store.why_no_writes()).is_some(), "RocksDB does not go on");
        let refused = insert(&store, T, 2000, "refused");
        assert!(
            matches!(&refused, Err(CommitError::Storage(words)) if words.contains("the database is opened anew")),
            "{refused:?}"
        );
    }
    assert!(all(&store).keys().eq(rows.keys()), "reads go on");

    drop(store);
    let store = open(directory.path());
    let found = all(&store);
    let unknown = found.keys().filter(|id| !rows.contains_key(id)).count();
    assert!(unknown <= 1 && rows.iter().all(|(id, text)| found.get(id) == Some(text)));
    for work in WORK {
        work.run(&store, || {}).expect("all goes on");
    }
    assert_eq!(block_on(store.why_no_writes()), None);
    check_structure(&store, directory.path());
}

#[test]
fn a_write_that_fails_once_asks_for_no_opening() {
    let (_directory, store) = new_store();
    let engine = store.engine().clone();
    engine.set_fault(Some(Fault::Sync));
    insert(&store, T, 1, "unknown").expect_err("its sync fails");
    assert_eq!(block_on(store.why_no_writes()), None, "the next one does not");
    insert(&store, T, 1, "again").expect("commits");

    engine.set_fault(Some(Fault::SyncForEver));
    insert(&store, T, 2, "unknown").expect_err("its sync fails");
    for _ in 0..2 {
        let cause = block_on(store.why_no_writes()).expect("they all fail");
        assert!(cause.contains("a test fails every sync"), "{cause}");
    }
    engine.set_fault(None);
    assert_eq!(block_on(store.why_no_writes()), None);
    insert(&store, T, 2, "again").expect("commits");
}

#[test]
fn what_is_no_database_is_not_taken_for_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let is_at = || Store::<u64>::is_at(directory.path());
    assert!(!is_at());
    fs::create_dir(directory.path().join("rocksdb")).expect("created");
    assert!(!is_at());
    fs::remove_dir(directory.path().join("rocksdb")).expect("removed");
    drop(open(directory.path()));
    assert!(is_at());
}
