//! A column takes a value exactly or refuses it, whichever way it comes.

use std::sync::Arc;

use arrow::array::{Array, Decimal128Array, Float64Array, Int64Array, StringArray};
use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, p DECIMAL(10, 2), r REAL, f DOUBLE, n INT, d DATE, s TIMESTAMP(0))",
        "INSERT INTO t (id, p) VALUES (1, 10)",
    ]);
    fixture
}

#[test]
fn what_does_not_fit_is_refused_on_every_path() {
    let fixture = fixture();
    for sql in [
        "INSERT INTO t (id, p) VALUES (9, 1.005)",
        "INSERT INTO t (id, p) VALUES (9, '1.005')",
        "INSERT INTO t (id, p) VALUES (9, 1.0 + 0.005)",
        "INSERT INTO t (id, p) VALUES (9, CAST(1.005 AS DOUBLE))",
        "INSERT INTO t (id, p) VALUES (9, 1.25), (10, 1.005)",
        "INSERT INTO t (id, p) SELECT 9, 1.005",
        "INSERT INTO t (id, p) SELECT 9, '1.005'",
        "INSERT INTO t (id, p) SELECT 9, CAST(1.005 AS DECIMAL(10, 3))",
        "INSERT INTO t (id, p) SELECT 9, CAST(1.005 AS DOUBLE)",
        "UPDATE t SET p = 1.005",
        "UPDATE t SET p = p + 0.005",
        "UPDATE t SET p = p / 3",
        "INSERT INTO t (id, n) VALUES (9, 1.5)",
        "INSERT INTO t (id, n) SELECT 9, 1.5",
        "INSERT INTO t (id, n) SELECT 9, CAST(1.5 AS DECIMAL(3, 1))",
        "INSERT INTO t (id, r) VALUES (9, 1e300)",
        "INSERT INTO t (id, r) SELECT 9, 1e300",
        "INSERT INTO t (id, f) VALUES (9, 1e400)",
        "INSERT INTO t (id, f) VALUES (9, '1e400')",
        "INSERT INTO t (id, f) SELECT 9, '1e400'",
        "INSERT INTO t (id, d) VALUES (9, '2026-01-01 12:00:00')",
        "INSERT INTO t (id, d) VALUES (9, TIMESTAMP '2026-01-01 12:00:00')",
        "INSERT INTO t (id, d) SELECT 9, TIMESTAMP '2026-01-01 12:00:00'",
        "INSERT INTO t (id, s) VALUES (9, '2026-01-01 12:00:00.5')",
        "INSERT INTO t (id, s) VALUES (9, '9026-01-01 12:00:00.5')",
        "INSERT INTO t (id, s) SELECT 9, TIMESTAMP '2026-01-01 12:00:00.5'",
    ] {
        fixture.check_error_part(sql, ErrorCode::TypeMismatch, "does not fit");
    }
    let too_large = "INSERT INTO t (id, f) SELECT 9, 1e400";
    fixture.check_error(too_large, ErrorCode::TypeMismatch, Some((1, 33)), "beyond the range");
    let default = "CREATE TABLE u (id INT PRIMARY KEY, p DECIMAL(10, 2) DEFAULT 1.005)";
    fixture.check_error(default, ErrorCode::TypeMismatch, Some((1, 37)), "does not fit");
    fixture.check("SELECT id, p FROM t", &["1|10.00"]);
}

#[test]
fn what_fits_is_taken_on_every_path() {
    let fixture = fixture();
    fixture.run(&[
        "INSERT INTO t (id, p) VALUES (2, 1.250), (3, '1.25'), (4, CAST(1.25 AS DOUBLE)), (5, 125e-2)",
        "INSERT INTO t (id, p) SELECT 6, 1.250",
        "INSERT INTO t (id, p) SELECT 7, CAST(1.25 AS DOUBLE)",
        "INSERT INTO t (id, p) SELECT 8, CAST(1.25 AS DECIMAL(20, 10))",
        // A CAST rounds, as it says.
        "INSERT INTO t (id, p) SELECT 9, CAST(1.2549 AS DECIMAL(10, 2))",
    ]);
    fixture.check("SELECT DISTINCT p FROM t WHERE id BETWEEN 2 AND 9", &["1.25"]);
    // Numbers beside a DECIMAL are decimals: as doubles, none of these would be a number of cents.
    fixture.run(&["UPDATE t SET p = (p + 0.1 + 0.2) * 1.1 - 0.33 WHERE id = 1"]);
    fixture.check("SELECT p FROM t WHERE id = 1", &["11.00"]);
    fixture.check(
        "SELECT p * 1.1, arrow_typeof(0.1 + p), arrow_typeof(p / 2.0) FROM t WHERE id = 1",
        &["12.100|Decimal128(11, 2)|Float64"],
    );
    fixture.run(&["INSERT INTO t (id, f, r) VALUES (20, '-Infinity', 0.1), (21, 0.1, 'NaN')"]);
    fixture.check(
        "SELECT f, r FROM t WHERE id >= 20 ORDER BY id",
        &["-inf|0.1", "0.1|NaN"],
    );
}

