//! WITH before UPDATE and DELETE: its queries may stand wherever the statement reads.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE w (id BIGINT PRIMARY KEY, v BIGINT, s TEXT)",
        "INSERT INTO w VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, 40, 'd')",
    ]);
    fixture
}

/// The rows that a write gives back, sorted.
#[track_caller]
fn check_returned(fixture: &Fixture, sql: &str, expected: &[&str]) {
    let mut rows = fixture.rows(sql);
    rows.sort();
    assert_eq!(rows, expected, "{sql}");
}

#[test]
fn updates_read_what_it_names() {
    let fixture = fixture();
    check_returned(
        &fixture,
        "WITH x AS (SELECT 1 AS k, 'one' AS n UNION ALL SELECT 2, 'two') UPDATE w SET s = x.n FROM x WHERE w.id = x.k \
         RETURNING w.id, w.s, x.k",
        &["1|one|1", "2|two|2"],
    );
    check_returned(
        &fixture,
        "WITH x AS (SELECT 3 AS k) UPDATE w SET v = (SELECT max(k) FROM x) WHERE id IN (SELECT k FROM x) RETURNING *",
        &["3|3|c"],
    );
    check_returned(
        &fixture,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2) UPDATE w AS q SET v = q.v + n.i FROM n \
         WHERE q.id = n.i RETURNING q.id, q.v",
        &["1|11", "2|22"],
    );
    // It reads the table as it was.
    check_returned(
        &fixture,
        "WITH x AS (SELECT * FROM w) UPDATE w SET v = x.v + 1 FROM x WHERE x.id = w.id AND w.id < 3 RETURNING w.id, w.v, x.v",
        &["1|12|11", "2|23|22"],
    );
    check_returned(
        &fixture,
        "WITH x AS (SELECT 2 AS k) UPDATE w SET v = 5 WHERE id = 2 RETURNING id, (SELECT k FROM x) AS k",
        &["2|2"],
    );
    let given = parameters(vec![
        std::sync::Arc::new(arrow::array::Int64Array::from(vec![4])),
        std::sync::Arc::new(arrow::array::StringArray::from(vec!["p"])),
    ]);
    fixture.check_count(
        "WITH x AS (SELECT $1::BIGINT AS k) UPDATE w SET s = $2 FROM x WHERE id = x.k",
        given,
        1,
    );
    fixture.check(
        "SELECT id, v, s FROM w ORDER BY id",
        &["1|12|one", "2|5|two", "3|3|c", "4|40|p"],
    );
}

#[test]
fn deletes_read_what_it_names() {
    let fixture = fixture();
    check_returned(
        &fixture,
        "WITH x (k) AS (VALUES (3)), y AS (SELECT k + 1 AS k FROM x) DELETE FROM w USING y WHERE w.id = y.k RETURNING w.id, y.*",
        &["4|4"],
    );
    let lesser = "WITH x AS (SELECT avg(v) AS mean FROM w) DELETE FROM w WHERE v < (SELECT mean FROM x)";
    fixture.check_count(lesser, Parameters::none(), 1);
    let plan = fixture.rows("EXPLAIN WITH x AS (SELECT 2 AS k) DELETE FROM w USING x WHERE w.id = x.k");
    assert!(plan.join("\n").contains("Join"), "{plan:?}");
    fixture.check("SELECT id FROM w ORDER BY id", &["2", "3"]);
}

#[test]
fn what_it_names_is_told_from_tables() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE TABLE x (id BIGINT PRIMARY KEY, v BIGINT)",
        "INSERT INTO x VALUES (1, -1)",
    ]);
    // The nearer name counts, and the whole name is the table's.
    fixture.check_count(
        "WITH x AS (SELECT 2 AS id, 7 AS v) UPDATE w SET v = x.v FROM x WHERE w.id = x.id",
        Parameters::none(),
        1,
    );
    fixture.check_count(
        "WITH x AS (SELECT 2 AS id, 7 AS v) UPDATE w SET v = p.v FROM public.x AS p WHERE w.id = p.id",
        Parameters::none(),
        1,
    );
    fixture.check("SELECT v FROM w WHERE id < 3 ORDER BY id", &["-1", "7"]);
    check_returned(
        &fixture,
        "WITH w AS (SELECT 1 AS id) UPDATE public.w SET v = 0 FROM w AS o WHERE public.w.id = o.id RETURNING public.w.id, v",
        &["1|0"],
    );
    let check = |sql: &str, code: ErrorCode, column: u64, part: &str| {
        fixture.check_error(sql, code, Some((1, column)), part);
    };
    check(
        "WITH w AS (SELECT 1 AS id) UPDATE w SET v = 0",
        ErrorCode::InvalidStatement,
        35,
        "query of WITH",
    );
    check(
        "WITH w AS (SELECT 1 AS id) DELETE FROM w",
        ErrorCode::InvalidStatement,
        40,
        "query of WITH",
    );
    check(
        "WITH y AS (SELECT 1 AS k) UPDATE w SET v = 1 WHERE id = k",
        ErrorCode::ColumnNotFound,
        57,
        "k does not exist",
    );
    check(
        "WITH y AS (DELETE FROM w RETURNING id) SELECT * FROM y",
        ErrorCode::Unsupported,
        12,
        "DELETE inside of a query",
    );
    fixture.check("SELECT count(*) FROM w", &["4"]);
}
