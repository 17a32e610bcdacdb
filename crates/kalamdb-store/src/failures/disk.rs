//! The disk is full, cannot be written or cannot be synced: by the operating system's own word where this machine lets us mount, and
//! in any case by a limit that it sets to files and by fail points that say what it would.
//!
//! Each case runs in a process of its own, and those that mount in a mount namespace: what they mount goes with it, whatever happens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;

use crate::crashes::{check_structure, records};
use crate::failures::{WORK, Work, all, check_files, fill};
use crate::histories::memory_directory;
use crate::last_use::file_name;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, create, files_under, insert, key, open, options, schema, segment_files,
    segment_options, step,
};
use crate::{SegmentOptions, StorageId, Store, StoreError, StoreId, TableChange};

const CASE: &str = "KALAMDB_DISK_CASE";
const ROOT: &str = "KALAMDB_DISK_ROOT";
/// How long RocksDB may take to find that a disk is no longer full: it looks every five seconds.
const DEADLINE: Duration = Duration::from_secs(60);

const FULL: &str = "No space left on device";
const READ_ONLY: &str = "Read-only file system";
const TOO_LARGE: &str = "File too large";
/// What the operating system says so with.
const FULL_ERROR: &str = "return(os error 28)";
const READ_ONLY_ERROR: &str = "return(os error 30)";

/// Lets no file grow past 2 MiB (512 bytes are the unit), and has that be an error and no signal (25 is SIGXFSZ).
const LIMITED: [&str; 3] = ["sh", "-c", "trap '' 25 && ulimit -S -f 4096 && exec \"$0\" \"$@\""];

/// Runs one of the cases below in a process of its own, started by `wrapper`; the directory that it had.
fn check_by(case: &str, wrapper: &[&str]) -> tempfile::TempDir {
    let root = memory_directory();
    let binary = std::env::current_exe().expect("this binary");
    let mut command = match wrapper.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    let output = command
        .args(["--exact", "failures::disk::obeys", "--test-threads", "1", "--nocapture"])
        .env(CASE, case)
        .env(ROOT, root.path())
        .output()
        .expect("starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {}\n{words}", output.status);
    assert!(words.contains(&format!("{case} is done")), "{words}");
    root
}

/// Runs one of the cases that mount, if this machine lets us; says so where people see it if not.
fn check_mounted(case: &str) {
    match namespaces() {
        Some(unshare) => drop(check_by(case, &["unshare", unshare])),
        None => {
            // Not by `eprintln!`, of which a test that passes shows nothing.
            let line = format!(
                "\nNOT TRIED: failures::disk, {case}: this machine allows no mount namespace (`unshare -m`, `unshare -rm`)\n"
            );
            io::stderr().write_all(line.as_bytes()).expect("is written");
        }
    }
}

