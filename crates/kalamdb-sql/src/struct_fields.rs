//! `(value).field`, `list[1].field` and `list[:2]`: DataFusion's planner reads a field behind a dot in a path of names alone, and slices
//! that have both bounds.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, AccessExpr, Expr, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::tree::walk_mut;

/// Writes such fields as the planner takes them, as text, and gives slices the bounds that they leave out.
pub(crate) fn name_fields(node: &mut impl VisitMut) {
    struct Accesses;
    impl VisitorMut for Accesses {
        type Break = Error;
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            if let Expr::CompoundFieldAccess { root, access_chain } = expr {
                let is_path = matches!(root.as_ref(), Expr::Identifier(_));
                let names = |access: &AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
                let path = access_chain
                    .iter()
                    .take_while(|access| is_path && names(access))
                    .count();
                access_chain.iter_mut().skip(path).for_each(name_field);
                access_chain.iter_mut().for_each(bound_slice);
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Accesses).expect("this visitor does not break");
}

fn name_field(access: &mut AccessExpr) {
    if let AccessExpr::Dot(name) = access
        && let Expr::Identifier(field) = name
    {
        let text = ast::Value::SingleQuotedString(folded(field));
        *name = Expr::Value(text.with_span(field.span));
    }
}

fn bound_slice(access: &mut AccessExpr) {
    let AccessExpr::Subscript(ast::Subscript::Slice {
        lower_bound,
        upper_bound,
        stride: None,
    }) = access
    else {
        return;
    };
    let number = |text: &str| Expr::value(ast::Value::Number(text.to_owned(), false));
    lower_bound.get_or_insert_with(|| number("1"));
    // No list has as many elements; one that has fewer ends where it ends.
    upper_bound.get_or_insert_with(|| number("2147483647"));
}
