//! The shell and its session: the login, errors, Ctrl-C, and a connection that is lost.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kalamdb_tests::{Client, Server, Terminal, binary_path, eventually};
use tokio::net::{TcpListener, TcpStream};

use crate::shell::{CTRL_C, Shell, contains};

/// Computes for hours before its first row.
const ENDLESS: &str = "SELECT sum(a.value * b.value + c.value) FROM generate_series(1, 100000) a, \
                       generate_series(1, 100000) b, generate_series(1, 100000) c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_asked_for_and_kept_nowhere() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE USER 'ann' WITH PASSWORD 'correct horse battery' ROLE user")
        .await;
    let url = format!("grpc://{}", server.flight);
    let state = home.path().display().to_string();
    let mut terminal = Terminal::start(
        &binary_path(),
        &["sql", "--url", &url, "--user", "ann"],
        &[("HOME", &state), ("XDG_STATE_HOME", &state)],
    );
    terminal.expect("Password of ann:", 0);
    terminal.press_hidden("correct horse battery\r");
    let mut shell = Shell { terminal };
    shell.ready(1);
    contains(&shell.run("SELECT CURRENT_USER AS me;"), &["| ann |"]);
    let screen = shell.leave();
    assert!(!screen.contains("horse"), "{screen}");
    let history = fs::read_to_string(home.path().join("kalamdb/history")).expect("it is written");
    assert_eq!(history, "SELECT CURRENT_USER AS me;\n");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_point_into_the_text() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    server
        .root()
        .await
        .ok("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)")
        .await;
    let mut shell = Shell::start(server.flight, home.path(), &[]);
    let mut check = |typed: &str, code: &str, line: &str, under: &str| {
        let screen = shell.run(typed);
        let lines: Vec<&str> = screen.lines().collect();
        let [.., shown, caret] = lines.as_slice() else {
            panic!("{screen}");
        };
        assert!(screen.contains(code), "{screen}");
        assert!(shown.starts_with(line), "{screen}");
        assert_eq!(caret.trim_start(), "^", "{screen}");
        assert!(shown[caret.len() - 1..].starts_with(under), "{screen}");
    };
    check("SELECT nmae FROM t;", "COLUMN_NOT_FOUND", "LINE 1: ", "nmae");
    check(
        "SELECT id\rFROM t\rWHERE nmae = 1;",
        "COLUMN_NOT_FOUND",
        "LINE 3: ",
        "nmae",
    );
    check("SELECT * FROM tt;", "TABLE_NOT_FOUND", "LINE 1: ", "tt");
    check("SELECT 1; SELECT * FORM t;", "SYNTAX_ERROR", "LINE 1: ", "FORM");
    shell.leave();
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_cancels_the_statement_and_not_the_shell() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE sums (total BIGINT PRIMARY KEY)").await;
    root.ok("CREATE TABLE numbers (id BIGINT PRIMARY KEY)").await;
    root.ok("INSERT INTO numbers SELECT value FROM generate_series(1, 20000)")
        .await;
    let mut shell = Shell::start(server.flight, home.path(), &[]);

    // One that computes, one that changes something, one whose rows come and come.
    let insert = format!("INSERT INTO sums {ENDLESS}");
    let streaming = "SELECT a.id, b.id AS other FROM numbers a CROSS JOIN numbers b";
    for (sql, rows_come) in [(ENDLESS, false), (&insert, false), (streaming, true)] {
        let row = shell.terminal.row();
        shell.terminal.press(&format!("{sql};\r"));
        let like = format!("{}%", &sql[..18]);
        eventually("the query runs", || status_of(&root, &like, RUNNING)).await;
        if rows_come {
            shell.terminal.expect("| id ", row);
        }
        let screen = shell.press_and_wait(CTRL_C);
        contains(&screen, &["Cancelled."]);
        eventually("the query is cancelled", || {
            status_of(&root, &like, "status = 'cancelled'")
        })
        .await;
        let is_running = status_of(&root, &like, "status = 'running'").await;
        assert!(is_running.is_none(), "{sql} runs on");
        // Shell, session and server go on.
        contains(&shell.run("SELECT count(*) AS sums FROM sums;"), &["| 0    |"]);
    }
    // What a file got of a cancelled result is said, or gone.
    let file = |name: &str| home.path().join(name).display().to_string();
    for (form, is_left) in [("csv", true), ("parquet", false)] {
        shell.run(&format!("\\o {}", file(form)));
        shell.run(&format!("\\format {form}"));
        let before = files(home.path());
        shell.terminal.press(&format!("{streaming};\r"));
        eventually("rows come", || async { (files(home.path()) != before).then_some(()) }).await;
        let screen = shell.press_and_wait(CTRL_C);
        contains(&screen, &["Cancelled."]);
        assert_eq!(screen.contains("did not come to its end"), is_left, "{screen}");
        assert_eq!(files(home.path()) != before, is_left, "{screen}");
    }
    assert_eq!(
        root.value("SELECT count(*) FROM system.sessions WHERE user_id = 'root'")
            .await,
        "2"
    );
    shell.leave();
    eventually("the shell's session is closed", || {
        let mut root = root.clone();
        async move {
            let sessions = root.value("SELECT count(*) FROM system.sessions").await;
            (sessions == "1").then_some(())
        }
    })
    .await;
    server.terminate();
}

