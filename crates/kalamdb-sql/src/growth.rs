//! Functions that make values of any size from small arguments, each bounded: a call that would make too much is refused before
//! it makes anything. [`costs`] does the same for time.
//!
//! Problem: DataFusion's memory pool accounts for operators, and for nothing that a function makes: `repeat('x', 2000000000)`
//! takes 2 GB of the machine. Proper way: functions that take their memory from the pool. Chosen: the functions whose result is
//! not about as large as their arguments are wrapped; the wrapper works out what a call would add from the arguments, which are
//! there by then, nested calls' results too. Evidence: `invoke_with_args` of each function named in [`growth_of`], none of which
//! sees a pool.

mod costs;
mod estimate;
mod size;

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use costs::{Cost, Work, cost_of, may_be_operator};
pub(crate) use costs::{FEW_STATES, has_few_states};
pub(crate) use estimate::together;
pub(crate) use size::of_scalar;

use crate::interruption::Interruption;

/// What one call may add to its arguments for one batch of rows, bytes: several of the largest rows that can be stored, and
/// little beside the memory of a machine.
pub(crate) const MOST_ADDED_BYTES: u64 = 64 << 20;

/// What one call may make of its arguments by putting them together, bytes. A batch of large rows is put together for good
/// reasons; doubled at each of thirty levels, a small value is not.
pub(crate) const MOST_JOINED_BYTES: u64 = 256 << 20;

/// How the size of a function's result depends on its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// A text, so many times.
    Repeat,
    /// Filled up to so many characters.
    Pad,
    /// Each occurrence of a text becomes another.
    Replace,
    /// Each match of a pattern becomes another text.
    RegexpReplace,
    /// All arguments in one.
    Together,
    /// All arguments but the first in one, the first between them.
    Separated,
    /// From, to, step.
    Series,
    /// A value, so many times, as a list.
    ListRepeat,
    /// A list of so many elements.
    ListResize,
    /// A list as text, a text between its elements.
    ListText,
    /// Elements become another.
    ListReplace,
}

/// The functions of DataFusion 55 whose result is not bounded by a small multiple of their arguments' size, by name.
fn growth_of(name: &str) -> Option<Growth> {
    Some(match name {
        "repeat" => Growth::Repeat,
        "lpad" | "rpad" => Growth::Pad,
        "replace" => Growth::Replace,
        "regexp_replace" => Growth::RegexpReplace,
        "concat" | "make_array" | "array_concat" | "array_append" | "array_prepend" => Growth::Together,
        "concat_ws" => Growth::Separated,
        "range" | "generate_series" => Growth::Series,
        "array_repeat" => Growth::ListRepeat,
        "array_resize" => Growth::ListResize,
        "array_to_string" => Growth::ListText,
        "array_replace" | "array_replace_n" | "array_replace_all" => Growth::ListReplace,
        _ => return None,
    })
}

/// Wraps the function of a call, if its result may be far larger than its arguments, or its work.
pub(crate) fn bounded(mut call: ScalarFunction) -> Transformed<Expr> {
    let (growth, cost) = (growth_of(call.func.name()), cost_of(call.func.name()));
    if (growth.is_none() && cost.is_none()) || call.func.inner().is::<Bounded>() {
        return Transformed::no(Expr::ScalarFunction(call));
    }
    call.func = Arc::new(ScalarUDF::from(Bounded {
        inner: call.func,
        growth,
        cost,
    }));
    Transformed::yes(Expr::ScalarFunction(call))
}

impl Growth {
    fn most_bytes(self) -> u64 {
        match self {
            Growth::Together | Growth::Separated => MOST_JOINED_BYTES,
            Growth::Repeat
            | Growth::Pad
            | Growth::Replace
            | Growth::RegexpReplace
            | Growth::Series
            | Growth::ListRepeat
            | Growth::ListResize
            | Growth::ListText
            | Growth::ListReplace => MOST_ADDED_BYTES,
        }
    }
}

