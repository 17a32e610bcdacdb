//! The storages that segment files are in, each an object store: durable writes, reads of byte ranges, removal. What the bytes
//! mean is `segment`'s.
//!
//! All calls block. What is special about a local directory is here and nowhere else: `object_store` never syncs, and reads of it
//! take a detour over the runtime's threads.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use parking_lot::RwLock;
use tokio::task::coop::unconstrained;

use crate::error::StoreError;
use crate::ids::StorageId;
use crate::last_use::is_full;
use crate::process_lock::Wait;
use crate::storage_lock::{StorageLock, StorageLocks};
use crate::storage_marker::Marker;
use crate::tuning::PART_BYTES;

/// All storages by id.
#[derive(Debug, Default)]
pub(crate) struct Files {
    storages: RwLock<HashMap<StorageId, Arc<Storage>>>,
    /// Those that could not be added.
    away: RwLock<HashMap<StorageId, Away>>,
    locks: StorageLocks,
}

/// A storage that is not where it should be.
#[derive(Clone, Debug)]
struct Away {
    root: PathBuf,
    problem: StoreError,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes a directory a storage, which proves that it can be written; the directory is made if it is missing. Add it next.
    pub(crate) fn create_local(&self, marker: &Marker, root: &Path) -> Result<Arc<StorageLock>, StoreError> {
        let wait = Wait::Moments;
        make_directories(root).map_err(|error| unusable(root, &error))?;
        // Nothing is written into another process's.
        let locked = match marker.is_of_database(root)? {
            true => Some(self.locks.take(root, wait)?),
            false => None,
        };
        try_directory(root)?;
        marker.write(root)?;
        let lock = self.locks.take(root, wait);
        drop(locked);
        lock
    }

    /// Locks the directory of a storage, if it is that. It is not made.
    pub(crate) fn lock_local(&self, marker: &Marker, root: &Path, wait: Wait) -> Result<Arc<StorageLock>, StoreError> {
        marker.check(root)?;
        self.locks.take(root, wait)
    }

    #[cfg(test)]
    pub(crate) fn create_and_add(&self, marker: &Marker, root: &Path) -> Result<(), StoreError> {
        let lock = self.create_local(marker, root)?;
        self.add_local(marker, root, lock)
    }

    /// Adds a directory that was created or locked.
    pub(crate) fn add_local(&self, marker: &Marker, root: &Path, lock: Arc<StorageLock>) -> Result<(), StoreError> {
        let path = root.canonicalize().map_err(|error| unusable(root, &error))?;
        let store =
            LocalFileSystem::new_with_prefix(&path).map_err(|error| unusable(root, &io::Error::other(error)))?;
        let local = Local {
            root: path,
            marker: marker.clone(),
            lock,
        };
        self.add(
            marker.storage(),
            Arc::new(store.with_automatic_cleanup(true)),
            Some(local),
        );
        Ok(())
    }

    /// Notes that a storage is not where it should be: whoever asks for a file of it hears this.
    pub(crate) fn add_away(&self, id: StorageId, root: &Path, problem: StoreError) {
        let root = root.to_path_buf();
        self.away.write().insert(id, Away { root, problem });
    }

    /// Storages that are not where they should be, and where that is.
    pub(crate) fn away(&self) -> Vec<(StorageId, PathBuf)> {
        let away = self.away.read();
        away.iter().map(|(id, away)| (*id, away.root.clone())).collect()
    }

    /// Why a storage could not be added, if it could not be yet.
    pub(crate) fn why_away(&self, id: StorageId) -> Option<StoreError> {
        if self.storages.read().contains_key(&id) {
            return None;
        }
        self.away.read().get(&id).map(|away| away.problem.clone())
    }

    /// Whether a storage is there now, and is the one that is meant.
    pub(crate) fn check(&self, id: StorageId) -> Result<(), StoreError> {
        self.storage(id)?.check()
    }

