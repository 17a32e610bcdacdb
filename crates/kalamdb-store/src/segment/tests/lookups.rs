//! Rows are found and read as a plain sorted map would find them.

use std::collections::BTreeMap;
use std::ops::Bound;

use arrow::array::{AsArray, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::KeyEncoder;
use crate::scan::KeyRange;
use crate::segment::SegmentColumn as Column;
use crate::segment::index::METADATA_KEY;
use crate::testing::files_under;
use crate::tuning::{KEY_BLOCK_ROWS, PAGE_ROWS, ROW_GROUP_ROWS};

/// Columns are (number, payload, text), and the key is (text, number).
fn composite() -> Arc<StoreSchema> {
    schema_of(&[DataType::Int32, DataType::Int64, DataType::Utf8], vec![2, 0])
}

/// Scopes with their rows: key to payload.
type Model = BTreeMap<u64, BTreeMap<(String, i32), i64>>;

fn columns(rows: &BTreeMap<(String, i32), i64>) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int32Array::from_iter_values(rows.keys().map(|(_, number)| *number))),
        Arc::new(Int64Array::from_iter_values(rows.values().copied())),
        Arc::new(StringArray::from_iter_values(rows.keys().map(|(text, _)| text))),
    ]
}

/// An encoded key, or only its first column.
fn encode(text: &str, number: Option<i32>) -> Vec<u8> {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![text]))];
    columns.extend(number.map(|number| Arc::new(Int32Array::from(vec![number])) as ArrayRef));
    let mut key = Vec::new();
    KeyEncoder::new(&composite())
        .expect("key types")
        .encode(&columns, 0, &mut key)
        .expect("encodes");
    key
}

fn key() -> impl Strategy<Value = (String, i32)> {
    ("[a-d\0]{0,2}", -300..300i32)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    (key(), any::<bool>(), 0..5).prop_map(|((text, number), whole, kind)| {
        let encoded = encode(&text, whole.then_some(number));
        match kind {
            0 | 1 => Bound::Included(encoded),
            2 | 3 => Bound::Excluded(encoded),
            _ => Bound::Unbounded,
        }
    })
}

type Ends = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Whether a key is in a range whose ends may be prefixes.
fn in_range(key: &[u8], range: &KeyRange) -> bool {
    let after = match &range.start {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice() && !key.starts_with(start),
    };
    let before = match &range.end {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end.as_slice() || key.starts_with(end),
        Bound::Excluded(end) => key < end.as_slice(),
    };
    after && before
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rows_are_where_a_sorted_map_has_them(
        model in prop::collection::btree_map(
            prop_oneof![0..4u64, Just(u64::MAX)],
            prop::collection::btree_map(key(), any::<i64>(), 1..3000),
            1..5,
        ),
        wanted in prop::collection::btree_set(key(), 1..200),
        ranges in prop::collection::vec((bound(), bound()), 60),
        cuts in prop::collection::btree_set(0..10_000u32, 2..40),
        batch_rows in 1..3000usize,
    ) {
        check_model(&model, &wanted.into_iter().collect::<Vec<_>>(), ranges, &cuts.into_iter().collect::<Vec<_>>(), batch_rows);
    }
}

