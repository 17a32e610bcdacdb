//! Memory and patience: a slow reader of a large table, a client that goes away.

use std::ops::Range;
use std::time::{Duration, Instant};

use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use futures::StreamExt;
use kalamdb_tests::{Client, Server, Settings, eventually};

use crate::batches::{ingest_command, payload_rows};

const MIB: u64 = 1 << 20;
const MEMORY_LIMIT: u64 = 128 * MIB;
const BLOCK_CACHE: u64 = 16 * MIB;
const WRITE_BUFFERS: u64 = 16 * MIB;
/// What the process holds beside the three stated budgets: its code (70 MiB of it are touched), what it needs before the first
/// statement (60 MiB, a third of it for checking a password), and for what is under way the pages of segments that are read, the
/// messages of each connection, and the allocator's slack.
const MARGIN: u64 = 192 * MIB;
/// What a load holds more: its chunks, sorted and as they are written to their file, and the messages that bring them.
const LOAD: u64 = 128 * MIB;

const PAYLOAD_BYTES: usize = 4096;
/// Together four times the memory limit.
const ROWS: i64 = (4 * MEMORY_LIMIT) as i64 / PAYLOAD_BYTES as i64;
const BATCH_ROWS: i64 = 512;

/// How a table's rows get into it, and so where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// By many small statements: hot.
    Hot,
    /// By one load: in segments.
    InSegments,
}

fn settings() -> Settings {
    Settings::with_args(&[
        "--memory-limit",
        "128MiB",
        "--block-cache",
        "16MiB",
        "--write-buffers",
        "16MiB",
        "--hot-limit",
        "4GiB",
    ])
}

/// Makes table `large`, four times the memory limit.
async fn fill(root: &mut Client, rows: Rows) {
    root.ok("CREATE TABLE large (id BIGINT PRIMARY KEY, payload TEXT) \
         WITH (FLUSH_POLICY = 'rows:100000000,interval:86400s')")
        .await;
    let command = || {
        ingest_command(
            "public",
            "large",
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            &[],
        )
    };
    let batches: Vec<Range<i64>> = (0..ROWS)
        .step_by(BATCH_ROWS as usize)
        .map(|start| start..ROWS.min(start + BATCH_ROWS))
        .collect();
    match rows {
        Rows::Hot => {
            for ids in batches {
                let batch = futures::stream::iter([Ok(payload_rows(ids, PAYLOAD_BYTES))]);
                root.ingest(command(), batch).await.expect("a small statement");
            }
        }
        Rows::InSegments => {
            let batches = futures::stream::iter(batches).map(|ids| Ok(payload_rows(ids, PAYLOAD_BYTES)));
            root.ingest(command(), batches).await.expect("the load fits on disk");
        }
    }
    let in_segments = root.value("SELECT coalesce(sum(rows), 0) FROM system.segments").await;
    let expected = if rows == Rows::Hot { 0 } else { ROWS };
    assert_eq!(in_segments, expected.to_string(), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_hot_rows_costs_little() {
    reads_cost_little(Rows::Hot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_segments_costs_little() {
    reads_cost_little(Rows::InSegments).await;
}

async fn reads_cost_little(place: Rows) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &settings());
    fill(&mut server.root().await, place).await;
    check_peak(&server, "loading", MARGIN + LOAD);
    server.terminate();

    // A fresh process, so that the peak is that of reading.
    let server = Server::start_with(directory.path(), &settings());
    let mut root = server.root().await;
    let mut other = server.root().await;
    let info = root
        .flight
        .execute("SELECT * FROM large".to_owned(), None)
        .await
        .expect("it plans");
    let mut rows = 0;
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.expect("an endpoint has a ticket");
        let mut stream = root.flight.do_get(ticket).await.expect("it runs");
        while let Some(batch) = stream.next().await {
            if rows == 0 {
                // By now a server that does not wait for its reader has sent or stored it all.
                for _ in 0..500 {
                    other.ok("SELECT 1").await;
                }
                let running = status_of(&other, "SELECT * FROM large%", "running").await;
                assert!(running.is_some(), "the server read on while nobody took what it had");
            }
            rows += batch.expect("the stream is whole").num_rows();
            // As slow as another client's whole round trip for each message.
            other.ok("SELECT 1").await;
        }
    }
    assert_eq!(i64::try_from(rows).expect("few"), ROWS);
    check_peak(&server, "reading slowly", MARGIN);
    // Operators gather rows: long ones, fewer at once.
    let bytes = (ROWS * PAYLOAD_BYTES as i64).to_string();
    assert_eq!(root.value("SELECT sum(octet_length(payload)) FROM large").await, bytes);
    assert_eq!(
        root.value("SELECT count(*) FROM large WHERE payload LIKE '%zz%'").await,
        "0"
    );
    check_peak(&server, "computing", MARGIN);
    server.terminate();
}

/// What must hold everything spills, or says that the memory does not do; the server goes on in any case. Operators
/// account for what they keep, not for the batches on their way between them, so no peak is stated here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_memory_spills() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &settings());
    let mut root = server.root().await;
    fill(&mut root, Rows::InSegments).await;
    for sql in [
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY payload) AS n FROM large)",
        "SELECT count(*) FROM (SELECT payload, count(*) FROM large GROUP BY payload)",
    ] {
        assert_eq!(root.value(sql).await, ROWS.to_string(), "{sql}");
    }
    // A hash join does not spill.
    let sql = "SELECT count(*) FROM large a JOIN large b ON a.payload = b.payload";
    let error = root.error(sql).await;
    assert_eq!(error.code(), "OUT_OF_MEMORY", "{error}");
    assert_eq!(root.value("SELECT count(*) FROM large").await, ROWS.to_string());
    server.terminate();
}

