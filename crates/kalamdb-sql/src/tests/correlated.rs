//! Subqueries that use columns of the query around them, as PostgreSQL 15 answers them.

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::Fixture;

fn files() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE file (id INT PRIMARY KEY, n INT NOT NULL)",
        "CREATE TABLE post (id INT PRIMARY KEY)",
        "CREATE TABLE att (id INT PRIMARY KEY, post INT, n INT)",
        "INSERT INTO file VALUES (10, 1), (11, 2), (12, 3)",
        "INSERT INTO post VALUES (1), (12)",
        "INSERT INTO att VALUES (10, 1, 1), (11, 1, 1)",
    ]);
    fixture
}

#[test]
fn what_is_compared_is_the_column_that_is_written() {
    let fixture = files();
    let joined = "FROM post p JOIN att a ON a.post = p.id";
    for (query, expected) in [
        (
            format!("SELECT id FROM file f WHERE EXISTS (SELECT * {joined} WHERE a.id = f.id) ORDER BY id"),
            "10 11",
        ),
        (
            format!("SELECT id FROM file f WHERE NOT EXISTS (SELECT * {joined} WHERE a.id = f.id) ORDER BY id"),
            "12",
        ),
        (
            format!("SELECT f.id, EXISTS (SELECT 1 {joined} WHERE a.id = f.id) FROM file f ORDER BY f.id"),
            "10|true 11|true 12|false",
        ),
        (
            format!("SELECT f.id FROM file f WHERE f.id IN (SELECT a.id {joined} WHERE p.id < f.id) ORDER BY f.id"),
            "10 11",
        ),
        (
            format!("SELECT f.id, f.id NOT IN (SELECT a.id {joined} WHERE p.id < f.id) FROM file f ORDER BY f.id"),
            "10|false 11|false 12|true",
        ),
        (
            format!(
                "SELECT f.id, l.n FROM file f JOIN LATERAL (SELECT p.id, a.n {joined} WHERE a.id = f.id) l ON true ORDER BY f.id"
            ),
            "10|1 11|1",
        ),
        (
            format!(
                "SELECT f.id, l.n FROM file f LEFT JOIN LATERAL (SELECT p.id, a.n {joined} WHERE a.id = f.id) l ON true \
                 ORDER BY f.id"
            ),
            "10|1 11|1 12|NULL",
        ),
        (
            format!(
                "SELECT f.id FROM file f WHERE f.n = 3 OR EXISTS (SELECT 1 {joined} WHERE a.id = f.id AND f.n = 1) ORDER BY id"
            ),
            "10 12",
        ),
        (
            format!(
                "SELECT CASE WHEN EXISTS (SELECT p.id {joined} WHERE a.id = f.id) THEN f.n ELSE -f.n END FROM file f ORDER BY f.id"
            ),
            "1 2 -3",
        ),
        (
            format!(
                "SELECT f.id FROM file f GROUP BY f.id HAVING EXISTS (SELECT p.id {joined} WHERE a.id = f.id) ORDER BY f.id"
            ),
            "10 11",
        ),
        (
            format!("SELECT f.id, (SELECT count(*) {joined} WHERE a.id = f.id) FROM file f ORDER BY f.id"),
            "10|1 11|1 12|0",
        ),
        (
            format!("SELECT f.id, (SELECT p.id {joined} WHERE a.id = f.id) FROM file f ORDER BY f.id"),
            "10|1 11|1 12|NULL",
        ),
        (
            format!(
                "SELECT f.id FROM file f WHERE EXISTS (SELECT 1 FROM (SELECT a.post AS id {joined} WHERE a.id = f.id) x \
                 JOIN post q ON q.id = x.id WHERE x.id < f.id) ORDER BY f.id"
            ),
            "",
        ),
        (
            "SELECT f.id, (SELECT sum(n) AS post FROM att WHERE att.post = f.n) FROM file f ORDER BY f.id".to_owned(),
            "10|2 11|NULL 12|NULL",
        ),
        (
            "SELECT f.id, (SELECT count(*) FROM att WHERE att.id / 10.0 = f.id / 10.0) FROM file f ORDER BY f.id"
                .to_owned(),
            "10|1 11|1 12|0",
        ),
        (
            "SELECT f.id, (SELECT count(*) FROM att WHERE att.id / 10 = f.n) FROM file f ORDER BY f.id".to_owned(),
            "10|2 11|0 12|0",
        ),
        (
            "SELECT f.id FROM file f WHERE EXISTS (SELECT 1 FROM att a WHERE a.id = f.id OR \
             EXISTS (SELECT 1 FROM post p WHERE p.id = a.id + 1 AND a.n < 0) OR \
             EXISTS (SELECT 1 FROM post p WHERE p.id = a.id + 1 AND f.n > 0)) ORDER BY f.id"
                .to_owned(),
            "",
        ),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        if expected.is_empty() {
            fixture.check_error_part(&query, ErrorCode::Unsupported, "columns of the query around it");
            continue;
        }
        fixture.check(&query, &expected);
    }
    fixture.check_count(
        &format!("UPDATE file SET n = n + 10 WHERE EXISTS (SELECT * {joined} WHERE a.id = file.id)"),
        Parameters::none(),
        2,
    );
    fixture.check_count(
        &format!("DELETE FROM file WHERE NOT EXISTS (SELECT * {joined} WHERE a.id = file.id)"),
        Parameters::none(),
        1,
    );
    fixture.check("SELECT id, n FROM file ORDER BY id", &["10|11", "11|12"]);
}

