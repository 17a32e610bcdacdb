//! Flush: the rows of a sealed epoch, in the order of their keys, become the segments of one run.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::executor::block_on;
use parking_lot::Mutex;

use crate::committer::{Step, TableChange};
use crate::damage::Damages;
use crate::decode::{self, RowBuffer, RowDecoder};
use crate::error::{CommitError, StoreError};
use crate::ids::{Epoch, ScopeId, SegmentId, StoreId};
use crate::key;
use crate::mover::{Moved, Progress, SegmentOptions};
use crate::pinned::{IterateOptions, PinnedIterator, Rows};
use crate::publication::{Inputs, Publication, Resolution, Settle};
use crate::run_writer::{Placed, RunWriter};
use crate::scan::ScanColumn;
use crate::schema::{Lifetime, StoreSchema};
use crate::segment::SegmentShape;
use crate::snapshot::{DbState, TableVersion};
use crate::store::Store;
use crate::tuning::{MOVE_BATCH_ROWS, POINT_DELETE_ROWS, SCAN_BATCH_BYTES, SCAN_READAHEAD_BYTES};
use crate::watch::{Concern, Fingerprint, News, fingerprint};

/// Moves the rows that are hot now.
pub(crate) fn flush<C: Send + Sync + 'static>(
    store: &Arc<Store<C>>,
    target: StoreId,
    schema: &Arc<StoreSchema>,
    options: &SegmentOptions,
    progress: &dyn Progress,
) -> Result<Moved, StoreError> {
    let _one_at_a_time = store.flushes().enter_blocking(target);
    let mut moved = Moved::default();
    let version = table(&store.state(), target)?;
    if version.lifetime == Lifetime::Expiring {
        return Err(StoreError::Unsupported("rows that expire are not flushed".to_string()));
    }
    store.state().check_segments(target)?;
    // Rows that cannot be moved are better off unsealed.
    store.check_storage(options.storage)?;
    // What an interrupted flush had sealed goes first.
    if let [sealed, _] = version.epochs.as_slice() {
        moved.add(move_epoch(store, target, schema, *sealed, options, progress)?);
    }
    if store.hot_usage(target).rows > 0 || has_rows(store, target)? {
        step(store, TableChange::Seal(target))?;
        crate::crash::point("flush-sealed");
        let version = table(&store.state(), target)?;
        if let [sealed, _] = version.epochs.as_slice() {
            moved.add(move_epoch(store, target, schema, *sealed, options, progress)?);
        }
    }
    Ok(moved)
}

/// Whether the current epoch has a row, whatever the count of them says.
fn has_rows<C>(store: &Store<C>, target: StoreId) -> Result<bool, StoreError>
where
    C: Send + Sync + 'static,
{
    let state = store.state();
    let current = table(&state, target)?.current();
    let iterator = EpochRows::iterator(&state, target, current)?;
    let rows = iterator.rows()?;
    let is_there = rows.key().is_some();
    rows.end().map_err(|error| state.of_hot(target, error))?;
    Ok(is_there)
}

fn table<C>(state: &DbState<C>, target: StoreId) -> Result<Arc<TableVersion>, StoreError> {
    state.table(target).cloned().ok_or(StoreError::Retired(target))
}

/// A step of the store's own: the catalog stays.
pub(crate) fn step<C: Send + Sync + 'static>(store: &Arc<Store<C>>, change: TableChange) -> Result<(), StoreError> {
    let step = Step {
        changes: vec![change],
        removals: Vec::new(),
        puts: Vec::new(),
        meta: Vec::new(),
        catalog: None,
        // The committer takes its last time and a microsecond.
        now_micros: 0,
    };
    block_on(store.step(step)).map(|_| ()).map_err(StoreError::from)
}

