//! JSON: the operators `->` and `->>`, and functions that take a value by its path.
//!
//! Their names and results are those of the crate `datafusion-functions-json`, but for `->`: it gives a union of the types that a
//! value may have, which many clients cannot read; here it gives JSON, as in PostgreSQL.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use kalamdb_core::{Error, ErrorCode};

use crate::extension_types::{ExtensionType, check_json};
use crate::json_path::{Step, elements, find, members, unescaped};

/// `->`: the value at a key or an index, as JSON.
static ARROW: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(PathFunction::new(Gives::Json, Some("->")))));

/// `->>`: the same as text, a text without its quotes.
static LONG_ARROW: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(PathFunction::new(Gives::Text, Some("->>")))));

/// Registers operators and functions.
///
/// # Errors
/// What the registry says.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_expr_planner(Arc::new(JsonOperators))?;
    for gives in [
        Gives::Json,
        Gives::Text,
        Gives::TextAlone,
        Gives::Integer,
        Gives::Float,
        Gives::Boolean,
        Gives::Array,
        Gives::Presence,
        Gives::Length,
        Gives::Keys,
    ] {
        registry.register_udf(Arc::new(ScalarUDF::from(PathFunction::new(gives, None))))?;
    }
    Ok(())
}

/// Plans `->` and `->>`.
#[derive(Debug)]
struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => &ARROW,
            BinaryOperator::LongArrow => &LONG_ARROW,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // `doc -> 'a' -> 'b'` is one path.
        let mut args = match expr.left {
            Expr::ScalarFunction(inner) if inner.func == *ARROW => inner.args,
            left => vec![left],
        };
        args.push(expr.right);
        let call = ScalarFunction::new_udf(Arc::clone(function), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// What a function makes of the value at the path; NULL where there is none, or none of that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gives {
    /// The value itself.
    Json,
    /// Any value as text, a text without its quotes; `null` is NULL.
    Text,
    /// A text without its quotes.
    TextAlone,
    Integer,
    Float,
    Boolean,
    /// The elements of an array, each as JSON.
    Array,
    /// Whether there is a value.
    Presence,
    /// How many elements or members there are.
    Length,
    /// The names of an object's members.
    Keys,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PathFunction {
    gives: Gives,
    /// Under which it is written.
    operator: Option<&'static str>,
    signature: Signature,
}

impl PathFunction {
    fn new(gives: Gives, operator: Option<&'static str>) -> Self {
        PathFunction {
            gives,
            operator,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }

    fn list() -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
    }

    fn evaluate(&self, rows: &Rows) -> ArrayRef {
        let found = (0..rows.len()).map(|row| rows.find(row));
        match self.gives {
            Gives::Json => Arc::new(found.map(Found::value).collect::<StringArray>()),
            Gives::Text => {
                let texts = found.map(|found| found.value().filter(|value| *value != "null").map(unescaped));
                Arc::new(texts.collect::<StringArray>())
            }
            Gives::TextAlone => {
                let texts = found.map(|found| found.value().filter(|value| value.starts_with('"')).map(unescaped));
                Arc::new(texts.collect::<StringArray>())
            }
            // What does not parse is of another type.
            Gives::Integer => Arc::new(found.map(|found| found.value()?.parse().ok()).collect::<Int64Array>()),
            Gives::Float => {
                // "null", "true" and texts are no numbers; "inf" and "nan" are no JSON.
                let number = |value: &str| value.parse::<f64>().ok(); // As above.
                Arc::new(found.map(|found| number(found.value()?)).collect::<Float64Array>())
            }
            Gives::Boolean => Arc::new(found.map(|found| found.value()?.parse().ok()).collect::<BooleanArray>()), // As above.
            Gives::Presence => {
                let present = found.map(|found| match found {
                    Found::NoDocument => None,
                    Found::Nothing => Some(false),
                    Found::Value(_) => Some(true),
                });
                Arc::new(present.collect::<BooleanArray>())
            }
            Gives::Length => {
                let lengths = found.map(|found| {
                    let value = found.value()?;
                    let count = match elements(value) {
                        Some(elements) => elements.count(),
                        None => members(value)?.count(),
                    };
                    i64::try_from(count).ok() // A text is never that long.
                });
                Arc::new(lengths.collect::<Int64Array>())
            }
            Gives::Array => lists(found.map(|found| {
                let elements = elements(found.value()?)?;
                Some(elements.map(Cow::Borrowed).collect())
            })),
            Gives::Keys => lists(found.map(|found| {
                let members = members(found.value()?)?;
                Some(members.map(|(name, _)| unescaped(name)).collect())
            })),
        }
    }
}

fn lists<'a>(values: impl Iterator<Item = Option<Vec<Cow<'a, str>>>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for value in values {
        match value {
            Some(texts) => {
                for text in texts {
                    builder.values().append_value(text);
                }
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Arc::new(builder.finish())
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Found<'a> {
    /// The document or a part of the path is NULL, or the document is no JSON.
    NoDocument,
    Nothing,
    Value(&'a str),
}

impl<'a> Found<'a> {
    fn value(self) -> Option<&'a str> {
        match self {
            Found::Value(value) => Some(value),
            Found::NoDocument | Found::Nothing => None,
        }
    }
}

/// The arguments as columns.
struct Rows {
    documents: StringArray,
    /// Text is checked each time that it is read, columns of JSON when they are written.
    checked: bool,
    path: Vec<Steps>,
}

enum Steps {
    Keys(StringArray),
    Indexes(Int64Array),
}

impl Rows {
    fn new(args: &[ArrayRef], fields: &[FieldRef]) -> Result<Self> {
        let [documents, path @ ..] = args else {
            return Err(DataFusionError::Internal("a path without a document".to_owned()));
        };
        let steps = path.iter().map(|step| {
            Ok(if step.data_type().is_integer() {
                Steps::Indexes(cast(step, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            } else {
                Steps::Keys(cast(step, &DataType::Utf8)?.as_string::<i32>().clone())
            })
        });
        Ok(Rows {
            documents: cast(documents, &DataType::Utf8)?.as_string::<i32>().clone(),
            checked: fields
                .first()
                .is_some_and(|field| ExtensionType::of(field.metadata()) == Some(ExtensionType::Json)),
            path: steps.collect::<Result<_>>()?,
        })
    }

    fn len(&self) -> usize {
        self.documents.len()
    }

    fn find(&self, row: usize) -> Found<'_> {
        if self.documents.is_null(row) {
            return Found::NoDocument;
        }
        let document = self.documents.value(row);
        if !self.checked && check_json(document).is_err() {
            return Found::NoDocument;
        }
        let steps: Option<Vec<Step<'_>>> = self.path.iter().map(|steps| steps.at(row)).collect();
        match steps {
            None => Found::NoDocument,
            Some(steps) => find(document, &steps).map_or(Found::Nothing, Found::Value),
        }
    }
}

impl Steps {
    fn at(&self, row: usize) -> Option<Step<'_>> {
        match self {
            Steps::Keys(keys) => keys.is_valid(row).then(|| Step::Key(keys.value(row))),
            Steps::Indexes(indexes) => indexes.is_valid(row).then(|| Step::Index(indexes.value(row))),
        }
    }
}

impl ScalarUDFImpl for PathFunction {
    fn name(&self) -> &str {
        match self.gives {
            Gives::Json => "json_get_json",
            Gives::Text => "json_as_text",
            Gives::TextAlone => "json_get_str",
            Gives::Integer => "json_get_int",
            Gives::Float => "json_get_float",
            Gives::Boolean => "json_get_bool",
            Gives::Array => "json_get_array",
            Gives::Presence => "json_contains",
            Gives::Length => "json_length",
            Gives::Keys => "json_object_keys",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(match self.operator {
            Some(operator) => args.join(&format!(" {operator} ")),
            None => format!("{}({})", self.name(), args.join(",")),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.gives {
            Gives::Json | Gives::Text | Gives::TextAlone => DataType::Utf8,
            Gives::Integer | Gives::Length => DataType::Int64,
            Gives::Float => DataType::Float64,
            Gives::Boolean | Gives::Presence => DataType::Boolean,
            Gives::Array | Gives::Keys => PathFunction::list(),
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let what = self.operator.unwrap_or(self.name());
        for (position, field) in arguments.arg_fields.iter().enumerate() {
            let data_type = field.data_type();
            let fits = data_type.is_string() || data_type.is_null() || (position > 0 && data_type.is_integer());
            if !fits {
                let wanted = if position == 0 { "JSON" } else { "a key or an index" };
                let message = format!("{what} takes {wanted}, not {data_type}");
                let error = Error::new(ErrorCode::InvalidStatement, message);
                return Err(DataFusionError::External(Box::new(error)));
            }
        }
        if self.gives == Gives::Json {
            return Ok(ExtensionType::Json.field(self.name()));
        }
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let values = self.evaluate(&Rows::new(&columns, &args.arg_fields)?);
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(values)
        })
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
