//! Random histories of one table against a plain map: writes, loads, flushes, compactions, restarts, readers at old states.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use futures::executor::block_on;
use kalamdb_histories::Random;
use parking_lot::Mutex;

use crate::testing::{
    T, TestStore, begin_change, begin_load, collect, compact_while, create, finish, flush, key, load_all, options, put,
    removal, request, schema, spec, step,
};
use crate::{DbState, Durability, OnDuplicate, ScanOrder, ScopeId, Store, StoreError, StoreOptions, TableChange};

type Model = BTreeMap<(u64, i64), String>;

/// Ids of the histories: few, so that they meet.
const IDS: u64 = 60;

struct History {
    directory: tempfile::TempDir,
    store: Option<Arc<TestStore>>,
    model: Model,
    old: Vec<(Arc<DbState<u64>>, Model)>,
    random: Random,
}

impl History {
    fn store(&self) -> &Arc<TestStore> {
        self.store.as_ref().expect("open")
    }

    fn scope(&mut self) -> ScopeId {
        ScopeId(self.random.below(3))
    }

    fn id(&mut self) -> i64 {
        self.random.below(IDS) as i64 - 30
    }

    fn step(&mut self, number: usize) -> String {
        let scope = self.scope();
        let id = self.id();
        let text = format!("{number}");
        let exists = self.model.contains_key(&(scope.0, id));
        match self.random.below(100) {
            0..30 => {
                // Insert, or update what exists.
                let mut change = request(self.store(), vec![put(T, scope, id, &text)]);
                if exists {
                    change.removals = vec![removal(&self.store().state(), T, scope, id)];
                }
                block_on(self.store().commit(change)).expect("commits");
                self.model.insert((scope.0, id), text);
                format!("put {scope} {id}")
            }
            30..50 => {
                if exists {
                    let mut change = request(self.store(), vec![]);
                    change.removals = vec![removal(&self.store().state(), T, scope, id)];
                    block_on(self.store().commit(change)).expect("commits");
                    self.model.remove(&(scope.0, id));
                }
                format!("delete {scope} {id}")
            }
            50..63 => self.load(scope, number),
            63..70 => self.change(number),
            70..80 => {
                flush(self.store());
                "flush".to_string()
            }
            80..85 => {
                compact_while(self.store(), |_, _| {});
                "compact".to_string()
            }
            85..90 => {
                compact_while(self.store(), |_, _| {
                    flush(self.store());
                });
                "compact, and flush meanwhile".to_string()
            }
            90..95 => {
                self.old.clear();
                self.store = None;
                self.store = Some(open_relaxed(self.directory.path()));
                "restart".to_string()
            }
            _ => {
                self.old.push((self.store().state(), self.model.clone()));
                "keep a reader".to_string()
            }
        }
    }

    fn load(&mut self, scope: ScopeId, number: usize) -> String {
        let (on_duplicate, ids) = self.ids_to_load();
        let meanwhile = self.meanwhile(number);
        let before = self.model.clone();
        let mut load = begin_load(self.store(), scope, on_duplicate);
        let loaded = load_all(&mut load, &ids, &format!("{number}")).and_then(|()| finish(load));
        let (others, model) = self.done_meanwhile(meanwhile);
        self.model = model;
        let (after, duplicate) = with_loaded(&self.model, on_duplicate, scope, &ids, number);
        match loaded {
            Err(StoreError::DuplicateKey { .. }) => {
                let was = with_loaded(&before, on_duplicate, scope, &ids, number).1;
                assert!(
                    (duplicate || was) && on_duplicate == OnDuplicate::Fail,
                    "{ids:?} is refused"
                );
            }
            Err(error) => panic!("{error}"),
            Ok(publication) => {
                assert!(!duplicate || on_duplicate != OnDuplicate::Fail, "{ids:?} is accepted");
                step(self.store(), vec![TableChange::Publish(publication)]).expect("publishes");
                self.model = after;
            }
        }
        format!("load {on_duplicate:?} {scope} {ids:?}, meanwhile {others:?}")
    }

