//! `age(later, earlier)`: the years, months and days between two local times, and what is left of a day.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_core::ErrorCode;

use super::refused;
use crate::intervals::INTERVAL;

pub(super) const NAME: &str = "age";

/// Takes timestamps without a zone; who calls it casts to them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Age {
    signature: Signature,
}

impl Age {
    pub(super) fn new() -> Self {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Age {
            signature: Signature::exact(vec![time.clone(), time], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Age {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let [later, earlier] = arrays else {
                return Err(super::wrong_arguments(NAME));
            };
            let times = |array: &ArrayRef| array.as_primitive::<TimestampMicrosecondType>().clone();
            let (later, earlier) = (times(later), times(earlier));
            let ages: IntervalMonthDayNanoArray = later
                .iter()
                .zip(&earlier)
                .map(|pair| match pair {
                    (Some(later), Some(earlier)) => between(later, earlier).map(Some),
                    _ => Ok(None),
                })
                .collect::<Result<_>>()?;
            Ok(Arc::new(ages))
        })
    }
}

/// As PostgreSQL's `timestamp_age`: the parts of the two are subtracted, and a part that is negative takes of the next larger one; a
/// month is as long as that of the earlier of the two.
fn between(later: i64, earlier: i64) -> Result<IntervalMonthDayNano> {
    let (sign, from, to) = match later < earlier {
        true => (-1, later, earlier),
        false => (1, earlier, later),
    };
    let (from, to) = (local(from)?, local(to)?);
    let mut micros = micros_of_day(to) - micros_of_day(from);
    let mut days = i64::from(to.day()) - i64::from(from.day());
    let mut months =
        (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month()) - i64::from(from.month());
    if micros < 0 {
        micros += 86_400_000_000;
        days -= 1;
    }
    while days < 0 {
        days += i64::from(days_of_month(from));
        months -= 1;
    }
    let part = |value: i64| i32::try_from(value * sign);
    match (part(months), part(days), (micros * sign).checked_mul(1_000)) {
        (Ok(months), Ok(days), Some(nanoseconds)) => Ok(IntervalMonthDayNano::new(months, days, nanoseconds)),
        _ => Err(out_of_range()),
    }
}

fn local(micros: i64) -> Result<NaiveDateTime> {
    let time = DateTime::from_timestamp_micros(micros).ok_or_else(out_of_range)?;
    Ok(time.naive_utc())
}

fn micros_of_day(time: NaiveDateTime) -> i64 {
    (time - time.date().and_time(chrono::NaiveTime::MIN))
        .num_microseconds()
        .unwrap_or_default()
}

fn days_of_month(time: NaiveDateTime) -> u32 {
    let (year, month) = (time.year(), time.month());
    let next = match month {
        12 => NaiveDate::from_ymd_opt(year + 1, 1, 1),
        _ => NaiveDate::from_ymd_opt(year, month + 1, 1),
    };
    // Of the last year that is counted, December.
    next.and_then(|first| first.pred_opt()).map_or(31, |last| last.day())
}

fn out_of_range() -> datafusion::error::DataFusionError {
    refused(ErrorCode::InvalidArgument, "age: the time is out of range")
}
