//! Bulk loads by stream: makes or replaces the table as asked, casts to its columns, and hands rows to the write handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use futures::stream::BoxStream;
use kalamdb_core::{
    Action, Appender, Column, CreateMode, Error, ErrorCode, INFORMATION_SCHEMA, NewTable, OnConflict, Result, Table,
    TableKind, TableName, TableOptions,
};

use crate::assignment::{Target, assign};
use crate::database::Database;
use crate::definition::{self, ColumnDefault};
use crate::interruption::Interruption;
use crate::missing;
use crate::names::suggestion;
use crate::planning::Planner;
use crate::queries::RunningQuery;
use crate::session::Session;
use crate::types;
use crate::views;
use crate::write_memory::WriteMemory;

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

/// Where a column's values come from.
struct Source {
    column: Column,
    from: From,
}

enum From {
    /// The column of the stream at this index.
    Stream(usize),
    /// The column's DEFAULT.
    Default(ColumnDefault),
    Null,
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
    let columns = columns.into_iter().enumerate().map(|(index, column)| Source {
        column,
        from: From::Stream(index),
    });
    Ok(Load {
        appender,
        memory: WriteMemory::of_load(database.environment(), interruption, kind),
        columns: columns.collect(),
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

/// Which column of the stream each column of the table takes: the one of the same name, else the only one whose name
/// differs in case alone.
fn match_columns(planner: &Planner, table: &Table, schema: &SchemaRef) -> Result<Vec<Source>> {
    let columns: Vec<&Column> = table.schema.columns.iter().filter(|column| !column.internal).collect();
    let mut taken: Vec<Option<usize>> = vec![None; columns.len()];
    for (index, field) in schema.fields().iter().enumerate() {
        let exact = columns.iter().position(|column| column.name == *field.name());
        let alike = || {
            let mut alike = columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column.name.eq_ignore_ascii_case(field.name()));
            alike
                .next()
                .filter(|_| alike.next().is_none())
                .map(|(position, _)| position)
        };
        let Some(position) = exact.or_else(alike) else {
            let hint = suggestion(field.name(), columns.iter().map(|column| column.name.as_str()));
            let message = format!("table {} has no column '{}'{hint}", table.name, field.name());
            return Err(Error::new(ErrorCode::ColumnNotFound, message));
        };
        if let Some(first) = taken[position].replace(index) {
            let message = format!(
                "the load's columns '{}' and '{}' are both for column '{}' of table {}",
                schema.field(first).name(),
                field.name(),
                columns[position].name,
                table.name
            );
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
    }
    let sources = columns.into_iter().zip(taken).map(|(column, taken)| {
        let from = match (taken, &column.default) {
            (Some(index), _) => From::Stream(index),
            (None, Some(default)) => From::Default(ColumnDefault::parse(planner, default)?),
            (None, None) if column.nullable => From::Null,
            (None, None) => {
                let message = format!(
                    "column '{}' of table {} is NOT NULL and has no default, and the load does not have it",
                    column.name, table.name
                );
                return Err(Error::new(ErrorCode::NotNullViolation, message));
            }
        };
        Ok(Source {
            column: column.clone(),
            from,
        })
    });
    sources.collect()
}

impl Source {
    /// The field of a chunk. NULL in a NOT NULL column is for the write handler to find, which names the row.
    fn field(&self) -> Field {
        self.column.field().with_nullable(true)
    }

    /// The values for a chunk; `loaded` rows went before it.
    fn values(&self, chunk: &RecordBatch, loaded: usize, zone: &Arc<str>) -> Result<ArrayRef> {
        let values = match &self.from {
            From::Stream(index) => Arc::clone(chunk.column(*index)),
            From::Default(default) => default.values(chunk.num_rows())?,
            From::Null => new_null_array(&self.column.data_type, chunk.num_rows()),
        };
        assign(&values, &Target::column(&self.column, zone)).map_err(|mut error| {
            if loaded > 0 {
                error
                    .message
                    .push_str(&format!("; rows are counted from row {} of the load", loaded + 1));
            }
            error
        })
    }
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
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn chunks_cover_a_batch_once() {
        let check = |rows: usize| {
            let values: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
            let batch = RecordBatch::try_from_iter([("a", values)]).expect("a batch");
            let mut next = 0;
            for (offset, length) in chunks(&batch) {
                assert_eq!(offset, next);
                assert!(length > 0 && length * 8 <= CHUNK_BYTES);
                next += length;
            }
            assert_eq!(next, rows);
        };
        [0, 1, 1_000, 524_288, 524_289, 2_000_000].into_iter().for_each(check);
    }

    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, StringArray, StringViewArray, UInt8Array};
    use futures::stream;

    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    fn request(table: &str) -> IngestRequest {
        IngestRequest {
            namespace: None,
            table: table.into(),
            if_not_exists: IfNotExists::Create,
            if_exists: IfExists::Append,
            table_type: None,
            primary_key: None,
            on_conflict: None,
            table_options: BTreeMap::new(),
        }
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))
            .expect("a batch")
    }

