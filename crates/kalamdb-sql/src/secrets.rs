//! What of a statement's text may be shown where it is shown at all: in errors, and in `system.queries`. Literals are the business of
//! whoever shows; here it is about statements on users, where a forgotten quote makes a password a word.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Words of the statements about users; what stands in front of them in EXPLAIN and EXECUTE AS, too.
const GRAMMAR: &[&str] = &[
    "ALTER",
    "AS",
    "BYTES",
    "CREATE",
    "DBA",
    "DEFAULT",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "IF",
    "MEMORY",
    "NOT",
    "NULL",
    "PASSWORD",
    "QUERIES",
    "QUOTA",
    "ROLE",
    "ROWS",
    "SERVICE",
    "SESSIONS",
    "SET",
    "STATEMENT_TIME",
    "SYSTEM",
    "USER",
    "WITH",
];

/// Whether the text makes or changes a user, anywhere in it.
pub(crate) fn is_about_users(tokens: &[TokenWithSpan]) -> bool {
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|token| match &token.token {
            Token::Word(word) => Some(word.value.as_str()),
            _ => None,
        })
        .collect();
    let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
    words.windows(2).enumerate().any(|(at, pair)| {
        let of_user = (is(pair[0], "CREATE") || is(pair[0], "ALTER")) && is(pair[1], "USER");
        of_user && !words.get(at + 2).is_some_and(|word| is(word, "TABLE"))
    })
}

/// Whether a token of such a text, as written, is grammar and not perhaps a password.
pub(crate) fn is_grammar(token: &str) -> bool {
    let is_sign = token.chars().all(|letter| letter.is_ascii_punctuation());
    is_sign || GRAMMAR.iter().any(|word| token.eq_ignore_ascii_case(word))
}
