//! 0.0 and −0.0 are one number wherever numbers are compared, and are kept as they came.

use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, x DOUBLE, y DOUBLE, r REAL)",
        "INSERT INTO t VALUES (1, 0.0, -0.0, 0.0), (2, 1, 1, 1), (3, NULL, 0.0, NULL), (4, -0.0, 0.0, -0.0), (5, -0.0, -0.0, -0.0)",
    ]);
    fixture
}

#[test]
fn columns_are_compared_and_joined() {
    let fixture = fixture();
    fixture.check(
        "SELECT x, y FROM t WHERE id IN (1, 4) ORDER BY id",
        &["0.0|-0.0", "-0.0|0.0"],
    );
    fixture.check(
        "SELECT id, x = y, x < y, x <> y, x IS DISTINCT FROM y, x >= y, x IN (y), x BETWEEN y AND y, r = y FROM t WHERE id <> 3 ORDER BY id",
        &[
            "1|true|false|false|false|true|true|true|true",
            "2|true|false|false|false|true|true|true|true",
            "4|true|false|false|false|true|true|true|true",
            "5|true|false|false|false|true|true|true|true",
        ],
    );
    for sql in [
        "SELECT a.id FROM t a JOIN t b ON a.x = b.y WHERE b.id = 4 ORDER BY 1",
        "SELECT a.id FROM t a JOIN t b ON a.x = b.y AND a.r = b.x WHERE b.id = 4 ORDER BY 1",
        "SELECT id FROM t WHERE x IN (SELECT y FROM t WHERE id = 4) ORDER BY 1",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t u WHERE u.y = t.x AND u.id = 4) ORDER BY 1",
        "SELECT id FROM t WHERE nullif(x, 0) IS NULL AND x IS NOT NULL ORDER BY 1",
        "SELECT id FROM t WHERE nullif(x, y) IS NULL AND id <> 2 AND x IS NOT NULL ORDER BY 1",
        "SELECT id FROM t WHERE CASE x WHEN y - y THEN true ELSE false END ORDER BY 1",
    ] {
        fixture.check(sql, &["1", "4", "5"]);
    }
    // What is not replaced stays as it is.
    fixture.check("SELECT nullif(x, 7) FROM t WHERE id = 4", &["-0.0"]);
}

#[test]
fn rows_are_grouped_and_sorted() {
    let fixture = fixture();
    for sql in [
        "SELECT count(*) FROM t GROUP BY x ORDER BY 1",
        "SELECT count(*) FROM t GROUP BY x, r ORDER BY 1",
        "SELECT DISTINCT count(*) OVER (PARTITION BY x) FROM t ORDER BY 1",
    ] {
        assert_eq!(fixture.rows(sql).last().map(String::as_str), Some("3"), "{sql}");
    }
    fixture.check("SELECT count(DISTINCT x) FROM t", &["2"]);
    fixture.check("SELECT id FROM t ORDER BY x, id", &["1", "4", "5", "2", "3"]);
    fixture.check(
        "SELECT id FROM t ORDER BY x DESC NULLS LAST, id DESC LIMIT 3",
        &["2", "5", "4"],
    );
    fixture.check("SELECT array_agg(id ORDER BY r, id) FROM t", &["[1, 4, 5, 2, 3]"]);
    fixture.check(
        "SELECT id, rank() OVER (ORDER BY x), row_number() OVER (PARTITION BY x ORDER BY id), \
         sum(id) OVER (ORDER BY r RANGE BETWEEN 0.5 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
        &["1|1|1|10", "2|4|1|2", "3|5|1|3", "4|1|2|10", "5|1|3|10"],
    );
    fixture.check(
        "SELECT count(*) FROM (SELECT x FROM t UNION SELECT y FROM t) AS u",
        &["3"],
    );
    fixture.check(
        "SELECT count(*) FROM (SELECT x FROM t EXCEPT SELECT y FROM t) AS u",
        &["1"],
    );
}

#[test]
fn what_is_sorted_has_the_type_that_it_ends_with() {
    let fixture = fixture();
    fixture.check(
        "SELECT array_agg(DISTINCT x ORDER BY x) IS NULL FROM t WHERE id < 3",
        &["false"],
    );
    // The second branch makes texts of the first's numbers, and doubles of reals.
    fixture.check(
        "SELECT x FROM t WHERE id = 2 UNION ALL SELECT 'b' UNION ALL SELECT 'a' ORDER BY x",
        &["1.0", "a", "b"],
    );
    fixture.check(
        "SELECT r FROM t WHERE id = 2 UNION ALL SELECT 1.00000000001::DOUBLE UNION ALL SELECT 1.00000000002::DOUBLE ORDER BY r DESC",
        &["1.00000000002", "1.00000000001", "1.0"],
    );
}

#[test]
fn distinct_on_takes_the_first_row_of_both_zeros() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE f (id INT PRIMARY KEY, x DOUBLE, r REAL)",
        "INSERT INTO f VALUES (1, 0.0, 2), (2, -0.0, 2), (3, 1, 0.0), (4, 1, -0.0), (5, NULL, NULL)",
    ]);
    fixture.check(
        "SELECT DISTINCT ON (x) x, id FROM f ORDER BY x, id",
        &["0.0|1", "1.0|3", "NULL|5"],
    );
    fixture.check(
        "SELECT DISTINCT ON (x) x, id FROM f ORDER BY x DESC, id DESC",
        &["NULL|5", "1.0|4", "-0.0|2"],
    );
    fixture.check(
        "SELECT DISTINCT ON (x * -1) id FROM f WHERE x IS NOT NULL ORDER BY x * -1, id",
        &["3", "1"],
    );
    fixture.check(
        "SELECT DISTINCT ON (x, r) id FROM f ORDER BY x, r, id DESC",
        &["2", "4", "5"],
    );
    fixture.check(
        "SELECT DISTINCT ON (id % 2) id FROM f ORDER BY id % 2, r, id",
        &["4", "3"],
    );
}
