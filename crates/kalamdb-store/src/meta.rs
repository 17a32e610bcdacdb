//! The records of the `meta` column family: their names and how they are written. Who writes which, and when, is not here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ids::{ScopeId, SegmentId, Seq, StorageId, StoreId};
use crate::manifest::{FileName, SegmentEntry};
use crate::mover::HotUsage;
use crate::snapshot::TableVersion;
use crate::store::Counter;

/// Format version and database id, JSON.
pub(crate) const FORMAT: &[u8] = b"format";
/// The newest sequence number and its time.
pub(crate) const LAST: &[u8] = b"last";

const TABLE: &[u8] = b"table/";
const SEGMENT: &[u8] = b"segment/";
const FILE: &[u8] = b"file/";
const HOT: &[u8] = b"hot/";
const SEALED: &[u8] = b"sealed/";
const DAMAGED: &[u8] = b"damaged/";
const RETIRED: &[u8] = b"retired/";
const SCOPE_RETIRED: &[u8] = b"scope-retired/";
const STORAGE: &[u8] = b"storage/";
const STORAGE_MARKED: &[u8] = b"storage-marked/";
const STORAGE_USED: &[u8] = b"storage-used/";
const COUNTER: &str = "counter/";
const RECORD: &str = "record/";

/// The version of a live store.
pub(crate) fn table(store: StoreId) -> Vec<u8> {
    [TABLE, &store.0.to_be_bytes()].concat()
}

/// A segment of a live store, JSON.
pub(crate) fn segment(store: StoreId, segment: SegmentId) -> Vec<u8> {
    [SEGMENT, &store.0.to_be_bytes(), &segment.0.to_be_bytes()].concat()
}

/// A segment's file that is being written, or that no state shows any more: removed at start-up if it is still there. JSON.
pub(crate) fn file(segment: SegmentId) -> Vec<u8> {
    [FILE, &segment.0.to_be_bytes()].concat()
}

/// A segment in whose file damage was found, until a check finds the file as it was written: what is wrong with it, text.
pub(crate) fn damaged(segment: SegmentId) -> Vec<u8> {
    [DAMAGED, &segment.0.to_be_bytes()].concat()
}

/// What is in the current epoch of a store: rows, bytes, the first one's time, each 8 bytes.
pub(crate) fn hot(store: StoreId) -> Vec<u8> {
    [HOT, &store.0.to_be_bytes()].concat()
}

pub(crate) fn encode_hot(usage: &HotUsage) -> [u8; 24] {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&usage.rows.to_le_bytes());
    out[8..16].copy_from_slice(&usage.bytes.to_le_bytes());
    out[16..].copy_from_slice(&usage.since_micros.to_le_bytes());
    out
}

fn decode_hot(value: &[u8]) -> Option<HotUsage> {
    let (rows, rest) = value.split_first_chunk::<8>()?;
    let (bytes, since) = rest.split_first_chunk::<8>()?;
    Some(HotUsage {
        rows: u64::from_le_bytes(*rows),
        bytes: u64::from_le_bytes(*bytes),
        since_micros: i64::from_le_bytes(since.try_into().ok()?),
        ..HotUsage::default()
    })
}

/// What is in the sealed epoch of a durable store: rows and bytes, each 8 bytes.
pub(crate) fn sealed(store: StoreId) -> Vec<u8> {
    [SEALED, &store.0.to_be_bytes()].concat()
}

pub(crate) fn encode_sealed(usage: &HotUsage) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&usage.sealed_rows.to_le_bytes());
    out[8..].copy_from_slice(&usage.sealed_bytes.to_le_bytes());
    out
}

fn decode_sealed(value: &[u8]) -> Option<(u64, u64)> {
    let (rows, bytes) = value.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*rows), u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// A store whose rows are to be erased.
pub(crate) fn retired(store: StoreId) -> Vec<u8> {
    [RETIRED, &store.0.to_be_bytes()].concat()
}

/// A scope that is gone in every store. The value is empty until its hot rows are erased and [`ERASED`] from then on; those in
/// segments go when the segments are rewritten.
pub(crate) fn scope_retired(scope: ScopeId) -> Vec<u8> {
    [SCOPE_RETIRED, &scope.0.to_be_bytes()].concat()
}

/// See [`scope_retired`].
pub(crate) const ERASED: &[u8] = &[1];

/// Where a storage other than the default one is, or was: a directory's path, its bytes. It stays when nobody adds the storage any
/// more, because files of it may be left to erase; there is never another storage of that id.
pub(crate) fn storage(storage: StorageId) -> Vec<u8> {
    [STORAGE, &storage.0.to_be_bytes()].concat()
}

