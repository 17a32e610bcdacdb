//! Subqueries without FROM that use columns of the query around them: `a NOT IN (SELECT b WHERE c > 2)`.
//!
//! Problem: DataFusion makes joins of subqueries that use such columns, and of one without FROM has no side to join: it refuses some
//! and panics at others. Chosen: of such a subquery, which is of one row or of none, the values are expressions of the query around:
//! `(SELECT b)` is `b`, with WHERE it is a CASE; IN and ANY are comparisons with it, EXISTS is the condition.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Subquery, binary_expr, lit, when,
};
use datafusion::scalar::ScalarValue;

use crate::one_row_subqueries::subquery_of;
use crate::subquery_values::negated_if;

/// The row of a subquery without FROM.
struct Row {
    /// `None` for several columns.
    value: Option<Expr>,
    /// There is no row where it is not true.
    condition: Option<Expr>,
}

/// The expression without such a subquery at its root, in a query whose relations have that schema.
///
/// # Errors
/// What reading the schema says.
pub(crate) fn replaced(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Some(subquery) = subquery_of(&expr) else {
        return Ok(Transformed::no(expr));
    };
    if subquery.outer_ref_columns.is_empty() {
        return Ok(Transformed::no(expr));
    }
    let Some(row) = Row::of(subquery, schema)? else {
        return Ok(Transformed::no(expr));
    };
    let Row { value, condition } = row;
    Ok(match (expr, value) {
        (Expr::Exists(exists), _) => {
            let found = condition.map_or_else(|| lit(true), Expr::is_true);
            Transformed::yes(negated_if(exists.negated, found))
        }
        (Expr::ScalarSubquery(_), Some(value)) => Transformed::yes(match condition {
            None => value,
            Some(condition) => {
                let none = ScalarValue::try_from(value.get_type(schema)?)?;
                when(condition, value).otherwise(lit(none))?
            }
        }),
        (Expr::InSubquery(InSubquery { expr, negated, .. }), Some(value)) => {
            let compared = binary_expr(*expr, Operator::Eq, value);
            Transformed::yes(negated_if(negated, of_rows(condition, compared, false)?))
        }
        (
            Expr::SetComparison(SetComparison {
                expr, op, quantifier, ..
            }),
            Some(value),
        ) => {
            let of_none = matches!(quantifier, SetQuantifier::All);
            Transformed::yes(of_rows(condition, binary_expr(*expr, op, value), of_none)?)
        }
        (other, _) => Transformed::no(other),
    })
}

/// What it is with a row, or else without one.
fn of_rows(condition: Option<Expr>, with: Expr, without: bool) -> Result<Expr> {
    match condition {
        None => Ok(with),
        Some(condition) => when(condition, with).otherwise(lit(without)),
    }
}

impl Row {
    fn of(subquery: &Subquery, schema: &DFSchema) -> Result<Option<Self>> {
        let LogicalPlan::Projection(projection) = top_projection(&subquery.subquery) else {
            return Ok(None);
        };
        let condition = match projection.input.as_ref() {
            LogicalPlan::Filter(filter) if is_one_row(&filter.input) => Some(&filter.predicate),
            plan if is_one_row(plan) => None,
            _ => return Ok(None),
        };
        let condition = match condition {
            None => None,
            Some(condition) => match around(condition, schema)? {
                None => return Ok(None),
                found => found,
            },
        };
        let value = match projection.expr.as_slice() {
            [value] => match around(value, schema)? {
                None => return Ok(None),
                found => found,
            },
            _ => None,
        };
        Ok(Some(Row { value, condition }))
    }
}

/// The projection below names and DISTINCT, which change nothing of one row.
fn top_projection(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => top_projection(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => top_projection(input),
        other => other,
    }
}

fn is_one_row(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row)
}

/// The expression as the query around has it; `None` where it must stay in a subquery of its own.
fn around(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let mut is_possible = !expr.is_volatile();
    let seen = expr.clone().unalias().transform_down(|part| {
        Ok(match part {
            Expr::OuterReferenceColumn(_, column) if schema.field_from_column(&column).is_ok() => {
                Transformed::yes(Expr::Column(column))
            }
            // What a query further out has stays what it is.
            other => {
                is_possible &= !matches!(other, Expr::WindowFunction(_) | Expr::Unnest(_));
                Transformed::no(other)
            }
        })
    })?;
    Ok(is_possible.then_some(seen.data))
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn they_are_values_of_the_query_around() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)",
            "INSERT INTO t VALUES (1, 1, 1), (2, 2, NULL), (3, 3, 4), (4, NULL, 4)",
        ]);
        for (condition, expected) in [
            ("id NOT IN (SELECT id)", &[] as &[&str]),
            ("id IN (SELECT id)", &["1", "2", "3", "4"]),
            ("a IN (SELECT b)", &["1"]),
            ("a NOT IN (SELECT b)", &["3"]),
            ("a NOT IN (SELECT b WHERE id > 2)", &["1", "2", "3"]),
            ("a IN (SELECT DISTINCT b WHERE id < 3)", &["1"]),
            ("NOT a IN (SELECT b) OR id = 1", &["1", "3"]),
            ("a < ALL (SELECT b)", &["3"]),
            ("a < ALL (SELECT b WHERE id < 3)", &["3", "4"]),
            ("a < ANY (SELECT b)", &["3"]),
            ("EXISTS (SELECT id)", &["1", "2", "3", "4"]),
            ("NOT EXISTS (SELECT id, a)", &[]),
            ("EXISTS (SELECT 1 WHERE b > 1)", &["3", "4"]),
            ("NOT EXISTS (SELECT 1 WHERE b > 1)", &["1", "2"]),
            ("(SELECT b) = 4", &["3", "4"]),
            ("(SELECT b + a WHERE id > 3) IS NULL", &["1", "2", "3", "4"]),
            (
                "EXISTS (SELECT 1 FROM t u WHERE u.id = t.id AND u.a IN (SELECT t.b))",
                &["1"],
            ),
            (
                "EXISTS (SELECT 1 FROM t u WHERE u.id = t.id AND u.a IN (SELECT u.b))",
                &["1"],
            ),
        ] {
            fixture.check(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"), expected);
            fixture.check(
                &format!("SELECT id FROM (SELECT id, ({condition}) AS found FROM t) AS q WHERE found ORDER BY id"),
                expected,
            );
            fixture.rows(&format!("EXPLAIN SELECT id FROM t WHERE {condition}"));
        }
        fixture.check(
            "SELECT id, CASE WHEN EXISTS (SELECT id) THEN 1 END, (SELECT b), a NOT IN (SELECT b) FROM t ORDER BY id",
            &["1|1|1|false", "2|1|NULL|NULL", "3|1|4|true", "4|1|4|NULL"],
        );
        fixture.run(&["UPDATE t SET a = 9 WHERE a NOT IN (SELECT b)"]);
        fixture.check("SELECT id FROM t WHERE a = 9", &["3"]);
        fixture.run(&["DELETE FROM t WHERE id NOT IN (SELECT id WHERE id > 1)"]);
        fixture.check("SELECT id FROM t ORDER BY id", &["2", "3", "4"]);
    }
}
