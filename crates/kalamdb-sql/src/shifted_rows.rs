//! What `lag` and `lead` give where there is no row: a value of the type that both that and their first argument have.
//!
//! Problem: DataFusion 55 casts the third argument to the type of the first, so that 0.555 is 0.56 beside a DECIMAL(8, 2), and 0.5 is 0
//! beside an INTEGER. Proper way: one type for both, as in PostgreSQL. Chosen: before type coercion both are cast to it, if the
//! third argument is none of the first one's type. Evidence: `parse_default_value` in datafusion-functions-window 55 `lead_lag.rs`.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::common_types::common;
use crate::definition::data_type_name;
use crate::literals::{decimal_of, replacement};
use crate::mixed_numbers;
use crate::time_units;

/// Brings the arguments of such a call to one type. Whether anything changed.
///
/// # Errors
/// TYPE_MISMATCH where there is no such type.
pub(crate) fn with_default(expr: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::WindowFunction(window) = expr else {
        return Ok(false);
    };
    let name = window.fun.name().to_owned();
    if !matches!(name.as_str(), "lag" | "lead") {
        return Ok(false);
    }
    let [value, _, default] = window.params.args.as_mut_slice() else {
        return Ok(false);
    };
    let mut changed = false;
    if let Some(typed) = beside_integer(value, default, schema) {
        *default = typed;
        changed = true;
    } else if let Some(typed) = replacement(value, default, schema)? {
        *default = typed;
        changed = true;
    }
    changed |= time_units::harmonize(&mut [&mut *value, &mut *default], schema);
    changed |= mixed_numbers::harmonize([&mut *value, &mut *default], schema);
    // What has no type here is for other rules to refuse.
    let (Ok(of_value), Ok(of_default)) = (value.get_type(schema), default.get_type(schema)) else {
        return Ok(changed);
    };
    let is_kind = |kind: fn(&DataType) -> bool| kind(&of_value) && kind(&of_default);
    if of_value == of_default || !(is_kind(DataType::is_numeric) || is_kind(DataType::is_temporal)) {
        return Ok(changed);
    }
    if is_value_of(default, &of_value) {
        return Ok(changed);
    }
    let Some(common) = common([&of_value, &of_default].into_iter()) else {
        let message = format!(
            "{name} takes no {} for the default of a {}; cast one of them",
            data_type_name(&of_default),
            data_type_name(&of_value)
        );
        let error = Error::new(ErrorCode::TypeMismatch, message);
        return Err(DataFusionError::External(Box::new(error)));
    };
    for (operand, data_type) in [(value, of_value), (default, of_default)] {
        if data_type != common {
            *operand = Expr::Cast(Cast::new(Box::new(std::mem::take(operand)), common.clone()));
        }
    }
    Ok(true)
}

/// A number as it is written, beside integers of which a double would not hold all.
fn beside_integer(value: &Expr, number: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Float64(Some(number)), _) = number else {
        return None;
    };
    // What has no type here is for other rules to refuse.
    let is_integer = value.get_type(schema).is_ok_and(|data_type| data_type.is_integer());
    let decimal = is_integer.then(|| decimal_of(*number)).flatten()?;
    Some(Expr::Literal(decimal, None))
}

/// Whether it is a constant that is a value of that type as it is.
fn is_value_of(constant: &Expr, data_type: &DataType) -> bool {
    match constant {
        Expr::Literal(value, _) => value
            .cast_to(data_type)
            .and_then(|cast| cast.cast_to(&value.data_type()))
            .is_ok_and(|back| back == *value),
        Expr::Negative(inner) => is_value_of(inner, data_type),
        _ => false,
    }
}
