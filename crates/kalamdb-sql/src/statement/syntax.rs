//! Tokens, the parser as our grammar uses it, and syntax errors in people's words with their place in the text.

use std::fmt;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use kalamdb_core::{Error, ErrorCode, Position, Result};

use super::dialect::KalamDialect;
use crate::names::placed;
use crate::secrets;

/// How deep parentheses, subqueries and prefix operators may nest. Each level costs the parser some kilobytes of stack.
const NESTING_LIMIT: usize = 50;

/// How many brackets of any kind may be open at once. The parser counts the levels of expressions and queries by itself,
/// those of types and of some rare clauses not.
const OPEN_LIMIT: usize = 2 * NESTING_LIMIT;

/// How deep a tree may be: a chain of operators makes one that leans to the left, as deep as the chain is long, and what
/// walks or drops it recurses.
const CHAIN_LIMIT: usize = 1_000;

/// sqlparser's location; it uses line 0 for "unknown".
pub(super) fn position(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position {
        line: location.line,
        column: location.column,
    })
}

/// The tokens of a text, white space and comments included.
///
/// # Errors
/// SYNTAX_ERROR (an unterminated literal, …).
pub(super) fn tokenize(dialect: &KalamDialect, sql: &str) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(dialect, sql)
        .tokenize_with_location()
        .map_err(|failure| {
            let message = format!("syntax error: {}", lower_first(&failure.message));
            placed(Error::new(ErrorCode::SyntaxError, message), position(failure.location))
        })
}

/// Refuses text whose tree would be too deep to walk.
///
/// # Errors
/// SYNTAX_ERROR.
pub(super) fn check_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut chains = Chains::default();
    for token in tokens {
        chains.take(&token.token);
        if chains.open.len() > OPEN_LIMIT || chains.angles > NESTING_LIMIT || chains.intervals > NESTING_LIMIT {
            return Err(placed(too_deep(), position(token.span.start)));
        }
        if chains.depth() > CHAIN_LIMIT {
            let message = format!(
                "the expression is too long: more than {CHAIN_LIMIT} operators follow one another; \
                 use IN (…), VALUES or parameters instead"
            );
            return Err(placed(
                Error::new(ErrorCode::SyntaxError, message),
                position(token.span.start),
            ));
        }
    }
    Ok(())
}

fn too_deep() -> Error {
    let message = format!("the statement is nested too deeply; the limit is about {NESTING_LIMIT} levels");
    Error::new(ErrorCode::SyntaxError, message)
}

/// An upper bound of the tree's depth while tokens go by: that of all chains that are open, each inside the one before.
#[derive(Default)]
struct Chains {
    /// The text itself and every bracket that is open.
    text: Chain,
    open: Vec<(Opener, Chain)>,
    /// The keyword just gone by.
    before: Option<Keyword>,
    /// `ARRAY<`, `STRUCT<` and `MAP<` that are open.
    angles: usize,
    /// INTERVALs in a row, each the value of the one before.
    intervals: usize,
}

/// What stands between two brackets. A chain of one operator leans to the left: it is as deep as it is long, on top of the
/// deepest of its operands.
#[derive(Default)]
struct Chain {
    /// ORs since the last comma.
    ors: usize,
    /// ANDs since the last OR, and the most that stood before one.
    ands: usize,
    most_ands: usize,
    /// Other operators since the last AND or OR, and the most that stood before one.
    others: usize,
    most_others: usize,
    /// The deepest bracket that was closed since the last comma.
    bracket: usize,
    /// The deepest of what commas ended.
    item: usize,
    /// UNION, JOIN and the like, which a comma does not end.
    sets: usize,
}

impl Chain {
    fn depth(&self) -> usize {
        self.sets + self.item.max(self.item_depth())
    }

    fn item_depth(&self) -> usize {
        self.ors + self.most_ands.max(self.ands) + self.most_others.max(self.others) + self.bracket
    }

    fn and(&mut self) {
        self.ands += 1;
        self.most_others = self.most_others.max(self.others);
        self.others = 0;
    }

    fn or(&mut self) {
        self.ors += 1;
        self.most_ands = self.most_ands.max(self.ands);
        self.most_others = self.most_others.max(self.others);
        (self.ands, self.others) = (0, 0);
    }

