//! The committer's thread: takes groups of requests, validates them, numbers their rows, writes once, publishes one new state.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use rocksdb::WriteBatch;

use crate::committer::{Committed, Put, PutKey, Removal, Step, TableChange, WriteRequest};
use crate::engine::{Engine, WriteError};
use crate::erase::{EraseJob, EraserHandle};
use crate::error::{CommitError, StoreError};
use crate::ids::{Epoch, ScopeId, Seq, StoreId};
use crate::key;
use crate::meta;
use crate::pinned::Pinned;
use crate::recent::{Fingerprint, RecentCommits};
use crate::row;
use crate::schema::Lifetime;
use crate::snapshot::{DbState, EpochEntry, TableVersion};
use crate::staging::{FIRST_STAGED_EPOCH, StagedEpoch};
use crate::tuning::{GROUP_BYTES, GROUP_REQUESTS, RECENT_KEYS};
use crate::watch::{StagedKeys, Watch};

/// Answers one request.
pub(crate) type Reply = oneshot::Sender<Result<Committed, CommitError>>;

/// What the thread is asked to do.
pub(crate) enum Message<C> {
    /// A change of rows; may share a group with others.
    Commit(WriteRequest, Reply),
    /// A change of the catalog; a group of its own.
    Step(Box<Step<C>>, Reply),
    /// Report what is inserted into a store from now on.
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
    /// The newest publication of a load per store: a key that was absent before it may be present after it.
    published_at: HashMap<StoreId, Seq>,
    watches: HashMap<StoreId, Vec<Weak<Watch>>>,
    /// Set after a write whose outcome is not known, until a probe succeeds.
    suspect: Option<String>,
}

/// A batch in the making, with what has to follow if it is written.
struct Group {
    batch: WriteBatch,
    remembered: Vec<(Fingerprint, Option<Seq>)>,
    /// Inserted keys of watched stores.
    watched: Vec<(Arc<Watch>, ScopeId, Vec<u8>)>,
    last: Committed,
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
            match self.validate(&state, &request) {
                Ok(()) => {
                    let committed = self.apply(&state, request, &mut group);
                    accepted.push((committed, reply));
                }
                Err(error) => refused.push((error, reply)),
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
        let written = self.write(&mut group);
        if written.is_ok() {
            self.publish(
                group,
                state.catalog().clone(),
                state.tables().clone(),
                state.retired_scopes().clone(),
            );
        } else {
            self.recent.forget(group.remembered);
        }
        for (committed, reply) in accepted {
            let result = written.clone().map(|()| committed);
            self.count(&result);
            answer(reply, result);
        }
    }

    /// Checks a request against the committed state and against what its group wrote before it.
    fn validate(&self, state: &DbState<C>, request: &WriteRequest) -> Result<(), CommitError> {
        for claim in &request.tables {
            let table = live_table(state.tables(), state.retired_scopes(), claim.store, claim.scope)?;
            if table.schema_version != claim.schema_version {
                return Err(CommitError::Conflict);
            }
        }
        if request.validated_at < self.recent.floor() {
            return Err(CommitError::Stale);
        }
        for claim in request.tables.iter().filter(|claim| claim.exclusive) {
            if self
                .recent
                .written_after(self.recent.scope(claim.store, claim.scope), request.validated_at)
            {
                return Err(CommitError::Conflict);
            }
        }
        for removal in &request.removals {
            let table = live_table(state.tables(), state.retired_scopes(), removal.store, removal.scope)?;
            if !table.epochs.iter().any(|entry| entry.epoch == removal.epoch) {
                return Err(CommitError::Conflict);
            }
            let key = self.recent.key(removal.store, removal.scope, &removal.key);
            if self.recent.written_after(key, request.validated_at) {
                return Err(CommitError::Conflict);
            }
        }
        let mut stale = false;
        for put in &request.puts {
            live_table(state.tables(), state.retired_scopes(), put.store, put.scope)?;
            check_value(put)?;
            let PutKey::Key(key) = &put.key else { continue };
            if self
                .recent
                .written_after(self.recent.key(put.store, put.scope, key), request.validated_at)
            {
                return Err(CommitError::Conflict);
            }
            stale |= self
                .published_at
                .get(&put.store)
                .is_some_and(|&published| published > request.validated_at);
        }
        if stale { Err(CommitError::Stale) } else { Ok(()) }
    }

