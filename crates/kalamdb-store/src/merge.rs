//! Merging sorted sources of rows into one order of (scope, key): for compaction, and for loads that come out of order.
//!
//! Rows may be long, so everything that is held is bounded in bytes: what is read of each source, and what is given at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{filter, interleave};

use crate::cold::implied_ids;
use crate::deletion_vector::Deleted;
use crate::error::StoreError;
use crate::ids::{ScopeId, Seq};
use crate::manifest::{SegmentEntry, SegmentSeqs};
use crate::row_bytes;
use crate::schema::StoreSchema;
use crate::segment::{ReadSize, RowNumbers, SegmentColumn, SegmentFile, SegmentRead, SegmentShape};
use crate::tuning::{MERGE_BATCH_BYTES, MERGE_BYTES, MOVE_BATCH_ROWS, SEGMENT_BATCH_BYTES, SEGMENT_READAHEAD_BYTES};

/// Bytes of the inputs' batches that rows of one output may come from. All that are begun and as many again are, so that an output
/// is never cut short because there are many of them. One column of so many rows is far from what its offsets hold.
const ORIGIN_BYTES: usize = 2 * MERGE_BYTES;

/// Rows of one scope of one source.
pub(crate) struct SourceRows {
    scope: ScopeId,
    keys: BinaryArray,
    columns: Vec<ArrayRef>,
    /// Their numbers in the file.
    numbers: Vec<u32>,
    /// Of keys and columns.
    bytes: usize,
}

/// A segment as a sorted source of live rows.
pub(crate) struct Source {
    entry: Arc<SegmentEntry>,
    file: Arc<SegmentFile>,
    deleted: Deleted,
    shape: SegmentShape,
    columns: usize,
    row_ids: Option<Seq>,
    /// Scopes not begun, and their rows.
    scopes: std::vec::IntoIter<(ScopeId, Range<u32>)>,
    current: Option<(ScopeId, SegmentRead)>,
    size: ReadSize,
}

/// Merged rows of one scope.
pub(crate) struct Merged {
    pub(crate) scope: ScopeId,
    pub(crate) keys: BinaryArray,
    pub(crate) columns: Vec<ArrayRef>,
    /// Of each row: which source, and its number there.
    pub(crate) origins: Vec<(usize, u32)>,
}

impl Source {
    /// All live rows of a file, with the columns of `shape`.
    pub(crate) fn new(
        entry: &Arc<SegmentEntry>,
        file: &Arc<SegmentFile>,
        deleted: Deleted,
        schema: &StoreSchema,
        shape: SegmentShape,
        wanted: impl Fn(ScopeId) -> bool,
    ) -> Self {
        let scopes: Vec<(ScopeId, Range<u32>)> = file.scopes().filter(|(scope, _)| wanted(*scope)).collect();
        Self {
            entry: entry.clone(),
            file: file.clone(),
            deleted,
            shape,
            columns: schema.columns.len(),
            row_ids: implied_ids(entry, schema),
            scopes: scopes.into_iter(),
            current: None,
            size: share_of(1),
        }
    }

    fn next(&mut self) -> Result<Option<SourceRows>, StoreError> {
        loop {
            let Some((scope, read)) = &mut self.current else {
                let Some((scope, rows)) = self.scopes.next() else {
                    return Ok(None);
                };
                let ranges = self.deleted.without_dead_chunks(rows);
                if !ranges.is_empty() {
                    let read = self.file.read_sized(&self.wanted_columns(), ranges, self.size)?;
                    self.current = Some((scope, read));
                }
                continue;
            };
            let scope = *scope;
            let Some((numbers, arrays, rows)) = read.next()? else {
                self.current = None;
                continue;
            };
            if let Some(rows) = self.live_rows(scope, &numbers, arrays, rows)? {
                return Ok(Some(rows));
            }
        }
    }

    fn wanted_columns(&self) -> Vec<SegmentColumn> {
        let mut columns: Vec<SegmentColumn> = (0..self.columns).map(SegmentColumn::Column).collect();
        let stored = matches!(self.entry.seqs, SegmentSeqs::Stored { .. });
        if self.row_ids.is_none() {
            columns.push(SegmentColumn::Key);
        }
        if self.shape.seqs && stored {
            columns.extend([SegmentColumn::Seq, SegmentColumn::Updated]);
        }
        columns
    }

