//! Gives expressions the session's time zone: wherever a TIMESTAMP WITH TIME ZONE meets text, a local time, a date or a calendar.
//!
//! Problem: to Arrow the zone is a part of the type, and DataFusion converts by the type alone: a column, which is in UTC, becomes
//! text in UTC, whatever the session's zone is. PostgreSQL's meaning is that of one type, converted in the session's zone. Chosen:
//! every such value is in UTC, and once all expressions have their types, the conversions go through the session's zone. Local
//! times go through a function rather than a cast, since DataFusion 55 moves a cast between timestamps from a column to the
//! constant beside it as if there were no zones (`cast_between_timestamp` in datafusion-expr-common `casts.rs`).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::plan_expressions;
use crate::time_zones::{AtTimeZone, UTC};

/// Functions that look at a calendar or a clock, or write one down.
const CALENDAR_FUNCTIONS: &[&str] = &[
    "date_part",
    "date_trunc",
    "to_char",
    "to_date",
    "to_local_time",
    "to_time",
];

/// Functions that read text as a moment; they have their zone from the session's options.
const READING_FUNCTIONS: &str = "to_timestamp";

/// The rule; it comes after type coercion.
#[derive(Debug)]
pub(crate) struct SessionZone;

impl AnalyzerRule for SessionZone {
    fn name(&self) -> &str {
        "session_zone"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            plan_expressions::map(plan, |expr, schema| zoned(expr, schema, config))
        })?;
        Ok(rewritten.data)
    }
}

/// The same expression in the session's zone; for expressions outside plans, after their coercion.
///
/// # Errors
/// What asking for the type of what was made says.
pub(crate) fn zoned(expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> Result<Transformed<Expr>> {
    let zone: Arc<str> = config.execution.time_zone.as_deref().unwrap_or(UTC).into();
    expr.transform_up(|expr| match expr {
        Expr::Cast(Cast { expr, field }) => {
            let operand = operand(*expr, schema, field.data_type(), &zone, CastKind::Strict);
            Ok(operand.update_data(|operand| Expr::Cast(Cast::new_from_field(Box::new(operand), field))))
        }
        Expr::TryCast(TryCast { expr, field }) => {
            let operand = operand(*expr, schema, field.data_type(), &zone, CastKind::Try);
            Ok(operand.update_data(|operand| Expr::TryCast(TryCast::new_from_field(Box::new(operand), field))))
        }
        Expr::ScalarFunction(call) => function(call, schema, config, &zone),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            arithmetic(binary, schema, &zone)
        }
        other => Ok(Transformed::no(other)),
    })
}

#[derive(Clone, Copy)]
enum CastKind {
    Strict,
    Try,
}

impl CastKind {
    fn cast(self, expr: Expr, to: DataType) -> Expr {
        match self {
            CastKind::Strict => Expr::Cast(Cast::new(Box::new(expr), to)),
            CastKind::Try => Expr::TryCast(TryCast::new(Box::new(expr), to)),
        }
    }

    fn at_time_zone(self, expr: Expr, zone: &str) -> Expr {
        let function = match self {
            CastKind::Strict => AtTimeZone::strict(),
            CastKind::Try => AtTimeZone::lenient(),
        };
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![lit(zone), expr]))
    }
}

/// What to cast instead, so that the cast is one in the session's zone.
fn operand(expr: Expr, schema: &DFSchema, to: &DataType, zone: &Arc<str>, kind: CastKind) -> Transformed<Expr> {
    use DataType as T;
    let Some(from) = type_of(&expr, schema) else {
        return Transformed::no(expr);
    };
    // In UTC Arrow's casts mean the same.
    let plain = |other: &Arc<str>| **zone == *UTC && **other == *UTC;
    let in_zone = |unit| T::Timestamp(unit, Some(Arc::clone(zone)));
    match (&from, to) {
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Timestamp(unit, Some(other))) if other != zone => {
            Transformed::yes(kind.cast(expr, in_zone(*unit)))
        }
        (T::Timestamp(unit, Some(other)), T::Utf8 | T::LargeUtf8 | T::Utf8View) if other != zone => {
            Transformed::yes(kind.cast(expr, in_zone(*unit)))
        }
        (T::Timestamp(_, Some(other)), T::Timestamp(_, None) | T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_))
            if !plain(other) =>
        {
            Transformed::yes(kind.at_time_zone(expr, zone))
        }
        (T::Timestamp(_, None), T::Timestamp(_, Some(other))) if !plain(other) => {
            Transformed::yes(kind.at_time_zone(expr, zone))
        }
        (T::Date32 | T::Date64, T::Timestamp(unit, Some(other))) if !plain(other) => {
            let midnight = kind.cast(expr, T::Timestamp(*unit, None));
            Transformed::yes(kind.at_time_zone(midnight, zone))
        }
        _ => Transformed::no(expr),
    }
}

fn function(
    mut call: ScalarFunction,
    schema: &DFSchema,
    config: &ConfigOptions,
    zone: &Arc<str>,
) -> Result<Transformed<Expr>> {
    let name = call.func.name();
    let reads = name.starts_with(READING_FUNCTIONS);
    if !reads && !CALENDAR_FUNCTIONS.contains(&name) {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    let Some(before) = type_of(&Expr::ScalarFunction(call.clone()), schema) else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    if reads {
        match call.func.inner().with_updated_config(config) {
            Some(configured) if **zone != *UTC => call.func = Arc::new(configured),
            _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
        }
    } else {
        let mut changed = false;
        for argument in &mut call.args {
            if let Some(DataType::Timestamp(unit, Some(other))) = type_of(argument, schema)
                && other != *zone
            {
                *argument = in_zone(std::mem::take(argument), unit, zone);
                changed = true;
            }
        }
        if !changed {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
    }
    Ok(Transformed::yes(as_before(Expr::ScalarFunction(call), before, schema)?))
}

/// A day is as long as it is in the session's zone.
fn arithmetic(mut binary: BinaryExpr, schema: &DFSchema, zone: &Arc<str>) -> Result<Transformed<Expr>> {
    use DataType as T;
    // The right side first: of a chain of operators, the left one is all the rest of the chain.
    let right = type_of(&binary.right, schema);
    let (moment, before) = match &right {
        Some(T::Interval(_)) => {
            let left = type_of(&binary.left, schema);
            (&mut binary.left, left)
        }
        Some(T::Timestamp(_, Some(_))) if matches!(type_of(&binary.left, schema), Some(T::Interval(_))) => {
            (&mut binary.right, right)
        }
        _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
    };
    let before = match before {
        Some(T::Timestamp(unit, Some(other))) if other != *zone => {
            **moment = in_zone(std::mem::take(&mut **moment), unit, zone);
            T::Timestamp(unit, Some(other))
        }
        _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
    };
    Ok(Transformed::yes(as_before(Expr::BinaryExpr(binary), before, schema)?))
}

/// `None` for what has no type here: other rules say what is wrong with it.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok() // See above.
}

fn in_zone(expr: Expr, unit: arrow::datatypes::TimeUnit, zone: &Arc<str>) -> Expr {
    CastKind::Strict.cast(expr, DataType::Timestamp(unit, Some(Arc::clone(zone))))
}

/// The expression in the type that it had before.
fn as_before(expr: Expr, before: DataType, schema: &DFSchema) -> Result<Expr> {
    Ok(if expr.get_type(schema)? == before {
        expr
    } else {
        CastKind::Strict.cast(expr, before)
    })
}
