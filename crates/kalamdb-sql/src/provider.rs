//! One TableProvider for every table type, over the one scan of core.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DFSchema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use kalamdb_core::{ScanField, ScanOrder, ScanRequest, SystemTable, Table, TableKind, View};

use crate::database::Database;
use crate::key_range;
use crate::pruning::Pruning;
use crate::scan_exec::{Counted, Keys, Output, Readers, ScanExec};
use crate::system_tables;

/// Commit order.
pub(crate) const SEQ: &str = "_seq";
/// Commit time.
pub(crate) const UPDATED: &str = "_updated";
/// The encoded key, for the write handler.
pub(crate) const ROW_KEY: &str = "_row_key";
/// The row's place, for the write handler.
pub(crate) const ROW_LOCATION: &str = "_row_location";
/// Whose row it is, in a query of all users: a column of every table of users' own rows, the last of its own.
pub(crate) const OWNER: &str = "_user";
/// All of the table's own columns as one, for the write handler. Planning takes time by the square of a plan's columns; an
/// UPDATE needs every value of its rows, and names few of them.
pub(crate) const ROW_VALUES: &str = "_row_values";

/// Which columns beside the table's own a statement reaches by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// None.
    Plain,
    /// `_seq` and `_updated`.
    SystemColumns,
    /// Those, and what the write handler needs to find a row again.
    Mutation,
}

/// In the configuration of a statement that shows what its scans count, to somebody who may not know how much others have: of tables
/// with owners they count what depends on one's own rows alone.
pub(crate) struct OwnRowsCounted;

/// Whether a table has `_seq` and `_updated`.
pub(crate) fn has_system_columns(table: &Table) -> bool {
    match table.kind {
        TableKind::Shared | TableKind::User | TableKind::Stream => true,
        TableKind::System => false,
    }
}

/// Whether each of a table's rows is some user's own.
pub(crate) fn has_owners(table: &Table) -> bool {
    match table.kind {
        TableKind::User | TableKind::Stream => true,
        TableKind::System | TableKind::Shared => false,
    }
}

/// A table as one statement of one principal reads it.
pub(crate) struct Provider {
    database: Arc<Database>,
    table: Arc<Table>,
    readers: Readers,
    view: View,
    schema: SchemaRef,
    /// For each field of the schema.
    fields: Vec<Origin>,
    constraints: Constraints,
}

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Scanned(ScanField),
    /// [`OWNER`].
    Owner,
    /// [`ROW_VALUES`]: the columns of the table, which are the first ones here.
    Row,
}

impl Provider {
    pub(crate) fn new(
        database: Arc<Database>,
        table: Arc<Table>,
        readers: Readers,
        view: View,
        exposure: Exposure,
    ) -> Self {
        let columns = table.schema.columns.iter().enumerate();
        let mut fields: Vec<Origin> = columns
            .filter(|(_, column)| !column.internal)
            .map(|(index, _)| Origin::Scanned(ScanField::Column(index)))
            .collect();
        let mut schema = Arc::clone(&table.schema.arrow);
        if let Readers::Everyone { .. } = readers {
            let mut extended: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
            extended.push(Field::new(OWNER, DataType::Utf8, false));
            schema = Arc::new(Schema::new_with_metadata(extended, schema.metadata().clone()));
            fields.push(Origin::Owner);
        }
        if exposure != Exposure::Plain && has_system_columns(&table) {
            let mut extended: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
            let utc_micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            extended.push(Field::new(SEQ, DataType::UInt64, false));
            extended.push(Field::new(UPDATED, utc_micros, false));
            fields.extend([ScanField::Seq, ScanField::Updated].map(Origin::Scanned));
            if exposure == Exposure::Mutation {
                extended.push(Field::new(ROW_KEY, DataType::Binary, false));
                extended.push(Field::new(ROW_LOCATION, DataType::UInt64, false));
                fields.extend([ScanField::RowKey, ScanField::RowLocation].map(Origin::Scanned));
                let own = DataType::Struct(schema.fields().clone());
                extended.push(Field::new(ROW_VALUES, own, false));
                fields.push(Origin::Row);
            }
            schema = Arc::new(Schema::new_with_metadata(extended, schema.metadata().clone()));
        }
        Provider {
            database,
            table,
            readers,
            view,
            schema,
            fields,
            constraints: Constraints::default(),
        }
    }

