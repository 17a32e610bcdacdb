//! Bulk loads: rows go in chunks into an epoch that no reader knows, which one step publishes or nobody ever sees.
//!
//! A chunk is sorted, checked for keys that exist and written as one file, which RocksDB takes over without log, memtable or
//! later compaction. One chunk fills while the one before it is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rocksdb::{IngestExternalFileOptions, SstFileWriter, WriteBatch};

use crate::engine::{Engine, storage};
use crate::erase::{EraseJob, EraserHandle};
use crate::error::StoreError;
use crate::ids::{Epoch, SchemaVersion, ScopeId, Seq, StoreId};
use crate::key;
use crate::meta;
use crate::pinned::IterateOptions;
use crate::row;
use crate::schema::{Lifetime, StoreSchema};
use crate::snapshot::DbState;
use crate::store::{Counter, Store};
use crate::tuning::{LOOKUP_KEYS, STAGING_BYTES, STAGING_CHUNK_MIN_BYTES, WATCH_REST_KEYS, WATCH_ROUNDS};
use crate::watch::{StagedKeys, Watch, first_present};

/// Epochs from here on are given out to loads; those below to tables.
pub(crate) const FIRST_STAGED_EPOCH: Epoch = Epoch(1 << 31);

/// Bytes of the scope, with which a staged entry's key starts.
const SCOPE_BYTES: usize = 8;

/// A load under way. Dropping it unpublished erases what it wrote; so does a restart.
pub struct Staging<C> {
    store: Arc<Store<C>>,
    /// What is handed over in the end; until then, what erases when it is dropped.
    load: StagedEpoch,
    keyed: bool,
    chunk: Chunk,
    /// The chunk being written.
    writing: Option<JoinHandle<Result<Written, StoreError>>>,
    written: Written,
    /// Something of it was not written, so it must never be finished.
    failed: bool,
}

/// What the chunks before this one reach from and to, as `scope | PK`.
#[derive(Clone, Debug, Default)]
struct Written {
    range: Option<(Vec<u8>, Vec<u8>)>,
}

/// Rows that wait to be written, keys as `scope | PK`.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    sorted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    key_len: u32,
    value_len: u32,
}

/// A finished load, to be named in [`crate::TableChange::Publish`]. Dropped unpublished, it is erased.
#[derive(Debug)]
pub struct StagedEpoch {
    /// Of which store.
    pub store: StoreId,
    /// Its epoch.
    pub epoch: Epoch,
    /// How many rows.
    pub rows: u64,
    schema_version: SchemaVersion,
    scopes: BTreeSet<ScopeId>,
    /// Keys that others insert; none for tables without a key.
    watch: Option<Arc<Watch>>,
    /// Whether dropping it erases it.
    armed: AtomicBool,
    eraser: EraserHandle,
}

