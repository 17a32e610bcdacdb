//! Runs DDL: checks types, defaults and options, then calls the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, Spanned};
use futures::StreamExt;
use kalamdb_core::{
    Action, Column, ColumnId, CreateMode, Error, ErrorCode, NewStorage, NewTable, OnConflict, Position, Result,
    TableKind, TableName, TableOptions, TableSchema, Task, field_type_name,
};

use crate::assignment::{Target, assign};
use crate::database::Database;
use crate::diagnostics;
use crate::execution::Completion;
use crate::insert::{self, row_count};
use crate::literal_columns;
use crate::missing;
use crate::names::{placed, position_of};
use crate::planning::{Planner, stream_query};
use crate::queries::RunningQuery;
use crate::session::Session;
use crate::statement::{self, ColumnDefinition, CreateTable, Definition, ObjectName};
use crate::types::SqlType;
use crate::values::has_subquery;
use crate::views;
use crate::write_memory::WriteMemory;

/// Runs a definition; called on the query runtime.
///
/// # Errors
/// Those of the engine's calls, with the place of the name in the text; TYPE_MISMATCH and INVALID_STATEMENT for a DEFAULT.
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    definition: Definition,
    query: &RunningQuery,
) -> Result<Completion> {
    let engine = database.engine();
    if !matches!(definition, Definition::CreateTable(_) | Definition::CreateView(_)) {
        // These are short: they end before a cancellation is heard, so that their outcome is known.
        query.committing()?;
    }
    let message = match definition {
        Definition::CreateTable(create) => return create_table(database, session, *create, query).await,
        Definition::CreateNamespace { name, if_not_exists } => {
            let principal = database.principal(&engine.view(), session)?;
            match engine.create_namespace(&principal, &name, if_not_exists).await? {
                true => format!("namespace {name} created"),
                false => format!("namespace {name} exists already"),
            }
        }
        Definition::DropNamespace {
            name,
            if_exists,
            cascade,
        } => {
            let view = engine.view();
            let principal = database.principal(&view, session)?;
            match engine.drop_namespace(&principal, &name, if_exists, cascade).await {
                Ok(true) => format!("namespace {name} dropped"),
                Ok(false) => format!("there is no namespace {name}"),
                Err(error) if error.code == ErrorCode::NamespaceNotFound => {
                    return Err(missing::namespace(&view, &principal, &name));
                }
                Err(error) => return Err(error),
            }
        }
        Definition::DropTable { names, kind, if_exists } => {
            check_kinds(database, session, &names, kind)?;
            drop_tables(database, session, &names, if_exists).await?
        }
        Definition::Truncate { names } => truncate_tables(database, session, &names).await?,
        Definition::CreateView(create) => views::create(database, session, *create, query).await?,
        Definition::DropView { names, if_exists } => views::drop_all(database, session, &names, if_exists).await?,
        Definition::CreateStorage {
            name,
            location,
            if_not_exists,
        } => {
            let principal = database.principal(&engine.view(), session)?;
            let new = NewStorage {
                name: name.clone(),
                location,
                if_not_exists,
            };
            match engine.create_storage(&principal, new).await? {
                true => format!("storage {name} created"),
                false => format!("storage {name} exists already"),
            }
        }
        Definition::DropStorage { name, if_exists } => {
            let principal = database.principal(&engine.view(), session)?;
            match engine.drop_storage(&principal, &name, if_exists).await? {
                true => format!("storage {name} dropped; its directory is left as it is"),
                false => format!("there is no storage {name}"),
            }
        }
    };
    Ok(Completion { rows: None, message })
}

/// A type in SQL's words.
pub(crate) fn data_type_name(data_type: &DataType) -> String {
    field_type_name(&Field::new("", data_type.clone(), true))
}

/// The SQL type name of a column, as metadata and DESCRIBE show it.
pub(crate) fn type_name(column: &Column) -> String {
    column.type_name()
}

/// A column of an Arrow field: what bulk ingest makes of it, and what names its type.
pub(crate) fn column_of(field: &Field) -> Column {
    Column {
        // Given by the catalog.
        id: ColumnId(0),
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
        default: None,
        metadata: field.metadata().clone(),
        internal: false,
    }
}

/// A column as DESCRIBE shows it.
pub(crate) struct DescribedColumn {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) nullable: bool,
    pub(crate) default: Option<String>,
    /// From 1.
    pub(crate) key_position: Option<i32>,
}

