//! Where a statement writes a name, for errors of planning that do not say it.

use std::ops::ControlFlow;

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, Spanned, VisitMut, VisitorMut};
use kalamdb_core::{Error, Position};

use crate::names::{folded, name_position, position, position_of};
use crate::ordinals::ordinal;
use crate::system_columns::constraint_mut;
use crate::tree::walk_mut;

/// One column is looked for among so many of its name; each costs a plan.
const MOST_MENTIONS: usize = 64;

/// A text that planning refused.
pub(super) trait Text {
    /// Where the column is read that is not there.
    fn column(&self, column: &Column) -> Option<Position>;

    /// Where `table` stands before a wildcard, if at one place only.
    fn wildcard(&self, table: &str) -> Option<Position>;

    /// Where a STRUCT's field is read, if at one place only.
    fn field(&self, field: &str) -> Option<Position>;

    /// Where a table function is called first.
    fn table_function(&self, name: &str) -> Option<Position>;

    /// Where a function is called, if at one place only.
    fn function(&self, name: &str) -> Option<Position>;

    /// Where a window is named first, as the text writes it.
    fn window(&self, name: &str) -> Option<Position>;

    /// Where the condition stands that a WHERE, HAVING or ON has, if there is one only.
    fn condition(&self) -> Option<Position>;

    /// Where ORDER BY first has that number in the place of a column.
    fn sort_ordinal(&self, number: &str) -> Option<Position>;

    /// Where an operator of `->` stands that has this name on its left, as that of a lambda's parameter.
    fn arrow(&self, parameter: &str) -> Option<Position>;

    /// The names that its FROMs give tables.
    fn tables(&self) -> Vec<String>;
}

/// A statement or a part of one, and what planning says of others.
pub(super) struct Planned<'a, N, F> {
    pub(super) node: &'a N,
    pub(super) plan: F,
}

impl<N: VisitMut + Clone, F: Fn(N) -> Option<DataFusionError>> Text for Planned<'_, N, F> {
    fn column(&self, column: &Column) -> Option<Position> {
        let table = column.relation.as_ref().map(|relation| relation.table());
        let name = &column.name;
        let mentions = |kept| read(self.node, Wanted::Column { name, table }, kept);
        let (_, found) = mentions(None);
        if let [place] = found.as_slice() {
            return *place;
        }
        // What is there in one SELECT may not be in another: a mention is wrong if it is so alone.
        let is_wrong = |kept: &usize| {
            let (alone, _) = mentions(Some(*kept));
            (self.plan)(alone).is_some_and(|error| {
                missing(&error).is_some_and(|other| other.name == column.name && other.relation == column.relation)
            })
        };
        let wrong = (0..found.len().min(MOST_MENTIONS)).find(is_wrong)?;
        found[wrong]
    }

    fn wildcard(&self, table: &str) -> Option<Position> {
        the_only(read(self.node, Wanted::Wildcard { table }, None).1)
    }

    fn field(&self, field: &str) -> Option<Position> {
        the_only(read(self.node, Wanted::Field(field), None).1)
    }

    fn table_function(&self, name: &str) -> Option<Position> {
        the_first(read(self.node, Wanted::TableFunction(name), None).1)
    }

    fn function(&self, name: &str) -> Option<Position> {
        the_only(read(self.node, Wanted::Function(name), None).1)
    }

    fn window(&self, name: &str) -> Option<Position> {
        the_first(read(self.node, Wanted::Window(name), None).1)
    }

    fn condition(&self) -> Option<Position> {
        struct Conditions(Vec<Option<Position>>);
        impl VisitorMut for Conditions {
            type Break = Error;
            fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
                let joins = select.from.iter_mut().flat_map(|from| &mut from.joins);
                let on = joins.filter_map(|join| match constraint_mut(&mut join.join_operator) {
                    Some(ast::JoinConstraint::On(condition)) => Some(&*condition),
                    _ => None,
                });
                let conditions = select.selection.iter().chain(&select.having).chain(on);
                self.0.extend(conditions.map(|condition| position_of(condition.span())));
                ControlFlow::Continue(())
            }
        }
        let mut conditions = Conditions(Vec::new());
        walk_mut(&mut self.node.clone(), &mut conditions).expect("this visitor does not break");
        the_only(conditions.0)
    }

    fn sort_ordinal(&self, number: &str) -> Option<Position> {
        struct Ordinals<'a>(&'a str, Option<Position>);
        impl VisitorMut for Ordinals<'_> {
            type Break = Error;
            fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
                if let Some(ast::OrderBy {
                    kind: ast::OrderByKind::Expressions(keys),
                    ..
                }) = &query.order_by
                {
                    let found = keys.iter().filter_map(|key| ordinal(&key.expr));
                    let mut places = found.filter(|(number, _)| *number == self.0);
                    self.1 = self.1.or_else(|| position_of(places.next()?.1));
                }
                ControlFlow::Continue(())
            }
        }
        let mut ordinals = Ordinals(number, None);
        walk_mut(&mut self.node.clone(), &mut ordinals).expect("this visitor does not break");
        ordinals.1
    }

    fn arrow(&self, parameter: &str) -> Option<Position> {
        struct Arrows<'a>(&'a str, Vec<Option<Position>>);
        impl Arrows<'_> {
            fn is_named(&self, expr: &Expr) -> bool {
                match expr {
                    Expr::Identifier(name) => folded(name) == self.0,
                    Expr::Tuple(names) => names.iter().any(|name| self.is_named(name)),
                    Expr::Nested(inner) => self.is_named(inner),
                    _ => false,
                }
            }

            /// How often a lambda names its parameter: before the arrow, and in what it makes of it.
            fn mentions(&self, expr: &Expr) -> usize {
                read(
                    expr,
                    Wanted::Column {
                        name: self.0,
                        table: None,
                    },
                    None,
                )
                .1
                .len()
            }

            /// Whether an expression is such a `->`, perhaps with operators that bind less after it.
            fn leads(&self, expr: &Expr) -> bool {
                match expr {
                    Expr::BinaryOp {
                        left,
                        op: BinaryOperator::Arrow,
                        ..
                    } if self.is_named(left) => true,
                    Expr::BinaryOp { left, .. } => self.leads(left),
                    _ => false,
                }
            }
        }
        impl VisitorMut for Arrows<'_> {
            type Break = Error;
            fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
                if let Expr::Function(ast::Function {
                    args: ast::FunctionArguments::List(list),
                    ..
                }) = expr
                {
                    for argument in &list.args {
                        if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument)) = argument
                            && self.leads(argument)
                            && self.mentions(argument) > 1
                        {
                            self.1.push(position_of(argument.span()));
                        }
                    }
                }
                ControlFlow::Continue(())
            }
        }
        let mut arrows = Arrows(parameter, Vec::new());
        walk_mut(&mut self.node.clone(), &mut arrows).expect("this visitor does not break");
        the_first(arrows.1)
    }

    fn tables(&self) -> Vec<String> {
        struct Tables(Vec<String>);
        impl VisitorMut for Tables {
            type Break = Error;
            fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
                let (ast::TableFactor::Table { alias, .. }
                | ast::TableFactor::Derived { alias, .. }
                | ast::TableFactor::TableFunction { alias, .. }
                | ast::TableFactor::UNNEST { alias, .. }
                | ast::TableFactor::NestedJoin { alias, .. }) = factor
                else {
                    return ControlFlow::Continue(());
                };
                let alias = alias.as_ref().map(|alias| folded(&alias.name));
                let own = match factor {
                    ast::TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).map(folded),
                    _ => None,
                };
                self.0.extend(alias.or(own));
                ControlFlow::Continue(())
            }
        }
        let mut tables = Tables(Vec::new());
        walk_mut(&mut self.node.clone(), &mut tables).expect("this visitor does not break");
        tables.0
    }
}

