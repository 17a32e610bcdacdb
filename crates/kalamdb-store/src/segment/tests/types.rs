//! Every type that a row can have comes back bit for bit.

use std::slice;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BinaryArray, BooleanArray, Decimal32Array, Decimal64Array, Decimal128Array,
    Decimal256Array, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, LargeBinaryArray, LargeListArray, LargeStringArray,
    ListArray, MapArray, NullArray, StringArray, StructArray, UInt32Array, UInt64Array, make_array, make_comparator,
    new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields, IntervalDayTime, IntervalMonthDayNano, IntervalUnit, TimeUnit, i256};

use super::*;
use crate::RowEncoder;
use crate::segment::Bounds;
use crate::segment::form::Form;

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

fn numbers(data_type: DataType, values: &[Option<i64>]) -> ArrayRef {
    let width = data_type.primitive_width().expect("a number");
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.unwrap_or(0).to_le_bytes()[..width].to_vec())
        .collect();
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
    let data = ArrayData::builder(data_type)
        .len(values.len())
        .add_buffer(Buffer::from_vec(bytes))
        .nulls(Some(nulls))
        .align_buffers(true)
        .build()
        .expect("numbers");
    make_array(data)
}

fn list(child: ArrayRef, lengths: &[Option<usize>]) -> ArrayRef {
    let nulls: NullBuffer = lengths.iter().map(Option::is_some).collect();
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or(0)));
    let field = item(child.data_type().clone());
    let child = child.slice(0, offsets.last().map_or(0, |end| *end as usize));
    Arc::new(ListArray::new(field, offsets, child, Some(nulls)))
}

fn structs(children: Vec<ArrayRef>, nulls: &[bool]) -> ArrayRef {
    let fields: Fields = children
        .iter()
        .enumerate()
        .map(|(at, child)| Field::new(format!("f{at}"), child.data_type().clone(), true))
        .collect();
    let nulls = Some(NullBuffer::from(nulls.to_vec()));
    Arc::new(
        StructArray::try_new_with_length(fields, children, nulls.clone(), nulls.map_or(0, |nulls| nulls.len()))
            .expect("structs"),
    )
}

fn maps(keys: ArrayRef, values: ArrayRef, names: [&str; 3], sorted: bool) -> ArrayRef {
    let fields = Fields::from(vec![
        Field::new(names[1], keys.data_type().clone(), false),
        Field::new(names[2], values.data_type().clone(), true),
    ]);
    let entries = StructArray::new(fields.clone(), vec![keys, values], None);
    let field = Arc::new(Field::new(names[0], DataType::Struct(fields), false));
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    Arc::new(MapArray::new(
        field,
        OffsetBuffer::from_lengths([2, 0, 0, 2]),
        entries,
        Some(nulls),
        sorted,
    ))
}