fn check_model(model: &Model, wanted: &[(String, i32)], ranges: Vec<Ends>, cuts: &[u32], batch_rows: usize) {
    let place = Place::new();
    let schema = composite();
    let scopes: Vec<_> = model.iter().map(|(scope, rows)| (*scope, columns(rows))).collect();
    let entry = place.write(&schema, PLAIN, &scopes);
    let file = place.open(&schema, &entry);

    let mut starts = Vec::new();
    let mut next = 0;
    for (scope, rows) in model {
        let end = next + u32::try_from(rows.len()).expect("few rows");
        starts.push((ScopeId(*scope), next..end));
        next = end;
    }
    assert_eq!(file.rows(), next);
    assert_eq!(file.scopes().collect::<Vec<_>>(), starts);
    assert_eq!(file.scope_rows(ScopeId(77)), 0..0);

    let mut wanted: Vec<Vec<u8>> = wanted
        .iter()
        .map(|(text, number)| encode(text, Some(*number)))
        .collect();
    wanted.sort();
    let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
    let mut all_keys = Vec::new();
    for (scope, rows) in &starts {
        let keys: Vec<Vec<u8>> = model[&scope.0]
            .keys()
            .map(|(text, number)| encode(text, Some(*number)))
            .collect();
        let row_of = |key: &[u8]| {
            let position = keys.binary_search_by(|probe| probe.as_slice().cmp(key)).ok();
            position.map(|position| rows.start + u32::try_from(position).expect("few rows"))
        };
        assert_eq!(file.scope_rows(*scope), *rows);
        let expected: Vec<_> = wanted.iter().map(|key| row_of(key)).collect();
        assert_eq!(file.find(*scope, &wanted).expect("finds"), expected);
        let every: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        assert_eq!(
            file.find(*scope, &every).expect("finds"),
            rows.clone().map(Some).collect::<Vec<_>>()
        );
        for (start, end) in &ranges {
            let range = KeyRange {
                start: start.clone(),
                end: end.clone(),
            };
            let found = file.rows_in(*scope, &range).expect("finds");
            let expected: Vec<u32> = rows
                .clone()
                .zip(&keys)
                .filter(|(_, key)| in_range(key, &range))
                .map(|(row, _)| row)
                .collect();
            assert_eq!(found.clone().collect::<Vec<_>>(), expected, "{range:?}");
            assert!(found.start >= rows.start && found.end <= rows.end);
            let about = file.rows_about(*scope, &range);
            let rows = u32::try_from(expected.len()).expect("few");
            assert!(about.contains(&rows), "{rows} of {about:?}: {range:?}");
        }
        all_keys.extend(keys);
    }
    assert_eq!(
        file.find(ScopeId(77), &wanted).expect("finds"),
        vec![None; wanted.len()]
    );

    // Ranges between every second pair of cuts.
    let rows: Vec<Range<u32>> = cuts
        .chunks_exact(2)
        .map(|pair| pair[0].min(next)..pair[1].min(next))
        .filter(|range| !range.is_empty())
        .collect();
    let (numbers, read) = read_or_none(&file, &[Column::Key, Column::Column(1)], rows.clone(), batch_rows);
    let expected: Vec<u32> = rows.into_iter().flatten().collect();
    assert_eq!(numbers, expected);
    if let [keys, payloads] = read.as_slice() {
        let every: Vec<i64> = model.values().flat_map(BTreeMap::values).copied().collect();
        for (position, row) in expected.iter().enumerate() {
            assert_eq!(keys.as_binary::<i32>().value(position), all_keys[*row as usize]);
            assert_eq!(
                payloads.as_primitive::<Int64Type>().value(position),
                every[*row as usize]
            );
        }
    }
}

fn read_or_none(
    file: &Arc<SegmentFile>,
    columns: &[Column],
    rows: Vec<Range<u32>>,
    batch_rows: usize,
) -> (Vec<u32>, Vec<ArrayRef>) {
    match rows.is_empty() {
        true => {
            assert!(
                file.read(columns, rows, batch_rows)
                    .expect("reads")
                    .next()
                    .expect("ends")
                    .is_none()
            );
            (Vec::new(), Vec::new())
        }
        false => read(file, columns, rows, batch_rows).expect("reads"),
    }
}

fn int_key(id: i64) -> Vec<u8> {
    crate::testing::key(id)
}

