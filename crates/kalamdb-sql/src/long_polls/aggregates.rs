//! Aggregates of windows, which ask the interruption while they go through their rows: one may take as long as its whole frame.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF};
use datafusion::scalar::ScalarValue;

use super::windows::Looks;
use crate::aggregates_otherwise::{Frame, Way, done_otherwise};
use crate::interruption::Interruption;

/// The aggregate with accumulators that ask; `None` if it has them already.
pub(super) fn asking(function: &Arc<AggregateUDF>, interruption: &Interruption) -> Option<Arc<AggregateUDF>> {
    done_otherwise(function, Asking(interruption.clone()))
}

/// Whom they ask says nothing about what they compute.
#[derive(Clone, Debug)]
struct Asking(Interruption);

impl PartialEq for Asking {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Asking {}

impl Hash for Asking {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Way for Asking {
    fn accumulator(
        &self,
        function: &AggregateUDF,
        args: AccumulatorArgs<'_>,
        frame: Frame,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Looking {
            inner: frame.accumulator_of(function, args)?,
            looks: Looks::at(&self.0),
        }))
    }
}

/// An accumulator that fails once its statement must stop.
#[derive(Debug)]
struct Looking {
    inner: Box<dyn Accumulator>,
    looks: Looks,
}

impl Accumulator for Looking {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    /// Called once for each row that a window gives.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.looks.next_row()?;
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}
