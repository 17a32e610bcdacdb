//! How DataFusion's planner finds tables and functions: through one statement's view and principal, and nothing else.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use kalamdb_core::TableName;

use crate::ambiguous_outer;
use crate::names::suggestion;
use crate::planning::{Planner, simplified};
use crate::relations::CountedRelations;
use crate::system_columns::MarkedTables;

/// Names for one statement, or for the query of a view in it.
pub(crate) struct PlanNames<'a> {
    planner: &'a Planner,
    /// Where names without a namespace are looked up.
    namespace: &'a str,
    /// The views whose queries are being planned, outermost first.
    within: Vec<TableName>,
    /// The tables and views that were asked for.
    read: RefCell<Vec<TableName>>,
    /// Whether the planner is told of primary keys.
    tells_keys: Cell<bool>,
    counted: Arc<CountedRelations>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> PlanNames<'a> {
    pub(crate) fn new(planner: &'a Planner) -> Self {
        PlanNames::of_view(planner, planner.namespace(), Vec::new())
    }

    /// The same, and a relation of the statement's own.
    pub(crate) fn with(planner: &'a Planner, relation: Arc<dyn RelationPlanner>) -> Self {
        let mut names = PlanNames::new(planner);
        names.relation_planners.push(relation);
        names
    }

    /// For the query of a view, the last of `within`.
    pub(crate) fn of_view(planner: &'a Planner, namespace: &'a str, within: Vec<TableName>) -> Self {
        let counted = Arc::new(CountedRelations::new(planner.interruption()));
        PlanNames {
            planner,
            namespace,
            within,
            read: RefCell::default(),
            tells_keys: Cell::new(false),
            counted: Arc::clone(&counted),
            relation_planners: vec![counted, Arc::new(MarkedTables)],
        }
    }

    /// Begins to plan the text, perhaps again.
    pub(crate) fn begin(&self) {
        self.counted.begin();
    }

    /// Whether the planner is told of primary keys, which it is by the next plans.
    pub(crate) fn tell_keys(&self, tells_keys: bool) {
        self.tells_keys.set(tells_keys);
    }

    pub(crate) fn tells_keys(&self) -> bool {
        self.tells_keys.get()
    }

    /// Where names without a namespace are looked up.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace
    }

    /// The views whose queries are being planned, outermost first.
    pub(crate) fn within(&self) -> &[TableName] {
        &self.within
    }

    /// Notes a table or view that the query names.
    pub(crate) fn note(&self, name: &TableName) {
        let mut read = self.read.borrow_mut();
        if !read.contains(name) {
            read.push(name.clone());
        }
    }

    /// Whether any table or view that the query names is such.
    pub(crate) fn any_read(&self, is_such: impl Fn(&TableName) -> bool) -> bool {
        self.read.borrow().iter().any(is_such)
    }

    /// The tables and views that the query names.
    pub(crate) fn into_read(self) -> Vec<TableName> {
        self.read.into_inner()
    }
}

/// The name follows, and after it what it may be meant to be.
pub(crate) const NO_TABLE_FUNCTION: &str = "there is no table function ";

impl ContextProvider for PlanNames<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        self.planner
            .source(&name, self)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let state = self.planner.state();
        let functions = state.table_functions();
        let Some(function) = functions.get(&name.to_lowercase()) else {
            let hint = suggestion(name, functions.keys().map(String::as_str));
            return Err(DataFusionError::Plan(format!("{NO_TABLE_FUNCTION}{name}{hint}")));
        };
        let args: Vec<Expr> = args
            .into_iter()
            .map(|arg| simplified(state, arg, &DFSchema::empty()))
            .collect::<Result<_>>()?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.planner.state().expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(self.planner.database().environment().types()))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let known = self.planner.state().scalar_functions().get(name).cloned();
        known.or_else(|| ambiguous_outer::mark(name))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.planner.state().higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.planner.state().aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.planner.state().window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.planner.state().config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.planner.state().scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.planner.state().higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.planner.state().aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.planner.state().window_functions().keys().cloned().collect()
    }
}