/// The columns of a table, those that SQL sees.
pub(crate) fn describe_columns(schema: &TableSchema) -> Vec<DescribedColumn> {
    let visible = schema.columns.iter().enumerate().filter(|(_, column)| !column.internal);
    let described = visible.map(|(index, column)| DescribedColumn {
        name: column.name.clone(),
        type_name: type_name(column),
        nullable: column.nullable,
        default: column.default.clone(),
        key_position: (1..)
            .zip(&schema.primary_key)
            .find_map(|(position, key)| (*key == index).then_some(position)),
    });
    described.collect()
}

/// The columns of a table that is no table of ours.
pub(crate) fn describe_fields(schema: &Schema, type_names: &[String]) -> Vec<DescribedColumn> {
    let fields = schema.fields().iter().zip(type_names);
    let described = fields.map(|(field, type_name)| DescribedColumn {
        name: field.name().clone(),
        type_name: type_name.clone(),
        nullable: field.is_nullable(),
        default: None,
        key_position: None,
    });
    described.collect()
}

/// A column's DEFAULT, ready to give values.
pub(crate) struct ColumnDefault {
    expression: Arc<dyn PhysicalExpr>,
}

impl ColumnDefault {
    /// From its text in the catalog.
    ///
    /// # Errors
    /// Whatever parsing and planning say.
    pub(crate) fn parse(planner: &Planner, default: &str) -> Result<Self> {
        ColumnDefault::plan(planner, statement::parse_expression(default)?)
    }

    fn plan(planner: &Planner, default: ast::Expr) -> Result<Self> {
        Ok(ColumnDefault {
            expression: planner.expression(default, &Fields::empty())?,
        })
    }

    /// Values for so many rows, of the expression's own type: one each where it is volatile.
    ///
    /// # Errors
    /// Whatever evaluating says.
    pub(crate) fn values(&self, rows: usize) -> Result<ArrayRef> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let input = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
            .map_err(|error| Error::new(ErrorCode::Internal, format!("an input of no columns: {error}")))?;
        let values = self
            .expression
            .evaluate(&input)
            .and_then(|value| value.into_array(rows));
        values.map_err(diagnostics::from_datafusion)
    }
}

async fn create_table(
    database: &Arc<Database>,
    session: &Arc<Session>,
    create: CreateTable,
    running: &RunningQuery,
) -> Result<Completion> {
    let CreateTable {
        name: written,
        kind,
        mode,
        columns,
        primary_key,
        options,
        option_places,
        query,
    } = create;
    let name = full_name(session, &written);
    let planner = Planner::new(database, session, running.interruption())?;
    let principal = planner.principal().clone();
    principal.require(Task::CreateTable)?;
    let options = TableOptions::parse(kind, &options).map_err(|error| {
        let place = refused_option(kind, &options, &error).and_then(|name| option_places.get(name));
        placed(error, place.copied())
    })?;
    let new = |columns| NewTable {
        name: name.clone(),
        kind,
        columns,
        primary_key: primary_key.iter().map(|(column, _)| column.clone()).collect(),
        options: options.clone(),
    };
    let view = planner.view().clone();
    let at_name = |error: Error| match error.code {
        ErrorCode::NamespaceNotFound => {
            placed(missing::namespace(&view, &principal, &name.namespace), written.position)
        }
        ErrorCode::AlreadyExists => placed(error, written.position),
        _ => error,
    };
    let Some(mut query) = query else {
        let columns = columns
            .into_iter()
            .map(|column| match column.sql_type.clone() {
                Some(sql_type) => checked(&planner, column, sql_type),
                None => Err(Error::new(ErrorCode::Internal, "a column came without a type")),
            })
            .collect::<Result<Vec<Column>>>()?;
        drop(planner);
        running.committing()?;
        let (_, created) = database
            .engine()
            .create_table(&principal, new(columns), mode)
            .await
            .map_err(at_name)?;
        return Ok(Completion {
            rows: None,
            message: outcome(&name, mode, created),
        });
    };
    // A table that is there is left alone before the query costs anything.
    if mode == CreateMode::IfNotExists && planner.view().catalog().table(&name).is_some() {
        return Ok(Completion {
            rows: None,
            message: outcome(&name, mode, false),
        });
    }
    let types = columns
        .iter()
        .map(|column| column.sql_type.as_ref().map(|given| given.data_type.clone()));
    literal_columns::as_text(&mut query, &types.collect::<Vec<_>>());
    let statement = ast::Statement::Query(query);
    let mut rows = stream_query(database, session, &statement, running.interruption()).await?;
    let as_given = columns.iter().all(|column| column.sql_type.is_none());
    let columns = defined_columns(&planner, &rows.schema(), columns, &item_positions(&statement))?;
    statement::check_key(columns.iter().map(|column| column.name.as_str()), &primary_key)?;
    let zone = Arc::clone(planner.time_zone());
    drop(planner);
    // NULL in a NOT NULL column is for the write handler to refuse, with the row's number.
    let fields = columns.iter().map(|column| column.field().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let targets = columns.clone();
    let load = database
        .engine()
        .create_table_with_rows(&principal, new(columns), mode, OnConflict::Error);
    let mut load = load.map_err(at_name)?;
    let mut memory = WriteMemory::of_load(database.environment(), running.interruption(), kind);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(diagnostics::from_datafusion)?;
        let mut values = batch.columns().to_vec();
        if !as_given {
            for (values, column) in values.iter_mut().zip(&targets) {
                *values = assign(values, &Target::column(column, &zone))?;
            }
        }
        load.push(&insert::batch(Arc::clone(&schema), values, batch.num_rows())?)?;
        memory.hold(load.buffered_bytes())?;
    }
    // The query's snapshot is not held while waiting for the disk.
    drop(rows);
    let prepared = load.prepare(&|| running.is_to_stop()).await;
    let prepared = prepared.map_err(|error| at_name(running.interruption().reason(error)))?;
    running.committing()?;
    let count = prepared.commit().await.map_err(at_name)?;
    Ok(Completion {
        rows: Some(count),
        message: format!("table {name} created with {}", row_count(count)),
    })
}

