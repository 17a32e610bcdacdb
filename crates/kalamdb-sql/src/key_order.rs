//! Which orders of rows are that of the key, so that a scan gives them and nothing sorts.

use datafusion::scalar::ScalarValue;
use kalamdb_core::{KeyConstraint, ScanOrder, Table};

use crate::scan_exec::Keys;

/// The columns of a table's key, by index in the table, as the rows of one scan are ordered by them.
pub(crate) struct KeyOrder {
    /// The same in all rows.
    same: Vec<usize>,
    /// By these, one after the other; all together no two rows have alike.
    ordered: Vec<usize>,
}

impl KeyOrder {
    /// `None` where the rows of `keys` are not to be had in key order: those of ranges that are not in that order themselves, of a table
    /// without a key, and of tables whose rows expire or are not everyone's to see.
    pub(crate) fn of(table: &Table, keys: &Keys) -> Option<Self> {
        let key = &table.schema.primary_key;
        let internal = key.iter().any(|&index| table.schema.columns[index].internal);
        if !table.kind.flushes() || key.is_empty() || internal {
            return None;
        }
        let (equal, listed) = match keys {
            Keys::All => (0, None),
            Keys::Ranges(ranges) => match ranges.as_slice() {
                [one] => (one.equal.len(), None),
                [first, ..] => (first.equal.len(), Some(ascending(ranges)?)),
                [] => return None,
            },
        };
        let (fixed, rest) = key.split_at_checked(equal)?;
        let is_listed = |position: usize| listed == Some(position);
        let fixed = |wanted: bool| {
            let columns = fixed.iter().enumerate();
            columns.filter_map(move |(position, column)| (is_listed(position) == wanted).then_some(*column))
        };
        Some(KeyOrder {
            same: fixed(false).collect(),
            ordered: fixed(true).chain(rest.iter().copied()).collect(),
        })
    }

    /// The order of a scan whose rows are ordered by `columns`: each by index in the table, if it is one of its columns, and
    /// whether it is descending. Key columns are never NULL.
    pub(crate) fn for_columns(&self, columns: impl IntoIterator<Item = (Option<usize>, bool)>) -> Option<ScanOrder> {
        let mut order = ScanOrder::Any;
        let mut rest = self.ordered.iter();
        for (column, descending) in columns {
            if column.is_some_and(|column| self.same.contains(&column)) {
                continue;
            }
            // Rows that are alike in all before are one row.
            let Some(next) = rest.next() else { break };
            let direction = match descending {
                false => ScanOrder::Ascending,
                true => ScanOrder::Descending,
            };
            if column != Some(*next) || (order != ScanOrder::Any && order != direction) {
                return None;
            }
            order = direction;
        }
        Some(order)
    }

    /// Whether the first row has the least value of a column, and the last row the greatest.
    pub(crate) fn begins_with(&self, column: usize) -> bool {
        self.same.contains(&column) || self.ordered.first() == Some(&column)
    }
}

/// By which of the columns that they fix several ranges are one after the other in key order, if they differ in that one alone.
fn ascending(ranges: &[KeyConstraint]) -> Option<usize> {
    let mut listed = None;
    for pair in ranges.windows(2) {
        let (before, after) = (&pair[0].equal, &pair[1].equal);
        if before.len() != after.len() {
            return None;
        }
        for (position, (before, after)) in before.iter().zip(after).enumerate() {
            if before == after {
                continue;
            }
            let value = |values| ScalarValue::try_from_array(values, 0).ok();
            let is_after = value(before)?.partial_cmp(&value(after)?) == Some(std::cmp::Ordering::Less);
            if !is_after || *listed.get_or_insert(position) != position {
                return None;
            }
        }
    }
    listed
}
