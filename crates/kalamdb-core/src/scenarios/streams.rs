//! STREAM tables: exact expiry and `MAX_ROWS`.

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, SECOND, START, batch, found};

#[test]
fn hazard_6_a_stream_row_is_gone_at_its_expiry_to_the_microsecond() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "10")]);
    db.insert(&a, &table, &[("a", 1)]).expect("inserted");
    db.clock.advance_micros(5 * SECOND);
    db.insert(&a, &table, &[("b", 2)]).expect("inserted");

    // An update keeps the expiry.
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &a, &table).expect("starts");
    mutator
        .update(&found(&view, &a, &table, &[1]), &batch(&[("A", 1)]))
        .expect("taken");
    block_on(mutator.finish()).expect("updated");
    db.clock.set_micros(START + 10 * SECOND - 1);
    assert_eq!(db.rows(&a, &table), owned(&[("A", 1), ("b", 2)]));
    refused(db.insert(&a, &table, &[("c", 1)]), ErrorCode::DuplicateKey);
    db.clock.advance_micros(1);
    assert_eq!(db.rows(&a, &table), owned(&[("b", 2)]));
    // A clock that steps back revives nothing.
    db.clock.set_micros(START);
    assert_eq!(db.rows(&a, &table), owned(&[("b", 2)]));
    db.clock.set_micros(START + 10 * SECOND);

    // Its key is free for inserts and for updates, before any sweep.
    db.insert(&a, &table, &[("c", 1)]).expect("the key is free");
    assert_eq!(db.rows(&a, &table), owned(&[("c", 1), ("b", 2)]));
    db.clock.advance_micros(5 * SECOND);
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &a, &table).expect("starts");
    mutator
        .update(&found(&view, &a, &table, &[1]), &batch(&[("d", 2)]))
        .expect("taken");
    block_on(mutator.finish()).expect("the key is free");
    assert_eq!(db.rows(&a, &table), owned(&[("d", 2)]));

    // What has expired is not seen, whether or not it is erased.
    db.clock.advance_micros(5 * SECOND);
    sweep(&db);
    assert_eq!(db.rows(&a, &table), owned(&[]));
}

fn sweep(db: &Database) -> u64 {
    block_on(db.engine.sweep_expired()).expect("swept")
}

/// Buckets that exist, the current one among them.
fn buckets(db: &Database, table: &Table) -> usize {
    let state = db.view().state;
    state.table(table.store).expect("live").buckets().0
}

#[test]
fn hazard_6_buckets_are_erased_whole_when_their_last_row_has_expired() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "16")]);
    let mut most = 0;
    for second in 0..64 {
        db.insert(&a, &table, &[("x", second)]).expect("inserted");
        assert_eq!(
            db.rows(&a, &table).len(),
            usize::try_from(second + 1).expect("small").min(16)
        );
        // A key of a sealed bucket is taken for as long as its row lives.
        let early = (second - 15).max(0);
        refused(db.insert(&a, &table, &[("again", early)]), ErrorCode::DuplicateKey);
        db.clock.advance_micros(SECOND);
        sweep(&db);
        most = most.max(buckets(&db, &table));
    }
    assert!((8..=18).contains(&most), "{most} buckets");
    db.clock.advance_micros(16 * SECOND);
    assert!(sweep(&db) >= 8);
    assert_eq!(buckets(&db, &table), 1);
    assert_eq!(sweep(&db), 0);
}

