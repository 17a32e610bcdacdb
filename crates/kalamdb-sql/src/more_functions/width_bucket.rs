//! `width_bucket(operand, low, high, count)`: the number of the bucket, of `count` alike between two bounds, that a number is in; 0 below
//! them, and one more than there are above them. Of integers and DECIMALs it is exact.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, Float64Type, Int32Type, i256};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_core::ErrorCode;

use super::division::{digits, units};
use super::refused;
use crate::definition::data_type_name;

const FORM: &str = "width_bucket(operand, low, high, count)";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WidthBucket {
    signature: Signature,
}

impl WidthBucket {
    pub(super) fn new() -> Self {
        WidthBucket {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WidthBucket {
    fn name(&self) -> &str {
        "width_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [numbers @ .., count] = given else {
            return Err(super::wrong_count(self.name(), "4 arguments", 0, FORM));
        };
        if numbers.len() != 3 {
            return Err(super::wrong_count(self.name(), "4 arguments", given.len(), FORM));
        }
        let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        if let Some(other) = numbers.iter().find(|data_type| !is_number(data_type)) {
            let message = format!("width_bucket takes numbers, not {}", data_type_name(other));
            return Err(refused(ErrorCode::TypeMismatch, message));
        }
        if !count.is_integer() && !count.is_null() {
            let message = format!(
                "width_bucket takes an integer for the count of buckets, not {}",
                data_type_name(count)
            );
            return Err(refused(ErrorCode::TypeMismatch, message));
        }
        let scales = numbers.iter().map(|data_type| match digits(data_type) {
            Some((_, scale)) => Some(scale),
            None if data_type.is_null() => Some(0),
            None => None,
        });
        let common = match scales.collect::<Option<Vec<i8>>>() {
            Some(scales) => DataType::Decimal256(76, scales.into_iter().max().unwrap_or(0)),
            None => DataType::Float64,
        };
        Ok(vec![common.clone(), common.clone(), common, DataType::Int32])
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let [operand, low, high, count] = arrays else {
                return Err(super::wrong_arguments("width_bucket"));
            };
            let counts = count.as_primitive::<Int32Type>();
            let buckets: Int32Array = match digits(operand.data_type()) {
                Some((_, scale)) => {
                    let units = |values: &ArrayRef| units(values, scale);
                    let (operand, low, high) = (units(operand)?, units(low)?, units(high)?);
                    let rows = operand.iter().zip(&low).zip(high.iter().zip(counts));
                    rows.map(|row| match row {
                        ((Some(operand), Some(low)), (Some(high), Some(count))) => {
                            exact(operand, low, high, count).map(Some)
                        }
                        _ => Ok(None),
                    })
                    .collect::<Result<_>>()?
                }
                None => {
                    let of = |values: &ArrayRef| values.as_primitive::<Float64Type>().clone();
                    let (operand, low, high) = (of(operand), of(low), of(high));
                    let rows = operand.iter().zip(&low).zip(high.iter().zip(counts));
                    rows.map(|row| match row {
                        ((Some(operand), Some(low)), (Some(high), Some(count))) => {
                            float(operand, low, high, count).map(Some)
                        }
                        _ => Ok(None),
                    })
                    .collect::<Result<_>>()?
                }
            };
            Ok(Arc::new(buckets))
        })
    }
}

fn exact(operand: i256, low: i256, high: i256, count: i32) -> Result<i32> {
    check(count, low == high)?;
    // Bounds may go down.
    let (operand, low, high) = match low < high {
        true => (operand, low, high),
        false => (operand.wrapping_neg(), low.wrapping_neg(), high.wrapping_neg()),
    };
    if operand < low {
        return Ok(0);
    }
    if operand >= high {
        return count.checked_add(1).ok_or_else(out_of_range);
    }
    let within = operand
        .checked_sub(low)
        .and_then(|above| above.checked_mul(i256::from(i64::from(count))))
        .zip(high.checked_sub(low))
        .and_then(|(above, width)| above.checked_div(width))
        .and_then(|bucket| i32::try_from(bucket.to_i128()?).ok()); // Less than the count.
    within.and_then(|bucket| bucket.checked_add(1)).ok_or_else(out_of_range)
}

fn float(operand: f64, low: f64, high: f64, count: i32) -> Result<i32> {
    if operand.is_nan() || !low.is_finite() || !high.is_finite() {
        let message = "width_bucket: the operand may not be NaN, and the bounds have to be finite";
        return Err(refused(ErrorCode::InvalidArgument, message));
    }
    check(count, low == high)?;
    let (operand, low, high) = match low < high {
        true => (operand, low, high),
        false => (-operand, -low, -high),
    };
    if operand < low {
        return Ok(0);
    }
    if operand >= high {
        return count.checked_add(1).ok_or_else(out_of_range);
    }
    // Halved, the width of no bounds is infinite.
    let share = (operand / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and the count")]
    let bucket = (share * f64::from(count)) as i32;
    // Rounding may reach the upper bound.
    Ok(bucket.min(count - 1) + 1)
}

fn check(count: i32, is_empty: bool) -> Result<()> {
    let message = match (count, is_empty) {
        (..=0, _) => "width_bucket: the count of buckets has to be greater than zero",
        (_, true) => "width_bucket: the bounds may not be equal",
        _ => return Ok(()),
    };
    Err(refused(ErrorCode::InvalidArgument, message))
}

fn out_of_range() -> DataFusionError {
    refused(ErrorCode::InvalidArgument, "width_bucket: number out of range")
}
