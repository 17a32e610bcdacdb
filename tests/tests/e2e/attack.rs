//! Isolation under attack: everything that a user, a service and a dba can try to see, count, provoke or disturb of another user's
//! data, hot, in segments and in streams. `probes` says what is tried as SQL, the other rooms what is tried besides.
//!
//! Two things are asked of a statement. Nothing of the victim's may be in what comes back. And it may not depend on the victim: the
//! same statement is run in a twin namespace that differs in nothing but that the victim has no rows there, and has to answer the
//! same, errors and EXPLAIN ANALYZE included. Each has a control that shows that it would have found something.

mod calls;
mod doors;
mod granted;
mod metadata;
mod probes;
mod strings;
mod tokens;
mod told;

use kalamdb_tests::{Client, Http, Server, SqlError};
use tempfile::TempDir;

use self::probes::{Control, PROBES, Probe};

/// Whose data it is.
pub(crate) const VICTIM: &str = "bob-the-victim";
/// What is in each of their rows and literals, and nowhere else.
pub(crate) const MARKER: &str = "marker-of-bob-4711";
const PASSWORD: &str = "a password for the test";

/// The namespaces, whose names are equally long, as errors say places: with the victim's rows, without, and with them again for the controls, which may destroy them.
const FILLED: &str = "filled";
const TWIN: &str = "barren";
const COPY: &str = "copied";

/// The tables of each: rows in memory, in segments, in both, and in a stream.
pub(crate) const TABLES: [&str; 4] = ["hot", "cold", "mixed", "live"];

/// One attack's ground.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) root: Client,
    pub(crate) victim: Client,
    pub(crate) attackers: Vec<Attacker>,
    pub(crate) directory: TempDir,
}

/// Somebody of this role, with rows of their own in the tables `mixed` alone.
pub(crate) struct Attacker {
    pub(crate) role: &'static str,
    pub(crate) client: Client,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let server = Server::start(directory.path());
        let mut root = server.root().await;
        root.ok(&format!("CREATE USER '{VICTIM}' WITH PASSWORD '{PASSWORD}' ROLE user"))
            .await;
        let mut victim = server.login(VICTIM, PASSWORD).await;
        let mut attackers = Vec::new();
        for role in ["user", "service", "dba"] {
            root.ok(&format!(
                "CREATE USER 'mallory_{role}' WITH PASSWORD '{PASSWORD}' ROLE {role}"
            ))
            .await;
            let client = server.login(&format!("mallory_{role}"), PASSWORD).await;
            attackers.push(Attacker { role, client });
        }
        for namespace in [FILLED, TWIN, COPY] {
            create(&mut root, namespace).await;
            for attacker in &mut attackers {
                let own = format!("INSERT INTO {namespace}.mixed VALUES (900, 'mine', 5)");
                attacker.client.ok(&own).await;
            }
            if namespace != TWIN {
                for table in TABLES {
                    let rows = format!(
                        "INSERT INTO {namespace}.{table} VALUES (1, '{MARKER} one', 11), (2, '{MARKER} two', 22)"
                    );
                    victim.ok(&rows).await;
                }
            }
            for table in ["cold", "mixed"] {
                if namespace != TWIN && table == "cold" {
                    victim.ok(&third(namespace, table)).await;
                }
                root.ok(&format!("FLUSH TABLE {namespace}.{table}")).await;
            }
            if namespace != TWIN {
                for table in ["hot", "mixed", "live"] {
                    victim.ok(&third(namespace, table)).await;
                }
            }
            for attacker in &mut attackers {
                let own = format!("INSERT INTO {namespace}.mixed VALUES (901, 'mine', 6)");
                attacker.client.ok(&own).await;
            }
        }
        Scene {
            server,
            root,
            victim,
            attackers,
            directory,
        }
    }

    /// All of the victim's rows.
    pub(crate) async fn rows_of_victim(&mut self) -> Vec<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        for table in TABLES {
            let own = format!("SELECT *, _seq, _updated FROM {FILLED}.{table} ORDER BY id");
            rows.push(self.victim.ok(&own).await);
        }
        rows
    }

    /// The victim's session goes on, and has the rows that it had.
    pub(crate) async fn check_undisturbed(mut self, before: &[Vec<Vec<String>>]) {
        assert!(
            before.iter().all(|rows| rows.len() == 3),
            "there was something: {before:?}"
        );
        assert_eq!(self.rows_of_victim().await, before);
        self.server.terminate();
    }
}

fn third(namespace: &str, table: &str) -> String {
    format!("INSERT INTO {namespace}.{table} VALUES (3, '{MARKER} three', 33)")
}

