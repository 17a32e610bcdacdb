//! How many rows a batch has while a plan runs: fewer where rows are long, as DataFusion's operators count rows and not bytes.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use crate::provider;

/// Bytes of a batch, about. An operator holds a few of them, each partition its own.
const BATCH_BYTES: u64 = 2 << 20;

/// Fewer rows would cost more than they hold.
const FEWEST_ROWS: usize = 8;

/// Rows of a batch for this plan, at most `most`.
///
/// # Errors
/// None of its own.
pub(crate) fn of(plan: &LogicalPlan, most: usize) -> Result<usize> {
    // A join has the columns of both sides, so the rows of all tables count together.
    let mut row_bytes = 0_u64;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            row_bytes = row_bytes.saturating_add(provider::row_bytes(provider.as_ref()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let rows = BATCH_BYTES.checked_div(row_bytes).unwrap_or(u64::MAX);
    Ok(usize::try_from(rows).unwrap_or(usize::MAX).max(FEWEST_ROWS).min(most))
}
