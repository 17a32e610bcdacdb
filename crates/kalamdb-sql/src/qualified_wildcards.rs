//! `t.*` where FROM names `n.t`: DataFusion knows the table by its whole name alone, PostgreSQL by its last part, too.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, SelectItemQualifiedWildcardKind as Kind, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::tree::walk_mut;

/// Completes the wildcards of all SELECTs.
pub(crate) fn complete(statement: &mut ast::Statement) {
    struct Selects;
    impl VisitorMut for Selects {
        type Break = Error;
        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
            let tables: Vec<ast::ObjectName> = select.from.iter().flat_map(tables).cloned().collect();
            complete_items(&mut select.projection, &tables);
            ControlFlow::Continue(())
        }
    }
    walk_mut(statement, &mut Selects).expect("this visitor does not break");
}

/// Completes the wildcards of a list, among tables by those names.
pub(crate) fn complete_items(items: &mut [ast::SelectItem], tables: &[ast::ObjectName]) {
    for item in items {
        let ast::SelectItem::QualifiedWildcard(Kind::ObjectName(name), _) = item else {
            continue;
        };
        let [written] = name.0.as_slice() else { continue };
        let Some(written) = written.as_ident().map(folded) else {
            continue;
        };
        let is_meant = |table: &&ast::ObjectName| {
            let last = table.0.last().and_then(ast::ObjectNamePart::as_ident);
            last.is_some_and(|last| folded(last) == written)
        };
        // Of two tables of that name none is meant.
        let mut meant = tables.iter().filter(is_meant);
        if let (Some(table), None) = (meant.next(), meant.next()) {
            *name = table.clone();
        }
    }
}

/// The tables that have no other name than their own.
fn tables(from: &ast::TableWithJoins) -> impl Iterator<Item = &ast::ObjectName> {
    let joined = from.joins.iter().map(|join| &join.relation);
    std::iter::once(&from.relation)
        .chain(joined)
        .filter_map(|relation| match relation {
            ast::TableFactor::Table { name, alias: None, .. } => Some(name),
            _ => None,
        })
}
