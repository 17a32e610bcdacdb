//! Planning is bounded, can be interrupted, and shows in `system.queries`.

use std::sync::Arc;

use kalamdb_core::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::interruption::Interruption;
use crate::parameters::Parameters;
use crate::planning::Planner;
use crate::statement::{self, Statement};
use crate::testing::Fixture;

/// `levels` WITH queries, each made of two of the one before.
fn doubled(levels: usize, columns: &str) -> String {
    let mut sql = "WITH c0 AS (SELECT 1 AS a)".to_owned();
    for level in 1..=levels {
        let below = level - 1;
        sql += &format!(", c{level} AS (SELECT {columns} FROM c{below} x, c{below} y)");
    }
    sql + &format!(" SELECT count(*) FROM c{levels}")
}

/// An expression put into another one so many times.
fn nested(levels: usize, innermost: &str, around: impl Fn(&str) -> String) -> String {
    (0..levels).fold(innermost.to_owned(), |inner, _| around(&inner))
}

fn of_numbers(expression: &str) -> String {
    format!("SELECT {expression} FROM generate_series(1, 3)")
}

fn projections(levels: usize) -> String {
    let below = nested(levels, "(SELECT value AS a FROM generate_series(1, 3))", |below| {
        format!("(SELECT a + a AS a FROM {below})")
    });
    format!("SELECT * FROM {below} WHERE a > 2")
}

/// 2^columns groupings.
fn cube(columns: usize) -> String {
    let numbers: Vec<String> = (0..columns).map(|column| column.to_string()).collect();
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    let (numbers, names) = (numbers.join(", "), names.join(", "));
    format!("SELECT count(*) FROM (SELECT c0 FROM (VALUES ({numbers})) AS t({names}) GROUP BY CUBE({names}))")
}

#[test]
fn a_statement_that_multiplies_itself_is_refused() {
    let fixture = Fixture::new();
    let truth = |levels| {
        nested(levels, "value > 0", |inner| {
            format!("({inner}) BETWEEN (value > 1) AND (value > 2)")
        })
    };
    let first = |levels| nested(levels, "value", |inner| format!("coalesce({inner}, value)"));
    let case = |levels| {
        nested(levels, "value > 0", |inner| {
            format!("CASE WHEN {inner} THEN value > 1 ELSE value > 2 END")
        })
    };
    for (sql, part) in [
        (doubled(16, "x.a"), "10000"),
        (doubled(40, "x.a"), "10000"),
        (doubled(14, "x.*, y.*"), "parts"),
        (of_numbers(&truth(20)), "operators"),
        (of_numbers(&first(40)), "operators"),
        (of_numbers(&case(18)), "operators"),
        (projections(18), "operators"),
        (cube(30), "operators"),
    ] {
        fixture.check_error(&sql, ErrorCode::StatementTooLarge, None, part);
        let described = fixture.block_on(fixture.database.describe(&fixture.root, &sql));
        if part != "operators" {
            assert_eq!(
                described.map(|_| ()).map_err(|error| error.code),
                Err(ErrorCode::StatementTooLarge)
            );
        }
    }
    fixture.check(&doubled(5, "x.a"), &["1"]);
    fixture.check(&doubled(3, "x.*, y.*"), &["1"]);
    fixture.check(&of_numbers(&truth(5)), &["false", "false", "true"]);
    fixture.check(&of_numbers(&first(12)), &["1", "2", "3"]);
    fixture.check(&of_numbers(&case(4)), &["false", "true", "true"]);
    fixture.check(&projections(8), &["256", "512", "768"]);
    fixture.check(&cube(3), &["8"]);
}

#[test]
fn planning_stops_when_the_statement_must() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (id BIGINT PRIMARY KEY)"]);
    let statement = |sql: &str| match statement::parse(sql) {
        Ok(Statement::Query(statement)) => *statement,
        _ => panic!("{sql}: no query"),
    };
    let cancel = CancellationToken::new();
    let interruption = Interruption::new(cancel.clone(), None);
    let planner = Planner::new(&fixture.database, &fixture.root, &interruption).expect("a planner");
    let planned = planner.plan(statement("SELECT 1 + 1"), &[]).expect("it plans");
    cancel.cancel();
    // Where the text becomes a plan, in the rules of the analyzer, and in those that come when it runs.
    let in_text = planner.plan(statement("SELECT id FROM t"), &[]).map(|_| ());
    assert_eq!(in_text.map_err(|error| error.code), Err(ErrorCode::Cancelled));
    let analyzed = planner.result_schema(&planned).map(|_| ());
    assert_eq!(analyzed.map_err(|error| error.code), Err(ErrorCode::Cancelled));
    let running = fixture.block_on(planner.run(planned)).map(|_| ());
    assert_eq!(running.map_err(|error| error.code), Err(ErrorCode::Cancelled));
}

#[test]
fn a_statement_that_is_described_is_registered() {
    let fixture = Fixture::new();
    let describe = |sql: &str| fixture.block_on(fixture.database.describe(&fixture.root, sql));
    let ended = || -> Vec<(String, &'static str, Option<&'static str>)> {
        let queries = fixture.database.queries().into_iter();
        queries
            .map(|query| (query.statement, query.status.as_str(), query.error_code))
            .collect()
    };
    assert!(describe("SELECT 1").is_ok());
    assert_eq!(ended(), []);
    assert_eq!(fixture.database.running_queries(), 0);
    assert!(describe("SELECT * FROM nope WHERE a = 'secret'").is_err());
    assert!(describe("SELEC").is_err());
    assert_eq!(
        ended(),
        [
            (
                "SELECT * FROM nope WHERE a = $1".to_owned(),
                "failed",
                Some("TABLE_NOT_FOUND")
            ),
            ("…".to_owned(), "failed", Some("SYNTAX_ERROR")),
        ]
    );
    // As when it is run.
    assert!(
        fixture
            .execute_as(
                &fixture.root,
                "SELECT * FROM nope WHERE a = 'secret'",
                Parameters::none()
            )
            .is_err()
    );
    let ended = ended();
    assert_eq!(ended[0], ended[2]);
}

#[test]
fn a_statement_is_seen_and_killed_while_it_is_described() {
    let fixture = Fixture::new();
    let sql = doubled(9, "x.a");
    // Planning may be over before anybody looks.
    let seen = (0..100).any(|_| {
        let (database, session, sql) = (Arc::clone(&fixture.database), Arc::clone(&fixture.root), sql.clone());
        let describing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            runtime.block_on(database.describe(&session, &sql)).map(|_| ())
        });
        let mut killed = false;
        while !killed && !describing.is_finished() {
            let running = fixture.database.queries().into_iter();
            let running: Vec<_> = running.filter(|query| query.finished_at_micros.is_none()).collect();
            killed = running.iter().any(|query| {
                fixture
                    .database
                    .cancel_query(&fixture.root, &query.query_id)
                    .expect("root is there")
            });
        }
        let outcome = describing.join().expect("it does not panic");
        killed && outcome.map_err(|error| error.code) == Err(ErrorCode::Cancelled)
    });
    assert!(seen);
}
