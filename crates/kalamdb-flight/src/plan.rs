//! A statement as the protocol describes it before it runs: its kind, its schemas with the protocol's field metadata, and the
//! check that what was bound fits. Running is not here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, INFORMATION_SCHEMA, Result, SYSTEM_NAMESPACE, TableName, field_type_name};
use kalamdb_sql::{Description, StatementKind};

use crate::command::CATALOG;

/// Every key of the protocol's field metadata starts so.
pub(crate) const METADATA_PREFIX: &str = "ARROW:FLIGHT:SQL:";

/// A described statement.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Query, update or operation.
    pub(crate) kind: StatementKind,
    /// What FlightInfo states and DoGet sends; no columns for an update.
    pub(crate) schema: SchemaRef,
    /// The same as an encapsulated IPC message.
    pub(crate) schema_message: Bytes,
    /// One field per parameter.
    pub(crate) parameters: SchemaRef,
    /// Whether the schema may be another with values bound of other types.
    pub(crate) follows_bound_types: bool,
}

impl Plan {
    /// The plan of a description.
    ///
    /// # Errors
    /// INTERNAL when a schema cannot be encoded.
    pub(crate) fn of(description: Description) -> Result<Plan> {
        let schema = match description.kind {
            StatementKind::Update => Arc::new(Schema::empty()),
            StatementKind::Query | StatementKind::Operation => result_schema(&description.result, &description.origins),
        };
        let schema_message = schema_message(&schema)?;
        Ok(Plan {
            kind: description.kind,
            schema,
            schema_message,
            parameters: description.parameters,
            follows_bound_types: description.follows_bound_types,
        })
    }

    /// Checks before anything runs that what was bound fits: as many columns as parameters, and for a query one row.
    ///
    /// # Errors
    /// INVALID_ARGUMENT says how many are wanted.
    pub(crate) fn check_parameters(&self, bound: Option<&RecordBatch>) -> Result<()> {
        let (wanted, given) = (
            self.parameters.fields().len(),
            bound.map_or(0, RecordBatch::num_columns),
        );
        if wanted != given {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("the statement takes {wanted} parameters, but {given} are bound"),
            ));
        }
        match (self.kind, bound.map(RecordBatch::num_rows)) {
            (StatementKind::Query, Some(rows)) if rows != 1 && wanted > 0 => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("a query takes one row of parameters, but {rows} are bound"),
            )),
            (StatementKind::Query | StatementKind::Update | StatementKind::Operation, _) => Ok(()),
        }
    }
}

/// A schema as an encapsulated IPC message: what FlightInfo, SchemaResult and GetTables hold.
///
/// # Errors
/// INTERNAL.
pub(crate) fn schema_message(schema: &Schema) -> Result<Bytes> {
    IpcMessage::try_from(SchemaAsIpc::new(schema, &IpcWriteOptions::default()))
        .map(|message| message.0)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("a schema could not be encoded: {error}")))
}

/// The columns of a table with the protocol's metadata, for GetTables; `type_names` has a name per column.
pub(crate) fn table_schema(schema: &Schema, name: &TableName, type_names: &[String]) -> Schema {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let type_name = type_names.get(index).cloned().unwrap_or_else(|| field_type_name(field));
            described(field, Some(name), type_name)
        })
        .collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// The columns of a result with the protocol's metadata beside what was stored with the column.
