//! The storages of an open store: which directory each is, whether what is there is the storage that is meant, and what is left
//! to erase in it. How files are read and written is `files`'.

use std::collections::HashSet;
use std::path::Path;

use rocksdb::WriteBatch;

use crate::engine::{Engine, storage};
use crate::erase::EraseJob;
use crate::error::StoreError;
use crate::files::try_full_directory;
use crate::ids::StorageId;
use crate::last_use;
use crate::manifest::Segment;
use crate::meta::{self, Inventory};
use crate::process_lock::Wait;
use crate::storage_marker::{Marker, away, refuse_strange_files};
use crate::store::Store;

impl<C: Send + Sync + 'static> Store<C> {
    /// Makes a directory, by its absolute path, the storage of an id that none had before: makes it if it is missing, tries that it
    /// can be written, and leaves a file in it by which it is recognised from then on.
    ///
    /// # Errors
    /// [`StoreError::Storage`] names the directory that cannot be made or written, [`StoreError::Taken`] one that has other files in it or
    /// is a storage of another database, or of another process.
    pub fn create_storage(&self, id: StorageId, root: &Path) -> Result<(), StoreError> {
        let made = refuse_strange_files(root).and_then(|()| create(self.engine(), id, root));
        made.map_err(|error| match error {
            StoreError::Away { directory, problem } => StoreError::Taken { directory, problem },
            other => other,
        })?;
        remember(self.engine(), id, Some(root))
    }

    /// Adds a storage that was created in an earlier life of the process, wherever its directory is now. Segments name the id, so
    /// each storage but the default one must be added after opening and before its tables are read. A segment whose file is
    /// missing there refuses its table. One that is not added is no longer used: files that are left in it to be erased are,
    /// whether by this process or by one that opens the store later.
    ///
    /// # Errors
    /// [`StoreError::Away`] if the directory is not the storage, which is then left alone; [`StoreError::Storage`] if it cannot be
    /// written for another reason than that it is full. [`Store::find_storages`] tries it again.
    pub fn add_storage(&self, id: StorageId, root: &Path) -> Result<(), StoreError> {
        self.bring(id, root, Wait::Moments)
    }

    /// Tries storages again that were away when they were to be opened, the default one and those in which there is only something left
    /// to erase included, and files that could not be erased. Which storages there are now that were not before. To be called
    /// every second or so; costs next to nothing while nothing is amiss, and blocks for as long as a disk does.
    pub fn find_storages(&self) -> Vec<StorageId> {
        let Some(_alone) = self.finding().try_lock() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (id, root) in self.engine().files().away() {
            if mistake!(StoragesThatWereAwayStayAway) {
                continue;
            }
            match self.bring(id, &root, Wait::NotAtAll) {
                Ok(()) => found.push(id),
                Err(error) => tracing::debug!(storage = %id, %error, "a storage is still away"),
            }
        }
        for id in self.engine().left_files().storages() {
            if self.check_storage(id).is_ok() {
                self.erase_left_files(id);
            }
        }
        found
    }

    /// Opens a storage that is not open, unless it is away.
    fn bring(&self, id: StorageId, root: &Path, wait: Wait) -> Result<(), StoreError> {
        let brought = self.try_to_bring(id, root, wait);
        if let Err(error) = &brought {
            self.engine().files().add_away(id, root, error.clone());
        }
        brought
    }

    fn try_to_bring(&self, id: StorageId, root: &Path, wait: Wait) -> Result<(), StoreError> {
        let marker = recognise(self.engine(), id, root, self.names_files(id))?;
        open(self.engine(), &marker, root, wait)?;
        let state = self.state();
        for segment in state.tables().values().flat_map(|table| table.segments.iter()) {
            if segment.entry.storage == id {
                look_at_file(self.engine(), segment);
            }
        }
        // The default one goes where its data directory goes.
        remember(self.engine(), id, Some(root).filter(|_| id != StorageId::DEFAULT))?;
        self.erase_left_files(id);
        Ok(())
    }

    fn erase_left_files(&self, id: StorageId) {
        if mistake!(FilesInStoragesThatWereAwayStay) {
            return;
        }
        for (segment, file) in self.engine().left_files().take(id) {
            self.eraser().erase(EraseJob::Segment(segment, file));
        }
    }

    /// Whether a storage is there now, and is the one that is meant.
    ///
    /// # Errors
    /// As [`Store::add_storage`].
    pub fn check_storage(&self, id: StorageId) -> Result<(), StoreError> {
        self.engine().files().check(id)
    }

    /// Whether a file is, or may be, in the storage.
    fn names_files(&self, id: StorageId) -> bool {
        let state = self.state();
        let mut segments = state.tables().values().flat_map(|table| table.segments.iter());
        segments.any(|segment| segment.entry.storage == id) || self.engine().left_files().storages().contains(&id)
    }
}

