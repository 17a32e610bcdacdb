//! The hot limit: a table whose rows wait in the hot tier beyond it takes no more until a flush has made room. Rows that a flush
//! is moving count until it has published them: they are in memory and on disk until then; rows that are about to be committed
//! count from before. The writers that this holds back are listed here; what flushes is `movers`' matter.

use std::collections::HashMap;
use std::sync::Arc;

use futures::channel::oneshot;
use parking_lot::Mutex;

use crate::catalog::Table;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::job_queue::stopping;
use crate::jobs::Work;
use crate::scheduler;

/// The writers that wait for room. Statements at once are bounded, so they are.
#[derive(Default)]
pub(crate) struct HeldWriters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<Held>,
    /// Bytes of statements that were given room and have not committed yet, by table.
    coming: HashMap<String, u64>,
    stopped: bool,
}

struct Held {
    table_id: String,
    /// When it gives up, µs.
    until_micros: i64,
    wake: oneshot::Sender<()>,
}

impl HeldWriters {
    /// Puts a writer on the list; `None` once the server is stopping.
    fn hold(&self, table_id: &str, until_micros: i64) -> Option<oneshot::Receiver<()>> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state.lock();
        if state.stopped {
            return None;
        }
        state.held.push(Held {
            table_id: table_id.to_owned(),
            until_micros,
            wake,
        });
        Some(woken)
    }

    /// Gives room for so many bytes, if what is hot and what is coming leave any of the limit. So a statement may go beyond it that is
    /// alone, however large; no two may.
    fn give_room(self: &Arc<Self>, table_id: &str, bytes: u64, hot_bytes: u64, limit_bytes: u64) -> Option<Room> {
        let mut state = self.state.lock();
        let coming = state.coming.get(table_id).copied().unwrap_or_default();
        if hot_bytes.saturating_add(coming) >= limit_bytes {
            return None;
        }
        state.coming.insert(table_id.to_owned(), coming.saturating_add(bytes));
        Some(Room {
            given_by: Arc::clone(self),
            table_id: table_id.to_owned(),
            bytes,
        })
    }

    /// Lets the writers of a table look again whether there is room.
    pub(crate) fn look_again(&self, table_id: &str) {
        self.wake(|held| held.table_id == table_id);
    }

    /// Lets those give up whose time is over.
    pub(crate) fn give_up(&self, now_micros: i64) {
        self.wake(|held| held.until_micros <= now_micros);
    }

    /// Nobody waits any more.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake(|_| true);
    }

    fn wake(&self, whom: impl Fn(&Held) -> bool) {
        let woken: Vec<Held> = self.state.lock().held.extract_if(.., |held| whom(held)).collect();
        for held in woken {
            // A statement may have gone meanwhile.
            held.wake.send(()).ok();
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.state.lock().held.len()
    }
}

/// Room in the hot tier of a table, for rows that are about to be committed; held until they are, or are not.
pub(crate) struct Room {
    given_by: Arc<HeldWriters>,
    table_id: String,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        {
            let mut state = self.given_by.state.lock();
            if let Some(coming) = state.coming.get_mut(&self.table_id) {
                *coming = coming.saturating_sub(self.bytes);
                if *coming == 0 {
                    state.coming.remove(&self.table_id);
                }
            }
        }
        self.given_by.look_again(&self.table_id);
    }
}

impl Engine {
    /// Waits until the table takes rows of so many bytes, so that its hot tier does not outgrow the limit; called before a commit, which
    /// holds the room until it has happened. None for tables without a limit, and for no rows.
    /// The time is that of the engine's clock, and is looked at when [`Engine::run_due`] is called.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS if no flush makes room in time, UNAVAILABLE when the server is stopping.
    pub(crate) async fn wait_for_room(&self, table: &Table, bytes: usize) -> Result<Option<Room>> {
        if bytes == 0 || !table.kind.flushes() {
            return Ok(None);
        }
        let (table_id, bytes) = (table.table_id.as_str(), bytes as u64);
        let limits = self.maintenance();
        let mut until_micros = None;
        loop {
            let now_micros = self.now_micros();
            let usage = self.store().hot_usage(table.store);
            let policy = table.options.flush_policy;
            if scheduler::flush_is_due(policy, &usage, limits.hot_limit_bytes, now_micros).is_some() {
                self.wanted().tell();
            }
            let given = |hot_bytes| {
                self.held()
                    .give_room(table_id, bytes, hot_bytes, limits.hot_limit_bytes)
            };
            if let Some(room) = given(usage.all_bytes()) {
                return Ok(Some(room));
            }
            // No flush makes room in a table that is refused.
            self.view().check_usable(table)?;
            let wait_micros = i64::try_from(limits.hot_limit_wait_ms)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000);
            let until_micros = *until_micros.get_or_insert(now_micros.saturating_add(wait_micros));
            if now_micros >= until_micros {
                // How much others have written is not for every writer to know.
                tracing::warn!(table = %table.name, hot_bytes = usage.all_bytes(), "a writer was held back until it gave up");
                return Err(no_room(table, limits.hot_limit_wait_ms));
            }
            let woken = self.held().hold(table_id, until_micros).ok_or_else(stopping)?;
            if usage.all_bytes() >= limits.hot_limit_bytes {
                self.jobs().start_by_itself(Work::Flush, table, now_micros);
            }
            // A flush or a commit that ended before the writer was on the list has told nobody.
            if let Some(room) = given(self.store().hot_usage(table.store).all_bytes()) {
                return Ok(Some(room));
            }
            // The sender goes only with its message or with the engine.
            woken.await.map_err(|_| stopping())?;
        }
    }
}

fn no_room(table: &Table, wait_ms: u64) -> Error {
    Error::new(
        ErrorCode::TooManyRequests,
        format!(
            "table {} has as many rows that are not in segments yet as it may (setting hot_limit), and no flush made room \
             within {wait_ms} ms; try again",
            table.name
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_to_be_committed_counts_as_hot() {
        let held = Arc::new(HeldWriters::default());
        let first = held.give_room("a", 70, 0, 100).expect("nothing is there yet");
        let second = held.give_room("a", 1_000, 20, 100).expect("ten bytes are left");
        assert!(held.give_room("a", 1, 20, 100).is_none());
        let _of_another = held.give_room("b", 1, 99, 100).expect("each table has its own");
        let mut waits = held.hold("a", 10).expect("held");
        drop(second);
        assert!(!matches!(waits.try_recv(), Ok(None)), "it is told");
        assert!(held.give_room("a", 1, 20, 100).is_some());
        drop(first);
        assert!(!held.state.lock().coming.contains_key("a"));
    }

    #[test]
    fn held_writers_are_woken_by_table_by_time_and_at_the_end() {
        let held = HeldWriters::default();
        let mut a = held.hold("a", 10).expect("held");
        let mut b = held.hold("b", 20).expect("held");
        let mut c = held.hold("c", 30).expect("held");
        let mut woken = || [&mut a, &mut b, &mut c].map(|waiter| !matches!(waiter.try_recv(), Ok(None)));
        assert_eq!(woken(), [false, false, false]);
        held.look_again("b");
        assert_eq!((woken(), held.count()), ([false, true, false], 2));
        held.give_up(9);
        assert_eq!(held.count(), 2);
        held.give_up(10);
        assert_eq!((woken()[0], held.count()), (true, 1));
        held.stop();
        assert_eq!((woken()[2], held.count()), (true, 0));
        assert!(held.hold("a", 99).is_none());
    }
}
