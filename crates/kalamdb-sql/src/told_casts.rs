//! Casts that are told apart by their type, where DataFusion names an expression with and without a cast alike.
//!
//! `sum(i)` and `sum(i::BIGINT)` are two aggregates of one name, which a plan cannot have. A call around the cast gives it another one;
//! the simplifier takes the call away, and [`without_marks`] the difference between the names.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::first_span;
use crate::tree::walk_mut;

/// Around what a name has more than that of the value. No name that is written has it.
const MARK: char = '\u{1}';

/// Gives the casts in an expression, or several, names of their own; those in subqueries have theirs for themselves.
pub(crate) fn mark(node: &mut impl VisitMut) {
    struct Casts {
        queries: usize,
    }
    impl VisitorMut for Casts {
        type Break = Error;
        fn pre_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Error> {
            self.queries += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Error> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            if self.queries == 0
                && let ast::Expr::Cast {
                    expr: inner, data_type, ..
                } = expr
                && !matches!(inner.as_ref(), ast::Expr::Value(_))
            {
                let (data_type, span) = (data_type.to_string(), first_span(inner));
                let cast = std::mem::replace(expr, ast::Expr::value(ast::Value::Null));
                *expr = call(cast, data_type, span);
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Casts { queries: 0 }).expect("this visitor does not break");
}

fn call(cast: ast::Expr, data_type: String, span: datafusion::sql::sqlparser::tokenizer::Span) -> ast::Expr {
    let data_type = ast::Expr::value(ast::Value::SingleQuotedString(data_type));
    let unnamed = |argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::with_quote_and_span('"', span, ToldCast::NAME)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: [cast, data_type].map(unnamed).into(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A name as it is without [`mark`].
pub(crate) fn without_marks(name: &str) -> String {
    name.split(MARK).step_by(2).collect()
}

/// Its first argument, under a name that has the second one's text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ToldCast {
    signature: Signature,
}

impl ToldCast {
    const NAME: &str = "told cast";

    pub(crate) fn new() -> Self {
        ToldCast {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for ToldCast {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let [cast, data_type] = take_function_args(self.name(), args)?;
        Ok(format!("{}{MARK}{data_type}{MARK}", cast.schema_name()))
    }

    fn display_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let [cast, _] = take_function_args(self.name(), args)?;
        Ok(cast.to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        let [cast, _] = take_function_args(self.name(), arguments)?;
        Ok(cast.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let [cast, _] = take_function_args(self.name(), args.arg_fields)?;
        Ok(FieldRef::clone(cast))
    }

    fn simplify(&self, args: Vec<Expr>, _context: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        let [cast, _] = take_function_args(self.name(), args)?;
        Ok(ExprSimplifyResult::Simplified(cast))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [cast, _] = take_function_args(self.name(), args.args)?;
        Ok(cast)
    }
}