/// Arrays of a few rows with the values that are most likely to be lost, and how their type is kept.
fn samples() -> Vec<(ArrayRef, Form)> {
    let mut all: Vec<(ArrayRef, Form)> = Vec::new();
    let mut same = |array: ArrayRef| all.push((array, Form::Same));
    same(Arc::new(NullArray::new(4)));
    same(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
    let extremes = |bits: u32| {
        [
            Some(i64::MIN >> (64 - bits)),
            None,
            Some(-1),
            Some(0),
            Some(i64::MAX >> (64 - bits)),
        ]
    };
    for (bits, data_type) in [
        (8, DataType::Int8),
        (16, DataType::Int16),
        (32, DataType::Int32),
        (64, DataType::Int64),
        (8, DataType::UInt8),
        (16, DataType::UInt16),
        (32, DataType::UInt32),
        (64, DataType::UInt64),
        (32, DataType::Date32),
        (64, DataType::Date64),
        (32, DataType::Time32(TimeUnit::Second)),
        (32, DataType::Time32(TimeUnit::Millisecond)),
        (64, DataType::Time64(TimeUnit::Microsecond)),
        (64, DataType::Time64(TimeUnit::Nanosecond)),
        (32, DataType::Interval(IntervalUnit::YearMonth)),
    ] {
        same(numbers(data_type, &extremes(bits)));
    }
    same(numbers(
        DataType::Date64,
        &[Some(1), Some(-86_399_999), None, Some(123_456_789)],
    ));
    for unit in [
        TimeUnit::Second,
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ] {
        same(numbers(DataType::Duration(unit), &extremes(64)));
        for zone in [None, Some("UTC"), Some("+02:00"), Some("Europe/Berlin"), Some("")] {
            same(numbers(DataType::Timestamp(unit, zone.map(Into::into)), &extremes(64)));
        }
    }
    same(Arc::new(IntervalDayTimeArray::from(vec![
        Some(IntervalDayTime::new(i32::MIN, i32::MAX)),
        None,
        Some(IntervalDayTime::new(-1, 86_400_001)),
    ])));
    // Two NaNs, -0.0, 0.0 and the least finite number.
    let halves = [Some(0x7E01), Some(0xFE00), None, Some(0x8000), Some(0), Some(0xFBFF)];
    same(numbers(DataType::Float16, &halves));
    same(Arc::new(Float32Array::from(vec![
        Some(f32::from_bits(0x7FC0_0001)),
        Some(f32::from_bits(0xFF80_0001)),
        None,
        Some(-0.0),
        Some(0.0),
        Some(f32::NEG_INFINITY),
        Some(f32::MIN_POSITIVE / 2.0),
    ])));
    same(Arc::new(Float64Array::from(vec![
        Some(f64::from_bits(0x7FF8_0000_0000_0001)),
        Some(f64::from_bits(0xFFF0_0000_0000_0001)),
        None,
        Some(-0.0),
        Some(0.0),
        Some(f64::INFINITY),
        Some(f64::MIN_POSITIVE / 2.0),
    ])));
    let long = "long ".repeat(1000);
    let texts = vec![Some(""), None, Some("é\0\u{10FFFF}"), Some(long.as_str())];
    same(Arc::new(StringArray::from(texts.clone())));
    same(Arc::new(LargeStringArray::from(texts.clone())));
    let bytes = vec![Some(&b""[..]), None, Some(&[0, 255, 128]), Some(long.as_bytes())];
    same(Arc::new(BinaryArray::from(bytes.clone())));
    same(Arc::new(LargeBinaryArray::from(bytes)));
    let fixed = |width: i32, values: &[Option<&[u8]>]| {
        let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.iter().copied(), width);
        Arc::new(array.expect("bytes")) as ArrayRef
    };
    same(fixed(1, &[Some(&[0]), None, Some(&[255])]));
    same(fixed(16, &[Some(&[7; 16]), None, Some(&[0; 16])]));
    let d32 = |values: &[Option<i32>], precision, scale| {
        Arc::new(
            Decimal32Array::from(values.to_vec())
                .with_precision_and_scale(precision, scale)
                .expect("fits"),
        ) as ArrayRef
    };
    let d64 = |values: &[Option<i64>], precision, scale| {
        Arc::new(
            Decimal64Array::from(values.to_vec())
                .with_precision_and_scale(precision, scale)
                .expect("fits"),
        ) as ArrayRef
    };
    let d128 = |values: &[Option<i128>], precision, scale| {
        Arc::new(
            Decimal128Array::from(values.to_vec())
                .with_precision_and_scale(precision, scale)
                .expect("fits"),
        ) as ArrayRef
    };
    let d256 = |values: &[Option<i256>], precision, scale| {
        Arc::new(
            Decimal256Array::from(values.to_vec())
                .with_precision_and_scale(precision, scale)
                .expect("fits"),
        ) as ArrayRef
    };
    same(d32(&[Some(999_999_999), None, Some(-999_999_999), Some(0)], 9, 2));
    same(d32(&[Some(99), None, Some(-99)], 2, 2));
    same(d64(
        &[Some(999_999_999_999_999_999), None, Some(-999_999_999_999_999_999)],
        18,
        18,
    ));
    same(d64(&[Some(9), None, Some(-9)], 1, 1));
    same(d64(&[Some(9_999), None, Some(-9_999)], 4, 1));
    let most = 10i128.pow(38) - 1;
    same(d128(&[Some(most), None, Some(-most), Some(-1)], 38, 10));
    same(d128(&[Some(9), None, Some(-9)], 1, 0));
    same(d128(&[Some(99_999), None, Some(-99_999)], 5, 2));
    same(d128(&[Some(999_999_999_999_999), None, Some(-1)], 15, 2));
    same(d128(&[Some(10i128.pow(19) - 1), None, Some(-1)], 19, 19));
    let most = i256::from_string(&"9".repeat(76)).expect("a number");
    same(d256(
        &[Some(most), None, Some(most.wrapping_neg()), Some(i256::MINUS_ONE)],
        76,
        5,
    ));
    same(d256(&[Some(i256::from(99)), None, Some(i256::from(-99))], 2, 0));
    same(d256(&[Some(i256::from(99)), None, Some(i256::from(-99))], 12, 0));
    same(d256(&[Some(i256::from(99)), None, Some(i256::from(-99))], 30, 0));

    let ints = || Arc::new(Int32Array::from(vec![Some(1), None, Some(-3), Some(4), Some(5)])) as ArrayRef;
    let texts = || Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("d"), Some("é")])) as ArrayRef;
    let lengths = [Some(2), None, Some(0), Some(3)];
    same(list(ints(), &lengths));
    same(list(texts(), &lengths));
    same(list(
        list(ints(), &[Some(2), None, Some(0), Some(1), Some(2)]),
        &lengths,
    ));
    same(list(Arc::new(NullArray::new(5)), &lengths));
    same(list(
        Arc::new(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
            None,
        ])),
        &lengths,
    ));
    // More digits than the types have, for which there is room all the same.
    same(d32(&[Some(i32::MAX), None, Some(i32::MIN)], 2, 0));
    same(d64(&[Some(i64::MAX), None, Some(i64::MIN)], 10, 2));
    same(d128(&[Some(i128::MAX), None, Some(i128::MIN)], 37, 2));
    same(d256(&[Some(i256::MAX), None, Some(i256::MIN)], 75, 2));
    let wide = d128(&[Some(i128::MAX), None, Some(i128::MIN), Some(4), Some(99)], 38, 2);
    same(list(wide, &lengths));
    same(Arc::new(LargeListArray::new(
        item(DataType::Utf8),
        OffsetBuffer::from_lengths([2, 0, 3]),
        texts(),
        Some(NullBuffer::from(vec![true, false, true])),
    )));
    // A null list that has elements all the same.
    same(Arc::new(ListArray::new(
        item(DataType::Int32),
        OffsetBuffer::from_lengths([2, 2, 1]),
        ints(),
        Some(NullBuffer::from(vec![true, false, true])),
    )));
    // Elements that cannot be null.
    same(Arc::new(ListArray::new(
        Arc::new(Field::new("strict", DataType::Int32, false)),
        OffsetBuffer::from_lengths([2, 0, 1]),
        Arc::new(Int32Array::from(vec![1, 2, 3])),
        Some(NullBuffer::from(vec![true, false, true])),
    )));
    same(structs(vec![ints(), texts()], &[true, false, true, false, true]));
    same(structs(
        vec![ints(), structs(vec![texts()], &[true, true, false, true, true])],
        &[true, false, true, false, true],
    ));
    same(structs(
        vec![Arc::new(NullArray::new(3)), Arc::new(NullArray::new(3))],
        &[true, false, true],
    ));
    same(structs(
        vec![Arc::new(NullArray::new(5)), ints()],
        &[true, false, true, true, true],
    ));
    same(list(
        structs(
            vec![ints(), list(texts(), &[Some(1), None, Some(2), Some(0), Some(2)])],
            &[true, false, true, true, true],
        ),
        &lengths,
    ));
    // A child that cannot be null, garbage below a null parent, and metadata.
    let strict = Field::new("strict", DataType::Int32, false).with_metadata([("unit".into(), "m".into())].into());
    same(Arc::new(StructArray::new(
        Fields::from(vec![strict]),
        vec![Arc::new(Int32Array::from(vec![1, 2, 3]))],
        Some(NullBuffer::from(vec![true, false, true])),
    )));
    let fixed_lists = |field: Arc<Field>, length: i32, child: ArrayRef, nulls: &[bool]| {
        Arc::new(
            FixedSizeListArray::try_new_with_length(
                field,
                length,
                child,
                Some(NullBuffer::from(nulls.to_vec())),
                nulls.len(),
            )
            .expect("lists"),
        ) as ArrayRef
    };
    same(fixed_lists(
        item(DataType::Int32),
        1,
        ints(),
        &[true, false, true, true, false],
    ));
    same(fixed_lists(
        item(DataType::Int16),
        2,
        Arc::new(Int16Array::from(vec![
            Some(1),
            None,
            Some(3),
            Some(4),
            Some(5),
            Some(6),
        ])),
        &[true, false, true],
    ));
    same(fixed_lists(
        Arc::new(Field::new("strict", DataType::Utf8, false)),
        2,
        Arc::new(StringArray::from(vec!["a", "b", "garbage", "d", "e", ""])),
        &[true, false, true],
    ));
    same(maps(
        Arc::new(StringArray::from(vec!["a", "b", "c", ""])),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ["entries", "keys", "values"],
        false,
    ));
    same(maps(
        Arc::new(Int32Array::from(vec![1, 2, 3, 4])),
        list(ints(), &[Some(1), None, Some(0), Some(2)]),
        ["key_value", "key", "value"],
        true,
    ));

    // Values that cannot be null.
    let fields = Fields::from(vec![
        Field::new("k", DataType::Int32, false),
        Field::new("v", DataType::Int32, false),
    ]);
    let entries = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(Int32Array::from(vec![1, 2])),
            Arc::new(Int32Array::from(vec![3, 4])),
        ],
        None,
    );
    let field = Arc::new(Field::new("e", DataType::Struct(fields), false));
    same(Arc::new(MapArray::new(
        field,
        OffsetBuffer::from_lengths([0, 2]),
        entries,
        None,
        false,
    )));

    let mut bytes = |array: ArrayRef, width: i32| all.push((array, Form::Bytes(width)));
    let month_day_nanos = || {
        Arc::new(IntervalMonthDayNanoArray::from(vec![
            Some(IntervalMonthDayNano::new(i32::MIN, i32::MAX, i64::MIN)),
            None,
            Some(IntervalMonthDayNano::new(-1, 1, i64::MAX)),
            Some(IntervalMonthDayNano::new(0, 0, 1)),
            Some(IntervalMonthDayNano::new(1, 2, 3)),
        ])) as ArrayRef
    };
    bytes(month_day_nanos(), 16);
    bytes(d32(&[Some(9), None, Some(-9)], 1, 0), 4);
    bytes(d32(&[Some(1), None, Some(-99)], 5, -2), 4);
    bytes(d64(&[Some(1), None, Some(-99)], 15, -2), 8);
    bytes(d128(&[Some(1), None, Some(-99)], 30, -30), 16);
    bytes(d256(&[Some(most), None, Some(i256::MINUS_ONE)], 76, -1), 32);

    let mut encoded = |array: ArrayRef| all.push((array, Form::Encoded));
    encoded(fixed(0, &[Some(&[]), None, Some(&[])]));
    encoded(list(fixed(0, &[Some(&[]), None, Some(&[]), None, Some(&[])]), &lengths));
    encoded(list(month_day_nanos(), &lengths));
    let narrow = d128(&[Some(i128::MAX), None, Some(i128::MIN), Some(4), Some(99)], 15, 2);
    encoded(list(narrow, &lengths));
    encoded(list(
        d128(&[Some(1), None, Some(-3), Some(4), Some(9)], 5, -2),
        &lengths,
    ));
    encoded(structs(
        vec![ints(), month_day_nanos()],
        &[true, false, true, true, true],
    ));
    encoded(structs(vec![], &[true, false, true]));
    encoded(list(structs(vec![], &[true, false, true, true, true]), &lengths));
    encoded(fixed_lists(
        item(DataType::Int32),
        0,
        ints().slice(0, 0),
        &[true, false, true],
    ));
    encoded(fixed_lists(
        item(month_day_nanos().data_type().clone()),
        1,
        month_day_nanos(),
        &[true, false, true, true, false],
    ));
    encoded(maps(
        Arc::new(StringArray::from(vec!["a", "b", "c", ""])),
        month_day_nanos().slice(0, 4),
        ["entries", "keys", "values"],
        false,
    ));
    let inside: Vec<(ArrayRef, Form)> = all
        .iter()
        .map(|(values, form)| {
            // Narrow decimals are cut if they have too many digits, which is only looked at outside.
            let narrow = match values.data_type() {
                DataType::Decimal64(precision, _) => *precision < 10,
                DataType::Decimal128(precision, _) => *precision < 37,
                DataType::Decimal256(precision, _) => *precision < 75,
                _ => false,
            };
            let form = if *form == Form::Same && !narrow {
                Form::Same
            } else {
                Form::Encoded
            };
            let values = spread(values, 7);
            let nulls = [true, false, true, true, true, false, true];
            let both = structs(vec![values.clone(), values], &nulls);
            (list(both, &[Some(2), None, Some(0), Some(4)]), form)
        })
        .collect();
    all.extend(inside);
    all
}

