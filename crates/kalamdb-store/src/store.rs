//! The open database: its directory, its lock, its RocksDB handle and its committer.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use parking_lot::{Mutex, RwLock};
use rocksdb::WriteBatch;

use crate::committer::{CommitFuture, Step, WriteRequest};
use crate::counters::Counters;
use crate::damage::Damage;
use crate::engine::{Engine, storage};
use crate::erase::{EraseJob, Eraser, EraserHandle};
use crate::error::{CommitError, StoreError};
use crate::format;
use crate::gate::Gate;
use crate::ids::{SegmentId, Seq, StorageId, StoreId};
use crate::manifest::{Segment, Segments};
use crate::meta::{self, Inventory};
use crate::pinned::Pinned;
use crate::sequencer::{self, Message, Reply, Sequencer, Shared};
use crate::snapshot::DbState;
use crate::storages::{self, look_at_file, name_of};
use crate::trouble;
use crate::tuning::COMMIT_QUEUE_REQUESTS;
use crate::watch::{Concern, Watch};

/// Whether an acknowledged commit is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every group of commits is fsynced before it is visible or acknowledged.
    Synced,
    /// Written, not synced: a power failure may lose the last commits, a crash of the process does not.
    Relaxed,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Created if missing.
    pub path: PathBuf,
    /// See [`Durability`].
    pub durability: Durability,
    /// Block cache, bytes.
    pub block_cache_bytes: usize,
    /// Indexes, filters and footers of open segments that stay in memory, bytes: about 1.5 MB a segment of a million rows.
    pub segment_cache_bytes: usize,
    /// Write buffers of all column families together, bytes.
    pub write_buffer_bytes: usize,
}

/// Counters that are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// For [`crate::StoreId`]s.
    Store,
    /// For [`crate::ScopeId`]s (the first is 1).
    Scope,
    /// For tables.
    Table,
    /// For [`crate::SegmentId`]s.
    Segment,
}

/// What happened since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Requests and steps committed.
    pub commits: u64,
    /// Synced writes of the log: at most one a group.
    pub log_syncs: u64,
    /// Requests refused with CONFLICT.
    pub conflicts: u64,
    /// Estimated bytes of live rows in files.
    pub live_bytes: u64,
    /// Bytes of rows in memory that are not in files yet.
    pub memtable_bytes: u64,
    /// Bytes of indexes, filters and footers of open segments.
    pub open_segment_bytes: u64,
}

/// An open store. Dropping the last handle stops the committer and closes RocksDB.
pub struct Store<C> {
    shared: Arc<Shared<C>>,
    messages: SyncSender<Message<C>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    eraser: Eraser,
    /// Whoever tries storages again is alone.
    finding: Mutex<()>,
    counters: Counters,
    /// One flush a table at a time ...
    flushes: Arc<Gate>,
    /// ... and one compaction. Neither waits for the other: they move different rows, and a flush must not take as long as a
    /// compaction does.
    compactions: Arc<Gate>,
    /// From when it is settled which rows a publication removes, no other publication moves them.
    publishers: Arc<Gate>,
}

