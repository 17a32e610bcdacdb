//! The rules of the house that a compiler cannot see: which crate may name which, who may name RocksDB and gRPC, what
//! opens a file, and under which licences others' code is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each of our crates, and ours that it may depend on. A crate names those to its right: server, flight, sql, core, store.
const EDGES: &[(&str, &[&str])] = &[
    ("kalamdb-store", &[]),
    ("kalamdb-core", &["kalamdb-store"]),
    ("kalamdb-sql", &["kalamdb-core", "kalamdb-store"]),
    ("kalamdb-flight", &["kalamdb-sql", "kalamdb-core", "kalamdb-store"]),
    (
        "kalamdb-server",
        &["kalamdb-flight", "kalamdb-sql", "kalamdb-core", "kalamdb-store"],
    ),
    // What tests of several crates share; it knows none of ours.
    ("kalamdb-histories", &[]),
    // Nothing depends on the tests, and they may look anywhere.
    (
        "kalamdb-tests",
        &[
            "kalamdb-server",
            "kalamdb-flight",
            "kalamdb-sql",
            "kalamdb-core",
            "kalamdb-store",
        ],
    ),
];

/// What only tests may depend on, those of any crate.
const FOR_TESTS: &str = "kalamdb-histories";

/// Licences that ask for no more than a notice.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The one file that makes gRPC statuses.
const STATUS_FILE: &str = "crates/kalamdb-flight/src/status.rs";

