//! Tests of the hazards that the design names, by their numbers there, and of what the committer promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array};
use futures::executor::block_on;
use futures::future::join_all;

use crate::testing::{
    GLOBAL, T, VERSION, begin_load, claim, collect, columns, create, ids, insert, key, load_rows, new_store, open,
    options, put, removal, request, rows, schema, schema_of, spec, step,
};
use crate::{
    BulkLoad, CommitError, Counter, Epoch, KeyEncoder, KeyRange, Lifetime, OnDuplicate, Put, PutKey, RowEncoder,
    ScanColumn, SchemaVersion, ScopeId, Seq, Step, Store, StoreError, StoreId, TableChange, TableClaim, TableVersion,
    WriteRequest,
};

#[test]
fn a_row_is_there_after_its_commit_and_after_a_restart() {
    let (directory, store) = new_store();
    let committed = insert(&store, T, 1, "one").expect("commits");
    assert!(store.state().seq() >= committed.seq);
    assert_eq!(rows(&store.state(), T, GLOBAL), [(1, "one".to_string())]);
    drop(store);
    let store = open(directory.path());
    assert_eq!(rows(&store.state(), T, GLOBAL), [(1, "one".to_string())]);
    let later = insert(&store, T, 2, "two").expect("commits");
    assert!(later.seq > committed.seq);
    assert!(later.updated_micros > committed.updated_micros);
}

#[test]
fn load_reads_the_recovered_state_and_makes_the_first_catalog() {
    let (directory, store) = new_store();
    let record = Step {
        changes: vec![],
        removals: vec![],
        puts: vec![],
        meta: vec![("catalog".to_string(), Some(b"42".to_vec()))],
        catalog: Some(Arc::new(42)),
        now_micros: 5,
    };
    block_on(store.step(record)).expect("commits");
    assert_eq!(**store.state().catalog(), 42);
    drop(store);
    let store = Store::open(options(directory.path()), 0u64, |store, state| {
        assert_eq!(**state.catalog(), 0);
        assert!(state.table(T).is_some());
        let record = store.meta_get("catalog")?.expect("the record");
        Ok::<_, StoreError>(String::from_utf8(record).expect("digits").parse().expect("a number"))
    })
    .expect("opens");
    assert_eq!(**store.state().catalog(), 42);
    drop(store);
    let refused = Store::open(options(directory.path()), 0u64, |_, _| {
        Err(StoreError::Unsupported("not this catalog".to_string()))
    });
    assert!(matches!(refused.err(), Some(StoreError::Unsupported(_))));
}

#[test]
fn a_second_store_on_the_directory_is_refused() {
    let (directory, store) = new_store();
    let second = Store::open(options(directory.path()), 0u64, |_, _| Ok::<_, StoreError>(0));
    assert!(matches!(second.err(), Some(StoreError::Locked { .. })));
    drop(store);
    open(directory.path());
}

