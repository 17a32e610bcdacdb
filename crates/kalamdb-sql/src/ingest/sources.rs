//! Where each column of a table takes its values from in a load: a column of the stream, its DEFAULT, or NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use kalamdb_core::{Column, Error, ErrorCode, Result, Table};

use crate::assignment::{Target, assign};
use crate::definition::ColumnDefault;
use crate::names::suggestion;
use crate::planning::Planner;

/// Where a column's values come from.
pub(super) struct Source {
    column: Column,
    from: From,
}

enum From {
    /// The column of the stream at this index.
    Stream(usize),
    /// The column's DEFAULT.
    Default(ColumnDefault),
    Null,
}

/// For a table that is made for the stream: each column takes the one of its place.
pub(super) fn in_order(columns: Vec<Column>) -> Vec<Source> {
    let sources = columns.into_iter().enumerate();
    sources
        .map(|(index, column)| Source {
            column,
            from: From::Stream(index),
        })
        .collect()
}

/// Which column of the stream each column of the table takes: the one of the same name, else the only one whose name
/// differs in case alone.
pub(super) fn match_columns(planner: &Planner, table: &Table, schema: &SchemaRef) -> Result<Vec<Source>> {
    let columns: Vec<&Column> = table.schema.columns.iter().filter(|column| !column.internal).collect();
    let mut taken: Vec<Option<usize>> = vec![None; columns.len()];
    for (index, field) in schema.fields().iter().enumerate() {
        let exact = columns.iter().position(|column| column.name == *field.name());
        let alike = || {
            let mut alike = columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column.name.eq_ignore_ascii_case(field.name()));
            alike
                .next()
                .filter(|_| alike.next().is_none())
                .map(|(position, _)| position)
        };
        let Some(position) = exact.or_else(alike) else {
            let hint = suggestion(field.name(), columns.iter().map(|column| column.name.as_str()));
            let message = format!("table {} has no column '{}'{hint}", table.name, field.name());
            return Err(Error::new(ErrorCode::ColumnNotFound, message));
        };
        if let Some(first) = taken[position].replace(index) {
            let message = format!(
                "the load's columns '{}' and '{}' are both for column '{}' of table {}",
                schema.field(first).name(),
                field.name(),
                columns[position].name,
                table.name
            );
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
    }
    let sources = columns.into_iter().zip(taken).map(|(column, taken)| {
        let from = match (taken, &column.default) {
            (Some(index), _) => From::Stream(index),
            (None, Some(default)) => From::Default(ColumnDefault::parse(planner, default)?),
            (None, None) if column.nullable => From::Null,
            (None, None) => {
                let message = format!(
                    "column '{}' of table {} is NOT NULL and has no default, and the load does not have it",
                    column.name, table.name
                );
                return Err(Error::new(ErrorCode::NotNullViolation, message));
            }
        };
        Ok(Source {
            column: column.clone(),
            from,
        })
    });
    sources.collect()
}

impl Source {
    /// The field of a chunk. NULL in a NOT NULL column is for the write handler to find, which names the row.
    pub(super) fn field(&self) -> Field {
        self.column.field().with_nullable(true)
    }

    /// The values for a chunk; `loaded` rows went before it.
    pub(super) fn values(&self, chunk: &RecordBatch, loaded: usize, zone: &Arc<str>) -> Result<ArrayRef> {
        let values = match &self.from {
            From::Stream(index) => Arc::clone(chunk.column(*index)),
            From::Default(default) => default.values(chunk.num_rows())?,
            From::Null => new_null_array(&self.column.data_type, chunk.num_rows()),
        };
        assign(&values, &Target::column(&self.column, zone)).map_err(|mut error| {
            if loaded > 0 {
                error
                    .message
                    .push_str(&format!("; rows are counted from row {} of the load", loaded + 1));
            }
            error
        })
    }
}
