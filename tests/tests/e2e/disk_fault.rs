//! Calls of a server's own to the disk that fail, or wait, for as long as a test says: by a library that is loaded into it
//! (`disk_fault.c`).

use std::fs;
use std::path::{Path, PathBuf};

use kalamdb_tests::eventually;

use crate::preloaded::library;

/// What a server that was started with its variables is told.
pub(crate) struct DiskFault {
    library: PathBuf,
    control: PathBuf,
}

impl DiskFault {
    /// In a directory that outlives the server and is not its own.
    pub(crate) fn new(directory: &Path) -> Self {
        let library = library(directory, "disk_fault", include_str!("disk_fault.c"));
        let control = directory.join("fault");
        DiskFault { library, control }
    }

    /// The environment of the server.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        [("LD_PRELOAD", &self.library), ("DISK_FAULT", &self.control)]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
            .to_vec()
    }

    /// From now on, for all threads at once, calls fail.
    pub(crate) fn breaks(&self, what: &str) {
        let draft = self.control.with_extension("draft");
        fs::write(&draft, what).expect("written");
        fs::rename(draft, &self.control).expect("renamed");
    }

    /// From now on calls wait.
    pub(crate) fn holds(&self, what: &str) {
        if let Err(error) = fs::remove_file(self.held()) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        self.breaks(&format!("hold {what}"));
    }

    /// Until a call waits.
    pub(crate) async fn until_held(&self) {
        eventually("a call of the server waits", || async {
            self.held().exists().then_some(())
        })
        .await;
    }

    pub(crate) fn is_good_again(&self) {
        fs::remove_file(&self.control).expect("removed");
    }

    fn held(&self) -> PathBuf {
        self.control.with_extension("held")
    }
}
