//! Values into the type of a column or parameter, as INSERT does it: exactly, or TYPE_MISMATCH. Nothing wraps, and nothing
//! becomes NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryBuilder, LargeBinaryBuilder, StringArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use kalamdb_core::{Column, Error, ErrorCode, Result};

use crate::definition::type_name;
use crate::extension_types::{self, ExtensionType};
use crate::literals::{bytea, fixed_binary};
use crate::planning::plain_type;

/// How much of a value an error message repeats, characters.
const SHOWN_VALUE: usize = 60;

/// Where values go.
pub(crate) struct Target<'a> {
    data_type: &'a DataType,
    is_json: bool,
    name: Name<'a>,
}

enum Name<'a> {
    Column(&'a Column),
    Parameter(&'a str),
}

impl<'a> Target<'a> {
    /// A column of a table.
    pub(crate) fn column(column: &'a Column) -> Self {
        let is_json = ExtensionType::of(&column.metadata) == Some(ExtensionType::Json);
        Target {
            data_type: &column.data_type,
            is_json,
            name: Name::Column(column),
        }
    }

    /// A parameter of a statement.
    pub(crate) fn parameter(field: &'a Field) -> Self {
        Target {
            data_type: field.data_type(),
            is_json: ExtensionType::of(field.metadata()) == Some(ExtensionType::Json),
            name: Name::Parameter(field.name()),
        }
    }

    fn describe(&self) -> String {
        match self.name {
            Name::Column(column) => format!("column {} ({})", column.name, type_name(column)),
            Name::Parameter(name) => format!("parameter {name} ({})", self.data_type),
        }
    }
}

/// The values in the target's type.
///
/// # Errors
/// TYPE_MISMATCH names the target and, where it is about one, the value.
pub(crate) fn assign(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    let assigned = convert(values, target)?;
    if target.is_json {
        check_json(&assigned, target)?;
    }
    Ok(assigned)
}

fn convert(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    let to = target.data_type;
    let plain = plain_type(values.data_type());
    let values = if plain == *values.data_type() {
        Arc::clone(values)
    } else {
        cast(values, &plain, target)?
    };
    let from = values.data_type();
    if from == to {
        return Ok(values);
    }
    // Text is also what DataFusion makes of a bare NULL beside rows that have no type for it.
    if *from == DataType::Null || (*from == DataType::Utf8 && values.null_count() == values.len()) {
        return Ok(new_null_array(to, values.len()));
    }
    match (from, to) {
        (DataType::Utf8, _) => from_text(&values, target),
        (DataType::LargeUtf8, _) => from_text(&cast(&values, &DataType::Utf8, target)?, target),
        _ if !assignable(from, to) => Err(Error::new(
            ErrorCode::TypeMismatch,
            format!(
                "{} takes no {from}; write CAST(… AS …) if that is meant",
                target.describe()
            ),
        )),
        _ => {
            let assigned = cast(&values, to, target)?;
            refuse_new_nulls(&values, &assigned, target)?;
            if loses(from, to) {
                refuse_changes(&values, &assigned, target)?;
            }
            Ok(assigned)
        }
    }
}

/// Whether a value of one type may go into a column of the other without an explicit cast, as PostgreSQL has it.
fn assignable(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let binary = |data_type: &T| matches!(data_type, T::Binary | T::LargeBinary | T::FixedSizeBinary(_));
    let text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8);
    let decimal = |data_type: &T| {
        matches!(
            data_type,
            T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..)
        )
    };
    let number = |data_type: &T| data_type.is_integer() || data_type.is_floating() || decimal(data_type);
    match (from, to) {
        (from, to) if number(from) && number(to) => true,
        (from, to) if binary(from) && binary(to) => true,
        (from, to) if text(to) => number(from) || from.is_temporal() || *from == T::Boolean || *from == T::Utf8View,
        (T::Timestamp(..), T::Timestamp(..) | T::Date32 | T::Date64)
        | (T::Date32 | T::Date64, T::Timestamp(..) | T::Date32 | T::Date64) => true,
        (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Duration(_), T::Duration(_)) | (T::Interval(_), T::Interval(_)) | (T::Duration(_), T::Interval(_)) => true,
        (from, to) => from.is_nested() && to.is_nested(),
    }
}

