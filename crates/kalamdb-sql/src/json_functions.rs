//! JSON: the operators `->` and `->>` (`#>`, `#>>` and `?` are in `json_paths`), and functions that take a value by its path, from the crate `datafusion-functions-json`.
//!
//! Its own `->` gives a union of the types that a value may have, which many clients cannot read; here it gives JSON, as in
//! PostgreSQL, and what else gives or takes that union is not registered.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs;
use kalamdb_core::{Error, ErrorCode};

use crate::extension_types::ExtensionType;
use crate::json_paths::{self, Taken};
use crate::literals::compared_with_uuid;

/// `->`: the value at a key or an index, as JSON.
static ARROW: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| JsonFunction::operator(udfs::json_get_json_udf(), "->"));

/// `->>`: the same as text, a text without its quotes.
static LONG_ARROW: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| JsonFunction::operator(udfs::json_as_text_udf(), "->>"));

/// Registers operators and functions.
///
/// # Errors
/// What the registry says.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_expr_planner(Arc::new(JsonOperators))?;
    for function in [
        udfs::json_get_json_udf(),
        udfs::json_as_text_udf(),
        udfs::json_get_str_udf(),
        udfs::json_get_int_udf(),
        udfs::json_get_float_udf(),
        udfs::json_get_bool_udf(),
        udfs::json_get_array_udf(),
        udfs::json_contains_udf(),
        udfs::json_length_udf(),
        udfs::json_object_keys_udf(),
    ] {
        registry.register_udf(JsonFunction::named(function))?;
    }
    Ok(())
}

/// The value at a key, or at an index as a number; as text by the function of `->>`.
///
/// # Errors
/// Whatever the crate says.
pub(crate) fn step(
    values: &ArrayRef,
    step: ScalarValue,
    taken: Taken,
    config: &Arc<ConfigOptions>,
) -> Result<ArrayRef> {
    let function = match taken {
        Taken::AsJson => &ARROW,
        Taken::AsText => &LONG_ARROW,
    };
    let field = |data_type: DataType| Arc::new(Field::new("", data_type, true));
    let arg_fields = vec![field(DataType::Utf8), field(step.data_type())];
    let rows = values.len();
    let found = function.inner().invoke_with_args(ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(Arc::clone(values)), ColumnarValue::Scalar(step)],
        arg_fields,
        number_rows: rows,
        return_field: field(DataType::Utf8),
        config_options: Arc::clone(config),
    })?;
    found.into_array(rows)
}

/// Refuses what is not JSON on the left of an operator.
///
/// # Errors
/// INVALID_STATEMENT.
pub(crate) fn check_document(operator: &str, data_type: &DataType) -> Result<()> {
    if data_type.is_string() || data_type.is_null() {
        return Ok(());
    }
    let error = Error::new(
        ErrorCode::InvalidStatement,
        format!("{operator} takes JSON, not {data_type}"),
    );
    Err(DataFusionError::External(Box::new(error)))
}