impl<C: Send + Sync + 'static> Store<C> {
    /// Opens or creates the store, recovers, and erases what unpublished loads left. `load` makes the catalog from the
    /// recovered state, before anyone else sees it; it is given a state that carries `empty`.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::NewerFormat`], [`StoreError::Storage`], or what `load` returns.
    pub fn open<E: From<StoreError>>(
        options: StoreOptions,
        empty: C,
        load: impl FnOnce(&Store<C>, &Arc<DbState<C>>) -> Result<C, E>,
    ) -> Result<Arc<Self>, E> {
        let mut engine = Engine::open(&options)?;
        let (seq, updated_micros) = last(&engine)?;
        let mut inventory = inventory(&engine)?;
        let live = inventory.tables.iter();
        engine.leave_damaged_files(live.map(|(store, table)| (*store, table.lifetime, table.epochs.clone())))?;
        let engine = Arc::new(engine);
        engine.damages().keep_in(&engine);
        crate::crash::point("open-read");
        let eraser = Eraser::start(engine.clone())?;
        let found = storages::find(&engine, &inventory)?;
        for (segment, file) in inventory.files {
            match found.contains(&file.storage) {
                true => eraser.handle().erase(EraseJob::Segment(segment, file)),
                false => drop(engine.left_files().leave(segment, file)),
            }
        }
        let mut segments: HashMap<StoreId, Vec<Arc<Segment>>> = HashMap::new();
        for (store, entry) in inventory.segments {
            let damage = Damage::none(engine.damages(), entry.segment);
            let segment = Segment::new(entry, damage, eraser.handle());
            if let Some(problem) = inventory.damaged.remove(&segment.entry.segment) {
                segment.damage.recall(&name_of(&engine, &segment), &problem);
            }
            segments.entry(store).or_default().push(segment);
        }
        forget_damage(&engine, inventory.damaged.into_keys())?;
        for segment in segments.values().flatten().filter(|_| !mistake!(FilesAreNotLookedAt)) {
            // The directories of other storages are told later, and it is not looked for what is away.
            let is_here = found.contains(&StorageId::DEFAULT) || mistake!(SegmentsThatWereAwayAreDamaged);
            if segment.entry.storage == StorageId::DEFAULT && is_here {
                look_at_file(&engine, segment);
            }
        }
        let mut tables = HashMap::new();
        for (store, mut version) in inventory.tables {
            if mistake!(SealedEpochsAreForgotten) {
                version.epochs.drain(..version.epochs.len() - 1);
            }
            version.segments = Arc::new(Segments::new(segments.remove(&store).unwrap_or_default()));
            tables.insert(store, Arc::new(version));
        }
        let retired_scopes: HashSet<_> = inventory.retired_scopes.iter().map(|(scope, _)| *scope).collect();
        for store in inventory.retired {
            eraser.handle().erase(EraseJob::Store(store));
        }
        for (scope, _) in inventory.retired_scopes.iter().filter(|(_, erased)| !erased) {
            eraser
                .handle()
                .erase(EraseJob::Scope(*scope, sequencer::places(&tables)));
        }
        let pinned = Pinned::new(&engine);
        let state = DbState::new(Arc::new(empty), seq, Arc::new(tables), Arc::new(retired_scopes), pinned);
        let shared = Arc::new(Shared {
            engine,
            state: ArcSwap::from_pointee(state),
            commits: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            hot: RwLock::new(inventory.hot),
        });
        let (messages, receiver) = mpsc::sync_channel(COMMIT_QUEUE_REQUESTS);
        let store = Self {
            shared,
            messages,
            committer: Mutex::new(None),
            eraser,
            finding: Mutex::default(),
            counters: Counters::default(),
            flushes: Arc::default(),
            compactions: Arc::default(),
            publishers: Arc::default(),
        };
        crate::crash::point("open-recovered");
        // The committer starts afterwards, so the state that `load` reads cannot be overtaken.
        let recovered = store.state();
        let catalog = load(&store, &recovered)?;
        store
            .shared
            .state
            .store(Arc::new(recovered.with_catalog(Arc::new(catalog))));
        crate::crash::point("open-loaded");
        let sequencer = Sequencer::new(
            store.shared.clone(),
            receiver,
            store.eraser.handle().clone(),
            if mistake!(UpdatedBeginsAnew) { 0 } else { updated_micros },
        );
        let thread = std::thread::Builder::new()
            .name("kalamdb-committer".to_string())
            .spawn(move || sequencer.run())
            .map_err(|error| StoreError::Storage(format!("a thread cannot be started: {error}")))?;
        *store.committer.lock() = Some(thread);
        Ok(Arc::new(store))
    }

    /// Whether there is a database, which [`Store::open`] would open and not create.
    pub fn is_at(path: &Path) -> bool {
        format::is_database(path)
    }

    /// The newest published state.
    pub fn state(&self) -> Arc<DbState<C>> {
        self.shared.state.load_full()
    }

    /// Submits a change of rows.
    pub fn commit(&self, request: WriteRequest) -> CommitFuture {
        self.submit(|reply| Message::Commit(request, reply))
    }

    /// Submits a change of the catalog.
    pub fn step(&self, step: Step<C>) -> CommitFuture {
        self.submit(|reply| Message::Step(Box::new(step), reply))
    }

    /// The next value of a counter, persisted before it is returned (in blocks), never returned again.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when it cannot be persisted.
    pub fn next_id(&self, counter: Counter) -> Result<u64, StoreError> {
        self.counters.next(&self.shared.engine, counter)
    }

    /// An opaque record written by a [`Step`].
    ///
    /// # Errors
    /// [`StoreError::Storage`] when reading fails.
    pub fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let engine = &self.shared.engine;
        engine
            .db()
            .get_cf(engine.meta(), meta::record(name))
            .map_err(|error| storage(&error))
    }

    /// Ends what still reads states of the database that newer commits took the place of at least `life_micros` ago, by the time of
    /// the first call that finds it so (`None`: nothing; a time that nobody sets, since any moment), and lets go of what they pin, whether or not their readers ever read on: dead
    /// versions of hot rows, RocksDB's obsolete files, files of segments that were replaced. Who reads on meets
    /// [`StoreError::SnapshotTooOld`]. Flushes, compactions, checks and the look-ups of loads are never ended. To be called every
    /// second or so; how many states it ended.
    pub fn end_old_snapshots(&self, now_micros: i64, life_micros: Option<i64>) -> usize {
        let newest = self.state().pinned().number();
        let snapshots = self.shared.engine.snapshots();
        snapshots.let_go_of_old(newest, now_micros, life_micros)
    }

    /// Counters since the store was opened.
    pub fn statistics(&self) -> StoreStatistics {
        let engine = &self.shared.engine;
        // A property that cannot be read counts as zero: these are estimates for people.
        let property = |name: &str| -> u64 {
            let of = |family| {
                engine
                    .db()
                    .property_int_value_cf(family, name)
                    .ok()
                    .flatten()
                    .unwrap_or(0)
            };
            of(engine.hot()) + of(engine.stream())
        };
        StoreStatistics {
            commits: self.shared.commits.load(Ordering::Relaxed),
            log_syncs: self.shared.engine.log_syncs(),
            conflicts: self.shared.conflicts.load(Ordering::Relaxed),
            live_bytes: property("rocksdb.estimate-live-data-size"),
            memtable_bytes: property("rocksdb.cur-size-all-mem-tables"),
            open_segment_bytes: engine.opened().memory_bytes(),
        }
    }

    /// Asks the committer to report what is removed from `store` from now on, and what is inserted. Blocks until it does.
    pub(crate) fn watch(&self, store: StoreId, concern: Concern) -> Result<Arc<Watch>, StoreError> {
        let stopped = || StoreError::Storage("the store is closing".to_string());
        let watch = Arc::new(Watch::new(store, concern));
        let (ready, wait) = mpsc::sync_channel(1);
        self.messages
            .send(Message::Watch(watch.clone(), ready))
            .map_err(|_| stopped())?;
        wait.recv().map_err(|_| stopped())?;
        Ok(watch)
    }

    /// Why no write is possible, if one failed or RocksDB's own work did, and a write that is tried now fails, too. RocksDB goes on by
    /// itself only where a disk was full, and that within seconds of its having room; otherwise the store has to be opened anew,
    /// which helps once [`Store::try_disk`] succeeds, and leaves a damaged file as it is. Costs nothing while nothing has failed.
    pub fn why_no_writes(&self) -> impl Future<Output = Option<String>> + Send + use<C> {
        let engine = &self.shared.engine;
        let asked = engine.trouble().noted(engine).and_then(|_| {
            let (reply, answer) = oneshot::channel();
            // With a full queue, as with a committer that ended by a bug, there is nothing to be said now.
            self.messages.try_send(Message::Probe(reply)).ok().map(|()| answer)
        });
        async move {
            match asked {
                Some(answer) => answer.await.ok().flatten(),
                None => None,
            }
        }
    }

    /// Whether the disk takes writes where RocksDB has its files: creates, writes, syncs and removes one. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Storage`] with the operating system's words.
    pub fn try_disk(&self) -> Result<(), StoreError> {
        trouble::try_disk(&self.shared.engine.rocksdb())
    }

    fn submit(&self, message: impl FnOnce(Reply) -> Message<C>) -> CommitFuture {
        let (reply, answer) = oneshot::channel();
        let refused = match self.messages.try_send(message(reply)) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => Some("too many commits are waiting; try again"),
            Err(TrySendError::Disconnected(_)) => Some("the committer has stopped by a bug; restart kalamdb"),
        };
        Box::pin(async move {
            if let Some(message) = refused {
                return Err(CommitError::Storage(message.to_string()));
            }
            answer.await.unwrap_or_else(|_| {
                Err(CommitError::UnknownOutcome(
                    "the committer stopped before it answered".to_string(),
                ))
            })
        })
    }
}

