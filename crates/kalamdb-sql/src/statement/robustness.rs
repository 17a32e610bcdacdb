//! No text makes the parser panic, hang or run out of stack, and a literal that holds a statement stays a literal.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Value};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::tests::{BAD, GOOD, shown};
use super::*;

use ErrorCode::SyntaxError;

/// Cases of an ordinary run; `PROPTEST_CASES=5000000` makes it a long one.
const MUTATIONS: u32 = 20_000;

/// What no parse comes near: a text that takes so long is one that never ends.
const FOREVER: Duration = Duration::from_secs(60);

/// The server's query threads have so much stack.
const QUERY_STACK: usize = 8 << 20;

fn with_a_query_threads_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(QUERY_STACK)
        .spawn(test)
        .expect("a thread");
    thread.join().expect("the test panicked");
}

#[test]
fn depth_is_bounded() {
    with_a_query_threads_stack(deep_text_is_refused);
}

/// In time, too: an exponential parser would not end.
fn deep_text_is_refused() {
    let refused = |sql: String| match parse(&sql) {
        Ok(_) => panic!("{}… parses", &sql[..sql.len().min(80)]),
        Err(error) => assert_eq!(error.code, SyntaxError, "{error}"),
    };
    for depth in [60, 100_000] {
        refused(format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)));
        refused(format!("SELECT {}1", "- ".repeat(depth)));
        refused(format!("SELECT {}1", "NOT ".repeat(depth)));
        refused(format!("SELECT {}1{}", "f(".repeat(depth), ")".repeat(depth)));
        refused(format!("SELECT {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth)));
        refused(format!("SELECT * FROM {}t{}", "(".repeat(depth), ")".repeat(depth)));
        refused(format!("SELECT {}", "CASE WHEN ".repeat(depth)));
        refused(format!(
            "CREATE TABLE t (a {}INT{})",
            "ARRAY<".repeat(depth),
            ">".repeat(depth)
        ));
    }
    for broken in [
        "CAST(",
        "f(",
        "EXTRACT(",
        "CASE WHEN ",
        "a IN (",
        "EXISTS (SELECT ",
        "ARRAY[",
        "{'a': ",
    ] {
        refused(format!("SELECT {}", broken.repeat(45)));
        refused(format!("SELECT {}", broken.repeat(20)));
    }
    refused(format!("SELECT {}1", "INTERVAL ".repeat(100_000)));
    refused(format!("SELECT a{}", "::STRUCT<a INT, b ".repeat(100_000)));
    refused(format!("SELECT a{}", "::STRUCT(a INT, b ".repeat(100_000)));
    refused(format!("SELECT CAST(a AS {}", "STRUCT(a MAP(INT, ".repeat(100_000)));
    refused(format!("SELECT a{}", "::INT[]".repeat(100_000)));
    refused(format!("SELECT a{}", " ? b".repeat(100_000)));
    refused(format!("SELECT a::{}", "TABLE(a ".repeat(100_000)));
    refused(format!(
        "SELECT * FROM a{}",
        " PIVOT(sum(b) FOR c IN (1))".repeat(100_000)
    ));
    refused(format!("SELECT * FROM a{}", " JOIN b".repeat(100_000)));
    refused(format!("SELECT 1{}", " OR 1".repeat(100_000)));
    refused(format!("SELECT 1{}", "+(1)".repeat(100_000)));
    refused(format!("SELECT 1{}", "::INT".repeat(100_000)));
    refused(format!("SELECT x{}", " || [1, 2]".repeat(100_000)));
    refused(format!(
        "SELECT x{}",
        " || CASE WHEN a THEN b ELSE c END".repeat(100_000)
    ));
    refused(format!("SELECT 1{}", " UNION ALL SELECT 1, 2".repeat(100_000)));
    refused(format!("CREATE TABLE t (a INT{})", "[]".repeat(100_000)));
    // Each bracket is the first operand of a chain: their depths add up.
    let chain = "+1".repeat(600);
    refused(format!("SELECT ((1{chain}){chain})"));
    refused(format!("SELECT ((1{chain}), 1){chain}"));
}

