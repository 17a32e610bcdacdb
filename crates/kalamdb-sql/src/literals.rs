//! Literals that DataFusion alone would round or misread: numbers beside decimals, PostgreSQL's BYTEA input, UUIDs.

use std::borrow::Cow;
use std::iter;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::assignment::{plain_number, with_seconds};
use crate::common_types;
use crate::exact_numbers::any_decimal;
use crate::extension_types::{ExtensionType, OnMisfit, conversion};
use crate::far_times;
use crate::float_order;
use crate::interval_text;
use crate::intervals;
use crate::kept_types;
use crate::mixed_numbers;
use crate::plan_expressions::{self, is_comparison};
use crate::quantified::Quantified;
use crate::recursive_terms;
use crate::shifted_rows;
use crate::text_comparisons::truth;
use crate::time_units;
use crate::united_types;
use crate::window_frames;

/// PostgreSQL's input forms of BYTEA: `\x` and hex digits, or text with `\\` and `\ooo` escapes. `None` if it is neither.
pub(crate) fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        return digits
            .len()
            .is_multiple_of(2)
            .then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            (b'\\', _) => return None,
            (byte, after) => {
                bytes.push(byte);
                after
            }
        };
    }
    Some(bytes)
}

/// Text as a value of a binary type: a UUID for 16 bytes, BYTEA input otherwise. `None` if it is not one.
pub(crate) fn binary_scalar(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Binary => bytea(text).map(|bytes| ScalarValue::Binary(Some(bytes))),
        DataType::LargeBinary => bytea(text).map(|bytes| ScalarValue::LargeBinary(Some(bytes))),
        DataType::FixedSizeBinary(size) => {
            fixed_binary(text, *size).map(|bytes| ScalarValue::FixedSizeBinary(*size, Some(bytes)))
        }
        _ => None,
    }
}

/// Text as so many bytes: a UUID for 16 of them, BYTEA input otherwise.
pub(crate) fn fixed_binary(text: &str, size: i32) -> Option<Vec<u8>> {
    if size == 16
        && let Ok(uuid) = uuid::Uuid::parse_str(text.trim())
    {
        return Some(uuid.as_bytes().to_vec());
    }
    let bytes = if text.starts_with("\\x") {
        bytea(text)?
    } else {
        return None;
    };
    (i32::try_from(bytes.len()) == Ok(size)).then_some(bytes)
}

/// Reads text literals next to binary columns as BYTEA or UUID, before type coercion takes their bytes as they are, and numbers
/// beside a DECIMAL as the DECIMAL that is written, before it makes doubles of both.
#[derive(Debug)]
pub(crate) struct TypedLiterals;

impl AnalyzerRule for TypedLiterals {
    fn name(&self) -> &str {
        "typed_literals"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        typed_plan(plan)
    }
}

fn typed_plan(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        plan_expressions::map(plan, |expr, schema| expr.transform_up(|expr| typed(expr, schema)))?.map_data(|plan| {
            let plan = match mixed_numbers::in_plan(united_types::in_plan(intervals::sorted(plan))?)? {
                LogicalPlan::RecursiveQuery(query) => {
                    LogicalPlan::RecursiveQuery(recursive_terms::of_first_types(query, typed_plan)?)
                }
                other => other,
            };
            kept_types::of_unnest(plan.recompute_schema()?)
        })
    })?;
    Ok(rewritten.data)
}

