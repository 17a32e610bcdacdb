//! `information_schema`: the catalog in the standard's tables, as PostgreSQL fills them, filtered as the metadata commands are.
//!
//! `routines` and `parameters` are DataFusion's. Its other tables show what does not fit: columns counted from 0, every table
//! among the views, settings of the host.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{MemoryCatalogProviderList, SchemaProvider, Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::FutureExt;
use kalamdb_core::{Error, ErrorCode, Principal, Result, View};

use crate::diagnostics;
use crate::metadata::{self, TableFilter, TableInfo};
use crate::names::CATALOG;
use crate::rights;

/// Its tables, by name.
pub(crate) const TABLES: &[&str] = &[
    "columns",
    "parameters",
    "routines",
    "schemata",
    "table_privileges",
    "tables",
    "views",
];

/// The most that one text may hold, bytes, as far as its type says.
const MOST_TEXT_BYTES: i32 = i32::MAX;

/// A table of the schema, as `principal` sees it in `view`.
///
/// # Errors
/// INTERNAL.
pub(crate) fn table(name: &str, view: &View, principal: &Principal) -> Result<Option<Arc<dyn TableProvider>>> {
    let contents = match name {
        "tables" => Contents::Tables,
        "views" => Contents::Views,
        "columns" => Contents::Columns,
        "schemata" => Contents::Schemata,
        "table_privileges" => Contents::TablePrivileges,
        "routines" | "parameters" => return functions(name).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(CatalogTable {
        contents,
        schema: contents.schema(),
        view: view.clone(),
        principal: principal.clone(),
    })))
}

/// The columns of a table of the schema.
///
/// # Errors
/// INTERNAL.
pub(crate) fn schema(name: &str) -> Result<Option<SchemaRef>> {
    Ok(Some(match name {
        "tables" => Contents::Tables.schema(),
        "views" => Contents::Views.schema(),
        "columns" => Contents::Columns.schema(),
        "schemata" => Contents::Schemata.schema(),
        "table_privileges" => Contents::TablePrivileges.schema(),
        "routines" | "parameters" => functions(name)?.schema(),
        _ => return Ok(None),
    }))
}

/// DataFusion's tables of functions, which do not depend on what catalogs hold.
fn functions(name: &str) -> Result<Arc<dyn TableProvider>> {
    let provider = InformationSchemaProvider::new(Arc::new(MemoryCatalogProviderList::new()));
    let table = provider
        .table(name)
        .now_or_never()
        .transpose()
        .map_err(diagnostics::from_datafusion)?
        .flatten();
    table.ok_or_else(|| Error::new(ErrorCode::Internal, format!("information_schema.{name} is not there")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Tables,
    Views,
    Columns,
    Schemata,
    /// What was granted; what roles may is not here.
    TablePrivileges,
}

impl Contents {
    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let maybe_text = |name: &str| Field::new(name, DataType::Utf8, true);
        let number = |name: &str| Field::new(name, DataType::Int32, false);
        let maybe_number = |name: &str| Field::new(name, DataType::Int32, true);
        Arc::new(Schema::new(match self {
            Contents::Tables => vec![
                text("table_catalog"),
                text("table_schema"),
                text("table_name"),
                text("table_type"),
            ],
            Contents::Views => vec![
                text("table_catalog"),
                text("table_schema"),
                text("table_name"),
                maybe_text("view_definition"),
                text("check_option"),
                text("is_updatable"),
                text("is_insertable_into"),
            ],
            Contents::Columns => vec![
                text("table_catalog"),
                text("table_schema"),
                text("table_name"),
                text("column_name"),
                number("ordinal_position"),
                maybe_text("column_default"),
                text("is_nullable"),
                text("data_type"),
                maybe_number("character_maximum_length"),
                maybe_number("character_octet_length"),
                maybe_number("numeric_precision"),
                maybe_number("numeric_precision_radix"),
                maybe_number("numeric_scale"),
                maybe_number("datetime_precision"),
                maybe_text("interval_type"),
            ],
            Contents::Schemata => vec![
                text("catalog_name"),
                text("schema_name"),
                maybe_text("schema_owner"),
                maybe_text("default_character_set_catalog"),
                maybe_text("default_character_set_schema"),
                maybe_text("default_character_set_name"),
                maybe_text("sql_path"),
            ],
            Contents::TablePrivileges => vec![
                text("grantor"),
                text("grantee"),
                text("table_catalog"),
                text("table_schema"),
                text("table_name"),
                text("privilege_type"),
                text("is_grantable"),
                text("with_hierarchy"),
            ],
        }))
    }
}

/// A table that is made of the catalog when it is read.
struct CatalogTable {
    contents: Contents,
    schema: SchemaRef,
    view: View,
    principal: Principal,
}

impl fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogTable")
            .field("contents", &self.contents)
            .finish_non_exhaustive()
    }
}

