//! Where columns of the query around it may be used in a subquery: refuses the places from which DataFusion would take them wrongly.
//!
//! Problem: what a subquery compares with columns of the query around it is compared after all the rest of it, whatever stands
//! between: a window counts other rows, a limit takes other rows, the inside of an outer join loses rows, an aggregate of all rows has
//! no row of none. DataFusion refuses some of this. Chosen: this rule refuses the rest. Evidence: `PullUpCorrelatedExpr` in
//! datafusion-optimizer 55, which passes such nodes over.

use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, Expr, Limit, LogicalPlan, Operator, Subquery};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::diagnostics::subqueries::CORRELATED;
use crate::one_row_subqueries::subquery_of;

/// The rule.
#[derive(Debug)]
pub(crate) struct CorrelatedPlaces;

impl AnalyzerRule for CorrelatedPlaces {
    fn name(&self) -> &str {
        "correlated_places"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|part| {
            part.apply_expressions(|expr| {
                expr.apply(|expr| check_expression(expr).map(|()| TreeNodeRecursion::Continue))
            })?;
            if let LogicalPlan::Join(join) = part {
                match join.right.as_ref() {
                    LogicalPlan::Subquery(subquery) => check(Kind::Lateral, subquery)?,
                    LogicalPlan::SubqueryAlias(alias) => {
                        if let LogicalPlan::Subquery(subquery) = alias.input.as_ref() {
                            check(Kind::Lateral, subquery)?;
                        }
                    }
                    _ => {}
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}

fn check_expression(expr: &Expr) -> Result<()> {
    let kind = match expr {
        Expr::ScalarSubquery(_) => Kind::Value,
        Expr::Exists(_) => Kind::Existence,
        Expr::InSubquery(_) | Expr::SetComparison(_) => Kind::Membership,
        _ => return Ok(()),
    };
    subquery_of(expr).map_or(Ok(()), |subquery| check(kind, subquery))
}

/// What a subquery is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Value,
    Existence,
    Membership,
    Lateral,
}

fn check(kind: Kind, subquery: &Subquery) -> Result<()> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(());
    }
    let mut places = Places {
        kind,
        seen: false,
        all_equal: true,
    };
    let top = Above {
        are_rows_alone: true,
        is_plain: true,
    };
    places.check(&subquery.subquery, top).map(|_| ())
}

/// What stands between the subquery and a part of it.
#[derive(Clone, Copy, Debug)]
struct Above {
    /// Nothing that is about which rows there are.
    are_rows_alone: bool,
    /// Projections and names alone.
    is_plain: bool,
}

struct Places {
    kind: Kind,
    /// Whether a comparison with the query around has been passed.
    seen: bool,
    /// Whether all of them are equalities of a column.
    all_equal: bool,
}

impl Places {
    /// Whether there is such a comparison in the plan. DataFusion, too, goes from the leaves up, and left before right.
    fn check(&mut self, plan: &LogicalPlan, above: Above) -> Result<bool> {
        let nothing = Above {
            are_rows_alone: false,
            is_plain: false,
        };
        let rows_alone = Above {
            is_plain: false,
            ..above
        };
        match plan {
            // It is taken apart by itself.
            LogicalPlan::Subquery(_) => Ok(false),
            LogicalPlan::Projection(projection) => self.check(&projection.input, above),
            LogicalPlan::SubqueryAlias(alias) => self.check(&alias.input, above),
            LogicalPlan::Sort(sort) => self.check(&sort.input, rows_alone),
            LogicalPlan::Filter(filter) => {
                let below = self.check(&filter.input, nothing)?;
                let outer = split_conjunction(&filter.predicate)
                    .into_iter()
                    .filter(|condition| condition.contains_outer());
                let mut any = false;
                for condition in outer {
                    any = true;
                    self.all_equal &= is_equality(condition);
                }
                self.seen |= any;
                Ok(any || below)
            }
            LogicalPlan::Limit(limit) => {
                let below = self.check(&limit.input, rows_alone)?;
                let is_kept = match below {
                    true => above.are_rows_alone && is_some_rows(limit),
                    false => !self.seen,
                };
                match self.kind {
                    Kind::Existence if !is_kept => {
                        refused("it may not stand beside or below LIMIT and OFFSET; write a JOIN with row_number()")
                    }
                    _ => Ok(below),
                }
            }
            LogicalPlan::Aggregate(aggregate) => {
                let is_of_all = aggregate.group_expr.is_empty();
                let below = self.check(&aggregate.input, nothing)?;
                let has_sets = aggregate
                    .group_expr
                    .iter()
                    .any(|expr| matches!(expr, Expr::GroupingSet(_)));
                if below && has_sets {
                    return refused("it may not stand below ROLLUP, CUBE and GROUPING SETS; write a JOIN");
                }
                let is_one_row = match self.kind {
                    Kind::Value | Kind::Lateral => above.is_plain,
                    Kind::Existence | Kind::Membership => false,
                };
                if is_of_all && below && !is_one_row {
                    return refused(
                        "the one row of an aggregate may not be joined, grouped or counted further in it; write a JOIN",
                    );
                }
                if is_of_all && !below && self.seen && self.kind == Kind::Lateral {
                    return refused("it may not join what it compares with an aggregate of all rows; write a JOIN");
                }
                if below && !is_of_all && aggregate.aggr_expr.is_empty() {
                    self.check_distinct()?;
                }
                Ok(below)
            }
            LogicalPlan::Distinct(distinct) => {
                let input = match distinct {
                    Distinct::All(input) => input,
                    Distinct::On(on) => &on.input,
                };
                let below = self.check(input, rows_alone)?;
                match distinct {
                    Distinct::On(_) if below && self.kind != Kind::Existence => self.check_equal()?,
                    _ if below => self.check_distinct()?,
                    _ => {}
                }
                Ok(below)
            }
            LogicalPlan::Window(window) => {
                let below = self.check(&window.input, rows_alone)?;
                match below {
                    true => refused("window functions may not count the rows that it chooses; write a JOIN"),
                    false => Ok(false),
                }
            }
            LogicalPlan::Join(join) => {
                let left = self.check(&join.left, nothing)?;
                let right = self.check(&join.right, nothing)?;
                let (keeps_left, keeps_right) = match join.join_type {
                    JoinType::Inner => (true, true),
                    JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
                    JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
                    JoinType::Full => (false, false),
                };
                match (left && !keeps_left) || (right && !keeps_right) {
                    true => refused("it may compare them in its WHERE, outside of its own outer joins; write a JOIN"),
                    false => Ok(left || right),
                }
            }
            other => {
                let mut below = false;
                for input in other.inputs() {
                    below |= self.check(input, nothing)?;
                }
                Ok(below)
            }
        }
    }

