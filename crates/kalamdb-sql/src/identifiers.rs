//! New identifiers, each larger than all that this process gave before, whatever the clock does: snowflakes, UUIDs of
//! version 7, ULIDs.
//!
//! One generator of each kind serves the process: two databases in it never give the same identifier.

use kalamdb_core::Clock;
use parking_lot::Mutex;
use uuid::Uuid;

/// 2020-01-01 UTC, milliseconds: where the 41 bits of a snowflake's time begin. They last until 2089.
const SNOWFLAKE_EPOCH_MS: i64 = 1_577_836_800_000;

/// Bits of a snowflake below its time: ten of the node, twelve of the counter.
const NODE_BITS: u32 = 10;
const COUNTER_BITS: u32 = 12;

static SNOWFLAKES: Mutex<Snowflakes> = Mutex::new(Snowflakes {
    node: None,
    last_tick: 0,
});
static UUIDS: Mutex<Random128> = Mutex::new(Random128 { time_ms: 0, tail: 0 });
static ULIDS: Mutex<Random128> = Mutex::new(Random128 { time_ms: 0, tail: 0 });

/// That many snowflakes: 41 bits of milliseconds, 10 of node, 12 of counter. All are later than `floor_micros`, before which
/// earlier starts made theirs. The node is random at each start: two servers rarely give the same identifier.
pub(crate) fn snowflakes(clock: &dyn Clock, floor_micros: i64, count: usize) -> Vec<i64> {
    SNOWFLAKES.lock().take(clock, floor_micros, count)
}

/// The time of the latest snowflake, µs; none if there is none yet.
pub(crate) fn latest_snowflake_micros() -> Option<i64> {
    let last_tick = SNOWFLAKES.lock().last_tick;
    (last_tick > 0).then(|| ((last_tick >> COUNTER_BITS) + SNOWFLAKE_EPOCH_MS) * 1_000)
}

/// That many UUIDs of version 7 as text: 48 bits of milliseconds, then random bits that count up within a millisecond
/// (RFC 9562, method 2).
pub(crate) fn uuids_v7(clock: &dyn Clock, count: usize) -> Vec<String> {
    // 74 bits stay beside time, version and variant.
    let ids = UUIDS.lock().take(clock, count, 74);
    let text = |(time_ms, tail): (u64, u128)| {
        let high = u128::from(time_ms) << 80 | 0x7 << 76 | (tail >> 62) << 64;
        let low = 0b10 << 62 | (tail & ((1 << 62) - 1));
        Uuid::from_u128(high | low).to_string()
    };
    ids.into_iter().map(text).collect()
}

/// That many ULIDs as text: 48 bits of milliseconds, then 80 random bits that count up within a millisecond.
pub(crate) fn ulids(clock: &dyn Clock, count: usize) -> Vec<String> {
    let ids = ULIDS.lock().take(clock, count, 80);
    ids.into_iter()
        .map(|(time_ms, tail)| ulid::Ulid::from_parts(time_ms, tail).to_string())
        .collect()
}

struct Snowflakes {
    node: Option<i64>,
    /// Time and counter of the last one, as one number: a full counter borrows the next millisecond.
    last_tick: i64,
}

impl Snowflakes {
    fn take(&mut self, clock: &dyn Clock, floor_micros: i64, count: usize) -> Vec<i64> {
        let node = *self
            .node
            .get_or_insert_with(|| (random_bits(clock) & ((1 << NODE_BITS) - 1)) as i64);
        let now_ms = (clock.now_micros() / 1_000).max(floor_micros / 1_000 + 1);
        let now_ms = (now_ms - SNOWFLAKE_EPOCH_MS).max(0);
        let mut tick = self.last_tick.max((now_ms << COUNTER_BITS) - 1);
        let ids = std::iter::repeat_with(|| {
            tick += 1;
            let (time, counter) = (tick >> COUNTER_BITS, tick & ((1 << COUNTER_BITS) - 1));
            time << (NODE_BITS + COUNTER_BITS) | node << COUNTER_BITS | counter
        })
        .take(count)
        .collect();
        self.last_tick = tick;
        ids
    }
}

/// A time and random bits after it.
struct Random128 {
    time_ms: u64,
    tail: u128,
}

