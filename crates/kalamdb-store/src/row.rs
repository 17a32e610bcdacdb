//! The row codec's layout and its writing half: one row's values in a byte string. Reading many rows is in `decode`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, StringArray,
};
use arrow::datatypes::{DataType, IntervalUnit, ToByteSlice};
use arrow::downcast_primitive_array;

use crate::error::StoreError;
use crate::ids::{SchemaVersion, Seq};
use crate::key::KeyEncoder;
use crate::nested;
use crate::schema::{Lifetime, StoreSchema};
use crate::tuning::{MAX_NULL_SLOTS, MAX_ROW_BYTES};

// Values are copied between Arrow's buffers and rows as they are; rows are little endian by definition.
const _: () = assert!(cfg!(target_endian = "little"), "the row format is little endian");

/// Set when the header has an expiry. Other bits are for formats to come.
pub(crate) const FLAG_EXPIRES: u8 = 1;

const SEQ: usize = 1;
const UPDATED: usize = 9;
const VERSION: usize = 17;
const EXPIRY: usize = 21;
/// The header of a durable row, and the least that any value has.
pub(crate) const HEADER_BYTES: usize = 21;
const EXPIRING_HEADER_BYTES: usize = 29;

/// Where a column is in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the key, at this position of it.
    Key(usize),
    /// Nowhere: every value is null.
    Null,
    /// This null bit, and this many bytes from the start of the row.
    Fixed { bit: usize, offset: usize, width: usize },
    /// As `Fixed`, one byte that is 0 or 1.
    Boolean { bit: usize, offset: usize },
    /// This null bit, and the bytes up to the end offset with this index.
    Variable { bit: usize, index: usize, nested: bool },
}

/// The places of all columns of a schema version.
#[derive(Clone, Debug)]
pub(crate) struct RowLayout {
    version: SchemaVersion,
    expiring: bool,
    bitmap: usize,
    slots: usize,
    ends: usize,
    bytes: usize,
    variable: usize,
    places: Vec<Place>,
}

impl RowLayout {
    pub(crate) fn new(schema: &StoreSchema) -> Result<Self, StoreError> {
        let expiring = match schema.lifetime {
            Lifetime::Durable => false,
            Lifetime::Expiring => true,
        };
        let bitmap = if expiring { EXPIRING_HEADER_BYTES } else { HEADER_BYTES };
        let mut places = Vec::with_capacity(schema.columns.len());
        let (mut bit, mut offset, mut variable) = (0, 0, 0);
        for (index, column) in schema.columns.iter().enumerate() {
            if let Some(position) = schema.key.iter().position(|&key| key == index) {
                places.push(Place::Key(position));
                continue;
            }
            let place = match storage_of(&column.data_type)? {
                Storage::Null => Place::Null,
                Storage::Fixed(width) => Place::Fixed { bit, offset, width },
                Storage::Boolean => Place::Boolean { bit, offset },
                Storage::Bytes => Place::Variable {
                    bit,
                    index: variable,
                    nested: false,
                },
                Storage::Nested => Place::Variable {
                    bit,
                    index: variable,
                    nested: true,
                },
            };
            match place {
                Place::Key(_) | Place::Null => {}
                Place::Fixed { width, .. } => (bit, offset) = (bit + 1, offset + width),
                Place::Boolean { .. } => (bit, offset) = (bit + 1, offset + 1),
                Place::Variable { .. } => (bit, variable) = (bit + 1, variable + 1),
            }
            places.push(place);
        }
        let slots = bitmap + bit.div_ceil(8);
        let ends = slots + offset;
        let bytes = ends + 4 * variable;
        if bytes > MAX_ROW_BYTES {
            return Err(StoreError::Unsupported(format!(
                "the fixed-size columns take {bytes} bytes a row; at most {MAX_ROW_BYTES} are possible"
            )));
        }
        for place in &mut places {
            if let Place::Fixed { offset, .. } | Place::Boolean { offset, .. } = place {
                *offset += slots;
            }
        }
        Ok(Self {
            version: schema.version,
            expiring,
            bitmap,
            slots,
            ends,
            bytes,
            variable,
            places,
        })
    }

