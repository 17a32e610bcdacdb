//! A data directory that was written once, catalog and all, opens and holds what was written for as long as there is a KalamDB
//! that says it reads format 2.
//!
//! It is in `fixtures/format-2`: `data` is the directory, `dump.txt` what is in it as texts, `token` a bearer token that it signed.
//! `cargo test -p kalamdb-core write_the_fixture -- --ignored` writes it anew: only for what format 2 gains before it is released.
//! `write_the_dump` writes `dump.txt` alone, for a build that shows the same things in other words.
//! Storages beside `local` are not in it, because their absolute paths cannot be; one that was made and dropped is, and
//! `kalamdb-store`'s own fixture has segments in one. Grants and quotas have a fixture of their own (`rights`).

mod rights;
mod write;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::executor::block_on;
use tempfile::TempDir;

use super::*;
use crate::testing::{Database, PASSWORD, ROOT_PASSWORD, SECOND, START, scan};

/// When it is opened: rows of STREAM tables live then.
const LATER: i64 = START + 1000 * SECOND;

/// Rows of the table that was loaded in bulk, and from which of them on they were changed and deleted.
const LOADED: i64 = append::BULK_FROM_ROWS as i64;
const CHANGED_FROM: i64 = LOADED - 100;
const DELETED_FROM: i64 = LOADED - 50;

/// What of SYSTEM tables is in `dump.txt`: the columns of format 2, whatever a later version has beside them.
const SYSTEM_TABLES: [(&str, &[&str]); 5] = [
    (
        "users",
        &[
            "user_id",
            "username",
            "role",
            "created_at",
            "updated_at",
            "locked_until",
        ],
    ),
    (
        "namespaces",
        &[
            "namespace_id",
            "description",
            "options",
            "table_count",
            "created_at",
            "updated_at",
        ],
    ),
    (
        "tables",
        &[
            "table_id",
            "namespace_id",
            "table_name",
            "table_type",
            "schema_version",
            "access_level",
            "storage_id",
            "options",
            "created_at",
            "updated_at",
        ],
    ),
    (
        "table_schemas",
        &["table_id", "version", "change", "columns", "created_at"],
    ),
    (
        "storages",
        &[
            "storage_id",
            "storage_type",
            "uri",
            "usage_count",
            "created_at",
            "updated_at",
        ],
    ),
];

#[test]
fn everything_is_there_and_stays_through_flush_compaction_and_restart() {
    let expected = std::fs::read_to_string(fixture().join("dump.txt")).expect("reads");
    let db = open(unpacked());
    assert_same(&dump(&db), &expected);
    check_loaded(&db);

    let rows = dump_rows(&db);
    for table in stored_tables(&db).into_iter().filter(|table| table.kind.flushes()) {
        block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
        block_on(db.engine.compact_table(&db.root, &table.name)).expect("compacted");
        let checked = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
        assert_eq!(checked.problems.len(), 0, "{}", table.name);
    }
    assert_same(&dump_rows(&db), &rows);
    check_loaded(&db);
    let db = db.reopen();
    assert_same(&dump_rows(&db), &rows);
    check_loaded(&db);
}

#[test]
fn its_users_log_in_and_its_tokens_are_good() {
    let db = open(unpacked());
    for (user, password) in [
        ("root", ROOT_PASSWORD),
        ("dora", PASSWORD),
        ("sven", write::NEW_PASSWORD),
        ("ann", PASSWORD),
    ] {
        let found = db.engine.authenticate(user, password, "p").expect("logs in");
        assert_eq!(found.principal.user_id, user);
    }
    for (user, password) in [
        ("ann", ROOT_PASSWORD),
        ("sven", PASSWORD),
        ("bob", PASSWORD),
        ("gone", PASSWORD),
    ] {
        refused(db.engine.authenticate(user, password, "p"), ErrorCode::Unauthenticated);
    }
    let token = std::fs::read_to_string(fixture().join("token")).expect("reads");
    let claims = db.engine.verify_token(&token).expect("one of its own");
    let ann = db.engine.user(&db.view(), "ann").expect("reads").expect("is there");
    assert_eq!(claims, write::claims(&ann));
}

#[test]
fn its_numbers_go_on_where_they_ended() {
    let db = open(unpacked());
    let tables = stored_tables(&db);
    let scopes: Vec<_> = people(&db).into_iter().map(|user| user.principal.scope).collect();
    let table = db.table("later", TableKind::Shared, &[]);
    assert!(
        tables
            .iter()
            .all(|before| before.store < table.store && before.table_id != table.table_id)
    );
    let user = db.user("later", Role::User);
    assert!(scopes.iter().all(|before| *before < user.scope));
    assert_eq!(db.engine.identifier_floor_micros(), write::MARK + 60 * SECOND);
    // The first was dropped, and its number is not given again.
    let directory = TempDir::new().expect("a directory");
    let new = NewStorage {
        name: "fast".to_owned(),
        location: directory.path().join("fast").display().to_string(),
        if_not_exists: false,
    };
    assert!(block_on(db.engine.create_storage(&db.root, new)).expect("made"));
    assert_eq!(db.view().catalog().storages["fast"].id.0, 2);
}

