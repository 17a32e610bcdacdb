//! NaN and negative zero among floats: one NaN, which is greater than every number, and zeros that are equal.
//!
//! Problem: DataFusion 55 compares floats by their bits in IEEE 754's total order, where −0.0 is less than 0.0 and a NaN with its
//! sign bit set, which is what processors make of 0.0 / 0.0, is less than all numbers and not equal to NaN. Proper way: comparisons
//! that know one zero and one NaN. Its operators, joins and groups take zeros for equal; sorts, windows, `CASE x WHEN y` and key ranges
//! do not. Chosen: what computes gives the NaN without a sign, a comparison with zero takes both, and what is sorted by, or compared
//! by a CASE, becomes the zero and the NaN without a sign before. Values themselves are kept bit for bit, and so a NaN that came with
//! a sign by a load is less than all numbers for operators. Evidence: `total_cmp` in arrow-ord 59 `cmp.rs`, `normalize_float_zero` in
//! datafusion-common 55 `utils/mod.rs`.

use std::iter;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::common::utils::normalize_float_zero;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Case, InList, ScalarFunction};
use datafusion::logical_expr::{
    Between, BinaryExpr, ColumnarValue, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
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

/// Whether a call gives a float as what it is compared by, or without its NaN's sign.
pub(crate) fn is_order(call: &ScalarFunction) -> bool {
    call.func.inner().is::<PlainNan>()
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
    call(expr, data_type, OfZero::Kept)
}

fn call(expr: Expr, data_type: DataType, sign: OfZero) -> Expr {
    let function = PlainNan {
        // Exact: rules that try an expression with NULL for its columns then give the NULL the type.
        signature: Signature::exact(vec![data_type.clone()], Volatility::Immutable),
        data_type,
        sign,
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![expr]))
}

/// A float as what it is compared by. Whether it is one.
fn compare_by(expr: &mut Expr, schema: &DFSchema) -> bool {
    // A sort by a constant is for other rules to drop.
    let is_done =
        matches!(expr, Expr::Literal(..)) || plain_of(expr).is_some_and(|plain| plain.sign == OfZero::Dropped);
    let data_type = if is_done { None } else { float_of(expr, schema) };
    match data_type {
        Some(data_type) => {
            *expr = call(std::mem::take(expr), data_type, OfZero::Dropped);
            true
        }
        None => false,
    }
}

/// The same for several. Whether there is one among them.
fn compare_all_by<'a>(exprs: impl Iterator<Item = &'a mut Expr>, schema: &DFSchema) -> bool {
    let mut changed = false;
    for expr in exprs {
        changed |= compare_by(expr, schema);
    }
    changed
}

/// Sorts zeros as one.
pub(crate) fn sorted(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Sort(mut sort) => {
            for key in &mut sort.expr {
                compare_by(&mut key.expr, sort.input.schema());
            }
            LogicalPlan::Sort(sort)
        }
        // What it groups by must stay what it sorts by first.
        LogicalPlan::Distinct(Distinct::On(mut distinct)) => {
            let keys = distinct.sort_expr.iter_mut().flatten().map(|key| &mut key.expr);
            compare_all_by(keys.chain(&mut distinct.on_expr), distinct.input.schema());
            LogicalPlan::Distinct(Distinct::On(distinct))
        }
        other => other,
    }
}

/// The same inside of a window or an aggregate. Whether there are floats to sort by.
pub(crate) fn order_inside(expr: &mut Expr, schema: &DFSchema) -> bool {
    let (order_by, partition_by): (_, &mut [Expr]) = match expr {
        Expr::WindowFunction(window) => (&mut window.params.order_by, &mut window.params.partition_by),
        // One with DISTINCT sorts by its arguments, as they are written.
        Expr::AggregateFunction(aggregate) if !aggregate.params.distinct => (&mut aggregate.params.order_by, &mut []),
        _ => return false,
    };
    let keys = order_by.iter_mut().map(|key| &mut key.expr).chain(partition_by);
    compare_all_by(keys, schema)
}

/// The same for what `CASE x WHEN y` compares.
pub(crate) fn in_case(case: &mut Case, schema: &DFSchema) -> bool {
    let Some(compared) = case.expr.as_deref_mut() else {
        return false;
    };
    let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
    compare_all_by(iter::once(compared).chain(whens), schema)
}

/// Floats as what they are compared by, and other values as they are.
pub(crate) fn ordered(values: &ArrayRef) -> ArrayRef {
    normalize_float_zero(&PlainNan::clear(values))
}

/// Of a zero the one with the other sign.
pub(crate) fn other_zero(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Float32(Some(number)) if *number == 0.0 => Some(ScalarValue::Float32(Some(-number))),
        ScalarValue::Float64(Some(number)) if *number == 0.0 => Some(ScalarValue::Float64(Some(-number))),
        _ => None,
    }
}

fn within(expr: Expr) -> Expr {
    if plain_of(&expr).is_none_or(|plain| plain.sign == OfZero::Dropped) {
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

/// What becomes of the sign of a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OfZero {
    Kept,
    Dropped,
}

/// Its argument, in which every NaN is the one without a sign.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PlainNan {
    data_type: DataType,
    sign: OfZero,
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

    fn apply(&self, values: &ArrayRef) -> ArrayRef {
        match self.sign {
            OfZero::Kept => PlainNan::clear(values),
            OfZero::Dropped => ordered(values),
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
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.apply(values))),
            [ColumnarValue::Scalar(value)] => {
                let cleared = self.apply(&value.to_array()?);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cleared, 0)?))
            }
            _ => Err(DataFusionError::Internal("a NaN is of one number".to_owned())),
        }
    }
}
