//! Constants of a plan that would be too much: values that a batch repeats for each of its rows, and sizes that aggregates take.
//!
//! A constant is in a plan once. Where an operator needs it as a column, it stands there once for each row of the batch: a text
//! of 16 MB in a SELECT list makes 128 GB of 8192 rows. Such a constant is looked at again when the number of rows is known.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Case, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::growth::{self, MOST_JOINED_BYTES, of_scalar};

/// Centroids of an approximate percentile: 16 bytes each, taken at once for each group. A thousandth of them is exact enough.
const MOST_CENTROIDS: u64 = 100_000;

/// Bounds the constants of an optimized plan; after this nothing may fold them again.
///
/// # Errors
/// STATEMENT_TOO_LARGE for a separator that is too large by itself, INVALID_ARGUMENT for too many centroids.
pub(crate) fn bounded(plan: LogicalPlan, batch_rows: usize) -> Result<LogicalPlan> {
    let bounded = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
            plan.map_expressions(|expr| column(expr, batch_rows))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bounded.data)
}

/// An expression that becomes a column.
fn column(expr: Expr, batch_rows: usize) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Literal(ref value, _) if is_large(value, batch_rows)? => {
            let repeated = Arc::new(ScalarUDF::from(Repeated::new()));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
                repeated,
                vec![expr],
            ))))
        }
        Expr::Alias(mut alias) => {
            let inner = column(*alias.expr, batch_rows)?;
            alias.expr = Box::new(inner.data);
            Ok(Transformed::new_transformed(Expr::Alias(alias), inner.transformed))
        }
        Expr::Case(case) => {
            let Case {
                expr,
                when_then_expr,
                else_expr,
            } = case;
            let mut changed = false;
            let mut result = |expr: Box<Expr>| -> Result<Box<Expr>> {
                let result = column(*expr, batch_rows)?;
                changed |= result.transformed;
                Ok(Box::new(result.data))
            };
            let when_then_expr = when_then_expr
                .into_iter()
                .map(|(when, then)| Ok((when, result(then)?)))
                .collect::<Result<_>>()?;
            let else_expr = else_expr.map(&mut result).transpose()?;
            let case = Expr::Case(Case::new(expr, when_then_expr, else_expr));
            Ok(Transformed::new_transformed(case, changed))
        }
        Expr::AggregateFunction(mut aggregate) => {
            check_aggregate(&aggregate, batch_rows)?;
            let changed = columns(&mut aggregate.params.args, batch_rows)?;
            Ok(Transformed::new_transformed(
                Expr::AggregateFunction(aggregate),
                changed,
            ))
        }
        Expr::WindowFunction(mut window) => {
            let changed = columns(&mut window.params.args, batch_rows)?;
            Ok(Transformed::new_transformed(Expr::WindowFunction(window), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn columns(args: &mut Vec<Expr>, batch_rows: usize) -> Result<bool> {
    let mut changed = false;
    *args = std::mem::take(args)
        .into_iter()
        .map(|arg| {
            let arg = column(arg, batch_rows)?;
            changed |= arg.transformed;
            Ok(arg.data)
        })
        .collect::<Result<_>>()?;
    Ok(changed)
}

fn is_large(value: &ScalarValue, rows: usize) -> Result<bool> {
    Ok(of_scalar(value)?.saturating_mul(rows as u64) > MOST_JOINED_BYTES)
}

/// Constants that an aggregate takes as they are.
fn check_aggregate(aggregate: &AggregateFunction, batch_rows: usize) -> Result<()> {
    let name = aggregate.func.name();
    match aggregate.params.args.as_slice() {
        [_, Expr::Literal(separator, _)] if name == "string_agg" => {
            let bytes = of_scalar(separator)?.saturating_mul(batch_rows as u64);
            growth::check(name, bytes, MOST_JOINED_BYTES)
        }
        args if name.starts_with("approx_percentile_cont") => {
            let counts = args.iter().filter_map(|arg| match arg {
                Expr::Literal(value, _) if value.data_type().is_integer() => {
                    match value.cast_to(&DataType::UInt64) {
                        Ok(ScalarValue::UInt64(count)) => count,
                        // Negative: the function says so.
                        Ok(_) | Err(_) => None,
                    }
                }
                _ => None,
            });
            match counts.max() {
                Some(most) if most > MOST_CENTROIDS => {
                    let message = format!("{name} takes at most {MOST_CENTROIDS} centroids, not {most}");
                    let error = Error::new(ErrorCode::InvalidArgument, message);
                    Err(DataFusionError::External(Box::new(error)))
                }
                Some(_) | None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Its argument, a constant, for as many rows as the bound allows. Volatile, so that nothing takes it for a constant again.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Repeated {
    signature: Signature,
}

impl Repeated {
    fn new() -> Self {
        Repeated {
            signature: Signature::any(1, Volatility::Volatile),
        }
    }
}

impl ScalarUDFImpl for Repeated {
    fn name(&self) -> &str {
        "constant"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        growth::check(
            "a constant in each row of a result",
            growth::together(&args.args, args.number_rows)?,
            MOST_JOINED_BYTES,
        )?;
        args.args
            .into_iter()
            .next()
            .ok_or_else(|| DataFusionError::Internal("a constant without a value".to_owned()))
    }
}
