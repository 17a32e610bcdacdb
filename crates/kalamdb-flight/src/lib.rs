//! Arrow Flight SQL over gRPC: translates requests into calls of `kalamdb-sql` and results into Flight messages, nothing else.
//!
//! Invariants:
//! 1. Authentication is one layer in front of every RPC; a method cannot forget it.
//! 2. gRPC status codes are made in `status` alone.
//! 3. Tickets are independent of connection and process, and bound to a principal. The one exception: many rows of RETURNING
//!    are kept by the process.
//! 4. A statement that changes something runs once: at GetFlightInfo or DoPut, never at DoGet.
//! 5. The stream of a ticket has exactly the schema that its FlightInfo stated.

mod action;
mod auth;
mod closed;
mod command;
mod connection;
mod ingest;
mod kept;
mod metadata;
mod places;
mod plan;
mod prepared;
mod proto;
mod query;
mod request;
mod service;
mod session;
mod size;
mod sql_info;
mod status;
mod stream;
mod ticket;
mod type_info;
mod upload;
mod write;

pub use auth::{SessionLease, authenticate};
pub use closed::refuse;
pub use connection::{Encryption, Socket, prepare};
pub use places::{Place, Places, Waiting};
pub use service::{FlightOptions, serve};
