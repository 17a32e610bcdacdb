//! Tests of a disk that fails for a while: the error says so, nothing is lost or doubled, and afterwards all goes on.

mod disk;
mod refused;
mod syncs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;

use crate::crashes::records;
use crate::testing::{
    GLOBAL, Meanwhile, T, TestStore, begin_load, delete, flush, insert, load_all, rows, schema, segment_files,
    segment_options, step, update,
};
use crate::{CommitError, OnDuplicate, Publication, StoreError, TableChange};

/// Hot rows, and cold ones in two runs, some of them deleted.
fn fill(store: &Arc<TestStore>) {
    for run in 0..2 {
        for id in 0..6 {
            insert(store, T, 10 * run + id, "cold").expect("commits");
        }
        flush(store);
    }
    delete(store, 3).expect("commits");
    for id in [4, 14] {
        update(store, id, "hot").expect("commits");
    }
    insert(store, T, 20, "hot").expect("commits");
}

fn all(store: &TestStore) -> BTreeMap<i64, String> {
    let all = rows(&store.state(), T, GLOBAL);
    let count = all.len();
    let all: BTreeMap<i64, String> = all.into_iter().collect();
    assert_eq!(all.len(), count, "a key is there twice");
    all
}

/// What writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Commit,
    Flush,
    Load,
    Compact,
}

const WORK: [Work; 4] = [Work::Commit, Work::Flush, Work::Load, Work::Compact];

impl Work {
    /// Does it, and `meanwhile` when only its publication is left.
    fn run(self, store: &Arc<TestStore>, meanwhile: impl Fn() + Sync) -> Result<(), String> {
        let progress = Meanwhile(|_, bytes| {
            if bytes > 0 {
                meanwhile();
            }
        });
        let words = |error: StoreError| error.to_string();
        let commit_words = |error: CommitError| error.to_string();
        match self {
            Self::Commit => {
                meanwhile();
                insert(store, T, 50, "written").map(|_| ()).map_err(commit_words)
            }
            Self::Flush => store
                .flush(T, &schema(), &segment_options(), &progress)
                .map(|_| ())
                .map_err(words),
            Self::Compact => store
                .compact(T, &schema(), &segment_options(), true, &progress)
                .map(|_| ())
                .map_err(words),
            Self::Load => {
                let publication = load(store).map_err(words)?;
                meanwhile();
                let published = step(store, vec![TableChange::Publish(publication)]);
                published.map(|_| ()).map_err(commit_words)
            }
        }
    }

    /// What the table holds afterwards.
    fn after(self, mut rows: BTreeMap<i64, String>) -> BTreeMap<i64, String> {
        match self {
            Self::Commit => {
                rows.insert(50, "written".to_string());
            }
            Self::Load => rows.extend((100..110).map(|id| (id, format!("loaded {id}")))),
            Self::Flush | Self::Compact => {}
        }
        rows
    }
}

fn load(store: &Arc<TestStore>) -> Result<Arc<Publication>, StoreError> {
    let mut load = begin_load(store, GLOBAL, OnDuplicate::Fail);
    load_all(&mut load, &(100..110).collect::<Vec<_>>(), "loaded")?;
    block_on(load.finish())
}

/// Every file is named by the manifest, or noted as one that goes at the next start if the manifest does not name it then; and
/// none that the manifest names is missing.
fn check_files(store: &TestStore, directory: &Path) {
    store.wait_for_eraser();
    let files = segment_files(directory);
    let noted = records(store, "file/").join("\n");
    let segments = store.state().segments(T).expect("reads");
    let named: Vec<_> = segments
        .iter()
        .map(|(entry, _)| directory.join("segments").join(&entry.path))
        .collect();
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(named.contains(file) || noted.contains(&*name), "{file:?} is nobody's");
    }
    for file in named {
        assert!(files.contains(&file), "{file:?} is missing");
    }
}
