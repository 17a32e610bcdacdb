//! Reading a table: one body for every kind; the scope comes from the principal.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use kalamdb_store::{
    DbState, KeyEncoder, KeyRange, Prune, Scan, ScanColumn, ScanCounters, ScanOrder, ScanSpec, StoreError,
};

use crate::access::Principal;
use crate::catalog::{Catalog, Table};
use crate::engine::View;
use crate::error::{Error, ErrorCode, Result};
use crate::key_range::{Keys, keys_of};
use crate::rights::Action;
use crate::system_filter::SystemRowFilter;
use crate::system_rows::{key_of, text};
use crate::system_schema::SystemTable;

/// What an output column of a scan holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanField {
    /// The column at this index of `TableSchema::columns`.
    Column(usize),
    /// `_seq`: UInt64 not null.
    Seq,
    /// `_updated`: Timestamp(µs, "UTC") not null.
    Updated,
    /// The row's encoded key, Binary not null, for [`crate::Mutator`].
    RowKey,
    /// Where the row is, UInt64 not null, for [`crate::Mutator`].
    RowLocation,
}

/// Which keys: `equal` binds the first key columns (arrays of one row, exactly of the column's type), the bounds those after them.
/// A bound of several columns is compared as a row, `(a, b) > (x, y)`.
#[derive(Clone, Debug)]
pub struct KeyConstraint {
    /// Values of the leading key columns.
    pub equal: Vec<ArrayRef>,
    /// Lower bound of the key columns after those, of as many as it has values.
    pub lower: Bound<Vec<ArrayRef>>,
    /// The upper bound likewise.
    pub upper: Bound<Vec<ArrayRef>>,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Output columns, in order; may be empty (row counts only).
    pub fields: Vec<ScanField>,
    /// The key range; `None` for everything in scope. Rows outside it are not returned, so whoever pushes a filter down
    /// exactly may drop it.
    pub key: Option<KeyConstraint>,
    /// At most so many rows.
    pub limit: Option<usize>,
    /// Which part of the rows, of how many.
    pub part: (usize, usize),
    /// In which order the rows of this part come. SYSTEM tables have their keys' order anyway.
    pub order: ScanOrder,
    /// Rules out rows that are filtered away above; columns are by index in `TableSchema::columns`.
    pub prune: Option<Arc<dyn Prune>>,
    /// Rows per batch at most.
    pub batch_rows: usize,
}

/// A running scan; pull it on the query runtime.
pub struct RowScan {
    schema: SchemaRef,
    table: Arc<Table>,
    source: Source,
    filter: Option<Filtered>,
    /// Of a point read; of a filtered scan, the rows that pass.
    counters: ScanCounters,
}

/// Where the rows come from.
enum Source {
    /// No key fits.
    Nothing,
    /// The one row of a full key.
    Point(Box<PointRead>),
    /// A range.
    Range(Box<Scan>),
}

struct PointRead {
    state: Arc<DbState<Catalog>>,
    table: Arc<Table>,
    spec: ScanSpec,
    key: Vec<u8>,
}

/// A scan of a SYSTEM table of which the principal does not see everything: the source reads all visible columns and then
/// those of `fields` that are no columns.
struct Filtered {
    filter: SystemRowFilter,
    /// Of `system.users`: whom failed logins hold up, which is nowhere stored.
    locks: Option<UserLocks>,
    /// Where the requested fields are in the source's batches.
    projection: Vec<usize>,
    /// Rows still wanted.
    remaining: Option<usize>,
}

/// Until when users are locked, and where in the source's batches it goes.
struct UserLocks {
    until_micros: HashMap<String, i64>,
    user_id: usize,
    locked_until: usize,
}

