//! The tables of schema `system`: their columns, and which of them are stored rows. Who sees which rows is in
//! `system_filter`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use kalamdb_store::{ColumnId, Lifetime, SchemaVersion, StoreId};

use crate::access::AccessLevel;
use crate::catalog::{Table, TableName};
use crate::options::TableOptions;
use crate::schema::{Column, TableSchema};
use crate::table_kind::TableKind;

/// The schema's name.
pub const SYSTEM_NAMESPACE: &str = "system";
/// The namespace of the standard's metadata tables, which the crate above makes from the catalog.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// The store ids of SYSTEM tables are fixed and taken from the far end, which the persisted counter never reaches.
pub(crate) const FIRST_SYSTEM_STORE: u32 = u32::MAX - 255;

/// The tables of schema `system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemTable {
    /// Stored.
    Users,
    /// Stored.
    Namespaces,
    /// Stored.
    Tables,
    /// Stored.
    TableSchemas,
    /// Stored.
    Storages,
    /// The running server, which keeps the last ones in a store.
    Jobs,
    /// Stored.
    LiveQueries,
    /// The running server.
    Sessions,
    /// The running server.
    Queries,
    /// The running server.
    Transactions,
    /// The running server.
    Segments,
    /// The running server.
    Settings,
    /// Stored.
    Grants,
    /// Stored.
    Quotas,
}

impl SystemTable {
    /// All of them.
    pub const ALL: &[SystemTable] = &[
        SystemTable::Users,
        SystemTable::Namespaces,
        SystemTable::Tables,
        SystemTable::TableSchemas,
        SystemTable::Storages,
        SystemTable::Jobs,
        SystemTable::LiveQueries,
        SystemTable::Sessions,
        SystemTable::Queries,
        SystemTable::Transactions,
        SystemTable::Segments,
        SystemTable::Settings,
        SystemTable::Grants,
        SystemTable::Quotas,
    ];

    /// Its name in schema `system`.
    pub fn name(self) -> &'static str {
        match self {
            SystemTable::Users => "users",
            SystemTable::Namespaces => "namespaces",
            SystemTable::Tables => "tables",
            SystemTable::TableSchemas => "table_schemas",
            SystemTable::Storages => "storages",
            SystemTable::Jobs => "jobs",
            SystemTable::LiveQueries => "live_queries",
            SystemTable::Sessions => "sessions",
            SystemTable::Queries => "queries",
            SystemTable::Transactions => "transactions",
            SystemTable::Segments => "segments",
            SystemTable::Settings => "settings",
            SystemTable::Grants => "grants",
            SystemTable::Quotas => "quotas",
        }
    }

    /// The table of that name.
    pub fn by_name(name: &str) -> Option<SystemTable> {
        SystemTable::ALL.iter().copied().find(|table| table.name() == name)
    }

    /// Whether its rows are stored (read them with [`crate::View::scan`]) or made from the running server by the crate above.
    pub fn is_stored(self) -> bool {
        match self {
            SystemTable::Users
            | SystemTable::Namespaces
            | SystemTable::Tables
            | SystemTable::TableSchemas
            | SystemTable::Storages
            | SystemTable::LiveQueries
            | SystemTable::Grants
            | SystemTable::Quotas => true,
            SystemTable::Jobs
            | SystemTable::Sessions
            | SystemTable::Queries
            | SystemTable::Transactions
            | SystemTable::Segments
            | SystemTable::Settings => false,
        }
    }

    /// Whether it has a store: rows of jobs are kept in one, but read from memory, which knows how far each is.
    pub(crate) fn has_store(self) -> bool {
        self.is_stored() || self == SystemTable::Jobs
    }
}

impl SystemTable {
    /// Which of them `table` is.
    pub fn of(table: &Table) -> Option<SystemTable> {
        match table.kind {
            TableKind::System => SystemTable::by_name(&table.name.table),
            TableKind::Shared | TableKind::User | TableKind::Stream => None,
        }
    }

    /// Its place in the store. Part of the format: never changes, and a retired number is not given again.
    pub(crate) fn store(self) -> StoreId {
        let offset = match self {
            SystemTable::Users => 0,
            SystemTable::Namespaces => 1,
            SystemTable::Tables => 2,
            SystemTable::TableSchemas => 3,
            SystemTable::Storages => 4,
            SystemTable::Jobs => 5,
            SystemTable::LiveQueries => 6,
            SystemTable::Sessions => 7,
            SystemTable::Queries => 8,
            SystemTable::Transactions => 9,
            SystemTable::Segments => 10,
            SystemTable::Settings => 11,
            SystemTable::Grants => 12,
            SystemTable::Quotas => 13,
        };
        StoreId(FIRST_SYSTEM_STORE + offset)
    }

