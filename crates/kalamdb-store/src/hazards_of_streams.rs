//! Hazard 6, of rows that expire: exactly at their time, and with their bucket.

use futures::executor::block_on;

use crate::testing::{GLOBAL, VERSION, collect, columns, key, new_store, request, schema_of, spec, step};
use crate::{Lifetime, Put, PutKey, RowEncoder, StoreId, TableChange, TableVersion};

#[test]
fn hazard_6_an_expired_row_is_not_found_not_scanned_and_not_counted_to_a_limit() {
    let (_directory, store) = new_store();
    let table = StoreId(9);
    step(
        &store,
        vec![TableChange::Create(
            table,
            TableVersion::new(VERSION, Lifetime::Expiring),
        )],
    )
    .expect("created");
    let schema = schema_of(Lifetime::Expiring, vec![0]);
    let encoder = RowEncoder::new(schema.clone()).expect("a schema");
    let puts = [(1, 100), (2, 200), (3, 300)].map(|(id, expiry)| Put {
        store: table,
        scope: GLOBAL,
        key: PutKey::Key(key(id)),
        value: encoder.encode(&columns(id, "x"), 0, Some(expiry)).expect("encodes"),
    });
    block_on(store.commit(request(&store, puts.to_vec()))).expect("commits");
    let state = store.state();
    for (now, expected) in [(99, vec![1, 2, 3]), (100, vec![2, 3]), (200, vec![3]), (300, vec![])] {
        let mut spec = spec(table, GLOBAL);
        spec.now_micros = now;
        spec.limit = Some(expected.len() + 1);
        let found = collect(state.scan(&schema, spec.clone()).expect("a scan"));
        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), expected, "at {now}");
        for id in 1..=3 {
            let there = expected.contains(&id);
            assert_eq!(
                state
                    .find(&schema, table, GLOBAL, &key(id), now)
                    .expect("reads")
                    .is_some(),
                there
            );
            assert_eq!(
                state.get(&schema, &spec, &key(id)).expect("reads").num_rows(),
                usize::from(there)
            );
        }
        let all = state
            .find_all(&schema, table, GLOBAL, &[key(1), key(4), key(3)])
            .expect("reads");
        assert_eq!(
            all.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, true],
            "expired ones as well"
        );
    }
}

#[test]
fn hazard_6_a_bucket_goes_when_its_last_row_has_expired_and_no_earlier() {
    let (_directory, store) = new_store();
    let table = StoreId(9);
    let create = TableChange::Create(table, TableVersion::new(VERSION, Lifetime::Expiring));
    step(&store, vec![create]).expect("created");
    let schema = schema_of(Lifetime::Expiring, vec![0]);
    let encoder = RowEncoder::new(schema.clone()).expect("a schema");
    let insert = |id: i64, expiry: i64| {
        let put = Put {
            store: table,
            scope: GLOBAL,
            key: PutKey::Key(key(id)),
            value: encoder.encode(&columns(id, "x"), 0, Some(expiry)).expect("encodes"),
        };
        block_on(store.commit(request(&store, vec![put]))).expect("commits");
    };
    let rotate = |seals, now_micros| {
        let change = TableChange::Rotate {
            store: table,
            seals,
            now_micros,
        };
        step(&store, vec![change]).expect("rotates");
        store.state().table(table).expect("live").buckets()
    };
    // Rows that are there, expired or not.
    let there = || {
        let keys = [key(1), key(2), key(3)];
        let found = store.state().find_all(&schema, table, GLOBAL, &keys).expect("reads");
        found.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    insert(1, 100);
    insert(2, 200);
    assert_eq!(rotate(Some(200), 50), (2, Some(200)));
    insert(3, 300);
    assert_eq!(rotate(Some(300), 150), (3, Some(200)));
    assert_eq!(rotate(None, 199), (3, Some(200)));
    assert_eq!(there(), [true, true, true]);
    assert_eq!(rotate(None, 200), (2, Some(300)));
    assert_eq!(there(), [false, false, true]);
    assert_eq!(rotate(None, 300), (1, None));
    assert_eq!(there(), [false, false, false]);
}
