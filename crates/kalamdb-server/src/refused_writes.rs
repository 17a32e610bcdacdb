//! Writes that stay refused since one failed: when it helps to open the database anew, and how soon it is done again.

use std::sync::Arc;
use std::time::Duration;

use kalamdb_core::Engine;
use tokio::time::Instant;

/// How often it is looked whether writes are refused, and whether the disk takes others.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The disk has to take writes for so long. Where it was only full, RocksDB goes on by itself: it looks every five seconds.
pub(crate) const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

/// An opening ends every session, so where one follows another soon, as with a file that cannot be read, each is waited for twice as
/// long as the last, up to this.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// How long the disk has to take writes before the next opening, after one that this was waited for, and that was good for `served`.
pub(crate) fn patience_after(patience: Duration, served: Duration) -> Duration {
    match served < patience.saturating_mul(10) {
        true => patience.saturating_mul(2).min(LONGEST_PATIENCE),
        false => SHORTEST_PATIENCE,
    }
}

/// Resolves, with the first failure's words, when writes are refused and the disk has taken others for `patience`.
pub(crate) async fn last(engine: &Arc<Engine>, patience: Duration) -> String {
    let mut known = false;
    let mut good_since = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(cause) = engine.why_no_writes().await else {
            (known, good_since) = (false, None);
            continue;
        };
        if !known {
            tracing::error!(
                cause,
                patience_s = patience.as_secs(),
                "writes are refused; if that lasts when the disk takes others for a while, the database is opened anew"
            );
            known = true;
        }
        let tried = Arc::clone(engine);
        match tokio::task::spawn_blocking(move || tried.try_disk()).await {
            Ok(Ok(())) => {
                let since: Instant = *good_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= patience {
                    return cause;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the disk takes no writes yet");
                good_since = None;
            }
            Err(error) => {
                tracing::error!(%error, "trying the disk ended by a bug");
                good_since = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_that_do_not_help_become_rare() {
        let check = |patience: u64, served: u64, expected: u64| {
            let next = patience_after(Duration::from_secs(patience), Duration::from_secs(served));
            assert_eq!(next, Duration::from_secs(expected), "{patience} s, {served} s");
        };
        check(10, 11, 20);
        check(20, 21, 40);
        check(400, 401, 600);
        check(600, 601, 600);
        check(600, 5_999, 600);
        check(600, 6_000, 10);
        check(10, 100, 10);
    }
}
