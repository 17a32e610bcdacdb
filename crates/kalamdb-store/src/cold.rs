//! Rows in segments: what is read of a file and how output columns come of it, without the dead; look-ups by key. Scans are
//! `cold_scan`'s.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::filter;
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};

use crate::deletion_vector::Deleted;
use crate::error::StoreError;
use crate::ids::{ScopeId, Seq, StoreId};
use crate::key;
use crate::location::Location;
use crate::manifest::{Segment, SegmentEntry, SegmentSeqs, Segments};
use crate::row::RowView;
use crate::scan::{ScanColumn, ScanCounters, ScanSpec};
use crate::schema::StoreSchema;
use crate::segment::{RowNumbers, SegmentColumn, SegmentFile, SegmentRead};
use crate::snapshot::{DbState, Found};

/// Rows to read of one segment, all of one scope.
pub(crate) struct Part {
    /// Keeps the file, whatever becomes of the table.
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) rows: Range<u32>,
    pub(crate) deleted: Deleted,
}

/// What is read of a file, and how output columns come of it.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) read: Vec<SegmentColumn>,
    output: Vec<Output>,
}

#[derive(Clone, Copy)]
enum Output {
    /// What was read at this index.
    Read(usize),
    /// `_seq`: what was read at this index, or from the row's number if the file has none.
    Seq(Option<usize>),
    Updated(Option<usize>),
    /// The encoded key, or from the row's number the row id.
    Key(Option<usize>),
    Location,
}

/// Whether the keys at the entry's ends are more than scopes.
pub(crate) fn has_keys(entry: &SegmentEntry) -> bool {
    entry.min_key.len() > size_of::<u64>()
}

/// The base of row ids that follow from the row's number: those of a table without a key that was loaded in bulk.
pub(crate) fn implied_ids(entry: &SegmentEntry, schema: &StoreSchema) -> Option<Seq> {
    match entry.seqs {
        SegmentSeqs::Base { base, .. } if schema.key.is_empty() && !has_keys(entry) => Some(base),
        SegmentSeqs::Base { .. } | SegmentSeqs::Stored { .. } => None,
    }
}

