//! One consistent state of the database: a RocksDB snapshot, the version of every table and the catalog, never changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::cold;
use crate::cold_scan;
use crate::decode::{self, RowBuffer, RowDecoder};
use crate::deletion_vector;
use crate::error::StoreError;
use crate::ids::{Epoch, SchemaVersion, ScopeId, Seq, StorageId, StoreId};
use crate::key;
use crate::location::Location;
use crate::manifest::{SegmentEntry, Segments};
use crate::pinned::{Exempt, Pinned};
use crate::row::RowView;
use crate::scan::{KeyRange, Scan, ScanCounters, ScanSpec};
use crate::schema::{Lifetime, StoreSchema};
use crate::tuning::LOOKUP_KEYS;

/// What a store consists of at one moment.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct TableVersion {
    /// The schema version that writes must have been planned with.
    pub schema_version: SchemaVersion,
    /// Whether rows expire, which decides the column family that they are in. Fixed for the life of the store.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Epochs that hold hot rows: those that are sealed, and then the current one, to which writes go. A durable store has a
    /// sealed one while it is flushed; those of an expiring store are buckets, which go as a whole.
    pub epochs: Vec<Epoch>,
    /// For each sealed bucket of an expiring store, when the last of its rows expires, µs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expiries: Vec<(Epoch, i64)>,
    /// Its segments, which have records of their own.
    #[serde(skip)]
    pub(crate) segments: Arc<Segments>,
}

impl TableVersion {
    /// The version of a new, empty store.
    pub fn new(schema_version: SchemaVersion, lifetime: Lifetime) -> Self {
        Self {
            schema_version,
            lifetime,
            epochs: vec![Epoch(0)],
            expiries: Vec::new(),
            segments: Arc::default(),
        }
    }

    /// The epoch to which writes go.
    pub(crate) fn current(&self) -> Epoch {
        *self.epochs.last().expect("a store is created with an epoch")
    }

    /// How many buckets hold rows that may be live, and when the first of the sealed ones is over, µs.
    pub fn buckets(&self) -> (usize, Option<i64>) {
        (self.epochs.len(), self.expiries.iter().map(|(_, expiry)| *expiry).min())
    }

    /// Whether rows can be there.
    pub(crate) fn holds(&self, location: Location) -> bool {
        match location {
            Location::Hot(epoch) => self.epochs.contains(&epoch),
            Location::Cold(segment, _) => self.segments.get(segment).is_some(),
        }
    }
}

