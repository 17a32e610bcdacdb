//! How many arguments a function takes, said in the words of its forms: DataFusion lists the types of all its signatures, or prints
//! the call's tree.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Documentation, TypeSignature};
use datafusion::logical_expr_common::signature::Arity;
use datafusion::sql::sqlparser::ast::{self, Expr, Spanned, Visit, Visitor};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::more_functions;
use crate::names::{folded, name_position, placed, position_of};
use crate::tree::walk;

/// Refuses calls with more or fewer arguments than any form of their function has.
///
/// # Errors
/// INVALID_STATEMENT.
pub(crate) fn check(node: &impl Visit, registry: &dyn FunctionRegistry) -> Result<()> {
    walk(node, &mut Calls { registry })
}

struct Calls<'a> {
    registry: &'a dyn FunctionRegistry,
}

impl Visitor for Calls<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let refused = match expr {
            Expr::Function(function) => {
                let refused = self.refused(function);
                refused.map(|error| placed(error, name_position(&function.name)))
            }
            // The parser reads this function by its own grammar.
            Expr::Substring {
                expr,
                substring_from: None,
                substring_for: None,
                ..
            } => {
                let error = self.wrong_count("substr", 1);
                error.map(|error| placed(error, position_of(expr.span())))
            }
            _ => None,
        };
        match refused {
            Some(error) => ControlFlow::Break(error),
            None => ControlFlow::Continue(()),
        }
    }
}

impl Calls<'_> {
    fn refused(&self, function: &ast::Function) -> Option<Error> {
        let [name] = function.name.0.as_slice() else {
            return None;
        };
        let ast::FunctionArguments::List(list) = &function.args else {
            return None;
        };
        // What it orders by is an argument to it, in WITHIN GROUP or in the list.
        let orders = |clause: &ast::FunctionArgumentClause| matches!(clause, ast::FunctionArgumentClause::OrderBy(_));
        let is_ordered = !function.within_group.is_empty() || list.clauses.iter().any(orders);
        let name = folded(name.as_ident()?);
        let is_of_rows = function.over.is_some() && of_rows(&name).is_some();
        if is_ordered && !is_of_rows || list.args.iter().any(is_several) {
            return None;
        }
        self.wrong_count(&name, list.args.len())
    }

    fn wrong_count(&self, name: &str, given: usize) -> Option<Error> {
        let mut takes = Takes::default();
        let mut forms = Vec::new();
        // A name may be of an aggregate function and of a window function at once.
        if let Ok(function) = self.registry.udf(name) {
            takes.add(&function.signature().type_signature);
            forms.extend(function.documentation().map(form));
        }
        if let Ok(function) = self.registry.udaf(name) {
            takes.add(&function.signature().type_signature);
            forms.extend(function.documentation().map(form));
        }
        if let Ok(function) = self.registry.udwf(name) {
            takes.add(&function.signature().type_signature);
            forms.extend(function.documentation().map(form));
        }
        if takes == Takes::default() {
            let instead = more_functions::advice(name)?;
            let message = match instead.starts_with(&format!("{name}(")) {
                true => format!("{name} takes other arguments: {instead}"),
                false => format!("there is no function {name}; write {instead}"),
            };
            return Some(Error::new(ErrorCode::InvalidStatement, message));
        }
        if let Some(count) = of_rows(name) {
            takes.counts = BTreeSet::from([count]);
        }
        let counts = takes.counts.iter().map(usize::to_string).collect::<Vec<_>>();
        if takes.is_open || counts.is_empty() || takes.counts.contains(&given) {
            return None;
        }
        let arguments = match takes.counts.iter().next_back() {
            Some(0) => "no arguments".to_owned(),
            Some(1) => format!("{} argument", counts.join(" or ")),
            _ => format!("{} arguments", counts.join(" or ")),
        };
        let given = match given {
            1 => "1 is given".to_owned(),
            _ => format!("{given} are given"),
        };
        let forms = match forms.is_empty() {
            true => String::new(),
            false => format!(": {}", forms.join(", ")),
        };
        Some(Error::new(
            ErrorCode::InvalidStatement,
            format!("{name} takes {arguments}, and {given}{forms}"),
        ))
    }
}

