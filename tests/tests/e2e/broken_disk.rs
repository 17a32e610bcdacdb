//! A disk that fails below RocksDB and is good again: an error while it fails, then normal service by the same process, and nothing
//! that was acknowledged is lost. The system's own calls fail (`disk_fault`), or the directory is away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kalamdb_tests::{Client, Http, HttpReply, ROOT_PASSWORD, Server, Settings, SqlError, eventually};

use crate::disk_fault::DiskFault;

/// RocksDB writes its files after so little.
const SMALL_BUFFERS: [&str; 2] = ["--write-buffers", "4MiB"];

/// More than RocksDB holds in memory, by far.
const MANY_INSERTS: i64 = 400;

/// The words of the log when an opening is tried again.
const CANNOT_BE_OPENED: &str = "the database cannot be opened, which is tried again";

/// A server whose calls fail when the fault says so.
struct Broken {
    directory: tempfile::TempDir,
    fault: DiskFault,
    server: Server,
}

impl Broken {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let fault = DiskFault::new(directory.path());
        let settings = Settings {
            env: fault.variables(),
            ..Settings::with_args(&SMALL_BUFFERS)
        };
        let server = Server::start_with(&directory.path().join("data"), &settings);
        Broken {
            directory,
            fault,
            server,
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

/// What became of inserts, one row each.
#[derive(Default)]
struct Rows {
    next: i64,
    acknowledged: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
}

impl Rows {
    async fn create(client: &mut Client) -> Self {
        client.ok("CREATE TABLE kept (id BIGINT PRIMARY KEY, text TEXT)").await;
        let mut rows = Rows::default();
        for _ in 0..10 {
            rows.insert(client).await.expect("nothing is wrong yet");
        }
        rows
    }

    async fn insert(&mut self, client: &mut Client) -> Result<(), SqlError> {
        let id = self.next;
        self.next += 1;
        let sql = format!("INSERT INTO kept VALUES ({id}, repeat('long', 40000))");
        let inserted = client.run(&sql).await;
        match &inserted {
            Ok(_) => {
                self.acknowledged.insert(id);
            }
            Err(error) if matches!(error.code(), "STORAGE_ERROR" | "UNAVAILABLE") => {}
            // Also for one whose connection is lost.
            Err(_) => {
                self.unknown.insert(id);
            }
        }
        inserted.map(|_| ())
    }

    /// Inserts until one fails, in a way that says what the matter is.
    async fn insert_until_refused(&mut self, client: &mut Client) {
        for _ in 0..MANY_INSERTS {
            if let Err(error) = self.insert(client).await {
                assert!(matches!(error.code(), "UNKNOWN_OUTCOME" | "STORAGE_ERROR"), "{error}");
                return;
            }
        }
        panic!("the disk is broken, and takes inserts");
    }

    /// The rows are those that were acknowledged, and perhaps some whose outcome is not known.
    async fn check(&self, client: &mut Client) {
        let found = client.ok("SELECT id FROM kept ORDER BY id").await;
        let found: BTreeSet<i64> = found.iter().map(|row| row[0].parse().expect("a number")).collect();
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?} were acknowledged");
        let more: Vec<_> = found
            .difference(&self.acknowledged)
            .filter(|id| !self.unknown.contains(id))
            .collect();
        assert!(more.is_empty(), "{more:?} were refused");
    }
}

async fn get(server: &Server, path: &'static str) -> HttpReply {
    let http = Http::anonymous(server.http);
    tokio::task::spawn_blocking(move || http.get(path))
        .await
        .expect("an answer")
}

/// While the disk is broken: each write says so and what follows, reads go on, and the doors are open.
async fn check_refused(server: &Server, client: &mut Client, rows: &mut Rows) {
    for _ in 0..3 {
        let error = rows.insert(client).await.expect_err("no write is possible");
        assert_eq!(error.code(), "STORAGE_ERROR", "{error}");
        assert!(error.message.contains("the database is opened anew"), "{error}");
    }
    rows.check(client).await;
    assert_eq!(get(server, "/ready").await.status, 200);
}

/// Without anybody's doing: the same process takes writes on the same addresses, and a restart finds the same.
async fn check_healed(server: Server, data: &Path, mut rows: Rows) {
    let flight = server.flight;
    let mut client = eventually("writes are taken again", || {
        let id = rows.next;
        async move {
            let mut client = Client::login(flight, "root", ROOT_PASSWORD).await.ok()?;
            // What is refused is not there, so that the same row can be tried again.
            let inserted = client.run(&format!("INSERT INTO kept VALUES ({id}, 'healed')")).await;
            match inserted {
                Ok(_) => Some(client),
                Err(error) if error.code() == "DUPLICATE_KEY" => Some(client),
                Err(_) => None,
            }
        }
    })
    .await;
    rows.acknowledged.insert(rows.next);
    rows.next += 1;
    for _ in 0..100 {
        rows.insert(&mut client).await.expect("all goes on");
    }
    client.ok("FLUSH TABLE kept").await;
    rows.check(&mut client).await;
    assert_eq!(get(&server, "/ready").await.status, 200);
    let words = server.terminate();
    assert!(
        words.contains("writes are refused although the disk takes them again: the database is opened anew"),
        "{words}"
    );
    let server = Server::start(data);
    rows.check(&mut server.root().await).await;
    server.terminate();
}

/// The calls that `what` says fail until a write was refused.
async fn check_broken(what: &str) {
    let broken = Broken::start();
    let mut client = broken.server.root().await;
    let mut rows = Rows::create(&mut client).await;
    broken.fault.breaks(what);
    rows.insert_until_refused(&mut client).await;
    check_refused(&broken.server, &mut client, &mut rows).await;
    broken.fault.is_good_again();
    let data = broken.data();
    let Broken { server, directory, .. } = broken;
    check_healed(server, &data, rows).await;
    drop(directory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_synced_is_left_when_the_disk_is_good_again() {
    check_broken("sync .log probe-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_is_left_when_the_disk_is_good_again() {
    check_broken("write .log probe-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_rocksdb_that_cannot_be_written_are_written_when_the_disk_is_good_again() {
    for what in ["write .sst probe-", "sync .sst probe-"] {
        check_broken(what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_cannot_be_synced_is_left_when_the_disk_is_good_again() {
    check_broken("sync MANIFEST probe-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_created_is_created_when_the_disk_is_good_again() {
    check_broken("create .log probe-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_away_takes_writes_when_it_is_back() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &Settings::with_args(&SMALL_BUFFERS));
    let mut client = server.root().await;
    let mut rows = Rows::create(&mut client).await;
    let (place, elsewhere) = (data.join("rocksdb"), data.join("elsewhere"));
    fs::rename(&place, &elsewhere).expect("renamed");
    rows.insert_until_refused(&mut client).await;
    check_refused(&server, &mut client, &mut rows).await;
    assert!(!place.exists(), "nothing is made where the directory was");
    fs::rename(&elsewhere, &place).expect("renamed");
    check_healed(server, &data, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_fails_is_tried_again_and_everybody_is_told() {
    let broken = Broken::start();
    let mut client = broken.server.root().await;
    let mut rows = Rows::create(&mut client).await;
    // The file by which the disk is tried can be written, those of RocksDB cannot, and recovery writes one.
    broken.fault.breaks("sync .sst");
    rows.insert_until_refused(&mut client).await;
    let server = &broken.server;
    eventually("an opening fails", || async {
        server.stderr().contains(CANNOT_BE_OPENED).then_some(())
    })
    .await;
    let health = get(server, "/health").await;
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (200, Some("reopening"))
    );
    let http = server.http_root();
    let sql = tokio::task::spawn_blocking(move || http.sql("SELECT 1"))
        .await
        .expect("an answer");
    for answer in [get(server, "/ready").await, sql] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "UNAVAILABLE");
    }
    let error = Client::login(server.flight, "root", ROOT_PASSWORD).await.err();
    let error = error.expect("the door is closed");
    assert_eq!(error.code(), "UNAVAILABLE", "{error}");
    // Where a disk is not mounted there is an empty directory, which must not become a new database.
    let (data, elsewhere) = (broken.data(), broken.directory.path().join("elsewhere"));
    let tried = || server.stderr().matches(CANNOT_BE_OPENED).count();
    let before = tried();
    eventually("another opening fails", || async { (tried() > before).then_some(()) }).await;
    // Now it pauses.
    fs::rename(&data, &elsewhere).expect("renamed");
    fs::create_dir(&data).expect("created");
    broken.fault.is_good_again();
    eventually("the database is missed", || async {
        server.stderr().contains("is not there any more").then_some(())
    })
    .await;
    // The old one's lock is held by nobody, and the new directory is as it was.
    fs::remove_dir(&data).expect("nothing was made in it");
    fs::rename(&elsewhere, &data).expect("renamed");
    let Broken { server, directory, .. } = broken;
    check_healed(server, &data, rows).await;
    drop(directory);
}
