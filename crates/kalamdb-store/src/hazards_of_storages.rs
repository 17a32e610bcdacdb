//! The hazard of a storage that is not there: of a disk that is not mounted there is an empty directory, or none, and sometimes
//! another one. What would be written there is hidden by the disk when it comes back; what is missing there is not missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::WriteBatch;
use tempfile::TempDir;

use crate::crashes::records;
use crate::storage_marker::{MARKER_FILE, Marker};
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, create, finish, ids, insert, key, load_all, new_store, open, schema,
    segment_options, step,
};
use crate::{Moved, OnDuplicate, SegmentOptions, StorageId, StoreError, StoreId, TableChange, meta};

const OTHER: StorageId = StorageId(4);

/// A table with a cold row and a hot one; its storage, which can be taken away.
struct Place {
    directory: TempDir,
    /// Both the storage and what stands for its disk are in it.
    root: TempDir,
    storage: StorageId,
}

impl Place {
    fn new(storage: StorageId) -> (Self, Arc<TestStore>) {
        let (directory, store) = new_store();
        let place = Place {
            directory,
            root: tempfile::tempdir().expect("a directory"),
            storage,
        };
        if storage == OTHER {
            store.create_storage(OTHER, &place.there()).expect("a storage");
        }
        insert(&store, T, 1, "cold").expect("commits");
        place.flush(&store).expect("flushes");
        insert(&store, T, 2, "hot").expect("commits");
        (place, store)
    }

    fn there(&self) -> PathBuf {
        match self.storage {
            OTHER => self.root.path().join("there"),
            _ => self.directory.path().join("segments"),
        }
    }

    fn options(&self) -> SegmentOptions {
        SegmentOptions {
            storage: self.storage,
            ..segment_options()
        }
    }

    fn flush(&self, store: &Arc<TestStore>) -> Result<Moved, StoreError> {
        store.flush(T, &schema(), &self.options(), &Meanwhile(|_, _| {}))
    }

    /// What comes of opening the store, and of adding the storage.
    fn open(&self) -> (Arc<TestStore>, Result<(), StoreError>) {
        let store = open(self.directory.path());
        let added = match self.storage {
            OTHER => store.add_storage(OTHER, &self.there()),
            default => store.check_storage(default),
        };
        (store, added)
    }

    /// Takes the storage away and leaves this in its place.
    fn take_away(&self, instead: Instead) {
        fs::rename(self.there(), self.disk()).expect("moved");
        if instead == Instead::Nothing {
            return;
        }
        fs::create_dir(self.there()).expect("made");
        let other = match instead {
            Instead::Nothing | Instead::AnEmptyDirectory => return,
            Instead::AnotherDatabase => Marker::new("another", self.storage),
            Instead::AnotherStorage => Marker::new(&database(&self.disk()), StorageId(9)),
        };
        other.write(&self.there()).expect("marked");
    }

    fn bring_back(&self) {
        if self.there().exists() {
            fs::remove_dir_all(self.there()).expect("removed");
        }
        fs::rename(self.disk(), self.there()).expect("moved back");
    }

    fn disk(&self) -> PathBuf {
        self.root.path().join("disk")
    }
}

/// What is at the place of a disk that is not mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    Nothing,
    AnEmptyDirectory,
    AnotherDatabase,
    AnotherStorage,
}

/// The database's name, as its storage says it.
fn database(storage: &Path) -> String {
    let text = fs::read_to_string(storage.join(MARKER_FILE)).expect("reads");
    let words = text.strip_prefix("kalamdb storage of database ").expect("a mark");
    words.split_once(':').expect("a mark").0.to_string()
}

/// Everything below a directory, which may not exist.
fn below(directory: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).ok()?;
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    Some(names)
}

