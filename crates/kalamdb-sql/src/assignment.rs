//! Values into the type of a column or parameter, as every write does it: exactly, or TYPE_MISMATCH. Nothing wraps, nothing is
//! rounded, and nothing becomes NULL.
//!
//! One rule for literals, parameters, queries, DEFAULTs and loads (docs/sql.md has it for users): REAL and DOUBLE take the nearest
//! value, all other types the same value or none. A float is the shortest decimal number that names it, the one it is shown as.

mod nested;
mod text;

pub(crate) use text::{plain_number, with_seconds};

use std::sync::Arc;

use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use kalamdb_core::{Column, Error, ErrorCode, Result};

use crate::definition::{data_type_name, type_name};
use crate::diagnostics::far_year;
use crate::extension_types::{self, ExtensionType};
use crate::planned::plain_type;
use crate::time_zones::cast_in_zone;

/// How much of a value an error message repeats, characters.
const SHOWN_VALUE: usize = 60;

/// Where values go.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    data_type: &'a DataType,
    is_json: bool,
    name: Name<'a>,
    /// In which texts without an offset and local times are read, and moments written.
    zone: &'a Arc<str>,
    depth: Depth,
    /// Stands before and after a text that does not fit.
    quote: &'static str,
}

#[derive(Clone, Copy)]
enum Name<'a> {
    Column(&'a Column),
    Parameter(&'a Field),
}

#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Whole,
    /// A part of a list, struct or map.
    Part,
}

impl<'a> Target<'a> {
    /// A column of a table, in a session of that time zone.
    pub(crate) fn column(column: &'a Column, zone: &'a Arc<str>) -> Self {
        let is_json = ExtensionType::of(&column.metadata) == Some(ExtensionType::Json);
        Target {
            data_type: &column.data_type,
            is_json,
            name: Name::Column(column),
            zone,
            depth: Depth::Whole,
            quote: "'",
        }
    }

    /// The same for texts that the statement writes without quotes: numbers and words.
    pub(crate) fn of_words(self) -> Self {
        Target { quote: "", ..self }
    }

    /// A parameter of a statement, in a session of that time zone.
    pub(crate) fn parameter(field: &'a Field, zone: &'a Arc<str>) -> Self {
        Target {
            data_type: field.data_type(),
            is_json: ExtensionType::of(field.metadata()) == Some(ExtensionType::Json),
            name: Name::Parameter(field),
            zone,
            depth: Depth::Whole,
            quote: "'",
        }
    }

    fn part(&self, field: &'a Field) -> Self {
        Target {
            data_type: field.data_type(),
            is_json: ExtensionType::of(field.metadata()) == Some(ExtensionType::Json),
            depth: Depth::Part,
            ..*self
        }
    }

    /// What to do about values of another type.
    fn advice(&self) -> String {
        match self.name {
            Name::Parameter(field) if field.name().starts_with('$') => {
                let name = field.name();
                format!("; bind a value of that type, or write CAST({name} AS …) for one of another type")
            }
            Name::Parameter(_) => String::new(),
            Name::Column(_) => "; write CAST(… AS …) if that is meant".to_owned(),
        }
    }

