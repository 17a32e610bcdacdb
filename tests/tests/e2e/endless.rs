//! Statements that compute without end: they hold up nobody, and end when they must.

use kalamdb_tests::{Server, eventually};

/// Hours of comparisons, none of which finds a pair.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b \
                       WHERE a.value + b.value = 1";

/// More than there are threads for queries.
const AT_ONCE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_without_end_hold_up_nobody_and_are_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE notes (id BIGINT PRIMARY KEY)").await;
    let mut running = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = server.root().await;
        running.push(tokio::spawn(async move { client.error(ENDLESS).await }));
    }
    let ids =
        "SELECT query_id FROM system.queries WHERE status = 'running' AND statement LIKE 'SELECT count(*) FROM gen%'";
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
    // One that is over computes no more: a stop has nothing to wait for.
    root.ok("SET statement_timeout = 200").await;
    assert_eq!(root.error(ENDLESS).await.code(), "TIMEOUT");
    server.terminate();
}
