//! The process that is killed: this test binary again, in which one test obeys what an environment variable says.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::Durability;
use crate::crashes::runner::{Runner, open_as};
use crate::crashes::{POINTS, history, power};

const ORDERS: &str = "KALAMDB_CRASH_ORDERS";

/// What the process is to do.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Orders {
    pub(super) directory: PathBuf,
    pub(super) relaxed: bool,
    pub(super) seed: u64,
    /// So many operations are done already.
    pub(super) from: usize,
    /// Stop before this one.
    pub(super) until: usize,
    pub(super) task: Task,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Task {
    /// Write down how often it comes to each point.
    Count(PathBuf),
    /// Die when it comes to this point for the n-th time.
    Die(String, u64),
    /// Copy what is on disk for good when it comes to these points for the n-th time.
    Copy(BTreeMap<String, Vec<u64>>, PathBuf),
}

/// Where the process writes down what it has done.
pub(super) fn log_of(directory: &Path) -> PathBuf {
    directory.with_extension("log")
}

/// Runs a process that comes to its end.
pub(super) fn run(orders: &Orders) {
    let output = start(orders);
    assert!(output.status.success(), "{orders:?}: {}", words(&output));
}

/// Runs a process that dies as ordered.
pub(super) fn kill(orders: &Orders) {
    let output = start(orders);
    // Abort: it ends at once, no destructor runs and nothing is flushed.
    assert_eq!(output.status.signal(), Some(6), "{orders:?}: {}", words(&output));
}

/// The same, but it may come to its end without having come to the point.
pub(super) fn kill_if_reached(orders: &Orders) {
    let output = start(orders);
    let killed = output.status.signal() == Some(6);
    assert!(killed || output.status.success(), "{orders:?}: {}", words(&output));
}

fn start(orders: &Orders) -> Output {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crashes::child::obeys", "--test-threads", "1", "--nocapture"])
        .env(ORDERS, serde_json::to_string(orders).expect("JSON"))
        .output()
        .expect("starts")
}

fn words(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// Not a test by itself: see above.
#[test]
fn obeys() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders");
    let counts = Arc::new(Mutex::new(BTreeMap::<&str, u64>::new()));
    match orders.task.clone() {
        Task::Count(_) => {
            for point in POINTS {
                let counts = counts.clone();
                at(point, move || *counts.lock().entry(point).or_default() += 1);
            }
        }
        Task::Die(point, hit) => {
            let hits = AtomicU64::new(0);
            at(&point, move || {
                if hits.fetch_add(1, Ordering::SeqCst) + 1 == hit {
                    std::process::abort();
                }
            });
        }
        Task::Copy(hits, to) => power::copy_at(hits, &orders.directory, &to),
    }
    let durability = match orders.relaxed {
        true => Durability::Relaxed,
        false => Durability::Synced,
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_of(&orders.directory))
        .expect("a log");
    let store = open_as(&orders.directory, durability);
    let operations = history::operations(orders.seed);
    let runner = Runner::new(&orders.directory, durability, store, operations, orders.from).with_log(log);
    runner.run(orders.until);
    let (store, _) = runner.end();
    store.wait_for_eraser();
    drop(store);
    if let Task::Count(path) = orders.task {
        let counts = serde_json::to_vec(&*counts.lock()).expect("JSON");
        std::fs::write(path, counts).expect("written");
    }
}

pub(super) fn at(point: &str, action: impl Fn() + Send + Sync + 'static) {
    fail::cfg_callback(point, action).expect("a fail point");
}
