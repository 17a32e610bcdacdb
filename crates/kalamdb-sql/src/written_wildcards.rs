//! `SELECT *, * FROM t`: a `*` of the result as the columns that it stands for, so that those of one name can be told apart.
//!
//! DataFusion plans no columns of one name (`repeated_names`), and what `*` stands for is not in the text. Chosen: for a statement that
//! is refused for names `SELECT * FROM …` is planned alone, and its columns are written in the place of the `*`.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, SelectItem, SetExpr, WildcardAdditionalOptions};

use crate::result_names::{column, makes_columns, text};
use crate::values;

/// The statement with columns in the place of each `*` of its result; `None` if there is none that can be written so. `plan` plans
/// another statement.
pub(crate) fn written_out(
    statement: &ast::Statement,
    plan: &dyn Fn(ast::Statement) -> Option<LogicalPlan>,
) -> Option<ast::Statement> {
    let ast::Statement::Query(query) = statement else {
        return None;
    };
    let mut written = query.clone();
    let columns = Columns {
        with: query.with.clone(),
        plan,
    };
    let any = columns.of_body(&mut written.body)?;
    any.then_some(ast::Statement::Query(written))
}

struct Columns<'a> {
    with: Option<ast::With>,
    plan: &'a dyn Fn(ast::Statement) -> Option<LogicalPlan>,
}

impl Columns<'_> {
    /// Whether there was any.
    fn of_body(&self, body: &mut SetExpr) -> Option<bool> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::SetOperation { left, right, .. } => {
                let left = self.of_body(left)?;
                Some(self.of_body(right)? || left)
            }
            SetExpr::Query(query) if query.with.is_none() => self.of_body(&mut query.body),
            _ => Some(false),
        }
    }

    fn of_select(&self, select: &mut ast::Select) -> Option<bool> {
        if !select.projection.iter().any(is_wildcard) {
            return Some(false);
        }
        let mut items = Vec::with_capacity(select.projection.len());
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    if !leaves_names(options) {
                        return None;
                    }
                    items.extend(self.of_wildcard(item, &select.from)?);
                }
                // The text of one between two that stand for several is not to be told by its place.
                SelectItem::UnnamedExpr(expr) if column(expr).is_none() && !makes_columns(expr) => {
                    items.push(SelectItem::ExprWithAlias {
                        alias: Ident::with_quote('"', text(expr)),
                        expr: expr.clone(),
                    });
                }
                other => items.push(other.clone()),
            }
        }
        select.projection = items;
        Some(true)
    }

    fn of_wildcard(&self, item: &SelectItem, from: &[ast::TableWithJoins]) -> Option<Vec<SelectItem>> {
        let select = values::select(vec![item.clone()], from.to_vec(), None);
        let mut query = values::query(SetExpr::Select(Box::new(select)));
        query.with = self.with.clone();
        let planned = (self.plan)(ast::Statement::Query(query))?;
        let columns = planned.schema().iter().map(|(table, field)| {
            let name = Ident::with_quote('"', field.name());
            SelectItem::UnnamedExpr(match table {
                Some(table) => {
                    let parts = table.to_vec().into_iter().map(|part| Ident::with_quote('"', part));
                    Expr::CompoundIdentifier(parts.chain([name]).collect())
                }
                None => Expr::Identifier(name),
            })
        });
        Some(columns.collect())
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// REPLACE and the like give other values or names.
fn leaves_names(options: &WildcardAdditionalOptions) -> bool {
    options.opt_replace.is_none() && options.opt_rename.is_none() && options.opt_ilike.is_none()
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn a_wildcard_may_repeat_what_is_there() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, \"W\" TEXT)",
            "CREATE TABLE u (id INT PRIMARY KEY, n INT)",
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            "INSERT INTO u VALUES (1, 10), (2, 20)",
        ]);
        for (sql, expected) in [
            ("SELECT *, * FROM t ORDER BY 1", &["1|a|1|a", "2|b|2|b"][..]),
            (
                "SELECT *, id + 1, * FROM t ORDER BY id DESC",
                &["2|b|3|2|b", "1|a|2|1|a"],
            ),
            ("SELECT *, id + 1, *, id + 1 FROM t WHERE id = 1", &["1|a|2|1|a|2"]),
            (
                "SELECT t.*, u.*, t.* FROM t JOIN u USING (id) WHERE n = 10",
                &["1|a|1|10|1|a"],
            ),
            (
                "SELECT *, x.* FROM t AS x JOIN u ON x.id = u.id WHERE n = 20",
                &["2|b|2|20|2|b"],
            ),
            ("SELECT *, * FROM t JOIN u USING (id) WHERE n = 20", &["2|b|20|2|b|20"]),
            ("SELECT * EXCEPT (id), *, \"W\" FROM t WHERE id = 2", &["b|2|b|b"]),
            (
                "WITH q AS (SELECT n FROM u) SELECT *, * FROM q UNION ALL SELECT *, * FROM (SELECT 5) AS v (x) ORDER BY 1",
                &["5|5", "10|10", "20|20"],
            ),
            ("SELECT *, * FROM (VALUES (1, 2)) AS v (a, b)", &["1|2|1|2"]),
            ("SELECT DISTINCT *, * FROM u ORDER BY n", &["1|10|1|10", "2|20|2|20"]),
        ] {
            fixture.check(sql, expected);
        }
        let described = fixture.block_on(
            fixture
                .database
                .describe(&fixture.root, "SELECT *, id + 1, *, id FROM t"),
        );
        let described = described.expect("a description").result;
        let names: Vec<&str> = described.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "W", "id + 1", "id", "W", "id"]);
    }
}
