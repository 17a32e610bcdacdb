//! The hazards of reading: rows left out, rows too many, other people's rows, and more read than was asked for.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::executor::block_on;
use rocksdb::WriteBatch;

use crate::hazards_of_limits::{count, ids_and_counters, put_many};
use crate::key::hot_key;
use crate::testing::{
    GLOBAL, T, TestStore, assert_rows, begin_load, claim, collect, compact_while, delete, finish, flush, insert, key,
    load, load_rows, new_store, options, put, removal, request, schema, segment_files, segment_options, spec, step,
    update,
};
use crate::{Epoch, KeyRange, OnDuplicate, ScanOrder, ScopeId, Store, StoreError, StoreOptions, TableChange};

#[test]
fn hazard_4_a_malformed_row_is_named_by_whoever_meets_it() {
    let (directory, store) = new_store();
    put_many(&store, 0..10);
    let mut whole = Vec::new();
    hot_key(T, Epoch(0), GLOBAL, &key(4), &mut whole);
    let engine = store.engine();
    let write = |bytes: &[u8]| {
        let mut batch = WriteBatch::default();
        batch.put_cf(engine.hot(), &whole, bytes);
        engine.write_synced(batch).expect("written");
        // So that there is a state with it.
        insert(&store, T, 100, "row").expect("commits");
        delete(&store, 100).expect("commits");
    };
    let sound = engine
        .db()
        .get_cf(engine.hot(), &whole)
        .expect("reads")
        .expect("is there");
    write(&sound[..sound.len() / 2]);
    let state = store.state();
    let named = |result: Result<(), StoreError>, what: &str| match result {
        Err(StoreError::Corrupt { object, .. }) => assert!(object.contains("store 7, epoch 0"), "{what}: {object}"),
        other => panic!("{what}: {other:?}"),
    };
    let scan_all = || {
        let mut scan = state.scan(&schema(), spec(T, GLOBAL))?;
        while scan.next_batch()?.is_some() {}
        Ok(())
    };
    named(scan_all(), "a scan");
    named(state.find(&schema(), T, GLOBAL, &key(4), 0).map(|_| ()), "a look-up");
    named(
        state.find_all(&schema(), T, GLOBAL, &[key(3), key(4)]).map(|_| ()),
        "look-ups",
    );
    named(
        state.get(&schema(), &spec(T, GLOBAL), &key(4)).map(|_| ()),
        "a point read",
    );
    let quiet = crate::testing::Meanwhile(|_, _| {});
    named(
        store.flush(T, &schema(), &segment_options(), &quiet).map(|_| ()),
        "a flush",
    );
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), [] as [std::path::PathBuf; 0]);
    // Nothing was lost on the way.
    write(&sound);
    flush(&store);
    let expected = (0..10).map(|id| (id, "row".to_string())).collect();
    assert_rows(&store.state(), GLOBAL, &expected);
}

#[test]
fn hazard_14_an_old_state_shows_rows_that_were_deleted_since() {
    let (_directory, store) = new_store();
    let model: BTreeMap<i64, String> = (0..10).map(|id| (id, "old".to_string())).collect();
    for id in model.keys() {
        insert(&store, T, *id, "old").expect("commits");
    }
    flush(&store);
    let old = store.state();
    let mut newer = model.clone();
    for id in 0..5 {
        delete(&store, id).expect("commits");
        newer.remove(&id);
    }
    update(&store, 7, "new").expect("commits");
    newer.insert(7, "new".to_string());
    assert_rows(&old, GLOBAL, &model);
    assert_rows(&store.state(), GLOBAL, &newer);
    assert_eq!(old.segments(T).expect("reads")[0].1, 0);
    assert_eq!(store.state().segments(T).expect("reads")[0].1, 6);
}

