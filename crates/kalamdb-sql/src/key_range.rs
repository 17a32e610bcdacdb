//! Which filters of a query key ranges answer exactly, so that a scan opens those ranges and nothing filters again.

use std::collections::HashSet;
use std::ops::Bound;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{KeyConstraint, Table};

/// How many keys of an IN list are looked up one by one; a longer list filters a scan instead, which reads each key once.
const MOST_KEYS: usize = 1_024;

/// Key ranges, disjoint, and the indices of the filters that they stand for.
#[derive(Clone, Debug)]
pub(crate) struct KeyRanges {
    pub(crate) constraints: Vec<KeyConstraint>,
    pub(crate) answered: Vec<usize>,
}

/// The key ranges that answer as many of the filters as one walk over the key can: equality (once with one of several values)
/// on leading key columns, then bounds on the next. `None` if they answer none.
pub(crate) fn of_filters(table: &Table, filters: &[&Expr]) -> Option<KeyRanges> {
    let comparisons: Vec<Option<Comparison<'_>>> = filters.iter().map(|filter| comparison(filter)).collect();
    let find = |name: &str, data_type: &DataType, operators: &[Operator]| {
        comparisons.iter().enumerate().find_map(|(index, comparison)| {
            let comparison = comparison.as_ref()?;
            let usable = comparison.column == name
                && operators.contains(&comparison.operator)
                && !comparison.value.is_null()
                && comparison.value.data_type() == *data_type;
            let value = usable.then(|| comparison.value.to_array().ok())??; // Every key type has arrays.
            Some((index, comparison.operator, value))
        })
    };
    let mut equal: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    let (mut lower, mut upper) = (Bound::Unbounded, Bound::Unbounded);
    let mut answered = Vec::new();
    for &index in &table.schema.primary_key {
        let column = &table.schema.columns[index];
        if column.internal {
            break;
        }
        if let Some((filter, _, value)) = find(&column.name, &column.data_type, &[Operator::Eq]) {
            equal.iter_mut().for_each(|values| values.push(value.clone()));
            answered.push(filter);
            continue;
        }
        let lists = filters.iter().enumerate();
        let list = lists
            .filter_map(|(filter, expr)| Some((filter, one_of(expr, &column.name, &column.data_type)?)))
            .next();
        if let Some((filter, values)) = list
            && equal.len() == 1
        {
            let before = equal.swap_remove(0);
            equal = values
                .into_iter()
                .map(|value| before.iter().cloned().chain([value]).collect())
                .collect();
            answered.push(filter);
            continue;
        }
        if let Some((filter, operator, value)) = find(&column.name, &column.data_type, &[Operator::Gt, Operator::GtEq])
        {
            lower = bound(operator == Operator::GtEq, value);
            answered.push(filter);
        }
        if let Some((filter, operator, value)) = find(&column.name, &column.data_type, &[Operator::Lt, Operator::LtEq])
        {
            upper = bound(operator == Operator::LtEq, value);
            answered.push(filter);
        }
        break;
    }
    if answered.is_empty() {
        return None;
    }
    let constraint = |equal| KeyConstraint {
        equal,
        lower: lower.clone(),
        upper: upper.clone(),
    };
    Some(KeyRanges {
        constraints: equal.into_iter().map(constraint).collect(),
        answered,
    })
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

/// The distinct values of `column IN (literals)`, or of the same written with OR. NULLs among them match nothing.
fn one_of(filter: &Expr, column: &str, data_type: &DataType) -> Option<Vec<ArrayRef>> {
    let mut found: Vec<&ScalarValue> = Vec::new();
    match filter {
        Expr::InList(list) if !list.negated => {
            let Expr::Column(of) = list.expr.as_ref() else {
                return None;
            };
            if of.name != column || list.list.len() > MOST_KEYS {
                return None;
            }
            for item in &list.list {
                let Expr::Literal(value, _) = item else { return None };
                found.push(value);
            }
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let mut open = vec![filter];
            while let Some(part) = open.pop() {
                match part {
                    Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
                        open.extend([&*binary.left, &*binary.right])
                    }
                    part => {
                        let comparison =
                            comparison(part).filter(|part| part.column == column && part.operator == Operator::Eq)?;
                        found.push(comparison.value);
                    }
                }
                if found.len() > MOST_KEYS {
                    return None;
                }
            }
        }
        _ => return None,
    }
    let mut seen = HashSet::with_capacity(found.len());
    let mut values = Vec::with_capacity(found.len());
    for value in found {
        if value.is_null() {
            continue;
        }
        if value.data_type() != *data_type {
            return None;
        }
        if seen.insert(value) {
            values.push(value.to_array().ok()?); // Every key type has arrays.
        }
    }
    Some(values)
}
