//! A kept data directory of format 2 with what format 2 gained after `fixtures/format-2` was written: the words of storages' last uses,
//! the name of a damaged file, and rows that were written in its place by a start that ended then. It opens for as long as there is a
//! KalamDB that says it reads format 2.
//!
//! It is in `fixtures/format-2-damage`, and `cargo test -p kalamdb-store --lib kept_damage -- --ignored` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::crashes::records;
use crate::hazards_of_hot_files::{files_of_rows, given_up_after, rows_of_others};
use crate::last_use::file_name;
use crate::rebuild::ENDS_AT;
use crate::testing::{
    Meanwhile, TestStore, copy_directory, create, ids, insert, open, options, schema, segment_files, segment_options,
};
use crate::{SegmentOptions, StorageId, Store, StoreError, StoreId};

/// The storage beside the default one; in the fixture, the directory `other`.
const OTHER: StorageId = StorageId(1);
/// Tables with a segment in each.
const HERE: StoreId = StoreId(71);
const THERE: StoreId = StoreId(72);

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-2-damage")
}

fn unpacked() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    copy_directory(&fixture(), directory.path());
    directory
}

fn fill(store: &Arc<TestStore>, directory: &Path) {
    store
        .create_storage(OTHER, &directory.join("other"))
        .expect("a storage");
    for (table, storage) in [(HERE, StorageId::DEFAULT), (THERE, OTHER)] {
        create(store, table);
        let options = SegmentOptions {
            storage,
            ..segment_options()
        };
        for id in 0..3 {
            insert(store, table, id, "cold").expect("commits");
        }
        let moved = store.flush(table, &schema(), &options, &Meanwhile(|_, _| {}));
        moved.expect("flushes");
    }
}

#[test]
#[ignore = "writes the fixture anew, which is for a format that was not released yet"]
fn write_the_fixture() {
    let (directory, _) = given_up_after(&fill);
    ENDS_AT.set(Some("decided"));
    let opened = Store::open(options(directory.path()), 0, |_, _| Ok::<u64, StoreError>(1));
    ENDS_AT.set(None);
    assert!(opened.is_err(), "it ends when that is decided");
    for entry in fs::read_dir(directory.path().join("rocksdb")).expect("reads") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("LOG") || name.starts_with("OPTIONS-") {
            fs::remove_file(path).expect("removed");
        }
    }
    let fixture = fixture();
    if fixture.exists() {
        fs::remove_dir_all(&fixture).expect("removed");
    }
    fs::create_dir_all(&fixture).expect("created");
    copy_directory(directory.path(), &fixture);
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_word(word: &str) -> bool {
    word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The fixture has what it is there for, as `docs/format.md` draws it.
#[test]
fn every_form_is_in_it() {
    let directory = fixture();
    for (storage, place) in [(StorageId::DEFAULT, "segments"), (OTHER, "other")] {
        let word = text(&directory.join(place).join(file_name(storage)));
        assert!(word.strip_suffix('\n').is_some_and(is_word), "{word}");
    }
    let damaged = text(&directory.join("damaged-files"));
    let file = damaged.strip_suffix(".sst\n").expect("one name");
    assert!(file.bytes().all(|byte| byte.is_ascii_digit()), "{damaged}");
    assert!(directory.join("rocksdb").join(format!("{file}.sst")).is_file());
    let rebuilt = text(&directory.join("rebuilt-rows"));
    let checksum = rebuilt.strip_prefix("hot ").expect("one family");
    assert!(is_word(checksum), "{rebuilt}");
    let table = fs::read(directory.join("rebuilt-hot.sst")).expect("reads");
    assert_eq!(checksum, format!("{:016x}", twox_hash::XxHash3_64::oneshot(&table)));
}

#[test]
fn it_opens_and_every_row_is_there_and_the_damaged_file_is_not() {
    for is_checked in [false, true] {
        let directory = unpacked();
        let path = directory.path();
        if is_checked {
            // As a start leaves it that read the table, and no more.
            fs::rename(path.join("rebuilt-rows"), path.join("rebuilt-rows.checked")).expect("renamed");
        }
        let damaged = text(&path.join("damaged-files"));
        for _ in 0..2 {
            let store = open(path);
            store.add_storage(OTHER, &path.join("other")).expect("it is its own");
            for gone in [
                "damaged-files",
                "rebuilt-rows",
                "rebuilt-rows.checked",
                "rebuilt-hot.sst",
            ] {
                assert!(!path.join(gone).exists(), "{gone}");
            }
            assert!(!path.join("rocksdb").join(damaged.trim_end()).exists());
            assert_eq!(files_of_rows(&store), 1, "it is made of one table");
            assert_eq!(rows_of_others(&store), 4 * 7);
            for table in [HERE, THERE] {
                assert_eq!(ids(&store, table), [0, 1, 2]);
            }
            for (storage, place) in [(StorageId::DEFAULT, "segments"), (OTHER, "other")] {
                let word = text(&path.join(place).join(file_name(storage)));
                let known = records(&store, "storage-used/");
                assert!(known.iter().any(|known| known.contains(word.trim_end())), "{known:?}");
            }
        }
    }
}

/// Whoever used a storage of it since is found out.
#[test]
fn the_words_in_it_are_compared() {
    let directory = unpacked();
    let other = directory.path().join("other");
    fs::write(other.join(file_name(OTHER)), "0123456789abcdef\n").expect("written");
    let store = open(directory.path());
    let added = store.add_storage(OTHER, &other);
    assert!(matches!(&added, Err(StoreError::Away { .. })), "{added:?}");
    assert_eq!(segment_files(directory.path()).len(), 1);
    assert_eq!(ids(&store, HERE), [0, 1, 2]);
}
