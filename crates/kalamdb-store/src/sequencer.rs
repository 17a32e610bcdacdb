//! The committer's thread: takes groups of requests, validates them, numbers their rows, writes once, publishes one new state.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use parking_lot::RwLock;
use rocksdb::{ColumnFamily, WriteBatch};

use crate::committer::{Committed, Put, PutKey, Removal, Step, TableChange, WriteRequest};
use crate::deletion_vector::{self, CHUNK_ROWS, Chunk};
use crate::engine::{Engine, WriteError};
use crate::erase::{EraseJob, EraserHandle};
use crate::error::{CommitError, StoreError};
use crate::ids::{Epoch, ScopeId, SegmentId, Seq, StoreId};
use crate::key;
use crate::location::Location;
use crate::manifest::Segment;
use crate::meta;
use crate::mover::HotUsage;
use crate::pinned::Pinned;
use crate::publication::Publication;
use crate::recent::{Fingerprint, RecentCommits};
use crate::row;
use crate::schema::Lifetime;
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

/// A batch in the making, with what has to follow if it is written.
struct Group {
    batch: WriteBatch,
    remembered: Vec<(Fingerprint, Option<Seq>)>,
    /// What watches of these stores are to hear.
    watched: Vec<(Arc<Watch>, Heard)>,
    /// Chunks of deletion vectors as they are to be, and which rows of a segment were added to them.
    chunks: HashMap<(SegmentId, u32), Chunk>,
    deleted: HashMap<SegmentId, u32>,
    /// What happens to hot rows.
    hot: HashMap<StoreId, HotChange>,
    /// Files come or go with it: it is synced whatever the durability.
    moves_files: bool,
    last: Committed,
}

/// What a group does to the hot rows of a store. A step first, then rows.
#[derive(Clone, Copy, Default)]
struct HotChange {
    epochs: EpochChange,
    /// Rows and bytes that come to the current epoch, or go.
    rows: i64,
    bytes: i64,
    /// Rows that go from the sealed one.
    sealed_rows_gone: u64,
}

/// What a step does to the epochs of a store.
#[derive(Clone, Copy, Default)]
enum EpochChange {
    #[default]
    None,
    /// The current one is sealed, to be flushed.
    Sealed,
    /// The current one is a bucket that goes by itself.
    Rotated,
    /// The sealed one is in segments.
    Flushed,
}

enum Heard {
    Inserted(ScopeId, Vec<u8>),
    Removed(ScopeId, Vec<u8>, Location),
}

impl Group {
    /// The chunk of a deletion vector as the group leaves it.
    fn chunk(&mut self, engine: &Engine, segment: SegmentId, row: u32) -> Result<&mut Chunk, StoreError> {
        let number = row / CHUNK_ROWS;
        if mistake!(GroupsForgetTheirBits) {
            self.chunks.remove(&(segment, number));
        }
        Ok(match self.chunks.entry((segment, number)) {
            Entry::Occupied(chunk) => chunk.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(deletion_vector::committed_chunk(engine, segment, number)?),
        })
    }

    /// Counts a hot row that goes.
    fn forget_hot_row(&mut self, store: StoreId, table: &TableVersion, epoch: Epoch) {
        let hot = self.hot.entry(store).or_default();
        if epoch == table.current() {
            hot.rows -= 1;
        } else if table.lifetime == Lifetime::Durable {
            hot.sealed_rows_gone += 1;
        }
    }
}

impl HotChange {
    /// What is hot afterwards. Of a row that goes only the number is known: it is taken for one of average length.
    fn applied(&self, before: HotUsage, updated_micros: i64) -> HotUsage {
        let mut after = match self.epochs {
            EpochChange::None => before,
            EpochChange::Sealed if mistake!(SealedRowsAreNotCounted) => HotUsage::default(),
            EpochChange::Sealed => HotUsage {
                sealed_rows: before.rows,
                sealed_bytes: before.bytes,
                ..HotUsage::default()
            },
            EpochChange::Rotated => HotUsage::default(),
            EpochChange::Flushed if mistake!(FlushedRowsAreCounted) => before,
            EpochChange::Flushed => HotUsage {
                sealed_rows: 0,
                sealed_bytes: 0,
                ..before
            },
        };
        let average = after.sealed_bytes / after.sealed_rows.max(1);
        after.sealed_rows = after.sealed_rows.saturating_sub(self.sealed_rows_gone);
        after.sealed_bytes = after.sealed_bytes.saturating_sub(average * self.sealed_rows_gone);
        if after.sealed_rows == 0 {
            after.sealed_bytes = 0;
        }
        let average = after.bytes / after.rows.max(1);
        let gone_bytes = average * self.rows.min(0).unsigned_abs();
        if after.rows == 0 {
            after.since_micros = updated_micros;
        }
        after.rows = after.rows.saturating_add_signed(self.rows);
        after.bytes = after
            .bytes
            .saturating_add_signed(self.bytes.saturating_sub_unsigned(gone_bytes));
        if after.rows == 0 {
            (after.bytes, after.since_micros) = (0, 0);
        }
        after
    }
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

