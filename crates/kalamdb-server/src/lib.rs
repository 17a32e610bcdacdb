//! Reads the configuration, builds the floors bottom-up, serves both doors, and stops them top-down.
//!
//! [`serve`] is what the binary runs and what tests start in process. The HTTP door lives here; the Flight door is
//! `kalamdb-flight`. Both call the same [`kalamdb_sql::Database`].
//!
//! Invariants:
//! 1. Authentication is one layer in front of every route; a handler cannot forget it.
//! 2. No answer is ever whole in memory: rows are written as their batches come.
//! 3. Queries and writes run on a runtime of their own; the caller's serves the doors.
//! 4. Every task is owned and awaited; what is left at the end of a stop is cancelled, then cut.
//! 5. Where the store refuses writes for good, the database is opened anew behind doors that say so; the process and its addresses stay.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! let config = kalamdb_server::Config::new("./data");
//! let running = kalamdb_server::serve(config, Arc::new(kalamdb_core::SystemClock), std::future::pending()).await?;
//! println!("Flight SQL on {}, HTTP on {}", running.flight, running.http);
//! running.stop().await?;
//! # Ok(())
//! # }
//! ```

mod closed_doors;
mod command_line;
mod config;
#[cfg(test)]
mod documentation;
mod encryption;
mod floors;
mod http;
mod issuer_keys;
mod json_parameters;
mod json_rows;
mod listeners;
mod machine;
mod metrics;
mod refusal;
mod refused_writes;
mod response_body;
mod round;
mod script;
mod serve;
mod settings;
mod shell;
mod sql_command;
mod telemetry;

pub use command_line::run_command_line;
pub use config::{Config, Secret};
pub use issuer_keys::KeySource;
pub use serve::{Running, serve};
pub use telemetry::LogFormat;
