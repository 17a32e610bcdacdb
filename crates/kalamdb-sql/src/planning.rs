//! From a parsed statement to a DataFusion plan: the session context of one statement, names, types and parameters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ParamValues, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use kalamdb_core::{Action, Error, ErrorCode, Principal, Result, Table, TableKind, TableName, View};

use crate::batch_rows;
use crate::constants;
use crate::database::Database;
use crate::diagnostics;
use crate::environment::QueryMemory;
use crate::execute_as;
use crate::guards::guarded;
use crate::information_schema;
use crate::interruption::{Interruption, aside, aside_waiting};
use crate::literals;
use crate::missing;
use crate::names::{name_position, placed, table_name};
use crate::parameters::{self, untyped};
use crate::plan_names::PlanNames;
use crate::plan_size::PlanSize;
use crate::provider::{self, Exposure, has_system_columns};
use crate::scan_exec::Readers;
use crate::session::{Reach, Session};
use crate::session_zone::zoned;
use crate::single_value;
use crate::system_columns;
use crate::time_zones;
use crate::values;

/// Which half of the protocol a statement belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// Returns rows: SELECT, VALUES, SHOW, DESCRIBE, EXPLAIN.
    Query,
    /// Returns a count or nothing.
    Update,
    /// Does something, once, and returns rows that say what: FLUSH, COMPACT, CHECK.
    Operation,
}

/// What a statement is, without having run it.
#[derive(Clone, Debug)]
pub struct Description {
    /// Query or update.
    pub kind: StatementKind,
    /// Result columns, exactly those of the execution; empty for updates.
    pub result: SchemaRef,
    /// For each result column the table it comes straight from, if it does.
    pub origins: Vec<Option<TableName>>,
    /// One nullable field per parameter, `$1` first, with inferred types (Utf8 where nothing can be inferred).
    pub parameters: SchemaRef,
}

/// What one statement plans with: its view, its principal, and DataFusion's state for both.
pub(crate) struct Planner {
    database: Arc<Database>,
    principal: Principal,
    reach: Reach,
    view: View,
    namespace: String,
    time_zone: Arc<str>,
    state: SessionState,
    interruption: Interruption,
}

/// A logical plan with the types of its parameters, before they have values.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    /// `$1` first; as [`Description::parameters`].
    pub(crate) parameters: Fields,
}

/// A running plan.
pub(crate) struct Running {
    /// Plain types; every batch has exactly this schema.
    pub(crate) stream: SendableRecordBatchStream,
    pub(crate) memory: Arc<QueryMemory>,
}

/// Runs a query at a new view with the session's rights, as SELECT would: plain types, column names as SELECT gives them.
/// Called on the query runtime; dropping the stream stops it.
///
/// # Errors
/// Whatever planning says; what running says comes out of the stream (through [`diagnostics::from_datafusion`]).
pub(crate) async fn stream_query(
    database: &Arc<Database>,
    session: &Arc<Session>,
    statement: &ast::Statement,
    interruption: &Interruption,
) -> Result<SendableRecordBatchStream> {
    let planner = Planner::new(database, session, interruption)?;
    let planned = planner.plan(statement.clone(), &[])?;
    Ok(planner.run(planned.plan, !planned.parameters.is_empty()).await?.stream)
}

impl Planner {
    /// A planner at a new view.
    ///
    /// # Errors
    /// UNAUTHENTICATED if the session's user is gone.
    pub(crate) fn new(database: &Arc<Database>, session: &Session, interruption: &Interruption) -> Result<Self> {
        let view = database.engine().view();
        let principal = database.principal(&view, session)?;
        let time_zone = session.time_zone();
        let state = database
            .environment()
            .state(database.engine(), &principal, &view, &time_zone, interruption);
        Ok(Planner {
            database: Arc::clone(database),
            principal,
            reach: session.reach(),
            view,
            namespace: session.namespace(),
            time_zone,
            state,
            interruption: interruption.clone(),
        })
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The session's.
    pub(crate) fn time_zone(&self) -> &Arc<str> {
        &self.time_zone
    }

    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }

    pub(crate) fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    /// The table of a written name, if the principal may do that to it.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND with the nearest visible name, PERMISSION_DENIED; both with the place in the text.
    pub(crate) fn table(&self, name: &ast::ObjectName, action: Action) -> Result<Arc<Table>> {
        let full = table_name(name, &self.namespace)?;
        self.find_table(&full, action)
            .map_err(|error| placed(error, name_position(name)))
    }

    fn find_table(&self, name: &TableName, action: Action) -> Result<Arc<Table>> {
        let Some(table) = self
            .view
            .catalog()
            .table(name)
            .filter(|table| self.principal.sees(table))
        else {
            return Err(missing::table(&self.view, &self.principal, name));
        };
        self.principal.check(action, table)?;
        Ok(Arc::clone(table))
    }

