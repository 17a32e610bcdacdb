//! DataFusion's rules with a look at the statement's interruption before each, and at what each made.
//!
//! Problem: planning is one computation that awaits nothing, so that dropping its future cannot end it, and some rules multiply
//! what they are given: a filter that moves below a projection takes the projection's expressions for its columns, level by
//! level. Proper way: rules that yield and that count. Chosen: each rule is wrapped. The optimizer itself walks the plan for most
//! rules and calls them for each node, so that a look happens at each node. What remains is one rule on one node, or one rule that
//! walks by itself, over a plan within the bounds of [`crate::plan_size`].

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

use crate::interruption::Interruption;
use crate::plan_size::PlanSize;

/// A rule with a pause before it.
#[derive(Debug)]
struct Paused<R: ?Sized>(Arc<R>);

/// The analyzer's rules, each with a pause.
pub(crate) fn of_analyzer(rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>>) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let paused = rules.into_iter().map(|rule| Arc::new(Paused(rule)) as Arc<_>);
    paused.collect()
}

/// The optimizer's rules, each with a pause.
pub(crate) fn of_optimizer(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let paused = rules.into_iter().map(|rule| Arc::new(Paused(rule)) as Arc<_>);
    paused.collect()
}

/// The physical optimizer's rules, each with a pause.
pub(crate) fn of_physical_optimizer(
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let paused = rules.into_iter().map(|rule| Arc::new(Paused(rule)) as Arc<_>);
    paused.collect()
}

impl AnalyzerRule for Paused<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        Interruption::check_options(config)?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Paused<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Interruption::check_options(&config.options())?;
        let rewritten = self.0.rewrite(plan, config)?;
        if rewritten.transformed {
            let size = match self.0.apply_order() {
                // The next call looks at what is further down.
                Some(_) => PlanSize::of_top(&rewritten.data)?,
                None => PlanSize::of(&rewritten.data)?,
            };
            size.check()?;
        }
        Ok(rewritten)
    }
}

impl PhysicalOptimizerRule for Paused<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Interruption::check_options(config)?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Interruption::check_options(context.config_options())?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
