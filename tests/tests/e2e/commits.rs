//! Many writers at once: every read shows whole commits of one moment, and commits share their syncs.

use std::net::SocketAddr;

use kalamdb_tests::{Client, Http, Server};

use crate::writers::{AtWork, login, retried, server_for_many, transfer};

const WRITERS: i64 = 16;
const STATEMENTS: i64 = 25;
const BALANCE: i64 = 1000;

/// A statement writes one table, so two kinds of sums are kept. `accounts`: every UPDATE moves an amount between two rows,
/// and the total never changes. `left` and `right`: every writer counts up in the left table first and then in the
/// right one, so that at any one moment the left one is ahead by nothing or by one; a join whose two scans stood at
/// different moments would see more, or the right one ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_keep_their_sums_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = server_for_many(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE accounts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)")
        .await;
    root.ok("CREATE TABLE \"left\" (writer BIGINT PRIMARY KEY, n BIGINT NOT NULL)")
        .await;
    root.ok("CREATE TABLE \"right\" (writer BIGINT PRIMARY KEY, n BIGINT NOT NULL)")
        .await;
    for writer in 0..WRITERS {
        root.ok(&format!(
            "INSERT INTO accounts VALUES ({}, {BALANCE}), ({}, {BALANCE})",
            2 * writer,
            2 * writer + 1
        ))
        .await;
        root.ok(&format!("INSERT INTO \"left\" VALUES ({writer}, 0)")).await;
        root.ok(&format!("INSERT INTO \"right\" VALUES ({writer}, 0)")).await;
    }
    let before = counters(&server);

    let at_work = AtWork::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| at_work.run(write(server.flight, writer)))
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(read(server.flight, at_work.clone())))
        .collect();
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    for reader in readers {
        reader.await.expect("no reader sees half a commit");
    }

    check_sums(&mut root).await;
    let finished = format!(
        "SELECT count(*) FROM \"left\" l JOIN \"right\" r ON l.writer = r.writer WHERE l.n = {STATEMENTS} AND r.n = {STATEMENTS}"
    );
    assert_eq!(root.value(&finished).await, WRITERS.to_string());
    let (commits, syncs) = {
        let after = counters(&server);
        (after.0 - before.0, after.1 - before.1)
    };
    assert!(
        commits >= u64::try_from(WRITERS * STATEMENTS * 2).expect("positive"),
        "{commits} commits counted"
    );
    assert!(
        syncs < commits,
        "{syncs} syncs for {commits} commits of {WRITERS} writers at once"
    );
    assert!(syncs > 0, "commits are synced");
    server.terminate();
}

async fn write(flight: SocketAddr, writer: i64) {
    let mut client = login(flight).await;
    for n in 1..=STATEMENTS {
        // Rows of others too, so that commits do conflict.
        let (from, to) = (
            (writer * 2 + n) % (2 * WRITERS),
            (writer * 2 + n * 7 + 1) % (2 * WRITERS),
        );
        if from != to {
            transfer(&mut client, from, to, n).await;
        }
        for table in ["left", "right"] {
            let sql = format!("UPDATE \"{table}\" SET n = n + 1 WHERE writer = {writer}");
            assert_eq!(retried(&mut client, &sql).await, 1);
        }
    }
}

async fn read(flight: SocketAddr, at_work: AtWork) {
    let mut client = login(flight).await;
    let mut reads = 0;
    while at_work.any() || reads == 0 {
        check_sums(&mut client).await;
        reads += 1;
    }
}

async fn check_sums(client: &mut Client) {
    let total = client.value("SELECT sum(amount) FROM accounts").await;
    assert_eq!(total, (2 * WRITERS * BALANCE).to_string());
    // The same table twice in one query is of one moment.
    let differing = "SELECT count(*) FROM accounts a JOIN accounts b ON a.id = b.id WHERE a.amount <> b.amount";
    assert_eq!(client.value(differing).await, "0");
    // Two tables in one query, in both orders of reading.
    for (first, second, least, most) in [("left", "right", 0, 1), ("right", "left", -1, 0)] {
        let sql = format!(
            "SELECT a.writer, a.n, b.n FROM \"{first}\" a JOIN \"{second}\" b ON a.writer = b.writer \
             WHERE a.n - b.n NOT BETWEEN {least} AND {most}"
        );
        assert_eq!(client.ok(&sql).await, Vec::<Vec<String>>::new());
    }
}

/// Commits and synced writes of the log, as /metrics counts them.
fn counters(server: &Server) -> (u64, u64) {
    let text = Http::anonymous(server.http).get("/metrics").text();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in:\n{text}"))
    };
    (value("kalamdb_commits_total"), value("kalamdb_log_syncs_total"))
}
