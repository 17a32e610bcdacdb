//! Who may flush, compact and check what, jobs after a restart, and the rules about storages.

use std::sync::mpsc;

use futures::executor::block_on;

use super::*;
use crate::catalog::TableName;
use crate::jobs::{JobKind, Work};
use crate::storages::NewStorage;
use crate::testing::{Database, SECOND, START};

/// Runs a job of this kind; what it answered.
fn run(db: &Database, by: &Principal, name: &TableName, kind: JobKind) -> Result<JobReport> {
    match kind {
        JobKind::Flush => block_on(db.engine.flush_table(by, name)),
        JobKind::Compact => block_on(db.engine.compact_table(by, name)),
        JobKind::Check => block_on(db.engine.check_table(by, name)),
    }
}

#[test]
fn service_flushes_what_it_may_write_and_dba_compacts_and_checks() {
    let db = Database::new();
    let roles = [Role::User, Role::Service, Role::Dba, Role::System];
    let people = roles.map(|role| match role {
        Role::System => db.root.clone(),
        Role::User | Role::Service | Role::Dba => db.user(role.as_str(), role),
    });
    let tables = [
        db.table("own", TableKind::User, &[]),
        db.table("open", TableKind::Shared, &[("ACCESS_LEVEL", "public")]),
        db.table("private", TableKind::Shared, &[]),
        db.table("restricted", TableKind::Shared, &[("ACCESS_LEVEL", "restricted")]),
    ];
    // A column a role: may, denied, or hidden.
    let expected = [
        (JobKind::Flush, ["dmmm", "dmmm", "hmmm", "hhmm"]),
        (JobKind::Compact, ["ddmm", "ddmm", "hdmm", "hhmm"]),
        (JobKind::Check, ["ddmm", "ddmm", "hdmm", "hhmm"]),
    ];
    for (kind, by_table) in expected {
        for (table, answers) in tables.iter().zip(by_table) {
            for (person, answer) in people.iter().zip(answers.chars()) {
                let code = run(&db, person, &table.name, kind)
                    .map(|_| ())
                    .map_err(|error| error.code);
                let found = match code {
                    Err(ErrorCode::PermissionDenied) => 'd',
                    Err(ErrorCode::TableNotFound) => 'h',
                    Ok(()) | Err(_) => 'm',
                };
                assert_eq!(
                    found, answer,
                    "{kind:?} of {} by {}: {code:?}",
                    table.name, person.user_id
                );
            }
        }
    }
    let all = |by: &Principal, kind| db.engine.maintained_tables(&db.view(), by, kind);
    refused(all(&people[0], JobKind::Flush), ErrorCode::PermissionDenied);
    refused(all(&people[1], JobKind::Compact), ErrorCode::PermissionDenied);
    let names = |tables: Vec<TableName>| tables.into_iter().map(|name| name.table).collect::<Vec<_>>();
    assert_eq!(
        names(all(&people[1], JobKind::Flush).expect("may")),
        ["open", "own", "private"]
    );
    assert_eq!(
        names(all(&people[2], JobKind::Compact).expect("may")),
        ["open", "own", "private", "restricted"]
    );
}

#[test]
fn tables_that_never_have_segments_are_refused() {
    let db = Database::new();
    let stream = db.table("events", TableKind::Stream, &[("TTL_SECONDS", "60")]);
    let system = TableName::new("system", "users");
    for kind in [JobKind::Flush, JobKind::Compact, JobKind::Check] {
        for name in [&stream.name, &system] {
            let error = refused(run(&db, &db.root, name, kind), ErrorCode::InvalidStatement);
            assert!(error.message.contains(&name.to_string()), "{error}");
        }
    }
    refused(
        run(&db, &db.root, &TableName::new("public", "nothing"), JobKind::Flush),
        ErrorCode::TableNotFound,
    );
    assert!(db.engine.job_snapshots().is_empty());
    let all = db.engine.maintained_tables(&db.view(), &db.root, JobKind::Flush);
    assert!(all.expect("may").is_empty());
}

#[test]
fn jobs_that_ended_are_there_after_a_restart() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    for kind in [JobKind::Flush, JobKind::Check] {
        let outcome = run(&db, &db.root, &table.name, kind);
        let job = db.engine.job_snapshots().pop().expect("the last job");
        assert_eq!((job.kind, job.table_id.as_str()), (kind, table.table_id.as_str()));
        assert_eq!(
            job.status == JobStatus::Finished,
            outcome.is_ok(),
            "{job:?} {outcome:?}"
        );
        assert!(job.finished_at_micros.is_some());
    }
    let jobs = db.engine.job_snapshots();
    assert_eq!(jobs.len(), 2);
    let db = db.reopen();
    assert_eq!(db.engine.job_snapshots(), jobs);
}

#[test]
fn only_waiting_and_running_jobs_can_be_killed() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    // Its outcome is not the matter here.
    let _ended = run(&db, &db.root, &table.name, JobKind::Flush);
    let job_id = db.engine.job_snapshots().pop().expect("a job").job_id;
    for id in [job_id.as_str(), "", "nothing"] {
        let error = refused(db.engine.cancel_job(&db.root, id), ErrorCode::NotFound);
        assert!(error.message.contains("system.jobs"), "{error}");
    }
}