pub(crate) fn row_id(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

impl Columns {
    pub(crate) fn of(spec: &ScanSpec, entry: &SegmentEntry) -> Self {
        let mut columns = Self::default();
        let stored = matches!(entry.seqs, SegmentSeqs::Stored { .. });
        let keys = has_keys(entry);
        if mistake!(CountsReadColumns) {
            columns.index(SegmentColumn::Column(0));
        }
        for column in &spec.columns {
            let output = match *column {
                ScanColumn::Column(index) => Output::Read(columns.index(SegmentColumn::Column(index))),
                ScanColumn::Seq => Output::Seq(stored.then(|| columns.index(SegmentColumn::Seq))),
                ScanColumn::Updated => Output::Updated(stored.then(|| columns.index(SegmentColumn::Updated))),
                ScanColumn::Key => Output::Key(keys.then(|| columns.index(SegmentColumn::Key))),
                ScanColumn::Location => Output::Location,
            };
            columns.output.push(output);
        }
        columns
    }

    fn index(&mut self, column: SegmentColumn) -> usize {
        let known = self.read.iter().position(|read| *read == column);
        known.unwrap_or_else(|| {
            self.read.push(column);
            self.read.len() - 1
        })
    }

    /// The next batch of what `read` reads, without the dead; it may be empty. `None` at the end.
    pub(crate) fn next(
        &self,
        spec: &ScanSpec,
        part: &Part,
        read: &mut SegmentRead,
        counters: &mut ScanCounters,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let Some((numbers, arrays, rows)) = read.next()? else {
            return Ok(None);
        };
        // Without columns, rows are counted and not looked at.
        if !self.read.is_empty() {
            counters.keys_read += rows as u64;
        }
        self.batch(spec, part, &numbers, &arrays, rows).map(Some)
    }

    fn batch(
        &self,
        spec: &ScanSpec,
        part: &Part,
        numbers: &RowNumbers,
        arrays: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch, StoreError> {
        let entry = &part.segment.entry;
        let live = part.deleted.live(numbers).filter(|_| !mistake!(ScansShowTheDead));
        let mut columns = Vec::with_capacity(self.output.len());
        for output in &self.output {
            let array = match *output {
                Output::Read(index)
                | Output::Seq(Some(index))
                | Output::Updated(Some(index))
                | Output::Key(Some(index)) => arrays[index].clone(),
                Output::Seq(None) => Arc::new(UInt64Array::from_iter_values(
                    numbers.iter().map(|row| based(entry, row).0.0),
                )),
                Output::Updated(None) => {
                    let micros = based(entry, 0).1;
                    let array = TimestampMicrosecondArray::from_iter_values((0..rows).map(|_| micros));
                    Arc::new(array.with_timezone("UTC"))
                }
                Output::Key(None) => Arc::new(arrow::array::BinaryArray::from_iter_values(
                    numbers.iter().map(|row| based(entry, row).0.0.to_be_bytes()),
                )),
                Output::Location => Arc::new(UInt64Array::from_iter_values(
                    numbers.iter().map(|row| Location::Cold(entry.segment, row).to_bits()),
                )),
            };
            columns.push(array);
        }
        let kept = live.as_ref().map_or(rows, |live| live.true_count());
        if let Some(live) = &live {
            for column in &mut columns {
                *column = filter(column, live).map_err(|error| unreadable(entry, &error))?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept));
        RecordBatch::try_new_with_options(spec.schema.clone(), columns, &options)
            .map_err(|error| unreadable(entry, &error))
    }
}

/// `_seq` and `_updated` of a row of a segment that does not store them.
pub(crate) fn based(entry: &SegmentEntry, row: u32) -> (Seq, i64) {
    match entry.seqs {
        SegmentSeqs::Base { base, updated_micros } => (Seq(base.0 + u64::from(row)), updated_micros),
        SegmentSeqs::Stored { min, .. } => (min, 0),
    }
}

pub(crate) fn unreadable(entry: &SegmentEntry, error: &arrow::error::ArrowError) -> StoreError {
    StoreError::Corrupt {
        object: entry.describe(),
        problem: error.to_string(),
    }
}

/// Looks sorted keys of one scope up in all segments; answers in the same order.
pub(crate) fn find<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    store: StoreId,
    scope: ScopeId,
    keys: &[&[u8]],
) -> Result<Vec<Option<Found>>, StoreError> {
    let segments = state.table(store).map(|table| table.segments.clone());
    find_among(state, schema, store, scope, &segments.unwrap_or_default(), keys)
}

/// The same in some of the store's segments.
pub(crate) fn find_among<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    store: StoreId,
    scope: ScopeId,
    segments: &Segments,
    keys: &[&[u8]],
) -> Result<Vec<Option<Found>>, StoreError> {
    let mut answers = vec![None; keys.len()];
    let (_, visible) = state.live(store, scope)?;
    if !visible || segments.is_empty() {
        return Ok(answers);
    }
    let mut missing: Vec<usize> = (0..keys.len()).collect();
    // The newest run first: what was written lately is asked for most.
    for run in segments.runs().iter().rev() {
        if missing.is_empty() {
            break;
        }
        find_in_run(state, schema, scope, run, keys, &missing, &mut answers)?;
        missing.retain(|&index| answers[index].is_none());
    }
    Ok(answers)
}

