//! No damage of a file goes unnoticed, and none makes a reader panic.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use arrow::array::{Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::Progress;
use crate::segment::index::{BLOCK_BYTES, Index, IndexBuilder};

fn schema() -> Arc<StoreSchema> {
    schema_of(&[DataType::Int64, DataType::Utf8], vec![0])
}

fn small(place: &Place) -> SegmentEntry {
    let part = |ids: Range<i64>| -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(StringArray::from_iter_values(ids.map(|id| format!("text {id}")))),
        ]
    };
    place.write(&schema(), PLAIN, &[(1, part(0..20)), (2, part(5..30))])
}

/// Opens, reads everything and looks up a key.
fn use_it(place: &Place, entry: &SegmentEntry) -> Result<Vec<ArrayRef>, StoreError> {
    let file = Arc::new(SegmentFile::open(&place.files, entry, &schema())?);
    file.find(ScopeId(1), &[&crate::testing::key(7)])?;
    let columns = [SegmentColumn::Column(0), SegmentColumn::Column(1), SegmentColumn::Key];
    Ok(read(&file, &columns, vec![0..entry.rows], 1000)?.1)
}

fn verify(place: &Place, entry: &SegmentEntry) -> Result<u64, StoreError> {
    SegmentFile::open(&place.files, entry, &schema())?.verify(&Quiet)
}

fn assert_named(error: StoreError, expected: &str) {
    let StoreError::Corrupt { object, problem } = error else {
        panic!("{error} is not named damage");
    };
    assert!(
        object.starts_with("segment 12 (") && object.ends_with("7/12-ab.parquet)"),
        "{object}"
    );
    assert!(problem.contains(expected), "{problem}");
}

#[test]
fn every_flipped_byte_is_found() {
    let place = Place::new();
    let entry = small(&place);
    let path = place.directory.path().join(PATH);
    let whole = use_it(&place, &entry).expect("reads");
    let bytes = fs::read(&path).expect("a file");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    for (position, &byte) in bytes.iter().enumerate() {
        let flip = 1 << (position % 8);
        file.write_all_at(&[byte ^ flip], position as u64).expect("written");
        // What is read lies in the one block that the file has, so that reading finds it as well as verifying.
        assert_named(use_it(&place, &entry).expect_err("damaged"), "checksum");
        assert_named(verify(&place, &entry).expect_err("damaged"), "checksum");
        file.write_all_at(&[byte], position as u64).expect("written");
    }
    assert_eq!(use_it(&place, &entry).expect("reads"), whole);
    assert_eq!(verify(&place, &entry).expect("is whole"), entry.size_bytes);
}

