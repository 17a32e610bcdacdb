//! UPDATE and DELETE: plans the affected rows as a SELECT and hands them to the write handler.
//!
//! The SELECT reads the row's key and location beside the new values, so that every predicate a SELECT can have is answered
//! by the same planner. (DataFusion's own hooks for both drop join and constant predicates on their way to the table.) A row
//! that FROM or USING match several times is changed once, by the match that comes first; which one that is, is not said.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::filter;
use arrow::datatypes::{FieldRef, Fields};
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{self, Spanned, Visitor};
use futures::StreamExt;
use kalamdb_core::{Action, Error, ErrorCode, Mutator, Position, Result, Table};

use crate::assignment::{Target, assign};
use crate::database::Database;
use crate::diagnostics;
use crate::execution::Completion;
use crate::insert::{batch, column_index, counted, visible, writable};
use crate::names::{folded, name_position, placed, position, position_of, table_reference};
use crate::parameters::{self, Parameters};
use crate::planned::{Planned, plain_type};
use crate::planning::Planner;
use crate::provider::{ROW_KEY, ROW_LOCATION, ROW_VALUES, SEQ};
use crate::qualifiers;
use crate::queries::RunningQuery;
use crate::returning::{Names, Readable, Returning};
use crate::run::Ended;
use crate::session::Session;
use crate::statement::Named;
use crate::system_columns;
use crate::tree::walk;
use crate::values::{self, Defaults};
use crate::write_memory::WriteMemory;

/// How often a statement runs again when other commits changed its rows in between. Ten losses in a row mean that many write
/// the same rows all the time; then the caller decides.
const CONFLICT_ATTEMPTS: usize = 10;

/// What the write handler needs to find a row: the SELECT's first columns.
const FOUND: [&str; 3] = [ROW_KEY, ROW_LOCATION, SEQ];

/// An UPDATE or DELETE.
#[derive(Clone, Copy)]
pub(crate) enum Change<'a> {
    Update(&'a Named<ast::Update>),
    Delete(&'a Named<ast::Delete>),
}

impl Change<'_> {
    /// What stands before it.
    fn with(&self) -> Option<&ast::With> {
        match self {
            Change::Update(update) => update.with.as_ref(),
            Change::Delete(delete) => delete.with.as_ref(),
        }
    }

    /// The table that is changed, as FROM would have it.
    fn target(&self) -> Option<&ast::TableFactor> {
        match self {
            Change::Update(update) => Some(&update.write.table.relation),
            Change::Delete(delete) => {
                let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.write.from;
                from.first().map(|table| &table.relation)
            }
        }
    }
}

/// A change with its names resolved.
pub(crate) struct ChangePlan {
    table: Arc<Table>,
    query: Box<ast::Query>,
    planned: Planned,
    /// For each visible column where its new value comes from; `None` for DELETE.
    new_values: Option<Vec<NewValue>>,
    /// Whether other tables stand beside its own, so that a row may be found more than once.
    is_joined: bool,
    returning: Option<ChangeReturning>,
}

/// RETURNING of a change.
struct ChangeReturning {
    clause: Returning,
    /// Where the SELECT has the columns of FROM or USING that the clause reads: from there to its end.
    joined_at: usize,
}

/// Where the SELECT has [`ROW_VALUES`], if any value stays or is returned as it was.
const ROW_VALUES_AT: usize = FOUND.len();

enum NewValue {
    /// As it is: the column at this place of the SELECT's [`ROW_VALUES`].
    Kept(usize),
    /// The SELECT's column at this position, which is this expression.
    Selected(usize, Box<ast::Expr>),
    /// A literal, a parameter or DEFAULT: evaluated here, so that it reaches the column exactly.
    Given(usize, Box<ast::Expr>),
}

/// Resolves a change; reads and changes nothing.
///
/// # Errors
/// TABLE_NOT_FOUND, COLUMN_NOT_FOUND, PERMISSION_DENIED, INVALID_STATEMENT, UNSUPPORTED.
pub(crate) fn plan(planner: &Planner, change: Change<'_>) -> Result<ChangePlan> {
    refuse_named_query(change)?;
    match change {
        Change::Update(update) => {
            let settled = qualifiers::of_update(update, planner.namespace())?;
            plan_settled(planner, Change::Update(&settled))
        }
        Change::Delete(delete) => {
            let settled = qualifiers::of_delete(delete, planner.namespace())?;
            plan_settled(planner, Change::Delete(&settled))
        }
    }
}

