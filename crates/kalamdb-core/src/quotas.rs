//! How much a user may use: kept as rows of `system.quotas`, and in the catalog. A user's own quota goes before that of their role.
//! Holding statements to them is the work of the crate above.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use kalamdb_store::{DbState, ScopeId};

use crate::access::{Principal, Role};
use crate::catalog::Catalog;
use crate::change::CatalogChange;
use crate::engine::{Engine, View};
use crate::error::{Error, ErrorCode, Result};
use crate::rights::Task;
use crate::system_rows::{find_user, read_all, text, time};
use crate::system_schema::SystemTable;

/// How `system.quotas` names whose quota it is.
const USER: &str = "USER";
const ROLE: &str = "ROLE";

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quota {
    /// Statements that run at once.
    Queries,
    /// Sessions that are open at once.
    Sessions,
    /// Memory of all running statements together, bytes.
    Memory,
    /// Time of one statement, milliseconds.
    StatementTime,
    /// Rows that one statement returns.
    Rows,
    /// Bytes of Arrow data that one statement returns.
    Bytes,
}

/// Whose quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaOf {
    /// One user's.
    User(String),
    /// Each user's of a role.
    Role(Role),
}

/// Where a quota in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaSource {
    /// The user's own.
    User,
    /// Their role's.
    Role,
}

/// The same as the catalog keeps it: by incarnation of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    User(ScopeId),
    Role(Role),
}

/// The quotas that hold for one user; what is not here has no quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(BTreeMap<Quota, (u64, QuotaSource)>);

impl Quota {
    /// All of them.
    pub const ALL: &[Quota] = &[
        Quota::Queries,
        Quota::Sessions,
        Quota::Memory,
        Quota::StatementTime,
        Quota::Rows,
        Quota::Bytes,
    ];

    /// Its name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Quota::Queries => "queries",
            Quota::Sessions => "sessions",
            Quota::Memory => "memory",
            Quota::StatementTime => "statement_time",
            Quota::Rows => "rows",
            Quota::Bytes => "bytes",
        }
    }

    /// What its value counts; empty for things.
    pub fn unit(self) -> &'static str {
        match self {
            Quota::Queries | Quota::Sessions | Quota::Rows => "",
            Quota::Memory | Quota::Bytes => "bytes",
            Quota::StatementTime => "ms",
        }
    }

    /// The quota of that name.
    pub fn by_name(name: &str) -> Option<Quota> {
        Quota::ALL.iter().copied().find(|quota| quota.as_str() == name)
    }

    /// The code of its breach.
    pub fn breach(self) -> ErrorCode {
        match self {
            Quota::Queries => ErrorCode::QueryQuotaExceeded,
            Quota::Sessions => ErrorCode::SessionQuotaExceeded,
            Quota::Memory => ErrorCode::MemoryQuotaExceeded,
            Quota::StatementTime => ErrorCode::TimeQuotaExceeded,
            Quota::Rows => ErrorCode::RowQuotaExceeded,
            Quota::Bytes => ErrorCode::ByteQuotaExceeded,
        }
    }
}

impl QuotaSource {
    /// As SHOW QUOTAS shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            QuotaSource::User => "user",
            QuotaSource::Role => "role",
        }
    }
}

impl Quotas {
    /// The limit, if there is one.
    pub fn limit(&self, quota: Quota) -> Option<u64> {
        self.0.get(&quota).map(|(limit, _)| *limit)
    }

    /// All that hold, with where they come from.
    pub fn each(&self) -> impl Iterator<Item = (Quota, u64, QuotaSource)> + '_ {
        self.0.iter().map(|(quota, (limit, source))| (*quota, *limit, *source))
    }
}

impl Engine {
    /// SET QUOTA: a new limit of at least 1 each, or none.
    ///
    /// # Errors
    /// PERMISSION_DENIED (dba and up; of users and roles that are not above one's own), USER_NOT_FOUND, INVALID_ARGUMENT.
    pub async fn set_quotas(&self, by: &Principal, of: &QuotaOf, limits: &[(Quota, Option<u64>)]) -> Result<()> {
        by.require(Task::SetQuota)?;
        let limits: Vec<(Quota, Option<i64>)> = limits
            .iter()
            .map(|&(quota, limit)| match limit.map(i64::try_from) {
                None => Ok((quota, None)),
                Some(Ok(limit)) if limit > 0 => Ok((quota, Some(limit))),
                Some(_) => Err(Error::new(
                    ErrorCode::InvalidArgument,
                    format!(
                        "quota {} is from 1 to {}; DEFAULT takes it away",
                        quota.as_str(),
                        i64::MAX
                    ),
                )),
            })
            .collect::<Result<_>>()?;
        self.change(|change| {
            let (subject, role) = match of {
                QuotaOf::Role(role) => (Subject::Role(*role), *role),
                QuotaOf::User(user_id) => match find_user(&change.state, user_id)? {
                    Some(user) => (Subject::User(user.scope), user.role),
                    None => {
                        let message = format!("user {user_id} does not exist");
                        return Err(Error::new(ErrorCode::UserNotFound, message));
                    }
                },
            };
            by.require_role(role, &format!("a quota of role {} or its users", role.as_str()))?;
            for &(quota, limit) in &limits {
                change.set_quota(subject, of.name(), quota, limit)?;
            }
            Ok(())
        })
        .await
    }
}

