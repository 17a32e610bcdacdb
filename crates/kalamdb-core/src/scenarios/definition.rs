//! DDL, as the catalog, the system tables and readers of older views see it.

use arrow::datatypes::DataType;
use futures::FutureExt;
use futures::executor::block_on;

use super::*;
use crate::testing::{Database, column, many, new_table, rows_of, system_rows};

#[test]
fn ddl_shows_in_the_catalog_and_in_the_system_tables() {
    let db = Database::new();
    let (engine, root) = (&db.engine, &db.root);
    assert!(block_on(engine.create_namespace(root, "chat", false)).expect("made"));
    assert!(!block_on(engine.create_namespace(root, "chat", true)).expect("exists"));
    refused(
        block_on(engine.create_namespace(root, "chat", false)),
        ErrorCode::AlreadyExists,
    );
    for name in ["", "system", "Information_Schema", "a\nb", &"x".repeat(129)] {
        refused(
            block_on(engine.create_namespace(root, name, false)),
            ErrorCode::InvalidArgument,
        );
    }
    let mut new = new_table("t", TableKind::Stream, &[("TTL_SECONDS", "60")]);
    new.name.namespace = "chat".to_owned();
    let (table, created) = block_on(engine.create_table(root, new.clone(), CreateMode::New)).expect("made");
    assert!(created);
    refused(
        block_on(engine.create_table(root, new.clone(), CreateMode::New)),
        ErrorCode::AlreadyExists,
    );
    let (same, created) = block_on(engine.create_table(root, new.clone(), CreateMode::IfNotExists)).expect("exists");
    assert!(!created && same.table_id == table.table_id);

    let view = db.view();
    assert_eq!(
        system_rows(&view, root, "tables"),
        [format!(
            "{}|chat|t|STREAM|1|NULL|NULL|{{\"TTL_SECONDS\":\"60\"}}|2023-11-14T22:13:20Z|2023-11-14T22:13:20Z",
            table.table_id
        )]
    );
    let schemas = system_rows(&view, root, "table_schemas");
    assert_eq!(schemas.len(), 1);
    assert!(
        schemas[0].contains(r#""name":"id","type":"BIGINT","nullable":false"#),
        "{schemas:?}"
    );
    let namespaces = system_rows(&view, root, "namespaces");
    assert!(
        namespaces.iter().any(|row| row.starts_with("chat|NULL|NULL|1|")),
        "{namespaces:?}"
    );
    assert!(
        namespaces
            .iter()
            .any(|row| row.starts_with("public|The default namespace|NULL|0|")),
        "{namespaces:?}"
    );

    refused(
        block_on(engine.drop_namespace(root, "chat", false, false)),
        ErrorCode::DependentObjects,
    );
    assert!(block_on(engine.drop_namespace(root, "chat", false, true)).expect("dropped"));
    refused(
        block_on(engine.drop_namespace(root, "chat", false, true)),
        ErrorCode::NamespaceNotFound,
    );
    let view = db.view();
    assert!(view.catalog().table(&table.name).is_none());
    assert!(system_rows(&view, root, "tables").is_empty());
    assert!(system_rows(&view, root, "table_schemas").is_empty());
    refused(
        block_on(engine.create_table(root, new, CreateMode::New)),
        ErrorCode::NamespaceNotFound,
    );
}

#[test]
fn hazard_6_a_namespace_with_tables_is_dropped_by_cascade_alone() {
    let db = Database::new();
    assert!(block_on(db.engine.create_namespace(&db.root, "chat", false)).expect("made"));
    let mut new = new_table("t", TableKind::Shared, &[]);
    new.name.namespace = "chat".to_owned();
    let (table, _) = block_on(db.engine.create_table(&db.root, new, CreateMode::New)).expect("made");
    let drop = |cascade| block_on(db.engine.drop_namespace(&db.root, "chat", false, cascade));
    let error = refused(drop(false), ErrorCode::DependentObjects);
    assert!(error.message.contains("CASCADE"), "{error}");
    assert!(db.view().catalog().table(&table.name).is_some());
    assert!(drop(true).expect("dropped"));
    assert!(db.view().catalog().table(&table.name).is_none());
}

#[test]
fn storages_count_the_tables_that_use_them() {
    let db = Database::new();
    let count = || system_rows(&db.view(), &db.root, "storages");
    assert!(count()[0].starts_with("local|filesystem|segments|0|"), "{:?}", count());
    db.table("a", TableKind::Shared, &[]);
    db.table("b", TableKind::User, &[]);
    db.table("c", TableKind::Stream, &[("TTL_SECONDS", "1")]);
    assert!(count()[0].starts_with("local|filesystem|segments|2|"), "{:?}", count());
    let name = TableName::new("public", "a");
    assert!(block_on(db.engine.drop_table(&db.root, &name, false)).expect("dropped"));
    assert!(!block_on(db.engine.drop_table(&db.root, &name, true)).expect("gone"));
    refused(
        block_on(db.engine.drop_table(&db.root, &name, false)),
        ErrorCode::TableNotFound,
    );
    assert!(count()[0].starts_with("local|filesystem|segments|1|"), "{:?}", count());
}

#[test]
fn bad_tables_are_refused() {
    let db = Database::new();
    let check = |change: &dyn Fn(&mut NewTable), expected: &str| {
        let mut new = new_table("t", TableKind::Shared, &[]);
        change(&mut new);
        let error = block_on(db.engine.create_table(&db.root, new, CreateMode::New)).expect_err("refused");
        assert!(error.message.contains(expected), "{error}");
        assert!(
            matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::Unsupported),
            "{error}"
        );
    };
    check(&|new| new.columns.clear(), "at least one column");
    check(
        &|new| new.columns.push(column("v", DataType::Int8)),
        "two columns named v",
    );
    check(&|new| new.columns.push(column("_seq", DataType::Int8)), "reserved");
    check(&|new| new.primary_key = vec!["x".to_owned()], "column x");
    check(&|new| new.primary_key = vec!["id".to_owned(), "id".to_owned()], "twice");
    check(&|new| new.kind = TableKind::System, "SYSTEM");
    check(&|new| new.kind = TableKind::Stream, "TTL_SECONDS");
    check(&|new| new.options.storage = "elsewhere".to_owned(), "elsewhere");
    check(&|new| new.name.namespace = "system".to_owned(), "reserved");
    check(&|new| new.name.table = String::new(), "empty");
    check(
        &|new| {
            new.columns.push(column("f", DataType::Float64));
            new.primary_key = vec!["f".to_owned()];
        },
        "DOUBLE",
    );
    check(
        &|new| {
            new.columns[0]
                .metadata
                .insert("ARROW:extension:name".to_owned(), "arrow.json".to_owned());
            new.primary_key = vec!["v".to_owned()];
        },
        "JSON",
    );
    assert!(system_rows(&db.view(), &db.root, "tables").is_empty());
}

