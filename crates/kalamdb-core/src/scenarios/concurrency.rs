//! Writers, loads, flushes, compactions and readers of one table at once. Every commit preserves the sum of all amounts and the
//! count of rows, so that whoever reads anything else has read two moments, or a row twice or never.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use futures::executor::block_on;
use kalamdb_histories::{Filter, Random};

use super::filters::{batches, find, request, rows_of};
use super::histories::append;
use super::*;
use crate::testing::{Database, ROOT_PASSWORD, START, batch, memory_directory};

/// Rows between which amounts go to and fro, two in a statement, or all of them in a large one.
const ACCOUNTS: Block = Block { first: 0, rows: 60 };
/// Rows that bulk loads replace, all at once.
const LOADED: Block = Block {
    first: 1_000,
    rows: 200,
};
/// Rows that large statements give other keys, all at once.
const MOVED: Block = Block { first: 2_000, rows: 40 };

const TRANSFERS: usize = 150;
/// So many transfers come before a large one.
const TRANSFERS_BETWEEN: usize = 12;
const LOADS: i64 = 12;
const MOVES: usize = 12;
const FLUSHES: usize = 8;
const READS: usize = 8;

#[derive(Clone, Copy)]
struct Block {
    first: i64,
    rows: i64,
}

impl Block {
    /// Where its ids are at any time: they move by one.
    fn ids(self) -> Filter {
        Filter::Ids(self.first, self.first + self.rows)
    }

    /// Amounts that are other ones in each round, and their sum the same.
    fn amounts(self, round: i64) -> Vec<(i64, String)> {
        let amount = |number: i64| ((number + round) % self.rows).to_string();
        (0..self.rows)
            .map(|number| (self.first + number, amount(number)))
            .collect()
    }

    /// Count and sum.
    fn whole(self) -> (usize, i64) {
        let sum = self.rows * (self.rows - 1) / 2;
        (usize::try_from(self.rows).expect("few"), sum)
    }
}

/// One table under way.
struct Ledger {
    db: Database,
    table: Arc<Table>,
    people: Vec<Principal>,
    /// What transfers have added to each account, by user: none is lost, large or small.
    added: HashMap<String, Vec<AtomicI64>>,
    /// Commits so far.
    commits: AtomicU64,
    /// Writers that are not done.
    writers: AtomicUsize,
}

#[test]
fn every_read_of_hot_rows_sees_one_moment() {
    check(TableKind::Shared, 80);
    check(TableKind::User, 80);
}

#[test]
fn every_read_of_segments_sees_one_moment() {
    check(TableKind::Shared, 1);
    check(TableKind::User, 1);
}

/// Flushes after so many commits.
fn check(kind: TableKind, commits_per_flush: u64) {
    let clock = Arc::new(DrivenClock::new(START));
    let db = Database::open(memory_directory(), clock, Some(ROOT_PASSWORD)).expect("opens");
    let people = match kind {
        TableKind::User => vec![db.user("a", Role::User), db.user("b", Role::User)],
        TableKind::System | TableKind::Shared | TableKind::Stream => vec![db.root.clone()],
    };
    let table = db.table("ledger", kind, &[]);
    let ledger = Ledger {
        writers: AtomicUsize::new(4 * people.len()),
        commits: AtomicU64::new(0),
        db,
        table,
        added: people
            .iter()
            .map(|by| {
                (
                    by.user_id.to_string(),
                    (0..ACCOUNTS.rows).map(|_| AtomicI64::new(0)).collect(),
                )
            })
            .collect(),
        people,
    };
    for by in &ledger.people {
        for block in [ACCOUNTS, LOADED, MOVED] {
            ledger.insert(by, OnConflict::Error, &block.amounts(0), false);
        }
    }
    std::thread::scope(|scope| {
        let ledger = &ledger;
        for by in &ledger.people {
            for seed in [1, 2] {
                scope.spawn(move || ledger.write(|| ledger.transfer(by, seed)));
            }
            scope.spawn(move || ledger.write(|| ledger.load(by)));
            scope.spawn(move || ledger.write(|| ledger.change_keys(by)));
        }
        scope.spawn(move || ledger.flush_and_compact(commits_per_flush));
        for seed in [3, 4] {
            scope.spawn(move || ledger.read(seed));
        }
    });
    let Ledger {
        db,
        table,
        people,
        added,
        ..
    } = ledger;
    for by in &people {
        let mut accounts = read(&db.view(), by, &table, &ACCOUNTS.ids(), (0, 1));
        accounts.sort_unstable();
        let expected = added[by.user_id.as_str()].iter().zip(ACCOUNTS.amounts(0));
        let expected: Vec<(i64, i64)> = expected
            .map(|(added, (id, amount))| (id, number(&amount) + added.load(Ordering::SeqCst)))
            .collect();
        assert_eq!(accounts, expected, "of {}", by.user_id);
    }
    let report = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
    assert_eq!(report.problems, Vec::new());
    assert!(report.segments > 0);
    let db = db.reopen();
    check_whole(&db.view(), &people, &db.find(&table), 2);
}

