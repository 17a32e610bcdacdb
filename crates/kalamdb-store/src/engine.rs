//! RocksDB: how it is opened, its column families and its one way to write. What is written is not here.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind,
    LogLevel, Options, WriteBatch, WriteBufferManager, WriteOptions,
    statistics::{StatsLevel, Ticker},
};

use crate::damage::Damages;
use crate::damaged_files::DamagedFiles;
use crate::error::StoreError;
use crate::files::Files;
use crate::format::{self, Directory, FORMAT_VERSION};
use crate::ids::{Epoch, StoreId};
use crate::key;
use crate::last_use::Untold;
use crate::left_files::LeftFiles;
use crate::log_damage;
use crate::meta;
use crate::opened::OpenSegments;
use crate::rebuild;
use crate::schema::Lifetime;
use crate::snapshots::Snapshots;
use crate::store::{Durability, StoreOptions};
use crate::trouble::Trouble;
use crate::tuning;

const META: &str = "meta";
const HOT: &str = "hot";
const STREAM: &str = "stream";
/// Deletion vectors of segments.
const DELETION_VECTORS: &str = "dv";

/// The open RocksDB and the lock of its directory.
pub(crate) struct Engine {
    // Fields are dropped in this order: the lock is given up when RocksDB is closed.
    db: DB,
    /// Its UUID.
    database: String,
    durability: Durability,
    /// RocksDB's sequence number up to which the log is synced for certain; what other threads write beside a sync may be behind.
    synced: AtomicU64,
    files: Arc<Files>,
    untold: Untold,
    left_files: LeftFiles,
    opened: OpenSegments,
    damages: Damages,
    snapshots: Snapshots,
    trouble: Trouble,
    damaged_files: DamagedFiles,
    /// Of all column families.
    cache: Cache,
    cache_bytes: usize,
    /// Holds the statistics.
    common: Options,
    log_syncs_at_open: u64,
    directory: Directory,
    #[cfg(test)]
    fault: parking_lot::Mutex<Option<Fault>>,
    #[cfg(test)]
    moments: parking_lot::Mutex<HashMap<&'static str, Meanwhile>>,
}

/// What a test does at a moment.
#[cfg(test)]
type Meanwhile = Box<dyn FnOnce() + Send>;

/// What a test makes the next writes do.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next write is refused before it happens.
    Refuse,
    /// The next write fails while it is synced.
    Sync,
    /// Every write fails while it is synced, until the fault is taken away.
    SyncForEver,
    /// The next write is in the log although its sync fails: a restart finds it.
    SyncTooLate,
}

/// Why a batch was not written, or is not known to have been.
#[derive(Clone, Debug)]
pub(crate) enum WriteError {
    /// Nothing happened.
    Refused(String),
    /// It may be in the log.
    Unknown(String),
    /// The same, because of a file that RocksDB cannot read: it names it.
    Damaged(String),
}

/// The first record of `meta`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct FormatRecord {
    format: u32,
    /// A UUID; names the database in backups and file names.
    database: String,
}