    fn add(&self, id: StorageId, store: Arc<dyn ObjectStore>, local: Option<Local>) {
        self.storages.write().insert(
            id,
            Arc::new(Storage {
                store,
                local,
                directories: RwLock::default(),
            }),
        );
        self.away.write().remove(&id);
    }

    fn storage(&self, id: StorageId) -> Result<Arc<Storage>, StoreError> {
        if let Some(storage) = self.storages.read().get(&id) {
            return Ok(storage.clone());
        }
        let away = self.away.read().get(&id).map(|away| away.problem.clone());
        Err(away.unwrap_or_else(|| StoreError::Storage(format!("storage {id} was not added"))))
    }

    /// Starts a file that appears under its name when it is finished.
    pub(crate) fn create(&self, storage: StorageId, path: &str) -> Result<FileWriter, StoreError> {
        FileWriter::create(self.file(storage, path)?)
    }

    #[cfg(test)]
    pub(crate) fn read(&self, storage: StorageId, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self
            .file(storage, path)?
            .read_ranges(std::slice::from_ref(&range))?
            .pop();
        Ok(bytes.unwrap_or_default())
    }

    #[cfg(test)]
    pub(crate) fn read_ranges(
        &self,
        storage: StorageId,
        path: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        self.file(storage, path)?.read_ranges(ranges)
    }

    /// The size of a file, bytes; `None` if there is none.
    #[cfg(test)]
    pub(crate) fn size(&self, storage: StorageId, path: &str) -> Result<Option<u64>, StoreError> {
        self.file(storage, path)?.size()
    }

    /// Removes a file and what an interrupted write of it left; none is fine.
    pub(crate) fn delete(&self, storage: StorageId, path: &str) -> Result<(), StoreError> {
        self.file(storage, path)?.delete()
    }

    /// A name in a storage, with or without a file. It does not look at this map again.
    pub(crate) fn file(&self, id: StorageId, path: &str) -> Result<StoredFile, StoreError> {
        let storage = self.storage(id)?;
        // Other characters would be escaped by some stores, and a file be looked for under another name than it was written.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if !path.bytes().all(plain) {
            return Err(StoreError::Unsupported(format!("the file name {path:?} is not plain")));
        }
        let location = ObjectPath::parse(path).map_err(|error| StoreError::Unsupported(error.to_string()))?;
        if location.as_ref() != path {
            return Err(StoreError::Unsupported(format!(
                "the file name {path:?} is not relative"
            )));
        }
        let local = storage.local.as_ref().map(|local| local.root.join(path));
        let name = match &local {
            Some(local) => local.display().to_string(),
            None => format!("{}/{path}", storage.store),
        };
        Ok(StoredFile {
            storage,
            location,
            local,
            name,
        })
    }
}

#[derive(Debug)]
struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Of a directory of this machine.
    local: Option<Local>,
    /// Held to remove a file, and with it directories that are empty then, and shared while a file is put into directories that were
    /// just made for it.
    directories: RwLock<()>,
}

#[derive(Debug)]
struct Local {
    /// Without symbolic links.
    root: PathBuf,
    marker: Marker,
    lock: Arc<StorageLock>,
}

impl Storage {
    /// Whether it is there now: a disk may go away while the server runs.
    fn check(&self) -> Result<(), StoreError> {
        match &self.local {
            Some(local) => local.marker.check(&local.root).and_then(|()| local.lock.check()),
            None => Ok(()),
        }
    }
}

/// A name in a storage.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    storage: Arc<Storage>,
    location: ObjectPath,
    local: Option<PathBuf>,
    name: String,
}

