//! Bulk loads: rows go straight into segments that one step publishes, or that nobody ever sees.
//!
//! Rows that come in the order of their keys are written as they come. Others are gathered, sorted and written as runs of their
//! own, which are merged in the end. Then the keys are looked up in the table (`look_up`): without a lock for the most part, what others
//! do meanwhile is heard of and settled, the last of it in the committer.
//!
//! A large UPDATE is a load that removes rows as well, a large DELETE one that brings none.

mod look_up;
mod removals;
mod resolver;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, UInt32Array};
use arrow::compute::{interleave, take};
use parking_lot::Mutex;

use crate::bulk::look_up::LookUp;
use crate::bulk::removals::Removals;
use crate::bulk::resolver::{Loaded, Resolver};
use crate::decode::RowBuffer;
use crate::deletion_vector::Deleted;
use crate::error::StoreError;
use crate::flush::Decoders;
use crate::ids::{Epoch, ScopeId, Seq, StoreId};
use crate::key::{self, KeyEncoder};
use crate::location::Location;
use crate::manifest::SegmentEntry;
use crate::merge::{Merge, Source, Unopened, runs_at_once};
use crate::mover::SegmentOptions;
use crate::publication::{Inputs, NewSegment, Publication, Resolution};
use crate::row_bytes;
use crate::run_writer::RunWriter;
use crate::schema::{Lifetime, StoreSchema};
use crate::segment::{SegmentFile, SegmentShape};
use crate::snapshot::DbState;
use crate::store::Store;
use crate::tuning::{LOAD_CHUNK_BYTES, LOAD_CHUNK_ROWS, MERGE_BATCH_BYTES, MOVE_BATCH_ROWS, WATCH_ROUNDS};

/// Bytes of rows that are sorted together at most, unless they came together: half of what the offsets of a column hold.
const CHUNK_OFFSETS_BYTES: usize = 1 << 30;

/// A row's key, if its table has one, and its value.
pub type EncodedRow = (Option<Arc<[u8]>>, Vec<u8>);

/// Whether to give up, asked every few thousand rows by whoever works at length.
pub type GiveUp<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// What becomes of a row whose key exists, in the table or earlier in the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The load fails.
    Fail,
    /// The row replaces the one that exists.
    Replace,
    /// The row is dropped.
    Ignore,
}

/// A load under way, of rows of one scope. Dropping it unpublished erases what it wrote; so does a restart.
pub struct BulkLoad<C> {
    store: Arc<Store<C>>,
    target: StoreId,
    scope: ScopeId,
    schema: Arc<StoreSchema>,
    options: SegmentOptions,
    on_duplicate: OnDuplicate,
    /// None for a table without a key.
    encoder: Option<KeyEncoder>,
    shape: SegmentShape,
    removals: Removals,
    /// Rows in order, as they came.
    ordered: RunWriter<C>,
    /// The key of the last of them.
    last_key: Option<Vec<u8>>,
    /// Rows that came out of order and wait to be sorted.
    chunk: Chunk,
    /// Sorted runs of such rows, in the order in which they came.
    chunks: Vec<Vec<NewSegment>>,
    rows: u64,
}

#[derive(Default)]
struct Chunk {
    keys: Vec<BinaryArray>,
    columns: Vec<Vec<ArrayRef>>,
    rows: usize,
    bytes: usize,
}

