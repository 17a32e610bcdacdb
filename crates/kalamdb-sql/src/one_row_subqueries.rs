//! Subqueries of at most one row: aggregates of all rows that columns of the query around choose, with conditions on the result.
//!
//! Problem: DataFusion groups such an aggregate by what it is compared with, and gives where there is no group what it has of no
//! rows. It drops conditions on it that hold there (HAVING, an outer WHERE), and knows nothing of constants beside it, of DISTINCT and
//! of OFFSET. Chosen: the subquery becomes one projection of the aggregate. A condition becomes a CASE around the value, EXISTS the
//! condition itself, and EXISTS with OFFSET a comparison of a count. Evidence: `PullUpCorrelatedExpr` in datafusion-optimizer 55.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Spans};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, SubqueryAlias, binary_expr,
    lit, when,
};
use datafusion::scalar::ScalarValue;

use crate::subqueries_without_from;
use crate::subquery_values::{negated_if, rows_alone};

/// The largest expression that may come of putting one into another.
const MOST_PARTS: usize = 1_000;

/// Replaces the subqueries of a plan that are of one row.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn settled(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut names = 0;
    plan.transform_up_with_subqueries(|plan| {
        let plan = match plan {
            LogicalPlan::Join(join) => of_lateral(join, &mut names)?,
            other => Transformed::no(other),
        };
        plan.transform_data(of_expressions)
    })
}

fn of_expressions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let preserver = NamePreserver::new(&plan);
    let around = merge_schema(&plan.inputs());
    let settled = plan.map_expressions(|expr| {
        if !expr.exists(|part| Ok(subquery_of(part).is_some_and(is_correlated)))? {
            return Ok(Transformed::no(expr));
        }
        let name = preserver.save(&expr);
        let settled =
            expr.transform_up(|part| subqueries_without_from::replaced(part, &around)?.transform_data(of_subquery))?;
        Ok(match settled.transformed {
            true => settled.update_data(|expr| name.restore(expr)),
            false => settled,
        })
    })?;
    match settled.transformed {
        true => settled.map_data(LogicalPlan::recompute_schema),
        false => Ok(settled),
    }
}

/// The subquery that an expression is of.
pub(crate) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(membership) => Some(&membership.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery),
        _ => None,
    }
}

fn is_correlated(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty()
}

fn of_subquery(expr: Expr) -> Result<Transformed<Expr>> {
    if !subquery_of(&expr).is_some_and(is_correlated) {
        return Ok(Transformed::no(expr));
    }
    match expr {
        Expr::ScalarSubquery(subquery) => match OneRow::of(&subquery.subquery)? {
            Some(row) if row.is_of_one_column() && !row.is_settled(&subquery.subquery) => {
                Ok(Transformed::yes(row.value(&subquery)?))
            }
            _ => Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
        },
        Expr::Exists(exists) => of_existence(exists),
        Expr::InSubquery(membership) => match OneRow::of(&membership.subquery.subquery)? {
            Some(row) if row.is_of_one_column() => {
                let InSubquery {
                    expr,
                    subquery,
                    negated,
                } = membership;
                let compared = row.compared(*expr, Operator::Eq, &SetQuantifier::Any, &subquery)?;
                Ok(Transformed::yes(negated_if(negated, compared)))
            }
            _ => Ok(Transformed::no(Expr::InSubquery(membership))),
        },
        Expr::SetComparison(comparison) => match OneRow::of(&comparison.subquery.subquery)? {
            Some(row) if row.is_of_one_column() => {
                let SetComparison {
                    expr,
                    subquery,
                    op,
                    quantifier,
                } = comparison;
                Ok(Transformed::yes(row.compared(*expr, op, &quantifier, &subquery)?))
            }
            _ => Ok(Transformed::no(Expr::SetComparison(comparison))),
        },
        other => Ok(Transformed::no(other)),
    }
}