fn check_peak(server: &Server, doing: &str, margin: u64) {
    let peak = server.peak_resident_bytes();
    let limit = MEMORY_LIMIT + BLOCK_CACHE + WRITE_BUFFERS + margin;
    println!("peak while {doing}: {} MiB of {} MiB", peak / MIB, limit / MIB);
    assert!(
        peak < limit,
        "{doing} took {} MiB, more than {} MiB",
        peak / MIB,
        limit / MIB
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_stops_its_query() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE numbers (id BIGINT PRIMARY KEY)").await;
    root.ok("INSERT INTO numbers SELECT value FROM generate_series(1, 20000)")
        .await;

    // One that streams, one that computes for hours before its first row.
    let streaming = "SELECT a.id, b.id, c.id FROM numbers a CROSS JOIN numbers b CROSS JOIN numbers c";
    let computing = "SELECT sum(a.id * b.id + c.id) FROM numbers a CROSS JOIN numbers b CROSS JOIN numbers c";
    for (name, sql, reads) in [("streaming", streaming, true), ("computing", computing, false)] {
        let mut client = server.root().await;
        let call = tokio::spawn(async move {
            let info = client.flight.execute(sql.to_owned(), None).await.expect("it plans");
            let ticket = info.endpoint[0].ticket.clone().expect("an endpoint has a ticket");
            let mut stream = client.flight.do_get(ticket).await.expect("it runs");
            if reads {
                stream.next().await.expect("rows come").expect("rows come");
            }
            // The stream is held and no more of it is read.
            stream.next().await;
            std::future::pending::<()>().await;
        });
        let like = format!("{}%", &sql[..20]);
        eventually("the query runs", || status_of(&root, &like, "running")).await;
        call.abort();
        assert!(call.await.is_err(), "the client is gone");
        let gone = Instant::now();
        eventually("the query is cancelled", || status_of(&root, &like, "cancelled")).await;
        assert!(
            gone.elapsed() < Duration::from_secs(1),
            "{name}: cancelled only after {:?}",
            gone.elapsed()
        );
        assert!(status_of(&root, &like, "running").await.is_none(), "{name} runs on");
    }
    server.terminate();
}

/// Whether a query whose text is like that is in that state.
async fn status_of(root: &Client, like: &str, status: &str) -> Option<()> {
    let mut root = root.clone();
    // One that is not planned yet does not run.
    let sql = format!(
        "SELECT count(*) FROM system.queries \
         WHERE statement LIKE '{like}' AND status = '{status}' AND plan_ms IS NOT NULL"
    );
    (root.value(&sql).await != "0").then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_query_stops_it() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;
    let mut client = server.root().await;
    let endless = "SELECT sum(a.value * b.value + c.value) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c";
    let call = tokio::spawn(async move { client.run(endless).await });
    let id = eventually("the query runs", || {
        let mut root = root.clone();
        async move {
            // Its row while it was only planned is gone by now.
            let sql = "SELECT query_id FROM system.queries WHERE statement LIKE 'SELECT sum(a.value%' AND status = 'running' AND plan_ms IS NOT NULL";
            root.ok(sql).await.pop().and_then(|mut row| row.pop())
        }
    })
    .await;
    // Not by someone who may not even know of it.
    let mut ann = server.login("ann", "ann has a long password").await;
    let error = ann.error(&format!("KILL QUERY '{id}'")).await;
    assert!(["NOT_FOUND", "PERMISSION_DENIED"].contains(&error.code()), "{error}");
    root.ok(&format!("KILL QUERY '{id}'")).await;
    let error = call.await.expect("the call does not panic").expect_err("it was killed");
    assert_eq!(
        (error.grpc, error.code()),
        (tonic::Code::Cancelled, "CANCELLED"),
        "{error}"
    );
    let sql = format!("SELECT status, error_code FROM system.queries WHERE query_id = '{id}'");
    assert_eq!(root.ok(&sql).await, [["cancelled", "CANCELLED"]]);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_ends_what_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &Settings::with_args(&["--drain", "100ms"]));
    let mut client = server.root().await;
    let root = server.root().await;
    let endless = "SELECT sum(a.value * b.value + c.value) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c";
    let call = tokio::spawn(async move { client.run(endless).await });
    eventually("the query runs", || status_of(&root, "SELECT sum(a.value%", "running")).await;
    server.terminate();
    call.await
        .expect("the call does not panic")
        .expect_err("the server stopped");
}
