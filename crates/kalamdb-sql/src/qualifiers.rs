//! Which table of FROM a qualifier means, as `n.t` in `n.t.c` and `n.t.*`.
//!
//! Problem: DataFusion compares of two names what both have, so that `n.t` is any `t` which FROM names without a namespace, by an
//! alias or by WITH, and the innermost query's rather than an outer one's. Chosen: where tables of a statement have one last name,
//! those without an alias get their whole name for one, and their columns with them; a path that no table of FROM begins is made
//! one into a column. Evidence: `TableReference::resolved_eq` of datafusion-common 55.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Ident, ObjectName, TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;
use kalamdb_core::{Error, ErrorCode, Result, TableName};

use crate::names::{CATALOG, folded, name_position, placed, position, suggestion, table_name};
use crate::returning::MARK;
use crate::statement::Named;
use crate::tree::walk_mut;

/// Settles the qualifiers of a query; `namespace` completes the names of tables.
///
/// # Errors
/// INVALID_STATEMENT for a name that several tables have, TABLE_NOT_FOUND for `n.t.*` of a table that FROM has not.
pub(crate) fn settle(statement: &mut ast::Statement, namespace: &str) -> Result<()> {
    settle_among(&mut None, statement, namespace, &|_| Vec::new()).map(|_| ())
}

/// The same of an UPDATE.
///
/// # Errors
/// As [`settle`].
pub(crate) fn of_update(update: &Named<ast::Update>, namespace: &str) -> Result<Named<ast::Update>> {
    let Named {
        mut with,
        write: mut settled,
    } = update.clone();
    let update = &update.write;
    let settling = settle_among(&mut with, &mut settled, namespace, &|names| {
        let from = match &update.from {
            Some(ast::UpdateTableFromKind::AfterSet(tables) | ast::UpdateTableFromKind::BeforeSet(tables)) => tables,
            None => &Vec::new(),
        };
        names.relations(std::iter::once(&update.table).chain(from))
    })?;
    if let Some(items) = &mut settled.returning {
        settling.settle_wildcards(items)?;
    }
    // Behind the table's own names stands the column of an assignment, too.
    if let (TableFactor::Table { alias: None, name, .. }, TableFactor::Table { alias: Some(_), .. }) =
        (&update.table.relation, &settled.table.relation)
    {
        let table = table_name(name, namespace)?;
        for assignment in &mut settled.assignments {
            if let ast::AssignmentTarget::ColumnName(target) = &mut assignment.target {
                let path: Vec<String> = parts(target).map(folded).collect();
                let is_own = match path.as_slice() {
                    [name, _] => *name == table.table,
                    [namespace, name, _] => *namespace == table.namespace && *name == table.table,
                    _ => false,
                };
                if is_own {
                    target.0.drain(..path.len() - 1);
                }
            }
        }
    }
    Ok(Named { with, write: settled })
}

/// The same of a DELETE.
///
/// # Errors
/// As [`settle`].
pub(crate) fn of_delete(delete: &Named<ast::Delete>, namespace: &str) -> Result<Named<ast::Delete>> {
    let Named {
        mut with,
        write: mut settled,
    } = delete.clone();
    let delete = &delete.write;
    let settling = settle_among(&mut with, &mut settled, namespace, &|names| {
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        names.relations(from.iter().chain(delete.using.iter().flatten()))
    })?;
    if let Some(items) = &mut settled.returning {
        settling.settle_wildcards(items)?;
    }
    Ok(Named { with, write: settled })
}

/// The same of what an INSERT into `table` gives back, and under which name that has the table's columns.
///
/// # Errors
/// As [`settle`].
pub(crate) fn of_returning(
    items: &[ast::SelectItem],
    table: &ObjectName,
    namespace: &str,
) -> Result<(Vec<ast::SelectItem>, Vec<Ident>)> {
    let mut settled = items.to_vec();
    let settling = settle_among(&mut None, &mut settled, namespace, &|names| vec![names.table(table)])?;
    settling.settle_wildcards(&mut settled)?;
    let relations = settling.scopes.iter().flat_map(|scope| &scope.relations);
    let alias = relations.filter_map(|relation| relation.alias.as_ref()).next();
    let qualifier = match alias {
        Some(alias) => vec![Ident::with_quote('"', alias)],
        None => parts(table).cloned().collect(),
    };
    Ok((settled, qualifier))
}

