//! TIMESTAMP WITH TIME ZONE: a moment, read and written in the session's zone.

use std::sync::Arc;

use arrow::array::{Array, StringArray};
use kalamdb_core::ErrorCode;

use crate::testing::{Fixture, parameters};

#[test]
fn a_moment_always_has_its_zone() {
    let fixture = Fixture::new();
    for set in [
        None,
        Some("SET time_zone = 'UTC'"),
        Some("SET time_zone = 'Europe/Warsaw'"),
    ] {
        fixture.run(set.as_slice());
        fixture.check(
            "SELECT arrow_typeof(TIMESTAMPTZ '2026-01-01T00:00:00+02:00'), TIMESTAMPTZ '2026-01-01T00:00:00+02:00', \
             arrow_typeof(now()), now(), arrow_typeof(CAST('2026-01-01 00:00:00Z' AS TIMESTAMP(3) WITH TIME ZONE))",
            &["Timestamp(ns, \"UTC\")|2025-12-31T22:00:00Z|Timestamp(ns, \"UTC\")|2024-05-01T12:00:00Z|Timestamp(ms, \"UTC\")"],
        );
        fixture
            .run(&["CREATE OR REPLACE TABLE made AS SELECT TIMESTAMPTZ '2026-01-01 00:00:00+02:00' AS z, now() AS n"]);
        fixture.check(
            "DESCRIBE made",
            &[
                "z|TIMESTAMP(9) WITH TIME ZONE|true|NULL|NULL",
                "n|TIMESTAMP(9) WITH TIME ZONE|true|NULL|NULL",
            ],
        );
    }
    fixture.run(&["RESET time_zone"]);
    fixture.check("SELECT CAST(now() AS TEXT)", &["2024-05-01T12:00:00Z"]);
}

fn in_warsaw() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE m (id INT PRIMARY KEY, at TIMESTAMPTZ, local TIMESTAMP, d DATE, t TEXT)",
        "SET time_zone = 'Europe/Warsaw'",
    ]);
    fixture
}

#[test]
fn what_has_no_offset_is_read_in_the_sessions_zone_on_every_path() {
    let fixture = in_warsaw();
    fixture.run(&[
        "INSERT INTO m (id, at) VALUES (1, '2026-01-01 12:00:00'), (2, '2026-01-01 11:00:00Z')",
        "INSERT INTO m (id, at) VALUES (3, TIMESTAMP '2026-01-01 12:00:00')",
        "INSERT INTO m (id, at) VALUES (4, TIMESTAMPTZ '2026-01-01 12:00:00')",
        "INSERT INTO m (id, at) VALUES (5, CAST('2026-01-01 12:00:00' AS TIMESTAMPTZ))",
        "INSERT INTO m (id, at) SELECT 6, '2026-01-01 12:00:00'",
        "INSERT INTO m (id, at) SELECT 7, TIMESTAMP '2026-01-01 12:00:00'",
        "INSERT INTO m (id, at) SELECT 8, TIMESTAMP '2026-01-01 00:00:00' + INTERVAL '12 hours'",
        "INSERT INTO m (id, at) SELECT 9, to_timestamp('2026-01-01 12:00:00')",
        "INSERT INTO m (id, at) VALUES (10, NULL)",
        "UPDATE m SET at = '2026-01-01 12:00:00' WHERE id = 10",
    ]);
    let text: Arc<dyn Array> = Arc::new(StringArray::from(vec!["2026-01-01 12:00:00"]));
    let given = parameters(vec![text]);
    fixture.check_count("INSERT INTO m (id, at) VALUES (11, $1)", given.clone(), 1);
    fixture.check_count("INSERT INTO m (id, at) SELECT 12, $1::TIMESTAMPTZ", given.clone(), 1);
    fixture.check(
        "SELECT count(*), min(at), max(at) FROM m",
        &["12|2026-01-01T11:00:00Z|2026-01-01T11:00:00Z"],
    );
    for condition in [
        "at = '2026-01-01 12:00:00'",
        "at IN ('2026-01-01 12:00:00', '2020-01-01 00:00:00')",
        "at BETWEEN '2026-01-01 12:00:00' AND '2026-01-01 12:00:01'",
        "at = TIMESTAMP '2026-01-01 12:00:00'",
        "at = TIMESTAMPTZ '2026-01-01 12:00:00'",
        "CAST(at AS DATE) = DATE '2026-01-01'",
        "at > DATE '2026-01-01' AND at < DATE '2026-01-02'",
    ] {
        fixture.check(&format!("SELECT count(*) FROM m WHERE {condition}"), &["12"]);
    }
    let counted = fixture.rows_as(&fixture.root, "SELECT count(*) FROM m WHERE at = $1", given);
    assert_eq!(counted, ["12"]);
    // Midnight here is the day before in UTC.
    fixture.run(&["INSERT INTO m (id, at) VALUES (20, DATE '2026-07-01')"]);
    fixture.check("SELECT at FROM m WHERE id = 20", &["2026-06-30T22:00:00Z"]);
}

