//! Storages beside `local`: their directories, their numbers, and what becomes of their tables when one is away.

use std::path::{Path, PathBuf};

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, SECOND, new_table, rows_of};

fn create(db: &Database, name: &str, directory: &Path) -> Result<bool> {
    let new = NewStorage {
        name: name.to_owned(),
        location: directory.to_str().expect("UTF-8").to_owned(),
        if_not_exists: false,
    };
    block_on(db.engine.create_storage(&db.root, new))
}

fn segments_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory)
        .expect("reads")
        .map(|entry| entry.expect("an entry").path());
    let segments = |path: PathBuf| match path.is_dir() {
        true => segments_below(&path),
        false => usize::from(path.extension().is_some_and(|extension| extension == "parquet")),
    };
    entries.map(segments).sum()
}

#[test]
fn segments_go_where_the_table_says() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("deep/fast");
    assert!(create(&db, "fast", &place).expect("made"));
    let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast"), ("COMPRESSION", "zstd")]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    assert_eq!(segments_below(&place), 1);
    let db = db.reopen();
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
    db.insert(&db.root, &table, &[("b", 2)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    block_on(db.engine.compact_table(&db.root, &table.name)).expect("compacted");
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1), ("b", 2)]));
    let used = db.view().catalog().storages["fast"].clone();
    assert_eq!(Path::new(&used.uri), place);
}

#[test]
fn hazard_6_a_storage_is_not_dropped_while_a_table_uses_it() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    create(&db, "fast", directory.path()).expect("made");
    let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast")]);
    let error = refused(
        block_on(db.engine.drop_storage(&db.root, "fast", false)),
        ErrorCode::DependentObjects,
    );
    assert!(error.message.contains("public.t"), "{error}");
    block_on(db.engine.drop_table(&db.root, &table.name, false)).expect("dropped");
    assert!(block_on(db.engine.drop_storage(&db.root, "fast", false)).expect("dropped"));
    assert!(directory.path().is_dir());
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("reads") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir(&target).expect("made");
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[test]
fn what_readers_kept_in_a_dropped_storage_goes_after_a_crash_too() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("fast");
    create(&db, "fast", &place).expect("made");
    let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast")]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    let reader = db.view();
    block_on(db.engine.drop_table(&db.root, &table.name, false)).expect("dropped");
    assert!(block_on(db.engine.drop_storage(&db.root, "fast", false)).expect("dropped"));
    assert_eq!(segments_below(&place), 1);
    assert_eq!(rows_of(&reader, &db.root, &table), owned(&[("a", 1)]));

    let crashed = tempfile::tempdir().expect("a directory");
    copy_directory(db.directory.path(), crashed.path());
    let clock = db.clock.clone();
    // In this order nothing is erased.
    drop(db);
    drop(reader);
    assert_eq!(segments_below(&place), 1);
    let after = Database::open(crashed, clock, None).expect("opens");
    assert_eq!(after.view().catalog().storages.keys().collect::<Vec<_>>(), ["local"]);
    // It ends when what is to be erased is.
    drop(after);
    assert_eq!(segments_below(&place), 0);
}

