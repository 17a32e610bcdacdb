//! The physical plan node that streams a scan of core.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, StructArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions, SortOrderPushdownResult,
};
use kalamdb_core::{KeyConstraint, Principal, RowScan, ScanCounters, ScanField, ScanOrder, ScanRequest, Table, View};

use crate::key_order::KeyOrder;

/// Partitions of a scan of a large table: decoding takes most of its time, and this is built for two cores and more.
const PARTS: usize = 2;
/// Rows in segments from which on that pays.
const ROWS_FOR_PARTS: u64 = 256 * 1024;

/// Which keys a scan reads.
#[derive(Clone)]
pub(crate) enum Keys {
    /// Everything in scope.
    All,
    /// These ranges, one after the other. They are disjoint, and in key order.
    Ranges(Arc<Vec<KeyConstraint>>),
}

/// As whom a scan reads: each reader's scope is its own.
#[derive(Clone)]
pub(crate) enum Readers {
    /// The rows of one principal, or those that are nobody's own.
    One(Principal),
    /// The rows of everyone, one user after the other, for a principal who may.
    Everyone { by: Principal, owners: Arc<[Principal]> },
}

impl Readers {
    /// Who asks.
    pub(crate) fn principal(&self) -> &Principal {
        match self {
            Readers::One(principal) | Readers::Everyone { by: principal, .. } => principal,
        }
    }

    /// Those of one partition, of how many, and whether the partition is a part of each one's rows.
    fn of_partition(&self, partition: usize, parts: usize) -> (Vec<Principal>, (usize, usize)) {
        match self {
            Readers::One(principal) => (vec![principal.clone()], (partition, parts)),
            Readers::Everyone { owners, .. } => {
                let owners = owners.iter().skip(partition).step_by(parts).cloned();
                (owners.collect(), (0, 1))
            }
        }
    }
}

/// What EXPLAIN ANALYZE shows of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// What was read of the table, and how.
    Everything,
    /// What depends on the reader's own rows alone.
    OwnRows,
}

/// A column as it leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    /// The field of the request at this position.
    Column(usize),
    /// Whose rows they are, by user id.
    Owner,
    /// The request's first fields, so many, as one.
    Row { columns: usize },
}

