//! kill -9 while rows move: statements, flushes, compactions and loads are under way, buckets of STREAM rows begin and go, and storages
//! are made and dropped, several times on one directory.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use kalamdb_tests::{Client, ROOT_PASSWORD, Server, SqlError, eventually};
use tokio::task::JoinHandle;

use crate::batches::{ingest_command, payload_rows};
use crate::crash_mix::{Stored, Streamed};

const ROUNDS: u64 = 4;
const WRITERS: i64 = 4;
/// Rows of one statement: together or not at all.
const ROWS: i64 = 3;
/// Rows of one load: enough to go straight to segments.
const LOAD_ROWS: i64 = 70_000;
const LOAD_BATCHES: i64 = 7;

/// What everybody who talks to one server knows of it.
#[derive(Default)]
struct Watched {
    acknowledged: AtomicU64,
    killed: AtomicBool,
}

impl Watched {
    /// An error is the end of the server, or of the test.
    fn expect_killed(&self, sql: &str, error: &SqlError) {
        assert!(self.killed.load(Ordering::SeqCst), "{sql}: {error}");
    }
}

/// One statement, on the rows of the n-th INSERT of a writer.
#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(i64),
    Update(i64),
    Delete(i64),
}

impl Change {
    fn sql(self, writer: i64) -> String {
        let rows = |number: i64| {
            format!(
                "writer = {writer} AND id >= {} AND id < {}",
                number * ROWS,
                (number + 1) * ROWS
            )
        };
        match self {
            Self::Insert(number) => {
                let values: Vec<String> = (number * ROWS..(number + 1) * ROWS)
                    .map(|id| format!("({writer}, {id}, 0)"))
                    .collect();
                format!("INSERT INTO moved VALUES {}", values.join(", "))
            }
            Self::Update(number) => format!("UPDATE moved SET version = version + 1 WHERE {}", rows(number)),
            Self::Delete(number) => format!("DELETE FROM moved WHERE {}", rows(number)),
        }
    }

    /// Changes the rows, and counts how many.
    fn apply(self, rows: &mut BTreeMap<i64, i64>) -> i64 {
        let (Self::Insert(number) | Self::Update(number) | Self::Delete(number)) = self;
        let mut changed = 0;
        for id in number * ROWS..(number + 1) * ROWS {
            let known = match self {
                Self::Insert(_) => rows.insert(id, 0).is_none(),
                Self::Update(_) => rows.get_mut(&id).map(|version| *version += 1).is_some(),
                Self::Delete(_) => rows.remove(&id).is_some(),
            };
            changed += i64::from(known);
        }
        changed
    }
}

/// Versions of a writer's rows by id, as acknowledged, and the statement that was under way when the server died.
#[derive(Clone, Debug, Default)]
struct Ledger {
    inserts: i64,
    turn: i64,
    rows: BTreeMap<i64, i64>,
    under_way: Option<Change>,
}

impl Ledger {
    fn next(&mut self) -> Change {
        self.turn += 1;
        // A row that was written long ago, as often as not in a segment.
        let earlier = (self.turn * 7919) % self.inserts.max(1);
        match self.turn % 5 {
            3 => Change::Update(earlier),
            4 => Change::Delete(earlier),
            _ => {
                self.inserts += 1;
                Change::Insert(self.inserts - 1)
            }
        }
    }

    /// What is there is what was acknowledged, with the statement under way or without it; it counts from now on.
    fn settle(&mut self, writer: i64, found: BTreeMap<i64, i64>) {
        let mut with = self.rows.clone();
        if let Some(change) = self.under_way {
            change.apply(&mut with);
        }
        assert!(
            found == self.rows || found == with,
            "writer {writer}, under way {:?}\nacknowledged: {:?}\nfound: {found:?}",
            self.under_way,
            self.rows
        );
        self.rows = found;
        self.under_way = None;
    }
}