    /// The statements that change what the table shows, for whoever tries to write it.
    pub(crate) fn statements(self) -> &'static str {
        match self {
            SystemTable::Users => "CREATE USER, ALTER USER or DROP USER",
            SystemTable::Namespaces => "CREATE NAMESPACE or DROP NAMESPACE",
            SystemTable::Tables | SystemTable::TableSchemas => "CREATE TABLE, DROP TABLE, CREATE VIEW or DROP VIEW",
            SystemTable::Storages => "CREATE STORAGE or DROP STORAGE",
            SystemTable::Jobs => "FLUSH TABLE, STORAGE COMPACT TABLE, STORAGE CHECK TABLE or KILL JOB",
            SystemTable::LiveQueries => "SUBSCRIBE TO",
            SystemTable::Sessions => "KILL SESSION",
            SystemTable::Queries => "KILL QUERY",
            SystemTable::Transactions => "BEGIN, COMMIT or ROLLBACK",
            SystemTable::Segments => "FLUSH TABLE or STORAGE COMPACT TABLE",
            SystemTable::Settings => "the configuration file, an environment variable or a flag of `kalamdb serve`",
            SystemTable::Grants => "GRANT or REVOKE",
            SystemTable::Quotas => "ALTER USER … SET QUOTA or ALTER ROLE … SET QUOTA",
        }
    }

    /// Its columns in order; internal ones come last.
    pub(crate) fn columns(self) -> Vec<Column> {
        let specs: Vec<Spec> = match self {
            SystemTable::Users => vec![
                text("user_id"),
                text("username"),
                text("role").null(),
                time("created_at").null(),
                time("updated_at").null(),
                time("locked_until").null(),
                Spec::new("scope", DataType::UInt64).internal(),
                text("password_hash").null().internal(),
                Spec::new("credential_version", DataType::UInt64).internal(),
            ],
            SystemTable::Namespaces => vec![
                text("namespace_id"),
                text("description").null(),
                text("options").null(),
                count("table_count"),
                time("created_at"),
                time("updated_at"),
            ],
            SystemTable::Tables => vec![
                text("table_id"),
                text("namespace_id"),
                text("table_name"),
                text("table_type"),
                count("schema_version"),
                text("access_level").null(),
                text("storage_id").null(),
                text("options"),
                time("created_at"),
                time("updated_at"),
                Spec::new("store", DataType::UInt32).internal(),
                Spec::new("next_column_id", DataType::UInt32).internal(),
                text("checked_options").internal(),
            ],
            SystemTable::TableSchemas => vec![
                text("table_id"),
                count("version"),
                text("change"),
                text("columns"),
                time("created_at"),
                Spec::new("types", DataType::Binary).internal(),
            ],
            SystemTable::Storages => vec![
                text("storage_id"),
                text("storage_type"),
                text("uri"),
                count("usage_count"),
                time("created_at"),
                time("updated_at"),
            ],
            SystemTable::Jobs => vec![
                text("job_id"),
                text("job_type"),
                text("table_id").null(),
                text("status"),
                Spec::new("progress", DataType::Float64).null(),
                count("rows").null(),
                count("bytes").null(),
                text("error").null(),
                time("created_at"),
                time("started_at").null(),
                time("finished_at").null(),
            ],
            SystemTable::LiveQueries => vec![
                text("live_id"),
                text("session_id"),
                text("user_id"),
                text("query"),
                count("changes"),
                time("created_at"),
            ],
            SystemTable::Sessions => vec![
                text("session_id"),
                text("user_id"),
                text("peer").null(),
                text("client").null(),
                time("created_at"),
                time("last_active_at"),
            ],
            SystemTable::Queries => vec![
                text("query_id"),
                text("session_id").null(),
                text("user_id"),
                text("executed_as"),
                text("statement"),
                text("status"),
                Spec::new("plan_ms", DataType::Float64).null(),
                Spec::new("execute_ms", DataType::Float64).null(),
                count("rows").null(),
                count("bytes").null(),
                count("peak_memory_bytes").null(),
                text("error_code").null(),
                time("started_at"),
                time("finished_at").null(),
            ],
            SystemTable::Transactions => vec![
                text("transaction_id"),
                text("session_id"),
                text("user_id"),
                time("started_at").null(),
                count("writes"),
            ],
            SystemTable::Segments => vec![
                text("segment_id"),
                text("table_id"),
                text("path"),
                count("run"),
                count("rows"),
                count("deleted_rows"),
                count("size_bytes"),
                Spec::new("min_seq", DataType::UInt64).null(),
                Spec::new("max_seq", DataType::UInt64).null(),
                text("checksum").null(),
                time("created_at"),
            ],
            SystemTable::Settings => vec![
                text("name"),
                text("value").null(),
                text("unit").null(),
                text("default").null(),
                text("source"),
                text("description"),
            ],
            SystemTable::Grants => vec![
                text("object_type"),
                text("object_id"),
                text("user_id"),
                text("privilege"),
                text("granted_by"),
                time("created_at"),
                Spec::new("scope", DataType::UInt64).internal(),
            ],
            SystemTable::Quotas => vec![
                text("subject"),
                text("name"),
                text("quota"),
                count("value"),
                time("updated_at"),
                Spec::new("scope", DataType::UInt64).internal(),
            ],
        };
        specs
            .into_iter()
            .zip(1..)
            .map(|(spec, id)| spec.column(ColumnId(id)))
            .collect()
    }

    /// Its primary key.
    fn primary_key(self) -> &'static [usize] {
        match self {
            SystemTable::TableSchemas => &[0, 1],
            SystemTable::Grants => &[0, 1, 2, 3],
            SystemTable::Quotas => &[0, 1, 2],
            SystemTable::Users
            | SystemTable::Namespaces
            | SystemTable::Tables
            | SystemTable::Storages
            | SystemTable::Jobs
            | SystemTable::LiveQueries
            | SystemTable::Sessions
            | SystemTable::Queries
            | SystemTable::Transactions
            | SystemTable::Segments
            | SystemTable::Settings => &[0],
        }
    }

    /// Its entry in the catalog.
    pub(crate) fn table(self) -> Arc<Table> {
        let columns = self.columns();
        let next_column_id = u32::try_from(columns.len()).expect("a system table has few columns") + 1;
        let schema = TableSchema::new(
            SchemaVersion(1),
            columns,
            self.primary_key().to_vec(),
            Lifetime::Durable,
        );
        Arc::new(Table {
            table_id: format!("{SYSTEM_NAMESPACE}.{}", self.name()),
            name: TableName::new(SYSTEM_NAMESPACE, self.name()),
            kind: TableKind::System,
            store: self.store(),
            schema: Arc::new(schema),
            next_column_id,
            options: TableOptions {
                access_level: AccessLevel::Public,
                flush_policy: None,
                ttl_seconds: None,
                max_rows: None,
                storage: String::new(),
                compression: String::new(),
            },
            created_at_micros: 0,
            updated_at_micros: 0,
        })
    }
}

