//! What users were granted beyond their roles: kept as rows of `system.grants`, and by scope in the catalog, so that a user or
//! table made again under an old name inherits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use kalamdb_store::{DbState, ScopeId};

use crate::access::Principal;
use crate::catalog::{Catalog, TableName};
use crate::change::CatalogChange;
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::rights::{Object, Privilege, Task, least_role};
use crate::system_rows::{find_user, read_all, text, time};
use crate::system_schema::SystemTable;

/// How `system.grants` names what a grant is on.
const TABLE: &str = "TABLE";
const NAMESPACE: &str = "NAMESPACE";

/// What one user was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// By table id.
    tables: BTreeMap<String, BTreeSet<Privilege>>,
    /// USAGE.
    namespaces: BTreeSet<String>,
}

/// Somebody with grants.
#[derive(Clone, Debug)]
pub(crate) struct Grantee {
    pub(crate) user_id: String,
    pub(crate) grants: Arc<Grants>,
}

/// What a GRANT is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedOn {
    /// Rights on a table.
    Table(TableName),
    /// USAGE of a namespace.
    Namespace(String),
}

/// Whether rights are given or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantChange {
    /// GRANT.
    Give,
    /// REVOKE.
    Take,
}

/// One grant, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who has it.
    pub user_id: String,
    /// What they may.
    pub privilege: Privilege,
    /// On what.
    pub on: GrantedOn,
    /// Who gave it.
    pub granted_by: String,
    /// When, µs.
    pub created_at_micros: i64,
}

impl Grants {
    /// Whether this privilege on this table was granted.
    pub(crate) fn has(&self, table_id: &str, privilege: Privilege) -> bool {
        self.tables
            .get(table_id)
            .is_some_and(|granted| granted.contains(&privilege))
    }

    /// Whether anything on this table was granted.
    pub(crate) fn names(&self, table_id: &str) -> bool {
        self.tables.contains_key(table_id)
    }

    /// The namespaces of which USAGE was granted.
    pub fn namespaces(&self) -> &BTreeSet<String> {
        &self.namespaces
    }

    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.namespaces.is_empty()
    }
}

impl std::fmt::Display for GrantedOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GrantedOn::Table(name) => name.fmt(f),
            GrantedOn::Namespace(name) => f.write_str(name),
        }
    }
}

/// What a grant is on, as rows name it: for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Table(String),
    Namespace(String),
}

impl Place {
    fn key(&self, user_id: &str, privilege: Privilege) -> [ArrayRef; 4] {
        let (object_type, object_id) = match self {
            Place::Table(table_id) => (TABLE, table_id),
            Place::Namespace(name) => (NAMESPACE, name),
        };
        [
            text(object_type),
            text(object_id),
            text(user_id),
            text(privilege.as_str()),
        ]
    }
}

impl Engine {
    /// GRANT and REVOKE: each privilege to or from each user; how many of them changed anything.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND, NAMESPACE_NOT_FOUND, USER_NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT for what cannot be granted on
    /// such a table.
    pub async fn change_grants(
        &self,
        by: &Principal,
        change_grants: GrantChange,
        privileges: &[Privilege],
        on: &GrantedOn,
        user_ids: &[String],
    ) -> Result<usize> {
        self.change(|change| {
            let place = match on {
                GrantedOn::Table(name) => grantable_table(&change.catalog, by, name, privileges)?,
                GrantedOn::Namespace(name) => {
                    by.require(Task::GrantUsage)?;
                    match change.catalog.namespaces.contains_key(name) {
                        true => Place::Namespace(name.clone()),
                        false => {
                            let message = format!("namespace {name} does not exist");
                            return Err(Error::new(ErrorCode::NamespaceNotFound, message));
                        }
                    }
                }
            };
            let mut changed = 0;
            for user_id in user_ids {
                let Some(user) = find_user(&change.state, user_id)? else {
                    let message = format!("user {user_id} does not exist");
                    return Err(Error::new(ErrorCode::UserNotFound, message));
                };
                for &privilege in privileges {
                    changed += usize::from(match change_grants {
                        GrantChange::Give => change.give(&place, privilege, user_id, user.scope, by)?,
                        GrantChange::Take => change.take(&place, privilege, user_id, user.scope)?,
                    });
                }
            }
            Ok(changed)
        })
        .await
    }
}

