//! JSON's operators `#>` and `#>>`, which take a value by a path, and `?`, which asks for a key.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::extension_types::ExtensionType;
use crate::json_functions::{check_document, step};

/// How a value is taken out of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Taken {
    AsJson,
    /// A text without its quotes.
    AsText,
}

/// `document #> path` and `document #>> path`.
///
/// # Errors
/// UNSUPPORTED for a path that is not a constant, INVALID_ARGUMENT for a constant that is none.
pub(crate) fn at_path(expr: RawBinaryExpr, taken: Taken) -> Result<Expr> {
    let steps = path(&expr.right).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let function = AtPath {
        steps,
        taken,
        signature: Signature::any(1, Volatility::Immutable),
    };
    let call = ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![expr.left]);
    Ok(Expr::ScalarFunction(call))
}

/// `document ? key`.
pub(crate) fn has_key(expr: RawBinaryExpr) -> Expr {
    let function = HasKey {
        signature: Signature::any(2, Volatility::Immutable),
    };
    let arguments = vec![expr.left, expr.right];
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), arguments))
}

fn path(expr: &Expr) -> Result<Vec<String>, Error> {
    let not_constant = || {
        let message = "the path of #> and #>> is a constant, as '{tags,0}' or ARRAY['tags', '0']";
        Error::new(ErrorCode::Unsupported, message)
    };
    let text = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "make_array" => {
            call.args.iter().map(|arg| text(arg).ok_or_else(not_constant)).collect()
        }
        other => {
            let written = text(other).ok_or_else(not_constant)?;
            elements(&written).ok_or_else(|| {
                let message = format!("'{written}' is not a path; write '{{tags,0}}'");
                Error::new(ErrorCode::InvalidArgument, message)
            })
        }
    }
}

/// The elements of PostgreSQL's text of an array, `{a,"b c",0}`.
fn elements(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut elements = Vec::new();
    let mut rest = inner;
    loop {
        rest = rest.trim_start();
        let element = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (element, behind) = quoted_element(quoted)?;
                rest = behind.trim_start();
                element
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (element, behind) = rest.split_at(end);
                rest = behind;
                let element = element.trim_end();
                if element.is_empty() || element.contains(['{', '}', '"', '\\']) || element.eq_ignore_ascii_case("null")
                {
                    return None;
                }
                element.to_owned()
            }
        };
        elements.push(element);
        rest = match rest.strip_prefix(',') {
            Some(behind) => behind,
            None if rest.is_empty() => return Some(elements),
            None => return None,
        };
    }
}

/// The element whose opening quote is gone, and what stands behind it.
fn quoted_element(text: &str) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((element, &text[index + 1..])),
            '\\' => element.push(characters.next()?.1),
            other => element.push(other),
        }
    }
    None
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtPath {
    steps: Vec<String>,
    taken: Taken,
    signature: Signature,
}

impl ScalarUDFImpl for AtPath {
    fn name(&self) -> &str {
        match self.taken {
            Taken::AsJson => "#>",
            Taken::AsText => "#>>",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let documents: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!(
            "{} {} {{{}}}",
            documents.join(","),
            self.name(),
            self.steps.join(",")
        ))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        for field in arguments.arg_fields {
            check_document(self.name(), field.data_type())?;
        }
        Ok(match self.taken {
            Taken::AsJson => ExtensionType::Json.field(self.name()),
            Taken::AsText => Arc::new(Field::new(self.name(), DataType::Utf8, true)),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [document] = args.args.as_slice() else {
            return Err(DataFusionError::Internal(format!("{} takes one value", self.name())));
        };
        let mut values = cast(&document.to_array(args.number_rows)?, &DataType::Utf8)?;
        if self.steps.is_empty() && self.taken == Taken::AsText {
            let texts = values.as_string::<i32>().iter();
            let texts =
                texts.map(|text| text.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())));
            return Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())));
        }
        for (index, key) in self.steps.iter().enumerate() {
            let is_last = index + 1 == self.steps.len();
            let taken = if is_last { self.taken } else { Taken::AsJson };
            let by_key = step(&values, ScalarValue::from(key.as_str()), taken, &args.config_options)?;
            // An object has keys and an array has indexes: one of the two finds nothing.
            values = match key.parse::<i64>() {
                Ok(index) => {
                    let by_index = step(&values, ScalarValue::from(index), taken, &args.config_options)?;
                    zip(&is_not_null(&by_key)?, &by_key, &by_index)?
                }
                Err(_) => by_key,
            };
        }
        Ok(ColumnarValue::Array(values))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HasKey {
    signature: Signature,
}

impl ScalarUDFImpl for HasKey {
    fn name(&self) -> &str {
        "?"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(args.join(" ? "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [document, key] = arguments else {
            return Err(DataFusionError::Internal("? takes two values".to_owned()));
        };
        check_document("?", document)?;
        if !key.is_string() && !key.is_null() {
            let error = Error::new(
                ErrorCode::InvalidStatement,
                format!("? takes a text as the key, not {key}"),
            );
            return Err(DataFusionError::External(Box::new(error)));
        }
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = |value: &ColumnarValue| -> Result<ArrayRef> {
            Ok(cast(&value.to_array(args.number_rows)?, &DataType::Utf8)?)
        };
        let [document, key] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("? takes two values".to_owned()));
        };
        let (documents, keys) = (text(document)?, text(key)?);
        let pairs = documents.as_string::<i32>().iter().zip(keys.as_string::<i32>());
        let found = pairs.map(|(document, key)| has(document?, key?));
        Ok(ColumnarValue::Array(Arc::new(found.collect::<BooleanArray>())))
    }
}