    /// Numbers a valid request's rows and adds them to the batch.
    fn apply(&mut self, state: &DbState<C>, request: WriteRequest, group: &mut Group) -> Committed {
        let updated_micros = self.next_updated(request.now_micros);
        self.add_rows(state.tables(), request.removals, request.puts, updated_micros, group);
        for claim in request.tables.iter().filter(|claim| claim.exclusive) {
            let what = self.recent.scope(claim.store, claim.scope);
            group.remembered.push(self.recent.remember(what, self.last_seq));
        }
        group.last = Committed {
            seq: self.last_seq,
            updated_micros,
        };
        group.last
    }

    fn add_rows(
        &mut self,
        tables: &HashMap<StoreId, Arc<TableVersion>>,
        removals: Vec<Removal>,
        puts: Vec<Put>,
        updated_micros: i64,
        group: &mut Group,
    ) {
        let engine = self.shared.engine.clone();
        let place = |store: StoreId| -> (Lifetime, Epoch) {
            let table = tables.get(&store).expect("validation found the store live");
            (
                table.lifetime,
                table.epochs.last().expect("a store is created with an epoch").epoch,
            )
        };
        let mut whole = Vec::new();
        for removal in removals {
            let (lifetime, _) = place(removal.store);
            let seq = self.next_seq();
            key::hot_key(removal.store, removal.epoch, removal.scope, &removal.key, &mut whole);
            group.batch.delete_cf(engine.rows(lifetime), &whole);
            let what = self.recent.key(removal.store, removal.scope, &removal.key);
            group.remembered.push(self.recent.remember(what, seq));
        }
        for mut put in puts {
            let (lifetime, epoch) = place(put.store);
            let seq = self.next_seq();
            row::stamp(&mut put.value, seq, updated_micros);
            match put.key {
                // Nobody can have looked for a row id that did not exist: there is nothing to remember.
                PutKey::RowId => key::hot_key(put.store, epoch, put.scope, &seq.0.to_be_bytes(), &mut whole),
                PutKey::Key(key) => {
                    key::hot_key(put.store, epoch, put.scope, &key, &mut whole);
                    let what = self.recent.key(put.store, put.scope, &key);
                    group.remembered.push(self.recent.remember(what, seq));
                    for watch in self
                        .watches
                        .get(&put.store)
                        .into_iter()
                        .flatten()
                        .filter_map(Weak::upgrade)
                    {
                        group.watched.push((watch, put.scope, key.clone()));
                    }
                }
            }
            group.batch.put_cf(engine.rows(lifetime), &whole, &put.value);
        }
    }