/// Whether the cast may drop a part of a value without saying so. Into floats and out of them into decimals, the nearest value
/// is what is meant.
fn loses(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (from, to) if to.is_integer() => !from.is_integer(),
        (T::Timestamp(from, _), T::Timestamp(to, _))
        | (T::Time32(from) | T::Time64(from), T::Time32(to) | T::Time64(to)) => finer(from, to),
        (T::Duration(from), T::Duration(to)) => finer(from, to),
        _ => false,
    }
}

fn finer(from: &TimeUnit, to: &TimeUnit) -> bool {
    let rank = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    rank(from) > rank(to)
}

fn cast(values: &ArrayRef, to: &DataType, target: &Target<'_>) -> Result<ArrayRef> {
    // Safe: what does not fit becomes NULL, which `refuse_new_nulls` then finds and names.
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    cast_with_options(values, to, &options).map_err(|_| {
        Error::new(
            ErrorCode::TypeMismatch,
            format!("{} takes no {}", target.describe(), values.data_type()),
        )
    })
}

fn refuse_new_nulls(values: &ArrayRef, assigned: &ArrayRef, target: &Target<'_>) -> Result<()> {
    if assigned.null_count() == values.null_count() {
        return Ok(());
    }
    let lost = (0..values.len()).find(|row| values.is_valid(*row) && assigned.is_null(*row));
    lost.map_or(Ok(()), |row| Err(misfit(values, row, target)))
}

/// Compares with the values cast back.
fn refuse_changes(values: &ArrayRef, assigned: &ArrayRef, target: &Target<'_>) -> Result<()> {
    let back = cast(assigned, values.data_type(), target)?;
    let (values_data, back_data) = (values.to_data(), back.to_data());
    if values_data == back_data {
        return Ok(());
    }
    let changed = (0..values.len()).find(|row| values_data.slice(*row, 1) != back_data.slice(*row, 1));
    changed.map_or(Ok(()), |row| Err(misfit(values, row, target)))
}

fn misfit(values: &ArrayRef, row: usize, target: &Target<'_>) -> Error {
    let shown = match ArrayFormatter::try_new(values.as_ref(), &FormatOptions::default()) {
        Ok(formatter) => {
            let text = formatter.value(row).to_string();
            if text.chars().count() > SHOWN_VALUE {
                format!("{}…", text.chars().take(SHOWN_VALUE).collect::<String>())
            } else {
                text
            }
        }
        Err(_) => "a value".to_owned(),
    };
    let quote = if values.data_type() == &DataType::Utf8 { "'" } else { "" };
    Error::new(
        ErrorCode::TypeMismatch,
        format!(
            "{quote}{shown}{quote} (row {}) does not fit {}",
            row + 1,
            target.describe()
        ),
    )
}

