//! `* REPLACE (expression AS column)`: DataFusion passes over a column that the tables do not have.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, SelectItem, SelectItemQualifiedWildcardKind as Kind, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use kalamdb_core::Error;

use crate::tree::walk_mut;

/// A statement that plans, as far as names go, just if every column to replace is there: its SELECTs read them, too. `None` if
/// there is none. It is not to be run.
pub(crate) fn reading(statement: &ast::Statement) -> Option<ast::Statement> {
    let mut reading = statement.clone();
    let mut selects = Selects { found: false };
    walk_mut(&mut reading, &mut selects).expect("this visitor does not break");
    selects.found.then_some(reading)
}

struct Selects {
    found: bool,
}

impl VisitorMut for Selects {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        for column in select.projection.iter().flat_map(replaced) {
            self.found = true;
            let read = Expr::IsNull(Box::new(column));
            select.selection = Some(match select.selection.take() {
                Some(condition) => Expr::BinaryOp {
                    left: Box::new(read),
                    op: BinaryOperator::And,
                    right: Box::new(Expr::Nested(Box::new(condition))),
                },
                None => read,
            });
        }
        ControlFlow::Continue(())
    }
}

fn replaced(item: &SelectItem) -> Vec<Expr> {
    let (table, options) = match item {
        SelectItem::Wildcard(options) => (None, options),
        SelectItem::QualifiedWildcard(Kind::ObjectName(table), options) => (Some(table), options),
        _ => return Vec::new(),
    };
    let path = table
        .into_iter()
        .flat_map(|table| &table.0)
        .filter_map(|part| part.as_ident());
    // The place of the column's name is the one to give.
    let path: Vec<ast::Ident> = path
        .map(|part| ast::Ident {
            span: Span::empty(),
            ..part.clone()
        })
        .collect();
    let items = options.opt_replace.iter().flat_map(|replace| &replace.items);
    let column = |item: &ast::ReplaceSelectElement| match path.as_slice() {
        [] => Expr::Identifier(item.column_name.clone()),
        path => {
            let path = path.iter().chain([&item.column_name]);
            Expr::CompoundIdentifier(path.cloned().collect())
        }
    };
    items.map(|item| column(item)).collect()
}
