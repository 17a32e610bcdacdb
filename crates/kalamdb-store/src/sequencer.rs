//! The committer's thread: takes groups of requests, validates them, numbers their rows, writes once, publishes one new state.

mod group;
mod step;
mod validation;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use parking_lot::RwLock;
use rocksdb::WriteBatch;

use crate::committer::{Committed, Put, PutKey, Removal, Step, WriteRequest};
use crate::deletion_vector;
use crate::engine::{Engine, WriteError};
use crate::erase::EraserHandle;
use crate::error::CommitError;
use crate::ids::{Epoch, ScopeId, Seq, StoreId};
use crate::key;
use crate::location::Location;
use crate::meta;
use crate::mover::HotUsage;
use crate::pinned::Pinned;
use crate::recent::RecentCommits;
use crate::row;
use crate::schema::Lifetime;
use crate::sequencer::group::{EpochChange, Group, HotChange, tell};
use crate::snapshot::{DbState, TableVersion};
use crate::tuning::{GROUP_BYTES, GROUP_REQUESTS, RECENT_KEYS};
use crate::watch::Watch;

/// Answers one request.
pub(crate) type Reply = oneshot::Sender<Result<Committed, CommitError>>;

/// What the thread is asked to do.
pub(crate) enum Message<C> {
    /// A change of rows; may share a group with others.
    Commit(WriteRequest, Reply),
    /// A change of the catalog; a group of its own.
    Step(Box<Step<C>>, Reply),
    /// Report what is committed to a store from now on.
    Watch(Arc<Watch>, SyncSender<()>),
    /// Finish; everything submitted before is done.
    Stop,
}

/// What the thread shares with the store's handle.
pub(crate) struct Shared<C> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: ArcSwap<DbState<C>>,
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    /// What is in the current epochs, and in the sealed ones of durable stores.
    pub(crate) hot: RwLock<HashMap<StoreId, HotUsage>>,
}

/// The thread's own state. What it publishes is in [`Shared`].
pub(crate) struct Sequencer<C> {
    shared: Arc<Shared<C>>,
    messages: Receiver<Message<C>>,
    eraser: EraserHandle,
    /// The last number given out, whether or not its write succeeded.
    last_seq: Seq,
    last_updated_micros: i64,
    recent: RecentCommits,
    /// The newest publication of a load per store: what was looked up before it may be otherwise after it.
    published_at: HashMap<StoreId, Seq>,
    watches: HashMap<StoreId, Vec<Weak<Watch>>>,
    /// Set after a write whose outcome is not known, until a probe succeeds.
    suspect: Option<String>,
}

