//! Places in a statement for errors that come when it is no text any more: of rules over its plan, and of running it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Query, SetExpr, TableFactor, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Position};

use crate::names::{first_span, folded, name_position, placed, position_of};
use crate::recursive_terms::OF_RECURSIVE_TERMS;
use crate::system_columns::constraint_mut;
use crate::tree::walk_mut;

/// What a subquery as a value is refused for when it runs.
pub(crate) const SEVERAL_ROWS: &str = "a subquery used as a value gives more than one row";

/// What says of an operator that it does not take the types of its operands.
const OF_OPERATORS: &[&str] = &["for comparison operation ", "coerce arithmetic expression "];

/// What says of a function that it does not take the types of its arguments.
pub(crate) const OF_ARGUMENTS: &str = " does not take an argument of type ";

/// Begins what is said of a text that is no value of a type.
const OF_TEXTS: &str = "Cannot cast string '";

/// What is said of a division by nothing.
const BY_ZERO: &str = "division by zero";

/// Begins what is said of a condition that is none.
pub(crate) const OF_CONDITIONS: &str = "a condition is BOOLEAN";

/// Text literals of a statement whose places are kept, and the bytes of each.
const MOST_TEXTS: usize = 64;
const LONGEST_TEXT: usize = 64;

/// A place that counts if it is the only one of its kind.
#[derive(Clone, Copy, Debug, Default)]
enum Only {
    #[default]
    None,
    One(Option<Position>),
    Several,
}

impl Only {
    /// Asks for the first place alone.
    fn note(&mut self, place: impl FnOnce() -> Option<Position>) {
        *self = match self {
            Only::None => Only::One(place()),
            Only::One(_) | Only::Several => Only::Several,
        };
    }

    fn get(self) -> Option<Position> {
        match self {
            Only::One(place) => place,
            Only::None | Only::Several => None,
        }
    }
}

/// Where a statement has what such errors are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatePlaces {
    /// Expressions of each operator, by its sign.
    operators: BTreeMap<String, Only>,
    /// Calls of each function, by its name.
    functions: BTreeMap<String, Only>,
    /// A condition of WHERE, HAVING or ON.
    condition: Only,
    /// A subquery that is a value.
    value: Only,
    /// A subquery in an expression, or behind LATERAL.
    subquery: Only,
    /// The columns of the first query of each recursive one, by its name; none if several have that.
    recursive: BTreeMap<String, Vec<Option<Position>>>,
    /// What LIMIT and OFFSET say.
    limit: Only,
    offset: Only,
    /// A division, be it by an operator or a function.
    division: Only,
    /// Text literals that are operands, up to so many.
    texts: BTreeMap<String, Only>,
}

impl LatePlaces {
    /// Of a statement as it is written. Nothing of it is changed.
    pub(crate) fn of(statement: &mut ast::Statement) -> Self {
        let mut places = LatePlaces::default();
        walk_mut(statement, &mut places).expect("this visitor does not break");
        places
    }

    /// The error with its place, if it has none and the statement has one such place only.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.position.is_some() {
            return error;
        }
        let place = match error.code {
            ErrorCode::TypeMismatch if OF_OPERATORS.iter().any(|sign| error.message.contains(sign)) => {
                self.operator(&error.message).or(self.condition.get())
            }
            ErrorCode::TypeMismatch if error.message.contains(OF_ARGUMENTS) => {
                let function = error.message.split(OF_ARGUMENTS).next();
                function.and_then(|name| self.functions.get(name)?.get())
            }
            ErrorCode::TypeMismatch if error.message.starts_with(OF_CONDITIONS) => self.condition.get(),
            ErrorCode::TypeMismatch if error.message.starts_with(OF_RECURSIVE_TERMS) => self.recursive(&error.message),
            ErrorCode::TypeMismatch if error.message.starts_with(OF_TEXTS) => self.text(&error.message),
            ErrorCode::InvalidArgument if error.message == BY_ZERO => self.division.get(),
            ErrorCode::InvalidStatement if error.message.starts_with("LIMIT must be ") => self.limit.get(),
            ErrorCode::InvalidStatement if error.message.starts_with("OFFSET must be ") => self.offset.get(),
            ErrorCode::InvalidStatement if error.message == SEVERAL_ROWS => self.value.get(),
            ErrorCode::Unsupported if error.message.contains("subquery") => self.subquery.get(),
            _ => None,
        };
        placed(error, place)
    }

    /// Where the operator of a message such as `… comparison operation BIGINT = TEXT` stands.
    fn operator(&self, message: &str) -> Option<Position> {
        let mut found = Only::None;
        for (sign, place) in &self.operators {
            if message.contains(&format!(" {sign} ")) {
                match place {
                    Only::One(place) => found.note(|| *place),
                    Only::None => {}
                    Only::Several => found = Only::Several,
                }
            }
        }
        found.get()
    }

    /// Where the column of a message such as `recursive query "n" column 2 …` is written first.
    fn recursive(&self, message: &str) -> Option<Position> {
        let (name, rest) = message
            .strip_prefix(OF_RECURSIVE_TERMS)?
            .strip_prefix('"')?
            .split_once("\" column ")?;
        let column: usize = rest.split(' ').next()?.parse().ok()?;
        *self.recursive.get(name)?.get(column.checked_sub(1)?)?
    }

    /// Where the literal of a message such as `Cannot cast string 'abc' to value of …` stands.
    fn text(&self, message: &str) -> Option<Position> {
        let (text, _) = message.strip_prefix(OF_TEXTS)?.split_once("' to value of ")?;
        self.texts.get(text)?.get()
    }

    /// Notes an operand that is a text.
    fn note_text(&mut self, operand: &Expr) {
        if let Expr::Value(value) = operand
            && let ast::Value::SingleQuotedString(text) = &value.value
            && text.len() <= LONGEST_TEXT
            && (self.texts.len() < MOST_TEXTS || self.texts.contains_key(text))
        {
            let known = self.texts.entry(text.clone()).or_default();
            known.note(|| position_of(value.span));
        }
    }

    fn note_query(&mut self, query: &Query) {
        self.subquery.note(|| start_of(query));
    }
}