    /// What the planner reads for a table reference.
    pub(crate) fn source(&self, reference: &TableReference) -> Result<Arc<dyn TableSource>> {
        let exposure = system_columns::exposure(reference);
        if exposure == Exposure::Plain
            && let Some(catalog) = reference.catalog()
            && catalog != crate::names::CATALOG
        {
            return Err(Error::new(
                ErrorCode::TableNotFound,
                format!(
                    "there is no catalog '{catalog}'; the only one is {}",
                    crate::names::CATALOG
                ),
            ));
        }
        let namespace = reference
            .schema()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or(&self.namespace);
        let name = TableName::new(namespace, reference.table());
        if name.namespace == crate::names::INFORMATION_SCHEMA {
            return match information_schema::table(&name.table, &self.view, &self.principal)? {
                Some(table) => Ok(provider_as_source(table)),
                None => Err(missing::table(&self.view, &self.principal, &name)),
            };
        }
        let action = match self.reach {
            Reach::Own => Action::Select,
            Reach::Everyone => Action::SelectOfAllUsers,
        };
        let table = self.find_table(&name, action)?;
        let readers = self.readers(&table)?;
        Ok(provider_as_source(self.provider(table, readers, exposure)))
    }

    /// A table as this statement reads it.
    fn provider(&self, table: Arc<Table>, readers: Readers, exposure: Exposure) -> Arc<provider::Provider> {
        let (database, view) = (Arc::clone(&self.database), self.view.clone());
        Arc::new(provider::Provider::new(database, table, readers, view, exposure))
    }

    /// As whom this statement reads a table.
    fn readers(&self, table: &Table) -> Result<Readers> {
        let principal = self.principal.clone();
        match (self.reach, table.kind) {
            (Reach::Own, _) | (Reach::Everyone, TableKind::System | TableKind::Shared) => Ok(Readers::One(principal)),
            (Reach::Everyone, TableKind::User | TableKind::Stream) => {
                let owners = self.database.engine().all_users(&self.view, &principal, table)?;
                Ok(Readers::Everyone {
                    by: principal,
                    owners: owners.into(),
                })
            }
        }
    }

    /// Plans a SELECT, VALUES, WITH or EXPLAIN. `known` are parameter types that something outside the query fixes.
    ///
    /// # Errors
    /// SYNTAX_ERROR, TABLE_NOT_FOUND, COLUMN_NOT_FOUND, INVALID_STATEMENT, UNSUPPORTED, ...
    pub(crate) fn plan(&self, statement: ast::Statement, known: &[Option<FieldRef>]) -> Result<Planned> {
        aside(|| self.plan_here(statement, known))
    }

    fn plan_here(&self, mut statement: ast::Statement, known: &[Option<FieldRef>]) -> Result<Planned> {
        if !matches!(statement, ast::Statement::Query(_) | ast::Statement::Explain { .. }) {
            return Err(Error::new(
                ErrorCode::Internal,
                "a statement that is not a query reached the planner of queries",
            ));
        }
        literals::keep_long_numbers(&mut statement)?;
        time_zones::name_at_time_zone(&mut statement);
        values::queries_in_values(&mut statement);
        let known = &parameters::of_limits(&statement, known)?;
        let catalog = Arc::clone(self.view.catalog());
        let find = |name: &ast::ObjectName| {
            let name = table_name(name, &self.namespace).ok()?; // A bad name is reported when the query is planned.
            catalog
                .table(&name)
                .map(Arc::as_ref)
                .filter(|table| has_system_columns(table) && self.principal.sees(table))
        };
        system_columns::check_catalogs(&statement)?;
        system_columns::expose(&mut statement, &find)?;
        let plan = self.logical(statement.clone(), known.to_vec())?;
        let fields = plan.get_parameter_fields().map_err(diagnostics::from_datafusion)?;
        let types = ordered(fields, known)?;
        let plan = if types.iter().any(Option::is_none) {
            let types: Vec<Option<FieldRef>> = types
                .iter()
                .map(|known| Some(known.clone().unwrap_or_else(untyped)))
                .collect();
            self.logical(statement, types)?
        } else {
            plan
        };
        let parameters = types
            .into_iter()
            .enumerate()
            .map(|(index, known)| {
                let known = known.unwrap_or_else(untyped);
                Field::new(format!("${}", index + 1), known.data_type().clone(), true)
                    .with_metadata(known.metadata().clone())
            })
            .collect();
        Ok(Planned { plan, parameters })
    }

