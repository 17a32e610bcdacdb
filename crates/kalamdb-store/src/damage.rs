//! What is known to be wrong with a segment's file. Whoever meets damage in it notes it here, and from then on the whole table is
//! refused: half of a table is no answer. A check that finds the file as it was written takes it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::StoreError;

/// How many segments of a database are known to be damaged: for the many who ask and find none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damages(Arc<AtomicUsize>);

impl Damages {
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// Of one segment, shared by all who read its file.
#[derive(Debug)]
pub(crate) struct Damage {
    all: Damages,
    /// The first that was found.
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    file: String,
    problem: String,
}

impl Damage {
    /// None is known.
    pub(crate) fn none(all: &Damages) -> Arc<Self> {
        Arc::new(Self {
            all: all.clone(),
            known: Mutex::new(None),
        })
    }

    /// Passes on what came of reading the file; corruption is noted, and is damage from here on.
    pub(crate) fn note<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        read.map_err(|error| match error {
            StoreError::Corrupt { object, problem } => self.found(object, problem),
            other => other,
        })
    }

    /// Notes what is wrong with the file, and gives it as an error.
    pub(crate) fn found(&self, file: String, problem: String) -> StoreError {
        let mut known = self.known.lock();
        if known.is_none() && !mistake!(DamageIsForgotten) {
            tracing::error!(
                segment = file,
                problem,
                "a segment cannot be read; its table is refused"
            );
            *known = Some(Known {
                file: file.clone(),
                problem: problem.clone(),
            });
            self.all.0.fetch_add(1, Ordering::Release);
        }
        StoreError::Damaged { file, problem }
    }

    /// The file was read from end to end and is as it was written.
    pub(crate) fn is_repaired(&self) {
        if let Some(known) = self.known.lock().take() {
            self.all.0.fetch_sub(1, Ordering::Release);
            tracing::info!(segment = known.file, "a segment can be read again");
        }
    }

    /// An error if damage is known.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.all.any() {
            return Ok(());
        }
        match self.known.lock().clone() {
            None => Ok(()),
            Some(Known { file, problem }) => Err(StoreError::Damaged { file, problem }),
        }
    }
}

/// A table that was dropped needs no repair.
impl Drop for Damage {
    fn drop(&mut self) {
        if self.known.get_mut().is_some() {
            self.all.0.fetch_sub(1, Ordering::Release);
        }
    }
}