/// A storage whose directory has the file that it is recognised by: it is not used without. Empty.
pub(crate) fn storage_marked(storage: StorageId) -> Vec<u8> {
    [STORAGE_MARKED, &storage.0.to_be_bytes()].concat()
}

/// One or two words, with a space between: one of them is what the storage's directory says of who used it last, if that was this database.
pub(crate) fn storage_used(storage: StorageId) -> Vec<u8> {
    [STORAGE_USED, &storage.0.to_be_bytes()].concat()
}

/// The value of [`storage`].
pub(crate) fn encode_root(root: &Path) -> &[u8] {
    root.as_os_str().as_bytes()
}

/// The first value of a counter that was never handed out, u64.
pub(crate) fn counter(counter: Counter) -> Vec<u8> {
    let name = match counter {
        Counter::Store => "store",
        Counter::Scope => "scope",
        Counter::Table => "table",
        Counter::Segment => "segment",
    };
    [COUNTER, name].concat().into_bytes()
}

/// An opaque record of the crate above.
pub(crate) fn record(name: &str) -> Vec<u8> {
    [RECORD, name].concat().into_bytes()
}

/// Everything of the `meta` column family that decides what a state holds.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) tables: Vec<(StoreId, TableVersion)>,
    pub(crate) segments: Vec<(StoreId, SegmentEntry)>,
    pub(crate) files: Vec<(SegmentId, FileName)>,
    /// What is wrong with segments.
    pub(crate) damaged: HashMap<SegmentId, String>,
    pub(crate) hot: HashMap<StoreId, HotUsage>,
    /// Where storages are or were.
    pub(crate) storages: HashMap<StorageId, PathBuf>,
    pub(crate) retired: Vec<StoreId>,
    /// Scopes that are gone, and whether their hot rows are erased.
    pub(crate) retired_scopes: Vec<(ScopeId, bool)>,
}

impl Inventory {
    /// Takes in one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let short = || "the record's name has the wrong length".to_string();
        if let Some(id) = name.strip_prefix(TABLE) {
            let store = StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            let version = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            self.tables.push((store, version));
        } else if let Some(id) = name.strip_prefix(SEGMENT) {
            let id = u64::from_be_bytes(id.try_into().map_err(|_| short())?);
            let entry = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            // The upper half is the store, the lower the segment.
            self.segments.push((StoreId((id >> 32) as u32), entry));
        } else if let Some(id) = name.strip_prefix(FILE) {
            let segment = SegmentId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            let file = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            self.files.push((segment, file));
        } else if let Some(id) = name.strip_prefix(DAMAGED) {
            let segment = SegmentId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            self.damaged
                .insert(segment, String::from_utf8_lossy(value).into_owned());
        } else if let Some(id) = name.strip_prefix(HOT) {
            let store = StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            let usage = decode_hot(value).ok_or_else(|| "it has not 24 bytes".to_string())?;
            let hot = self.hot.entry(store).or_default();
            *hot = HotUsage {
                sealed_rows: hot.sealed_rows,
                sealed_bytes: hot.sealed_bytes,
                ..usage
            };
        } else if let Some(id) = name.strip_prefix(SEALED) {
            let store = StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            let (rows, bytes) = decode_sealed(value).ok_or_else(|| "it has not 16 bytes".to_string())?;
            let hot = self.hot.entry(store).or_default();
            (hot.sealed_rows, hot.sealed_bytes) = (rows, bytes);
        } else if let Some(id) = name.strip_prefix(STORAGE) {
            let storage = StorageId(u32::from_be_bytes(id.try_into().map_err(|_| short())?));
            self.storages.insert(storage, PathBuf::from(OsStr::from_bytes(value)));
        } else if let Some(id) = name.strip_prefix(RETIRED) {
            self.retired
                .push(StoreId(u32::from_be_bytes(id.try_into().map_err(|_| short())?)));
        } else if let Some(id) = name.strip_prefix(SCOPE_RETIRED) {
            let scope = ScopeId(u64::from_be_bytes(id.try_into().map_err(|_| short())?));
            self.retired_scopes.push((scope, value == ERASED));
        }
        Ok(())
    }
}

/// The value of [`LAST`].
pub(crate) fn encode_last(seq: Seq, updated_micros: i64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&seq.0.to_le_bytes());
    out[8..].copy_from_slice(&updated_micros.to_le_bytes());
    out
}

/// Reads the value of [`LAST`].
pub(crate) fn decode_last(value: &[u8]) -> Option<(Seq, i64)> {
    let (seq, updated) = value.split_first_chunk::<8>()?;
    Some((
        Seq(u64::from_le_bytes(*seq)),
        i64::from_le_bytes(updated.try_into().ok()?),
    ))
}
