//! The index inside a segment file: scopes, sparse keys, filters and block checksums. Its bytes, and look-ups in memory.
//!
//! It starts at the segment's `tail_offset`, right after the last row group; Parquet's page indexes and footer follow. Numbers are
//! little endian, rows are numbered from 0 over the whole file.
//!
//! ```text
//! bytes  what
//!     4  "KSGI"
//!     4  version of the index, 1
//!     8  bytes of the index, these 48 included
//!     4  flags: bit 0 rows have stored keys, others 0
//!     4  R: rows
//!     4  G: row groups
//!     4  S: scopes
//!     4  K: key blocks, 0 without stored keys
//!     4  C: checksummed blocks
//!     4  N: columns with a NaN
//!     4  0
//!        for each row group:
//!     4    its first row
//!     4    F: 32-byte blocks of its filter
//!        for each scope, ascending:
//!     8    the scope
//!     4    its first row
//!        for each key block, at least one per row group, none crosses one:
//!     4    its first row
//!     4    length of that row's key
//!        for each key block:
//!          scope (8 bytes, big endian) and encoded key of its first row
//!        for each row group:
//!  32 F    a split block Bloom filter as Parquet defines it (blocks of 8 words of 4 bytes, XXH64 with seed 0) over numbers of
//!          8 bytes: XXH3-64 of `scope (big endian) | key` for each row with a stored key, XXH3-64 of `scope (big endian)` for
//!          each scope
//!        for each 16 KiB of the file before the index, the last maybe shorter:
//!     8    its XXH3-64
//!        for each column that has a NaN in this file, so that its bounds say nothing:
//!     4    its position in the file
//! ```
//!
//! The whole tail, from here to the end of the file, is covered by the XXH3-64 in the manifest; through the block checksums that
//! covers every byte of the file.

use std::ops::Range;

use parquet::bloom_filter::Sbbf;
use twox_hash::XxHash3_64;

use crate::ids::ScopeId;
use crate::tuning::{KEY_BLOCK_ROWS, SEGMENT_FILTER_BITS};

/// Bytes of a file that one checksum covers. Reads are of whole such blocks: with 64 KiB, look-ups of one row took almost twice as
/// long as with 16 KiB, and the sums are small in either case (8 bytes each, in memory while the file is open).
pub(crate) const BLOCK_BYTES: u64 = 16 << 10;

/// The name of Parquet's key-value pair that says where the index is: offset and length, decimal, with a space between.
pub(crate) const METADATA_KEY: &str = "kalamdb.index";

const MAGIC: &[u8; 4] = b"KSGI";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const FLAG_KEYS: u32 = 1;
const FILTER_BLOCK_BYTES: usize = 32;

/// The index of one file.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) stored_keys: bool,
    pub(crate) rows: u32,
    /// First rows of the row groups, and the number of rows.
    groups: Vec<u32>,
    filters: Vec<Sbbf>,
    scopes: Vec<u64>,
    /// First rows of the scopes, and the number of rows.
    scope_starts: Vec<u32>,
    /// First rows of the key blocks, and the number of rows.
    block_starts: Vec<u32>,
    /// `scope | key` of all blocks' first rows.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    pub(crate) checksums: Vec<u64>,
    pub(crate) nan_columns: Vec<usize>,
}