fn move_epoch<C: Send + Sync + 'static>(
    store: &Arc<Store<C>>,
    target: StoreId,
    schema: &Arc<StoreSchema>,
    epoch: Epoch,
    options: &SegmentOptions,
    progress: &dyn Progress,
) -> Result<Moved, StoreError> {
    // Before the state: what is removed afterwards is heard of.
    let watch = store.watch(target, Concern::Epoch(epoch))?;
    let state = store.state();
    let _exempt = state.exempt();
    store.engine().moment("flush-begun");
    let watch = match mistake!(FlushesWatchTooLate) {
        true => store.watch(target, Concern::Epoch(epoch))?,
        false => watch,
    };
    let version = table(&state, target)?;
    if version.schema_version != schema.version {
        return Err(StoreError::Retired(target));
    }
    let shape = SegmentShape {
        row_ids: schema.key.is_empty(),
        seqs: true,
    };
    let mut writer = RunWriter::new(store, target, schema, options, shape);
    let mut places = Places::default();
    let mut hot_keys = Some(Vec::new());
    let mut rows = EpochRows::new(&state, target, schema, epoch)?;
    while let Some(part) = rows.next()? {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        let count = part.keys.len();
        if !state.retired_scopes().contains(&part.scope) || mistake!(FlushesKeepRetiredScopes) {
            let placed = writer.write(part.scope, Some(&part.keys), &part.columns, count)?;
            places.add(part.scope, &part.keys, &placed);
        }
        if let Some(keys) = &mut hot_keys {
            keys.extend(part.keys.iter().flatten().map(|key| {
                let mut whole = Vec::new();
                key::hot_key(target, epoch, part.scope, key, &mut whole);
                whole
            }));
        }
        hot_keys = hot_keys.filter(|keys| keys.len() <= POINT_DELETE_ROWS);
        progress.advance(count as u64, 0);
    }
    let outputs = writer.finish()?;
    crate::crash::point("flush-written");
    places.sort();
    let publication = Publication {
        store: target,
        schema_version: schema.version,
        rows: places.len() as u64,
        scopes: BTreeSet::new(),
        outputs,
        inputs: Inputs {
            epoch: Some(epoch),
            hot_keys,
            segments: Vec::new(),
        },
        resolution: Mutex::new(Resolution::default()),
        watch: Some(watch),
        settle: places.settle(),
        _gate: None,
    };
    let moved = publish(store, publication, progress)?;
    crate::crash::point("flush-published");
    Ok(moved)
}

/// Publishes what a mover made, when no load is about to remove rows where it found them.
pub(crate) fn publish<C: Send + Sync + 'static>(
    store: &Arc<Store<C>>,
    publication: Publication,
    progress: &dyn Progress,
) -> Result<Moved, StoreError> {
    let moved = Moved {
        rows: publication.rows,
        bytes: publication.bytes(),
        segments: publication.outputs.len() as u64,
    };
    progress.advance(0, moved.bytes);
    let _gate = store.publishers().enter_blocking(publication.store);
    // Most of it here, so that the committer has little left to do.
    publication.catch_up()?;
    if progress.cancelled() {
        return Err(StoreError::Cancelled);
    }
    step(store, TableChange::Publish(Arc::new(publication)))?;
    Ok(moved)
}

impl Moved {
    pub(crate) fn add(&mut self, other: Moved) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.segments += other.segments;
    }
}

/// Where the rows of the epoch are in the new segments.
#[derive(Default)]
struct Places {
    places: Vec<(Fingerprint, SegmentId, u32)>,
}

impl Places {
    fn add(&mut self, scope: ScopeId, keys: &BinaryArray, placed: &[Placed]) {
        for part in placed {
            for (row, index) in (part.first_row..).zip(part.rows.clone()) {
                self.places
                    .push((fingerprint(scope, keys.value(index)), part.segment, row));
            }
        }
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn sort(&mut self) {
        self.places.sort_unstable_by_key(|place| place.0);
    }

    /// Marks the rows that were removed from the epoch since.
    fn settle(self) -> Settle {
        let places = self.places;
        Box::new(move |news: &News, resolution: &mut Resolution| {
            for wanted in news.gone.iter().filter(|_| !mistake!(FlushesForgetRemovals)) {
                // Rows that the state no longer showed are not there.
                if let Ok(index) = places.binary_search_by_key(wanted, |place| place.0) {
                    let (_, segment, row) = places[index];
                    resolution.deleted.entry(segment).or_default().insert(row);
                }
            }
            Ok::<(), CommitError>(())
        })
    }
}

/// The rows of an epoch in the order of (scope, key).
pub(crate) struct EpochRows {
    target: StoreId,
    schema: Arc<StoreSchema>,
    epoch: Epoch,
    iterator: PinnedIterator,
    damages: Damages,
    decoders: Decoders,
}

/// Rows of one scope.
pub(crate) struct EpochPart {
    pub(crate) scope: ScopeId,
    pub(crate) keys: BinaryArray,
    /// As segments that store everything have them.
    pub(crate) columns: Vec<ArrayRef>,
}

/// Decodes stored rows into the columns of a segment.
pub(crate) struct Decoders {
    target: StoreId,
    schema: Arc<StoreSchema>,
    columns: Vec<ScanColumn>,
    output: SchemaRef,
}

impl Decoders {
    pub(crate) fn new(target: StoreId, schema: &Arc<StoreSchema>) -> Self {
        let mut columns: Vec<ScanColumn> = (0..schema.columns.len()).map(ScanColumn::Column).collect();
        columns.extend([ScanColumn::Seq, ScanColumn::Updated, ScanColumn::Key]);
        let mut fields: Vec<Field> = schema
            .columns
            .iter()
            .map(|column| Field::new(column.id.to_string(), column.data_type.clone(), true))
            .collect();
        fields.extend([
            Field::new("_seq", DataType::UInt64, false),
            Field::new(
                "_updated",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            ),
            Field::new("_key", DataType::Binary, false),
        ]);
        Self {
            target,
            schema: schema.clone(),
            columns,
            output: Arc::new(Schema::new(fields)),
        }
    }