impl<C: Send + Sync + 'static> BulkLoad<C> {
    /// Starts a load into `target`: a live store, or a new id that is not created yet. `keeps_ids`: of a table without a key,
    /// rows keep the ids that [`BulkLoad::write_encoded`] is given as keys; otherwise they get new ones.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for expiring stores and schemas that cannot be encoded.
    pub fn begin(
        store: &Arc<Store<C>>,
        target: StoreId,
        scope: ScopeId,
        schema: &Arc<StoreSchema>,
        options: &SegmentOptions,
        on_duplicate: OnDuplicate,
        keeps_ids: bool,
    ) -> Result<Self, StoreError> {
        if schema.lifetime == Lifetime::Expiring {
            return Err(StoreError::Unsupported(
                "an expiring table takes no bulk load".to_string(),
            ));
        }
        let encoder = match schema.key.is_empty() {
            true => None,
            false => Some(KeyEncoder::new(schema)?),
        };
        let shape = SegmentShape {
            row_ids: keeps_ids && schema.key.is_empty(),
            seqs: false,
        };
        Ok(Self {
            ordered: RunWriter::new(store, target, schema, options, shape),
            shape,
            removals: Removals::default(),
            store: store.clone(),
            target,
            scope,
            schema: schema.clone(),
            options: options.clone(),
            on_duplicate,
            encoder,
            last_key: None,
            chunk: Chunk::default(),
            chunks: Vec::new(),
            rows: 0,
        })
    }

    /// Adds rows, columns as in the schema; returns their keys, if the table has one. Blocks on CPU and disk.
    ///
    /// # Errors
    /// [`StoreError::DuplicateKey`] for a key seen in this load, unless such rows are replaced or ignored.
    pub fn write(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Option<BinaryArray>, StoreError> {
        if rows == 0 {
            return Ok(None);
        }
        let keys = match &self.encoder {
            Some(encoder) => encode_keys(encoder, &self.schema, columns, rows)?,
            None => {
                self.rows += rows as u64;
                self.ordered.write(self.scope, None, columns, rows)?;
                return Ok(None);
            }
        };
        self.write_keyed(keys.clone(), columns, rows)?;
        Ok(Some(keys))
    }

    /// Adds rows with their keys; columns as segments of the load have them.
    fn write_keyed(&mut self, keys: BinaryArray, columns: &[ArrayRef], rows: usize) -> Result<(), StoreError> {
        self.rows += rows as u64;
        if self.chunks.is_empty() && self.chunk.rows == 0 && in_order(self.last_key.as_deref(), &keys) {
            self.ordered.write(self.scope, Some(&keys), columns, rows)?;
            self.last_key = Some(keys.value(rows - 1).to_vec());
            return Ok(());
        }
        let mut bytes = row_bytes::of_columns(columns) + row_bytes::of_array(&(Arc::new(keys.clone()) as ArrayRef));
        if mistake!(SlicesCountAsTheirBuffers) {
            bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        }
        if self.chunk.bytes + bytes > CHUNK_OFFSETS_BYTES {
            self.write_chunk()?;
        }
        // Rows in order wait half encoded, and may wait for long.
        self.ordered.end_segment()?;
        self.chunk.bytes += bytes;
        self.chunk.rows += rows;
        self.chunk.keys.push(keys);
        self.chunk.columns.push(columns.to_vec());
        if self.chunk.rows >= LOAD_CHUNK_ROWS || self.chunk.bytes >= LOAD_CHUNK_BYTES {
            self.write_chunk()?;
        }
        Ok(())
    }

    /// Has the load remove a row as well, as it was found in `state`; says whether it was not to be removed already.
    ///
    /// # Errors
    /// [`StoreError::Retired`] or [`StoreError::Conflict`] if the row was not found there.
    pub fn remove(&mut self, state: &DbState<C>, key: &[u8], location: Location, seq: Seq) -> Result<bool, StoreError> {
        self.removals.add(state, self.target, key, location, seq)
    }

    /// Whether the load is to remove this row.
    pub fn removes(&self, key: &[u8], location: Location) -> bool {
        self.removals.contains(key, location)
    }

    /// Rows to be removed so far.
    pub fn removed(&self) -> u64 {
        self.removals.rows()
    }

    /// How many of them are hot: those are held by their keys.
    pub fn removed_hot(&self) -> usize {
        self.removals.hot_rows()
    }

    /// [`BulkLoad::write`] for rows that were encoded already: keys (none for a table without one) and values.
    ///
    /// # Errors
    /// As [`BulkLoad::write`], and [`StoreError::Corrupt`] if they do not decode.
    pub fn write_encoded(&mut self, rows: Vec<EncodedRow>) -> Result<(), StoreError> {
        let decoders = Decoders::new(self.target, &self.schema);
        let decoder = decoders.of_scope(self.scope)?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut buffer = RowBuffer::default();
            let mut whole = Vec::new();
            for (key, value) in rows.by_ref().take(MOVE_BATCH_ROWS) {
                let key = key.as_deref().unwrap_or(&[0; size_of::<u64>()]);
                key::hot_key(self.target, Epoch(0), self.scope, key, &mut whole);
                decoder.push(&mut buffer, Epoch(0), 0, &whole, &value)?;
            }
            let count = buffer.rows();
            let (keys, mut columns) = decoders.decode(&decoder, &mut buffer)?;
            columns.truncate(self.schema.columns.len() + usize::from(self.shape.row_ids));
            if self.encoder.is_some() || self.shape.row_ids {
                self.write_keyed(keys, &columns, count)?;
            } else {
                self.write(&columns, count)?;
            }
        }
        Ok(())
    }

    /// Rows handed over so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// [`BulkLoad::finish_unless`] without giving up.
    ///
    /// # Errors
    /// As there.
    pub async fn finish(self) -> Result<Arc<Publication>, StoreError> {
        self.finish_unless(&|| false).await
    }

    /// Makes everything durable and looks the keys up in the table, which blocks on CPU and disk; what is returned is to be named in
    /// [`crate::TableChange::Publish`].
    ///
    /// # Errors
    /// [`StoreError::DuplicateKey`] for a key of the load or the table, [`StoreError::Conflict`] if a row to be removed is gone or
    /// was changed, [`StoreError::Cancelled`] once `give_up` says so.
    pub async fn finish_unless(mut self, give_up: GiveUp<'_>) -> Result<Arc<Publication>, StoreError> {
        self.write_chunk()?;
        let ordered = RunWriter::new(&self.store, self.target, &self.schema, &self.options, self.shape);
        let ordered = std::mem::replace(&mut self.ordered, ordered).finish()?;
        let outputs = if self.chunks.is_empty() {
            ordered
        } else {
            let mut runs = vec![ordered];
            runs.append(&mut self.chunks);
            self.merge_all(runs, give_up)?
        };
        crate::crash::point("load-written");
        let mut publication = Publication {
            store: self.target,
            schema_version: self.schema.version,
            rows: outputs.iter().map(|output| u64::from(output.summary.rows)).sum(),
            scopes: BTreeSet::from([self.scope]),
            outputs,
            inputs: Inputs::default(),
            resolution: Mutex::new(Resolution::default()),
            watch: None,
            settle: Box::new(|_, _| Ok(())),
            _gate: None,
        };
        // A store that is not created yet has no keys; new ids are nobody's.
        let meets_rows = self.encoder.is_some() || self.removals.rows() > 0;
        if meets_rows && self.store.state().table(self.target).is_some() {
            self.resolve(&mut publication, give_up).await?;
        }
        if self.on_duplicate == OnDuplicate::Ignore {
            let resolution = publication.resolution.lock();
            let own = publication.outputs.iter().map(|output| output.segment);
            let dropped: u64 = own
                .filter_map(|segment| resolution.deleted.get(&segment))
                .map(|deleted| u64::from(deleted.len()))
                .sum();
            drop(resolution);
            publication.rows -= dropped;
        }
        crate::crash::point("load-resolved");
        Ok(Arc::new(publication))
    }

    /// Sorts what was gathered and writes it as a run of its own.
    fn write_chunk(&mut self) -> Result<(), StoreError> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.rows == 0 {
            return Ok(());
        }
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(chunk.rows);
        for (batch, keys) in chunk.keys.iter().enumerate() {
            order.extend((0..keys.len()).map(|row| (batch, row)));
        }
        let key = |&(batch, row): &(usize, usize)| chunk.keys[batch].value(row);
        // Rows of one key stay in the order in which they came.
        order.sort_by(|a, b| key(a).cmp(key(b)));
        let order = self.without_duplicates(order, key)?;
        let mut writer = RunWriter::new(&self.store, self.target, &self.schema, &self.options, self.shape);
        let failed = |error: arrow::error::ArrowError| StoreError::Storage(format!("rows cannot be sorted: {error}"));
        let part_rows = (MERGE_BATCH_BYTES / (chunk.bytes / chunk.rows + 1)).clamp(1, MOVE_BATCH_ROWS);
        for part in order.chunks(part_rows) {
            let keys: Vec<&dyn Array> = chunk.keys.iter().map(|keys| keys as &dyn Array).collect();
            let keys = interleave(&keys, part).map_err(failed)?;
            let mut columns = Vec::with_capacity(chunk.columns[0].len());
            for column in 0..chunk.columns[0].len() {
                let arrays: Vec<&dyn Array> = chunk.columns.iter().map(|batch| batch[column].as_ref()).collect();
                columns.push(interleave(&arrays, part).map_err(failed)?);
            }
            writer.write(self.scope, Some(keys.as_binary::<i32>()), &columns, part.len())?;
        }
        self.chunks.push(writer.finish()?);
        crate::crash::point("load-chunk-written");
        Ok(())
    }

    /// Of sorted rows, those that stay.
    fn without_duplicates<'a, T: Copy>(
        &self,
        sorted: Vec<T>,
        key: impl Fn(&T) -> &'a [u8],
    ) -> Result<Vec<T>, StoreError> {
        let mut kept: Vec<T> = Vec::with_capacity(sorted.len());
        let same = |a: &[u8], b: &[u8]| {
            if mistake!(LoadsTellRowsByOneColumn) {
                return a.iter().take(size_of::<i64>()).eq(b.iter().take(size_of::<i64>()));
            }
            a == b && !mistake!(LoadsKeepEqualKeys)
        };
        for row in sorted {
            match kept.last_mut() {
                Some(last) if same(key(last), key(&row)) => match self.on_duplicate {
                    OnDuplicate::Fail => {
                        return Err(StoreError::DuplicateKey {
                            key: key(&row).to_vec(),
                        });
                    }
                    OnDuplicate::Replace => *last = row,
                    OnDuplicate::Ignore => {}
                },
                _ => kept.push(row),
            }
        }
        Ok(kept)
    }

    /// Merges runs into one, in several passes if they are many: each pass keeps the order in which they came.
    fn merge_all(&self, mut runs: Vec<Vec<NewSegment>>, give_up: GiveUp<'_>) -> Result<Vec<NewSegment>, StoreError> {
        let summaries = runs.iter().flatten().map(|output| &output.summary);
        let longest = summaries
            .map(|summary| summary.memory_bytes / u64::from(summary.rows).max(1))
            .max();
        let at_once = runs_at_once(longest.unwrap_or(0));
        while runs.len() > at_once {
            let mut merged = Vec::with_capacity(runs.len().div_ceil(at_once));
            while !runs.is_empty() {
                let rest = runs.split_off(runs.len().min(at_once));
                merged.push(match runs.len() {
                    1 => runs.remove(0),
                    _ => self.merge(runs, give_up)?,
                });
                runs = rest;
            }
            runs = merged;
        }
        self.merge(runs, give_up)
    }

    /// Merges runs into one; of rows of one key the later run's is the later one.
    fn merge(&self, runs: Vec<Vec<NewSegment>>, give_up: GiveUp<'_>) -> Result<Vec<NewSegment>, StoreError> {
        let source = |output| {
            let entry = Arc::new(self.entry_of(output));
            let opened = entry.clone();
            Unopened::new(&entry, move || {
                let file = self.open(output)?;
                let all = Deleted::default();
                Ok(Source::new(&opened, &file, all, &self.schema, self.shape, |_| true))
            })
        };
        let mut merge = Merge::new(runs.iter().flatten().map(source).collect(), runs.len());
        let mut writer = RunWriter::new(&self.store, self.target, &self.schema, &self.options, self.shape);
        // The last row so far is held back: the next one may have its key.
        let mut held: Option<(BinaryArray, Vec<ArrayRef>)> = None;
        while let Some(merged) = merge.next()? {
            go_on(give_up)?;
            let rows: Vec<u32> = (0..).take(merged.origins.len()).collect();
            let mut kept = self.without_duplicates(rows, |&row| merged.keys.value(row as usize))?;
            if let Some((last, columns)) = held.take() {
                let again = kept
                    .first()
                    .is_some_and(|&row| merged.keys.value(row as usize) == last.value(0))
                    && !mistake!(BatchesAreComparedAlone);
                match (again, self.on_duplicate) {
                    (true, OnDuplicate::Fail) => {
                        return Err(StoreError::DuplicateKey {
                            key: last.value(0).to_vec(),
                        });
                    }
                    (true, OnDuplicate::Replace) => {}
                    (true, OnDuplicate::Ignore) => {
                        kept.remove(0);
                        writer.write(self.scope, Some(&last), &columns, 1)?;
                    }
                    (false, _) => {
                        writer.write(self.scope, Some(&last), &columns, 1)?;
                    }
                }
            }
            let Some(last) = kept.pop() else { continue };
            held = Some(taken(&merged.keys, &merged.columns, &[last])?);
            if !kept.is_empty() {
                let (keys, columns) = taken(&merged.keys, &merged.columns, &kept)?;
                writer.write(self.scope, Some(&keys), &columns, kept.len())?;
            }
        }
        if let Some((keys, columns)) = held {
            writer.write(self.scope, Some(&keys), &columns, 1)?;
        }
        drop(merge);
        // The runs are dropped, and with that erased, only now.
        let merged = writer.finish();
        crate::crash::point("load-merged");
        drop(runs);
        merged
    }

    /// As a file would be in the manifest, which it is not.
    fn entry_of(&self, output: &NewSegment) -> SegmentEntry {
        output.entry(0, self.schema.version, Seq(0), 0)
    }

    /// A run that is merged and gone: nobody else opens it.
    fn open(&self, output: &NewSegment) -> Result<Arc<SegmentFile>, StoreError> {
        SegmentFile::open(self.store.engine().files(), &self.entry_of(output), &self.schema).map(Arc::new)
    }

    /// Finds the keys that exist, and has what others do from now on settled. The table's gate is held only for the end of it, so that
    /// from then on rows stay where they were found, unless a commit of rows removes them.
    async fn resolve(&mut self, publication: &mut Publication, give_up: GiveUp<'_>) -> Result<(), StoreError> {
        let outputs = publication.outputs.iter();
        let loaded = outputs.map(|output| Loaded {
            entry: self.entry_of(output),
            damage: output.damage.clone(),
        });
        let resolver = Resolver {
            shared: Arc::downgrade(self.store.shared()),
            target: self.target,
            scope: self.scope,
            schema: self.schema.clone(),
            on_duplicate: self.on_duplicate,
            removes: self.removals.rows() > 0,
            loaded: loaded.collect(),
        };
        let enter = || self.store.publishers().enter(self.target);
        let mut early = None;
        if mistake!(LoadsLookUpBehindTheGate) {
            early = Some(enter().await);
        }
        let removals = std::mem::take(&mut self.removals);
        let mut look_up = LookUp::begin(&self.store, resolver, removals, give_up)?;
        drop(early);
        let mut gate = enter().await;
        for _ in 0..WATCH_ROUNDS {
            if !look_up.is_behind() {
                break;
            }
            drop(gate);
            self.store.engine().moment("load-behind");
            look_up.follow(give_up)?;
            gate = enter().await;
        }
        look_up.follow(give_up)?;
        publication._gate = Some(gate).filter(|_| !mistake!(LoadsGiveTheGateBack));
        look_up.hand_over(publication, give_up)
    }
}

