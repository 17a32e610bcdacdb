//! Arrow rows as JSON text, exactly: 64-bit integers are numbers, what JSON cannot hold exactly is a string.

use std::fmt::Display;
use std::io::Write as _;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kalamdb_core::field_type_name;

/// Writes the value of one row.
pub(crate) type Cell<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), ArrowError> + 'a>;

const TEXT_OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

/// `[{"name":…,"type":…},…]`, types by their SQL names.
pub(crate) fn write_columns(schema: &Schema, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, field) in schema.fields().iter().enumerate() {
        comma(index, out);
        out.extend_from_slice(b"{\"name\":");
        write_string(field.name(), out);
        out.extend_from_slice(b",\"type\":");
        write_string(&field_type_name(field), out);
        out.push(b'}');
    }
    out.push(b']');
}

/// `[…],[…],…`: each row an array; `first` says whether it opens the list.
///
/// # Errors
/// A value that has no text, such as a timestamp outside the calendar.
pub(crate) fn write_rows(batch: &RecordBatch, first: bool, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let cells = cells(batch.columns(), batch.schema_ref().fields())?;
    for row in 0..batch.num_rows() {
        comma(if first { row } else { 1 }, out);
        out.push(b'[');
        for (index, cell) in cells.iter().enumerate() {
            comma(index, out);
            cell(row, out)?;
        }
        out.push(b']');
    }
    Ok(())
}

/// Each row as an object on a line of its own.
///
/// # Errors
/// As [`write_rows`].
pub(crate) fn write_objects(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let schema = batch.schema_ref();
    let cells = cells(batch.columns(), schema.fields())?;
    let names: Vec<Vec<u8>> = schema.fields().iter().map(|field| name_bytes(field)).collect();
    for row in 0..batch.num_rows() {
        write_object(&names, &cells, row, out)?;
        out.push(b'\n');
    }
    Ok(())
}

fn cells<'a>(
    columns: &'a [ArrayRef],
    fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>,
) -> Result<Vec<Cell<'a>>, ArrowError> {
    columns
        .iter()
        .zip(fields)
        .map(|(column, field)| cell(column.as_ref(), field))
        .collect()
}

/// Writes the values of a column.
///
/// # Errors
/// A type that has no JSON.
pub(crate) fn cell<'a>(array: &'a dyn Array, field: &Field) -> Result<Cell<'a>, ArrowError> {
    let value = value_cell(array, field)?;
    if array.null_count() == 0 {
        return Ok(value);
    }
    Ok(Box::new(move |row, out| {
        if array.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        value(row, out)
    }))
}

fn value_cell<'a>(array: &'a dyn Array, field: &Field) -> Result<Cell<'a>, ArrowError> {
    let cell: Cell<'a> = match array.data_type() {
        DataType::Null => Box::new(|_, out| {
            out.extend_from_slice(b"null");
            Ok(())
        }),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, out| {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
                Ok(())
            })
        }
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => integer::<UInt64Type>(array),
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>();
            Box::new(move |row, out| write_f32(values.value(row).to_f32(), out))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| write_f32(values.value(row), out))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| write_f64(values.value(row), out))
        }
        DataType::Utf8 => text(array.as_string::<i32>(), |values, row| values.value(row)),
        DataType::LargeUtf8 => text(array.as_string::<i64>(), |values, row| values.value(row)),
        DataType::Utf8View => text(array.as_string_view(), |values, row| values.value(row)),
        DataType::Binary => binary(array.as_binary::<i32>(), |values, row| values.value(row)),
        DataType::LargeBinary => binary(array.as_binary::<i64>(), |values, row| values.value(row)),
        DataType::BinaryView => binary(array.as_binary_view(), |values, row| values.value(row)),
        DataType::FixedSizeBinary(16) if is_uuid(field) => {
            let values = array.as_fixed_size_binary();
            Box::new(move |row, out| {
                write_uuid(values.value(row), out);
                Ok(())
            })
        }
        DataType::FixedSizeBinary(_) => binary(array.as_fixed_size_binary(), |values, row| values.value(row)),
        DataType::List(element) => list::<i32>(array, element)?,
        DataType::LargeList(element) => list::<i64>(array, element)?,
        DataType::FixedSizeList(element, _) => {
            let lists = array.as_fixed_size_list();
            let element = cell(lists.values().as_ref(), element)?;
            let length = usize::try_from(lists.value_length()).unwrap_or_default();
            Box::new(move |row, out| {
                // The values of a sliced array begin at its own first row.
                write_array(row * length..(row + 1) * length, &element, out)
            })
        }
        DataType::Struct(fields) => {
            let structs = array.as_struct();
            let cells = cells(structs.columns(), fields)?;
            let names: Vec<Vec<u8>> = fields.iter().map(|field| name_bytes(field)).collect();
            Box::new(move |row, out| write_object(&names, &cells, row, out))
        }
        DataType::Map(entries, _) => map(array, entries)?,
        DataType::Dictionary(_, values) => {
            let dictionary = array.as_any_dictionary();
            let plain = Field::new(field.name(), values.as_ref().clone(), true).with_metadata(field.metadata().clone());
            let value = cell(dictionary.values().as_ref(), &plain)?;
            let keys = dictionary.normalized_keys();
            Box::new(move |row, out| value(keys[row], out))
        }
        // Decimals, dates, times, timestamps, durations, intervals, and the few types that SQL has no word for.
        _ => {
            let formatter = ArrayFormatter::try_new(array, &TEXT_OPTIONS)?;
            Box::new(move |row, out| {
                write_string(&formatter.value(row).try_to_string()?, out);
                Ok(())
            })
        }
    };
    Ok(cell)
}