    fn comma(&mut self) {
        *self = Chain {
            item: self.item.max(self.item_depth()),
            sets: self.sets,
            ..Chain::default()
        };
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Opener {
    Bracket,
    Case,
}

impl Chains {
    fn depth(&self) -> usize {
        self.text.depth() + self.open.iter().map(|(_, chain)| chain.depth()).sum::<usize>()
    }

    fn take(&mut self, token: &Token) {
        let keyword = match token {
            Token::Whitespace(_) => return,
            Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
            _ => None,
        };
        let before = std::mem::replace(&mut self.before, keyword);
        self.intervals = match keyword {
            Some(Keyword::INTERVAL) => self.intervals + 1,
            _ => 0,
        };
        match token {
            Token::Lt if matches!(before, Some(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)) => self.angles += 1,
            Token::Gt => self.angles = self.angles.saturating_sub(1),
            Token::ShiftRight => self.angles = self.angles.saturating_sub(2),
            _ if matches!(keyword, Some(Keyword::AND | Keyword::OR)) => self.angles = 0,
            _ => {}
        }
        match token {
            Token::LParen | Token::LBrace => self.open(Opener::Bracket),
            Token::LBracket => {
                self.last().others += 1;
                self.open(Opener::Bracket);
            }
            Token::RParen | Token::RBrace | Token::RBracket => {
                // A CASE without END ends here, too.
                while self.is_in(Opener::Case) {
                    self.close();
                }
                self.close();
            }
            Token::Comma | Token::SemiColon => self.last().comma(),
            Token::Word(_) => self.keyword(keyword.unwrap_or(Keyword::NoKeyword)),
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::EOF => {}
            // Every other token is an operator, `::` included, or is no SQL at all.
            _ => self.last().others += 1,
        }
    }

    fn keyword(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::CASE => self.open(Opener::Case),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE if self.is_in(Opener::Case) => self.last().comma(),
            Keyword::END if self.is_in(Opener::Case) => self.close(),
            Keyword::AND => self.last().and(),
            Keyword::OR => self.last().or(),
            Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::PIVOT
            | Keyword::UNPIVOT
            | Keyword::MATCH_RECOGNIZE => self.last().sets += 1,
            Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::NOTNULL
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::OVERLAPS
            | Keyword::AT
            | Keyword::COLLATE
            | Keyword::REGEXP
            | Keyword::RLIKE
            | Keyword::MEMBER
            | Keyword::DIV => self.last().others += 1,
            _ => {}
        }
    }

    fn last(&mut self) -> &mut Chain {
        self.open.last_mut().map_or(&mut self.text, |(_, chain)| chain)
    }

    fn is_in(&self, opener: Opener) -> bool {
        self.open.last().is_some_and(|(last, _)| *last == opener)
    }

    fn open(&mut self, opener: Opener) {
        self.open.push((opener, Chain::default()));
    }

    fn close(&mut self) {
        if let Some((_, closed)) = self.open.pop() {
            let outer = self.last();
            outer.bracket = outer.bracket.max(closed.depth() + 1);
        }
    }
}

/// A text under the parser.
pub(super) struct Source<'a> {
    parser: Parser<'a>,
    sql: &'a str,
    subject: Option<Position>,
}

impl<'a> Source<'a> {
    pub(super) fn new(dialect: &'a KalamDialect, sql: &'a str, tokens: Vec<TokenWithSpan>) -> Self {
        let parser = Parser::new(dialect)
            .with_recursion_limit(NESTING_LIMIT)
            .with_tokens_with_locations(tokens);
        Source {
            parser,
            sql,
            subject: None,
        }
    }

    /// Notes that the one name that the statement is about comes next.
    pub(super) fn subject_is_next(&mut self) {
        self.subject = self.position();
    }

    /// Where the one name stands that the statement is about, if it is of that sort.
    pub(super) fn subject(&self) -> Option<Position> {
        self.subject
    }