fn outcome(name: &TableName, mode: CreateMode, created: bool) -> String {
    match (created, mode) {
        (false, _) => format!("table {name} exists already"),
        (true, CreateMode::OrReplace) => format!("table {name} created or replaced"),
        (true, CreateMode::New | CreateMode::IfNotExists) => format!("table {name} created"),
    }
}

/// The column with its DEFAULT tried and kept as text.
fn checked(planner: &Planner, definition: ColumnDefinition, sql_type: SqlType) -> Result<Column> {
    let SqlType { data_type, metadata } = sql_type;
    let ColumnDefinition {
        name,
        sql_type: _,
        nullable,
        default,
        position,
    } = definition;
    let column = Column {
        id: ColumnId(0),
        name,
        data_type,
        nullable,
        default: None,
        metadata,
        internal: false,
    };
    let kept = match default {
        None => None,
        Some(default) => {
            refuse_subquery(&default).map_err(|error| placed(error, position))?;
            let text = default.to_string();
            let value = ColumnDefault::plan(planner, default)
                .and_then(|default| default.values(1))
                .and_then(|value| assign(&value, &Target::column(&column, planner.time_zone())));
            let value = value.map_err(|error| {
                let message = format!("DEFAULT of column '{}': {}", column.name, error.message);
                placed(Error { message, ..error }, position)
            })?;
            // DEFAULT NULL is no default.
            value.is_valid(0).then_some(text)
        }
    };
    Ok(Column {
        default: kept,
        ..column
    })
}

fn refuse_subquery(default: &ast::Expr) -> Result<()> {
    if has_subquery(default) {
        return Err(Error::new(
            ErrorCode::InvalidStatement,
            "a DEFAULT cannot hold a subquery",
        ));
    }
    Ok(())
}

/// The columns of CREATE TABLE … (…) AS: those of the query in their order, with names and types as far as some are given.
fn defined_columns(
    planner: &Planner,
    query: &SchemaRef,
    definitions: Vec<ColumnDefinition>,
    items: &[Option<Position>],
) -> Result<Vec<Column>> {
    if let Some(beyond) = definitions.get(query.fields().len()) {
        let message = format!(
            "there are no values for column '{}': the query gives {} and no more",
            beyond.name,
            query.fields().len()
        );
        return Err(placed(
            Error::new(ErrorCode::InvalidStatement, message),
            beyond.position,
        ));
    }
    let mut definitions = definitions.into_iter();
    let mut defined = Vec::with_capacity(query.fields().len());
    for field in query.fields() {
        // A constant is never NULL, but that says nothing of rows that come later.
        let of_query = field.as_ref().clone().with_nullable(true);
        defined.push(match definitions.next() {
            None => column_of(&of_query),
            Some(mut definition) => {
                let sql_type = definition.sql_type.take().unwrap_or_else(|| SqlType {
                    data_type: of_query.data_type().clone(),
                    metadata: of_query.metadata().clone(),
                });
                checked(planner, definition, sql_type)?
            }
        });
    }
    refuse_unusable(&defined, items)?;
    Ok(defined)
}

