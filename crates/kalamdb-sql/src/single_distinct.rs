//! `count(DISTINCT a)` beside `sum(d)`, of the types that the query has been planned with.
//!
//! Problem: DataFusion computes such an aggregate in two steps, the second a sum of sums, whose type is wider for DECIMAL than that
//! of the sum that is written. Chosen: where types would change, it remains one step. Evidence: datafusion-optimizer 55
//! `single_distinct_to_groupby.rs`.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's rule where it keeps types.
#[derive(Debug)]
struct KeptTypes(Arc<dyn OptimizerRule + Send + Sync>);

/// DataFusion's rules with that one bounded.
pub(crate) fn of_kept_types(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let bounded = rules
        .into_iter()
        .map(|rule| match rule.name() == "single_distinct_aggregation_to_group_by" {
            true => Arc::new(KeptTypes(rule)) as Arc<_>,
            false => rule,
        });
    bounded.collect()
}

impl OptimizerRule for KeptTypes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return self.0.rewrite(plan, config);
        }
        let rewritten = self.0.rewrite(plan.clone(), config)?;
        let types = |plan: &LogicalPlan| {
            let types = plan.schema().fields().iter().map(|field| field.data_type().clone());
            types.collect::<Vec<_>>()
        };
        Ok(match types(&rewritten.data) == types(&plan) {
            true => rewritten,
            false => Transformed::no(plan),
        })
    }
}