#[test]
fn other_formats_are_refused_and_a_broken_marker_named() {
    for marker in [
        "kalamdb data directory, format 3\n",
        "kalamdb data directory, format 1\n",
        "something else\n",
    ] {
        let (directory, store) = new_store();
        drop(store);
        std::fs::write(directory.path().join("FORMAT"), marker).expect("written");
        let error = Store::open(options(directory.path()), 0u64, |_, _| Ok::<_, StoreError>(0)).err();
        match error {
            Some(StoreError::NewerFormat {
                found: 3, supported: 2, ..
            }) if marker.contains('3') => {}
            Some(StoreError::Unsupported(_)) if marker.contains('1') => {}
            Some(StoreError::Corrupt { .. }) if marker.contains("else") => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn hazard_20_a_database_whose_rows_are_away_is_no_new_one() {
    let opened = |path: &std::path::Path| Store::open(options(path), 0u64, |_, _| Ok::<_, StoreError>(0));
    let refused = |path: &std::path::Path| match opened(path).err() {
        Some(StoreError::Corrupt { object, problem }) => {
            assert!(object.ends_with("rocksdb"), "{object}");
            assert!(problem.contains("Mount its disk"), "{problem}");
        }
        other => panic!("{other:?}"),
    };
    let (directory, store) = new_store();
    insert(&store, T, 1, "kept").expect("commits");
    drop(store);
    let (rows, away) = (directory.path().join("rocksdb"), directory.path().join("away"));
    std::fs::rename(&rows, &away).expect("moved");
    refused(directory.path());
    assert!(!rows.exists(), "nothing is made where it was");
    std::fs::create_dir(&rows).expect("made");
    refused(directory.path());
    assert_eq!(std::fs::read_dir(&rows).expect("reads").count(), 0, "nor in it");
    std::fs::remove_dir(&rows).expect("removed");

    // Its log alone is lost, in which everything was.
    std::fs::rename(&away, &rows).expect("moved back");
    let kept = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(&rows).expect("reads") {
        let path = entry.expect("reads").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let copy = kept.path().join(path.file_name().expect("a name"));
            std::fs::copy(&path, copy).expect("copied");
            std::fs::remove_file(&path).expect("removed");
        }
    }
    refused(directory.path());
    for entry in std::fs::read_dir(kept.path()).expect("reads") {
        let path = entry.expect("reads").path();
        std::fs::copy(&path, rows.join(path.file_name().expect("a name"))).expect("copied back");
    }
    assert_eq!(ids(&open(directory.path()), T), [1]);
}

#[test]
fn a_directory_with_something_in_it_that_does_not_say_its_format_is_refused() {
    let opened = |path: &std::path::Path| Store::open(options(path), 0u64, |_, _| Ok::<_, StoreError>(0));
    let refused = |path: &std::path::Path, named: &str| match opened(path).err() {
        Some(StoreError::Unsupported(words)) => {
            assert!(words.contains(named) && words.contains("FORMAT"), "{words}");
            assert!(words.contains(&path.display().to_string()), "{words}");
        }
        other => panic!("{other:?}"),
    };
    let (directory, store) = new_store();
    insert(&store, T, 1, "kept").expect("commits");
    drop(store);
    let marker = directory.path().join("FORMAT");
    let text = std::fs::read(&marker).expect("reads");
    std::fs::remove_file(&marker).expect("removed");
    refused(directory.path(), "rocksdb");
    assert!(!marker.exists(), "nothing was changed");
    std::fs::write(&marker, text).expect("written");
    assert_eq!(ids(&open(directory.path()), T), [1]);

    // Somebody else's.
    let foreign = tempfile::tempdir().expect("a directory");
    let path = |name: &str| foreign.path().join(name);
    for (name, make) in [
        ("letters", "a directory with something in it"),
        ("album", "a link to one"),
        ("film.mkv", "a large file"),
        ("segments", "a link that leads nowhere"),
    ] {
        match name {
            "letters" => {
                std::fs::create_dir(path(name)).expect("made");
                std::fs::write(path(name).join("letter.txt"), "Dear").expect("written");
            }
            "album" => std::os::unix::fs::symlink(directory.path(), path(name)).expect("linked"),
            "film.mkv" => std::fs::write(path(name), vec![0; (1 << 20) + 1]).expect("written"),
            _ => std::os::unix::fs::symlink(path("nowhere"), path(name)).expect("linked"),
        }
        refused(foreign.path(), name);
        assert!(!path("FORMAT").exists() && !path("rocksdb").exists(), "{make}");
        match name {
            "letters" => std::fs::remove_dir_all(path(name)).expect("removed"),
            _ => std::fs::remove_file(path(name)).expect("removed"),
        }
    }
}

#[test]
fn a_new_data_directory_may_have_files_of_those_who_run_it_and_places_on_other_disks() {
    let (new, disk) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let path = |name: &str| new.path().join(name);
    // What a first start that was cut short left, and what belongs to the server.
    for file in ["LOCK-kalamdb", "FORMAT.new", "kalamdb.toml", "server.key", ".gitkeep"] {
        std::fs::write(path(file), "some words").expect("written");
    }
    std::fs::create_dir(path("lost+found")).expect("made");
    std::fs::create_dir(disk.path().join("lost+found")).expect("made");
    std::os::unix::fs::symlink(disk.path(), path("segments")).expect("linked");
    let store = open(new.path());
    create(&store, T);
    insert(&store, T, 1, "cold").expect("commits");
    crate::testing::flush(&store);
    assert_eq!(crate::testing::files_under(disk.path()).len(), 1);
    drop(store);
    assert_eq!(ids(&open(new.path()), T), [1]);
    assert_eq!(
        std::fs::read_to_string(path("kalamdb.toml")).expect("reads"),
        "some words"
    );
}

#[test]
fn counters_never_repeat() {
    let (directory, store) = new_store();
    let mut seen = std::collections::BTreeSet::new();
    assert_eq!(store.next_id(Counter::Scope).expect("an id"), 1);
    seen.insert(1);
    drop(store);
    for _ in 0..3 {
        let store = open(directory.path());
        for _ in 0..100 {
            assert!(seen.insert(store.next_id(Counter::Scope).expect("an id")));
        }
    }
}

#[test]
fn two_writers_of_one_key_from_one_state_conflict() {
    let (_directory, store) = new_store();
    let first = request(&store, vec![put(T, GLOBAL, 1, "first")]);
    let second = request(&store, vec![put(T, GLOBAL, 1, "second")]);
    let other = request(&store, vec![put(T, GLOBAL, 2, "other")]);
    // Submitted together, they may share a group: it makes no difference.
    let futures = vec![store.commit(first), store.commit(second), store.commit(other)];
    let results = block_on(join_all(futures));
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(CommitError::Conflict)));
    assert!(results[2].is_ok());
    assert_eq!(store.statistics().conflicts, 1);
    assert_eq!(
        rows(&store.state(), T, GLOBAL),
        [(1, "first".to_string()), (2, "other".to_string())]
    );
}

