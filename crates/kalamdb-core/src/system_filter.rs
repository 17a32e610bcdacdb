//! Who sees which rows of SYSTEM tables, and what is blanked in them. Stored tables and those that show the running server
//! follow the same rules here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::zip::zip;

use crate::access::{Principal, Role};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorCode, Result};
use crate::system_schema::SystemTable;

/// One principal's view of one SYSTEM table.
#[derive(Clone, Debug)]
pub struct SystemRowFilter {
    rule: Rule,
    mask: Mask,
}

/// Which rows remain.
#[derive(Clone, Debug)]
enum Rule {
    Everything,
    Nothing,
    /// Those whose column `user_id` is this.
    Own(String),
    /// Those whose text column is among these values; NULL is about no table and remains.
    Among(&'static str, HashSet<String>),
}

/// What changes in the rows that remain.
#[derive(Clone, Debug)]
enum Mask {
    Nothing,
    /// In other users' rows all but `user_id` and `username` is NULL.
    OtherUsers(String),
    /// `table_count` counts the tables that the principal may read, by namespace.
    TableCounts(HashMap<String, i64>),
}

impl SystemRowFilter {
    /// What `principal` sees of `table`; `catalog` says which tables they may read.
    pub fn new(table: SystemTable, principal: &Principal, catalog: &Catalog) -> Self {
        let plain = |rule| SystemRowFilter {
            rule,
            mask: Mask::Nothing,
        };
        let own = || Rule::Own(principal.user_id.clone());
        match principal.role {
            Role::Dba | Role::System => return plain(Rule::Everything),
            Role::User | Role::Service => {}
        }
        let is_service = principal.role >= Role::Service;
        let readable = catalog.tables.values().filter(|table| principal.sees(table));
        let views = || catalog.views.values().filter(|view| principal.sees_view(view, catalog));
        match table {
            SystemTable::Users if is_service => SystemRowFilter {
                rule: Rule::Everything,
                mask: Mask::OtherUsers(principal.user_id.clone()),
            },
            SystemTable::Users
            | SystemTable::LiveQueries
            | SystemTable::Sessions
            | SystemTable::Queries
            | SystemTable::Transactions
            | SystemTable::Grants => plain(own()),
            SystemTable::Namespaces => {
                let mut counts = HashMap::new();
                for table in readable {
                    *counts.entry(table.name.namespace.clone()).or_insert(0) += 1;
                }
                for view in views() {
                    counts.entry(view.name.namespace.clone()).or_insert(0);
                }
                let granted = principal.grants.namespaces().iter();
                let names = counts.keys().chain(granted).cloned().collect();
                SystemRowFilter {
                    rule: Rule::Among("namespace_id", names),
                    mask: Mask::TableCounts(counts),
                }
            }
            SystemTable::Tables | SystemTable::TableSchemas => {
                let tables = readable.map(|table| table.table_id.clone());
                let views = views().map(|view| view.view_id.clone());
                plain(Rule::Among("table_id", tables.chain(views).collect()))
            }
            SystemTable::Jobs | SystemTable::Segments if is_service => plain(Rule::Among(
                "table_id",
                readable.map(|table| table.table_id.clone()).collect(),
            )),
            SystemTable::Jobs
            | SystemTable::Segments
            | SystemTable::Storages
            | SystemTable::Settings
            | SystemTable::Quotas => plain(Rule::Nothing),
        }
    }

    /// Whether rows pass as they are.
    pub(crate) fn passes_everything(&self) -> bool {
        matches!((&self.rule, &self.mask), (Rule::Everything, Mask::Nothing))
    }

    /// The only user whose rows pass, if the rule is that.
    pub(crate) fn only_user(&self) -> Option<&str> {
        match &self.rule {
            Rule::Own(user_id) => Some(user_id),
            Rule::Everything | Rule::Nothing | Rule::Among(..) => None,
        }
    }

    /// The rows of `batch` that the principal sees, as they see them. The batch has all SQL-visible columns of the table, by
    /// name; others may follow and stay as they are.
    ///
    /// # Errors
    /// INTERNAL if a column is missing.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let kept = match &self.rule {
            Rule::Everything => batch.clone(),
            Rule::Nothing => batch.slice(0, 0),
            Rule::Own(user_id) => {
                let own = matching(text_column(batch, "user_id")?, |value| value == Some(user_id));
                filter_record_batch(batch, &own).map_err(internal)?
            }
            Rule::Among(column, values) => {
                let among = matching(text_column(batch, column)?, |value| {
                    value.is_none_or(|value| values.contains(value))
                });
                filter_record_batch(batch, &among).map_err(internal)?
            }
        };
        match &self.mask {
            Mask::Nothing => Ok(kept),
            Mask::OtherUsers(user_id) => {
                let own = matching(text_column(&kept, "user_id")?, |value| value == Some(user_id));
                map_columns(&kept, |name, column| match name {
                    "user_id" | "username" => Ok(column.clone()),
                    _ => {
                        let blank = new_null_array(column.data_type(), column.len());
                        zip(&own, column, &blank).map_err(internal)
                    }
                })
            }
            Mask::TableCounts(counts) => {
                let names = text_column(&kept, "namespace_id")?.clone();
                map_columns(&kept, |name, column| match name {
                    "table_count" => {
                        let names = names.as_string::<i32>().iter();
                        let counted: Int64Array = names
                            .map(|name| name.and_then(|name| counts.get(name)).copied().or(Some(0)))
                            .collect();
                        Ok(Arc::new(counted) as ArrayRef)
                    }
                    _ => Ok(column.clone()),
                })
            }
        }
    }
}

/// The batch with its nullable or counted columns replaced; the schema stays.
fn map_columns(batch: &RecordBatch, map: impl Fn(&str, &ArrayRef) -> Result<ArrayRef>) -> Result<RecordBatch> {
    let schema = batch.schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if field.name().starts_with('_') {
                Ok(column.clone())
            } else {
                map(field.name(), column)
            }
        })
        .collect::<Result<_>>()?;
    RecordBatch::try_new(schema, columns).map_err(internal)
}

fn matching(column: &ArrayRef, test: impl Fn(Option<&str>) -> bool) -> BooleanArray {
    column
        .as_string::<i32>()
        .iter()
        .map(|value| Some(test(value)))
        .collect()
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    match batch.column_by_name(name) {
        Some(column) if column.as_string_opt::<i32>().is_some() => Ok(column),
        Some(_) | None => Err(Error::new(
            ErrorCode::Internal,
            format!("rows of a system table lack the text column {name}"),
        )),
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("rows of a system table cannot be filtered: {error}"),
    )
}
