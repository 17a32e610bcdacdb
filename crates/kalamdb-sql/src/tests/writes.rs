//! INSERT, UPDATE and DELETE.

use std::sync::Arc;

use arrow::array::{Array, Int32Array};

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};
use kalamdb_core::ErrorCode;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY, a BIGINT DEFAULT 7, b TEXT, c DECIMAL(38, 10))"]);
    fixture
}

const ALL: &str = "SELECT * FROM t ORDER BY id";

#[test]
fn rows_are_inserted_with_defaults() {
    let fixture = fixture();
    let none = Parameters::none;
    fixture.check_count(
        "INSERT INTO t VALUES (1, 2, 'x', 1.5), (2, DEFAULT, NULL, -0.5)",
        none(),
        2,
    );
    fixture.check_count("INSERT INTO t (b, id) VALUES (upper('y'), 1 + 2)", none(), 1);
    fixture.check_count(
        "INSERT INTO t (id) SELECT value + 3 FROM generate_series(1, 2)",
        none(),
        2,
    );
    fixture.check_count(
        "INSERT INTO t (id, a) VALUES ((SELECT max(id) + 1 FROM t), (SELECT count(*) FROM t))",
        none(),
        1,
    );
    fixture.check_count("INSERT INTO t SELECT id + 10, a, b, c FROM t WHERE id = 1", none(), 1);
    fixture.check(
        ALL,
        &[
            "1|2|x|1.5000000000",
            "2|7|NULL|-0.5000000000",
            "3|7|Y|NULL",
            "4|7|NULL|NULL",
            "5|7|NULL|NULL",
            "6|5|NULL|NULL",
            "11|2|x|1.5000000000",
        ],
    );
    fixture.run(&["CREATE TABLE d (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), at TIMESTAMP DEFAULT NOW(), who TEXT DEFAULT CURRENT_USER)"]);
    fixture.check_count("INSERT INTO d DEFAULT VALUES", none(), 1);
    fixture.check_count("INSERT INTO d (who) VALUES ('x'), (DEFAULT), (NULL)", none(), 3);
    fixture.check(
        "SELECT count(DISTINCT id), count(DISTINCT at), count(*), count(who) FROM d",
        &["4|1|4|3"],
    );
}

