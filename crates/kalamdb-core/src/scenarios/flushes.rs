//! FLUSH, COMPACT and CHECK with their jobs, the schedule that starts them, and the writers that wait for them.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, SECOND, START, batch, found, many, rows_of};

/// What [`SystemTable::Segments`] shows of a table: run, rows, deleted rows.
fn segments(db: &Database, table: &Table) -> Vec<(u32, u64, u64)> {
    let all = db.view().segments().expect("reads");
    let of_table = all.into_iter().filter(|segment| segment.table_id == table.table_id);
    of_table
        .map(|segment| (segment.run, segment.rows, segment.deleted_rows))
        .collect()
}

fn flush(db: &Database, table: &Table) -> JobReport {
    block_on(db.engine.flush_table(&db.root, &table.name)).expect("flushed")
}

fn statuses(db: &Database) -> Vec<(JobKind, JobStatus)> {
    let jobs = db.engine.job_snapshots();
    jobs.into_iter().map(|job| (job.kind, job.status)).collect()
}

#[test]
fn a_flush_moves_every_users_rows_and_says_how_many() {
    let db = Database::new();
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    let table = db.table("t", TableKind::User, &[]);
    db.insert(&a, &table, &[("x", 1), ("y", 2)]).expect("inserted");
    db.insert(&b, &table, &[("z", 1)]).expect("inserted");
    let before = db.view();
    let report = flush(&db, &table);
    assert_eq!((report.rows, report.segments), (3, 1));
    assert!(report.bytes > 0);
    db.insert(&b, &table, &[("w", 5)]).expect("inserted");
    assert_eq!(db.rows(&a, &table), owned(&[("x", 1), ("y", 2)]));
    assert_eq!(db.rows(&b, &table), owned(&[("z", 1), ("w", 5)]));
    assert_eq!(rows_of(&before, &b, &table), owned(&[("z", 1)]));
    refused(db.insert(&b, &table, &[("again", 1)]), ErrorCode::DuplicateKey);

    let job = db.engine.job_snapshots().pop().expect("a job");
    assert_eq!(
        (job.kind, job.status, job.rows, job.bytes, job.progress),
        (JobKind::Flush, JobStatus::Finished, 3, report.bytes, Some(1.0))
    );
    assert_eq!(job.job_id, report.job_id);
    let shown = db.view().segments().expect("reads");
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (shown[0].rows, shown[0].deleted_rows, shown[0].size_bytes),
        (3, 0, report.bytes)
    );
    assert!(shown[0].min_seq < shown[0].max_seq && !shown[0].path.starts_with('/'));

    assert_eq!(flush(&db, &table).rows, 1);
    let empty = flush(&db, &table);
    assert_eq!((empty.rows, empty.bytes, empty.segments), (0, 0, 0));
    assert_eq!(segments(&db, &table).len(), 2);
    drop(before);
    let db = db.reopen();
    assert_eq!(db.rows(&b, &table), owned(&[("z", 1), ("w", 5)]));
    assert_eq!(statuses(&db), [(JobKind::Flush, JobStatus::Finished); 3]);
}

#[test]
fn a_compaction_makes_one_run_without_deleted_rows() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    for first in [0, 10, 20] {
        db.insert(&db.root, &table, &[("a", first), ("b", first + 1)])
            .expect("inserted");
        flush(&db, &table);
    }
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &db.root, &table).expect("starts");
    mutator
        .delete(&found(&view, &db.root, &table, &[0, 21]))
        .expect("taken");
    block_on(mutator.finish()).expect("deleted");
    let deleted: Vec<u64> = segments(&db, &table)
        .into_iter()
        .map(|(_, _, deleted)| deleted)
        .collect();
    assert_eq!(deleted, [1, 0, 1]);

    let report = block_on(db.engine.compact_table(&db.root, &table.name)).expect("compacted");
    assert_eq!((report.rows, report.segments), (4, 1));
    let after = segments(&db, &table);
    assert_eq!((after.len(), after[0].1, after[0].2), (1, 4, 0));
    assert_eq!(
        db.rows(&db.root, &table),
        owned(&[("b", 1), ("a", 10), ("b", 11), ("a", 20)])
    );
    let again = block_on(db.engine.compact_table(&db.root, &table.name)).expect("nothing to do");
    assert_eq!(again.segments, 0);
}

