//! Intervals by their length: compared and sorted as in PostgreSQL, and multiplied and divided by numbers.
//!
//! Problem: DataFusion 55 compares intervals part by part, months before days before nanoseconds, so that 30 hours are less than a
//! day, and a difference of two timestamps, which has nanoseconds alone, is less than any day: `now() - at < INTERVAL '1 day'`
//! holds for all rows. Nor does it multiply them. Proper way: to compare what they last. Chosen: before type coercion, what is
//! compared or sorted becomes its length, a month of 30 days, a day of 24 hours; `min` and `max` are in `interval_extremes`. Rows
//! are grouped by the parts still: `DISTINCT` tells 24 hours from a day. Evidence: `IntervalMonthDayNano` in arrow-buffer 59
//! `interval.rs`, whose order is that of its fields, and `temporal_coercion` in datafusion-expr-common 55 `type_coercion/binary.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, SortExpr, Volatility, WindowFrameUnits,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use kalamdb_core::{Error, ErrorCode};

use crate::interval_text;

const NANOSECONDS_OF_A_DAY: i64 = 86_400_000_000_000;
const DAYS_OF_A_MONTH: i32 = 30;

/// What DataFusion gives expressions of the type INTERVAL.
pub(crate) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Whether values of a type last.
fn is_lasting(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn lasts(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    // What has no type here is for other rules to refuse.
    expr.get_type(schema).ok().filter(is_lasting)
}

/// Both sides of a comparison by their length, if both last. Whether anything changed.
pub(crate) fn compare(binary: &mut BinaryExpr, schema: &DFSchema) -> bool {
    compare_all([binary.left.as_mut(), binary.right.as_mut()], schema)
}

/// The same for what is compared with one another, NULLs aside.
pub(crate) fn compare_all<'a>(operands: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> bool {
    let mut operands: Vec<&mut Expr> = operands.into_iter().filter(|operand| !is_null(operand)).collect();
    if operands.iter().any(|operand| is_text(operand))
        && operands.iter().any(|operand| lasts(operand, schema).is_some())
    {
        operands.iter_mut().for_each(|operand| read_interval(operand));
    }
    let types: Option<Vec<DataType>> = operands.iter().map(|operand| lasts(operand, schema)).collect();
    let Some(types) = types else { return false };
    let are_numbers = types
        .iter()
        .all(|data_type| !has_parts(data_type) && *data_type == types[0]);
    if are_numbers {
        return false;
    }
    for operand in &mut operands {
        measure(operand);
    }
    !operands.is_empty()
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// Whether values have several parts, whose order is not theirs.
pub(crate) fn has_parts(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano)
    )
}

fn measure(expr: &mut Expr) {
    let length = Arc::new(ScalarUDF::from(Length::new()));
    let call = ScalarFunction::new_udf(length, vec![std::mem::take(expr)]);
    *expr = Expr::ScalarFunction(call);
}

/// Whether a call gives the length of an interval.
pub(crate) fn is_length(call: &ScalarFunction) -> bool {
    call.func.inner().is::<Length>()
}

/// Sorts by lengths what a sort sorts by intervals.
pub(crate) fn sorted(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Sort(mut sort) => {
            measure_keys(&mut sort.expr, sort.input.schema());
            LogicalPlan::Sort(sort)
        }
        other => other,
    }
}

/// The same for the order inside of a window or an aggregate.
pub(crate) fn order_inside(expr: &mut Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::WindowFunction(window) => {
            let frame = &window.params.window_frame;
            // An offset is added to the key.
            let has_offsets = frame.units == WindowFrameUnits::Range
                && [&frame.start_bound, &frame.end_bound]
                    .iter()
                    .any(|bound| !bound.is_unbounded() && !is_current_row(bound));
            !has_offsets && measure_keys(&mut window.params.order_by, schema)
        }
        Expr::AggregateFunction(aggregate) => measure_keys(&mut aggregate.params.order_by, schema),
        _ => false,
    }
}

