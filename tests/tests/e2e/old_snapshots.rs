//! A client that takes its rows too slowly, or not at all, keeps nothing on the server's disk for ever: the server in process, on a
//! clock that the test drives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use futures::TryStreamExt;
use kalamdb_core::DrivenClock;
use kalamdb_server::{Config, serve};
use kalamdb_tests::{Client, SqlError, eventually};

const ROWS: i64 = 60_000;
/// More than the server and the connection hold for a client that does not read.
const ROW_BYTES: i64 = 2_000;
const LIFE: Duration = Duration::from_secs(3600);

/// All segments of the default storage.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut below = vec![directory.join("segments")];
    while let Some(directory) = below.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => below.push(path),
                false if path.extension().is_some_and(|extension| extension == "parquet") => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// A query of which the first rows have come.
async fn begin(client: &mut Client, sql: &str) -> FlightRecordBatchStream {
    let info = client.flight.execute(sql.to_owned(), None).await.expect("planned");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let mut rows = client.flight.do_get(ticket).await.expect("it begins");
    let first = rows.try_next().await.expect("reads").expect("there are rows");
    assert!(first.num_rows() > 0);
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_keeps_no_files_past_the_life_of_a_snapshot() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let clock = Arc::new(DrivenClock::new(1_767_225_600_000_000));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async {
        // A test that panics drops the sender, which stops the server as well.
        let _ = stopped.await;
    };
    // Sessions and tokens outlive what the clock is moved by.
    let long = Duration::from_secs(30 * 24 * 3600);
    let mut config = Config::new(directory.path());
    (config.snapshot_life, config.session_idle, config.token_life) = (LIFE, long, long);
    let running = serve(config, Arc::<DrivenClock>::clone(&clock), shutdown)
        .await
        .unwrap_or_else(|error| panic!("the server does not start: {error}"));
    let password = std::fs::read_to_string(directory.path().join("root-password")).expect("it was written");
    let login = || async {
        let client = Client::login(running.flight, "root", password.trim_end()).await;
        client.expect("root can log in")
    };
    // What one connection does not take holds up all streams of it.
    let (mut root, mut other) = (login().await, login().await);

    root.ok("CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT)").await;
    root.ok(&format!(
        "INSERT INTO notes SELECT value, repeat('x', {ROW_BYTES}) FROM generate_series(1, {ROWS})"
    ))
    .await;
    root.ok("FLUSH TABLE notes").await;
    let mut reader = begin(&mut other, "SELECT id, text FROM notes").await;
    let old = segments(directory.path());
    assert!(!old.is_empty());
    root.ok("DELETE FROM notes WHERE id % 2 = 0").await;
    root.ok("STORAGE COMPACT TABLE notes").await;
    assert!(old.iter().all(|file| file.exists()), "the reader has them");

    eventually("the files of the reader that stands still are erased", || {
        // Each time, since the life begins when the server has looked.
        clock.advance_micros(i64::try_from(LIFE.as_micros()).expect("an hour"));
        let is_there = old.iter().any(|file| file.exists());
        async move { (!is_there).then_some(()) }
    })
    .await;
    assert_eq!(root.value("SELECT count(*) FROM notes").await, (ROWS / 2).to_string());

    // What was under way when it stood still comes, and then the reason why there is no more.
    let error = loop {
        match reader.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the rows end as if they were all"),
            Err(error) => break SqlError::from(error),
        }
    };
    assert_eq!(error.code(), "SNAPSHOT_TOO_OLD", "{error}");
    assert_eq!(error.grpc, tonic::Code::Aborted);
    assert!(error.message.contains("run it again"), "{error}");
    // Nothing is damaged, and the next statement reads everything.
    let checked = root.ok("STORAGE CHECK TABLE notes").await;
    assert!(!format!("{checked:?}").contains("missing"), "{checked:?}");
    assert_eq!(root.ok("SELECT id FROM notes").await.len() as i64, ROWS / 2);

    stop.send(()).expect("the server waits for it");
    running.stopped().await.expect("the server stops in order");
}