impl Ledger {
    /// Does a writer's work; it is counted out even when it fails, so that the others come to their end.
    fn write(&self, work: impl FnOnce()) {
        struct Left<'a>(&'a AtomicUsize);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let _left = Left(&self.writers);
        work();
    }

    fn is_written(&self) -> bool {
        self.writers.load(Ordering::SeqCst) == 0
    }

    /// Runs a statement until nobody else changed its rows meanwhile. The others come to their end, so this does.
    fn retried(&self, statement: impl Fn() -> Result<u64>) -> u64 {
        loop {
            match statement() {
                Ok(rows) => {
                    self.commits.fetch_add(1, Ordering::SeqCst);
                    return rows;
                }
                Err(error) if error.code == ErrorCode::Conflict => {}
                Err(error) => panic!("{} {error}", error.code.as_str()),
            }
        }
    }

    fn insert(&self, by: &Principal, on_conflict: OnConflict, rows: &[(i64, String)], bulk: bool) {
        let written = self.retried(|| append(self.db.engine.append(by, &self.table, on_conflict)?, rows, bulk));
        assert_eq!(written, rows.len() as u64);
    }

    fn update(&self, by: &Principal, filter: &Filter, bulk: bool, change: impl Fn(i64, i64) -> (i64, i64)) -> u64 {
        self.retried(|| {
            let view = self.db.view();
            let mut mutator = self.db.engine.mutate(&view, by, &self.table)?;
            if bulk {
                mutator = mutator.bulk_from(1);
            }
            for (found, rows) in find(&view, by, &self.table, filter) {
                let rows = rows.iter().map(|(id, amount)| change(*id, number(amount)));
                let rows: Vec<(String, i64)> = rows.map(|(id, amount)| (amount.to_string(), id)).collect();
                let rows: Vec<(&str, i64)> = rows.iter().map(|(amount, id)| (amount.as_str(), *id)).collect();
                mutator.update(&found, &batch(&rows))?;
            }
            block_on(mutator.finish())
        })
    }

    fn transfer(&self, by: &Principal, seed: u64) {
        let mut random = Random::new(seed);
        let added = |id: i64, amount: i64| {
            let index = usize::try_from(id - ACCOUNTS.first).expect("an account");
            self.added[by.user_id.as_str()][index].fetch_add(amount, Ordering::SeqCst);
        };
        for turn in 0..TRANSFERS {
            if turn.is_multiple_of(TRANSFERS_BETWEEN) {
                let share = |id: i64| if id % 2 == 0 { 1 } else { -1 };
                let changed = self.update(by, &ACCOUNTS.ids(), true, |id, had| (id, had + share(id)));
                assert_eq!(changed, ACCOUNTS.rows as u64);
                (0..ACCOUNTS.rows).for_each(|number| added(ACCOUNTS.first + number, share(number)));
                continue;
            }
            let from = random.between(0, ACCOUNTS.rows - 1);
            let amount = random.between(1, 100);
            let changed = self.update(by, &Filter::Ids(from, from + 1), false, |id, had| {
                (id, if id == from { had - amount } else { had + amount })
            });
            assert_eq!(changed, 2);
            added(from, -amount);
            added(from + 1, amount);
        }
    }

    /// Replaces all rows of a block, sorted or not, and changes them by large statements between.
    fn load(&self, by: &Principal) {
        for round in 1..=LOADS {
            let mut rows = LOADED.amounts(round);
            if round % 2 == 0 {
                rows.reverse();
            }
            self.insert(by, OnConflict::Replace, &rows, true);
            let changed = self.update(by, &LOADED.ids(), true, |id, had| {
                (id, had + if id % 2 == 0 { 1 } else { -1 })
            });
            assert_eq!(changed, LOADED.rows as u64);
        }
    }

    /// Gives the rows of a block keys that others of them had before.
    fn change_keys(&self, by: &Principal) {
        for turn in 0..MOVES {
            let shift = if turn.is_multiple_of(2) { 1 } else { -1 };
            let changed = self.update(by, &MOVED.ids(), turn % 4 < 2, |id, had| (id + shift, had));
            assert_eq!(changed, MOVED.rows as u64);
        }
    }

    fn flush_and_compact(&self, commits_per_flush: u64) {
        let (engine, root, name) = (&self.db.engine, &self.db.root, &self.table.name);
        let mut flushes: usize = 0;
        while !self.is_written() || flushes < FLUSHES {
            let next = self.commits.load(Ordering::SeqCst) + commits_per_flush;
            while !self.is_written() && self.commits.load(Ordering::SeqCst) < next {
                std::thread::yield_now();
            }
            block_on(engine.flush_table(root, name)).expect("flushed");
            flushes += 1;
            if flushes.is_multiple_of(2) {
                block_on(engine.compact_table(root, name)).expect("compacted");
            }
        }
    }

    fn read(&self, seed: u64) {
        let mut random = Random::new(seed);
        let first = self.db.view();
        let mut reads = 0;
        while !self.is_written() || reads < READS {
            check_whole(&self.db.view(), &self.people, &self.table, 1 + random.index(3));
            reads += 1;
        }
        // What was there at the beginning still is, for whoever began then.
        check_whole(&first, &self.people, &self.table, 1);
    }
}

