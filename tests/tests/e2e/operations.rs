//! FLUSH, COMPACT and CHECK over both doors: done exactly once, whichever way a client asks; and the schedule that obeys
//! FLUSH_POLICY.

use kalamdb_tests::{Server, eventually, text_rows};
use serde_json::json;

/// How many jobs ended.
const JOBS: &str = "SELECT count(*) FROM system.jobs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_runs_exactly_once() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)").await;
    root.ok("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;

    // FlightInfo runs it; its ticket holds the rows, however often it is redeemed.
    let info = root
        .flight
        .execute("FLUSH TABLE t".to_owned(), None)
        .await
        .expect("runs");
    assert_eq!(info.total_records, 1);
    assert_eq!(root.value(JOBS).await, "1");
    let first = root.fetch(info.clone()).await.expect("fetches");
    let second = root.fetch(info).await.expect("fetches");
    let names: Vec<&String> = first.schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(
        names,
        ["job_id", "namespace_id", "table_name", "rows", "bytes", "segments"]
    );
    let rows = text_rows(&first.batches);
    assert_eq!(rows, text_rows(&second.batches));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][1..4], ["public", "t", "2"]);
    assert_eq!(rows[0][5], "1");
    assert_eq!(root.value("SELECT job_id FROM system.jobs").await, rows[0][0]);
    assert_eq!(root.value(JOBS).await, "1");

    // As an update it gives the count of rows.
    root.ok("INSERT INTO t VALUES (3, 'c')").await;
    let count = root
        .flight
        .execute_update("FLUSH TABLE t".to_owned(), None)
        .await
        .expect("runs");
    assert_eq!(count, 1);
    assert_eq!(root.value(JOBS).await, "2");

    // Preparing it runs nothing; what is prepared has columns.
    let mut prepared = root
        .flight
        .prepare("STORAGE CHECK TABLE t".to_owned(), None)
        .await
        .expect("prepares");
    assert_eq!(prepared.dataset_schema().expect("a schema").fields().len(), 10);
    assert_eq!(root.value(JOBS).await, "2");
    let info = prepared.execute().await.expect("runs");
    let checked = text_rows(&root.fetch(info).await.expect("fetches").batches);
    assert_eq!(checked.len(), 1);
    assert_eq!((checked[0][3].as_str(), checked[0][7].as_str()), ("ok", "2"));
    assert_eq!(root.value(JOBS).await, "3");

    let body = server
        .http_root()
        .sql("STORAGE COMPACT TABLE t; STORAGE FLUSH ALL")
        .json();
    assert_eq!(body["status"], "success", "{body}");
    let compacted = &body["results"][0];
    assert_eq!(
        compacted["columns"][3],
        json!({"name": "rows", "type": "BIGINT"}),
        "{body}"
    );
    assert_eq!(compacted["rows"][0][3], 3, "{body}");
    assert_eq!(compacted["message"], "3 rows merged into 1 segment", "{body}");
    assert_eq!(body["results"][1]["rows"][0][3], 0, "{body}");
    assert_eq!(root.value(JOBS).await, "5");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_flushes_by_policy() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    for (table, policy) in [("by_rows", "rows:2"), ("by_age", "interval:1s")] {
        root.ok(&format!(
            "CREATE TABLE {table} (id BIGINT PRIMARY KEY) WITH (FLUSH_POLICY = '{policy}')"
        ))
        .await;
        root.ok(&format!("INSERT INTO {table} VALUES (1), (2)")).await;
    }
    let segments = "SELECT count(DISTINCT table_id) FROM system.segments";
    let http = server.http_root();
    eventually("both tables have segments", || async {
        let body = http.sql(segments).json();
        (body["results"][0]["rows"] == json!([[2]])).then_some(())
    })
    .await;
    for table in ["by_rows", "by_age"] {
        assert_eq!(root.value(&format!("SELECT sum(id) FROM {table}")).await, "3");
    }
    server.terminate();
}