    pub(crate) fn place(&self, column: usize) -> Option<Place> {
        self.places.get(column).copied()
    }

    pub(crate) fn expiring(&self) -> bool {
        self.expiring
    }

    /// Where the variable part starts: everything before it has the same place in every row.
    pub(crate) fn fixed_len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn null_bytes<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        &row[self.bitmap..self.slots]
    }

    /// Whether the column with null bit `bit` is null in a checked row.
    #[inline]
    pub(crate) fn is_null(&self, row: &[u8], bit: usize) -> bool {
        row[self.bitmap + bit / 8] & (1 << (bit % 8)) != 0
    }

    /// The bounds of variable column `index` in a checked row.
    #[inline]
    pub(crate) fn variable(&self, row: &[u8], index: usize) -> (usize, usize) {
        let end = |index: usize| {
            let at = self.ends + 4 * index;
            u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]) as usize
        };
        let start = if index == 0 { 0 } else { end(index - 1) };
        (self.bytes + start, self.bytes + end(index))
    }

    /// Checks all that the accessors rely on: flags, version, lengths and the order of end offsets.
    #[inline]
    pub(crate) fn check(&self, row: &[u8]) -> Result<(), RowProblem> {
        let flags = *row.first().ok_or(RowProblem::Short)?;
        if flags & !FLAG_EXPIRES != 0 {
            return Err(RowProblem::Flags(flags));
        }
        if (flags & FLAG_EXPIRES != 0) != self.expiring {
            return Err(RowProblem::Lifetime);
        }
        if row.len() < self.bytes {
            return Err(RowProblem::Short);
        }
        let version = u32::from_le_bytes([row[VERSION], row[VERSION + 1], row[VERSION + 2], row[VERSION + 3]]);
        if version != self.version.0 {
            return Err(RowProblem::Version {
                found: version,
                expected: self.version.0,
            });
        }
        let mut last = 0;
        for end in row[self.ends..self.bytes].chunks_exact(4) {
            let end = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
            if end < last {
                return Err(RowProblem::Order);
            }
            last = end;
        }
        if row.len() - self.bytes == last as usize {
            Ok(())
        } else {
            Err(RowProblem::Length)
        }
    }
}

/// Why a value is not a row of this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowProblem {
    #[error("the value ends early")]
    Short,
    #[error("the value has unknown flags {0:#04x}")]
    Flags(u8),
    #[error("the value is of the other lifetime (durable or expiring) than its table")]
    Lifetime,
    #[error("the value has schema version {found} where {expected} is read")]
    Version { found: u32, expected: u32 },
    #[error("the end offsets of the value decrease")]
    Order,
    #[error("the value is longer or shorter than its offsets say")]
    Length,
}

/// How a type is kept outside the key.
enum Storage {
    Null,
    Boolean,
    Fixed(usize),
    Bytes,
    Nested,
}

fn storage_of(data_type: &DataType) -> Result<Storage, StoreError> {
    Ok(match data_type {
        DataType::Null => Storage::Null,
        DataType::Boolean => Storage::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Storage::Bytes,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..) => {
            if null_slots(data_type)? > MAX_NULL_SLOTS {
                return Err(StoreError::Unsupported(format!(
                    "a value of type {data_type} has more than {MAX_NULL_SLOTS} fixed parts"
                )));
            }
            Storage::Nested
        }
        other => Storage::Fixed(fixed_width(other).ok_or_else(|| unstorable(other))?),
    })
}

/// How many leaf slots a null of this type takes in Arrow's layout; checks on the way that all inner types can be kept.
fn null_slots(data_type: &DataType) -> Result<u64, StoreError> {
    Ok(match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            // A null list has no elements, but they have to be storable.
            null_slots(field.data_type())?;
            1
        }
        DataType::FixedSizeList(field, length) => {
            null_slots(field.data_type())?.saturating_mul(u64::try_from(*length).map_err(|_| unstorable(data_type))?)
        }
        DataType::Struct(fields) => {
            let mut slots = 1u64;
            for field in fields {
                slots = slots.saturating_add(null_slots(field.data_type())?);
            }
            slots
        }
        DataType::Null | DataType::Boolean => 1,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 1,
        other => (fixed_width(other).ok_or_else(|| unstorable(other))? as u64).div_ceil(32),
    })
}

