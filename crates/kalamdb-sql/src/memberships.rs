//! IN, ANY and ALL with a subquery: `v NOT IN (SELECT w FROM b) OR id = 9`, `sal >= ALL (SELECT sal FROM em)`.
//!
//! Problem: DataFusion knows true and false of them where they are not one of a filter's conditions by themselves, and takes a
//! column of the query around for the subquery's where both have one qualified name. Chosen: they become up to three EXISTS, since
//! they are NULL where a NULL decides: of the rows that decide, of those that are NULL, and of all; a column of the query around
//! whose name the subquery has gets another one below, in a projection, as does a value that is itself of a subquery, and what is
//! computed for a NOT IN: DataFusion asks its columns alone whether it may be NULL, and where it comes to a constant makes a
//! condition on the subquery's rows of the join's, which drops the NULLs among them. Left to DataFusion, whose joins they are, are IN where NULL
//! counts as false, and NOT IN as a condition by itself whose subquery stands alone. Evidence: `mark_join` of datafusion-optimizer
//! 55 `decorrelate_predicate_subquery.rs`, `build_set_comparison_subquery` of its `rewrite_set_comparison.rs`.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit, when,
};
use datafusion::scalar::ScalarValue;

use crate::subquery_values::{exists, negated_if, rows_alone};
use crate::written_columns;

/// The query around subqueries, as their memberships become something else.
pub(crate) struct Outside<'a> {
    schema: &'a DFSchema,
    /// Counts the names that are given, so that no two are the same in a statement.
    names: &'a mut usize,
    /// Columns and other values with the names that subqueries know them by.
    renamed: Vec<(Expr, String)>,
}

impl<'a> Outside<'a> {
    pub(crate) fn new(schema: &'a DFSchema, names: &'a mut usize) -> Self {
        Outside {
            schema,
            names,
            renamed: Vec::new(),
        }
    }

    /// The input with the renamed columns as further ones; `None` if there are none.
    ///
    /// # Errors
    /// What building the projection says.
    pub(crate) fn input(self, input: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        if self.renamed.is_empty() {
            return Ok(None);
        }
        let own = input.schema().columns().into_iter().map(Expr::Column);
        let renamed = self.renamed.into_iter().map(|(expr, name)| expr.alias(name));
        let projected = LogicalPlanBuilder::from(input.clone()).project(own.chain(renamed))?;
        Ok(Some(projected.build()?))
    }

    /// An expression as a subquery sees it; `None` if a column in it is not found.
    fn seen_by(&mut self, expr: &Expr, subquery: &LogicalPlan) -> Result<Option<Expr>> {
        let mut is_known = true;
        let seen = expr.clone().transform_up(|part| {
            let Expr::Column(column) = part else {
                return Ok(Transformed::no(part));
            };
            let Ok(field) = self.schema.field_from_column(&column) else {
                is_known = false;
                return Ok(Transformed::no(Expr::Column(column)));
            };
            let field = Arc::clone(field);
            let column = match has_name(subquery, &column)? {
                true => Column::new_unqualified(self.name(Expr::Column(column))),
                false => column,
            };
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        })?;
        Ok(is_known.then_some(seen.data))
    }

    fn name(&mut self, expr: Expr) -> String {
        if let Some((_, name)) = self.renamed.iter().find(|(renamed, _)| *renamed == expr) {
            return name.clone();
        }
        *self.names += 1;
        let name = format!("?outer {}?", self.names);
        self.renamed.push((expr, name.clone()));
        name
    }
}

/// Whether a part of the plan has a column of that name, with whatever namespace before the table's.
fn has_name(plan: &LogicalPlan, column: &Column) -> Result<bool> {
    let table = column.relation.as_ref().map(TableReference::table);
    plan.exists(|part| {
        Ok(part.schema().iter().any(|(qualifier, field)| {
            *field.name() == column.name && (table.is_none() || qualifier.map(TableReference::table) == table)
        }))
    })
}