impl CatalogTable {
    fn rows(&self) -> Result<RecordBatch> {
        let of_types = |types: &[&str]| {
            let filter = TableFilter {
                table_types: types.iter().map(|table_type| (*table_type).to_owned()).collect(),
                ..TableFilter::default()
            };
            metadata::visible_tables(&self.view, &self.principal, &filter)
        };
        let columns = match self.contents {
            Contents::Tables => tables(&of_types(&[])?),
            Contents::Views => self.views(&of_types(&[metadata::VIEW_TYPE])?),
            Contents::Columns => columns(&of_types(&[])?),
            Contents::Schemata => self.schemata(),
            Contents::TablePrivileges => self.table_privileges()?,
        };
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| diagnostics::from_arrow(&error))
    }

    /// The columns from `first` on, without a value in any row.
    fn unknown(&self, first: usize, rows: usize) -> impl Iterator<Item = ArrayRef> + '_ {
        let fields = self.schema.fields().iter().skip(first);
        fields.map(move |field| new_null_array(field.data_type(), rows))
    }

    fn views(&self, views: &[TableInfo]) -> Vec<ArrayRef> {
        let mut columns = names(views.iter());
        columns.push(text(views.iter().map(|view| view.definition.as_deref())));
        columns.push(every("NONE", views.len()));
        columns.push(every("NO", views.len()));
        columns.push(every("NO", views.len()));
        columns
    }

    fn table_privileges(&self) -> Result<Vec<ArrayRef>> {
        let privileges = rights::table_privileges(&self.view, &self.principal)?;
        let rows = privileges.len();
        let each = || privileges.iter();
        Ok(vec![
            text(each().map(|(_, grant)| Some(&grant.granted_by))),
            text(each().map(|(_, grant)| Some(&grant.user_id))),
            every(CATALOG, rows),
            text(each().map(|(name, _)| Some(&name.namespace))),
            text(each().map(|(name, _)| Some(&name.table))),
            text(each().map(|(_, grant)| Some(grant.privilege.as_str()))),
            every("NO", rows),
            every("NO", rows),
        ])
    }

    fn schemata(&self) -> Vec<ArrayRef> {
        let namespaces = metadata::visible_namespaces(&self.view, &self.principal);
        let rows = namespaces.len();
        let mut columns = vec![every(CATALOG, rows), text(namespaces.into_iter().map(Some))];
        columns.extend(self.unknown(columns.len(), rows));
        columns
    }
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let rows = self
            .rows()
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![rows]],
            Arc::clone(&self.schema),
            projection.cloned(),
        )?)
    }
}

fn tables(tables: &[TableInfo]) -> Vec<ArrayRef> {
    let mut columns = names(tables.iter());
    columns.push(text(tables.iter().map(|table| {
        Some(match table.table_type.as_str() {
            metadata::VIEW_TYPE => "VIEW",
            _ => "BASE TABLE",
        })
    })));
    columns
}

fn columns(tables: &[TableInfo]) -> Vec<ArrayRef> {
    let each = || {
        tables.iter().flat_map(|table| {
            let fields = table.schema.fields().iter().enumerate();
            fields.map(move |(index, field)| (table, index, field))
        })
    };
    let numbers = |of: fn(&DataType) -> Option<i32>| {
        let numbers: Int32Array = each().map(|(.., field)| of(field.data_type())).collect();
        Arc::new(numbers) as ArrayRef
    };
    let positions: Int32Array = each().map(|(_, index, _)| i32::try_from(index + 1).ok()).collect(); // Far fewer columns.
    let mut columns = names(each().map(|(table, ..)| table));
    let rows = positions.len();
    columns.extend([
        text(each().map(|(.., field)| Some(field.name()))),
        Arc::new(positions) as ArrayRef,
        text(each().map(|(table, index, _)| table.defaults[index].as_deref())),
        text(each().map(|(.., field)| Some(if field.is_nullable() { "YES" } else { "NO" }))),
        text(each().map(|(table, index, _)| Some(&table.type_names[index]))),
        new_null_array(&DataType::Int32, rows),
        numbers(|data_type| data_type.is_string().then_some(MOST_TEXT_BYTES)),
        numbers(|data_type| number(data_type).map(|(precision, ..)| precision)),
        numbers(|data_type| number(data_type).map(|(_, radix, _)| radix)),
        numbers(|data_type| number(data_type).and_then(|(.., scale)| scale)),
        numbers(second_digits),
        new_null_array(&DataType::Utf8, rows),
    ]);
    columns
}