/// The option with which `unshare` gives us a namespace in which we can mount.
fn namespaces() -> Option<&'static str> {
    let place = memory_directory();
    ["-m", "-rm"].into_iter().find(|option| {
        let tried = Command::new("unshare")
            .args([option, "mount", "-t", "tmpfs", "tmpfs"])
            .arg(place.path())
            .output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// Not a test by itself: see above.
#[test]
fn obeys() {
    let Ok(case) = std::env::var(CASE) else { return };
    let root = PathBuf::from(std::env::var(ROOT).expect("a directory")).join("data");
    fs::create_dir(&root).expect("created");
    match case.as_str() {
        "full" => full_disk(&root),
        "full-start" => start_on_a_full_disk(&root),
        "limited" => limited_files(&root),
        "full-segments" => full_segments(&root),
        "full-erase" => erase_from_full_storages(&root),
        "read-only" => read_only_segments(&root),
        "file-write" => segments_that_fail(&root, "file-write", FULL_ERROR, FULL),
        "file-create" => {
            segments_that_fail(&root, "file-create", READ_ONLY_ERROR, READ_ONLY);
            start_on_segments_that_cannot_be_written(&root);
        }
        "file-sync" => segments_that_fail(&root, "file-sync", "return(the disk is broken)", "the disk is broken"),
        other => panic!("no case {other}"),
    }
    eprintln!("{case} is done");
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_it_has_room() {
    check_mounted("full");
}

#[test]
fn a_start_on_a_full_disk_says_so() {
    check_mounted("full-start");
}

#[test]
fn a_log_that_cannot_grow_refuses_writes_and_a_start_where_it_can_finds_what_was_acknowledged() {
    let directory = check_by("limited", &LIMITED);
    let root = directory.path().join("data");
    let acknowledged: i64 = fs::read_to_string(directory.path().join(ACKNOWLEDGED))
        .expect("the case writes it")
        .parse()
        .expect("a number");
    let store = open(&root);
    let found: Vec<i64> = ids(&all(&store)).into_iter().filter(|&id| id >= LARGE).collect();
    let at_most_one_more = [LARGE + acknowledged, LARGE + acknowledged + 1];
    assert!(
        at_most_one_more
            .iter()
            .any(|&end| found == (LARGE..end).collect::<Vec<_>>()),
        "{acknowledged} were acknowledged: {found:?}"
    );
    let rows = all(&store);
    for work in WORK {
        work.run(&store, || {}).expect("all goes on");
    }
    assert_eq!(all(&store), WORK.into_iter().fold(rows, |rows, work| work.after(rows)));
    check_structure(&store, &root);
}

#[test]
fn full_storage_of_segments_refuses_movers_and_loads_only() {
    check_by("file-write", &[]);
    check_mounted("full-segments");
}

#[test]
fn what_is_to_be_erased_gives_a_full_storage_room() {
    check_mounted("full-erase");
}

#[test]
fn a_directory_that_cannot_be_written_refuses_movers_and_loads_only() {
    check_by("file-create", &[]);
    check_mounted("read-only");
}

#[test]
fn a_segment_that_cannot_be_synced_is_not_published() {
    check_by("file-sync", &[]);
}

fn mount(arguments: &[&str], place: &Path) {
    let output = Command::new("mount")
        .args(arguments)
        .arg(place)
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Takes all the room there is, for as long as it is there.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    fn new(directory: &Path) -> Self {
        let path = directory.join("filler");
        let file = File::create(&path).expect("created");
        let mut filler = Self { path, file };
        filler.take_the_rest();
        filler
    }

    /// What there is again: of a write that failed RocksDB takes its part back, and is then ready for a small one.
    fn take_the_rest(&mut self) {
        let mut part = vec![1; 1 << 16];
        while !part.is_empty() {
            if self.file.write_all(&part).is_err() {
                part.truncate(part.len() / 2);
            }
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("removed");
    }
}

fn new_store(root: &Path) -> Arc<TestStore> {
    let store = open(root);
    create(&store, T);
    store
}

/// Tries until it works: nothing tells when RocksDB looks at the disk again.
fn eventually(what: impl Fn() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(error) = what() {
        assert!(start.elapsed() < DEADLINE, "still: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn full_disk(root: &Path) {
    mount(&["-t", "tmpfs", "-o", "size=48m", "tmpfs"], root);
    let store = new_store(root);
    fill(&store);
    let (mut filler, rows, error) = fill_disk(&store, root, 1000);
    assert!(error.contains(FULL), "{error}");
    for work in WORK {
        filler.take_the_rest();
        let error = work.run(&store, || {}).expect_err("there is no room");
        assert!(error.contains(FULL), "{work:?}: {error}");
    }
    assert_eq!(ids(&all(&store)), ids(&rows), "reads go on");
    check_files(&store, root);
    drop(filler);
    eventually(|| Work::Commit.run(&store, || {}));
    for work in WORK.into_iter().filter(|&work| work != Work::Commit) {
        work.run(&store, || {}).expect("there is room");
    }
    let rows = WORK.into_iter().fold(rows, |rows, work| work.after(rows));
    assert_eq!(all(&store), rows);
    check_files(&store, root);

    // Again, and the process ends before there is room.
    let (filler, rows, _) = fill_disk(&store, root, 2000);
    drop(store);
    drop(filler);
    let store = open(root);
    let found = all(&store);
    let unknown = found.keys().filter(|id| !rows.contains_key(id)).count();
    assert!(unknown <= 1 && rows.iter().all(|(id, text)| found.get(id) == Some(text)));
    check_structure(&store, root);
}

/// Fills the disk and commits until the store says so: what it has then, and what it said.
fn fill_disk(store: &TestStore, root: &Path, first_id: i64) -> (Filler, BTreeMap<i64, String>, String) {
    let filler = Filler::new(root);
    let mut rows = all(store);
    // Some room is in files that are there.
    let large = "x".repeat(1 << 20);
    for id in first_id..first_id + 100 {
        match insert(store, T, id, &large) {
            Ok(_) => rows.insert(id, large.clone()),
            Err(error) => return (filler, rows, error.to_string()),
        };
    }
    panic!("the disk is full, and takes commits");
}

fn ids(rows: &BTreeMap<i64, String>) -> Vec<i64> {
    rows.keys().copied().collect()
}

/// Beside the data directory: how many large rows were acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";
/// The first of them.
const LARGE: i64 = 1000;

/// In a process that may write no large file. RocksDB refuses writes from an error other than a full disk on until it is opened anew, so
/// all that goes on here are reads; the limit is met by the trial of the disk, too, so nobody opens it while it lasts.
fn limited_files(root: &Path) {
    let store = new_store(root);
    fill(&store);
    let mut rows = all(&store);
    let large = "x".repeat(1 << 20);
    let refused = (LARGE..LARGE + 100).find_map(|id| match insert(&store, T, id, &large) {
        Ok(_) => {
            rows.insert(id, large.clone());
            None
        }
        Err(error) => Some(error.to_string()),
    });
    let error = refused.expect("the log is full");
    assert!(error.contains(TOO_LARGE), "{error}");
    for work in WORK {
        let error = work.run(&store, || {}).expect_err("nothing can be written");
        assert!(error.contains(TOO_LARGE), "{work:?}: {error}");
    }
    assert_eq!(ids(&all(&store)), ids(&rows), "reads go on");
    assert!(block_on(store.why_no_writes()).is_some_and(|cause| cause.contains(TOO_LARGE)));
    let refused = store.try_disk().expect_err("no file may be as large as the log");
    assert!(refused.to_string().contains(TOO_LARGE), "{refused}");
    check_files(&store, root);
    let acknowledged = rows.keys().filter(|&&id| id >= LARGE).count();
    fs::write(root.with_file_name(ACKNOWLEDGED), acknowledged.to_string()).expect("written");
}

fn start_on_a_full_disk(root: &Path) {
    mount(&["-t", "tmpfs", "-o", "size=32m", "tmpfs"], root);
    let store = new_store(root);
    fill(&store);
    let rows = all(&store);
    drop(store);
    let filler = Filler::new(root);
    let refused = Store::open(options(root), 0, |_, _| Ok::<u64, StoreError>(0)).err();
    let error = refused.expect("there is no room").to_string();
    assert!(error.contains(FULL), "{error}");
    drop(filler);
    let store = open(root);
    assert_eq!(all(&store), rows);
    for work in WORK {
        work.run(&store, || {}).expect("all goes on");
    }
    check_structure(&store, root);
}

/// Work on segments fails with these words, commits do not; and all works when `again` has been called.
fn refuses(store: Arc<TestStore>, root: &Path, error_has: &str, again: impl FnOnce()) {
    let rows = all(&store);
    let files = segment_files(root);
    for work in [Work::Flush, Work::Load, Work::Compact] {
        let error = work.run(&store, || {}).expect_err("it cannot be written");
        assert!(
            error.contains(error_has) && error.contains(".parquet"),
            "{work:?}: {error}"
        );
    }
    Work::Commit.run(&store, || {}).expect("is not concerned");
    let rows = Work::Commit.after(rows);
    assert_eq!(all(&store), rows);
    check_files(&store, root);
    assert_eq!(segment_files(root), files, "nothing stays of what was not published");
    again();
    for work in [Work::Flush, Work::Load, Work::Compact] {
        work.run(&store, || {}).expect("it can be written again");
    }
    let rows = Work::Load.after(rows);
    assert_eq!(all(&store), rows);
    drop(store);
    let store = open(root);
    assert_eq!(all(&store), rows);
    check_structure(&store, root);
}

fn full_segments(root: &Path) {
    let (segments, small) = (root.join("segments"), root.with_extension("small"));
    for directory in [&segments, &small] {
        fs::create_dir(directory).expect("created");
    }
    mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &small);
    // The filler stays outside of the store's directory.
    let inside = small.join("segments");
    fs::create_dir(&inside).expect("created");
    mount(&["--bind", &inside.display().to_string()], &segments);
    let store = new_store(root);
    fill(&store);
    let filler = Filler::new(&small);
    refuses(store, root, FULL, || drop(filler));
    // From the start on, whether or not it can be said there that it is used.
    for has_word in [true, false] {
        let word = segments.join(file_name(StorageId::DEFAULT));
        if !has_word {
            fs::remove_file(&word).expect("removed");
        }
        let filler = Filler::new(&small);
        let before = fs::read(&word).unwrap_or_default();
        let store = open(root);
        assert!(store.state().why_away(StorageId::DEFAULT).is_none(), "it can be read");
        insert(&store, T, 60 + i64::from(has_word), "hot").expect("is not concerned");
        let rows = all(&store);
        let after = fs::read(&word).unwrap_or_default();
        assert_eq!((after != before, after.is_empty()), (has_word, !has_word));
        let error = Work::Flush.run(&store, || {}).expect_err("it cannot be written");
        assert!(error.contains(FULL), "{error}");
        assert_eq!(all(&store), rows);
        drop(filler);
        Work::Flush.run(&store, || {}).expect("there is room");
        assert_eq!(fs::read(&word).expect("is there").len(), 17);
        assert_eq!(all(&store), rows);
        drop(store);
        assert_eq!(all(&open(root)), rows);
    }
}

/// What is left to erase in a storage that nobody adds any more.
fn erase_from_full_storages(root: &Path) {
    let small = root.with_extension("small");
    fs::create_dir(&small).expect("created");
    mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &small);
    let store = new_store(root);
    for (number, has_word) in [(4, true), (5, false)] {
        let storage = StorageId(number);
        let there = small.join(number.to_string());
        store.create_storage(storage, &there).expect("a storage");
        let table = StoreId(100 + number);
        create(&store, table);
        insert(&store, table, 1, "cold").expect("commits");
        let elsewhere = SegmentOptions {
            storage,
            ..segment_options()
        };
        let moved = store.flush(table, &schema(), &elsewhere, &Meanwhile(|_, _| {}));
        moved.expect("flushes");
        if !has_word {
            fs::remove_file(there.join(file_name(storage))).expect("removed");
        }
    }
    let reader = store.state();
    let tables = [StoreId(104), StoreId(105)].map(TableChange::Retire);
    step(&store, tables.into()).expect("retires");
    // In this order they are erased by the next start.
    drop(store);
    drop(reader);
    let _filler = Filler::new(&small);
    assert_eq!(files_under(&small.join("4")).len(), 1);
    assert_eq!(files_under(&small.join("5")).len(), 1);
    let store = open(root);
    store.wait_for_eraser();
    for storage in [StorageId(4), StorageId(5)] {
        let there = small.join(storage.to_string());
        assert_eq!(files_under(&there), [] as [PathBuf; 0]);
        let word = fs::read_to_string(there.join(file_name(storage))).expect("is there");
        let known = records(&store, "storage-used/").join(" ");
        assert!(known.contains(word.trim_end()), "{word} is none of {known}");
    }
}

fn read_only_segments(root: &Path) {
    let store = new_store(root);
    fill(&store);
    let segments = root.join("segments");
    mount(&["--bind", &segments.display().to_string()], &segments);
    let remount = |how: &str| mount(&["-o", &format!("remount,{how},bind")], &segments);
    remount("ro");
    refuses(store, root, READ_ONLY, || {
        remount("rw");
    });
    let rows = all(&open(root));
    remount("ro");
    refused_tables(root, &rows, || remount("rw"));
    accepted_tables(root, &rows);
}

fn segments_that_fail(root: &Path, point: &str, action: &str, error_has: &str) {
    let store = new_store(root);
    fill(&store);
    fail::cfg(point, action).expect("a fail point");
    refuses(store, root, error_has, || fail::remove(point));
}

fn start_on_segments_that_cannot_be_written(root: &Path) {
    let rows = all(&open(root));
    fail::cfg("file-create", READ_ONLY_ERROR).expect("a fail point");
    refused_tables(root, &rows, || fail::remove("file-create"));
    accepted_tables(root, &rows);
}

/// The tables of a storage that cannot be written at the start are refused, others are not, until it can be.
fn refused_tables(root: &Path, rows: &BTreeMap<i64, String>, again: impl FnOnce()) {
    let store = open(root);
    let refused = store.state().find(&schema(), T, GLOBAL, &key(1), 0);
    let error = refused.expect_err("it cannot be written").to_string();
    let segments = root.join("segments");
    assert!(
        error.contains(READ_ONLY) && error.contains(&segments.display().to_string()),
        "{error}"
    );
    create(&store, HOT);
    insert(&store, HOT, 1, "row").expect("nothing is wrong with it");
    let known = records(&store, "storage-used/");
    assert_eq!(store.find_storages(), []);
    assert_eq!(records(&store, "storage-used/"), known, "trying costs no commit");
    again();
    assert_eq!(store.find_storages(), [StorageId::DEFAULT]);
    assert_eq!(&all(&store), rows);
    Work::Flush.run(&store, || {}).expect("it can be written again");
    assert_eq!(&all(&store), rows);
}

/// A table without segments.
const HOT: StoreId = StoreId(71);

fn accepted_tables(root: &Path, rows: &BTreeMap<i64, String>) {
    let store = open(root);
    assert_eq!(&all(&store), rows);
    assert_eq!(crate::testing::ids(&store, HOT), [1]);
}