#[test]
fn removals_precede_puts_and_a_key_may_be_in_both() {
    let (_directory, store) = new_store();
    insert(&store, T, 1, "a").expect("commits");
    insert(&store, T, 2, "b").expect("commits");
    // SET id = id + 1.
    let state = store.state();
    let shifted = WriteRequest {
        validated_at: state.seq(),
        tables: vec![claim(T, GLOBAL)],
        removals: vec![removal(&state, T, GLOBAL, 1), removal(&state, T, GLOBAL, 2)],
        puts: vec![put(T, GLOBAL, 2, "a"), put(T, GLOBAL, 3, "b")],
        now_micros: 0,
    };
    let committed = block_on(store.commit(shifted.clone())).expect("commits");
    assert_eq!(
        rows(&store.state(), T, GLOBAL),
        [(2, "a".to_string()), (3, "b".to_string())]
    );
    // Four rows were touched, so four numbers were taken.
    assert_eq!(committed.seq.0, state.seq().0 + 4);
    assert!(matches!(block_on(store.commit(shifted)), Err(CommitError::Conflict)));
    assert_eq!(
        rows(&state, T, GLOBAL),
        [(1, "a".to_string()), (2, "b".to_string())],
        "an old state stays"
    );
}

#[test]
fn exclusive_claims_of_one_scope_exclude_each_other() {
    let (_directory, store) = new_store();
    let exclusive = |scope: u64, id: i64| {
        let mut request = request(&store, vec![put(T, ScopeId(scope), id, "x")]);
        request.tables = vec![TableClaim {
            exclusive: true,
            ..claim(T, ScopeId(scope))
        }];
        request
    };
    let requests = [exclusive(1, 1), exclusive(1, 2), exclusive(2, 3)];
    let results: Vec<bool> = requests
        .into_iter()
        .map(|request| block_on(store.commit(request)).is_ok())
        .collect();
    assert_eq!(results, [true, false, true]);
}

#[test]
fn hazard_9_a_schema_change_conflicts_with_writers_planned_before_it() {
    let (_directory, store) = new_store();
    let planned = request(&store, vec![put(T, GLOBAL, 1, "x")]);
    step(&store, vec![TableChange::SetSchemaVersion(T, SchemaVersion(2))]).expect("commits");
    assert!(matches!(block_on(store.commit(planned)), Err(CommitError::Conflict)));
}

#[test]
fn rows_without_a_key_get_their_number_as_key() {
    let (_directory, store) = new_store();
    let table = StoreId(8);
    create(&store, table);
    let schema = schema_of(Lifetime::Durable, vec![]);
    let encoder = RowEncoder::new(schema.clone()).expect("a schema");
    let puts = (0..3)
        .map(|id| Put {
            store: table,
            scope: GLOBAL,
            key: PutKey::RowId,
            value: encoder.encode(&columns(id, "x"), 0, None).expect("encodes"),
        })
        .collect();
    block_on(store.commit(request(&store, puts))).expect("commits");
    let state = store.state();
    let found = collect(state.scan(&schema, spec(table, GLOBAL)).expect("a scan"));
    let seqs: Vec<u64> = found.iter().map(|row| row.2.0).collect();
    assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2]);
    for seq in seqs {
        assert!(
            state
                .find(&schema, table, GLOBAL, &seq.to_be_bytes(), 0)
                .expect("reads")
                .is_some()
        );
    }
}

