//! The sweep that erases expired STREAM rows; reads never see them in any case.

use kalamdb_store::{CommitError, StoreError, WriteRequest};

use crate::engine::Engine;
use crate::error::Result;
use crate::table_kind::TableKind;

/// Rows removed in one commit: it holds up other writers for about as long as a large insert.
const ROWS_AT_ONCE: usize = 8 * 1024;

/// Removes what has expired, table by table. Rows that a statement removes at the same moment are left to it.
pub(crate) async fn sweep_expired(engine: &Engine) -> Result<u64> {
    let mut swept = 0;
    let catalog = engine.view().catalog().clone();
    for table in catalog.tables.values().filter(|table| table.kind == TableKind::Stream) {
        loop {
            let view = engine.view();
            let removals = match view.state.expired(table.store, view.now_micros(), ROWS_AT_ONCE) {
                Ok(removals) => removals,
                // Dropped or truncated meanwhile: its rows are gone.
                Err(StoreError::Retired(_)) => break,
                Err(error) => return Err(error.into()),
            };
            let found = removals.len();
            if found == 0 {
                break;
            }
            let request = WriteRequest {
                validated_at: view.state.seq(),
                tables: Vec::new(),
                removals,
                puts: Vec::new(),
                now_micros: view.now_micros(),
            };
            match engine.store().commit(request).await {
                Ok(_) => swept += found as u64,
                // Someone wrote over one of them, or a user or the table was dropped: the next sweep sees what is left.
                Err(
                    CommitError::Conflict
                    | CommitError::Stale
                    | CommitError::Retired(_)
                    | CommitError::ScopeRetired(_)
                    | CommitError::DuplicateKey { .. },
                ) => break,
                Err(error @ (CommitError::UnknownOutcome(_) | CommitError::Storage(_))) => return Err(error.into()),
            }
            if found < ROWS_AT_ONCE {
                break;
            }
        }
    }
    Ok(swept)
}
