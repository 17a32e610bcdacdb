//! Timestamps beside what is coarser, and of years beyond those that nanoseconds reach.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP, s TIMESTAMP(0), tz TIMESTAMPTZ, d DATE)",
        "INSERT INTO t VALUES \
         (1, '1600-01-01 00:00:00', '1600-01-01 00:00:00', '1600-01-01 00:00:00Z', '1600-01-01'), \
         (2, '2024-02-29 12:30:00.5', '2024-02-29 12:30:00', '2024-02-29 12:30:00.5Z', '2024-02-29'), \
         (3, '2300-01-01 00:00:00', '2300-01-01 00:00:00', '2300-01-01 00:00:00Z', '2300-01-01')",
    ]);
    fixture
}

#[test]
fn far_times_are_found_by_what_names_them() {
    let fixture = fixture();
    for (predicate, ids) in [
        ("ts = '2300-01-01 00:00:00'", "3"),
        ("'2300-01-01' = ts", "3"),
        ("ts > '2299-01-01'", "3"),
        ("ts < '1700-01-01'", "1"),
        ("ts <> '2300-01-01'", "1,2"),
        ("ts IS DISTINCT FROM '2300-01-01'", "1,2"),
        ("s = '2300-01-01 00:00:00'", "3"),
        ("s > '2024-02-29 12:29:59.5'", "2,3"),
        ("s < '2024-02-29 12:30:00.5'", "1,2"),
        ("tz = '2300-01-01 00:00:00Z'", "3"),
        ("tz > '2299-12-31 23:59:59'", "3"),
        ("ts IN ('2300-01-01', '1600-01-01')", "1,3"),
        ("ts NOT IN ('2300-01-01 00:00:00')", "1,2"),
        ("ts BETWEEN '2299-01-01' AND '2301-01-01'", "3"),
        ("ts > DATE '2299-01-01'", "3"),
        ("tz > DATE '2299-01-01'", "3"),
        ("ts >= d", "1,2,3"),
        ("d > ts", ""),
        ("s = d", "1,3"),
        ("d < TIMESTAMP '2024-02-29 00:00:01'", "1,2"),
        ("TIMESTAMP '2024-02-28 23:59:59.5' < d", "2,3"),
        ("d > now()", "3"),
        ("ts = TIMESTAMP '2300-01-01'", "3"),
        ("ts > TIMESTAMP '2024-01-01'", "2,3"),
        ("ts = CAST('1600-01-01' AS TIMESTAMP)", "1"),
        ("tz = '2300-01-01'::TIMESTAMPTZ", "3"),
        ("tz > now()", "3"),
        ("ts = '2024-02-29 12:30:00.5'", "2"),
        ("ts = '2024-02-29 12:30:00.500001'", ""),
        ("extract(year FROM ts) = 2300 AND ts::DATE = '2300-01-01'", "3"),
        ("date_trunc('year', ts) = '2300-01-01'", "3"),
    ] {
        let found = fixture.rows(&format!("SELECT id FROM t WHERE {predicate} ORDER BY id"));
        assert_eq!(found.join(","), ids, "{predicate}");
    }
    fixture.check_count("DELETE FROM t WHERE ts = '1600-01-01 00:00:00'", Parameters::none(), 1);
    fixture.check("SELECT id FROM t ORDER BY id", &["2", "3"]);
}

#[test]
fn far_times_are_written_by_literals_with_a_type() {
    let fixture = fixture();
    fixture.run(&[
        "INSERT INTO t (id, ts) VALUES (4, TIMESTAMP '0001-01-01 00:00:00')",
        "INSERT INTO t (id, ts) SELECT 5, TIMESTAMP '9999-12-31 23:59:59.999999'",
        "UPDATE t SET ts = TIMESTAMP '2300-01-02', tz = TIMESTAMPTZ '2300-01-02 00:00:00Z' WHERE id = 3",
    ]);
    fixture.check(
        "SELECT ts, tz FROM t WHERE id > 2 ORDER BY id",
        &[
            "2300-01-02T00:00:00|2300-01-02T00:00:00Z",
            "0001-01-01T00:00:00|NULL",
            "9999-12-31T23:59:59.999999|NULL",
        ],
    );
    // What nanoseconds reach has them, as every cast to TIMESTAMP.
    fixture.check(
        "SELECT arrow_typeof(TIMESTAMP '2024-01-01'), arrow_typeof(TIMESTAMP '2300-01-01')",
        &["Timestamp(ns)|Timestamp(µs)"],
    );
    fixture.run(&["CREATE TABLE n (id INT PRIMARY KEY, ts TIMESTAMP(9))"]);
    let sql = "INSERT INTO n VALUES (1, TIMESTAMP '2300-01-01')";
    fixture.check_error_part(sql, ErrorCode::TypeMismatch, "does not fit column ts (TIMESTAMP(9))");
}

