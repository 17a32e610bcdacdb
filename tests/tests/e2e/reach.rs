//! How far a read reaches: the keys that a query touches, as EXPLAIN ANALYZE counts them.

use kalamdb_tests::{Client, Server};

const USERS: i64 = 10;
const ROWS: i64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_point_reads_and_users_touch_only_their_own() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE shared (id BIGINT PRIMARY KEY, v TEXT)").await;
    root.ok("CREATE TABLE composite (a BIGINT, b TEXT, v BIGINT, PRIMARY KEY (a, b))")
        .await;
    root.ok("CREATE USER TABLE own (id BIGINT PRIMARY KEY, v TEXT)").await;
    root.ok("CREATE STREAM TABLE events (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 86400)")
        .await;
    root.ok(&format!(
        "INSERT INTO shared SELECT value, 'row ' || value FROM generate_series(1, {})",
        USERS * ROWS
    ))
    .await;
    root.ok("INSERT INTO composite SELECT value % 10, 'b' || value, value FROM generate_series(1, 1000)")
        .await;
    for user in 0..USERS {
        root.ok(&format!(
            "CREATE USER 'user{user}' WITH PASSWORD 'one password for them all' ROLE user"
        ))
        .await;
        let mut client = server.login(&format!("user{user}"), "one password for them all").await;
        client
            .ok(&format!(
                "INSERT INTO own SELECT value, 'x' FROM generate_series(1, {ROWS})"
            ))
            .await;
        client
            .ok("INSERT INTO events SELECT value FROM generate_series(1, 100)")
            .await;
    }
    let mut one = server.login("user3", "one password for them all").await;

    // A point read is one key, a whole user their own, a LIMIT what it asks for.
    check(&mut root, "SELECT * FROM shared WHERE id = 777", 1, 1).await;
    check(&mut root, "SELECT * FROM shared WHERE id = -5", 0, 1).await;
    check(&mut root, "SELECT * FROM shared LIMIT 10", 10, 11).await;
    check(&mut root, "SELECT * FROM shared WHERE id BETWEEN 101 AND 150", 50, 51).await;
    check(&mut root, "SELECT * FROM shared WHERE id > 9990", 10, 11).await;
    check(&mut root, "SELECT * FROM composite WHERE a = 3 AND b = 'b13'", 1, 1).await;
    check(&mut root, "SELECT * FROM composite WHERE a = 3", 100, 101).await;
    check(&mut root, "SELECT count(*) FROM shared", USERS * ROWS, USERS * ROWS + 1).await;
    check(&mut one, "SELECT * FROM own", ROWS, ROWS + 1).await;
    check(&mut one, "SELECT count(*) FROM own", ROWS, ROWS + 1).await;
    check(&mut one, "SELECT * FROM own WHERE id = 5", 1, 1).await;
    check(&mut one, "SELECT * FROM own LIMIT 7", 7, 8).await;
    check(&mut one, "SELECT * FROM events", 100, 101).await;
    check(&mut one, "SELECT * FROM events LIMIT 3", 3, 4).await;
    // A filter that only the rows can answer reads the range, and stops at the LIMIT that comes after it.
    check(
        &mut root,
        "SELECT * FROM shared WHERE v = 'row 5'",
        USERS * ROWS,
        USERS * ROWS + 1,
    )
    .await;
    check(&mut root, "SELECT * FROM shared WHERE false", 0, 0).await;
    // Nobody else's keys are counted in what a user is shown.
    check(&mut root, "SELECT * FROM own", 0, 1).await;
    server.terminate();
}

/// The keys that a query reads are at least and at most so many.
async fn check(client: &mut Client, sql: &str, least: i64, most: i64) {
    let plan = client.ok(&format!("EXPLAIN ANALYZE {sql}")).await;
    let text: String = plan.into_iter().flatten().collect::<Vec<_>>().join("\n");
    let mut keys = 0;
    for part in text.split("keys_read=").skip(1) {
        let number: String = part.chars().take_while(|c| !matches!(c, ',' | ']' | '\n')).collect();
        keys += parse_count(&number).unwrap_or_else(|| panic!("{number:?} is no count in:\n{text}"));
    }
    assert!(
        (least..=most).contains(&keys),
        "{sql}: {keys} keys read, {least} to {most} expected:\n{text}"
    );
}

/// `7`, `1000`, or as DataFusion shortens it: `1.00 K`.
fn parse_count(text: &str) -> Option<i64> {
    let (number, factor) = match text.trim().split_once(' ') {
        None => (text.trim(), 1.0),
        Some((number, "K")) => (number, 1e3),
        Some((number, "M")) => (number, 1e6),
        Some(_) => return None,
    };
    let value: f64 = number.parse().ok()?;
    Some((value * factor).round() as i64)
}
