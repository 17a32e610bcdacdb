//! Carries a history out, and writes down how far it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::executor::block_on;
use parking_lot::Mutex;

use crate::crashes::history::{During, KEYLESS, Load, Model, Operation, keyed, keyless_schema};
use crate::testing::{
    GLOBAL, Meanwhile, TestStore, VERSION, claim, columns, load_all, options, put, removal, request, schema,
    segment_options, step,
};
use crate::{
    BulkLoad, Counter, Durability, Lifetime, OnDuplicate, Progress, Publication, Put, PutKey, RowEncoder, ScopeId,
    Store, StoreError, StoreId, StoreOptions, TableChange, TableVersion,
};

/// See above.
pub(super) struct Runner {
    directory: PathBuf,
    durability: Durability,
    operations: Vec<Operation>,
    /// Where each operation is written down, before and after it.
    log: Option<File>,
    store: Mutex<Option<Arc<TestStore>>>,
    model: Mutex<Model>,
    next: AtomicUsize,
    /// What a load has to publish; nothing if it was refused.
    loaded: Mutex<Option<Option<Arc<Publication>>>>,
}

impl Runner {
    /// Goes on with an open store that holds what the first `done` operations made.
    pub(super) fn new(
        directory: &Path,
        durability: Durability,
        store: Arc<TestStore>,
        operations: Vec<Operation>,
        done: usize,
    ) -> Self {
        Self {
            directory: directory.to_path_buf(),
            durability,
            log: None,
            store: Mutex::new(Some(store)),
            model: Mutex::new(Model::after(&operations[..done])),
            next: AtomicUsize::new(done),
            operations,
            loaded: Mutex::new(None),
        }
    }

    pub(super) fn with_log(mut self, log: File) -> Self {
        self.log = Some(log);
        self
    }

    /// Up to the operation of this number, or to the end.
    pub(super) fn run(&self, until: usize) {
        while self.next.load(Ordering::Relaxed) < until.min(self.operations.len()) {
            self.one();
        }
    }

    /// Flushes and merges all that there is.
    pub(super) fn move_everything(&self) {
        // No mover can publish before a load that is ready to.
        while self.loaded.lock().is_some() {
            self.one();
        }
        let nothing = During {
            operations: 0,
            late: false,
        };
        // A table may not be there yet.
        if self.model.lock().incarnation > 0 {
            let last = self.next.load(Ordering::Relaxed) - 1;
            self.perform(last, &Operation::Flush(nothing));
            self.perform(last, &Operation::Compact(nothing));
        }
    }

    /// The store, and what it holds.
    pub(super) fn end(self) -> (Arc<TestStore>, Model) {
        (self.store(), self.model.into_inner())
    }

    fn store(&self) -> Arc<TestStore> {
        self.store.lock().clone().expect("open")
    }

    fn one(&self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let operation = &self.operations[number];
        self.note(format!("begun {number}\n"));
        let syncs = self.store().statistics().log_syncs;
        let drawn = self.perform(number, operation);
        self.model.lock().apply(number, operation);
        let store = self.store();
        let synced = store.statistics().log_syncs > syncs;
        self.note(format!("done {number} {} {drawn} {synced}\n", store.state().seq()));
    }

    /// In one write, so that a line is there whole or not at all.
    fn note(&self, line: String) {
        if let Some(mut log) = self.log.as_ref() {
            log.write_all(line.as_bytes()).expect("written down");
        }
    }

    /// The largest id that it drew.
    fn perform(&self, number: usize, operation: &Operation) -> u64 {
        let store = self.store();
        let table = keyed(self.model.lock().incarnation);
        match operation {
            Operation::Recreate => {
                let version = || TableVersion::new(VERSION, Lifetime::Durable);
                let first = match store.state().table(table) {
                    Some(_) => TableChange::Retire(table),
                    None => TableChange::Create(KEYLESS, version()),
                };
                let next = TableChange::Create(StoreId(table.0 + 1), version());
                step(&store, vec![first, next]).expect("commits");
            }
            Operation::Put(scope, ids) => self.put(&store, table, number, ScopeId(*scope), ids),
            Operation::Delete(scope, id) => {
                if self.model.lock().rows.contains_key(&(*scope, *id)) {
                    let mut change = request(&store, vec![]);
                    change.removals = vec![removal(&store.state(), table, ScopeId(*scope), *id)];
                    block_on(store.commit(change)).expect("commits");
                }
            }
            Operation::Draw => {
                let drawn: Vec<u64> = (0..40).map(|_| store.next_id(Counter::Scope).expect("an id")).collect();
                assert!(drawn.is_sorted());
                return drawn[39];
            }
            Operation::Begin(load) => *self.loaded.lock() = Some(self.load(&store, table, load)),
            Operation::Publish(load) => {
                let loaded = self.loaded.lock().take();
                let loaded = loaded.unwrap_or_else(|| self.load(&store, table, load));
                let published = loaded.map(|publication| step(&store, vec![TableChange::Publish(publication)]));
                let refused = !matches!(published, Some(Ok(_)));
                assert_eq!(refused, self.model.lock().refuses(load), "{load:?}: {published:?}");
            }
            Operation::LoadKeyless(rows) => {
                let (schema, options) = (keyless_schema(), segment_options());
                let mut load = BulkLoad::begin(&store, KEYLESS, GLOBAL, &schema, &options, OnDuplicate::Fail, false)
                    .expect("begins");
                let ids: Vec<i64> = (0..*rows as i64).collect();
                load_all(&mut load, &ids, &number.to_string()).expect("writes");
                let publication = block_on(load.finish()).expect("finishes");
                step(&store, vec![TableChange::Publish(publication)]).expect("publishes");
            }
            Operation::Flush(during) => {
                self.moving(number, *during, |progress| {
                    store.flush(table, &schema(), &segment_options(), progress)
                });
                self.moving(number, *during, |progress| {
                    store.flush(KEYLESS, &keyless_schema(), &segment_options(), progress)
                });
            }
            Operation::Compact(during) => {
                self.moving(number, *during, |progress| {
                    store.compact(table, &schema(), &segment_options(), true, progress)
                });
                self.moving(number, *during, |progress| {
                    store.compact(KEYLESS, &keyless_schema(), &segment_options(), true, progress)
                });
            }
            Operation::Restart => {
                drop(store);
                *self.store.lock() = None;
                *self.store.lock() = Some(open_as(&self.directory, self.durability));
            }
        }
        0
    }