#[test]
fn a_condition_on_an_aggregate_holds_of_no_rows_too() {
    let fixture = files();
    let value = |subquery: &str, expected: &str| {
        let expected: Vec<String> = expected
            .split_whitespace()
            .zip(["10", "11", "12"])
            .map(|(value, id)| format!("{id}|{value}"))
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        fixture.check(&format!("SELECT f.id, {subquery} FROM file f ORDER BY f.id"), &expected);
    };
    let rows = "FROM att WHERE att.post = f.n";
    for (subquery, expected) in [
        ("(SELECT sum(n) ROWS HAVING count(*) < 2)", "NULL NULL NULL"),
        ("(SELECT count(*) ROWS HAVING count(*) < 2)", "NULL 0 0"),
        ("(SELECT count(*) ROWS HAVING count(*) = 0)", "NULL 0 0"),
        ("(SELECT count(*) ROWS HAVING count(*) > 0)", "2 NULL NULL"),
        ("(SELECT 5 ROWS HAVING max(n) IS NULL)", "NULL 5 5"),
        ("(SELECT count(*) + 1 ROWS HAVING max(n) IS NULL)", "NULL 1 1"),
        ("(SELECT DISTINCT count(*) ROWS)", "2 0 0"),
        ("(SELECT count(*) ROWS ORDER BY 1 LIMIT 1)", "2 0 0"),
        ("(SELECT count(*) ROWS OFFSET 1)", "NULL NULL NULL"),
        (
            "(SELECT c + 1 FROM (SELECT count(*) AS c ROWS) x WHERE x.c = 0)",
            "NULL 1 1",
        ),
        ("(SELECT k FROM (SELECT count(*) AS c, 5 AS k ROWS) x)", "5 5 5"),
        ("EXISTS (SELECT 1 ROWS HAVING count(*) = 0)", "false true true"),
        (
            "NOT EXISTS (SELECT sum(n) ROWS HAVING count(*) < 2)",
            "true false false",
        ),
        ("EXISTS (SELECT 1 ROWS HAVING count(*) >= 0)", "true true true"),
        ("0 IN (SELECT count(*) ROWS HAVING count(*) < 2)", "false true true"),
        ("1 NOT IN (SELECT sum(n) ROWS HAVING count(*) < 2)", "true NULL NULL"),
        ("1 < ALL (SELECT sum(n) ROWS HAVING count(*) < 2)", "true NULL NULL"),
        ("1 < ALL (SELECT sum(n) ROWS HAVING count(*) > 2)", "true true true"),
        ("0 = ANY (SELECT DISTINCT count(*) ROWS)", "false true true"),
    ] {
        value(&subquery.replace("ROWS", rows), expected);
    }
    for (condition, expected) in [
        ("EXISTS (SELECT 1 ROWS HAVING count(*) = 0)", "11 12"),
        ("NOT EXISTS (SELECT 1 ROWS HAVING count(*) = 0)", "10"),
        ("EXISTS (SELECT 1 ROWS HAVING max(n) IS NULL) OR f.id = 10", "10 11 12"),
        ("0 IN (SELECT count(*) ROWS HAVING count(*) < 2)", "11 12"),
    ] {
        let condition = condition.replace("ROWS", rows);
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(
            &format!("SELECT f.id FROM file f WHERE {condition} ORDER BY f.id"),
            &expected,
        );
    }
    for (join, having, expected) in [
        ("JOIN", "count(*) < 2", "11|0|7 12|0|7"),
        ("LEFT JOIN", "count(*) < 2", "10|NULL|NULL 11|0|7 12|0|7"),
        ("JOIN", "count(*) > 0", "10|2|7"),
        ("LEFT JOIN", "count(*) > 0", "10|2|7 11|NULL|NULL 12|NULL|NULL"),
        ("JOIN", "count(*) >= 0", "10|2|7 11|0|7 12|0|7"),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(
            &format!(
                "SELECT f.id, l.* FROM file f {join} LATERAL (SELECT count(*) AS c, 7 AS k {rows} HAVING {having}) l ON true \
                 ORDER BY f.id"
            ),
            &expected,
        );
    }
    fixture
        .run(&["UPDATE file SET n = 100 WHERE EXISTS (SELECT 1 FROM att WHERE att.post = file.n HAVING count(*) = 0)"]);
    fixture.check("SELECT n FROM file ORDER BY id", &["1", "100", "100"]);
}

