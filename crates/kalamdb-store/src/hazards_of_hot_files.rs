//! The hazards of RocksDB's own files going bad: which table it is about is said, that table is refused, and all others are read and
//! written.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use rocksdb::WaitForCompactOptions;

use crate::key;
use crate::rebuild::ENDS_AT;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, create, ids, insert, key as key_of, new_store, open, options, put, request,
    schema, spec, step,
};
use crate::{CommitError, SegmentId, Store, StoreError, StoreId, TableChange};

/// Tables whose keys are on both sides of those of [`T`], so that RocksDB merges its file with theirs.
const OTHERS: [StoreId; 2] = [StoreId(1), StoreId(1000)];

/// So many that they are in several blocks of a file.
const ROWS: i64 = 500;

const QUIET: Meanwhile<fn(u64, u64)> = Meanwhile(|_, _| {});

/// A table whose hot rows are in a file of RocksDB, and others; that file.
fn table() -> (tempfile::TempDir, Arc<TestStore>, PathBuf) {
    table_after(&|_, _| {})
}

fn table_after(prepare: &dyn Fn(&Arc<TestStore>, &Path)) -> (tempfile::TempDir, Arc<TestStore>, PathBuf) {
    let (directory, store) = new_store();
    prepare(&store, directory.path());
    OTHERS.iter().for_each(|&other| create(&store, other));
    let text = "some text that makes a row long enough ".repeat(4);
    let puts = (0..ROWS).map(|id| put(T, GLOBAL, id, &text)).collect();
    block_on(store.commit(request(&store, puts))).expect("commits");
    let engine = store.engine();
    engine.db().flush_cf(engine.hot()).expect("is written");
    let live = engine.db().live_files().expect("are listed");
    let prefix = key::store_prefix(T);
    let of_table = live
        .iter()
        .filter(|file| file.start_key.as_ref().is_some_and(|key| key.starts_with(&prefix)));
    let names: Vec<&str> = of_table.map(|file| file.name.trim_start_matches('/')).collect();
    let [name] = names[..] else { panic!("{names:?}") };
    let path = directory.path().join("rocksdb").join(name);
    (directory, store, path)
}

/// Where a block of rows is, not the first: RocksDB reads that one to see that a table before it has no rows there.
const OFFSET: u64 = 3000;

/// Changes a byte of it, and changes it back the next time.
fn flip(file: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, OFFSET).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], OFFSET).expect("writes");
}

/// Writes the other tables, and has RocksDB do what it then does: enough for a compaction of all files.
fn write_others(store: &TestStore, from: i64) -> Result<(), CommitError> {
    for id in from..from + 6 {
        for other in OTHERS {
            insert(store, other, id, "other")?;
        }
        let engine = store.engine();
        // What goes wrong here is what the next write says.
        engine.db().flush_cf(engine.hot()).ok();
        engine.db().wait_for_compact(&WaitForCompactOptions::default()).ok();
    }
    OTHERS
        .iter()
        .try_for_each(|&other| insert(store, other, from + 6, "other").map(|_| ()))
}

