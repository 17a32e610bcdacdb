//! The committer: one thread that validates, orders, writes, syncs and publishes every change.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::CommitError;
use crate::ids::{SchemaVersion, ScopeId, Seq, StoreId};
use crate::location::Location;
use crate::publication::Publication;
use crate::snapshot::TableVersion;

/// The key of a row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutKey {
    /// An encoded primary key.
    Key(Vec<u8>),
    /// The table has no key: the committer makes the row's `_seq` (8 bytes, big endian) its key.
    RowId,
}

/// A row to write. Whoever submits it has seen that its key is absent, or removes it in the same request.
#[derive(Clone, Debug)]
pub struct Put {
    /// Into which store.
    pub store: StoreId,
    /// Whose row.
    pub scope: ScopeId,
    /// Its key.
    pub key: PutKey,
    /// Its value from [`crate::RowEncoder`], `_seq` and `_updated` blank.
    pub value: Vec<u8>,
}

/// A row to remove, as it was found.
#[derive(Clone, Debug)]
pub struct Removal {
    /// From which store.
    pub store: StoreId,
    /// Whose row.
    pub scope: ScopeId,
    /// Its encoded key.
    pub key: Vec<u8>,
    /// Where it was.
    pub location: Location,
    /// Its `_seq` then.
    pub seq: Seq,
}

/// A table that the request was planned against.
#[derive(Clone, Copy, Debug)]
pub struct TableClaim {
    /// The store must be live still ...
    pub store: StoreId,
    /// ... at this schema version ...
    pub schema_version: SchemaVersion,
    /// ... and the scope must be live.
    pub scope: ScopeId,
    /// Serialise with every other writer of this (store, scope) that also says so (`MAX_ROWS` counts rows).
    pub exclusive: bool,
}

/// One atomic change of rows. Removals precede puts, and uniqueness holds for the net set.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// `DbState::seq` of the state in which keys were looked up.
    pub validated_at: Seq,
    /// What must still be true of the tables.
    pub tables: Vec<TableClaim>,
    /// First these go.
    pub removals: Vec<Removal>,
    /// Then these come. A key may be in both.
    pub puts: Vec<Put>,
    /// The time of the caller's clock, µs; `_updated` becomes max(this, last + 1).
    pub now_micros: i64,
}

/// A change to the set of stores.
#[derive(Clone, Debug)]
pub enum TableChange {
    /// A new store with this version (persisted by the store).
    Create(StoreId, TableVersion),
    /// The store is gone at once; its bytes are erased in the background.
    Retire(StoreId),
    /// Writers planned with another schema version get CONFLICT from now on.
    SetSchemaVersion(StoreId, SchemaVersion),
    /// A user's scope is gone at once, in every store.
    RetireScope(ScopeId),
    /// Later writes go to a new epoch; the one before is whole, for a flush to move.
    Seal(StoreId),
    /// Of an expiring store: buckets that are over at `now_micros` go, and with `seals`, rows from now on go to a new bucket;
    /// none in the one before it expires after that time, µs.
    Rotate {
        /// Which store.
        store: StoreId,
        /// See above.
        seals: Option<i64>,
        /// See above.
        now_micros: i64,
    },
    /// New segments become visible (in a live store, or in one created in the same step before).
    Publish(Arc<Publication>),
}

/// A change of the catalog: table changes, rows of SYSTEM stores and the new catalog, in one synced batch, a group of its own.
pub struct Step<C> {
    /// Changes to stores, in order.
    pub changes: Vec<TableChange>,
    /// Rows of the catalog's own stores to remove and to write (the caller holds its own lock over them).
    pub removals: Vec<Removal>,
    /// Likewise.
    pub puts: Vec<Put>,
    /// Opaque records (name, value; `None` deletes) for `Store::meta_get`.
    pub meta: Vec<(String, Option<Vec<u8>>)>,
    /// The catalog that readers see from now on; `None`: as it is.
    pub catalog: Option<Arc<C>>,
    /// As in [`WriteRequest`].
    pub now_micros: i64,
}

/// A durable commit.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Its last sequence number: a state with `seq() >=` this shows it.
    pub seq: Seq,
    /// Its time, µs.
    pub updated_micros: i64,
}

/// Resolves when the commit is durable and visible. Dropping it does not undo the request.
pub type CommitFuture = Pin<Box<dyn Future<Output = Result<Committed, CommitError>> + Send>>;
