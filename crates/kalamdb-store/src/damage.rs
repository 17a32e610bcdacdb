//! What is known to be wrong with a segment's file. Whoever meets damage in it notes it here, and from then on the whole table is
//! refused: half of a table is no answer. A check that finds the file as it was written takes it back.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::StoreError;

/// Of one segment, shared by all who read its file.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Whether there is any, for the many who ask and find none.
    is_known: AtomicBool,
    /// The first that was found.
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    file: String,
    problem: String,
}

impl Damage {
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
        if known.is_none() {
            tracing::error!(segment = file, problem, "a segment cannot be read; its table is refused");
            *known = Some(Known {
                file: file.clone(),
                problem: problem.clone(),
            });
            if !mistake!(DamageIsForgotten) {
                self.is_known.store(true, Ordering::Release);
            }
        }
        StoreError::Damaged { file, problem }
    }

    /// The file was read from end to end and is as it was written.
    pub(crate) fn is_repaired(&self) {
        if let Some(known) = self.known.lock().take() {
            self.is_known.store(false, Ordering::Release);
            tracing::info!(segment = known.file, "a segment can be read again");
        }
    }

    /// An error if damage is known.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.is_known.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.known.lock().clone() {
            None => Ok(()),
            Some(Known { file, problem }) => Err(StoreError::Damaged { file, problem }),
        }
    }
}
