//! ORDER BY the key with LIMIT above filters: a rule of the physical plan.
//!
//! Problem: DataFusion 55 asks a scan for an order through projections, and not through filters and the repartitioning below them,
//! so that `WHERE … ORDER BY key LIMIT n` reads and sorts everything. Proper way: `try_pushdown_sort` of `FilterExec`. Chosen: this
//! rule, for sorts with a limit only: it is the limit that ends the scan early. Without one, a filter that leaves few rows is faster
//! in two partitions whose few rows are sorted, and what it leaves is not known. Evidence: `FilterExec` and
//! `RepartitionExec::try_pushdown_sort` of datafusion-physical-plan 55.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use crate::scan_exec::ScanExec;

/// Rows that a filter gathers at least before it hands them on.
const FEWEST_ROWS: usize = 64;

/// A sort with a limit becomes that limit above a scan in order, whatever filters are between.
#[derive(Debug)]
pub(crate) struct OrderedFilters;

impl PhysicalOptimizerRule for OrderedFilters {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_down(|plan| {
            Ok(match rewritten(&plan)? {
                Some(rewritten) => Transformed::yes(rewritten),
                None => Transformed::no(plan),
            })
        });
        rewritten.data()
    }

    fn name(&self) -> &str {
        "ordered_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Of one partition: the sort itself, or what merges those of several.
fn rewritten(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if plan.output_partitioning().partition_count() != 1 {
        return Ok(None);
    }
    match plan.downcast_ref::<SortPreservingMergeExec>() {
        Some(merge) => without_sort(merge.input(), merge.fetch()),
        None if plan.downcast_ref::<SortExec>().is_some() => without_sort(plan, None),
        None => Ok(None),
    }
}

/// The first rows of a sort, so many at most, or columns of them.
fn without_sort(plan: &Arc<dyn ExecutionPlan>, limit: Option<usize>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return match without_sort(projection.input(), limit)? {
            Some(input) => replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some),
            None => Ok(None),
        };
    }
    let Some(sort) = plan.downcast_ref::<SortExec>() else {
        return Ok(None);
    };
    let Some(limit) = [limit, sort.fetch()].into_iter().flatten().min() else {
        return Ok(None);
    };
    Ok(in_order(sort.input(), sort.expr(), limit)?.map(|plan| limited(plan, limit)))
}

/// At most so many rows of a plan of one partition.
pub(crate) fn limited(plan: Arc<dyn ExecutionPlan>, rows: usize) -> Arc<dyn ExecutionPlan> {
    let fetching = plan.with_fetch(Some(rows));
    fetching.unwrap_or_else(|| Arc::new(GlobalLimitExec::new(plan, 0, Some(rows))))
}

/// The same rows in one partition and in this order, of which so many are likely to be taken. `None` if they are not to be had so:
/// between the scan and here is something that a limit or an order cannot pass.
pub(crate) fn in_order(
    plan: &Arc<dyn ExecutionPlan>,
    order: &[PhysicalSortExpr],
    expected: usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<ScanExec>() {
        let ordered = scan.in_order(order, Some(expected));
        return Ok(ordered.map(|scan| Arc::new(scan) as _));
    }
    if plan.fetch().is_some() {
        return Ok(None);
    }
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        return match repartition.partitioning() {
            Partitioning::RoundRobinBatch(_) => in_order(repartition.input(), order, expected),
            _ => Ok(None),
        };
    }
    if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return in_order(coalesce.input(), order, expected);
    }
    let (input, order) = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let projection = filter.projection().as_ref();
        let below = |column: &Column| match projection {
            Some(columns) => columns.get(column.index()).copied(),
            None => Some(column.index()),
        };
        (filter.input(), order_below(order, filter.input(), below))
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = |column: &Column| {
            let expression = projection.expr().get(column.index())?;
            expression.expr.downcast_ref::<Column>().map(Column::index)
        };
        (projection.input(), order_below(order, projection.input(), below))
    } else {
        return Ok(None);
    };
    let Some(order) = order else { return Ok(None) };
    let Some(input) = in_order(input, &order, expected)? else {
        return Ok(None);
    };
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        // Below another filter it has no limit, and would gather a full batch.
        let rows = filter.batch_size().min(expected.max(FEWEST_ROWS));
        let filter = FilterExecBuilder::from(filter).with_input(input).with_batch_size(rows);
        return Ok(Some(Arc::new(filter.build()?)));
    }
    replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some)
}

/// The order by columns of the input, where all are columns of it.
fn order_below(
    order: &[PhysicalSortExpr],
    input: &Arc<dyn ExecutionPlan>,
    below: impl Fn(&Column) -> Option<usize>,
) -> Option<Vec<PhysicalSortExpr>> {
    let schema = input.schema();
    let sorts = order.iter().map(|sort| {
        let index = below(sort.expr.downcast_ref::<Column>()?)?;
        let name = schema.fields().get(index)?.name();
        Some(PhysicalSortExpr::new(Arc::new(Column::new(name, index)), sort.options))
    });
    sorts.collect()
}