impl QuotaOf {
    fn name(&self) -> &str {
        match self {
            QuotaOf::User(user_id) => user_id,
            QuotaOf::Role(role) => role.as_str(),
        }
    }
}

fn key(subject: Subject, name: &str, quota: Quota) -> [ArrayRef; 3] {
    let kind = match subject {
        Subject::User(_) => USER,
        Subject::Role(_) => ROLE,
    };
    [text(kind), text(name), text(quota.as_str())]
}

impl CatalogChange {
    fn set_quota(&mut self, subject: Subject, name: &str, quota: Quota, limit: Option<i64>) -> Result<()> {
        let key = key(subject, name, quota);
        let quotas = self.catalog.quotas.entry(subject).or_default();
        let Some(limit) = limit else {
            quotas.remove(&quota);
            if quotas.is_empty() {
                self.catalog.quotas.remove(&subject);
            }
            return self.remove(SystemTable::Quotas, &key);
        };
        quotas.insert(quota, limit.unsigned_abs());
        let scope = match subject {
            Subject::User(scope) => scope,
            Subject::Role(_) => ScopeId::GLOBAL,
        };
        let mut row: Vec<ArrayRef> = key.into();
        row.extend([
            Arc::new(Int64Array::from(vec![limit])) as ArrayRef,
            time(self.now_micros),
            Arc::new(UInt64Array::from(vec![scope.0])),
        ]);
        self.put(SystemTable::Quotas, &row)
    }

    /// Removes the quotas of a user.
    pub(crate) fn forget_user_quotas(&mut self, user_id: &str, scope: ScopeId) -> Result<()> {
        let subject = Subject::User(scope);
        for quota in self.catalog.quotas.remove(&subject).unwrap_or_default().into_keys() {
            self.remove(SystemTable::Quotas, &key(subject, user_id, quota))?;
        }
        Ok(())
    }
}

impl View {
    /// Whether anybody has a quota.
    pub fn has_quotas(&self) -> bool {
        !self.catalog().quotas.is_empty()
    }

    /// What holds for a user: their own quotas, and their role's where they have none of their own.
    pub fn quotas(&self, principal: &Principal) -> Quotas {
        let mut quotas = BTreeMap::new();
        let subjects = [
            (Subject::Role(principal.role), QuotaSource::Role),
            (Subject::User(principal.scope), QuotaSource::User),
        ];
        for (subject, source) in subjects {
            let limits = self.catalog().quotas.get(&subject).into_iter().flatten();
            quotas.extend(limits.map(|(quota, limit)| (*quota, (*limit, source))));
        }
        Quotas(quotas)
    }
}

/// Reads the quotas of a database into its catalog; a database from before there were any has no store for them yet.
pub(crate) fn load(state: &Arc<DbState<Catalog>>, catalog: &mut Catalog) -> Result<()> {
    if state.table(SystemTable::Quotas.store()).is_none() {
        return Ok(());
    }
    read_all(state, SystemTable::Quotas, |rows, row| {
        let name = rows.text("name", row)?;
        let subject = match rows.text("subject", row)? {
            USER => Subject::User(ScopeId(rows.number::<UInt64Type>("scope", row)?)),
            ROLE => Subject::Role(Role::parse(name).ok_or_else(|| rows.corrupt("name", name))?),
            other => return Err(rows.corrupt("subject", other)),
        };
        let quota = rows.text("quota", row)?;
        let quota = Quota::by_name(quota).ok_or_else(|| rows.corrupt("quota", quota))?;
        let limit = rows.number::<Int64Type>("value", row)?;
        let limit = u64::try_from(limit).map_err(|_| rows.corrupt("value", &limit.to_string()))?;
        catalog.quotas.entry(subject).or_default().insert(quota, limit);
        Ok(())
    })
}
