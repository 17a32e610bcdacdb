//! The write handler of UPDATE and DELETE: rows as a SELECT found them, with their new values.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::datatypes::UInt64Type;
use kalamdb_store::{
    BulkLoad, CommitError, GiveUp, KeyEncoder, Location, OnDuplicate, Publication, Put, PutKey, Removal, RowEncoder,
    ScopeId, Seq, StoreError, TableChange, TableClaim, WriteRequest,
};

use crate::access::Principal;
use crate::append::{BULK_FROM_BYTES, BULK_FROM_ROWS};
use crate::catalog::{Catalog, Table};
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::hot_limit::Room;
use crate::key_names::{KeySources, key_columns};
use crate::rights::Action;
use crate::row_buffer::row_cost_bytes;
use crate::row_check::{check_decimals, check_not_null, check_shape, too_large};
use crate::storages;

/// Times that a request may be too old for the committer, which means that very much was committed meanwhile.
const COMMIT_ATTEMPTS: usize = 4;

/// A statement's changes under way. Dropped before `finish`, nothing happens.
pub struct Mutator {
    engine: Arc<Engine>,
    view: View,
    principal: Principal,
    table: Arc<Table>,
    scope: ScopeId,
    /// None for a table without a primary key.
    keys: Option<KeyEncoder>,
    encoder: RowEncoder,
    /// The rows as they were found, by key.
    removals: HashMap<Vec<u8>, (Location, Seq)>,
    puts: Vec<NewRow>,
    sources: KeySources,
    updated: u64,
    bytes: usize,
    /// [`BULK_FROM_ROWS`], but where a test wants less.
    bulk_from_rows: usize,
    /// Where the changes of a large statement go.
    load: Option<Box<BulkLoad<Catalog>>>,
}

/// Changes that are to be committed. Dropped before, nothing happens.
pub struct PreparedChange {
    mutator: Mutator,
    /// Of a large statement, and how many rows it changes.
    publication: Option<(Arc<Publication>, u64)>,
    /// For the rows of a small one.
    _room: Option<Room>,
}

struct NewRow {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Among the updated rows, from 1.
    position: u64,
}

impl Mutator {
    pub(crate) fn new(engine: &Arc<Engine>, view: &View, principal: &Principal, table: &Arc<Table>) -> Result<Self> {
        // Whoever has neither right learns it before any row is read; which of the two is needed shows with the first row.
        if let Err(error) = principal.check(Action::Update, table) {
            principal.check(Action::Delete, table).map_err(|_| error)?;
        }
        let keyless = table.schema.primary_key.is_empty();
        Ok(Mutator {
            engine: engine.clone(),
            view: view.clone(),
            principal: principal.clone(),
            table: table.clone(),
            scope: table.kind.scope(principal),
            keys: if keyless {
                None
            } else {
                Some(KeyEncoder::new(&table.schema.stored)?)
            },
            encoder: RowEncoder::new(table.schema.stored.clone())?,
            removals: HashMap::new(),
            puts: Vec::new(),
            sources: KeySources::default(),
            updated: 0,
            bytes: 0,
            bulk_from_rows: BULK_FROM_ROWS,
            load: None,
        })
    }

    /// Makes it a large statement from so many rows on.
    #[cfg(test)]
    pub(crate) fn bulk_from(mut self, rows: usize) -> Self {
        self.bulk_from_rows = rows;
        self
    }

    /// Removes rows. Columns: `_row_key` Binary, `_row_location` UInt64, `_seq` UInt64 (see [`crate::ScanField`]).
    /// A row named twice counts once; says which rows counted.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE.
    pub fn delete(&mut self, found: &RecordBatch) -> Result<BooleanArray> {
        self.principal.check(Action::Delete, &self.table)?;
        let found = FoundRows::of(found)?;
        let mut counted = Vec::with_capacity(found.len());
        for row in 0..found.len() {
            counted.push(self.remove(&found, row)?);
        }
        self.go_on_in_bulk()?;
        Ok(counted.into())
    }

