//! Forms of GROUP BY that DataFusion 55 does not plan, written as GROUPING SETS, which it does: ROLLUP and CUBE with equal members, with lists
//! and with numbers in them, or within GROUPING SETS; `()`; and HAVING without groups and aggregates.
//!
//! Evidence: `sql_rollup_to_expr` of datafusion-sql 55 `expr/grouping_set.rs` refuses lists, and a schema of two equal columns is refused
//! for `ROLLUP (a, a)`, where the equal members of a set are one.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::sql::sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, SelectItem, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::aggregate_places;
use crate::names::{first_span, folded, placed, position_of};
use crate::ordinals::ordinal;
use crate::tree::walk_mut;

/// As in PostgreSQL.
const MOST_SETS: usize = 4_096;

type Sets = Vec<Vec<Expr>>;

/// Writes such groups as sets.
///
/// # Errors
/// INVALID_STATEMENT for more sets than there may be.
pub(crate) fn as_sets(node: &mut impl VisitMut, registry: &dyn FunctionRegistry) -> Result<()> {
    walk_mut(node, &mut Groups { registry })
}

struct Groups<'a> {
    registry: &'a dyn FunctionRegistry,
}

impl VisitorMut for Groups<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        match self.settle(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Groups<'_> {
    fn settle(&self, select: &mut ast::Select) -> Result<()> {
        let is_one_group = select.having.is_some() && !self.has_aggregates(select);
        let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by else {
            return Ok(());
        };
        if groups.is_empty() {
            if is_one_group {
                groups.push(Expr::GroupingSets(vec![Vec::new()]));
            }
            return Ok(());
        }
        let is_nothing = |expr: &Expr| matches!(expr, Expr::Tuple(members) if members.is_empty());
        let had_nothing = groups.iter().any(is_nothing);
        groups.retain(|group| !is_nothing(group));
        if had_nothing && groups.is_empty() {
            groups.push(Expr::GroupingSets(vec![Vec::new()]));
        }
        for group in groups {
            let sets = match &*group {
                Expr::Rollup(members) if is_beyond(members) => rolled_up(members),
                Expr::Cube(members) if is_beyond(members) => cubed(members)?,
                Expr::GroupingSets(sets) if sets.iter().any(|set| call(set).is_some()) => nested(sets)?,
                _ => continue,
            };
            *group = Expr::GroupingSets(sets);
        }
        Ok(())
    }

    fn has_aggregates(&self, select: &ast::Select) -> bool {
        let is_aggregate = |expr: &Expr| aggregate_places::first(expr, self.registry).is_some();
        select.having.iter().any(is_aggregate)
            || select.projection.iter().any(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => is_aggregate(expr),
                _ => false,
            })
    }
}

/// Whether the members of a ROLLUP or CUBE are of those that DataFusion does not take. What a number means may be a member, too.
fn is_beyond(members: &Sets) -> bool {
    let mut seen = HashSet::new();
    members.iter().any(|member| match member.as_slice() {
        [expr] => matches!(expr, Expr::Tuple(_)) || ordinal(expr).is_some() || !seen.insert(name(expr)),
        _ => true,
    })
}

/// The same for two that may be equal, as `g` and `t.g` are.
fn name(expr: &Expr) -> String {
    match expr {
        Expr::Nested(inner) => name(inner),
        Expr::Identifier(name) => folded(name),
        Expr::CompoundIdentifier(parts) => parts.last().map_or_else(String::new, folded),
        other => other.to_string(),
    }
}

fn rolled_up(members: &[Vec<Expr>]) -> Sets {
    (0..=members.len()).rev().map(|end| flat(&members[..end])).collect()
}

fn cubed(members: &[Vec<Expr>]) -> Result<Sets> {
    let width = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let sets = 1_usize.checked_shl(width).unwrap_or(usize::MAX);
    check_number(sets, members.first().map(Vec::as_slice))?;
    let of = |left_out: usize| {
        let kept = members
            .iter()
            .enumerate()
            .filter(|(index, _)| left_out >> (members.len() - 1 - index) & 1 == 0);
        flat(&kept.map(|(_, member)| member.clone()).collect::<Sets>())
    };
    Ok((0..sets).map(of).collect())
}

/// The sets of GROUPING SETS in which ROLLUP and CUBE stand, which sqlparser reads as calls.
fn nested(sets: &[Vec<Expr>]) -> Result<Sets> {
    let mut all: Sets = Vec::new();
    for set in sets {
        match call(set) {
            Some((Form::Rollup, members)) => all.extend(rolled_up(&members)),
            Some((Form::Cube, members)) => all.extend(cubed(&members)?),
            None => all.push(set.clone()),
        }
        check_number(all.len(), Some(set))?;
    }
    Ok(all)
}

enum Form {
    Rollup,
    Cube,
}

/// `ROLLUP (…)` or `CUBE (…)` as a function.
fn call(set: &[Expr]) -> Option<(Form, Sets)> {
    let [Expr::Function(function)] = set else { return None };
    let [called] = function.name.0.as_slice() else {
        return None;
    };
    let form = match called
        .as_ident()
        .filter(|name| name.quote_style.is_none())
        .map(folded)?
        .as_str()
    {
        "rollup" => Form::Rollup,
        "cube" => Form::Cube,
        _ => return None,
    };
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let members = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(vec![expr.clone()]),
        _ => None,
    });
    Some((form, members.collect::<Option<Sets>>()?))
}

