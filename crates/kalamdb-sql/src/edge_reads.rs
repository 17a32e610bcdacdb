//! MIN and MAX of a key column as reads of the first and of the last row: a rule of the physical plan, which comes twice.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use kalamdb_core::ScanOrder;

use crate::ordered_filters::{in_order, limited};
use crate::scan_exec::ScanExec;

/// `SELECT min(k), max(k) FROM t [WHERE key columns before k are these]`: the scan below the aggregate becomes one of the first row
/// and one of the last. They are live rows that the reader sees, so the result is what a scan of all of them would give.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EdgeReads {
    /// Of all rows of a scan. It comes before anything is put between the scan and the aggregate.
    OfScans,
    /// Of those that filters leave: the scan is read from that end until one passes. It comes when nothing repartitions any more.
    OfFilters,
}

impl PhysicalOptimizerRule for EdgeReads {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_down(|plan| {
            Ok(match rewritten(*self, &plan)? {
                Some(rewritten) => Transformed::yes(rewritten),
                None => Transformed::no(plan),
            })
        });
        rewritten.data()
    }

    fn name(&self) -> &str {
        match self {
            EdgeReads::OfScans => "edge_reads",
            EdgeReads::OfFilters => "filtered_edge_reads",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn rewritten(rule: EdgeReads, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else {
        return Ok(None);
    };
    if aggregate.mode().input_mode() != AggregateInputMode::Raw
        || !aggregate.group_expr().is_empty()
        || aggregate.filter_expr().iter().any(Option::is_some)
    {
        return Ok(None);
    }
    let mut of_column = None;
    let mut orders: Vec<ScanOrder> = Vec::new();
    for function in aggregate.aggr_expr() {
        let order = match function.fun().name() {
            "min" => ScanOrder::Ascending,
            "max" => ScanOrder::Descending,
            _ => return Ok(None),
        };
        let arguments = function.expressions();
        let column = match arguments.as_slice() {
            [argument] => argument.downcast_ref::<Column>().map(Column::index),
            _ => None,
        };
        if column.is_none() || of_column.is_some_and(|other| Some(other) != column) {
            return Ok(None);
        }
        of_column = column;
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    let Some(column) = of_column else { return Ok(None) };
    let input = match rule {
        EdgeReads::OfScans => edges(aggregate.input(), column, &orders)?,
        EdgeReads::OfFilters => filtered_edges(aggregate.input(), column, &orders)?,
    };
    let Some(input) = input else { return Ok(None) };
    replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some)
}

/// Of a scan, or of columns of one.
fn edges(
    input: &Arc<dyn ExecutionPlan>,
    column: usize,
    orders: &[ScanOrder],
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = input.downcast_ref::<ScanExec>() {
        let scans: Option<Vec<Arc<dyn ExecutionPlan>>> = orders.iter().map(|order| scan.edge(column, *order)).collect();
        return scans.map(UnionExec::try_new).transpose();
    }
    let Some(projection) = input.downcast_ref::<ProjectionExec>() else {
        return Ok(None);
    };
    let expressions = projection.expr();
    let Some(column) = expressions.get(column).and_then(|of| of.expr.downcast_ref::<Column>()) else {
        return Ok(None);
    };
    match edges(projection.input(), column.index(), orders)? {
        Some(scans) => replace_children_if_necessary(Arc::clone(input), vec![scans]).map(Some),
        None => Ok(None),
    }
}

/// Of what can be had in the order of that column, through filters: in one partition.
fn filtered_edges(
    input: &Arc<dyn ExecutionPlan>,
    column: usize,
    orders: &[ScanOrder],
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let schema = input.schema();
    let expression = Arc::new(Column::new(schema.field(column).name(), column));
    let mut edges = Vec::with_capacity(orders.len());
    for order in orders {
        let options = SortOptions {
            descending: *order == ScanOrder::Descending,
            nulls_first: false,
        };
        let sort = PhysicalSortExpr::new(Arc::clone(&expression) as _, options);
        let Some(ordered) = in_order(input, &[sort], 1)? else {
            return Ok(None);
        };
        edges.push(limited(ordered, 1));
    }
    let edges = UnionExec::try_new(edges)?;
    Ok(Some(match edges.output_partitioning().partition_count() {
        1 => edges,
        _ => Arc::new(CoalescePartitionsExec::new(edges)),
    }))
}