/// One expression of which the operands are done, for expressions outside plans.
pub(crate) fn typed(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(mut binary) if is_exact_arithmetic(binary.op) => {
            let mut right = decimal_replacement(&binary.left, &binary.right, schema);
            let mut left = decimal_replacement(&binary.right, &binary.left, schema);
            if binary.op == Operator::Minus {
                if time_units::moment_beside_date(&mut binary, schema) {
                    return Ok(Transformed::yes(Expr::BinaryExpr(binary)));
                }
                right = right.or_else(|| time_units::in_difference(&binary.left, &binary.right, schema));
                left = left.or_else(|| time_units::in_difference(&binary.right, &binary.left, schema));
            }
            let changed = right.is_some() || left.is_some();
            if let Some(right) = right {
                *binary.right = right;
            }
            if let Some(left) = left {
                *binary.left = left;
            }
            Ok(Transformed::new_transformed(Expr::BinaryExpr(binary), changed))
        }
        Expr::BinaryExpr(mut binary) if is_comparison(binary.op) => {
            if time_units::moment_beside_date(&mut binary, schema) || intervals::compare(&mut binary, schema) {
                return Ok(Transformed::yes(Expr::BinaryExpr(binary)));
            }
            let widened = time_units::widen(&mut binary.left, &[&binary.right], schema)
                || time_units::widen(&mut binary.right, &[&binary.left], schema);
            let right = replacement(&binary.left, &binary.right, schema)?;
            let left = replacement(&binary.right, &binary.left, schema)?;
            let mut changed = widened || right.is_some() || left.is_some();
            if let Some(right) = right {
                binary.right = Box::new(right);
            }
            if let Some(left) = left {
                binary.left = Box::new(left);
            }
            if let Some(compared) = float_order::beside_zero(&binary, schema) {
                return Ok(Transformed::yes(compared));
            }
            let sides = [binary.left.as_mut(), binary.right.as_mut()];
            changed |= mixed_numbers::harmonize(sides, schema);
            changed |= time_units::of_day(&mut binary.left, &mut binary.right, schema);
            Ok(Transformed::new_transformed(Expr::BinaryExpr(binary), changed))
        }
        Expr::InList(mut list) => {
            if intervals::compare_all(iter::once(list.expr.as_mut()).chain(&mut list.list), schema) {
                return Ok(Transformed::yes(Expr::InList(list)));
            }
            let items: Vec<&Expr> = list.list.iter().collect();
            let mut changed = time_units::widen(&mut list.expr, &items, schema);
            for item in &mut list.list {
                if let Some(typed) = replacement(&list.expr, item, schema)? {
                    *item = typed;
                    changed = true;
                }
            }
            changed |= beside_items(&mut list.expr, &list.list, schema)?;
            changed |= float_order::in_list(&mut list, schema);
            changed |= mixed_numbers::harmonize(iter::once(list.expr.as_mut()).chain(&mut list.list), schema);
            if let [item] = list.list.as_mut_slice() {
                changed |= time_units::of_day(&mut list.expr, item, schema);
            }
            let mut all: Vec<&mut Expr> = iter::once(list.expr.as_mut()).chain(&mut list.list).collect();
            changed |= time_units::harmonize(&mut all, schema);
            changed |= time_units::of_days(&mut all, schema);
            Ok(Transformed::new_transformed(Expr::InList(list), changed))
        }
        Expr::Between(mut between) => {
            let bounds = [&mut between.expr, &mut between.low, &mut between.high];
            if intervals::compare_all(bounds.map(Box::as_mut), schema) {
                return Ok(Transformed::yes(Expr::Between(between)));
            }
            let widened = time_units::widen(&mut between.expr, &[&between.low, &between.high], schema);
            let mut changed = widened;
            // A literal between two values is one of their type.
            if matches!(between.expr.as_ref(), Expr::Literal(..))
                && let Some(typed) = replacement(&between.low, &between.expr, schema)?
            {
                *between.expr = typed;
                changed = true;
            }
            let low = replacement(&between.expr, &between.low, schema)?;
            let high = replacement(&between.expr, &between.high, schema)?;
            changed |= low.is_some() || high.is_some();
            if let Some(low) = low {
                between.low = Box::new(low);
            }
            if let Some(high) = high {
                between.high = Box::new(high);
            }
            changed |= beside_items(&mut between.expr, [between.low.as_ref(), between.high.as_ref()], schema)?;
            changed |= float_order::between(&mut between, schema);
            let bounds = [&mut between.expr, &mut between.low, &mut between.high];
            changed |= mixed_numbers::harmonize(bounds.map(Box::as_mut), schema);
            let mut all = [&mut between.expr, &mut between.low, &mut between.high].map(Box::as_mut);
            changed |= time_units::harmonize(&mut all, schema);
            changed |= time_units::of_days(&mut all, schema);
            Ok(Transformed::new_transformed(Expr::Between(between), changed))
        }
        Expr::Case(mut case) => {
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            let mut results: Vec<&mut Expr> = results.chain(case.else_expr.as_deref_mut()).collect();
            let mut changed = time_units::harmonize(&mut results, schema);
            changed |= time_units::of_days(&mut results, schema);
            changed |= written_as_others(&mut results, schema)?;
            changed |= mixed_numbers::harmonize(results.iter_mut().map(|result| &mut **result), schema);
            changed |= common_types::cast_numbers(&mut results, schema);
            if let Some(compared) = case.expr.as_deref_mut() {
                let mut whens: Vec<&mut Expr> = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut()).collect();
                changed |= intervals::read_beside(compared, &mut whens, schema);
                for (when, _) in &mut case.when_then_expr {
                    if let Some(typed) = replacement(compared, when, schema)? {
                        **when = typed;
                        changed = true;
                    }
                }
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                let mut all: Vec<&mut Expr> = iter::once(compared).chain(whens).collect();
                changed |= time_units::harmonize(&mut all, schema);
                changed |= time_units::of_days(&mut all, schema);
                changed |= mixed_numbers::harmonize(all, schema);
            }
            let kept = kept_types::of_case(case, schema)?;
            Ok(Transformed::new_transformed(kept.data, changed || kept.transformed))
        }
        Expr::ScalarFunction(mut call) => {
            let mut changed = far_times::take_date(&mut call, schema) || fix_places(&mut call);
            if time_units::are_of_one_type(&call) {
                kept_types::check_texts(&call, schema)?;
                let mut args: Vec<&mut Expr> = call.args.iter_mut().collect();
                changed |= time_units::harmonize(&mut args, schema);
                changed |= time_units::of_days(&mut args, schema);
                changed |= written_as_others(&mut args, schema)?;
                changed |= mixed_numbers::harmonize(args, schema);
            } else if call.func.name() == "make_array" {
                let mut elements: Vec<&mut Expr> = call.args.iter_mut().collect();
                changed |= numbers_as_decimals(&mut elements, schema);
                changed |= mixed_numbers::harmonize(elements, schema);
            }
            changed |= beside_elements(&mut call, schema)?;
            let kept = kept_types::of_call(call, schema)?;
            Ok(Transformed::new_transformed(kept.data, changed || kept.transformed))
        }
        Expr::Cast(mut cast) => {
            if is_binary(cast.field.data_type())
                && let Expr::Literal(value, _) = cast.expr.as_ref()
                && let Some(text) = text_of(value)
            {
                let value = binary_or_error(text, cast.field.data_type())?;
                let metadata = (!cast.field.metadata().is_empty()).then(|| FieldMetadata::new_from_field(&cast.field));
                return Ok(Transformed::yes(Expr::Literal(value, metadata)));
            }
            let shown = mixed_numbers::as_text(&cast.expr, cast.field.data_type(), schema)
                .or_else(|| interval_text::read(&cast.expr, cast.field.data_type(), schema));
            let changed = shown.is_some();
            if let Some(shown) = shown {
                *cast.expr = shown;
            }
            Ok(match conversion(&cast.expr, &cast.field, schema, OnMisfit::Fail)? {
                Some(converted) => Transformed::yes(converted),
                None => Transformed::new_transformed(Expr::Cast(cast), changed),
            })
        }
        Expr::TryCast(mut cast) => {
            let shown = mixed_numbers::as_text(&cast.expr, cast.field.data_type(), schema)
                .or_else(|| interval_text::read(&cast.expr, cast.field.data_type(), schema));
            let changed = shown.is_some();
            if let Some(shown) = shown {
                *cast.expr = shown;
            }
            Ok(match conversion(&cast.expr, &cast.field, schema, OnMisfit::Null)? {
                Some(converted) => Transformed::yes(converted),
                None => Transformed::new_transformed(Expr::TryCast(cast), changed),
            })
        }
        Expr::InSubquery(mut membership) => {
            let mut changed = mixed_numbers::in_subquery(&mut membership, schema)?;
            changed |= united_types::in_subquery(&mut membership, schema)?;
            Ok(Transformed::new_transformed(Expr::InSubquery(membership), changed))
        }
        mut other => {
            let shifted = shifted_rows::with_default(&mut other, schema)?;
            let measured = intervals::order_inside(&mut other, schema);
            let grouped = window_frames::of_groups(&mut other, schema)?;
            Ok(Transformed::new_transformed(other, shifted || measured || grouped))
        }
    }
}