fn of_existence(exists: Exists) -> Result<Transformed<Expr>> {
    let rows = rows_alone(&exists.subquery.subquery);
    let truth = match OneRow::of(rows)? {
        Some(row) => match row.condition.clone() {
            None => lit(true),
            Some(condition) if !condition.any_column_refs() && !condition.contains_outer() => condition.is_true(),
            Some(condition) => {
                let found = row.present(condition.is_true()).alias("found");
                row.subquery(vec![found], &exists.subquery)?
            }
        },
        None => match rows {
            LogicalPlan::Limit(limit) => match (constant(&limit.skip), constant(&limit.fetch)) {
                (_, Some(Some(0))) => lit(false),
                (Some(skipped), Some(_)) => {
                    let number = count(lit(1_i64));
                    let name = number.schema_name().to_string();
                    let plan = LogicalPlanBuilder::from(rows_alone(&limit.input).clone())
                        .aggregate(Vec::<Expr>::new(), vec![number])?
                        .project(vec![
                            Expr::Column(Column::new_unqualified(name))
                                .gt(lit(skipped.unwrap_or_default()))
                                .alias("found"),
                        ])?
                        .build()?;
                    as_value(plan, &exists.subquery)
                }
                _ => return Ok(Transformed::no(Expr::Exists(exists))),
            },
            _ if has_order(&exists.subquery.subquery, rows) => {
                let rows = Arc::new(rows.clone());
                return Ok(Transformed::yes(Expr::Exists(Exists {
                    subquery: exists.subquery.with_plan(rows),
                    negated: exists.negated,
                })));
            }
            _ => return Ok(Transformed::no(Expr::Exists(exists))),
        },
    };
    Ok(Transformed::yes(negated_if(exists.negated, truth)))
}

/// Whether a plan sorts or limits, in whatever way, the rows that it is about.
fn has_order(plan: &LogicalPlan, rows: &LogicalPlan) -> bool {
    if std::ptr::eq(plan, rows) {
        return false;
    }
    match plan {
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_) => true,
        other => other.inputs().first().is_some_and(|input| has_order(input, rows)),
    }
}

/// The number that a LIMIT or OFFSET has, if it has one; `None` if that is not known yet.
fn constant(expr: &Option<Box<Expr>>) -> Option<Option<i64>> {
    match expr.as_deref() {
        None | Some(Expr::Literal(ScalarValue::Int64(None) | ScalarValue::Null, _)) => Some(None),
        Some(Expr::Literal(ScalarValue::Int64(Some(number)), _)) => Some(Some(*number)),
        Some(_) => None,
    }
}

fn as_value(plan: LogicalPlan, like: &Subquery) -> Expr {
    Expr::ScalarSubquery(Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns: like.outer_ref_columns.clone(),
        spans: Spans::new(),
    })
}

fn of_lateral(mut join: Join, names: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let (subquery, alias) = match join.right.as_ref() {
        LogicalPlan::Subquery(subquery) => (subquery, None),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => (subquery, Some(alias.clone())),
            _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
    };
    let row = match OneRow::of(&subquery.subquery)? {
        Some(row) if !row.is_settled(&subquery.subquery) => row,
        _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
    };
    let columns = LogicalPlan::Join(join.clone()).schema().columns();
    let mut exprs = row.outputs()?;
    let holds = row.condition.clone().map(|condition| {
        *names += 1;
        let name = format!("?holds {names}?");
        exprs.push(row.present(condition.is_true()).alias(&name));
        name
    });
    let plan = row.projected(exprs)?;
    let inner = LogicalPlan::Subquery(Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns: subquery.outer_ref_columns.clone(),
        spans: Spans::new(),
    });
    join.right = Arc::new(match &alias {
        Some(alias) => LogicalPlanBuilder::from(inner).alias(alias.clone())?.build()?,
        None => inner,
    });
    let Some(holds) = holds else {
        return Ok(Transformed::yes(LogicalPlan::Join(join).recompute_schema()?));
    };
    let holds = Expr::Column(Column::new(alias, holds));
    join.filter = Some(match join.filter.take() {
        Some(filter) => filter.and(holds),
        None => holds,
    });
    let joined = LogicalPlan::Join(join).recompute_schema()?;
    let own = columns.into_iter().map(Expr::Column);
    Ok(Transformed::yes(
        LogicalPlanBuilder::from(joined).project(own)?.build()?,
    ))
}

