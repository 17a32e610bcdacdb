//! Joins that compare every row with every row: made to end with their statement, and to hold up nobody else.
//!
//! Problem: DataFusion 55 compares a batch with all rows of the other side in one poll, unless enough pairs match for a batch of
//! them. Proper way: a join that yields. Chosen: its condition looks at the statement's interruption before each evaluation, and
//! its polls leave their thread's other tasks to another thread. Evidence: `NestedLoopJoinStream::process_probe_batch` of
//! datafusion-physical-plan 55.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;

use crate::interruption::{Interruption, aside};

/// The rule; it comes after all that look at joins.
#[derive(Debug)]
pub(crate) struct NestedLoops;

impl PhysicalOptimizerRule for NestedLoops {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let interruption = config.extensions.get::<Interruption>();
        plan.transform_up(|plan| {
            let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else {
                return Ok(Transformed::no(plan));
            };
            let mut considerate = Arc::clone(&plan);
            if let (Some(interruption), Some(filter)) = (interruption, join.filter()) {
                let condition = Interruptible {
                    condition: Arc::clone(filter.expression()),
                    interruption: interruption.clone(),
                };
                let filter = JoinFilter::new(
                    Arc::new(condition),
                    filter.column_indices().to_vec(),
                    Arc::clone(filter.schema()),
                );
                let projection = join.projection().as_ref().map(|columns| columns.to_vec());
                let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
                let join = NestedLoopJoinExec::try_new(left, right, Some(filter), join.join_type(), projection)?;
                considerate = Arc::new(join);
            }
            Ok(Transformed::yes(Arc::new(Aside { plan: considerate }) as _))
        })
        .data()
    }

    fn name(&self) -> &str {
        "nested_loops"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A condition that fails once its statement must stop.
#[derive(Debug)]
struct Interruptible {
    condition: Arc<dyn PhysicalExpr>,
    interruption: Interruption,
}

impl PartialEq for Interruptible {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Interruptible {}

impl Hash for Interruptible {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Interruptible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for Interruptible {
    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.interruption
            .check()
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children
            .into_iter()
            .next()
            .unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Interruptible {
            condition,
            interruption: self.interruption.clone(),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

/// A plan whose polls may take long. To whoever looks at it, it is that plan.
#[derive(Debug)]
struct Aside {
    plan: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Aside {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt_as(format, f)
    }
}

impl ExecutionPlan for Aside {
    fn name(&self) -> &str {
        self.plan.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.plan.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plan.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan).replace_children(children, options)?;
        Ok(Arc::new(Aside { plan }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan).reset_state()?;
        Ok(Arc::new(Aside { plan }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.plan.execute(partition, context)?;
        Ok(Box::pin(AsideStream(rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }
}

struct AsideStream(SendableRecordBatchStream);

impl Stream for AsideStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        aside(|| self.0.as_mut().poll_next(context))
    }
}

impl RecordBatchStream for AsideStream {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Hours of comparisons, none of which finds a pair.
    const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b \
                           ON a.value + b.value = 1";

    fn context(interruption: Interruption) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().extensions.insert(interruption);
        let state = SessionStateBuilder::new().with_default_features().with_config(config);
        SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(NestedLoops)).build())
    }

    #[test]
    fn a_join_of_all_pairs_ends_with_its_statement() {
        let token = CancellationToken::new();
        let context = context(Interruption::new(token.clone(), None));
        let (told, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .expect("a runtime can be made");
            let outcome = runtime.block_on(async {
                let rows = tokio::spawn(async move {
                    let plan = context.sql(ENDLESS).await?.create_physical_plan().await?;
                    collect(plan, context.task_ctx()).await
                });
                // The one thread that there is computes now; this task is on another.
                tokio::spawn(async move { token.cancel() }).await.expect("it runs");
                rows.await.expect("no panic")
            });
            told.send(outcome.map(|_| ()).map_err(|error| error.to_string()))
                .expect("it is waited for");
        });
        let outcome = ended.recv_timeout(Duration::from_secs(120)).expect("it ends");
        assert!(outcome.is_err_and(|error| error.contains("cancelled")));
    }

    #[tokio::test]
    async fn whoever_looks_at_a_join_sees_the_join() {
        let context = context(Interruption::new(CancellationToken::new(), None));
        let sql =
            "SELECT a.value FROM generate_series(1, 3) a JOIN generate_series(1, 3) b ON a.value < b.value ORDER BY 1";
        let plan = context.sql(sql).await.expect("plans");
        let plan = plan.create_physical_plan().await.expect("plans");
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(
            shown.contains("NestedLoopJoinExec: join_type=Inner, filter=value"),
            "{shown}"
        );
        assert!(!shown.contains("Aside"), "{shown}");
        let rows = collect(plan, context.task_ctx()).await.expect("runs");
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
}
