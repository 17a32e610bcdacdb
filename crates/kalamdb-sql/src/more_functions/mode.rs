//! `mode() WITHIN GROUP (ORDER BY x)`, the value that is there most often, and `percentile_disc(p) WITHIN GROUP (ORDER BY x)`, the first
//! value behind a share of all. Both give one of the values, of any type, and hold all of them until then.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::{concat, filter, is_not_null};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use datafusion::scalar::ScalarValue;
use kalamdb_core::ErrorCode;

use super::refused;
use crate::float_order;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Mode {
    signature: Signature,
}

impl Mode {
    pub(super) fn new() -> Self {
        Mode {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PercentileDisc {
    signature: Signature,
}

impl PercentileDisc {
    pub(super) fn new() -> Self {
        PercentileDisc {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for Mode {
    fn name(&self) -> &str {
        "mode"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(of_first(arguments))
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(like_first(self.name(), arguments))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values::new(
            &args,
            "mode() WITHIN GROUP (ORDER BY x)",
            Pick::Mode,
        )?))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

impl AggregateUDFImpl for PercentileDisc {
    fn name(&self) -> &str {
        "percentile_disc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(of_first(arguments))
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(like_first(self.name(), arguments))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let form = "percentile_disc(share) WITHIN GROUP (ORDER BY x)";
        let share = args.exprs.get(1).and_then(|share| share.downcast_ref::<Literal>());
        let share = share.and_then(|share| match share.value().cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(share)) => share,
            // What is no number is refused below.
            Ok(_) | Err(_) => None,
        });
        match share {
            Some(share) if (0.0..=1.0).contains(&share) => Ok(Box::new(Values::new(&args, form, Pick::Share(share))?)),
            _ => Err(refused(
                ErrorCode::InvalidArgument,
                "percentile_disc takes a constant number from 0 to 1",
            )),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

fn of_first(arguments: &[DataType]) -> DataType {
    arguments.first().cloned().unwrap_or(DataType::Null)
}

/// The value's own field, so that a UUID stays one.
fn like_first(name: &str, arguments: &[FieldRef]) -> FieldRef {
    match arguments.first() {
        Some(field) => Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)),
        None => Arc::new(Field::new(name, DataType::Null, true)),
    }
}

fn state_fields(args: &StateFieldsArgs<'_>) -> Vec<FieldRef> {
    let values = args
        .input_fields
        .first()
        .map_or(DataType::Null, |field| field.data_type().clone());
    let list = DataType::List(Arc::new(Field::new_list_field(values, true)));
    vec![Arc::new(Field::new(format_state_name(args.name, "values"), list, true))]
}

#[derive(Clone, Copy, Debug)]
enum Pick {
    Mode,
    /// From 0 to 1.
    Share(f64),
}

/// All values, but NULLs.
struct Values {
    data_type: DataType,
    pick: Pick,
    is_descending: bool,
    parts: Vec<ArrayRef>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values")
            .field("pick", &self.pick)
            .finish_non_exhaustive()
    }
}

impl Values {
    fn new(args: &AccumulatorArgs<'_>, form: &str, pick: Pick) -> Result<Self> {
        if args.is_distinct || args.order_bys.is_empty() {
            return Err(refused(
                ErrorCode::InvalidStatement,
                format!("it is written {form}, without DISTINCT"),
            ));
        }
        let first = args.expr_fields.first();
        Ok(Values {
            data_type: first.map_or(DataType::Null, |field| field.data_type().clone()),
            pick,
            is_descending: args.order_bys.first().is_some_and(|key| key.options.descending),
            parts: Vec::new(),
        })
    }

    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let present = match values.logical_null_count() {
            0 => Arc::clone(values),
            _ => filter(values, &is_not_null(values)?)?,
        };
        if !present.is_empty() {
            self.parts.push(present);
        }
        Ok(())
    }

    fn all(&self) -> Result<Option<ArrayRef>> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
        match parts.is_empty() {
            true => Ok(None),
            false => Ok(Some(concat(&parts)?)),
        }
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values.first() {
            Some(values) => self.add(values),
            None => Ok(()),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(values) = self.all()? else {
            return ScalarValue::try_from(&self.data_type);
        };
        // Zeros are one, and so are NaNs.
        let compared = float_order::ordered(&values);
        let converter = RowConverter::new(vec![SortField::new(compared.data_type().clone())])?;
        let rows = converter.convert_columns(&[compared])?;
        let mut sorted: Vec<usize> = (0..values.len()).collect();
        sorted.sort_by(|&one, &other| rows.row(one).cmp(&rows.row(other)));
        if self.is_descending {
            sorted.reverse();
        }
        let picked = match self.pick {
            Pick::Mode => {
                let groups = sorted.chunk_by(|&one, &other| rows.row(one) == rows.row(other));
                // The first of those that are as many.
                let most = groups.fold(
                    &sorted[..0],
                    |most, group| if group.len() > most.len() { group } else { most },
                );
                most.first().copied()
            }
            Pick::Share(share) => {
                #[expect(clippy::cast_precision_loss, reason = "fewer than a double counts")]
                let place = (share * sorted.len() as f64).ceil();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "from 0 to their number"
                )]
                let place = place as usize;
                sorted.get(place.saturating_sub(1)).copied()
            }
        };
        match picked {
            Some(row) => ScalarValue::try_from_array(&values, row),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn size(&self) -> usize {
        let values: usize = self.parts.iter().map(|part| part.get_array_memory_size()).sum();
        size_of_val(self) + self.parts.capacity() * size_of::<ArrayRef>() + values
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = match self.all()? {
            Some(values) => values,
            None => arrow::array::new_empty_array(&self.data_type),
        };
        Ok(vec![SingleRowListArrayBuilder::new(values).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first() else { return Ok(()) };
        let lists: &ListArray = states.as_list::<i32>();
        for values in lists.iter().flatten() {
            self.add(&values)?;
        }
        Ok(())
    }
}
