//! Which filters of a query a key range answers exactly, so that a scan opens that range and nothing filters again.

use std::ops::Bound;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{KeyConstraint, Table};

/// A key range and the indices of the filters that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(crate) constraint: KeyConstraint,
    pub(crate) answered: Vec<usize>,
}

/// The key range that answers as many of the filters as one range can: equality on leading key columns, then bounds on the
/// next. `None` if it answers none.
pub(crate) fn of_filters(table: &Table, filters: &[&Expr]) -> Option<KeyRange> {
    let comparisons: Vec<Option<Comparison<'_>>> = filters.iter().map(|filter| comparison(filter)).collect();
    let find = |name: &str, data_type: &DataType, operators: &[Operator]| {
        comparisons.iter().enumerate().find_map(|(index, comparison)| {
            let comparison = comparison.as_ref()?;
            let usable = comparison.column == name
                && operators.contains(&comparison.operator)
                && !comparison.value.is_null()
                && comparison.value.data_type() == *data_type;
            if usable {
                Some((index, comparison.operator, comparison.value.to_array().ok()?))
            } else {
                None
            }
        })
    };
    let mut range = KeyRange {
        constraint: KeyConstraint {
            equal: Vec::new(),
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
        },
        answered: Vec::new(),
    };
    for &index in &table.schema.primary_key {
        let column = &table.schema.columns[index];
        if column.internal {
            break;
        }
        if let Some((filter, _, value)) = find(&column.name, &column.data_type, &[Operator::Eq]) {
            range.constraint.equal.push(value);
            range.answered.push(filter);
            continue;
        }
        if let Some((filter, operator, value)) = find(&column.name, &column.data_type, &[Operator::Gt, Operator::GtEq])
        {
            range.constraint.lower = bound(operator == Operator::GtEq, value);
            range.answered.push(filter);
        }
        if let Some((filter, operator, value)) = find(&column.name, &column.data_type, &[Operator::Lt, Operator::LtEq])
        {
            range.constraint.upper = bound(operator == Operator::LtEq, value);
            range.answered.push(filter);
        }
        break;
    }
    (!range.answered.is_empty()).then_some(range)
}

fn bound(inclusive: bool, value: ArrayRef) -> Bound<ArrayRef> {
    if inclusive {
        Bound::Included(value)
    } else {
        Bound::Excluded(value)
    }
}

struct Comparison<'a> {
    column: &'a str,
    operator: Operator,
    value: &'a ScalarValue,
}

/// `column operator literal`, whichever way round it is written.
fn comparison(filter: &Expr) -> Option<Comparison<'_>> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => Some(Comparison {
            column: &column.name,
            operator: binary.op,
            value,
        }),
        (Expr::Literal(value, _), Expr::Column(column)) => Some(Comparison {
            column: &column.name,
            operator: binary.op.swap()?,
            value,
        }),
        _ => None,
    }
}