#[test]
fn updated_goes_up_with_each_commit_whatever_the_clock_does() {
    let (directory, store) = new_store();
    let commit = |store: &crate::testing::TestStore, id, now_micros| {
        let request = WriteRequest {
            now_micros,
            ..request(store, vec![put(T, GLOBAL, id, "row")])
        };
        block_on(store.commit(request)).expect("commits").updated_micros
    };
    assert_eq!(commit(&store, 1, 1_000_000), 1_000_000);
    assert_eq!(commit(&store, 2, 1_000_000), 1_000_001);
    assert_eq!(commit(&store, 3, 5), 1_000_002);
    drop(store);
    let store = open(directory.path());
    assert_eq!(commit(&store, 4, 6), 1_000_003);
    assert_eq!(commit(&store, 5, 2_000_000), 2_000_000);
    let shown = [1, 2, 3, 4, 5].map(|id| {
        let found = store.state().find(&schema(), T, GLOBAL, &key(id), 0);
        found.expect("reads").expect("found").row.updated_micros
    });
    assert_eq!(shown, [1_000_000, 1_000_001, 1_000_002, 1_000_003, 2_000_000]);
}

#[test]
fn a_scan_reads_its_scope_its_range_and_its_limit_only() {
    let (_directory, store) = new_store();
    for scope in [1, 2, 3] {
        let puts = (0..100)
            .map(|id| put(T, ScopeId(scope), id, &format!("{scope}")))
            .collect();
        block_on(store.commit(request(&store, puts))).expect("commits");
    }
    let state = store.state();
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let cases = [
        (Unbounded, Unbounded, None, 0..100),
        (Unbounded, Unbounded, Some(7), 0..7),
        (Included(key(10)), Excluded(key(20)), None, 10..20),
        (Excluded(key(10)), Included(key(20)), None, 11..21),
        (Excluded(key(10)), Included(key(20)), Some(3), 11..14),
        (Included(key(-5)), Included(key(3)), None, 0..4),
        (Included(key(50)), Excluded(key(50)), None, 0..0),
        (Included(key(60)), Excluded(key(50)), None, 0..0),
    ];
    for (start, end, limit, expected) in cases {
        let mut spec = spec(T, ScopeId(2));
        spec.range = KeyRange { start, end };
        spec.limit = limit;
        spec.batch_rows = 4;
        let read = expected.clone().count() as u64;
        let mut scan = state.scan(&schema(), spec.clone()).expect("a scan");
        let mut counted = 0;
        while let Some(batch) = scan.next_batch().expect("a batch") {
            counted += batch.num_rows() as u64;
        }
        assert_eq!((counted, scan.keys_read()), (read, read), "{spec:?}");
        let found = collect(state.scan(&schema(), spec.clone()).expect("a scan"));
        assert_eq!(
            found.iter().map(|row| row.0).collect::<Vec<_>>(),
            expected.clone().collect::<Vec<_>>()
        );
        // The same without columns.
        let mut count = spec;
        count.columns = vec![];
        count.schema = Arc::new(arrow::datatypes::Schema::empty());
        let mut scan = state.scan(&schema(), count).expect("a scan");
        let mut counted = 0;
        while let Some(batch) = scan.next_batch().expect("a batch") {
            counted += batch.num_rows() as u64;
        }
        assert_eq!(counted, read);
    }
}