impl<C: Send + Sync + 'static> Staging<C> {
    /// Starts a load into `store`: a live one (its existing keys are checked) or a new id not created yet.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when the intent cannot be written; [`StoreError::Unsupported`] for expiring stores.
    pub fn begin(store: &Arc<Store<C>>, target: StoreId, schema: Arc<StoreSchema>) -> Result<Self, StoreError> {
        if schema.lifetime == Lifetime::Expiring {
            return Err(StoreError::Unsupported(
                "an expiring table takes no bulk load".to_string(),
            ));
        }
        let number = store.next_id(Counter::Epoch)?;
        let epoch = u32::try_from(number)
            .ok()
            .and_then(|number| FIRST_STAGED_EPOCH.0.checked_add(number))
            .map(Epoch)
            .ok_or_else(|| StoreError::Storage("there are no more epoch numbers for bulk loads".to_string()))?;
        let engine = store.engine();
        let mut batch = WriteBatch::default();
        batch.put_cf(engine.meta(), meta::intent(target, epoch), []);
        engine.write_synced(batch)?;
        let mut load = StagedEpoch {
            store: target,
            epoch,
            rows: 0,
            schema_version: schema.version,
            scopes: BTreeSet::new(),
            watch: None,
            armed: AtomicBool::new(true),
            eraser: store.eraser().clone(),
        };
        let keyed = !schema.key.is_empty();
        if keyed {
            load.watch = Some(store.watch(target)?);
        }
        let chunk = Chunk::new();
        store.loads().fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            store: store.clone(),
            load,
            keyed,
            chunk,
            writing: None,
            written: Written::default(),
            failed: false,
        })
    }

    /// Adds rows of one scope: (encoded key, or `None` for a table without one; value with blanks). Blocks on disk.
    ///
    /// # Errors
    /// [`StoreError::DuplicateKey`] for a key seen in this load or in the table.
    pub fn write(&mut self, scope: ScopeId, rows: Vec<(Option<Vec<u8>>, Vec<u8>)>) -> Result<(), StoreError> {
        let written = self.gather(scope, rows);
        self.failed |= written.is_err();
        written
    }

    fn gather(&mut self, scope: ScopeId, rows: Vec<(Option<Vec<u8>>, Vec<u8>)>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.load.scopes.insert(scope);
        let loads = self.store.loads().load(Ordering::Relaxed).max(1);
        let chunk_bytes = (STAGING_BYTES / loads).max(STAGING_CHUNK_MIN_BYTES);
        for (key, mut value) in rows {
            if key.is_some() != self.keyed {
                let problem = if self.keyed {
                    "a row of a table with a key has none"
                } else {
                    "a row has a key, its table none"
                };
                return Err(StoreError::Unsupported(problem.to_string()));
            }
            if value.len() < row::HEADER_BYTES {
                return Err(StoreError::Unsupported(
                    "a row of a bulk load was not encoded".to_string(),
                ));
            }
            // Relative to the base that publishing assigns.
            row::stamp(&mut value, Seq(self.load.rows), 0);
            match key {
                Some(key) => self.chunk.push(scope, &key, &value),
                None => self.chunk.push(scope, &self.load.rows.to_be_bytes(), &value),
            }
            self.load.rows += 1;
            if self.chunk.bytes.len() >= chunk_bytes {
                self.begin_chunk()?;
            }
        }
        Ok(())
    }

    /// Makes everything durable, catches up with keys that others inserted meanwhile, and hands over what to publish.
    ///
    /// # Errors
    /// As [`Staging::write`].
    pub fn finish(mut self) -> Result<StagedEpoch, StoreError> {
        if self.failed {
            return Err(StoreError::Storage(
                "a part of this bulk load failed: it cannot be finished".to_string(),
            ));
        }
        self.begin_chunk()?;
        self.end_chunk()?;
        for _ in 0..WATCH_ROUNDS {
            if self.catch_up()? <= WATCH_REST_KEYS {
                break;
            }
        }
        // What is left in `self` has nothing to erase.
        let replacement = self.load.hollow();
        Ok(std::mem::replace(&mut self.load, replacement))
    }

    /// Starts writing the gathered chunk on a thread of its own, after the one before it is done.
    fn begin_chunk(&mut self) -> Result<(), StoreError> {
        self.end_chunk()?;
        if self.chunk.entries.is_empty() {
            return Ok(());
        }
        // In this order: what was inserted before the state is taken is either checked here or seen in the state.
        self.catch_up()?;
        let state = self.store.state();
        let chunk = std::mem::replace(&mut self.chunk, Chunk::new());
        let engine = self.store.engine().clone();
        let (store, epoch, keyed) = (self.load.store, self.load.epoch, self.keyed);
        let before = self.written.clone();
        let thread = std::thread::Builder::new()
            .name("kalamdb-staging".to_string())
            .spawn(move || write_chunk(&engine, &state, store, epoch, keyed, chunk, before))
            .map_err(|error| StoreError::Storage(format!("a thread cannot be started: {error}")))?;
        self.writing = Some(thread);
        Ok(())
    }

    /// Waits for the chunk being written.
    fn end_chunk(&mut self) -> Result<(), StoreError> {
        if let Some(thread) = self.writing.take() {
            self.written = thread
                .join()
                .map_err(|_| StoreError::Storage("writing a chunk of a bulk load panicked".to_string()))??;
        }
        Ok(())
    }

    /// Checks what others inserted since the last look against what is written; says how much it was.
    fn catch_up(&self) -> Result<usize, StoreError> {
        let Some(watch) = &self.load.watch else { return Ok(0) };
        let news = watch.take();
        let state = self.store.state();
        let live = state
            .table(self.load.store)
            .map(|table| table.epochs.iter().map(|entry| entry.epoch));
        let keys = StagedKeys {
            engine: self.store.engine(),
            store: self.load.store,
            epoch: self.load.epoch,
        };
        keys.check(&news, live.into_iter().flatten())?;
        Ok(news.weight())
    }
}