/// Numbers among what is brought to one type as DECIMALs, if there is one that is none of them.
fn numbers_as_decimals(operands: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let is_literal = |operand: &Expr| matches!(operand, Expr::Literal(..));
    let mut others = operands.iter().filter(|operand| !is_literal(operand));
    // What has no type here is for other rules to refuse.
    let other = others.find(|operand| operand.get_type(schema).is_ok_and(|data_type| is_decimal(&data_type)));
    let Some(other) = other.map(|other| Expr::clone(other)) else {
        return false;
    };
    let mut changed = false;
    for operand in operands.iter_mut().filter(|operand| is_literal(operand)) {
        if let Some(decimal) = decimal_replacement(&other, operand, schema) {
            **operand = decimal;
            changed = true;
        }
    }
    changed
}

/// Literals among what is brought to one type as values of the others' type: numbers among decimals, texts among bytes.
fn written_as_others(operands: &mut [&mut Expr], schema: &DFSchema) -> DataFusionResult<bool> {
    let is_literal = |operand: &Expr| matches!(operand, Expr::Literal(..));
    let is_model = |operand: &Expr| match operand.to_field(schema) {
        // Of extension types `kept_types` knows.
        Ok((_, field)) if ExtensionType::of(field.metadata()).is_some() => false,
        Ok((_, field)) => is_decimal(field.data_type()) || is_binary(field.data_type()),
        // What has no type here is for other rules to refuse.
        Err(_) => false,
    };
    let mut others = operands.iter().filter(|operand| !is_literal(operand));
    let other = others.find(|operand| is_model(operand));
    let Some(other) = other.map(|other| Expr::clone(other)) else {
        return Ok(false);
    };
    let mut changed = false;
    for operand in operands.iter_mut().filter(|operand| is_literal(operand)) {
        let typed = match decimal_replacement(&other, operand, schema) {
            Some(decimal) => Some(decimal),
            None => replacement(&other, operand, schema)?,
        };
        if let Some(typed) = typed {
            **operand = typed;
            changed = true;
        }
    }
    Ok(changed)
}

