//! Compiles the protocol's messages of `proto/` without needing `protoc`.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 3] = [
    "kalamdb_flight.proto",
    "flight_session.proto",
    "flight_sql_prepared.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    // Below this package, which is where cargo runs this: a target directory that several checkouts share may have this program,
    // and what it made, from another one.
    let directory = Path::new("../../proto");
    let files = FILES.map(|file| directory.join(file));
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&directory])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
