//! `date_trunc` of timestamps beyond the years that nanoseconds reach.
//!
//! Problem: DataFusion 55 truncates by way of nanoseconds, whatever the timestamp's unit, and fails outside of 1677 to 2262. Proper
//! way: to truncate in the unit. Chosen: the calendar repeats every 400 years, which are whole weeks, too; so such a time is moved by
//! as many of them as bring it near 1970, truncated there, and moved back. Evidence: `general_date_trunc` in datafusion-functions 55
//! `datetime/date_trunc.rs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast, not, nullif};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF};
use datafusion::scalar::ScalarValue;

use crate::recomputed::{Computation, recomputed};
use crate::time_zones::{UTC, cast_in_zone};

/// Seconds of 400 years of the Gregorian calendar.
const ERA: i64 = 146_097 * 86_400;

/// Seconds from 1970 on, and before it, that nanoseconds count in 64 bits, less a year, to whose beginning a time may be truncated.
const NANOSECONDS_REACH: i64 = i64::MAX / 1_000_000_000 - 366 * 86_400;

/// Has a call computed so, if it is one of this function.
pub(crate) fn truncated(call: ScalarFunction) -> Transformed<ScalarFunction> {
    match call.func.name() {
        "date_trunc" => recomputed(call, Truncated),
        _ => Transformed::no(call),
    }
}

/// Has a date truncated as a timestamp of microseconds. Whether this is such a call.
pub(crate) fn take_date(call: &mut ScalarFunction, schema: &DFSchema) -> bool {
    if call.func.name() != "date_trunc" {
        return false;
    }
    match call.args.get_mut(1) {
        // What has no type here is for other rules to refuse.
        Some(date)
            if date
                .get_type(schema)
                .is_ok_and(|data_type| data_type == DataType::Date32) =>
        {
            let microseconds = DataType::Timestamp(TimeUnit::Microsecond, None);
            *date = Expr::Cast(Cast::new(Box::new(std::mem::take(date)), microseconds));
            true
        }
        _ => false,
    }
}

/// How many of its unit a second has, and the zone unless it is UTC, of a timestamp that is coarser than nanoseconds.
fn coarse(data_type: &DataType) -> Option<(i64, Option<Arc<str>>)> {
    let DataType::Timestamp(unit, zone) = data_type else {
        return None;
    };
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => return None,
    };
    Some((per_second, zone.clone().filter(|zone| **zone != *UTC)))
}

fn without_zone(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}

/// Truncates times where `truncate` does not reach.
fn by_eras(
    times: &ArrayRef,
    per_second: i64,
    truncate: &mut impl FnMut(ArrayRef) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let data_type = times.data_type();
    let era = ERA * per_second;
    let numbers = cast(times, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    // To the 200 years before 1970 or the 200 after.
    let eras: Int64Array =
        numbers.unary(|number| number.div_euclid(era) + i64::from(number.rem_euclid(era) >= era / 2));
    // No overflow: it is nearer to zero than the number.
    let near: Int64Array = arrow::compute::binary(numbers, &eras, |number, eras| {
        number.wrapping_sub(eras.wrapping_mul(era))
    })?;
    let truncated = cast(&truncate(cast(&near, data_type)?)?, &DataType::Int64)?;
    let back: Int64Array = arrow::compute::try_binary(truncated.as_primitive::<Int64Type>(), &eras, |number, eras| {
        let moved = i128::from(number) + i128::from(eras) * i128::from(era);
        i64::try_from(moved)
            .map_err(|_| ArrowError::ArithmeticOverflow("the beginning of a time is before all times".to_owned()))
    })?;
    Ok(cast(&back, data_type)?)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncated;

impl Computation for Truncated {
    fn compute(&self, function: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(time) = args.args.get(1) else {
            return function.invoke_with_args(args);
        };
        let data_type = time.data_type();
        let Some((per_second, zone)) = coarse(&data_type) else {
            return function.invoke_with_args(args);
        };
        let (is_scalar, times) = match time {
            ColumnarValue::Scalar(value) => (true, value.to_array()?),
            ColumnarValue::Array(values) => (false, Arc::clone(values)),
        };
        let numbers = cast(&times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let is_far = |number: i64| number.div_euclid(per_second).saturating_abs() > NANOSECONDS_REACH;
        let far: BooleanArray = numbers.iter().map(|number| Some(number.is_some_and(is_far))).collect();
        if far.true_count() == 0 {
            return function.invoke_with_args(args);
        }
        let mut truncate = |times: ArrayRef| -> Result<ArrayRef> {
            args.args[1] = ColumnarValue::Array(times);
            function.invoke_with_args(args.clone())?.into_array(rows)
        };
        let near = truncate(nullif(&times, &far)?)?;
        let far_times = nullif(&times, &not(&far)?)?;
        // Of a zone's clocks, which 400 years ago, or hence, went otherwise.
        let local = match &zone {
            Some(zone) => cast_in_zone(&far_times, &without_zone(&data_type), zone, &CastOptions::default())?,
            None => far_times,
        };
        let truncated = by_eras(&local, per_second, &mut truncate)?;
        let truncated = match &zone {
            Some(zone) => cast_in_zone(&truncated, &data_type, zone, &CastOptions::default())?,
            None => truncated,
        };
        let all = zip(&far, &truncated, &near)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&all, 0)?),
            false => ColumnarValue::Array(all),
        })
    }
}
