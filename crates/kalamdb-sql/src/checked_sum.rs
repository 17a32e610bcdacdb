//! SUM of integers, and of decimals of the most digits, that fails where DataFusion's would wrap.
//!
//! Problem: DataFusion 55 adds integers with wrapping arithmetic, so that a sum out of range is a wrong number. Proper way: a sum
//! of a wider type, which PostgreSQL has; it would change the type of every `sum(bigint)`. Chosen: the same type, the same
//! states but wider, and INVALID_ARGUMENT when the sum of all values is out of range, in whatever order they come. (Beside an
//! aggregate of DISTINCT values, DataFusion adds sums of groups, each of which is to be in range then.) Evidence: `add_wrapping` in
//! datafusion-functions-aggregate 55 `sum.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray, UInt64Array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

/// Of the sum before it is known to be in range: the sum of as many integers as there may be.
const STATE: DataType = DataType::Decimal128(38, 0);

/// SUM; of what is no integer DataFusion's own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckedSum {
    inner: Arc<AggregateUDF>,
}

impl CheckedSum {
    pub(crate) fn new() -> Self {
        CheckedSum { inner: sum_udaf() }
    }
}

/// The types of sums that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Signed,
    Unsigned,
    /// DECIMAL(38, scale). Of fewer digits, a sum has ten more than its values, and no sum of so many rows is computed.
    Decimal(i8),
}

/// More than any sum may be, and what a sum that was too large on the way stays.
const OVERFLOWN: i128 = i128::MIN;

const MOST_OF_DECIMAL: u128 = 10_u128.pow(38) - 1;

fn plus(total: i128, value: i128) -> i128 {
    match total {
        OVERFLOWN => OVERFLOWN,
        total => total.checked_add(value).unwrap_or(OVERFLOWN),
    }
}

impl Width {
    fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Int64 => Some(Width::Signed),
            DataType::UInt64 => Some(Width::Unsigned),
            DataType::Decimal128(38, scale) => Some(Width::Decimal(*scale)),
            _ => None,
        }
    }

    /// Of a sum that is not whole yet.
    fn state(self) -> DataType {
        match self {
            Width::Signed | Width::Unsigned => STATE,
            Width::Decimal(scale) => DataType::Decimal128(38, scale),
        }
    }

    fn in_decimal(self, total: Option<i128>) -> Result<Option<i128>> {
        match total {
            Some(total) if total.unsigned_abs() > MOST_OF_DECIMAL => Err(self.overflow()),
            fits => Ok(fits),
        }
    }

    /// Calls `take` with each value that is not NULL, and its row.
    fn each(self, values: &ArrayRef, take: impl FnMut(usize, i128)) {
        match self {
            Width::Signed => each(values.as_primitive::<Int64Type>(), take),
            Width::Unsigned => each(values.as_primitive::<UInt64Type>(), take),
            Width::Decimal(_) => each(values.as_primitive::<Decimal128Type>(), take),
        }
    }

    /// Sum and number of the values that are not NULL.
    fn total(self, values: &ArrayRef) -> (i128, u64) {
        let (mut total, mut count) = (0, 0);
        self.each(values, |_, value| {
            total = plus(total, value);
            count += 1;
        });
        (total, count)
    }

    fn scalar(self, total: Option<i128>) -> Result<ScalarValue> {
        Ok(match self {
            Width::Signed => ScalarValue::Int64(total.map(i64::try_from).transpose().map_err(|_| self.overflow())?),
            Width::Unsigned => ScalarValue::UInt64(total.map(u64::try_from).transpose().map_err(|_| self.overflow())?),
            Width::Decimal(scale) => ScalarValue::Decimal128(self.in_decimal(total)?, 38, scale),
        })
    }

    fn array(self, totals: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
        Ok(match self {
            Width::Signed => {
                let values = totals.map(|total| total.map(i64::try_from).transpose());
                let values: std::result::Result<Int64Array, _> = values.collect();
                Arc::new(values.map_err(|_| self.overflow())?)
            }
            Width::Unsigned => {
                let values = totals.map(|total| total.map(u64::try_from).transpose());
                let values: std::result::Result<UInt64Array, _> = values.collect();
                Arc::new(values.map_err(|_| self.overflow())?)
            }
            Width::Decimal(_) => {
                let values: Result<Decimal128Array> = totals.map(|total| self.in_decimal(total)).collect();
                Arc::new(values?.with_data_type(self.state()))
            }
        })
    }

    fn overflow(self) -> DataFusionError {
        let (name, digits, scale) = match self {
            Width::Signed => ("BIGINT", 38, 0),
            Width::Unsigned => ("UBIGINT", 38, 0),
            Width::Decimal(scale) => ("DECIMAL with 38 digits", 76, scale),
        };
        let message = format!("a sum is out of range of {name}; write sum(CAST(… AS DECIMAL({digits}, {scale})))");
        DataFusionError::External(Box::new(Error::new(ErrorCode::InvalidArgument, message)))
    }
}

