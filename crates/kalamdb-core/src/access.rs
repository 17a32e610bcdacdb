//! Who may do what: roles, principals, access levels and the one table of rights.

use kalamdb_store::ScopeId;

use crate::catalog::Table;
use crate::error::{Error, ErrorCode, Result};
use crate::system_schema::SystemTable;
use crate::table_kind::TableKind;

/// A user's role, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Own USER and STREAM rows; reads public shared tables.
    User,
    /// Also reads and writes shared tables.
    Service,
    /// Also DDL, and users up to dba.
    Dba,
    /// Everything.
    System,
}

/// Who reads and writes a SHARED table beside dba and system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLevel {
    /// Every role reads, service and up write.
    Public,
    /// Service and up read and write.
    Private,
    /// Only dba and system, and whom a GRANT names.
    Restricted,
}

/// Who is asking, as authenticated. The only source of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `CURRENT_USER`.
    pub user_id: String,
    /// `CURRENT_ROLE`.
    pub role: Role,
    /// This incarnation of the user. Never reused.
    pub scope: ScopeId,
}

/// What someone wants to do to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows.
    Delete,
    /// CREATE, DROP, ALTER, TRUNCATE.
    Define,
    /// FLUSH.
    Flush,
    /// COMPACT, CHECK.
    Maintain,
}

impl Role {
    /// Its name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Dba => "dba",
            Role::System => "system",
        }
    }

    /// The role of that name, in any case.
    pub fn parse(name: &str) -> Option<Role> {
        [Role::User, Role::Service, Role::Dba, Role::System]
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(name))
    }
}

impl AccessLevel {
    /// Its name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            AccessLevel::Public => "public",
            AccessLevel::Private => "private",
            AccessLevel::Restricted => "restricted",
        }
    }
}

impl Action {
    /// The right's name, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Select => "SELECT",
            Action::Insert => "INSERT",
            Action::Update => "UPDATE",
            Action::Delete => "DELETE",
            Action::Define => "DDL",
            Action::Flush => "FLUSH",
            Action::Maintain => "MAINTENANCE",
        }
    }
}

impl Principal {
    /// Checks a right on a table.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND if the principal may not even know of the table; PERMISSION_DENIED names the missing right;
    /// INVALID_STATEMENT names the statement to use instead of writing a SYSTEM table.
    pub fn check(&self, action: Action, table: &Table) -> Result<()> {
        if !self.sees(table) {
            return Err(Error::table_not_found(&table.name));
        }
        if may(self.role, action, table.kind, table.options.access_level) {
            return Ok(());
        }
        if let Some(system) = SystemTable::of(table) {
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                format!(
                    "table {} cannot be changed by {}; use {}",
                    table.name,
                    action.as_str(),
                    system.statements()
                ),
            ));
        }
        Err(Error::new(
            ErrorCode::PermissionDenied,
            format!(
                "user {} (role {}) has no right to {} on table {}",
                self.user_id,
                self.role.as_str(),
                action.as_str(),
                table.name
            ),
        ))
    }

    /// Whether the table shows in this principal's metadata.
    pub fn sees(&self, table: &Table) -> bool {
        may(self.role, Action::Select, table.kind, table.options.access_level)
    }

    /// Checks that the role is at least `least`, for what is not about one table.
    ///
    /// # Errors
    /// PERMISSION_DENIED saying `what` needs which role.
    pub fn require(&self, least: Role, what: &str) -> Result<()> {
        if self.role >= least {
            return Ok(());
        }
        let or_higher = if least == Role::System { "" } else { " or higher" };
        Err(Error::new(
            ErrorCode::PermissionDenied,
            format!(
                "{what} needs role {}{or_higher}; user {} has role {}",
                least.as_str(),
                self.user_id,
                self.role.as_str()
            ),
        ))
    }
}

