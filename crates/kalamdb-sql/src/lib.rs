//! Turns one SQL text into one statement, then into a stream of Arrow batches or a count.
//!
//! DataFusion plans every read; writes go to the handlers of `kalamdb-core`. The doors (gRPC, HTTP, tests) call [`Database`]
//! and nothing below it. Every statement runs on the query runtime; results cross to the caller over a bounded channel.
//!
//! Invariants:
//! 1. Rights and scope come from the session's principal, read anew for each statement.
//! 2. A statement reads one view of the database; a write is planned and run exactly once.
//! 3. No SQL reaches the server's files, runtime or settings of the host.
//! 4. Describing and explaining execute nothing.

mod administration;
mod aggregate_places;
mod ambiguous_outer;
mod assignment;
mod batch_memory;
mod batch_rows;
mod checked_sum;
mod common_types;
mod constant_memory;
mod constants;
mod correlated_columns;
mod correlated_places;
mod database;
mod definition;
mod dependencies;
mod diagnostics;
mod dml;
mod edge_reads;
mod environment;
mod equal_projections;
mod exact_numbers;
mod execute_as;
mod execution;
mod extension_types;
mod far_bins;
mod far_times;
mod float_order;
mod formatted_times;
mod function_arguments;
mod function_clauses;
mod function_columns;
mod functions;
mod grouping_forms;
mod grouping_sets;
mod growth;
mod guards;
mod identifiers;
mod information_schema;
mod ingest;
mod insert;
mod interruption;
mod interval_extremes;
mod interval_text;
mod intervals;
mod json_functions;
mod json_paths;
mod kept_aggregates;
mod kept_types;
mod key_groups;
mod key_order;
mod key_range;
mod lateral_unnest;
mod literal_columns;
mod literals;
mod login_queue;
mod long_polls;
mod memberships;
mod memory_share;
mod merged_columns;
mod metadata;
mod missing;
mod mixed_numbers;
mod more_functions;
mod named_types;
mod named_windows;
mod names;
mod null_lists;
mod one_row_subqueries;
mod operations;
mod operators;
mod ordered_filters;
mod ordered_limits;
mod ordinals;
mod parameters;
mod pattern_operators;
mod patterns;
mod pauses;
mod plan_expressions;
mod plan_length;
mod plan_names;
mod plan_size;
mod planned;
mod planning;
mod provider;
mod pruning;
mod qualifiers;
mod quantified;
mod queries;
mod recomputed;
mod recursive_terms;
mod relations;
mod repeated_names;
mod replaced_columns;
mod result_names;
mod returning;
mod rights;
mod row_comparisons;
mod rows_in_queries;
mod run;
mod runtimes;
mod scan_exec;
mod secrets;
mod session;
mod session_zone;
mod set_operations;
mod shifted_rows;
mod show;
mod single_distinct;
mod single_value;
mod sort_keys;
mod statement;
mod statement_text;
mod struct_fields;
mod subquery_values;
mod system_columns;
mod system_tables;
mod text_comparisons;
mod time_units;
mod time_zones;
mod to_char;
mod told_casts;
mod tree;
mod types;
mod united_types;
mod values;
mod values_of_times;
mod views;
mod window_frames;
mod write_memory;
mod written_columns;
mod written_wildcards;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use assignment::exactly;
pub use batch_memory::BatchMemory;
pub use database::{Database, DatabaseOptions, Setting};
pub use execution::{Completion, Execution, Report, RowStream};
pub use ingest::{IfExists, IfNotExists, IngestRequest};
pub use metadata::{TableFilter, TableInfo};
pub use parameters::Parameters;
pub use planning::{Description, StatementKind};
pub use runtimes::Runtimes;
pub use session::{Session, SessionOrigin, SessionValue};
pub use statement::{split, statement_ranges};
