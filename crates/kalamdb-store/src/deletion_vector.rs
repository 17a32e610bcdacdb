//! Deletion vectors: which rows of a segment are gone. Kept in chunks of 4,096 rows, each in a key of its own, so that a deletion
//! writes at most half a kilobyte.
//!
//! Key: `segment u32 | chunk u32`, big endian. Value: up to 255 row numbers in the chunk as sorted u16, little endian, or a
//! bitmap of 512 bytes (bit `n % 8` of byte `n / 8`). The chunk `u32::MAX` holds how many rows of the segment are deleted, u32,
//! little endian.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use rocksdb::WriteBatch;

use crate::engine::{Engine, storage};
use crate::error::StoreError;
use crate::ids::SegmentId;
use crate::pinned::{IterateOptions, Pinned};
use crate::segment::RowNumbers;

/// Rows of a chunk.
pub(crate) const CHUNK_ROWS: u32 = 4096;
const CHUNK_BYTES: usize = CHUNK_ROWS as usize / 8;
const WORDS: usize = CHUNK_ROWS as usize / 64;
/// The chunk number that holds the count.
const COUNT: u32 = u32::MAX;

/// The deleted rows of one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk(Box<[u64; WORDS]>);

/// Deleted rows of one segment, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    chunks: BTreeMap<u32, Chunk>,
}