#[test]
fn a_check_reads_everything_and_names_what_is_damaged() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    let check = || block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
    let empty = check();
    assert_eq!((empty.segments, empty.rows, empty.bytes), (0, 0, 0));
    for first in [0, 10] {
        db.insert(&db.root, &table, &[("a", first)]).expect("inserted");
        flush(&db, &table);
    }
    let sound = check();
    assert_eq!((sound.segments, sound.rows, sound.problems), (2, 2, Vec::new()));
    let shown = db.view().segments().expect("reads");
    assert_eq!(sound.bytes, shown.iter().map(|segment| segment.size_bytes).sum::<u64>());

    let file = db.directory.path().join("segments").join(&shown[1].path);
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let damaged = check();
    assert_eq!(damaged.problems.len(), 1, "{damaged:?}");
    assert_eq!(damaged.problems[0].segment_id.as_ref(), Some(&shown[1].segment_id));
    assert_eq!(damaged.problems[0].path.as_ref(), Some(&shown[1].path));
    let job = db.engine.job_snapshots().pop().expect("a job");
    assert_eq!(job.status, JobStatus::Finished);
    let error = job.error.expect("says what it found");
    assert!(
        error.contains("1 of 2") && error.contains(&shown[1].segment_id),
        "{error}"
    );
}

/// Changes a byte of a segment's columns; where it is and what it was before.
fn damage(db: &Database, segment: usize) -> (std::path::PathBuf, Vec<u8>) {
    let shown = db.view().segments().expect("reads");
    let file = db.directory.path().join("segments").join(&shown[segment].path);
    let before = std::fs::read(&file).expect("read");
    let mut bytes = before.clone();
    bytes[8] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    (file, before)
}

#[test]
fn a_table_with_a_damaged_segment_is_refused_by_whatever_met_the_damage() {
    type Meet = fn(&Database, &Arc<Table>) -> Result<()>;
    let meets: [(&str, Meet); 3] = [
        ("scan", |db, table| {
            let mut scan = db.view().scan(&db.root, table, everything())?;
            while scan.next_batch()?.is_some() {}
            Ok(())
        }),
        ("insert", |db, table| {
            db.insert(&db.root, table, &[("again", 1)]).map(|_| ())
        }),
        ("check", |db, table| {
            let report = block_on(db.engine.check_table(&db.root, &table.name))?;
            assert_eq!((report.segments, report.problems.len()), (2, 1));
            Err(Error::new(ErrorCode::DataCorrupted, report.problems[0].problem.clone()))
        }),
    ];
    for (way, meet) in meets {
        let db = Database::new();
        let (table, other) = (
            db.table("t", TableKind::Shared, &[("FLUSH_POLICY", "rows:1")]),
            db.table("other", TableKind::Shared, &[]),
        );
        for first in [0, 10] {
            let rows = [("a", first), ("b", first + 1), ("c", first + 2)];
            for table in [&table, &other] {
                db.insert(&db.root, table, &rows).expect("inserted");
            }
            flush(&db, &table);
        }
        db.insert(&db.root, &table, &[("hot", 20)]).expect("inserted");
        let view = db.view();
        let hot = found(&view, &db.root, &table, &[20]);
        let (file, before) = damage(&db, 0);
        let met = refused(meet(&db, &table), ErrorCode::DataCorrupted);
        assert!(met.message.contains(&file.display().to_string()), "{way}: {met}");

        let jobs = db.engine.job_snapshots().len();
        let refusals = [
            db.view().scan(&db.root, &table, everything()).map(|_| ()),
            db.insert(&db.root, &table, &[("b", 30)]).map(|_| ()),
            db.engine.mutate(&view, &db.root, &table).map(|_| ()),
            block_on(db.engine.flush_table(&db.root, &table.name)).map(|_| ()),
            block_on(db.engine.compact_table(&db.root, &table.name)).map(|_| ()),
        ];
        for (at, refusal) in refusals.into_iter().enumerate() {
            let error = refused(refusal, ErrorCode::DataCorrupted);
            for part in ["public.t", "STORAGE CHECK TABLE", &file.display().to_string()] {
                assert!(error.message.contains(part), "{way}, {at}: {error}");
            }
        }
        let failed = db.engine.job_snapshots().split_off(jobs);
        let failed = failed.iter().map(|job| (job.status, job.error.is_some()));
        assert_eq!(failed.collect::<Vec<_>>(), [(JobStatus::Failed, true); 2], "{way}");
        // The schedule does not try what can only fail, not even once it may try again; and others are served.
        db.clock.advance_micros(60 * SECOND);
        assert_eq!(db.engine.run_due(), 0, "{way}");
        assert_eq!(db.rows(&db.root, &other).len(), 6);
        db.insert(&db.root, &other, &[("d", 30)]).expect("inserted");

        std::fs::write(&file, before).expect("written");
        let checked = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
        assert_eq!(checked.problems, Vec::new(), "{way}");
        assert_eq!(db.rows(&db.root, &table).len(), 7);
        let mut mutator = db.engine.mutate(&view, &db.root, &table).expect("starts");
        mutator.delete(&hot).expect("taken");
        assert_eq!(block_on(mutator.finish()).expect("deleted"), 1);
        db.insert(&db.root, &table, &[("hot", 20)]).expect("inserted");
        assert_eq!(flush(&db, &table).rows, 1);
    }
}