#[track_caller]
fn assert_away<T: std::fmt::Debug>(answer: &Result<T, StoreError>, there: &Path) {
    match answer {
        Err(StoreError::Away { directory, .. }) => assert_eq!(Path::new(directory), there),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hazard_20_nothing_is_written_or_erased_where_a_storage_is_not() {
    for storage in [StorageId::DEFAULT, OTHER] {
        for instead in [
            Instead::Nothing,
            Instead::AnEmptyDirectory,
            Instead::AnotherDatabase,
            Instead::AnotherStorage,
        ] {
            let (place, store) = Place::new(storage);
            let there = place.there();
            let options = place.options();
            // While the store is open.
            place.take_away(instead);
            let before = below(&there);
            assert_away(&place.flush(&store), &there);
            let epochs = store.state().table(T).expect("live").epochs.len();
            assert_eq!(epochs, 1, "nothing is sealed that cannot be moved");
            let compacted = store.compact(T, &schema(), &options, true, &Meanwhile(|_, _| {}));
            assert!(compacted.is_err() || compacted.is_ok_and(|moved| moved.segments == 0));
            if storage == StorageId::DEFAULT {
                let mut load = begin_load(&store, GLOBAL, OnDuplicate::Fail);
                let loaded = load_all(&mut load, &[7], "loaded").and_then(|()| finish(load));
                assert_away(&loaded.map(|_| ()), &there);
            }
            assert_away(&store.state().find(&schema(), T, GLOBAL, &key(1), 0), &there);
            assert_away(&store.check(T, &schema(), &Meanwhile(|_, _| {})), &there);
            store
                .state()
                .check_segments(T)
                .expect("a file that is away is not damaged");
            assert_eq!(records(&store, "file/"), [""; 0], "no file was begun");
            assert_eq!(below(&there), before, "{storage} {instead:?}");
            place.bring_back();
            assert_eq!(ids(&store, T), [1, 2]);

            // From the start on. What is to be erased meanwhile stays to be erased.
            let old = store.state();
            step(&store, vec![TableChange::Retire(T)]).expect("retires");
            place.take_away(instead);
            drop((old, store));
            let (store, added) = place.open();
            assert_away(&added, &there);
            store.wait_for_eraser();
            assert_eq!(records(&store, "file/").len(), 1, "{storage} {instead:?}");
            create(&store, T);
            insert(&store, T, 3, "hot").expect("is not concerned");
            assert_away(&place.flush(&store), &there);
            assert_eq!(below(&there), before, "{storage} {instead:?}");
            drop(store);
            place.bring_back();
            let (store, added) = place.open();
            added.expect("it is back");
            store.wait_for_eraser();
            assert_eq!(records(&store, "file/"), [""; 0]);
            assert_eq!(crate::testing::files_under(&there), [] as [PathBuf; 0]);
            place.flush(&store).expect("flushes");
            assert_eq!(ids(&store, T), [3]);
        }
    }
}

#[test]
fn a_table_whose_storage_is_away_at_the_start_is_there_when_it_is_back() {
    for storage in [StorageId::DEFAULT, OTHER] {
        let (place, store) = Place::new(storage);
        drop(store);
        place.take_away(Instead::AnEmptyDirectory);
        let (store, added) = place.open();
        assert_away(&added, &place.there());
        assert!(store.state().find(&schema(), T, GLOBAL, &key(1), 0).is_err());
        assert!(place.flush(&store).is_err());
        drop(store);
        assert_eq!(below(&place.there()), Some(vec![]));
        place.bring_back();
        let (store, added) = place.open();
        added.expect("it is back");
        assert_eq!(ids(&store, T), [1, 2]);
    }
}

#[test]
fn a_storage_whose_mark_cannot_be_read_at_the_start_has_its_tables_refused_and_no_others() {
    for storage in [StorageId::DEFAULT, OTHER] {
        let (place, store) = Place::new(storage);
        drop(store);
        let (mark, aside) = (place.there().join(MARKER_FILE), place.there().join("aside"));
        fs::rename(&mark, &aside).expect("moved");
        fs::create_dir(&mark).expect("made");
        let (store, added) = place.open();
        assert!(
            matches!(&added, Err(StoreError::Storage(text)) if text.contains(MARKER_FILE)),
            "{added:?}"
        );
        assert!(store.state().find(&schema(), T, GLOBAL, &key(1), 0).is_err());
        assert!(place.flush(&store).is_err());
        let hot = StoreId(71);
        create(&store, hot);
        insert(&store, hot, 1, "row").expect("nothing is wrong with it");
        assert_eq!(ids(&store, hot), [1]);
        drop(store);
        fs::remove_dir(&mark).expect("removed");
        fs::rename(&aside, &mark).expect("moved back");
        let (store, added) = place.open();
        added.expect("it can be read");
        assert_eq!(ids(&store, T), [1, 2]);
        assert_eq!(ids(&store, hot), [1]);
    }
}

#[test]
fn a_storage_that_was_away_at_the_start_is_taken_when_it_is_back() {
    for storage in [StorageId::DEFAULT, OTHER] {
        for instead in [
            Instead::Nothing,
            Instead::AnEmptyDirectory,
            Instead::AnotherDatabase,
            Instead::AnotherStorage,
        ] {
            let (place, store) = Place::new(storage);
            drop(store);
            place.take_away(instead);
            let before = below(&place.there());
            let (store, added) = place.open();
            assert_away(&added, &place.there());
            let is_away = || store.state().why_away(storage).is_some();
            assert!(is_away());
            // What is replaced meanwhile is erased when it is back.
            step(&store, vec![TableChange::Retire(T)]).expect("retires");
            store.wait_for_eraser();
            create(&store, T);
            insert(&store, T, 3, "hot").expect("is not concerned");
            for _ in 0..2 {
                assert_eq!(store.find_storages(), []);
                assert_away(&place.flush(&store), &place.there());
                assert_eq!(below(&place.there()), before, "{storage} {instead:?}");
                assert!(is_away());
            }
            assert_eq!(records(&store, "file/").len(), 1);
            place.bring_back();
            assert!(is_away(), "nobody has looked");
            assert_eq!(store.find_storages(), [storage]);
            assert!(!is_away());
            assert_eq!(store.find_storages(), []);
            store.wait_for_eraser();
            assert_eq!(records(&store, "file/"), [""; 0]);
            assert_eq!(crate::testing::files_under(&place.there()), [] as [PathBuf; 0]);
            place.flush(&store).expect("flushes");
            assert_eq!(ids(&store, T), [3]);
        }
    }
}

#[test]
fn rows_of_a_storage_that_was_away_at_the_start_are_read_when_it_is_back_and_missing_ones_missed() {
    for storage in [StorageId::DEFAULT, OTHER] {
        for is_missing in [false, true] {
            let (place, store) = Place::new(storage);
            drop(store);
            place.take_away(Instead::Nothing);
            let (store, _) = place.open();
            let find = || store.state().find(&schema(), T, GLOBAL, &key(1), 0);
            assert_away(&find().map(|_| ()), &place.there());
            place.bring_back();
            if is_missing {
                let files = crate::testing::files_under(&place.there());
                fs::remove_file(&files[0]).expect("removed");
            }
            assert_eq!(store.find_storages(), [storage]);
            if is_missing {
                let refused = store.state().check_segments(T);
                assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
                continue;
            }
            store.state().check_segments(T).expect("nothing is missing");
            assert_eq!(ids(&store, T), [1, 2]);
            place.flush(&store).expect("flushes");
            assert_eq!(ids(&store, T), [1, 2]);
        }
    }
}

#[test]
fn a_storage_that_another_process_has_is_taken_when_it_is_given_up() {
    for storage in [StorageId::DEFAULT, OTHER] {
        let (place, store) = Place::new(storage);
        drop(store);
        let mark = fs::File::open(place.there().join(MARKER_FILE)).expect("opens");
        mark.lock().expect("locked");
        let (store, added) = place.open();
        let held = format!("it is in use by process {}", std::process::id());
        match &added {
            Err(StoreError::Away { problem, .. }) => assert!(problem.contains(&held), "{problem}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.find_storages(), []);
        drop(mark);
        assert_eq!(store.find_storages(), [storage]);
        assert_eq!(ids(&store, T), [1, 2]);
    }
}

#[test]
fn a_file_that_could_not_be_erased_is_when_its_storage_is_back() {
    for storage in [StorageId::DEFAULT, OTHER] {
        let (place, store) = Place::new(storage);
        place.take_away(Instead::AnEmptyDirectory);
        step(&store, vec![TableChange::Retire(T)]).expect("retires");
        store.wait_for_eraser();
        assert_eq!(store.find_storages(), []);
        store.wait_for_eraser();
        assert_eq!(records(&store, "file/").len(), 1);
        place.bring_back();
        assert_eq!(store.find_storages(), []);
        store.wait_for_eraser();
        assert_eq!(records(&store, "file/"), [""; 0]);
        assert_eq!(crate::testing::files_under(&place.there()), [] as [PathBuf; 0]);
    }
}

#[test]
fn a_new_data_directory_that_cannot_be_set_up_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("segments"), "").expect("written");
    let refused = crate::Store::open(crate::testing::options(directory.path()), 0, |_, _| {
        Ok::<u64, StoreError>(0)
    });
    let Err(StoreError::Storage(error)) = refused else {
        panic!("it is taken")
    };
    assert!(error.contains("the storage directory"), "{error}");
}

/// As a version left it that knew no marks.
fn forget_the_mark(place: &Place, store: Arc<TestStore>) {
    let mut batch = WriteBatch::default();
    batch.delete_cf(store.engine().meta(), meta::storage_marked(place.storage));
    store.engine().write_synced(batch).expect("written");
    drop(store);
    fs::remove_file(place.there().join(MARKER_FILE)).expect("removed");
}

#[test]
fn a_storage_from_before_there_were_marks_is_marked_where_its_files_are() {
    for storage in [StorageId::DEFAULT, OTHER] {
        for instead in [None, Some(Instead::Nothing), Some(Instead::AnEmptyDirectory)] {
            let (place, store) = Place::new(storage);
            forget_the_mark(&place, store);
            if let Some(instead) = instead {
                place.take_away(instead);
                let before = below(&place.there());
                let (store, added) = place.open();
                assert_away(&added, &place.there());
                assert!(place.flush(&store).is_err());
                assert_eq!(below(&place.there()), before, "{storage} {instead:?}");
                drop(store);
                place.bring_back();
            }
            let (store, added) = place.open();
            added.expect("it is there");
            assert_eq!(ids(&store, T), [1, 2]);
            place.flush(&store).expect("flushes");
            drop(store);
            // From now on it is recognised, whatever is in it.
            place.take_away(Instead::AnEmptyDirectory);
            fs::create_dir(place.there().join(database(&place.disk()))).expect("made");
            let (_store, added) = place.open();
            assert_away(&added, &place.there());
        }
    }
}

#[test]
fn a_storage_of_another_database_is_refused() {
    let (_first, store) = new_store();
    let root = tempfile::tempdir().expect("a directory");
    store.create_storage(OTHER, root.path()).expect("a storage");
    let (_second, other) = new_store();
    let before = database(root.path());
    let refused = other.create_storage(OTHER, root.path());
    assert!(
        matches!(&refused, Err(StoreError::Taken { problem, .. }) if problem.contains(&before)),
        "{refused:?}"
    );
    assert_away(&other.add_storage(OTHER, root.path()), root.path());
    assert_eq!(database(root.path()), before);
    store.add_storage(OTHER, root.path()).expect("it is there");
}
