//! The segments of a store as the manifest knows them: entries and runs. What is in the files is `segment`'s.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::damage::Damage;
use crate::erase::{EraseJob, EraserHandle};
use crate::error::StoreError;
use crate::files::StoredFile;
use crate::ids::{SchemaVersion, ScopeId, SegmentId, Seq, StorageId};

/// One segment of a live store, never changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SegmentEntry {
    /// Its id.
    pub segment: SegmentId,
    /// The run that it belongs to; segments of a run are disjoint in keys.
    pub run: u32,
    /// Where its file is.
    pub storage: StorageId,
    /// The file's path in the storage.
    pub path: String,
    /// Rows in the file, deleted ones included.
    pub rows: u32,
    /// Of the file.
    pub size_bytes: u64,
    /// What its rows take in memory, decoded; 0 in entries from before it was noted.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The smallest `scope | key` in it.
    #[serde(with = "hex_bytes")]
    pub min_key: Vec<u8>,
    /// The largest.
    #[serde(with = "hex_bytes")]
    pub max_key: Vec<u8>,
    /// The schema version that its columns are of.
    pub schema_version: SchemaVersion,
    /// Its sequence numbers.
    pub seqs: SegmentSeqs,
    /// Where in the file the part starts that [`SegmentEntry::checksum`] covers: indexes, checksums of the rest, footer.
    pub tail_offset: u64,
    /// XXH3 of that part; through the checksums in it, of the whole file.
    pub checksum: u64,
    /// When it was published, µs.
    pub created_micros: i64,
}

/// Where a segment's rows have their `_seq` and `_updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentSeqs {
    /// In columns of the file; the smallest and the largest `_seq`.
    Stored {
        /// The smallest.
        min: Seq,
        /// The largest.
        max: Seq,
    },
    /// The row's number in the file plus this; one time for all. Of a table without a key, it is the row id too.
    Base {
        /// The first row's.
        base: Seq,
        /// `_updated` of all, µs.
        updated_micros: i64,
    },
}

/// The file of a segment that nobody needs any more, or may not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileName {
    pub(crate) storage: StorageId,
    pub(crate) path: String,
}

/// A segment that some state still shows. The file of one that was replaced goes with the last of them.
pub(crate) struct Segment {
    pub(crate) entry: Arc<SegmentEntry>,
    dead: AtomicBool,
    /// Its file is given up, or already erased.
    let_go: AtomicBool,
    pub(crate) damage: Arc<Damage>,
    /// How many rows of scopes that are gone it has, and how many scopes were gone when that was counted.
    retired_rows: Mutex<Option<(usize, u32)>>,
    eraser: EraserHandle,
}

/// The segments of one store at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    /// Each sorted by key.
    runs: Vec<Vec<Arc<Segment>>>,
    by_id: HashMap<SegmentId, Arc<Segment>>,
}

impl SegmentEntry {
    pub(crate) fn file(&self) -> FileName {
        FileName {
            storage: self.storage,
            path: self.path.clone(),
        }
    }

    /// For messages about the file.
    pub(crate) fn in_file(&self, file: &StoredFile) -> String {
        format!("segment {} ({})", self.segment, file.name())
    }

    /// For messages.
    pub(crate) fn describe(&self) -> String {
        format!("segment {} (storage {}, {})", self.segment, self.storage, self.path)
    }
}

impl Segment {
    pub(crate) fn new(entry: SegmentEntry, damage: Arc<Damage>, eraser: &EraserHandle) -> Arc<Self> {
        Arc::new(Self {
            entry: Arc::new(entry),
            dead: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
            damage,
            retired_rows: Mutex::new(None),
            eraser: eraser.clone(),
        })
    }

