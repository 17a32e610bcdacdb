//! Writing and reading rows of durable tables, one by one and in bulk, alone and against others.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::UInt64Type;
use futures::executor::block_on;
use std::ops::Bound;
use std::sync::Arc;

use super::*;
use crate::testing::{Database, batch, found, many, new_table, scan};

#[test]
fn each_user_has_rows_of_their_own() {
    let db = Database::new();
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    for table in [
        db.table("u", TableKind::User, &[]),
        db.table("e", TableKind::Stream, &[("TTL_SECONDS", "60")]),
    ] {
        assert_eq!(db.insert(&a, &table, &[("of a", 1), ("more", 2)]).expect("inserted"), 2);
        assert_eq!(
            db.insert(&b, &table, &[("of b", 1)]).expect("no conflict across users"),
            1
        );
        assert_eq!(db.rows(&a, &table), owned(&[("of a", 1), ("more", 2)]));
        assert_eq!(db.rows(&b, &table), owned(&[("of b", 1)]));
        assert_eq!(db.rows(&db.root, &table), []);

        // Not even rows that were found as another reach them.
        let view = db.view();
        let mut mutator = db.engine.mutate(&view, &b, &table).expect("starts");
        mutator.delete(&found(&view, &a, &table, &[1, 2])).expect("taken");
        drop(block_on(mutator.finish()));
        assert_eq!(db.rows(&a, &table).len(), 2);
    }
}

#[test]
fn a_duplicate_key_changes_nothing_and_is_named() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("x", 5)]).expect("inserted");
    let error = refused(
        db.insert(&db.root, &table, &[("a", 1), ("b", 5), ("c", 2)]),
        ErrorCode::DuplicateKey,
    );
    assert_eq!(
        error.message,
        "row 2: primary key (id) = (5) exists already in table public.t"
    );
    let error = refused(
        db.insert(&db.root, &table, &[("a", 1), ("b", 2), ("c", 1)]),
        ErrorCode::DuplicateKey,
    );
    assert_eq!(
        error.message,
        "row 3: primary key (id) = (1) is that of row 1 of the same statement, table public.t"
    );
    assert_eq!(db.rows(&db.root, &table), owned(&[("x", 5)]));

    let rows = &[("y", 5), ("n", 6), ("m", 6)];
    assert_eq!(db.load(&db.root, &table, OnConflict::Ignore, rows).expect("loaded"), 1);
    assert_eq!(db.rows(&db.root, &table), owned(&[("x", 5), ("n", 6)]));
    assert_eq!(db.load(&db.root, &table, OnConflict::Replace, rows).expect("loaded"), 2);
    assert_eq!(db.rows(&db.root, &table), owned(&[("y", 5), ("m", 6)]));
}

#[test]
fn rows_of_the_wrong_shape_are_refused() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let push = |rows: RecordBatch| {
        let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
        appender.push(&batch(&[("first", 9)])).expect("fits");
        appender.push(&rows)
    };
    let rows = RecordBatch::try_from_iter([("v", texts.clone()), ("id", ids.clone())]).expect("a batch");
    let error = refused(push(rows), ErrorCode::NotNullViolation);
    assert!(error.message.starts_with("row 3: column id "), "{error}");
    let rows = RecordBatch::try_from_iter([("v", ids), ("id", texts)]).expect("a batch");
    refused(push(rows.clone()), ErrorCode::TypeMismatch);
    refused(push(rows.project(&[0]).expect("a batch")), ErrorCode::TypeMismatch);
    assert!(db.rows(&db.root, &table).is_empty());
}

