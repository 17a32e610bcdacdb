//! FILTER, OVER and the like belong to aggregate and window functions: DataFusion's planner passes over them, and over whatever they
//! name, where the function is an ordinary one.

use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{folded, name_position, placed};
use crate::tree::walk;

/// Refuses such clauses of ordinary functions.
///
/// # Errors
/// INVALID_STATEMENT.
pub(crate) fn check(node: &impl Visit, registry: &dyn FunctionRegistry) -> Result<()> {
    walk(node, &mut Calls { registry })
}

struct Calls<'a> {
    registry: &'a dyn FunctionRegistry,
}

impl Visitor for Calls<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
        let ast::Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let (Some(clause), [name]) = (clause(function), function.name.0.as_slice()) else {
            return ControlFlow::Continue(());
        };
        let Some(name) = name.as_ident().map(folded) else {
            return ControlFlow::Continue(());
        };
        let is_ordinary = self.registry.udf(&name).is_ok()
            && self.registry.udaf(&name).is_err()
            && self.registry.udwf(&name).is_err();
        if !is_ordinary {
            return ControlFlow::Continue(());
        }
        let message = format!("{name} is no aggregate or window function, and takes no {clause}");
        let error = Error::new(ErrorCode::InvalidStatement, message);
        ControlFlow::Break(placed(error, name_position(&function.name)))
    }
}

/// What a call has that makes it one of an aggregate or window function.
fn clause(function: &ast::Function) -> Option<&'static str> {
    if function.over.is_some() {
        return Some("OVER");
    }
    if function.filter.is_some() {
        return Some("FILTER");
    }
    if !function.within_group.is_empty() {
        return Some("WITHIN GROUP");
    }
    if function.null_treatment.is_some() {
        return Some("IGNORE NULLS or RESPECT NULLS");
    }
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    if list.duplicate_treatment.is_some() {
        return Some("DISTINCT or ALL");
    }
    list.clauses.iter().find_map(|clause| match clause {
        ast::FunctionArgumentClause::OrderBy(_) => Some("ORDER BY"),
        ast::FunctionArgumentClause::IgnoreOrRespectNulls(_) => Some("IGNORE NULLS or RESPECT NULLS"),
        ast::FunctionArgumentClause::Limit(_) => Some("LIMIT"),
        ast::FunctionArgumentClause::Having(_) => Some("HAVING"),
        _ => None,
    })
}
