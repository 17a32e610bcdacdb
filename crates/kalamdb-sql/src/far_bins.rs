//! `date_bin` of timestamps beyond the years that nanoseconds reach.
//!
//! Problem: DataFusion 55 bins by way of nanoseconds, whatever the timestamp's unit, and gives NULL outside of 1677 to 2262. Proper way:
//! to bin in wider numbers. Chosen: that, for the rows that it gives NULL for; what no timestamp of the type holds is an error.
//! Evidence: `date_bin_timestamp_value` in datafusion-functions 55 `datetime/date_bin.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, TimeUnit};
use chrono::{DateTime, Datelike, Months, Utc};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::recomputed::{Computation, recomputed};

const NANOSECONDS_OF_A_SECOND: i128 = 1_000_000_000;
const NANOSECONDS_OF_A_DAY: i128 = 86_400 * NANOSECONDS_OF_A_SECOND;

/// Has a call computed so, if it is one of this function.
pub(crate) fn binned(call: ScalarFunction) -> Transformed<ScalarFunction> {
    match call.func.name() {
        "date_bin" => recomputed(call, Binned),
        _ => Transformed::no(call),
    }
}

/// How wide bins are.
#[derive(Clone, Copy)]
enum Width {
    Nanoseconds(i128),
    Months(i64),
}

impl Width {
    /// Of an interval that the function took.
    fn of(stride: &ColumnarValue) -> Option<Self> {
        let ColumnarValue::Scalar(stride) = stride else {
            return None;
        };
        let width = match stride {
            ScalarValue::IntervalDayTime(Some(value)) => {
                let (days, milliseconds) = IntervalDayTimeType::to_parts(*value);
                Width::Nanoseconds(i128::from(days) * NANOSECONDS_OF_A_DAY + i128::from(milliseconds) * 1_000_000)
            }
            ScalarValue::IntervalMonthDayNano(Some(value)) => match IntervalMonthDayNanoType::to_parts(*value) {
                (0, days, nanoseconds) => {
                    Width::Nanoseconds(i128::from(days) * NANOSECONDS_OF_A_DAY + i128::from(nanoseconds))
                }
                (months, _, _) => Width::Months(i64::from(months)),
            },
            _ => return None,
        };
        // Bins of no width, or less, are none.
        matches!(width, Width::Nanoseconds(1..) | Width::Months(1..)).then_some(width)
    }

    /// The beginning of the bin that a time is in, both in nanoseconds; `None` where the calendar ends.
    fn beginning(self, time: i128, origin: i128) -> Option<i128> {
        match self {
            Width::Nanoseconds(width) => Some(origin + (time - origin).div_euclid(width) * width),
            Width::Months(width) => {
                let (time_at, origin_at) = (moment(time)?, moment(origin)?);
                let month = |at: &DateTime<Utc>| i64::from(at.year()) * 12 + i64::from(at.month0());
                let bin = (month(&time_at) - month(&origin_at)).div_euclid(width);
                let begins = |bin: i64| {
                    let months = bin.checked_mul(width)?;
                    let distance = Months::new(u32::try_from(months.unsigned_abs()).ok()?); // Further than the calendar reaches.
                    match months < 0 {
                        true => origin_at.checked_sub_months(distance),
                        false => origin_at.checked_add_months(distance),
                    }
                };
                // The origin may stand later in its month than the time does.
                let first = begins(bin)?;
                let begins = if first > time_at { begins(bin - 1)? } else { first };
                Some(
                    i128::from(begins.timestamp()) * NANOSECONDS_OF_A_SECOND
                        + i128::from(begins.timestamp_subsec_nanos()),
                )
            }
        }
    }
}

fn moment(nanoseconds: i128) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from(nanoseconds.div_euclid(NANOSECONDS_OF_A_SECOND)).ok()?; // Beyond the calendar.
    let rest = u32::try_from(nanoseconds.rem_euclid(NANOSECONDS_OF_A_SECOND)).ok()?; // Less than a second.
    DateTime::from_timestamp(seconds, rest)
}

fn invalid(message: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(ErrorCode::InvalidArgument, message)))
}

/// Nanoseconds of a timestamp's unit.
fn scale_of(data_type: &DataType) -> Option<i128> {
    let DataType::Timestamp(unit, _) = data_type else {
        return None;
    };
    Some(match unit {
        TimeUnit::Second => NANOSECONDS_OF_A_SECOND,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Binned;

impl Computation for Binned {
    fn compute(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.clone();
        let binned = function.invoke_with_args(args)?;
        let [stride, time, rest @ ..] = given.as_slice() else {
            return Ok(binned);
        };
        let origin = match rest {
            [] => 0,
            [
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin), _)),
                ..,
            ] => i128::from(*origin),
            _ => return Ok(binned),
        };
        let Some(scale) = scale_of(&time.data_type()) else {
            return Ok(binned);
        };
        let (is_scalar, times, found) = match (time, &binned) {
            (ColumnarValue::Scalar(time), ColumnarValue::Scalar(found)) => (true, time.to_array()?, found.to_array()?),
            (ColumnarValue::Array(times), ColumnarValue::Array(found)) => (false, Arc::clone(times), Arc::clone(found)),
            _ => return Ok(binned),
        };
        // Without a stride there is no bin.
        if times.null_count() == found.null_count()
            || matches!(stride, ColumnarValue::Scalar(stride) if stride.is_null())
        {
            return Ok(binned);
        }
        let Some(width) = Width::of(stride) else {
            return Err(invalid(
                "date_bin takes an interval above zero for times beyond 1677 to 2262",
            ));
        };
        let data_type = found.data_type().clone();
        let (numbers, found) = (cast(&times, &DataType::Int64)?, cast(&found, &DataType::Int64)?);
        let rows = numbers
            .as_primitive::<Int64Type>()
            .iter()
            .zip(found.as_primitive::<Int64Type>());
        let all = rows.map(|(time, found)| match (time, found) {
            (Some(time), None) => {
                let begins = width.beginning(i128::from(time) * scale, origin);
                let begins = begins.and_then(|begins| i64::try_from(begins.div_euclid(scale)).ok()); // Told below.
                begins
                    .map(Some)
                    .ok_or_else(|| invalid("date_bin: the beginning of a bin is out of the range of its type"))
            }
            (_, found) => Ok(found),
        });
        let all: ArrayRef = Arc::new(all.collect::<Result<Int64Array>>()?);
        let all = cast(&all, &data_type)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&all, 0)?),
            false => ColumnarValue::Array(all),
        })
    }
}
