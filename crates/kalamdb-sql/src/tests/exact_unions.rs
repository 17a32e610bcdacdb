//! Numbers as they are written beside DECIMALs where several values become one column: set operations, arrays, lists, windows.

use kalamdb_core::ErrorCode;

use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE big (id INT PRIMARY KEY, m DECIMAL(38, 2), b INT, f DOUBLE)",
        "INSERT INTO big VALUES (1, 123456789012345678.90, 1, 1.5), (2, 0.55, 2, 0.5)",
        // As a double, the first of them is 0.1, too.
        "CREATE TABLE fine (id INT PRIMARY KEY, x DECIMAL(38, 20))",
        "INSERT INTO fine VALUES (1, 0.10000000000000000001), (2, 0.1)",
    ]);
    fixture
}

#[test]
fn a_written_number_is_united_as_a_decimal() {
    let fixture = fixture();
    let long = "123456789012345678.91";
    for query in [
        "SELECT m + 0.01 AS x FROM big UNION ALL SELECT 1.5",
        "SELECT 1.5 AS x UNION ALL SELECT m + 0.01 FROM big",
        "SELECT m + 0.01 AS x FROM big UNION SELECT 1.5",
        "SELECT NULL AS x WHERE false UNION ALL SELECT m + 0.01 FROM big UNION ALL SELECT 1.5",
        "(SELECT 1.5 AS x UNION SELECT 1.5) UNION ALL SELECT m + 0.01 FROM big",
        "SELECT m + 0.01 AS x FROM big UNION ALL (VALUES (1.5))",
        "SELECT m + 0.01 AS x FROM big UNION ALL SELECT y FROM (SELECT 1.5 AS y) AS q",
        "SELECT m + 0.01 AS x FROM big UNION ALL (SELECT 1.5 LIMIT 1)",
        "SELECT m + 0.01 AS x FROM big UNION ALL SELECT CASE WHEN true THEN 1.5 ELSE 2 END",
        "SELECT m + 0.01 AS x FROM big UNION ALL (SELECT 1.5 INTERSECT SELECT 1.5)",
        "SELECT m + 0.01 AS x FROM big UNION ALL (SELECT 1.5 EXCEPT ALL SELECT 2.5)",
        "(SELECT 2.5 AS x EXCEPT SELECT 2.5) UNION ALL SELECT m + 0.01 FROM big UNION ALL SELECT 1.5",
    ] {
        fixture.check(
            &format!("SELECT x FROM ({query}) AS q ORDER BY x"),
            &["0.56", "1.50", long],
        );
    }
    fixture.check(
        "SELECT x FROM (SELECT m AS x FROM big UNION ALL VALUES (1.5), (2), (NULL), (-1.25)) AS q ORDER BY x NULLS FIRST",
        &["NULL", "-1.25", "0.55", "1.50", "2.00", "123456789012345678.90"],
    );
    fixture.run(&[
        "INSERT INTO big (id, m, b) SELECT 20 + id, m + 0.01, b FROM big WHERE id < 3 UNION ALL SELECT 99, 1.5, 0",
    ]);
    fixture.check("SELECT m FROM big WHERE id > 20 ORDER BY m", &["0.56", "1.50", long]);
}

#[test]
fn as_many_digits_are_kept_as_the_columns_have() {
    let fixture = fixture();
    fixture.check(
        "SELECT x, arrow_typeof(x) FROM (SELECT m AS x FROM big UNION ALL SELECT 0.1234) AS q ORDER BY x DESC LIMIT 1",
        &["123456789012345678.9000|Decimal256(40, 4)"],
    );
    fixture.check(
        "SELECT m FROM big UNION ALL SELECT x FROM fine ORDER BY 1 DESC LIMIT 1",
        &["123456789012345678.90000000000000000000"],
    );
    fixture.check(
        "SELECT column1 FROM (VALUES (12345678901234567.89), (1.5), (2)) AS v ORDER BY 1",
        &["1.50", "2.00", "12345678901234567.89"],
    );
}

#[test]
fn what_is_above_knows_the_type() {
    let fixture = fixture();
    fixture.check(
        "SELECT x * 1.1, arrow_typeof(x * 1.1) FROM (SELECT 1 AS x UNION ALL SELECT m FROM big WHERE id = 2) AS q ORDER BY 1",
        &["0.605|Decimal128(38, 3)", "1.100|Decimal128(38, 3)"],
    );
    fixture.check(
        "SELECT x - 0.05 FROM (SELECT CASE WHEN id = 1 THEN 1 ELSE m END AS x FROM big) AS q ORDER BY 1",
        &["0.50", "0.95"],
    );
}

