//! What is known to be wrong with a segment's file. Whoever meets damage in it notes it here, and from then on, restarts included,
//! the whole table is refused: half of a table is no answer. A check that finds the file as it was written takes it back. Of hot rows,
//! which share RocksDB's files, it is known which table they are of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::engine::{Engine, FILES};
use crate::error::StoreError;
use crate::ids::{SegmentId, StoreId};
use crate::meta;

/// How many segments of a database are known to be damaged, or tables' hot rows, for the many who ask and find none; and where
/// that is kept.
#[derive(Clone, Default)]
pub(crate) struct Damages {
    count: Arc<AtomicUsize>,
    /// Stores whose hot rows cannot all be read, and why. A restart forgets them: whoever meets the damage again notes it again.
    hot: Arc<Mutex<HashMap<StoreId, String>>>,
    /// Weak, because the engine has its open segments, and these have their damage.
    engine: Arc<OnceLock<Weak<Engine>>>,
}

impl Damages {
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Takes an error of a read of a store's hot rows. If a file of RocksDB is damaged, the store is refused from here on.
    pub(crate) fn of_hot(&self, store: StoreId, error: StoreError) -> StoreError {
        match error {
            StoreError::Corrupt { object, problem } if object == FILES => {
                if !mistake!(DamageOfHotRowsIsForgotten) && self.hot.lock().insert(store, problem.clone()).is_none() {
                    self.count.fetch_add(1, Ordering::Release);
                    tracing::error!(%store, problem, "hot rows cannot be read; their table is refused");
                }
                hot_error(store, problem)
            }
            other => other,
        }
    }

    /// An error if a store's hot rows are known to be damaged.
    pub(crate) fn check_hot(&self, store: StoreId) -> Result<(), StoreError> {
        match self.hot.lock().get(&store) {
            None => Ok(()),
            Some(problem) => Err(hot_error(store, problem.clone())),
        }
    }

    /// All of a store's hot rows were read, or it is gone.
    pub(crate) fn hot_is_sound(&self, store: StoreId) {
        if self.hot.lock().remove(&store).is_some() {
            self.count.fetch_sub(1, Ordering::Release);
        }
    }

    /// Where damage is kept from now on.
    pub(crate) fn keep_in(&self, engine: &Arc<Engine>) {
        // The same engine the second time.
        self.engine.set(Arc::downgrade(engine)).ok();
    }

    fn change(&self, change: impl FnOnce(&Engine, &mut WriteBatch)) -> Result<(), StoreError> {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else {
            return Ok(());
        };
        let mut batch = WriteBatch::default();
        change(&engine, &mut batch);
        engine.write_synced(batch).map_err(StoreError::from)
    }
}

fn hot_error(store: StoreId, problem: String) -> StoreError {
    StoreError::HotDamaged { store, problem }
}

impl std::fmt::Debug for Damages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Damages").field(&self.count).finish()
    }
}

/// Of one segment, shared by all who read its file.
#[derive(Debug)]
pub(crate) struct Damage {
    all: Damages,
    segment: SegmentId,
    /// No state that may be read shows the segment, and its file is erased.
    let_go: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first that was met.
    known: Option<Known>,
    /// Goes up when damage becomes known and when it is taken back. Whoever began to read before that tells of another file than
    /// the one that is there now.
    changes: u64,
}

#[derive(Clone, Debug)]
struct Known {
    file: String,
    problem: String,
    /// Whether the store has a record of it.
    is_kept: bool,
}

/// When a check began to read the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(u64);

impl Damage {
    /// None is known.
    pub(crate) fn none(all: &Damages, segment: SegmentId) -> Arc<Self> {
        Arc::new(Self {
            all: all.clone(),
            segment,
            let_go: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Reads the file; corruption is noted, and is damage from here on.
    pub(crate) fn note<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let since = self.now();
        read().map_err(|error| match error {
            StoreError::Corrupt { .. }
                if self.let_go.load(Ordering::Acquire) && !mistake!(FilesThatWereLetGoAreDamaged) =>
            {
                StoreError::SnapshotTooOld
            }
            StoreError::Corrupt { object, problem } => self.met(since, object, problem),
            other => other,
        })
    }

    /// From here on the file may be missing.
    pub(crate) fn let_go(&self) {
        self.let_go.store(true, Ordering::Release);
    }

    /// From here on what is read is of the file as it is now.
    pub(crate) fn now(&self) -> Since {
        Since(self.state.lock().changes)
    }

    /// Notes what a reader met, here and in the store, and gives it as an error.
    fn met(&self, since: Since, file: String, problem: String) -> StoreError {
        let mut state = self.state.lock();
        if state.known.is_none() && state.changes != since.0 && !mistake!(OldReadersNoteDamage) {
            // The file was mended and checked since: only this reader has no answer.
            return StoreError::Corrupt { object: file, problem };
        }
        if state.known.as_ref().is_none_or(|known| !known.is_kept) && !mistake!(DamageIsForgotten) {
            let name = meta::damaged(self.segment);
            let kept = self.all.change(|engine, batch| {
                if !mistake!(DamageIsNotKept) {
                    batch.put_cf(engine.meta(), name, problem.as_bytes());
                }
            });
            if let Err(error) = &kept {
                tracing::error!(segment = file, %error, "that it is damaged could not be written down; a restart forgets it");
            }
            self.set(&mut state, &file, &problem, kept.is_ok());
        }
        StoreError::Damaged { file, problem }
    }

    /// Notes what start-up knows by the record of an earlier finding.
    pub(crate) fn recall(&self, file: &str, problem: &str) {
        self.set(&mut self.state.lock(), file, problem, true);
    }

    /// Notes what start-up finds wrong with the file, by its name and size alone. It is not kept, because each start-up looks.
    pub(crate) fn found(&self, file: &str, problem: &str) {
        let mut state = self.state.lock();
        if state.known.is_none() {
            self.set(&mut state, file, problem, false);
        }
    }

    fn set(&self, state: &mut State, file: &str, problem: &str, is_kept: bool) {
        tracing::error!(
            segment = file,
            problem,
            "a segment cannot be read; its table is refused"
        );
        let before = state.known.replace(Known {
            file: file.to_string(),
            problem: problem.to_string(),
            is_kept,
        });
        state.changes += 1;
        if before.is_none() {
            self.all.count.fetch_add(1, Ordering::Release);
        }
    }

    /// The file was read from end to end since then and is as it was written.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if somebody else met damage meanwhile, [`StoreError::Storage`] if the record of it cannot be deleted;
    /// it stays known then.
    pub(crate) fn is_repaired(&self, since: Since) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let Some(known) = &state.known else { return Ok(()) };
        if state.changes != since.0 {
            return Err(known.error());
        }
        self.all
            .change(|engine, batch| batch.delete_cf(engine.meta(), meta::damaged(self.segment)))?;
        tracing::info!(segment = known.file, "a segment can be read again");
        state.known = None;
        state.changes += 1;
        self.all.count.fetch_sub(1, Ordering::Release);
        Ok(())
    }

    /// An error if damage is known.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.all.any() {
            return Ok(());
        }
        match &self.state.lock().known {
            None => Ok(()),
            Some(known) => Err(known.error()),
        }
    }
}

impl Known {
    fn error(&self) -> StoreError {
        StoreError::Damaged {
            file: self.file.clone(),
            problem: self.problem.clone(),
        }
    }
}

/// A table that was dropped needs no repair.
impl Drop for Damage {
    fn drop(&mut self) {
        if self.state.get_mut().known.is_some() {
            self.all.count.fetch_sub(1, Ordering::Release);
        }
    }
}
