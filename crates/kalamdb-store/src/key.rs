//! The only home of key layout: `store | epoch | scope | PK`, memcomparable and canonical. How a range is read is not here.

use std::ops::Bound;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    StringArray,
};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::StoreError;
use crate::ids::{Epoch, ScopeId, StoreId};
use crate::schema::StoreSchema;

/// Bytes of `store | epoch | scope`.
pub(crate) const PREFIX_BYTES: usize = 16;

/// What separates a string from the next key column: a zero byte inside it is written as `00 FF`, its end as `00 00`.
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const TERMINATOR: u8 = 0x00;

/// How one key column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    /// Big endian, sign bit flipped; this many bytes.
    Signed(usize),
    /// Big endian.
    Unsigned(usize),
    /// One byte, 0 or 1.
    Boolean,
    /// As it is.
    Raw(usize),
    /// Escaped and terminated.
    Bytes,
}

impl KeyKind {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Signed(1),
            DataType::Int16 => Self::Signed(2),
            DataType::Int32 | DataType::Date32 | DataType::Decimal32(..) => Self::Signed(4),
            DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond) => Self::Signed(4),
            DataType::Int64 | DataType::Date64 | DataType::Decimal64(..) => Self::Signed(8),
            DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => Self::Signed(8),
            DataType::Timestamp(..) => Self::Signed(8),
            DataType::Decimal128(..) => Self::Signed(16),
            DataType::Decimal256(..) => Self::Signed(32),
            DataType::UInt8 => Self::Unsigned(1),
            DataType::UInt16 => Self::Unsigned(2),
            DataType::UInt32 => Self::Unsigned(4),
            DataType::UInt64 => Self::Unsigned(8),
            DataType::FixedSizeBinary(width) => Self::Raw(usize::try_from(*width).ok()?),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Self::Bytes,
            _ => return None,
        })
    }

    fn fixed_width(self) -> Option<usize> {
        match self {
            Self::Signed(width) | Self::Unsigned(width) | Self::Raw(width) => Some(width),
            Self::Boolean => Some(1),
            Self::Bytes => None,
        }
    }
}

/// Encodes primary keys so that bytes compare as values do.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    types: Vec<DataType>,
    kinds: Vec<KeyKind>,
}

impl KeyEncoder {
    /// An encoder for the key columns of `schema`.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if a key column's type cannot be a key (float, JSON, nested, interval).
    pub fn new(schema: &StoreSchema) -> Result<Self, StoreError> {
        let mut types = Vec::with_capacity(schema.key.len());
        let mut kinds = Vec::with_capacity(schema.key.len());
        for &index in &schema.key {
            let column = schema.columns.get(index).ok_or_else(|| {
                StoreError::Unsupported(format!("the key names column {index}, which does not exist"))
            })?;
            let kind = KeyKind::of(&column.data_type).ok_or_else(|| {
                StoreError::Unsupported(format!("a column of type {} cannot be part of a key", column.data_type))
            })?;
            types.push(column.data_type.clone());
            kinds.push(kind);
        }
        Ok(Self { types, kinds })
    }

    /// Whether a column of this type may be part of a key.
    pub fn supports(data_type: &DataType) -> bool {
        KeyKind::of(data_type).is_some()
    }

    /// Appends the encoding of row `row` of the key columns, given in key order; fewer columns than the key has make a prefix.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for a null.
    pub fn encode(&self, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
        if columns.len() > self.types.len() {
            return Err(StoreError::Unsupported(format!(
                "the key has {} columns, {} were given",
                self.types.len(),
                columns.len()
            )));
        }
        for (column, data_type) in columns.iter().zip(&self.types) {
            if column.is_null(row) {
                return Err(StoreError::Unsupported("a key column cannot be null".to_string()));
            }
            encode_value(column, data_type, row, out)?;
        }
        Ok(())
    }
}

