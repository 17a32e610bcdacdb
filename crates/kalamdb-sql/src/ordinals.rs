//! `ORDER BY 1` and `GROUP BY ROLLUP (2)`: numbers that mean columns of the select list.
//!
//! Problem: DataFusion 55 takes `ORDER BY 1` for the name of what the projection makes, which nothing beneath has where rows are
//! grouped: `SELECT upper(v), count(*) FROM t GROUP BY v ORDER BY 1` is refused. In ROLLUP, CUBE and GROUPING SETS a number is a constant to
//! it. Chosen: there the column's expression is written in the number's place. Evidence: `order_by_to_sort_expr` of datafusion-sql 55
//! `expr/order_by.rs`, and `resolve_positions_to_exprs` of its `utils.rs`.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::sql::sqlparser::ast::{self, Expr, Query, SelectItem, SetExpr, VisitMut, Visitor, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;
use kalamdb_core::{Error, ErrorCode, Result};

use crate::aggregate_places;
use crate::names::{folded, placed, position_of};
use crate::result_names::{column, makes_columns};
use crate::tree::{walk, walk_mut};

/// Writes such numbers as what they mean, where the planner does not know.
///
/// # Errors
/// INVALID_STATEMENT for a number that means no column, or in GROUP BY an aggregate.
pub(crate) fn as_expressions(node: &mut impl VisitMut, registry: &dyn FunctionRegistry) -> Result<()> {
    walk_mut(node, &mut Ordinals { registry })
}

struct Ordinals<'a> {
    registry: &'a dyn FunctionRegistry,
}

impl VisitorMut for Ordinals<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        match self.settle(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Ordinals<'_> {
    fn settle(&self, query: &mut Query) -> Result<()> {
        let Query { body, order_by, .. } = query;
        if let SetExpr::Select(select) = body.as_mut()
            && let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by
        {
            let list = List(&select.projection);
            for group in groups {
                self.group(list, group, Within::Plain)?;
            }
        }
        let Some(ast::OrderBy {
            kind: ast::OrderByKind::Expressions(keys),
            ..
        }) = order_by
        else {
            return Ok(());
        };
        let Some(select) = first_select(body) else {
            return Ok(());
        };
        let list = List(&select.projection);
        // What DISTINCT leaves has the columns of the list alone; there it helps to name them (`repeated_names`).
        let is_written_here =
            matches!(body.as_ref(), SetExpr::Select(_)) && select.distinct.is_none() && self.is_grouped(select);
        for key in keys {
            if let Some((number, span)) = ordinal(&key.expr)
                && let Some(item) = list.item("ORDER BY", number, span)?
                && is_written_here
                && let SelectItem::UnnamedExpr(expr) = item
                && column(expr).is_none()
                && ordinal(expr).is_none()
                && !list.has_alias_named_in(expr)
            {
                key.expr = expr.clone();
            }
        }
        Ok(())
    }

    /// Writes what numbers of a grouping set mean, and looks at those that the planner writes itself.
    fn group(&self, list: List<'_>, expr: &mut Expr, within: Within) -> Result<()> {
        match expr {
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                for member in sets.iter_mut().flatten() {
                    self.group(list, member, Within::Set)?;
                }
            }
            Expr::Tuple(members) if within == Within::Set => {
                for member in members {
                    self.group(list, member, within)?;
                }
            }
            Expr::Nested(inner) if within == Within::Set => self.group(list, inner, within)?,
            _ => {
                let Some((number, span)) = ordinal(expr) else {
                    return Ok(());
                };
                let Some(SelectItem::UnnamedExpr(meant) | SelectItem::ExprWithAlias { expr: meant, .. }) =
                    list.item("GROUP BY", number, span)?
                else {
                    return Ok(());
                };
                if aggregate_places::first(meant, self.registry).is_some() {
                    let message = format!("GROUP BY {number} is an aggregate, and groups are there before those");
                    let error = Error::new(ErrorCode::InvalidStatement, message);
                    return Err(placed(error, position_of(span)));
                }
                if within == Within::Set {
                    *expr = meant.clone();
                }
            }
        }
        Ok(())
    }

    fn is_grouped(&self, select: &ast::Select) -> bool {
        let has_groups = match &select.group_by {
            ast::GroupByExpr::All(_) => true,
            ast::GroupByExpr::Expressions(groups, _) => !groups.is_empty(),
        };
        let is_aggregate = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                aggregate_places::first(expr, self.registry).is_some()
            }
            _ => false,
        };
        has_groups || select.having.is_some() || select.projection.iter().any(is_aggregate)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Plain,
    Set,
}

