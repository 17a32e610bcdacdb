//! LIKE, SIMILAR TO and `~` whose pattern may take long: bounded for one row, and with pauses between rows.
//!
//! Problem: `repeat('a', 1000000) LIKE repeat('%a', 10000) || 'b'` computes for minutes, and an operator awaits nothing, so that neither
//! a timeout nor KILL QUERY ends it. Proper way: operators that look at an interruption as they go. Chosen: unless the pattern is a
//! literal of few states, such an operator becomes a function, with the bound of [`growth`] for functions of patterns; where the pattern
//! turns out to be a literal of few states once constants are folded, it becomes the operator again, of which other rules know more.
//! Evidence: `LikeExpr::evaluate` and `regex_match_dyn` in datafusion-physical-expr 55.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Like, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal, binary};
use datafusion::physical_expr_common::datum::apply_cmp;

use crate::growth;

/// The function in the place of a pattern's operator, unless that is no trouble.
pub(crate) fn bounded(expr: Expr) -> Transformed<Expr> {
    let (operator, operands) = match expr {
        Expr::Like(like) if takes_backslash(&like) => {
            let operator = match (like.negated, like.case_insensitive) {
                (false, false) => Operator::LikeMatch,
                (false, true) => Operator::ILikeMatch,
                (true, false) => Operator::NotLikeMatch,
                (true, true) => Operator::NotILikeMatch,
            };
            (operator, vec![*like.expr, *like.pattern])
        }
        Expr::SimilarTo(like) if takes_backslash(&like) => {
            let operator = match (like.negated, like.case_insensitive) {
                (false, false) => Operator::RegexMatch,
                (false, true) => Operator::RegexIMatch,
                (true, false) => Operator::RegexNotMatch,
                (true, true) => Operator::RegexNotIMatch,
            };
            (operator, vec![*like.expr, *like.pattern])
        }
        Expr::BinaryExpr(binary) if is_one(binary.op) => (binary.op, vec![*binary.left, *binary.right]),
        other => return Transformed::no(other),
    };
    let matching = Matching {
        operator,
        signature: Signature::any(2, Volatility::Immutable),
    };
    if matching.is_no_trouble(&operands) {
        return Transformed::no(matching.as_operator(operands));
    }
    let call = ScalarFunction::new_udf(Arc::new(ScalarUDF::from(matching)), operands);
    growth::bounded(call)
}

/// Whether an operator's right side is a pattern.
pub(crate) fn is_one(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
            | Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch
    )
}

fn takes_backslash(like: &Like) -> bool {
    like.escape_char.is_none_or(|escape| escape == '\\')
}

/// Whether LIKE takes this pattern for a beginning, an end, a part or the whole of a text, which needs no regular expression.
pub(crate) fn is_plain_like(pattern: &str) -> bool {
    let inner = pattern.strip_prefix('%').unwrap_or(pattern);
    let inner = inner.strip_suffix('%').unwrap_or(inner);
    !inner.contains(['%', '_', '\\'])
}

/// `text operator pattern` as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matching {
    operator: Operator,
    signature: Signature,
}

impl Matching {
    fn is_like(&self) -> bool {
        matches!(
            self.operator,
            Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch
        )
    }

    fn is_no_trouble(&self, operands: &[Expr]) -> bool {
        match operands.get(1) {
            Some(Expr::Literal(value, _)) => match value.try_as_str() {
                Some(Some(pattern)) if self.is_like() => {
                    is_plain_like(pattern) || pattern.len() as u64 <= growth::FEW_STATES
                }
                Some(Some(pattern)) => growth::has_few_states(pattern),
                // NULL, or what other rules complain of.
                Some(None) | None => true,
            },
            Some(_) | None => false,
        }
    }

    fn as_operator(&self, operands: Vec<Expr>) -> Expr {
        let Ok([text, pattern]) = <[Expr; 2]>::try_from(operands) else {
            // Nobody makes a call of it with others.
            return Expr::Literal(datafusion::scalar::ScalarValue::Boolean(None), None);
        };
        if self.is_like() {
            let negated = matches!(self.operator, Operator::NotLikeMatch | Operator::NotILikeMatch);
            let case_insensitive = matches!(self.operator, Operator::ILikeMatch | Operator::NotILikeMatch);
            return Expr::Like(Like::new(
                negated,
                Box::new(text),
                Box::new(pattern),
                None,
                case_insensitive,
            ));
        }
        Expr::BinaryExpr(BinaryExpr::new(Box::new(text), self.operator, Box::new(pattern)))
    }
}

impl ScalarUDFImpl for Matching {
    /// As errors call it.
    fn name(&self) -> &str {
        match self.operator {
            Operator::LikeMatch | Operator::NotLikeMatch => "LIKE",
            Operator::ILikeMatch | Operator::NotILikeMatch => "ILIKE",
            _ => "a regular expression",
        }
    }

