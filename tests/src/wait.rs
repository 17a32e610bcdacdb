//! Waiting for something to become true, against a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that should happen soon may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until `ask` answers, and returns the answer.
///
/// # Panics
/// When [`DEADLINE`] passes first; `what` says what did not happen.
pub async fn eventually<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        // Polling, not synchronising: the loop's condition decides, the pause only spares the processor.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
