//! The one table of rights, as data: from which role on each kind of statement is allowed on each kind of table, what a GRANT may
//! add, and which role the statements need that are about no one table. `docs/access.md` is written from it.
//!
//! Which rows of USER, STREAM and SYSTEM tables somebody reaches is decided by scope and by row, not here.

use crate::access::{AccessLevel, Role};
use crate::catalog::Table;
use crate::table_kind::TableKind;

/// A kind of statement about one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows. Finding them needs [`Action::Select`] as well.
    Update,
    /// Remove rows. Finding them needs [`Action::Select`] as well.
    Delete,
    /// CREATE, DROP, ALTER, TRUNCATE.
    Define,
    /// FLUSH.
    Flush,
    /// COMPACT, CHECK.
    Maintain,
    /// GRANT and REVOKE of reading and writing.
    Grant,
    /// Read in a query of EXECUTE AS ALL USERS: the rows of everyone, where each has their own.
    SelectOfAllUsers,
    /// GRANT and REVOKE of that.
    GrantOfAllUsers,
}

/// A kind of table, as far as rights differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A table of schema `system`.
    System,
    /// A SHARED table of this access level.
    Shared(AccessLevel),
    /// Rows of each user's own.
    User,
    /// The same with a lifetime.
    Stream,
}

/// What GRANT gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// Reading a table.
    Select,
    /// Adding rows to it.
    Insert,
    /// Changing its rows, together with SELECT.
    Update,
    /// Removing its rows, together with SELECT.
    Delete,
    /// Reading everyone's rows of it by EXECUTE AS ALL USERS.
    ExecuteAsAllUsers,
    /// Knowing of a namespace.
    Usage,
}

/// Statements that are about no one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// CREATE NAMESPACE.
    CreateNamespace,
    /// DROP NAMESPACE.
    DropNamespace,
    /// CREATE TABLE of any kind, and ingest that creates one.
    CreateTable,
    /// CREATE VIEW. Whoever reads a view needs the rights on what it reads, and none on the view.
    CreateView,
    /// DROP VIEW.
    DropView,
    /// STORAGE FLUSH ALL.
    FlushAll,
    /// STORAGE COMPACT ALL.
    CompactAll,
    /// STORAGE CHECK ALL.
    CheckAll,
    /// CREATE STORAGE.
    CreateStorage,
    /// DROP STORAGE.
    DropStorage,
    /// CREATE USER; the new user's role may not be above one's own.
    CreateUser,
    /// ALTER USER of anything but one's own password; neither the old nor the new role may be above one's own.
    AlterUser,
    /// DROP USER; their role may not be above one's own.
    DropUser,
    /// GRANT and REVOKE of USAGE.
    GrantUsage,
    /// SET QUOTA.
    SetQuota,
    /// KILL QUERY of another's query.
    KillQuery,
    /// KILL SESSION of another's session; their role may not be above one's own.
    KillSession,
    /// KILL JOB, beside the right to start such a job on its table.
    KillJob,
    /// KILL JOB of a job whose table was dropped meanwhile.
    KillJobOfDroppedTable,
    /// SHOW GRANTS FOR another, and their rows of `system.grants`.
    ShowGrants,
    /// SHOW QUOTAS FOR another.
    ShowQuotas,
    /// Knowing of a namespace in which one knows of nothing and was granted nothing.
    KnowNamespaces,
    /// EXPLAIN ANALYZE that prunes segments of a USER or STREAM table, and counts them: both tell of others' rows there.
    CountSegments,
    /// `/metrics` from another machine.
    ReadMetrics,
}

impl Action {
    /// All of them.
    pub const ALL: &[Action] = &[
        Action::Select,
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Define,
        Action::Flush,
        Action::Maintain,
        Action::Grant,
        Action::SelectOfAllUsers,
        Action::GrantOfAllUsers,
    ];

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
            Action::Grant => "GRANT",
            Action::SelectOfAllUsers => "EXECUTE AS ALL USERS",
            Action::GrantOfAllUsers => "GRANT EXECUTE AS ALL USERS",
        }
    }
}

impl Object {
    /// All of them.
    pub const ALL: &[Object] = &[
        Object::System,
        Object::Shared(AccessLevel::Public),
        Object::Shared(AccessLevel::Private),
        Object::Shared(AccessLevel::Restricted),
        Object::User,
        Object::Stream,
    ];

    /// What kind `table` is of.
    pub(crate) fn of(table: &Table) -> Object {
        match table.kind {
            TableKind::System => Object::System,
            TableKind::Shared => Object::Shared(table.options.access_level),
            TableKind::User => Object::User,
            TableKind::Stream => Object::Stream,
        }
    }
}

impl Privilege {
    /// Those of tables.
    pub const OF_TABLES: &[Privilege] = &[
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
        Privilege::ExecuteAsAllUsers,
    ];

    /// What ALL PRIVILEGES stands for. Reading everyone's rows is granted by its own name only.
    pub const ALL_PRIVILEGES: &[Privilege] = &[
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
    ];

