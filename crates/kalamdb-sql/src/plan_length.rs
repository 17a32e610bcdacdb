//! Whether a plan is likely to run long: it then starts among the statements that give way to others ([`crate::runtimes`]).
//!
//! A guess in both directions costs nothing but a turn among the wrong ones: a plan that seems short and is not moves on by time.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use crate::scan_exec::ScanExec;

/// Rows that a short statement may read.
const ROWS: usize = 10_000;
/// Pairs of rows that its joins may compare, at the worst: those of two such tables.
const PAIRS: usize = ROWS * ROWS;

/// Whether the plan reads many rows, or nobody knows how many.
pub(crate) fn takes_long(plan: &Arc<dyn ExecutionPlan>) -> bool {
    pairs(plan).is_none_or(|pairs| pairs > PAIRS)
}

/// The product of the rows that its leaves read; `None` if one of them may be long by itself.
fn pairs(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let children = plan.children();
    if children.is_empty() {
        return rows(plan).filter(|rows| *rows <= ROWS).map(|rows| rows.max(1));
    }
    children
        .into_iter()
        .try_fold(1_usize, |product, child| Some(product.saturating_mul(pairs(child)?)))
}

fn rows(leaf: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if let Some(scan) = leaf.downcast_ref::<ScanExec>() {
        return scan.likely_rows(ROWS);
    }
    let statistics = StatisticsContext::new().compute(leaf.as_ref(), &StatisticsArgs::new());
    match statistics.ok()?.num_rows {
        Precision::Exact(rows) | Precision::Inexact(rows) => Some(rows),
        Precision::Absent => None,
    }
}
