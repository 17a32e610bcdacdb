//! What the server tells of itself: `system`, `information_schema`, SHOW, DESCRIBE, /metrics and the log. Each has a control in which somebody
//! who may know it is told of the victim's doing, or of what is there.

use std::collections::BTreeSet;

use kalamdb_tests::Http;

use super::probes::Control::{self, Everyone, Root, Victim};
use super::{Attacker, FILLED, MARKER, Scene, TABLES, TWIN, VICTIM, comparable, text};

/// A statement, and by whom and how it is seen to tell something.
struct Told {
    sql: &'static str,
    control: Control,
}

const fn told(sql: &'static str, control: Control) -> Told {
    Told { sql, control }
}

/// Each table of the server's own, which the test counts, and each SHOW.
const STATEMENTS: &[Told] = &[
    told("SELECT * FROM information_schema.columns", Victim("amount")),
    told("SELECT * FROM information_schema.parameters", Victim("ltrim")),
    told("SELECT * FROM information_schema.routines", Victim("ltrim")),
    told("SELECT * FROM information_schema.schemata", Victim(FILLED)),
    told("SELECT * FROM information_schema.table_privileges", Root(VICTIM)),
    told("SELECT * FROM information_schema.tables", Victim("seen_mixed")),
    told(
        "SELECT * FROM information_schema.views",
        Victim("SELECT * FROM filled.mixed"),
    ),
    told("SELECT * FROM system.grants", Root(VICTIM)),
    told("SELECT * FROM system.jobs", Root("flush")),
    // Nothing is in these two as yet; that they are empty is in the control.
    told("SELECT 'rows: ' || count(*) FROM system.live_queries", Root("rows: 0")),
    told("SELECT 'rows: ' || count(*) FROM system.transactions", Root("rows: 0")),
    told("SELECT * FROM system.namespaces", Victim(FILLED)),
    told(
        "SELECT * FROM system.queries WHERE status = 'failed'",
        Victim("INSERT INTO filled.mixed VALUES ($1, $2, $3)"),
    ),
    told(
        "SELECT statement FROM system.queries WHERE error_code = 'SYNTAX_ERROR'",
        Victim("SELECT …"),
    ),
    told("SELECT * FROM system.queries", Root(VICTIM)),
    told("SELECT * FROM system.quotas", Root("4711222")),
    told("SELECT * FROM system.segments", Root(".parquet")),
    told("SELECT * FROM system.sessions", Victim(VICTIM)),
    told("SELECT * FROM system.settings", Root("max_sessions")),
    told("SELECT * FROM system.storages", Root("filesystem")),
    told("SELECT * FROM system.table_schemas", Victim("amount")),
    told("SELECT * FROM system.tables", Victim("mixed")),
    told("SELECT * FROM system.users", Victim(VICTIM)),
    told("SHOW TABLES IN filled", Victim("mixed")),
    told("SHOW TABLES IN filled LIKE 'mix%'", Victim("mixed")),
    told("SHOW COLUMNS FROM filled.mixed", Victim("amount")),
    told("SHOW NAMESPACES", Victim(FILLED)),
    told("SHOW STORAGES", Root("filesystem")),
    told("SHOW JOBS", Root("flush")),
    told("SHOW SEGMENTS", Root(".parquet")),
    told("SHOW ALL", Root("max_sessions")),
    told("SHOW GRANTS", Victim("facts")),
    told("SHOW QUOTAS", Victim("4711222")),
    told("DESCRIBE filled.mixed", Victim("amount")),
    told("DESCRIBE TABLE filled.mixed HISTORY", Victim("amount")),
];

/// What may not depend on another's rows and doings, and the roles to which it is not to; to the others it does.
const COUNTS: &[(&str, &[&str])] = &[
    (
        "SELECT count(*), sum(rows), sum(deleted_rows), sum(size_bytes), max(max_seq) FROM system.segments s \
         JOIN system.tables t ON t.table_id = s.table_id WHERE t.namespace_id = '{n}'",
        &["user"],
    ),
    (
        "SELECT count(*), sum(rows), sum(bytes) FROM system.jobs j \
         JOIN system.tables t ON t.table_id = j.table_id WHERE t.namespace_id = '{n}'",
        &["user"],
    ),
    (
        "SELECT count(*), sum(rows), sum(bytes) FROM system.queries \
         WHERE user_id <> CURRENT_USER AND statement LIKE '%{n}.%'",
        &["user", "service"],
    ),
    (
        "SELECT count(*) FROM system.sessions WHERE user_id <> CURRENT_USER AND '{n}' = 'filled'",
        &["user", "service"],
    ),
    (
        "SELECT count(*) FROM system.users WHERE user_id <> CURRENT_USER AND '{n}' = 'filled'",
        &["user"],
    ),
    (
        "SELECT count(*) FROM system.grants WHERE user_id <> CURRENT_USER AND '{n}' = 'filled'",
        &["user", "service"],
    ),
    (
        "SELECT count(*) FROM system.quotas WHERE name <> CURRENT_USER AND '{n}' = 'filled'",
        &["user", "service"],
    ),
];

