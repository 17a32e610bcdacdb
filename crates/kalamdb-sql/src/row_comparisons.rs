//! Comparisons of rows, `(a, b) > (x, y)`, written as comparisons of their elements.
//!
//! Problem: DataFusion 55 makes structs of rows and compares those: NULL is a value like another, decimals beside numbers become
//! doubles, literals are not read as what they stand beside, and no key range comes of it. Proper way: a planner that compares rows as
//! SQL does, element by element. Chosen: that, on the statement's tree, so that all that follows sees ordinary comparisons. Evidence:
//! `parse_tuple` in datafusion-sql 55, and "Row and Array Comparisons" in PostgreSQL's manual.

use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Ident, Query, Select, SetExpr, Spanned, UnaryOperator, VisitMut, Visitor, VisitorMut,
};
use kalamdb_core::{Error, ErrorCode, Position, Result};

use crate::names::{folded, placed, position_of};
use crate::rows_in_queries;
use crate::tree::{walk, walk_mut};

/// How many parts of expressions one statement may have written again.
const MOST_COPIES: usize = 100_000;

/// What a query in a row counts, which is planned and run each time that it is written.
const QUERY_COPIES: usize = 5_000;

/// The elements of a row; each makes what is written one level deeper.
const MOST_ELEMENTS: usize = 100;

/// The mark of BETWEEN SYMMETRIC, before its lower bound.
pub(crate) const SYMMETRIC: &str = "SYMMETRIC";

/// Writes comparisons of rows, and what else needs an operand twice, as comparisons of scalars.
///
/// # Errors
/// TYPE_MISMATCH for rows of different lengths, STATEMENT_TOO_LARGE, UNSUPPORTED for what would be written twice and may not be.
pub(crate) fn as_scalars(node: &mut impl VisitMut, registry: &dyn FunctionRegistry) -> Result<()> {
    let mut rows = Rows { registry, copies: 0 };
    walk_mut(node, &mut rows)
}

struct Rows<'a> {
    registry: &'a dyn FunctionRegistry,
    copies: usize,
}

impl VisitorMut for Rows<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        rows_in_queries::as_exists(select);
        ControlFlow::Continue(())
    }

    // What stands inside is written so before it is written twice.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let at = |expr: &Expr| position_of(expr.span());
        match self.written(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) if error.position.is_some() => ControlFlow::Break(error),
            Err(error) => ControlFlow::Break(placed(error, at(expr))),
        }
    }
}

/// How two rows, or two elements of theirs, are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Distinct,
    NotDistinct,
    Order { less: bool, or_equal: bool },
}

impl Comparison {
    fn of(operator: &BinaryOperator) -> Option<Self> {
        let order = |less, or_equal| Some(Comparison::Order { less, or_equal });
        match operator {
            BinaryOperator::Eq => Some(Comparison::Equal),
            BinaryOperator::NotEq => Some(Comparison::NotEqual),
            BinaryOperator::Lt => order(true, false),
            BinaryOperator::LtEq => order(true, true),
            BinaryOperator::Gt => order(false, false),
            BinaryOperator::GtEq => order(false, true),
            _ => None,
        }
    }

    fn of_scalars(self, left: Expr, right: Expr) -> Expr {
        let op = match self {
            Comparison::Distinct => return Expr::IsDistinctFrom(Box::new(left), Box::new(right)),
            Comparison::NotDistinct => return Expr::IsNotDistinctFrom(Box::new(left), Box::new(right)),
            Comparison::Equal => BinaryOperator::Eq,
            Comparison::NotEqual => BinaryOperator::NotEq,
            Comparison::Order { less, or_equal } => match (less, or_equal) {
                (true, false) => BinaryOperator::Lt,
                (true, true) => BinaryOperator::LtEq,
                (false, false) => BinaryOperator::Gt,
                (false, true) => BinaryOperator::GtEq,
            },
        };
        binary(left, op, right)
    }
}

