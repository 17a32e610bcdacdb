//! One test per file of `tests/slt`, each against a server of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

macro_rules! slt_files {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                kalamdb_tests::run_slt(&directory().join(concat!(stringify!($name), ".slt"))).await;
            }
        )*

        #[test]
        fn every_file_is_run() {
            let run: BTreeSet<String> = [$(concat!(stringify!($name), ".slt")),*].map(str::to_owned).into();
            let entries = std::fs::read_dir(directory()).expect("the directory can be read");
            let found: BTreeSet<String> = entries
                .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
                .collect();
            assert_eq!(run, found);
        }
    };
}

slt_files!(
    create_as,
    every_table_type,
    flush,
    json_and_uuid,
    literals,
    names,
    namespaces,
    operations,
    refused,
    returning,
    rights,
    rows,
    select,
    show,
    storages,
    system_columns,
    system_tables,
    tables,
    users,
    views,
);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("slt")
}