    fn logical(&self, statement: ast::Statement, types: Vec<Option<FieldRef>>) -> Result<LogicalPlan> {
        let names = PlanNames::new(self);
        let mut context = PlannerContext::new().with_prepare_param_data_types(types);
        let plan = SqlToRel::new(&names)
            .sql_statement_to_plan_with_context(statement, &mut context)
            .and_then(|plan| {
                // Before anything else walks over what the plan shares.
                PlanSize::of(&plan)?.check()?;
                let plan = single_value::aggregate_correlated(plan)?;
                match self.reach {
                    Reach::Own => Ok(plan),
                    Reach::Everyone => execute_as::with_owner(plan),
                }
            })
            .map_err(diagnostics::from_datafusion)?;
        let only_queries = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        only_queries.verify_plan(&plan).map_err(|_| {
            Error::new(
                ErrorCode::Unsupported,
                "a query may only read: SELECT INTO, COPY and the like are not supported",
            )
        })?;
        Ok(plan)
    }

    /// Puts values in the place of parameters.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE when large values are mentioned often; TYPE_MISMATCH.
    pub(crate) fn bind(&self, plan: LogicalPlan, values: ParamValues) -> Result<LogicalPlan> {
        PlanSize::of_bound(&plan, &values)
            .and_then(PlanSize::check)
            .and_then(|()| plan.with_param_values(values))
            .map_err(diagnostics::from_datafusion)
    }

    /// The schema that running the plan gives: types after coercion, none of them a view or a dictionary. With parameters
    /// every column may be NULL, whatever the values are, so that a prepared statement's schema holds for each execution.
    pub(crate) fn result_schema(&self, plan: &LogicalPlan, has_parameters: bool) -> Result<SchemaRef> {
        match plan {
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => Ok(plain_schema(plan.schema(), has_parameters)),
            _ => Ok(plain_schema(self.analyze(plan.clone())?.schema(), has_parameters)),
        }
    }

    fn analyze(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let options = self.state.config_options();
        self.state
            .analyzer()
            .execute_and_check(plan, options, |_, _| {})
            .map_err(diagnostics::from_datafusion)
    }

    /// Optimizes a plan and starts it.
    ///
    /// # Errors
    /// Whatever coercion and physical planning say.
    pub(crate) async fn run(&self, plan: LogicalPlan, has_parameters: bool) -> Result<Running> {
        let (schema, state, physical) = self.physical(plan, has_parameters).await?;
        let (runtime, memory) = self.database.environment().query_runtime(&self.interruption);
        let context = TaskContext::from(state.as_ref()).with_runtime(runtime);
        let stream = execute_stream(physical, Arc::new(context)).map_err(diagnostics::from_datafusion)?;
        let batches = {
            let schema = Arc::clone(&schema);
            stream.map(move |batch| plain_batch(batch?, &schema))
        };
        Ok(Running {
            stream: Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
            memory,
        })
    }

    /// The result's schema, the plan, and the state that it is planned with and is to be run with.
    async fn physical(
        &self,
        plan: LogicalPlan,
        has_parameters: bool,
    ) -> Result<(SchemaRef, Cow<'_, SessionState>, Arc<dyn ExecutionPlan>)> {
        aside_waiting(async {
            let (schema, optimized) = self.optimize(plan, has_parameters)?;
            let state = self.state_for(&optimized)?;
            let physical = tokio::select! {
                physical = state.query_planner().create_physical_plan(&optimized, state.as_ref()) => physical,
                error = self.interruption.wait() => return Err(error),
            };
            Ok((schema, state, physical.map_err(diagnostics::from_datafusion)?))
        })
        .await
    }

    fn optimize(&self, plan: LogicalPlan, has_parameters: bool) -> Result<(SchemaRef, LogicalPlan)> {
        let (schema, optimized) = match &plan {
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => {
                let optimized = self.state.optimize(&plan).map_err(diagnostics::from_datafusion)?;
                (plain_schema(plan.schema(), has_parameters), optimized)
            }
            _ => {
                let analyzed = self.analyze(plan)?;
                let schema = plain_schema(analyzed.schema(), has_parameters);
                let optimized = self.state.optimizer().optimize(analyzed, &self.state, |_, _| {});
                (schema, optimized.map_err(diagnostics::from_datafusion)?)
            }
        };
        let bounded = PlanSize::of(&optimized)
            .and_then(PlanSize::check)
            .and_then(|()| constants::bounded(optimized, self.state.config().batch_size()));
        Ok((schema, bounded.map_err(diagnostics::from_datafusion)?))
    }