#[test]
fn functions_of_far_times_give_values() {
    let fixture = fixture();
    fixture.check(
        "SELECT date_trunc('year', ts), date_trunc('week', ts), date_trunc('month', tz), date_trunc('quarter', s) FROM t \
         ORDER BY id",
        &[
            "1600-01-01T00:00:00|1599-12-27T00:00:00|1600-01-01T00:00:00Z|1600-01-01T00:00:00",
            "2024-01-01T00:00:00|2024-02-26T00:00:00|2024-02-01T00:00:00Z|2024-01-01T00:00:00",
            "2300-01-01T00:00:00|2300-01-01T00:00:00|2300-01-01T00:00:00Z|2300-01-01T00:00:00",
        ],
    );
    fixture.check("SELECT date_trunc('decade', ts) FROM t WHERE false", &[]);
    fixture.check(
        "SELECT date_trunc('month', d) FROM t ORDER BY id",
        &["1600-01-01T00:00:00", "2024-02-01T00:00:00", "2300-01-01T00:00:00"],
    );
    fixture.check(
        "SELECT date_trunc('year', TIMESTAMP '9999-12-31'), extract(year FROM ts), ts::DATE FROM t WHERE id = 3",
        &["9999-01-01T00:00:00|2300|2300-01-01"],
    );
    fixture.check(
        "SELECT coalesce(tz, now()), coalesce(NULL, tz, now()), greatest(ts, TIMESTAMP '2000-01-01'), \
         CASE WHEN id = 3 THEN ts ELSE TIMESTAMP '2000-01-01' END FROM t WHERE id = 3",
        &["2300-01-01T00:00:00Z|2300-01-01T00:00:00Z|2300-01-01T00:00:00|2300-01-01T00:00:00"],
    );
    fixture.check(
        "SELECT extract(day FROM ts - TIMESTAMP '2299-12-31'), extract(day FROM ts - DATE '2299-12-30') FROM t WHERE id = 3",
        &["1|2"],
    );
}

#[test]
fn moments_beside_dates_are_local() {
    let fixture = fixture();
    fixture.run(&[
        "SET TIME ZONE 'Europe/Warsaw'",
        "UPDATE t SET tz = '2300-01-01 00:00:00' WHERE id = 3",
    ]);
    fixture.check("SELECT id FROM t WHERE tz = DATE '2300-01-01'", &["3"]);
    fixture.check("SELECT id FROM t WHERE tz = '2300-01-01'", &["3"]);
    fixture.check(
        "SELECT date_trunc('day', tz) FROM t WHERE id = 3",
        &["2299-12-31T23:00:00Z"],
    );
}

#[test]
fn far_times_are_binned() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP, s TIMESTAMP(0))",
        "INSERT INTO t VALUES (1, '2500-01-01 12:34:56', '9999-12-31 23:59:59'), (2, '1500-03-04 00:00:01', '0001-01-01'), \
         (3, '2020-01-01 12:34:56', '2020-02-29'), (4, NULL, NULL)",
    ]);
    fixture.check(
        "SELECT date_bin(INTERVAL '1 day', at), date_bin(INTERVAL '15 minutes', at, TIMESTAMP '2001-01-01 00:05:00') FROM t ORDER BY id",
        &[
            "2500-01-01T00:00:00|2500-01-01T12:20:00",
            "1500-03-04T00:00:00|1500-03-03T23:50:00",
            "2020-01-01T00:00:00|2020-01-01T12:20:00",
            "NULL|NULL",
        ],
    );
    fixture.check(
        "SELECT date_bin(INTERVAL '5 months', s), date_bin(INTERVAL '1 month', s, TIMESTAMP '2001-01-31') FROM t ORDER BY id",
        &[
            "9999-08-01T00:00:00|9999-12-31T00:00:00",
            "0000-11-01T00:00:00|0000-12-31T00:00:00",
            "2020-01-01T00:00:00|2020-02-29T00:00:00",
            "NULL|NULL",
        ],
    );
    fixture.check(
        "SELECT date_bin(INTERVAL '1 day', TIMESTAMP '2500-01-01 12:00:00', TIMESTAMP '2001-01-01 06:00:00')",
        &["2500-01-01T06:00:00"],
    );
}