/// A number that is compared with several values, as beside the first DECIMAL of them.
fn beside_items<'a>(
    number: &mut Expr,
    items: impl IntoIterator<Item = &'a Expr>,
    schema: &DFSchema,
) -> DataFusionResult<bool> {
    if !matches!(number, Expr::Literal(ScalarValue::Float64(_), _)) {
        return Ok(false);
    }
    // What has no type here is for other rules to refuse.
    let mut items = items.into_iter();
    let item = items.find(|item| item.get_type(schema).is_ok_and(|data_type| is_decimal(&data_type)));
    let Some(item) = item else { return Ok(false) };
    match replacement(item, number, schema)? {
        Some(decimal) => {
            *number = decimal;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// A literal that is compared with the elements of a list, as beside one of them. Whether it was written otherwise.
fn beside_elements(call: &mut ScalarFunction, schema: &DFSchema) -> DataFusionResult<bool> {
    if !Quantified::is_called(call) {
        return Ok(false);
    }
    let [list, value] = call.args.as_mut_slice() else {
        return Ok(false);
    };
    if !matches!(value, Expr::Literal(..)) {
        return Ok(false);
    }
    // What has no type here is for other rules to refuse.
    let Ok(DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _)) =
        list.get_type(schema)
    else {
        return Ok(false);
    };
    let operand = Expr::Column(Column::new_unqualified(element.name()));
    let elements = DFSchema::try_from(Schema::new(vec![element]))?;
    match replacement(&operand, value, &elements)? {
        Some(typed) => {
            *value = typed;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The number of places of `round` and `trunc` in the type that the function takes, so that nothing is cast before it: of a constant
/// they make the type of what they give, which would be another one when the cast is folded.
fn fix_places(call: &mut ScalarFunction) -> bool {
    if !matches!(call.func.name(), "round" | "trunc") {
        return false;
    }
    match call.args.get_mut(1) {
        Some(Expr::Literal(places @ ScalarValue::Int64(_), _)) => match places.cast_to(&DataType::Int32) {
            Ok(fixed) => {
                *places = fixed;
                true
            }
            // More places than are counted: the function says so.
            Err(_) => false,
        },
        _ => false,
    }
}

/// What is exact for decimals; a quotient is not.
fn is_exact_arithmetic(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo
    )
}

/// `literal`, a double beside a decimal `operand`, as the DECIMAL that was written; `None` where there is nothing to do.
fn decimal_replacement(operand: &Expr, literal: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Float64(Some(number)), _) = literal else {
        return None;
    };
    match operand.get_type(schema) {
        Ok(DataType::Decimal128(..) | DataType::Decimal256(..)) => {}
        // What has no type here is not ours to refuse.
        Ok(_) | Err(_) => return None,
    }
    let value = decimal_of(*number)?;
    matches!(value, ScalarValue::Decimal128(..)).then_some(Expr::Literal(value, None))
}

/// The DECIMAL that is written, of a number that a plan has as a double.
pub(crate) fn decimal_of(number: f64) -> Option<ScalarValue> {
    let (text, precision, scale) = as_written(number)?;
    let data_type = match precision {
        ..=DECIMAL128_MAX_PRECISION => DataType::Decimal128(precision, scale),
        _ => DataType::Decimal256(precision, scale),
    };
    ScalarValue::try_from_string(text, &data_type).ok() // Digits that were counted for it.
}

/// The shortest digits that mean this double, which are those that were written, as longer ones are no doubles; and the precision
/// and scale of a DECIMAL that holds them.
fn as_written(number: f64) -> Option<(String, u8, i8)> {
    let text = number.to_string();
    let text = if text.contains('.') { text } else { format!("{text}.0") };
    let (precision, scale) = any_decimal(text.trim_start_matches('-'))?;
    Some((text, u8::try_from(precision).ok()?, i8::try_from(scale).ok()?)) // Bounded by `any_decimal`.
}

/// `literal` as a value of the type of `operand`, a DECIMAL or a binary type among others; `None` where there is nothing to do.
///
/// # Errors
/// TYPE_MISMATCH for a text that is no such value.
pub(crate) fn replacement(operand: &Expr, literal: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    if let Some(text) = minutes_beside_time(operand, literal, schema) {
        let whole = Expr::Literal(ScalarValue::from(text), None);
        return Ok(Some(time_units::beside(operand, &whole, schema).unwrap_or(whole)));
    }
    if let Some(time) = time_units::beside(operand, literal, schema) {
        return Ok(Some(time));
    }
    let Expr::Literal(value, _) = literal else {
        return compared_with_uuid(operand, literal, schema);
    };
    if let ScalarValue::Float64(Some(number)) = value {
        return Ok(match operand.get_type(schema) {
            Ok(data_type) => beside_decimal(*number, &data_type).map(|value| Expr::Literal(value, None)),
            Err(_) => None, // As below.
        });
    }
    let Some(text) = text_of(value) else { return Ok(None) };
    match operand.get_type(schema) {
        Ok(data_type) if is_decimal(&data_type) => {
            Ok(text_beside_decimal(text, &data_type).map(|value| Expr::Literal(value, None)))
        }
        Ok(data_type) if is_binary(&data_type) => Ok(Some(Expr::Literal(binary_or_error(text, &data_type)?, None))),
        Ok(DataType::Boolean) => Ok(Some(Expr::Literal(truth(text)?, None))),
        // What has no type here is not ours to refuse: later rules say what is wrong with it.
        Ok(_) | Err(_) => Ok(None),
    }
}

/// A text beside a timestamp that lacks its seconds, with them.
fn minutes_beside_time(operand: &Expr, literal: &Expr, schema: &DFSchema) -> Option<String> {
    let Expr::Literal(value, _) = literal else { return None };
    match with_seconds(text_of(value)?) {
        // What has no type here is not ours to refuse.
        Cow::Owned(whole) => matches!(operand.get_type(schema), Ok(DataType::Timestamp(..))).then_some(whole),
        Cow::Borrowed(_) => None,
    }
}

/// A number as a DECIMAL that compares exactly with one of this type; `None` for other types, and where no DECIMAL holds both.
/// DataFusion compares the two as doubles, which takes decimals for equal that differ in their last digits.
fn beside_decimal(number: f64, data_type: &DataType) -> Option<ScalarValue> {
    let (text, precision, scale) = as_written(number)?;
    exact_beside(text, precision, scale, data_type)
}

/// The same for a number in a text, of which DataFusion would round what the decimal has no places for.
fn text_beside_decimal(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    let text = plain_number(text)?;
    let text = if text.contains('.') { text } else { format!("{text}.0") };
    let (precision, scale) = any_decimal(text.trim_start_matches('-'))?;
    let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?); // Bounded by `any_decimal`.
    exact_beside(text, precision, scale, data_type)
}

fn exact_beside(text: String, own_precision: u8, own_scale: i8, data_type: &DataType) -> Option<ScalarValue> {
    let (DataType::Decimal32(precision, scale)
    | DataType::Decimal64(precision, scale)
    | DataType::Decimal128(precision, scale)
    | DataType::Decimal256(precision, scale)) = *data_type
    else {
        return None;
    };
    let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
    let both = whole(precision, scale).max(whole(own_precision, own_scale)) + i16::from(scale.max(own_scale));
    let own_type = match both {
        ..=38 => DataType::Decimal128(own_precision, own_scale),
        39..=76 => DataType::Decimal256(own_precision, own_scale),
        _ => return None,
    };
    ScalarValue::try_from_string(text, &own_type).ok() // Digits that were counted for it.
}

/// Text beside a UUID is read as one; `None` where there is nothing to do.
///
/// # Errors
/// Whatever the types of the expression say.
pub(crate) fn compared_with_uuid(operand: &Expr, text: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    let Ok((_, field)) = operand.to_field(schema) else {
        return Ok(None);
    };
    if ExtensionType::of(field.metadata()) != Some(ExtensionType::Uuid) {
        return Ok(None);
    }
    if let Expr::Literal(value, _) = text
        && let Some(text) = text_of(value)
    {
        let uuid = binary_or_error(text, &ExtensionType::Uuid.storage())?;
        return Ok(Some(Expr::Literal(uuid, None)));
    }
    match text.get_type(schema) {
        Ok(data_type) if data_type.is_string() => {
            conversion(text, &ExtensionType::Uuid.field(""), schema, OnMisfit::Fail)
        }
        Ok(_) | Err(_) => Ok(None), // As above.
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_)
    )
}

fn text_of(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

fn binary_or_error(text: &str, data_type: &DataType) -> DataFusionResult<ScalarValue> {
    binary_scalar(text, data_type).ok_or_else(|| {
        let expected = if matches!(data_type, DataType::FixedSizeBinary(16)) {
            "a UUID"
        } else {
            "BYTEA input such as '\\x00ff'"
        };
        let error = Error::new(ErrorCode::TypeMismatch, format!("'{text}' is not {expected}"));
        DataFusionError::External(Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytea_input_is_that_of_postgresql() {
        let check = |text: &str, expected: Option<&[u8]>| assert_eq!(bytea(text).as_deref(), expected, "{text}");
        check("\\x00fF", Some(&[0x00, 0xff]));
        check("\\x00 ff", Some(&[0x00, 0xff]));
        check("\\x0", None);
        check("\\xzz", None);
        check("abc", Some(b"abc"));
        check("a\\\\b\\000\\377", Some(&[b'a', b'\\', b'b', 0x00, 0xff]));
        check("a\\b", None);
        check("", Some(b""));
    }

    #[test]
    fn numbers_beside_decimals_are_decimals() {
        let check = |number: f64, precision: u8, scale: i8, expected: Option<(&str, DataType)>| {
            let found = beside_decimal(number, &DataType::Decimal128(precision, scale));
            let found = found.map(|value| (value.to_string(), value.data_type()));
            assert_eq!(
                found,
                expected.map(|(text, data_type)| (text.to_owned(), data_type)),
                "{number}"
            );
        };
        check(1.5, 38, 10, Some(("1.5", DataType::Decimal128(2, 1))));
        check(-0.1, 10, 2, Some(("-0.1", DataType::Decimal128(1, 1))));
        check(7.0, 38, 38, Some(("7.0", DataType::Decimal256(2, 1))));
        check(1e300, 10, 2, None);
        check(f64::NAN, 10, 2, None);
        check(f64::INFINITY, 10, 2, None);
        assert_eq!(beside_decimal(1.5, &DataType::Float64), None);
    }

    #[test]
    fn a_double_beside_a_decimal_is_what_was_written() {
        let check = |number: f64, expected: Option<(i128, u8, i8)>| {
            let decimal = Expr::Literal(ScalarValue::Decimal128(Some(100), 10, 2), None);
            let double = Expr::Literal(ScalarValue::Float64(Some(number)), None);
            let replaced = decimal_replacement(&decimal, &double, &DFSchema::empty());
            let expected = expected
                .map(|(value, precision, scale)| ScalarValue::Decimal128(Some(value), precision, scale))
                .map(|value| Expr::Literal(value, None));
            assert_eq!(replaced, expected, "{number}");
        };
        check(1.1, Some((11, 2, 1)));
        check(-0.005, Some((-5, 3, 3)));
        check(150.0, Some((1500, 4, 1)));
        check(1e300, None);
        check(f64::NAN, None);
        let double = Expr::Literal(ScalarValue::Float64(Some(1.1)), None);
        assert_eq!(decimal_replacement(&double, &double, &DFSchema::empty()), None);
    }
}
