//! The one source of time and randomness, which tests can drive.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// Time and randomness. Everything above the store asks this and nothing else.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Microseconds since 1970-01-01 UTC, by the wall clock; may step back.
    fn now_micros(&self) -> i64;

    /// Microseconds since some moment before: how much later one answer is than another is how long it took, whoever sets the wall clock.
    fn elapsed_micros(&self) -> i64;

    /// Cryptographically random bytes.
    fn fill_random(&self, out: &mut [u8]);
}

/// The machine's clock and random source.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the machine for the time"
    )]
    fn now_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    fn elapsed_micros(&self) -> i64 {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let elapsed = FIRST.get_or_init(Instant::now).elapsed();
        i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
    }

    fn fill_random(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system's random source does not fail after boot");
    }
}

/// A clock that stands still until a test moves it; randomness stays real.
#[derive(Debug)]
pub struct DrivenClock {
    now_micros: AtomicI64,
    elapsed_micros: AtomicI64,
}

impl DrivenClock {
    /// Starts at this time.
    pub fn new(now_micros: i64) -> Self {
        DrivenClock {
            now_micros: AtomicI64::new(now_micros),
            elapsed_micros: AtomicI64::new(0),
        }
    }

    /// Sets it, as the wall clock is set: no time has passed.
    pub fn set_micros(&self, now_micros: i64) {
        self.now_micros.store(now_micros, Ordering::SeqCst);
    }

    /// Moves on by so much.
    pub fn advance_micros(&self, by: i64) {
        self.now_micros.fetch_add(by, Ordering::SeqCst);
        self.elapsed_micros.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for DrivenClock {
    fn now_micros(&self) -> i64 {
        self.now_micros.load(Ordering::SeqCst)
    }

    fn elapsed_micros(&self) -> i64 {
        self.elapsed_micros.load(Ordering::SeqCst)
    }

    fn fill_random(&self, out: &mut [u8]) {
        SystemClock.fill_random(out);
    }
}
