//! DDL: namespaces and tables come, change and go, each in one step of the store. One lock serialises them. Views are in
//! `views`.

use std::collections::HashSet;
use std::sync::Arc;

use kalamdb_store::{ColumnId, Counter, KeyEncoder, RowEncoder, SchemaVersion, StoreId, TableChange};

use crate::access::Principal;
use crate::catalog::{Catalog, Namespace, Table, TableName};
use crate::change::CatalogChange;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::first_start::DEFAULT_NAMESPACE;
use crate::options::TableOptions;
use crate::rights::{Action, Task};
use crate::schema::{Column, TableSchema};
use crate::storages;
use crate::system_rows::{SchemaChange, schema_row, schema_versions, table_row, text};
use crate::system_schema::{FIRST_SYSTEM_STORE, INFORMATION_SCHEMA, SYSTEM_NAMESPACE, SystemTable};
use crate::table_kind::TableKind;
use crate::type_name::{EXTENSION_NAME, JSON_EXTENSION};
use crate::views::{StoredView, remove_view};

/// What to do when the table exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// ALREADY_EXISTS.
    New,
    /// Leave it as it is.
    IfNotExists,
    /// Replace it, rows included.
    OrReplace,
}

/// A table to create. Column ids are given by the catalog.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Its name; the namespace must exist.
    pub name: TableName,
    /// Not SYSTEM.
    pub kind: TableKind,
    /// `id` is ignored. Key columns become NOT NULL.
    pub columns: Vec<Column>,
    /// Column names in key order; empty for none.
    pub primary_key: Vec<String>,
    /// Checked options.
    pub options: TableOptions,
}

/// Bytes of a name at most.
pub const MOST_NAME_BYTES: usize = 128;

/// Namespaces that nobody creates, drops or puts tables into.
const RESERVED_NAMESPACES: &[&str] = &[SYSTEM_NAMESPACE, INFORMATION_SCHEMA];

/// A table that has its ids and waits to be created.
pub(crate) struct Placement {
    table: Arc<Table>,
    mode: CreateMode,
    /// The table whose place it takes.
    replaces: Option<Arc<Table>>,
}

impl Engine {
    /// CREATE NAMESPACE; false if it existed and `if_not_exists`.
    ///
    /// # Errors
    /// ALREADY_EXISTS, PERMISSION_DENIED, INVALID_ARGUMENT for a reserved name (`system`, `information_schema`) or an empty or over-long one.
    pub async fn create_namespace(&self, principal: &Principal, name: &str, if_not_exists: bool) -> Result<bool> {
        principal.require(Task::CreateNamespace)?;
        check_name("namespace", name)?;
        check_not_reserved(name)?;
        let name = name.to_owned();
        self.change(move |change| {
            if change.catalog.namespaces.contains_key(&name) {
                return if if_not_exists {
                    Ok(false)
                } else {
                    Err(Error::new(
                        ErrorCode::AlreadyExists,
                        format!("namespace {name} exists already"),
                    ))
                };
            }
            let namespace = Namespace {
                namespace_id: name.clone(),
                description: None,
                created_at_micros: change.now_micros,
                updated_at_micros: change.now_micros,
            };
            change.catalog.namespaces.insert(name.clone(), Arc::new(namespace));
            change.refresh_namespace(&name)?;
            Ok(true)
        })
        .await
    }