fn encode_value(column: &ArrayRef, data_type: &DataType, row: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
    macro_rules! number {
        ($type:ty, $flip:expr) => {{
            let array = column
                .as_primitive_opt::<$type>()
                .ok_or_else(|| mismatch(column, data_type))?;
            let start = out.len();
            out.extend_from_slice(&array.value(row).to_be_bytes());
            if $flip {
                out[start] ^= 0x80;
            }
        }};
    }
    macro_rules! bytes {
        ($type:ty) => {{
            let array = column
                .as_any()
                .downcast_ref::<$type>()
                .ok_or_else(|| mismatch(column, data_type))?;
            escape(array.value(row).as_ref(), out);
        }};
    }
    match data_type {
        DataType::Boolean => {
            let array = column
                .as_any()
                .downcast_ref::<BooleanArray>()
                .ok_or_else(|| mismatch(column, data_type))?;
            out.push(u8::from(array.value(row)));
        }
        DataType::Int8 => number!(Int8Type, true),
        DataType::Int16 => number!(Int16Type, true),
        DataType::Int32 => number!(Int32Type, true),
        DataType::Int64 => number!(Int64Type, true),
        DataType::UInt8 => number!(UInt8Type, false),
        DataType::UInt16 => number!(UInt16Type, false),
        DataType::UInt32 => number!(UInt32Type, false),
        DataType::UInt64 => number!(UInt64Type, false),
        DataType::Date32 => number!(Date32Type, true),
        DataType::Date64 => number!(Date64Type, true),
        DataType::Time32(TimeUnit::Second) => number!(Time32SecondType, true),
        DataType::Time32(TimeUnit::Millisecond) => number!(Time32MillisecondType, true),
        DataType::Time64(TimeUnit::Microsecond) => number!(Time64MicrosecondType, true),
        DataType::Time64(TimeUnit::Nanosecond) => number!(Time64NanosecondType, true),
        DataType::Timestamp(TimeUnit::Second, _) => number!(TimestampSecondType, true),
        DataType::Timestamp(TimeUnit::Millisecond, _) => number!(TimestampMillisecondType, true),
        DataType::Timestamp(TimeUnit::Microsecond, _) => number!(TimestampMicrosecondType, true),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => number!(TimestampNanosecondType, true),
        DataType::Decimal32(..) => number!(Decimal32Type, true),
        DataType::Decimal64(..) => number!(Decimal64Type, true),
        DataType::Decimal128(..) => number!(Decimal128Type, true),
        DataType::Decimal256(..) => number!(Decimal256Type, true),
        DataType::FixedSizeBinary(width) => {
            let array = column
                .as_any()
                .downcast_ref::<FixedSizeBinaryArray>()
                .filter(|array| array.value_length() == *width)
                .ok_or_else(|| mismatch(column, data_type))?;
            out.extend_from_slice(array.value(row));
        }
        DataType::Utf8 => bytes!(StringArray),
        DataType::LargeUtf8 => bytes!(LargeStringArray),
        DataType::Binary => bytes!(BinaryArray),
        DataType::LargeBinary => bytes!(LargeBinaryArray),
        other => {
            return Err(StoreError::Unsupported(format!(
                "a column of type {other} cannot be part of a key"
            )));
        }
    }
    Ok(())
}

