//! `_seq` and `_updated`: there by name, absent from `*`, `t.*` and NATURAL JOIN.
//!
//! A SELECT that mentions one of them reads its tables with both columns; any other SELECT of the same statement reads them
//! without. In the former, wildcards are written out so that they leave the two out, and NATURAL JOIN becomes USING. A table
//! factor is marked by a hint, which no statement that parses has of its own; [`MarkedTables`] plans it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::{Diagnostic, Span, TableReference};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{self, Spanned, Visit, Visitor, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result, Table};

use crate::names::{folded, name_position, placed, table_name};
use crate::provider::{Exposure, OWNER, SEQ, UPDATED, has_owners};
use crate::session::Reach;
use crate::tree::{walk, walk_mut};

/// Stand-in catalogs under which [`MarkedTables`] asks for a table with more columns. No SQL text can name them: see
/// [`check_catalogs`].
const SYSTEM_CATALOG: &str = "\u{1}system columns";
const MUTATION_CATALOG: &str = "\u{1}mutation";

/// What a table reference from the planner asks for.
pub(crate) fn exposure(reference: &TableReference) -> Exposure {
    match reference.catalog() {
        Some(SYSTEM_CATALOG) => Exposure::SystemColumns,
        Some(MUTATION_CATALOG) => Exposure::Mutation,
        Some(_) | None => Exposure::Plain,
    }
}

/// Refuses names in other catalogs than ours, the marks of this file among them.
///
/// # Errors
/// TABLE_NOT_FOUND, INVALID_STATEMENT.
pub(crate) fn check_catalogs(statement: &impl Visit) -> Result<()> {
    struct Relations;
    impl Visitor for Relations {
        type Break = Error;
        fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<Error> {
            if name.0.len() < 3 {
                return ControlFlow::Continue(());
            }
            match table_name(name, "") {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(placed(error, name_position(name))),
            }
        }
    }
    walk(statement, &mut Relations)
}

/// Marks a table factor as read for a write.
pub(crate) fn mark_for_mutation(factor: &mut ast::TableFactor) {
    mark(factor, MUTATION_CATALOG);
}

/// Marks the tables of every SELECT that mentions a system column, and writes its wildcards out. `find` gives the stored table
/// of a name, if it has system columns; `reach` is the statement's.
///
/// # Errors
/// UNSUPPORTED where a wildcard or NATURAL JOIN cannot be written out.
pub(crate) fn expose<'a>(
    statement: &mut ast::Statement,
    reach: Reach,
    find: &dyn Fn(&ast::ObjectName) -> Option<&'a Table>,
) -> Result<()> {
    if !mentions_any(statement) {
        return Ok(());
    }
    let mut names = CteNames(HashSet::new());
    walk_mut(statement, &mut names)?;
    let mut selects = Selects {
        ctes: names.0,
        reach,
        find,
    };
    walk_mut(statement, &mut selects)
}

/// Plans marked tables under the name that the statement gives them.
#[derive(Debug)]
pub(crate) struct MarkedTables;

impl RelationPlanner for MarkedTables {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (name, alias, catalog) = match relation {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                ..
            } if marked(&with_hints).is_some() => (name, alias, marked(&with_hints).unwrap_or(SYSTEM_CATALOG)),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let span = Span::try_from_sqlparser_span(name.span());
        let reference = context.object_name_to_table_reference(name)?;
        let asked = TableReference::full(catalog, reference.schema().unwrap_or_default(), reference.table());
        let source = context.context_provider().get_table_source(asked).map_err(|error| {
            let diagnostic = Diagnostic::new_error(format!("table '{reference}' not found"), span);
            DataFusionError::Diagnostic(Box::new(diagnostic), Box::new(error))
        })?;
        let plan = LogicalPlanBuilder::scan(reference, source, None)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn mark(factor: &mut ast::TableFactor, catalog: &str) {
    if let ast::TableFactor::Table { with_hints, .. } = factor
        && with_hints.is_empty()
    {
        with_hints.push(ast::Expr::Identifier(ast::Ident::new(catalog)));
    }
}

fn marked(hints: &[ast::Expr]) -> Option<&'static str> {
    match hints {
        [ast::Expr::Identifier(hint)] if hint.value == SYSTEM_CATALOG => Some(SYSTEM_CATALOG),
        [ast::Expr::Identifier(hint)] if hint.value == MUTATION_CATALOG => Some(MUTATION_CATALOG),
        _ => None,
    }
}

