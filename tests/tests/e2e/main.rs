//! End-to-end tests: one binary, so that the server's libraries are linked once.
//!
//! What SQL can see is in `slt/*.slt`; the modules here hold what it cannot.

mod tidy;

mod slt;

mod batches;
mod disk_fault;
mod writers;

mod attack;
mod broken_disk;
mod command_line;
mod commits;
mod concurrency;
mod connections;
mod crash;
mod crash_mix;
mod crash_of_movers;
mod credentials;
mod datafusion_logic;
mod docs;
mod endless;
mod histories;
mod http;
mod isolation;
mod load;
mod memory;
mod metadata;
mod old_snapshots;
mod operations;
mod preloaded;
mod quotas;
mod reach;
mod refusals;
mod restart;
mod rights;
mod shell;
mod shell_scripts;
mod shell_sessions;
mod shell_tls;
mod storages_away;
mod stream_lifetime;
mod visibility;