async fn write_until_killed(mut client: Client, writer: i64, mut ledger: Ledger, watched: Arc<Watched>) -> Ledger {
    loop {
        let change = ledger.next();
        ledger.under_way = Some(change);
        let sql = change.sql(writer);
        match client.update(&sql).await {
            Ok(count) => assert_eq!(count, change.apply(&mut ledger.rows), "{sql}"),
            Err(error) => {
                watched.expect_killed(&sql, &error);
                return ledger;
            }
        }
        ledger.under_way = None;
        watched.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// Loads one part after the other; how many were acknowledged, those before included.
async fn load_until_killed(mut client: Client, mut loads: i64, watched: Arc<Watched>) -> i64 {
    loop {
        let first = loads * LOAD_ROWS;
        let part = LOAD_ROWS / LOAD_BATCHES;
        let batches = (0..LOAD_BATCHES).map(move |batch| {
            let from = first + batch * part;
            Ok(payload_rows(from..from + part, 20))
        });
        let command = ingest_command(
            "public",
            "loaded",
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            &[],
        );
        match client.ingest(command, futures::stream::iter(batches)).await {
            Ok(count) => assert_eq!(count, LOAD_ROWS),
            Err(error) => {
                watched.expect_killed("an ingest", &error);
                return loads;
            }
        }
        loads += 1;
        watched.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

async fn move_until_killed(mut client: Client, table: &'static str, watched: Arc<Watched>) {
    loop {
        for statement in ["FLUSH TABLE", "STORAGE COMPACT TABLE"] {
            let sql = format!("{statement} {table}");
            if let Err(error) = client.run(&sql).await {
                watched.expect_killed(&sql, &error);
                return;
            }
        }
    }
}

/// Compares the tables with what was acknowledged, and the files with the manifest.
async fn check(root: &mut Client, directory: &Path, ledgers: &mut [Ledger], loads: &mut i64) {
    for (writer, ledger) in (0..).zip(ledgers) {
        let sql = format!("SELECT id, version FROM moved WHERE writer = {writer} ORDER BY id");
        let rows = root.ok(&sql).await;
        let found: BTreeMap<i64, i64> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        assert_eq!(found.len(), rows.len(), "a key is there twice: {rows:?}");
        ledger.settle(writer, found);
    }
    let sql = format!("SELECT id / {LOAD_ROWS}, count(*), count(DISTINCT id) FROM loaded GROUP BY 1 ORDER BY 1");
    let parts = root.ok(&sql).await;
    let found = i64::try_from(parts.len()).expect("few");
    assert!(
        found == *loads || found == *loads + 1,
        "{loads} loads were acknowledged: {parts:?}"
    );
    for (part, row) in parts.iter().enumerate() {
        let whole = [part.to_string(), LOAD_ROWS.to_string(), LOAD_ROWS.to_string()];
        assert_eq!(row, &whole, "of {parts:?}");
    }
    *loads = found;
    for table in ["moved", "loaded"] {
        root.ok(&format!("STORAGE CHECK TABLE {table}")).await;
    }
    // The scheduler flushes meanwhile, and what is dead is erased in the background.
    let client = root.clone();
    eventually("there are as many files as the manifest names", || {
        let mut client = client.clone();
        async move {
            let named = client.value("SELECT count(*) FROM system.segments").await;
            let files = files_under(&data_of(directory).join("segments")) + files_under(&storages_of(directory));
            (named == files.to_string()).then_some(())
        }
    })
    .await;
}

fn data_of(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Storages beside `local` are below it.
fn storages_of(directory: &Path) -> PathBuf {
    directory.join("storages")
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// Files may go while they are counted: then they are not.
fn files_under(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_under(&entry.path()),
            // But for the one that says whose they are.
            Ok(_) => usize::from(!entry.file_name().to_string_lossy().starts_with("KALAMDB-STORAGE")),
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_survive_kills_while_they_move() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut server = Server::start(&data_of(directory.path()));
    let mut root = server.root().await;
    root.ok(
        "CREATE TABLE moved (writer BIGINT, id BIGINT, version BIGINT, PRIMARY KEY (writer, id)) \
         WITH (FLUSH_POLICY = 'rows:50')",
    )
    .await;
    root.ok("CREATE TABLE loaded (id BIGINT PRIMARY KEY, payload TEXT) WITH (FLUSH_POLICY = 'rows:1000')")
        .await;

    let mut ledgers = vec![Ledger::default(); usize::try_from(WRITERS).expect("few")];
    let mut loads = 0;
    Streamed::create(&mut root).await;
    let mut streamed = Streamed::default();
    let mut stored = Stored::new(&storages_of(directory.path()));
    for round in 0..ROUNDS {
        let watched = Arc::new(Watched::default());
        let login = || async {
            Client::login(server.flight, "root", ROOT_PASSWORD)
                .await
                .expect("root can log in")
        };
        let mut writers: Vec<JoinHandle<Ledger>> = Vec::new();
        for (writer, ledger) in (0..).zip(&ledgers) {
            let task = write_until_killed(login().await, writer, ledger.clone(), watched.clone());
            writers.push(tokio::spawn(task));
        }
        let loader = tokio::spawn(load_until_killed(login().await, loads, watched.clone()));
        let mut movers = Vec::new();
        for table in ["moved", "loaded"] {
            movers.push(tokio::spawn(move_until_killed(login().await, table, watched.clone())));
        }

        let streaming = tokio::spawn(streamed.clone().write(login().await));
        let storing = tokio::spawn(stored.clone().write(login().await));

        let wanted = 50 + RandomState::new().hash_one(round) % 200;
        eprintln!("round {round}: killed after {wanted} acknowledgements");
        eventually("so much is acknowledged", || {
            let enough = watched.acknowledged.load(Ordering::SeqCst) >= wanted;
            // Whoever ends early has failed, and says why when it is awaited.
            let failed = writers.iter().any(JoinHandle::is_finished)
                || loader.is_finished()
                || movers.iter().any(JoinHandle::is_finished)
                || streaming.is_finished()
                || storing.is_finished();
            async move { (enough || failed).then_some(()) }
        })
        .await;
        watched.killed.store(true, Ordering::SeqCst);
        server.kill();
        for (ledger, task) in ledgers.iter_mut().zip(writers) {
            *ledger = task.await.expect("a writer ends when its connection does");
        }
        loads = loader.await.expect("the loader ends when its connection does");
        let (ledger, sql, error) = streaming.await.expect("it ends when its connection does");
        watched.expect_killed(&sql, &error);
        streamed = ledger;
        let (ledger, sql, error) = storing.await.expect("it ends when its connection does");
        watched.expect_killed(&sql, &error);
        stored = ledger;
        for task in movers {
            task.await.expect("a mover ends when its connection does");
        }

        server = Server::start(&data_of(directory.path()));
        root = server.root().await;
        streamed.check(&mut root).await;
        stored.check(&mut root).await;
        check(&mut root, directory.path(), &mut ledgers, &mut loads).await;
    }
    // And the database goes on, moves what there is, and ends tidily.
    for table in ["moved", "loaded"] {
        root.ok(&format!("FLUSH TABLE {table}")).await;
        root.ok(&format!("STORAGE COMPACT TABLE {table}")).await;
    }
    check(&mut root, directory.path(), &mut ledgers, &mut loads).await;
    server.terminate();
    let server = Server::start(&data_of(directory.path()));
    let mut root = server.root().await;
    streamed.check(&mut root).await;
    stored.check(&mut root).await;
    check(&mut root, directory.path(), &mut ledgers, &mut loads).await;
    server.terminate();
}
