//! Which step comes next: drawn from a mix, and such that it meets what the tables hold.

use crate::model::Model;
use crate::operation::{Change, Duplicates, Filter, Kind, Operation, Outcome, Shape};
use crate::random::Random;
use crate::runs::{TABLES, USERS};

/// Where a history is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Over the engine, whose clock and schedule the test drives.
    Engine,
    /// Over the wire, where the test drives the clock alone.
    Wire,
}

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// 1 to 4 rows, and a duplicate is an error.
    Insert,
    /// The same, where a duplicate replaces or is dropped.
    Upsert,
    /// A bulk load of 1 to 16 rows, with every way of meeting duplicates.
    Load,
    /// By key, by a range of keys, by text, or all: new texts, other keys, or both.
    Update,
    /// The same as a large statement.
    LargeUpdate,
    Delete,
    LargeDelete,
    Flush,
    Compact,
    /// It may still run while the next steps are done.
    FlushMeanwhile,
    CompactMeanwhile,
    Truncate,
    Drop,
    /// One that was dropped, or another in the place of one that is there; with rows or without.
    Create,
    ReplaceUser,
    Restart,
    Advance,
    Tend,
    KeepReader,
}

/// The mix: how many of a thousand steps are of a kind, over the engine and over the wire. A step that needs a table makes one
/// where there is none.
const MIX: &[(Act, u64, u64)] = &[
    (Act::Insert, 160, 180),
    (Act::Upsert, 80, 90),
    (Act::Load, 100, 10),
    (Act::Update, 120, 160),
    (Act::LargeUpdate, 30, 12),
    (Act::Delete, 90, 110),
    (Act::LargeDelete, 20, 8),
    (Act::Flush, 90, 90),
    (Act::Compact, 40, 55),
    (Act::FlushMeanwhile, 40, 50),
    (Act::CompactMeanwhile, 20, 30),
    (Act::Truncate, 12, 12),
    (Act::Drop, 12, 12),
    (Act::Create, 26, 26),
    (Act::ReplaceUser, 10, 10),
    (Act::Restart, 10, 10),
    (Act::Advance, 60, 60),
    (Act::Tend, 30, 0),
    (Act::KeepReader, 50, 75),
];

/// Ids are few, so that they meet.
const IDS: i64 = 24;
/// Rows of a bulk load at most.
const MOST_LOADED: u64 = 16;
/// A STREAM row's life: what passes at once is at most a good third of it.
const TTL_SECONDS: i64 = 16;
const MOST_PASSED_MICROS: i64 = 6_000_000;
/// The rows that some STREAM tables keep of a user.
const MAX_ROWS: usize = 6;
/// The hot rows after which some tables are flushed by themselves.
const FLUSH_ROWS: u64 = 9;

/// A history under way. Dropped by a panic, it tells what was done.
#[derive(Debug)]
pub struct History {
    place: Place,
    seed: u64,
    random: Random,
    model: Model,
    done: Vec<Operation>,
}

/// What to read and compare, beside everything.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Of which table, which may not exist.
    pub table: usize,
    /// As whom.
    pub user: usize,
    /// A row, which may not exist.
    pub point: Filter,
    /// A range of ids.
    pub range: Filter,
    /// Texts from one on.
    pub texts: Filter,
    /// How many rows to ask for at most.
    pub limit: usize,
    /// In how many parts to read everything.
    pub parts: usize,
}

impl History {
    /// The history of a seed; it begins at this time.
    pub fn new(place: Place, seed: u64, now_micros: i64) -> Self {
        Self {
            place,
            seed,
            random: Random::new(seed),
            model: Model::new(now_micros),
            done: Vec::new(),
        }
    }

    /// What the tables hold after the steps so far.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The next step, and how it has to end.
    pub fn step(&mut self) -> (Operation, Outcome) {
        let operation = self.next();
        let outcome = self.model.apply(&operation);
        self.done.push(operation.clone());
        (operation, outcome)
    }

    /// What to compare after a step: what it touched and, second, anything at all.
    pub fn probes(&mut self, operation: &Operation) -> [Probe; 2] {
        let table = operation.table();
        let user = operation.user();
        [self.probe(table, user), self.probe(None, None)]
    }

    /// What to compare of a table and a user.
    pub fn probe(&mut self, table: Option<usize>, user: Option<usize>) -> Probe {
        let table = table.unwrap_or_else(|| self.random.index(TABLES));
        let user = user.unwrap_or_else(|| self.random.index(USERS));
        let low = self.some_id(table, user);
        Probe {
            table,
            user,
            point: Filter::Id(self.some_id(table, user)),
            range: Filter::Ids(low, low + self.random.between(0, IDS / 2)),
            texts: Filter::TextFrom(self.letter().to_string()),
            limit: self.random.index(5),
            parts: 1 + self.random.index(3),
        }
    }