#[test]
fn literals_reach_their_column_exactly() {
    let fixture = fixture();
    fixture.run(&[
        "INSERT INTO t (id, c) VALUES (1, 12345678901234567890.0123456789), (2, -0.0000000001), (3, 1e3)",
        "INSERT INTO t (id, c) SELECT 4, 12345678901234567890.0123456789",
        "INSERT INTO t (id, c) VALUES (5, 0)",
        "UPDATE t SET c = 1234567890.0987654321 WHERE id = 5",
        "INSERT INTO t (id, c) VALUES (6, 12345678901234567890.0123456788 + 0.0000000001)",
    ]);
    fixture.check(
        "SELECT id, c FROM t ORDER BY id",
        &[
            "1|12345678901234567890.0123456789",
            "2|-0.0000000001",
            "3|1000.0000000000",
            "4|12345678901234567890.0123456789",
            "5|1234567890.0987654321",
            "6|12345678901234567890.0123456789",
        ],
    );
    fixture.check(
        "SELECT id FROM t WHERE c = 12345678901234567890.0123456789 ORDER BY id",
        &["1", "4", "6"],
    );
    fixture.check("SELECT id FROM t WHERE c = 12345678901234567890.0123456788", &[]);
    fixture.run(&[
        "CREATE TABLE kinds (id INT PRIMARY KEY, bytes BYTEA, day DATE, at TIMESTAMP, tz TIMESTAMP WITH TIME ZONE, flag BOOLEAN, big BIGINT UNSIGNED, f DOUBLE)",
        "INSERT INTO kinds VALUES (1, '\\x00ff', '2024-02-29', '2024-02-29 12:30:00.5', '2024-02-29 12:30:00+02:00', true, 18446744073709551615, 0.1)",
    ]);
    fixture.check(
        "SELECT bytes, day, at, tz, flag, big, f FROM kinds",
        &["00ff|2024-02-29|2024-02-29T12:30:00.500|2024-02-29T10:30:00Z|true|18446744073709551615|0.1"],
    );
    fixture.check(
        "SELECT id FROM kinds WHERE bytes = '\\x00ff' AND bytes = X'00ff' AND bytes IN ('\\x01', '\\x00FF')",
        &["1"],
    );
    fixture.check("SELECT id FROM kinds WHERE bytes = '\\x00fe'", &[]);
    fixture.check("SELECT '\\x0041'::BYTEA", &["0041"]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let fixture = fixture();
    fixture.run(&[
        "INSERT INTO t VALUES (1, 1, 'one', 1)",
        "CREATE TABLE n (id INT PRIMARY KEY, a TEXT NOT NULL)",
    ]);
    let mismatch = |sql: &str, part: &str| fixture.check_error_part(sql, ErrorCode::TypeMismatch, part);
    mismatch(
        "INSERT INTO t (id) VALUES (5), (3000000000)",
        "3000000000 (row 2) does not fit column id (INTEGER)",
    );
    mismatch("INSERT INTO t (id) VALUES (1.5)", "column id");
    mismatch("INSERT INTO t (id) VALUES ('abc')", "'abc'");
    mismatch(
        "INSERT INTO t (id, c) VALUES (5, 0.00000000001)",
        "column c (DECIMAL(38, 10))",
    );
    mismatch("INSERT INTO t (id) SELECT 3000000000", "column id");
    mismatch("INSERT INTO t (id) VALUES (true)", "column id");
    mismatch("UPDATE t SET id = 3000000000", "column id");
    mismatch("UPDATE t SET a = 'x'", "column a");
    mismatch("INSERT INTO t (id, a) SELECT 6, b FROM t", "'one'");
    fixture.check_error(
        "INSERT INTO t VALUES (2, 1, 'x', 1), (1, 1, 'y', 1)",
        ErrorCode::DuplicateKey,
        None,
        "1",
    );
    fixture.check_error(
        "INSERT INTO n VALUES (1, 'x'), (2, NULL)",
        ErrorCode::NotNullViolation,
        Some((1, 36)),
        "a",
    );
    fixture.check_error(
        "INSERT INTO t (id, a) VALUES (1)",
        ErrorCode::InvalidStatement,
        Some((1, 31)),
        "public.t has 2 columns but 1 value",
    );
    fixture.check_error(
        "INSERT INTO t VALUES (1)",
        ErrorCode::InvalidStatement,
        Some((1, 23)),
        "public.t has 4 columns but 1 value",
    );
    fixture.check_error(
        "INSERT INTO t (id, id) VALUES (1, 1)",
        ErrorCode::InvalidStatement,
        Some((1, 20)),
        "twice",
    );
    fixture.check_error(
        "INSERT INTO t (id, idd) VALUES (1, 1)",
        ErrorCode::ColumnNotFound,
        Some((1, 20)),
        "did you mean id?",
    );
    fixture.check_error(
        "INSERT INTO t (id, _seq) VALUES (1, 1)",
        ErrorCode::InvalidStatement,
        Some((1, 20)),
        "_seq",
    );
    fixture.check_error(
        "UPDATE t SET _updated = NULL",
        ErrorCode::InvalidStatement,
        Some((1, 14)),
        "_updated",
    );
    fixture.check_error("UPDATE t SET zz = 1", ErrorCode::ColumnNotFound, Some((1, 14)), "zz");
    fixture.check_error(
        "DELETE FROM t WHERE zz = 1",
        ErrorCode::ColumnNotFound,
        Some((1, 21)),
        "zz",
    );
    fixture.check_error(
        "INSERT INTO tt VALUES (1)",
        ErrorCode::TableNotFound,
        Some((1, 13)),
        "did you mean public.t?",
    );
    fixture.check_error(
        "UPDATE t SET a = 1 / 0",
        ErrorCode::InvalidArgument,
        Some((1, 18)),
        "division by zero",
    );
    fixture.check_error(
        "INSERT INTO system.users (user_id) VALUES ('x')",
        ErrorCode::InvalidStatement,
        Some((1, 13)),
        "CREATE USER",
    );
    fixture.check_error(
        "DELETE FROM system.users",
        ErrorCode::InvalidStatement,
        Some((1, 13)),
        "by DELETE; use CREATE USER",
    );
    fixture.check_error(
        "UPDATE system.queries SET rows = 0",
        ErrorCode::InvalidStatement,
        Some((1, 8)),
        "by UPDATE",
    );
    fixture.check(ALL, &["1|1|one|1.0000000000"]);
    fixture.check("SELECT * FROM n", &[]);
}

#[test]
fn rows_are_updated_by_any_predicate() {
    let fixture = fixture();
    let none = Parameters::none;
    fixture.run(&[
        "INSERT INTO t VALUES (1, 1, 'a', 1), (2, 2, 'b', 2), (3, 3, 'c', 3)",
        "CREATE TABLE u (id INT PRIMARY KEY, v BIGINT)",
        "INSERT INTO u VALUES (1, 100), (3, 300)",
    ]);
    fixture.check_count("UPDATE t SET a = a + 1, b = b || '!' WHERE id >= 2", none(), 2);
    fixture.check("SELECT id, a, b FROM t ORDER BY id", &["1|1|a", "2|3|b!", "3|4|c!"]);
    fixture.check_count(
        "UPDATE t AS x SET a = (SELECT v FROM u WHERE u.id = x.id) WHERE x.id IN (SELECT id FROM u)",
        none(),
        2,
    );
    fixture.check("SELECT id, a FROM t ORDER BY id", &["1|100", "2|3", "3|300"]);
    fixture.check_count("UPDATE t SET a = u.v + 1 FROM u WHERE u.id = t.id", none(), 2);
    fixture.check("SELECT id, a FROM t ORDER BY id", &["1|101", "2|3", "3|301"]);
    fixture.check_count("UPDATE t SET a = DEFAULT, b = NULL WHERE id = 2", none(), 1);
    fixture.check("SELECT id, a, b FROM t WHERE id = 2", &["2|7|NULL"]);
    fixture.check_count("UPDATE t SET id = id + 1", none(), 3);
    fixture.check("SELECT id FROM t ORDER BY id", &["2", "3", "4"]);
    fixture.check_error("UPDATE t SET id = 9", ErrorCode::DuplicateKey, None, "");
    fixture.check_count("UPDATE t SET a = 0 WHERE false", none(), 0);
    fixture.check_count("UPDATE t SET a = 0 WHERE _seq < 0", none(), 0);
    fixture.check_count(
        "UPDATE public.t SET a = 1 WHERE public.t.id = 2 AND t._seq > 0",
        none(),
        1,
    );
    fixture.check_count("DELETE FROM t WHERE false", none(), 0);
    fixture.check_count("DELETE FROM t WHERE id IN (SELECT id FROM u)", none(), 1);
    fixture.check_count("DELETE FROM t USING u WHERE u.id = t.id - 3", none(), 1);
    fixture.check("SELECT id FROM t", &["2"]);
    fixture.check_count("DELETE FROM t", none(), 1);
    fixture.check("SELECT count(*) FROM t", &["0"]);
}

#[test]
fn a_row_that_several_rows_of_parameters_update_is_refused() {
    let fixture = fixture();
    fixture.run(&["INSERT INTO t (id, a) VALUES (1, 10), (2, 20), (3, 30)"]);
    let numbers = |values: &[i32]| Arc::new(Int32Array::from(values.to_vec())) as Arc<dyn Array>;
    let refused = |sql: &str, columns: Vec<Arc<dyn Array>>, part: &str| {
        let given = parameters(columns);
        fixture.check_error_as(&fixture.root, sql, given, ErrorCode::InvalidStatement, None, part);
    };
    let before = ["1|10", "2|20", "3|30"];
    refused(
        "UPDATE t SET a = a + $2 WHERE id = $1",
        vec![numbers(&[1, 2, 1]), numbers(&[5, 6, 7])],
        "row 3 of the parameters",
    );
    fixture.check("SELECT id, a FROM t ORDER BY id", &before);
    // Of joined rows, too; those that one row of parameters finds twice are changed once.
    let joined = "UPDATE t SET a = $1 FROM (VALUES (1), (1), (2)) v(n) WHERE id = v.n AND id = $2";
    refused(
        joined,
        vec![numbers(&[5, 6]), numbers(&[2, 2])],
        "row 2 of the parameters",
    );
    fixture.check("SELECT id, a FROM t ORDER BY id", &before);
    fixture.check_count(joined, parameters(vec![numbers(&[5, 6]), numbers(&[1, 2])]), 2);
    fixture.check("SELECT id, a FROM t ORDER BY id", &["1|5", "2|6", "3|30"]);
    // A row is deleted as soon as one row of parameters says so.
    fixture.check_count("DELETE FROM t WHERE id >= $1", parameters(vec![numbers(&[2, 3])]), 2);
    fixture.check("SELECT id FROM t", &["1"]);
}

#[test]
fn an_insert_reads_the_state_before_it() {
    let fixture = fixture();
    fixture.run(&[
        "INSERT INTO t (id) VALUES (1), (2)",
        "INSERT INTO t (id) SELECT id + 2 FROM t",
        "INSERT INTO t (id) SELECT id + 4 FROM t",
    ]);
    fixture.check("SELECT count(*), max(id) FROM t", &["8|8"]);
}

#[test]
fn describing_and_explaining_a_write_changes_nothing() {
    let fixture = fixture();
    fixture.run(&["INSERT INTO t (id) VALUES (1)"]);
    for sql in [
        "INSERT INTO t (id, b) VALUES (2, 'x')",
        "INSERT INTO t (id) SELECT id + 1 FROM t",
        "INSERT INTO t (id, a) VALUES (2, DEFAULT)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
    ] {
        let description = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql);
        assert_eq!(
            (description.kind, description.result.fields().len()),
            (crate::StatementKind::Update, 0),
            "{sql}"
        );
        assert!(!fixture.rows(&format!("EXPLAIN {sql}")).is_empty());
        fixture.check(ALL, &["1|7|NULL|NULL"]);
    }
    fixture.check_error(
        "EXPLAIN ANALYZE DELETE FROM t",
        ErrorCode::Unsupported,
        Some((1, 17)),
        "",
    );
}