/// Reads one table's rows of one principal, or of everyone, in one view.
pub(crate) struct ScanExec {
    table: Arc<Table>,
    readers: Readers,
    view: View,
    /// Without a key of its own.
    request: ScanRequest,
    keys: Keys,
    counted: Counted,
    /// How many rows are likely to be taken, if that is known.
    expected: Option<usize>,
    /// Partitions, which are parts of the rows.
    parts: usize,
    outputs: Arc<[Output]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    /// `schema` describes the `outputs`; the key of `request` is `keys`'s to give.
    pub(crate) fn new(
        table: Arc<Table>,
        readers: Readers,
        view: View,
        request: ScanRequest,
        keys: Keys,
        outputs: impl Into<Arc<[Output]>>,
        schema: SchemaRef,
    ) -> Self {
        let parts = match request.limit {
            None if has_rows_for_parts(&readers, &view, &table, &keys) => PARTS,
            Some(_) | None => 1,
        };
        ScanExec {
            properties: properties(EquivalenceProperties::new(Arc::clone(&schema)), parts),
            parts,
            table,
            readers,
            view,
            request,
            keys,
            counted: Counted::Everything,
            expected: None,
            outputs: outputs.into(),
            schema,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same with less to show.
    pub(crate) fn counting(self, counted: Counted) -> Self {
        ScanExec { counted, ..self }
    }

    /// The same scan of another request, with these properties and so many parts.
    fn with(&self, request: ScanRequest, parts: usize, properties: Arc<PlanProperties>) -> Self {
        ScanExec {
            table: Arc::clone(&self.table),
            readers: self.readers.clone(),
            view: self.view.clone(),
            request,
            keys: self.keys.clone(),
            counted: self.counted,
            expected: self.expected,
            parts,
            outputs: Arc::clone(&self.outputs),
            schema: Arc::clone(&self.schema),
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// A scan of the first row in this order, if its value of a column (by position among those that leave) is then the least or
    /// the greatest.
    pub(crate) fn edge(&self, column: usize, order: ScanOrder) -> Option<Arc<dyn ExecutionPlan>> {
        let column = self.table_column(column)?;
        self.key_order().filter(|key| key.begins_with(column))?;
        let request = ScanRequest {
            order,
            limit: Some(1),
            ..self.request.clone()
        };
        let properties = properties(EquivalenceProperties::new(Arc::clone(&self.schema)), 1);
        Some(Arc::new(self.with(request, 1, properties)))
    }

    /// The same scan in this order, of which so many rows are likely to be taken if that is known; `None` if the rows are not to be
    /// had so.
    pub(crate) fn in_order(&self, order: &[PhysicalSortExpr], expected: Option<usize>) -> Option<Self> {
        let columns = order.iter().map(|sort| {
            let column = sort.expr.downcast_ref::<Column>();
            let column = column.and_then(|column| self.table_column(column.index()));
            (column, sort.options.descending)
        });
        let request = ScanRequest {
            order: self.key_order()?.for_columns(columns)?,
            ..self.request.clone()
        };
        let declared = EquivalenceProperties::new_with_orderings(Arc::clone(&self.schema), [order.to_vec()]);
        // The rows of each part could come in order; merging the parts would compare them all once more, so there is one.
        let ordered = self.with(request, 1, properties(declared, 1));
        Some(ScanExec { expected, ..ordered })
    }

    /// How many rows it reads, about; `None` if there may be more than `most`, as far as segments tell: rows that are in none are not
    /// counted anywhere.
    pub(crate) fn likely_rows(&self, most: usize) -> Option<usize> {
        let points = match &self.keys {
            Keys::Ranges(ranges) if ranges.iter().all(|range| is_point(range, &self.table)) => Some(ranges.len()),
            Keys::Ranges(_) | Keys::All => None,
        };
        let known = [points, self.request.limit, self.expected].into_iter().flatten().min();
        known.or_else(|| {
            let enough = u64::try_from(most).unwrap_or(u64::MAX);
            let has_more = has_segment_rows(&self.readers, &self.view, &self.table, &self.keys, enough);
            (!has_more).then_some(most)
        })
    }

    /// Whether it took the place of a sort.
    pub(crate) fn is_ordered(&self) -> bool {
        self.request.order != ScanOrder::Any
    }

    /// `None` if the rows are not to be had in key order. With a limit, others would come than without the order.
    fn key_order(&self) -> Option<KeyOrder> {
        match (&self.readers, self.request.limit) {
            (Readers::Everyone { .. }, _) | (Readers::One(_), Some(_)) => None,
            (Readers::One(_), None) => KeyOrder::of(&self.table, &self.keys),
        }
    }

    /// Where in the table a column that leaves is.
    fn table_column(&self, position: usize) -> Option<usize> {
        let Output::Column(field) = self.outputs.get(position)? else {
            return None;
        };
        match self.request.fields.get(*field)? {
            ScanField::Column(index) => Some(*index),
            ScanField::Seq | ScanField::Updated | ScanField::RowKey | ScanField::RowLocation => None,
        }
    }

    /// How the rows are ordered, for people.
    fn order_text(&self) -> Option<&'static str> {
        match self.request.order {
            ScanOrder::Any => None,
            ScanOrder::Ascending => Some("key"),
            ScanOrder::Descending => Some("key descending"),
        }
    }

    /// The key columns that the range binds, for people: values are never shown.
    fn key_text(&self) -> String {
        let Keys::Ranges(ranges) = &self.keys else {
            return "all".to_owned();
        };
        let Some(key) = ranges.first() else {
            return "none".to_owned();
        };
        let name = |position: usize| {
            let index = self.table.schema.primary_key.get(position);
            index.map_or("?", |index| self.table.schema.columns[*index].name.as_str())
        };
        let mut parts: Vec<String> = (0..key.equal.len())
            .map(|position| format!("{} =", name(position)))
            .collect();
        let bounds = [&key.lower, &key.upper].map(|bound| match bound {
            Bound::Included(values) | Bound::Excluded(values) => values.len(),
            Bound::Unbounded => 0,
        });
        let bounded: Vec<&str> = (0..bounds[0].max(bounds[1]))
            .map(|position| name(key.equal.len() + position))
            .collect();
        match bounded.as_slice() {
            [] => {}
            [column] => parts.push(format!("{column} in a range")),
            columns => parts.push(format!("({}) in a range", columns.join(", "))),
        }
        if ranges.len() > 1 {
            parts.push(format!("{} ranges", ranges.len()));
        }
        parts.join(", ")
    }
}

/// Whether parts pay. EXPLAIN shows them, so it is what one reads that counts, and not what others have in the table.
fn has_rows_for_parts(readers: &Readers, view: &View, table: &Table, keys: &Keys) -> bool {
    match keys {
        Keys::Ranges(ranges) if ranges.iter().any(|range| is_point(range, table)) => false,
        Keys::Ranges(_) | Keys::All => has_segment_rows(readers, view, table, keys, ROWS_FOR_PARTS),
    }
}

/// Whether a key has one row at most.
fn is_point(key: &KeyConstraint, table: &Table) -> bool {
    key.equal.len() == table.schema.primary_key.len()
}

/// Whether segments have so many rows with these keys for who reads; everyone's are not told apart by key.
fn has_segment_rows(readers: &Readers, view: &View, table: &Table, keys: &Keys, enough: u64) -> bool {
    let ranges = match keys {
        Keys::All => None,
        Keys::Ranges(ranges) => Some(ranges.as_slice()),
    };
    view.segment_rows(table) >= enough
        && match readers {
            // What makes the count fail is met again by the scan, which says so.
            Readers::One(principal) => view.has_segment_rows(principal, table, ranges, enough).unwrap_or(false),
            Readers::Everyone { .. } => true,
        }
}

fn properties(equivalences: EquivalenceProperties, parts: usize) -> Arc<PlanProperties> {
    let properties = PlanProperties::new(
        equivalences,
        Partitioning::UnknownPartitioning(parts),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative))
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
                if let Some(order) = self.order_text() {
                    write!(f, ", order={order}")?;
                }
                if let Some(limit) = self.request.limit {
                    write!(f, ", limit={limit}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.table.name)?;
                writeln!(f, "key={}", self.key_text())?;
                if let Some(order) = self.order_text() {
                    writeln!(f, "order={order}")?;
                }
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
        let mut ranges = match &self.keys {
            Keys::All => vec![None],
            Keys::Ranges(ranges) => ranges.iter().cloned().map(Some).collect(),
        };
        if self.request.order == ScanOrder::Descending {
            ranges.reverse();
        }
        let (readers, part) = self.readers.of_partition(partition, self.parts);
        let sources: Vec<Source> = readers
            .into_iter()
            .flat_map(|reader| ranges.iter().map(move |range| (reader.clone(), range.clone())))
            .collect();
        let running = Running {
            scan: None,
            sources: sources.into_iter(),
            table: Arc::clone(&self.table),
            view: self.view.clone(),
            request: ScanRequest {
                part,
                ..self.request.clone()
            },
            outputs: Arc::clone(&self.outputs),
            schema: Arc::clone(&self.schema),
            expected: self.expected,
            counters: Counters::new(&self.metrics, partition, self.counted),
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
        // The partitions stay: whoever asks has planned with their number. Each gives so many rows at most.
        let request = ScanRequest {
            limit,
            ..self.request.clone()
        };
        Some(Arc::new(self.with(request, self.parts, Arc::clone(&self.properties))))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        Ok(match self.in_order(order, None) {
            Some(scan) => SortOrderPushdownResult::Exact { inner: Arc::new(scan) },
            None => SortOrderPushdownResult::Unsupported,
        })
    }
}

/// [`ScanCounters`] as EXPLAIN ANALYZE shows them.
struct Counters {
    keys_read: Count,
    segments_read: Count,
    row_groups_pruned: Count,
    pages_pruned: Count,
}

impl Counters {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize, counted: Counted) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        // How rows lie in segments depends on those of everyone.
        let of_segments = |name: &'static str| match counted {
            Counted::Everything => counter(name),
            Counted::OwnRows => Count::new(),
        };
        Counters {
            keys_read: counter("keys_read"),
            segments_read: of_segments("segments_read"),
            row_groups_pruned: of_segments("row_groups_pruned"),
            pages_pruned: of_segments("pages_pruned"),
        }
    }

    fn add(&self, before: ScanCounters, after: ScanCounters) {
        let add =
            |count: &Count, before: u64, after: u64| count.add(usize::try_from(after - before).unwrap_or(usize::MAX));
        add(&self.keys_read, before.keys_read, after.keys_read);
        add(&self.segments_read, before.segments_read, after.segments_read);
        add(
            &self.row_groups_pruned,
            before.row_groups_pruned,
            after.row_groups_pruned,
        );
        add(&self.pages_pruned, before.pages_pruned, after.pages_pruned);
    }
}

/// As whom to read which range.
type Source = (Principal, Option<KeyConstraint>);

/// A scan while it is pulled; each range is opened at the first pull that needs it, so that planning reads nothing.
struct Running {
    /// With whose rows it gives.
    scan: Option<(RowScan, String)>,
    /// Those not opened yet.
    sources: std::vec::IntoIter<Source>,
    table: Arc<Table>,
    view: View,
    request: ScanRequest,
    outputs: Arc<[Output]>,
    schema: SchemaRef,
    expected: Option<usize>,
    counters: Counters,
    baseline: BaselineMetrics,
}

impl Running {
    /// A full batch, or what is left of the rows; many ranges of one row each make one batch.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let elapsed = self.baseline.elapsed_compute().clone();
        let _timer = elapsed.timer();
        let mut small: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        // Whoever is likely to stop early has no use for ranges after those rows; if not, more and more are wanted.
        let wanted = self.request.batch_rows.min(self.expected.unwrap_or(usize::MAX));
        self.expected = self.expected.map(|rows| rows.saturating_mul(2));
        while let Some(batch) = self.read()? {
            rows += batch.num_rows();
            small.push(batch);
            if rows >= wanted || self.sources.len() == 0 {
                break;
            }
        }
        let batch = match small.len() {
            0 => {
                self.baseline.done();
                return Ok(None);
            }
            1 => small.swap_remove(0),
            _ => concat_batches(&self.schema, &small)?,
        };
        Ok(Some(batch.record_output(&self.baseline)))
    }

