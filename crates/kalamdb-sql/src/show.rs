//! SHOW and DESCRIBE: rows of the catalog, of system tables and of settings, as their principal may see them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use kalamdb_core::{
    Error, ErrorCode, INFORMATION_SCHEMA, KeyConstraint, Principal, Result, SYSTEM_NAMESPACE, ScanField, ScanOrder,
    ScanRequest, SystemTable, Table, TableKind, TableName, TableSchema, View,
};

use crate::database::{Database, Setting};
use crate::missing;
use crate::names::{placed, suggestion};
use crate::session::{Session, SessionValue};
use crate::statement::{ObjectName, Show};
use crate::{administration, definition, information_schema, metadata, rights, system_tables, views};

/// What SHOW lists besides settings.
const LISTS: &[&str] = &[
    "namespaces",
    "schemas",
    "tables",
    "storages",
    "jobs",
    "segments",
    "columns",
];

/// The columns of the rows, known without running anything. Each may be NULL.
pub(crate) fn schema(show: &Show) -> SchemaRef {
    let text = |name: &'static str| (name, DataType::Utf8);
    let count = |name: &'static str| (name, DataType::Int64);
    let time = |name: &'static str| (name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let columns = match show {
        Show::Namespaces => vec![text("namespace_id"), text("description"), count("table_count")],
        Show::Tables { .. } => vec![
            text("namespace_id"),
            text("table_name"),
            text("table_type"),
            text("access_level"),
            text("options"),
            time("created_at"),
        ],
        Show::Storages => vec![
            text("storage_id"),
            text("storage_type"),
            text("uri"),
            count("usage_count"),
        ],
        Show::Jobs => vec![
            text("job_id"),
            text("job_type"),
            text("table_id"),
            text("status"),
            ("progress", DataType::Float64),
            count("rows"),
            count("bytes"),
            text("error"),
            time("created_at"),
            time("finished_at"),
        ],
        Show::Segments => vec![
            text("segment_id"),
            text("table_id"),
            text("path"),
            count("rows"),
            count("deleted_rows"),
            count("size_bytes"),
            time("created_at"),
        ],
        Show::Columns { .. } | Show::Describe { history: false, .. } => vec![
            text("column_name"),
            text("data_type"),
            ("nullable", DataType::Boolean),
            text("default"),
            ("primary_key", DataType::Int32),
        ],
        Show::Describe { history: true, .. } => {
            vec![count("version"), text("change"), text("columns"), time("created_at")]
        }
        Show::Grants { .. } => rights::grant_columns(),
        Show::Quotas { .. } => rights::quota_columns(),
        Show::Setting { .. } => vec![
            text("name"),
            text("value"),
            text("unit"),
            text("source"),
            text("description"),
        ],
    };
    let fields: Vec<Field> = columns
        .into_iter()
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The rows of a SHOW or DESCRIBE statement (they are few); called on the query runtime. DESCRIBE of a table that the
/// principal does not see is TABLE_NOT_FOUND.
pub(crate) async fn rows(
    database: &Arc<Database>,
    session: &Arc<Session>,
    principal: &Principal,
    view: &View,
    show: &Show,
) -> Result<RecordBatch> {
    let schema = schema(show);
    match show {
        Show::Namespaces => namespaces(schema, principal, view),
        Show::Tables { namespace, like } => tables(schema, principal, view, namespace.as_deref(), like.as_deref()),
        Show::Storages => of_system_table(schema, principal, view, SystemTable::Storages, None),
        Show::Jobs => chosen(
            &schema,
            &system_tables::rows(database, principal, view, SystemTable::Jobs)?,
        ),
        Show::Segments => chosen(
            &schema,
            &system_tables::rows(database, principal, view, SystemTable::Segments)?,
        ),
        Show::Columns { table } | Show::Describe { table, history: false } => {
            columns(schema, session, principal, view, table)
        }
        Show::Describe { table, history: true } => {
            let (id, _) = find_relation(session, principal, view, table)?;
            let key = KeyConstraint {
                equal: vec![Arc::new(StringArray::from(vec![id])) as ArrayRef],
                lower: std::ops::Bound::Unbounded,
                upper: std::ops::Bound::Unbounded,
            };
            of_system_table(schema, principal, view, SystemTable::TableSchemas, Some(key))
        }
        Show::Grants { user } => rights::grants(schema, database, principal, view, user.as_ref()),
        Show::Quotas { user } => rights::quotas(schema, database, principal, view, user.as_ref()),
        Show::Setting { name } => settings(schema, database, session, principal, view, name.as_deref()),
    }
}