    /// A change of the catalog, alone in its group.
    fn step(&mut self, step: Step<C>) -> Result<Committed, CommitError> {
        self.probe()?;
        let engine = self.shared.engine.clone();
        let state = self.shared.state.load_full();
        let mut tables = HashMap::clone(state.tables());
        let mut retired_scopes = HashSet::clone(state.retired_scopes());
        let updated_micros = self.next_updated(step.now_micros);
        let mut group = self.new_group();
        let mut changed = HashSet::new();
        let mut published: Vec<Arc<StagedEpoch>> = Vec::new();
        let mut jobs = Vec::new();
        for change in step.changes {
            match change {
                TableChange::Create(store, version) => {
                    check_new(&tables, store, &version)?;
                    tables.insert(store, Arc::new(version));
                    changed.insert(store);
                }
                TableChange::Retire(store) => {
                    tables.remove(&store).ok_or(CommitError::Retired(store))?;
                    changed.remove(&store);
                    group.batch.delete_cf(engine.meta(), meta::table(store));
                    group.batch.put_cf(engine.meta(), meta::retired(store), []);
                    jobs.push(EraseJob::Store(store));
                }
                TableChange::SetSchemaVersion(store, version) => {
                    let table = tables.get_mut(&store).ok_or(CommitError::Retired(store))?;
                    Arc::make_mut(table).schema_version = version;
                    changed.insert(store);
                }
                TableChange::RetireScope(scope) => {
                    if scope == ScopeId::GLOBAL {
                        return Err(CommitError::Storage("the global scope cannot be retired".to_string()));
                    }
                    retired_scopes.insert(scope);
                    group.batch.put_cf(engine.meta(), meta::scope_retired(scope), []);
                    jobs.push(EraseJob::Scope(scope, places(&tables)));
                }
                TableChange::Publish(staged) => {
                    let table = tables.get(&staged.store).ok_or(CommitError::Retired(staged.store))?;
                    self.check_load(&staged, table, &retired_scopes, &published)?;
                    let base = Seq(self.last_seq.0 + 1);
                    self.last_seq = Seq(self.last_seq.0 + staged.rows);
                    let entry = EpochEntry {
                        epoch: staged.epoch,
                        base: Some((base, updated_micros)),
                    };
                    let table = tables
                        .get_mut(&staged.store)
                        .ok_or(CommitError::Retired(staged.store))?;
                    let epochs = &mut Arc::make_mut(table).epochs;
                    // The current epoch stays last.
                    epochs.insert(epochs.len() - 1, entry);
                    changed.insert(staged.store);
                    group
                        .batch
                        .delete_cf(engine.meta(), meta::intent(staged.store, staged.epoch));
                    published.push(staged);
                }
            }
        }
        for store in changed {
            let Some(table) = tables.get(&store) else { continue };
            let record = serde_json::to_vec(table.as_ref())
                .map_err(|error| CommitError::Storage(format!("a table's version cannot be written: {error}")))?;
            group.batch.put_cf(engine.meta(), meta::table(store), record);
        }
        check_rows(&tables, &retired_scopes, &step.removals, &step.puts)?;
        self.add_rows(&tables, step.removals, step.puts, updated_micros, &mut group);
        for (name, value) in step.meta {
            match value {
                Some(value) => group.batch.put_cf(engine.meta(), meta::record(&name), value),
                None => group.batch.delete_cf(engine.meta(), meta::record(&name)),
            }
        }
        // A step takes a number even if it writes no row, so that its state is newer than the one before.
        group.last = Committed {
            seq: self.next_seq(),
            updated_micros,
        };
        let committed = group.last;

        // From here on the load may be in the log: whoever drops it must not erase it.
        for staged in &published {
            staged.disarm();
        }
        if let Err(error) = self.write(&mut group) {
            self.recent.forget(group.remembered);
            if let CommitError::Storage(_) = error {
                published.iter().for_each(|staged| staged.rearm());
            }
            return Err(error);
        }
        self.publish(group, step.catalog, Arc::new(tables), Arc::new(retired_scopes));
        for staged in &published {
            self.published_at.insert(staged.store, committed.seq);
            for watch in self
                .watches
                .get(&staged.store)
                .into_iter()
                .flatten()
                .filter_map(Weak::upgrade)
            {
                watch.published(staged.epoch);
            }
        }
        for job in jobs {
            if let EraseJob::Store(store) = job {
                self.published_at.remove(&store);
            }
            self.eraser.erase(job);
        }
        Ok(committed)
    }

    /// Checks that a load fits the table as it is now. What others inserted since it was finished is little, and looked up here.
    fn check_load(
        &self,
        staged: &StagedEpoch,
        table: &TableVersion,
        retired_scopes: &HashSet<ScopeId>,
        published: &[Arc<StagedEpoch>],
    ) -> Result<(), CommitError> {
        if !staged.is_armed() || table.epochs.iter().any(|entry| entry.epoch == staged.epoch) {
            return Err(CommitError::Storage("this load was published before".to_string()));
        }
        if table.schema_version != staged.schema_version() || table.lifetime != Lifetime::Durable {
            return Err(CommitError::Conflict);
        }
        if let Some(scope) = staged.scopes().iter().find(|scope| retired_scopes.contains(scope)) {
            return Err(CommitError::ScopeRetired(*scope));
        }
        let Some(watch) = staged.watch() else { return Ok(()) };
        let keys = StagedKeys {
            engine: &self.shared.engine,
            store: staged.store,
            epoch: staged.epoch,
        };
        let live = table.epochs.iter().map(|entry| entry.epoch);
        let news = watch.take();
        if let Err(error) = keys.check(&news, live) {
            watch.put_back(news);
            return Err(load_error(error));
        }
        // Loads of the same step are not in the watch yet.
        for other in published.iter().filter(|other| other.store == staged.store) {
            keys.check_epoch(other.epoch).map_err(load_error)?;
        }
        Ok(())
    }

    fn new_group(&self) -> Group {
        Group {
            batch: WriteBatch::default(),
            remembered: Vec::new(),
            watched: Vec::new(),
            last: Committed {
                seq: self.last_seq,
                updated_micros: self.last_updated_micros,
            },
        }
    }