#[test]
fn hazard_14_snapshot_versions_and_catalog_are_of_one_moment() {
    let (_directory, store) = new_store();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = Seq(0);
                    let mut looked = 0;
                    while !done.load(Ordering::Acquire) || looked == 0 {
                        looked += 1;
                        let state = store.state();
                        assert!(state.seq() >= last);
                        last = state.seq();
                        // Each step replaces the table by one with a row that says which catalog it belongs to.
                        let catalog = **state.catalog();
                        if catalog < 100 {
                            continue;
                        }
                        let table = StoreId(u32::try_from(catalog).expect("small"));
                        let found = collect(state.scan(&schema(), spec(table, GLOBAL)).expect("the store is live"));
                        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), [catalog as i64]);
                        assert!(found.iter().all(|row| row.2 <= state.seq()));
                        let before = StoreId(table.0 - 1);
                        assert!(catalog == 100 || state.table(before).is_none());
                        let error = state.scan(&schema(), spec(before, GLOBAL)).err();
                        assert!(catalog == 100 || matches!(error, Some(StoreError::Retired(_))));
                    }
                })
            })
            .collect();
        for number in 100..200u32 {
            let table = StoreId(number);
            let mut changes = vec![TableChange::Create(
                table,
                TableVersion::new(VERSION, Lifetime::Durable),
            )];
            if number > 100 {
                changes.push(TableChange::Retire(StoreId(number - 1)));
            }
            let step = Step {
                changes,
                removals: vec![],
                puts: vec![put(table, GLOBAL, i64::from(number), "x")],
                meta: vec![],
                catalog: Some(Arc::new(u64::from(number))),
                now_micros: 0,
            };
            block_on(store.step(step)).expect("commits");
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().expect("no reader saw two moments");
        }
    });
}

#[test]
fn hazard_14_sums_over_two_tables_are_whole_under_writers() {
    let (_directory, store) = new_store();
    let other = StoreId(8);
    create(&store, other);
    let amounts = [put(T, GLOBAL, 0, "500"), put(other, GLOBAL, 0, "500")];
    block_on(store.commit(request(&store, amounts.to_vec()))).expect("commits");
    let amount = |state: &Arc<crate::DbState<u64>>, table| -> i64 {
        let found = rows(state, table, GLOBAL);
        assert_eq!(found.len(), 1);
        found[0].1.parse().expect("a number")
    };
    let transfer = || {
        let state = store.state();
        let (from, to) = (amount(&state, T) - 1, amount(&state, other) + 1);
        block_on(store.commit(WriteRequest {
            validated_at: state.seq(),
            tables: vec![claim(T, GLOBAL), claim(other, GLOBAL)],
            removals: vec![removal(&state, T, GLOBAL, 0), removal(&state, other, GLOBAL, 0)],
            puts: vec![
                put(T, GLOBAL, 0, &from.to_string()),
                put(other, GLOBAL, 0, &to.to_string()),
            ],
            now_micros: 0,
        }))
    };
    // One that commits while a reader is between the two.
    let state = store.state();
    let first = amount(&state, T);
    transfer().expect("commits");
    assert_eq!(first + amount(&state, other), 1000);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut committed = 0;
                    while committed < 20 {
                        match transfer() {
                            Ok(_) => committed += 1,
                            Err(CommitError::Conflict) => {}
                            Err(other) => panic!("{other}"),
                        }
                        let state = store.state();
                        assert_eq!(amount(&state, T) + amount(&state, other), 1000);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("the sum was whole");
        }
    });
    assert_eq!(rows(&store.state(), other, GLOBAL), [(0, "581".to_string())]);
}

#[test]
fn hazard_15_a_writer_in_flight_over_a_truncate_and_recreate() {
    let (directory, store) = new_store();
    insert(&store, T, 1, "old").expect("commits");
    let planned = request(&store, vec![put(T, GLOBAL, 2, "late")]);
    let reader = store.state();
    let next = StoreId(70);
    step(
        &store,
        vec![
            TableChange::Retire(T),
            TableChange::Create(next, TableVersion::new(VERSION, Lifetime::Durable)),
        ],
    )
    .expect("commits");
    assert!(matches!(block_on(store.commit(planned)), Err(CommitError::Retired(T))));
    assert!(matches!(
        step(&store, vec![TableChange::Retire(T)]),
        Err(CommitError::Retired(T))
    ));
    insert(&store, next, 1, "new").expect("commits");
    assert_eq!(rows(&store.state(), next, GLOBAL), [(1, "new".to_string())]);
    assert!(matches!(
        store.state().find(&schema(), T, GLOBAL, &key(1), 0),
        Err(StoreError::Retired(T))
    ));
    drop(store);
    // The old state still sees the old rows, even after they were erased.
    assert_eq!(rows(&reader, T, GLOBAL), [(1, "old".to_string())]);
    drop(reader);
    let store = open(directory.path());
    assert!(store.state().table(T).is_none());
    assert_eq!(ids(&store, next), [1]);
    assert_eq!(bytes_of_store(&store, T), 0);
}

