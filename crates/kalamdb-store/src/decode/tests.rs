//! Rows of every type come back from their bytes as they were, and broken bytes are named.

use std::sync::Arc;

use arrow::array::{
    BooleanBuilder, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float16Array, Float64Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{
    Field, Fields, Float64Type, Int32Type, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit, i256,
};
use proptest::prelude::*;

use super::*;
use crate::ids::{ColumnId, Epoch, SchemaVersion};
use crate::schema::{Lifetime, StoredColumn};
use crate::{RowEncoder, Seq};

const EPOCH: Epoch = Epoch(3);

fn store_schema(types: &[DataType], key: Vec<usize>) -> StoreSchema {
    let column = |(id, data_type): (usize, &DataType)| StoredColumn {
        id: ColumnId(id as u32),
        data_type: data_type.clone(),
    };
    StoreSchema {
        version: SchemaVersion(4),
        columns: types.iter().enumerate().map(column).collect(),
        key,
        lifetime: Lifetime::Durable,
    }
}

fn output(schema: &StoreSchema, columns: &[usize]) -> (Vec<ScanColumn>, SchemaRef) {
    let fields: Vec<Field> = columns
        .iter()
        .map(|&column| Field::new("c", schema.columns[column].data_type.clone(), true))
        .collect();
    (
        columns.iter().map(|&column| ScanColumn::Column(column)).collect(),
        Arc::new(Schema::new(fields)),
    )
}

fn decode_rows(
    schema: &StoreSchema,
    columns: &[usize],
    rows: &[(Vec<u8>, Vec<u8>)],
) -> Result<RecordBatch, StoreError> {
    let (columns, output) = output(schema, columns);
    let decoder = RowDecoder::new(schema, StoreId(1), ScopeId(2), &columns, &output)?;
    let mut buffer = RowBuffer::default();
    for (key, value) in rows {
        let whole = [key::scope_prefix(StoreId(1), Epoch(3), ScopeId(2)).as_slice(), key].concat();
        decoder.push(&mut buffer, EPOCH, 0, &whole, value)?;
    }
    decoder.decode(&mut buffer)
}

/// Decodes all columns of a schema that has key columns only.
pub(crate) fn decode_keys(schema: &StoreSchema, keys: &[Vec<u8>]) -> Result<RecordBatch, StoreError> {
    let rows: Vec<_> = keys.iter().map(|key| (key.clone(), vec![])).collect();
    decode_rows(schema, &(0..schema.columns.len()).collect::<Vec<_>>(), &rows)
}

/// One column of each type that can be stored, two rows with values (edges first) and one with nulls.
pub(crate) fn every_type() -> Vec<ArrayRef> {
    let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
    let mut out: Vec<ArrayRef> = Vec::new();
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, -2]));
    let small: ArrayRef = Arc::new(Int32Array::from(vec![0, 100]));
    for data_type in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Decimal32(9, 2),
        DataType::Decimal64(18, 3),
        DataType::Duration(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())),
        DataType::Date64,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Time64(TimeUnit::Nanosecond),
    ] {
        out.push(arrow::compute::cast(&numbers, &data_type).unwrap_or_else(|error| panic!("{data_type}: {error}")));
    }
    for data_type in [
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Date32,
        DataType::Time32(TimeUnit::Second),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Interval(IntervalUnit::YearMonth),
    ] {
        out.push(arrow::compute::cast(&small, &data_type).unwrap_or_else(|error| panic!("{data_type}: {error}")));
    }
    out.push(Arc::new(Float64Array::from(vec![f64::NAN, -0.0])));
    out.push(Arc::new(Float16Array::from_iter_values([half(1), half(0)])));
    out.push(Arc::new(Decimal128Array::from(vec![i128::from(i64::MAX) * 5, -1])));
    out.push(Arc::new(Decimal256Array::from(vec![
        i256::from_parts(7, 9),
        i256::from_i128(-1),
    ])));
    let interval = |months, days, nanos| IntervalMonthDayNano::new(months, days, nanos);
    out.push(Arc::new(IntervalMonthDayNanoArray::from(vec![
        interval(-1, 2, -3),
        interval(0, 0, 1),
    ])));
    let day_time = arrow::datatypes::IntervalDayTime::new(-3, 4);
    out.push(Arc::new(arrow::array::IntervalDayTimeArray::from(vec![day_time; 2])));
    let mut booleans = BooleanBuilder::new();
    booleans.append_value(true);
    booleans.append_value(false);
    out.push(Arc::new(booleans.finish()));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["", "zwölf\0"]));
    for data_type in [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Binary,
        DataType::LargeBinary,
    ] {
        out.push(arrow::compute::cast(&text, &data_type).expect("casts"));
    }
    out.push(Arc::new(
        FixedSizeBinaryArray::try_from_iter([[1u8, 2, 3], [0, 0, 0]].iter()).expect("an array"),
    ));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![]), Some(vec![Some(1), None, Some(3)])]);
    out.push(Arc::new(list));
    let fixed = arrow::array::FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
        [Some(vec![Some(1.5), None]), Some(vec![Some(-0.0), Some(2.0)])],
        2,
    );
    out.push(Arc::new(fixed));
    let fields: Fields = vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
    ]
    .into();
    let inner: ArrayRef = Arc::new(StructArray::new(
        fields,
        vec![
            Arc::new(StringArray::from(vec![Some("x"), None])),
            Arc::new(BooleanArray::from(vec![None, Some(true)])),
        ],
        None,
    ));
    out.push(inner.clone());
    out.push(Arc::new(arrow::array::LargeListArray::new(
        item(inner.data_type().clone()),
        OffsetBuffer::from_lengths([0, 2]),
        inner,
        None,
    )));
    let mut map = arrow::array::MapBuilder::new(
        None,
        arrow::array::StringBuilder::new(),
        arrow::array::Int32Builder::new(),
    );
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).expect("a map");
    map.append(true).expect("a map");
    out.push(Arc::new(map.finish()));
    let mut all: Vec<ArrayRef> = out
        .into_iter()
        .map(|array| concat(&[&array, &new_null_array(array.data_type(), 1)]).expect("of one type"))
        .collect();
    all.push(Arc::new(NullArray::new(3)));
    all
}

