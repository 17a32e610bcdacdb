//! JSON parameters as Arrow values: numbers exactly as written, strings by the type that the statement expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal256Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, UInt64Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, Schema, SchemaRef, i256};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::{Parameters, exactly};
use serde_json::value::RawValue;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One row of parameters; `expected` has the statement's parameters, `$1` first, and `zone` is the session's time zone.
///
/// # Errors
/// INVALID_ARGUMENT for a wrong number of them, TYPE_MISMATCH naming the parameter.
pub(crate) fn parameters(values: &[Box<RawValue>], expected: &SchemaRef, zone: &Arc<str>) -> Result<Parameters> {
    let wanted = expected.fields();
    if values.len() != wanted.len() {
        let message = format!(
            "the statement takes {} parameters, but params has {}",
            wanted.len(),
            values.len()
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    let mut fields = Vec::with_capacity(values.len());
    let mut columns = Vec::with_capacity(values.len());
    for (index, (value, expected)) in values.iter().zip(wanted).enumerate() {
        let column = scalar(value, expected, zone)
            .map_err(|reason| Error::new(ErrorCode::TypeMismatch, format!("parameter ${}: {reason}", index + 1)))?;
        fields.push(Field::new(format!("${}", index + 1), column.data_type().clone(), true));
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("parameters do not make a row: {error}")))?;
    Ok(Parameters { batch: Some(batch) })
}

/// An array of the one value, of the type that holds it exactly; casting to the expected type is the statement's matter.
fn scalar(value: &RawValue, expected: &Field, zone: &Arc<str>) -> Result<ArrayRef, String> {
    let text = value.get();
    let array: ArrayRef = match text.as_bytes().first() {
        // Of no type, so that it decides nothing about a parameter of which the statement tells nothing.
        None | Some(b'n') => new_null_array(&DataType::Null, 1),
        Some(b't') => Arc::new(BooleanArray::from(vec![true])),
        Some(b'f') => Arc::new(BooleanArray::from(vec![false])),
        Some(b'"') => string(&parse::<String>(text)?, expected)?,
        Some(b'[') => match expected.data_type() {
            DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                list(&parse::<Vec<&RawValue>>(text)?, element, zone)?
            }
            DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
            _ => return Err("an array stands where a single value is expected".to_owned()),
        },
        Some(b'{') => match expected.data_type() {
            DataType::Struct(fields) => {
                let members = parse::<BTreeMap<String, &RawValue>>(text)?;
                if let Some(unknown) = members
                    .keys()
                    .find(|name| !fields.iter().any(|field| field.name() == *name))
                {
                    return Err(format!("the struct has no field {unknown}"));
                }
                let mut columns = Vec::with_capacity(fields.len());
                for field in fields {
                    columns.push(match members.get(field.name()) {
                        Some(value) => fitted(&scalar(value, field, zone)?, field, zone)?,
                        None => new_null_array(field.data_type(), 1),
                    });
                }
                Arc::new(StructArray::try_new(fields.clone(), columns, None).map_err(|error| error.to_string())?)
            }
            DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
            DataType::Map(..) => {
                return Err("maps cannot be parameters yet; write the map in the SQL text".to_owned());
            }
            _ => return Err("an object stands where a single value is expected".to_owned()),
        },
        Some(_) => number(text, expected.data_type())?,
    };
    Ok(array)
}

/// Binary travels as base64, everything else as its text.
fn string(text: &str, expected: &Field) -> Result<ArrayRef, String> {
    match expected.data_type() {
        DataType::FixedSizeBinary(16) if text.len() == 36 => {
            let hex: String = text.split('-').collect();
            let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
                .map(|index| u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok())
                .collect();
            let bytes = bytes
                .filter(|bytes| bytes.len() == 16)
                .ok_or_else(|| format!("'{text}' is no UUID"))?;
            let array =
                FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes)).map_err(|error| error.to_string())?;
            Ok(Arc::new(array))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = BASE64
                .decode(text)
                .map_err(|_| "binary values are base64 text, and this is none".to_owned())?;
            Ok(Arc::new(BinaryArray::from(vec![bytes.as_slice()])))
        }
        _ => Ok(Arc::new(StringArray::from(vec![text]))),
    }
}

