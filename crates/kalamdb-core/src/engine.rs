//! The engine: an open store with its clock, and the views that statements read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::lock::{Mutex, MutexGuard};
use kalamdb_store::{
    CommitError, DbState, Durability, KeyEncoder, ScopeId, SeenSegments, Step, Store, StoreError, StoreId,
    StoreOptions, StoreStatistics, TableChange,
};

use crate::access::Principal;
use crate::append::{Appender, OnConflict};
use crate::catalog::{Catalog, Table};
use crate::change::Definitions;
use crate::clock::Clock;
use crate::error::{Error, ErrorCode, Result};
use crate::hot_limit::HeldWriters;
use crate::job_queue::Jobs;
use crate::job_rows;
use crate::key_range::{everything, range_of};
use crate::login::Logins;
use crate::maintenance::MaintenanceOptions;
use crate::movers::Movers;
use crate::mutate::Mutator;
use crate::outside_tokens::{OutsideIssuer, OutsideTokens};
use crate::rights::Action;
use crate::scan::{KeyConstraint, RowScan, ScanRequest};
use crate::scheduler::Wanted;
use crate::storage_finder::StorageFinder;
use crate::storages;
use crate::system_rows::{built_in_catalog, load_catalog};
use crate::time_mark::TimeMark;
use crate::token::TokenKeys;

/// How to open the engine.
#[derive(Clone)]
pub struct EngineOptions {
    /// Created if missing.
    pub data_dir: PathBuf,
    /// Whether acknowledged means fsynced.
    pub durability: Durability,
    /// `root`'s password at the first start; `None`: a random one is written to `<data-dir>/root-password`, mode 0600.
    pub root_password: Option<String>,
    /// Block cache, bytes.
    pub block_cache_bytes: usize,
    /// Indexes of open segments that stay in memory, bytes.
    pub segment_cache_bytes: usize,
    /// Write buffers, bytes.
    pub write_buffer_bytes: usize,
    /// What one statement's row-path writes may hold in memory, bytes.
    pub statement_write_limit_bytes: usize,
    /// How long a state of the database can be read after another took its place, milliseconds; 0: for ever.
    pub snapshot_life_ms: u64,
    /// A bearer token's life, seconds.
    pub token_life_seconds: u64,
    /// Whose tokens are taken beside our own.
    pub outside_issuer: Option<OutsideIssuer>,
    /// Flushes, compactions, and how far they may fall behind.
    pub maintenance: MaintenanceOptions,
}

/// Writers that count rows (`MAX_ROWS`) or met a conflict wait for each other by (store, scope), so that they do not conflict
/// again and again. Two that share one of these locks by chance wait needlessly, no more.
const TURNS: usize = 64;

/// The open database.
pub struct Engine {
    /// First, so that they end before anything that they use.
    movers: Option<Movers>,
    storage_finder: StorageFinder,
    jobs: Arc<Jobs>,
    held: Arc<HeldWriters>,
    wanted: Wanted,
    maintenance: MaintenanceOptions,
    data_dir: PathBuf,
    store: Arc<Store<Catalog>>,
    clock: Arc<dyn Clock>,
    /// The latest time that a view or commit was given, µs.
    latest_micros: AtomicI64,
    time_mark: TimeMark,
    definitions: Definitions,
    turns: Vec<Mutex<()>>,
    logins: Arc<Logins>,
    token_keys: TokenKeys,
    outside_tokens: Option<OutsideTokens>,
    token_life_seconds: u64,
    statement_write_limit_bytes: usize,
    snapshot_life_ms: u64,
}

/// What one statement reads: one state of the database, and a now taken after it.
#[derive(Clone)]
pub struct View {
    pub(crate) state: Arc<DbState<Catalog>>,
    pub(crate) logins: Arc<Logins>,
    /// What was read of it, all reads together.
    pub(crate) seen: SeenSegments,
    now_micros: i64,
}