#[test]
fn hazard_1_dead_rows_are_shown_by_no_way_of_reading() {
    let (_directory, store) = new_store();
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    load(
        &store,
        GLOBAL,
        OnDuplicate::Fail,
        &(0..20).collect::<Vec<_>>(),
        "loaded",
    );
    for id in 0..20 {
        model.insert(id, format!("loaded {id}"));
    }
    for id in [0, 7, 8, 9, 19] {
        delete(&store, id).expect("commits");
        model.remove(&id);
        assert_rows(&store.state(), GLOBAL, &model);
    }
    for (limit, expected) in [
        (1, vec![1]),
        (7, vec![1, 2, 3, 4, 5, 6, 10]),
        (100, model.keys().copied().collect()),
    ] {
        let mut limited = spec(T, GLOBAL);
        limited.limit = Some(limit);
        let found = collect(store.state().scan(&schema(), limited.clone()).expect("scans"));
        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), expected);
        assert_eq!(count(&store.state(), limited), expected.len());
    }
}

#[test]
fn keys_are_found_in_whichever_run_has_them() {
    let (_directory, store) = new_store();
    let mut model = BTreeMap::new();
    // Each run spans the keys of all others.
    for run in 0..5i64 {
        let ids: Vec<i64> = (0..40).map(|id| 5 * id + run).collect();
        load(&store, GLOBAL, OnDuplicate::Fail, &ids, "loaded");
        model.extend(ids.into_iter().map(|id| (id, format!("loaded {id}"))));
        assert_rows(&store.state(), GLOBAL, &model);
    }
    assert_eq!(store.state().segments(T).expect("reads").len(), 5);
}

#[test]
fn hazard_1_a_live_row_is_found_behind_a_dead_one_of_a_later_run() {
    let (_directory, store) = new_store();
    // The load's run is numbered when it begins, and the flush's after it.
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 1..3);
    insert(&store, T, 1, "flushed").expect("commits");
    flush(&store);
    delete(&store, 1).expect("commits");
    let publication = finish(load).expect("finishes");
    step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
    let model = BTreeMap::from([(1, "loaded 1".to_string()), (2, "loaded 2".to_string())]);
    assert_rows(&store.state(), GLOBAL, &model);
}

#[test]
fn a_key_that_is_asked_for_twice_is_found_twice() {
    let (_directory, store) = new_store();
    load(&store, GLOBAL, OnDuplicate::Fail, &[1, 2], "loaded");
    insert(&store, T, 3, "flushed").expect("commits");
    insert(&store, T, 4, "flushed").expect("commits");
    flush(&store);
    insert(&store, T, 5, "hot").expect("commits");
    let asked: Vec<Vec<u8>> = [5, 3, 1, 9, 3, 1, 4, 5, 1].map(key).to_vec();
    let state = store.state();
    let found = state.find_all(&schema(), T, GLOBAL, &asked).expect("reads");
    for (key, found) in asked.iter().zip(found) {
        let alone = state.find(&schema(), T, GLOBAL, key, 0).expect("reads");
        assert_eq!(found.map(|found| found.row.seq), alone.map(|found| found.row.seq));
    }
}

/// Three users with rows of the same keys in the same segments, and among the hot rows.
fn three_users(store: &Arc<TestStore>) -> Vec<(ScopeId, BTreeMap<i64, String>)> {
    let users: Vec<_> = (1..=3)
        .map(|user| {
            let ids = 0..10 * user as i64;
            (
                ScopeId(user),
                ids.map(|id| (id, format!("{user}"))).collect::<BTreeMap<_, _>>(),
            )
        })
        .collect();
    for part in 0..3 {
        for (scope, model) in &users {
            let wanted = model.iter().filter(|(id, _)| *id % 3 == part);
            let puts = wanted.map(|(id, text)| put(T, *scope, *id, text)).collect();
            block_on(store.commit(request(store, puts))).expect("commits");
        }
        // The last part stays hot.
        if part < 2 {
            flush(store);
        }
    }
    users
}