/// How an expression names a system column: bare, or with the parts before it.
type Mention = Vec<String>;

fn is_system_column(identifier: &ast::Ident) -> bool {
    let name = folded(identifier);
    name == SEQ || name == UPDATED
}

struct Mentions(Vec<Mention>);

impl Visitor for Mentions {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Self::Break> {
        match expr {
            ast::Expr::Identifier(identifier) if is_system_column(identifier) => self.0.push(Vec::new()),
            ast::Expr::CompoundIdentifier(parts) if parts.last().is_some_and(is_system_column) => {
                self.0.push(parts[..parts.len() - 1].iter().map(folded).collect());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn add_mentions(mentions: &mut Mentions, node: &impl Visit) {
    walk(node, mentions).expect("this visitor does not break");
}

fn mentions_any(statement: &ast::Statement) -> bool {
    let mut mentions = Mentions(Vec::new());
    add_mentions(&mut mentions, statement);
    !mentions.0.is_empty()
}

/// Names of CTEs anywhere in the statement: a bare name among them is taken for the CTE.
struct CteNames(HashSet<String>);

impl VisitorMut for CteNames {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Self::Break> {
        if let Some(with) = &query.with {
            self.0.extend(with.cte_tables.iter().map(|cte| folded(&cte.alias.name)));
        }
        ControlFlow::Continue(())
    }
}

struct Selects<'f, 'a> {
    ctes: HashSet<String>,
    reach: Reach,
    find: &'f dyn Fn(&ast::ObjectName) -> Option<&'a Table>,
}

impl VisitorMut for Selects<'_, '_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        let mut order = Mentions(Vec::new());
        if let Some(order_by) = &query.order_by {
            add_mentions(&mut order, order_by);
        }
        let rewritten = match query.body.as_mut() {
            ast::SetExpr::Select(select) => self.rewrite(select, order),
            body => self.rewrite_operands(body),
        };
        match rewritten {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl<'a> Selects<'_, 'a> {
    /// The SELECTs of a UNION and the like: ORDER BY reaches only their output.
    fn rewrite_operands(&self, body: &mut ast::SetExpr) -> Result<()> {
        match body {
            ast::SetExpr::Select(select) => self.rewrite(select, Mentions(Vec::new())),
            ast::SetExpr::SetOperation { left, right, .. } => {
                self.rewrite_operands(left)?;
                self.rewrite_operands(right)
            }
            _ => Ok(()),
        }
    }

    fn rewrite(&self, select: &mut ast::Select, mut mentions: Mentions) -> Result<()> {
        add_mentions(&mut mentions, &select.projection);
        add_mentions(&mut mentions, &select.selection);
        add_mentions(&mut mentions, &select.group_by);
        add_mentions(&mut mentions, &select.having);
        add_mentions(&mut mentions, &select.qualify);
        add_mentions(&mut mentions, &select.distinct);
        add_mentions(&mut mentions, &select.named_window);
        for table in &select.from {
            own_mentions(&mut mentions, table);
        }
        if mentions.0.is_empty() {
            return Ok(());
        }
        let mut exposed = false;
        for table in &mut select.from {
            exposed |= self.mark_mentioned(table, &mentions.0);
        }
        if !exposed {
            return Ok(());
        }
        for table in &mut select.from {
            self.natural_to_using(table)?;
        }
        let from = &select.from;
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                ast::SelectItem::Wildcard(options) => {
                    for table in from {
                        self.write_out(table, &options, &mut projection)?;
                    }
                }
                ast::SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    mut options,
                ) => {
                    let parts: Vec<String> = name
                        .0
                        .iter()
                        .filter_map(ast::ObjectNamePart::as_ident)
                        .map(folded)
                        .collect();
                    let factors = from.iter().flat_map(factors);
                    if factors
                        .into_iter()
                        .any(|factor| is_marked(factor) && answers_to(factor, &parts))
                    {
                        exclude(&mut options, [SEQ, UPDATED].map(str::to_owned));
                    }
                    projection.push(ast::SelectItem::QualifiedWildcard(
                        ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    ));
                }
                other => projection.push(other),
            }
        }
        select.projection = projection;
        Ok(())
    }