/// The columns of CREATE VIEW: those of the query, each with a name of its own.
///
/// # Errors
/// INVALID_STATEMENT for two of a name, TYPE_MISMATCH for one without a type.
pub(crate) fn query_columns(schema: &SchemaRef, items: &[Option<Position>]) -> Result<Vec<Column>> {
    let fields = schema.fields().iter();
    let columns: Vec<Column> = fields
        .map(|field| column_of(&field.as_ref().clone().with_nullable(true)))
        .collect();
    refuse_unusable(&columns, items)?;
    Ok(columns)
}

/// Where a query writes its columns; nothing where a wildcard stands for some.
pub(crate) fn item_positions(statement: &ast::Statement) -> Vec<Option<Position>> {
    let ast::Statement::Query(query) = statement else {
        return Vec::new();
    };
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Vec::new();
    };
    let items = select.projection.iter().map(|item| match item {
        ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. } => Some(position_of(item.span())),
        _ => None,
    });
    items.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// `items` are the places of the columns, if they are known.
fn refuse_unusable(columns: &[Column], items: &[Option<Position>]) -> Result<()> {
    for (index, column) in columns.iter().enumerate() {
        let name = &column.name;
        let place = items.get(index).copied().flatten();
        if columns[..index].iter().any(|other| other.name == *name) {
            let message = format!("the query gives two columns '{name}'; name one of them with AS");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), place));
        }
        if column.data_type == DataType::Null {
            let message = format!("column '{name}' has no type; write CAST(… AS TEXT) or another type");
            return Err(placed(Error::new(ErrorCode::TypeMismatch, message), place));
        }
    }
    Ok(())
}

/// The option that an error is about: the first without which there is none.
fn refused_option<'a>(kind: TableKind, options: &'a BTreeMap<String, String>, error: &Error) -> Option<&'a str> {
    let is_refused = |options: &BTreeMap<String, String>| {
        let refusal = TableOptions::parse(kind, options).err();
        refusal.is_some_and(|other| other.message == error.message)
    };
    let mut first = BTreeMap::new();
    if is_refused(&first) {
        return None;
    }
    options
        .iter()
        .find(|(name, value)| {
            first.insert((*name).clone(), (*value).clone());
            is_refused(&first)
        })
        .map(|(name, _)| name.as_str())
}

/// A written name completed by the session's namespace.
pub(crate) fn full_name(session: &Session, written: &ObjectName) -> TableName {
    TableName::new(
        written.namespace.clone().unwrap_or_else(|| session.namespace()),
        &written.name,
    )
}

/// Each table is dropped in one step; that all can be is checked before the first goes.
async fn drop_tables(
    database: &Arc<Database>,
    session: &Arc<Session>,
    names: &[ObjectName],
    if_exists: bool,
) -> Result<String> {
    check_all(database, session, names, if_exists)?;
    let engine = database.engine();
    let principal = database.principal(&engine.view(), session)?;
    let mut dropped = Vec::new();
    for written in names {
        let name = full_name(session, written);
        if engine
            .drop_table(&principal, &name, if_exists)
            .await
            .map_err(|error| placed(error, written.position))?
        {
            dropped.push(name.to_string());
        }
    }
    Ok(match dropped.as_slice() {
        [] => "there is no such table".to_string(),
        [one] => format!("table {one} dropped"),
        several => format!("tables {} dropped", several.join(", ")),
    })
}

/// As [`drop_tables`].
async fn truncate_tables(database: &Arc<Database>, session: &Arc<Session>, names: &[ObjectName]) -> Result<String> {
    check_all(database, session, names, false)?;
    let engine = database.engine();
    let principal = database.principal(&engine.view(), session)?;
    let mut emptied = Vec::new();
    for written in names {
        let name = full_name(session, written);
        engine
            .truncate_table(&principal, &name)
            .await
            .map_err(|error| placed(error, written.position))?;
        emptied.push(name.to_string());
    }
    Ok(match emptied.as_slice() {
        [one] => format!("table {one} emptied"),
        several => format!("tables {} emptied", several.join(", ")),
    })
}