    pub(crate) fn of_scope(&self, scope: ScopeId) -> Result<RowDecoder, StoreError> {
        RowDecoder::new(&self.schema, self.target, scope, &self.columns, &self.output)
    }

    /// Keys, then the columns of a segment that stores everything.
    pub(crate) fn decode(
        &self,
        decoder: &RowDecoder,
        rows: &mut RowBuffer,
    ) -> Result<(BinaryArray, Vec<ArrayRef>), StoreError> {
        let batch = decoder.decode(rows)?;
        let mut columns = batch.columns().to_vec();
        let keys = columns.pop().map(|keys| keys.as_binary::<i32>().clone());
        let keys = keys.ok_or_else(|| StoreError::Storage("rows were decoded without keys".to_string()))?;
        if self.schema.key.is_empty() {
            let ids = keys.iter().map(|key| {
                let id = key.and_then(|key| key.try_into().ok());
                id.map(u64::from_be_bytes)
            });
            let ids: UInt64Array = ids.collect();
            let mut ids: ArrayRef = Arc::new(ids);
            if mistake!(FlushedRowsGetNewIds) {
                ids = columns[self.schema.columns.len()].clone();
            }
            columns.insert(self.schema.columns.len(), ids);
        }
        Ok((keys, columns))
    }
}

impl EpochRows {
    pub(crate) fn new<C>(
        state: &Arc<DbState<C>>,
        target: StoreId,
        schema: &Arc<StoreSchema>,
        epoch: Epoch,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            target,
            schema: schema.clone(),
            epoch,
            iterator: Self::iterator(state, target, epoch)?,
            damages: state.pinned().engine().damages().clone(),
            decoders: Decoders::new(target, schema),
        })
    }

    /// On the first key of the epoch.
    fn iterator<C>(state: &DbState<C>, target: StoreId, epoch: Epoch) -> Result<PinnedIterator, StoreError> {
        let lower = key::epoch_prefix(target, epoch).to_vec();
        let options = IterateOptions {
            upper: key::successor(&lower),
            lower,
            readahead_bytes: SCAN_READAHEAD_BYTES,
        };
        let iterator = state.pinned().iterate(state.pinned().engine().hot(), &options);
        iterator.rows()?.seek(&options.lower);
        Ok(iterator)
    }

    fn end(&self, found: &Rows) -> Result<(), StoreError> {
        let of_hot = |error| self.damages.of_hot(self.target, error);
        found.end().map_err(of_hot)
    }

    pub(crate) fn next(&mut self) -> Result<Option<EpochPart>, StoreError> {
        let mut found = self.iterator.rows()?;
        let Some(first) = found.key() else {
            return self.end(&found).map(|()| None);
        };
        let scope = scope_of(first)?;
        let prefix = key::scope_prefix(self.target, self.epoch, scope);
        let decoder = self.decoders.of_scope(scope)?;
        let mut rows = RowBuffer::default();
        while rows.rows() < MOVE_BATCH_ROWS && rows.bytes() < SCAN_BATCH_BYTES {
            let Some((whole, value)) = found.item(true) else {
                self.end(&found)?;
                break;
            };
            if !whole.starts_with(&prefix) {
                break;
            }
            // Rows of durable tables do not expire.
            decoder.push(&mut rows, self.epoch, 0, whole, value)?;
            found.next();
        }
        let (keys, columns) = self.decoders.decode(&decoder, &mut rows)?;
        debug_assert_eq!(self.schema.lifetime, Lifetime::Durable);
        Ok(Some(EpochPart { scope, keys, columns }))
    }
}

fn scope_of(whole: &[u8]) -> Result<ScopeId, StoreError> {
    whole
        .get(8..16)
        .and_then(|scope| scope.try_into().ok())
        .map(|scope| ScopeId(u64::from_be_bytes(scope)))
        .ok_or_else(|| decode::corrupt(whole, "the key ends before its scope"))
}
