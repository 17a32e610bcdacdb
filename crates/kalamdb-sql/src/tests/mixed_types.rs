//! Values beside those of another type: decimals and floats, texts and decimals, times of two units, NaN and both zeros.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::Fixture;

fn numbers() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(12, 2), f DOUBLE, w DECIMAL(38, 0), r REAL)",
        "INSERT INTO t VALUES (1, 64.1, 64.1, 64, 0.5), (2, 99999.95, 99999.95, 99999999999999999999, 1.25), \
         (3, 1000000.01, 1e300, -1, 2.5), (4, 0, 1e-20, 0, 0.25), (5, 0.01, 0.01, NULL, NULL)",
    ]);
    fixture
}

/// The ids of the rows for which each predicate holds.
fn check_found(fixture: &Fixture, cases: &[(&str, &str)]) {
    for (predicate, ids) in cases {
        let found = fixture.rows(&format!("SELECT id FROM t WHERE {predicate} ORDER BY id"));
        assert_eq!(found.join(","), *ids, "{predicate}");
    }
}

#[test]
fn decimals_beside_floats_are_the_nearest_doubles() {
    let fixture = numbers();
    check_found(
        &fixture,
        &[
            ("d = f", "1,2,5"),
            ("d <> f", "3,4"),
            ("f > d", "3,4"),
            ("f BETWEEN d AND d", "1,2,5"),
            ("d IN (f, 7)", "1,2,5"),
            ("w < f", "1,3,4"),
            ("d = (SELECT 64.1)", "1"),
            ("d = coalesce(NULL, 64.1)", "1"),
            ("d = CASE WHEN id > 0 THEN 64.1 ELSE 1.5 END", "1"),
            ("CASE d WHEN 64.1 THEN true ELSE false END", "1"),
            ("d = greatest(64.1, 1.0)", "1"),
            ("d = 128.2 / 2", "1"),
            ("d = -(-64.1)", "1"),
            ("d IN (SELECT f FROM t)", "1,2,5"),
            ("f IN (SELECT d FROM t)", "1,2,5"),
            ("d = round(64.14, 1)", "1"),
            ("round(d, 1) = 64.1", "1"),
            ("round(d, 1) IN (SELECT d FROM t)", "1,4,5"),
        ],
    );
    fixture.check("WITH q(x) AS (VALUES (64.1)) SELECT id FROM t JOIN q ON d = x", &["1"]);
    fixture.check(
        "SELECT count(*) FROM (SELECT d FROM t WHERE id IN (1, 2) UNION SELECT f FROM t WHERE id IN (1, 2)) AS u",
        &["2"],
    );
    fixture.check(
        "SELECT count(*) FROM (SELECT d FROM t WHERE id = 1 INTERSECT SELECT f FROM t) AS u",
        &["1"],
    );
    fixture.check(
        "SELECT round(a.d, 1), b.id FROM t a JOIN t b ON round(a.d, 1) = b.d WHERE a.id = 1",
        &["64.1|1"],
    );
    let changed = "UPDATE t SET d = CASE WHEN id > 4 THEN 64.1 ELSE d END";
    fixture.check_count(changed, Parameters::none(), 5);
    check_found(&fixture, &[("d = 64.10", "1,5")]);
}

#[test]
fn floats_become_decimals_by_the_digits_that_are_shown() {
    let fixture = numbers();
    fixture.check(
        "SELECT f::DECIMAL(30, 15), r::DECIMAL(5, 1), (f * -1)::DECIMAL(12, 1) FROM t WHERE id = 1",
        &["64.100000000000000|0.5|-64.1"],
    );
    fixture.check(
        "SELECT x::DECIMAL(10, 2) FROM (VALUES (1.005), (2.675), (-1.005), (0.004), (0.0), (7.0)) AS v(x)",
        &["1.01", "2.68", "-1.01", "0.00", "0.00", "7.00"],
    );
    fixture.check("SELECT f::DECIMAL(10, 2) FROM t WHERE id = 4", &["0.00"]);
    fixture.check_error_part(
        "SELECT f::DECIMAL(38, 2) FROM t WHERE id = 3",
        ErrorCode::TypeMismatch,
        "",
    );
    fixture.check("SELECT TRY_CAST(f AS DECIMAL(38, 2)) FROM t WHERE id = 3", &["NULL"]);
}

#[test]
fn texts_beside_decimals_are_exact() {
    let fixture = numbers();
    check_found(
        &fixture,
        &[
            ("d = '0.01'", "5"),
            ("d = '0.014'", ""),
            ("d = '0.005'", ""),
            ("d > '0.005'", "1,2,3,5"),
            ("d < '64.104'", "1,4,5"),
            ("d IN ('64.1', '0.014')", "1"),
            ("d BETWEEN '0.006' AND '64.099'", "5"),
            ("d = '1e-2'", "5"),
            ("d <> '64.1'", "2,3,4,5"),
        ],
    );
    fixture.check_count("UPDATE t SET r = 1 WHERE d = '64.104'", Parameters::none(), 0);
}