    /// A large UPDATE or DELETE: rows that nobody else touches are changed, or the statement conflicts.
    fn change(&mut self, number: usize) -> String {
        let chosen = self.random.below(3) as i64;
        let there = self.model.range((0, i64::MIN)..=(0, i64::MAX)).map(|((_, id), _)| *id);
        let ids: Vec<i64> = there.filter(|id| id.rem_euclid(3) == chosen).collect();
        let replaces = self.random.below(2) == 0;
        let meanwhile = self.meanwhile(number);
        let planned = self.store().state();
        let mut load = begin_change(self.store(), &planned, &ids);
        let rows = if replaces { ids.as_slice() } else { &[] };
        let text = format!("{number}");
        let changed = load_all(&mut load, rows, &text).and_then(|()| finish(load));
        let (others, model) = self.done_meanwhile(meanwhile);
        self.model = model;
        let keys: Vec<Vec<u8>> = ids.iter().map(|&id| key(id)).collect();
        let seqs = |state: &DbState<u64>| {
            let found = state.find_all(&schema(), T, ScopeId::GLOBAL, &keys).expect("reads");
            found.into_iter().map(|found| Some(found?.row.seq)).collect::<Vec<_>>()
        };
        let touched = seqs(&planned) != seqs(&self.store().state());
        match changed {
            Err(StoreError::Conflict) => assert!(touched, "{ids:?} conflict with nobody"),
            Err(error) => panic!("{error}"),
            Ok(publication) => {
                assert!(!touched, "{ids:?} are changed although others did");
                step(self.store(), vec![TableChange::Publish(publication)]).expect("publishes");
                for id in &ids {
                    self.model.remove(&(0, *id));
                }
                self.model
                    .extend(rows.iter().map(|id| ((0, *id), format!("{number} {id}"))));
            }
        }
        format!("change {ids:?}, replaces {replaces}, meanwhile {others:?}")
    }

    fn ids_to_load(&mut self) -> (OnDuplicate, Vec<i64>) {
        let on_duplicate = match self.random.below(3) {
            0 => OnDuplicate::Fail,
            1 => OnDuplicate::Replace,
            _ => OnDuplicate::Ignore,
        };
        let count = 1 + self.random.below(12);
        (on_duplicate, (0..count).map(|_| self.id()).collect())
    }

    /// Has others do something while a load looks its keys up, and again while it follows what they did.
    fn meanwhile(&mut self, number: usize) -> Meanwhile {
        let meanwhile = Meanwhile::default();
        *meanwhile.model.lock() = self.model.clone();
        for moment in ["load-begun", "load-behind"] {
            let others: Vec<Other> = (0..self.random.below(4)).map(|_| self.other()).collect();
            let (store, meanwhile) = (Arc::downgrade(self.store()), meanwhile.clone());
            self.store().engine().at(moment, move || {
                let store = store.upgrade().expect("the load has it");
                for (index, other) in others.into_iter().enumerate() {
                    let number = 1000 * (1 + index) + number;
                    other.act(&store, &mut meanwhile.model.lock(), number);
                    meanwhile.done.lock().push(other);
                }
            });
        }
        meanwhile
    }

    fn done_meanwhile(&self, meanwhile: Meanwhile) -> (Vec<Other>, Model) {
        for moment in ["load-begun", "load-behind"] {
            self.store().engine().at(moment, || {});
        }
        let done = std::mem::take(&mut *meanwhile.done.lock());
        let model = std::mem::take(&mut *meanwhile.model.lock());
        (done, model)
    }

    fn other(&mut self) -> Other {
        let (scope, id) = (self.scope(), self.id());
        match self.random.below(10) {
            0..2 => Other::Put(scope, id),
            2..4 => Other::Delete(scope, id),
            4..6 => Other::Flush,
            6..8 => Other::Compact,
            _ => {
                let (on_duplicate, ids) = self.ids_to_load();
                Other::Load(on_duplicate, scope, ids)
            }
        }
    }

    fn check(&mut self) {
        let (low, id) = (self.id(), self.id());
        check(&self.store().state(), &self.model, low, id);
        for (state, model) in &self.old {
            check(state, model, low, id);
        }
    }
}

/// What others do while a load is under way, and what the table is with it.
#[derive(Clone, Default)]
struct Meanwhile {
    model: Arc<Mutex<Model>>,
    done: Arc<Mutex<Vec<Other>>>,
}

#[derive(Debug)]
enum Other {
    Put(ScopeId, i64),
    Delete(ScopeId, i64),
    Flush,
    Compact,
    Load(OnDuplicate, ScopeId, Vec<i64>),
}

impl Other {
    fn act(&self, store: &Arc<TestStore>, model: &mut Model, number: usize) {
        match self {
            Self::Put(scope, id) | Self::Delete(scope, id) => {
                let text = format!("{number}");
                let mut change = request(store, vec![]);
                if model.remove(&(scope.0, *id)).is_some() {
                    change.removals = vec![removal(&store.state(), T, *scope, *id)];
                }
                if let Self::Put(..) = self {
                    change.puts = vec![put(T, *scope, *id, &text)];
                    model.insert((scope.0, *id), text);
                }
                block_on(store.commit(change)).expect("commits");
            }
            Self::Flush => {
                flush(store);
            }
            Self::Compact => {
                compact_while(store, |_, _| {});
            }
            Self::Load(on_duplicate, scope, ids) => {
                let mut load = begin_load(store, *scope, *on_duplicate);
                let loaded = load_all(&mut load, ids, &format!("{number}")).and_then(|()| finish(load));
                let (after, duplicate) = with_loaded(model, *on_duplicate, *scope, ids, number);
                match loaded {
                    Ok(publication) => {
                        step(store, vec![TableChange::Publish(publication)]).expect("publishes");
                        *model = after;
                    }
                    Err(error) => assert!(duplicate, "{error}"),
                }
            }
        }
    }
}