#[test]
fn nobody_reads_or_counts_rows_of_another_user() {
    let (_directory, store) = new_store();
    let mut users = three_users(&store);
    let check = |store: &TestStore, users: &[(ScopeId, BTreeMap<i64, String>)]| {
        let state = store.state();
        for (scope, model) in users {
            assert_rows(&state, *scope, model);
            assert_eq!(count(&state, spec(T, *scope)), model.len());
            let mut part = spec(T, *scope);
            part.range = KeyRange {
                start: Bound::Included(key(4)),
                end: Bound::Excluded(key(8)),
            };
            assert_eq!(count(&state, part.clone()), model.range(4..8).count());
            part.limit = Some(2);
            assert_eq!(count(&state, part), model.range(4..8).count().min(2));
        }
        for nobody in [ScopeId(0), ScopeId(4), ScopeId(u64::MAX)] {
            assert_rows(&state, nobody, &BTreeMap::new());
            assert_eq!(count(&state, spec(T, nobody)), 0);
        }
    };
    check(&store, &users);
    // What one of them does is of no account to the others.
    let state = store.state();
    let mut change = request(&store, vec![put(T, ScopeId(2), 5, "changed")]);
    change.removals = [4, 5].map(|id| removal(&state, T, ScopeId(2), id)).to_vec();
    block_on(store.commit(change)).expect("commits");
    users[1].1.remove(&4);
    users[1].1.insert(5, "changed".to_string());
    load(&store, ScopeId(3), OnDuplicate::Replace, &[5, 50], "loaded");
    users[2].1.insert(5, "loaded 5".to_string());
    users[2].1.insert(50, "loaded 50".to_string());
    check(&store, &users);
    compact_while(&store, |_, _| {});
    check(&store, &users);
    flush(&store);
    compact_while(&store, |_, _| {});
    check(&store, &users);
    assert_eq!(store.state().segments(T).expect("reads").len(), 1);
}

#[test]
fn every_row_is_in_one_part_of_a_scan_however_many_there_are() {
    let (_directory, store) = new_store();
    load(
        &store,
        GLOBAL,
        OnDuplicate::Fail,
        &(0..10).collect::<Vec<_>>(),
        "loaded",
    );
    load(
        &store,
        GLOBAL,
        OnDuplicate::Fail,
        &(20..25).collect::<Vec<_>>(),
        "loaded",
    );
    for id in [0, 9, 22] {
        delete(&store, id).expect("commits");
    }
    insert(&store, T, 15, "hot").expect("commits");
    let state = store.state();
    let expected: Vec<i64> = (1..9).chain([15, 20, 21, 23, 24]).collect();
    for parts in 1..=20 {
        for (start, end) in [
            (Bound::Unbounded, Bound::Unbounded),
            (Bound::Included(key(5)), Bound::Excluded(key(23))),
        ] {
            let mut found = Vec::new();
            for part in 0..parts {
                let mut of_part = spec(T, GLOBAL);
                of_part.part = (part, parts);
                of_part.range = KeyRange {
                    start: start.clone(),
                    end: end.clone(),
                };
                found.extend(
                    collect(state.scan(&schema(), of_part).expect("scans"))
                        .into_iter()
                        .map(|row| row.0),
                );
            }
            found.sort_unstable();
            let whole = matches!(start, Bound::Unbounded);
            let expected: Vec<i64> = expected
                .iter()
                .copied()
                .filter(|id| whole || (5..23).contains(id))
                .collect();
            assert_eq!(found, expected, "{parts} parts");
        }
    }
}

