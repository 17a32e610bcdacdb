//! What tests of several crates share: random histories of operations on a few tables, a plain model of what they leave behind, and
//! how mistakes are put back.
//!
//! Whoever runs a history (the test of the engine, the one over the wire) takes its steps one by one, does what they say, and
//! compares outcome and rows with the model's. Nothing here knows the product; the mix of operations is a table in `history`.
//!
//! Invariants:
//! 1. A seed gives the same history on every machine.
//! 2. The model is a list of rows for each table, and every answer is a walk over it.
//!
//! ```
//! use kalamdb_histories::{Filter, History, Place};
//!
//! let mut history = History::new(Place::Engine, 7, 0);
//! let (_operation, _outcome) = history.step();
//! let rows = history.model().rows(0, 0, &Filter::All);
//! assert_eq!(rows.len(), history.model().table(0).map_or(0, |table| table.rows().len()));
//! ```

mod history;
mod mistakes;
mod model;
mod operation;
mod random;
mod runs;

pub use history::{History, Place, Probe};
pub use mistakes::{Listed, chosen, list};
pub use model::{Model, Row, Table};
pub use operation::{Change, Duplicates, Filter, Kind, Operation, Outcome, Shape};
pub use random::Random;
pub use runs::{LENGTH, TABLES, USERS, run_all, seeds, table_name, user_name};
