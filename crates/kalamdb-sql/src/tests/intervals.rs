//! Intervals are compared by what they last, and scaled by numbers.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::Fixture;

#[test]
fn comparisons_are_of_lengths() {
    let fixture = Fixture::new();
    for (condition, holds) in [
        ("INTERVAL '30 hours' > INTERVAL '1 day'", "true"),
        ("INTERVAL '24 hours' = INTERVAL '1 day'", "true"),
        ("INTERVAL '1 month' > INTERVAL '40 days'", "false"),
        ("INTERVAL '1 month' = INTERVAL '30 days'", "true"),
        ("INTERVAL '12 months' < INTERVAL '1 year 1 second'", "true"),
        ("INTERVAL '24 hours' IS DISTINCT FROM INTERVAL '1 day'", "false"),
        ("INTERVAL '1 day' <> NULL", "NULL"),
        (
            "INTERVAL '1 day' IN (INTERVAL '2 days', NULL, INTERVAL '24 hours')",
            "true",
        ),
        ("INTERVAL '1 day' NOT IN (INTERVAL '24 hours')", "false"),
        (
            "INTERVAL '30 hours' BETWEEN INTERVAL '1 day' AND INTERVAL '2 days'",
            "true",
        ),
        (
            "TIMESTAMP '2020-01-01' - TIMESTAMP '2019-01-01' < INTERVAL '1 day'",
            "false",
        ),
        (
            "TIMESTAMP '2020-01-01' - TIMESTAMP '2019-12-31' = INTERVAL '1 day'",
            "true",
        ),
        ("TIMESTAMP '2020-01-01' - TIMESTAMP '2019-01-01' > '364 days'", "true"),
        ("'366 days' < TIMESTAMP '2020-01-01' - TIMESTAMP '2019-01-01'", "false"),
        (
            "TIMESTAMP '2900-01-01' - TIMESTAMP '1600-01-01' > INTERVAL '1299 years'",
            "true",
        ),
        (
            "TIMESTAMP '2020-01-01' - TIMESTAMP '2019-01-01' BETWEEN INTERVAL '1 day' AND INTERVAL '1 year 10 days'",
            "true",
        ),
    ] {
        fixture.check(&format!("SELECT {condition}"), &[holds]);
    }
}

#[test]
fn old_rows_are_told_from_new_ones() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP, until TIMESTAMPTZ, s TIMESTAMP(0), i INTERVAL)",
        "INSERT INTO t VALUES (1, '2020-01-01', '2020-01-02', '2020-01-01', INTERVAL '1 day'), \
         (2, now(), now() + INTERVAL '30 hours', '2999-01-01', INTERVAL '30 hours'), (3, NULL, NULL, NULL, NULL)",
    ]);
    fixture.check("SELECT id FROM t WHERE now() - at < INTERVAL '1 day'", &["2"]);
    fixture.check(
        "SELECT id FROM t WHERE until - at > INTERVAL '1 day' ORDER BY id",
        &["2"],
    );
    fixture.check(
        "SELECT id FROM t WHERE s - TIMESTAMP '2900-01-01' > INTERVAL '98 years'",
        &["2"],
    );
    fixture.check("SELECT a.id, b.id FROM t a JOIN t b ON a.i < b.i", &["1|2"]);
    fixture.check("SELECT id FROM t ORDER BY i DESC NULLS LAST", &["2", "1", "3"]);
    fixture.check(
        "SELECT min(i) = INTERVAL '1 day', max(i) = INTERVAL '30 hours' FROM t",
        &["true|true"],
    );
    fixture.check(
        "SELECT id, max(i) = INTERVAL '30 hours' FROM t GROUP BY id ORDER BY id",
        &["1|false", "2|true", "3|NULL"],
    );
    fixture.check(
        "SELECT id, rank() OVER (ORDER BY i DESC NULLS LAST), \
         min(i) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) = INTERVAL '30 hours' FROM t ORDER BY id",
        &["1|2|false", "2|1|true", "3|3|NULL"],
    );
    fixture.check(
        "SELECT array_agg(id ORDER BY i DESC) FROM t WHERE i IS NOT NULL",
        &["[2, 1]"],
    );
    let deleted = "DELETE FROM t WHERE now() - at > INTERVAL '30 days'";
    fixture.check_count(deleted, Parameters::none(), 1);
    fixture.check("SELECT id FROM t ORDER BY id", &["2", "3"]);
}

