//! Operators that fail where DataFusion's would wrap or fill the memory: `+`, `-` and `*` of integers, these and `/` of DECIMALs whose
//! result may have more digits than there are, `||` of texts and bytes.
//!
//! Problem: DataFusion 55 computes integers with wrapping kernels (`9223372036854775807 + 1` is a negative number), leaves a DECIMAL(38, s)
//! with 39 digits, which is shown with 38 of them, and `||` without any account of its memory. Proper way: `BinaryExpr::with_fail_on_overflow` of the physical plan, which nothing in
//! planning asks for. Chosen: once the operands have their types, such an operator becomes a function that computes with arrow's
//! checked kernels. It has the operator's name, type and nullability, so that columns are called as before and no schema changes.
//! Evidence: `Operator::Plus` in `evaluate` of datafusion-physical-expr 55 `expressions/binary.rs`.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Datum};
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::compute::kernels::numeric::{add, div, mul, neg, sub};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, Field, FieldRef,
};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::{Interval, apply_operator};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::growth::{self, MOST_JOINED_BYTES};

/// The function in the place of a `left op right`, if it is one of ours and both sides have its type.
pub(crate) fn guard_binary(binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let kind = match binary.op {
        Operator::Plus => Kind::Add,
        Operator::Minus => Kind::Subtract,
        Operator::Multiply => Kind::Multiply,
        Operator::Divide => Kind::Divide,
        Operator::StringConcat => Kind::Join,
        _ => return Transformed::no(Expr::BinaryExpr(binary)),
    };
    // The simplifier knows what comes of an operator with NULL, and nothing in it can overflow.
    if is_null(&binary.left) || is_null(&binary.right) {
        return Transformed::no(Expr::BinaryExpr(binary));
    }
    match (type_of(&binary.left, schema), type_of(&binary.right, schema)) {
        (Some(left), Some(right)) if left == right && kind.takes(&left) => {
            let operands = vec![left.clone(), right];
            Transformed::yes(call(kind, operands, left, vec![*binary.left, *binary.right]))
        }
        (Some(left), Some(right)) => match full_decimal(&left, binary.op, &right) {
            Some(result) => Transformed::yes(call(kind, vec![left, right], result, vec![*binary.left, *binary.right])),
            None => Transformed::no(Expr::BinaryExpr(binary)),
        },
        _ => Transformed::no(Expr::BinaryExpr(binary)),
    }
}

/// The function in the place of a `- operand`, if that is an integer.
pub(crate) fn guard_negation(operand: Box<Expr>, schema: &DFSchema) -> Transformed<Expr> {
    match type_of(&operand, schema) {
        Some(data_type) if Kind::Negate.takes(&data_type) => {
            Transformed::yes(call(Kind::Negate, vec![data_type.clone()], data_type, vec![*operand]))
        }
        _ => Transformed::no(Expr::Negative(operand)),
    }
}

/// The DECIMAL of as many digits as there are that comes of two others. One of fewer digits has room for whatever comes of them.
fn full_decimal(left: &DataType, operator: Operator, right: &DataType) -> Option<DataType> {
    use DataType::{Decimal128, Decimal256};
    match (left, right) {
        (Decimal128(..), Decimal128(..)) | (Decimal256(..), Decimal256(..)) => {}
        _ => return None,
    }
    // What has no result type is for the planner to refuse.
    let result = BinaryTypeCoercer::new(left, &operator, right).get_result_type().ok()?;
    let is_full = matches!(
        result,
        Decimal128(DECIMAL128_MAX_PRECISION, _) | Decimal256(DECIMAL256_MAX_PRECISION, _)
    );
    is_full.then_some(result)
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}

/// `None` for what has no type here: other rules say what is wrong with it.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    // Asked of the function itself, a chain of operators would be walked down again from each of its links.
    if let Expr::ScalarFunction(call) = expr
        && let Some(operation) = call.func.inner().downcast_ref::<Operation>()
    {
        return Some(operation.data_type.clone());
    }
    expr.get_type(schema).ok() // See above.
}

