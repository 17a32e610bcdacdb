//! DECIMAL beside REAL and DOUBLE: both as doubles; and floats cast to DECIMAL by the digits that they are shown with.
//!
//! Problem: DataFusion 55 brings both to DECIMAL(30, 15) by multiplying doubles, so that 64.1 becomes 64.099999999999992, which is
//! no 64.10, and a float of 1e300 fails the statement. Proper way: as in PostgreSQL, the decimal as the double that is nearest.
//! Chosen: before type coercion, decimals that are compared, chosen or united with floats are cast to DOUBLE; a number that is
//! written beside a decimal is a decimal (`literals`). Evidence: `coerce_numeric_type_to_decimal` in datafusion-expr-common 55
//! `type_coercion/binary.rs`, `cast_floating_point_to_decimal` in arrow-cast 59 `cast/decimal.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{InSubquery, ScalarFunction};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, Join, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Union, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::common_types;
use crate::literals::decimal_of;
use crate::written_columns;

/// Decimals of so many digits are quotients of two doubles that are exact.
const DOUBLE_DIGITS: u8 = 15;

fn digits(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Decimal32(digits, _)
        | DataType::Decimal64(digits, _)
        | DataType::Decimal128(digits, _)
        | DataType::Decimal256(digits, _) => Some(*digits),
        _ => None,
    }
}

/// `None` for what has no type here: other rules say what is wrong with it.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok()
}

fn to_double(expr: Expr, digits: u8) -> Expr {
    let exact = match digits {
        ..=DOUBLE_DIGITS => expr,
        // The text of it is read as the nearest double.
        _ => Expr::Cast(Cast::new(Box::new(expr), DataType::Utf8)),
    };
    Expr::Cast(Cast::new(Box::new(exact), DataType::Float64))
}

/// What is brought to one type, as doubles if there are decimals and floats. Whether anything changed.
pub(crate) fn harmonize<'a>(operands: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> bool {
    let operands: Vec<(&mut Expr, Option<DataType>)> = operands
        .into_iter()
        .map(|operand| {
            let data_type = type_of(operand, schema);
            (operand, data_type)
        })
        .collect();
    let is = |wanted: fn(&DataType) -> bool| {
        operands
            .iter()
            .any(|(_, data_type)| data_type.as_ref().is_some_and(wanted))
    };
    if !is(DataType::is_floating) || !is(|data_type| digits(data_type).is_some()) {
        return false;
    }
    for (operand, data_type) in operands {
        if let Some(digits) = data_type.as_ref().and_then(digits) {
            *operand = to_double(std::mem::take(operand), digits);
        }
    }
    true
}

/// The same for `x IN (SELECT …)`.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn in_subquery(membership: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let Some(given) = type_of(&membership.expr, schema) else {
        return Ok(false);
    };
    let rows = membership.subquery.subquery.schema();
    let [found] = rows.fields().iter().as_slice() else {
        return Ok(false);
    };
    match (digits(&given), digits(found.data_type())) {
        (Some(digits), None) if found.data_type().is_floating() => {
            if let Some(rows) = written_columns::as_decimals(&membership.subquery.subquery, 0)? {
                membership.subquery.subquery = Arc::new(rows);
                return Ok(true);
            }
            let expr = std::mem::take(membership.expr.as_mut());
            *membership.expr = to_double(expr, digits);
            Ok(true)
        }
        (None, Some(_)) if given.is_floating() => {
            if let Expr::Literal(ScalarValue::Float64(Some(number)), _) = membership.expr.as_ref()
                && let Some(decimal) = decimal_of(*number)
            {
                *membership.expr = Expr::Literal(decimal, None);
                return Ok(true);
            }
            let rows = Arc::clone(&membership.subquery.subquery);
            membership.subquery.subquery = as_doubles(rows, &[0])?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The same for the columns of UNION, and for those that INTERSECT, EXCEPT and USING compare.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn in_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Union(union) => Ok(LogicalPlan::Union(common_types::settled(of_union(union)?)?)),
        LogicalPlan::Join(join) => {
            let mut join = match written_columns::is_set_operation(&join) {
                true => with_written(join)?,
                false => join,
            };
            for (left, right) in &mut join.on {
                let types = (type_of(left, join.left.schema()), type_of(right, join.right.schema()));
                let (Some(of_left), Some(of_right)) = types else {
                    continue;
                };
                match (digits(&of_left), digits(&of_right)) {
                    (Some(digits), None) if of_right.is_floating() => *left = to_double(std::mem::take(left), digits),
                    (None, Some(digits)) if of_left.is_floating() => *right = to_double(std::mem::take(right), digits),
                    _ => {}
                }
            }
            Ok(LogicalPlan::Join(join))
        }
        other => Ok(other),
    }
}

