//! Statements that compute without end: they hold up nobody, and end when they must.

use kalamdb_tests::{Server, eventually};

const PASSWORD: &str = "a password for the test";

/// Many rows whose `k` is the same, which no planner can know.
const ROWS: &str = "(SELECT value, value / 10000000 AS k FROM generate_series(1, 300000))";

/// More than there are threads for queries.
const AT_ONCE: usize = 12;

/// Each computes for minutes or hours.
fn endless() -> Vec<String> {
    vec![
        // Comparisons of which none finds a pair.
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value = 1"
            .to_owned(),
        "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b".to_owned(),
        format!("SELECT count(*) FROM {ROWS} a JOIN {ROWS} b ON a.k = b.k"),
        format!("SELECT count(*) FROM {ROWS} a JOIN {ROWS} b ON a.k = b.k AND a.value + b.value = 1"),
        format!("SELECT count(*) FROM {ROWS} a WHERE a.k IN (SELECT b.k FROM {ROWS} b)"),
        format!("SELECT count(*) FROM {ROWS} a WHERE NOT EXISTS (SELECT 1 FROM {ROWS} b WHERE a.k = b.k)"),
        // Each row costs as much as its frame.
        format!("SELECT count(m) FROM (SELECT median(value) OVER (ORDER BY value) AS m FROM {ROWS} a) w"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_without_end_hold_up_nobody_and_are_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE notes (id BIGINT PRIMARY KEY)").await;
    root.ok(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE user"))
        .await;
    root.ok("ALTER USER 'ann' SET QUOTA queries = 1").await;
    let mut running = Vec::new();
    let endless = endless();
    for sql in endless.iter().cycle().take(AT_ONCE) {
        let (mut client, sql) = (server.root().await, sql.clone());
        running.push(tokio::spawn(async move { client.error(&sql).await }));
    }
    let ids = "SELECT query_id FROM system.queries WHERE status = 'running' AND statement LIKE 'SELECT count(%) FROM (SELECT %' \
               OR status = 'running' AND statement LIKE 'SELECT count(*) FROM gen%'";
    eventually("all of them run", || {
        let mut root = root.clone();
        async move { (root.ok(ids).await.len() == AT_ONCE).then_some(()) }
    })
    .await;
    // They would go on for hours.
    for id in 0..20 {
        root.ok(&format!("INSERT INTO notes VALUES ({id})")).await;
    }
    assert_eq!(root.value("SELECT count(*) FROM notes").await, "20");
    eventually("all of them are killed", || {
        let mut root = root.clone();
        let are_over = running.iter().all(tokio::task::JoinHandle::is_finished);
        async move {
            let found = root.ok(ids).await;
            for id in found.iter().flatten() {
                // One that has been planned meanwhile runs under another id.
                if let Err(error) = root.rows(&format!("KILL QUERY '{id}'")).await {
                    assert_eq!(error.code(), "NOT_FOUND", "{error}");
                }
            }
            are_over.then_some(())
        }
    })
    .await;
    for killed in running {
        let error = killed.await.expect("no panic");
        assert_eq!(error.code(), "CANCELLED", "{error}");
    }
    // One that is over computes no more: its place is free, and a stop has nothing to wait for.
    let mut ann = server.login("ann", PASSWORD).await;
    ann.ok("SET statement_timeout = 200").await;
    for sql in &endless {
        assert_eq!(ann.error(sql).await.code(), "TIMEOUT", "{sql}");
        eventually("nothing computes for it", || {
            let mut ann = ann.clone();
            async move {
                match ann.rows("SELECT 1").await {
                    Ok(rows) => {
                        assert_eq!(rows, [["1"]]);
                        Some(())
                    }
                    Err(error) => {
                        assert_eq!(error.code(), "QUERY_QUOTA_EXCEEDED", "{error}");
                        None
                    }
                }
            }
        })
        .await;
    }
    // Sorting takes longer than that, and what it comes to is told too late.
    let sorted = "SELECT value FROM generate_series(1, 10000000) ORDER BY -value LIMIT 10 OFFSET 9000000";
    assert_eq!(ann.error(sorted).await.code(), "TIMEOUT");
    server.terminate();
}
