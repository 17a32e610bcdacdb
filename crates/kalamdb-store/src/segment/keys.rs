//! Encoded keys of a segment's rows, made from its key columns again.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::UInt64Type;

use crate::error::StoreError;
use crate::key::KeyEncoder;
use crate::segment::layout::Layout;

/// Where in a file the key is and how it is encoded.
#[derive(Clone, Debug)]
pub(crate) struct KeyColumns {
    positions: Vec<usize>,
    /// `None`: the key is the row id, 8 bytes big endian.
    encoder: Option<KeyEncoder>,
}

impl KeyColumns {
    /// `None` if the rows have no stored keys.
    pub(crate) fn new(layout: &Layout) -> Result<Option<Self>, StoreError> {
        let Some(positions) = layout.key_positions() else {
            return Ok(None);
        };
        let encoder = match layout.schema.key.is_empty() {
            true => None,
            false => Some(KeyEncoder::new(&layout.schema)?),
        };
        Ok(Some(Self { positions, encoder }))
    }

    /// The columns in the file, in key order.
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Appends the key of row `row` of the key columns.
    fn encode(&self, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
        match &self.encoder {
            Some(encoder) => encoder.encode(columns, row, out),
            None => {
                let ids = columns.first().and_then(|ids| ids.as_primitive_opt::<UInt64Type>());
                let ids = ids.ok_or_else(|| StoreError::Unsupported("row ids are not UInt64".to_string()))?;
                out.extend_from_slice(&ids.value(row).to_be_bytes());
                Ok(())
            }
        }
    }

    /// The keys of all rows of the key columns.
    pub(crate) fn encode_all(&self, columns: &[ArrayRef]) -> Result<BinaryArray, StoreError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut keys = BinaryBuilder::with_capacity(rows, 16 * rows);
        let mut key = Vec::new();
        for row in 0..rows {
            key.clear();
            self.encode(columns, row, &mut key)?;
            keys.append_value(&key);
        }
        Ok(keys.finish())
    }

    /// Key columns that were read in one or several batches, for look-ups.
    pub(crate) fn block(&self, mut batches: Vec<Vec<ArrayRef>>) -> Result<BlockKeys, StoreError> {
        let columns = match batches.len() {
            1 => batches.pop().unwrap_or_default(),
            _ => (0..self.positions.len())
                .map(|column| {
                    let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch[column].as_ref()).collect();
                    arrow::compute::concat(&parts).map_err(|error| StoreError::Unsupported(error.to_string()))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(BlockKeys {
            rows: columns.first().map_or(0, |column| column.len()),
            columns,
            encoding: self.clone(),
            encoded: None,
        })
    }
}

/// Keys of consecutive rows, in order.
pub(crate) struct BlockKeys {
    encoding: KeyColumns,
    columns: Vec<ArrayRef>,
    rows: usize,
    encoded: Option<BinaryArray>,
}

impl BlockKeys {
    /// Prepares for so many look-ups: with many it pays to encode all keys, with few only those that are compared.
    pub(crate) fn for_lookups(mut self, lookups: usize) -> Result<Self, StoreError> {
        let compared = lookups * (usize::BITS - self.rows.leading_zeros()) as usize;
        if compared > self.rows {
            self.encoded = Some(self.encoding.encode_all(&self.columns)?);
        }
        Ok(self)
    }

    /// The position of the first key that is not less than `key`; the number of rows if there is none.
    pub(crate) fn first_not_less(&self, key: &[u8]) -> Result<u32, StoreError> {
        let (mut low, mut high) = (0, self.rows);
        let mut scratch = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare(middle, key, &mut scratch)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        Ok(u32::try_from(low).unwrap_or(u32::MAX))
    }

    /// The position of `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<u32>, StoreError> {
        let position = self.first_not_less(key)?;
        let there = (position as usize) < self.rows
            && self.compare(position as usize, key, &mut Vec::new())? == Ordering::Equal;
        Ok(there.then_some(position))
    }

    fn compare(&self, row: usize, key: &[u8], scratch: &mut Vec<u8>) -> Result<Ordering, StoreError> {
        if let Some(encoded) = &self.encoded {
            return Ok(encoded.value(row).cmp(key));
        }
        scratch.clear();
        self.encoding.encode(&self.columns, row, scratch)?;
        Ok(scratch.as_slice().cmp(key))
    }
}
