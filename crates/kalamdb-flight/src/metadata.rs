//! The metadata commands of the protocol: their schemas and their rows, as the caller may see them.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::metadata::{SqlInfoDataBuilder, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use kalamdb_core::{Error, ErrorCode, Result, TableName};
use kalamdb_sql::{Database, Session, TableFilter};

use crate::command::{CATALOG, MetadataCommand};
use crate::plan::{schema_message, table_schema};
use crate::sql_info::SqlInfoTable;
use crate::type_info::TypeInfo;

/// The table types that GetTables knows, in order.
const TABLE_TYPES: [&str; 3] = ["SYSTEM TABLE", "TABLE", "VIEW"];

static CATALOGS: LazyLock<SchemaRef> = LazyLock::new(|| schema(&[("catalog_name", DataType::Utf8, false)]));

static DB_SCHEMAS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, false),
    ])
});

static TABLES: LazyLock<SchemaRef> = LazyLock::new(|| schema(&table_columns()));

static TABLES_WITH_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut columns = table_columns();
    columns.push(("table_schema", DataType::Binary, false));
    schema(&columns)
});

static TABLE_TYPE: LazyLock<SchemaRef> = LazyLock::new(|| schema(&[("table_type", DataType::Utf8, false)]));

static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("column_name", DataType::Utf8, false),
        ("key_name", DataType::Utf8, true),
        ("key_sequence", DataType::Int32, false),
    ])
});

/// Of imported and exported keys and of cross references alike.
static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("pk_catalog_name", DataType::Utf8, true),
        ("pk_db_schema_name", DataType::Utf8, true),
        ("pk_table_name", DataType::Utf8, false),
        ("pk_column_name", DataType::Utf8, false),
        ("fk_catalog_name", DataType::Utf8, true),
        ("fk_db_schema_name", DataType::Utf8, true),
        ("fk_table_name", DataType::Utf8, false),
        ("fk_column_name", DataType::Utf8, false),
        ("key_sequence", DataType::Int32, false),
        ("fk_key_name", DataType::Utf8, true),
        ("pk_key_name", DataType::Utf8, true),
        ("update_rule", DataType::UInt8, false),
        ("delete_rule", DataType::UInt8, false),
    ])
});

static SQL_INFO: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(SqlInfoDataBuilder::schema().clone()));

static XDBC_TYPE_INFO: LazyLock<SchemaRef> = LazyLock::new(|| XdbcTypeInfoDataBuilder::new().schema());

/// What does not change while the server runs.
pub(crate) struct Constants {
    pub(crate) sql_info: SqlInfoTable,
    pub(crate) type_info: TypeInfo,
}

impl MetadataCommand {
    /// The columns of the answer, nullability included, as the protocol states them.
    pub(crate) fn schema(&self) -> SchemaRef {
        let schema = match self {
            MetadataCommand::Catalogs => &CATALOGS,
            MetadataCommand::DbSchemas(_) => &DB_SCHEMAS,
            MetadataCommand::Tables(command) if command.include_schema => &TABLES_WITH_SCHEMA,
            MetadataCommand::Tables(_) => &TABLES,
            MetadataCommand::TableTypes => &TABLE_TYPE,
            MetadataCommand::PrimaryKeys(_) => &PRIMARY_KEYS,
            MetadataCommand::ForeignKeys => &FOREIGN_KEYS,
            MetadataCommand::SqlInfo(_) => &SQL_INFO,
            MetadataCommand::XdbcTypeInfo(_) => &XDBC_TYPE_INFO,
        };
        Arc::clone(schema)
    }

    /// The answer.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub(crate) async fn rows(
        &self,
        database: &Arc<Database>,
        session: &Arc<Session>,
        constants: &Constants,
    ) -> Result<RecordBatch> {
        match self {
            MetadataCommand::Catalogs => strings(self.schema(), &[CATALOG]),
            MetadataCommand::DbSchemas(command) => db_schemas(database, session, command).await,
            MetadataCommand::Tables(command) => tables(database, session, command, self.schema()).await,
            MetadataCommand::TableTypes => strings(self.schema(), &TABLE_TYPES),
            MetadataCommand::PrimaryKeys(command) => primary_keys(database, session, command).await,
            // There are no foreign keys, so nothing refers to any table.
            MetadataCommand::ForeignKeys => Ok(RecordBatch::new_empty(self.schema())),
            MetadataCommand::SqlInfo(command) => constants.sql_info.rows(&command.info),
            MetadataCommand::XdbcTypeInfo(command) => constants.type_info.rows(command.data_type),
        }
    }
}

async fn db_schemas(
    database: &Arc<Database>,
    session: &Arc<Session>,
    command: &CommandGetDbSchemas,
) -> Result<RecordBatch> {
    let mut namespaces = if is_ours(command.catalog.as_deref()) {
        database.namespaces(session).await?
    } else {
        Vec::new()
    };
    if let Some(pattern) = &command.db_schema_filter_pattern {
        namespaces.retain(|namespace| is_like(namespace, pattern));
    }
    namespaces.sort_unstable();
    let catalogs: ArrayRef = Arc::new(StringArray::from(vec![CATALOG; namespaces.len()]));
    batch(
        Arc::clone(&DB_SCHEMAS),
        vec![catalogs, Arc::new(StringArray::from(namespaces))],
    )
}

