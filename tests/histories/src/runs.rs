//! How large histories are, which of them are run, and on how many threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of a history.
pub const LENGTH: usize = 100;
/// Tables of a history.
pub const TABLES: usize = 3;
/// Users of a history. The first is the one who may do everything.
pub const USERS: usize = 3;

/// Says how many histories there are to run (from 0 on), or which, as in `7..8`.
const VARIABLE: &str = "KALAMDB_HISTORIES";

/// The name of a table.
pub fn table_name(table: usize) -> String {
    format!("t{table}")
}

/// The name of a user but the first.
pub fn user_name(user: usize) -> String {
    format!("user{user}")
}

/// The seeds to run: those below `usual`, unless the environment variable says otherwise.
///
/// # Panics
/// When it is neither a number nor a range.
pub fn seeds(usual: u64) -> Range<u64> {
    let Ok(wanted) = std::env::var(VARIABLE) else {
        return 0..usual;
    };
    let parsed = match wanted.split_once("..") {
        Some((from, to)) => from.parse().and_then(|from| Ok(from..to.parse()?)),
        None => wanted.parse().map(|count| 0..count),
    };
    parsed.unwrap_or_else(|_| panic!("{VARIABLE} is '{wanted}', but must be a count as 20000 or seeds as in 7..8"))
}

/// Runs the history of every seed, on as many threads as there are cores. The first that fails ends it, and its seed is told.
///
/// # Panics
/// As the history did.
pub fn run_all(usual: u64, test: &str, history: impl Fn(u64) + Sync) {
    let seeds = seeds(usual);
    let next = AtomicU64::new(seeds.start);
    let failure = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if !seeds.contains(&seed) {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| history(seed))) {
                eprintln!(
                    "history {seed} failed; this one alone: {VARIABLE}={seed}..{} cargo test --release --workspace {test}",
                    seed + 1
                );
                next.store(seeds.end, Ordering::SeqCst);
                if let Ok(mut failure) = failure.lock() {
                    failure.get_or_insert(panic);
                }
                return;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    if let Ok(Some(panic)) = failure.into_inner() {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_history_is_run_once_and_a_failure_is_told() {
        let ran = Mutex::new(Vec::new());
        run_all(50, "none", |seed| ran.lock().expect("no holder panics").push(seed));
        let mut ran = ran.into_inner().expect("no holder panics");
        ran.sort_unstable();
        assert_eq!(ran, seeds(50).collect::<Vec<_>>());
        let failing = || run_all(50, "none", |seed| assert_ne!(seed, ran[ran.len() / 2], "as it should"));
        assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
    }
}
