//! What must hold of a data directory after a crash.

use std::path::Path;
use std::sync::Arc;

use crate::crashes::history::{KEYLESS, Model, Operation, SCOPES, keyless_schema};
use crate::crashes::runner::{Log, Runner, open_as};
use crate::hazards::bytes_under;
use crate::key;
use crate::testing::{Meanwhile, TestStore, schema, segment_files, spec};
use crate::{Counter, Durability, ScopeId};

/// Opens the directory and checks it; the data are those after one of the operations from the first unacknowledged one on to
/// the last begun one. Then goes on with the history for a few operations, and checks again, open and opened anew.
pub(super) fn recover(directory: &Path, operations: &[Operation], log: &Log, durability: Durability) {
    let store = open_as(directory, durability);
    check_structure(&store, directory);
    let found = Model::read(&store);
    let done = match durability {
        Durability::Synced => log.done,
        // Power takes what was not synced.
        Durability::Relaxed => log.synced,
    };
    let as_after = (done..=log.begun)
        .rev()
        .find(|&count| Model::after(&operations[..count]) == found);
    let Some(count) = as_after else {
        let expected = Model::after(&operations[..done]);
        panic!(
            "the data are as after none of {:?}:\n{found:#?}\nafter the first of them:\n{expected:#?}",
            &operations[done..log.begun]
        );
    };
    if durability == Durability::Synced {
        assert!(store.state().seq().0 >= log.seq, "numbers are used again");
    }
    let id = store.next_id(Counter::Scope).expect("an id");
    assert!(id > log.drawn, "{id} was drawn before: {log:?}");

    let runner = Runner::new(directory, durability, store, operations.to_vec(), count);
    runner.run(count + 3);
    runner.move_everything();
    let (store, model) = runner.end();
    check_structure(&store, directory);
    assert_eq!(Model::read(&store), model);
    drop(store);
    let store = open_as(directory, durability);
    check_structure(&store, directory);
    assert_eq!(Model::read(&store), model);
}

/// Manifest, files, rows and counts belong together.
pub(crate) fn check_structure(store: &Arc<TestStore>, directory: &Path) {
    store.wait_for_eraser();
    let state = store.state();
    let mut named = Vec::new();
    for (&table, version) in state.tables().iter() {
        let schema = match table {
            KEYLESS => keyless_schema(),
            _ => schema(),
        };
        let mut cold = 0;
        let checked = store.check(table, &schema, &Meanwhile(|_, _| {})).expect("checks");
        assert_eq!(checked.problems, [], "of table {table}");
        for (entry, deleted) in state.segments(table).expect("reads") {
            named.push(directory.join("segments").join(&entry.path));
            cold += u64::from(entry.rows - deleted);
        }
        let hot = bytes_under(store, &key::store_prefix(table)) as u64;
        let mut visible = 0;
        for scope in 0..SCOPES {
            let mut scan = state.scan(&schema, spec(table, ScopeId(scope))).expect("scans");
            while let Some(batch) = scan.next_batch().expect("reads") {
                visible += batch.num_rows() as u64;
            }
        }
        assert_eq!(hot + cold, visible, "rows of table {table}, hot and cold");
        let current = bytes_under(store, &key::epoch_prefix(table, version.current()));
        let usage = store.hot_usage(table);
        let counted = (usage.rows, usage.rows + usage.sealed_rows);
        assert_eq!(
            counted,
            (current as u64, hot),
            "hot rows of table {table}, current and all"
        );
    }
    named.sort();
    assert_eq!(
        segment_files(directory),
        named,
        "files, and those that the manifest names"
    );
    for kind in ["file/", "retired/", "scope-retired/"] {
        assert_eq!(records(store, kind), [""; 0], "what {kind} asks for is done");
    }
}

/// The values of the records of `meta` whose names begin with this.
pub(crate) fn records(store: &TestStore, kind: &str) -> Vec<String> {
    let engine = store.engine();
    let mut records = engine.db().raw_iterator_cf(engine.meta());
    records.seek(kind);
    let mut values = Vec::new();
    while let Some((name, value)) = records.item() {
        if !name.starts_with(kind.as_bytes()) {
            break;
        }
        values.push(String::from_utf8_lossy(value).into_owned());
        records.next();
    }
    values
}
