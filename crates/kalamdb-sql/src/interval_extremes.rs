//! `min` and `max` of intervals, by what they last.
//!
//! What DataFusion compares for them, and why that is no order of intervals, is told in `intervals`.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::scalar::ScalarValue;

use crate::intervals::{has_parts, lengths};

/// Whether an aggregate over values of a type is ours: DataFusion orders those of one part as they last.
pub(crate) fn are_ours(name: &str, data_type: &DataType) -> bool {
    matches!(name, "min" | "max") && has_parts(data_type)
}

/// The shortest or the longest interval.
#[derive(Debug)]
pub(crate) struct Extreme {
    /// The values that may be it, by their length; of those of one length the first, and how many there are.
    by_length: BTreeMap<i128, (ScalarValue, u64)>,
    is_max: bool,
    /// Of a moving window, whose values are taken back.
    is_sliding: bool,
    data_type: DataType,
}

impl Extreme {
    pub(crate) fn new(name: &str, args: &AccumulatorArgs<'_>, is_sliding: bool) -> Self {
        Extreme {
            by_length: BTreeMap::new(),
            is_max: name == "max",
            is_sliding,
            data_type: args.return_field.data_type().clone(),
        }
    }

    fn found(&self) -> Option<(&i128, &(ScalarValue, u64))> {
        match self.is_max {
            true => self.by_length.last_key_value(),
            false => self.by_length.first_key_value(),
        }
    }

    fn is_beaten(&self, length: i128) -> bool {
        let Some((best, _)) = self.found() else { return false };
        match self.is_max {
            true => length <= *best,
            false => length >= *best,
        }
    }
}

impl Accumulator for Extreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for values in values {
            for (row, length) in lengths(values)?.iter().enumerate() {
                let Some(length) = length else { continue };
                if self.is_sliding {
                    let value = ScalarValue::try_from_array(values, row)?;
                    self.by_length.entry(length).or_insert((value, 0)).1 += 1;
                } else if !self.is_beaten(length) {
                    self.by_length.clear();
                    self.by_length
                        .insert(length, (ScalarValue::try_from_array(values, row)?, 1));
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.found() {
            Some((_, (value, _))) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.by_length.len() * size_of::<(i128, (ScalarValue, u64))>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for values in values {
            for length in lengths(values)?.iter().flatten() {
                if let Some((_, count)) = self.by_length.get_mut(&length) {
                    *count -= 1;
                    if *count == 0 {
                        self.by_length.remove(&length);
                    }
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.is_sliding
    }
}