/// A query that WITH names has no rows of its own to change.
fn refuse_named_query(change: Change<'_>) -> Result<()> {
    let Some(ast::TableFactor::Table { name, .. }) = change.target() else {
        return Ok(());
    };
    let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
        return Ok(());
    };
    let mut named = change.with().into_iter().flat_map(|with| &with.cte_tables);
    if !named.any(|cte| folded(&cte.alias.name) == folded(name)) {
        return Ok(());
    }
    let message = format!("{name} is a query of WITH here, which cannot be changed; name the table with its namespace");
    Err(placed(Error::new(ErrorCode::InvalidStatement, message), position(name)))
}

fn plan_settled(planner: &Planner, change: Change<'_>) -> Result<ChangePlan> {
    let (action, target, others, selection) = match change {
        Change::Update(Named { write: update, .. }) => {
            if !update.table.joins.is_empty() || !update.order_by.is_empty() || update.limit.is_some() {
                return Err(unsupported("UPDATE with joins, ORDER BY or LIMIT"));
            }
            let others = match &update.from {
                None => Vec::new(),
                Some(ast::UpdateTableFromKind::AfterSet(tables)) => tables.clone(),
                Some(ast::UpdateTableFromKind::BeforeSet(_)) => return Err(unsupported("FROM before SET")),
            };
            (Action::Update, &update.table.relation, others, &update.selection)
        }
        Change::Delete(Named { write: delete, .. }) => {
            let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
            let [ast::TableWithJoins { relation, joins }] = from.as_slice() else {
                return Err(unsupported("DELETE from several tables"));
            };
            if !joins.is_empty() || !delete.order_by.is_empty() || delete.limit.is_some() {
                return Err(unsupported("DELETE with joins, ORDER BY or LIMIT"));
            }
            (
                Action::Delete,
                relation,
                delete.using.clone().unwrap_or_default(),
                &delete.selection,
            )
        }
    };
    let ast::TableFactor::Table {
        name,
        alias,
        args: None,
        ..
    } = target
    else {
        return Err(Error::new(
            ErrorCode::InvalidStatement,
            "UPDATE and DELETE take the name of a table",
        ));
    };
    let table = writable(planner, name, action)?;
    // Columns of the target are read under its own name, whatever else FROM brings in.
    let qualifier: Vec<ast::Ident> = match alias {
        Some(alias) => vec![alias.name.clone()],
        None => name
            .0
            .iter()
            .filter_map(ast::ObjectNamePart::as_ident)
            .cloned()
            .collect(),
    };
    let of_target = |column: &str| {
        let mut parts = qualifier.clone();
        parts.push(ast::Ident::with_quote('"', column));
        ast::Expr::CompoundIdentifier(parts)
    };
    let mut projection: Vec<ast::Expr> = FOUND.iter().map(|column| of_target(column)).collect();
    let mut known: Vec<Option<FieldRef>> = Vec::new();
    let new_values = match change {
        Change::Delete(Named { write: delete, .. }) => {
            if delete.returning.is_some() {
                projection.push(of_target(ROW_VALUES));
            }
            None
        }
        Change::Update(Named { write: update, .. }) => {
            let assigned = assignments(&table, update)?;
            let columns = visible(&table);
            if columns.iter().any(|index| assigned[*index].is_none()) {
                projection.push(of_target(ROW_VALUES));
            }
            let mut new_values = Vec::with_capacity(columns.len());
            for (place, index) in columns.into_iter().enumerate() {
                let Some(expr) = assigned[index] else {
                    new_values.push(NewValue::Kept(place));
                    continue;
                };
                if let Some(number) = parameters::placeholder(expr)? {
                    values::know(&mut known, number, &table.schema.columns[index]);
                }
                new_values.push(if is_given(expr)? {
                    NewValue::Given(index, Box::new(expr.clone()))
                } else {
                    projection.push(expr.clone());
                    NewValue::Selected(projection.len() - 1, Box::new(expr.clone()))
                });
            }
            Some(new_values)
        }
    };
    let mut target = target.clone();
    system_columns::mark_for_mutation(&mut target);
    let mut from = vec![ast::TableWithJoins {
        relation: target,
        joins: Vec::new(),
    }];
    let is_joined = !others.is_empty();
    from.extend(others);
    let returned = match change {
        Change::Update(update) => update.write.returning.as_deref(),
        Change::Delete(delete) => delete.write.returning.as_deref(),
    };
    let mut readable = Vec::new();
    let joined_at = projection.len();
    if let Some(items) = returned {
        // What is given back is read.
        planner.table(name, Action::Select)?;
        let qualifier = table_reference(&qualifier);
        if from.len() > 1 {
            readable = joined_columns(planner, change.with(), &from, &qualifier, &Names::of(items))?;
            projection.extend(readable.iter().map(column_expr));
        }
        let own = table.schema.arrow.fields().iter().map(|field| Readable {
            qualifier: Some(qualifier.clone()),
            field: Arc::clone(field),
        });
        readable.splice(0..0, own);
    }
    let mut query = select(projection, from, selection.clone());
    query.with = change.with().cloned();
    let planned = planner
        .plan(ast::Statement::Query(query.clone()), &known)
        .map_err(|error| match aggregate(planner, new_values.iter().flatten()) {
            Some(place) if error.code == ErrorCode::InvalidStatement => {
                let message = "SET takes no aggregate functions: it is of one row; write a subquery around them";
                placed(Error::new(ErrorCode::InvalidStatement, message), Some(place))
            }
            _ => error,
        })?;
    let returning = match returned {
        None => None,
        Some(items) => {
            // Planned once more for queries in the clause alone: a parameter behind WITH would be one of the clause's.
            let with = change.with().filter(|_| items.iter().any(values::has_subquery));
            Some(ChangeReturning {
                clause: Returning::plan(planner, items, &readable, &planned.parameters, with)?,
                joined_at,
            })
        }
    };
    Ok(ChangePlan {
        table,
        query,
        planned,
        new_values,
        is_joined,
        returning,
    })
}