#[test]
fn numbers_scale_them() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("INTERVAL '1 day' * 3", "INTERVAL '3 days'"),
        ("2 * INTERVAL '1 month 90 minutes'", "INTERVAL '2 months 3 hours'"),
        ("INTERVAL '1 day' / 2", "INTERVAL '12 hours'"),
        ("INTERVAL '1 day' * 0.1", "INTERVAL '8640 seconds'"),
        ("INTERVAL '1 month' * 0.7", "INTERVAL '21 days'"),
        ("INTERVAL '1 month' / 4", "INTERVAL '7 days 12 hours'"),
        ("INTERVAL '-3 days' / 2", "INTERVAL '-36 hours'"),
        (
            "(TIMESTAMP '2020-01-03' - TIMESTAMP '2020-01-01') / 2",
            "INTERVAL '1 day'",
        ),
        (
            "(TIMESTAMP '2020-01-03' - TIMESTAMP '2020-01-01') * 2",
            "INTERVAL '4 days'",
        ),
    ] {
        fixture.check(&format!("SELECT {expression} = {expected}"), &["true"]);
    }
    fixture.check(
        "SELECT INTERVAL '1 day' * NULL, INTERVAL '1 day' / NULL",
        &["NULL|NULL"],
    );
    fixture.check(
        "SELECT TIMESTAMP '2020-01-31' + INTERVAL '1 month' * 2",
        &["2020-03-31T00:00:00"],
    );
    for (expression, code, message) in [
        ("INTERVAL '1 day' / 0", ErrorCode::InvalidArgument, "division by zero"),
        (
            "INTERVAL '1 day' * 9223372036854775807",
            ErrorCode::InvalidArgument,
            "an interval is out of range",
        ),
        (
            "INTERVAL '1 month' * 1e300",
            ErrorCode::InvalidArgument,
            "an interval is out of range",
        ),
        (
            "INTERVAL '1 day' * INTERVAL '1 day'",
            ErrorCode::TypeMismatch,
            "an interval takes a number beside *",
        ),
    ] {
        fixture.check_error_part(&format!("SELECT {expression}"), code, message);
    }
}

#[test]
fn the_greatest_and_the_least_last_longest_and_shortest() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, a INTERVAL, b INTERVAL)",
        "INSERT INTO t VALUES (1, '1 day', '23 hours'), (2, NULL, '1 month'), (3, '1 month', '31 days'), (4, NULL, NULL)",
    ]);
    fixture.check(
        "SELECT id, greatest(a, b) = coalesce(a, b), least(a, b) = coalesce(b, a), greatest(a, b, '1 year') = INTERVAL '1 year' \
         FROM t ORDER BY id",
        &["1|true|true|true", "2|true|true|true", "3|false|false|true", "4|NULL|NULL|true"],
    );
    fixture.check(
        "SELECT greatest(INTERVAL '1 month', INTERVAL '29 days') = INTERVAL '30 days', least(INTERVAL '1 day', NULL) = INTERVAL '1 day', \
         greatest(NULL::INTERVAL, NULL) IS NULL",
        &["true|true|true"],
    );
    fixture.check("SELECT id FROM t WHERE greatest(a, b) > INTERVAL '30 days'", &["3"]);
    fixture.check_error_part(
        "SELECT greatest(a, 1) FROM t",
        ErrorCode::TypeMismatch,
        "takes no BIGINT beside an INTERVAL",
    );
}