    /// DROP NAMESPACE; false if it did not exist and `if_exists`.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, DEPENDENT_OBJECTS without `cascade`, PERMISSION_DENIED.
    pub async fn drop_namespace(
        &self,
        principal: &Principal,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<bool> {
        principal.require(Task::DropNamespace)?;
        check_not_reserved(name)?;
        let name = name.to_owned();
        self.change(move |change| {
            if !change.catalog.namespaces.contains_key(&name) {
                return if if_exists {
                    Ok(false)
                } else {
                    Err(namespace_not_found(&name))
                };
            }
            let tables: Vec<Arc<Table>> = change.catalog.tables_in(&name).cloned().collect();
            let views: Vec<Arc<StoredView>> = change.catalog.views_in(&name).cloned().collect();
            if !cascade && !mistake!(NamespacesGoWithTheirTables) {
                check_empty(&name, tables.len(), views.len())?;
            }
            if name == DEFAULT_NAMESPACE {
                return Err(Error::new(
                    ErrorCode::InvalidStatement,
                    format!("namespace {name} is where every session begins, and stays; drop what is in it"),
                ));
            }
            for view in &views {
                remove_view(change, view)?;
            }
            for table in &tables {
                remove_table(change, table)?;
            }
            for table in &tables {
                change.refresh_storage(&table.options.storage)?;
            }
            change.catalog.namespaces.remove(&name);
            change.forget_namespace_grants(&name)?;
            change.refresh_namespace(&name)?;
            Ok(true)
        })
        .await
    }

    /// CREATE TABLE; the table as it now is and whether it was created.
    ///
    /// # Errors
    /// ALREADY_EXISTS, NAMESPACE_NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (no columns, duplicate or reserved names
    /// (a leading `_`: `_seq`, `_updated`, `_user`, `_row_key`, ...), key of an unsupported type, unknown storage).
    pub async fn create_table(
        &self,
        principal: &Principal,
        new: NewTable,
        mode: CreateMode,
    ) -> Result<(Arc<Table>, bool)> {
        let store = StoreId(self.next_number(Counter::Store)?);
        self.change(|change| {
            let placement = self.place_table(&change.catalog, principal, &new, mode, store)?;
            let created = match placement {
                Some(placement) => placement.apply(change)?,
                None => false,
            };
            match change.catalog.table(&new.name) {
                Some(table) => Ok((table.clone(), created)),
                None => Err(Error::new(
                    ErrorCode::Internal,
                    format!("table {} was not made", new.name),
                )),
            }
        })
        .await
    }

    /// DROP TABLE; false if it did not exist and `if_exists`.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub async fn drop_table(&self, principal: &Principal, name: &TableName, if_exists: bool) -> Result<bool> {
        self.change(|change| {
            let table = match change.catalog.table(name) {
                Some(table) if principal.sees(table) => table.clone(),
                Some(_) | None if if_exists => return Ok(false),
                Some(_) | None => return Err(Error::table_not_found(name)),
            };
            principal.check(Action::Define, &table)?;
            remove_table(change, &table)?;
            change.refresh_namespace(&name.namespace)?;
            change.refresh_storage(&table.options.storage)?;
            Ok(true)
        })
        .await
    }

    /// TRUNCATE: the rows of everyone go, by a new incarnation.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub async fn truncate_table(&self, principal: &Principal, name: &TableName) -> Result<()> {
        let store = StoreId(self.next_number(Counter::Store)?);
        self.change(|change| {
            let old = change
                .catalog
                .table(name)
                .cloned()
                .ok_or_else(|| Error::table_not_found(name))?;
            principal.check(Action::Define, &old)?;
            let table = Table {
                store,
                updated_at_micros: change.now_micros,
                ..Table::clone(&old)
            };
            change.change_store(TableChange::Retire(old.store));
            change.create_store(store, table.schema.version, table.kind.lifetime());
            change.put(SystemTable::Tables, &table_row(&table))?;
            change.catalog.tables.insert(name.clone(), Arc::new(table));
            Ok(())
        })
        .await
    }

    /// Gives a new table its ids, against this catalog; `None` if it exists and that is no error.
    pub(crate) fn place_table(
        &self,
        catalog: &Catalog,
        principal: &Principal,
        new: &NewTable,
        mode: CreateMode,
        store: StoreId,
    ) -> Result<Option<Placement>> {
        principal.require(Task::CreateTable)?;
        check_namespace(&new.name.namespace, catalog)?;
        check_no_view(&new.name, catalog)?;
        let replaces = catalog.table(&new.name).cloned();
        match (mode, &replaces) {
            (CreateMode::New, Some(_)) => return Err(table_exists(&new.name)),
            (CreateMode::IfNotExists, Some(_)) => return Ok(None),
            (CreateMode::New | CreateMode::IfNotExists, None) | (CreateMode::OrReplace, _) => {}
        }
        check_new_table(new, catalog)?;
        if new.kind.flushes() {
            storages::check(&self.store().state(), &new.name, &new.options.storage)?;
        }

        let first_column_id = replaces.as_ref().map_or(1, |old| old.next_column_id);
        let mut columns: Vec<Column> = new.columns.clone();
        for (column, id) in columns.iter_mut().zip(first_column_id..) {
            column.id = ColumnId(id);
            column.internal = false;
            column.nullable &= !new.primary_key.contains(&column.name);
        }
        let next_column_id = columns.last().map_or(first_column_id, |column| column.id.0 + 1);
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        let primary_key: Vec<usize> = new.primary_key.iter().filter_map(place).collect();
        let version = replaces.as_ref().map_or(1, |old| old.schema.version.0 + 1);
        let schema = TableSchema::new(SchemaVersion(version), columns, primary_key, new.kind.lifetime());
        check_storable(&schema)?;

        let now_micros = self.now_micros();
        let table_id = match &replaces {
            Some(old) => old.table_id.clone(),
            None => self.next_number(Counter::Table)?.to_string(),
        };
        let table = Table {
            table_id,
            name: new.name.clone(),
            kind: new.kind,
            store,
            schema: Arc::new(schema),
            next_column_id,
            options: new.options.clone(),
            created_at_micros: replaces.as_ref().map_or(now_micros, |old| old.created_at_micros),
            updated_at_micros: now_micros,
        };
        Ok(Some(Placement {
            table: Arc::new(table),
            mode,
            replaces,
        }))
    }

    /// The next number of a counter, below the ids that are fixed.
    pub(crate) fn next_number(&self, counter: Counter) -> Result<u32> {
        match u32::try_from(self.store().next_id(counter)?) {
            Ok(number) if number < FIRST_SYSTEM_STORE => Ok(number),
            Ok(_) | Err(_) => Err(Error::new(
                ErrorCode::StorageError,
                "this database has used up its ids of tables; copy it into a new one",
            )),
        }
    }
}