/// Plans the operators.
#[derive(Debug)]
struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => &ARROW,
            BinaryOperator::LongArrow => &LONG_ARROW,
            BinaryOperator::HashArrow => return json_paths::at_path(expr, Taken::AsJson).map(PlannerResult::Planned),
            BinaryOperator::HashLongArrow => {
                return json_paths::at_path(expr, Taken::AsText).map(PlannerResult::Planned);
            }
            BinaryOperator::Question => return Ok(PlannerResult::Planned(json_paths::has_key(expr))),
            // The planner asks for the type of a comparison before rules read text beside a UUID as one.
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => {
                if let Some(right) = compared_with_uuid(&expr.left, &expr.right, schema)? {
                    expr.right = right;
                } else if let Some(left) = compared_with_uuid(&expr.right, &expr.left, schema)? {
                    expr.left = left;
                }
                return Ok(PlannerResult::Original(expr));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let is_constant = matches!(expr.right, Expr::Literal(..));
        let mut args = match expr.left {
            // `doc -> 'a' -> 'b'` is one path. Of several steps the crate takes constants alone.
            Expr::ScalarFunction(inner)
                if inner.func == *ARROW && is_constant && matches!(inner.args.last(), Some(Expr::Literal(..))) =>
            {
                inner.args
            }
            left => vec![left],
        };
        args.push(expr.right);
        let call = ScalarFunction::new_udf(Arc::clone(function), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// A function of the crate that takes NULL and every integer, says in our words what it does not take, and gives our type of JSON.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    function: Arc<ScalarUDF>,
    /// Under which it is written.
    operator: Option<&'static str>,
}

impl JsonFunction {
    fn named(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        let operator = None;
        Arc::new(ScalarUDF::from(JsonFunction { function, operator }))
    }

    fn operator(function: Arc<ScalarUDF>, operator: &'static str) -> Arc<ScalarUDF> {
        let operator = Some(operator);
        Arc::new(ScalarUDF::from(JsonFunction { function, operator }))
    }

    /// As which type the crate takes an argument.
    ///
    /// # Errors
    /// INVALID_STATEMENT if it takes none such.
    fn taken(&self, position: usize, data_type: &DataType) -> Result<DataType> {
        if data_type.is_string() {
            Ok(data_type.clone())
        } else if data_type.is_null() {
            Ok(DataType::Utf8)
        } else if position > 0 && data_type.is_integer() {
            Ok(DataType::Int64)
        } else {
            let what = self.operator.unwrap_or(self.function.name());
            let wanted = if position == 0 { "JSON" } else { "a key or an index" };
            let message = format!("{what} takes {wanted}, not {data_type}");
            let error = Error::new(ErrorCode::InvalidStatement, message);
            Err(DataFusionError::External(Box::new(error)))
        }
    }

    fn taken_fields(&self, fields: &[FieldRef]) -> Result<Vec<FieldRef>> {
        let fields = fields.iter().enumerate();
        let taken = fields.map(|(position, field)| {
            let data_type = self.taken(position, field.data_type())?;
            Ok(Arc::new(field.as_ref().clone().with_data_type(data_type)))
        });
        taken.collect()
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(match self.operator {
            Some(operator) => args.join(&format!(" {operator} ")),
            None => format!("{}({})", self.name(), args.join(",")),
        })
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let arguments = arguments.iter().enumerate();
        let taken: Vec<DataType> = arguments
            .map(|(position, data_type)| self.taken(position, data_type))
            .collect::<Result<_>>()?;
        self.function.inner().return_type(&taken)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.function.inner().return_field_from_args(ReturnFieldArgs {
            arg_fields: &self.taken_fields(arguments.arg_fields)?,
            scalar_arguments: arguments.scalar_arguments,
        })?;
        if ExtensionType::of(field.metadata()) == Some(ExtensionType::Json) {
            return Ok(ExtensionType::Json.field(self.name()));
        }
        Ok(Arc::new(Field::new(self.name(), field.data_type().clone(), true)))
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        arguments.arg_fields = self.taken_fields(&arguments.arg_fields)?;
        for (value, field) in arguments.args.iter_mut().zip(&arguments.arg_fields) {
            if value.data_type() != *field.data_type() {
                *value = value.cast_to(field.data_type(), None)?;
            }
        }
        self.function.inner().invoke_with_args(arguments)
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::parameters::Parameters;
    use crate::testing::{Fixture, Outcome};

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE docs (id INT PRIMARY KEY, doc JSON)",
            "INSERT INTO docs VALUES \
             (1, '{\"a\": {\"b\": [10, \"x\", null]}, \"n\": 1.5, \"t\": true, \"s\": \"it''s \\u00e9\"}'), \
             (2, '[]'), (3, NULL), (4, '\"text\"')",
        ]);
        fixture
    }

    #[test]
    fn values_are_taken_by_their_path() {
        let fixture = fixture();
        let check = |expr: &str, expected: &str| {
            fixture.check(&format!("SELECT {expr} FROM docs WHERE id = 1"), &[expected]);
        };
        check("doc -> 'a'", "{\"b\": [10, \"x\", null]}");
        check("doc -> 'a' -> 'b' -> 1", "\"x\"");
        check("doc -> 'a' -> 'b' ->> 1", "x");
        check("doc -> 'a' -> 'b' -> 2", "null");
        check("doc ->> 's'", "it's é");
        check("doc ->> 'n'", "1.5");
        check("doc -> 'nothing'", "NULL");
        check("doc -> 'a' -> 'nothing' -> 0", "NULL");
        check("doc -> 'a' -> 'b' -> 7", "NULL");
        check("(doc ->> 'n')::DOUBLE + 1", "2.5");
        check("json_get_int(doc, 'a', 'b', 0)", "10");
        check("json_get_float(doc, 'n')", "1.5");
        check("json_get_bool(doc, 't')", "true");
        check("json_get_str(doc, 's')", "it's é");
        check("json_get_json(doc, 'a', 'b')", "[10, \"x\", null]");
        check("json_length(doc)", "4");
        check("json_length(doc, 'a', 'b')", "3");
        check("json_contains(doc, 'a', 'b')", "true");
        check("json_contains(doc, 'b')", "false");
        check("json_object_keys(doc)", "[a, n, t, s]");
        fixture.check(
            "SELECT id FROM docs WHERE doc ->> 's' = 'it''s é' OR doc -> 'a' IS NOT NULL",
            &["1"],
        );
        fixture.check(
            "SELECT doc ->> 'n' AS n, count(*) FROM docs GROUP BY doc ->> 'n' ORDER BY n",
            &["1.5|1", "NULL|3"],
        );
        fixture.check(
            "SELECT id, doc ->> 0 FROM docs WHERE id > 1 ORDER BY id",
            &["2|NULL", "3|NULL", "4|NULL"],
        );
        let key = crate::testing::parameters(vec![std::sync::Arc::new(arrow::array::StringArray::from(vec!["n"]))]);
        assert_eq!(
            fixture.rows_as(&fixture.root, "SELECT doc ->> $1 FROM docs WHERE id = 1", key),
            ["1.5"]
        );
        fixture.check_error_part("SELECT id -> 'a' FROM docs", ErrorCode::InvalidStatement, "");
    }

    #[test]
    fn json_stays_json() {
        let fixture = fixture();
        let extension = |sql: &str| -> Vec<Option<String>> {
            match fixture.execute_as(&fixture.root, sql, Parameters::none()).expect(sql) {
                Outcome::Rows(batches) => {
                    let schema = batches.first().expect("rows").schema();
                    let named = schema.fields().iter();
                    named
                        .map(|field| field.metadata().get("ARROW:extension:name").cloned())
                        .collect()
                }
                Outcome::Done(_) => panic!("{sql}: no rows"),
            }
        };
        let (json, uuid) = (Some("arrow.json".to_owned()), Some("arrow.uuid".to_owned()));
        assert_eq!(
            extension("SELECT doc, doc -> 'a', doc -> 'a' -> 'b', doc ->> 'a', '1'::JSON, doc::TEXT, id FROM docs"),
            [json.clone(), json.clone(), json.clone(), None, json.clone(), None, None]
        );
        fixture.run(&[
            "CREATE TABLE parts AS SELECT id, doc -> 'a' AS a, '00112233-4455-6677-8899-aabbccddeeff'::UUID AS u FROM docs",
        ]);
        fixture.check(
            "DESCRIBE parts",
            &[
                "id|INTEGER|true|NULL|NULL",
                "a|JSON|true|NULL|NULL",
                "u|UUID|true|NULL|NULL",
            ],
        );
        assert_eq!(extension("SELECT a, u FROM parts"), [json, uuid]);
    }

    #[test]
    fn casts_check_json() {
        let fixture = Fixture::new();
        fixture.check(
            "SELECT '{\"a\": [1]}'::JSON, CAST(5 AS JSON), true::JSON, TRY_CAST('{' AS JSON)",
            &["{\"a\": [1]}|5|true|NULL"],
        );
        fixture.run(&["CREATE TABLE t (a TEXT)", "INSERT INTO t VALUES ('[1]'), ('[1')"]);
        fixture.check_error_part("SELECT a::JSON FROM t", ErrorCode::TypeMismatch, "'[1' is not JSON");
        fixture.check_error_part("SELECT '{a}'::JSON", ErrorCode::TypeMismatch, "'{a}' is not JSON");
        fixture.check("SELECT TRY_CAST(a AS JSON) -> 0 FROM t ORDER BY a", &["NULL", "1"]);
        fixture.run(&["CREATE TABLE docs (doc JSON DEFAULT '{}')"]);
        fixture.check_error_part("INSERT INTO docs VALUES ('{')", ErrorCode::TypeMismatch, "takes JSON");
        fixture.check_error_part(
            "INSERT INTO docs SELECT a FROM t",
            ErrorCode::TypeMismatch,
            "takes JSON",
        );
        fixture.run(&["INSERT INTO docs DEFAULT VALUES"]);
        fixture.check_error_part(
            "UPDATE docs SET doc = '[' || doc",
            ErrorCode::TypeMismatch,
            "takes JSON",
        );
        fixture.check("SELECT doc FROM docs", &["{}"]);
    }

    #[test]
    fn casts_read_and_write_uuids() {
        const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (u UUID PRIMARY KEY, a TEXT)",
            &format!(
                "INSERT INTO t VALUES ('{UUID}', upper('{UUID}')), ('{{ffffffff-ffff-ffff-ffff-ffffffffffff}}', 'x')"
            ),
        ]);
        let one = format!("WHERE u = '{UUID}'");
        fixture.check(
            &format!("SELECT u::TEXT, CAST(u AS TEXT) || '!' FROM t {one}"),
            &[&format!("{UUID}|{UUID}!")],
        );
        fixture.check(
            &format!("SELECT a FROM t WHERE u::TEXT = '{UUID}' AND u = TRY_CAST(a AS UUID)"),
            &[&UUID.to_uppercase()],
        );
        fixture.check(&format!("SELECT count(*) FROM t {one} AND u = a"), &["1"]);
        fixture.check("SELECT TRY_CAST(a AS UUID)::TEXT FROM t ORDER BY u", &[UUID, "NULL"]);
        fixture.check_error_part("SELECT a::UUID FROM t", ErrorCode::TypeMismatch, "'x' is not a UUID");
        fixture.check_error_part("SELECT 'x'::UUID", ErrorCode::TypeMismatch, "'x' is not a UUID");
        fixture.check("SELECT uuid_v7()::UUID < uuid_v7()::UUID", &["true"]);
        fixture.check(&format!("SELECT '{UUID}'::UUID::TEXT"), &[UUID]);
    }
}
