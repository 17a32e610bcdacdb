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
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, StatisticsArgs};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::scalar::ScalarValue;

use crate::aggregates_otherwise::{Frame, Way};
use crate::extension_types::ExtensionType;
use crate::interval_extremes::{self, Extreme};
use crate::kept_types::{only_value, retyped};

/// The aggregates that give one of their values, or all of them, or a text of these.
pub(crate) const KEEPING: &[&str] = &["min", "max", "array_agg", STRING_AGG];

/// It gives none of them, but sorts them as `array_agg` does.
const STRING_AGG: &str = "string_agg";

/// How each of them is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keeping;

impl Way for Keeping {
    fn accumulator(
        &self,
        function: &AggregateUDF,
        args: AccumulatorArgs<'_>,
        frame: Frame,
    ) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct && args.is_reversed && frame == Frame::Grows {
            // It sorts by itself, in whatever order its rows come.
            let as_written: Vec<_> = args.order_bys.iter().map(PhysicalSortExpr::reverse).collect();
            let args = AccumulatorArgs {
                order_bys: &as_written,
                is_reversed: false,
                ..args
            };
            return self.accumulator(function, args, frame);
        }
        if is_of_intervals(function, &args) {
            return Ok(Box::new(Extreme::new(function.name(), &args, frame == Frame::Slides)));
        }
        let list_type = list_type(&args);
        Ok(given_type(frame.accumulator_of(function, args)?, list_type))
    }

    fn return_field(&self, function: &AggregateUDF, given: &[FieldRef]) -> Result<FieldRef> {
        let field = function.return_field(given)?;
        let extension = given.first().and_then(|given| ExtensionType::of(given.metadata()));
        let Some(extension) = extension.filter(|_| function.name() != STRING_AGG) else {
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

    fn groups_are_theirs(&self, function: &AggregateUDF, args: &AccumulatorArgs<'_>) -> bool {
        list_type(args).is_none() && !is_of_intervals(function, args)
    }

    /// Statistics have the least and the greatest of DataFusion's order.
    fn statistics_are_theirs(&self, function: &AggregateUDF, statistics: &StatisticsArgs<'_>) -> bool {
        !interval_extremes::are_ours(function.name(), statistics.return_type)
    }
}

/// The type that its lists are to have and its accumulators do not give them.
fn list_type(args: &AccumulatorArgs<'_>) -> Option<DataType> {
    let extension = ExtensionType::of(args.expr_fields.first()?.metadata());
    let data_type = args.return_field.data_type();
    (extension.is_some() && data_type.is_list()).then(|| data_type.clone())
}

fn is_of_intervals(function: &AggregateUDF, args: &AccumulatorArgs<'_>) -> bool {
    interval_extremes::are_ours(function.name(), args.return_field.data_type())
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
