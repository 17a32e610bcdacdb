//! A restart keeps everything; a directory has one server at a time.

use kalamdb_tests::{Client, ROOT_PASSWORD, Server, Settings};

/// Everything that a restart must keep, as SQL shows it.
const KEPT: &[&str] = &[
    "SELECT * FROM system.namespaces ORDER BY namespace_id",
    "SELECT * FROM system.tables ORDER BY table_id",
    "SELECT * FROM system.table_schemas ORDER BY table_id, version",
    "SELECT * FROM system.users ORDER BY user_id",
    "SELECT * FROM system.storages ORDER BY storage_id",
    "SELECT name, value, unit, \"default\", source, description FROM system.settings \
     WHERE name NOT LIKE '%listen%' ORDER BY name",
    "SELECT *, _seq, _updated FROM app.shared ORDER BY id",
    "SELECT *, _seq, _updated FROM app.composite ORDER BY b, a",
    "SELECT *, _seq, _updated FROM app.mine ORDER BY id",
    "SELECT *, _seq, _updated FROM app.events ORDER BY id",
    "SELECT *, _seq FROM app.unkeyed ORDER BY v, _seq",
    "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default \
     FROM information_schema.columns WHERE table_schema = 'app' ORDER BY 1, 2, ordinal_position",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_every_table_row_user_and_setting() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let changed = ["--max-queries-per-user", "37", "--statement-timeout", "47s"];
    let server = Server::start_with(directory.path(), &Settings::with_args(&changed));
    let mut root = server.root().await;
    for sql in [
        "CREATE NAMESPACE app",
        "CREATE TABLE app.shared (id BIGINT PRIMARY KEY, d DECIMAL(38,10) DEFAULT 0.5, t TIMESTAMP, x BYTEA) \
         WITH (ACCESS_LEVEL = 'public', FLUSH_POLICY = 'rows:1000,interval:60s')",
        "CREATE TABLE app.composite (v TEXT, a INTEGER, b TEXT, PRIMARY KEY (b, a))",
        "CREATE USER TABLE app.mine (id BIGINT PRIMARY KEY, v TEXT NOT NULL)",
        "CREATE STREAM TABLE app.events (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 86400, MAX_ROWS = 100)",
        "CREATE TABLE app.unkeyed (v TEXT)",
        "INSERT INTO app.shared VALUES (1, 12345678901234567890.0123456789, '2026-01-02 03:04:05.678901', '\\x00ff')",
        "INSERT INTO app.shared (id) VALUES (2)",
        "INSERT INTO app.composite VALUES ('p', 2, 'k'), ('q', 1, 'k'), ('r', -1, 'a')",
        "INSERT INTO app.mine VALUES (1, 'of root')",
        "INSERT INTO app.events VALUES (1), (2)",
        "INSERT INTO app.unkeyed VALUES ('same'), ('same')",
        "UPDATE app.composite SET v = 'changed' WHERE a = 1",
        "DELETE FROM app.events WHERE id = 2",
        "CREATE TABLE app.gone (id BIGINT PRIMARY KEY)",
        "INSERT INTO app.gone VALUES (1)",
        "DROP TABLE app.gone",
        "CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE service",
        "CREATE USER 'bob' WITH PASSWORD 'bob has a long password' ROLE user",
        "DROP USER 'bob'",
    ] {
        root.ok(sql).await;
    }
    let mut ann = server.login("ann", "ann has a long password").await;
    ann.ok("INSERT INTO app.mine VALUES (1, 'of ann')").await;
    let before = everything(&mut root).await;
    let last_seq: u64 = root
        .value("SELECT max(_seq) FROM app.unkeyed")
        .await
        .parse()
        .expect("a number");
    server.terminate();

    // The password of the first start stays: the variable is for a new database.
    let settings = Settings {
        own_root_password: true,
        ..Settings::with_args(&changed)
    };
    let server = Server::start_with(directory.path(), &settings);
    let mut root = server.root().await;
    for (name, value) in [("max_queries_per_user", "37"), ("statement_timeout", "47")] {
        let found = root
            .value(&format!("SELECT value FROM system.settings WHERE name = '{name}'"))
            .await;
        assert_eq!(found, value, "{name}");
    }
    let after = everything(&mut root).await;
    for (query, (before, after)) in KEPT.iter().zip(before.iter().zip(&after)) {
        assert_eq!(before, after, "{query}");
    }
    let mut ann = server.login("ann", "ann has a long password").await;
    assert_eq!(ann.ok("SELECT * FROM app.mine").await, [["1", "of ann"]]);
    let error = Client::login(server.flight, "bob", "bob has a long password")
        .await
        .err()
        .expect("bob is gone");
    assert_eq!(error.code(), "UNAUTHENTICATED", "{error}");

    // Names, keys and constraints hold as before, and numbers go on.
    assert_eq!(
        root.error("INSERT INTO app.composite VALUES ('x', 1, 'k')")
            .await
            .code(),
        "DUPLICATE_KEY"
    );
    assert_eq!(
        root.error("INSERT INTO app.mine VALUES (2, NULL)").await.code(),
        "NOT_NULL_VIOLATION"
    );
    root.ok("INSERT INTO app.shared (id) VALUES (3)").await;
    let seq: u64 = root
        .value("SELECT _seq FROM app.shared WHERE id = 3")
        .await
        .parse()
        .expect("a number");
    assert!(seq > last_seq, "_seq {seq} after the restart, {last_seq} before");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let Err(refusal) = Server::try_start(directory.path(), &Settings::default()) else {
        panic!("two servers run on {}", directory.path().display());
    };
    assert!(!refusal.status.success());
    let path = directory.path().display().to_string();
    assert!(
        refusal.stderr.contains(&path),
        "the message names the directory: {}",
        refusal.stderr
    );
    assert!(
        refusal.stderr.contains("use"),
        "the message says that it is in use: {}",
        refusal.stderr
    );
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);

    // The first one took no harm, and its end frees the directory.
    server.root().await.ok("SELECT 1").await;
    server.terminate();
    Server::start(directory.path()).terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_password_is_made_once_and_kept_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let settings = Settings {
        own_root_password: true,
        ..Settings::default()
    };
    let server = Server::start_with(directory.path(), &settings);
    let file = directory.path().join("root-password");
    let password = std::fs::read_to_string(&file).expect("the first start writes it");
    let mode = std::fs::metadata(&file)
        .expect("the file is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut root = server.login("root", password.trim_end()).await;
    assert_eq!(root.value("SELECT CURRENT_USER").await, "root");
    let stderr = server.terminate();
    assert!(stderr.contains("root-password"), "it prints where: {stderr}");
    assert!(!stderr.contains(password.trim_end()), "it never prints what");

    let server = Server::start(directory.path());
    assert_eq!(std::fs::read_to_string(&file).expect("the file stays"), password);
    server.login("root", password.trim_end()).await;
    let error = Client::login(server.flight, "root", ROOT_PASSWORD)
        .await
        .err()
        .expect("another password");
    assert_eq!(error.code(), "UNAUTHENTICATED", "{error}");
}

