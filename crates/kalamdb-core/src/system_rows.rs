//! The stored rows of SYSTEM tables: how the catalog's objects and users become rows, and rows become them again.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Int64Type, Schema, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use kalamdb_store::{
    DbState, KeyEncoder, KeyRange, Lifetime, ScanColumn, ScanOrder, ScanSpec, SchemaVersion, ScopeId, SeenSegments,
    Store, StoreId, StoreSchema,
};
use std::ops::Bound;

use crate::access::Role;
use crate::catalog::{Catalog, Namespace, StorageEntry, Table, TableName};
use crate::error::{Error, ErrorCode, Result};
use crate::schema::TableSchema;
use crate::storages::{self, StorageNumbers};
use crate::system_schema::{SYSTEM_NAMESPACE, SystemTable};
use crate::table_kind::TableKind;
use crate::views::StoredView;

/// Rows of a SYSTEM table read at once; its rows are small.
const BATCH_ROWS: usize = 1024;

/// What `system.tables` calls a view.
const VIEW_TYPE: &str = "VIEW";

/// A row of `system.users`, internal columns included.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UserRow {
    pub(crate) user_id: String,
    pub(crate) role: Role,
    pub(crate) created_at_micros: i64,
    pub(crate) updated_at_micros: i64,
    pub(crate) scope: ScopeId,
    pub(crate) password_hash: Option<String>,
    pub(crate) credential_version: u64,
}

/// What made a schema version, as `system.table_schemas.change` shows it.
#[derive(Clone, Copy)]
pub(crate) enum SchemaChange {
    Create,
    Replace,
    CreateView,
    ReplaceView,
}

impl SchemaChange {
    fn as_str(self) -> &'static str {
        match self {
            SchemaChange::Create => "CREATE TABLE",
            SchemaChange::Replace => "CREATE OR REPLACE TABLE",
            SchemaChange::CreateView => "CREATE VIEW",
            SchemaChange::ReplaceView => "CREATE OR REPLACE VIEW",
        }
    }
}

pub(crate) fn user_row(user: &UserRow) -> Vec<ArrayRef> {
    vec![
        text(&user.user_id),
        text(&user.user_id),
        text(user.role.as_str()),
        time(user.created_at_micros),
        time(user.updated_at_micros),
        optional_time(None),
        Arc::new(UInt64Array::from(vec![user.scope.0])),
        optional_text(user.password_hash.as_deref()),
        Arc::new(UInt64Array::from(vec![user.credential_version])),
    ]
}

pub(crate) fn namespace_row(namespace: &Namespace, catalog: &Catalog) -> Vec<ArrayRef> {
    vec![
        text(&namespace.namespace_id),
        optional_text(namespace.description.as_deref()),
        optional_text(None),
        count(catalog.tables_in(&namespace.namespace_id).count()),
        time(namespace.created_at_micros),
        time(namespace.updated_at_micros),
    ]
}

pub(crate) fn table_row(table: &Table) -> Vec<ArrayRef> {
    let access_level = match table.kind {
        TableKind::Shared => Some(table.options.access_level.as_str()),
        TableKind::System | TableKind::User | TableKind::Stream => None,
    };
    let storage = table.kind.flushes().then_some(table.options.storage.as_str());
    let checked = serde_json::to_string(&table.options).expect("strings and numbers always serialise");
    vec![
        text(&table.table_id),
        text(&table.name.namespace),
        text(&table.name.table),
        text(table.kind.as_str()),
        Arc::new(Int64Array::from(vec![i64::from(table.schema.version.0)])),
        optional_text(access_level),
        optional_text(storage),
        text(&table.options.to_json()),
        time(table.created_at_micros),
        time(table.updated_at_micros),
        Arc::new(UInt32Array::from(vec![table.store.0])),
        Arc::new(UInt32Array::from(vec![table.next_column_id])),
        text(&checked),
    ]
}

/// A view's row of `system.tables`: the definition is where a table has its checked options.
pub(crate) fn view_row(view: &StoredView) -> Vec<ArrayRef> {
    let definition = serde_json::to_string(&view.definition).expect("strings always serialise");
    vec![
        text(&view.view_id),
        text(&view.name.namespace),
        text(&view.name.table),
        text(VIEW_TYPE),
        Arc::new(Int64Array::from(vec![i64::from(view.schema.version.0)])),
        optional_text(None),
        optional_text(None),
        text("{}"),
        time(view.created_at_micros),
        time(view.updated_at_micros),
        Arc::new(UInt32Array::from(vec![0])),
        Arc::new(UInt32Array::from(vec![0])),
        text(&definition),
    ]
}

pub(crate) fn schema_row(table: &Table, change: SchemaChange) -> Vec<ArrayRef> {
    schema_version_row(&table.table_id, &table.schema, change, table.updated_at_micros)
}