    /// The same, which says what its primary key is.
    pub(crate) fn with_key(self) -> Self {
        Provider {
            constraints: primary_key(&self.table, &self.readers, &self.fields),
            ..self
        }
    }

    /// The rows of a table that shows the running server.
    fn live_rows(&self) -> Option<kalamdb_core::Result<RecordBatch>> {
        match self.table.kind {
            TableKind::Shared | TableKind::User | TableKind::Stream => None,
            TableKind::System => match SystemTable::by_name(&self.table.name.table) {
                Some(system) if !system.is_stored() => Some(system_tables::rows(
                    &self.database,
                    self.readers.principal(),
                    &self.view,
                    system,
                )),
                Some(_) | None => None,
            },
        }
    }

    /// Where a column is in the table; system columns are not.
    fn stored_column(&self, name: &str) -> Option<usize> {
        let index = self.schema.index_of(name).ok()?;
        match self.fields.get(index)? {
            Origin::Scanned(ScanField::Column(index)) => Some(*index),
            Origin::Scanned(ScanField::Seq | ScanField::Updated | ScanField::RowKey | ScanField::RowLocation)
            | Origin::Owner
            | Origin::Row => None,
        }
    }

    /// What a scan reads for these columns, and what becomes of it.
    fn outputs(&self, read: &[usize]) -> (Vec<ScanField>, Vec<Output>) {
        let own = self.table.schema.arrow.fields().len();
        let mut fields: Vec<ScanField> = Vec::with_capacity(read.len());
        let whole = read.iter().any(|index| self.fields[*index] == Origin::Row);
        if whole {
            fields.extend(self.fields[..own].iter().filter_map(|origin| match origin {
                Origin::Scanned(field) => Some(*field),
                Origin::Owner | Origin::Row => None,
            }));
        }
        let outputs = read
            .iter()
            .map(|index| match self.fields[*index] {
                Origin::Row => Output::Row { columns: own },
                Origin::Owner => Output::Owner,
                Origin::Scanned(_) if whole && *index < own => Output::Column(*index),
                Origin::Scanned(field) => {
                    fields.push(field);
                    Output::Column(fields.len() - 1)
                }
            })
            .collect();
        (fields, outputs)
    }

    /// What of this scan may be shown.
    fn counted(&self, state: &dyn Session) -> Counted {
        let bounded = state.config().get_extension::<OwnRowsCounted>().is_some();
        match &self.readers {
            Readers::One(_) if bounded && has_owners(&self.table) => Counted::OwnRows,
            Readers::One(_) | Readers::Everyone { .. } => Counted::Everything,
        }
    }

    fn is_live(&self) -> bool {
        self.table.kind == TableKind::System
            && SystemTable::by_name(&self.table.name.table).is_some_and(|system| !system.is_stored())
    }
}

