//! What all statements share of DataFusion: memory, spill directory, functions and rules. Built once, cloned per statement.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use chrono::DateTime;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::planner::{ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{self, TimezoneInfo};
use kalamdb_core::{Engine, Error, ErrorCode, Principal, Result, View};
use parking_lot::Mutex;

use crate::aggregates_otherwise::done_otherwise;
use crate::checked_sum::CheckedSum;
use crate::correlated_places::CorrelatedPlaces;
use crate::database::DatabaseOptions;
use crate::dependencies::before_relying;
use crate::diagnostics;
use crate::edge_reads::EdgeReads;
use crate::equal_projections::before_merging;
use crate::extension_types::ExtensionType;
use crate::filtered_columns::before_swapping;
use crate::functions;
use crate::guards::Guards;
use crate::interruption::Interruption;
use crate::intervals::IntervalOperators;
use crate::json_functions;
use crate::kept_aggregates::{KEEPING, Keeping};
use crate::kept_types::{CHOOSING_WITH_TEXTS, Choosing};
use crate::literals::TypedLiterals;
use crate::long_polls::{AskingWindows, LongPolls};
use crate::memory_share::{MemoryShare, MemoryShares};
use crate::more_functions;
use crate::named_types;
use crate::names::{CATALOG, DEFAULT_NAMESPACE};
use crate::null_lists::NullsInLists;
use crate::ordered_filters::OrderedFilters;
use crate::ordered_limits::OrderedLimits;
use crate::own_columns::OwnColumns;
use crate::pauses;
use crate::recursive_terms::RecursiveTerms;
use crate::session_zone::SessionZone;
use crate::single_distinct::of_kept_types;
use crate::sort_keys::SortKeys;
use crate::subquery_values::before_predicates;
use crate::text_comparisons::TextBesideBoolean;
use crate::time_units::TimesOfDay;
use crate::time_zones::UTC;
use crate::to_char;
use crate::types;

/// Partitions of a plan's parallel parts: as many as a small machine has cores. More would only split batches.
const TARGET_PARTITIONS: usize = 2;

/// How many users' function tables are kept ready. One takes some 100 KB; making one costs about 50 µs.
const PRINCIPALS_KEPT: usize = 64;

/// Bytes that a scan in key order reads ahead of who takes its rows: a few batches. DataFusion's own default is a gigabyte.
const ORDERED_READAHEAD_BYTES: usize = 16 << 20;

/// How many consumers an out-of-memory message names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// What all statements share.
pub(crate) struct Environment {
    runtime: Arc<RuntimeEnv>,
    base: SessionState,
    /// States with the functions of a principal, the most recently used last.
    by_principal: Mutex<VecDeque<(Principal, Arc<SessionState>)>>,
    types: Arc<dyn TypePlanner>,
    shares: MemoryShares,
}