impl<C> Drop for Staging<C> {
    fn drop(&mut self) {
        // The load is erased when its field is dropped, after this: nothing may be added to it any more.
        if let Some(thread) = self.writing.take()
            && !matches!(thread.join(), Ok(Ok(_)))
        {
            tracing::debug!(
                epoch = self.load.epoch.0,
                "the last chunk of an abandoned load was not written"
            );
        }
        self.store.loads().fetch_sub(1, Ordering::Relaxed);
    }
}

impl StagedEpoch {
    pub(crate) fn schema_version(&self) -> SchemaVersion {
        self.schema_version
    }

    pub(crate) fn scopes(&self) -> &BTreeSet<ScopeId> {
        &self.scopes
    }

    pub(crate) fn watch(&self) -> Option<&Arc<Watch>> {
        self.watch.as_ref()
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Dropping it no longer erases it.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }

    /// Publishing it is known not to have happened.
    pub(crate) fn rearm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// The same, with nothing to erase.
    fn hollow(&self) -> Self {
        Self {
            store: self.store,
            epoch: self.epoch,
            rows: 0,
            schema_version: self.schema_version,
            scopes: BTreeSet::new(),
            watch: None,
            armed: AtomicBool::new(false),
            eraser: self.eraser.clone(),
        }
    }
}

impl Drop for StagedEpoch {
    fn drop(&mut self) {
        if self.is_armed() {
            self.eraser.erase(EraseJob::Load(self.store, self.epoch));
        }
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            sorted: true,
        }
    }

    fn push(&mut self, scope: ScopeId, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&scope.0.to_be_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let entry = Entry {
            start,
            key_len: u32::try_from(SCOPE_BYTES + key.len()).expect("a key is smaller than a row"),
            value_len: u32::try_from(value.len()).expect("the encoder bounds a row"),
        };
        if let Some(&last) = self.entries.last() {
            self.sorted &= self.key(last) < self.key(entry);
        }
        self.entries.push(entry);
    }

    fn key(&self, entry: Entry) -> &[u8] {
        &self.bytes[entry.start..entry.start + entry.key_len as usize]
    }

    fn value(&self, entry: Entry) -> &[u8] {
        let start = entry.start + entry.key_len as usize;
        &self.bytes[start..start + entry.value_len as usize]
    }

    /// Puts the entries in the order of their keys.
    fn sort(&mut self) -> Result<(), StoreError> {
        if self.sorted {
            return Ok(());
        }
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        self.entries = entries;
        self.sorted = true;
        for pair in self.entries.windows(2) {
            if self.key(pair[0]) == self.key(pair[1]) {
                return Err(duplicate(self.key(pair[0])));
            }
        }
        Ok(())
    }
}

fn duplicate(scoped: &[u8]) -> StoreError {
    StoreError::DuplicateKey {
        key: scoped.get(SCOPE_BYTES..).unwrap_or_default().to_vec(),
    }
}

/// Sorts, checks and writes one chunk; returns the range of all keys so far.
fn write_chunk<C>(
    engine: &Arc<Engine>,
    state: &DbState<C>,
    store: StoreId,
    epoch: Epoch,
    keyed: bool,
    mut chunk: Chunk,
    before: Written,
) -> Result<Written, StoreError> {
    chunk.sort()?;
    let (Some(&first), Some(&last)) = (chunk.entries.first(), chunk.entries.last()) else {
        return Ok(before);
    };
    if keyed {
        check_earlier_chunks(engine, store, epoch, &chunk, &before)?;
        check_table(engine, state, store, &chunk)?;
    }
    write_file(engine, store, epoch, &chunk)?;
    let (low, high) = (chunk.key(first).to_vec(), chunk.key(last).to_vec());
    let range = match before.range {
        None => (low, high),
        Some((lowest, highest)) => (lowest.min(low), highest.max(high)),
    };
    Ok(Written { range: Some(range) })
}