/// Rows of `values` over and over, mixed, in several pages.
fn spread(values: &ArrayRef, rows: usize) -> ArrayRef {
    let length = values.len() as u64;
    let indices = UInt64Array::from_iter_values((0..rows as u64).map(|row| (row * row + row / 7) % length));
    arrow::compute::take(values, &indices, None).expect("rows")
}

/// The bytes of a float column, which compare NaNs and zeros as they are.
fn bits(array: &ArrayRef) -> Option<Vec<u8>> {
    let data = array.to_data();
    array.data_type().is_floating().then(|| {
        let width = array.data_type().primitive_width().expect("a float");
        let values = data.buffers()[0].as_slice();
        let valid = (0..data.len())
            .filter(|&row| data.is_valid(row))
            .map(|row| row + data.offset());
        valid
            .flat_map(|row| values[row * width..(row + 1) * width].to_vec())
            .collect()
    })
}

fn check(values: &ArrayRef) {
    const ROWS: usize = 2_600;
    let name = values.data_type().to_string();
    let schema = schema_of(&[values.data_type().clone(), DataType::Int64], vec![1]);
    let column = spread(values, ROWS);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let part = |from: usize, to: usize| vec![column.slice(from, to - from), ids.slice(from, to - from)];
    let place = Place::new();
    let entry = place.write(
        &schema,
        PLAIN,
        &[(1, part(0, 3)), (2, part(3, 2_500)), (u64::MAX, part(2_500, ROWS))],
    );
    let file = place.open(&schema, &entry);
    for rows in [
        vec![0..ROWS as u32],
        vec![0..1, 1..2, 2_040..2_060, 2_500..2_501, 2_599..2_600],
        vec![2_047..2_599],
    ] {
        let expected: Vec<u32> = rows.iter().flat_map(Clone::clone).collect();
        let columns = [SegmentColumn::Column(0), SegmentColumn::Key];
        let (numbers, read) = read(&file, &columns, rows, 1_000).expect("reads");
        assert_eq!(numbers, expected, "{name}");
        let indices = UInt32Array::from(expected);
        let expected = arrow::compute::take(&column, &indices, None).expect("rows");
        assert_eq!(read[0].data_type(), values.data_type());
        assert_eq!(&read[0], &expected, "{name}");
        assert_eq!(bits(&read[0]), bits(&expected), "{name}");
        read[0].to_data().validate_full().expect("valid data");
    }
}

