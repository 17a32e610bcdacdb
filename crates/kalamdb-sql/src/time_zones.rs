//! TIMESTAMP WITH TIME ZONE is a moment, kept in UTC. Here is how it becomes local time, text or a date in a time zone, and how
//! those become it: for whole arrays, and as the function `timezone`, which is what AT TIME ZONE means.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode};

use crate::parameters::call_of;
use crate::tree::walk_mut;

/// The zone that moments are kept in, and the one of a session that has set none.
pub(crate) const UTC: &str = "UTC";

/// The function's name, PostgreSQL's.
const TIMEZONE: &str = "timezone";

/// The values in another type, where text and local times are those of the time zone; elsewhere an ordinary cast.
///
/// # Errors
/// Those of the cast. A local time that the zone does not have, or has twice, is NULL if the options are safe.
pub(crate) fn cast_in_zone(
    values: &ArrayRef,
    to: &DataType,
    zone: &Arc<str>,
    options: &CastOptions<'_>,
) -> Result<ArrayRef, ArrowError> {
    use DataType as T;
    let cast = |values: &ArrayRef, to: &T| cast_with_options(values, to, options);
    match (values.data_type(), to) {
        (T::Timestamp(unit, Some(_)), T::Utf8 | T::LargeUtf8 | T::Utf8View) => {
            cast(&cast(values, &T::Timestamp(*unit, Some(Arc::clone(zone))))?, to)
        }
        (T::Timestamp(_, Some(_)), T::Timestamp(_, None))
        | (T::Timestamp(_, Some(_)), T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_)) => {
            cast(&local_times(values, parsed(zone)?)?, to)
        }
        (T::Timestamp(_, None) | T::Date32 | T::Date64, T::Timestamp(unit, Some(_))) => {
            let moments = moments(&cast(values, &T::Timestamp(*unit, None))?, parsed(zone)?)?;
            if !options.safe && moments.null_count() > values.null_count() {
                return Err(no_such_time(values, &moments, zone));
            }
            cast(&moments, to)
        }
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Timestamp(unit, Some(_))) => {
            cast(&cast(values, &T::Timestamp(*unit, Some(Arc::clone(zone))))?, to)
        }
        _ => cast(values, to),
    }
}

fn parsed(zone: &str) -> Result<Tz, ArrowError> {
    zone.parse()
}