    /// Replaces rows: `found` as for [`Mutator::delete`], `rows` with all SQL-visible columns in table order, row for row.
    /// The key may change. A STREAM row keeps its expiry. A row named twice keeps its first new value; says which rows counted.
    ///
    /// # Errors
    /// NOT_NULL_VIOLATION, STATEMENT_TOO_LARGE.
    pub fn update(&mut self, found: &RecordBatch, rows: &RecordBatch) -> Result<BooleanArray> {
        self.principal.check(Action::Update, &self.table)?;
        if found.num_rows() != rows.num_rows() {
            return Err(Error::new(
                ErrorCode::Internal,
                format!(
                    "{} rows were found and {} are to replace them",
                    found.num_rows(),
                    rows.num_rows()
                ),
            ));
        }
        if rows.num_rows() == 0 {
            return Ok(Vec::<bool>::new().into());
        }
        check_shape(&self.table, rows)?;
        check_decimals(&self.table, rows)?;
        check_not_null(&self.table, rows, self.updated)?;
        let key_columns = key_columns(&self.table, rows);
        let found = FoundRows::of(found)?;
        let expiries = self.expiries(&found)?;
        let mut counted = Vec::with_capacity(found.len());
        for row in 0..found.len() {
            let is_first = self.remove(&found, row)?;
            counted.push(is_first);
            if is_first {
                let expiry_micros = expiries.as_ref().and_then(|expiries| expiries[row]);
                let position = self.updated + row as u64 + 1;
                self.put(found.keys.value(row), &key_columns, rows, row, expiry_micros, position)?;
            }
        }
        self.sources.add(self.updated + 1, key_columns);
        self.updated += rows.num_rows() as u64;
        self.go_on_in_bulk()?;
        Ok(counted.into())
    }

    /// Hands what there is to a bulk load, once it is much: the rows go straight into segments, and what is removed is a bit.
    fn go_on_in_bulk(&mut self) -> Result<()> {
        let is_much = self.removals.len() >= self.bulk_from_rows || self.bytes >= BULK_FROM_BYTES;
        if self.load.is_none() && !(is_much && self.table.kind.loads_in_bulk()) {
            return Ok(());
        }
        let mut load = match self.load.take() {
            Some(load) => load,
            None => {
                let options = storages::segment_options(&self.view.state, &self.table)?;
                let load = BulkLoad::begin(
                    self.engine.store(),
                    self.table.store,
                    self.scope,
                    &self.table.schema.stored,
                    &options,
                    OnDuplicate::Fail,
                    true,
                );
                Box::new(load.map_err(|error| self.of_store(error))?)
            }
        };
        for (key, (location, seq)) in std::mem::take(&mut self.removals) {
            let noted = load.remove(&self.view.state, &key, location, seq);
            noted.map_err(|error| self.of_store(error))?;
        }
        for put in &self.puts {
            self.sources.note_place(put.position, &put.key);
        }
        let rows = self.puts.drain(..).map(|put| (Some(Arc::from(put.key)), put.value));
        let rows = rows.collect();
        let written = load.write_encoded(rows);
        // What is left in memory are the keys of hot rows.
        self.bytes = load.removed_hot() * row_cost_bytes(0);
        self.load = Some(load);
        written.map_err(|error| self.of_store(error))?;
        self.sources.clear();
        self.take(0)
    }

    /// [`Mutator::prepare`] and [`PreparedChange::commit`] at once.
    ///
    /// # Errors
    /// As there.
    pub async fn finish(self) -> Result<u64> {
        self.prepare(&|| false).await?.commit().await
    }

    /// Does all that can be done before the commit: of a large statement most of the work, which blocks on CPU and disk. Nothing is
    /// durable yet: dropped, or once `give_up` says so, nothing happens.
    ///
    /// # Errors
    /// DUPLICATE_KEY; CONFLICT when another commit changed a row since the view: run the statement again at a new view. CANCELLED.
    pub async fn prepare(mut self, give_up: GiveUp<'_>) -> Result<PreparedChange> {
        let mut room = None;
        let publication = match self.load.take() {
            Some(load) => {
                let changed = load.removed();
                let finished = load.finish_unless(give_up).await;
                Some((finished.map_err(|error| self.of_store(error))?, changed))
            }
            None => {
                self.check_puts_differ()?;
                if !self.puts.is_empty() {
                    room = self.engine.wait_for_room(&self.table, self.bytes).await?;
                }
                None
            }
        };
        Ok(PreparedChange {
            mutator: self,
            publication,
            _room: room,
        })
    }