impl Placement {
    /// The table to be.
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Adds the table to a change; false if the name is taken by now and that is no error.
    pub(crate) fn apply(&self, change: &mut CatalogChange) -> Result<bool> {
        let table = &self.table;
        let name = &table.name;
        if !change.catalog.namespaces.contains_key(&name.namespace) {
            return Err(namespace_not_found(&name.namespace));
        }
        check_no_view(name, &change.catalog)?;
        match (self.mode, change.catalog.table(name)) {
            (CreateMode::New, Some(_)) => return Err(table_exists(name)),
            (CreateMode::IfNotExists, Some(_)) => return Ok(false),
            (CreateMode::New | CreateMode::IfNotExists, None) => {}
            (CreateMode::OrReplace, current) => {
                if current.map(|current| current.store) != self.replaces.as_ref().map(|old| old.store) {
                    return Err(Error::new(
                        ErrorCode::Conflict,
                        format!("table {name} was created, dropped or truncated meanwhile; run the statement again"),
                    ));
                }
            }
        }
        if !change.catalog.storages.contains_key(&table.options.storage) {
            return Err(unknown_storage(table.kind, &table.options.storage, &change.catalog));
        }
        let what = match &self.replaces {
            Some(old) => {
                change.change_store(TableChange::Retire(old.store));
                // As if it were dropped and made again.
                change.forget_table_grants(&old.table_id)?;
                SchemaChange::Replace
            }
            None => SchemaChange::Create,
        };
        change.create_store(table.store, table.schema.version, table.kind.lifetime());
        change.put(SystemTable::Tables, &table_row(table))?;
        change.put(SystemTable::TableSchemas, &schema_row(table, what))?;
        change.catalog.tables.insert(name.clone(), table.clone());
        change.refresh_namespace(&name.namespace)?;
        change.refresh_storage(&table.options.storage)?;
        if let Some(old) = &self.replaces {
            change.refresh_storage(&old.options.storage)?;
        }
        Ok(true)
    }
}

/// Refuses names that are empty, long or have control characters.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MOST_NAME_BYTES {
        format!("is longer than {MOST_NAME_BYTES} bytes")
    } else if name.chars().any(char::is_control) {
        "contains a control character".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = name
        .chars()
        .filter(|character| !character.is_control())
        .take(40)
        .collect();
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("the {what} name '{shown}' {problem}"),
    ))
}

fn check_not_reserved(namespace: &str) -> Result<()> {
    if RESERVED_NAMESPACES
        .iter()
        .any(|reserved| namespace.eq_ignore_ascii_case(reserved))
    {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("namespace {namespace} is reserved for the database itself"),
        ));
    }
    Ok(())
}

/// Refuses namespaces that do not take tables and views.
pub(crate) fn check_namespace(namespace: &str, catalog: &Catalog) -> Result<()> {
    check_not_reserved(namespace)?;
    if catalog.namespaces.contains_key(namespace) {
        Ok(())
    } else {
        Err(namespace_not_found(namespace))
    }
}