impl Random128 {
    fn take(&mut self, clock: &dyn Clock, count: usize, tail_bits: u32) -> Vec<(u64, u128)> {
        let mask = (1_u128 << tail_bits) - 1;
        let now_ms = u64::try_from(clock.now_micros() / 1_000).unwrap_or(0);
        if now_ms > self.time_ms {
            self.time_ms = now_ms;
            // A clear top bit leaves room to count in.
            self.tail = random_bits(clock) & (mask >> 1);
        }
        let mut ids = Vec::with_capacity(count);
        let mut steps = [0_u8; 4 * STEPS_AT_ONCE];
        while ids.len() < count {
            let wanted = STEPS_AT_ONCE.min(count - ids.len());
            let steps = &mut steps[..4 * wanted];
            clock.fill_random(steps);
            for step in steps.chunks_exact(4) {
                // Steps are random, so that one identifier does not tell the next.
                self.tail += 1 + step.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
                if self.tail > mask {
                    self.time_ms += 1;
                    self.tail = random_bits(clock) & (mask >> 1);
                }
                ids.push((self.time_ms, self.tail));
            }
        }
        ids
    }
}

/// How many identifiers' random steps are drawn together: drawing asks the operating system.
const STEPS_AT_ONCE: usize = 256;

fn random_bits(clock: &dyn Clock) -> u128 {
    let mut bytes = [0; 16];
    clock.fill_random(&mut bytes);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kalamdb_core::DrivenClock;

    use super::*;

    /// 2026-01-01 UTC.
    const START_MICROS: i64 = 1_767_225_600_000_000;

    /// Takes from one generator while the clock stands, steps back and goes on.
    fn check<T: Ord + Clone + std::hash::Hash + std::fmt::Debug>(mut take: impl FnMut(&DrivenClock, usize) -> Vec<T>) {
        let clock = DrivenClock::new(START_MICROS);
        let mut all = take(&clock, 10_000);
        clock.advance_micros(-3_600_000_000);
        all.extend(take(&clock, 5_000));
        clock.set_micros(START_MICROS + 60_000_000);
        all.extend(take(&clock, 5_000));
        assert_eq!(all.len(), 20_000);
        assert!(all.is_sorted(), "each is larger than the one before");
        assert_eq!(
            all.iter().cloned().collect::<HashSet<T>>().len(),
            all.len(),
            "none twice"
        );
    }

    #[test]
    fn identifiers_increase_whatever_the_clock_does() {
        let mut generator = Snowflakes {
            node: None,
            last_tick: 0,
        };
        check(|clock, count| generator.take(clock, 0, count));
        check(|clock, count| uuids_v7(clock, count));
        check(|clock, count| ulids(clock, count));
    }

    #[test]
    fn a_restart_goes_on_where_the_last_one_ended() {
        let clock = DrivenClock::new(START_MICROS);
        let start = |node| Snowflakes {
            node: Some(node),
            last_tick: 0,
        };
        let before = start(9).take(&clock, 0, 2_000_000);
        let latest_ms = (before[before.len() - 1] >> 22) + SNOWFLAKE_EPOCH_MS;
        // The clock stepped back, and chance gives a lower node.
        clock.advance_micros(-3_600_000_000);
        let after = start(3).take(&clock, latest_ms * 1_000, 10);
        assert!(before.is_sorted() && after.is_sorted());
        assert!(before.last() < after.first(), "{before:?} {after:?}");
    }

    #[test]
    fn a_snowflake_holds_its_time() {
        let clock = DrivenClock::new(START_MICROS);
        let mut generator = Snowflakes {
            node: Some(5),
            last_tick: 0,
        };
        let ids = generator.take(&clock, 0, 4_097);
        let ms = |id: i64| (id >> 22) + SNOWFLAKE_EPOCH_MS;
        assert_eq!(ms(ids[0]), START_MICROS / 1_000);
        assert_eq!(ids[0] & ((1 << 22) - 1), 5 << 12, "node five, counter zero");
        assert_eq!(
            ms(ids[4_096]),
            START_MICROS / 1_000 + 1,
            "the counter is full and borrows a millisecond"
        );
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let clock = DrivenClock::new(START_MICROS);
        for text in uuids_v7(&clock, 100) {
            let id = Uuid::parse_str(&text).expect("it is a UUID");
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }
}
