//! The process dies while it leaves a damaged file of RocksDB behind: the next start, or one of those after it, has done it, and no row of
//! another table is lost or doubled.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::crashes::POINTS_OF_REBUILDING;
use crate::crashes::child::at;
use crate::hazards_of_hot_files::{assert_left_behind, given_up};
use crate::testing::open;

const DIRECTORY: &str = "KALAMDB_REBUILD_DIRECTORY";
const POINT: &str = "KALAMDB_REBUILD_POINT";

/// Not a test by itself: opens a directory, and dies at a point.
#[test]
fn obeys() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    at(&std::env::var(POINT).expect("a point"), || std::process::abort());
    drop(open(&PathBuf::from(directory)));
}

/// Whether a process that opens the directory came to the point.
fn dies_at(point: &str, directory: &Path) -> bool {
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "crashes::rebuilding::obeys",
            "--test-threads",
            "1",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .env(POINT, point)
        .output()
        .expect("starts");
    let is_dead = output.status.signal() == Some(6);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        is_dead || output.status.success(),
        "{point}: {}\n{words}",
        output.status
    );
    is_dead
}

#[test]
fn killed_while_a_damaged_file_is_left_behind() {
    for point in POINTS_OF_REBUILDING {
        let (directory, file) = given_up();
        assert!(dies_at(point, directory.path()), "it does not come to {point}");
        // Once more, if what is left to do comes there again.
        dies_at(point, directory.path());
        assert_left_behind(directory.path(), &file);
    }
}

/// One start after the other, each of which dies where the one before would have gone on.
#[test]
fn killed_again_and_again_while_a_damaged_file_is_left_behind() {
    let (directory, file) = given_up();
    for point in [
        "rebuild-written",
        "rebuild-drafted",
        "rebuild-decided",
        "rebuild-checked",
        "rebuild-dropped",
        "rebuild-created",
        "rebuild-filled",
        "rebuild-done",
    ] {
        assert!(dies_at(point, directory.path()), "it does not come to {point}");
    }
    assert_left_behind(directory.path(), &file);
}
