//! The physical plan node that streams a scan of core.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};
use kalamdb_core::{KeyConstraint, Principal, RowScan, ScanRequest, Table, View};

/// Which keys a scan reads.
#[derive(Clone)]
pub(crate) enum Keys {
    /// Everything in scope.
    All,
    /// These ranges, one after the other. They are disjoint.
    Ranges(Arc<Vec<KeyConstraint>>),
}

/// Reads one table's rows of one principal in one view.
pub(crate) struct ScanExec {
    table: Arc<Table>,
    principal: Principal,
    view: View,
    /// Without a key of its own.
    request: ScanRequest,
    keys: Keys,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    /// `schema` describes the fields of `request`, in order.
    pub(crate) fn new(
        table: Arc<Table>,
        principal: Principal,
        view: View,
        request: ScanRequest,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        ScanExec {
            table,
            principal,
            view,
            request,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The key columns that the range binds, for people: values are never shown.
    fn key_text(&self) -> String {
        let Some(key) = &self.request.key else {
            return "all".to_owned();
        };
        let name = |position: usize| {
            let index = self.table.schema.primary_key.get(position);
            index.map_or("?", |index| self.table.schema.columns[*index].name.as_str())
        };
        let mut parts: Vec<String> = (0..key.equal.len())
            .map(|position| format!("{} =", name(position)))
            .collect();
        if !matches!(
            (&key.lower, &key.upper),
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)
        ) {
            parts.push(format!("{} in a range", name(key.equal.len())));
        }
        parts.join(", ")
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanExec")
            .field("table", &self.table.name)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        match form {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "ScanExec: table={}, columns=[{}], key=[{}]",
                    self.table.name,
                    columns.join(", "),
                    self.key_text()
                )?;
                if let Some(limit) = self.request.limit {
                    write!(f, ", limit={limit}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.table.name)?;
                writeln!(f, "key={}", self.key_text())?;
                if let Some(limit) = self.request.limit {
                    writeln!(f, "limit={limit}")?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let running = Running {
            scan: None,
            table: Arc::clone(&self.table),
            principal: self.principal.clone(),
            view: self.view.clone(),
            request: self.request.clone(),
            schema: Arc::clone(&self.schema),
            keys_read: MetricBuilder::new(&self.metrics).counter("keys_read", partition),
            keys_counted: 0,
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        // Each poll reads one batch; make_cooperative gives way to other tasks between polls.
        let batches = futures::stream::try_unfold(running, |mut running| async move {
            let batch = running.next()?;
            Ok::<_, DataFusionError>(batch.map(|batch| (batch, running)))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches);
        Ok(make_cooperative(Box::pin(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.request.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let mut request = self.request.clone();
        request.limit = limit;
        let same = (Arc::clone(&self.table), self.principal.clone(), self.view.clone());
        Some(Arc::new(ScanExec::new(
            same.0,
            same.1,
            same.2,
            request,
            Arc::clone(&self.schema),
        )))
    }
}

/// A scan while it is pulled; opened at the first pull, so that planning reads nothing.
struct Running {
    scan: Option<RowScan>,
    table: Arc<Table>,
    principal: Principal,
    view: View,
    request: ScanRequest,
    schema: SchemaRef,
    keys_read: Count,
    keys_counted: u64,
    baseline: BaselineMetrics,
}

impl Running {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let elapsed = self.baseline.elapsed_compute().clone();
        let _timer = elapsed.timer();
        let scan = match &mut self.scan {
            Some(scan) => scan,
            opened @ None => {
                let scan = self
                    .view
                    .scan(&self.principal, &self.table, self.request.clone())
                    .map_err(external)?;
                opened.insert(scan)
            }
        };
        let batch = scan.next_batch();
        let keys_read = scan.keys_read();
        self.keys_read
            .add(usize::try_from(keys_read - self.keys_counted).unwrap_or(usize::MAX));
        self.keys_counted = keys_read;
        let Some(batch) = batch.map_err(external)? else {
            self.baseline.done();
            return Ok(None);
        };
        self.baseline.record_output(batch.num_rows());
        // The plan's schema carries the columns' field metadata, which the store below knows nothing of.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)?;
        Ok(Some(batch))
    }
}

fn external(error: kalamdb_core::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
