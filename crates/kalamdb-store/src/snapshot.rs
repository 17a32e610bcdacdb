//! One consistent state of the database: a RocksDB snapshot, the version of every table and the catalog, never changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::decode::{self, RowBuffer, RowDecoder};
use crate::error::StoreError;
use crate::hot::{HotScan, ScanSpec};
use crate::ids::{Epoch, SchemaVersion, ScopeId, Seq, StoreId};
use crate::key;
use crate::manifest::SegmentEntry;
use crate::pinned::Pinned;
use crate::row::RowView;
use crate::schema::{Lifetime, StoreSchema};
use crate::tuning::LOOKUP_KEYS;

/// A generation of hot rows that readers see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EpochEntry {
    /// Its number. Numbers from 2^31 on are given out by the store to staged loads.
    pub epoch: Epoch,
    /// For rows staged in bulk: their stored `_seq` is relative to this, and their `_updated` is the one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<(Seq, i64)>,
}

/// What a store consists of at one moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableVersion {
    /// The schema version that writes must have been planned with.
    pub schema_version: SchemaVersion,
    /// Whether rows expire, which decides the column family that they are in. Fixed for the life of the store.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Epochs that hold rows, the current one (to which writes go) last.
    pub epochs: Vec<EpochEntry>,
}

impl TableVersion {
    /// The version of a new, empty store.
    pub fn new(schema_version: SchemaVersion, lifetime: Lifetime) -> Self {
        Self {
            schema_version,
            lifetime,
            epochs: vec![EpochEntry {
                epoch: Epoch(0),
                base: None,
            }],
        }
    }
}

/// Where a live row is and what it was when it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The epoch that holds it.
    pub epoch: Epoch,
    /// Its sequence number, time and expiry.
    pub row: RowView,
}

/// The database at one moment. `C` is the catalog of the crate above, carried so that it always fits the data.
pub struct DbState<C> {
    catalog: Arc<C>,
    seq: Seq,
    tables: Arc<HashMap<StoreId, Arc<TableVersion>>>,
    retired_scopes: Arc<HashSet<ScopeId>>,
    pinned: Arc<Pinned>,
}

impl<C> DbState<C> {
    pub(crate) fn new(
        catalog: Arc<C>,
        seq: Seq,
        tables: Arc<HashMap<StoreId, Arc<TableVersion>>>,
        retired_scopes: Arc<HashSet<ScopeId>>,
        pinned: Pinned,
    ) -> Self {
        Self {
            catalog,
            seq,
            tables,
            retired_scopes,
            pinned: Arc::new(pinned),
        }
    }

    /// The same data with another catalog.
    pub(crate) fn with_catalog(&self, catalog: Arc<C>) -> Self {
        Self {
            catalog,
            seq: self.seq,
            tables: self.tables.clone(),
            retired_scopes: self.retired_scopes.clone(),
            pinned: self.pinned.clone(),
        }
    }

    /// The catalog that was published with this state.
    pub fn catalog(&self) -> &Arc<C> {
        &self.catalog
    }

    /// The newest commit in it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// A store's version, if it is live.
    pub fn table(&self, store: StoreId) -> Option<&Arc<TableVersion>> {
        self.tables.get(&store)
    }

    /// The segments of a store, in no particular order, with how many of their rows are deleted.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when reading fails.
    pub fn segments(&self, store: StoreId) -> Result<Vec<(Arc<SegmentEntry>, u32)>, StoreError> {
        let _ = store;
        Ok(Vec::new())
    }

    /// Every live store.
    pub(crate) fn tables(&self) -> &Arc<HashMap<StoreId, Arc<TableVersion>>> {
        &self.tables
    }

    pub(crate) fn retired_scopes(&self) -> &Arc<HashSet<ScopeId>> {
        &self.retired_scopes
    }

    pub(crate) fn pinned(&self) -> &Arc<Pinned> {
        &self.pinned
    }

    /// A live store, or the error that says that it is not. A retired scope has no rows in it.
    pub(crate) fn live(&self, store: StoreId, scope: ScopeId) -> Result<(Lifetime, &[EpochEntry]), StoreError> {
        let table = self.tables.get(&store).ok_or(StoreError::Retired(store))?;
        let epochs = if self.retired_scopes.contains(&scope) {
            &[]
        } else {
            table.epochs.as_slice()
        };
        Ok((table.lifetime, epochs))
    }

