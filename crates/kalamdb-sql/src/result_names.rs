//! Names of the result's columns that have no alias: the text of their expressions, in the place of what DataFusion's plans call them
//! (`t.n + Int64(1)` for `n + 1`).
//!
//! They are given to the outermost SELECT of a query, and to RETURNING, alone, when the plan is made: whatever reads columns of a query by their names,
//! as views, CREATE TABLE AS and queries around do, has the plan's own.

use std::ops::ControlFlow;

use arrow::datatypes::Fields;
use datafusion::sql::sqlparser::ast::{self, Expr, SelectItem, SetExpr, VisitorMut};
use kalamdb_core::{Error, Result};

use crate::names::folded;
use crate::planned::Planned;
use crate::planning::Planner;
use crate::provider::OWNER;
use crate::session::Reach;
use crate::tree::walk_mut;

/// What a list taken apart is called.
const UNNESTED: &str = "unnest";

/// Characters of a name. What is longer ends with an ellipsis.
const LONGEST: usize = 200;

/// What the text says of the columns of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultNames(Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// One column, by the name that the plan has for it.
    Own,
    /// One column, by this name.
    Text(String),
    /// One column, by the last part of its name if that is a column, and by its text if it is a field of one, which the plan names with
    /// brackets.
    Field { last: String, text: String },
    /// As many columns as the plan says, of `unnest`: one of a list, one for each field of a STRUCT.
    Unnested,
    /// As many columns as the plan says.
    Several,
}

/// Plans a query whose rows are a statement's result.
///
/// # Errors
/// As [`Planner::plan`].
pub(crate) fn plan(planner: &Planner, statement: ast::Statement) -> Result<Planned> {
    let names = of(&statement);
    let owner = (planner.reach() == Reach::Everyone).then_some(OWNER);
    Ok(given(names, planner.plan(statement, &[])?, owner))
}

/// A planned query with the names that its text has for the columns; the last one may be `owner`, in which no text is.
pub(crate) fn given(names: Option<ResultNames>, planned: Planned, owner: Option<&str>) -> Planned {
    let names = names.and_then(|names| names.over(planned.plan.schema().fields(), planned.names.as_deref(), owner));
    match names {
        Some(names) => Planned {
            names: Some(names.into()),
            ..planned
        },
        None => planned,
    }
}

/// What a query's text says, before it is written otherwise for the planner; `None` where it has no select list.
pub(crate) fn of(statement: &ast::Statement) -> Option<ResultNames> {
    let ast::Statement::Query(query) = statement else {
        return None;
    };
    let mut body = query.body.as_ref();
    let select = loop {
        body = match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(query) => &query.body,
            // The names are those of the left one.
            SetExpr::SetOperation { left, .. } => left,
            _ => return None,
        };
    };
    Some(ResultNames(select.projection.iter().map(Item::of).collect()))
}

impl Item {
    fn of(item: &SelectItem) -> Self {
        match item {
            SelectItem::ExprWithAlias { .. } => Item::Own,
            SelectItem::UnnamedExpr(expr) => match column(expr) {
                Some(Expr::CompoundIdentifier(parts)) => Item::Field {
                    last: parts.last().map_or_else(String::new, folded),
                    text: text(expr),
                },
                Some(Expr::Identifier(name)) => Item::Text(folded(name)),
                Some(_) => Item::Own,
                None if makes_columns(expr) => Item::Unnested,
                None => Item::Text(text(expr)),
            },
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                Item::Several
            }
        }
    }

    fn name(&self, planned: &str) -> Option<&str> {
        match self {
            Item::Own | Item::Unnested | Item::Several => None,
            Item::Text(text) => Some(text),
            Item::Field { last, text } => Some(match last == planned || !planned.contains('[') {
                true => last,
                false => text,
            }),
        }
    }
}

impl ResultNames {
    /// The names of a result that the plan says to have such columns; `None` where they are all its own. The last one may be
    /// `owner`, in which no text is.
    fn over(&self, fields: &Fields, planned: Option<&[String]>, owner: Option<&str>) -> Option<Vec<String>> {
        let before: Vec<String> = match planned {
            Some(planned) => planned.to_vec(),
            None => fields.iter().map(|field| field.name().clone()).collect(),
        };
        let may_be_several = self.0.contains(&Item::Several);
        if !may_be_several && self.0.contains(&Item::Unnested) && self.0.len() == before.len() {
            let lists = self.0.iter().zip(&before).map(|(item, planned)| match item {
                Item::Unnested if planned.starts_with("UNNEST(") => Item::Text(UNNESTED.to_owned()),
                Item::Unnested => Item::Own,
                other => other.clone(),
            });
            return ResultNames(lists.collect()).over(fields, planned, owner);
        }
        let is_several = |item: &Item| matches!(item, Item::Several | Item::Unnested);
        let front = self.0.iter().position(is_several);
        let may_be_added = owner.is_some() && before.last().map(String::as_str) == owner;
        // Between two such items nothing tells which column is whose.
        let (front, back) = match front {
            None if before.len() == self.0.len() || may_be_added && before.len() == self.0.len() + 1 => {
                (self.0.len(), 0)
            }
            None => return None,
            Some(front) if may_be_added => (front, 0),
            Some(front) => (front, self.0.iter().rev().position(is_several).unwrap_or(0)),
        };
        if front + back > before.len() {
            return None;
        }
        let mut names = before.clone();
        let first = self.0.iter().take(front).zip(0..);
        let last = self.0.iter().rev().take(back).zip((0..before.len()).rev());
        for (item, index) in first.chain(last) {
            if let Some(name) = item.name(&before[index]) {
                names[index] = name.to_owned();
            }
        }
        (names != before).then_some(names)
    }
}