#[test]
fn a_value_that_may_be_null_is_not_in_nothing_that_has_rows() {
    let fixture = files();
    for (condition, expected) in [
        ("nullif(id, 10) NOT IN (SELECT id FROM att)", "12"),
        ("NOT (nullif(id, 10) IN (SELECT id FROM att))", "12"),
        ("nullif(id, 10) <> ALL (SELECT id FROM att)", "12"),
        ("nullif(id, 10) NOT IN (SELECT id FROM att WHERE false)", "10 11 12"),
        (
            "CASE WHEN id > 10 THEN id END NOT IN (SELECT id FROM att) AND id < 12",
            "",
        ),
        (
            "(SELECT max(a.n) FROM att a WHERE a.id = file.id) NOT IN (SELECT post FROM att)",
            "",
        ),
        ("(SELECT max(n) FROM att WHERE n > 7) NOT IN (SELECT id FROM att)", ""),
        ("(SELECT max(n) FROM att) NOT IN (SELECT id FROM att)", "10 11 12"),
    ] {
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(&format!("SELECT id FROM file WHERE {condition} ORDER BY id"), &expected);
    }
    fixture.check_count(
        "DELETE FROM file WHERE nullif(id, 10) NOT IN (SELECT id FROM att)",
        Parameters::none(),
        1,
    );
    fixture.check("SELECT id FROM file ORDER BY id", &["10", "11"]);
}

