//! Words for rows whose keys collide: the key columns' names, the caller's own values and the row's place in the statement.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::array_value_to_string;
use kalamdb_store::{CommitError, KeyEncoder, StoreError};

use crate::catalog::Table;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};

/// Characters of a key's values in a message at most.
const SHOWN_CHARACTERS: usize = 100;
/// Rows of a bulk load whose place is remembered, eight bytes each. A load sorts and checks its keys by chunks, and two of those
/// hold less than this unless rows are tiny.
const PLACES_KEPT: usize = 2 << 20;

/// The key columns of the rows that a statement brought, for messages. Only the caller's own values are in it.
#[derive(Default)]
pub(crate) struct KeySources {
    /// Position of the first row (from 1) and the key columns.
    batches: Vec<(u64, Vec<ArrayRef>)>,
    /// Hashes of the keys of the newest loaded rows, whose columns are gone when a duplicate among them is found.
    places: VecDeque<u64>,
    /// The position of the last of them.
    last_place: u64,
}

impl KeySources {
    /// Adds the key columns of rows from `first_position` on.
    pub(crate) fn add(&mut self, first_position: u64, key_columns: Vec<ArrayRef>) {
        self.batches.push((first_position, key_columns));
    }

    /// Remembers the place of a loaded row; they come in order.
    pub(crate) fn note_place(&mut self, position: u64, key: &[u8]) {
        if self.places.len() == PLACES_KEPT {
            self.places.pop_front();
        }
        self.places.push_back(hash(key));
        self.last_place = position;
    }

    /// Forgets what was added, but not the places of loaded rows.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
    }

    /// DUPLICATE_KEY for the row at this position.
    pub(crate) fn duplicate_at(&self, table: &Table, position: u64, problem: &str) -> Error {
        let values = self.values_at(position).unwrap_or_default();
        let name = &table.name;
        let columns = table.schema.key_names();
        Error::new(
            ErrorCode::DuplicateKey,
            format!("row {position}: primary key ({columns}){values} {problem} {name}"),
        )
    }

    /// DUPLICATE_KEY for an encoded key; its last row, if it is known.
    fn duplicate_key(&self, table: &Table, encoder: &KeyEncoder, key: &[u8], problem: &str) -> Result<Error> {
        for (first_position, columns) in self.batches.iter().rev() {
            let rows = columns.first().map_or(0, |column| column.len());
            for (row, back) in (0..rows).rev().zip(1_u64..) {
                let mut encoded = Vec::with_capacity(key.len());
                encoder.encode(columns, row, &mut encoded)?;
                if encoded == key {
                    let position = first_position + (rows as u64) - back;
                    return Ok(self.duplicate_at(table, position, problem));
                }
            }
        }
        let columns = table.schema.key_names();
        let hashed = hash(key);
        let back = self.places.iter().rev().position(|place| *place == hashed);
        let row = match back {
            Some(back) => format!("row {}:", self.last_place - back as u64),
            None => "a row's".to_owned(),
        };
        let message = format!("{row} primary key ({columns}) {problem} {}", table.name);
        Ok(Error::new(ErrorCode::DuplicateKey, message))
    }

    /// A failed commit of rows of the statement, in words. `keys`: none for a table without a primary key.
    pub(crate) fn of_commit(
        &self,
        error: CommitError,
        engine: &Engine,
        table: &Table,
        keys: Option<&KeyEncoder>,
    ) -> Error {
        match (&error, keys) {
            (CommitError::DuplicateKey { key }, Some(encoder)) => self.duplicate(table, encoder, key),
            _ => Error::of_commit(error, table, engine.store().state().catalog()),
        }
    }

    /// The same of what the store refuses before it.
    pub(crate) fn of_store(
        &self,
        error: StoreError,
        engine: &Engine,
        table: &Table,
        keys: Option<&KeyEncoder>,
    ) -> Error {
        match (&error, keys) {
            (StoreError::DuplicateKey { key }, Some(encoder)) => self.duplicate(table, encoder, key),
            (StoreError::Retired(_), _) => Error::gone(table, engine.store().state().catalog()),
            _ => Error::in_table(error, table),
        }
    }

    fn duplicate(&self, table: &Table, encoder: &KeyEncoder, key: &[u8]) -> Error {
        let problem = "is that of another row, of the same statement or already in table";
        self.duplicate_key(table, encoder, key, problem)
            .unwrap_or_else(|error| error)
    }

    /// ` = (1, a)`.
    fn values_at(&self, position: u64) -> Option<String> {
        let (first_position, columns) = self.batches.iter().rev().find(|(first, _)| *first <= position)?;
        let row = usize::try_from(position - first_position).ok()?;
        let mut shown = Vec::with_capacity(columns.len());
        for column in columns {
            if row >= column.len() {
                return None;
            }
            shown.push(array_value_to_string(column, row).ok()?);
        }
        let shown = shown.join(", ");
        let mut characters = shown.chars();
        let head: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
        let more = if characters.next().is_some() { "..." } else { "" };
        Some(format!(" = ({head}{more})"))
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The key columns of a batch that has all columns of the table, in key order.
pub(crate) fn key_columns(table: &Table, rows: &RecordBatch) -> Vec<ArrayRef> {
    table
        .schema
        .primary_key
        .iter()
        .map(|&index| rows.column(index).clone())
        .collect()
}
