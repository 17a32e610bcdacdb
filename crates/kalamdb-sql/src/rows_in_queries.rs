//! `(a, b) IN (SELECT x, y …)` as a condition: written as EXISTS, which passes on the same rows.
//!
//! Problem: DataFusion 55 takes one column for IN. Proper way: a join on all of them. Chosen: what becomes that join, where only what
//! is true counts: a WHERE, through AND and OR. Elsewhere a NULL would tell the two apart, and such an IN is refused. Evidence:
//! `validate_single_column` in datafusion-sql 55's `expr/subquery.rs`.

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins,
};

use crate::row_comparisons::{is_row, length, taken};
use crate::values;

/// What nobody calls a table or column.
const ROWS: &str = "(rows)";

/// Writes them so in the WHERE of a SELECT.
pub(crate) fn as_exists(select: &mut Select) {
    if let Some(condition) = &mut select.selection {
        within(condition);
    }
}

fn within(condition: &mut Expr) {
    let mut open = vec![condition];
    while let Some(condition) = open.pop() {
        match condition {
            Expr::Nested(inner) => open.push(inner),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And | BinaryOperator::Or,
                right,
            } => open.extend([left.as_mut(), right.as_mut()]),
            Expr::InSubquery {
                expr: row,
                subquery,
                negated: false,
            } if is_row(row) && !matches!(subquery.body.as_ref(), SetExpr::Values(_)) => {
                let query = std::mem::replace(subquery, values::query(SetExpr::Select(Box::new(nothing()))));
                let row = taken(row);
                *condition = Expr::Exists {
                    subquery: matching(row, query),
                    negated: false,
                };
            }
            _ => {}
        }
    }
}

/// `SELECT 1 FROM (query) AS "(rows)" ("(1)", …) WHERE row = ("(rows)"."(1)", …)`.
fn matching(row: Expr, query: Box<Query>) -> Box<Query> {
    let name = |text: String| Ident::with_quote('"', text);
    let columns: Vec<Ident> = (1..=length(&row)).map(|number| name(format!("({number})"))).collect();
    let rows = TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: Some(TableAlias {
            explicit: true,
            name: name(ROWS.to_owned()),
            columns: columns
                .iter()
                .map(|name| TableAliasColumnDef {
                    name: name.clone(),
                    data_type: None,
                })
                .collect(),
            at: None,
        }),
        sample: None,
    };
    let elements = columns
        .into_iter()
        .map(|column| Expr::CompoundIdentifier(vec![name(ROWS.to_owned()), column]));
    let condition = Expr::BinaryOp {
        left: Box::new(row),
        op: BinaryOperator::Eq,
        right: Box::new(Expr::Tuple(elements.collect())),
    };
    let one = Expr::value(ast::Value::Number("1".to_owned(), false));
    let from = TableWithJoins {
        relation: rows,
        joins: Vec::new(),
    };
    values::query(SetExpr::Select(Box::new(values::select(
        vec![SelectItem::UnnamedExpr(one)],
        vec![from],
        Some(condition),
    ))))
}

fn nothing() -> Select {
    values::select(Vec::new(), Vec::new(), None)
}
