//! UUID and JSON keep their types through expressions, and inside other types.

use kalamdb_core::ErrorCode;

use crate::testing::Fixture;

const A: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, u UUID, j JSON, x TEXT)",
        &format!("INSERT INTO t VALUES (1, '{A}', '{{\"a\": 1}}', 'x'), (2, NULL, NULL, NULL)"),
    ]);
    fixture
}

#[test]
fn expressions_keep_the_type() {
    let fixture = fixture();
    for (expression, type_name) in [
        ("min(u)", "UUID"),
        ("max(u)", "UUID"),
        ("min(j)", "JSON"),
        ("array_agg(u)", "UUID[]"),
        ("array_agg(DISTINCT u)", "UUID[]"),
        ("array_agg(j ORDER BY id DESC)", "JSON[]"),
        ("first_value(u ORDER BY id)", "UUID"),
        ("min(u::TEXT)", "TEXT"),
        ("coalesce(max(u), UUID_V7())", "UUID"),
    ] {
        fixture.run(&[
            &format!("CREATE OR REPLACE TABLE made AS SELECT 1 AS id, {expression} AS v FROM t"),
            &format!(
                "CREATE OR REPLACE TABLE grouped AS SELECT id % 1 AS id, {expression} AS v FROM t GROUP BY id % 1"
            ),
        ]);
        let described = "SELECT data_type FROM information_schema.columns WHERE table_name IN ('made', 'grouped') AND \
                         column_name = 'v'";
        fixture.check(described, &[type_name, type_name]);
        // Lists are in no order.
        if !type_name.ends_with("[]") {
            fixture.check("SELECT count(*) FROM made JOIN grouped ON made.v = grouped.v", &["1"]);
        }
    }
    for (expression, type_name) in [
        ("CASE WHEN id = 1 THEN u END", "UUID"),
        ("CASE WHEN id = 2 THEN NULL ELSE u END", "UUID"),
        ("CASE WHEN id = 1 THEN j ELSE '{}' END", "JSON"),
        ("CASE WHEN id = 1 THEN j ELSE x END", "TEXT"),
        ("CASE WHEN id = 1 THEN j ELSE 'no JSON' END", "TEXT"),
        ("nullif(u, u)", "UUID"),
        ("coalesce(NULL, u)", "UUID"),
        ("coalesce(NULL, j)", "JSON"),
        ("greatest(u, NULL)", "UUID"),
        ("[u][1]", "UUID"),
        ("[j][1]", "JSON"),
        ("[u, u][1:1]", "UUID[]"),
        ("array_concat([u], [u])", "UUID[]"),
        ("array_append([u], u)", "UUID[]"),
        ("array_to_string([j], ',')", "TEXT"),
        ("['{}']::JSON[]", "JSON[]"),
        ("[u]::TEXT[]", "TEXT[]"),
        ("coalesce(j, '{}')", "JSON"),
        ("coalesce(u, UUID_V7())", "UUID"),
        ("[u]", "UUID[]"),
        ("struct(u)", "STRUCT(c0 UUID)"),
        (
            "named_struct('a', u, 'b', id, 'c', [j])",
            "STRUCT(a UUID, b INTEGER, c JSON[])",
        ),
        ("max(u) OVER ()", "UUID"),
        ("array_agg(u) OVER (ORDER BY id)", "UUID[]"),
        ("(SELECT min(u) FROM t)", "UUID"),
    ] {
        fixture.run(&[&format!(
            "CREATE OR REPLACE TABLE made AS SELECT id, {expression} AS v FROM t"
        )]);
        let described =
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'made' AND column_name = 'v'";
        assert_eq!(fixture.rows(described), [type_name], "{expression}");
    }
}

