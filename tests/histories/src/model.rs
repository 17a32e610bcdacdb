//! What the tables hold after a history: lists of rows, and the plainest code that changes them.

use crate::operation::{Change, Duplicates, Filter, Kind, Operation, Outcome, Shape};
use crate::runs::TABLES;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose it is; in a SHARED table the first user's.
    pub owner: usize,
    /// Its number, which is the primary key where there is one.
    pub id: i64,
    /// Its text.
    pub text: String,
    /// From when on it does not exist, µs.
    pub expiry_micros: Option<i64>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    shape: Shape,
    /// In the order in which they were written.
    rows: Vec<Row>,
}

/// All tables, and what time it is.
#[derive(Clone, Debug)]
pub struct Model {
    tables: [Option<Table>; TABLES],
    now_micros: i64,
}

impl Table {
    /// How it was made.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Everyone's rows, in the order in which they were written.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whose rows a user reaches.
    pub(crate) fn owner(&self, user: usize) -> usize {
        match self.shape.kind {
            Kind::Shared => 0,
            Kind::User | Kind::Stream => user,
        }
    }

    fn of(&self, owner: usize) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.owner == owner)
    }

    fn holds(&self, owner: usize, id: i64) -> bool {
        self.of(owner).any(|row| row.id == id)
    }

    fn insert(&mut self, owner: usize, rows: &[(i64, String)], duplicates: Duplicates, now_micros: i64) -> Outcome {
        let expiry_micros = self.shape.ttl_seconds.map(|seconds| now_micros + seconds * 1_000_000);
        let mut new: Vec<Row> = Vec::new();
        for (id, text) in rows {
            let earlier = new.iter_mut().find(|row| self.shape.keyed && row.id == *id);
            match (earlier, duplicates) {
                (None, _) => new.push(Row {
                    owner,
                    id: *id,
                    text: text.clone(),
                    expiry_micros,
                }),
                (Some(_), Duplicates::Refused) => return Outcome::DuplicateKey,
                (Some(earlier), Duplicates::Replace) => earlier.text = text.clone(),
                (Some(_), Duplicates::Ignore) => {}
            }
        }
        if self.shape.keyed {
            match duplicates {
                Duplicates::Refused if new.iter().any(|row| self.holds(owner, row.id)) => return Outcome::DuplicateKey,
                Duplicates::Refused => {}
                Duplicates::Replace => {
                    let is_new = |id: i64| new.iter().any(|row| row.id == id);
                    self.rows.retain(|row| row.owner != owner || !is_new(row.id));
                }
                Duplicates::Ignore => new.retain(|row| !self.holds(owner, row.id)),
            }
        }
        let written = new.len() as u64;
        self.rows.append(&mut new);
        if let Some(most) = self.shape.max_rows {
            let mut excess = self.of(owner).count().saturating_sub(most);
            self.rows.retain(|row| {
                let goes = row.owner == owner && excess > 0;
                excess -= usize::from(goes);
                !goes
            });
        }
        Outcome::Rows(written)
    }

    fn update(&mut self, owner: usize, filter: &Filter, change: &Change) -> Outcome {
        let is_changed = |row: &Row| row.owner == owner && filter.matches(row.id, &row.text);
        let (changed, kept): (Vec<Row>, Vec<Row>) = self.rows.iter().cloned().partition(is_changed);
        let changed: Vec<Row> = changed
            .into_iter()
            .map(|row| {
                let (id, text) = change.apply(row.id, &row.text);
                Row { id, text, ..row }
            })
            .collect();
        let is_kept = |id: i64| kept.iter().any(|row| row.owner == owner && row.id == id);
        if self.shape.keyed && changed.iter().any(|row| is_kept(row.id)) {
            return Outcome::DuplicateKey;
        }
        let count = changed.len() as u64;
        self.rows = kept;
        self.rows.extend(changed);
        Outcome::Rows(count)
    }

    fn delete(&mut self, owner: usize, filter: &Filter) -> Outcome {
        let before = self.rows.len();
        self.rows
            .retain(|row| row.owner != owner || !filter.matches(row.id, &row.text));
        Outcome::Rows((before - self.rows.len()) as u64)
    }
}

impl Model {
    /// The time that the steps so far have come to, µs.
    pub fn now_micros(&self) -> i64 {
        self.now_micros
    }

    pub(crate) fn new(now_micros: i64) -> Self {
        Self {
            tables: std::array::from_fn(|_| None),
            now_micros,
        }
    }

    /// A table, if it exists.
    pub fn table(&self, table: usize) -> Option<&Table> {
        self.tables[table].as_ref()
    }

    /// The rows of a table that a user sees and the filter leaves, sorted.
    pub fn rows(&self, table: usize, user: usize, filter: &Filter) -> Vec<(i64, String)> {
        let Some(table) = self.table(table) else {
            return Vec::new();
        };
        let rows = table.of(table.owner(user));
        let mut rows: Vec<(i64, String)> = rows
            .filter(|row| filter.matches(row.id, &row.text))
            .map(|row| (row.id, row.text.clone()))
            .collect();
        rows.sort();
        rows
    }