#[test]
fn a_damaged_table_can_be_truncated_and_is_refused_over_restarts_until_a_check() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    db.insert(&db.root, &table, &[("a", 1)]).expect("inserted");
    flush(&db, &table);
    let (file, before) = damage(&db, 0);
    refused(db.insert(&db.root, &table, &[("again", 1)]), ErrorCode::DataCorrupted);
    std::fs::write(&file, before).expect("written");
    refused(db.insert(&db.root, &table, &[("b", 2)]), ErrorCode::DataCorrupted);
    let db = db.reopen();
    let error = refused(db.insert(&db.root, &table, &[("b", 2)]), ErrorCode::DataCorrupted);
    assert!(error.message.contains("STORAGE CHECK TABLE"), "{error}");
    let report = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
    assert_eq!(report.problems.len(), 0);
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
    let db = db.reopen();
    assert_eq!(db.rows(&db.root, &table), owned(&[("a", 1)]));
    damage(&db, 0);
    let report = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
    assert_eq!(report.problems.len(), 1);
    let error = db
        .engine
        .job_snapshots()
        .pop()
        .expect("a job")
        .error
        .expect("it says what it found");
    assert!(error.contains(&file.display().to_string()), "{error}");
    refused(db.insert(&db.root, &table, &[("b", 2)]), ErrorCode::DataCorrupted);
    block_on(db.engine.truncate_table(&db.root, &table.name)).expect("truncated");
    let table = db.find(&table);
    db.insert(&db.root, &table, &[("b", 2)]).expect("inserted");
    assert_eq!(db.rows(&db.root, &table), owned(&[("b", 2)]));
}

fn everything() -> ScanRequest {
    ScanRequest {
        fields: vec![ScanField::Column(0), ScanField::Column(1)],
        key: None,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 1000,
    }
}

