//! Runs statements about rights, and shows grants and quotas to those who may know of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use kalamdb_core::{
    Engine, Error, ErrorCode, Grant, GrantChange, GrantedOn, Principal, Privilege, QuotaOf, Result, TableName, Task,
    View,
};

use crate::database::Database;
use crate::definition::full_name;
use crate::execution::Completion;
use crate::missing;
use crate::names::placed;
use crate::queries::RunningQuery;
use crate::session::Session;
use crate::show;
use crate::statement::{Rights, UserName, WrittenObject, WrittenSubject};
use crate::views;

/// Runs a statement about rights; called on the query runtime.
///
/// # Errors
/// Those of the engine's calls, with the place of the name in the text and the nearest name.
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    statement: Rights,
    query: &RunningQuery,
) -> Result<Completion> {
    // Short: it ends before a cancellation is heard, so that its outcome is known.
    query.committing()?;
    let view = database.engine().view();
    let principal = database.principal(&view, session)?;
    let message = match statement {
        Rights::ChangeGrants {
            change,
            privileges,
            on,
            users,
        } => change_grants(database, session, &principal, &view, change, &privileges, &on, &users).await?,
        Rights::SetQuotas { of, limits } => {
            let (of, written) = match of {
                WrittenSubject::Role(role) => (QuotaOf::Role(role), None),
                WrittenSubject::User(user) => (QuotaOf::User(user.name.clone()), Some(user)),
            };
            let set = database.engine().set_quotas(&principal, &of, &limits).await;
            match (set, &written) {
                (Ok(()), _) => {}
                (Err(error), Some(user)) if error.code == ErrorCode::UserNotFound => {
                    return Err(unknown_user(database.engine(), &view, user)?);
                }
                (Err(error), _) => return Err(error),
            }
            match of {
                QuotaOf::User(name) => format!("quotas of user '{name}' changed"),
                QuotaOf::Role(role) => format!("quotas of role {} changed", role.as_str()),
            }
        }
    };
    Ok(Completion { rows: None, message })
}

#[expect(clippy::too_many_arguments, reason = "the parts of one statement and who runs it")]
async fn change_grants(
    database: &Arc<Database>,
    session: &Session,
    principal: &Principal,
    view: &View,
    change: GrantChange,
    privileges: &[Privilege],
    written: &WrittenObject,
    users: &[UserName],
) -> Result<String> {
    let (on, position) = match written {
        WrittenObject::Table(name) => {
            let full = full_name(session, name);
            if views::visible(view, principal, &full).is_some() {
                let reason = "which has no rights of its own; grant them on the tables that it reads";
                let message = format!("{full} is a view, {reason}");
                return Err(placed(Error::new(ErrorCode::InvalidStatement, message), name.position));
            }
            let table = show::find_table(session, principal, view, name)?;
            (GrantedOn::Table(table.name.clone()), name.position)
        }
        WrittenObject::Namespace(name, position) => (GrantedOn::Namespace(name.clone()), *position),
    };
    let user_ids: Vec<String> = users.iter().map(|user| user.name.clone()).collect();
    let engine = database.engine();
    let change_grants = engine.change_grants(principal, change, privileges, &on, &user_ids);
    let changed = match change_grants.await {
        Ok(changed) => changed,
        Err(error) if error.code == ErrorCode::UserNotFound => {
            for user in users {
                if engine.user(view, &user.name)?.is_none() {
                    return Err(unknown_user(engine, view, user)?);
                }
            }
            return Err(error);
        }
        Err(error) if error.code == ErrorCode::NamespaceNotFound => {
            return Err(placed(missing::namespace(view, principal, &on.to_string()), position));
        }
        Err(error) => return Err(placed(error, position)),
    };
    let privileges: Vec<&str> = privileges.iter().map(|privilege| privilege.as_str()).collect();
    let users: Vec<String> = user_ids.iter().map(|user| format!("'{user}'")).collect();
    let (privileges, users) = (privileges.join(", "), users.join(", "));
    Ok(match (change, changed) {
        (GrantChange::Give, 0) => format!("{users} had {privileges} on {on} already"),
        (GrantChange::Give, _) => format!("{privileges} on {on} granted to {users}"),
        (GrantChange::Take, 0) => format!("{users} had not been granted {privileges} on {on}"),
        (GrantChange::Take, _) => format!("{privileges} on {on} revoked from {users}"),
    })
}

