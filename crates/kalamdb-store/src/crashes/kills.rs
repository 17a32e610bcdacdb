//! The process dies, the machine does not: what was written is there, whether it was synced or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::Durability;
use crate::crashes::child::{Orders, Task, kill, kill_if_reached, log_of, run};
use crate::crashes::recovery::recover;
use crate::crashes::runner::Log;
use crate::crashes::{POINTS, history};
use crate::histories::memory_directory;

const SEED: u64 = 1;
/// Of each point so many times are tried, if the history comes to it so often.
const TRIED: u64 = 6;

fn orders(directory: &std::path::Path, seed: u64, task: Task) -> Orders {
    Orders {
        directory: directory.to_path_buf(),
        relaxed: false,
        seed,
        from: 0,
        until: usize::MAX,
        task,
    }
}

/// How often the history comes to each point.
pub(super) fn counts() -> &'static BTreeMap<String, u64> {
    static COUNTS: OnceLock<BTreeMap<String, u64>> = OnceLock::new();
    COUNTS.get_or_init(|| {
        let directory = memory_directory();
        let path = directory.path().join("counts");
        run(&orders(&directory.path().join("data"), SEED, Task::Count(path.clone())));
        serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON")
    })
}

/// Which times that it comes to a point are tried: the first, the last and some between.
fn hits(point: &str) -> BTreeSet<u64> {
    let count = *counts()
        .get(point)
        .unwrap_or_else(|| panic!("the history never comes to {point}"));
    (0..TRIED).map(|part| 1 + part * (count - 1) / (TRIED - 1)).collect()
}

fn die_at(point: &str, hit: u64) {
    let directory = memory_directory();
    let data = directory.path().join("data");
    kill(&orders(&data, SEED, Task::Die(point.to_string(), hit)));
    let log = Log::read(&log_of(&data));
    eprintln!("killed at {point}, time {hit}: {log:?}");
    recover(&data, &history::operations(SEED), &log, Durability::Synced);
}

fn die_at_all(prefixes: &[&str]) {
    let points: Vec<&&str> = POINTS
        .iter()
        .filter(|point| prefixes.iter().any(|prefix| point.starts_with(prefix)))
        .collect();
    assert!(!points.is_empty());
    for point in points {
        for hit in hits(point) {
            die_at(point, hit);
        }
    }
}

#[test]
fn killed_while_rows_are_committed_and_ids_drawn() {
    die_at_all(&["commit-", "counter-"]);
}

#[test]
fn killed_in_a_step_that_seals_publishes_or_retires() {
    die_at_all(&["step-"]);
}

#[test]
fn killed_while_segments_are_written_and_published() {
    die_at_all(&["segment-", "file-", "flush-", "compact-", "load-"]);
}

#[test]
fn killed_while_what_is_dead_is_erased() {
    die_at_all(&["erase"]);
}

#[test]
fn killed_while_it_starts_and_ends() {
    die_at_all(&["open-", "clos"]);
}

/// All of them are tried by one of the tests above.
#[test]
fn no_point_is_forgotten() {
    let prefixes = [
        "commit-", "counter-", "step-", "segment-", "file-", "flush-", "compact-", "load-", "erase", "open-", "clos",
    ];
    for point in POINTS {
        assert!(prefixes.iter().any(|prefix| point.starts_with(prefix)), "{point}");
    }
}

/// A process that dies at work, and the next one while it recovers, and so on.
#[test]
fn killed_again_while_it_recovers() {
    for (first, time) in [
        ("flush-written", 1),
        ("step-written", counts()["step-written"] / 2),
        ("file-unnamed", counts()["file-unnamed"] / 2),
        ("load-merged", 1),
        ("compact-published", 1),
    ] {
        let directory = memory_directory();
        let data = directory.path().join("data");
        kill(&orders(&data, SEED, Task::Die(first.to_string(), time)));
        let log = Log::read(&log_of(&data));
        let operations = history::operations(SEED);
        for again in [
            "open-directory",
            "open-rocksdb",
            "open-read",
            "erase-file-gone",
            "open-recovered",
            "open-loaded",
        ] {
            let start = Orders {
                from: log.done,
                until: 0,
                ..orders(&data, SEED, Task::Die(again.to_string(), 1))
            };
            if again.starts_with("erase") {
                // Whether a file is left depends on how far the eraser of the process before came.
                kill_if_reached(&start);
            } else {
                kill(&start);
            }
        }
        recover(&data, &operations, &log, Durability::Synced);
    }
}