/// As PostgreSQL has it: a key of an object, a text in an array, or the text itself. `None` for what is not JSON.
fn has(document: &str, key: &str) -> Option<bool> {
    use serde_json::Value;
    let found = match serde_json::from_str(document).ok()? {
        Value::Object(entries) => entries.contains_key(key),
        Value::Array(values) => values.iter().any(|value| value.as_str() == Some(key)),
        Value::String(text) => text == key,
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use kalamdb_core::ErrorCode;

    use super::elements;
    use crate::testing::{Fixture, parameters};

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE docs (id INT PRIMARY KEY, doc JSON, data JSON)",
            "INSERT INTO docs VALUES \
             (1, '{\"a\": {\"b\": [10, \"x\", null], \"0\": \"zero\"}, \"s p\": 1}', '{\"k\": 1}'), \
             (2, '[\"a\", {\"a\": \"b\"}]', '\"k\"'), (3, NULL, NULL), (4, '7', '[\"j\"]')",
        ]);
        fixture
    }

    #[test]
    fn values_are_taken_by_a_path() {
        let fixture = fixture();
        let check = |expr: &str, expected: &[&str]| {
            fixture.check(&format!("SELECT {expr} FROM docs ORDER BY id"), expected);
        };
        check("doc #> '{a,b,1}'", &["\"x\"", "NULL", "NULL", "NULL"]);
        check("doc #>> '{a,b,1}'", &["x", "NULL", "NULL", "NULL"]);
        check("doc #>> ARRAY['a', 'b', '0']", &["10", "NULL", "NULL", "NULL"]);
        check("doc #>> '{a,0}'", &["zero", "NULL", "NULL", "NULL"]);
        check("doc #>> '{1,a}'", &["NULL", "b", "NULL", "NULL"]);
        check("doc #> '{\"s p\"}'", &["1", "NULL", "NULL", "NULL"]);
        check("doc #> '{}' = doc", &["true", "true", "NULL", "true"]);
        check("data #>> '{}'", &["{\"k\": 1}", "k", "NULL", "[\"j\"]"]);
        check("doc #> '{a}' -> 'b' ->> 1", &["x", "NULL", "NULL", "NULL"]);
        check("(doc #>> '{a,b,0}')::INT + 1", &["11", "NULL", "NULL", "NULL"]);
        fixture.check("SELECT '{\"a\": [1]}'::JSON #> '{a,0}'", &["1"]);
        fixture.check_error_part("SELECT doc #> 'a' FROM docs", ErrorCode::InvalidArgument, "'{tags,0}'");
        fixture.check_error_part("SELECT doc #> data FROM docs", ErrorCode::Unsupported, "constant");
        fixture.check_error_part(
            "SELECT id #> '{a}' FROM docs",
            ErrorCode::InvalidStatement,
            "#> takes JSON",
        );
    }

    #[test]
    fn keys_are_asked_for() {
        let fixture = fixture();
        let check = |condition: &str, expected: &[&str]| {
            fixture.check(&format!("SELECT id FROM docs WHERE {condition} ORDER BY id"), expected);
        };
        check("doc ? 'a'", &["1", "2"]);
        check("NOT doc ? 'a'", &["4"]);
        check("data ? 'k' AND doc ? 'b' IS NOT NULL", &["1", "2"]);
        check("docs.data ? 'j'", &["4"]);
        check("(doc -> 'a') ? 'b'", &["1"]);
        check("doc ? lower('A') OR doc ? data", &["1", "2"]);
        fixture.check("SELECT '[\"x\"]'::JSON ? 'x', 'no'::TEXT ? 'x'", &["true|NULL"]);
        fixture.check_error_part("SELECT id ? 'a' FROM docs", ErrorCode::InvalidStatement, "? takes JSON");
        fixture.check_error_part("SELECT doc ? 1 FROM docs", ErrorCode::SyntaxError, "");
    }

    #[test]
    fn a_question_mark_is_a_parameter_where_a_value_stands() {
        let fixture = fixture();
        let check = |sql: &str, texts: &[&str], expected: &[&str]| {
            let columns = texts
                .iter()
                .map(|text| Arc::new(StringArray::from(vec![*text])) as ArrayRef);
            let rows = fixture.rows_as(&fixture.root, sql, parameters(columns.collect()));
            assert_eq!(rows, expected, "{sql}");
        };
        check("SELECT id FROM docs WHERE doc ? ? ORDER BY id", &["a"], &["1", "2"]);
        check("SELECT id FROM docs WHERE data ? ? AND doc ? ?", &["k", "s p"], &["1"]);
        check("SELECT ? || 'x', ?", &["a", "b"], &["ax|b"]);
        check(
            "SELECT id FROM docs WHERE doc ->> ? = ? OR id IN (4)",
            &["s p", "1"],
            &["1", "4"],
        );
        check("SELECT CASE WHEN ? = 'a' THEN ? ELSE ? END", &["a", "b", "c"], &["b"]);
    }

    #[test]
    fn a_path_is_written_as_an_array() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let expected = expected.map(|expected| expected.iter().map(|&element| element.to_owned()).collect());
            assert_eq!(elements(text), expected, "{text}");
        };
        check("{}", Some(&[]));
        check("{a}", Some(&["a"]));
        check(" { a , 0 } ", Some(&["a", "0"]));
        check("{\"a,b\",\"\",\"q\\\"\\\\\"}", Some(&["a,b", "", "q\"\\"]));
        for wrong in ["", "a", "{a", "{a,}", "{,a}", "{\"a}", "{\"a\"b}", "{{a}}", "{null}"] {
            check(wrong, None);
        }
    }
}