    /// Its name in SQL and in `system.grants`.
    pub fn as_str(self) -> &'static str {
        match self {
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
            Privilege::ExecuteAsAllUsers => "EXECUTE AS ALL USERS",
            Privilege::Usage => "USAGE",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Privilege> {
        let all = Privilege::OF_TABLES.iter().chain([&Privilege::Usage]);
        all.copied().find(|privilege| privilege.as_str() == name)
    }

    /// The privilege that allows an action to whose role does not.
    pub(crate) fn for_action(action: Action, object: Object) -> Option<Privilege> {
        let privilege = match (action, object) {
            (Action::Select, _) | (Action::SelectOfAllUsers, Object::System | Object::Shared(_)) => Privilege::Select,
            (Action::SelectOfAllUsers, Object::User | Object::Stream) => Privilege::ExecuteAsAllUsers,
            (Action::Insert, _) => Privilege::Insert,
            (Action::Update, _) => Privilege::Update,
            (Action::Delete, _) => Privilege::Delete,
            (Action::Define | Action::Flush | Action::Maintain | Action::Grant | Action::GrantOfAllUsers, _) => {
                return None;
            }
        };
        least_role(privilege.granting(), object).map(|_| privilege)
    }

    /// What giving or taking it is.
    pub(crate) fn granting(self) -> Action {
        match self {
            Privilege::Select | Privilege::Insert | Privilege::Update | Privilege::Delete | Privilege::Usage => {
                Action::Grant
            }
            Privilege::ExecuteAsAllUsers => Action::GrantOfAllUsers,
        }
    }
}

impl Task {
    /// All of them.
    pub const ALL: &[Task] = &[
        Task::CreateNamespace,
        Task::DropNamespace,
        Task::CreateTable,
        Task::CreateView,
        Task::DropView,
        Task::FlushAll,
        Task::CompactAll,
        Task::CheckAll,
        Task::CreateStorage,
        Task::DropStorage,
        Task::CreateUser,
        Task::AlterUser,
        Task::DropUser,
        Task::GrantUsage,
        Task::SetQuota,
        Task::KillQuery,
        Task::KillSession,
        Task::KillJob,
        Task::KillJobOfDroppedTable,
        Task::ShowGrants,
        Task::ShowQuotas,
        Task::KnowNamespaces,
        Task::CountSegments,
        Task::ReadMetrics,
    ];

    /// What it is called where it is refused.
    pub fn as_str(self) -> &'static str {
        match self {
            Task::CreateNamespace => "CREATE NAMESPACE",
            Task::DropNamespace => "DROP NAMESPACE",
            Task::CreateTable => "CREATE TABLE",
            Task::CreateView => "CREATE VIEW",
            Task::DropView => "DROP VIEW",
            Task::FlushAll => "FLUSH ALL",
            Task::CompactAll => "COMPACT ALL",
            Task::CheckAll => "CHECK ALL",
            Task::CreateStorage => "CREATE STORAGE",
            Task::DropStorage => "DROP STORAGE",
            Task::CreateUser => "CREATE USER",
            Task::AlterUser => "ALTER USER on anything but one's own password",
            Task::DropUser => "DROP USER",
            Task::GrantUsage => "GRANT USAGE",
            Task::SetQuota => "SET QUOTA",
            Task::KillQuery => "KILL QUERY of another's query",
            Task::KillSession => "KILL SESSION of another's session",
            Task::KillJob => "KILL JOB, with the right to start such a job",
            Task::KillJobOfDroppedTable => "KILL JOB of a table that was dropped",
            Task::ShowGrants => "SHOW GRANTS FOR another user",
            Task::ShowQuotas => "SHOW QUOTAS FOR another user",
            Task::KnowNamespaces => "knowing of a namespace in which one knows of nothing",
            Task::CountSegments => "EXPLAIN ANALYZE with the segments of a USER table",
            Task::ReadMetrics => "reading /metrics from another machine",
        }
    }

    /// From which role on it is allowed.
    pub fn least_role(self) -> Role {
        match self {
            Task::FlushAll | Task::KillJob => Role::Service,
            Task::CreateNamespace
            | Task::DropNamespace
            | Task::CreateTable
            | Task::CreateView
            | Task::DropView
            | Task::CompactAll
            | Task::CheckAll
            | Task::CreateUser
            | Task::AlterUser
            | Task::DropUser
            | Task::GrantUsage
            | Task::SetQuota
            | Task::KillQuery
            | Task::KillSession
            | Task::KillJobOfDroppedTable
            | Task::ShowGrants
            | Task::ShowQuotas
            | Task::KnowNamespaces
            | Task::CountSegments
            | Task::ReadMetrics => Role::Dba,
            Task::CreateStorage | Task::DropStorage => Role::System,
        }
    }
}

