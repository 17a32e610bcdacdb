//! A statement's encoded rows in memory, told apart by their keys. When they are committed or loaded in bulk is in `append`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use kalamdb_store::{Put, PutKey, ScopeId, StoreId};

use crate::append::OnConflict;

/// What a row in memory costs beside its bytes until it is committed: entries of vectors, of hash tables and of the committer's
/// batch, and what the allocator rounds up. Measured: a DELETE of 2 M rows with keys of 8 bytes takes 340 bytes a row.
const ROW_OVERHEAD_BYTES: usize = 320;

/// What a row of these bytes costs: they stand in the statement's buffer and again in the committer's batch.
pub(crate) fn row_cost_bytes(bytes: usize) -> usize {
    2 * bytes + ROW_OVERHEAD_BYTES
}
/// Encoded rows in memory.
#[derive(Default)]
pub(crate) struct RowBuffer {
    /// Without a key for tables without one.
    pub(crate) rows: Vec<BufferedRow>,
    /// Keys to indices of `rows`.
    by_key: HashMap<Arc<[u8]>, usize>,
    pub(crate) bytes: usize,
}

pub(crate) struct BufferedRow {
    pub(crate) key: Option<Arc<[u8]>>,
    pub(crate) value: Vec<u8>,
    /// In the statement, from 1.
    pub(crate) position: u64,
}

/// What a row buffer made of one more row.
pub(crate) enum Buffered {
    Kept,
    /// The key is that of the row at this position.
    Duplicate(u64),
}

impl RowBuffer {
    pub(crate) fn add(&mut self, row: BufferedRow, on_conflict: OnConflict) -> Buffered {
        let bytes = row_cost_bytes(row.key.as_ref().map_or(0, |key| key.len()) + row.value.len());
        if let Some(key) = &row.key {
            match self.by_key.entry(key.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(self.rows.len());
                }
                Entry::Occupied(occupied) => {
                    let earlier = &mut self.rows[*occupied.get()];
                    match on_conflict {
                        OnConflict::Error => return Buffered::Duplicate(earlier.position),
                        OnConflict::Ignore => {}
                        OnConflict::Replace => {
                            self.bytes = (self.bytes + row.value.len()).saturating_sub(earlier.value.len());
                            earlier.value = row.value;
                            earlier.position = row.position;
                        }
                    }
                    return Buffered::Kept;
                }
            }
        }
        self.bytes += bytes;
        self.rows.push(row);
        Buffered::Kept
    }
}

impl BufferedRow {
    pub(crate) fn into_put(self, store: StoreId, scope: ScopeId) -> Put {
        let key = self.key.map_or(PutKey::RowId, |key| PutKey::Key(key.to_vec()));
        Put {
            store,
            scope,
            key,
            value: self.value,
        }
    }
}