#[test]
fn wide_text_is_fine() {
    with_a_query_threads_stack(wide_text_is_accepted);
}

fn wide_text_is_accepted() {
    let accepted = |sql: String| {
        let statement = parse(&sql).expect("it parses");
        // Walking and dropping the tree recurse as deep as it is.
        assert!(!shown(&statement.clone()).is_empty());
    };
    accepted(format!("SELECT 1{}", " OR (a = 1 AND b = -2)".repeat(900)));
    accepted(format!("SELECT 1{}", " OR a = 1 AND b = -2".repeat(900)));
    accepted(format!("SELECT 1 WHERE a IN (1{})", ", 1 + 1".repeat(50_000)));
    accepted(format!("INSERT INTO t VALUES (1, -1){}", ", (1, -1)".repeat(50_000)));
    accepted(format!(
        "SELECT CASE {} END",
        "WHEN a = 1 AND b > 2 THEN 3 ".repeat(3_000)
    ));
    accepted(format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(900)));
    accepted(format!("SELECT {}1{}", "f(".repeat(20), ")".repeat(20)));
    accepted(format!("SELECT {}1{}", "CAST(".repeat(12), " AS INT)".repeat(12)));
}

/// Pieces that open, close, quote or turn a statement into another.
const WORDS: &[&str] = &[
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "?",
    "$1",
    "--",
    "/*",
    "*/",
    "SELECT",
    "FROM",
    "WITH",
    "NOT",
    "NULL",
    "PRIMARY KEY",
    "=",
    "::",
    "[",
    "]",
    "{",
    "CASE",
    "END",
    "IN",
    "AS",
    "1",
    "'x'",
    "é",
    "\u{0}",
    ".",
    "*",
    "-",
    "TABLE",
    "USER",
    "DEFAULT",
    "$$",
    "E'",
    "U&'",
    "X'",
    "\n",
    "INTERVAL",
    "UNION",
    "ON",
    "SET",
];

