//! `div(a, b)`, a quotient without its fraction, and `scale(x)`, the digits after a DECIMAL's point. Both are exact, and take no floats.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal256Type, Int64Type, i256};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_core::ErrorCode;

use super::refused;
use crate::definition::data_type_name;

/// Precision and scale of what is exact; `None` for other types.
pub(super) fn digits(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        DataType::UInt64 => Some((20, 0)),
        integer if integer.is_integer() => Some((19, 0)),
        _ => None,
    }
}

/// Such values as integers of the unit that `scale` gives.
pub(super) fn units(values: &ArrayRef, scale: i8) -> Result<Decimal256Array> {
    let wide = cast(values, &DataType::Decimal256(76, scale))?;
    Ok(wide.as_primitive::<Decimal256Type>().clone())
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Div {
    signature: Signature,
}

impl Div {
    pub(super) fn new() -> Self {
        Div {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Div {
    fn name(&self) -> &str {
        "div"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() != 2 {
            return Err(super::wrong_count(
                "div",
                "2 arguments",
                given.len(),
                "div(dividend, divisor)",
            ));
        }
        if given
            .iter()
            .all(|data_type| data_type.is_signed_integer() || data_type.is_null())
        {
            return Ok(vec![DataType::Int64; 2]);
        }
        let exact = |data_type: &DataType| match digits(data_type) {
            _ if data_type.is_null() => Ok(DataType::Decimal256(76, 0)),
            Some((_, scale)) => Ok(DataType::Decimal256(76, scale)),
            None => {
                let message = format!(
                    "div takes integers and DECIMALs, not {}; of floats write trunc(a / b)",
                    data_type_name(data_type)
                );
                Err(refused(ErrorCode::TypeMismatch, message))
            }
        };
        given.iter().map(exact).collect()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments.first() {
            Some(DataType::Int64) => DataType::Int64,
            _ => DataType::Decimal256(76, 0),
        })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let [left, right] = arrays else {
                return Err(super::wrong_arguments("div"));
            };
            if left.data_type() == &DataType::Int64 {
                let pairs = left
                    .as_primitive::<Int64Type>()
                    .iter()
                    .zip(right.as_primitive::<Int64Type>());
                let quotients = pairs.map(|pair| match pair {
                    (Some(_), Some(0)) => Err(DataFusionError::from(ArrowError::DivideByZero)),
                    (Some(left), Some(right)) => left.checked_div(right).map(Some).ok_or_else(out_of_range),
                    _ => Ok(None),
                });
                return Ok(Arc::new(quotients.collect::<Result<Int64Array>>()?));
            }
            let scale = |values: &ArrayRef| digits(values.data_type()).map_or(0, |(_, scale)| scale);
            let common = scale(left).max(scale(right));
            let (left, right) = (units(left, common)?, units(right, common)?);
            let quotients = left.iter().zip(&right).map(|pair| match pair {
                (Some(_), Some(i256::ZERO)) => Err(DataFusionError::from(ArrowError::DivideByZero)),
                (Some(left), Some(right)) => left.checked_div(right).map(Some).ok_or_else(out_of_range),
                _ => Ok(None),
            });
            let quotients: Decimal256Array = quotients.collect::<Result<_>>()?;
            Ok(Arc::new(quotients.with_precision_and_scale(76, 0)?))
        })
    }
}

fn out_of_range() -> DataFusionError {
    ArrowError::ArithmeticOverflow("div".to_owned()).into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Scale {
    signature: Signature,
}

impl Scale {
    pub(super) fn new() -> Self {
        Scale {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Scale {
    fn name(&self) -> &str {
        "scale"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [data_type] if data_type.is_null() || digits(data_type).is_some() => Ok(given.to_vec()),
            [data_type] => {
                let message = format!(
                    "scale takes a DECIMAL, not {}; a number with a point is a DOUBLE unless it is cast",
                    data_type_name(data_type)
                );
                Err(refused(ErrorCode::TypeMismatch, message))
            }
            _ => Err(super::wrong_count("scale", "1 argument", given.len(), "scale(decimal)")),
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let [values] = arrays else {
                return Err(super::wrong_arguments("scale"));
            };
            let scale = digits(values.data_type()).map(|(_, scale)| i32::from(scale));
            let scales: Int32Array = (0..values.len())
                .map(|row| scale.filter(|_| values.is_valid(row)))
                .collect();
            Ok(Arc::new(scales))
        })
    }
}
