//! What DataFusion or its parser would read otherwise, or not at all, means what it does in PostgreSQL.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};

/// The value of an expression, as text.
#[track_caller]
fn check_value(fixture: &Fixture, expression: &str, expected: &str) {
    fixture.check(&format!("SELECT {expression} AS value"), &[expected]);
}

/// A statement whose error is at `«…»`.
#[track_caller]
fn check_marked(fixture: &Fixture, marked: &str, code: ErrorCode, part: &str) {
    let before = marked.split('«').next().unwrap_or_default();
    let place = Some((1, before.chars().count() as u64 + 1));
    fixture.check_error(&marked.replace(['«', '»'], ""), code, place, part);
}

/// The ids that a condition takes, each followed by a blank.
#[track_caller]
fn check_ids(fixture: &Fixture, condition: &str, expected: &str) {
    let rows = fixture.rows(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"));
    assert_eq!(rows.join(" "), expected, "{condition}");
}

#[test]
fn is_distinct_from_ends_where_something_binds_less() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, x BOOLEAN, y BOOLEAN)",
        "INSERT INTO t VALUES (1, true, true), (2, true, false), (3, NULL, true), (4, NULL, NULL)",
    ]);
    for (condition, expected) in [
        ("x IS DISTINCT FROM y AND id > 2", "3"),
        ("x IS DISTINCT FROM y OR id = 1", "1 2 3"),
        ("x IS NOT DISTINCT FROM y AND id > 2", "4"),
        ("id > 2 AND x IS NOT DISTINCT FROM y OR id = 1", "1 4"),
        ("NOT x IS DISTINCT FROM y", "1 4"),
        ("NOT x IS DISTINCT FROM y AND id > 1", "4"),
        ("id IS DISTINCT FROM 1 + 1 AND TRUE", "1 3 4"),
        ("x IS NOT DISTINCT FROM id < 3", "1 2"),
        ("id = 1 IS DISTINCT FROM x", "2 3 4"),
        ("id IS NOT DISTINCT FROM 2 * 2 - 1", "3"),
        ("x IS DISTINCT FROM NOT y AND id < 4", "1 3"),
        ("(x IS DISTINCT FROM y) IS TRUE AND id < 3", "2"),
        ("x IS NULL IS DISTINCT FROM y AND id > 1", "4"),
        ("CASE WHEN x IS DISTINCT FROM y THEN id ELSE 0 END > 2", "3"),
        (
            "id IN (SELECT CASE WHEN x IS NOT DISTINCT FROM y THEN id END FROM t)",
            "1 4",
        ),
    ] {
        check_ids(&fixture, condition, expected);
    }
    fixture.check(
        "SELECT a.id FROM t a JOIN t b ON a.x IS NOT DISTINCT FROM b.x AND a.id < b.id ORDER BY a.id",
        &["1", "3"],
    );
    for marked in [
        "SELECT x IS DISTINCT FROM y «IS TRUE» FROM t",
        "SELECT x IS NOT DISTINCT FROM y «IS DISTINCT FROM x» FROM t",
    ] {
        check_marked(&fixture, marked, ErrorCode::SyntaxError, "");
    }
    let none = "DELETE FROM t WHERE x IS DISTINCT FROM y AND id > 100";
    fixture.check_count(none, Parameters::none(), 0);
    fixture.check_count(
        "UPDATE t SET y = x WHERE x IS DISTINCT FROM y AND id < 3",
        Parameters::none(),
        1,
    );
}

#[test]
fn a_sign_binds_before_powers() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("(-2 ^ 2)::INT", "4"),
        ("(5 - -2 ^ 2)::INT", "1"),
        ("(2 ^ 3 ^ 2)::INT", "64"),
        ("(-(2 ^ 2))::INT", "-4"),
        ("(2.0 ^ -1)::DOUBLE", "0.5"),
        ("-2 * -3 - -1", "7"),
        ("-7 % 4", "-3"),
        ("-'5'::INT", "-5"),
        ("+ 1 - + 2", "-1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-[1, 2][2]", "-2"),
    ] {
        check_value(&fixture, expression, expected);
    }
}