impl Index {
    /// The index that `bytes` start with, and its length.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, usize), &'static str> {
        const SHORT: &str = "the index ends early";
        let mut input = Input(bytes);
        if input.take(4) != Some(MAGIC) {
            return Err("the index is not where it should be");
        }
        if input.u32() != Some(VERSION) {
            return Err("the index is of a version that this kalamdb does not read");
        }
        let length = input
            .u64()
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(SHORT)?;
        input.0 = bytes.get(16..length).ok_or(SHORT)?;
        let flags = input.u32().ok_or(SHORT)?;
        if flags & !FLAG_KEYS != 0 {
            return Err("the index has unknown flags");
        }
        let mut count = || input.u32().ok_or(SHORT);
        let rows = count()?;
        let (groups, scopes, blocks, checksums, nan_columns) = (count()?, count()?, count()?, count()?, count()?);
        count()?;
        let mut index = Self {
            stored_keys: flags & FLAG_KEYS != 0,
            rows,
            groups: Vec::new(),
            filters: Vec::new(),
            scopes: Vec::new(),
            scope_starts: Vec::new(),
            block_starts: Vec::new(),
            keys: Vec::new(),
            key_ends: Vec::new(),
            checksums: Vec::new(),
            nan_columns: Vec::new(),
        };
        let mut filter_blocks = Vec::new();
        for _ in 0..groups {
            index.groups.push(input.u32().ok_or(SHORT)?);
            filter_blocks.push(input.u32().ok_or(SHORT)? as usize);
        }
        for _ in 0..scopes {
            index.scopes.push(input.u64().ok_or(SHORT)?);
            index.scope_starts.push(input.u32().ok_or(SHORT)?);
        }
        let mut key_end = 0usize;
        for _ in 0..blocks {
            index.block_starts.push(input.u32().ok_or(SHORT)?);
            key_end = key_end.saturating_add(input.u32().ok_or(SHORT)? as usize);
            index.key_ends.push(key_end);
        }
        index.keys = input.take(key_end).ok_or(SHORT)?.to_vec();
        for blocks in filter_blocks {
            let bytes = input.take(blocks.saturating_mul(FILTER_BLOCK_BYTES)).ok_or(SHORT)?;
            index.filters.push(Sbbf::new(bytes));
        }
        for _ in 0..checksums {
            index.checksums.push(input.u64().ok_or(SHORT)?);
        }
        for _ in 0..nan_columns {
            index.nan_columns.push(input.u32().ok_or(SHORT)? as usize);
        }
        for starts in [&mut index.groups, &mut index.scope_starts, &mut index.block_starts] {
            starts.push(rows);
            if starts.windows(2).any(|pair| pair[0] >= pair[1]) || (starts.len() > 1 && starts[0] != 0) {
                return Err("the index's rows are not in order");
            }
        }
        let in_order = index.scopes.is_sorted_by(|a, b| a < b) && !index.scopes.is_empty();
        let filtered = index.filters.iter().all(|filter| filter.num_blocks() > 0) && groups > 0;
        if !in_order || !filtered || !input.0.is_empty() || index.stored_keys == (blocks == 0) {
            return Err("the index contradicts itself");
        }
        Ok((index, length))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let filters: usize = self
            .filters
            .iter()
            .map(|filter| filter.num_blocks() * FILTER_BLOCK_BYTES)
            .sum();
        filters
            + self.keys.capacity()
            + 8 * (self.scopes.capacity() + self.key_ends.capacity() + self.checksums.capacity())
            + 4 * (self.scope_starts.capacity() + self.block_starts.capacity() + self.groups.capacity())
    }

    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = Range<u32>> {
        self.groups.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The row group that a row is in.
    pub(crate) fn group_of(&self, row: u32) -> usize {
        self.groups.partition_point(|&start| start <= row).saturating_sub(1)
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = (ScopeId, Range<u32>)> {
        let rows = self.scope_starts.windows(2).map(|pair| pair[0]..pair[1]);
        self.scopes.iter().map(|&scope| ScopeId(scope)).zip(rows)
    }

    pub(crate) fn scope_rows(&self, scope: ScopeId) -> Range<u32> {
        match self.scopes.binary_search(&scope.0) {
            Ok(at) => self.scope_starts[at]..self.scope_starts[at + 1],
            Err(_) => 0..0,
        }
    }

    /// The rows of key block `block`.
    pub(crate) fn block_rows(&self, block: usize) -> Range<u32> {
        self.block_starts[block]..self.block_starts[block + 1]
    }

    /// `scope | key` of the first row of block `block`.
    pub(crate) fn block_key(&self, block: usize) -> &[u8] {
        let start = if block == 0 { 0 } else { self.key_ends[block - 1] };
        &self.keys[start..self.key_ends[block]]
    }

    /// How many blocks start with a key less than `whole`, or, with `or_equal`, not greater.
    fn blocks_before(&self, whole: &[u8], or_equal: bool) -> usize {
        let (mut low, mut high) = (0, self.key_ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let key = self.block_key(middle);
            if key < whole || (or_equal && key == whole) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The block that holds `whole` if any does.
    pub(crate) fn block_of(&self, whole: &[u8]) -> Option<usize> {
        self.blocks_before(whole, true).checked_sub(1)
    }

    /// The rows among which the first one not less than `whole` is, unless it is the one after them.
    pub(crate) fn rows_around(&self, whole: &[u8]) -> Range<u32> {
        match self.blocks_before(whole, false).checked_sub(1) {
            // The first row of the block is known to be less.
            Some(block) => self.block_starts[block] + 1..self.block_starts[block + 1],
            None => 0..0,
        }
    }

    /// Whether a row of row group `group` may have this `scope | key` (or be of this scope, given alone). Never wrong in saying no.
    pub(crate) fn may_have(&self, group: usize, whole: &[u8]) -> bool {
        self.filters[group].check(&hash(whole)[..])
    }
}

fn hash(whole: &[u8]) -> [u8; 8] {
    XxHash3_64::oneshot(whole).to_le_bytes()
}

/// Gathers an index while rows are written.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    stored_keys: bool,
    rows: u32,
    group_start: u32,
    groups: Vec<u32>,
    filters: Vec<Sbbf>,
    /// Of the row group being written.
    hashes: Vec<[u8; 8]>,
    scopes: Vec<(u64, u32)>,
    block_starts: Vec<u32>,
    key_lengths: Vec<u32>,
    keys: Vec<u8>,
    whole: Vec<u8>,
}

impl IndexBuilder {
    pub(crate) fn new(stored_keys: bool) -> Self {
        Self {
            stored_keys,
            rows: 0,
            group_start: 0,
            groups: Vec::new(),
            filters: Vec::new(),
            hashes: Vec::new(),
            scopes: Vec::new(),
            block_starts: Vec::new(),
            key_lengths: Vec::new(),
            keys: Vec::new(),
            whole: Vec::new(),
        }
    }

    /// Takes up rows of one scope, in order; their keys if they are stored.
    pub(crate) fn add<'a>(&mut self, scope: ScopeId, rows: u32, keys: Option<impl Iterator<Item = &'a [u8]>>) {
        if rows == 0 {
            return;
        }
        if self.scopes.last().is_none_or(|&(last, _)| last != scope.0) {
            self.scopes.push((scope.0, self.rows));
        }
        // Once for each piece: a scope may go on in the next row group.
        self.hashes.push(hash(&scope.0.to_be_bytes()));
        for (row, key) in (self.rows..).zip(keys.into_iter().flatten()) {
            self.whole.clear();
            self.whole.extend_from_slice(&scope.0.to_be_bytes());
            self.whole.extend_from_slice(key);
            self.hashes.push(hash(&self.whole));
            if ((row - self.group_start) as usize).is_multiple_of(KEY_BLOCK_ROWS) {
                self.block_starts.push(row);
                // A row, and with it a key, has at most 16 MiB.
                self.key_lengths
                    .push(u32::try_from(self.whole.len()).unwrap_or(u32::MAX));
                self.keys.extend_from_slice(&self.whole);
            }
        }
        self.rows += rows;
    }

    /// Ends a row group.
    pub(crate) fn end_group(&mut self) {
        if self.group_start == self.rows {
            return;
        }
        self.hashes.dedup();
        let blocks = (self.hashes.len() * SEGMENT_FILTER_BITS).div_ceil(8 * FILTER_BLOCK_BYTES);
        let mut filter = Sbbf::new(&vec![0; blocks * FILTER_BLOCK_BYTES]);
        for hash in self.hashes.drain(..) {
            filter.insert(&hash[..]);
        }
        self.filters.push(filter);
        self.groups.push(self.group_start);
        self.group_start = self.rows;
    }

    /// Its bytes, all row groups being ended.
    pub(crate) fn encode(&self, checksums: &[u64], nan_columns: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let count = |out: &mut Vec<u8>, count: usize| {
            // Rows are at most a million and bytes of a file limited through them; no count comes near.
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        };
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&(if self.stored_keys { FLAG_KEYS } else { 0 }).to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        count(&mut out, self.groups.len());
        count(&mut out, self.scopes.len());
        count(&mut out, self.block_starts.len());
        count(&mut out, checksums.len());
        count(&mut out, nan_columns.len());
        count(&mut out, 0);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        for (first, filter) in self.groups.iter().zip(&self.filters) {
            out.extend_from_slice(&first.to_le_bytes());
            count(&mut out, filter.num_blocks());
        }
        for (scope, first) in &self.scopes {
            out.extend_from_slice(&scope.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        for (first, length) in self.block_starts.iter().zip(&self.key_lengths) {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
        out.extend_from_slice(&self.keys);
        for filter in &self.filters {
            filter.write_bitset(&mut out).expect("memory takes all bytes");
        }
        for checksum in checksums {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        for &column in nan_columns {
            count(&mut out, column);
        }
        let length = out.len() as u64;
        out[8..16].copy_from_slice(&length.to_le_bytes());
        out
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }
}