impl Rows<'_> {
    fn written(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if let Some(comparison) = Comparison::of(op)
                    && is_row(left)
                    && is_row(right)
                {
                    let (left, right) = (taken(left), taken(right));
                    *expr = self.compared(comparison, left, right)?;
                }
            }
            Expr::IsDistinctFrom(left, right) if is_row(left) && is_row(right) => {
                *expr = self.compared(Comparison::Distinct, taken(left), taken(right))?;
            }
            Expr::IsNotDistinctFrom(left, right) if is_row(left) && is_row(right) => {
                *expr = self.compared(Comparison::NotDistinct, taken(left), taken(right))?;
            }
            Expr::IsNull(row) if is_row(row) => {
                let elements = elements(taken(row)).into_iter();
                *expr = all(elements.map(|element| Expr::IsNull(Box::new(element))).collect());
            }
            Expr::IsNotNull(row) if is_row(row) => {
                let elements = elements(taken(row)).into_iter();
                *expr = all(elements.map(|element| Expr::IsNotNull(Box::new(element))).collect());
            }
            Expr::InSubquery {
                expr: value,
                subquery,
                negated,
            } => {
                if let Some(list) = rows_of_values(subquery) {
                    let (value, negated) = (Box::new(taken(value)), *negated);
                    *expr = Expr::InList {
                        expr: value,
                        list,
                        negated,
                    };
                    return self.written(expr);
                }
                if is_row(value) {
                    let message = "a row IN (SELECT …) is supported as a condition of WHERE alone, and without NOT; \
                                   write [NOT] EXISTS (SELECT 1 FROM … WHERE a = x AND b = y)";
                    return Err(Error::new(ErrorCode::Unsupported, message));
                }
            }
            Expr::InList {
                expr: row,
                list,
                negated,
            } if is_row(row) && list.iter().all(is_row) => {
                let (row, list, negated) = (taken(row), std::mem::take(list), *negated);
                let found = self.in_list(row, list)?;
                *expr = if negated { not(found) } else { found };
            }
            Expr::Between {
                expr: value,
                low,
                high,
                negated,
            } => {
                let is_symmetric = matches!(low.as_ref(), Expr::Prefixed { prefix, .. } if is_mark(prefix));
                if let Expr::Prefixed { value: bound, .. } = low.as_mut()
                    && is_symmetric
                {
                    **low = taken(bound);
                }
                let is_of_rows = is_row(value) && is_row(low) && is_row(high);
                if !is_symmetric && !is_of_rows {
                    return Ok(());
                }
                let (value, low, high, negated) = (taken(value), taken(low), taken(high), *negated);
                let between = if is_symmetric {
                    let [value_again, low_again, high_again] =
                        [self.copy(&value)?, self.copy(&low)?, self.copy(&high)?];
                    let one_way = self.between(value, low, high)?;
                    any(vec![one_way, self.between(value_again, high_again, low_again)?])
                } else {
                    self.between(value, low, high)?
                };
                *expr = if negated { not(between) } else { between };
            }
            Expr::Case {
                operand: operand @ Some(_),
                conditions,
                ..
            } => {
                let is_of_rows = operand.as_deref().is_some_and(is_row)
                    && conditions.iter().all(|condition| is_row(&condition.condition));
                if is_of_rows && let Some(row) = operand.take() {
                    for when in conditions {
                        let row = self.copy(&row)?;
                        let value = taken(&mut when.condition);
                        when.condition = self.compared(Comparison::Equal, row, value)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Two rows, with a bound on the first elements that key ranges can use.
    fn compared(&mut self, comparison: Comparison, left: Expr, right: Expr) -> Result<Expr> {
        let Comparison::Order { less, .. } = comparison else {
            return self.pair(comparison, left, right);
        };
        let (left, right) = (elements(left), elements(right));
        let first = match (left.as_slice(), right.as_slice()) {
            ([first, _, ..], [bound, _, ..]) if !is_row(first) && !is_row(bound) => {
                let or_equal = Comparison::Order { less, or_equal: true };
                Some(or_equal.of_scalars(self.copy(first)?, self.copy(bound)?))
            }
            _ => None,
        };
        let rest = self.elementwise(comparison, left, right)?;
        Ok(match first {
            Some(first) => binary(first, BinaryOperator::And, rest),
            None => rest,
        })
    }

    /// Two elements, which may be rows themselves.
    fn pair(&mut self, comparison: Comparison, left: Expr, right: Expr) -> Result<Expr> {
        if is_row(&left) && is_row(&right) {
            self.elementwise(comparison, elements(left), elements(right))
        } else {
            Ok(comparison.of_scalars(left, right))
        }
    }

    fn elementwise(&mut self, comparison: Comparison, left: Vec<Expr>, right: Vec<Expr>) -> Result<Expr> {
        check_lengths(&left, &right)?;
        let pairs = left.into_iter().zip(right);
        match comparison {
            Comparison::Equal | Comparison::NotDistinct => {
                let pairs: Result<Vec<_>> = pairs.map(|(left, right)| self.pair(comparison, left, right)).collect();
                Ok(all(pairs?))
            }
            Comparison::NotEqual | Comparison::Distinct => {
                let pairs: Result<Vec<_>> = pairs.map(|(left, right)| self.pair(comparison, left, right)).collect();
                Ok(any(pairs?))
            }
            Comparison::Order { less, .. } => {
                let mut written: Option<Expr> = None;
                for (left, right) in pairs.rev() {
                    written = Some(match written {
                        None => self.pair(comparison, left, right)?,
                        Some(rest) => {
                            let strictly = Comparison::Order { less, or_equal: false };
                            let (left_again, right_again) = (self.copy(&left)?, self.copy(&right)?);
                            let decided = self.pair(strictly, left, right)?;
                            let equal = self.pair(Comparison::Equal, left_again, right_again)?;
                            let otherwise = binary(equal, BinaryOperator::And, rest);
                            binary(decided, BinaryOperator::Or, otherwise)
                        }
                    });
                }
                written.ok_or_else(|| Error::new(ErrorCode::InvalidStatement, "a row without elements"))
            }
        }
    }

    /// One of several rows, with the list of the first elements that key ranges can use.
    fn in_list(&mut self, row: Expr, list: Vec<Expr>) -> Result<Expr> {
        let row = elements(row);
        let list: Vec<Vec<Expr>> = list.into_iter().map(elements).collect();
        for item in &list {
            check_lengths(&row, item)?;
        }
        let firsts: Vec<&Expr> = list.iter().filter_map(|item| item.first()).collect();
        let first = match row.first() {
            Some(first)
                if list.len() > 1 && row.len() > 1 && !is_row(first) && !firsts.iter().any(|item| is_row(item)) =>
            {
                let firsts: Result<Vec<_>> = firsts.into_iter().map(|item| self.copy(item)).collect();
                Some(Expr::InList {
                    expr: Box::new(self.copy(first)?),
                    list: firsts?,
                    negated: false,
                })
            }
            _ => None,
        };
        let last = list.len() - 1;
        let mut found = Vec::with_capacity(list.len());
        let mut row = row;
        for (index, item) in list.into_iter().enumerate() {
            let row = if index == last {
                std::mem::take(&mut row)
            } else {
                row.iter().map(|element| self.copy(element)).collect::<Result<_>>()?
            };
            found.push(self.elementwise(Comparison::Equal, row, item)?);
        }
        let found = any(found);
        Ok(match first {
            Some(first) => binary(first, BinaryOperator::And, found),
            None => found,
        })
    }

    fn between(&mut self, value: Expr, low: Expr, high: Expr) -> Result<Expr> {
        if !(is_row(&value) && is_row(&low) && is_row(&high)) {
            return Ok(Expr::Between {
                expr: Box::new(value),
                negated: false,
                low: Box::new(low),
                high: Box::new(high),
            });
        }
        let bound = |less| Comparison::Order { less, or_equal: true };
        let above = self.copy(&value)?;
        let above = self.compared(bound(false), above, low)?;
        Ok(binary(
            above,
            BinaryOperator::And,
            self.compared(bound(true), value, high)?,
        ))
    }

    /// The expression a second time.
    fn copy(&mut self, expr: &Expr) -> Result<Expr> {
        let mut parts = Parts {
            registry: self.registry,
            count: 0,
        };
        walk(expr, &mut parts)?;
        self.copies = self.copies.saturating_add(parts.count);
        if self.copies > MOST_COPIES {
            let message = format!(
                "comparing rows element by element would write more than {MOST_COPIES} parts of expressions again \
                 (a query counts {QUERY_COPIES}); compare with fewer or smaller rows, or join with VALUES"
            );
            let error = Error::new(ErrorCode::StatementTooLarge, message);
            return Err(placed(error, position_of(expr.span())));
        }
        Ok(expr.clone())
    }
}

/// Counts the parts of an expression, and refuses what is another thing each time.
struct Parts<'a> {
    registry: &'a dyn FunctionRegistry,
    count: usize,
}

impl Visitor for Parts<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<Error> {
        self.count += QUERY_COPIES;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        self.count += 1;
        if let Expr::Function(function) = expr
            && let [name] = function.name.0.as_slice()
            && let Some(name) = name.as_ident()
            && let Ok(known) = self.registry.udf(&folded(name))
            && known.signature().volatility == Volatility::Volatile
        {
            let message = format!(
                "{}() is not supported in a comparison that needs its operands more than once; \
                 name its value in a subquery of FROM",
                folded(name)
            );
            let error = Error::new(ErrorCode::Unsupported, message);
            return ControlFlow::Break(placed(error, position_of(name.span)));
        }
        ControlFlow::Continue(())
    }
}