#[test]
fn hazard_15_a_load_in_flight_over_a_truncate_and_recreate() {
    let (directory, store) = new_store();
    let next = StoreId(70);
    let mut load_under_way = begin_load(&store, GLOBAL, OnDuplicate::Fail);
    load_rows(&mut load_under_way, 0..10);
    step(
        &store,
        vec![
            TableChange::Retire(T),
            TableChange::Create(next, TableVersion::new(VERSION, Lifetime::Durable)),
        ],
    )
    .expect("commits");
    load_rows(&mut load_under_way, 10..20);
    let load = block_on(load_under_way.finish()).expect("finishes");
    assert!(matches!(
        step(&store, vec![TableChange::Publish(load.clone())]),
        Err(CommitError::Retired(T))
    ));
    drop(load);
    assert_eq!(ids(&store, next), [] as [i64; 0]);
    drop(store);
    assert_eq!(bytes_of_store(&open(directory.path()), T), 0);
}

#[test]
fn hazard_18_a_user_dropped_and_made_again_sees_nothing_old() {
    let (directory, store) = new_store();
    let (old, new, other) = (ScopeId(1), ScopeId(2), ScopeId(3));
    let of = |scope: ScopeId| request(&store, vec![put(T, scope, 1, &format!("{scope}"))]);
    for scope in [old, other] {
        block_on(store.commit(of(scope))).expect("commits");
    }
    let planned = request(&store, vec![put(T, old, 2, "late")]);
    let mut load_under_way = begin_load(&store, old, OnDuplicate::Fail);
    load_rows(&mut load_under_way, 5..8);
    let load = block_on(load_under_way.finish()).expect("finishes");
    step(&store, vec![TableChange::RetireScope(old)]).expect("commits");
    assert_eq!(rows(&store.state(), T, old), []);
    assert!(matches!(block_on(store.commit(planned)), Err(CommitError::ScopeRetired(scope)) if scope == old));
    let published = step(&store, vec![TableChange::Publish(load)]);
    assert!(matches!(published, Err(CommitError::ScopeRetired(scope)) if scope == old));
    block_on(store.commit(of(new))).expect("commits");
    drop(store);
    let store = open(directory.path());
    assert_eq!(rows(&store.state(), T, old), []);
    assert_eq!(rows(&store.state(), T, new), [(1, "2".to_string())]);
    assert_eq!(rows(&store.state(), T, other), [(1, "3".to_string())]);
}

#[test]
fn a_request_older_than_the_committers_memory_is_stale() {
    let (_directory, store) = new_store();
    let old = request(&store, vec![put(T, GLOBAL, -1, "old")]);
    let many = crate::tuning::RECENT_KEYS as i64 + 1;
    for start in (0..many).step_by(1 << 16) {
        let puts = (start..many.min(start + (1 << 16)))
            .map(|id| put(T, GLOBAL, id, ""))
            .collect();
        block_on(store.commit(request(&store, puts))).expect("commits");
    }
    assert!(matches!(block_on(store.commit(old)), Err(CommitError::Stale)));
    insert(&store, T, -1, "new").expect("commits");
}

#[test]
fn a_step_that_does_not_fit_changes_nothing() {
    let (_directory, store) = new_store();
    let before = store.state();
    let version = |epoch: u32| TableVersion {
        epochs: vec![Epoch(epoch)],
        ..TableVersion::new(VERSION, Lifetime::Durable)
    };
    let bad = [
        TableChange::Create(T, version(0)),
        TableChange::Create(
            StoreId(9),
            TableVersion {
                epochs: vec![],
                ..version(0)
            },
        ),
        TableChange::Retire(StoreId(9)),
        TableChange::SetSchemaVersion(StoreId(9), VERSION),
        TableChange::RetireScope(GLOBAL),
    ];
    for change in bad {
        let described = format!("{change:?}");
        let good = TableChange::Create(StoreId(10), version(0));
        assert!(step(&store, vec![good, change]).is_err(), "{described}");
        assert_eq!(store.state().seq(), before.seq());
        assert!(store.state().table(StoreId(10)).is_none());
    }
}