/// Only keys in the range of the earlier chunks can be in one of them: none, when the load comes in order.
fn check_earlier_chunks(
    engine: &Engine,
    store: StoreId,
    epoch: Epoch,
    chunk: &Chunk,
    before: &Written,
) -> Result<(), StoreError> {
    let Some((lowest, highest)) = &before.range else {
        return Ok(());
    };
    let from = chunk
        .entries
        .partition_point(|&entry| chunk.key(entry) < lowest.as_slice());
    let to = chunk
        .entries
        .partition_point(|&entry| chunk.key(entry) <= highest.as_slice());
    check_entries(
        engine,
        store,
        epoch,
        chunk,
        chunk.entries.get(from..to).unwrap_or_default(),
    )
}

/// Looks the chunk's keys up in every live epoch whose keys reach into its range.
fn check_table<C>(engine: &Engine, state: &DbState<C>, store: StoreId, chunk: &Chunk) -> Result<(), StoreError> {
    let Some(table) = state.table(store) else { return Ok(()) };
    let (Some(&first), Some(&last)) = (chunk.entries.first(), chunk.entries.last()) else {
        return Ok(());
    };
    for entry in &table.epochs {
        let prefix = key::epoch_prefix(store, entry.epoch);
        let lower = [prefix.as_slice(), chunk.key(first)].concat();
        let upper = key::successor(&[prefix.as_slice(), chunk.key(last)].concat());
        let options = IterateOptions {
            lower,
            upper,
            readahead_bytes: 0,
        };
        let mut iterator = state.pinned().iterate(engine.hot(), &options);
        iterator.seek(&options.lower);
        let overlaps = iterator.key().is_some();
        iterator.end()?;
        if overlaps {
            // Read as it is now, not at the state: keys that were removed since are free, keys added since are in the watch.
            check_entries(engine, store, entry.epoch, chunk, &chunk.entries)?;
        }
    }
    Ok(())
}

fn check_entries(
    engine: &Engine,
    store: StoreId,
    epoch: Epoch,
    chunk: &Chunk,
    entries: &[Entry],
) -> Result<(), StoreError> {
    let prefix = key::epoch_prefix(store, epoch);
    for part in entries.chunks(LOOKUP_KEYS) {
        let keys: Vec<Vec<u8>> = part
            .iter()
            .map(|&entry| [prefix.as_slice(), chunk.key(entry)].concat())
            .collect();
        if let Some(index) = first_present(engine, engine.hot(), &keys, true)? {
            return Err(duplicate(chunk.key(part[index])));
        }
    }
    Ok(())
}

/// Names the files of all loads of this process apart; the directory is emptied at start-up.
static FILE_NUMBER: AtomicU64 = AtomicU64::new(0);

