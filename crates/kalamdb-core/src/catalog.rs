//! The catalog at one moment: namespaces, tables, views and storages by name. Users are rows, read when needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kalamdb_store::{ScopeId, StorageId, StoreId};

use crate::grants::Grantee;
use crate::options::TableOptions;
use crate::quotas::{Quota, Subject};
use crate::schema::TableSchema;
use crate::table_kind::TableKind;
use crate::views::StoredView;

/// A table's full name, both parts as stored (folded or quoted by the caller).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TableName {
    /// Namespace (schema).
    pub namespace: String,
    /// Table.
    pub table: String,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub namespace_id: String,
    /// Free text.
    pub description: Option<String>,
    /// When, µs.
    pub created_at_micros: i64,
    /// When last changed, µs.
    pub updated_at_micros: i64,
}

/// A table: what it is now. `store` changes with TRUNCATE and REPLACE, `table_id` never.
#[derive(Clone, Debug)]
pub struct Table {
    /// For ever.
    pub table_id: String,
    /// Its name.
    pub name: TableName,
    /// Its type.
    pub kind: TableKind,
    /// Its incarnation in the store. Of no meaning for tables that show the running server.
    pub store: StoreId,
    /// Its columns.
    pub schema: Arc<TableSchema>,
    /// The id of the next column that it gets. Ids are never given twice.
    pub next_column_id: u32,
    /// Its options.
    pub options: TableOptions,
    /// When, µs.
    pub created_at_micros: i64,
    /// When last changed, µs.
    pub updated_at_micros: i64,
}

/// A place for segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageEntry {
    /// Its name.
    pub storage_id: String,
    /// What segments name it by, for ever.
    pub id: StorageId,
    /// `filesystem`.
    pub storage_type: String,
    /// Where: a directory; a relative one is in the data directory.
    pub uri: String,
    /// When, µs.
    pub created_at_micros: i64,
    /// When last changed, µs.
    pub updated_at_micros: i64,
}

/// Namespaces, tables, views and storages at one moment, the `system` ones included.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By name.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// By name.
    pub tables: BTreeMap<TableName, Arc<Table>>,
    /// By name; none of them is a table's.
    pub views: BTreeMap<TableName, Arc<StoredView>>,
    /// By name.
    pub storages: BTreeMap<String, Arc<StorageEntry>>,
    /// What users were granted, by their scope; those without a grant are not here.
    pub(crate) grants: BTreeMap<ScopeId, Grantee>,
    /// What users and roles may use; those without a quota are not here.
    pub(crate) quotas: BTreeMap<Subject, BTreeMap<Quota, u64>>,
}

impl TableName {
    /// A name of two parts.
    pub fn new(namespace: impl Into<String>, table: impl Into<String>) -> Self {
        TableName {
            namespace: namespace.into(),
            table: table.into(),
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.namespace, self.table)
    }
}

impl Catalog {
    /// A table by name.
    pub fn table(&self, name: &TableName) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// The tables of a namespace, by name.
    pub fn tables_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Table>> + 'a {
        self.tables
            .range(TableName::new(namespace, "")..)
            .map(|(_, table)| table)
            .take_while(move |table| table.name.namespace == namespace)
    }

    /// A view by name.
    pub fn view(&self, name: &TableName) -> Option<&Arc<StoredView>> {
        self.views.get(name)
    }

    /// The views of a namespace, by name.
    pub fn views_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<StoredView>> + 'a {
        self.views
            .range(TableName::new(namespace, "")..)
            .map(|(_, view)| view)
            .take_while(move |view| view.name.namespace == namespace)
    }
}
