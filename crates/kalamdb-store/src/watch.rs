//! What others do to a table while a load or a mover of it runs: gathered by the committer, settled by whoever asked.

use parking_lot::Mutex;

use crate::ids::{ScopeId, StoreId};
use crate::location::Location;
use crate::tuning::WATCH_KEYS;

/// What was committed to a store since the last look. The committer adds after it has published the state that holds it, so
/// whoever looks first and takes a state then has everything it no longer sees here in that state.
#[derive(Debug)]
pub(crate) struct Watch {
    store: StoreId,
    inserts: bool,
    news: Mutex<News>,
}

/// Keys that were inserted, rows that were removed.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) inserted: Vec<(ScopeId, Vec<u8>)>,
    pub(crate) removed: Vec<(ScopeId, Vec<u8>, Location)>,
    /// More than is gathered: something is missing here.
    pub(crate) overflowed: bool,
}

impl Watch {
    /// Watches removals, and with `inserts` insertions too.
    pub(crate) fn new(store: StoreId, inserts: bool) -> Self {
        Self {
            store,
            inserts,
            news: Mutex::new(News::default()),
        }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn inserted(&self, scope: ScopeId, key: &[u8]) {
        if !self.inserts {
            return;
        }
        let mut news = self.news.lock();
        if news.len() < WATCH_KEYS {
            news.inserted.push((scope, key.to_vec()));
        } else {
            news.overflowed = true;
        }
    }

    pub(crate) fn removed(&self, scope: ScopeId, key: &[u8], location: Location) {
        let mut news = self.news.lock();
        if news.len() < WATCH_KEYS {
            news.removed.push((scope, key.to_vec(), location));
        } else {
            news.overflowed = true;
        }
    }

    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    pub(crate) fn len(&self) -> usize {
        self.news.lock().len()
    }

    /// Puts back what was taken and not settled, so that it is found again.
    pub(crate) fn put_back(&self, taken: News) {
        let mut news = self.news.lock();
        news.inserted.extend(taken.inserted);
        news.removed.extend(taken.removed);
        news.overflowed |= taken.overflowed;
    }
}

impl News {
    pub(crate) fn len(&self) -> usize {
        self.inserted.len() + self.removed.len()
    }
}