fn unstorable(data_type: &DataType) -> StoreError {
    StoreError::Unsupported(format!("a column of type {data_type} cannot be stored"))
}

/// The bytes of one value in Arrow's buffer, for types where they are all there is to it. Booleans are not among them.
pub(crate) fn fixed_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        DataType::Interval(IntervalUnit::MonthDayNano) => Some(16),
        other => other.primitive_width(),
    }
}

/// Encodes rows of record batches whose columns are those of a [`StoreSchema`], in order and type.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    schema: Arc<StoreSchema>,
    layout: RowLayout,
}

impl RowEncoder {
    /// An encoder for `schema`.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if a column's type cannot be stored.
    pub fn new(schema: Arc<StoreSchema>) -> Result<Self, StoreError> {
        KeyEncoder::new(&schema)?;
        let layout = RowLayout::new(&schema)?;
        Ok(Self { schema, layout })
    }

    /// The value of row `row`, `_seq` and `_updated` left blank for the committer. `expiry_micros` only for expiring stores.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if the row is larger than 16 MiB.
    pub fn encode(&self, columns: &[ArrayRef], row: usize, expiry_micros: Option<i64>) -> Result<Vec<u8>, StoreError> {
        let layout = &self.layout;
        if columns.len() != layout.places.len() {
            return Err(StoreError::Unsupported(format!(
                "the table has {} columns, the row {}",
                layout.places.len(),
                columns.len()
            )));
        }
        let mut out = Vec::with_capacity(layout.bytes + 16 * layout.variable);
        out.resize(layout.bytes, 0);
        out[VERSION..VERSION + 4].copy_from_slice(&layout.version.0.to_le_bytes());
        match (layout.expiring, expiry_micros) {
            (true, Some(expiry)) => {
                out[0] = FLAG_EXPIRES;
                out[EXPIRY..EXPIRY + 8].copy_from_slice(&expiry.to_le_bytes());
            }
            (false, None) => {}
            (true, None) => {
                return Err(StoreError::Unsupported(
                    "a row of an expiring table needs an expiry".into(),
                ));
            }
            (false, Some(_)) => return Err(StoreError::Unsupported("a row of a durable table has no expiry".into())),
        }
        for ((column, place), stored) in columns.iter().zip(&layout.places).zip(&self.schema.columns) {
            let mismatch = || {
                StoreError::Unsupported(format!(
                    "a column has type {} where {} is stored",
                    column.data_type(),
                    stored.data_type
                ))
            };
            match *place {
                Place::Key(_) | Place::Null => {}
                Place::Fixed { bit, offset, width } => {
                    if column.is_null(row) {
                        out[layout.bitmap + bit / 8] |= 1 << (bit % 8);
                    } else {
                        let slot = &mut out[offset..offset + width];
                        copy_fixed(column, row, slot).ok_or_else(mismatch)?;
                    }
                }
                Place::Boolean { bit, offset } => {
                    let column = column.as_any().downcast_ref::<BooleanArray>().ok_or_else(mismatch)?;
                    if column.is_null(row) {
                        out[layout.bitmap + bit / 8] |= 1 << (bit % 8);
                    } else {
                        out[offset] = u8::from(column.value(row));
                    }
                }
                Place::Variable { bit, index, nested } => {
                    if column.is_null(row) {
                        out[layout.bitmap + bit / 8] |= 1 << (bit % 8);
                    } else if nested {
                        if column.data_type() != &stored.data_type {
                            return Err(mismatch());
                        }
                        nested::encode(column, row, &mut out)?;
                    } else {
                        out.extend_from_slice(bytes_of(column, row).ok_or_else(mismatch)?);
                    }
                    if out.len() > MAX_ROW_BYTES {
                        return Err(StoreError::Unsupported(format!(
                            "the row is larger than {MAX_ROW_BYTES} bytes"
                        )));
                    }
                    let end = u32::try_from(out.len() - layout.bytes).expect("MAX_ROW_BYTES fits u32");
                    let at = layout.ends + 4 * index;
                    out[at..at + 4].copy_from_slice(&end.to_le_bytes());
                }
            }
        }
        Ok(out)
    }
}

