//! The bytes of a segment file before its tail, in checksummed blocks: summed up while written, verified when read.

use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::error::StoreError;
use crate::files::{FileWriter, StoredFile};
use crate::segment::index::BLOCK_BYTES;
use crate::tuning::READ_GAP_BYTES;

/// Reads blocks of one file and lets none through that is not as it was written.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: StoredFile,
    /// What messages call the file.
    object: String,
    checksums: Vec<u64>,
    /// Where the tail starts.
    end: u64,
}

impl Blocks {
    pub(crate) fn new(file: StoredFile, object: String, checksums: Vec<u64>, end: u64) -> Result<Self, StoreError> {
        let blocks = Self {
            file,
            object,
            checksums,
            end,
        };
        if blocks.checksums.len() as u64 != end.div_ceil(BLOCK_BYTES) {
            return Err(blocks.corrupt("the index has checksums of more or fewer bytes than the file has"));
        }
        Ok(blocks)
    }

    pub(crate) fn corrupt(&self, problem: impl ToString) -> StoreError {
        StoreError::Corrupt {
            object: self.object.clone(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        8 * self.checksums.capacity() + self.object.capacity()
    }

    /// Ranges that cover all of `ranges`, in order, with their verified bytes.
    pub(crate) fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<(Range<u64>, Bytes)>, StoreError> {
        let spans = self.spans(ranges)?;
        let read = self
            .file
            .read_ranges(&spans)
            .map_err(|error| rename(error, &self.object))?;
        for (span, bytes) in spans.iter().zip(&read) {
            self.check(span, bytes)?;
        }
        Ok(spans.into_iter().zip(read).collect())
    }

    /// Whole blocks around `ranges`, sorted and disjoint, those near each other as one.
    fn spans(&self, ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>, StoreError> {
        let mut blocks = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.start > range.end || range.end > self.end {
                return Err(self.corrupt("a column is said to lie outside the part of the file that has columns"));
            }
            if range.start < range.end {
                let start = range.start - range.start % BLOCK_BYTES;
                blocks.push(start..range.end.next_multiple_of(BLOCK_BYTES).min(self.end));
            }
        }
        blocks.sort_unstable_by_key(|block| block.start);
        let mut spans: Vec<Range<u64>> = Vec::with_capacity(blocks.len());
        for block in blocks {
            match spans.last_mut() {
                Some(last) if block.start <= last.end + READ_GAP_BYTES => last.end = last.end.max(block.end),
                _ => spans.push(block),
            }
        }
        Ok(spans)
    }

    fn check(&self, span: &Range<u64>, bytes: &Bytes) -> Result<(), StoreError> {
        if bytes.len() as u64 != span.end - span.start {
            return Err(self.corrupt("the file ends early"));
        }
        let checksums = self.checksums.iter().skip((span.start / BLOCK_BYTES) as usize);
        let mut start = span.start;
        for (block, &checksum) in bytes.chunks(BLOCK_BYTES as usize).zip(checksums) {
            if XxHash3_64::oneshot(block) != checksum && !mistake!(ChecksumsAreNotCompared) {
                let end = start + block.len() as u64;
                return Err(self.corrupt(format!(
                    "bytes {start} to {end} do not have the checksum they were written with"
                )));
            }
            start += BLOCK_BYTES;
        }
        Ok(())
    }
}

/// Damage that the storage found, under the name of the segment.
pub(crate) fn rename(error: StoreError, object: &str) -> StoreError {
    match error {
        StoreError::Corrupt { problem, .. } => StoreError::Corrupt {
            object: object.to_string(),
            problem,
        },
        other => other,
    }
}

/// Passes bytes on to a file and sums them up: block by block, and the tail as a whole.
pub(crate) struct SummedWriter {
    file: FileWriter,
    /// Of the block or the tail that is being written.
    hasher: twox_hash::xxhash3_64::Hasher,
    /// How many bytes of it there are.
    hashed: u64,
    checksums: Vec<u64>,
    in_tail: bool,
}

impl SummedWriter {
    pub(crate) fn new(file: FileWriter) -> Self {
        Self {
            file,
            hasher: twox_hash::xxhash3_64::Hasher::new(),
            hashed: 0,
            checksums: Vec::new(),
            in_tail: false,
        }
    }

    /// Ends the blocks, whose checksums it returns; what is written from now on is the tail.
    pub(crate) fn start_tail(&mut self) -> Vec<u64> {
        self.end_block();
        self.in_tail = true;
        std::mem::take(&mut self.checksums)
    }

    /// Makes the file durable; its size and the checksum of its tail.
    pub(crate) fn finish(self) -> Result<(u64, u64), StoreError> {
        let checksum = std::hash::Hasher::finish(&self.hasher);
        Ok((self.file.finish()?, checksum))
    }

    fn end_block(&mut self) {
        if self.hashed > 0 {
            self.checksums.push(std::hash::Hasher::finish(&self.hasher));
            self.hasher = twox_hash::xxhash3_64::Hasher::new();
            self.hashed = 0;
        }
    }
}

impl Write for SummedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = match self.in_tail {
            true => bytes.len(),
            false => bytes.len().min((BLOCK_BYTES - self.hashed) as usize),
        };
        let written = self.file.write(&bytes[..room])?;
        std::hash::Hasher::write(&mut self.hasher, &bytes[..written]);
        self.hashed += written as u64;
        if !self.in_tail && self.hashed == BLOCK_BYTES {
            self.end_block();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