pub(crate) fn view_schema_row(view: &StoredView, change: SchemaChange) -> Vec<ArrayRef> {
    schema_version_row(&view.view_id, &view.schema, change, view.updated_at_micros)
}

fn schema_version_row(id: &str, schema: &TableSchema, change: SchemaChange, at_micros: i64) -> Vec<ArrayRef> {
    vec![
        text(id),
        Arc::new(Int64Array::from(vec![i64::from(schema.version.0)])),
        text(change.as_str()),
        text(&schema.columns_json()),
        time(at_micros),
        Arc::new(BinaryArray::from_vec(vec![&schema.types_bytes()])),
    ]
}

pub(crate) fn storage_row(storage: &StorageEntry, catalog: &Catalog) -> Vec<ArrayRef> {
    let users = catalog.tables.values().filter(|table| table.kind.flushes());
    let users = users
        .filter(|table| table.options.storage == storage.storage_id)
        .count();
    vec![
        text(&storage.storage_id),
        text(&storage.storage_type),
        text(&storage.uri),
        count(users),
        time(storage.created_at_micros),
        time(storage.updated_at_micros),
    ]
}

/// The key of a row of a SYSTEM table by its leading key columns.
pub(crate) fn key_of(schema: &StoreSchema, key: &[ArrayRef]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    KeyEncoder::new(schema)?.encode(key, 0, &mut bytes)?;
    Ok(bytes)
}

/// One text value as a column of one row.
pub(crate) fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// The user of that id.
pub(crate) fn find_user(state: &Arc<DbState<Catalog>>, user_id: &str) -> Result<Option<UserRow>> {
    let table = SystemTable::Users.table();
    let key = key_of(&table.schema.stored, &[text(user_id)])?;
    let everything = KeyRange {
        start: Bound::Unbounded,
        end: Bound::Unbounded,
    };
    let batch = state.get(&table.schema.stored, &read_spec(&table, everything), &key)?;
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let rows = Rows {
        table: SystemTable::Users,
        batch: &batch,
    };
    read_user(&rows, 0).map(Some)
}

/// Hands every user to `each`, by user id.
pub(crate) fn each_user(state: &Arc<DbState<Catalog>>, mut each: impl FnMut(UserRow)) -> Result<()> {
    read_all(state, SystemTable::Users, |rows, row| {
        each(read_user(rows, row)?);
        Ok(())
    })
}

fn read_user(rows: &Rows<'_>, row: usize) -> Result<UserRow> {
    let role = rows.text("role", row)?;
    Ok(UserRow {
        user_id: rows.text("user_id", row)?.to_owned(),
        role: Role::parse(role).ok_or_else(|| rows.corrupt("role", role))?,
        created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
        updated_at_micros: rows.number::<TimestampMicrosecondType>("updated_at", row)?,
        scope: ScopeId(rows.number::<UInt64Type>("scope", row)?),
        password_hash: rows.optional_text("password_hash", row)?.map(str::to_owned),
        credential_version: rows.number::<UInt64Type>("credential_version", row)?,
    })
}

