//! The hazards of commits that meet in one group, and of scopes that are retired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;

use futures::executor::block_on;
use futures::future::join_all;

use crate::erase::EraseJob;
use crate::hazards::bytes_under;
use crate::key::scope_prefix;
use crate::testing::{
    At, AtEach, GLOBAL, Meanwhile, T, TestStore, assert_rows, compact_while, flush, insert, load, new_store, open, put,
    removal, request, schema, segment_files, segment_options, step,
};
use crate::{CommitError, Committed, Epoch, OnDuplicate, ScopeId, TableChange, WriteRequest};

/// Commits these as one group: they wait in the queue while the committer is held up in the commit before.
fn in_one_group(store: &Arc<TestStore>, requests: Vec<WriteRequest>) -> Vec<Result<Committed, CommitError>> {
    let (reached, wait) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel::<()>();
    store.engine().at("half-published", move || {
        reached.send(()).expect("the test waits");
        gone_on.recv().expect("the test lets it go on");
    });
    let first = store.commit(request(store, vec![]));
    wait.recv().expect("the committer comes by");
    let syncs = store.statistics().log_syncs;
    let futures: Vec<_> = requests.into_iter().map(|request| store.commit(request)).collect();
    go_on.send(()).expect("the committer waits");
    block_on(first).expect("commits");
    let results = block_on(join_all(futures));
    assert_eq!(store.statistics().log_syncs, syncs + 1, "they were one group");
    results
}

fn deletion(store: &TestStore, ids: &[i64]) -> WriteRequest {
    let state = store.state();
    let mut request = request(store, vec![]);
    request.removals = ids.iter().map(|&id| removal(&state, T, GLOBAL, id)).collect();
    request
}

#[test]
fn hazard_11_two_inserts_of_one_key_in_one_group() {
    let (_directory, store) = new_store();
    let requests = ["first", "second"].map(|text| request(&store, vec![put(T, GLOBAL, 1, text)]));
    let results = in_one_group(&store, requests.to_vec());
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(CommitError::Conflict)));
    assert_rows(&store.state(), GLOBAL, &BTreeMap::from([(1, "first".to_string())]));
    assert_eq!(store.hot_usage(T).rows, 1);
}

#[test]
fn hazard_12_one_row_deleted_twice_is_deleted_once() {
    for (cold, grouped) in [(false, false), (false, true), (true, false), (true, true)] {
        let (_directory, store) = new_store();
        insert(&store, T, 1, "row").expect("commits");
        insert(&store, T, 2, "row").expect("commits");
        if cold {
            flush(&store);
        }
        let requests = vec![deletion(&store, &[1]), deletion(&store, &[1])];
        let results = match grouped {
            true => in_one_group(&store, requests),
            false => requests
                .into_iter()
                .map(|request| block_on(store.commit(request)))
                .collect(),
        };
        assert!(results[0].is_ok());
        assert!(
            matches!(results[1], Err(CommitError::Conflict)),
            "cold: {cold}, grouped: {grouped}"
        );
        assert_rows(&store.state(), GLOBAL, &BTreeMap::from([(2, "row".to_string())]));
        let dead: Vec<u32> = store
            .state()
            .segments(T)
            .expect("reads")
            .iter()
            .map(|segment| segment.1)
            .collect();
        assert_eq!(dead, if cold { vec![1] } else { vec![] });
        assert_eq!(store.hot_usage(T).rows, u64::from(!cold));
    }
}

#[test]
fn deletions_of_one_chunk_in_one_group_all_count() {
    let (directory, store) = new_store();
    load(
        &store,
        GLOBAL,
        OnDuplicate::Fail,
        &(0..20).collect::<Vec<_>>(),
        "loaded",
    );
    block_on(store.commit(deletion(&store, &[3]))).expect("commits");
    let results = in_one_group(
        &store,
        vec![
            deletion(&store, &[1, 2]),
            deletion(&store, &[7]),
            deletion(&store, &[9]),
        ],
    );
    assert!(results.iter().all(Result::is_ok));
    block_on(store.commit(deletion(&store, &[11]))).expect("commits");
    let gone = [1, 2, 3, 7, 9, 11];
    let model: BTreeMap<i64, String> = (0..20)
        .filter(|id| !gone.contains(id))
        .map(|id| (id, format!("loaded {id}")))
        .collect();
    assert_rows(&store.state(), GLOBAL, &model);
    assert_eq!(store.state().segments(T).expect("reads")[0].1, 6);
    drop(store);
    let store = open(directory.path());
    assert_rows(&store.state(), GLOBAL, &model);
    assert_eq!(store.state().segments(T).expect("reads")[0].1, 6);
}