fn namespaces(schema: SchemaRef, principal: &Principal, view: &View) -> Result<RecordBatch> {
    let names = metadata::visible_namespaces(view, principal);
    let catalog = view.catalog();
    let descriptions = names.iter().map(|name| {
        catalog
            .namespaces
            .get(name)
            .and_then(|namespace| namespace.description.clone())
    });
    let counts = names.iter().map(|name| match name.as_str() {
        INFORMATION_SCHEMA => i64::try_from(information_schema::TABLES.len()).ok(),
        _ => i64::try_from(catalog.tables_in(name).filter(|table| principal.sees(table)).count()).ok(),
    });
    let counts: Int64Array = counts.collect();
    let descriptions: StringArray = descriptions.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(&names)),
        Arc::new(descriptions),
        Arc::new(counts),
    ];
    batch(schema, columns)
}

fn tables(
    schema: SchemaRef,
    principal: &Principal,
    view: &View,
    namespace: Option<&str>,
    like: Option<&str>,
) -> Result<RecordBatch> {
    if let Some(namespace) = namespace {
        administration::check_namespace(view, principal, namespace)?;
    }
    if namespace == Some(INFORMATION_SCHEMA) {
        return standard_tables(schema, like);
    }
    let is_wanted = |name: &TableName| {
        let in_namespace = match namespace {
            Some(namespace) => name.namespace == namespace,
            // The database's own tables show when asked for.
            None => name.namespace != SYSTEM_NAMESPACE,
        };
        in_namespace && like.is_none_or(|pattern| metadata::like(&name.table, pattern))
    };
    let catalog = view.catalog();
    let tables = catalog.tables.values().filter(|table| principal.sees(table));
    let tables = tables.map(|table| ShownTable {
        name: &table.name,
        table_type: table.kind.as_str(),
        access_level: (table.kind == TableKind::Shared).then(|| table.options.access_level.as_str()),
        options: table.options.to_json(),
        created_at_micros: table.created_at_micros,
    });
    let views = catalog.views.values().filter(|view| principal.sees_view(view, catalog));
    let views = views.map(|view| ShownTable {
        name: &view.name,
        table_type: metadata::VIEW_TYPE,
        access_level: None,
        options: "{}".to_owned(),
        created_at_micros: view.created_at_micros,
    });
    let mut shown: Vec<ShownTable<'_>> = tables.chain(views).filter(|table| is_wanted(table.name)).collect();
    shown.sort_by_key(|table| table.name);
    let text = |value: fn(&ShownTable<'_>) -> Option<String>| {
        Arc::new(shown.iter().map(value).collect::<StringArray>()) as ArrayRef
    };
    let created: TimestampMicrosecondArray = shown.iter().map(|table| Some(table.created_at_micros)).collect();
    batch(
        schema,
        vec![
            text(|table| Some(table.name.namespace.clone())),
            text(|table| Some(table.name.table.clone())),
            text(|table| Some(table.table_type.to_owned())),
            text(|table| table.access_level.map(str::to_owned)),
            text(|table| Some(table.options.clone())),
            Arc::new(created.with_timezone("UTC")),
        ],
    )
}

/// One row of SHOW TABLES.
struct ShownTable<'a> {
    name: &'a TableName,
    table_type: &'static str,
    access_level: Option<&'static str>,
    options: String,
    created_at_micros: i64,
}

/// The tables of `information_schema`, which are not in the catalog.
fn standard_tables(schema: SchemaRef, like: Option<&str>) -> Result<RecordBatch> {
    let names = information_schema::TABLES.iter();
    let names: Vec<&str> = names
        .copied()
        .filter(|name| like.is_none_or(|pattern| metadata::like(name, pattern)))
        .collect();
    let every = |value: &str| Arc::new(StringArray::from(vec![value; names.len()])) as ArrayRef;
    let unknown = |index: usize| new_null_array(schema.field(index).data_type(), names.len());
    let columns = vec![
        every(INFORMATION_SCHEMA),
        Arc::new(StringArray::from(names.clone())) as ArrayRef,
        every(metadata::VIEW_TYPE),
        unknown(3),
        unknown(4),
        unknown(5),
    ];
    batch(Arc::clone(&schema), columns)
}

