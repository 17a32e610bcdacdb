//! What subqueries, joins and set operations answer where columns share names, where NULL decides, and where rows are equal.

use crate::testing::Fixture;

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
