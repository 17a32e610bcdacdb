//! What the row codec must know of a table: column types, key columns and lifetime. Names and meaning stay above.

use arrow::datatypes::DataType;

use crate::ids::{ColumnId, SchemaVersion};

/// How long a store's rows live, which also decides the column family they are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// Until removed.
    #[default]
    Durable,
    /// Each row carries an expiry (µs since the epoch); at and after it the row does not exist.
    Expiring,
}

/// One column as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredColumn {
    /// Its id for ever.
    pub id: ColumnId,
    /// Its plain Arrow type: never a view, a dictionary or run-end encoded.
    pub data_type: DataType,
}

/// The physical schema of a store at one version. Columns are in table order.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSchema {
    /// Written into each row.
    pub version: SchemaVersion,
    /// In table order; each may hold nulls as far as the store is concerned.
    pub columns: Vec<StoredColumn>,
    /// Indices into `columns`, in key order. Empty: the `_seq` of the insert is the hidden key.
    pub key: Vec<usize>,
    /// Durable or expiring.
    pub lifetime: Lifetime,
}
