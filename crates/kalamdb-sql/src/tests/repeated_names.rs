//! Result columns of one name: they come under the name that the statement gives them, in all places that take a SELECT list.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, Outcome};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (v INT PRIMARY KEY, w TEXT, doc JSON)",
        "INSERT INTO t VALUES (1, 'b', '{}'), (2, 'a', '[]')",
    ]);
    fixture
}

/// The names of the result's columns, as described and as run.
#[track_caller]
fn check_names(fixture: &Fixture, sql: &str, expected: &[&str]) {
    let described = fixture.database.describe(&fixture.root, sql);
    let described = fixture.block_on(described).expect(sql);
    let names = described.result.fields().iter().map(|field| field.name().as_str());
    assert_eq!(names.collect::<Vec<_>>(), expected, "{sql}, described");
    match fixture.execute_as(&fixture.root, sql, Parameters::none()).expect(sql) {
        Outcome::Rows(batches) => {
            let schema = batches.first().expect("rows").schema();
            assert_eq!(schema, described.result, "{sql}, run");
        }
        Outcome::Done(_) => panic!("{sql}: no rows"),
    }
}

#[test]
fn columns_keep_the_names_that_they_share() {
    let fixture = fixture();
    check_names(&fixture, "SELECT v, v FROM t", &["v", "v"]);
    check_names(&fixture, "SELECT v, v::TEXT, t.v AS w, w FROM t", &["v", "v", "w", "w"]);
    check_names(&fixture, "SELECT *, v FROM t", &["v", "w", "doc", "v"]);
    check_names(&fixture, "SELECT *, w AS v FROM t", &["v", "w", "doc", "v"]);
    check_names(&fixture, "SELECT 1, 1", &["1", "1"]);
    check_names(&fixture, "SELECT max(v), max(v) FROM t", &["max(v)", "max(v)"]);
    check_names(&fixture, "SELECT v AS a, w AS \"A\", w AS a FROM t", &["a", "A", "a"]);
    check_names(&fixture, "SELECT v, v FROM t UNION SELECT 7, 7", &["v", "v"]);
    check_names(&fixture, "(SELECT v, v FROM t) ORDER BY v LIMIT 1", &["v", "v"]);
    check_names(&fixture, "SELECT DISTINCT w, w FROM t ORDER BY w", &["w", "w"]);
    check_names(
        &fixture,
        "DELETE FROM t WHERE v = 2 RETURNING v, *, v",
        &["v", "v", "w", "doc", "v"],
    );
    check_names(&fixture, "UPDATE t SET v = 5 RETURNING v, v", &["v", "v"]);
    check_names(&fixture, "INSERT INTO t (v) VALUES (9) RETURNING v, v", &["v", "v"]);
}

#[test]
fn order_and_groups_find_the_first_of_a_name() {
    let fixture = fixture();
    fixture.check("SELECT v, v FROM t ORDER BY v DESC", &["2|2", "1|1"]);
    fixture.check(
        "SELECT w, w, count(*) FROM t GROUP BY w ORDER BY w",
        &["a|a|1", "b|b|1"],
    );
    fixture.check("SELECT w AS k, w AS k FROM t ORDER BY k", &["a|a", "b|b"]);
    fixture.check("SELECT -v AS k, w, w FROM t ORDER BY k", &["-2|a|a", "-1|b|b"]);
    fixture.check("SELECT v, v FROM t ORDER BY 2 DESC", &["2|2", "1|1"]);
    // The column that ORDER BY brings along has the name of its cast.
    fixture.check("SELECT w::TEXT FROM t ORDER BY w", &["a", "b"]);
    fixture.check("SELECT count(*) FROM t WHERE EXISTS (SELECT 1, 1)", &["2"]);
    fixture.check_error(
        "SELECT v AS k, w AS k FROM t ORDER BY k",
        ErrorCode::InvalidStatement,
        Some((1, 21)),
        "either of two columns",
    );
    fixture.check_error_part(
        "SELECT v AS k, w AS k FROM t GROUP BY k",
        ErrorCode::InvalidStatement,
        "either of two columns",
    );
}

#[test]
fn where_a_name_is_needed_two_columns_cannot_share_it() {
    let fixture = fixture();
    let check = |sql: &str, part: &str| fixture.check_error_part(sql, ErrorCode::InvalidStatement, part);
    check("SELECT * FROM (SELECT v, v FROM t) s", "columns 1 and 2 of a SELECT");
    check("SELECT * FROM (SELECT *, * FROM t) s", "same name");
    check("CREATE TABLE u AS SELECT v, v FROM t", "two columns 'v'");
    check("CREATE VIEW u AS SELECT v, w AS v FROM t", "two columns 'v'");
    fixture.run(&[
        "CREATE TABLE u (a, b) AS SELECT v, v FROM t",
        "CREATE VIEW x (a, b) AS SELECT w, w FROM t",
        "INSERT INTO u SELECT v + 10, v + 10 FROM t WHERE v = 1",
    ]);
    fixture.check("SELECT * FROM u ORDER BY a", &["1|1", "2|2", "11|11"]);
    fixture.check("SELECT b FROM x ORDER BY a", &["a", "b"]);
    fixture.check(
        "SELECT a * b FROM (SELECT v, v FROM t) AS s (a, b) ORDER BY 1",
        &["1", "4"],
    );
    // A name like ours is a name like any other.
    fixture.check(
        "SELECT \"?column 2?v\" FROM (SELECT v AS \"?column 2?v\" FROM t WHERE v = 1) s",
        &["1"],
    );
    check_names(&fixture, "SELECT v AS \"?column 2?x\" FROM t", &["?column 2?x"]);
}

