//! The dialect: PostgreSQL's lexis and precedence with DataFusion's query extensions, and a bound on the parser's work.

use std::any::TypeId;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArguments, Ident, TrimWhereField, UnaryOperator,
};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{join_conditions, type_grammar};
use crate::row_comparisons::SYMMETRIC;

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// sqlparser parses one expression at most this many times per byte of text before the text is given up as too deep.
/// Its backtracking is exponential in the nesting of malformed text (`CAST(CAST(CAST(…` without an end); well-formed text
/// needs about one a token.
const PREFIXES_PER_BYTE: u64 = 16;

/// Made anew for each text, because it counts.
#[derive(Debug)]
pub(super) struct KalamDialect {
    prefixes_left: AtomicU64,
    /// Whether `a JOIN b JOIN c ON … ON …` is `a JOIN (b JOIN c ON …) ON …`.
    nests_joins: bool,
}

impl KalamDialect {
    pub(super) fn for_text(sql: &str) -> Self {
        KalamDialect {
            prefixes_left: AtomicU64::new(1_000 + PREFIXES_PER_BYTE * sql.len() as u64),
            nests_joins: false,
        }
    }

    /// For a text of such tokens, which have been bounded otherwise.
    pub(super) fn for_tokens(self, tokens: &[TokenWithSpan]) -> Self {
        KalamDialect {
            nests_joins: join_conditions::may_nest(tokens),
            ..self
        }
    }
}

impl Dialect for KalamDialect {
    // The parser asks for the type where a dialect has no method of its own: there we are PostgreSQL.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let spent = self
            .prefixes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match spent {
            Ok(_) => function_of_the_session(parser)
                .or_else(|| cast(parser))
                .or_else(|| trim(parser))
                .or_else(|| signed(parser)),
            Err(_) => Some(Err(ParserError::RecursionLimitExceeded)),
        }
    }

    // IS DISTINCT FROM, BETWEEN SYMMETRIC, and `::` with a type of ours.
    fn parse_infix(&self, parser: &mut Parser<'_>, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(parsed) = distinct_from(parser, expr).or_else(|| between(parser, expr)) {
            return Some(parsed);
        }
        if parser.peek_token_ref().token != Token::DoubleColon || !type_grammar::is_ours(parser, 1) {
            return None;
        }
        parser.advance_token();
        Some(type_grammar::in_expression(parser).map(|data_type| Expr::Cast {
            kind: CastKind::DoubleColon,
            expr: Box::new(expr.clone()),
            data_type,
            array: false,
            format: None,
        }))
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('"')
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        POSTGRES.is_table_alias(keyword, parser)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    // PostgreSQL's lexis. Its geometric operators stay out: they would take the `?` of parameters.

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    // PostgreSQL's grammar. Named function arguments by any expression (`json_object('a': 1)`) stay out: to tell them, the
    // parser reads each argument twice, which doubles its work with each level of nested calls.

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_insert_table_alias(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        !self.nests_joins
    }

    // What DataFusion plans beyond PostgreSQL.

    fn supports_projection_trailing_commas(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_boolean_literals(&self) -> bool {
        true
    }
}

/// Words that are a function's call without parentheses wherever a value can stand: no column can be called so without quotes.
pub(super) fn is_a_value_by_itself(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::CURRENT_CATALOG
            | Keyword::CURRENT_USER
            | Keyword::CURRENT_ROLE
            | Keyword::SESSION_USER
            | Keyword::CURRENT_DATE
            | Keyword::CURRENT_TIME
            | Keyword::CURRENT_TIMESTAMP
            | Keyword::LOCALTIME
            | Keyword::LOCALTIMESTAMP
            | Keyword::TRUE
            | Keyword::FALSE
            | Keyword::NULL
    )
}

/// CURRENT_USER and its like are functions with parentheses and without. sqlparser knows some of them, and those only
/// without. USER it takes for one too; here it is a name: too many columns are called so.
fn function_of_the_session(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let Token::Word(word) = &parser.peek_token_ref().token else {
        return None;
    };
    if word.quote_style.is_some() {
        return None;
    }
    let followed_by = &parser.peek_nth_token_ref(1).token;
    match word.keyword {
        Keyword::CURRENT_USER | Keyword::SESSION_USER if *followed_by == Token::LParen => Some(
            parser
                .parse_object_name(false)
                .and_then(|name| parser.parse_function(name)),
        ),
        Keyword::USER if *followed_by != Token::LParen => Some(
            parser
                .parse_identifier()
                .and_then(|name| parser.parse_compound_expr(Expr::Identifier(name), vec![])),
        ),
        Keyword::CURRENT_ROLE if !matches!(followed_by, Token::LParen | Token::Period) => {
            Some(parser.parse_object_name(false).map(|name| {
                Expr::Function(Function {
                    name,
                    uses_odbc_syntax: false,
                    parameters: FunctionArguments::None,
                    args: FunctionArguments::None,
                    filter: None,
                    null_treatment: None,
                    over: None,
                    within_group: vec![],
                })
            }))
        }
        _ => None,
    }
}

/// CAST and TRY_CAST, with types of ours.
fn cast(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let Token::Word(word) = &parser.peek_token_ref().token else {
        return None;
    };
    let kind = match word.keyword {
        _ if word.quote_style.is_some() || parser.peek_nth_token_ref(1).token != Token::LParen => return None,
        Keyword::CAST => CastKind::Cast,
        Keyword::TRY_CAST => CastKind::TryCast,
        Keyword::SAFE_CAST => CastKind::SafeCast,
        _ => return None,
    };
    parser.advance_token();
    let parse = || {
        parser.expect_token(&Token::LParen)?;
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_keyword_is(Keyword::AS)?;
        let data_type = type_grammar::in_expression(parser)?;
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Cast {
            kind,
            expr,
            data_type,
            array: false,
            format: None,
        })
    };
    Some(parse())
}