#[test]
fn hazard_5_the_schedule_flushes_by_rows_and_by_age() {
    let db = Database::new();
    let by_rows = db.table("by_rows", TableKind::Shared, &[("FLUSH_POLICY", "rows:3")]);
    let by_age = db.table("by_age", TableKind::User, &[("FLUSH_POLICY", "interval:60s")]);
    let by_default = db.table("by_default", TableKind::Shared, &[]);
    for table in [&by_rows, &by_age, &by_default] {
        db.insert(&db.root, table, &[("a", 1), ("b", 2)]).expect("inserted");
    }
    let cold = || {
        db.wait_for_jobs();
        [&by_rows, &by_age, &by_default].map(|table| segments(&db, table).len())
    };
    assert_eq!(db.engine.run_due(), 0);
    db.insert(&db.root, &by_rows, &[("c", 3)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 1);
    assert_eq!(cold(), [1, 0, 0]);
    // Rows of all users count together.
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    let of_users = db.table("of_users", TableKind::User, &[("FLUSH_POLICY", "rows:3")]);
    db.insert(&a, &of_users, &[("a", 1), ("b", 2)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 0);
    db.insert(&b, &of_users, &[("a", 1)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 1);
    db.wait_for_jobs();
    assert_eq!(segments(&db, &of_users).len(), 1);
    assert_eq!((db.rows(&a, &of_users).len(), db.rows(&b, &of_users).len()), (2, 1));
    // Commits at a standing clock are a microsecond apart.
    db.clock.advance_micros(59 * SECOND);
    assert_eq!(db.engine.run_due(), 0);
    db.clock.advance_micros(2 * SECOND);
    assert_eq!(db.engine.run_due(), 1);
    assert_eq!(cold(), [1, 1, 0]);
    // Age counts from the oldest row that is hot now.
    db.insert(&db.root, &by_age, &[("c", 3)]).expect("inserted");
    db.clock.advance_micros(59 * SECOND);
    assert_eq!(db.engine.run_due(), 0);
    db.clock.advance_micros(2 * SECOND);
    assert_eq!(db.engine.run_due(), 1);
    db.wait_for_jobs();
    db.clock.advance_micros(180 * SECOND);
    assert_eq!(db.engine.run_due(), 1);
    assert_eq!(cold(), [1, 2, 1]);
    assert_eq!(db.engine.run_due(), 0);
    for table in [&by_rows, &by_age] {
        assert_eq!(db.rows(&db.root, table), owned(&[("a", 1), ("b", 2), ("c", 3)]));
    }
}

#[test]
fn the_schedule_compacts_what_is_worth_it() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    for id in 0..8 {
        db.insert(&db.root, &table, &[("a", id)]).expect("inserted");
        flush(&db, &table);
    }
    assert_eq!(db.engine.run_due(), 0);
    db.insert(&db.root, &table, &[("a", 8)]).expect("inserted");
    flush(&db, &table);
    let compaction = Stopped::next(&db, JobKind::Compact);
    assert_eq!(db.engine.run_due(), 1);
    compaction.wait();
    let running = db.engine.job_snapshots().pop().expect("a job");
    assert!(running.progress.is_some_and(|done| done > 0.0), "{running:?}");
    compaction.go_on();
    db.wait_for_jobs();
    let runs: std::collections::HashSet<u32> = segments(&db, &table).into_iter().map(|(run, ..)| run).collect();
    assert!(runs.len() <= 8, "{runs:?}");
    assert_eq!(statuses(&db).last(), Some(&(JobKind::Compact, JobStatus::Finished)));
    assert_eq!(db.engine.run_due(), 0);
    assert_eq!(db.rows(&db.root, &table).len(), 9);
}

#[test]
fn rows_of_a_dropped_user_leave_the_segments() {
    let db = Database::new();
    let (a, b) = (db.user("a", Role::User), db.user("b", Role::User));
    let table = db.table("t", TableKind::User, &[]);
    for id in 0..20 {
        db.insert(&a, &table, &[("kept", id)]).expect("inserted");
    }
    db.insert(&b, &table, &[("secret", 1)]).expect("inserted");
    flush(&db, &table);
    assert_eq!(db.engine.run_due(), 0);
    let before = db.view().segments().expect("reads").remove(0);
    block_on(db.engine.drop_user(&db.root, "b", false)).expect("dropped");
    assert_eq!(db.engine.run_due(), 1);
    db.wait_for_jobs();
    assert_eq!(statuses(&db).last(), Some(&(JobKind::Compact, JobStatus::Finished)));
    let after = db.view().segments().expect("reads").remove(0);
    assert_eq!((before.rows, after.rows), (21, 20));
    assert_ne!(before.path, after.path);
    assert_eq!(db.engine.run_due(), 0);
    assert_eq!(db.rows(&a, &table).len(), 20);
    // It ends when what is to be erased is.
    let (data_dir, old) = (db.directory.path().to_owned(), before.path);
    let db = db.reopen();
    assert!(!data_dir.join("segments").join(old).exists());
    drop(db);
}

fn limited(hot_limit_bytes: u64, hot_limit_wait_ms: u64) -> Database {
    Database::with(MaintenanceOptions {
        hot_limit_bytes,
        hot_limit_wait_ms,
        ..MaintenanceOptions::default()
    })
}

#[test]
fn writers_wait_for_the_flush_that_the_hot_limit_starts() {
    const LIMIT: u64 = 64 << 10;
    let db = limited(LIMIT, 30_000);
    let table = db.table("t", TableKind::Shared, &[]);
    // Nobody calls `run_due`: a writer that has to wait starts the flush itself.
    let text = "x".repeat(4 << 10);
    let most = 2 * (text.len() as u64 + 100);
    for id in 0..200 {
        db.insert(&db.root, &table, &[(&text, 2 * id), (&text, 2 * id + 1)])
            .expect("there is room in the end");
        let hot_bytes = db.engine.store().hot_usage(table.store).all_bytes();
        assert!(hot_bytes < LIMIT + most, "{hot_bytes}");
    }
    db.wait_for_jobs();
    assert!(segments(&db, &table).len() > 5);
    assert_eq!(db.rows(&db.root, &table).len(), 400);
    let jobs = statuses(&db);
    assert!(
        jobs.iter().all(|job| *job == (JobKind::Flush, JobStatus::Finished)),
        "{jobs:?}"
    );
}

/// A job that stops when it has moved its first rows, until it is let go on or this is dropped.
struct Stopped {
    reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Stopped {
    /// The next job of this kind.
    fn next(db: &Database, kind: JobKind) -> Self {
        let (reach, reached) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel::<()>();
        db.engine.jobs().at(kind, move || {
            reach.send(()).expect("the test waits");
            // An error: the test has failed.
            gone_on.recv().ok();
        });
        Stopped { reached, go_on }
    }

    fn wait(&self) {
        self.reached.recv().expect("it comes by");
    }

    fn go_on(self) {
        self.go_on.send(()).expect("it waits");
    }
}

#[test]
fn writers_at_the_hot_limit_do_not_wait_for_a_compaction() {
    const LIMIT: u64 = 64 << 10;
    let db = limited(LIMIT, u64::MAX);
    let table = db.table("t", TableKind::Shared, &[]);
    for id in [-2, -1] {
        db.insert(&db.root, &table, &[("old", id)]).expect("inserted");
        flush(&db, &table);
    }
    std::thread::scope(|scope| {
        let compaction = Stopped::next(&db, JobKind::Compact);
        let compacted = scope.spawn(|| block_on(db.engine.compact_table(&db.root, &table.name)));
        compaction.wait();
        let (done, wait) = mpsc::channel();
        let (db, table) = (&db, &table);
        let writer = scope.spawn(move || {
            let text = "x".repeat(4 << 10);
            for id in 0..100 {
                db.insert(&db.root, table, &[(&text, id)])
                    .expect("there is room in the end");
            }
            done.send(()).expect("the test waits");
        });
        // Only a test that fails waits so long.
        let written = wait.recv_timeout(Duration::from_secs(60));
        assert!(
            db.engine
                .jobs()
                .snapshot()
                .iter()
                .any(|job| job.kind == JobKind::Compact && job.status == JobStatus::Running)
        );
        compaction.go_on();
        compacted.join().expect("no panic").expect("compacted");
        assert_eq!(written, Ok(()), "writers waited for the compaction");
        writer.join().expect("no panic");
    });
    db.wait_for_jobs();
    let flushes = statuses(&db);
    let flushes = flushes
        .iter()
        .filter(|job| **job == (JobKind::Flush, JobStatus::Finished));
    assert!(flushes.count() >= 2 + 5, "{:?}", statuses(&db));
    let ids: Vec<i64> = db.rows(&db.root, &table).into_iter().map(|row| row.1).collect();
    assert_eq!(ids, (-2..100).collect::<Vec<_>>());
}

#[test]
fn rows_that_a_flush_is_moving_count_until_it_has_moved_them() {
    let db = limited(8 << 10, u64::MAX);
    let table = db.table("t", TableKind::Shared, &[]);
    let text = "x".repeat(6 << 10);
    db.insert(&db.root, &table, &[(&text, 0)]).expect("there is room");
    std::thread::scope(|scope| {
        let moving = Stopped::next(&db, JobKind::Flush);
        let flushed = scope.spawn(|| flush(&db, &table));
        moving.wait();
        db.insert(&db.root, &table, &[(&text, 1)]).expect("there is room still");
        let writer = scope.spawn(|| db.insert(&db.root, &table, &[(&text, 2)]));
        while db.engine.held().count() == 0 && !writer.is_finished() {
            std::thread::yield_now();
        }
        let held = !writer.is_finished();
        moving.go_on();
        assert!(held, "both epochs together are beyond the limit");
        assert_eq!(flushed.join().expect("no panic").rows, 1);
        writer.join().expect("no panic").expect("the flush made room");
    });
    assert_eq!(db.rows(&db.root, &table).len(), 3);
}

#[test]
fn a_table_is_flushed_and_compacted_at_once() {
    let db = limited(64 << 10, 30_000);
    let table = db.table("t", TableKind::Shared, &[("FLUSH_POLICY", "rows:1")]);
    for id in 0..9 {
        db.insert(&db.root, &table, &[("a", id)]).expect("inserted");
        flush(&db, &table);
    }
    db.insert(&db.root, &table, &[("a", 9)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 2, "neither waits for the other to be done");
    db.wait_for_jobs();
    assert_eq!(db.engine.run_due(), 0);
    assert_eq!(db.rows(&db.root, &table).len(), 10);
}

#[test]
fn half_of_the_hot_limit_is_due() {
    let db = limited(64 << 10, 30_000);
    let table = db.table("t", TableKind::Shared, &[("FLUSH_POLICY", "rows:1000000")]);
    let text = "x".repeat(20 << 10);
    db.insert(&db.root, &table, &[(&text, 1)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 0);
    db.insert(&db.root, &table, &[(&text, 2)]).expect("inserted");
    assert_eq!(db.engine.run_due(), 1);
    db.wait_for_jobs();
    assert_eq!(segments(&db, &table).len(), 1);
}

/// A database with a small hot limit and a table in a storage whose directory is away.
struct Stuck {
    db: Database,
    table: Arc<Table>,
    place: std::path::PathBuf,
    away: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Stuck {
    fn new(hot_limit_wait_ms: u64) -> Self {
        let db = limited(4 << 10, hot_limit_wait_ms);
        let directory = tempfile::tempdir().expect("a directory");
        let (place, away) = (directory.path().join("here"), directory.path().join("away"));
        let new = NewStorage {
            name: "fast".to_owned(),
            location: place.to_str().expect("UTF-8").to_owned(),
            if_not_exists: false,
        };
        block_on(db.engine.create_storage(&db.root, new)).expect("made");
        let table = db.table("t", TableKind::Shared, &[("STORAGE", "fast")]);
        std::fs::rename(&place, &away).expect("moved");
        std::fs::write(&place, b"in the way").expect("written");
        Stuck {
            db,
            table,
            place,
            away,
            _directory: directory,
        }
    }

    /// Inserts rows, each larger than the limit; all but the first few are held back.
    fn insert(&self, rows: i64) -> Result<()> {
        let text = "x".repeat(8 << 10);
        for id in 0..rows {
            self.db.insert(&self.db.root, &self.table, &[(&text, id)])?;
        }
        Ok(())
    }

    /// Waits until a flush failed and a writer is held back.
    fn wait_until_held(&self) {
        while statuses(&self.db).is_empty() || self.db.engine.held().count() == 0 {
            std::thread::yield_now();
        }
    }

    fn mend(&self) {
        std::fs::remove_file(&self.place).expect("removed");
        std::fs::rename(&self.away, &self.place).expect("moved back");
    }

    /// A second goes by.
    fn tick(&self) -> usize {
        self.db.clock.advance_micros(SECOND);
        self.db.engine.run_due()
    }
}

#[test]
fn rows_that_are_about_to_be_committed_take_room() {
    let db = limited(4 << 10, 30_000);
    let table = db.table("t", TableKind::Shared, &[]);
    let prepared = |id: i64| {
        let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
        appender.push(&batch(&[(&"x".repeat(8 << 10), id)])).expect("taken");
        block_on(appender.prepare(&|| false))
    };
    let first = prepared(1).expect("there is room");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| block_on(prepared(2).expect("there is room").commit()));
        while db.engine.held().count() == 0 && !second.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(db.engine.held().count(), 1, "nothing is hot, and nobody else gets room");
        // Given up, it takes none.
        drop(first);
        assert_eq!(second.join().expect("no panic").expect("committed"), 1);
    });
    assert_eq!(db.rows(&db.root, &table).len(), 1);
}

#[test]
fn a_held_writer_gives_up_in_time() {
    let stuck = Stuck::new(30_000);
    let (db, table) = (&stuck.db, &stuck.table);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| stuck.insert(10));
        stuck.wait_until_held();
        while !writer.is_finished() {
            stuck.tick();
            std::thread::yield_now();
        }
        let error = refused(writer.join().expect("no panic"), ErrorCode::TooManyRequests);
        assert!(
            error.message.contains("hot_limit") && error.message.contains("try again"),
            "{error}"
        );
        assert!(db.view().now_micros() >= START + 30 * SECOND);
    });
    // A flush that still runs must fail on its storage, not find its only row deleted and have nothing to write.
    db.wait_for_jobs();
    // Whoever makes no row is not held back.
    let view = db.view();
    let mut mutator = db.engine.mutate(&view, &db.root, table).expect("starts");
    mutator.delete(&found(&view, &db.root, table, &[0])).expect("taken");
    assert_eq!(block_on(mutator.finish()).expect("deleted"), 1);
    let jobs = db.engine.job_snapshots();
    assert!(jobs.iter().all(|job| job.status == JobStatus::Failed), "{jobs:?}");
    assert!(
        jobs[0].error.as_ref().is_some_and(|error| error.contains("public.t")),
        "{jobs:?}"
    );
}