#[test]
fn a_directory_is_one_storages_and_a_number_is_given_once() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    create(&db, "one", &path("a")).expect("made");
    std::os::unix::fs::symlink(path("a"), path("link")).expect("linked");
    std::fs::create_dir(path("full")).expect("made");
    std::fs::write(path("full/letter"), "dear").expect("written");
    let error = refused(create(&db, "two", &path("full")), ErrorCode::InvalidArgument);
    let says = |word: &str| error.message.contains(word);
    assert!(says("letter") && says(path("full").to_str().expect("UTF-8")), "{error}");
    assert_eq!(std::fs::read_dir(path("full")).expect("reads").count(), 1);
    let other = Database::new();
    let error = refused(create(&other, "two", &path("a")), ErrorCode::InvalidArgument);
    assert!(error.message.contains("storage of database"), "{error}");
    for same in ["a", "link"] {
        let error = refused(create(&db, "two", &path(same)), ErrorCode::AlreadyExists);
        assert!(error.message.contains("storage one"), "{error}");
    }
    refused(create(&db, "one", &path("b")), ErrorCode::AlreadyExists);
    let data_dir = db.directory.path();
    std::os::unix::fs::symlink(data_dir, path("data")).expect("linked");
    for (inside, named) in [
        (path("a/below"), "storage one"),
        (path("link/below/deep"), "storage one"),
        (directory.path().to_owned(), "storage one"),
        (path("data/segments"), "data directory"),
        (data_dir.join("segments/more"), "data directory"),
        (data_dir.parent().expect("it is in one").to_owned(), "data directory"),
    ] {
        let error = refused(create(&db, "two", &inside), ErrorCode::InvalidArgument);
        assert!(error.message.contains(named), "{error}");
    }
    let error = refused(create(&db, "two", &path("data")), ErrorCode::AlreadyExists);
    assert!(error.message.contains("data directory"), "{error}");
    let id = |db: &Database, name: &str| db.view().catalog().storages[name].id.0;
    assert_eq!(id(&db, "one"), 1);
    block_on(db.engine.drop_storage(&db.root, "one", false)).expect("dropped");
    let db = db.reopen();
    create(&db, "one", &path("a")).expect("made again");
    create(&db, "two", &path("b")).expect("made");
    assert_eq!((id(&db, "one"), id(&db, "two")), (2, 3));
    let db = db.reopen();
    assert_eq!((id(&db, "one"), id(&db, "two")), (2, 3));
}

fn request() -> ScanRequest {
    ScanRequest {
        fields: vec![ScanField::Column(0)],
        key: None,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 10,
    }
}

/// Checks that a table in this storage, which is away, is refused by whatever needs its rows.
fn check_refused(db: &Database, table: &Arc<Table>, storage: &str) {
    let refusals = [
        db.view().scan(&db.root, table, request()).map(|_| ()),
        db.insert(&db.root, table, &[("b", 2)]).map(|_| ()),
        db.engine.mutate(&db.view(), &db.root, table).map(|_| ()),
        block_on(db.engine.flush_table(&db.root, &table.name)).map(|_| ()),
    ];
    for refusal in refusals {
        let error = refused(refusal, ErrorCode::StorageError);
        assert!(
            error.message.contains(&table.name.to_string()) && error.message.contains(&format!("storage {storage}")),
            "{error}"
        );
    }
    let new = new_table("more", TableKind::Shared, &[("STORAGE", storage)]);
    refused(
        block_on(db.engine.create_table(&db.root, new, CreateMode::New)),
        ErrorCode::StorageError,
    );
}

