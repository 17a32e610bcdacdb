//! INSERT: which columns get which values, from VALUES, a query or defaults, and their way to the write handler.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Fields};
use datafusion::sql::sqlparser::ast::{self, Spanned};
use futures::StreamExt;
use kalamdb_core::{Action, Appender, Error, ErrorCode, OnConflict, Position, Result, Table, TableKind};

use crate::assignment::{Target, assign};
use crate::database::Database;
use crate::diagnostics;
use crate::execution::Completion;
use crate::literal_columns;
use crate::names::{folded, name_position, placed, position_of, suggestion, table_reference};
use crate::parameters::{self, Parameters};
use crate::planned::Planned;
use crate::planning::Planner;
use crate::provider::{SEQ, UPDATED};
use crate::qualifiers;
use crate::queries::RunningQuery;
use crate::returning::{Readable, Returned, Returning};
use crate::run::Ended;
use crate::session::Session;
use crate::values::{self, Defaults};
use crate::write_memory::WriteMemory;

/// An INSERT with its names resolved.
pub(crate) struct InsertPlan {
    table: Arc<Table>,
    /// For each value of a row the index of its column in the table's schema.
    targets: Vec<usize>,
    source: Source,
    /// `$1` first.
    parameters: Fields,
    returning: Option<Returning>,
}

enum Source {
    /// Evaluated here.
    Values(Vec<Vec<ast::Expr>>),
    /// Planned and run by DataFusion.
    /// With where the values of each target stand, as far as one SELECT lists them.
    Query(Box<ast::Query>, Box<Planned>, Vec<Option<Position>>),
    /// One row of defaults.
    Defaults,
}

/// Resolves an INSERT; reads and changes nothing.
///
/// # Errors
/// TABLE_NOT_FOUND, COLUMN_NOT_FOUND, PERMISSION_DENIED, INVALID_STATEMENT, UNSUPPORTED.
pub(crate) fn plan(planner: &Planner, insert: &ast::Insert) -> Result<InsertPlan> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::new(ErrorCode::Unsupported, "INSERT takes the name of a table"));
    };
    if insert.on.is_some() {
        return Err(Error::new(ErrorCode::Unsupported, "ON CONFLICT is not supported yet"));
    }
    let table = writable(planner, name, Action::Insert)?;
    let targets = targets(&table, &insert.columns)?;
    let source = match &insert.source {
        None if insert.columns.is_empty() => Source::Defaults,
        None => {
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                "DEFAULT VALUES takes no list of columns",
            ));
        }
        Some(query) => source_of(planner, &table, &targets, query)?,
    };
    let parameters = match &source {
        Source::Values(rows) => values::parameters(planner, &table, &targets, rows)?,
        Source::Query(_, planned, _) => planned.parameters.clone(),
        Source::Defaults => Fields::empty(),
    };
    let returning = match &insert.returning {
        None => None,
        Some(items) => {
            // What is given back is read.
            planner.table(name, Action::Select)?;
            let (items, qualifier) = qualifiers::of_returning(items, name, planner.namespace())?;
            let qualifier = table_reference(&qualifier);
            let columns = table.schema.arrow.fields().iter().map(|field| Readable {
                qualifier: Some(qualifier.clone()),
                field: Arc::clone(field),
            });
            let columns: Vec<Readable> = columns.collect();
            Some(Returning::plan(planner, &items, &columns, &parameters, None)?)
        }
    };
    Ok(InsertPlan {
        table,
        targets,
        source,
        parameters: match &returning {
            Some(returning) => returning.parameters().clone(),
            None => parameters,
        },
        returning,
    })
}

impl InsertPlan {
    /// `$1` first.
    pub(crate) fn parameters(&self) -> &Fields {
        &self.parameters
    }

    /// Its RETURNING, if it has one.
    pub(crate) fn returning(&self) -> Option<&Returning> {
        self.returning.as_ref()
    }

    /// The query whose rows it inserts, for EXPLAIN.
    pub(crate) fn query(&self) -> Result<Box<ast::Query>> {
        match &self.source {
            Source::Query(query, ..) => Ok(query.clone()),
            Source::Values(rows) => values::as_query(&self.table, &self.targets, rows),
            Source::Defaults => Err(Error::new(
                ErrorCode::Unsupported,
                "INSERT … DEFAULT VALUES has no plan to explain",
            )),
        }
    }
}

