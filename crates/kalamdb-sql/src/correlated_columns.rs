//! Names for the columns that a subquery compares with those of the query around it: `WHERE a.id = f.id` of `FROM post p JOIN att a`.
//!
//! Problem: DataFusion takes such a comparison out of the subquery, gives the subquery one name for all its columns, and so knows
//! them by their last names: of two `id` it takes the first. It also takes a cast of a column for the column where it groups, and does not
//! take what is compared out of a derived table. Chosen: before that, a projection below the comparison gives what is compared a name
//! of its own wherever the column's is not the only one, and derived tables become projections. Evidence: `replace_qualified_name` and `can_pullup_over_aggregation` in datafusion-optimizer 55.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, SubqueryAlias,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use kalamdb_core::{Error, ErrorCode};

use crate::diagnostics::subqueries::CORRELATED;
use crate::one_row_subqueries::subquery_of;

/// The rule; it comes before those that make joins of subqueries.
#[derive(Debug)]
pub(crate) struct CorrelatedColumns;

impl OptimizerRule for CorrelatedColumns {
    fn name(&self) -> &str {
        "correlated_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Subquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let names = Names::of(&subquery.subquery)?;
                let plan = Arc::unwrap_or_clone(subquery.subquery);
                let named = plan.transform_up(|part| match part {
                    LogicalPlan::Filter(filter) => of_filter(filter, &names, config),
                    LogicalPlan::SubqueryAlias(alias)
                        if !matches!(alias.input.as_ref(), LogicalPlan::Subquery(_))
                            && !alias.input.all_out_ref_exprs().is_empty() =>
                    {
                        of_derived(alias)
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(named.update_data(|plan| {
                    LogicalPlan::Subquery(Subquery {
                        subquery: Arc::new(plan),
                        outer_ref_columns: subquery.outer_ref_columns,
                        spans: subquery.spans,
                    })
                }))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// What there is of names in a subquery.
struct Names {
    /// How many columns have one.
    counts: HashMap<String, usize>,
    /// Whether rows are grouped.
    has_groups: bool,
}

impl Names {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut names = Names {
            counts: HashMap::new(),
            has_groups: false,
        };
        plan.apply(|part| {
            names.has_groups |= matches!(part, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_));
            match part {
                LogicalPlan::Projection(projection) => {
                    let fields = projection.schema.fields().iter();
                    for (field, expr) in fields.zip(&projection.expr) {
                        if !matches!(expr, Expr::Column(_)) {
                            names.add(field.name());
                        }
                    }
                }
                // What is no projection has the columns of its inputs, and what it adds.
                _ => {
                    for (_, field) in part.schema().iter() {
                        let is_of_input = |input: &&LogicalPlan| {
                            input.schema().fields().iter().any(|known| known.name() == field.name())
                        };
                        if !part.inputs().iter().any(is_of_input) {
                            names.add(field.name());
                        }
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(names)
    }

    fn add(&mut self, name: &str) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    fn is_the_only_one(&self, column: &Column) -> bool {
        self.counts.get(&column.name).is_none_or(|count| *count == 1)
    }
}

fn of_filter(filter: Filter, names: &Names, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let (outer, own): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate.clone())
        .into_iter()
        .partition(Expr::contains_outer);
    let mut given = Given {
        names,
        config,
        named: Vec::new(),
        has_mark: false,
    };
    let mut changed = false;
    let mut compared = Vec::with_capacity(outer.len());
    for condition in outer {
        let condition = given.of_condition(condition)?;
        changed |= condition.transformed;
        compared.push(condition.data);
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let columns = filter.input.schema().columns();
    let all = || columns.iter().cloned().map(Expr::Column);
    let mut plan = LogicalPlanBuilder::from(filter.input.as_ref().clone());
    // First, so that what is named is computed of no other rows than before.
    if let Some(own) = conjunction(own) {
        plan = plan.filter(own)?;
    }
    if !given.named.is_empty() {
        let named = given.named.into_iter().map(|(expr, name)| expr.alias(name));
        plan = plan.project(all().chain(named).collect::<Vec<_>>())?;
    }
    if let Some(compared) = conjunction(compared) {
        plan = plan.filter(compared)?;
    }
    Ok(Transformed::yes(plan.project(all())?.build()?))
}

/// A derived table with comparisons in it, as a projection. DataFusion adds what they compare to projections, and to the columns of
/// a derived table not.
fn of_derived(alias: SubqueryAlias) -> Result<Transformed<LogicalPlan>> {
    let columns = alias.input.schema().columns().into_iter().zip(alias.schema.iter());
    let named = columns
        .map(|(column, (relation, field))| Expr::Column(column).alias_qualified(relation.cloned(), field.name()));
    let named = Projection::try_new(named.collect(), alias.input)?;
    Ok(Transformed::yes(LogicalPlan::Projection(named)))
}

struct Given<'a> {
    names: &'a Names,
    config: &'a dyn OptimizerConfig,
    /// What has been given which name.
    named: Vec<(Expr, String)>,
    /// Whether a condition has a mark of a subquery in it.
    has_mark: bool,
}

impl Given<'_> {
    /// A condition that has columns of the query around it.
    fn of_condition(&mut self, condition: Expr) -> Result<Transformed<Expr>> {
        let condition = match condition {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) if left == right => {
                // DataFusion would drop it, though it is not true of NULL.
                return Ok(Transformed::yes(left.is_not_null()));
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) if self.names.has_groups => {
                let left = self.of_operand(*left)?;
                let right = self.of_operand(*right)?;
                let changed = left.transformed || right.transformed;
                let equal = BinaryExpr::new(Box::new(left.data), Operator::Eq, Box::new(right.data));
                Transformed::new_transformed(Expr::BinaryExpr(equal), changed)
            }
            other => Transformed::no(other),
        };
        let rewritten = condition.data.transform_down(|part| match &part {
            Expr::Column(column) if !self.names.is_the_only_one(column) => Ok(Transformed::yes(self.name(part))),
            // DataFusion's marks of subqueries all have one name.
            Expr::Exists(_) => Ok(Transformed::yes(self.name(part))),
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                Ok(Transformed::yes(self.name(part)))
            }
            Expr::InSubquery(_) | Expr::SetComparison(_) if self.has_mark || self.names.counts.contains_key("mark") => {
                let message = format!(
                    "{CORRELATED}: several IN, ANY and ALL may not stand in conditions with them; write a JOIN"
                );
                Err(DataFusionError::External(Box::new(Error::new(
                    ErrorCode::Unsupported,
                    message,
                ))))
            }
            Expr::InSubquery(_) | Expr::SetComparison(_) => {
                self.has_mark = true;
                Ok(Transformed::no(part))
            }
            _ => Ok(Transformed::no(part)),
        })?;
        let changed = condition.transformed || rewritten.transformed;
        Ok(Transformed::new_transformed(rewritten.data, changed))
    }

    /// An operand of what may become a key to group by.
    fn of_operand(&mut self, operand: Expr) -> Result<Transformed<Expr>> {
        let is_computed = !matches!(operand, Expr::Column(_)) && operand.any_column_refs();
        let is_alone = !operand.contains_outer() && !operand.is_volatile();
        let has_subquery = operand.exists(|part| Ok(subquery_of(part).is_some()))?;
        Ok(match is_computed && is_alone && !has_subquery {
            true => Transformed::yes(self.name(operand)),
            false => Transformed::no(operand),
        })
    }

    fn name(&mut self, expr: Expr) -> Expr {
        let known = self.named.iter().find(|(named, _)| *named == expr);
        let name = match known {
            Some((_, name)) => name.clone(),
            None => {
                let name = self.config.alias_generator().next("?compared");
                self.named.push((expr, name.clone()));
                name
            }
        };
        Expr::Column(Column::new_unqualified(name))
    }
}
