//! The shell at a real (pseudo-)terminal: what a person types, and what they see.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kalamdb_tests::{Client, ROOT_PASSWORD, Server, Terminal, binary_path, eventually};
use tokio::net::{TcpListener, TcpStream};

const PROMPT: &str = "kalamdb> ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_R: &str = "\x12";
const UP: &str = "\x1b[A";

/// Computes for hours before its first row.
const ENDLESS: &str = "SELECT sum(a.value * b.value + c.value) FROM generate_series(1, 100000) a, \
                       generate_series(1, 100000) b, generate_series(1, 100000) c";

/// `kalamdb sql` at a terminal, ready for the first statement.
struct Shell {
    terminal: Terminal,
}

impl Shell {
    /// As root; what the user keeps is in `home`.
    fn start(flight: SocketAddr, home: &Path, args: &[&str]) -> Self {
        let url = format!("grpc://{flight}");
        let home = home.display().to_string();
        let mut all = vec!["sql", "--url", &url];
        all.extend(args);
        let env = [
            ("KALAMDB_PASSWORD", ROOT_PASSWORD),
            ("HOME", &home),
            ("XDG_STATE_HOME", &home),
        ];
        let shell = Shell {
            terminal: Terminal::start(&binary_path(), &all, &env),
        };
        shell.ready(0);
        shell
    }

    /// Waits for an empty prompt in row `from` or below; its row.
    fn ready(&self, from: usize) -> usize {
        self.terminal.wait("a prompt", |screen| {
            let place = screen.place();
            (place.row >= from && place.before == PROMPT && place.is_last).then_some(place.row)
        })
    }

    /// Types a line at an empty prompt, waits for the next one; what stands between them.
    fn run(&mut self, text: &str) -> String {
        self.press_and_wait(&format!("{text}\r"))
    }

    /// The same with keys.
    fn press_and_wait(&mut self, keys: &str) -> String {
        let row = self.terminal.row();
        self.terminal.press(keys);
        let next = self.ready(row + 1);
        let screen = self.terminal.screen();
        let lines: Vec<&str> = screen.lines().skip(row).take(next - row).collect();
        lines.join("\n")
    }

    /// Presses keys and waits until the line being typed is `expected`; then throws it away.
    fn types(&mut self, keys: &str, expected: &str) {
        self.terminal.press(keys);
        let line = format!("{PROMPT}{expected}");
        self.terminal
            .wait(&line, |screen| (screen.place().before == line).then_some(()));
        self.press_and_wait(CTRL_C);
    }

    fn leave(mut self) -> String {
        self.terminal.press(CTRL_D);
        let (status, screen) = self.terminal.end();
        assert!(status.success(), "{status}\n{screen}");
        screen
    }
}