#[test]
fn far_times_stand_beside_what_is_written_in_other_units() {
    let fixture = fixture();
    for (sql, expected) in [
        (
            "SELECT ts FROM t WHERE id = 3 UNION ALL SELECT TIMESTAMP '2024-01-01 00:00:00.123' ORDER BY 1 DESC",
            &["2300-01-01T00:00:00", "2024-01-01T00:00:00.123"][..],
        ),
        (
            "SELECT ts FROM t WHERE id = 1 UNION SELECT now()::TIMESTAMP WHERE false",
            &["1600-01-01T00:00:00"],
        ),
        (
            "SELECT tz FROM t WHERE id = 1 UNION ALL SELECT now() WHERE false",
            &["1600-01-01T00:00:00Z"],
        ),
        (
            "SELECT s FROM t WHERE id = 1 UNION ALL SELECT TIMESTAMP '2024-01-01' ORDER BY 1",
            &["1600-01-01T00:00:00", "2024-01-01T00:00:00"],
        ),
        (
            "SELECT TIMESTAMP '9999-12-31' UNION SELECT TIMESTAMP '2024-01-01' ORDER BY 1",
            &["2024-01-01T00:00:00", "9999-12-31T00:00:00"],
        ),
        (
            "SELECT DATE '9999-12-31' UNION ALL SELECT TIMESTAMP '2024-01-01' ORDER BY 1 DESC",
            &["9999-12-31T00:00:00", "2024-01-01T00:00:00"],
        ),
        (
            "SELECT NULL UNION ALL SELECT TIMESTAMP '0001-01-01' UNION ALL SELECT TIMESTAMP '2024-01-01' ORDER BY 1",
            &["0001-01-01T00:00:00", "2024-01-01T00:00:00", "NULL"],
        ),
        (
            "SELECT * FROM (VALUES (TIMESTAMP '9999-12-31'), (TIMESTAMP '2024-01-01 00:00:00.123')) AS v (x)",
            &["9999-12-31T00:00:00", "2024-01-01T00:00:00.123"],
        ),
        (
            "SELECT * FROM (VALUES (now()::TIMESTAMP), (NULL), (TIMESTAMP '9999-12-31')) AS v (x) WHERE x > '9000-01-01'",
            &["9999-12-31T00:00:00"],
        ),
        (
            "SELECT * FROM (VALUES (now()), (TIMESTAMPTZ '9999-12-31 00:00:00Z')) AS v (x) WHERE x > '9000-01-01'",
            &["9999-12-31T00:00:00Z"],
        ),
        (
            "SELECT * FROM (VALUES (DATE '9999-12-31'), (TIMESTAMP '2024-01-01')) AS v (x)",
            &["9999-12-31T00:00:00", "2024-01-01T00:00:00"],
        ),
        (
            "SELECT * FROM (VALUES (1, TIMESTAMP '2024-01-01 00:00:00.000000001'), (2, TIMESTAMP '2024-01-01')) AS v (n, x)",
            &["1|2024-01-01T00:00:00.000000001", "2|2024-01-01T00:00:00"],
        ),
        (
            "SELECT CASE WHEN id = 3 THEN ts ELSE now()::TIMESTAMP END FROM t WHERE id = 3",
            &["2300-01-01T00:00:00"],
        ),
    ] {
        fixture.check(sql, expected);
    }
    fixture.run(&[
        "CREATE TABLE n (id INT PRIMARY KEY, ts TIMESTAMP(9))",
        "INSERT INTO n VALUES (1, '2024-01-01 00:00:00.123456789')",
    ]);
    for sql in [
        "SELECT ts FROM t UNION ALL SELECT ts FROM n",
        "SELECT t.ts = n.ts FROM t, n",
    ] {
        fixture.check_error_part(
            sql,
            ErrorCode::TypeMismatch,
            "cast what has nanoseconds beside it to TIMESTAMP(6)",
        );
    }
    fixture.check(
        "SELECT count(*) FROM (SELECT ts FROM t UNION ALL SELECT ts::TIMESTAMP(6) FROM n) AS q",
        &["4"],
    );
}
