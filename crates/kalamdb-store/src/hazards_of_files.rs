//! The hazards of files that go bad: a missing or damaged one is named by whoever meets it, and its table is refused until it is as
//! it was written. No other table is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, create, delete, files_under, flush, ids, insert, key, load, new_store, open,
    schema, segment_files, segment_options, spec, step,
};
use crate::{OnDuplicate, SegmentOptions, StorageId, StoreError, StoreId, TableChange};

/// Another table, which is never damaged.
const OTHER: StoreId = StoreId(8);

const QUIET: Meanwhile<fn(u64, u64)> = Meanwhile(|_, _| {});

/// Changes a byte of a file's columns, which no reader keeps in memory; its size stays. What it was before.
fn flip(file: &Path) -> Vec<u8> {
    let before = fs::read(file).expect("reads");
    let mut bytes = before.clone();
    bytes[8] ^= 1;
    fs::write(file, bytes).expect("writes");
    before
}

/// Two runs and a hot row; the file of the first run.
fn two_runs(store: &Arc<TestStore>, directory: &Path) -> PathBuf {
    load(store, GLOBAL, OnDuplicate::Fail, &[1, 2], "loaded");
    load(store, GLOBAL, OnDuplicate::Fail, &[11, 12], "loaded");
    insert(store, T, 20, "hot").expect("commits");
    let segments = store.state().segments(T).expect("reads");
    directory.join("segments").join(&segments[0].0.path)
}

/// What reads and moves rows, and does not need the file of the first run.
fn refusals(store: &Arc<TestStore>) -> Vec<Result<(), StoreError>> {
    let state = store.state();
    let find = |id| state.find(&schema(), T, GLOBAL, &key(id), 0).map(|_| ());
    vec![
        find(11),
        find(20),
        find(99),
        state.get(&schema(), &spec(T, GLOBAL), &key(20)).map(|_| ()),
        state.scan(&schema(), spec(T, GLOBAL)).map(|_| ()),
        state.check_segments(T),
        store.flush(T, &schema(), &segment_options(), &QUIET).map(|_| ()),
        store
            .compact(T, &schema(), &segment_options(), true, &QUIET)
            .map(|_| ()),
        store
            .compact(T, &schema(), &segment_options(), false, &QUIET)
            .map(|_| ()),
    ]
}