fn go_on(give_up: GiveUp<'_>) -> Result<(), StoreError> {
    match give_up() && !mistake!(LoadsAreNotStopped) {
        true => Err(StoreError::Cancelled),
        false => Ok(()),
    }
}

fn encode_keys(
    encoder: &KeyEncoder,
    schema: &StoreSchema,
    columns: &[ArrayRef],
    rows: usize,
) -> Result<BinaryArray, StoreError> {
    let key_columns: Vec<ArrayRef> = schema.key.iter().map(|&index| columns[index].clone()).collect();
    let mut keys = arrow::array::BinaryBuilder::with_capacity(rows, rows * 16);
    let mut key = Vec::new();
    for row in 0..rows {
        key.clear();
        encoder.encode(&key_columns, row, &mut key)?;
        keys.append_value(&key);
    }
    Ok(keys.finish())
}

/// Whether the keys increase strictly, from `last` on.
fn in_order(last: Option<&[u8]>, keys: &BinaryArray) -> bool {
    let mut before = last;
    for key in keys.iter().flatten() {
        if before.is_some_and(|before| before >= key) {
            return false;
        }
        before = Some(key);
    }
    true
}

fn taken(keys: &BinaryArray, columns: &[ArrayRef], rows: &[u32]) -> Result<(BinaryArray, Vec<ArrayRef>), StoreError> {
    let failed = |error: arrow::error::ArrowError| StoreError::Storage(format!("rows cannot be merged: {error}"));
    let indices = UInt32Array::from(rows.to_vec());
    let keys = take(keys, &indices, None).map_err(failed)?.as_binary::<i32>().clone();
    let columns = columns
        .iter()
        .map(|column| take(column, &indices, None).map_err(failed))
        .collect::<Result<_, _>>()?;
    Ok((keys, columns))
}
