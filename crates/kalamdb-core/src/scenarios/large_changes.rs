//! UPDATE and DELETE of so many rows that they go in bulk, of rows hot and cold, with and without a primary key.

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, batch, found, many, new_table, rows_of, scan};

const ROWS: i64 = 2 * append::BULK_FROM_ROWS as i64;

/// A table with [`ROWS`] rows, the last ten of which are hot.
fn table(db: &Database, keyed: bool) -> Arc<Table> {
    let mut new = new_table(if keyed { "keyed" } else { "keyless" }, TableKind::Shared, &[]);
    if !keyed {
        new.primary_key.clear();
    }
    let (table, _) = block_on(db.engine.create_table(&db.root, new, CreateMode::New)).expect("made");
    for (first, rows) in [(0, ROWS - 10), (ROWS - 10, 10)] {
        let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
        appender.push(&many(first, rows)).expect("taken");
        assert_eq!(block_on(appender.finish()).expect("written"), rows as u64);
    }
    table
}

/// Replaces every row with id below `below` by (`new <id>`, id + `shift`).
fn update(db: &Database, view: &View, table: &Arc<Table>, below: i64, shift: i64) -> Result<u64> {
    let mut mutator = db.engine.mutate(view, &db.root, table)?;
    let fields = [
        ScanField::RowKey,
        ScanField::RowLocation,
        ScanField::Seq,
        ScanField::Column(1),
    ];
    for found in scan(view, &db.root, table, &fields) {
        let ids = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(found.column(3)).clone();
        let rows: Vec<usize> = (0..ids.len()).filter(|&row| ids.value(row) < below).collect();
        let new: Vec<(String, i64)> = rows
            .iter()
            .map(|&row| (format!("new {}", ids.value(row)), ids.value(row) + shift))
            .collect();
        let new: Vec<(&str, i64)> = new.iter().map(|row| (row.0.as_str(), row.1)).collect();
        let chosen = (0..ids.len()).map(|row| Some(ids.value(row) < below)).collect();
        let found = arrow::compute::filter_record_batch(&found, &chosen).expect("filters");
        mutator.update(&found, &batch(&new))?;
    }
    block_on(mutator.finish())
}

fn delete(db: &Database, view: &View, table: &Arc<Table>) -> Result<u64> {
    let mut mutator = db.engine.mutate(view, &db.root, table)?;
    let fields = [ScanField::RowKey, ScanField::RowLocation, ScanField::Seq];
    for found in scan(view, &db.root, table, &fields) {
        mutator.delete(&found)?;
        // A row named twice counts once.
        mutator.delete(&found)?;
    }
    block_on(mutator.finish())
}

#[test]
fn all_rows_are_changed_or_deleted_at_once_and_none_twice() {
    for keyed in [true, false] {
        let db = Database::new();
        let table = table(&db, keyed);
        let old = db.view();
        assert_eq!(
            update(&db, &db.view(), &table, i64::MAX, 0).expect("updated"),
            ROWS as u64
        );
        let rows = db.rows(&db.root, &table);
        assert_eq!(rows.len() as i64, ROWS);
        assert!(
            rows.iter().all(|row| row.0 == format!("new {}", row.1)),
            "keyed: {keyed}"
        );
        assert_eq!(rows_of(&old, &db.root, &table)[7].0, "row 7");
        assert_eq!(update(&db, &db.view(), &table, 10, 0).expect("updated"), 10);
        assert_eq!(delete(&db, &db.view(), &table).expect("deleted"), ROWS as u64);
        assert!(db.rows(&db.root, &table).is_empty());
        drop(old);
        let db = db.reopen();
        let table = db.find(&table);
        assert!(db.rows(&db.root, &table).is_empty());
        db.insert(&db.root, &table, &[("again", 7)]).expect("its key is free");
    }
}

#[test]
fn keys_may_shift_over_each_other_but_not_onto_rows_that_stay() {
    let db = Database::new();
    let table = table(&db, true);
    assert_eq!(
        update(&db, &db.view(), &table, i64::MAX, 1).expect("shifted"),
        ROWS as u64
    );
    let rows = db.rows(&db.root, &table);
    assert_eq!((rows[0].1, rows.len() as i64), (1, ROWS));
    let before = db.rows(&db.root, &table);
    refused(update(&db, &db.view(), &table, ROWS - 5, 1), ErrorCode::DuplicateKey);
    assert_eq!(db.rows(&db.root, &table), before);
}