    fn next(&mut self) -> Operation {
        if self.done.len() < TABLES {
            return self.create(self.done.len());
        }
        let weight = |&(_, engine, wire): &(Act, u64, u64)| match self.place {
            Place::Engine => engine,
            Place::Wire => wire,
        };
        let weights: Vec<u64> = MIX.iter().map(weight).collect();
        let mut drawn = self.random.below(weights.iter().sum());
        for ((act, ..), weight) in MIX.iter().zip(weights) {
            if drawn < weight {
                return self.act(*act);
            }
            drawn -= weight;
        }
        unreachable!("what is drawn is below the sum of the weights")
    }

    fn act(&mut self, act: Act) -> Operation {
        match act {
            Act::Advance => {
                return Operation::Advance {
                    micros: self.random.between(1, MOST_PASSED_MICROS),
                };
            }
            Act::ReplaceUser => {
                return Operation::ReplaceUser {
                    user: 1 + self.random.index(USERS - 1),
                };
            }
            Act::Restart => return Operation::Restart,
            Act::Tend => return Operation::Tend,
            Act::KeepReader => return Operation::KeepReader,
            Act::Create => {
                let missing = (0..TABLES).find(|&table| self.model.table(table).is_none());
                let table = missing.unwrap_or_else(|| self.random.index(TABLES));
                return self.create(table);
            }
            Act::Insert
            | Act::Upsert
            | Act::Load
            | Act::Update
            | Act::LargeUpdate
            | Act::Delete
            | Act::LargeDelete
            | Act::Flush
            | Act::Compact
            | Act::FlushMeanwhile
            | Act::CompactMeanwhile
            | Act::Truncate
            | Act::Drop => {}
        }
        let flushes = matches!(
            act,
            Act::Flush | Act::Compact | Act::FlushMeanwhile | Act::CompactMeanwhile | Act::Load
        );
        let tables: Vec<usize> = (0..TABLES)
            .filter(|&table| {
                let table = self.model.table(table);
                table.is_some_and(|table| table.shape().flushes() || !flushes)
            })
            .collect();
        let Some(&table) = tables.get(self.random.index(tables.len().max(1))) else {
            let table = self.random.index(TABLES);
            return self.create(table);
        };
        let user = self.random.index(USERS);
        let bulk = matches!(act, Act::Load | Act::LargeUpdate | Act::LargeDelete);
        match act {
            Act::Insert => {
                let count = 1 + self.random.below(4);
                self.insert(table, user, count, Duplicates::Refused, bulk)
            }
            Act::Upsert => {
                let count = 1 + self.random.below(4);
                let duplicates = [Duplicates::Replace, Duplicates::Ignore][self.random.index(2)];
                self.insert(table, user, count, duplicates, bulk)
            }
            Act::Load => {
                let count = 1 + self.random.below(MOST_LOADED);
                let all = [Duplicates::Refused, Duplicates::Replace, Duplicates::Ignore];
                let duplicates = all[self.random.index(all.len())];
                self.insert(table, user, count, duplicates, bulk)
            }
            Act::Update | Act::LargeUpdate => self.update(table, user, bulk),
            Act::Delete | Act::LargeDelete => Operation::Delete {
                table,
                user,
                filter: self.filter(table, user),
                bulk,
            },
            Act::Flush => Operation::Flush { table, waits: true },
            Act::FlushMeanwhile => Operation::Flush { table, waits: false },
            Act::Compact => Operation::Compact { table, waits: true },
            Act::CompactMeanwhile => Operation::Compact { table, waits: false },
            Act::Truncate => Operation::Truncate { table },
            Act::Drop => Operation::Drop { table },
            Act::Create | Act::ReplaceUser | Act::Restart | Act::Advance | Act::Tend | Act::KeepReader => {
                unreachable!("these need no table")
            }
        }
    }

    fn insert(&mut self, table: usize, user: usize, count: u64, duplicates: Duplicates, bulk: bool) -> Operation {
        // New ids mostly, where a duplicate ends it; anything else is a duplicate soon enough.
        let rows = (0..count)
            .map(|number| {
                let mut id = self.random_id();
                if duplicates == Duplicates::Refused && self.exists(table, user, id) && self.random.percent(80) {
                    id = self.random_id();
                }
                (id, self.text(number))
            })
            .collect();
        Operation::Insert {
            table,
            user,
            rows,
            duplicates,
            bulk,
        }
    }

    fn update(&mut self, table: usize, user: usize, bulk: bool) -> Operation {
        let keeps_newest = self
            .model
            .table(table)
            .is_some_and(|table| table.shape().max_rows.is_some());
        let filter = if keeps_newest {
            // Which of several changed rows is the oldest then is nobody's business.
            Filter::Id(self.some_id(table, user))
        } else {
            self.filter(table, user)
        };
        let shift = if self.random.percent(30) {
            self.random.between(-2, 3)
        } else {
            0
        };
        let text = (shift == 0 || self.random.percent(50)).then(|| self.text(0));
        Operation::Update {
            table,
            user,
            filter,
            change: Change { shift, text },
            bulk,
        }
    }

