//! What a process does until it is killed: the same operations for the same seed, and what the tables hold after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kalamdb_histories::Random;

use crate::testing::{GLOBAL, TestStore, collect, schema, schema_of, spec};
use crate::{Lifetime, OnDuplicate, ScopeId, StoreId, StoreSchema};

/// A table without a key beside the one with.
pub(super) const KEYLESS: StoreId = StoreId(8);
/// Ids of single rows: few, so that they meet.
const IDS: u64 = 30;
pub(super) const SCOPES: u64 = 2;

/// The n-th incarnation of the table with a key.
pub(super) fn keyed(incarnation: u32) -> StoreId {
    StoreId(100 + incarnation)
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// A new incarnation of the table with a key; the first one creates the other table as well.
    Recreate,
    /// Rows with these ids, new or changed, and one without a key: one commit.
    Put(u64, Vec<i64>),
    Delete(u64, i64),
    /// Ids from a counter.
    Draw,
    /// A load up to where only its publication is left ...
    Begin(Load),
    /// ... and that.
    Publish(Load),
    /// A load of so many rows without a key.
    LoadKeyless(usize),
    Flush(During),
    Compact(During),
    /// A tidy end, and a start.
    Restart,
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) number: usize,
    pub(super) scope: u64,
    pub(super) on_duplicate: OnDuplicate,
    pub(super) ids: Vec<i64>,
}

/// So many of the next operations happen while the mover is at work: when it has read rows, or before it publishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct During {
    pub(super) operations: usize,
    pub(super) late: bool,
}

/// What the tables hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// 0 before there is a table.
    pub(super) incarnation: u32,
    pub(super) rows: BTreeMap<(u64, i64), String>,
    /// Their texts are all different.
    pub(super) keyless: BTreeSet<String>,
}

impl Model {
    /// After the first operations of a history.
    pub(super) fn after(operations: &[Operation]) -> Self {
        let mut model = Self::default();
        for (number, operation) in operations.iter().enumerate() {
            model.apply(number, operation);
        }
        model
    }

    pub(super) fn apply(&mut self, number: usize, operation: &Operation) {
        match operation {
            Operation::Recreate => {
                self.incarnation += 1;
                self.rows.clear();
            }
            Operation::Put(scope, ids) => {
                self.rows
                    .extend(ids.iter().map(|&id| ((*scope, id), number.to_string())));
                self.keyless.insert(number.to_string());
            }
            Operation::Delete(scope, id) => {
                self.rows.remove(&(*scope, *id));
            }
            Operation::Publish(load) if !self.refuses(load) => {
                for &id in &load.ids {
                    let known = self.rows.contains_key(&(load.scope, id));
                    if !known || load.on_duplicate == OnDuplicate::Replace {
                        self.rows.insert((load.scope, id), format!("{} {id}", load.number));
                    }
                }
            }
            Operation::LoadKeyless(rows) => {
                self.keyless.extend((0..*rows).map(|row| format!("{number} {row}")));
            }
            Operation::Publish(_)
            | Operation::Begin(_)
            | Operation::Draw
            | Operation::Flush(_)
            | Operation::Compact(_)
            | Operation::Restart => {}
        }
    }

    /// Whether a load has a duplicate and does not take it.
    pub(super) fn refuses(&self, load: &Load) -> bool {
        let distinct: BTreeSet<i64> = load.ids.iter().copied().collect();
        let duplicate =
            distinct.len() < load.ids.len() || distinct.iter().any(|&id| self.rows.contains_key(&(load.scope, id)));
        duplicate && load.on_duplicate == OnDuplicate::Fail
    }

    /// What an open store holds.
    pub(super) fn read(store: &TestStore) -> Self {
        let state = store.state();
        let mut found = Self::default();
        for table in state.tables().keys().filter(|&&table| table != KEYLESS) {
            assert_eq!(found.incarnation, 0, "one table is there at a time");
            found.incarnation = table.0 - keyed(0).0;
            for scope in 0..SCOPES {
                let scan = state.scan(&schema(), spec(*table, ScopeId(scope))).expect("scans");
                for (id, text, _) in collect(scan) {
                    let before = found.rows.insert((scope, id), text);
                    assert_eq!(before, None, "{id} of scope {scope} is there twice");
                }
            }
        }
        assert_eq!(found.incarnation > 0, state.table(KEYLESS).is_some());
        if found.incarnation > 0 {
            let scan = state.scan(&keyless_schema(), spec(KEYLESS, GLOBAL)).expect("scans");
            for (_, text, _) in collect(scan) {
                assert!(found.keyless.insert(text.clone()), "'{text}' is there twice");
            }
        }
        found
    }
}

