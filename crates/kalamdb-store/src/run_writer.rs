//! Writes rows in the order of their keys as the segments of one run.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::compute::{max, min};
use arrow::datatypes::UInt64Type;
use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::damage::Damage;
use crate::engine::Engine;
use crate::erase::{EraseJob, EraserHandle};
use crate::error::StoreError;
use crate::ids::{ScopeId, SegmentId, Seq, StoreId};
use crate::last_use;
use crate::manifest::FileName;
use crate::meta;
use crate::mover::SegmentOptions;
use crate::publication::NewSegment;
use crate::schema::StoreSchema;
use crate::segment::{SegmentShape, SegmentWriter};
use crate::store::{Counter, Store};
use crate::tuning::RUN_SEGMENT_ROWS;

/// See above. Dropped unfinished, its files are erased.
pub(crate) struct RunWriter<C> {
    store: Arc<Store<C>>,
    target: StoreId,
    schema: Arc<StoreSchema>,
    options: SegmentOptions,
    shape: SegmentShape,
    /// In a lock that is never contended: what encodes columns may be handed to other threads, but not be shared by them.
    current: Mutex<Option<Current>>,
    done: Vec<NewSegment>,
}

struct Current {
    segment: SegmentId,
    writer: SegmentWriter,
    seqs: Option<(Seq, Seq)>,
    file: Intent,
}

/// A file that is announced: erased when this is dropped.
struct Intent {
    segment: SegmentId,
    file: Option<FileName>,
    eraser: EraserHandle,
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.eraser.erase(EraseJob::Segment(self.segment, file));
        }
    }
}

/// Where rows of a batch went.
pub(crate) struct Placed {
    pub(crate) segment: SegmentId,
    /// The number in the segment of the first of them.
    pub(crate) first_row: u32,
    /// Which rows of the batch.
    pub(crate) rows: Range<usize>,
}

impl<C: Send + Sync + 'static> RunWriter<C> {
    pub(crate) fn new(
        store: &Arc<Store<C>>,
        target: StoreId,
        schema: &Arc<StoreSchema>,
        options: &SegmentOptions,
        shape: SegmentShape,
    ) -> Self {
        Self {
            store: store.clone(),
            target,
            schema: schema.clone(),
            options: options.clone(),
            shape,
            current: Mutex::new(None),
            done: Vec::new(),
        }
    }

    /// Adds rows of one scope, after all before in the order of (scope, key); columns as for [`SegmentWriter::write`].
    pub(crate) fn write(
        &mut self,
        scope: ScopeId,
        keys: Option<&BinaryArray>,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let mut placed = Vec::new();
        let mut from = 0;
        while from < rows {
            let seq_column = self.shape.seqs.then_some(columns.len().wrapping_sub(2));
            let current = self.current()?;
            let first_row = current.writer.rows();
            let len = (rows - from).min((RUN_SEGMENT_ROWS - first_row) as usize);
            if from == 0 && len == rows {
                current.writer.write(scope, keys, columns)?;
            } else {
                let part: Vec<ArrayRef> = columns.iter().map(|column| column.slice(from, len)).collect();
                let keys = keys.map(|keys| keys.slice(from, len));
                current.writer.write(scope, keys.as_ref(), &part)?;
            }
            if let Some(column) = seq_column.and_then(|index| columns.get(index)) {
                let part = column.slice(from, len);
                let numbers = part.as_primitive::<UInt64Type>();
                if let (Some(low), Some(high)) = (min(numbers), max(numbers)) {
                    let (lowest, highest) = current.seqs.unwrap_or((Seq(low), Seq(high)));
                    current.seqs = Some((lowest.min(Seq(low)), highest.max(Seq(high))));
                }
            }
            placed.push(Placed {
                segment: current.segment,
                first_row,
                rows: from..from + len,
            });
            if current.writer.rows() == RUN_SEGMENT_ROWS {
                self.end_segment()?;
            }
            from += len;
        }
        Ok(placed)
    }

    /// Completes the last file; all of them are durable then.
    pub(crate) fn finish(mut self) -> Result<Vec<NewSegment>, StoreError> {
        self.end_segment()?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Begins another segment with the next row; rows so far are complete.
    pub(crate) fn end_segment(&mut self) -> Result<(), StoreError> {
        let Some(mut current) = self.current.get_mut().take() else {
            return Ok(());
        };
        let summary = current.writer.finish()?;
        crate::crash::point("segment-written");
        if mistake!(AnnouncementsAreTakenBackEarly) {
            let mut batch = WriteBatch::default();
            batch.delete_cf(self.store.engine().meta(), meta::file(current.segment));
            self.store.engine().write_synced(batch)?;
        }
        let file = current.file.file.take();
        let file = file.ok_or_else(|| StoreError::Storage("a segment was finished twice".to_string()))?;
        self.done.push(NewSegment::new(
            current.segment,
            file,
            summary,
            current.seqs,
            Damage::none(self.store.engine().damages(), current.segment),
            self.store.eraser(),
        ));
        Ok(())
    }

    fn current(&mut self) -> Result<&mut Current, StoreError> {
        let current = match self.current.get_mut().take() {
            Some(current) => current,
            None => self.begin_segment()?,
        };
        Ok(self.current.get_mut().insert(current))
    }

    fn begin_segment(&self) -> Result<Current, StoreError> {
        // Nothing is announced that cannot be written: it could not be taken back either.
        self.store.check_storage(self.options.storage)?;
        last_use::tell(self.store.engine(), self.options.storage)?;
        let number = self.store.next_id(Counter::Segment)?;
        let segment = u32::try_from(number)
            .map(SegmentId)
            .map_err(|_| StoreError::Storage("there are no more segment numbers".to_string()))?;
        let file = FileName {
            storage: self.options.storage,
            path: format!(
                "{}/{}/{}-{}.parquet",
                self.store.database(),
                self.target,
                segment,
                random_name()
            ),
        };
        if !mistake!(FilesAreNotAnnounced) {
            announce(self.store.engine(), segment, &file)?;
        }
        crate::crash::point("segment-announced");
        let file = Intent {
            segment,
            file: Some(file),
            eraser: self.store.eraser().clone(),
        };
        let path = file.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        let writer = SegmentWriter::create(
            self.store.engine().files(),
            self.options.storage,
            &path,
            self.schema.clone(),
            self.shape,
            self.options.compression,
        )?;
        Ok(Current {
            segment,
            writer,
            seqs: None,
            file,
        })
    }
}

/// Writes down, whatever the durability, that the file may be there, before it is.
fn announce(engine: &Engine, segment: SegmentId, file: &FileName) -> Result<(), StoreError> {
    let record = serde_json::to_vec(file)
        .map_err(|error| StoreError::Storage(format!("a file's name cannot be written: {error}")))?;
    let mut batch = WriteBatch::default();
    batch.put_cf(engine.meta(), meta::file(segment), record);
    engine.write_synced(batch).map_err(StoreError::from)
}

/// Tells files of one number apart: of databases that were restored from one another.
pub(crate) fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(0))
}
