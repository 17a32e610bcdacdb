//! The one column that `USING (x)` and NATURAL make of two, where the left table's is not it: in a RIGHT or FULL join.
//!
//! Problem: DataFusion takes the left table's `x` for `x`, which is NULL in a row of the right table alone. Chosen: a RIGHT join is
//! written as a LEFT one with its sides exchanged, and a FULL one is refused, where a column may be the merged one: it is one of the
//! list, or any in a NATURAL join, without a table's name. `*` would have the columns in another order, and is refused. Evidence:
//! `normalize_with_schemas_and_ambiguity_check` of datafusion-common 55 `column.rs`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, JoinConstraint, JoinOperator, SelectItem, SetExpr, Spanned, TableFactor, TableWithJoins,
    Visitor, VisitorMut,
};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{folded, placed, position_of};
use crate::tree::{walk, walk_mut};

/// Exchanges the sides of such joins.
///
/// # Errors
/// UNSUPPORTED for those that this does not mend.
pub(crate) fn settle(statement: &mut ast::Statement) -> Result<()> {
    struct Queries;
    impl VisitorMut for Queries {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            let ordered = query.order_by.take();
            let settled = of_body(&mut query.body, ordered.as_ref());
            query.order_by = ordered;
            match settled {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }
    }
    walk_mut(statement, &mut Queries)
}

/// Writes `x` in a subquery as `a.x`, where its FROM is `a JOIN b USING (x)`.
///
/// Problem: where the query around has an `x`, too, DataFusion 55 takes that for the one of two of the subquery's own, before it looks
/// whether those are merged. Evidence: `sql_identifier_to_expr` of datafusion-sql 55 `expr/identifier.rs`.
pub(crate) fn name_in_subqueries(statement: &mut ast::Statement) {
    struct Subqueries {
        depth: usize,
    }
    impl VisitorMut for Subqueries {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            self.depth += 1;
            if self.depth > 1 {
                name_in_body(&mut query.body);
            }
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
    }
    walk_mut(statement, &mut Subqueries { depth: 0 }).expect("this visitor does not break");
}

fn name_in_body(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            // Another table of FROM may have the column, too.
            let [from] = select.from.as_slice() else { return };
            let merged = left_of_using(from);
            if merged.is_empty() {
                return;
            }
            let mut named = Naming { merged, queries: 0 };
            let ast::Select {
                projection,
                selection,
                group_by,
                having,
                ..
            } = select.as_mut();
            for part in projection.iter_mut() {
                walk_mut(part, &mut named).expect("this visitor does not break");
            }
            for part in selection.iter_mut().chain(having.iter_mut()) {
                walk_mut(part, &mut named).expect("this visitor does not break");
            }
            walk_mut(group_by, &mut named).expect("this visitor does not break");
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_in_body(left);
            name_in_body(right);
        }
        _ => {}
    }
}

/// The columns that USING merges, with the first table, as far as the text says that it has them.
fn left_of_using(from: &TableWithJoins) -> Vec<(String, Ident)> {
    let Some(first) = called(&from.relation) else {
        return Vec::new();
    };
    let mut merged: Vec<(String, Ident)> = Vec::new();
    for (index, join) in from.joins.iter().enumerate() {
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint) => constraint,
            // Of these the left one may be NULL, or there is no other.
            _ => return Vec::new(),
        };
        let by: Vec<String> = match constraint {
            JoinConstraint::Using(columns) => {
                let names = columns.iter().filter_map(|column| column.0.last()?.as_ident());
                names.map(folded).collect()
            }
            _ => Vec::new(),
        };
        match index {
            0 => merged = by.into_iter().map(|name| (name, first.clone())).collect(),
            // What is joined by another column may have one of that name.
            _ => merged.retain(|(name, _)| by.contains(name)),
        }
    }
    merged
}

/// What names the columns of a table in FROM.
fn called(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(alias.name.clone()),
            None => name.0.last().and_then(ast::ObjectNamePart::as_ident).cloned(),
        },
        TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    }
}

/// Names columns in a SELECT itself, not in queries of it.
struct Naming {
    merged: Vec<(String, Ident)>,
    queries: usize,
}

impl VisitorMut for Naming {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.queries == 0
            && let Expr::Identifier(name) = expr
            && let Some((_, table)) = self.merged.iter().find(|(merged, _)| *merged == folded(name))
        {
            *expr = Expr::CompoundIdentifier(vec![table.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}

fn of_body(body: &mut SetExpr, ordered: Option<&ast::OrderBy>) -> Result<()> {
    match body {
        SetExpr::Select(select) => of_select(select, ordered),
        // ORDER BY is of columns of the result.
        SetExpr::SetOperation { left, right, .. } => {
            of_body(left, None)?;
            of_body(right, None)
        }
        _ => Ok(()),
    }
}

fn of_select(select: &mut ast::Select, ordered: Option<&ast::OrderBy>) -> Result<()> {
    if !select.from.iter().any(has_merged) {
        return Ok(());
    }
    let mut named = Named::default();
    if let Some(ordered) = ordered {
        walk(ordered, &mut named)?;
        // It means a column of the result first.
        named.0.retain(|name| {
            !select.projection.iter().any(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => folded(alias) == *name,
                _ => false,
            })
        });
    }
    walk(&*select, &mut named)?;
    let has_wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_)));
    select
        .from
        .iter_mut()
        .try_for_each(|from| of_from(from, &named, has_wildcard))
}