/// The texts that the catalog keeps have the form that `docs/format.md` draws.
#[test]
fn its_texts_are_drawn_in_the_document() {
    let document = include_str!("../../../../docs/format.md");
    let db = open(unpacked());
    let view = db.view();
    let table = |name: &str| {
        view.catalog()
            .table(&TableName::new("public", name))
            .expect("there")
            .clone()
    };
    let short = view.catalog().view(&TableName::new("chat", "short")).expect("there");
    let notes = table("notes");
    for text in [
        serde_json::to_string(&notes.options).expect("JSON"),
        serde_json::to_string(&short.definition).expect("JSON"),
        notes.schema.columns_json(),
    ] {
        assert!(
            document.lines().any(|line| line.trim() == text),
            "docs/format.md lacks: {text}"
        );
    }
    let state = &view.state;
    let mut hashes = Vec::new();
    for user in people(&db) {
        let row = system_rows::find_user(state, &user.principal.user_id)
            .expect("reads")
            .expect("is there");
        hashes.extend(row.password_hash);
    }
    assert_eq!(hashes.len(), 4);
    for hash in hashes {
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-2")
}

/// A copy of it.
fn unpacked() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    copy_directory(&fixture().join("data"), directory.path());
    directory
}

fn open(directory: TempDir) -> Database {
    Database::open(directory, Arc::new(DrivenClock::new(LATER)), None).expect("opens")
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("reads") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[track_caller]
fn assert_same(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

/// The rows of the table that is too long for the dump.
fn check_loaded(db: &Database) {
    let name = TableName::new("public", write::LOADED_TABLE);
    let table = db.view().catalog().table(&name).expect("there").clone();
    let expected = (0..DELETED_FROM).map(|id| {
        let text = if id < CHANGED_FROM {
            format!("row {id}")
        } else {
            format!("changed {id}")
        };
        (text, id)
    });
    assert_eq!(db.rows(&db.root, &table), expected.collect::<Vec<_>>());
}

fn stored_tables(db: &Database) -> Vec<Arc<Table>> {
    let tables = db.view().catalog().tables.values().cloned().collect::<Vec<_>>();
    tables
        .into_iter()
        .filter(|table| table.kind != TableKind::System)
        .collect()
}

fn people(db: &Database) -> Vec<UserRecord> {
    let view = db.view();
    let ids = db.engine.user_ids(&view).expect("reads");
    let found = ids
        .iter()
        .map(|id| db.engine.user(&view, id).expect("reads").expect("is there"));
    found.collect()
}

/// Everything that `dump.txt` has.
fn dump(db: &Database) -> String {
    let mut out = String::new();
    let view = db.view();
    let catalog = view.catalog();
    for user in people(db) {
        let Principal {
            user_id, role, scope, ..
        } = &user.principal;
        let version = user.credential_version;
        writeln!(
            out,
            "user {user_id} {role:?}, scope {}, credential version {version}",
            scope.0
        )
        .expect("text");
    }
    for table in stored_tables(db) {
        let Table {
            table_id,
            name,
            kind,
            store,
            schema,
            next_column_id,
            options,
            ..
        } = table.as_ref();
        writeln!(
            out,
            "table {name} {table_id} {kind:?}, store {store}, version {}, key {:?}, next column {next_column_id}, {options:?}",
            schema.version.0, schema.primary_key
        )
        .expect("text");
        for column in &schema.columns {
            writeln!(out, "    {column:?}").expect("text");
        }
    }
    for stored in catalog.views.values() {
        writeln!(
            out,
            "view {} {}, version {}, {:?}",
            stored.name, stored.view_id, stored.schema.version.0, stored.definition
        )
        .expect("text");
        for column in &stored.schema.columns {
            writeln!(out, "    {column:?}").expect("text");
        }
    }
    for storage in catalog.storages.values() {
        writeln!(out, "{storage:?}").expect("text");
    }
    for job in db.engine.job_snapshots() {
        writeln!(out, "{job:?}").expect("text");
    }
    for (name, columns) in SYSTEM_TABLES {
        let table = catalog.table(&TableName::new("system", name)).expect("there").clone();
        dump_table(&mut out, db, &db.root, &table, columns, false);
    }
    out.push_str(&dump_rows(db));
    out
}

/// The rows of all tables but the long one, as everybody sees them who may.
fn dump_rows(db: &Database) -> String {
    let mut out = String::new();
    for table in stored_tables(db) {
        for user in people(db) {
            let by = &user.principal;
            let is_seen = by.check(Action::Select, &table).is_ok();
            if is_seen && table.name.table != write::LOADED_TABLE {
                let columns: Vec<&str> = table.schema.columns.iter().map(|column| column.name.as_str()).collect();
                dump_table(&mut out, db, by, &table, &columns, true);
            }
        }
    }
    out
}

/// A line for each row, sorted, because no scan says in which order it reads.
fn dump_table(out: &mut String, db: &Database, by: &Principal, table: &Arc<Table>, columns: &[&str], numbered: bool) {
    let index_of = |name: &&str| table.schema.index_of(name).expect("a column");
    let mut fields: Vec<ScanField> = columns.iter().map(index_of).map(ScanField::Column).collect();
    if numbered {
        fields.extend([ScanField::Seq, ScanField::Updated]);
    }
    let mut lines = Vec::new();
    let shown = FormatOptions::default().with_null("NULL");
    for batch in scan(&db.view(), by, table, &fields) {
        let columns = batch.columns().iter();
        let columns: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column, &shown).expect("shows"))
            .collect();
        for row in 0..batch.num_rows() {
            let texts: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(texts.join(" | "));
        }
    }
    lines.sort();
    writeln!(out, "rows of {} as {}: {}", table.name, by.user_id, columns.join(" | ")).expect("text");
    for line in lines {
        writeln!(out, "    {}", line.escape_debug()).expect("text");
    }
}