/// The catalog of a state: what is stored, and the tables of schema `system`. Before the first start's step it has only those.
pub(crate) fn load_catalog(store: &Store<Catalog>, state: &Arc<DbState<Catalog>>) -> Result<Catalog> {
    let mut catalog = built_in_catalog();
    if state.table(SystemTable::Namespaces.store()).is_none() {
        return Ok(catalog);
    }
    read_all(state, SystemTable::Namespaces, |rows, row| {
        let namespace = Namespace {
            namespace_id: rows.text("namespace_id", row)?.to_owned(),
            description: rows.optional_text("description", row)?.map(str::to_owned),
            created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
            updated_at_micros: rows.number::<TimestampMicrosecondType>("updated_at", row)?,
        };
        catalog
            .namespaces
            .insert(namespace.namespace_id.clone(), Arc::new(namespace));
        Ok(())
    })?;
    let numbers = StorageNumbers::read(store)?;
    read_all(state, SystemTable::Storages, |rows, row| {
        let storage_id = rows.text("storage_id", row)?.to_owned();
        let id = numbers
            .of(&storage_id)
            .ok_or_else(|| rows.corrupt("storage_id", &format!("'{storage_id}', which has no number")))?;
        let storage = StorageEntry {
            storage_id,
            id,
            storage_type: rows.text("storage_type", row)?.to_owned(),
            uri: rows.text("uri", row)?.to_owned(),
            created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
            updated_at_micros: rows.number::<TimestampMicrosecondType>("updated_at", row)?,
        };
        storages::open(store, &storage);
        catalog.storages.insert(storage.storage_id.clone(), Arc::new(storage));
        Ok(())
    })?;
    let mut schemas = std::collections::HashMap::new();
    read_all(state, SystemTable::TableSchemas, |rows, row| {
        let key = (
            rows.text("table_id", row)?.to_owned(),
            rows.number::<Int64Type>("version", row)?,
        );
        schemas.insert(
            key,
            (
                rows.text("columns", row)?.to_owned(),
                rows.bytes("types", row)?.to_vec(),
            ),
        );
        Ok(())
    })?;
    read_all(state, SystemTable::Tables, |rows, row| {
        let table_id = rows.text("table_id", row)?.to_owned();
        let table_type = rows.text("table_type", row)?;
        let kind = [TableKind::Shared, TableKind::User, TableKind::Stream]
            .into_iter()
            .find(|known| known.as_str() == table_type);
        if kind.is_none() && table_type != VIEW_TYPE {
            return Err(rows.corrupt("table_type", table_type));
        }
        let lifetime = kind.map_or(Lifetime::Durable, TableKind::lifetime);
        let version = rows.number::<Int64Type>("schema_version", row)?;
        let (columns, types) = schemas
            .get(&(table_id.clone(), version))
            .ok_or_else(|| rows.corrupt("schema_version", "a version that system.table_schemas lacks"))?;
        let version = u32::try_from(version).map_err(|_| rows.corrupt("schema_version", &version.to_string()))?;
        let schema = TableSchema::load(SchemaVersion(version), columns, types, lifetime)
            .map_err(|problem| rows.corrupt("columns", &problem))?;
        let kept = rows.text("checked_options", row)?;
        let bad = |problem: serde_json::Error| rows.corrupt("checked_options", &problem.to_string());
        let name = TableName::new(rows.text("namespace_id", row)?, rows.text("table_name", row)?);
        let Some(kind) = kind else {
            let view = StoredView {
                view_id: table_id,
                name: name.clone(),
                definition: serde_json::from_str(kept).map_err(bad)?,
                schema: Arc::new(schema),
                created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
                updated_at_micros: rows.number::<TimestampMicrosecondType>("updated_at", row)?,
            };
            catalog.views.insert(name, Arc::new(view));
            return Ok(());
        };
        let options = serde_json::from_str(kept).map_err(bad)?;
        let table = Table {
            table_id,
            name,
            kind,
            store: StoreId(rows.number::<UInt32Type>("store", row)?),
            schema: Arc::new(schema),
            next_column_id: rows.number::<UInt32Type>("next_column_id", row)?,
            options,
            created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
            updated_at_micros: rows.number::<TimestampMicrosecondType>("updated_at", row)?,
        };
        catalog.tables.insert(table.name.clone(), Arc::new(table));
        Ok(())
    })?;
    crate::grants::load(state, &mut catalog)?;
    crate::quotas::load(state, &mut catalog)?;
    Ok(catalog)
}

/// The keys of the rows of `system.table_schemas` that belong to a table.
pub(crate) fn schema_versions(state: &Arc<DbState<Catalog>>, table_id: &str) -> Result<Vec<ArrayRef>> {
    let table = SystemTable::TableSchemas.table();
    let prefix = key_of(&table.schema.stored, &[text(table_id)])?;
    let range = crate::key_range::prefix_range(prefix);
    let mut versions = Vec::new();
    read_range(state, SystemTable::TableSchemas, range, |rows, row| {
        let version: ArrayRef = Arc::new(Int64Array::from(vec![rows.number::<Int64Type>("version", row)?]));
        versions.push(version);
        Ok(())
    })?;
    Ok(versions)
}

/// The tables of schema `system` alone.
pub(crate) fn built_in_catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let namespace = Namespace {
        namespace_id: SYSTEM_NAMESPACE.to_owned(),
        description: Some("The database's own tables".to_owned()),
        created_at_micros: 0,
        updated_at_micros: 0,
    };
    catalog
        .namespaces
        .insert(SYSTEM_NAMESPACE.to_owned(), Arc::new(namespace));
    for system in SystemTable::ALL {
        let table = system.table();
        catalog.tables.insert(table.name.clone(), table);
    }
    catalog
}