#[test]
fn rows_are_compared_element_by_element() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("(1, 2) = (1, 2)", "true"),
        ("(1, 2) = (1, NULL)", "NULL"),
        ("(1, 2) = (2, NULL)", "false"),
        ("(1, 2) <> (1, NULL)", "NULL"),
        ("(1, 2) <> (2, NULL)", "true"),
        ("(1, 2) != (1, 2)", "false"),
        ("(1, 2) < (1, 3)", "true"),
        ("(1, 3) < (1, 3)", "false"),
        ("(1, 3) <= (1, 3)", "true"),
        ("(1, NULL) < (2, 0)", "true"),
        ("(1, NULL) < (1, 0)", "NULL"),
        ("(2, NULL) < (1, 0)", "false"),
        ("(NULL, 1) < (2, 0)", "NULL"),
        ("(1, 2, 3) > (1, 2, 2)", "true"),
        ("(1, 2, 3) > (1, 3, 0)", "false"),
        ("(1, 2, 3) >= (1, 2, 3)", "true"),
        ("(1, 2, NULL) >= (1, 2, 3)", "NULL"),
        ("(1, NULL) IS DISTINCT FROM (1, NULL)", "false"),
        ("(1, NULL) IS DISTINCT FROM (1, 2)", "true"),
        ("(1, NULL) IS NOT DISTINCT FROM (1, 2) OR true", "true"),
        ("(1, 2) IN ((1, 3), (1, 2))", "true"),
        ("(1, 2) IN ((1, NULL), (3, 4))", "NULL"),
        ("(1, 2) IN ((2, NULL), (3, 4))", "false"),
        ("(1, 2) NOT IN ((1, NULL), (3, 4))", "NULL"),
        ("(5, 2) NOT IN ((1, NULL), (3, 4))", "true"),
        ("(NULL, 2) NOT IN ((1, 3), (4, 5))", "true"),
        ("(1, 5) BETWEEN (1, 2) AND (2, 0)", "true"),
        ("(1, 5) NOT BETWEEN (1, 2) AND (2, 0)", "false"),
        ("(3, 5) BETWEEN (1, 2) AND (2, NULL)", "false"),
        ("(2, 0) BETWEEN SYMMETRIC (3, 1) AND (1, 9)", "true"),
        ("ROW (1, 2) = (1, 2)", "true"),
        ("ROW (1) < ROW (2)", "true"),
        ("((1, 2)) = ((1, 2))", "true"),
        ("((1, 2), 3) = ((1, 2), 3)", "true"),
        ("(1, (2, 3)) < (1, (2, 4))", "true"),
        ("((1, 2), 3) < ((1, 2), 3)", "false"),
        ("((1, NULL), 3) < ((1, 2), 4)", "NULL"),
        ("(-1, 1 + 1) = (-1, 2)", "true"),
        ("(1, DATE '2024-01-01') < (1, DATE '2024-01-02')", "true"),
        ("(1, TIMESTAMP '2024-01-01 00:00:00') IN ((1, '2024-01-01'))", "true"),
        ("(NULL, NULL) IS NULL", "true"),
        ("(1, NULL) IS NULL", "false"),
        ("(1, NULL) IS NOT NULL", "false"),
        ("(1, 2) IS NOT NULL", "true"),
        (
            "CASE (1, NULL) WHEN (1, NULL) THEN 'a' WHEN (1, 2) THEN 'b' ELSE 'c' END",
            "c",
        ),
        ("CASE (1, 2) WHEN (1, 3) THEN 'a' WHEN (1, 2) THEN 'b' END", "b"),
        ("(1, 2) IN (VALUES (1, 2), (3, 4))", "true"),
        ("(1, random()) = (2, 3)", "false"),
        ("2 BETWEEN SYMMETRIC 3 AND 1", "true"),
        ("2 NOT BETWEEN SYMMETRIC 3 AND 1", "false"),
        ("4 BETWEEN SYMMETRIC 3 AND NULL", "NULL"),
        ("2 BETWEEN ASYMMETRIC 3 AND 1", "false"),
        ("2 BETWEEN SYMMETRIC 3 AND 1 AND false", "false"),
        ("1 IN (VALUES (1), (9))", "true"),
        ("2 NOT IN (VALUES (1), (NULL))", "NULL"),
    ] {
        check_value(&fixture, expression, expected);
    }
}

