//! `kalamdb sql` without a terminal: where errors are in a script, and what is left of one that is interrupted.

use std::path::Path;
use std::process::{Command, Stdio};

use kalamdb_tests::{Client, ROOT_PASSWORD, Server, binary_path, eventually};

use crate::command_line::{run, run_with_input};

const PASSWORD: [(&str, &str); 1] = [("KALAMDB_PASSWORD", ROOT_PASSWORD)];

/// Rows without an end.
const STREAM: &str = "SELECT a.id, b.id AS other FROM numbers a CROSS JOIN numbers b CROSS JOIN numbers c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_placed_in_the_script() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)").await;
    root.ok("INSERT INTO t VALUES (1, 'a')").await;
    let url = format!("grpc://{}", server.flight);
    let path = directory.path().join("all.sql");
    let file = path.display().to_string();

    let nmae =
        "-- A first statement.\nSELECT 1 AS one;\n\n-- Another\n-- one.\nSELECT id,\n       nmae FROM t;\nSELECT 2;\n";
    let expected = "(line 7, column 8 of NAME)\nLINE 7:        nmae FROM t;\n               ^\n";
    let syntax = "SELECT 1; /* x */ SELECT * FORM t;";
    let syntax_expected = "(line 1, column 28 of NAME)\nLINE 1: SELECT 1; /* x */ SELECT * FORM t;\n                                   ^\n";
    let unclosed = "SELECT 1;\nSELECT 'a;\n";
    let unclosed_expected = "(line 2, column 8 of NAME)\nLINE 2: SELECT 'a;\n               ^\n";
    let no_place = "-- Fine.\nSELECT 1;\n-- Not so.\nINSERT INTO t\nVALUES (1, 'again');\n";
    let no_place_expected = "(in the statement at line 4 of NAME)\n";
    for (script, code, expected) in [
        (nmae, "COLUMN_NOT_FOUND: ", expected),
        (syntax, "SYNTAX_ERROR: ", syntax_expected),
        (unclosed, "SYNTAX_ERROR: ", unclosed_expected),
        (no_place, "DUPLICATE_KEY: ", no_place_expected),
    ] {
        std::fs::write(&path, script).expect("the file can be written");
        let given = [
            (
                run(&["sql", "--url", &url, "-f", &file], &PASSWORD),
                format!(" of {file}"),
            ),
            (
                run_with_input(&["sql", "--url", &url], &PASSWORD, script),
                " of standard input".to_owned(),
            ),
            (run(&["sql", "--url", &url, "-c", script], &PASSWORD), String::new()),
        ];
        for (output, name) in given {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.starts_with(&format!("kalamdb: {code}")), "{stderr}");
            let expected = expected.replace(" of NAME", &name);
            assert!(stderr.ends_with(&expected), "{stderr}\nis not\n{expected}");
        }
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_script_leaves_nothing_half_done_in_silence() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(&directory.path().join("data"));
    let mut root = server.root().await;
    root.ok("CREATE TABLE numbers (id BIGINT PRIMARY KEY)").await;
    root.ok("INSERT INTO numbers SELECT value FROM generate_series(1, 20000)")
        .await;
    let url = format!("grpc://{}", server.flight);
    let cancelled = |root: &Client| {
        let mut root = root.clone();
        async move {
            let sql =
                "SELECT count(*) FROM system.queries WHERE statement LIKE 'SELECT a.id%' AND status = 'cancelled'";
            root.value(sql).await
        }
    };

    for (index, (format, signal)) in [("csv", "INT"), ("parquet", "INT"), ("parquet", "TERM")]
        .into_iter()
        .enumerate()
    {
        let rows = directory.path().join(format!("{format}-{signal}"));
        std::fs::create_dir(&rows).expect("a directory can be made");
        let file = rows.join("rows");
        let mut command = Command::new(binary_path());
        command
            .args(["sql", "--url", &url, "--format", format, "-c", STREAM, "-o"])
            .arg(&file)
            .envs(PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().expect("the binary starts");
        eventually("rows come", || async { (size(&rows) > 0).then_some(()) }).await;
        let sent = Command::new("sh")
            .args(["-c", "kill -$0 $1", signal, &child.id().to_string()])
            .status()
            .expect("sh runs");
        assert!(sent.success(), "the signal could not be sent");
        let output = child.wait_with_output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{format}: {stderr}");
        assert!(stderr.contains("Cancelled."), "{format}: {stderr}");
        let said = format!("{} holds the beginning of a result", file.display());
        assert_eq!(stderr.contains(&said), format == "csv", "{format}: {stderr}");
        let left = std::fs::read_dir(&rows).expect("lists").count();
        assert_eq!(left, usize::from(format == "csv"), "{format} {signal}");
        let wanted = (index + 1).to_string();
        eventually("the server cancels it", || async {
            (cancelled(&root).await == wanted).then_some(())
        })
        .await;
    }
    server.terminate();
}

/// Bytes of the files in a directory.
fn size(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).expect("lists");
    files
        .filter_map(|file| file.and_then(|file| file.metadata()).ok())
        .map(|metadata| metadata.len())
        .sum()
}
