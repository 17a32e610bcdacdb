//! A column of every type that can be kept, with six values each: ordinary, missing, smallest, largest and empty ones.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTime, IntervalDayTimeType, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Int64Builder,
    LargeBinaryArray, LargeListBuilder, LargeStringArray, ListArray, MapBuilder, NullArray, PrimitiveArray,
    StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Fields, TimeUnit, i256};

/// Rows of the columns.
pub(crate) const ROWS: usize = 6;

/// The key, 1 to 6, and then the columns.
pub(crate) fn columns() -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(PrimitiveArray::<Int32Type>::from(vec![1, 2, 3, 4, 5, 6]))];
    columns.push(Arc::new(NullArray::new(ROWS)));
    columns.extend(numbers());
    columns.extend(times());
    columns.extend(decimals());
    columns.extend(texts());
    columns.extend(nested());
    columns
}

fn numbers() -> Vec<ArrayRef> {
    vec![
        Arc::new(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
            Some(false),
            None,
        ])),
        of::<Int8Type>([Some(7), None, Some(i8::MIN), Some(i8::MAX), Some(0), Some(-1)]),
        of::<Int16Type>([Some(7), None, Some(i16::MIN), Some(i16::MAX), Some(0), Some(-1)]),
        of::<Int32Type>([Some(7), None, Some(i32::MIN), Some(i32::MAX), Some(0), Some(-1)]),
        of::<Int64Type>([Some(7), None, Some(i64::MIN), Some(i64::MAX), Some(0), Some(-1)]),
        of::<UInt8Type>([Some(7), None, Some(0), Some(u8::MAX), None, Some(1)]),
        of::<UInt16Type>([Some(7), None, Some(0), Some(u16::MAX), None, Some(1)]),
        of::<UInt32Type>([Some(7), None, Some(0), Some(u32::MAX), None, Some(1)]),
        of::<UInt64Type>([Some(7), None, Some(0), Some(u64::MAX), None, Some(1)]),
        half([0x3C00, 0x7E01, 0xFC00, 0x7BFF, 0x8000, 0x0001]),
        of::<Float32Type>([
            Some(1.5),
            None,
            Some(f32::NEG_INFINITY),
            Some(f32::MAX),
            Some(-0.0),
            Some(f32::from_bits(0x7FC0_1234)),
        ]),
        of::<Float64Type>([
            Some(1.5),
            None,
            Some(f64::NEG_INFINITY),
            Some(f64::from_bits(0xFFF8_0000_0000_0001)),
            Some(-0.0),
            Some(f64::MIN_POSITIVE),
        ]),
    ]
}

fn times() -> Vec<ArrayRef> {
    let times = [Some(86_399), None, Some(0), Some(3_600), Some(1), None];
    let stamps = [
        Some(1_700_000_000),
        None,
        Some(i64::MIN),
        Some(i64::MAX),
        Some(0),
        Some(-1),
    ];
    let zoned = |unit, zone: &str, array: ArrayRef| retyped(array, DataType::Timestamp(unit, Some(Arc::from(zone))));
    let interval = |months, days, nanoseconds| Some(IntervalMonthDayNano::new(months, days, nanoseconds));
    vec![
        of::<Date32Type>([Some(19_700), None, Some(i32::MIN), Some(i32::MAX), Some(0), Some(-1)]),
        of::<Date64Type>(stamps),
        of::<Time32SecondType>(times),
        of::<Time32MillisecondType>(times),
        of::<Time64MicrosecondType>(times.map(|time| time.map(i64::from))),
        of::<Time64NanosecondType>(times.map(|time| time.map(i64::from))),
        of::<TimestampSecondType>(stamps),
        of::<TimestampMillisecondType>(stamps),
        of::<TimestampMicrosecondType>(stamps),
        of::<TimestampNanosecondType>(stamps),
        zoned(TimeUnit::Second, "UTC", of::<TimestampSecondType>(stamps)),
        zoned(TimeUnit::Microsecond, "+02:00", of::<TimestampMicrosecondType>(stamps)),
        zoned(
            TimeUnit::Nanosecond,
            "Europe/Berlin",
            of::<TimestampNanosecondType>(stamps),
        ),
        of::<DurationSecondType>(stamps),
        of::<DurationMillisecondType>(stamps),
        of::<DurationMicrosecondType>(stamps),
        of::<DurationNanosecondType>(stamps),
        of::<IntervalYearMonthType>([Some(14), None, Some(i32::MIN), Some(i32::MAX), Some(0), Some(-1)]),
        of::<IntervalDayTimeType>([
            Some(IntervalDayTime::new(1, 2)),
            None,
            Some(IntervalDayTime::new(i32::MIN, i32::MAX)),
            Some(IntervalDayTime::new(i32::MAX, i32::MIN)),
            Some(IntervalDayTime::new(0, 0)),
            Some(IntervalDayTime::new(-1, -1)),
        ]),
        of::<IntervalMonthDayNanoType>([
            interval(1, 2, 3),
            None,
            interval(i32::MIN, i32::MAX, i64::MIN),
            interval(i32::MAX, i32::MIN, i64::MAX),
            interval(0, 0, 0),
            interval(-1, -1, -1),
        ]),
    ]
}

