//! SHARED tables that the victim was granted and others were not: to those who may not know of one it is as one that does not exist, whatever
//! they ask and by whatever call; and to whom one thing was granted that one thing shows no row.

use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{
    CommandGetPrimaryKeys, CommandGetTables, ProstMessageExt, TableExistsOption, TableNotExistOption,
};
use kalamdb_tests::{Client, Http, SqlError};
use prost::Message;

use super::calls::{act, command, fetched, info_of, prepare_request, put};
use super::{Attacker, COPY, FILLED, MARKER, Scene, TWIN, VICTIM, comparable, text};
use crate::batches::{batch, ingest_command, int64, text as texts};

/// What is tried on `{n}.vault`, which only one of the namespaces has, and what the victim is told, who may do it. What changes it comes last.
const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT * FROM {n}.vault ORDER BY id", MARKER),
    ("SELECT v FROM {n}.vault WHERE id = 1", MARKER),
    ("SELECT nothing FROM {n}.vault", "COLUMN_NOT_FOUND"),
    ("SELECT CAST(v AS BIGINT) FROM {n}.vault", MARKER),
    (
        "SELECT a.v FROM {n}.facts f JOIN {n}.vault a ON a.id = f.id ORDER BY 1",
        MARKER,
    ),
    (
        "SELECT word FROM {n}.facts WHERE id IN (SELECT id FROM {n}.vault) ORDER BY 1",
        "one",
    ),
    ("SELECT (SELECT max(v) FROM {n}.vault)", MARKER),
    ("SELECT 'rows: ' || count(*) FROM {n}.vault", "rows: 2"),
    ("SELECT max(v) FROM {n}.into_the_vault", MARKER),
    ("SELECT 'rows: ' || count(*) FROM {n}.counted_vault", "rows: 1"),
    ("EXPLAIN SELECT * FROM {n}.vault", "ScanExec"),
    ("EXPLAIN ANALYZE SELECT * FROM {n}.into_the_vault", "output_rows=2"),
    ("EXECUTE AS ALL USERS (SELECT * FROM {n}.vault)", MARKER),
    ("DESCRIBE {n}.vault", "amount"),
    ("DESCRIBE {n}.into_the_vault", "amount"),
    ("DESCRIBE TABLE {n}.vault HISTORY", "amount"),
    ("SHOW COLUMNS FROM {n}.vault", "amount"),
    ("SHOW TABLES IN {n} LIKE '%vault%'", "vault"),
    (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = '{n}' ORDER BY 1",
        "vault",
    ),
    (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = '{n}' ORDER BY 1, 2",
        "vault",
    ),
    (
        "SELECT table_name FROM information_schema.views WHERE table_schema = '{n}' ORDER BY 1",
        "vault",
    ),
    (
        "SELECT table_name FROM information_schema.table_privileges WHERE table_schema = '{n}' ORDER BY 1",
        "vault",
    ),
    (
        "SELECT table_name FROM system.tables WHERE namespace_id = '{n}' ORDER BY 1",
        "vault",
    ),
    (
        "SELECT t.table_name FROM system.table_schemas s JOIN system.tables t ON s.table_id = t.table_id \
         WHERE t.namespace_id = '{n}' ORDER BY 1",
        "vault",
    ),
    (
        "SELECT 'tables: ' || table_count FROM system.namespaces WHERE namespace_id = '{n}'",
        "tables: ",
    ),
    ("INSERT INTO {n}.box SELECT v FROM {n}.vault RETURNING v", MARKER),
    (
        "INSERT INTO {n}.vault SELECT 100, v, 1 FROM {n}.vault WHERE id = 1 RETURNING v",
        MARKER,
    ),
    ("INSERT INTO {n}.vault VALUES (1, 'mine', 5)", "DUPLICATE_KEY"),
    ("UPDATE {n}.vault SET v = v || '!' RETURNING v", MARKER),
    (
        "UPDATE {n}.facts SET word = a.v FROM {n}.vault a WHERE a.id = facts.id RETURNING word",
        MARKER,
    ),
    ("DELETE FROM {n}.vault WHERE id = 2 RETURNING v", MARKER),
];

/// What the victim may not do either; its control is `root`'s, who is told of nothing to be missing.
const OPERATIONS: &[&str] = &[
    "FLUSH TABLE {n}.vault",
    "STORAGE COMPACT TABLE {n}.vault",
    "STORAGE CHECK TABLE {n}.vault",
    "GRANT SELECT ON {n}.vault TO 'mallory_user'",
    "REVOKE SELECT ON {n}.vault FROM 'mallory_user'",
    "DROP VIEW {n}.into_the_vault",
    "TRUNCATE {n}.vault",
    "DROP TABLE {n}.vault",
];

