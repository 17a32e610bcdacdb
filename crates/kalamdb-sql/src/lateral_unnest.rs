//! `FROM t, unnest(t.tags) AS u (tag)`: lists of the tables on the left, taken apart beside their rows.
//!
//! Problem: DataFusion 55 plans it as a join with a subquery that reads the left side, and turns no such one into anything that runs.
//! Proper way: the list as a column of the left side, taken apart there. Chosen: that, in the plan that comes from the text. Evidence:
//! `rewrite_internal` of datafusion-optimizer 55 `decorrelate_lateral_join.rs`, which pulls conditions out of filters alone.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, NullHandling, ScalarValue, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::{
    EmptyRelation, Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias, Unnest,
};
use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::tree::walk_mut;

/// Writes `LATERAL unnest(…)` as `unnest(…)`, which may read what stands on its left by itself.
pub(crate) fn as_unnest(node: &mut impl VisitMut) {
    struct Factors;
    impl VisitorMut for Factors {
        type Break = Error;

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
            if let TableFactor::Function {
                lateral: true,
                name,
                args,
                with_ordinality: false,
                alias,
            } = factor
                && let [part] = name.0.as_slice()
                && part.as_ident().is_some_and(|part| folded(part) == "unnest")
            {
                let lists = args.iter().map(|arg| match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(list)) => Some(list.clone()),
                    _ => None,
                });
                if let Some(array_exprs) = lists.collect() {
                    *factor = TableFactor::UNNEST {
                        alias: alias.take(),
                        array_exprs,
                        with_offset: false,
                        with_offset_alias: None,
                        with_ordinality: false,
                    };
                }
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Factors).expect("this visitor does not break");
}

/// Takes apart on the left what such joins of a plan have on the right.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn joined(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) => match taken_apart(&join)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })
}

fn taken_apart(join: &Join) -> Result<Option<LogicalPlan>> {
    let handling = match join.join_type {
        JoinType::Inner => NullHandling::Drop,
        JoinType::Left => NullHandling::PreserveAndExpandEmpty,
        _ => return Ok(None),
    };
    let is_unconditional = join.on.is_empty()
        && join
            .filter
            .as_ref()
            .is_none_or(|filter| matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
    if join.join_type == JoinType::Left && !is_unconditional {
        return Ok(None);
    }
    let Some(lateral) = Lateral::of(&join.right) else {
        return Ok(None);
    };
    let Some(mut made) = lateral.beside(&join.left, handling)? else {
        return Ok(None);
    };
    if let Some(filter) = join.filter.as_ref().filter(|_| !is_unconditional) {
        made = LogicalPlanBuilder::from(made).filter(filter.clone())?.build()?;
    }
    Ok(Some(made))
}

/// A subquery that does nothing but take lists apart.
struct Lateral<'a> {
    relation: Option<&'a TableReference>,
    /// Its columns, computed of what the unnesting gives.
    columns: Vec<(String, Expr)>,
    unnest: &'a Unnest,
    lists: &'a Projection,
}

impl<'a> Lateral<'a> {
    fn of(right: &'a LogicalPlan) -> Option<Self> {
        let (relation, subquery) = match right {
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => (Some(alias), input.as_ref()),
            other => (None, other),
        };
        let LogicalPlan::Subquery(subquery) = subquery else {
            return None;
        };
        let mut plan = subquery.subquery.as_ref();
        let mut columns: Vec<(String, Expr)> = plan
            .schema()
            .columns()
            .into_iter()
            .map(|column| (column.name.clone(), Expr::Column(column)))
            .collect();
        loop {
            match plan {
                LogicalPlan::Projection(projection) => {
                    for (_, expr) in &mut columns {
                        *expr = computed(std::mem::take(expr), projection)?;
                    }
                    plan = &projection.input;
                }
                LogicalPlan::Unnest(unnest) => {
                    let LogicalPlan::Projection(lists) = unnest.input.as_ref() else {
                        return None;
                    };
                    let is_empty = matches!(
                        lists.input.as_ref(),
                        LogicalPlan::EmptyRelation(EmptyRelation {
                            produce_one_row: true,
                            ..
                        })
                    );
                    let are_lists = unnest.struct_type_columns.is_empty();
                    return (is_empty && are_lists).then_some(Lateral {
                        relation,
                        columns,
                        unnest,
                        lists,
                    });
                }
                _ => return None,
            }
        }
    }

