//! The thread that tries storages again which are away, and files that could not be erased: a disk that hangs holds up nothing else.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use kalamdb_store::Store;

use crate::catalog::Catalog;
use crate::error::{Error, ErrorCode, Result};

/// Ends its thread when it is dropped.
pub(crate) struct StorageFinder {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StorageFinder {
    pub(crate) fn start(store: &Arc<Store<Catalog>>) -> Result<Self> {
        // While it is at work one more look is enough, however many ask for it.
        let (wake, woken) = mpsc::sync_channel(1);
        let store = store.clone();
        let thread = std::thread::Builder::new()
            .name("kalamdb-finder".to_owned())
            .spawn(move || run(&store, &woken));
        let thread = thread
            .map_err(|error| Error::new(ErrorCode::StorageError, format!("a thread cannot be started: {error}")))?;
        Ok(StorageFinder {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Has it look, and does not wait for it.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // With a full queue it is going to look anyway.
            wake.try_send(()).ok();
        }
    }
}

impl Drop for StorageFinder {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks for storages panicked");
        }
    }
}

fn run(store: &Store<Catalog>, woken: &Receiver<()>) {
    for () in woken {
        find(store);
    }
}

/// Looks once.
pub(crate) fn find(store: &Store<Catalog>) {
    for id in store.find_storages() {
        let state = store.state();
        let entry = state.catalog().storages.values().find(|entry| entry.id == id);
        match entry {
            Some(entry) => tracing::info!(
                storage = entry.storage_id,
                directory = entry.uri,
                "a storage that was away is there; its tables are served again"
            ),
            None => tracing::info!(
                storage = %id,
                "the directory of a storage that was dropped is there; what is left in it is erased"
            ),
        }
    }
}