#[test]
fn a_held_writer_goes_on_once_a_flush_works_again() {
    let stuck = Stuck::new(u64::MAX);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| stuck.insert(10));
        stuck.wait_until_held();
        stuck.mend();
        while !writer.is_finished() {
            stuck.tick();
            std::thread::yield_now();
        }
        writer.join().expect("no panic").expect("all were inserted");
    });
    assert_eq!(stuck.db.rows(&stuck.db.root, &stuck.table).len(), 10);
}

#[test]
fn a_flush_that_failed_is_finished_by_the_schedule() {
    let stuck = Stuck::new(30_000);
    let (db, table) = (&stuck.db, &stuck.table);
    stuck.insert(1).expect("there is room");
    refused(
        block_on(db.engine.flush_table(&db.root, &table.name)),
        ErrorCode::StorageError,
    );
    assert_eq!(db.engine.run_due(), 0, "it pauses after a failure");
    stuck.mend();
    assert_eq!(stuck.tick(), 1);
    db.wait_for_jobs();
    assert_eq!(statuses(db).last(), Some(&(JobKind::Flush, JobStatus::Finished)));
    assert_eq!(segments(db, table).len(), 1);
    assert_eq!(stuck.tick(), 0);
}

#[test]
fn a_stopping_engine_lets_held_writers_go() {
    let stuck = Stuck::new(u64::MAX);
    let db = &stuck.db;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| stuck.insert(10));
        stuck.wait_until_held();
        db.engine.stop_maintenance();
        refused(writer.join().expect("no panic"), ErrorCode::Unavailable);
    });
    refused(
        block_on(db.engine.flush_table(&db.root, &stuck.table.name)),
        ErrorCode::Unavailable,
    );
}

