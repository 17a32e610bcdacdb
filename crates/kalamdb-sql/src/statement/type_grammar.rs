//! Types, of columns and in casts. sqlparser parses them, but for STRUCT and MAP in parentheses, which is how types are printed.

use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, StructBracketKind};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{ErrorCode, Result};

use super::syntax::Source;

const BRACKETS_AFTER_TWO_ANGLES: &str =
    "'[' after '>>' could belong to either type; write the outer one in parentheses: STRUCT(…)[]";

/// The type of a column, with its arrays' brackets.
pub(super) fn data_type(source: &mut Source<'_>) -> Result<ast::DataType> {
    let at = source.position();
    if source.call(|parser| Ok(has_brackets_after_two_angles(parser)))? {
        let error = kalamdb_core::Error::new(ErrorCode::Unsupported, BRACKETS_AFTER_TWO_ANGLES);
        return Err(crate::names::placed(error, at));
    }
    source.call(parse)
}

/// Whether the n-th next token begins a type that sqlparser would not parse as it is meant.
pub(super) fn is_ours(parser: &Parser<'_>, n: usize) -> bool {
    matches!(
        keyword(parser, n),
        Some(Keyword::STRUCT | Keyword::MAP | Keyword::ARRAY)
    )
}

/// The type inside an expression.
pub(super) fn in_expression(parser: &mut Parser<'_>) -> std::result::Result<ast::DataType, ParserError> {
    if has_brackets_after_two_angles(parser) {
        return Err(ParserError::ParserError(BRACKETS_AFTER_TWO_ANGLES.to_owned()));
    }
    parse(parser)
}

fn keyword(parser: &Parser<'_>, n: usize) -> Option<Keyword> {
    match &parser.peek_nth_token_ref(n).token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

fn parse(parser: &mut Parser<'_>) -> std::result::Result<ast::DataType, ParserError> {
    let in_parentheses = parser.peek_nth_token_ref(1).token == Token::LParen;
    let mut parsed = match keyword(parser, 0) {
        Some(Keyword::STRUCT) if in_parentheses => structure(parser)?,
        Some(Keyword::MAP) if in_parentheses => map(parser)?,
        _ => return parser.parse_data_type(),
    };
    while parser.consume_token(&Token::LBracket) {
        let length = match parser.peek_token_ref().token {
            Token::Number(..) => Some(parser.parse_literal_uint()?),
            _ => None,
        };
        parser.expect_token(&Token::RBracket)?;
        parsed = ast::DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(parsed), length));
    }
    Ok(parsed)
}

/// `STRUCT(name type, …)`.
fn structure(parser: &mut Parser<'_>) -> std::result::Result<ast::DataType, ParserError> {
    parser.expect_keyword_is(Keyword::STRUCT)?;
    parser.expect_token(&Token::LParen)?;
    let mut fields = Vec::new();
    loop {
        if !matches!(parser.peek_token_ref().token, Token::Word(_)) {
            return parser.expected_ref("the name of a field", parser.peek_token_ref());
        }
        let name = parser.parse_identifier()?;
        // `name: type` is the same.
        let _ = parser.consume_token(&Token::Colon);
        fields.push(ast::StructField {
            field_name: Some(name),
            field_type: parse(parser)?,
            options: None,
        });
        if parser.consume_token(&Token::RParen) {
            return Ok(ast::DataType::Struct(fields, StructBracketKind::Parentheses));
        }
        if !parser.consume_token(&Token::Comma) {
            return parser.expected_ref("',' or ')' after the field", parser.peek_token_ref());
        }
    }
}

/// `MAP(type, type)`.
fn map(parser: &mut Parser<'_>) -> std::result::Result<ast::DataType, ParserError> {
    parser.expect_keyword_is(Keyword::MAP)?;
    parser.expect_token(&Token::LParen)?;
    let key = parse(parser)?;
    parser.expect_token(&Token::Comma)?;
    let value = parse(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(ast::DataType::Map(Box::new(key), Box::new(value)))
}

/// sqlparser takes the brackets of `STRUCT<a STRUCT<b INT>>[]` for those of the inner type, although they are the outer one's.
fn has_brackets_after_two_angles(parser: &Parser<'_>) -> bool {
    let mut open = 0_usize;
    for n in 0.. {
        match parser.peek_nth_token_ref(n).token {
            Token::LParen | Token::LBracket | Token::Lt => open += 1,
            Token::RParen | Token::Comma if open == 0 => break,
            Token::RParen | Token::RBracket | Token::Gt => open = open.saturating_sub(1),
            Token::ShiftRight if parser.peek_nth_token_ref(n + 1).token == Token::LBracket => return true,
            Token::ShiftRight => open = open.saturating_sub(2),
            Token::EOF | Token::SemiColon => break,
            _ => {}
        }
    }
    false
}
