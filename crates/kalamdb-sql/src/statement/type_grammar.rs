//! The type of a column. sqlparser parses it, but for STRUCT and MAP in parentheses, which is how types are printed.

use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, StructBracketKind};
use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{ErrorCode, Result};

use super::syntax::Source;

/// A type, with its arrays' brackets.
pub(super) fn data_type(source: &mut Source<'_>) -> Result<ast::DataType> {
    let in_parentheses = *source.token_at(1) == Token::LParen;
    let mut parsed = match source.word(0).as_deref() {
        Some("STRUCT") if in_parentheses => structure(source)?,
        Some("MAP") if in_parentheses => map(source)?,
        _ => {
            refuse_brackets_after_two_angles(source)?;
            return source.call(|parser| parser.parse_data_type());
        }
    };
    while source.eat_token(&Token::LBracket) {
        let at = source.position();
        let length = source.eat_number().map(|length| {
            length.parse::<u64>().map_err(|_| {
                let message = format!("{length} is not the length of an array");
                crate::names::placed(kalamdb_core::Error::new(ErrorCode::InvalidArgument, message), at)
            })
        });
        source.expect_token(&Token::RBracket)?;
        parsed = ast::DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(parsed), length.transpose()?));
    }
    Ok(parsed)
}

/// `STRUCT(name type, …)`.
fn structure(source: &mut Source<'_>) -> Result<ast::DataType> {
    source.expect(&["STRUCT"])?;
    source.expect_token(&Token::LParen)?;
    let mut fields = Vec::new();
    loop {
        let name = source.identifier("the name of a field")?;
        source.eat_token(&Token::Colon);
        fields.push(ast::StructField {
            field_name: Some(name),
            field_type: data_type(source)?,
            options: None,
        });
        if source.eat_token(&Token::RParen) {
            return Ok(ast::DataType::Struct(fields, StructBracketKind::Parentheses));
        }
        if !source.eat_token(&Token::Comma) {
            return Err(source.unexpected("',' or ')' after the field"));
        }
    }
}

/// `MAP(type, type)`.
fn map(source: &mut Source<'_>) -> Result<ast::DataType> {
    source.expect(&["MAP"])?;
    source.expect_token(&Token::LParen)?;
    let key = data_type(source)?;
    source.expect_token(&Token::Comma)?;
    let value = data_type(source)?;
    source.expect_token(&Token::RParen)?;
    Ok(ast::DataType::Map(Box::new(key), Box::new(value)))
}

/// sqlparser takes the brackets of `STRUCT<a STRUCT<b INT>>[]` for those of the inner type, although they are the outer one's.
fn refuse_brackets_after_two_angles(source: &Source<'_>) -> Result<()> {
    let mut open = 0_usize;
    for n in 0.. {
        match source.token_at(n) {
            Token::LParen | Token::LBracket | Token::Lt => open += 1,
            Token::RParen | Token::Comma if open == 0 => break,
            Token::RParen | Token::RBracket | Token::Gt => open = open.saturating_sub(1),
            Token::ShiftRight if *source.token_at(n + 1) == Token::LBracket => {
                let message =
                    "'[' after '>>' could belong to either type; write the outer one in parentheses: STRUCT(…)[]";
                return Err(source.here(ErrorCode::Unsupported, message));
            }
            Token::ShiftRight => open = open.saturating_sub(2),
            Token::EOF | Token::SemiColon => break,
            _ => {}
        }
    }
    Ok(())
}