fn is_current_row(bound: &datafusion::logical_expr::WindowFrameBound) -> bool {
    matches!(bound, datafusion::logical_expr::WindowFrameBound::CurrentRow)
}

fn measure_keys(keys: &mut [SortExpr], schema: &DFSchema) -> bool {
    let mut changed = false;
    for key in keys {
        if lasts(&key.expr, schema).is_some_and(|data_type| has_parts(&data_type)) {
            measure(&mut key.expr);
            changed = true;
        }
    }
    changed
}

/// What values last, nanoseconds.
///
/// # Errors
/// None for values that last.
pub(crate) fn lengths(values: &ArrayRef) -> Result<Decimal128Array> {
    fn of<T: ArrowPrimitiveType>(values: &ArrayRef, length: impl Fn(T::Native) -> i128) -> Decimal128Array {
        let lengths: PrimitiveArray<Decimal128Type> = values.as_primitive::<T>().unary(length);
        lengths.with_data_type(Length::TYPE)
    }
    let month = i128::from(DAYS_OF_A_MONTH) * i128::from(NANOSECONDS_OF_A_DAY);
    let day = i128::from(NANOSECONDS_OF_A_DAY);
    Ok(match values.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            of::<IntervalYearMonthType>(values, |months| i128::from(months) * month)
        }
        DataType::Interval(IntervalUnit::DayTime) => of::<IntervalDayTimeType>(values, |parts| {
            i128::from(parts.days) * day + i128::from(parts.milliseconds) * 1_000_000
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => of::<IntervalMonthDayNanoType>(values, |parts| {
            i128::from(parts.months) * month + i128::from(parts.days) * day + i128::from(parts.nanoseconds)
        }),
        DataType::Duration(unit) => {
            let nanoseconds = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let numbers = cast(values, &DataType::Int64)?;
            of::<Int64Type>(&numbers, |number| i128::from(number) * nanoseconds)
        }
        other => return Err(DataFusionError::Internal(format!("{other} has no length"))),
    })
}

/// What an interval lasts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    signature: Signature,
}

impl Length {
    const TYPE: DataType = DataType::Decimal128(38, 0);

    fn new() -> Self {
        Length {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        "length_of_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Length::TYPE)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), Length::TYPE, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(Arc::new(lengths(values)?))),
            [ColumnarValue::Scalar(value)] => {
                let length = lengths(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&length, 0)?))
            }
            _ => Err(DataFusionError::Internal("a length is of one interval".to_owned())),
        }
    }
}

/// Plans `interval * number`, `number * interval` and `interval / number`, and reads text beside an interval or a difference
/// of times as an interval.
#[derive(Debug)]
pub(crate) struct IntervalOperators;

impl ExprPlanner for IntervalOperators {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kind = match expr.op {
            BinaryOperator::Multiply => Kind::Multiply,
            BinaryOperator::Divide => Kind::Divide,
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => {
                // The planner asks for the type of a comparison before any rule sees it.
                if is_text(&expr.right) && lasts(&expr.left, schema).is_some() {
                    read_interval(&mut expr.right);
                } else if is_text(&expr.left) && lasts(&expr.right, schema).is_some() {
                    read_interval(&mut expr.left);
                }
                return Ok(PlannerResult::Original(expr));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (interval, number) = if may_last(&expr.left) && lasts(&expr.left, schema).is_some() {
            (expr.left, expr.right)
        } else if kind == Kind::Multiply && may_last(&expr.right) && lasts(&expr.right, schema).is_some() {
            (expr.right, expr.left)
        } else {
            return Ok(PlannerResult::Original(expr));
        };
        let scaled = Scaled::new(kind);
        // What has no type yet is a parameter.
        if let Ok(data_type) = number.get_type(schema) {
            scaled.check_number(&data_type)?;
        }
        let scaled = ScalarUDF::from(scaled);
        let call = ScalarFunction::new_udf(Arc::new(scaled), vec![interval, number]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// Whether to ask for the type: a chain of products would be walked down again from each of its links.
fn may_last(expr: &Expr) -> bool {
    !matches!(
        expr,
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::Multiply | Operator::Divide | Operator::Modulo,
            ..
        })
    )
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.try_as_str().flatten().is_some())
}

/// A text literal as an interval.
fn read_interval(expr: &mut Expr) {
    if let Expr::Literal(value, _) = expr
        && let Some(text) = value.try_as_str().flatten()
    {
        let text = Expr::Literal(ScalarValue::from(interval_text::units(text).as_ref()), None);
        *expr = Expr::Cast(Cast::new(Box::new(text), INTERVAL));
    }
}

/// The text literals among what is compared with an interval as intervals. Whether there are any.
pub(crate) fn read_beside(compared: &Expr, others: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let any = others.iter().any(|other| is_text(other)) && lasts(compared, schema).is_some();
    if any {
        others.iter_mut().for_each(|other| read_interval(other));
    }
    any
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Multiply,
    Divide,
}

/// An interval, or a difference of times, multiplied or divided by a number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    kind: Kind,
    signature: Signature,
}