/// Where values that are assigned call an aggregate function first, outside of subqueries.
fn aggregate<'a>(planner: &Planner, mut values: impl Iterator<Item = &'a NewValue>) -> Option<Position> {
    struct Aggregates<'a> {
        planner: &'a Planner,
        queries: usize,
        found: Option<Position>,
    }
    impl Visitor for Aggregates<'_> {
        type Break = Error;

        fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Error> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Error> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::Function(call) = expr
                && call.over.is_none()
                && self.queries == 0
                && self.found.is_none()
                && let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_slice()
                && self.planner.state().aggregate_functions().contains_key(&folded(name))
            {
                self.found = position(name);
            }
            ControlFlow::Continue(())
        }
    }
    values.find_map(|value| {
        let NewValue::Selected(_, expr) = value else {
            return None;
        };
        let mut aggregates = Aggregates {
            planner,
            queries: 0,
            found: None,
        };
        walk(expr.as_ref(), &mut aggregates).expect("this visitor does not break");
        aggregates.found
    })
}

/// The columns of the tables beside the one that is changed, as far as RETURNING may name them.
fn joined_columns(
    planner: &Planner,
    with: Option<&ast::With>,
    from: &[ast::TableWithJoins],
    target: &TableReference,
    names: &Names,
) -> Result<Vec<Readable>> {
    let everything = ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default());
    let mut query = values::query(ast::SetExpr::Select(Box::new(values::select(
        vec![everything],
        from.to_vec(),
        None,
    ))));
    query.with = with.cloned();
    let planned = planner.plan(ast::Statement::Query(query), &[])?;
    let joined = planned
        .plan
        .schema()
        .iter()
        .filter(|(qualifier, field)| *qualifier != Some(target) && names.hold(field.name()));
    let readable = joined.map(|(qualifier, field)| {
        let plain = field.as_ref().clone().with_data_type(plain_type(field.data_type()));
        Readable {
            qualifier: qualifier.cloned(),
            field: Arc::new(plain.with_nullable(true)),
        }
    });
    Ok(readable.collect())
}

