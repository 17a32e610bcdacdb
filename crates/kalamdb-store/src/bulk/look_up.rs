//! A load's look at its table: which of its keys are there, and where the rows are that it removes.
//!
//! The look itself takes long, and others commit, move rows and load meanwhile. What they do is followed from one state to the next:
//! rows that moved are looked for where they were, keys that somebody touched are looked up again, and of another load all its
//! segments are. So nobody waits for the look, and what is left when the load has the table's gate is little.

use std::collections::HashSet;
use std::sync::Arc;

use crate::bulk::removals::{Removals, Table};
use crate::bulk::resolver::Resolver;
use crate::bulk::{GiveUp, OnDuplicate, go_on};
use crate::error::StoreError;
use crate::ids::SegmentId;
use crate::manifest::Segments;
use crate::pinned::Exempt;
use crate::publication::{Publication, Resolution};
use crate::snapshot::{DbState, TableVersion};
use crate::store::Store;
use crate::tuning::{WATCH_REST_KEYS, WATCH_ROUNDS};
use crate::watch::{Concern, News, Watch};

pub(super) struct LookUp<'a, C> {
    store: &'a Arc<Store<C>>,
    resolver: Resolver<C>,
    removals: Removals,
    watch: Arc<Watch>,
    /// The resolution says where rows are in this state. What the state shows and nobody was told of yet is looked at again.
    state: Arc<DbState<C>>,
    /// Of that state. No reader holds a load up.
    _exempt: Exempt,
    resolution: Resolution,
    /// The segments of the state in which all keys were looked up.
    looked_through: HashSet<SegmentId>,
}

impl<'a, C: Send + Sync + 'static> LookUp<'a, C> {
    /// Looks everything up.
    pub(super) fn begin(
        store: &'a Arc<Store<C>>,
        resolver: Resolver<C>,
        removals: Removals,
        give_up: GiveUp<'_>,
    ) -> Result<Self, StoreError> {
        // Before the state: what is done afterwards is heard of.
        let watch = store.watch(resolver.target, Concern::Everything)?;
        let state = store.state();
        let exempt = state.exempt();
        store.engine().moment("load-begun");
        let watch = match mistake!(LoadsWatchTooLate) {
            true => store.watch(resolver.target, Concern::Everything)?,
            false => watch,
        };
        let mut look_up = Self {
            store,
            resolver,
            removals,
            watch,
            _exempt: exempt,
            state,
            resolution: Resolution::default(),
            looked_through: HashSet::new(),
        };
        look_up.look_again(look_up.state.clone(), give_up)?;
        store.engine().moment("load-resolved");
        Ok(look_up)
    }

    /// Whether so much has happened since that it is better followed without the gate.
    pub(super) fn is_behind(&self) -> bool {
        let target = self.resolver.target;
        let moved = match (self.state.table(target), self.store.state().table(target)) {
            (Some(before), Some(now)) => has_moved(before, now),
            (None, _) | (_, None) => true,
        };
        moved || self.watch.len() > WATCH_REST_KEYS
    }

    /// Follows what others did since.
    pub(super) fn follow(&mut self, give_up: GiveUp<'_>) -> Result<(), StoreError> {
        go_on(give_up)?;
        let early = mistake!(LoadsLookBeforeTheyListen).then(|| self.store.state());
        self.store.engine().moment("load-following");
        let news = self.watch.take();
        // After the news: it shows all that they tell, and of whatever else it shows they will tell.
        let state = early.unwrap_or_else(|| self.store.state());
        let exempt = state.exempt();
        // A load that drops rows for others needs to know which of those others are gone, and by their places it does not.
        let others_removed = !news.deleted.is_empty() && self.resolver.on_duplicate == OnDuplicate::Ignore;
        let others_removed = others_removed && !mistake!(LoadsForgetWhatOthersRemove);
        if others_removed || news.overflowed && !mistake!(WatchesOverflowUnnoticed) {
            return self.look_again(state, give_up);
        }
        let table = Table {
            state: &state,
            schema: &self.resolver.schema,
            store: self.resolver.target,
            scope: self.resolver.scope,
        };
        self.removals
            .relocate(&mut self.resolution, &self.state, &table, give_up)?;
        self.resolver.settle(&state, &news, &mut self.resolution)?;
        if let Some(loaded) = self.loaded_by_others(&news, &state)? {
            self.resolver
                .resolve_among(&loaded, &state, &mut self.resolution, give_up)?;
        }
        self._exempt = exempt;
        self.state = state;
        Ok(())
    }

    /// Hands over what was found, and what is to be done with what others do from now on. The load has the gate.
    pub(super) fn hand_over(self, publication: &mut Publication, give_up: GiveUp<'_>) -> Result<(), StoreError> {
        let (watch, resolver) = (self.watch, self.resolver);
        *publication.resolution.get_mut() = self.resolution;
        publication.watch = Some(watch.clone());
        publication.settle = Box::new(move |news, resolution| resolver.settle_last(news, resolution));
        for _ in 0..WATCH_ROUNDS {
            if watch.len() <= WATCH_REST_KEYS {
                break;
            }
            go_on(give_up)?;
            publication.catch_up()?;
        }
        Ok(())
    }

    /// Looks everything up in a state, whatever was found before.
    fn look_again(&mut self, state: Arc<DbState<C>>, give_up: GiveUp<'_>) -> Result<(), StoreError> {
        let target = self.resolver.target;
        self._exempt = state.exempt();
        let table = Table {
            state: &state,
            schema: &self.resolver.schema,
            store: target,
            scope: self.resolver.scope,
        };
        self.resolution = self.removals.locate(&table, give_up)?;
        self.resolver.resolve_all(&state, &mut self.resolution, give_up)?;
        let segments = &state.table(target).ok_or(StoreError::Retired(target))?.segments;
        self.looked_through = segments.iter().map(|segment| segment.entry.segment).collect();
        self.state = state;
        Ok(())
    }

    /// Where rows of other loads are that nobody told of one by one. If they were merged meanwhile, that is anywhere
    /// in what is new.
    fn loaded_by_others(&self, news: &News, state: &Arc<DbState<C>>) -> Result<Option<Segments>, StoreError> {
        // Rows without a key are nobody's but those of the load that brings them.
        if news.loaded.is_empty() || self.resolver.schema.key.is_empty() {
            return Ok(None);
        }
        let target = self.resolver.target;
        let segments = &state.table(target).ok_or(StoreError::Retired(target))?.segments;
        let there = news.loaded.iter().map_while(|id| segments.get(*id).cloned());
        let there: Vec<_> = there.collect();
        if there.len() == news.loaded.len() || mistake!(LoadsForgetMergedLoads) {
            return Ok(Some(Segments::new(there)));
        }
        let new = segments.iter();
        let new = new.filter(|segment| !self.looked_through.contains(&segment.entry.segment));
        Ok(Some(Segments::new(new.cloned())))
    }
}

/// Whether rows may be elsewhere, or have come with segments.
fn has_moved(before: &TableVersion, now: &TableVersion) -> bool {
    !Arc::ptr_eq(&before.segments, &now.segments) || before.epochs.iter().any(|epoch| !now.epochs.contains(epoch))
}
