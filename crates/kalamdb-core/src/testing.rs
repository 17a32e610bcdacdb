//! What the tests of this crate share: a database in a directory of its own with a driven clock, and rows of one simple shape.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use futures::executor::block_on;
use kalamdb_store::ColumnId;
use tempfile::TempDir;

use crate::access::{Principal, Role};
use crate::append::OnConflict;
use crate::catalog::{Table, TableName};
use crate::clock::DrivenClock;
use crate::define::{CreateMode, NewTable};
use crate::engine::{Engine, EngineOptions, View};
use crate::error::Result;
use crate::maintenance::MaintenanceOptions;
use crate::options::TableOptions;
use crate::scan::{ScanField, ScanRequest};
use crate::schema::Column;
use crate::table_kind::TableKind;
use crate::users::NewUser;
use kalamdb_store::ScanOrder;

/// The time at which databases of tests start, µs.
pub(crate) const START: i64 = 1_700_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const ROOT_PASSWORD: &str = "the root of all tests";
pub(crate) const PASSWORD: &str = "a long enough one";

/// In memory, where the machine has such a file system: what syncs then does not wait for a disk.
pub(crate) fn memory_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("a directory")
}

/// An open database that goes with this value.
pub(crate) struct Database {
    pub(crate) directory: TempDir,
    pub(crate) clock: Arc<DrivenClock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) root: Principal,
}

impl Database {
    pub(crate) fn new() -> Self {
        Database::with(MaintenanceOptions::default())
    }

    pub(crate) fn with(maintenance: MaintenanceOptions) -> Self {
        let directory = TempDir::new().expect("a directory");
        let clock = Arc::new(DrivenClock::new(START));
        Database::open_with(directory, clock, Some(ROOT_PASSWORD), maintenance).expect("opens")
    }

    /// What its thread does when it is woken.
    pub(crate) fn find_storages(&self) {
        crate::storage_finder::find(self.engine.store());
    }

    pub(crate) fn open(directory: TempDir, clock: Arc<DrivenClock>, root_password: Option<&str>) -> Result<Self> {
        Database::open_with(directory, clock, root_password, MaintenanceOptions::default())
    }

    fn open_with(
        directory: TempDir,
        clock: Arc<DrivenClock>,
        root_password: Option<&str>,
        maintenance: MaintenanceOptions,
    ) -> Result<Self> {
        let options = EngineOptions {
            data_dir: directory.path().to_owned(),
            durability: kalamdb_store::Durability::Relaxed,
            root_password: root_password.map(str::to_owned),
            block_cache_bytes: 8 << 20,
            segment_cache_bytes: 8 << 20,
            write_buffer_bytes: 8 << 20,
            statement_write_limit_bytes: 32 << 20,
            snapshot_life_ms: 60_000,
            token_life_seconds: 3600,
            outside_issuer: None,
            maintenance,
        };
        let engine = block_on(Engine::open(options, clock.clone()))?;
        let root = engine.user(&engine.view(), "root")?.expect("root is there").principal;
        Ok(Database {
            directory,
            clock,
            engine,
            root,
        })
    }

    /// Closes and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Database {
            directory,
            clock,
            engine,
            ..
        } = self;
        drop(engine);
        Database::open(directory, clock, None).expect("opens again")
    }

    pub(crate) fn view(&self) -> View {
        self.engine.view()
    }

    /// Makes a user and says who that is.
    pub(crate) fn user(&self, name: &str, role: Role) -> Principal {
        let new = NewUser {
            user_id: name.to_owned(),
            password: Some(PASSWORD.to_owned()),
            role,
            if_not_exists: false,
        };
        assert!(block_on(self.engine.create_user(&self.root, new)).expect("made"));
        self.engine
            .user(&self.view(), name)
            .expect("reads")
            .expect("is there")
            .principal
    }

    /// Makes `public.<name>` with columns (v TEXT, id BIGINT), primary key id.
    pub(crate) fn table(&self, name: &str, kind: TableKind, options: &[(&str, &str)]) -> Arc<Table> {
        let (table, created) = block_on(self.engine.create_table(
            &self.root,
            new_table(name, kind, options),
            CreateMode::New,
        ))
        .expect("made");
        assert!(created);
        table
    }

    pub(crate) fn find(&self, table: &Table) -> Arc<Table> {
        self.view().catalog().table(&table.name).expect("is there").clone()
    }

    pub(crate) fn insert(&self, by: &Principal, table: &Arc<Table>, rows: &[(&str, i64)]) -> Result<u64> {
        self.load(by, table, OnConflict::Error, rows)
    }

    pub(crate) fn load(
        &self,
        by: &Principal,
        table: &Arc<Table>,
        on_conflict: OnConflict,
        rows: &[(&str, i64)],
    ) -> Result<u64> {
        let mut appender = self.engine.append(by, table, on_conflict)?;
        appender.push(&batch(rows))?;
        block_on(appender.finish())
    }

    /// Waits until no job waits or runs.
    pub(crate) fn wait_for_jobs(&self) {
        while self.engine.active_jobs() > 0 {
            std::thread::yield_now();
        }
    }

    /// The rows that `by` sees, in key order.
    pub(crate) fn rows(&self, by: &Principal, table: &Arc<Table>) -> Vec<(String, i64)> {
        rows_of(&self.view(), by, table)
    }
}