impl RowScan {
    pub(crate) fn open(view: &View, principal: &Principal, table: &Arc<Table>, request: ScanRequest) -> Result<Self> {
        principal.check(Action::Select, table)?;
        let schema = output_schema(table, &request.fields)?;
        let mut keys = match &request.key {
            None => Keys::Range(Bound::Unbounded, Bound::Unbounded),
            Some(constraint) => {
                let encoder = KeyEncoder::new(&table.schema.stored)?;
                keys_of(&encoder, table.schema.primary_key.len(), constraint)?
            }
        };
        let mut fields = request.fields.clone();
        let mut limit = request.limit;
        let mut filtered = None;
        if let Some(system) = SystemTable::of(table) {
            if !system.is_stored() {
                return Err(Error::new(
                    ErrorCode::Internal,
                    format!(
                        "the rows of {} are not stored; the running server makes them",
                        table.name
                    ),
                ));
            }
            let filter = SystemRowFilter::new(system, principal, view.catalog());
            if let (SystemTable::Users, Some(user_id)) = (system, filter.only_user()) {
                let own = key_of(&table.schema.stored, &[text(user_id)])?;
                keys = if contains(&keys, &own) {
                    Keys::One(own)
                } else {
                    Keys::Nothing
                };
            }
            let locks = (system == SystemTable::Users)
                .then(|| UserLocks::asked_for(view, table, &fields))
                .flatten();
            if !filter.passes_everything() || locks.is_some() {
                let (all, projection) = with_visible_columns(table, &fields);
                fields = all;
                filtered = Some(Filtered {
                    filter,
                    locks,
                    projection,
                    remaining: limit.take(),
                });
            }
        }
        let spec = ScanSpec {
            store: table.store,
            scope: table.kind.scope(principal),
            range: KeyRange {
                start: Bound::Unbounded,
                end: Bound::Unbounded,
            },
            columns: fields.iter().map(|field| field.stored()).collect(),
            schema: output_schema(table, &fields)?,
            now_micros: view.now_micros(),
            limit,
            part: request.part,
            order: request.order,
            prune: request.prune.clone(),
            batch_rows: request.batch_rows.max(1),
            seen: view.seen.clone(),
        };
        let source = match keys {
            _ if request.limit == Some(0) => Source::Nothing,
            Keys::Nothing => Source::Nothing,
            // One row has no parts: it is the last one's, as hot rows are.
            Keys::One(_) if request.part.0 + 1 < request.part.1 => Source::Nothing,
            Keys::One(key) => Source::Point(Box::new(PointRead {
                state: view.state.clone(),
                table: table.clone(),
                spec,
                key,
            })),
            Keys::Range(start, end) => {
                let spec = ScanSpec {
                    range: KeyRange { start, end },
                    ..spec
                };
                let scan = view
                    .state
                    .scan(&table.schema.stored, spec)
                    .map_err(|error| of_table(error, table, view))?;
                Source::Range(Box::new(scan))
            }
        };
        Ok(RowScan {
            schema,
            table: table.clone(),
            source,
            filter: filtered,
            counters: ScanCounters::default(),
        })
    }

    /// The schema of its batches: fields named as the columns, `_seq`, `_updated`, `_row_key`, `_row_location`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Whoever reads in key order is likely to take so many rows and to stop: batches are short at first.
    pub fn expect_rows(&mut self, rows: usize) {
        if let Source::Range(scan) = &mut self.source {
            scan.expect_rows(rows);
        }
    }

    /// The next batch, never empty, `None` at the end.
    ///
    /// # Errors
    /// DATA_CORRUPTED, STORAGE_ERROR.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(batch) = self.next_stored()? else {
                return Ok(None);
            };
            let Some(filtered) = &mut self.filter else {
                return Ok(Some(batch));
            };
            let batch = filtered.next(&batch)?;
            self.counters.keys_read += batch.num_rows() as u64;
            if filtered.remaining == Some(0) {
                self.source = Source::Nothing;
            }
            if batch.num_rows() > 0 {
                return Ok(Some(with_schema(&batch, &self.schema)?));
            }
        }
    }

    /// What was looked at so far. It tells nothing of rows that the principal does not see.
    pub fn counters(&self) -> ScanCounters {
        let mut counters = self.counters;
        if let (Source::Range(scan), None) = (&self.source, &self.filter) {
            counters += scan.counters();
        }
        counters
    }

    /// [`ScanCounters::keys_read`].
    pub fn keys_read(&self) -> u64 {
        self.counters().keys_read
    }

    fn next_stored(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.source {
            Source::Nothing => Ok(None),
            Source::Range(scan) => scan.next_batch().map_err(|error| Error::in_table(error, &self.table)),
            Source::Point(read) => {
                let read_row = read.state.get_counted(&read.table.schema.stored, &read.spec, &read.key);
                let (batch, counters) = match read_row {
                    Ok(row) => row,
                    Err(StoreError::Retired(_)) => return Err(Error::gone(&read.table, read.state.catalog())),
                    Err(other) => return Err(Error::in_table(other, &read.table)),
                };
                self.source = Source::Nothing;
                if self.filter.is_none() {
                    self.counters += counters;
                }
                Ok((batch.num_rows() > 0).then_some(batch))
            }
        }
    }
}

