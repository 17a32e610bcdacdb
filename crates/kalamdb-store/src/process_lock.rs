//! Files that one process at a time has locked (flock); the operating system gives the lock up when the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A process that is just ending, and a child of one that just let go of a lock, give it up within moments.
const WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Opens and locks the file at a path; `None` if another process has it.
///
/// # Errors
/// When it cannot be opened or locked.
pub(crate) fn take(path: &Path, options: &OpenOptions) -> io::Result<Option<File>> {
    let deadline = Instant::now() + WAIT;
    loop {
        let file = options.open(path)?;
        match file.try_lock() {
            // Whoever had it may have put another file in its place.
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            Ok(()) | Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether an open file is the one that has this path.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
