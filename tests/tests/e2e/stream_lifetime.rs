//! STREAM rows go at their time to live, to the millisecond: the server in process, on a clock that the test drives.

use std::sync::Arc;

use kalamdb_core::DrivenClock;
use kalamdb_server::{Config, Running, serve};
use kalamdb_tests::Client;

/// 2026-01-01T00:00:00Z.
const START_MICROS: i64 = 1_767_225_600_000_000;

struct Driven {
    clock: Arc<DrivenClock>,
    running: Running,
    stop: tokio::sync::oneshot::Sender<()>,
    directory: tempfile::TempDir,
}

impl Driven {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let clock = Arc::new(DrivenClock::new(START_MICROS));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shutdown = async {
            // A test that panics drops the sender, which stops the server as well.
            let _ = stopped.await;
        };
        let running = serve(
            Config::new(directory.path()),
            Arc::<DrivenClock>::clone(&clock),
            shutdown,
        )
        .await
        .unwrap_or_else(|error| panic!("the server does not start: {error}"));
        Driven {
            clock,
            running,
            stop,
            directory,
        }
    }

    async fn root(&self) -> Client {
        let password = std::fs::read_to_string(self.directory.path().join("root-password")).expect("it was written");
        Client::login(self.running.flight, "root", password.trim_end())
            .await
            .expect("root can log in")
    }

    fn advance_ms(&self, ms: i64) {
        self.clock.advance_micros(ms * 1000);
    }

    async fn stop(self) {
        self.stop.send(()).expect("the server waits for it");
        self.running.stopped().await.expect("the server stops in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_gone_at_its_ttl_to_the_millisecond() {
    let driven = Driven::start().await;
    let mut root = driven.root().await;
    root.ok("CREATE STREAM TABLE events (id BIGINT PRIMARY KEY, v TEXT) WITH (TTL_SECONDS = 10)")
        .await;
    root.ok("CREATE TABLE names (id BIGINT PRIMARY KEY, name TEXT)").await;
    root.ok("INSERT INTO names VALUES (1, 'first'), (2, 'second')").await;

    driven.advance_ms(1_000);
    root.ok("INSERT INTO events VALUES (1, 'a')").await;
    driven.advance_ms(4_000);
    root.ok("INSERT INTO events VALUES (2, 'b')").await;
    // UPDATE keeps the expiry.
    assert_eq!(
        root.update("UPDATE events SET v = 'aa' WHERE id = 1")
            .await
            .expect("the update runs"),
        1
    );

    // One millisecond before its time the first row is there for everything ...
    driven.advance_ms(5_999);
    assert_eq!(
        root.ok("SELECT id, v FROM events ORDER BY id").await,
        [["1", "aa"], ["2", "b"]]
    );
    assert_eq!(root.value("SELECT count(*) FROM events").await, "2");
    assert_eq!(
        root.error("INSERT INTO events VALUES (1, 'again')").await.code(),
        "DUPLICATE_KEY"
    );
    assert_eq!(
        root.ok("SELECT n.name FROM names n JOIN events e ON e.id = n.id ORDER BY 1")
            .await
            .len(),
        2
    );

    // ... and at its time it is gone for everything.
    driven.advance_ms(1);
    assert_eq!(root.ok("SELECT id, v FROM events ORDER BY id").await, [["2", "b"]]);
    assert_eq!(root.value("SELECT count(*) FROM events").await, "1");
    assert!(root.ok("SELECT v FROM events WHERE id = 1").await.is_empty());
    assert_eq!(
        root.ok("SELECT n.name FROM names n JOIN events e ON e.id = n.id").await,
        [["second"]]
    );
    assert_eq!(
        root.update("UPDATE events SET v = 'x' WHERE id = 1")
            .await
            .expect("the update runs"),
        0
    );
    assert_eq!(
        root.update("DELETE FROM events WHERE id = 1")
            .await
            .expect("the delete runs"),
        0
    );

    // Its key is free again, and the new row has a time of its own.
    root.ok("INSERT INTO events VALUES (1, 'new')").await;
    driven.advance_ms(3_999);
    assert_eq!(
        root.ok("SELECT id, v FROM events ORDER BY id").await,
        [["1", "new"], ["2", "b"]]
    );
    driven.advance_ms(1);
    assert_eq!(root.ok("SELECT id, v FROM events").await, [["1", "new"]]);
    driven.advance_ms(5_999);
    assert_eq!(root.value("SELECT count(*) FROM events").await, "1");
    driven.advance_ms(1);
    assert_eq!(root.value("SELECT count(*) FROM events").await, "0");
    driven.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_rows_drops_the_oldest_of_one_user() {
    let driven = Driven::start().await;
    let mut root = driven.root().await;
    root.ok("CREATE STREAM TABLE last (id BIGINT PRIMARY KEY, v BIGINT) WITH (TTL_SECONDS = 100, MAX_ROWS = 3)")
        .await;
    root.ok("CREATE USER 'other' WITH PASSWORD 'the other has a password' ROLE user")
        .await;
    let mut other = Client::login(driven.running.flight, "other", "the other has a password")
        .await
        .expect("a login");
    other.ok("INSERT INTO last VALUES (1, 1), (2, 2), (3, 3)").await;

    for id in [9, 8, 7, 6, 5] {
        driven.advance_ms(10);
        root.ok(&format!("INSERT INTO last VALUES ({id}, {id})")).await;
    }
    // The oldest go first, whatever their key.
    assert_eq!(root.ok("SELECT id FROM last ORDER BY id").await, [["5"], ["6"], ["7"]]);
    // A statement that alone brings more keeps the last of them.
    root.ok("INSERT INTO last VALUES (20, 0), (21, 0), (22, 0), (23, 0)")
        .await;
    assert_eq!(root.value("SELECT count(*) FROM last").await, "3");
    // A dropped row's key is free.
    root.ok("INSERT INTO last VALUES (9, 1)").await;
    assert_eq!(root.value("SELECT count(*) FROM last").await, "3");
    assert_eq!(other.ok("SELECT id FROM last ORDER BY id").await, [["1"], ["2"], ["3"]]);

    // Expired rows do not count: three new ones fit.
    driven.advance_ms(100_000);
    root.ok("INSERT INTO last VALUES (5, 5), (6, 6), (7, 7)").await;
    assert_eq!(root.ok("SELECT id FROM last ORDER BY id").await, [["5"], ["6"], ["7"]]);
    driven.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_life() {
    let driven = Driven::start().await;
    let mut root = driven.root().await;
    let renew_ms = 10 * 60 * 1000;
    let mut passed_ms = 0;
    // Calls keep the session from idling; the token's life of 12 hours is counted from the handshake.
    while passed_ms + renew_ms < 12 * 3600 * 1000 {
        driven.advance_ms(renew_ms);
        passed_ms += renew_ms;
        root.ok("SELECT 1").await;
    }
    driven.advance_ms(renew_ms);
    let error = root.error("SELECT 1").await;
    assert_eq!(error.code(), "UNAUTHENTICATED", "{error}");
    driven.stop().await;
}