/// Of a USER or STREAM table a statement reads the rows of one user, among which keys are unique.
fn primary_key(table: &Table, readers: &Readers, fields: &[Origin]) -> Constraints {
    let key = match table.kind {
        TableKind::Shared | TableKind::User | TableKind::Stream => &table.schema.primary_key,
        TableKind::System => return Constraints::default(),
    };
    // The rows of everyone differ by their owners, too.
    let owner = match readers {
        Readers::One(_) => None,
        Readers::Everyone { .. } => Some(Origin::Owner),
    };
    let key = key.iter().map(|column| Origin::Scanned(ScanField::Column(*column)));
    // A hidden row id is no column here.
    let place = |origin: Origin| fields.iter().position(|field| *field == origin);
    let places: Option<Vec<usize>> = owner.into_iter().chain(key).map(place).collect();
    let primary_key = places.filter(|places| !places.is_empty()).map(Constraint::PrimaryKey);
    Constraints::new_unverified(primary_key.into_iter().collect())
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("table", &self.table.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Of any filter the bounds of segments may tell something; it is applied above all the same.
        let mut support = vec![TableProviderFilterPushDown::Inexact; filters.len()];
        if !self.is_live()
            && let Some(range) = key_range::of_filters(&self.table, filters)
        {
            for index in range.answered {
                support[index] = TableProviderFilterPushDown::Exact;
            }
        }
        Ok(support)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(rows) = self.live_rows() {
            let batch = rows.map_err(|error| DataFusionError::External(Box::new(error)))?;
            return Ok(MemorySourceConfig::try_new_exec(
                &[vec![batch]],
                Arc::clone(&self.schema),
                projection.cloned(),
            )?);
        }
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.fields.len()).collect());
        let by_reference: Vec<&Expr> = filters.iter().collect();
        let range = key_range::of_filters(&self.table, &by_reference);
        let answered = range.as_ref().map(|range| range.answered.clone()).unwrap_or_default();
        // DataFusion asks about filters as it finds them, so two that were accepted one after the other need not fit one
        // range. What the range does not answer is filtered here, since nobody does it above.
        let may_be_answered = key_range::may_be_answered(&self.table, filters);
        let left: Vec<Expr> = filters
            .iter()
            .enumerate()
            .filter(|(index, _)| !answered.contains(index) && may_be_answered[*index])
            .map(|(_, filter)| filter.clone())
            .collect();
        let told: Vec<Expr> = filters
            .iter()
            .enumerate()
            .filter(|(index, _)| !answered.contains(index))
            .map(|(_, filter)| filter.clone())
            .collect();
        let counted = self.counted(state);
        // What bounds rule out depends on whose rows are in the same page, and so would how many rows leave a scan.
        let is_counted = counted == Counted::OwnRows;
        let prune = if told.is_empty() || is_counted || self.view.segment_rows(&self.table) == 0 {
            None
        } else {
            Pruning::of(state, &told, &self.schema, |name| self.stored_column(name))?
        };
        let left = conjunction(left);
        let mut read = wanted.clone();
        if let Some(filter) = &left {
            for column in filter.column_refs() {
                let index = self.schema.index_of(&column.name)?;
                if !read.contains(&index) {
                    read.push(index);
                }
            }
        }
        let schema = Arc::new(self.schema.project(&read)?);
        let (fields, outputs) = self.outputs(&read);
        let request = ScanRequest {
            part: (0, 1),
            order: ScanOrder::Any,
            prune,
            fields,
            key: None,
            limit: if left.is_none() { limit } else { None },
            batch_rows: state.config().batch_size(),
        };
        let scan = ScanExec::new(
            Arc::clone(&self.table),
            self.readers.clone(),
            self.view.clone(),
            request,
            range.map_or(Keys::All, |range| Keys::Ranges(Arc::new(range.constraints))),
            outputs,
            Arc::clone(&schema),
        );
        let scan: Arc<dyn ExecutionPlan> = Arc::new(scan.counting(counted));
        let Some(filter) = left else { return Ok(scan) };
        let unqualified = datafusion::logical_expr::expr_rewriter::unnormalize_col(filter);
        let predicate = state.create_physical_expr(unqualified, &DFSchema::try_from(schema)?)?;
        let filtered = Arc::new(FilterExec::try_new(predicate, scan)?);
        let columns = wanted.iter().enumerate().map(|(position, index)| {
            let name = self.schema.field(*index).name().clone();
            (Arc::new(Column::new(&name, position)) as Arc<dyn PhysicalExpr>, name)
        });
        Ok(Arc::new(ProjectionExec::try_new(
            columns.collect::<Vec<_>>(),
            filtered,
        )?))
    }
}

/// Bytes of one row that a source reads, on average; 0 if nothing is known.
pub(crate) fn row_bytes(provider: &dyn TableProvider) -> u64 {
    let provider = (provider as &dyn Any).downcast_ref::<Provider>();
    provider.map_or(0, |provider| {
        let engine = provider.database.engine();
        engine.row_bytes(&provider.view, &provider.table)
    })
}

/// Downcasts for origins: which stored table a source reads.
pub(crate) fn table_of(provider: &dyn TableProvider) -> Option<&Arc<Table>> {
    (provider as &dyn Any)
        .downcast_ref::<Provider>()
        .map(|provider| &provider.table)
}
