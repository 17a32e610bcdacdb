//! What the data means: tables, who may touch them, and the handlers that write rows.
//!
//! Nothing here names RocksDB or SQL. Calls that read or encode are CPU and disk work for the query runtime; only waiting
//! for a commit is asynchronous.
//!
//! Invariants:
//! 1. The scope of a row comes from a [`Principal`] and is part of the key range that a scan opens; no argument can widen it.
//! 2. Every statement reads one [`View`] and commits with one request: all of it or nothing.
//! 3. The differences between the four table types are in `table_kind` alone.
//! 4. Time and randomness come from the [`Clock`].
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use arrow::array::RecordBatch;
//! # use kalamdb_core::{Engine, EngineOptions, OnConflict, Result, ScanField, ScanOrder, ScanRequest};
//! # use kalamdb_core::{SystemClock, TableName};
//! # async fn example(options: EngineOptions, rows: RecordBatch) -> Result<()> {
//! let engine = Engine::open(options, Arc::new(SystemClock)).await?;
//! let principal = engine.authenticate("anna", "a password of hers", "10.0.0.7:4711")?.principal;
//! let view = engine.view();
//! if let Some(table) = view.catalog().table(&TableName::new("chat", "messages")) {
//!     let mut appender = engine.append(&principal, table, OnConflict::Error)?;
//!     appender.push(&rows)?;
//!     appender.finish().await?;
//!
//!     let fields = vec![ScanField::Column(0), ScanField::Seq];
//!     let (key, order, prune) = (None, ScanOrder::Any, None);
//!     let request = ScanRequest { fields, key, limit: Some(10), part: (0, 1), order, prune, batch_rows: 8192 };
//!     let mut scan = engine.view().scan(&principal, table, request)?;
//!     while let Some(batch) = scan.next_batch()? {
//!         println!("{} rows of {}", batch.num_rows(), principal.user_id);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod mistakes;

mod access;
#[cfg(test)]
mod access_document;
mod append;
mod catalog;
mod change;
mod clock;
mod define;
mod engine;
mod error;
mod first_start;
mod grants;
mod hot_limit;
mod job_queue;
mod job_rows;
mod jobs;
mod key_names;
mod key_range;
mod login;
mod maintenance;
mod max_rows;
mod movers;
mod mutate;
mod options;
mod outside_tokens;
mod password;
mod priority;
mod quotas;
mod refused_writes;
mod retention;
mod rights;
mod row_buffer;
mod row_check;
mod scan;
#[cfg(test)]
mod scenarios;
mod scheduler;
mod schema;
mod segments;
mod storage_finder;
mod storages;
mod system_filter;
mod system_rows;
mod system_schema;
mod table_kind;
#[cfg(test)]
mod testing;
mod time_mark;
mod token;
mod type_name;
mod users;
mod views;

pub use access::{AccessLevel, Principal, Role};
pub use append::{Appender, OnConflict, PreparedRows};
pub use catalog::{Catalog, Namespace, StorageEntry, Table, TableName};
pub use clock::{Clock, DrivenClock, SystemClock};
pub use define::{CreateMode, MOST_NAME_BYTES, NewTable};
pub use engine::{Engine, EngineOptions, View};
pub use error::{Bug, Error, ErrorCode, Position, Result};
pub use grants::{Grant, GrantChange, GrantedOn, Grants};
pub use jobs::{JobKind, JobReport, JobSnapshot, JobStatus, SegmentProblem};
pub use kalamdb_store::{Bounds, ColumnId, Durability, Prune, ScanCounters, ScanOrder, StoreStatistics};
pub use login::{Attempt, Busy, Login};
pub use maintenance::MaintenanceOptions;
pub use mutate::{Mutator, PreparedChange};
pub use options::{FlushPolicy, TableOptions};
pub use outside_tokens::OutsideIssuer;
pub use priority::give_way;
pub use quotas::{Quota, QuotaOf, QuotaSource, Quotas};
pub use rights::{Action, Object, Privilege, Task, grantable, least_role, may_act_as};
pub use scan::{KeyConstraint, RowScan, ScanField, ScanRequest};
pub use schema::{Column, TableSchema};
pub use segments::SegmentInfo;
pub use storages::NewStorage;
pub use system_filter::SystemRowFilter;
pub use system_schema::{INFORMATION_SCHEMA, SYSTEM_NAMESPACE, SystemTable};
pub use table_kind::TableKind;
pub use token::Claims;
pub use type_name::field_type_name;
pub use users::{NewUser, PasswordChange, UserChange, UserRecord};
pub use views::{NewView, StoredView, ViewDefinition};
