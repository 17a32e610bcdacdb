//! Scans over segments: which rows of which files, what of them is left out, forward and backward. What becomes of the rows that
//! are read is `cold`'s.

use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::cold::{Columns, Part, has_keys, implied_ids, row_id, unreadable};
use crate::deletion_vector::Deleted;
use crate::error::StoreError;
use crate::ids::{ScopeId, StoreId};
use crate::manifest::{Segment, SegmentEntry};
use crate::pace::Pace;
use crate::pinned::Pinned;
use crate::prune::{first_live, last_live, pruned};
use crate::scan::{KeyRange, ScanCounters, ScanOrder, ScanSpec};
use crate::schema::StoreSchema;
use crate::segment::{SegmentFile, SegmentRead};
use crate::snapshot::DbState;
use crate::tuning::PAGE_ROWS;

/// A scan over rows of segments, one after the other.
pub(crate) struct ColdScan {
    pinned: Arc<Pinned>,
    schema: Arc<StoreSchema>,
    columns: Columns,
    /// Not begun.
    shares: VecDeque<Share>,
    current: Option<(Part, Reading)>,
    spec: ScanSpec,
    remaining: usize,
    /// Rows of the first batch, if its reader is likely to stop early.
    expected: Option<usize>,
    counters: ScanCounters,
}

/// What a scan is to read of one segment, whose file need not be open.
pub(crate) struct Share {
    segment: Arc<Segment>,
    /// `None`: all that are of its scope and in its range.
    rows: Option<Range<u32>>,
}

/// How a part is read.
enum Reading {
    Forward(Box<SegmentRead>),
    Backward(Backward),
}

/// From the last row to the first. Parquet is read forward, so this goes back in steps and turns each of them round.
struct Backward {
    /// Not read; sorted, as ever.
    rest: Vec<Range<u32>>,
    /// Rows of a step at most.
    steps: Pace,
    /// Read and not given, the next one last.
    ready: Vec<RecordBatch>,
}

impl Share {
    /// A key that none of its rows comes before, and one that none comes after; `None` where the manifest does not say.
    pub(crate) fn edges(&self, scope: ScopeId) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let own = |key: &[u8]| {
            let key = key.strip_prefix(&scope.0.to_be_bytes())?;
            (!key.is_empty()).then(|| key.to_vec())
        };
        (own(&self.segment.entry.min_key), own(&self.segment.entry.max_key))
    }
}

/// What a scan is to read of each segment. Files are opened only to tell several parts of the rows apart.
pub(crate) fn shares<C>(
    state: &Arc<DbState<C>>,
    schema: &Arc<StoreSchema>,
    spec: &ScanSpec,
) -> Result<Vec<Share>, StoreError> {
    let (table, visible) = state.live(spec.store, spec.scope)?;
    let segments = table.segments.iter().filter(|_| visible);
    let segments = segments.filter(|segment| may_hold(&segment.entry, spec.scope, &spec.range));
    if spec.part.1 <= 1 {
        let all = |segment: &Arc<Segment>| Share {
            segment: segment.clone(),
            rows: None,
        };
        return Ok(segments.map(all).collect());
    }
    let mut found = Vec::new();
    let mut total = 0u64;
    for segment in segments {
        let file = state.pinned().engine().opened().get(segment, schema)?;
        let rows = rows_in(&segment.entry, schema, &file, spec.scope, &spec.range)?;
        if !rows.is_empty() {
            total += u64::from(rows.end - rows.start);
            found.push((segment, rows));
        }
    }
    let (part, parts) = (spec.part.0 as u64, spec.part.1 as u64);
    let share = total * part / parts..total * (part + 1) / parts;
    let mut shares = Vec::new();
    let mut before = 0u64;
    for (segment, rows) in found {
        let len = u64::from(rows.end - rows.start);
        let from = share.start.clamp(before, before + len) - before;
        let to = share.end.clamp(before, before + len) - before;
        before += len;
        if from < to {
            // Less than the number of rows of one segment.
            let rows = rows.start + from as u32..rows.start + to as u32;
            shares.push(Share {
                segment: segment.clone(),
                rows: Some(rows),
            });
        }
    }
    Ok(shares)
}

/// Whether the segments of a store have so many rows of one scope in these ranges, deleted ones included. Keys are read only where
/// the answer depends on them, and it depends on nothing of other scopes.
///
/// # Errors
/// [`StoreError::Retired`], [`StoreError::Damaged`]; when a segment's index cannot be read.
pub(crate) fn has_rows<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    store: StoreId,
    scope: ScopeId,
    ranges: &[KeyRange],
    enough: u64,
) -> Result<bool, StoreError> {
    let (table, visible) = state.live(store, scope)?;
    if !visible {
        return Ok(false);
    }
    let mut places = Vec::new();
    for range in ranges {
        let segments = table.segments.iter();
        let segments = segments.filter(|segment| may_hold(&segment.entry, scope, range));
        places.extend(segments.map(|segment| (segment, range)));
    }
    let whole: u64 = places.iter().map(|(segment, _)| u64::from(segment.entry.rows)).sum();
    if whole < enough {
        return Ok(false);
    }
    let (mut least, mut most) = (0, 0);
    let mut unsure = Vec::new();
    for (segment, range) in places {
        let file = state.pinned().engine().opened().get(segment, schema)?;
        let rows = match implied_ids(&segment.entry, schema) {
            None => file.rows_about(scope, range),
            Some(_) => {
                let rows = length(&rows_in(&segment.entry, schema, &file, scope, range)?);
                rows..=rows
            }
        };
        least += u64::from(*rows.start());
        most += u64::from(*rows.end());
        if least >= enough {
            return Ok(true);
        }
        if rows.start() < rows.end() {
            unsure.push((segment, file, range, *rows.start()));
        }
    }
    if most < enough {
        return Ok(false);
    }
    for (segment, file, range, counted) in unsure {
        let rows = rows_in(&segment.entry, schema, &file, scope, range)?;
        least += u64::from(length(&rows).saturating_sub(counted));
    }
    Ok(least >= enough)
}