#[test]
fn open_segments_take_no_more_memory_than_they_may() {
    let (directory, store) = new_store();
    let mut model = BTreeMap::new();
    for run in 0..16 {
        load(&store, GLOBAL, OnDuplicate::Fail, &[run, 100 + run], "loaded");
        model.extend([run, 100 + run].map(|id| (id, format!("loaded {id}"))));
    }
    drop(store);
    let held = |segment_cache_bytes: usize| {
        let options = StoreOptions {
            segment_cache_bytes,
            ..options(directory.path())
        };
        let store = Store::open(options, 0, |_, _| Ok::<_, StoreError>(1)).expect("opens");
        assert_eq!(store.statistics().open_segment_bytes, 0);
        assert_rows(&store.state(), GLOBAL, &model);
        usize::try_from(store.statistics().open_segment_bytes).expect("not much")
    };
    let all = held(8 << 20);
    assert!(all > 0);
    let half = held(all / 2);
    assert!(half > 0 && half <= all / 2, "{half} of {all}");
    assert_eq!(held(0), 0, "whatever is read is read anew");
}

#[test]
fn rows_in_key_order_whichever_run_has_them() {
    let (_directory, store) = new_store();
    let mut expected = Vec::new();
    // Each run spans the keys of all others, in several segments; some rows are dead, some are hot.
    for run in 0..4i64 {
        let ids: Vec<i64> = (0..3_000).map(|id| 5 * id + run).collect();
        load(&store, GLOBAL, OnDuplicate::Fail, &ids, "loaded");
        expected.extend(ids);
    }
    let hot: Vec<i64> = (0..300).map(|id| 50 * id + 4).collect();
    block_on(store.commit(request(
        &store,
        hot.iter().map(|&id| put(T, GLOBAL, id, "hot")).collect(),
    )))
    .expect("commits");
    expected.extend(&hot);
    let mut change = request(&store, vec![]);
    let state = store.state();
    change.tables = vec![claim(T, GLOBAL)];
    change.removals = (0..15_000)
        .step_by(35)
        .map(|id| removal(&state, T, GLOBAL, id))
        .collect();
    block_on(store.commit(change)).expect("commits");
    expected.retain(|id| id % 35 != 0);
    expected.sort_unstable();
    let state = store.state();
    for order in [ScanOrder::Ascending, ScanOrder::Descending] {
        for batch_rows in [7, 1000, 8192] {
            let mut wanted = spec(T, GLOBAL);
            (wanted.order, wanted.batch_rows) = (order, batch_rows);
            let (ids, counters) = ids_and_counters(&state, wanted.clone());
            assert!(ids == expected, "{order:?} in batches of {batch_rows}");
            assert_eq!(counters.keys_read, 4 * 3_000 + 300);
            // In short batches first, of which a few are read.
            for rows in [1, 100, 5_000] {
                let mut scan = state.scan(&schema(), wanted.clone()).expect("the scan starts");
                scan.expect_rows(rows);
                let mut ids: Vec<i64> = Vec::new();
                while let Some(batch) = scan.next_batch().expect("it goes on") {
                    if ids.is_empty() {
                        let most = rows.max(64).min(batch_rows);
                        assert!(batch.num_rows() <= most, "{} of {most}", batch.num_rows());
                        // Each place may have one batch read and one begun.
                        let read = scan.keys_read();
                        assert!(read <= 5 * 3 * most as u64, "{read} keys for {most} rows");
                    }
                    ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
                }
                assert!(ids == expected, "{order:?} in batches of {batch_rows}, {rows} expected");
                assert_eq!(scan.keys_read(), 4 * 3_000 + 300);
            }
            // Each part has an order of its own.
            let mut of_parts: Vec<i64> = Vec::new();
            for part in 0..3 {
                wanted.part = (part, 3);
                let (ids, _) = ids_and_counters(&state, wanted.clone());
                let sorted = match order {
                    ScanOrder::Descending => ids.is_sorted_by(|a, b| a > b),
                    ScanOrder::Any | ScanOrder::Ascending => ids.is_sorted_by(|a, b| a < b),
                };
                assert!(sorted, "{order:?}, part {part}");
                of_parts.extend(ids);
            }
            of_parts.sort_unstable();
            assert_eq!(of_parts.len(), expected.len());
        }
        expected.reverse();
    }
}
