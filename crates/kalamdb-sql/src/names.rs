//! Names: the catalog's, how written names become stored ones, and which known name is nearest to a wrong one.

use std::borrow::Borrow;

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{self, Spanned};
use datafusion::sql::sqlparser::tokenizer::Span;
use kalamdb_core::{Error, ErrorCode, Position, Result, TableName};

/// The one catalog.
pub(crate) const CATALOG: &str = "kalam";

/// Where a session starts.
pub(crate) const DEFAULT_NAMESPACE: &str = "public";

/// An identifier as stored: unquoted ones fold to lower case.
pub(crate) fn folded(identifier: &ast::Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        // As DataFusion folds: ASCII letters only.
        None => identifier.value.to_ascii_lowercase(),
    }
}

/// Where an identifier stands in the SQL text, if the parser knows.
pub(crate) fn position(identifier: &ast::Ident) -> Option<Position> {
    position_of(identifier.span)
}

/// Where a piece of the text starts, if it comes from one.
pub(crate) fn position_of(span: Span) -> Option<Position> {
    let start = span.start;
    (start.line > 0).then_some(Position {
        line: start.line,
        column: start.column,
    })
}

/// Puts a place on an error, if it is known and the error has none.
pub(crate) fn placed(error: Error, position: Option<Position>) -> Error {
    match (error.position, position) {
        (None, Some(position)) => error.at(position),
        (Some(_), _) | (_, None) => error,
    }
}

/// Where a name starts.
pub(crate) fn name_position(name: &ast::ObjectName) -> Option<Position> {
    name.0
        .first()
        .and_then(ast::ObjectNamePart::as_ident)
        .and_then(position)
}

/// A written table name as a stored one; `namespace` completes a name of one part.
///
/// # Errors
/// TABLE_NOT_FOUND for another catalog than ours, INVALID_STATEMENT for more than three parts.
pub(crate) fn table_name(name: &ast::ObjectName, namespace: &str) -> Result<TableName> {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(folded))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidStatement,
                format!("{name} is not a table name: expected name, or namespace.name"),
            )
        })?;
    match parts.as_slice() {
        [table] => Ok(TableName::new(namespace, table)),
        [namespace, table] => Ok(TableName::new(namespace, table)),
        [catalog, namespace, table] if catalog == CATALOG => Ok(TableName::new(namespace, table)),
        [catalog, _, _] => {
            let error = Error::new(
                ErrorCode::TableNotFound,
                format!("there is no catalog '{catalog}'; the only one is {CATALOG}"),
            );
            Err(placed(
                error,
                name.0
                    .first()
                    .and_then(ast::ObjectNamePart::as_ident)
                    .and_then(position),
            ))
        }
        _ => Err(Error::new(
            ErrorCode::InvalidStatement,
            format!("{name} is not a table name: expected name, or namespace.name"),
        )),
    }
}

/// How DataFusion refers to a table of that name; of more than three parts the last ones count.
pub(crate) fn table_reference(parts: &[ast::Ident]) -> TableReference {
    match parts {
        [] => TableReference::bare(""),
        [table] => TableReference::bare(folded(table)),
        [namespace, table] => TableReference::partial(folded(namespace), folded(table)),
        [.., catalog, namespace, table] => TableReference::full(folded(catalog), folded(namespace), folded(table)),
    }
}

/// The known name most like `wanted`, if one is like it at all.
pub(crate) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .filter_map(|name| Some((distance(wanted, name)?, name)))
        .min()
        .map(|(_, name)| name)
}

/// How many letters two names differ in, whatever their case; `None` if they are not alike.
pub(crate) fn distance(wanted: &str, known: &str) -> Option<usize> {
    let distance = strsim::damerau_levenshtein(&wanted.to_lowercase(), &known.to_lowercase());
    let lengths = (wanted.chars().count(), known.chars().count());
    // One slip in three letters. Of two letters one may be missing, but a wrong one is half of the name.
    let most = match lengths.0.max(lengths.1) {
        0..=2 => lengths.0.abs_diff(lengths.1),
        letters => letters / 3,
    };
    (distance <= most).then_some(distance)
}

/// The table most like `wanted`, if one is like it in both parts of its name.
pub(crate) fn nearest_table<N: Borrow<TableName> + Ord>(
    wanted: &TableName,
    known: impl Iterator<Item = N>,
) -> Option<N> {
    known
        .filter_map(|name| {
            let other = name.borrow();
            let namespace = distance(&wanted.namespace, &other.namespace)?;
            Some((namespace + distance(&wanted.table, &other.table)?, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// `; did you mean x?`, or nothing.
pub(crate) fn suggestion<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(wanted, known).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Where an expression begins: the span of its first operand. (That of the whole is asked for from operand to operand, however many.)
pub(crate) fn first_span(expr: &ast::Expr) -> Span {
    let mut first = expr;
    while let ast::Expr::BinaryOp { left, .. } = first {
        first = left;
    }
    first.span()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["messages", "members", "prices"];
        let check =
            |wanted: &str, expected: Option<&str>| assert_eq!(nearest(wanted, known.into_iter()), expected, "{wanted}");
        check("mesages", Some("messages"));
        check("MESSAGES", Some("messages"));
        check("price", Some("prices"));
        check("orders", None);
        check("praise", None);
        let check = |wanted: &str, known: &str, expected: Option<usize>| {
            assert_eq!(distance(wanted, known), expected, "{wanted}, {known}")
        };
        check("id", "ID", Some(0));
        check("id", "ip", None);
        check("a", "b", None);
        check("tt", "t", Some(1));
        check("ids", "id", Some(1));
        check("nmae", "name", Some(1));
        check("cat", "dog", None);
    }

    #[test]
    fn a_table_is_near_in_both_parts() {
        let known = [TableName::new("public", "orders"), TableName::new("chat", "messages")];
        let check = |namespace: &str, table: &str, expected: Option<&str>| {
            let wanted = TableName::new(namespace, table);
            let nearest = nearest_table(&wanted, known.iter()).map(TableName::to_string);
            assert_eq!(nearest.as_deref(), expected, "{wanted}");
        };
        check("public", "order", Some("public.orders"));
        check("chta", "mesages", Some("chat.messages"));
        check("public", "people", None);
        check("chat", "orders", None);
    }
}
