//! What a call would add to its arguments, or make of them, bytes: about as much as it is, or more, never much less.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::functions::regex::regexp_count;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use super::size::{self, ByRow, ELEMENT_BYTES, of_argument};
use super::{Growth, MOST_ADDED_BYTES};

/// The shortest month and the shortest day, where clocks change.
const DAYS_OF_MONTH: i128 = 28;
const NANOSECONDS_OF_DAY: i128 = 23 * 3_600 * 1_000_000_000;

/// What a call adds to its arguments; of those that put them together, what they make.
///
/// # Errors
/// Whatever casting the arguments says; INVALID_ARGUMENT for a series that may never end.
pub(super) fn growth(growth: Growth, name: &str, call: &ScalarFunctionArgs) -> Result<u64> {
    let args = call.args.as_slice();
    let rows = rows(args, call.number_rows);
    match (growth, args) {
        (Growth::Repeat, [text, times, ..]) => repeat(text, times, rows),
        (Growth::Pad, [text, length, fill @ ..]) => pad(text, length, fill.first(), rows),
        (Growth::Replace, [text, from, to, ..]) => replace(text, from, to, rows),
        (Growth::RegexpReplace, [text, pattern, to, flags @ ..]) => {
            regexp_replace(call, [text, pattern, to], flags.first(), rows)
        }
        (Growth::Together, args) => together(args, rows),
        (Growth::Separated, [separator, values @ ..]) => {
            let between = (values.len() as u64).saturating_sub(1);
            let separators = of_argument(separator, rows)?.saturating_mul(between);
            Ok(together(values, rows)?.saturating_add(separators))
        }
        (Growth::Series, args) => series(name, args, rows),
        (Growth::ListRepeat, [value, times, ..]) => list_repeat(value, times, rows),
        (Growth::ListResize, [list, length, fill @ ..]) => list_resize(list, length, fill.first(), rows),
        (Growth::ListText, [list, separator, null @ ..]) => list_text(list, separator, null.first(), rows),
        (Growth::ListReplace, [list, _, to, most @ ..]) => list_replace(name, list, to, most.first(), rows),
        // Too few arguments: the function says so.
        _ => Ok(0),
    }
}

/// A call with nothing but constants makes one value.
fn rows(args: &[ColumnarValue], number_rows: usize) -> usize {
    if args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_))) {
        number_rows
    } else {
        1
    }
}

fn sum(rows: usize, of_row: impl Fn(usize) -> u64) -> u64 {
    (0..rows).fold(0, |sum: u64, row| sum.saturating_add(of_row(row)))
}

fn count(number: Option<i64>) -> u64 {
    number.map_or(0, |number| u64::try_from(number).unwrap_or(0))
}

fn repeat(text: &ColumnarValue, times: &ColumnarValue, rows: usize) -> Result<u64> {
    let (texts, times) = (ByRow::texts(text)?, ByRow::numbers(times)?);
    Ok(sum(rows, |row| {
        let bytes = texts.text(row).map_or(0, str::len) as u64;
        bytes.saturating_mul(count(times.number(row)))
    }))
}

fn pad(text: &ColumnarValue, length: &ColumnarValue, fill: Option<&ColumnarValue>, rows: usize) -> Result<u64> {
    let (texts, lengths) = (ByRow::texts(text)?, ByRow::numbers(length)?);
    let fill = fill.map(ByRow::texts).transpose()?;
    Ok(sum(rows, |row| {
        let Some(text) = texts.text(row) else { return 0 };
        let added = count(lengths.number(row)).saturating_sub(text.chars().count() as u64);
        let widest = match fill.as_ref().map(|fill| fill.text(row)) {
            None => 1,
            Some(fill) => fill.unwrap_or("").chars().map(char::len_utf8).max().unwrap_or(0) as u64,
        };
        added.saturating_mul(widest)
    }))
}

fn replace(text: &ColumnarValue, from: &ColumnarValue, to: &ColumnarValue, rows: usize) -> Result<u64> {
    let (texts, from, to) = (ByRow::texts(text)?, ByRow::texts(from)?, ByRow::texts(to)?);
    let added =
        |row: usize, occurrences: &dyn Fn(&str, &str) -> usize| match (texts.text(row), from.text(row), to.text(row)) {
            (Some(text), Some(from), Some(to)) if !from.is_empty() => {
                let each = to.len().saturating_sub(from.len()) as u64;
                each.saturating_mul(occurrences(text, from) as u64)
            }
            _ => 0,
        };
    let at_most = sum(rows, |row| added(row, &|text, from| text.len() / from.len()));
    if at_most <= MOST_ADDED_BYTES {
        return Ok(at_most);
    }
    Ok(sum(rows, |row| added(row, &|text, from| text.matches(from).count())))
}