#[test]
fn damage_in_one_of_many_blocks_is_found() {
    let place = Place::new();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..5000)),
        Arc::new(StringArray::from_iter_values(
            (0..5000u64).map(|id| format!("{:x}", (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
        )),
    ];
    let entry = place.write(&schema(), PLAIN, &[(1, columns.clone())]);
    assert!(entry.tail_offset > 3 * BLOCK_BYTES, "{}", entry.tail_offset);
    let path = place.directory.path().join(PATH);
    let bytes = fs::read(&path).expect("a file");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    let open = place.open(&schema(), &entry);
    for position in (0..entry.tail_offset)
        .step_by(611)
        .chain([BLOCK_BYTES - 1, BLOCK_BYTES, entry.tail_offset - 1])
    {
        let byte = bytes[position as usize];
        file.write_all_at(&[byte ^ 0x10], position).expect("written");
        assert_named(open.verify(&Quiet).expect_err("damaged"), "checksum");
        let both = [SegmentColumn::Column(0), SegmentColumn::Column(1)];
        assert_named(
            read(&open, &both, vec![0..5000], 1000).expect_err("damaged"),
            "checksum",
        );
        // What does not need the block is as it was.
        if let Ok((_, read)) = read(&open, &both, vec![10..11], 1000) {
            assert_eq!(read, [columns[0].slice(10, 1), columns[1].slice(10, 1)]);
        }
        file.write_all_at(&[byte], position).expect("written");
    }
    assert_eq!(open.verify(&Quiet).expect("is whole"), entry.size_bytes);
}

#[test]
fn files_that_are_cut_longer_or_gone_say_so() {
    let place = Place::new();
    let entry = small(&place);
    let path = place.directory.path().join(PATH);
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    for size in [entry.size_bytes + 1, entry.size_bytes - 1, entry.tail_offset, 4, 0] {
        file.set_len(size).expect("cut");
        assert_named(use_it(&place, &entry).expect_err("cut"), "bytes where");
    }
    fs::remove_file(&path).expect("removed");
    assert_named(use_it(&place, &entry).expect_err("gone"), "missing");

    // While it is open.
    let place = Place::new();
    let entry = small(&place);
    let path = place.directory.path().join(PATH);
    let open = place.open(&schema(), &entry);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("a file")
        .set_len(100)
        .expect("cut");
    let columns = [SegmentColumn::Column(0)];
    assert_named(read(&open, &columns, vec![0..5], 10).expect_err("cut"), "ends early");
    assert_named(open.verify(&Quiet).expect_err("cut"), "ends early");
    fs::remove_file(&path).expect("removed");
    assert_named(read(&open, &columns, vec![0..5], 10).expect_err("gone"), "missing");
}

#[test]
fn a_manifest_that_does_not_fit_is_damage() {
    let place = Place::new();
    let entry = small(&place);
    let open = |entry: &SegmentEntry, schema: Arc<StoreSchema>| SegmentFile::open(&place.files, entry, &schema);
    let more = schema_of(&[DataType::Int64, DataType::Utf8, DataType::Int32], vec![0]);
    assert_named(open(&entry, more).expect_err("a column too many"), "other columns");
    let other = schema_of(&[DataType::Int64, DataType::Int32], vec![0]);
    assert_named(open(&entry, other).expect_err("another type"), "mismatch");
    let keyless = schema_of(&[DataType::Int64, DataType::Utf8], vec![]);
    assert_named(open(&entry, keyless).expect_err("no key"), "other columns");
    let mut wrong = entry.clone();
    wrong.rows += 1;
    assert_named(open(&wrong, schema()).expect_err("other rows"), "disagree");
    let mut wrong = entry.clone();
    wrong.tail_offset += 1;
    assert_named(open(&wrong, schema()).expect_err("another tail"), "checksum");
    let mut wrong = entry.clone();
    wrong.storage = StorageId(5);
    assert!(matches!(open(&wrong, schema()), Err(StoreError::Storage(text)) if text.contains("storage 5")));
}

#[test]
fn rows_that_are_not_there_cannot_be_read() {
    let place = Place::new();
    let entry = small(&place);
    let file = place.open(&schema(), &entry);
    for rows in [vec![0..46], vec![3..3], vec![4..6, 5..7], vec![4..6, 1..2]] {
        let refused = file.read(&[], rows, 10);
        assert!(matches!(refused, Err(StoreError::Unsupported(_))));
    }
}

#[test]
fn verifying_stops_when_told() {
    struct Stop;
    impl Progress for Stop {
        fn expect(&self, _rows: u64) {}

        fn advance(&self, _rows: u64, _bytes: u64) {}

        fn cancelled(&self) -> bool {
            true
        }
    }
    let place = Place::new();
    let entry = small(&place);
    assert!(matches!(
        place.open(&schema(), &entry).verify(&Stop),
        Err(StoreError::Cancelled)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_an_index_or_an_error(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..4), cut in any::<u16>()) {
        let mut builder = IndexBuilder::new(true);
        let keys: Vec<Vec<u8>> = (0..1500u16).map(|id| id.to_be_bytes().to_vec()).collect();
        builder.add(ScopeId(1), 1500, Some(keys.iter().map(Vec::as_slice)));
        builder.end_group();
        let whole = builder.encode(&[1, 2, 3], &[1]);
        let (index, length) = Index::decode(&whole).expect("as it was written");
        prop_assert_eq!((index.rows, length, index.checksums.len()), (1500, whole.len(), 3));
        let mut bytes = whole.clone();
        for (position, value) in changes {
            let position = usize::from(position) % 200.min(bytes.len());
            bytes[position] = value;
        }
        bytes.truncate(bytes.len() - usize::from(cut) % 64 * usize::from(cut % 3 == 0));
        // It does not panic, and neither does what decodes.
        if let Ok((index, _)) = Index::decode(&bytes) {
            index.scopes().for_each(drop);
            index.groups().for_each(drop);
            if let Some(block) = index.block_of(&[255; 9]) {
                index.block_rows(block);
                index.may_have(0, index.block_key(block));
            }
        }
    }
}
