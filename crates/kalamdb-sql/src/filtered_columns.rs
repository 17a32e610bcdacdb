//! Filters that pass on some of their columns, as a filter and a projection: a rule of the physical plan.
//!
//! Problem: DataFusion 55 moves a projection below a filter as if the filter passed all of its columns on: where the filter leaves
//! some out by itself, the filter then asks other columns than it did, and a query fails or finds other rows. Proper way: to take the
//! filter's own projection into account. Chosen: before the rule that does so looks, such a projection stands above its filter; the
//! rule merges the two and puts into the filter what it may. Evidence: `FilterExec::try_swapping_with_projection` of
//! datafusion-physical-plan 55 `filter.rs`.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// The rule; it comes before each `ProjectionPushdown`.
#[derive(Debug)]
pub(crate) struct FilteredColumns;

/// DataFusion's rules with this one among them.
pub(crate) fn before_swapping(
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut all: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = Vec::with_capacity(rules.len() + 2);
    for rule in rules {
        if rule.name() == "ProjectionPushdown" {
            all.push(Arc::new(FilteredColumns));
        }
        all.push(rule);
    }
    all
}

impl PhysicalOptimizerRule for FilteredColumns {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|plan| {
            let Some(filter) = plan.downcast_ref::<FilterExec>() else {
                return Ok(Transformed::no(plan));
            };
            let Some(projection) = filter.projection().as_ref() else {
                return Ok(Transformed::no(plan));
            };
            let schema = filter.input().schema();
            let columns = projection.iter().map(|index| {
                let name = schema.field(*index).name();
                ProjectionExpr {
                    expr: Arc::new(Column::new(name, *index)),
                    alias: name.clone(),
                }
            });
            let columns: Vec<ProjectionExpr> = columns.collect();
            let whole = FilterExecBuilder::new(Arc::clone(filter.predicate()), Arc::clone(filter.input()))
                .with_default_selectivity(filter.default_selectivity())
                .with_batch_size(filter.batch_size())
                .with_fetch(plan.fetch())
                .build()?;
            let projected = ProjectionExec::try_new(columns, Arc::new(whole) as Arc<dyn ExecutionPlan>)?;
            Ok(Transformed::yes(Arc::new(projected) as _))
        });
        rewritten.data()
    }

    fn name(&self) -> &str {
        "filtered_columns"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn a_projection_above_a_filter_with_one_leaves_the_filter_its_columns() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE e1 (id INT PRIMARY KEY, a INT, b INT)",
            "INSERT INTO e1 VALUES (1, NULL, 1), (2, 2, NULL), (3, 3, 3), (4, 9, 9)",
        ]);
        // Rows of `c` that match none have no `a`, and go.
        for join in ["FULL", "LEFT", "RIGHT"] {
            let from = format!("FROM e1 a CROSS JOIN e1 b {join} JOIN e1 c ON c.a <> b.id");
            for condition in [
                "a.id = a.id",
                "a.id > 1",
                "a.id = a.id AND b.id > a.id",
                "c.id = c.id OR a.id = 2",
            ] {
                let counted = fixture.rows(&format!("SELECT count(*) {from} WHERE {condition}"));
                for columns in [
                    "c.id, c.b + b.a, a.b",
                    "c.id, (CASE WHEN c.id <= c.b THEN 3 ELSE c.id END * b.a), a.b",
                    "c.id, b.id",
                    "b.id",
                    "c.id + b.id, c.b",
                ] {
                    let sql = format!("SELECT {columns} {from} WHERE {condition}");
                    let rows = fixture.rows(&sql);
                    assert_eq!(vec![rows.len().to_string()], counted, "{sql}");
                }
            }
        }
        fixture.check(
            "SELECT DISTINCT c.id, (CASE WHEN c.id <= c.b THEN 3 ELSE c.id END * b.a), a.b FROM e1 a CROSS JOIN e1 b \
             FULL JOIN e1 c ON c.a <> b.id WHERE a.id = a.id AND a.b = 3 AND c.id = 2 ORDER BY 2",
            &["2|6|3", "2|18|3", "2|NULL|3"],
        );
    }
}
