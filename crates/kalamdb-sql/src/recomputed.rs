//! Functions of DataFusion whose values are computed otherwise, and which are themselves in all else that a plan asks.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Another way to compute a function.
pub(crate) trait Computation: Debug + Eq + Hash + Send + Sync + 'static {
    /// The function's values; `function` is DataFusion's.
    ///
    /// # Errors
    /// Whatever the function says.
    fn compute(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue>;
}

/// Has a call computed so, unless it is already.
pub(crate) fn recomputed<C: Computation>(mut call: ScalarFunction, computation: C) -> Transformed<ScalarFunction> {
    if call.func.inner().is::<Recomputed<C>>() {
        return Transformed::no(call);
    }
    call.func = Arc::new(ScalarUDF::from(Recomputed {
        function: call.func,
        computation,
    }));
    Transformed::yes(call)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Recomputed<C> {
    function: Arc<ScalarUDF>,
    computation: C,
}

impl<C: Computation> ScalarUDFImpl for Recomputed<C> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.computation.compute(&self.function, args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.function.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}
