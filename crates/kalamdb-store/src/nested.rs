//! Lists, structs and maps inside a row: a recursive, self-delimiting encoding and its builder. Where they lie in a row is `row`'s.
//!
//! An element is one byte, 0 for null or 1, and then its payload: raw little-endian bytes of fixed-width types, one byte of a
//! boolean, u32 length and bytes of strings, u32 count and elements of lists and maps, elements alone of fixed-size lists and
//! structs. A column's own null is in the row's bitmap, so at the top there is the payload only.

use arrow::array::{Array, ArrayData, AsArray, BooleanBufferBuilder, NullBufferBuilder};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{DataType, ToByteSlice};
use arrow::downcast_primitive_array;

use crate::error::StoreError;
use crate::row::{bytes_of, fixed_width};

/// Appends the payload of a value that is not null.
pub(crate) fn encode(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let unstorable = || {
        StoreError::Unsupported(format!(
            "a value of type {} cannot be stored in a nested column",
            array.data_type()
        ))
    };
    downcast_primitive_array!(
        array => out.extend_from_slice(array.values()[row].to_byte_slice()),
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        DataType::FixedSizeBinary(_) => out.extend_from_slice(array.as_fixed_size_binary().value(row)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            let bytes = bytes_of(array, row).ok_or_else(unstorable)?;
            count(bytes.len(), out)?;
            out.extend_from_slice(bytes);
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            count(end - start, out)?;
            elements(list.values(), start..end, out)?;
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (start, end) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            count(end - start, out)?;
            elements(list.values(), start..end, out)?;
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (start, end) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            count(end - start, out)?;
            elements(map.entries(), start..end, out)?;
        }
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            let start = list.value_offset(row) as usize;
            elements(list.values(), start..start + *length as usize, out)?;
        }
        DataType::Struct(_) => {
            for child in array.as_struct().columns() {
                elements(child, row..row + 1, out)?;
            }
        }
        _ => return Err(unstorable()),
    );
    Ok(())
}

fn count(count: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let count = u32::try_from(count)
        .map_err(|_| StoreError::Unsupported("a nested value has more than 2^32 elements".to_string()))?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

fn elements(array: &dyn Array, rows: std::ops::Range<usize>, out: &mut Vec<u8>) -> Result<(), StoreError> {
    for row in rows {
        if array.data_type() == &DataType::Null || array.is_null(row) {
            out.push(0);
        } else {
            out.push(1);
            encode(array, row, out)?;
        }
        // A list's elements may be large: give up before they fill the memory.
        if out.len() > crate::tuning::MAX_ROW_BYTES {
            return Err(StoreError::Unsupported(format!(
                "the row is larger than {} bytes",
                crate::tuning::MAX_ROW_BYTES
            )));
        }
    }
    Ok(())
}

/// Gathers decoded values of one type.
pub(crate) struct NestedBuilder {
    data_type: DataType,
    nulls: NullBufferBuilder,
    len: usize,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanBufferBuilder),
    Fixed(usize, MutableBuffer),
    Bytes(Vec<i64>, Vec<u8>),
    List(Vec<i64>, Box<NestedBuilder>),
    FixedSizeList(usize, Box<NestedBuilder>),
    Struct(Vec<NestedBuilder>),
}

