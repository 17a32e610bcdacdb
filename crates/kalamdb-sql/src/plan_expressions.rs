//! What rules that rewrite the expressions of plans share.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

/// Rewrites the expressions of one node, given the schema that they read. They keep their names, in which DataFusion may show a
/// function otherwise than the operator that it stands for (`rank() ORDER BY [a + 1 …]`); as long as types and nullability stay, so
/// does every schema.
///
/// # Errors
/// Those of `rewrite`.
pub(crate) fn map(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = if let LogicalPlan::TableScan(scan) = &plan {
        scan.projected_schema.as_ref().clone()
    } else {
        merge_schema(&plan.inputs())
    };
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
    })
}

/// `=`, `<` and the like, IS DISTINCT FROM among them.
pub(crate) fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}
