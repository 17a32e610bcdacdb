//! Parameters in the token stream: `?` becomes `$1`, `$2`, …; a text uses one style. Between two operands `?` is JSON's operator.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use kalamdb_core::{Error, ErrorCode, Result};

use super::syntax;
use crate::names::placed;

/// PostgreSQL's bound, too: a parameter's number decides how many parameters a statement has.
const PARAMETERS_LIMIT: u32 = 65_535;

/// Tells the operator `?` from parameters.
pub(super) fn operators(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for index in 0..tokens.len() {
        if is_question(&tokens[index].token) && stands_between_operands(&tokens, index) {
            tokens[index].token = Token::Question;
        }
    }
    tokens
}

fn is_question(token: &Token) -> bool {
    matches!(token, Token::Placeholder(text) if text == "?")
}

/// No parameter stands right behind an operand. Behind a word that may be a keyword, such as `data`, only what follows tells.
fn stands_between_operands(tokens: &[TokenWithSpan], index: usize) -> bool {
    let is_spoken = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let mut before = tokens[..index].iter().rev().filter(is_spoken).map(|token| &token.token);
    let after = tokens[index + 1..].iter().find(is_spoken).map(|token| &token.token);
    let is_operand = match before.next() {
        Some(Token::RParen | Token::RBracket | Token::Placeholder(_)) => true,
        Some(Token::Word(word)) => {
            if word.quote_style.is_some() || before.next() == Some(&Token::Period) {
                true
            } else {
                match word.keyword {
                    Keyword::NoKeyword => true,
                    Keyword::SELECT
                    | Keyword::DISTINCT
                    | Keyword::ALL
                    | Keyword::BY
                    | Keyword::AND
                    | Keyword::OR
                    | Keyword::NOT
                    | Keyword::LIKE
                    | Keyword::ILIKE
                    | Keyword::CASE
                    | Keyword::WHEN
                    | Keyword::THEN
                    | Keyword::ELSE
                    | Keyword::RETURNING => false,
                    _ => return after.is_some_and(|after| is_string(after) || matches!(after, Token::Placeholder(_))),
                }
            }
        }
        Some(token) => is_string(token),
        None => false,
    };
    is_operand
        && after.is_some_and(|after| {
            is_string(after) || matches!(after, Token::Placeholder(_) | Token::LParen | Token::Word(_))
        })
}

fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
    )
}

/// Numbers the parameters of a text.
///
/// # Errors
/// SYNTAX_ERROR where styles are mixed, or a parameter is neither `?` nor `$` with a number from 1 to 65535.
pub(super) fn number(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut questions = 0_u32;
    let mut dollars = false;
    for token in &mut tokens {
        let Token::Placeholder(text) = &mut token.token else {
            continue;
        };
        let problem = if text == "?" {
            questions += 1;
            *text = format!("${questions}");
            if dollars {
                Some("parameters are written either all as ? or all as $1, $2, …".to_string())
            } else if questions > PARAMETERS_LIMIT {
                Some(format!("a statement takes at most {PARAMETERS_LIMIT} parameters"))
            } else {
                None
            }
        } else {
            dollars = true;
            let number = text
                .strip_prefix('$')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            match number.and_then(|digits| digits.parse::<u32>().ok()) {
                _ if questions > 0 => Some("parameters are written either all as ? or all as $1, $2, …".to_string()),
                Some(number) if (1..=PARAMETERS_LIMIT).contains(&number) => {
                    // `$01` and `$1` are one parameter, so they get one name.
                    *text = format!("${number}");
                    None
                }
                Some(_) => Some(format!(
                    "{text} is not a parameter; they are numbered from $1 to ${PARAMETERS_LIMIT}"
                )),
                None => Some(format!("{text} is not a parameter; write ? or $1, $2, …")),
            }
        };
        if let Some(problem) = problem {
            return Err(placed(
                Error::new(ErrorCode::SyntaxError, problem),
                syntax::position(token.span.start),
            ));
        }
    }
    Ok(tokens)
}