/// Checks that all of `privileges` can be granted on a table, by this principal.
fn grantable_table(catalog: &Catalog, by: &Principal, name: &TableName, privileges: &[Privilege]) -> Result<Place> {
    let table = catalog.table(name).filter(|table| by.sees(table));
    let table = table.ok_or_else(|| Error::table_not_found(name))?;
    let object = Object::of(table);
    for privilege in privileges {
        if least_role(privilege.granting(), object).is_none() {
            let reason = match object {
                Object::System => "what shows in tables of schema system is decided by role",
                Object::User | Object::Stream => {
                    "everyone has their own rows of it, and EXECUTE AS ALL USERS is all that can be granted on it"
                }
                Object::Shared(_) => "its rows are nobody's own; grant SELECT",
            };
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{} cannot be granted on {} table {name}: {reason}",
                    privilege.as_str(),
                    table.kind.as_str()
                ),
            ));
        }
        by.check(privilege.granting(), table)?;
    }
    Ok(Place::Table(table.table_id.clone()))
}

impl CatalogChange {
    /// False if it was granted already; then who granted it stays.
    fn give(
        &mut self,
        place: &Place,
        privilege: Privilege,
        user_id: &str,
        scope: ScopeId,
        by: &Principal,
    ) -> Result<bool> {
        if !self.change_granted(scope, user_id, |grants| insert(grants, place, privilege)) {
            return Ok(false);
        }
        let mut row: Vec<ArrayRef> = place.key(user_id, privilege).into();
        row.extend([
            text(&by.user_id),
            time(self.now_micros),
            Arc::new(UInt64Array::from(vec![scope.0])) as ArrayRef,
        ]);
        self.put(SystemTable::Grants, &row)?;
        Ok(true)
    }

    /// False if it was not granted.
    fn take(&mut self, place: &Place, privilege: Privilege, user_id: &str, scope: ScopeId) -> Result<bool> {
        let taken = self.change_granted(scope, user_id, |grants| remove(grants, place, privilege));
        if taken {
            self.remove(SystemTable::Grants, &place.key(user_id, privilege))?;
        }
        Ok(taken)
    }

    fn change_granted(&mut self, scope: ScopeId, user_id: &str, edit: impl FnOnce(&mut Grants) -> bool) -> bool {
        let grantee = self.catalog.grants.entry(scope).or_insert_with(|| Grantee {
            user_id: user_id.to_owned(),
            grants: Arc::default(),
        });
        let changed = edit(Arc::make_mut(&mut grantee.grants));
        if grantee.grants.is_empty() {
            self.catalog.grants.remove(&scope);
        }
        changed
    }

    /// Removes all grants on a table.
    pub(crate) fn forget_table_grants(&mut self, table_id: &str) -> Result<()> {
        self.forget(&Place::Table(table_id.to_owned()))
    }

    /// Removes all grants on a namespace itself; those on its tables go with them.
    pub(crate) fn forget_namespace_grants(&mut self, namespace: &str) -> Result<()> {
        self.forget(&Place::Namespace(namespace.to_owned()))
    }

    fn forget(&mut self, place: &Place) -> Result<()> {
        let holders: Vec<(ScopeId, Grantee)> = self
            .catalog
            .grants
            .iter()
            .filter(|(_, grantee)| match place {
                Place::Table(table_id) => grantee.grants.tables.contains_key(table_id),
                Place::Namespace(name) => grantee.grants.namespaces.contains(name),
            })
            .map(|(scope, grantee)| (*scope, grantee.clone()))
            .collect();
        for (scope, grantee) in holders {
            let privileges: Vec<Privilege> = match place {
                Place::Table(table_id) => grantee.grants.tables[table_id].iter().copied().collect(),
                Place::Namespace(_) => vec![Privilege::Usage],
            };
            for privilege in privileges {
                self.take(place, privilege, &grantee.user_id, scope)?;
            }
        }
        Ok(())
    }