/// From which role on a kind of statement is allowed on a kind of table; `None`: to nobody.
pub fn least_role(action: Action, object: Object) -> Option<Role> {
    match (object, action) {
        (Object::System, Action::Select | Action::SelectOfAllUsers) => Some(Role::User),
        (
            Object::System,
            Action::Insert
            | Action::Update
            | Action::Delete
            | Action::Define
            | Action::Flush
            | Action::Maintain
            | Action::Grant
            | Action::GrantOfAllUsers,
        ) => None,

        (Object::User | Object::Stream, Action::Select | Action::Insert | Action::Update | Action::Delete) => {
            Some(Role::User)
        }
        (Object::User, Action::Flush) => Some(Role::Service),
        (Object::User, Action::Maintain) => Some(Role::Dba),
        // Their rows are never in segments.
        (Object::Stream, Action::Flush | Action::Maintain) => None,
        (Object::User | Object::Stream, Action::Define) => Some(Role::Dba),
        // Everyone has their own rows of it already.
        (Object::User | Object::Stream, Action::Grant) => None,
        (Object::User | Object::Stream, Action::SelectOfAllUsers | Action::GrantOfAllUsers) => Some(Role::System),

        // In a query of all users, too: its rows are nobody's own.
        (Object::Shared(level), Action::Select | Action::SelectOfAllUsers) => Some(match level {
            AccessLevel::Public => Role::User,
            AccessLevel::Private => Role::Service,
            AccessLevel::Restricted => Role::Dba,
        }),
        (Object::Shared(level), Action::Insert | Action::Update | Action::Delete | Action::Flush) => {
            Some(match level {
                AccessLevel::Public | AccessLevel::Private => Role::Service,
                AccessLevel::Restricted => Role::Dba,
            })
        }
        (Object::Shared(_), Action::Define | Action::Maintain | Action::Grant) => Some(Role::Dba),
        (Object::Shared(_), Action::GrantOfAllUsers) => None,
    }
}

/// Whether `actor` may run statements as somebody else of role `target`. Oneself everyone may.
pub fn may_act_as(actor: Role, target: Role) -> bool {
    match actor {
        Role::System => true,
        Role::Dba => target <= Role::Dba,
        Role::Service => target <= Role::Service,
        Role::User => false,
    }
}

/// Whether a GRANT may allow this to whose role does not.
pub fn grantable(action: Action, object: Object) -> bool {
    Privilege::for_action(action, object).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessLevel::{Private, Public, Restricted};

    /// One letter a right (select, insert, update, delete, flush, define = `c`, maintain, grant, all users = `a`, granting that =
    /// `x`), `-` for none; a column for each role. Written by hand, so that a slip in the table shows here.
    const RIGHTS: &[(Object, [&str; 4])] = &[
        (Object::System, ["s-------a-", "s-------a-", "s-------a-", "s-------a-"]),
        (
            Object::Shared(Public),
            ["s-------a-", "siudf---a-", "siudfcmga-", "siudfcmga-"],
        ),
        (
            Object::Shared(Private),
            ["----------", "siudf---a-", "siudfcmga-", "siudfcmga-"],
        ),
        (
            Object::Shared(Restricted),
            ["----------", "----------", "siudfcmga-", "siudfcmga-"],
        ),
        (Object::User, ["siud------", "siudf-----", "siudfcm---", "siudfcm-ax"]),
        (Object::Stream, ["siud------", "siud------", "siud-c----", "siud-c--ax"]),
    ];

    const ORDER: [Action; 10] = [
        Action::Select,
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Flush,
        Action::Define,
        Action::Maintain,
        Action::Grant,
        Action::SelectOfAllUsers,
        Action::GrantOfAllUsers,
    ];

    #[test]
    fn every_cell_of_the_table_of_rights() {
        assert_eq!(RIGHTS.len(), Object::ALL.len());
        assert_eq!(ORDER.len(), Action::ALL.len());
        for &(object, rights) in RIGHTS {
            for (&role, rights) in Role::ALL.iter().zip(rights) {
                for (action, right) in ORDER.into_iter().zip(rights.chars()) {
                    let allowed = least_role(action, object).is_some_and(|least| role >= least);
                    assert_eq!(allowed, right != '-', "{role:?} {action:?} {object:?}");
                }
            }
        }
    }

    #[test]
    fn nobody_acts_as_somebody_of_a_higher_role() {
        for &actor in Role::ALL {
            for &target in Role::ALL {
                assert!(!may_act_as(actor, target) || actor >= target, "{actor:?} as {target:?}");
            }
        }
    }

    #[test]
    fn a_grant_is_of_reading_and_writing_shared_tables_or_of_reading_everyones_rows() {
        for &object in Object::ALL {
            let granted: Vec<Action> = Action::ALL
                .iter()
                .copied()
                .filter(|&action| grantable(action, object))
                .collect();
            let expected: &[Action] = match object {
                Object::Shared(_) => &[
                    Action::Select,
                    Action::Insert,
                    Action::Update,
                    Action::Delete,
                    Action::SelectOfAllUsers,
                ],
                Object::User | Object::Stream => &[Action::SelectOfAllUsers],
                Object::System => &[],
            };
            assert_eq!(granted, expected, "{object:?}");
        }
    }
}
