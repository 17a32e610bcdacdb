//! Errors for what is not there. Each names what is most like the wrong name, among what the principal may know of.

use kalamdb_core::{Engine, Error, ErrorCode, INFORMATION_SCHEMA, Principal, Result, TableName, View};

use crate::names::{distance, nearest_table, suggestion};
use crate::{information_schema, metadata, views};

/// TABLE_NOT_FOUND, worded alike for a table that is not there and for one that the principal may not know of; INVALID_STATEMENT for
/// one that can only be read.
pub(crate) fn table(view: &View, principal: &Principal, name: &TableName) -> Error {
    if name.namespace == INFORMATION_SCHEMA && information_schema::TABLES.contains(&name.table.as_str()) {
        return views::is_no_table(name);
    }
    let catalog = view.catalog();
    let visible = || {
        let tables = catalog.tables.values().filter(|table| principal.sees(table));
        let views = catalog.views.values().filter(|view| principal.sees_view(view, catalog));
        let stored = tables
            .map(|table| table.name.clone())
            .chain(views.map(|view| view.name.clone()));
        let described = information_schema::TABLES.iter();
        stored.chain(described.map(|table| TableName::new(INFORMATION_SCHEMA, *table)))
    };
    // A namespace is easily forgotten.
    let elsewhere = || {
        let others = visible().filter(|other| other.namespace != INFORMATION_SCHEMA);
        let alike = others.filter_map(|other| Some((distance(&name.table, &other.table)?, other)));
        alike.min().map(|(_, other)| other)
    };
    let alike = nearest_table(name, visible()).or_else(elsewhere);
    let mut error = Error::table_not_found(name);
    if let Some(other) = alike {
        error.message.push_str(&format!("; did you mean {other}?"));
    }
    error
}

/// NAMESPACE_NOT_FOUND.
pub(crate) fn namespace(view: &View, principal: &Principal, name: &str) -> Error {
    let visible = metadata::visible_namespaces(view, principal);
    let hint = suggestion(name, visible.iter().map(String::as_str));
    Error::new(
        ErrorCode::NamespaceNotFound,
        format!("namespace '{name}' does not exist{hint}"),
    )
}

/// The same error, with the nearest user if it says that there is no user `name`: the engine says so to those alone who may see
/// all of them.
///
/// # Errors
/// STORAGE_ERROR.
pub(crate) fn with_nearest_user(mut error: Error, engine: &Engine, view: &View, name: &str) -> Result<Error> {
    if error.code == ErrorCode::UserNotFound {
        let users = engine.user_ids(view)?;
        error
            .message
            .push_str(&suggestion(name, users.iter().map(String::as_str)));
    }
    Ok(error)
}