/// A grant and a quota, so that the tables of both have something of the victim's.
async fn give_the_victim(scene: &mut Scene) {
    for sql in [
        format!("GRANT INSERT ON {FILLED}.facts TO '{VICTIM}'"),
        format!("ALTER USER '{VICTIM}' SET QUOTA rows = 4711222"),
    ] {
        scene.root.ok(&sql).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_tells_of_itself_tells_nothing_of_values() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    give_the_victim(&mut scene).await;
    // The marker in literals of all kinds, in comments, and in statements that fail or do not parse.
    for sql in [
        format!("SELECT '{MARKER}'"),
        format!("SELECT count(*) FROM {FILLED}.mixed WHERE v = '{MARKER}' OR v LIKE '%{MARKER}%'"),
        format!("SELECT E'{MARKER}', $${MARKER}$$, X'00', DATE '2020-01-01' -- {MARKER}"),
        format!("SELECT 1 /* {MARKER} */"),
        format!("SELECT CAST('{MARKER}' AS BIGINT)"),
        format!("SELECT nothing FROM {FILLED}.mixed WHERE v = '{MARKER}'"),
        format!("SELECT '{MARKER}' FORM {MARKER}"),
        format!("SELECT '{MARKER}"),
        format!("SET time_zone = '{MARKER}'"),
        format!("INSERT INTO {FILLED}.mixed VALUES (1, '{MARKER}', 1)"),
        format!("INSERT INTO {FILLED}.mixed VALUES (7, '{MARKER}', '{MARKER}')"),
        format!("EXECUTE AS USER 'root' (SELECT '{MARKER}')"),
    ] {
        // Some fail, and each is in `system.queries`.
        text(scene.victim.rows(&sql).await);
    }
    let tables = scene
        .root
        .ok(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables \
             WHERE table_schema IN ('system', 'information_schema') ORDER BY 1",
        )
        .await;
    let read: BTreeSet<&str> = STATEMENTS
        .iter()
        .filter_map(|told| told.sql.split_once(" FROM ")?.1.split(' ').next())
        .collect();
    let unread: Vec<_> = tables.iter().filter(|row| !read.contains(row[0].as_str())).collect();
    assert!(tables.len() > 15 && unread.is_empty(), "nobody reads {unread:?}");
    let mut wrong = Vec::new();
    for Told { sql, control } in STATEMENTS {
        for Attacker { role, client } in &mut scene.attackers {
            let told = text(client.rows(sql).await);
            if told.contains(MARKER) {
                wrong.push(format!("{role}: {sql}\n   shows: {told}"));
            }
            // Who there is a service may know.
            if *role == "user" && told.contains(VICTIM) {
                wrong.push(format!("{role}: {sql}\n   knows of the victim: {told}"));
            }
        }
        let (told, shows) = match control {
            Victim(shows) => (text(scene.victim.rows(sql).await), shows),
            Root(shows) => (text(scene.root.rows(sql).await), shows),
            Everyone(_) => panic!("these are nobody's rows"),
        };
        if !told.contains(shows) {
            wrong.push(format!("the control of {sql}\n   shows no {shows}: {told}"));
        }
    }
    for table in TABLES {
        for Attacker { role, client } in &mut scene.attackers {
            let told = text(client.rows(&format!("DESCRIBE {FILLED}.{table}")).await);
            let twin = text(client.rows(&format!("DESCRIBE {TWIN}.{table}")).await);
            if told != twin {
                wrong.push(format!("{role}: DESCRIBE {table}: {told}, and without rows {twin}"));
            }
        }
    }
    let metrics = Http::anonymous(scene.server.http).get("/metrics").text();
    if [MARKER, VICTIM, "cold"].iter().any(|secret| metrics.contains(secret)) {
        wrong.push(format!("/metrics shows: {metrics}"));
    }
    assert!(metrics.contains("commits"), "{metrics}");
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    let log = scene.server.stderr();
    assert!(!log.contains(MARKER), "the log shows the marker");
    assert!(log.contains("ready flight="), "the control");
    scene.check_undisturbed(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_how_many_rows_statements_and_sessions_of_others_there_are() {
    let mut scene = Scene::new().await;
    give_the_victim(&mut scene).await;
    let mut wrong = Vec::new();
    for (sql, roles) in COUNTS {
        let of = |namespace: &str| sql.replace("{n}", namespace);
        for Attacker { role, client } in &mut scene.attackers {
            let told = comparable(&text(client.rows(&of(FILLED)).await), FILLED);
            let twin = comparable(&text(client.rows(&of(TWIN)).await), TWIN);
            // To the others it shows, which is the control.
            if (told == twin) != roles.contains(role) {
                wrong.push(format!("{role}: {sql}\n   with the victim: {told}\n   without: {twin}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.server.terminate();
}