    /// Adds what the file does not store, and takes the dead away.
    fn live_rows(
        &self,
        scope: ScopeId,
        numbers: &RowNumbers,
        mut arrays: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<Option<SourceRows>, StoreError> {
        let mut hidden = arrays.split_off(self.columns).into_iter();
        let mut next_hidden = || hidden.next().ok_or_else(|| self.damaged("a column is missing"));
        let keys: ArrayRef = match self.row_ids {
            None => next_hidden()?,
            Some(base) => Arc::new(BinaryArray::from_iter_values(
                numbers.iter().map(|row| (base.0 + u64::from(row)).to_be_bytes()),
            )),
        };
        if self.shape.row_ids {
            let ids = keys.as_binary::<i32>().iter().map(|key| {
                let id = key.and_then(|key| key.try_into().ok());
                id.map(u64::from_be_bytes)
            });
            arrays.push(Arc::new(ids.collect::<UInt64Array>()));
        }
        if self.shape.seqs {
            match self.entry.seqs {
                SegmentSeqs::Stored { .. } => arrays.extend([next_hidden()?, next_hidden()?]),
                SegmentSeqs::Base { base, updated_micros } => {
                    let seqs = numbers.iter().map(|row| base.0 + u64::from(row));
                    let updated = TimestampMicrosecondArray::from_iter_values((0..rows).map(|_| updated_micros));
                    arrays.push(Arc::new(UInt64Array::from_iter_values(seqs)));
                    arrays.push(Arc::new(updated.with_timezone("UTC")));
                }
            }
        }
        let mut keys = keys;
        let mut row_numbers: Vec<u32> = numbers.iter().collect();
        if let Some(live) = self.deleted.live(numbers)
            && !mistake!(CompactionsKeepTheDead)
        {
            let keep = |array: &ArrayRef| filter(array, &live).map_err(|error| self.damaged(&error.to_string()));
            for array in &mut arrays {
                *array = keep(array)?;
            }
            keys = keep(&keys)?;
            row_numbers.retain(|&row| !self.deleted.contains(row));
        }
        Ok((!row_numbers.is_empty()).then(|| SourceRows {
            scope,
            bytes: row_bytes::of_array(&keys) + row_bytes::of_columns(&arrays),
            keys: keys.as_binary::<i32>().clone(),
            columns: arrays,
            numbers: row_numbers,
        }))
    }

    fn damaged(&self, problem: &str) -> StoreError {
        StoreError::Corrupt {
            object: self.entry.describe(),
            problem: problem.to_string(),
        }
    }
}

/// A source that is opened when the turn of its first row comes: of a run, which is disjoint in keys, one is open at a time.
pub(crate) struct Unopened<'a> {
    entry: Arc<SegmentEntry>,
    open: Box<dyn FnOnce() -> Result<Source, StoreError> + 'a>,
}

impl<'a> Unopened<'a> {
    /// That segment, once it is opened.
    pub(crate) fn new(entry: &Arc<SegmentEntry>, open: impl FnOnce() -> Result<Source, StoreError> + 'a) -> Self {
        Self {
            entry: entry.clone(),
            open: Box::new(open),
        }
    }
}

/// How far a merge is with one of its sources.
enum Progressing<'a> {
    Unopened(Unopened<'a>),
    Open(Box<Source>),
    Ended,
}

/// The heads of all sources, smallest first. Equal keys come in the order of the sources.
pub(crate) struct Merge<'a> {
    sources: Vec<Progressing<'a>>,
    heads: Vec<Option<(SourceRows, usize)>>,
    /// The next key of each source that has one; of one that is not open, a key that is not after its first.
    heap: BinaryHeap<Reverse<(ScopeId, Vec<u8>, usize)>>,
    size: ReadSize,
}

/// What one of so many sources reads at once.
fn share_of(open: usize) -> ReadSize {
    let share = MERGE_BYTES / open.max(1);
    ReadSize {
        batch_rows: MOVE_BATCH_ROWS,
        batch_bytes: share.min(SEGMENT_BATCH_BYTES),
        step_bytes: SEGMENT_READAHEAD_BYTES.min(share as u64),
    }
}

impl<'a> Merge<'a> {
    /// Of sources that are segments of so many runs, [`crate::tuning::MERGE_RUNS`] at most: of each, one is open at a time.
    pub(crate) fn new(sources: Vec<Unopened<'a>>, runs: usize) -> Self {
        #[cfg(test)]
        crate::peak::note(|peak| peak.runs = peak.runs.max(runs));
        let mut heap = BinaryHeap::with_capacity(sources.len());
        for (source, unopened) in sources.iter().enumerate() {
            let first = match unopened.entry.min_key.split_first_chunk() {
                Some((scope, key)) => (ScopeId(u64::from_be_bytes(*scope)), key.to_vec()),
                // Nothing is before it.
                None => (ScopeId::GLOBAL, Vec::new()),
            };
            heap.push(Reverse((first.0, first.1, source)));
        }
        Self {
            heads: sources.iter().map(|_| None).collect(),
            sources: sources.into_iter().map(Progressing::Unopened).collect(),
            heap,
            size: match mistake!(MergesCountRowsAlone) {
                true => ReadSize::of_rows(MOVE_BATCH_ROWS),
                false => share_of(runs),
            },
        }
    }

    /// The scope and the source of the next row. Opens sources until the first one is open.
    fn first(&mut self) -> Result<Option<(ScopeId, usize)>, StoreError> {
        while let Some(Reverse((scope, _, source))) = self.heap.peek() {
            let (scope, source) = (*scope, *source);
            if self.heads[source].is_some() {
                return Ok(Some((scope, source)));
            }
            self.heap.pop();
            self.fill(source)?;
        }
        Ok(None)
    }