fn call(kind: Kind, operands: Vec<DataType>, data_type: DataType, args: Vec<Expr>) -> Expr {
    // Exact: rules that try an expression with NULL for its columns then give the NULL the type.
    let signature = Signature::exact(operands, Volatility::Immutable);
    let operation = Operation {
        kind,
        data_type,
        signature,
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(operation)), args))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Add,
    Subtract,
    Multiply,
    /// Of DECIMALs alone.
    Divide,
    Negate,
    Join,
}

impl Kind {
    fn sign(self) -> &'static str {
        match self {
            Kind::Add => "+",
            Kind::Subtract | Kind::Negate => "-",
            Kind::Multiply => "*",
            Kind::Divide => "/",
            Kind::Join => "||",
        }
    }

    /// Whether operands of a type, which the result has too, are ours.
    fn takes(self, data_type: &DataType) -> bool {
        match self {
            Kind::Add | Kind::Subtract | Kind::Multiply => data_type.is_integer(),
            Kind::Divide => false,
            Kind::Negate => data_type.is_signed_integer(),
            Kind::Join => matches!(
                data_type,
                DataType::Utf8
                    | DataType::LargeUtf8
                    | DataType::Utf8View
                    | DataType::Binary
                    | DataType::LargeBinary
                    | DataType::BinaryView
            ),
        }
    }
}

/// An operator on operands whose types it knows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Operation {
    kind: Kind,
    /// The result's.
    data_type: DataType,
    signature: Signature,
}

impl Operation {
    /// Checks that a DECIMAL has no more digits than its type. Kernels check that its bytes hold it.
    fn in_range(&self, values: ColumnarValue) -> Result<ColumnarValue> {
        let (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) = self.data_type else {
            return Ok(values);
        };
        let array = match &values {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(value) => value.to_array()?,
        };
        let checked = match array.data_type() {
            DataType::Decimal128(..) => array
                .as_primitive::<Decimal128Type>()
                .validate_decimal_precision(precision),
            _ => array
                .as_primitive::<Decimal256Type>()
                .validate_decimal_precision(precision),
        };
        match checked {
            Ok(()) => Ok(values),
            // Its message has the digits without the point.
            Err(_) => Err(self.out_of_range(precision, scale)),
        }
    }

    fn out_of_range(&self, precision: u8, scale: i8) -> DataFusionError {
        let advice = match self.data_type {
            DataType::Decimal128(..) => format!("; cast an operand to DECIMAL({DECIMAL256_MAX_PRECISION}, …)"),
            _ => String::new(),
        };
        let sign = self.kind.sign();
        let message = format!("what '{sign}' gives is out of range of DECIMAL({precision}, {scale}){advice}");
        DataFusionError::External(Box::new(Error::new(ErrorCode::InvalidArgument, message)))
    }