fn columns(
    schema: SchemaRef,
    session: &Session,
    principal: &Principal,
    view: &View,
    name: &ObjectName,
) -> Result<RecordBatch> {
    let described: Vec<definition::DescribedColumn> = match name.namespace.as_deref() {
        Some(INFORMATION_SCHEMA) => match metadata::information_schema_table(&name.name)? {
            Some(table) => definition::describe_fields(&table.schema, &table.type_names),
            None => {
                let full = TableName::new(INFORMATION_SCHEMA, &name.name);
                return Err(placed(missing::table(view, principal, &full), name.position));
            }
        },
        _ => definition::describe_columns(&find_relation(session, principal, view, name)?.1),
    };
    let text = |value: fn(&definition::DescribedColumn) -> Option<&str>| {
        Arc::new(described.iter().map(value).collect::<StringArray>()) as ArrayRef
    };
    let nullable: BooleanArray = described.iter().map(|column| Some(column.nullable)).collect();
    let key: Int32Array = described.iter().map(|column| column.key_position).collect();
    batch(
        schema,
        vec![
            text(|column| Some(&column.name)),
            text(|column| Some(&column.type_name)),
            Arc::new(nullable),
            text(|column| column.default.as_deref()),
            Arc::new(key),
        ],
    )
}

/// The table of that name, if the principal sees one.
///
/// # Errors
/// TABLE_NOT_FOUND with the place of the name.
pub(crate) fn find_table(
    session: &Session,
    principal: &Principal,
    view: &View,
    name: &ObjectName,
) -> Result<Arc<Table>> {
    let full = definition::full_name(session, name);
    match view.catalog().table(&full).filter(|table| principal.sees(table)) {
        Some(table) => Ok(Arc::clone(table)),
        None if views::visible(view, principal, &full).is_some() => {
            Err(placed(views::is_no_table(&full), name.position))
        }
        None => Err(placed(missing::table(view, principal, &full), name.position)),
    }
}

/// Id and columns of the table or view of that name, if the principal sees one.
fn find_relation<'a>(
    session: &Session,
    principal: &Principal,
    view: &'a View,
    name: &ObjectName,
) -> Result<(&'a str, Arc<TableSchema>)> {
    let full = definition::full_name(session, name);
    let table = view.catalog().table(&full).filter(|table| principal.sees(table));
    if let Some(table) = table {
        return Ok((&table.table_id, Arc::clone(&table.schema)));
    }
    match views::visible(view, principal, &full) {
        Some(view) => Ok((&view.view_id, Arc::clone(&view.schema))),
        None => Err(placed(missing::table(view, principal, &full), name.position)),
    }
}

/// What a session can set: name, default, what it does.
const SESSION_OPTIONS: &[(&str, Option<&str>, &str)] = &[
    ("catalog", None, "The catalog; there is only this one."),
    (
        "schema",
        None,
        "The namespace of names that are written without one; USE sets it.",
    ),
    (
        "time_zone",
        Some("UTC"),
        "The time zone in which a TIMESTAMP WITH TIME ZONE is read from text, a local time or a date, and becomes one.",
    ),
    (
        "statement_timeout",
        None,
        "A statement ends after so many milliseconds; 0 for never.",
    ),
    (
        "ingest.table_type",
        Some("SHARED"),
        "The type of a table that bulk ingest creates.",
    ),
    (
        "ingest.primary_key",
        None,
        "The key columns of a table that bulk ingest creates, separated by commas.",
    ),
    (
        "ingest.on_conflict",
        Some("error"),
        "What bulk ingest does with a key that exists: error, replace or ignore.",
    ),
];

