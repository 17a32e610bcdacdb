//! A wrapper of operators whose polls end with their statement and take turns with other tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;
use tokio::time::Instant;

use crate::interruption::{Interruption, aside, in_poll};

/// How long a task computes before it lets others have the thread.
const TURN: Duration = Duration::from_millis(5);

/// Where an operator computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    /// On one that tasks share.
    Shared,
    /// On one that others' tasks have left, since one poll may take long.
    OfItsOwn,
}

/// An operator with manners. To whoever looks at it, it is that operator.
#[derive(Debug)]
pub(super) struct Paced {
    plan: Arc<dyn ExecutionPlan>,
    /// What EXPLAIN says of it.
    shown: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    interruption: Option<Interruption>,
    thread: Thread,
}

impl Paced {
    /// `shown` is what EXPLAIN says of it, with the properties that operators above know.
    pub(super) fn over(
        plan: Arc<dyn ExecutionPlan>,
        shown: Arc<dyn ExecutionPlan>,
        interruption: Option<&Interruption>,
        thread: Thread,
    ) -> Arc<Self> {
        Arc::new(Paced {
            plan,
            properties: Arc::clone(shown.properties()),
            shown,
            interruption: interruption.cloned(),
            thread,
        })
    }

    fn of(&self, plan: Arc<dyn ExecutionPlan>, properties: Arc<PlanProperties>) -> Arc<Self> {
        Arc::new(Paced {
            plan,
            shown: Arc::clone(&self.shown),
            properties,
            interruption: self.interruption.clone(),
            thread: self.thread,
        })
    }
}

/// The plan over inputs that take turns.
pub(super) fn with_paced_inputs(
    plan: Arc<dyn ExecutionPlan>,
    interruption: Option<&Interruption>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let inputs = plan.children().into_iter().map(|input| {
        Paced::over(Arc::clone(input), Arc::clone(input), interruption, Thread::Shared) as Arc<dyn ExecutionPlan>
    });
    let inputs = inputs.collect();
    replace_children_if_necessary(plan, inputs)
}

impl DisplayAs for Paced {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shown.fmt_as(format, f)
    }
}

impl ExecutionPlan for Paced {
    fn name(&self) -> &str {
        self.plan.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.plan.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        let keeps = matches!(options.children_properties, ChildrenPropertiesMode::Keep);
        let plan = Arc::clone(&self.plan).replace_children(children, options)?;
        let properties = Arc::clone(if keeps { &self.properties } else { plan.properties() });
        Ok(self.of(plan, properties))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan).reset_state()?;
        Ok(self.of(plan, Arc::clone(&self.properties)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(PacedStream {
            rows: self.plan.execute(partition, context)?,
            interruption: self.interruption.clone(),
            thread: self.thread,
            turn_began: None,
            is_over: false,
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }
}

struct PacedStream {
    rows: SendableRecordBatchStream,
    interruption: Option<Interruption>,
    thread: Thread,
    /// When the task that polls it last had to wait, as far as is seen from here.
    turn_began: Option<Instant>,
    is_over: bool,
}

impl Stream for PacedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let _working = self.interruption.as_ref().map(Interruption::working);
        if let Some(Err(error)) = self.interruption.as_ref().map(Interruption::check_execution) {
            self.is_over = true;
            return Poll::Ready(Some(Err(error)));
        }
        let now = Instant::now();
        let began = *self.turn_began.get_or_insert(now);
        if now.duration_since(began) >= TURN {
            self.turn_began = None;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let thread = self.thread;
        let rows = self.rows.as_mut();
        let polled = in_poll(now, || match thread {
            Thread::Shared => rows.poll_next(context),
            Thread::OfItsOwn => aside(|| rows.poll_next(context)),
        });
        if polled.is_pending() {
            self.turn_began = None;
        }
        polled
    }
}

impl RecordBatchStream for PacedStream {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