/// A select list.
#[derive(Clone, Copy)]
struct List<'a>(&'a [SelectItem]);

impl<'a> List<'a> {
    /// The item that a number means; `None` behind one that stands for several columns.
    fn item(self, clause: &str, number: &str, span: Span) -> Result<Option<&'a SelectItem>> {
        let is_one = |item: &&SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => !makes_columns(expr),
            _ => false,
        };
        let items = self.0;
        let known = items.iter().take_while(is_one).count();
        let index = number.parse::<usize>().ok(); // What is no index is none of a column.
        let item = index.and_then(|index| index.checked_sub(1));
        match item.filter(|item| *item < known) {
            Some(item) => Ok(Some(&items[item])),
            None if item.is_some() && known < items.len() => Ok(None),
            None => {
                let error = match known < items.len() {
                    true => Error::new(
                        ErrorCode::InvalidStatement,
                        format!("{clause} {number} means no column: columns are counted from 1"),
                    ),
                    false => beyond(clause, number, &items.len().to_string()),
                };
                Err(placed(error, position_of(span)))
            }
        }
    }

    /// Whether the expression names what an alias is, which means that to ORDER BY.
    fn has_alias_named_in(self, expr: &Expr) -> bool {
        struct Names(HashSet<String>);
        impl Visitor for Names {
            type Break = Error;
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
                if let Expr::Identifier(name) = expr {
                    self.0.insert(folded(name));
                }
                ControlFlow::Continue(())
            }
        }
        let mut names = Names(HashSet::new());
        walk(expr, &mut names).expect("this visitor does not break");
        self.0.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => names.0.contains(&folded(alias)),
            _ => false,
        })
    }
}

/// What is said of a number beyond the columns.
pub(crate) fn beyond(clause: &str, number: &str, columns: &str) -> Error {
    let plural = if columns == "1" { "" } else { "s" };
    Error::new(
        ErrorCode::InvalidStatement,
        format!("{clause} {number} means no column: the select list has {columns} column{plural}"),
    )
}

/// The SELECT that names a query's columns; `None` where others have columns to add.
fn first_select(mut body: &SetExpr) -> Option<&ast::Select> {
    loop {
        body = match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(query) => &query.body,
            SetExpr::SetOperation {
                set_quantifier:
                    ast::SetQuantifier::ByName | ast::SetQuantifier::AllByName | ast::SetQuantifier::DistinctByName,
                ..
            } => return None,
            SetExpr::SetOperation { left, .. } => left,
            _ => return None,
        };
    }
}

