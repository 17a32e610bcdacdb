//! Who may do what, over the wire: every cell of the table in `docs/access.md`, but for three rows that it names, with real logins, EXECUTE AS by every way a statement
//! comes, what is recorded, and that no secret shows anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use kalamdb_tests::{Client, Http, ROOT_PASSWORD, Server, Settings, SqlError};

const PASSWORD: &str = "a password for the test";
const ROLES: [&str; 4] = ["user", "service", "dba", "system"];

/// The document that people read; another test holds it to the code.
const ACCESS: &str = include_str!("../../../docs/access.md");

/// The rows of the Markdown table under a heading: the first cell, and the others by their column's head.
fn table(heading: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let section = ACCESS
        .split(&format!("## {heading}\n"))
        .nth(1)
        .expect("the heading is there");
    let section = section.split("\n## ").next().expect("a text has a first part");
    let mut lines = section.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>()
    });
    let heads = lines.next().expect("a table has heads");
    lines.next().expect("a table has a rule below its heads");
    lines
        .map(|cells| {
            let named = heads[1..].iter().cloned().zip(cells[1..].iter().cloned());
            (cells[0].clone(), named.collect())
        })
        .collect()
}

/// From which role on a cell allows, `None` for nobody; and whether a grant does, too.
fn cell(text: &str) -> (Option<usize>, bool) {
    let (role, granted) = match text.strip_suffix(" + G") {
        Some(role) => (role, true),
        None => (text, false),
    };
    let role = ROLES.iter().position(|known| *known == role);
    assert!(role.is_some() || role.is_none() && text == "—", "a cell says {text}");
    (role, granted)
}

async fn start(directory: &Path) -> (Server, Client) {
    let server = Server::start_with(directory, &Settings::with_args(&["--durability", "relaxed"]));
    let mut root = server.root().await;
    for role in ROLES {
        root.ok(&format!(
            "CREATE USER 'a_{role}' WITH PASSWORD '{PASSWORD}' ROLE {role}"
        ))
        .await;
    }
    root.ok("CREATE USER 'somebody' ROLE user").await;
    (server, root)
}

async fn everyone(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    for role in ROLES {
        clients.push(server.login(&format!("a_{role}"), PASSWORD).await);
    }
    clients
}

/// Compares what happened with what a cell says: with which code it is refused, or that it is not.
fn judge(outcome: Result<Vec<Vec<String>>, SqlError>, refusal: Option<&str>, what: &str, wrong: &mut Vec<String>) {
    match (outcome, refusal) {
        (Ok(_), None) => {}
        (Err(error), Some(code)) if error.code() == code => {}
        (Ok(_), Some(code)) => wrong.push(format!("{what}: allowed instead of {code}")),
        (Err(error), expected) => wrong.push(format!("{what}: {error} instead of {expected:?}")),
    }
}

/// What a statement that is not allowed is refused with: a table that one may not know of is none; a missing right is one where
/// there is somebody who has it, else the statement makes no sense on such a table.
fn refusal(row: &str, sees: bool, least: Option<usize>) -> &'static str {
    match least {
        _ if !sees => "TABLE_NOT_FOUND",
        Some(_) => "PERMISSION_DENIED",
        None if row.starts_with("GRANT") => "INVALID_ARGUMENT",
        None => "INVALID_STATEMENT",
    }
}

/// What may be granted for a row's statements, and whether that is enough, given that one may read by one's role or not.
fn grants(row: &str, object: &str, reads: bool) -> Vec<(String, bool)> {
    let one = |privilege: &str, enough: bool| (privilege.to_owned(), enough);
    match row {
        "UPDATE" | "DELETE" => vec![
            one(&format!("SELECT, {row}"), true),
            one(row, reads),
            one("SELECT", false),
            one("INSERT", false),
        ],
        "SELECT" => vec![one("SELECT", true), one("INSERT, UPDATE, DELETE", false)],
        "INSERT" => vec![one("INSERT", true), one("SELECT, UPDATE, DELETE", false)],
        "EXECUTE AS ALL USERS" if object.starts_with("SHARED") => vec![one("SELECT", true), one("INSERT", false)],
        other => vec![one(other, true)],
    }
}