impl Scaled {
    fn new(kind: Kind) -> Self {
        Scaled {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    fn operator(&self) -> &'static str {
        match self.kind {
            Kind::Multiply => "*",
            Kind::Divide => "/",
        }
    }

    /// # Errors
    /// TYPE_MISMATCH for what is no number.
    fn check_number(&self, data_type: &DataType) -> Result<()> {
        if data_type.is_numeric() || data_type.is_null() {
            return Ok(());
        }
        let operator = self.operator();
        let message = format!("an interval takes a number beside {operator}, not {data_type}");
        let error = Error::new(ErrorCode::TypeMismatch, message);
        Err(DataFusionError::External(Box::new(error)))
    }

    fn scale(&self, interval: &ArrayRef, number: &ArrayRef) -> Result<ArrayRef> {
        let given = interval.data_type();
        Ok(match (given, number.data_type(), self.kind) {
            (DataType::Duration(_), DataType::Int64, Kind::Multiply) => {
                let counts = cast(interval, &DataType::Int64)?;
                cast(
                    &arrow::compute::kernels::numeric::mul(&counts.as_primitive::<Int64Type>(), number)?,
                    given,
                )?
            }
            (DataType::Duration(_), ..) => {
                let counts = cast(interval, &DataType::Int64)?;
                let scaled = rows::<Int64Type, _>(&counts, number, |count, number| self.whole(count, number))?;
                cast(&scaled, given)?
            }
            (_, DataType::Int64, Kind::Multiply) => {
                Arc::new(arrow::compute::try_binary::<_, _, _, IntervalMonthDayNanoType>(
                    interval.as_primitive::<IntervalMonthDayNanoType>(),
                    number.as_primitive::<Int64Type>(),
                    |parts, number| times(parts, number).ok_or_else(out_of_range),
                )?)
            }
            _ => rows::<IntervalMonthDayNanoType, _>(interval, number, |parts, number| {
                scaled_parts(parts, |part| self.apply(part, number)).ok_or_else(out_of_range)
            })?,
        })
    }

    fn apply(&self, value: f64, number: f64) -> f64 {
        match self.kind {
            Kind::Multiply => value * number,
            Kind::Divide => value / number,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as exact as the number beside it")]
    fn whole(&self, count: i64, number: f64) -> Result<i64, ArrowError> {
        integer(self.apply(count as f64, number)).ok_or_else(out_of_range)
    }
}

/// A number of nanoseconds, days or months; `None` beyond what is counted of them.
#[expect(clippy::cast_possible_truncation, reason = "compared before")]
fn integer(value: f64) -> Option<i64> {
    let value = value.round();
    // 2 to the 63: the first double that is none.
    (value.abs() < 9_223_372_036_854_775_808.0).then_some(value as i64)
}

fn out_of_range() -> ArrowError {
    ArrowError::ArithmeticOverflow("an interval is out of range".to_owned())
}

/// Row by row, with a number that is no zero to divide by.
fn rows<T, F>(interval: &ArrayRef, number: &ArrayRef, scale: F) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    F: Fn(T::Native, f64) -> Result<T::Native, ArrowError>,
{
    let numbers = cast(number, &DataType::Float64)?;
    let scaled: PrimitiveArray<T> = arrow::compute::try_binary(
        interval.as_primitive::<T>(),
        numbers.as_primitive::<Float64Type>(),
        scale,
    )?;
    Ok(Arc::new(scaled))
}

fn times(parts: IntervalMonthDayNano, number: i64) -> Option<IntervalMonthDayNano> {
    let small = i32::try_from(number);
    let part = |part: i32| match (part, small) {
        (0, _) => Some(0),
        (part, Ok(number)) => part.checked_mul(number),
        (_, Err(_)) => None,
    };
    Some(IntervalMonthDayNano::new(
        part(parts.months)?,
        part(parts.days)?,
        parts.nanoseconds.checked_mul(number)?,
    ))
}

/// Each part by itself; what is left of a month becomes days, what is left of a day nanoseconds.
fn scaled_parts(parts: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    let day = f64::from(86_400_u32) * 1e9;
    let months = scale(f64::from(parts.months));
    let days = scale(f64::from(parts.days));
    let left_of_months = (months - months.trunc()) * f64::from(DAYS_OF_A_MONTH);
    let left_of_days = (days - days.trunc()) + (left_of_months - left_of_months.trunc());
    let left = integer(left_of_days * day)?;
    // What rounding made whole days is days.
    let whole_days = integer(days.trunc() + left_of_months.trunc())?.checked_add(left / NANOSECONDS_OF_A_DAY)?;
    #[expect(clippy::cast_precision_loss, reason = "as exact as the number beside it")]
    let nanoseconds = integer(scale(parts.nanoseconds as f64))?.checked_add(left % NANOSECONDS_OF_A_DAY)?;
    Some(IntervalMonthDayNano::new(
        i32::try_from(integer(months.trunc())?).ok()?,
        i32::try_from(whole_days).ok()?,
        nanoseconds,
    ))
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Multiply => "interval_times",
            Kind::Divide => "interval_divided",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [interval, number] = args else {
            return Err(DataFusionError::Internal(
                "an interval is scaled by one number".to_owned(),
            ));
        };
        let operator = self.operator();
        Ok(format!(
            "{} {operator} {}",
            interval.schema_name(),
            number.schema_name()
        ))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [interval, number] = given else {
            return Err(DataFusionError::Internal(
                "an interval is scaled by one number".to_owned(),
            ));
        };
        self.check_number(number)?;
        let number = match number {
            DataType::Null => DataType::Int64,
            number if number.is_signed_integer() => DataType::Int64,
            _ => DataType::Float64,
        };
        let interval = match interval {
            DataType::Interval(_) => INTERVAL,
            other => other.clone(),
        };
        Ok(vec![interval, number])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Interval(_), ..] => Ok(INTERVAL),
            [other, ..] => Ok(other.clone()),
            [] => Err(DataFusionError::Internal(
                "an interval is scaled by one number".to_owned(),
            )),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [interval, number] = arrays.as_slice() else {
            return Err(DataFusionError::Internal(
                "an interval is scaled by one number".to_owned(),
            ));
        };
        if self.kind == Kind::Divide && has_zero(number)? {
            return Err(ArrowError::DivideByZero.into());
        }
        let scaled = self.scale(interval, number)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&scaled, 0)?),
            false => ColumnarValue::Array(scaled),
        })
    }
}

fn has_zero(numbers: &ArrayRef) -> Result<bool> {
    let numbers = cast(numbers, &DataType::Float64)?;
    let found = numbers
        .as_primitive::<Float64Type>()
        .iter()
        .any(|number| number == Some(0.0));
    Ok(found)
}