fn decimals() -> Vec<ArrayRef> {
    let small = [Some(7), None, Some(-9), Some(9), Some(0), Some(-1)];
    let nines = i256::from_i128(10).wrapping_pow(76).wrapping_sub(i256::ONE);
    vec![
        // Parquet has no decimal of one digit in 32 bits, and none with a negative scale.
        retyped(of::<Decimal32Type>(small), DataType::Decimal32(1, 0)),
        retyped(of::<Decimal32Type>(small), DataType::Decimal32(9, 2)),
        retyped(
            of::<Decimal64Type>(small.map(|value| value.map(i64::from))),
            DataType::Decimal64(18, 4),
        ),
        retyped(
            of::<Decimal128Type>(small.map(|value| value.map(i128::from))),
            DataType::Decimal128(5, 2),
        ),
        retyped(
            of::<Decimal128Type>([
                Some(1250),
                None,
                Some(-99_999_999_999_999_999_999_999_999_999_999_999_999),
                Some(99_999_999_999_999_999_999_999_999_999_999_999_999),
                Some(0),
                Some(-1),
            ]),
            DataType::Decimal128(38, 10),
        ),
        retyped(
            of::<Decimal128Type>(small.map(|value| value.map(i128::from))),
            DataType::Decimal128(10, -2),
        ),
        retyped(
            of::<Decimal256Type>([
                Some(i256::from_i128(1250)),
                None,
                Some(nines.wrapping_neg()),
                Some(nines),
                Some(i256::ZERO),
                Some(i256::MINUS_ONE),
            ]),
            DataType::Decimal256(76, 38),
        ),
    ]
}

fn texts() -> Vec<ArrayRef> {
    let long = "long ".repeat(60);
    let texts = vec![
        Some("plain"),
        None,
        Some(""),
        Some(long.as_str()),
        Some("ß 水 🦀"),
        Some("a\0b"),
    ];
    let bytes: Vec<Option<&[u8]>> = vec![
        Some(b"plain"),
        None,
        Some(b""),
        Some(b"\0"),
        Some(&[0xFF; 100]),
        Some(b"\xFE\0"),
    ];
    let three: Vec<Option<&[u8]>> = vec![
        Some(b"abc"),
        None,
        Some(&[0; 3]),
        Some(&[0xFF; 3]),
        Some(b"\x80ab"),
        None,
    ];
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(three.into_iter(), 3);
    vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts)),
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(LargeBinaryArray::from(bytes)),
        Arc::new(fixed.expect("all are of three bytes")),
    ]
}

fn nested() -> Vec<ArrayRef> {
    let numbers = vec![
        Some(vec![Some(1), None, Some(i32::MIN)]),
        None,
        Some(vec![]),
        Some(vec![Some(i32::MAX)]),
        Some(vec![None]),
        Some(vec![Some(0), Some(0)]),
    ];
    let pairs = vec![
        Some(vec![Some(1.5), None]),
        None,
        Some(vec![Some(-0.0), Some(f32::INFINITY)]),
        Some(vec![None, None]),
        None,
        Some(vec![Some(0.0), Some(1.0)]),
    ];
    vec![
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(numbers)),
        large_list(),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(pairs, 2)),
        Arc::new(people(
            ROWS,
            Some(NullBuffer::from(vec![true, false, true, true, true, true])),
        )),
        map(),
        list_of(Arc::new(people(ROWS, None))),
        // Neither is kept by Parquet inside a list as Arrow has it.
        list_of(decimals().swap_remove(3)),
        list_of(times().swap_remove(19)),
    ]
}

fn large_list() -> ArrayRef {
    let mut builder = LargeListBuilder::new(StringBuilder::new());
    for texts in [
        Some(vec![Some("a"), None]),
        None,
        Some(vec![]),
        Some(vec![Some("")]),
        None,
        Some(vec![None]),
    ] {
        match texts {
            None => builder.append_null(),
            Some(texts) => builder.append_value(texts),
        }
    }
    Arc::new(builder.finish())
}

type Entries = &'static [(&'static str, Option<i64>)];

fn map() -> ArrayRef {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    let maps: [Option<Entries>; ROWS] = [
        Some(&[("a", Some(1)), ("b", None)]),
        None,
        Some(&[]),
        Some(&[("", Some(i64::MIN))]),
        None,
        Some(&[("z", Some(0))]),
    ];
    for entries in maps {
        for (key, value) in entries.unwrap_or_default() {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(entries.is_some()).expect("as many keys as values");
    }
    Arc::new(builder.finish())
}

fn people(rows: usize, nulls: Option<NullBuffer>) -> StructArray {
    let names = StringArray::from(vec![Some("Ada"), None, Some(""), Some("Grace"), Some("Hedy"), None]);
    let years = PrimitiveArray::<Int64Type>::from(vec![Some(1815), None, Some(0), None, Some(1914), Some(-1)]);
    let fields = Fields::from(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("born", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(names.slice(0, rows)), Arc::new(years.slice(0, rows))];
    StructArray::try_new(fields, columns, nulls).expect("columns of the fields' types")
}

/// Six lists of the first three values.
fn list_of(values: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let lengths = OffsetBuffer::from_lengths([2, 0, 0, 1, 0, 0]);
    let nulls = NullBuffer::from(vec![true, false, true, true, true, false]);
    let list = ListArray::try_new(field, lengths, values.slice(0, 3), Some(nulls));
    Arc::new(list.expect("as many values as the lengths say"))
}

fn of<T: ArrowPrimitiveType>(values: [Option<T::Native>; ROWS]) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(values))
}

/// Half floats by their bits, the second of them missing.
fn half(bits: [u16; ROWS]) -> ArrayRef {
    let values = bits.map(|bits| {
        let value = <Float16Type as ArrowPrimitiveType>::Native::from_bits(bits);
        (bits != 0x7E01).then_some(value)
    });
    of::<Float16Type>(values)
}

fn retyped(array: ArrayRef, data_type: DataType) -> ArrayRef {
    let data = array.to_data().into_builder().data_type(data_type).build();
    arrow::array::make_array(data.expect("a type of the same bytes"))
}