fn settings(
    schema: SchemaRef,
    database: &Arc<Database>,
    session: &Session,
    principal: &Principal,
    view: &View,
    wanted: Option<&str>,
) -> Result<RecordBatch> {
    let options = session.options();
    let own = SESSION_OPTIONS.iter().map(|(name, default, description)| {
        let set = options.get(*name).map(shown);
        let source = if set.is_some() { "session" } else { "default" };
        let is_timeout = *name == "statement_timeout";
        let server = is_timeout.then(|| database.options().statement_timeout_ms.to_string());
        ShownSetting {
            name: name.to_string(),
            value: set.or(server).or(default.map(str::to_string)),
            unit: if is_timeout { "ms".to_string() } else { String::new() },
            source: source.to_string(),
            description: description.to_string(),
        }
    });
    let mut all: Vec<ShownSetting> = own.collect();
    // The server's settings show to those who see system.settings.
    let visible = system_tables::rows(database, principal, view, SystemTable::Settings)?.num_rows() > 0;
    for setting in database.options().settings.iter().filter(|_| visible) {
        if !all.iter().any(|shown| shown.name == setting.name) {
            let Setting {
                name,
                value,
                unit,
                default: _,
                source,
                description,
            } = setting.clone();
            all.push(ShownSetting {
                name,
                value: Some(value),
                unit,
                source,
                description,
            });
        }
    }
    if let Some(wanted) = wanted {
        let known = all
            .iter()
            .map(|setting| setting.name.as_str())
            .chain(LISTS.iter().copied());
        let hint = suggestion(wanted, known);
        all.retain(|setting| setting.name == wanted);
        if all.is_empty() {
            let hint = if hint.is_empty() {
                "; SHOW ALL lists them".to_owned()
            } else {
                hint
            };
            let message = format!("there is no setting '{wanted}'{hint}");
            return Err(Error::new(ErrorCode::NotFound, message));
        }
    }
    let column =
        |value: fn(&ShownSetting) -> Option<&str>| Arc::new(all.iter().map(value).collect::<StringArray>()) as ArrayRef;
    batch(
        schema,
        vec![
            column(|setting| Some(&setting.name)),
            column(|setting| setting.value.as_deref()),
            column(|setting| (!setting.unit.is_empty()).then_some(setting.unit.as_str())),
            column(|setting| Some(&setting.source)),
            column(|setting| Some(&setting.description)),
        ],
    )
}

/// One row of SHOW ALL.
struct ShownSetting {
    name: String,
    value: Option<String>,
    unit: String,
    source: String,
    description: String,
}

fn shown(value: &SessionValue) -> String {
    match value {
        SessionValue::String(text) => text.clone(),
        SessionValue::Bool(value) => value.to_string(),
        SessionValue::Int64(number) => number.to_string(),
        SessionValue::Double(number) => number.to_string(),
        SessionValue::StringList(list) => list.join(","),
    }
}

/// Rows of a stored system table, the columns that `schema` names.
fn of_system_table(
    schema: SchemaRef,
    principal: &Principal,
    view: &View,
    system: SystemTable,
    key: Option<KeyConstraint>,
) -> Result<RecordBatch> {
    let name = TableName::new(SYSTEM_NAMESPACE, system.name());
    let table = view
        .catalog()
        .table(&name)
        .ok_or_else(|| internal(format!("{name} is not in the catalog")))?;
    let fields: Option<Vec<ScanField>> = schema
        .fields()
        .iter()
        .map(|field| table.schema.index_of(field.name()).map(ScanField::Column))
        .collect();
    let fields = fields.ok_or_else(|| internal(format!("{name} lacks a column that SHOW shows")))?;
    let mut scan = view.scan(
        principal,
        table,
        ScanRequest {
            fields,
            key,
            limit: None,
            part: (0, 1),
            order: ScanOrder::Any,
            prune: None,
            batch_rows: BATCH_ROWS,
        },
    )?;
    let mut batches = Vec::new();
    while let Some(rows) = scan.next_batch()? {
        batches.push(chosen(&schema, &rows)?);
    }
    concat_batches(&schema, &batches).map_err(|error| internal(format!("{name}: {error}")))
}

/// Rows at a time while a system table is read.
const BATCH_ROWS: usize = 1_024;