    /// The left side's rows, each as often as its lists have elements; `None` if it reads anything else.
    fn beside(&self, left: &Arc<LogicalPlan>, handling: NullHandling) -> Result<Option<LogicalPlan>> {
        let own = || left.schema().columns().into_iter().map(Expr::Column);
        let mut lists = Vec::with_capacity(self.lists.expr.len());
        for list in &self.lists.expr {
            let of_left = list.clone().transform_up(|expr| {
                Ok(match expr {
                    Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                    other => Transformed::no(other),
                })
            })?;
            if !of_left
                .data
                .column_refs()
                .iter()
                .all(|column| left.schema().has_column(column))
            {
                return Ok(None);
            }
            let name = list.qualified_name().1;
            lists.push(of_left.data.unalias().alias(name));
        }
        let options = self.unnest.options.clone().with_null_handling(handling);
        let columns = self.columns.iter().map(|(name, expr)| match self.relation {
            Some(relation) => expr.clone().alias_qualified(Some(relation.clone()), name),
            None => expr.clone().alias(name),
        });
        let made = LogicalPlanBuilder::from(Arc::clone(left))
            .project(own().chain(lists))?
            .unnest_columns_with_options(self.unnest.exec_columns.clone(), options)?
            .project(own().chain(columns))?
            .build()?;
        Ok(Some(made))
    }
}

/// An expression over a projection, over what that reads.
fn computed(expr: Expr, projection: &Projection) -> Option<Expr> {
    let computed = expr.transform_up(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match projection.schema.maybe_index_of_column(column) {
                Some(index) => Transformed::yes(projection.expr[index].clone().unalias()),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    });
    computed.ok().map(|computed| computed.data) // This transformation does not fail.
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn lists_of_the_tables_on_the_left_are_taken_apart() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, tags TEXT[], ns INT[], tag TEXT)",
            "INSERT INTO t VALUES (1, ARRAY['a', 'b'], ARRAY[7], 'own'), (2, ARRAY['c'], ARRAY[8, 9], 'own'), (3, NULL, NULL, NULL)",
            "INSERT INTO t SELECT 4, array_remove(ARRAY['x'], 'x'), ARRAY[1], NULL",
        ]);
        let inner = ["1|a", "1|b", "2|c"];
        for from in [
            "t, unnest(t.tags) AS u (tag)",
            "t, unnest(tags) AS u (tag)",
            "t CROSS JOIN unnest(t.tags) AS u (tag)",
            "t, LATERAL unnest(t.tags) AS u (tag)",
            "t CROSS JOIN LATERAL unnest(t.tags) AS u (tag)",
            "t JOIN LATERAL unnest(t.tags) AS u (tag) ON true",
            "t JOIN unnest(t.tags) AS u (tag) ON u.tag <> 'z'",
            "(SELECT * FROM t) AS t, unnest(t.tags) AS u (tag)",
        ] {
            fixture.check(&format!("SELECT t.id, u.tag FROM {from} ORDER BY t.id, u.tag"), &inner);
        }
        fixture.check(
            "SELECT t.id, u.tag FROM t LEFT JOIN LATERAL unnest(t.tags) AS u (tag) ON true ORDER BY t.id, u.tag",
            &["1|a", "1|b", "2|c", "3|NULL", "4|NULL"],
        );
        fixture.check(
            "SELECT id, a.x, b.y FROM t, unnest(t.tags) AS a (x), unnest(t.ns) AS b (y) WHERE b.y > 7 ORDER BY id, x, y",
            &["2|c|8", "2|c|9"],
        );
        fixture.check(
            "SELECT u.tag, count(*) FROM t, unnest(t.tags) AS u (tag) GROUP BY u.tag HAVING count(*) > 0 ORDER BY 1 DESC LIMIT 1",
            &["c|1"],
        );
        fixture.check(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM unnest(ARRAY[2, 3]) AS u (n) WHERE u.n = t.id) ORDER BY id",
            &["2", "3"],
        );
        fixture.check(
            "SELECT a.id FROM t a JOIN t b ON a.id = b.id, unnest(b.ns) AS u (n) WHERE u.n = 9",
            &["2"],
        );
        fixture.check("SELECT n FROM unnest(ARRAY[1, 2]) AS u (n)", &["1", "2"]);
        fixture.check(
            "SELECT * FROM t, unnest(t.ns) AS u (n) WHERE id = 1",
            &["1|[a, b]|[7]|own|7"],
        );
        fixture.check_error_part(
            "SELECT 1 FROM t, unnest(t.id) AS u (n)",
            ErrorCode::InvalidStatement,
            "unnest",
        );
    }
}