/// Adds the storages that are needed at once: the default one, and others that have something to erase, because nobody may add
/// them any more. Those that were found.
pub(crate) fn find(engine: &Engine, inventory: &Inventory) -> Result<HashSet<StorageId>, StoreError> {
    let dead: HashSet<StorageId> = inventory.files.iter().map(|(_, file)| file.storage).collect();
    let mut live = inventory.segments.iter().map(|(_, entry)| entry.storage);
    let mut found = HashSet::new();
    // What was dead may have been erased, and its directories with it, before its record was.
    let names_files = live.any(|storage| storage == StorageId::DEFAULT);
    // Of a new database, or of one that never wrote a segment.
    let is_new = !names_files && !is_marked(engine, StorageId::DEFAULT)?;
    match find_default(engine, names_files, is_new) {
        Ok(()) => {
            found.insert(StorageId::DEFAULT);
        }
        // A data directory that cannot be set up as a whole is none yet.
        Err(error @ StoreError::Storage(_)) if is_new || mistake!(DefaultStoragesMustWork) => return Err(error),
        // Its tables are refused, and the others are as good as they were.
        Err(error @ (StoreError::Away { .. } | StoreError::Storage(_))) => {
            tracing::error!(%error, "the default storage cannot be used; its tables are refused until it can");
            engine.files().add_away(StorageId::DEFAULT, &engine.segments(), error);
        }
        Err(error) => return Err(error),
    }
    for (&id, root) in inventory.storages.iter().filter(|(id, _)| dead.contains(*id)) {
        if mistake!(StoragesAreForgotten) {
            continue;
        }
        match recognise(engine, id, root, true).and_then(|marker| open(engine, &marker, root, Wait::Moments)) {
            Ok(()) => {
                found.insert(id);
            }
            Err(error) => {
                tracing::warn!(%error, "files that are to be erased are out of reach");
                engine.files().add_away(id, root, error);
            }
        }
    }
    Ok(found)
}

fn find_default(engine: &Engine, names_files: bool, is_new: bool) -> Result<(), StoreError> {
    let root = engine.segments();
    if is_new {
        create(engine, StorageId::DEFAULT, &root)?;
        return remember(engine, StorageId::DEFAULT, None);
    }
    let marker = recognise(engine, StorageId::DEFAULT, &root, names_files)?;
    open(engine, &marker, &root, Wait::Moments)
}

/// Makes a directory a storage and adds it.
fn create(engine: &Engine, id: StorageId, root: &Path) -> Result<(), StoreError> {
    let marker = Marker::new(engine.database(), id);
    let lock = engine.files().create_local(&marker, root)?;
    last_use::begin(engine, id, root)?;
    engine.files().add_local(&marker, root, lock)
}

/// Adds the directory of a storage, if it is that and nobody else uses it, and proves that it can be written, or could if it had room.
fn open(engine: &Engine, marker: &Marker, root: &Path, wait: Wait) -> Result<(), StoreError> {
    let locked = engine.files().lock_local(marker, root, wait)?;
    last_use::check(engine, marker.storage(), root)?;
    // First, so that one that cannot be written costs no commit each time that it is tried.
    try_full_directory(root)?;
    last_use::begin(engine, marker.storage(), root)?;
    engine.files().add_local(marker, root, locked)
}

/// What a storage's directory must say. One that was never marked, because it is of a version that knew no marks, is marked now if it
/// is what it should be: it has the directory that the paths of all its files begin with, unless no file was ever in it.
fn recognise(engine: &Engine, id: StorageId, root: &Path, names_files: bool) -> Result<Marker, StoreError> {
    let marker = Marker::new(engine.database(), id);
    if is_marked(engine, id)? {
        return Ok(marker);
    }
    if !root.is_dir() {
        return Err(away(root, "there is no such directory; mount its disk".to_string()));
    }
    let has_files = root.join(engine.database()).is_dir() || mistake!(UnmarkedStoragesAreTakenAsTheyAre);
    if names_files && !has_files {
        let problem = format!(
            "it has no directory {}, where its files should be; mount its disk",
            engine.database()
        );
        return Err(away(root, problem));
    }
    marker.write(root)?;
    remember(engine, id, None)?;
    Ok(marker)
}

fn is_marked(engine: &Engine, id: StorageId) -> Result<bool, StoreError> {
    let marked = engine.db().get_pinned_cf(engine.meta(), meta::storage_marked(id));
    Ok(marked.map_err(|error| storage(&error))?.is_some())
}

/// Writes down that a storage is marked and, but for the default one, where it is: files in it may have to be erased when nobody
/// adds it any more.
fn remember(engine: &Engine, id: StorageId, root: Option<&Path>) -> Result<(), StoreError> {
    let mut records = vec![(meta::storage_marked(id), Vec::new())];
    records.extend(root.map(|root| (meta::storage(id), meta::encode_root(root).to_vec())));
    let mut batch = WriteBatch::default();
    for (name, value) in records {
        let known = engine.db().get_pinned_cf(engine.meta(), &name);
        if known
            .map_err(|error| storage(&error))?
            .is_none_or(|known| *known != *value)
        {
            batch.put_cf(engine.meta(), name, value);
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => engine.write_synced(batch).map_err(StoreError::from),
    }
}

/// Notes what is wrong with a segment's file by its name and size alone; its table is refused then, and no other.
pub(crate) fn look_at_file(engine: &Engine, segment: &Segment) {
    let entry = &segment.entry;
    let file = engine.files().file(entry.storage, &entry.path);
    let problem = match file.and_then(|file| file.size()) {
        Ok(Some(size)) if size == entry.size_bytes => return,
        Ok(Some(size)) => format!("the file has {size} bytes, not {}", entry.size_bytes),
        Ok(None) => "the file is missing".to_string(),
        Err(error) => error.to_string(),
    };
    segment.damage.found(&name_of(engine, segment), &problem);
}

/// A segment and its file, for messages.
pub(crate) fn name_of(engine: &Engine, segment: &Segment) -> String {
    let entry = &segment.entry;
    let file = engine.files().file(entry.storage, &entry.path);
    file.map_or_else(|_| entry.describe(), |file| entry.in_file(&file))
}
