//! Reading rows of one scope in the order of their keys: the epochs and segments that they are in, one after the other where their
//! keys do not overlap, else merged by key. A key is at one place only, so no row is ever left out for another.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;

use crate::cold_scan::{self, ColdScan, Share};
use crate::error::StoreError;
use crate::hot::{self, EpochKeys, HotScan};
use crate::ids::Epoch;
use crate::pace::Pace;
use crate::pinned::Pinned;
use crate::scan::{ScanColumn, ScanCounters, ScanOrder, ScanSpec};
use crate::schema::StoreSchema;
use crate::snapshot::DbState;
use crate::tuning::SEGMENT_BATCH_BYTES;

/// A running scan in key order.
pub(crate) struct OrderedScan {
    pinned: Arc<Pinned>,
    /// In order; no key of one group lies among those of another.
    groups: VecDeque<Group>,
    spec: ScanSpec,
    /// Rows that may still be returned.
    remaining: usize,
    /// Of groups that are used up.
    counters: ScanCounters,
}

/// Places whose keys overlap.
enum Group {
    /// There is only one, and it is read as it is.
    Alone(Reader),
    Merged(Merge),
}

/// A place with rows of the scan, and the keys between which they are as far as they are known.
struct Place {
    first: Vec<u8>,
    last: Option<Vec<u8>>,
    rows: Rows,
}

enum Rows {
    Cold(Share),
    Hot(Epoch),
}

/// Reads one place in key order.
enum Reader {
    Cold(Box<ColdScan>),
    Hot(Box<HotScan>),
}

impl OrderedScan {
    pub(crate) fn open<C>(
        state: &Arc<DbState<C>>,
        schema: &Arc<StoreSchema>,
        spec: ScanSpec,
    ) -> Result<Self, StoreError> {
        let mut places = Vec::new();
        for share in cold_scan::shares(state, schema, &spec)? {
            let (first, last) = share.edges(spec.scope);
            places.push(Place {
                first: first.unwrap_or_default(),
                last,
                rows: Rows::Cold(share),
            });
        }
        if spec.has_hot_rows() {
            for EpochKeys { epoch, first, last } in hot::edges(state, &spec)? {
                places.push(Place {
                    first,
                    last: Some(last),
                    rows: Rows::Hot(epoch),
                });
            }
        }
        let with_keys = with_keys(&spec);
        let reader = |rows: Rows, spec: &ScanSpec| -> Result<Reader, StoreError> {
            Ok(match rows {
                Rows::Cold(share) => Reader::Cold(Box::new(ColdScan::new(
                    state.pinned(),
                    schema,
                    vec![share],
                    spec.clone(),
                ))),
                Rows::Hot(epoch) => {
                    let epochs = VecDeque::from([epoch]);
                    Reader::Hot(Box::new(HotScan::of_epochs(state, schema, spec.clone(), epochs)?))
                }
            })
        };
        let mut groups = VecDeque::new();
        for mut places in overlapping(places) {
            let group = match places.pop() {
                Some(only) if places.is_empty() => Group::Alone(reader(only.rows, &spec)?),
                last => {
                    let mut merge = Merge::new(&spec);
                    for place in places.into_iter().chain(last) {
                        let edge = match spec.order {
                            ScanOrder::Any | ScanOrder::Ascending => Some(place.first),
                            ScanOrder::Descending => place.last,
                        };
                        merge.add(reader(place.rows, &with_keys)?, edge);
                    }
                    Group::Merged(merge)
                }
            };
            match spec.order {
                ScanOrder::Any | ScanOrder::Ascending => groups.push_back(group),
                ScanOrder::Descending => groups.push_front(group),
            }
        }
        Ok(Self {
            pinned: state.pinned().clone(),
            groups,
            remaining: spec.limit.unwrap_or(usize::MAX),
            spec,
            counters: ScanCounters::default(),
        })
    }