    /// No newer state shows it, and a record says so that start-up finds.
    pub(crate) fn retire(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Of one that is retired: its file goes although somebody still holds it, who hears that from now on.
    pub(crate) fn let_go(&self) {
        if self.let_go.swap(true, Ordering::AcqRel) {
            return;
        }
        // First, so that nobody takes the file that is missing for damage.
        self.damage.let_go();
        self.eraser
            .erase(EraseJob::Segment(self.entry.segment, self.entry.file()));
    }

    /// Rows of scopes that are gone, counted anew only after more of them went: a scope that is gone never comes back, so as many
    /// are the same ones.
    pub(crate) fn retired_rows(
        &self,
        retired: &HashSet<ScopeId>,
        count: impl FnOnce() -> Result<u32, StoreError>,
    ) -> Result<u32, StoreError> {
        if retired.is_empty() || !self.overlaps(retired) {
            return Ok(0);
        }
        let mut known = self.retired_rows.lock();
        if let Some((scopes, rows)) = *known
            && scopes == retired.len()
        {
            return Ok(rows);
        }
        let rows = count()?;
        *known = Some((retired.len(), rows));
        Ok(rows)
    }

    /// Whether one of the scopes is between its first row's and its last row's.
    fn overlaps(&self, scopes: &HashSet<ScopeId>) -> bool {
        let scope_of = |key: &[u8]| key.first_chunk().map(|scope| ScopeId(u64::from_be_bytes(*scope)));
        let (Some(first), Some(last)) = (scope_of(&self.entry.min_key), scope_of(&self.entry.max_key)) else {
            return true;
        };
        let between = first.0..=last.0;
        scopes.iter().any(|scope| between.contains(&scope.0))
    }

    /// An error if its file is known to be damaged.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.damage.check()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if *self.dead.get_mut() {
            self.let_go();
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl Segments {
    pub(crate) fn new(segments: impl IntoIterator<Item = Arc<Segment>>) -> Self {
        let mut runs: HashMap<u32, Vec<Arc<Segment>>> = HashMap::new();
        let mut by_id = HashMap::new();
        for segment in segments {
            by_id.insert(segment.entry.segment, segment.clone());
            runs.entry(segment.entry.run).or_default().push(segment);
        }
        let mut runs: Vec<(u32, Vec<Arc<Segment>>)> = runs.into_iter().collect();
        runs.sort_by_key(|(run, _)| *run);
        let mut runs: Vec<Vec<Arc<Segment>>> = runs.into_iter().map(|(_, run)| run).collect();
        for run in &mut runs {
            run.sort_by(|a, b| (&a.entry.min_key, a.entry.segment).cmp(&(&b.entry.min_key, b.entry.segment)));
        }
        Self { runs, by_id }
    }

    /// The same without some and with others.
    pub(crate) fn replace(&self, removed: &[SegmentId], added: Vec<Arc<Segment>>) -> Self {
        let kept = self
            .by_id
            .values()
            .filter(|segment| !removed.contains(&segment.entry.segment))
            .cloned();
        Self::new(kept.chain(added))
    }

    pub(crate) fn get(&self, segment: SegmentId) -> Option<&Arc<Segment>> {
        self.by_id.get(&segment)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether one of them may have a `scope | key` between these, ends included.
    pub(crate) fn overlap(&self, min_key: &[u8], max_key: &[u8]) -> bool {
        let overlaps =
            |segment: &Arc<Segment>| *segment.entry.min_key <= *max_key && *min_key <= *segment.entry.max_key;
        self.by_id.values().any(overlaps)
    }

    /// In the order of runs, and of keys in each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.runs.iter().flatten()
    }

    /// Runs, oldest first, each sorted by key.
    pub(crate) fn runs(&self) -> &[Vec<Arc<Segment>>] {
        &self.runs
    }

    /// An error if one of them is known to be damaged.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.by_id.values().try_for_each(|segment| segment.check())
    }
}

/// Bytes as text in JSON.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or_else(|| D::Error::custom("a key is not hexadecimal"))
        };
        let mut bytes = Vec::with_capacity(text.len() / 2);
        for pair in text.as_bytes().chunks(2) {
            let [high, low] = pair else {
                return Err(D::Error::custom("a key has half a byte"));
            };
            bytes.push(digit(*high)? << 4 | digit(*low)?);
        }
        Ok(bytes)
    }
}
