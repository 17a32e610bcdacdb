//! What others do to a table while a load or a mover of it runs: gathered by the committer, settled by whoever asked.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use twox_hash::XxHash3_128;

use crate::cold::scoped;
use crate::deletion_vector::Deleted;
use crate::ids::{Epoch, ScopeId, SegmentId, StoreId};
use crate::location::Location;
use crate::tuning::WATCH_KEYS;

/// What was committed to a store since the last look. The committer adds after it has published the state that holds it, so
/// whoever looks first and takes a state then has everything it no longer sees here in that state.
#[derive(Debug)]
pub(crate) struct Watch {
    store: StoreId,
    concern: Concern,
    news: Mutex<News>,
}

/// What a watch hears of. Movers hear of their own inputs alone, of each row once and in a few bytes: less than they hold of it
/// anyway, so nothing bounds that.
#[derive(Debug)]
pub(crate) enum Concern {
    /// Of a load: all that is inserted or removed, up to a bound, and which segments other loads bring.
    Everything,
    /// Of a flush: rows that go from this epoch.
    Epoch(Epoch),
    /// Of a compaction: rows that go from these segments.
    Segments(BTreeSet<SegmentId>),
}

/// Keys that were inserted, rows that were removed.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// For loads, as what follows.
    pub(crate) inserted: Vec<(ScopeId, Vec<u8>)>,
    pub(crate) removed: Vec<(ScopeId, Vec<u8>, Location)>,
    /// Hot rows that were removed, for flushes.
    pub(crate) gone: Vec<Fingerprint>,
    /// Rows of segments that were removed: for compactions, and all that another publication removes.
    pub(crate) deleted: HashMap<SegmentId, Deleted>,
    /// What other loads brought, for loads: rows of which nobody is told.
    pub(crate) loaded: Vec<SegmentId>,
    /// More than is gathered: something is missing here.
    pub(crate) overflowed: bool,
}

/// Names a key without keeping it: two keys of one table never share one of these, for all that anybody will see.
pub(crate) type Fingerprint = u128;

pub(crate) fn fingerprint(scope: ScopeId, mut key: &[u8]) -> Fingerprint {
    if mistake!(FlushesTellRowsByOneColumn) {
        key = &key[..key.len().min(size_of::<i64>())];
    }
    XxHash3_128::oneshot(&scoped(scope, key))
}

impl Watch {
    pub(crate) fn new(store: StoreId, concern: Concern) -> Self {
        Self {
            store,
            concern,
            news: Mutex::new(News::default()),
        }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Whether it hears of rows that go from there.
    pub(crate) fn concerns(&self, location: Location) -> bool {
        match (&self.concern, location) {
            (Concern::Everything, _) => true,
            (Concern::Epoch(moved), Location::Hot(epoch)) => *moved == epoch,
            (Concern::Segments(merged), Location::Cold(segment, _)) => merged.contains(&segment),
            (Concern::Epoch(_), Location::Cold(..)) | (Concern::Segments(_), Location::Hot(_)) => false,
        }
    }

    /// Adds a row that is inserted to what it is to hear, if it wants to.
    pub(crate) fn note_inserted(&self, news: &mut News, scope: ScopeId, key: &[u8]) {
        if matches!(self.concern, Concern::Everything) {
            news.inserted.push((scope, key.to_vec()));
        }
    }

    /// Adds the segments of another load.
    pub(crate) fn note_loaded(&self, news: &mut News, segments: impl Iterator<Item = SegmentId>) {
        if matches!(self.concern, Concern::Everything) && !mistake!(LoadsAreNotHeard) {
            news.loaded.extend(segments);
        }
    }

    /// Adds a row that is removed.
    pub(crate) fn note_removed(&self, news: &mut News, scope: ScopeId, key: &[u8], location: Location) {
        if !self.concerns(location) {
            return;
        }
        match (&self.concern, location) {
            (Concern::Everything, _) => news.removed.push((scope, key.to_vec(), location)),
            (_, Location::Hot(_)) => news.gone.push(fingerprint(scope, key)),
            (_, Location::Cold(segment, row)) => {
                news.deleted.entry(segment).or_default().insert(row);
            }
        }
    }

    /// Hears what was gathered.
    pub(crate) fn hear(&self, heard: News) {
        let mut news = self.news.lock();
        let mut keys = news.len() + heard.len();
        if mistake!(MoversHearOnlySoMuch) {
            keys += heard.deleted.values().map(|rows| rows.len() as usize).sum::<usize>() + heard.gone.len();
        }
        if keys <= WATCH_KEYS {
            news.add(heard);
        } else {
            news.overflowed = true;
        }
    }

    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    /// Keys that wait to be settled.
    pub(crate) fn len(&self) -> usize {
        self.news.lock().len()
    }

    /// Puts back what was taken and not settled, so that it is found again.
    pub(crate) fn put_back(&self, taken: News) {
        self.news.lock().add(taken);
    }
}

impl News {
    pub(crate) fn len(&self) -> usize {
        self.inserted.len() + self.removed.len()
    }

    fn add(&mut self, other: News) {
        self.inserted.extend(other.inserted);
        self.removed.extend(other.removed);
        self.gone.extend(other.gone);
        self.loaded.extend(other.loaded);
        for (segment, rows) in other.deleted {
            self.deleted.entry(segment).or_default().union(&rows);
        }
        self.overflowed |= other.overflowed;
    }
}
