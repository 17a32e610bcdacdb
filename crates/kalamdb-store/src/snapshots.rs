//! Which snapshots are held, and when what they pin is let go of although somebody still holds them. A snapshot pins what newer ones no
//! longer show: versions of hot rows, RocksDB's obsolete files, files of segments that were replaced. So its age is the time since a
//! newer one took its place, which here is noticed by whoever asks. The newest is never too old.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::manifest::Segment;
use crate::pinned::Pinned;

/// Those of one database.
#[derive(Default)]
pub(crate) struct Snapshots {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The number of the next one.
    next: u64,
    /// By number; those that nobody holds are not in it.
    held: BTreeMap<u64, Held>,
    /// Segments that newer snapshots do not show.
    dead: Vec<Dead>,
}

struct Held {
    pinned: Weak<Pinned>,
    /// When it was noticed that it is not the newest any more, µs.
    replaced_micros: Option<i64>,
    /// Nobody may read it any more ...
    is_too_old: bool,
    /// ... and nothing is pinned by it.
    is_free: bool,
}

struct Dead {
    segment: Weak<Segment>,
    /// Snapshots from this number on do not show it.
    before: u64,
    /// When that was noticed, µs.
    since_micros: Option<i64>,
}

impl Snapshots {
    /// Makes one with the next number.
    pub(crate) fn add(&self, make: impl FnOnce(u64) -> Pinned) -> Arc<Pinned> {
        let mut known = self.known.lock();
        let number = known.next;
        known.next += 1;
        let pinned = Arc::new(make(number));
        let held = Held {
            pinned: Arc::downgrade(&pinned),
            replaced_micros: None,
            is_too_old: false,
            is_free: false,
        };
        known.held.insert(number, held);
        pinned
    }

    /// Nobody holds it any more.
    pub(crate) fn forget(&self, number: u64) {
        self.known.lock().held.remove(&number);
    }

    /// Snapshots that are made from here on do not show these segments.
    pub(crate) fn note_dead<'a>(&self, segments: impl IntoIterator<Item = &'a Arc<Segment>>) {
        let mut known = self.known.lock();
        let before = known.next;
        known.dead.retain(|dead| dead.segment.strong_count() > 0);
        known.dead.extend(segments.into_iter().map(|segment| Dead {
            segment: Arc::downgrade(segment),
            before,
            since_micros: None,
        }));
    }

    /// Lets go of what is pinned by snapshots that were replaced by `newest` or earlier ones at least `life_micros` ago (`None`: of
    /// nothing). How many snapshots became too old.
    pub(crate) fn let_go_of_old(&self, newest: u64, now_micros: i64, life_micros: Option<i64>) -> usize {
        let is_over =
            |since_micros: i64| life_micros.is_some_and(|life| now_micros.saturating_sub(since_micros) >= life);
        let mut old = Vec::new();
        for held in self.known.lock().held.range_mut(..newest).map(|(_, held)| held) {
            let since_micros = *held.replaced_micros.get_or_insert(now_micros);
            if is_over(since_micros) && !held.is_free {
                old.extend(held.pinned.upgrade());
            }
        }
        // Without the lock, which whoever lets go of a snapshot last takes.
        let freed: Vec<(u64, bool)> = old.iter().map(|pinned| (pinned.number(), pinned.let_go())).collect();
        let mut ended = 0;
        let mut gone = Vec::new();
        let mut known = self.known.lock();
        for (pinned, (number, is_free)) in old.iter().zip(freed) {
            if let Some(held) = known.held.get_mut(&number) {
                ended += usize::from(pinned.is_too_old() && !held.is_too_old);
                held.is_too_old = pinned.is_too_old();
                // Otherwise somebody reads just now, and is found the next time.
                held.is_free = is_free;
            }
        }
        let Known { held, dead, next } = &mut *known;
        let mut readable = held.iter().filter(|(_, held)| !held.is_too_old);
        let oldest = readable.next().map_or(*next, |(number, _)| *number);
        dead.retain_mut(|dead| {
            let Some(segment) = dead.segment.upgrade() else {
                return false;
            };
            let since_micros = *dead.since_micros.get_or_insert(now_micros);
            // Some hold segments alone, and are as old as these.
            let had_its_time = is_over(since_micros) || mistake!(SegmentsThatAreHeldAloneGoAtOnce);
            let goes = dead.before <= oldest && had_its_time;
            if goes {
                gone.push(segment);
            }
            !goes
        });
        drop(known);
        gone.iter().for_each(|segment| segment.let_go());
        ended
    }
}