/// The names of the files in a directory.
fn files(directory: &Path) -> BTreeSet<OsString> {
    let files = fs::read_dir(directory).expect("lists");
    files.map(|file| file.expect("lists").file_name()).collect()
}

/// That a statement is past its planning: it also shows while it is prepared, and what is cancelled then, or before it is asked
/// for, has not run and leaves no trace.
const RUNNING: &str = "status = 'running' AND plan_ms IS NOT NULL";

/// Whether a query whose text is like that is in that state.
async fn status_of(root: &Client, like: &str, state: &str) -> Option<()> {
    let mut root = root.clone();
    let sql = format!("SELECT count(*) FROM system.queries WHERE statement LIKE '{like}' AND {state}");
    (root.value(&sql).await != "0").then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_said_and_made_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE NAMESPACE shop").await;
    root.ok("CREATE TABLE shop.orders (id BIGINT PRIMARY KEY)").await;
    // A server that comes again has another port: the shell sees that of a relay.
    let target = Arc::new(Mutex::new(server.flight));
    let relay = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = relay.local_addr().expect("it listens");
    let relaying = tokio::spawn(relay_all(relay, Arc::clone(&target)));

    let mut shell = Shell::start(address, home.path(), &[]);
    shell.run("USE shop;");
    contains(&shell.run("SELECT count(*) AS orders FROM orders;"), &["| 0      |"]);
    let row = shell.terminal.row();
    shell.terminal.press(&format!("{ENDLESS};\r"));
    eventually("the query runs", || status_of(&root, "SELECT sum(%", RUNNING)).await;
    server.kill();
    shell.ready(row + 1);
    shell.terminal.expect("The next statement connects anew", row);
    // Nobody is there: it is said, and the shell stays.
    contains(&shell.run("SELECT 1;"), &["connecting anew"]);

    let server = Server::start(directory.path());
    *target.lock().expect("no holder panics") = server.flight;
    let screen = shell.run("SELECT count(*) AS orders FROM shop.orders;");
    contains(&screen, &["connected: a new session", "| 0      |"]);
    contains(
        &shell.run("SELECT count(*) AS orders FROM orders;"),
        &["TABLE_NOT_FOUND"],
    );
    // A session that ends is made anew, too.
    let mut root = server.root().await;
    let id = root
        .value("SELECT session_id FROM system.sessions ORDER BY created_at LIMIT 1")
        .await;
    root.ok(&format!("KILL SESSION '{id}'")).await;
    contains(
        &shell.run("SELECT 5 AS five;"),
        &["UNAUTHENTICATED", "connected: a new session", "| 5    |"],
    );
    shell.leave();
    relaying.abort();
    server.terminate();
}

/// Passes every connection on to where `target` is when it comes; one that nobody takes ends.
async fn relay_all(listener: TcpListener, target: Arc<Mutex<SocketAddr>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let address = *target.lock().expect("no holder panics");
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(address).await {
                // Either side may break off: then the other one ends, too.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
