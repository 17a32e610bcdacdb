//! Reading rows in segments: scans with the dead masked out, look-ups by key.

use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::filter;
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};

use crate::deletion_vector::Deleted;
use crate::error::StoreError;
use crate::ids::{ScopeId, Seq, StoreId};
use crate::key;
use crate::location::Location;
use crate::manifest::{Segment, SegmentEntry, SegmentSeqs};
use crate::pinned::Pinned;
use crate::row::RowView;
use crate::scan::{KeyRange, Prune, ScanColumn, ScanSpec};
use crate::schema::StoreSchema;
use crate::segment::{Bounds, RowNumbers, SegmentColumn, SegmentFile, SegmentRead};
use crate::snapshot::{DbState, Found};

/// A scan over the segments of a table.
pub(crate) struct ColdScan {
    pinned: Arc<Pinned>,
    columns: Columns,
    /// Not begun.
    parts: VecDeque<Part>,
    current: Option<(Part, SegmentRead)>,
    spec: ScanSpec,
    remaining: usize,
    rows_read: u64,
}

/// Live rows to read of one segment.
struct Part {
    entry: Arc<SegmentEntry>,
    file: Arc<SegmentFile>,
    rows: Range<u32>,
    deleted: Deleted,
}

/// What is read of a file, and how output columns come of it.
#[derive(Default)]
struct Columns {
    read: Vec<SegmentColumn>,
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

impl ColdScan {
    /// `None` if no segment can have a row of it.
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: &ScanSpec,
    ) -> Result<Option<Self>, StoreError> {
        let (table, visible) = state.live(spec.store, spec.scope)?;
        if !visible || table.segments.is_empty() {
            return Ok(None);
        }
        let engine = state.pinned().engine();
        let mut found = Vec::new();
        let mut total = 0u64;
        for segment in table.segments.iter() {
            if !may_hold(&segment.entry, spec.scope, &spec.range) {
                continue;
            }
            let file = engine.opened().get(segment, schema)?;
            let rows = rows_in(&segment.entry, schema, &file, spec.scope, &spec.range)?;
            if !rows.is_empty() {
                total += u64::from(rows.end - rows.start);
                found.push((segment.entry.clone(), file, rows));
            }
        }
        let (part, parts) = (spec.part.0 as u64, spec.part.1.max(1) as u64);
        let share = total * part / parts..total * (part + 1) / parts;
        let mut pending = VecDeque::new();
        let mut before = 0u64;
        for (entry, file, rows) in found {
            let len = u64::from(rows.end - rows.start);
            let from = share.start.clamp(before, before + len) - before;
            let to = share.end.clamp(before, before + len) - before;
            before += len;
            if from < to {
                // Less than the number of rows of one segment.
                let rows = rows.start + from as u32..rows.start + to as u32;
                pending.push_back(Part {
                    entry,
                    file,
                    rows,
                    deleted: Deleted::default(),
                });
            }
        }
        Ok(Some(Self {
            pinned: state.pinned().clone(),
            columns: Columns::default(),
            parts: pending,
            current: None,
            remaining: spec.limit.unwrap_or(usize::MAX),
            spec: spec.clone(),
            rows_read: 0,
        }))
    }

    /// The next batch, never empty, or `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        while self.remaining > 0 {
            let Some((part, read)) = &mut self.current else {
                let Some(part) = self.parts.pop_front() else {
                    return Ok(None);
                };
                self.current = self.begin(part)?;
                continue;
            };
            let Some((numbers, arrays, rows)) = read.next()? else {
                self.current = None;
                continue;
            };
            self.rows_read += rows as u64;
            let batch = self.columns.batch(&self.spec, part, &numbers, &arrays, rows)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let rows = batch.num_rows().min(self.remaining);
            self.remaining -= rows;
            return Ok(Some(if rows < batch.num_rows() {
                batch.slice(0, rows)
            } else {
                batch
            }));
        }
        Ok(None)
    }

    /// Rows of segments that were read, dead ones included.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    fn begin(&mut self, mut part: Part) -> Result<Option<(Part, SegmentRead)>, StoreError> {
        part.deleted = Deleted::load(&self.pinned, part.entry.segment, &part.rows)?;
        let mut ranges = part.deleted.without_dead_chunks(part.rows.clone());
        if let Some(prune) = &self.spec.prune {
            ranges = pruned(prune.as_ref(), &part.file, ranges);
        }
        let mut wanted = self.remaining;
        if mistake!(LimitsReadEverything) {
            wanted = usize::MAX;
        }
        let ranges = first_live(ranges, &part.deleted, wanted);
        if ranges.is_empty() {
            return Ok(None);
        }
        self.columns = Columns::of(&self.spec, &part.entry);
        // No batch longer than the limit, so that no page is decoded further than that.
        let batch_rows = self.spec.batch_rows.max(1).min(wanted);
        let read = part.file.read(&self.columns.read, ranges, batch_rows)?;
        Ok(Some((part, read)))
    }
}