fn integer<'a, T>(array: &'a dyn Array) -> Cell<'a>
where
    T: ArrowPrimitiveType,
    T::Native: Display,
{
    let values = array.as_primitive::<T>();
    Box::new(move |row, out| {
        write!(out, "{}", values.value(row))?;
        Ok(())
    })
}

fn text<'a, A>(values: &'a A, get: fn(&'a A, usize) -> &'a str) -> Cell<'a> {
    Box::new(move |row, out| {
        write_string(get(values, row), out);
        Ok(())
    })
}

fn binary<'a, A>(values: &'a A, get: fn(&'a A, usize) -> &'a [u8]) -> Cell<'a> {
    Box::new(move |row, out| {
        out.push(b'"');
        out.extend_from_slice(BASE64_STANDARD.encode(get(values, row)).as_bytes());
        out.push(b'"');
        Ok(())
    })
}

fn list<'a, O: OffsetSizeTrait>(array: &'a dyn Array, element: &Field) -> Result<Cell<'a>, ArrowError> {
    let lists = array.as_list::<O>();
    let element = cell(lists.values().as_ref(), element)?;
    let offsets = lists.value_offsets();
    Ok(Box::new(move |row, out| {
        write_array(offsets[row].as_usize()..offsets[row + 1].as_usize(), &element, out)
    }))
}

/// An object where keys are text, else an array of pairs.
fn map<'a>(array: &'a dyn Array, entries: &Field) -> Result<Cell<'a>, ArrowError> {
    let maps = array.as_map();
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::SchemaError(
            "the entries of a map are no structs".to_owned(),
        ));
    };
    let keys_are_text = matches!(
        maps.key_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let key = cell(maps.keys().as_ref(), &fields[0])?;
    let value = cell(maps.values().as_ref(), &fields[1])?;
    let offsets = maps.value_offsets();
    let entry_range = move |row: usize| offsets[row].as_usize()..offsets[row + 1].as_usize();
    if keys_are_text {
        return Ok(Box::new(move |row, out| {
            out.push(b'{');
            for (index, entry) in entry_range(row).enumerate() {
                comma(index, out);
                key(entry, out)?;
                out.push(b':');
                value(entry, out)?;
            }
            out.push(b'}');
            Ok(())
        }));
    }
    let pair: Cell<'a> = Box::new(move |entry, out| {
        out.push(b'[');
        key(entry, out)?;
        out.push(b',');
        value(entry, out)?;
        out.push(b']');
        Ok(())
    });
    Ok(Box::new(move |row, out| write_array(entry_range(row), &pair, out)))
}