async fn tables(
    database: &Arc<Database>,
    session: &Arc<Session>,
    command: &CommandGetTables,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let filter = TableFilter {
        namespace_pattern: command.db_schema_filter_pattern.clone(),
        table_pattern: command.table_name_filter_pattern.clone(),
        table_types: command.table_types.clone(),
        ..TableFilter::default()
    };
    let found = if is_ours(command.catalog.as_deref()) {
        database.tables(session, &filter).await?
    } else {
        Vec::new()
    };
    let mut schemas = BinaryBuilder::new();
    if command.include_schema {
        for table in &found {
            let name = TableName::new(table.namespace.clone(), table.name.clone());
            schemas.append_value(schema_message(&table_schema(&table.schema, &name, &table.type_names))?);
        }
    }
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![CATALOG; found.len()])),
        Arc::new(StringArray::from_iter_values(
            found.iter().map(|table| &table.namespace),
        )),
        Arc::new(StringArray::from_iter_values(found.iter().map(|table| &table.name))),
        Arc::new(StringArray::from_iter_values(
            found.iter().map(|table| &table.table_type),
        )),
    ];
    if command.include_schema {
        columns.push(Arc::new(schemas.finish()));
    }
    batch(schema, columns)
}

async fn primary_keys(
    database: &Arc<Database>,
    session: &Arc<Session>,
    command: &CommandGetPrimaryKeys,
) -> Result<RecordBatch> {
    let filter = TableFilter {
        namespace: command.db_schema.clone(),
        table: Some(command.table.clone()),
        ..TableFilter::default()
    };
    let found = if is_ours(command.catalog.as_deref()) {
        database.tables(session, &filter).await?
    } else {
        Vec::new()
    };
    let (mut namespaces, mut names, mut columns) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut sequence = Int32Builder::new();
    for table in &found {
        for (position, column) in (1..).zip(&table.primary_key) {
            namespaces.append_value(&table.namespace);
            names.append_value(&table.name);
            columns.append_value(column);
            sequence.append_value(position);
        }
    }
    let sequence = sequence.finish();
    let rows = sequence.values().len();
    let key_names: Vec<Option<&str>> = vec![None; rows];
    batch(
        Arc::clone(&PRIMARY_KEYS),
        vec![
            Arc::new(StringArray::from(vec![CATALOG; rows])),
            Arc::new(namespaces.finish()),
            Arc::new(names.finish()),
            Arc::new(columns.finish()),
            // Keys have no names of their own.
            Arc::new(StringArray::from(key_names)),
            Arc::new(sequence),
        ],
    )
}

/// Whether a catalog filter lets our catalog through. An empty name means what has no catalog, and everything has.
fn is_ours(catalog: Option<&str>) -> bool {
    catalog.is_none_or(|catalog| catalog == CATALOG)
}

/// SQL LIKE with `%`, `_` and `\` as escape.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // `retry` is where to go on when the latest `%` takes in one character more.
    let (mut at, mut position, mut retry) = (0, 0, None);
    while at < text.len() {
        match (pattern.get(position), pattern.get(position + 1)) {
            (Some('%'), _) => {
                position += 1;
                retry = Some((at, position));
            }
            (Some('\\'), Some(&escaped)) if escaped == text[at] => {
                at += 1;
                position += 2;
            }
            (Some(&c), next) if c == '_' || (c == text[at] && !(c == '\\' && next.is_some())) => {
                at += 1;
                position += 1;
            }
            _ => match retry {
                Some((from, after)) => {
                    at = from + 1;
                    position = after;
                    retry = Some((at, after));
                }
                None => return false,
            },
        }
    }
    pattern[position..].iter().all(|&c| c == '%')
}

fn strings(schema: SchemaRef, values: &[&str]) -> Result<RecordBatch> {
    batch(schema, vec![Arc::new(StringArray::from(values.to_vec()))])
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let rows = columns.first().map_or(0, |column| column.len());
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(rows))).map_err(
        |error| {
            Error::new(
                ErrorCode::Internal,
                format!("a metadata answer could not be built: {error}"),
            )
        },
    )
}

fn table_columns() -> Vec<(&'static str, DataType, bool)> {
    vec![
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("table_type", DataType::Utf8, false),
    ]
}

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable))
        .collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns_match_as_in_sql() {
        let check = |text: &str, pattern: &str, expected: bool| {
            assert_eq!(is_like(text, pattern), expected, "{text} LIKE {pattern}");
        };
        check("chat", "chat", true);
        check("chat", "Chat", false);
        check("chat", "%", true);
        check("", "%", true);
        check("", "", true);
        check("", "_", false);
        check("chat", "c%t", true);
        check("chat", "c%a", false);
        check("chat", "_h__", true);
        check("chat", "_h_", false);
        check("a_b", r"a\_b", true);
        check("axb", r"a\_b", false);
        check("a%b", r"a\%b", true);
        check(r"a\b", r"a\\b", true);
        check("aab", "%ab", true);
        check("abab", "%ab%ab%", true);
        check("äö", "_ö", true);
    }

    #[test]
    fn only_our_catalog_passes() {
        assert!(is_ours(None) && is_ours(Some("kalam")));
        assert!(!is_ours(Some("")) && !is_ours(Some("other")));
    }

    #[test]
    fn schemas_are_those_of_the_arrow_crate_where_it_has_them() {
        use arrow_flight::sql::CommandGetCatalogs;
        let tables = |include_schema| CommandGetTables {
            include_schema,
            ..CommandGetTables::default()
        };
        for include_schema in [true, false] {
            let ours = MetadataCommand::Tables(tables(include_schema)).schema();
            assert_eq!(ours, tables(include_schema).into_builder().schema());
        }
        assert_eq!(
            MetadataCommand::Catalogs.schema(),
            CommandGetCatalogs {}.into_builder().schema()
        );
        let db_schemas = CommandGetDbSchemas::default();
        assert_eq!(
            MetadataCommand::DbSchemas(db_schemas.clone()).schema(),
            db_schemas.into_builder().schema()
        );
    }
}