#[test]
fn a_view_still_reads_what_was_truncated_since() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    let view = db.view();
    block_on(db.engine.truncate_table(&db.root, &table.name)).expect("truncated");
    assert_eq!(rows_of(&view, &db.root, &table), owned(&[("a", 1)]));
    refused(
        db.view()
            .scan(
                &db.root,
                &table,
                ScanRequest {
                    fields: vec![],
                    key: None,
                    limit: None,
                    part: (0, 1),
                    order: ScanOrder::Any,
                    prune: None,
                    batch_rows: 1,
                },
            )
            .map(|_| ()),
        ErrorCode::Conflict,
    );
}

#[test]
fn a_table_appears_with_its_rows() {
    let db = Database::new();
    let create = |mode, rows: i64| {
        let new = new_table("t", TableKind::User, &[]);
        let mut appender = db
            .engine
            .create_table_with_rows(&db.root, new, mode, OnConflict::Error)?;
        appender.push(&many(0, rows))?;
        Ok(appender)
    };
    for rows in [3, 70_000] {
        // Given up: nothing is there.
        drop(create(CreateMode::New, rows).expect("starts"));
        assert!(db.view().catalog().table(&TableName::new("public", "t")).is_none());

        let first = create(CreateMode::New, rows).expect("starts");
        let late = create(CreateMode::New, rows).expect("starts");
        let late_if = create(CreateMode::IfNotExists, rows).expect("starts");
        let late_replace = create(CreateMode::OrReplace, rows).expect("starts");
        assert_eq!(block_on(first.finish()).expect("made"), rows as u64);
        refused(block_on(late.finish()), ErrorCode::AlreadyExists);
        assert_eq!(block_on(late_if.finish()).expect("left alone"), 0);
        refused(block_on(late_replace.finish()), ErrorCode::Conflict);
        refused(create(CreateMode::New, rows).map(|_| ()), ErrorCode::AlreadyExists);
        assert_eq!(
            block_on(create(CreateMode::IfNotExists, 1).expect("starts").finish()).expect("left alone"),
            0
        );

        let name = TableName::new("public", "t");
        let table = db.view().catalog().table(&name).expect("is there").clone();
        assert_eq!(db.rows(&db.root, &table).len() as i64, rows);
        assert_eq!(
            block_on(create(CreateMode::OrReplace, 2).expect("starts").finish()).expect("replaced"),
            2
        );
        let replaced = db.find(&table);
        assert_eq!(replaced.table_id, table.table_id);
        assert_ne!(replaced.store, table.store);
        assert!(replaced.schema.columns[0].id > table.schema.columns[1].id);
        assert_eq!(db.rows(&db.root, &replaced).len(), 2);
        assert_eq!(system_rows(&db.view(), &db.root, "table_schemas").len(), 2);
        block_on(db.engine.drop_table(&db.root, &name, false)).expect("dropped");
        assert!(system_rows(&db.view(), &db.root, "table_schemas").is_empty());
    }
}

#[test]
fn a_ddl_statement_whose_caller_left_is_not_lost() {
    let db = Database::new();
    // Polled once, it has submitted its step and does not know the end.
    let mut left = Box::pin(db.engine.create_namespace(&db.root, "one", false));
    drop((&mut left).now_or_never());
    drop(left);
    block_on(db.engine.create_namespace(&db.root, "two", false)).expect("made");
    let view = db.view();
    for name in ["one", "two"] {
        assert!(view.catalog().namespaces.contains_key(name), "{name}");
        assert!(
            system_rows(&view, &db.root, "namespaces")
                .iter()
                .any(|row| row.starts_with(name)),
            "{name}"
        );
    }
}
