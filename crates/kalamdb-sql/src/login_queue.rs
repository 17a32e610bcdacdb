//! The queue before the hashing of passwords: how many are hashed at once, and how many logins may wait for that. What a login is, and
//! which of them need no hash, is the engine's.

use std::collections::HashMap;
use std::sync::Arc;

use kalamdb_core::{Error, ErrorCode, Result};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Logins that wait, of all addresses: at some 30 ms each, what comes last waits for seconds and not for minutes.
const MOST_WAITING: usize = 1024;
/// Of one address, so that none has all the places.
const MOST_OF_ADDRESS: usize = 256;

/// Logins that are under way, in the order in which they came.
pub(crate) struct LoginQueue {
    turns: Arc<Semaphore>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    taken: usize,
    of_address: HashMap<String, usize>,
}

/// A login's place, until it is dropped.
pub(crate) struct Place<'a> {
    queue: &'a LoginQueue,
    address: String,
}

impl LoginQueue {
    /// So many passwords are hashed at once, one at least.
    pub(crate) fn new(at_once: usize) -> Self {
        LoginQueue {
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            places: Mutex::default(),
        }
    }

    /// A place for a login from this address.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when there is none.
    pub(crate) fn place(&self, address: &str) -> Result<Place<'_>> {
        let mut places = self.places.lock();
        let of_address = places.of_address.get(address).copied().unwrap_or(0);
        if places.taken >= MOST_WAITING || of_address >= MOST_OF_ADDRESS {
            return Err(Error::new(
                ErrorCode::TooManyRequests,
                "too many logins are waiting for their passwords to be checked; try again in a few seconds",
            ));
        }
        places.taken += 1;
        places.of_address.insert(address.to_owned(), of_address + 1);
        Ok(Place {
            queue: self,
            address: address.to_owned(),
        })
    }
}

impl Place<'_> {
    /// Waits until a password may be hashed, which it may as long as what is returned is kept.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.queue.turns).acquire_owned().await;
        turn.expect("nobody closes the semaphore")
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.queue.places.lock();
        places.taken -= 1;
        if let Some(of_address) = places.of_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                places.of_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn no_address_takes_all_places() {
        let queue = LoginQueue::new(2);
        let take = |address: &str| -> Vec<Place<'_>> {
            let places = (0..).map_while(|_| queue.place(address).ok());
            places.collect()
        };
        let mut taken = take("10.0.0.1");
        assert_eq!(taken.len(), MOST_OF_ADDRESS);
        let others: Vec<Vec<Place<'_>>> = (2..7).map(|host| take(&format!("10.0.0.{host}"))).collect();
        let counts: Vec<usize> = others.iter().map(Vec::len).collect();
        assert_eq!(counts, [MOST_OF_ADDRESS, MOST_OF_ADDRESS, MOST_OF_ADDRESS, 0, 0]);
        assert_eq!(
            queue.place("10.0.0.9").map(|_| ()).expect_err("all are taken").code,
            ErrorCode::TooManyRequests
        );
        taken.pop();
        assert!(queue.place("10.0.0.9").is_ok());
        drop((taken, others));
        assert!(queue.places.lock().of_address.is_empty());
    }

    #[test]
    fn so_many_turns_are_taken_at_once() {
        for (given, at_once) in [(0, 1), (2, 2), (8, 8)] {
            let queue = LoginQueue::new(given);
            let place = queue.place("10.0.0.1").expect("a place");
            let mut turns: Vec<OwnedSemaphorePermit> = (0..).map_while(|_| place.turn().now_or_never()).collect();
            assert_eq!(turns.len(), at_once);
            turns.pop();
            assert!(place.turn().now_or_never().is_some());
        }
    }
}