#[test]
fn every_type_comes_back_bit_for_bit() {
    for (values, form) in samples() {
        let data_type = values.data_type();
        assert_eq!(Form::of(data_type), form, "{data_type}");
        RowEncoder::new(schema_of(slice::from_ref(data_type), vec![])).expect("a type that rows can have");
        check(&values);
        check(&new_null_array(data_type, 3));
    }
}

#[test]
fn bounds_are_around_all_values() {
    for (values, form) in samples() {
        let data_type = values.data_type();
        let column = spread(&values, 2_600);
        let place = Place::new();
        let schema = schema_of(slice::from_ref(data_type), vec![]);
        let file = place.open(&schema, &place.write(&schema, PLAIN, &[(1, vec![column.clone()])]));
        let bounds = file.bounds(0);
        let unordered = matches!(
            data_type,
            DataType::Interval(_) | DataType::Duration(_) | DataType::Null
        );
        let unordered = unordered || data_type.is_nested();
        // The samples of floats have NaNs.
        let unknown = unordered || data_type.is_floating() || form != Form::Same;
        assert_eq!(bounds.is_none(), unknown, "{data_type}");
        for bounds in bounds.iter().flat_map(|bounds| [&bounds.row_groups, &bounds.pages]) {
            check_bounds(bounds, &column);
        }
    }
}

