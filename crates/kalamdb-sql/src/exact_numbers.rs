//! Numbers of a text that a double would round, written as the DECIMALs that they are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{folded, placed, position_of};
use crate::tree::walk_mut;

/// A double tells any two numbers of so many digits apart, and no more.
const DOUBLE_DIGITS: usize = 15;

/// Functions of numbers whose values jump: a double beside the number that is written may be on the other side.
const EXACT_FUNCTIONS: [&str; 3] = ["div", "mod", "width_bucket"];

/// What a DECIMAL can hold.
const DECIMAL_DIGITS: usize = 76;

/// Makes every number that a double would round an exact DECIMAL.
///
/// # Errors
/// TYPE_MISMATCH for a number that a double would take for infinity, and for an integer of more digits than a DECIMAL has.
pub(crate) fn keep_long_numbers(statement: &mut impl VisitMut) -> Result<()> {
    struct LongNumbers;
    impl VisitorMut for LongNumbers {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Self::Break> {
            match expr {
                ast::Expr::Value(value) => {
                    // DataFusion knows no such text.
                    if let ast::Value::UnicodeStringLiteral(text) | ast::Value::NationalStringLiteral(text) =
                        &mut value.value
                    {
                        value.value = ast::Value::SingleQuotedString(std::mem::take(text));
                        return ControlFlow::Continue(());
                    }
                    if let Err(error) = check_range(value) {
                        return ControlFlow::Break(error);
                    }
                    make_decimal(expr, exact_decimal);
                }
                // By itself it may be an unsigned integer, which with its sign is none.
                ast::Expr::UnaryOp {
                    op: ast::UnaryOperator::Minus,
                    expr: inner,
                } => make_decimal(inner, negated_decimal),
                // A short number beside an exact one is exact too, or the sum would be a double again.
                ast::Expr::BinaryOp { left, op, right } if is_arithmetic(op) => {
                    if is_exact(left) {
                        make_decimal(right, any_decimal);
                    } else if is_exact(right) {
                        make_decimal(left, any_decimal);
                    }
                }
                // 1.005 is not the double beside it: two places of it are 1.01.
                ast::Expr::Cast {
                    expr: inner,
                    data_type: ast::DataType::Decimal(_) | ast::DataType::Numeric(_) | ast::DataType::Dec(_),
                    ..
                } => make_decimal(inner, any_decimal),
                ast::Expr::InList { list, .. } => together(list.iter_mut().collect()),
                ast::Expr::Array(array) => together(array.elem.iter_mut().collect()),
                ast::Expr::Between { low, high, .. } => together(vec![low, high]),
                ast::Expr::Case {
                    operand: Some(_),
                    conditions,
                    ..
                } => together(conditions.iter_mut().map(|when| &mut when.condition).collect()),
                ast::Expr::Function(call) if EXACT_FUNCTIONS.iter().any(|name| is_call_of(call, name)) => {
                    if let ast::FunctionArguments::List(list) = &mut call.args {
                        for argument in &mut list.args {
                            if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument)) = argument {
                                make_decimal(argument, any_decimal);
                            }
                        }
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Self::Break> {
            beside_exact_rows(&mut query.body);
            ControlFlow::Continue(())
        }
    }
    walk_mut(statement, &mut LongNumbers)
}

/// Short numbers of a column of VALUES that has an exact one are exact too.
fn beside_exact_rows(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::SetOperation { left, right, .. } => {
            beside_exact_rows(left);
            beside_exact_rows(right);
        }
        ast::SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.content.len());
            for index in 0..width {
                let column = values.rows.iter_mut().filter_map(|row| row.content.get_mut(index));
                together(column.collect());
            }
        }
        _ => {}
    }
}

/// Short numbers that become of one type with an exact one, or with an integer that a double would round, are exact too.
fn together(numbers: Vec<&mut ast::Expr>) {
    if numbers.iter().any(|number| is_exact(number) || is_long_integer(number)) {
        for number in numbers {
            make_decimal(number, any_decimal);
        }
    }
}

fn is_long_integer(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) | ast::Expr::UnaryOp { expr: inner, .. } => is_long_integer(inner),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => {
                let digits = text.trim_start_matches('0').bytes().filter(u8::is_ascii_digit).count();
                digits > DOUBLE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_call_of(call: &ast::Function, name: &str) -> bool {
    let called = call.name.0.last().and_then(ast::ObjectNamePart::as_ident);
    called.is_some_and(|called| folded(called) == name)
}

fn check_range(value: &ast::ValueWithSpan) -> Result<()> {
    let ast::Value::Number(text, _) = &value.value else {
        return Ok(());
    };
    let text = text.replace('_', "");
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let digits = text.trim_start_matches('0').len();
        if digits <= DECIMAL_DIGITS {
            return Ok(());
        }
        let error = Error::new(
            ErrorCode::TypeMismatch,
            format!(
                "an integer of {digits} digits fits no type: a DECIMAL has {DECIMAL_DIGITS}; write it with an exponent if a \
                 DOUBLE is meant"
            ),
        );
        return Err(placed(error, position_of(value.span)));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_infinite() => {
            let error = Error::new(
                ErrorCode::TypeMismatch,
                format!("{text} is beyond the range of a DOUBLE"),
            );
            Err(placed(error, position_of(value.span)))
        }
        // What is no number here is for the planner to refuse.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Writes a number as a DECIMAL, if `bounds` gives it precision and scale.
fn make_decimal(expr: &mut ast::Expr, bounds: impl Fn(&str) -> Option<(u64, i64)>) {
    let (text, span) = match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => (text.replace('_', ""), value.span),
            _ => return,
        },
        ast::Expr::Nested(inner)
        | ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr: inner,
        } => {
            return make_decimal(inner, bounds);
        }
        _ => return,
    };
    let Some((precision, scale)) = bounds(&text) else {
        return;
    };
    *expr = ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(ast::Expr::Value(ast::Value::SingleQuotedString(text).with_span(span))),
        data_type: ast::DataType::Decimal(ast::ExactNumberInfo::PrecisionAndScale(precision, scale)),
        array: false,
        format: None,
    };
}

