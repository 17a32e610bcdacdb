//! The shell at a real (pseudo-)terminal: what a person types, and what they see.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use kalamdb_tests::{ROOT_PASSWORD, Server, Terminal, binary_path};

pub(crate) const PROMPT: &str = "kalamdb> ";
pub(crate) const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_R: &str = "\x12";
const UP: &str = "\x1b[A";

/// `kalamdb sql` at a terminal, ready for the first statement.
pub(crate) struct Shell {
    pub(crate) terminal: Terminal,
}

impl Shell {
    /// As root; what the user keeps is in `home`.
    pub(crate) fn start(flight: SocketAddr, home: &Path, args: &[&str]) -> Self {
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
    pub(crate) fn ready(&self, from: usize) -> usize {
        self.terminal.wait("a prompt", |screen| {
            let place = screen.place();
            (place.row >= from && place.before == PROMPT && place.is_last).then_some(place.row)
        })
    }

    /// Types a line at an empty prompt, waits for the next one; what stands between them.
    pub(crate) fn run(&mut self, text: &str) -> String {
        self.press_and_wait(&format!("{text}\r"))
    }

    /// The same with keys.
    pub(crate) fn press_and_wait(&mut self, keys: &str) -> String {
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

    pub(crate) fn leave(mut self) -> String {
        self.terminal.press(CTRL_D);
        let (status, screen) = self.terminal.end();
        assert!(status.success(), "{status}\n{screen}");
        screen
    }
}

pub(crate) fn contains(screen: &str, parts: &[&str]) {
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
        &[
            "\nb' AS \"c;\" -- d;",
            "| c; | g  |",
            "| a; | f; |",
            "| b  |    |",
            "(1 row)",
        ],
    );
    // Two at once, and what comes after an error is not run.
    contains(&shell.run("SELECT 'one'; SELECT 'two';"), &["| one ", "| two "]);
    let screen = shell.run("SELECT nothing; SELECT 'never' || 'more';");
    contains(&screen, &["COLUMN_NOT_FOUND"]);
    assert!(!screen.contains("nevermore"), "{screen}");
    // Ctrl-C throws away what is typed.
    let screen = shell.press_and_wait(&format!("SELECT\rwrong{CTRL_C}"));
    assert_eq!(screen, "kalamdb> SELECT\nwrong");
    // Editing: to the beginning of the line, behind a word, another one in its place.
    contains(
        &shell.press_and_wait("1 AS edited;\x01SELECT \x1bf\x7f2\r"),
        &["| edited |", "| 2      |"],
    );
    // A paste is text, whatever is in it: lines do not submit it, and what would drive the terminal is left out.
    contains(
        &shell.press_and_wait("\x1b[200~SELECT 'semi';\r-- more\rSELECT\t'pas\u{9b}\u{7}ted'\r;\x1b[201~\r"),
        &["| semi ", "| pasted "],
    );
    let sent = shell.terminal.bytes();
    assert!(!sent.contains(&0x07) && !sent.windows(2).any(|bytes| bytes == "\u{9b}".as_bytes()));
    // A further line in any case, and what is typed ahead of a prompt.
    contains(
        &shell.press_and_wait("SELECT 'above';\x1b\rSELECT 'below';\r"),
        &["| above ", "| below "],
    );
    let row = shell.terminal.row();
    shell
        .terminal
        .press("SELECT 'one' || 'first';\rSELECT 'second' || 'ahead';\r");
    shell.terminal.expect("| secondahead ", row);
    shell.ready(row);
    // A wide character is one step, and two columns.
    contains(
        &shell.press_and_wait("SELECT '語語' AS wide;\x01\x1bf\x1b[C\x1b[C\x1b[C\x7f文\r"),
        &["kalamdb> SELECT '文語' AS wide;", "| 文語 |"],
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
    // In a text of several lines, too, whose own first line is indented by Tab.
    let row = shell.terminal.row();
    shell.terminal.press("SELECT *\rFROM shop.orders o\r\tWHERE o.\t");
    shell.terminal.expect("\"Note\"      id          product_id", row);
    let line = "    WHERE o.";
    shell
        .terminal
        .wait(line, |screen| (screen.place().before == line).then_some(()));
    contains(&shell.press_and_wait("id = 0;\r"), &["    WHERE o.id = 0;", "(0 rows)"]);
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
async fn a_terminal_that_cannot_place_its_cursor_gets_lines() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let url = format!("grpc://{}", server.flight);
    let state = home.path().display().to_string();
    let env = [
        ("KALAMDB_PASSWORD", ROOT_PASSWORD),
        ("XDG_STATE_HOME", &state),
        ("TERM", "dumb"),
    ];
    let terminal = Terminal::start(&binary_path(), &["sql", "--url", &url], &env);
    let mut shell = Shell { terminal };
    shell.ready(0);
    shell.terminal.press("SELECT 1 AS one,\r");
    let prompt = "    ...> ";
    shell
        .terminal
        .wait(prompt, |screen| (screen.place().before == prompt).then_some(()));
    contains(
        &shell.press_and_wait("2 AS two;\r"),
        &["    ...> 2 AS two;", "| one | two |", "| 1   | 2   |"],
    );
    let screen = shell.leave();
    assert!(!screen.contains('\u{1b}'), "{screen}");
    let history = fs::read_to_string(home.path().join("kalamdb/history")).expect("it is written");
    assert_eq!(history, "SELECT 1 AS one,\\n2 AS two;\n");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_is_drawn_at_the_terminal_and_rows_go_where_they_are_sent() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let rows = home.path().join("rows.csv");
    let command = format!(
        "'{}' sql --url grpc://{} --format csv > '{}'",
        binary_path().display(),
        server.flight,
        rows.display()
    );
    let state = home.path().display().to_string();
    let env = [("KALAMDB_PASSWORD", ROOT_PASSWORD), ("XDG_STATE_HOME", &state)];
    let terminal = Terminal::start(Path::new("/bin/sh"), &["-c", &command], &env);
    let mut shell = Shell { terminal };
    shell.ready(0);
    assert_eq!(shell.run("SELECT 1 AS one;"), "kalamdb> SELECT 1 AS one;");
    shell.leave();
    assert_eq!(fs::read_to_string(&rows).expect("it is there"), "one\n1\n");
    server.terminate();
}
