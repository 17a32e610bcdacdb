//! Functions of PostgreSQL that DataFusion lacks: those that are others by another name, those that are expressions, and those of our
//! own, which are in the files below.

mod age;
mod division;
mod format;
mod mode;
mod quoting;
mod splitting;
mod width_bucket;

use std::ops::ControlFlow;

use arrow::array::ArrayRef;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode};

use crate::names::folded;
use crate::parameters::call_of;
use crate::tree::walk_mut;

/// DataFusion's name, and PostgreSQL's, of scalar functions.
const SCALAR_ALIASES: &[(&str, &str)] = &[("signum", "sign"), ("ceil", "ceiling")];

/// The same of aggregate functions.
const AGGREGATE_ALIASES: &[(&str, &str)] = &[("bool_and", "every"), ("var", "variance")];

/// Functions of PostgreSQL that are not here, and what to write.
const ADVICE: &[(&str, &str)] = &[
    ("array_fill", "array_repeat(value, count)"),
    ("array_lower", "1"),
    ("array_upper", "array_length(list)"),
    ("clock_timestamp", "now(), the time of the statement"),
    ("generate_subscripts", "generate_series(1, array_length(list))"),
    ("isfinite", "IS NOT NULL; all times are finite"),
    ("json_agg", "array_agg(expression)"),
    ("json_array_elements", "json_get_array(doc) and unnest"),
    (
        "json_build_object",
        "named_struct('key', value), or the text of the object and a cast to JSON",
    ),
    ("json_extract_path", "doc #> '{a,b}'"),
    ("json_extract_path_text", "doc #>> '{a,b}'"),
    ("jsonb_agg", "array_agg(expression)"),
    ("jsonb_array_elements", "json_get_array(doc) and unnest"),
    ("jsonb_array_length", "json_length(doc)"),
    ("json_array_length", "json_length(doc)"),
    (
        "jsonb_build_object",
        "named_struct('key', value), or the text of the object and a cast to JSON",
    ),
    ("jsonb_object_keys", "json_object_keys(doc)"),
    (
        "justify_days",
        "the interval as it is: intervals are compared by what they last",
    ),
    (
        "justify_hours",
        "the interval as it is: intervals are compared by what they last",
    ),
    (
        "justify_interval",
        "the interval as it is: intervals are compared by what they last",
    ),
    ("make_interval", "INTERVAL '1 day' * number"),
    (
        "make_timestamp",
        "make_date(year, month, day) + INTERVAL '1 hour' * hour",
    ),
    (
        "make_timestamptz",
        "make_date(year, month, day) + INTERVAL '1 hour' * hour",
    ),
    ("pg_typeof", "arrow_typeof(expression)"),
    ("regexp_matches", "regexp_match(text, pattern)"),
    ("regexp_split_to_table", "unnest(regexp_split_to_array(text, pattern))"),
    ("regexp_substr", "(regexp_match(text, pattern))[1]"),
    (
        "row_to_json",
        "named_struct('key', value), or the text of the object and a cast to JSON",
    ),
    ("setseed", "random(), which takes no seed"),
    ("string_to_table", "unnest(string_to_array(text, delimiter))"),
    ("timeofday", "now()::TEXT"),
    ("to_number", "a cast to DECIMAL"),
    ("trim_scale", "a cast to the DECIMAL that is wanted"),
];

/// Functions that [`as_expressions`] writes as expressions, and that are none where they have another number of arguments.
const FORMS: &[(&str, &str)] = &[
    ("mod", "mod(dividend, divisor)"),
    ("gen_random_uuid", "gen_random_uuid()"),
];

/// What to write in the place of a function that is not here.
pub(crate) fn advice(name: &str) -> Option<&'static str> {
    let found = FORMS.iter().chain(ADVICE).find(|(missing, _)| *missing == name);
    found.map(|(_, instead)| *instead)
}

/// Gives a state these functions.
///
/// # Errors
/// None for the functions that DataFusion has.
pub(crate) fn register(state: &mut SessionState) -> DataFusionResult<()> {
    for (known, alias) in SCALAR_ALIASES {
        let function = state.udf(known)?.as_ref().clone().with_aliases([*alias]);
        state.register_udf(function.into())?;
    }
    for (known, alias) in AGGREGATE_ALIASES {
        let function = state.udaf(known)?.as_ref().clone().with_aliases([*alias]);
        state.register_udaf(function.into())?;
    }
    let own: [ScalarUDF; 9] = [
        age::Age::new().into(),
        division::Div::new().into(),
        division::Scale::new().into(),
        format::Format::new().into(),
        quoting::Quote::literal().into(),
        quoting::Quote::identifier().into(),
        quoting::Quote::nullable().into(),
        splitting::Split::new().into(),
        width_bucket::WidthBucket::new().into(),
    ];
    for function in own {
        state.register_udf(function.into())?;
    }
    for function in [
        AggregateUDF::from(mode::Mode::new()),
        AggregateUDF::from(mode::PercentileDisc::new()),
    ] {
        state.register_udaf(function.into())?;
    }
    Ok(())
}

