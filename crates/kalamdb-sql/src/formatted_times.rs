//! `to_timestamp` and its like with formats, whose result is of the type that they say it is.
//!
//! Problem: over a column DataFusion 55 gives timestamps without a time zone where the function's type has one, and the plan
//! fails. Proper way: to give them the zone there, as for constants and without formats. Chosen: a wrapper that does it.
//! Evidence: `strings_to_primitive_function` in `handle_multiple` of datafusion-functions 55 `datetime/common.rs`.

use arrow::compute::cast;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use crate::recomputed::{Computation, recomputed};

const FUNCTIONS: &[&str] = &[
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
];

/// Has a call computed so, if it is one of these with formats.
pub(crate) fn typed(call: ScalarFunction) -> Transformed<ScalarFunction> {
    match call.args.len() >= 2 && FUNCTIONS.contains(&call.func.name()) {
        true => recomputed(call, Typed),
        false => Transformed::no(call),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed;

impl Computation for Typed {
    fn compute(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        Ok(match function.invoke_with_args(args)? {
            ColumnarValue::Array(array) if *array.data_type() != data_type => {
                ColumnarValue::Array(cast(&array, &data_type)?)
            }
            result => result,
        })
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
