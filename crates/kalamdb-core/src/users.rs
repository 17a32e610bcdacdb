//! Users: created, changed and dropped. Logging in is in `login`; hashes never leave this crate.

use std::sync::Arc;

use kalamdb_store::{Counter, ScopeId, TableChange};

use crate::access::{Principal, Role};
use crate::catalog::Table;
use crate::define::check_name;
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::password;
use crate::rights::{Action, Task};
use crate::system_rows::{UserRow, each_user, find_user, text, user_row};
use crate::system_schema::SystemTable;

/// The user that the first start makes: role system, never dropped.
pub(crate) const ROOT: &str = "root";

/// A user to create.
#[derive(Clone)]
pub struct NewUser {
    /// Its id and name.
    pub user_id: String,
    /// None: nobody logs in as it by password.
    pub password: Option<String>,
    /// Its role.
    pub role: Role,
    /// Not an error if it exists.
    pub if_not_exists: bool,
}

/// What becomes of the password.
#[derive(Clone)]
pub enum PasswordChange {
    /// Nothing.
    Keep,
    /// A new one: earlier tokens end.
    Set(String),
    /// No login by password any more.
    Remove,
}

/// A change of a user.
#[derive(Clone)]
pub struct UserChange {
    /// Whom.
    pub user_id: String,
    /// Its password.
    pub password: PasswordChange,
    /// Its role, if it changes.
    pub role: Option<Role>,
}

/// A user as `system.users` knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Who they are.
    pub principal: Principal,
    /// Counts password changes, so that older tokens can be told.
    pub credential_version: u64,
}

impl UserRecord {
    pub(crate) fn of(row: &UserRow) -> Self {
        let principal = Principal {
            user_id: row.user_id.clone(),
            role: row.role,
            scope: row.scope,
            grants: Arc::default(),
        };
        UserRecord {
            principal,
            credential_version: row.credential_version,
        }
    }
}

/// What a user may be called, whoever makes them.
///
/// # Errors
/// INVALID_ARGUMENT.
pub(crate) fn check_user_name(user_id: &str) -> Result<()> {
    check_name("user", user_id)?;
    if user_id.contains(':') {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("user name '{user_id}' contains ':', which parts user and password in credentials"),
        ));
    }
    Ok(())
}

impl Engine {
    /// CREATE USER; false if it existed and `if_not_exists`.
    ///
    /// # Errors
    /// ALREADY_EXISTS, PERMISSION_DENIED (dba makes users up to dba), INVALID_ARGUMENT (password under 12 characters or common; bad name).
    pub async fn create_user(&self, by: &Principal, new: NewUser) -> Result<bool> {
        by.require(Task::CreateUser)?;
        by.require_role(new.role, &format!("making a user of role {}", new.role.as_str()))?;
        check_user_name(&new.user_id)?;
        let password_hash = match &new.password {
            Some(password) => {
                password::check_rules(password)?;
                Some(password::hash(password, self.clock().as_ref())?)
            }
            None => None,
        };
        let scope = ScopeId(self.store().next_id(Counter::Scope)?);
        self.change(move |change| {
            if find_user(&change.state, &new.user_id)?.is_some() {
                return if new.if_not_exists {
                    Ok(false)
                } else {
                    Err(Error::new(
                        ErrorCode::AlreadyExists,
                        format!("user {} exists already", new.user_id),
                    ))
                };
            }
            let row = UserRow {
                user_id: new.user_id,
                role: new.role,
                created_at_micros: change.now_micros,
                updated_at_micros: change.now_micros,
                scope,
                password_hash,
                credential_version: 1,
            };
            change.put(SystemTable::Users, &user_row(&row))?;
            Ok(true)
        })
        .await
    }

