//! Files that one process at a time has locked (flock); the operating system gives the lock up when the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For as long as a process takes to end.
    Moments,
    /// Whoever asks asks again.
    NotAtAll,
}

/// A process that is just ending, and a child of one that just let go of a lock, give it up within moments.
const MOMENTS: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Opens and locks the file at a path; `None` if another process has it.
///
/// # Errors
/// When it cannot be opened or locked.
pub(crate) fn take(path: &Path, options: &OpenOptions, wait: Wait) -> io::Result<Option<File>> {
    let deadline = Instant::now()
        + match wait {
            Wait::Moments => MOMENTS,
            Wait::NotAtAll => Duration::ZERO,
        };
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

/// The process that has the file at a path locked, if the system tells: of one on another machine, or in another container, it does not.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    let there = fs::metadata(path).ok()?;
    let (device, inode) = (there.dev(), there.ino());
    // Linux's `makedev`, as `/proc/locks` writes it.
    let (major, minor) = (
        ((device >> 32) & 0xffff_f000) | ((device >> 8) & 0xfff),
        ((device >> 12) & 0xffff_ff00) | (device & 0xff),
    );
    holder_in(
        &fs::read_to_string("/proc/locks").ok()?,
        &format!("{major:02x}:{minor:02x}:{inode}"),
    )
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fd:01:131074 0 EOF`: a process of which no more is known has the number 0 or -1.
fn holder_in(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, process, locked, ..] if locked == file => {
                process.parse().ok().filter(|&process| process > 0)
            }
            _ => None,
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_lock_is_named() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fd:01:7 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 12 fd:01:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 13 fd:01:70 0 EOF\n3: FLOCK  ADVISORY  WRITE 14 fd:01:7 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE -1 fd:01:8 0 EOF\n";
        for (file, process) in [
            ("fd:01:7", Some(14)),
            ("fd:01:70", Some(13)),
            ("fd:01:8", None),
            ("fd:01:9", None),
        ] {
            assert_eq!(holder_in(locks, file), process, "{file}");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let lock = take(&path, &options, Wait::NotAtAll)
            .expect("locks")
            .expect("nobody has it");
        assert!(take(&path, &options, Wait::NotAtAll).expect("asks").is_none());
        if Path::new("/proc/locks").exists() {
            assert_eq!(holder(&path), Some(std::process::id()));
        }
        drop(lock);
        assert_eq!(holder(&path), None);
    }
}
