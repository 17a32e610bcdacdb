//! Where a statement writes a name, for errors of planning that do not say it.

use std::ops::ControlFlow;

use datafusion::common::Column;
use datafusion::sql::sqlparser::ast::{self, Visitor};
use kalamdb_core::{Error, Position};

use crate::names::{folded, name_position, position};
use crate::system_columns::constraint;
use crate::tree::walk;

/// Where the column is read. `None` if two SELECTs read one of that name: which of them is meant is not known.
pub(super) fn of_column(statement: &ast::Statement, column: &Column) -> Option<Position> {
    let table = column.relation.as_ref().map(|relation| relation.table());
    find(
        statement,
        Wanted::Column {
            name: &column.name,
            table,
        },
    )
}

/// Where `table` stands before a wildcard.
pub(super) fn of_wildcard(statement: &ast::Statement, table: &str) -> Option<Position> {
    find(statement, Wanted::Wildcard { table })
}

/// Where a STRUCT's field is read.
pub(super) fn of_field(statement: &ast::Statement, field: &str) -> Option<Position> {
    find(statement, Wanted::Field(field))
}

fn find(statement: &ast::Statement, wanted: Wanted<'_>) -> Option<Position> {
    let mut mentions = Mentions {
        wanted,
        queries: Vec::new(),
        number: 0,
        found: None,
        is_ambiguous: false,
    };
    walk(statement, &mut mentions).expect("this visitor does not break");
    let (_, place) = mentions.found?;
    (!mentions.is_ambiguous).then_some(place)
}

enum Wanted<'a> {
    Column { name: &'a str, table: Option<&'a str> },
    Wildcard { table: &'a str },
    Field(&'a str),
}

struct Mentions<'a> {
    wanted: Wanted<'a>,
    /// The queries around what is visited, by number, outermost first.
    queries: Vec<usize>,
    number: usize,
    /// The first mention, and the query that it is in.
    found: Option<(Option<usize>, Position)>,
    is_ambiguous: bool,
}

impl Mentions<'_> {
    fn note(&mut self, place: Option<Position>) {
        let Some(place) = place else { return };
        let query = self.queries.last().copied();
        match self.found {
            None => self.found = Some((query, place)),
            Some((first, _)) => self.is_ambiguous |= first != query,
        }
    }

    /// A column's name where no table may stand before it: the planner puts one there.
    fn note_name(&mut self, name: &ast::Ident) {
        if let Wanted::Column { name: wanted, .. } = self.wanted
            && folded(name) == wanted
        {
            self.note(position(name));
        }
    }

    /// `table.column`, `column.field` and the like.
    fn note_path(&mut self, path: &[ast::Ident]) {
        let is_meant = match (&self.wanted, path) {
            (
                Wanted::Column {
                    name,
                    table: Some(table),
                },
                path,
            ) => path
                .windows(2)
                .any(|pair| folded(&pair[0]) == *table && folded(&pair[1]) == *name),
            (Wanted::Column { name, table: None }, [first, ..]) => folded(first) == *name,
            (Wanted::Field(field), [_, fields @ ..]) => fields.iter().any(|name| folded(name) == *field),
            _ => false,
        };
        if is_meant {
            self.note(path.first().and_then(position));
        }
    }

    fn note_names<'n>(&mut self, names: impl IntoIterator<Item = &'n ast::ObjectName>) {
        for name in names {
            if let Some(last) = name.0.last().and_then(ast::ObjectNamePart::as_ident) {
                self.note_name(last);
            }
        }
    }

    fn note_options(&mut self, options: &ast::WildcardAdditionalOptions) {
        match &options.opt_exclude {
            Some(ast::ExcludeSelectItem::Single(name)) => self.note_names([name]),
            Some(ast::ExcludeSelectItem::Multiple(names)) => self.note_names(names),
            None => {}
        }
        if let Some(except) = &options.opt_except {
            for name in std::iter::once(&except.first_element).chain(&except.additional_elements) {
                self.note_name(name);
            }
        }
    }
}

impl Visitor for Mentions<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
        self.number += 1;
        self.queries.push(self.number);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
        self.queries.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Error> {
        use ast::SelectItemQualifiedWildcardKind::ObjectName;
        for item in &select.projection {
            match item {
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    if let (Wanted::Wildcard { table }, ObjectName(name)) = (&self.wanted, kind)
                        && name
                            .0
                            .last()
                            .and_then(ast::ObjectNamePart::as_ident)
                            .is_some_and(|last| folded(last) == *table)
                    {
                        self.note(name_position(name));
                    }
                    self.note_options(options);
                }
                ast::SelectItem::Wildcard(options) => self.note_options(options),
                _ => {}
            }
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if let Some(ast::JoinConstraint::Using(names)) = constraint(&join.join_operator) {
                self.note_names(names);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
        match expr {
            ast::Expr::Identifier(name) => self.note_path(std::slice::from_ref(name)),
            ast::Expr::CompoundIdentifier(path) => self.note_path(path),
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                if let Wanted::Field(field) = self.wanted
                    && access_chain.iter().any(|access| is_field(access, field))
                {
                    self.note(crate::names::position_of(ast::Spanned::span(root.as_ref())));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_field(access: &ast::AccessExpr, field: &str) -> bool {
    let (ast::AccessExpr::Dot(name) | ast::AccessExpr::Subscript(ast::Subscript::Index { index: name })) = access
    else {
        return false;
    };
    match name {
        ast::Expr::Identifier(name) => folded(name) == field,
        ast::Expr::Value(value) => matches!(&value.value, ast::Value::SingleQuotedString(text) if text == field),
        _ => false,
    }
}
