//! Where storages are, to find out whether two of them overlap: the only thing about a storage's place that is asked before it is one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// What a storage has in common with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It is the other one.
    Same,
    /// It is in the other one.
    Inside,
    /// The other one is in it.
    Around,
}

/// A directory as the file system knows it, whatever it is called.
pub struct StoragePlace {
    /// Without links; what does not exist yet is as written.
    path: PathBuf,
    /// Device and inode, if it exists.
    identity: Option<(u64, u64)>,
    /// Those of the directories above it, as far as they exist: a bind mount has another path and the same directories.
    above: Vec<(u64, u64)>,
}

impl StoragePlace {
    /// Of a directory that may be still to be made.
    ///
    /// # Errors
    /// [`StoreError::Storage`] names one that cannot be used.
    pub fn of(directory: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| {
            StoreError::Storage(format!("the directory {} cannot be used: {error}", directory.display()))
        };
        let identity = match directory.metadata() {
            Ok(metadata) if metadata.is_dir() => Some((metadata.dev(), metadata.ino())),
            Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let mut missing = Vec::new();
        let mut existing = directory;
        let mut path = loop {
            match existing.canonicalize() {
                Ok(path) => break path,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match (existing.parent(), existing.file_name()) {
                        (Some(parent), Some(name)) => {
                            missing.push(name);
                            existing = parent;
                        }
                        (None, _) | (_, None) => return Err(failed(error)),
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        };
        path.extend(missing.into_iter().rev());
        // Those that are still to be made are nobody's.
        let above = path.ancestors().skip(1).filter_map(|above| above.metadata().ok());
        Ok(Self {
            above: above.map(|above| (above.dev(), above.ino())).collect(),
            path,
            identity,
        })
    }

    /// One that cannot be looked at.
    pub fn unseen(directory: &Path) -> Self {
        Self {
            path: directory.to_owned(),
            identity: None,
            above: Vec::new(),
        }
    }

    /// What this one and another have in common, if anything.
    pub fn overlap(&self, other: &Self) -> Option<Overlap> {
        if self.is(other) {
            Some(Overlap::Same)
        } else if self.is_in(other) {
            Some(Overlap::Inside)
        } else if other.is_in(self) {
            Some(Overlap::Around)
        } else {
            None
        }
    }

    fn is_in(&self, other: &Self) -> bool {
        (self.path.starts_with(&other.path) && self.path != other.path)
            || other.identity.is_some_and(|other| self.above.contains(&other))
    }

    fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.identity.is_some() && self.identity == other.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_in_those_above_it_by_whatever_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("a/b")).expect("made");
        std::os::unix::fs::symlink(path("a/b"), path("link")).expect("linked");
        let place = |name: &str| StoragePlace::of(&path(name)).expect("a place");
        for (inner, outer) in [
            ("a/b", "a"),
            ("a/b/new", "a"),
            ("link", "a"),
            ("link/new/newer", "a/b"),
            ("a/b", ""),
        ] {
            assert!(place(inner).is_in(&place(outer)), "{inner} in {outer}");
            assert!(!place(outer).is_in(&place(inner)), "{outer} in {inner}");
        }
        for (one, other) in [("a", "a"), ("link", "a/b"), ("ab", "a"), ("a", "ab"), ("a/c", "a/b")] {
            assert!(!place(one).is_in(&place(other)), "{one} in {other}");
        }
        // Under another path, as a bind mount has it.
        let elsewhere = StoragePlace {
            path: PathBuf::from("/elsewhere/b"),
            ..place("a/b")
        };
        assert!(elsewhere.is_in(&place("a")) && !elsewhere.is_in(&place("link")));
    }

    #[test]
    fn two_names_of_one_directory_are_one_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let there = directory.path().join("there");
        std::fs::create_dir(&there).expect("made");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&there, &link).expect("linked");
        let place = |path: &Path| StoragePlace::of(path).expect("a place");
        assert!(place(&link).is(&place(&there)));
        assert!(place(&link.join("new")).is(&place(&there.join("new"))));
        assert!(!place(&there.join("new")).is(&place(&there)));
        let file = directory.path().join("file");
        std::fs::write(&file, b"x").expect("written");
        assert!(StoragePlace::of(&file).is_err());
        assert!(StoragePlace::of(&file.join("below")).is_err());
    }
}