#[test]
fn rows_of_columns_are_read_as_their_columns() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, t TEXT, d DECIMAL(12, 2), b BYTEA, at TIMESTAMPTZ, u UUID)",
        "INSERT INTO t VALUES
            (1, NULL, 64.10, '\\x00ff', '2024-01-01 00:00:00Z', '00112233-4455-6677-8899-aabbccddeeff'),
            (2, 'a', 64.10, '\\x01', '2024-01-02 00:00:00Z', '10112233-4455-6677-8899-aabbccddeeff'),
            (3, 'b', 64.11, NULL, NULL, NULL)",
    ]);
    for (condition, expected) in [
        ("(d, id) > (64.1, 1)", "2 3"),
        ("(t, id) < ('b', 3)", "2"),
        ("(id, t) NOT IN ((1, 'a'), (4, 'x'))", "2 3"),
        ("(b, id) = ('\\x00ff', 1)", "1"),
        ("(b, id) IN (('\\x00ff', 1), ('\\x01', 2))", "1 2"),
        ("(u, id) >= ('10112233-4455-6677-8899-aabbccddeeff', 1)", "2"),
        ("(at, id) > ('2024-01-01 00:00:00Z', 1)", "2"),
        ("(at, id) > (TIMESTAMPTZ '2024-01-01 01:00:00+01:00', 0)", "1 2"),
        ("(id, -id) = (2, -2)", "2"),
        ("(id, (SELECT max(id) FROM t)) = (2, 3)", "2"),
        ("(id, t) IS NOT DISTINCT FROM (1, NULL)", "1"),
        ("(t.id, t.t) = (2, 'a') OR (t.id, t.t) = (3, 'b')", "2 3"),
    ] {
        check_ids(&fixture, condition, expected);
    }
    let keyset = "SELECT id FROM t WHERE (at, id) > ($1, $2) AND at >= $1 ORDER BY at, id";
    let at = 1_704_067_200_000_000_i64;
    let values = || -> Vec<Arc<dyn Array>> {
        let at = TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC");
        vec![Arc::new(at), Arc::new(Int64Array::from(vec![1]))]
    };
    for sql in [keyset, "SELECT id FROM t WHERE (at, id) > (?, ?) ORDER BY at, id"] {
        assert_eq!(
            fixture.rows_as(&fixture.root, sql, parameters(values())),
            ["2"],
            "{sql}"
        );
        let described = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql);
        let fields = described.parameters.fields();
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(types, [moment, DataType::Int32], "{sql}");
    }
    let list: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from(vec![2])),
        Arc::new(StringArray::from(vec!["a"])),
        Arc::new(Int64Array::from(vec![3])),
        Arc::new(StringArray::from(vec!["x"])),
    ];
    let sql = "SELECT id FROM t WHERE (id, t) IN ((?, ?), (?, ?))";
    assert_eq!(fixture.rows_as(&fixture.root, sql, parameters(list)), ["2"]);
    fixture.check_count(
        "DELETE FROM t WHERE (t, id) NOT IN (('a', 2), ('c', 4))",
        Parameters::none(),
        2,
    );
    fixture.check("SELECT id FROM t ORDER BY id", &["2"]);
}

#[test]
fn a_row_is_found_among_those_of_a_query() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE u (a INT PRIMARY KEY, b INT)",
        "INSERT INTO t VALUES (1, 10), (2, 20), (3, NULL), (4, 40)",
        "INSERT INTO u VALUES (1, 10), (2, 21), (3, NULL), (5, 40)",
    ]);
    for (condition, expected) in [
        ("(id, v) IN (SELECT a, b FROM u)", "1"),
        ("(t.id, v) IN (SELECT a, b FROM u) OR id = 4", "1 4"),
        (
            "(id, v) IN (SELECT a, b FROM u WHERE b > 10 UNION ALL SELECT 4, 40)",
            "4",
        ),
        ("(v, 1) IN (SELECT b, 1 FROM u ORDER BY a DESC LIMIT 1) AND id > 0", "4"),
        ("(id, v) IN (SELECT id, v FROM t WHERE id > 3)", "4"),
        ("id IN (SELECT id FROM t WHERE (id, v) IN (SELECT a, b FROM u))", "1"),
    ] {
        check_ids(&fixture, condition, expected);
    }
    fixture.check_count(
        "DELETE FROM t WHERE (id, v) IN (SELECT a, b FROM u)",
        Parameters::none(),
        1,
    );
    for marked in [
        "SELECT id FROM t WHERE («id», v) NOT IN (SELECT a, b FROM u)",
        "SELECT («id», v) IN (SELECT a, b FROM u) FROM t",
        "SELECT id FROM t WHERE NOT («id», v) IN (SELECT a, b FROM u)",
    ] {
        check_marked(&fixture, marked, ErrorCode::Unsupported, "EXISTS");
    }
}