/// Even ids, one scope and a half per row group.
fn large(place: &Place) -> (Arc<StoreSchema>, SegmentEntry, i64) {
    let schema = schema_of(&[DataType::Int64, DataType::Utf8], vec![0]);
    let rows = (2 * ROW_GROUP_ROWS + 5000) as i64;
    let mut writer = place.writer(&schema, PLAIN);
    for (scope, ids) in [(3, 0..rows / 3), (4, rows / 3..rows)] {
        // In odd pieces, small and large.
        let (mut start, mut size) = (ids.start, 1);
        while start < ids.end {
            let end = (start + size).min(ids.end);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values((start..end).map(|id| 2 * id))),
                Arc::new(StringArray::from_iter_values(
                    (start..end).map(|id| format!("text {}", id % 1000)),
                )),
            ];
            let keys = keys_of(&schema, PLAIN, &columns);
            writer.write(ScopeId(scope), keys.as_ref(), &columns).expect("written");
            assert_eq!(i64::from(writer.rows()), end);
            (start, size) = (end, size * 3 % 100_003);
        }
    }
    (schema, entry(writer.finish().expect("finished"), PLAIN), rows)
}

#[test]
fn several_row_groups_are_one_file() {
    let place = Place::new();
    let (schema, entry, rows) = large(&place);
    let file = place.open(&schema, &entry);
    let end = u32::try_from(rows).expect("few rows");
    let group = ROW_GROUP_ROWS as u32;
    assert_eq!(file.row_groups(), [0..group, group..2 * group, 2 * group..end]);
    let split = end / 3;
    assert_eq!(
        file.scopes().collect::<Vec<_>>(),
        [(ScopeId(3), 0..split), (ScopeId(4), split..end)]
    );
    assert!(file.memory_bytes() > 0);

    // Around blocks, pages, row groups and the ends of scopes.
    let block = KEY_BLOCK_ROWS as u32;
    for row in [
        0,
        1,
        block - 1,
        block,
        group - 1,
        group,
        group + 1,
        split - 1,
        split,
        2 * group,
        end - 1,
    ] {
        let (scope, other) = if row < split {
            (ScopeId(3), ScopeId(4))
        } else {
            (ScopeId(4), ScopeId(3))
        };
        let (key, absent) = (int_key(2 * i64::from(row)), int_key(2 * i64::from(row) + 1));
        assert_eq!(file.find(scope, &[&key, &absent]).expect("finds"), [Some(row), None]);
        assert_eq!(file.find(other, &[&key]).expect("finds"), [None]);
        let range = KeyRange {
            start: Bound::Included(key.clone()),
            end: Bound::Excluded(absent.clone()),
        };
        assert_eq!(file.rows_in(scope, &range).expect("finds"), row..row + 1);
        let range = KeyRange {
            start: Bound::Excluded(key),
            end: Bound::Included(absent),
        };
        assert!(file.rows_in(scope, &range).expect("finds").is_empty());
    }

    let (numbers, columns) = read(&file, &[Column::Column(0)], vec![0..end], 8192).expect("reads");
    assert!(numbers.into_iter().eq(0..end));
    assert!(
        columns[0]
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .copied()
            .eq((0..rows).map(|id| 2 * id))
    );
    assert_eq!(file.verify(&Quiet).expect("is whole"), entry.size_bytes);

    let bounds = file.bounds(0).expect("an integer has bounds");
    assert_eq!(bounds.row_groups.rows, file.row_groups());
    let last = [group - 1, 2 * group - 1, end - 1].map(|row| 2 * i64::from(row));
    assert_eq!(bounds.row_groups.max.as_primitive::<Int64Type>().values(), &last);
    for (page, rows) in bounds.pages.rows.iter().enumerate() {
        assert_eq!(
            rows.start as usize % PAGE_ROWS,
            0,
            "pages of all columns start at the same rows"
        );
        assert!(rows.len() <= PAGE_ROWS);
        assert_eq!(
            bounds.pages.min.as_primitive::<Int64Type>().value(page),
            2 * i64::from(rows.start)
        );
    }
}