/// Where a live row is and what it was when it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub location: Location,
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
        pinned: Arc<Pinned>,
    ) -> Self {
        Self {
            catalog,
            seq,
            tables,
            retired_scopes,
            pinned,
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

    /// Rows in the segments of a store, deleted ones included; 0 if it is not live.
    pub fn segment_rows(&self, store: StoreId) -> u64 {
        let rows = |table: &Arc<TableVersion>| table.segments.iter().map(|segment| u64::from(segment.entry.rows)).sum();
        self.tables.get(&store).map_or(0, rows)
    }

    /// Whether the segments of a store have so many rows of one scope in these ranges, deleted ones included. Mostly their indexes
    /// say so.
    ///
    /// # Errors
    /// [`StoreError::Retired`] if the store is not live, [`StoreError::Damaged`]; [`StoreError::Storage`] when reading fails.
    pub fn has_segment_rows(
        &self,
        schema: &Arc<StoreSchema>,
        store: StoreId,
        scope: ScopeId,
        ranges: &[KeyRange],
        enough: u64,
    ) -> Result<bool, StoreError> {
        cold_scan::has_rows(self, schema, store, scope, ranges, enough)
    }

    /// Bytes of a row of a store's segments in memory, on average; none if there is no row, or it was never noted.
    pub fn segment_row_bytes(&self, store: StoreId) -> Option<u64> {
        let table = self.tables.get(&store)?;
        let (mut rows, mut bytes) = (0, 0_u64);
        for segment in table.segments.iter().filter(|segment| segment.entry.memory_bytes > 0) {
            rows += u64::from(segment.entry.rows);
            bytes = bytes.saturating_add(segment.entry.memory_bytes);
        }
        bytes.checked_div(rows)
    }

    /// The segments of a store, in the order of runs and keys, with how many of their rows are deleted.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when reading fails.
    pub fn segments(&self, store: StoreId) -> Result<Vec<(Arc<SegmentEntry>, u32)>, StoreError> {
        let table = self.tables.get(&store).ok_or(StoreError::Retired(store))?;
        table
            .segments
            .iter()
            .map(|segment| {
                let deleted = deletion_vector::deleted_rows(&self.pinned, segment.entry.segment)?;
                Ok((segment.entry.clone(), deleted))
            })
            .collect()
    }

    /// Whether a live store can be read and written, as far as is known of its segments and its hot rows.
    ///
    /// # Errors
    /// [`StoreError::Retired`] if the store is not live, [`StoreError::Damaged`], [`StoreError::HotDamaged`].
    pub fn check_segments(&self, store: StoreId) -> Result<(), StoreError> {
        let table = self.tables.get(&store).ok_or(StoreError::Retired(store))?;
        self.check_damage(store, table)
    }

    /// Why nothing is read or written in a storage, if it has been away since it was to be opened. That is as of now, not of the state.
    pub fn why_away(&self, storage: StorageId) -> Option<StoreError> {
        self.pinned.engine().files().why_away(storage)
    }

    fn check_damage(&self, store: StoreId, table: &TableVersion) -> Result<(), StoreError> {
        let damages = self.pinned.engine().damages();
        match damages.any() {
            false => Ok(()),
            true => table.segments.check().and_then(|()| damages.check_hot(store)),
        }
    }

    /// Takes what went wrong as hot rows of a store were read.
    pub(crate) fn of_hot(&self, store: StoreId, error: StoreError) -> StoreError {
        self.pinned.engine().damages().of_hot(store, error)
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

    /// Keeps it readable until its end is reached, however long that takes: see [`Exempt`].
    pub(crate) fn exempt(&self) -> Exempt {
        self.pinned.exempt()
    }

    /// A live store, or the error that says that it is not; and whether the scope's rows can be seen.
    pub(crate) fn live(&self, store: StoreId, scope: ScopeId) -> Result<(&TableVersion, bool), StoreError> {
        self.pinned.check()?;
        let table = self.tables.get(&store).ok_or(StoreError::Retired(store))?;
        self.check_damage(store, table)?;
        let visible = !self.retired_scopes.contains(&scope) || mistake!(RetiredScopesAreShown);
        Ok((table, visible))
    }

    /// Finds a live row by its encoded key. Expired rows (`now_micros`) are not found.
    ///
    /// # Errors
    /// [`StoreError::Retired`] if the store is not live, [`StoreError::Damaged`] if a segment of it is, whether or not it is
    /// needed; [`StoreError::SnapshotTooOld`]; [`StoreError::Storage`] when reading fails.
    pub fn find(
        &self,
        schema: &Arc<StoreSchema>,
        store: StoreId,
        scope: ScopeId,
        key: &[u8],
        now_micros: i64,
    ) -> Result<Option<Found>, StoreError> {
        let found = self.find_any(schema, store, scope, key)?;
        Ok(found.filter(|found| !found.row.expired(now_micros)))
    }

    /// [`DbState::find`] without looking at the expiry.
    fn find_any(
        &self,
        schema: &Arc<StoreSchema>,
        store: StoreId,
        scope: ScopeId,
        key: &[u8],
    ) -> Result<Option<Found>, StoreError> {
        let hot = self.find_value(store, scope, key, |epoch, whole, value| {
            view(schema, epoch, whole, value)
        })?;
        if hot.is_some() {
            return Ok(hot);
        }
        Ok(cold::find(self, schema, store, scope, &[key])?.pop().flatten())
    }

    /// [`DbState::find`] for many keys at once, answers in the same order. Rows past their expiry are answered with as well:
    /// whoever inserts over one has to remove it. See [`RowView::expiry_micros`].
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn find_all(
        &self,
        schema: &Arc<StoreSchema>,
        store: StoreId,
        scope: ScopeId,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Found>>, StoreError> {
        if let [key] = keys {
            return Ok(vec![self.find_any(schema, store, scope, key)?]);
        }
        let (table, visible) = self.live(store, scope)?;
        let mut answers = vec![None; keys.len()];
        if !visible {
            return Ok(answers);
        }
        let family = self.pinned.engine().rows(table.lifetime);
        // The current epoch first: most rows of small writes are there.
        let mut missing: Vec<usize> = (0..keys.len()).collect();
        for &epoch in table.epochs.iter().rev() {
            let mut still_missing = Vec::new();
            for part in missing.chunks(LOOKUP_KEYS) {
                let whole: Vec<Vec<u8>> = part
                    .iter()
                    .map(|&index| {
                        let mut out = Vec::with_capacity(key::PREFIX_BYTES + keys[index].len());
                        key::hot_key(store, epoch, scope, &keys[index], &mut out);
                        out
                    })
                    .collect();
                let values = self.pinned.get_all(family, &whole);
                let values = values.map_err(|error| self.of_hot(store, error))?;
                for ((&index, whole), value) in part.iter().zip(&whole).zip(values) {
                    match value {
                        Some(value) => answers[index] = Some(view(schema, epoch, whole, &value)?),
                        None => still_missing.push(index),
                    }
                }
            }
            missing = still_missing;
            if missing.is_empty() {
                return Ok(answers);
            }
        }
        if !table.segments.is_empty() {
            missing.sort_unstable_by(|&a, &b| keys[a].cmp(&keys[b]));
            let sorted: Vec<&[u8]> = missing.iter().map(|&index| keys[index].as_slice()).collect();
            let found = cold::find(self, schema, store, scope, &sorted)?;
            for (index, found) in missing.into_iter().zip(found) {
                answers[index] = found;
            }
        }
        Ok(answers)
    }

    /// Starts a scan; see [`ScanSpec`].
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn scan(self: &Arc<Self>, schema: &Arc<StoreSchema>, spec: ScanSpec) -> Result<Scan, StoreError> {
        Scan::open(self, schema, spec)
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
        self.get_counted(schema, spec, key).map(|(row, _)| row)
    }

    /// [`DbState::get`], and what it looked at: one key, whether or not it is there.
    ///
    /// # Errors
    /// As [`DbState::find`].
    pub fn get_counted(
        self: &Arc<Self>,
        schema: &Arc<StoreSchema>,
        spec: &ScanSpec,
        key: &[u8],
    ) -> Result<(RecordBatch, ScanCounters), StoreError> {
        let decoder = RowDecoder::new(schema, spec.store, spec.scope, &spec.columns, &spec.schema)?;
        let mut rows = RowBuffer::default();
        let hot = self.find_value(spec.store, spec.scope, key, |epoch, whole, value| {
            decoder.push(&mut rows, epoch, spec.now_micros, whole, value)
        })?;
        let (row, segments_read) = match hot {
            Some(_) => (decoder.decode(&mut rows)?, 0),
            None => cold::get(self, schema, spec, key)?,
        };
        let counters = ScanCounters {
            keys_read: 1,
            segments_read,
            ..ScanCounters::default()
        };
        Ok((row, counters))
    }

    /// Looks a key up in one epoch after the other and hands the value to `read`.
    fn find_value<T>(
        &self,
        store: StoreId,
        scope: ScopeId,
        key: &[u8],
        read: impl FnOnce(Epoch, &[u8], &[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (table, visible) = self.live(store, scope)?;
        if !visible {
            return Ok(None);
        }
        let family = self.pinned.engine().rows(table.lifetime);
        let mut whole = Vec::with_capacity(key::PREFIX_BYTES + key.len());
        for &epoch in table.epochs.iter().rev() {
            if mistake!(LookUpsForgetTheSealedEpoch) && epoch != table.current() {
                continue;
            }
            key::hot_key(store, epoch, scope, key, &mut whole);
            let value = self.pinned.get(family, &whole);
            if let Some(value) = value.map_err(|error| self.of_hot(store, error))? {
                return read(epoch, &whole, &value).map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads a value's header and checks that it is of the lifetime that the schema says.
fn view(schema: &StoreSchema, epoch: Epoch, whole: &[u8], value: &[u8]) -> Result<Found, StoreError> {
    let row = RowView::read(value).map_err(|problem| decode::corrupt(whole, &problem.to_string()))?;
    if row.expiry_micros.is_some() != (schema.lifetime == Lifetime::Expiring) {
        return Err(decode::corrupt(
            whole,
            "the row is of the other lifetime (durable or expiring) than its table",
        ));
    }
    Ok(Found {
        location: Location::Hot(epoch),
        row,
    })
}