/// Moments as the zone's clocks show them.
fn local_times(moments: &ArrayRef, zone: Tz) -> Result<ArrayRef, ArrowError> {
    shifted(moments, None, |utc| {
        Some(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
    })
}

/// The moments at which the zone's clocks show these times; NULL where they never do, or do twice.
fn moments(local_times: &ArrayRef, zone: Tz) -> Result<ArrayRef, ArrowError> {
    shifted(local_times, Some(UTC.into()), |local| {
        let offset = zone.offset_from_local_datetime(&local).single()?;
        Some(-i64::from(offset.fix().local_minus_utc()))
    })
}

/// Timestamps moved by so many seconds each.
fn shifted(
    timestamps: &ArrayRef,
    to_zone: Option<Arc<str>>,
    seconds: impl Fn(NaiveDateTime) -> Option<i64>,
) -> Result<ArrayRef, ArrowError> {
    let DataType::Timestamp(unit, _) = timestamps.data_type() else {
        return Err(ArrowError::InvalidArgumentError(format!(
            "{} is no timestamp",
            timestamps.data_type()
        )));
    };
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let exactly = CastOptions::default();
    // The numbers as they are, of whatever unit.
    let numbers = cast_with_options(timestamps, &DataType::Int64, &exactly)?;
    let moved = numbers.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(|number| {
        let at = DateTime::from_timestamp(number.div_euclid(per_second), 0)?;
        number.checked_add(seconds(at.naive_utc())?.checked_mul(per_second)?)
    });
    cast_with_options(&moved, &DataType::Timestamp(*unit, to_zone), &exactly)
}

fn no_such_time(values: &ArrayRef, moments: &ArrayRef, zone: &str) -> ArrowError {
    let row = (0..values.len()).find(|row| values.is_valid(*row) && moments.is_null(*row));
    let shown = row.map_or_else(String::new, |row| {
        arrow::util::display::array_value_to_string(values, row).unwrap_or_default()
    });
    ArrowError::CastError(format!(
        "{shown} is not one moment in the time zone {zone}; write it with its offset"
    ))
}

/// Writes `x AT TIME ZONE z` as `timezone(z, x)`: DataFusion takes it for a cast, and would not tell it from one.
pub(crate) fn name_at_time_zone(node: &mut impl VisitMut) {
    struct AtTimeZones;
    impl VisitorMut for AtTimeZones {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::AtTimeZone { timestamp, time_zone } = expr {
                let taken = |expr: &mut ast::Expr| std::mem::replace(expr, ast::Expr::value(ast::Value::Null));
                let arguments = vec![taken(time_zone), taken(timestamp)];
                *expr = ast::Expr::Function(call_of(TIMEZONE, arguments));
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut AtTimeZones).expect("this visitor does not break");
}

/// `timezone(zone, moment)` is what the zone's clocks show then, `timezone(zone, local time)` the moment at which they show it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AtTimeZone {
    /// Whether a time that the zone does not have is NULL, as in a TRY_CAST, or an error.
    safe: bool,
    signature: Signature,
}

impl AtTimeZone {
    fn new(safe: bool) -> Self {
        AtTimeZone {
            safe,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// As SQL has it.
    pub(crate) fn strict() -> ScalarUDF {
        ScalarUDF::from(AtTimeZone::new(false))
    }

    /// For a TRY_CAST.
    pub(crate) fn lenient() -> ScalarUDF {
        ScalarUDF::from(AtTimeZone::new(true))
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        TIMEZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        use DataType as T;
        let [zone, time] = given else {
            return plan_err!("timezone takes a time zone and a timestamp");
        };
        let is_text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null);
        let time = match time {
            T::Timestamp(..) => time.clone(),
            // As PostgreSQL has it, for text too.
            other if is_text(other) || matches!(other, T::Date32 | T::Date64) => {
                T::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
            }
            other => return plan_err!("AT TIME ZONE takes a timestamp, not {other}"),
        };
        if !is_text(zone) {
            return plan_err!("AT TIME ZONE takes the name of a time zone, not {zone}");
        }
        Ok(vec![T::Utf8, time])
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        match given {
            [_, DataType::Timestamp(unit, Some(_))] => Ok(DataType::Timestamp(*unit, None)),
            [_, DataType::Timestamp(unit, None)] => Ok(DataType::Timestamp(*unit, Some(UTC.into()))),
            _ => plan_err!("timezone takes a time zone and a timestamp"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = self.safe || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(TIMEZONE, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let failed = |code, message: String| DataFusionError::External(Box::new(Error::new(code, message)));
        let [zone, time] = args.args.as_slice() else {
            return plan_err!("timezone takes a time zone and a timestamp");
        };
        let to = args.return_field.data_type();
        let zone = match zone {
            ColumnarValue::Scalar(zone) => zone.clone(),
            ColumnarValue::Array(zones) if zones.len() == 1 => ScalarValue::try_from_array(zones, 0)?,
            ColumnarValue::Array(_) => {
                let message = "AT TIME ZONE takes one time zone for all rows, not a column of them";
                return Err(failed(ErrorCode::Unsupported, message.to_owned()));
            }
        };
        let Some(zone) = zone.try_as_str().flatten() else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(to)?));
        };
        if parsed(zone).is_err() {
            let message =
                format!("'{zone}' is no time zone: give a name such as Europe/Paris, or an offset such as +02:00");
            return Err(failed(ErrorCode::InvalidArgument, message));
        }
        let (is_scalar, values) = match time {
            ColumnarValue::Scalar(value) => (true, value.to_array()?),
            ColumnarValue::Array(values) => (false, Arc::clone(values)),
        };
        let options = CastOptions {
            safe: self.safe,
            ..CastOptions::default()
        };
        let values = cast_in_zone(&values, to, &Arc::from(zone), &options)
            .map_err(|error| failed(ErrorCode::InvalidArgument, plain_message(&error)))?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(values)
        })
    }
}

fn plain_message(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(message) => message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, TimestampSecondArray};
    use arrow::util::display::array_value_to_string;

    use super::*;

    #[test]
    fn a_moment_is_local_in_its_zone_and_back() {
        let check = |zone: &str, text: &str, utc: Option<&str>| {
            let options = CastOptions::default();
            let zone: Arc<str> = zone.into();
            let to = DataType::Timestamp(TimeUnit::Second, Some(UTC.into()));
            let local = DataType::Timestamp(TimeUnit::Second, None);
            let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let cast = |values: &ArrayRef, to: &DataType| cast_in_zone(values, to, &zone, &options).expect("a cast");
            let times = cast(&texts, &local);
            for moments in [cast(&texts, &to), cast(&times, &to)] {
                let shown = moments
                    .is_valid(0)
                    .then(|| array_value_to_string(&moments, 0).expect("shown"));
                assert_eq!(shown.as_deref(), utc, "{text} in {zone}");
                if utc.is_some() {
                    assert_eq!(&cast(&moments, &local), &times, "{text} in {zone}");
                }
            }
        };
        check("UTC", "2026-01-01 00:00:00", Some("2026-01-01T00:00:00Z"));
        check("Europe/Warsaw", "2026-01-01 00:00:00", Some("2025-12-31T23:00:00Z"));
        check("Europe/Warsaw", "2026-07-01 00:00:00", Some("2026-06-30T22:00:00Z"));
        check("-03:30", "1960-01-01 00:00:00", Some("1960-01-01T03:30:00Z"));
        // The clocks jump over this one, and show that one twice.
        check("Europe/Warsaw", "2026-03-29 02:30:00", None);
        check("Europe/Warsaw", "2026-10-25 02:30:00", None);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_774_751_400]));
        let to = DataType::Timestamp(TimeUnit::Second, Some(UTC.into()));
        let exactly = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let error = cast_in_zone(&times, &to, &"Europe/Warsaw".into(), &exactly).expect_err("no such time");
        assert!(
            plain_message(&error).contains("2026-03-29T02:30:00 is not one moment"),
            "{error}"
        );
    }
}
