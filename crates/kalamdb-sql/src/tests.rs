//! What a statement does from its text to its outcome, against an engine in a temporary directory.

mod errors;
mod parameters;
mod queries;
mod reads;
mod returning;
mod views;
mod writes;