/// Writes calls that stand for an expression as that.
pub(crate) fn as_expressions(node: &mut impl VisitMut) {
    struct Calls;
    impl VisitorMut for Calls {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            if let Expr::UnaryOp {
                op: ast::UnaryOperator::PGAbs,
                expr: operand,
            } = expr
            {
                *expr = Expr::Function(call_of("abs", vec![operand.as_ref().clone()]));
            } else if let Expr::Function(function) = expr
                && let Some(written) = expression(function)
            {
                *expr = written;
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Calls).expect("this visitor does not break");
}

fn expression(function: &mut ast::Function) -> Option<Expr> {
    let [name] = function.name.0.as_slice() else {
        return None;
    };
    let span = name.as_ident()?.span;
    let name = folded(name.as_ident()?);
    let is_plain = function.over.is_none()
        && function.filter.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty();
    if !is_plain {
        return None;
    }
    match name.as_str() {
        "mod" => {
            let [left, right] = arguments(function)?.try_into().ok()?; // Another number of them is refused as such.
            let remainder = Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(left))),
                op: ast::BinaryOperator::Modulo,
                right: Box::new(Expr::Nested(Box::new(right))),
            };
            Some(Expr::Nested(Box::new(remainder)))
        }
        "age" => {
            let mut times = arguments(function)?;
            if times.len() == 1 {
                times.insert(0, call("current_date", span, Vec::new()));
            }
            let [later, earlier] = times.try_into().ok()?; // As above.
            let local = |time| cast(time, ast::DataType::Timestamp(Some(6), ast::TimezoneInfo::None));
            Some(call(age::NAME, span, vec![local(later), local(earlier)]))
        }
        "gen_random_uuid" if arguments(function)?.is_empty() => {
            Some(cast(call("uuid", span, Vec::new()), ast::DataType::Uuid))
        }
        "statement_timestamp" | "transaction_timestamp" if arguments(function)?.is_empty() => {
            Some(call("now", span, Vec::new()))
        }
        "localtimestamp" => match &function.args {
            ast::FunctionArguments::None => {
                let local = ast::DataType::Timestamp(Some(6), ast::TimezoneInfo::None);
                Some(cast(call("now", span, Vec::new()), local))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Takes the arguments of a call out of it; `None`, and nothing taken, if they are not plain ones.
fn arguments(function: &mut ast::Function) -> Option<Vec<Expr>> {
    let ast::FunctionArguments::List(list) = &mut function.args else {
        return None;
    };
    let is_plain =
        |argument: &ast::FunctionArg| matches!(argument, ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(_)));
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() || !list.args.iter().all(is_plain) {
        return None;
    }
    let plain = list.args.iter().filter_map(|argument| match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    Some(plain.collect())
}

fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

fn call(name: &str, span: datafusion::sql::sqlparser::tokenizer::Span, args: Vec<Expr>) -> Expr {
    let mut name = ast::Ident::new(name);
    name.span = span;
    let args = args
        .into_iter()
        .map(|arg| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg)));
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// An error of ours inside of DataFusion.
fn refused(code: ErrorCode, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(code, message)))
}

/// A result computed of whole columns: a constant's where all arguments are constants.
fn by_rows(
    args: &ScalarFunctionArgs,
    compute: impl Fn(&[ArrayRef]) -> DataFusionResult<ArrayRef>,
) -> DataFusionResult<ColumnarValue> {
    let are_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let computed = compute(&ColumnarValue::values_to_arrays(&args.args)?)?;
    Ok(match are_constant {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?),
        false => ColumnarValue::Array(computed),
    })
}

/// What no call comes to that was planned.
fn wrong_arguments(name: &str) -> DataFusionError {
    DataFusionError::Internal(format!("{name} has other arguments than it was planned with"))
}

