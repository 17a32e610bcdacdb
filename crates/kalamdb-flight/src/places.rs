//! How many connections a door has at once, how many of them one user may hold, and that whoever finds no place is told so. Who accepts
//! them is not here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kalamdb_core::{Error, ErrorCode, Principal, Task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A connection for which there is no place waits so long for one, then it is told that there is none. Drivers give up after twenty
/// seconds, and then say nothing that helps: gRPC's C++ library "Could not finish writing before closing", that of Go "error
/// reading server preface".
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// So many wait or are told at once; more do so in the listener's queue.
const MOST_REFUSED: usize = 64;

/// The places of a door's connections, and a room in which connections wait for one.
#[derive(Clone, Debug)]
pub struct Places {
    limit: usize,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    patience: Duration,
    /// How many each user holds.
    holders: Arc<Mutex<HashMap<String, usize>>>,
}

/// That a user holds one of the places.
#[derive(Debug)]
pub(crate) struct Held {
    user_id: String,
    holders: Arc<Mutex<HashMap<String, usize>>>,
}

/// Where a connection may wait.
#[derive(Debug)]
pub struct Waiting {
    _permit: OwnedSemaphorePermit,
}

/// A connection's place, for as long as it lives.
#[derive(Debug)]
pub enum Place {
    /// One of so many.
    Taken(OwnedSemaphorePermit),
    /// There was none: whoever is here is told this and nothing else.
    None(Waiting, Error),
}

impl Places {
    /// So many.
    pub fn new(limit: usize) -> Self {
        Places::with_patience(limit, PATIENCE)
    }

    pub(crate) fn with_patience(limit: usize, patience: Duration) -> Self {
        Places {
            limit,
            places: Arc::new(Semaphore::new(limit)),
            room: Arc::new(Semaphore::new(MOST_REFUSED)),
            patience,
            holders: Arc::default(),
        }
    }

    /// Counts one more connection to a user who logged in over it. Nobody may hold all places alone, but for those who may end what
    /// others do.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS.
    pub(crate) fn hold(&self, user: &Principal) -> Result<Held, Error> {
        let most = match user.may_do(Task::KillSession) {
            true => self.limit,
            false => most_of_one(self.limit),
        };
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holders.entry(user.user_id.clone()).or_default();
        if *held >= most {
            return Err(Error::new(
                ErrorCode::TooManyRequests,
                format!(
                    "{held} connections of this user are open, and of the {} that this door takes at once (max_connections) one user may \
                     hold no more: close some of yours",
                    self.limit
                ),
            ));
        }
        *held += 1;
        Ok(Held {
            user_id: user.user_id.clone(),
            holders: Arc::clone(&self.holders),
        })
    }

    #[cfg(test)]
    pub(crate) fn is_unheld(&self) -> bool {
        self.holders.lock().expect("no holder panicked").is_empty()
    }

    /// Room for one more to wait. A connection can then be accepted, and [`Places::settle`] is for it: whoever accepts must not
    /// take a place before there is somebody to have it.
    ///
    /// # Errors
    /// Never: nobody closes a semaphore here.
    pub async fn room(&self) -> io::Result<Waiting> {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        Ok(Waiting {
            _permit: permit.map_err(io::Error::other)?,
        })
    }

    /// A place as soon as there is one, or after a while none.
    pub async fn settle(&self, waiting: Waiting) -> Place {
        match tokio::time::timeout(self.patience, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Place::Taken(permit),
            Ok(Err(_)) | Err(_) => Place::None(waiting, too_many(self.limit)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = holders.get_mut(&self.user_id) {
            *held -= 1;
            if *held == 0 {
                holders.remove(&self.user_id);
            }
        }
    }
}

/// All but an eighth, which is for others.
fn most_of_one(limit: usize) -> usize {
    limit - limit / 8
}

impl Place {
    /// What to answer to whoever has none.
    pub fn refusal(&self) -> Option<&Error> {
        match self {
            Place::Taken(_) => None,
            Place::None(_, error) => Some(error),
        }
    }
}

fn too_many(limit: usize) -> Error {
    Error::new(
        ErrorCode::TooManyRequests,
        format!(
            "all {limit} connections that this door takes at once (max_connections) are open: close some of yours, try again later, or \
             have the server started with a higher --max-connections"
        ),
    )
}