#[test]
fn parameters_are_no_exception() {
    let fixture = fixture();
    let decimal = |value: i128, scale: i8| -> Arc<dyn Array> {
        let array = Decimal128Array::from(vec![value]).with_precision_and_scale(10, scale);
        Arc::new(array.expect("valid"))
    };
    let text = |text: &str| -> Arc<dyn Array> { Arc::new(StringArray::from(vec![text])) };
    let double = |value: f64| -> Arc<dyn Array> { Arc::new(Float64Array::from(vec![value])) };
    let refuse = |sql: &str, value: Arc<dyn Array>| {
        fixture.check_error_as(
            &fixture.root,
            sql,
            parameters(vec![value]),
            ErrorCode::TypeMismatch,
            None,
            "does not fit",
        );
    };
    for sql in [
        "INSERT INTO t (id, p) VALUES (9, $1)",
        "INSERT INTO t (id, p) SELECT 9, $1",
        "UPDATE t SET p = $1",
    ] {
        refuse(sql, decimal(1_005, 3));
        refuse(sql, text("1.005"));
        refuse(sql, double(1.005));
    }
    refuse("INSERT INTO t (id, r) VALUES (9, $1)", double(1e300));
    refuse("INSERT INTO t (id, f) VALUES (9, $1)", text("1e400"));
    for (id, value) in [(2, decimal(1_250, 3)), (3, text("1.25")), (4, double(1.25))] {
        let id: Arc<dyn Array> = Arc::new(Int64Array::from(vec![id]));
        fixture.check_count("INSERT INTO t (id, p) VALUES ($1, $2)", parameters(vec![id, value]), 1);
    }
    let sql = "INSERT INTO t (id, f) VALUES (5, $1)";
    fixture.check_count(sql, parameters(vec![double(f64::INFINITY)]), 1);
    assert_eq!(
        fixture.rows_as(&fixture.root, "SELECT p, f FROM t ORDER BY id", Parameters::none()),
        ["10.00|NULL", "1.25|NULL", "1.25|NULL", "1.25|NULL", "NULL|inf"]
    );
}

#[test]
fn a_cast_rounds_the_number_that_is_written() {
    let fixture = fixture();
    fixture.check(
        "SELECT CAST(1.005 AS DECIMAL(10, 2)) AS a, -1.005::NUMERIC(10, 2) AS b, CAST((-1.005) AS DECIMAL(10, 2)) AS c, \
         TRY_CAST(0.285 AS DECIMAL(5, 2)) AS d, CAST(1e2 AS DECIMAL(5, 2)) AS e",
        &["1.01|-1.01|-1.01|0.29|100.00"],
    );
}

#[test]
fn integers_beyond_64_bits_are_exact_with_their_sign() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE w (d DECIMAL(38, 0) PRIMARY KEY)",
        "INSERT INTO w VALUES (-9223372036854776000), (-9223372036854775809), (-18446744073709551615), (1)",
    ]);
    let one = "-9223372036854775809";
    for predicate in [
        "d = -9223372036854775809",
        "d = -(9223372036854775809)",
        "d = -9_223_372_036_854_775_809",
        "d IN (-9223372036854775809, 7)",
        "d BETWEEN -9223372036854775809 AND -9223372036854775809",
        "d > -9223372036854775810 AND d < 0",
        "d + 9223372036854775809 = 0",
        "d - -9223372036854775809 = 0",
    ] {
        fixture.check(&format!("SELECT d FROM w WHERE {predicate}"), &[one]);
    }
    fixture.check(
        "SELECT d FROM w WHERE d = -18446744073709551615",
        &["-18446744073709551615"],
    );
    fixture.check(
        "SELECT -9223372036854775809, arrow_typeof(-9223372036854775809), arrow_typeof(-9223372036854775808)",
        &["-9223372036854775809|Decimal128(19, 0)|Int64"],
    );
    fixture.check("DELETE FROM w WHERE d = -9223372036854775809 RETURNING d", &[one]);
    fixture.run(&["CREATE TABLE made AS SELECT 1 AS id, -9223372036854775809 AS d"]);
    fixture.check("SELECT d FROM made", &[one]);
    let long = "9".repeat(77);
    let sql = format!("SELECT {long}");
    fixture.check_error(&sql, ErrorCode::TypeMismatch, Some((1, 8)), "77 digits");
    fixture.check(&format!("SELECT {}", &long[1..]), &[&long[1..]]);
}