#[test]
fn a_moment_becomes_what_the_sessions_clocks_show() {
    let fixture = in_warsaw();
    fixture.run(&[
        "INSERT INTO m (id, at) VALUES (1, '2026-01-01 00:30:00')",
        "INSERT INTO m (id, local) SELECT 2, at FROM m",
        "INSERT INTO m (id, t) SELECT 3, at FROM m WHERE id = 1",
        "INSERT INTO m (id, d) SELECT 4, date_trunc('day', at) FROM m WHERE id = 1",
    ]);
    fixture.check("SELECT local FROM m WHERE id = 2", &["2026-01-01T00:30:00"]);
    fixture.check("SELECT t FROM m WHERE id = 3", &["2026-01-01T00:30:00+01:00"]);
    fixture.check("SELECT d FROM m WHERE id = 4", &["2026-01-01"]);
    for (expression, expected) in [
        ("at", "2025-12-31T23:30:00Z"),
        ("CAST(at AS TEXT)", "2026-01-01T00:30:00+01:00"),
        ("'at ' || at", "at 2026-01-01T00:30:00+01:00"),
        ("at::TIMESTAMP", "2026-01-01T00:30:00"),
        ("at::DATE", "2026-01-01"),
        ("at::TIME", "00:30:00"),
        ("extract(year FROM at)", "2026"),
        ("date_trunc('day', at)", "2025-12-31T23:00:00Z"),
        ("to_char(at, '%Y-%m-%d %H:%M')", "2026-01-01 00:30"),
        ("to_local_time(at)", "2026-01-01T00:30:00"),
        ("CAST(at + INTERVAL '180 days' AS TEXT)", "2026-06-30T00:30:00+02:00"),
        ("CAST(INTERVAL '1 month' + at AS TEXT)", "2026-02-01T00:30:00+01:00"),
        ("at AT TIME ZONE 'America/New_York'", "2025-12-31T18:30:00"),
        (
            "TIMESTAMP '2026-01-01 12:00:00' AT TIME ZONE 'America/New_York'",
            "2026-01-01T17:00:00Z",
        ),
        ("at AT TIME ZONE NULL", "NULL"),
        ("TRY_CAST(TIMESTAMP '2026-03-29 02:30:00' AS TIMESTAMPTZ)", "NULL"),
        ("TRY_CAST('2026-03-29 02:30:00' AS TIMESTAMPTZ)", "NULL"),
        ("TRY_CAST('soon' AS TIMESTAMPTZ)", "NULL"),
    ] {
        fixture.check(&format!("SELECT {expression} FROM m WHERE id = 1"), &[expected]);
    }
    // A local time beside a moment is one of the session's zone, whichever of them is the constant.
    for condition in [
        "local = TIMESTAMPTZ '2025-12-31 23:30:00Z'",
        "local > TIMESTAMPTZ '2025-12-31 23:29:00Z' AND local < TIMESTAMPTZ '2025-12-31 23:31:00Z'",
        "local = (SELECT at FROM m WHERE id = 1)",
    ] {
        fixture.check(&format!("SELECT id FROM m WHERE {condition}"), &["2"]);
    }
    fixture.check(
        "SELECT at::DATE, count(*) FROM m WHERE at IS NOT NULL GROUP BY at::DATE ORDER BY at::DATE",
        &["2026-01-01|1"],
    );
    let gap = "SELECT CAST(local + INTERVAL '87 days 2 hours' AS TIMESTAMPTZ) FROM m WHERE id = 2";
    fixture.check_error(
        gap,
        ErrorCode::InvalidArgument,
        None,
        "2026-03-29T02:30:00 is not one moment",
    );
    let mars = "SELECT at AT TIME ZONE 'Mars' FROM m";
    fixture.check_error(mars, ErrorCode::InvalidArgument, None, "'Mars' is no time zone");
}