/// The parts of these ranges that may hold rows that meet all conditions.
fn pruned(prune: &dyn Prune, file: &SegmentFile, mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    for (condition, columns) in prune.conditions().iter().enumerate() {
        let bounds: Vec<_> = columns.iter().map(|&column| file.bounds(column)).collect();
        // Row groups are the same for all columns, pages are each column's own.
        let of_groups: Vec<_> = bounds
            .iter()
            .map(|bounds| bounds.as_ref().map(|bounds| &bounds.row_groups))
            .collect();
        ranges = kept(prune, condition, &of_groups, ranges);
        if let [Some(only)] = bounds.as_slice()
            && !ranges.is_empty()
        {
            ranges = kept(prune, condition, &[Some(&only.pages)], ranges);
        }
    }
    ranges
}

fn kept(prune: &dyn Prune, condition: usize, bounds: &[Option<&Bounds>], ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    let Some(parts) = bounds.iter().flatten().next() else {
        return ranges;
    };
    let Some(may_hold) = prune.may_hold(condition, bounds) else {
        return ranges;
    };
    let mut wanted: Vec<Range<u32>> = Vec::new();
    for (part, _) in parts.rows.iter().zip(&may_hold).filter(|(_, may_hold)| **may_hold) {
        match wanted.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => wanted.push(part.clone()),
        }
    }
    let mut kept = Vec::new();
    let mut from = 0;
    for range in ranges {
        while wanted.get(from).is_some_and(|part| part.end <= range.start) {
            from += 1;
        }
        for part in wanted[from..].iter().take_while(|part| part.start < range.end) {
            kept.push(part.start.max(range.start)..part.end.min(range.end));
        }
    }
    kept
}

/// The beginning of these ranges that holds so many live rows.
fn first_live(ranges: Vec<Range<u32>>, deleted: &Deleted, live: usize) -> Vec<Range<u32>> {
    let mut wanted = live;
    let mut kept = Vec::new();
    for range in ranges {
        if wanted == 0 {
            break;
        }
        let len = (range.end - range.start) as usize;
        if deleted.is_empty() || mistake!(DeadRowsCountToTheLimit) {
            let taken = len.min(wanted);
            wanted -= taken;
            kept.push(range.start..range.start + taken as u32);
            continue;
        }
        if live == usize::MAX {
            kept.push(range);
            continue;
        }
        let mut end = range.start;
        while end < range.end && wanted > 0 {
            wanted -= usize::from(!deleted.contains(end));
            end += 1;
        }
        kept.push(range.start..end);
    }
    kept
}

/// Whether a row of the scope with a key in the range can be in the segment, by its entry alone.
fn may_hold(entry: &SegmentEntry, scope: ScopeId, range: &KeyRange) -> bool {
    let scope = scope.0.to_be_bytes();
    let bound = |key: &[u8]| [&scope, key].concat();
    let starts_after = match &range.start {
        Bound::Unbounded => entry.max_key.as_slice() < scope.as_slice(),
        Bound::Included(key) | Bound::Excluded(key) if has_keys(entry) => entry.max_key < bound(key),
        Bound::Included(_) | Bound::Excluded(_) => entry.max_key.as_slice() < scope.as_slice(),
    };
    let ends_before = match &range.end {
        Bound::Included(key) | Bound::Excluded(key) if has_keys(entry) => entry.min_key > bound(key),
        // All keys of the scope begin with it.
        Bound::Unbounded | Bound::Included(_) | Bound::Excluded(_) => entry
            .min_key
            .get(..scope.len())
            .is_some_and(|first| first > scope.as_slice()),
    };
    !starts_after && !ends_before
}

/// Whether the keys at the entry's ends are more than scopes.
fn has_keys(entry: &SegmentEntry) -> bool {
    entry.min_key.len() > size_of::<u64>()
}

/// Rows of a scope whose keys are in the range.
fn rows_in(
    entry: &SegmentEntry,
    schema: &StoreSchema,
    file: &SegmentFile,
    scope: ScopeId,
    range: &KeyRange,
) -> Result<Range<u32>, StoreError> {
    if mistake!(SegmentsAreOfOneUser) {
        return Ok(0..entry.rows);
    }
    if matches!((&range.start, &range.end), (Bound::Unbounded, Bound::Unbounded)) {
        return Ok(file.scope_rows(scope));
    }
    match implied_ids(entry, schema) {
        None => file.rows_in(scope, range),
        Some(base) => {
            let rows = file.scope_rows(scope);
            let row = |key: &[u8], after: bool| -> u32 {
                let Some(id) = row_id(key) else { return rows.end };
                let row = id.saturating_add(u64::from(after)).saturating_sub(base.0);
                u32::try_from(row).unwrap_or(u32::MAX).clamp(rows.start, rows.end)
            };
            let start = match &range.start {
                Bound::Unbounded => rows.start,
                Bound::Included(key) => row(key, false),
                Bound::Excluded(key) => row(key, true),
            };
            let end = match &range.end {
                Bound::Unbounded => rows.end,
                Bound::Included(key) => row(key, true),
                Bound::Excluded(key) => row(key, false),
            };
            Ok(start..end.max(start))
        }
    }
}

