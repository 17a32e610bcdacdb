//! Which orders of rows are that of the key, so that a scan gives them and nothing sorts.

use kalamdb_core::{ScanOrder, Table};

use crate::scan_exec::Keys;

/// The columns of a table's key, by index in the table, as the rows of one scan are ordered by them.
pub(crate) struct KeyOrder<'a> {
    /// The same in all rows.
    same: &'a [usize],
    /// By these, one after the other; all together no two rows have alike.
    ordered: &'a [usize],
}

impl<'a> KeyOrder<'a> {
    /// `None` where the rows of `keys` are not to be had in key order: those of several ranges, of a table without a key, and of
    /// tables whose rows expire or are not everyone's to see.
    pub(crate) fn of(table: &'a Table, keys: &Keys) -> Option<Self> {
        let key = &table.schema.primary_key;
        let internal = key.iter().any(|&index| table.schema.columns[index].internal);
        if !table.kind.flushes() || key.is_empty() || internal {
            return None;
        }
        let equal = match keys {
            Keys::All => 0,
            Keys::Ranges(ranges) => match ranges.as_slice() {
                [one] => one.equal.len(),
                _ => return None,
            },
        };
        let (same, ordered) = key.split_at_checked(equal)?;
        Some(KeyOrder { same, ordered })
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