    /// Removes all grants of a user.
    pub(crate) fn forget_user_grants(&mut self, scope: ScopeId) -> Result<()> {
        let Some(grantee) = self.catalog.grants.remove(&scope) else {
            return Ok(());
        };
        for (table_id, privileges) in &grantee.grants.tables {
            for &privilege in privileges {
                let place = Place::Table(table_id.clone());
                self.remove(SystemTable::Grants, &place.key(&grantee.user_id, privilege))?;
            }
        }
        for name in &grantee.grants.namespaces {
            let place = Place::Namespace(name.clone());
            self.remove(SystemTable::Grants, &place.key(&grantee.user_id, Privilege::Usage))?;
        }
        Ok(())
    }
}

fn insert(grants: &mut Grants, place: &Place, privilege: Privilege) -> bool {
    match place {
        Place::Table(table_id) => grants.tables.entry(table_id.clone()).or_default().insert(privilege),
        Place::Namespace(name) => grants.namespaces.insert(name.clone()),
    }
}

fn remove(grants: &mut Grants, place: &Place, privilege: Privilege) -> bool {
    match place {
        Place::Table(table_id) => {
            let Some(granted) = grants.tables.get_mut(table_id) else {
                return false;
            };
            let removed = granted.remove(&privilege);
            if granted.is_empty() {
                grants.tables.remove(table_id);
            }
            removed
        }
        Place::Namespace(name) => grants.namespaces.remove(name),
    }
}

impl View {
    /// The grants that `principal` may know of, everyone's or their own, by user, object and privilege.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub fn grants(&self, principal: &Principal) -> Result<Vec<Grant>> {
        let mut found = Vec::new();
        let everyone = principal.may_do(Task::ShowGrants);
        let catalog = self.catalog();
        each_row(&self.state, |row| {
            if !everyone && row.user_id != principal.user_id {
                return;
            }
            let on = match row.place {
                Place::Table(table_id) => {
                    let mut tables = catalog.tables.values();
                    let table = tables.find(|table| table.table_id == table_id);
                    table.map(|table| GrantedOn::Table(table.name.clone()))
                }
                Place::Namespace(name) => Some(GrantedOn::Namespace(name)),
            };
            found.extend(on.map(|on| Grant {
                user_id: row.user_id,
                privilege: row.privilege,
                on,
                granted_by: row.granted_by,
                created_at_micros: row.created_at_micros,
            }));
        })?;
        found.sort_by(|a, b| {
            let key = |grant: &Grant| (grant.user_id.clone(), grant.on.to_string(), grant.privilege);
            key(a).cmp(&key(b))
        });
        Ok(found)
    }
}

/// A row of `system.grants`.
struct GrantRow {
    place: Place,
    user_id: String,
    privilege: Privilege,
    granted_by: String,
    created_at_micros: i64,
    scope: ScopeId,
}

fn each_row(state: &Arc<DbState<Catalog>>, mut each: impl FnMut(GrantRow)) -> Result<()> {
    read_all(state, SystemTable::Grants, |rows, row| {
        let object_id = rows.text("object_id", row)?.to_owned();
        let place = match rows.text("object_type", row)? {
            TABLE => Place::Table(object_id),
            NAMESPACE => Place::Namespace(object_id),
            other => return Err(rows.corrupt("object_type", other)),
        };
        let privilege = rows.text("privilege", row)?;
        each(GrantRow {
            place,
            user_id: rows.text("user_id", row)?.to_owned(),
            privilege: Privilege::parse(privilege).ok_or_else(|| rows.corrupt("privilege", privilege))?,
            granted_by: rows.text("granted_by", row)?.to_owned(),
            created_at_micros: rows.number::<TimestampMicrosecondType>("created_at", row)?,
            scope: ScopeId(rows.number::<UInt64Type>("scope", row)?),
        });
        Ok(())
    })
}

/// Reads the grants of a database into its catalog; a database from before there were any has no store for them yet.
pub(crate) fn load(state: &Arc<DbState<Catalog>>, catalog: &mut Catalog) -> Result<()> {
    if state.table(SystemTable::Grants.store()).is_none() {
        return Ok(());
    }
    each_row(state, |row| {
        let grantee = catalog.grants.entry(row.scope).or_insert_with(|| Grantee {
            user_id: row.user_id,
            grants: Arc::default(),
        });
        insert(Arc::make_mut(&mut grantee.grants), &row.place, row.privilege);
    })
}