    fn create(&mut self, table: usize) -> Operation {
        let kinds = [Kind::Shared, Kind::User, Kind::Stream];
        // A history begins with one of each.
        let kind = match self.done.len() {
            first if first < TABLES => kinds[first % kinds.len()],
            _ => kinds[self.random.index(kinds.len())],
        };
        let is_stream = kind == Kind::Stream;
        let shape = Shape {
            kind,
            keyed: self.random.percent(80),
            ttl_seconds: is_stream.then_some(TTL_SECONDS),
            max_rows: (is_stream && self.random.percent(30)).then_some(MAX_ROWS),
            flush_rows: (!is_stream && self.random.percent(40)).then_some(FLUSH_ROWS),
        };
        let first = self.random_id();
        let count = if self.random.percent(40) {
            self.random.below(MOST_LOADED)
        } else {
            0
        };
        let rows = (0..count)
            .map(|number| (first + i64::try_from(number).unwrap_or(0), self.text(number)))
            .collect();
        Operation::Create {
            table,
            shape,
            rows,
            bulk: self.place == Place::Engine && self.random.percent(50),
        }
    }

    fn filter(&mut self, table: usize, user: usize) -> Filter {
        match self.random.below(100) {
            0..55 => Filter::Id(self.some_id(table, user)),
            55..80 => {
                let low = self.some_id(table, user);
                Filter::Ids(low, low + self.random.between(0, IDS / 3))
            }
            80..92 => Filter::TextFrom(self.letter().to_string()),
            _ => Filter::All,
        }
    }

    /// An id that exists, most of the time.
    fn some_id(&mut self, table: usize, user: usize) -> i64 {
        let rows = match self.model.table(table) {
            Some(_) if self.random.percent(75) => self.model.rows(table, user, &Filter::All),
            Some(_) | None => Vec::new(),
        };
        match rows.len() {
            0 => self.random_id(),
            count => rows[self.random.index(count)].0,
        }
    }

    fn random_id(&mut self) -> i64 {
        self.random.between(-IDS / 2, IDS / 2)
    }

    fn exists(&self, table: usize, user: usize, id: i64) -> bool {
        !self.model.rows(table, user, &Filter::Id(id)).is_empty()
    }

    fn letter(&mut self) -> char {
        char::from(b'a' + u8::try_from(self.random.below(8)).unwrap_or(0))
    }

    /// A text that no other step and no other row of this one has.
    fn text(&mut self, number: u64) -> String {
        format!("{}{}.{number}", self.letter(), self.done.len())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history {} did, the last of which failed:", self.seed);
            for (step, operation) in self.done.iter().enumerate() {
                eprintln!("{step:3} {operation:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_history_and_all_steps_come() {
        assert_eq!(MIX.iter().map(|act| act.1).sum::<u64>(), 1_000);
        assert_eq!(MIX.iter().map(|act| act.2).sum::<u64>(), 1_000);
        for place in [Place::Engine, Place::Wire] {
            let mut seen = [false; 16];
            let mut refused = 0;
            for seed in 0..40 {
                let mut one = History::new(place, seed, 0);
                let mut again = History::new(place, seed, 0);
                for _ in 0..crate::LENGTH {
                    let (operation, outcome) = one.step();
                    assert_eq!(again.step(), (operation.clone(), outcome));
                    again.probes(&operation);
                    one.probes(&operation);
                    refused += usize::from(outcome == Outcome::DuplicateKey);
                    seen[number(&operation)] = true;
                }
            }
            let tend = number(&Operation::Tend);
            for (number, seen) in seen.iter().enumerate() {
                assert_eq!(*seen, place == Place::Engine || number != tend, "{place:?} {number}");
            }
            assert!(refused > 40, "{refused}");
        }
    }

    fn number(operation: &Operation) -> usize {
        match operation {
            Operation::Insert { bulk: false, .. } => 0,
            Operation::Insert { bulk: true, .. } => 1,
            Operation::Update { bulk: false, .. } => 2,
            Operation::Delete { bulk: false, .. } => 3,
            Operation::Update { bulk: true, .. } => 14,
            Operation::Delete { bulk: true, .. } => 15,
            Operation::Flush { .. } => 4,
            Operation::Compact { .. } => 5,
            Operation::Truncate { .. } => 6,
            Operation::Drop { .. } => 7,
            Operation::Create { .. } => 8,
            Operation::ReplaceUser { .. } => 9,
            Operation::Restart => 10,
            Operation::Advance { .. } => 11,
            Operation::Tend => 12,
            Operation::KeepReader => 13,
        }
    }
}