    async fn commit_rows(mut self) -> Result<u64> {
        if self.removals.is_empty() {
            return Ok(0);
        }
        for _ in 0..COMMIT_ATTEMPTS {
            let request = self.request()?;
            match self.engine.store().commit(request).await {
                Ok(_) => return Ok(self.removals.len() as u64),
                Err(CommitError::Stale) => self.look_again()?,
                Err(error) => return Err(self.of_commit(error)),
            }
        }
        Err(self.of_commit(CommitError::Stale))
    }

    /// Notes the row's removal; false if the statement changes it already.
    fn remove(&mut self, found: &FoundRows, row: usize) -> Result<bool> {
        let key = found.keys.value(row);
        let location = Location::from_bits(found.locations.value(row));
        let is_known = self.load.as_ref().is_some_and(|load| load.removes(key, location));
        if is_known || self.removals.contains_key(key) {
            return Ok(false);
        }
        self.take(row_cost_bytes(key.len()))?;
        self.removals
            .insert(key.to_vec(), (location, Seq(found.seqs.value(row))));
        Ok(true)
    }

    fn put(
        &mut self,
        old_key: &[u8],
        key_columns: &[ArrayRef],
        rows: &RecordBatch,
        row: usize,
        expiry_micros: Option<i64>,
        position: u64,
    ) -> Result<()> {
        let key = match &self.keys {
            Some(encoder) => {
                let mut key = Vec::new();
                encoder.encode(key_columns, row, &mut key)?;
                key
            }
            // A row without a primary key stays the row that it was.
            None => old_key.to_vec(),
        };
        let value = self.encoder.encode(rows.columns(), row, expiry_micros)?;
        self.take(row_cost_bytes(key.len() + value.len()))?;
        self.puts.push(NewRow { key, value, position });
        Ok(())
    }

    /// Counts memory against the statement's limit.
    fn take(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        let limit = self.engine.statement_write_limit_bytes();
        if self.bytes > limit {
            Err(too_large(&self.table, limit))
        } else {
            Ok(())
        }
    }

    /// When each row expires; none for tables whose rows do not.
    fn expiries(&self, found: &FoundRows) -> Result<Option<Vec<Option<i64>>>> {
        if self.table.options.ttl_seconds.is_none() {
            return Ok(None);
        }
        let keys: Vec<Vec<u8>> = (0..found.len()).map(|row| found.keys.value(row).to_vec()).collect();
        let rows = self
            .view
            .state
            .find_all(&self.table.schema.stored, self.table.store, self.scope, &keys);
        let rows = rows.map_err(|error| self.of_store(error))?;
        rows.into_iter()
            .map(|row| {
                if mistake!(UpdatesRenewTheExpiry) {
                    return Ok(Some(self.view.now_micros() + 10_000_000));
                }
                row.map(|row| row.row.expiry_micros)
                    .ok_or_else(|| self.of_commit(CommitError::Conflict))
            })
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }

    /// Refuses two new rows of one key.
    fn check_puts_differ(&self) -> Result<()> {
        let mut keys = HashSet::with_capacity(self.puts.len());
        for put in &self.puts {
            if !keys.insert(put.key.as_slice()) {
                let problem = "would be that of two rows in table";
                return Err(self.sources.duplicate_at(&self.table, put.position, problem));
            }
        }
        Ok(())
    }

