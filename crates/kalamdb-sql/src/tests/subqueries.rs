//! What subqueries, joins and set operations answer where columns share names, where NULL decides, and where rows are equal.

use std::sync::Arc;

use arrow::array::Int64Array;
use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};

fn employees() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE em (id BIGINT PRIMARY KEY, dept INT, sal INT)",
        "INSERT INTO em VALUES (1, 1, 10), (2, 1, 20), (3, 2, 30), (4, 2, 5)",
        "CREATE TABLE a (id BIGINT PRIMARY KEY, x INT)",
        "INSERT INTO a VALUES (1, 1), (2, 2)",
        "CREATE VIEW some AS SELECT * FROM em",
    ]);
    fixture
}

#[test]
fn a_column_outside_is_not_the_one_of_that_name_inside() {
    let fixture = employees();
    for (condition, expected) in [
        ("sal = ANY (SELECT sal FROM em WHERE dept = 1)", "1 2"),
        ("sal = SOME (SELECT sal FROM em WHERE dept = 1)", "1 2"),
        ("sal <> ALL (SELECT sal FROM em WHERE dept = 1)", "3 4"),
        ("NOT sal = ANY (SELECT sal FROM em WHERE dept = 1)", "3 4"),
        ("sal >= ALL (SELECT sal FROM em)", "3"),
        ("sal < ALL (SELECT sal FROM em WHERE dept = 1)", "4"),
        ("sal > ANY (SELECT sal FROM em WHERE dept = 1)", "2 3"),
        ("sal + 5 <= ANY (SELECT sal FROM em WHERE dept = 1)", "1 4"),
        (
            "em.sal < ALL (SELECT em.sal FROM em WHERE em.dept = 1) OR em.id = 1",
            "1 4",
        ),
        ("id IN (SELECT id FROM em WHERE dept = 1) OR id = 4", "1 2 4"),
        ("(id IN (SELECT id FROM em WHERE dept = 1)) = false", "3 4"),
        (
            "CASE WHEN id IN (SELECT id FROM em WHERE dept = 1) THEN sal > 10 ELSE sal < 10 END",
            "2 4",
        ),
        ("25 > ALL (SELECT sal FROM em WHERE dept = 1) AND sal > 10", "2 3"),
        ("25 > ALL (SELECT sal FROM em)", ""),
        ("sal > ALL (SELECT sal FROM em WHERE false)", "1 2 3 4"),
        ("sal > ANY (SELECT sal FROM em WHERE false)", ""),
        (
            "(SELECT max(sal) FROM em) = ANY (SELECT sal FROM em WHERE dept = 2)",
            "1 2 3 4",
        ),
        (
            "(SELECT max(sal) FROM em) = ANY (SELECT sal FROM em WHERE dept = 1)",
            "",
        ),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        for table in ["em", "some AS em", "em AS em", "(SELECT * FROM em) AS em"] {
            fixture.check(
                &format!("SELECT id FROM {table} WHERE {condition} ORDER BY id"),
                &expected,
            );
        }
        fixture.check(
            &format!("WITH em AS (SELECT * FROM em) SELECT id FROM em WHERE {condition} ORDER BY id"),
            &expected,
        );
    }
    for (value, expected) in [
        ("id IN (SELECT id FROM em WHERE dept = 1)", "true true false false"),
        ("sal >= ALL (SELECT sal FROM em)", "false false true false"),
        ("sal = ANY (SELECT sal FROM em WHERE dept = 1)", "true true false false"),
        (
            "CASE WHEN sal < ALL (SELECT sal FROM em WHERE dept = 1) THEN 1 ELSE 2 END",
            "2 2 2 1",
        ),
        (
            "sal > ALL (SELECT nullif(sal, 20) FROM em WHERE dept = 1)",
            "false NULL NULL false",
        ),
        (
            "nullif(sal, 20) > ANY (SELECT sal FROM em WHERE dept = 1)",
            "false NULL true false",
        ),
        (
            "nullif(sal, 20) > ANY (SELECT sal FROM em WHERE false)",
            "false false false false",
        ),
    ] {
        let rows = fixture.rows(&format!("SELECT {value} FROM em ORDER BY id"));
        assert_eq!(rows.join(" "), expected, "{value}");
    }
}

