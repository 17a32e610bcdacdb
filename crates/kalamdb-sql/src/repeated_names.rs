//! Result columns of one name, as in `SELECT v, v::TEXT`.
//!
//! Problem: DataFusion plans no projection in which two expressions have one name, and an expression's name is the same with and
//! without a cast. The proper way is a plan whose columns are told apart by their place. Chosen: a statement that is refused for
//! it is planned again with names of our own for such columns, and the schema of the result gives their names back. That is done
//! where nothing can ask for a column by the name it loses: in the outermost SELECTs, where a list of columns renames them, and in
//! EXISTS.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::common::SchemaError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Visitor, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{folded, placed, position};
use crate::told_casts::{self, without_marks};
use crate::tree::{walk, walk_mut};

/// Which columns are planned under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// Those that repeat a name as far as the text tells, so that ORDER BY finds the first.
    Repeated,
    /// All that are written.
    All,
    /// Those, and casts in them, so that aggregates and groups are told apart, too.
    AllAndCasts,
}

/// Whether a statement is refused for names of columns, and other names may help.
pub(crate) fn caused(error: &DataFusionError) -> bool {
    match error {
        // A number in ORDER BY means a column by its name, which only one with an alias has beside groups and DISTINCT.
        DataFusionError::Plan(message) => {
            message == OF_SIDES
                || message.contains("require unique expression names")
                || message.starts_with("Column in ORDER BY must be in GROUP BY")
        }
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::DuplicateQualifiedField { .. }
            | SchemaError::DuplicateUnqualifiedField { .. }
            | SchemaError::AmbiguousReference { .. } => true,
            SchemaError::FieldNotFound { .. } => false,
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => caused(inner),
        DataFusionError::Shared(inner) => caused(inner),
        DataFusionError::Collection(errors) => errors.iter().any(caused),
        _ => false,
    }
}

/// What is wrong with a statement that [`confuses_sides`] finds, should no other names help.
pub(crate) const OF_SIDES: &str = "two columns before INTERSECT or EXCEPT have the same name; give one another with AS";

/// Whether the left side of an INTERSECT or EXCEPT that the result comes from has two columns of one name: the planner, which joins
/// the sides by names, would ask the right side for the second, and may find another column there. Evidence: `join_detailed` of
/// datafusion-expr 55 `logical_plan/builder.rs`.
pub(crate) fn confuses_sides(statement: &ast::Statement) -> bool {
    fn left(body: &ast::SetExpr) -> Option<&ast::Select> {
        match body {
            ast::SetExpr::Select(select) => Some(select),
            ast::SetExpr::Query(query) => left(&query.body),
            ast::SetExpr::SetOperation { left: inner, .. } => left(inner),
            _ => None,
        }
    }
    fn confuses(body: &ast::SetExpr) -> bool {
        match body {
            ast::SetExpr::Query(query) => confuses(&query.body),
            ast::SetExpr::SetOperation {
                op, left: one, right, ..
            } => {
                let joins = matches!(op, ast::SetOperator::Intersect | ast::SetOperator::Except);
                joins && left(one).is_some_and(repeats) || confuses(one) || confuses(right)
            }
            _ => false,
        }
    }
    fn repeats(select: &ast::Select) -> bool {
        let mut seen = HashSet::new();
        select.projection.iter().any(|item| match item {
            ast::SelectItem::UnnamedExpr(expr) => !seen.insert(base_name(expr)),
            ast::SelectItem::ExprWithAlias { alias, .. } => !seen.insert(folded(alias)),
            _ => false,
        })
    }
    matches!(statement, ast::Statement::Query(query) if confuses(&query.body))
}