fn check_lengths(left: &[Expr], right: &[Expr]) -> Result<()> {
    let at = || -> Option<Position> { right.first().and_then(|element| position_of(element.span())) };
    if left.len() != right.len() {
        let message = format!(
            "a row of {} cannot be compared with a row of {}",
            counted(left.len()),
            counted(right.len())
        );
        return Err(placed(Error::new(ErrorCode::TypeMismatch, message), at()));
    }
    if left.len() > MOST_ELEMENTS {
        let message = format!("a row in a comparison has at most {MOST_ELEMENTS} elements");
        return Err(placed(Error::new(ErrorCode::StatementTooLarge, message), at()));
    }
    Ok(())
}

fn counted(elements: usize) -> String {
    match elements {
        1 => "1 element".to_owned(),
        count => format!("{count} elements"),
    }
}

/// The rows of a query that is VALUES and nothing else, as the items of a list.
fn rows_of_values(query: &mut Query) -> Option<Vec<Expr>> {
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    let SetExpr::Values(values) = query.body.as_mut() else {
        return None;
    };
    let items = values.rows.iter_mut().map(|row| {
        let mut row = std::mem::take(&mut row.content);
        if row.len() == 1 {
            row.remove(0)
        } else {
            Expr::Tuple(row)
        }
    });
    is_plain.then(|| items.collect())
}

