//! Filters as conditions on the bounds of columns, so that a scan leaves out parts of segments that cannot hold a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use kalamdb_core::{Bounds, Prune};

/// Conditions made of the filters of one scan.
#[derive(Debug)]
pub(crate) struct Pruning {
    predicates: Vec<Arc<PruningPredicate>>,
    /// The columns of each, by index in the table, and their names.
    columns: Vec<Vec<usize>>,
    names: Vec<Vec<String>>,
}

impl Pruning {
    /// The conditions that can be told from bounds, if there are any. `column` says where a name is in the table; system
    /// columns are not there.
    pub(crate) fn of(
        state: &dyn Session,
        filters: &[Expr],
        schema: &SchemaRef,
        column: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<Arc<dyn Prune>>> {
        let mut pruning = Pruning {
            predicates: Vec::new(),
            columns: Vec::new(),
            names: Vec::new(),
        };
        let named = DFSchema::try_from(Arc::clone(schema))?;
        for filter in filters {
            let names: Vec<String> = filter.column_refs().iter().map(|column| column.name.clone()).collect();
            let Some(columns) = names.iter().map(|name| column(name)).collect::<Option<Vec<usize>>>() else {
                continue;
            };
            let predicate = state
                .create_physical_expr(unnormalize_col(filter.clone()), &named)
                .ok()
                .and_then(|predicate| {
                    PruningPredicateBuilder::new()
                        .with_file_schema(Arc::clone(schema))
                        .build(predicate)
                });
            // What cannot be told is filtered as ever.
            let Some(predicate) = predicate else { continue };
            if !columns.is_empty() {
                pruning.predicates.push(predicate);
                pruning.columns.push(columns);
                pruning.names.push(names);
            }
        }
        Ok((!pruning.predicates.is_empty()).then(|| Arc::new(pruning) as Arc<dyn Prune>))
    }
}

impl Prune for Pruning {
    fn conditions(&self) -> &[Vec<usize>] {
        &self.columns
    }

    fn may_hold(&self, condition: usize, bounds: &[Option<&Bounds>]) -> Option<Vec<bool>> {
        let statistics = PartStatistics {
            parts: bounds.iter().flatten().next()?.rows.len(),
            names: &self.names[condition],
            bounds,
        };
        // A condition that fails on bounds may hold for rows.
        self.predicates[condition].prune(&statistics).ok()
    }
}

struct PartStatistics<'a> {
    parts: usize,
    names: &'a [String],
    bounds: &'a [Option<&'a Bounds>],
}

impl<'a> PartStatistics<'a> {
    fn of(&self, column: &Column) -> Option<&'a Bounds> {
        let index = self.names.iter().position(|name| *name == column.name)?;
        self.bounds.get(index).copied().flatten()
    }
}

impl PruningStatistics for PartStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|bounds| Arc::clone(&bounds.min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|bounds| Arc::clone(&bounds.max))
    }

    fn num_containers(&self) -> usize {
        self.parts
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|bounds| Arc::new(bounds.nulls.clone()) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let bounds = self.bounds.iter().flatten().next()?;
        let rows = bounds.rows.iter().map(|rows| u64::from(rows.end - rows.start));
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<ScalarValue>) -> Option<arrow::array::BooleanArray> {
        None
    }
}
