//! The write handler of INSERT and ingest: rows come in batches; beyond a size they go straight into segments.

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_store::{
    BulkLoad, CommitError, Counter, GiveUp, KeyEncoder, OnDuplicate, Publication, Put, PutKey, Removal, RowEncoder,
    ScopeId, StoreError, StoreId, TableChange, TableClaim, WriteRequest,
};

use crate::access::Principal;
use crate::catalog::{Catalog, Table};
use crate::define::{CreateMode, NewTable, Placement};
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::hot_limit::Room;
use crate::key_names::{KeySources, key_columns};
use crate::max_rows;
use crate::rights::Action;
use crate::row_buffer::{Buffered, BufferedRow, RowBuffer};
use crate::row_check::{check_decimals, check_not_null, check_shape, too_large};
use crate::storages;

/// What to do with a row whose primary key exists (in the table or earlier in the same load).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// DUPLICATE_KEY, and nothing of the statement stays.
    Error,
    /// The newer row replaces the older.
    Replace,
    /// The newer row is dropped.
    Ignore,
}

/// From so many rows on a statement is a bulk load: below, one commit costs less than the steps of a load.
pub(crate) const BULK_FROM_ROWS: usize = if cfg!(test) { 2000 } else { 64 * 1024 };
/// From so many bytes in memory on, about half of them encoded rows: a commit of this size holds up the other writers of its
/// group for a few milliseconds.
pub(crate) const BULK_FROM_BYTES: usize = 24 << 20;
/// Conflicts after which a statement gives up. From the first on it has the turn among the writers of its rows, so only
/// commits that were under way already, and rare UPDATEs, can come between.
const COMMIT_ATTEMPTS: usize = 16;

/// A statement's rows under way. Dropped before `finish`, nothing remains.
pub struct Appender {
    engine: Arc<Engine>,
    target: Target,
    table: Arc<Table>,
    scope: ScopeId,
    on_conflict: OnConflict,
    /// None for a table without a primary key.
    keys: Option<KeyEncoder>,
    encoder: RowEncoder,
    /// When this statement's rows cease to exist, in STREAM tables.
    expiry_micros: Option<i64>,
    load: Load,
    sources: KeySources,
    pushed: u64,
    /// [`BULK_FROM_ROWS`], but where a test wants less.
    bulk_from_rows: usize,
}

/// A statement's rows, to be committed. Dropped before, nothing remains.
pub struct PreparedRows {
    appender: Appender,
    rows: Prepared,
}

enum Prepared {
    Rows(RowBuffer, Option<Room>),
    /// In segments that nobody sees.
    Load(Arc<Publication>),
}

/// Where the rows go.
enum Target {
    /// A table that is there.
    Existing,
    /// A table that `finish` creates.
    New(Box<Placement>),
    /// Nowhere: the table to create IF NOT EXISTS exists.
    Nowhere,
}

/// The rows so far.
enum Load {
    Rows(RowBuffer),
    Bulk(Box<BulkLoad<Catalog>>),
}

impl Appender {
    pub(crate) fn into_table(
        engine: &Arc<Engine>,
        principal: &Principal,
        table: &Arc<Table>,
        on_conflict: OnConflict,
    ) -> Result<Self> {
        principal.check(Action::Insert, table)?;
        match on_conflict {
            OnConflict::Replace => principal.check(Action::Update, table)?,
            OnConflict::Error | OnConflict::Ignore => {}
        }
        Appender::new(engine, principal, Target::Existing, table.clone(), on_conflict)
    }

