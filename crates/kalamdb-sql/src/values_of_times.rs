//! Columns of VALUES in which timestamps and dates stand together, in microseconds.
//!
//! Problem: DataFusion 55 makes nanoseconds of a column of several units, and of one with dates, which do not reach every year that
//! is written there. Chosen: literals and `now()`, which all are of whole microseconds, have those there. It is done in the text because
//! the planner casts them while it makes the plan. Evidence: `infer_data` of datafusion-expr 55 `logical_plan/builder.rs`.

use std::ops::ControlFlow;

use arrow::datatypes::TimeUnit;
use datafusion::sql::sqlparser::ast::{self, DataType, Expr, SetExpr, TimezoneInfo, Value, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::time_units::unit_of;
use crate::tree::walk_mut;

/// Digits of a second that microseconds have.
const DIGITS: u64 = 6;

/// Gives such columns one unit. Literals of far years have theirs already.
pub(crate) fn in_one_unit(node: &mut impl VisitMut) {
    struct Columns;
    impl VisitorMut for Columns {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            if let SetExpr::Values(values) = query.body.as_mut() {
                let width = values.rows.iter().map(|row| row.content.len()).min().unwrap_or(0);
                for column in 0..width {
                    settle(&mut values.rows, column);
                }
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Columns).expect("this visitor does not break");
}

fn settle(rows: &mut [ast::Parens<Vec<Expr>>], column: usize) {
    let mut cells: Vec<(Cell, &mut Expr)> = Vec::with_capacity(rows.len());
    for row in rows {
        let expr = &mut row.content[column];
        cells.push((Cell::of(expr), expr));
    }
    let has = |wanted: Cell| cells.iter().any(|(cell, _)| *cell == wanted);
    let has_local = has(Cell::Open(Zone::None)) || has(Cell::Microseconds(Zone::None));
    let has_moment = has(Cell::Open(Zone::Utc)) || has(Cell::Microseconds(Zone::Utc));
    let has_dates = has(Cell::Date);
    let has_coarse = has(Cell::Microseconds(Zone::None)) || has(Cell::Microseconds(Zone::Utc));
    if has(Cell::Nanoseconds) || !(has_local || has_moment) || !(has_dates || has_coarse) {
        return;
    }
    for (cell, expr) in cells {
        match cell {
            Cell::Open(zone) => in_microseconds(expr, zone),
            Cell::Date if !has_moment => in_microseconds(expr, Zone::None),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Zone {
    None,
    Utc,
}

/// What stands in a row of VALUES.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    /// A time of whole microseconds at most, whose type says no precision.
    Open(Zone),
    Microseconds(Zone),
    Nanoseconds,
    Date,
    Other,
}

impl Cell {
    fn of(expr: &Expr) -> Self {
        match expr {
            Expr::Nested(inner) => Cell::of(inner),
            Expr::TypedString(typed) => Cell::of_text(&typed.value.value, &typed.data_type),
            Expr::Cast { expr, data_type, .. } => match expr.as_ref() {
                Expr::Value(value) => Cell::of_text(&value.value, data_type),
                inner if is_now(inner) => match data_type {
                    DataType::Timestamp(None, zone) => Cell::Open(of_info(*zone)),
                    DataType::Timestamp(Some(precision), zone) => Cell::of_precision(*precision, of_info(*zone)),
                    _ => Cell::Other,
                },
                _ => Cell::Other,
            },
            expr if is_now(expr) => Cell::Open(Zone::Utc),
            _ => Cell::Other,
        }
    }

    fn of_text(value: &Value, data_type: &DataType) -> Self {
        let Value::SingleQuotedString(text) = value else {
            return Cell::Other;
        };
        match data_type {
            DataType::Date => Cell::Date,
            DataType::Timestamp(None, _) if unit_of(text) == TimeUnit::Nanosecond => Cell::Nanoseconds,
            DataType::Timestamp(None, zone) => Cell::Open(of_info(*zone)),
            DataType::Timestamp(Some(precision), zone) => Cell::of_precision(*precision, of_info(*zone)),
            _ => Cell::Other,
        }
    }

    fn of_precision(precision: u64, zone: Zone) -> Self {
        match precision > DIGITS {
            true => Cell::Nanoseconds,
            false => Cell::Microseconds(zone),
        }
    }
}

fn of_info(zone: TimezoneInfo) -> Zone {
    match zone {
        TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => Zone::None,
        TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => Zone::Utc,
    }
}

fn is_now(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => match function.name.0.as_slice() {
            [name] => name.as_ident().is_some_and(|name| {
                [
                    "now",
                    "current_timestamp",
                    "transaction_timestamp",
                    "statement_timestamp",
                ]
                .contains(&folded(name).as_str())
            }),
            _ => false,
        },
        _ => false,
    }
}

fn in_microseconds(expr: &mut Expr, zone: Zone) {
    match expr {
        Expr::Nested(inner) => in_microseconds(inner, zone),
        Expr::TypedString(ast::TypedString {
            data_type: DataType::Timestamp(precision @ None, _),
            ..
        })
        | Expr::Cast {
            data_type: DataType::Timestamp(precision @ None, _),
            ..
        } => *precision = Some(DIGITS),
        other => {
            let zone = match zone {
                Zone::None => TimezoneInfo::None,
                Zone::Utc => TimezoneInfo::WithTimeZone,
            };
            let none = Expr::Value(Value::Null.with_empty_span());
            *other = Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(std::mem::replace(other, none)),
                data_type: DataType::Timestamp(Some(DIGITS), zone),
                array: false,
                format: None,
            };
        }
    }
}