async fn create(root: &mut Client, namespace: &str) {
    root.ok(&format!("CREATE NAMESPACE {namespace}")).await;
    let columns = "(id BIGINT PRIMARY KEY, v TEXT, amount INTEGER)";
    for table in TABLES {
        let create = match table {
            "live" => format!("CREATE STREAM TABLE {namespace}.live {columns} WITH (TTL_SECONDS = 86400)"),
            table => format!("CREATE USER TABLE {namespace}.{table} {columns} WITH (FLUSH_POLICY = 'interval:86400s')"),
        };
        root.ok(&create).await;
        for view in [
            format!("CREATE VIEW {namespace}.seen_{table} AS SELECT * FROM {namespace}.{table}"),
            format!(
                "CREATE VIEW {namespace}.counted_{table} AS SELECT 'rows: ' || count(*) AS n FROM {namespace}.{table}"
            ),
        ] {
            root.ok(&view).await;
        }
    }
    root.ok(&format!("CREATE USER TABLE {namespace}.box (v TEXT)")).await;
    root.ok(&format!(
        "CREATE TABLE {namespace}.facts (id BIGINT PRIMARY KEY, word TEXT) WITH (ACCESS_LEVEL = 'public')"
    ))
    .await;
    root.ok(&format!(
        "INSERT INTO {namespace}.facts VALUES (1, 'one'), (2, 'two'), (3, 'three')"
    ))
    .await;
}

/// What came back, as one text: rows or the error.
pub(crate) fn text(outcome: Result<Vec<Vec<String>>, SqlError>) -> String {
    match outcome {
        Ok(rows) => format!("{rows:?}"),
        Err(error) => error.to_string(),
    }
}

impl Probe {
    fn sql(&self, namespace: &str, table: &str) -> String {
        self.sql.replace("{n}", namespace).replace("{t}", table)
    }
}

/// What of an answer may differ between twins: their names, and how long things took.
fn comparable(answer: &str, namespace: &str) -> String {
    let answer = answer.replace(&format!("{namespace}."), "n.");
    let mut timeless = String::with_capacity(answer.len());
    for part in answer.split_inclusive([',', '[', ']']) {
        let is_time = |value: &str| {
            let value = value.trim_end_matches([',', ']']);
            value.starts_with(|first: char| first.is_ascii_digit()) && value.ends_with('s')
        };
        match part.split_once('=') {
            Some((name, value)) if is_time(value) => timeless.push_str(&format!("{name}=a time,")),
            Some(_) | None => timeless.push_str(part),
        }
    }
    timeless
}

#[test]
fn times_are_left_out_of_a_comparison() {
    let explained = "ScanExec: table=filled.hot, metrics=[output_rows=3, elapsed_compute=17.2µs, keys_read=4]";
    assert_eq!(
        comparable(explained, FILLED),
        "ScanExec: table=n.hot, metrics=[output_rows=3, elapsed_compute=a time, keys_read=4]"
    );
}