/// USER_NOT_FOUND with the nearest name, for those who may know of all users.
pub(crate) fn unknown_user(engine: &Engine, view: &View, user: &UserName) -> Result<Error> {
    let message = format!("user {} does not exist", user.name);
    let error = Error::new(ErrorCode::UserNotFound, message);
    let error = missing::with_nearest_user(error, engine, view, &user.name)?;
    Ok(placed(error, user.position))
}

/// The columns of SHOW GRANTS.
pub(crate) fn grant_columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("user_id", DataType::Utf8),
        ("privilege", DataType::Utf8),
        ("object_type", DataType::Utf8),
        ("object_name", DataType::Utf8),
        ("granted_by", DataType::Utf8),
        (
            "created_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ),
    ]
}

/// The rows of SHOW GRANTS.
pub(crate) fn grants(
    schema: SchemaRef,
    database: &Database,
    principal: &Principal,
    view: &View,
    user: Option<&UserName>,
) -> Result<RecordBatch> {
    let of = user
        .map(|user| known_user(database, principal, view, user, Task::ShowGrants))
        .transpose()?;
    let mut grants = view.grants(principal)?;
    if let Some(of) = of {
        grants.retain(|grant| grant.user_id == of.user_id);
    }
    let text =
        |value: fn(&Grant) -> String| Arc::new(StringArray::from_iter_values(grants.iter().map(value))) as ArrayRef;
    let times: TimestampMicrosecondArray = grants.iter().map(|grant| Some(grant.created_at_micros)).collect();
    show::batch(
        schema,
        vec![
            text(|grant| grant.user_id.clone()),
            text(|grant| grant.privilege.as_str().to_owned()),
            text(|grant| {
                let kind = match grant.on {
                    GrantedOn::Table(_) => "TABLE",
                    GrantedOn::Namespace(_) => "NAMESPACE",
                };
                kind.to_owned()
            }),
            text(|grant| grant.on.to_string()),
            text(|grant| grant.granted_by.clone()),
            Arc::new(times.with_timezone("UTC")),
        ],
    )
}

/// The grants on tables that `principal` may know of, as `information_schema.table_privileges` has them.
///
/// # Errors
/// STORAGE_ERROR.
pub(crate) fn table_privileges(view: &View, principal: &Principal) -> Result<Vec<(TableName, Grant)>> {
    let on_tables = view.grants(principal)?.into_iter().filter_map(|grant| match &grant.on {
        GrantedOn::Table(name) => Some((name.clone(), grant)),
        GrantedOn::Namespace(_) => None,
    });
    Ok(on_tables.collect())
}

/// The columns of SHOW QUOTAS.
pub(crate) fn quota_columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("user_id", DataType::Utf8),
        ("quota", DataType::Utf8),
        ("value", DataType::Int64),
        ("unit", DataType::Utf8),
        ("source", DataType::Utf8),
    ]
}

/// The rows of SHOW QUOTAS: those that hold for the user, or for whoever asks.
pub(crate) fn quotas(
    schema: SchemaRef,
    database: &Database,
    principal: &Principal,
    view: &View,
    user: Option<&UserName>,
) -> Result<RecordBatch> {
    let of = match user {
        Some(user) => known_user(database, principal, view, user, Task::ShowQuotas)?,
        None => principal.clone(),
    };
    let quotas = view.quotas(&of);
    let rows: Vec<_> = quotas.each().collect();
    let values: Int64Array = rows.iter().map(|(_, limit, _)| i64::try_from(*limit).ok()).collect();
    let units: StringArray = rows
        .iter()
        .map(|(quota, ..)| Some(quota.unit()).filter(|unit| !unit.is_empty()))
        .collect();
    show::batch(
        schema,
        vec![
            Arc::new(StringArray::from(vec![of.user_id.as_str(); rows.len()])) as ArrayRef,
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|(quota, ..)| quota.as_str()),
            )),
            Arc::new(values),
            Arc::new(units),
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|(.., source)| source.as_str()),
            )),
        ],
    )
}

/// The user of a SHOW … FOR: oneself, or anyone for those who may do this.
fn known_user(
    database: &Database,
    principal: &Principal,
    view: &View,
    user: &UserName,
    task: Task,
) -> Result<Principal> {
    if user.name == principal.user_id {
        return Ok(principal.clone());
    }
    principal.require(task).map_err(|error| placed(error, user.position))?;
    match database.engine().user(view, &user.name)? {
        Some(found) => Ok(found.principal),
        None => Err(unknown_user(database.engine(), view, user)?),
    }
}