impl StoredFile {
    /// The name for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let Some(local) = &self.local else {
            return wait(self.storage.store.get_ranges(&self.location, ranges))
                .map_err(|error| self.read_failed(&error));
        };
        let file = File::open(local).map_err(|error| self.read_failed(&error))?;
        let read = |range: &Range<u64>| {
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(Bytes::from(bytes))
        };
        ranges
            .iter()
            .map(|range| read(range).map_err(|error: io::Error| self.read_failed(&error)))
            .collect()
    }

    /// In bytes; `None` if there is no file.
    pub(crate) fn size(&self) -> Result<Option<u64>, StoreError> {
        if let Some(local) = &self.local {
            return match fs::metadata(local) {
                Ok(metadata) => Ok(Some(metadata.len())),
                // Without its storage it is not known to be missing.
                Err(error) if error.kind() == ErrorKind::NotFound => self.storage.check().map(|()| None),
                Err(error) => Err(self.failed(&error)),
            };
        }
        match wait(self.storage.store.head(&self.location)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn delete(&self) -> Result<(), StoreError> {
        // That there is no file in another directory says nothing of this one.
        self.storage.check()?;
        if let Some(local) = &self.local {
            // An upload that a crash interrupted; names are never used twice, so there is at most this one.
            let mut unfinished = local.clone().into_os_string();
            unfinished.push("#1");
            match fs::remove_file(&unfinished) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.failed(&error)),
                Ok(()) | Err(_) => {}
            }
        }
        let alone = self.storage.directories.write();
        let deleted = wait(self.storage.store.delete(&self.location));
        drop(alone);
        match deleted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        self.sync_directories()
    }

    /// Syncs the directories from the file's up to the storage's own; one that is gone needs none.
    fn sync_directories(&self) -> Result<(), StoreError> {
        if mistake!(DirectoriesAreNotSynced) {
            return Ok(());
        }
        let (Some(local), Some(Local { root, .. })) = (&self.local, &self.storage.local) else {
            return Ok(());
        };
        for directory in local
            .ancestors()
            .skip(1)
            .take_while(|directory| directory.starts_with(root))
        {
            match sync_path(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.failed(&error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn failed(&self, error: &(dyn Error + 'static)) -> StoreError {
        StoreError::Storage(format!("{}: {}", self.name, words(error)))
    }

    /// A file that is not there or ends early is damage, anything else a failure of the storage.
    fn read_failed(&self, error: &(dyn Error + 'static)) -> StoreError {
        let problem = match root_cause(error).downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(ErrorKind::NotFound) => "the file is missing",
            Some(ErrorKind::UnexpectedEof) => "the file ends early",
            _ => match error.downcast_ref::<object_store::Error>() {
                Some(object_store::Error::NotFound { .. }) => "the file is missing",
                _ => return self.failed(error),
            },
        };
        if let Err(away) = self.storage.check() {
            return away;
        }
        StoreError::Corrupt {
            object: self.name.clone(),
            problem: problem.to_string(),
        }
    }
}

/// Writes one file. Dropped unfinished, it leaves none.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: StoredFile,
    upload: Option<Box<dyn MultipartUpload>>,
    part: Vec<u8>,
    bytes: u64,
}

impl FileWriter {
    fn create(file: StoredFile) -> Result<Self, StoreError> {
        crate::crash::failure("file-create").map_err(|error| file.failed(&error))?;
        // `put_multipart` makes every directory that is missing, the storage's own included; and lets everyone read them.
        file.storage.check()?;
        let shared = (!mistake!(DirectoriesGoUnderNewFiles)).then(|| file.storage.directories.read());
        if let Some(parent) = file.local.as_deref().and_then(Path::parent) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|error| file.failed(&error))?;
        }
        #[cfg(test)]
        if let Some(meanwhile) = WITH_DIRECTORIES.take() {
            meanwhile();
        }
        let upload = wait(file.storage.store.put_multipart(&file.location)).map_err(|error| file.failed(&error))?;
        drop(shared);
        Ok(Self {
            file,
            upload: Some(upload),
            part: Vec::new(),
            bytes: 0,
        })
    }

    /// Bytes written so far.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name for messages.
    pub(crate) fn name(&self) -> &str {
        self.file.name()
    }

    /// Makes the file durable and visible; its size, bytes.
    pub(crate) fn finish(mut self) -> Result<u64, StoreError> {
        self.put_part()?;
        let mut upload = self.upload.take().ok_or_else(|| stopped(&self.file))?;
        crate::crash::point("file-unnamed");
        if let Err(error) = wait(upload.complete()) {
            let failed = self.file.failed(&error);
            abandon(upload);
            return Err(failed);
        }
        crate::crash::point("file-unsynced");
        let closed = match &self.file.local {
            Some(local) => fs::set_permissions(local, Permissions::from_mode(0o600)),
            None => Ok(()),
        };
        let synced = closed.and_then(|()| match &self.file.local {
            Some(local) if !mistake!(FilesAreNotSynced) => sync_path(local),
            _ => Ok(()),
        });
        let synced = synced.map_err(|error| self.file.failed(&error));
        if let Err(error) = synced.and_then(|()| self.file.sync_directories()) {
            // Nobody will name it. If it cannot even be removed, it is a file too many.
            let _ = self.file.delete();
            return Err(error);
        }
        if let Some(local) = &self.file.local {
            crate::crash::synced(|| local.clone());
        }
        Ok(self.bytes)
    }

    fn put_part(&mut self) -> Result<(), StoreError> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = PutPayload::from(Bytes::from(std::mem::take(&mut self.part)));
        let upload = self.upload.as_mut().ok_or_else(|| stopped(&self.file))?;
        let written = match crate::crash::failure("file-write") {
            Ok(()) => wait(upload.put_part(part)).map_err(|error| self.file.failed(&error)),
            Err(error) => Err(self.file.failed(&error)),
        };
        if written.is_err()
            && let Some(upload) = self.upload.take()
        {
            abandon(upload);
        }
        written
    }
}

