//! Bulk loads by stream: makes or replaces the table as asked, casts to its columns, and hands rows to the write handler.

mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use futures::stream::BoxStream;
use kalamdb_core::{
    Action, Appender, Column, CreateMode, Error, ErrorCode, INFORMATION_SCHEMA, NewTable, OnConflict, Result, Table,
    TableKind, TableName, TableOptions,
};

use crate::database::Database;
use crate::definition;
use crate::interruption::Interruption;
use crate::missing;
use crate::names::suggestion;
use crate::planning::Planner;
use crate::queries::RunningQuery;
use crate::session::Session;
use crate::types;
use crate::views;
use crate::write_memory::WriteMemory;

use sources::{Source, match_columns};

/// What to do when the table does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfNotExists {
    /// Create it from the stream's schema.
    Create,
    /// TABLE_NOT_FOUND.
    Fail,
}

/// What to do when the table exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// ALREADY_EXISTS.
    Fail,
    /// Add to it; columns are matched by name.
    Append,
    /// Replace it, schema included.
    Replace,
}

/// A load. Where the session has `ingest.*` options, they stand in for what is `None` here.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// `None`: the session's namespace.
    pub namespace: Option<String>,
    /// Exactly this name.
    pub table: String,
    /// See [`IfNotExists`].
    pub if_not_exists: IfNotExists,
    /// See [`IfExists`].
    pub if_exists: IfExists,
    /// For a table to create; SHARED if nothing says otherwise.
    pub table_type: Option<TableKind>,
    /// For a table to create; none if nothing says otherwise.
    pub primary_key: Option<Vec<String>>,
    /// Error if nothing says otherwise.
    pub on_conflict: Option<OnConflict>,
    /// For a table to create: WITH options by name.
    pub table_options: BTreeMap<String, String>,
}

/// Loads a stream into a table; called on the query runtime. Nothing shows before the end, and an error leaves nothing.
///
/// # Errors
/// NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, COLUMN_NOT_FOUND, TYPE_MISMATCH,
/// NOT_NULL_VIOLATION, DUPLICATE_KEY, INVALID_ARGUMENT, and whatever error the stream ends with.
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    request: IngestRequest,
    schema: SchemaRef,
    mut batches: BoxStream<'static, Result<RecordBatch>>,
    query: &RunningQuery,
) -> Result<u64> {
    let zone = session.time_zone();
    let Load {
        mut appender,
        mut memory,
        columns,
    } = begin(database, session, request, &schema, query.interruption())?;
    let target = Arc::new(Schema::new(columns.iter().map(Source::field).collect::<Vec<_>>()));
    let mut loaded = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.schema_ref().fields().len() != schema.fields().len() {
            let message = format!(
                "a batch has {} columns, the stream's schema {}",
                batch.num_columns(),
                schema.fields().len()
            );
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        for (offset, rows) in chunks(&batch) {
            let chunk = batch.slice(offset, rows);
            let values = columns
                .iter()
                .map(|column| column.values(&chunk, loaded, &zone))
                .collect::<Result<Vec<ArrayRef>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let chunk = RecordBatch::try_new_with_options(Arc::clone(&target), values, &options).map_err(|error| {
                Error::new(
                    ErrorCode::Internal,
                    format!("a load's rows do not fit its columns: {error}"),
                )
            })?;
            appender.push(&chunk)?;
            memory.hold(appender.buffered_bytes())?;
            loaded += rows;
            // Encoding holds the thread; between chunks a cancelled load ends, and others get their turn.
            tokio::task::yield_now().await;
        }
    }
    let prepared = appender.prepare(&|| query.is_to_stop()).await;
    let prepared = prepared.map_err(|error| query.interruption().reason(error))?;
    query.committing()?;
    prepared.commit().await
}

/// A load that is ready for its rows.
struct Load {
    appender: Appender,
    memory: WriteMemory,
    /// One for each column of the table, in its order.
    columns: Vec<Source>,
}

fn begin(
    database: &Arc<Database>,
    session: &Arc<Session>,
    request: IngestRequest,
    schema: &SchemaRef,
    interruption: &Interruption,
) -> Result<Load> {
    check_time_zones(schema)?;
    let planner = Planner::new(database, session, interruption)?;
    let namespace = request.namespace.clone().unwrap_or_else(|| session.namespace());
    let name = TableName::new(namespace, &request.table);
    let catalog = planner.view().catalog();
    let on_conflict = request
        .on_conflict
        .or_else(|| session.ingest_on_conflict())
        .unwrap_or(OnConflict::Error);
    let existing = catalog.table(&name).filter(|table| planner.principal().sees(table));
    let mode = match (existing, request.if_not_exists, request.if_exists) {
        (Some(_), _, IfExists::Fail) => {
            let message = format!("table {name} exists already; append to it or replace it");
            return Err(Error::new(ErrorCode::AlreadyExists, message));
        }
        (Some(table), _, IfExists::Append) => {
            // Before its columns are asked for: those of a SYSTEM table are nobody's to fill.
            planner.principal().check(Action::Insert, table)?;
            check_same_table(&request, table)?;
            let columns = match_columns(&planner, table, schema)?;
            let appender = database.engine().append(planner.principal(), table, on_conflict)?;
            let memory = WriteMemory::of_load(database.environment(), interruption, table.kind);
            return Ok(Load {
                appender,
                memory,
                columns,
            });
        }
        (Some(_), _, IfExists::Replace) => CreateMode::OrReplace,
        (None, IfNotExists::Create, _) => CreateMode::New,
        (None, IfNotExists::Fail, _) => return Err(not_there(&planner, &name)),
    };
    let kind = table_kind(&request, session)?;
    let mut options = session.ingest_with();
    options.extend(upper_names(&request.table_options));
    options.remove(TYPE_OPTION);
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| plain_field(field))
        .collect::<Result<_>>()?;
    let primary_key = match request.primary_key.or_else(|| session.ingest_primary_key()) {
        Some(names) => names
            .iter()
            .map(|name| key_column(name, &fields))
            .collect::<Result<Vec<String>>>()?,
        None => Vec::new(),
    };
    let columns: Vec<Column> = fields.iter().map(definition::column_of).collect();
    let new = NewTable {
        name,
        kind,
        columns: columns.clone(),
        primary_key,
        options: TableOptions::parse(kind, &options)?,
    };
    let appender = database
        .engine()
        .create_table_with_rows(planner.principal(), new, mode, on_conflict)?;
    Ok(Load {
        appender,
        memory: WriteMemory::of_load(database.environment(), interruption, kind),
        columns: sources::in_order(columns),
    })
}

