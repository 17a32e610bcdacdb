//! Statements, loads, flushes, compactions and queries of one table at once, over the wire. Every commit preserves the sum of all
//! amounts and the count of rows, so that a query that finds anything else has read two moments, or a row twice or never.

use std::net::SocketAddr;

use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use kalamdb_tests::{Client, Server};

use crate::batches::{batch, ingest_command, int64};
use crate::writers::{AtWork, login, retried, server_for_many, transfer};

/// Rows between which amounts go to and fro, two in a statement: hot ones, most of the time.
const ACCOUNTS: i64 = 100;
/// Rows from [`LOADED_FROM`] on that loads replace, all at once: so many that they go straight into segments.
const LOADED: i64 = 70_000;
const LOADED_FROM: i64 = 1_000_000;
const LOAD_BATCHES: i64 = 7;

const TRANSFERRERS: i64 = 4;
const TRANSFERS: i64 = 60;
const LOADS: i64 = 5;
const FLUSHES: usize = 5;
const READS: usize = 5;

/// Each query answers with one row: how many rows, the sum of their amounts, and how many keys. The first is of hot rows for the
/// most part, the second of segments, the third of everything, and the last reads the table twice.
const READERS: [&str; 4] = [
    "SELECT count(*), sum(amount), count(DISTINCT id) FROM accounts WHERE id < 1000000",
    "SELECT count(*), sum(amount), count(DISTINCT id) FROM accounts WHERE id >= 1000000",
    "SELECT count(*), sum(amount), count(DISTINCT id) FROM accounts",
    "SELECT count(*), sum(a.amount), count(DISTINCT b.id) FROM accounts a JOIN accounts b \
     ON a.id = b.id AND a.amount = b.amount",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_sees_one_moment_while_rows_are_written_and_moved() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = server_for_many(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE accounts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)")
        .await;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {id})")).collect();
    root.ok(&format!("INSERT INTO accounts VALUES {}", accounts.join(", ")))
        .await;
    load(&mut root, 0).await;
    for sql in READERS {
        check(&mut root, sql).await;
    }

    let at_work = AtWork::default();
    let mut writers = Vec::new();
    for writer in 0..TRANSFERRERS {
        writers.push(at_work.run(transfers(server.flight, writer)));
    }
    writers.push(at_work.run(load_again_and_again(server.flight)));
    writers.push(at_work.run(change_everything_that_is_loaded(server.flight)));
    let mut others = vec![tokio::spawn(flush_and_compact(server.flight, at_work.clone()))];
    for sql in READERS {
        others.push(tokio::spawn(read(server.flight, sql, at_work.clone())));
    }
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    for other in others {
        other.await.expect("no query sees half a commit, and rows can be moved");
    }

    for sql in READERS {
        check(&mut root, sql).await;
    }
    let checked = root.ok("STORAGE CHECK TABLE accounts").await;
    assert!(checked.iter().all(|row| row[3] == "ok"), "{checked:?}");
    server.terminate();
    let server = Server::start(directory.path());
    for sql in READERS {
        check(&mut server.root().await, sql).await;
    }
    server.terminate();
}

async fn check(client: &mut Client, sql: &str) {
    let sum = |rows: i64| rows * (rows - 1) / 2;
    let (rows, amounts) = match READERS.iter().position(|reader| *reader == sql) {
        Some(0) => (ACCOUNTS, sum(ACCOUNTS)),
        Some(1) => (LOADED, sum(LOADED)),
        _ => (ACCOUNTS + LOADED, sum(ACCOUNTS) + sum(LOADED)),
    };
    assert_eq!(
        client.ok(sql).await,
        [[rows.to_string(), amounts.to_string(), rows.to_string()]],
        "{sql}"
    );
}

async fn transfers(flight: SocketAddr, writer: i64) {
    let mut client = login(flight).await;
    for n in 1..=TRANSFERS {
        let from = (writer * 31 + n * 7) % ACCOUNTS;
        let to = (from + 1 + n % (ACCOUNTS - 1)) % ACCOUNTS;
        transfer(&mut client, from, to, n).await;
    }
}

/// Replaces every loaded row: other amounts in each round, and their sum the same.
async fn load(client: &mut Client, round: i64) {
    let batches = (0..LOAD_BATCHES).map(move |part| {
        let rows = LOADED / LOAD_BATCHES * part..LOADED / LOAD_BATCHES * (part + 1);
        let amounts = rows.clone().map(move |number| (number + 7 * round) % LOADED);
        Ok(batch(vec![
            ("id", int64(rows.map(|number| LOADED_FROM + number))),
            ("amount", int64(amounts)),
        ]))
    });
    let command = ingest_command(
        "public",
        "accounts",
        TableNotExistOption::Fail,
        TableExistsOption::Append,
        &[("ingest.on_conflict", "replace")],
    );
    let loaded = client.ingest(command, futures::stream::iter(batches)).await;
    assert_eq!(loaded.expect("it replaces whatever there is"), LOADED);
}

async fn load_again_and_again(flight: SocketAddr) {
    let mut client = login(flight).await;
    for round in 1..=LOADS {
        load(&mut client, round).await;
    }
}

/// Large statements over the rows that are loaded meanwhile, and small ones.
async fn change_everything_that_is_loaded(flight: SocketAddr) {
    let mut client = login(flight).await;
    let change = "UPDATE accounts SET amount = amount + CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END WHERE";
    for n in 0..LOADS {
        let all = format!("{change} id >= {LOADED_FROM}");
        assert_eq!(retried(&mut client, &all).await, LOADED);
        let from = LOADED_FROM + n * 1_000;
        let some = format!("{change} id >= {from} AND id < {}", from + 100);
        assert_eq!(retried(&mut client, &some).await, 100);
    }
}

async fn flush_and_compact(flight: SocketAddr, at_work: AtWork) {
    let mut client = login(flight).await;
    let mut flushes = 0;
    while at_work.any() || flushes < FLUSHES {
        client.ok("FLUSH TABLE accounts").await;
        client.ok("STORAGE COMPACT TABLE accounts").await;
        flushes += 1;
    }
}

async fn read(flight: SocketAddr, sql: &str, at_work: AtWork) {
    let mut client = login(flight).await;
    let mut reads = 0;
    while at_work.any() || reads < READS {
        check(&mut client, sql).await;
        reads += 1;
    }
}