    /// That of the operator: columns are called as before.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.as_operator(args.to_vec()).schema_name().to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if args.arg_fields.len() != 2 {
            return plan_err!("{} takes a text and a pattern", self.name());
        }
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, pattern] = args.args.as_slice() else {
            return exec_err!("{} takes a text and a pattern", self.name());
        };
        if self.is_like() {
            return apply_cmp(self.operator, text, pattern);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let mut operand = |value: &ColumnarValue| -> Arc<dyn PhysicalExpr> {
            match value {
                ColumnarValue::Scalar(value) => Arc::new(Literal::new(value.clone())),
                ColumnarValue::Array(array) => {
                    let name = fields.len().to_string();
                    let column = Column::new(&name, fields.len());
                    fields.push(Field::new(name, array.data_type().clone(), true));
                    columns.push(Arc::clone(array));
                    Arc::new(column)
                }
            }
        };
        let (text, pattern) = (operand(text), operand(pattern));
        let has_arrays = !columns.is_empty();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(if has_arrays { args.number_rows } else { 1 }));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        binary(text, self.operator, pattern, &schema)?.evaluate(&batch)
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.is_no_trouble(&args) {
            true => ExprSimplifyResult::Simplified(self.as_operator(args)),
            false => ExprSimplifyResult::Original(args),
        })
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn only_patterns_of_one_piece_are_plain() {
        for (pattern, plain) in [
            ("", true),
            ("%", true),
            ("%%", true),
            ("abc", true),
            ("abc%", true),
            ("%abc", true),
            ("%abc%", true),
            ("a%c", false),
            ("a_c", false),
            ("%a%c%", false),
            (r"50\%", false),
        ] {
            assert_eq!(is_plain_like(pattern), plain, "{pattern}");
        }
    }

    #[test]
    fn a_row_of_too_much_work_is_refused() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT, p TEXT)",
            "INSERT INTO t SELECT 1, repeat('a', 1000000), repeat('%a', 10000) || 'b'",
        ]);
        for (operand, name) in [
            ("v LIKE p", "LIKE"),
            ("v ILIKE p", "LIKE"),
            ("v NOT LIKE p", "LIKE"),
            ("v LIKE repeat('%a', 10000) || 'b'", "LIKE"),
            ("repeat('a', 1000000) LIKE repeat('%a', 10000) || 'b'", "LIKE"),
            ("v SIMILAR TO p", "regular expression"),
            ("v ~ replace(p, '%', '.*')", "regular expression"),
            ("v !~* replace(p, '%', '.*')", "regular expression"),
            ("v ~ '(a{1,1000}){1,1000}b'", "regular expression"),
        ] {
            let sql = format!("SELECT count(*) FROM t WHERE {operand}");
            fixture.check_error_part(&sql, ErrorCode::StatementTooLarge, name);
        }
    }

    #[test]
    fn what_is_no_trouble_is_as_before() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT, p TEXT)",
            "INSERT INTO t VALUES (1, 'abcd', 'a%d'), (2, 'ABCD', 'a%d'), (3, 'x', NULL), (4, NULL, '%')",
        ]);
        let long = "abcdefghijklmnopqrstuvwxyz%abcdefghijklmnopqrstuvwxyz";
        for (condition, expected) in [
            ("v LIKE p".to_owned(), "true,false,NULL,NULL"),
            ("v ILIKE p".to_owned(), "true,true,NULL,NULL"),
            ("v NOT LIKE p".to_owned(), "false,true,NULL,NULL"),
            ("v NOT ILIKE p".to_owned(), "false,false,NULL,NULL"),
            ("v SIMILAR TO p".to_owned(), "true,false,NULL,NULL"),
            ("v NOT SIMILAR TO p".to_owned(), "false,true,NULL,NULL"),
            ("v ~ replace(p, '%', '.')".to_owned(), "false,false,NULL,NULL"),
            ("v ~* ('^a' || '.*d$')".to_owned(), "true,true,false,NULL"),
            ("v !~ replace(p, '%', '.*')".to_owned(), "false,true,NULL,NULL"),
            ("v !~* replace(p, '%', '.*')".to_owned(), "false,false,NULL,NULL"),
            ("v LIKE 'a' || '%'".to_owned(), "true,false,false,NULL"),
            (format!("v LIKE '{long}'"), "false,false,false,NULL"),
            (format!("v NOT LIKE '{long}'"), "true,true,true,NULL"),
            ("v LIKE NULL".to_owned(), "NULL,NULL,NULL,NULL"),
        ] {
            let sql = format!("SELECT string_agg(coalesce(({condition})::TEXT, 'NULL'), ',' ORDER BY id) FROM t");
            fixture.check(&sql, &[expected]);
        }
        // Folded, it is the operator again.
        let plan = fixture
            .rows("EXPLAIN SELECT id FROM t WHERE v LIKE 'a' || '%'")
            .join("\n");
        assert!(plan.contains("v@1 LIKE a%") || plan.contains("LIKE"), "{plan}");
    }
}