    /// Does a step.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Outcome {
        let now_micros = self.now_micros;
        match operation {
            Operation::Insert {
                table,
                user,
                rows,
                duplicates,
                ..
            } => self.change(*table, |table| {
                table.insert(table.owner(*user), rows, *duplicates, now_micros)
            }),
            Operation::Update {
                table,
                user,
                filter,
                change,
                ..
            } => self.change(*table, |table| table.update(table.owner(*user), filter, change)),
            Operation::Delete {
                table, user, filter, ..
            } => self.change(*table, |table| table.delete(table.owner(*user), filter)),
            Operation::Truncate { table } => self.change(*table, |table| {
                table.rows.clear();
                Outcome::Done
            }),
            Operation::Drop { table } => {
                self.tables[*table] = None;
                Outcome::Done
            }
            Operation::Create { table, shape, rows, .. } => {
                let mut new = Table {
                    shape: shape.clone(),
                    rows: Vec::new(),
                };
                let outcome = if rows.is_empty() {
                    Outcome::Done
                } else {
                    new.insert(0, rows, Duplicates::Refused, now_micros)
                };
                if outcome != Outcome::DuplicateKey {
                    self.tables[*table] = Some(new);
                }
                outcome
            }
            Operation::ReplaceUser { user } => {
                for table in self.tables.iter_mut().flatten() {
                    if table.shape.kind != Kind::Shared {
                        table.rows.retain(|row| row.owner != *user);
                    }
                }
                Outcome::Done
            }
            Operation::Advance { micros } => {
                self.now_micros += micros;
                let now_micros = self.now_micros;
                for table in self.tables.iter_mut().flatten() {
                    table
                        .rows
                        .retain(|row| row.expiry_micros.is_none_or(|expiry| expiry > now_micros));
                }
                Outcome::Done
            }
            Operation::Flush { .. }
            | Operation::Compact { .. }
            | Operation::Restart
            | Operation::Tend
            | Operation::KeepReader => Outcome::Done,
        }
    }

    fn change(&mut self, table: usize, change: impl FnOnce(&mut Table) -> Outcome) -> Outcome {
        match &mut self.tables[table] {
            Some(table) => change(table),
            None => panic!("a history goes on with table {table}, which it dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
        rows.iter().map(|&(id, text)| (id, text.to_owned())).collect()
    }

    fn create(shape: Shape) -> Model {
        let mut model = Model::new(0);
        let (table, rows, bulk) = (0, Vec::new(), false);
        let create = Operation::Create {
            table,
            shape,
            rows,
            bulk,
        };
        assert_eq!(model.apply(&create), Outcome::Done);
        model
    }

    fn insert(user: usize, new: &[(i64, &str)], duplicates: Duplicates) -> Operation {
        Operation::Insert {
            table: 0,
            user,
            rows: rows(new),
            duplicates,
            bulk: false,
        }
    }

    fn shape(kind: Kind) -> Shape {
        Shape {
            kind,
            keyed: true,
            ttl_seconds: None,
            max_rows: None,
            flush_rows: None,
        }
    }

    #[test]
    fn keys_are_a_users_own_and_say_what_becomes_of_duplicates() {
        let mut model = create(shape(Kind::User));
        let cases = [
            (1, &[(1, "a"), (2, "b")][..], Duplicates::Refused, Outcome::Rows(2)),
            (2, &[(1, "other")], Duplicates::Refused, Outcome::Rows(1)),
            (1, &[(3, "c"), (1, "d")], Duplicates::Refused, Outcome::DuplicateKey),
            (1, &[(3, "c"), (3, "d")], Duplicates::Refused, Outcome::DuplicateKey),
            (
                1,
                &[(1, "e"), (1, "f"), (4, "g")],
                Duplicates::Replace,
                Outcome::Rows(2),
            ),
            (1, &[(1, "h"), (5, "i"), (5, "j")], Duplicates::Ignore, Outcome::Rows(1)),
        ];
        for (user, new, duplicates, outcome) in cases {
            assert_eq!(model.apply(&insert(user, new, duplicates)), outcome, "{new:?}");
        }
        assert_eq!(
            model.rows(0, 1, &Filter::All),
            rows(&[(1, "f"), (2, "b"), (4, "g"), (5, "i")])
        );
        assert_eq!(model.rows(0, 2, &Filter::All), rows(&[(1, "other")]));
        let shift = |filter, shift| Operation::Update {
            table: 0,
            user: 1,
            filter,
            change: Change { shift, text: None },
            bulk: false,
        };
        assert_eq!(model.apply(&shift(Filter::Id(1), 1)), Outcome::DuplicateKey);
        assert_eq!(model.apply(&shift(Filter::All, 1)), Outcome::Rows(4));
        assert_eq!(
            model.rows(0, 1, &Filter::Ids(2, 5)),
            rows(&[(2, "f"), (3, "b"), (5, "g")])
        );
    }

    #[test]
    fn rows_expire_and_the_oldest_make_room() {
        let mut model = create(Shape {
            ttl_seconds: Some(10),
            max_rows: Some(2),
            ..shape(Kind::Stream)
        });
        let first = insert(1, &[(1, "a"), (2, "b"), (3, "c")], Duplicates::Refused);
        assert_eq!(model.apply(&first), Outcome::Rows(3));
        assert_eq!(model.rows(0, 1, &Filter::All), rows(&[(2, "b"), (3, "c")]));
        model.apply(&Operation::Advance { micros: 9_999_999 });
        model.apply(&insert(1, &[(2, "d")], Duplicates::Replace));
        assert_eq!(model.rows(0, 1, &Filter::All), rows(&[(2, "d"), (3, "c")]));
        model.apply(&Operation::Advance { micros: 1 });
        assert_eq!(model.rows(0, 1, &Filter::All), rows(&[(2, "d")]));
    }
}
