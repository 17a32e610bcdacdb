//! UUID and JSON through `min`, `max` and `array_agg`: what they make of them has their type; intervals through the first two; and the
//! order of what `array_agg` and `string_agg` make of distinct values.
//!
//! Problem: DataFusion 55 has only one order for `array_agg(DISTINCT x ORDER BY x)` beside one with DESC: it reverses the second,
//! which is to undo that and does not (`accumulator` in datafusion-functions-aggregate `array_agg.rs`). Chosen: ours undo it.
//!
//! Problem: DataFusion 55 gives an aggregate's field the Arrow type alone (`udaf_default_return_field` in datafusion-expr `udaf.rs`).
//! Proper way: these aggregates keep the metadata that names an extension type. Chosen: ours in their place, which are theirs but
//! for the field; that of a list has the metadata inside, so its values are given the type when they are done.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::scalar::ScalarValue;

use crate::extension_types::ExtensionType;
use crate::interval_extremes::{self, Extreme};
use crate::kept_types::{only_value, retyped};

/// The aggregates that give one of their values, or all of them, or a text of these.
pub(crate) const KEEPING: &[&str] = &["min", "max", "array_agg", STRING_AGG];

/// It gives none of them, but sorts them as `array_agg` does.
const STRING_AGG: &str = "string_agg";

/// One of them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keeping {
    inner: Arc<AggregateUDF>,
}

impl Keeping {
    pub(crate) fn over(inner: Arc<AggregateUDF>) -> Self {
        Keeping { inner }
    }

    /// The type that its lists are to have and its accumulators do not give them.
    fn list_type(&self, args: &AccumulatorArgs<'_>) -> Option<DataType> {
        let extension = ExtensionType::of(args.expr_fields.first()?.metadata());
        let data_type = args.return_field.data_type();
        (extension.is_some() && data_type.is_list()).then(|| data_type.clone())
    }

    fn is_of_intervals(&self, args: &AccumulatorArgs<'_>) -> bool {
        interval_extremes::are_ours(self.name(), args.return_field.data_type())
    }
}

impl AggregateUDFImpl for Keeping {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field(&self, given: &[FieldRef]) -> Result<FieldRef> {
        let field = self.inner.return_field(given)?;
        let extension = given.first().and_then(|given| ExtensionType::of(given.metadata()));
        let Some(extension) = extension.filter(|_| self.name() != STRING_AGG) else {
            return Ok(field);
        };
        let field = field.as_ref().clone();
        Ok(Arc::new(match field.data_type() {
            DataType::List(item) => {
                let item = item.as_ref().clone().with_metadata(extension.metadata());
                field.with_data_type(DataType::List(Arc::new(item)))
            }
            _ => Field::with_metadata(field, extension.metadata()),
        }))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct && args.is_reversed {
            // It sorts by itself, in whatever order its rows come.
            let as_written: Vec<_> = args.order_bys.iter().map(PhysicalSortExpr::reverse).collect();
            return self.accumulator(AccumulatorArgs {
                order_bys: &as_written,
                is_reversed: false,
                ..args
            });
        }
        if self.is_of_intervals(&args) {
            return Ok(Box::new(Extreme::new(self.name(), &args, false)));
        }
        let list_type = self.list_type(&args);
        Ok(given_type(self.inner.accumulator(args)?, list_type))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if self.is_of_intervals(&args) {
            return Ok(Box::new(Extreme::new(self.name(), &args, true)));
        }
        let list_type = self.list_type(&args);
        Ok(given_type(self.inner.create_sliding_accumulator(args)?, list_type))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.list_type(&args).is_none() && !self.is_of_intervals(&args) && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_display_name(params)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = AggregateUDF::clone(&self.inner).with_beneficial_ordering(beneficial_ordering)?;
        Ok(inner.map(|inner| Arc::new(Keeping::over(Arc::new(inner))) as Arc<dyn AggregateUDFImpl>))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner.simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        let inner = self.inner.inner();
        inner.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(inner) => ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(Keeping::over(inner)))),
            other => other,
        }
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(given)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        // Statistics have the least and the greatest of DataFusion's order.
        if interval_extremes::are_ours(self.name(), statistics.return_type) {
            return None;
        }
        self.inner.value_from_stats(statistics)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn given_type(inner: Box<dyn Accumulator>, list_type: Option<DataType>) -> Box<dyn Accumulator> {
    match list_type {
        Some(data_type) => Box::new(Lists { inner, data_type }),
        None => inner,
    }
}

/// An accumulator whose lists are of another type than its inner one gives them.
#[derive(Debug)]
struct Lists {
    inner: Box<dyn Accumulator>,
    data_type: DataType,
}

impl Accumulator for Lists {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.inner.evaluate()?.to_array()?;
        only_value(&retyped(&list, &self.data_type)?)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn each_has_its_own_order_of_distinct_values() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE q (id INT PRIMARY KEY, g INT, x INT, s TEXT)",
            "INSERT INTO q VALUES (1, 1, 3, 'c'), (2, 1, 1, 'a'), (3, 2, 2, 'b'), (4, 1, 1, 'a'), (5, 2, NULL, NULL)",
        ]);
        fixture.check(
            "SELECT array_agg(DISTINCT x ORDER BY x), array_agg(DISTINCT x ORDER BY x DESC) FROM q",
            &["[1, 2, 3, NULL]|[NULL, 3, 2, 1]"],
        );
        fixture.check(
            "SELECT array_agg(DISTINCT x ORDER BY x DESC NULLS LAST), array_agg(DISTINCT x ORDER BY x NULLS FIRST) FROM q",
            &["[3, 2, 1, NULL]|[NULL, 1, 2, 3]"],
        );
        fixture.check(
            "SELECT string_agg(DISTINCT s, ',' ORDER BY s), string_agg(DISTINCT s, ',' ORDER BY s DESC) FROM q",
            &["a,b,c|c,b,a"],
        );
        fixture.check(
            "SELECT g, string_agg(DISTINCT s, '' ORDER BY s DESC), string_agg(DISTINCT s, '' ORDER BY s), \
             array_agg(s ORDER BY s DESC), array_agg(DISTINCT x ORDER BY x), array_agg(DISTINCT x ORDER BY x DESC) \
             FROM q WHERE s IS NOT NULL GROUP BY g ORDER BY g",
            &["1|ca|ac|[c, a, a]|[1, 3]|[3, 1]", "2|b|b|[b]|[2]|[2]"],
        );
        fixture.check(
            "SELECT DISTINCT string_agg(s, '' ORDER BY s), string_agg(s, '' ORDER BY s DESC), string_agg(s, '') IS NULL FROM q",
            &["aabc|cbaa|false"],
        );
    }
}