    fn ints(values: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }

    fn texts(values: Vec<&str>) -> ArrayRef {
        Arc::new(StringArray::from(values))
    }

    fn load(
        fixture: &Fixture,
        session: &Arc<Session>,
        request: IngestRequest,
        batches: Vec<Result<RecordBatch>>,
    ) -> Result<u64> {
        let schema = batches.iter().flatten().next().expect("a batch").schema();
        fixture.block_on(
            fixture
                .database
                .ingest(session, request, schema, Box::pin(stream::iter(batches))),
        )
    }

    #[track_caller]
    fn check_error(outcome: Result<u64>, code: ErrorCode, part: &str) {
        let error = outcome.expect_err("it is refused");
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(part), "{error}");
    }

    #[test]
    fn a_load_makes_adds_and_replaces() {
        let fixture = Fixture::new();
        let root = &fixture.root;
        let keyed = IngestRequest {
            primary_key: Some(vec!["k".into()]),
            ..request("t")
        };
        let rows = |from: i64| {
            Ok(batch(vec![
                ("v", texts(vec!["a", "b"])),
                ("k", ints(vec![from, from + 1])),
            ]))
        };
        let failing = IngestRequest {
            if_not_exists: IfNotExists::Fail,
            ..keyed.clone()
        };
        check_error(
            load(&fixture, root, failing, vec![rows(1)]),
            ErrorCode::TableNotFound,
            "public.t",
        );
        assert_eq!(load(&fixture, root, keyed.clone(), vec![rows(1), rows(3)]), Ok(4));
        fixture.check("DESCRIBE t", &["v|TEXT|true|NULL|NULL", "k|BIGINT|false|NULL|1"]);
        assert_eq!(load(&fixture, root, keyed.clone(), vec![rows(5)]), Ok(2));
        fixture.check("SELECT count(*), max(k) FROM t", &["6|6"]);
        let exists = IngestRequest {
            if_exists: IfExists::Fail,
            ..keyed.clone()
        };
        check_error(
            load(&fixture, root, exists, vec![rows(1)]),
            ErrorCode::AlreadyExists,
            "public.t",
        );
        let other_key = IngestRequest {
            primary_key: Some(vec!["v".into()]),
            ..request("t")
        };
        check_error(
            load(&fixture, root, other_key, vec![rows(7)]),
            ErrorCode::InvalidArgument,
            "primary key",
        );
        let replaced = IngestRequest {
            if_exists: IfExists::Replace,
            ..request("t")
        };
        assert_eq!(
            load(&fixture, root, replaced, vec![Ok(batch(vec![("x", ints(vec![9]))]))]),
            Ok(1)
        );
        fixture.check("SELECT * FROM t", &["9"]);
        let absent = IngestRequest {
            namespace: Some("nowhere".into()),
            ..request("t")
        };
        check_error(
            load(&fixture, root, absent, vec![rows(1)]),
            ErrorCode::NamespaceNotFound,
            "nowhere",
        );
        let unkeyed = IngestRequest {
            primary_key: Some(vec!["kk".into()]),
            ..request("u")
        };
        check_error(
            load(&fixture, root, unkeyed, vec![rows(1)]),
            ErrorCode::ColumnNotFound,
            "did you mean k",
        );
    }

    #[test]
    fn a_time_zone_is_one() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE there (at TIMESTAMP WITH TIME ZONE)"]);
        let stamps = |zone: &str| {
            let stamps: ArrayRef =
                Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![0]).with_timezone(zone.to_owned()));
            vec![Ok(batch(vec![("at", stamps)]))]
        };
        for table in ["made", "there"] {
            check_error(
                load(&fixture, &fixture.root, request(table), stamps("Mars/Phobos")),
                ErrorCode::InvalidArgument,
                "'Mars/Phobos'",
            );
            for zone in ["UTC", "Europe/Paris", "+02:00"] {
                let table = format!("{table}{}", if table == "there" { "" } else { zone });
                assert_eq!(
                    load(&fixture, &fixture.root, request(&table), stamps(zone)),
                    Ok(1),
                    "{zone}"
                );
            }
        }
        fixture.check("SELECT count(*) FROM there", &["3"]);
    }

    #[test]
    fn a_load_is_exact_as_any_write() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (p DECIMAL(10, 2), r REAL, at TIMESTAMP WITH TIME ZONE)",
            "SET time_zone = 'Europe/Warsaw'",
        ]);
        let one = |name: &str, values: ArrayRef| {
            load(
                &fixture,
                &fixture.root,
                request("t"),
                vec![Ok(batch(vec![(name, values)]))],
            )
        };
        let decimal = |value: i128| -> ArrayRef {
            let array = Decimal128Array::from(vec![value]).with_precision_and_scale(10, 3);
            Arc::new(array.expect("valid"))
        };
        let double = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
        for (name, values, part) in [
            ("p", decimal(1_005), "1.005"),
            ("p", double(1.005), "1.005"),
            ("p", texts(vec!["1.005"]), "1.005"),
            ("r", double(1e300), "column r (REAL)"),
            ("at", texts(vec!["2026-10-25 02:30:00"]), "2026-10-25 02:30:00"),
        ] {
            check_error(one(name, values), ErrorCode::TypeMismatch, part);
        }
        for (name, values) in [
            ("p", decimal(1_250)),
            ("p", double(1.25)),
            ("r", double(f64::INFINITY)),
            ("at", texts(vec!["2026-01-01 12:00:00"])),
        ] {
            assert_eq!(one(name, values), Ok(1), "{name}");
        }
        fixture.check(
            "SELECT sum(p), max(r), max(at) FROM t",
            &["2.50|inf|2026-01-01T11:00:00Z"],
        );
    }

    #[test]
    fn a_load_fits_the_columns_that_are_there() {
        let fixture = Fixture::new();
        let root = &fixture.root;
        fixture.run(&["CREATE TABLE t (k BIGINT PRIMARY KEY, \"Name\" TEXT, n TINYINT DEFAULT 7, u TEXT DEFAULT CURRENT_USER, must INT NOT NULL DEFAULT 1)"]);
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a long text that is no inline view", "b"]));
        let small: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2]));
        assert_eq!(
            load(
                &fixture,
                root,
                request("t"),
                vec![Ok(batch(vec![("NAME", views), ("K", small)]))]
            ),
            Ok(2)
        );
        fixture.check(
            "SELECT * FROM t ORDER BY k",
            &["1|a long text that is no inline view|7|root|1", "2|b|7|root|1"],
        );
        let one = |name, values: ArrayRef| {
            load(
                &fixture,
                root,
                request("t"),
                vec![Ok(batch(vec![("k", ints(vec![10])), (name, values)]))],
            )
        };
        check_error(
            one("nam", texts(vec!["x"])),
            ErrorCode::ColumnNotFound,
            "did you mean Name",
        );
        check_error(one("n", ints(vec![1_000])), ErrorCode::TypeMismatch, "1000");
        check_error(
            one("K", ints(vec![1])),
            ErrorCode::InvalidArgument,
            "both for column 'k'",
        );
        let null: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
        check_error(one("must", null), ErrorCode::NotNullViolation, "must");
        let keyless = load(
            &fixture,
            root,
            request("t"),
            vec![Ok(batch(vec![("n", ints(vec![1]))]))],
        );
        check_error(keyless, ErrorCode::NotNullViolation, "'k'");
        fixture.check("SELECT count(*) FROM t", &["2"]);
    }

    #[test]
    fn a_load_that_fails_leaves_nothing() {
        let fixture = Fixture::new();
        let root = &fixture.root;
        let rows = |from: i64| Ok(batch(vec![("k", ints(vec![from, from + 1]))]));
        let keyed = |on_conflict| IngestRequest {
            primary_key: Some(vec!["k".into()]),
            on_conflict,
            ..request("t")
        };
        let broken = || Err(Error::new(ErrorCode::InvalidRequest, "the client went away"));
        check_error(
            load(&fixture, root, keyed(None), vec![rows(1), broken()]),
            ErrorCode::InvalidRequest,
            "went away",
        );
        fixture.check_error("DESCRIBE t", ErrorCode::TableNotFound, Some((1, 10)), "public.t");
        assert_eq!(load(&fixture, root, keyed(None), vec![rows(1)]), Ok(2));
        check_error(
            load(&fixture, root, keyed(None), vec![rows(10), rows(2)]),
            ErrorCode::DuplicateKey,
            "k",
        );
        check_error(
            load(&fixture, root, keyed(None), vec![rows(20), broken()]),
            ErrorCode::InvalidRequest,
            "went away",
        );
        fixture.check("SELECT k FROM t ORDER BY k", &["1", "2"]);
        load(&fixture, root, keyed(Some(OnConflict::Ignore)), vec![rows(2)]).expect("what is there stays");
        fixture.run(&["SET ingest.on_conflict = 'replace'"]);
        load(&fixture, root, keyed(None), vec![rows(3)]).expect("the session's option stands in");
        fixture.check("SELECT k FROM t ORDER BY k", &["1", "2", "3", "4"]);
    }

    #[test]
    fn no_load_writes_system_tables() {
        let fixture = Fixture::new();
        for if_exists in [IfExists::Append, IfExists::Replace] {
            for (namespace, table) in [
                ("system", "users"),
                ("system", "queries"),
                ("information_schema", "tables"),
            ] {
                let request = IngestRequest {
                    namespace: Some(namespace.into()),
                    if_exists,
                    ..request(table)
                };
                let rows = vec![Ok(batch(vec![("nothing", ints(vec![1]))]))];
                let refused = load(&fixture, &fixture.root, request, rows).expect_err("it is refused");
                assert!(
                    [ErrorCode::InvalidStatement, ErrorCode::InvalidArgument].contains(&refused.code),
                    "{namespace}.{table}: {refused}"
                );
                assert!(
                    refused.message.contains(table) || refused.message.contains(namespace),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn a_load_needs_its_rights_and_stays_in_its_scope() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE TABLE shared (k BIGINT)",
            "SET ingest.table_type = 'USER'",
        ]);
        let ann = fixture.session("ann");
        let rows = || vec![Ok(batch(vec![("k", ints(vec![1]))]))];
        assert_eq!(load(&fixture, &fixture.root, request("own"), rows()), Ok(1));
        assert_eq!(load(&fixture, &ann, request("own"), rows()), Ok(1));
        assert_eq!(load(&fixture, &ann, request("own"), rows()), Ok(1));
        assert_eq!(
            fixture.rows_as(&ann, "SELECT count(*) FROM own", Parameters::none()),
            ["2"]
        );
        fixture.check("SELECT count(*) FROM own", &["1"]);
        check_error(
            load(&fixture, &ann, request("new"), rows()),
            ErrorCode::PermissionDenied,
            "",
        );
        assert!(load(&fixture, &ann, request("shared"), rows()).is_err());
        fixture.check("SELECT count(*) FROM shared", &["0"]);
        let stream = IngestRequest {
            table_type: Some(TableKind::Stream),
            ..request("s")
        };
        check_error(
            load(&fixture, &fixture.root, stream.clone(), rows()),
            ErrorCode::InvalidArgument,
            "TTL_SECONDS",
        );
        let options = BTreeMap::from([("ttl_seconds".to_string(), "60".to_string())]);
        assert_eq!(
            load(
                &fixture,
                &fixture.root,
                IngestRequest {
                    table_options: options,
                    ..stream
                },
                rows()
            ),
            Ok(1)
        );
    }
}