/// The table that stands for a column of the document.
fn name_of(object: &str) -> String {
    match object {
        "SYSTEM" => "system.users".to_owned(),
        other => other.to_lowercase().replace(' ', "_").replace("user", "own"),
    }
}

fn create(object: &str, name: &str) -> String {
    let (kind, options) = match object.split_once(' ') {
        Some((kind, level)) => (kind, format!(" WITH (ACCESS_LEVEL = '{level}')")),
        None if object == "STREAM" => (object, " WITH (TTL_SECONDS = 3600)".to_owned()),
        None => (object, String::new()),
    };
    format!("CREATE {kind} TABLE {name} (id BIGINT PRIMARY KEY, v TEXT){options}")
}

/// The statements of a row of the document on a table.
fn statements(row: &str, table: &str, number: usize) -> Vec<String> {
    let is_system = table.starts_with("system.");
    match row {
        "SELECT" => vec![format!("SELECT count(*) FROM {table}")],
        "INSERT" if is_system => vec![format!("INSERT INTO {table} (user_id) VALUES ('x')")],
        "INSERT" => vec![format!("INSERT INTO {table} VALUES ({number}, 'x')")],
        "UPDATE" if is_system => vec![format!("UPDATE {table} SET role = 'dba'")],
        "UPDATE" => vec![format!("UPDATE {table} SET v = 'y'")],
        "DELETE" => vec![format!("DELETE FROM {table}")],
        "DROP, TRUNCATE" => vec![format!("TRUNCATE {table}"), format!("DROP TABLE {table}")],
        "FLUSH" => vec![format!("FLUSH TABLE {table}")],
        "COMPACT, CHECK" => vec![
            format!("STORAGE COMPACT TABLE {table}"),
            format!("STORAGE CHECK TABLE {table}"),
        ],
        "GRANT, REVOKE" => vec![
            format!("GRANT SELECT ON {table} TO 'somebody'"),
            format!("REVOKE SELECT ON {table} FROM 'somebody'"),
        ],
        "EXECUTE AS ALL USERS" => vec![format!("EXECUTE AS ALL USERS (SELECT count(*) FROM {table})")],
        "GRANT EXECUTE AS ALL USERS" => vec![
            format!("GRANT EXECUTE AS ALL USERS ON {table} TO 'somebody'"),
            format!("REVOKE EXECUTE AS ALL USERS ON {table} FROM 'somebody'"),
        ],
        other => panic!("docs/access.md has a row '{other}' that this test does not try"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_about_tables_holds() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    let mut clients = everyone(&server).await;
    let rows = table("Statements about a table");
    assert_eq!(rows.len(), 10, "every kind of statement");
    let (mut wrong, mut number) = (Vec::new(), 0);
    let reads = &rows.iter().find(|(row, _)| row == "SELECT").expect("a row of SELECT").1;
    for (row, cells) in &rows {
        assert_eq!(cells.len(), 6, "every kind of table");
        for (object, text) in cells {
            let (least, grantable) = cell(text);
            for (role, client) in clients.iter_mut().enumerate() {
                let by_role = least.is_some_and(|least| role >= least);
                let (reading, _) = cell(&reads[object]);
                let reads = reading.is_some_and(|least| role >= least);
                let grants = if grantable {
                    grants(row, object, reads)
                } else {
                    Vec::new()
                };
                for granted in std::iter::once(None).chain(grants.iter().map(Some)) {
                    number += 1;
                    let is_system = object == "SYSTEM";
                    let name = match is_system {
                        true => name_of(object),
                        // A table of its own for each try: some are dropped, and what one was granted goes with it.
                        false => format!("{}_{number}", name_of(object)),
                    };
                    if !is_system {
                        root.ok(&create(object, &name)).await;
                    }
                    if let Some((privilege, _)) = granted {
                        root.ok(&format!("GRANT {privilege} ON {name} TO 'a_{}'", ROLES[role]))
                            .await;
                    }
                    let allowed = by_role || granted.is_some_and(|(_, enough)| *enough);
                    // Whoever was granted anything knows of the table.
                    let sees = reads || granted.is_some();
                    let expected = (!allowed).then(|| refusal(row, sees, least));
                    for sql in statements(row, &name, number) {
                        let what = format!("{} (granted: {granted:?}): {sql}", ROLES[role]);
                        judge(client.rows(&sql).await, expected, &what, &mut wrong);
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_statement_needs_its_role() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let storages = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    root.ok(&format!("CREATE USER 'victim' WITH PASSWORD '{PASSWORD}' ROLE user"))
        .await;
    let mut clients = everyone(&server).await;
    let mut wrong = Vec::new();
    for (row, cells) in table("Other statements") {
        let (least, granted) = cell(&cells["from role"]);
        assert!(!granted);
        for (role, client) in clients.iter_mut().enumerate() {
            let allowed = least.is_some_and(|least| role >= least);
            // What is another's is not there for whoever may not end it.
            let code = match row.as_str() {
                _ if row.starts_with("KILL") => "NOT_FOUND",
                "knowing of a namespace in which one knows of nothing" => "NAMESPACE_NOT_FOUND",
                _ => "PERMISSION_DENIED",
            };
            let refusal = (!allowed).then_some(code);
            let name = format!("n_{role}");
            let place = storages.path().join(&name);
            let sql = match row.as_str() {
                "CREATE NAMESPACE" => format!("CREATE NAMESPACE {name}"),
                "DROP NAMESPACE" => {
                    root.ok(&format!("CREATE NAMESPACE IF NOT EXISTS {name}")).await;
                    format!("DROP NAMESPACE {name}")
                }
                "CREATE TABLE" => format!("CREATE TABLE {name} (a INT)"),
                "CREATE VIEW" => format!("CREATE VIEW v_{role} AS SELECT 1 AS a"),
                "DROP VIEW" => {
                    root.ok(&format!("CREATE OR REPLACE VIEW v_{role} AS SELECT 1 AS a"))
                        .await;
                    format!("DROP VIEW v_{role}")
                }
                "FLUSH ALL" => "STORAGE FLUSH ALL".to_owned(),
                "COMPACT ALL" => "STORAGE COMPACT ALL".to_owned(),
                "CHECK ALL" => "STORAGE CHECK ALL".to_owned(),
                "CREATE STORAGE" => format!("CREATE STORAGE {name} PATH '{}'", place.display()),
                "DROP STORAGE" => {
                    root.ok(&format!(
                        "CREATE STORAGE IF NOT EXISTS {name} PATH '{}'",
                        place.display()
                    ))
                    .await;
                    format!("DROP STORAGE {name}")
                }
                "CREATE USER" => format!("CREATE USER '{name}' ROLE user"),
                "ALTER USER on anything but one's own password" => "ALTER USER 'victim' SET ROLE user".to_owned(),
                "DROP USER" => {
                    root.ok(&format!("CREATE USER IF NOT EXISTS '{name}' ROLE user")).await;
                    format!("DROP USER '{name}'")
                }
                "GRANT USAGE" => "GRANT USAGE ON NAMESPACE public TO 'victim'".to_owned(),
                "SET QUOTA" => "ALTER USER 'victim' SET QUOTA rows = 1000000".to_owned(),
                "KILL QUERY of another's query" => {
                    let mut victim = server.login("victim", PASSWORD).await;
                    // It waits for its reader, and so is running when it is killed.
                    let endless = "SELECT a.value FROM generate_series(1, 1000000000) a";
                    let info = victim.flight.execute(endless.to_owned(), None).await.expect("it plans");
                    let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
                    let stream = victim.flight.do_get(ticket).await.expect("it starts");
                    let find =
                        "SELECT max(query_id) FROM system.queries WHERE user_id = 'victim' AND status = 'running'";
                    let query = root.value(find).await;
                    let killed = client.rows(&format!("KILL QUERY '{query}'")).await;
                    judge(killed, refusal, &format!("{} kills a query", ROLES[role]), &mut wrong);
                    drop(stream);
                    continue;
                }
                "KILL SESSION of another's session" => {
                    let victim = server.login("victim", PASSWORD).await;
                    let find = "SELECT session_id FROM system.sessions WHERE user_id = 'victim' \
                                ORDER BY created_at DESC, session_id LIMIT 1";
                    let session = root.value(find).await;
                    drop(victim);
                    format!("KILL SESSION '{session}'")
                }
                "SHOW GRANTS FOR another user" => "SHOW GRANTS FOR 'victim'".to_owned(),
                "SHOW QUOTAS FOR another user" => "SHOW QUOTAS FOR 'victim'".to_owned(),
                "knowing of a namespace in which one knows of nothing" => {
                    root.ok("CREATE NAMESPACE IF NOT EXISTS bare").await;
                    "USE bare".to_owned()
                }
                "EXPLAIN ANALYZE with the segments of a USER table" => {
                    root.ok("CREATE USER TABLE IF NOT EXISTS own (id BIGINT PRIMARY KEY)")
                        .await;
                    // It is not refused, and says less.
                    let told = client.ok("EXPLAIN ANALYZE SELECT * FROM public.own").await;
                    let told = format!("{told:?}");
                    if told.contains("segments_read") != allowed || !told.contains("keys_read") {
                        wrong.push(format!("{}: {told}", ROLES[role]));
                    }
                    continue;
                }
                // When a job waits is not for a client to say; a scenario of kalamdb-core tries both.
                "KILL JOB, with the right to start such a job" | "KILL JOB of a table that was dropped" => continue,
                // From loopback it takes no credentials at all; a test of the HTTP door comes from elsewhere.
                "reading /metrics from another machine" => continue,
                other => panic!("docs/access.md has a row '{other}' that this test does not try"),
            };
            judge(
                client.rows(&sql).await,
                refusal,
                &format!("{}: {sql}", ROLES[role]),
                &mut wrong,
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_acts_as_whom_the_document_says() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    for role in ROLES {
        root.ok(&format!("CREATE USER 'b_{role}' ROLE {role}")).await;
    }
    let mut clients = everyone(&server).await;
    let mut wrong = Vec::new();
    let rows = table("EXECUTE AS USER");
    assert_eq!(rows.len(), ROLES.len());
    for (actor, cells) in rows {
        let role = ROLES.iter().position(|role| *role == actor).expect("a role");
        for target in ROLES {
            let allowed = match cells[&format!("as a {target}")].as_str() {
                "yes" => true,
                "no" => false,
                other => panic!("a cell says {other}"),
            };
            let sql = format!("EXECUTE AS USER 'b_{target}' (SELECT CURRENT_USER)");
            let outcome = clients[role].rows(&sql).await;
            if let Ok(rows) = &outcome {
                assert_eq!(rows, &[[format!("b_{target}")]], "{actor}: {sql}");
            }
            let refusal = (!allowed).then_some("PERMISSION_DENIED");
            judge(outcome, refusal, &format!("{actor}: {sql}"), &mut wrong);
        }
        let own = format!("EXECUTE AS USER 'a_{actor}' (SELECT CURRENT_USER)");
        assert_eq!(clients[role].ok(&own).await, [[format!("a_{actor}")]]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execute_as_works_by_every_way_a_statement_comes() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    root.ok("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, v TEXT)").await;
    let mut sue = server.login("a_service", PASSWORD).await;
    let mut ann = server.login("a_user", PASSWORD).await;
    let as_ann = |sql: &str| format!("EXECUTE AS USER 'a_user' ({sql})");

    // Query, update, prepared query, prepared update with bound rows.
    sue.ok(&as_ann("INSERT INTO notes VALUES (1, 'by query')")).await;
    let updated = sue.update(&as_ann("INSERT INTO notes VALUES (2, 'by update')")).await;
    assert_eq!(updated.expect("it runs"), 1);
    let ids = |ids: Vec<i64>| {
        let ids: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(ids));
        arrow::array::RecordBatch::try_from_iter([("id", ids)]).expect("one column")
    };
    let insert = as_ann("INSERT INTO notes VALUES (?, 'prepared')");
    assert_eq!(sue.update_bound(&insert, ids(vec![3, 4])).await.expect("it runs"), 2);
    let outcome = sue
        .query_bound(&as_ann("SELECT v FROM notes WHERE id = ?"), ids(vec![2]))
        .await;
    let outcome = outcome.expect("it runs");
    assert_eq!(kalamdb_tests::text_rows(&outcome.batches), [["by update"]]);
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "4");
    assert_eq!(sue.value("SELECT count(*) FROM notes").await, "0");

    // HTTP: rows, counts, refusals.
    let http = Http::basic(server.http, "a_service", PASSWORD);
    let reply = http
        .sql(&as_ann("SELECT id, v FROM notes WHERE id < 3 ORDER BY id"))
        .json();
    assert_eq!(
        reply["results"][0]["rows"],
        serde_json::json!([[1, "by query"], [2, "by update"]])
    );
    let reply = http.sql(&as_ann("DELETE FROM notes WHERE id = 4"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "3");
    let reply = http.sql("EXECUTE AS USER 'a_dba' (SELECT 1)");
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "PERMISSION_DENIED");
    // What SET does in front of it holds for the one statement of the script after it.
    let script = format!("USE system; {}", as_ann("SELECT count(*) FROM public.notes"));
    assert_eq!(http.sql(&script).json()["results"][1]["rows"][0][0], 3);

    // All users, over both doors.
    root.ok("INSERT INTO notes VALUES (1, 'of root')").await;
    let everything = "EXECUTE AS ALL USERS (SELECT * FROM notes WHERE id = 1 ORDER BY _user)";
    assert_eq!(
        root.ok(everything).await,
        [["1", "by query", "a_user"], ["1", "of root", "root"]]
    );
    let reply = server.http_root().sql(everything).json();
    assert_eq!(
        reply["results"][0]["rows"],
        serde_json::json!([[1, "by query", "a_user"], [1, "of root", "root"]])
    );
    assert_eq!(sue.error(everything).await.code(), "PERMISSION_DENIED");
    root.ok("GRANT EXECUTE AS ALL USERS ON notes TO 'a_service'").await;
    assert_eq!(sue.ok(everything).await.len(), 2);
    // In segments as in hot rows.
    root.ok("FLUSH TABLE notes").await;
    assert_eq!(
        sue.ok(everything).await,
        [["1", "by query", "a_user"], ["1", "of root", "root"]]
    );
    assert_eq!(
        sue.value("EXECUTE AS ALL USERS (SELECT count(*) FROM notes)").await,
        "4"
    );

    // A ticket of another's and a statement that is prepared are judged anew when they run.
    let info = sue
        .flight
        .execute(as_ann("SELECT count(*) FROM notes"), None)
        .await
        .expect("it plans");
    root.ok("ALTER USER 'a_service' SET ROLE user").await;
    let ran = sue.fetch(info).await;
    assert_eq!(ran.expect_err("she may no more").code(), "PERMISSION_DENIED");
    let recorded = "SELECT DISTINCT user_id, executed_as FROM system.queries \
                    WHERE statement LIKE 'EXECUTE AS%' ORDER BY user_id, executed_as";
    let recorded = root.ok(recorded).await;
    for expected in [
        ["a_service", "a_dba"],
        ["a_service", "a_user"],
        ["a_service", "all users:"],
        ["root", "all users:"],
    ] {
        assert!(
            recorded.contains(&expected.map(str::to_owned).to_vec()),
            "{expected:?} in {recorded:?}"
        );
    }
    server.terminate();
}

/// What must show nowhere.
const MARKERS: &[&str] = &[
    "marker-create-q7",
    "marker-alter-q7",
    "marker-bare-q7",
    "marker-insert-q7",
    "marker-where-q7",
    "marker-as-q7",
    "marker-login-q7",
    "marker-http-q7",
    "marker-typo-q7",
    "marker-token-q7",
    "marker-told-q7",
    "marker-usr-q7",
    "marker-set-q7",
    "marker-role-q7",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_no_table_and_no_error_shows_a_secret() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(
        directory.path(),
        &Settings::with_args(&["--log", "trace,sqlparser::parser=trace,datafusion_sql=trace"]),
    );
    let mut root = server.root().await;
    let mut seen = String::new();
    for sql in [
        "CREATE USER 'ann' WITH PASSWORD 'marker-create-q7 and more' ROLE service",
        "ALTER USER 'ann' SET PASSWORD 'marker-alter-q7 and more'",
        "CREATE USER 'eve' WITH PASSWORD marker-bare-q7 ROLE user",
        "CREATE USER 'eve' WITH PASSWORD \"marker-bare-q7\" ROLE user",
        "CREATE USER 'eve' WITH PASWORD 'marker-typo-q7' ROLE user",
        "ALTER USER 'ann' SET PASSWORD = 'marker-typo-q7'",
        "CREATE USER 'ann' WITH PASSWORD 'marker-create-q7 and more' ROLE user",
        "CREATE USR zed PASSWORD \"marker-usr-q7\"",
        "SET PASSWORD = \"marker-set-q7\"",
        "CREATE ROLE zed LOGIN PASSWORD \"marker-role-q7\"",
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'marker-insert-q7')",
        "SELECT id FROM t WHERE v = 'marker-where-q7'",
        "SELECT nothing FROM t WHERE v = 'marker-where-q7'",
        "DELETE FROM t WHERE v = 'marker-where-q7' AND nothing",
        "EXECUTE AS USER 'ann' (SELECT id FROM t WHERE v = 'marker-as-q7')",
        "EXECUTE AS USER 'nobody' (SELECT 'marker-as-q7')",
        "EXECUTE AS USER 'ann' (ALTER USER 'ann' SET PASSWORD 'marker-as-q7 and more')",
        "EXECUTE AS ALL USERS (SELECT id FROM t WHERE v = 'marker-as-q7')",
    ] {
        match root.run(sql).await {
            // The rows of t are what was asked for; no statement here returns them.
            Ok(outcome) => seen.push_str(&format!("{:?}\n", kalamdb_tests::text_rows(&outcome.batches))),
            Err(error) => seen.push_str(&format!("{error}\n")),
        }
        if let Err(error) = root.flight.prepare(sql.to_owned(), None).await {
            seen.push_str(&format!("{error}\n"));
        }
        seen.push_str(&server.http_root().sql(sql).text());
    }
    // Whoever sends a value is told what is wrong with it; nobody else is.
    let told = root.error("INSERT INTO t VALUES ('marker-told-q7', 'x')").await;
    assert!(told.message.contains("marker-told-q7"), "{told}");
    for (user, password) in [
        ("ann", "marker-login-q7"),
        ("marker-login-q7", "x"),
        ("root", "marker-http-q7"),
    ] {
        let refused = Client::login(server.flight, user, password).await.err();
        seen.push_str(&format!("{}\n", refused.expect("a wrong password")));
        seen.push_str(&Http::basic(server.http, user, password).sql("SELECT 1").text());
    }
    seen.push_str(&Http::bearer(server.http, "marker-token-q7.x.y").sql("SELECT 1").text());
    let mut ann = server.login("ann", "marker-alter-q7 and more").await;
    ann.ok("SELECT 1").await;
    let token = ann.token().to_owned();
    let tables = root
        .ok("SELECT table_schema, table_name FROM information_schema.tables")
        .await;
    let mut read = 0;
    for table in tables {
        let name = format!("{}.{}", table[0], table[1]);
        if name == "public.t" {
            continue;
        }
        read += 1;
        seen.push_str(&format!(
            "{name}: {:?}\n",
            root.ok(&format!("SELECT * FROM {name}")).await
        ));
    }
    assert!(read > 15, "every table was read");
    for sql in [
        "SHOW ALL",
        "SHOW GRANTS",
        "SHOW QUOTAS",
        "SHOW TABLES",
        "SHOW JOBS",
        "SHOW STORAGES",
    ] {
        seen.push_str(&format!("{sql}: {:?}\n", root.ok(sql).await));
    }
    seen.push_str(&server.http_root().get("/metrics").text());
    seen.push_str(&server.terminate());
    assert!(seen.contains("LOGIN FROM 127.0.0.1"), "failed logins are in a table");
    assert!(
        seen.contains("DELETE FROM t WHERE v = $1"),
        "refused statements are in a table"
    );
    let secrets = MARKERS.iter().copied().chain([token.as_str(), ROOT_PASSWORD]);
    for secret in secrets {
        let lines: Vec<&str> = seen.lines().filter(|line| line.contains(secret)).collect();
        let shown: Vec<String> = lines.iter().map(|line| line.chars().take(400).collect()).collect();
        assert!(shown.is_empty(), "{secret} shows in:\n{}", shown.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_over_both_doors_and_for_one_user_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    let mut ann = server.login("a_user", PASSWORD).await;
    let mut sue = server.login("a_service", PASSWORD).await;
    let many = "SELECT value FROM generate_series(1, 100000)";
    root.ok("ALTER USER 'a_user' SET QUOTA rows = 50000").await;
    let error = ann.error(many).await;
    assert_eq!(error.code(), "ROW_QUOTA_EXCEEDED", "{error}");
    assert_eq!(error.grpc, tonic::Code::ResourceExhausted);
    root.ok("ALTER USER 'a_user' SET QUOTA rows = 10").await;
    let reply = Http::basic(server.http, "a_user", PASSWORD).sql("SELECT value FROM generate_series(1, 20)");
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "ROW_QUOTA_EXCEEDED");
    assert_eq!(sue.ok(many).await.len(), 100_000);
    assert_eq!(
        ann.value("SELECT count(*) FROM generate_series(1, 100000)").await,
        "100000"
    );

    root.ok("ALTER USER 'a_user' SET QUOTA rows = DEFAULT, sessions = 1")
        .await;
    let refused = Client::login(server.flight, "a_user", PASSWORD).await.err();
    assert_eq!(refused.expect("one is open").code(), "SESSION_QUOTA_EXCEEDED");
    ann.ok("SELECT 1").await;
    server.login("a_service", PASSWORD).await.ok("SELECT 1").await;

    root.ok("ALTER USER 'a_user' SET QUOTA sessions = DEFAULT, queries = 1")
        .await;
    let mut second = server.login("a_user", PASSWORD).await;
    let info = ann
        .flight
        .execute("SELECT value FROM generate_series(1, 1000000000)".to_owned(), None)
        .await;
    let ticket = info.expect("it plans").endpoint[0]
        .ticket
        .clone()
        .expect("it has a ticket");
    let unread = ann.flight.do_get(ticket).await.expect("it starts");
    let error = second.error("SELECT 1").await;
    assert_eq!(error.code(), "QUERY_QUOTA_EXCEEDED", "{error}");
    assert_eq!(Http::basic(server.http, "a_user", PASSWORD).sql("SELECT 1").status, 429);
    sue.ok("SELECT 1").await;
    drop(unread);
    server.terminate();
}