    fn put(&self, store: &TestStore, table: StoreId, number: usize, scope: ScopeId, ids: &[i64]) {
        let text = number.to_string();
        let mut puts: Vec<Put> = ids.iter().map(|&id| put(table, scope, id, &text)).collect();
        let encoder = RowEncoder::new(keyless_schema()).expect("a schema");
        puts.push(Put {
            store: KEYLESS,
            scope: GLOBAL,
            key: PutKey::RowId,
            value: encoder.encode(&columns(0, &text), 0, None).expect("encodes"),
        });
        let mut change = request(store, puts);
        change.tables = vec![claim(table, scope), claim(KEYLESS, GLOBAL)];
        let model = self.model.lock();
        let known = ids.iter().filter(|&&id| model.rows.contains_key(&(scope.0, id)));
        change.removals = known.map(|&id| removal(&store.state(), table, scope, id)).collect();
        drop(model);
        block_on(store.commit(change)).expect("commits");
    }

    fn load(&self, store: &Arc<TestStore>, table: StoreId, load: &Load) -> Option<Arc<Publication>> {
        let (schema, options) = (schema(), segment_options());
        let mut bulk = BulkLoad::begin(
            store,
            table,
            ScopeId(load.scope),
            &schema,
            &options,
            load.on_duplicate,
            false,
        )
        .expect("begins");
        let text = load.number.to_string();
        let written = load.ids.chunks(400).try_for_each(|ids| load_all(&mut bulk, ids, &text));
        match written.and_then(|()| block_on(bulk.finish())) {
            Ok(publication) => Some(publication),
            Err(StoreError::DuplicateKey { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Moves rows, and meanwhile does the operations after this one that belong there, or afterwards if it was too quick.
    fn moving<T>(&self, number: usize, during: During, mover: impl FnOnce(&dyn Progress) -> Result<T, StoreError>) {
        let end = number + 1 + during.operations;
        let meanwhile = Meanwhile(|_, bytes| {
            if (bytes > 0) == during.late {
                self.run(end);
            }
        });
        mover(&meanwhile).expect("moves");
        self.run(end);
    }
}

pub(super) fn open_as(path: &Path, durability: Durability) -> Arc<TestStore> {
    let options = StoreOptions {
        durability,
        ..options(path)
    };
    Store::open(options, 0, |_, _| Ok::<_, StoreError>(1)).expect("the store opens")
}

/// What a process wrote down before it died.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Log {
    /// So many operations are acknowledged; those before them are, too.
    pub(super) done: usize,
    /// So many are begun.
    pub(super) begun: usize,
    /// So many are acknowledged and behind them the log was synced, whatever the durability.
    pub(super) synced: usize,
    /// What the last acknowledged one left.
    pub(super) seq: u64,
    /// The largest id drawn.
    pub(super) drawn: u64,
}

impl Log {
    pub(super) fn read(path: &Path) -> Self {
        let mut log = Self::default();
        let mut done_before = BTreeMap::new();
        let Ok(text) = std::fs::read_to_string(path) else {
            return log;
        };
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().expect("a number");
            let operation = number(1) as usize;
            match words[0] {
                "begun" => {
                    done_before.insert(operation, log.done);
                    log.begun = log.begun.max(operation + 1);
                }
                _ => {
                    log.done = log.done.max(operation + 1);
                    log.seq = log.seq.max(number(2));
                    log.drawn = log.drawn.max(number(3));
                    if words[4] == "true" {
                        log.synced = log.synced.max(done_before[&operation]);
                    }
                }
            }
        }
        log
    }
}
