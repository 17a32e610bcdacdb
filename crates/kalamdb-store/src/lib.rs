//! Ordered bytes in RocksDB, changed by one kind of batch and read at one kind of snapshot.
//!
//! This crate knows no SQL, no table names and no users, and never asks what time it is: time is handed in.
//!
//! Invariants:
//! 1. A key of a (store, scope) is live at one place at most, in an epoch or in a segment; a write removes the old one, a key or
//!    a bit, in the batch that adds the new one.
//! 2. One thread commits. What it acknowledged is fsynced (unless opened as [`Durability::Relaxed`]) and was not visible before.
//! 3. A [`DbState`] never changes: snapshot, table versions and catalog in it belong together.
//! 4. Ids and sequence numbers are never reused, not even after a failed write.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, Int64Array};
//! use arrow::datatypes::DataType;
//! use futures::executor::block_on;
//! use kalamdb_store::*;
//!
//! # let directory = tempfile::tempdir()?;
//! let options = StoreOptions {
//!     path: directory.path().to_path_buf(),
//!     durability: Durability::Synced,
//!     block_cache_bytes: 8 << 20,
//!     segment_cache_bytes: 8 << 20,
//!     write_buffer_bytes: 8 << 20,
//! };
//! let store = Store::open(options, (), |_, _| Ok::<_, StoreError>(()))?;
//!
//! // A table with one column, which is its key.
//! let (table, version, scope) = (StoreId(1), SchemaVersion(1), ScopeId::GLOBAL);
//! let columns = vec![StoredColumn { id: ColumnId(1), data_type: DataType::Int64 }];
//! let schema = Arc::new(StoreSchema { version, columns, key: vec![0], lifetime: Lifetime::Durable });
//! let create = TableChange::Create(table, TableVersion::new(version, Lifetime::Durable));
//! let (removals, puts, meta, catalog, now_micros) = (vec![], vec![], vec![], Arc::new(()), 0);
//! block_on(store.step(Step { changes: vec![create], removals, puts, meta, catalog: Some(catalog), now_micros }))?;
//!
//! // A row, validated at the newest state.
//! let row: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![42]))];
//! let mut key = Vec::new();
//! KeyEncoder::new(&schema)?.encode(&row, 0, &mut key)?;
//! let value = RowEncoder::new(schema.clone())?.encode(&row, 0, None)?;
//! let puts = vec![Put { store: table, scope, key: PutKey::Key(key.clone()), value }];
//! let tables = vec![TableClaim { store: table, schema_version: version, scope, exclusive: false }];
//! let validated_at = store.state().seq();
//! let committed = block_on(store.commit(WriteRequest { validated_at, tables, removals: vec![], puts, now_micros }))?;
//!
//! let found = store.state().find(&schema, table, scope, &key, now_micros)?.ok_or("it is not there")?;
//! assert_eq!(found.row.seq, committed.seq);
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod mistakes;

mod bulk;
mod cold;
mod cold_scan;
mod committer;
mod compact;
mod counters;
mod crash;
#[cfg(test)]
mod crashes;
mod damage;
mod damaged_files;
mod decode;
mod deletion_vector;
mod engine;
mod erase;
mod error;
#[cfg(test)]
mod failures;
mod files;
mod flush;
mod format;
mod gate;
#[cfg(test)]
mod hazards;
#[cfg(test)]
mod hazards_of_changes;
#[cfg(test)]
mod hazards_of_commits;
#[cfg(test)]
mod hazards_of_copies;
#[cfg(test)]
mod hazards_of_files;
#[cfg(test)]
mod hazards_of_hot_files;
#[cfg(test)]
mod hazards_of_limits;
#[cfg(test)]
mod hazards_of_loads;
#[cfg(test)]
mod hazards_of_look_ups;
#[cfg(test)]
mod hazards_of_movers;
#[cfg(test)]
mod hazards_of_old_snapshots;
#[cfg(test)]
mod hazards_of_publications;
#[cfg(test)]
mod hazards_of_reads;
#[cfg(test)]
mod hazards_of_restarts;
#[cfg(test)]
mod hazards_of_sizes;
#[cfg(test)]
mod hazards_of_storages;
#[cfg(test)]
mod hazards_of_streams;
#[cfg(test)]
mod hazards_of_syncs;
#[cfg(test)]
mod hazards_of_tables;
#[cfg(test)]
mod histories;
mod hot;
mod ids;
#[cfg(test)]
mod kept_damage;
mod key;
mod last_use;
mod left_files;
mod location;
mod log_damage;
mod manifest;
mod merge;
mod meta;
mod mover;
mod nested;
mod opened;
mod ordered;
mod pace;
#[cfg(test)]
mod peak;
mod pinned;
mod process_lock;
mod prune;
mod publication;
mod rebuild;
mod recent;
mod row;
mod row_bytes;
mod run_writer;
mod scan;
mod schema;
mod segment;
mod sequencer;
mod snapshot;
mod snapshots;
mod storage_lock;
mod storage_marker;
mod storage_place;
mod storages;
mod store;
#[cfg(test)]
mod testing;
mod trouble;
mod tuning;
mod watch;

pub use bulk::{BulkLoad, EncodedRow, GiveUp, OnDuplicate};
pub use committer::{CommitFuture, Committed, Put, PutKey, Removal, Step, TableChange, TableClaim, WriteRequest};
pub use error::{CommitError, StoreError};
pub use ids::{ColumnId, Epoch, SchemaVersion, ScopeId, SegmentId, Seq, StorageId, StoreId};
pub use key::KeyEncoder;
pub use location::Location;
pub use manifest::{SegmentEntry, SegmentSeqs};
pub use mover::{Checked, HotUsage, Moved, Progress, SegmentCompression, SegmentOptions};
pub use publication::Publication;
pub use row::{RowEncoder, RowView};
pub use scan::{KeyRange, Prune, Scan, ScanColumn, ScanCounters, ScanOrder, ScanSpec, SeenSegments};
pub use schema::{Lifetime, StoreSchema, StoredColumn};
pub use segment::Bounds;
pub use snapshot::{DbState, Found, TableVersion};
pub use storage_place::{Overlap, StoragePlace};
pub use store::{Counter, Durability, Store, StoreOptions, StoreStatistics};
