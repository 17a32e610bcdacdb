//! A table's columns at one version, as SQL sees them, and the store's view of the same. Where they are kept is not here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::convert::{IpcSchemaEncoder, fb_to_schema};
use arrow::ipc::root_as_schema;
use kalamdb_store::{ColumnId, Lifetime, SchemaVersion, StoreSchema, StoredColumn};

use crate::type_name::type_name;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its id for ever.
    pub id: ColumnId,
    /// Its name now.
    pub name: String,
    /// Its plain Arrow type, as stored and as fetched.
    pub data_type: DataType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// DEFAULT, as SQL text.
    pub default: Option<String>,
    /// Arrow field metadata that came with a bulk load or names an extension type.
    pub metadata: HashMap<String, String>,
    /// Kept by the catalog for itself: no SQL sees it.
    pub internal: bool,
}

/// A table's schema at one version.
#[derive(Clone, Debug)]
pub struct TableSchema {
    /// From 1.
    pub version: SchemaVersion,
    /// In table order.
    pub columns: Vec<Column>,
    /// Indices of the primary key's columns, in key order; empty for a table without one.
    pub primary_key: Vec<usize>,
    /// The columns that SQL sees (all but internal ones), as an Arrow schema.
    pub arrow: SchemaRef,
    /// All columns, for the row codec.
    pub stored: Arc<StoreSchema>,
}

/// A column as `system.table_schemas.columns` shows it. Its exact Arrow type is beside it, in [`TableSchema::types_bytes`].
#[derive(serde::Serialize, serde::Deserialize)]
struct ColumnRecord {
    id: u32,
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    nullable: bool,
    default: Option<String>,
    primary_key: bool,
    /// Place in the key, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key_position: Option<usize>,
}

impl Column {
    /// The column as an Arrow field.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), self.nullable).with_metadata(self.metadata.clone())
    }

    /// Its type in SQL's words, such as `BIGINT`, `DECIMAL(10, 2)` or `TEXT[]`.
    pub fn type_name(&self) -> String {
        type_name(&self.data_type, &self.metadata)
    }
}

impl TableSchema {
    /// A schema of these columns; `primary_key` are indices of them, in key order.
    pub fn new(version: SchemaVersion, columns: Vec<Column>, primary_key: Vec<usize>, lifetime: Lifetime) -> Self {
        let visible: Vec<Field> = columns
            .iter()
            .filter(|column| !column.internal)
            .map(Column::field)
            .collect();
        let stored = columns
            .iter()
            .map(|column| StoredColumn {
                id: column.id,
                data_type: column.data_type.clone(),
            })
            .collect();
        let stored = StoreSchema {
            version,
            columns: stored,
            key: primary_key.clone(),
            lifetime,
        };
        TableSchema {
            version,
            columns,
            primary_key,
            arrow: Arc::new(Schema::new(visible)),
            stored: Arc::new(stored),
        }
    }

