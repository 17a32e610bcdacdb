//! How DataFusion's planner finds tables and functions: through one statement's view and principal, and nothing else.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use futures::FutureExt;
use kalamdb_core::{Error, ErrorCode, Principal, TableName, View};

use crate::database::Database;
use crate::metadata;
use crate::names::{CATALOG, suggestion};
use crate::planning::{Planner, simplified};
use crate::provider::{Exposure, Provider};
use crate::system_columns::MarkedTables;

/// A metadata table of DataFusion that shows settings of the host: not for SQL.
const HOST_SETTINGS: &str = "df_settings";

/// Names for one statement.
pub(crate) struct PlanNames<'a> {
    planner: &'a Planner,
    relation_planners: [Arc<dyn RelationPlanner>; 1],
}

impl<'a> PlanNames<'a> {
    pub(crate) fn new(planner: &'a Planner) -> Self {
        PlanNames {
            planner,
            relation_planners: [Arc::new(MarkedTables)],
        }
    }
}

impl ContextProvider for PlanNames<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        self.planner
            .source(&name)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let state = self.planner.state();
        let functions = state.table_functions();
        let Some(function) = functions.get(&name.to_lowercase()) else {
            let hint = suggestion(name, functions.keys().map(String::as_str));
            let error = Error::new(ErrorCode::NotFound, format!("there is no table function {name}{hint}"));
            return Err(DataFusionError::External(Box::new(error)));
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
        self.planner.state().scalar_functions().get(name).cloned()
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

/// A table of `information_schema` that shows what the planner's principal sees.
pub(crate) fn information_schema_table(
    planner: &Planner,
    name: &str,
) -> kalamdb_core::Result<Option<Arc<dyn TableProvider>>> {
    if name == HOST_SETTINGS {
        return Ok(None);
    }
    let tables = VisibleTables {
        database: Arc::clone(planner.database()),
        principal: planner.principal().clone(),
        view: planner.view().clone(),
    };
    let schema = InformationSchemaProvider::new(Arc::new(tables));
    match schema.table(name).now_or_never() {
        Some(table) => table.map_err(crate::diagnostics::from_datafusion),
        None => Err(Error::new(
            ErrorCode::Internal,
            "looking up a table of information_schema had to wait",
        )),
    }
}

/// The catalog as one principal sees it, for DataFusion's `information_schema`.
#[derive(Clone)]
struct VisibleTables {
    database: Arc<Database>,
    principal: Principal,
    view: View,
}

impl fmt::Debug for VisibleTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisibleTables").finish_non_exhaustive()
    }
}

impl CatalogProviderList for VisibleTables {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for VisibleTables {
    fn schema_names(&self) -> Vec<String> {
        metadata::visible_namespaces(&self.view, &self.principal)
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = self.view.catalog().namespaces.contains_key(name);
        known.then(|| {
            Arc::new(VisibleNamespace {
                tables: self.clone(),
                namespace: name.to_owned(),
            }) as Arc<dyn SchemaProvider>
        })
    }
}

#[derive(Debug)]
struct VisibleNamespace {
    tables: VisibleTables,
    namespace: String,
}

impl VisibleNamespace {
    fn find(&self, name: &str) -> Option<Arc<kalamdb_core::Table>> {
        let name = TableName::new(&self.namespace, name);
        self.tables
            .view
            .catalog()
            .table(&name)
            .filter(|table| self.tables.principal.sees(table))
            .cloned()
    }
}

#[async_trait]
impl SchemaProvider for VisibleNamespace {
    fn table_names(&self) -> Vec<String> {
        let tables = self.tables.view.catalog().tables_in(&self.namespace);
        tables
            .filter(|table| self.tables.principal.sees(table))
            .map(|table| table.name.table.clone())
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.find(name).map(|table| {
            let VisibleTables {
                database,
                principal,
                view,
            } = self.tables.clone();
            Arc::new(Provider::new(database, table, principal, view, Exposure::Plain)) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
