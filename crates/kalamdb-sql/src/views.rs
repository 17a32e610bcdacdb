//! Views: a query is checked when its view is made, and planned anew, as the invoker's own, wherever the view is read.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use kalamdb_core::{Error, ErrorCode, NewView, Principal, Result, StoredView, TableName, Task, View, ViewDefinition};
use stacker::maybe_grow;

use crate::database::Database;
use crate::definition::{full_name, query_columns};
use crate::diagnostics;
use crate::execute_as;
use crate::missing;
use crate::names::{placed, suggestion};
use crate::plan_names::PlanNames;
use crate::planned::{Planned, plain_type};
use crate::planning::Planner;
use crate::provider::OWNER;
use crate::queries::RunningQuery;
use crate::session::{Reach, Session};
use crate::statement::{self, CreateView, ObjectName, Statement};

/// Views read views; each level costs the planner stack.
const MOST_NESTED: usize = 16;

/// What planning a view takes of a thread's stack, but for what DataFusion looks after itself; generously.
const STACK_FOR_A_VIEW: usize = 1 << 20;
/// The next piece of stack where there is less.
const GROWN_STACK: usize = 4 << 20;

/// Refuses a name in the query of a view that is that view's, or of one whose query is being planned for it.
///
/// # Errors
/// INVALID_STATEMENT.
pub(crate) fn check_cycle(name: &TableName, within: &[TableName]) -> Result<()> {
    if !within.contains(name) {
        return Ok(());
    }
    let way: Vec<String> = within.iter().map(|name| format!("{name} →")).collect();
    let message = format!("view {name} reads itself: {} {name}", way.join(" "));
    Err(Error::new(ErrorCode::InvalidStatement, message))
}

/// The plan of a view's query; `within` are the views whose queries are being planned, outermost first.
///
/// # Errors
/// INVALID_STATEMENT for a view that is read through too many others; whatever planning says, under the view's name.
pub(crate) fn plan(planner: &Planner, view: &StoredView, within: &[TableName]) -> Result<LogicalPlan> {
    let name = &view.name;
    if within.len() >= MOST_NESTED {
        let message = format!("view {name} is read through more than {MOST_NESTED} views");
        return Err(Error::new(ErrorCode::InvalidStatement, message));
    }
    // A place in the view's text is none in the statement's.
    let of_view = |error: Error| Error {
        message: format!("view {name}: {}", error.message),
        position: None,
        ..error
    };
    let Statement::Query(query) = statement::parse(&view.definition.query).map_err(of_view)? else {
        let error = Error::new(ErrorCode::DataCorrupted, "what is kept is not a query");
        return Err(of_view(error));
    };
    let mut within = within.to_vec();
    within.push(name.clone());
    let names = PlanNames::of_view(planner, &view.definition.namespace, within);
    let planned =
        maybe_grow(STACK_FOR_A_VIEW, GROWN_STACK, || planner.plan_with(*query, &[], &names)).map_err(of_view)?;
    if planner.reach() == Reach::Everyone
        && execute_as::mixes_users(&planned.plan).map_err(diagnostics::from_datafusion)?
    {
        // What it says of one user's rows it would say of pairs of users, and its text cannot name the owner.
        let message = "it brings two tables of users' own rows together and not by their owner, so it makes sense for one user \
                       only; write its query, with a join by _user, in the place of the view";
        return Err(of_view(Error::new(ErrorCode::InvalidStatement, message)));
    }
    with_columns(planner, view, planned).map_err(of_view)
}

/// The columns that the view had when it was made, whatever its tables have by now. In a query of all users there is one more, as
/// in its tables: whose each row is, where its query's rows are those of one table.
fn with_columns(planner: &Planner, view: &StoredView, planned: Planned) -> Result<LogicalPlan> {
    let schema = Arc::clone(planned.plan.schema());
    let outputs = &view.definition.outputs;
    let columns = &view.schema.columns;
    let names = schema.fields().iter().map(|field| field.name()).enumerate();
    let (owners, now): (Vec<_>, Vec<_>) = names.partition(|(_, name)| {
        let owner = name.as_str() == OWNER && planner.reach() == Reach::Everyone;
        owner && !outputs.contains(name)
    });
    let is_as_then = now.iter().map(|(_, name)| *name).eq(outputs);
    let places: Vec<usize> = if is_as_then {
        now.iter().map(|(place, _)| *place).collect()
    } else {
        let place = |output: &String| {
            let mut found = now.iter().filter(|(_, name)| *name == output);
            match (found.next(), found.next()) {
                (Some((place, _)), None) => Ok(*place),
                _ => Err(changed(ErrorCode::ColumnNotFound, &format!("has no column '{output}'"))),
            }
        };
        outputs.iter().map(place).collect::<Result<_>>()?
    };
    let differs = |data_type: &DataType, index: usize| plain_type(data_type) != columns[index].data_type;
    if places
        .iter()
        .enumerate()
        .any(|(index, place)| differs(schema.field(*place).data_type(), index))
    {
        // Types are those of the analyzed plan.
        let analyzed = planner.result_schema(&planned)?;
        for (index, place) in places.iter().enumerate() {
            let data_type = analyzed.field(*place).data_type();
            if differs(data_type, index) {
                let message = format!(
                    "has column '{}' as {data_type}, no longer as {}",
                    outputs[index], columns[index].data_type
                );
                return Err(changed(ErrorCode::TypeMismatch, &message));
            }
        }
    }
    // As they are: DataFusion's rules may take a field of `s` in a projection `s AS s` for another `s`.
    if is_as_then && owners.is_empty() && outputs.iter().eq(columns.iter().map(|column| &column.name)) {
        return Ok(planned.plan);
    }
    let output = |place: usize| Expr::Column(Column::from(schema.qualified_field(place)));
    let named = places.into_iter().zip(columns);
    let named = named.map(|(place, column)| output(place).alias(&column.name));
    let mut named: Vec<Expr> = named.collect();
    if let [(place, _)] = owners.as_slice()
        && columns.iter().all(|column| column.name != OWNER)
    {
        named.push(output(*place).alias(OWNER));
    }
    LogicalPlanBuilder::from(planned.plan)
        .project(named)
        .and_then(LogicalPlanBuilder::build)
        .map_err(diagnostics::from_datafusion)
}