impl Engine {
    /// Opens or creates the database; makes `root`, namespace `public` and storage `local` at the first start.
    ///
    /// # Errors
    /// STORAGE_ERROR with the store's words (directory in use, newer format, ...); INVALID_ARGUMENT for a root password that
    /// breaks the rules, at the first start.
    pub async fn open(options: EngineOptions, clock: Arc<dyn Clock>) -> Result<Arc<Engine>> {
        let store_options = StoreOptions {
            path: options.data_dir.clone(),
            durability: options.durability,
            block_cache_bytes: options.block_cache_bytes,
            segment_cache_bytes: options.segment_cache_bytes,
            write_buffer_bytes: options.write_buffer_bytes,
        };
        let store = Store::open(store_options, built_in_catalog(), load_catalog)?;
        let first_start = crate::first_start::prepare(&store, &options, clock.as_ref())?;
        // A later change of the working directory does not change where it is.
        let data_dir = options.data_dir.canonicalize().map_err(|error| {
            Error::new(
                ErrorCode::StorageError,
                format!(
                    "the data directory {} cannot be used: {error}",
                    options.data_dir.display()
                ),
            )
        })?;
        let known_jobs = job_rows::load(&store.state())?;
        let mut engine = Engine {
            movers: None,
            storage_finder: StorageFinder::start(&store)?,
            jobs: Arc::new(Jobs::new(clock.clone(), options.maintenance.job_history, known_jobs)),
            held: Arc::default(),
            wanted: Wanted::default(),
            data_dir,
            token_keys: TokenKeys::new(&first_start.token_secret),
            logins: Arc::new(Logins::new(clock.as_ref())?),
            latest_micros: AtomicI64::new(clock.now_micros()),
            time_mark: TimeMark::read(&store)?,
            definitions: Definitions::default(),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            outside_tokens: options.outside_issuer.map(OutsideTokens::new),
            token_life_seconds: options.token_life_seconds,
            statement_write_limit_bytes: options.statement_write_limit_bytes,
            snapshot_life_ms: options.snapshot_life_ms,
            maintenance: options.maintenance,
            store,
            clock,
        };
        engine.finish_first_start(first_start).await?;
        let Engine {
            store,
            clock,
            jobs,
            held,
            maintenance,
            ..
        } = &engine;
        let movers = Movers::start(maintenance.mover_threads.max(1), store, clock, jobs, held)?;
        engine.movers = Some(movers);
        Ok(Arc::new(engine))
    }

    /// The newest state, and the time.
    pub fn view(&self) -> View {
        // The state first: whatever was committed before a now must not be judged by an earlier one.
        let state = self.store.state();
        View {
            logins: self.logins.clone(),
            state,
            seen: SeenSegments::default(),
            now_micros: self.now_micros(),
        }
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Counters since it was opened.
    pub fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }

    /// Starts an INSERT.
    ///
    /// # Errors
    /// PERMISSION_DENIED; for SYSTEM tables INVALID_STATEMENT names the statement to use instead.
    pub fn append(
        self: &Arc<Self>,
        principal: &Principal,
        table: &Arc<Table>,
        on_conflict: OnConflict,
    ) -> Result<Appender> {
        let appender = Appender::into_table(self, principal, table, on_conflict)?;
        self.view().check_usable(table)?;
        Ok(appender)
    }

    /// Starts an UPDATE or DELETE of rows read in `view`.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn mutate(self: &Arc<Self>, view: &View, principal: &Principal, table: &Arc<Table>) -> Result<Mutator> {
        let mutator = Mutator::new(self, view, principal, table)?;
        view.check_usable(table)?;
        Ok(mutator)
    }

    /// Erases buckets of STREAM rows that have all expired; returns how many. Reads never see such rows in any case. Called now
    /// and then.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub async fn sweep_expired(&self) -> Result<u64> {
        crate::retention::sweep_expired(self).await
    }

    /// Ends reads of states that others took the place of longer than `snapshot_life_ms` ago, and lets go of what these states keep on
    /// disk, whether or not their readers ever read on: those meet SNAPSHOT_TOO_OLD. To be called every second or so.
    pub fn end_old_snapshots(&self) {
        let life_micros = match self.snapshot_life_ms {
            0 => None,
            life_ms => Some(i64::try_from(life_ms).unwrap_or(i64::MAX).saturating_mul(1000)),
        };
        let elapsed_micros = match mistake!(AgesFollowTheWallClock) {
            true => self.now_micros(),
            false => self.clock.elapsed_micros(),
        };
        let ended = self.store.end_old_snapshots(elapsed_micros, life_micros);
        if ended > 0 {
            tracing::warn!(
                snapshots = ended,
                "readers kept old states of the database for longer than snapshot_life; they are ended with SNAPSHOT_TOO_OLD"
            );
        }
    }

    /// The engine's time, µs: the clock's, but it never goes back.
    pub(crate) fn now_micros(&self) -> i64 {
        let now_micros = self.clock.now_micros();
        if mistake!(TimeGoesBack) {
            return now_micros;
        }
        self.latest_micros
            .fetch_max(now_micros, Ordering::SeqCst)
            .max(now_micros)
    }

    pub(crate) fn store(&self) -> &Arc<Store<Catalog>> {
        &self.store
    }

    /// A step that leaves the catalog as it is.
    pub(crate) async fn change_stores(&self, changes: Vec<TableChange>) -> std::result::Result<(), CommitError> {
        let step = Step {
            changes,
            removals: Vec::new(),
            puts: Vec::new(),
            meta: Vec::new(),
            catalog: None,
            now_micros: self.now_micros(),
        };
        self.store.step(step).await.map(|_| ())
    }

    pub(crate) fn time_mark(&self) -> &TimeMark {
        &self.time_mark
    }

    pub(crate) fn storage_finder(&self) -> &StorageFinder {
        &self.storage_finder
    }

    pub(crate) fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    pub(crate) fn held(&self) -> &Arc<HeldWriters> {
        &self.held
    }

    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    pub(crate) fn maintenance(&self) -> &MaintenanceOptions {
        &self.maintenance
    }

    /// Absolute.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    pub(crate) fn logins(&self) -> &Arc<Logins> {
        &self.logins
    }

    pub(crate) fn token_keys(&self) -> &TokenKeys {
        &self.token_keys
    }

    /// A token's life, seconds.
    pub fn token_life_seconds(&self) -> u64 {
        self.token_life_seconds
    }

    pub(crate) fn outside_tokens(&self) -> Option<&OutsideTokens> {
        self.outside_tokens.as_ref()
    }

    /// Bytes of one row of the table in memory, on average over hot rows or over those in segments, whichever are larger; 0 if
    /// nothing is known. For choosing how to read it, never to be shown.
    pub fn row_bytes(&self, view: &View, table: &Table) -> u64 {
        let hot = self.store().hot_usage(table.store);
        let hot_bytes = hot.bytes.checked_div(hot.rows).unwrap_or(0);
        hot_bytes.max(view.state.segment_row_bytes(table.store).unwrap_or(0))
    }

    pub(crate) fn statement_write_limit_bytes(&self) -> usize {
        self.statement_write_limit_bytes
    }

    /// Waits for the turn among the writers of (store, scope) that must not race each other.
    pub(crate) async fn turn(&self, store: StoreId, scope: ScopeId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (store, scope).hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).expect("less than the number of locks");
        self.turns[index].lock().await
    }
}