/// As the SELECT that finds the rows names it.
fn column_expr(column: &Readable) -> ast::Expr {
    let quoted = |part: &str| ast::Ident::with_quote('"', part);
    let name = quoted(column.field.name());
    let Some(qualifier) = &column.qualifier else {
        return ast::Expr::Identifier(name);
    };
    let qualifier = [qualifier.catalog(), qualifier.schema(), Some(qualifier.table())];
    ast::Expr::CompoundIdentifier(qualifier.into_iter().flatten().map(quoted).chain([name]).collect())
}

impl ChangePlan {
    /// `$1` first.
    pub(crate) fn parameters(&self) -> &Fields {
        match &self.returning {
            Some(returning) => returning.clause.parameters(),
            None => &self.planned.parameters,
        }
    }

    /// Its RETURNING, if it has one.
    pub(crate) fn returning(&self) -> Option<&Returning> {
        self.returning.as_ref().map(|returning| &returning.clause)
    }

    /// The query that finds the rows, for EXPLAIN.
    pub(crate) fn query(&self) -> Box<ast::Query> {
        self.query.clone()
    }
}

/// Runs a change. With several rows of parameters it runs once for each against the same view, atomically as one.
///
/// # Errors
/// As [`plan`], and TYPE_MISMATCH, NOT_NULL_VIOLATION, DUPLICATE_KEY; INVALID_STATEMENT for a row that several rows of parameters
/// update; CONFLICT when others keep changing the same rows.
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    change: Change<'_>,
    given: &Parameters,
    query: &RunningQuery,
) -> Result<Ended> {
    let what = match change {
        Change::Update(_) => "updated",
        Change::Delete(_) => "deleted",
    };
    for attempt in 1.. {
        let planner = Planner::new(database, session, query.interruption())?.with_bound(given.types());
        // Held until the outcome is known, as the rows are.
        let mut memory = WriteMemory::of_changes(database.environment(), query.interruption());
        let (mutator, returned) = collect(&planner, change, given, query, &mut memory).await?;
        // The view's snapshot is not held while waiting for the disk.
        drop(planner);
        let outcome = match mutator.prepare(&|| query.is_to_stop()).await {
            Ok(prepared) => {
                query.committing()?;
                prepared.commit().await
            }
            Err(error) => Err(query.interruption().reason(error)),
        };
        match outcome {
            Ok(rows) => {
                let completion = Completion {
                    rows: Some(rows),
                    message: counted(rows, what),
                };
                return Ok(Ended::of_write(completion, returned));
            }
            Err(error) if error.code == ErrorCode::Conflict && attempt < CONFLICT_ATTEMPTS => query.not_committing(),
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorCode::Internal, "a statement ended without an outcome"))
}

async fn collect(
    planner: &Planner,
    change: Change<'_>,
    given: &Parameters,
    query: &RunningQuery,
    memory: &mut WriteMemory,
) -> Result<(Mutator, Option<RecordBatch>)> {
    let plan = plan(planner, change)?;
    let given = given.columns(plan.parameters(), planner.time_zone())?;
    let ChangePlan {
        table,
        planned,
        new_values,
        is_joined,
        query: _,
        returning,
    } = plan;
    let mut returned = match &returning {
        Some(returning) => Some((returning.clause.begin(planner, &given)?, returning.joined_at)),
        None => None,
    };
    let mut mutator = planner
        .database()
        .engine()
        .mutate(planner.view(), planner.principal(), &table)?;
    let mut defaults = Defaults::new(planner, &table);
    query.planned();
    let mut updated_once = (given.num_rows() > 1).then(|| UpdatedOnce {
        is_joined,
        keys: HashSet::new(),
        bytes: 0,
    });
    for row in 0..given.num_rows() {
        let bound = planner.bind(planned.clone(), parameters::row(&given, row)?)?;
        let in_text = |error| constant_at_fault(planner, &new_values, error);
        let mut running = planner.run(bound).await.map_err(in_text)?;
        let of_row = given.slice(row, 1);
        while let Some(selected) = running.stream.next().await {
            let selected = selected.map_err(diagnostics::from_datafusion).map_err(in_text)?;
            let found = found(&selected)?;
            let (changed, new_rows) = match &new_values {
                None => (mutator.delete(&found)?, None),
                Some(new_values) => {
                    let zone = planner.time_zone();
                    let rows = rows(&mut defaults, &table, new_values, &selected, &of_row, zone)?;
                    let changed = mutator.update(&found, &rows)?;
                    if let Some(updated_once) = &mut updated_once {
                        updated_once.check(&table, &found, &changed, row)?;
                    }
                    (changed, Some(rows))
                }
            };
            let mut bytes = mutator.buffered_bytes() + updated_once.as_ref().map_or(0, |once| once.bytes);
            if let Some((returned, joined_at)) = &mut returned {
                let mut columns = match new_rows {
                    Some(rows) => rows.columns().to_vec(),
                    None => row_values(&selected)?.columns().to_vec(),
                };
                columns.extend_from_slice(&selected.columns()[*joined_at..]);
                let columns = columns.iter().map(|column| filter(column, &changed));
                let columns = columns.collect::<std::result::Result<Vec<ArrayRef>, _>>();
                let columns = columns.map_err(|error| diagnostics::from_arrow(&error))?;
                returned.take(columns, changed.true_count()).await?;
                bytes += returned.bytes();
            }
            memory.hold(bytes)?;
        }
        query.memory_peak(running.memory.peak_bytes() + memory.bytes());
        if let Some(updated_once) = &mut updated_once {
            updated_once.next_row();
        }
    }
    let returned = match returned {
        Some((returned, _)) => Some(returned.finish().await?),
        None => None,
    };
    if let Some(rows) = &returned {
        query.check_returning(rows)?;
    }
    Ok((mutator, returned))
}