#[test]
fn a_column_outside_is_itself_beside_a_correlated_subquery() {
    let fixture = employees();
    let from = "FROM em JOIN a ON a.id = em.dept";
    for (condition, expected) in [
        (
            "em.id = ANY (SELECT em.id FROM em WHERE em.dept = a.x AND em.sal > 10)",
            "2 3",
        ),
        ("em.sal >= ALL (SELECT em.sal FROM em WHERE em.dept = a.x)", "2 3"),
        ("em.dept = ANY (SELECT em.id FROM em WHERE em.dept = a.x)", "1 2"),
        ("em.dept IN (SELECT em.id FROM em WHERE em.dept = a.x)", "1 2"),
        (
            "em.sal NOT IN (SELECT em.sal FROM em WHERE em.dept = a.x AND em.sal > 10)",
            "1 4",
        ),
        (
            "em.sal NOT IN (SELECT em.sal FROM em WHERE em.dept = a.x AND em.sal > 10) OR em.id = 3",
            "1 3 4",
        ),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(
            &format!("SELECT em.id {from} WHERE {condition} ORDER BY em.id"),
            &expected,
        );
        let kept: Vec<String> = fixture
            .rows(&format!("SELECT em.id, {condition} AS q {from} ORDER BY em.id"))
            .into_iter()
            .filter_map(|row| row.strip_suffix("|true").map(str::to_owned))
            .collect();
        assert_eq!(kept, expected, "{condition} as a value");
    }
    fixture.check(
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM em WHERE em.dept = a.x AND em.sal >= ALL (SELECT sal FROM em))",
        &["2"],
    );
    fixture.check(
        "SELECT dept FROM em GROUP BY dept HAVING sum(sal) >= ALL (SELECT sum(sal) FROM em GROUP BY dept)",
        &["2"],
    );
}

#[test]
fn writes_find_the_rows_that_queries_find() {
    let fixture = employees();
    fixture.run(&["UPDATE em SET sal = 11 WHERE id = ANY (SELECT id FROM em WHERE id < 3)"]);
    fixture.check("SELECT sal FROM em ORDER BY id", &["11", "11", "30", "5"]);
    fixture.run(&["UPDATE em SET sal = CASE WHEN id IN (SELECT id FROM em WHERE dept = 1) THEN 1 ELSE 2 END"]);
    fixture.check("SELECT sal FROM em ORDER BY id", &["1", "1", "2", "2"]);
    fixture.run(&["DELETE FROM em WHERE sal < ALL (SELECT sal FROM em WHERE dept = 2)"]);
    fixture.check("SELECT id FROM em ORDER BY id", &["3", "4"]);
}

fn nulls() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE ga (id BIGINT PRIMARY KEY, v INT)",
        "INSERT INTO ga VALUES (1, 10), (2, 20), (3, NULL), (4, 40)",
        "CREATE TABLE gb (k BIGINT PRIMARY KEY, w INT)",
        "INSERT INTO gb VALUES (1, 10), (2, 30)",
        "CREATE TABLE gn (k BIGINT PRIMARY KEY, w INT)",
        "INSERT INTO gn VALUES (1, 10), (2, NULL)",
    ]);
    fixture
}