/// Hands every row of a SYSTEM table to `each`.
pub(crate) fn read_all(
    state: &Arc<DbState<Catalog>>,
    system: SystemTable,
    each: impl FnMut(&Rows<'_>, usize) -> Result<()>,
) -> Result<()> {
    read_range(
        state,
        system,
        KeyRange {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        },
        each,
    )
}

fn read_range(
    state: &Arc<DbState<Catalog>>,
    system: SystemTable,
    range: KeyRange,
    mut each: impl FnMut(&Rows<'_>, usize) -> Result<()>,
) -> Result<()> {
    let table = system.table();
    let mut scan = state.scan(&table.schema.stored, read_spec(&table, range))?;
    while let Some(batch) = scan.next_batch()? {
        let rows = Rows {
            table: system,
            batch: &batch,
        };
        for row in 0..batch.num_rows() {
            each(&rows, row)?;
        }
    }
    Ok(())
}

/// Every column of a SYSTEM table, internal ones included.
fn read_spec(table: &Table, range: KeyRange) -> ScanSpec {
    let columns = &table.schema.columns;
    let fields: Vec<Field> = columns.iter().map(|column| column.field()).collect();
    ScanSpec {
        store: table.store,
        scope: ScopeId::GLOBAL,
        range,
        columns: (0..columns.len()).map(ScanColumn::Column).collect(),
        schema: Arc::new(Schema::new(fields)),
        now_micros: 0,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: BATCH_ROWS,
        seen: SeenSegments::default(),
    }
}

/// A batch of a SYSTEM table's rows, read by column name.
pub(crate) struct Rows<'a> {
    table: SystemTable,
    batch: &'a RecordBatch,
}

impl Rows<'_> {
    fn column(&self, name: &str) -> Result<&ArrayRef> {
        self.batch
            .column_by_name(name)
            .ok_or_else(|| self.corrupt(name, "no such column"))
    }

    pub(crate) fn text(&self, name: &str, row: usize) -> Result<&str> {
        self.optional_text(name, row)?.ok_or_else(|| self.corrupt(name, "NULL"))
    }

    pub(crate) fn optional_text(&self, name: &str, row: usize) -> Result<Option<&str>> {
        let column = self.column(name)?;
        let column = column
            .as_string_opt::<i32>()
            .ok_or_else(|| self.corrupt(name, "not text"))?;
        Ok(column.is_valid(row).then(|| column.value(row)))
    }

    fn bytes(&self, name: &str, row: usize) -> Result<&[u8]> {
        let column = self
            .column(name)?
            .as_binary_opt::<i32>()
            .ok_or_else(|| self.corrupt(name, "not binary"))?;
        Ok(column.value(row))
    }

    pub(crate) fn number<T: ArrowPrimitiveType>(&self, name: &str, row: usize) -> Result<T::Native> {
        self.optional_number::<T>(name, row)?
            .ok_or_else(|| self.corrupt(name, "NULL"))
    }

    pub(crate) fn optional_number<T: ArrowPrimitiveType>(&self, name: &str, row: usize) -> Result<Option<T::Native>> {
        let column = self
            .column(name)?
            .as_primitive_opt::<T>()
            .ok_or_else(|| self.corrupt(name, "not a number"))?;
        Ok(column.is_valid(row).then(|| column.value(row)))
    }

    pub(crate) fn corrupt(&self, column: &str, found: &str) -> Error {
        let table = self.table.name();
        Error::new(
            ErrorCode::DataCorrupted,
            format!("column {column} of system.{table} holds {found}"),
        )
    }
}

/// The same, or NULL.
pub(crate) fn optional_text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn count(value: usize) -> ArrayRef {
    Arc::new(Int64Array::from(vec![
        i64::try_from(value).expect("a count of things in memory fits"),
    ]))
}

/// One time as a column of one row.
pub(crate) fn time(micros: i64) -> ArrayRef {
    optional_time(Some(micros))
}

/// The same, or NULL.
pub(crate) fn optional_time(micros: Option<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_the_columns_of_their_tables() {
        let catalog = built_in_catalog();
        let user = UserRow {
            user_id: "a".to_owned(),
            role: Role::User,
            created_at_micros: 1,
            updated_at_micros: 2,
            scope: ScopeId(3),
            password_hash: None,
            credential_version: 4,
        };
        let storage = StorageEntry {
            storage_id: "local".to_owned(),
            id: kalamdb_store::StorageId::DEFAULT,
            storage_type: "filesystem".to_owned(),
            uri: "file:///".to_owned(),
            created_at_micros: 1,
            updated_at_micros: 1,
        };
        let table = SystemTable::Jobs.table();
        let rows = [
            (SystemTable::Users, user_row(&user)),
            (
                SystemTable::Namespaces,
                namespace_row(&catalog.namespaces[SYSTEM_NAMESPACE], &catalog),
            ),
            (SystemTable::Tables, table_row(&table)),
            (SystemTable::TableSchemas, schema_row(&table, SchemaChange::Create)),
            (SystemTable::Storages, storage_row(&storage, &catalog)),
        ];
        for (system, row) in rows {
            let fields: Vec<Field> = system.columns().iter().map(|column| column.field()).collect();
            RecordBatch::try_new(Arc::new(Schema::new(fields)), row).expect("types and nulls fit");
        }
    }
}