/// What keeps two rows of parameters from updating one row of the table: each reads the rows as they were before the statement, so
/// one of the changes would be lost.
struct UpdatedOnce {
    /// Whether one row of parameters may find a row more than once.
    is_joined: bool,
    /// The keys that the present row of parameters updates, if it may find them again.
    keys: HashSet<Vec<u8>>,
    bytes: usize,
}

impl UpdatedOnce {
    /// For the rows found for the row of parameters at `row`, of which those not `changed` were updated before.
    fn check(&mut self, table: &Table, found: &RecordBatch, changed: &BooleanArray, row: usize) -> Result<()> {
        if !self.is_joined && changed.false_count() == 0 {
            return Ok(());
        }
        for (key, changed) in found.column(0).as_binary::<i32>().iter().zip(changed) {
            let key = key.unwrap_or_default();
            if changed == Some(true) {
                if self.is_joined && self.keys.insert(key.to_vec()) {
                    self.bytes += key.len() + size_of::<Vec<u8>>();
                }
            } else if !self.keys.contains(key) {
                let message = format!(
                    "row {} of the parameters updates a row of table {} that a row of parameters before it updates: rows of \
                     parameters are one statement, which updates a row once; run the UPDATE for each of them by itself",
                    row + 1,
                    table.name
                );
                return Err(Error::new(ErrorCode::InvalidStatement, message));
            }
        }
        Ok(())
    }

    fn next_row(&mut self) {
        self.keys.clear();
        self.bytes = 0;
    }
}

/// An error of the SELECT with the place of the constant that is assigned and makes it, if one does.
fn constant_at_fault(planner: &Planner, new_values: &Option<Vec<NewValue>>, error: Error) -> Error {
    let selected = new_values.iter().flatten().filter_map(|value| match value {
        NewValue::Selected(_, expr) => Some(expr),
        NewValue::Kept(_) | NewValue::Given(..) => None,
    });
    for expr in selected {
        let is_same = |other: Error| other.code == error.code && other.message == error.message;
        // What reads columns is refused for them here, in other words.
        if values::constant(planner, expr).err().is_some_and(is_same) {
            return placed(error, position_of(expr.span()));
        }
    }
    error
}

/// The rows as they are.
fn row_values(selected: &RecordBatch) -> Result<&StructArray> {
    let values = selected.columns().get(ROW_VALUES_AT);
    values
        .and_then(|values| values.as_struct_opt())
        .ok_or_else(|| Error::new(ErrorCode::Internal, "the rows to change come without their values"))
}

/// The first columns under their names.
fn found(selected: &RecordBatch) -> Result<RecordBatch> {
    let fields = FOUND
        .iter()
        .zip(selected.schema_ref().fields())
        .map(|(name, field)| field.as_ref().clone().with_name(*name));
    let schema = arrow::datatypes::Schema::new(fields.collect::<Fields>());
    batch(
        Arc::new(schema),
        selected.columns()[..FOUND.len()].to_vec(),
        selected.num_rows(),
    )
}