    /// The whole text.
    pub(super) fn sql(&self) -> &'a str {
        self.sql
    }

    /// Lets sqlparser parse on from here.
    pub(super) fn call<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        parse(&mut self.parser).map_err(|failure| self.translate(failure))
    }

    /// Where the next token is.
    pub(super) fn position(&self) -> Option<Position> {
        position(self.parser.peek_token_ref().span.start)
    }

    /// Where the next token starts in the text, in bytes.
    pub(super) fn offset(&self) -> usize {
        let token = self.parser.peek_token_ref();
        match token.token {
            Token::EOF => self.sql.len(),
            _ => Lines::new(self.sql).offset(token.span.start),
        }
    }

    /// The n-th next token, if it is an unquoted word, in upper case.
    pub(super) fn word(&self, n: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// The next token.
    pub(super) fn token(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    /// The n-th next token.
    pub(super) fn token_at(&self, n: usize) -> &Token {
        &self.parser.peek_nth_token_ref(n).token
    }

    /// Whether these words come next.
    pub(super) fn sees(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| self.word(n).as_deref() == Some(*word))
    }

    /// Takes these words, if they all come next.
    pub(super) fn eat(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            for _ in words {
                self.parser.advance_token();
            }
        }
        seen
    }

    /// Takes one of these words, if one comes next.
    pub(super) fn eat_one(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.eat(&[word]))
    }

    /// Takes the token, if it comes next.
    pub(super) fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    /// Takes these words.
    ///
    /// # Errors
    /// SYNTAX_ERROR.
    pub(super) fn expect(&mut self, words: &[&str]) -> Result<()> {
        if self.eat(words) {
            Ok(())
        } else {
            Err(self.unexpected(&words.join(" ")))
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// SYNTAX_ERROR.
    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{token}'")))
        }
    }

    /// Takes an identifier.
    ///
    /// # Errors
    /// SYNTAX_ERROR says what was expected instead.
    pub(super) fn identifier(&mut self, what: &str) -> Result<ast::Ident> {
        match self.token() {
            Token::Word(_) => self.call(|parser| parser.parse_identifier()),
            _ => Err(self.unexpected(what)),
        }
    }

    /// Takes a name of one to three parts.
    ///
    /// # Errors
    /// SYNTAX_ERROR and those of [`super::object_name`].
    pub(super) fn object_name(&mut self, what: &str) -> Result<super::ObjectName> {
        match self.token() {
            Token::Word(_) => {
                let name = self.call(|parser| parser.parse_object_name(false))?;
                super::object_name(&name)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// Takes a string literal, if one comes next.
    pub(super) fn eat_string(&mut self) -> Option<String> {
        let text = match self.token() {
            Token::SingleQuotedString(text)
            | Token::EscapedStringLiteral(text)
            | Token::UnicodeStringLiteral(text)
            | Token::NationalStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(text) => text.value.clone(),
            _ => return None,
        };
        self.parser.advance_token();
        Some(text)
    }

    /// Takes a string literal.
    ///
    /// # Errors
    /// SYNTAX_ERROR says what was expected instead.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        self.eat_string().ok_or_else(|| self.unexpected(what))
    }

    /// Takes an unsigned number, as written.
    pub(super) fn eat_number(&mut self) -> Option<String> {
        let Token::Number(digits, _) = self.token() else {
            return None;
        };
        let digits = digits.clone();
        self.parser.advance_token();
        Some(digits)
    }

    /// The error that something else was expected here.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let token = self.parser.peek_token_ref();
        self.syntax_error(&token.token.to_string(), expected, position(token.span.start))
    }

    /// An error about the next token.
    pub(super) fn here(&self, code: ErrorCode, message: impl Into<String>) -> Error {
        placed(Error::new(code, message), self.position())
    }

    /// Takes the semicolons at the end.
    ///
    /// # Errors
    /// SYNTAX_ERROR where the statement goes on, INVALID_STATEMENT where another one follows.
    pub(super) fn expect_end(&mut self) -> Result<()> {
        let mut ended = false;
        while self.eat_token(&Token::SemiColon) {
            ended = true;
        }
        match self.token() {
            Token::EOF => Ok(()),
            _ if ended => Err(self.here(
                ErrorCode::InvalidStatement,
                "one statement at a time: here a second one starts",
            )),
            _ => Err(self.unexpected("the end of the statement")),
        }
    }

    fn translate(&self, failure: ParserError) -> Error {
        match failure {
            ParserError::RecursionLimitExceeded => too_deep(),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                let (message, position) = cut_position(&message);
                let expected = message
                    .strip_prefix("Expected: ")
                    .or_else(|| message.strip_prefix("Expected "));
                match expected.and_then(|rest| rest.rsplit_once(", found: ")) {
                    Some((expected, found)) => self.syntax_error(found, expected, position),
                    None => {
                        let message = format!("syntax error: {}", lower_first(message));
                        placed(Error::new(ErrorCode::SyntaxError, message), position)
                    }
                }
            }
        }
    }

    fn syntax_error(&self, found: &str, expected: &str, at: Option<Position>) -> Error {
        let dialect = KalamDialect::for_text(self.sql);
        // It did tokenize before.
        let tokens = tokenize(&dialect, self.sql).unwrap_or_default();
        // A password may stand in the wrong place, or without its quotes.
        let hides_words = !secrets::hidden(&tokens).is_empty();
        let found_place = match found {
            "EOF" => "at the end of the text".to_string(),
            _ if found.starts_with(char::is_control) => unprintable(found),
            _ if hides_words && !secrets::is_grammar(found) => "here".to_string(),
            _ => format!("at '{}'", Shortened(found)),
        };
        let spoken: Vec<&TokenWithSpan> = tokens
            .iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        let reached = |token: &TokenWithSpan| match at {
            Some(at) => (token.span.start.line, token.span.start.column) <= (at.line, at.column),
            None => true,
        };
        let before = &spoken[..spoken.partition_point(|token| reached(token))];
        // sqlparser sometimes tells the place of the token after the one it found.
        let (before, at) = match before.iter().rposition(|token| token.token.to_string() == found) {
            Some(index) => (&before[..=index], position(before[index].span.start)),
            None => (
                before,
                at.or_else(|| before.last().and_then(|last| position(last.span.end))),
            ),
        };
        // The word at this place; or, where the statement should have ended, the one before it, which was taken for a name.
        let misread = if expected.contains("end of") { 2 } else { 1 };
        let meant = before.iter().rev().take(misread).find_map(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                let keyword = nearest_keyword(&word.value.to_ascii_uppercase())?;
                Some(match hides_words {
                    true => format!("; did you mean {keyword}?"),
                    false => format!("; did you mean {keyword} instead of {}?", word.value),
                })
            }
            _ => None,
        });
        let hint = match found.to_ascii_uppercase().as_str() {
            "CHECK" | "COMPACT" if expected == "a statement" => {
                format!("; did you mean STORAGE {}?", found.to_ascii_uppercase())
            }
            _ => meant.unwrap_or_default(),
        };
        let message = format!("syntax error {found_place}: expected {expected}{hint}");
        placed(Error::new(ErrorCode::SyntaxError, message), at)
    }
}