    /// The next batch, never empty, or `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        // A merge may have rows left that it read before.
        self.pinned.check()?;
        while self.remaining > 0
            && let Some(group) = self.groups.front_mut()
        {
            let batch = match group {
                Group::Alone(reader) => {
                    reader.limit(self.remaining);
                    reader.next_batch()?
                }
                Group::Merged(merge) => merge.next(&self.spec, self.remaining)?,
            };
            let Some(batch) = batch else {
                self.counters += group.counters();
                self.groups.pop_front();
                continue;
            };
            self.remaining -= batch.num_rows();
            return Ok(Some(batch));
        }
        Ok(None)
    }

    /// Begins with short batches, of about so many rows, and takes no more from any place at first.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        for group in &mut self.groups {
            match group {
                Group::Alone(reader) => reader.expect_rows(rows),
                Group::Merged(merge) => {
                    merge.batches = Pace::new(Some(rows), self.spec.batch_rows);
                    merge
                        .sources
                        .iter_mut()
                        .for_each(|source| source.reader.expect_rows(rows));
                }
            }
        }
    }

    pub(crate) fn counters(&self) -> ScanCounters {
        let mut counters = self.counters;
        for group in &self.groups {
            counters += group.counters();
        }
        counters
    }
}

impl Group {
    fn counters(&self) -> ScanCounters {
        let mut counters = ScanCounters::default();
        match self {
            Group::Alone(reader) => counters += reader.counters(),
            Group::Merged(merge) => merge
                .sources
                .iter()
                .for_each(|source| counters += source.reader.counters()),
        }
        counters
    }
}

impl Reader {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        match self {
            Reader::Cold(scan) => scan.next_batch(),
            Reader::Hot(scan) => scan.next_batch(),
        }
    }

    fn limit(&mut self, rows: usize) {
        match self {
            Reader::Cold(scan) => scan.limit(rows),
            Reader::Hot(scan) => scan.limit(rows),
        }
    }

    fn expect_rows(&mut self, rows: usize) {
        match self {
            Reader::Cold(scan) => scan.expect_rows(rows),
            Reader::Hot(scan) => scan.expect_rows(rows),
        }
    }

    fn counters(&self) -> ScanCounters {
        match self {
            Reader::Cold(scan) => scan.counters(),
            Reader::Hot(scan) => scan.counters(),
        }
    }
}

/// Groups of places that overlap, in the order of their keys.
fn overlapping(mut places: Vec<Place>) -> Vec<Vec<Place>> {
    places.sort_by(|a, b| a.first.cmp(&b.first));
    let mut groups: Vec<Vec<Place>> = Vec::new();
    // Of the places of the group; `None`: it is unknown.
    let mut last: Option<Vec<u8>> = None;
    for place in places {
        let apart = last.as_ref().is_some_and(|last| *last < place.first) || mistake!(OverlapsAreReadApart);
        match groups.last_mut() {
            Some(group) if !apart => {
                last = last.zip(place.last.clone()).map(|(a, b)| a.max(b));
                group.push(place);
            }
            _ => {
                last = place.last.clone();
                groups.push(vec![place]);
            }
        }
    }
    groups
}

/// The same with the key as the last column.
fn with_keys(spec: &ScanSpec) -> ScanSpec {
    let mut columns = spec.columns.clone();
    columns.push(ScanColumn::Key);
    let fields = spec.schema.fields().iter().cloned();
    let key = Arc::new(Field::new("_key", DataType::Binary, false));
    ScanSpec {
        columns,
        schema: Arc::new(Schema::new(fields.chain([key]).collect::<Fields>())),
        ..spec.clone()
    }
}

/// Places that overlap while they are merged. A place of which a key is known that none of its rows comes before is not read until
/// that key's turn comes.
struct Merge {
    order: ScanOrder,
    sources: Vec<Source>,
    /// Those of which no such key is known.
    unknown: Vec<usize>,
    heap: BinaryHeap<Next>,
    batches: Pace,
}

struct Source {
    reader: Reader,
    /// What was read of it and not taken, with the keys.
    head: Option<Head>,
}

struct Head {
    batch: RecordBatch,
    keys: BinaryArray,
    at: usize,
}

