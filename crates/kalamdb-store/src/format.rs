//! The data directory: its format version, its lock and its subdirectories. What is inside RocksDB is not here.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::files::make_directories;
use crate::process_lock;
use crate::storage_marker;

/// The format that this build writes and the newest that it reads. See `docs/format.md`.
pub(crate) const FORMAT_VERSION: u32 = 2;

const ROCKSDB: &str = "rocksdb";
const LOCK_FILE: &str = "LOCK-kalamdb";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_DRAFT: &str = "FORMAT.new";
const FORMAT_LEAD: &str = "kalamdb data directory, format ";
/// What a file system begins with.
const LOST_AND_FOUND: &str = "lost+found";
/// No configuration, key or certificate is longer, and hardly any file with somebody's data is this short.
const SMALL_FILE_BYTES: u64 = 1 << 20;

/// A locked data directory of a format that this build reads.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held for as long as RocksDB is open; the operating system gives it up when the process ends, however it ends.
    _lock: File,
}

impl Directory {
    /// Creates what is missing, takes the lock and checks the format, in this order, before anything inside is touched.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        make_directories(path).map_err(|error| io(path, &error))?;
        let lock = take_lock(path)?;
        check_format(path)?;
        let directory = Self {
            path: path.to_path_buf(),
            _lock: lock,
        };
        let rocksdb = directory.rocksdb();
        // What RocksDB begins with. Where it is missing, nothing is made: a disk may be mounted there later.
        if !rocksdb.join("CURRENT").exists() {
            directory.refuse_lost_rows()?;
        }
        make_directories(&rocksdb).map_err(|error| io(&rocksdb, &error))?;
        Ok(directory)
    }

    /// Called where RocksDB has nothing: refuses that if there was a database, which marks its default storage once it is made.
    pub(crate) fn refuse_lost_rows(&self) -> Result<(), StoreError> {
        match storage_marker::database_of(&self.segments())? {
            Some(database) if !mistake!(LostRowsAreANewDatabase) => Err(StoreError::Corrupt {
                object: self.rocksdb().display().to_string(),
                problem: format!(
                    "it is empty, but {} says that database {database} is here. Mount its disk, or put back what was in it; to \
                     begin anew, start with another --data-dir",
                    self.segments().display()
                ),
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rocksdb(&self) -> PathBuf {
        self.path.join(ROCKSDB)
    }

    /// The default storage of segments.
    pub(crate) fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }
}

/// Whether the directory is marked as ours and RocksDB has begun in it.
pub(crate) fn is_database(path: &Path) -> bool {
    path.join(FORMAT_FILE).is_file() && path.join(ROCKSDB).join("CURRENT").is_file()
}

fn take_lock(path: &Path) -> Result<File, StoreError> {
    let file_path = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let taken = process_lock::take(&file_path, &options, process_lock::Wait::Moments)
        .map_err(|error| io(&file_path, &error))?;
    taken.ok_or_else(|| StoreError::Locked {
        path: path.display().to_string(),
    })
}

/// Refuses a directory of a newer format, and one with something in it that does not say its format; marks a new one.
fn check_format(path: &Path) -> Result<(), StoreError> {
    let file_path = path.join(FORMAT_FILE);
    let text = match fs::read_to_string(&file_path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            refuse_unmarked(path)?;
            return mark_format(path, &file_path);
        }
        Err(error) => return Err(io(&file_path, &error)),
    };
    let found = text
        .strip_prefix(FORMAT_LEAD)
        .and_then(|rest| rest.trim_end().parse::<u32>().ok())
        .ok_or_else(|| StoreError::Corrupt {
            object: file_path.display().to_string(),
            problem: format!("it does not read '{FORMAT_LEAD}<number>'"),
        })?;
    check_version(path, found)
}

/// Refuses versions that this build cannot read.
pub(crate) fn check_version(path: &Path, found: u32) -> Result<(), StoreError> {
    if found > FORMAT_VERSION {
        return Err(StoreError::NewerFormat {
            path: path.display().to_string(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    if found < FORMAT_VERSION {
        return Err(StoreError::Unsupported(format!(
            "the data directory {} has format version {found}, from before the first release, which this kalamdb cannot read; \
             read the data out with the kalamdb that wrote it, and start with an empty --data-dir",
            path.display()
        )));
    }
    Ok(())
}

/// A directory without the marker has to be new: with rows in it, either the marker was lost and a start would read it as whatever
/// this build writes, or it is somebody else's. Small files are of whoever runs the server: its configuration, a key.
fn refuse_unmarked(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).map_err(|error| io(path, &error))? {
        let entry = entry.map_err(|error| io(path, &error))?;
        let name = entry.file_name();
        if name == LOST_AND_FOUND {
            continue;
        }
        let Some(problem) = stranger(&entry.path()).map_err(|error| io(&entry.path(), &error))? else {
            continue;
        };
        if mistake!(UnmarkedDirectoriesAreTaken) {
            continue;
        }
        return Err(StoreError::Unsupported(format!(
            "the directory {} holds {}, {problem}, and no file {FORMAT_FILE}: it is not a new data directory, and does not say \
             which format it is of; if it is a data directory, put its {FORMAT_FILE} back (one line, '{FORMAT_LEAD}<number>'; \
             {FORMAT_VERSION} if this kalamdb wrote it), otherwise choose another --data-dir",
            path.display(),
            name.display()
        )));
    }
    Ok(())
}

/// What a new data directory does not have, if this is that.
fn stranger(path: &Path) -> std::io::Result<Option<&'static str>> {
    // Behind a link, for whoever gives `segments` a disk of its own.
    let kind = match fs::metadata(path) {
        Ok(kind) => kind,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some("a link that leads nowhere")),
        Err(error) => return Err(error),
    };
    if !kind.is_dir() {
        return Ok((kind.len() > SMALL_FILE_BYTES).then_some("a large file"));
    }
    for below in fs::read_dir(path)? {
        if below?.file_name() != LOST_AND_FOUND {
            return Ok(Some("a directory that is not empty"));
        }
    }
    Ok(None)
}

fn mark_format(path: &Path, file_path: &Path) -> Result<(), StoreError> {
    // Written beside and renamed, so that a crash leaves no half-written marker.
    let draft = path.join(FORMAT_DRAFT);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{FORMAT_LEAD}{FORMAT_VERSION}")?;
        file.sync_all()?;
        fs::rename(&draft, file_path)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| io(file_path, &error))
}

fn io(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Storage(format!("{}: {error}", path.display()))
}