/// What a plan gives: the one row of an aggregate, if the condition holds.
struct OneRow {
    aggregate: Aggregate,
    /// Its columns, of those of the aggregate.
    columns: Vec<(Column, Expr)>,
    condition: Option<Expr>,
}

impl OneRow {
    /// `None` for another plan.
    fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        Ok(match plan {
            LogicalPlan::Aggregate(aggregate)
                if aggregate.group_expr.is_empty() && !aggregate.input.all_out_ref_exprs().is_empty() =>
            {
                let columns = plan.schema().columns().into_iter();
                Some(OneRow {
                    aggregate: aggregate.clone(),
                    columns: columns.map(|column| (column.clone(), Expr::Column(column))).collect(),
                    condition: None,
                })
            }
            LogicalPlan::Projection(projection) => match OneRow::of(&projection.input)? {
                Some(row) => row.of_projection(plan, &projection.expr)?,
                None => None,
            },
            LogicalPlan::Distinct(Distinct::On(distinct)) => match OneRow::of(&distinct.input)? {
                Some(row) => row.of_projection(plan, &distinct.select_expr)?,
                None => None,
            },
            LogicalPlan::SubqueryAlias(alias) => OneRow::of(&alias.input)?.map(|row| {
                let exprs = row.columns.into_iter().map(|(_, expr)| expr);
                OneRow {
                    columns: plan.schema().columns().into_iter().zip(exprs).collect(),
                    ..row
                }
            }),
            LogicalPlan::Filter(filter) => match OneRow::of(&filter.input)? {
                Some(row) => row
                    .substituted(&filter.predicate)?
                    .map(|predicate| row.with_condition(predicate)),
                None => None,
            },
            LogicalPlan::Distinct(Distinct::All(input)) => OneRow::of(input)?,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => OneRow::of(&sort.input)?,
            LogicalPlan::Limit(limit) => match (constant(&limit.skip), constant(&limit.fetch)) {
                (Some(skip), Some(fetch)) => {
                    OneRow::of(&limit.input)?.map(|row| match skip.unwrap_or_default() > 0 || fetch == Some(0) {
                        true => row.with_condition(lit(false)),
                        false => row,
                    })
                }
                _ => None,
            },
            _ => None,
        })
    }

    fn of_projection(self, plan: &LogicalPlan, exprs: &[Expr]) -> Result<Option<Self>> {
        let mut columns = Vec::with_capacity(exprs.len());
        for (column, expr) in plan.schema().columns().into_iter().zip(exprs) {
            match self.substituted(expr)? {
                Some(expr) => columns.push((column, expr)),
                None => return Ok(None),
            }
        }
        Ok(Some(OneRow { columns, ..self }))
    }

    fn with_condition(mut self, condition: Expr) -> Self {
        let never = lit(false);
        self.condition = Some(match self.condition.take() {
            Some(first) if first == never || condition == never => never,
            Some(first) => first.and(condition),
            None => condition,
        });
        self
    }

    /// An expression of the row's columns as one of the aggregate's; `None` if it may not be written elsewhere.
    fn substituted(&self, expr: &Expr) -> Result<Option<Expr>> {
        let is_fixed = |part: &Expr| Ok(part.is_volatile_node() || subquery_of(part).is_some_and(is_correlated));
        if expr.exists(is_fixed)? {
            return Ok(None);
        }
        let substituted = expr.clone().unalias_nested().data.transform_up(|part| {
            Ok(match &part {
                Expr::Column(column) => match self.columns.iter().find(|(known, _)| known == column) {
                    Some((_, expr)) => Transformed::yes(expr.clone()),
                    None => Transformed::no(part),
                },
                _ => Transformed::no(part),
            })
        })?;
        let mut parts = 0;
        substituted.data.apply(|_| {
            parts += 1;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok((parts <= MOST_PARTS).then_some(substituted.data))
    }

    fn is_of_one_column(&self) -> bool {
        self.columns.len() == 1
    }

    /// Whether DataFusion does right with the plan as it is.
    fn is_settled(&self, plan: &LogicalPlan) -> bool {
        let is_plain = match plan {
            LogicalPlan::Aggregate(_) => true,
            LogicalPlan::Projection(projection) => matches!(projection.input.as_ref(), LogicalPlan::Aggregate(_)),
            _ => false,
        };
        is_plain && self.condition.is_none() && self.columns.iter().all(|(_, expr)| stays_of_columns(expr))
    }

    /// The expression with a column in it: of a constant DataFusion would not know that there is one of no rows.
    fn present(&self, expr: Expr) -> Expr {
        if stays_of_columns(&expr) {
            return expr;
        }
        let is_present =
            Expr::Column(Column::new_unqualified(rows_counted().schema_name().to_string())).gt_eq(lit(0_i64));
        // Of one condition and one value there is always a CASE.
        when(is_present, expr.clone()).end().unwrap_or(expr)
    }

    fn outputs(&self) -> Result<Vec<Expr>> {
        Ok(self
            .columns
            .iter()
            .map(|(column, expr)| match expr {
                Expr::Column(own) if own == column => expr.clone(),
                _ => self
                    .present(expr.clone())
                    .alias_qualified(column.relation.clone(), &column.name),
            })
            .collect())
    }

    /// The aggregate with that made of it, counting its rows where the expressions ask for that.
    fn projected(&self, exprs: Vec<Expr>) -> Result<LogicalPlan> {
        let number = rows_counted();
        let name = Column::new_unqualified(number.schema_name().to_string());
        let mut aggregates = self.aggregate.aggr_expr.clone();
        let is_counted = exprs.iter().any(|expr| expr.column_refs().contains(&name));
        if is_counted && !aggregates.contains(&number) {
            aggregates.push(number);
        }
        LogicalPlanBuilder::from(self.aggregate.input.as_ref().clone())
            .aggregate(Vec::<Expr>::new(), aggregates)?
            .project(exprs)?
            .build()
    }

    fn subquery(&self, exprs: Vec<Expr>, like: &Subquery) -> Result<Expr> {
        Ok(as_value(self.projected(exprs)?, like))
    }

    /// The first column, NULL where there is no row.
    fn value(&self, like: &Subquery) -> Result<Expr> {
        let (column, expr) = &self.columns[0];
        let value = match &self.condition {
            None => self.present(expr.clone()),
            Some(condition) => {
                let holds = self.present(condition.clone().is_true());
                when(holds, self.present(expr.clone())).end()?
            }
        };
        self.subquery(vec![value.alias(&column.name)], like)
    }

    /// `expr` beside all that there is.
    fn compared(&self, expr: Expr, operator: Operator, quantifier: &SetQuantifier, like: &Subquery) -> Result<Expr> {
        let compared = binary_expr(expr, operator, self.value(like)?);
        let Some(condition) = &self.condition else {
            return Ok(compared);
        };
        let holds = self.present(condition.clone().is_true()).alias("found");
        let holds = self.subquery(vec![holds], like)?;
        Ok(match quantifier {
            SetQuantifier::Any => holds.and(compared),
            SetQuantifier::All => Expr::Not(Box::new(holds)).or(compared),
        })
    }
}

/// Whether the optimizer leaves a column in it, whatever it knows: `count(*) * 0`, `count(*) IS NULL` and `max(a) > 1 AND 1 = 0` become
/// constants.
fn stays_of_columns(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => stays_of_columns(&alias.expr),
        Expr::Cast(cast) => stays_of_columns(&cast.expr),
        Expr::Negative(inner) => stays_of_columns(inner),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            let is_number = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if !value.is_null());
            stays_of_columns(&binary.left) && is_number(&binary.right)
                || is_number(&binary.left) && stays_of_columns(&binary.right)
        }
        _ => false,
    }
}

fn rows_counted() -> Expr {
    count(lit(1_i64))
}
