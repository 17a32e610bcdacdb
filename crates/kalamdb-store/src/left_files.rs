//! Files that are to be erased and could not be: their storage is away, or its disk fails. They are tried again, and named by their
//! records until they are gone.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::ids::{SegmentId, StorageId};
use crate::manifest::FileName;

/// Those of one database.
#[derive(Default)]
pub(crate) struct LeftFiles {
    files: Mutex<BTreeMap<SegmentId, Left>>,
}

struct Left {
    file: FileName,
    /// Somebody is about to erase it.
    is_taken: bool,
}

impl LeftFiles {
    /// A file cannot be erased now; whether that was not known before.
    pub(crate) fn leave(&self, segment: SegmentId, file: FileName) -> bool {
        let left = Left { file, is_taken: false };
        self.files.lock().insert(segment, left).is_none()
    }

    /// It is erased.
    pub(crate) fn forget(&self, segment: SegmentId) {
        self.files.lock().remove(&segment);
    }

    /// The storages that they are in.
    pub(crate) fn storages(&self) -> BTreeSet<StorageId> {
        self.files.lock().values().map(|left| left.file.storage).collect()
    }

    /// Those in one storage that nobody is about to erase: the caller is from here on, and calls [`LeftFiles::leave`] or
    /// [`LeftFiles::forget`] in the end.
    pub(crate) fn take(&self, storage: StorageId) -> Vec<(SegmentId, FileName)> {
        let mut files = self.files.lock();
        let here = files
            .iter_mut()
            .filter(|(_, left)| left.file.storage == storage && !left.is_taken);
        here.map(|(segment, left)| {
            left.is_taken = true;
            (*segment, left.file.clone())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tried_by_one_at_a_time_until_it_is_gone() {
        let left = LeftFiles::default();
        let (here, there) = (StorageId(1), StorageId(2));
        let file = |storage, path: &str| FileName {
            storage,
            path: path.to_string(),
        };
        assert!(left.leave(SegmentId(1), file(here, "1")));
        assert!(left.leave(SegmentId(2), file(there, "2")));
        assert_eq!(left.storages(), [here, there].into());
        let taken = left.take(here);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].0, SegmentId(1));
        assert!(left.take(here).is_empty(), "somebody has it");
        assert!(!left.leave(SegmentId(1), file(here, "1")), "that is known");
        assert_eq!(left.take(here).len(), 1);
        left.forget(SegmentId(1));
        assert!(left.take(here).is_empty());
        assert_eq!(left.storages(), [there].into());
    }
}
