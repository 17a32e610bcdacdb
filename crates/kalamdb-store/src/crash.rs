//! Points at which tests stop the process. They are compiled into the tests of this crate alone.

/// Stops here if a test asks for it.
#[inline]
pub(crate) fn point(name: &str) {
    #[cfg(test)]
    fail::eval(name, |_| ());
    // Otherwise there is nothing to do.
    #[cfg(not(test))]
    let _ = name;
}
