//! How many bytes rows take in an IPC message, and where to cut a batch so that each piece stays under a limit. Sizes are those
//! of the rows asked for, not of the buffers that they are slices of.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowNativeType, ByteArrayType, DataType, GenericBinaryType, GenericStringType};

/// IPC pads each buffer to this many bytes.
const ALIGNMENT: usize = 64;

/// The body of the IPC message for rows `start..start + rows` of a batch, bytes; never less than what the encoder writes.
pub(crate) fn body_bytes(batch: &RecordBatch, start: usize, rows: usize) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| array_bytes(column, start, rows))
        .sum()
}

/// How many rows from `start` on to put into one message of at most `limit_bytes`; at least one, however large it is.
pub(crate) fn rows_within(batch: &RecordBatch, start: usize, limit_bytes: usize) -> usize {
    let left = batch.num_rows() - start;
    if left <= 1 || body_bytes(batch, start, left) <= limit_bytes {
        return left;
    }
    // The size grows with the rows, so the largest number that fits is found by halving.
    let (mut fits, mut exceeds) = (1, left);
    while exceeds - fits > 1 {
        let middle = fits + (exceeds - fits) / 2;
        if body_bytes(batch, start, middle) <= limit_bytes {
            fits = middle;
        } else {
            exceeds = middle;
        }
    }
    fits
}

fn array_bytes(array: &ArrayRef, start: usize, rows: usize) -> usize {
    let validity = if array.null_count() > 0 {
        padded(rows.div_ceil(8))
    } else {
        0
    };
    let values = match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => padded(rows.div_ceil(8)),
        DataType::Utf8 => byte_values::<GenericStringType<i32>>(array, start, rows),
        DataType::LargeUtf8 => byte_values::<GenericStringType<i64>>(array, start, rows),
        DataType::Binary => byte_values::<GenericBinaryType<i32>>(array, start, rows),
        DataType::LargeBinary => byte_values::<GenericBinaryType<i64>>(array, start, rows),
        DataType::FixedSizeBinary(width) => padded(rows * usize::try_from(*width).unwrap_or(0)),
        DataType::FixedSizeList(_, width) => {
            let width = usize::try_from(*width).unwrap_or(0);
            array_bytes(array.as_fixed_size_list().values(), start * width, rows * width)
        }
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .map(|column| array_bytes(column, start, rows))
            .sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            list_bytes(list.offsets(), list.values(), start, rows)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            list_bytes(list.offsets(), list.values(), start, rows)
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            list_bytes(map.offsets(), &entries, start, rows)
        }
        // The keys; the values travel once per stream in messages of their own.
        DataType::Dictionary(key, _) => padded(rows * key.primitive_width().unwrap_or(8)),
        // The encoder writes these whole, whatever part of them is asked for.
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(_, _)
        | DataType::RunEndEncoded(_, _) => array.get_array_memory_size(),
        fixed => padded(rows * fixed.primitive_width().unwrap_or(16)),
    };
    validity + values
}

fn byte_values<T: ByteArrayType>(array: &ArrayRef, start: usize, rows: usize) -> usize {
    let offsets = array.as_bytes::<T>().offsets();
    let bytes = offsets[start + rows].as_usize() - offsets[start].as_usize();
    padded((rows + 1) * size_of::<T::Offset>()) + padded(bytes)
}

fn list_bytes<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef, start: usize, rows: usize) -> usize {
    let (first, end) = (offsets[start].as_usize(), offsets[start + rows].as_usize());
    padded((rows + 1) * size_of::<O>()) + array_bytes(values, first, end - first)
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, Int64Array, LargeBinaryArray, ListArray, MapBuilder, StringArray, StringBuilder,
        StructArray,
    };
    use arrow::array::{FixedSizeListArray, Int64Builder};
    use arrow::datatypes::{Field, Int32Type, Int64Type};
    use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};

    fn encoded_bytes(batch: &RecordBatch) -> usize {
        let (_, data) = IpcDataGenerator::default()
            .encode(
                batch,
                &mut DictionaryTracker::new(false),
                &IpcWriteOptions::default(),
                &mut IpcWriteContext::default(),
            )
            .expect("encodes");
        data.arrow_data.len()
    }

    fn one_column(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("c", column)]).expect("a batch")
    }

    #[test]
    fn sizes_are_those_of_the_encoder_for_any_part() {
        let rows = 100;
        let text = || StringArray::from_iter((0..rows).map(|i| (i % 7 != 0).then(|| "x".repeat(i * 3))));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..rows).map(|i| (i % 5 != 0).then(|| (0..i as i32).map(Some).collect::<Vec<_>>())),
        );
        let pairs = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..rows).map(|i| Some(vec![Some(i as i64), None])),
            2,
        );
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        for i in 0..rows {
            for key in 0..i % 4 {
                map.keys().append_value(format!("key{key}"));
                map.values().append_value(i as i64);
            }
            map.append(true).expect("even keys and values");
        }
        let text_field = Arc::new(Field::new("t", DataType::Utf8, true));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter((0..rows).map(|i| (i != 3).then_some(i as i64)))),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(BooleanArray::from_iter((0..rows).map(|i| Some(i % 3 == 0)))),
            Arc::new(Decimal128Array::from_iter_values(0..rows as i128)),
            Arc::new(text()),
            Arc::new(LargeBinaryArray::from_iter_values((0..rows).map(|i| vec![1_u8; i]))),
            Arc::new(lists),
            Arc::new(pairs),
            Arc::new(map.finish()),
            Arc::new(StructArray::from(vec![(text_field, Arc::new(text()) as ArrayRef)])),
        ];
        for column in columns {
            let batch = one_column(column);
            for (start, length) in [(0, rows), (0, 1), (17, 40), (99, 1), (50, 50), (0, 0)] {
                let encoded = encoded_bytes(&batch.slice(start, length));
                let computed = body_bytes(&batch, start, length);
                let data_type = batch.column(0).data_type();
                assert!(
                    computed >= encoded,
                    "{data_type} {start}+{length}: {computed} < {encoded}"
                );
                // A part without nulls of a column with some needs no bitmap; nothing else may be counted in vain.
                assert!(
                    computed <= encoded + 2 * padded(length.div_ceil(8)) + 3 * ALIGNMENT,
                    "{data_type} {start}+{length}"
                );
            }
            // A slice is measured from its own start.
            let part = batch.slice(20, 30);
            assert!(body_bytes(&part, 5, 10) >= encoded_bytes(&part.slice(5, 10)));
        }
    }

    #[test]
    fn skewed_rows_are_cut_exactly() {
        let check = |lengths: &[usize], limit: usize, expected: &[usize]| {
            let text = StringArray::from_iter_values(lengths.iter().map(|&length| "x".repeat(length)));
            let batch = one_column(Arc::new(text));
            let (mut start, mut pieces) = (0, Vec::new());
            while start < batch.num_rows() {
                let rows = rows_within(&batch, start, limit);
                let size = encoded_bytes(&batch.slice(start, rows));
                assert!(size <= limit || rows == 1, "{size} bytes in {rows} rows");
                pieces.push(rows);
                start += rows;
            }
            assert_eq!(pieces, expected);
        };
        // Offsets take 64 bytes for up to 15 rows.
        check(&[64, 64, 64, 64], 64 + 128, &[2, 2]);
        check(&[64, 64, 64, 64], 64 + 256, &[4]);
        check(&[1, 1, 1, 5_000, 1, 1], 256, &[3, 1, 2]);
        check(&[5_000, 5_000], 256, &[1, 1]);
        check(&[0; 40], 64, &[15, 15, 10]);
        check(&[10], 1, &[1]);
    }
}