#[test]
fn null_decides_wherever_a_membership_stands() {
    let fixture = nulls();
    for (condition, expected) in [
        ("v IN (SELECT w FROM gb)", "1"),
        ("v NOT IN (SELECT w FROM gb)", "2 4"),
        ("NOT (v IN (SELECT w FROM gb))", "2 4"),
        ("v NOT IN (SELECT w FROM gn)", ""),
        ("v NOT IN (SELECT w FROM gn WHERE false)", "1 2 3 4"),
        ("v + 10 NOT IN (SELECT w FROM gb)", "1 4"),
        ("10 NOT IN (SELECT w FROM gb)", ""),
        ("11 NOT IN (SELECT w FROM gb) AND id < 3", "1 2"),
        ("11 NOT IN (SELECT w FROM gn)", ""),
        ("v IN (SELECT w FROM gn) OR id = 3", "1 3"),
        ("v NOT IN (SELECT w FROM gb) OR id = 99", "2 4"),
        ("v NOT IN (SELECT w FROM gb) OR id = 3", "2 3 4"),
        ("v NOT IN (SELECT w FROM gn) OR id = 2", "2"),
        ("NOT (v IN (SELECT w FROM gb) OR id = 4)", "2"),
        ("NOT (v NOT IN (SELECT w FROM gn) AND id > 0)", "1"),
        ("(v IN (SELECT w FROM gb)) IS NULL", "3"),
        ("(v IN (SELECT w FROM gn)) IS NULL", "2 3 4"),
        ("(v NOT IN (SELECT w FROM gn)) IS NOT TRUE", "1 2 3 4"),
        ("coalesce(v IN (SELECT w FROM gb), true)", "1 3"),
        ("coalesce(v NOT IN (SELECT w FROM gn), true)", "2 3 4"),
        ("CASE WHEN v IN (SELECT w FROM gb) THEN false ELSE true END", "2 3 4"),
        ("v NOT IN (SELECT w FROM gb WHERE k > ga.id)", "2 3 4 1"),
        ("v NOT IN (SELECT w FROM gb WHERE k >= ga.id)", "2 3 4"),
        ("v NOT IN (SELECT w FROM gn WHERE k > ga.id)", "2 3 4"),
        ("v NOT IN (SELECT w FROM gb WHERE k + 2 = ga.id)", "1 2 4"),
        ("v IN (SELECT w FROM gb WHERE k = ga.id)", "1"),
        ("v <> ALL (SELECT w FROM gn)", ""),
        ("(v > ALL (SELECT w FROM gn)) IS NULL", "2 3 4"),
        ("v > ALL (SELECT w FROM gb WHERE k > ga.id + 5)", "1 2 3 4"),
        ("v NOT IN (SELECT w FROM gb ORDER BY w LIMIT 1) OR id = 99", "2 4"),
        ("v NOT IN (SELECT max(w) FROM gb GROUP BY k) OR id = 99", "2 4"),
        ("v NOT IN (SELECT w FROM gb UNION ALL SELECT 20) OR id = 99", "4"),
    ] {
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        expected.sort_unstable();
        fixture.check(&format!("SELECT id FROM ga WHERE {condition} ORDER BY id"), &expected);
        fixture.check(
            &format!("SELECT ga.id FROM ga JOIN (SELECT 1 AS one) o ON o.one > 0 AND {condition} ORDER BY ga.id"),
            &expected,
        );
        fixture.check(
            &format!("SELECT id FROM ga GROUP BY id, v HAVING {condition} ORDER BY id"),
            &expected,
        );
        fixture.check(
            &format!("SELECT id FROM (SELECT id, {condition} AS q FROM ga) WHERE q ORDER BY id"),
            &expected,
        );
    }
    fixture.check(
        "SELECT ga.id, gb.k FROM ga LEFT JOIN gb ON gb.k = ga.id AND (gb.w NOT IN (SELECT v FROM ga WHERE v < 30) OR gb.k = 9) \
         ORDER BY ga.id",
        &["1|NULL", "2|2", "3|NULL", "4|NULL"],
    );
    fixture.check(
        "SELECT ga.id, gb.k FROM ga JOIN gb ON ga.id >= gb.k AND (ga.v + gb.k NOT IN (SELECT w + 1 FROM gb) OR gb.k = 2) \
         ORDER BY ga.id, gb.k",
        &["2|1", "2|2", "3|2", "4|1", "4|2"],
    );
    fixture.run(&["DELETE FROM ga WHERE v NOT IN (SELECT w FROM gb) OR id = 99"]);
    fixture.check("SELECT id FROM ga ORDER BY id", &["1", "3"]);
}