/// Whose turn it is: the greatest one's.
struct Next {
    /// The key of the source's next row, or one that it does not come before if it is not read yet.
    key: Vec<u8>,
    source: usize,
    order: ScanOrder,
}

impl Merge {
    fn new(spec: &ScanSpec) -> Self {
        Self {
            order: spec.order,
            sources: Vec::new(),
            unknown: Vec::new(),
            heap: BinaryHeap::new(),
            batches: Pace::new(None, spec.batch_rows),
        }
    }

    fn add(&mut self, reader: Reader, edge: Option<Vec<u8>>) {
        let source = self.sources.len();
        self.sources.push(Source { reader, head: None });
        match edge {
            Some(key) => self.heap.push(Next {
                key,
                source,
                order: self.order,
            }),
            None => self.unknown.push(source),
        }
    }

    /// The next rows, at most so many and as the scan wants them, or `None` at the end.
    fn next(&mut self, spec: &ScanSpec, remaining: usize) -> Result<Option<RecordBatch>, StoreError> {
        for source in std::mem::take(&mut self.unknown) {
            self.fill(source, remaining)?;
        }
        let wanted = self.batches.next().min(remaining);
        // Batches that rows are taken from, and for each source which of them is its head.
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut slots: Vec<Option<usize>> = vec![None; self.sources.len()];
        let mut picked: Vec<(usize, usize)> = Vec::new();
        let mut used_bytes = 0;
        while picked.len() < wanted && used_bytes < SEGMENT_BATCH_BYTES {
            let Some(Next { source, .. }) = self.heap.pop() else {
                break;
            };
            let Some(head) = &mut self.sources[source].head else {
                self.fill(source, remaining)?;
                continue;
            };
            let slot = *slots[source].get_or_insert_with(|| {
                batches.push(head.batch.clone());
                batches.len() - 1
            });
            let other = self.heap.peek();
            let first =
                |key: &[u8]| other.is_none_or(|other| compare(self.order, key, &other.key) != Ordering::Greater);
            while picked.len() < wanted && head.at < head.keys.len() && first(head.keys.value(head.at)) {
                picked.push((slot, head.at));
                head.at += 1;
            }
            if head.at < head.keys.len() {
                let key = head.keys.value(head.at).to_vec();
                let order = self.order;
                self.heap.push(Next { key, source, order });
            } else {
                used_bytes += head.batch.get_array_memory_size();
                slots[source] = None;
                self.sources[source].head = None;
                self.fill(source, remaining)?;
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        gathered(spec, &batches, &picked)
            .map(Some)
            .map_err(|error| StoreError::Storage(format!("rows cannot be merged: {error}")))
    }

    /// Reads a source's next rows; it has its turn again if there are any.
    fn fill(&mut self, source: usize, remaining: usize) -> Result<(), StoreError> {
        let from = &mut self.sources[source];
        from.reader.limit(remaining);
        if let Some(batch) = from.reader.next_batch()? {
            let keys = batch.column(batch.num_columns() - 1).as_binary::<i32>().clone();
            self.heap.push(Next {
                key: keys.value(0).to_vec(),
                source,
                order: self.order,
            });
            from.head = Some(Head { batch, keys, at: 0 });
        }
        Ok(())
    }
}

/// The rows at these places in the batches, without their keys.
fn gathered(spec: &ScanSpec, batches: &[RecordBatch], picked: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
    let rows = picked.len();
    let batch = match (batches, picked) {
        // One batch's rows are next to each other.
        ([one], [(_, first), ..]) => one.slice(*first, rows),
        _ => interleave_record_batch(&batches.iter().collect::<Vec<_>>(), picked)?,
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = batch.columns()[..spec.columns.len()].to_vec();
    RecordBatch::try_new_with_options(spec.schema.clone(), columns, &options)
}

fn compare(order: ScanOrder, a: &[u8], b: &[u8]) -> Ordering {
    match order {
        ScanOrder::Any | ScanOrder::Ascending => a.cmp(b),
        ScanOrder::Descending => b.cmp(a),
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.order, &other.key, &self.key).then(other.source.cmp(&self.source))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}