#[test]
fn there_are_one_nan_and_one_zero() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, a DOUBLE, b DOUBLE, r REAL)",
        "INSERT INTO t VALUES (1, 0, 0, 0), (2, 1, 0, -1), (3, -0.0, 5, -0.0), (4, 4, 2, 'NaN')",
    ]);
    check_found(
        &fixture,
        &[
            ("a / b < 0", ""),
            ("a / b > 1e308", "1,2"),
            ("a / b = 'NaN'", "1"),
            ("-(a / b) = 'NaN'", "1"),
            ("ln(a - 5) = 'NaN'", "1,2,3,4"),
            ("-r = 'NaN'", "4"),
            ("a = 0", "1,3"),
            ("0 = a", "1,3"),
            ("a <> 0.0", "2,4"),
            ("a >= 0", "1,2,3,4"),
            ("a > 0", "2,4"),
            ("a < 0", ""),
            ("a <= 0", "1,3"),
            ("0 < a", "2,4"),
            ("r = 0", "1,3"),
            ("r < 0", "2"),
            ("a IN (0, 4)", "1,3,4"),
            ("a NOT IN (0, 4)", "2"),
            ("a BETWEEN 0 AND 1", "1,2,3"),
            ("a BETWEEN -1 AND 0", "1,3"),
        ],
    );
    fixture.check("SELECT id FROM t ORDER BY a / b DESC, id LIMIT 2", &["1", "2"]);
    fixture.check(
        "SELECT count(*) FROM (SELECT a / b AS q FROM t WHERE id = 1 UNION SELECT 'NaN'::DOUBLE) AS u",
        &["1"],
    );
}

#[test]
fn times_of_day_are_compared_in_one_unit() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, tm TIME, s TIME(0), ts TIMESTAMP)",
        "INSERT INTO t VALUES (1, '10:30:00', '10:30:00', '2024-01-01 10:30:00'), (2, '10:30:00.5', '11:00:00', '2024-01-01')",
    ]);
    check_found(
        &fixture,
        &[
            ("tm = TIME '10:30:00'", "1"),
            ("tm > '10:30:00'::TIME", "2"),
            ("TIME '10:30:00.5' = tm", "2"),
            ("tm BETWEEN TIME '10:00:00' AND TIME '10:30:00'", "1"),
            ("tm IN (TIME '10:30:00', TIME '12:00:00')", "1"),
            ("tm = s", "1"),
            ("ts::TIME = tm", "1"),
            ("s < TIME '10:30:00.5'", "1"),
        ],
    );
}

#[test]
fn times_may_end_with_their_minutes() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP, tz TIMESTAMPTZ, n TIMESTAMP(9))",
        "INSERT INTO t VALUES (1, '2024-01-31 10:30', '2024-01-31T10:30+02:00', TIMESTAMP '2024-01-31 10:30')",
    ]);
    check_found(
        &fixture,
        &[
            ("ts = '2024-01-31T10:30'", "1"),
            ("n = '2024-01-31 10:30'", "1"),
            ("tz = '2024-01-31 08:30Z'", "1"),
            ("ts BETWEEN '2024-01-31 10:29' AND '2024-01-31 10:30'", "1"),
            ("ts = CAST('2024-01-31 10:30' AS TIMESTAMP)", "1"),
        ],
    );
    let none = "INSERT INTO t (id, ts) VALUES (2, '2024-01-31 10')";
    fixture.check_error_part(none, ErrorCode::TypeMismatch, "does not fit column ts");
}

#[test]
fn texts_among_bytes_are_bytes() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, b BYTEA)",
        "INSERT INTO t VALUES (1, '\\x00ff'), (2, NULL)",
    ]);
    check_found(
        &fixture,
        &[
            ("nullif(b, '\\x00ff') IS NULL", "1,2"),
            ("greatest(b, '\\xff') = '\\xff'", "1,2"),
            ("coalesce(b, '\\x01') = '\\x01'", "2"),
            ("CASE WHEN id = 1 THEN '\\x02' ELSE b END = '\\x02'", "1"),
        ],
    );
}

#[test]
fn a_text_literal_beside_a_boolean_or_a_uuid_is_one() {
    let fixture = Fixture::new();
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, b BOOLEAN, u UUID)",
        &format!("INSERT INTO t VALUES (1, true, '{uuid}'), (2, false, 'ffffffff-4455-6677-8899-aabbccddeeff'), (3, NULL, NULL)"),
    ]);
    check_found(
        &fixture,
        &[
            ("b = 'true'", "1"),
            ("'f' = b", "2"),
            ("b <> ' YES '", "2"),
            ("b IN ('t', 'off')", "1,2"),
            ("b IS DISTINCT FROM 'true'", "2,3"),
            ("b IS NOT DISTINCT FROM 'true'", "1"),
            (&format!("u IS DISTINCT FROM '{uuid}'"), "2,3"),
            (&format!("'{uuid}' IS NOT DISTINCT FROM u"), "1"),
        ],
    );
    fixture.check(
        &format!("SELECT b = 'true', b IS DISTINCT FROM 'no', u IS DISTINCT FROM '{uuid}' FROM t ORDER BY id"),
        &["true|true|false", "false|false|true", "NULL|true|true"],
    );
    for sql in [
        "SELECT b = 'nonsense' FROM t",
        "SELECT id FROM t WHERE b = 'nonsense'",
        "SELECT b IS DISTINCT FROM 'nonsense' FROM t",
    ] {
        fixture.check_error_part(sql, ErrorCode::TypeMismatch, "'nonsense' is not a BOOLEAN");
    }
    fixture.check_error_part(
        "SELECT u IS DISTINCT FROM '1' FROM t",
        ErrorCode::TypeMismatch,
        "not a UUID",
    );
}