const KEPT: ScopeId = ScopeId(1);
const DROPPED: ScopeId = ScopeId(2);

fn insert_for(store: &TestStore, scope: ScopeId, id: i64) {
    block_on(store.commit(request(store, vec![put(T, scope, id, "row")]))).expect("commits");
}

fn rows_in_segments(store: &TestStore) -> u32 {
    let segments = store.state().segments(T).expect("reads");
    segments.iter().map(|(entry, dead)| entry.rows - dead).sum()
}

#[test]
fn hazard_18_rows_of_a_retired_scope_are_shown_to_nobody_and_go() {
    let (directory, store) = new_store();
    for scope in [KEPT, DROPPED] {
        insert_for(&store, scope, 1);
    }
    flush(&store);
    for scope in [KEPT, DROPPED] {
        insert_for(&store, scope, 2);
    }
    let old = store.state();
    step(&store, vec![TableChange::RetireScope(DROPPED)]).expect("retires");
    let all = BTreeMap::from([(1, "row".to_string()), (2, "row".to_string())]);
    let check = |store: &TestStore| {
        assert_rows(&store.state(), DROPPED, &BTreeMap::new());
        assert_rows(&store.state(), KEPT, &all);
    };
    check(&store);
    assert_rows(&old, DROPPED, &all);
    drop(old);
    store.wait_for_eraser();
    let hot = |scope| scope_prefix(T, Epoch(1), scope);
    assert_eq!(
        (bytes_under(&store, &hot(DROPPED)), bytes_under(&store, &hot(KEPT))),
        (0, 1)
    );
    // Nobody writes for it any more, in no way.
    let refused = block_on(store.commit(request(&store, vec![put(T, DROPPED, 3, "late")])));
    assert!(matches!(refused, Err(CommitError::ScopeRetired(DROPPED))));
    // Once to erase, and once more when that was done: its rows in segments are still nobody's.
    let mut store = Some(store);
    for _ in 0..2 {
        drop(store.take());
        let opened = open(directory.path());
        opened.wait_for_eraser();
        check(&opened);
        store = Some(opened);
    }
    let store = store.expect("open");
    flush(&store);
    assert_eq!(rows_in_segments(&store), 3);
    compact_while(&store, |_, _| {});
    check(&store);
    assert_eq!(rows_in_segments(&store), 2);
}

#[test]
fn hazard_18_a_scope_retired_at_any_moment_of_a_move() {
    for compaction in [false, true] {
        for wanted in [At::Rows, At::Written, At::Settled] {
            let (directory, store) = new_store();
            for scope in [KEPT, DROPPED] {
                insert_for(&store, scope, 1);
            }
            if compaction {
                flush(&store);
                insert_for(&store, KEPT, 2);
                flush(&store);
            } else {
                insert_for(&store, KEPT, 2);
            }
            let progress = AtEach::new(|at| {
                if at == wanted {
                    step(&store, vec![TableChange::RetireScope(DROPPED)]).expect("retires");
                }
            });
            match compaction {
                true => store.compact(T, &schema(), &segment_options(), true, &progress),
                false => store.flush(T, &schema(), &segment_options(), &progress),
            }
            .expect("moves");
            let kept = BTreeMap::from([(1, "row".to_string()), (2, "row".to_string())]);
            let check = |store: &TestStore| {
                assert_rows(&store.state(), DROPPED, &BTreeMap::new());
                assert_rows(&store.state(), KEPT, &kept);
            };
            check(&store);
            drop(store);
            let store = open(directory.path());
            check(&store);
            // What the move still took along goes with the next one.
            insert_for(&store, KEPT, 3);
            flush(&store);
            compact_while(&store, |_, _| {});
            assert_eq!(rows_in_segments(&store), 3);
        }
    }
}

fn compact_as_needed(store: &Arc<TestStore>) -> u64 {
    let (schema, options) = (schema(), segment_options());
    let moved = store.compact(T, &schema, &options, false, &Meanwhile(|_, _| {}));
    moved.expect("compacts").segments
}

