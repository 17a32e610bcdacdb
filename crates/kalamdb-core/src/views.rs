//! Views: queries under a name. Core keeps them and says who may know of them; what the text means is for the crate above.

use std::collections::HashSet;
use std::sync::Arc;

use kalamdb_store::{ColumnId, Counter, Lifetime, SchemaVersion};

use crate::access::Principal;
use crate::catalog::{Catalog, TableName};
use crate::change::CatalogChange;
use crate::define::{CreateMode, check_name, check_namespace};
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::rights::Task;
use crate::schema::{Column, TableSchema};
use crate::system_rows::{SchemaChange, schema_versions, text, view_row, view_schema_row};
use crate::system_schema::{INFORMATION_SCHEMA, SystemTable};

/// A view. It has no rights of its own: whoever reads it reads its tables.
#[derive(Clone, Debug)]
pub struct StoredView {
    /// For ever; of the same count as the ids of tables.
    pub view_id: String,
    /// Its name, which no table of the namespace has.
    pub name: TableName,
    /// What it stands for.
    pub definition: ViewDefinition,
    /// Its columns as they were when it was made.
    pub schema: Arc<TableSchema>,
    /// When, µs.
    pub created_at_micros: i64,
    /// When last changed, µs.
    pub updated_at_micros: i64,
}

/// What a view stands for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ViewDefinition {
    /// The query, as written.
    pub query: String,
    /// Where names without a namespace are looked up in it.
    pub namespace: String,
    /// For each column of the view the name of the query's column.
    pub outputs: Vec<String>,
    /// The tables and views that the query names.
    pub reads: Vec<TableName>,
}

/// A view to create.
#[derive(Clone, Debug)]
pub struct NewView {
    /// Its name; the namespace must exist.
    pub name: TableName,
    /// What it stands for.
    pub definition: ViewDefinition,
    /// `id` is ignored.
    pub columns: Vec<Column>,
}

impl Engine {
    /// CREATE VIEW; false if it existed and was left as it is. That the query is one is for the caller to see to.
    ///
    /// # Errors
    /// ALREADY_EXISTS, also for a table of that name; INVALID_STATEMENT for one that reads itself, through others or not;
    /// NAMESPACE_NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (names).
    pub async fn create_view(&self, principal: &Principal, new: NewView, mode: CreateMode) -> Result<bool> {
        principal.require(Task::CreateView)?;
        check_new_view(&new)?;
        let view_id = self.next_number(Counter::Table)?.to_string();
        self.change(move |change| {
            let NewView {
                name,
                definition,
                columns,
            } = new;
            check_namespace(&name.namespace, &change.catalog)?;
            if change.catalog.table(&name).is_some() {
                return Err(Error::new(
                    ErrorCode::AlreadyExists,
                    format!("{name} exists already, as a table"),
                ));
            }
            let replaces = change.catalog.view(&name).cloned();
            match (mode, &replaces) {
                (CreateMode::New, Some(_)) => {
                    return Err(Error::new(
                        ErrorCode::AlreadyExists,
                        format!("view {name} exists already"),
                    ));
                }
                (CreateMode::IfNotExists, Some(_)) => return Ok(false),
                (CreateMode::New | CreateMode::IfNotExists, None) | (CreateMode::OrReplace, _) => {}
            }
            // Whoever planned it saw an earlier catalog.
            check_cycle(&name, &definition, &change.catalog)?;
            let version = replaces.as_ref().map_or(1, |old| old.schema.version.0 + 1);
            let columns = columns.into_iter().zip(1..).map(|(column, id)| Column {
                id: ColumnId(id),
                internal: false,
                ..column
            });
            let schema = TableSchema::new(SchemaVersion(version), columns.collect(), Vec::new(), Lifetime::Durable);
            let (what, view_id, created_at_micros) = match replaces {
                Some(old) => (SchemaChange::ReplaceView, old.view_id.clone(), old.created_at_micros),
                None => (SchemaChange::CreateView, view_id, change.now_micros),
            };
            let view = StoredView {
                view_id,
                name: name.clone(),
                definition,
                schema: Arc::new(schema),
                created_at_micros,
                updated_at_micros: change.now_micros,
            };
            change.put(SystemTable::Tables, &view_row(&view))?;
            change.put(SystemTable::TableSchemas, &view_schema_row(&view, what))?;
            change.catalog.views.insert(name, Arc::new(view));
            Ok(true)
        })
        .await
    }

