//! An open segment: its footer and index in memory, look-ups by key. Decoding rows is `read`'s.

use std::ops::{Range, RangeInclusive};
use std::slice;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use twox_hash::XxHash3_64;

use crate::damage::Damage;
use crate::error::StoreError;
use crate::files::{Files, StoredFile};
use crate::ids::ScopeId;
use crate::key;
use crate::manifest::{SegmentEntry, SegmentSeqs};
use crate::mover::Progress;
use crate::scan::KeyRange;
use crate::schema::StoreSchema;
use crate::segment::SegmentColumn;
use crate::segment::blocks::{Blocks, rename};
use crate::segment::bounds::{self, ColumnBounds};
use crate::segment::index::Index;
use crate::segment::keys::{BlockKeys, KeyColumns};
use crate::segment::layout::{Layout, SegmentShape};
use crate::segment::read::{Cursor, ReadSize, SegmentRead};
use crate::tuning::{KEY_BLOCK_ROWS, SEGMENT_READAHEAD_BYTES};

/// An open segment. It never changes, and reading takes no lock.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: StoredFile,
    size_bytes: u64,
    checksum: u64,
    pub(super) blocks: Blocks,
    pub(super) layout: Layout,
    pub(super) index: Index,
    pub(super) metadata: ArrowReaderMetadata,
    /// `None` for files without stored keys.
    pub(super) keys: Option<KeyColumns>,
    /// `scope | key` of the last row.
    max_key: Vec<u8>,
    /// Of the segment of a table: what is wrong with one that nobody shows concerns nobody else.
    damage: Option<Arc<Damage>>,
}

impl SegmentFile {
    /// Reads and verifies index and footer of the file that `entry` names; `schema` is of the entry's version.
    pub(crate) fn open(
        files: &Arc<Files>,
        entry: &SegmentEntry,
        schema: &Arc<StoreSchema>,
    ) -> Result<Self, StoreError> {
        let file = files.file(entry.storage, &entry.path)?;
        let object = entry.in_file(&file);
        let corrupt = |problem: String| StoreError::Corrupt {
            object: object.clone(),
            problem,
        };
        match file.size()? {
            None => return Err(corrupt("the file is missing".to_string())),
            Some(size) if size != entry.size_bytes => {
                let expected = entry.size_bytes;
                return Err(corrupt(format!(
                    "the file has {size} bytes where {expected} were written"
                )));
            }
            Some(_) => {}
        }
        let tail = read_tail(&file, &object, entry.tail_offset, entry.size_bytes, entry.checksum)?;
        let (mut index, _) = Index::decode(&tail).map_err(|problem| corrupt(problem.to_string()))?;
        let seqs = matches!(entry.seqs, SegmentSeqs::Stored { .. });
        let row_ids = schema.key.is_empty() && index.stored_keys;
        let layout = Layout::new(schema.clone(), SegmentShape { row_ids, seqs });
        let metadata = read_metadata(tail, entry.tail_offset, &layout).map_err(|error| corrupt(error.to_string()))?;
        let groups = metadata.metadata().row_groups().iter().map(|group| group.num_rows());
        let said = index.groups().map(|rows| i64::from(rows.end - rows.start));
        if !groups.eq(said) || index.rows != entry.rows || index.stored_keys != layout.key_positions().is_some() {
            return Err(corrupt("index, footer and manifest disagree".to_string()));
        }
        let checksums = std::mem::take(&mut index.checksums);
        Ok(Self {
            blocks: Blocks::new(file.clone(), object, checksums, entry.tail_offset)?,
            file,
            size_bytes: entry.size_bytes,
            checksum: entry.checksum,
            keys: KeyColumns::new(&layout)?,
            layout,
            index,
            metadata,
            max_key: entry.max_key.clone(),
            damage: None,
        })
    }

    /// The same, of which damage is noted that shows later.
    pub(crate) fn of_table(mut self, damage: &Arc<Damage>) -> Self {
        self.damage = Some(damage.clone());
        self
    }