fn list(values: &[&RawValue], element: &FieldRef, zone: &Arc<str>) -> Result<ArrayRef, String> {
    let mut elements = Vec::with_capacity(values.len());
    for value in values {
        elements.push(fitted(&scalar(value, element, zone)?, element, zone)?);
    }
    let parts: Vec<&dyn Array> = elements.iter().map(AsRef::as_ref).collect();
    let joined = if parts.is_empty() {
        new_null_array(element.data_type(), 0)
    } else {
        concat(&parts).map_err(|error| error.to_string())?
    };
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    let list = ListArray::try_new(Arc::clone(element), offsets, joined, None).map_err(|error| error.to_string())?;
    Ok(Arc::new(list))
}

/// Members of nested values have to have their exact type; they get it as a whole value would.
fn fitted(value: &ArrayRef, field: &Field, zone: &Arc<str>) -> Result<ArrayRef, String> {
    exactly(value, field, zone)
        .map_err(|_| format!("a value does not fit {} of type {}", field.name(), field.data_type()))
}

/// Integers as integers; fractions as floats where one is expected, else as the decimals they are.
fn number(text: &str, expected: &DataType) -> Result<ArrayRef, String> {
    if let Ok(value) = text.parse::<i64>() {
        return Ok(Arc::new(Int64Array::from(vec![value])));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Ok(Arc::new(UInt64Array::from(vec![value])));
    }
    let whole = !text.contains(['.', 'e', 'E']);
    let is_decimal = matches!(
        expected,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    );
    if (whole || !expected.is_floating())
        && let Some(exact) = decimal(text)
    {
        return Ok(exact);
    }
    if whole || is_decimal {
        return Err(format!("{text} has more digits than a DECIMAL can hold"));
    }
    if *expected == DataType::Float32 {
        // Read at once: by way of a double it would be rounded twice.
        let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| format!("{text} is beyond the range of a REAL"))?;
        return Ok(Arc::new(Float32Array::from(vec![value])));
    }
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
    let value = value.ok_or_else(|| format!("{text} is beyond the range of a DOUBLE"))?;
    Ok(Arc::new(Float64Array::from(vec![value])))
}