#[test]
fn a_row_of_a_sealed_bucket_can_be_changed_and_a_statement_that_read_it_before_is_too() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "16")]);
    db.insert(&a, &table, &[("a", 1), ("b", 2)]).expect("inserted");
    let view = db.view();
    let before = found(&view, &a, &table, &[1]);
    db.clock.advance_micros(2 * SECOND);
    sweep(&db);
    assert_eq!(buckets(&db, &table), 2);
    let mut mutator = db.engine.mutate(&view, &a, &table).expect("starts");
    mutator.update(&before, &batch(&[("A", 1)])).expect("taken");
    block_on(mutator.finish()).expect("updated");
    assert_eq!(db.rows(&a, &table), owned(&[("A", 1), ("b", 2)]));
    // It moved to the current bucket and kept its expiry.
    db.clock.set_micros(START + 16 * SECOND - 1);
    assert_eq!(db.rows(&a, &table), owned(&[("A", 1), ("b", 2)]));
    // A statement that read a row of a bucket that is gone meanwhile is to run again.
    let view = db.view();
    let before = found(&view, &a, &table, &[2]);
    db.clock.advance_micros(3 * SECOND);
    sweep(&db);
    let mut mutator = db.engine.mutate(&view, &a, &table).expect("starts");
    mutator.delete(&before).expect("taken");
    refused(block_on(mutator.finish()), ErrorCode::Conflict);
    assert_eq!(db.rows(&a, &table), owned(&[]));
}

#[test]
fn hazard_6_max_rows_keeps_each_users_newest() {
    let db = Database::new();
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "10"), ("MAX_ROWS", "3")]);
    db.insert(&b, &table, &[("b", 1), ("b", 2), ("b", 3)])
        .expect("inserted");
    db.insert(&a, &table, &[("a", 1), ("b", 2)]).expect("inserted");
    db.insert(&a, &table, &[("c", 3), ("d", 4)]).expect("inserted");
    assert_eq!(db.rows(&a, &table), owned(&[("b", 2), ("c", 3), ("d", 4)]));
    // A replaced row is the newest again.
    db.load(&a, &table, OnConflict::Replace, &[("B", 2)]).expect("replaced");
    db.insert(&a, &table, &[("e", 5)]).expect("inserted");
    assert_eq!(db.rows(&a, &table), owned(&[("B", 2), ("d", 4), ("e", 5)]));
    assert_eq!(
        db.insert(&a, &table, &[("f", 6), ("g", 7), ("h", 8), ("i", 9)])
            .expect("inserted"),
        4
    );
    assert_eq!(db.rows(&a, &table), owned(&[("g", 7), ("h", 8), ("i", 9)]));
    assert_eq!(db.rows(&b, &table).len(), 3);
    // Expired rows do not count.
    db.clock.advance_micros(10 * SECOND);
    db.insert(&a, &table, &[("j", 10), ("k", 11)]).expect("inserted");
    assert_eq!(db.rows(&a, &table), owned(&[("j", 10), ("k", 11)]));
}

#[test]
fn hazard_6_two_inserts_that_trim_the_rows_of_one_user_meet() {
    let db = Database::new();
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "10"), ("MAX_ROWS", "3")]);
    db.insert(&a, &table, &[("a", 1), ("b", 2)]).expect("inserted");
    // All as of one moment, which a statement has only until it has its turn.
    let view = db.view();
    let planned = [(&a, 3), (&a, 4), (&b, 5)].map(|(by, id)| {
        let mut appender = db.engine.append(by, &table, OnConflict::Error).expect("starts");
        appender.push(&batch(&[("new", id)])).expect("taken");
        appender.planned(&view).expect("planned")
    });
    let [first, second, of_another] = planned.map(|request| block_on(db.engine.store().commit(request)));
    assert!(first.is_ok() && of_another.is_ok(), "{first:?} {of_another:?}");
    assert!(
        matches!(second, Err(kalamdb_store::CommitError::Conflict)),
        "{second:?}"
    );
    assert_eq!(db.rows(&a, &table).len(), 3);
}

#[test]
fn concurrent_writers_of_one_user_keep_max_rows_exactly() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let table = db.table("e", TableKind::Stream, &[("TTL_SECONDS", "10"), ("MAX_ROWS", "20")]);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (db, a, table) = (&db, &a, &table);
            scope.spawn(move || {
                for row in 0..25 {
                    db.insert(a, table, &[("x", writer * 100 + row)]).expect("inserted");
                }
            });
        }
    });
    assert_eq!(db.rows(&a, &table).len(), 20);
}