    /// The next batch of the open range, or of the first after it that has one.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        while self.request.limit != Some(0) {
            let (scan, owner) = match &mut self.scan {
                Some(open) => open,
                closed @ None => {
                    let Some((reader, key)) = self.sources.next() else {
                        return Ok(None);
                    };
                    let request = ScanRequest {
                        key,
                        ..self.request.clone()
                    };
                    let mut scan = self.view.scan(&reader, &self.table, request).map_err(external)?;
                    if let Some(rows) = self.expected {
                        scan.expect_rows(rows);
                    }
                    closed.insert((scan, reader.user_id))
                }
            };
            let before = scan.counters();
            let batch = scan.next_batch();
            self.counters.add(before, scan.counters());
            let Some(batch) = batch.map_err(external)? else {
                self.scan = None;
                continue;
            };
            if let Some(limit) = &mut self.request.limit {
                *limit = limit.saturating_sub(batch.num_rows());
            }
            // The plan's schema carries the columns' field metadata, which the store below knows nothing of.
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = columns(&self.outputs, &self.schema, &batch, owner)?;
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

/// A batch's columns as they leave.
fn columns(outputs: &[Output], schema: &SchemaRef, batch: &RecordBatch, owner: &str) -> Result<Vec<ArrayRef>> {
    let outputs = outputs.iter().zip(schema.fields());
    outputs
        .map(|(output, field)| match (output, field.data_type()) {
            (Output::Column(position), _) => Ok(Arc::clone(batch.column(*position))),
            (Output::Owner, _) => {
                let owners = std::iter::repeat_n(owner, batch.num_rows());
                Ok(Arc::new(StringArray::from_iter_values(owners)) as ArrayRef)
            }
            (Output::Row { columns }, DataType::Struct(fields)) => {
                let values = batch.columns()[..*columns].to_vec();
                Ok(Arc::new(StructArray::try_new(fields.clone(), values, None)?) as ArrayRef)
            }
            (Output::Row { .. }, other) => internal_err!("a row as one column has type {other}"),
        })
        .collect()
}

fn external(error: kalamdb_core::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
