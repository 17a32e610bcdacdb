//! The recent-commits map: which keys were written when, as far back as it reaches. Conflicts are found here and nowhere else.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::ids::{ScopeId, Seq, StoreId};

/// A 64-bit hash of what was written. Two keys that share one conflict with each other now and then, which a retry settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64);

/// Maps a fingerprint to itself: it is a hash already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is called for a `Fingerprint`; this keeps the hasher right for anything else.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

pub(crate) struct RecentCommits {
    hasher: RandomState,
    newest: HashMap<Fingerprint, Seq, BuildHasherDefault<Identity>>,
    /// In the order of commits, a key once for each write.
    order: VecDeque<(Fingerprint, Seq)>,
    /// Everything written up to here may be forgotten.
    floor: Seq,
    capacity: usize,
}

impl RecentCommits {
    /// Knows nothing of commits up to `floor`.
    pub(crate) fn new(floor: Seq, capacity: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            newest: HashMap::default(),
            order: VecDeque::new(),
            floor,
            capacity,
        }
    }

    pub(crate) fn key(&self, store: StoreId, scope: ScopeId, key: &[u8]) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((store, scope, key)))
    }

    pub(crate) fn scope(&self, store: StoreId, scope: ScopeId) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((store, scope)))
    }

    /// The oldest state that a request may have been validated at.
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// Whether this was written after `seq`, which is not below the floor.
    pub(crate) fn written_after(&self, what: Fingerprint, seq: Seq) -> bool {
        self.newest.get(&what).is_some_and(|&written| written > seq)
    }

    /// Remembers a write and says what was known before, for [`RecentCommits::forget`].
    pub(crate) fn remember(&mut self, what: Fingerprint, seq: Seq) -> (Fingerprint, Option<Seq>) {
        self.order.push_back((what, seq));
        (what, self.newest.insert(what, seq))
    }

    /// Takes back writes that did not happen, the newest ones, given as [`RecentCommits::remember`] returned them.
    pub(crate) fn forget(&mut self, remembered: Vec<(Fingerprint, Option<Seq>)>) {
        for (what, before) in remembered.into_iter().rev() {
            self.order.pop_back();
            match before {
                Some(seq) => self.newest.insert(what, seq),
                None => self.newest.remove(&what),
            };
        }
    }

    /// Drops the oldest beyond the capacity and raises the floor accordingly.
    pub(crate) fn trim(&mut self) {
        while self.order.len() > self.capacity {
            let Some((what, seq)) = self.order.pop_front() else {
                break;
            };
            self.floor = self.floor.max(seq);
            if self.newest.get(&what) == Some(&seq) {
                self.newest.remove(&what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_written_since_and_forgets_what_failed() {
        let mut recent = RecentCommits::new(Seq(10), 100);
        let key = |recent: &RecentCommits, key: &[u8]| recent.key(StoreId(1), ScopeId(2), key);
        let a = key(&recent, b"a");
        recent.remember(a, Seq(11));
        assert!(recent.written_after(a, Seq(10)));
        assert!(!recent.written_after(a, Seq(11)));
        assert!(!recent.written_after(key(&recent, b"b"), Seq(10)));
        assert!(!recent.written_after(recent.key(StoreId(2), ScopeId(2), b"a"), Seq(10)));
        let failed = vec![recent.remember(a, Seq(12)), recent.remember(a, Seq(13))];
        assert!(recent.written_after(a, Seq(12)));
        recent.forget(failed);
        assert!(recent.written_after(a, Seq(10)));
        assert!(!recent.written_after(a, Seq(11)));
    }

    #[test]
    fn a_full_map_raises_its_floor() {
        let mut recent = RecentCommits::new(Seq(0), 2);
        for seq in 1..=4u64 {
            let what = recent.key(StoreId(1), ScopeId(0), &[if seq == 1 { 4 } else { seq as u8 }]);
            recent.remember(what, Seq(seq));
        }
        recent.trim();
        assert_eq!(recent.floor(), Seq(2));
        // Key 4 was written at 1 and at 4: forgetting the first must not forget the second.
        assert!(recent.written_after(recent.key(StoreId(1), ScopeId(0), &[4]), Seq(3)));
        assert_eq!(recent.newest.len(), 2);
    }
}
