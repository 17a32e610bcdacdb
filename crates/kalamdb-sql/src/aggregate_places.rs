//! Aggregates where no groups are: in WHERE, GROUP BY and ON, refused at their place.

use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::sql::sqlparser::ast::{self, Expr, Visit, Visitor};
use kalamdb_core::{Error, ErrorCode, Position, Result};

use crate::names::{folded, name_position, placed};
use crate::tree::walk;

/// Refuses such aggregates.
///
/// # Errors
/// INVALID_STATEMENT.
pub(crate) fn check(node: &impl Visit, registry: &dyn FunctionRegistry) -> Result<()> {
    walk(node, &mut Clauses { registry })
}

/// An aggregate in an expression itself, not in a query of it: how it is called, and where it stands.
pub(crate) fn first(expr: &Expr, registry: &dyn FunctionRegistry) -> Option<(String, Option<Position>)> {
    let mut aggregates = Aggregates {
        registry,
        queries: 0,
        found: None,
    };
    walk(expr, &mut aggregates).expect("this visitor does not break");
    aggregates.found
}

struct Aggregates<'a> {
    registry: &'a dyn FunctionRegistry,
    /// How many queries deep in the expression.
    queries: usize,
    found: Option<(String, Option<Position>)>,
}

impl Visitor for Aggregates<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        if self.queries == 0
            && self.found.is_none()
            && let Expr::Function(function) = expr
            && function.over.is_none()
            && let [name] = function.name.0.as_slice()
            && let Some(called) = name.as_ident().map(folded)
            && self.registry.udaf(&called).is_ok()
        {
            self.found = Some((called, name_position(&function.name)));
        }
        ControlFlow::Continue(())
    }
}

struct Clauses<'a> {
    registry: &'a dyn FunctionRegistry,
}

impl Clauses<'_> {
    fn refuse(&self, expr: &Expr, clause: &str, instead: &str) -> ControlFlow<Error> {
        match first(expr, self.registry) {
            Some((name, place)) => {
                let message = format!("{name} is an aggregate, and {clause} comes before there are groups{instead}");
                ControlFlow::Break(placed(Error::new(ErrorCode::InvalidStatement, message), place))
            }
            None => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Clauses<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Error> {
        if let Some(condition) = &select.selection {
            self.refuse(condition, "WHERE", "; write HAVING")?;
        }
        let joins = select.from.iter().flat_map(|from| &from.joins);
        for join in joins {
            if let Some(ast::JoinConstraint::On(condition)) = constraint(&join.join_operator) {
                self.refuse(condition, "ON", "; write HAVING")?;
            }
        }
        if let ast::GroupByExpr::Expressions(groups, _) = &select.group_by {
            for group in groups {
                self.refuse(group, "GROUP BY", "")?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn constraint(operator: &ast::JoinOperator) -> Option<&ast::JoinConstraint> {
    use ast::JoinOperator as Of;
    match operator {
        Of::Join(constraint)
        | Of::Inner(constraint)
        | Of::Left(constraint)
        | Of::LeftOuter(constraint)
        | Of::Right(constraint)
        | Of::RightOuter(constraint)
        | Of::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn aggregates_before_groups_are_refused_at_their_place() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
            "INSERT INTO t VALUES (1, 2)",
        ]);
        for (sql, column, part) in [
            (
                "SELECT id FROM t WHERE count(*) > 1",
                24,
                "count is an aggregate, and WHERE",
            ),
            ("SELECT id FROM t WHERE n > 0 AND 1 < sum(n)", 38, "write HAVING"),
            (
                "SELECT 1 FROM t GROUP BY id, max(n)",
                30,
                "max is an aggregate, and GROUP BY",
            ),
            ("SELECT 1 FROM t GROUP BY ROLLUP (max(n))", 34, "GROUP BY"),
            ("SELECT 1 FROM t JOIN t u ON count(*) = 1", 29, "and ON"),
            ("SELECT (SELECT 1 FROM t WHERE min(n) = 1)", 31, "min"),
            ("DELETE FROM t WHERE id = max(id)", 26, "max is an aggregate"),
        ] {
            fixture.check_error(sql, ErrorCode::InvalidStatement, Some((1, column)), part);
        }
        fixture.check("SELECT id FROM t WHERE n = (SELECT max(n) FROM t)", &["1"]);
        fixture.check("SELECT id FROM t WHERE EXISTS (SELECT sum(n) FROM t)", &["1"]);
    }
}
