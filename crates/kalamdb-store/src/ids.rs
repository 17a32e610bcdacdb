//! The identifiers and sequence numbers of the store, each a type of its own; how they are allocated is not here.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One incarnation of a table. TRUNCATE, DROP and REPLACE retire it; it is never used again.
    StoreId(u32)
}
id! {
    /// Whose rows: [`ScopeId::GLOBAL`] for rows of everyone, otherwise one incarnation of one user. Never reused.
    ScopeId(u64)
}
id! {
    /// A generation of hot rows inside one store.
    Epoch(u32)
}
id! {
    /// The commit order: every row written and every removal takes one, strictly increasing over the whole database.
    Seq(u64)
}
id! {
    /// The version of a table's schema that a row was written with.
    SchemaVersion(u32)
}
id! {
    /// One column of a table for ever; a name may move to another id, an id never to another column.
    ColumnId(u32)
}

id! {
    /// One segment file for ever.
    SegmentId(u32)
}
id! {
    /// A place where segment files are: [`StorageId::DEFAULT`] or one that was added.
    StorageId(u32)
}

impl StorageId {
    /// The directory `segments` of the data directory.
    pub const DEFAULT: StorageId = StorageId(0);
}

impl ScopeId {
    /// The scope of SYSTEM and SHARED rows.
    pub const GLOBAL: ScopeId = ScopeId(0);
}