    fn describe(&self) -> String {
        let whole = match self.name {
            Name::Column(column) => format!("column {} ({})", column.name, type_name(column)),
            Name::Parameter(field) => format!("parameter {} ({})", field.name(), data_type_name(field.data_type())),
        };
        match self.depth {
            Depth::Whole => whole,
            Depth::Part if self.is_json => format!("JSON in {whole}"),
            Depth::Part => format!("{} in {whole}", data_type_name(self.data_type)),
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
    if let DataType::Time32(unit) | DataType::Time64(unit) = target.data_type {
        check_times(values, &assigned, *unit, target)?;
    }
    Ok(assigned)
}

/// Values into the type of a field, by the rule of assignment, in a session of that time zone.
///
/// # Errors
/// TYPE_MISMATCH names the field and, where it is about one, the value.
pub fn exactly(values: &ArrayRef, field: &Field, zone: &Arc<str>) -> Result<ArrayRef> {
    assign(values, &Target::parameter(field, zone))
}

fn convert(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    use DataType as T;
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
    if *from == T::Null || (*from == T::Utf8 && values.null_count() == values.len()) {
        return Ok(new_null_array(to, values.len()));
    }
    match (from, to) {
        (T::Utf8, _) => text::assign(&values, target),
        (T::LargeUtf8, _) => text::assign(&cast(&values, &T::Utf8, target)?, target),
        (from, to) if from.is_nested() && to.is_nested() => nested::assign(&values, target),
        _ if !assignable(from, to) => Err(takes_no(from, target)),
        (from, to) if from.is_floating() && is_decimal(to) => {
            let assigned = text::numbers(&cast(&values, &T::Utf8, target)?, target)?;
            refuse_new_nulls(&values, &assigned, target)?;
            Ok(assigned)
        }
        _ => {
            let assigned = match (from, to) {
                // Arrow divides two floats, which may miss the nearest.
                (from, to) if is_decimal(from) && to.is_floating() => {
                    cast(&cast(&values, &T::Utf8, target)?, to, target)?
                }
                _ => cast(&values, to, target)?,
            };
            refuse_new_nulls(&values, &assigned, target)?;
            if loses(from, to) {
                refuse_changes(&values, &assigned, target)?;
            }
            if to.is_floating() {
                let given = cast(&values, &T::Float64, target)?;
                let given = given.as_primitive::<Float64Type>();
                refuse_overflow(&values, &assigned, |row| given.value(row).is_infinite(), target)?;
            }
            Ok(assigned)
        }
    }
}

fn takes_no(from: &DataType, target: &Target<'_>) -> Error {
    Error::new(
        ErrorCode::TypeMismatch,
        format!(
            "{} takes no {}{}",
            target.describe(),
            data_type_name(from),
            target.advice()
        ),
    )
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(
        data_type,
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..)
    )
}

/// Whether a value of one type may go into a column of the other without an explicit cast, as PostgreSQL has it.
fn assignable(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let binary = |data_type: &T| matches!(data_type, T::Binary | T::LargeBinary | T::FixedSizeBinary(_));
    let text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8);
    let number = |data_type: &T| data_type.is_integer() || data_type.is_floating() || is_decimal(data_type);
    match (from, to) {
        (from, to) if number(from) && number(to) => true,
        (from, to) if binary(from) && binary(to) => true,
        (from, to) if text(to) => number(from) || from.is_temporal() || *from == T::Boolean || *from == T::Utf8View,
        (T::Timestamp(..), T::Timestamp(..) | T::Date32 | T::Date64)
        | (T::Date32 | T::Date64, T::Timestamp(..) | T::Date32 | T::Date64) => true,
        (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Duration(_), T::Duration(_)) | (T::Interval(_), T::Interval(_)) | (T::Duration(_), T::Interval(_)) => true,
        _ => false,
    }
}

/// Whether the cast may drop a part of a value without saying so. Into floats the nearest value is what is meant.
fn loses(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (from, to) if to.is_integer() => !from.is_integer(),
        (from, to) if is_decimal(from) && is_decimal(to) => scale(from) > scale(to),
        (T::Timestamp(from, _), T::Timestamp(to, _))
        | (T::Time32(from) | T::Time64(from), T::Time32(to) | T::Time64(to)) => finer(from, to),
        (T::Timestamp(..) | T::Date64, T::Date32 | T::Date64) => true,
        (T::Date64, T::Timestamp(to, _)) => finer(&TimeUnit::Millisecond, to),
        (T::Duration(from), T::Duration(to)) => finer(from, to),
        _ => false,
    }
}

fn scale(data_type: &DataType) -> Option<i8> {
    use DataType as T;
    match data_type {
        T::Decimal32(_, scale) | T::Decimal64(_, scale) | T::Decimal128(_, scale) | T::Decimal256(_, scale) => {
            Some(*scale)
        }
        _ => None,
    }
}

fn finer(from: &TimeUnit, to: &TimeUnit) -> bool {
    digits(from) > digits(to)
}