/// A column under construction.
struct Spec {
    name: &'static str,
    data_type: DataType,
    nullable: bool,
    internal: bool,
}

impl Spec {
    fn new(name: &'static str, data_type: DataType) -> Self {
        Spec {
            name,
            data_type,
            nullable: false,
            internal: false,
        }
    }

    fn null(self) -> Self {
        Spec { nullable: true, ..self }
    }

    fn internal(self) -> Self {
        Spec { internal: true, ..self }
    }

    fn column(self, id: ColumnId) -> Column {
        Column {
            id,
            name: self.name.to_owned(),
            data_type: self.data_type,
            nullable: self.nullable,
            default: None,
            metadata: HashMap::new(),
            internal: self.internal,
        }
    }
}

fn text(name: &'static str) -> Spec {
    Spec::new(name, DataType::Utf8)
}

fn count(name: &'static str) -> Spec {
    Spec::new(name, DataType::Int64)
}

fn time(name: &'static str) -> Spec {
    Spec::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_columns_do_not_show_and_come_last() {
        for &system in SystemTable::ALL {
            let table = system.table();
            let visible = table.schema.arrow.fields().len();
            for (index, column) in table.schema.columns.iter().enumerate() {
                assert_eq!(column.internal, index >= visible, "{} {}", table.name, column.name);
            }
            assert_eq!(SystemTable::of(&table), Some(system));
        }
    }

    /// What the document says of the format, and never changes.
    #[test]
    fn the_document_draws_every_table_that_has_a_store() {
        let document = include_str!("../../../docs/format.md");
        let type_of = |data_type: &DataType| match data_type {
            DataType::Timestamp(..) => "time".to_owned(),
            other => other.to_string(),
        };
        for &system in SystemTable::ALL.iter().filter(|system| system.has_store()) {
            let table = system.table();
            let columns = &table.schema.columns;
            let drawn: Vec<String> = columns
                .iter()
                .map(|column| {
                    let null = if column.nullable { "?" } else { "" };
                    format!("{} `{}` {}{null}", column.id.0, column.name, type_of(&column.data_type))
                })
                .collect();
            let key = &table.schema.primary_key;
            let key: Vec<String> = key.iter().map(|&index| format!("`{}`", columns[index].name)).collect();
            let line = format!(
                "| {} | `{}` | {} | {} |",
                table.store,
                system.name(),
                key.join(", "),
                drawn.join(", ")
            );
            assert!(document.contains(&line), "docs/format.md lacks: {line}");
        }
    }

    #[test]
    fn no_visible_column_holds_a_secret() {
        for &system in SystemTable::ALL {
            for field in system.table().schema.arrow.fields() {
                assert!(
                    !field.name().contains("password") && !field.name().contains("hash"),
                    "{field}"
                );
            }
        }
    }
}