impl<C> Store<C> {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<C>> {
        &self.shared
    }

    pub(crate) fn flushes(&self) -> &Arc<Gate> {
        &self.flushes
    }

    pub(crate) fn compactions(&self) -> &Arc<Gate> {
        match mistake!(FlushesWaitForCompactions) {
            true => &self.flushes,
            false => &self.compactions,
        }
    }

    pub(crate) fn publishers(&self) -> &Arc<Gate> {
        &self.publishers
    }

    /// The database's own name, which begins the paths of its files.
    pub(crate) fn database(&self) -> &str {
        self.shared.engine.database()
    }

    pub(crate) fn eraser(&self) -> &EraserHandle {
        self.eraser.handle()
    }

    /// Those in storages that are out of reach.
    pub(crate) fn finding(&self) -> &Mutex<()> {
        &self.finding
    }

    /// Returns when everything that was to be erased before is erased.
    #[cfg(test)]
    pub(crate) fn wait_for_eraser(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        self.eraser().erase(EraseJob::Tell(done));
        wait.recv().expect("the eraser runs as long as the store");
    }
}

impl<C> Drop for Store<C> {
    fn drop(&mut self) {
        // The committer is gone already if it panicked; then the queue has no end to receive this.
        self.messages.send(Message::Stop).ok();
        if let Some(thread) = self.committer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked");
        }
        self.eraser.stop();
        crate::crash::point("closing");
        // A tidy end leaves nothing to lose, whatever the durability.
        if let Err(error) = self.shared.engine.db().flush_wal(true) {
            tracing::warn!(%error, "the log could not be synced while closing");
        }
    }
}