    /// Reads; damage is noted.
    pub(crate) fn noted<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.damage {
            Some(damage) => damage.note(read),
            None => read(),
        }
    }

    /// What it takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.index.memory_bytes()
            + self.blocks.memory_bytes()
            + self.metadata.metadata().memory_size()
    }

    pub(crate) fn rows(&self) -> u32 {
        self.index.rows
    }

    /// The scopes in it and the rows of each, ascending.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (ScopeId, Range<u32>)> {
        self.index.scopes()
    }

    /// The rows of one scope, an empty range if it has none.
    pub(crate) fn scope_rows(&self, scope: ScopeId) -> Range<u32> {
        self.index.scope_rows(scope)
    }

    pub(crate) fn row_groups(&self) -> Vec<Range<u32>> {
        self.index.groups().collect()
    }

    /// The rows of `scope` whose keys are in `range`, exactly. Reads key columns of at most two blocks. Not for files without
    /// stored keys.
    pub(crate) fn rows_in(&self, scope: ScopeId, range: &KeyRange) -> Result<Range<u32>, StoreError> {
        let rows = self.scope_rows(scope);
        let prefix = scope.0.to_be_bytes();
        let Some((lower, upper)) = key::bounds(&prefix, &range.start, &range.end) else {
            return Ok(rows.start..rows.start);
        };
        let mut block = None;
        let mut first_not_less = |whole: &[u8]| match whole.strip_prefix(&prefix) {
            Some(key) => self.first_not_less(&rows, whole, key, &mut block),
            // It is past all keys of the scope.
            None => Ok(rows.end),
        };
        let start = first_not_less(&lower)?;
        let end = match upper {
            Some(upper) => first_not_less(&upper)?,
            None => rows.end,
        };
        Ok(start..end)
    }

    /// How many rows of `scope` have keys in `range`, between two numbers that the index knows without reading keys.
    pub(crate) fn rows_about(&self, scope: ScopeId, range: &KeyRange) -> RangeInclusive<u32> {
        let rows = self.scope_rows(scope);
        let prefix = scope.0.to_be_bytes();
        let Some((lower, upper)) = key::bounds(&prefix, &range.start, &range.end) else {
            return 0..=0;
        };
        // Where the first row is whose key is not less, as `first_not_less` finds it.
        let place = |whole: &[u8]| match whole.strip_prefix(&prefix) {
            Some([]) => rows.start..=rows.start,
            Some(_) if self.max_key.as_slice() >= whole => {
                let around = self.index.rows_around(whole);
                around.start.clamp(rows.start, rows.end)..=around.end.clamp(rows.start, rows.end)
            }
            Some(_) | None => rows.end..=rows.end,
        };
        let start = place(&lower);
        let end = upper.as_deref().map_or(rows.end..=rows.end, place);
        end.start().saturating_sub(*start.end())..=end.end().saturating_sub(*start.start())
    }

    /// The first of `rows`, all of one scope, whose key is not less than `key`; `whole` is the scope before it. `block` keeps what
    /// was read, for the other end of a range.
    fn first_not_less(
        &self,
        rows: &Range<u32>,
        whole: &[u8],
        key: &[u8],
        block: &mut Option<(Range<u32>, BlockKeys)>,
    ) -> Result<u32, StoreError> {
        if self.keys.is_none() {
            return Err(self.keyless());
        }
        if key.is_empty() {
            return Ok(rows.start);
        }
        if self.max_key.as_slice() < whole {
            return Ok(rows.end);
        }
        let around = self.index.rows_around(whole);
        let around = around.start.clamp(rows.start, rows.end)..around.end.clamp(rows.start, rows.end);
        if around.is_empty() {
            return Ok(around.end);
        }
        let keys = match block {
            Some((read, keys)) if *read == around => keys,
            block => &block.insert((around.clone(), self.read_keys(around.clone())?)).1,
        };
        Ok(around.start + keys.first_not_less(key)?)
    }

    /// The row of each of `keys`, sorted and all of `scope`; `None` for those that are not there.
    pub(crate) fn find(&self, scope: ScopeId, keys: &[&[u8]]) -> Result<Vec<Option<u32>>, StoreError> {
        let mut found = vec![None; keys.len()];
        let rows = self.scope_rows(scope);
        if rows.is_empty() {
            return Ok(found);
        }
        if self.keys.is_none() {
            return Err(self.keyless());
        }
        let mut whole = scope.0.to_be_bytes().to_vec();
        // The keys that a block has to be read for, with the rows among which they are.
        let mut wanted: Vec<(Range<u32>, usize)> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            whole.truncate(size_of::<ScopeId>());
            whole.extend_from_slice(key);
            if self.max_key < whole {
                break;
            }
            let Some(block) = self.index.block_of(&whole) else {
                continue;
            };
            let block_rows = self.index.block_rows(block);
            if self.index.block_key(block) == whole {
                found[at] = Some(block_rows.start);
                continue;
            }
            let candidates = (block_rows.start + 1).max(rows.start)..block_rows.end.min(rows.end);
            if !candidates.is_empty() && self.index.may_have(self.index.group_of(block_rows.start), &whole) {
                wanted.push((candidates, at));
            }
        }
        for block in wanted.chunk_by(|(a, _), (b, _)| a == b) {
            let candidates = &block[0].0;
            let block_keys = self.read_keys(candidates.clone())?.for_lookups(block.len())?;
            for (_, at) in block {
                found[*at] = block_keys.find(keys[*at])?.map(|position| candidates.start + position);
            }
        }
        Ok(found)
    }

    /// Reads `rows`: sorted, disjoint ranges, none empty.
    pub(crate) fn read(
        self: &Arc<Self>,
        columns: &[SegmentColumn],
        rows: Vec<Range<u32>>,
        batch_rows: usize,
    ) -> Result<SegmentRead, StoreError> {
        self.read_sized(columns, rows, ReadSize::of_rows(batch_rows))
    }

    /// The same, so much at once.
    pub(crate) fn read_sized(
        self: &Arc<Self>,
        columns: &[SegmentColumn],
        rows: Vec<Range<u32>>,
        size: ReadSize,
    ) -> Result<SegmentRead, StoreError> {
        SegmentRead::new(self.clone(), columns, rows, size)
    }

    /// Bounds of a column of the schema, for pruning; `None` where the file states none.
    pub(crate) fn bounds(&self, column: usize) -> Option<ColumnBounds> {
        bounds::of(self, column)
    }

    /// Reads the whole file and verifies all checksums; its bytes.
    pub(crate) fn verify(&self, progress: &dyn Progress) -> Result<u64, StoreError> {
        let mut start = 0;
        while start < self.blocks.end() {
            if progress.cancelled() {
                return Err(StoreError::Cancelled);
            }
            let end = (start + SEGMENT_READAHEAD_BYTES).min(self.blocks.end());
            self.blocks.read(slice::from_ref(&(start..end)))?;
            progress.advance(0, end - start);
            start = end;
        }
        read_tail(&self.file, self.blocks.object(), start, self.size_bytes, self.checksum)?;
        progress.advance(u64::from(self.rows()), self.size_bytes - start);
        Ok(self.size_bytes)
    }

    /// The keys of rows of one block.
    fn read_keys(&self, rows: Range<u32>) -> Result<BlockKeys, StoreError> {
        let keys = self.keys.as_ref().ok_or_else(|| self.keyless())?;
        let mut cursor = Cursor::new(self, keys.positions(), vec![rows], ReadSize::of_rows(KEY_BLOCK_ROWS))?;
        let mut batches = Vec::new();
        while let Some((_, columns, _)) = self.noted(|| cursor.next(self))? {
            batches.push(columns);
        }
        keys.block(batches)
    }

    pub(super) fn keyless(&self) -> StoreError {
        StoreError::Unsupported(format!("{} has no stored keys", self.blocks.object()))
    }
}

