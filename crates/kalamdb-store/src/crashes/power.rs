//! The machine loses its power: only what was synced is certain to be there, and the log may end anywhere behind it.
//!
//! A process copies its directory when it comes to a point, as a disk might have it then: segment files that were synced, and
//! the log with a note of how far it was synced. Each copy is opened with its log cut there, and at places behind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Durability;
use crate::crashes::child::{Orders, Task, at, log_of, run};
use crate::crashes::kills::counts;
use crate::crashes::recovery::recover;
use crate::crashes::runner::Log;
use crate::crashes::{POINTS, history};
use crate::histories::memory_directory;
use crate::testing::copy_directory;

const SEED: u64 = 2;

/// Files and how much of them is on disk for good, in a process that copies.
static SYNCED: Mutex<Option<BTreeMap<PathBuf, u64>>> = Mutex::new(None);

pub(crate) fn note_synced(path: impl FnOnce() -> PathBuf) {
    if let Some(synced) = &mut *SYNCED.lock() {
        let path = path();
        match path.is_dir() {
            true => synced.extend(logs(&path)),
            false => {
                synced.insert(path, 0);
            }
        }
    }
}

/// RocksDB's logs and their lengths.
fn logs(rocksdb: &Path) -> BTreeMap<PathBuf, u64> {
    fs::read_dir(rocksdb)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter_map(|path| match fs::metadata(&path) {
            Ok(metadata) => Some((path, metadata.len())),
            // RocksDB deletes logs that it needs no more.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", path.display()),
        })
        .collect()
}

/// One copy.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Copied {
    point: String,
    /// The newest log's name, and how much of it was synced.
    log: String,
    synced: u64,
    /// How far the process was, before and after copying: other threads went on.
    before: Log,
    begun_after: usize,
}

struct Copying {
    hits: BTreeMap<String, Vec<u64>>,
    from: PathBuf,
    to: PathBuf,
    seen: BTreeMap<String, u64>,
    /// What was synced when a write began, by the first word of the points before and after it.
    at_writing: BTreeMap<String, BTreeMap<PathBuf, u64>>,
}

/// Has copies made when this process comes to these points for these times.
pub(super) fn copy_at(hits: BTreeMap<String, Vec<u64>>, from: &Path, to: &Path) {
    *SYNCED.lock() = Some(BTreeMap::new());
    let copying = Arc::new(Mutex::new(Copying {
        hits,
        from: from.to_path_buf(),
        to: to.to_path_buf(),
        seen: BTreeMap::new(),
        at_writing: BTreeMap::new(),
    }));
    for point in POINTS {
        let copying = copying.clone();
        // Whoever comes to a point meanwhile waits.
        at(point, move || copying.lock().pass(point));
    }
}

impl Copying {
    fn pass(&mut self, point: &str) {
        let seen = self.seen.entry(point.to_string()).or_default();
        *seen += 1;
        let name = format!("{point}-{seen}");
        let wanted = self.hits.get(point).is_some_and(|hits| hits.contains(seen));
        let log = Log::read(&log_of(&self.from));
        let mut synced = SYNCED.lock().clone().expect("a process that copies");
        if let Some(what) = point.strip_suffix("-writing") {
            self.at_writing.insert(what.to_string(), synced.clone());
        }
        // The sync of what was just written may not have come to its end.
        let before = point
            .strip_suffix("-written")
            .and_then(|what| self.at_writing.get(what));
        for (path, length) in before.into_iter().flatten() {
            synced.insert(path.clone(), *length);
        }
        if wanted {
            self.copy(point, &self.to.join(name), log, &synced);
        }
    }

    fn copy(&self, point: &str, to: &Path, before: Log, synced: &BTreeMap<PathBuf, u64>) {
        fs::create_dir_all(to.join("data/rocksdb")).expect("created");
        for entry in fs::read_dir(&self.from).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                copy(&path, &to.join("data").join(path.file_name().expect("a name")));
            }
        }
        let rocksdb = self.from.join("rocksdb");
        if rocksdb.is_dir() {
            copy_of_one_moment(&rocksdb, &to.join("data/rocksdb"));
        }
        for path in synced
            .keys()
            .filter(|path| path.starts_with(self.from.join("segments")))
        {
            let target = to.join("data").join(path.strip_prefix(&self.from).expect("below"));
            fs::create_dir_all(target.parent().expect("a directory")).expect("created");
            copy(path, &target);
        }
        let newest = logs(&to.join("data/rocksdb")).keys().max().cloned();
        let log = newest
            .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .unwrap_or_default();
        let copied = Copied {
            point: point.to_string(),
            synced: synced.get(&rocksdb.join(&log)).copied().unwrap_or(0),
            log,
            before,
            begun_after: Log::read(&log_of(&self.from)).begun,
        };
        fs::write(to.join("copied"), serde_json::to_vec(&copied).expect("JSON")).expect("written");
    }
}

