//! Hazards 3 and 8: a read that ends too early, and one that reads more than it was asked for, or tells of what it passed by.

use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema};
use futures::executor::block_on;

use crate::testing::{
    GLOBAL, T, TestStore, begin_load, collect, compact_while, delete, finish, flush, key, load, load_rows, new_store,
    put, request, rows, schema, segment_files, spec, step,
};
use crate::{Bounds, DbState, OnDuplicate, Prune, ScanCounters, ScanOrder, ScanSpec, ScopeId, StoreError, TableChange};

/// More than a batch, a segment or a look-up takes at once.
const MANY: i64 = 12_000;

/// Rows of a scan, without its columns.
pub(crate) fn count(state: &Arc<DbState<u64>>, mut spec: ScanSpec) -> usize {
    spec.columns = vec![];
    spec.schema = Arc::new(Schema::empty());
    let mut scan = state.scan(&schema(), spec).expect("the scan starts");
    let mut counted = 0;
    while let Some(batch) = scan.next_batch().expect("it goes on") {
        counted += batch.num_rows();
    }
    counted
}

pub(crate) fn put_many(store: &TestStore, ids: Range<i64>) {
    let puts = ids.map(|id| put(T, GLOBAL, id, "row")).collect();
    block_on(store.commit(request(store, puts))).expect("commits");
}

#[test]
fn a_limit_and_a_range_read_no_more_than_they_need() {
    let (_directory, store) = new_store();
    let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load, 0..6000);
    step(
        &store,
        vec![TableChange::Publish(block_on(load.finish()).expect("finishes"))],
    )
    .expect("publishes");
    for id in 0..10 {
        delete(&store, id).expect("commits");
    }
    let mut limited = spec(T, GLOBAL);
    limited.limit = Some(5);
    let mut scan = store.state().scan(&schema(), limited).expect("scans");
    let batch = scan.next_batch().expect("reads").expect("rows");
    assert_eq!(batch.num_rows(), 5);
    assert!(scan.next_batch().expect("reads").is_none());
    assert_eq!(scan.keys_read(), 15);

    let mut range = spec(T, GLOBAL);
    range.range.start = Bound::Included(key(4000));
    range.range.end = Bound::Excluded(key(4010));
    let mut scan = store.state().scan(&schema(), range).expect("scans");
    let batch = scan.next_batch().expect("reads").expect("rows");
    assert_eq!((batch.num_rows(), scan.keys_read()), (10, 10));
}

#[test]
fn hazard_3_no_scan_and_no_count_stops_before_the_end() {
    let (_directory, store) = new_store();
    let check = |expected: Range<i64>| {
        let state = store.state();
        for batch_rows in [100, 8192, usize::MAX] {
            let mut spec = spec(T, GLOBAL);
            spec.batch_rows = batch_rows;
            let mut found: Vec<i64> = collect(state.scan(&schema(), spec.clone()).expect("scans"))
                .into_iter()
                .map(|row| row.0)
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected.clone().collect::<Vec<_>>());
            assert_eq!(count(&state, spec), found.len());
        }
    };
    put_many(&store, 0..MANY);
    check(0..MANY);
    flush(&store);
    check(0..MANY);
    put_many(&store, MANY..2 * MANY);
    check(0..2 * MANY);
    flush(&store);
    compact_while(&store, |_, _| {});
    check(0..2 * MANY);
}

#[test]
fn hazard_8_a_count_reads_no_column() {
    let (directory, store) = new_store();
    load(
        &store,
        GLOBAL,
        OnDuplicate::Fail,
        &(0..5000).collect::<Vec<_>>(),
        "loaded",
    );
    delete(&store, 7).expect("commits");
    // Opens the files; from now on their indexes are in memory.
    let state = store.state();
    assert_eq!(rows(&state, T, GLOBAL).len(), 4999);
    for file in segment_files(directory.path()) {
        std::fs::remove_file(file).expect("removed");
    }
    assert_eq!(count(&state, spec(T, GLOBAL)), 4999);
    let mut scan = state.scan(&schema(), spec(T, GLOBAL)).expect("starts");
    assert!(
        matches!(scan.next_batch(), Err(StoreError::Damaged { .. })),
        "a column is not there"
    );
}