    /// The next rows of one scope, never none, so many bytes about; or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Merged>, StoreError> {
        let Some((scope, _)) = self.first()? else {
            return Ok(None);
        };
        // Batches that rows are taken from, kept as long as rows point into them.
        let mut taken: Vec<(usize, SourceRows)> = Vec::new();
        let mut picked: Vec<(usize, usize)> = Vec::new();
        let mut origins = Vec::new();
        let mut slots: Vec<Option<usize>> = vec![None; self.sources.len()];
        let mut next_slot = 0;
        let (mut bytes, mut origin_bytes) = (0, 0);
        let by_rows = mistake!(MergesCountRowsAlone);
        while picked.len() < MOVE_BATCH_ROWS && (bytes < MERGE_BATCH_BYTES || by_rows) {
            let Some((at, source)) = self.first()? else {
                break;
            };
            if at != scope {
                break;
            }
            let Some((rows, index)) = &mut self.heads[source] else {
                continue;
            };
            if slots[source].is_none() {
                if !picked.is_empty() && origin_bytes + rows.bytes > ORIGIN_BYTES && !by_rows {
                    break;
                }
                origin_bytes += rows.bytes;
            }
            self.heap.pop();
            // As if all rows of a batch were alike: what they come from is bounded, whether or not they are.
            bytes += rows.bytes / rows.keys.len() + 1;
            let slot = *slots[source].get_or_insert_with(|| {
                next_slot += 1;
                next_slot - 1
            });
            picked.push((slot, *index));
            origins.push((source, rows.numbers[*index]));
            *index += 1;
            if *index < rows.keys.len() {
                // The smallest of all is often the next of the same source.
                self.heap
                    .push(Reverse((rows.scope, rows.keys.value(*index).to_vec(), source)));
            } else if let Some((rows, _)) = self.heads[source].take() {
                taken.push((slot, rows));
                slots[source] = None;
                self.fill(source)?;
                #[cfg(test)]
                self.note_held(&taken);
            }
        }
        // Heads that rows were taken from and that are not used up.
        let mut batches: Vec<Option<&SourceRows>> = vec![None; next_slot];
        for (slot, rows) in &taken {
            batches[*slot] = Some(rows);
        }
        for (source, slot) in slots.iter().enumerate() {
            if let (Some(slot), Some((rows, _))) = (slot, &self.heads[source]) {
                batches[*slot] = Some(rows);
            }
        }
        let batches: Vec<&SourceRows> = batches.into_iter().flatten().collect();
        let merged = merged(scope, &batches, &picked, origins)?;
        #[cfg(test)]
        crate::peak::note(|peak| {
            let bytes = row_bytes::of_columns(&merged.columns);
            peak.batch = peak.batch.max(bytes);
            peak.batches += bytes;
        });
        Ok(Some(merged))
    }

    #[cfg(test)]
    fn note_held(&self, taken: &[(usize, SourceRows)]) {
        let heads = self.heads.iter().flatten().map(|(rows, _)| rows.bytes).sum::<usize>();
        let taken = taken.iter().map(|(_, rows)| rows.bytes).sum::<usize>();
        crate::peak::note(|peak| peak.held = peak.held.max(heads + taken));
    }

    fn fill(&mut self, source: usize) -> Result<(), StoreError> {
        let mut open = match std::mem::replace(&mut self.sources[source], Progressing::Ended) {
            Progressing::Unopened(unopened) => Box::new(Source {
                size: self.size,
                ..(unopened.open)()?
            }),
            Progressing::Open(open) => open,
            Progressing::Ended => return Ok(()),
        };
        if let Some(rows) = open.next()? {
            self.heap
                .push(Reverse((rows.scope, rows.keys.value(0).to_vec(), source)));
            self.heads[source] = Some((rows, 0));
            self.sources[source] = Progressing::Open(open);
        }
        Ok(())
    }
}

fn merged(
    scope: ScopeId,
    batches: &[&SourceRows],
    picked: &[(usize, usize)],
    origins: Vec<(usize, u32)>,
) -> Result<Merged, StoreError> {
    let failed = |error: arrow::error::ArrowError| StoreError::Storage(format!("rows cannot be merged: {error}"));
    // Rows of one batch in a row are a slice of it.
    if let [one] = batches
        && picked.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1)
    {
        let (from, len) = (picked[0].1, picked.len());
        return Ok(Merged {
            scope,
            keys: one.keys.slice(from, len),
            columns: one.columns.iter().map(|column| column.slice(from, len)).collect(),
            origins,
        });
    }
    let keys: Vec<&dyn Array> = batches.iter().map(|rows| &rows.keys as &dyn Array).collect();
    let keys = interleave(&keys, picked).map_err(failed)?;
    let mut columns = Vec::new();
    for column in 0..batches.first().map_or(0, |rows| rows.columns.len()) {
        let arrays: Vec<&dyn Array> = batches.iter().map(|rows| rows.columns[column].as_ref()).collect();
        columns.push(interleave(&arrays, picked).map_err(failed)?);
    }
    Ok(Merged {
        scope,
        keys: keys.as_binary::<i32>().clone(),
        columns,
        origins,
    })
}