/// Copies RocksDB's files as they are at one moment: its own threads write, list and delete some meanwhile, and a list that names a file
/// which was copied too early, or not at all, is of no disk that ever was. Logs may grow: they are cut anyway.
fn copy_of_one_moment(rocksdb: &Path, to: &Path) {
    loop {
        let before = listing(rocksdb);
        for name in before.keys() {
            copy(&rocksdb.join(name), &to.join(name));
        }
        if listing(rocksdb) == before {
            return;
        }
        fs::remove_dir_all(to).expect("removed");
        fs::create_dir(to).expect("created");
    }
}

/// Names and lengths, but those of files that only grow and are read up to wherever they end.
fn listing(rocksdb: &Path) -> BTreeMap<OsString, u64> {
    let entries = fs::read_dir(rocksdb).expect("a directory");
    let files = entries.filter_map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let grows = name.to_string_lossy().ends_with(".log") || name.to_string_lossy().starts_with("LOG");
        match entry.metadata() {
            Ok(metadata) => Some((name, if grows { 0 } else { metadata.len() })),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", entry.path().display()),
        }
    });
    files.collect()
}

/// Of a file that may be going.
fn copy(from: &Path, to: &Path) {
    match fs::copy(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        copied => {
            copied.expect("copied");
        }
    }
}

fn lose_power_everywhere(durability: Durability) {
    let directory = memory_directory();
    let (data, copies) = (directory.path().join("data"), directory.path().join("copies"));
    let hits = POINTS.iter().map(|point| {
        let count = counts()[*point];
        (point.to_string(), vec![1, count / 3 + 1, count * 2 / 3 + 1])
    });
    run(&Orders {
        directory: data,
        relaxed: durability == Durability::Relaxed,
        seed: SEED,
        from: 0,
        until: usize::MAX,
        task: Task::Copy(hits.collect(), copies.clone()),
    });
    let mut points = BTreeSet::new();
    for copy in fs::read_dir(&copies).expect("copies") {
        let copy = copy.expect("an entry").path();
        let copied: Copied = serde_json::from_slice(&fs::read(copy.join("copied")).expect("reads")).expect("JSON");
        points.insert(copied.point.clone());
        let length = match copied.log.as_str() {
            "" => 0,
            log => fs::metadata(copy.join("data/rocksdb").join(log))
                .expect("is there")
                .len(),
        };
        let end = length.max(copied.synced);
        let cuts = BTreeSet::from([
            copied.synced,
            (copied.synced + end) / 2,
            end.saturating_sub(1).max(copied.synced),
            end,
        ]);
        for cut in cuts {
            eprintln!(
                "power lost at {}, the log of {length} bytes cut at {cut}: {copied:?}",
                copy.display()
            );
            lose_power(&copy.join("data"), &copied, cut, durability);
        }
    }
    assert_eq!(points, POINTS.map(str::to_string).into());
}

fn lose_power(copy: &Path, copied: &Copied, cut: u64, durability: Durability) {
    let directory = memory_directory();
    let data = directory.path().join("data");
    fs::create_dir(&data).expect("created");
    copy_directory(copy, &data);
    if !copied.log.is_empty() {
        let log = fs::OpenOptions::new()
            .write(true)
            .open(data.join("rocksdb").join(&copied.log));
        log.and_then(|log| log.set_len(cut)).expect("cut");
    }
    let log = Log {
        begun: copied.begun_after,
        ..copied.before.clone()
    };
    recover(&data, &history::operations(SEED), &log, durability);
}

#[test]
fn power_lost_at_every_point_and_the_log_torn() {
    lose_power_everywhere(Durability::Synced);
}

#[test]
fn power_lost_at_every_point_takes_commits_that_were_not_synced_and_nothing_else() {
    lose_power_everywhere(Durability::Relaxed);
}
