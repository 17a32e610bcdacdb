//! How much memory values take, from their lengths alone.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

/// What a list's element costs a kernel beside its value, bytes: the index by which it is copied.
pub(super) const ELEMENT_BYTES: u64 = 8;

/// Bytes of an array's values; of a slice only what it shows.
pub(super) fn of_array(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8View => array
            .as_string_view()
            .iter()
            .flatten()
            .map(|text| text.len() as u64)
            .sum(),
        DataType::BinaryView => array
            .as_binary_view()
            .iter()
            .flatten()
            .map(|value| value.len() as u64)
            .sum(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::Map(..) => {
            let elements = elements(array);
            elements.map_or(0, |elements| {
                (elements.len() as u64)
                    .saturating_mul(ELEMENT_BYTES)
                    .saturating_add(of_array(&elements))
            })
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(of_array).sum(),
        _ => match array.to_data().get_slice_memory_size() {
            Ok(bytes) => bytes as u64,
            Err(_) => array.get_array_memory_size() as u64,
        },
    }
}

/// Bytes of one row's value.
pub(super) fn of_row(array: &ArrayRef, row: usize) -> u64 {
    of_array(&array.slice(row, 1))
}

/// Bytes of an argument's values for so many rows.
pub(super) fn of_argument(argument: &ColumnarValue, rows: usize) -> Result<u64> {
    Ok(match argument {
        ColumnarValue::Array(array) => of_array(array),
        ColumnarValue::Scalar(value) => of_scalar(value)?.saturating_mul(rows as u64),
    })
}

/// Bytes of a scalar.
pub(crate) fn of_scalar(value: &ScalarValue) -> Result<u64> {
    let nested = |array: ArrayRef| of_array(&array);
    Ok(match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len) as u64
        }
        ScalarValue::Binary(bytes)
        | ScalarValue::LargeBinary(bytes)
        | ScalarValue::BinaryView(bytes)
        | ScalarValue::FixedSizeBinary(_, bytes) => bytes.as_ref().map_or(0, Vec::len) as u64,
        ScalarValue::List(array) => nested(Arc::clone(array) as ArrayRef),
        ScalarValue::LargeList(array) => nested(Arc::clone(array) as ArrayRef),
        ScalarValue::FixedSizeList(array) => nested(Arc::clone(array) as ArrayRef),
        ScalarValue::Struct(array) => nested(Arc::clone(array) as ArrayRef),
        ScalarValue::Map(array) => nested(Arc::clone(array) as ArrayRef),
        ScalarValue::Dictionary(_, value) => of_scalar(value)?,
        other => of_array(&other.to_array()?),
    })
}

/// The elements of all lists of an array, one after the other; `None` if it holds no lists.
pub(super) fn elements(array: &ArrayRef) -> Option<ArrayRef> {
    let within = |values: &ArrayRef, first: usize, last: usize| values.slice(first, last - first);
    Some(match array.data_type() {
        DataType::List(_) => {
            let (list, offsets) = (array.as_list::<i32>(), array.as_list::<i32>().value_offsets());
            within(list.values(), offsets[0] as usize, offsets[array.len()] as usize)
        }
        DataType::LargeList(_) => {
            let (list, offsets) = (array.as_list::<i64>(), array.as_list::<i64>().value_offsets());
            within(list.values(), offsets[0] as usize, offsets[array.len()] as usize)
        }
        DataType::FixedSizeList(..) => Arc::clone(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let (map, offsets) = (array.as_map(), array.as_map().value_offsets());
            let entries = Arc::new(map.entries().clone()) as ArrayRef;
            within(&entries, offsets[0] as usize, offsets[array.len()] as usize)
        }
        _ => return None,
    })
}

/// How many values are in the lists of an array, at any depth.
pub(super) fn leaves(array: &ArrayRef) -> u64 {
    match elements(array) {
        Some(elements) => leaves(&elements),
        None => array.len() as u64,
    }
}

/// An argument's values by row, in a type that they can be read in.
pub(super) struct ByRow<'a>(Cow<'a, ColumnarValue>);

impl<'a> ByRow<'a> {
    /// Texts of any text type, other values as the text they are cast to.
    pub(super) fn texts(argument: &'a ColumnarValue) -> Result<Self> {
        Ok(ByRow(match argument.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Cow::Borrowed(argument),
            _ => Cow::Owned(argument.cast_to(&DataType::Utf8, None)?),
        }))
    }

    /// Numbers of any integer type.
    pub(super) fn numbers(argument: &'a ColumnarValue) -> Result<Self> {
        Ok(ByRow(match argument.data_type() {
            DataType::Int64 => Cow::Borrowed(argument),
            _ => Cow::Owned(argument.cast_to(&DataType::Int64, None)?),
        }))
    }

    /// `None` for a NULL.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        match self.0.as_ref() {
            ColumnarValue::Scalar(value) => value.try_as_str().flatten(),
            ColumnarValue::Array(array) if array.is_null(row) => None,
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
                DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
                DataType::Utf8View => Some(array.as_string_view().value(row)),
                _ => None,
            },
        }
    }

    /// `None` for a NULL.
    pub(super) fn number(&self, row: usize) -> Option<i64> {
        match self.0.as_ref() {
            ColumnarValue::Scalar(ScalarValue::Int64(value)) => *value,
            ColumnarValue::Scalar(_) => None,
            ColumnarValue::Array(array) => {
                let numbers = array.as_primitive_opt::<Int64Type>()?; // Cast to it above.
                numbers.is_valid(row).then(|| numbers.value(row))
            }
        }
    }
}

/// How many elements the lists of an argument have, by row.
pub(super) enum ListLengths<'a> {
    /// The same in each row.
    Constant(u64),
    ByRow(&'a ArrayRef),
}

impl<'a> ListLengths<'a> {
    pub(super) fn of(argument: &'a ColumnarValue) -> Result<Self> {
        Ok(match argument {
            ColumnarValue::Scalar(value) => ListLengths::Constant(length(&value.to_array()?, 0)),
            ColumnarValue::Array(array) => ListLengths::ByRow(array),
        })
    }

    pub(super) fn length(&self, row: usize) -> u64 {
        match self {
            ListLengths::Constant(length) => *length,
            ListLengths::ByRow(array) => length(array, row),
        }
    }
}

fn length(array: &ArrayRef, row: usize) -> u64 {
    elements(&array.slice(row, 1)).map_or(0, |elements| elements.len() as u64)
}