/// One change of a text; places are fractions of its length.
#[derive(Clone, Debug)]
enum Mutation {
    Remove(Index, Index),
    CutOff(Index),
    Insert(Index, Index),
    InsertWord(Index, Index),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        (place(), place()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        place().prop_map(Mutation::CutOff),
        (place(), place()).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (place(), place()).prop_map(|(at, word)| Mutation::InsertWord(at, word)),
        (place(), place()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutated(text: &str, mutations: &[Mutation]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for mutation in mutations {
        let place = |index: &Index| index.index(letters.len() + 1);
        match mutation {
            Mutation::Remove(at, length) => {
                let from = place(at);
                let to = letters.len().min(from + length.index(8) + 1);
                drop(letters.drain(from..to));
            }
            Mutation::CutOff(at) => letters.truncate(place(at)),
            Mutation::Insert(at, word) => {
                let at = place(at);
                drop(letters.splice(at..at, word.get(WORDS).chars()));
            }
            Mutation::InsertWord(at, word) => {
                let at = place(at);
                let word: Vec<char> = format!(" {} ", word.get(WORDS)).chars().collect();
                drop(letters.splice(at..at, word));
            }
            Mutation::Repeat(from, to) => {
                let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
                let copy = letters[from..to].to_vec();
                drop(letters.splice(to..to, copy));
            }
        }
    }
    letters.into_iter().collect()
}

/// The statements of the repository's own `.slt` files.
fn logic_texts() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slt");
    let files = std::fs::read_dir(&directory).expect("the directory is there");
    let mut texts = Vec::new();
    for file in files {
        let path = file.expect("an entry can be read").path();
        if path.extension().is_none_or(|extension| extension != "slt") {
            continue;
        }
        let content = std::fs::read_to_string(&path).expect("the file can be read");
        for record in content.split("\n\n") {
            let lines = record.lines().skip_while(|line| line.starts_with('#'));
            let mut lines = lines.skip_while(|line| line.starts_with("connection"));
            if lines
                .next()
                .is_some_and(|line| line.starts_with("statement") || line.starts_with("query"))
            {
                texts.push(lines.take_while(|line| *line != "----").collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(
        texts.len() > 100,
        "{} statements in {}",
        texts.len(),
        directory.display()
    );
    texts.sort();
    texts
}

/// Whatever is done to a text, parsing gives a statement or an error.
#[test]
fn mutilated_texts_never_panic_or_hang() {
    let mut texts = logic_texts();
    texts.extend(GOOD.iter().map(|(sql, _)| (*sql).to_owned()));
    texts.extend(BAD.iter().map(|(sql, ..)| (*sql).to_owned()));
    let cases = (prop::sample::select(texts), prop::collection::vec(mutation(), 1..=4));
    let cases = cases.prop_map(|(text, mutations)| mutated(&text, &mutations));
    // Each text is told before it is parsed, so that the one that never ends is known.
    let (told, texts) = mpsc::channel::<String>();
    let parser = std::thread::Builder::new()
        .stack_size(QUERY_STACK)
        .spawn(move || {
            let mut config = ProptestConfig::default();
            if std::env::var_os("PROPTEST_CASES").is_none() {
                config.cases = MUTATIONS;
            }
            config.failure_persistence = None;
            TestRunner::new(config).run(&cases, |sql| {
                told.send(sql.clone())
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                if let Err(error) = parse_whole(&sql) {
                    prop_assert!(!error.message.is_empty());
                }
                if let Ok(statements) = split(&sql) {
                    prop_assert!(statements.iter().all(|statement| sql.contains(statement.as_str())));
                }
                Ok(())
            })
        })
        .expect("a thread");
    let mut last = String::new();
    loop {
        match texts.recv_timeout(FOREVER) {
            Ok(text) => last = text,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("parsing does not end: {last}"),
        }
    }
    match parser.join() {
        Ok(outcome) => outcome.unwrap_or_else(|failure| panic!("{failure}")),
        Err(_) => panic!("parsing panics: {last}"),
    }
}

/// Every statement, the refused ones too, as the value of a literal of each form that holds it.
#[test]
fn a_statement_in_a_literal_is_a_literal() {
    let mut texts = logic_texts();
    texts.extend(GOOD.iter().map(|(sql, _)| (*sql).to_owned()));
    texts.extend(BAD.iter().map(|(sql, ..)| (*sql).to_owned()));
    texts.extend(["'; DROP TABLE t; --", "$1 ? $tag$", "/* ' */ -- ;", "\\'; SELECT 1"].map(str::to_owned));
    for text in texts {
        let doubled = text.replace('\'', "''");
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
        for literal in [
            format!("'{doubled}'"),
            format!("E'{escaped}'"),
            format!("$literal${text}$literal$"),
        ] {
            for sql in [format!("SELECT {literal}"), format!("SELECT {literal};")] {
                assert_eq!(only_literal(&sql).as_deref(), Some(text.as_str()), "{sql}");
            }
            let one = split(&format!("SELECT {literal}; SELECT {literal}")).expect("it tokenizes");
            assert_eq!(one, [format!("SELECT {literal}"), format!("SELECT {literal}")]);
        }
    }
}

/// The value of the one literal that a SELECT of nothing else has.
fn only_literal(sql: &str) -> Option<String> {
    let statement = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let Statement::Query(statement) = statement else {
        return None;
    };
    let ast::Statement::Query(query) = *statement else {
        return None;
    };
    let SetExpr::Select(select) = *query.body else {
        return None;
    };
    let [SelectItem::UnnamedExpr(Expr::Value(value))] = select.projection.as_slice() else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
        Value::DollarQuotedString(text) => Some(text.value.clone()),
        _ => None,
    }
}