#[track_caller]
fn assert_refused(store: &Arc<TestStore>, file: &Path) {
    for (at, refusal) in refusals(store).into_iter().enumerate() {
        match refusal {
            Err(StoreError::Damaged { file: named, .. }) => {
                assert!(named.contains(&file.display().to_string()), "{at}: {named}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
}

/// How a person meets the damage.
type Meet = fn(&Arc<TestStore>) -> Result<(), StoreError>;

const WAYS: [(&str, Meet); 5] = [
    ("look-up", |store| {
        store.state().find(&schema(), T, GLOBAL, &key(2), 0).map(|_| ())
    }),
    ("point read", |store| {
        store.state().get(&schema(), &spec(T, GLOBAL), &key(2)).map(|_| ())
    }),
    ("scan", |store| {
        let mut scan = store.state().scan(&schema(), spec(T, GLOBAL))?;
        while scan.next_batch()?.is_some() {}
        Ok(())
    }),
    ("compaction", |store| {
        store
            .compact(T, &schema(), &segment_options(), true, &QUIET)
            .map(|_| ())
    }),
    ("check", |store| {
        let checked = store.check(T, &schema(), &QUIET)?;
        assert_eq!(checked.problems.len(), 1);
        Err(StoreError::Damaged {
            file: String::new(),
            problem: checked.problems[0].1.clone(),
        })
    }),
];

#[test]
fn damage_that_a_read_meets_refuses_the_table_until_a_check_finds_it_mended() {
    for (way, meet) in WAYS {
        for remove in [false, true] {
            let (directory, store) = new_store();
            create(&store, OTHER);
            insert(&store, OTHER, 1, "fine").expect("commits");
            let file = two_runs(&store, directory.path());
            let before = flip(&file);
            if remove {
                fs::remove_file(&file).expect("removed");
            }
            assert!(store.state().check_segments(T).is_ok(), "nobody has read it");
            let old_state = store.state();
            match meet(&store) {
                Err(StoreError::Damaged { problem, .. }) => {
                    let expected = if remove { "missing" } else { "checksum" };
                    assert!(problem.contains(expected), "{way}: {problem}");
                }
                other => panic!("{way}: {other:?}"),
            }
            assert_refused(&store, &file);
            assert!(
                old_state.check_segments(T).is_err(),
                "states of before are no way around"
            );
            assert_eq!(ids(&store, OTHER), [1]);
            assert_eq!(segment_files(directory.path()).len(), if remove { 1 } else { 2 });

            // A check that finds the damage still there changes nothing.
            let again = store.check(T, &schema(), &QUIET).expect("checks");
            assert_eq!((again.segments, again.problems.len()), (2, 1), "{way}");
            assert_refused(&store, &file);
            fs::write(&file, before).expect("written");
            assert_refused(&store, &file);
            let mended = store.check(T, &schema(), &QUIET).expect("checks");
            assert_eq!(mended.problems, [], "{way}");
            assert_eq!(ids(&store, T), [1, 2, 11, 12, 20]);
            delete(&store, 2).expect("commits");
            flush(&store);
            assert_eq!(ids(&store, T), [1, 11, 12, 20]);
        }
    }
}

#[test]
fn a_table_that_is_refused_can_be_dropped_and_is_served_after_a_restart_with_a_sound_file() {
    let (directory, store) = new_store();
    let file = two_runs(&store, directory.path());
    let before = flip(&file);
    assert!((WAYS[0].1)(&store).is_err());
    assert_refused(&store, &file);
    fs::write(&file, before).expect("written");
    drop(store);
    let store = open(directory.path());
    assert_eq!(ids(&store, T), [1, 2, 11, 12, 20]);
    flip(&file);
    assert!((WAYS[1].1)(&store).is_err());
    step(&store, vec![TableChange::Retire(T)]).expect("it can be dropped");
}

#[test]
fn a_table_with_a_missing_file_is_refused_even_where_the_file_is_not_needed() {
    let (directory, store) = new_store();
    load(&store, GLOBAL, OnDuplicate::Fail, &[1, 2], "loaded");
    load(&store, GLOBAL, OnDuplicate::Fail, &[11, 12], "loaded");
    insert(&store, T, 20, "hot").expect("commits");
    let segments = store.state().segments(T).expect("reads");
    let file = directory.path().join("segments").join(&segments[0].0.path);
    drop(store);
    fs::remove_file(&file).expect("removed");
    let store = open(directory.path());
    let state = store.state();
    // The rows that do not need the file first: whoever needs it finds that it is missing.
    for id in [20, 11, 1] {
        let refused = state.find(&schema(), T, GLOBAL, &key(id), 0);
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{id}: {refused:?}");
    }
    step(&store, vec![TableChange::Retire(T)]).expect("it can be dropped");
}

#[test]
fn a_missing_or_damaged_file_is_named_and_refuses_its_table_only() {
    for (storage, remove) in [
        (StorageId::DEFAULT, true),
        (StorageId::DEFAULT, false),
        (StorageId(4), true),
        (StorageId(4), false),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let add = |store: &TestStore| match storage {
            StorageId::DEFAULT => {}
            named => store.add_storage(named, root.path()).expect("a storage"),
        };
        let (directory, store) = new_store();
        add(&store);
        create(&store, OTHER);
        insert(&store, OTHER, 1, "fine").expect("commits");
        for id in 0..10 {
            insert(&store, T, id, "cold").expect("commits");
        }
        let options = SegmentOptions {
            storage,
            ..segment_options()
        };
        store.flush(T, &schema(), &options, &QUIET).expect("flushes");
        let in_default = segment_files(directory.path());
        let file = files_under(root.path())
            .into_iter()
            .chain(in_default)
            .next()
            .expect("one");
        drop(store);
        if remove {
            fs::remove_file(&file).expect("removed");
        } else {
            let bytes = fs::read(&file).expect("reads");
            fs::write(&file, &bytes[..bytes.len() - 1]).expect("writes");
        }
        let store = open(directory.path());
        add(&store);
        // Nothing was read yet: it was seen when the storage was opened.
        let state = store.state();
        let mut segments = state.table(T).expect("live").segments.iter();
        assert!(segments.next().is_some_and(|segment| segment.check().is_err()));
        assert_eq!(ids(&store, OTHER), [1]);
        let error = state
            .find(&schema(), T, GLOBAL, &key(1), 0)
            .expect_err("refused")
            .to_string();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(error.contains(&name), "{error}");
        assert!(state.scan(&schema(), spec(T, GLOBAL)).is_err());
        let checked = store.check(T, &schema(), &QUIET).expect("checks");
        assert_eq!(checked.problems.len(), 1);
    }
}