    /// Marks the tables that a mention means; an unqualified one may mean any (and is then found ambiguous by the planner).
    fn mark_mentioned(&self, table: &mut ast::TableWithJoins, mentions: &[Mention]) -> bool {
        let mut exposed = self.mark_factor(&mut table.relation, mentions);
        for join in &mut table.joins {
            exposed |= self.mark_factor(&mut join.relation, mentions);
        }
        exposed
    }

    fn mark_factor(&self, factor: &mut ast::TableFactor, mentions: &[Mention]) -> bool {
        if let ast::TableFactor::NestedJoin { table_with_joins, .. } = factor {
            return self.mark_mentioned(table_with_joins, mentions);
        }
        if is_marked(factor) {
            return true;
        }
        if self.columns_of(factor).is_none()
            || !mentions
                .iter()
                .any(|parts| parts.is_empty() || answers_to(factor, parts))
        {
            return false;
        }
        if let ast::TableFactor::Table { alias: Some(alias), .. } = factor
            && !alias.columns.is_empty()
        {
            alias
                .columns
                .extend([SEQ, UPDATED].map(ast::TableAliasColumnDef::from_name));
        }
        mark(factor, SYSTEM_CATALOG);
        true
    }

    /// The columns of a factor that is a stored table with system columns, and not a CTE.
    fn columns_of(&self, factor: &ast::TableFactor) -> Option<&'a Table> {
        let ast::TableFactor::Table { name, args: None, .. } = factor else {
            return None;
        };
        if let [part] = name.0.as_slice()
            && part.as_ident().is_some_and(|part| self.ctes.contains(&folded(part)))
        {
            return None;
        }
        (self.find)(name)
    }

    fn natural_to_using(&self, table: &mut ast::TableWithJoins) -> Result<()> {
        if let ast::TableFactor::NestedJoin { table_with_joins, .. } = &mut table.relation {
            self.natural_to_using(table_with_joins)?;
        }
        for index in 0..table.joins.len() {
            let (before, rest) = table.joins.split_at_mut(index);
            let join = &mut rest[0];
            let Some(constraint) = constraint_mut(&mut join.join_operator) else {
                continue;
            };
            if !matches!(constraint, ast::JoinConstraint::Natural) {
                continue;
            }
            let left = std::iter::once(&table.relation).chain(before.iter().map(|join| &join.relation));
            let left: Option<Vec<&Table>> = left.map(|factor| self.columns_of(factor)).collect();
            let (Some(left), Some(right)) = (left, self.columns_of(&join.relation)) else {
                return Err(Error::new(
                    ErrorCode::Unsupported,
                    format!(
                        "{SEQ} and {UPDATED} beside a NATURAL JOIN of subqueries are not supported; write JOIN … USING (columns)"
                    ),
                ));
            };
            let is_on_left = |name: &str| left.iter().any(|table| table.schema.index_of(name).is_some());
            let common = right
                .schema
                .arrow
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .filter(|name| is_on_left(name));
            // In a query of all users both sides have it, and no table has one of its own.
            let says_owner = |table: &Table| self.reach == Reach::Everyone && has_owners(table);
            let owner = says_owner(right) && left.iter().any(|table| says_owner(table));
            let common = common.chain(owner.then_some(OWNER));
            let common: Vec<ast::ObjectName> = common.map(|name| quoted(name).into()).collect();
            *constraint = if common.is_empty() {
                ast::JoinConstraint::None
            } else {
                ast::JoinConstraint::Using(common)
            };
            if matches!(constraint, ast::JoinConstraint::None) {
                join.join_operator = ast::JoinOperator::CrossJoin(ast::JoinConstraint::None);
            }
        }
        Ok(())
    }