#[test]
fn rows_that_cannot_be_compared_are_refused_at_their_place() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY)"]);
    for (marked, code, part) in [
        ("SELECT (1, 2) = («1», 2, 3)", ErrorCode::TypeMismatch, "2 elements"),
        ("SELECT (1, 2) < («1», 2, 3)", ErrorCode::TypeMismatch, "3 elements"),
        ("SELECT (1, 2) IN ((1, 2), («1», 2, 3))", ErrorCode::TypeMismatch, "row"),
        ("SELECT (1, (2, 3)) = (1, («2», 3, 4))", ErrorCode::TypeMismatch, "row"),
        ("SELECT («random()», 1) < (0, 1)", ErrorCode::Unsupported, "random()"),
        (
            "SELECT «random()» BETWEEN SYMMETRIC 0 AND 1",
            ErrorCode::Unsupported,
            "random()",
        ),
        (
            "SELECT («id», id) IN (SELECT id, id FROM t) FROM t",
            ErrorCode::Unsupported,
            "EXISTS",
        ),
        (
            "SELECT id FROM t WHERE (id, «ix») > (1, 2)",
            ErrorCode::ColumnNotFound,
            "ix",
        ),
    ] {
        check_marked(&fixture, marked, code, part);
    }
    let queries = |count: usize| vec!["(SELECT max(id) FROM t)"; count].join(", ");
    let many = format!("SELECT ({}) < ({})", queries(30), vec!["1"; 30].join(", "));
    fixture.check_error_part(&many, ErrorCode::StatementTooLarge, "again");
    let nested = (0..20).fold("1".to_owned(), |inner, _| {
        format!("CASE WHEN ({inner}, 1) < (2, 3) THEN 1 END")
    });
    fixture.check_error_part(&format!("SELECT {nested}"), ErrorCode::StatementTooLarge, "again");
}

#[test]
fn a_page_of_a_composite_key_reads_from_its_first_row_on() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (a INT, b INT, PRIMARY KEY (a, b))",
        "INSERT INTO t SELECT value / 10, value % 10 FROM generate_series(0, 99999)",
    ]);
    let page = "SELECT a, b FROM t WHERE (a, b) > (5000, 7) ORDER BY a, b LIMIT 3";
    fixture.check(page, &["5000|8", "5000|9", "5001|0"]);
    let plan = fixture.rows(&format!("EXPLAIN ANALYZE {page}")).join("\n");
    assert!(plan.contains("key=[(a, b) in a range], order=key"), "{plan}");
    let read = plan
        .split("keys_read=")
        .nth(1)
        .and_then(|rest| rest.split([',', ']']).next());
    // Of 100,000 rows those of the page.
    assert_eq!(read.map(str::trim), Some("3"), "{plan}");
    fixture.check(
        "SELECT a, b FROM t WHERE (a, b) IN ((3, 4), (900, 1), (10000, 1)) ORDER BY a",
        &["3|4", "900|1"],
    );
}

