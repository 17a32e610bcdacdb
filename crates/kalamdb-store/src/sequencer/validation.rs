//! What a request must hold to be committed: stores, scopes and rows as it says, and nobody before it at the same keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::committer::{Put, PutKey, Removal, WriteRequest};
use crate::error::CommitError;
use crate::ids::{ScopeId, StoreId};
use crate::location::Location;
use crate::row;
use crate::sequencer::Sequencer;
use crate::sequencer::group::Group;
use crate::snapshot::{DbState, TableVersion};

impl<C: Send + Sync + 'static> Sequencer<C> {
    /// Checks a request against the committed state and against what its group wrote before it.
    pub(super) fn validate(
        &self,
        state: &DbState<C>,
        request: &WriteRequest,
        group: &mut Group,
    ) -> Result<(), CommitError> {
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
}

pub(super) fn live_table<'a>(
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

pub(super) fn check_value(put: &Put) -> Result<(), CommitError> {
    if put.value.len() < row::HEADER_BYTES {
        return Err(CommitError::Storage(format!(
            "a row of store {} was not encoded",
            put.store
        )));
    }
    Ok(())
}

pub(super) fn check_rows(
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