/// Where the columns of a query's first SELECT stand.
fn columns_of(body: &SetExpr) -> Vec<Option<Position>> {
    match body {
        SetExpr::Select(select) => {
            let items = select.projection.iter().map(|item| match item {
                ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
                    Ok(position_of(first_span(expr)))
                }
                // It stands for any number of columns.
                _ => Err(()),
            });
            items.collect::<Result<_, ()>>().unwrap_or_default()
        }
        SetExpr::Values(values) => {
            let first = values.rows.first().map(|row| row.content.as_slice());
            let exprs = first.unwrap_or_default().iter();
            exprs.map(|expr| position_of(first_span(expr))).collect()
        }
        SetExpr::Query(query) => columns_of(&query.body),
        SetExpr::SetOperation { left, .. } => columns_of(left),
        _ => Vec::new(),
    }
}

/// Where a query's first SELECT stands.
fn start_of(query: &Query) -> Option<Position> {
    let mut body = query.body.as_ref();
    loop {
        body = match body {
            SetExpr::Select(select) => return position_of(select.select_token.0.span),
            SetExpr::Query(query) => &query.body,
            SetExpr::SetOperation { left, .. } => left,
            _ => return None,
        };
    }
}

impl VisitorMut for LatePlaces {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            if let Some(limit) = limit {
                self.limit.note(|| position_of(first_span(limit)));
            }
            if let Some(offset) = offset {
                self.offset.note(|| position_of(first_span(&offset.value)));
            }
        }
        let recursive = query.with.iter().filter(|with| with.recursive);
        for cte in recursive.flat_map(|with| &with.cte_tables) {
            let columns = columns_of(&cte.query.body);
            let others = self.recursive.insert(folded(&cte.alias.name), columns);
            if let Some(others) = others
                && let Some(columns) = self.recursive.get_mut(&folded(&cte.alias.name))
                && *columns != others
            {
                columns.clear();
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        let joins = select.from.iter_mut().flat_map(|from| &mut from.joins);
        let on = joins.filter_map(|join| match constraint_mut(&mut join.join_operator) {
            Some(ast::JoinConstraint::On(condition)) => Some(&*condition),
            _ => None,
        });
        for condition in select.selection.iter().chain(&select.having).chain(on) {
            self.condition.note(|| position_of(first_span(condition)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if let TableFactor::Derived {
            lateral: true,
            subquery,
            ..
        } = factor
        {
            self.note_query(subquery);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if matches!(op, ast::BinaryOperator::Divide | ast::BinaryOperator::Modulo) {
                    self.division.note(|| position_of(first_span(left)));
                }
                self.note_text(left);
                self.note_text(right);
                // As DataFusion writes it.
                let sign = match op {
                    ast::BinaryOperator::NotEq => "!=".to_owned(),
                    other => other.to_string(),
                };
                self.operators
                    .entry(sign)
                    .or_default()
                    .note(|| position_of(first_span(left)));
            }
            Expr::Function(function) => {
                if let [name] = function.name.0.as_slice()
                    && let Some(name) = name.as_ident()
                {
                    let (name, place) = (folded(name), || name_position(&function.name));
                    if ["mod", "div"].contains(&name.as_str()) {
                        self.division.note(place);
                    }
                    self.functions.entry(name).or_default().note(place);
                }
            }
            // The planner calls this function by that name.
            Expr::Extract { expr, .. } => {
                let calls = self.functions.entry("date_part".to_owned()).or_default();
                calls.note(|| position_of(first_span(expr)));
            }
            Expr::Subquery(query) => {
                self.value.note(|| start_of(query));
                self.note_query(query);
            }
            Expr::InList {
                expr: operand, list, ..
            } => {
                self.note_text(operand);
                list.iter().for_each(|item| self.note_text(item));
            }
            Expr::Between {
                expr: operand,
                low,
                high,
                ..
            } => {
                for operand in [operand, low, high] {
                    self.note_text(operand);
                }
            }
            Expr::Exists { subquery, .. } | Expr::InSubquery { subquery, .. } => self.note_query(subquery),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn what_comes_late_is_said_with_its_place() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
            "INSERT INTO t VALUES (1, 0)",
        ]);
        for (sql, code, column, part) in [
            (
                "SELECT id FROM t WHERE id = 'abc'",
                ErrorCode::TypeMismatch,
                29,
                "'abc'",
            ),
            (
                "SELECT id FROM t WHERE id IN ('1', 'abc')",
                ErrorCode::TypeMismatch,
                36,
                "'abc'",
            ),
            ("SELECT 1/0", ErrorCode::InvalidArgument, 8, "division by zero"),
            (
                "SELECT id FROM t WHERE id = 7 % n",
                ErrorCode::InvalidArgument,
                29,
                "division by zero",
            ),
            ("SELECT id FROM t LIMIT -1", ErrorCode::InvalidStatement, 25, "LIMIT"),
            ("SELECT id FROM t OFFSET -1", ErrorCode::InvalidStatement, 26, "OFFSET"),
        ] {
            fixture.check_error(sql, code, Some((1, column)), part);
        }
        for sql in ["SELECT 1/n, 2/n FROM t", "SELECT 1/n, mod(2, n) FROM t"] {
            fixture.check_error(sql, ErrorCode::InvalidArgument, None, "division by zero");
        }
    }
}
