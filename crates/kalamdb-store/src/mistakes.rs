//! Mistakes that tests put back into this crate, one at a time, and the tests that have to fail then.
//!
//! Where a protection is, `mistake!(Name)` asks whether to leave it out. Only the tests of this crate are built with the question;
//! anywhere else the answer is `false` before anything runs. The variable `KALAMDB_MISTAKE` names the mistake to make, and
//! `scripts/mistakes` makes all of them in turn.

/// Whether to make this mistake.
#[cfg(test)]
macro_rules! mistake {
    ($name:ident) => {
        $crate::mistakes::made::is($crate::mistakes::made::Mistake::$name)
    };
}

/// Whether to make this mistake: never.
#[cfg(not(test))]
macro_rules! mistake {
    ($name:ident) => {
        false
    };
}

#[cfg(test)]
pub(crate) mod made;
