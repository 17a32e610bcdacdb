//! GROUP BY a table's primary key, which groups by the whole row: `SELECT t.*, count(*) FROM t JOIN u … GROUP BY t.id`.
//!
//! Problem: DataFusion 55 has it when tables say what their keys are, and then takes a key for one of what `unnest` makes of its
//! row, too, so that DISTINCT and GROUP BY of that lose rows. Proper way: not to. Chosen: tables say it in a statement that is
//! refused otherwise, and has no `unnest`. Evidence: `with_functional_dependencies` in `Unnest::try_new` of datafusion-expr 55
//! `logical_plan/plan.rs`.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{self, Visitor};
use kalamdb_core::Error;

use crate::tree::walk;

/// Whether a statement is refused for a column that is not grouped by, and may be planned with keys.
pub(crate) fn may_help(error: &DataFusionError, statement: &ast::Statement) -> bool {
    error
        .to_string()
        .contains("must appear in the GROUP BY clause or must be part of an aggregate function")
        && !has_unnest(statement)
}

fn has_unnest(statement: &ast::Statement) -> bool {
    struct Unnests(bool);
    impl Unnests {
        fn look_at(&mut self, name: &ast::ObjectName) {
            let last = name.0.last().and_then(ast::ObjectNamePart::as_ident);
            self.0 |= last.is_some_and(|name| name.value.eq_ignore_ascii_case("unnest"));
        }
    }
    impl Visitor for Unnests {
        type Break = Error;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::Function(function) = expr {
                self.look_at(&function.name);
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Error> {
            match factor {
                ast::TableFactor::UNNEST { .. } => self.0 = true,
                ast::TableFactor::Table { name, .. } | ast::TableFactor::Function { name, .. } => self.look_at(name),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut unnests = Unnests(false);
    walk(statement, &mut unnests).expect("this visitor does not break");
    unnests.0
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT, l INT[])",
            "CREATE USER TABLE u (x INT, y INT, t BIGINT, v TEXT, PRIMARY KEY (x, y))",
            "CREATE TABLE keyless (id BIGINT, a TEXT)",
            "INSERT INTO t VALUES (1, 'one', [1, 1]), (2, 'two', [2])",
            "INSERT INTO u VALUES (1, 1, 1, 'p'), (1, 2, 1, 'q'), (2, 1, 2, 'r')",
        ]);
        fixture
    }

    #[test]
    fn a_key_groups_by_the_whole_row() {
        let fixture = fixture();
        fixture.check(
            "SELECT t.id, a, count(*) FROM t JOIN u ON u.t = t.id GROUP BY t.id ORDER BY t.id",
            &["1|one|2", "2|two|1"],
        );
        fixture.check(
            "SELECT upper(a), max(id) FROM t GROUP BY id ORDER BY id",
            &["ONE|1", "TWO|2"],
        );
        fixture.check("SELECT t.* FROM t GROUP BY t.id HAVING a > 'one'", &["2|two|[2]"]);
        fixture.check(
            "SELECT x, y, v FROM u GROUP BY x, y ORDER BY v DESC",
            &["2|1|r", "1|2|q", "1|1|p"],
        );
        fixture.check(
            "SELECT t.id, v FROM t LEFT JOIN u ON u.t = t.id AND u.x = 1 AND u.y = 1 GROUP BY t.id, x, y ORDER BY t.id",
            &["1|p", "2|NULL"],
        );
        let parameter = crate::testing::parameters(vec![std::sync::Arc::new(arrow::array::Int64Array::from(vec![2]))]);
        let sql = "SELECT id, a FROM t WHERE id = $1 GROUP BY id";
        assert_eq!(fixture.rows_as(&fixture.root, sql, parameter), ["2|two"]);
        // A statement of its own, with nothing left of the keys.
        fixture.check("SELECT DISTINCT id, unnest(l) AS e FROM t ORDER BY id", &["1|1", "2|2"]);
    }

    #[test]
    fn what_is_no_key_does_not() {
        let fixture = fixture();
        for sql in [
            "SELECT id, a FROM keyless GROUP BY id",
            "SELECT x, v FROM u GROUP BY x",
            "SELECT t.id, v FROM t JOIN u ON u.t = t.id GROUP BY t.id",
            "SELECT id, a FROM (SELECT * FROM t UNION ALL SELECT * FROM t) GROUP BY id",
            "SELECT id, e FROM (SELECT id, unnest(l) AS e FROM t) GROUP BY id",
        ] {
            let refused = fixture.execute_as(&fixture.root, sql, Parameters::none());
            let error = refused.expect_err(sql);
            assert_eq!(error.code, ErrorCode::InvalidStatement, "{sql}: {error}");
        }
    }
}