/// One set of those members, without lists in it.
fn flat(members: &[Vec<Expr>]) -> Vec<Expr> {
    let mut set = Vec::new();
    for expr in members.iter().flatten() {
        match expr {
            Expr::Tuple(listed) => set.extend(listed.iter().cloned()),
            other => set.push(other.clone()),
        }
    }
    set
}

fn check_number(sets: usize, first: Option<&[Expr]>) -> Result<()> {
    if sets <= MOST_SETS {
        return Ok(());
    }
    let message =
        format!("GROUP BY makes more than {MOST_SETS} sets here; write those that are needed as GROUPING SETS");
    let place = first
        .and_then(<[Expr]>::first)
        .and_then(|expr| position_of(first_span(expr)));
    Err(placed(Error::new(ErrorCode::InvalidStatement, message), place))
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, g TEXT, n INT, v TEXT)",
            "INSERT INTO t VALUES (1, 'p', 1, 'x'), (2, 'p', 2, 'y'), (3, 'q', 2, 'x')",
        ]);
        fixture
    }

    #[test]
    fn rollup_and_cube_take_equal_members_lists_and_numbers() {
        let fixture = fixture();
        for (sql, expected) in [
            (
                "SELECT g, count(*) FROM t GROUP BY ROLLUP (g, g) ORDER BY 1, 2",
                &["p|2", "p|2", "q|1", "q|1", "NULL|3"][..],
            ),
            (
                "SELECT n, count(*) FROM t GROUP BY ROLLUP (n, t.N) ORDER BY 1, 2",
                &["1|1", "1|1", "2|2", "2|2", "NULL|3"],
            ),
            (
                "SELECT n, count(*) FROM t GROUP BY CUBE (n, n) ORDER BY 1, 2",
                &["1|1", "1|1", "1|1", "2|2", "2|2", "2|2", "NULL|3"],
            ),
            (
                "SELECT g, count(*) FROM t GROUP BY ROLLUP (g, 1) ORDER BY 1, 2",
                &["p|2", "p|2", "q|1", "q|1", "NULL|3"],
            ),
            (
                "SELECT g, n, v, count(*) FROM t GROUP BY ROLLUP ((g, n), v) ORDER BY 1, 2, 3",
                &[
                    "p|1|x|1",
                    "p|1|NULL|1",
                    "p|2|y|1",
                    "p|2|NULL|1",
                    "q|2|x|1",
                    "q|2|NULL|1",
                    "NULL|NULL|NULL|3",
                ],
            ),
            (
                "SELECT g, n, grouping(g, n), count(*) FROM t GROUP BY CUBE (g, n, g) HAVING count(*) > 1 ORDER BY 1, 2, 3",
                &["p|NULL|1|2", "p|NULL|1|2", "p|NULL|1|2", "NULL|2|2|2", "NULL|NULL|3|3"],
            ),
            (
                "SELECT g, n, count(*) FROM t GROUP BY GROUPING SETS (ROLLUP (g, n), (n)) ORDER BY 1, 2",
                &[
                    "p|1|1",
                    "p|2|1",
                    "p|NULL|2",
                    "q|2|1",
                    "q|NULL|1",
                    "NULL|1|1",
                    "NULL|2|2",
                    "NULL|NULL|3",
                ],
            ),
            (
                "SELECT g, n, count(*) FROM t GROUP BY GROUPING SETS (CUBE (1), 2) ORDER BY 1, 2",
                &["p|NULL|2", "q|NULL|1", "NULL|1|1", "NULL|2|2", "NULL|NULL|3"],
            ),
        ] {
            fixture.check(sql, expected);
        }
        let members = vec!["n"; 13].join(", ");
        fixture.check_error(
            &format!("SELECT count(*) FROM t GROUP BY CUBE ({members})"),
            ErrorCode::InvalidStatement,
            Some((1, 39)),
            "more than 4096 sets",
        );
    }

    #[test]
    fn one_group_is_there_without_columns_and_without_rows() {
        let fixture = fixture();
        for (sql, expected) in [
            ("SELECT count(*) FROM t GROUP BY ()", &["3"][..]),
            ("SELECT 1 FROM t GROUP BY ()", &["1"]),
            ("SELECT count(*) FROM t WHERE false GROUP BY ()", &["0"]),
            ("SELECT g, count(*) FROM t GROUP BY g, () ORDER BY 1", &["p|2", "q|1"]),
            ("SELECT 1 FROM t HAVING true", &["1"]),
            ("SELECT 1 FROM t WHERE false HAVING 2 > 1", &["1"]),
            ("SELECT 1 FROM t HAVING false", &[]),
            ("SELECT count(*) FROM t HAVING true", &["3"]),
            ("SELECT (SELECT 7 FROM t HAVING true)", &["7"]),
        ] {
            fixture.check(sql, expected);
        }
        fixture.check_error(
            "SELECT id FROM t HAVING true",
            ErrorCode::InvalidStatement,
            Some((1, 8)),
            "GROUP BY",
        );
    }
}
