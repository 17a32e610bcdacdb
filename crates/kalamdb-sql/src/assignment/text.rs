//! Text into any type, as a literal or a client writes it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryBuilder, LargeBinaryBuilder, StringArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveTime, Utc};
use kalamdb_core::Result;

use super::{Target, cast, digits, is_decimal, refuse_new_nulls, refuse_overflow, takes_no};
use crate::interval_text;
use crate::literals::{bytea, fixed_binary};

/// The values of an array of Utf8 in the target's type.
///
/// # Errors
/// TYPE_MISMATCH.
pub(super) fn assign(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
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
        to if is_decimal(to) || to.is_integer() => numbers(values, target)?,
        T::Timestamp(unit, _) | T::Time32(unit) | T::Time64(unit) => cast(
            &rewrite(texts, |text| {
                fits_unit(text, unit).then(|| with_seconds(text).into_owned())
            }),
            target.data_type,
            target,
        )?,
        T::Date32 | T::Date64 => cast(
            &rewrite(texts, |text| is_whole_day(text).then(|| text.to_owned())),
            target.data_type,
            target,
        )?,
        to if to.is_floating() => {
            let trimmed = rewrite(texts, |text| Some(text.trim().to_owned()));
            let assigned = cast(&trimmed, to, target)?;
            refuse_overflow(values, &assigned, |row| names_infinity(texts.value(row)), target)?;
            assigned
        }
        T::Boolean => {
            let trimmed = rewrite(texts, |text| Some(text.trim().to_owned()));
            cast(&trimmed, target.data_type, target)?
        }
        T::Interval(_) => {
            let written = rewrite(texts, |text| Some(interval_text::units(text).into_owned()));
            cast(&written, target.data_type, target)?
        }
        // Arrow would make a list of the one text.
        to if to.is_nested() => return Err(takes_no(values.data_type(), target)),
        _ => cast(values, target.data_type, target)?,
    };
    refuse_new_nulls(values, &assigned, target)?;
    Ok(assigned)
}

/// Numbers as text in the target's type, a DECIMAL or an integer; NULL for what does not fit exactly.
///
/// # Errors
/// None that a number could cause.
pub(super) fn numbers(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    let scale = super::scale(target.data_type).map_or(0, i32::from);
    let plain = rewrite(values.as_string::<i32>(), |text| {
        plain_number(text).filter(|number| fraction_digits(number) <= scale)
    });
    cast(&plain, target.data_type, target)
}

fn rewrite(texts: &StringArray, each: impl Fn(&str) -> Option<String>) -> ArrayRef {
    Arc::new(texts.iter().map(|text| text.and_then(&each)).collect::<StringArray>())
}

/// Whether a time has no more digits after the point than the unit; further ones would be dropped silently.
fn fits_unit(text: &str, unit: &TimeUnit) -> bool {
    let Some((_, fraction)) = text.split_once('.') else {
        return true;
    };
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    fraction[..end].trim_end_matches('0').len() <= digits(unit)
}

/// Whether a date comes without a time of day, or with midnight, which would be dropped silently.
fn is_whole_day(text: &str) -> bool {
    // Dates of years beyond 9999 have a sign, and never a time.
    text.len() <= 10
        || text.starts_with(['+', '-'])
        || string_to_datetime(&Utc, text).is_ok_and(|at| at.time() == NaiveTime::MIN)
}

/// A time that ends with its minutes (`2024-01-31 10:30`), as the browser's own field of a form sends it, with seconds.
pub(crate) fn with_seconds(text: &str) -> Cow<'_, str> {
    let minutes = |text: &str| {
        let bytes = text.as_bytes();
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let is = |at: usize, one: u8| bytes.get(at) == Some(&one);
        let day = [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(is_digit) && is(4, b'-') && is(7, b'-');
        let time = [11, 12, 14, 15].into_iter().all(is_digit) && is(13, b':') && (is(10, b' ') || is(10, b'T'));
        let ends = matches!(bytes.get(16), None | Some(b'Z' | b'+' | b'-'));
        day && time && ends
    };
    if minutes(text) {
        // Digits alone before.
        let (time, zone) = text.split_at(16);
        Cow::Owned(format!("{time}:00{zone}"))
    } else {
        Cow::Borrowed(text)
    }
}

fn names_infinity(text: &str) -> bool {
    text.trim().trim_start_matches(['+', '-']).starts_with(['i', 'I'])
}

/// A number in digits without exponent, and without zeros that say nothing; `None` if it is no number or absurdly long.
pub(crate) fn plain_number(text: &str) -> Option<String> {
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