fn the_only(found: Vec<Option<Position>>) -> Option<Position> {
    match found.as_slice() {
        [place] => *place,
        _ => None,
    }
}

fn the_first(found: Vec<Option<Position>>) -> Option<Position> {
    found.into_iter().next().flatten()
}

/// The column that planning did not find.
fn missing(error: &DataFusionError) -> Option<&Column> {
    match error {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field),
            _ => None,
        },
        DataFusionError::Shared(inner) => missing(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => missing(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(missing),
        _ => None,
    }
}

/// The places at which `node` mentions what is wanted. If one of them is to be kept, all others are NULL in the copy, or left out
/// where only names may stand.
fn read<N: VisitMut + Clone>(node: &N, wanted: Wanted<'_>, kept: Option<usize>) -> (N, Vec<Option<Position>>) {
    let mut copy = node.clone();
    let mut mentions = Mentions {
        wanted,
        kept,
        found: Vec::new(),
    };
    walk_mut(&mut copy, &mut mentions).expect("this visitor does not break");
    (copy, mentions.found)
}

#[derive(Clone, Copy)]
enum Wanted<'a> {
    Column { name: &'a str, table: Option<&'a str> },
    Wildcard { table: &'a str },
    Field(&'a str),
    TableFunction(&'a str),
    Function(&'a str),
    Window(&'a str),
}

struct Mentions<'a> {
    wanted: Wanted<'a>,
    kept: Option<usize>,
    found: Vec<Option<Position>>,
}

impl Mentions<'_> {
    /// Notes a mention. Whether it stays.
    fn note(&mut self, place: Option<Position>) -> bool {
        let index = self.found.len();
        self.found.push(place);
        self.kept.is_none_or(|kept| kept == index)
    }

    /// A column's name where no table may stand before it: the planner puts one there.
    fn stays(&mut self, name: Option<&ast::Ident>) -> bool {
        match (self.wanted, name) {
            (Wanted::Column { name: wanted, .. }, Some(name)) if folded(name) == wanted => self.note(position(name)),
            _ => true,
        }
    }

    /// `column`, `table.column`, `column.field` and the like.
    fn is_meant(&self, path: &[ast::Ident]) -> bool {
        match (self.wanted, path) {
            (
                Wanted::Column {
                    name,
                    table: Some(table),
                },
                path,
            ) => path
                .windows(2)
                .any(|pair| folded(&pair[0]) == table && folded(&pair[1]) == name),
            (Wanted::Column { name, table: None }, [first, ..]) => folded(first) == name,
            (Wanted::Field(field), [_, fields @ ..]) => fields.iter().any(|name| folded(name) == field),
            _ => false,
        }
    }

    fn visit_wildcard(&mut self, table: &ast::ObjectName) {
        if let Wanted::Wildcard { table: wanted } = self.wanted
            && last(table).is_some_and(|last| folded(last) == wanted)
        {
            self.note(name_position(table));
        }
    }

    fn visit_window(&mut self, over: &ast::WindowType) {
        let name = match over {
            ast::WindowType::NamedWindow(name) => Some(name),
            ast::WindowType::WindowSpec(window) => window.window_name.as_ref(),
        };
        if let (Wanted::Window(wanted), Some(name)) = (self.wanted, name)
            && name.to_string() == wanted
        {
            self.note(position(name));
        }
    }

    fn visit_options(&mut self, options: &mut ast::WildcardAdditionalOptions) {
        if let Some(exclude) = options.opt_exclude.take() {
            let mut names = match exclude {
                ast::ExcludeSelectItem::Single(name) => vec![name],
                ast::ExcludeSelectItem::Multiple(names) => names,
            };
            names.retain(|name| self.stays(last(name)));
            options.opt_exclude = (!names.is_empty()).then_some(ast::ExcludeSelectItem::Multiple(names));
        }
        if let Some(except) = options.opt_except.take() {
            let names = std::iter::once(except.first_element).chain(except.additional_elements);
            let mut names = names.filter(|name| self.stays(Some(name)));
            options.opt_except = names.next().map(|first_element| ast::ExceptSelectItem {
                first_element,
                additional_elements: names.collect(),
            });
        }
    }
}

impl VisitorMut for Mentions<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        use ast::SelectItemQualifiedWildcardKind::ObjectName;
        for item in &mut select.projection {
            match item {
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    if let ObjectName(table) = kind {
                        self.visit_wildcard(table);
                    }
                    self.visit_options(options);
                }
                ast::SelectItem::Wildcard(options) => self.visit_options(options),
                _ => {}
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(constraint) = constraint_mut(&mut join.join_operator)
                && let ast::JoinConstraint::Using(names) = constraint
            {
                names.retain(|name| self.stays(last(name)));
                if names.is_empty() {
                    let always = ast::Value::Boolean(true).with_empty_span();
                    *constraint = ast::JoinConstraint::On(Expr::Value(always));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
        if let (
            Wanted::TableFunction(wanted),
            ast::TableFactor::Table {
                name, args: Some(_), ..
            }
            | ast::TableFactor::Function { name, .. },
        ) = (self.wanted, factor)
            && last(name).is_some_and(|last| folded(last).eq_ignore_ascii_case(wanted))
        {
            self.note(name_position(name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let stays = match expr {
            Expr::Identifier(name) if self.is_meant(std::slice::from_ref(name)) => self.note(position(name)),
            Expr::CompoundIdentifier(path) if self.is_meant(path) => self.note(path.first().and_then(position)),
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let Wanted::Field(field) = self.wanted
                    && access_chain.iter().any(|access| is_field(access, field))
                {
                    self.note(position_of(root.span()));
                }
                true
            }
            Expr::Function(ast::Function {
                name,
                args: ast::FunctionArguments::List(list),
                over,
                ..
            }) => {
                if let Wanted::Function(wanted) = self.wanted
                    && last(name).is_some_and(|last| folded(last) == wanted)
                {
                    self.note(name_position(name));
                }
                if let Some(over) = over {
                    self.visit_window(over);
                }
                for argument in &list.args {
                    if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::QualifiedWildcard(table)) = argument {
                        self.visit_wildcard(table);
                    }
                }
                true
            }
            _ => true,
        };
        if !stays {
            *expr = Expr::Value(ast::Value::Null.with_empty_span());
        }
        ControlFlow::Continue(())
    }
}

fn last(name: &ast::ObjectName) -> Option<&ast::Ident> {
    name.0.last().and_then(ast::ObjectNamePart::as_ident)
}

fn is_field(access: &ast::AccessExpr, field: &str) -> bool {
    let (ast::AccessExpr::Dot(name) | ast::AccessExpr::Subscript(ast::Subscript::Index { index: name })) = access
    else {
        return false;
    };
    match name {
        Expr::Identifier(name) => folded(name) == field,
        Expr::Value(value) => matches!(&value.value, ast::Value::SingleQuotedString(text) if text == field),
        _ => false,
    }
}