/// A number in the place of a column.
pub(crate) fn ordinal(expr: &Expr) -> Option<(&str, Span)> {
    match expr {
        Expr::Value(ast::ValueWithSpan {
            value: ast::Value::Number(number, _),
            span,
        }) => Some((number, *span)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, v TEXT, n INT, g TEXT)",
            "INSERT INTO t VALUES (1, 'x', 1, 'p'), (2, 'y', 2, 'p'), (3, 'x', 2, 'q')",
        ]);
        fixture
    }

    #[test]
    fn a_number_means_a_computed_column_of_groups() {
        let fixture = fixture();
        for (sql, expected) in [
            (
                "SELECT upper(v), count(*) FROM t GROUP BY v ORDER BY 1 DESC",
                &["Y|1", "X|2"][..],
            ),
            (
                "SELECT n + 1, count(*) FROM t GROUP BY n ORDER BY 1 DESC, 2",
                &["3|2", "2|1"],
            ),
            (
                "SELECT sum(n) + 1, g FROM t GROUP BY g ORDER BY 1 DESC",
                &["4|p", "3|q"],
            ),
            ("SELECT sum(n) + 1 FROM t ORDER BY 1", &["6"]),
            (
                "SELECT DISTINCT upper(v), count(*) FROM t GROUP BY v ORDER BY 1 DESC",
                &["Y|1", "X|2"],
            ),
            (
                "SELECT x FROM (SELECT upper(v), count(*) FROM t GROUP BY v ORDER BY 1 LIMIT 1) AS q (x, n)",
                &["X"],
            ),
            (
                "SELECT upper(v), n AS v, count(*) FROM t GROUP BY t.v, n ORDER BY 2 DESC, t.v",
                &["X|2|1", "Y|2|1", "X|1|1"],
            ),
            (
                "SELECT n * 10, -n, g || 'x', 7 FROM t GROUP BY n, g ORDER BY 2, 3 DESC, 4",
                &["20|-2|qx|7", "20|-2|px|7", "10|-1|px|7"],
            ),
            (
                "SELECT (SELECT max(id) FROM t u WHERE u.g = t.g), count(*) FROM t GROUP BY g ORDER BY 1 DESC",
                &["3|1", "2|2"],
            ),
            (
                "SELECT g, rank() OVER (ORDER BY sum(n)) FROM t GROUP BY g ORDER BY 2 DESC",
                &["p|2", "q|1"],
            ),
            (
                "SELECT count(*), upper(v) FROM t GROUP BY ROLLUP (2) ORDER BY 2",
                &["2|X", "1|Y", "3|NULL"],
            ),
            (
                "SELECT g AS h, n, count(*) FROM t GROUP BY GROUPING SETS ((1, 2), (1), ()) ORDER BY 1, 2",
                &["p|1|1", "p|2|1", "p|NULL|2", "q|2|1", "q|NULL|1", "NULL|NULL|3"],
            ),
            (
                "SELECT 5, g, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2",
                &["5|p|2", "5|q|1"],
            ),
            (
                "SELECT upper(v) FROM t UNION SELECT g FROM t ORDER BY 1",
                &["X", "Y", "p", "q"],
            ),
        ] {
            fixture.check(sql, expected);
        }
    }

    #[test]
    fn a_union_by_name_has_the_columns_of_both() {
        let fixture = fixture();
        fixture.check(
            "SELECT 1 AS a UNION ALL BY NAME SELECT 2 AS b ORDER BY 2, 1",
            &["NULL|2", "1|NULL"],
        );
    }

    #[test]
    fn a_number_that_means_no_column_is_said_with_its_place() {
        let fixture = fixture();
        for (sql, column, part) in [
            (
                "SELECT upper(v) FROM t ORDER BY 3",
                33,
                "ORDER BY 3 means no column: the select list has 1 column",
            ),
            (
                "SELECT v, n FROM t ORDER BY 1, 0",
                32,
                "ORDER BY 0 means no column: the select list has 2 columns",
            ),
            (
                "SELECT v FROM t UNION SELECT g FROM t ORDER BY 2",
                48,
                "ORDER BY 2 means no column",
            ),
            ("SELECT v, count(*) FROM t GROUP BY 3", 36, "GROUP BY 3 means no column"),
            (
                "SELECT v, count(*) FROM t GROUP BY CUBE (1, 4)",
                45,
                "GROUP BY 4 means no column",
            ),
            (
                "SELECT v, count(*) FROM t GROUP BY 1, 2",
                39,
                "GROUP BY 2 is an aggregate",
            ),
            ("SELECT * FROM t ORDER BY 0", 26, "columns are counted from 1"),
            ("SELECT v FROM t ORDER BY 1.5", 26, "ORDER BY 1.5 means no column"),
        ] {
            fixture.check_error(sql, ErrorCode::InvalidStatement, Some((1, column)), part);
        }
        for (sql, column) in [
            ("SELECT *, 1 FROM t ORDER BY 9", 29),
            ("SELECT * FROM t UNION SELECT * FROM t ORDER BY n, 9", 51),
        ] {
            let part = "ORDER BY 9 means no column: the select list has";
            fixture.check_error(sql, ErrorCode::InvalidStatement, Some((1, column)), part);
        }
    }
}