/// The base of row ids that follow from the row's number: those of a table without a key that was loaded in bulk.
pub(crate) fn implied_ids(entry: &SegmentEntry, schema: &StoreSchema) -> Option<Seq> {
    match entry.seqs {
        SegmentSeqs::Base { base, .. } if schema.key.is_empty() && !has_keys(entry) => Some(base),
        SegmentSeqs::Base { .. } | SegmentSeqs::Stored { .. } => None,
    }
}

fn row_id(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

impl Columns {
    fn of(spec: &ScanSpec, entry: &SegmentEntry) -> Self {
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

    fn batch(
        &self,
        spec: &ScanSpec,
        part: &Part,
        numbers: &RowNumbers,
        arrays: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch, StoreError> {
        let live = part.deleted.live(numbers).filter(|_| !mistake!(ScansShowTheDead));
        let mut columns = Vec::with_capacity(self.output.len());
        for output in &self.output {
            let array = match *output {
                Output::Read(index)
                | Output::Seq(Some(index))
                | Output::Updated(Some(index))
                | Output::Key(Some(index)) => arrays[index].clone(),
                Output::Seq(None) => Arc::new(UInt64Array::from_iter_values(
                    numbers.iter().map(|row| based(&part.entry, row).0.0),
                )),
                Output::Updated(None) => {
                    let micros = based(&part.entry, 0).1;
                    let array = TimestampMicrosecondArray::from_iter_values((0..rows).map(|_| micros));
                    Arc::new(array.with_timezone("UTC"))
                }
                Output::Key(None) => Arc::new(arrow::array::BinaryArray::from_iter_values(
                    numbers.iter().map(|row| based(&part.entry, row).0.0.to_be_bytes()),
                )),
                Output::Location => Arc::new(UInt64Array::from_iter_values(
                    numbers
                        .iter()
                        .map(|row| Location::Cold(part.entry.segment, row).to_bits()),
                )),
            };
            columns.push(array);
        }
        let kept = live.as_ref().map_or(rows, |live| live.true_count());
        if let Some(live) = &live {
            for column in &mut columns {
                *column = filter(column, live).map_err(|error| unreadable(&part.entry, &error))?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept));
        RecordBatch::try_new_with_options(spec.schema.clone(), columns, &options)
            .map_err(|error| unreadable(&part.entry, &error))
    }
}

/// `_seq` and `_updated` of a row of a segment that does not store them.
fn based(entry: &SegmentEntry, row: u32) -> (Seq, i64) {
    match entry.seqs {
        SegmentSeqs::Base { base, updated_micros } => (Seq(base.0 + u64::from(row)), updated_micros),
        SegmentSeqs::Stored { min, .. } => (min, 0),
    }
}

fn unreadable(entry: &SegmentEntry, error: &arrow::error::ArrowError) -> StoreError {
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
    let mut answers = vec![None; keys.len()];
    let (table, visible) = state.live(store, scope)?;
    if !visible || table.segments.is_empty() {
        return Ok(answers);
    }
    let mut missing: Vec<usize> = (0..keys.len()).collect();
    // The newest run first: what was written lately is asked for most.
    for run in table.segments.runs().iter().rev() {
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
        Err(StoreError::Corrupt {
            object: entry.describe(),
            problem: "it has fewer rows than its index".to_string(),
        })
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

/// Reads the row of one key as a batch of zero or one rows.
pub(crate) fn get<C>(
    state: &Arc<DbState<C>>,
    schema: &Arc<StoreSchema>,
    spec: &ScanSpec,
    key: &[u8],
) -> Result<RecordBatch, StoreError> {
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
                entry: entry.clone(),
                file,
                rows: row..row + 1,
                deleted,
            };
            let mut read = part.file.read(&columns.read, vec![part.rows.clone()], 1)?;
            if let Some((numbers, arrays, rows)) = read.next()? {
                return columns.batch(spec, &part, &numbers, &arrays, rows);
            }
        }
    }
    Ok(RecordBatch::new_empty(spec.schema.clone()))
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
        let mut iterator = state.pinned().iterate(
            state.pinned().engine().hot(),
            &crate::pinned::IterateOptions {
                lower: lower.clone(),
                upper: key::successor(&prefix),
                readahead_bytes: 0,
            },
        );
        iterator.seek(&lower);
        if iterator
            .key()
            .and_then(|whole| whole.get(prefix.len()..))
            .is_some_and(|found| found <= max_key)
        {
            return Ok(true);
        }
        iterator.end()?;
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