/// `trim([BOTH | LEADING | TRAILING] FROM text)`, of which sqlparser 0.62 wants to know what to take off, too.
fn trim(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let is_called = match &parser.peek_token_ref().token {
        Token::Word(word) => word.keyword == Keyword::TRIM && word.quote_style.is_none(),
        _ => false,
    };
    if !is_called || parser.peek_nth_token_ref(1).token != Token::LParen {
        return None;
    }
    let side = match keyword(parser, 2) {
        Keyword::BOTH => Some(TrimWhereField::Both),
        Keyword::LEADING => Some(TrimWhereField::Leading),
        Keyword::TRAILING => Some(TrimWhereField::Trailing),
        _ => None,
    };
    let from = if side.is_some() { 3 } else { 2 };
    if keyword(parser, from) != Keyword::FROM {
        return None;
    }
    for _ in 0..=from {
        parser.advance_token();
    }
    let expr = parser.parse_expr().and_then(|expr| {
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Trim {
            expr: Box::new(expr),
            trim_where: side,
            trim_what: None,
            trim_characters: None,
        })
    });
    Some(expr)
}

/// A sign and its operand, which are one before `^` and `*` take them.
///
/// Problem: sqlparser 0.62 reads `-2 ^ 2` as `-(2 ^ 2)`. Proper way: a sign's own precedence, next to that of `::`. Chosen: the one
/// below it that the parser has. Evidence: `Token::Minus` in its `parse_prefix`, and PostgreSQL's table of precedences.
fn signed(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let op = match parser.peek_token_ref().token {
        Token::Minus => UnaryOperator::Minus,
        Token::Plus => UnaryOperator::Plus,
        _ => return None,
    };
    parser.advance_token();
    let operand = parser.parse_subexpr(POSTGRES.prec_value(Precedence::AtTz));
    Some(operand.map(|operand| Expr::UnaryOp {
        op,
        expr: Box::new(operand),
    }))
}

/// `left IS [NOT] DISTINCT FROM right`.
///
/// Problem: sqlparser 0.62 takes all that follows for the right side, `AND` and `OR` included. Proper way: it ends where an operator
/// binds no tighter than IS. Chosen: just that, as its other operators are read. Evidence: `parse_expr` behind `Keyword::FROM` in its
/// `parse_infix`.
fn distinct_from(parser: &mut Parser<'_>, left: &Expr) -> Option<Result<Expr, ParserError>> {
    if keyword(parser, 0) != Keyword::IS {
        return None;
    }
    let negated = keyword(parser, 1) == Keyword::NOT;
    let distinct = if negated { 2 } else { 1 };
    if keyword(parser, distinct) != Keyword::DISTINCT || keyword(parser, distinct + 1) != Keyword::FROM {
        return None;
    }
    for _ in 0..distinct + 2 {
        parser.advance_token();
    }
    let right = match parser.parse_subexpr(POSTGRES.prec_value(Precedence::Is)) {
        Ok(right) => Box::new(right),
        Err(error) => return Some(Err(error)),
    };
    // PostgreSQL leaves open which of the two would come first.
    if matches!(keyword(parser, 0), Keyword::IS | Keyword::NOTNULL) {
        return Some(parser.expected_ref("parentheses around one of two IS", parser.peek_token_ref()));
    }
    let left = Box::new(left.clone());
    Some(Ok(if negated {
        Expr::IsNotDistinctFrom(left, right)
    } else {
        Expr::IsDistinctFrom(left, right)
    }))
}

/// `value [NOT] BETWEEN SYMMETRIC | ASYMMETRIC low AND high`, which sqlparser does not know: SYMMETRIC stays as a mark on the bound.
fn between(parser: &mut Parser<'_>, value: &Expr) -> Option<Result<Expr, ParserError>> {
    let negated = keyword(parser, 0) == Keyword::NOT;
    let between = usize::from(negated);
    let word = keyword(parser, between + 1);
    if keyword(parser, between) != Keyword::BETWEEN || !matches!(word, Keyword::SYMMETRIC | Keyword::ASYMMETRIC) {
        return None;
    }
    for _ in 0..between + 2 {
        parser.advance_token();
    }
    let parsed = parser.parse_between(value.clone(), negated);
    Some(parsed.map(|mut parsed| {
        if let Expr::Between { low, .. } = &mut parsed
            && word == Keyword::SYMMETRIC
        {
            let bound = std::mem::replace(low, Box::new(Expr::Tuple(vec![])));
            **low = Expr::Prefixed {
                prefix: Ident::new(SYMMETRIC),
                value: bound,
            };
        }
        parsed
    }))
}

/// The unquoted word at a place after the next token; `NoKeyword` for anything else.
fn keyword(parser: &Parser<'_>, nth: usize) -> Keyword {
    match &parser.peek_nth_token_ref(nth).token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn trim_takes_from_without_characters() {
        let fixture = Fixture::new();
        fixture.check(
            "SELECT trim(trailing from ' x ') || '|', trim(LEADING FROM ' x ') || '|', trim(both from ' x '), trim(from ' x ')",
            &[" x||x ||x|x"],
        );
        fixture.check(
            "SELECT trim(both 'y' from 'yxy'), trim('y' from 'yxy'), trim(trailing ' x '), trim(' x '), trim('yxy', 'y')",
            &["x|x| x|x|x"],
        );
        fixture.check(
            "SELECT trim(trailing from trim(leading from t)) FROM (VALUES (' a ')) AS v (t)",
            &["a"],
        );
        fixture.check_error_part("SELECT trim(trailing from ' x '", ErrorCode::SyntaxError, "expected");
    }
}