fn of_union(mut union: Union) -> Result<Union> {
    let is = |union: &Union, column: usize, wanted: fn(&DataType) -> bool| {
        union.inputs.iter().any(|input| {
            let fields = input.schema().fields();
            fields.get(column).is_some_and(|field| wanted(field.data_type()))
        })
    };
    let mut doubles = Vec::new();
    for column in 0..union.schema.fields().len() {
        let is_mixed = is(&union, column, DataType::is_floating) && is(&union, column, DataType::is_decimal);
        if !is_mixed {
            continue;
        }
        let written = union.inputs.iter().map(|input| {
            let written = written_columns::as_decimals(input, column)?;
            Ok(written.map(Arc::new))
        });
        match written.collect::<Result<Option<Vec<_>>>>()? {
            Some(inputs) => union.inputs = inputs,
            None => doubles.push(column),
        }
    }
    if !doubles.is_empty() {
        let inputs = union.inputs.into_iter().map(|input| as_doubles(input, &doubles));
        union.inputs = inputs.collect::<Result<_>>()?;
    }
    Ok(union)
}

/// INTERSECT or EXCEPT, with numbers as they are written as what they are compared with.
fn with_written(mut join: Join) -> Result<Join> {
    for (left, right) in &join.on {
        let (Expr::Column(of_left), Expr::Column(of_right)) = (left, right) else {
            continue;
        };
        let of_left = join.left.schema().maybe_index_of_column(of_left);
        let of_right = join.right.schema().maybe_index_of_column(of_right);
        let (Some(of_left), Some(of_right)) = (of_left, of_right) else {
            continue;
        };
        let types = (
            join.left.schema().field(of_left).data_type(),
            join.right.schema().field(of_right).data_type(),
        );
        if types.0.is_decimal() && types.1.is_floating() {
            if let Some(right) = written_columns::as_decimals(&join.right, of_right)? {
                join.right = Arc::new(right);
            }
        } else if types.0.is_floating()
            && types.1.is_decimal()
            && let Some(left) = written_columns::as_decimals(&join.left, of_left)?
        {
            join.left = Arc::new(left);
        }
    }
    Ok(join)
}

/// The same rows, with the decimals of these columns as doubles.
fn as_doubles(rows: Arc<LogicalPlan>, columns: &[usize]) -> Result<Arc<LogicalPlan>> {
    let schema = Arc::clone(rows.schema());
    let cast = schema.columns().into_iter().enumerate().map(|(index, column)| {
        let digits = digits(schema.field(index).data_type()).filter(|_| columns.contains(&index));
        match digits {
            Some(digits) => {
                let double = to_double(Expr::Column(column.clone()), digits);
                double.alias_qualified(column.relation, column.name)
            }
            None => Expr::Column(column),
        }
    });
    let projection = Projection::try_new(cast.collect(), rows)?;
    Ok(Arc::new(LogicalPlan::Projection(projection)))
}

/// The operand of a cast to a DECIMAL of that type, if it is a float, as text.
pub(crate) fn as_text(operand: &Expr, to: &DataType, schema: &DFSchema) -> Option<Expr> {
    let (DataType::Decimal32(_, scale)
    | DataType::Decimal64(_, scale)
    | DataType::Decimal128(_, scale)
    | DataType::Decimal256(_, scale)) = to
    else {
        return None;
    };
    // Arrow reads no text into one of a negative scale.
    let places = usize::try_from(*scale).ok()?;
    if !matches!(type_of(operand, schema)?, DataType::Float32 | DataType::Float64) {
        return None;
    }
    let shown = Arc::new(ScalarUDF::from(Shown {
        places: places + 1,
        signature: Signature::any(1, Volatility::Immutable),
    }));
    let call = ScalarFunction::new_udf(shown, vec![operand.clone()]);
    Some(Expr::ScalarFunction(call))
}

/// The float that [`as_text`] made a text of, or the expression itself.
pub(crate) fn shown(expr: &Expr) -> &Expr {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().is::<Shown>() => call.args.first().unwrap_or(expr),
        _ => expr,
    }
}

/// A float in the fewest digits that name it, without exponent, cut behind the place by which it is rounded.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Shown {
    places: usize,
    signature: Signature,
}

impl Shown {
    fn cut(&self, mut text: String) -> String {
        if let Some(point) = text.find('.') {
            text.truncate(point + 1 + self.places);
        }
        text
    }

    fn show(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let texts: StringArray = match values.data_type() {
            DataType::Float32 => {
                let values = values.as_primitive::<Float32Type>();
                values
                    .iter()
                    .map(|value| value.map(|value| self.cut(value.to_string())))
                    .collect()
            }
            _ => {
                let values = cast(values, &DataType::Float64)?;
                let values = values.as_primitive::<Float64Type>();
                values
                    .iter()
                    .map(|value| value.map(|value| self.cut(value.to_string())))
                    .collect()
            }
        };
        Ok(Arc::new(texts))
    }
}

impl ScalarUDFImpl for Shown {
    fn name(&self) -> &str {
        "digits_of_float"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.show(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let shown = self.show(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&shown, 0)?))
            }
            _ => Err(DataFusionError::Internal("digits are of one number".to_owned())),
        }
    }
}