#[test]
fn an_aggregate_of_no_rows_is_a_row() {
    let fixture = employees();
    fixture.run(&["INSERT INTO a VALUES (3, 7), (0, 8)"]);
    for (condition, expected) in [
        ("EXISTS (SELECT count(*) FROM em WHERE em.dept = a.id)", "0 1 2 3"),
        ("NOT EXISTS (SELECT count(*) FROM em WHERE em.dept = a.id)", ""),
        (
            "EXISTS (SELECT sum(sal) + 1 FROM em WHERE em.dept = a.id) AND id > 1",
            "2 3",
        ),
        (
            "EXISTS (SELECT count(*) FROM em WHERE em.dept = a.id GROUP BY em.dept)",
            "1 2",
        ),
        ("id IN (SELECT count(*) FROM em WHERE em.dept = a.id)", "0 2"),
        ("id + 1 > ALL (SELECT count(*) FROM em WHERE em.dept = a.id)", "0 2 3"),
        ("id = ANY (SELECT count(*) FROM em WHERE em.dept = a.id)", "0 2"),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(&format!("SELECT id FROM a WHERE {condition} ORDER BY id"), &expected);
        fixture.check(
            &format!("SELECT id FROM (SELECT id, {condition} AS q FROM a) WHERE q ORDER BY id"),
            &expected,
        );
    }
}

#[test]
fn a_filter_over_both_sides_of_an_outer_join_stays_above_it() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE cu (id BIGINT PRIMARY KEY, name TEXT, status TEXT, v INT)",
        "INSERT INTO cu VALUES (1, 'ann', 'new', 5), (2, 'bob', 'old', 20), (3, 'cat', 'new', 30), (4, 'zed', 'old', 1)",
        "CREATE TABLE od (id BIGINT PRIMARY KEY, cu BIGINT, status TEXT, v INT)",
        "INSERT INTO od VALUES (10, 1, 'new', 7), (11, 2, 'new', 3), (12, 9, 'old', 1)",
    ]);
    let on = "ON o.cu = c.id";
    for (sql, expected) in [
        (
            format!("od o RIGHT JOIN cu c {on} WHERE c.name <> 'zed' AND (o.v IS NULL OR c.v < 10)"),
            ["1|10", "3|NULL"].as_slice(),
        ),
        (
            format!("od o RIGHT JOIN cu c {on} WHERE c.name <> 'zed' AND coalesce(o.status, 'none') <> c.status"),
            &["2|11", "3|NULL"],
        ),
        (
            format!("od o FULL JOIN cu c {on} WHERE c.v > 25 OR (o.v < 6 AND c.v > 0)"),
            &["2|11", "3|NULL"],
        ),
        (
            format!("cu c LEFT JOIN od o {on} WHERE c.name <> 'zed' AND (o.v IS NULL OR c.v < 10)"),
            &["1|10", "3|NULL"],
        ),
    ] {
        fixture.check(&format!("SELECT c.id c, o.id o FROM {sql} ORDER BY c, o"), expected);
    }
}

