//! The storages that segment files are in, each an object store: durable writes, reads of byte ranges, removal. What the bytes
//! mean is `segment`'s.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::StoreError;
use crate::ids::StorageId;

/// All storages by id.
#[derive(Debug, Default)]
pub(crate) struct Files {}

impl Files {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; creates it and proves that it can be written.
    pub(crate) fn add_local(&self, id: StorageId, root: &Path) -> Result<(), StoreError> {
        let _ = (id, root);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// Starts a file that appears under its name when it is finished.
    pub(crate) fn create(self: &Arc<Self>, storage: StorageId, path: &str) -> Result<FileWriter, StoreError> {
        let _ = (storage, path);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    pub(crate) fn read(&self, storage: StorageId, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _ = (storage, path, range);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    pub(crate) fn read_ranges(
        &self,
        storage: StorageId,
        path: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        let _ = (storage, path, ranges);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// The size of a file, bytes; `None` if there is none.
    pub(crate) fn size(&self, storage: StorageId, path: &str) -> Result<Option<u64>, StoreError> {
        let _ = (storage, path);
        Err(StoreError::Unsupported("being built".to_string()))
    }

    /// Removes a file and what an interrupted write of it left; none is fine.
    pub(crate) fn delete(&self, storage: StorageId, path: &str) -> Result<(), StoreError> {
        let _ = (storage, path);
        Err(StoreError::Unsupported("being built".to_string()))
    }
}

/// Writes one file. Dropped unfinished, it leaves none.
#[derive(Debug)]
pub(crate) struct FileWriter {}

impl FileWriter {
    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        0
    }

    /// Makes the file durable and visible; its size, bytes.
    pub(crate) fn finish(self) -> Result<u64, StoreError> {
        Err(StoreError::Unsupported("being built".to_string()))
    }
}

impl Write for FileWriter {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