/// (ids, what was looked at).
pub(crate) fn ids_and_counters(state: &Arc<DbState<u64>>, spec: ScanSpec) -> (Vec<i64>, ScanCounters) {
    let mut scan = state.scan(&schema(), spec).expect("the scan starts");
    let mut ids = Vec::new();
    while let Some(batch) = scan.next_batch().expect("it goes on") {
        ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    (ids, scan.counters())
}

#[test]
fn hazard_8_the_first_and_the_last_row_are_read_alone() {
    let (_directory, store) = new_store();
    // Three runs of three segments each that follow each other, and hot rows in the midst.
    for run in 0..3 {
        let ids: Vec<i64> = (10_000 * run..10_000 * run + 6_000).map(|id| 2 * id).collect();
        load(&store, GLOBAL, OnDuplicate::Fail, &ids, "loaded");
    }
    put_many(&store, 30_001..30_004);
    let edges = |state: &Arc<DbState<u64>>, limit: usize| {
        [ScanOrder::Ascending, ScanOrder::Descending].map(|order| {
            let mut wanted = spec(T, GLOBAL);
            (wanted.order, wanted.limit) = (order, Some(limit));
            let (ids, counters) = ids_and_counters(state, wanted);
            (ids, counters.keys_read, counters.segments_read)
        })
    };
    assert_eq!(
        edges(&store.state(), 1),
        [(vec![0], 1, 1), (vec![51_998], 1, 1)],
        "one row of one of nine segments"
    );
    assert_eq!(
        edges(&store.state(), 3),
        [(vec![0, 2, 4], 3, 1), (vec![51_998, 51_996, 51_994], 3, 1)]
    );
    for id in [0, 2, 51_998] {
        delete(&store, id).expect("commits");
    }
    assert_eq!(
        edges(&store.state(), 1),
        [(vec![4], 3, 1), (vec![51_996], 2, 1)],
        "the dead are passed over"
    );
    // A run that spans them all.
    load(&store, GLOBAL, OnDuplicate::Fail, &[1, 51_999], "loaded");
    assert_eq!(edges(&store.state(), 1), [(vec![1], 4, 2), (vec![51_999], 1, 1)]);
    let [(ids, read, segments), _] = edges(&store.state(), 4);
    assert_eq!(ids, [1, 4, 6, 8]);
    assert!(read <= 2 * 4 + 2 && segments == 2, "{read} rows of {segments} segments");
    delete(&store, 1).expect("commits");
    put_many(&store, -5..-4);
    assert_eq!(edges(&store.state(), 1)[0], (vec![-5], 1, 0));
    compact_while(&store, |_, _| {});
    flush(&store);
    assert_eq!(edges(&store.state(), 1), [(vec![-5], 1, 1), (vec![51_999], 1, 1)]);
}

/// Rows whose text is this one.
#[derive(Debug)]
struct TextIs {
    text: &'static str,
    columns: [Vec<usize>; 1],
}

impl Prune for TextIs {
    fn conditions(&self) -> &[Vec<usize>] {
        &self.columns
    }

    fn may_hold(&self, _: usize, bounds: &[Option<&Bounds>]) -> Option<Vec<bool>> {
        let bounds = bounds[0]?;
        let (min, max) = (bounds.min.as_string::<i32>(), bounds.max.as_string::<i32>());
        let within = min
            .iter()
            .zip(max)
            .map(|(min, max)| min <= Some(self.text) && Some(self.text) <= max);
        Some(within.collect())
    }
}

fn looked_at_for(state: &Arc<DbState<u64>>, scope: ScopeId, text: &'static str) -> ScanCounters {
    let mut wanted = spec(T, scope);
    let columns = [vec![1]];
    wanted.prune = Some(Arc::new(TextIs { text, columns }));
    ids_and_counters(state, wanted).1
}

#[test]
fn hazard_8_what_bounds_rule_out_is_not_read() {
    let (_directory, store) = new_store();
    // Two segments of 2,500 rows of two pages each: "a" up to 2,048, "b" up to 3,000, then "c".
    let mut loading = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    let parts: [(Range<i64>, &str); 3] = [(0..2048, "a"), (2048..3000, "b"), (3000..5000, "c")];
    for (ids, text) in parts {
        let texts: arrow::array::ArrayRef =
            Arc::new(arrow::array::StringArray::from_iter_values(ids.clone().map(|_| text)));
        let rows = ids.clone().count();
        let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(ids));
        loading.write(&[ids, texts], rows).expect("writes");
    }
    let publication = finish(loading).expect("finishes");
    step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
    let state = store.state();
    let counters = |keys_read, segments_read, row_groups_pruned, pages_pruned| ScanCounters {
        keys_read,
        segments_read,
        row_groups_pruned,
        pages_pruned,
    };
    assert_eq!(looked_at_for(&state, GLOBAL, "a"), counters(2048, 1, 1, 1));
    assert_eq!(looked_at_for(&state, GLOBAL, "b"), counters(452 + 2048, 2, 0, 2));
    assert_eq!(looked_at_for(&state, GLOBAL, "c"), counters(2500, 1, 1, 0));
    assert_eq!(looked_at_for(&state, GLOBAL, "d"), counters(0, 0, 2, 0));
}

#[test]
fn what_others_store_does_not_show_in_what_a_scan_looks_at() {
    let looked_at = |others: &'static str| {
        let (_directory, store) = new_store();
        for (scope, rows, text) in [(1, 0..1000, others), (2, 0..1000, "mine"), (3, 0..1000, others)] {
            let puts = rows.map(|id| put(T, ScopeId(scope), id, text)).collect();
            block_on(store.commit(request(&store, puts))).expect("commits");
        }
        flush(&store);
        let state = store.state();
        ["aaa", "mine", "zzz"].map(|text| looked_at_for(&state, ScopeId(2), text))
    };
    let (low, high, same) = (looked_at("aaa"), looked_at("zzz"), looked_at("mine"));
    assert_eq!(low, high);
    assert_eq!(low, same);
}