#[test]
fn a_merged_column_is_that_of_the_table_that_has_the_row() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE l (x BIGINT PRIMARY KEY, p INT)",
        "INSERT INTO l VALUES (1, 10), (2, 20)",
        "CREATE TABLE r (x BIGINT PRIMARY KEY, q INT)",
        "INSERT INTO r VALUES (2, 200), (3, 300)",
        "CREATE TABLE m (x BIGINT PRIMARY KEY, s INT)",
        "INSERT INTO m VALUES (1, 7), (3, 9)",
    ]);
    for (sql, expected) in [
        (
            "SELECT x FROM (VALUES (1), (2)) a(x) RIGHT JOIN (VALUES (2), (3)) b(x) USING (x) ORDER BY x",
            ["2", "3"].as_slice(),
        ),
        (
            "SELECT x, p, q FROM l RIGHT JOIN r USING (x) ORDER BY x",
            &["2|20|200", "3|NULL|300"],
        ),
        (
            "SELECT x, p, q FROM l NATURAL RIGHT JOIN r ORDER BY x",
            &["2|20|200", "3|NULL|300"],
        ),
        (
            "SELECT l.x, r.x FROM l RIGHT OUTER JOIN r USING (x) ORDER BY r.x",
            &["2|2", "NULL|3"],
        ),
        (
            "SELECT l.x, r.x FROM l FULL JOIN r USING (x) ORDER BY r.x, l.x",
            &["2|2", "NULL|3", "1|NULL"],
        ),
        (
            "SELECT x, p, q FROM l LEFT JOIN r USING (x) ORDER BY x",
            &["1|10|NULL", "2|20|200"],
        ),
        ("SELECT * FROM l JOIN r USING (x)", &["2|20|200"]),
    ] {
        fixture.check(sql, expected);
    }
    for (sql, place, hint) in [
        ("SELECT x FROM l FULL JOIN r USING (x)", (1, 27), "coalesce(a.x, b.x)"),
        ("SELECT * FROM l FULL JOIN r USING (x)", (1, 27), "coalesce(a.x, b.x)"),
        ("SELECT p FROM l NATURAL FULL JOIN r", (1, 35), "coalesce(a.x, b.x)"),
        ("SELECT * FROM l RIGHT JOIN r USING (x)", (1, 28), "name the columns"),
        (
            "SELECT l.p FROM l FULL JOIN r USING (x) ORDER BY x",
            (1, 29),
            "coalesce(a.x, b.x)",
        ),
        (
            "SELECT l.p FROM l FULL JOIN r USING (x) JOIN m USING (x)",
            (1, 29),
            "coalesce(a.x, b.x)",
        ),
    ] {
        fixture.check_error(sql, ErrorCode::Unsupported, Some(place), hint);
    }
}

#[test]
fn all_counts_equal_rows() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE p (id BIGINT PRIMARY KEY, v INT)",
        "INSERT INTO p VALUES (1, 1), (2, 1), (3, 1), (4, 2), (5, NULL), (6, NULL)",
        "CREATE TABLE q (id BIGINT PRIMARY KEY, v BIGINT)",
        "INSERT INTO q VALUES (1, 1), (2, 1), (3, NULL)",
    ]);
    for (sql, expected) in [
        ("SELECT v FROM p EXCEPT ALL SELECT v FROM q", "1 2 NULL"),
        ("SELECT v FROM p INTERSECT ALL SELECT v FROM q", "1 1 NULL"),
        ("SELECT v FROM p EXCEPT SELECT v FROM q", "2"),
        ("SELECT v FROM p INTERSECT SELECT v FROM q", "1 NULL"),
        ("SELECT DISTINCT v FROM p EXCEPT ALL SELECT v FROM q", "2"),
        ("SELECT v FROM p EXCEPT ALL SELECT v FROM p", ""),
        ("SELECT v FROM p INTERSECT ALL SELECT v FROM p", "1 1 1 2 NULL NULL"),
        (
            "SELECT v FROM p EXCEPT ALL SELECT v FROM q EXCEPT ALL SELECT 1",
            "2 NULL",
        ),
        ("SELECT v FROM p EXCEPT ALL SELECT v FROM p WHERE id > 1", "1"),
    ] {
        let rows = fixture.rows(&format!("SELECT v FROM ({sql}) ORDER BY v"));
        assert_eq!(rows.join(" "), expected, "{sql}");
    }
    fixture.check(
        "SELECT id FROM p WHERE id IN (SELECT id FROM p EXCEPT ALL SELECT id FROM q) ORDER BY id",
        &["4", "5", "6"],
    );
}

#[test]
fn a_sum_beside_a_distinct_count_keeps_its_type() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id BIGINT PRIMARY KEY, g INT, a INT, d DECIMAL(18, 2))",
        "INSERT INTO t VALUES (1, 1, 1, 1.00), (2, 1, 1, 0.75), (3, 2, 5, 1.25)",
    ]);
    fixture.check(
        "SELECT g, sum(d), count(DISTINCT a) FROM t GROUP BY g HAVING sum(d) > 1.5",
        &["1|1.75|1"],
    );
    fixture.check(
        "SELECT g, sum(id), count(DISTINCT a) FROM t GROUP BY g HAVING sum(id) > 1 ORDER BY g",
        &["1|3|1", "2|3|1"],
    );
}