/// Deletes what is known of segments that are gone, as whoever read them last found it.
fn forget_damage(engine: &Engine, segments: impl Iterator<Item = SegmentId>) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    for segment in segments {
        batch.delete_cf(engine.meta(), meta::damaged(segment));
    }
    match batch.is_empty() {
        true => Ok(()),
        false => engine.write_unsynced(batch),
    }
}

/// How far the numbers had come.
fn last(engine: &Engine) -> Result<(Seq, i64), StoreError> {
    match engine
        .db()
        .get_cf(engine.meta(), meta::LAST)
        .map_err(|error| storage(&error))?
    {
        None => Ok((Seq(0), 0)),
        Some(value) => meta::decode_last(&value).ok_or_else(|| StoreError::Corrupt {
            object: "the record 'last'".to_string(),
            problem: "it has not 16 bytes".to_string(),
        }),
    }
}

/// Reads all of `meta`.
fn inventory(engine: &Engine) -> Result<Inventory, StoreError> {
    let mut inventory = Inventory::default();
    let mut records = engine.db().raw_iterator_cf(engine.meta());
    records.seek_to_first();
    while let Some((name, value)) = records.item() {
        inventory.add(name, value).map_err(|problem| StoreError::Corrupt {
            object: format!("the record '{}'", name.escape_ascii()),
            problem,
        })?;
        records.next();
    }
    records.status().map_err(|error| storage(&error))?;
    Ok(inventory)
}