async fn make_vault(scene: &mut Scene, namespace: &str) {
    let root = &mut scene.root;
    root.ok(&format!(
        "CREATE TABLE {namespace}.vault (id BIGINT PRIMARY KEY, v TEXT, amount INTEGER) WITH (ACCESS_LEVEL = 'restricted')"
    ))
    .await;
    for view in [
        format!("CREATE VIEW {namespace}.into_the_vault AS SELECT * FROM {namespace}.vault"),
        format!("CREATE VIEW {namespace}.counted_vault AS SELECT count(*) AS n FROM {namespace}.into_the_vault"),
        format!("INSERT INTO {namespace}.vault VALUES (1, '{MARKER} one', 11), (2, '{MARKER} two', 22)"),
        format!("FLUSH TABLE {namespace}.vault"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {namespace}.vault TO '{VICTIM}'"),
        format!("GRANT INSERT, UPDATE ON {namespace}.facts TO '{VICTIM}'"),
    ] {
        root.ok(&view).await;
    }
}

/// The calls that name a table.
async fn calls(client: &Client, namespace: &str) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    let mut note = |name, outcome: Result<String, SqlError>| {
        told.push((name, text(outcome.map(|told| vec![vec![told]]))));
    };
    for (name, path) in [("a path", "vault"), ("a view's path", "into_the_vault")] {
        let path = FlightDescriptor::new_path(vec![namespace.to_owned(), path.to_owned()]);
        note(name, fetched(client, path).await);
    }
    let path = FlightDescriptor::new_path(vec![namespace.to_owned(), "vault".to_owned()]);
    let schema = client.raw().get_schema(client.authorized(path.clone())).await;
    note(
        "GetSchema",
        schema
            .map(|reply| format!("{:?}", reply.into_inner().schema))
            .map_err(SqlError::from),
    );
    let sql = FlightDescriptor::new_cmd(format!("SELECT v FROM {namespace}.vault"));
    note(
        "a command",
        info_of(client, sql).await.map(|info| format!("{:?}", info.schema)),
    );
    let prepare = prepare_request(&format!("SELECT v FROM {namespace}.vault WHERE id = $1"));
    let prepared = act(client, "CreatePreparedStatement", prepare).await;
    note("CreatePreparedStatement", prepared.map(|_| "prepared".to_owned()));
    let keys = CommandGetPrimaryKeys {
        catalog: None,
        db_schema: Some(namespace.to_owned()),
        table: "vault".to_owned(),
    };
    note(
        "GetPrimaryKeys",
        fetched(client, command(&keys))
            .await
            .map(|keys| keys.replace(namespace, "n")),
    );
    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some(namespace.to_owned()),
        table_name_filter_pattern: Some("%vault%".to_owned()),
        table_types: Vec::new(),
        include_schema: true,
    };
    note("GetTables", fetched(client, command(&tables)).await);
    let ingest = ingest_command(
        namespace,
        "vault",
        TableNotExistOption::Fail,
        TableExistsOption::Append,
        &[],
    );
    let rows = batch(vec![("id", int64([50])), ("v", texts(["mine"]))]);
    note("an ingest", put(client, ingest.as_any().encode_to_vec(), rows).await);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_one_may_not_know_of_is_as_one_that_does_not_exist() {
    let mut scene = Scene::new().await;
    for namespace in [FILLED, COPY] {
        make_vault(&mut scene, namespace).await;
    }
    let before = scene.rows_of_victim().await;
    let vault = format!("SELECT *, _seq FROM {FILLED}.vault ORDER BY id");
    let locked = scene.victim.ok(&vault).await;
    let mut wrong = Vec::new();
    let mut judge = |what: String, told: &str, twin: &str| {
        let (told, twin) = (comparable(told, FILLED), comparable(twin, TWIN));
        if told != twin || told.contains(MARKER) {
            wrong.push(format!(
                "{what}\n   with the table: {told}\n   where there is none: {twin}"
            ));
        }
    };
    // To a dba it is no secret.
    scene.attackers.retain(|attacker| attacker.role != "dba");
    assert_eq!(scene.attackers.len(), 2);
    let statements = STATEMENTS.iter().map(|(sql, _)| sql).chain(OPERATIONS);
    for sql in statements {
        let of = |namespace: &str| sql.replace("{n}", namespace);
        for Attacker { role, client } in &mut scene.attackers {
            let told = text(client.rows(&of(FILLED)).await);
            let twin = text(client.rows(&of(TWIN)).await);
            judge(format!("{role}: {sql}"), &told, &twin);
            let prepared =
                |outcome: Result<(), arrow_flight::error::FlightError>| outcome.err().map(|error| error.to_string());
            let told = prepared(client.flight.prepare(of(FILLED), None).await.map(|_| ()));
            let twin = prepared(client.flight.prepare(of(TWIN), None).await.map(|_| ()));
            judge(
                format!("{role} prepares {sql}"),
                &told.unwrap_or_default(),
                &twin.unwrap_or_default(),
            );
            let http = Http::bearer(scene.server.http, client.token());
            let answer = |namespace: &str| {
                let mut reply = http.sql(&of(namespace)).json();
                reply["execution_time_ms"] = serde_json::Value::Null;
                reply.to_string()
            };
            let (told, twin) = tokio::task::block_in_place(|| (answer(FILLED), answer(TWIN)));
            judge(format!("{role} over HTTP: {sql}"), &told, &twin);
        }
    }
    for Attacker { role, client } in &scene.attackers {
        let told = calls(client, FILLED).await;
        for ((name, told), (_, twin)) in told.into_iter().zip(calls(client, TWIN).await) {
            judge(format!("{role}: {name}"), &told, &twin);
        }
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(scene.victim.ok(&vault).await, locked, "nothing was disturbed");
    // It is there for those who may know. What changes it comes last.
    for (sql, shows) in STATEMENTS {
        let sql = sql.replace("{n}", COPY);
        let told = text(scene.victim.rows(&sql).await);
        assert!(told.contains(shows), "the control of {sql} shows no {shows}: {told}");
    }
    for (name, told) in calls(&scene.victim, COPY).await {
        let is_told = !told.is_empty() && told != calls_of_nothing(name) && !told.contains("NOT_FOUND");
        assert!(is_told, "the control of {name}: {told}");
    }
    for sql in OPERATIONS {
        let sql = sql.replace("{n}", COPY);
        let told = text(scene.root.rows(&sql).await);
        assert!(!told.contains("NOT_FOUND"), "the control of {sql}: {told}");
    }
    scene.check_undisturbed(&before).await;
}

/// What a call gives that finds nothing and is no error.
fn calls_of_nothing(name: &str) -> &'static str {
    match name {
        "GetTables" | "GetPrimaryKeys" => "[[\"[]\"]]",
        _ => "",
    }
}

