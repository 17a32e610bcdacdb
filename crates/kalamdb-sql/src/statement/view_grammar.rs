//! CREATE VIEW and DROP VIEW. A view's query is kept as it is written.

use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{CreateMode, Error, ErrorCode, Result};

use super::syntax::Source;
use super::{CreateView, Definition, Statement, grammar, refusals};
use crate::names::{folded, placed};

/// `CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(column, …)] AS query`.
pub(super) fn create_view(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["CREATE"])?;
    let replace = source.eat(&["OR", "REPLACE"]);
    source.expect(&["VIEW"])?;
    let mode = match (replace, source.eat(&["IF", "NOT", "EXISTS"])) {
        (false, false) => CreateMode::New,
        (false, true) => CreateMode::IfNotExists,
        (true, false) => CreateMode::OrReplace,
        (true, true) => {
            return Err(source.here(
                ErrorCode::InvalidStatement,
                "OR REPLACE and IF NOT EXISTS exclude each other",
            ));
        }
    };
    let name = source.object_name("the name of the view")?;
    let columns = columns(source)?;
    for clause in ["WITH", "OPTIONS", "TO", "CLUSTER", "COMMENT", "PARTITIONED"] {
        if source.sees(&[clause]) {
            return Err(source.here(
                ErrorCode::Unsupported,
                format!("CREATE VIEW … {clause} is not supported: a view has no options"),
            ));
        }
    }
    source.expect(&["AS"])?;
    let start = source.offset();
    let query = grammar::query(source)?;
    let end = source.offset();
    if source.sees(&["WITH"]) {
        return Err(source.here(
            ErrorCode::Unsupported,
            "CREATE VIEW … WITH CHECK OPTION is not supported: nothing is written through a view",
        ));
    }
    refusals::refuse_parameters(&query, "a view")?;
    let query = refusals::check_query(query, source.sql())?;
    let text = source.sql()[start..end].trim().to_owned();
    Ok(Statement::Definition(Definition::CreateView(Box::new(CreateView {
        name,
        mode,
        columns,
        query,
        text,
    }))))
}

/// `DROP VIEW [IF EXISTS] name, …`.
pub(super) fn drop_view(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["DROP", "VIEW"])?;
    let if_exists = source.eat(&["IF", "EXISTS"]);
    let names = grammar::table_names(source)?;
    if source.sees(&["CASCADE"]) {
        return Err(source.here(
            ErrorCode::Unsupported,
            "DROP VIEW … CASCADE is not supported: views of the view stay, and fail until it is there again",
        ));
    }
    source.eat(&["RESTRICT"]);
    Ok(Statement::Definition(Definition::DropView { names, if_exists }))
}

fn columns(source: &mut Source<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !source.eat_token(&Token::LParen) {
        return Ok(names);
    }
    loop {
        let at = source.position();
        let name = folded(&source.identifier("the name of a column")?);
        if names.contains(&name) {
            let message = format!("column '{name}' is there twice");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
        }
        names.push(name);
        if source.eat_token(&Token::RParen) {
            return Ok(names);
        }
        if !source.eat_token(&Token::Comma) {
            return Err(source.unexpected("',' or ')' after the column"));
        }
    }
}
