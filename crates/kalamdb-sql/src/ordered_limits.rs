//! Limits above scans that were given an order: a rule of the physical plan. DataFusion pushes limits down before it gives sorts to
//! scans, and what stood below a sort has not seen its limit.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;
use datafusion::physical_plan::ExecutionPlan;

use crate::scan_exec::ScanExec;

/// DataFusion's rule once more, for plans with such a scan.
#[derive(Debug, Default)]
pub(crate) struct OrderedLimits(LimitPushdown);

impl PhysicalOptimizerRule for OrderedLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut found = false;
        plan.apply(|node| {
            found = node.downcast_ref::<ScanExec>().is_some_and(ScanExec::is_ordered);
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        match found {
            true => self.0.optimize(plan, config),
            false => Ok(plan),
        }
    }

    fn name(&self) -> &str {
        "ordered_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
