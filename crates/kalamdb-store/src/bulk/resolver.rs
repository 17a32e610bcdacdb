//! Which keys of a load exist in the table, and what becomes of them: at first of all keys, then of those that others touch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;

use crate::bulk::{GiveUp, OnDuplicate, go_on};
use crate::cold;
use crate::damage::Damage;
use crate::deletion_vector::Deleted;
use crate::engine::Engine;
use crate::error::{CommitError, StoreError};
use crate::ids::{ScopeId, SegmentId, StoreId};
use crate::location::Location;
use crate::manifest::{SegmentEntry, Segments};
use crate::publication::Resolution;
use crate::schema::StoreSchema;
use crate::segment::{SegmentColumn, SegmentFile};
use crate::sequencer::Shared;
use crate::snapshot::{DbState, Found};
use crate::tuning::MOVE_BATCH_ROWS;
use crate::watch::News;

/// A file of the load, for looking keys up in it. It is open for as long as there is room for it among the open segments: how
/// many a load has is not bounded.
pub(super) struct Loaded {
    pub(super) entry: SegmentEntry,
    pub(super) damage: Arc<Damage>,
}

impl Loaded {
    fn open(&self, engine: &Engine, schema: &Arc<StoreSchema>) -> Result<Arc<SegmentFile>, StoreError> {
        engine.opened().open(&self.entry, &self.damage, schema)
    }
}

/// Looks keys of a load up in the table, and keys of the table in the load.
pub(super) struct Resolver<C> {
    /// Not the store itself: the last one to drop it waits for the committer, in which this may be dropped.
    pub(super) shared: std::sync::Weak<Shared<C>>,
    pub(super) target: StoreId,
    pub(super) scope: ScopeId,
    pub(super) schema: Arc<StoreSchema>,
    pub(super) on_duplicate: OnDuplicate,
    /// Whether the load itself removes rows, which nobody else may touch then.
    pub(super) removes: bool,
    pub(super) loaded: Vec<Loaded>,
}

impl Resolution {
    fn removes(&self, scope: ScopeId, key: &[u8], location: Location) -> bool {
        match location {
            Location::Hot(_) if mistake!(LoadsForgetTheirHotRows) => false,
            Location::Hot(epoch) => self.hot.get(&(scope, key.to_vec())) == Some(&epoch),
            Location::Cold(..) if mistake!(LoadsForgetTheirColdRows) => false,
            Location::Cold(segment, row) => self.deleted.get(&segment).is_some_and(|rows| rows.contains(row)),
        }
    }
}

