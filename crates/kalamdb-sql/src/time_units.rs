//! Timestamps beside coarser ones: literals, `now()` and dates take the unit of what they stand beside.
//!
//! Problem: DataFusion 55 compares a timestamp with text, a date or `TIMESTAMP '…'` in nanoseconds, which hold the years 1677 to
//! 2262 only, so that a row of another year, which a column of microseconds takes, fails each such statement. Proper way: the
//! coarsest unit that holds both. Chosen: before type coercion, what is exact in the other's unit is cast to that; and a literal of
//! a year beyond the nanoseconds' is one of microseconds. Evidence: `string_temporal_coercion` and `temporal_coercion` in
//! datafusion-expr-common 55 `type_coercion/binary.rs`.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, TimeUnit};
use chrono::Utc;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::assignment::with_seconds;
use crate::kept_types::typed;
use crate::tree::walk_mut;

/// Seconds from 1970 on, and before it, that nanoseconds count in 64 bits, less the day by which a zone may differ.
const NANOSECONDS_REACH: i64 = i64::MAX / 1_000_000_000 - 86_400;

/// Functions whose arguments are brought to one type.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nullif", "nvl", "ifnull", "greatest", "least"];

/// Gives literals of a type TIMESTAMP without a precision one of 6 digits where nanoseconds do not reach.
pub(crate) fn keep_far_times(node: &mut impl VisitMut) {
    struct FarTimes;
    impl VisitorMut for FarTimes {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            match expr {
                ast::Expr::TypedString(ast::TypedString { value, data_type, .. }) => reach(&mut value.value, data_type),
                ast::Expr::Cast { expr, data_type, .. } => {
                    if let ast::Expr::Value(value) = expr.as_mut() {
                        reach(&mut value.value, data_type);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut FarTimes).expect("this visitor does not break");
}

/// Gives a literal the seconds that it may lack, and the type that it is cast to a precision that reaches it, or that has its digits.
fn reach(value: &mut ast::Value, data_type: &mut ast::DataType) {
    if let ast::DataType::Time(precision @ None, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) =
        data_type
        && let ast::Value::SingleQuotedString(text) = value
        && unit_of(text) == TimeUnit::Nanosecond
    {
        *precision = Some(9);
    }
    if let ast::DataType::Timestamp(precision, _) = data_type
        && let ast::Value::SingleQuotedString(text) = value
    {
        if let Cow::Owned(whole) = with_seconds(text) {
            *text = whole;
        }
        if precision.is_none() && is_far(text) {
            *precision = Some(6);
        }
    }
}

fn is_far(text: &str) -> bool {
    // What is no time is refused when it is cast.
    string_to_datetime(&Utc, text).is_ok_and(|at| {
        let is_beyond = at.timestamp().saturating_abs() > NANOSECONDS_REACH;
        // On the last day digits that only nanoseconds have are worth more than what a zone may move.
        is_beyond
            && at
                .timestamp_nanos_opt()
                .is_none_or(|nanoseconds| nanoseconds % 1_000 == 0)
    })
}

/// `expr`, which a comparison brings to one type with `other`, in the unit of that; `None` where there is nothing to do.
pub(crate) fn beside(other: &Expr, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let given = Given::of(expr, schema)?;
    let (unit, zone) = coarse(other, schema)?;
    match given {
        Given::Text(text) => {
            let unit = finer(unit, unit_of(text));
            (unit != TimeUnit::Nanosecond).then(|| cast(expr.clone(), DataType::Timestamp(unit, zone)))
        }
        Given::Date if zone.is_none() => Some(cast(expr.clone(), DataType::Timestamp(unit, None))),
        Given::Date => None,
        Given::Typed(..) | Given::Nanoseconds(..) | Given::Now | Given::TypedNow(_) => given.in_unit(expr, unit),
    }
}

/// `expr`, which is compared with `others`, in the unit of the finest text among them. DataFusion 55 would compare in the coarser
/// unit and cut the text (`cast_between_timestamp` in datafusion-expr-common `casts.rs`), had it a cast before it; so there is a
/// function around that.
pub(crate) fn widen(expr: &mut Expr, others: &[&Expr], schema: &DFSchema) -> bool {
    let texts = others.iter().filter_map(|other| match Given::of(other, schema) {
        Some(Given::Text(text) | Given::Typed(text, _)) => Some(unit_of(text)),
        _ => None,
    });
    let Some(finest) = texts.max().filter(|finest| *finest > TimeUnit::Second) else {
        return false;
    };
    let Some((_, zone)) = coarse(expr, schema).filter(|(unit, _)| *unit < finest) else {
        return false;
    };
    let to = DataType::Timestamp(finest, zone);
    let field = Arc::new(Field::new("", to.clone(), true));
    *expr = typed(cast(std::mem::take(expr), to), field);
    true
}

/// Both sides of a comparison or a difference of a moment and a date as local times of the moment's unit.
pub(crate) fn moment_beside_date(binary: &mut BinaryExpr, schema: &DFSchema) -> bool {
    let is_date = |expr: &Expr| matches!(Given::of(expr, schema), Some(Given::Date));
    let moment = match (is_date(&binary.left), is_date(&binary.right)) {
        (false, true) => &binary.left,
        (true, false) => &binary.right,
        _ => return false,
    };
    let (unit, zone) = match coarse(moment, schema) {
        Some(coarse) => coarse,
        None => {
            // A date may be one that nanoseconds do not reach.
            let given = Given::of(moment, schema).filter(|given| !matches!(given, Given::Text(_)));
            let microseconds = given.and_then(|given| given.in_unit(moment, TimeUnit::Microsecond));
            let Some(microseconds) = microseconds else {
                return false;
            };
            let zone = match microseconds.get_type(schema) {
                Ok(DataType::Timestamp(_, zone)) => zone,
                // As above.
                Ok(_) | Err(_) => return false,
            };
            let moment = if is_date(&binary.left) {
                &mut binary.right
            } else {
                &mut binary.left
            };
            **moment = microseconds;
            (TimeUnit::Microsecond, zone)
        }
    };
    for side in [&mut binary.left, &mut binary.right] {
        if zone.is_some() || is_date(side) {
            let local = cast(std::mem::take(side.as_mut()), DataType::Timestamp(unit, None));
            **side = local;
        }
    }
    true
}

/// Times of day that become of one type, or are compared with each other, in the finest unit among them. Whether anything changed.
pub(crate) fn of_days(times: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let unit = |expr: &Expr| match expr.get_type(schema) {
        Ok(DataType::Time32(unit) | DataType::Time64(unit)) => Some(unit),
        // What has no type here is for other rules to refuse.
        Ok(_) | Err(_) => None,
    };
    let units: Vec<Option<TimeUnit>> = times.iter().map(|time| unit(time)).collect();
    let Some(finest) = units.iter().flatten().copied().reduce(finer) else {
        return false;
    };
    let mut changed = false;
    for (time, unit) in times.iter_mut().zip(units) {
        if unit.is_some_and(|unit| unit != finest) {
            **time = cast(std::mem::take(*time), time_of_day(finest));
            changed = true;
        }
    }
    changed
}

/// The one type of times of day of several units, NULLs aside; `None` for other types, and where there is one unit alone.
pub(crate) fn common_time_of_day(given: &[DataType]) -> Option<DataType> {
    let mut present = given.iter().filter(|data_type| !data_type.is_null()).peekable();
    let first = present.peek().copied()?;
    let mut finest = TimeUnit::Second;
    let mut differ = false;
    for data_type in present {
        let (DataType::Time32(unit) | DataType::Time64(unit)) = data_type else {
            return None;
        };
        finest = finer(finest, *unit);
        differ |= data_type != first;
    }
    differ.then(|| time_of_day(finest))
}

/// The type of times of day in that unit.
pub(crate) fn time_of_day(unit: TimeUnit) -> DataType {
    match unit {
        TimeUnit::Second | TimeUnit::Millisecond => DataType::Time32(unit),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => DataType::Time64(unit),
    }
}

/// Two times of day, which are compared, in one unit: a text in the other's if that has all its digits, else both in the finer
/// one. Whether anything changed.
pub(crate) fn of_day(left: &mut Expr, right: &mut Expr, schema: &DFSchema) -> bool {
    let unit = |expr: &Expr| match expr.get_type(schema) {
        Ok(DataType::Time32(unit) | DataType::Time64(unit)) => Some(unit),
        // As above.
        Ok(_) | Err(_) => None,
    };
    let (Some(of_left), Some(of_right)) = (unit(left), unit(right)) else {
        return false;
    };
    if of_left == of_right {
        return false;
    }
    let written = |expr: &Expr| match expr {
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(unit_of),
            _ => None,
        },
        _ => None,
    };
    let common = match (written(left), written(right)) {
        (None, Some(digits)) if digits <= of_left => of_left,
        (Some(digits), None) if digits <= of_right => of_right,
        _ => finer(of_left, of_right),
    };
    let to = time_of_day(common);
    for (side, given) in [(left, of_left), (right, of_right)] {
        if given != common {
            let whole = match std::mem::take(side) {
                // Of the text itself.
                Expr::Cast(cast) if matches!(cast.expr.as_ref(), Expr::Literal(..)) => *cast.expr,
                other => other,
            };
            *side = cast(whole, to.clone());
        }
    }
    true
}

/// Brings times of day to one unit before the planner asks for the type of their comparison.
#[derive(Debug)]
pub(crate) struct TimesOfDay;

impl ExprPlanner for TimesOfDay {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(
            expr.op,
            ast::BinaryOperator::Eq
                | ast::BinaryOperator::NotEq
                | ast::BinaryOperator::Lt
                | ast::BinaryOperator::LtEq
                | ast::BinaryOperator::Gt
                | ast::BinaryOperator::GtEq
        ) {
            of_day(&mut expr.left, &mut expr.right, schema);
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The subtrahend or minuend that `-` brings to one type with `other`, in the unit of that.
pub(crate) fn in_difference(other: &Expr, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match Given::of(expr, schema)? {
        // Text in arithmetic is whatever the other side makes of it.
        Given::Text(_) | Given::Date => None,
        given => given.in_unit(expr, coarse(other, schema)?.0),
    }
}

/// Arguments that become of one type, those that can in the unit of those that have a coarser one. Whether any changed.
pub(crate) fn harmonize(arguments: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let moves = |expr: &Expr| match Given::of(expr, schema) {
        Some(Given::Typed(..) | Given::Nanoseconds(..) | Given::Now | Given::TypedNow(_) | Given::Date) => true,
        Some(Given::Text(_)) | None => false,
    };
    if !arguments.iter().any(|argument| moves(argument)) {
        return false;
    }
    let others = arguments.iter().filter(|argument| !moves(argument));
    let others = others.filter_map(|argument| coarse(argument, schema));
    let coarse = others.reduce(|one, other| (finer(one.0, other.0), one.1.or(other.1)));
    let Some((unit, zone)) = coarse.or_else(|| in_microseconds(arguments, schema)) else {
        return false;
    };
    let mut changed = false;
    for argument in arguments {
        let coarser = match Given::of(argument, schema) {
            // Nanoseconds, in which it would be otherwise, do not reach every date.
            Some(Given::Date) => Some(cast(std::mem::take(*argument), DataType::Timestamp(unit, zone.clone()))),
            Some(given) => given.in_unit(argument, unit),
            None => None,
        };
        if let Some(coarser) = coarser {
            **argument = coarser;
            changed = true;
        }
    }
    changed
}

/// Unit and zone of timestamps, all of whole microseconds, beside dates, which nanoseconds may not reach.
fn in_microseconds(arguments: &[&mut Expr], schema: &DFSchema) -> Option<(TimeUnit, Option<Arc<str>>)> {
    let is_date = |argument: &&mut Expr| matches!(Given::of(argument, schema), Some(Given::Date));
    if !arguments.iter().any(is_date) {
        return None;
    }
    let mut others = arguments.iter().filter(|argument| !is_date(argument));
    others.find_map(|argument| match argument.get_type(schema) {
        Ok(DataType::Timestamp(_, zone)) => Some((TimeUnit::Microsecond, zone)),
        // What has no type here is for other rules to refuse.
        Ok(_) | Err(_) => None,
    })
}

/// Whether a timestamp in nanoseconds is of whole microseconds, as far as its expression tells.
pub(crate) fn is_of_microseconds(expr: &Expr, schema: &DFSchema) -> bool {
    match Given::of(expr, schema) {
        Some(Given::Typed(text, _)) => unit_of(text) != TimeUnit::Nanosecond,
        Some(Given::Nanoseconds(..) | Given::Now | Given::TypedNow(_)) => true,
        Some(Given::Text(_) | Given::Date) | None => false,
    }
}

/// Whether the arguments of a function are brought to one type.
pub(crate) fn are_of_one_type(call: &ScalarFunction) -> bool {
    OF_ONE_TYPE.contains(&call.func.name())
}

/// What may stand beside a coarser timestamp.
enum Given<'a> {
    Text(&'a str),
    /// Text, cast to nanoseconds.
    Typed(&'a str, &'a DataType),
    /// A number of them that microseconds hold, too.
    Nanoseconds(i64, &'a Expr),
    /// A time of whole microseconds.
    Now,
    /// The same, cast to nanoseconds.
    TypedNow(&'a DataType),
    Date,
}

impl<'a> Given<'a> {
    /// Looks at no more than the outermost of an expression, so that a long one is not walked down from each of its parts.
    fn of(expr: &'a Expr, schema: &DFSchema) -> Option<Self> {
        match expr {
            Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanoseconds), _), _) if nanoseconds % 1_000 == 0 => {
                Some(Given::Nanoseconds(*nanoseconds, expr))
            }
            Expr::Literal(ScalarValue::Date32(Some(_)), _) => Some(Given::Date),
            Expr::Literal(value, _) => value.try_as_str().flatten().map(Given::Text),
            Expr::Cast(cast) => match (cast.expr.as_ref(), cast.field.data_type()) {
                (Expr::Literal(value, _), to @ DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                    let text = value.try_as_str().flatten()?;
                    Some(Given::Typed(text, to))
                }
                (Expr::ScalarFunction(call), to @ DataType::Timestamp(TimeUnit::Nanosecond, _))
                    if call.func.name() == "now" =>
                {
                    Some(Given::TypedNow(to))
                }
                (_, DataType::Date32) => Some(Given::Date),
                _ => None,
            },
            Expr::ScalarFunction(call) if call.func.name() == "now" => Some(Given::Now),
            // What is computed of dates alone is a date, too.
            Expr::Column(_) | Expr::ScalarFunction(_) | Expr::Case(_) => match expr.get_type(schema) {
                Ok(DataType::Date32) => Some(Given::Date),
                // As above.
                Ok(_) | Err(_) => None,
            },
            _ => None,
        }
    }

    /// The same time in that unit, or in the next one that holds it; `None` where that is nanoseconds.
    fn in_unit(self, expr: &Expr, unit: TimeUnit) -> Option<Expr> {
        match self {
            Given::Typed(text, DataType::Timestamp(_, zone)) => {
                let unit = finer(unit, unit_of(text));
                let Expr::Cast(written) = expr else { return None };
                let to = DataType::Timestamp(unit, zone.clone());
                (unit != TimeUnit::Nanosecond).then(|| cast(written.expr.as_ref().clone(), to))
            }
            Given::Nanoseconds(nanoseconds, Expr::Literal(ScalarValue::TimestampNanosecond(_, zone), _)) => {
                let value = ScalarValue::TimestampMicrosecond(Some(nanoseconds / 1_000), zone.clone());
                (unit != TimeUnit::Nanosecond).then_some(Expr::Literal(value, None))
            }
            Given::TypedNow(DataType::Timestamp(_, zone)) if unit != TimeUnit::Nanosecond => {
                let Expr::Cast(written) = expr else { return None };
                let to = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                Some(cast(written.expr.as_ref().clone(), to))
            }
            Given::Now if unit != TimeUnit::Nanosecond => {
                let to = DataType::Timestamp(TimeUnit::Microsecond, Some(crate::time_zones::UTC.into()));
                Some(cast(expr.clone(), to))
            }
            _ => None,
        }
    }
}

/// Unit and zone of an expression that is a timestamp of less than nanoseconds.
fn coarse(expr: &Expr, schema: &DFSchema) -> Option<(TimeUnit, Option<Arc<str>>)> {
    match expr.get_type(schema) {
        Ok(DataType::Timestamp(unit, zone)) if unit != TimeUnit::Nanosecond => Some((unit, zone)),
        // What has no type here is for other rules to refuse.
        Ok(_) | Err(_) => None,
    }
}

fn cast(expr: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to))
}

/// The coarsest unit that has all digits of a text's second.
pub(crate) fn unit_of(text: &str) -> TimeUnit {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    match fraction[..end].trim_end_matches('0').len() {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn finer(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    one.max(other)
}
