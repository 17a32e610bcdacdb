//! What movers and loads of this thread held in memory at most, for tests of its bounds.

use std::cell::RefCell;

/// All in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peak {
    /// Of rows that a merge held of its inputs.
    pub(crate) held: usize,
    /// Of the largest batch that a merge or a sort gave.
    pub(crate) batch: usize,
    /// Of all batches together.
    pub(crate) batches: usize,
    /// Read of a file in one step.
    pub(crate) step: usize,
    /// Runs that were merged at once.
    pub(crate) runs: usize,
}

thread_local! {
    static PEAK: RefCell<Peak> = RefCell::default();
}

pub(crate) fn note(change: impl FnOnce(&mut Peak)) {
    PEAK.with_borrow_mut(change);
}

/// What was noted since the last time.
pub(crate) fn take() -> Peak {
    PEAK.take()
}