/// The replacement counts for each match, and the whole text for each reference to a group.
fn regexp_replace(
    call: &ScalarFunctionArgs,
    [text, pattern, to]: [&ColumnarValue; 3],
    flags: Option<&ColumnarValue>,
    rows: usize,
) -> Result<u64> {
    let (texts, patterns, replacements) = (ByRow::texts(text)?, ByRow::texts(pattern)?, ByRow::texts(to)?);
    let all_flags = flags.map(ByRow::texts).transpose()?;
    let is_global = |row: usize| {
        let flags = all_flags.as_ref().and_then(|flags| flags.text(row));
        flags.is_some_and(|flags| flags.contains('g'))
    };
    let added = |row: usize, matches: &dyn Fn(&str) -> u64| match (texts.text(row), replacements.text(row)) {
        (Some(text), Some(to)) => {
            let references = to.bytes().filter(|byte| matches!(byte, b'\\' | b'$')).count() as u64;
            let matches = if is_global(row) { matches(text) } else { 1 };
            let literal = matches.saturating_mul(to.len() as u64);
            literal.saturating_add(references.saturating_mul(text.len() as u64))
        }
        _ => 0,
    };
    let everywhere = |text: &str| text.len() as u64 + 1;
    let at_most = sum(rows, |row| added(row, &everywhere));
    if at_most <= MOST_ADDED_BYTES {
        return Ok(at_most);
    }
    let counts = count_matches(call, text, pattern, flags)?;
    let counts = ByRow::numbers(&counts)?;
    Ok(sum(rows, |row| {
        added(row, &|text| match patterns.text(row) {
            // An empty pattern matches everywhere, and is counted nowhere.
            Some(pattern) if !pattern.is_empty() => count(counts.number(row)),
            _ => everywhere(text),
        })
    }))
}

/// How often the pattern matches, by row.
fn count_matches(
    call: &ScalarFunctionArgs,
    text: &ColumnarValue,
    pattern: &ColumnarValue,
    flags: Option<&ColumnarValue>,
) -> Result<ColumnarValue> {
    let as_text = |value: &ColumnarValue| value.cast_to(&DataType::Utf8, None);
    let mut args = vec![
        as_text(text)?,
        as_text(pattern)?,
        ColumnarValue::Scalar(ScalarValue::Int64(Some(1))),
    ];
    if let Some(flags) = flags {
        // Counting is always over the whole text, and has no flag for it.
        let local = |flags: Option<&str>| flags.map(|flags| flags.replace('g', ""));
        args.push(match as_text(flags)? {
            ColumnarValue::Scalar(flags) => {
                ColumnarValue::Scalar(ScalarValue::Utf8(local(flags.try_as_str().flatten())))
            }
            ColumnarValue::Array(flags) => {
                let flags: StringArray = flags.as_string::<i32>().iter().map(local).collect();
                ColumnarValue::Array(Arc::new(flags))
            }
        });
    }
    let arg_fields = args
        .iter()
        .map(|arg| Arc::new(Field::new("", arg.data_type(), true)))
        .collect();
    regexp_count().invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: call.number_rows,
        return_field: Arc::new(Field::new("", DataType::Int64, true)),
        config_options: Arc::clone(&call.config_options),
    })
}

/// All values in one; a constant counts for every row.
///
/// # Errors
/// Whatever making an array of a scalar says.
pub(crate) fn together(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    args.iter()
        .try_fold(0u64, |all, arg| Ok(all.saturating_add(of_argument(arg, rows)?)))
}

fn series(name: &str, args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let nanoseconds = |arg: &ColumnarValue| match arg.data_type() {
        DataType::Timestamp(_, zone) => arg.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone), None),
        _ => Ok(arg.clone()),
    };
    let days = |arg: &ColumnarValue| arg.cast_to(&DataType::Date32, None);
    let zero = ColumnarValue::Scalar(ScalarValue::Int64(Some(0)));
    let (from, to, step) = match args {
        [to] => (zero, to.clone(), None),
        [from, to] => (from.clone(), to.clone(), None),
        [from, to, step, ..] => match from.data_type() {
            DataType::Date32 | DataType::Date64 => (days(from)?, days(to)?, Some(step)),
            _ => (nanoseconds(from)?, nanoseconds(to)?, Some(step)),
        },
        [] => return Ok(0),
    };
    if [&from, &to].iter().any(|arg| arg.data_type().is_null()) {
        return Ok(0);
    }
    let is_date = from.data_type() == DataType::Date32;
    let (from, to) = (ByRow::numbers(&from)?, ByRow::numbers(&to)?);
    let step_of: Box<dyn Fn(usize) -> Result<i128> + '_> = match step {
        None => Box::new(|_| Ok(1)),
        Some(step) if step.data_type().is_null() => return Ok(0),
        Some(step) if matches!(step.data_type(), DataType::Interval(_)) => {
            Box::new(move |row| interval_step(name, step, row, is_date))
        }
        Some(step) => {
            let step = ByRow::numbers(step)?;
            Box::new(move |row| Ok(step.number(row).map_or(0, i128::from)))
        }
    };
    let mut elements = 0u64;
    for row in 0..rows {
        let (Some(from), Some(to), step) = (from.number(row), to.number(row), step_of(row)?) else {
            continue;
        };
        let span = i128::from(to) - i128::from(from);
        // The function says what is wrong with a step of nothing.
        if step == 0 || (span != 0 && (span > 0) != (step > 0)) {
            continue;
        }
        let steps = u64::try_from(span.unsigned_abs() / step.unsigned_abs()).unwrap_or(u64::MAX);
        elements = elements.saturating_add(steps).saturating_add(1);
    }
    Ok(elements.saturating_mul(ELEMENT_BYTES))
}

