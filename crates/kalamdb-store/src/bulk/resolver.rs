//! Which keys of a load exist in the table, and what becomes of them: at first of all keys, then of those that others touch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;

use crate::bulk::{GiveUp, OnDuplicate, go_on};
use crate::cold;
use crate::damage::Damage;
use crate::engine::Engine;
use crate::error::{CommitError, StoreError};
use crate::ids::{ScopeId, SegmentId, StoreId};
use crate::location::Location;
use crate::manifest::SegmentEntry;
use crate::publication::Resolution;
use crate::schema::StoreSchema;
use crate::segment::{SegmentColumn, SegmentFile};
use crate::sequencer::Shared;
use crate::snapshot::DbState;
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
        for loaded in &self.loaded {
            let entry = &loaded.entry;
            let table = state.table(self.target).ok_or(StoreError::Retired(self.target))?;
            let overlaps_cold = table
                .segments
                .iter()
                .any(|segment| segment.entry.min_key <= entry.max_key && entry.min_key <= segment.entry.max_key);
            let overlaps_hot = cold::hot_overlaps(state, self.target, &entry.min_key, &entry.max_key)?;
            if !overlaps_cold && !overlaps_hot || mistake!(LoadsDoNotLookUp) {
                continue;
            }
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
                let found = state.find_all(&self.schema, self.target, self.scope, &keys)?;
                for ((key, row), found) in keys.into_iter().zip(numbers.iter()).zip(found) {
                    if let Some(found) = found {
                        self.clash(resolution, entry.segment, row, key, found.location)?;
                    }
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
                }
                Location::Hot(epoch) => {
                    resolution.hot.insert((self.scope, key), epoch);
                }
            },
        }
        Ok(())
    }

    /// Looks at the keys that others touched. What was found of them before does no harm: a row that is gone already is
    /// removed once more, without effect.
    pub(super) fn settle(&self, news: &News, resolution: &mut Resolution) -> Result<(), CommitError> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(CommitError::Storage("the store is closing".to_string()));
        };
        let state = shared.state.load_full();
        let touches = |(scope, key, location): &(ScopeId, Vec<u8>, Location)| {
            *scope == self.scope && resolution.removes(*scope, key, *location)
        };
        if self.removes && news.removed.iter().any(touches) && !mistake!(LoadsForgetWhoTouchedTheirRows) {
            return Err(CommitError::Conflict);
        }
        // The gate keeps other publications away: what they bring and take is not looked up.
        if !news.deleted.is_empty() {
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
            let Some((segment, row)) = self.own(&shared.engine, key)? else {
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