impl Engine {
    pub(crate) fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let directory = Directory::open(&options.path)?;
        crate::crash::point("open-directory");
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let mut common = common_options(options);
        let damaged_files = DamagedFiles::open(directory.path())?;
        common.set_disable_auto_compactions(damaged_files.any());
        let files = Arc::new(Files::new());
        // Before recovery, which drops what it cannot read and deletes the logs.
        log_damage::check(&directory.rocksdb(), || {
            let families = families(&common, &cache);
            DB::open_cf_descriptors_read_only(&common, directory.rocksdb(), families, false)
                .map(|db| db.latest_sequence_number())
                .map_err(|error| storage(&error))
        })?;
        let families = families(&common, &cache);
        let mut db =
            DB::open_cf_descriptors(&common, directory.rocksdb(), families).map_err(|error| storage(&error))?;
        rebuild::finish(
            directory.path(),
            &mut db,
            &[HOT, STREAM],
            &rows_options(&common, &cache),
        )?;
        let mut engine = Self {
            db,
            database: String::new(),
            durability: options.durability,
            synced: AtomicU64::new(0),
            opened: OpenSegments::new(files.clone(), options.segment_cache_bytes),
            files,
            untold: Untold::default(),
            left_files: LeftFiles::default(),
            damages: Damages::default(),
            snapshots: Snapshots::default(),
            trouble: Trouble::default(),
            damaged_files,
            cache,
            cache_bytes: options.block_cache_bytes,
            log_syncs_at_open: common.get_ticker_count(Ticker::WalFileSynced),
            common,
            directory,
            #[cfg(test)]
            fault: parking_lot::Mutex::new(None),
            #[cfg(test)]
            moments: parking_lot::Mutex::default(),
        };
        crate::crash::point("open-rocksdb");
        engine.damaged_files.look_again(&engine.db, &engine.all_families())?;
        engine.database = engine.check_format()?;
        Ok(engine)
    }

    /// Leaves files of RocksDB behind that are damaged, if no row is in them that is needed: one of these stores and epochs. Called
    /// before anything is read.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub(crate) fn leave_damaged_files(
        &mut self,
        live: impl IntoIterator<Item = (StoreId, Lifetime, Vec<Epoch>)>,
    ) -> Result<(), StoreError> {
        let damaged = self.damaged_files.families(&self.db)?;
        if damaged.is_empty() || mistake!(DamagedFilesStay) {
            return Ok(());
        }
        let mut ranges: HashMap<Lifetime, Vec<Range<Vec<u8>>>> = HashMap::new();
        for (store, lifetime, epochs) in live {
            let of_epoch = |epoch: Epoch| {
                let prefix = key::epoch_prefix(store, epoch).to_vec();
                // The last store's last epoch has nothing after it.
                let end = key::successor(&prefix).unwrap_or_else(|| vec![u8::MAX; 2 * key::PREFIX_BYTES]);
                prefix..end
            };
            ranges
                .entry(lifetime)
                .or_default()
                .extend(epochs.into_iter().map(of_epoch));
        }
        let options = rows_options(&self.common, &self.cache);
        let directory = self.directory.path().to_path_buf();
        let mut left = Vec::new();
        for (name, lifetime) in [(HOT, Lifetime::Durable), (STREAM, Lifetime::Expiring)] {
            let mut ranges = ranges.remove(&lifetime).unwrap_or_default();
            ranges.sort_by(|a, b| a.start.cmp(&b.start));
            let family = (name, self.family(name));
            if damaged.contains(name) {
                left.extend(rebuild::write_rows(&directory, &self.db, family, &options, &ranges)?);
            }
        }
        if left.is_empty() || !rebuild::decide(&directory, &left)? {
            return Ok(());
        }
        if !rebuild::finish(&directory, &mut self.db, &[HOT, STREAM], &options)? {
            return Ok(());
        }
        tracing::info!("rows were written anew without a damaged file of RocksDB, which no row that is left needs");
        self.damaged_files.look_again(&self.db, &self.all_families())
    }

    /// Whether RocksDB merges nothing, because a file of it is damaged.
    pub(crate) fn has_damaged_files(&self) -> bool {
        self.damaged_files.any()
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Syncs of the log since the store was opened, as RocksDB counts them.
    pub(crate) fn log_syncs(&self) -> u64 {
        self.common.get_ticker_count(Ticker::WalFileSynced) - self.log_syncs_at_open
    }

    /// The directory of the default storage.
    pub(crate) fn segments(&self) -> PathBuf {
        self.directory.segments()
    }

    /// Where files of segments are. Storages are added when it is known what is in them.
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Storages that are still to be told that they are used.
    pub(crate) fn untold(&self) -> &Untold {
        &self.untold
    }

    /// What could not be erased yet.
    pub(crate) fn left_files(&self) -> &LeftFiles {
        &self.left_files
    }

    /// Segments that were opened lately.
    pub(crate) fn opened(&self) -> &OpenSegments {
        &self.opened
    }

    /// Those of all segments.
    pub(crate) fn damages(&self) -> &Damages {
        &self.damages
    }

    /// Those that are held.
    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// What is known of writes that fail.
    pub(crate) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Where RocksDB's files are.
    pub(crate) fn rocksdb(&self) -> PathBuf {
        self.directory.rocksdb()
    }

    pub(crate) fn deletion_vectors(&self) -> &ColumnFamily {
        self.family(DELETION_VECTORS)
    }

    pub(crate) fn meta(&self) -> &ColumnFamily {
        self.family(META)
    }

    pub(crate) fn hot(&self) -> &ColumnFamily {
        self.family(HOT)
    }

    pub(crate) fn stream(&self) -> &ColumnFamily {
        self.family(STREAM)
    }

    /// Where rows of this lifetime are.
    pub(crate) fn rows(&self, lifetime: Lifetime) -> &ColumnFamily {
        match lifetime {
            Lifetime::Durable => self.hot(),
            Lifetime::Expiring => self.stream(),
        }
    }

    fn all_families(&self) -> [(&'static str, &ColumnFamily); 5] {
        ["default", META, HOT, STREAM, DELETION_VECTORS].map(|name| (name, self.family(name)))
    }

    /// RocksDB's error of a read or a write as ours. A damaged file that it names is noted.
    pub(crate) fn error(&self, error: &rocksdb::Error) -> StoreError {
        if error.kind() == ErrorKind::Corruption {
            self.damaged_files.note(&self.db, &self.all_families(), error.as_ref());
        }
        storage(error)
    }

    /// Has blocks read from their files again that are in memory now. Everybody's: there is one cache.
    pub(crate) fn forget_blocks(&self) {
        let mut cache = self.cache.clone();
        cache.set_capacity(0);
        cache.set_capacity(self.cache_bytes);
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db
            .cf_handle(name)
            .expect("every column family is opened with the database and none is dropped")
    }

    /// Writes a batch and syncs the log as the store's durability says.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), WriteError> {
        self.write_with(
            batch,
            self.durability == Durability::Synced && !mistake!(CommitsAreNotSynced),
        )
    }

    /// Writes a batch and syncs the log.
    pub(crate) fn write_synced(&self, batch: WriteBatch) -> Result<(), WriteError> {
        self.write_with(batch, true)
    }

    /// Writes a batch that may be lost in a power failure, because start-up would do its work again.
    pub(crate) fn write_unsynced(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.db.write(batch).map_err(|error| {
            self.trouble.note(error.as_ref());
            self.error(&error)
        })
    }

    fn write_with(&self, batch: WriteBatch, sync: bool) -> Result<(), WriteError> {
        let written = self.try_write(batch, sync);
        if let Err(WriteError::Unknown(message) | WriteError::Damaged(message)) = &written {
            self.trouble.note(message);
        }
        written
    }

    fn try_write(&self, mut batch: WriteBatch, sync: bool) -> Result<(), WriteError> {
        #[cfg(test)]
        let too_late = self.fail()?;
        // Writes of other threads may come before these changes, so they end here at the earliest.
        let end = self.db.latest_sequence_number() + batch.len() as u64;
        batch.put_log_data(log_damage::mark(self.synced.load(Ordering::SeqCst)));
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|error| match error.kind() {
            ErrorKind::NotSupported
            | ErrorKind::InvalidArgument
            | ErrorKind::ShutdownInProgress
            | ErrorKind::Busy
            | ErrorKind::TryAgain
            | ErrorKind::ColumnFamilyDropped => WriteError::Refused(error.to_string()),
            ErrorKind::Corruption => {
                self.damaged_files.note(&self.db, &self.all_families(), error.as_ref());
                WriteError::Damaged(error.to_string())
            }
            ErrorKind::NotFound
            | ErrorKind::IOError
            | ErrorKind::MergeInProgress
            | ErrorKind::Incomplete
            | ErrorKind::TimedOut
            | ErrorKind::Aborted
            | ErrorKind::Expired
            | ErrorKind::CompactionTooLarge
            | ErrorKind::Unknown => WriteError::Unknown(error.to_string()),
        })?;
        #[cfg(test)]
        if too_late {
            return Err(WriteError::Unknown("a test fails this sync".to_string()));
        }
        if sync {
            self.synced.fetch_max(end, Ordering::SeqCst);
            crate::crash::synced(|| self.directory.rocksdb());
        }
        Ok(())
    }

    /// Whether the write is to fail after it has happened.
    #[cfg(test)]
    fn fail(&self) -> Result<bool, WriteError> {
        let mut fault = self.fault.lock();
        match *fault {
            None => Ok(false),
            Some(Fault::SyncTooLate) => {
                *fault = None;
                Ok(true)
            }
            Some(Fault::Refuse) => {
                *fault = None;
                Err(WriteError::Refused("a test refuses this write".to_string()))
            }
            Some(Fault::Sync) => {
                *fault = None;
                Err(WriteError::Unknown("a test fails this sync".to_string()))
            }
            Some(Fault::SyncForEver) => Err(WriteError::Unknown("a test fails every sync".to_string())),
        }
    }

    #[cfg(test)]
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock() = fault;
    }

    /// A moment of which tests make use, once: they do something just then.
    #[inline]
    pub(crate) fn moment(&self, name: &str) {
        #[cfg(test)]
        {
            let meanwhile = self.moments.lock().remove(name);
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
        }
        // Otherwise there is nothing to do.
        #[cfg(not(test))]
        let _ = name;
    }

    #[cfg(test)]
    pub(crate) fn at(&self, moment: &'static str, meanwhile: impl FnOnce() + Send + 'static) {
        self.moments.lock().insert(moment, Box::new(meanwhile));
    }

    /// Checks the record in `meta`, or writes it into a new database.
    fn check_format(&self) -> Result<String, StoreError> {
        let corrupt = |problem: String| StoreError::Corrupt {
            object: format!("the format record of {}", self.directory.path().display()),
            problem,
        };
        if let Some(record) = self
            .db
            .get_cf(self.meta(), meta::FORMAT)
            .map_err(|error| storage(&error))?
        {
            let record: FormatRecord = serde_json::from_slice(&record).map_err(|error| corrupt(error.to_string()))?;
            format::check_version(self.directory.path(), record.format)?;
            return Ok(record.database);
        }
        let mut records = self.db.raw_iterator_cf(self.meta());
        records.seek_to_first();
        if records.valid() {
            return Err(corrupt("it is missing, but the database is not empty".to_string()));
        }
        records.status().map_err(|error| storage(&error))?;
        drop(records);
        self.directory.refuse_lost_rows()?;
        let identity = self.db.get_db_identity().map_err(|error| storage(&error))?;
        let record = FormatRecord {
            format: FORMAT_VERSION,
            database: String::from_utf8_lossy(&identity).trim().to_string(),
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| corrupt(error.to_string()))?;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.meta(), meta::FORMAT, bytes);
        self.write_synced(batch)?;
        Ok(record.database)
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(message) | WriteError::Unknown(message) => Self::Storage(message),
            WriteError::Damaged(problem) => Self::Corrupt {
                object: FILES.to_string(),
                problem,
            },
        }
    }
}