/// A character that no screen shows, and SQL has outside of literals only as white space.
fn unprintable(found: &str) -> String {
    let code = found.chars().next().map_or(0, u32::from);
    let name = if code == 0 { " (a NUL byte)" } else { "" };
    format!("at the character U+{code:04X}{name}, which may stand in literals alone")
}

/// The place of the first of these unquoted words in the text: where a clause that the tree gives no place for stands.
pub(super) fn find_word(sql: &str, words: &[&str]) -> Option<Position> {
    let dialect = KalamDialect::for_text(sql);
    let tokens = tokenize(&dialect, sql).ok()?; // It did tokenize before.
    let found = tokens.iter().find(|token| match &token.token {
        Token::Word(word) => {
            word.quote_style.is_none() && words.iter().any(|wanted| word.value.eq_ignore_ascii_case(wanted))
        }
        _ => false,
    });
    found.and_then(|token| position(token.span.start))
}

/// Byte offsets of sqlparser's locations, asked for in ascending order.
pub(super) struct Lines<'a> {
    rest: std::str::CharIndices<'a>,
    length: usize,
    line: u64,
    column: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(sql: &'a str) -> Self {
        Lines {
            rest: sql.char_indices(),
            length: sql.len(),
            line: 1,
            column: 1,
        }
    }

    pub(super) fn offset(&mut self, location: Location) -> usize {
        while (self.line, self.column) < (location.line, location.column) {
            match self.rest.next() {
                Some((_, '\n')) => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => return self.length,
            }
        }
        self.rest.offset()
    }
}

/// Words that start clauses and statements, for "did you mean".
const KEYWORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "DISTINCT",
    "INNER",
    "OUTER",
    "CROSS",
    "NATURAL",
    "JOIN",
    "USING",
    "VALUES",
    "INSERT",
    "INTO",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "TRUNCATE",
    "TABLE",
    "NAMESPACE",
    "SCHEMA",
    "SHARED",
    "STREAM",
    "PRIMARY",
    "DEFAULT",
    "NULL",
    "EXISTS",
    "CASCADE",
    "EXPLAIN",
    "ANALYZE",
    "VERBOSE",
    "DESCRIBE",
    "SHOW",
    "TABLES",
    "NAMESPACES",
    "COLUMNS",
    "WITH",
    "PASSWORD",
    "INTERVAL",
    "POLICY",
    "FLUSH",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
];

fn nearest_keyword(word: &str) -> Option<&'static str> {
    if KEYWORDS.contains(&word) || word.len() < 3 {
        return None;
    }
    let allowed = if word.len() < 6 { 1 } else { 2 };
    KEYWORDS
        .iter()
        .map(|keyword| (strsim::osa_distance(word, keyword), *keyword))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, keyword)| keyword)
}

/// sqlparser ends its messages with ` at Line: 1, Column: 2`.
fn cut_position(message: &str) -> (&str, Option<Position>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else {
        return (message, None);
    };
    let numbers = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    match numbers {
        Some((line, column)) => (text, position(Location { line, column })),
        None => (message, None),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// At most so much of a token is shown: a literal may be megabytes.
const SHOWN_CHARACTERS: usize = 40;

struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