#[test]
fn kept_types_are_used() {
    let fixture = fixture();
    fixture.check("SELECT min(u)::TEXT FROM t", &[A]);
    fixture.check(
        "SELECT max(u)::TEXT FROM (SELECT max(u) AS u FROM t GROUP BY id) AS s",
        &[A],
    );
    fixture.check(
        &format!("SELECT id FROM t WHERE coalesce(u, UUID_V7()) = '{A}'"),
        &["1"],
    );
    fixture.check(
        &format!("SELECT CASE WHEN id = 1 THEN u ELSE '{A}' END::TEXT FROM t ORDER BY id"),
        &[A, A],
    );
    fixture.check(&format!("SELECT count(*) FROM t GROUP BY coalesce(u, '{A}')"), &["2"]);
    fixture.check(
        "SELECT coalesce(j, '{\"a\": 2}') ->> 'a' FROM t ORDER BY id",
        &["1", "2"],
    );
    fixture.check(
        "SELECT u = UUID_V7(), UUID_V7() = u, u = x FROM t WHERE id = 2",
        &["NULL|NULL|NULL"],
    );
    fixture.check(
        &format!("SELECT u = '{A}', '{A}' < u, min(u) = '{A}' FROM t WHERE id = 1 GROUP BY u"),
        &["true|false|true"],
    );
    fixture.check(
        &format!("SELECT nullif(u, '{A}'), coalesce(NULL, u)::TEXT, [u][1]::TEXT, [u]::TEXT[], ['{A}', NULL]::UUID[] = array_append([u], NULL::UUID) FROM t WHERE id = 1"),
        &[&format!("NULL|{A}|{A}|[{A}]|true")],
    );
    fixture.check("SELECT unnest([u])::TEXT FROM t WHERE id = 1", &[A]);
    fixture.run(&["CREATE TABLE made AS SELECT 1 AS id, v FROM (SELECT unnest([u]) AS v FROM t) AS s"]);
    fixture.check("SELECT v::TEXT FROM made WHERE v IS NOT NULL", &[A]);
    let none = "SELECT ['none']::UUID[]";
    fixture.check_error_part(none, ErrorCode::TypeMismatch, "'none' is not a UUID");
    fixture.check("SELECT TRY_CAST(['none'] AS UUID[]) = [NULL::UUID]", &["true"]);
    let none = "SELECT u = 'none' FROM t WHERE false";
    fixture.check_error_part(none, ErrorCode::TypeMismatch, "'none' is not a UUID");
    let none = "SELECT coalesce(u, 'none') FROM t";
    fixture.check_error_part(none, ErrorCode::TypeMismatch, "'none' is not a UUID");
}

#[test]
fn lists_structs_and_maps_have_them_inside() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE n (id INT PRIMARY KEY, us UUID[], js JSON[], s STRUCT(u UUID, j JSON), m MAP(UUID, JSON), f UUID[2])",
        &format!(
            "INSERT INTO n VALUES (1, ['{A}', NULL], ['{{}}'], named_struct('u', '{A}', 'j', '[1]'), MAP {{'{A}': '{{}}'}}, \
             ['{A}', '{A}'])"
        ),
    ]);
    fixture.check(
        "SELECT data_type FROM information_schema.columns WHERE table_name = 'n' AND column_name <> 'id' ORDER BY ordinal_position",
        &["UUID[]", "JSON[]", "STRUCT(u UUID, j JSON)", "MAP(UUID, JSON)", "UUID[2]"],
    );
    fixture.check(
        &format!("SELECT us[1] = '{A}'::UUID, js[1], s.u = '{A}', s.j -> 0, f[2] = us[1] FROM n"),
        &["true|{}|true|1|true"],
    );
    fixture.run(&[
        "CREATE TABLE copied AS SELECT * FROM n",
        "INSERT INTO n SELECT id + 1, us, js, s, m, f FROM n",
    ]);
    fixture.check("SELECT count(*) FROM n JOIN copied ON n.us = copied.us", &["2"]);
    for (column, value) in [
        ("us", "['none']"),
        ("js", "['{']"),
        ("s", "named_struct('u', NULL, 'j', '{')"),
        ("m", "MAP {'none': '{}'}"),
    ] {
        let sql = format!("INSERT INTO n (id, {column}) VALUES (9, {value})");
        fixture.check_error_part(&sql, ErrorCode::TypeMismatch, &format!("column {column}"));
    }
}

#[test]
fn texts_become_bytes_as_literals_do() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, s TEXT)",
        "INSERT INTO t VALUES (1, '\\x00ff'), (2, 'a\\\\b'), (3, 'abc'), (4, NULL)",
    ]);
    fixture.check(
        "SELECT id, s::BYTEA = '\\x00ff', s::BYTEA = 'a\\\\b' FROM t ORDER BY id",
        &["1|true|false", "2|false|true", "3|false|false", "4|NULL|NULL"],
    );
    fixture.run(&["INSERT INTO t VALUES (5, '\\x0')"]);
    fixture.check_error_part("SELECT s::BYTEA FROM t", ErrorCode::TypeMismatch, "is not BYTEA input");
    fixture.check(
        "SELECT TRY_CAST(s AS BYTEA) IS NULL FROM t ORDER BY id",
        &["false", "false", "false", "true", "true"],
    );
}