impl Filtered {
    fn next(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        // What is filled in is as much for the filter to blank as what is stored.
        let mut seen = match &self.locks {
            Some(locks) => self.filter.apply(&locks.fill(batch)?)?,
            None => self.filter.apply(batch)?,
        };
        if let Some(remaining) = &mut self.remaining {
            let rows = seen.num_rows().min(*remaining);
            seen = seen.slice(0, rows);
            *remaining -= rows;
        }
        seen.project(&self.projection).map_err(internal)
    }
}

impl UserLocks {
    /// If the scan is to show them.
    fn asked_for(view: &View, table: &Table, fields: &[ScanField]) -> Option<Self> {
        let place = |name: &str| table.schema.columns.iter().position(|column| column.name == name);
        let (user_id, locked_until) = (place("user_id")?, place("locked_until")?);
        fields.contains(&ScanField::Column(locked_until)).then(|| UserLocks {
            until_micros: view.logins.locked_until(view.now_micros()),
            user_id,
            locked_until,
        })
    }

    fn fill(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let users = batch.column(self.user_id).as_string::<i32>();
        let until = users.iter().map(|user| self.until_micros.get(user?).copied());
        let until = TimestampMicrosecondArray::from_iter(until)
            .with_data_type(batch.column(self.locked_until).data_type().clone());
        let mut columns = batch.columns().to_vec();
        columns[self.locked_until] = Arc::new(until);
        RecordBatch::try_new(batch.schema(), columns).map_err(internal)
    }
}

impl ScanField {
    fn stored(self) -> ScanColumn {
        match self {
            ScanField::Column(index) => ScanColumn::Column(index),
            ScanField::Seq => ScanColumn::Seq,
            ScanField::Updated => ScanColumn::Updated,
            ScanField::RowKey => ScanColumn::Key,
            ScanField::RowLocation => ScanColumn::Location,
        }
    }
}

/// The Arrow schema of these fields; columns that SQL does not see are refused.
fn output_schema(table: &Table, fields: &[ScanField]) -> Result<SchemaRef> {
    let fields: Vec<Field> = fields
        .iter()
        .map(|field| match field {
            ScanField::Column(index) => match table.schema.columns.get(*index) {
                Some(column) if !column.internal => Ok(column.field()),
                Some(_) | None => Err(Error::new(
                    ErrorCode::Internal,
                    format!("table {} shows no column {index}", table.name),
                )),
            },
            ScanField::Seq => Ok(Field::new("_seq", DataType::UInt64, false)),
            ScanField::Updated => Ok(Field::new(
                "_updated",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            )),
            ScanField::RowKey => Ok(Field::new("_row_key", DataType::Binary, false)),
            ScanField::RowLocation => Ok(Field::new("_row_location", DataType::UInt64, false)),
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// All visible columns, then those of `fields` that are no columns; and where each of `fields` is among them.
fn with_visible_columns(table: &Table, fields: &[ScanField]) -> (Vec<ScanField>, Vec<usize>) {
    let visible = (0..table.schema.columns.len()).filter(|&index| !table.schema.columns[index].internal);
    let mut all: Vec<ScanField> = visible.map(ScanField::Column).collect();
    let projection = fields
        .iter()
        .map(|field| {
            all.iter().position(|known| known == field).unwrap_or_else(|| {
                all.push(*field);
                all.len() - 1
            })
        })
        .collect();
    (all, projection)
}

/// The same columns under the promised schema.
fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(internal)
}

fn contains(keys: &Keys, key: &[u8]) -> bool {
    match keys {
        Keys::Nothing => false,
        Keys::One(one) => one == key,
        Keys::Range(start, end) => {
            let after = match start {
                Bound::Included(start) => key >= start.as_slice(),
                Bound::Excluded(start) => key > start.as_slice(),
                Bound::Unbounded => true,
            };
            let before = match end {
                Bound::Included(end) => key <= end.as_slice(),
                Bound::Excluded(end) => key < end.as_slice(),
                Bound::Unbounded => true,
            };
            after && before
        }
    }
}

fn of_table(error: StoreError, table: &Table, view: &View) -> Error {
    match error {
        StoreError::Retired(_) => Error::gone(table, view.catalog()),
        other => Error::in_table(other, table),
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorCode::Internal, format!("rows cannot be put together: {error}"))
}