fn find_in_run<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    scope: ScopeId,
    run: &[Arc<Segment>],
    keys: &[&[u8]],
    wanted: &[usize],
    answers: &mut [Option<Found>],
) -> Result<(), StoreError> {
    let mut rest = wanted;
    for segment in run {
        let entry = &segment.entry;
        let below = |index: &usize| before(entry, scope, keys[*index]);
        rest = &rest[rest.partition_point(below)..];
        let here = rest.partition_point(|&index| !after(entry, scope, keys[index]));
        let (candidates, others) = rest.split_at(here);
        if !candidates.is_empty() {
            find_in_segment(state, schema, scope, segment, keys, candidates, answers)?;
        }
        // Segments of a run without keys of their own may hold the same scope: ask each of them.
        rest = if has_keys(entry) { others } else { rest };
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Whether the key is smaller than all of the segment's.
fn before(entry: &SegmentEntry, scope: ScopeId, key: &[u8]) -> bool {
    let (first_scope, first_key) = entry.min_key.split_at(size_of::<u64>().min(entry.min_key.len()));
    (
        scope.0.to_be_bytes().as_slice(),
        if has_keys(entry) { key } else { &[] },
    ) < (first_scope, first_key)
}

/// Whether the key is larger than all of the segment's.
fn after(entry: &SegmentEntry, scope: ScopeId, key: &[u8]) -> bool {
    let (last_scope, last_key) = entry.max_key.split_at(size_of::<u64>().min(entry.max_key.len()));
    (
        scope.0.to_be_bytes().as_slice(),
        if has_keys(entry) { key } else { &[] },
    ) > (last_scope, last_key)
}

fn find_in_segment<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    scope: ScopeId,
    segment: &Segment,
    keys: &[&[u8]],
    wanted: &[usize],
    answers: &mut [Option<Found>],
) -> Result<(), StoreError> {
    let entry = &segment.entry;
    let pinned = state.pinned();
    let file = pinned.engine().opened().get(segment, schema)?;
    let asked: Vec<&[u8]> = wanted.iter().map(|&index| keys[index]).collect();
    let mut rows: Vec<(usize, u32)> = rows_of(entry, schema, &file, scope, &asked)?
        .into_iter()
        .zip(wanted)
        .filter_map(|(row, &index)| row.map(|row| (index, row)))
        .collect();
    let (Some(first), Some(last)) = (rows.first().map(|row| row.1), rows.last().map(|row| row.1)) else {
        return Ok(());
    };
    let deleted = Deleted::load(pinned, entry.segment, &(first..last + 1))?;
    rows.retain(|&(_, row)| !deleted.contains(row) || mistake!(LookUpsFindTheDead));
    // A key may be asked for twice.
    let mut distinct: Vec<u32> = rows.iter().map(|&(_, row)| row).collect();
    distinct.dedup();
    let views = views(entry, &file, &distinct)?;
    let mut at = 0;
    for (index, row) in rows {
        at += usize::from(distinct[at] != row);
        answers[index] = Some(Found {
            location: Location::Cold(entry.segment, row),
            row: views[at].clone(),
        });
    }
    Ok(())
}

/// The rows with these keys, dead ones as well.
pub(crate) fn rows_of(
    entry: &SegmentEntry,
    schema: &StoreSchema,
    file: &SegmentFile,
    scope: ScopeId,
    keys: &[&[u8]],
) -> Result<Vec<Option<u32>>, StoreError> {
    match implied_ids(entry, schema) {
        None => file.find(scope, keys),
        Some(base) => {
            let rows = file.scope_rows(scope);
            let row = |key: &&[u8]| {
                let row = row_id(key)?.checked_sub(base.0)?;
                u32::try_from(row).ok().filter(|row| rows.contains(row))
            };
            Ok(keys.iter().map(row).collect())
        }
    }
}

/// `_seq` and `_updated` of distinct rows, given in order.
fn views(entry: &SegmentEntry, file: &Arc<SegmentFile>, rows: &[u32]) -> Result<Vec<RowView>, StoreError> {
    let view = |seq, updated_micros| RowView {
        seq,
        updated_micros,
        expiry_micros: None,
    };
    if let SegmentSeqs::Base { .. } = entry.seqs {
        let views = rows.iter().map(|&row| {
            let (seq, updated_micros) = based(entry, row);
            view(seq, updated_micros)
        });
        return Ok(views.collect());
    }
    let ranges = ranges_of(rows.iter().copied());
    let mut read = file.read(&[SegmentColumn::Seq, SegmentColumn::Updated], ranges, rows.len().max(1))?;
    let mut views = Vec::with_capacity(rows.len());
    while let Some((_, arrays, count)) = read.next()? {
        let seqs = arrays[0].as_primitive::<UInt64Type>();
        let updated = arrays[1].as_primitive::<TimestampMicrosecondType>();
        views.extend((0..count).map(|row| view(Seq(seqs.value(row)), updated.value(row))));
    }
    if views.len() == rows.len() {
        Ok(views)
    } else {
        let problem = StoreError::Corrupt {
            object: entry.describe(),
            problem: "it has fewer rows than its index".to_string(),
        };
        file.noted(|| Err(problem))
    }
}

/// Ascending row numbers as ranges.
pub(crate) fn ranges_of(rows: impl IntoIterator<Item = u32>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            Some(last) if last.contains(&row) => {}
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// Reads the row of one key as a batch of zero or one rows, and says how many segments more were seen.
pub(crate) fn get<C>(
    state: &Arc<DbState<C>>,
    schema: &Arc<StoreSchema>,
    spec: &ScanSpec,
    key: &[u8],
) -> Result<(RecordBatch, u64), StoreError> {
    let (table, visible) = state.live(spec.store, spec.scope)?;
    if visible {
        for segment in table.segments.runs().iter().rev().flatten() {
            let entry = &segment.entry;
            if before(entry, spec.scope, key) || after(entry, spec.scope, key) {
                continue;
            }
            let file = state.pinned().engine().opened().get(segment, schema)?;
            let Some(row) = rows_of(entry, schema, &file, spec.scope, &[key])?.pop().flatten() else {
                continue;
            };
            let deleted = Deleted::load(state.pinned(), entry.segment, &(row..row + 1))?;
            if deleted.contains(row) && !mistake!(PointReadsStopAtTheDead) {
                continue;
            }
            let columns = Columns::of(spec, entry);
            let part = Part {
                segment: segment.clone(),
                file,
                rows: row..row + 1,
                deleted,
            };
            let mut read = part.file.read(&columns.read, vec![part.rows.clone()], 1)?;
            if let Some((numbers, arrays, rows)) = read.next()? {
                let row = columns.batch(spec, &part, &numbers, &arrays, rows)?;
                return Ok((row, spec.seen.add(part.segment.entry.segment)));
            }
        }
    }
    Ok((RecordBatch::new_empty(spec.schema.clone()), 0))
}

/// `scope | key`, as entries have it.
pub(crate) fn scoped(scope: ScopeId, key: &[u8]) -> Vec<u8> {
    [scope.0.to_be_bytes().as_slice(), key].concat()
}

/// Whether any hot row of these epochs has a `scope | key` between these, ends included.
pub(crate) fn hot_overlaps<C>(
    state: &DbState<C>,
    store: StoreId,
    min_key: &[u8],
    max_key: &[u8],
) -> Result<bool, StoreError> {
    let Some(table) = state.table(store) else {
        return Ok(false);
    };
    for &epoch in &table.epochs {
        if mistake!(LoadsForgetTheSealedEpoch) && epoch != table.current() {
            continue;
        }
        let prefix = key::epoch_prefix(store, epoch);
        let lower = [prefix.as_slice(), min_key].concat();
        let iterator = state.pinned().iterate(
            state.pinned().engine().hot(),
            &crate::pinned::IterateOptions {
                lower: lower.clone(),
                upper: key::successor(&prefix),
                readahead_bytes: 0,
            },
        );
        let mut rows = iterator.rows()?;
        rows.seek(&lower);
        if rows
            .key()
            .and_then(|whole| whole.get(prefix.len()..))
            .is_some_and(|found| found <= max_key)
        {
            return Ok(true);
        }
        rows.end().map_err(|error| state.of_hot(store, error))?;
    }
    Ok(false)
}

impl RowNumbers {
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Range(rows) => Box::new(rows.clone()),
            Self::List(rows) => Box::new(rows.iter().copied()),
        }
    }
}
