//! STREAM tables: exact expiry and `MAX_ROWS`.

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, SECOND, START, batch, found};

#[test]
fn a_stream_row_is_gone_at_its_expiry_to_the_microsecond() {
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

    db.insert(&a, &table, &[("e", 3)]).expect("inserted");
    assert_eq!(block_on(db.engine.sweep_expired()).expect("swept"), 0);
    db.clock.advance_micros(5 * SECOND);
    assert_eq!(block_on(db.engine.sweep_expired()).expect("swept"), 1);
    assert_eq!(db.rows(&a, &table), owned(&[("e", 3)]));
    db.clock.advance_micros(60 * SECOND);
    assert_eq!(block_on(db.engine.sweep_expired()).expect("swept"), 1);
    assert_eq!(block_on(db.engine.sweep_expired()).expect("swept"), 0);
}

#[test]
fn max_rows_keeps_each_users_newest() {
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