/// How many arguments functions of a window's rows take: DataFusion has one signature for all of them, and meets what is missing
/// when it asks for the type.
fn of_rows(name: &str) -> Option<usize> {
    match name {
        "first_value" | "last_value" => Some(1),
        "nth_value" => Some(2),
        _ => None,
    }
}

/// An argument that stands for as many as there are columns.
fn is_several(argument: &ast::FunctionArg) -> bool {
    matches!(
        argument,
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard | ast::FunctionArgExpr::QualifiedWildcard(_))
    )
}

fn form(documentation: &Documentation) -> String {
    documentation.syntax_example.clone()
}

/// Numbers of arguments.
#[derive(Default, PartialEq)]
struct Takes {
    counts: BTreeSet<usize>,
    /// The function itself says which others.
    is_open: bool,
}

impl Takes {
    fn add(&mut self, signature: &TypeSignature) {
        match signature {
            TypeSignature::OneOf(forms) => forms.iter().for_each(|form| self.add(form)),
            form => match form.arity() {
                Arity::Fixed(count) => {
                    self.counts.insert(count);
                }
                Arity::Variable => self.is_open = true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_wrong_number_of_arguments_is_said_with_the_forms() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (name TEXT, n INT)"]);
        for (call, place, parts) in [
            (
                "substr(name)",
                (1, 15),
                ["substr takes 2 or 3 arguments, and 1 is given", "substr(str, start_pos"],
            ),
            (
                "substring(name)",
                (1, 18),
                ["substr takes 2 or 3 arguments, and 1 is given", "length"],
            ),
            (
                "upper(name, 'x')",
                (1, 8),
                ["upper takes 1 argument, and 2 are given", "upper(str)"],
            ),
            (
                "upper()",
                (1, 8),
                ["upper takes 1 argument, and 0 are given", "upper(str)"],
            ),
            ("pi(1)", (1, 8), ["pi takes no arguments, and 1 is given", "pi()"]),
            (
                "split_part(name)",
                (1, 8),
                ["split_part takes 3 arguments, and 1 is given", "split_part(str"],
            ),
            (
                "avg(n, n)",
                (1, 8),
                ["avg takes 1 argument, and 2 are given", "avg(expression)"],
            ),
            (
                "rank(n) OVER ()",
                (1, 8),
                ["rank takes no arguments, and 1 is given", "rank()"],
            ),
            (
                "first_value() OVER ()",
                (1, 8),
                [
                    "first_value takes 1 argument, and 0 are given",
                    "first_value(expression)",
                ],
            ),
            (
                "last_value()",
                (1, 8),
                ["last_value takes 1 argument, and 0 are given", "last_value(expression)"],
            ),
            (
                "nth_value(n) OVER ()",
                (1, 8),
                [
                    "nth_value takes 2 arguments, and 1 is given",
                    "nth_value(expression, n)",
                ],
            ),
            (
                "snowflake_id(1)",
                (1, 8),
                ["snowflake_id takes no arguments", "1 is given"],
            ),
        ] {
            let sql = format!("SELECT {call} FROM t");
            for part in parts {
                fixture.check_error(&sql, ErrorCode::InvalidStatement, Some(place), part);
            }
        }
        fixture.check("SELECT quantile_cont(0.5 ORDER BY n) FROM t", &["NULL"]);
        fixture.check(
            "SELECT count(*), count(name, n), lag(1, 1, 2) OVER () FROM t",
            &["0|0|2"],
        );
        fixture.check(
            "SELECT first_value(1) OVER (), last_value(2) OVER (), nth_value(3, 1) OVER ()",
            &["1|2|3"],
        );
        fixture.check(
            "SELECT first_value(4 ORDER BY n), nth_value(5, 1) FROM (SELECT 1 AS n) AS q",
            &["4|5"],
        );
    }
}