/// What is damaged if RocksDB says that something is.
pub(crate) const FILES: &str = "RocksDB's files";

/// RocksDB's error as ours.
pub(crate) fn storage(error: &rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corrupt {
            object: FILES.to_string(),
            problem: error.to_string(),
        },
        _ => StoreError::Storage(error.to_string()),
    }
}

fn common_options(store: &StoreOptions) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A batch changes several column families; without this, recovery after a flush of one of them could lose the others' part.
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    // The log's end may be torn by a crash, and everything before it counts: a synced record is never behind an unsynced one. That it
    // is torn and not damaged is checked before. An older log that vanished or is too short is found because the manifest keeps track
    // of logs that are complete.
    options.set_wal_recovery_mode(match mistake!(TornLogsAreRefused) {
        true => DBRecoveryMode::AbsoluteConsistency,
        false => DBRecoveryMode::PointInTime,
    });
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
        store.write_buffer_bytes,
        false,
    ));
    options.set_write_buffer_size((store.write_buffer_bytes / 2).max(1 << 20));
    options.set_max_total_wal_size(tuning::WAL_BUFFERS * store.write_buffer_bytes as u64);
    options.set_max_background_jobs(tuning::BACKGROUND_JOBS);
    options.set_max_open_files(tuning::MAX_OPEN_FILES);
    options.set_max_manifest_file_size(tuning::MANIFEST_BYTES);
    options.set_bytes_per_sync(tuning::BYTES_PER_SYNC);
    options.set_keep_log_file_num(tuning::INFO_LOGS);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Counts only: how often the log was synced.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