#[test]
fn a_point_read_and_a_scan_agree_on_all_hidden_columns() {
    let (_directory, store) = new_store();
    let committed = insert(&store, T, 1, "x").expect("commits");
    let mut spec = spec(T, GLOBAL);
    spec.columns = vec![
        ScanColumn::Key,
        ScanColumn::Location,
        ScanColumn::Updated,
        ScanColumn::Seq,
    ];
    spec.schema = Arc::new(arrow::datatypes::Schema::new(vec![
        arrow::datatypes::Field::new("k", arrow::datatypes::DataType::Binary, false),
        arrow::datatypes::Field::new("l", arrow::datatypes::DataType::UInt64, false),
        arrow::datatypes::Field::new(
            "u",
            arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        arrow::datatypes::Field::new("s", arrow::datatypes::DataType::UInt64, false),
    ]));
    let state = store.state();
    let scanned = state
        .scan(&schema(), spec.clone())
        .expect("a scan")
        .next_batch()
        .expect("reads")
        .expect("a row");
    assert_eq!(scanned, state.get(&schema(), &spec, &key(1)).expect("reads"));
    let found = state
        .find(&schema(), T, GLOBAL, &key(1), 0)
        .expect("reads")
        .expect("found");
    assert_eq!(
        (found.row.seq, found.row.updated_micros),
        (committed.seq, committed.updated_micros)
    );
    assert_eq!(state.get(&schema(), &spec, &key(2)).expect("reads").num_rows(), 0);
}

/// How many keys of `hot` start with this, live or not.
pub(crate) fn bytes_under(store: &Store<u64>, prefix: &[u8]) -> usize {
    let engine = store.engine();
    let mut read = rocksdb::ReadOptions::default();
    read.set_iterate_upper_bound(crate::key::successor(prefix).expect("not the last"));
    let mut iterator = engine.db().raw_iterator_cf_opt(engine.hot(), read);
    iterator.seek(prefix);
    let mut count = 0;
    while iterator.valid() {
        count += 1;
        iterator.next();
    }
    count
}

fn bytes_of_store(store: &Store<u64>, table: StoreId) -> usize {
    // Erasing goes on in the background after opening; a job handed over now is done after those before it.
    store.wait_for_eraser();
    bytes_under(store, &crate::key::store_prefix(table))
}

#[test]
fn a_composite_prefix_is_a_bound() {
    let (_directory, store) = new_store();
    let table = StoreId(8);
    create(&store, table);
    let schema = schema_of(Lifetime::Durable, vec![1, 0]);
    let encoder = KeyEncoder::new(&schema).expect("a key");
    let rows = RowEncoder::new(schema.clone()).expect("rows");
    let mut puts = Vec::new();
    for text in ["a", "a\0", "ab", "b"] {
        for id in [-1, 0, 1] {
            let columns = columns(id, text);
            let mut key = Vec::new();
            encoder
                .encode(&[columns[1].clone(), columns[0].clone()], 0, &mut key)
                .expect("encodes");
            let value = rows.encode(&columns, 0, None).expect("encodes");
            puts.push(Put {
                store: table,
                scope: GLOBAL,
                key: PutKey::Key(key),
                value,
            });
        }
    }
    block_on(store.commit(request(&store, puts))).expect("commits");
    let prefix = |text: &str| {
        let mut key = Vec::new();
        encoder
            .encode(&[columns(0, text)[1].clone()], 0, &mut key)
            .expect("encodes");
        key
    };
    use std::ops::Bound::{Excluded, Included, Unbounded};
    for (start, end, expected) in [
        (Included(prefix("a")), Included(prefix("a")), vec!["a"]),
        (Excluded(prefix("a")), Unbounded, vec!["a\0", "ab", "b"]),
        (Unbounded, Included(prefix("a\0")), vec!["a", "a\0"]),
        (Unbounded, Excluded(prefix("b")), vec!["a", "a\0", "ab"]),
    ] {
        let mut spec = spec(table, GLOBAL);
        spec.range = KeyRange { start, end };
        let found = collect(store.state().scan(&schema, spec).expect("a scan"));
        let expected: Vec<(i64, String)> = expected
            .iter()
            .flat_map(|text| [-1, 0, 1].map(|id| (id, text.to_string())))
            .collect();
        assert_eq!(
            found.into_iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
            expected
        );
    }
    assert!(
        encoder
            .encode(&[Arc::new(Int64Array::from(vec![None])) as ArrayRef], 0, &mut vec![])
            .is_err()
    );
}

#[test]
fn what_is_shared_between_threads_can_be() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Store<u64>>();
    shared::<crate::DbState<u64>>();
    shared::<crate::Publication>();
    sent::<BulkLoad<u64>>();
    sent::<crate::Scan>();
    sent::<crate::CommitFuture>();
}
