//! Mistakes that tests put back into a crate, one at a time: the list, and which one is chosen. Where they are made is the crate's own.

use std::fmt::Debug;

/// One of the mistakes of a crate: which hazard of the design it runs into (0: an invariant, or what follows from one), and the
/// tests that have to fail on it.
pub type Listed<M> = (M, u8, &'static [&'static str]);

/// Declares the mistakes of a crate, `is`, which says whether one is to be made, and a test that prints them all for
/// `scripts/mistakes`.
#[macro_export]
macro_rules! mistakes {
    ($($(#[doc = $text:literal])+ $name:ident of $hazard:literal: $($test:literal),+;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mistake {
            $($(#[doc = $text])+ $name,)+
        }

        const ALL: &[$crate::Listed<Mistake>] = &[$((Mistake::$name, $hazard, &[$($test),+]),)+];

        /// Whether this is the mistake to make.
        pub(crate) fn is(mistake: Mistake) -> bool {
            static MADE: std::sync::OnceLock<Option<Mistake>> = std::sync::OnceLock::new();
            *MADE.get_or_init(|| $crate::chosen(ALL)) == Some(mistake)
        }

        #[test]
        fn every_mistake_has_tests_and_is_listed() {
            $crate::list(ALL);
        }
    };
}

/// The mistake that the variable `KALAMDB_MISTAKE` names.
///
/// # Panics
/// If there is no such mistake.
pub fn chosen<M: Copy + Debug>(all: &[Listed<M>]) -> Option<M> {
    // Not set, or no text at all: none is wanted.
    let wanted = std::env::var("KALAMDB_MISTAKE").ok()?;
    let known = all.iter().find(|(mistake, ..)| format!("{mistake:?}") == wanted);
    let (mistake, ..) = known.unwrap_or_else(|| panic!("{wanted} is no mistake that can be made"));
    Some(*mistake)
}

/// Prints a line for each.
///
/// # Panics
/// If one names a test twice.
pub fn list<M: Debug>(all: &[Listed<M>]) {
    for (mistake, hazard, tests) in all {
        let mut distinct = tests.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), tests.len(), "{mistake:?} names a test twice");
        println!("mistake {mistake:?} {hazard} {}", tests.join(" "));
    }
}
