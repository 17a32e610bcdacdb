//! Columns of a plan that have nothing but numbers as they are written, as the DECIMALs that these are: `SELECT 1.5` that is united
//! with a DECIMAL.
//!
//! Problem: a number with a point is a double, and a double beside a DECIMAL would make doubles of both. Chosen: where such a column
//! meets a DECIMAL its numbers are written as those, as they are in one expression (`literals`). What is computed or cast is none.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Cast, Distinct, Expr, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort, SubqueryAlias, Union,
    Window,
};
use datafusion::scalar::ScalarValue;

use crate::common_types::cast_numbers;
use crate::literals::decimal_of;

/// The same rows, of which a column is no float; `None` if it has other floats than numbers as they are written.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn as_decimals(plan: &LogicalPlan, index: usize) -> Result<Option<LogicalPlan>> {
    let Some(field) = plan.schema().fields().get(index) else {
        return Ok(None);
    };
    if !field.data_type().is_floating() {
        return Ok(Some(plan.clone()));
    }
    Ok(match plan {
        LogicalPlan::Projection(projection) => of_projection(projection, index)?,
        LogicalPlan::SubqueryAlias(alias) => match as_decimals(&alias.input, index)? {
            Some(input) => {
                let named = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                Some(LogicalPlan::SubqueryAlias(named))
            }
            None => None,
        },
        LogicalPlan::Distinct(Distinct::All(input)) => {
            as_decimals(input, index)?.map(|input| LogicalPlan::Distinct(Distinct::All(Arc::new(input))))
        }
        LogicalPlan::Limit(limit) => as_decimals(&limit.input, index)?.map(|input| {
            LogicalPlan::Limit(Limit {
                input: Arc::new(input),
                ..limit.clone()
            })
        }),
        LogicalPlan::Sort(sort) if !any_reads(sort.expr.iter().map(|key| &key.expr), sort.input.schema(), index) => {
            as_decimals(&sort.input, index)?.map(|input| {
                LogicalPlan::Sort(Sort {
                    input: Arc::new(input),
                    ..sort.clone()
                })
            })
        }
        LogicalPlan::Filter(filter) if !any_reads([&filter.predicate], filter.input.schema(), index) => {
            match as_decimals(&filter.input, index)? {
                Some(input) => {
                    let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
                    Some(LogicalPlan::Filter(filter))
                }
                None => None,
            }
        }
        LogicalPlan::Window(window) if is_numbering(window) => match as_decimals(&window.input, index)? {
            Some(input) => {
                let window = Window::try_new(window.window_expr.clone(), Arc::new(input))?;
                Some(LogicalPlan::Window(window))
            }
            None => None,
        },
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| as_decimals(input, index));
            let inputs: Option<Vec<LogicalPlan>> = inputs.collect::<Result<_>>()?;
            match inputs {
                Some(inputs) => {
                    let inputs = inputs.into_iter().map(Arc::new).collect();
                    Some(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?))
                }
                None => None,
            }
        }
        LogicalPlan::Values(values) => {
            let mut rows = values.values.clone();
            let column = rows.iter_mut().filter_map(|row| row.get_mut(index));
            let written = column.map(|value| written_in_values(value).map(|written| *value = written));
            match written.collect::<Option<Vec<()>>>() {
                Some(_) => Some(LogicalPlanBuilder::values(rows)?.build()?),
                None => None,
            }
        }
        LogicalPlan::Join(join) => of_set_operation(join, index)?,
        _ => None,
    })
}

/// A plan whose columns that are parameters will be none of those: they have the type of what is bound.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn without_parameters(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        if !matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Values(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let given = match expr {
                Expr::Alias(mut alias) => {
                    let given = given(*alias.expr);
                    *alias.expr = given.data;
                    Transformed::new_transformed(Expr::Alias(alias), given.transformed)
                }
                other => given(other),
            };
            Ok(given.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(rewritten.data)
}