/// Checks count and sum of everyone's rows: all of them, their count alone, a range of keys, and rows by their keys.
fn check_whole(view: &View, people: &[Principal], table: &Arc<Table>, parts: usize) {
    for by in people {
        let blocks = [ACCOUNTS, LOADED, MOVED];
        let mut all = Vec::new();
        for part in 0..parts {
            all.extend(read(view, by, table, &Filter::All, (part, parts)));
        }
        let whole = blocks.map(Block::whole);
        let whole = (whole.iter().map(|one| one.0).sum(), whole.iter().map(|one| one.1).sum());
        assert_eq!(count_and_sum(&all), whole, "of {} in {parts} parts", by.user_id);
        let counted = batches(view, by, table, request(table, &Filter::All, &[]));
        assert_eq!(counted.iter().map(|batch| batch.num_rows()).sum::<usize>(), whole.0);
        for block in blocks {
            let rows = read(view, by, table, &block.ids(), (0, 1));
            assert_eq!(
                count_and_sum(&rows),
                block.whole(),
                "of {} from {} on",
                by.user_id,
                block.first
            );
        }
        for (id, _) in LOADED.amounts(0).into_iter().step_by(9) {
            let by_key = read(view, by, table, &Filter::Id(id), (0, 1));
            let scanned: Vec<(i64, i64)> = all.iter().copied().filter(|row| row.0 == id).collect();
            assert_eq!(by_key, scanned);
        }
    }
}

fn read(view: &View, by: &Principal, table: &Arc<Table>, filter: &Filter, part: (usize, usize)) -> Vec<(i64, i64)> {
    let fields = [ScanField::Column(0), ScanField::Column(1)];
    let request = ScanRequest {
        part,
        ..request(table, filter, &fields)
    };
    let batches = batches(view, by, table, request);
    let rows = batches.iter().flat_map(|batch| rows_of(batch, 0, 1));
    rows.map(|(id, amount)| (id, number(&amount))).collect()
}

/// No key may be there twice.
fn count_and_sum(rows: &[(i64, i64)]) -> (usize, i64) {
    let ids: HashSet<i64> = rows.iter().map(|row| row.0).collect();
    assert_eq!(ids.len(), rows.len(), "a key is there twice: {rows:?}");
    (rows.len(), rows.iter().map(|row| row.1).sum())
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}
