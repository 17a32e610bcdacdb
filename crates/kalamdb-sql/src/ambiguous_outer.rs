//! Columns without a table's name in a subquery whose own tables have several of that name: refused, whatever the query around has.
//!
//! Problem: DataFusion 55 looks for such a column in the query around next, and takes it from there (`sql_identifier_to_expr` in
//! datafusion-sql 55 `expr/identifier.rs`). Proper way, as in PostgreSQL: to refuse it. Chosen: where a plan has a column of the
//! query around by a name that the subquery has several times, the statement is planned once more with a mark around every
//! name without a table, which tells that from `table.name`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, SchemaError};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, Visitor, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Position};

use crate::names::{folded, placed, position};
use crate::one_row_subqueries::subquery_of;
use crate::parameters;
use crate::tree::{walk, walk_mut};

/// Begins the name of the function that is the mark; no statement has it. The number of the query follows.
const MARK: &str = "?without a table ";

/// Whether a statement has subqueries that can use columns of the query around them.
pub(crate) fn may_have_any(statement: &ast::Statement) -> bool {
    struct Subqueries;
    impl Visitor for Subqueries {
        type Break = Error;

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            match expr {
                ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => found(),
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Error> {
            match factor {
                ast::TableFactor::Derived { lateral: true, .. } => found(),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk(statement, &mut Subqueries).is_err()
}

fn found() -> ControlFlow<Error> {
    ControlFlow::Break(Error::new(ErrorCode::Internal, "a subquery ends the search for one"))
}

/// Refuses a plan of the statement that has such a column; `plan` plans another text like it.
///
/// # Errors
/// INVALID_STATEMENT with the column's place.
pub(crate) fn check(
    statement: ast::Statement,
    planned: &LogicalPlan,
    plan: impl Fn(ast::Statement) -> Result<LogicalPlan>,
) -> Result<()> {
    let mut suspects = BTreeSet::new();
    visit(planned, &mut Vec::new(), &mut |expr, scopes| {
        if let Expr::OuterReferenceColumn(_, column) = expr
            && scopes.hide(&column.name)
        {
            suspects.insert(column.name.clone());
        }
    })?;
    if suspects.is_empty() {
        return Ok(());
    }
    let mut marks = Marks {
        suspects,
        queries: 0,
        open: Vec::new(),
        places: BTreeMap::new(),
    };
    let mut marked = statement;
    walk_mut(&mut marked, &mut marks).expect("this visitor does not break");
    // A name that may not be marked where it stands, as one of ORDER BY that is of the result, is none of those.
    let Ok(marked) = plan(marked) else { return Ok(()) };
    let mut hidden = None;
    visit(&marked, &mut Vec::new(), &mut |expr, scopes| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.name().starts_with(MARK)
            && let [Expr::OuterReferenceColumn(_, column)] = call.args.as_slice()
            && scopes.hide(&column.name)
        {
            let place = (call.func.name().to_owned(), column.name.clone());
            hidden.get_or_insert(place);
        }
    })?;
    match hidden {
        None => Ok(()),
        Some(hidden) => Err(refused(&hidden.1, marks.places.get(&hidden).copied().flatten())),
    }
}

fn refused(name: &str, place: Option<Position>) -> DataFusionError {
    let error = SchemaError::AmbiguousReference {
        field: Box::new(Column::new_unqualified(name)),
    };
    let error = crate::diagnostics::from_datafusion(DataFusionError::SchemaError(Box::new(error), Box::new(None)));
    DataFusionError::External(Box::new(placed(error, place)))
}

/// The function that marks a name, if that is one's name.
pub(crate) fn mark(name: &str) -> Option<Arc<ScalarUDF>> {
    name.starts_with(MARK).then(|| {
        Arc::new(ScalarUDF::from(Mark {
            name: name.to_owned(),
            signature: Signature::any(1, Volatility::Immutable),
        }))
    })
}

/// The tables of a subquery's SELECT, and of the queries around it.
struct Scopes<'a> {
    own: &'a [DFSchemaRef],
    /// The outermost first.
    around: &'a [Vec<DFSchemaRef>],
}

impl Scopes<'_> {
    /// Whether a scope before the one that has the name has it several times.
    fn hide(&self, name: &str) -> bool {
        let scopes = std::iter::once(self.own).chain(self.around.iter().rev().map(Vec::as_slice));
        for scope in scopes {
            for schema in scope {
                match schema.qualified_field_with_unqualified_name(name) {
                    Ok(_) => return false,
                    Err(DataFusionError::SchemaError(error, _))
                        if matches!(*error, SchemaError::AmbiguousReference { .. }) =>
                    {
                        return true;
                    }
                    Err(_) => {}
                }
            }
        }
        false
    }
}

/// Calls `look` with each expression of a plan and of its subqueries.
fn visit(
    plan: &LogicalPlan,
    around: &mut Vec<Vec<DFSchemaRef>>,
    look: &mut dyn FnMut(&Expr, &Scopes<'_>),
) -> Result<()> {
    let own = tables_of(plan);
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            let scopes = Scopes {
                own: &own,
                around: around.as_slice(),
            };
            look(part, &scopes);
            if let Some(subquery) = subquery_of(part) {
                around.push(own.clone());
                visit(&subquery.subquery, around, look)?;
                around.pop();
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if let LogicalPlan::Join(join) = plan
        && is_lateral(&join.right)
    {
        visit(&join.left, around, look)?;
        around.push(vec![Arc::clone(join.left.schema())]);
        visit(&join.right, around, look)?;
        around.pop();
        return Ok(());
    }
    for input in plan.inputs() {
        visit(input, around, look)?;
    }
    Ok(())
}

fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => matches!(alias.input.as_ref(), LogicalPlan::Subquery(_)),
        _ => false,
    }
}

/// What the expressions of a part may read, down to the FROM of the SELECT that it is of.
fn tables_of(plan: &LogicalPlan) -> Vec<DFSchemaRef> {
    if let LogicalPlan::Join(join) = plan {
        return match join.left.schema().join(join.right.schema()) {
            Ok(both) => vec![Arc::new(both)],
            // Of two columns with one name and table planning has said so.
            Err(_) => Vec::new(),
        };
    }
    let mut found = Vec::new();
    let mut part = plan;
    while let [input] = part.inputs().as_slice() {
        found.push(Arc::clone(input.schema()));
        match (place_in_select(part), place_in_select(input)) {
            (Some(above), Some(below)) if above < below => part = input,
            _ => break,
        }
    }
    // The FROM says what it has several times.
    found.reverse();
    found
}

/// In which order a SELECT has its parts, the last one done first.
fn place_in_select(plan: &LogicalPlan) -> Option<u8> {
    match plan {
        LogicalPlan::Sort(_) => Some(0),
        LogicalPlan::Distinct(_) => Some(1),
        LogicalPlan::Projection(_) => Some(2),
        LogicalPlan::Window(_) => Some(3),
        LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)) => Some(4),
        LogicalPlan::Aggregate(_) => Some(5),
        LogicalPlan::Filter(_) => Some(6),
        _ => None,
    }
}