fn each<T>(values: &PrimitiveArray<T>, mut take: impl FnMut(usize, i128))
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128>,
{
    if values.null_count() == 0 {
        for (row, value) in values.values().iter().enumerate() {
            take(row, (*value).into());
        }
    } else {
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value {
                take(row, value.into());
            }
        }
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Width::of(args.return_type()) {
            Some(Width::Decimal(_)) if args.is_distinct => self.inner.accumulator(args),
            Some(width) if args.is_distinct => Ok(Box::new(DistinctSum::new(width))),
            Some(width) => Ok(Box::new(IntegerSum::new(width))),
            None => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match Width::of(args.return_type()) {
            Some(width) if !args.is_distinct => {
                let name = format_state_name(args.name, "sum");
                Ok(vec![Arc::new(Field::new(name, width.state(), true))])
            }
            Some(_) | None => self.inner.state_fields(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match Width::of(args.return_type()) {
            Some(width) => Ok(Box::new(IntegerSums::new(width))),
            None => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Width::of(args.return_type()) {
            Some(Width::Decimal(_)) if args.is_distinct => self.inner.create_sliding_accumulator(args),
            Some(_) => self.accumulator(args),
            None => self.inner.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        agg_function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        lit: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner
            .inner()
            .simplify_expr_op_literal(agg_function, arg, op, lit, arg_is_left)
    }

    fn value_from_stats(&self, statistics_args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(statistics_args)
    }
}

/// One sum, which values can also leave, as a window slides on.
#[derive(Debug)]
struct IntegerSum {
    width: Width,
    total: i128,
    count: u64,
}

impl IntegerSum {
    fn new(width: Width) -> Self {
        IntegerSum {
            width,
            total: 0,
            count: 0,
        }
    }

    fn sum(&self) -> Option<i128> {
        (self.count > 0).then_some(self.total)
    }
}

impl Accumulator for IntegerSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (total, count) = self.width.total(&values[0]);
        self.total = plus(self.total, total);
        self.count += count;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (total, count) = self.width.total(&values[0]);
        self.total = match total {
            OVERFLOWN => OVERFLOWN,
            total => plus(self.total, -total),
        };
        self.count -= count;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.width.scalar(self.sum())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let scale = match self.width {
            Width::Signed | Width::Unsigned => 0,
            Width::Decimal(scale) => scale,
        };
        Ok(vec![ScalarValue::Decimal128(self.sum(), 38, scale)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        each(states[0].as_primitive::<Decimal128Type>(), |_, total| {
            self.total = plus(self.total, total);
            self.count += 1;
        });
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of different values, and how often each is there.
#[derive(Debug)]
struct DistinctSum {
    width: Width,
    total: i128,
    counts: HashMap<i128, u64>,
}

impl DistinctSum {
    fn new(width: Width) -> Self {
        DistinctSum {
            width,
            total: 0,
            counts: HashMap::new(),
        }
    }

    fn add(&mut self, values: &ArrayRef) {
        let DistinctSum { width, total, counts } = self;
        width.each(values, |_, value| {
            let count = counts.entry(value).or_default();
            if *count == 0 {
                *total += value;
            }
            *count += 1;
        });
    }
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0]);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let DistinctSum { width, total, counts } = self;
        width.each(&values[0], |_, value| {
            if let Some(count) = counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&value);
                    *total -= value;
                }
            }
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.width.scalar((!self.counts.is_empty()).then_some(self.total))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.counts.keys().map(|value| self.width.scalar(Some(*value)));
        let values: Vec<ScalarValue> = values.collect::<Result<_>>()?;
        let data_type = match self.width {
            Width::Signed => DataType::Int64,
            Width::Unsigned => DataType::UInt64,
            Width::Decimal(_) => self.width.state(),
        };
        let list = ScalarValue::new_list_nullable(&values, &data_type);
        Ok(vec![ScalarValue::List(list)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states[0].as_list::<i32>().iter().flatten() {
            self.add(&values);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i128, u64)>()
    }
}

/// The sums of groups.
struct IntegerSums {
    width: Width,
    totals: Vec<i128>,
    /// Whether a group has a value.
    has_values: Vec<bool>,
}

impl IntegerSums {
    fn new(width: Width) -> Self {
        IntegerSums {
            width,
            totals: Vec::new(),
            has_values: Vec::new(),
        }
    }

    fn resize(&mut self, groups: usize) {
        self.totals.resize(groups, 0);
        self.has_values.resize(groups, false);
    }

    fn take(&mut self, emit_to: EmitTo) -> impl Iterator<Item = Option<i128>> {
        let totals = emit_to.take_needed(&mut self.totals);
        let has_values = emit_to.take_needed(&mut self.has_values);
        let sums = totals.into_iter().zip(has_values);
        sums.map(|(total, has_value)| has_value.then_some(total))
    }
}

impl GroupsAccumulator for IntegerSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let IntegerSums {
            width,
            totals,
            has_values,
        } = self;
        width.each(&values[0], |row, value| {
            if opt_filter.is_none_or(|filter| passes(filter, row)) {
                let group = group_indices[row];
                totals[group] = plus(totals[group], value);
                has_values[group] = true;
            }
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let width = self.width;
        width.array(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let data_type = self.width.state();
        let totals: Decimal128Array = self.take(emit_to).collect();
        Ok(vec![Arc::new(totals.with_data_type(data_type))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.resize(total_num_groups);
        each(values[0].as_primitive::<Decimal128Type>(), |row, total| {
            let group = group_indices[row];
            self.totals[group] = plus(self.totals[group], total);
            self.has_values[group] = true;
        });
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut totals = vec![None; values[0].len()];
        self.width.each(&values[0], |row, value| {
            if opt_filter.is_none_or(|filter| passes(filter, row)) {
                totals[row] = Some(value);
            }
        });
        let totals = Decimal128Array::from(totals).with_data_type(self.width.state());
        Ok(vec![Arc::new(totals)])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i128>() + self.has_values.capacity()
    }
}

fn passes(filter: &BooleanArray, row: usize) -> bool {
    filter.is_valid(row) && filter.value(row)
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, g INT, b BIGINT, u BIGINT UNSIGNED, s SMALLINT)",
            "INSERT INTO t VALUES (1, 1, 9223372036854775807, 18446744073709551615, 32767), (2, 1, 1, 1, 32767), \
             (3, 2, -1, 0, NULL), (4, 2, NULL, NULL, -1), (5, 3, NULL, NULL, NULL)",
        ]);
        fixture
    }

    #[test]
    fn a_sum_out_of_range_is_an_error() {
        let fixture = fixture();
        for sql in [
            "SELECT sum(b) FROM t WHERE id < 3",
            "SELECT sum(u) FROM t",
            "SELECT g, sum(b) FROM t GROUP BY g",
            "SELECT g, sum(u) FROM t GROUP BY g",
            "SELECT sum(DISTINCT b), count(DISTINCT s) FROM t WHERE id < 3",
            "SELECT sum(b) OVER (ORDER BY id) FROM t",
            "SELECT sum(b) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
            "SELECT sum(b) FILTER (WHERE b > 0) FROM t",
            "SELECT sum(x.b) FROM t x CROSS JOIN generate_series(1, 3)",
        ] {
            fixture.check_error_part(sql, ErrorCode::InvalidArgument, "a sum is out of range");
        }
    }

    #[test]
    fn a_sum_of_decimals_out_of_range_is_an_error() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(38, 2), w DECIMAL(30, 2))",
            "INSERT INTO t VALUES (1, 999999999999999999999999999999999999.99, 1.25), \
             (2, 999999999999999999999999999999999999.99, 2.5), (3, -1, NULL), (4, 1, -0.5)",
        ]);
        for sql in [
            "SELECT sum(d) FROM t",
            "SELECT sum(d) FROM t WHERE id IN (1, 4)",
            "SELECT id > 2, sum(d) FROM t GROUP BY id > 2",
            "SELECT sum(d) OVER (ORDER BY id) FROM t",
        ] {
            fixture.check_error_part(sql, ErrorCode::InvalidArgument, "a sum is out of range");
        }
        fixture.check(
            "SELECT sum(d), sum(w), arrow_typeof(sum(d)) FROM t WHERE id <> 2",
            &["999999999999999999999999999999999999.99|0.75|Decimal128(38, 2)"],
        );
        fixture.check(
            "SELECT id % 2 AS g, sum(w), count(*) FROM t GROUP BY g ORDER BY g",
            &["0|2.00|2", "1|1.25|2"],
        );
        fixture.check(
            "SELECT sum(w) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
            &["1.25", "3.75", "2.50", "-0.50"],
        );
        fixture.check("SELECT sum(DISTINCT w) FROM t", &["3.25"]);
    }

    #[test]
    fn a_sum_in_range_is_exact_whatever_comes_on_the_way() {
        let fixture = fixture();
        // 2^63 on the way.
        fixture.check("SELECT sum(b) FROM t", &["9223372036854775807"]);
        fixture.check("SELECT sum(b), sum(s) FROM t", &["9223372036854775807|65533"]);
        fixture.check("SELECT sum(DISTINCT s), sum(id) FROM t", &["32766|15"]);
        fixture.check(
            "SELECT g, sum(s), sum(b) FILTER (WHERE b < 2) FROM t GROUP BY g ORDER BY g",
            &["1|65534|1", "2|-1|-1", "3|NULL|NULL"],
        );
        fixture.check("SELECT sum(b) FROM t WHERE id > 3", &["NULL"]);
        fixture.check("SELECT sum(u) FROM t WHERE id <> 2", &["18446744073709551615"]);
        fixture.check(
            "SELECT sum(s) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
            &["32767", "65534", "32767", "-1", "-1"],
        );
        fixture.check(
            "SELECT sum(DISTINCT s) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
            &["32767", "32767", "32767", "-1", "-1"],
        );
        fixture.check(
            "SELECT sum(value), sum(DISTINCT value % 3), arrow_typeof(sum(value)) FROM generate_series(1, 100000)",
            &["5000050000|3|Int64"],
        );
        fixture.check(
            "SELECT value % 3 AS g, sum(value) FROM generate_series(1, 100000) GROUP BY g ORDER BY g",
            &["0|1666683333", "1|1666716667", "2|1666650000"],
        );
        fixture.check(
            "SELECT sum(b::DOUBLE) > 0, sum(1.5::DECIMAL(10, 1)) FROM t",
            &["true|7.5"],
        );
        fixture.check(
            "SELECT sum(CAST(b AS DECIMAL(38, 0))) FROM t WHERE id < 3",
            &["9223372036854775808"],
        );
    }
}