/// `expr IN (subquery)`, `expr operator ANY (subquery)` or `expr operator ALL (subquery)`.
struct Membership {
    expr: Expr,
    operator: Operator,
    quantifier: SetQuantifier,
    subquery: Subquery,
    /// Of NOT IN.
    negated: bool,
    /// Whether it is written as IN.
    is_in: bool,
}

/// What a truth value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// False and NULL are two things.
    Value,
    /// NULL counts as false.
    Truth,
    /// The same, as a condition of a filter by itself.
    Condition,
}

impl Membership {
    fn of(expr: Expr) -> std::result::Result<Self, Expr> {
        match expr {
            Expr::InSubquery(InSubquery {
                expr,
                subquery,
                negated,
            }) => Ok(Membership {
                expr: *expr,
                operator: Operator::Eq,
                quantifier: SetQuantifier::Any,
                subquery,
                negated,
                is_in: true,
            }),
            Expr::SetComparison(SetComparison {
                expr,
                subquery,
                op: operator,
                quantifier,
            }) => Ok(Membership {
                expr: *expr,
                operator,
                quantifier,
                subquery,
                negated: false,
                is_in: false,
            }),
            other => Err(other),
        }
    }

    /// As IN or NOT IN, if that is what it means.
    fn as_in(&self) -> Option<bool> {
        match (&self.quantifier, self.operator) {
            (SetQuantifier::Any, Operator::Eq) => Some(self.negated),
            (SetQuantifier::All, Operator::NotEq) => Some(!self.negated),
            _ => None,
        }
    }

    /// Whether DataFusion's join is right.
    fn is_joined_well(&self, wanted: Use) -> bool {
        match (self.as_in(), wanted) {
            (Some(false), Use::Truth | Use::Condition) => true,
            (Some(true), Use::Condition) => self.subquery.outer_ref_columns.is_empty() && self.expr.any_column_refs(),
            _ => false,
        }
    }

    fn into_in(self, negated: bool) -> Expr {
        Expr::InSubquery(InSubquery::new(Box::new(self.expr), self.subquery, negated))
    }

    /// What it was, with another name for what DataFusion's rule compares with.
    fn into_expr(self) -> Result<Expr> {
        if self.is_in {
            let negated = self.negated;
            return Ok(self.into_in(negated));
        }
        let plan = Arc::unwrap_or_clone(self.subquery.subquery);
        let subquery = Subquery {
            subquery: Arc::new(LogicalPlanBuilder::from(plan).alias("?compared?")?.build()?),
            ..self.subquery
        };
        let comparison = SetComparison::new(Box::new(self.expr), subquery, self.operator, self.quantifier);
        Ok(Expr::SetComparison(comparison))
    }

    /// Whether it is of one column and may be written more than once, beside columns of the subquery.
    fn is_plain(&self) -> Result<bool> {
        let is_subquery = |part: &Expr| {
            Ok(matches!(
                part,
                Expr::OuterReferenceColumn(..)
                    | Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
            ))
        };
        // Of more columns the planner says what is wrong.
        let is_of_one = self.subquery.subquery.schema().fields().len() == 1;
        Ok(is_of_one && !self.expr.is_volatile() && !self.expr.exists(is_subquery)?)
    }

    /// Whether the subquery is of exactly one row: as a join it would have none where nothing matches.
    fn is_of_one_row(&self) -> bool {
        !self.subquery.outer_ref_columns.is_empty()
            && self.subquery.subquery.schema().fields().len() == 1
            && is_of_one_row(&self.subquery.subquery)
    }

    /// With the subquery as a value.
    fn into_comparison(self) -> Expr {
        let value = Expr::ScalarSubquery(self.subquery);
        negated_if(self.negated, binary_expr(self.expr, self.operator, value))
    }

