//! In which form a column's type is kept in Parquet: as it is where every bit comes back, otherwise as bytes. Decided by the type
//! alone; how columns are named and ordered is `layout`'s.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, make_array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, IntervalUnit};

use crate::error::StoreError;
use crate::nested::{self, NestedBuilder};
use crate::row::fixed_width;

/// How the values of one type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As Parquet keeps the type.
    Same,
    /// Arrow's bytes of each value, so many, little endian: FIXED_LEN_BYTE_ARRAY.
    Bytes(i32),
    /// The payload of `nested`: BYTE_ARRAY.
    Encoded,
}

impl Form {
    pub(crate) fn of(data_type: &DataType) -> Self {
        if kept_by_parquet(data_type) {
            return Self::Same;
        }
        let width = match data_type.is_nested() {
            true => None,
            false => fixed_width(data_type).filter(|&width| width > 0),
        };
        match width.and_then(|width| i32::try_from(width).ok()) {
            Some(width) => Self::Bytes(width),
            None => Self::Encoded,
        }
    }

    /// The type of the column in the file.
    pub(crate) fn file_type(self, data_type: &DataType) -> DataType {
        match self {
            Self::Same => data_type.clone(),
            Self::Bytes(width) => DataType::FixedSizeBinary(width),
            Self::Encoded => DataType::Binary,
        }
    }

    pub(crate) fn to_file(self, array: &ArrayRef) -> Result<ArrayRef, StoreError> {
        match self {
            Self::Same => {
                check_decimals(array)?;
                Ok(array.clone())
            }
            Self::Bytes(width) => to_bytes(array, width),
            Self::Encoded => encode(array),
        }
    }

    /// The values in the form of `data_type` again; an error is damage.
    pub(crate) fn restore(self, data_type: &DataType, array: &ArrayRef) -> Result<ArrayRef, String> {
        match self {
            Self::Same => Ok(array.clone()),
            Self::Bytes(_) => from_bytes(data_type, array),
            Self::Encoded => decode(data_type, array),
        }
    }
}

/// Whether Parquet as the `parquet` crate writes and reads it gives back every value of a type, bit for bit.
fn kept_by_parquet(data_type: &DataType) -> bool {
    let kept_inside = |data_type: &DataType| kept_by_parquet(data_type) && has_room_for_any_value(data_type);
    match data_type {
        // Parquet's INTERVAL has no nanoseconds.
        DataType::Interval(IntervalUnit::MonthDayNano) => false,
        // The crate cannot write it.
        DataType::Decimal32(1, _) => false,
        // Parquet's DECIMAL has a scale from zero up to the precision.
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => u8::try_from(*scale).is_ok_and(|scale| scale <= *precision),
        DataType::FixedSizeBinary(width) => *width > 0,
        DataType::List(field) | DataType::LargeList(field) => kept_inside(field.data_type()),
        DataType::FixedSizeList(field, length) => *length > 0 && kept_inside(field.data_type()),
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| kept_inside(field.data_type())),
        DataType::Map(entries, _) => kept_by_parquet(entries.data_type()),
        _ => true,
    }
}

/// Whether Parquet has as many bytes as Arrow for a value. A decimal of few digits gets fewer, and Arrow does not see to it that
/// values have no more digits than their type.
fn has_room_for_any_value(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal32(precision, _) => *precision >= 2,
        DataType::Decimal64(precision, _) => *precision >= 10,
        DataType::Decimal128(precision, _) => *precision >= 37,
        DataType::Decimal256(precision, _) => *precision >= 75,
        _ => true,
    }
}

/// Refuses values that Parquet would cut.
fn check_decimals(array: &ArrayRef) -> Result<(), StoreError> {
    if has_room_for_any_value(array.data_type()) {
        return Ok(());
    }
    macro_rules! check {
        ($type:ty, $precision:expr) => {
            array
                .as_primitive::<$type>()
                .validate_decimal_precision(*$precision)
        };
    }
    let checked = match array.data_type() {
        DataType::Decimal32(precision, _) => check!(Decimal32Type, precision),
        DataType::Decimal64(precision, _) => check!(Decimal64Type, precision),
        DataType::Decimal128(precision, _) => check!(Decimal128Type, precision),
        DataType::Decimal256(precision, _) => check!(Decimal256Type, precision),
        _ => return Ok(()),
    };
    checked.map_err(|error| {
        StoreError::Unsupported(format!(
            "a value has more digits than its type {}: {error}",
            array.data_type()
        ))
    })
}

fn to_bytes(array: &ArrayRef, width: i32) -> Result<ArrayRef, StoreError> {
    let data = array.to_data();
    let bytes = usize::try_from(width).unwrap_or(0);
    let values = data.buffers()[0].slice_with_length(data.offset() * bytes, data.len() * bytes);
    let array = FixedSizeBinaryArray::try_new(width, values, data.nulls().cloned())
        .map_err(|error| StoreError::Unsupported(error.to_string()))?;
    Ok(Arc::new(array))
}

fn from_bytes(data_type: &DataType, array: &ArrayRef) -> Result<ArrayRef, String> {
    let values = array
        .as_fixed_size_binary_opt()
        .ok_or("the column is not of bytes of one width")?;
    let data: ArrayData = ArrayData::builder(data_type.clone())
        .len(values.len())
        .add_buffer(values.values().clone())
        .nulls(values.nulls().cloned())
        // The bytes come from a page, anywhere in it.
        .align_buffers(true)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(make_array(data))
}

fn encode(array: &ArrayRef) -> Result<ArrayRef, StoreError> {
    let mut ends = Vec::with_capacity(array.len() + 1);
    ends.push(0);
    let (mut bytes, mut value) = (Vec::new(), Vec::new());
    for row in 0..array.len() {
        if array.is_valid(row) {
            value.clear();
            nested::encode(array, row, &mut value)?;
            bytes.extend_from_slice(&value);
        }
        let end = i32::try_from(bytes.len())
            .map_err(|_| StoreError::Unsupported("more than 2 GiB of nested values in one batch".to_string()))?;
        ends.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    let array = BinaryArray::try_new(offsets, Buffer::from_vec(bytes), array.nulls().cloned())
        .map_err(|error| StoreError::Unsupported(error.to_string()))?;
    Ok(Arc::new(array))
}

fn decode(data_type: &DataType, array: &ArrayRef) -> Result<ArrayRef, String> {
    let values = array.as_binary_opt::<i32>().ok_or("the column is not of bytes")?;
    let mut builder = NestedBuilder::new(data_type, values.len()).map_err(|error| error.to_string())?;
    for value in values {
        match value {
            None => builder.append_null(),
            Some(mut bytes) => {
                let decoded = builder.append(&mut bytes);
                decoded
                    .filter(|()| bytes.is_empty())
                    .ok_or("a nested value does not decode")?;
            }
        }
    }
    builder.finish().map(make_array)
}