    /// ALTER USER. Everyone may set their own password.
    ///
    /// # Errors
    /// USER_NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT.
    pub async fn alter_user(&self, by: &Principal, user_change: UserChange) -> Result<()> {
        let own_password = user_change.user_id == by.user_id
            && user_change.role.is_none()
            && !matches!(user_change.password, PasswordChange::Remove);
        if !own_password {
            by.require(Task::AlterUser)?;
        }
        if user_change.user_id == ROOT {
            let forbidden = if user_change.role.is_some_and(|role| role != Role::System) {
                Some("role is always system")
            } else if matches!(user_change.password, PasswordChange::Remove) {
                Some("password cannot be removed, only changed")
            } else {
                None
            };
            if let Some(rule) = forbidden {
                return Err(Error::new(ErrorCode::InvalidArgument, format!("{ROOT}'s {rule}")));
            }
        }
        let new_hash = match &user_change.password {
            PasswordChange::Keep => None,
            PasswordChange::Remove => Some(None),
            PasswordChange::Set(password) => {
                password::check_rules(password)?;
                Some(Some(password::hash(password, self.clock().as_ref())?))
            }
        };
        let by = by.clone();
        self.change(move |change| {
            let mut row =
                find_user(&change.state, &user_change.user_id)?.ok_or_else(|| user_not_found(&user_change.user_id))?;
            if !own_password {
                by.require_role(row.role, &format!("changing a user of role {}", row.role.as_str()))?;
            } else if row.scope != by.scope {
                // The name is someone else's by now.
                return Err(user_not_found(&user_change.user_id));
            }
            if let Some(role) = user_change.role {
                by.require_role(role, &format!("giving role {}", role.as_str()))?;
                row.role = role;
            }
            if let Some(new_hash) = new_hash {
                row.password_hash = new_hash;
                row.credential_version += 1;
            }
            row.updated_at_micros = change.now_micros;
            change.put(SystemTable::Users, &user_row(&row))
        })
        .await
    }

    /// DROP USER: their rows in every table go with them; false if there was none and `if_exists`.
    ///
    /// # Errors
    /// USER_NOT_FOUND, PERMISSION_DENIED; INVALID_ARGUMENT for oneself and for `root`.
    pub async fn drop_user(&self, by: &Principal, user_id: &str, if_exists: bool) -> Result<bool> {
        by.require(Task::DropUser)?;
        if user_id == ROOT || user_id == by.user_id {
            let whom = if user_id == ROOT { ROOT } else { "the user who asks" };
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{whom} cannot be dropped"),
            ));
        }
        let by = by.clone();
        let user_id = user_id.to_owned();
        self.change(move |change| {
            let Some(row) = find_user(&change.state, &user_id)? else {
                return if if_exists {
                    Ok(false)
                } else {
                    Err(user_not_found(&user_id))
                };
            };
            by.require_role(row.role, &format!("dropping a user of role {}", row.role.as_str()))?;
            change.remove(SystemTable::Users, &[text(&user_id)])?;
            change.forget_user_grants(row.scope)?;
            change.forget_user_quotas(&user_id, row.scope)?;
            change.change_store(TableChange::RetireScope(row.scope));
            Ok(true)
        })
        .await
    }

    /// The ids of all users as of `view`.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub fn user_ids(&self, view: &View) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        each_user(&view.state, |row| ids.push(row.user_id))?;
        Ok(ids)
    }

    /// The user as of `view`, with what they were granted.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub fn user(&self, view: &View, user_id: &str) -> Result<Option<UserRecord>> {
        let mut user = find_user(&view.state, user_id)?.as_ref().map(UserRecord::of);
        if let Some(UserRecord { principal, .. }) = &mut user
            && let Some(grantee) = view.catalog().grants.get(&principal.scope)
        {
            principal.grants = Arc::clone(&grantee.grants);
        }
        Ok(user)
    }

    /// Everyone, by user id, each to scan their own rows of a table with: for EXECUTE AS ALL USERS.
    ///
    /// # Errors
    /// PERMISSION_DENIED, TABLE_NOT_FOUND; STORAGE_ERROR.
    pub fn all_users(&self, view: &View, by: &Principal, table: &Table) -> Result<Vec<Principal>> {
        by.check(Action::SelectOfAllUsers, table)?;
        let mut users = Vec::new();
        each_user(&view.state, |row| users.push(UserRecord::of(&row).principal))?;
        Ok(users)
    }
}

fn user_not_found(user_id: &str) -> Error {
    Error::new(ErrorCode::UserNotFound, format!("user {user_id} does not exist"))
}
