//! `current_schema()`, `current_database()` and `current_catalog`: the names of where a statement looks for tables, as PostgreSQL's
//! functions give them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, FunctionArguments, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::{CATALOG, folded};
use crate::tree::walk_mut;

/// Writes the names in the place of such calls.
pub(crate) fn as_literals(node: &mut impl VisitMut, namespace: &str) {
    struct Calls<'a>(&'a str);
    impl VisitorMut for Calls<'_> {
        type Break = Error;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            if let Expr::Function(function) = expr
                && function.over.is_none()
                && has_no_arguments(function)
                && let [name] = function.name.0.as_slice()
                && let Some(name) = name.as_ident()
            {
                let named = match folded(name).as_str() {
                    "current_schema" => self.0,
                    "current_database" | "current_catalog" => CATALOG,
                    _ => return ControlFlow::Continue(()),
                };
                let value = ast::Value::SingleQuotedString(named.to_owned());
                *expr = Expr::Value(ast::ValueWithSpan { value, span: name.span });
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Calls(namespace)).expect("this visitor does not break");
}

fn has_no_arguments(function: &ast::Function) -> bool {
    match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        FunctionArguments::Subquery(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn a_statement_learns_where_it_looks_for_tables() {
        let fixture = Fixture::new();
        fixture.check(
            "SELECT current_schema(), current_database(), CURRENT_CATALOG, \"current_schema\"() = 'public'",
            &["public|kalam|kalam|true"],
        );
        fixture.run(&["CREATE NAMESPACE shop", "USE shop"]);
        fixture.check("SELECT current_schema() AS s", &["shop"]);
        fixture.check(
            "SELECT s FROM (SELECT current_schema() AS s) AS q WHERE s LIKE current_schema()",
            &["shop"],
        );
        fixture.check_error_part(
            "SELECT current_schema(1)",
            ErrorCode::InvalidStatement,
            "current_schema",
        );
    }

    #[test]
    fn names_of_postgresql_mean_what_is_here() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
            "INSERT INTO t VALUES (1, -2), (2, 4)",
        ]);
        fixture.check("SELECT variance(n) = var_samp(n), variance(n) FROM t", &["true|18.0"]);
        fixture.check("SELECT @n, @ -3, @(n - 1) FROM t ORDER BY id", &["2|3|3", "4|3|3"]);
        for (sql, part) in [
            (
                "SELECT justify_days(INTERVAL '40 days')",
                "there is no function justify_days; write",
            ),
            (
                "SELECT row_to_json(t) FROM t",
                "there is no function row_to_json; write named_struct",
            ),
        ] {
            fixture.check_error(sql, ErrorCode::InvalidStatement, Some((1, 8)), part);
        }
    }
}