#[test]
fn filters_know_every_key_and_few_others() {
    let place = Place::new();
    let (schema, entry, rows) = large(&place);
    let file = place.open(&schema, &entry);
    let mut false_positives = 0;
    for row in 0..u32::try_from(rows).expect("few rows") {
        let scope = if file.scope_rows(ScopeId(3)).contains(&row) {
            3u64
        } else {
            4
        };
        let whole = |id: i64| [&scope.to_be_bytes()[..], &int_key(id)].concat();
        let group = file.index.group_of(row);
        assert!(file.index.may_have(group, &whole(2 * i64::from(row))));
        assert!(file.index.may_have(group, &scope.to_be_bytes()));
        false_positives += i64::from(file.index.may_have(group, &whole(2 * i64::from(row) + 1)));
    }
    assert!(
        !file.index.may_have(2, &3u64.to_be_bytes()),
        "the third row group has no rows of scope 3"
    );
    assert!(false_positives * 50 < rows, "{false_positives} of {rows}");
}

#[test]
fn any_parquet_reader_opens_a_segment() {
    let place = Place::new();
    let (_, entry, rows) = large(&place);
    let file = std::fs::File::open(place.directory.path().join(PATH)).expect("a file");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("opens");
    let metadata = builder.metadata().file_metadata().clone();
    assert_eq!(metadata.num_rows(), rows);
    let pairs = metadata.key_value_metadata().expect("metadata").clone();
    let place = pairs
        .iter()
        .find(|pair| pair.key == METADATA_KEY)
        .and_then(|pair| pair.value.clone());
    assert!(
        place
            .expect("where the index is")
            .starts_with(&format!("{} ", entry.tail_offset))
    );
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(names, ["c1", "c2"]);
    let read: usize = builder
        .build()
        .expect("reads")
        .map(|batch| batch.expect("a batch").num_rows())
        .sum();
    assert_eq!(read as i64, rows);
}

#[test]
fn rows_without_a_key_have_their_id_once_they_moved() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Utf8], vec![]);
    let shape = SegmentShape {
        row_ids: true,
        seqs: true,
    };
    let ids: Vec<u64> = (0..3000).map(|row| row * row + 5).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(ids.iter().map(u64::to_string))),
        Arc::new(UInt64Array::from(ids.clone())),
        Arc::new(UInt64Array::from_iter_values(ids.iter().map(|id| u64::MAX - id))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| *id as i64)).with_timezone("UTC")),
    ];
    let entry = place.write(&schema, shape, &[(9, columns.clone())]);
    let file = place.open(&schema, &entry);
    let key = |id: u64| id.to_be_bytes();
    let found = file
        .find(ScopeId(9), &[&key(4), &key(5), &key(6), &key(9), &key(ids[2999])])
        .expect("finds");
    assert_eq!(found, [None, Some(0), Some(1), Some(2), Some(2999)]);
    let range = KeyRange {
        start: Bound::Excluded(key(ids[1500]).to_vec()),
        end: Bound::Unbounded,
    };
    assert_eq!(file.rows_in(ScopeId(9), &range).expect("finds"), 1501..3000);
    let all = [Column::Column(0), Column::RowId, Column::Seq, Column::Updated];
    assert_eq!(read(&file, &all, vec![0..3000], 5000).expect("reads").1, columns);
    let (_, read) = read(&file, &[Column::Seq, Column::Key, Column::Seq], vec![7..8], 10).expect("reads");
    assert_eq!(read[0].as_primitive::<UInt64Type>().value(0), u64::MAX - ids[7]);
    assert_eq!(read[1].as_binary::<i32>().value(0), key(ids[7]));
    assert_eq!(&read[0], &read[2]);
}

