//! Puts functions that refuse in the place of those that wrap numbers, fill the memory or take for ever, floats in order,
//! and members of IN lists that are no literals beside these, once all expressions have their types.

use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::far_bins;
use crate::far_times;
use crate::float_order;
use crate::formatted_times;
use crate::growth;
use crate::mixed_lists;
use crate::operators;
use crate::pattern_operators;
use crate::plan_expressions;
use crate::types;

/// The rule; it comes after type coercion.
#[derive(Debug)]
pub(crate) struct Guards;

impl AnalyzerRule for Guards {
    fn name(&self) -> &str {
        "guards"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            plan_expressions::map(plan, guarded)?.map_data(|plan| Ok(float_order::sorted(plan)))
        })?;
        Ok(rewritten.data)
    }
}

/// The same expression, guarded; for expressions outside plans, after their coercion.
///
/// # Errors
/// UNSUPPORTED for a cast to a type whose single value would be too large.
pub(crate) fn guarded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    mixed_lists::apart(expr)?.transform_data(|expr| parts_guarded(expr, schema))
}

fn parts_guarded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(binary) => {
            let guarded = operators::guard_binary(binary, schema);
            Ok(match guarded.data {
                Expr::BinaryExpr(binary) if pattern_operators::is_one(binary.op) => {
                    pattern_operators::bounded(Expr::BinaryExpr(binary))
                }
                Expr::BinaryExpr(binary) => float_order::computed(binary, schema),
                other => Transformed::new_transformed(other, guarded.transformed),
            })
        }
        Expr::Negative(operand) => {
            let guarded = operators::guard_negation(operand, schema);
            Ok(match guarded.data {
                Expr::Negative(operand) => float_order::negated(operand, schema),
                other => Transformed::new_transformed(other, guarded.transformed),
            })
        }
        Expr::ScalarFunction(call) if matches!(call.func.name(), "arrow_cast" | "arrow_try_cast") => {
            let cast = Expr::ScalarFunction(call);
            check_width(&cast.get_type(schema)?)?;
            Ok(Transformed::no(cast))
        }
        Expr::ScalarFunction(call) => {
            let typed = formatted_times::typed(call);
            let far = far_times::truncated(typed.data);
            let binned = far_bins::binned(far.data);
            let bounded = growth::bounded(binned.data);
            let changed = typed.transformed || far.transformed || binned.transformed || bounded.transformed;
            Ok(match bounded.data {
                Expr::ScalarFunction(call) => {
                    let plain = float_order::called(call, schema);
                    Transformed::new_transformed(plain.data, changed || plain.transformed)
                }
                other => Transformed::new_transformed(other, changed),
            })
        }
        Expr::Cast(cast) => {
            check_width(cast.field.data_type())?;
            Ok(Transformed::no(Expr::Cast(cast)))
        }
        Expr::TryCast(cast) => {
            check_width(cast.field.data_type())?;
            Ok(Transformed::no(Expr::TryCast(cast)))
        }
        pattern @ (Expr::Like(_) | Expr::SimilarTo(_)) => Ok(pattern_operators::bounded(pattern)),
        Expr::Case(mut case) => {
            let changed = float_order::in_case(&mut case, schema);
            Ok(Transformed::new_transformed(Expr::Case(case), changed))
        }
        mut other => {
            let changed = float_order::order_inside(&mut other, schema);
            Ok(Transformed::new_transformed(other, changed))
        }
    })
}

fn check_width(data_type: &arrow::datatypes::DataType) -> Result<()> {
    types::check_width(data_type).map_err(|error| DataFusionError::External(Box::new(error)))
}
