//! DataFusion's sqllogictest files over Flight SQL: hot, and with every table flushed before it is read.
//!
//! `LOGIC_TESTS=record` writes the list of exclusions anew instead of checking it, and what fails, in full, beside the
//! list. `LOGIC_FILES=union,joins` runs the files with such names only.

use std::io::Write;
use std::path::Path;

use kalamdb_tests::{Exclusions, LogicFile, Pass, Report, logic_files, run_logic_files};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datafusions_own_files_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datafusion_exclusions.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all = Exclusions::parse(&text).unwrap_or_else(|error| panic!("{}, {error}", path.display()));
    let files = chosen_files();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let (list, others) = match std::env::var_os("LOGIC_FILES") {
        Some(_) => all.split(&names),
        None => (all, Exclusions::default()),
    };

    let hot = run_logic_files(&files, Pass::Hot).await;
    let flushed = run_logic_files(&files, Pass::Flushed).await;

    let report = Report::new(&hot, &flushed, &list);
    say(&report.to_string());
    if std::env::var("LOGIC_TESTS").is_ok_and(|mode| mode == "record") {
        let recorded = report.exclusions(&list).joined(others);
        std::fs::write(&path, recorded.to_text()).expect("the list can be written");
        let failures = std::env::temp_dir().join("datafusion_logic_failures.txt");
        std::fs::write(&failures, report.failures.join("\n\n")).expect("the failures can be written");
        say(&format!("written: {} and {}", path.display(), failures.display()));
        return;
    }
    // Last and in full, so that the end of a log is enough to know them by.
    assert!(report.problems.is_empty(), "{}", report.problems.join("\n\n"));
}

fn chosen_files() -> Vec<LogicFile> {
    let mut files = logic_files();
    if let Ok(parts) = std::env::var("LOGIC_FILES") {
        files.retain(|file| parts.split(',').any(|part| file.name.contains(part)));
    }
    assert!(!files.is_empty(), "no file is chosen");
    files
}

/// Shown though the test passes: the harness holds back only what the print macros write.
fn say(text: &str) {
    let text = format!("\n{text}\n");
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("standard error takes text");
}
