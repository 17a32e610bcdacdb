//! Conditions of joins that fail once their statement must stop.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::JoinType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::joins::utils::JoinFilter;

use super::makes_pairs;
use crate::interruption::{Interruption, aside_when_long};

/// The condition of a join, asking the interruption; `None` where there is nothing to ask, or no need: what makes rows of all
/// pairs ends its polls with them.
pub(super) fn interruptible(
    filter: Option<&JoinFilter>,
    join_type: JoinType,
    interruption: Option<&Interruption>,
) -> Option<JoinFilter> {
    let interruption = interruption?.clone();
    let (condition, columns, schema) = match filter {
        Some(filter) => (
            Arc::clone(filter.expression()),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        ),
        None if makes_pairs(join_type) => return None,
        // All pairs pass, a batch of them at a time.
        None => (lit(true), Vec::new(), Arc::new(Schema::empty())),
    };
    let condition = Interruptible {
        condition,
        interruption,
    };
    Some(JoinFilter::new(Arc::new(condition), columns, schema))
}

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
        self.interruption.check_execution()?;
        aside_when_long(|| self.condition.evaluate(batch))
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