/// Settles `node` behind what `with` names and beside the tables that `around` gives.
fn settle_among<'a>(
    with: &mut Option<ast::With>,
    node: &mut impl VisitMut,
    namespace: &'a str,
    around: &dyn Fn(&Qualifiers<'_>) -> Vec<Relation>,
) -> Result<Qualifiers<'a>> {
    let mut gathering = Qualifiers {
        namespace,
        ambiguous: BTreeSet::new(),
        gathered: Some(BTreeMap::new()),
        scopes: Vec::new(),
    };
    gathering.settle_with(with)?;
    let relations = around(&gathering);
    gathering.open(relations);
    walk_mut(node, &mut gathering)?;
    let gathered = gathering.gathered.unwrap_or_default();
    let mut settling = Qualifiers {
        namespace,
        ambiguous: gathered
            .into_iter()
            .filter(|(_, tables)| tables.len() > 1)
            .map(|(name, _)| name)
            .collect(),
        gathered: None,
        scopes: Vec::new(),
    };
    settling.settle_with(with)?;
    let relations = around(&settling);
    settling.open(relations);
    walk_mut(node, &mut settling)?;
    Ok(settling)
}

/// Something in FROM.
struct Relation {
    /// What stands before its columns, if that is one word.
    name: String,
    /// What it is, if it is a table under its own name.
    table: Option<(TableName, ObjectName)>,
    /// Its whole name, if it is that from now on.
    alias: Option<String>,
}

impl Relation {
    fn other(name: &Ident) -> Self {
        Relation {
            name: folded(name),
            table: None,
            alias: None,
        }
    }

    fn is(&self, namespace: &str, table: &str) -> bool {
        self.table
            .as_ref()
            .is_some_and(|(name, _)| name.namespace == namespace && name.table == table)
    }

    /// Whether FROM has it by one word.
    fn is_by_one_word(&self) -> bool {
        self.table.as_ref().is_none_or(|(_, written)| written.0.len() == 1)
    }

    /// As FROM has it.
    fn shown(&self) -> String {
        self.table
            .as_ref()
            .map_or_else(|| self.name.clone(), |(name, _)| name.to_string())
    }
}

/// A query, or a SELECT of one, or what is around all of them.
#[derive(Default)]
struct Scope {
    /// Names that its WITH gives.
    ctes: Vec<String>,
    is_recursive: bool,
    /// So many of these queries are behind; they come first.
    ctes_seen: usize,
    /// Whether it is the query of one.
    is_cte: bool,
    relations: Vec<Relation>,
}

impl Scope {
    fn is_in_with(&self) -> bool {
        self.ctes_seen < self.ctes.len()
    }

    /// What a FROM within can name.
    fn visible_ctes(&self) -> &[String] {
        match self.is_recursive {
            true => &self.ctes,
            false => &self.ctes[..self.ctes_seen],
        }
    }
}

struct Qualifiers<'a> {
    namespace: &'a str,
    /// Last names of several tables.
    ambiguous: BTreeSet<String>,
    /// On the first walk: the tables of each name, `None` being what is no table.
    gathered: Option<BTreeMap<String, BTreeSet<Option<TableName>>>>,
    /// The innermost last.
    scopes: Vec<Scope>,
}