#[test]
fn hazard_18_rows_of_a_retired_scope_leave_the_segments_by_themselves() {
    let (directory, store) = new_store();
    // A segment with few rows of the scope, one with no others, and one in whose range of keys it is.
    let others = ScopeId(3);
    for id in 0..50 {
        insert_for(&store, KEPT, id);
    }
    insert_for(&store, DROPPED, 1);
    flush(&store);
    insert_for(&store, DROPPED, 2);
    flush(&store);
    for scope in [KEPT, others] {
        insert_for(&store, scope, 100);
    }
    flush(&store);
    let before = segment_files(directory.path());
    let third = store.state().segments(T).expect("reads").pop().expect("three").0;
    assert!(!store.wants_compaction(T, &schema()));
    assert_eq!(compact_as_needed(&store), 0);

    step(&store, vec![TableChange::RetireScope(DROPPED)]).expect("retires");
    let check = |store: &TestStore| {
        let kept = (0..50).chain([100]).map(|id| (id, "row".to_string()));
        assert_rows(&store.state(), KEPT, &kept.collect());
        assert_rows(&store.state(), others, &BTreeMap::from([(100, "row".to_string())]));
        assert_rows(&store.state(), DROPPED, &BTreeMap::new());
    };
    assert!(store.wants_compaction(T, &schema()));
    drop(store);
    let store = open(directory.path());
    assert!(store.wants_compaction(T, &schema()), "after a restart too");
    assert_eq!(compact_as_needed(&store), 1);
    assert!(!store.wants_compaction(T, &schema()));
    assert_eq!(rows_in_segments(&store), 52);
    store.wait_for_eraser();
    let after = segment_files(directory.path());
    let stay: Vec<_> = before.iter().filter(|file| after.contains(file)).collect();
    assert_eq!((after.len(), stay.len()), (2, 1), "{after:?}");
    assert!(
        stay[0].ends_with(&third.path),
        "what has no row of the scope is left alone"
    );
    check(&store);

    // One of several that are gone, and a run that is worth nothing else.
    step(&store, vec![TableChange::RetireScope(others)]).expect("retires");
    assert!(store.wants_compaction(T, &schema()));
    compact_while(&store, |_, _| {});
    assert_eq!(
        (
            rows_in_segments(&store),
            store.state().segments(T).expect("reads").len()
        ),
        (51, 1)
    );
    step(&store, vec![TableChange::RetireScope(KEPT)]).expect("retires");
    compact_while(&store, |_, _| {});
    store.wait_for_eraser();
    assert_eq!(segment_files(directory.path()), [] as [std::path::PathBuf; 0]);
    assert!(!store.wants_compaction(T, &schema()));
    drop(store);
    assert_rows(&open(directory.path()).state(), KEPT, &BTreeMap::new());
}

#[test]
fn hazard_18_what_a_mover_still_took_along_goes_with_the_next_compaction() {
    for compaction in [false, true] {
        let (_directory, store) = new_store();
        for scope in [KEPT, DROPPED] {
            insert_for(&store, scope, 1);
        }
        if compaction {
            flush(&store);
            insert_for(&store, KEPT, 2);
            flush(&store);
        }
        let progress = AtEach::new(|at| {
            if at == At::Written {
                step(&store, vec![TableChange::RetireScope(DROPPED)]).expect("retires");
            }
        });
        match compaction {
            true => store.compact(T, &schema(), &segment_options(), true, &progress),
            false => store.flush(T, &schema(), &segment_options(), &progress),
        }
        .expect("moves");
        let kept = 1 + u32::from(compaction);
        assert_eq!(rows_in_segments(&store), kept + 1);
        assert!(store.wants_compaction(T, &schema()));
        assert_eq!(compact_as_needed(&store), 1);
        assert_eq!(rows_in_segments(&store), kept);
        assert!(!store.wants_compaction(T, &schema()));
    }
}

#[test]
fn hazard_18_a_flush_leaves_rows_of_a_retired_scope_behind() {
    let (_directory, store) = new_store();
    for scope in [KEPT, DROPPED] {
        insert_for(&store, scope, 1);
    }
    // Nothing is erased before this is taken.
    let (hold, let_go) = mpsc::sync_channel(0);
    store.eraser().erase(EraseJob::Tell(hold));
    step(&store, vec![TableChange::RetireScope(DROPPED)]).expect("retires");
    assert_eq!(bytes_under(&store, &scope_prefix(T, Epoch(0), DROPPED)), 1);
    assert_eq!(flush(&store).rows, 1);
    assert_eq!(rows_in_segments(&store), 1);
    let_go.recv().expect("the eraser waits");
    store.wait_for_eraser();
    assert_eq!(bytes_under(&store, &crate::key::store_prefix(T)), 0);
}
