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

/// Fails here, as the operating system would, if a test asks for it.
#[inline]
pub(crate) fn failure(name: &str) -> io::Result<()> {
    #[cfg(test)]
    if let Some(error) = fail::eval(name, |words| io::Error::other(words.unwrap_or_default())) {
        return Err(error);
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