/// The columns that `schema` names.
fn chosen(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let columns: Option<Vec<ArrayRef>> = schema
        .fields()
        .iter()
        .map(|field| rows.column_by_name(field.name()).map(Arc::clone))
        .collect();
    let columns = columns.ok_or_else(|| internal("a system table lacks a column that SHOW shows".to_string()))?;
    batch(Arc::clone(schema), columns)
}

/// A batch of SHOW's rows.
///
/// # Errors
/// INTERNAL if the columns are not those of the schema.
pub(crate) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns).map_err(|error| internal(format!("rows of SHOW: {error}")))
}

fn internal(message: String) -> Error {
    Error::new(ErrorCode::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::testing::{Fixture, Outcome};

    #[test]
    fn rows_are_as_described() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (b TEXT DEFAULT 'x', a INT, PRIMARY KEY (a, b))"]);
        for sql in [
            "SHOW NAMESPACES",
            "SHOW TABLES",
            "SHOW TABLES IN system",
            "SHOW TABLES IN information_schema",
            "SHOW STORAGES",
            "SHOW JOBS",
            "SHOW SEGMENTS",
            "SHOW GRANTS",
            "SHOW QUOTAS",
            "SHOW COLUMNS FROM t",
            "DESCRIBE t",
            "DESCRIBE system.users",
            "DESCRIBE information_schema.tables",
            "DESCRIBE t HISTORY",
            "SHOW ALL",
            "SHOW schema",
        ] {
            let described = fixture
                .block_on(fixture.database.describe(&fixture.root, sql))
                .expect(sql);
            match fixture.execute_as(&fixture.root, sql, Parameters::none()).expect(sql) {
                Outcome::Rows(batches) => {
                    assert!(batches.iter().all(|batch| batch.schema() == described.result), "{sql}");
                    let empty = ["SHOW JOBS", "SHOW SEGMENTS", "SHOW GRANTS", "SHOW QUOTAS"].contains(&sql);
                    assert_eq!(batches.iter().all(|batch| batch.num_rows() == 0), empty, "{sql}");
                }
                Outcome::Done(_) => panic!("{sql} gives no rows"),
            }
        }
        fixture.check("DESCRIBE t", &["b|TEXT|false|'x'|2", "a|INTEGER|false|NULL|1"]);
        fixture.check(
            "SHOW schema",
            &["schema|public|NULL|session|The namespace of names that are written without one; USE sets it."],
        );
        fixture.check_error("SHOW shema", ErrorCode::NotFound, Some((1, 6)), "schema");
        fixture.check_error(
            "SHOW TABLES IN nowhere",
            ErrorCode::NamespaceNotFound,
            Some((1, 16)),
            "nowhere",
        );
    }

    #[test]
    fn everyone_is_shown_what_they_may_know() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE NAMESPACE hidden",
            "CREATE TABLE hidden.secret (a INT)",
            "CREATE TABLE open (a INT) WITH (ACCESS_LEVEL = 'public')",
        ]);
        let ann = fixture.session("ann");
        let rows = |sql: &str| fixture.rows_as(&ann, sql, Parameters::none()).join("\n");
        assert!(rows("SHOW TABLES").contains("public|open|SHARED|public"));
        assert!(!rows("SHOW TABLES").contains("secret"));
        assert!(!rows("SHOW NAMESPACES").contains("hidden"));
        assert!(rows("SHOW ALL").contains("time_zone"));
        for sql in [
            "DESCRIBE hidden.secret",
            "SHOW COLUMNS FROM hidden.secret",
            "DESCRIBE hidden.secret HISTORY",
        ] {
            let error = fixture.execute_as(&ann, sql, Parameters::none()).expect_err(sql);
            assert_eq!(error.code, ErrorCode::TableNotFound, "{sql}: {error}");
        }
        let error = fixture
            .execute_as(&ann, "SHOW TABLES IN hidden", Parameters::none())
            .expect_err("unseen");
        assert_eq!(error.code, ErrorCode::NamespaceNotFound, "{error}");
    }

    #[test]
    fn every_session_option_is_one() {
        let fixture = Fixture::new();
        for (name, ..) in SESSION_OPTIONS {
            fixture.root.set_option(name, None).expect(name);
        }
    }
}