impl<C: Send + Sync + 'static> Resolver<C> {
    /// Looks all keys of the load up.
    pub(super) fn resolve_all(
        &self,
        state: &Arc<DbState<C>>,
        resolution: &mut Resolution,
        give_up: GiveUp<'_>,
    ) -> Result<(), StoreError> {
        let segments = &state
            .table(self.target)
            .ok_or(StoreError::Retired(self.target))?
            .segments;
        for loaded in &self.loaded {
            let (min_key, max_key) = (&loaded.entry.min_key, &loaded.entry.max_key);
            let overlaps =
                segments.overlap(min_key, max_key) || cold::hot_overlaps(state, self.target, min_key, max_key)?;
            if !overlaps || mistake!(LoadsDoNotLookUp) {
                continue;
            }
            self.resolve_keys(loaded, state, resolution, give_up, |keys| {
                state.find_all(&self.schema, self.target, self.scope, keys)
            })?;
        }
        Ok(())
    }

    /// Looks all keys of the load up in some segments of the table.
    pub(super) fn resolve_among(
        &self,
        segments: &Segments,
        state: &Arc<DbState<C>>,
        resolution: &mut Resolution,
        give_up: GiveUp<'_>,
    ) -> Result<(), StoreError> {
        for loaded in &self.loaded {
            if !segments.overlap(&loaded.entry.min_key, &loaded.entry.max_key) {
                continue;
            }
            self.resolve_keys(loaded, state, resolution, give_up, |keys| {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                cold::find_among(state, &self.schema, self.target, self.scope, segments, &keys)
            })?;
        }
        Ok(())
    }

    fn resolve_keys(
        &self,
        loaded: &Loaded,
        state: &Arc<DbState<C>>,
        resolution: &mut Resolution,
        give_up: GiveUp<'_>,
        find: impl Fn(&[Vec<u8>]) -> Result<Vec<Option<Found>>, StoreError>,
    ) -> Result<(), StoreError> {
        let entry = &loaded.entry;
        let mut read = loaded.open(state.pinned().engine(), &self.schema)?.read(
            &[SegmentColumn::Key],
            std::iter::once(0..entry.rows).collect(),
            MOVE_BATCH_ROWS,
        )?;
        while let Some((numbers, arrays, _)) = read.next()? {
            go_on(give_up)?;
            let keys: Vec<Vec<u8>> = arrays[0]
                .as_binary::<i32>()
                .iter()
                .flatten()
                .map(<[u8]>::to_vec)
                .collect();
            let found = find(&keys)?;
            for ((key, row), found) in keys.into_iter().zip(numbers.iter()).zip(found) {
                if let Some(found) = found {
                    self.clash(resolution, entry.segment, row, key, found.location)?;
                }
            }
        }
        Ok(())
    }

    /// A key of the load exists in the table.
    fn clash(
        &self,
        resolution: &mut Resolution,
        segment: SegmentId,
        row: u32,
        key: Vec<u8>,
        location: Location,
    ) -> Result<(), StoreError> {
        match self.on_duplicate {
            // The new row of one that goes.
            OnDuplicate::Fail
                if self.removes && (resolution.removes(self.scope, &key, location) || mistake!(LoadsTakeLiveKeys)) => {}
            OnDuplicate::Fail => return Err(StoreError::DuplicateKey { key }),
            OnDuplicate::Ignore => {
                resolution.deleted.entry(segment).or_default().insert(row);
            }
            OnDuplicate::Replace => match location {
                Location::Cold(segment, row) => {
                    resolution.deleted.entry(segment).or_default().insert(row);
                    // Where it was before, if another load replaced it.
                    resolution.hot.remove(&(self.scope, key));
                }
                Location::Hot(epoch) => {
                    resolution.hot.insert((self.scope, key), epoch);
                }
            },
        }
        Ok(())
    }

    /// Settles what is left to the committer. The gate keeps other publications away, so none of it can be of another load.
    pub(super) fn settle_last(&self, news: &News, resolution: &mut Resolution) -> Result<(), CommitError> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(CommitError::Storage("the store is closing".to_string()));
        };
        // Loads into a table without a key, which meet no row, pass no gate.
        let loaded = !news.loaded.is_empty() && !self.schema.key.is_empty();
        if loaded || !news.deleted.is_empty() {
            return Err(CommitError::Conflict);
        }
        self.settle(&shared.state.load_full(), news, resolution)
    }

    /// Looks at the keys that others touched, in a state that shows all that is told. What was found of them before does no harm:
    /// a row that is gone already is removed once more, without effect.
    pub(super) fn settle(
        &self,
        state: &Arc<DbState<C>>,
        news: &News,
        resolution: &mut Resolution,
    ) -> Result<(), CommitError> {
        let touches = |(scope, key, location): &(ScopeId, Vec<u8>, Location)| {
            *scope == self.scope && resolution.removes(*scope, key, *location)
        };
        if self.removes && news.removed.iter().any(touches) && !mistake!(LoadsForgetWhoTouchedTheirRows) {
            return Err(CommitError::Conflict);
        }
        let removes = |(segment, rows): (&SegmentId, &Deleted)| {
            let removed = resolution.deleted.get(segment);
            removed.is_some_and(|removed| removed.meets(rows))
        };
        if self.removes && news.deleted.iter().any(removes) && !mistake!(LoadsForgetWhoElseLoads) {
            return Err(CommitError::Conflict);
        }
        let inserted = news.inserted.iter().map(|(scope, key)| (*scope, key));
        let removed = news.removed.iter().map(|(scope, key, _)| (*scope, key));
        let touched: BTreeSet<&Vec<u8>> = inserted
            .chain(removed)
            .filter(|(scope, key)| *scope == self.scope && !key.is_empty())
            .map(|(_, key)| key)
            .collect();
        for key in touched {
            let Some((segment, row)) = self.own(state.pinned().engine(), key)? else {
                continue;
            };
            let found = state.find_all(&self.schema, self.target, self.scope, std::slice::from_ref(key))?;
            match found.into_iter().flatten().next() {
                Some(found) => self.clash(resolution, segment, row, key.clone(), found.location)?,
                None => {
                    if mistake!(ResolutionsAreFinal) {
                        continue;
                    }
                    if self.on_duplicate == OnDuplicate::Ignore
                        && let Some(deleted) = resolution.deleted.get_mut(&segment)
                    {
                        deleted.remove(row);
                    }
                    resolution.hot.remove(&(self.scope, key.clone()));
                }
            }
        }
        Ok(())
    }

    /// Where the load has this key.
    fn own(&self, engine: &Engine, key: &[u8]) -> Result<Option<(SegmentId, u32)>, StoreError> {
        for loaded in &self.loaded {
            let scoped = cold::scoped(self.scope, key);
            if scoped < loaded.entry.min_key || scoped > loaded.entry.max_key {
                continue;
            }
            let file = loaded.open(engine, &self.schema)?;
            if let Some(row) = file.find(self.scope, &[key])?.into_iter().flatten().next() {
                return Ok(Some((loaded.entry.segment, row)));
            }
        }
        Ok(None)
    }
}
