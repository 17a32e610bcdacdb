//! The first start, restarts, and a directory that is in use.

use futures::executor::block_on;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;

use super::*;
use crate::testing::{Database, PASSWORD, ROOT_PASSWORD, START};

#[test]
fn a_restart_keeps_tables_rows_users_and_tokens() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let shared = db.table(
        "s",
        TableKind::Shared,
        &[("ACCESS_LEVEL", "public"), ("FLUSH_POLICY", "rows:7")],
    );
    let user = db.table("u", TableKind::User, &[]);
    let stream = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "60"), ("MAX_ROWS", "5")]);
    db.insert(&db.root, &shared, &[("x", 1)]).expect("inserted");
    db.insert(&a, &user, &[("y", 2)]).expect("inserted");
    db.insert(&a, &stream, &[("z", 3)]).expect("inserted");
    let claims = Claims {
        sub: "a".to_owned(),
        scope: 1,
        session: "s".to_owned(),
        credential_version: 1,
        exp: u64::MAX,
    };
    let token = db.engine.sign_token(&claims).expect("signed");

    let db = db.reopen();
    for (by, before, rows) in [
        (&a, &shared, owned(&[("x", 1)])),
        (&a, &user, owned(&[("y", 2)])),
        (&a, &stream, owned(&[("z", 3)])),
        (&db.root, &user, vec![]),
    ] {
        let table = db.find(before);
        assert_eq!(
            (&table.table_id, table.store, &table.options),
            (&before.table_id, before.store, &before.options)
        );
        assert_eq!(table.schema.columns, before.schema.columns);
        assert_eq!(table.schema.stored, before.schema.stored);
        assert_eq!((table.created_at_micros, table.next_column_id), (START, 3));
        assert_eq!(db.rows(by, &table), rows);
    }
    assert_eq!(db.engine.verify_token(&token).expect("still good"), claims);
    assert_eq!(
        db.engine.authenticate("a", PASSWORD, "p").expect("logs in").principal,
        a
    );
    db.engine.authenticate("root", ROOT_PASSWORD, "p").expect("logs in");
    // Ids go on where they were.
    let next = db.table("n", TableKind::Shared, &[]);
    assert!(next.store > stream.store && next.table_id != stream.table_id);
    assert!(db.user("b", Role::User).scope > a.scope);
}

#[test]
fn root_gets_a_random_password_in_a_file_of_its_own() {
    let directory = TempDir::new().expect("a directory");
    let clock = Arc::new(DrivenClock::new(START));
    refused(
        Database::open(directory, clock.clone(), Some("short")).map(|_| ()),
        ErrorCode::InvalidArgument,
    );

    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("root-password");
    // A first start that died half-way left one, behind the marker of the directory.
    std::fs::write(directory.path().join("FORMAT"), "kalamdb data directory, format 2\n").expect("written");
    std::fs::write(&path, "stale").expect("written");
    let db = Database::open(directory, clock, None).expect("opens");
    let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(&path).expect("reads");
    assert!(password.trim_end().len() >= 24, "{password}");
    let logged_in = db
        .engine
        .authenticate("root", password.trim_end(), "p")
        .expect("logs in");
    assert_eq!(logged_in.principal.role, Role::System);
    let db = db.reopen();
    assert_eq!(
        std::fs::read_to_string(db.directory.path().join("root-password")).expect("reads"),
        password
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let db = Database::new();
    let options = EngineOptions {
        data_dir: db.directory.path().to_owned(),
        durability: Durability::Synced,
        root_password: None,
        block_cache_bytes: 1 << 20,
        segment_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        statement_write_limit_bytes: 1 << 20,
        snapshot_life_ms: 60_000,
        token_life_seconds: 1,
        outside_issuer: None,
        maintenance: MaintenanceOptions::default(),
    };
    let error = refused(
        block_on(Engine::open(options, db.clock.clone())).map(|_| ()),
        ErrorCode::StorageError,
    );
    assert!(error.message.contains("in use"), "{error}");
}
