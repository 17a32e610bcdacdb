//! Text literals beside values that the planner compares with no text: they are values of the other side's type.
//!
//! Problem: DataFusion 55 asks for the type of a comparison in a select list before any rule sees it, and knows none of a BOOLEAN and
//! a text, nor of `IS DISTINCT FROM` between a UUID and a text, whose `=` it plans. Chosen: a text literal beside a BOOLEAN is read
//! when the comparison is planned, and `x IS DISTINCT FROM 'text'` is `(x = 'text') IS NOT TRUE`, which is the same as a literal is
//! not NULL. Evidence: `signature_inner` of datafusion-expr-common 55 `type_coercion/binary.rs`.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode};

use crate::tree::walk_mut;

/// Writes `IS [NOT] DISTINCT FROM` a text literal as `=`.
pub(crate) fn as_equality(node: &mut impl VisitMut) {
    struct Comparisons;
    impl VisitorMut for Comparisons {
        type Break = Error;
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            let (left, right, is_distinct) = match expr {
                ast::Expr::IsDistinctFrom(left, right) => (left, right, true),
                ast::Expr::IsNotDistinctFrom(left, right) => (left, right, false),
                _ => return ControlFlow::Continue(()),
            };
            if is_text(left) == is_text(right) {
                return ControlFlow::Continue(());
            }
            let [left, right] =
                [left, right].map(|side| std::mem::replace(side, Box::new(ast::Expr::value(ast::Value::Null))));
            let equality = ast::Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            };
            let equality = Box::new(ast::Expr::Nested(Box::new(equality)));
            *expr = match is_distinct {
                true => ast::Expr::IsNotTrue(equality),
                false => ast::Expr::IsTrue(equality),
            };
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Comparisons).expect("this visitor does not break");
}

fn is_text(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) => is_text(inner),
        ast::Expr::Value(value) => value.value.clone().into_string().is_some(),
        _ => false,
    }
}

/// Reads text literals beside BOOLEANs.
#[derive(Debug)]
pub(crate) struct TextBesideBoolean;

impl ExprPlanner for TextBesideBoolean {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if matches!(
            expr.op,
            BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
        ) {
            read(&expr.left, &mut expr.right, schema)?;
            read(&expr.right, &mut expr.left, schema)?;
        }
        Ok(PlannerResult::Original(expr))
    }
}

fn read(operand: &Expr, literal: &mut Expr, schema: &DFSchema) -> DataFusionResult<()> {
    let Expr::Literal(value, _) = literal else {
        return Ok(());
    };
    let Some(text) = value.try_as_str().flatten() else {
        return Ok(());
    };
    // What has no type here is for other rules to refuse.
    if operand
        .get_type(schema)
        .is_ok_and(|data_type| data_type == DataType::Boolean)
    {
        *literal = Expr::Literal(truth(text)?, None);
    }
    Ok(())
}

/// A text as the BOOLEAN that a column would take it for.
///
/// # Errors
/// TYPE_MISMATCH.
pub(crate) fn truth(text: &str) -> DataFusionResult<ScalarValue> {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let read = ScalarValue::try_from_array(&cast_with_options(&texts, &DataType::Boolean, &options)?, 0)?;
    if read.is_null() {
        let message = format!("'{text}' is not a BOOLEAN");
        let error = Error::new(ErrorCode::TypeMismatch, message);
        return Err(DataFusionError::External(Box::new(error)));
    }
    Ok(read)
}
