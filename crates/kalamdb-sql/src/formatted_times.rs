//! `to_timestamp` and its like with formats, whose result is of the type that they say it is.
//!
//! Problem: over a column DataFusion 55 gives timestamps without a time zone where the function's type has one, and the plan
//! fails. Proper way: to give them the zone there, as for constants and without formats. Chosen: a wrapper that does it.
//! Evidence: `strings_to_primitive_function` in `handle_multiple` of datafusion-functions 55 `datetime/common.rs`.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

const FUNCTIONS: &[&str] = &[
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
];

/// Wraps the function of a call, if it is one of these with formats.
pub(crate) fn typed(mut call: ScalarFunction) -> Transformed<ScalarFunction> {
    if call.args.len() < 2 || !FUNCTIONS.contains(&call.func.name()) || call.func.inner().is::<Typed>() {
        return Transformed::no(call);
    }
    call.func = Arc::new(ScalarUDF::from(Typed { inner: call.func }));
    Transformed::yes(call)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Typed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        Ok(match self.inner.invoke_with_args(args)? {
            ColumnarValue::Array(array) if *array.data_type() != data_type => {
                ColumnarValue::Array(cast(&array, &data_type)?)
            }
            result => result,
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn texts_of_a_column_become_moments_by_their_format() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, f TEXT)",
            "INSERT INTO t VALUES (1, '2020-09-08', '%Y-%m-%d'), (2, '08.09.2020', '%d.%m.%Y'), (3, NULL, '%Y'), (4, '1', NULL)",
        ]);
        let moment = "2020-09-08T00:00:00Z";
        fixture.check(
            "SELECT to_timestamp(a, f) FROM t ORDER BY id",
            &[moment, moment, "NULL", "NULL"],
        );
        fixture.check(
            "SELECT to_timestamp_seconds(a, '%d.%m.%Y', f) FROM t WHERE id < 4 ORDER BY id",
            &[moment, moment, "NULL"],
        );
        fixture.check("SELECT to_timestamp_micros('2020-09-08', '%Y-%m-%d')", &[moment]);
    }
}