/// Whoever might have started a job ends it, and to others there is none.
#[test]
fn a_job_is_killed_by_whoever_may_start_it() {
    let db = Database::new();
    let people = [
        db.user("u", Role::User),
        db.user("s", Role::Service),
        db.user("d", Role::Dba),
        db.root.clone(),
    ];
    let tables = [
        db.table("own", TableKind::User, &[]),
        db.table("private", TableKind::Shared, &[]),
        db.table("restricted", TableKind::Shared, &[("ACCESS_LEVEL", "restricted")]),
    ];
    let gone = db.table("gone", TableKind::Shared, &[]);
    block_on(db.engine.drop_table(&db.root, &gone.name, false)).expect("dropped");
    // A column a role: may, denied, or nothing there.
    let expected = [
        (&tables[0], "ndmm"),
        (&tables[1], "ndmm"),
        (&tables[2], "nnmm"),
        (&gone, "nnmm"),
    ];
    // The one thread that checks is held up in a compaction, so that every other job waits.
    let busy = db.table("busy", TableKind::Shared, &[]);
    for id in [1, 2] {
        db.insert(&db.root, &busy, &[("a", id)]).expect("inserted");
        run(&db, &db.root, &busy.name, JobKind::Flush).expect("flushed");
    }
    let ((reached, at), (end, ended)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    db.engine.jobs().at(JobKind::Compact, move || {
        drop(reached);
        // Until the other end is dropped.
        assert!(ended.recv().is_err());
    });
    let (engine, root) = (Arc::clone(&db.engine), db.root.clone());
    let compaction = std::thread::spawn(move || block_on(engine.compact_table(&root, &busy.name)).map(|_| ()));
    assert!(at.recv().is_err());
    for (table, answers) in expected {
        for (person, answer) in people.iter().zip(answers.chars()) {
            let (job, _outcome) = db.engine.jobs().submit(Work::Check, table).expect("it waits");
            let found = match db.engine.cancel_job(person, &job.job_id).map_err(|error| error.code) {
                Ok(()) => 'm',
                Err(ErrorCode::PermissionDenied) => 'd',
                Err(ErrorCode::NotFound) => 'n',
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found, answer, "{} by {}", table.name, person.user_id);
        }
    }
    drop(end);
    compaction.join().expect("no panic").expect("compacted");
}

#[test]
fn a_storage_that_cannot_be_is_refused() {
    let db = Database::new();
    let dba = db.user("dba", Role::Dba);
    let create = |by: &Principal, name: &str, location: &str| {
        let new = NewStorage {
            name: name.to_owned(),
            location: location.to_owned(),
            if_not_exists: false,
        };
        block_on(db.engine.create_storage(by, new))
    };
    let inside = db.directory.path().join("deep/inside");
    let inside = inside.to_str().expect("UTF-8");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let file = file.path().to_str().expect("UTF-8");
    refused(create(&dba, "fast", "/mnt/fast"), ErrorCode::PermissionDenied);
    let cases = [
        ("local", "/mnt/fast", ErrorCode::AlreadyExists, "local"),
        ("", "/mnt/fast", ErrorCode::InvalidArgument, "name"),
        ("fast", "mnt/fast", ErrorCode::InvalidArgument, "absolute"),
        ("fast", "s3://bucket/fast", ErrorCode::Unsupported, "not supported yet"),
        ("fast", inside, ErrorCode::InvalidArgument, "data directory"),
        ("fast", file, ErrorCode::StorageError, file),
    ];
    for (name, location, code, part) in cases {
        let error = refused(create(&db.root, name, location), code);
        assert!(error.message.contains(part), "{error}");
    }
    let drop = |by: &Principal, name: &str, if_exists| block_on(db.engine.drop_storage(by, name, if_exists));
    refused(drop(&dba, "fast", true), ErrorCode::PermissionDenied);
    refused(drop(&db.root, "local", true), ErrorCode::InvalidArgument);
    refused(drop(&db.root, "fast", false), ErrorCode::NotFound);
    assert!(!drop(&db.root, "fast", true).expect("nothing to do"));
    assert_eq!(db.view().catalog().storages.keys().collect::<Vec<_>>(), ["local"]);
}

#[test]
fn what_reads_an_old_state_for_too_long_by_no_wall_clock_is_told_to_run_again() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("a", 1), ("b", 2)]).expect("inserted");
    let old = db.view();
    let columns: Vec<ScanField> = (0..2).map(ScanField::Column).collect();
    let request = ScanRequest {
        fields: columns,
        key: None,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 1,
    };
    let mut scan = old.scan(&db.root, &table, request.clone()).expect("begins");
    assert!(scan.next_batch().expect("reads").is_some());
    // Nobody has written: however old it is, it is the newest.
    db.clock.advance_micros(1_000 * SECOND);
    db.engine.end_old_snapshots();
    db.insert(&db.root, &table, &[("c", 3)]).expect("inserted");
    db.engine.end_old_snapshots();
    // That the wall clock is set makes nothing older, nor younger.
    for set_micros in [START + 86_400 * SECOND, START] {
        db.clock.set_micros(set_micros);
        db.engine.end_old_snapshots();
    }
    // A minute, in tests.
    db.clock.advance_micros(60 * SECOND - 1);
    db.engine.end_old_snapshots();
    old.scan(&db.root, &table, request.clone()).expect("it is young enough");
    db.clock.advance_micros(1);
    db.engine.end_old_snapshots();
    let error = refused(scan.next_batch(), ErrorCode::SnapshotTooOld);
    assert!(error.message.contains("run it again"), "{error}");
    refused(
        old.scan(&db.root, &table, request).map(|_| ()),
        ErrorCode::SnapshotTooOld,
    );
    assert_eq!(db.rows(&db.root, &table).len(), 3);
}
