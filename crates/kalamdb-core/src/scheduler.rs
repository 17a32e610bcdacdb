//! When flushes and compactions start by themselves: by the table's FLUSH_POLICY, by the hot limit, and when segments are worth
//! merging. Decisions only: the server asks for them now and then, and `movers` does what is due.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;
use kalamdb_store::HotUsage;

use crate::catalog::Table;
use crate::engine::{Engine, View};
use crate::jobs::Work;
use crate::options::FlushPolicy;
use crate::table_kind::TableKind;

/// Why a table is to be flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// As many rows as the policy says.
    Rows,
    /// The oldest row is as old as the policy says.
    Interval,
    /// Half of the hot limit is used: the other half is for the rows that come while these are moved.
    HotLimit,
}

/// Whether a table is to be flushed now: whichever comes first.
pub(crate) fn flush_is_due(
    policy: Option<FlushPolicy>,
    usage: &HotUsage,
    hot_limit_bytes: u64,
    now_micros: i64,
) -> Option<Due> {
    if usage.rows == 0 {
        return None;
    }
    if usage.bytes >= hot_limit_bytes / 2 && !mistake!(TheHotLimitIsIgnored) {
        return Some(Due::HotLimit);
    }
    let policy = policy?;
    if policy.rows.is_some_and(|rows| usage.rows >= rows) && !mistake!(RowPoliciesAreIgnored) {
        return Some(Due::Rows);
    }
    let interval_micros = policy
        .interval_seconds
        .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    let age_micros = now_micros.saturating_sub(usage.since_micros);
    interval_micros
        .is_some_and(|interval_micros| age_micros >= interval_micros && !mistake!(IntervalsAreIgnored))
        .then_some(Due::Interval)
}

/// Word from writers that a table is due, so that nobody has to look all the time.
#[derive(Default)]
pub(crate) struct Wanted {
    told: AtomicBool,
    waker: AtomicWaker,
}

impl Wanted {
    pub(crate) fn tell(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Resolves when there was word since the last time. For one task.
    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            if self.told.swap(false, Ordering::SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Engine {
    /// Starts the flushes and compactions that are due and lets writers give up whose time is over; returns how many jobs that
    /// are. Does not wait for them. Call it about every second, and when [`Engine::wait_for_due`] resolves.
    pub fn run_due(&self) -> usize {
        let view = self.view();
        let now_micros = view.now_micros();
        let catalog = view.catalog();
        let limits = self.maintenance();
        let mut started = 0;
        let mut there = HashSet::new();
        for table in catalog.tables.values().filter(|table| table.kind.flushes()) {
            there.insert(table.table_id.as_str());
            // A job could only say again what every statement says.
            if view.check_usable(table).is_err() && !mistake!(DamagedTablesAreScheduled) {
                continue;
            }
            let usage = self.store().hot_usage(table.store);
            let is_ignored = mistake!(PoliciesOfUserTablesAreIgnored) && table.kind == TableKind::User;
            let policy = table.options.flush_policy.filter(|_| !is_ignored);
            let is_due = flush_is_due(policy, &usage, limits.hot_limit_bytes, now_micros).is_some();
            // A flush that failed, or that the end of the process cut short, left rows between the tiers.
            let flush = (is_due || has_sealed_rows(&view, table)).then_some(Work::Flush);
            let is_worth_it = self.store().wants_compaction(table.store, &table.schema.stored);
            let compact = is_worth_it.then_some(Work::CompactAsNeeded);
            for work in [flush, compact].into_iter().flatten() {
                started += usize::from(self.jobs().start_by_itself(work, table, now_micros).is_some());
            }
        }
        self.jobs().forget_troubles(|table_id| there.contains(table_id));
        self.held().give_up(now_micros);
        started
    }

    /// Resolves when a writer found its table due for a flush. For one task.
    pub async fn wait_for_due(&self) {
        pin!(self.wanted().wait()).await;
    }
}

/// Whether a flush was begun. While one runs it has its job, and no other starts by itself.
fn has_sealed_rows(view: &View, table: &Table) -> bool {
    let version = view.state.table(table.store);
    version.is_some_and(|version| version.epochs.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_5_a_flush_is_due_by_rows_by_age_or_by_size_whichever_comes_first() {
        const NOW: i64 = 1_000_000_000;
        let policy = |rows, interval_seconds| Some(FlushPolicy { rows, interval_seconds });
        let both = policy(Some(100), Some(60));
        let age = |seconds: i64| NOW - seconds * 1_000_000;
        // Policy, rows, bytes, time of the oldest row, and what follows.
        let cases = [
            (both, 0, 0, 0, None),
            (both, 99, 10, age(59), None),
            (both, 100, 10, age(0), Some(Due::Rows)),
            (both, 1, 10, age(60), Some(Due::Interval)),
            (both, 1, 499, age(0), None),
            (both, 1, 500, age(0), Some(Due::HotLimit)),
            (policy(Some(100), None), 99, 10, age(1_000), None),
            (policy(None, Some(60)), 1_000, 10, age(59), None),
            (policy(None, Some(60)), 1, 10, age(61), Some(Due::Interval)),
            (None, 1_000, 499, age(1_000), None),
            (None, 1, 500, age(0), Some(Due::HotLimit)),
            // A clock that was set back since.
            (both, 1, 10, NOW + 1, None),
            (both, 1, 10, i64::MIN, Some(Due::Interval)),
        ];
        for (policy, rows, bytes, since_micros, expected) in cases {
            let usage = HotUsage {
                rows,
                bytes,
                since_micros,
                ..HotUsage::default()
            };
            assert_eq!(
                flush_is_due(policy, &usage, 1_000, NOW),
                expected,
                "{policy:?} {usage:?}"
            );
        }
    }
}