#[test]
fn bulk_rows_without_a_key_are_found_by_scope_only() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Int64], vec![]);
    let part = |values: Vec<i64>| vec![Arc::new(Int64Array::from(values)) as ArrayRef];
    let entry = place.write(
        &schema,
        PLAIN,
        &[(1, part(vec![5, 1])), (1, part(vec![3])), (2, part(vec![1, 5]))],
    );
    assert_eq!(
        (entry.min_key.clone(), entry.max_key.clone()),
        (1u64.to_be_bytes().to_vec(), 2u64.to_be_bytes().to_vec())
    );
    let file = place.open(&schema, &entry);
    assert_eq!(
        file.scopes().collect::<Vec<_>>(),
        [(ScopeId(1), 0..3), (ScopeId(2), 3..5)]
    );
    let whole = KeyRange {
        start: Bound::Included(vec![1]),
        end: Bound::Unbounded,
    };
    assert!(matches!(
        file.rows_in(ScopeId(1), &whole),
        Err(StoreError::Unsupported(_))
    ));
    assert!(matches!(
        file.find(ScopeId(1), &[&[1]]),
        Err(StoreError::Unsupported(_))
    ));
    assert!(matches!(
        file.read(&[Column::Key], vec![0..1], 10),
        Err(StoreError::Unsupported(_))
    ));
    for column in [Column::RowId, Column::Seq, Column::Updated, Column::Column(1)] {
        assert!(
            matches!(file.read(&[column], vec![0..1], 10), Err(StoreError::Corrupt { .. })),
            "{column:?}"
        );
    }
    assert!(file.index.may_have(0, &1u64.to_be_bytes()) && !file.index.may_have(0, &3u64.to_be_bytes()));
}

#[test]
fn counting_rows_does_not_touch_the_file() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Int64], vec![]);
    let entry = place.write(
        &schema,
        PLAIN,
        &[(1, vec![Arc::new(Int64Array::from_iter_values(0..10))])],
    );
    let file = place.open(&schema, &entry);
    place.files.delete(StorageId::DEFAULT, PATH).expect("deleted");
    let mut read = file.read(&[], vec![0..3, 3..4, 7..9], 5).expect("reads");
    let mut next = || read.next().expect("counts");
    assert_eq!(next(), Some((RowNumbers::List(vec![0, 1, 2, 3, 7]), vec![], 5)));
    assert_eq!(next(), Some((RowNumbers::Range(8..9), vec![], 1)));
    assert_eq!(next(), None);
    assert_eq!(RowNumbers::List(vec![4, 9]).iter().collect::<Vec<_>>(), [4, 9]);
    assert_eq!(RowNumbers::Range(4..6).iter().collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn every_codec_gives_back_what_it_got() {
    for compression in [
        SegmentCompression::Lz4,
        SegmentCompression::Zstd,
        SegmentCompression::Snappy,
        SegmentCompression::None,
    ] {
        let place = Place::new();
        let schema = schema_of(&[DataType::Utf8], vec![0]);
        let mut writer = SegmentWriter::create(
            &place.files,
            StorageId::DEFAULT,
            PATH,
            schema.clone(),
            PLAIN,
            compression,
        )
        .expect("a writer");
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(
            (0..5000).map(|row| format!("a row like any other {row:05}")),
        ))];
        writer
            .write(ScopeId(1), keys_of(&schema, PLAIN, &columns).as_ref(), &columns)
            .expect("written");
        let file = place.open(&schema, &entry(writer.finish().expect("finished"), PLAIN));
        assert_eq!(
            read(&file, &[Column::Column(0)], vec![0..5000], 700).expect("reads").1,
            columns,
            "{compression:?}"
        );
    }
}

