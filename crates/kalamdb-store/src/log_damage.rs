//! RocksDB's logs before it recovers them: whether something in the middle is damaged, which recovery would take for the torn end
//! that a crash leaves, and drop with all that follows.
//!
//! A power failure may leave any of the last writes and not those before them, as far as they were not synced; so whole records behind
//! a broken one prove nothing by themselves. Therefore each commit says in the log how far that was synced when it was written. If
//! recovery ends before that, acknowledged commits are lost, and the start is refused.
//!
//! A log is a row of blocks of 32 KiB, each with fragments of records: `crc32c u32, length u16, type u8`, little endian, and the
//! fragment; see `db/log_format.h`. A record is a `WriteBatch`: `sequence u64, count u32` and its changes.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// `sequence u64, count u32`.
const BATCH_HEADER_BYTES: usize = 12;

/// What a commit's batch ends with: RocksDB's tag and length of data that are in the log alone, then this and the mark.
const MARK_LEAD: &[u8] = b"kalamdb synced ";
const MARK_BYTES: usize = MARK_LEAD.len() + size_of::<u64>();
const LOG_DATA_TAG: u8 = 3;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Types that say something of the log and hold no batch: compression, sizes of timestamps, the log before.
const OTHERS: [u8; 3] = [9, 10, 130];

/// What a commit says in the log: RocksDB's sequence number up to which that is synced.
pub(crate) fn mark(synced: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..MARK_LEAD.len()].copy_from_slice(MARK_LEAD);
    mark[MARK_LEAD.len()..].copy_from_slice(&synced.to_le_bytes());
    mark
}

/// Where a log is broken, with whole records behind.
#[derive(Debug)]
struct Broken {
    log: PathBuf,
    offset: u64,
    /// Whether it is in the newest log.
    newest: bool,
    /// Whole records behind it, and the largest mark in them.
    behind: u64,
    synced: u64,
}

/// Refuses logs in the middle of which something is damaged. `recovered` says how far RocksDB's recovery would come, without
/// changing anything; it is asked only if a log is broken.
pub(crate) fn check(rocksdb: &Path, recovered: impl FnOnce() -> Result<u64, StoreError>) -> Result<(), StoreError> {
    if mistake!(DamagedLogsAreTakenForTorn) {
        return Ok(());
    }
    let Some(broken) = find_broken(rocksdb)? else {
        return Ok(());
    };
    if mistake!(TornLogsAreTakenForDamaged) {
        return Err(broken.refusal());
    }
    if broken.synced == 0 {
        tracing::warn!(
            log = %broken.log.display(),
            offset = broken.offset,
            records = broken.behind,
            "the log is broken there, as a power failure leaves it; records behind that are dropped, none of which is known \
             to have been acknowledged"
        );
        return Ok(());
    }
    match recovered() {
        Ok(sequence) if sequence >= broken.synced => Ok(()),
        Ok(_) | Err(StoreError::Corrupt { .. }) => Err(broken.refusal()),
        Err(error) => Err(error),
    }
}

impl Broken {
    fn refusal(&self) -> StoreError {
        let (log, offset) = (self.log.display(), self.offset);
        let without = match self.newest {
            true => format!(
                ", or go on without those commits, which are lost then: keep a copy of the directory and cut the log there \
                 (truncate --size={offset} '{log}')"
            ),
            false => String::new(),
        };
        StoreError::Corrupt {
            object: format!("the log {log}"),
            problem: format!(
                "it is damaged at byte {offset}, and {} records behind that, of commits that were acknowledged among them, cannot \
                 be recovered without what was there; check the disk, and restore the data directory from a copy{without}",
                self.behind
            ),
        }
    }
}

/// The first break in all logs that has whole records behind it.
fn find_broken(rocksdb: &Path) -> Result<Option<Broken>, StoreError> {
    let logs = logs(rocksdb)?;
    let mut broken: Option<Broken> = None;
    for (index, (_, path)) in logs.iter().enumerate() {
        let newest = index + 1 == logs.len();
        let file = File::open(path).map_err(|error| io(path, &error))?;
        let mut reader = Reader::default();
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut offset = 0;
        loop {
            block.clear();
            let read = (&file).take(BLOCK_BYTES as u64).read_to_end(&mut block);
            if read.map_err(|error| io(path, &error))? == 0 {
                break;
            }
            reader.block(offset, &block, |broken_at, record| {
                if let (None, Some(offset)) = (&broken, broken_at) {
                    broken = Some(Broken {
                        log: path.clone(),
                        offset,
                        newest,
                        behind: 0,
                        synced: 0,
                    });
                }
                if let Some(broken) = &mut broken {
                    broken.behind += 1;
                    broken.synced = broken.synced.max(record.synced().unwrap_or(0));
                }
            });
            offset += block.len() as u64;
        }
        // Nothing whole is behind it in its own log; the next may begin where it ends, or not.
        if let (None, Some(offset)) = (&broken, reader.broken_at) {
            broken = Some(Broken {
                log: path.clone(),
                offset,
                newest,
                behind: 0,
                synced: 0,
            });
        }
    }
    Ok(broken.filter(|broken| broken.behind > 0))
}

