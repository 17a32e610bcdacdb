//! `date_trunc` of timestamps beyond the years that nanoseconds reach.
//!
//! Problem: DataFusion 55 truncates by way of nanoseconds, whatever the timestamp's unit, and fails outside of 1677 to 2262. Proper
//! way: to truncate in the unit. Chosen: the calendar repeats every 400 years, which are whole weeks, too; so such a time is moved by
//! as many of them as bring it near 1970, truncated there, and moved back. Evidence: `general_date_trunc` in datafusion-functions 55
//! `datetime/date_trunc.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;

/// Seconds of 400 years of the Gregorian calendar.
const ERA: i64 = 146_097 * 86_400;

/// Seconds from 1970 on, and before it, that nanoseconds count in 64 bits, less a year, to whose beginning a time may be truncated.
const NANOSECONDS_REACH: i64 = i64::MAX / 1_000_000_000 - 366 * 86_400;

/// Wraps the function of a call, if it is this one.
pub(crate) fn truncated(mut call: ScalarFunction) -> Transformed<ScalarFunction> {
    if call.func.name() != "date_trunc" || call.func.inner().is::<Truncated>() {
        return Transformed::no(call);
    }
    call.func = Arc::new(ScalarUDF::from(Truncated { inner: call.func }));
    Transformed::yes(call)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncated {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Truncated {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(time) = args.args.get_mut(1) else {
            return self.inner.invoke_with_args(args);
        };
        let data_type = time.data_type();
        let per_second = match &data_type {
            DataType::Timestamp(TimeUnit::Second, _) => 1,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
            _ => return self.inner.invoke_with_args(args),
        };
        let (is_scalar, times) = match time {
            ColumnarValue::Scalar(value) => (true, value.to_array()?),
            ColumnarValue::Array(values) => (false, Arc::clone(values)),
        };
        let numbers = cast(&times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let is_far = |number: i64| number.div_euclid(per_second).saturating_abs() > NANOSECONDS_REACH;
        if !numbers.iter().flatten().any(is_far) {
            return self.inner.invoke_with_args(args);
        }
        let era = ERA * per_second;
        let eras: Int64Array = numbers.unary(|number| match is_far(number) {
            // From 200 years before 1970 to 200 after.
            true => number.div_euclid(era) + i64::from(number.rem_euclid(era) >= era / 2),
            false => 0,
        });
        // No overflow: it is nearer to zero than the number.
        let near: Int64Array = arrow::compute::binary(numbers, &eras, |number, eras| {
            number.wrapping_sub(eras.wrapping_mul(era))
        })?;
        let near = cast(&near, &data_type)?;
        *time = ColumnarValue::Array(near);
        let truncated = self.inner.invoke_with_args(args)?.into_array(times.len())?;
        let truncated = cast(&truncated, &DataType::Int64)?;
        let back = arrow::compute::try_binary(truncated.as_primitive::<Int64Type>(), &eras, |number, eras| {
            let moved = i128::from(number) + i128::from(eras) * i128::from(era);
            i64::try_from(moved).map_err(|_| {
                arrow::error::ArrowError::ArithmeticOverflow("the beginning of a time is before all times".to_owned())
            })
        });
        let back: Int64Array = back?;
        let back: ArrayRef = cast(&back, &data_type)?;
        match is_scalar {
            true if back.len() == 1 => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&back, 0)?)),
            true => exec_err!("date_trunc made {} values of one", back.len()),
            false => Ok(ColumnarValue::Array(back)),
        }
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(input)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
