//! Projections with an expression that stands in the one below too, as in
//! `SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM …)`, made one.
//!
//! Problem: DataFusion 55 takes a projection for superfluous when the one below it has equal expressions, though `a` is another
//! column in each: the query adds 1 once. Proper way: to compare what the expressions are computed of. Chosen: before that rule
//! looks, such a projection is merged into the one above it, so that no two equal ones follow each other. Evidence: the fast path
//! of `merge_consecutive_projections_one_level` in datafusion-optimizer 55 `optimize_projections/mod.rs`.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule; it comes before each `optimize_projections`.
#[derive(Debug)]
pub(crate) struct EqualProjections;

/// DataFusion's rules with this one among them.
pub(crate) fn before_merging(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut all: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::with_capacity(rules.len() + 2);
    for rule in rules {
        if rule.name() == "optimize_projections" {
            all.push(Arc::new(EqualProjections));
        }
        all.push(rule);
    }
    all
}

impl OptimizerRule for EqualProjections {
    fn name(&self) -> &str {
        "equal_projections"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(mut upper) = plan else {
            return Ok(Transformed::no(plan));
        };
        let mut changed = false;
        // What comes of two may seem equal to the next one below, which came of two itself.
        while let LogicalPlan::Projection(lower) = upper.input.as_ref()
            && seem_equal(&upper, lower)?
        {
            upper = merged(&upper, lower)?;
            changed = true;
        }
        Ok(Transformed::new_transformed(LogicalPlan::Projection(upper), changed))
    }
}

/// Whether an expression of one projection is written as one of the other and means something else.
fn seem_equal(upper: &Projection, lower: &Projection) -> Result<bool> {
    for expr in upper.expr.iter().filter(|expr| lower.expr.contains(expr)) {
        for column in expr.column_refs() {
            let Some(index) = lower.schema.maybe_index_of_column(column) else {
                continue;
            };
            if lower.expr[index] != Expr::Column(column.clone()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The upper projection, computed from what the lower one is computed of.
fn merged(upper: &Projection, lower: &Projection) -> Result<Projection> {
    let exprs = upper.expr.iter().map(|expr| {
        let (relation, name) = expr.qualified_name();
        let computed = expr.clone().transform_down(|expr| {
            Ok(match &expr {
                Expr::Column(column) => match lower.schema.maybe_index_of_column(column) {
                    // Nothing in it is a column of the lower projection.
                    Some(index) => {
                        let below = lower.expr[index].clone().unalias();
                        Transformed::new(below, true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        Ok(computed.data.unalias().alias_qualified(relation, name))
    });
    Projection::try_new_with_schema(
        exprs.collect::<Result<_>>()?,
        Arc::clone(&lower.input),
        Arc::clone(&upper.schema),
    )
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn each_of_equal_projections_is_computed() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (a BIGINT PRIMARY KEY, b DOUBLE)",
            "INSERT INTO t VALUES (1, 8), (2, 16)",
        ]);
        let base = "(SELECT a AS a, b AS b FROM t)";
        for (sql, expected) in [
            (
                format!("SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM {base}) ORDER BY a"),
                ["3", "4"],
            ),
            (
                format!("SELECT a FROM (SELECT a + a AS a FROM (SELECT a + a AS a FROM {base})) ORDER BY a"),
                ["4", "8"],
            ),
            // What is not needed goes first, and makes them equal.
            (
                format!(
                    "SELECT b FROM (SELECT b / 2 AS b, a FROM (SELECT b / 2 AS b, a, a + 1 AS c FROM {base})) ORDER BY b"
                ),
                ["2.0", "4.0"],
            ),
            // So does a filter between them, once it is pushed down.
            (
                format!("SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM {base}) WHERE a > 1 ORDER BY a"),
                ["3", "4"],
            ),
            (
                format!("SELECT b AS a, a AS b FROM (SELECT b AS a, a AS b FROM {base}) ORDER BY a"),
                ["1|8.0", "2|16.0"],
            ),
            // Equal and superfluous.
            (
                format!("SELECT a + 1 AS c, a FROM (SELECT a + 1 AS c, a FROM {base}) ORDER BY a"),
                ["2|1", "3|2"],
            ),
        ] {
            fixture.check(&sql, &expected);
        }
    }
}