/// The key of a chunk.
pub(crate) fn chunk_key(segment: SegmentId, chunk: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&segment.0.to_be_bytes());
    key[4..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Reads a chunk as it is committed; only the committer may rely on it.
pub(crate) fn committed_chunk(engine: &Engine, segment: SegmentId, chunk: u32) -> Result<Chunk, StoreError> {
    let value = engine
        .db()
        .get_pinned_cf(engine.deletion_vectors(), chunk_key(segment, chunk))
        .map_err(|error| storage(&error))?;
    match value {
        None => Ok(Chunk::default()),
        Some(value) => Chunk::decode(&value).ok_or_else(|| corrupt(segment, chunk)),
    }
}

/// How many rows of a segment are deleted, as committed; only the committer may rely on it.
pub(crate) fn committed_count(engine: &Engine, segment: SegmentId) -> Result<u32, StoreError> {
    let value = engine
        .db()
        .get_pinned_cf(engine.deletion_vectors(), chunk_key(segment, COUNT))
        .map_err(|error| storage(&error))?;
    value.map_or(Ok(0), |value| count(segment, &value))
}

/// How many rows of a segment are deleted at a snapshot.
pub(crate) fn deleted_rows(pinned: &Pinned, segment: SegmentId) -> Result<u32, StoreError> {
    let engine = pinned.engine();
    let value = pinned.get(engine.deletion_vectors(), &chunk_key(segment, COUNT))?;
    value.map_or(Ok(0), |value| count(segment, &value))
}

pub(crate) fn put_count(batch: &mut WriteBatch, engine: &Engine, segment: SegmentId, deleted: u32) {
    batch.put_cf(
        engine.deletion_vectors(),
        chunk_key(segment, COUNT),
        deleted.to_le_bytes(),
    );
}

pub(crate) fn put_chunk(batch: &mut WriteBatch, engine: &Engine, segment: SegmentId, number: u32, chunk: &Chunk) {
    batch.put_cf(engine.deletion_vectors(), chunk_key(segment, number), chunk.encode());
}

/// Forgets the vectors of a segment that is no more.
pub(crate) fn erase(batch: &mut WriteBatch, engine: &Engine, segment: SegmentId) {
    batch.delete_range_cf(
        engine.deletion_vectors(),
        chunk_key(segment, 0),
        chunk_key(SegmentId(segment.0 + 1), 0),
    );
}

fn count(segment: SegmentId, value: &[u8]) -> Result<u32, StoreError> {
    Ok(u32::from_le_bytes(
        value.try_into().map_err(|_| corrupt(segment, COUNT))?,
    ))
}

fn corrupt(segment: SegmentId, chunk: u32) -> StoreError {
    StoreError::Corrupt {
        object: format!("the deletion vector of segment {segment}, chunk {chunk}"),
        problem: "it has the wrong length or order".to_string(),
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl Chunk {
    pub(crate) fn contains(&self, row: u32) -> bool {
        let bit = row % CHUNK_ROWS;
        self.0[bit as usize / 64] & (1 << (bit % 64)) != 0
    }

    /// Whether it was not deleted before.
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        let bit = row % CHUNK_ROWS;
        let word = &mut self.0[bit as usize / 64];
        let new = *word & (1 << (bit % 64)) == 0;
        *word |= 1 << (bit % 64);
        new
    }

    pub(crate) fn remove(&mut self, row: u32) {
        let bit = row % CHUNK_ROWS;
        self.0[bit as usize / 64] &= !(1 << (bit % 64));
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Adds the other's; says how many are new.
    pub(crate) fn union(&mut self, other: &Chunk) -> u32 {
        let before = self.len();
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= other;
        }
        self.len() - before
    }

    fn meets(&self, other: &Chunk) -> bool {
        self.0.iter().zip(other.0.iter()).any(|(word, other)| word & other != 0)
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let base = 64 * u32::try_from(index).unwrap_or(0);
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| base + bit)
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        if 2 * (self.len() as usize) < CHUNK_BYTES {
            self.rows().flat_map(|row| (row as u16).to_le_bytes()).collect()
        } else {
            self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut chunk = Self::default();
        if value.len() == CHUNK_BYTES {
            for (word, bytes) in chunk.0.iter_mut().zip(value.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().ok()?);
            }
            return Some(chunk);
        }
        if !value.len().is_multiple_of(2) || value.len() > CHUNK_BYTES {
            return None;
        }
        let mut last = None;
        for row in value.chunks_exact(2) {
            let row = u16::from_le_bytes([row[0], row[1]]);
            if u32::from(row) >= CHUNK_ROWS || last.is_some_and(|last| last >= row) {
                return None;
            }
            chunk.insert(u32::from(row));
            last = Some(row);
        }
        Some(chunk)
    }
}

impl Deleted {
    /// The deleted rows of a segment in the chunks that `rows` touches, at a snapshot.
    pub(crate) fn load(pinned: &Arc<Pinned>, segment: SegmentId, rows: &Range<u32>) -> Result<Self, StoreError> {
        let mut deleted = Self::default();
        if rows.is_empty() {
            return Ok(deleted);
        }
        let newest;
        let pinned = if mistake!(ReadersTakeTheNewestBits) {
            newest = Pinned::new(pinned.engine());
            &newest
        } else {
            pinned
        };
        let engine = pinned.engine();
        let (first, last) = (rows.start / CHUNK_ROWS, (rows.end - 1) / CHUNK_ROWS);
        if first == last {
            if let Some(value) = pinned.get(engine.deletion_vectors(), &chunk_key(segment, first))? {
                deleted
                    .chunks
                    .insert(first, Chunk::decode(&value).ok_or_else(|| corrupt(segment, first))?);
            }
            return Ok(deleted);
        }
        let options = IterateOptions {
            lower: chunk_key(segment, first).to_vec(),
            upper: Some(chunk_key(segment, last + 1).to_vec()),
            readahead_bytes: 0,
        };
        let iterator = pinned.iterate(engine.deletion_vectors(), &options);
        let mut found = iterator.rows()?;
        found.seek(&options.lower);
        while let Some((key, value)) = found.item(true) {
            let chunk = key
                .get(4..)
                .and_then(|chunk| chunk.try_into().ok())
                .map(u32::from_be_bytes);
            let chunk = chunk.ok_or_else(|| corrupt(segment, COUNT))?;
            deleted
                .chunks
                .insert(chunk, Chunk::decode(value).ok_or_else(|| corrupt(segment, chunk))?);
            found.next();
        }
        found.end()?;
        Ok(deleted)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn insert(&mut self, row: u32) -> bool {
        self.chunks.entry(row / CHUNK_ROWS).or_default().insert(row)
    }

    /// Adds the other's.
    pub(crate) fn union(&mut self, other: &Deleted) {
        for (&number, chunk) in &other.chunks {
            self.chunks.entry(number).or_default().union(chunk);
        }
    }

    /// Whether a row is in both.
    pub(crate) fn meets(&self, other: &Deleted) -> bool {
        let in_both =
            |(number, chunk): (&u32, &Chunk)| other.chunks.get(number).is_some_and(|other| chunk.meets(other));
        self.chunks.iter().any(in_both)
    }

    pub(crate) fn remove(&mut self, row: u32) {
        if let Some(chunk) = self.chunks.get_mut(&(row / CHUNK_ROWS)) {
            chunk.remove(row);
        }
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        self.chunks
            .get(&(row / CHUNK_ROWS))
            .is_some_and(|chunk| chunk.contains(row))
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        self.chunks.iter().map(|(&number, chunk)| (number, chunk))
    }

    /// All of them, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = u32> {
        self.chunks
            .iter()
            .flat_map(|(&number, chunk)| chunk.rows().map(move |row| number * CHUNK_ROWS + row))
    }

    pub(crate) fn len(&self) -> u32 {
        self.chunks.values().map(Chunk::len).sum()
    }

    /// The parts of `rows` that are not in chunks without a live row.
    pub(crate) fn without_dead_chunks(&self, rows: Range<u32>) -> Vec<Range<u32>> {
        let mut parts = Vec::new();
        let mut start = rows.start;
        for (&number, chunk) in &self.chunks {
            if chunk.len() < CHUNK_ROWS {
                continue;
            }
            let dead = number * CHUNK_ROWS..(number + 1).saturating_mul(CHUNK_ROWS);
            if dead.end <= start || dead.start >= rows.end {
                continue;
            }
            if dead.start > start {
                parts.push(start..dead.start);
            }
            start = dead.end;
        }
        if start < rows.end {
            parts.push(start..rows.end);
        }
        parts
    }

    /// `true` for the live ones among these rows; `None` if all are.
    pub(crate) fn live(&self, numbers: &RowNumbers) -> Option<BooleanArray> {
        if self.chunks.is_empty() {
            return None;
        }
        let live: BooleanBuffer = match numbers {
            RowNumbers::Range(rows) => {
                let touched = self
                    .chunks
                    .range(rows.start / CHUNK_ROWS..=rows.end.saturating_sub(1) / CHUNK_ROWS);
                if touched.count() == 0 {
                    return None;
                }
                rows.clone().map(|row| !self.contains(row)).collect()
            }
            RowNumbers::List(rows) => rows.iter().map(|&row| !self.contains(row)).collect(),
        };
        let live = BooleanArray::new(live, None);
        (live.true_count() < live.len()).then_some(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_survive_their_encoding_in_both_forms() {
        for count in [0u32, 1, 2, 254, 255, 256, 257, 4095, 4096] {
            let mut chunk = Chunk::default();
            for row in 0..count {
                assert!(chunk.insert((row * 2741) % CHUNK_ROWS), "{row} is new");
            }
            assert_eq!(chunk.len(), count);
            let encoded = chunk.encode();
            assert!(encoded.len() <= CHUNK_BYTES);
            assert_eq!(Chunk::decode(&encoded), Some(chunk));
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for value in [vec![1], vec![0, 0, 0, 0], vec![5, 0, 4, 0], vec![0, 16], vec![0; 514]] {
            assert_eq!(Chunk::decode(&value), None, "{value:?}");
        }
    }

    #[test]
    fn dead_chunks_are_cut_out_of_ranges() {
        let mut deleted = Deleted::default();
        for row in CHUNK_ROWS..2 * CHUNK_ROWS {
            deleted.insert(row);
        }
        deleted.insert(3 * CHUNK_ROWS);
        let parts = |rows: Range<u32>| deleted.without_dead_chunks(rows);
        assert_eq!(parts(0..20_000), vec![0..4096, 8192..20_000]);
        assert_eq!(parts(5000..8000), vec![]);
        assert_eq!(parts(5000..8193), vec![8192..8193]);
        assert_eq!(parts(0..4096), vec![0..4096]);
        assert_eq!(parts(9000..20_000), vec![9000..20_000]);
    }

    #[test]
    fn masks_tell_the_live_from_the_dead() {
        let mut deleted = Deleted::default();
        deleted.insert(5000);
        assert_eq!(deleted.live(&RowNumbers::Range(0..4000)), None);
        assert_eq!(
            deleted.live(&RowNumbers::Range(4999..5002)),
            Some(BooleanArray::from(vec![true, false, true]))
        );
        assert_eq!(
            deleted.live(&RowNumbers::List(vec![1, 5000, 9000])),
            Some(BooleanArray::from(vec![true, false, true]))
        );
        assert_eq!(deleted.live(&RowNumbers::List(vec![1, 2])), None);
        deleted.remove(5000);
        assert!(!deleted.contains(5000));
    }
}