async fn everything(root: &mut Client) -> Vec<Vec<Vec<String>>> {
    let mut found = Vec::new();
    for query in KEPT {
        found.push(root.ok(query).await);
    }
    found
}

/// Copies a data directory, locks included, as `cp -a` does.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("there is a `cp`").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_directory_leaves_the_storages_of_the_other_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let fast = directory.path().join("fast");
    let server = Server::start(&first);
    let mut root = server.root().await;
    root.ok(&format!("CREATE STORAGE fast PATH '{}'", fast.display())).await;
    root.ok("CREATE TABLE kept (id BIGINT PRIMARY KEY) WITH (STORAGE = 'fast')")
        .await;
    root.ok("CREATE TABLE here (id BIGINT PRIMARY KEY)").await;
    for id in [1, 2] {
        root.ok(&format!("INSERT INTO kept VALUES ({id})")).await;
        root.ok("FLUSH TABLE kept").await;
    }
    root.ok("INSERT INTO here VALUES (1)").await;
    server.terminate();
    copy(&first, &second);

    let server = Server::start(&first);
    let mut root = server.root().await;
    let other = Server::start(&second);
    assert_away(&other, &format!("in use by process {}", server.process_id())).await;
    root.ok("STORAGE COMPACT TABLE kept").await;
    assert_eq!(root.value("SELECT count(*) FROM kept").await, "2");
    other.terminate();
    server.terminate();

    // What the first one erased meanwhile, the second one still names; and what that would erase, the first one needs.
    let other = Server::start(&second);
    assert_away(&other, "another copy of this database's data directory").await;
    other.root().await.ok("DROP TABLE kept").await;
    other.terminate();
    let server = Server::start(&first);
    assert_eq!(server.root().await.value("SELECT count(*) FROM kept").await, "2");
    server.terminate();
}

/// Checks that the tables in the storage are refused for this reason, and no others.
async fn assert_away(server: &Server, reason: &str) {
    let mut root = server.root().await;
    for sql in [
        "SELECT * FROM kept",
        "INSERT INTO kept VALUES (9)",
        "STORAGE COMPACT TABLE kept",
    ] {
        let error = root.error(sql).await;
        assert_eq!(error.code(), "STORAGE_ERROR", "{error}");
        assert!(error.message.contains(reason), "{error}");
    }
    assert_eq!(root.value("SELECT count(*) FROM here").await, "1");
}