fn write_array(range: std::ops::Range<usize>, element: &Cell<'_>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    out.push(b'[');
    for (index, entry) in range.enumerate() {
        comma(index, out);
        element(entry, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(names: &[Vec<u8>], cells: &[Cell<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    out.push(b'{');
    for (index, (name, cell)) in names.iter().zip(cells).enumerate() {
        comma(index, out);
        out.extend_from_slice(name);
        cell(row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// `"name":`
fn name_bytes(field: &Field) -> Vec<u8> {
    let mut name = Vec::new();
    write_string(field.name(), &mut name);
    name.push(b':');
    name
}

fn write_f32(value: f32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    // The shortest text of the narrower type: 0.1, not 0.10000000149011612.
    if value.is_finite() {
        write_finite(&value, out)
    } else {
        write_f64(f64::from(value), out)
    }
}

fn write_f64(value: f64, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    if value.is_finite() {
        return write_finite(&value, out);
    }
    let name = match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    };
    write_string(name, out);
    Ok(())
}

fn write_finite(value: &impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    serde_json::to_writer(out, value).map_err(|error| ArrowError::JsonError(error.to_string()))
}

fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

/// Text as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text into memory does not fail");
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Whether Arrow's extension type says that sixteen bytes are a UUID.
pub(crate) fn is_uuid(field: &Field) -> bool {
    field
        .metadata()
        .get("ARROW:extension:name")
        .is_some_and(|name| name == "arrow.uuid")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
        FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int32Array, Int32Builder, Int64Array, Int64Builder,
        IntervalMonthDayNanoArray, ListArray, MapBuilder, NullArray, StringArray, StringBuilder, StructArray,
        Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::{Fields, IntervalMonthDayNano};

    use super::*;

    fn batch(array: ArrayRef, metadata: HashMap<String, String>) -> RecordBatch {
        let field = Field::new("c", array.data_type().clone(), true).with_metadata(metadata);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("a batch")
    }

    /// The rows of a one-column batch, whole and from its second row on.
    fn check(array: impl Array + 'static, expected: &[&str]) {
        let whole = batch(Arc::new(array), HashMap::new());
        check_batch(&whole, expected);
        if expected.len() > 1 {
            check_batch(&whole.slice(1, expected.len() - 1), &expected[1..]);
        }
    }

    fn check_batch(batch: &RecordBatch, expected: &[&str]) {
        let mut out = Vec::new();
        write_rows(batch, true, &mut out).expect("writes");
        let rows: Vec<String> = expected.iter().map(|value| format!("[{value}]")).collect();
        assert_eq!(
            String::from_utf8(out).expect("text"),
            rows.join(","),
            "{}",
            batch.column(0).data_type()
        );
    }

    #[test]
    fn every_type_has_its_json() {
        check(NullArray::new(2), &["null", "null"]);
        check(
            BooleanArray::from(vec![Some(true), Some(false), None]),
            &["true", "false", "null"],
        );
        check(Int8Array::from(vec![Some(-128), None]), &["-128", "null"]);
        check(
            Int64Array::from(vec![i64::MAX, i64::MIN]),
            &["9223372036854775807", "-9223372036854775808"],
        );
        check(UInt64Array::from(vec![u64::MAX]), &["18446744073709551615"]);
        check(Float32Array::from(vec![0.1, f32::NAN]), &["0.1", "\"NaN\""]);
        check(
            Float64Array::from(vec![1.0, 1e300, f64::INFINITY, f64::NEG_INFINITY]),
            &["1.0", "1e+300", "\"Infinity\"", "\"-Infinity\""],
        );
        let decimal = Decimal128Array::from(vec![Some(-1_050), None])
            .with_precision_and_scale(38, 2)
            .expect("a decimal");
        check(decimal, &["\"-10.50\"", "null"]);
        check(
            StringArray::from(vec!["a\"b\\\n\u{1}é😀", ""]),
            &[r#""a\"b\\\n\u0001é😀""#, "\"\""],
        );
        check(
            BinaryArray::from(vec![b"\x00\xff".as_slice(), b""]),
            &["\"AP8=\"", "\"\""],
        );
        check(Date32Array::from(vec![0, -1]), &["\"1970-01-01\"", "\"1969-12-31\""]);
        check(
            Time64MicrosecondArray::from(vec![3_723_000_001]),
            &["\"01:02:03.000001\""],
        );
        check(TimestampSecondArray::from(vec![0]), &["\"1970-01-01T00:00:00\""]);
        check(
            TimestampNanosecondArray::from(vec![1]),
            &["\"1970-01-01T00:00:00.000000001\""],
        );
        check(
            TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC"),
            &["\"1970-01-01T00:00:01.500Z\""],
        );
        check(
            IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, 3, 0)]),
            &["\"14 mons 3 days\""],
        );
    }

    #[test]
    fn nested_values_nest() {
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
        check(
            ListArray::from_iter_primitive::<Int32Type, _, _>(lists),
            &["[1,null]", "null", "[]"],
        );
        let pairs = vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None]), None];
        check(
            FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2),
            &["[1,2]", "[3,null]", "null"],
        );
        let fields = Fields::from(vec![
            Field::new("a b", DataType::Int32, true),
            Field::new("c", DataType::Utf8, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec![None, Some("x")])),
        ];
        check(
            StructArray::new(fields, columns, None),
            &[r#"{"a b":1,"c":null}"#, r#"{"a b":null,"c":"x"}"#],
        );
        let words: DictionaryArray<Int8Type> = vec![Some("x"), None, Some("y")].into_iter().collect();
        check(words, &["\"x\"", "null", "\"y\""]);
    }

    #[test]
    fn maps_are_objects_where_keys_are_text() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).expect("an entry");
        map.append(false).expect("a null");
        check(map.finish(), &[r#"{"k":null}"#, "null"]);
        let mut map = MapBuilder::new(None, Int64Builder::new(), Int32Builder::new());
        map.keys().append_value(7);
        map.values().append_value(8);
        map.append(true).expect("an entry");
        check(map.finish(), &["[[7,8]]"]);
    }

    #[test]
    fn uuids_are_text_by_their_extension_type() {
        let bytes: Vec<u8> = (0..16).collect();
        let array: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([bytes].into_iter()).expect("an array"));
        let uuid = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
        check_batch(
            &batch(Arc::clone(&array), uuid),
            &["\"00010203-0405-0607-0809-0a0b0c0d0e0f\""],
        );
        check_batch(&batch(array, HashMap::new()), &["\"AAECAwQFBgcICQoLDA0ODw==\""]);
    }

    #[test]
    fn columns_have_sql_names_of_types() {
        let schema = Schema::new(vec![
            Field::new("a\"", DataType::Int64, false),
            Field::new("b", DataType::Utf8, true),
        ]);
        let mut out = Vec::new();
        write_columns(&schema, &mut out);
        let expected = r#"[{"name":"a\"","type":"BIGINT"},{"name":"b","type":"TEXT"}]"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn a_value_without_text_is_an_error() {
        let array: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        write_rows(&batch(array, HashMap::new()), true, &mut Vec::new()).expect_err("no such year");
    }
}
