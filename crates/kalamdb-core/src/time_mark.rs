//! A time before which every identifier was made that this database gave, kept across restarts: a clock that steps back while
//! the server is down does not give an earlier identifier again.

use std::sync::atomic::{AtomicI64, Ordering};

use kalamdb_store::Store;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};

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
        })
    }
}

impl Engine {
    /// Identifiers of this start are to be made of later times than this, µs: those of earlier starts were not.
    pub fn identifier_floor_micros(&self) -> i64 {
        self.time_mark().floor_micros
    }

    /// Keeps the mark ahead of identifiers made until `latest_micros`; mostly there is nothing to do. To be called every second
    /// or so.
    ///
    /// # Errors
    /// STORAGE_ERROR, UNAVAILABLE.
    pub async fn keep_time_mark(&self, latest_micros: i64) -> Result<()> {
        let mark = self.time_mark();
        if latest_micros.saturating_add(AHEAD_MICROS / 2) <= mark.kept_micros.load(Ordering::Acquire) {
            return Ok(());
        }
        let wanted_micros = latest_micros.saturating_add(AHEAD_MICROS);
        self.change(|change| {
            change.put_meta(RECORD, wanted_micros.to_le_bytes().to_vec());
            Ok(())
        })
        .await?;
        mark.kept_micros.fetch_max(wanted_micros, Ordering::AcqRel);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

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
}
