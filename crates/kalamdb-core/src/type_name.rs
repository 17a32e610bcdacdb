//! Arrow types in SQL's words: DESCRIBE, `system.table_schemas`, messages. CREATE TABLE takes those that SQL has words for as they are
//! printed here.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// The field metadata key of Arrow's extension types.
pub(crate) const EXTENSION_NAME: &str = "ARROW:extension:name";
/// Text that is validated JSON.
pub(crate) const JSON_EXTENSION: &str = "arrow.json";
/// Sixteen bytes that are a UUID.
const UUID_EXTENSION: &str = "arrow.uuid";

/// A type's name; types that SQL has no word for have Arrow's.
pub(crate) fn type_name(data_type: &DataType, metadata: &HashMap<String, String>) -> String {
    match metadata.get(EXTENSION_NAME).map(String::as_str) {
        Some(JSON_EXTENSION) => return "JSON".to_owned(),
        Some(UUID_EXTENSION) => return "UUID".to_owned(),
        Some(_) | None => {}
    }
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INTEGER UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float16 => "HALF".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 => "TEXT".to_owned(),
        DataType::Binary => "BYTEA".to_owned(),
        DataType::FixedSizeBinary(bytes) => format!("BINARY({bytes})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(*unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(zone)) if zone.as_ref() == "UTC" => {
            format!("TIMESTAMP({}) WITH TIME ZONE", digits(*unit))
        }
        DataType::Timestamp(unit, Some(zone)) => format!("TIMESTAMP({}) WITH TIME ZONE '{zone}'", digits(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "INTERVAL DAY TO SECOND".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "INTERVAL".to_owned(),
        DataType::List(element) => format!("{}[]", field_type_name(element)),
        DataType::FixedSizeList(element, length) => format!("{}[{length}]", field_type_name(element)),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", identifier(field.name()), field_type_name(field)))
                .collect();
            format!("STRUCT({})", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP({}, {})", field_type_name(&fields[0]), field_type_name(&fields[1]))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// The name of a field's type in SQL's words, such as `BIGINT`, `DECIMAL(10, 2)` or `TEXT[]`.
pub fn field_type_name(field: &Field) -> String {
    type_name(field.data_type(), field.metadata())
}

/// A name as SQL reads it back: in quotes if it would fold or not be read as one word.
fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Digits of a second's fraction.
fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}
