//! Which filters of a query key ranges answer exactly, so that a scan opens those ranges and nothing filters again.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Bound;

use arrow::array::ArrayRef;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Column as TableColumn, KeyConstraint, Table};

/// How many keys of an IN list are looked up one by one; a longer list filters a scan instead, which reads each key once.
const MOST_KEYS: usize = 1_024;

/// Alternatives that a bound of several columns may be written as, and how deep they may be in each other.
const MOST_BOUND_PARTS: usize = 32;

/// Key ranges, disjoint and in key order, and the indices of the filters that they stand for.
#[derive(Clone, Debug)]
pub(crate) struct KeyRanges {
    pub(crate) constraints: Vec<KeyConstraint>,
    pub(crate) answered: Vec<usize>,
}

/// The key ranges that answer as many of the filters as one walk over the key can: equality (once with one of several values)
/// on leading key columns, then bounds on the next ones. `None` if they answer none.
pub(crate) fn of_filters(table: &Table, filters: &[&Expr]) -> Option<KeyRanges> {
    let key = key_columns(table);
    let mut equal: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    let (mut lower, mut upper) = (Bound::Unbounded, Bound::Unbounded);
    let mut answered = Vec::new();
    for position in 0..key.len() {
        let column = key[position];
        let mut equalities = filters.iter().enumerate();
        if let Some((filter, value)) = equalities.find_map(|(index, filter)| Some((index, fixed(filter, column)?))) {
            equal.iter_mut().for_each(|values| values.push(value.clone()));
            answered.push(filter);
            continue;
        }
        let mut lists = filters.iter().enumerate();
        if let Some((filter, values)) = lists.find_map(|(index, filter)| Some((index, one_of(filter, column)?)))
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
        let mut bounds = Bounds::default();
        for (index, filter) in filters.iter().enumerate() {
            if RowBound::of(filter, &key[position..]).is_some_and(|bound| bounds.take(bound)) {
                answered.push(index);
            }
        }
        (lower, upper) = bounds.of_keys()?;
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

/// Which of the filters [`of_filters`] may have answered when it was asked about some of them only. It says yes too often rather
/// than too rarely.
pub(crate) fn may_be_answered(table: &Table, filters: &[Expr]) -> Vec<bool> {
    let key = key_columns(table);
    let mut may = vec![false; filters.len()];
    for position in 0..key.len() {
        let mut goes_on = false;
        for (filter, may) in filters.iter().zip(&mut may) {
            let fixes = fixed(filter, key[position]).is_some() || one_of(filter, key[position]).is_some();
            goes_on |= fixes;
            *may |= fixes || RowBound::of(filter, &key[position..]).is_some();
        }
        if !goes_on {
            break;
        }
    }
    may
}

/// Those that filters can name, in the order of the key.
fn key_columns(table: &Table) -> Vec<&TableColumn> {
    let columns = table
        .schema
        .primary_key
        .iter()
        .map(|&index| &table.schema.columns[index]);
    columns.take_while(|column| !column.internal).collect()
}

/// The value of `column = value`.
fn fixed(filter: &Expr, column: &TableColumn) -> Option<ArrayRef> {
    let comparison = comparison(filter)?;
    (comparison.operator == Operator::Eq && comparison.is_of(column))
        .then(|| comparison.value.to_array().ok()) // Every key type has arrays.
        .flatten()
}

/// The tightest bounds of keys.
#[derive(Default)]
struct Bounds<'a> {
    lower: Option<Edge<'a>>,
    upper: Option<Edge<'a>>,
}

impl<'a> Bounds<'a> {
    /// Adds one; `false` if it cannot be compared with those that are there.
    fn take(&mut self, bound: RowBound<'a>) -> bool {
        let (side, tighter) = match bound.side {
            Side::Lower => (&mut self.lower, Ordering::Greater),
            Side::Upper => (&mut self.upper, Ordering::Less),
        };
        match side {
            None => *side = Some(bound.edge),
            Some(edge) => match bound.edge.compare(edge) {
                Some(order) if order == tighter => *edge = bound.edge,
                Some(_) => {}
                None => return false,
            },
        }
        true
    }

    fn of_keys(&self) -> Option<(KeyBound, KeyBound)> {
        let lower = match &self.lower {
            None => Bound::Unbounded,
            Some(edge) if edge.after => Bound::Excluded(edge.arrays()?),
            Some(edge) => Bound::Included(edge.arrays()?),
        };
        let upper = match &self.upper {
            None => Bound::Unbounded,
            Some(edge) if edge.after => Bound::Included(edge.arrays()?),
            Some(edge) => Bound::Excluded(edge.arrays()?),
        };
        Some((lower, upper))
    }
}

/// The first values of the keys at one end of a range.
type KeyBound = Bound<Vec<ArrayRef>>;

/// A place between keys: before all those that begin with these values, or after them.
struct Edge<'a> {
    values: Vec<&'a ScalarValue>,
    after: bool,
}