fn mismatch(column: &ArrayRef, expected: &DataType) -> StoreError {
    StoreError::Unsupported(format!(
        "a key column has type {} where {expected} is stored",
        column.data_type()
    ))
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.contains(&ESCAPE) {
        for &byte in bytes {
            out.push(byte);
            if byte == ESCAPE {
                out.push(ESCAPED_ZERO);
            }
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&[ESCAPE, TERMINATOR]);
}

/// Takes primary keys apart again, one column for many rows at a time.
#[derive(Clone, Debug)]
pub(crate) struct KeyDecoder {
    kinds: Vec<KeyKind>,
    /// Where each column starts if all before it have a fixed width.
    offsets: Vec<Option<usize>>,
    /// The length of a key whose columns all have a fixed width.
    fixed_len: Option<usize>,
}

/// The bytes of one key column for all rows of a batch, in Arrow's own layout.
pub(crate) enum KeyValues {
    /// Values of one width, little endian where the type is a number.
    Fixed(Buffer),
    /// One byte per row.
    Boolean(Vec<bool>),
    /// End offsets, one per row, and the bytes.
    Bytes(Vec<usize>, Vec<u8>),
}

impl KeyDecoder {
    pub(crate) fn new(encoder: &KeyEncoder) -> Self {
        let mut offsets = Vec::with_capacity(encoder.kinds.len());
        let mut next = Some(0);
        for kind in &encoder.kinds {
            offsets.push(next);
            next = next.zip(kind.fixed_width()).map(|(offset, width)| offset + width);
        }
        Self {
            kinds: encoder.kinds.clone(),
            offsets,
            fixed_len: next,
        }
    }

    /// Checks that `key` is a whole key and nothing else.
    pub(crate) fn check(&self, key: &[u8]) -> Result<(), &'static str> {
        if let Some(len) = self.fixed_len {
            return if key.len() == len {
                Ok(())
            } else {
                Err("the key has the wrong length")
            };
        }
        let mut rest = key;
        for kind in &self.kinds {
            rest = skip(*kind, rest).ok_or("the key ends early")?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err("the key has bytes after its end")
        }
    }

    /// Decodes column `column` of the key for each of `keys`, all of which passed [`KeyDecoder::check`].
    pub(crate) fn decode<'a>(
        &self,
        column: usize,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<KeyValues, &'static str> {
        let kind = self.kinds[column];
        let rows = keys.len();
        let values = keys.map(|key| self.tail(column, key));
        match kind {
            KeyKind::Signed(width) => fixed(values, rows, width, Some(0x80)),
            KeyKind::Unsigned(width) => fixed(values, rows, width, Some(0)),
            KeyKind::Raw(width) => fixed(values, rows, width, None),
            KeyKind::Boolean => {
                let mut out = Vec::with_capacity(rows);
                for value in values {
                    out.push(match value.and_then(<[u8]>::first).ok_or("the key ends early")? {
                        0 => false,
                        1 => true,
                        _ => return Err("a boolean is neither 0 nor 1"),
                    });
                }
                Ok(KeyValues::Boolean(out))
            }
            KeyKind::Bytes => {
                let mut ends = Vec::with_capacity(rows);
                let mut out = Vec::new();
                for value in values {
                    unescape(value.ok_or("the key ends early")?, &mut out).ok_or("the key ends early")?;
                    ends.push(out.len());
                }
                Ok(KeyValues::Bytes(ends, out))
            }
        }
    }

    /// The key from column `column` on.
    fn tail<'a>(&self, column: usize, key: &'a [u8]) -> Option<&'a [u8]> {
        if let Some(offset) = self.offsets[column] {
            return key.get(offset..);
        }
        self.kinds[..column]
            .iter()
            .try_fold(key, |rest, kind| skip(*kind, rest))
    }
}

fn fixed<'a>(
    values: impl Iterator<Item = Option<&'a [u8]>>,
    rows: usize,
    width: usize,
    flip: Option<u8>,
) -> Result<KeyValues, &'static str> {
    const EARLY: &str = "the key ends early";
    let mut out = MutableBuffer::with_capacity(rows * width);
    macro_rules! number {
        ($type:ty, $flip:expr) => {
            for value in values {
                let mut bytes: [u8; size_of::<$type>()] = *value.and_then(<[u8]>::first_chunk).ok_or(EARLY)?;
                bytes[0] ^= $flip;
                out.push(<$type>::from_be_bytes(bytes));
            }
        };
    }
    match (width, flip) {
        (4, Some(flip)) => number!(u32, flip),
        (8, Some(flip)) => number!(u64, flip),
        (16, Some(flip)) => number!(i128, flip),
        (_, Some(flip)) => {
            let mut bytes = vec![0; width];
            for value in values {
                bytes.copy_from_slice(value.and_then(|value| value.get(..width)).ok_or(EARLY)?);
                bytes[0] ^= flip;
                bytes.reverse();
                out.extend_from_slice(&bytes);
            }
        }
        (_, None) => {
            for value in values {
                out.extend_from_slice(value.and_then(|value| value.get(..width)).ok_or(EARLY)?);
            }
        }
    }
    Ok(KeyValues::Fixed(out.into()))
}

/// What follows one value.
fn skip(kind: KeyKind, key: &[u8]) -> Option<&[u8]> {
    match kind.fixed_width() {
        Some(width) => key.get(width..),
        None => {
            let mut rest = key;
            loop {
                let zero = rest.iter().position(|&byte| byte == ESCAPE)?;
                let next = *rest.get(zero + 1)?;
                rest = &rest[zero + 2..];
                match next {
                    TERMINATOR => return Some(rest),
                    ESCAPED_ZERO => {}
                    _ => return None,
                }
            }
        }
    }
}

fn unescape(key: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = key;
    loop {
        let zero = rest.iter().position(|&byte| byte == ESCAPE)?;
        out.extend_from_slice(&rest[..zero]);
        match *rest.get(zero + 1)? {
            TERMINATOR => return Some(()),
            ESCAPED_ZERO => out.push(ESCAPE),
            _ => return None,
        }
        rest = &rest[zero + 2..];
    }
}

/// `store | epoch | scope`, the start of every key of one scope in one epoch.
pub(crate) fn scope_prefix(store: StoreId, epoch: Epoch, scope: ScopeId) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&store.0.to_be_bytes());
    prefix[4..8].copy_from_slice(&epoch.0.to_be_bytes());
    prefix[8..].copy_from_slice(&scope.0.to_be_bytes());
    prefix
}

