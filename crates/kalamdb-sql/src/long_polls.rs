//! Operators that compute for long without awaiting anything: made to end with their statement, and to hold up nobody else.
//!
//! Problem: DataFusion 55 yields where it reads tables. A join that makes many rows of few hands out batch after batch without
//! a pause, one whose rows find no partner, or are only marked, loops within one poll, as do windows over their whole input, and
//! a TopK sorts all that it keeps when it hands it out. Proper way: operators that yield. Chosen: each is wrapped, so that its
//! polls look at the interruption and yield when their turn is over ([`paced`]); what loops within a poll asks the interruption
//! through its condition ([`condition`]) or its window functions ([`windows`]), on a thread that others' tasks have left; and a
//! TopK of very many rows becomes a sort, which makes its rows batch by batch. Evidence: `process_probe_batch` of
//! `HashJoinStream` and `NestedLoopJoinStream`, `CrossJoinStream::build_batches`, `WindowAggStream::compute_aggregates`,
//! `get_result_column` of window expressions, `TopK::emit` in DataFusion 55. Sort-merge, piecewise-merge and symmetric hash joins
//! are not among them: nothing here plans them.

mod aggregates;
mod condition;
mod paced;
mod windows;

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use crate::interruption::Interruption;
use paced::{Paced, Thread, with_paced_inputs};
pub(crate) use windows::AskingWindows;

/// Up to so many rows a TopK keeps; beyond, all are sorted and the first taken. Handing out so many takes some tens of milliseconds.
const MOST_TOP_ROWS: usize = 100_000;

/// The rule; it comes after all that look at operators.
#[derive(Debug)]
pub(crate) struct LongPolls;

impl PhysicalOptimizerRule for LongPolls {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let interruption = config.extensions.get::<Interruption>();
        plan.transform_up(|plan| {
            let (considerate, thread) = if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
                (nested_loops(&plan, join, interruption)?, Thread::OfItsOwn)
            } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
                (hash_join(&plan, join, interruption)?, Thread::Shared)
            } else if plan.downcast_ref::<BoundedWindowAggExec>().is_some()
                || plan.downcast_ref::<WindowAggExec>().is_some()
            {
                (windows::interruptible(&plan, interruption)?, Thread::OfItsOwn)
            } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
                (sorted(&plan, sort), Thread::Shared)
            } else if plan.downcast_ref::<CrossJoinExec>().is_some()
                || plan.downcast_ref::<AggregateExec>().is_some()
                || plan.downcast_ref::<SortPreservingMergeExec>().is_some()
                || plan.downcast_ref::<UnnestExec>().is_some()
            {
                (Arc::clone(&plan), Thread::Shared)
            } else {
                return Ok(Transformed::no(plan));
            };
            let considerate = match thread {
                // There, the budget of tokio's tasks does not count, by which inputs yield.
                Thread::OfItsOwn => with_paced_inputs(considerate, interruption)?,
                Thread::Shared => considerate,
            };
            // What a condition asks beside is nothing to show; that a TopK is a sort is.
            let shown = match plan.downcast_ref::<SortExec>() {
                Some(_) => Arc::clone(&considerate),
                None => plan,
            };
            Ok(Transformed::yes(
                Paced::over(considerate, shown, interruption, thread) as _
            ))
        })
        .data()
    }

    fn name(&self) -> &str {
        "long_polls"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn nested_loops(
    plan: &Arc<dyn ExecutionPlan>,
    join: &NestedLoopJoinExec,
    interruption: Option<&Interruption>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(filter) = condition::interruptible(join.filter(), *join.join_type(), interruption) else {
        return Ok(Arc::clone(plan));
    };
    let projection = join.projection().as_ref().map(|columns| columns.to_vec());
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let join = NestedLoopJoinExec::try_new(left, right, Some(filter), join.join_type(), projection)?;
    Ok(Arc::new(join))
}

fn hash_join(
    plan: &Arc<dyn ExecutionPlan>,
    join: &HashJoinExec,
    interruption: Option<&Interruption>,
) -> Result<Arc<dyn ExecutionPlan>> {
    match condition::interruptible(join.filter(), *join.join_type(), interruption) {
        Some(filter) => join.builder().with_filter(Some(filter)).build_exec(),
        None => Ok(Arc::clone(plan)),
    }
}

/// Whether a join makes a row of each pair, so that its output fills as it goes on.
fn makes_pairs(join_type: JoinType) -> bool {
    match join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => true,
        JoinType::LeftSemi
        | JoinType::RightSemi
        | JoinType::LeftAnti
        | JoinType::RightAnti
        | JoinType::LeftMark
        | JoinType::RightMark => false,
    }
}