/// The logs with their numbers, the oldest first.
fn logs(rocksdb: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut logs = Vec::new();
    let entries = match fs::read_dir(rocksdb) {
        Ok(entries) => entries,
        // A new database.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(logs),
        Err(error) => return Err(io(rocksdb, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| io(rocksdb, &error))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (Some(number), Some("log")) = (number, path.extension().and_then(|extension| extension.to_str())) {
            logs.push((number, path));
        }
    }
    logs.sort();
    Ok(logs)
}

/// Follows one log.
#[derive(Default)]
struct Reader {
    /// A record whose fragments go on.
    begun: Option<Record>,
    /// Where it is broken first.
    broken_at: Option<u64>,
}

/// A record's ends: all that is asked of it.
#[derive(Default)]
struct Record {
    bytes: usize,
    tail: Vec<u8>,
}

impl Reader {
    /// Takes the next block, which begins at this offset, and hands on whole records with where the log was broken before them.
    fn block(&mut self, offset: u64, block: &[u8], mut whole: impl FnMut(Option<u64>, &Record)) {
        let mut at = 0;
        // What is left at a block's end is too short for a header.
        while at + HEADER_BYTES <= block.len() {
            let Some((kind, fragment)) = fragment(&block[at..]) else {
                self.broken_at.get_or_insert(offset + at as u64);
                self.begun = None;
                // Its length may be wrong as well: what is whole behind it is found by its checksum.
                at += 1;
                continue;
            };
            at += HEADER_BYTES + fragment.len();
            let mut record = match kind {
                FULL | FIRST => Record::default(),
                MIDDLE | LAST => match self.begun.take() {
                    Some(record) => record,
                    None => continue,
                },
                _ => continue,
            };
            record.add(fragment);
            match kind {
                FULL | LAST => whole(self.broken_at, &record),
                _ => self.begun = Some(record),
            }
        }
    }
}

impl Record {
    fn add(&mut self, fragment: &[u8]) {
        const KEPT: usize = MARK_BYTES + 2;
        self.bytes += fragment.len();
        self.tail
            .extend_from_slice(&fragment[fragment.len().saturating_sub(KEPT)..]);
        self.tail.drain(..self.tail.len().saturating_sub(KEPT));
    }

    /// The mark, if it has one.
    fn synced(&self) -> Option<u64> {
        let tail = self.tail.strip_prefix(&[LOG_DATA_TAG, MARK_BYTES as u8])?;
        let number = tail.strip_prefix(MARK_LEAD)?.try_into().ok()?;
        (self.bytes >= BATCH_HEADER_BYTES + MARK_BYTES + 2).then(|| u64::from_le_bytes(number))
    }
}

/// The type and the bytes of a fragment that begins here, if its checksum is right.
fn fragment(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let kind = header[6];
    if !matches!(kind, FULL | FIRST | MIDDLE | LAST) && !OTHERS.contains(&kind) {
        return None;
    }
    let fragment = rest.get(..usize::from(u16::from_le_bytes([header[4], header[5]])))?;
    let checksum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (masked(crc32c(&[kind], fragment)) == checksum).then_some((kind, fragment))
}

/// As RocksDB stores it: the checksum of bytes that hold checksums would be of little use.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli) of both, one after the other.
fn crc32c(first: &[u8], second: &[u8]) -> u32 {
    let mut crc = !0;
    for bytes in [first, second] {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let low = crc ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            crc = low
                .to_le_bytes()
                .iter()
                .chain(&word[4..])
                .zip(TABLES.iter().rev())
                .fold(0, |crc, (&byte, table)| crc ^ table[usize::from(byte)]);
        }
        for &byte in words.remainder() {
            crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)];
        }
    }
    !crc
}

/// What a byte does to the checksum, with 0 to 7 bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[behind - 1][byte];
            tables[behind][byte] = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

fn io(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Storage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // From RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[], &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 3], &[0xff; 29]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising[..1], &rising[1..]), 0x46dd_794e);
        assert_eq!(crc32c(b"1", b"23456789"), 0xe306_9283);
    }

    #[test]
    fn marks_are_at_the_end_of_records_of_any_number_of_fragments() {
        let mut batch = vec![7; 50];
        batch.extend([LOG_DATA_TAG, MARK_BYTES as u8]);
        batch.extend(mark(1 << 40));
        for cuts in [vec![], vec![60], vec![1, 51, 70]] {
            let mut record = Record::default();
            let ends = cuts.iter().copied().chain([batch.len()]);
            let mut start = 0;
            for end in ends {
                record.add(&batch[start..end]);
                start = end;
            }
            assert_eq!(record.synced(), Some(1 << 40), "{cuts:?}");
        }
        let mut other = Record::default();
        other.add(&batch[..batch.len() - 1]);
        assert_eq!(other.synced(), None);
    }
}
