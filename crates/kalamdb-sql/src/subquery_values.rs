//! EXISTS and IN with a subquery where a value stands: `SELECT id, EXISTS (SELECT 1 FROM u WHERE u.id = t.id) FROM t`.
//!
//! Problem: DataFusion turns them into joins in filters alone. Chosen: what [`rewritten`] leaves of them in a projection are
//! EXISTS with columns of the query around them, and [`Marks`] has DataFusion's own rule make joins of these, as if they stood in
//! a filter. An EXISTS without such columns becomes a comparison of a count. IN is NULL where a NULL decides, so it becomes up to
//! three EXISTS: of the rows that are equal, of those that are NULL, and of all.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Spans};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit, when,
};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

/// Replaces EXISTS and IN with a subquery in the projections of a plan.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn rewritten(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up_with_subqueries(|plan| {
        if !matches!(plan, LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| match expr {
                Expr::Exists(Exists { subquery, negated }) => {
                    let rows = rows_alone(&subquery.subquery).clone();
                    let found = exists(rows, subquery.outer_ref_columns)?;
                    Ok(Transformed::yes(negated_if(negated, found)))
                }
                Expr::InSubquery(membership) => of_membership(membership, &schema),
                other => Ok(Transformed::no(other)),
            })?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })
    })
}

/// DataFusion's rules with [`Marks`] among them.
pub(crate) fn before_predicates(
    mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let predicates = rules
        .iter()
        .position(|rule| rule.name() == "decorrelate_predicate_subquery");
    rules.insert(predicates.unwrap_or(0), Arc::new(Marks));
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
fn rows_alone(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Projection(projection) => rows_alone(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => rows_alone(&alias.input),
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

fn of_membership(membership: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let column = match membership
        .subquery
        .subquery
        .schema()
        .iter()
        .collect::<Vec<_>>()
        .as_slice()
    {
        [field] => Expr::Column(Column::from(*field)),
        // The planner says what is wrong.
        _ => return Ok(Transformed::no(Expr::InSubquery(membership))),
    };
    let is_plain = !membership.expr.is_volatile()
        && !membership.expr.exists(|part| {
            Ok(matches!(
                part,
                Expr::OuterReferenceColumn(..)
                    | Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
            ))
        })?;
    let Some(outside) = as_outer(&membership.expr, schema)?.filter(|_| is_plain) else {
        return Ok(Transformed::no(Expr::InSubquery(membership)));
    };
    let InSubquery {
        expr,
        subquery,
        negated,
    } = membership;
    let rows = || LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
    let outer = &subquery.outer_ref_columns;
    let mut outer_of_equal = outer.clone();
    for column in outer_columns(&outside)? {
        if !outer_of_equal.contains(&column) {
            outer_of_equal.push(column);
        }
    }
    let equal = exists(rows().filter(column.clone().eq(outside))?.build()?, outer_of_equal)?;
    let mut unknown = Vec::new();
    if expr.nullable(schema)? {
        let any = exists(rows_alone(&subquery.subquery).clone(), outer.clone())?;
        unknown.push((*expr).clone().is_null().and(any));
    }
    if subquery.subquery.schema().field(0).is_nullable() {
        unknown.push(exists(rows().filter(column.is_null())?.build()?, outer.clone())?);
    }
    let found = match unknown.into_iter().reduce(Expr::or) {
        None => equal,
        Some(unknown) => when(equal, lit(true))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(false))?,
    };
    Ok(Transformed::yes(negated_if(negated, found)))
}

fn negated_if(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::Not(Box::new(expr)),
        false => expr,
    }
}

/// Whether a subquery with those columns of the query around it has rows.
fn exists(rows: LogicalPlan, outer_ref_columns: Vec<Expr>) -> Result<Expr> {
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

/// An expression as a subquery of its own query sees it; `None` if a column in it is not found.
fn as_outer(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let mut is_known = true;
    let rewritten = expr.clone().transform_up(|part| {
        Ok(match part {
            Expr::Column(column) => match schema.field_from_column(&column) {
                Ok(field) => {
                    let field = Arc::clone(field);
                    Transformed::yes(Expr::OuterReferenceColumn(field, column))
                }
                Err(_) => {
                    is_known = false;
                    Transformed::no(Expr::Column(column))
                }
            },
            other => Transformed::no(other),
        })
    })?;
    Ok(is_known.then_some(rewritten.data))
}

fn outer_columns(expr: &Expr) -> Result<Vec<Expr>> {
    let mut found = Vec::new();
    expr.apply(|part| {
        if matches!(part, Expr::OuterReferenceColumn(..)) {
            found.push(part.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
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
