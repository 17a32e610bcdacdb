//! Erasing in the background what nobody can see any more: retired stores and scopes, files of segments.
//!
//! Each job deletes ranges (or a file) and then, or in the same batch, deletes or marks the record that asked for it, so a job that
//! was interrupted is done again at start-up. Ranges are deleted with `DeleteRange`, which older snapshots do not see;
//! `delete_file_in_range` would take their files away.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, WriteBatch};

use crate::engine::Engine;
use crate::error::StoreError;
use crate::ids::{Epoch, ScopeId, SegmentId, StoreId};
use crate::key;
use crate::last_use;
use crate::manifest::FileName;
use crate::meta;
use crate::schema::Lifetime;

/// What to erase.
#[derive(Debug)]
pub(crate) enum EraseJob {
    /// A retired store.
    Store(StoreId),
    /// A retired scope, in these stores and epochs (all that were live when it was retired).
    Scope(ScopeId, Vec<(StoreId, Lifetime, Vec<Epoch>)>),
    /// The file of a segment that no state shows any more, or never did.
    Segment(SegmentId, FileName),
    /// Tell a test that the jobs before are done.
    #[cfg(test)]
    Tell(mpsc::SyncSender<()>),
    /// Finish.
    Stop,
}

/// The thread that erases.
pub(crate) struct Eraser {
    jobs: EraserHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Hands over jobs. The queue has no bound of its own: a job is a few words, and each stands for a statement or a load that
/// somebody waited for.
#[derive(Clone)]
pub(crate) struct EraserHandle {
    jobs: Sender<EraseJob>,
}

impl std::fmt::Debug for EraserHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EraserHandle")
    }
}

impl Eraser {
    pub(crate) fn start(engine: Arc<Engine>) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("kalamdb-eraser".to_string())
            .spawn(move || run(&engine, &receiver))
            .map_err(|error| StoreError::Storage(format!("a thread cannot be started: {error}")))?;
        Ok(Self {
            jobs: EraserHandle { jobs: sender },
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn handle(&self) -> &EraserHandle {
        &self.jobs
    }

    /// Waits for the jobs in the queue and ends the thread.
    pub(crate) fn stop(&self) {
        self.jobs.erase(EraseJob::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the erasing thread panicked; its work is done again at the next start");
        }
    }
}

impl EraserHandle {
    pub(crate) fn erase(&self, job: EraseJob) {
        // The thread is gone when the store is closing: start-up does the job then.
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            tracing::debug!(?job, "left to the next start");
        }
    }
}

fn run(engine: &Engine, jobs: &Receiver<EraseJob>) {
    for job in jobs {
        if matches!(job, EraseJob::Stop) {
            return;
        }
        match (erase(engine, &job), job) {
            (Ok(()), EraseJob::Segment(segment, _)) => engine.left_files().forget(segment),
            (Ok(()), _) => {}
            (Err(error), EraseJob::Segment(segment, file)) => {
                let path = file.path.clone();
                if engine.left_files().leave(segment, file) {
                    tracing::warn!(file = path, %error, "a file that nobody needs cannot be erased, which is tried again");
                } else {
                    tracing::debug!(file = path, %error, "a file that nobody needs can still not be erased");
                }
            }
            (Err(error), job) => {
                tracing::warn!(?job, %error, "rows that nobody sees could not be erased; the next start tries again");
            }
        }
    }
}

/// Does one job.
pub(crate) fn erase(engine: &Engine, job: &EraseJob) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let mut range = |family: &ColumnFamily, prefix: &[u8]| {
        // Ids are counters and do not reach their last value; a prefix without a successor has nothing after it to spare.
        let end = key::successor(prefix).unwrap_or_else(|| vec![0xFF; key::PREFIX_BYTES * 2]);
        batch.delete_range_cf(family, prefix, end.as_slice());
    };
    match job {
        EraseJob::Store(store) => {
            if mistake!(RowsOfRetiredStoresStay) {
                return Ok(());
            }
            crate::crash::point("erase-store");
            range(engine.hot(), &key::store_prefix(*store));
            range(engine.stream(), &key::store_prefix(*store));
            batch.delete_cf(engine.meta(), meta::retired(*store));
        }
        EraseJob::Scope(scope, stores) => {
            for (store, lifetime, epochs) in stores {
                for epoch in epochs.iter().filter(|_| !mistake!(RowsOfRetiredScopesStay)) {
                    range(engine.rows(*lifetime), &key::scope_prefix(*store, *epoch, *scope));
                }
            }
            // The record stays: segments may have rows of it until they are rewritten.
            batch.put_cf(engine.meta(), meta::scope_retired(*scope), meta::ERASED);
            if mistake!(RetiredScopesAreForgotten) {
                batch.delete_cf(engine.meta(), meta::scope_retired(*scope));
            }
        }
        EraseJob::Segment(segment, file) => {
            crate::crash::point("erase-file");
            engine.files().delete(file.storage, &file.path)?;
            crate::crash::point("erase-file-gone");
            // There may be room for it now.
            if let Err(error) = last_use::tell(engine, file.storage) {
                tracing::debug!(%error, "a storage is still full");
            }
            batch.delete_cf(engine.meta(), meta::file(*segment));
        }
        #[cfg(test)]
        EraseJob::Tell(done) => done.send(()).expect("the test waits"),
        EraseJob::Stop => {}
    }
    engine.write_unsynced(batch)?;
    if let (EraseJob::Store(store), true) = (job, engine.has_damaged_files()) {
        tracing::warn!(
            %store,
            "a table is gone while a file of RocksDB is damaged; if no other table needs that file, the next start of kalamdb leaves \
             it behind, and RocksDB merges its files again"
        );
    }
    crate::crash::point("erased");
    Ok(())
}