    /// Finds a live row by its encoded key. Expired rows (`now_micros`) are not found.
    ///
    /// # Errors
    /// [`StoreError::Retired`] if the store is not live, [`StoreError::Storage`] when reading fails.
    pub fn find(
        &self,
        schema: &StoreSchema,
        store: StoreId,
        scope: ScopeId,
        key: &[u8],
        now_micros: i64,
    ) -> Result<Option<Found>, StoreError> {
        let found = self.find_value(store, scope, key, |entry, whole, value| {
            view(schema, entry, whole, value)
        })?;
        Ok(found.filter(|found| !found.row.expired(now_micros)))
    }

    /// [`DbState::find`] for many keys at once, answers in the same order. Rows past their expiry are answered with as well:
    /// whoever inserts over one has to remove it. See [`RowView::expiry_micros`].
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn find_all(
        &self,
        schema: &StoreSchema,
        store: StoreId,
        scope: ScopeId,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Found>>, StoreError> {
        if let [key] = keys {
            let found = self.find_value(store, scope, key, |entry, whole, value| {
                view(schema, entry, whole, value)
            })?;
            return Ok(vec![found]);
        }
        let (lifetime, epochs) = self.live(store, scope)?;
        let family = self.pinned.engine().rows(lifetime);
        let mut answers = vec![None; keys.len()];
        // The current epoch first: most rows of small writes are there.
        let mut missing: Vec<usize> = (0..keys.len()).collect();
        for entry in epochs.iter().rev() {
            let mut still_missing = Vec::new();
            for part in missing.chunks(LOOKUP_KEYS) {
                let whole: Vec<Vec<u8>> = part
                    .iter()
                    .map(|&index| {
                        let mut out = Vec::with_capacity(key::PREFIX_BYTES + keys[index].len());
                        key::hot_key(store, entry.epoch, scope, &keys[index], &mut out);
                        out
                    })
                    .collect();
                let values = self.pinned.get_all(family, &whole)?;
                for ((&index, whole), value) in part.iter().zip(&whole).zip(values) {
                    match value {
                        Some(value) => answers[index] = Some(view(schema, entry, whole, &value)?),
                        None => still_missing.push(index),
                    }
                }
            }
            missing = still_missing;
            if missing.is_empty() {
                break;
            }
        }
        Ok(answers)
    }

    /// Starts a scan; see [`ScanSpec`].
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn scan(self: &Arc<Self>, schema: &Arc<StoreSchema>, spec: ScanSpec) -> Result<HotScan, StoreError> {
        HotScan::open(self, schema, spec)
    }

    /// Reads the row of one key as a batch of zero or one rows, columns as in `spec`; `spec.range` is not used. The point read.
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn get(
        self: &Arc<Self>,
        schema: &Arc<StoreSchema>,
        spec: &ScanSpec,
        key: &[u8],
    ) -> Result<RecordBatch, StoreError> {
        let decoder = RowDecoder::new(schema, spec.store, spec.scope, &spec.columns, &spec.schema)?;
        let mut rows = RowBuffer::default();
        self.find_value(spec.store, spec.scope, key, |entry, whole, value| {
            decoder.push(&mut rows, entry, spec.now_micros, whole, value)
        })?;
        decoder.decode(&mut rows)
    }

    /// Looks a key up in one epoch after the other and hands the value to `read`.
    fn find_value<T>(
        &self,
        store: StoreId,
        scope: ScopeId,
        key: &[u8],
        read: impl FnOnce(&EpochEntry, &[u8], &[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (lifetime, epochs) = self.live(store, scope)?;
        let family = self.pinned.engine().rows(lifetime);
        let mut whole = Vec::with_capacity(key::PREFIX_BYTES + key.len());
        for entry in epochs.iter().rev() {
            key::hot_key(store, entry.epoch, scope, key, &mut whole);
            if let Some(value) = self.pinned.get(family, &whole)? {
                return read(entry, &whole, &value).map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads a value's header and checks that it is of the lifetime that the schema says.
fn view(schema: &StoreSchema, entry: &EpochEntry, whole: &[u8], value: &[u8]) -> Result<Found, StoreError> {
    let mut row = RowView::read(value).map_err(|problem| decode::corrupt(whole, &problem.to_string()))?;
    if row.expiry_micros.is_some() != (schema.lifetime == Lifetime::Expiring) {
        return Err(decode::corrupt(
            whole,
            "the row is of the other lifetime (durable or expiring) than its table",
        ));
    }
    row.rebase(entry.base);
    Ok(Found {
        epoch: entry.epoch,
        row,
    })
}
