//! Who is asking: roles, access levels and principals, who consult the table of rights (`rights`) and what they were granted.

use std::sync::Arc;

use kalamdb_store::ScopeId;

use crate::catalog::Table;
use crate::error::{Error, ErrorCode, Result};
use crate::grants::Grants;
use crate::rights::{Action, Object, Privilege, Task, least_role};
use crate::system_schema::SystemTable;

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
    /// What they were granted beyond their role; nothing where only their identity matters.
    pub grants: Arc<Grants>,
}

impl Role {
    /// All of them, weakest first.
    pub const ALL: &[Role] = &[Role::User, Role::Service, Role::Dba, Role::System];

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
        Role::ALL
            .iter()
            .copied()
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
        if self.may(action, table) {
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

    /// Whether the table shows in this principal's metadata: it may be read by role, or something on it was granted.
    pub fn sees(&self, table: &Table) -> bool {
        self.may(Action::Select, table) || self.grants.names(&table.table_id)
    }

    fn may(&self, action: Action, table: &Table) -> bool {
        let object = Object::of(table);
        let by_role = least_role(action, object).is_some_and(|least| self.role >= least);
        let granted = |privilege| self.grants.has(&table.table_id, privilege);
        by_role || Privilege::for_action(action, object).is_some_and(granted)
    }

    /// Whether one has the right to something that is not about one table.
    pub fn may_do(&self, task: Task) -> bool {
        self.role >= task.least_role()
    }

    /// Checks the right to something that is not about one table.
    ///
    /// # Errors
    /// PERMISSION_DENIED saying what needs which role.
    pub fn require(&self, task: Task) -> Result<()> {
        self.require_role(task.least_role(), task.as_str())
    }

    /// Checks that the role is at least `least`: who makes or changes users may not go beyond their own role.
    ///
    /// # Errors
    /// PERMISSION_DENIED saying `what` needs which role.
    pub(crate) fn require_role(&self, least: Role, what: &str) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_kind::TableKind;

    fn principal(role: Role) -> Principal {
        Principal {
            user_id: "a".to_owned(),
            role,
            scope: ScopeId(1),
            grants: Arc::default(),
        }
    }

    #[test]
    fn a_hidden_table_is_worded_as_a_missing_one() {
        let mut table = Table::clone(&SystemTable::Jobs.table());
        table.kind = TableKind::Shared;
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
        table.kind = TableKind::Shared;
        let error = principal(Role::User).check(Action::Delete, &table).expect_err("denied");
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert!(error.message.contains("DELETE"), "{error}");
    }
}
