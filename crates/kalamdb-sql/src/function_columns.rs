//! Names of the columns that functions in FROM make: the one column of `unnest(tags) AS tag` and of `generate_series(1, 9) AS i` is called
//! as the function is there, as in PostgreSQL.
//!
//! DataFusion's name of what a series makes is `value`, which goes on where a statement says so.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, TableAlias, TableFactor, VisitMut, Visitor, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::tree::{walk, walk_mut};

/// DataFusion's name of what a series makes.
const OF_SERIES: &str = "value";

/// Names such columns.
pub(crate) fn name(node: &mut impl VisitMut) {
    walk_mut(node, &mut Columns(Vec::new())).expect("this visitor does not break");
}

/// The columns that each query around names, the innermost last.
struct Columns(Vec<Named>);

impl VisitorMut for Columns {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        let mut named = Named::default();
        walk(query, &mut named).expect("this visitor does not break");
        self.0.push(named);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        self.0.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        let joins = select.from.iter().flat_map(|from| &from.joins);
        let factors = select.from.iter().map(|from| &from.relation);
        let factors = factors.chain(joins.map(|join| &join.relation));
        let unnamed = factors.filter(|factor| matches!(factor, TableFactor::UNNEST { alias: None, .. }));
        if unnamed.count() == 1 {
            for from in &mut select.from {
                let joins = from.joins.iter_mut().map(|join| &mut join.relation);
                for factor in std::iter::once(&mut from.relation).chain(joins) {
                    if let TableFactor::UNNEST {
                        alias: alias @ None,
                        array_exprs,
                        ..
                    } = factor
                        && makes_one_column(array_exprs)
                    {
                        *alias = Some(called("unnest"));
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::UNNEST {
                alias: Some(alias),
                array_exprs,
                ..
            } if makes_one_column(array_exprs) => name_one(alias),
            TableFactor::Table {
                name,
                alias,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, alias, .. } => {
                if let Some(series) = series(name)
                    && let Some(named) = self.0.last()
                    && !named.0.contains(OF_SERIES)
                {
                    match alias {
                        Some(alias) => name_one(alias),
                        None if named.0.contains(&series) => *alias = Some(called(&series)),
                        None => {}
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Columns that a query names, and parts of their names.
#[derive(Default)]
struct Named(HashSet<String>);

impl Visitor for Named {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Identifier(name) => drop(self.0.insert(folded(name))),
            Expr::CompoundIdentifier(parts) => self.0.extend(parts.iter().map(folded)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn series(name: &ast::ObjectName) -> Option<String> {
    let [part] = name.0.as_slice() else {
        return None;
    };
    let name = folded(part.as_ident()?);
    ["generate_series", "range"].contains(&name.as_str()).then_some(name)
}

fn name_one(alias: &mut TableAlias) {
    if alias.columns.is_empty() {
        alias.columns.push(ast::TableAliasColumnDef {
            name: alias.name.clone(),
            data_type: None,
        });
    }
}

fn called(function: &str) -> TableAlias {
    let mut alias = TableAlias {
        explicit: true,
        name: ast::Ident::new(function),
        columns: Vec::new(),
        at: None,
    };
    name_one(&mut alias);
    alias
}

/// `unnest` of a STRUCT, and of several lists, makes several columns.
fn makes_one_column(lists: &[Expr]) -> bool {
    fn is_struct(expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) => is_struct(inner),
            Expr::Struct { .. } | Expr::Dictionary(_) | Expr::Tuple(_) => true,
            Expr::Cast { data_type, .. } => matches!(data_type, ast::DataType::Struct(..)),
            Expr::Function(function) => match function.name.0.as_slice() {
                [name] => name
                    .as_ident()
                    .is_some_and(|name| ["struct", "named_struct", "row"].contains(&folded(name).as_str())),
                _ => false,
            },
            _ => false,
        }
    }
    matches!(lists, [list] if !is_struct(list))
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn the_one_column_of_a_function_is_called_as_it_is() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, tags TEXT[], value INT)",
            "INSERT INTO t VALUES (1, 1, 2, ARRAY['q', 'r'], 10), (2, 3, 4, ARRAY['s'], 20), (3, 5, 6, NULL, 30)",
        ]);
        for (sql, expected) in [
            (
                "SELECT id, tag FROM t, unnest(tags) AS tag ORDER BY tag",
                &["1|q", "1|r", "2|s"][..],
            ),
            (
                "SELECT tag.tag FROM t, unnest(tags) tag ORDER BY 1 DESC",
                &["s", "r", "q"],
            ),
            (
                "SELECT x FROM t CROSS JOIN LATERAL unnest(ARRAY[a, b]) AS x WHERE id = 2 ORDER BY x",
                &["3", "4"],
            ),
            (
                "SELECT x FROM t, unnest(ARRAY[t.a, t.b * 10]) AS u (x) WHERE id < 3 ORDER BY x",
                &["1", "3", "20", "40"],
            ),
            (
                "SELECT k, x FROM t CROSS JOIN LATERAL unnest(ARRAY['a', 'b'], ARRAY[a, b]) AS u (k, x) WHERE id = 1 ORDER BY k",
                &["a|1", "b|2"],
            ),
            ("SELECT unnest FROM unnest(ARRAY[1, 2])", &["1", "2"]),
            ("SELECT unnest.unnest FROM t, unnest(tags) WHERE id = 2", &["s"]),
            ("SELECT i, i.i FROM generate_series(1, 2) AS i", &["1|1", "2|2"]),
            ("SELECT i * 2 FROM range(1, 3) i", &["2", "4"]),
            ("SELECT i.value FROM generate_series(1, 2) AS i", &["1", "2"]),
            ("SELECT value FROM generate_series(1, 2)", &["1", "2"]),
            ("SELECT generate_series FROM generate_series(1, 2)", &["1", "2"]),
            (
                "SELECT id, i FROM t JOIN generate_series(2, 9) AS i ON i = id ORDER BY 1",
                &["2|2", "3|3"],
            ),
            (
                "SELECT (SELECT max(i) FROM generate_series(1, 3) i) FROM t WHERE id = 1",
                &["3"],
            ),
            (
                "SELECT s.a, s.b FROM unnest(named_struct('a', 1, 'b', 2)) AS s (a, b)",
                &["1|2"],
            ),
        ] {
            fixture.check(sql, expected);
        }
        for (sql, expected) in [
            ("SELECT * FROM unnest(ARRAY[1]) AS n", &["n"][..]),
            ("SELECT * FROM unnest(ARRAY[1])", &["unnest"]),
            ("SELECT unnest(tags) FROM t", &["unnest"]),
            (
                "SELECT id, unnest(tags), unnest(ARRAY[a]) FROM t",
                &["id", "unnest", "unnest"],
            ),
            ("SELECT unnest(ARRAY[1]) AS n, id + 1 FROM t", &["n", "id + 1"]),
            ("SELECT unnest(named_struct('a', 1, 'b', 2)), 3", &["a", "b", "3"]),
            ("SELECT * FROM generate_series(1, 2) AS i", &["i"]),
        ] {
            let described = fixture.block_on(fixture.database.describe(&fixture.root, sql));
            let described = described.unwrap_or_else(|error| panic!("{sql}: {error}")).result;
            let names: Vec<&str> = described.fields().iter().map(|field| field.name().as_str()).collect();
            let same = names.len() == expected.len()
                && names
                    .iter()
                    .zip(expected)
                    .all(|(name, expected)| name == expected || name.ends_with(&format!(".{expected}")));
            assert!(same, "{sql}: {names:?}");
        }
    }
}