fn families(common: &Options, cache: &Cache) -> [ColumnFamilyDescriptor; 5] {
    [
        ColumnFamilyDescriptor::new("default", table_options(common, cache)),
        ColumnFamilyDescriptor::new(META, table_options(common, cache)),
        ColumnFamilyDescriptor::new(HOT, rows_options(common, cache)),
        ColumnFamilyDescriptor::new(STREAM, rows_options(common, cache)),
        ColumnFamilyDescriptor::new(DELETION_VECTORS, rows_options(common, cache)),
    ]
}

fn table_options(common: &Options, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(tuning::BLOCK_BYTES);
    table.set_ribbon_filter(tuning::FILTER_BITS);
    table.set_optimize_filters_for_memory(true);
    table.set_whole_key_filtering(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = common.clone();
    options.set_block_based_table_factory(&table);
    options
}

fn rows_options(common: &Options, cache: &Cache) -> Options {
    let mut options = table_options(common, cache);
    options.set_memtable_whole_key_filtering(true);
    // A scan steps over each deletion in its range: files full of them are compacted first.
    options.add_compact_on_deletion_collector_factory(tuning::DELETION_WINDOW, tuning::DELETIONS_IN_WINDOW, 0.5);
    options.set_memtable_prefix_bloom_ratio(tuning::MEMTABLE_FILTER_SHARE);
    options
}