    fn new(
        engine: &Arc<Engine>,
        principal: &Principal,
        target: Target,
        table: Arc<Table>,
        on_conflict: OnConflict,
    ) -> Result<Self> {
        let keyless = table.schema.primary_key.is_empty();
        let expiry_micros = table.options.ttl_seconds.map(|ttl_seconds| {
            let ttl_micros = i64::try_from(ttl_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            engine.now_micros().saturating_add(ttl_micros)
        });
        Ok(Appender {
            engine: engine.clone(),
            target,
            scope: table.kind.scope(principal),
            // Without keys nothing conflicts.
            on_conflict: if keyless { OnConflict::Error } else { on_conflict },
            keys: if keyless {
                None
            } else {
                Some(KeyEncoder::new(&table.schema.stored)?)
            },
            encoder: RowEncoder::new(table.schema.stored.clone())?,
            expiry_micros,
            load: Load::Rows(RowBuffer::default()),
            sources: KeySources::default(),
            pushed: 0,
            bulk_from_rows: BULK_FROM_ROWS,
            table,
        })
    }

    /// Makes it a bulk load from so many rows on.
    #[cfg(test)]
    pub(crate) fn bulk_from(mut self, rows: usize) -> Self {
        self.bulk_from_rows = rows;
        self
    }

    /// What `finish` would commit as of this view.
    #[cfg(test)]
    pub(crate) fn planned(&self, view: &View) -> Result<WriteRequest> {
        match &self.load {
            Load::Rows(buffer) => self.request(view, buffer).map(|(request, _)| request),
            Load::Bulk(_) => panic!("so many rows are no request"),
        }
    }

    /// Adds rows: all SQL-visible columns of the table, in table order, exactly of the columns' types.
    /// Blocks on CPU and, in bulk, on disk: call it on the query runtime.
    ///
    /// # Errors
    /// NOT_NULL_VIOLATION and DUPLICATE_KEY name column or key columns and the row's position in the statement (from 1),
    /// STATEMENT_TOO_LARGE, CONFLICT.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if matches!(self.target, Target::Nowhere) || batch.num_rows() == 0 {
            return Ok(());
        }
        check_shape(&self.table, batch)?;
        check_decimals(&self.table, batch)?;
        check_not_null(&self.table, batch, self.pushed)?;
        self.sources.add(self.pushed + 1, key_columns(&self.table, batch));
        let from = match self.load {
            Load::Rows(_) => self.buffer_rows(batch)?,
            Load::Bulk(_) => 0,
        };
        if from < batch.num_rows() {
            self.load_rows(&batch.slice(from, batch.num_rows() - from), from)?;
        }
        self.pushed += batch.num_rows() as u64;
        if matches!(self.load, Load::Bulk(_)) {
            self.sources.clear();
        }
        Ok(())
    }

    /// [`Appender::prepare`] and [`PreparedRows::commit`] at once.
    ///
    /// # Errors
    /// As there.
    pub async fn finish(self) -> Result<u64> {
        self.prepare(&|| false).await?.commit().await
    }

    /// Does all that can be done before the commit: of a bulk load most of the work, which blocks on CPU and disk. Nothing is durable
    /// yet: dropped, or once `give_up` says so, nothing remains.
    ///
    /// # Errors
    /// DUPLICATE_KEY, TABLE_NOT_FOUND (dropped meanwhile), STORAGE_ERROR, CANCELLED.
    pub async fn prepare(mut self, give_up: GiveUp<'_>) -> Result<PreparedRows> {
        let load = std::mem::replace(&mut self.load, Load::Rows(RowBuffer::default()));
        let rows = match (&self.target, load) {
            (Target::Existing | Target::New(_), Load::Bulk(load)) => {
                let finished = load.finish_unless(give_up).await;
                Prepared::Load(finished.map_err(|error| self.of_store(error))?)
            }
            (Target::Existing, Load::Rows(buffer)) => {
                let room = self.engine.wait_for_room(&self.table, buffer.bytes).await?;
                Prepared::Rows(buffer, room)
            }
            (Target::New(_), Load::Rows(buffer)) => Prepared::Rows(buffer, None),
            (Target::Nowhere, _) => Prepared::Rows(RowBuffer::default(), None),
        };
        Ok(PreparedRows { appender: self, rows })
    }

    /// Buffers rows until there are so many that they are loaded in bulk; the row to go on with.
    fn buffer_rows(&mut self, batch: &RecordBatch) -> Result<usize> {
        let key_columns = key_columns(&self.table, batch);
        let Load::Rows(buffer) = &mut self.load else {
            return Ok(0);
        };
        let in_bulk = self.table.kind.loads_in_bulk();
        for row in 0..batch.num_rows() {
            let position = self.pushed + row as u64 + 1;
            let key = match &self.keys {
                Some(encoder) => {
                    let mut key = Vec::new();
                    encoder.encode(&key_columns, row, &mut key)?;
                    Some(Arc::from(key))
                }
                None => None,
            };
            let value = self.encoder.encode(batch.columns(), row, self.expiry_micros)?;
            match buffer.add(BufferedRow { key, value, position }, self.on_conflict) {
                Buffered::Kept => {}
                Buffered::Duplicate(earlier) => {
                    let problem = format!("is that of row {earlier} of the same statement, table");
                    return Err(self.sources.duplicate_at(&self.table, position, &problem));
                }
            }
            if in_bulk && (buffer.rows.len() >= self.bulk_from_rows || buffer.bytes >= BULK_FROM_BYTES) {
                let buffer = std::mem::take(buffer);
                self.begin_load(buffer)?;
                return Ok(row + 1);
            }
            let limit = self.engine.statement_write_limit_bytes();
            if buffer.bytes > limit {
                return Err(too_large(&self.table, limit));
            }
        }
        Ok(batch.num_rows())
    }

    fn begin_load(&mut self, buffer: RowBuffer) -> Result<()> {
        let on_duplicate = match self.on_conflict {
            OnConflict::Error => OnDuplicate::Fail,
            OnConflict::Replace => OnDuplicate::Replace,
            OnConflict::Ignore => OnDuplicate::Ignore,
        };
        let table = &self.table;
        let options = storages::segment_options(&self.engine.view().state, table)?;
        let mut load = BulkLoad::begin(
            self.engine.store(),
            table.store,
            self.scope,
            &table.schema.stored,
            &options,
            on_duplicate,
            false,
        )
        .map_err(|error| self.of_store(error))?;
        for row in &buffer.rows {
            if let Some(key) = &row.key {
                self.sources.note_place(row.position, key);
            }
        }
        let rows = buffer.rows.into_iter().map(|row| (row.key, row.value)).collect();
        load.write_encoded(rows).map_err(|error| self.of_store(error))?;
        self.load = Load::Bulk(Box::new(load));
        Ok(())
    }

    /// Loads rows, those of a batch from row `from` on.
    fn load_rows(&mut self, rows: &RecordBatch, from: usize) -> Result<()> {
        let Load::Bulk(load) = &mut self.load else {
            return Ok(());
        };
        match load.write(rows.columns(), rows.num_rows()) {
            Ok(keys) => {
                let first = self.pushed + from as u64 + 1;
                for (position, key) in (first..).zip(keys.iter().flatten().flatten()) {
                    self.sources.note_place(position, key);
                }
                Ok(())
            }
            Err(error) => Err(self.of_store(error)),
        }
    }

    async fn publish(&self, publication: Arc<Publication>) -> Result<u64> {
        let rows = publication.rows();
        let table = &self.table;
        let published = self.engine.change_or(
            |change| {
                let current = change
                    .catalog
                    .tables
                    .values()
                    .find(|current| current.table_id == table.table_id);
                if current.is_none_or(|current| {
                    current.store != table.store || current.schema.version != table.schema.version
                }) {
                    return Err(Error::gone(table, &change.catalog));
                }
                change.change_store(TableChange::Publish(publication));
                Ok(())
            },
            |error| self.of_commit(error),
        );
        published.await?;
        Ok(rows)
    }

    async fn create_with_rows(&self, placement: Placement, mut buffer: RowBuffer) -> Result<u64> {
        let accepted = buffer.rows.len() as u64;
        if let Some(max_rows) = self.table.options.max_rows {
            let most = usize::try_from(max_rows).unwrap_or(usize::MAX);
            let excess = buffer.rows.len().saturating_sub(most);
            buffer.rows.drain(..excess);
        }
        let (store, scope) = (self.table.store, self.scope);
        let puts = buffer.rows.into_iter().map(|row| row.into_put(store, scope)).collect();
        let created = self.engine.change_or(
            |change| {
                let creates = placement.apply(change)?;
                if creates {
                    change.add_rows(puts);
                }
                Ok(creates)
            },
            |error| self.of_commit(error),
        );
        Ok(if created.await? { accepted } else { 0 })
    }

    async fn create_with_load(&self, placement: Placement, publication: Arc<Publication>) -> Result<u64> {
        let rows = publication.rows();
        let created = self.engine.change_or(
            |change| {
                let creates = placement.apply(change)?;
                if creates {
                    change.change_store(TableChange::Publish(publication));
                }
                Ok(creates)
            },
            |error| self.of_commit(error),
        );
        Ok(if created.await? { rows } else { 0 })
    }

    async fn commit_rows(&self, buffer: RowBuffer) -> Result<u64> {
        if buffer.rows.is_empty() {
            return Ok(0);
        }
        let (store, scope) = (self.table.store, self.scope);
        let mut turn = Some(self.engine.turn(store, scope).await);
        if self.table.options.max_rows.is_none() {
            // No need to race whoever has the turn, and no need for a turn: commits go together in one group.
            turn = None;
        }
        for _ in 0..COMMIT_ATTEMPTS {
            let view = self.engine.view();
            let (request, accepted) = self.request(&view, &buffer)?;
            if request.puts.is_empty() && request.removals.is_empty() {
                return Ok(accepted);
            }
            match self.engine.store().commit(request).await {
                Ok(_) => return Ok(accepted),
                // Another commit touched the same keys: what became of them is seen in a new view. The encoded rows stay.
                Err(CommitError::Conflict | CommitError::Stale) => {
                    if turn.is_none() {
                        turn = Some(self.engine.turn(store, scope).await);
                    }
                }
                Err(error) => return Err(self.of_commit(error)),
            }
        }
        drop(turn);
        Err(self.of_commit(CommitError::Conflict))
    }

    /// The change of rows as of `view`, and how many of the statement's rows it takes.
    fn request(&self, view: &View, buffer: &RowBuffer) -> Result<(WriteRequest, u64)> {
        let (store, scope, table) = (self.table.store, self.scope, &self.table);
        match view.state.table(store) {
            None => return Err(Error::gone(table, view.catalog())),
            Some(version) if version.schema_version != table.schema.version => {
                return Err(self.of_commit(CommitError::Conflict));
            }
            Some(_) => {}
        }
        let mut removals = Vec::new();
        let mut puts = Vec::with_capacity(buffer.rows.len());
        if self.keys.is_some() {
            let keys: Vec<Vec<u8>> = buffer
                .rows
                .iter()
                .filter_map(|row| row.key.as_deref())
                .map(<[u8]>::to_vec)
                .collect();
            let found = view.state.find_all(&table.schema.stored, store, scope, &keys);
            let found = found.map_err(|error| self.of_store(error))?;
            for ((row, key), found) in buffer.rows.iter().zip(keys).zip(found) {
                if let Some(found) = found {
                    let is_live = found.row.expiry_micros.is_none_or(|expiry| expiry > view.now_micros())
                        || mistake!(ExpiredRowsKeepTheirKeys);
                    match self.on_conflict {
                        OnConflict::Error if is_live && !mistake!(LiveKeysAreFree) => {
                            return Err(self
                                .sources
                                .duplicate_at(table, row.position, "exists already in table"));
                        }
                        OnConflict::Ignore if is_live => continue,
                        OnConflict::Error | OnConflict::Ignore | OnConflict::Replace => {
                            removals.push(Removal {
                                store,
                                scope,
                                key: key.clone(),
                                location: found.location,
                                seq: found.row.seq,
                            });
                        }
                    }
                }
                puts.push(Put {
                    store,
                    scope,
                    key: PutKey::Key(key),
                    value: row.value.clone(),
                });
            }
        } else {
            let values = buffer.rows.iter().map(|row| row.value.clone());
            puts.extend(values.map(|value| Put {
                store,
                scope,
                key: PutKey::RowId,
                value,
            }));
        }
        let accepted = puts.len() as u64;
        if let Some(max_rows) = table.options.max_rows.filter(|_| !mistake!(MaxRowsIsIgnored)) {
            max_rows::trim(view, table, scope, max_rows, &mut removals, &mut puts)?;
        }
        let claim = TableClaim {
            store,
            schema_version: table.schema.version,
            scope,
            exclusive: table.options.max_rows.is_some() && !mistake!(InsertsDoNotClaimTheirUser),
        };
        let request = WriteRequest {
            validated_at: view.state.seq(),
            tables: vec![claim],
            removals,
            puts,
            now_micros: view.now_micros(),
        };
        Ok((request, accepted))
    }

    fn of_commit(&self, error: CommitError) -> Error {
        self.sources
            .of_commit(error, &self.engine, &self.table, self.keys.as_ref())
    }

    fn of_store(&self, error: StoreError) -> Error {
        self.sources
            .of_store(error, &self.engine, &self.table, self.keys.as_ref())
    }

    /// What the rows hold in memory until their commit, bytes. A bulk load holds little, within a bound of the store.
    pub fn buffered_bytes(&self) -> usize {
        match &self.load {
            Load::Rows(buffer) => buffer.bytes,
            Load::Bulk(_) => 0,
        }
    }
}