fn sorted(plan: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Arc<dyn ExecutionPlan> {
    match sort.fetch() {
        Some(rows) if rows > MOST_TOP_ROWS => {
            Arc::new(LocalLimitExec::new(Arc::new(sort.with_fetch(None)), rows)) as Arc<dyn ExecutionPlan>
        }
        Some(_) | None => Arc::clone(plan),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use arrow::array::RecordBatch;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Many rows whose `k` is the same, which no planner can know.
    const ROWS: &str = "(SELECT value, value / 10000000 AS k FROM generate_series(1, 300000))";

    /// Each computes for minutes at least.
    fn endless() -> Vec<String> {
        vec![
            // Comparisons of which none finds a pair.
            "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.value + b.value = 1"
                .to_owned(),
            "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b".to_owned(),
            format!("SELECT count(*) FROM {ROWS} a JOIN {ROWS} b ON a.k = b.k"),
            format!("SELECT count(*) FROM {ROWS} a JOIN {ROWS} b ON a.k = b.k AND a.value + b.value = 1"),
            format!("SELECT count(*) FROM {ROWS} a WHERE a.k IN (SELECT b.k FROM {ROWS} b)"),
            format!("SELECT count(*) FROM {ROWS} a WHERE NOT EXISTS (SELECT 1 FROM {ROWS} b WHERE a.k = b.k)"),
            // Each row costs as much as its frame.
            format!("SELECT count(m) FROM (SELECT median(value) OVER (ORDER BY value) AS m FROM {ROWS} a) w"),
            format!(
                "SELECT count(m) FROM (SELECT nth_value(value, 2) IGNORE NULLS OVER (ORDER BY value \
                 ROWS BETWEEN 100000 PRECEDING AND UNBOUNDED FOLLOWING) AS m FROM {ROWS} a) w"
            ),
        ]
    }

    fn context(interruption: Interruption) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().extensions.insert(interruption);
        let state = SessionStateBuilder::new().with_default_features().with_config(config);
        let state = state.with_physical_optimizer_rule(Arc::new(LongPolls));
        SessionContext::new_with_state(state.with_optimizer_rule(Arc::new(AskingWindows)).build())
    }

    #[test]
    fn what_computes_without_end_ends_with_its_statement() {
        for sql in endless() {
            let token = CancellationToken::new();
            let interruption = Interruption::new(token.clone(), None);
            let context = context(interruption.clone());
            let (told, ended) = mpsc::channel();
            let statement = sql.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .build()
                    .expect("a runtime can be made");
                let outcome = runtime.block_on(async {
                    let rows = tokio::spawn(async move {
                        let plan = context.sql(&statement).await?.create_physical_plan().await?;
                        collect(plan, context.task_ctx()).await
                    });
                    // The one thread that there is computes now; this task has its turns, or is on another.
                    let cancelled = tokio::spawn(async move {
                        for _ in 0..50 {
                            tokio::task::yield_now().await;
                        }
                        token.cancel();
                    });
                    cancelled.await.expect("it runs");
                    let outcome = rows.await.expect("no panic");
                    interruption.rest().await;
                    outcome
                });
                told.send(outcome.map(|_| ()).map_err(|error| error.to_string()))
                    .expect("it is waited for");
            });
            let outcome = ended.recv_timeout(Duration::from_secs(120)).expect(&sql);
            assert!(
                outcome.as_ref().is_err_and(|error| error.contains("cancelled")),
                "{sql}: {outcome:?}"
            );
        }
    }

    async fn planned(sql: &str) -> (SessionContext, Arc<dyn ExecutionPlan>) {
        let context = context(Interruption::new(CancellationToken::new(), None));
        let plan = context.sql(sql).await.expect("plans");
        let plan = plan.create_physical_plan().await.expect("plans");
        (context, plan)
    }

    #[tokio::test]
    async fn whoever_looks_at_an_operator_sees_it() {
        let (context, plan) = planned(
            "SELECT a.value FROM generate_series(1, 3) a JOIN generate_series(1, 3) b ON a.value < b.value ORDER BY 1",
        )
        .await;
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(
            shown.contains("NestedLoopJoinExec: join_type=Inner, filter=value"),
            "{shown}"
        );
        assert!(!shown.contains("Paced"), "{shown}");
        let rows = collect(plan, context.task_ctx()).await.expect("runs");
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }

    #[tokio::test]
    async fn only_few_rows_are_kept_at_the_top() {
        for (limit, sorts_all) in [(100_000, false), (100_001, true)] {
            let sql = format!("SELECT value FROM generate_series(1, 200000) ORDER BY -value LIMIT {limit}");
            let (context, plan) = planned(&sql).await;
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(shown.contains("SortExec: TopK"), !sorts_all, "{shown}");
            let rows = collect(plan, context.task_ctx()).await.expect("runs");
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), limit);
        }
    }

    #[tokio::test]
    async fn windows_give_what_they_gave() {
        let sql = "SELECT value, count(*) FILTER (WHERE value > 2) OVER w AS a, median(value) OVER w AS b, \
                   nth_value(value, 2) OVER w AS c, row_number() OVER (PARTITION BY value % 2 ORDER BY value) AS d, \
                   sum(value) OVER () AS e, max(value) OVER (ORDER BY value RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS f \
                   FROM generate_series(1, 6) WINDOW w AS (ORDER BY value ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) \
                   ORDER BY value";
        let (context, plan) = planned(sql).await;
        let rows = collect(plan, context.task_ctx()).await.expect("runs");
        let plain = SessionContext::new().sql(sql).await.expect("plans").collect().await;
        let table = |rows: &[RecordBatch]| {
            arrow::util::pretty::pretty_format_batches(rows)
                .expect("shown")
                .to_string()
        };
        assert_eq!(table(&rows), table(&plain.expect("runs")));
    }
}
