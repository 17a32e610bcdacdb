//! One change of the catalog: rows of SYSTEM tables, stores and the new catalog, gathered into one step of the store.
//! What a change means is in `define` and `users`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use futures::FutureExt;
use futures::future::Shared;
use futures::lock::{Mutex, MutexGuard};
use kalamdb_store::{
    CommitError, CommitFuture, DbState, Lifetime, Put, PutKey, Removal, RowEncoder, SchemaVersion, ScopeId, Step,
    StoreId, TableChange, TableVersion,
};

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::system_rows::{key_of, namespace_row, storage_row, text};
use crate::system_schema::SystemTable;

/// Serialises changes of the catalog. It holds the step that is under way, because a caller may go away between submitting
/// a step and its end: whoever comes next must not read the catalog before that step is in it.
#[derive(Default)]
pub(crate) struct Definitions {
    under_way: Mutex<Option<Shared<CommitFuture>>>,
}

/// A change under construction.
pub(crate) struct CatalogChange {
    /// What it starts from.
    pub(crate) state: Arc<DbState<Catalog>>,
    /// The catalog as it will be.
    pub(crate) catalog: Catalog,
    /// The time of the change, µs.
    pub(crate) now_micros: i64,
    stores: Vec<TableChange>,
    /// Rows of SYSTEM tables by place: their new value, or none.
    rows: BTreeMap<(SystemTable, Vec<u8>), Option<Vec<u8>>>,
    /// Rows of a table that this change creates.
    new_rows: Vec<Put>,
    meta: Vec<(String, Option<Vec<u8>>)>,
}

impl CatalogChange {
    fn new(state: Arc<DbState<Catalog>>, now_micros: i64) -> Self {
        let catalog = Catalog::clone(state.catalog());
        CatalogChange {
            state,
            catalog,
            now_micros,
            stores: Vec::new(),
            rows: BTreeMap::new(),
            new_rows: Vec::new(),
            meta: Vec::new(),
        }
    }

    /// Writes a row of a SYSTEM table over the one with its key, if there is one.
    pub(crate) fn put(&mut self, system: SystemTable, row: &[ArrayRef]) -> Result<()> {
        let schema = system.table().schema.stored.clone();
        let key: Vec<ArrayRef> = schema.key.iter().map(|&index| row[index].clone()).collect();
        let key = key_of(&schema, &key)?;
        let value = RowEncoder::new(schema)?.encode(row, 0, None)?;
        self.rows.insert((system, key), Some(value));
        Ok(())
    }

    /// Removes the row with this key, if there is one.
    pub(crate) fn remove(&mut self, system: SystemTable, key: &[ArrayRef]) -> Result<()> {
        let key = key_of(&system.table().schema.stored, key)?;
        self.rows.insert((system, key), None);
        Ok(())
    }

    /// Writes the namespace's row anew: its count of tables is that of the new catalog. Removes it if the namespace is gone.
    pub(crate) fn refresh_namespace(&mut self, name: &str) -> Result<()> {
        match self.catalog.namespaces.get(name) {
            Some(namespace) => {
                let row = namespace_row(namespace, &self.catalog);
                self.put(SystemTable::Namespaces, &row)
            }
            None => self.remove(SystemTable::Namespaces, &[text(name)]),
        }
    }

    /// Writes the storage's row anew: its count of tables is that of the new catalog. Removes it if the storage is gone.
    pub(crate) fn refresh_storage(&mut self, name: &str) -> Result<()> {
        match self.catalog.storages.get(name) {
            Some(storage) => {
                let row = storage_row(storage, &self.catalog);
                self.put(SystemTable::Storages, &row)
            }
            None => self.remove(SystemTable::Storages, &[text(name)]),
        }
    }

    /// Creates an empty store.
    pub(crate) fn create_store(&mut self, store: StoreId, schema_version: SchemaVersion, lifetime: Lifetime) {
        self.stores
            .push(TableChange::Create(store, TableVersion::new(schema_version, lifetime)));
    }

    /// Adds a change of a store.
    pub(crate) fn change_store(&mut self, change: TableChange) {
        self.stores.push(change);
    }

    /// Adds rows of a table that this change creates.
    pub(crate) fn add_rows(&mut self, rows: Vec<Put>) {
        self.new_rows.extend(rows);
    }

    /// Writes an opaque record of the store.
    pub(crate) fn put_meta(&mut self, name: &str, value: Vec<u8>) {
        self.meta.push((name.to_owned(), Some(value)));
    }

    fn is_empty(&self) -> bool {
        self.stores.is_empty() && self.rows.is_empty() && self.new_rows.is_empty() && self.meta.is_empty()
    }

    fn into_step(self) -> Result<Step<Catalog>> {
        let mut removals = Vec::new();
        let mut puts = self.new_rows;
        for ((system, key), value) in self.rows {
            let (store, scope) = (system.store(), ScopeId::GLOBAL);
            let schema = system.table().schema.stored.clone();
            // Before the first start's own step the stores do not exist, and nothing is in them.
            if self.state.table(store).is_some()
                && let Some(found) = self.state.find(&schema, store, scope, &key, self.now_micros)?
            {
                removals.push(Removal {
                    store,
                    scope,
                    key: key.clone(),
                    location: found.location,
                    seq: found.row.seq,
                });
            }
            if let Some(value) = value {
                puts.push(Put {
                    store,
                    scope,
                    key: PutKey::Key(key),
                    value,
                });
            }
        }
        Ok(Step {
            changes: self.stores,
            removals,
            puts,
            meta: self.meta,
            catalog: Some(Arc::new(self.catalog)),
            now_micros: self.now_micros,
        })
    }
}

impl Engine {
    /// Makes a change of the catalog, alone, and commits it; a change that stays empty commits nothing.
    pub(crate) async fn change<T>(&self, build: impl FnOnce(&mut CatalogChange) -> Result<T>) -> Result<T> {
        self.change_or(build, Error::from).await
    }

    /// The same with words for a failed commit.
    pub(crate) async fn change_or<T>(
        &self,
        build: impl FnOnce(&mut CatalogChange) -> Result<T>,
        on_error: impl FnOnce(CommitError) -> Error,
    ) -> Result<T> {
        let mut under_way = self.lock_definitions().await;
        let mut change = CatalogChange::new(self.store().state(), self.now_micros());
        let outcome = build(&mut change)?;
        if change.is_empty() {
            return Ok(outcome);
        }
        let step = self.store().step(change.into_step()?).shared();
        *under_way = Some(step.clone());
        let committed = step.await;
        *under_way = None;
        committed.map_err(on_error)?;
        Ok(outcome)
    }

    async fn lock_definitions(&self) -> MutexGuard<'_, Option<Shared<CommitFuture>>> {
        let mut under_way = self.definitions().under_way.lock().await;
        if let Some(step) = under_way.clone() {
            // Its outcome concerns the caller that left; here only its end matters.
            drop(step.await);
            *under_way = None;
        }
        under_way
    }
}