    /// Writes the group's batch, and with it how far the numbers have come.
    fn write(&mut self, group: &mut Group) -> Result<(), CommitError> {
        let engine = &self.shared.engine;
        group.batch.put_cf(
            engine.meta(),
            meta::LAST,
            meta::encode_last(self.last_seq, self.last_updated_micros),
        );
        let written = engine.write(std::mem::take(&mut group.batch));
        match written {
            Ok(()) => Ok(()),
            Err(WriteError::Refused(message)) => Err(CommitError::Storage(message)),
            Err(WriteError::Unknown(message)) => {
                tracing::error!(error = %message, "a commit's outcome is unknown");
                self.suspect = Some(message.clone());
                Err(CommitError::UnknownOutcome(message))
            }
        }
    }

    /// After a failed write: whether the log takes writes again.
    ///
    /// RocksDB does not append to a log whose sync failed: it refuses all writes until it has flushed its memtables, which the
    /// failed batch never entered, and begun another log. So a probe that is written settles that the failed batch is behind a
    /// log that recovery no longer needs, and a probe that fails means that nothing after it was attempted.
    fn probe(&mut self) -> Result<(), CommitError> {
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
        let pinned = Pinned::new(&self.shared.engine);
        let state = DbState::new(catalog, group.last.seq, tables, retired_scopes, pinned);
        self.shared.state.store(Arc::new(state));
        for (watch, scope, key) in group.watched {
            watch.inserted(scope, &key);
        }
    }

    fn next_seq(&mut self) -> Seq {
        self.last_seq = Seq(self.last_seq.0 + 1);
        self.last_seq
    }

    fn next_updated(&mut self, now_micros: i64) -> i64 {
        self.last_updated_micros = now_micros.max(self.last_updated_micros.saturating_add(1));
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

fn answer(reply: Reply, result: Result<Committed, CommitError>) {
    // Whoever asked may have gone away; that does not undo the commit.
    reply.send(result).ok();
}

fn live_table<'a>(
    tables: &'a HashMap<StoreId, Arc<TableVersion>>,
    retired_scopes: &HashSet<ScopeId>,
    store: StoreId,
    scope: ScopeId,
) -> Result<&'a TableVersion, CommitError> {
    let table = tables.get(&store).ok_or(CommitError::Retired(store))?;
    if retired_scopes.contains(&scope) {
        return Err(CommitError::ScopeRetired(scope));
    }
    Ok(table)
}

fn check_value(put: &Put) -> Result<(), CommitError> {
    if put.value.len() < row::HEADER_BYTES {
        return Err(CommitError::Storage(format!(
            "a row of store {} was not encoded",
            put.store
        )));
    }
    Ok(())
}

fn check_rows(
    tables: &HashMap<StoreId, Arc<TableVersion>>,
    retired_scopes: &HashSet<ScopeId>,
    removals: &[Removal],
    puts: &[Put],
) -> Result<(), CommitError> {
    for removal in removals {
        live_table(tables, retired_scopes, removal.store, removal.scope)?;
    }
    for put in puts {
        live_table(tables, retired_scopes, put.store, put.scope)?;
        check_value(put)?;
    }
    Ok(())
}

fn check_new(
    tables: &HashMap<StoreId, Arc<TableVersion>>,
    store: StoreId,
    version: &TableVersion,
) -> Result<(), CommitError> {
    let problem = if tables.contains_key(&store) {
        "exists already"
    } else if version.epochs.is_empty() {
        "is created without an epoch to write to"
    } else if version.epochs.iter().any(|entry| entry.epoch >= FIRST_STAGED_EPOCH) {
        "is created with an epoch number that belongs to staged loads"
    } else {
        return Ok(());
    };
    Err(CommitError::Storage(format!("store {store} {problem}")))
}

/// Where rows of a scope can be.
pub(crate) fn places(tables: &HashMap<StoreId, Arc<TableVersion>>) -> Vec<(StoreId, Lifetime, Vec<Epoch>)> {
    tables
        .iter()
        .map(|(store, table)| {
            (
                *store,
                table.lifetime,
                table.epochs.iter().map(|entry| entry.epoch).collect(),
            )
        })
        .collect()
}

fn load_error(error: StoreError) -> CommitError {
    match error {
        StoreError::DuplicateKey { key } => CommitError::DuplicateKey { key },
        other => CommitError::Storage(other.to_string()),
    }
}

/// Bytes of keys and values.
fn size(request: &WriteRequest) -> usize {
    let removals: usize = request.removals.iter().map(|removal| removal.key.len()).sum();
    let puts: usize = request.puts.iter().map(|put| put.value.len()).sum();
    removals + puts
}
