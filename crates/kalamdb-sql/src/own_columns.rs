//! Filters that equate a column with what is computed, `abs(a) = a`: a rule of the physical plan that keeps it to themselves.
//!
//! Problem: DataFusion 55 takes both sides for the same in orders above the filter, and puts one in the place of the other. Where the
//! computed one has the column in it, by itself or by way of another equality, it comes to orders that no step has asked for, and
//! refuses to run a window function above (`PARTITION BY a`). Proper way: no such equality among what is known of a plan. Chosen:
//! `computed = column` is written as `NOT computed <> column`, of which DataFusion concludes nothing. Equalities of two columns, and
//! those with constants, stay. What that costs is a sort of rows that are in the order of what a column is equal to. Evidence:
//! `collect_columns_from_predicate_inner` of datafusion-physical-plan 55 `filter.rs`, and `add_equal_conditions` of
//! datafusion-physical-expr 55 `equivalence/properties/mod.rs`.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, NotExpr};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

/// The rule; it comes before all that rely on orders.
#[derive(Debug)]
pub(crate) struct OwnColumns;

impl PhysicalOptimizerRule for OwnColumns {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|plan| {
            let Some(filter) = plan.downcast_ref::<FilterExec>() else {
                return Ok(Transformed::no(plan));
            };
            let conditions = split_conjunction(filter.predicate());
            if !conditions
                .iter()
                .any(|condition| equality_with_computed(condition).is_some())
            {
                return Ok(Transformed::no(plan));
            }
            let kept = conditions
                .into_iter()
                .map(|condition| match equality_with_computed(condition) {
                    Some(equality) => kept_apart(equality),
                    None => Arc::clone(condition),
                });
            let filter = FilterExecBuilder::from(filter).with_predicate(conjunction(kept));
            Ok(Transformed::yes(Arc::new(filter.build()?) as _))
        });
        rewritten.data()
    }

    fn name(&self) -> &str {
        "own_columns"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn equality_with_computed(condition: &Arc<dyn PhysicalExpr>) -> Option<&BinaryExpr> {
    let equality = condition.downcast_ref::<BinaryExpr>()?;
    let is_column = |side: &Arc<dyn PhysicalExpr>| side.downcast_ref::<Column>().is_some();
    let is_computed = |side: &Arc<dyn PhysicalExpr>| !is_column(side) && side.downcast_ref::<Literal>().is_none();
    let (left, right) = (equality.left(), equality.right());
    let is_one = is_column(left) && is_computed(right) || is_column(right) && is_computed(left);
    (*equality.op() == Operator::Eq && is_one).then_some(equality)
}

fn kept_apart(equality: &BinaryExpr) -> Arc<dyn PhysicalExpr> {
    let (left, right) = (Arc::clone(equality.left()), Arc::clone(equality.right()));
    let unequal = BinaryExpr::new(left, Operator::NotEq, right);
    Arc::new(NotExpr::new(Arc::new(unequal)))
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn windows_stand_above_a_filter_that_equates_a_column_with_what_is_computed_of_it() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE b1 (id BIGINT PRIMARY KEY, a BIGINT, b BIGINT)",
            "INSERT INTO b1 VALUES (1, 1, 1), (2, 2, 1), (3, 4, 2), (4, -4, 2), (5, 0, 0), (6, NULL, 0), (7, 7, 0)",
        ]);
        let check_all = || {
            for (condition, expected) in [
                ("abs(a) = a", &["1|1", "2|1", "3|1", "5|1", "7|1"] as &[&str]),
                ("a = abs(a)", &["1|1", "2|1", "3|1", "5|1", "7|1"]),
                ("a + b = a", &["5|1", "7|1"]),
                ("a - b = b", &["2|1", "3|1", "5|1"]),
                ("abs(a) = b AND a = b", &["1|1", "5|1"]),
                ("NOT a + b = a", &["1|1", "2|1", "3|1", "4|1"]),
            ] {
                for window in [
                    "PARTITION BY a ORDER BY b",
                    "PARTITION BY a, b ORDER BY id",
                    "PARTITION BY b + a ORDER BY a, id",
                    "PARTITION BY abs(a), a ORDER BY id",
                ] {
                    let sql = format!("SELECT id, rank() OVER ({window}) FROM b1 WHERE {condition} ORDER BY id");
                    let rows = fixture.rows(&sql);
                    assert_eq!(rows.len(), expected.len(), "{sql}");
                    if window != "PARTITION BY b + a ORDER BY a, id" {
                        assert_eq!(rows, expected, "{sql}");
                    }
                }
                fixture.rows(&format!(
                    "SELECT a, sum(b) OVER (ORDER BY a), count(*) FROM b1 WHERE {condition} GROUP BY a, b ORDER BY a"
                ));
            }
        };
        check_all();
        fixture.run(&["FLUSH TABLE b1"]);
        check_all();
        fixture.run(&[
            "INSERT INTO b1 VALUES (8, NULL, 1)",
            "UPDATE b1 SET b = b WHERE id IN (2, 3)",
        ]);
        check_all();
    }
}