impl Qualifiers<'_> {
    /// What stands behind WITH, and then the names that it gives.
    fn settle_with(&mut self, with: &mut Option<ast::With>) -> Result<()> {
        let Some(with) = with else { return Ok(()) };
        let names = with.cte_tables.iter().map(|cte| folded(&cte.alias.name));
        self.scopes.push(Scope {
            ctes: names.collect(),
            is_recursive: with.recursive,
            ..Scope::default()
        });
        walk_mut(with, self)
    }

    fn open(&mut self, relations: Vec<Relation>) {
        if let Some(gathered) = &mut self.gathered {
            for relation in &relations {
                let table = relation.table.as_ref().map(|(name, _)| name.clone());
                gathered.entry(relation.name.clone()).or_default().insert(table);
            }
        }
        self.scopes.push(Scope {
            relations,
            ..Scope::default()
        });
    }

    fn is_cte(&self, name: &ObjectName) -> bool {
        let [part] = name.0.as_slice() else { return false };
        let Some(name) = part.as_ident().map(folded) else {
            return false;
        };
        self.scopes.iter().any(|scope| scope.visible_ctes().contains(&name))
    }

    fn relations<'t>(&self, tables: impl IntoIterator<Item = &'t ast::TableWithJoins>) -> Vec<Relation> {
        let mut found = Vec::new();
        for table in tables {
            self.add(table, &mut found);
        }
        found
    }

    fn add(&self, table: &ast::TableWithJoins, found: &mut Vec<Relation>) {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
            match factor {
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Derived { alias: Some(alias), .. }
                | TableFactor::TableFunction { alias: Some(alias), .. }
                | TableFactor::Function { alias: Some(alias), .. }
                | TableFactor::UNNEST { alias: Some(alias), .. } => found.push(Relation::other(&alias.name)),
                TableFactor::Table {
                    name, args: Some(_), ..
                } => found.extend(parts(name).next_back().map(Relation::other)),
                TableFactor::Table { name, .. } => found.push(self.table(name)),
                TableFactor::NestedJoin {
                    table_with_joins,
                    alias,
                } => {
                    found.extend(alias.as_ref().map(|alias| Relation::other(&alias.name)));
                    self.add(table_with_joins, found);
                }
                _ => {}
            }
        }
    }

    /// What a FROM has without an alias.
    fn table(&self, name: &ObjectName) -> Relation {
        let full = table_name(name, self.namespace).ok().filter(|_| !self.is_cte(name)); // Planning reports a bad name.
        match full {
            Some(full) => Relation {
                name: full.table.clone(),
                alias: self.ambiguous.contains(&full.table).then(|| full.to_string()),
                table: Some((full, name.clone())),
            },
            None => Relation {
                name: parts(name).next_back().map(folded).unwrap_or_default(),
                table: None,
                alias: None,
            },
        }
    }

    /// The relations that may be meant, those of the innermost query first.
    fn reachable(&self) -> impl Iterator<Item = &[Relation]> {
        let within = self.scopes.iter().rev().filter(|scope| !scope.is_in_with());
        within.map(|scope| scope.relations.as_slice())
    }

    /// The relation that the beginning of a path names, and by how many parts. `all` are the parts of which a column follows.
    fn meant(&self, written: &[Ident], path: &[String]) -> Result<Option<(&Relation, usize)>> {
        for relations in self.reachable() {
            if let Some(found) = meant_among(relations, written, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What a path becomes, if it does not stay as it is.
    fn settled(&self, written: &[Ident]) -> Result<Option<Expr>> {
        let path: Vec<String> = written.iter().map(folded).collect();
        // The last part is no table's.
        let (table, rest) = match self.meant(written, &path[..path.len() - 1])? {
            Some((relation, taken)) => {
                let table = match &relation.alias {
                    Some(alias) => vec![quoted(alias, written[0].span)],
                    None => written[..taken].to_vec(),
                };
                (table, &written[taken..])
            }
            None => (Vec::new(), written),
        };
        let names_a_table = |part: &Ident| {
            let part = folded(part);
            let mut relations = self.reachable().flatten();
            relations.any(|relation| relation.alias.is_none() && relation.name == part)
        };
        // Before what is not the last part DataFusion looks for a table of that name, of three parts at most.
        let inner = rest.split_last().map_or(&[] as &[Ident], |(_, inner)| inner);
        let tables = table.len().max(1)..3;
        let is_mistakable = (table.len()..)
            .zip(inner)
            .any(|(index, part)| tables.contains(&index) && names_a_table(part));
        let changed = table.len() + rest.len() != written.len() || table.first() != written.first();
        let mut path = table;
        Ok(match rest.split_first() {
            Some((column, fields)) if is_mistakable => {
                path.push(column.clone());
                Some(Expr::CompoundFieldAccess {
                    root: Box::new(match path.as_slice() {
                        [column] => Expr::Identifier(column.clone()),
                        _ => Expr::CompoundIdentifier(path),
                    }),
                    access_chain: fields.iter().map(field).collect(),
                })
            }
            _ if changed => {
                path.extend_from_slice(rest);
                Some(Expr::CompoundIdentifier(path))
            }
            _ => None,
        })
    }

    fn settle_wildcards(&self, items: &mut [ast::SelectItem]) -> Result<()> {
        use ast::SelectItemQualifiedWildcardKind::ObjectName;
        for item in items {
            if let ast::SelectItem::QualifiedWildcard(ObjectName(name), _) = item {
                self.settle_wildcard(name)?;
            }
        }
        Ok(())
    }

    /// Gives a wildcard the name by which DataFusion knows its table.
    fn settle_wildcard(&self, name: &mut ObjectName) -> Result<()> {
        let Some(scope) = self.scopes.last() else { return Ok(()) };
        let written: Vec<Ident> = parts(name).cloned().collect();
        let path: Vec<String> = written.iter().map(folded).collect();
        match meant_among(&scope.relations, &written, &path)? {
            Some((relation, taken)) if taken == path.len() => {
                if let Some(alias) = &relation.alias {
                    *name = ObjectName::from(vec![quoted(alias, written[0].span)]);
                } else if let Some((_, table)) = &relation.table {
                    *name = table.clone();
                }
                Ok(())
            }
            // The planner says of a single word that it is none of FROM's. Those of RETURNING are settled with its statement.
            Some(_) | None if path.len() < 2 || scope.relations.iter().any(|relation| relation.name == MARK) => Ok(()),
            Some(_) | None => {
                let shown: Vec<String> = scope.relations.iter().map(Relation::shown).collect();
                let hint = suggestion(&path.join("."), shown.iter().map(String::as_str));
                let error = Error::new(ErrorCode::TableNotFound, format!("FROM has no table {name}{hint}"));
                Err(placed(error, name_position(name)))
            }
        }
    }
}

/// The one of `relations` that the beginning of a path names, and by how many parts.
fn meant_among<'r>(
    relations: &'r [Relation],
    written: &[Ident],
    path: &[String],
) -> Result<Option<(&'r Relation, usize)>> {
    let (whole, taken) = match path {
        [catalog, namespace, table, ..] if catalog == CATALOG => (Some((namespace, table)), 3),
        [namespace, table, ..] => (Some((namespace, table)), 2),
        _ => (None, 0),
    };
    if let Some((namespace, table)) = whole
        && let Some(relation) = relations.iter().find(|relation| relation.is(namespace, table))
    {
        return Ok(Some((relation, taken)));
    }
    let Some(name) = path.first() else { return Ok(None) };
    let named: Vec<&Relation> = relations.iter().filter(|relation| relation.name == *name).collect();
    let by_one_word = named.iter().find(|relation| relation.is_by_one_word());
    match (by_one_word, named.as_slice()) {
        (Some(relation), _) => Ok(Some((relation, 1))),
        (None, []) => Ok(None),
        (None, [first, others @ ..]) => match others.iter().find(|other| other.shown() != first.shown()) {
            None => Ok(Some((first, 1))),
            Some(other) => {
                let (first, other) = (first.shown(), other.shown());
                let message =
                    format!("{name} is more than one table of FROM: {first} and {other}; write the whole name");
                let error = Error::new(ErrorCode::InvalidStatement, message);
                Err(placed(error, written.first().and_then(position)))
            }
        },
    }
}

fn parts(name: &ObjectName) -> impl DoubleEndedIterator<Item = &Ident> {
    name.0.iter().filter_map(ast::ObjectNamePart::as_ident)
}

fn quoted(name: &str, span: Span) -> Ident {
    Ident::with_quote_and_span('"', span, name)
}

fn field(name: &Ident) -> ast::AccessExpr {
    let index = Expr::Value(ast::Value::SingleQuotedString(folded(name)).with_span(name.span));
    ast::AccessExpr::Subscript(ast::Subscript::Index { index })
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Qualifiers<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        let is_cte = self.scopes.last().is_some_and(Scope::is_in_with);
        let (ctes, is_recursive) = match &query.with {
            Some(with) => {
                let names = with.cte_tables.iter().map(|cte| folded(&cte.alias.name));
                (names.collect::<Vec<String>>(), with.recursive)
            }
            None => (Vec::new(), false),
        };
        self.scopes.push(Scope {
            ctes_seen: ctes.len(),
            ctes,
            is_recursive,
            is_cte,
            relations: Vec::new(),
        });
        // ORDER BY reads what the one SELECT reads.
        let relations = match query.body.as_ref() {
            ast::SetExpr::Select(select) => self.relations(&select.from),
            _ => Vec::new(),
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.relations = relations;
            scope.ctes_seen = 0;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Error> {
        let left = self.scopes.pop();
        if left.is_some_and(|scope| scope.is_cte)
            && let Some(around) = self.scopes.last_mut()
        {
            around.ctes_seen += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        let relations = self.relations(&select.from);
        self.open(relations);
        match self.gathered {
            Some(_) => ControlFlow::Continue(()),
            None => flow(self.settle_wildcards(&mut select.projection)),
        }
    }

    fn post_visit_select(&mut self, _select: &mut ast::Select) -> ControlFlow<Error> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if let TableFactor::Table {
            name,
            alias: alias @ None,
            args: None,
            ..
        } = factor
            && let Some(whole) = self.table(name).alias
        {
            *alias = Some(ast::TableAlias {
                explicit: true,
                name: Ident::with_quote('"', whole),
                columns: Vec::new(),
                at: None,
            });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.gathered.is_some() {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::CompoundIdentifier(written) if written.len() > 1 => match self.settled(written) {
                Ok(Some(settled)) => *expr = settled,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::Function(ast::Function {
                args: ast::FunctionArguments::List(list),
                ..
            }) => {
                for argument in &mut list.args {
                    if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::QualifiedWildcard(table)) = argument
                        && let Err(error) = self.settle_wildcard(table)
                    {
                        return ControlFlow::Break(error);
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
