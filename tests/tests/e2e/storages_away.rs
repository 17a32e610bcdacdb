//! Storages that cannot be opened when the server starts: their tables are refused and say why, and served by the same process when the
//! cause is gone. The log says each of both once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use kalamdb_tests::{Client, ROOT_PASSWORD, Server, Settings, eventually};

use crate::disk_fault::DiskFault;

/// A table in a storage of its own and one in `local`, with a row in a segment each.
struct Tables {
    directory: tempfile::TempDir,
}

impl Tables {
    async fn new() -> Self {
        let tables = Tables {
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
        };
        let server = Server::start(&tables.data());
        let mut root = server.root().await;
        let fast = tables.fast().display().to_string();
        root.ok(&format!("CREATE STORAGE fast PATH '{fast}'")).await;
        for (table, options) in [("there", " WITH (STORAGE = 'fast')"), ("here", "")] {
            root.ok(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY){options}"))
                .await;
            root.ok(&format!("INSERT INTO {table} VALUES (1)")).await;
            root.ok(&format!("FLUSH TABLE {table}")).await;
        }
        server.terminate();
        tables
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn fast(&self) -> PathBuf {
        self.directory.path().join("fast")
    }
}

/// Whatever needs rows of the table says what the matter is.
async fn check_refused(root: &mut Client, table: &str, storage: &str, cause: &str) {
    for sql in [
        format!("SELECT * FROM {table}"),
        format!("INSERT INTO {table} VALUES (2)"),
        format!("DELETE FROM {table}"),
        format!("FLUSH TABLE {table}"),
    ] {
        let error = root.error(&sql).await;
        assert_eq!(error.code(), "STORAGE_ERROR", "{sql}: {error}");
        for words in [table, &format!("storage {storage}"), cause, "tried again every second"] {
            assert!(error.message.contains(words), "{sql}: {error}");
        }
    }
}

/// Without anybody's doing.
async fn check_served(server: &Server, root: &mut Client, table: &str) {
    let flight = server.flight;
    let read = format!("SELECT id FROM {table}");
    let rows = eventually("the table is served", || {
        let read = read.clone();
        async move {
            let mut client = Client::login(flight, "root", ROOT_PASSWORD).await.ok()?;
            client.rows(&read).await.ok()
        }
    })
    .await;
    assert_eq!(rows, [["1"]]);
    root.ok(&format!("INSERT INTO {table} VALUES (2)")).await;
    root.ok(&format!("FLUSH TABLE {table}")).await;
    assert_eq!(root.value(&format!("SELECT count(*) FROM {table}")).await, "2");
}

fn times(words: &str, of: &str) -> usize {
    words.matches(of).count()
}

const CANNOT_BE_OPENED: &str = "a storage cannot be opened";
const IS_THERE: &str = "a storage that was away is there";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storages_that_are_not_mounted_at_the_start_are_served_when_they_are() {
    let tables = Tables::new().await;
    let away = |place: &Path| place.with_extension("away");
    let places = [tables.fast(), tables.data().join("segments")];
    for place in &places {
        fs::rename(place, away(place)).expect("renamed");
        // As the place of a disk looks that is not mounted.
        fs::create_dir(place).expect("created");
    }
    let server = Server::start(&tables.data());
    let mut root = server.root().await;
    for (table, storage) in [("there", "fast"), ("here", "local")] {
        check_refused(&mut root, table, storage, "Mount its disk").await;
    }
    root.ok("CREATE STREAM TABLE events (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 86400)")
        .await;
    root.ok("INSERT INTO events VALUES (1)").await;
    for ((table, storage), place) in [("there", "fast"), ("here", "local")].into_iter().zip(&places) {
        fs::remove_dir(place).expect("nothing was made in it");
        check_refused(&mut root, table, storage, "Mount its disk").await;
        fs::rename(away(place), place).expect("renamed");
        check_served(&server, &mut root, table).await;
    }
    let words = server.terminate();
    assert_eq!(
        (times(&words, CANNOT_BE_OPENED), times(&words, IS_THERE)),
        (2, 2),
        "{words}"
    );
    let server = Server::start(&tables.data());
    let mut root = server.root().await;
    for table in ["there", "here"] {
        assert_eq!(root.value(&format!("SELECT count(*) FROM {table}")).await, "2");
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_another_process_has_at_the_start_is_served_when_that_lets_go() {
    let tables = Tables::new().await;
    let mark = File::open(tables.fast().join("KALAMDB-STORAGE")).expect("opens");
    mark.lock().expect("locked");
    let server = Server::start(&tables.data());
    let mut root = server.root().await;
    let cause = format!("in use by process {}", std::process::id());
    check_refused(&mut root, "there", "fast", &cause).await;
    assert_eq!(root.value("SELECT count(*) FROM here").await, "1");
    drop(mark);
    check_served(&server, &mut root, "there").await;
    let words = server.terminate();
    assert_eq!(
        (times(&words, CANNOT_BE_OPENED), times(&words, IS_THERE)),
        (1, 1),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_in_which_nothing_can_be_written_at_the_start_is_served_when_it_can() {
    for what in ["write .used", "create probe-"] {
        let tables = Tables::new().await;
        let fault = DiskFault::new(tables.directory.path());
        fault.breaks(what);
        let settings = Settings {
            env: fault.variables(),
            ..Settings::default()
        };
        let server = Server::start_with(&tables.data(), &settings);
        let mut root = server.root().await;
        check_refused(&mut root, "there", "fast", "Input/output error").await;
        check_refused(&mut root, "here", "local", "Input/output error").await;
        fault.is_good_again();
        check_served(&server, &mut root, "there").await;
        check_served(&server, &mut root, "here").await;
        let words = server.terminate();
        assert_eq!(
            (times(&words, CANNOT_BE_OPENED), times(&words, IS_THERE)),
            (2, 2),
            "{words}"
        );
    }
}
