//! Walks over sqlparser's tree, compiled once for all visitors.
//!
//! The tree's own walk is generic over the visitor, and each instance of it is code for every node of the grammar, some
//! thousand functions. Visitors go through a pointer here instead, and stop with the one type of error.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use kalamdb_core::{Error, Result};

/// Walks over `node`; what the visitor breaks with is the error.
///
/// # Errors
/// Whatever the visitor breaks with.
pub(crate) fn walk(node: &impl Visit, visitor: &mut dyn Visitor<Break = Error>) -> Result<()> {
    result(node.visit(&mut Reading(visitor)))
}

/// [`walk`] for visitors that change the tree.
///
/// # Errors
/// Whatever the visitor breaks with.
pub(crate) fn walk_mut(node: &mut impl VisitMut, visitor: &mut dyn VisitorMut<Break = Error>) -> Result<()> {
    result(node.visit(&mut Changing(visitor)))
}

fn result(flow: ControlFlow<Error>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Reading<'a>(&'a mut dyn Visitor<Break = Error>);

struct Changing<'a>(&'a mut dyn VisitorMut<Break = Error>);

macro_rules! forward {
    ($($method:ident($node:ty)),* $(,)?) => {
        impl Visitor for Reading<'_> {
            type Break = Error;
            $(fn $method(&mut self, node: &$node) -> ControlFlow<Error> {
                self.0.$method(node)
            })*
        }

        impl VisitorMut for Changing<'_> {
            type Break = Error;
            $(fn $method(&mut self, node: &mut $node) -> ControlFlow<Error> {
                self.0.$method(node)
            })*
        }
    };
}

forward! {
    pre_visit_query(Query),
    post_visit_query(Query),
    pre_visit_select(Select),
    post_visit_select(Select),
    pre_visit_relation(ObjectName),
    post_visit_relation(ObjectName),
    pre_visit_table_factor(TableFactor),
    post_visit_table_factor(TableFactor),
    pre_visit_expr(Expr),
    post_visit_expr(Expr),
    pre_visit_statement(Statement),
    post_visit_statement(Statement),
    pre_visit_value(ValueWithSpan),
    post_visit_value(ValueWithSpan),
}