#[test]
fn an_offset_decides_whether_there_are_rows() {
    let fixture = files();
    for (rows, expected) in [
        ("OFFSET 1", "true false false"),
        ("OFFSET 2", "false false false"),
        ("LIMIT 1 OFFSET 1", "true false false"),
        ("LIMIT 1 OFFSET 2", "false false false"),
        ("ORDER BY n LIMIT 1", "true false false"),
        ("LIMIT 0", "false false false"),
    ] {
        let exists = format!("EXISTS (SELECT 1 FROM att WHERE att.post = f.n {rows})");
        let expected: Vec<&str> = expected.split_whitespace().collect();
        fixture.check(&format!("SELECT {exists} FROM file f ORDER BY id"), &expected);
        let found = expected.iter().zip(["10", "11", "12"]);
        let (found, rest): (Vec<_>, Vec<_>) = found.partition(|(exists, _)| **exists == "true");
        let ids = |rows: Vec<(&&str, &'static str)>| rows.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
        fixture.check(
            &format!("SELECT id FROM file f WHERE {exists} ORDER BY id"),
            &ids(found),
        );
        fixture.check(
            &format!("SELECT id FROM file f WHERE NOT {exists} ORDER BY id"),
            &ids(rest),
        );
    }
}

#[test]
fn what_would_be_compared_too_late_is_refused() {
    let fixture = files();
    for query in [
        "SELECT f.id, l.* FROM file f JOIN LATERAL (SELECT a.id, row_number() OVER (ORDER BY a.id) FROM att a WHERE a.post = f.n) l ON true",
        "SELECT f.id, l.* FROM file f JOIN LATERAL (SELECT DISTINCT a.n FROM att a WHERE a.id < f.id) l ON true",
        "SELECT f.id, l.* FROM file f JOIN LATERAL (SELECT a.n FROM att a WHERE a.id < f.id GROUP BY a.n) l ON true",
        "SELECT f.id, l.* FROM file f JOIN LATERAL (SELECT p.id, x.n FROM post p LEFT JOIN \
         (SELECT * FROM att a WHERE a.id = f.id) x ON x.post = p.id) l ON true",
        "SELECT f.id, l.* FROM file f JOIN LATERAL (SELECT a.n, c.c FROM (SELECT * FROM att a WHERE a.post = f.n) a \
         CROSS JOIN (SELECT count(*) AS c FROM post) c) l ON true",
        "SELECT f.id FROM file f WHERE EXISTS (SELECT 1 FROM (SELECT * FROM att a WHERE a.post = f.n ORDER BY a.id LIMIT 1) x \
         WHERE x.id = 11)",
        "SELECT f.id FROM file f WHERE EXISTS (SELECT 1 FROM (SELECT * FROM att a WHERE a.post = f.n) x JOIN \
         (SELECT * FROM post ORDER BY id DESC LIMIT 1) p ON p.id = x.post)",
        "SELECT f.id, (SELECT count(*) FROM (SELECT count(*) AS c FROM att WHERE att.post = f.n) x JOIN post p ON p.id > x.c) FROM file f",
        "SELECT f.id, (SELECT count(*) FROM att WHERE att.post = f.n HAVING count(*) < f.n) FROM file f",
        "SELECT f.id FROM file f WHERE EXISTS (SELECT post, count(*) FROM att WHERE att.post = f.n GROUP BY ROLLUP (post))",
    ] {
        fixture.check_error_part(
            query,
            ErrorCode::Unsupported,
            "subquery that uses columns of the query around it",
        );
    }
}

#[test]
fn a_table_around_goes_before_a_field_of_a_column() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE buyer (id INT PRIMARY KEY, name TEXT)",
        "CREATE TABLE sale (id INT PRIMARY KEY, buyer INT, tag MAP(TEXT, INT))",
        "INSERT INTO buyer VALUES (1, 'ann'), (2, 'bob')",
        "INSERT INTO sale VALUES (1, 1, MAP {'id': 2})",
    ]);
    for (query, expected) in [
        (
            "SELECT name FROM buyer WHERE EXISTS (SELECT 1 FROM sale WHERE sale.buyer = buyer.id)",
            "ann",
        ),
        (
            "SELECT name FROM public.buyer WHERE EXISTS (SELECT 1 FROM sale s WHERE s.buyer = buyer.id)",
            "ann",
        ),
        (
            "SELECT name FROM buyer AS tag WHERE EXISTS (SELECT 1 FROM sale WHERE sale.buyer = tag.id)",
            "ann",
        ),
        (
            "SELECT name FROM buyer AS tag WHERE EXISTS (SELECT 1 FROM sale WHERE sale.tag['id'] = tag.id)",
            "bob",
        ),
        (
            "WITH tag AS (SELECT * FROM buyer) SELECT name FROM tag WHERE EXISTS (SELECT 1 FROM sale WHERE buyer = tag.id)",
            "ann",
        ),
        (
            "SELECT (SELECT max(s.id) FROM sale s WHERE s.buyer = buyer.id) FROM buyer ORDER BY id",
            "1 NULL",
        ),
        (
            "SELECT l.id FROM buyer JOIN LATERAL (SELECT s.id FROM sale s WHERE s.buyer = buyer.id) l ON true",
            "1",
        ),
    ] {
        fixture.check(query, &expected.split_whitespace().collect::<Vec<_>>());
    }
    fixture.check_count(
        "DELETE FROM buyer WHERE NOT EXISTS (SELECT 1 FROM sale WHERE sale.buyer = buyer.id)",
        Parameters::none(),
        1,
    );
    fixture.check("SELECT name FROM buyer", &["ann"]);
}

fn numbers() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)",
        "CREATE TABLE u (id INT PRIMARY KEY, a INT, c INT)",
        "INSERT INTO t VALUES (1, 1, 10), (2, 2, NULL), (3, NULL, 10), (4, 3, 0)",
        "INSERT INTO u VALUES (1, 1, 5), (2, 1, 6), (3, 2, NULL), (4, NULL, 5)",
    ]);
    fixture
}

