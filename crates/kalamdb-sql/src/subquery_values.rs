//! EXISTS and IN with a subquery where a value stands: `SELECT id, EXISTS (SELECT 1 FROM u WHERE u.id = t.id) FROM t`.
//!
//! Problem: DataFusion turns them into joins in filters alone. Chosen: what [`rewritten`] leaves of them in a projection are
//! EXISTS with columns of the query around them, and [`Marks`] has DataFusion's own rule make joins of these, as if they stood in
//! a filter. An EXISTS without such columns becomes a comparison of a count. What becomes of IN, there and in filters, is
//! [`memberships`]'. The conditions of a join that change by it become those of a filter of whatever side they are of.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Spans};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

use crate::correlated_columns::CorrelatedColumns;
use crate::memberships::{self, Outside};

/// Replaces subqueries in the projections, filters and joins of a plan.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn rewritten(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut names = 0;
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Projection(projection) => of_projection(projection, &mut names),
        LogicalPlan::Filter(filter) if has_subquery(&filter.predicate)? => of_filter(filter, &mut names),
        LogicalPlan::Join(join) => match &join.filter {
            Some(filter) if has_subquery(filter)? => of_join(join, &mut names),
            _ => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })
}

fn has_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
        ))
    })
}

fn of_projection(projection: Projection, names: &mut usize) -> Result<Transformed<LogicalPlan>> {
    if !projection
        .expr
        .iter()
        .map(has_subquery)
        .collect::<Result<Vec<_>>>()?
        .contains(&true)
    {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let schema = Arc::clone(projection.input.schema());
    let mut outside = Outside::new(&schema, names);
    let preserver = NamePreserver::new(&LogicalPlan::Projection(projection.clone()));
    let exprs = projection.expr.into_iter().map(|expr| {
        let name = preserver.save(&expr);
        let existing = expr.transform_up(|part| match part {
            Expr::Exists(Exists { subquery, negated }) => {
                let rows = rows_alone(&subquery.subquery).clone();
                let found = exists(rows, subquery.outer_ref_columns)?;
                Ok(Transformed::yes(negated_if(negated, found)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(name.restore(memberships::in_value(existing.data, &mut outside)?.data))
    });
    let exprs: Vec<Expr> = exprs.collect::<Result<_>>()?;
    let input = match outside.input(&projection.input)? {
        Some(input) => Arc::new(input),
        None => projection.input,
    };
    let projection = Projection::try_new(exprs, input)?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

fn of_filter(filter: Filter, names: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    let mut outside = Outside::new(&schema, names);
    let predicate = memberships::in_condition(filter.predicate, &mut outside)?;
    let filtered = |predicate: Expr, input| Filter::try_new(predicate, input).map(LogicalPlan::Filter);
    match outside.input(&filter.input)? {
        None => predicate.map_data(|predicate| filtered(predicate, filter.input)),
        Some(input) => {
            let all = filtered(predicate.data, Arc::new(input))?;
            let own = schema.columns().into_iter().map(Expr::Column);
            Ok(Transformed::yes(LogicalPlanBuilder::from(all).project(own)?.build()?))
        }
    }
}

fn of_join(mut join: Join, names: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let (mut of_left, mut of_right, mut of_both) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = Vec::new();
    for condition in join.filter.iter().cloned().flat_map(split_conjunction_owned) {
        if !has_subquery(&condition)? {
            rest.push(condition);
            continue;
        }
        let columns = columns_with_subqueries(&condition)?;
        let all_in = |plan: &LogicalPlan| columns.iter().all(|column| plan.schema().has_column(column));
        match join.join_type {
            JoinType::Inner | JoinType::Right if all_in(&join.left) => of_left.push(condition),
            JoinType::Inner | JoinType::Left if all_in(&join.right) => of_right.push(condition),
            JoinType::Inner => of_both.push(condition),
            _ => rest.push(condition),
        }
    }
    let mut filtered = |conditions: Vec<Expr>, input: Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        match conjunction(conditions) {
            None => Ok(input),
            Some(predicate) => Ok(Arc::new(of_filter(Filter::try_new(predicate, input)?, names)?.data)),
        }
    };
    let changed = !(of_left.is_empty() && of_right.is_empty() && of_both.is_empty());
    join.left = filtered(of_left, join.left)?;
    join.right = filtered(of_right, join.right)?;
    // An outer join of all pairs says so.
    join.filter = conjunction(rest).or_else(|| (join.join_type != JoinType::Inner).then(|| lit(true)));
    let joined = filtered(of_both, Arc::new(LogicalPlan::Join(join)))?;
    Ok(Transformed::new_transformed(Arc::unwrap_or_clone(joined), changed))
}

/// The columns that an expression reads, in subqueries too.
fn columns_with_subqueries(expr: &Expr) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    expr.apply(|part| {
        let subquery = match part {
            Expr::Column(column) => {
                columns.push(column.clone());
                return Ok(TreeNodeRecursion::Continue);
            }
            Expr::Exists(exists) => &exists.subquery,
            Expr::InSubquery(membership) => &membership.subquery,
            Expr::SetComparison(comparison) => &comparison.subquery,
            Expr::ScalarSubquery(subquery) => subquery,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        columns.extend(subquery.outer_ref_columns.iter().filter_map(|outer| match outer {
            Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
            _ => None,
        }));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

/// DataFusion's rules with [`CorrelatedColumns`] and [`Marks`] among them.
pub(crate) fn before_predicates(
    mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let predicates = rules
        .iter()
        .position(|rule| rule.name() == "decorrelate_predicate_subquery");
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 2] = [Arc::new(CorrelatedColumns), Arc::new(Marks)];
    let at = predicates.unwrap_or(0);
    rules.splice(at..at, ours);
    rules
}

/// Turns the EXISTS of projections into joins that mark rows.
#[derive(Debug)]
pub(crate) struct Marks;

impl OptimizerRule for Marks {
    fn name(&self) -> &str {
        "subquery_marks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let plan = plan
            .map_subqueries(|subquery| subquery.transform_down(|part| self.rewrite(part, config)))?
            .data;
        let LogicalPlan::Projection(projection) = plan else {
            return Ok(Transformed::no(plan));
        };
        let has_exists = |expr: &Expr| expr.exists(|part| Ok(matches!(part, Expr::Exists(_))));
        if !projection
            .expr
            .iter()
            .map(has_exists)
            .collect::<Result<Vec<_>>>()?
            .contains(&true)
        {
            return Ok(Transformed::no(LogicalPlan::Projection(projection)));
        }
        let plan = LogicalPlan::Projection(projection.clone());
        let names = NamePreserver::new(&plan);
        let mut input = Arc::unwrap_or_clone(projection.input);
        let exprs = projection.expr.into_iter().map(|expr| {
            let name = names.save(&expr);
            let marked = expr.transform_up(|part| match part {
                Expr::Exists(exists) => match marked(&input, exists, config)? {
                    Ok((joined, mark)) => {
                        input = joined;
                        Ok(Transformed::yes(mark))
                    }
                    Err(exists) => Ok(Transformed::no(Expr::Exists(exists))),
                },
                other => Ok(Transformed::no(other)),
            })?;
            Ok(name.restore(marked.data))
        });
        let exprs: Vec<Expr> = exprs.collect::<Result<_>>()?;
        let projection = Projection::try_new(exprs, Arc::new(input))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}

/// The input joined with the subquery, and the column that says whether that has rows; the EXISTS again if it is no join.
fn marked(
    input: &LogicalPlan,
    exists: Exists,
    config: &dyn OptimizerConfig,
) -> Result<std::result::Result<(LogicalPlan, Expr), Exists>> {
    // Inside of something else, it is a column of its own that the filter asks.
    let asked = Expr::IsTrue(Box::new(Expr::Exists(exists.clone())));
    let filter = Filter::try_new(asked, Arc::new(input.clone()))?;
    let rewritten = DecorrelatePredicateSubquery::new().rewrite(LogicalPlan::Filter(filter), config)?;
    if let LogicalPlan::Projection(outermost) = rewritten.data
        && let LogicalPlan::Filter(filter) = outermost.input.as_ref()
        && let Expr::IsTrue(mark) = &filter.predicate
        && !matches!(mark.as_ref(), Expr::Exists(_))
    {
        return Ok(Ok((filter.input.as_ref().clone(), mark.as_ref().clone())));
    }
    Ok(Err(exists))
}

/// The part of the plan that decides whether there are rows.
pub(crate) fn rows_alone(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Projection(projection) => rows_alone(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => rows_alone(&alias.input),
        LogicalPlan::Window(window) => rows_alone(&window.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => rows_alone(&sort.input),
        LogicalPlan::Limit(limit) => {
            let some = |expr: &Option<Box<Expr>>, holds: fn(i64) -> bool| match expr.as_deref() {
                None => true,
                Some(Expr::Literal(ScalarValue::Int64(Some(number)), _)) => holds(*number),
                Some(_) => false,
            };
            if some(&limit.fetch, |rows| rows > 0) && some(&limit.skip, |rows| rows == 0) {
                rows_alone(&limit.input)
            } else {
                plan
            }
        }
        _ => plan,
    }
}

pub(crate) fn negated_if(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::Not(Box::new(expr)),
        false => expr,
    }
}

/// Whether a subquery with those columns of the query around it has rows.
pub(crate) fn exists(rows: LogicalPlan, outer_ref_columns: Vec<Expr>) -> Result<Expr> {
    let subquery = |plan: LogicalPlan, outer_ref_columns| Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns,
        spans: Spans::new(),
    };
    if !outer_ref_columns.is_empty() {
        return Ok(Expr::Exists(Exists {
            subquery: subquery(rows, outer_ref_columns),
            negated: false,
        }));
    }
    let number = count(lit(1_i64));
    let name = number.schema_name().to_string();
    let counted = LogicalPlanBuilder::from(rows)
        .limit(0, Some(1))?
        .aggregate(Vec::<Expr>::new(), vec![number])?;
    let some = Expr::Column(Column::new_unqualified(name)).gt(lit(0_i64));
    let plan = counted.project(vec![some.alias("found")])?.build()?;
    Ok(Expr::ScalarSubquery(subquery(plan, Vec::new())))
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a INT, n INT NOT NULL)",
            "CREATE TABLE u (id BIGINT PRIMARY KEY, p BIGINT NOT NULL, v INT)",
            "INSERT INTO t VALUES (1, 10, 1), (2, 20, 2), (3, NULL, 3)",
            "INSERT INTO u VALUES (1, 1, 10), (2, 1, 11), (3, 2, NULL)",
        ]);
        fixture
    }

    #[test]
    fn exists_is_a_value() {
        let fixture = fixture();
        let check = |expr: &str, expected: &[&str]| {
            fixture.check(&format!("SELECT id, {expr} FROM t ORDER BY id"), expected);
        };
        check(
            "EXISTS (SELECT 1 FROM u WHERE u.p = t.id)",
            &["1|true", "2|true", "3|false"],
        );
        check(
            "NOT EXISTS (SELECT * FROM u WHERE u.p = t.id)",
            &["1|false", "2|false", "3|true"],
        );
        check(
            "EXISTS (SELECT v FROM u WHERE u.p = t.id AND v > 10 ORDER BY v LIMIT 1)",
            &["1|true", "2|false", "3|false"],
        );
        check(
            "EXISTS (SELECT 1 FROM u WHERE v > 100)",
            &["1|false", "2|false", "3|false"],
        );
        check("EXISTS (SELECT 1 FROM u)", &["1|true", "2|true", "3|true"]);
        check("EXISTS (SELECT 1 FROM u LIMIT 0)", &["1|false", "2|false", "3|false"]);
        check(
            "EXISTS (SELECT count(*) FROM u WHERE false)",
            &["1|true", "2|true", "3|true"],
        );
        check(
            "CASE WHEN EXISTS (SELECT 1 FROM u WHERE u.p = t.id) THEN 'some' ELSE 'none' END AS had",
            &["1|some", "2|some", "3|none"],
        );
        check(
            "EXISTS (SELECT 1 FROM u WHERE u.p = t.id AND EXISTS (SELECT 1 FROM t x WHERE x.a = u.v))",
            &["1|true", "2|false", "3|false"],
        );
        check(
            "EXISTS (SELECT 1 FROM u WHERE u.v > t.a), EXISTS (SELECT 1 FROM u WHERE u.p <> t.id AND u.v = t.a + 1)",
            &["1|true|false", "2|false|false", "3|false|false"],
        );
        fixture.check(
            "SELECT EXISTS (SELECT 1 FROM t) AS some, NOT EXISTS (SELECT 1 FROM t WHERE id = 9)",
            &["true|true"],
        );
        fixture.check(
            "SELECT t.id, count(*), EXISTS (SELECT 1 FROM u WHERE u.p = t.id AND v IS NULL) FROM t JOIN u ON u.p = t.id \
             GROUP BY t.id ORDER BY t.id",
            &["1|2|false", "2|1|true"],
        );
        fixture.check(
            "SELECT had, count(*) FROM (SELECT EXISTS (SELECT 1 FROM u WHERE u.p = t.id) AS had FROM t) GROUP BY had ORDER BY had",
            &["false|1", "true|2"],
        );
        fixture.run(&["CREATE VIEW w AS SELECT id, EXISTS (SELECT 1 FROM u WHERE u.p = t.id) AS had FROM t"]);
        fixture.check("SELECT * FROM w WHERE NOT had", &["3|false"]);
        fixture.run(&["UPDATE t SET n = CASE WHEN EXISTS (SELECT 1 FROM u WHERE u.p = t.id) THEN 7 ELSE 8 END"]);
        fixture.check("SELECT n FROM t ORDER BY id", &["7", "7", "8"]);
    }

    #[test]
    fn in_is_a_value_and_null_where_a_null_decides() {
        let fixture = fixture();
        let check = |expr: &str, expected: &[&str]| {
            fixture.check(&format!("SELECT id, {expr} FROM t ORDER BY id"), expected);
        };
        check("id IN (SELECT p FROM u)", &["1|true", "2|true", "3|false"]);
        check("n NOT IN (SELECT p FROM u)", &["1|false", "2|false", "3|true"]);
        check("a IN (SELECT v FROM u)", &["1|true", "2|NULL", "3|NULL"]);
        check("a NOT IN (SELECT v FROM u)", &["1|false", "2|NULL", "3|NULL"]);
        check(
            "a IN (SELECT v FROM u WHERE v IS NOT NULL)",
            &["1|true", "2|false", "3|NULL"],
        );
        check("a IN (SELECT v FROM u WHERE false)", &["1|false", "2|false", "3|false"]);
        check(
            "a IN (SELECT v FROM u WHERE u.p = t.id)",
            &["1|true", "2|NULL", "3|false"],
        );
        check(
            "a + 1 IN (SELECT v FROM u WHERE u.p = t.id)",
            &["1|true", "2|NULL", "3|false"],
        );
        check(
            "n IN (SELECT p FROM u WHERE u.v > t.a)",
            &["1|true", "2|false", "3|false"],
        );
        check(
            "(n IN (SELECT p FROM u) AND id NOT IN (SELECT id + 1 FROM u)) AS both",
            &["1|true", "2|false", "3|false"],
        );
        check("7 IN (SELECT p FROM u)", &["1|false", "2|false", "3|false"]);
        fixture.check(
            "SELECT 1 IN (SELECT p FROM u), NULL IN (SELECT p FROM u WHERE false)",
            &["true|false"],
        );
        fixture.check_error_part(
            "SELECT id IN (SELECT id, p FROM u) FROM t",
            ErrorCode::InvalidStatement,
            "2 columns",
        );
    }

    #[test]
    fn what_nests_is_bounded() {
        let fixture = fixture();
        let mut nested = "SELECT v FROM u".to_owned();
        for _ in 0..10 {
            nested = format!("SELECT CASE WHEN v IN ({nested}) THEN 1 END FROM u");
        }
        fixture.check_error_part(&nested, ErrorCode::StatementTooLarge, "parts");
    }

    #[test]
    fn a_subquery_as_a_value_may_be_null() {
        let fixture = fixture();
        fixture.check(
            "SELECT id, (SELECT a FROM (SELECT 1 AS a) WHERE a = t.id) AS one FROM t ORDER BY id",
            &["1|1", "2|NULL", "3|NULL"],
        );
        fixture.check("SELECT (SELECT n FROM t WHERE id = 9) AS none", &["NULL"]);
        fixture.run(&["CREATE VIEW w AS SELECT id, (SELECT a FROM (SELECT 1 AS a) WHERE a = t.id) AS one FROM t"]);
        fixture.check("SELECT one FROM w ORDER BY id", &["1", "NULL", "NULL"]);
    }
}