impl View {
    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        self.state.catalog()
    }

    /// The time that decides which STREAM rows are live, µs. Never before that of an earlier view.
    pub fn now_micros(&self) -> i64 {
        self.now_micros
    }

    /// Rows of the table in segments, of all users, deleted ones included: for choosing how to read it, never to be shown.
    pub fn segment_rows(&self, table: &Table) -> u64 {
        self.state.segment_rows(table.store)
    }

    /// Whether so many of them are the principal's, in a table where everyone has their own, and have one of these keys (`None`:
    /// any). This may be shown, by how the table is read.
    ///
    /// # Errors
    /// TABLE_NOT_FOUND (gone since), STORAGE_ERROR.
    pub fn has_segment_rows(
        &self,
        principal: &Principal,
        table: &Table,
        keys: Option<&[KeyConstraint]>,
        enough: u64,
    ) -> Result<bool> {
        let schema = &table.schema.stored;
        let ranges = match keys {
            None => vec![everything()],
            Some(constraints) => {
                let encoder = KeyEncoder::new(schema)?;
                let key_columns = table.schema.primary_key.len();
                let ranges = constraints
                    .iter()
                    .map(|constraint| range_of(&encoder, key_columns, constraint));
                ranges.filter_map(Result::transpose).collect::<Result<_>>()?
            }
        };
        let scope = table.kind.scope(principal);
        let rows = self.state.has_segment_rows(schema, table.store, scope, &ranges, enough);
        rows.map_err(Error::from)
    }

    /// Reads a stored table: the principal's rows of it, and of SYSTEM tables those that the role may see.
    ///
    /// # Errors
    /// PERMISSION_DENIED, TABLE_NOT_FOUND (gone since), STORAGE_ERROR.
    pub fn scan(&self, principal: &Principal, table: &Arc<Table>, request: ScanRequest) -> Result<RowScan> {
        principal.check(Action::Select, table)?;
        self.check_usable(table)?;
        RowScan::open(self, principal, table, request)
    }

    /// Refuses a table some of whose rows cannot be read: its storage could not be opened, or a segment is missing or damaged.
    pub(crate) fn check_usable(&self, table: &Table) -> Result<()> {
        // The others have no segments, whatever storage they name.
        if table.kind.flushes() {
            storages::check(&self.state, &table.name, &table.options.storage)?;
        }
        match self.state.check_segments(table.store) {
            // Whoever needs the rows says what became of the table.
            Ok(()) | Err(StoreError::Retired(_)) => Ok(()),
            Err(_) if mistake!(DamagedTablesAreServed) => Ok(()),
            Err(error) => Err(Error::in_table(error, table)),
        }
    }
}
