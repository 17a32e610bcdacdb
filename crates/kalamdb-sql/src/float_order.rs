//! NaN and negative zero among floats: one NaN, which is greater than every number, and zeros that are equal.
//!
//! Problem: DataFusion 55 compares floats by their bits in IEEE 754's total order, where −0.0 is less than 0.0 and a NaN with its
//! sign bit set, which is what processors make of 0.0 / 0.0, is less than all numbers and not equal to NaN. Proper way: comparisons
//! that know one zero and one NaN. Chosen: what computes gives the NaN without a sign, and a comparison with zero takes both.
//! Zeros of two columns are told apart still, and so are NaN that came with a sign by a load: values are kept bit for bit.
//! Evidence: `total_cmp` in arrow-ord 59 `cmp.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{
    Between, BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// Functions that give NaN of a number that they are not defined for.
const UNDEFINED_SOMEWHERE: &[&str] = &[
    "acos", "acosh", "asin", "atanh", "cos", "cot", "ln", "log", "log10", "log2", "power", "sin", "sqrt", "tan",
];

fn float_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    // Asked of the function itself, a chain of operators would be walked down again from each of its links.
    if let Some(plain) = plain_of(expr) {
        return Some(plain.data_type.clone());
    }
    // What has no type here is for other rules to refuse.
    let data_type = expr.get_type(schema).ok()?;
    matches!(data_type, DataType::Float32 | DataType::Float64).then_some(data_type)
}

fn plain_of(expr: &Expr) -> Option<&PlainNan> {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<PlainNan>(),
        _ => None,
    }
}

/// `left op right` of floats, if it may be NaN, with the NaN that has no sign. Both sides have its type.
pub(crate) fn computed(mut binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let computes = matches!(
        binary.op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    );
    let data_type = computes.then(|| float_of(&binary.left, schema)).flatten();
    let Some(data_type) = data_type else {
        return Transformed::no(Expr::BinaryExpr(binary));
    };
    // Of a longer computation the last step is enough.
    binary.left = Box::new(within(*binary.left));
    binary.right = Box::new(within(*binary.right));
    Transformed::yes(plain(Expr::BinaryExpr(binary), data_type))
}

/// The same for `- operand`.
pub(crate) fn negated(operand: Box<Expr>, schema: &DFSchema) -> Transformed<Expr> {
    match float_of(&operand, schema) {
        Some(data_type) => Transformed::yes(plain(Expr::Negative(Box::new(within(*operand))), data_type)),
        None => Transformed::no(Expr::Negative(operand)),
    }
}

/// The same for functions that are not defined everywhere.
pub(crate) fn called(call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let is_one = UNDEFINED_SOMEWHERE.contains(&call.func.name());
    let call = Expr::ScalarFunction(call);
    match is_one.then(|| float_of(&call, schema)).flatten() {
        Some(data_type) => Transformed::yes(plain(call, data_type)),
        None => Transformed::no(call),
    }
}

fn plain(expr: Expr, data_type: DataType) -> Expr {
    let function = PlainNan {
        // Exact: rules that try an expression with NULL for its columns then give the NULL the type.
        signature: Signature::exact(vec![data_type.clone()], Volatility::Immutable),
        data_type,
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![expr]))
}

fn within(expr: Expr) -> Expr {
    if plain_of(&expr).is_none() {
        return expr;
    }
    match expr {
        Expr::ScalarFunction(mut call) => call.args.pop().unwrap_or_default(),
        other => other,
    }
}

/// A float compared with zero, with both zeros; `None` for every other comparison.
pub(crate) fn beside_zero(binary: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let (operand, op) = if is_zero(&binary.right) {
        (&binary.left, binary.op)
    } else if is_zero(&binary.left) {
        (&binary.right, binary.op.swap()?)
    } else {
        return None;
    };
    let zeros = Zeros::of(operand, schema)?;
    let operand = operand.clone();
    let compared = |operand: Box<Expr>, op, zero| Expr::BinaryExpr(BinaryExpr::new(operand, op, Box::new(zero)));
    let Zeros { negative, positive } = zeros;
    Some(match op {
        Operator::Eq | Operator::NotEq => Expr::Between(Between::new(
            operand,
            op == Operator::NotEq,
            Box::new(negative),
            Box::new(positive),
        )),
        Operator::Lt | Operator::GtEq => compared(operand, op, negative),
        Operator::Gt | Operator::LtEq => compared(operand, op, positive),
        _ => return None,
    })
}

/// Both zeros in the list of an IN that has one. Whether it has.
pub(crate) fn in_list(list: &mut InList, schema: &DFSchema) -> bool {
    if !list.list.iter().any(is_zero) {
        return false;
    }
    let Some(zeros) = Zeros::of(&list.expr, schema) else {
        return false;
    };
    list.list.retain(|item| !is_zero(item));
    list.list.extend([zeros.negative, zeros.positive]);
    true
}

/// Both zeros within bounds of which one is zero. Whether one is.
pub(crate) fn between(between: &mut Between, schema: &DFSchema) -> bool {
    if !is_zero(&between.low) && !is_zero(&between.high) {
        return false;
    }
    let Some(zeros) = Zeros::of(&between.expr, schema) else {
        return false;
    };
    if is_zero(&between.low) {
        *between.low = zeros.negative;
    }
    if is_zero(&between.high) {
        *between.high = zeros.positive;
    }
    true
}

/// The zeros of a type.
struct Zeros {
    negative: Expr,
    positive: Expr,
}

impl Zeros {
    fn of(operand: &Expr, schema: &DFSchema) -> Option<Self> {
        let literal = |value| Expr::Literal(value, None);
        // A comparison of constants is what it is.
        if matches!(operand, Expr::Literal(..)) {
            return None;
        }
        Some(match float_of(operand, schema)? {
            DataType::Float32 => Zeros {
                negative: literal(ScalarValue::Float32(Some(-0.0))),
                positive: literal(ScalarValue::Float32(Some(0.0))),
            },
            _ => Zeros {
                negative: literal(ScalarValue::Float64(Some(-0.0))),
                positive: literal(ScalarValue::Float64(Some(0.0))),
            },
        })
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value == 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value == 0.0,
        Expr::Literal(ScalarValue::Int64(Some(0)), _) => true,
        Expr::Negative(inner) => is_zero(inner),
        _ => false,
    }
}

/// Its argument, in which every NaN is the one without a sign.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PlainNan {
    data_type: DataType,
    signature: Signature,
}

impl PlainNan {
    fn clear(values: &ArrayRef) -> ArrayRef {
        fn cleared<T: ArrowPrimitiveType>(values: &ArrayRef, clear: impl Fn(T::Native) -> T::Native) -> ArrayRef {
            Arc::new(values.as_primitive::<T>().unary::<_, T>(clear))
        }
        match values.data_type() {
            DataType::Float32 => cleared::<Float32Type>(values, |value| if value.is_nan() { f32::NAN } else { value }),
            DataType::Float64 => cleared::<Float64Type>(values, |value| if value.is_nan() { f64::NAN } else { value }),
            _ => Arc::clone(values),
        }
    }
}

impl ScalarUDFImpl for PlainNan {
    fn name(&self) -> &str {
        "plain_nan"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.data_type.clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(PlainNan::clear(values))),
            [ColumnarValue::Scalar(value)] => {
                let cleared = PlainNan::clear(&value.to_array()?);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cleared, 0)?))
            }
            _ => Err(DataFusionError::Internal("a NaN is of one number".to_owned())),
        }
    }
}
