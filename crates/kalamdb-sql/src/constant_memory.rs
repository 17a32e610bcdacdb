//! What the functions of a statement's constants make while it is planned: it is in the plan, beside every pool. Which calls those
//! are, `growth` knows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kalamdb_core::{Error, ErrorCode, Result};

use crate::diagnostics;
use crate::memory_share::MemoryShare;

/// What all constants of a statement may come to, bytes: rules copy them with the plan, a few times over.
const MOST_BYTES: u64 = 128 << 20;

/// The account of one statement; dropped, it holds nothing.
#[derive(Debug, Default)]
pub(crate) struct ConstantMemory {
    bytes: AtomicU64,
    /// The account of a user who has a quota, and what was taken from it.
    share: Option<MemoryShare>,
    taken_bytes: AtomicUsize,
    refusal: OnceLock<Error>,
}

impl ConstantMemory {
    /// `share` is the account of a user who has a quota.
    pub(crate) fn new(share: Option<MemoryShare>) -> Self {
        ConstantMemory {
            bytes: AtomicU64::new(0),
            share,
            taken_bytes: AtomicUsize::new(0),
            refusal: OnceLock::new(),
        }
    }

    /// A function is about to make so many bytes.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE, MEMORY_QUOTA_EXCEEDED.
    pub(crate) fn add(&self, bytes: u64) -> Result<()> {
        let added = self.try_add(bytes);
        if let Err(error) = &added {
            // The first one stays.
            let _earlier = self.refusal.set(error.clone());
        }
        added
    }

    /// Why there may be no more, once it was too much. DataFusion leaves constants that fail for the statement's run, where they
    /// would be computed anew for each batch, so that the statement itself has to end.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        self.refusal.get()
    }

    fn try_add(&self, bytes: u64) -> Result<()> {
        let all = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if all > MOST_BYTES {
            let message = format!(
                "the functions of the statement's constants would make values of {all} bytes; the most is {MOST_BYTES} bytes; load them \
                 into a table first"
            );
            return Err(Error::new(ErrorCode::StatementTooLarge, message));
        }
        if let Some(share) = &self.share {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            share.try_take(bytes).map_err(diagnostics::from_datafusion)?;
            self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes.store(all, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for ConstantMemory {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.give_back(*self.taken_bytes.get_mut());
        }
    }
}