    /// As DataFusion names the operator's column. One text grows on the way down, since a chain may be long.
    fn write_name(&self, args: &[Expr], name: &mut String) -> std::fmt::Result {
        let write_operand = |operand: &Expr, name: &mut String| match operand {
            Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<Operation>() {
                Some(operation) => operation.write_name(&call.args, name),
                None => write!(name, "{}", operand.schema_name()),
            },
            _ => write!(name, "{}", operand.schema_name()),
        };
        match args {
            [operand] => {
                name.push_str("(- ");
                write_operand(operand, name)?;
                name.push(')');
            }
            [left, right] => {
                write_operand(left, name)?;
                write!(name, " {} ", self.kind.sign())?;
                write_operand(right, name)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Operation {
    fn name(&self) -> &str {
        self.kind.sign()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.write_name(args, &mut name)
            .map_err(|error| DataFusionError::Plan(error.to_string()))?;
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.data_type.clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (self.kind, args.args.as_slice()) {
            (Kind::Add, [left, right]) => self.in_range(apply(left, right, add)?),
            (Kind::Subtract, [left, right]) => self.in_range(apply(left, right, sub)?),
            (Kind::Multiply, [left, right]) => self.in_range(apply(left, right, mul)?),
            (Kind::Divide, [left, right]) => self.in_range(apply(left, right, div)?),
            (Kind::Negate, [ColumnarValue::Array(array)]) => Ok(ColumnarValue::Array(neg(array.as_ref())?)),
            (Kind::Negate, [ColumnarValue::Scalar(value)]) => {
                let negated = neg(value.to_scalar()?.get().0)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&negated, 0)?))
            }
            (Kind::Join, [ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)]) => {
                check_join(&args, 1)?;
                let joined = concat_elements_dyn(&left.to_array()?, &right.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?))
            }
            (Kind::Join, [left, right]) => {
                check_join(&args, args.number_rows)?;
                let (left, right) = (left.to_array(args.number_rows)?, right.to_array(args.number_rows)?);
                Ok(ColumnarValue::Array(concat_elements_dyn(&left, &right)?))
            }
            (kind, operands) => plan_err!("{} takes no {} operands", kind.sign(), operands.len()),
        }
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        match (self.kind, inputs) {
            _ if self.data_type.is_decimal() => Interval::make_unbounded(&self.data_type),
            (Kind::Add, [left, right]) => apply_operator(&Operator::Plus, left, right),
            (Kind::Subtract, [left, right]) => apply_operator(&Operator::Minus, left, right),
            (Kind::Multiply, [left, right]) => apply_operator(&Operator::Multiply, left, right),
            (Kind::Negate, [operand]) => operand.arithmetic_negate(),
            _ => Interval::make_unbounded(&self.data_type),
        }
    }

    // What fails rather than wrap keeps an order.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match (self.kind, inputs) {
            (Kind::Add, [left, right]) => left.sort_properties.add(&right.sort_properties),
            (Kind::Subtract, [left, right]) => left.sort_properties.sub(&right.sort_properties),
            (Kind::Negate, [operand]) => -operand.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}