/// The least that an interval moves a date, days, or a time, nanoseconds.
fn interval_step(name: &str, step: &ColumnarValue, row: usize, is_date: bool) -> Result<i128> {
    let step = match step {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(step)) => *step,
        ColumnarValue::Scalar(_) => None,
        ColumnarValue::Array(array) => array
            .as_primitive_opt::<IntervalMonthDayNanoType>()
            .filter(|steps| steps.is_valid(row))
            .map(|steps| steps.value(row)),
    };
    let Some(step) = step else { return Ok(0) };
    let (months, days) = (i128::from(step.months), i128::from(step.days));
    let nanoseconds = if is_date { 0 } else { i128::from(step.nanoseconds) };
    let parts = [months, days, nanoseconds];
    if parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0) {
        // A month less thirty days may be no time at all, and the series without an end.
        let error = Error::new(
            ErrorCode::InvalidArgument,
            format!("the step of {name} goes forward and back at once; write one of a single direction"),
        );
        return Err(DataFusionError::External(Box::new(error)));
    }
    let days = months * DAYS_OF_MONTH + days;
    Ok(if is_date {
        days
    } else {
        days * NANOSECONDS_OF_DAY + nanoseconds
    })
}

fn list_repeat(value: &ColumnarValue, times: &ColumnarValue, rows: usize) -> Result<u64> {
    let times = ByRow::numbers(times)?;
    let bytes = bytes_by_row(value)?;
    Ok(sum(rows, |row| {
        let each = ELEMENT_BYTES.saturating_add(bytes(row));
        each.saturating_mul(count(times.number(row)))
    }))
}

fn list_resize(list: &ColumnarValue, length: &ColumnarValue, fill: Option<&ColumnarValue>, rows: usize) -> Result<u64> {
    let lengths = ByRow::numbers(length)?;
    let lists = list_lengths(list)?;
    let fill = fill.map(bytes_by_row).transpose()?;
    Ok(sum(rows, |row| {
        let added = count(lengths.number(row)).saturating_sub(lists(row));
        let each = fill.as_ref().map_or(0, |fill| fill(row));
        // Numbers count as wide as the widest.
        added.saturating_mul(each.saturating_add(2 * ELEMENT_BYTES))
    }))
}

fn list_text(
    list: &ColumnarValue,
    separator: &ColumnarValue,
    null: Option<&ColumnarValue>,
    rows: usize,
) -> Result<u64> {
    let separators = ByRow::texts(separator)?;
    let nulls = null.map(ByRow::texts).transpose()?;
    let leaves: Box<dyn Fn(usize) -> u64> = match list {
        ColumnarValue::Scalar(value) => {
            let leaves = size::leaves(&value.to_array()?);
            Box::new(move |_| leaves)
        }
        ColumnarValue::Array(array) => {
            let array = Arc::clone(array);
            Box::new(move |row| size::leaves(&array.slice(row, 1)))
        }
    };
    Ok(sum(rows, |row| {
        let separator = separators.text(row).map_or(0, str::len);
        let null = nulls.as_ref().and_then(|nulls| nulls.text(row)).map_or(0, str::len);
        leaves(row).saturating_mul((separator + null) as u64)
    }))
}

fn list_replace(
    name: &str,
    list: &ColumnarValue,
    to: &ColumnarValue,
    most: Option<&ColumnarValue>,
    rows: usize,
) -> Result<u64> {
    let lengths = list_lengths(list)?;
    let bytes = bytes_by_row(to)?;
    let most = most.map(ByRow::numbers).transpose()?;
    Ok(sum(rows, |row| {
        let replaced = match (&most, name) {
            (Some(most), _) => count(most.number(row)).min(lengths(row)),
            (None, "array_replace") => 1,
            (None, _) => lengths(row),
        };
        replaced.saturating_mul(bytes(row))
    }))
}

/// Bytes of an argument's value in a row.
fn bytes_by_row(argument: &ColumnarValue) -> Result<Box<dyn Fn(usize) -> u64>> {
    Ok(match argument {
        ColumnarValue::Scalar(value) => {
            let bytes = size::of_scalar(value)?;
            Box::new(move |_| bytes)
        }
        ColumnarValue::Array(array) => {
            let array = Arc::clone(array);
            Box::new(move |row| size::of_row(&array, row))
        }
    })
}

/// Elements of an argument's list in a row.
fn list_lengths(list: &ColumnarValue) -> Result<Box<dyn Fn(usize) -> u64>> {
    let of = |array: &ArrayRef| size::elements(array).map_or(0, |elements| elements.len() as u64);
    Ok(match list {
        ColumnarValue::Scalar(value) => {
            let length = of(&value.to_array()?);
            Box::new(move |_| length)
        }
        ColumnarValue::Array(array) => {
            let array = Arc::clone(array);
            Box::new(move |row| of(&array.slice(row, 1)))
        }
    })
}