fn half(bits: usize) -> <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native {
    ArrowNativeType::usize_as(bits)
}

fn encode_rows(schema: &StoreSchema, columns: &[ArrayRef]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let encoder = RowEncoder::new(Arc::new(schema.clone())).expect("a schema");
    let keys = KeyEncoder::new(schema).expect("a key");
    (0..columns[0].len())
        .map(|row| {
            let mut key = Vec::new();
            if schema.key.is_empty() {
                key.extend_from_slice(&(row as u64).to_be_bytes());
            } else {
                let columns: Vec<ArrayRef> = schema.key.iter().map(|&index| columns[index].clone()).collect();
                keys.encode(&columns, row, &mut key).expect("encodes");
            }
            (key, encoder.encode(columns, row, None).expect("encodes"))
        })
        .collect()
}

fn types_of(columns: &[ArrayRef]) -> Vec<DataType> {
    columns.iter().map(|column| column.data_type().clone()).collect()
}

fn assert_same(batch: &RecordBatch, columns: &[ArrayRef]) {
    for (decoded, given) in batch.columns().iter().zip(columns) {
        // By data, so that NaN and -0.0 are compared as bits.
        assert_eq!(decoded.data_type(), given.data_type());
        assert_eq!(format!("{:?}", decoded), format!("{:?}", given));
        if !decoded.data_type().is_floating() {
            assert_eq!(decoded, given);
        }
    }
}

#[test]
fn every_type_comes_back_as_it_was() {
    let columns = every_type();
    let schema = store_schema(&types_of(&columns), vec![]);
    let rows = encode_rows(&schema, &columns);
    let all: Vec<usize> = (0..columns.len()).collect();
    assert_same(&decode_rows(&schema, &all, &rows).expect("decodes"), &columns);
    // Each alone, so that a projection without variable columns is read from the fixed part.
    for (index, column) in columns.iter().enumerate() {
        let batch = decode_rows(&schema, &[index], &rows).expect("decodes");
        assert_same(&batch, std::slice::from_ref(column));
    }
    // Rows without any null.
    let sound: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, 2)).collect();
    assert_same(&decode_rows(&schema, &all, &rows[..2]).expect("decodes"), &sound);
}

#[test]
fn not_a_number_and_minus_zero_keep_their_bits() {
    let bits = [
        f64::NAN.to_bits() | 5,
        (-0.0f64).to_bits(),
        f64::NEG_INFINITY.to_bits(),
        1,
    ];
    let column: ArrayRef = Arc::new(Float64Array::from_iter_values(bits.map(f64::from_bits)));
    let schema = store_schema(&[DataType::Float64], vec![]);
    let batch = decode_rows(&schema, &[0], &encode_rows(&schema, &[column])).expect("decodes");
    let values = batch.column(0).as_any().downcast_ref::<Float64Array>().expect("floats");
    assert_eq!(
        values.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
        bits
    );
}

#[test]
fn slices_of_arrays_are_encoded_at_their_own_rows() {
    let columns: Vec<ArrayRef> = every_type().iter().map(|column| column.slice(1, 2)).collect();
    let schema = store_schema(&types_of(&columns), vec![]);
    let all: Vec<usize> = (0..columns.len()).collect();
    assert_same(
        &decode_rows(&schema, &all, &encode_rows(&schema, &columns)).expect("decodes"),
        &columns,
    );
}