#[test]
fn updates_and_deletes_of_rows_with_a_key() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    let root = &db.root;
    db.insert(root, &table, &[("a", 1), ("b", 2), ("c", 3)])
        .expect("inserted");

    // id + 1: every new key is an old one of the same statement, but the last.
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, root, &table).expect("starts");
    let all = found(&view, root, &table, &[1, 2, 3]);
    mutator
        .update(&all, &batch(&[("a", 2), ("b", 3), ("c", 4)]))
        .expect("taken");
    mutator
        .update(&all, &batch(&[("x", 7), ("x", 8), ("x", 9)]))
        .expect("named twice");
    assert_eq!(block_on(mutator.finish()).expect("updated"), 3);
    assert_eq!(db.rows(root, &table), owned(&[("a", 2), ("b", 3), ("c", 4)]));

    let update = |rows: &[(&str, i64)], ids: &[i64]| {
        let view = db.view();
        let mut mutator = db.engine.mutate(&view, root, &table)?;
        mutator.update(&found(&view, root, &table, ids), &batch(rows))?;
        block_on(mutator.finish())
    };
    let error = refused(update(&[("a", 4)], &[2]), ErrorCode::DuplicateKey);
    assert_eq!(
        error.message,
        "row 1: primary key (id) = (4) exists already in table public.t"
    );
    refused(update(&[("a", 9), ("b", 9)], &[2, 3]), ErrorCode::DuplicateKey);
    assert_eq!(db.rows(root, &table), owned(&[("a", 2), ("b", 3), ("c", 4)]));

    let view = db.view();
    let mut mutator = db.engine.mutate(&view, root, &table).expect("starts");
    let two = found(&view, root, &table, &[2, 4]);
    mutator.delete(&two).expect("taken");
    mutator.delete(&two).expect("named twice");
    assert_eq!(block_on(mutator.finish()).expect("deleted"), 2);
    assert_eq!(db.rows(root, &table), owned(&[("b", 3)]));
}

#[test]
fn rows_without_a_key_are_told_apart_and_stay_themselves() {
    let db = Database::new();
    let mut new = new_table("t", TableKind::Shared, &[]);
    new.primary_key.clear();
    let (table, _) = block_on(db.engine.create_table(&db.root, new, CreateMode::New)).expect("made");
    assert_eq!(
        db.load(&db.root, &table, OnConflict::Replace, &[("a", 1), ("a", 1)])
            .expect("loaded"),
        2
    );
    db.insert(&db.root, &table, &[("b", 2)]).expect("inserted");

    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &db.root, &table).expect("starts");
    mutator
        .update(&found(&view, &db.root, &table, &[2]), &batch(&[("c", 1)]))
        .expect("taken");
    assert_eq!(block_on(mutator.finish()).expect("updated"), 1);
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1), ("a", 1), ("c", 1)]));

    let keys = |view: &View| {
        let batches = scan(view, &db.root, &table, &[ScanField::RowKey, ScanField::Seq]);
        batches
            .iter()
            .flat_map(|batch| batch.column(0).as_binary::<i32>().iter())
            .flatten()
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (before, after): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (keys(&view), keys(&db.view()));
    assert_eq!(before, after);
}

#[test]
fn the_key_range_is_read_and_nothing_else() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
    appender.push(&many(0, 1000)).expect("taken");
    block_on(appender.finish()).expect("inserted");
    let id = |id: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![id])) };
    let check = |equal: Vec<ArrayRef>, lower, upper, limit, rows: usize, keys_read: u64| {
        let key = Some(KeyConstraint { equal, lower, upper });
        let request = ScanRequest {
            fields: vec![],
            key,
            limit,
            part: (0, 1),
            order: ScanOrder::Any,
            prune: None,
            batch_rows: 100,
        };
        let mut scan = db.view().scan(&db.root, &table, request).expect("scans");
        let mut read = 0;
        while let Some(batch) = scan.next_batch().expect("reads") {
            read += batch.num_rows();
        }
        assert_eq!((read, scan.keys_read()), (rows, keys_read));
    };
    check(vec![id(500)], Bound::Unbounded, Bound::Unbounded, None, 1, 1);
    check(vec![id(5000)], Bound::Unbounded, Bound::Unbounded, None, 0, 1);
    check(
        vec![],
        Bound::Included(vec![id(100)]),
        Bound::Excluded(vec![id(200)]),
        None,
        100,
        100,
    );
    check(
        vec![],
        Bound::Excluded(vec![id(100)]),
        Bound::Included(vec![id(200)]),
        Some(7),
        7,
        7,
    );
    check(vec![], Bound::Unbounded, Bound::Excluded(vec![id(3)]), None, 3, 3);
    check(
        vec![],
        Bound::Included(vec![id(3)]),
        Bound::Excluded(vec![id(3)]),
        None,
        0,
        0,
    );
    check(vec![], Bound::Unbounded, Bound::Unbounded, Some(0), 0, 0);
}