/// The rows that `by` sees in `view`, in key order.
pub(crate) fn rows_of(view: &View, by: &Principal, table: &Arc<Table>) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    for batch in scan(view, by, table, &[ScanField::Column(0), ScanField::Column(1)]) {
        let (texts, ids) = (
            batch.column(0).as_string::<i32>(),
            batch.column(1).as_primitive::<Int64Type>(),
        );
        rows.extend((0..batch.num_rows()).map(|row| (texts.value(row).to_owned(), ids.value(row))));
    }
    rows.sort_by_key(|row| row.1);
    rows
}

pub(crate) fn scan(view: &View, by: &Principal, table: &Arc<Table>, fields: &[ScanField]) -> Vec<RecordBatch> {
    let request = ScanRequest {
        fields: fields.to_vec(),
        key: None,
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: 1000,
    };
    let mut scan = view.scan(by, table, request).expect("scans");
    let mut batches = Vec::new();
    while let Some(batch) = scan.next_batch().expect("reads") {
        assert!(batch.num_rows() > 0);
        assert_eq!(batch.schema(), scan.schema());
        batches.push(batch);
    }
    batches
}

/// The rows as [`crate::Mutator`] wants them, those with these ids.
pub(crate) fn found(view: &View, by: &Principal, table: &Arc<Table>, ids: &[i64]) -> RecordBatch {
    let fields = [
        ScanField::RowKey,
        ScanField::RowLocation,
        ScanField::Seq,
        ScanField::Column(1),
    ];
    let batches = scan(view, by, table, &fields);
    let schema = batches[0].schema();
    let all = arrow::compute::concat_batches(&schema, &batches).expect("same schema");
    let chosen = all
        .column(3)
        .as_primitive::<Int64Type>()
        .iter()
        .map(|id| id.map(|id| ids.contains(&id)))
        .collect();
    arrow::compute::filter_record_batch(&all, &chosen).expect("filters")
}

/// A SYSTEM table as texts: one line a row, columns separated by `|`.
pub(crate) fn system_rows(view: &View, by: &Principal, name: &str) -> Vec<String> {
    let table = view
        .catalog()
        .table(&TableName::new("system", name))
        .expect("a system table")
        .clone();
    let fields: Vec<ScanField> = (0..table.schema.arrow.fields().len()).map(ScanField::Column).collect();
    let mut lines = Vec::new();
    for batch in scan(view, by, &table, &fields) {
        for row in 0..batch.num_rows() {
            let texts: Vec<String> = batch.columns().iter().map(|column| text_of(column, row)).collect();
            lines.push(texts.join("|"));
        }
    }
    lines
}

fn text_of(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    arrow::util::display::array_value_to_string(column, row).expect("shows")
}

pub(crate) fn batch(rows: &[(&str, i64)]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter([("v", texts), ("id", ids)]).expect("equal lengths")
}

/// `rows` rows with ids from `first` on.
pub(crate) fn many(first: i64, rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
        (first..first + rows).map(|id| format!("row {id}")),
    ));
    RecordBatch::try_from_iter([("v", texts), ("id", ids)]).expect("equal lengths")
}

pub(crate) fn new_table(name: &str, kind: TableKind, options: &[(&str, &str)]) -> NewTable {
    let given: BTreeMap<String, String> = options
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    NewTable {
        name: TableName::new("public", name),
        kind,
        columns: vec![column("v", DataType::Utf8), column("id", DataType::Int64)],
        primary_key: vec!["id".to_owned()],
        options: TableOptions::parse(kind, &given).expect("options"),
    }
}

pub(crate) fn column(name: &str, data_type: DataType) -> Column {
    Column {
        id: ColumnId(0),
        name: name.to_owned(),
        data_type,
        nullable: true,
        default: None,
        metadata: HashMap::new(),
        internal: false,
    }
}
