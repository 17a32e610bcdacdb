//! Lists, structs and maps into columns of such: each part by the rule that holds for a whole value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StructArray, UInt32Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use kalamdb_core::{Error, ErrorCode, Result};

use super::{Target, takes_no};
use crate::definition::data_type_name;

/// The values in the target's type, both nested.
///
/// # Errors
/// TYPE_MISMATCH.
pub(super) fn assign(values: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    use DataType as T;
    // Taken anew, so that what lies under NULLs and outside of slices is no value.
    let all: UInt32Array = (0..u32::try_from(values.len()).map_err(|_| too_many())?).collect();
    let values = take(values, &all, None).map_err(|error| crate::diagnostics::from_arrow(&error))?;
    match (values.data_type(), target.data_type) {
        (
            T::List(_) | T::LargeList(_) | T::FixedSizeList(..),
            T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _),
        ) => {
            let given = items(&values);
            let assigned = super::assign(&given, &target.part(item))?;
            relist(&with_items(&values, assigned, item)?, target)
        }
        (T::Struct(given), T::Struct(fields)) => {
            let columns = structure(values.as_struct(), fields, !are_numbered(given), target)?;
            let made = StructArray::try_new(fields.clone(), columns, values.nulls().cloned());
            Ok(Arc::new(made.map_err(|error| crate::diagnostics::from_arrow(&error))?))
        }
        (T::Map(..), T::Map(entries, ordered)) => {
            let T::Struct(fields) = entries.data_type() else {
                return Err(takes_no(values.data_type(), target));
            };
            let given = values.as_map();
            // Every maker of maps names keys and values in a way of its own.
            let columns = structure(given.entries(), fields, false, target)?;
            let made = StructArray::try_new(fields.clone(), columns, None).and_then(|parts| {
                let offsets = given.offsets().clone();
                MapArray::try_new(Arc::clone(entries), offsets, parts, given.nulls().cloned(), *ordered)
            });
            Ok(Arc::new(made.map_err(|error| crate::diagnostics::from_arrow(&error))?))
        }
        (from, _) => Err(takes_no(from, target)),
    }
}

/// Whether the names are those that `struct(1, 'a')` and rows without names have.
fn are_numbered(fields: &Fields) -> bool {
    let mut fields = fields.iter().enumerate();
    fields.all(|(index, field)| field.name().strip_prefix('c') == Some(index.to_string().as_str()))
}

fn too_many() -> Error {
    Error::new(
        ErrorCode::StatementTooLarge,
        "a batch has more rows than can be counted",
    )
}

fn items(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::List(_) => Arc::clone(values.as_list::<i32>().values()),
        DataType::LargeList(_) => Arc::clone(values.as_list::<i64>().values()),
        _ => Arc::clone(values.as_fixed_size_list().values()),
    }
}

/// The same lists with other elements.
fn with_items(values: &ArrayRef, items: ArrayRef, item: &FieldRef) -> Result<ArrayRef> {
    let item = Arc::new(Field::new(item.name(), items.data_type().clone(), true));
    let data_type = match values.data_type() {
        DataType::List(_) => DataType::List(item),
        DataType::LargeList(_) => DataType::LargeList(item),
        DataType::FixedSizeList(_, length) => DataType::FixedSizeList(item, *length),
        other => other.clone(),
    };
    let data = values
        .to_data()
        .into_builder()
        .data_type(data_type)
        .child_data(vec![items.to_data()]);
    let data = data.build().map_err(|error| crate::diagnostics::from_arrow(&error))?;
    Ok(make_array(data))
}

/// The same elements in the kind of list that the target is.
fn relist(lists: &ArrayRef, target: &Target<'_>) -> Result<ArrayRef> {
    let misfit = |_| {
        Error::new(
            ErrorCode::TypeMismatch,
            format!("{} takes no {}", target.describe(), data_type_name(lists.data_type())),
        )
    };
    // Not safe: a list of another length is refused, not NULL.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(lists, target.data_type, &options).map_err(misfit)
}

/// The columns of a struct for those fields: by name, or by place if they have none.
fn structure<'a>(
    values: &StructArray,
    fields: &'a Fields,
    has_names: bool,
    target: &Target<'a>,
) -> Result<Vec<ArrayRef>> {
    let given = values.fields();
    let place = |name: &str| given.iter().position(|field| has_names && field.name() == name);
    let by_name = fields.iter().all(|field| place(field.name()).is_some());
    if given.len() != fields.len() || (has_names && !by_name) {
        return Err(takes_no(values.data_type(), target));
    }
    let columns = fields.iter().enumerate().map(|(index, field)| {
        let index = place(field.name()).unwrap_or(index);
        // What lies under a NULL struct is no value.
        let column = values.column(index);
        let nulls = NullBuffer::union(column.nulls(), values.nulls());
        let data = column.to_data().into_builder().nulls(nulls);
        let column = match column.data_type() {
            DataType::Null => Arc::clone(column),
            _ => make_array(data.build().map_err(|error| crate::diagnostics::from_arrow(&error))?),
        };
        super::assign(&column, &target.part(field))
    });
    columns.collect()
}
