//! The harness of the end-to-end tests: starts the real binary, and speaks to it as clients do.
//!
//! It knows the outside contract only (flags, the ready line, Flight SQL, HTTP) and nothing of the crates behind it.
//!
//! Invariants:
//! 1. Ports are free ones, data directories are temporary, and a server never outlives the value that started it.
//! 2. Nothing sleeps to synchronise: whatever takes time is polled against a deadline ([`eventually`]).
//! 3. A failure shows what the server wrote to stderr.

mod client;
mod http;
mod logic;
mod server;
mod slt;
mod terminal;
mod wait;

pub use client::{Client, Outcome, SqlError, text_rows};
pub use http::{Http, HttpReply};
pub use logic::{Exclusions, LogicFile, Outcomes, Pass, Reason, Report, logic_files, run_logic_files};
pub use server::{ROOT_PASSWORD, Refusal, Server, Settings, binary_path};
pub use slt::run_slt;
pub use terminal::{Place, Screen, Terminal};
pub use wait::{DEADLINE, eventually};
