//! A planned statement: its plan, what the text says of its parameters and its result, and the plain types that results have.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, LogicalPlan};
use kalamdb_core::{Error, TableName};

use crate::diagnostics::late::LatePlaces;
use crate::diagnostics::subqueries::Correlation;
use crate::provider;

/// A logical plan with the types of its parameters, before they have values.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    /// `$1` first; as a description of the statement has them.
    pub(crate) parameters: Fields,
    /// Whether types of what is bound decide about some of them.
    pub(crate) follows_bound_types: bool,
    /// Those of the result's columns, where the plan's own are others.
    pub(crate) names: Option<Arc<[String]>>,
    /// What there is of subqueries that use columns of the query around them.
    pub(crate) correlation: Correlation,
    /// For errors that come later.
    pub(crate) places: Arc<LatePlaces>,
}

impl Planned {
    /// The schema of the result, from the plan at this stage: plain types, and the names that the statement gives.
    ///
    /// # Errors
    /// Whatever walking over the plan says.
    pub(crate) fn schema_of(&self, plan: &LogicalPlan) -> DataFusionResult<SchemaRef> {
        let may_all_be_null = !self.parameters.is_empty() || has_subquery_value(plan)?;
        let fields = plan.schema().fields().iter().enumerate().map(|(index, field)| {
            let plain = field.as_ref().clone().with_data_type(plain_type(field.data_type()));
            let named = match self.names.as_ref().and_then(|names| names.get(index)) {
                Some(name) => plain.with_name(name),
                None => plain,
            };
            Arc::new(if may_all_be_null {
                named.with_nullable(true)
            } else {
                named
            })
        });
        Ok(Arc::new(Schema::new(fields.collect::<Fields>())))
    }

    /// An error of the rules with its place.
    pub(crate) fn explain(&self, error: Error) -> Error {
        self.places.explain(self.correlation.explain(error))
    }

    /// For each output column the table it comes straight from.
    pub(crate) fn origins(&self) -> Vec<Option<TableName>> {
        (0..self.plan.schema().fields().len())
            .map(|index| origin(&self.plan, index))
            .collect()
    }
}

/// Whether a subquery stands as a value. It is NULL where it has no row, of which DataFusion's schemas know nothing.
fn has_subquery_value(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found = expr.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))))?;
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        Ok(found)
    })
}

fn origin(plan: &LogicalPlan, index: usize) -> Option<TableName> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?; // Work tables of recursive queries are no providers.
            provider::table_of(provider.as_ref()).map(|table| table.name.clone())
        }
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(index)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            origin(
                &projection.input,
                projection.input.schema().maybe_index_of_column(column)?,
            )
        }
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Sort(sort) => origin(&sort.input, index),
        LogicalPlan::Limit(limit) => origin(&limit.input, index),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            if index < left {
                origin(&join.left, index)
            } else {
                origin(&join.right, index - left)
            }
        }
        _ => None,
    }
}

/// The type without views, dictionaries and run-end encoding, at any depth.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    let plain_field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain_type(field.data_type())));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(field) | DataType::ListView(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(plain_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(plain_field(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(field, sorted) => DataType::Map(plain_field(field), *sorted),
        other => other.clone(),
    }
}

/// The batch in exactly that schema, which names its columns and has the plain types of theirs.
///
/// # Errors
/// A value that its plain type does not take.
pub(crate) fn plain_batch(batch: RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast_with_options(column, field.data_type(), &options)
            }
        })
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(DataFusionError::from)
}