#[test]
fn concurrent_updates_of_one_row_all_count() {
    const WRITERS: usize = 8;
    let fixture = fixture();
    fixture.run(&["INSERT INTO t (id, a) VALUES (1, 0)"]);
    let (database, root) = (Arc::clone(&fixture.database), Arc::clone(&fixture.root));
    let outcomes = fixture.block_on(async {
        let writers =
            (0..WRITERS).map(|_| database.execute(&root, "UPDATE t SET a = a + 1 WHERE id = 1", Parameters::none()));
        futures::future::join_all(writers).await
    });
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.code, ErrorCode::Conflict, "{error}");
    }
    assert!(done > 0);
    fixture.check("SELECT a FROM t", &[&done.to_string()]);
}

#[test]
fn changes_are_on_the_account_of_all_queries() {
    let fixture = Fixture::with(|options| options.memory_limit_bytes = 16 << 20);
    fixture.run(&[
        "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT)",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY, a TEXT) WITH (TTL_SECONDS = 3600)",
        // A load goes to disk when it grows.
        "INSERT INTO t SELECT value, repeat('x', 1000) FROM generate_series(1, 10000)",
    ]);
    for sql in [
        // So few go in one commit; more would be a load.
        "UPDATE t SET a = a || 'y' WHERE id <= 8000",
        "INSERT INTO s SELECT id, a FROM t",
    ] {
        fixture.check_error(sql, ErrorCode::OutOfMemory, None, "memory_limit");
    }
    fixture.check("SELECT count(*) FROM t WHERE length(a) = 1000", &["10000"]);
    fixture.check("SELECT count(*) FROM s", &["0"]);
    // What failed holds nothing any more.
    fixture.check_count("UPDATE t SET a = a || 'y' WHERE id <= 4000", Parameters::none(), 4_000);
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE w (a TEXT NOT NULL, id INT PRIMARY KEY, list INT[], b BIGINT, c DECIMAL(10, 2), d TEXT, e DATE)",
        "INSERT INTO w VALUES ('x', 1, [1, 2], 7, 1.5, NULL, '2024-01-01'), ('y', 2, NULL, NULL, NULL, 'd', NULL)",
        "CREATE TABLE u (id INT PRIMARY KEY, v BIGINT)",
        "INSERT INTO u VALUES (1, 100), (2, 200)",
    ]);
    let none = Parameters::none;
    let all = "SELECT * FROM w ORDER BY id";
    fixture.check_count("UPDATE w SET b = b + 1, d = a || id", none(), 2);
    fixture.check(all, &["x|1|[1, 2]|8|1.50|x1|2024-01-01", "y|2|NULL|NULL|NULL|y2|NULL"]);
    fixture.check_count("UPDATE w SET b = u.v FROM u WHERE u.id = w.id AND u.v > 100", none(), 1);
    fixture.check_count("UPDATE w SET id = id + 10 WHERE b IN (SELECT v FROM u)", none(), 1);
    fixture.check(all, &["x|1|[1, 2]|8|1.50|x1|2024-01-01", "y|12|NULL|200|NULL|y2|NULL"]);
    let rows = parameters(vec![
        Arc::new(arrow::array::StringArray::from(vec!["p", "q"])),
        Arc::new(Int32Array::from(vec![1, 12])),
    ]);
    fixture.check_count("UPDATE w SET a = $1 WHERE id = $2", rows, 2);
    fixture.check_count("UPDATE u SET id = id, v = 5", none(), 2);
    fixture.check(all, &["p|1|[1, 2]|8|1.50|x1|2024-01-01", "q|12|NULL|200|NULL|y2|NULL"]);
    fixture.check("SELECT * FROM u ORDER BY id", &["1|5", "2|5"]);
}

#[test]
fn the_plan_of_an_update_is_as_wide_as_the_statement() {
    let fixture = Fixture::new();
    let columns: Vec<String> = (0..300).map(|number| format!("c{number} INT")).collect();
    fixture.run(&[&format!(
        "CREATE TABLE wide (id INT PRIMARY KEY, {})",
        columns.join(", ")
    )]);
    let plan = fixture
        .rows("EXPLAIN UPDATE wide SET c7 = c8 + 1 WHERE id = 1")
        .join("\n");
    assert!(plan.contains("c8"), "{plan}");
    assert!(!plan.contains("c9"), "{plan}");
    fixture.check_count(
        "INSERT INTO wide (id, c8, c299) VALUES (1, 2, 3)",
        Parameters::none(),
        1,
    );
    fixture.check_count("UPDATE wide SET c7 = c8 + 1 WHERE id = 1", Parameters::none(), 1);
    fixture.check("SELECT id, c7, c8, c298, c299 FROM wide", &["1|3|2|NULL|3"]);
}