    fn request(&self) -> Result<WriteRequest> {
        let (store, scope, table) = (self.table.store, self.scope, &self.table);
        let mut removals: Vec<Removal> = self
            .removals
            .iter()
            .map(|(key, &(location, seq))| Removal {
                store,
                scope,
                key: key.clone(),
                location,
                seq,
            })
            .collect();
        let moved: Vec<&NewRow> = self
            .puts
            .iter()
            .filter(|put| !self.removals.contains_key(&put.key))
            .collect();
        if !moved.is_empty() {
            let keys: Vec<Vec<u8>> = moved.iter().map(|put| put.key.clone()).collect();
            let found = self.view.state.find_all(&table.schema.stored, store, scope, &keys);
            let found = found.map_err(|error| self.of_store(error))?;
            for ((put, key), found) in moved.into_iter().zip(keys).zip(found) {
                let Some(found) = found else { continue };
                let expiry_micros = found.row.expiry_micros;
                let is_live = expiry_micros.is_none_or(|expiry| expiry > self.view.now_micros())
                    || mistake!(ExpiredRowsKeepTheirKeysFromUpdates);
                if is_live && !mistake!(UpdatesTakeLiveKeys) {
                    return Err(self
                        .sources
                        .duplicate_at(table, put.position, "exists already in table"));
                }
                removals.push(Removal {
                    store,
                    scope,
                    key,
                    location: found.location,
                    seq: found.row.seq,
                });
            }
        }
        let puts = self.puts.iter().map(|put| Put {
            store,
            scope,
            key: PutKey::Key(put.key.clone()),
            value: put.value.clone(),
        });
        Ok(WriteRequest {
            validated_at: self.view.state.seq(),
            tables: vec![TableClaim {
                store,
                schema_version: table.schema.version,
                scope,
                exclusive: false,
            }],
            removals,
            puts: puts.collect(),
            now_micros: self.engine.now_micros(),
        })
    }

    /// Finds the rows again in a new view: they must be the very same, wherever they are now.
    fn look_again(&mut self) -> Result<()> {
        let view = self.engine.view();
        let keys: Vec<Vec<u8>> = self.removals.keys().cloned().collect();
        let found = view
            .state
            .find_all(&self.table.schema.stored, self.table.store, self.scope, &keys);
        let found = found.map_err(|error| self.of_store(error))?;
        for (key, found) in keys.into_iter().zip(found) {
            let was = self.removals.get_mut(&key).expect("the keys are those of the removals");
            match found {
                Some(found) if found.row.seq == was.1 => was.0 = found.location,
                Some(_) | None => return Err(self.of_commit(CommitError::Conflict)),
            }
        }
        self.view = view;
        Ok(())
    }

    fn of_commit(&self, error: CommitError) -> Error {
        self.sources
            .of_commit(error, &self.engine, &self.table, self.keys.as_ref())
    }

    fn of_store(&self, error: StoreError) -> Error {
        self.sources
            .of_store(error, &self.engine, &self.table, self.keys.as_ref())
    }

    /// What the changes hold in memory until their commit, bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.bytes
    }
}

impl PreparedChange {
    /// Commits; the number of rows changed.
    ///
    /// # Errors
    /// As [`Mutator::prepare`], and UNKNOWN_OUTCOME, STORAGE_ERROR.
    pub async fn commit(self) -> Result<u64> {
        let Some((publication, changed)) = self.publication else {
            return self.mutator.commit_rows().await;
        };
        let mutator = self.mutator;
        let change = TableChange::Publish(publication);
        let published = mutator.engine.change_stores(vec![change]).await;
        published.map(|()| changed).map_err(|error| mutator.of_commit(error))
    }
}

/// The columns that name rows.
struct FoundRows {
    keys: BinaryArray,
    locations: UInt64Array,
    seqs: UInt64Array,
}

impl FoundRows {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let missing = |name: &str| {
            Error::new(
                ErrorCode::Internal,
                format!("the rows to change come without their column {name}"),
            )
        };
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        Ok(FoundRows {
            keys: column("_row_key")?
                .as_binary_opt::<i32>()
                .ok_or_else(|| missing("_row_key"))?
                .clone(),
            locations: column("_row_location")?
                .as_primitive_opt::<UInt64Type>()
                .ok_or_else(|| missing("_row_location"))?
                .clone(),
            seqs: column("_seq")?
                .as_primitive_opt::<UInt64Type>()
                .ok_or_else(|| missing("_seq"))?
                .clone(),
        })
    }

    fn len(&self) -> usize {
        self.keys.len()
    }
}