#[test]
fn a_double_that_is_none_makes_doubles() {
    let fixture = fixture();
    for query in [
        "SELECT m AS x FROM big WHERE id = 2 UNION ALL SELECT 1.5::DOUBLE",
        "SELECT m AS x FROM big WHERE id = 2 UNION ALL SELECT f FROM big WHERE id = 1",
        "SELECT m AS x FROM big WHERE id = 2 UNION ALL SELECT 1.5 UNION ALL SELECT f FROM big WHERE id = 9",
        "SELECT m AS x FROM big WHERE id = 2 UNION ALL SELECT 0.75 * 2",
    ] {
        fixture.check(
            &format!("SELECT x, arrow_typeof(x) FROM ({query}) AS q ORDER BY x"),
            &["0.55|Float64", "1.5|Float64"],
        );
    }
}

#[test]
fn rows_are_told_apart_by_all_digits() {
    let fixture = fixture();
    let exact = "0.10000000000000000001";
    fixture.check("SELECT x FROM fine INTERSECT SELECT 0.1", &["0.10000000000000000000"]);
    fixture.check("SELECT x FROM fine EXCEPT SELECT 0.1", &[exact]);
    fixture.check("SELECT x FROM fine EXCEPT ALL SELECT 0.1", &[exact]);
    fixture.check("SELECT 0.1 EXCEPT SELECT x FROM fine WHERE id = 1", &["0.1"]);
    fixture.check(
        "SELECT arrow_typeof(x) FROM (SELECT 0.1 AS x INTERSECT SELECT x FROM fine) AS q",
        &["Decimal128(1, 1)"],
    );
    for condition in [
        "x IN (SELECT 0.1)",
        "x IN (VALUES (0.1), (7))",
        "x IN (SELECT 0.1 UNION ALL SELECT x + 1 FROM fine)",
        "0.1 IN (x, 7)",
        "0.1 BETWEEN x AND 7",
        "0.1 IN (SELECT y.x FROM fine AS y WHERE y.id = fine.id)",
        "0.1 = ANY ([x])",
        "CASE WHEN x IN (SELECT 0.1) THEN true ELSE false END",
        "(x NOT IN (SELECT 0.1)) IS FALSE",
    ] {
        fixture.check(&format!("SELECT id FROM fine WHERE {condition}"), &["2"]);
    }
    fixture.check(
        "SELECT [m, 1.5] FROM big ORDER BY id",
        &["[123456789012345678.90, 1.50]", "[0.55, 1.50]"],
    );
}

#[test]
fn lag_and_lead_give_what_is_written_where_there_is_no_row() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE TABLE p (id INT PRIMARY KEY, m DECIMAL(8, 2), d DATE, s TIMESTAMP(0))",
        "INSERT INTO p VALUES (1, 1.25, '2026-01-01', '2026-01-01 00:00:00'), (2, 2.5, '2026-01-02', '2026-01-02 00:00:00')",
    ]);
    let check = |call: &str, expected: &[&str]| {
        fixture.check(
            &format!("SELECT {call} OVER (ORDER BY id) AS x FROM p ORDER BY id"),
            expected,
        );
    };
    check("lag(m, 1, 0.555)", &["0.555", "1.250"]);
    check("lead(m, 1, -0.555)", &["2.500", "-0.555"]);
    check("lag(m, 1, '0.555')", &["0.555", "1.250"]);
    check("lag(m, 1, 0)", &["0.00", "1.25"]);
    check("lag(m, 1, 0.50)", &["0.50", "1.25"]);
    check("lag(m, 1, 1e0 / 3)", &["0.3333333333333333", "1.25"]);
    check("lag(id, 1, 0.5)", &["0.5", "1.0"]);
    check("lag(id + 9007199254740992, 1, 0.5)", &["0.5", "9007199254740993.0"]);
    check("lag(id, 1, 4294967296)", &["4294967296", "1"]);
    check("lag(m, 1)", &["NULL", "1.25"]);
    check(
        "lag(d, 1, TIMESTAMP '2025-12-31 12:00:00')",
        &["2025-12-31T12:00:00", "2026-01-01T00:00:00"],
    );
    check(
        "lag(s, 1, '2025-12-31 12:00:00.5')",
        &["2025-12-31T12:00:00.500", "2026-01-01T00:00:00"],
    );
    fixture.check(
        "SELECT arrow_typeof(lag(id, 1, 0) OVER (ORDER BY id)), arrow_typeof(lag(m, 1, 0.5) OVER (ORDER BY id)) FROM p LIMIT 1",
        &["Int32|Decimal128(8, 2)"],
    );
    fixture.check_error_part(
        "SELECT lag(id, 1, 'x') OVER (ORDER BY id) FROM p",
        ErrorCode::TypeMismatch,
        "x",
    );
}