/// The verified part of a file that holds index and footer.
fn read_tail(file: &StoredFile, object: &str, start: u64, end: u64, checksum: u64) -> Result<Bytes, StoreError> {
    let tail = file
        .read_ranges(slice::from_ref(&(start..end)))
        .map_err(|error| rename(error, object))?
        .pop()
        .unwrap_or_default();
    if XxHash3_64::oneshot(&tail) != checksum {
        return Err(StoreError::Corrupt {
            object: object.to_string(),
            problem: "its index and footer do not have the checksum they were written with".to_string(),
        });
    }
    Ok(tail)
}

/// Parquet's footer and page indexes, which have to describe the columns of `layout`.
fn read_metadata(tail: Bytes, offset: u64, layout: &Layout) -> Result<ArrowReaderMetadata, ParquetError> {
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&Tail { tail, offset })?;
    let parquet = metadata.file_metadata().schema_descr();
    let found = parquet.root_schema().get_fields().iter().map(|field| field.name());
    let wanted = layout.arrow.fields();
    if !found.clone().eq(wanted.iter().map(|field| field.name())) {
        let found: Vec<&str> = found.collect();
        return Err(ParquetError::General(format!(
            "the file has other columns than its table: {}",
            found.join(", ")
        )));
    }
    ArrowReaderMetadata::try_new(
        Arc::new(metadata),
        ArrowReaderOptions::new().with_schema(layout.arrow.clone()),
    )
}

/// The end of a file, at its place.
struct Tail {
    tail: Bytes,
    offset: u64,
}

impl Length for Tail {
    fn len(&self) -> u64 {
        self.offset + self.tail.len() as u64
    }
}

impl ChunkReader for Tail {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let length = self.len().saturating_sub(start);
        self.get_bytes(start, usize::try_from(length).unwrap_or(usize::MAX))
            .map(Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let start = start
            .checked_sub(self.offset)
            .and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(length)?));
        match range {
            Some(range) if range.end <= self.tail.len() => Ok(self.tail.slice(range)),
            _ => Err(ParquetError::General(
                "the footer points outside the file's tail".to_string(),
            )),
        }
    }
}
