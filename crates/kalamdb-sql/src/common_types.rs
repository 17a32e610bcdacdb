//! The type that several values become of: columns of UNION, and results of CASE, for what is above them.
//!
//! Problem: until types are coerced, DataFusion 55 takes the type of the first of them for that of all, as it was before the
//! numbers in it were read: a number beside such a column is not read as beside a DECIMAL, and what was taken for a double becomes
//! one. It also gives the DECIMAL for several of them 38 digits where they have more. Chosen: a UNION says what its columns will
//! be, and numbers of several types are cast in a CASE, before that. Evidence: `derive_schema_from_inputs_by_position` and
//! `get_type` in datafusion-expr 55 `logical_plan/plan.rs` and `expr_schema.rs`, `coerce_union` in datafusion-optimizer 55.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::binary::type_union_coercion;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Union};

/// A UNION with the types of its columns.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn settled(mut union: Union) -> Result<Union> {
    let types: Vec<Option<DataType>> = (0..union.schema.fields().len())
        .map(|column| {
            let inputs = union.inputs.iter();
            common(inputs.filter_map(|input| Some(input.schema().fields().get(column)?.data_type())))
        })
        .collect();
    let is_known = |(field, data_type): (&FieldRef, &Option<DataType>)| {
        data_type
            .as_ref()
            .is_none_or(|data_type| data_type == field.data_type())
    };
    if union.schema.fields().iter().zip(&types).all(is_known) {
        return Ok(union);
    }
    let fields = union.schema.iter().zip(types).map(|((relation, field), data_type)| {
        let field = match data_type {
            Some(data_type) => Arc::new(field.as_ref().clone().with_data_type(data_type)),
            // Coercion says what is wrong.
            None => Arc::clone(field),
        };
        (relation.cloned(), field)
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), union.schema.metadata().clone())?;
    union.schema = Arc::new(schema);
    Ok(union)
}

/// Numbers of several types, as those of one. Whether anything changed.
pub(crate) fn cast_numbers(operands: &mut [&mut Expr], schema: &DFSchema) -> bool {
    // What has no type here is for other rules to refuse.
    let types: Option<Vec<DataType>> = operands.iter().map(|operand| operand.get_type(schema).ok()).collect();
    let Some(types) = types else { return false };
    let mut numbers = types.iter().filter(|data_type| !data_type.is_null());
    if !numbers.all(DataType::is_numeric) {
        return false;
    }
    let Some(common) = common(types.iter()) else {
        return false;
    };
    let mut changed = false;
    for (operand, data_type) in operands.iter_mut().zip(types) {
        if data_type != common && !data_type.is_null() {
            **operand = Expr::Cast(Cast::new(Box::new(std::mem::take(*operand)), common.clone()));
            changed = true;
        }
    }
    changed
}

/// The type that values of all of these are brought to; `None` if there is none.
pub(crate) fn common<'a>(mut types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let first = types.next()?.clone();
    types.try_fold(first, |common, data_type| of_two(&common, data_type))
}

fn of_two(left: &DataType, right: &DataType) -> Option<DataType> {
    if (left.is_decimal() || right.is_decimal())
        && let (Some((left_whole, left_scale)), Some((right_whole, right_scale))) = (digits(left), digits(right))
    {
        let scale = left_scale.max(right_scale);
        let precision = left_whole.max(right_whole) + i16::from(scale);
        if precision > i16::from(DECIMAL128_MAX_PRECISION) {
            // What has more digits than there is room for is refused when it is met.
            let precision = u8::try_from(precision).unwrap_or(u8::MAX).min(DECIMAL256_MAX_PRECISION);
            return Some(DataType::Decimal256(precision, scale));
        }
    }
    type_union_coercion(left, right)
}

/// Digits before the point and after it.
fn digits(data_type: &DataType) -> Option<(i16, i8)> {
    Some(match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (i16::from(*precision) - i16::from(*scale), *scale),
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 | DataType::UInt64 => (20, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_digit_is_lost() {
        let check = |types: &[DataType], expected: Option<DataType>| {
            assert_eq!(common(types.iter()), expected, "{types:?}");
        };
        let decimal = DataType::Decimal128;
        check(&[DataType::Int64, decimal(10, 2)], Some(decimal(22, 2)));
        check(&[decimal(38, 2), decimal(4, 4)], Some(DataType::Decimal256(40, 4)));
        check(&[DataType::Int64, decimal(38, 38)], Some(DataType::Decimal256(58, 38)));
        check(
            &[DataType::Decimal256(76, 0), decimal(2, 2)],
            Some(DataType::Decimal256(76, 2)),
        );
        check(&[DataType::Null, decimal(4, 1), DataType::Int8], Some(decimal(4, 1)));
        check(&[DataType::Int32, DataType::Int64], Some(DataType::Int64));
        check(&[DataType::Int64, DataType::Boolean], None);
    }
}