/// The exact decimal of a JSON number.
fn decimal(text: &str) -> Option<ArrayRef> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let mut digits = format!("{whole}{fraction}");
    let limit = usize::from(DECIMAL256_MAX_PRECISION);
    while scale < 0 && digits.len() <= limit {
        digits.push('0');
        scale += 1;
    }
    let significant = digits.trim_start_matches('-').trim_start_matches('0').len();
    let precision = significant.max(usize::try_from(scale).ok()?).max(1);
    if scale < 0 || precision > limit {
        return None;
    }
    let value = i256::from_string(&digits)?;
    let array = Decimal256Array::from(vec![value])
        .with_precision_and_scale(u8::try_from(precision).ok()?, i8::try_from(scale).ok()?)
        .ok()?;
    Some(Arc::new(array))
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Fields;
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn one(json: &str, expected: DataType) -> Result<(String, DataType)> {
        let values: Vec<Box<RawValue>> = serde_json::from_str(&format!("[{json}]")).expect("JSON");
        let schema = Arc::new(Schema::new(vec![Field::new("p", expected, true)]));
        let column = Arc::clone(
            parameters(&values, &schema, &"UTC".into())?
                .batch
                .expect("a batch")
                .column(0),
        );
        let text = array_value_to_string(&column, 0).expect("text");
        Ok((
            if column.is_null(0) || column.data_type().is_null() {
                "NULL".to_owned()
            } else {
                text
            },
            column.data_type().clone(),
        ))
    }

    #[test]
    fn values_are_exact() {
        let check = |json: &str, expected: DataType, text: &str, data_type: DataType| {
            assert_eq!(one(json, expected), Ok((text.to_owned(), data_type)), "{json}");
        };
        check("null", DataType::Date32, "NULL", DataType::Null);
        check("true", DataType::Boolean, "true", DataType::Boolean);
        check(
            "9223372036854775807",
            DataType::Int64,
            "9223372036854775807",
            DataType::Int64,
        );
        check(
            "18446744073709551615",
            DataType::UInt64,
            "18446744073709551615",
            DataType::UInt64,
        );
        check(
            "18446744073709551616",
            DataType::Utf8,
            "18446744073709551616",
            DataType::Decimal256(20, 0),
        );
        check("1.10", DataType::Decimal128(10, 2), "1.10", DataType::Decimal256(3, 2));
        check(
            "-0.001",
            DataType::Decimal128(10, 3),
            "-0.001",
            DataType::Decimal256(3, 3),
        );
        check("12e2", DataType::Decimal128(10, 2), "1200", DataType::Decimal256(4, 0));
        check(
            "12345678901234567890.0123456789",
            DataType::Decimal128(38, 10),
            "12345678901234567890.0123456789",
            DataType::Decimal256(30, 10),
        );
        check("0.5", DataType::Float64, "0.5", DataType::Float64);
        check("0.1", DataType::Float32, "0.1", DataType::Float32);
        check("1.50", DataType::Utf8, "1.50", DataType::Decimal256(3, 2));
        check(
            "9007199254740993.0",
            DataType::Int64,
            "9007199254740993.0",
            DataType::Decimal256(17, 1),
        );
        check("1e-300", DataType::Utf8, "1e-300", DataType::Float64);
        check("\"2026-01-02\"", DataType::Date32, "2026-01-02", DataType::Utf8);
        check("\"AP8=\"", DataType::Binary, "00ff", DataType::Binary);
        check("\"AP8\"", DataType::Binary, "00ff", DataType::Binary);
        check("{\"a\": [1]}", DataType::Utf8, "{\"a\": [1]}", DataType::Utf8);
        let uuid = "\"00010203-0405-0607-0809-0a0b0c0d0e0f\"";
        check(
            uuid,
            DataType::FixedSizeBinary(16),
            "000102030405060708090a0b0c0d0e0f",
            DataType::FixedSizeBinary(16),
        );
        let list = DataType::new_list(DataType::Int32, true);
        check("[1, null, 3]", list.clone(), "[1, , 3]", list.clone());
        check("[]", list.clone(), "[]", list);
        let record = DataType::Struct(Fields::from(vec![
            Field::new("a", DataType::Int16, true),
            Field::new("b", DataType::Utf8, true),
        ]));
        check("{\"b\":\"x\"}", record.clone(), "{a: , b: x}", record);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |json: &str, expected: DataType, part: &str| {
            let error = one(json, expected).expect_err(json);
            assert!(error.message.contains(part), "'{}' lacks '{part}'", error.message);
        };
        check("\"?\"", DataType::Binary, "parameter $1: binary values are base64");
        check("1e999", DataType::Float64, "beyond the range");
        check("1e39", DataType::Float32, "beyond the range of a REAL");
        check("1e999", DataType::Decimal128(38, 0), "more digits");
        check("[1]", DataType::Int64, "an array stands where");
        check("{}", DataType::Int64, "an object stands where");
        check("[70000]", DataType::new_list(DataType::Int16, true), "$1");
        let decimals = DataType::new_list(DataType::Decimal128(10, 2), true);
        check("[1.25, 1.005]", decimals.clone(), "does not fit item");
        check("[\"1.005\"]", decimals, "does not fit item");
        check("1,2", DataType::Int64, "takes 1 parameters, but params has 2");
    }
}