#[test]
fn only_values_that_repeat_get_a_dictionary() {
    let place = Place::new();
    let schema = schema_of(
        &[DataType::Int64, DataType::Int64, DataType::Utf8, DataType::Utf8],
        vec![0],
    );
    let ids = || Int64Array::from_iter_values(0..3000);
    let text = |of: i64| {
        Arc::new(StringArray::from_iter_values(
            (0..3000).map(|row| (row % of).to_string()),
        )) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![Arc::new(ids()), Arc::new(ids()), text(3000), text(1000)];
    let file = place.open(&schema, &place.write(&schema, PLAIN, &[(1, columns)]));
    let group = file.metadata.metadata().row_group(0);
    let dictionaries: Vec<bool> = group
        .columns()
        .iter()
        .map(|column| column.dictionary_page_offset().is_some())
        .collect();
    assert_eq!(dictionaries, [false, false, false, true]);
}

#[test]
fn pages_of_long_rows_have_few_rows() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Int64, DataType::Utf8], vec![0]);
    let long = "x".repeat(40_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..200)),
        Arc::new(StringArray::from_iter_values(
            (0..200).map(|row| format!("{row}{long}")),
        )),
    ];
    let entry = place.write(&schema, PLAIN, &[(1, columns.clone())]);
    let file = place.open(&schema, &entry);
    let bounds = file.bounds(1).expect("text has bounds");
    assert!(
        bounds.pages.rows.iter().all(|rows| rows.len() <= 8),
        "{:?}",
        bounds.pages.rows
    );
    assert_eq!(
        read(&file, &[Column::Column(1)], vec![150..151], 10).expect("reads").1,
        [columns[1].slice(150, 1)]
    );
}

#[test]
fn a_writer_refuses_what_is_not_in_order_or_does_not_fit() {
    let schema = schema_of(&[DataType::Int64], vec![0]);
    let ids = |ids: &[i64]| vec![Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef];
    for (first, second) in [
        ((1, vec![1, 2]), (1, vec![2, 3])),
        ((1, vec![1, 5]), (1, vec![3])),
        ((2, vec![1]), (1, vec![2])),
        ((1, vec![1]), (1, vec![3, 2])),
        ((1, vec![1]), (1, vec![3, 3])),
    ] {
        let place = Place::new();
        let mut writer = place.writer(&schema, PLAIN);
        let mut write = |(scope, rows): (u64, Vec<i64>)| {
            let columns = ids(&rows);
            writer.write(ScopeId(scope), keys_of(&schema, PLAIN, &columns).as_ref(), &columns)
        };
        write(first).expect("in order");
        let refused = write(second).expect_err("not in order");
        assert!(
            matches!(&refused, StoreError::Storage(text) if text.contains("order")),
            "{refused}"
        );
    }
    let place = Place::new();
    let mut writer = place.writer(&schema, PLAIN);
    let columns = ids(&[1, 2]);
    let keys = keys_of(&schema, PLAIN, &columns).expect("keys");
    let text: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b"]))];
    for (keys, columns) in [
        (None, &columns),
        (Some(&keys), &text),
        (Some(&keys), &vec![]),
        (Some(&keys.slice(0, 1)), &columns),
    ] {
        assert!(matches!(
            writer.write(ScopeId(1), keys, columns),
            Err(StoreError::Unsupported(_))
        ));
    }
    assert_eq!(writer.rows(), 0);
    assert!(matches!(writer.finish(), Err(StoreError::Unsupported(text)) if text.contains("without rows")));
    assert_eq!(files_under(place.directory.path()), [] as [std::path::PathBuf; 0]);
}

#[test]
fn digits_that_a_decimal_cannot_have_are_refused_not_cut() {
    use arrow::array::Decimal128Array;
    let place = Place::new();
    let schema = schema_of(&[DataType::Decimal128(5, 2)], vec![]);
    let mut writer = place.writer(&schema, PLAIN);
    let values = Decimal128Array::from(vec![1_000_000])
        .with_precision_and_scale(5, 2)
        .expect("not looked at");
    let refused = writer
        .write(ScopeId(1), None, &[Arc::new(values)])
        .expect_err("too many digits");
    assert!(matches!(refused, StoreError::Unsupported(text) if text.contains("digits")));
}

#[test]
fn a_writer_that_is_dropped_leaves_no_file() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Int64], vec![]);
    let mut writer = place.writer(&schema, PLAIN);
    // Enough for a row group to be written out.
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..200_000))];
    writer.write(ScopeId(1), None, &columns).expect("written");
    assert!(!files_under(place.directory.path()).is_empty());
    drop(writer);
    assert_eq!(files_under(place.directory.path()), [] as [std::path::PathBuf; 0]);
}