impl PreparedRows {
    /// Commits; the number of rows written. Retries by itself, a bounded number of times, when the commit conflicts.
    ///
    /// # Errors
    /// DUPLICATE_KEY, CONFLICT, TABLE_NOT_FOUND (dropped meanwhile), UNKNOWN_OUTCOME, STORAGE_ERROR.
    pub async fn commit(self) -> Result<u64> {
        let mut appender = self.appender;
        let target = std::mem::replace(&mut appender.target, Target::Nowhere);
        match (target, self.rows) {
            (Target::Nowhere, _) => Ok(0),
            (Target::Existing, Prepared::Rows(buffer, _room)) => appender.commit_rows(buffer).await,
            (Target::Existing, Prepared::Load(publication)) => appender.publish(publication).await,
            (Target::New(placement), Prepared::Rows(buffer, _)) => appender.create_with_rows(*placement, buffer).await,
            (Target::New(placement), Prepared::Load(publication)) => {
                appender.create_with_load(*placement, publication).await
            }
        }
    }
}

impl Engine {
    /// A load whose `finish` creates (or replaces) the table with its rows in one step; nothing of it shows before.
    ///
    /// # Errors
    /// As [`Engine::create_table`]; a name taken meanwhile shows at `finish`.
    pub fn create_table_with_rows(
        self: &Arc<Self>,
        principal: &Principal,
        new: NewTable,
        mode: CreateMode,
        on_conflict: OnConflict,
    ) -> Result<Appender> {
        let view = self.view();
        let existing = view.catalog().table(&new.name).cloned();
        let store = StoreId(self.next_number(Counter::Store)?);
        let placement = self.place_table(view.catalog(), principal, &new, mode, store)?;
        match (placement, existing) {
            (Some(placement), _) => {
                let table = placement.table().clone();
                Appender::new(self, principal, Target::New(Box::new(placement)), table, on_conflict)
            }
            (None, Some(table)) => Appender::new(self, principal, Target::Nowhere, table, on_conflict),
            (None, None) => Err(Error::new(
                ErrorCode::Internal,
                format!("table {} was not planned", new.name),
            )),
        }
    }
}