    /// `*` as one wildcard per table; columns that USING made one are left out on the right.
    fn write_out(
        &self,
        table: &ast::TableWithJoins,
        options: &ast::WildcardAdditionalOptions,
        out: &mut Vec<ast::SelectItem>,
    ) -> Result<()> {
        let plain = ast::WildcardAdditionalOptions {
            wildcard_token: options.wildcard_token.clone(),
            ..ast::WildcardAdditionalOptions::default()
        };
        if *options != plain {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!(
                    "a * with EXCLUDE, REPLACE or the like beside {SEQ} or {UPDATED} is not supported; write table.* or name the columns"
                ),
            ));
        }
        self.write_out_factor(&table.relation, Vec::new(), options, out)?;
        for join in &table.joins {
            let joined: Vec<String> = match constraint(&join.join_operator) {
                Some(ast::JoinConstraint::Using(names)) => names
                    .iter()
                    .filter_map(|name| name.0.last())
                    .filter_map(ast::ObjectNamePart::as_ident)
                    .map(folded)
                    .collect(),
                Some(_) | None => Vec::new(),
            };
            let shows_right = !matches!(
                join.join_operator,
                ast::JoinOperator::Semi(_)
                    | ast::JoinOperator::LeftSemi(_)
                    | ast::JoinOperator::Anti(_)
                    | ast::JoinOperator::LeftAnti(_)
            );
            if shows_right {
                self.write_out_factor(&join.relation, joined, options, out)?;
            }
        }
        Ok(())
    }

    fn write_out_factor(
        &self,
        factor: &ast::TableFactor,
        joined: Vec<String>,
        options: &ast::WildcardAdditionalOptions,
        out: &mut Vec<ast::SelectItem>,
    ) -> Result<()> {
        if let ast::TableFactor::NestedJoin {
            table_with_joins,
            alias: None,
        } = factor
        {
            return self.write_out(table_with_joins, options, out);
        }
        let Some(name) = qualifier(factor) else {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!(
                    "a * over a subquery without an alias beside {SEQ} or {UPDATED} is not supported; give the subquery an alias"
                ),
            ));
        };
        let mut options = options.clone();
        let hidden = if is_marked(factor) {
            vec![SEQ.to_owned(), UPDATED.to_owned()]
        } else {
            Vec::new()
        };
        let excluded: Vec<String> = hidden.into_iter().chain(joined).collect();
        if !excluded.is_empty() {
            exclude(&mut options, excluded);
        }
        out.push(ast::SelectItem::QualifiedWildcard(
            ast::SelectItemQualifiedWildcardKind::ObjectName(name),
            options,
        ));
        Ok(())
    }
}

/// Mentions in a FROM clause that belong to this SELECT: in ON, and in LATERAL subqueries.
fn own_mentions(mentions: &mut Mentions, table: &ast::TableWithJoins) {
    own_mentions_of(mentions, &table.relation);
    for join in &table.joins {
        if let Some(ast::JoinConstraint::On(expr)) = constraint(&join.join_operator) {
            add_mentions(mentions, expr);
        }
        own_mentions_of(mentions, &join.relation);
    }
}

