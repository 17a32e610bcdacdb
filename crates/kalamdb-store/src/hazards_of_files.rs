//! The hazards of files that go bad: a missing or damaged one is named by whoever meets it, and its table is refused until it is as
//! it was written. No other table is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crashes::records;
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
            assert_eq!(records(&store, "damaged/").len(), 1, "{way}");
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
fn damage_that_was_met_is_known_after_restarts_until_a_check_finds_it_mended() {
    let (directory, mut store) = new_store();
    let file = two_runs(&store, directory.path());
    let before = flip(&file);
    assert!((WAYS[0].1)(&store).is_err());
    for mended in [false, true] {
        if mended {
            fs::write(&file, &before).expect("written");
        }
        drop(store);
        store = open(directory.path());
        // Nobody has read the file since, and its size is right.
        assert_refused(&store, &file);
    }
    assert_eq!(store.check(T, &schema(), &QUIET).expect("checks").problems, []);
    for _ in 0..2 {
        assert_eq!(ids(&store, T), [1, 2, 11, 12, 20]);
        assert_eq!(records(&store, "damaged/"), [""; 0]);
        drop(store);
        store = open(directory.path());
    }
}

#[test]
fn damage_that_a_check_finds_behind_a_wrong_size_is_kept() {
    let (directory, store) = new_store();
    let file = two_runs(&store, directory.path());
    drop(store);
    let before = flip(&file);
    let flipped = fs::read(&file).expect("reads");
    fs::write(&file, &flipped[1..]).expect("writes");
    let store = open(directory.path());
    assert_refused(&store, &file);
    assert_eq!(records(&store, "damaged/"), [""; 0], "each start sees it");
    fs::write(&file, &flipped).expect("writes");
    assert_eq!(store.check(T, &schema(), &QUIET).expect("checks").problems.len(), 1);
    drop(store);
    let store = open(directory.path());
    assert_refused(&store, &file);
    // A file that was missing at one start and is whole at the next needs no check.
    fs::write(&file, &before).expect("writes");
    assert_eq!(store.check(T, &schema(), &QUIET).expect("checks").problems, []);
    drop(store);
    fs::remove_file(&file).expect("removed");
    assert_refused(&open(directory.path()), &file);
    fs::write(&file, &before).expect("writes");
    assert_eq!(ids(&open(directory.path()), T), [1, 2, 11, 12, 20]);
}

#[test]
fn a_table_that_is_refused_can_be_dropped_and_nothing_is_kept_of_it() {
    let (directory, store) = new_store();
    let file = two_runs(&store, directory.path());
    flip(&file);
    assert!((WAYS[1].1)(&store).is_err());
    assert_eq!(records(&store, "damaged/").len(), 1);
    step(&store, vec![TableChange::Retire(T)]).expect("it can be dropped");
    assert_eq!(records(&store, "damaged/"), [""; 0]);

    // What a reader of an old state meets is kept by nobody for long.
    store.wait_for_eraser();
    create(&store, T);
    let file = two_runs(&store, directory.path());
    let old = store.state();
    flip(&file);
    step(&store, vec![TableChange::Retire(T)]).expect("retires");
    assert!(old.find(&schema(), T, GLOBAL, &key(2), 0).is_err());
    assert_eq!(records(&store, "damaged/").len(), 1);
    drop((old, store));
    assert_eq!(records(&open(directory.path()), "damaged/"), [""; 0]);
}

#[test]
fn what_a_reader_met_before_a_file_was_mended_is_not_held_against_it() {
    let (directory, store) = new_store();
    let file = two_runs(&store, directory.path());
    let before = flip(&file);
    assert!((WAYS[0].1)(&store).is_err());
    let state = store.state();
    let mut segments = state.table(T).expect("live").segments.iter();
    let segment = segments
        .find(|segment| file.ends_with(&segment.entry.path))
        .expect("that of the file");
    let met = || StoreError::Corrupt {
        object: "the file".to_string(),
        problem: "of before".to_string(),
    };
    let late = segment.damage.note(|| {
        fs::write(&file, &before).expect("written");
        assert_eq!(store.check(T, &schema(), &QUIET).expect("checks").problems, []);
        Err::<(), _>(met())
    });
    assert!(matches!(late, Err(StoreError::Corrupt { .. })), "{late:?}");
    assert_eq!(ids(&store, T), [1, 2, 11, 12, 20]);
    assert_eq!(records(&store, "damaged/"), [""; 0]);
    // A check does not take back what somebody else met while it ran.
    let since = segment.damage.now();
    assert!(segment.damage.note(|| Err::<(), _>(met())).is_err());
    assert!(matches!(
        segment.damage.is_repaired(since),
        Err(StoreError::Damaged { .. })
    ));
    assert_refused_by_damage(&store);
    assert_eq!(store.check(T, &schema(), &QUIET).expect("checks").problems, []);
    assert_eq!(ids(&store, T), [1, 2, 11, 12, 20]);
}

#[track_caller]
fn assert_refused_by_damage(store: &TestStore) {
    let refused = store.state().check_segments(T);
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
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
        let (directory, store) = new_store();
        if storage != StorageId::DEFAULT {
            store.create_storage(storage, root.path()).expect("a storage");
        }
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
        if storage != StorageId::DEFAULT {
            store.add_storage(storage, root.path()).expect("a storage");
        }
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