fn given(expr: Expr) -> Transformed<Expr> {
    match &expr {
        Expr::Placeholder(Placeholder { field: Some(field), .. }) if field.data_type().is_floating() => {
            let field = Arc::clone(field);
            Transformed::yes(Expr::Cast(Cast {
                expr: Box::new(expr),
                field,
            }))
        }
        _ => Transformed::no(expr),
    }
}

fn of_projection(projection: &Projection, index: usize) -> Result<Option<LogicalPlan>> {
    let mut exprs = projection.expr.clone();
    let input = match projection.expr[index].clone().unalias_nested().data {
        Expr::Column(column) => {
            let schema = projection.input.schema();
            let Some(below) = schema.maybe_index_of_column(&column) else {
                return Ok(None);
            };
            let computed = projection.expr.iter().filter(|expr| !is_column(expr));
            if any_reads(computed, schema, below) {
                return Ok(None);
            }
            match as_decimals(&projection.input, below)? {
                Some(input) => Arc::new(input),
                None => return Ok(None),
            }
        }
        other => {
            let Some(written) = written(&other) else {
                return Ok(None);
            };
            let (relation, field) = projection.schema.qualified_field(index);
            exprs[index] = written.alias_qualified(relation.cloned(), field.name());
            Arc::clone(&projection.input)
        }
    };
    Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
}

/// Of INTERSECT and EXCEPT, whose rows are those of the left side.
fn of_set_operation(join: &Join, index: usize) -> Result<Option<LogicalPlan>> {
    if !is_set_operation(join) {
        return Ok(None);
    }
    let place = |expr: &Expr, schema: &DFSchema| match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    };
    let compared = join
        .on
        .iter()
        .find(|(left, _)| place(left, join.left.schema()) == Some(index))
        .and_then(|(_, right)| place(right, join.right.schema()));
    let Some(compared) = compared else { return Ok(None) };
    let (Some(left), Some(right)) = (as_decimals(&join.left, index)?, as_decimals(&join.right, compared)?) else {
        return Ok(None);
    };
    let joined = LogicalPlan::Join(Join {
        left: Arc::new(left),
        right: Arc::new(right),
        ..join.clone()
    });
    Ok(Some(joined.recompute_schema()?))
}

/// Whether it is INTERSECT or EXCEPT.
pub(crate) fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_column(&alias.expr),
        _ => false,
    }
}

/// Whether one of the expressions has that column.
fn any_reads<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema, index: usize) -> bool {
    let own = Column::from(schema.qualified_field(index));
    exprs.into_iter().any(|expr| {
        let mut columns = expr.column_refs().into_iter();
        columns.any(|column| *column == own || schema.maybe_index_of_column(column) == Some(index))
    })
}

/// Whether it numbers equal rows, for which their type makes no difference.
fn is_numbering(window: &Window) -> bool {
    window.window_expr.iter().all(|expr| match expr {
        Expr::WindowFunction(function) => function.fun.name() == "row_number",
        _ => false,
    })
}

/// A number as the DECIMAL that is written; `None` for what is no such number.
fn written(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => Some(Expr::Literal(decimal_of(*number)?, None)),
        Expr::Literal(value, _) if value.is_null() => Some(Expr::Literal(ScalarValue::Null, None)),
        Expr::Negative(inner) => Some(Expr::Negative(Box::new(written(inner)?))),
        Expr::Case(case) => {
            let mut case = case.clone();
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            let mut results: Vec<&mut Expr> = results.chain(case.else_expr.as_deref_mut()).collect();
            for result in &mut results {
                **result = written_in_values(result)?;
            }
            // They are constants.
            cast_numbers(&mut results, &DFSchema::empty());
            Some(Expr::Case(case))
        }
        _ => None,
    }
}

/// The same in VALUES and CASE, where integers beside such numbers have been cast.
fn written_in_values(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Cast(Cast { expr: inner, field }) if *field.data_type() == DataType::Float64 => match inner.as_ref() {
            Expr::Literal(value, _) if value.data_type().is_integer() => Some(inner.as_ref().clone()),
            _ => None,
        },
        other => written(other),
    }
}
