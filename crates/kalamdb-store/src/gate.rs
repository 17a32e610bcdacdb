//! Locks by table that outlive a stack frame: one flush at a time, one compaction, and one of all that publishes.

use std::collections::HashMap;
use std::sync::Arc;

use futures::executor::block_on;
use futures::lock::{Mutex, OwnedMutexGuard};

use crate::ids::StoreId;

/// A lock for each table that somebody holds or waits for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    tables: parking_lot::Mutex<HashMap<StoreId, Arc<Mutex<()>>>>,
}

/// A table that nobody else holds until this is dropped, in whatever thread.
pub(crate) type GateGuard = OwnedMutexGuard<()>;

impl Gate {
    /// Waits until nobody holds the table. A task waits without its thread: whoever holds it may need one to go on.
    pub(crate) async fn enter(&self, store: StoreId) -> GateGuard {
        let table = {
            let mut tables = self.tables.lock();
            tables.retain(|_, table| Arc::strong_count(table) > 1);
            tables.entry(store).or_default().clone()
        };
        table.lock_owned().await
    }

    /// The same for a thread of a mover, which may block.
    pub(crate) fn enter_blocking(&self, store: StoreId) -> GateGuard {
        block_on(self.enter(store))
    }

    /// Whether somebody holds the table.
    #[cfg(test)]
    pub(crate) fn is_held(&self, store: StoreId) -> bool {
        let table = self.tables.lock().get(&store).cloned();
        table.is_some_and(|table| table.try_lock().is_none())
    }
}