/// Whether it is `(a, b, …)` or `ROW (a, …)`.
pub(crate) fn is_row(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_row(inner),
        Expr::Tuple(elements) => !elements.is_empty(),
        Expr::Function(function) => row_arguments(function).is_some(),
        _ => false,
    }
}

/// The elements of what [`is_row`].
fn elements(row: Expr) -> Vec<Expr> {
    match row {
        Expr::Nested(inner) => elements(*inner),
        Expr::Tuple(elements) => elements,
        Expr::Function(function) => row_arguments(&function).unwrap_or_default(),
        other => vec![other],
    }
}

/// How many elements [`elements`] gives.
pub(crate) fn length(row: &Expr) -> usize {
    match row {
        Expr::Nested(inner) => length(inner),
        Expr::Tuple(elements) => elements.len(),
        Expr::Function(function) => row_arguments(function).map_or(0, |elements| elements.len()),
        _ => 1,
    }
}

fn row_arguments(function: &ast::Function) -> Option<Vec<Expr>> {
    let [name] = function.name.0.as_slice() else {
        return None;
    };
    let ast::FunctionArguments::List(arguments) = &function.args else {
        return None;
    };
    let is_plain = name
        .as_ident()
        .is_some_and(|name| name.quote_style.is_none() && folded(name) == "row")
        && !arguments.args.is_empty()
        && arguments.duplicate_treatment.is_none()
        && arguments.clauses.is_empty()
        && function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty();
    let elements = arguments.args.iter().map(|argument| match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(element)) => Some(element.clone()),
        _ => None,
    });
    if is_plain { elements.collect() } else { None }
}

fn is_mark(prefix: &Ident) -> bool {
    prefix.value == SYMMETRIC
}

pub(crate) fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Tuple(Vec::new()))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(Expr::Nested(Box::new(expr))),
    }
}

fn all(conditions: Vec<Expr>) -> Expr {
    joined(conditions, &BinaryOperator::And)
}

fn any(conditions: Vec<Expr>) -> Expr {
    joined(conditions, &BinaryOperator::Or)
}

/// Joined as a tree that is no deeper than it has to be.
fn joined(mut conditions: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while conditions.len() > 1 {
        let mut pairs = Vec::with_capacity(conditions.len().div_ceil(2));
        let mut rest = conditions.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(left, op.clone(), right),
                None => left,
            });
        }
        conditions = pairs;
    }
    conditions.pop().unwrap_or_else(|| Expr::Tuple(Vec::new()))
}