/// Refuses a call of more than so many bytes.
///
/// # Errors
/// STATEMENT_TOO_LARGE names the function and the bound.
pub(crate) fn check(function: &str, bytes: u64, most_bytes: u64) -> Result<()> {
    if bytes <= most_bytes {
        return Ok(());
    }
    let error = Error::new(
        ErrorCode::StatementTooLarge,
        format!("{function} would make values of {bytes} bytes in one call; the most is {most_bytes} bytes"),
    );
    Err(DataFusionError::External(Box::new(error)))
}

/// Counts what a call is about to make among the constants of its statement, if it is one: of nothing but constants, for the one row
/// with which a plan is simplified.
///
/// # Errors
/// As [`Interruption::add_constant`].
pub(crate) fn add_constant(call: &ScalarFunctionArgs, bytes: u64) -> Result<()> {
    let is_constant = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
    if call.number_rows == 1 && call.args.iter().all(is_constant) {
        Interruption::add_constant(&call.config_options, bytes)?;
    }
    Ok(())
}

/// A function of DataFusion whose calls are checked first; in everything else that function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Option<Growth>,
    cost: Option<Cost>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = match self.growth {
            Some(Growth::Pad) => with_lengths_from_zero(args),
            _ => args,
        };
        // First, since counting the matches of a pattern is as much work as replacing them.
        let work = self.cost.map(|cost| Work::of(cost, self.name(), &args)).transpose()?;
        if let Some(growth) = self.growth {
            let bytes = estimate::growth(growth, self.name(), &args)?;
            check(self.name(), bytes, growth.most_bytes())?;
            add_constant(&args, bytes)?;
        }
        match work {
            Some(work) => work.in_slices(args, |slice| self.inner.invoke_with_args(slice)),
            None => self.inner.invoke_with_args(args),
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if !may_be_operator(self.cost, &args) {
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(match self.inner.simplify(args, info)? {
            // It may be calls of the function itself, or of another one.
            ExprSimplifyResult::Simplified(expr) => {
                let wrapped = expr.transform_up(|expr| {
                    Ok(match expr {
                        Expr::ScalarFunction(call) => bounded(call),
                        other => Transformed::no(other),
                    })
                })?;
                ExprSimplifyResult::Simplified(wrapped.data)
            }
            unchanged @ ExprSimplifyResult::Original(_) => unchanged,
        })
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn struct_field_mapping(&self, literal_args: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literal_args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// A text that is filled up to a negative length is empty, as in PostgreSQL; DataFusion refuses some of them.
fn with_lengths_from_zero(mut args: ScalarFunctionArgs) -> ScalarFunctionArgs {
    if let Some(length) = args.args.get_mut(1) {
        match length {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(length))) => *length = (*length).max(0),
            ColumnarValue::Array(lengths) => {
                if let Some(numbers) = lengths.as_primitive_opt::<Int64Type>() {
                    *lengths = Arc::new(numbers.unary::<_, Int64Type>(|length| length.max(0)));
                }
            }
            ColumnarValue::Scalar(_) => {}
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    fn check_refused(fixture: &Fixture, sql: &str, function: &str) {
        fixture.check_error_part(sql, ErrorCode::StatementTooLarge, function);
    }

    #[test]
    fn a_call_that_would_fill_the_memory_is_refused() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT, n BIGINT)",
            "INSERT INTO t VALUES (1, 'x', 2000000000), (2, NULL, NULL)",
        ]);
        for (expression, function) in [
            ("repeat('x', 2000000000)", "repeat"),
            ("repeat(a, n)", "repeat"),
            ("repeat(repeat('x', 10000), 10000)", "repeat"),
            ("repeat(repeat(a, 10000), 10000)", "repeat"),
            ("lpad('x', 2000000000)", "lpad"),
            ("rpad(a, n, 'ab')", "rpad"),
            ("rpad(a, 30000000, 'ä€')", "rpad"),
            ("replace(repeat('x', 10000), 'x', repeat('y', 10000))", "replace"),
            (
                "regexp_replace(repeat('x', 10000), '.', repeat('y', 10000), 'g')",
                "regexp_replace",
            ),
            (
                "regexp_replace(repeat('x', 100000), '(.*)', repeat('\\1', 1000))",
                "regexp_replace",
            ),
            (
                "array_to_string(range(0, 100000), repeat(',', 10000))",
                "array_to_string",
            ),
            ("range(0, 9000000000000000000)", "range"),
            ("range(n)", "range"),
            (
                "generate_series(-9223372036854775808, 9223372036854775807)",
                "generate_series",
            ),
            (
                "generate_series(TIMESTAMP '2000-01-01', TIMESTAMP '2020-01-01', INTERVAL '1 second')",
                "generate_series",
            ),
            ("array_repeat(1, 2000000000)", "array_repeat"),
            ("list_repeat(NULL, 2000000000)", "array_repeat"),
            ("array_repeat(range(0, 1000), n)", "array_repeat"),
            ("array_resize([1], 2000000000)", "array_resize"),
            ("array_resize([a], n, a)", "array_resize"),
            (
                "array_replace_all(array_repeat('a', 100000), 'a', repeat('y', 60000))",
                "array_replace_all",
            ),
        ] {
            check_refused(&fixture, &format!("SELECT {expression} FROM t"), function);
        }
        check_refused(
            &fixture,
            "SELECT id FROM t WHERE octet_length(repeat(a, n)) > 1",
            "repeat",
        );
        check_refused(
            &fixture,
            "INSERT INTO t VALUES (3, repeat('x', 2000000000), 1)",
            "repeat",
        );
        check_refused(&fixture, "UPDATE t SET a = repeat(a, n)", "repeat");
        fixture.check("SELECT count(*) FROM t", &["2"]);
    }

    #[test]
    fn what_is_small_is_as_before() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT, n BIGINT)",
            "INSERT INTO t VALUES (1, 'xy', 3), (2, NULL, NULL), (3, 'y', -1)",
        ]);
        fixture.check(
            "SELECT repeat(a, n), lpad(a, 4, '-'), rpad(a, abs(n), 'ab') FROM t ORDER BY id",
            &["xyxyxy|--xy|xya", "NULL|NULL|NULL", "|---y|y"],
        );
        fixture.check(
            "SELECT lpad(a, -1), rpad('abc', -2, 'x'), rpad(a, n), lpad(a, n, '-') FROM t ORDER BY id",
            &["||xy |-xy", "NULL||NULL|NULL", "|||"],
        );
        fixture.check("SELECT octet_length(repeat('x', 60000000))", &["60000000"]);
        fixture.check(
            "SELECT octet_length(lpad(a, 30000000, '-')) FROM t WHERE id = 1",
            &["30000000"],
        );
        fixture.check(
            "SELECT replace(a, 'y', 'zz'), regexp_replace(a, '(.)', '<\\1>', 'g'), concat(a, '-', n), concat_ws('-', a, n) \
             FROM t ORDER BY id",
            &["xzz|<x><y>|xy-3|xy-3", "NULL|NULL|-|", "zz|<y>|y--1|y--1"],
        );
        fixture.check(
            "SELECT range(n), generate_series(1, n), array_repeat(a, 2), array_resize([a], 2) FROM t WHERE id = 1",
            &["[0, 1, 2]|[1, 2, 3]|[xy, xy]|[xy, NULL]"],
        );
        fixture.check("SELECT array_length(range(0, 8000000))", &["8000000"]);
        fixture.check(
            "SELECT array_length(generate_series(DATE '2024-01-01', DATE '2024-12-01', INTERVAL '1 month'))",
            &["12"],
        );
        fixture.check(
            "SELECT array_to_string([1, 2], '+'), array_replace([1, 2], 1, 3), [1] || [2] || 3",
            &["1+2|[3, 2]|[1, 2, 3]"],
        );
        // Nearly the bound in matches, far below it in what they add.
        fixture.check(
            "SELECT octet_length(replace(repeat('ab', 10000000), 'b', 'bbbbb')) AS a, \
             octet_length(regexp_replace(repeat('ab', 4000000), 'b', 'bbbbbbbbbb', 'g')) AS b",
            &["60000000|44000000"],
        );
    }

    #[test]
    fn constants_are_bounded_together() {
        let fixture = Fixture::new();
        let texts = |count: u32| {
            let texts: Vec<String> = (0..count).map(|n| format!("repeat('x', {})", 50_000_000 + n)).collect();
            texts.join(", ")
        };
        let too_many = [
            format!("SELECT cardinality([{}])", texts(12)),
            format!("SELECT octet_length(concat({}))", texts(3)),
            format!("SELECT octet_length({})", texts(3).replace(", repeat", " || repeat")),
            format!(
                "SELECT max(octet_length(v)) FROM (VALUES ({})) t(v)",
                texts(3).replace(", repeat", "), (repeat")
            ),
        ];
        for sql in too_many {
            fixture.check_error_part(&sql, ErrorCode::StatementTooLarge, "constants");
        }
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "ALTER USER 'ann' SET QUOTA memory = '90MB'",
        ]);
        let ann = fixture.session("ann");
        let small = "SELECT octet_length(repeat('x', 60000000))";
        for _ in 0..2 {
            let sql = format!("SELECT octet_length(concat({}))", texts(2));
            let refused = fixture
                .execute_as(&ann, &sql, Parameters::none())
                .map_err(|error| error.code);
            assert_eq!(refused.map(|_| ()), Err(ErrorCode::MemoryQuotaExceeded));
            // What the refused one had taken is there again.
            assert_eq!(fixture.rows_as(&ann, small, Parameters::none()), ["60000000"]);
        }
    }

    #[test]
    fn a_series_that_may_never_end_is_refused() {
        let fixture = Fixture::new();
        fixture.check_error(
            "SELECT generate_series(DATE '2024-04-01', DATE '2024-12-01', INTERVAL '1 month -30 days')",
            ErrorCode::InvalidArgument,
            None,
            "direction",
        );
    }

    #[test]
    fn a_constant_is_not_repeated_without_a_bound() {
        let fixture = Fixture::new();
        let large = "x".repeat(500_000);
        for sql in [
            "SELECT repeat('x', 60000000) FROM generate_series(1, 100000)".to_owned(),
            format!("SELECT '{large}' FROM generate_series(1, 100000)"),
            format!("SELECT CASE WHEN value > 1 THEN '{large}' ELSE 'y' END FROM generate_series(1, 100000)"),
            format!("SELECT string_agg('a', '{large}') FROM generate_series(1, 100000)"),
            format!("SELECT concat(value, '{large}') FROM generate_series(1, 100000)"),
            format!("SELECT concat_ws('{large}', value, value, value) FROM generate_series(1, 100000)"),
        ] {
            fixture.check_error(&sql, ErrorCode::StatementTooLarge, None, "bytes");
        }
        assert_eq!(
            fixture
                .rows(&format!(
                    "SELECT octet_length('{large}') FROM generate_series(1, 10000)"
                ))
                .len(),
            10_000
        );
        assert_eq!(
            fixture
                .rows(&format!("SELECT '{large}' FROM generate_series(1, 2)"))
                .len(),
            2
        );
        fixture.check_error(
            "SELECT approx_percentile_cont(value, 0.5, 1000000000000) FROM generate_series(1, 10)",
            ErrorCode::InvalidArgument,
            None,
            "centroids",
        );
    }

    #[test]
    fn types_of_any_width_are_refused() {
        let fixture = Fixture::new();
        for sql in [
            "SELECT CAST(NULL AS INT[1000000000])",
            "SELECT CAST(NULL AS INT[1000][1000])",
            "SELECT arrow_cast(NULL, 'FixedSizeBinary(1000000000)')",
            "SELECT arrow_cast(NULL, 'FixedSizeList(1000000000 x Int64)')",
            "SELECT $1::INT[1000000000]",
        ] {
            fixture.check_error(sql, ErrorCode::Unsupported, None, "fixed parts");
        }
        let sql = "CREATE TABLE t (a BINARY(1000000000))";
        fixture.check_error(sql, ErrorCode::Unsupported, Some((1, 19)), "fixed parts");
        fixture.check("SELECT CAST([1, 2] AS INT[2]), arrow_cast(1, 'Int8')", &["[1, 2]|1"]);
    }
}