fn is_arithmetic(operator: &ast::BinaryOperator) -> bool {
    matches!(
        operator,
        ast::BinaryOperator::Plus | ast::BinaryOperator::Minus | ast::BinaryOperator::Multiply
    )
}

/// Whether an expression is a DECIMAL by [`make_decimal`], or arithmetic on one.
fn is_exact(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner)
        | ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr: inner,
        } => is_exact(inner),
        ast::Expr::BinaryOp { left, op, right } => is_arithmetic(op) && (is_exact(left) || is_exact(right)),
        ast::Expr::Cast {
            data_type: ast::DataType::Decimal(ast::ExactNumberInfo::PrecisionAndScale(..)),
            ..
        } => true,
        _ => false,
    }
}

/// Precision and scale of a number with a point.
pub(crate) fn any_decimal(text: &str) -> Option<(u64, i64)> {
    let (whole, fraction) = text.split_once('.')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let precision = (whole.trim_start_matches('0').len() + fraction.len()).max(1);
    if precision > DECIMAL_DIGITS {
        return None;
    }
    Some((precision as u64, i64::try_from(fraction.len()).ok()?)) // A text is never that long.
}

/// Precision and scale of a number that neither a 64-bit integer nor a double holds exactly.
fn exact_decimal(text: &str) -> Option<(u64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let whole_digits = whole.trim_start_matches('0').len();
    let digits = if whole_digits > 0 {
        whole_digits + fraction.len()
    } else {
        fraction.trim_start_matches('0').len()
    };
    let is_integer = fraction.is_empty() && !text.contains('.');
    let fits_already = if is_integer {
        text.parse::<u64>().is_ok()
    } else {
        digits <= DOUBLE_DIGITS
    };
    let precision = digits.max(fraction.len()).max(1);
    if fits_already || precision > DECIMAL_DIGITS {
        return None;
    }
    Some((precision as u64, i64::try_from(fraction.len()).ok()?))
}

/// Precision and scale of an integer that no 64-bit integer holds behind a minus.
fn negated_decimal(text: &str) -> Option<(u64, i64)> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || format!("-{text}").parse::<i64>().is_ok() {
        return None;
    }
    let digits = text.trim_start_matches('0').len();
    (digits <= DECIMAL_DIGITS).then_some((digits as u64, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn long_numbers_become_decimals() {
        let check = |text: &str, expected: Option<(u64, i64)>| assert_eq!(exact_decimal(text), expected, "{text}");
        check("1.5", None);
        check("18446744073709551615", None);
        check("18446744073709551616", Some((20, 0)));
        check("12345678901234567890.0123456789", Some((30, 10)));
        check("0.00000000000000000001", None);
        check("0.12345678901234567", Some((17, 17)));
        check("1e300", None);
    }

    #[test]
    fn numbers_that_stand_together_are_exact_together() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, b BIGINT, d DECIMAL(4, 2), f DOUBLE)",
            "INSERT INTO t VALUES (1, 9007199254740993, 0.30, 0.5), (2, 9007199254740992, 0.10, 1.5)",
        ]);
        let id = |condition: &str, ids: &[&str]| {
            fixture.check(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"), ids);
        };
        id("b IN (9007199254740992, 1.5)", &["2"]);
        id("b NOT IN (9007199254740992, 1.5)", &["1"]);
        id("b BETWEEN 1.5 AND 9007199254740992", &["2"]);
        id("b = ANY(ARRAY[9007199254740992, 1.5])", &["2"]);
        id("f IN (1.5, 9007199254740992)", &["2"]);
        id("b IN (-9007199254740992, 1.5)", &[]);
        fixture.check(
            "SELECT CASE b WHEN 1.5 THEN 'x' WHEN 9007199254740992 THEN 'y' END FROM t ORDER BY id",
            &["NULL", "y"],
        );
        fixture.check(
            "SELECT ARRAY[9007199254740993, 1.5], x FROM (VALUES (9007199254740993), (1.5)) AS v (x) ORDER BY x",
            &[
                "[9007199254740993.0, 1.5]|1.5",
                "[9007199254740993.0, 1.5]|9007199254740993.0",
            ],
        );
        fixture.check(
            "SELECT div(d, 0.1), mod(d, 0.1), width_bucket(d, 0.1, 0.4, 3) FROM t ORDER BY id",
            &["3|0.00|3", "1|0.00|1"],
        );
        fixture.check("SELECT div(1.5, 2), mod(7, 2)", &["0|1"]);
    }

    #[test]
    fn negative_integers_beyond_64_bits_become_decimals() {
        let check = |text: &str, expected: Option<(u64, i64)>| assert_eq!(negated_decimal(text), expected, "-{text}");
        check("9223372036854775808", None);
        check("9223372036854775809", Some((19, 0)));
        check("18446744073709551615", Some((20, 0)));
        check("0000", None);
        check("1.5", None);
        check("1e300", None);
    }
}