/// The table of rights. The access level counts for SHARED tables alone; which rows of USER, STREAM and SYSTEM tables is
/// decided by scope and by row, not here.
fn may(role: Role, action: Action, kind: TableKind, level: AccessLevel) -> bool {
    match (kind, action) {
        (TableKind::System, Action::Select) => true,
        (
            TableKind::System,
            Action::Insert | Action::Update | Action::Delete | Action::Define | Action::Flush | Action::Maintain,
        ) => false,

        (TableKind::User | TableKind::Stream, Action::Select | Action::Insert | Action::Update | Action::Delete) => {
            true
        }
        (TableKind::User | TableKind::Stream, Action::Flush) => role >= Role::Service,
        (TableKind::User | TableKind::Stream, Action::Define | Action::Maintain) => role >= Role::Dba,

        (TableKind::Shared, Action::Select) => match level {
            AccessLevel::Public => true,
            AccessLevel::Private => role >= Role::Service,
            AccessLevel::Restricted => role >= Role::Dba,
        },
        (TableKind::Shared, Action::Insert | Action::Update | Action::Delete | Action::Flush) => match level {
            AccessLevel::Public | AccessLevel::Private => role >= Role::Service,
            AccessLevel::Restricted => role >= Role::Dba,
        },
        (TableKind::Shared, Action::Define | Action::Maintain) => role >= Role::Dba,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TableKind::{Shared, Stream, System, User};

    const LEVELS: [AccessLevel; 3] = [AccessLevel::Public, AccessLevel::Private, AccessLevel::Restricted];
    const ACTIONS: [Action; 7] = [
        Action::Select,
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Flush,
        Action::Define,
        Action::Maintain,
    ];
    const ROLES: [Role; 4] = [Role::User, Role::Service, Role::Dba, Role::System];

    /// One letter a right (select, insert, update, delete, flush, define = `c`, maintain), `-` for none; a column for each role.
    const RIGHTS: &[(TableKind, AccessLevel, [&str; 4])] = &[
        (
            System,
            AccessLevel::Public,
            ["s------", "s------", "s------", "s------"],
        ),
        (
            System,
            AccessLevel::Private,
            ["s------", "s------", "s------", "s------"],
        ),
        (
            System,
            AccessLevel::Restricted,
            ["s------", "s------", "s------", "s------"],
        ),
        (
            Shared,
            AccessLevel::Public,
            ["s------", "siudf--", "siudfcm", "siudfcm"],
        ),
        (
            Shared,
            AccessLevel::Private,
            ["-------", "siudf--", "siudfcm", "siudfcm"],
        ),
        (
            Shared,
            AccessLevel::Restricted,
            ["-------", "-------", "siudfcm", "siudfcm"],
        ),
        (User, AccessLevel::Public, ["siud---", "siudf--", "siudfcm", "siudfcm"]),
        (User, AccessLevel::Private, ["siud---", "siudf--", "siudfcm", "siudfcm"]),
        (
            User,
            AccessLevel::Restricted,
            ["siud---", "siudf--", "siudfcm", "siudfcm"],
        ),
        (
            Stream,
            AccessLevel::Public,
            ["siud---", "siudf--", "siudfcm", "siudfcm"],
        ),
        (
            Stream,
            AccessLevel::Private,
            ["siud---", "siudf--", "siudfcm", "siudfcm"],
        ),
        (
            Stream,
            AccessLevel::Restricted,
            ["siud---", "siudf--", "siudfcm", "siudfcm"],
        ),
    ];

    #[test]
    fn every_cell_of_the_table_of_rights() {
        assert_eq!(RIGHTS.len(), 4 * LEVELS.len());
        for &(kind, level, rights) in RIGHTS {
            for (role, rights) in ROLES.into_iter().zip(rights) {
                for (action, right) in ACTIONS.into_iter().zip(rights.chars()) {
                    assert_eq!(
                        may(role, action, kind, level),
                        right != '-',
                        "{role:?} {action:?} {kind:?} {level:?}"
                    );
                }
            }
        }
    }

    fn principal(role: Role) -> Principal {
        Principal {
            user_id: "a".to_owned(),
            role,
            scope: ScopeId(1),
        }
    }

    #[test]
    fn a_hidden_table_is_worded_as_a_missing_one() {
        let mut table = Table::clone(&SystemTable::Jobs.table());
        table.kind = Shared;
        table.options.access_level = AccessLevel::Private;
        let error = principal(Role::User).check(Action::Insert, &table).expect_err("hidden");
        assert_eq!(error, Error::table_not_found(&table.name));
    }

    #[test]
    fn a_denial_names_the_right_and_a_system_table_the_statement() {
        let table = SystemTable::Users.table();
        let error = principal(Role::System)
            .check(Action::Insert, &table)
            .expect_err("refused");
        assert_eq!(error.code, ErrorCode::InvalidStatement);
        assert!(error.message.contains("CREATE USER"), "{error}");

        let mut table = Table::clone(&table);
        table.kind = Shared;
        let error = principal(Role::User).check(Action::Delete, &table).expect_err("denied");
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert!(error.message.contains("DELETE"), "{error}");
    }
}