#[test]
fn a_row_that_another_statement_changed_meanwhile_is_a_conflict() {
    for touched in [3, ROWS - 3] {
        let db = Database::new();
        let table = table(&db, true);
        let view = db.view();
        let mut other = db.engine.mutate(&view, &db.root, &table).expect("starts");
        other
            .update(
                &found(&view, &db.root, &table, &[touched]),
                &batch(&[("other", touched)]),
            )
            .expect("taken");
        block_on(other.finish()).expect("updated");
        refused(delete(&db, &view, &table), ErrorCode::Conflict);
        refused(update(&db, &view, &table, i64::MAX, 0), ErrorCode::Conflict);
        assert_eq!(db.rows(&db.root, &table).len() as i64, ROWS);
        assert_eq!(delete(&db, &db.view(), &table).expect("at a new view"), ROWS as u64);
    }
}

#[test]
fn rows_that_moved_meanwhile_are_changed_where_they_are() {
    for (keyed, flushed) in [(true, false), (true, true), (false, false), (false, true)] {
        let db = Database::new();
        let table = table(&db, keyed);
        if flushed {
            block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
        }
        // Other rows move along, before them and after them.
        let move_all = |others: i64| {
            for id in [-others, ROWS + others] {
                db.insert(&db.root, &table, &[("other", id)]).expect("inserted");
            }
            block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
            block_on(db.engine.compact_table(&db.root, &table.name)).expect("compacted");
        };
        let view = db.view();
        move_all(1);
        move_all(2);
        assert_eq!(update(&db, &view, &table, i64::MAX, 0).expect("updated"), ROWS as u64);
        let view = db.view();
        move_all(3);
        let is_new = |row: &(String, i64)| row.0 == format!("new {}", row.1);
        let rows = db.rows(&db.root, &table);
        let new = rows.iter().filter(|row| is_new(row)).count();
        assert_eq!((rows.len() as i64, new as i64), (ROWS + 6, ROWS), "keyed: {keyed}");
        assert_eq!(delete(&db, &view, &table).expect("deleted"), (ROWS + 4) as u64);
        let mut left = db.rows(&db.root, &table);
        left.sort();
        assert_eq!(left, [("other".to_string(), -3), ("other".to_string(), ROWS + 3)]);
    }
}

#[test]
fn a_large_statement_that_is_to_give_up_changes_nothing() {
    let db = Database::new();
    let table = table(&db, true);
    let before = db.rows(&db.root, &table);
    let view = db.view();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let give_up = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0;
    let mut mutator = db.engine.mutate(&view, &db.root, &table).expect("starts");
    for found in scan(
        &view,
        &db.root,
        &table,
        &[ScanField::RowKey, ScanField::RowLocation, ScanField::Seq],
    ) {
        mutator.delete(&found).expect("taken");
    }
    // Hot rows and, of those in segments, such as were moved: all of them are looked for.
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed");
    block_on(db.engine.compact_table(&db.root, &table.name)).expect("compacted");
    refused(block_on(mutator.prepare(&give_up)).map(|_| ()), ErrorCode::Cancelled);
    // Keys are looked up that lie among those of the table.
    let mut appender = db.engine.append(&db.root, &table, OnConflict::Replace).expect("starts");
    appender.push(&many(5, ROWS)).expect("taken");
    refused(block_on(appender.prepare(&give_up)).map(|_| ()), ErrorCode::Cancelled);
    assert_eq!(db.rows(&db.root, &table), before);
    // What is prepared and then dropped is not there either.
    let mut appender = db.engine.append(&db.root, &table, OnConflict::Replace).expect("starts");
    appender.push(&many(5, ROWS)).expect("taken");
    drop(block_on(appender.prepare(&|| false)).expect("prepared"));
    assert_eq!(db.rows(&db.root, &table), before);
}

#[test]
fn decimals_with_too_many_digits_are_refused() {
    let db = Database::new();
    let mut new = new_table("d", TableKind::Shared, &[]);
    new.columns[0].data_type = arrow::datatypes::DataType::Decimal128(4, 2);
    let (table, _) = block_on(db.engine.create_table(&db.root, new, CreateMode::New)).expect("made");
    let rows = |value: i128| {
        let decimals = arrow::array::Decimal128Array::from(vec![value])
            .with_precision_and_scale(4, 2)
            .expect("a type");
        let ids = arrow::array::Int64Array::from(vec![1]);
        let columns: [(&str, arrow::array::ArrayRef); 2] = [("v", Arc::new(decimals)), ("id", Arc::new(ids))];
        arrow::array::RecordBatch::try_from_iter(columns).expect("columns")
    };
    let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
    refused(appender.push(&rows(10_000)), ErrorCode::TypeMismatch);
    appender.push(&rows(9_999)).expect("fits");
}
