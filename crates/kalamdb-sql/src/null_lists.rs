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
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, and, lit, or};
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
            let filters = matches!(plan, LogicalPlan::Filter(_));
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| Ok(without_null(expr)))?;
                let rewritten = if filters && rewritten.transformed {
                    rewritten.update_data(without_unknown)
                } else {
                    rewritten
                };
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

/// A filter passes on what is true: `p OR NULL` as one of its conditions is `p`, and `p` may be a key range.
fn without_unknown(filter: Expr) -> Expr {
    let conditions = split_conjunction_owned(filter)
        .into_iter()
        .map(|condition| match condition {
            Expr::BinaryExpr(binary) if binary.op == Operator::Or && is_null(&binary.right) => *binary.left,
            other => other,
        });
    conjunction(conditions).unwrap_or_else(|| lit(true))
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}