fn from_text(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    use DataType as T;
    let texts = values.as_string::<i32>();
    let assigned: ArrayRef = match target.data_type {
        T::Binary => {
            let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
            for text in texts {
                builder.append_option(text.and_then(bytea));
            }
            Arc::new(builder.finish())
        }
        T::LargeBinary => {
            let mut builder = LargeBinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
            for text in texts {
                builder.append_option(text.and_then(bytea));
            }
            Arc::new(builder.finish())
        }
        T::FixedSizeBinary(size) => {
            let mut builder = FixedSizeBinaryBuilder::with_capacity(texts.len(), *size);
            for text in texts {
                match text.and_then(|text| fixed_binary(text, *size)) {
                    Some(bytes) => builder
                        .append_value(bytes)
                        .map_err(|error| crate::diagnostics::from_arrow(&error))?,
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        T::Decimal32(_, scale) | T::Decimal64(_, scale) | T::Decimal128(_, scale) | T::Decimal256(_, scale) => {
            let plain = rewrite(texts, |text| {
                plain_number(text).filter(|number| fraction_digits(number) <= i32::from(*scale))
            });
            cast(&plain, target.data_type, target)?
        }
        to if to.is_integer() => {
            let whole = rewrite(texts, |text| plain_number(text).filter(|number| !number.contains('.')));
            cast(&whole, target.data_type, target)?
        }
        T::Timestamp(unit, _) if *unit != TimeUnit::Nanosecond => {
            let assigned = cast(values, target.data_type, target)?;
            // Read with nanoseconds too, where those reach: digits below the column's unit would be dropped silently.
            let zone = if let T::Timestamp(_, zone) = target.data_type {
                zone.clone()
            } else {
                None
            };
            let exact = cast(values, &T::Timestamp(TimeUnit::Nanosecond, zone), target)?;
            let coarse = cast(&assigned, exact.data_type(), target)?;
            let (exact_data, coarse_data) = (exact.to_data(), coarse.to_data());
            if exact_data != coarse_data {
                let lossy = (0..values.len()).find(|row| {
                    exact.is_valid(*row)
                        && coarse.is_valid(*row)
                        && exact_data.slice(*row, 1) != coarse_data.slice(*row, 1)
                });
                if let Some(row) = lossy {
                    return Err(misfit(values, row, target));
                }
            }
            assigned
        }
        T::Float16 | T::Float32 | T::Float64 | T::Boolean => {
            let trimmed = rewrite(texts, |text| Some(text.trim().to_owned()));
            cast(&trimmed, target.data_type, target)?
        }
        _ => cast(values, target.data_type, target)?,
    };
    refuse_new_nulls(values, &assigned, target)?;
    Ok(assigned)
}

fn rewrite(texts: &StringArray, each: impl Fn(&str) -> Option<String>) -> ArrayRef {
    Arc::new(texts.iter().map(|text| text.and_then(&each)).collect::<StringArray>())
}

/// A number in digits without exponent, and without zeros that say nothing; `None` if it is no number or absurdly long.
fn plain_number(text: &str) -> Option<String> {
    /// More zeros than any column type holds digits.
    const MOST_SHIFT: i64 = 400;
    let text = text.trim();
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((digits, exponent)) => (
            digits,
            exponent.parse::<i64>().ok().filter(|shift| shift.abs() <= MOST_SHIFT)?,
        ), // No number.
        None => (unsigned, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + exponent; // A text is never that long.
    let (whole, fraction) = if point <= 0 {
        (
            String::new(),
            format!("{}{all}", "0".repeat(usize::try_from(-point).ok()?)),
        ) // Bounded above.
    } else {
        let point = usize::try_from(point).ok()?; // Positive here.
        if point >= all.len() {
            (format!("{all}{}", "0".repeat(point - all.len())), String::new())
        } else {
            (all[..point].to_owned(), all[point..].to_owned())
        }
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

fn fraction_digits(number: &str) -> i32 {
    number
        .split_once('.')
        .map_or(0, |(_, fraction)| i32::try_from(fraction.len()).unwrap_or(i32::MAX))
}

fn check_json(values: &ArrayRef, target: &Target<'_>) -> Result<()> {
    let texts = match values.data_type() {
        DataType::Utf8 => Arc::clone(values),
        _ => cast(values, &DataType::Utf8, target)?,
    };
    let texts = texts.as_string::<i32>();
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text else { continue };
        if let Err(error) = extension_types::check_json(text) {
            return Err(Error::new(
                ErrorCode::TypeMismatch,
                format!(
                    "row {}: {} takes JSON, and this is none: {error}",
                    row + 1,
                    target.describe()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, TimestampNanosecondArray};

    fn check(values: impl Array + 'static, to: DataType, expected: Result<&str, ErrorCode>) {
        let field = Field::new("$1", to, true);
        let values: ArrayRef = Arc::new(values);
        let outcome = assign(&values, &Target::parameter(&field));
        match (outcome, expected) {
            (Ok(array), Ok(shown)) => {
                assert_eq!(array.data_type(), field.data_type());
                let formatter =
                    ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default()).expect("a plain type");
                assert_eq!(formatter.value(0).to_string(), shown);
            }
            (Err(error), Err(code)) => assert_eq!(error.code, code, "{error}"),
            (outcome, expected) => panic!("{outcome:?}, not {expected:?}"),
        }
    }

    fn text(text: &str) -> StringArray {
        StringArray::from(vec![text])
    }

    #[test]
    fn text_reaches_its_type_exactly() {
        let mismatch = Err(ErrorCode::TypeMismatch);
        check(
            text("12345678901234567890.0123456789"),
            DataType::Decimal128(38, 10),
            Ok("12345678901234567890.0123456789"),
        );
        check(text("1.10"), DataType::Decimal128(3, 1), Ok("1.1"));
        check(text("1.15"), DataType::Decimal128(3, 1), mismatch);
        check(text("1234"), DataType::Decimal128(3, 1), mismatch);
        check(text("1.5e2"), DataType::Int32, Ok("150"));
        check(text("1.5"), DataType::Int32, mismatch);
        check(text("300"), DataType::Int8, mismatch);
        check(text("-1"), DataType::UInt8, mismatch);
        check(
            text("18446744073709551615"),
            DataType::UInt64,
            Ok("18446744073709551615"),
        );
        check(text("x"), DataType::Int64, mismatch);
        check(text("\\x00ff"), DataType::Binary, Ok("00ff"));
        check(text("\\x0"), DataType::Binary, mismatch);
        check(text("2024-02-30"), DataType::Date32, mismatch);
        check(text("2024-02-29"), DataType::Date32, Ok("2024-02-29"));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        check(
            text("2024-01-01 00:00:00.123456"),
            micros.clone(),
            Ok("2024-01-01T00:00:00.123456"),
        );
        check(text("2024-01-01 00:00:00.1234567"), micros, mismatch);
        check(
            text("00112233-4455-6677-8899-aabbccddeeff"),
            DataType::FixedSizeBinary(16),
            Ok("00112233445566778899aabbccddeeff"),
        );
        check(text("not a uuid"), DataType::FixedSizeBinary(16), mismatch);
    }

    #[test]
    fn numbers_are_not_wrapped_or_cut() {
        let mismatch = Err(ErrorCode::TypeMismatch);
        check(Int64Array::from(vec![1 << 40]), DataType::Int32, mismatch);
        check(Int64Array::from(vec![7]), DataType::Int32, Ok("7"));
        check(Int64Array::from(vec![7]), DataType::Boolean, mismatch);
        check(Int64Array::from(vec![7]), DataType::Date32, mismatch);
        check(Float64Array::from(vec![1.5]), DataType::Int32, mismatch);
        check(Float64Array::from(vec![2.0]), DataType::Int32, Ok("2"));
        check(Float64Array::from(vec![1.006]), DataType::Decimal128(10, 2), Ok("1.01"));
        let decimal = Decimal128Array::from(vec![150])
            .with_precision_and_scale(10, 2)
            .expect("valid");
        check(decimal, DataType::Int32, mismatch);
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        check(TimestampNanosecondArray::from(vec![1_500]), micros.clone(), mismatch);
        check(
            TimestampNanosecondArray::from(vec![2_000]),
            micros,
            Ok("1970-01-01T00:00:00.000002"),
        );
    }

    #[test]
    fn a_null_stays_a_null() {
        let field = Field::new("$1", DataType::Int32, true);
        let values: ArrayRef = Arc::new(StringArray::from(vec![None, Some("1")]));
        let assigned = assign(&values, &Target::parameter(&field)).expect("fits");
        assert_eq!(assigned.null_count(), 1);
    }
}
