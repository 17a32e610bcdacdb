//! Values as the text that people and CSV get: exact, without quotes; what is nested is JSON.

use std::fmt::Write as _;

use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::json_rows::{Cell, cell, is_uuid};

const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

/// Writes the value of one row; rows that are NULL are not for it.
pub(crate) type TextCell<'a> = Box<dyn Fn(usize, &mut String) -> Result<(), ArrowError> + 'a>;

/// A column that can be asked for text.
pub(crate) struct TextColumn<'a> {
    array: &'a dyn Array,
    cell: TextCell<'a>,
}

impl TextColumn<'_> {
    /// The value of a row, `None` for NULL.
    ///
    /// # Errors
    /// A value that has no text.
    pub(crate) fn text(&self, row: usize) -> Result<Option<String>, ArrowError> {
        // An array of type Null has no bitmap to say so.
        if self.array.data_type() == &DataType::Null || self.array.is_null(row) {
            return Ok(None);
        }
        let mut text = String::new();
        (self.cell)(row, &mut text)?;
        Ok(Some(text))
    }
}

/// The columns of a batch.
///
/// # Errors
/// A type that has no text.
pub(crate) fn text_columns(batch: &RecordBatch) -> Result<Vec<TextColumn<'_>>, ArrowError> {
    batch
        .columns()
        .iter()
        .zip(batch.schema_ref().fields())
        .map(|(array, field)| {
            let array = array.as_ref();
            let cell = text_cell(array, field)?;
            Ok(TextColumn { array, cell })
        })
        .collect()
}

fn text_cell<'a>(array: &'a dyn Array, field: &Field) -> Result<TextCell<'a>, ArrowError> {
    if array.data_type().is_nested() || is_uuid(field) {
        let json = cell(array, field)?;
        let is_uuid = is_uuid(field);
        return Ok(Box::new(move |row, out| {
            let text = json_text(&json, row)?;
            // A UUID is a JSON string without anything to escape.
            out.push_str(if is_uuid { text.trim_matches('"') } else { &text });
            Ok(())
        }));
    }
    let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
    Ok(Box::new(move |row, out| {
        match formatter.value(row).try_to_string() {
            Ok(text) => out.push_str(&text),
            Err(error) => match number_of_units(array, row)? {
                Some(text) => out.push_str(&text),
                None => return Err(error),
            },
        }
        Ok(())
    }))
}

fn json_text(json: &Cell<'_>, row: usize) -> Result<String, ArrowError> {
    let mut bytes = Vec::new();
    json(row, &mut bytes)?;
    String::from_utf8(bytes).map_err(|error| ArrowError::JsonError(error.to_string()))
}

/// A point in time that no calendar has, as what is stored.
fn number_of_units(array: &dyn Array, row: usize) -> Result<Option<String>, ArrowError> {
    let (integers, unit) = match array.data_type() {
        DataType::Date32 => (DataType::Int32, "days since 1970-01-01"),
        DataType::Date64 => (DataType::Int64, "ms since 1970-01-01"),
        DataType::Timestamp(TimeUnit::Second, _) => (DataType::Int64, "s since 1970-01-01"),
        DataType::Timestamp(TimeUnit::Millisecond, _) => (DataType::Int64, "ms since 1970-01-01"),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (DataType::Int64, "µs since 1970-01-01"),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => (DataType::Int64, "ns since 1970-01-01"),
        _ => return Ok(None),
    };
    let number = cast(&array.slice(row, 1), &integers)?;
    let mut text = String::new();
    let formatter = ArrayFormatter::try_new(&number, &OPTIONS)?;
    write!(text, "{} {unit}", formatter.value(0)).map_err(|error| ArrowError::CastError(error.to_string()))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float64Array,
        Int32Builder, Int64Array, ListBuilder, NullArray, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::{Schema, i256};

    use super::*;

    fn texts(array: ArrayRef, metadata: HashMap<String, String>) -> Vec<Option<String>> {
        let field = Field::new("c", array.data_type().clone(), true).with_metadata(metadata);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("a batch");
        let columns = text_columns(&batch).expect("columns");
        (0..batch.num_rows())
            .map(|row| columns[0].text(row).expect("text"))
            .collect()
    }

    #[test]
    fn values_are_exact() {
        let check = |array: ArrayRef, expected: &[Option<&str>]| {
            let found = texts(Arc::clone(&array), HashMap::new());
            let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
            assert_eq!(found, expected, "{}", array.data_type());
        };
        check(
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
            &[Some("-9223372036854775808"), None],
        );
        check(
            Arc::new(Float64Array::from(vec![0.1, -0.0, f64::NAN, 1e300])),
            &[Some("0.1"), Some("-0.0"), Some("NaN"), Some("1e300")],
        );
        let decimals = Decimal128Array::from(vec![12_345_678_901_234_567_890_123_i128, -1]);
        check(
            Arc::new(decimals.with_precision_and_scale(38, 10).expect("it fits")),
            &[Some("1234567890123.4567890123"), Some("-0.0000000001")],
        );
        let wide = Decimal256Array::from(vec![
            i256::from_string("1234567890123456789012345678901234567890123").expect("digits"),
        ]);
        check(
            Arc::new(wide.with_precision_and_scale(76, 3).expect("it fits")),
            &[Some("1234567890123456789012345678901234567890.123")],
        );
        check(
            Arc::new(TimestampNanosecondArray::from(vec![1_000_000_001]).with_timezone("+02:00")),
            &[Some("1970-01-01T02:00:01.000000001+02:00")],
        );
        check(
            Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])),
            &[Some("9223372036854775807 µs since 1970-01-01")],
        );
        check(
            Arc::new(Date32Array::from(vec![Some(-719_528), Some(i32::MAX), None])),
            &[Some("0000-01-01"), Some("2147483647 days since 1970-01-01"), None],
        );
        check(
            Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""])),
            &[Some("00ff"), Some("")],
        );
        check(
            Arc::new(StringArray::from(vec![Some("NULL"), None, Some("")])),
            &[Some("NULL"), None, Some("")],
        );
        check(Arc::new(NullArray::new(1)), &[None]);
    }

    #[test]
    fn what_is_nested_is_json() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a, b"), None, Some("NULL")]);
        lists.append_null();
        lists.append_value(Vec::<Option<&str>>::new());
        let found = texts(Arc::new(lists.finish()), HashMap::new());
        assert_eq!(
            found,
            [Some("[\"a, b\",null,\"NULL\"]".to_owned()), None, Some("[]".to_owned())]
        );

        let mut numbers = Int32Builder::new();
        numbers.append_value(1);
        let numbers: ArrayRef = Arc::new(numbers.finish());
        let structs = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int32, true)), numbers)]);
        assert_eq!(texts(Arc::new(structs), HashMap::new()), [Some("{\"n\":1}".to_owned())]);
    }

    #[test]
    fn a_uuid_has_its_usual_form() {
        let bytes: Vec<u8> = (0..16).collect();
        let array = FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes)).expect("sixteen bytes");
        let metadata = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
        let found = texts(Arc::new(array), metadata);
        assert_eq!(found, [Some("00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned())]);
    }
}
