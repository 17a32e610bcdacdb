//! Where DataFusion's test files are: in the crates.io package `datafusion-sqllogictest`, which cargo downloads and checks.
//! It is of the version of DataFusion that we build with; no file of it is kept in this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqllogictest::Location;

const PACKAGE: &str = "datafusion-sqllogictest";

/// Directories whose files need more than a SQL database: the functions of Spark, and the generated data of TPC-H.
const OTHER_DIRECTORIES: &[&str] = &["spark/", "tpch/"];

/// Files that read tables and functions which DataFusion's runner registers in Rust, and little else.
const OF_A_RUST_CONTEXT: &[&str] = &[
    "arrow_field.slt",
    "async_udf.slt",
    "cast_extension_type_metadata.slt",
    "dictionary_struct.slt",
    "information_schema_columns.slt",
    "information_schema_table_types.slt",
    "metadata.slt",
    "range_partitioning.slt",
    "union_function.slt",
];

/// Files that read data outside the package and are run all the same: most of their records do without.
const WITH_SOME_EXTERNAL_DATA: &[&str] = &[
    "aggregate.slt",
    "array/array_cast.slt",
    "array/array_reverse.slt",
    "array_agg.slt",
    "cte.slt",
    "ddl.slt",
    "decimal.slt",
    "describe.slt",
    "dictionary.slt",
    "errors.slt",
    "expr.slt",
    "functions.slt",
    "group.slt",
    "group_by.slt",
    "grouping.slt",
    "map.slt",
    "math.slt",
    "null_aware_anti_join.slt",
    "predicates.slt",
    "references.slt",
    "scalar.slt",
    "select.slt",
    "subquery.slt",
    "union.slt",
    "unnest.slt",
    "wildcard.slt",
    "window.slt",
];

/// One file to run.
#[derive(Clone, Debug)]
pub struct LogicFile {
    /// Its path below the package's `test_files`.
    pub name: String,
    pub(crate) path: PathBuf,
}

impl LogicFile {
    /// The place of a record as the list of exclusions writes it: its line, and before it the file if that is included.
    pub(crate) fn place(&self, location: &Location) -> String {
        let path = Path::new(location.file());
        if path == self.path {
            location.line().to_string()
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name}:{}", location.line())
        }
    }
}

/// The files that need neither external data nor a Rust context, in the order of their names.
///
/// # Panics
/// When the package is neither here nor to be had, or has none of the files named here.
pub fn logic_files() -> Vec<LogicFile> {
    let root = package_directory().join("test_files");
    let mut names = Vec::new();
    gather(&root, &root, &mut names);
    names.sort();
    for named in OF_A_RUST_CONTEXT.iter().chain(WITH_SOME_EXTERNAL_DATA) {
        assert!(names.iter().any(|name| name == named), "{PACKAGE} has no {named}");
    }
    let mut files: Vec<LogicFile> = names
        .into_iter()
        .map(|name| LogicFile {
            path: root.join(&name),
            name,
        })
        .collect();
    files.retain(is_for_us);
    files
}

fn is_for_us(file: &LogicFile) -> bool {
    let name = file.name.as_str();
    !OTHER_DIRECTORIES.iter().any(|directory| name.starts_with(directory))
        && !OF_A_RUST_CONTEXT.contains(&name)
        && (WITH_SOME_EXTERNAL_DATA.contains(&name) || !has_external_data(&file.path))
}

/// Whether a statement of the file, or of one that it includes, reads or writes files.
fn has_external_data(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().map(str::to_ascii_lowercase);
        match words.next().as_deref() {
            Some("copy") => true,
            Some("create") => words.take(2).any(|word| word == "external"),
            Some("include") => words.next().is_some_and(|_| {
                let included = line.trim_start()["include".len()..].trim();
                has_external_data(&path.with_file_name(included))
            }),
            _ => false,
        }
    })
}

fn gather(root: &Path, directory: &Path, names: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            gather(root, &path, names);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            let name = path.strip_prefix(root).expect("the root is above it");
            names.push(name.to_string_lossy().into_owned());
        }
    }
}

/// The unpacked package in cargo's own store. `cargo info` is the one command that brings a single package there, and
/// compiles nothing; when it is there already no network is needed.
fn package_directory() -> PathBuf {
    let package = format!("{PACKAGE}-{}", datafusion_version());
    if let Some(found) = in_cargo_home(&package) {
        return found;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .arg("info")
        .arg(format!("{PACKAGE}@{}", datafusion_version()))
        // Outside the workspace: inside, cargo would look for a member of that name.
        .current_dir(std::env::temp_dir())
        .output()
        .expect("cargo runs");
    in_cargo_home(&package).unwrap_or_else(|| {
        panic!(
            "cargo info did not bring {package}, which has the test files:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn in_cargo_home(package: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
    // One directory for each registry that was used; none yet on a fresh machine.
    let registries = std::fs::read_dir(home.join("registry").join("src")).ok()?;
    registries
        .map_while(Result::ok)
        .map(|registry| registry.path().join(package))
        // Cargo writes this mark last.
        .find(|directory| directory.join(".cargo-ok").is_file())
}

/// The version of DataFusion in our lock file.
fn datafusion_version() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, after) = lock
        .split_once("\nname = \"datafusion\"\nversion = \"")
        .expect("DataFusion is locked");
    after.split('"').next().unwrap_or_default().to_owned()
}