/// The WITH option that names the table's type.
const TYPE_OPTION: &str = "TYPE";

fn upper_names(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    options
        .iter()
        .map(|(name, value)| (name.to_ascii_uppercase(), value.clone()))
        .collect()
}

/// The type of a table to create.
fn table_kind(request: &IngestRequest, session: &Session) -> Result<TableKind> {
    let options = upper_names(&request.table_options);
    let named = options.get(TYPE_OPTION).map(|name| {
        let kinds = [TableKind::Shared, TableKind::User, TableKind::Stream];
        kinds
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let message = format!("TYPE = '{name}' is not a table type; the types are USER, SHARED and STREAM");
                Error::new(ErrorCode::InvalidArgument, message)
            })
    });
    match (request.table_type, named.transpose()?) {
        (Some(asked), Some(named)) if asked != named => {
            let message = format!(
                "the load asks for a {} table and TYPE = '{}'",
                asked.as_str(),
                named.as_str()
            );
            Err(Error::new(ErrorCode::InvalidArgument, message))
        }
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Ok(session.ingest_table_type().unwrap_or(TableKind::Shared)),
    }
}

/// What the load says of a table to create must not contradict the one that is there.
fn check_same_table(request: &IngestRequest, table: &Table) -> Result<()> {
    if let Some(kind) = request.table_type.filter(|kind| *kind != table.kind) {
        let message = format!(
            "table {} is a {} table, not a {} table",
            table.name,
            table.kind.as_str(),
            kind.as_str()
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    let key: Vec<&str> = table
        .schema
        .primary_key
        .iter()
        .map(|&index| table.schema.columns[index].name.as_str())
        .collect();
    match &request.primary_key {
        Some(asked) if !asked.iter().map(String::as_str).eq(key.iter().copied()) => {
            let message = format!(
                "the primary key of table {} is ({}), not ({})",
                table.name,
                key.join(", "),
                asked.join(", ")
            );
            Err(Error::new(ErrorCode::InvalidArgument, message))
        }
        _ => Ok(()),
    }
}

fn not_there(planner: &Planner, name: &TableName) -> Error {
    let (view, principal) = (planner.view(), planner.principal());
    if views::visible(view, principal, name).is_some() {
        views::is_no_table(name)
    } else if view.catalog().namespaces.contains_key(&name.namespace) || name.namespace == INFORMATION_SCHEMA {
        missing::table(view, principal, name)
    } else {
        missing::namespace(view, principal, &name.namespace)
    }
}

/// The field of a column to create: a plain type, its metadata kept.
fn plain_field(field: &Field) -> Result<Field> {
    if *field.data_type() == DataType::Null {
        let message = format!(
            "column '{}' has no type (Arrow null); give it one before loading",
            field.name()
        );
        return Err(Error::new(ErrorCode::TypeMismatch, message));
    }
    types::check_width(field.data_type())?;
    Ok(field.clone().with_data_type(types::plain(field.data_type())))
}

/// Refuses a stream whose schema names a time zone that is none: its timestamps could be stored, and not be read in SQL.
fn check_time_zones(schema: &Schema) -> Result<()> {
    for field in schema.fields() {
        if let Some(zone) = wrong_time_zone(field.data_type()) {
            let message = format!(
                "column '{}' has the time zone '{zone}', which is none: give a name such as Europe/Paris, or an offset such as +02:00",
                field.name()
            );
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
    }
    Ok(())
}

fn wrong_time_zone(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => zone.parse::<Tz>().is_err().then_some(zone.as_ref()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => wrong_time_zone(item.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|field| wrong_time_zone(field.data_type())),
        DataType::Dictionary(_, values) => wrong_time_zone(values),
        DataType::RunEndEncoded(_, values) => wrong_time_zone(values.data_type()),
        _ => None,
    }
}

/// A key column by its exact name.
fn key_column(name: &str, fields: &[Field]) -> Result<String> {
    if fields.iter().any(|field| field.name() == name) {
        return Ok(name.to_string());
    }
    let hint = suggestion(name, fields.iter().map(|field| field.name().as_str()));
    Err(Error::new(
        ErrorCode::ColumnNotFound,
        format!("the primary key names column '{name}', which the load does not have{hint}"),
    ))
}

/// What a chunk holds at most, about: a batch may have any size, and its cast copy stands beside it.
const CHUNK_BYTES: usize = 4 << 20;

/// Offsets and lengths of a batch's chunks.
fn chunks(batch: &RecordBatch) -> impl Iterator<Item = (usize, usize)> + use<> {
    let rows = batch.num_rows();
    let row_bytes = batch.get_array_memory_size() / rows.max(1);
    let step = (CHUNK_BYTES / row_bytes.max(1)).max(1);
    (0..rows)
        .step_by(step)
        .map(move |offset| (offset, step.min(rows - offset)))
}

#[cfg(test)]
mod tests;
