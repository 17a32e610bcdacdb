//! How many rows a batch has where the reader is likely to stop early: few at first, then ever more.

use crate::tuning::FIRST_BATCH_ROWS;

/// Rows of one batch after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    next: usize,
    most: usize,
}

impl Pace {
    /// `most` in each, or fewer in the first ones if no more than `expected` are likely to be taken.
    pub(crate) fn new(expected: Option<usize>, most: usize) -> Self {
        let most = most.max(1);
        let next = expected.map_or(most, |rows| rows.max(FIRST_BATCH_ROWS).min(most));
        Self { next, most }
    }

    /// Rows of the next batch at most. The batches before it have about as many together, so that no more than twice the rows
    /// that are wanted are read.
    pub(crate) fn next(&mut self) -> usize {
        let rows = self.next;
        self.next = rows.saturating_mul(2).min(self.most);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_up_to_the_most() {
        let check = |expected, most, rows: &[usize]| {
            let mut pace = Pace::new(expected, most);
            let given: Vec<usize> = rows.iter().map(|_| pace.next()).collect();
            assert_eq!(given, rows, "{expected:?} of {most}");
        };
        check(None, 8192, &[8192, 8192]);
        check(Some(1), 300, &[64, 128, 256, 300, 300]);
        check(Some(1000), 8192, &[1000, 2000, 4000, 8000, 8192]);
        check(Some(9000), 8192, &[8192, 8192]);
        check(Some(3), 7, &[7, 7]);
        check(None, 0, &[1, 1]);
    }
}