/// Catalog, namespace and name.
fn names<'a>(tables: impl Iterator<Item = &'a TableInfo> + Clone) -> Vec<ArrayRef> {
    vec![
        text(tables.clone().map(|_| Some(CATALOG))),
        text(tables.clone().map(|table| Some(&table.namespace))),
        text(tables.map(|table| Some(&table.name))),
    ]
}

fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn every(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![value; rows]))
}

/// Precision, the base it is counted in, and the scale of exact numbers.
fn number(data_type: &DataType) -> Option<(i32, i32, Option<i32>)> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => (8, 2, Some(0)),
        DataType::Int16 | DataType::UInt16 => (16, 2, Some(0)),
        DataType::Int32 | DataType::UInt32 => (32, 2, Some(0)),
        DataType::Int64 | DataType::UInt64 => (64, 2, Some(0)),
        DataType::Float16 => (11, 2, None),
        DataType::Float32 => (24, 2, None),
        DataType::Float64 => (53, 2, None),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (i32::from(*precision), 10, Some(i32::from(*scale))),
        _ => return None,
    })
}

/// Digits of a second's fraction.
fn second_digits(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::Date32 | DataType::Date64 => Some(0),
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => Some(match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    #[test]
    fn the_catalog_is_shown_as_the_standard_has_it() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE NAMESPACE shop",
            "CREATE TABLE shop.items (name TEXT NOT NULL DEFAULT 'x', id BIGINT PRIMARY KEY, price DECIMAL(15, 2), \
             at TIMESTAMP, weight DOUBLE)",
        ]);
        fixture.check(
            "SELECT ordinal_position, column_name, column_default, is_nullable, data_type, numeric_precision, \
             numeric_scale, datetime_precision FROM information_schema.columns \
             WHERE table_schema = 'shop' ORDER BY ordinal_position",
            &[
                "1|name|'x'|NO|TEXT|NULL|NULL|NULL",
                "2|id|NULL|NO|BIGINT|64|0|NULL",
                "3|price|NULL|YES|DECIMAL(15, 2)|15|2|NULL",
                "4|at|NULL|YES|TIMESTAMP(6)|NULL|NULL|6",
                "5|weight|NULL|YES|DOUBLE|53|NULL|NULL",
            ],
        );
        fixture.check(
            "SELECT table_type, count(*) FROM information_schema.tables \
             WHERE table_schema IN ('shop', 'information_schema') GROUP BY table_type ORDER BY table_type",
            &["BASE TABLE|1", "VIEW|7"],
        );
        fixture.check(
            "SELECT table_schema, table_name FROM information_schema.views ORDER BY table_name",
            &[
                "information_schema|columns",
                "information_schema|parameters",
                "information_schema|routines",
                "information_schema|schemata",
                "information_schema|table_privileges",
                "information_schema|tables",
                "information_schema|views",
            ],
        );
        fixture.check(
            "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name",
            &["information_schema", "public", "shop", "system"],
        );
        assert!(
            !fixture
                .rows("SELECT routine_name FROM information_schema.routines")
                .is_empty()
        );
        fixture.check_error(
            "SELECT * FROM information_schema.df_settings",
            ErrorCode::TableNotFound,
            Some((1, 15)),
            "df_settings",
        );
        assert_eq!(fixture.rows("SHOW TABLES IN information_schema").len(), 7);
    }

    #[test]
    fn what_one_may_not_see_is_not_shown() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE NAMESPACE hidden",
            "CREATE TABLE hidden.secret (a INT)",
            "CREATE TABLE open (a INT) WITH (ACCESS_LEVEL = 'public')",
        ]);
        let ann = fixture.session("ann");
        for (table, column) in [
            ("tables", "table_schema"),
            ("columns", "table_schema"),
            ("schemata", "schema_name"),
        ] {
            let sql = format!("SELECT DISTINCT {column} FROM information_schema.{table} ORDER BY {column}");
            assert_eq!(
                fixture.rows_as(&ann, &sql, Parameters::none()),
                ["information_schema", "public", "system"],
                "{table}"
            );
        }
    }
}