impl Edge<'_> {
    /// Which one comes first.
    fn compare(&self, other: &Self) -> Option<Ordering> {
        for (value, other) in self.values.iter().zip(&other.values) {
            match value.partial_cmp(other)? {
                Ordering::Equal => {}
                order => return Some(order),
            }
        }
        let outside = |after| if after { Ordering::Greater } else { Ordering::Less };
        Some(match self.values.len().cmp(&other.values.len()) {
            Ordering::Equal => self.after.cmp(&other.after),
            // The longer one is among the keys that the shorter one is before or after.
            Ordering::Less => outside(self.after),
            Ordering::Greater => outside(other.after).reverse(),
        })
    }

    fn arrays(&self) -> Option<Vec<ArrayRef>> {
        self.values.iter().map(|value| value.to_array().ok()).collect() // Every key type has arrays.
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Lower,
    Upper,
}

/// `(k1, …, kn) > (v1, …, vn)` and the like of key columns that follow each other.
struct RowBound<'a> {
    side: Side,
    edge: Edge<'a>,
}

impl<'a> RowBound<'a> {
    /// Of `k1 > v1 OR k1 = v1 AND (k2 > v2 OR …)`, as comparisons of rows are written for DataFusion, or with brackets anywhere.
    fn of(filter: &'a Expr, key: &[&TableColumn]) -> Option<Self> {
        let mut alternatives = alternatives(filter, MOST_BOUND_PARTS)?;
        alternatives.sort_by_key(Vec::len);
        let mut bound: Option<Self> = None;
        for (position, alternative) in alternatives.iter().enumerate() {
            let column = *key.get(position)?;
            if alternative.len() != position + 1 {
                return None;
            }
            let last = alternative.iter().find(|part| part.operator != Operator::Eq)?;
            let (side, after) = match last.operator {
                Operator::Gt => (Side::Lower, true),
                Operator::GtEq => (Side::Lower, false),
                Operator::Lt => (Side::Upper, false),
                Operator::LtEq => (Side::Upper, true),
                _ => return None,
            };
            let mut values = Vec::with_capacity(alternatives.len());
            if let Some(before) = bound {
                let is_strict = before.edge.after == (before.side == Side::Lower);
                if before.side != side || !is_strict {
                    return None;
                }
                values = before.edge.values;
            }
            // It is one part longer than the values that are to be equal, and the last part is none of them.
            let are_equal = values.iter().zip(key).all(|(value, column)| {
                alternative
                    .iter()
                    .any(|part| part.operator == Operator::Eq && part.is_of(column) && part.value == *value)
            });
            if !are_equal || !last.is_of(column) {
                return None;
            }
            values.push(last.value);
            let edge = Edge { values, after };
            bound = Some(RowBound { side, edge });
        }
        bound
    }
}

/// Alternatives, each of comparisons that all have to hold.
type Alternatives<'a> = Vec<Vec<Comparison<'a>>>;

/// The filter as alternatives, if they are few.
fn alternatives(filter: &Expr, depth: usize) -> Option<Alternatives<'_>> {
    match filter {
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let (mut all, others) = of_both(binary, depth)?;
            all.extend(others);
            (all.len() <= MOST_BOUND_PARTS).then_some(all)
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::And => {
            let (some, others) = of_both(binary, depth)?;
            if some.len() * others.len() > MOST_BOUND_PARTS {
                return None;
            }
            let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
            Some(
                pairs
                    .map(|(one, other)| one.iter().chain(other).copied().collect())
                    .collect(),
            )
        }
        _ => comparison(filter).map(|comparison| vec![vec![comparison]]),
    }
}

fn of_both(binary: &BinaryExpr, depth: usize) -> Option<(Alternatives<'_>, Alternatives<'_>)> {
    let depth = depth.checked_sub(1)?;
    Some((alternatives(&binary.left, depth)?, alternatives(&binary.right, depth)?))
}

#[derive(Clone, Copy)]
struct Comparison<'a> {
    column: &'a str,
    operator: Operator,
    value: &'a ScalarValue,
}

impl Comparison<'_> {
    /// Whether it compares this column with a value of its type.
    fn is_of(&self, column: &TableColumn) -> bool {
        self.column == column.name && !self.value.is_null() && self.value.data_type() == column.data_type
    }
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
fn one_of(filter: &Expr, column: &TableColumn) -> Option<Vec<ArrayRef>> {
    let mut found: Vec<&ScalarValue> = Vec::new();
    match filter {
        Expr::InList(list) if !list.negated => {
            let Expr::Column(of) = list.expr.as_ref() else {
                return None;
            };
            if of.name != column.name || list.list.len() > MOST_KEYS {
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
                        let comparison = comparison(part)
                            .filter(|part| part.column == column.name && part.operator == Operator::Eq)?;
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
        if value.data_type() != column.data_type {
            return None;
        }
        if seen.insert(value) {
            values.push(value);
        }
    }
    // As their keys are, so that rows of one after the other are in key order.
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    values.into_iter().map(|value| value.to_array().ok()).collect() // Every key type has arrays.
}