pub(super) fn keyless_schema() -> Arc<StoreSchema> {
    schema_of(Lifetime::Durable, vec![])
}

/// The history of a seed. Its order is the same for all seeds, so that it comes to every point; ids and scopes are not.
pub(super) fn operations(seed: u64) -> Vec<Operation> {
    let mut making = Making {
        random: Random::new(seed),
        model: Model::default(),
        operations: Vec::new(),
    };
    making.add(Operation::Recreate);
    making.add(Operation::Draw);
    making.puts(4);
    making.flush(false, |making| making.puts(1));
    making.puts(2);
    making.delete();
    making.flush(true, |making| {
        making.delete();
        making.puts(2);
    });
    making.delete();
    making.load(OnDuplicate::Ignore, (0..12).rev(), 1);
    making.load(OnDuplicate::Replace, 8..20, 1);
    making.load(OnDuplicate::Fail, 5..45, 0);
    making.load(OnDuplicate::Fail, 100..110, 1);
    // More than is gathered to be sorted at once, in an order that is none; more than one segment.
    making.load(OnDuplicate::Fail, (0..2600).map(|id| 1000 + id * 7 % 2600), 0);
    making.add(Operation::LoadKeyless(5));
    making.puts(2);
    making.compact(false, |making| {
        making.delete();
        making.puts(1);
        // A flush does not wait for it.
        making.flush(false, |_| {});
        making.puts(1);
    });
    making.flush(false, |_| {});
    making.delete();
    making.puts(1);
    making.compact(true, |making| {
        making.puts(1);
        making.delete();
    });
    making.add(Operation::Restart);
    // More rows than are deleted one by one when they are flushed.
    making.add(Operation::Put(0, (5000..6200).collect()));
    making.delete();
    making.add(Operation::Draw);
    making.flush(true, |making| making.puts(1));
    making.puts(1);
    making.add(Operation::Recreate);
    making.puts(2);
    making.load(OnDuplicate::Replace, 0..10, 0);
    making.flush(false, |_| {});
    making.delete();
    making.add(Operation::LoadKeyless(3));
    making.compact(false, |_| {});
    making.add(Operation::Restart);
    making.puts(1);
    making.operations
}

struct Making {
    random: Random,
    model: Model,
    operations: Vec<Operation>,
}

impl Making {
    fn add(&mut self, operation: Operation) {
        self.model.apply(self.operations.len(), &operation);
        self.operations.push(operation);
    }

    fn puts(&mut self, count: usize) {
        for _ in 0..count {
            let scope = self.random.below(SCOPES);
            let ids: BTreeSet<i64> = (0..3).map(|_| self.random.below(IDS) as i64).collect();
            self.add(Operation::Put(scope, ids.into_iter().collect()));
        }
    }

    fn delete(&mut self) {
        let rows: Vec<(u64, i64)> = self.model.rows.keys().copied().collect();
        let (scope, id) = rows[self.random.below(rows.len() as u64) as usize];
        self.add(Operation::Delete(scope, id));
    }

    fn load(&mut self, on_duplicate: OnDuplicate, ids: impl Iterator<Item = i64>, puts: usize) {
        let load = Load {
            number: self.operations.len(),
            scope: self.random.below(SCOPES),
            on_duplicate,
            ids: ids.collect(),
        };
        self.add(Operation::Begin(load.clone()));
        self.puts(puts);
        self.add(Operation::Publish(load));
    }

    fn during(&mut self, operations: impl FnOnce(&mut Self)) -> (usize, usize) {
        let at = self.operations.len();
        // The place of the mover itself.
        self.add(Operation::Draw);
        operations(self);
        (at, self.operations.len() - at - 1)
    }

    fn flush(&mut self, late: bool, operations: impl FnOnce(&mut Self)) {
        let (at, operations) = self.during(operations);
        self.operations[at] = Operation::Flush(During { operations, late });
    }

    fn compact(&mut self, late: bool, operations: impl FnOnce(&mut Self)) {
        let (at, operations) = self.during(operations);
        self.operations[at] = Operation::Compact(During { operations, late });
    }
}