/// Columns without a table's name.
#[derive(Default)]
struct Named(Vec<String>);

impl Visitor for Named {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        if let Expr::Identifier(name) = expr {
            self.0.push(folded(name));
        }
        ControlFlow::Continue(())
    }
}

/// The constraint of a join whose merged column is not the left one, and whether it is a FULL join.
fn merged(operator: &JoinOperator) -> Option<(&JoinConstraint, bool)> {
    let (constraint, is_full) = match operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (constraint, false),
        JoinOperator::FullOuter(constraint) => (constraint, true),
        _ => return None,
    };
    match constraint {
        JoinConstraint::Using(_) | JoinConstraint::Natural => Some((constraint, is_full)),
        JoinConstraint::On(_) | JoinConstraint::None => None,
    }
}

fn has_merged(from: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => has_merged(table_with_joins),
        _ => false,
    };
    nested(&from.relation)
        || from
            .joins
            .iter()
            .any(|join| merged(&join.join_operator).is_some() || nested(&join.relation))
}

fn of_from(from: &mut TableWithJoins, named: &Named, has_wildcard: bool) -> Result<()> {
    let nested = |factor: &mut TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => of_from(table_with_joins, named, has_wildcard),
        _ => Ok(()),
    };
    nested(&mut from.relation)?;
    let mut index = 0;
    while index < from.joins.len() {
        nested(&mut from.joins[index].relation)?;
        let later = &from.joins[index + 1..];
        let is_joined_by = later.iter().any(|join| is_by_name(&join.join_operator));
        let join = &from.joins[index];
        let Some((constraint, is_full)) = merged(&join.join_operator) else {
            index += 1;
            continue;
        };
        let is_named = is_joined_by
            || match constraint {
                JoinConstraint::Using(columns) => columns.iter().any(|column| {
                    let name = column.0.last().and_then(ast::ObjectNamePart::as_ident).map(folded);
                    name.is_some_and(|name| named.0.contains(&name))
                }),
                _ => !named.0.is_empty(),
            };
        if has_wildcard || is_named && is_full {
            return Err(refused(&join.relation, is_full));
        }
        if is_named {
            let constraint = constraint.clone();
            exchange(from, index, constraint);
            index = 0;
        }
        index += 1;
    }
    Ok(())
}

/// Whether columns of one name are what a join is by.
fn is_by_name(operator: &JoinOperator) -> bool {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => {
            matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
        }
        _ => false,
    }
}

/// Writes the RIGHT join at `index` as a LEFT one of its right table with all before.
fn exchange(from: &mut TableWithJoins, index: usize, constraint: JoinConstraint) {
    let mut joins = std::mem::take(&mut from.joins);
    let after = joins.split_off(index + 1);
    let Some(mut join) = joins.pop() else { return };
    let right = std::mem::replace(&mut join.relation, from.relation.clone());
    let left = std::mem::replace(&mut from.relation, right);
    join.relation = match joins.is_empty() {
        true => left,
        false => TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins { relation: left, joins }),
            alias: None,
        },
    };
    join.join_operator = JoinOperator::LeftOuter(constraint);
    from.joins = std::iter::once(join).chain(after).collect();
}

fn refused(relation: &TableFactor, is_full: bool) -> Error {
    let (join, hint) = match is_full {
        true => (
            "FULL",
            "write ON a.x = b.x, and coalesce(a.x, b.x) for the one column of both",
        ),
        false => ("RIGHT", "name the columns in the place of *, or write ON a.x = b.x"),
    };
    let message =
        format!("the columns that USING or NATURAL merge are not those of both tables in a {join} JOIN here; {hint}");
    placed(
        Error::new(ErrorCode::Unsupported, message),
        position_of(relation.span()),
    )
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn a_merged_column_is_the_subquerys_own() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
            "CREATE TABLE u (id INT PRIMARY KEY, b INT)",
            "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)",
            "INSERT INTO u VALUES (1, 5), (2, 6)",
        ]);
        for (sql, expected) in [
            (
                "SELECT id, (SELECT max(id) FROM u JOIN t AS t2 USING (id)) FROM t ORDER BY id",
                &["1|2", "2|2", "3|2"][..],
            ),
            (
                "SELECT id, (SELECT max(b) FROM u JOIN t AS t2 USING (id) WHERE id = t.id) FROM t ORDER BY id",
                &["1|5", "2|6", "3|NULL"],
            ),
            (
                "SELECT id FROM t WHERE id IN (SELECT id FROM u LEFT JOIN t AS t2 USING (id) GROUP BY id HAVING id > 1)",
                &["2"],
            ),
            (
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u JOIN t AS x USING (id) JOIN u AS y USING (id) WHERE id = t.id + 1)",
                &["1"],
            ),
            (
                "SELECT id, (SELECT max(id) FROM u RIGHT JOIN t AS t2 USING (id)) FROM t WHERE id = 1",
                &["1|3"],
            ),
        ] {
            fixture.check(sql, expected);
        }
        fixture.check_error_part(
            "SELECT id, (SELECT max(id) FROM u JOIN t AS x USING (id), t AS y) FROM t",
            ErrorCode::InvalidStatement,
            "is in more than one of the tables",
        );
    }
}