/// The start of every key of one epoch.
pub(crate) fn epoch_prefix(store: StoreId, epoch: Epoch) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix[..4].copy_from_slice(&store.0.to_be_bytes());
    prefix[4..].copy_from_slice(&epoch.0.to_be_bytes());
    prefix
}

/// The start of every key of one store.
pub(crate) fn store_prefix(store: StoreId) -> [u8; 4] {
    store.0.to_be_bytes()
}

/// Replaces `out` by the whole key of a row.
pub(crate) fn hot_key(store: StoreId, epoch: Epoch, scope: ScopeId, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&scope_prefix(store, epoch, scope));
    out.extend_from_slice(key);
}

/// The smallest byte string greater than every one that starts with `prefix`; `None` if there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut out = prefix[..=last].to_vec();
    out[last] += 1;
    Some(out)
}

/// Turns a range of encoded keys (or prefixes of them) of one scope into `[lower, upper)`; `None` if nothing is in it.
///
/// No whole key is a prefix of another, so "all that start with" serves whole keys and prefixes alike.
pub(crate) fn bounds(
    prefix: &[u8],
    start: &Bound<Vec<u8>>,
    end: &Bound<Vec<u8>>,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let whole = |key: &Vec<u8>| [prefix, key.as_slice()].concat();
    let lower = match start {
        Bound::Unbounded => prefix.to_vec(),
        Bound::Included(key) => whole(key),
        Bound::Excluded(key) => successor(&whole(key))?,
    };
    let upper = match end {
        Bound::Unbounded => successor(prefix),
        Bound::Included(key) => successor(&whole(key)),
        Bound::Excluded(key) => Some(whole(key)),
    };
    match &upper {
        Some(upper) if *upper <= lower => None,
        _ => Some((lower, upper)),
    }
}