fn own_mentions_of(mentions: &mut Mentions, factor: &ast::TableFactor) {
    match factor {
        ast::TableFactor::NestedJoin { table_with_joins, .. } => own_mentions(mentions, table_with_joins),
        ast::TableFactor::Derived {
            lateral: true,
            subquery,
            ..
        } => add_mentions(mentions, subquery),
        _ => {}
    }
}

fn factors(table: &ast::TableWithJoins) -> Vec<&ast::TableFactor> {
    let mut all = Vec::new();
    for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
        match factor {
            ast::TableFactor::NestedJoin { table_with_joins, .. } => all.extend(factors(table_with_joins)),
            other => all.push(other),
        }
    }
    all
}

fn is_marked(factor: &ast::TableFactor) -> bool {
    matches!(factor, ast::TableFactor::Table { with_hints, .. } if marked(with_hints).is_some())
}

/// Whether `parts` qualify columns of this factor: its alias, or else the end of its name.
fn answers_to(factor: &ast::TableFactor, parts: &[String]) -> bool {
    let Some(name) = qualifier(factor) else { return false };
    let name: Vec<String> = name
        .0
        .iter()
        .filter_map(ast::ObjectNamePart::as_ident)
        .map(folded)
        .collect();
    let compared = name.len().min(parts.len());
    compared > 0 && name[name.len() - compared..] == parts[parts.len() - compared..]
}

/// What qualifies the columns of a factor.
fn qualifier(factor: &ast::TableFactor) -> Option<ast::ObjectName> {
    let (name, alias) = match factor {
        ast::TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => (Some(name.clone()), alias),
        ast::TableFactor::Table { alias, .. }
        | ast::TableFactor::Derived { alias, .. }
        | ast::TableFactor::UNNEST { alias, .. }
        | ast::TableFactor::Function { alias, .. }
        | ast::TableFactor::NestedJoin { alias, .. } => (None, alias),
        _ => return None,
    };
    alias.as_ref().map(|alias| alias.name.clone().into()).or(name)
}

/// The constraint in any of the joins that can have one.
macro_rules! constraint_of {
    ($operator:expr) => {
        match $operator {
            ast::JoinOperator::Join(constraint)
            | ast::JoinOperator::Inner(constraint)
            | ast::JoinOperator::Left(constraint)
            | ast::JoinOperator::LeftOuter(constraint)
            | ast::JoinOperator::Right(constraint)
            | ast::JoinOperator::RightOuter(constraint)
            | ast::JoinOperator::FullOuter(constraint)
            | ast::JoinOperator::CrossJoin(constraint)
            | ast::JoinOperator::Semi(constraint)
            | ast::JoinOperator::LeftSemi(constraint)
            | ast::JoinOperator::RightSemi(constraint)
            | ast::JoinOperator::Anti(constraint)
            | ast::JoinOperator::LeftAnti(constraint)
            | ast::JoinOperator::RightAnti(constraint)
            | ast::JoinOperator::StraightJoin(constraint) => Some(constraint),
            _ => None,
        }
    };
}

fn constraint(operator: &ast::JoinOperator) -> Option<&ast::JoinConstraint> {
    constraint_of!(operator)
}

/// What a join is on, if it can have such.
pub(crate) fn constraint_mut(operator: &mut ast::JoinOperator) -> Option<&mut ast::JoinConstraint> {
    constraint_of!(operator)
}

fn quoted(name: &str) -> ast::Ident {
    ast::Ident::with_quote('"', name)
}

fn exclude(options: &mut ast::WildcardAdditionalOptions, columns: impl IntoIterator<Item = String>) {
    let mut names: Vec<ast::ObjectName> = match options.opt_exclude.take() {
        None => Vec::new(),
        Some(ast::ExcludeSelectItem::Single(name)) => vec![name],
        Some(ast::ExcludeSelectItem::Multiple(names)) => names,
    };
    names.extend(columns.into_iter().map(|name| ast::ObjectName::from(quoted(&name))));
    options.opt_exclude = Some(ast::ExcludeSelectItem::Multiple(names));
}