fn check_join(call: &ScalarFunctionArgs, rows: usize) -> Result<()> {
    let bytes = growth::together(&call.args, rows)?;
    growth::check(Kind::Join.sign(), bytes, MOST_JOINED_BYTES)?;
    growth::add_constant(call, bytes)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Fields;
    use kalamdb_core::ErrorCode;
    use tokio_util::sync::CancellationToken;

    use crate::interruption::Interruption;
    use crate::parameters::Parameters;
    use crate::planning::Planner;
    use crate::statement::{self, Statement};
    use crate::testing::Fixture;

    #[test]
    fn integers_do_not_wrap() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, b BIGINT, i INT, s SMALLINT, u BIGINT UNSIGNED)",
            "INSERT INTO t VALUES (1, 9223372036854775807, 2147483647, 32767, 0), (2, -9223372036854775808, 1, 1, 1)",
        ]);
        let overflows = |sql: &str| fixture.check_error_part(sql, ErrorCode::InvalidArgument, "out of range");
        for expression in [
            "b + 1",
            "b + b",
            "b * 2",
            "b - 1 - 1",
            "-b",
            "i + i",
            "s + s",
            "i * i * i * i",
            "u - CAST(1 AS BIGINT UNSIGNED)",
            "sum(b + 1)",
            "CASE WHEN id > 0 THEN b + 1 END",
        ] {
            overflows(&format!("SELECT {expression} FROM t"));
        }
        overflows("SELECT 9223372036854775807 + 1");
        overflows("SELECT 9223372036854775807 * CAST(2 AS BIGINT)");
        overflows("SELECT -9223372036854775807 - 2");
        overflows("SELECT id FROM t WHERE b + 1 > 0");
        overflows("SELECT id FROM t ORDER BY b + 1");
        overflows("UPDATE t SET b = b + 1");
        overflows("INSERT INTO t SELECT id + 10, b + 1, i, s, u FROM t");
        overflows("INSERT INTO t (id, b) VALUES (3, 9223372036854775807 + 1)");
        fixture.check(
            "SELECT b, i FROM t ORDER BY id",
            &["9223372036854775807|2147483647", "-9223372036854775808|1"],
        );
    }

    #[test]
    fn what_fits_is_computed_as_before() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a INT NOT NULL, b INT)",
            "INSERT INTO t VALUES (1, 10, 3), (2, 20, NULL), (3, 30, 5)",
        ]);
        fixture.check(
            "SELECT a + b, a - b, a * b, -b FROM t ORDER BY id",
            &["13|7|30|-3", "NULL|NULL|NULL|NULL", "35|25|150|-5"],
        );
        fixture.check("SELECT a + 1 FROM t WHERE a + 1 = 21", &["21"]);
        fixture.check(
            "SELECT a % 20 + 1, count(*) FROM t GROUP BY a % 20 + 1 ORDER BY a % 20 + 1",
            &["1|1", "11|2"],
        );
        fixture.check(
            "SELECT a + 1 FROM t GROUP BY a + 1 HAVING max(a + 1) > 20 ORDER BY -(a + 1)",
            &["31", "21"],
        );
        fixture.check("SELECT sum(a * 2) - 1, count(*) + 1 FROM t", &["119|4"]);
        fixture.check(
            "SELECT first_value(id ORDER BY -id), array_agg(DISTINCT id * 2 ORDER BY id * 2 DESC) FROM t",
            &["3|[6, 4, 2]"],
        );
        fixture.check(
            "SELECT id, rank() OVER (ORDER BY id - 1 DESC), nth_value(a, id * NULL) OVER (ORDER BY id) FROM t ORDER BY id",
            &["1|3|NULL", "2|2|NULL", "3|1|NULL"],
        );
        fixture.check("SELECT id FROM t ORDER BY id LIMIT 1 + 1 OFFSET 2 - 1", &["2", "3"]);
        fixture.check("SELECT value FROM generate_series(2 - 1, 1 + 2)", &["1", "2", "3"]);
        fixture.check(
            "SELECT ntile(1 + 1) OVER (ORDER BY id), lag(a, 3 - 2) OVER (ORDER BY id) FROM t",
            &["1|NULL", "1|10", "2|20"],
        );
        fixture.check(
            "SELECT sum(a + 1) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
            &["11", "32", "52"],
        );
        fixture.check(
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n ORDER BY i",
            &["1", "2", "3"],
        );
        fixture.check(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t u WHERE u.id = t.id + 1) ORDER BY id",
            &["1", "2"],
        );
        fixture.check(
            "SELECT (SELECT max(u.a) + 1 FROM t u WHERE u.id = t.id AND u.id > 1) FROM t ORDER BY id",
            &["NULL", "21", "31"],
        );
        fixture.check(
            "SELECT x.id, y.b + 1 FROM t x LEFT JOIN t y ON x.id = y.id AND y.b > 3 WHERE x.id > 1 ORDER BY x.id",
            &["2|NULL", "3|6"],
        );
        fixture.check(
            "SELECT x.id FROM t x LEFT JOIN t y ON x.id = y.id WHERE y.b + 1 > 4",
            &["3"],
        );
        fixture.check(
            "SELECT x.id FROM t x JOIN t y ON x.id + 1 = y.id ORDER BY x.id",
            &["1", "2"],
        );
        fixture.check_count("UPDATE t SET a = a + 1, b = -b WHERE id = 4 - 1", Parameters::none(), 1);
        fixture.check("SELECT a, b FROM t WHERE id = 3", &["31|-5"]);
    }

    #[test]
    fn decimals_have_no_more_digits_than_their_type() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, n NUMERIC, d DECIMAL(38, 0), w DECIMAL(76, 0), e DECIMAL(10, 2))",
            "INSERT INTO t VALUES (1, 1200000000, 99999999999999999999999999999999999999, \
             9999999999999999999999999999999999999999999999999999999999999999999999999999, 0.01), \
             (2, 1000000000, -99999999999999999999999999999999999999, NULL, -2.5)",
        ]);
        for (expression, data_type) in [
            ("n * 1000000000::NUMERIC", "DECIMAL(38, 20)"),
            ("n * n", "DECIMAL(38, 20)"),
            ("d + 1", "DECIMAL(38, 0)"),
            ("d - 1", "DECIMAL(38, 0)"),
            ("w + 1", "DECIMAL(76, 0)"),
            ("-1 - w", "DECIMAL(76, 0)"),
            ("CASE WHEN id > 0 THEN d + 1 END", "DECIMAL(38, 0)"),
            ("max(d + 1)", "DECIMAL(38, 0)"),
        ] {
            let sql = format!("SELECT {expression} FROM t");
            let wanted = format!("out of range of {data_type}");
            fixture.check_error_part(&sql, ErrorCode::InvalidArgument, &wanted);
        }
        for sql in [
            "SELECT 99999999999999999999999999999999999999::DECIMAL(38, 0) + 1::DECIMAL(1, 0)",
            "SELECT 12345678901234567890123456789012345678::DECIMAL(38, 0) / 0.01::DECIMAL(2, 2)",
            "SELECT d - e FROM t",
            "SELECT d + d FROM t",
            "SELECT id FROM t WHERE d + 1 > 0",
            "SELECT id FROM t ORDER BY n * n",
            "UPDATE t SET d = d + 1",
            "SELECT sum(n * n) OVER () FROM t",
        ] {
            fixture.check_error_part(sql, ErrorCode::InvalidArgument, "out of range");
        }
        fixture.check(
            "SELECT n * 0.5::NUMERIC, d + 0, n / 3, e * e, n - n, arrow_typeof(n * 0.5::NUMERIC) FROM t WHERE id = 1",
            &["600000000.00000000000000000000|99999999999999999999999999999999999999|400000000.00000000000000|0.0001|0.0000000000|Decimal128(38, 20)"],
        );
        fixture.check(
            "SELECT d::DECIMAL(76, 0) + 1, n::DECIMAL(76, 10) * n FROM t WHERE id = 1",
            &["100000000000000000000000000000000000000|1440000000000000000.00000000000000000000"],
        );
        fixture.check("SELECT id FROM t WHERE n * 2 = 2400000000 AND d + 0 > 0", &["1"]);
    }

    #[test]
    fn columns_are_called_as_before() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT)"]);
        let described = |fields: &Fields| -> Vec<(String, bool)> {
            fields
                .iter()
                .map(|field| (field.name().clone(), field.is_nullable()))
                .collect()
        };
        for sql in [
            "SELECT id + 1, (id * 2 - id) * 3, -id, a || 'x', sum(id + 1) OVER () FROM t",
            "SELECT id - 1, max(id + 1), min(-id), max(a || 'y'), count(*) + 1 FROM t GROUP BY id - 1",
        ] {
            let Ok(Statement::Query(statement)) = statement::parse(sql) else {
                panic!("{sql}: no query");
            };
            let interruption = Interruption::new(CancellationToken::new(), None);
            let planner = Planner::new(&fixture.database, &fixture.root, &interruption).expect("a planner");
            let planned = planner.plan(*statement, &[]).expect("it plans");
            let result = planner.result_schema(&planned).expect("it is analyzed");
            assert_eq!(
                described(result.fields()),
                described(planned.plan.schema().fields()),
                "{sql}"
            );
            let first = result.field(0).name();
            assert!(first.contains("id + ") || first.contains("id - "), "{first}");
        }
    }

    #[test]
    fn constants_still_bind_the_key() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT)"]);
        for predicate in [
            "id = 7 + 1",
            "id = -(-8)",
            "id > 2 * 3 AND id < 10 - 1",
            "id IN (1 + 1, 2 * 2)",
        ] {
            let plan = fixture
                .rows(&format!("EXPLAIN SELECT * FROM t WHERE {predicate}"))
                .join("\n");
            assert!(plan.contains("key=[id"), "{predicate}: {plan}");
        }
    }

    #[test]
    fn texts_are_joined_as_before_up_to_a_bound() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT)",
            "INSERT INTO t VALUES (1, 'x'), (2, NULL)",
        ]);
        fixture.check(
            "SELECT a || 'y', 'y' || a || 'z', a || id FROM t ORDER BY id",
            &["xy|yxz|x1", "NULL|NULL|NULL"],
        );
        let large = "x".repeat(500_000);
        fixture.check_error(
            &format!("SELECT value || '{large}' FROM generate_series(1, 100000)"),
            ErrorCode::StatementTooLarge,
            None,
            "|| would make",
        );
    }
}