/// Copies a value's bytes into a slot of the same width.
fn copy_fixed(column: &ArrayRef, row: usize, slot: &mut [u8]) -> Option<()> {
    let array: &dyn Array = column.as_ref();
    downcast_primitive_array!(
        array => {
            let value = array.values().get(row)?.to_byte_slice();
            if value.len() != slot.len() {
                return None;
            }
            slot.copy_from_slice(value);
        }
        DataType::FixedSizeBinary(_) => {
            let value = array.as_any().downcast_ref::<FixedSizeBinaryArray>()?.value(row);
            if value.len() != slot.len() {
                return None;
            }
            slot.copy_from_slice(value);
        }
        _ => return None,
    );
    Some(())
}

/// The bytes of a string or binary value.
pub(crate) fn bytes_of(array: &dyn Array, row: usize) -> Option<&[u8]> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_any().downcast_ref::<StringArray>()?.value(row).as_bytes(),
        DataType::LargeUtf8 => array.as_any().downcast_ref::<LargeStringArray>()?.value(row).as_bytes(),
        DataType::Binary => array.as_any().downcast_ref::<BinaryArray>()?.value(row),
        DataType::LargeBinary => array.as_any().downcast_ref::<LargeBinaryArray>()?.value(row),
        _ => return None,
    })
}

/// A stored value, looked at without decoding its columns.
#[derive(Clone, Debug)]
pub struct RowView {
    /// Its commit order.
    pub seq: Seq,
    /// Its commit time, µs.
    pub updated_micros: i64,
    /// When it ceases to exist, µs; `None` for durable rows.
    pub expiry_micros: Option<i64>,
}

impl RowView {
    /// Reads the header of a value.
    pub(crate) fn read(row: &[u8]) -> Result<Self, RowProblem> {
        let word = |at: usize| -> Result<[u8; 8], RowProblem> {
            row.get(at..)
                .and_then(<[u8]>::first_chunk)
                .copied()
                .ok_or(RowProblem::Short)
        };
        let flags = *row.first().ok_or(RowProblem::Short)?;
        if row.len() < HEADER_BYTES {
            return Err(RowProblem::Short);
        }
        if flags & !FLAG_EXPIRES != 0 {
            return Err(RowProblem::Flags(flags));
        }
        let expiry_micros = match flags & FLAG_EXPIRES {
            0 => None,
            _ => Some(i64::from_le_bytes(word(EXPIRY)?)),
        };
        Ok(Self {
            seq: Seq(u64::from_le_bytes(word(SEQ)?)),
            updated_micros: i64::from_le_bytes(word(UPDATED)?),
            expiry_micros,
        })
    }

    /// Whether the row does not exist any more at `now_micros`.
    pub(crate) fn expired(&self, now_micros: i64) -> bool {
        self.expiry_micros
            .is_some_and(|expiry| expiry <= now_micros && !mistake!(ExpiredRowsAreShown))
    }
}

/// Fills the blanks of a value, which has at least [`HEADER_BYTES`].
pub(crate) fn stamp(row: &mut [u8], seq: Seq, updated_micros: i64) {
    row[SEQ..SEQ + 8].copy_from_slice(&seq.0.to_le_bytes());
    row[UPDATED..UPDATED + 8].copy_from_slice(&updated_micros.to_le_bytes());
}

/// `_seq` of a checked row, as stored.
#[inline]
pub(crate) fn seq_of(row: &[u8]) -> u64 {
    u64::from_le_bytes(*row[SEQ..].first_chunk().expect("a checked row has its header"))
}

/// `_updated` of a checked row, as stored.
#[inline]
pub(crate) fn updated_of(row: &[u8]) -> i64 {
    i64::from_le_bytes(*row[UPDATED..].first_chunk().expect("a checked row has its header"))
}

/// The expiry of a checked row of an expiring store.
#[inline]
pub(crate) fn expiry_of(row: &[u8]) -> i64 {
    i64::from_le_bytes(*row[EXPIRY..].first_chunk().expect("a checked row has its header"))
}