fn write_file(engine: &Engine, store: StoreId, epoch: Epoch, chunk: &Chunk) -> Result<(), StoreError> {
    let number = FILE_NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = engine
        .directory()
        .staging()
        .join(format!("{store}-{epoch}-{number}.sst"));
    let written = (|| {
        let mut writer = SstFileWriter::create(engine.hot_options());
        writer.open(&path)?;
        let mut whole = key::epoch_prefix(store, epoch).to_vec();
        for &entry in &chunk.entries {
            whole.truncate(8);
            whole.extend_from_slice(chunk.key(entry));
            writer.put(&whole, chunk.value(entry))?;
        }
        writer.finish()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        engine
            .db()
            .ingest_external_file_cf_opts(engine.hot(), &options, vec![&path])
    })();
    if written.is_err() {
        // RocksDB takes the file away when it succeeds; otherwise it is ours, and start-up removes what this cannot.
        std::fs::remove_file(&path).ok();
    }
    written.map_err(|error| storage(&error))
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a load is given as the ranges of keys in its chunks"
)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::hazards::{bytes_under, staged};
    use crate::testing::{
        GLOBAL, T, collect, create, ids, insert, key, new_store, open, put, removal, request, rows, schema, schema_of,
        spec, step, value,
    };
    use crate::{CommitError, TableChange, TableVersion, WriteRequest};

    fn load(
        store: &Arc<Store<u64>>,
        table: StoreId,
        scope: ScopeId,
        parts: &[std::ops::Range<i64>],
    ) -> Arc<StagedEpoch> {
        let mut staging = Staging::begin(store, table, schema()).expect("begins");
        for part in parts {
            staging.write(scope, staged(part.clone())).expect("writes");
        }
        Arc::new(staging.finish().expect("finishes"))
    }

    #[test]
    fn a_load_is_invisible_until_it_is_published_and_then_like_other_rows() {
        let (directory, store) = new_store();
        insert(&store, T, 100, "row").expect("commits");
        let load = load(&store, T, GLOBAL, &[5..10, 0..5]);
        assert_eq!(ids(&store, T), [100]);
        let before = store.state();
        let committed = step(&store, vec![TableChange::Publish(load.clone())]).expect("publishes");
        assert_eq!(ids(&store, T), (0..10).chain([100]).collect::<Vec<_>>());
        assert_eq!(ids_at(&before), [100], "an old state does not see it");
        // Numbers follow each other in the order of writing: 5 was the first.
        let state = store.state();
        let at = |id: i64| {
            state
                .find(&schema(), T, GLOBAL, &key(id), 0)
                .expect("reads")
                .expect("found")
        };
        assert_eq!(at(5).row.seq, Seq(before.seq().0 + 1));
        assert_eq!(at(0).row.seq, Seq(before.seq().0 + 6));
        assert_eq!(at(0).row.updated_micros, committed.updated_micros);
        let scanned = collect(state.scan(&schema(), spec(T, GLOBAL)).expect("a scan"));
        assert!(scanned.iter().all(|row| row.0 == 100 || row.2 == at(row.0).row.seq));
        drop(state);
        assert!(committed.seq.0 >= before.seq().0 + 10);
        // Twice is refused, and dropping it erases nothing.
        assert!(matches!(
            step(&store, vec![TableChange::Publish(load)]),
            Err(CommitError::Storage(_))
        ));
        store.wait_for_eraser();
        // Loaded rows are updated and removed like others; new ones go to the current epoch.
        let state = store.state();
        let change = WriteRequest {
            removals: vec![removal(&state, T, GLOBAL, 3), removal(&state, T, GLOBAL, 4)],
            ..request(&store, vec![put(T, GLOBAL, 3, "updated")])
        };
        block_on(store.commit(change)).expect("commits");
        drop((state, store, before));
        let store = open(directory.path());
        assert_eq!(ids(&store, T), [0, 1, 2, 3, 5, 6, 7, 8, 9, 100]);
        assert!(rows(&store.state(), T, GLOBAL).contains(&(3, "updated".to_string())));
    }

    fn ids_at(state: &Arc<DbState<u64>>) -> Vec<i64> {
        rows(state, T, GLOBAL).into_iter().map(|row| row.0).collect()
    }

    #[test]
    fn duplicates_are_found_wherever_they_are() {
        let (_directory, store) = new_store();
        insert(&store, T, 50, "row").expect("commits");
        let check = |parts: &[std::ops::Range<i64>], chunks: bool, duplicate: Option<i64>| {
            let mut staging = Staging::begin(&store, T, schema()).expect("begins");
            let mut result = Ok(());
            for part in parts {
                result = result.and_then(|()| staging.write(GLOBAL, staged(part.clone())));
                if chunks {
                    result = result.and_then(|()| staging.begin_chunk());
                }
            }
            let result = result.and_then(|()| staging.finish().map(drop));
            match (result, duplicate) {
                (Ok(()), None) => {}
                (Err(StoreError::DuplicateKey { key: found }), Some(id)) => assert_eq!(found, key(id)),
                (other, expected) => panic!("{other:?} instead of {expected:?}"),
            }
        };
        for chunks in [false, true] {
            check(&[0..10, 10..20], chunks, None);
            check(&[10..20, 0..10], chunks, None);
            check(&[0..10, 20..30, 10..20], chunks, None);
            check(&[0..10, 9..12], chunks, Some(9));
            check(&[5..10, 0..6], chunks, Some(5));
            check(&[0..1, 40..60], chunks, Some(50));
            check(&[60..70, 45..51], chunks, Some(50));
        }
    }

    #[test]
    fn keys_inserted_while_a_load_runs_are_found_at_every_stage() {
        for stage in 0..4 {
            for overlap in [true, false] {
                let (_directory, store) = new_store();
                let id = if overlap { 7 } else { 70 };
                let others = |at: i32| {
                    if at == stage {
                        insert(&store, T, id, "other").expect("commits");
                    }
                };
                let run = || -> Result<(), CommitError> {
                    let failed = |error: StoreError| match error {
                        StoreError::DuplicateKey { key } => CommitError::DuplicateKey { key },
                        other => CommitError::Storage(other.to_string()),
                    };
                    let mut staging = Staging::begin(&store, T, schema()).map_err(failed)?;
                    others(0);
                    staging.write(GLOBAL, staged(0..10)).map_err(failed)?;
                    others(1);
                    staging.begin_chunk().map_err(failed)?;
                    others(2);
                    staging.write(GLOBAL, staged(10..20)).map_err(failed)?;
                    let load = Arc::new(staging.finish().map_err(failed)?);
                    others(3);
                    step(&store, vec![TableChange::Publish(load)]).map(drop)
                };
                match run() {
                    Ok(()) if !overlap => assert_eq!(ids(&store, T).len(), 21),
                    Err(CommitError::DuplicateKey { key: found }) if overlap => {
                        assert_eq!(found, key(7));
                        assert_eq!(ids(&store, T), [7]);
                    }
                    other => panic!("{other:?} at stage {stage}"),
                }
            }
        }
    }

    #[test]
    fn hazard_17_a_row_insert_between_the_check_of_a_load_and_its_publication() {
        let (_directory, store) = new_store();
        let load = load(&store, T, GLOBAL, &[0..10]);
        // Looked up before the load was published, submitted after: its absence is no longer known.
        let late = request(&store, vec![put(T, GLOBAL, 3, "late")]);
        step(&store, vec![TableChange::Publish(load)]).expect("publishes");
        assert!(matches!(block_on(store.commit(late)), Err(CommitError::Stale)));
        assert_eq!(ids(&store, T).len(), 10);
    }

    #[test]
    fn two_loads_of_one_table_do_not_both_bring_a_key() {
        let (_directory, store) = new_store();
        let first = load(&store, T, GLOBAL, &[0..10]);
        let second = load(&store, T, GLOBAL, &[20..30, 5..6]);
        let apart = load(&store, T, GLOBAL, &[40..50]);
        let other_scope = load(&store, T, ScopeId(1), &[0..10]);
        step(&store, vec![TableChange::Publish(first)]).expect("publishes");
        match step(&store, vec![TableChange::Publish(second)]) {
            Err(CommitError::DuplicateKey { key: found }) => assert_eq!(found, key(5)),
            other => panic!("{other:?}"),
        }
        step(
            &store,
            vec![TableChange::Publish(apart), TableChange::Publish(other_scope)],
        )
        .expect("publish");
        assert_eq!(ids(&store, T), (0..10).chain(40..50).collect::<Vec<_>>());
        assert_eq!(rows(&store.state(), T, ScopeId(1)).len(), 10);
        // In one step.
        let (one, two) = (load_of(&store, 60..70), load_of(&store, 69..75));
        let both = step(&store, vec![TableChange::Publish(one), TableChange::Publish(two)]);
        assert!(matches!(both, Err(CommitError::DuplicateKey { key: found }) if found == key(69)));
        assert_eq!(ids(&store, T).len(), 20);
    }

    fn load_of(store: &Arc<Store<u64>>, ids: std::ops::Range<i64>) -> Arc<StagedEpoch> {
        load(store, T, GLOBAL, &[ids])
    }

    #[test]
    fn a_load_that_was_refused_stays_refused() {
        let (_directory, store) = new_store();
        let load = load(&store, T, GLOBAL, &[0..10]);
        insert(&store, T, 3, "row").expect("commits");
        for _ in 0..2 {
            let refused = step(&store, vec![TableChange::Publish(load.clone())]);
            assert!(matches!(refused, Err(CommitError::DuplicateKey { .. })));
        }
        let mut staging = Staging::begin(&store, T, schema()).expect("begins");
        staging
            .write(GLOBAL, vec![(None, value(1, "x"))])
            .expect_err("a row without its key");
        staging.finish().expect_err("a load with a hole");
        assert_eq!(ids(&store, T), [3]);
    }

    #[test]
    fn a_load_creates_a_store_or_replaces_one() {
        let (_directory, store) = new_store();
        let next = StoreId(70);
        insert(&store, T, 1, "old").expect("commits");
        let load = load(&store, next, GLOBAL, &[0..10]);
        let create = TableChange::Create(next, TableVersion::new(SchemaVersion(1), Lifetime::Durable));
        assert!(matches!(
            step(&store, vec![TableChange::Publish(load.clone())]),
            Err(CommitError::Retired(_))
        ));
        step(&store, vec![create, TableChange::Publish(load), TableChange::Retire(T)]).expect("publishes");
        assert_eq!(ids(&store, next), (0..10).collect::<Vec<_>>());
        assert!(store.state().table(T).is_none());
    }

    #[test]
    fn a_schema_change_during_a_load_is_a_conflict() {
        let (_directory, store) = new_store();
        let load = load(&store, T, GLOBAL, &[0..10]);
        step(&store, vec![TableChange::SetSchemaVersion(T, SchemaVersion(2))]).expect("commits");
        assert!(matches!(
            step(&store, vec![TableChange::Publish(load)]),
            Err(CommitError::Conflict)
        ));
    }

    #[test]
    fn an_abandoned_load_leaves_nothing_then_and_after_a_crash() {
        let (directory, store) = new_store();
        let mut staging = Staging::begin(&store, T, schema()).expect("begins");
        staging.write(GLOBAL, staged(0..10)).expect("writes");
        staging.begin_chunk().expect("writes");
        staging.end_chunk().expect("written");
        let prefix = key::epoch_prefix(T, staging.load.epoch);
        assert_eq!(bytes_under(&store, &prefix), 10);
        // A crash now.
        let copy = tempfile::tempdir().expect("a directory");
        crate::testing::copy_directory(directory.path(), copy.path());
        let recovered = open(copy.path());
        assert_eq!(bytes_under(&recovered, &prefix), 0);
        assert_eq!(ids(&recovered, T), [] as [i64; 0]);
        // Or a client that goes away.
        drop(staging);
        store.wait_for_eraser();
        assert_eq!(bytes_under(&store, &prefix), 0);
    }

    #[test]
    fn tables_without_a_key_number_loaded_rows_relative_to_their_base() {
        let (_directory, store) = new_store();
        let table = StoreId(8);
        create(&store, table);
        let schema = schema_of(Lifetime::Durable, vec![]);
        let encoder = crate::RowEncoder::new(schema.clone()).expect("rows");
        let mut staging = Staging::begin(&store, table, schema.clone()).expect("begins");
        let row = |id| {
            (
                None,
                encoder
                    .encode(&crate::testing::columns(id, "x"), 0, None)
                    .expect("encodes"),
            )
        };
        staging.write(GLOBAL, (0..3).map(row).collect()).expect("writes");
        staging.write(ScopeId(1), (3..5).map(row).collect()).expect("writes");
        let load = Arc::new(staging.finish().expect("finishes"));
        let base = store.state().seq().0 + 1;
        step(&store, vec![TableChange::Publish(load)]).expect("publishes");
        let found = collect(store.state().scan(&schema, spec(table, GLOBAL)).expect("a scan"));
        assert_eq!(
            found.iter().map(|row| (row.0, row.2.0)).collect::<Vec<_>>(),
            [(0, base), (1, base + 1), (2, base + 2)]
        );
        // The key that a scan reports is the stored one: relative, to be used with its epoch.
        let state = store.state();
        let found = state
            .find(&schema, table, ScopeId(1), &3u64.to_be_bytes(), 0)
            .expect("reads")
            .expect("found");
        assert_eq!(found.row.seq, Seq(base + 3));
        assert!(found.epoch >= FIRST_STAGED_EPOCH);
    }

    #[test]
    fn an_overflowing_watch_compares_everything() {
        let (_directory, store) = new_store();
        let watch = Watch::new(T);
        for id in 0..crate::tuning::WATCH_KEYS as i64 + 1 {
            watch.inserted(GLOBAL, &id.to_be_bytes());
        }
        let news = watch.take();
        assert_eq!(news.weight(), usize::MAX);
        let load = load(&store, T, GLOBAL, &[0..10]);
        let keys = StagedKeys {
            engine: store.engine(),
            store: T,
            epoch: load.epoch,
        };
        let live = || store.state().table(T).map(|table| table.epochs[0].epoch);
        keys.check(&news, live()).expect("the table is empty");
        insert(&store, T, 4, "row").expect("commits");
        let found = keys.check(&news, live());
        assert!(matches!(found, Err(StoreError::DuplicateKey { key: found }) if found == key(4)));
    }
}
