//! What rows of Arrow arrays take in memory: their own bytes, not those of the buffers that they are slices of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

/// Bytes of the rows of some columns.
pub(crate) fn of_columns(columns: &[ArrayRef]) -> usize {
    columns.iter().map(of_array).sum()
}

/// Bytes of an array's rows.
pub(crate) fn of_array(array: &ArrayRef) -> usize {
    let validity = match array.nulls() {
        Some(_) => array.len().div_ceil(8),
        None => 0,
    };
    match array.data_type() {
        // A slice of these has all of their elements as its child.
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            validity + of_elements(list.offsets(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            validity + of_elements(list.offsets(), list.values())
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            validity + of_elements(map.offsets(), &entries)
        }
        DataType::FixedSizeList(_, _) => validity + of_array(array.as_fixed_size_list().values()),
        DataType::Struct(_) => validity + of_columns(array.as_struct().columns()),
        _ => {
            let data = array.to_data();
            // A type that cannot tell has the size of its buffers.
            data.get_slice_memory_size()
                .unwrap_or_else(|_| data.get_array_memory_size())
        }
    }
}

fn of_elements<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, elements: &ArrayRef) -> usize {
    let (first, end) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    offsets.len() * size_of::<O>() + of_array(&elements.slice(first, end - first))
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListArray, Int64Array, ListArray, StringArray, StructArray};
    use arrow::datatypes::{Field, Int64Type};

    use super::*;

    #[test]
    fn rows_of_a_slice_have_the_size_that_they_have_alone() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|row| "x".repeat(row % 7))));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..1000).map(|row| (row % 5 != 0).then(|| vec![Some(row); row as usize % 7])),
        ));
        let pairs: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..1000).map(|row| Some([Some(row), None])),
            2,
        ));
        let fields = [("n", numbers.clone()), ("l", lists.clone())];
        let fields =
            fields.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column));
        let structs: ArrayRef = Arc::new(StructArray::from(fields.to_vec()));
        for (array, of_ten) in [
            (numbers, 80),
            (texts, 11 * 4 + 24),
            (lists, 0),
            (pairs, 0),
            (structs, 0),
        ] {
            let part = array.slice(490, 10);
            let alone = arrow::compute::take(&part, &Int64Array::from_iter_values(0..10), None).expect("taken");
            let name = array.data_type();
            assert!(of_array(&part).abs_diff(of_array(&alone)) <= 8, "{name}");
            assert!(of_array(&array) > 50 * of_array(&part), "{name}");
            if of_ten > 0 {
                assert_eq!(of_array(&part), of_ten, "{name}");
            }
        }
    }
}
