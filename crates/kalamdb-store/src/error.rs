//! What can go wrong in the store: when reading or opening ([`StoreError`]) and when committing ([`CommitError`]).

use crate::ids::{ScopeId, StoreId};

/// A failure to open, read or decode.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the data directory.
    #[error(
        "the data directory {path} is in use by another kalamdb process; stop that one first or choose another --data-dir"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// The data directory was written by a newer version.
    #[error(
        "the data directory {path} has format version {found}, this kalamdb reads up to {supported}; use a newer kalamdb"
    )]
    NewerFormat {
        /// The directory.
        path: String,
        /// Its version.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// RocksDB or the file system failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// Bytes do not decode: names the object.
    #[error("corrupt data in {object}: {problem}")]
    Corrupt {
        /// Which key or file.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of a segment is missing or not as it was written. Its table is refused until [`crate::Store::check`] finds the file
    /// sound.
    #[error("{file} cannot be read: {problem}")]
    Damaged {
        /// Which segment and file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of RocksDB that has rows of this store is not as it was written. The store is refused until it is opened again, or
    /// [`crate::Store::check`] can read all of its hot rows.
    #[error("the rows of store {store} that are not in segments cannot all be read: {problem}")]
    HotDamaged {
        /// Whose rows.
        store: StoreId,
        /// What RocksDB says; it names the file.
        problem: String,
    },
    /// The directory of a storage is not there, or another one is in its place: nothing is read, written or erased there.
    #[error("the storage directory {directory} is away: {problem}")]
    Away {
        /// Where it should be.
        directory: String,
        /// What is there instead.
        problem: String,
    },
    /// A directory that is to become a storage is somebody else's already.
    #[error("the directory {directory} cannot become a storage: {problem}; give it a directory of its own")]
    Taken {
        /// Which one.
        directory: String,
        /// Whose it is, or what is in it.
        problem: String,
    },
    /// A value or type the codec cannot keep.
    #[error("{0}")]
    Unsupported(String),
    /// Two rows of one bulk load have the same key, or one exists in the table already.
    #[error("duplicate key")]
    DuplicateKey {
        /// The encoded key, for the caller to name in its own words.
        key: Vec<u8>,
    },
    /// The store was retired (TRUNCATE, DROP, REPLACE) since the snapshot was taken.
    #[error("store {0} no longer exists")]
    Retired(StoreId),
    /// What is read was replaced by newer commits so long ago that it is kept no longer (see [`crate::Store::end_old_snapshots`]).
    #[error("what is read here was replaced by newer commits long ago and is kept no longer")]
    SnapshotTooOld,
    /// Another commit changed rows that a load or mover is about: begin anew at a new state.
    #[error("a concurrent commit changed the same rows")]
    Conflict,
    /// Whoever asked for it took it back.
    #[error("cancelled")]
    Cancelled,
}

/// Why a commit did not happen, or is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit wrote one of the keys, or the table's schema changed, since the request was validated: look again and retry.
    #[error("a concurrent commit changed the same rows")]
    Conflict,
    /// The request is older than what the committer remembers: look the keys up again at a new state and resubmit.
    #[error("the request was validated too long ago")]
    Stale,
    /// The store no longer exists.
    #[error("store {0} no longer exists")]
    Retired(StoreId),
    /// The user's scope no longer exists.
    #[error("scope {0} no longer exists")]
    ScopeRetired(ScopeId),
    /// A key of a bulk load exists in the table (found at publish).
    #[error("duplicate key")]
    DuplicateKey {
        /// The encoded key.
        key: Vec<u8>,
    },
    /// The write reached the log but its sync failed: it may or may not be there after a restart.
    #[error("the outcome is unknown: {0}")]
    UnknownOutcome(String),
    /// The write was refused before anything happened (disk full, store shutting down).
    #[error("storage failed: {0}")]
    Storage(String),
}