/// Refuses what is grouped by under one name, `v` and `v::TEXT`, as the planner refuses what is selected so: it is the optimizer that
/// makes a projection of groups.
///
/// # Errors
/// That refusal.
pub(crate) fn check_groups(plan: &LogicalPlan) -> DataFusionResult<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            let mut seen: HashMap<String, (usize, &Expr)> = HashMap::new();
            for (place, expr) in grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().enumerate() {
                let name = expr.schema_name().to_string();
                match seen.get(&name) {
                    Some((first, other)) if *other != expr => {
                        let message = format!(
                            "Groups require unique expression names but the expression \"{other}\" at position {first} and \
                             \"{expr}\" at position {place} have the same name"
                        );
                        return Err(DataFusionError::Plan(message));
                    }
                    Some(_) => {}
                    None => drop(seen.insert(name, (place, expr))),
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(|_| ())
}

/// Gives columns of the statement names of our own; false if there are none to give.
///
/// # Errors
/// INVALID_STATEMENT where ORDER BY or GROUP BY means one of two by a name that both have.
pub(crate) fn rename(statement: &mut ast::Statement, which: Renamed) -> Result<bool> {
    let mut renaming = Renaming { which, any: false };
    if let ast::Statement::Query(query) = statement {
        renaming.outermost(query)?;
    }
    walk_mut(statement, &mut renaming)?;
    Ok(renaming.any)
}

/// The names of a plan's columns with those given back that [`rename`] took; `None` if it took none.
///
/// # Errors
/// Whatever walking over the plan says.
pub(crate) fn given_back(plan: &LogicalPlan) -> DataFusionResult<Option<Vec<String>>> {
    let fields = plan.schema().fields();
    if !fields.iter().any(|field| is_own(field.name())) {
        return Ok(None);
    }
    let mut names: HashMap<String, String> = HashMap::new();
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            if let Expr::Alias(alias) = expr
                && let Some(written) = written_name(&alias.name)
            {
                let name = match written {
                    "" => without_marks(&alias.expr.qualified_name().1),
                    written => written.to_owned(),
                };
                names.entry(alias.name.clone()).or_insert(name);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let given_back = fields.iter().map(|field| match names.get(field.name()) {
        Some(name) => name.clone(),
        None => field.name().clone(),
    });
    Ok(Some(given_back.collect()))
}

/// Begins the names that are given here; EXPLAIN shows them.
const OWN: &str = "?column ";

/// `?column 2?` for a column that the statement does not name, `?column 2?name` for one that it does.
fn own_name(place: usize, alias: Option<&ast::Ident>) -> ast::Ident {
    let written = alias.map_or_else(String::new, folded);
    ast::Ident::with_quote('"', format!("{OWN}{place}?{written}"))
}

fn is_own(name: &str) -> bool {
    written_name(name).is_some()
}

fn written_name(name: &str) -> Option<&str> {
    let (place, written) = name.strip_prefix(OWN)?.split_once('?')?;
    place.bytes().all(|byte| byte.is_ascii_digit()).then_some(written)
}

struct Renaming {
    which: Renamed,
    any: bool,
}

impl Renaming {
    /// The SELECTs that the result comes from.
    fn outermost(&mut self, query: &mut ast::Query) -> Result<()> {
        if self.which == Renamed::AllAndCasts
            && let Some(ordered) = &mut query.order_by
        {
            told_casts::mark(ordered);
        }
        let ordered = query.order_by.as_ref();
        match query.body.as_mut() {
            ast::SetExpr::Query(inner) => self.outermost(inner),
            body => self.body(body, ordered),
        }
    }

    fn body(&mut self, body: &mut ast::SetExpr, ordered: Option<&ast::OrderBy>) -> Result<()> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, ordered),
            ast::SetExpr::Query(inner) => self.outermost(inner),
            // The names are those of the left one.
            ast::SetExpr::SetOperation { left, right, .. } => {
                self.body(left, ordered)?;
                self.body(right, None)
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut ast::Select, ordered: Option<&ast::OrderBy>) -> Result<()> {
        let has_wildcard = select.projection.iter().any(|item| {
            matches!(
                item,
                ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
            )
        });
        let mut seen: HashMap<String, ast::Expr> = HashMap::new();
        let mut projection = std::mem::take(&mut select.projection);
        for (index, item) in projection.iter_mut().enumerate() {
            let (expr, alias) = match item {
                ast::SelectItem::UnnamedExpr(expr) => (&*expr, None),
                ast::SelectItem::ExprWithAlias { expr, alias } => (&*expr, Some(&*alias)),
                ast::SelectItem::ExprWithAliases { .. }
                | ast::SelectItem::Wildcard(_)
                | ast::SelectItem::QualifiedWildcard(..) => continue,
            };
            let name = match alias {
                Some(alias) => folded(alias),
                None => base_name(expr),
            };
            let repeats = match seen.get(&name) {
                Some(first) => {
                    if let Some(alias) = alias
                        && first != expr
                        && (ordered.is_some_and(|ordered| names(ordered, &name)) || names(&select.group_by, &name))
                    {
                        let message =
                            format!("'{name}' could be either of two columns of the result; name them differently");
                        let error = Error::new(ErrorCode::InvalidStatement, message);
                        return Err(placed(error, position(alias)));
                    }
                    true
                }
                None => {
                    seen.insert(name, expr.clone());
                    // What `*` stands for is not in the text.
                    has_wildcard && alias.is_none() && is_column(expr)
                }
            };
            if repeats || self.which != Renamed::Repeated {
                *item = ast::SelectItem::ExprWithAlias {
                    alias: own_name(index + 1, alias),
                    expr: expr.clone(),
                };
                self.any = true;
            }
        }
        select.projection = projection;
        if self.which == Renamed::AllAndCasts {
            told_casts::mark(&mut select.projection);
            told_casts::mark(&mut select.group_by);
            told_casts::mark(&mut select.having);
            told_casts::mark(&mut select.qualify);
        }
        Ok(())
    }

    fn listed(&mut self, query: &mut ast::Query, alias: &ast::TableAlias) -> ControlFlow<Error> {
        if alias.columns.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.outermost(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Queries whose columns are renamed by a list.
impl VisitorMut for Renaming {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.listed(&mut cte.query, &cte.alias)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        match expr {
            // Only that there are rows counts.
            ast::Expr::Exists { subquery, .. } => match self.outermost(subquery) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
        match factor {
            ast::TableFactor::Derived {
                subquery,
                alias: Some(alias),
                ..
            } => self.listed(subquery, alias),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// What an expression is called, as far as the text tells: it is not the planner's name, but the same for two of one name.
fn base_name(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Nested(inner) | ast::Expr::Cast { expr: inner, .. } => base_name(inner),
        ast::Expr::Identifier(name) => folded(name),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map_or_else(String::new, folded),
        other => other.to_string(),
    }
}

fn is_column(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) | ast::Expr::Cast { expr: inner, .. } => is_column(inner),
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => true,
        _ => false,
    }
}

/// Whether a part of the statement has the name as an expression.
fn names(part: &impl ast::Visit, name: &str) -> bool {
    struct Named<'a> {
        name: &'a str,
        found: bool,
    }
    impl Visitor for Named<'_> {
        type Break = Error;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            self.found |= matches!(expr, ast::Expr::Identifier(identifier) if folded(identifier) == self.name);
            ControlFlow::Continue(())
        }
    }
    let mut named = Named { name, found: false };
    walk(part, &mut named).expect("this visitor does not break");
    named.found
}