/// Digits of a second's fraction.
fn digits(unit: &TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn cast(values: &ArrayRef, to: &DataType, target: &Target<'_>) -> Result<ArrayRef> {
    // Safe: what does not fit becomes NULL, which `refuse_new_nulls` then finds and names.
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    cast_in_zone(values, to, target.zone, &options).map_err(|_| {
        Error::new(
            ErrorCode::TypeMismatch,
            format!(
                "{} takes no {}{}",
                target.describe(),
                data_type_name(values.data_type()),
                target.advice()
            ),
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

/// Refuses times of day that no day has: `23:59:60`, which Arrow reads as 86,400 s, and what a client says is one.
fn check_times(values: &ArrayRef, assigned: &ArrayRef, unit: TimeUnit, target: &Target<'_>) -> Result<()> {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let day = 0..86_400 * per_second;
    let numbers = cast(assigned, &DataType::Int64, target)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let wrong = (0..numbers.len()).find(|row| numbers.is_valid(*row) && !day.contains(&numbers.value(*row)));
    wrong.map_or(Ok(()), |row| Err(misfit(values, row, target)))
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

/// Refuses what became infinite, unless it was.
fn refuse_overflow(
    values: &ArrayRef,
    assigned: &ArrayRef,
    was_infinite: impl Fn(usize) -> bool,
    target: &Target<'_>,
) -> Result<()> {
    let floats = cast(assigned, &DataType::Float64, target)?;
    let floats = floats.as_primitive::<Float64Type>();
    let overflown =
        (0..floats.len()).find(|row| floats.is_valid(*row) && floats.value(*row).is_infinite() && !was_infinite(*row));
    overflown.map_or(Ok(()), |row| Err(misfit(values, row, target)))
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
    let quote = match values.data_type() {
        DataType::Utf8 => target.quote,
        _ => "",
    };
    let hint = match target.data_type {
        DataType::Date32 if !quote.is_empty() => far_year(&shown).unwrap_or_default(),
        _ => String::new(),
    };
    // A part's place among all parts would say nothing.
    let place = match target.depth {
        Depth::Whole => format!(" (row {})", row + 1),
        Depth::Part => String::new(),
    };
    Error::new(
        ErrorCode::TypeMismatch,
        format!(
            "{quote}{shown}{quote}{place} does not fit {}{hint}{}",
            target.describe(),
            match target.name {
                Name::Parameter(_) => target.advice(),
                Name::Column(_) => String::new(),
            }
        ),
    )
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
    use std::f64::consts::PI;

    use arrow::array::types::Int64Type;
    use arrow::array::{
        Decimal128Array, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
        StructArray, Time64MicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::Fields;

    #[track_caller]
    fn check(values: impl Array + 'static, to: DataType, expected: Result<&str, ErrorCode>) {
        check_array(&(Arc::new(values) as ArrayRef), to, expected);
    }

    #[track_caller]
    fn check_array(values: &dyn Array, to: DataType, expected: Result<&str, ErrorCode>) {
        let field = Field::new("$1", to, true);
        let values = arrow::array::make_array(values.to_data());
        let outcome = exactly(&values, &field, &"UTC".into());
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
        check(Float64Array::from(vec![f64::NAN]), DataType::Int32, mismatch);
        check(Float64Array::from(vec![2.0]), DataType::Int32, Ok("2"));
        let decimal = Decimal128Array::from(vec![150])
            .with_precision_and_scale(10, 2)
            .expect("valid");
        check(decimal, DataType::Int32, mismatch);
        let nanos = TimestampNanosecondArray::from(vec![1_000_000_000]);
        check(nanos, DataType::Date32, mismatch);
        let midnight = TimestampNanosecondArray::from(vec![86_400_000_000_000]);
        check(midnight, DataType::Date32, Ok("1970-01-02"));
        let time = Time64MicrosecondArray::from(vec![1_500_000]);
        check(time, DataType::Time32(TimeUnit::Second), mismatch);
        check(
            StringArray::from(vec!["23:59:60"]),
            DataType::Time64(TimeUnit::Microsecond),
            mismatch,
        );
        let time = Time64MicrosecondArray::from(vec![86_400_000_000]);
        check(time, DataType::Time64(TimeUnit::Microsecond), mismatch);
        let time = Time64MicrosecondArray::from(vec![86_399_999_999]);
        check(time, DataType::Time64(TimeUnit::Nanosecond), Ok("23:59:59.999999"));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        check(TimestampNanosecondArray::from(vec![1_500]), micros.clone(), mismatch);
        check(
            TimestampNanosecondArray::from(vec![2_000]),
            micros,
            Ok("1970-01-01T00:00:00.000002"),
        );
    }

    #[test]
    fn a_decimal_column_takes_what_it_can_hold_from_any_source() {
        let cents = DataType::Decimal128(10, 2);
        let decimal = |value, scale| {
            Decimal128Array::from(vec![value])
                .with_precision_and_scale(10, scale)
                .expect("valid")
        };
        for (text, double, real, thousandths, expected) in [
            ("1.25", 1.25, 1.25f32, 1_250, Ok("1.25")),
            // Neither float is this number; both are shown as it.
            ("0.1", 0.1, 0.1, 100, Ok("0.10")),
            ("-7", -7.0, -7.0, -7_000, Ok("-7.00")),
            ("1.005", 1.005, 1.005, 1_005, Err(ErrorCode::TypeMismatch)),
            ("0.001", 0.001, 0.001, 1, Err(ErrorCode::TypeMismatch)),
        ] {
            check(StringArray::from(vec![text]), cents.clone(), expected);
            check(Float64Array::from(vec![double]), cents.clone(), expected);
            check(Float32Array::from(vec![real]), cents.clone(), expected);
            check(decimal(thousandths, 3), cents.clone(), expected);
            let wide: ArrayRef = Arc::new(decimal(thousandths, 3));
            let wide = arrow::compute::cast(&wide, &DataType::Decimal256(40, 5)).expect("a wider type");
            check_array(&wide, cents.clone(), expected);
        }
        let mismatch = Err(ErrorCode::TypeMismatch);
        check(Float64Array::from(vec![0.1 + 0.2]), cents.clone(), mismatch);
        check(Float64Array::from(vec![PI]), cents.clone(), mismatch);
        check(Float64Array::from(vec![1e300]), cents.clone(), mismatch);
        check(Float64Array::from(vec![f64::INFINITY]), cents.clone(), mismatch);
        check(Float64Array::from(vec![f64::NAN]), cents.clone(), mismatch);
        // Rounded, this one would not come back.
        check(decimal(99_999, 4), DataType::Decimal128(2, 1), mismatch);
    }

    #[test]
    fn floats_are_the_nearest_and_never_overflow() {
        let mismatch = Err(ErrorCode::TypeMismatch);
        let (real, double) = (DataType::Float32, DataType::Float64);
        check(text("0.1"), real.clone(), Ok("0.1"));
        check(Float64Array::from(vec![0.1]), real.clone(), Ok("0.1"));
        check(Float64Array::from(vec![1e300]), real.clone(), mismatch);
        check(Float64Array::from(vec![f64::NEG_INFINITY]), real.clone(), Ok("-inf"));
        check(Float64Array::from(vec![f64::NAN]), real.clone(), Ok("NaN"));
        check(text("1e39"), real.clone(), mismatch);
        check(text("1e400"), double.clone(), mismatch);
        check(text("-1e400"), double.clone(), mismatch);
        check(text(" -Infinity "), double.clone(), Ok("-inf"));
        check(Int64Array::from(vec![1 << 40]), DataType::Float16, mismatch);
        check(
            Int64Array::from(vec![9_007_199_254_740_993]),
            double.clone(),
            Ok("9007199254740992.0"),
        );
        // As a quotient of two doubles it would be the one beside it.
        let digits = 123_456_789_012_345_678_901_234_567;
        let decimal = Decimal128Array::from(vec![digits])
            .with_precision_and_scale(38, 26)
            .expect("valid");
        let nearest: f64 = "1.23456789012345678901234567".parse().expect("a number");
        check(decimal, double, Ok(&nearest.to_string()));
    }

    #[test]
    fn times_keep_their_digits_or_are_refused() {
        let mismatch = Err(ErrorCode::TypeMismatch);
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        check(text("3000-01-01 00:00:00.5"), seconds.clone(), mismatch);
        check(text("3000-01-01 00:00:00.000"), seconds, Ok("3000-01-01T00:00:00"));
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        check(text("2000-01-01 00:00:00.1234567891"), nanos, mismatch);
        let micros = DataType::Time64(TimeUnit::Microsecond);
        check(text("12:00:00.123456"), micros.clone(), Ok("12:00:00.123456"));
        check(text("12:00:00.1234567"), micros, mismatch);
        check(text("2024-02-29 12:00:00"), DataType::Date32, mismatch);
        check(text("2024-02-29 00:00:00"), DataType::Date32, Ok("2024-02-29"));
    }

    #[test]
    fn parts_of_nested_values_are_values() {
        let mismatch = Err(ErrorCode::TypeMismatch);
        let ints = |values: Vec<Option<Vec<Option<i64>>>>| ListArray::from_iter_primitive::<Int64Type, _, _>(values);
        let bytes = DataType::new_list(DataType::Int8, true);
        check(ints(vec![Some(vec![Some(1), None])]), bytes.clone(), Ok("[1, ]"));
        check(ints(vec![Some(vec![Some(300)])]), bytes.clone(), mismatch);
        // What is cut off is no value.
        let long = ints(vec![Some(vec![Some(300)]), Some(vec![Some(2)]), None]);
        check_array(&long.slice(1, 2), bytes.clone(), Ok("[2]"));
        let three =
            FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), Some(2), Some(3)])], 3);
        check(three.clone(), bytes, Ok("[1, 2, 3]"));
        check(three, DataType::new_fixed_size_list(DataType::Int8, 2, true), mismatch);
        check(text("1"), DataType::new_list(DataType::Int8, true), mismatch);
        let fields = |of: DataType| Fields::from(vec![Field::new("x", of.clone(), true), Field::new("y", of, true)]);
        let column = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        let point = |x, y| StructArray::new(fields(DataType::Float64), vec![column(x), column(y)], None);
        let exact = DataType::Struct(fields(DataType::Decimal128(4, 2)));
        check(point(1.5, 2.0), exact.clone(), Ok("{x: 1.50, y: 2.00}"));
        check(point(1.5, 1.005), exact.clone(), mismatch);
        let swapped = StructArray::from(vec![
            (Arc::new(Field::new("y", DataType::Float64, true)), column(2.0)),
            (Arc::new(Field::new("x", DataType::Float64, true)), column(1.0)),
        ]);
        check(swapped, exact.clone(), Ok("{x: 1.00, y: 2.00}"));
        let other = StructArray::from(vec![
            (Arc::new(Field::new("y", DataType::Float64, true)), column(2.0)),
            (Arc::new(Field::new("z", DataType::Float64, true)), column(1.0)),
        ]);
        check(other, exact, mismatch);
    }

    #[test]
    fn moments_are_read_and_written_in_the_sessions_zone() {
        let zone: Arc<str> = "Europe/Warsaw".into();
        let moments = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let check = |values: ArrayRef, to: &DataType, expected: Result<&str, ErrorCode>| {
            let outcome = exactly(&values, &Field::new("$1", to.clone(), true), &zone);
            let shown = outcome
                .map(|array| arrow::util::display::array_value_to_string(&array, 0).expect("shown"))
                .map_err(|error| error.code);
            assert_eq!(shown, expected.map(str::to_owned), "{values:?}");
        };
        let noon_utc: ArrayRef =
            Arc::new(TimestampNanosecondArray::from(vec![1_767_268_800_000_000_000]).with_timezone("UTC"));
        let noon: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_767_268_800_000_000_000]));
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        check(
            Arc::new(text("2026-01-01 12:00:00")),
            &moments,
            Ok("2026-01-01T11:00:00Z"),
        );
        check(
            Arc::new(text("2026-01-01 12:00:00Z")),
            &moments,
            Ok("2026-01-01T12:00:00Z"),
        );
        check(Arc::clone(&noon), &moments, Ok("2026-01-01T11:00:00Z"));
        check(Arc::clone(&noon_utc), &moments, Ok("2026-01-01T12:00:00Z"));
        check(Arc::clone(&noon_utc), &local, Ok("2026-01-01T13:00:00"));
        check(Arc::clone(&noon_utc), &DataType::Utf8, Ok("2026-01-01T13:00:00+01:00"));
        check(noon_utc, &DataType::Date32, Err(ErrorCode::TypeMismatch));
        check(
            Arc::new(text("2026-10-25 02:30:00")),
            &moments,
            Err(ErrorCode::TypeMismatch),
        );
    }

    #[test]
    fn a_null_stays_a_null() {
        let field = Field::new("$1", DataType::Int32, true);
        let values: ArrayRef = Arc::new(StringArray::from(vec![None, Some("1")]));
        let assigned = exactly(&values, &field, &"UTC".into()).expect("fits");
        assert_eq!(assigned.null_count(), 1);
    }
}