fn stopped(file: &StoredFile) -> StoreError {
    StoreError::Storage(format!("{}: writing it has failed before", file.name()))
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART_BYTES);
        }
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.part.len() == PART_BYTES {
            self.put_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Parts are cut by size alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            abandon(upload);
        }
    }
}

/// Removes the parts of an upload as far as possible; what is left has no name that anybody reads.
fn abandon(mut upload: Box<dyn MultipartUpload>) {
    let _ = wait(upload.abort());
}

/// Creates a directory and those above it that are missing, and syncs every directory that has a new entry: what is durable in a
/// directory that is not is lost with it.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|directory| !directory.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for directory in missing.into_iter().filter(|_| !mistake!(NewDirectoriesAreNotSynced)) {
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_path(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Proves that a storage's directory can be written.
fn try_directory(root: &Path) -> Result<(), StoreError> {
    probe(root, 0, b"kalamdb").map_err(|error| unusable(root, &error))
}

/// The same, but for room: a full storage can be read, and what is erased gives it room.
pub(crate) fn try_full_directory(root: &Path) -> Result<(), StoreError> {
    match probe(root, 0, b"kalamdb") {
        Err(error) if !is_full(&error) || mistake!(ErasingNeedsRoom) => Err(unusable(root, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unusable(root: &Path, error: &io::Error) -> StoreError {
    StoreError::Storage(format!(
        "the storage directory {} cannot be used: {}",
        root.display(),
        words(error)
    ))
}

/// What the name of the file begins with by which a directory is tried.
pub(crate) const PROBE_PREFIX: &str = "probe-";

/// Creates, syncs and removes a file that has these bytes at that offset, and nothing before.
pub(crate) fn probe(root: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    crate::crash::failure("file-create")?;
    let path = root.join(format!("{PROBE_PREFIX}{}", std::process::id()));
    let written = File::create(&path).and_then(|file| {
        file.write_all_at(bytes, offset)?;
        file.sync_all()
    });
    let removed = match fs::remove_file(&path) {
        Err(error) if written.is_ok() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    written.and(removed)?;
    sync_path(root)
}

pub(crate) fn sync_path(path: &Path) -> io::Result<()> {
    crate::crash::failure("file-sync")?;
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    SYNCED.lock().insert(path.to_path_buf());
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// What the next file that this thread begins meets when its directories are made, and it is not in them yet.
    static WITH_DIRECTORIES: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

/// Files and directories that were synced, for tests of power failures.
#[cfg(test)]
pub(crate) static SYNCED: parking_lot::Mutex<std::collections::BTreeSet<PathBuf>> =
    parking_lot::Mutex::new(std::collections::BTreeSet::new());

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// The operating system's words if it had any, otherwise the error's own.
fn words(error: &(dyn Error + 'static)) -> String {
    match root_cause(error).downcast_ref::<io::Error>() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which may be inside another executor's.
///
/// In a task of tokio, what waits for another of its threads has a budget of operations. Once that is spent, it is woken only when
/// the task gives its thread back, which a parked one never does. So waiting is not charged to the task.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        let polled = match mistake!(WaitingIsChargedToTheTask) {
            true => future.as_mut().poll(&mut context),
            false => pin!(unconstrained(future.as_mut())).poll(&mut context),
        };
        match polled {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use object_store::memory::InMemory;
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;
    use crate::storage_marker::MARKER_FILE;

    const ID: StorageId = StorageId::DEFAULT;

    fn local() -> (tempfile::TempDir, Arc<Files>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Arc::new(Files::new());
        let marker = Marker::new("test", ID);
        files
            .create_and_add(&marker, &directory.path().join("a/b"))
            .expect("a storage");
        (directory, files)
    }

    fn write(files: &Files, path: &str, bytes: &[u8]) {
        let mut writer = files.create(ID, path).expect("a writer");
        writer.write_all(bytes).expect("written");
        assert_eq!(writer.bytes(), bytes.len() as u64);
        assert_eq!(
            files.size(ID, path).expect("looks"),
            None,
            "it has no name before it is finished"
        );
        assert_eq!(writer.finish().expect("finished"), bytes.len() as u64);
    }

    /// What holds of every kind of storage.
    fn check(files: &Files) {
        let large: Vec<u8> = (0..2 * PART_BYTES + 77).map(|at| (at % 251) as u8).collect();
        write(files, "7/1-a.parquet", &large);
        write(files, "7/2-b.parquet", b"small");
        let size = large.len() as u64;
        assert_eq!(files.size(ID, "7/1-a.parquet").expect("looks"), Some(size));
        let ranges = [0..10, PART_BYTES as u64 - 5..PART_BYTES as u64 + 5, size - 1..size];
        let read = files.read_ranges(ID, "7/1-a.parquet", &ranges).expect("reads");
        for (range, bytes) in ranges.iter().zip(read) {
            assert_eq!(bytes, large[range.start as usize..range.end as usize]);
        }
        assert_eq!(files.read(ID, "7/2-b.parquet", 1..4).expect("reads"), "mal");

        let mut writer = files.create(ID, "7/3-c.parquet").expect("a writer");
        writer.write_all(&large).expect("written");
        drop(writer);
        assert_eq!(files.size(ID, "7/3-c.parquet").expect("looks"), None);

        for _ in 0..2 {
            files.delete(ID, "7/1-a.parquet").expect("deleted, or not there");
        }
        assert_eq!(files.size(ID, "7/1-a.parquet").expect("looks"), None);
        let missing = files.read(ID, "7/1-a.parquet", 0..1).expect_err("not there");
        assert!(
            matches!(&missing, StoreError::Corrupt { problem, .. } if problem.contains("missing")),
            "{missing}"
        );
        assert_eq!(files.read(ID, "7/2-b.parquet", 0..5).expect("reads"), "small");
    }

    #[test]
    fn directories_and_object_stores_are_alike() {
        let (_directory, files) = local();
        check(&files);
        let files = Files::new();
        files.add(ID, Arc::new(InMemory::new()), None);
        check(&files);
    }

    #[test]
    fn it_does_not_matter_which_executor_waits_outside() {
        let (_directory, files) = local();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        runtime.block_on(async { write(&files, "7/1-a.parquet", &vec![1; PART_BYTES + 1]) });
        futures::executor::block_on(async { write(&files, "7/2-b.parquet", b"small") });
        runtime.block_on(async {
            let mut writer = files.create(ID, "7/3-c.parquet").expect("a writer");
            writer.write_all(&vec![1; PART_BYTES + 1]).expect("written");
            drop(writer);
        });
        assert_eq!(files.size(ID, "7/3-c.parquet").expect("looks"), None);
        assert_eq!(files.read(ID, "7/2-b.parquet", 0..5).expect("reads"), "small");
    }

    #[test]
    fn a_task_that_has_spent_its_budget_waits_for_files_as_any_other() {
        let (_directory, files) = local();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        let (done, finished) = mpsc::channel();
        let task = files.clone();
        runtime.spawn(async move {
            while has_budget_remaining() {
                consume_budget().await;
            }
            for path in ["7/1-a.parquet", "7/2-b.parquet"] {
                write(&task, path, &vec![1; PART_BYTES + 1]);
            }
            task.delete(ID, "7/2-b.parquet").expect("deleted");
            done.send(()).expect("the test waits");
        });
        // A thread that waits for itself never ends: the time is how long a failure takes, and nothing else depends on it.
        let finished = finished.recv_timeout(Duration::from_secs(20));
        runtime.shutdown_background();
        finished.expect("the task waits for ever");
        assert_eq!(files.read(ID, "7/1-a.parquet", 0..1).expect("reads"), [1].as_slice());
    }

    #[test]
    fn files_and_their_directories_are_for_the_server_alone() {
        let (directory, files) = local();
        write(&files, "7/1-a.parquet", b"whole");
        let root = directory.path().join("a/b");
        for (path, mode) in [
            (root.clone(), 0o700),
            (root.join(MARKER_FILE), 0o600),
            (root.join("7"), 0o700),
            (root.join("7/1-a.parquet"), 0o600),
        ] {
            let found = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(found & 0o777, mode, "{}", path.display());
        }
    }

    #[test]
    fn a_directory_that_is_made_for_a_file_stays_although_it_is_empty() {
        let (directory, files) = local();
        write(&files, "7/1-a.parquet", b"whole");
        let (done, deleted) = mpsc::channel();
        let eraser = files.clone();
        WITH_DIRECTORIES.set(Some(Box::new(move || {
            let erasing = move || {
                eraser.delete(ID, "7/1-a.parquet").expect("deleted");
                done.send(()).expect("the test waits");
            };
            std::thread::spawn(erasing);
            // It waits for the file, unless that is the mistake; then it is done long before, and if not, the mistake is not met.
            deleted.recv_timeout(Duration::from_millis(300)).ok();
        })));
        let mut writer = files.create(ID, "7/2-b.parquet").expect("a writer");
        // One that is made by the library again is open for everybody.
        let made = fs::metadata(directory.path().join("a/b/7")).expect("it is there");
        assert_eq!(made.permissions().mode() & 0o777, 0o700);
        writer.write_all(b"small").expect("written");
        writer.finish().expect("finished");
        assert_eq!(files.read(ID, "7/2-b.parquet", 0..5).expect("reads"), "small");
    }

    #[test]
    fn nothing_stays_of_a_file_that_was_dropped_or_deleted() {
        let (directory, files) = local();
        let root = directory.path().join("a/b");
        let names = |directory: &Path| -> Vec<_> {
            fs::read_dir(directory)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name())
                .collect()
        };
        let mut writer = files.create(ID, "7/1-a.parquet").expect("a writer");
        writer.write_all(b"half").expect("written");
        drop(writer);
        assert_eq!(names(&root.join("7")), Vec::<std::ffi::OsString>::new());
        // As a crash leaves it.
        fs::write(root.join("7/2-b.parquet#1"), "half").expect("written");
        files.delete(ID, "7/2-b.parquet").expect("deleted");
        assert_eq!(names(&root.join("7")), Vec::<std::ffi::OsString>::new());
        write(&files, "7/3-c.parquet", b"whole");
        files.delete(ID, "7/3-c.parquet").expect("deleted");
        assert_eq!(names(&root), [MARKER_FILE], "the empty directory goes too");
    }

    #[test]
    fn a_file_that_cannot_be_finished_is_an_error_and_has_no_name() {
        let (directory, files) = local();
        let mut writer = files.create(ID, "7/1-a.parquet").expect("a writer");
        writer.write_all(&vec![1; PART_BYTES + 1]).expect("written");
        fs::remove_dir_all(directory.path().join("a/b/7")).expect("removed");
        let failed = writer.finish().expect_err("its directory is gone");
        assert!(
            matches!(&failed, StoreError::Storage(text) if text.contains("7/1-a.parquet: No such file")),
            "{failed}"
        );
        assert_eq!(files.size(ID, "7/1-a.parquet").expect("looks"), None);
        files.delete(ID, "7/1-a.parquet").expect("nothing to delete");
    }

    #[test]
    fn a_storage_that_goes_away_is_left_alone_and_its_files_are_not_taken_for_missing() {
        let (directory, files) = local();
        write(&files, "7/1-a.parquet", b"whole");
        let (root, elsewhere) = (directory.path().join("a/b"), directory.path().join("elsewhere"));
        fs::rename(&root, &elsewhere).expect("moved");
        for empty in [false, true] {
            if empty {
                fs::create_dir(&root).expect("made");
            }
            let answers = [
                files.read(ID, "7/1-a.parquet", 0..1).map(|_| ()),
                files.size(ID, "7/1-a.parquet").map(|_| ()),
                files.delete(ID, "7/1-a.parquet"),
                files.create(ID, "7/2-b.parquet").map(|_| ()),
                files.check(ID),
            ];
            for (at, answer) in answers.into_iter().enumerate() {
                assert!(matches!(answer, Err(StoreError::Away { .. })), "{at}: {answer:?}");
            }
            assert_eq!(root.exists(), empty);
        }
        assert_eq!(fs::read_dir(&root).expect("a directory").count(), 0);
        fs::remove_dir(&root).expect("removed");
        fs::rename(&elsewhere, &root).expect("moved back");
        assert_eq!(files.read(ID, "7/1-a.parquet", 0..5).expect("reads"), "whole");
        write(&files, "7/2-b.parquet", b"more");
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [file.clone(), file.join("below"), PathBuf::from("/proc/kalamdb")] {
            let refused = Files::new()
                .create_local(&Marker::new("test", ID), &path)
                .expect_err("not a directory");
            let StoreError::Storage(text) = refused else {
                panic!("{refused}")
            };
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_told_in_the_systems_words() {
        let full = io::Error::from(ErrorKind::StorageFull);
        let words_alone = full.to_string();
        let wrapped = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(object_store::Error::Generic {
                store: "LocalFileSystem",
                source: Box::new(full),
            }),
        };
        assert_eq!(words(&wrapped), words_alone);
    }

    #[test]
    fn names_that_stores_would_escape_are_refused() {
        let (_directory, files) = local();
        for path in ["7/a b", "7/a#1", "7/%20", "../up", "7//x", "/7/x"] {
            assert!(
                matches!(files.create(ID, path), Err(StoreError::Unsupported(_))),
                "{path}"
            );
        }
        assert!(
            matches!(files.create(StorageId(4), "7/x"), Err(StoreError::Storage(text)) if text.contains("storage 4"))
        );
    }
}
