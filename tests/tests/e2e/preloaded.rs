//! Libraries that are loaded into a server (LD_PRELOAD) in place of calls of the system. Compiling them takes the C compiler that building
//! RocksDB takes, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles one; its file is in this directory.
pub(crate) fn library(directory: &Path, name: &str, source: &str) -> PathBuf {
    let (text, library) = (
        directory.join(name).with_extension("c"),
        directory.join(name).with_extension("so"),
    );
    fs::write(&text, source).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &text])
        .output()
        .expect("there is a C compiler, `cc`");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    library
}