impl Environment {
    /// # Errors
    /// STORAGE_ERROR when the spill directory cannot be made.
    pub(crate) fn new(options: &DatabaseOptions) -> Result<Self> {
        let cannot = |error: std::io::Error| {
            let message = format!(
                "cannot make the spill directory {}: {error}",
                options.spill_dir.display()
            );
            Error::new(ErrorCode::StorageError, message)
        };
        let mut only_ours = DirBuilder::new();
        only_ours
            .recursive(true)
            .mode(0o700)
            .create(&options.spill_dir)
            .map_err(cannot)?;
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_limit_bytes), CONSUMERS_NAMED);
        let disk =
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(diagnostics::from_datafusion)?;
        // DataFusion makes one of its own in there, as the process's mask has it.
        for directory in runtime.disk_manager.temp_dir_paths() {
            std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(cannot)?;
        }
        // No URL resolves, not even one of a local file: nothing in a statement reaches the server's files.
        runtime
            .deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())
            .map_err(diagnostics::from_datafusion)?;
        let mut base = SessionStateBuilder::new()
            .with_default_features()
            .with_file_formats(Vec::new())
            .with_table_factories(std::collections::HashMap::new())
            .with_config(configuration(options))
            .with_runtime_env(Arc::clone(&runtime))
            .with_analyzer_rules(pauses::of_analyzer(analyzer_rules()))
            .with_optimizer_rules(pauses::of_optimizer(optimizer_rules()))
            .with_physical_optimizer_rules(pauses::of_physical_optimizer(physical_rules()))
            .build();
        let planners: [Arc<dyn ExprPlanner>; 3] = [
            Arc::new(IntervalOperators),
            Arc::new(TimesOfDay),
            Arc::new(TextBesideBoolean),
        ];
        for planner in planners {
            base.register_expr_planner(planner)
                .map_err(diagnostics::from_datafusion)?;
        }
        json_functions::register(&mut base).map_err(diagnostics::from_datafusion)?;
        named_types::register(&mut base).map_err(diagnostics::from_datafusion)?;
        base.register_udaf(Arc::new(AggregateUDF::from(CheckedSum::new())))
            .map_err(diagnostics::from_datafusion)?;
        keep_extension_types(&mut base).map_err(diagnostics::from_datafusion)?;
        more_functions::register(&mut base).map_err(diagnostics::from_datafusion)?;
        to_char::register(&mut base).map_err(diagnostics::from_datafusion)?;
        Ok(Environment {
            runtime,
            base,
            by_principal: Mutex::new(VecDeque::new()),
            types: Arc::new(SqlTypes),
            shares: MemoryShares::default(),
        })
    }

    /// The state of one statement of `principal`: its functions, its time zone, the time of its view as NOW(), and when it must
    /// stop.
    pub(crate) fn state(
        &self,
        engine: &Arc<Engine>,
        principal: &Principal,
        view: &View,
        time_zone: &str,
        interruption: &Interruption,
    ) -> SessionState {
        let mut state = SessionState::clone(&self.of_principal(engine, principal));
        let mut props = ExecutionProps::new();
        props.query_execution_start_time = DateTime::from_timestamp_micros(view.now_micros());
        let options = state.config_mut().options_mut();
        if time_zone != UTC {
            options.execution.time_zone = Some(time_zone.to_owned());
        }
        options.extensions.insert(interruption.clone());
        props.config_options = Some(Arc::clone(state.config_options()));
        *state.execution_props_mut() = props;
        state
    }

    /// The SQL types that DataFusion does not know by itself.
    pub(crate) fn types(&self) -> &Arc<dyn TypePlanner> {
        &self.types
    }

    /// The accounts of users who have a quota of memory.
    pub(crate) fn shares(&self) -> &MemoryShares {
        &self.shares
    }

    /// The shared runtime with a memory account of one query's own, which counts against its user's share.
    pub(crate) fn query_runtime(&self, interruption: &Interruption) -> (Arc<RuntimeEnv>, Arc<QueryMemory>) {
        let memory = Arc::new(QueryMemory {
            shared: Arc::clone(&self.runtime.memory_pool),
            share: interruption.memory().cloned(),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        });
        let mut runtime = RuntimeEnv::clone(&self.runtime);
        runtime.memory_pool = Arc::clone(&memory) as Arc<dyn MemoryPool>;
        (Arc::new(runtime), memory)
    }

    fn of_principal(&self, engine: &Arc<Engine>, principal: &Principal) -> Arc<SessionState> {
        let mut kept = self.by_principal.lock();
        if let Some(index) = kept.iter().position(|(of, _)| of == principal)
            && let Some(entry) = kept.remove(index)
        {
            let state = Arc::clone(&entry.1);
            kept.push_back(entry);
            return state;
        }
        let context = SessionContext::new_with_state(self.base.clone());
        functions::register(&context, engine, principal);
        let state = Arc::new(context.state());
        if kept.len() >= PRINCIPALS_KEPT {
            kept.pop_front();
        }
        kept.push_back((principal.clone(), Arc::clone(&state)));
        state
    }
}

fn configuration(options: &DatabaseOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_NAMESPACE)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_batch_size(options.batch_rows)
        .with_target_partitions(TARGET_PARTITIONS);
    let all = config.options_mut();
    // NOW() and the like have their type from it when functions are registered, so that it is that of every session.
    all.execution.time_zone = Some(UTC.to_owned());
    // It takes a column for one that may be NULL by other rules than the plan does, and refuses `DISTINCT (n = 1) IS TRUE`.
    all.execution.skip_physical_aggregate_schema_check = true;
    all.sql_parser.enable_ident_normalization = true;
    all.sql_parser.collect_spans = true;
    // Strings leave as plain Utf8, which `planning` sees to: clients take views at half the rate.
    all.sql_parser.map_string_types_to_utf8view = false;
    all.execution.sort_pushdown_buffer_capacity = ORDERED_READAHEAD_BYTES;
    config
}

/// DataFusion's rules, with ours before type coercion, which would refuse or misread some literals, and after it, when all
/// types are known.
fn analyzer_rules() -> Vec<Arc<dyn datafusion::optimizer::analyzer::AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    let coercion = rules
        .iter()
        .position(|rule| rule.name() == "type_coercion")
        .unwrap_or(0);
    rules.insert(coercion, Arc::new(NullsInLists));
    rules.insert(coercion, Arc::new(TypedLiterals));
    rules.push(Arc::new(RecursiveTerms));
    rules.push(Arc::new(SessionZone));
    rules.push(Arc::new(Guards));
    rules.push(Arc::new(CorrelatedPlaces));
    rules
}

/// DataFusion's rules, with ours before those that would misread a plan, and that for windows when their functions are settled.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let rules = before_relying(before_merging(Optimizer::new().rules));
    let mut rules = of_kept_types(before_predicates(rules));
    rules.push(Arc::new(SortKeys));
    rules.push(Arc::new(AskingWindows));
    rules
}

