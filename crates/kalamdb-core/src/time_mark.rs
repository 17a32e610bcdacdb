//! A time before which every identifier was made that this database gave, kept across restarts: a clock that steps back while
//! the server is down does not give an earlier identifier again.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::executor::block_on;
use kalamdb_store::{Step, Store};

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use parking_lot::Mutex;

/// The store's record: microseconds, little-endian.
const RECORD: &str = "time_mark";

/// How far ahead of the identifiers it is kept, so that it is written rarely: one sync in half of this while any are made.
const AHEAD_MICROS: i64 = 60 * 1_000_000;

/// The mark of an open database.
pub(crate) struct TimeMark {
    /// At the start.
    floor_micros: i64,
    /// As it is kept now.
    kept_micros: AtomicI64,
    /// Held by whoever sees to it that identifiers about to be given are before it.
    covering: Mutex<()>,
}

impl TimeMark {
    pub(crate) fn read(store: &Store<Catalog>) -> Result<Self> {
        let floor_micros = match store.meta_get(RECORD)? {
            None => 0,
            Some(bytes) => i64::from_le_bytes(bytes.as_slice().try_into().map_err(|_| {
                Error::new(
                    ErrorCode::DataCorrupted,
                    format!("the record {RECORD} has {} bytes, not 8", bytes.len()),
                )
            })?),
        };
        Ok(TimeMark {
            floor_micros,
            kept_micros: AtomicI64::new(floor_micros),
            covering: Mutex::new(()),
        })
    }
}

impl Engine {
    /// Identifiers of this start are to be made of later times than this, µs: those of earlier starts were not.
    pub fn identifier_floor_micros(&self) -> i64 {
        self.time_mark().floor_micros
    }

    /// Sees to it that identifiers made until `latest_micros` are before the mark, for before they are given to anybody. It blocks its
    /// thread for a sync, where the mark is behind: after a start, and after a time without identifiers.
    ///
    /// # Errors
    /// STORAGE_ERROR, UNAVAILABLE.
    pub fn cover_identifiers(&self, latest_micros: i64) -> Result<()> {
        let is_covered = || latest_micros <= self.time_mark().kept_micros.load(Ordering::Acquire);
        if is_covered() {
            return Ok(());
        }
        let _covering = self.time_mark().covering.lock();
        if is_covered() || mistake!(IdentifiersAreGivenBeforeTheirMark) {
            return Ok(());
        }
        // On a thread of its own: in one that drives other futures nothing can be waited for.
        let kept = std::thread::scope(|scope| scope.spawn(|| block_on(self.keep_time_mark(latest_micros))).join());
        kept.unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "keeping the time mark ended by a bug")))
    }

    /// Keeps the mark ahead of identifiers made until `latest_micros`; mostly there is nothing to do. To be called every second
    /// or so, by one task. It waits for no statement: whoever calls it has other things to see to.
    ///
    /// # Errors
    /// STORAGE_ERROR, UNAVAILABLE.
    pub async fn keep_time_mark(&self, latest_micros: i64) -> Result<()> {
        let mark = self.time_mark();
        if latest_micros.saturating_add(AHEAD_MICROS / 2) <= mark.kept_micros.load(Ordering::Acquire) {
            return Ok(());
        }
        let wanted_micros = latest_micros.saturating_add(AHEAD_MICROS);
        let record = wanted_micros.to_le_bytes().to_vec();
        if mistake!(TheTimeMarkWaitsForDefinitions) {
            self.change(|change| {
                change.put_meta(RECORD, record.clone());
                Ok(())
            })
            .await?;
        }
        let step = Step {
            changes: Vec::new(),
            removals: Vec::new(),
            puts: Vec::new(),
            meta: vec![(RECORD.to_owned(), Some(record))],
            catalog: None,
            now_micros: self.now_micros(),
        };
        self.store().step(step).await.map_err(Error::from)?;
        mark.kept_micros.fetch_max(wanted_micros, Ordering::AcqRel);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::testing::{Database, START};

    #[test]
    fn the_mark_stays_ahead_and_survives() {
        let db = Database::new();
        assert_eq!(db.engine.identifier_floor_micros(), 0);
        let commits = || db.engine.statistics().commits;
        block_on(db.engine.keep_time_mark(START)).expect("kept");
        let before = commits();
        block_on(db.engine.keep_time_mark(START + AHEAD_MICROS / 2)).expect("ahead enough");
        assert_eq!(commits(), before);
        block_on(db.engine.keep_time_mark(START + AHEAD_MICROS / 2 + 1)).expect("kept");
        assert_eq!(commits(), before + 1);
        let db = db.reopen();
        assert_eq!(
            db.engine.identifier_floor_micros(),
            START + AHEAD_MICROS / 2 + 1 + AHEAD_MICROS
        );
        // A clock that stepped back moves it nowhere.
        block_on(db.engine.keep_time_mark(START)).expect("ahead enough");
        let db = db.reopen();
        assert_eq!(
            db.engine.identifier_floor_micros(),
            START + AHEAD_MICROS / 2 + 1 + AHEAD_MICROS
        );
    }

    #[test]
    fn identifiers_are_before_the_mark_when_they_are_given() {
        let db = Database::new();
        let commits = || db.engine.statistics().commits;
        let before = commits();
        let after = START + 10 * AHEAD_MICROS;
        for latest in [START, START + AHEAD_MICROS, after] {
            // Wherever it is asked for.
            block_on(async { db.engine.cover_identifiers(latest) }).expect("kept");
        }
        assert_eq!(commits(), before + 2, "once ahead, it stays for a while");
        assert!(db.reopen().engine.identifier_floor_micros() >= after);
    }

    #[test]
    fn the_mark_does_not_wait_for_a_change_of_the_catalog() {
        let db = Database::new();
        let engine = db.engine.clone();
        let (kept, wait) = mpsc::channel();
        let keeping = block_on(db.engine.change(|_| {
            let keeping = std::thread::spawn(move || {
                kept.send(block_on(engine.keep_time_mark(START)))
                    .expect("the change waits");
            });
            // So long only where it fails.
            wait.recv_timeout(Duration::from_secs(20))
                .expect("kept while the change is made")?;
            Ok(keeping)
        }));
        keeping.expect("changed").join().expect("ended");
        assert_eq!(db.reopen().engine.identifier_floor_micros(), START + AHEAD_MICROS);
    }
}
