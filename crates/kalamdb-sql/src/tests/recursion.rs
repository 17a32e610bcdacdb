//! WITH RECURSIVE: columns of the first query's types, and nothing cut to fit them.

use kalamdb_core::ErrorCode;

use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE p (id INT PRIMARY KEY, m DECIMAL(8, 2), d DATE, s TIMESTAMP(0), r REAL, t TEXT)",
        "INSERT INTO p VALUES (1, 1.25, '2026-01-01', '2026-01-01 00:00:00', 1, 'a')",
    ]);
    fixture
}

fn check(fixture: &Fixture, first: &str, next: &str, expected: &[&str]) {
    let sql = format!(
        "WITH RECURSIVE t(n, x) AS (SELECT 1, {first} UNION ALL SELECT n + 1, {next} FROM t WHERE n < 3) SELECT x FROM t ORDER BY n"
    );
    fixture.check(&sql, expected);
}

fn refused(fixture: &Fixture, first: &str, next: &str, types: (&str, &str)) {
    let sql = format!(
        "WITH RECURSIVE t(n, x) AS (SELECT 1, {first} UNION ALL SELECT n + 1, {next} FROM t WHERE n < 3) SELECT x FROM t ORDER BY n"
    );
    let (one, overall) = types;
    let part = format!("recursive query \"t\" column 2 has type {one} in its non-recursive term but type {overall}");
    fixture.check_error(&sql, ErrorCode::TypeMismatch, Some((1, 38)), &part);
}

#[test]
fn what_fits_the_first_type_is_kept() {
    let fixture = fixture();
    check(&fixture, "1", "x * 2", &["1", "2", "4"]);
    check(&fixture, "id FROM p", "x + 1", &["1", "2", "3"]);
    check(&fixture, "1::DOUBLE", "x * 1.5", &["1.0", "1.5", "2.25"]);
    check(&fixture, "r FROM p", "x * 2", &["1.0", "2.0", "4.0"]);
    check(&fixture, "m FROM p", "x * 2", &["1.25", "2.50", "5.00"]);
    check(&fixture, "m FROM p", "x + 0.01", &["1.25", "1.26", "1.27"]);
    check(&fixture, "m + 0.01 FROM p", "x + 0.01", &["1.26", "1.27", "1.28"]);
    check(&fixture, "m + 0.01 FROM p", "x", &["1.26", "1.26", "1.26"]);
    check(
        &fixture,
        "1.5::DECIMAL(20, 6)",
        "(x * 1.5)::DECIMAL(20, 6)",
        &["1.500000", "2.250000", "3.375000"],
    );
    check(
        &fixture,
        "CASE WHEN true THEN 1 ELSE 1.5 END",
        "x / 2",
        &["1.0", "0.5", "0.25"],
    );
    check(&fixture, "'a'", "x || 'b'", &["a", "ab", "abb"]);
    check(&fixture, "t FROM p", "x || n", &["a", "a1", "a12"]);
    check(&fixture, "1", "CAST(x * 1.5 AS BIGINT)", &["1", "1", "1"]);
    check(&fixture, "1", "NULL", &["1", "NULL", "NULL"]);
    check(&fixture, "[1]", "array_append(x, n)", &["[1]", "[1, 1]", "[1, 1, 2]"]);
    fixture.check(
        "WITH RECURSIVE t AS (SELECT 1 AS n, 2 AS x UNION SELECT n + 1, t.x FROM t WHERE t.n < 2) SELECT * FROM t ORDER BY n",
        &["1|2", "2|2"],
    );
    fixture.check(
        "WITH RECURSIVE t AS (SELECT id, id AS other FROM p UNION ALL SELECT a.id + 1, p.id FROM t AS a JOIN p ON true WHERE a.id < 2) \
         SELECT * FROM t ORDER BY id",
        &["1|1", "2|1"],
    );
}

#[test]
fn what_would_be_cut_is_refused() {
    let fixture = fixture();
    refused(&fixture, "1", "x * 1.5", ("BIGINT", "DOUBLE"));
    refused(&fixture, "id FROM p", "x * 1.5", ("INTEGER", "DOUBLE"));
    refused(&fixture, "m FROM p", "x * 1.1", ("DECIMAL(8, 2)", "DECIMAL("));
    refused(&fixture, "m FROM p", "x * 0.5::DOUBLE", ("DECIMAL(8, 2)", "DOUBLE"));
    refused(&fixture, "r FROM p", "x * 1.5", ("REAL", "DOUBLE"));
    refused(
        &fixture,
        "d FROM p",
        "TIMESTAMP '2026-01-01 12:00:00'",
        ("DATE", "TIMESTAMP("),
    );
    fixture.check_error_part(
        "WITH RECURSIVE t(n) AS (SELECT 9223372036854775807 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t",
        ErrorCode::InvalidArgument,
        "out of range",
    );
    fixture.check_error_part(
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1, 2 FROM t WHERE n < 3) SELECT n FROM t",
        ErrorCode::InvalidStatement,
        "number of columns",
    );
}

#[test]
fn a_null_of_the_first_query_is_text() {
    let fixture = fixture();
    for (sql, expected) in [
        (
            "WITH RECURSIVE r AS (SELECT NULL AS p, 1 AS n UNION ALL SELECT 'a', n + 1 FROM r WHERE n < 2) \
             SELECT * FROM r ORDER BY n",
            &["NULL|1", "a|2"][..],
        ),
        (
            "WITH RECURSIVE r (n, p) AS (SELECT 1, NULL UNION SELECT n + 1, coalesce(p, '') || 'x' FROM r WHERE n < 3) \
             SELECT * FROM r ORDER BY n",
            &["1|NULL", "2|x", "3|xx"],
        ),
        (
            "WITH RECURSIVE r (n, p) AS (VALUES (1, NULL), (5, NULL) UNION ALL SELECT n + 1, n FROM r WHERE n < 2) \
             SELECT p, n FROM r ORDER BY n",
            &["NULL|1", "1|2", "NULL|5"],
        ),
        (
            "WITH RECURSIVE r (n, p) AS (SELECT 1, NULL::INT UNION ALL SELECT n + 1, n FROM r WHERE n < 2) \
             SELECT p + 1, n FROM r ORDER BY n",
            &["NULL|1", "2|2"],
        ),
    ] {
        fixture.check(sql, expected);
    }
}
