//! From a parsed statement to a DataFusion plan: the session context of one statement, names, types and parameters.

mod parameter_types;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::planner::RelationPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut};
use futures::StreamExt;
use kalamdb_core::{
    Action, Error, ErrorCode, INFORMATION_SCHEMA, Principal, Result, Table, TableKind, TableName, Task, View,
};

use crate::aggregate_places;
use crate::ambiguous_outer;
use crate::batch_rows;
use crate::constants;
use crate::database::Database;
use crate::diagnostics;
use crate::diagnostics::late::LatePlaces;
use crate::diagnostics::subqueries::Correlation;
use crate::environment::QueryMemory;
use crate::exact_numbers;
use crate::execute_as;
use crate::function_arguments;
use crate::function_clauses;
use crate::function_columns;
use crate::grouping_forms;
use crate::grouping_sets;
use crate::guards::guarded;
use crate::information_schema;
use crate::interruption::{Interruption, aside, aside_waiting};
use crate::interval_text;
use crate::key_groups;
use crate::lateral_unnest;
use crate::literals;
use crate::merged_columns;
use crate::missing;
use crate::more_functions;
use crate::named_windows;
use crate::names::{name_position, placed, table_name};
use crate::one_row_subqueries;
use crate::ordinals;
use crate::parameters;
use crate::patterns;
use crate::plan_length;
use crate::plan_names::PlanNames;
use crate::plan_size::PlanSize;
use crate::planned::{Planned, plain_batch};
use crate::planning::parameter_types::Typed;
use crate::provider::{self, Exposure, has_system_columns};
use crate::qualifiers;
use crate::quantified;
use crate::recursive_terms;
use crate::repeated_names::{self, Renamed};
use crate::replaced_columns;
use crate::row_comparisons;
use crate::scan_exec::Readers;
use crate::second_names;
use crate::session::{Reach, Session};
use crate::session_names;
use crate::session_zone::zoned;
use crate::set_operations;
use crate::single_value;
use crate::struct_fields;
use crate::subquery_values;
use crate::system_columns;
use crate::text_comparisons;
use crate::time_units;
use crate::time_zones;
use crate::values;
use crate::values_of_times;
use crate::views;
use crate::written_columns;
use crate::written_wildcards;

/// Which half of the protocol a statement belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// Returns rows: SELECT, VALUES, SHOW, DESCRIBE, EXPLAIN.
    Query,
    /// Returns a count or nothing.
    Update,
    /// Does something, once, and returns rows about it: FLUSH, COMPACT, CHECK, and writes with RETURNING.
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
    /// One nullable field per parameter, `$1` first: what the statement tells of its type, or what is bound, or Utf8.
    pub parameters: SchemaRef,
    /// Whether result columns may have other types with values bound of other types: the statement tells nothing of some
    /// parameters. [`Database::describe_bound`] says which.
    pub follows_bound_types: bool,
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
    /// Types of what is bound, `$1` first, for parameters of which the statement tells nothing.
    bound: Vec<Option<FieldRef>>,
}

