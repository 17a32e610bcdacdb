//! What a statement does from its text to its outcome, against an engine in a temporary directory.

mod bugs;
mod correlated;
mod damage;
mod errors;
mod exactness;
mod extension_types;
mod far_times;
mod float_zeros;
mod intervals;
mod mixed_types;
mod parameters;
mod planning;
mod postgresql;
mod pruning;
mod qualifiers;
mod quantified;
mod queries;
mod reads;
mod repeated_names;
mod returning;
mod rights;
mod subqueries;
mod time_zones;
mod views;
mod with_before_writes;
mod writes;
