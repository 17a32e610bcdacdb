//! The account of what a statement's writes hold in memory until their commit, on the pool of all queries.

use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use kalamdb_core::{Result, TableKind};

use crate::diagnostics;
use crate::environment::Environment;
use crate::interruption::Interruption;

/// Less than this is not worth an account: most writes are a few rows.
const LEAST_BYTES: usize = 1 << 20;

/// How an account is called where the pool says who holds what.
const NAME: &str = "rows to be written";

/// What one statement's writes hold; dropped, they hold nothing.
pub(crate) struct WriteMemory {
    pool: Arc<dyn MemoryPool>,
    /// Whether more is refused when the pool has none. It is not where a load goes to disk a few megabytes later.
    bounded: bool,
    reservation: Option<MemoryReservation>,
}

impl WriteMemory {
    /// For rows that stay in memory until the commit.
    pub(crate) fn of_changes(environment: &Environment, interruption: &Interruption) -> Self {
        let (_, pool) = environment.query_runtime(interruption);
        WriteMemory {
            pool,
            bounded: true,
            reservation: None,
        }
    }

    /// For a load.
    pub(crate) fn of_load(environment: &Environment, interruption: &Interruption, kind: TableKind) -> Self {
        WriteMemory {
            bounded: !kind.loads_in_bulk(),
            ..WriteMemory::of_changes(environment, interruption)
        }
    }

    /// The writes hold so many bytes now.
    ///
    /// # Errors
    /// OUT_OF_MEMORY when the pool has no more and the rows cannot go to disk.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<()> {
        if bytes < LEAST_BYTES && self.reservation.is_none() {
            return Ok(());
        }
        let reservation = self
            .reservation
            .get_or_insert_with(|| MemoryConsumer::new(NAME).register(&self.pool));
        if self.bounded {
            reservation.try_resize(bytes).map_err(diagnostics::from_datafusion)
        } else {
            reservation.resize(bytes);
            Ok(())
        }
    }

    /// What they hold now, as far as it is accounted for, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.reservation.as_ref().map_or(0, MemoryReservation::size)
    }
}
