//! Mistakes that tests put back into this crate, as `kalamdb-store` does with its own; `scripts/mistakes` makes all of them in turn.
//!
//! Where a protection is, `mistake!(Name)` asks whether to leave it out. Only the tests of this crate are built with the question.

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