/// A plan of a statement's text, or of the same with other names for some columns.
struct Distinct {
    plan: LogicalPlan,
    names: Option<Arc<[String]>>,
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
    Ok(planner.run(planned).await?.stream)
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
            bound: Vec::new(),
        })
    }

    /// For parameters with values of such types.
    pub(crate) fn with_bound(self, bound: Vec<Option<FieldRef>>) -> Self {
        Planner { bound, ..self }
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The session's.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The session's.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
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
            return Err(match views::visible(&self.view, &self.principal, name) {
                Some(_) => views::is_no_table(name),
                None => missing::table(&self.view, &self.principal, name),
            });
        };
        self.principal.check(action, table)?;
        Ok(Arc::clone(table))
    }

    /// What the planner reads for a table reference. A view is its query, planned for this statement's principal.
    pub(crate) fn source(&self, reference: &TableReference, names: &PlanNames<'_>) -> Result<Arc<dyn TableSource>> {
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
            .unwrap_or(names.namespace());
        let name = TableName::new(namespace, reference.table());
        names.note(&name);
        views::check_cycle(&name, names.within())?;
        if name.namespace == INFORMATION_SCHEMA {
            return match information_schema::table(&name.table, &self.view, &self.principal)? {
                Some(table) => Ok(provider_as_source(table)),
                None => Err(missing::table(&self.view, &self.principal, &name)),
            };
        }
        if let Some(view) = views::visible(&self.view, &self.principal, &name) {
            let plan = views::plan(self, view, names.within())?;
            return Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))));
        }
        let action = match self.reach {
            Reach::Own => Action::Select,
            Reach::Everyone => Action::SelectOfAllUsers,
        };
        let table = self.find_table(&name, action)?;
        let readers = self.readers(&table)?;
        let provider = self.provider(table, readers, exposure);
        Ok(provider_as_source(Arc::new(match names.tells_keys() {
            true => provider.with_key(),
            false => provider,
        })))
    }

    /// A table as this statement reads it.
    fn provider(&self, table: Arc<Table>, readers: Readers, exposure: Exposure) -> provider::Provider {
        let (database, view) = (Arc::clone(&self.database), self.view.clone());
        provider::Provider::new(database, table, readers, view, exposure)
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
        self.plan_with(statement, known, &PlanNames::new(self))
    }

    /// The same with a relation of the statement's own.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub(crate) fn plan_over(
        &self,
        statement: ast::Statement,
        known: &[Option<FieldRef>],
        relation: Arc<dyn RelationPlanner>,
    ) -> Result<Planned> {
        self.plan_with(statement, known, &PlanNames::with(self, relation))
    }

    /// The same with names as given.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub(crate) fn plan_with(
        &self,
        statement: ast::Statement,
        known: &[Option<FieldRef>],
        names: &PlanNames<'_>,
    ) -> Result<Planned> {
        aside(|| self.plan_here(statement, known, names))
    }

    fn plan_here(
        &self,
        mut statement: ast::Statement,
        known: &[Option<FieldRef>],
        names: &PlanNames<'_>,
    ) -> Result<Planned> {
        if !matches!(statement, ast::Statement::Query(_) | ast::Statement::Explain { .. }) {
            return Err(Error::new(
                ErrorCode::Internal,
                "a statement that is not a query reached the planner of queries",
            ));
        }
        let mut places = LatePlaces::of(&mut statement);
        self.prepare(&mut statement)?;
        recursive_terms::as_derived(&mut statement);
        values::queries_in_values(&mut statement);
        let known = &parameters::of_limits(&statement, known)?;
        let catalog = Arc::clone(self.view.catalog());
        let find = |name: &ast::ObjectName| {
            let name = table_name(name, names.namespace()).ok()?; // A bad name is reported when the query is planned.
            catalog
                .table(&name)
                .map(Arc::as_ref)
                .filter(|table| has_system_columns(table) && self.principal.sees(table))
        };
        system_columns::check_catalogs(&statement)?;
        qualifiers::settle(&mut statement, names.namespace())?;
        merged_columns::settle(&mut statement)?;
        merged_columns::name_in_subqueries(&mut statement);
        system_columns::expose(&mut statement, self.reach, &find)?;
        let has_column = |table: &TableName, column: &str| match catalog.table(table) {
            Some(table) => table.schema.columns.iter().any(|known| known.name == column),
            None => true,
        };
        qualifiers::name_outer(&mut statement, names.namespace(), &has_column)?;
        if let Some(reading) = replaced_columns::reading(&statement)
            && let Err(error) = self.logical(names, reading, known.to_vec())
        {
            let error = self.refused(names, error, &statement, known);
            // Anything else planning says of the statement itself. A name that two tables have is replaced in both.
            if error.code == ErrorCode::ColumnNotFound {
                return Err(error);
            }
        }
        let Typed {
            distinct: Distinct { plan, names: output },
            types,
            follows_bound_types,
        } = self.typed(names, &statement, known)?;
        let parameters = parameters::fields(types);
        let mut correlation = Correlation::of(&plan).map_err(diagnostics::from_datafusion)?;
        if names.any_read(|name| self.view.catalog().view(name).is_some()) {
            // A place in the text of a view is none in the statement's.
            correlation.forget_place();
            places = LatePlaces::default();
        }
        Ok(Planned {
            plan,
            parameters,
            follows_bound_types,
            names: output,
            correlation,
            places: Arc::new(places),
        })
    }

    /// The plan, whether or not columns of the result share a name.
    fn distinct(
        &self,
        names: &PlanNames<'_>,
        statement: ast::Statement,
        types: &[Option<FieldRef>],
    ) -> DataFusionResult<Distinct> {
        let is_of_sides = repeated_names::confuses_sides(&statement);
        let as_written = match is_of_sides {
            true => Err(DataFusionError::Plan(repeated_names::OF_SIDES.to_owned())),
            false => self.logical(names, statement.clone(), types.to_vec()),
        };
        let refusal = match as_written {
            Ok(plan) => return Ok(Distinct { plan, names: None }),
            Err(error) if repeated_names::caused(&error) => error,
            Err(error) if key_groups::may_help(&error, &statement) => {
                names.tell_keys(true);
                if let Ok(plan) = self.logical(names, statement, types.to_vec()) {
                    return Ok(Distinct { plan, names: None });
                }
                names.tell_keys(false);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if let Some(distinct) = self.renamed(names, &statement, types, is_of_sides)? {
            return Ok(distinct);
        }
        let plan = |other| self.logical(names, other, types.to_vec()).ok();
        if self.reach == Reach::Own
            && let Some(written) = written_wildcards::written_out(&statement, &plan)
            && let Some(distinct) = self.renamed(names, &written, types, is_of_sides)?
        {
            return Ok(distinct);
        }
        Err(refusal)
    }

    /// The plan with other names for some columns; `None` where that does not help, and the first refusal is about what was written.
    fn renamed(
        &self,
        names: &PlanNames<'_>,
        statement: &ast::Statement,
        types: &[Option<FieldRef>],
        is_of_sides: bool,
    ) -> DataFusionResult<Option<Distinct>> {
        for which in [Renamed::Repeated, Renamed::All, Renamed::AllAndCasts] {
            let mut renamed = statement.clone();
            let any = repeated_names::rename(&mut renamed, which);
            if !any.map_err(|error| DataFusionError::External(Box::new(error)))? {
                continue;
            }
            match self.logical(names, renamed, types.to_vec()) {
                Ok(plan) => {
                    let names = repeated_names::given_back(&plan)?.map(Arc::from);
                    return Ok(Some(Distinct { plan, names }));
                }
                Err(error) if is_of_sides && !repeated_names::caused(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// What planning the statement says, with the place that it is about.
    fn refused(
        &self,
        names: &PlanNames<'_>,
        error: DataFusionError,
        statement: &ast::Statement,
        types: &[Option<FieldRef>],
    ) -> Error {
        diagnostics::in_text(error, statement, |other| {
            self.logical(names, other, types.to_vec()).err()
        })
    }

    /// Writes a text in the ways that DataFusion's planner reads it rightly, and refuses what the planner would pass over.
    fn prepare(&self, node: &mut (impl Visit + VisitMut)) -> Result<()> {
        grouping_forms::as_sets(node, &self.state)?;
        ordinals::as_expressions(node, &self.state)?;
        session_names::as_literals(node, &self.namespace);
        more_functions::as_expressions(node);
        lateral_unnest::as_unnest(node);
        function_columns::name(node);
        interval_text::in_units(node);
        second_names::settle(node);
        exact_numbers::keep_long_numbers(node)?;
        time_units::keep_far_times(node);
        values_of_times::in_one_unit(node);
        time_zones::name_at_time_zone(node);
        struct_fields::name_fields(node);
        named_windows::resolve(node)?;
        patterns::translate(node)?;
        quantified::as_calls(node);
        row_comparisons::as_scalars(node, &self.state)?;
        text_comparisons::as_equality(node);
        parameters::arrays_as_calls(node);
        aggregate_places::check(node, &self.state)?;
        function_arguments::check(node, &self.state)?;
        function_clauses::check(node, &self.state)
    }

    fn logical(
        &self,
        names: &PlanNames<'_>,
        statement: ast::Statement,
        types: Vec<Option<FieldRef>>,
    ) -> DataFusionResult<LogicalPlan> {
        let raw = |statement| {
            names.begin();
            let mut context = PlannerContext::new().with_prepare_param_data_types(types.clone());
            SqlToRel::new(names).sql_statement_to_plan_with_context(statement, &mut context)
        };
        let with_subqueries = ambiguous_outer::may_have_any(&statement).then(|| statement.clone());
        let plan = raw(statement).and_then(|plan| {
            // Before anything else walks over what the plan shares.
            PlanSize::of(&plan)?.check()?;
            check_sorts(&plan)?;
            if let Some(statement) = with_subqueries {
                ambiguous_outer::check(statement, &plan, raw)?;
            }
            repeated_names::check_groups(&plan)?;
            let plan = lateral_unnest::joined(plan)?.data;
            let plan = grouping_sets::of_columns(plan)?.data;
            let plan = set_operations::numbered(single_value::aggregate_correlated(plan)?)?;
            let plan = plan.transform_data(one_row_subqueries::settled)?;
            let plan = plan.transform_data(subquery_values::rewritten)?;
            if plan.transformed {
                PlanSize::of(&plan.data)?.check()?;
            }
            match self.reach {
                Reach::Own => Ok(plan.data),
                Reach::Everyone => execute_as::with_owner(plan.data),
            }
        })?;
        let only_queries = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        only_queries.verify_plan(&plan).map_err(|_| {
            let message = "a query may only read: SELECT INTO, COPY and the like are not supported";
            DataFusionError::External(Box::new(Error::new(ErrorCode::Unsupported, message)))
        })?;
        Ok(plan)
    }

    /// Puts values in the place of parameters.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE when large values are mentioned often; TYPE_MISMATCH.
    pub(crate) fn bind(&self, planned: Planned, values: ParamValues) -> Result<Planned> {
        let plan = PlanSize::of_bound(&planned.plan, &values)
            .and_then(PlanSize::check)
            .and_then(|()| written_columns::without_parameters(planned.plan)?.with_param_values(values))
            .map_err(diagnostics::from_datafusion)?;
        Ok(Planned { plan, ..planned })
    }

    /// The schema that running the plan gives: types after coercion, none of them a view or a dictionary. With parameters
    /// every column may be NULL, whatever the values are, so that a prepared statement's schema holds for each execution.
    pub(crate) fn result_schema(&self, planned: &Planned) -> Result<SchemaRef> {
        match &planned.plan {
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => planned.schema_of(&planned.plan),
            plan => {
                let analyzed = self.analyze(plan.clone());
                let analyzed = analyzed.map_err(|error| planned.explain(error))?;
                planned.schema_of(&analyzed)
            }
        }
        .map_err(diagnostics::from_datafusion)
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
    pub(crate) async fn run(&self, planned: Planned) -> Result<Running> {
        let places = Arc::clone(&planned.places);
        let (schema, state, physical) = self.physical(planned).await?;
        if plan_length::takes_long(&physical) {
            // What the plan starts runs where it was started.
            self.interruption.expect_long().await;
        }
        let (runtime, memory) = self.database.environment().query_runtime(&self.interruption);
        let context = TaskContext::from(state.as_ref()).with_runtime(runtime);
        let stream = execute_stream(physical, Arc::new(context)).map_err(diagnostics::from_datafusion)?;
        let batches = {
            let schema = Arc::clone(&schema);
            stream.map(move |batch| {
                let batch = batch.and_then(|batch| plain_batch(batch, &schema));
                batch.map_err(|error| placed_by(&places, error))
            })
        };
        Ok(Running {
            stream: Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
            memory,
        })
    }

    /// The result's schema, the plan, and the state that it is planned with and is to be run with.
    async fn physical(&self, planned: Planned) -> Result<(SchemaRef, Cow<'_, SessionState>, Arc<dyn ExecutionPlan>)> {
        let (correlation, places) = (planned.correlation, Arc::clone(&planned.places));
        let physical = aside_waiting(async {
            let (schema, optimized) = self.optimize(planned)?;
            let state = self.state_for(&optimized)?;
            let physical = tokio::select! {
                physical = state.query_planner().create_physical_plan(&optimized, state.as_ref()) => physical,
                error = self.interruption.wait() => return Err(error),
            };
            Ok((schema, state, physical.map_err(diagnostics::from_datafusion)?))
        });
        physical
            .await
            .map_err(|error| places.explain(correlation.explain(error)))
    }

    fn optimize(&self, mut planned: Planned) -> Result<(SchemaRef, LogicalPlan)> {
        let (schema, optimized) = match &planned.plan {
            plan @ (LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) => {
                let optimized = self.state.optimize(plan).map_err(diagnostics::from_datafusion)?;
                (planned.schema_of(plan), optimized)
            }
            _ => {
                let analyzed = self.analyze(std::mem::take(&mut planned.plan))?;
                let schema = planned.schema_of(&analyzed);
                let optimized = self.state.optimizer().optimize(analyzed, &self.state, |_, _| {});
                (schema, optimized.map_err(diagnostics::from_datafusion)?)
            }
        };
        let schema = schema.map_err(diagnostics::from_datafusion)?;
        let bounded = PlanSize::of(&optimized)
            .and_then(PlanSize::check)
            .and_then(|()| constants::bounded(optimized, self.state.config().batch_size()));
        Ok((schema, bounded.map_err(diagnostics::from_datafusion)?))
    }

    /// The statement's state, with smaller batches where the plan reads long rows, and fewer counters where it shows them.
    fn state_for(&self, plan: &LogicalPlan) -> Result<Cow<'_, SessionState>> {
        let most = self.state.config().batch_size();
        let rows = batch_rows::of(plan, most).map_err(diagnostics::from_datafusion)?;
        let shows_counters = matches!(plan, LogicalPlan::Analyze(_));
        let bounded = shows_counters && self.principal.require(Task::CountSegments).is_err();
        if rows == most && !bounded {
            return Ok(Cow::Borrowed(&self.state));
        }
        let mut config = self.state.config().clone().with_batch_size(rows);
        if bounded {
            config = config.with_extension(Arc::new(provider::OwnRowsCounted));
        }
        let mut state = self.state.clone();
        *state.config_mut() = config;
        Ok(Cow::Owned(state))
    }

    /// An expression without columns but for parameters, which become columns `$1`, `$2`, … of `parameters`.
    ///
    /// # Errors
    /// COLUMN_NOT_FOUND, INVALID_STATEMENT, ...
    pub(crate) fn expression(&self, mut expr: ast::Expr, parameters: &Fields) -> Result<Arc<dyn PhysicalExpr>> {
        self.prepare(&mut expr)?;
        let types: Vec<_> = parameters.iter().map(|field| Some(Arc::clone(field))).collect();
        let expr = self.logical_expression(expr, &types)?;
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
        self.prepare(&mut expr)?;
        let expr = self.logical_expression(expr, &[])?;
        parameters::placeholder_types(&expr).map_err(diagnostics::from_datafusion)
    }

    fn logical_expression(&self, expr: ast::Expr, types: &[Option<FieldRef>]) -> Result<Expr> {
        let names = PlanNames::new(self);
        let plan = |expr| {
            let mut context = PlannerContext::new().with_prepare_param_data_types(types.to_vec());
            SqlToRel::new(&names).sql_to_expr(expr, &DFSchema::empty(), &mut context)
        };
        let planned =
            plan(expr.clone()).map_err(|error| diagnostics::in_text(error, &expr, |other| plan(other).err()))?;
        let is_of_rows = |part: &Expr| Ok(matches!(part, Expr::AggregateFunction(_) | Expr::WindowFunction(_)));
        if planned.exists(is_of_rows).map_err(diagnostics::from_datafusion)? {
            let message = "aggregate and window functions are of several rows, and here there are none";
            return Err(Error::new(ErrorCode::InvalidStatement, message));
        }
        Ok(planned)
    }
}

/// An error of running with its place, if the statement tells it.
fn placed_by(places: &LatePlaces, error: DataFusionError) -> DataFusionError {
    let ours = diagnostics::from_datafusion(error);
    DataFusionError::External(Box::new(places.explain(ours)))
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

/// What ORDER BY names is there: DataFusion's planner leaves it to rules to find out, which know no statement.
fn check_sorts(plan: &LogicalPlan) -> DataFusionResult<()> {
    plan.apply_with_subqueries(|part| {
        if let LogicalPlan::Sort(sort) = part {
            let columns = sort.expr.iter().flat_map(|key| key.expr.column_refs());
            for column in columns {
                sort.input.schema().qualified_field_from_column(column)?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(|_| ())
}
