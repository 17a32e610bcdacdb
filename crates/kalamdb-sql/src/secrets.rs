//! Which words of what is no statement may be secrets, where a forgotten quote makes a password a word: what an error about it, and
//! `system.queries`, leave out.

use std::ops::Range;

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

/// What statements begin with in which PASSWORD may be the name of a column.
const HAVE_COLUMNS: &[&str] = &[
    "COPY", "DELETE", "DESC", "DESCRIBE", "FROM", "INGEST", "INSERT", "MERGE", "SELECT", "SHOW", "TABLE", "UPDATE",
    "VALUES", "WITH",
];

/// What may stand in front of a statement.
const PREFIXES: &[&str] = &[
    "ALL", "ANALYZE", "AS", "EXECUTE", "EXPLAIN", "SERVICE", "USER", "USERS", "VERBOSE",
];

/// What names of options and clauses that take a secret have in them.
const ANNOUNCE: &[&str] = &[
    "PASSW",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "IDENTIFIED",
    "ACCESS_KEY",
    "API_KEY",
    "PRIVATE_KEY",
];

/// Whether what follows a word may be a secret.
pub(crate) fn announces(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    ANNOUNCE.iter().any(|part| word.contains(part))
}

/// The tokens of a text among which words may be secrets: all where it makes or changes a user; what follows a word that announces one
/// where it is none of the statements that have columns, since it may be meant to.
pub(crate) fn hidden(tokens: &[TokenWithSpan]) -> Range<usize> {
    if is_about_users(tokens) {
        return 0..tokens.len();
    }
    let words: Vec<(usize, &str)> = tokens.iter().enumerate().filter_map(word).collect();
    let Some(at) = words.iter().position(|(_, word)| announces(word)) else {
        return 0..0;
    };
    let is_one_of = |word: &str, known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    let mut statement = words
        .iter()
        .map(|(_, word)| *word)
        .skip_while(|word| is_one_of(word, PREFIXES));
    let first = statement.next().unwrap_or_default();
    let defines = is_one_of(first, &["CREATE", "ALTER"]);
    if defines && statement.take(3).any(|word| is_one_of(word, &["TABLE", "VIEW"])) {
        return 0..0;
    }
    if !is_one_of(first, HAVE_COLUMNS) {
        return words[at].0 + 1..tokens.len();
    }
    match words.get(at + 1) {
        // UPDATE USER … SET PASSWORD …, in the words of other databases.
        Some((next, _)) if first.eq_ignore_ascii_case("UPDATE") => words[at].0 + 1..next + 1,
        Some(_) | None => 0..0,
    }
}

fn word((at, token): (usize, &TokenWithSpan)) -> Option<(usize, &str)> {
    match &token.token {
        Token::Word(word) => Some((at, word.value.as_str())),
        _ => None,
    }
}

/// Whether the text makes or changes a user, anywhere in it.
fn is_about_users(tokens: &[TokenWithSpan]) -> bool {
    let words: Vec<&str> = tokens
        .iter()
        .enumerate()
        .filter_map(word)
        .map(|(_, word)| word)
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
