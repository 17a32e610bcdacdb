//! kill -9: what was acknowledged is there once, what was not is there at most once, and an ingest under way left nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use futures::StreamExt;
use kalamdb_tests::{Client, Server, eventually};

use crate::batches::{ingest_command, payload_rows};

const CONNECTIONS: i64 = 8;
/// Rows of one statement: together or not at all.
const ROWS: i64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_inserts_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE log (writer BIGINT, statement BIGINT, row BIGINT, PRIMARY KEY (writer, statement, row))")
        .await;
    // Without a key nothing but the acknowledgement protects from a row that is written twice.
    root.ok("CREATE TABLE unkeyed (writer BIGINT, statement BIGINT)").await;

    let acknowledged: Arc<Vec<[AtomicI64; 2]>> = Arc::new((0..CONNECTIONS).map(|_| Default::default()).collect());
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|writer| {
            let (flight, acknowledged) = (server.flight, Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let password = kalamdb_tests::ROOT_PASSWORD;
                let mut client = Client::login(flight, "root", password).await.expect("root can log in");
                write_until_killed(&mut client, writer, &acknowledged[index(writer)]).await;
            })
        })
        .collect();

    eventually("every writer has statements acknowledged", || {
        let all = acknowledged
            .iter()
            .flatten()
            .all(|count| count.load(Ordering::SeqCst) >= 10);
        async move { all.then_some(()) }
    })
    .await;
    server.kill();
    for task in tasks {
        task.await.expect("a writer ends when its connection does");
    }

    let server = Server::start(directory.path());
    let mut root = server.root().await;
    for writer in 0..CONNECTIONS {
        let [keyed, unkeyed] = [0, 1].map(|at| acknowledged[index(writer)][at].load(Ordering::SeqCst));
        let mut more = 0;
        for (table, acknowledged, rows) in [("log", keyed, ROWS), ("unkeyed", unkeyed, 1)] {
            let sql = format!(
                "SELECT statement, count(*) FROM {table} WHERE writer = {writer} GROUP BY statement ORDER BY statement"
            );
            more += check(&root.ok(&sql).await, acknowledged, rows);
        }
        assert!(
            more <= 1,
            "writer {writer} had one statement in flight, {more} are there"
        );
    }
    // And the database goes on.
    root.ok("INSERT INTO log VALUES (-1, 0, 0)").await;
    server.terminate();

    /// Statements 0..acknowledged are whole, and those after them; how many these are.
    fn check(found: &[Vec<String>], acknowledged: i64, rows: i64) -> i64 {
        let statements = found.len() as i64;
        assert!(
            statements >= acknowledged,
            "{acknowledged} statements were acknowledged, {statements} are there: {found:?}"
        );
        for (statement, row) in found.iter().enumerate() {
            assert_eq!(row, &[statement.to_string(), rows.to_string()], "in {found:?}");
        }
        statements - acknowledged
    }
}

/// Statements numbered from 0, into both tables by turns; counts those that the server acknowledged.
async fn write_until_killed(client: &mut Client, writer: i64, acknowledged: &[AtomicI64; 2]) {
    for statement in 0.. {
        let rows: Vec<_> = (0..ROWS).map(|row| format!("({writer}, {statement}, {row})")).collect();
        if client
            .update(&format!("INSERT INTO log VALUES {}", rows.join(", ")))
            .await
            .is_err()
        {
            return;
        }
        acknowledged[0].store(statement + 1, Ordering::SeqCst);
        // By GetFlightInfo, which runs a write exactly once too.
        if client
            .run(&format!("INSERT INTO unkeyed VALUES ({writer}, {statement})"))
            .await
            .is_err()
        {
            return;
        }
        acknowledged[1].store(statement + 1, Ordering::SeqCst);
    }
}

fn index(writer: i64) -> usize {
    usize::try_from(writer).expect("writers are numbered from 0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_under_way_at_a_kill_leaves_nothing() {
    const BATCH_ROWS: i64 = 10_000;
    const BATCHES: i64 = 30;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE existing (id BIGINT PRIMARY KEY, payload TEXT)")
        .await;
    root.ok("INSERT INTO existing VALUES (-1, 'old')").await;

    // Both streams stay open after their last batch: the server has everything but the end.
    let open = |table: &str, if_not_exist, if_exists| {
        let command = ingest_command(
            "public",
            table,
            if_not_exist,
            if_exists,
            &[("ingest.primary_key", "id")],
        );
        let client = root.clone();
        let sent = Arc::new(AtomicI64::new(0));
        let counter = Arc::clone(&sent);
        let batches = futures::stream::iter(0..BATCHES)
            .map(move |number| {
                counter.store(number, Ordering::SeqCst);
                Ok(payload_rows(number * BATCH_ROWS..(number + 1) * BATCH_ROWS, 100))
            })
            .chain(futures::stream::pending());
        let task = tokio::spawn(async move { client.clone().ingest(command, batches).await });
        (sent, task)
    };
    let (created, create) = open("fresh", TableNotExistOption::Create, TableExistsOption::Fail);
    let (appended, append) = open("existing", TableNotExistOption::Fail, TableExistsOption::Append);
    eventually("the server has taken both streams", || {
        let all = [&created, &appended]
            .iter()
            .all(|sent| sent.load(Ordering::SeqCst) == BATCHES - 1);
        async move { all.then_some(()) }
    })
    .await;
    // Nothing of it shows while it is under way, and the name is free.
    assert_eq!(root.value("SELECT count(*) FROM existing").await, "1");
    assert_eq!(root.error("SELECT count(*) FROM fresh").await.code(), "TABLE_NOT_FOUND");

    server.kill();
    for task in [create, append] {
        task.await
            .expect("the ingest ends with its connection")
            .expect_err("it was never acknowledged");
    }

    let server = Server::start(directory.path());
    let mut root = server.root().await;
    assert_eq!(root.ok("SELECT * FROM existing").await, [["-1", "old"]]);
    assert_eq!(root.error("SELECT count(*) FROM fresh").await.code(), "TABLE_NOT_FOUND");
    // The same loads, whole this time, meet no trace of the first.
    for (table, if_not_exist, if_exists) in [
        ("fresh", TableNotExistOption::Create, TableExistsOption::Fail),
        ("existing", TableNotExistOption::Fail, TableExistsOption::Append),
    ] {
        let command = ingest_command(
            "public",
            table,
            if_not_exist,
            if_exists,
            &[("ingest.primary_key", "id")],
        );
        let batches = futures::stream::iter(0..BATCHES)
            .map(|number| Ok(payload_rows(number * BATCH_ROWS..(number + 1) * BATCH_ROWS, 100)));
        let count = root
            .ingest(command, batches)
            .await
            .unwrap_or_else(|error| panic!("{table}: {error}"));
        assert_eq!(count, BATCHES * BATCH_ROWS, "{table}");
    }
    assert_eq!(
        root.value("SELECT count(*) FROM fresh").await,
        (BATCHES * BATCH_ROWS).to_string()
    );
    assert_eq!(
        root.value("SELECT count(*) FROM existing").await,
        (BATCHES * BATCH_ROWS + 1).to_string()
    );
    server.terminate();
}