/// Runs an INSERT: with several rows of parameters once for each, all of it or nothing.
///
/// # Errors
/// As [`plan`], and TYPE_MISMATCH, NOT_NULL_VIOLATION, DUPLICATE_KEY, CONFLICT, ...
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    insert: &ast::Insert,
    given: &Parameters,
    query: &RunningQuery,
) -> Result<Ended> {
    let planner = Planner::new(database, session, query.interruption())?.with_bound(given.types());
    let InsertPlan {
        table,
        targets,
        source,
        parameters,
        returning,
    } = plan(&planner, insert)?;
    let given = given.columns(&parameters, planner.time_zone())?;
    let mut defaults = Defaults::new(&planner, &table);
    let mut into = Destination {
        load: database
            .engine()
            .append(planner.principal(), &table, OnConflict::Error)?,
        returned: match &returning {
            Some(returning) => Some(returning.begin(&planner, &given)?),
            None => None,
        },
        memory: WriteMemory::of_load(database.environment(), query.interruption(), table.kind),
    };
    query.planned();
    match source {
        Source::Defaults => {
            let rows = defaults.complete(&[], &[], given.num_rows())?;
            into.push(&rows).await?;
        }
        Source::Values(rows) => {
            for batch in values::evaluate(&mut defaults, &targets, &rows, &given)? {
                into.push(&defaults.complete(&targets, batch.columns(), batch.num_rows())?)
                    .await?;
            }
        }
        Source::Query(_, planned, places) => {
            for row in 0..given.num_rows() {
                let bound = planner.bind((*planned).clone(), parameters::row(&given, row)?)?;
                let mut running = planner.run(bound).await?;
                while let Some(batch) = running.stream.next().await {
                    let batch = batch.map_err(diagnostics::from_datafusion)?;
                    let columns = assigned(&table, &targets, &places, &batch, planner.time_zone())?;
                    into.push(&defaults.complete(&targets, &columns, batch.num_rows())?)
                        .await?;
                }
                query.memory_peak(running.memory.peak_bytes() + into.memory.bytes());
            }
        }
    }
    let Destination { load, returned, memory } = into;
    let returned = match returned {
        Some(returned) => Some(returned.finish().await?),
        None => None,
    };
    if let Some(rows) = &returned {
        query.check_returning(rows)?;
    }
    // The view's snapshot is not held while waiting for the disk.
    drop(defaults);
    drop(planner);
    let prepared = load.prepare(&|| query.is_to_stop()).await;
    let prepared = prepared.map_err(|error| query.interruption().reason(error))?;
    query.committing()?;
    let rows = prepared.commit().await?;
    drop(memory);
    let completion = Completion {
        rows: Some(rows),
        message: counted(rows, "inserted"),
    };
    Ok(Ended::of_write(completion, returned))
}

/// Where the rows of an INSERT go.
struct Destination<'a> {
    load: Appender,
    returned: Option<Returned<'a>>,
    memory: WriteMemory,
}

impl Destination<'_> {
    /// Takes rows with all columns that SQL sees.
    async fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.load.push(rows)?;
        let mut bytes = self.load.buffered_bytes();
        if let Some(returned) = &mut self.returned {
            returned.take(rows.columns().to_vec(), rows.num_rows()).await?;
            bytes += returned.bytes();
        }
        self.memory.hold(bytes)
    }
}

/// A query's columns as those that they are for.
fn assigned(
    table: &Table,
    targets: &[usize],
    places: &[Option<Position>],
    batch: &RecordBatch,
    zone: &Arc<str>,
) -> Result<Vec<ArrayRef>> {
    let columns = targets.iter().zip(batch.columns()).enumerate();
    let columns = columns.map(|(at, (index, values))| {
        let assigned = assign(values, &Target::column(&table.schema.columns[*index], zone));
        assigned.map_err(|error| placed(error, places.get(at).copied().flatten()))
    });
    columns.collect()
}

/// Where a query's SELECT lists what becomes of its columns; nothing for what stands for several.
fn places_of_values(query: &ast::Query) -> Vec<Option<Position>> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Vec::new();
    };
    let items = select.projection.iter().map_while(|item| match item {
        ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
            Some(position_of(expr.span()))
        }
        _ => None,
    });
    items.collect()
}

/// `3 rows inserted`.
pub(crate) fn counted(rows: u64, what: &str) -> String {
    format!("{} {what}", row_count(rows))
}

/// `3 rows`.
pub(crate) fn row_count(rows: u64) -> String {
    match rows {
        1 => "1 row".to_owned(),
        _ => format!("{rows} rows"),
    }
}

/// The table of a written name, if the principal may write to it so.
///
/// # Errors
/// TABLE_NOT_FOUND, PERMISSION_DENIED; INVALID_STATEMENT for SYSTEM tables, naming the statement to use instead.
pub(crate) fn writable(planner: &Planner, name: &ast::ObjectName, action: Action) -> Result<Arc<Table>> {
    let table = match planner.table(name, Action::Select) {
        Ok(table) if table.kind == TableKind::System => table,
        Ok(_) | Err(_) => return planner.table(name, action),
    };
    // The rights refuse with the statement that does it.
    let refusal = planner.principal().check(action, &table).err().unwrap_or_else(|| {
        Error::new(
            ErrorCode::InvalidStatement,
            format!("{} is a system table, which statements of its own change", table.name),
        )
    });
    Err(placed(refusal, name_position(name)))
}