#[test]
fn large_inserts_are_staged_and_seen_at_once() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("x", 70_000)]).expect("inserted");
    let load = |rows: &[(i64, i64)]| {
        let mut appender = db.engine.append(&db.root, &table, OnConflict::Error)?;
        for &(first, count) in rows {
            appender.push(&many(first, count))?;
            assert_eq!(db.rows(&db.root, &table).len(), 1);
        }
        block_on(appender.finish())
    };
    // Against the table, within the load before and after it is staged.
    for rows in [
        &[(0, 40_000), (40_000, 40_000)][..],
        &[(0, 69_000), (5, 1)],
        &[(0, 10), (5, 1)],
    ] {
        let error = refused(load(rows), ErrorCode::DuplicateKey);
        assert!(
            error.message.contains("primary key (id)") && error.message.contains("public.t"),
            "{error}"
        );
        assert_eq!(db.rows(&db.root, &table), owned(&[("x", 70_000)]));
    }
    assert_eq!(load(&[(0, 70_000), (70_001, 10)]).expect("loaded"), 70_010);
    assert_eq!(db.rows(&db.root, &table).len(), 70_011);

    let seqs: Vec<u64> = scan(&db.view(), &db.root, &table, &[ScanField::Seq])
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec())
        .collect();
    let distinct: std::collections::HashSet<u64> = seqs.iter().copied().collect();
    assert_eq!(distinct.len(), 70_011);

    // Staged rows are rows like any other.
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &db.root, &table).expect("starts");
    mutator
        .delete(&found(&view, &db.root, &table, &[0, 70_000]))
        .expect("taken");
    assert_eq!(block_on(mutator.finish()).expect("deleted"), 2);
    refused(db.insert(&db.root, &table, &[("again", 1)]), ErrorCode::DuplicateKey);
    db.insert(&db.root, &table, &[("again", 0)]).expect("deleted before");
    drop(view);
    let db = db.reopen();
    assert_eq!(db.rows(&db.root, &db.find(&table)).len(), 70_010);
}

#[test]
fn truncate_and_drop_end_loads_that_are_under_way() {
    let db = Database::new();
    let begin = |table: &Arc<Table>, rows: i64| {
        let mut appender = db.engine.append(&db.root, table, OnConflict::Error).expect("starts");
        appender.push(&many(0, rows)).expect("taken");
        appender
    };
    for rows in [10, 70_000] {
        let table = db.table(&format!("t{rows}"), TableKind::Shared, &[]);
        let appender = begin(&table, rows);
        block_on(db.engine.truncate_table(&db.root, &table.name)).expect("truncated");
        let error = refused(block_on(appender.finish()), ErrorCode::Conflict);
        assert!(error.message.contains("truncated"), "{error}");
        let truncated = db.find(&table);
        assert_eq!(truncated.table_id, table.table_id);
        assert!(db.rows(&db.root, &truncated).is_empty());

        let appender = begin(&truncated, rows);
        block_on(db.engine.drop_table(&db.root, &table.name, false)).expect("dropped");
        let error = refused(block_on(appender.finish()), ErrorCode::TableNotFound);
        assert!(error.message.contains("dropped"), "{error}");
        let again = db.table(&format!("t{rows}"), TableKind::Shared, &[]);
        assert!(db.rows(&db.root, &again).is_empty());
    }
}

#[test]
fn concurrent_upserts_of_one_key_all_succeed() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (db, table) = (&db, &table);
            scope.spawn(move || {
                for _ in 0..25 {
                    db.load(&db.root, table, OnConflict::Replace, &[("x", 1)])
                        .expect("upserted");
                }
            });
        }
    });
    assert_eq!(db.rows(&db.root, &table), owned(&[("x", 1)]));
}

#[test]
fn the_first_of_two_changes_of_a_row_wins() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    let view = db.view();
    let update = |text: &str| {
        let mut mutator = db.engine.mutate(&view, &db.root, &table)?;
        mutator.update(&found(&view, &db.root, &table, &[1]), &batch(&[(text, 1)]))?;
        block_on(mutator.finish())
    };
    update("first").expect("updated");
    refused(update("second"), ErrorCode::Conflict);
    assert_eq!(db.rows(&db.root, &table), owned(&[("first", 1)]));
}

#[test]
fn statements_on_the_row_path_are_bounded() {
    let db = Database::new();
    let stream = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "10")]);
    let mut appender = db.engine.append(&db.root, &stream, OnConflict::Error).expect("starts");
    let error = (0..100).find_map(|part| appender.push(&many(part * 10_000, 10_000)).err());
    let error = error.expect("a bound");
    assert_eq!(error.code, ErrorCode::StatementTooLarge);
    assert!(error.message.contains("statement_write_limit"), "{error}");
    drop(appender);
    assert!(db.rows(&db.root, &stream).is_empty());
}