/// The column that an expression is but for its type.
pub(crate) fn column(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => column(inner),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Some(expr),
        _ => None,
    }
}

/// `unnest` of a STRUCT is a column for each of its fields.
pub(crate) fn makes_columns(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => makes_columns(inner),
        Expr::Function(function) => match function.name.0.as_slice() {
            [name] => name.as_ident().is_some_and(|name| folded(name) == "unnest"),
            _ => false,
        },
        _ => false,
    }
}

/// The text with names as they are stored, quoted where they have to be.
pub(crate) fn text(expr: &Expr) -> String {
    struct Folding;
    impl VisitorMut for Folding {
        type Break = Error;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            match expr {
                Expr::Identifier(name) => fold(name),
                Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(fold),
                Expr::Function(function) => {
                    for part in &mut function.name.0 {
                        if let ast::ObjectNamePart::Identifier(name) = part {
                            fold(name);
                        }
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut shown = expr.clone();
    walk_mut(&mut shown, &mut Folding).expect("this visitor does not break");
    while let Expr::Nested(inner) = shown {
        shown = *inner;
    }
    let mut text = shown.to_string();
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn fold(name: &mut ast::Ident) {
    if name.quote_style.is_none() {
        name.value = folded(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    fn names(fixture: &Fixture, sql: &str) -> Vec<String> {
        let described = fixture.block_on(fixture.database.describe(&fixture.root, sql));
        let described = described.unwrap_or_else(|error| panic!("{sql}: {error}")).result;
        let execution = fixture.block_on(fixture.database.execute(&fixture.root, sql, Parameters::none()));
        let run = match execution.unwrap_or_else(|error| panic!("{sql}: {error}")) {
            crate::Execution::Rows(rows) => rows.schema(),
            _ => panic!("{sql}: no rows"),
        };
        assert_eq!(described, run, "{sql}");
        run.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn columns_are_called_what_the_text_says() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n BIGINT, s STRUCT(width INT, height INT), tags TEXT[], \"N\" INT)",
            "INSERT INTO t VALUES (1, 2, STRUCT(3, 4), ARRAY['a'], 5)",
        ]);
        let cases: &[(&str, &[&str])] = &[
            ("SELECT 1, 'a', NULL, 1", &["1", "'a'", "NULL", "1"]),
            ("SELECT N + 1, t.n, T.N * 2 FROM t", &["n + 1", "n", "t.n * 2"]),
            (
                "SELECT sum(n), COUNT(*), max(t.n) FROM t",
                &["sum(n)", "count(*)", "max(t.n)"],
            ),
            (
                "SELECT n::TEXT, (n), CAST(t.n AS DOUBLE), '1'::INT FROM t",
                &["n", "n", "n", "'1'::INT"],
            ),
            ("SELECT n, n::TEXT, t.n FROM t", &["n", "n", "n"]),
            ("SELECT \"N\", \"N\" + 1 FROM t", &["N", "\"N\" + 1"]),
            ("SELECT *, n + 1 FROM t", &["id", "n", "s", "tags", "N", "n + 1"]),
            ("SELECT 1, t.*, 2 FROM t", &["1", "id", "n", "s", "tags", "N", "2"]),
            (
                "SELECT a.id, 1, b.* FROM t a JOIN t b ON a.id = b.id",
                &["id", "1", "id", "n", "s", "tags", "N"],
            ),
            (
                "SELECT s.width, s['height'], t.s.width + 1 FROM t",
                &["s.width", "s['height']", "t.s.width + 1"],
            ),
            ("SELECT n + 1 AS m, n + 1 FROM t", &["m", "n + 1"]),
            ("SELECT 1 UNION SELECT 2", &["1"]),
            ("(SELECT n + 1 FROM t) ORDER BY 1", &["n + 1"]),
            ("SELECT n + 1 FROM t ORDER BY n + 1 LIMIT 1", &["n + 1"]),
            ("SELECT DISTINCT n % 2 FROM t", &["n % 2"]),
            ("WITH q AS (SELECT 7 AS x) SELECT x * 2 FROM q", &["x * 2"]),
            (
                "SELECT CURRENT_USER, -n, NOT true FROM t",
                &["current_user", "-n", "NOT true"],
            ),
            ("VALUES (1, 2)", &["column1", "column2"]),
            ("SELECT (SELECT max(n) FROM t)", &["(SELECT max(n) FROM t)"]),
        ];
        for (sql, expected) in cases {
            assert_eq!(names(&fixture, sql), *expected, "{sql}");
        }
        let long = format!("SELECT '{}'", "x".repeat(1_000));
        assert_eq!(names(&fixture, &long)[0].chars().count(), LONGEST + 1);
    }

    #[test]
    fn returning_has_them_too() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY, n BIGINT)"]);
        let sql = "INSERT INTO t VALUES (1, 2) RETURNING n + 1, id, upper('a'), t.n";
        let described = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql)
            .result;
        let names: Vec<&str> = described.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["n + 1", "id", "upper('a')", "n"]);
        fixture.check(sql, &["3|1|A|2"]);
    }

    #[test]
    fn queries_around_have_the_plans_names() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n BIGINT)",
            "INSERT INTO t VALUES (1, 2)",
            "CREATE TABLE made (PRIMARY KEY (id)) AS SELECT id, sum(n) FROM t GROUP BY id",
            "CREATE VIEW v AS SELECT id, count(*) FROM t GROUP BY id",
        ]);
        fixture.check("SELECT \"sum(t.n)\" FROM made", &["2"]);
        fixture.check("SELECT \"count(*)\" FROM v", &["1"]);
        fixture.check("SELECT \"sum(t.n)\" FROM (SELECT sum(n) FROM t) AS q", &["2"]);
    }
}