/// One privilege each, on a table with the victim's rows: it shows none of them, though it may say that there is a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_write_a_shared_table_is_shown_nothing_of_it() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    for (table, privileges) in [
        ("drops", "INSERT"),
        ("edits", "INSERT, UPDATE"),
        ("ends", "INSERT, UPDATE, DELETE"),
    ] {
        scene
            .root
            .ok(&format!(
                "CREATE TABLE filled.{table} (id BIGINT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL = 'restricted')"
            ))
            .await;
        scene
            .root
            .ok(&format!(
                "INSERT INTO filled.{table} VALUES (1, '{MARKER} one'), (2, '{MARKER} two')"
            ))
            .await;
        let mut wrong = Vec::new();
        for Attacker { role, client } in &mut scene.attackers {
            if *role == "dba" {
                continue;
            }
            scene
                .root
                .ok(&format!("GRANT {privileges} ON filled.{table} TO 'mallory_{role}'"))
                .await;
            let other = if *role == "user" { 10 } else { 20 };
            for (sql, code) in [
                (format!("SELECT v FROM filled.{table}"), "PERMISSION_DENIED"),
                (format!("SELECT count(*) FROM filled.{table}"), "PERMISSION_DENIED"),
                (
                    format!("EXPLAIN ANALYZE SELECT * FROM filled.{table}"),
                    "PERMISSION_DENIED",
                ),
                (
                    format!("INSERT INTO filled.{table} VALUES (1, 'mine')"),
                    "DUPLICATE_KEY",
                ),
                (
                    format!("INSERT INTO filled.{table} VALUES (1, 'mine') RETURNING v"),
                    "PERMISSION_DENIED",
                ),
                (
                    format!("INSERT INTO filled.{table} SELECT id + 100, v FROM filled.{table}"),
                    "PERMISSION_DENIED",
                ),
                (
                    format!("INSERT INTO filled.{table} VALUES (99, (SELECT max(v) FROM filled.{table}))"),
                    "PERMISSION_DENIED",
                ),
                (format!("UPDATE filled.{table} SET v = 'mine'"), "PERMISSION_DENIED"),
                (
                    format!("UPDATE filled.{table} SET v = 1 / (id - 1) RETURNING v"),
                    "PERMISSION_DENIED",
                ),
                (
                    format!("DELETE FROM filled.{table} WHERE v LIKE 'm%'"),
                    "PERMISSION_DENIED",
                ),
                (format!("INSERT INTO filled.{table} VALUES ({other}, 'mine')"), "done"),
            ] {
                let told = match client.rows(&sql).await {
                    Ok(_) => "done".to_owned(),
                    Err(error) if error.message.contains(MARKER) => format!("shows {error}"),
                    Err(error) => error.code().to_owned(),
                };
                if told != code {
                    wrong.push(format!("{role}: {sql}: {told} instead of {code}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
        let there = scene
            .root
            .ok(&format!("SELECT * FROM filled.{table} ORDER BY id"))
            .await;
        assert_eq!(
            there,
            [
                ["1".to_owned(), format!("{MARKER} one")],
                ["2".to_owned(), format!("{MARKER} two")],
                ["10".to_owned(), "mine".to_owned()],
                ["20".to_owned(), "mine".to_owned()],
            ]
        );
        // With SELECT it shows, so that there was something.
        scene
            .root
            .ok(&format!("GRANT SELECT ON filled.{table} TO 'mallory_user'"))
            .await;
        let told = scene.attackers[0]
            .client
            .ok(&format!("SELECT v FROM filled.{table}"))
            .await;
        assert!(text(Ok(told)).contains(MARKER));
    }
    scene.check_undisturbed(&before).await;
}