#[test]
fn a_table_dropped_or_truncated_under_a_flush_ends_the_job_and_holds_nothing_up() {
    let db = Database::new();
    let mut outcomes = Vec::new();
    for round in 0..20 {
        let table = db.table(&format!("t{round}"), TableKind::Shared, &[]);
        let mut appender = db.engine.append(&db.root, &table, OnConflict::Error).expect("starts");
        appender.push(&many(0, 20_000)).expect("taken");
        block_on(appender.finish()).expect("inserted");
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| block_on(db.engine.flush_table(&db.root, &table.name)));
            while db.engine.active_jobs() == 0 && !flushed.is_finished() {
                std::thread::yield_now();
            }
            if round % 2 == 0 {
                block_on(db.engine.drop_table(&db.root, &table.name, false)).expect("dropped");
            } else {
                block_on(db.engine.truncate_table(&db.root, &table.name)).expect("truncated");
            }
            outcomes.push((round, flushed.join().expect("no panic")));
        });
    }
    for (round, outcome) in outcomes {
        match outcome {
            // It was faster, or found the table empty.
            Ok(report) => assert!(report.rows == 20_000 || report.rows == 0, "{report:?}"),
            Err(error) => {
                let expected = if round % 2 == 0 {
                    ErrorCode::TableNotFound
                } else {
                    ErrorCode::Conflict
                };
                assert_eq!(error.code, expected, "{error}");
            }
        }
    }
    assert!(db.view().segments().expect("reads").is_empty());
    assert_eq!(db.engine.active_jobs(), 0);
}

#[test]
fn a_statement_that_goes_away_takes_its_job_along() {
    let db = Database::new();
    let table = db.table("t", TableKind::Shared, &[]);
    let flush = db.engine.flush_table(&db.root, &table.name);
    // Polled once, it has its job; then it is dropped.
    assert!(futures::FutureExt::now_or_never(flush).is_none_or(|outcome| outcome.is_ok()));
    db.wait_for_jobs();
    let job = db.engine.job_snapshots().pop().expect("a job");
    assert!(
        matches!(job.status, JobStatus::Cancelled | JobStatus::Finished),
        "{job:?}"
    );
}