    /// The statement's state, with smaller batches where the plan reads long rows.
    fn state_for(&self, plan: &LogicalPlan) -> Result<Cow<'_, SessionState>> {
        let most = self.state.config().batch_size();
        let rows = batch_rows::of(plan, most).map_err(diagnostics::from_datafusion)?;
        if rows == most {
            return Ok(Cow::Borrowed(&self.state));
        }
        let mut state = self.state.clone();
        *state.config_mut() = state.config().clone().with_batch_size(rows);
        Ok(Cow::Owned(state))
    }

    /// An expression without columns but for parameters, which become columns `$1`, `$2`, … of `parameters`.
    ///
    /// # Errors
    /// COLUMN_NOT_FOUND, INVALID_STATEMENT, ...
    pub(crate) fn expression(&self, mut expr: ast::Expr, parameters: &Fields) -> Result<Arc<dyn PhysicalExpr>> {
        literals::keep_long_numbers(&mut expr)?;
        time_zones::name_at_time_zone(&mut expr);
        let names = PlanNames::new(self);
        let types = parameters.iter().map(|field| Some(Arc::clone(field))).collect();
        let mut context = PlannerContext::new().with_prepare_param_data_types(types);
        let expr = SqlToRel::new(&names)
            .sql_to_expr(expr, &DFSchema::empty(), &mut context)
            .map_err(diagnostics::from_datafusion)?;
        let bound = parameters::placeholders_to_columns(expr).map_err(diagnostics::from_datafusion)?;
        let schema = DFSchema::try_from(Schema::new(parameters.clone())).map_err(diagnostics::from_datafusion)?;
        let simplified = simplified(&self.state, bound, &schema).map_err(diagnostics::from_datafusion)?;
        self.state
            .create_physical_expr(simplified, &schema)
            .map_err(diagnostics::from_datafusion)
    }

    /// The types of the parameters in an expression without columns, by number; `None` where nothing says.
    pub(crate) fn parameter_types(&self, expr: &ast::Expr) -> Result<HashMap<String, Option<FieldRef>>> {
        let mut expr = expr.clone();
        time_zones::name_at_time_zone(&mut expr);
        let names = PlanNames::new(self);
        let expr = SqlToRel::new(&names)
            .sql_to_expr(expr, &DFSchema::empty(), &mut PlannerContext::new())
            .map_err(diagnostics::from_datafusion)?;
        parameters::placeholder_types(&expr).map_err(diagnostics::from_datafusion)
    }

    /// For each output column the table it comes straight from.
    pub(crate) fn origins(&self, plan: &LogicalPlan) -> Vec<Option<TableName>> {
        (0..plan.schema().fields().len())
            .map(|index| origin(plan, index))
            .collect()
    }
}

/// An expression outside a plan as the rules make those inside: coerced, guarded, simplified.
///
/// # Errors
/// Whatever the rules say.
pub(crate) fn simplified(state: &SessionState, expr: Expr, schema: &DFSchema) -> DataFusionResult<Expr> {
    use datafusion::logical_expr::simplify::SimplifyContext;
    use datafusion::optimizer::simplify_expressions::ExprSimplifier;
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let typed = expr.transform_up(|expr| literals::typed(expr, schema))?;
    let coerced = simplifier.coerce(typed.data, schema)?;
    let zoned = zoned(coerced, schema, state.config_options())?;
    simplifier.simplify(guarded(zoned.data, schema)?.data)
}

/// Parameters in order, over those that are known from outside; a gap (`$1` and `$3` only) is a parameter nobody reads.
fn ordered(fields: HashMap<String, Option<FieldRef>>, known: &[Option<FieldRef>]) -> Result<Vec<Option<FieldRef>>> {
    let mut types = known.to_vec();
    for (name, field) in fields {
        let number = parameters::number(&name)?;
        if types.len() < number {
            types.resize(number, None);
        }
        if field.is_some() {
            types[number - 1] = field;
        }
    }
    Ok(types)
}

fn origin(plan: &LogicalPlan, index: usize) -> Option<TableName> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?; // Work tables of recursive queries are no providers.
            provider::table_of(provider.as_ref()).map(|table| table.name.clone())
        }
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(index)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            origin(
                &projection.input,
                projection.input.schema().maybe_index_of_column(column)?,
            )
        }
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Sort(sort) => origin(&sort.input, index),
        LogicalPlan::Limit(limit) => origin(&limit.input, index),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            if index < left {
                origin(&join.left, index)
            } else {
                origin(&join.right, index - left)
            }
        }
        _ => None,
    }
}

fn plain_schema(schema: &DFSchema, has_parameters: bool) -> SchemaRef {
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| {
            let plain = field.as_ref().clone().with_data_type(plain_type(field.data_type()));
            Arc::new(if has_parameters {
                plain.with_nullable(true)
            } else {
                plain
            })
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The type without views, dictionaries and run-end encoding, at any depth.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    let plain_field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain_type(field.data_type())));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(field) | DataType::ListView(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(plain_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(plain_field(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(field, sorted) => DataType::Map(plain_field(field), *sorted),
        other => other.clone(),
    }
}

fn plain_batch(batch: RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast_with_options(column, field.data_type(), &options)
            }
        })
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(DataFusionError::from)
}
