//! Keys that others insert into a table while a bulk load of it runs: gathered by the committer, checked against the load's own.

use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DBRawIterator, ReadOptions};

use crate::engine::{Engine, storage};
use crate::error::StoreError;
use crate::ids::{Epoch, ScopeId, StoreId};
use crate::key;
use crate::tuning::{LOOKUP_KEYS, WATCH_KEYS};

/// What was inserted into a store since the last look. The committer adds after it has published the state that holds it, so
/// whoever looks first and takes a state then has everything it no longer sees here in that state.
#[derive(Debug)]
pub(crate) struct Watch {
    store: StoreId,
    news: Mutex<News>,
}

/// Inserted keys and published loads.
#[derive(Debug, Default)]
pub(crate) struct News {
    keys: Vec<(ScopeId, Vec<u8>)>,
    epochs: Vec<Epoch>,
    /// More keys than are gathered: every live epoch has to be compared.
    overflowed: bool,
}

impl Watch {
    pub(crate) fn new(store: StoreId) -> Self {
        Self {
            store,
            news: Mutex::new(News::default()),
        }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn inserted(&self, scope: ScopeId, key: &[u8]) {
        let mut news = self.news.lock();
        if news.keys.len() < WATCH_KEYS {
            news.keys.push((scope, key.to_vec()));
        } else {
            news.overflowed = true;
        }
    }

    pub(crate) fn published(&self, epoch: Epoch) {
        self.news.lock().epochs.push(epoch);
    }

    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    /// Puts back what was taken and not settled, so that it is found again.
    pub(crate) fn put_back(&self, taken: News) {
        let mut news = self.news.lock();
        news.keys.extend(taken.keys);
        news.epochs.extend(taken.epochs);
        news.overflowed |= taken.overflowed;
    }
}

impl News {
    /// How many look-ups it takes to check this; a whole epoch counts as many.
    pub(crate) fn weight(&self) -> usize {
        if self.overflowed || !self.epochs.is_empty() {
            usize::MAX
        } else {
            self.keys.len()
        }
    }
}

/// The keys that a load has written so far.
pub(crate) struct StagedKeys<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) store: StoreId,
    pub(crate) epoch: Epoch,
}

impl StagedKeys<'_> {
    /// Checks what others inserted; `live` are the epochs of the table now, for when the news overflowed.
    ///
    /// # Errors
    /// [`StoreError::DuplicateKey`] if one of the keys was staged as well.
    pub(crate) fn check(&self, news: &News, live: impl IntoIterator<Item = Epoch>) -> Result<(), StoreError> {
        if news.overflowed {
            for epoch in live {
                self.check_epoch(epoch)?;
            }
            return Ok(());
        }
        for part in news.keys.chunks(LOOKUP_KEYS) {
            let whole: Vec<Vec<u8>> = part
                .iter()
                .map(|(scope, key)| {
                    let mut out = Vec::new();
                    key::hot_key(self.store, self.epoch, *scope, key, &mut out);
                    out
                })
                .collect();
            if let Some(index) = first_present(self.engine, self.engine.hot(), &whole, false)? {
                return Err(StoreError::DuplicateKey {
                    key: part[index].1.clone(),
                });
            }
        }
        for &epoch in &news.epochs {
            self.check_epoch(epoch)?;
        }
        Ok(())
    }

    /// Compares all staged keys with those of another epoch of the store. Each side jumps to the other's next key, so two
    /// ranges that do not overlap cost a few seeks and two that do cost about one pass over the smaller.
    pub(crate) fn check_epoch(&self, other: Epoch) -> Result<(), StoreError> {
        let (mut ours, mut theirs) = (EpochKeys::new(self, self.epoch), EpochKeys::new(self, other));
        loop {
            let (Some(our), Some(their)) = (ours.key(), theirs.key()) else {
                ours.end()?;
                return theirs.end();
            };
            match our.cmp(their) {
                std::cmp::Ordering::Equal => {
                    // After the scope, which is the first part of what is compared.
                    return Err(StoreError::DuplicateKey {
                        key: our.get(8..).unwrap_or_default().to_vec(),
                    });
                }
                std::cmp::Ordering::Less => {
                    let target = their.to_vec();
                    ours.advance_to(&target);
                }
                std::cmp::Ordering::Greater => {
                    let target = our.to_vec();
                    theirs.advance_to(&target);
                }
            }
        }
    }
}

/// The keys of one epoch as `scope | PK`.
struct EpochKeys<'a> {
    prefix: [u8; 8],
    iterator: DBRawIterator<'a>,
}

impl<'a> EpochKeys<'a> {
    fn new(staged: &StagedKeys<'a>, epoch: Epoch) -> Self {
        let prefix = key::epoch_prefix(staged.store, epoch);
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(prefix.as_slice());
        if let Some(end) = key::successor(&prefix) {
            read.set_iterate_upper_bound(end);
        }
        let mut iterator = staged.engine.db().raw_iterator_cf_opt(staged.engine.hot(), read);
        iterator.seek(prefix);
        Self { prefix, iterator }
    }

    fn key(&self) -> Option<&[u8]> {
        self.iterator.key().and_then(|key| key.get(8..))
    }

    fn advance_to(&mut self, target: &[u8]) {
        self.iterator.next();
        if self.key().is_some_and(|key| key < target) {
            self.iterator.seek([&self.prefix, target].concat());
        }
    }

    fn end(&self) -> Result<(), StoreError> {
        self.iterator.status().map_err(|error| storage(&error))
    }
}

/// The index of the first of these keys that exists now.
pub(crate) fn first_present(
    engine: &Engine,
    family: &ColumnFamily,
    keys: &[Vec<u8>],
    sorted: bool,
) -> Result<Option<usize>, StoreError> {
    for (index, found) in engine
        .db()
        .batched_multi_get_cf(family, keys, sorted)
        .into_iter()
        .enumerate()
    {
        if found.map_err(|error| storage(&error))?.is_some() {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
