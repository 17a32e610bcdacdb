//! Window functions that ask the interruption while they go through their rows: aggregates by a rule over the logical plan, others by
//! one over the physical plan, since a window with an aggregate cannot be made anew there without losing its FILTER.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{Expr, LimitEffect, LogicalPlan, PartitionEvaluator, Window, WindowFunctionDefinition};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::window::{StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use super::aggregates;
use crate::interruption::Interruption;

/// Rows between two looks: one may cost as much as its whole frame, or next to nothing.
const ROWS_PER_LOOK: u32 = 4;

/// A look at the interruption every few rows.
#[derive(Debug)]
pub(super) struct Looks {
    interruption: Interruption,
    rows: u32,
}

impl Looks {
    pub(super) fn at(interruption: &Interruption) -> Self {
        Looks {
            interruption: interruption.clone(),
            rows: 0,
        }
    }

    /// Whether the next row may be computed.
    ///
    /// # Errors
    /// As [`Interruption::check`].
    pub(super) fn next_row(&mut self) -> Result<()> {
        self.rows = self.rows.wrapping_add(1);
        if self.rows.is_multiple_of(ROWS_PER_LOOK) {
            self.interruption.check_execution()?;
        }
        Ok(())
    }
}

/// The rule for aggregates; it comes last, when nothing looks at what they are any more.
#[derive(Debug)]
pub(crate) struct AskingWindows;

impl OptimizerRule for AskingWindows {
    fn name(&self) -> &str {
        "asking_windows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let options = config.options();
        let (LogicalPlan::Window(window), Some(interruption)) = (&plan, options.extensions.get::<Interruption>())
        else {
            return Ok(Transformed::no(plan));
        };
        let mut changed = false;
        let functions = window.window_expr.iter().map(|expr| {
            let asking = expr
                .clone()
                .transform_up(|expr| Ok(asking_aggregate(expr, interruption)))?;
            changed |= asking.transformed;
            Ok(asking.data)
        });
        let functions: Vec<Expr> = functions.collect::<Result<_>>()?;
        if !changed {
            return Ok(Transformed::no(plan));
        }
        Ok(Transformed::yes(LogicalPlan::Window(Window {
            input: Arc::clone(&window.input),
            window_expr: functions,
            schema: Arc::clone(&window.schema),
        })))
    }
}

fn asking_aggregate(expr: Expr, interruption: &Interruption) -> Transformed<Expr> {
    let Expr::WindowFunction(call) = expr else {
        return Transformed::no(expr);
    };
    let asking = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => aggregates::asking(function, interruption),
        WindowFunctionDefinition::WindowUDF(_) => None,
    };
    match asking {
        Some(function) => Transformed::yes(Expr::WindowFunction(Box::new(WindowFunction {
            fun: WindowFunctionDefinition::AggregateUDF(function),
            ..*call
        }))),
        None => Transformed::no(Expr::WindowFunction(call)),
    }
}

/// The plan, one of the two window operators, with functions that ask.
pub(super) fn interruptible(
    plan: &Arc<dyn ExecutionPlan>,
    interruption: Option<&Interruption>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(interruption) = interruption else {
        return Ok(Arc::clone(plan));
    };
    if let Some(windows) = plan.downcast_ref::<BoundedWindowAggExec>()
        && let Some(functions) = functions(windows.window_expr(), interruption)
    {
        let partitions = !windows.partition_keys().is_empty();
        let (input, order) = (Arc::clone(windows.input()), windows.input_order_mode.clone());
        let windows = BoundedWindowAggExec::try_new(functions, input, order, partitions)?;
        return Ok(Arc::new(windows));
    }
    if let Some(windows) = plan.downcast_ref::<WindowAggExec>()
        && let Some(functions) = functions(windows.window_expr(), interruption)
    {
        let partitions = !windows.partition_keys().is_empty();
        let windows = WindowAggExec::try_new(functions, Arc::clone(windows.input()), partitions)?;
        return Ok(Arc::new(windows));
    }
    Ok(Arc::clone(plan))
}

/// All of them, if any is of those that do not ask by themselves.
fn functions(all: &[Arc<dyn WindowExpr>], interruption: &Interruption) -> Option<Vec<Arc<dyn WindowExpr>>> {
    let is_standard = |function: &Arc<dyn WindowExpr>| function.as_any().is::<StandardWindowExpr>();
    all.iter().any(is_standard).then(|| {
        let asking = all.iter().map(|window| {
            let Some(standard) = window.as_any().downcast_ref::<StandardWindowExpr>() else {
                return Arc::clone(window);
            };
            let function = Function {
                inner: Arc::clone(standard.get_standard_func_expr()),
                interruption: interruption.clone(),
            };
            let frame = Arc::clone(window.get_window_frame());
            let (partition_by, order_by) = (window.partition_by(), window.order_by());
            Arc::new(StandardWindowExpr::new(
                Arc::new(function),
                partition_by,
                order_by,
                frame,
            )) as _
        });
        asking.collect()
    })
}

/// A window function that is no aggregate; to whoever looks at it, the inner one.
#[derive(Debug)]
struct Function {
    inner: Arc<dyn StandardWindowFunctionExpr>,
    interruption: Interruption,
}

impl StandardWindowFunctionExpr for Function {
    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }

    fn field(&self) -> Result<FieldRef> {
        self.inner.field()
    }

    fn expressions(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.expressions()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn create_evaluator(&self) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator {
            inner: self.inner.create_evaluator()?,
            looks: Looks::at(&self.interruption),
        }))
    }

    fn reverse_expr(&self) -> Option<Arc<dyn StandardWindowFunctionExpr>> {
        self.inner.reverse_expr()
    }

    fn get_result_ordering(&self, schema: &SchemaRef) -> Option<PhysicalSortExpr> {
        self.inner.get_result_ordering(schema)
    }

    fn limit_effect(&self) -> LimitEffect {
        self.inner.limit_effect()
    }
}

#[derive(Debug)]
struct Evaluator {
    inner: Box<dyn PartitionEvaluator>,
    looks: Looks,
}

impl PartitionEvaluator for Evaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.inner.memoize(state)
    }

    fn get_range(&self, idx: usize, n_rows: usize) -> Result<Range<usize>> {
        self.inner.get_range(idx, n_rows)
    }

    fn is_causal(&self) -> bool {
        self.inner.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        self.inner.evaluate_all(values, num_rows)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.looks.next_row()?;
        self.inner.evaluate(values, range)
    }

    fn evaluate_all_with_rank(&self, num_rows: usize, ranks_in_partition: &[Range<usize>]) -> Result<ArrayRef> {
        self.inner.evaluate_all_with_rank(num_rows, ranks_in_partition)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.inner.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.inner.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.inner.include_rank()
    }
}
