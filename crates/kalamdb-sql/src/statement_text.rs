//! What `system.queries` shows of a statement's text: no literal of a statement, and of what is none its first words alone, since
//! any word of it may be a password without its quotes.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::{secrets, statement};

/// How much of a text is kept, bytes: what a person reads, not what a bulk INSERT carries.
const KEPT_BYTES: usize = 4_096;

/// How much of a text is read for its outline, bytes.
const OUTLINED_BYTES: usize = 256;

/// Words that statements begin with here, and that the parser's list of keywords lacks.
const OWN_KEYWORDS: &[&str] = &["COMPACT", "NAMESPACE", "STORAGE"];

/// A text that nobody has parsed: without its literals if it is a statement.
pub(crate) fn shown(sql: &str) -> String {
    match sql.len() <= KEPT_BYTES && statement::parse_whole(sql).is_ok() {
        true => without_literals(sql),
        false => outline(sql),
    }
}

/// The keywords that a text begins with.
pub(crate) fn outline(sql: &str) -> String {
    let (tokens, _) = tokens(sql, OUTLINED_BYTES);
    let mut spoken = tokens
        .into_iter()
        .map(|token| token.token)
        .filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF))
        .peekable();
    let mut text = String::new();
    while let Some(Token::Word(word)) = spoken.next_if(|token| matches!(token, Token::Word(word) if is_keyword(word))) {
        text.push_str(&word.value);
        text.push(' ');
        if secrets::announces(&word.value) {
            break;
        }
    }
    text.push('…');
    text
}

fn is_keyword(word: &Word) -> bool {
    let is_own = || OWN_KEYWORDS.iter().any(|own| word.value.eq_ignore_ascii_case(own));
    word.quote_style.is_none() && (word.keyword != Keyword::NoKeyword || is_own())
}

/// The tokens of the first `limit` bytes of a text; whether there is more.
fn tokens(sql: &str, limit: usize) -> (Vec<TokenWithSpan>, bool) {
    let mut end = sql.len().min(limit);
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    let mut tokens = Vec::new();
    let complete = Tokenizer::new(&PostgreSqlDialect {}, &sql[..end])
        .tokenize_with_location_into_buf(&mut tokens)
        .is_ok();
    let cut = !complete || end < sql.len();
    if cut && complete {
        // The last token may be the beginning of a longer one.
        tokens.pop();
    }
    (tokens, cut)
}

/// The statement's text with every literal replaced by `$n`, blanks made one. What cannot be tokenized is left out, since it
/// may be part of a literal.
pub(crate) fn without_literals(sql: &str) -> String {
    let (tokens, cut) = tokens(sql, KEPT_BYTES);
    let mut text = String::with_capacity(sql.len().min(KEPT_BYTES));
    let mut literals = 0usize;
    // SET takes values without quotes.
    let hidden = secrets::hidden(&tokens);
    for (at, token) in tokens.into_iter().enumerate() {
        match token.token {
            Token::EOF => {}
            Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_) => {
                literals += 1;
                text.push('$');
                text.push_str(&literals.to_string());
            }
            Token::Word(word) if hidden.contains(&at) && !secrets::is_grammar(&word.to_string()) => {
                literals += 1;
                text.push('$');
                text.push_str(&literals.to_string());
            }
            other => text.push_str(&other.to_string()),
        }
    }
    let mut text = text.trim_end().to_owned();
    if cut {
        text.push_str(" …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_shown_without_its_literals() {
        for (sql, shown) in [
            (
                "SELECT *\n  FROM t WHERE a = 'se''cret' AND b > 1.5",
                "SELECT * FROM t WHERE a = $1 AND b > $2",
            ),
            ("CREATE USER 'a' WITH PASSWORD 'p'", "CREATE USER $1 WITH PASSWORD $2"),
            (
                "SELECT \"Name\", E'x', X'00', $1 -- note",
                "SELECT \"Name\", $1, $2, $3",
            ),
            ("SELECT 1; SELECT 'unfinished", "SELECT $1; SELECT …"),
            ("EXECUTE AS USER 'a' (SELECT 'x')", "EXECUTE AS USER $1 (SELECT $2)"),
            ("SET password = hunter2", "SET password = $1"),
            ("SET api_token TO hunter2", "SET api_token $1 $2"),
            (
                "SELECT password, token FROM accounts",
                "SELECT password, token FROM accounts",
            ),
        ] {
            assert_eq!(without_literals(sql), shown);
        }
    }

    #[test]
    fn what_is_no_statement_is_shown_by_its_first_words() {
        for (sql, shown) in [
            ("SELECT a FORM t", "SELECT …"),
            (
                "GRANT SELECT ON TABLE a.t TO 'ann' IDENTIFIED BY hunter2",
                "GRANT SELECT ON TABLE …",
            ),
            ("ALTER USER IDENTIFIED BY hunter2", "ALTER USER IDENTIFIED …"),
            ("CREATE STORAGE s SECRET_KEY hunter2", "CREATE STORAGE …"),
            ("CREATE USER ann WITH PASSWORD hunter2", "CREATE USER …"),
            ("SET PASSWORD = hunter2", "SET PASSWORD …"),
            // A keyword that is a password.
            ("SET PASSWORD master", "SET PASSWORD …"),
            ("CREATE \"USER\" x", "CREATE …"),
            ("hunter2", "…"),
            ("", "…"),
        ] {
            assert_eq!(outline(sql), shown);
        }
    }

    #[test]
    fn a_long_statement_is_cut_before_the_token_at_the_cut() {
        let sql = format!("SELECT '{}', 'secret'", "x".repeat(KEPT_BYTES));
        assert_eq!(without_literals(&sql), "SELECT …");
    }
}