/// The table after a load, and whether it met a key that was there.
fn with_loaded(model: &Model, on_duplicate: OnDuplicate, scope: ScopeId, ids: &[i64], number: usize) -> (Model, bool) {
    let mut after = model.clone();
    let mut duplicate = false;
    for &id in ids {
        let known = after.contains_key(&(scope.0, id));
        duplicate |= known;
        if !known || on_duplicate == OnDuplicate::Replace {
            after.insert((scope.0, id), format!("{number} {id}"));
        }
    }
    (after, duplicate)
}

fn check(state: &Arc<DbState<u64>>, model: &Model, low: i64, id: i64) {
    for scope in 0..3u64 {
        let expected: Vec<(i64, &String)> = model
            .range((scope, i64::MIN)..=(scope, i64::MAX))
            .map(|((_, id), text)| (*id, text))
            .collect();
        let scan = |from: Option<i64>, limit: Option<usize>| {
            let mut wanted = spec(T, ScopeId(scope));
            wanted.limit = limit;
            if let Some(from) = from {
                wanted.range.start = Bound::Included(key(from));
            }
            let mut rows = collect(state.scan(&schema(), wanted).expect("scans"));
            rows.sort();
            rows
        };
        let all = scan(None, None);
        assert_eq!(all.iter().map(|row| (row.0, &row.1)).collect::<Vec<_>>(), expected);
        let mut seqs: Vec<_> = all.iter().map(|row| row.2).collect();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), all.len(), "sequence numbers are unique");
        let above: Vec<_> = expected.iter().filter(|row| row.0 >= low).copied().collect();
        let found = scan(Some(low), None);
        assert_eq!(found.iter().map(|row| (row.0, &row.1)).collect::<Vec<_>>(), above);
        assert_eq!(scan(None, Some(3)).len(), expected.len().min(3));
        let limits = if id % 2 == 0 { [None, Some(4)] } else { [Some(4), None] };
        for (order, limit) in [ScanOrder::Ascending, ScanOrder::Descending].into_iter().zip(limits) {
            let mut wanted = spec(T, ScopeId(scope));
            (wanted.order, wanted.limit, wanted.batch_rows) = (order, limit, 5);
            wanted.range.start = Bound::Included(key(low));
            let mut rows = above.clone();
            if order == ScanOrder::Descending {
                rows.reverse();
            }
            rows.truncate(limit.unwrap_or(usize::MAX));
            let found = collect(state.scan(&schema(), wanted).expect("scans"));
            assert_eq!(found.iter().map(|row| (row.0, &row.1)).collect::<Vec<_>>(), rows);
        }
        let found = state.find(&schema(), T, ScopeId(scope), &key(id), 0).expect("reads");
        let row = all.iter().find(|row| row.0 == id);
        assert_eq!(found.map(|found| found.row.seq), row.map(|row| row.2));
        let got = state.get(&schema(), &spec(T, ScopeId(scope)), &key(id)).expect("reads");
        assert_eq!(got.num_rows(), usize::from(row.is_some()));
        let many: Vec<Vec<u8>> = (-30..30).rev().map(key).collect();
        let found = state.find_all(&schema(), T, ScopeId(scope), &many).expect("reads");
        for (id, found) in (-30..30).rev().zip(found) {
            let row = all.iter().find(|row| row.0 == id);
            assert_eq!(found.map(|found| found.row.seq), row.map(|row| row.2), "{id}");
        }
    }
}

/// In memory, where the machine has such a file system.
pub(crate) fn memory_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Without syncing: a history is about what is there, and the disk would set its pace.
pub(crate) fn open_relaxed(path: &std::path::Path) -> Arc<TestStore> {
    let options = StoreOptions {
        durability: Durability::Relaxed,
        ..options(path)
    };
    Store::open(options, 0, |_, _| Ok::<_, StoreError>(1)).expect("the store opens")
}

fn run(seed: u64) {
    let directory = memory_directory();
    let store = open_relaxed(directory.path());
    create(&store, T);
    let mut history = History {
        directory,
        store: Some(store),
        model: Model::new(),
        old: Vec::new(),
        random: Random::new(seed),
    };
    let mut done = Vec::new();
    for number in 0..100 {
        done.push(history.step(number));
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.check()));
        if let Err(panic) = checked {
            eprintln!("seed {seed}, after {done:#?}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn random_histories_agree_with_a_map() {
    // Few: those over the engine go through all of this too. Here the reads are those of the store itself.
    for seed in kalamdb_histories::seeds(20) {
        run(seed);
    }
}
