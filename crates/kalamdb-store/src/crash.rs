//! Points at which tests stop the process or have the disk fail. They are compiled into the tests of this crate alone.

use std::io;
use std::path::PathBuf;

/// Stops here if a test asks for it.
#[inline]
pub(crate) fn point(name: &str) {
    #[cfg(test)]
    fail::eval(name, |_| ());
    // Otherwise there is nothing to do.
    #[cfg(not(test))]
    let _ = name;
}

/// Fails here, as the operating system would, if a test asks for it: `os error 28` is what it says of a full disk, other words are
/// a disk's own.
#[inline]
pub(crate) fn failure(name: &str) -> io::Result<()> {
    #[cfg(test)]
    if let Some(words) = fail::eval(name, Option::unwrap_or_default) {
        let number = words.strip_prefix("os error ").and_then(|number| number.parse().ok());
        return Err(match number {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(words),
        });
    }
    #[cfg(not(test))]
    let _ = name;
    Ok(())
}

/// Tells a test of power loss that a file, or every log in a directory, is on disk as far as it is written now.
#[inline]
pub(crate) fn synced(path: impl FnOnce() -> PathBuf) {
    #[cfg(test)]
    crate::crashes::note_synced(path);
    #[cfg(not(test))]
    let _ = path;
}