    /// Rows that are told apart by what is compared as well may be the same otherwise.
    fn check_distinct(&self) -> Result<()> {
        match self.kind {
            // There are as many as before, or more of the same.
            Kind::Existence | Kind::Membership => Ok(()),
            Kind::Value | Kind::Lateral => self.check_equal(),
        }
    }

    fn check_equal(&self) -> Result<()> {
        match self.all_equal {
            true => Ok(()),
            false => refused("below DISTINCT and GROUP BY it may compare columns for equality alone; write a JOIN")
                .map(|_| ()),
        }
    }
}

/// Whether a limit leaves rows where there are some.
fn is_some_rows(limit: &Limit) -> bool {
    let number = |expr: &Option<Box<Expr>>| match expr.as_deref() {
        None | Some(Expr::Literal(ScalarValue::Int64(None) | ScalarValue::Null, _)) => Some(None),
        Some(Expr::Literal(ScalarValue::Int64(Some(number)), _)) => Some(Some(*number)),
        // A parameter without its value.
        Some(_) => None,
    };
    let takes_some = number(&limit.fetch).flatten().is_none_or(|rows| rows > 0);
    let takes_first = number(&limit.skip).flatten().is_none_or(|rows| rows == 0);
    takes_some && takes_first
}

/// Whether a condition leaves, of each row around, exactly the rows of one value.
fn is_equality(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return false;
    };
    let is_inner = |expr: &Expr| !expr.contains_outer() && expr.any_column_refs();
    let is_outer = |expr: &Expr| !expr.any_column_refs();
    (is_inner(left) && is_outer(right)) || (is_outer(left) && is_inner(right))
}

fn refused(advice: &str) -> Result<bool> {
    let error = Error::new(ErrorCode::Unsupported, format!("{CORRELATED}: {advice}"));
    Err(DataFusionError::External(Box::new(error)))
}