fn check_bounds(bounds: &Bounds, column: &ArrayRef) {
    let data_type = column.data_type();
    let compare = |bounds: &ArrayRef| make_comparator(bounds, column, SortOptions::default()).expect("comparable");
    let (min, max) = (compare(&bounds.min), compare(&bounds.max));
    let mut next = 0;
    for (part, rows) in bounds.rows.iter().enumerate() {
        assert_eq!(rows.start, next, "{data_type}");
        next = rows.end;
        assert!(bounds.min.is_valid(part) && bounds.max.is_valid(part), "{data_type}");
        let mut nulls = 0;
        for row in rows.clone().map(|row| row as usize) {
            nulls += u64::from(column.is_null(row));
            if column.is_valid(row) {
                assert!(min(part, row).is_le() && max(part, row).is_ge(), "{data_type}");
            }
        }
        assert!(
            bounds.nulls.is_valid(part) && bounds.nulls.value(part) == nulls,
            "{data_type}"
        );
    }
    assert_eq!(next as usize, column.len());
}

#[test]
fn floats_have_bounds_unless_one_is_not_a_number() {
    let place = Place::new();
    let schema = schema_of(&[DataType::Float64, DataType::Float64], vec![]);
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(0.0),
        None,
        Some(-0.0),
        Some(f64::NEG_INFINITY),
    ]));
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), None, Some(f64::NAN), Some(1.0)]));
    let file = place.open(&schema, &place.write(&schema, PLAIN, &[(1, vec![zeros.clone(), nan])]));
    check_bounds(&file.bounds(0).expect("all are numbers").pages, &zeros);
    assert!(file.bounds(1).is_none());
    assert!(file.bounds(2).is_none());
}