/// The column of a table that SQL may write.
///
/// # Errors
/// COLUMN_NOT_FOUND with place and nearest name; INVALID_STATEMENT for `_seq` and `_updated`.
pub(crate) fn column_index(table: &Table, identifier: &ast::Ident) -> Result<usize> {
    let name = folded(identifier);
    let error = match table.schema.index_of(&name) {
        Some(index) => return Ok(index),
        None if name == SEQ || name == UPDATED => Error::new(
            ErrorCode::InvalidStatement,
            format!("column {name} is set by the database at commit"),
        ),
        None => {
            let fields = table.schema.arrow.fields();
            let hint = suggestion(&name, fields.iter().map(|field| field.name().as_str()));
            Error::new(
                ErrorCode::ColumnNotFound,
                format!("table {} has no column {name}{hint}", table.name),
            )
        }
    };
    Err(placed(error, crate::names::position(identifier)))
}

/// The columns that SQL sees, as indices into the table's schema.
pub(crate) fn visible(table: &Table) -> Vec<usize> {
    let columns = table.schema.columns.iter().enumerate();
    columns
        .filter(|(_, column)| !column.internal)
        .map(|(index, _)| index)
        .collect()
}

fn targets(table: &Table, columns: &[ast::ObjectName]) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok(visible(table));
    }
    let mut targets = Vec::with_capacity(columns.len());
    for name in columns {
        let Some(identifier) = name.0.last().and_then(ast::ObjectNamePart::as_ident) else {
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                format!("{name} is not the name of a column"),
            ));
        };
        let index = column_index(table, identifier)?;
        if targets.contains(&index) {
            let error = Error::new(
                ErrorCode::InvalidStatement,
                format!("column {identifier} is named twice"),
            );
            return Err(placed(error, crate::names::position(identifier)));
        }
        targets.push(index);
    }
    Ok(targets)
}

fn check_count(table: &Table, values: usize, columns: usize) -> Result<()> {
    if values == columns {
        return Ok(());
    }
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    Err(Error::new(
        ErrorCode::InvalidStatement,
        format!(
            "INSERT into {} has {} but {}",
            table.name,
            counted(columns, "column"),
            counted(values, "value")
        ),
    ))
}

fn source_of(planner: &Planner, table: &Arc<Table>, targets: &[usize], query: &ast::Query) -> Result<Source> {
    let alone = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none();
    match query.body.as_ref() {
        ast::SetExpr::Values(values) if alone => {
            let rows: Vec<Vec<ast::Expr>> = values.rows.iter().map(|row| row.content.clone()).collect();
            for (position, row) in rows.iter().enumerate() {
                // The first value too many, or the last one before those that are missing.
                let at = row.get(targets.len()).or(row.last());
                let at = at.and_then(|value| position_of(value.span()));
                check_count(table, row.len(), targets.len()).map_err(|error| match position {
                    0 => placed(error, at),
                    _ => placed(
                        Error::new(error.code, format!("{} in row {}", error.message, position + 1)),
                        at,
                    ),
                })?;
            }
            // Subqueries need a plan of their own.
            if rows.iter().flatten().any(values::has_subquery) {
                return planned_source(planner, table, targets, values::as_query(table, targets, &rows)?);
            }
            Ok(Source::Values(rows))
        }
        _ => {
            let mut query = query.clone();
            let types = targets
                .iter()
                .map(|index| Some(table.schema.columns[*index].data_type.clone()));
            literal_columns::as_text(&mut query, &types.collect::<Vec<_>>());
            planned_source(planner, table, targets, Box::new(query))
        }
    }
}

fn planned_source(planner: &Planner, table: &Table, targets: &[usize], query: Box<ast::Query>) -> Result<Source> {
    let known = known_parameters(table, targets, &query)?;
    let planned = planner.plan(ast::Statement::Query(query.clone()), &known)?;
    check_count(table, planned.plan.schema().fields().len(), targets.len())
        .map_err(|error| placed(error, position_of(query.span())))?;
    let places = places_of_values(&query);
    Ok(Source::Query(query, Box::new(planned), places))
}

/// Parameters that a SELECT hands straight to a column have that column's type.
fn known_parameters(table: &Table, targets: &[usize], query: &ast::Query) -> Result<Vec<Option<FieldRef>>> {
    let mut known: Vec<Option<FieldRef>> = Vec::new();
    if let ast::SetExpr::Select(select) = query.body.as_ref()
        && select.projection.len() == targets.len()
    {
        for (item, target) in select.projection.iter().zip(targets) {
            let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) = item else {
                break;
            };
            if let Some(number) = parameters::placeholder(expr)? {
                values::know(&mut known, number, &table.schema.columns[*target]);
            }
        }
    }
    Ok(known)
}

/// A batch of so many rows.
pub(crate) fn batch(schema: arrow::datatypes::SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| diagnostics::from_arrow(&error))
}