#[test]
fn windows_take_the_clauses_of_the_one_that_they_name() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, g TEXT, v INT)",
        "INSERT INTO t VALUES (1, 'a', 30), (2, 'a', 10), (3, 'b', 20), (4, 'b', 5), (5, 'b', 7)",
    ]);
    let check = |call: &str, clause: &str, expected: &str| {
        let sql = format!("SELECT {call} AS value FROM t WINDOW {clause} ORDER BY id");
        assert_eq!(fixture.rows(&sql).join(" "), expected, "{sql}");
    };
    check("rank() OVER (w ORDER BY v)", "w AS (PARTITION BY g)", "2 1 3 1 2");
    check("rank() OVER (W ORDER BY v)", "w AS (PARTITION BY g)", "2 1 3 1 2");
    check("sum(v) OVER (w)", "w AS (PARTITION BY g)", "40 40 32 32 32");
    check("sum(v) OVER w", "w AS (PARTITION BY g)", "40 40 32 32 32");
    check(
        "sum(v) OVER (w ROWS 1 PRECEDING)",
        "w AS (PARTITION BY g ORDER BY id)",
        "30 40 20 25 12",
    );
    check(
        "sum(v) OVER w",
        "w AS (PARTITION BY g ORDER BY id ROWS 1 PRECEDING)",
        "30 40 20 25 12",
    );
    check(
        "rank() OVER v",
        "w AS (PARTITION BY g), v AS (w ORDER BY v DESC)",
        "1 2 1 3 2",
    );
    check(
        "rank() OVER (v)",
        "w AS (PARTITION BY g), v AS (w ORDER BY v DESC)",
        "1 2 1 3 2",
    );
    check(
        "sum(v) OVER (w ORDER BY id) + rank() OVER w",
        "w AS (PARTITION BY g)",
        "31 41 21 26 33",
    );
    fixture.check(
        "SELECT id FROM t WINDOW w AS (PARTITION BY g) ORDER BY rank() OVER (w ORDER BY v), id",
        &["2", "4", "1", "5", "3"],
    );
    fixture.check(
        "SELECT id FROM t QUALIFY rank() OVER (w ORDER BY v) = 1 WINDOW w AS (PARTITION BY g) ORDER BY id",
        &["2", "4"],
    );
    fixture.check(
        "SELECT (SELECT max(n) FROM (SELECT count(*) OVER w AS n FROM t WINDOW w AS (PARTITION BY g)) s) AS inside,
            count(*) OVER w FROM t WINDOW w AS () LIMIT 1",
        &["3|5"],
    );
    for (marked, part) in [
        (
            "SELECT sum(v) OVER («w» PARTITION BY id) FROM t WINDOW w AS (PARTITION BY g)",
            "PARTITION BY",
        ),
        (
            "SELECT sum(v) OVER («w» ORDER BY id) FROM t WINDOW w AS (ORDER BY v)",
            "ORDER BY",
        ),
        (
            "SELECT sum(v) OVER («w») FROM t WINDOW w AS (ORDER BY v ROWS 1 PRECEDING)",
            "OVER w",
        ),
        (
            "SELECT sum(v) OVER («wim» ORDER BY id) FROM t WINDOW win AS (PARTITION BY g)",
            "did you mean win?",
        ),
        (
            "SELECT sum(v) OVER «wim» FROM t WINDOW win AS (PARTITION BY g)",
            "the window wim is not defined",
        ),
        (
            "SELECT sum(v) OVER v FROM t WINDOW v AS («w»), w AS (PARTITION BY g)",
            "not defined",
        ),
        (
            "SELECT sum(v) OVER w FROM t WINDOW w AS (), «W» AS (PARTITION BY g)",
            "twice",
        ),
        (
            "SELECT id FROM t WHERE id IN (SELECT sum(v) OVER «w» FROM t) WINDOW w AS ()",
            "not defined",
        ),
    ] {
        check_marked(&fixture, marked, ErrorCode::InvalidStatement, part);
    }
}

#[test]
fn similar_to_matches_whole_texts_by_patterns_of_sql() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("'ab' SIMILAR TO 'a%'", "true"),
        ("'bab' SIMILAR TO 'a'", "false"),
        ("'bab' NOT SIMILAR TO 'a'", "true"),
        ("'abc' SIMILAR TO '%(b|d)%'", "true"),
        ("'abc' SIMILAR TO '(b|c)%'", "false"),
        ("'abc' SIMILAR TO '_b_'", "true"),
        ("'a' SIMILAR TO 'a|b'", "true"),
        ("'ab' SIMILAR TO 'a|b'", "false"),
        ("'aaa' SIMILAR TO 'a{2,3}'", "true"),
        ("'aaaa' SIMILAR TO 'a{2,3}'", "false"),
        ("'axb' SIMILAR TO 'a.b'", "false"),
        ("'a.b' SIMILAR TO 'a.b'", "true"),
        ("'a^$' SIMILAR TO 'a^$'", "true"),
        ("'b7' SIMILAR TO '[a-c][[:digit:]]'", "true"),
        ("'d7' SIMILAR TO '[^a-c]7'", "true"),
        ("'50%' SIMILAR TO '50\\%'", "true"),
        ("'50x' SIMILAR TO '50\\%'", "false"),
        ("'50%' SIMILAR TO '50#%' ESCAPE '#'", "true"),
        ("'a\\b' SIMILAR TO 'a\\b' ESCAPE ''", "true"),
        ("E'a\\nb' SIMILAR TO 'a_b'", "true"),
        ("E'a\\nb' SIMILAR TO 'a%'", "true"),
        ("'a' SIMILAR TO NULL", "NULL"),
        ("NULL SIMILAR TO 'a'", "NULL"),
        ("'a' SIMILAR TO 'a' ESCAPE NULL", "NULL"),
        ("'ab' SIMILAR TO lower('A') || '%'", "true"),
        ("'ab' SIMILAR TO concat('a', '!%') ESCAPE '!'", "false"),
        ("similar_to_escape('a%')", "^(?s:a.*)$"),
    ] {
        check_value(&fixture, expression, expected);
    }
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, t TEXT, p TEXT)",
        "INSERT INTO t VALUES (1, 'ab', 'a%'), (2, 'bab', 'a%'), (3, NULL, 'a'), (4, 'a', NULL)",
    ]);
    check_ids(&fixture, "t SIMILAR TO p", "1");
    check_ids(&fixture, "t NOT SIMILAR TO 'a%'", "2");
    let pattern: Vec<Arc<dyn Array>> = vec![Arc::new(StringArray::from(vec!["%b"]))];
    let sql = "SELECT id FROM t WHERE t SIMILAR TO $1 ORDER BY id";
    assert_eq!(fixture.rows_as(&fixture.root, sql, parameters(pattern)), ["1", "2"]);
    check_marked(
        &fixture,
        "SELECT 'a' SIMILAR TO «'a!'» ESCAPE '!'",
        ErrorCode::InvalidArgument,
        "escape",
    );
    check_marked(
        &fixture,
        "SELECT 'a' SIMILAR TO 'a!' ESCAPE «'ab'»",
        ErrorCode::InvalidArgument,
        "one character",
    );
    let error = fixture
        .execute_as(&fixture.root, "SELECT t SIMILAR TO id FROM t", Parameters::none())
        .expect_err("a number is no pattern");
    assert_ne!(error.code, ErrorCode::Internal, "{error}");
}