#[test]
fn parameters_are_those_of_the_text() {
    let fixture = fixture();
    let given = crate::testing::parameters(vec![std::sync::Arc::new(arrow::array::Int32Array::from(vec![2]))]);
    assert_eq!(
        fixture.rows_as(&fixture.root, "SELECT v, v, $1 FROM t WHERE v = $1", given),
        ["2|2|2"]
    );
}

#[test]
fn aggregates_and_groups_that_differ_by_a_cast_are_told_apart() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (v INT PRIMARY KEY, w REAL)",
        "INSERT INTO t VALUES (1, 0.5), (2, 0.25)",
    ]);
    check_names(
        &fixture,
        "SELECT sum(v), sum(v::BIGINT) FROM t",
        &["sum(v)", "sum(v::BIGINT)"],
    );
    fixture.check(
        "SELECT sum(v), sum(v::BIGINT), max(v::TEXT), max(v), max(v::DOUBLE) FROM t",
        &["3|3|2|2|2.0"],
    );
    fixture.check(
        "SELECT sum(v), sum(v::BIGINT) + 1 FROM t HAVING sum(v::BIGINT) > 0 ORDER BY sum(v::BIGINT)",
        &["3|4"],
    );
    fixture.check(
        "SELECT sum(w), sum(w::DOUBLE) OVER () FROM t GROUP BY w ORDER BY 1",
        &["0.25|0.75", "0.5|0.75"],
    );
    check_names(
        &fixture,
        "SELECT sum(v), sum(v::BIGINT), 7 FROM t",
        &["sum(v)", "sum(v::BIGINT)", "7"],
    );
}

#[test]
fn groups_are_told_apart_by_their_casts() {
    let fixture = fixture();
    for (sql, expected) in [
        ("SELECT count(*) FROM t GROUP BY v, v::TEXT ORDER BY 1", ["1", "1"]),
        (
            "SELECT v, v::TEXT, count(*) FROM t GROUP BY v, v::TEXT ORDER BY v",
            ["1|1|1", "2|2|1"],
        ),
        (
            "SELECT v::TEXT || '!', v FROM t GROUP BY v::TEXT, v ORDER BY v",
            ["1!|1", "2!|2"],
        ),
        (
            "SELECT at::DATE, at, count(*) FROM (SELECT TIMESTAMP '2024-01-01 10:00:00' + v * INTERVAL '1 hour' AS at FROM t) AS q \
             GROUP BY at::DATE, at ORDER BY at",
            ["2024-01-01|2024-01-01T11:00:00|1", "2024-01-01|2024-01-01T12:00:00|1"],
        ),
        (
            "SELECT w::TEXT, w, grouping(w) FROM t GROUP BY ROLLUP (w::TEXT, w) HAVING grouping(w) = 0 ORDER BY 1",
            ["a|a|0", "b|b|0"],
        ),
    ] {
        fixture.check(sql, &expected);
    }
}

#[test]
fn intersect_and_except_compare_columns_of_one_name_by_their_places() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE s (id INT PRIMARY KEY, a INT, b INT)",
        "INSERT INTO s VALUES (1, NULL, 1), (2, 2, NULL), (3, 3, 3), (4, 9, 9)",
    ]);
    let pairs = "SELECT x.a, y.a FROM s x CROSS JOIN s y";
    fixture.check(
        &format!("{pairs} INTERSECT SELECT z.b, z.a FROM s z ORDER BY 1 NULLS LAST"),
        &["3|3", "9|9", "NULL|2"],
    );
    fixture.check(
        &format!("{pairs} INTERSECT ALL SELECT z.b, z.a FROM s z ORDER BY 1 NULLS LAST"),
        &["3|3", "9|9", "NULL|2"],
    );
    fixture.check(
        &format!("{pairs} WHERE x.id IN (2, 3) AND y.id = 3 EXCEPT SELECT z.b, z.a FROM s z"),
        &["2|3"],
    );
    check_names(
        &fixture,
        &format!("{pairs} EXCEPT SELECT z.b, z.a FROM s z"),
        &["a", "a"],
    );
    // The left side has a column of the name that is beside the second one here.
    fixture.check(
        "SELECT x.a, y.a, x.b FROM s x CROSS JOIN s y INTERSECT SELECT z.b, z.a, z.id FROM s z ORDER BY 1",
        &["3|3|3"],
    );
    fixture.check(
        &format!("({pairs} INTERSECT SELECT z.b, z.a FROM s z) UNION ALL SELECT 1, 1 ORDER BY 1 NULLS LAST"),
        &["1|1", "3|3", "9|9", "NULL|2"],
    );
    fixture.check_error_part(
        "SELECT x.a, y.a FROM s x CROSS JOIN s y INTERSECT SELECT nosuch, id FROM s",
        ErrorCode::ColumnNotFound,
        "nosuch",
    );
}