fn contains(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "{part:?} is not in:\n{screen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_typed_over_lines_and_remembered() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut shell = Shell::start(server.flight, home.path(), &[]);
    contains(&shell.terminal.screen(), &["\\? has more"]);

    contains(
        &shell.run("SELECT 1 + 1 AS two, NULL AS nothing;"),
        &["| two | nothing |", "| 2   | NULL    |", "(1 row)"],
    );
    // A semicolon in a literal, a name, a comment or a dollar string ends nothing.
    contains(
        &shell.run("SELECT 'a;\rb' AS \"c;\" -- d;\r/* e;\r*/ ,$$f;\r$$ AS g\r;"),
        &["    ...> b'", "| c; | g  |", "| a; | f; |", "| b  |    |", "(1 row)"],
    );
    // Two at once, and what comes after an error is not run.
    contains(&shell.run("SELECT 'one'; SELECT 'two';"), &["| one ", "| two "]);
    let screen = shell.run("SELECT nothing; SELECT 'never' || 'more';");
    contains(&screen, &["COLUMN_NOT_FOUND"]);
    assert!(!screen.contains("nevermore"), "{screen}");
    // Ctrl-C throws away what is typed.
    contains(&shell.press_and_wait(&format!("SELECT\rwrong{CTRL_C}")), &["wrong^C"]);
    // Editing: to the beginning of the line, behind a word, another one in its place.
    contains(
        &shell.press_and_wait("1 AS edited;\x01SELECT \x1bf\x7f2\r"),
        &["| edited |", "| 2      |"],
    );
    // A paste is text, whatever is in it.
    contains(
        &shell.press_and_wait("\x1b[200~SELECT\t'pasted'\r;\x1b[201~\r"),
        &["| pasted "],
    );

    // The line before, the one before that, and one that is searched for.
    shell.run("SELECT 3 AS three;");
    contains(&shell.press_and_wait(&format!("{UP}\r")), &["| 3     |"]);
    contains(
        &shell.press_and_wait(&format!("{CTRL_R}AS two\r")),
        &["| 2   | NULL    |"],
    );

    shell.run("CREATE USER 'ann' WITH PASSWORD 'correct horse battery' ROLE user;");
    let screen = shell.leave();
    contains(&screen, &["correct horse battery"]);
    let history = fs::read_to_string(home.path().join("kalamdb/history")).expect("it is written");
    contains(&history, &["SELECT 1 + 1 AS two", "SELECT 'a;\\nb'"]);
    assert!(!history.contains("correct horse battery"), "{history}");

    // The next session knows them.
    let mut shell = Shell::start(server.flight, home.path(), &[]);
    contains(&shell.press_and_wait(&format!("{UP}\r")), &["| two | nothing |"]);
    shell.terminal.press("exit\r");
    let (status, screen) = shell.terminal.end();
    assert!(status.success(), "{screen}");
    server.terminate();
}

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
    terminal.press("correct horse battery\r");
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
async fn tab_completes_and_commands_describe() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE NAMESPACE shop").await;
    root.ok(
        "CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, product_id BIGINT NOT NULL, \"Note\" TEXT DEFAULT 'none')",
    )
    .await;
    root.ok("CREATE TABLE plain (id BIGINT PRIMARY KEY)").await;

    let mut shell = Shell::start(server.flight, home.path(), &[]);
    shell.types("sel\t", "select");
    shell.types("SELECT * FROM sho\t", "SELECT * FROM shop.");
    shell.types("SELECT * FROM shop.o\t", "SELECT * FROM shop.orders");
    shell.types(
        "SELECT 1 FROM shop.orders o WHERE o.pro\t",
        "SELECT 1 FROM shop.orders o WHERE o.product_id",
    );
    shell.types(
        "SELECT 1 FROM shop.orders o WHERE o.n\t",
        "SELECT 1 FROM shop.orders o WHERE o.\"Note\"",
    );
    shell.types("SELECT 'sel\t", "SELECT 'sel");
    // Several candidates are listed, and the line is there again.
    let row = shell.terminal.row();
    shell.types("SELECT o. FROM shop.orders o\x01\x1bf\x1bf\x1b[C\t", "SELECT o.");
    shell.terminal.expect("\"Note\"      id          product_id", row);
    // A table made here is known at once.
    shell.run("CREATE TABLE shop.zebras (id BIGINT PRIMARY KEY);");
    shell.types("SELECT * FROM shop.z\t", "SELECT * FROM shop.zebras");

    let screen = shell.run("\\d");
    contains(
        &screen,
        &[
            "| namespace | table  | type  |",
            "| public    | plain  | TABLE |",
            "| shop      | orders | TABLE |",
        ],
    );
    assert!(!screen.contains("system"), "{screen}");
    contains(&shell.run("\\d system.us*"), &["| system    | users | SYSTEM TABLE |"]);
    let screen = shell.run("\\d shop.orders");
    contains(&screen, &["product_id", "BIGINT", "Note", "'none'", "(3 rows)"]);
    contains(&shell.run("\\d shop.nothing"), &["TABLE_NOT_FOUND"]);
    contains(
        &shell.run("\\d shop.orders; DROP TABLE shop.orders;"),
        &["is not the name of a table"],
    );
    contains(&shell.run("\\?"), &["\\timing", "\\format", "Ctrl-C"]);
    contains(&shell.run("\\nothing"), &["there is no command \\nothing"]);
    shell.terminal.press("\\q\r");
    let (status, screen) = shell.terminal.end();
    assert!(status.success(), "{screen}");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_each_form_here_and_in_files() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut shell = Shell::start(server.flight, home.path(), &[]);
    let query = "SELECT CAST('12345678901234567890.0123456789' AS DECIMAL(38, 10)) AS exact, NULL AS nothing, \
                 '' AS empty, [1, NULL] AS list;";
    contains(
        &shell.run(query),
        &[
            "| exact ",
            "| 12345678901234567890.0123456789 | NULL    |       | [1,null] |",
        ],
    );
    contains(&shell.run("\\x"), &["as records"]);
    contains(
        &shell.run(query),
        &[
            "-[ row 1 ]-",
            "exact   | 12345678901234567890.0123456789",
            "list    | [1,null]",
        ],
    );
    contains(&shell.run("\\x"), &["as tables"]);
    shell.run("\\format csv");
    contains(
        &shell.run(query),
        &[
            "exact,nothing,empty,list",
            "12345678901234567890.0123456789,,\"\",\"[1,null]\"",
        ],
    );
    shell.run("\\format json");
    contains(
        &shell.run(query),
        &["{\"exact\":\"12345678901234567890.0123456789\",\"nothing\":null,\"empty\":\"\",\"list\":[1,null]}"],
    );
    contains(&shell.run("\\format parquet"), &["Parquet is not for a terminal"]);
    contains(&shell.run("SELECT 1;"), &["Parquet is not for a terminal"]);

    let file = |name: &str| home.path().join(name).display().to_string();
    shell.run(&format!("\\o {}", file("rows.parquet")));
    contains(
        &shell.run("SELECT value FROM generate_series(1, 300000);"),
        &["(300000 rows) to"],
    );
    contains(&shell.run("SELECT 1;"), &["holds a result"]);
    let bytes = fs::read(file("rows.parquet")).expect("it is there");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    shell.run("\\format csv");
    shell.run(&format!("\\o {}", file("rows.csv")));
    contains(
        &shell.run("SELECT value FROM generate_series(1, 30000) ORDER BY value;"),
        &["(30000 rows) to"],
    );
    shell.run("\\o");
    let csv = fs::read_to_string(file("rows.csv")).expect("it is there");
    assert_eq!((csv.lines().count(), csv.lines().last()), (30_001, Some("30000")));
    assert!(
        !shell
            .run(&format!("\\o {}/no/such/file", file("x")))
            .contains("Rows are printed")
    );
    contains(&shell.run("SELECT 1;"), &["No such file"]);
    shell.run("\\o");
    shell.run("\\format table");

    // Time is told when asked for.
    assert!(!shell.run("SELECT 1;").contains("Time:"));
    contains(&shell.run("\\timing"), &["Timing is on."]);
    contains(&shell.run("SELECT 1;"), &["Time: ", " ms"]);
    contains(&shell.run("\\timing off"), &["Timing is off."]);

    // What is in a row does not drive the terminal, whatever the form.
    for (form, shown) in [
        ("table", "\\x1b[31m\\u009b2J"),
        ("record", "\\x1b[31m\\u009b2J"),
        ("csv", "\\x1b[31m\\u009b2J"),
        ("json", "\\u001b[31m\\u009b2J"),
    ] {
        shell.run(&format!("\\format {form}"));
        contains(
            &shell.run("SELECT chr(27) || '[31m' || chr(155) || '2J' AS red;"),
            &[shown],
        );
    }
    let bytes = shell.terminal.bytes();
    let sent = |sequence: &[u8]| bytes.windows(sequence.len()).any(|window| window == sequence);
    assert!(!sent(b"\x1b[31m") && !sent("\u{9b}".as_bytes()));
    shell.leave();
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
        eventually("the query runs", || status_of(&root, &like, "running")).await;
        if rows_come {
            shell.terminal.expect("| id ", row);
        }
        let screen = shell.press_and_wait(CTRL_C);
        contains(&screen, &["Cancelled."]);
        eventually("the query is cancelled", || status_of(&root, &like, "cancelled")).await;
        assert!(status_of(&root, &like, "running").await.is_none(), "{sql} runs on");
        // Shell, session and server go on.
        contains(&shell.run("SELECT count(*) AS sums FROM sums;"), &["| 0    |"]);
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

/// Whether a query whose text is like that is in that state.
async fn status_of(root: &Client, like: &str, status: &str) -> Option<()> {
    let mut root = root.clone();
    let sql = format!("SELECT count(*) FROM system.queries WHERE statement LIKE '{like}' AND status = '{status}'");
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
    eventually("the query runs", || status_of(&root, "SELECT sum(%", "running")).await;
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