/// A table and a view cannot have one name, whatever the statement does with tables that exist.
fn check_no_view(name: &TableName, catalog: &Catalog) -> Result<()> {
    match catalog.view(name) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorCode::AlreadyExists,
            format!("{name} exists already, as a view"),
        )),
    }
}

fn check_empty(namespace: &str, tables: usize, views: usize) -> Result<()> {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    let held: Vec<String> = [counted(tables, "table"), counted(views, "view")]
        .into_iter()
        .flatten()
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    let them = if tables + views == 1 { "it" } else { "them" };
    Err(Error::new(
        ErrorCode::DependentObjects,
        format!(
            "namespace {namespace} holds {}; drop {them} first, or use CASCADE",
            held.join(" and ")
        ),
    ))
}

/// Checks everything about a new table that does not depend on ids.
fn check_new_table(new: &NewTable, catalog: &Catalog) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidArgument, message));
    let name = &new.name;
    check_name("table", &name.table)?;
    match new.kind {
        TableKind::System => return invalid(format!("table {name}: the database alone makes SYSTEM tables")),
        TableKind::Shared | TableKind::User | TableKind::Stream => {}
    }
    new.options.check_required(new.kind)?;
    if !catalog.storages.contains_key(&new.options.storage) {
        return Err(unknown_storage(new.kind, &new.options.storage, catalog));
    }
    if new.columns.is_empty() {
        return invalid(format!("table {name} needs at least one column"));
    }
    let mut names = HashSet::new();
    for column in &new.columns {
        check_name("column", &column.name)?;
        if column.name.starts_with('_') {
            return invalid(format!(
                "column {} of table {name}: names that begin with _ are reserved for columns of the database",
                column.name
            ));
        }
        if !names.insert(column.name.as_str()) {
            return invalid(format!("table {name} has two columns named {}", column.name));
        }
    }
    let mut key = HashSet::new();
    for key_name in &new.primary_key {
        let Some(column) = new.columns.iter().find(|column| column.name == *key_name) else {
            return invalid(format!(
                "the primary key of table {name} names column {key_name}, which it does not have"
            ));
        };
        if !key.insert(key_name) {
            return invalid(format!("the primary key of table {name} names column {key_name} twice"));
        }
        let is_json = column
            .metadata
            .get(EXTENSION_NAME)
            .is_some_and(|extension| extension == JSON_EXTENSION);
        if is_json || !KeyEncoder::supports(&column.data_type) {
            return invalid(format!(
                "column {key_name} of table {name} has type {}, which cannot be part of a primary key (integers, text, \
                 binary, boolean, date, time, timestamp, decimal and UUID can)",
                column.type_name()
            ));
        }
    }
    Ok(())
}

/// Refuses types that the store cannot keep.
fn check_storable(schema: &TableSchema) -> Result<()> {
    RowEncoder::new(schema.stored.clone())
        .map(|_| ())
        .map_err(|error| Error::new(ErrorCode::Unsupported, error.to_string()))
}

/// Removes a table from the catalog, its rows of SYSTEM tables and its store.
fn remove_table(change: &mut CatalogChange, table: &Table) -> Result<()> {
    change.catalog.tables.remove(&table.name);
    change.forget_table_grants(&table.table_id)?;
    change.change_store(TableChange::Retire(table.store));
    for version in schema_versions(&change.state, &table.table_id)? {
        change.remove(SystemTable::TableSchemas, &[text(&table.table_id), version])?;
    }
    change.remove(SystemTable::Tables, &[text(&table.table_id)])
}

fn namespace_not_found(name: &str) -> Error {
    Error::new(ErrorCode::NamespaceNotFound, format!("namespace {name} does not exist"))
}

fn table_exists(name: &TableName) -> Error {
    Error::new(ErrorCode::AlreadyExists, format!("table {name} exists already"))
}

fn unknown_storage(kind: TableKind, storage: &str, catalog: &Catalog) -> Error {
    let known: Vec<&str> = catalog.storages.keys().map(String::as_str).collect();
    Error::new(
        ErrorCode::InvalidArgument,
        format!(
            "storage {storage} of a {} table does not exist; there is {}",
            kind.as_str(),
            known.join(", ")
        ),
    )
}