    /// DROP VIEW; false if it did not exist and `if_exists`.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub async fn drop_view(&self, principal: &Principal, name: &TableName, if_exists: bool) -> Result<bool> {
        principal.require(Task::DropView)?;
        self.change(|change| {
            let Some(view) = change.catalog.view(name).cloned() else {
                return if if_exists {
                    Ok(false)
                } else {
                    Err(Error::new(
                        ErrorCode::TableNotFound,
                        format!("view {name} does not exist"),
                    ))
                };
            };
            remove_view(change, &view)?;
            Ok(true)
        })
        .await
    }
}

impl Principal {
    /// Whether the view shows in this principal's metadata: they see everything that it reads. Of what is not there any more
    /// nothing says who saw it, so that such a view is for those who may make it anew.
    pub fn sees_view(&self, view: &StoredView, catalog: &Catalog) -> bool {
        let may_mend = self.require(Task::CreateView).is_ok();
        let mut seen: HashSet<&TableName> = HashSet::from([&view.name]);
        let mut open = vec![view];
        while let Some(view) = open.pop() {
            for name in &view.definition.reads {
                match (catalog.table(name), catalog.view(name)) {
                    (Some(table), _) if !self.sees(table) => return false,
                    (Some(_), _) => {}
                    (None, Some(inner)) => {
                        if seen.insert(&inner.name) {
                            open.push(inner);
                        }
                    }
                    // Its rows are those that whoever asks may know of.
                    (None, None) if name.namespace == INFORMATION_SCHEMA => {}
                    (None, None) if !may_mend => return false,
                    (None, None) => {}
                }
            }
        }
        true
    }
}

/// Removes a view from the catalog, and its rows of SYSTEM tables.
pub(crate) fn remove_view(change: &mut CatalogChange, view: &StoredView) -> Result<()> {
    change.catalog.views.remove(&view.name);
    for version in schema_versions(&change.state, &view.view_id)? {
        change.remove(SystemTable::TableSchemas, &[text(&view.view_id), version])?;
    }
    change.remove(SystemTable::Tables, &[text(&view.view_id)])
}

/// Refuses a view that reads itself through those that are there.
fn check_cycle(name: &TableName, definition: &ViewDefinition, catalog: &Catalog) -> Result<()> {
    if mistake!(ViewsReadThemselves) {
        return Ok(());
    }
    // Each with the views that lead to it.
    let mut open = vec![(definition, vec![name])];
    let mut seen = HashSet::new();
    while let Some((definition, way)) = open.pop() {
        for read in &definition.reads {
            if read == name {
                let way: Vec<String> = way.iter().map(|name| format!("{name} →")).collect();
                let message = format!("view {name} reads itself: {} {name}", way.join(" "));
                return Err(Error::new(ErrorCode::InvalidStatement, message));
            }
            if let Some(view) = catalog.view(read)
                && seen.insert(read)
            {
                let way = way.iter().copied().chain([read]).collect();
                open.push((&view.definition, way));
            }
        }
    }
    Ok(())
}

fn check_new_view(new: &NewView) -> Result<()> {
    check_name("view", &new.name.table)?;
    let mut names = HashSet::new();
    for column in &new.columns {
        check_name("column", &column.name)?;
        if !names.insert(column.name.as_str()) {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("view {} has two columns named {}", new.name, column.name),
            ));
        }
    }
    Ok(())
}