fn length(rows: &Range<u32>) -> u32 {
    rows.end.saturating_sub(rows.start)
}

impl ColdScan {
    /// Reads these one after the other, each of them in the order that the scan asks for.
    pub(crate) fn new(pinned: &Arc<Pinned>, schema: &Arc<StoreSchema>, shares: Vec<Share>, spec: ScanSpec) -> Self {
        Self {
            pinned: pinned.clone(),
            schema: schema.clone(),
            columns: Columns::default(),
            shares: shares.into(),
            current: None,
            remaining: spec.limit.unwrap_or(usize::MAX),
            expected: None,
            spec,
            counters: ScanCounters::default(),
        }
    }

    /// The next batch, never empty, or `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        self.pinned.check()?;
        while self.remaining > 0 {
            let Some((part, reading)) = &mut self.current else {
                let Some(share) = self.shares.pop_front() else {
                    return Ok(None);
                };
                self.current = self.begin(share)?;
                continue;
            };
            let batch = match reading {
                Reading::Forward(read) => self.columns.next(&self.spec, part, read, &mut self.counters)?,
                Reading::Backward(steps) => steps.next(&self.spec, part, &self.columns, &mut self.counters)?,
            };
            let Some(batch) = batch else {
                self.current = None;
                continue;
            };
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

    /// Returns at most this many rows more.
    pub(crate) fn limit(&mut self, rows: usize) {
        self.remaining = self.remaining.min(rows);
    }

    /// What is begun from now on begins with batches of so many rows.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        self.expected = Some(rows);
    }

    pub(crate) fn counters(&self) -> ScanCounters {
        self.counters
    }

    fn begin(&mut self, share: Share) -> Result<Option<(Part, Reading)>, StoreError> {
        let Share { segment, rows } = share;
        let file = self.pinned.engine().opened().get(&segment, &self.schema)?;
        let rows = match rows {
            Some(rows) => rows,
            None => rows_in(&segment.entry, &self.schema, &file, self.spec.scope, &self.spec.range)?,
        };
        let part = Part {
            deleted: Deleted::load(&self.pinned, segment.entry.segment, &rows)?,
            segment,
            file,
            rows,
        };
        let mut ranges = part.deleted.without_dead_chunks(part.rows.clone());
        if let Some(prune) = &self.spec.prune {
            let own = part.file.scope_rows(self.spec.scope);
            ranges = pruned(prune.as_ref(), &part.file, &own, ranges, &mut self.counters);
        }
        let mut wanted = self.remaining;
        if mistake!(LimitsReadEverything) {
            wanted = usize::MAX;
        }
        let backward = self.spec.order == ScanOrder::Descending;
        let ranges = match backward {
            false => first_live(ranges, &part.deleted, wanted),
            true => last_live(ranges, &part.deleted, wanted),
        };
        if ranges.is_empty() {
            return Ok(None);
        }
        self.counters.segments_read += self.spec.seen.add(part.segment.entry.segment);
        self.columns = Columns::of(&self.spec, &part.segment.entry);
        // No batch longer than the limit, so that no page is decoded further than that.
        let batch_rows = self.spec.batch_rows.max(1).min(wanted);
        let mut read = part.file.read(&self.columns.read, ranges.clone(), batch_rows)?;
        let reading = match backward {
            false => {
                if let Some(rows) = self.expected {
                    read.begin_with(rows);
                }
                Reading::Forward(Box::new(read))
            }
            true => Reading::Backward(Backward {
                rest: ranges,
                steps: Pace::new(self.expected, read.batch_rows()),
                ready: Vec::new(),
            }),
        };
        Ok(Some((part, reading)))
    }
}

impl Backward {
    /// The next batch, the last row first; it may be empty. `None` at the end.
    fn next(
        &mut self,
        spec: &ScanSpec,
        part: &Part,
        columns: &Columns,
        counters: &mut ScanCounters,
    ) -> Result<Option<RecordBatch>, StoreError> {
        if self.ready.is_empty() {
            let rows = self.steps.next();
            let step = self.step(rows);
            if step.is_empty() {
                return Ok(None);
            }
            let mut read = part.file.read(&columns.read, step, rows)?;
            while let Some(batch) = columns.next(spec, part, &mut read, counters)? {
                self.ready.push(batch);
            }
        }
        let Some(batch) = self.ready.pop() else {
            return Ok(None);
        };
        if batch.num_columns() == 0 {
            return Ok(Some(batch));
        }
        let backward = UInt32Array::from_iter_values((0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).rev());
        take_record_batch(&batch, &backward)
            .map(Some)
            .map_err(|error| unreadable(&part.segment.entry, &error))
    }

    /// Takes the last rows off the rest: so many at most, and from the beginning of a page if one begins among them, so that the
    /// next step decodes no page again.
    fn step(&mut self, rows: usize) -> Vec<Range<u32>> {
        let mut step: Vec<Range<u32>> = Vec::new();
        let mut room = u32::try_from(rows).unwrap_or(u32::MAX);
        while room > 0
            && let Some(range) = self.rest.pop()
        {
            let mut start = range.start.max(range.end.saturating_sub(room));
            if start > range.start {
                let page = start.next_multiple_of(PAGE_ROWS as u32);
                start = if page < range.end { page } else { start };
                self.rest.push(range.start..start);
                room = 0;
            } else {
                room -= range.end - range.start;
            }
            step.push(start..range.end);
        }
        step.reverse();
        step
    }
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