    /// Whether it is a NOT IN of a computed value, which DataFusion joins well by a column alone.
    fn is_of_computed(&self, wanted: Use) -> Result<bool> {
        if self.as_in() != Some(true) || wanted != Use::Condition || !self.subquery.outer_ref_columns.is_empty() {
            return Ok(false);
        }
        let (mut is_known, mut is_constant) = (true, true);
        self.expr.apply(|part| {
            is_known &= !matches!(part, Expr::OuterReferenceColumn(..));
            is_constant &= !matches!(part, Expr::ScalarSubquery(_) | Expr::Column(_));
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(is_known && !is_constant && !matches!(self.expr, Expr::Column(_)))
    }

    /// Whether its value has a subquery in it, and may be a column of a projection below.
    fn is_of_subquery(&self) -> Result<bool> {
        let (mut is_known, mut has_subquery) = (!self.expr.is_volatile(), false);
        self.expr.apply(|part| {
            is_known &= !matches!(part, Expr::OuterReferenceColumn(..));
            has_subquery |= matches!(part, Expr::ScalarSubquery(_) | Expr::Exists(_));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let is_of_one = self.subquery.subquery.schema().fields().len() == 1;
        Ok(is_known && has_subquery && is_of_one)
    }

    /// What it becomes.
    fn replaced(mut self, wanted: Use, outside: &mut Outside<'_>) -> Result<Transformed<Expr>> {
        if self.is_of_one_row() {
            return Ok(Transformed::yes(self.into_comparison()));
        }
        if self.is_of_computed(wanted)? {
            let name = outside.name(self.expr);
            self.expr = Expr::Column(Column::new_unqualified(name));
            return Ok(Transformed::yes(self.into_in(true)));
        }
        if let Some(negated) = self.as_in()
            && self.is_joined_well(wanted)
        {
            let mut changed = !self.is_in;
            if wanted == Use::Truth && self.subquery.subquery.schema().qualified_field(0).0.is_none() {
                self.subquery = named(self.subquery)?;
                changed = true;
            }
            return Ok(Transformed::new_transformed(self.into_in(negated), changed));
        }
        if self
            .expr
            .get_type(outside.schema)
            .is_ok_and(|data_type| data_type.is_decimal())
            && let Some(rows) = written_columns::as_decimals(&self.subquery.subquery, 0)?
        {
            self.subquery.subquery = Arc::new(rows);
        }
        let plan = Arc::clone(&self.subquery.subquery);
        let mut named = None;
        let seen = if self.is_plain()? {
            outside.seen_by(&self.expr, &plan)?
        } else if self.is_of_subquery()? {
            let (_, field) = self.expr.to_field(outside.schema)?;
            let column = Column::new_unqualified(outside.name(self.expr));
            self.expr = Expr::Column(column.clone());
            named = Some(field.is_nullable());
            Some(Expr::OuterReferenceColumn(field, column))
        } else {
            None
        };
        let Some(seen) = seen else {
            return Ok(Transformed::yes(self.into_expr()?));
        };
        let Membership {
            expr,
            operator,
            quantifier,
            subquery,
            negated,
            is_in: _,
        } = self;
        let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
        let rows = || LogicalPlanBuilder::from(plan.as_ref().clone());
        let outer = &subquery.outer_ref_columns;
        let mut outer_of_compared = outer.clone();
        for column in outer_columns(&seen)? {
            if !outer_of_compared.contains(&column) {
                outer_of_compared.push(column);
            }
        }
        let comparison = binary_expr(seen, operator, column.clone());
        let (deciding, decided) = match quantifier {
            SetQuantifier::Any => (comparison.clone(), true),
            SetQuantifier::All => (Expr::Not(Box::new(comparison.clone())), false),
        };
        let deciding = exists(rows().filter(deciding)?.build()?, outer_of_compared.clone())?;
        let mut unknown = Vec::new();
        if is_null_with_an_operand(operator) {
            let is_nullable = match named {
                Some(is_nullable) => is_nullable,
                None => expr.nullable(outside.schema)?,
            };
            if is_nullable {
                let any = exists(rows_alone(&plan).clone(), outer.clone())?;
                unknown.push(expr.is_null().and(any));
            }
            if plan.schema().field(0).is_nullable() {
                unknown.push(exists(rows().filter(column.is_null())?.build()?, outer.clone())?);
            }
        } else {
            unknown.push(exists(
                rows().filter(comparison.is_null())?.build()?,
                outer_of_compared,
            )?);
        }
        if wanted != Use::Value {
            let is_true = match decided == negated {
                false => deciding,
                true => unknown
                    .into_iter()
                    .fold(negated_if(true, deciding), |all, part| all.and(negated_if(true, part))),
            };
            return Ok(Transformed::yes(is_true));
        }
        let found = match unknown.into_iter().reduce(Expr::or) {
            None => negated_if(!decided, deciding),
            Some(unknown) => when(deciding, lit(decided))
                .when(unknown, lit(ScalarValue::Boolean(None)))
                .otherwise(lit(!decided))?,
        };
        Ok(Transformed::yes(negated_if(negated, found)))
    }
}

/// The subquery with a name for its column, which is computed: DataFusion's mark join would have it twice under the one that it has.
fn named(subquery: Subquery) -> Result<Subquery> {
    let column = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(Arc::clone(&subquery.subquery)));
    let plan = plan.project(vec![column.alias("?compared?")])?.build()?;
    Ok(subquery.with_plan(Arc::new(plan)))
}

/// Replaces memberships in a value.
///
/// # Errors
/// What building subqueries says.
pub(crate) fn in_value(expr: Expr, outside: &mut Outside<'_>) -> Result<Transformed<Expr>> {
    expr.transform_up(|part| match Membership::of(part) {
        Ok(membership) => membership.replaced(Use::Value, outside),
        Err(Expr::Exists(exists)) => Ok(of_existence(exists)),
        Err(other) => Ok(Transformed::no(other)),
    })
}

/// Replaces memberships in one condition of a filter as far as DataFusion would answer them wrongly.
///
/// # Errors
/// What building subqueries says.
pub(crate) fn in_condition(expr: Expr, outside: &mut Outside<'_>) -> Result<Transformed<Expr>> {
    in_truth(expr, Use::Condition, outside)
}

fn in_truth(expr: Expr, wanted: Use, outside: &mut Outside<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::And | Operator::Or) => {
            let wanted = if op == Operator::And { wanted } else { Use::Truth };
            let left = in_truth(*left, wanted, outside)?;
            let right = in_truth(*right, wanted, outside)?;
            let changed = left.transformed || right.transformed;
            let both = binary_expr(left.data, op, right.data);
            Ok(Transformed::new_transformed(both, changed))
        }
        Expr::Not(inner) if matches!(*inner, Expr::InSubquery(_)) => {
            let inner = match *inner {
                Expr::InSubquery(inner) => Expr::InSubquery(InSubquery {
                    negated: !inner.negated,
                    ..inner
                }),
                other => other,
            };
            in_truth(inner, wanted, outside)
        }
        // The value that it is of may have memberships in it.
        Expr::InSubquery(_) | Expr::SetComparison(_) => {
            let below = expr.map_children(|part| in_value(part, outside))?;
            below.transform_data(|expr| match Membership::of(expr) {
                Ok(membership) => membership.replaced(wanted, outside),
                Err(other) => Ok(Transformed::no(other)),
            })
        }
        other => in_value(other, outside),
    }
}

/// EXISTS of an aggregate of all rows, which has one row though there be none.
fn of_existence(exists: Exists) -> Transformed<Expr> {
    match is_of_one_row(rows_alone(&exists.subquery.subquery)) {
        true if !exists.subquery.outer_ref_columns.is_empty() => Transformed::yes(lit(!exists.negated)),
        _ => Transformed::no(Expr::Exists(exists)),
    }
}

fn is_of_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_of_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_of_one_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Whether a comparison is NULL exactly where an operand is.
fn is_null_with_an_operand(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    )
}

/// The columns of the query around that an expression in a subquery has.
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