impl NestedBuilder {
    pub(crate) fn new(data_type: &DataType, capacity: usize) -> Result<Self, StoreError> {
        let child = |field: &arrow::datatypes::FieldRef| Self::new(field.data_type(), capacity).map(Box::new);
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                Values::Bytes(vec![0], Vec::new())
            }
            DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
                Values::List(vec![0], child(field)?)
            }
            DataType::FixedSizeList(field, length) => {
                Values::FixedSizeList(usize::try_from(*length).unwrap_or(0), child(field)?)
            }
            DataType::Struct(fields) => Values::Struct(
                fields
                    .iter()
                    .map(|field| Self::new(field.data_type(), capacity))
                    .collect::<Result<_, _>>()?,
            ),
            other => {
                let width = fixed_width(other)
                    .ok_or_else(|| StoreError::Unsupported(format!("a value of type {other} cannot be stored")))?;
                Values::Fixed(width, MutableBuffer::new(0))
            }
        };
        Ok(Self {
            data_type: data_type.clone(),
            nulls: NullBufferBuilder::new(capacity),
            len: 0,
            values,
        })
    }

    pub(crate) fn append_null(&mut self) {
        self.len += 1;
        match &mut self.values {
            Values::Null => return,
            Values::Boolean(bits) => bits.append(false),
            Values::Fixed(width, bytes) => bytes.extend_zeros(*width),
            Values::Bytes(ends, bytes) => ends.push(bytes.len() as i64),
            Values::List(ends, child) => ends.push(child.len as i64),
            Values::FixedSizeList(length, child) => (0..*length).for_each(|_| child.append_null()),
            Values::Struct(children) => children.iter_mut().for_each(Self::append_null),
        }
        self.nulls.append_null();
    }

    /// Appends the value whose payload `input` starts with, and takes it off `input`; `None` if the bytes are no such value.
    pub(crate) fn append(&mut self, input: &mut &[u8]) -> Option<()> {
        self.len += 1;
        match &mut self.values {
            Values::Null => return None,
            Values::Boolean(bits) => match take(input, 1)?[0] {
                0 => bits.append(false),
                1 => bits.append(true),
                _ => return None,
            },
            Values::Fixed(width, bytes) => bytes.extend_from_slice(take(input, *width)?),
            Values::Bytes(ends, bytes) => {
                let length = take_count(input)?;
                bytes.extend_from_slice(take(input, length)?);
                ends.push(bytes.len() as i64);
            }
            Values::List(ends, child) => {
                for _ in 0..take_count(input)? {
                    child.append_element(input)?;
                }
                ends.push(child.len as i64);
            }
            Values::FixedSizeList(length, child) => {
                for _ in 0..*length {
                    child.append_element(input)?;
                }
            }
            Values::Struct(children) => {
                for child in children {
                    child.append_element(input)?;
                }
            }
        }
        self.nulls.append_non_null();
        Some(())
    }

    fn append_element(&mut self, input: &mut &[u8]) -> Option<()> {
        match take(input, 1)?[0] {
            0 => self.append_null(),
            1 => self.append(input)?,
            _ => return None,
        }
        Some(())
    }

    /// The values as Arrow data, checked by Arrow (strings are UTF-8, no null where a field forbids it).
    pub(crate) fn finish(mut self) -> Result<ArrayData, String> {
        let large = matches!(
            self.data_type,
            DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_)
        );
        let offsets = |ends: Vec<i64>| -> Result<Buffer, String> {
            if large {
                return Ok(Buffer::from_vec(ends));
            }
            let narrow = ends.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>();
            narrow
                .map(Buffer::from_vec)
                .map_err(|_| "more than 2 GiB of nested values in one batch".to_string())
        };
        let builder = ArrayData::builder(self.data_type.clone()).len(self.len);
        let builder = match self.values {
            Values::Null => builder,
            Values::Boolean(mut bits) => builder.add_buffer(bits.finish().into_inner()),
            Values::Fixed(_, bytes) => builder.add_buffer(bytes.into()),
            Values::Bytes(ends, bytes) => builder.add_buffer(offsets(ends)?).add_buffer(Buffer::from_vec(bytes)),
            Values::List(ends, child) => builder.add_buffer(offsets(ends)?).add_child_data(child.finish()?),
            Values::FixedSizeList(_, child) => builder.add_child_data(child.finish()?),
            Values::Struct(children) => {
                let children = children.into_iter().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                builder.child_data(children)
            }
        };
        let nulls = if self.data_type == DataType::Null {
            None
        } else {
            self.nulls.finish()
        };
        builder.nulls(nulls).build().map_err(|error| error.to_string())
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(length)?;
    *input = tail;
    Some(head)
}

fn take_count(input: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*take(input, 4)?.first_chunk()?) as usize)
}