#[test]
fn crates_depend_to_the_right_only() {
    let metadata = metadata();
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        let name = text(package, "name");
        let Some(allowed) = edges.get(name) else {
            wrong.push(format!(
                "{name} is not in the list of crates: say what it may depend on"
            ));
            continue;
        };
        for dependency in array(package, "dependencies") {
            let is_for_tests = dependency["kind"] == "dev";
            let dependency = text(dependency, "name");
            if dependency == FOR_TESTS && is_for_tests {
                continue;
            }
            if dependency.starts_with("kalamdb") && !allowed.contains(&dependency) {
                wrong.push(format!("{name} depends on {dependency}, which stands to its left"));
            }
            if dependency == "rocksdb" && name != "kalamdb-store" {
                wrong.push(format!("{name} depends on rocksdb, which only kalamdb-store may name"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn rocksdb_is_named_in_the_store_alone() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        // The tests cannot import it either, for want of the dependency; this file has the word in it.
        if path.starts_with("crates/kalamdb-store/") || path.starts_with("tests/") {
            continue;
        }
        wrong.extend(
            lines_of_code(&source)
                .filter(|(_, line)| names(line, "rocksdb"))
                .map(|(number, line)| {
                    format!(
                        "{}:{number}: only kalamdb-store may name rocksdb: {}",
                        path.display(),
                        line.trim()
                    )
                }),
        );
    }
    assert_none(&wrong);
}

#[test]
fn grpc_statuses_are_made_in_one_file() {
    // Passing on a `Status` as a type is fine; choosing a code is what happens in one place.
    let constructors = [
        "Code::",
        "Status::new",
        "Status::with_",
        "Status::ok",
        "Status::cancelled",
        "Status::unknown",
        "Status::invalid_argument",
        "Status::deadline_exceeded",
        "Status::not_found",
        "Status::already_exists",
        "Status::permission_denied",
        "Status::resource_exhausted",
        "Status::failed_precondition",
        "Status::aborted",
        "Status::out_of_range",
        "Status::unimplemented",
        "Status::internal",
        "Status::unavailable",
        "Status::data_loss",
        "Status::unauthenticated",
    ];
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        // `ErrorCode::` is the product's own, `tests/` stands on the other side of the wire.
        if path == Path::new(STATUS_FILE) || path.starts_with("tests/") {
            continue;
        }
        let makes_one = |line: &str| constructors.iter().any(|constructor| names(line, constructor));
        wrong.extend(
            lines_of_code(&source)
                .filter(|(_, line)| makes_one(line))
                .map(|(number, line)| {
                    format!(
                        "{}:{number}: gRPC codes belong to {STATUS_FILE}: {}",
                        path.display(),
                        line.trim()
                    )
                }),
        );
    }
    assert!(
        root().join(STATUS_FILE).is_file(),
        "{STATUS_FILE} is gone: this test looks at nothing"
    );
    assert_none(&wrong);
}

#[test]
fn every_source_file_says_what_it_owns() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        let opening: String = source
            .lines()
            .skip_while(|line| line.trim().is_empty())
            .take_while(|line| line.starts_with("//!"))
            .map(|line| line.trim_start_matches("//!").trim())
            .collect();
        if opening.len() < 20 {
            wrong.push(format!("{}: does not open with a `//!` sentence", path.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn licences_of_dependencies_are_on_the_list() {
    let metadata = metadata();
    let ours: Vec<&str> = members(&metadata).map(|package| text(package, "name")).collect();
    let packages = array(&metadata, "packages");
    let mut wrong = Vec::new();
    for package in packages {
        let (name, version) = (text(package, "name"), text(package, "version"));
        if ours.contains(&name) {
            continue;
        }
        match package["license"].as_str() {
            None => wrong.push(format!("{name} {version} states no licence")),
            Some(licence) => match licence_allowed(licence) {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{name} {version}: {licence} is not on the list")),
                Err(error) => wrong.push(format!("{name} {version}: {licence} cannot be read: {error}")),
            },
        }
    }
    assert!(
        packages.len() > 100,
        "cargo metadata lists only {} packages",
        packages.len()
    );
    assert_none(&wrong);
}

#[test]
fn licence_expressions() {
    fn check(expression: &str, expected: Result<bool, ()>) {
        assert_eq!(licence_allowed(expression).map_err(|_| ()), expected, "{expression}");
    }
    check("MIT", Ok(true));
    check("GPL-3.0", Ok(false));
    check("MIT/Apache-2.0", Ok(true));
    check("MIT OR GPL-3.0", Ok(true));
    check("GPL-3.0 OR AGPL-3.0", Ok(false));
    check("MIT AND GPL-3.0", Ok(false));
    check("(MIT OR GPL-3.0) AND Unicode-3.0", Ok(true));
    check("(MIT AND GPL-3.0) OR LGPL-2.1", Ok(false));
    // AND binds tighter than OR.
    check("GPL-3.0 AND MIT OR ISC", Ok(true));
    check("ISC OR MIT AND GPL-3.0", Ok(true));
    check("Apache-2.0 WITH LLVM-exception OR GPL-3.0", Ok(true));
    check("GPL-2.0 WITH Classpath-exception-2.0", Ok(false));
    check("MIT AND", Err(()));
    check("(MIT", Err(()));
    check("MIT ISC", Err(()));
}

/// Whether an SPDX expression can be met with licences of the list alone.
fn licence_allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let allowed = any_of(&mut tokens)?;
    match tokens.next() {
        None => Ok(allowed),
        Some(token) => Err(format!("{token} is one too many")),
    }
}

type Tokens<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn any_of(tokens: Tokens<'_, '_>) -> Result<bool, String> {
    let mut allowed = all_of(tokens)?;
    while tokens.next_if_eq(&"OR").is_some() {
        allowed |= all_of(tokens)?;
    }
    Ok(allowed)
}

fn all_of(tokens: Tokens<'_, '_>) -> Result<bool, String> {
    let mut allowed = one(tokens)?;
    while tokens.next_if_eq(&"AND").is_some() {
        allowed &= one(tokens)?;
    }
    Ok(allowed)
}

fn one(tokens: Tokens<'_, '_>) -> Result<bool, String> {
    match tokens.next() {
        None | Some(")" | "AND" | "OR" | "WITH") => Err("a licence is missing".to_owned()),
        Some("(") => {
            let allowed = any_of(tokens)?;
            tokens.next_if_eq(&")").ok_or("a parenthesis is not closed")?;
            Ok(allowed)
        }
        Some(licence) => {
            let mut name = licence.to_owned();
            if tokens.next_if_eq(&"WITH").is_some() {
                let exception = tokens.next().ok_or("an exception is missing")?;
                name = format!("{licence} WITH {exception}");
            }
            Ok(LICENCES.contains(&name.as_str()))
        }
    }
}

#[test]
fn names_are_whole_words() {
    fn check(line: &str, name: &str, expected: bool) {
        assert_eq!(names(line, name), expected, "{name} in {line}");
    }
    check("use rocksdb::DB;", "rocksdb", true);
    check("let my_rocksdb_path = 1;", "rocksdb", false);
    check("tonic::Code::Internal", "Code::", true);
    check("ErrorCode::Internal", "Code::", false);
    check("StatusCode::OK", "Code::", false);
    check("Status::internal(text)", "Status::internal", true);
    check("JobStatus::internal", "Status::internal", false);
}

/// Whether `name` stands in the line with no word character before it, and, if it ends in one, none after it.
fn names(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + name.len()..].chars().next().is_some_and(is_word);
        !before && (!after || !name.ends_with(char::is_alphanumeric))
    })
}

/// Lines with their numbers from 1, without those that are comments.
fn lines_of_code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Every Rust file of the workspace, by its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(directory).expect("a directory of the workspace can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("a source file is UTF-8");
                let from_root = path.strip_prefix(root).expect("it is under the root").to_owned();
                found.push((from_root, source));
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    for directory in ["crates", "tests"] {
        walk(&root.join(directory), &root, &mut found);
    }
    assert!(
        found.len() > 20,
        "only {} source files found: this test looks at nothing",
        found.len()
    );
    found
}

/// What cargo knows of the workspace and of every package that a build for this machine uses.
fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(version.stdout).expect("rustc writes UTF-8");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids = array(metadata, "workspace_members");
    array(metadata, "packages")
        .iter()
        .filter(move |package| ids.contains(&package["id"]))
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("cargo metadata has no list {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("cargo metadata has no text {name}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_owned()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