    /// The index in `columns` of the column with this exact name that SQL sees.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| !column.internal && column.name == name)
    }

    /// The primary key's columns by name, separated by commas, for messages.
    pub fn key_names(&self) -> String {
        let names: Vec<&str> = self
            .primary_key
            .iter()
            .map(|&index| self.columns[index].name.as_str())
            .collect();
        names.join(", ")
    }

    /// The columns as the JSON array of `system.table_schemas.columns`.
    pub(crate) fn columns_json(&self) -> String {
        let records: Vec<ColumnRecord> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let key_position = self.primary_key.iter().position(|&key| key == index);
                ColumnRecord {
                    id: column.id.0,
                    name: column.name.clone(),
                    type_name: column.type_name(),
                    nullable: column.nullable,
                    default: column.default.clone(),
                    primary_key: key_position.is_some(),
                    key_position: key_position.map(|position| position + 1),
                }
            })
            .collect();
        serde_json::to_string(&records).expect("strings, numbers and booleans always serialise")
    }

    /// The columns' exact Arrow types and metadata: an Arrow schema as a flatbuffer of Arrow's IPC format.
    pub(crate) fn types_bytes(&self) -> Vec<u8> {
        let fields: Vec<Field> = self.columns.iter().map(Column::field).collect();
        IpcSchemaEncoder::new()
            .schema_to_fb(&Schema::new(fields))
            .finished_data()
            .to_vec()
    }

    /// What [`TableSchema::columns_json`] and [`TableSchema::types_bytes`] kept. The error says what does not fit.
    pub(crate) fn load(
        version: SchemaVersion,
        columns_json: &str,
        types_bytes: &[u8],
        lifetime: Lifetime,
    ) -> Result<Self, String> {
        let records: Vec<ColumnRecord> = serde_json::from_str(columns_json).map_err(|error| error.to_string())?;
        let types = fb_to_schema(root_as_schema(types_bytes).map_err(|error| error.to_string())?);
        if records.len() != types.fields().len() {
            return Err(format!("{} columns but {} types", records.len(), types.fields().len()));
        }
        let mut key: Vec<(usize, usize)> = Vec::new();
        let mut columns = Vec::with_capacity(records.len());
        for (index, (record, field)) in records.into_iter().zip(types.fields()).enumerate() {
            if let Some(position) = record.key_position {
                key.push((position, index));
            }
            columns.push(Column {
                id: ColumnId(record.id),
                name: record.name,
                data_type: field.data_type().clone(),
                nullable: record.nullable,
                default: record.default,
                metadata: field.metadata().clone(),
                internal: false,
            });
        }
        key.sort_unstable();
        let primary_key = key.into_iter().map(|(_, index)| index).collect();
        Ok(TableSchema::new(version, columns, primary_key, lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Fields, TimeUnit};

    #[test]
    fn what_is_kept_of_a_schema_makes_the_same_schema() {
        let types = [
            DataType::Int64,
            DataType::Decimal128(38, 10),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            DataType::FixedSizeBinary(16),
            DataType::List(Arc::new(Field::new("element", DataType::LargeUtf8, false))),
            DataType::Struct(Fields::from(vec![
                Field::new("a b", DataType::Float32, true)
                    .with_metadata(HashMap::from([("k".to_owned(), "v".to_owned())])),
            ])),
        ];
        let columns: Vec<Column> = types
            .into_iter()
            .enumerate()
            .map(|(index, data_type)| Column {
                id: ColumnId(u32::try_from(index).expect("few") + 7),
                name: format!("c\"{index}"),
                data_type,
                nullable: index > 1,
                default: (index == 2).then(|| "now()".to_owned()),
                metadata: HashMap::from([("ARROW:extension:name".to_owned(), "x".to_owned())]),
                internal: false,
            })
            .collect();
        let schema = TableSchema::new(SchemaVersion(3), columns, vec![1, 0], Lifetime::Durable);
        let loaded = TableSchema::load(
            SchemaVersion(3),
            &schema.columns_json(),
            &schema.types_bytes(),
            Lifetime::Durable,
        )
        .expect("loads");
        assert_eq!(loaded.columns, schema.columns);
        assert_eq!(loaded.primary_key, [1, 0]);
        assert_eq!(loaded.stored, schema.stored);
        assert_eq!(loaded.arrow, schema.arrow);
    }

    #[test]
    fn the_visible_form_is_readable() {
        let column = Column {
            id: ColumnId(1),
            name: "a".to_owned(),
            data_type: DataType::Int64,
            nullable: false,
            default: None,
            metadata: HashMap::new(),
            internal: false,
        };
        let schema = TableSchema::new(SchemaVersion(1), vec![column], vec![0], Lifetime::Durable);
        assert_eq!(
            schema.columns_json(),
            r#"[{"id":1,"name":"a","type":"BIGINT","nullable":false,"default":null,"primary_key":true,"key_position":1}]"#
        );
    }
}