#[test]
fn key_columns_come_from_the_key() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a", "b\0"])),
        Arc::new(Int32Array::from(vec![None, Some(2)])),
        Arc::new(Int64Array::from(vec![-1, 1])),
    ];
    let schema = store_schema(&types_of(&columns), vec![2, 0]);
    let rows = encode_rows(&schema, &columns);
    // Only the number in the middle is in the value: header, a null bitmap of one byte, one slot.
    assert_eq!(rows[0].1.len(), row::HEADER_BYTES + 1 + 4);
    assert_same(&decode_rows(&schema, &[0, 1, 2], &rows).expect("decodes"), &columns);
}

#[test]
fn a_row_tells_the_epoch_that_holds_it() {
    let schema = store_schema(&[DataType::Int32], vec![]);
    let column: ArrayRef = Arc::new(Int32Array::from(vec![5]));
    let (key, mut value) = encode_rows(&schema, &[column]).remove(0);
    row::stamp(&mut value, Seq(3), 0);
    let fields = vec![
        Field::new("s", DataType::UInt64, false),
        Field::new(
            "u",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        Field::new("l", DataType::UInt64, false),
    ];
    let columns = [ScanColumn::Seq, ScanColumn::Updated, ScanColumn::Location];
    let decoder = RowDecoder::new(
        &schema,
        StoreId(1),
        ScopeId(2),
        &columns,
        &Arc::new(Schema::new(fields)),
    )
    .expect("compiles");
    let whole = [key::scope_prefix(StoreId(1), Epoch(3), ScopeId(2)).as_slice(), &key].concat();
    let mut rows = RowBuffer::default();
    decoder.push(&mut rows, EPOCH, 0, &whole, &value).expect("a row");
    decoder.push(&mut rows, Epoch(9), 0, &whole, &value).expect("a row");
    let batch = decoder.decode(&mut rows).expect("decodes");
    assert_eq!(batch.column(0).as_ref(), &UInt64Array::from(vec![3, 3]));
    assert_eq!(
        batch.column(1).as_ref(),
        &TimestampMicrosecondArray::from(vec![0, 0]).with_timezone("UTC")
    );
    assert_eq!(batch.column(2).as_ref(), &UInt64Array::from(vec![3, 9]));
}

#[test]
fn corrupt_rows_are_named_and_never_skipped() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ab", "cd"])),
        Arc::new(BooleanArray::from(vec![true, true])),
    ];
    let schema = store_schema(&types_of(&columns), vec![]);
    let rows = encode_rows(&schema, &columns);
    // flags 0, seq 1..9, updated 9..17, version 17..21, bitmap 21, boolean 22, end offset 23..27, text 27..29
    for (name, position, byte, problem) in [
        ("flags", 0, 0x80, "flags"),
        ("lifetime", 0, 1, "lifetime"),
        ("version", 17, 9, "schema version 9"),
        ("boolean", 22, 2, "boolean"),
        ("offset", 23, 9, "offsets"),
        ("text", 28, 0xFF, "UTF-8"),
    ] {
        let mut broken = rows.clone();
        broken[1].1[position] = byte;
        match decode_rows(&schema, &[0, 1], &broken) {
            Err(StoreError::Corrupt { object, problem: found }) => {
                assert_eq!(object, "store 1, epoch 3, scope 2, key 0000000000000001", "{name}");
                assert!(found.contains(problem), "{name}: {found}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn schemas_that_cannot_be_stored_are_refused() {
    let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
    for data_type in [
        DataType::Utf8View,
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::List(item(DataType::BinaryView)),
        DataType::FixedSizeList(item(DataType::Int32), i32::MAX),
        DataType::FixedSizeBinary(i32::MAX),
    ] {
        let schema = store_schema(std::slice::from_ref(&data_type), vec![]);
        assert!(
            matches!(RowEncoder::new(Arc::new(schema)), Err(StoreError::Unsupported(_))),
            "{data_type}"
        );
    }
}

#[test]
fn a_row_that_is_too_large_or_of_another_type_is_refused() {
    let large: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(crate::tuning::MAX_ROW_BYTES)]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let encoder = RowEncoder::new(Arc::new(store_schema(&[DataType::Utf8], vec![]))).expect("a schema");
    for column in [large, number] {
        assert!(matches!(
            encoder.encode(&[column], 0, None),
            Err(StoreError::Unsupported(_))
        ));
    }
    assert!(encoder.encode(&[], 0, None).is_err());
}

proptest! {
    /// Whatever the bytes are: a batch or an error that names them, never a panic.
    #[test]
    fn mutated_rows_do_not_panic(
        row in 0usize..3,
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let columns = every_type();
        let schema = store_schema(&types_of(&columns), vec![]);
        let mut rows = encode_rows(&schema, &columns);
        let value = &mut rows[row].1;
        for (position, byte) in mutations {
            let position = position.index(value.len());
            value[position] = byte;
        }
        if let Some(cut) = cut {
            value.truncate(cut.index(value.len() + 1));
        }
        let all: Vec<usize> = (0..columns.len()).collect();
        match decode_rows(&schema, &all, &rows) {
            Ok(batch) => prop_assert_eq!(batch.num_rows(), 3),
            Err(StoreError::Corrupt { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