/// Judges what an attacker was told in the namespace with the victim's rows and in its twin.
fn judge(what: &str, told: &str, twin: &str, wrong: &mut Vec<String>) {
    if told.contains(MARKER) || told.contains(VICTIM) {
        wrong.push(format!("{what}\n   shows: {told}"));
    }
    let (told, twin) = (comparable(told, FILLED), comparable(twin, TWIN));
    if told != twin {
        wrong.push(format!(
            "{what}\n   with the victim's rows: {told}\n   without them: {twin}"
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_shows_or_tells_of_anothers_rows() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let mut wrong = Vec::new();
    for table in TABLES {
        for probe in PROBES {
            for attacker in &mut scene.attackers {
                let told = text(attacker.client.rows(&probe.sql(FILLED, table)).await);
                let twin = text(attacker.client.rows(&probe.sql(TWIN, table)).await);
                let what = format!("{}: {}", attacker.role, probe.sql(FILLED, table));
                judge(&what, &told, &twin, &mut wrong);
            }
            let sql = probe.sql(COPY, table);
            let (control, shows) = match probe.control {
                Control::Victim(shows) => (text(scene.victim.rows(&sql).await), shows),
                Control::Everyone(shows) => {
                    let sql = format!("EXECUTE AS ALL USERS ({sql})");
                    (text(scene.root.rows(&sql).await), shows)
                }
                Control::Root(shows) => (text(scene.root.rows(&sql).await), shows),
            };
            if !control.contains(shows) {
                wrong.push(format!("the control of {sql}\n   shows no {shows}: {control}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_any_over_http() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let mut wrong = Vec::new();
    let answer = |client: &Client, sql: &str| {
        let http = Http::bearer(scene.server.http, client.token());
        let mut reply = http.sql(sql).json();
        reply["execution_time_ms"] = serde_json::Value::Null;
        // Not as JSON, so that a name in an answer is as it is.
        let rows = String::from_utf8_lossy(&http.sql_arrow_so_far(sql)).into_owned();
        (reply.to_string(), rows)
    };
    for probe in PROBES {
        for table in TABLES {
            for attacker in &scene.attackers {
                let what = format!("{} over HTTP: {}", attacker.role, probe.sql(FILLED, table));
                let (told, stream) = answer(&attacker.client, &probe.sql(FILLED, table));
                let (twin, _) = answer(&attacker.client, &probe.sql(TWIN, table));
                judge(&what, &told, &twin, &mut wrong);
                if stream.contains(MARKER) {
                    wrong.push(format!("{what}\n   shows the marker in Arrow"));
                }
            }
        }
        let sql = probe.sql(COPY, "mixed");
        let everyone = format!("EXECUTE AS ALL USERS ({sql})");
        let (client, sql, shows) = match probe.control {
            Control::Victim(shows) => (&scene.victim, &sql, shows),
            Control::Everyone(shows) => (&scene.root, &everyone, shows),
            Control::Root(shows) => (&scene.root, &sql, shows),
        };
        let (told, stream) = answer(client, sql);
        let plain = |text: &str| text.replace(['\\', ' ', '"'], "");
        let found = |text: &str| plain(text).contains(&plain(shows));
        if !found(&told) {
            wrong.push(format!("the control of {sql}\n   shows no {shows}: {told}"));
        }
        // What writes finds its own work when it runs again.
        if shows == MARKER && !probe.writes() && !stream.contains(MARKER) {
            wrong.push(format!("the control of {sql}\n   shows no marker in Arrow"));
        }
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}

/// Where one's rows are in pages of their own, and in pages of the victim's too: bounds of pages tell who is in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_a_page_changes_no_counter() {
    let mut scene = Scene::new().await;
    let mut wrong = Vec::new();
    let mut differs = false;
    for number in [3, 20_000] {
        for attacker in &mut scene.attackers {
            let table = format!("of_{}_{number}", attacker.role);
            for namespace in [FILLED, TWIN] {
                let create =
                    format!("CREATE USER TABLE {namespace}.{table} (id BIGINT PRIMARY KEY, v TEXT, amount INTEGER)");
                scene.root.ok(&create).await;
                let own = format!("INSERT INTO {namespace}.{table} VALUES (1, 'aaa', 1), (2, 'aaa', 1), (3, 'aaa', 1)");
                attacker.client.ok(&own).await;
            }
            let many = format!(
                "INSERT INTO {FILLED}.{table} SELECT value, '{MARKER}', value + 100 FROM generate_series(1, {number})"
            );
            scene.victim.ok(&many).await;
            for namespace in [FILLED, TWIN] {
                scene.root.ok(&format!("FLUSH TABLE {namespace}.{table}")).await;
            }
            for query in [
                "SELECT * FROM {n}.{t} WHERE amount > 50",
                "SELECT count(*) FROM {n}.{t} WHERE v > 'b'",
                "SELECT * FROM {n}.{t} WHERE id >= 2 AND amount > 50",
                "SELECT * FROM {n}.{t} WHERE id = 4",
            ] {
                let of = |namespace: &str| {
                    format!(
                        "EXPLAIN ANALYZE {}",
                        query.replace("{n}", namespace).replace("{t}", &table)
                    )
                };
                let told = text(attacker.client.rows(&of(FILLED)).await);
                let twin = text(attacker.client.rows(&of(TWIN)).await);
                let mut found = Vec::new();
                judge(&format!("{}: {}", attacker.role, of(FILLED)), &told, &twin, &mut found);
                // Who runs the server may know how many rows a table has, and is shown how they lie.
                match attacker.role {
                    "dba" => differs |= !found.is_empty(),
                    _ => wrong.append(&mut found),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(differs, "the control");
    scene.server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_much_another_has_changes_no_plan() {
    let mut scene = Scene::new().await;
    let many = format!("INSERT INTO {FILLED}.cold SELECT value + 1000, 'many', 1 FROM generate_series(1, 300000)");
    scene.victim.ok(&many).await;
    let mut changed = false;
    for sql in [
        "SELECT * FROM {n}.cold",
        "SELECT amount, count(*) FROM {n}.cold GROUP BY amount ORDER BY 1",
    ] {
        for explain in ["EXPLAIN", "EXPLAIN ANALYZE"] {
            let sql = format!("{explain} {sql}");
            let of = |namespace: &str| sql.replace("{n}", namespace);
            let mut wrong = Vec::new();
            for attacker in &mut scene.attackers {
                let told = text(attacker.client.rows(&of(FILLED)).await);
                let twin = text(attacker.client.rows(&of(TWIN)).await);
                judge(&format!("{}: {}", attacker.role, of(FILLED)), &told, &twin, &mut wrong);
            }
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            // It does change that of whom it belongs to.
            let own = comparable(&text(scene.victim.rows(&of(FILLED)).await), FILLED);
            let few = comparable(&text(scene.victim.rows(&of(COPY)).await), COPY);
            changed |= own != few;
        }
    }
    assert!(changed, "the control");
    scene.server.terminate();
}