#[test]
fn a_storage_that_is_away_costs_its_tables_and_no_others() {
    for instead in ["nothing", "a file", "an empty directory"] {
        let db = Database::new();
        let directory = tempfile::tempdir().expect("a directory");
        let (place, away) = (directory.path().join("fast"), directory.path().join("away"));
        create(&db, "fast", &place).expect("made");
        let there = db.table("there", TableKind::Shared, &[("STORAGE", "fast")]);
        let here = db.table("here", TableKind::Shared, &[]);
        for table in [&there, &here] {
            db.insert(&db.root, table, &[("a", 1)]).expect("inserted");
            block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
        }
        std::fs::rename(&place, &away).expect("moved");
        match instead {
            "a file" => std::fs::write(&place, b"in the way").expect("written"),
            "an empty directory" => std::fs::create_dir(&place).expect("made"),
            _ => {}
        }

        let db = db.reopen();
        check_refused(&db, &there, "fast");
        // Who may not know of the table learns nothing of it.
        let stranger = db.user("stranger", Role::User);
        refused(
            db.view().scan(&stranger, &there, request()).map(|_| ()),
            ErrorCode::TableNotFound,
        );
        db.insert(&db.root, &here, &[("b", 2)]).expect("inserted");
        assert_eq!(db.rows(&db.root, &here), owned(&[("a", 1), ("b", 2)]));
        db.clock.advance_micros(3_600 * SECOND);
        assert_eq!(db.engine.run_due(), 1, "only what is here is flushed");
        db.wait_for_jobs();
        // Nothing was made in its place.
        match instead {
            "a file" => std::fs::remove_file(&place).expect("removed"),
            "an empty directory" => std::fs::remove_dir(&place).expect("still empty"),
            _ => assert!(!place.exists()),
        }

        db.find_storages();
        check_refused(&db, &there, "fast");
        std::fs::rename(&away, &place).expect("moved back");
        check_refused(&db, &there, "fast");
        db.find_storages();
        assert_eq!(db.rows(&db.root, &there), owned(&[("a", 1)]));
        db.insert(&db.root, &there, &[("b", 2)]).expect("inserted");
        block_on(db.engine.flush_table(&db.root, &there.name)).expect("flushed");
        db.table("more", TableKind::Shared, &[("STORAGE", "fast")]);
        let db = db.reopen();
        assert_eq!(db.rows(&db.root, &there), owned(&[("a", 1), ("b", 2)]));
    }
}

#[test]
fn the_default_storage_may_be_away_too() {
    let db = Database::new();
    let ann = db.user("ann", Role::User);
    let (segments, away) = (db.directory.path().join("segments"), db.directory.path().join("away"));
    let table = db.table("t", TableKind::Shared, &[]);
    let stream = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "60")]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    db.insert(&ann, &stream, &[("s", 1)]).expect("inserted");
    std::fs::rename(&segments, &away).expect("moved");

    let db = db.reopen();
    check_refused(&db, &table, "local");
    // What has no segments is as it was.
    assert_eq!(db.rows(&ann, &stream), owned(&[("s", 1)]));
    db.insert(&ann, &stream, &[("t", 2)]).expect("inserted");
    db.user("bob", Role::User);
    assert!(!segments.exists());

    std::fs::rename(&away, &segments).expect("moved back");
    check_refused(&db, &table, "local");
    db.find_storages();
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
    db.insert(&db.root, &table, &[("b", 2)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    let db = db.reopen();
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1), ("b", 2)]));
    assert_eq!(db.rows(&ann, &stream), owned(&[("s", 1), ("t", 2)]));
}

#[test]
fn what_is_dropped_while_its_storage_is_away_is_erased_when_that_is_back() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (place, away) = (directory.path().join("fast"), directory.path().join("away"));
    create(&db, "fast", &place).expect("made");
    let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast")]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    std::fs::rename(&place, &away).expect("moved");
    let db = db.reopen();
    block_on(db.engine.drop_table(&db.root, &table.name, false)).expect("dropped");
    assert!(block_on(db.engine.drop_storage(&db.root, "fast", false)).expect("dropped"));
    db.find_storages();
    std::fs::rename(&away, &place).expect("moved back");
    assert_eq!(segments_below(&place), 1);
    db.find_storages();
    // It ends when what is to be erased is.
    drop(db);
    assert_eq!(segments_below(&place), 0);
}

#[test]
fn a_storage_that_goes_away_meanwhile_is_needed_by_its_segments_alone() {
    let db = Database::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (place, away) = (directory.path().join("fast"), directory.path().join("away"));
    create(&db, "fast", &place).expect("made");
    let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast")]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    std::fs::rename(&place, &away).expect("moved");
    let error = refused(
        block_on(db.engine.flush_table(&db.root, &table.name)).map(|_| ()),
        ErrorCode::StorageError,
    );
    assert!(error.message.contains("is away"), "{error}");
    assert!(!place.exists());
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
    std::fs::rename(&away, &place).expect("moved back");
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    assert_eq!(segments_below(&place), 1);
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
}