fn changed(code: ErrorCode, what: &str) -> Error {
    Error::new(
        code,
        format!("its query now {what}; make it anew with CREATE OR REPLACE VIEW"),
    )
}

/// Runs CREATE VIEW.
///
/// # Errors
/// Whatever planning the query says, with its place in the text; those of the engine's call.
pub(crate) async fn create(
    database: &Arc<Database>,
    session: &Session,
    create: CreateView,
    running: &RunningQuery,
) -> Result<String> {
    let CreateView {
        name: written,
        mode,
        columns: given,
        query,
        text,
    } = create;
    let name = full_name(session, &written);
    let (principal, new) = {
        let planner = Planner::new(database, session, running.interruption())?;
        let principal = planner.principal().clone();
        principal.require(Task::CreateView)?;
        let namespace = planner.namespace().to_owned();
        let names = PlanNames::of_view(&planner, &namespace, vec![name.clone()]);
        let planned = planner.plan_with(ast::Statement::Query(query), &[], &names)?;
        let reads = names.into_read();
        let schema = planner.result_schema(&planned)?;
        // By which they are found again, whatever the result calls them.
        let outputs: Vec<String> = planned
            .plan
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let mut fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        if given.len() > fields.len() {
            let message = format!(
                "view {name} names {} columns, its query gives {}",
                given.len(),
                fields.len()
            );
            return Err(placed(
                Error::new(ErrorCode::InvalidStatement, message),
                written.position,
            ));
        }
        for (field, given) in fields.iter_mut().zip(given) {
            field.set_name(given);
        }
        let new = NewView {
            name: name.clone(),
            definition: ViewDefinition {
                query: text,
                namespace,
                outputs,
                reads,
            },
            columns: query_columns(&Arc::new(arrow::datatypes::Schema::new(fields)), &[])?,
        };
        (principal, new)
    };
    running.committing()?;
    let created = database.engine().create_view(&principal, new, mode).await;
    let created = created.map_err(|error| match error.code {
        ErrorCode::NamespaceNotFound => {
            let missing = missing::namespace(&database.engine().view(), &principal, &name.namespace);
            placed(missing, written.position)
        }
        ErrorCode::AlreadyExists => placed(error, written.position),
        _ => error,
    })?;
    Ok(match (created, mode) {
        (false, _) => format!("view {name} exists already"),
        (true, kalamdb_core::CreateMode::OrReplace) => format!("view {name} created or replaced"),
        (true, _) => format!("view {name} created"),
    })
}

/// Runs DROP VIEW: that all views are there is checked before the first goes.
///
/// # Errors
/// TABLE_NOT_FOUND, INVALID_STATEMENT for a table, PERMISSION_DENIED.
pub(crate) async fn drop_all(
    database: &Arc<Database>,
    session: &Session,
    names: &[ObjectName],
    if_exists: bool,
) -> Result<String> {
    let engine = database.engine();
    let principal = {
        let view = engine.view();
        let principal = database.principal(&view, session)?;
        principal.require(Task::DropView)?;
        let catalog = view.catalog();
        for written in names {
            let name = full_name(session, written);
            if catalog.table(&name).is_some_and(|table| principal.sees(table)) {
                let error = Error::new(
                    ErrorCode::InvalidStatement,
                    format!("{name} is a table; use DROP TABLE"),
                );
                return Err(placed(error, written.position));
            }
            if catalog.view(&name).is_none() && !if_exists {
                let neighbours = catalog.views_in(&name.namespace).map(|view| view.name.table.as_str());
                let hint = suggestion(&name.table, neighbours);
                let error = Error::new(ErrorCode::TableNotFound, format!("view {name} does not exist{hint}"));
                return Err(placed(error, written.position));
            }
        }
        principal
    };
    let mut dropped = Vec::new();
    for written in names {
        let name = full_name(session, written);
        let done = engine.drop_view(&principal, &name, if_exists).await;
        if done.map_err(|error| placed(error, written.position))? {
            dropped.push(name.to_string());
        }
    }
    Ok(match dropped.as_slice() {
        [] => "there is no such view".to_string(),
        [one] => format!("view {one} dropped"),
        several => format!("views {} dropped", several.join(", ")),
    })
}

/// The view of that name, if the principal may know of one.
pub(crate) fn visible<'a>(view: &'a View, principal: &Principal, name: &TableName) -> Option<&'a Arc<StoredView>> {
    let catalog = view.catalog();
    catalog.view(name).filter(|view| principal.sees_view(view, catalog))
}

/// The error for a view where a table is needed.
pub(crate) fn is_no_table(name: &TableName) -> Error {
    Error::new(
        ErrorCode::InvalidStatement,
        format!("{name} is a view, and the statement takes a table"),
    )
}