fn scan(store: &TestStore) -> Result<usize, StoreError> {
    let mut scan = store.state().scan(&schema(), spec(T, GLOBAL))?;
    let mut rows = 0;
    while let Some(batch) = scan.next_batch()? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

#[track_caller]
fn assert_names<T: std::fmt::Debug>(refused: Result<T, StoreError>, file: &Path) {
    let name = file.file_name().expect("a name").to_string_lossy();
    match refused {
        Err(StoreError::HotDamaged { store: T, problem }) => assert!(problem.contains(&*name), "{problem}"),
        other => panic!("{other:?}"),
    }
}

fn problems(store: &TestStore, table: StoreId) -> Vec<(Option<SegmentId>, String)> {
    store.check(table, &schema(), &QUIET).expect("checks").problems
}

#[track_caller]
fn assert_checked(store: &TestStore, file: &Path) {
    let name = file.file_name().expect("a name").to_string_lossy();
    match &problems(store, T)[..] {
        [(None, problem)] => assert!(problem.contains(&*name), "{problem}"),
        other => panic!("{other:?}"),
    }
    for other in OTHERS {
        assert_eq!(problems(store, other), []);
    }
}

#[test]
fn damage_of_one_tables_hot_rows_refuses_that_table_alone() {
    for checked_first in [false, true] {
        let (directory, store, file) = table();
        let sound = store.check(T, &schema(), &QUIET).expect("checks");
        assert_eq!((sound.rows, sound.problems), (ROWS as u64, Vec::new()));
        // All of it is in memory by now.
        assert_eq!(scan(&store).expect("reads"), ROWS as usize);
        flip(&file);
        if checked_first {
            assert_checked(&store, &file);
        } else {
            store.engine().forget_blocks();
        }
        assert_names(scan(&store), &file);
        // Not even this is read, which is elsewhere in the file.
        assert_names(store.state().find(&schema(), T, GLOBAL, &key_of(ROWS - 1), 0), &file);
        assert_names(store.state().check_segments(T), &file);
        assert_checked(&store, &file);
        write_others(&store, 0).expect("others are written");
        assert_eq!(rows_of_others(&store), 2 * 7);

        drop(store);
        let store = open(directory.path());
        write_others(&store, 10).expect("others are written");
        assert_names(scan(&store), &file);
        assert_checked(&store, &file);
        assert_eq!(rows_of_others(&store), 4 * 7);

        drop(store);
        flip(&file);
        let store = open(directory.path());
        assert_eq!(problems(&store, T), []);
        assert_eq!(scan(&store).expect("reads"), ROWS as usize);
        write_others(&store, 20).expect("others are written");
        assert!(!file.exists(), "it is compacted");
        assert_eq!(ids(&store, T).len(), ROWS as usize);
    }
}

#[test]
fn damage_that_a_compaction_meets_stops_no_write_after_an_opening() {
    let (directory, store, file) = table();
    flip(&file);
    let refused = (0..3).find_map(|round| write_others(&store, 10 * round).err());
    let words = refused.expect("a compaction meets it").to_string();
    let name = file.file_name().expect("a name").to_string_lossy();
    assert!(words.contains(&*name), "{words}");
    let words = insert(&store, OTHERS[0], 100, "no").expect_err("still").to_string();
    assert!(
        words.contains(&*name) && words.contains("the database is opened anew"),
        "{words}"
    );
    let cause = block_on(store.why_no_writes()).expect("that helps");
    assert!(cause.contains(&*name), "{cause}");

    drop(store);
    let store = open(directory.path());
    write_others(&store, 200).expect("others are written");
    assert_names(scan(&store), &file);
    assert_checked(&store, &file);
}

/// A table that is refused because of a file, and then given up.
pub(crate) fn given_up() -> (tempfile::TempDir, PathBuf) {
    given_up_after(&|_, _| {})
}

/// The same of a store to which something was done before.
pub(crate) fn given_up_after(prepare: &dyn Fn(&Arc<TestStore>, &Path)) -> (tempfile::TempDir, PathBuf) {
    // What RocksDB was merging when the file was damaged may have taken the file's place, or it drops the file with the rows: there is
    // nothing to leave behind then.
    let mut tries = (0..20).filter_map(|_| given_up_once(prepare));
    tries.next().expect("the file stays now and then")
}

fn given_up_once(prepare: &dyn Fn(&Arc<TestStore>, &Path)) -> Option<(tempfile::TempDir, PathBuf)> {
    let (directory, store, file) = table_after(prepare);
    flip(&file);
    store.engine().forget_blocks();
    assert_names(scan(&store), &file);
    drop(store);
    // As long as it may be mended, it stays as it is.
    let store = open(directory.path());
    if scan(&store).is_ok() {
        return None;
    }
    assert_names(scan(&store), &file);
    write_others(&store, 0).expect("others are written");
    step(&store, vec![TableChange::Retire(T)]).expect("retires");
    store.wait_for_eraser();
    write_others(&store, 10).expect("others are written");
    file.exists().then_some((directory, file))
}

/// Names of what is beside RocksDB's directory.
fn beside(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("reads");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

pub(crate) fn files_of_rows(store: &TestStore) -> usize {
    let live = store.engine().db().live_files().expect("are listed");
    live.iter().filter(|file| file.column_family_name == "hot").count()
}

/// Checks that nothing is left of a damaged file, and that RocksDB merges files.
pub(crate) fn assert_left_behind(directory: &Path, file: &Path) {
    let store = open(directory);
    assert!(!file.exists());
    assert_eq!(
        beside(directory),
        ["FORMAT", "LOCK-kalamdb", "rocksdb", "segments"].map(str::to_string)
    );
    assert_eq!(rows_of_others(&store), 4 * 7);
    write_others(&store, 20).expect("others are written");
    write_others(&store, 30).expect("others are written");
    assert!(files_of_rows(&store) < 6, "{}", files_of_rows(&store));
    create(&store, T);
    insert(&store, T, 1, "new").expect("commits");
    assert_eq!(ids(&store, T), [1]);
    assert_eq!(rows_of_others(&store), 8 * 7);
    drop(store);
    let store = open(directory);
    assert_eq!(rows_of_others(&store), 8 * 7);
    assert_eq!(problems(&store, T), []);
}

#[test]
fn a_damaged_file_whose_rows_were_given_up_is_left_behind_by_the_next_start() {
    let (directory, file) = given_up();
    assert_left_behind(directory.path(), &file);
}

#[test]
fn a_start_that_leaves_a_file_behind_may_end_at_any_moment() {
    for moment in ["decided", "checked", "dropped", "created", "filled", "done"] {
        let (directory, file) = given_up();
        for _ in 0..2 {
            ENDS_AT.set(Some(moment));
            let opened = Store::open(options(directory.path()), 0, |_, _| Ok::<u64, StoreError>(1));
            ENDS_AT.set(None);
            match opened {
                // The second time that is not reached again.
                Ok(store) => {
                    assert!(["decided", "checked", "done"].contains(&moment), "{moment}");
                    assert_eq!(rows_of_others(&store), 4 * 7);
                }
                Err(StoreError::Storage(words)) => assert!(words.contains(moment), "{words}"),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_left_behind(directory.path(), &file);
    }
}

#[test]
fn what_was_written_and_is_damaged_too_takes_no_rows_place() {
    let (directory, file) = given_up();
    ENDS_AT.set(Some("decided"));
    let opened = Store::open(options(directory.path()), 0, |_, _| Ok::<u64, StoreError>(1));
    ENDS_AT.set(None);
    assert!(opened.is_err());
    let written = directory.path().join("rebuilt-hot.sst");
    let length = std::fs::metadata(&written).expect("is there").len();
    let spoilt = OpenOptions::new().write(true).open(&written).expect("opens");
    spoilt.write_all_at(&[0xa5; 16], length / 3).expect("writes");
    let store = open(directory.path());
    assert_eq!(rows_of_others(&store), 4 * 7);
    drop(store);
    // It is written once more.
    assert_left_behind(directory.path(), &file);
}

#[test]
fn a_start_without_room_for_the_rows_leaves_them_where_they_are() {
    let (directory, file) = given_up();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("rebuilt-rows.new")).expect("linked");
    let store = open(directory.path());
    assert!(file.exists());
    assert_eq!(rows_of_others(&store), 4 * 7);
    drop(store);
    assert_left_behind(directory.path(), &file);
}

#[test]
fn a_damaged_file_stays_for_as_long_as_another_table_needs_it() {
    let (directory, store, file) = table();
    let more = StoreId(900);
    create(&store, more);
    // In one file with the damaged rows, on both sides of them.
    for other in [OTHERS[0], more] {
        insert(&store, other, 1, "more").expect("commits");
    }
    let engine = store.engine();
    engine.db().flush_cf(engine.hot()).expect("is written");
    engine.db().compact_range_cf(engine.hot(), None::<&[u8]>, None::<&[u8]>);
    let live = engine.db().live_files().expect("are listed");
    let merged: Vec<_> = live.iter().filter(|file| file.column_family_name == "hot").collect();
    let [merged] = merged[..] else { panic!("{merged:?}") };
    let file = file.with_file_name(merged.name.trim_start_matches('/'));
    flip(&file);
    store.engine().forget_blocks();
    assert_names(scan(&store), &file);
    step(&store, vec![TableChange::Retire(OTHERS[0])]).expect("retires");
    store.wait_for_eraser();
    drop(store);
    let store = open(directory.path());
    assert!(file.exists());
    assert_names(scan(&store), &file);
    assert_eq!(ids(&store, more), [1]);
    step(&store, vec![TableChange::Retire(T)]).expect("retires");
    store.wait_for_eraser();
    drop(store);
    let store = open(directory.path());
    assert!(!file.exists());
    assert_eq!(ids(&store, more), [1]);
}

/// Rows of the other tables.
pub(crate) fn rows_of_others(store: &TestStore) -> usize {
    OTHERS.iter().map(|&other| ids(store, other).len()).sum()
}
