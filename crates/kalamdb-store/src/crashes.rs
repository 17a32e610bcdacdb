//! Tests of crashes: a process is killed at every point of [`crate::crash`], or the machine loses its power there. What was
//! acknowledged is there afterwards, what was not is there whole or not at all, and no file is too many or missing.
//!
//! A test that kills starts this test binary again: [`child`] obeys it, and nothing else runs in that process.

mod child;
mod history;
mod kills;
mod power;
mod rebuilding;
mod recovery;
mod runner;

pub(crate) use power::note_synced;
pub(crate) use recovery::{check_structure, records};

/// Every point at which a process is killed.
const POINTS: [&str; 34] = [
    "closing",
    "commit-answered",
    "commit-published",
    "commit-writing",
    "commit-written",
    "compact-published",
    "compact-written",
    "counter-writing",
    "counter-written",
    "erase-file",
    "erase-file-gone",
    "erase-store",
    "erased",
    "file-unnamed",
    "file-unsynced",
    "flush-published",
    "flush-sealed",
    "flush-written",
    "load-chunk-written",
    "load-merged",
    "load-resolved",
    "load-written",
    "open-directory",
    "open-loaded",
    "open-read",
    "open-recovered",
    "open-rocksdb",
    "open-storage-noted",
    "segment-announced",
    "segment-written",
    "step-answered",
    "step-published",
    "step-writing",
    "step-written",
];

/// And those of starts that leave a damaged file of RocksDB behind: no history comes there.
const POINTS_OF_REBUILDING: [&str; 11] = [
    "damage-noted",
    "rebuild-checked",
    "rebuild-created",
    "rebuild-decided",
    "rebuild-done",
    "rebuild-drafted",
    "rebuild-dropped",
    "rebuild-filled",
    "rebuild-tables-gone",
    "rebuild-writing",
    "rebuild-written",
];

/// A point that is not in the list would never be tried.
#[test]
fn every_point_in_the_code_is_tried() {
    let mut found = Vec::new();
    let mut directories = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("reads");
            for rest in source.split("crash::point(\"").skip(1) {
                found.push(rest.split('"').next().expect("a name").to_string());
            }
        }
    }
    // This file looks for what it names itself.
    found.retain(|name| !name.contains(')'));
    found.sort();
    let mut tried = [&POINTS[..], &POINTS_OF_REBUILDING].concat();
    tried.sort_unstable();
    assert_eq!(found, tried);
}
