//! INTERSECT ALL and EXCEPT ALL, which count how often a row is on either side.
//!
//! Problem: DataFusion joins the sides, so that one row there finds, or takes away, all that are equal here. Chosen: of equal rows
//! each has its number, by which they are joined too: the second here with the second there. Evidence: `intersect_or_except` of
//! datafusion-expr 55 `logical_plan/builder.rs`.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};

/// Numbers equal rows of the sides of such operations in a plan.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn numbered(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) if keeps_equal_rows(&join) => Ok(Transformed::yes(joined_by_number(join)?)),
        other => Ok(Transformed::no(other)),
    })
}

/// Whether it is such an operation: no other join that can be written finds NULL equal to NULL, and one without ALL has
/// distinct rows on the left.
fn keeps_equal_rows(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
}

fn joined_by_number(join: Join) -> Result<LogicalPlan> {
    let own = join.schema.columns().into_iter().map(Expr::Column);
    let (left, right) = ("?left number?", "?right number?");
    let mut on = join.on;
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    on.push((column(left), column(right)));
    let joined = Join::try_new(
        Arc::new(with_number(&join.left, left)?),
        Arc::new(with_number(&join.right, right)?),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(joined))
        .project(own)?
        .build()
}

/// A plan's rows, each with its number among those that are equal.
fn with_number(plan: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let columns = || plan.schema().columns().into_iter().map(Expr::Column);
    let number = row_number().partition_by(columns().collect()).build()?;
    let named = Expr::Column(Column::new_unqualified(number.schema_name().to_string())).alias(name);
    LogicalPlanBuilder::from(plan.clone())
        .window([number])?
        .project(columns().chain([named]))?
        .build()
}