#[test]
fn not_in_of_what_comes_to_a_constant_or_is_a_subquery_knows_null() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE e1 (id INT PRIMARY KEY, a INT, b INT)",
        "INSERT INTO e1 VALUES (1, NULL, 1), (2, 2, NULL), (3, 3, 3), (4, 9, 9)",
        "CREATE TABLE e2 (id INT PRIMARY KEY, a INT)",
        "INSERT INTO e2 VALUES (1, NULL), (2, 7)",
    ]);
    let check = |condition: &str, expected: &[&str]| {
        fixture.check(&format!("SELECT id FROM e1 WHERE {condition} ORDER BY id"), expected);
        fixture.check(
            &format!("SELECT id FROM (SELECT id, ({condition}) AS found FROM e1) AS q WHERE found ORDER BY id"),
            expected,
        );
        fixture.check_count(
            &format!("DELETE FROM e1 WHERE ({condition}) AND id > 9"),
            Parameters::none(),
            0,
        );
    };
    let none: &[&str] = &[];
    for value in [
        "coalesce(4, b)",
        "CASE WHEN true THEN 4 ELSE b END",
        "nvl2(4, 4, b)",
        "4 + b * 0",
        "abs(b)",
        "(SELECT max(z.id) FROM e1 z)",
        "coalesce((SELECT max(z.id) FROM e1 z), b)",
    ] {
        check(&format!("{value} NOT IN (SELECT a FROM e2)"), none);
        check(&format!("NOT ({value} IN (SELECT a FROM e2))"), none);
        check(&format!("{value} <> ALL (SELECT a FROM e2)"), none);
        check(&format!("{value} NOT IN (SELECT a FROM e2) OR id = 3"), &["3"]);
        check(
            &format!("{value} NOT IN (SELECT a FROM e2 WHERE e1.id > 2)"),
            &["1", "2"],
        );
    }
    check(
        "coalesce(4, b) NOT IN (SELECT a FROM e2 WHERE a IS NOT NULL)",
        &["1", "2", "3", "4"],
    );
    check("coalesce(7, b) IN (SELECT a FROM e2)", &["1", "2", "3", "4"]);
    // A subquery whose value is NULL.
    let null = "(SELECT sum(z.id) FROM e1 z WHERE z.id < 0)";
    check(
        &format!("{null} NOT IN (SELECT a FROM e2 WHERE e1.id > 2)"),
        &["1", "2"],
    );
    check(
        &format!("NOT {null} IN (SELECT a FROM e2 WHERE e1.id > 2)"),
        &["1", "2"],
    );
    check(
        &format!("{null} NOT IN (SELECT a FROM e2 WHERE false)"),
        &["1", "2", "3", "4"],
    );
    check(&format!("{null} NOT IN (SELECT id FROM e2)"), none);
    check(
        &format!("({null} IN (SELECT a FROM e2 WHERE e1.id > 2)) IS NULL"),
        &["3", "4"],
    );
    check(&format!("{null} < ALL (SELECT a FROM e2 WHERE e1.id > 2)"), &["1", "2"]);
    check(
        "(SELECT max(z.a) FROM e1 z WHERE z.id = e1.id) NOT IN (SELECT y.b FROM e1 y WHERE y.id = e1.id)",
        none,
    );
    fixture.run(&["DELETE FROM e1 WHERE coalesce(4, b) NOT IN (SELECT a FROM e2)"]);
    fixture.check("SELECT count(*) FROM e1", &["4"]);
    let four = parameters(vec![Arc::new(Int64Array::from(vec![4])) as _]);
    let rows = fixture.rows_as(
        &fixture.root,
        "SELECT id FROM e1 WHERE coalesce($1, b) NOT IN (SELECT a FROM e2)",
        four,
    );
    assert_eq!(rows, Vec::<String>::new());
}
