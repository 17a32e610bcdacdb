//! Steps: stores that come and go, seals, and publications of segments; each a group of its own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rocksdb::{ColumnFamily, WriteBatch};

use crate::committer::{Committed, Step, TableChange};
use crate::deletion_vector::{self, CHUNK_ROWS};
use crate::engine::Engine;
use crate::erase::EraseJob;
use crate::error::CommitError;
use crate::ids::{Epoch, ScopeId, Seq, StoreId};
use crate::key;
use crate::location::Location;
use crate::manifest::Segment;
use crate::meta;
use crate::publication::Publication;
use crate::recent::RecentCommits;
use crate::schema::Lifetime;
use crate::sequencer::group::{EpochChange, Group};
use crate::sequencer::validation::check_rows;
use crate::sequencer::{Sequencer, places, watches_of};
use crate::snapshot::TableVersion;
use crate::tuning::RECENT_KEYS;
use crate::watch::Watch;

impl<C: Send + Sync + 'static> Sequencer<C> {
    /// A change of the catalog, alone in its group.
    pub(super) fn step(&mut self, step: Step<C>) -> Result<Committed, CommitError> {
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
                    let is_over = |expiry: i64| match expiry <= now_micros {
                        true => !mistake!(OldBucketsStay),
                        false => mistake!(LiveBucketsGo),
                    };
                    for &(epoch, _) in table.expiries.iter().filter(|(_, expiry)| is_over(*expiry)) {
                        delete_epoch(engine.stream(), &mut group.batch, store, epoch);
                        table.epochs.retain(|&kept| kept != epoch);
                    }
                    table.expiries.retain(|(_, expiry)| !is_over(*expiry));
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
        // The last state that shows them takes their files with it, or becomes too old.
        engine.snapshots().note_dead(&gone);
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
            if publication.is_load() {
                self.published_at.insert(publication.store, committed.seq);
            }
        }
        for job in jobs {
            if let EraseJob::Store(store) = job {
                self.published_at.remove(&store);
                self.shared.hot.write().remove(&store);
                self.shared.engine.damages().hot_is_sound(store);
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
            added.push(Segment::new(entry, output.damage.clone(), &self.eraser));
        }
        let resolution = publication.resolution.lock();
        // Whoever publishes knows what it removes itself.
        let is_own = |watch: &Arc<Watch>| {
            let own = publication.watch.as_ref().is_some_and(|own| Arc::ptr_eq(own, watch));
            own && !mistake!(PublicationsTellThemselves)
        };
        let others = watches_of(&self.watches, store).filter(|watch| !is_own(watch));
        let others: Vec<Arc<Watch>> = others.filter(|_| !mistake!(ReplacedRowsAreNotHeard)).collect();
        if publication.is_load() {
            for watch in &others {
                let segments = publication.outputs.iter().map(|output| output.segment);
                watch.note_loaded(group.news_of(watch), segments);
            }
        }
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
            let concerned = |watch: &&Arc<Watch>| !is_new && watch.concerns(Location::Cold(segment, 0));
            for watch in others.iter().filter(concerned) {
                let news = group.news_of(watch);
                news.deleted.entry(segment).or_default().union(deleted);
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
            for watch in &others {
                watch.note_removed(group.news_of(watch), *scope, key, Location::Hot(epoch));
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
    batch.delete_cf(engine.meta(), meta::damaged(id));
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