/// Names a whole key for an error message: its store, epoch and scope where they can be read, and the key in hexadecimal.
pub(crate) fn describe(whole: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match whole.split_first_chunk::<PREFIX_BYTES>() {
        Some((prefix, key)) => {
            let [s0, s1, s2, s3, e0, e1, e2, e3, scope @ ..] = *prefix;
            format!(
                "store {}, epoch {}, scope {}, key {}",
                u32::from_be_bytes([s0, s1, s2, s3]),
                u32::from_be_bytes([e0, e1, e2, e3]),
                u64::from_be_bytes(scope),
                hex(key)
            )
        }
        None => format!("key {}", hex(whole)),
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, Decimal256Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
        TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, make_comparator,
    };
    use arrow::compute::SortOptions;
    use arrow::datatypes::{Field, i256};
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{Lifetime, StoredColumn};
    use crate::{ColumnId, SchemaVersion};

    fn schema(types: &[DataType]) -> StoreSchema {
        StoreSchema {
            version: SchemaVersion(1),
            columns: types
                .iter()
                .map(|data_type| StoredColumn {
                    id: ColumnId(1),
                    data_type: data_type.clone(),
                })
                .collect(),
            key: (0..types.len()).collect(),
            lifetime: Lifetime::Durable,
        }
    }

    /// Every pair of rows: bytes compare as values do, and bytes decode to the values.
    fn check(columns: Vec<ArrayRef>) {
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        let encoder = KeyEncoder::new(&schema(&types)).expect("key types");
        let rows = columns[0].len();
        let keys: Vec<Vec<u8>> = (0..rows)
            .map(|row| {
                let mut out = Vec::new();
                encoder.encode(&columns, row, &mut out).expect("encodes");
                out
            })
            .collect();
        let comparators: Vec<_> = columns
            .iter()
            .map(|column| make_comparator(column, column, SortOptions::default()).expect("comparable"))
            .collect();
        for a in 0..rows {
            for b in 0..rows {
                let expected = comparators
                    .iter()
                    .map(|compare| compare(a, b))
                    .find(|order| order.is_ne());
                assert_eq!(
                    keys[a].cmp(&keys[b]),
                    expected.unwrap_or(Ordering::Equal),
                    "{:?} {:?}",
                    keys[a],
                    keys[b]
                );
            }
        }
        let decoder = KeyDecoder::new(&encoder);
        for key in &keys {
            decoder.check(key).expect("a whole key");
            assert!(decoder.check(&key[..key.len() - 1]).is_err());
            assert!(decoder.check(&[key, [0].as_slice()].concat()).is_err());
        }
        let batch = crate::decode::tests::decode_keys(&schema(&types), &keys).expect("decodes");
        let fields: Vec<Field> = types
            .iter()
            .map(|data_type| Field::new("c", data_type.clone(), true))
            .collect();
        let given = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).expect("a batch");
        assert_eq!(batch, given);
    }

    proptest! {
        #[test]
        fn numbers_keep_their_order(
            a in prop::collection::vec(any::<(i8, i16, i32, i64, i128)>(), 1..12),
            b in prop::collection::vec(any::<(u8, u16, u32, u64, bool)>(), 12),
        ) {
            macro_rules! column {
                ($array:ty, $values:expr, $field:tt) => {
                    Arc::new($values.iter().take(a.len()).map(|row| Some(row.$field)).collect::<$array>()) as ArrayRef
                };
            }
            check(vec![column!(Int8Array, a, 0)]);
            check(vec![column!(Int16Array, a, 1), column!(UInt8Array, b, 0)]);
            check(vec![column!(Int32Array, a, 2)]);
            check(vec![column!(Int64Array, a, 3)]);
            check(vec![column!(UInt16Array, b, 1), column!(BooleanArray, b, 4)]);
            check(vec![column!(UInt32Array, b, 2)]);
            check(vec![column!(UInt64Array, b, 3)]);
            check(vec![column!(Date32Array, a, 2), column!(Int64Array, a, 3)]);
            check(vec![Arc::new(TimestampNanosecondArray::from_iter_values(a.iter().map(|row| row.3)).with_timezone("UTC"))]);
            check(vec![Arc::new(Decimal128Array::from_iter_values(a.iter().map(|row| row.4)))]);
            check(vec![Arc::new(Decimal256Array::from_iter_values(
                a.iter().zip(&b).map(|(row, other)| i256::from_parts(u128::from(other.3), row.4)),
            ))]);
        }

        #[test]
        fn bytes_and_text_keep_their_order(
            bytes in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..5), 1..12),
            text in prop::collection::vec("[\0ab\u{7f}é]{0,4}", 12),
            number in prop::collection::vec(-1i32..=1, 12),
        ) {
            let rows = bytes.len();
            let bytes = || Arc::new(BinaryArray::from_iter_values(&bytes)) as ArrayRef;
            let text = || Arc::new(StringArray::from_iter_values(&text[..rows])) as ArrayRef;
            let number = || Arc::new(Int32Array::from(number[..rows].to_vec())) as ArrayRef;
            check(vec![bytes()]);
            check(vec![text(), number()]);
            check(vec![number(), text(), bytes(), number()]);
            check(vec![arrow::compute::cast(&text(), &DataType::LargeUtf8).expect("casts"), number()]);
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for types in [vec![DataType::Utf8, DataType::Int32], vec![DataType::Boolean], vec![DataType::Binary]] {
                // It does not panic.
                match crate::decode::tests::decode_keys(&schema(&types), std::slice::from_ref(&bytes)) {
                    Ok(_) | Err(StoreError::Corrupt { .. }) => {}
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
        }
    }

    #[test]
    fn key_types_are_those_with_an_order_that_bytes_can_keep() {
        let item = || Arc::new(Field::new("item", DataType::Int32, true));
        for (data_type, supported) in [
            (DataType::Int64, true),
            (DataType::Utf8, true),
            (DataType::FixedSizeBinary(16), true),
            (DataType::Time64(TimeUnit::Nanosecond), true),
            (DataType::Decimal32(5, 2), true),
            (DataType::Float64, false),
            (DataType::Float16, false),
            (DataType::Null, false),
            (DataType::Interval(arrow::datatypes::IntervalUnit::DayTime), false),
            (DataType::Duration(TimeUnit::Second), false),
            (DataType::List(item()), false),
            (DataType::Utf8View, false),
        ] {
            assert_eq!(KeyEncoder::supports(&data_type), supported, "{data_type}");
            let refused = matches!(KeyEncoder::new(&schema(&[data_type])), Err(StoreError::Unsupported(_)));
            assert_eq!(refused, !supported);
        }
    }

    #[test]
    fn fixed_binary_keys_go_as_they_are() {
        let values = [[0u8, 255], [1, 0], [0, 0]];
        check(vec![Arc::new(
            FixedSizeBinaryArray::try_from_iter(values.iter()).expect("an array"),
        )]);
    }

    #[test]
    fn successors() {
        assert_eq!(successor(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(successor(&[255]), None);
    }
}