#[test]
fn what_becomes_a_constant_is_known_of_no_rows_too() {
    let fixture = numbers();
    for (condition, expected) in [
        (
            "NOT EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING max(u.c) > 3 LIMIT 0)",
            "1 2 3 4",
        ),
        (
            "NOT EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) = 0 OFFSET 1)",
            "1 2 3 4",
        ),
        (
            "EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) = 0 OFFSET 1) OR id = 9",
            "",
        ),
        (
            "NOT EXISTS (SELECT count(*) FROM u WHERE u.a = t.a AND 1 = 0 OFFSET 1) OR id = 9",
            "1 2 3 4",
        ),
        (
            "NOT EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) > 1 AND 1 = 0)",
            "1 2 3 4",
        ),
        (
            "EXISTS (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) IS NOT NULL)",
            "1 2 3 4",
        ),
        ("(SELECT count(*) * 0 FROM u WHERE u.a = t.a) = 0", "1 2 3 4"),
        ("(SELECT count(*) IS NULL FROM u WHERE u.a = t.a) IS NULL", ""),
        ("(SELECT count(*) FROM u WHERE u.a = t.a AND 1 = 0) = 0", "1 2 3 4"),
        ("(SELECT count(*) + 1 FROM u WHERE u.a = t.a AND NULL) = 1", "1 2 3 4"),
        ("(SELECT coalesce(count(*), 7) FROM u WHERE u.a = t.a) = 0", "3 4"),
        ("(SELECT count(u.c) >= 0 FROM u WHERE u.a = t.a)", "1 2 3 4"),
        ("0 NOT IN (SELECT count(*) * 0 FROM u WHERE u.a = t.a)", ""),
        (
            "0 <= ALL (SELECT count(*) FROM u WHERE u.a = t.a HAVING count(*) > 5 AND false)",
            "1 2 3 4",
        ),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        fixture.check(&sql, &expected.split_whitespace().collect::<Vec<_>>());
    }
    fixture.check(
        "SELECT id, n FROM t LEFT JOIN LATERAL (SELECT count(*) * 0 AS n FROM u WHERE u.a = t.a) AS l ON true ORDER BY id",
        &["1|0", "2|0", "3|0", "4|0"],
    );
}

#[test]
fn a_computed_column_is_looked_in_beside_or() {
    let fixture = numbers();
    for (condition, expected) in [
        ("a IN (SELECT max(u.a) FROM u) OR id = 4", "2 4"),
        ("a IN (SELECT u.a + 1 FROM u) OR b = 10", "1 2 3 4"),
        ("id IN (SELECT count(*) FROM u GROUP BY u.a) OR id = 4", "1 2 4"),
        (
            "id IN (SELECT count(*) FROM u WHERE u.a = t.a GROUP BY u.a) OR id = 4",
            "4",
        ),
        (
            "id = ANY (SELECT max(u.id) FROM u) OR a IN (SELECT min(u.a) FROM u)",
            "1 4",
        ),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        fixture.check(&sql, &expected.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn a_derived_table_compares_columns_under_other_names() {
    let fixture = numbers();
    for (condition, expected) in [
        (
            "id NOT IN (SELECT x.p FROM (SELECT u.c AS p, u.a AS q FROM u WHERE u.id = t.id) AS x WHERE x.q <> t.b)",
            "1 2 4",
        ),
        (
            "EXISTS (SELECT 1 FROM (SELECT u.a AS id, u.id AS a FROM u WHERE u.a = t.a) AS x WHERE x.a = t.id)",
            "1",
        ),
        (
            "(SELECT count(*) FROM (SELECT u.c AS a FROM u WHERE u.a = t.a) AS x WHERE x.a = t.b - 5) = 1",
            "1",
        ),
        (
            "EXISTS (SELECT 1 FROM (SELECT y.p AS r FROM (SELECT u.id AS p FROM u WHERE u.a = t.a) AS y WHERE y.p > 1) AS x WHERE x.r > t.id)",
            "1 2",
        ),
        (
            "b = ANY (SELECT DISTINCT x.n FROM (SELECT u.c + 5 AS n, u.id AS c FROM u WHERE u.a = t.a) AS x WHERE x.c = t.id)",
            "1",
        ),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        fixture.check(&sql, &expected.split_whitespace().collect::<Vec<_>>());
    }
}
