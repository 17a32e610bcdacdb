//! Subqueries as values: `(SELECT v FROM u WHERE u.id = t.id)`.
//!
//! DataFusion wants one that uses columns of the query around it aggregated, so that it has at most one row. SQL wants an error when
//! it has more. The aggregate in here does both: NULL for no row, the value of one, an error for two. It also says of a column
//! that is never NULL that it is, where there is no row.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Subquery, Volatility,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::diagnostics::late::SEVERAL_ROWS;

static SINGLE_VALUE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(SingleValue::new())));

/// Aggregates the scalar subqueries of a plan that need it.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn aggregate_correlated(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarSubquery(subquery) => aggregated(subquery),
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(rewritten.data)
}

fn aggregated(subquery: Subquery) -> Result<Transformed<Expr>> {
    let unchanged = |subquery| Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    if subquery.outer_ref_columns.is_empty() {
        let field = subquery.subquery.schema().fields().first();
        if field.is_none_or(|field| field.is_nullable()) || has_one_row(&subquery.subquery) {
            return unchanged(subquery);
        }
        // DataFusion's schema says that it is never NULL, and its plans fail where it is for want of a row.
        let value = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
        let input = Arc::unwrap_or_clone(Arc::clone(&subquery.subquery));
        return single(input, value, subquery);
    }
    if subquery.subquery.max_rows().is_some_and(|rows| rows <= 1) {
        return unchanged(subquery);
    }
    let LogicalPlan::Projection(projection) = subquery.subquery.as_ref() else {
        return unchanged(subquery);
    };
    let [value] = projection.expr.as_slice() else {
        return unchanged(subquery);
    };
    match projection.input.as_ref() {
        LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Projection(_) => {}
        _ => return unchanged(subquery),
    }
    let input = Arc::unwrap_or_clone(Arc::clone(&projection.input));
    let value = value.clone().unalias();
    single(input, value, subquery)
}

/// Whether a plan has a row whatever its tables hold.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(relation) => relation.produce_one_row,
        _ => false,
    }
}

/// The subquery as the one value that its input has.
fn single(input: LogicalPlan, value: Expr, subquery: Subquery) -> Result<Transformed<Expr>> {
    let name = subquery.subquery.schema().field(0).name().clone();
    let single = Expr::AggregateFunction(AggregateFunction::new_udf(
        Arc::clone(&SINGLE_VALUE),
        vec![value],
        false,
        None,
        Vec::new(),
        None,
    ));
    let output = single.schema_name().to_string();
    let plan = LogicalPlanBuilder::from(input)
        .aggregate(Vec::<Expr>::new(), vec![single])?
        .project(vec![Expr::Column(Column::new_unqualified(output)).alias(name)])?
        .build()?;
    Ok(Transformed::yes(Expr::ScalarSubquery(Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns: subquery.outer_ref_columns,
        spans: subquery.spans,
    })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl SingleValue {
    fn new() -> Self {
        SingleValue {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        "single_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(arguments.return_field.data_type())?;
        Ok(Box::new(Single { value, rows: 0 }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new(
            format_state_name(arguments.name, "value"),
            arguments.return_field.data_type().clone(),
            true,
        );
        let rows = Field::new(format_state_name(arguments.name, "rows"), DataType::UInt64, false);
        Ok(vec![Arc::new(value), Arc::new(rows)])
    }
}

#[derive(Debug)]
struct Single {
    value: ScalarValue,
    rows: u64,
}

impl Single {
    fn add(&mut self, values: &ArrayRef, row: usize, rows: u64) -> Result<()> {
        self.rows += rows;
        if self.rows > 1 {
            let error = Error::new(ErrorCode::InvalidStatement, SEVERAL_ROWS);
            return Err(DataFusionError::External(Box::new(error)));
        }
        self.value = ScalarValue::try_from_array(values, row)?;
        Ok(())
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..values[0].len()).try_for_each(|row| self.add(&values[0], row, 1))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) - size_of_val(&self.value) + self.value.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::UInt64(Some(self.rows))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[1].as_primitive::<UInt64Type>();
        for row in 0..rows.len() {
            if rows.value(row) > 0 {
                self.add(&states[0], row, rows.value(row))?;
            }
        }
        Ok(())
    }
}
