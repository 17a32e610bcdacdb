//! The SQL reference: every example in `docs/sql.md` is run, and there is one for every form of a statement that it lists.
//!
//! A block of ` ```sql ` holds statements, each ending with `;` at the end of a line or before a comment; they run in their order
//! in one session. `-- error: CODE` after one says that it fails, and how. A block of ` ```text ` lists forms of statements:
//! words in capitals are written so, what stands in brackets may be left out, and `|` separates what excludes one another.

use kalamdb_tests::Server;

const REFERENCE: &str = include_str!("../../../docs/sql.md");

/// The directory of the examples, which the test has elsewhere.
const STORAGE_PATH: &str = "/mnt/fast";

#[derive(Debug)]
struct Example {
    /// In the reference, from 1.
    line: usize,
    sql: String,
    error: Option<String>,
}

/// The lines of the blocks of that kind, with their numbers from 1; an empty line between blocks.
fn blocks(kind: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut within = None;
    for (line, text) in (1..).zip(REFERENCE.lines()) {
        match (within, text.strip_prefix("```")) {
            (None, Some(opened)) => within = Some(opened),
            (Some(_), Some(_)) => {
                within = None;
                found.push((line, ""));
            }
            (Some(opened), None) if opened == kind => found.push((line, text)),
            (Some(_) | None, None) => {}
        }
    }
    assert_eq!(within, None, "a block of the reference has no end");
    found
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut begun: Option<Example> = None;
    for (line, text) in blocks("sql") {
        if text.trim().is_empty() {
            assert!(begun.is_none(), "the example before line {line} does not end with ';'");
            continue;
        }
        let example = begun.get_or_insert_with(|| Example {
            line,
            sql: String::new(),
            error: None,
        });
        example.sql.push_str(text);
        example.sql.push('\n');
        let (statement, comment) = text.split_once("--").unwrap_or((text, ""));
        if statement.trim_end().ends_with(';') {
            let error = comment.trim().strip_prefix("error: ");
            let code = error.map(|code| code.split([' ', ':']).next().unwrap_or(code).to_owned());
            examples.extend(begun.take().map(|example| Example { error: code, ..example }));
        }
    }
    examples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_reference_does_what_it_says() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(&directory.path().join("data"));
    let mut root = server.root().await;
    let storage = directory.path().join("fast").display().to_string();
    let mut wrong = Vec::new();
    for Example { line, sql, error } in examples() {
        let outcome = root.run(&sql.replace(STORAGE_PATH, &storage)).await;
        let failure = outcome.err();
        if failure.as_ref().map(|failure| failure.code().to_owned()) != error {
            let found = failure.map_or("it does not fail".to_owned(), |failure| failure.to_string());
            wrong.push(format!("line {line}: {}\n    {found}", sql.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "docs/sql.md is wrong:\n{}", wrong.join("\n"));
    server.terminate();
}

/// A form of a statement.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    line: usize,
    /// What every such statement has, in this order.
    words: Vec<String>,
    /// What it may have.
    options: Vec<Vec<String>>,
}

fn forms() -> Vec<Form> {
    let mut texts: Vec<(usize, String)> = Vec::new();
    for (line, text) in blocks("text") {
        let text = text.split("--").next().unwrap_or(text);
        match texts.last_mut() {
            Some((_, form)) if text.starts_with([' ', ')']) => form.push_str(text),
            _ if text.trim().is_empty() => {}
            _ => texts.push((line, text.to_owned())),
        }
    }
    texts.iter().map(|(line, text)| form(*line, text)).collect()
}

fn form(line: usize, text: &str) -> Form {
    let mut form = Form {
        line,
        words: Vec::new(),
        options: Vec::new(),
    };
    let mut open: Vec<String> = Vec::new();
    let mut always = String::new();
    for c in text.chars() {
        match (c, open.last_mut()) {
            ('[', _) => open.push(String::new()),
            (']', Some(_)) => {
                let option = open.pop().unwrap_or_default();
                let alternatives = option.split('|').map(words).filter(|words| !words.is_empty());
                form.options.extend(alternatives);
            }
            (c, Some(option)) => option.push(c),
            (c, None) => always.push(c),
        }
    }
    assert!(open.is_empty(), "line {line}: a bracket has no end");
    form.words = words(&always);
    assert!(!form.words.is_empty(), "line {line}: {text} is no form of a statement");
    form
}

/// The words in capitals outside of literals.
fn words(text: &str) -> Vec<String> {
    let outside = text.split('\'').step_by(2);
    let words = outside.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words
        .filter(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(str::to_owned)
        .collect()
}

fn in_order(wanted: &[String], found: &[String]) -> bool {
    let mut found = found.iter();
    wanted.iter().all(|word| found.any(|other| other == word))
}

#[test]
fn every_form_in_the_reference_has_an_example() {
    let examples: Vec<Vec<String>> = examples().iter().map(|example| words(&example.sql)).collect();
    let mut missing = Vec::new();
    for Form { line, words, options } in forms() {
        let of_form = || {
            let starts = |example: &&Vec<String>| example.first() == words.first() && in_order(&words, example);
            examples.iter().filter(starts)
        };
        if of_form().next().is_none() {
            missing.push(format!("line {line}: {}", words.join(" ")));
        }
        for option in options {
            if !of_form().any(|example| in_order(&option, example)) {
                missing.push(format!("line {line}: {} … {}", words.join(" "), option.join(" ")));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/sql.md has no example of\n{}",
        missing.join("\n")
    );
}

#[test]
fn forms_are_read_as_people_read_them() {
    let check = |text: &str, words: &str, options: &[&str]| {
        let form = form(1, text);
        assert_eq!(form.words.join(" "), words, "{text}");
        let found: Vec<String> = form.options.iter().map(|option| option.join(" ")).collect();
        assert_eq!(found, options, "{text}");
    };
    check("DROP TABLE [IF EXISTS] n.t", "DROP TABLE", &["IF EXISTS"]);
    check(
        "CREATE [OR REPLACE] [USER | STREAM] TABLE n.t (a [NOT NULL]) [WITH (TYPE = 'ODD', …)]",
        "CREATE TABLE",
        &["OR REPLACE", "USER", "STREAM", "NOT NULL", "WITH TYPE"],
    );
    check("USE n", "USE", &[]);
}