/// The rows as they become.
fn rows(
    defaults: &mut Defaults<'_>,
    table: &Table,
    new_values: &[NewValue],
    selected: &RecordBatch,
    given: &RecordBatch,
    zone: &Arc<str>,
) -> Result<RecordBatch> {
    let targets = visible(table);
    let columns: Vec<ArrayRef> = new_values
        .iter()
        .zip(&targets)
        .map(|(value, target)| match value {
            NewValue::Kept(place) => row_values(selected).map(|values| Arc::clone(values.column(*place))),
            NewValue::Selected(position, expr) => assign(
                selected.column(*position),
                &Target::column(&table.schema.columns[*target], zone),
            )
            .map_err(|error| placed(error, position_of(expr.span()))),
            // What fits no row need not fit.
            NewValue::Given(..) if selected.num_rows() == 0 => {
                Ok(new_null_array(&table.schema.columns[*target].data_type, 0))
            }
            NewValue::Given(index, expr) if values::default_keyword(expr) => {
                defaults.default(*index, selected.num_rows())
            }
            NewValue::Given(index, expr) => values::repeat(&defaults.value(*index, expr, given)?, selected.num_rows()),
        })
        .collect::<Result<_>>()?;
    defaults.complete(&targets, &columns, selected.num_rows())
}

/// For each column of the table what is assigned to it.
fn assignments<'a>(table: &Table, update: &'a ast::Update) -> Result<Vec<Option<&'a ast::Expr>>> {
    let mut assigned: Vec<Option<&ast::Expr>> = vec![None; table.schema.columns.len()];
    for assignment in &update.assignments {
        let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(unsupported("SET (a, b) = …; write SET a = …, b = …"));
        };
        let identifier = target(table, &update.table.relation, name)?;
        let index = column_index(table, identifier)?;
        if assigned[index].replace(&assignment.value).is_some() {
            let error = Error::new(ErrorCode::InvalidStatement, format!("column {identifier} is set twice"));
            return Err(placed(error, position(identifier)));
        }
    }
    Ok(assigned)
}

/// The column that an assignment names, alone or behind the name that its table has in the statement.
fn target<'a>(table: &Table, relation: &ast::TableFactor, name: &'a ast::ObjectName) -> Result<&'a ast::Ident> {
    let own = match relation {
        ast::TableFactor::Table { alias: Some(alias), .. } => Some(&alias.name),
        ast::TableFactor::Table { name, .. } => name.0.last().and_then(ast::ObjectNamePart::as_ident),
        _ => None,
    };
    let parts: Vec<&ast::Ident> = name.0.iter().filter_map(ast::ObjectNamePart::as_ident).collect();
    let error = match parts.as_slice() {
        [column] => return Ok(column),
        [column, ..] if table.schema.index_of(&folded(column)).is_some() => Error::new(
            ErrorCode::Unsupported,
            format!("not supported: SET of a part of a value, {name}; set all of column {column}"),
        ),
        [before, column] if own.is_some_and(|own| folded(own) == folded(before)) => return Ok(column),
        _ => {
            let message = format!("{name} is no column of table {}, which is updated", table.name);
            Error::new(ErrorCode::ColumnNotFound, message)
        }
    };
    Err(placed(error, name_position(name)))
}

/// Whether a value needs nothing of the row.
fn is_given(expr: &ast::Expr) -> Result<bool> {
    Ok(values::default_keyword(expr) || values::literal(expr).is_some() || parameters::placeholder(expr)?.is_some())
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorCode::Unsupported, format!("not supported: {what}"))
}

fn select(projection: Vec<ast::Expr>, from: Vec<ast::TableWithJoins>, selection: Option<ast::Expr>) -> Box<ast::Query> {
    // Aliases keep apart what two expressions may have the same name for.
    let projection = projection
        .into_iter()
        .enumerate()
        .map(|(position, expr)| ast::SelectItem::ExprWithAlias {
            expr,
            alias: ast::Ident::with_quote('"', format!("{position}")),
        });
    values::query(ast::SetExpr::Select(Box::new(values::select(
        projection.collect(),
        from,
        selection,
    ))))
}