#[test]
fn like_takes_any_escape() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("'50%' LIKE '50!%' ESCAPE '!'", "true"),
        ("'50x' LIKE '50!%' ESCAPE '!'", "false"),
        ("'a_b' NOT LIKE 'a!_b' ESCAPE '!'", "false"),
        ("'A_b' ILIKE 'a!_B' ESCAPE '!'", "true"),
        ("'a!b' LIKE 'a!!b' ESCAPE '!'", "true"),
        ("'a\\b' LIKE 'a\\b' ESCAPE '!'", "true"),
        ("'a\\b' LIKE 'a\\%' ESCAPE ''", "true"),
        ("'a%' LIKE 'a\\%' ESCAPE '\\'", "true"),
        ("'ab' LIKE 'a\\%' ESCAPE '\\'", "false"),
        ("'a%' LIKE concat('a', '!%') ESCAPE '!'", "true"),
        ("'a%' LIKE NULL ESCAPE '!'", "NULL"),
    ] {
        check_value(&fixture, expression, expected);
    }
    check_marked(
        &fixture,
        "SELECT 'a' LIKE «'a!'» ESCAPE '!'",
        ErrorCode::InvalidArgument,
        "escape",
    );
}

#[test]
fn a_slice_may_leave_out_a_bound() {
    let fixture = Fixture::new();
    for (expression, expected) in [
        ("[1, 2, 3][:2]", "[1, 2]"),
        ("[1, 2, 3][2:]", "[2, 3]"),
        ("[1, 2, 3][:]", "[1, 2, 3]"),
        ("[1, 2, 3][2:2]", "[2]"),
        ("[[1, 2], [3, 4]][2:][1][:1]", "[3]"),
        ("[1, 2, 3][4:]", "[]"),
    ] {
        check_value(&fixture, expression, expected);
    }
}

#[test]
fn with_may_stand_before_insert() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "WITH n AS (SELECT 1 AS a, 10 AS b) INSERT INTO t SELECT a, b FROM n",
        "WITH n AS (SELECT 2 AS a) INSERT INTO t WITH m AS (SELECT a, 20 AS b FROM n) SELECT * FROM m",
        "WITH n AS (SELECT 3 AS a) INSERT INTO t VALUES ((SELECT a FROM n), 30)",
        "WITH RECURSIVE n(a) AS (SELECT 4 UNION ALL SELECT a + 1 FROM n WHERE a < 5) INSERT INTO t SELECT a, 0 FROM n",
    ]);
    fixture.check(
        "SELECT id, v FROM t ORDER BY id",
        &["1|10", "2|20", "3|30", "4|0", "5|0"],
    );
    fixture.check(
        "WITH n AS (SELECT 6 AS a) INSERT INTO t (id) SELECT a FROM n RETURNING id",
        &["6"],
    );
}
