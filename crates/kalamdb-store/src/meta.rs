//! The records of the `meta` column family: their names and how they are written. Who writes which, and when, is not here.

use crate::ids::{Epoch, ScopeId, Seq, StoreId};
use crate::snapshot::TableVersion;
use crate::store::Counter;

/// Format version and database id, JSON.
pub(crate) const FORMAT: &[u8] = b"format";
/// The newest sequence number and its time.
pub(crate) const LAST: &[u8] = b"last";

const TABLE: &[u8] = b"table/";
const INTENT: &[u8] = b"intent/";
const RETIRED: &[u8] = b"retired/";
const SCOPE_RETIRED: &[u8] = b"scope-retired/";
const COUNTER: &str = "counter/";
const RECORD: &str = "record/";

/// The version of a live store.
pub(crate) fn table(store: StoreId) -> Vec<u8> {
    [TABLE, &store.0.to_be_bytes()].concat()
}

/// Announces an epoch that is being loaded: erased at start-up if it is still there.
pub(crate) fn intent(store: StoreId, epoch: Epoch) -> Vec<u8> {
    [INTENT, &store.0.to_be_bytes(), &epoch.0.to_be_bytes()].concat()
}

/// A store whose rows are to be erased.
pub(crate) fn retired(store: StoreId) -> Vec<u8> {
    [RETIRED, &store.0.to_be_bytes()].concat()
}

/// A scope whose rows are to be erased in every store.
pub(crate) fn scope_retired(scope: ScopeId) -> Vec<u8> {
    [SCOPE_RETIRED, &scope.0.to_be_bytes()].concat()
}

/// The first value of a counter that was never handed out, u64.
pub(crate) fn counter(counter: Counter) -> Vec<u8> {
    let name = match counter {
        Counter::Store => "store",
        Counter::Scope => "scope",
        Counter::Table => "table",
        Counter::Epoch => "epoch",
    };
    [COUNTER, name].concat().into_bytes()
}

/// An opaque record of the crate above.
pub(crate) fn record(name: &str) -> Vec<u8> {
    [RECORD, name].concat().into_bytes()
}

/// Everything of the `meta` column family that decides what a state holds.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) tables: Vec<(StoreId, TableVersion)>,
    pub(crate) intents: Vec<(StoreId, Epoch)>,
    pub(crate) retired: Vec<StoreId>,
    pub(crate) retired_scopes: Vec<ScopeId>,
}

impl Inventory {
    /// Takes in one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let short = || "the record's name has the wrong length".to_string();
        if let Some(id) = name.strip_prefix(TABLE) {
            let store = StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            let version = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            self.tables.push((store, version));
        } else if let Some(id) = name.strip_prefix(INTENT) {
            let id = u64::from_be_bytes(id.try_into().map_err(|_| short())?);
            // The upper half is the store, the lower the epoch.
            self.intents.push((StoreId((id >> 32) as u32), Epoch(id as u32)));
        } else if let Some(id) = name.strip_prefix(RETIRED) {
            self.retired
                .push(StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?)));
        } else if let Some(id) = name.strip_prefix(SCOPE_RETIRED) {
            self.retired_scopes
                .push(ScopeId(u64::from_be_bytes(id.try_into().map_err(|_| short())?)));
        }
        Ok(())
    }
}

/// The value of [`LAST`].
pub(crate) fn encode_last(seq: Seq, updated_micros: i64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&seq.0.to_le_bytes());
    out[8..].copy_from_slice(&updated_micros.to_le_bytes());
    out
}

/// Reads the value of [`LAST`].
pub(crate) fn decode_last(value: &[u8]) -> Option<(Seq, i64)> {
    let (seq, updated) = value.split_first_chunk::<8>()?;
    Some((
        Seq(u64::from_le_bytes(*seq)),
        i64::from_le_bytes(updated.try_into().ok()?),
    ))
}