impl<C: Send + Sync + 'static> Sequencer<C> {
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        messages: Receiver<Message<C>>,
        eraser: EraserHandle,
        last_updated_micros: i64,
    ) -> Self {
        let last_seq = shared.state.load().seq();
        Self {
            shared,
            messages,
            eraser,
            last_seq,
            last_updated_micros,
            recent: RecentCommits::new(last_seq, RECENT_KEYS),
            published_at: HashMap::new(),
            watches: HashMap::new(),
            suspect: None,
        }
    }

    /// Runs until [`Message::Stop`] or until nobody can send any more.
    pub(crate) fn run(mut self) {
        let mut next = None;
        loop {
            let message = match next.take() {
                Some(message) => message,
                None => match self.messages.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                },
            };
            match message {
                Message::Commit(request, reply) => {
                    let (group, following) = self.gather(request, reply);
                    next = following;
                    self.commit_group(group);
                }
                Message::Step(step, reply) => {
                    let result = self.step(*step);
                    self.count(&result);
                    answer(reply, result);
                    crate::crash::point("step-answered");
                }
                Message::Watch(watch, ready) => {
                    let watches = self.watches.entry(watch.store()).or_default();
                    watches.retain(|watch| watch.strong_count() > 0);
                    watches.push(Arc::downgrade(&watch));
                    // Whoever asked may have given up.
                    ready.send(()).ok();
                }
                Message::Stop => return,
            }
        }
    }

    /// Takes the requests that are already waiting, up to the bounds of a group, and the message that ended it.
    fn gather(&self, request: WriteRequest, reply: Reply) -> (Vec<(WriteRequest, Reply)>, Option<Message<C>>) {
        let mut bytes = size(&request);
        let mut group = vec![(request, reply)];
        while group.len() < GROUP_REQUESTS && bytes < GROUP_BYTES {
            match self.messages.try_recv() {
                Ok(Message::Commit(request, reply)) => {
                    bytes += size(&request);
                    group.push((request, reply));
                }
                Ok(other) => return (group, Some(other)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        (group, None)
    }

    fn commit_group(&mut self, requests: Vec<(WriteRequest, Reply)>) {
        if let Err(error) = self.probe() {
            for (_, reply) in requests {
                answer(reply, Err(error.clone()));
            }
            return;
        }
        let state = self.shared.state.load_full();
        let mut group = self.new_group();
        let mut accepted = Vec::with_capacity(requests.len());
        let mut refused = Vec::new();
        for (request, reply) in requests {
            let applied = self
                .validate(&state, &request, &mut group)
                .and_then(|()| self.apply(&state, request, &mut group));
            match applied {
                Ok(committed) => accepted.push((committed, reply)),
                Err(error) => refused.push((error, reply)),
            }
            if mistake!(GroupsDoNotSeeThemselves) {
                self.recent.forget(std::mem::take(&mut group.remembered));
            }
        }
        if !accepted.is_empty() {
            self.finish_group(group, &state, accepted);
        }
        // Only now: whoever looks again after a conflict must see the commit that it lost to.
        for (error, reply) in refused {
            let result = Err(error);
            self.count(&result);
            answer(reply, result);
        }
    }

    /// Writes a group's batch, publishes it, and answers those who are in it.
    fn finish_group(&mut self, mut group: Group, state: &DbState<C>, accepted: Vec<(Committed, Reply)>) {
        crate::crash::point("commit-writing");
        let written = self.write(&mut group);
        crate::crash::point("commit-written");
        if written.is_ok() || mistake!(FailedWritesAreShown) {
            self.publish(
                group,
                state.catalog().clone(),
                state.tables().clone(),
                state.retired_scopes().clone(),
            );
        } else if !mistake!(FailedWritesAreRemembered) {
            self.recent.forget(group.remembered);
        }
        if mistake!(NumbersOfFailedWritesAreUsedAgain) {
            self.last_seq = self.shared.state.load().seq();
        }
        crate::crash::point("commit-published");
        for (committed, reply) in accepted {
            let mut result = written.clone().map(|()| committed);
            if mistake!(FailedWritesAreAcknowledged) {
                result = Ok(committed);
            }
            self.count(&result);
            answer(reply, result);
        }
        crate::crash::point("commit-answered");
    }

    /// Numbers a valid request's rows and adds them to the batch.
    fn apply(
        &mut self,
        state: &DbState<C>,
        request: WriteRequest,
        group: &mut Group,
    ) -> Result<Committed, CommitError> {
        let updated_micros = self.next_updated(request.now_micros);
        self.add_rows(state.tables(), request.removals, request.puts, updated_micros, group)?;
        for claim in request.tables.iter().filter(|claim| claim.exclusive) {
            let what = self.recent.scope(claim.store, claim.scope);
            group.remembered.push(self.recent.remember(what, self.last_seq));
        }
        group.last = Committed {
            seq: self.last_seq,
            updated_micros,
        };
        Ok(group.last)
    }

    /// Adds checked rows. Reads deletion vectors first, so that it fails before it has changed the group, or not at all.
    fn add_rows(
        &mut self,
        tables: &HashMap<StoreId, Arc<TableVersion>>,
        removals: Vec<Removal>,
        puts: Vec<Put>,
        updated_micros: i64,
        group: &mut Group,
    ) -> Result<(), CommitError> {
        if mistake!(RemovalsFollowPuts) && !puts.is_empty() && !removals.is_empty() {
            self.add_rows(tables, Vec::new(), puts, updated_micros, group)?;
            return self.add_rows(tables, removals, Vec::new(), updated_micros, group);
        }
        let engine = self.shared.engine.clone();
        let table = |store: StoreId| tables.get(&store).expect("validation found the store live");
        for removal in &removals {
            if let Location::Cold(segment, row) = removal.location {
                group.chunk(&engine, segment, row)?;
            }
        }
        let mut whole = Vec::new();
        for removal in removals {
            let table = table(removal.store);
            let seq = self.next_seq();
            match removal.location {
                Location::Hot(mut epoch) => {
                    if mistake!(RemovalsGoToTheCurrentEpoch) {
                        epoch = table.current();
                    }
                    key::hot_key(removal.store, epoch, removal.scope, &removal.key, &mut whole);
                    group.batch.delete_cf(engine.rows(table.lifetime), &whole);
                    group.forget_hot_row(removal.store, table, epoch);
                }
                Location::Cold(segment, row) => {
                    let added = group.chunk(&engine, segment, row)?.insert(row);
                    *group.deleted.entry(segment).or_default() += u32::from(added);
                }
            }
            let what = self.recent.key(removal.store, removal.scope, &removal.key);
            group.remembered.push(self.recent.remember(what, seq));
            for watch in watches_of(&self.watches, removal.store).filter(|_| !mistake!(RemovalsAreNotHeard)) {
                watch.note_removed(group.news_of(&watch), removal.scope, &removal.key, removal.location);
            }
        }
        for mut put in puts {
            let table = table(put.store);
            let seq = self.next_seq();
            row::stamp(&mut put.value, seq, updated_micros);
            let mut epoch = table.current();
            if mistake!(WritesGoToTheSealedEpoch) {
                epoch = table.epochs[0];
            }
            match put.key {
                // Nobody can have looked for a row id that did not exist: there is nothing to remember.
                PutKey::RowId => key::hot_key(put.store, epoch, put.scope, &seq.0.to_be_bytes(), &mut whole),
                PutKey::Key(key) => {
                    key::hot_key(put.store, epoch, put.scope, &key, &mut whole);
                    let what = self.recent.key(put.store, put.scope, &key);
                    group.remembered.push(self.recent.remember(what, seq));
                    for watch in watches_of(&self.watches, put.store).filter(|_| !mistake!(InsertionsAreNotHeard)) {
                        watch.note_inserted(group.news_of(&watch), put.scope, &key);
                    }
                }
            }
            let hot = group.hot.entry(put.store).or_default();
            hot.rows += 1;
            hot.bytes += (whole.len() + put.value.len()) as u64;
            group.batch.put_cf(engine.rows(table.lifetime), &whole, &put.value);
        }
        Ok(())
    }

    fn new_group(&self) -> Group {
        Group {
            batch: WriteBatch::default(),
            remembered: Vec::new(),
            watched: Vec::new(),
            chunks: HashMap::new(),
            deleted: HashMap::new(),
            hot: HashMap::new(),
            moves_files: false,
            last: Committed {
                seq: self.last_seq,
                updated_micros: self.last_updated_micros,
            },
        }
    }

    /// Writes the group's batch, and with it how far the numbers have come.
    fn write(&mut self, group: &mut Group) -> Result<(), CommitError> {
        let engine = &self.shared.engine;
        for (&segment, &added) in &group.deleted {
            let mut before = deletion_vector::committed_count(engine, segment)?;
            if mistake!(DeadRowsAreCountedAnew) {
                before = 0;
            }
            deletion_vector::put_count(&mut group.batch, engine, segment, before + added);
        }
        for (&(segment, number), chunk) in &group.chunks {
            if group.deleted.contains_key(&segment) && !mistake!(DeadRowsAreNotMarked) {
                deletion_vector::put_chunk(&mut group.batch, engine, segment, number, chunk);
            }
        }
        let usage = self.hot_usage(group);
        for (store, usage) in &usage {
            group
                .batch
                .put_cf(engine.meta(), meta::hot(*store), meta::encode_hot(usage));
            let name = meta::sealed(*store);
            let change = group.hot.get(store).copied().unwrap_or_default();
            match change.epochs {
                EpochChange::Flushed => group.batch.delete_cf(engine.meta(), name),
                EpochChange::None | EpochChange::Rotated if change.sealed_rows_gone == 0 => {}
                EpochChange::None | EpochChange::Rotated | EpochChange::Sealed => {
                    group.batch.put_cf(engine.meta(), name, meta::encode_sealed(usage));
                }
            }
        }
        group.batch.put_cf(
            engine.meta(),
            meta::LAST,
            meta::encode_last(self.last_seq, self.last_updated_micros),
        );
        let batch = std::mem::take(&mut group.batch);
        let written = match group.moves_files && !mistake!(FilesMoveUnsynced) {
            true => engine.write_synced(batch),
            false => engine.write(batch),
        };
        match written {
            Ok(()) => {
                self.shared.hot.write().extend(usage);
                Ok(())
            }
            Err(WriteError::Refused(message)) => Err(CommitError::Storage(message)),
            Err(WriteError::Unknown(message) | WriteError::Damaged(message)) => {
                tracing::error!(error = %message, "a commit's outcome is unknown");
                self.suspect = Some(message.clone());
                Err(CommitError::UnknownOutcome(message))
            }
        }
    }

    /// What the group leaves in hot epochs.
    fn hot_usage(&self, group: &Group) -> Vec<(StoreId, HotUsage)> {
        let hot = self.shared.hot.read();
        let after = |(&store, change): (&StoreId, &HotChange)| {
            let before = hot.get(&store).copied().unwrap_or_default();
            (store, change.applied(before, group.last.updated_micros))
        };
        group.hot.iter().map(after).collect()
    }

    /// After a failed write: whether the log takes writes again.
    ///
    /// RocksDB does not append to a log whose sync failed: it refuses all writes until it has flushed its memtables, which the
    /// failed batch never entered, and begun another log. So a probe that is written settles that the failed batch is behind a
    /// log that recovery no longer needs, and a probe that fails means that nothing after it was attempted.
    fn probe(&mut self) -> Result<(), CommitError> {
        if mistake!(WritesGoOnAfterAFailedSync) {
            self.suspect = None;
        }
        let Some(cause) = &self.suspect else { return Ok(()) };
        let engine = &self.shared.engine;
        let mut batch = WriteBatch::default();
        batch.put_cf(
            engine.meta(),
            meta::LAST,
            meta::encode_last(self.last_seq, self.last_updated_micros),
        );
        match engine.write_synced(batch) {
            Ok(()) => {
                tracing::warn!("the log takes writes again");
                self.suspect = None;
                Ok(())
            }
            Err(WriteError::Damaged(message)) => Err(CommitError::Storage(format!(
                "no write is possible since one failed ({cause}): RocksDB writes nothing once it has met a damaged file: {message}; \
                 reads of what is not in it go on; restart kalamdb, which then leaves that file as it is, check the disk, and see \
                 by STORAGE CHECK ALL which tables it is about"
            ))),
            Err(WriteError::Refused(message) | WriteError::Unknown(message)) => Err(CommitError::Storage(format!(
                "no write is possible since one failed ({cause}): {message}; reads go on; check the disk, then restart kalamdb"
            ))),
        }
    }

    /// Makes a written group visible. Acknowledging comes after it.
    fn publish(
        &mut self,
        group: Group,
        catalog: Arc<C>,
        tables: Arc<HashMap<StoreId, Arc<TableVersion>>>,
        retired_scopes: Arc<HashSet<ScopeId>>,
    ) {
        self.recent.trim();
        let engine = &self.shared.engine;
        let mut versions = tables;
        if mistake!(VersionsLagBehind) {
            versions = self.shared.state.load().tables().clone();
        }
        let mut news = group.watched;
        if mistake!(WatchesAreToldTooEarly) {
            tell(std::mem::take(&mut news));
            engine.moment("half-published");
        }
        let state = DbState::new(catalog, group.last.seq, versions, retired_scopes, Pinned::new(engine));
        self.shared.state.store(Arc::new(state));
        engine.moment("half-published");
        tell(news);
    }

    fn next_seq(&mut self) -> Seq {
        self.last_seq = Seq(self.last_seq.0 + 1);
        self.last_seq
    }

    fn next_updated(&mut self, now_micros: i64) -> i64 {
        self.last_updated_micros = match mistake!(UpdatedFollowsTheClock) {
            true => now_micros,
            false => now_micros.max(self.last_updated_micros.saturating_add(1)),
        };
        self.last_updated_micros
    }

    fn count(&self, result: &Result<Committed, CommitError>) {
        match result {
            Ok(_) => self.shared.commits.fetch_add(1, Ordering::Relaxed),
            Err(CommitError::Conflict) => self.shared.conflicts.fetch_add(1, Ordering::Relaxed),
            Err(_) => return,
        };
    }
}

fn watches_of(
    watches: &HashMap<StoreId, Vec<Weak<Watch>>>,
    store: StoreId,
) -> impl Iterator<Item = Arc<Watch>> + use<'_> {
    watches.get(&store).into_iter().flatten().filter_map(Weak::upgrade)
}

fn answer(reply: Reply, result: Result<Committed, CommitError>) {
    // Whoever asked may have gone away; that does not undo the commit.
    reply.send(result).ok();
}

/// Where rows of a scope can be.
pub(crate) fn places(tables: &HashMap<StoreId, Arc<TableVersion>>) -> Vec<(StoreId, Lifetime, Vec<Epoch>)> {
    tables
        .iter()
        .map(|(store, table)| (*store, table.lifetime, table.epochs.clone()))
        .collect()
}

/// Bytes of keys and values.
fn size(request: &WriteRequest) -> usize {
    let removals: usize = request.removals.iter().map(|removal| removal.key.len()).sum();
    let puts: usize = request.puts.iter().map(|put| put.value.len()).sum();
    removals + puts
}