/// Marks names in subqueries.
struct Marks {
    suspects: BTreeSet<String>,
    queries: usize,
    /// The numbers of the queries around, the innermost last.
    open: Vec<usize>,
    /// Where a query names a column first, by the mark.
    places: BTreeMap<(String, String), Option<Position>>,
}

impl VisitorMut for Marks {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Error> {
        self.queries += 1;
        self.open.push(self.queries);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Error> {
        self.open.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        if let [_, .., query] = self.open.as_slice()
            && let ast::Expr::Identifier(name) = expr
            && self.suspects.contains(&folded(name))
        {
            let mark = format!("{MARK}{query}");
            let known = self.places.entry((mark.clone(), folded(name)));
            known.or_insert_with(|| position(name));
            *expr = ast::Expr::Function(parameters::call_of(&mark, vec![expr.clone()]));
        }
        ControlFlow::Continue(())
    }
}

/// Its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => datafusion::common::plan_err!("a mark is of one name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn a_name_that_the_subquery_has_twice_is_not_looked_for_outside() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
            "CREATE TABLE u (id INT PRIMARY KEY, a INT, b INT)",
            "INSERT INTO t VALUES (1, 10), (2, 20)",
            "INSERT INTO u VALUES (1, 10, 1), (2, 20, 2)",
        ]);
        // The name stands between the marks.
        for marked in [
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u AS x, u AS y WHERE «id» = 1)",
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u AS x JOIN u AS y ON x.id = y.id AND «a» = 10)",
            "SELECT id, (SELECT max(x.b + «id») FROM u AS x JOIN u AS y ON x.id = y.id) FROM t",
            "SELECT id FROM t WHERE id IN (SELECT x.id FROM u AS x JOIN u AS y ON true GROUP BY x.id HAVING max(x.b) > «a»)",
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u AS x, u AS y WHERE EXISTS (SELECT 1 FROM u AS z WHERE z.b = t.id) AND «a» > 1)",
            "SELECT x.id FROM u AS x, t WHERE EXISTS (SELECT 1 FROM u AS y WHERE EXISTS (SELECT 1 FROM u AS p, u AS q WHERE «id» = y.b))",
            "SELECT t.id FROM t CROSS JOIN LATERAL (SELECT 1 AS one FROM u AS x, u AS y WHERE x.id = «a») AS l",
        ] {
            let at = marked.chars().position(|c| c == '«').expect("a mark");
            let sql = marked.replace(['«', '»'], "");
            let place = Some((1, at as u64 + 1));
            fixture.check_error(
                &sql,
                ErrorCode::InvalidStatement,
                place,
                "is in more than one of the tables",
            );
        }
        for (sql, expected) in [
            (
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u AS x, u AS y WHERE t.id = 1)",
                ["1"].as_slice(),
            ),
            (
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u AS x, u AS y WHERE t.id = 1 AND x.id = y.id)",
                &["1"],
            ),
            (
                "SELECT t.id FROM t WHERE EXISTS (SELECT 1 FROM u AS x, u AS y WHERE x.id = t.id AND EXISTS (SELECT id FROM u AS z WHERE id = x.b))",
                &["1", "2"],
            ),
            (
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM (VALUES (10)) AS v (n) WHERE n = a)",
                &["1"],
            ),
        ] {
            let mut rows = fixture.rows(sql);
            rows.sort();
            assert_eq!(rows, expected, "{sql}");
        }
    }
}