fn result_schema(schema: &Schema, origins: &[Option<TableName>]) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let origin = origins.get(index).and_then(Option::as_ref);
            described(field, origin, field_type_name(field))
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn described(field: &Field, origin: Option<&TableName>, type_name: String) -> Field {
    let mut metadata: HashMap<String, String> = without_protocol_keys(field.metadata());
    let mut put = |key: &str, value: String| {
        metadata.insert(format!("{METADATA_PREFIX}{key}"), value);
    };
    if let Some(table) = origin {
        put("CATALOG_NAME", CATALOG.to_owned());
        put("DB_SCHEMA_NAME", table.namespace.clone());
        put("TABLE_NAME", table.table.clone());
    }
    put("TYPE_NAME", type_name);
    if let Some(precision) = precision(field.data_type()) {
        put("PRECISION", precision.to_string());
    }
    if let Some(scale) = scale(field.data_type()) {
        put("SCALE", scale.to_string());
    }
    let read_only =
        origin.is_none_or(|table| [SYSTEM_NAMESPACE, INFORMATION_SCHEMA].contains(&table.namespace.as_str()));
    put("IS_AUTO_INCREMENT", flag(false));
    put(
        "IS_CASE_SENSITIVE",
        flag(matches!(
            field.data_type(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )),
    );
    put("IS_READ_ONLY", flag(read_only));
    put("IS_SEARCHABLE", flag(!field.data_type().is_nested()));
    field.clone().with_metadata(metadata)
}

/// Field metadata without the protocol's own: what a client loads may have been fetched from another table.
pub(crate) fn without_protocol_keys(metadata: &HashMap<String, String>) -> HashMap<String, String> {
    metadata
        .iter()
        .filter(|(key, _)| !key.starts_with(METADATA_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn flag(value: bool) -> String {
    if value { "1" } else { "0" }.to_owned()
}

/// Decimal digits of numbers, characters of dates and times as text; none where a length has no bound.
fn precision(data_type: &DataType) -> Option<i32> {
    Some(match data_type {
        DataType::Boolean => 1,
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        DataType::UInt64 => 20,
        DataType::Float16 => 3,
        DataType::Float32 => 7,
        DataType::Float64 => 15,
        DataType::Decimal32(precision, _)
        | DataType::Decimal64(precision, _)
        | DataType::Decimal128(precision, _)
        | DataType::Decimal256(precision, _) => i32::from(*precision),
        DataType::Date32 | DataType::Date64 => 10,
        DataType::Time32(unit) | DataType::Time64(unit) => 8 + fraction(*unit),
        DataType::Timestamp(unit, _) => 19 + fraction(*unit),
        DataType::FixedSizeBinary(bytes) => *bytes,
        _ => return None,
    })
}

fn scale(data_type: &DataType) -> Option<i32> {
    Some(match data_type {
        DataType::Int8
        | DataType::UInt8
        | DataType::Int16
        | DataType::UInt16
        | DataType::Int32
        | DataType::UInt32
        | DataType::Int64
        | DataType::UInt64 => 0,
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => i32::from(*scale),
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => digits(*unit),
        _ => return None,
    })
}

/// Characters of a second's fraction, its point included.
fn fraction(unit: TimeUnit) -> i32 {
    match digits(unit) {
        0 => 0,
        digits => digits + 1,
    }
}

fn digits(unit: TimeUnit) -> i32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::ipc::convert::try_schema_from_ipc_buffer;

    fn plan(kind: StatementKind, parameters: usize) -> Plan {
        let stored = HashMap::from([
            ("unit".to_owned(), "EUR".to_owned()),
            (format!("{METADATA_PREFIX}TABLE_NAME"), "x".to_owned()),
        ]);
        let result = Schema::new(vec![
            Field::new("price", DataType::Decimal128(10, 2), false).with_metadata(stored.clone()),
            Field::new("doubled", DataType::Decimal128(12, 2), true).with_metadata(stored),
        ]);
        let parameters: Vec<Field> = (0..parameters)
            .map(|index| Field::new(format!("${}", index + 1), DataType::Int64, true))
            .collect();
        Plan::of(Description {
            kind,
            result: Arc::new(result),
            origins: vec![Some(TableName::new("shop", "items")), None],
            parameters: Arc::new(Schema::new(parameters)),
            follows_bound_types: false,
        })
        .expect("plans")
    }

    #[test]
    fn result_columns_say_where_they_come_from() {
        let plan = plan(StatementKind::Query, 0);
        let check = |column: usize, key: &str, expected: Option<&str>| {
            let metadata = plan.schema.field(column).metadata();
            let found = metadata
                .get(key)
                .or_else(|| metadata.get(&format!("{METADATA_PREFIX}{key}")));
            assert_eq!(found.map(String::as_str), expected, "{key}");
        };
        check(0, "CATALOG_NAME", Some("kalam"));
        check(0, "DB_SCHEMA_NAME", Some("shop"));
        check(0, "TABLE_NAME", Some("items"));
        check(0, "TYPE_NAME", Some("DECIMAL(10, 2)"));
        check(0, "PRECISION", Some("10"));
        check(0, "SCALE", Some("2"));
        check(0, "IS_READ_ONLY", Some("0"));
        check(0, "unit", Some("EUR"));
        check(1, "TABLE_NAME", None);
        check(1, "IS_READ_ONLY", Some("1"));
        check(1, "unit", Some("EUR"));
        let decoded = try_schema_from_ipc_buffer(&plan.schema_message).expect("decodes");
        assert_eq!(decoded, *plan.schema);
    }

    #[test]
    fn an_update_has_no_columns() {
        assert!(plan(StatementKind::Update, 0).schema.fields().is_empty());
    }

    #[test]
    fn parameters_must_fit_before_anything_runs() {
        let batch = |columns: usize, rows: usize| {
            let column: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
            RecordBatch::try_from_iter((0..columns).map(|index| (format!("${index}"), Arc::clone(&column))))
                .expect("a batch")
        };
        let check = |kind, parameters: usize, bound: Option<RecordBatch>, fits: bool| {
            assert_eq!(
                plan(kind, parameters).check_parameters(bound.as_ref()).is_ok(),
                fits,
                "{parameters} {bound:?}"
            );
        };
        check(StatementKind::Query, 0, None, true);
        check(StatementKind::Query, 1, None, false);
        check(StatementKind::Query, 0, Some(batch(1, 1)), false);
        check(StatementKind::Query, 2, Some(batch(2, 1)), true);
        check(StatementKind::Query, 2, Some(batch(2, 2)), false);
        check(StatementKind::Update, 2, Some(batch(2, 2)), true);
        check(StatementKind::Update, 2, Some(batch(1, 2)), false);
    }
}
