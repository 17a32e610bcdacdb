//! What all running statements of one user hold together, against the user's quota of memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;

/// How the message of a breach begins. It is a lack of resources to DataFusion, whose operators then spill to disk first.
const BREACH: &str = "quota memory: ";

/// One user's account, as one statement of theirs sees it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryShare {
    held_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
}

/// The accounts of users whose statements run.
#[derive(Default)]
pub(crate) struct MemoryShares(Mutex<HashMap<String, Weak<AtomicUsize>>>);

impl MemoryShares {
    /// The account of a user, for a statement that begins.
    pub(crate) fn of(&self, user_id: &str, limit_bytes: usize) -> MemoryShare {
        let mut accounts = self.0.lock();
        let known = accounts.get(user_id).and_then(Weak::upgrade);
        let held_bytes = known.unwrap_or_else(|| {
            accounts.retain(|_, account| account.strong_count() > 0);
            let made = Arc::default();
            accounts.insert(user_id.to_owned(), Arc::downgrade(&made));
            made
        });
        MemoryShare {
            held_bytes,
            limit_bytes,
        }
    }
}

impl MemoryShare {
    /// Takes more, if the quota has it.
    ///
    /// # Errors
    /// `ResourcesExhausted` with words that [`breach`] knows.
    pub(crate) fn try_take(&self, bytes: usize) -> Result<()> {
        let taken = self
            .held_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|after| *after <= self.limit_bytes)
            });
        taken.map(|_| ()).map_err(|held| {
            DataFusionError::ResourcesExhausted(format!(
                "{BREACH}the user's statements hold {held} bytes and one asks for {bytes} more; the quota is {} bytes",
                self.limit_bytes
            ))
        })
    }

    /// Takes what cannot be refused.
    pub(crate) fn take(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The words of a breach, if a lack of resources is one.
pub(crate) fn breach(message: &str) -> Option<&str> {
    message.find(BREACH).map(|at| &message[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_one_user_share_one_account() {
        let shares = MemoryShares::default();
        let (first, second, other) = (shares.of("ann", 100), shares.of("ann", 100), shares.of("bob", 100));
        first.try_take(60).expect("within the quota");
        other.try_take(100).expect("another's account");
        let error = second.try_take(41).expect_err("beyond it");
        assert!(matches!(&error, DataFusionError::ResourcesExhausted(message) if breach(message).is_some()));
        second.try_take(40).expect("just within");
        first.give_back(60);
        second.try_take(60).expect("what the first gave back");
        drop((first, second));
        assert!(
            shares.of("ann", 100).try_take(100).is_ok(),
            "a new account begins empty"
        );
        assert!(breach("The memory limit is exceeded").is_none());
    }
}
