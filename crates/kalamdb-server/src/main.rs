//! The `kalamdb` binary: the allocator, and nothing else of its own.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kalamdb_server::run_command_line()
}
