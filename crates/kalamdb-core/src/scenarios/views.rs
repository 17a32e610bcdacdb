//! Views, as the catalog, the system tables and the next start see them.

use arrow::datatypes::DataType;
use futures::executor::block_on;

use super::*;
use crate::testing::{Database, column, new_table, system_rows};

fn new_view(name: &str, reads: &[&str]) -> NewView {
    NewView {
        name: TableName::new("public", name),
        definition: ViewDefinition {
            query: "SELECT id AS \"a;b\" FROM t -- of it".to_owned(),
            namespace: "public".to_owned(),
            outputs: vec!["a;b".to_owned()],
            reads: reads.iter().map(|name| TableName::new("public", *name)).collect(),
        },
        columns: vec![column("a;b", DataType::Int64)],
    }
}

#[test]
fn views_survive_a_restart() {
    let db = Database::new();
    db.table("t", TableKind::Shared, &[]);
    let make = |view: NewView, mode| block_on(db.engine.create_view(&db.root, view, mode));
    assert!(make(new_view("v", &["t"]), CreateMode::New).expect("made"));
    refused(make(new_view("v", &["t"]), CreateMode::New), ErrorCode::AlreadyExists);
    assert!(!make(new_view("v", &["t"]), CreateMode::IfNotExists).expect("exists"));
    assert!(make(new_view("v", &["t"]), CreateMode::OrReplace).expect("replaced"));
    for mode in [CreateMode::New, CreateMode::IfNotExists, CreateMode::OrReplace] {
        refused(make(new_view("t", &[]), mode), ErrorCode::AlreadyExists);
        let table = new_table("v", TableKind::Shared, &[]);
        refused(
            block_on(db.engine.create_table(&db.root, table, mode)),
            ErrorCode::AlreadyExists,
        );
    }
    let before = db
        .view()
        .catalog()
        .view(&TableName::new("public", "v"))
        .expect("there")
        .clone();
    assert_eq!(before.schema.version.0, 2);
    let db = db.reopen();
    let view = db.view();
    let after = view.catalog().view(&TableName::new("public", "v")).expect("there");
    assert_eq!(after.definition, before.definition);
    assert_eq!(after.view_id, before.view_id);
    assert_eq!(after.schema.columns, before.schema.columns);
    assert_eq!(view.catalog().views.len(), 1);
    assert_eq!(system_rows(&view, &db.root, "tables").len(), 2);
    assert_eq!(system_rows(&view, &db.root, "table_schemas").len(), 3);
    // Nothing holds the database open.
    drop(view);
    let name = &before.name;
    assert!(block_on(db.engine.drop_view(&db.root, name, false)).expect("dropped"));
    assert!(!block_on(db.engine.drop_view(&db.root, name, true)).expect("gone"));
    refused(
        block_on(db.engine.drop_view(&db.root, name, false)),
        ErrorCode::TableNotFound,
    );
    let db = db.reopen();
    assert!(db.view().catalog().views.is_empty());
    assert_eq!(system_rows(&db.view(), &db.root, "table_schemas").len(), 1);
}

#[test]
fn a_view_shows_to_those_who_see_all_that_it_reads() {
    let db = Database::new();
    let (ann, sue) = (db.user("ann", Role::User), db.user("sue", Role::Service));
    db.table("open", TableKind::User, &[]);
    db.table("closed", TableKind::Shared, &[("ACCESS_LEVEL", "private")]);
    for (name, reads) in [
        ("of_open", &["open"][..]),
        ("of_both", &["open", "closed"]),
        ("of_view", &["of_both"]),
        // Those who do not manage views see none whose table is gone.
        ("one", &["gone"]),
        ("other", &["one"]),
    ] {
        assert!(block_on(db.engine.create_view(&db.root, new_view(name, reads), CreateMode::New)).expect("made"));
    }
    let view = db.view();
    let catalog = view.catalog();
    let seen = |by: &Principal| -> Vec<&str> {
        let seen = catalog.views.values().filter(|view| by.sees_view(view, catalog));
        seen.map(|view| view.name.table.as_str()).collect()
    };
    assert_eq!(seen(&ann), ["of_open"]);
    assert_eq!(seen(&sue), ["of_both", "of_open", "of_view"]);
    assert_eq!(seen(&db.root), ["of_both", "of_open", "of_view", "one", "other"]);
    let rows = |by: &Principal| {
        let rows = system_rows(&view, by, "tables");
        rows.iter().filter(|row| row.contains("|VIEW|")).count()
    };
    assert_eq!((rows(&ann), rows(&sue), rows(&db.root)), (1, 3, 5));
    refused(
        block_on(db.engine.create_view(&sue, new_view("x", &[]), CreateMode::New)),
        ErrorCode::PermissionDenied,
    );
    refused(
        block_on(db.engine.drop_view(&sue, &TableName::new("public", "one"), false)),
        ErrorCode::PermissionDenied,
    );
}

#[test]
fn views_that_were_planned_beside_each_other_do_not_come_to_read_each_other() {
    let db = Database::new();
    let make =
        |name: &str, reads: &[&str], mode| block_on(db.engine.create_view(&db.root, new_view(name, reads), mode));
    // As each of two sessions saw the catalog, none of these reads itself.
    make("b", &["t"], CreateMode::New).expect("made");
    make("a", &["b"], CreateMode::New).expect("made");
    make("top", &["a", "b"], CreateMode::New).expect("made");
    for (name, reads, words) in [
        (
            "b",
            &["t", "a"][..],
            "view public.b reads itself: public.b → public.a → public.b",
        ),
        (
            "b",
            &["top"],
            "view public.b reads itself: public.b → public.top → public.b",
        ),
        ("a", &["a"], "view public.a reads itself: public.a → public.a"),
    ] {
        let error = refused(make(name, reads, CreateMode::OrReplace), ErrorCode::InvalidStatement);
        assert_eq!(error.message, words);
    }
    // Nor do those that were dropped, when they are made again.
    let name = TableName::new("public", "b");
    block_on(db.engine.drop_view(&db.root, &name, false)).expect("dropped");
    refused(make("b", &["top"], CreateMode::New), ErrorCode::InvalidStatement);
    make("b", &["t"], CreateMode::New).expect("made");
    make("a", &["t", "b"], CreateMode::OrReplace).expect("replaced");
}

#[test]
fn a_namespace_goes_with_its_views() {
    let db = Database::new();
    let drop = |cascade| block_on(db.engine.drop_namespace(&db.root, "n", false, cascade));
    block_on(db.engine.create_namespace(&db.root, "n", false)).expect("made");
    let mut view = new_view("v", &[]);
    view.name.namespace = "n".to_owned();
    block_on(db.engine.create_view(&db.root, view.clone(), CreateMode::New)).expect("made");
    let error = refused(drop(false), ErrorCode::DependentObjects);
    assert!(error.message.contains("holds 1 view;"), "{error}");
    let mut table = new_table("t", TableKind::Shared, &[]);
    table.name.namespace = "n".to_owned();
    block_on(db.engine.create_table(&db.root, table, CreateMode::New)).expect("made");
    let error = refused(drop(false), ErrorCode::DependentObjects);
    assert!(error.message.contains("holds 1 table and 1 view;"), "{error}");
    assert!(drop(true).expect("dropped"));
    assert!(db.view().catalog().views.is_empty());
    refused(
        block_on(db.engine.create_view(&db.root, view, CreateMode::New)),
        ErrorCode::NamespaceNotFound,
    );
}