/// DataFusion's rules, with ours for filters before any that asks for an order, and before those that move projections; that for MIN
/// and MAX while an aggregate is right above its scan; those that take an order through filters where it gives sorts to scans, then
/// ours for limits above what has an order now; and that for long polls when nothing changes any more.
///
/// Without those that move filters further down: no scan here takes them there, which has had its filters from the logical plan,
/// and they take a column for another of the same name below a join. Evidence: `FilterRemapper::try_remap` of
/// datafusion-physical-plan 55 `filter_pushdown.rs`.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = before_swapping(PhysicalOptimizer::new().rules);
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    let sorts = rules
        .iter()
        .position(|rule| rule.name() == "PushdownSort")
        .map_or(rules.len(), |at| at + 1);
    rules.insert(sorts, Arc::new(OrderedLimits::default()));
    rules.insert(sorts, Arc::new(EdgeReads::OfFilters));
    rules.insert(sorts, Arc::new(OrderedFilters));
    rules.insert(0, Arc::new(EdgeReads::OfScans));
    rules.insert(0, Arc::new(OwnColumns));
    rules.push(Arc::new(LongPolls));
    rules
}

/// Ours in the place of functions that would forget that a value is a UUID or JSON.
fn keep_extension_types(state: &mut SessionState) -> DataFusionResult<()> {
    for name in KEEPING {
        if let Some(keeping) = done_otherwise(&state.udaf(name)?, Keeping) {
            state.register_udaf(keeping)?;
        }
    }
    for name in CHOOSING_WITH_TEXTS {
        let choosing = Choosing::over(state.udf(name)?);
        state.register_udf(Arc::new(ScalarUDF::from(choosing)))?;
    }
    Ok(())
}

/// The types of casts that DataFusion does not know, or not as columns have them.
#[derive(Debug)]
struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        types::check_text(sql_type).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(match sql_type {
            // Before any rule sees the cast, a parameter would have a value of the type.
            ast::DataType::Array(_) => {
                types::check_lengths(sql_type).map_err(|error| DataFusionError::External(Box::new(error)))?;
                None
            }
            ast::DataType::Uuid => Some(ExtensionType::Uuid.field("")),
            ast::DataType::JSON | ast::DataType::JSONB => Some(ExtensionType::Json.field("")),
            // DataFusion would make a type of its own of each session's zone.
            ast::DataType::Timestamp(precision, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
                let unit = match precision {
                    Some(0) => TimeUnit::Second,
                    Some(3) => TimeUnit::Millisecond,
                    Some(6) => TimeUnit::Microsecond,
                    None | Some(9) => TimeUnit::Nanosecond,
                    Some(_) => return Ok(None),
                };
                let data_type = DataType::Timestamp(unit, Some(UTC.into()));
                Some(Arc::new(Field::new("", data_type, true)))
            }
            ast::DataType::Map(..)
            | ast::DataType::Blob(_)
            | ast::DataType::Binary(_)
            | ast::DataType::Varbinary(_)
            | ast::DataType::Bytes(_)
            | ast::DataType::Float(_)
            | ast::DataType::Float32
            | ast::DataType::Float64
            | ast::DataType::Int16
            | ast::DataType::Int32
            | ast::DataType::Int64
            | ast::DataType::UTinyInt
            | ast::DataType::USmallInt
            | ast::DataType::UBigInt
            | ast::DataType::UInt8
            | ast::DataType::UInt16
            | ast::DataType::UInt32
            | ast::DataType::UInt64
            | ast::DataType::Dec(_)
            | ast::DataType::CharacterVarying(None)
            | ast::DataType::CharVarying(None)
            | ast::DataType::Nvarchar(None)
            | ast::DataType::Clob(None)
            | ast::DataType::CharacterLargeObject(None)
            | ast::DataType::CharLargeObject(None)
            | ast::DataType::Date32
            | ast::DataType::Time(..)
            | ast::DataType::Interval { fields: Some(_), .. }
            | ast::DataType::Custom(..) => {
                let of_column =
                    types::from_sql(sql_type).map_err(|error| DataFusionError::External(Box::new(error)))?;
                let field = Field::new("", of_column.data_type, true).with_metadata(of_column.metadata);
                Some(Arc::new(field))
            }
            _ => None,
        })
    }
}

/// The shared pool, counting what one query holds.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    shared: Arc<dyn MemoryPool>,
    /// The user's, if they have a quota.
    share: Option<MemoryShare>,
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl QueryMemory {
    /// The most it held at once, bytes.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn took(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(held, Ordering::Relaxed);
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.shared.grow(reservation, additional);
        if let Some(share) = &self.share {
            share.take(additional);
        }
        self.took(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.shared.shrink(reservation, shrink);
        if let Some(share) = &self.share {
            share.give_back(shrink);
        }
        self.held.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        if let Some(share) = &self.share {
            share.try_take(additional)?;
        }
        if let Err(error) = self.shared.try_grow(reservation, additional) {
            if let Some(share) = &self.share {
                share.give_back(additional);
            }
            return Err(error);
        }
        self.took(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.shared.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.shared.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::testing::Fixture;

    #[test]
    fn what_spills_is_for_the_servers_user_alone() {
        let fixture = Fixture::new();
        let spill = fixture.data_dir().with_file_name("spill");
        let entries = std::fs::read_dir(&spill).expect("it is there");
        let inside: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
        assert!(!inside.is_empty());
        for directory in inside.iter().chain([&spill]) {
            let mode = std::fs::metadata(directory).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
        }
    }
}
