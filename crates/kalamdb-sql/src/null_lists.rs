//! NULL in the list of an IN: taken out of the list, so that DataFusion cannot lose it.
//!
//! Problem: DataFusion 55's simplifier merges two IN lists over one expression as sets and forgets that a NULL among them makes
//! a miss unknown: `d IN (0, 7) AND d NOT IN (1, NULL)` becomes `d IN (0, 7)`, and a DELETE with it removes rows. Proper way:
//! the simplifier leaves such lists alone. Chosen: `x IN (a, NULL)` is written as `x IN (a) OR NULL`, `x NOT IN (a, NULL)` as
//! `x NOT IN (a) AND NULL`, which is what they mean, before the simplifier sees them.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, and, lit, or};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

/// The rule.
#[derive(Debug)]
pub(crate) struct NullsInLists;

impl AnalyzerRule for NullsInLists {
    fn name(&self) -> &str {
        "nulls_in_lists"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| Ok(without_null(expr)))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(rewritten.data)
    }
}

fn without_null(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::InList(list) if list.list.iter().any(is_null) => {
            let InList { expr, list, negated } = list;
            let rest: Vec<Expr> = list.into_iter().filter(|element| !is_null(element)).collect();
            let unknown = lit(ScalarValue::Boolean(None));
            if rest.is_empty() {
                return Transformed::yes(unknown);
            }
            let known = Expr::InList(InList::new(expr, rest, negated));
            Transformed::yes(if negated {
                and(known, unknown)
            } else {
                or(known, unknown)
            })
        }
        other => Transformed::no(other),
    }
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}