fn wrong_count(name: &str, takes: &str, given: usize, form: &str) -> DataFusionError {
    let given = match given {
        1 => "1 is given".to_owned(),
        _ => format!("{given} are given"),
    };
    refused(
        ErrorCode::InvalidStatement,
        format!("{name} takes {takes}, and {given}: {form}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    /// Each expression gives what PostgreSQL 15 does.
    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        let fixture = Fixture::new();
        for (expression, expected) in cases {
            fixture.check(&format!("SELECT {expression}"), &[expected]);
        }
    }

    #[track_caller]
    fn check_refused(cases: &[(&str, ErrorCode, &str)]) {
        let fixture = Fixture::new();
        for (expression, code, part) in cases {
            fixture.check_error_part(&format!("SELECT {expression}"), *code, part);
        }
    }

    #[test]
    fn numbers() {
        check(&[
            ("mod(7, 3), mod(-7, 3), mod(7, -3), mod(NULL, 3)", "1|-1|1|NULL"),
            ("mod(7.5::DECIMAL(4, 1), 2)", "1.5"),
            ("mod(1 + 6, 1 + 2) * 2", "2"),
            ("sign(-3), sign(0.0), sign(2.5)", "-1.0|0.0|1.0"),
            ("ceiling(1.2), ceiling(-1.2)", "2.0|-1.0"),
            ("div(7, 2), div(-7, 2), div(NULL, 2)", "3|-3|NULL"),
            (
                "div(7.5::DECIMAL(4, 1), 2), div(-0.999999::DECIMAL(12, 6), 1::DECIMAL(12, 6))",
                "3|0",
            ),
            (
                "div(9999999999999999999999999999999999::DECIMAL(34, 0), 0.0000001::DECIMAL(7, 7))",
                "99999999999999999999999999999999990000000",
            ),
            ("div(18446744073709551615::UBIGINT, 2)", "9223372036854775807"),
            ("scale(8.410::DECIMAL(10, 3)), scale(7), scale(NULL)", "3|0|NULL"),
            (
                "width_bucket(5.35, 0.024, 10.06, 5), width_bucket(-1.0, 0, 10, 5), width_bucket(10.0, 0, 10, 5)",
                "3|0|6",
            ),
            (
                "width_bucket(3, 0, 10, 5), width_bucket(3, 10, 0, 5), width_bucket(0, 10, 0, 5)",
                "2|4|6",
            ),
            (
                "width_bucket(0.3::DECIMAL(2, 1), 0::DECIMAL(2, 1), 1::DECIMAL(2, 1), 10)",
                "4",
            ),
            ("width_bucket(NULL, 0, 1, 2)", "NULL"),
        ]);
        check_refused(&[
            ("div(1, 0)", ErrorCode::InvalidArgument, "division by zero"),
            ("mod(1, 0)", ErrorCode::InvalidArgument, "division by zero"),
            (
                "div(-9223372036854775808, -1)",
                ErrorCode::InvalidArgument,
                "out of range",
            ),
            ("div(1.5e0, 2)", ErrorCode::TypeMismatch, "not DOUBLE"),
            ("mod(1)", ErrorCode::InvalidStatement, "mod(dividend, divisor)"),
            (
                "div(1)",
                ErrorCode::InvalidStatement,
                "div takes 2 arguments, and 1 is given",
            ),
            ("scale(1.5)", ErrorCode::TypeMismatch, "DECIMAL"),
            ("width_bucket(1, 2, 2, 3)", ErrorCode::InvalidArgument, "equal"),
            (
                "width_bucket(1, 2, 3, 0)",
                ErrorCode::InvalidArgument,
                "greater than zero",
            ),
            (
                "width_bucket('NaN'::DOUBLE, 2, 3, 1)",
                ErrorCode::InvalidArgument,
                "NaN",
            ),
            (
                "quote_literal()",
                ErrorCode::InvalidStatement,
                "quote_literal takes 1 argument, and 0 are given: quote_literal(value)",
            ),
            (
                "width_bucket(1, 2, 3)",
                ErrorCode::InvalidStatement,
                "4 arguments, and 3 are given",
            ),
        ]);
    }

    #[test]
    fn texts() {
        check(&[
            (
                "quote_literal('it''s'), quote_literal(NULL), quote_literal(42)",
                "'it''s'|NULL|'42'",
            ),
            ("quote_literal('a\\b')", "E'a\\\\b'"),
            ("quote_nullable(NULL), quote_nullable('a')", "NULL|'a'"),
            (
                "quote_ident('a'), quote_ident('A b'), quote_ident('select'), quote_ident('a\"b'), quote_ident('')",
                "a|\"A b\"|\"select\"|\"a\"\"b\"|\"\"",
            ),
            ("format('Hello %s, %1$s', 'World')", "Hello World, World"),
            (
                "format('%s|%10s|%-10s|%%', 'a', 'foo', 'bar')",
                "a|       foo|bar       |%",
            ),
            (
                "format('INSERT INTO %I VALUES(%L, %L)', 'Foo bar', 'O''Reilly', NULL)",
                "INSERT INTO \"Foo bar\" VALUES('O''Reilly', NULL)",
            ),
            (
                "format('|%*s|', 10, 'foo'), format('|%*s|', -10, 'foo'), format('|%-*s|', 10, 'foo')",
                "|       foo|||foo       |||foo       |",
            ),
            ("format('|%2$*1$s|', 5, 'x')", "|    x|"),
            (
                "format('Testing %3$s, %2$s, %s', 'one', 'two', 'three')",
                "Testing three, two, three",
            ),
            ("format('%s', NULL), format(NULL, 1), format('none')", "|NULL|none"),
            ("format('%s and %s', 1, true)", "1 and true"),
            (
                "regexp_split_to_array('hello', '\\s*'), regexp_split_to_array('a1b22c', '\\d')",
                "[h, e, l, l, o]|[a, b, , c]",
            ),
            (
                "regexp_split_to_array(',a,', ','), regexp_split_to_array('', ','), regexp_split_to_array('xab', 'x*')",
                "[, a, ]|[]|[, a, b]",
            ),
            (
                "regexp_split_to_array('aXbxc', 'x', 'i'), regexp_split_to_array(NULL, ',')",
                "[a, b, c]|NULL",
            ),
            ("array_length(regexp_split_to_array('', ','))", "1"),
            ("split_part('a,b,c', ',', -1), split_part('a,b,c', ',', 4)", "c|"),
            (
                "initcap('hi THOMAS'), lpad('hi', 5, 'xy'), lpad('hello', 2), rpad('hi', 5, 'xy')",
                "Hi Thomas|xyxhi|he|hixyx",
            ),
            (
                "trim(both 'x' from 'xTomxx'), trim(leading 'x' from 'xxa'), trim(trailing ' ' from 'a  '), trim('  a ')",
                "Tom|a|a|a",
            ),
            ("left('abcde', -2), right('abcde', -2), cbrt(27.0)", "abc|cde|3.0"),
        ]);
        check_refused(&[
            ("format('%x', 1)", ErrorCode::InvalidArgument, "not 'x'"),
            ("format('%', 1)", ErrorCode::InvalidArgument, "the end"),
            ("format('%s %s', 1)", ErrorCode::InvalidArgument, "too few"),
            ("format('%0$s', 1)", ErrorCode::InvalidArgument, "counted from 1"),
            ("format('%I', NULL)", ErrorCode::InvalidArgument, "NULL"),
            ("format('%100000000s', 1)", ErrorCode::StatementTooLarge, "64 MiB"),
            ("format('%99999999999s', 1)", ErrorCode::InvalidArgument, "out of range"),
            (
                "regexp_split_to_array('a', '(')",
                ErrorCode::InvalidArgument,
                "regular expression",
            ),
            (
                "regexp_split_to_array('a', 'a', 'g')",
                ErrorCode::InvalidArgument,
                "flags",
            ),
            ("quote_literal()", ErrorCode::InvalidStatement, "1 argument"),
        ]);
    }

    #[test]
    fn times() {
        for (later, earlier, expected) in [
            ("2024-03-31", "2024-02-29", "1 mons 2 days"),
            ("2024-02-29", "2024-03-31 10:00", "-1 mons -2 days -10 hours"),
            ("2024-01-01 00:00", "2023-12-31 23:59:59.5", "0.500000000 secs"),
            ("2000-02-29", "2024-02-28", "-287 mons -28 days"),
            ("2024-03-01", "2024-01-31", "1 mons 1 days"),
            ("2023-03-01", "2023-01-31", "1 mons 1 days"),
            ("2024-01-31", "2024-03-01", "-1 mons -1 days"),
            ("2024-05-05", "2024-05-05", "0 secs"),
        ] {
            check(&[(&format!("age('{later}', '{earlier}')"), expected)]);
        }
        let fixture = Fixture::new();
        fixture.check("SELECT age(DATE '2024-04-30')", &["1 days"]);
        fixture.check(
            "SELECT age(now()) = age(current_date, now()), transaction_timestamp() = now()",
            &["true|true"],
        );
        fixture.run(&["SET TIME ZONE 'Europe/Warsaw'"]);
        fixture.check(
            "SELECT age(TIMESTAMPTZ '2024-05-01 00:00:00+02:00', TIMESTAMP '2024-04-30 00:00:00'), localtimestamp",
            &["1 days|2024-05-01T14:00:00"],
        );
        fixture.check_error_part(
            "SELECT age(now(), now(), now())",
            ErrorCode::InvalidStatement,
            "age takes 2 arguments",
        );
    }

    #[test]
    fn aggregates() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, g INT, n INT, f DOUBLE, s TEXT, u UUID, b BOOLEAN)",
            "INSERT INTO t SELECT i, i % 2, i % 3, CASE WHEN i < 3 THEN -0.0 WHEN i < 5 THEN 0.0 ELSE 1.5 END, \
             CASE WHEN i = 1 THEN NULL ELSE 'x' || (i % 3)::TEXT END, '00000000-0000-0000-0000-00000000000' || (i % 2)::TEXT, i > 0 \
             FROM (SELECT value::INT AS i FROM generate_series(1, 7)) AS v",
        ]);
        let mode = |of: &str| format!("mode() WITHIN GROUP (ORDER BY {of})");
        for (of, expected) in [
            ("n", "1"),
            ("n DESC", "1"),
            ("s", "x0"),
            ("s DESC", "x2"),
            ("id", "1"),
            ("id DESC", "7"),
            ("b", "true"),
        ] {
            fixture.check(&format!("SELECT {} FROM t", mode(of)), &[expected]);
        }
        fixture.check(
            &format!(
                "SELECT g, {}, {} FROM t GROUP BY g ORDER BY g",
                mode("n"),
                mode("u::TEXT")
            ),
            &[
                "0|0|00000000-0000-0000-0000-000000000000",
                "1|1|00000000-0000-0000-0000-000000000001",
            ],
        );
        fixture.check(
            &format!("SELECT {}::TEXT FROM t", mode("u")),
            &["00000000-0000-0000-0000-000000000001"],
        );
        fixture.check(&format!("SELECT {} = 0 FROM t", mode("f")), &["true"]);
        fixture.check(&format!("SELECT {} FROM t WHERE id > 7", mode("n")), &["NULL"]);
        fixture.check(&format!("SELECT {} FILTER (WHERE id > 5) FROM t", mode("n")), &["0"]);
        let disc = |share: &str, of: &str| format!("percentile_disc({share}) WITHIN GROUP (ORDER BY {of})");
        for (share, of, expected) in [
            ("0", "id", "1"),
            ("0.5", "id", "4"),
            ("0.5", "id DESC", "4"),
            ("0.25", "id", "2"),
            ("0.25", "id DESC", "6"),
            ("1", "id", "7"),
            ("0.5", "s", "x1"),
        ] {
            fixture.check(&format!("SELECT {} FROM t", disc(share, of)), &[expected]);
        }
        fixture.check("SELECT every(b), every(n > 0) FROM t", &["true|false"]);
        for refused in [
            disc("1.5", "id"),
            disc("n", "id"),
            "percentile_disc(0.5)".to_owned(),
            "mode(n)".to_owned(),
        ] {
            let sql = format!("SELECT {refused} FROM t");
            let error = fixture.execute_as(&fixture.root, &sql, crate::parameters::Parameters::none());
            let code = error.expect_err(&sql).code;
            assert!(
                [ErrorCode::InvalidArgument, ErrorCode::InvalidStatement].contains(&code),
                "{sql}"
            );
        }
    }

    #[test]
    fn uuids_are_uuids() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id UUID DEFAULT gen_random_uuid() PRIMARY KEY)",
            "INSERT INTO t DEFAULT VALUES",
        ]);
        fixture.check(
            "SELECT count(*) FROM t WHERE length(id::TEXT) = 36 AND id <> gen_random_uuid()",
            &["1"],
        );
    }

    #[test]
    fn what_is_not_here_says_what_is() {
        check_refused(&[
            (
                "pg_typeof(1)",
                ErrorCode::InvalidStatement,
                "there is no function pg_typeof; write arrow_typeof",
            ),
            (
                "json_agg(x) FROM (VALUES (1)) AS t (x)",
                ErrorCode::InvalidStatement,
                "array_agg",
            ),
            ("sumn(1)", ErrorCode::InvalidStatement, "'sum'"),
        ]);
    }
}
