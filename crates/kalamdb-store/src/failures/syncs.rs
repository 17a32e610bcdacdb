//! A write of the log fails, in the middle of all kinds of work. The fault is made above RocksDB, which never meets it: this shows what
//! the store makes of a write that failed, and going on afterwards stands for what RocksDB gets over by itself, a full disk. That it refuses
//! all writes after other errors is in `refused`, with a fault below it, and in the end-to-end tests of a broken disk.

use crate::crashes::check_structure;
use crate::engine::Fault;
use crate::failures::{WORK, Work, all, check_files, fill};
use crate::testing::{T, insert, new_store, open, segment_files, step};
use crate::{CommitError, TableChange};

/// At which write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The first one: of a commit, of a seal, of the name of a file.
    First,
    /// That of the publication.
    Last,
}

#[test]
fn work_whose_write_failed_has_changed_nothing_and_can_be_done_again() {
    for fault in [Fault::Refuse, Fault::Sync, Fault::SyncForEver] {
        for (work, when) in WORK.iter().flat_map(|&work| [(work, When::First), (work, When::Last)]) {
            eprintln!("{work:?}, {fault:?} in its {when:?} write");
            let (directory, store) = new_store();
            fill(&store);
            let (before, files) = (all(&store), segment_files(directory.path()));
            let engine = store.engine().clone();
            if when == When::First {
                engine.set_fault(Some(fault));
            }
            let error = work
                .run(&store, || {
                    if when == When::Last {
                        engine.set_fault(Some(fault));
                    }
                })
                .expect_err("a write fails");
            assert!(error.contains("a test"), "{error}");
            assert_eq!(all(&store), before);
            check_files(&store, directory.path());
            if fault == Fault::Refuse {
                assert_eq!(
                    segment_files(directory.path()),
                    files,
                    "nothing stays of what was not published"
                );
            }
            if fault == Fault::SyncForEver {
                let refused = insert(&store, T, 60, "refused").expect_err("no write is possible");
                let words = refused.to_string();
                assert!(
                    matches!(refused, CommitError::Storage(_) | CommitError::UnknownOutcome(_)),
                    "{words}"
                );
                assert!(words.contains("a test fails every sync"), "{words}");
                for work in WORK {
                    work.run(&store, || {}).expect_err("no write is possible");
                }
                assert_eq!(all(&store), before, "reads go on");
                check_files(&store, directory.path());
                engine.set_fault(None);
            }
            work.run(&store, || {}).expect("it is possible again");
            let after = work.after(before);
            assert_eq!(all(&store), after);
            for other in WORK.into_iter().filter(|&other| other != work) {
                other.run(&store, || {}).expect("and so is all else");
            }
            let after = WORK.into_iter().fold(after, |rows, work| work.after(rows));
            assert_eq!(all(&store), after);
            check_files(&store, directory.path());
            drop((store, engine));
            let store = open(directory.path());
            assert_eq!(all(&store), after);
            check_structure(&store, directory.path());
        }
    }
}

#[test]
fn a_write_that_a_restart_finds_although_it_failed_is_whole() {
    for work in WORK {
        let (directory, store) = new_store();
        fill(&store);
        let before = all(&store);
        let engine = store.engine().clone();
        let error = work.run(&store, || engine.set_fault(Some(Fault::SyncTooLate)));
        assert!(error.expect_err("its sync fails").contains("unknown"));
        drop((store, engine));
        let store = open(directory.path());
        let after = work.after(before);
        assert_eq!(all(&store), after, "{work:?}");
        check_structure(&store, directory.path());
        for other in WORK.into_iter().filter(|&other| other != work) {
            other.run(&store, || {}).expect("all goes on");
        }
        check_structure(&store, directory.path());
    }
}

#[test]
fn a_seal_that_a_restart_finds_although_it_failed_is_whole() {
    let (directory, store) = new_store();
    fill(&store);
    let before = all(&store);
    let engine = store.engine().clone();
    engine.set_fault(Some(Fault::SyncTooLate));
    step(&store, vec![TableChange::Seal(T)]).expect_err("its sync fails");
    drop((store, engine));
    let store = open(directory.path());
    assert_eq!(all(&store), before);
    assert_eq!(store.state().table(T).expect("live").epochs.len(), 2);
    Work::Flush.run(&store, || {}).expect("flushes");
    assert_eq!(all(&store), before);
    assert_eq!(store.state().table(T).expect("live").epochs.len(), 1);
    check_structure(&store, directory.path());
}