    /// Checks a request against the committed state and against what its group wrote before it.
    fn validate(&self, state: &DbState<C>, request: &WriteRequest, group: &mut Group) -> Result<(), CommitError> {
        for claim in &request.tables {
            let table = live_table(state.tables(), state.retired_scopes(), claim.store, claim.scope)?;
            if table.schema_version != claim.schema_version && !mistake!(SchemaVersionsAreNotCompared) {
                return Err(CommitError::Conflict);
            }
        }
        if request.validated_at < self.recent.floor() && !mistake!(ForgottenCommitsAreTakenForNone) {
            return Err(CommitError::Stale);
        }
        for claim in request.tables.iter().filter(|claim| claim.exclusive) {
            if self
                .recent
                .written_after(self.recent.scope(claim.store, claim.scope), request.validated_at)
                && !mistake!(ExclusiveClaimsAreNotCompared)
            {
                return Err(CommitError::Conflict);
            }
        }
        let published_since = |store: StoreId| {
            self.published_at
                .get(&store)
                .is_some_and(|&published| published > request.validated_at)
        };
        let mut stale = false;
        for removal in &request.removals {
            let table = live_table(state.tables(), state.retired_scopes(), removal.store, removal.scope)?;
            let key = self.recent.key(removal.store, removal.scope, &removal.key);
            if self.recent.written_after(key, request.validated_at) && !mistake!(RemovalsAreNotCompared) {
                return Err(CommitError::Conflict);
            }
            // A row that has moved is looked up again; so is one that a load may have replaced.
            let moved = !table.holds(removal.location) && !mistake!(MovedRowsAreNotLookedUpAgain);
            let replaced = published_since(removal.store) && !mistake!(LoadsReplaceNothing);
            if moved || replaced {
                stale = true;
            } else if let Location::Cold(segment, row) = removal.location
                && group.chunk(&self.shared.engine, segment, row)?.contains(row)
                && !mistake!(RemovalsAreNotCompared)
            {
                return Err(CommitError::Conflict);
            }
        }
        for put in &request.puts {
            live_table(state.tables(), state.retired_scopes(), put.store, put.scope)?;
            check_value(put)?;
            let PutKey::Key(key) = &put.key else { continue };
            if self
                .recent
                .written_after(self.recent.key(put.store, put.scope, key), request.validated_at)
                && !mistake!(PutsAreNotCompared)
            {
                return Err(CommitError::Conflict);
            }
            stale |= published_since(put.store) && !mistake!(LoadsInsertNothing);
        }
        if stale { Err(CommitError::Stale) } else { Ok(()) }
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
                let heard = Heard::Removed(removal.scope, removal.key.clone(), removal.location);
                group.watched.push((watch, heard));
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
                        group.watched.push((watch, Heard::Inserted(put.scope, key.clone())));
                    }
                }
            }
            let hot = group.hot.entry(put.store).or_default();
            hot.rows += 1;
            hot.bytes += i64::try_from(whole.len() + put.value.len()).unwrap_or(i64::MAX);
            group.batch.put_cf(engine.rows(table.lifetime), &whole, &put.value);
        }
        Ok(())
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
        let mut published: Vec<Arc<Publication>> = Vec::new();
        let mut gone: Vec<Arc<Segment>> = Vec::new();
        let mut jobs = Vec::new();
        for change in step.changes {
            match change {
                TableChange::Create(store, version) => {
                    check_new(&tables, store, &version)?;
                    tables.insert(store, Arc::new(version));
                    changed.insert(store);
                }
                TableChange::Retire(store) => {
                    let table = tables.remove(&store).ok_or(CommitError::Retired(store))?;
                    changed.remove(&store);
                    for segment in table.segments.iter().filter(|_| !mistake!(FilesOfRetiredStoresStay)) {
                        forget_segment(&engine, &mut group.batch, store, segment)?;
                        gone.push(segment.clone());
                    }
                    group.batch.delete_cf(engine.meta(), meta::hot(store));
                    group.batch.delete_cf(engine.meta(), meta::sealed(store));
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
                TableChange::Seal(store) => {
                    let table = tables.get_mut(&store).ok_or(CommitError::Retired(store))?;
                    let next = Epoch(table.current().0 + 1);
                    if table.epochs.len() > 1 || table.lifetime != Lifetime::Durable {
                        return Err(CommitError::Storage(format!("store {store} cannot be sealed now")));
                    }
                    Arc::make_mut(table).epochs.push(next);
                    group.hot.entry(store).or_default().epochs = EpochChange::Sealed;
                    if !mistake!(SealsAreNotWritten) {
                        changed.insert(store);
                    }
                    if mistake!(SealsForgetRecentCommits) {
                        self.recent = RecentCommits::new(Seq(0), RECENT_KEYS);
                    }
                }
                TableChange::Rotate {
                    store,
                    seals,
                    now_micros,
                } => {
                    let table = tables.get_mut(&store).ok_or(CommitError::Retired(store))?;
                    if table.lifetime != Lifetime::Expiring {
                        return Err(CommitError::Storage(format!("store {store} has no buckets")));
                    }
                    let table = Arc::make_mut(table);
                    let over = |expiry: i64| expiry <= now_micros;
                    for &(epoch, _) in table.expiries.iter().filter(|(_, expiry)| over(*expiry)) {
                        delete_epoch(engine.stream(), &mut group.batch, store, epoch);
                        table.epochs.retain(|&kept| kept != epoch);
                    }
                    table.expiries.retain(|(_, expiry)| !over(*expiry));
                    if let Some(last_expiry_micros) = seals {
                        let current = table.current();
                        table.expiries.push((current, last_expiry_micros));
                        table.epochs.push(Epoch(current.0 + 1));
                        group.hot.entry(store).or_default().epochs = EpochChange::Rotated;
                    }
                    changed.insert(store);
                }
                TableChange::Publish(publication) => {
                    let store = publication.store;
                    if mistake!(PublicationsReviveStores) && !tables.contains_key(&store) {
                        let version = TableVersion::new(publication.schema_version, Lifetime::Durable);
                        tables.insert(store, Arc::new(version));
                    }
                    let table = tables.get_mut(&store).ok_or(CommitError::Retired(store))?;
                    check_publication(&publication, table, &retired_scopes, &published)?;
                    if !mistake!(TheLastNewsAreNotSettled) {
                        publication.catch_up()?;
                    }
                    let added = self.publish_segments(&publication, table, updated_micros, &mut group)?;
                    let table = Arc::make_mut(table);
                    for segment in &publication.inputs.segments {
                        if let Some(segment) = table.segments.get(*segment) {
                            forget_segment(&engine, &mut group.batch, store, segment)?;
                            gone.push(segment.clone());
                        }
                    }
                    if mistake!(MergedSegmentsStayListed) {
                        table.segments = Arc::new(table.segments.replace(&[], added));
                    } else {
                        table.segments = Arc::new(table.segments.replace(&publication.inputs.segments, added));
                    }
                    if let Some(epoch) = publication.inputs.epoch
                        && !mistake!(FlushedEpochsStayListed)
                    {
                        table.epochs.retain(|&kept| kept != epoch);
                        group.hot.entry(store).or_default().epochs = EpochChange::Flushed;
                    }
                    changed.insert(store);
                    published.push(publication);
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
        self.add_rows(&tables, step.removals, step.puts, updated_micros, &mut group)?;
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

        group.moves_files = !(published.is_empty() && gone.is_empty());
        // From here on the files may be in the log: whoever drops them must not erase them.
        for publication in &published {
            publication.arm(false);
        }
        crate::crash::point("step-writing");
        if let Err(error) = self.write(&mut group) {
            self.recent.forget(group.remembered);
            let refused = matches!(error, CommitError::Storage(_)) && !mistake!(FilesOfRefusedPublicationsStay);
            if refused || mistake!(FilesOfUnknownPublicationsGo) {
                published.iter().for_each(|publication| publication.arm(true));
            }
            return Err(error);
        }
        crate::crash::point("step-written");
        // The last state that shows them takes their files with it.
        for segment in gone.iter().filter(|_| !mistake!(ReplacedFilesStay)) {
            segment.retire();
            if mistake!(FilesGoWithTheirEntries) {
                let job = EraseJob::Segment(segment.entry.segment, segment.entry.file());
                self.eraser.erase(job);
            }
        }
        let catalog = step.catalog.unwrap_or_else(|| state.catalog().clone());
        self.publish(group, catalog, Arc::new(tables), Arc::new(retired_scopes));
        for publication in &published {
            // What a mover moves is found to have moved by its location.
            if publication.inputs.epoch.is_none() && publication.inputs.segments.is_empty() {
                self.published_at.insert(publication.store, committed.seq);
            }
        }
        for job in jobs {
            if let EraseJob::Store(store) = job {
                self.published_at.remove(&store);
                self.shared.hot.write().remove(&store);
            }
            self.eraser.erase(job);
        }
        crate::crash::point("step-published");
        Ok(committed)
    }

    /// Adds a publication's records to the batch; its segments.
    fn publish_segments(
        &mut self,
        publication: &Publication,
        table: &TableVersion,
        updated_micros: i64,
        group: &mut Group,
    ) -> Result<Vec<Arc<Segment>>, CommitError> {
        let engine = self.shared.engine.clone();
        let store = publication.store;
        let run = publication
            .outputs
            .iter()
            .map(|output| output.segment.0)
            .filter(|_| !mistake!(RunsAreMixedUp))
            .min()
            .unwrap_or(0);
        let mut added = Vec::with_capacity(publication.outputs.len());
        for output in &publication.outputs {
            let base = Seq(self.last_seq.0 + 1);
            if output.seqs.is_none() && !mistake!(LoadedRowsTakeNoNumbers) {
                self.last_seq = Seq(self.last_seq.0 + u64::from(output.summary.rows));
            }
            let entry = output.entry(run, publication.schema_version, base, updated_micros);
            let record = serde_json::to_vec(&entry)
                .map_err(|error| CommitError::Storage(format!("a segment's entry cannot be written: {error}")))?;
            group
                .batch
                .put_cf(engine.meta(), meta::segment(store, output.segment), record);
            if !mistake!(PublishedFilesStayDoomed) {
                group.batch.delete_cf(engine.meta(), meta::file(output.segment));
            }
            added.push(Segment::new(entry, &self.eraser));
        }
        let resolution = publication.resolution.lock();
        for (&segment, deleted) in &resolution.deleted {
            let is_new = publication.outputs.iter().any(|output| output.segment == segment);
            if !is_new && table.segments.get(segment).is_none() {
                return Err(CommitError::Conflict);
            }
            if mistake!(ReplacedColdRowsStay) && !is_new {
                continue;
            }
            let mut more = 0;
            for (number, chunk) in deleted.chunks() {
                // Rows that others deleted meanwhile are in it already.
                more += group.chunk(&engine, segment, number * CHUNK_ROWS)?.union(chunk);
            }
            if mistake!(DeadRowsAreCountedTwice) {
                more = deleted.len();
            }
            for watch in watches_of(&self.watches, store).filter(|_| !is_new && !mistake!(ReplacedRowsAreNotHeard)) {
                let rows = deleted.rows().map(|row| Location::Cold(segment, row));
                let heard = rows.map(|location| Heard::Removed(ScopeId::GLOBAL, Vec::new(), location));
                group.watched.extend(heard.map(|heard| (watch.clone(), heard)));
            }
            *group.deleted.entry(segment).or_default() += more;
        }
        let mut whole = Vec::new();
        for ((scope, key), &epoch) in &resolution.hot {
            if !table.epochs.contains(&epoch) {
                return Err(CommitError::Conflict);
            }
            if mistake!(ReplacedHotRowsStay) {
                continue;
            }
            key::hot_key(store, epoch, *scope, key, &mut whole);
            group.batch.delete_cf(engine.hot(), &whole);
            group.forget_hot_row(store, table, epoch);
            for watch in watches_of(&self.watches, store).filter(|_| !mistake!(ReplacedRowsAreNotHeard)) {
                group
                    .watched
                    .push((watch, Heard::Removed(*scope, key.clone(), Location::Hot(epoch))));
            }
        }
        if let Some(epoch) = publication.inputs.epoch
            && !mistake!(FlushedRowsStay)
        {
            match &publication.inputs.hot_keys {
                Some(keys) => keys.iter().for_each(|key| group.batch.delete_cf(engine.hot(), key)),
                None => delete_epoch(engine.hot(), &mut group.batch, store, epoch),
            }
        }
        if mistake!(LargeFlushesDeleteTheNextEpoch)
            && publication.inputs.epoch.is_some()
            && publication.inputs.hot_keys.is_none()
        {
            let (from, to) = (key::epoch_prefix(store, table.current()), [u8::MAX; key::PREFIX_BYTES]);
            group
                .batch
                .delete_range_cf(engine.hot(), from.as_slice(), to.as_slice());
        }
        Ok(added)
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
            Err(WriteError::Unknown(message)) => {
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

/// Tells watches what is in the published state.
fn tell(news: Vec<(Arc<Watch>, Heard)>) {
    for (watch, heard) in news {
        match heard {
            Heard::Inserted(scope, key) => watch.inserted(scope, &key),
            Heard::Removed(scope, key, location) => watch.removed(scope, &key, location),
        }
    }
}

fn watches_of(
    watches: &HashMap<StoreId, Vec<Weak<Watch>>>,
    store: StoreId,
) -> impl Iterator<Item = Arc<Watch>> + use<'_> {
    watches.get(&store).into_iter().flatten().filter_map(Weak::upgrade)
}

/// Deletes all rows of an epoch.
fn delete_epoch(family: &ColumnFamily, batch: &mut WriteBatch, store: StoreId, epoch: Epoch) {
    let prefix = key::epoch_prefix(store, epoch);
    let end = key::successor(&prefix).unwrap_or_else(|| vec![u8::MAX; 2 * key::PREFIX_BYTES]);
    batch.delete_range_cf(family, prefix.as_slice(), end.as_slice());
}

/// Takes a segment out of the manifest, and notes its file for erasing.
fn forget_segment(
    engine: &Engine,
    batch: &mut WriteBatch,
    store: StoreId,
    segment: &Segment,
) -> Result<(), CommitError> {
    let id = segment.entry.segment;
    let record = serde_json::to_vec(&segment.entry.file())
        .map_err(|error| CommitError::Storage(format!("a file's name cannot be written: {error}")))?;
    if !mistake!(ReplacedFilesAreNotDoomed) {
        batch.put_cf(engine.meta(), meta::file(id), record);
    }
    batch.delete_cf(engine.meta(), meta::segment(store, id));
    deletion_vector::erase(batch, engine, id);
    Ok(())
}

/// Checks that new segments fit the table as it is now.
fn check_publication(
    publication: &Arc<Publication>,
    table: &TableVersion,
    retired_scopes: &HashSet<ScopeId>,
    published: &[Arc<Publication>],
) -> Result<(), CommitError> {
    let again = !publication.is_armed()
        || publication
            .outputs
            .iter()
            .any(|output| table.segments.get(output.segment).is_some());
    let again = again && !mistake!(SegmentsArePublishedTwice);
    if again || published.iter().any(|other| other.store == publication.store) {
        return Err(CommitError::Storage("these segments were published before".to_string()));
    }
    if table.schema_version != publication.schema_version || table.lifetime != Lifetime::Durable {
        return Err(CommitError::Conflict);
    }
    let inputs = &publication.inputs;
    if inputs
        .epoch
        .is_some_and(|epoch| !table.epochs.contains(&epoch) || epoch == table.current())
        || inputs
            .segments
            .iter()
            .any(|segment| table.segments.get(*segment).is_none())
    {
        return Err(CommitError::Conflict);
    }
    match publication.scopes.iter().find(|scope| retired_scopes.contains(scope)) {
        Some(scope) if !mistake!(LoadsOfRetiredScopesArePublished) => Err(CommitError::ScopeRetired(*scope)),
        _ => Ok(()),
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
    if retired_scopes.contains(&scope) && !mistake!(RetiredScopesTakeWrites) {
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
    } else {
        return Ok(());
    };
    Err(CommitError::Storage(format!("store {store} {problem}")))
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
