//! Rows that are long and runs that are many: what merges and loads hold in memory is bounded, whatever they are given.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use crate::peak::{self, Peak};
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, compact_while, delete, finish, load, load_all, new_store, rows,
    schema, segment_options, step,
};
use crate::tuning::{LOAD_CHUNK_ROWS, MERGE_BATCH_BYTES, MERGE_BYTES, MERGE_RUNS};
use crate::{BulkLoad, OnDuplicate, TableChange};

/// Rows of a test that are merged: of four chunks.
const ROWS: i64 = 4 * LOAD_CHUNK_ROWS as i64;

/// Text that hardly compresses.
fn noise(id: i64, bytes: usize) -> String {
    let mut state = id as u64 + 1;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        // xorshift64 (Marsaglia, "Xorshift RNGs").
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

fn write(load: &mut BulkLoad<u64>, ids: &[i64], text: impl Fn(i64) -> String) {
    for part in ids.chunks(100) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(part.to_vec())),
            Arc::new(StringArray::from_iter_values(part.iter().map(|&id| text(id)))),
        ];
        load.write(&columns, part.len()).expect("writes");
    }
}

fn publish(store: &TestStore, load: BulkLoad<u64>) {
    let publication = finish(load).expect("finishes");
    step(store, vec![TableChange::Publish(publication)]).expect("publishes");
}

#[test]
fn long_rows_are_merged_in_batches_of_bounded_bytes() {
    type Text = fn(i64) -> String;
    let cases: [(&str, Text); 2] = [
        ("long rows", |id| noise(id, 4000)),
        ("equal long rows, which take next to nothing in their files", |_| {
            "x".repeat(4000)
        }),
    ];
    let check = |name: &str, inputs: usize, peak: Peak| {
        let Peak {
            held,
            batch,
            batches,
            step,
            ..
        } = peak;
        assert!(batches > 12 * MERGE_BYTES, "{name}: all would fit, {peak:?}");
        assert!(batch <= MERGE_BATCH_BYTES + 5000, "{name}: {peak:?}");
        assert!(held <= 3 * MERGE_BYTES, "{name}: {peak:?}");
        // Two columns, a page of each.
        assert!(step <= MERGE_BYTES / inputs + 3 * (128 << 10), "{name}: {peak:?}");
    };
    for (name, text) in cases {
        let (_directory, store) = new_store();
        let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
        // 2,399 is prime to their number: all of them, in no order.
        let shuffled: Vec<i64> = (0..ROWS).map(|at| at * 2399 % ROWS * 2).collect();
        write(&mut load, &shuffled, text);
        peak::take();
        publish(&store, load);
        check(name, 5, peak::take());

        let mut between = begin_load(&store, GLOBAL, OnDuplicate::Fail);
        write(&mut between, &(0..ROWS).map(|at| at * 2 + 1).collect::<Vec<_>>(), text);
        publish(&store, between);
        delete(&store, 7).expect("commits");
        peak::take();
        compact_while(&store, |_, _| {});
        check(name, 2, peak::take());
        let expected = (0..2 * ROWS).filter(|id| *id != 7);
        for (found, id) in rows(&store.state(), T, GLOBAL).into_iter().zip(expected.clone()) {
            assert!(found == (id, text(id)), "{name}: {id}");
        }
        assert_eq!(rows(&store.state(), T, GLOBAL).len(), expected.count());
    }
}

#[test]
fn many_runs_are_merged_in_several_passes() {
    let chunk = LOAD_CHUNK_ROWS as i64;
    let many = 2 * MERGE_RUNS as i64 + 1;
    for (on_duplicate, expected) in [(OnDuplicate::Replace, "last 5"), (OnDuplicate::Ignore, "first 5")] {
        let (_directory, store) = new_store();
        let mut load = begin_load(&store, GLOBAL, on_duplicate);
        load_all(&mut load, &[8, 5], "first").expect("writes");
        let backwards: Vec<i64> = (10..many * chunk).rev().collect();
        for part in backwards.chunks(500) {
            load_all(&mut load, part, "loaded").expect("writes");
        }
        load_all(&mut load, &[5], "last").expect("writes");
        peak::take();
        publish(&store, load);
        assert_eq!(peak::take().runs, MERGE_RUNS);
        let found = rows(&store.state(), T, GLOBAL);
        assert_eq!(found[0], (5, expected.to_string()));
        let ids: Vec<i64> = found.into_iter().map(|(id, _)| id).collect();
        assert!(ids.into_iter().eq([5, 8].into_iter().chain(10..many * chunk)));
    }
    for full in [true, false] {
        let (_directory, store) = new_store();
        for run in 0..many {
            load(&store, GLOBAL, OnDuplicate::Fail, &[run, run + 100], "loaded");
        }
        peak::take();
        let quiet = Meanwhile(|_, _| {});
        let merged = store.compact(T, &schema(), &segment_options(), full, &quiet);
        merged.expect("compacts");
        assert_eq!(peak::take().runs, MERGE_RUNS, "{full}");
        let state = store.state();
        let mut ids: Vec<i64> = rows(&state, T, GLOBAL).into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq((0..many).chain(100..100 + many)));
        let runs = state.table(T).expect("there").segments.runs().len();
        assert!(runs <= if full { 1 } else { crate::tuning::RUNS }, "{full}: {runs}");
    }
}

#[test]
fn rows_of_a_load_are_counted_and_not_the_buffers_that_they_are_parts_of() {
    let (_directory, store) = new_store();
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    let ids: Vec<i64> = (0..900).rev().collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|&id| noise(id, 2000)))),
    ];
    for from in (0..900).step_by(10) {
        let part: Vec<ArrayRef> = columns.iter().map(|column| column.slice(from, 10)).collect();
        load.write(&part, 10).expect("writes");
    }
    peak::take();
    publish(&store, load);
    // Rows in order, of which there are none, and one chunk of the others.
    assert_eq!(peak::take().runs, 2);
    assert_eq!(crate::testing::ids(&store, T), (0..900).collect::<Vec<_>>());
}