/// Checks that tables are of the type that the statement says, if it says one.
fn check_kinds(database: &Database, session: &Session, names: &[ObjectName], kind: Option<TableKind>) -> Result<()> {
    let Some(kind) = kind else { return Ok(()) };
    let view = database.engine().view();
    let principal = database.principal(&view, session)?;
    for written in names {
        let name = full_name(session, written);
        let table = view.catalog().table(&name).filter(|table| principal.sees(table));
        if let Some(table) = table.filter(|table| table.kind != kind) {
            let message = format!(
                "{name} is a {} table, not a {} table",
                table.kind.as_str(),
                kind.as_str()
            );
            return Err(placed(
                Error::new(ErrorCode::InvalidStatement, message),
                written.position,
            ));
        }
    }
    Ok(())
}

/// Checks that every table is there and may be defined by the session's user, so that a list is not done by half.
fn check_all(database: &Arc<Database>, session: &Arc<Session>, names: &[ObjectName], if_exists: bool) -> Result<()> {
    let view = database.engine().view();
    let principal = database.principal(&view, session)?;
    let mut seen: Vec<TableName> = Vec::with_capacity(names.len());
    for written in names {
        let name = full_name(session, written);
        match view.catalog().table(&name).filter(|table| principal.sees(table)) {
            Some(table) => principal
                .check(Action::Define, table)
                .map_err(|error| placed(error, written.position))?,
            None if views::visible(&view, &principal, &name).is_some() => {
                return Err(placed(views::is_no_table(&name), written.position));
            }
            None if if_exists => {}
            None => {
                return Err(placed(missing::table(&view, &principal, &name), written.position));
            }
        }
        if seen.contains(&name) {
            let error = Error::new(ErrorCode::InvalidStatement, format!("table {name} is named twice"));
            return Err(placed(error, written.position));
        }
        seen.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::Execution;
    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    #[test]
    fn one_row_is_counted_as_one() {
        let fixture = Fixture::new();
        for (sql, message) in [
            (
                "CREATE TABLE one AS SELECT 1 AS a",
                "table public.one created with 1 row",
            ),
            (
                "CREATE TABLE two AS VALUES (1), (2)",
                "table public.two created with 2 rows",
            ),
        ] {
            let done = fixture.block_on(fixture.database.execute(&fixture.root, sql, Parameters::none()));
            match done {
                Ok(Execution::Done(completion)) => assert_eq!(completion.message, message),
                Ok(Execution::Rows(_) | Execution::Report(_)) => panic!("{sql} gives no rows"),
                Err(error) => panic!("{sql}: {error}"),
            }
        }
    }

    #[test]
    fn tables_come_and_go() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE NAMESPACE chat",
            "CREATE NAMESPACE IF NOT EXISTS chat",
            "CREATE USER TABLE chat.messages (body TEXT NOT NULL, id BIGINT DEFAULT SNOWFLAKE_ID(), PRIMARY KEY (id))",
            "CREATE TABLE IF NOT EXISTS chat.messages (other INT)",
            "CREATE STREAM TABLE chat.presence (who TEXT PRIMARY KEY) WITH (TTL_SECONDS = 60)",
        ]);
        fixture.check(
            "DESCRIBE chat.messages",
            &["body|TEXT|false|NULL|NULL", "id|BIGINT|false|SNOWFLAKE_ID()|1"],
        );
        fixture.check_error("CREATE NAMESPACE chat", ErrorCode::AlreadyExists, Some((1, 18)), "chat");
        fixture.check_error(
            "CREATE TABLE chat.messages (a INT)",
            ErrorCode::AlreadyExists,
            Some((1, 14)),
            "chat.messages",
        );
        fixture.check_error(
            "CREATE TABLE nowhere.t (a INT)",
            ErrorCode::NamespaceNotFound,
            Some((1, 14)),
            "nowhere",
        );
        fixture.check_error("DROP NAMESPACE chat", ErrorCode::DependentObjects, None, "chat");
        fixture.check_error(
            "DROP TABLE chat.presence, chat.mesages",
            ErrorCode::TableNotFound,
            Some((1, 27)),
            "messages",
        );
        fixture.run(&["DESCRIBE chat.presence"]);
        fixture.run(&[
            "DROP TABLE chat.presence",
            "DROP TABLE IF EXISTS chat.presence",
            "DROP NAMESPACE chat CASCADE",
        ]);
        fixture.check_error(
            "DESCRIBE chat.messages",
            ErrorCode::TableNotFound,
            Some((1, 10)),
            "chat.messages",
        );
    }

    #[test]
    fn defaults_are_tried_when_the_table_is_made() {
        let fixture = Fixture::new();
        let check = |column: &str, code: ErrorCode, part: &str| {
            let sql = format!("CREATE TABLE t (id INT, {column})");
            let error = fixture
                .execute_as(&fixture.root, &sql, Parameters::none())
                .expect_err(&sql);
            assert_eq!(error.code, code, "{sql}: {error}");
            assert!(error.message.contains(part), "{sql}: {error}");
            assert_eq!(error.position.map(|place| place.line), Some(1), "{sql}: {error}");
        };
        check("a INT DEFAULT 'x'", ErrorCode::TypeMismatch, "DEFAULT of column 'a'");
        check("a TINYINT DEFAULT 300", ErrorCode::TypeMismatch, "300");
        check("a INT DEFAULT id", ErrorCode::ColumnNotFound, "id");
        check("a INT DEFAULT (SELECT 1)", ErrorCode::InvalidStatement, "subquery");
        check("a INT DEFAULT $1", ErrorCode::Unsupported, "parameter");
        check("a INT DEFAULT nothing()", ErrorCode::InvalidStatement, "nothing");
        fixture.run(&[
            "CREATE TABLE t (id INT, a INT DEFAULT 1 + 2, b TEXT DEFAULT CURRENT_USER, c DATE DEFAULT '2024-05-01', d INT DEFAULT NULL)",
            "INSERT INTO t (id) VALUES (1)",
        ]);
        fixture.check("SELECT * FROM t", &["1|3|root|2024-05-01|NULL"]);
        fixture.check("SELECT count(*) FROM t", &["1"]);
    }

    #[test]
    fn a_query_makes_a_table() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE a AS SELECT * FROM (VALUES (1, 'x'), (2, NULL)) AS v (n, s)"]);
        fixture.check("SELECT n, s FROM a ORDER BY n", &["1|x", "2|NULL"]);
        fixture.run(&["CREATE TABLE IF NOT EXISTS a AS SELECT 7 AS other"]);
        fixture.check("SELECT count(*) FROM a", &["2"]);
        fixture.run(&["CREATE OR REPLACE TABLE a AS SELECT n FROM a WHERE n = 2"]);
        fixture.check("SELECT * FROM a", &["2"]);
        fixture.check_error(
            "CREATE TABLE a AS SELECT 1 AS n",
            ErrorCode::AlreadyExists,
            Some((1, 14)),
            "a",
        );
        fixture.check_error(
            "CREATE TABLE b AS SELECT 1 AS n, 2 AS n",
            ErrorCode::InvalidStatement,
            Some((1, 34)),
            "n",
        );
        fixture.check_error(
            "CREATE TABLE b AS SELECT 1 / (n - 2) AS q FROM a",
            ErrorCode::InvalidArgument,
            Some((1, 26)),
            "",
        );
        fixture.check_error("DESCRIBE b", ErrorCode::TableNotFound, Some((1, 10)), "b");
    }

    #[test]
    fn only_dba_and_up_define() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE USER 'ann' ROLE service", "CREATE TABLE t (a INT)"]);
        let ann = fixture.session("ann");
        for sql in [
            "CREATE TABLE u (a INT)",
            "CREATE TABLE u AS SELECT 1 AS a",
            "CREATE NAMESPACE n",
            "DROP NAMESPACE public CASCADE",
            "DROP TABLE t",
            "TRUNCATE t",
        ] {
            let error = fixture.execute_as(&ann, sql, Parameters::none()).expect_err(sql);
            assert_eq!(error.code, ErrorCode::PermissionDenied, "{sql}: {error}");
        }
        fixture.run(&["INSERT INTO t VALUES (1)", "TRUNCATE t"]);
        fixture.check("SELECT count(*) FROM t", &["0"]);
    }
}
