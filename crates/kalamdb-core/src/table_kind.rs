//! The four table types and everything in which they differ.

use kalamdb_store::{Lifetime, ScopeId};

use crate::access::Principal;

/// One of the four table types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TableKind {
    /// The catalog's own tables: global, visible row by row, never flushed.
    System,
    /// Rows of everyone.
    Shared,
    /// Each row is one user's own.
    User,
    /// Each row is one user's own and lives for a stated time.
    Stream,
}

impl TableKind {
    /// Its name in SQL and in `system.tables`.
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::System => "SYSTEM",
            TableKind::Shared => "SHARED",
            TableKind::User => "USER",
            TableKind::Stream => "STREAM",
        }
    }

    /// Whose rows `principal` reaches in a table of this kind.
    pub fn scope(self, principal: &Principal) -> ScopeId {
        match self {
            TableKind::System | TableKind::Shared => ScopeId::GLOBAL,
            TableKind::User | TableKind::Stream => principal.scope,
        }
    }

    /// How long rows live.
    pub fn lifetime(self) -> Lifetime {
        match self {
            TableKind::System | TableKind::Shared | TableKind::User => Lifetime::Durable,
            TableKind::Stream => Lifetime::Expiring,
        }
    }

    /// Whether large inserts go straight into segments; otherwise they are bounded by the statement's write limit.
    pub fn loads_in_bulk(self) -> bool {
        match self {
            TableKind::Shared | TableKind::User => true,
            TableKind::System | TableKind::Stream => false,
        }
    }

    /// Whether rows age into segments.
    pub fn flushes(self) -> bool {
        self.loads_in_bulk()
    }

    /// The table type that Flight SQL and JDBC metadata report.
    pub fn protocol_type(self) -> &'static str {
        match self {
            TableKind::System => "SYSTEM TABLE",
            TableKind::Shared | TableKind::User | TableKind::Stream => "TABLE",
        }
    }
}
