//! Locks by table that outlive a stack frame: one mover at a time, and one that publishes.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::ids::StoreId;

/// Tables that somebody holds.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    held: Mutex<HashSet<StoreId>>,
    given_back: Condvar,
}

/// A table that nobody else holds until this is dropped, in whatever thread.
#[derive(Debug)]
pub(crate) struct GateGuard {
    gate: Arc<Gate>,
    store: StoreId,
}

impl Gate {
    /// Waits until nobody holds the table.
    pub(crate) fn enter(self: &Arc<Self>, store: StoreId) -> GateGuard {
        let mut held = self.held.lock();
        while !held.insert(store) {
            self.given_back.wait(&mut held);
        }
        GateGuard {
            gate: self.clone(),
            store,
        }
    }
}

#[cfg(test)]
impl Gate {
    /// Whether somebody holds the table.
    pub(crate) fn is_held(&self, store: StoreId) -> bool {
        self.held.lock().contains(&store)
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.gate.held.lock().remove(&self.store);
        self.gate.given_back.notify_all();
    }
}
