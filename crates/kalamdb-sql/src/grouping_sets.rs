//! ROLLUP, CUBE and GROUPING SETS over expressions, which are computed once beneath.
//!
//! Problem: a rule that writes an expression otherwise (`d + 1`, where `d` is a date) gives it another name, and the columns of an
//! aggregate with grouping sets are found by the names of their expressions, which no alias keeps there: "column t.d + Int64(1) does not
//! exist". Chosen: in the plan that comes from the text such expressions become columns of a projection beneath, of the same names.
//! Evidence: `NamePreserver` of datafusion-expr 55 `expr_rewriter/mod.rs`, and `grouping_set_to_exprlist` of its `utils.rs`.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, Projection};

/// Makes columns of the expressions of the grouping sets in a plan.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn of_columns(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => over_columns(aggregate),
        other => Ok(Transformed::no(other)),
    })
}

fn over_columns(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_mut_slice() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let mut computed: Vec<(Expr, Expr)> = Vec::new();
    for expr in members(sets) {
        if matches!(expr, Expr::Column(_)) {
            continue;
        }
        let column = Expr::Column(Column::new_unqualified(expr.schema_name().to_string()));
        let written = std::mem::replace(expr, column.clone());
        if !computed.iter().any(|(known, _)| *known == written) {
            computed.push((written, column));
        }
    }
    if computed.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let own = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let added = computed.iter().map(|(written, column)| {
        let name = column.schema_name().to_string();
        written.clone().unalias().alias(name)
    });
    let input = Projection::try_new(own.chain(added).collect(), Arc::clone(&aggregate.input))?;
    // What GROUPING asks for is one of them, too.
    let aggr_expr = aggregate.aggr_expr.into_iter().map(|expr| {
        let name = expr.schema_name().to_string();
        let found = expr.transform_down(|expr| {
            Ok(match computed.iter().find(|(written, _)| *written == expr) {
                Some((_, column)) => Transformed::new(column.clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(expr),
            })
        })?;
        Ok(
            match found.transformed && found.data.schema_name().to_string() != name {
                true => found.data.alias(name),
                false => found.data,
            },
        )
    });
    let aggr_expr = aggr_expr.collect::<Result<Vec<Expr>>>()?;
    let input = Arc::new(LogicalPlan::Projection(input));
    let made = Aggregate::try_new(input, aggregate.group_expr, aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(made)))
}

fn members(sets: &mut GroupingSet) -> Box<dyn Iterator<Item = &mut Expr> + '_> {
    match sets {
        GroupingSet::Rollup(exprs) | GroupingSet::Cube(exprs) => Box::new(exprs.iter_mut()),
        GroupingSet::GroupingSets(sets) => Box::new(sets.iter_mut().flatten()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn expressions_are_grouped_by_as_columns_are() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, d DATE, n INT, h DOUBLE, iv INTERVAL)",
            "INSERT INTO t VALUES (1, '2024-01-01', 1, 0.5, INTERVAL '1 day'), (2, '2024-01-01', 2, -0.5, INTERVAL '24 hours'), \
             (3, '2024-02-01', 2, NULL, NULL)",
        ]);
        fixture.check(
            "SELECT d + 1, count(*) FROM t GROUP BY ROLLUP (d + 1) ORDER BY 1",
            &["2024-01-02|2", "2024-02-02|1", "NULL|3"],
        );
        fixture.check(
            "SELECT d + 1 AS d2, n % 2 AS m, sum(id), grouping(d + 1, n % 2) FROM t GROUP BY CUBE (d + 1, n % 2) ORDER BY 4, 1, 2",
            &[
                "2024-01-02|0|2|0", "2024-01-02|1|1|0", "2024-02-02|0|3|0", "2024-01-02|NULL|3|1", "2024-02-02|NULL|3|1",
                "NULL|0|5|2", "NULL|1|1|2", "NULL|NULL|6|3",
            ],
        );
        fixture.check(
            "SELECT date_trunc('month', d), -h, count(*) FROM t GROUP BY GROUPING SETS ((date_trunc('month', d)), (-h), ()) ORDER BY 1, 2, 3",
            &[
                "2024-01-01T00:00:00|NULL|2", "2024-02-01T00:00:00|NULL|1", "NULL|-0.5|1", "NULL|0.5|1", "NULL|NULL|1", "NULL|NULL|3",
            ],
        );
        fixture.check(
            "SELECT coalesce(iv, INTERVAL '2 hours') = INTERVAL '2 hours' AS x, count(*) FROM t \
             GROUP BY CUBE (coalesce(iv, INTERVAL '2 hours')) HAVING count(*) = 1 ORDER BY 1",
            &["false|1", "false|1", "true|1"],
        );
        fixture.check(
            "SELECT max(d + 1) FROM t GROUP BY ROLLUP (d + 1) ORDER BY 1 LIMIT 1",
            &["2024-01-02"],
        );
    }
}
