//! Aggregates of DataFusion whose rows are gone through otherwise, and which are themselves in all else that a plan asks. Scalar
//! functions have `recomputed`.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::scalar::ScalarValue;

/// What a window's frame does from row to row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// It only takes rows in, as a group does.
    Grows,
    /// It lets go of rows, too.
    Slides,
}

impl Frame {
    /// The function's own accumulator for it.
    pub(crate) fn accumulator_of(
        self,
        function: &AggregateUDF,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        match self {
            Frame::Grows => function.accumulator(args),
            Frame::Slides => function.create_sliding_accumulator(args),
        }
    }
}

/// Another way to go through an aggregate's rows; `function` is DataFusion's.
pub(crate) trait Way: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// # Errors
    /// Whatever the function says.
    fn accumulator(
        &self,
        function: &AggregateUDF,
        args: AccumulatorArgs<'_>,
        frame: Frame,
    ) -> Result<Box<dyn Accumulator>>;

    /// The field of its values.
    ///
    /// # Errors
    /// As the function's.
    fn return_field(&self, function: &AggregateUDF, given: &[FieldRef]) -> Result<FieldRef> {
        function.return_field(given)
    }

    /// Whether the function's own accumulator of many groups, if it has one, does.
    fn groups_are_theirs(&self, _function: &AggregateUDF, _args: &AccumulatorArgs<'_>) -> bool {
        true
    }

    /// Whether what the function takes from statistics is right.
    fn statistics_are_theirs(&self, _function: &AggregateUDF, _statistics: &StatisticsArgs<'_>) -> bool {
        true
    }
}

/// Has an aggregate go through its rows so; `None` if it does already.
pub(crate) fn done_otherwise<W: Way>(function: &Arc<AggregateUDF>, way: W) -> Option<Arc<AggregateUDF>> {
    let is_done = function.inner().is::<Otherwise<W>>();
    (!is_done).then(|| {
        Arc::new(AggregateUDF::from(Otherwise {
            inner: Arc::clone(function),
            way,
        }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Otherwise<W> {
    inner: Arc<AggregateUDF>,
    way: W,
}

impl<W: Way> Otherwise<W> {
    fn over(&self, inner: Arc<AggregateUDF>) -> Self {
        let way = self.way.clone();
        Otherwise { inner, way }
    }
}

impl<W: Way> AggregateUDFImpl for Otherwise<W> {
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
        self.way.return_field(&self.inner, given)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.way.accumulator(&self.inner, args, Frame::Grows)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.way.accumulator(&self.inner, args, Frame::Slides)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.way.groups_are_theirs(&self.inner, &args) && self.inner.groups_accumulator_supported(args)
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
        Ok(inner.map(|inner| Arc::new(self.over(Arc::new(inner))) as Arc<dyn AggregateUDFImpl>))
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
            ReversedUDAF::Reversed(inner) => ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(self.over(inner)))),
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
        let theirs = self.way.statistics_are_theirs(&self.inner, statistics);
        theirs.then(|| self.inner.value_from_stats(statistics)).flatten()
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
