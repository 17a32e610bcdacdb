//! ANY and ALL over lists: three truth values, as PostgreSQL has them.

use std::sync::Arc;

use arrow::array::{Int64Array, ListArray};
use arrow::datatypes::Int64Type;
use kalamdb_core::ErrorCode;

use crate::testing::{Fixture, parameters};

/// NULL element, hit and miss; no element is NULL; no list; no element; no value.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, i INT, a BIGINT[], x DOUBLE, y DOUBLE, us UUID[], n INTERVAL[])",
        "INSERT INTO t (id, i, a, x, y) VALUES (1, 3, [1, 2, NULL], 0.0, -0.0), (2, 1, [1, 2, NULL], 1, 2), (3, 3, [1, 2], NULL, 1), \
         (4, 3, NULL, -0.0, 0.0), (5, 3, [], 1, 1), (6, NULL, [1], 1, 1), (7, NULL, [], 1, 1)",
    ]);
    fixture
}

/// A comparison of constants is that, in the select list and behind WHERE.
#[track_caller]
fn check_constant(fixture: &Fixture, comparison: &str, expected: Option<bool>) {
    let shown = |value: Option<bool>| value.map_or("NULL".to_owned(), |value| value.to_string());
    let negated = expected.map(|value| !value);
    fixture.check(
        &format!("SELECT {comparison}, NOT {comparison}, ({comparison}) IS NULL"),
        &[&format!(
            "{}|{}|{}",
            shown(expected),
            shown(negated),
            expected.is_none()
        )],
    );
    let count = |condition: &str, is_true: bool| {
        let sql = format!("SELECT count(*) FROM t WHERE id = 1 AND ({condition})");
        fixture.check(&sql, &[if is_true { "1" } else { "0" }]);
    };
    count(comparison, expected == Some(true));
    count(&format!("NOT {comparison}"), expected == Some(false));
}

#[test]
fn a_null_among_constants_is_unknown() {
    let fixture = fixture();
    for (comparison, expected) in [
        ("3 = ANY (ARRAY[1, NULL])", None),
        ("1 = ANY (ARRAY[1, NULL])", Some(true)),
        ("3 = ANY (ARRAY[1, 2])", Some(false)),
        ("3 <> ALL (ARRAY[1, NULL])", None),
        ("1 <> ALL (ARRAY[1, NULL])", Some(false)),
        ("3 <> ALL (ARRAY[1, 2])", Some(true)),
        ("3 = SOME (ARRAY[3])", Some(true)),
        ("3 = ANY (NULL::BIGINT[])", None),
        ("3 <> ALL (NULL::BIGINT[])", None),
        ("3 = ANY (ARRAY[]::BIGINT[])", Some(false)),
        ("3 < ALL (ARRAY[]::BIGINT[])", Some(true)),
        ("NULL = ANY (ARRAY[]::BIGINT[])", Some(false)),
        ("NULL <> ALL (ARRAY[]::BIGINT[])", Some(true)),
        ("NULL = ANY (ARRAY[1])", None),
        ("3 = ANY (ARRAY[NULL]::BIGINT[])", None),
        ("3 < ANY (ARRAY[1, NULL])", None),
        ("3 > ANY (ARRAY[1, NULL])", Some(true)),
        ("3 > ALL (ARRAY[1, NULL])", None),
        ("3 < ALL (ARRAY[1, NULL])", Some(false)),
        ("3 >= ANY (ARRAY[4, 3])", Some(true)),
        ("3 <= ALL (ARRAY[3, 4])", Some(true)),
        ("3 <> ANY (ARRAY[3, NULL])", None),
        ("3 <> ANY (ARRAY[3, 4])", Some(true)),
        ("3 <> ANY (ARRAY[3, 3])", Some(false)),
        ("3 = ALL (ARRAY[3, NULL])", None),
        ("3 = ALL (ARRAY[4, NULL])", Some(false)),
        ("3 = ALL (ARRAY[3, 3])", Some(true)),
        ("ARRAY[1] = ANY (ARRAY[ARRAY[2], ARRAY[1]])", Some(true)),
        ("'b' = ANY (ARRAY['a', 'b'])", Some(true)),
    ] {
        check_constant(&fixture, comparison, expected);
    }
}

#[test]
fn a_null_among_the_elements_of_columns_is_unknown() {
    let fixture = fixture();
    fixture.check(
        "SELECT id, i = ANY (a), NOT i = ANY (a), i <> ALL (a), NOT i <> ALL (a) FROM t ORDER BY id",
        &[
            "1|NULL|NULL|NULL|NULL",
            "2|true|false|false|true",
            "3|false|true|true|false",
            "4|NULL|NULL|NULL|NULL",
            "5|false|true|true|false",
            "6|NULL|NULL|NULL|NULL",
            "7|false|true|true|false",
        ],
    );
    fixture.check(
        "SELECT id, i < ANY (a), i < ALL (a), i = ALL (a), i <> ANY (a), i >= ALL (a), i >= ANY (a) FROM t ORDER BY id",
        &[
            "1|NULL|false|false|true|NULL|true",
            "2|true|false|false|true|false|true",
            "3|false|false|false|true|true|true",
            "4|NULL|NULL|NULL|NULL|NULL|NULL",
            "5|false|true|true|false|true|false",
            "6|NULL|NULL|NULL|NULL|NULL|NULL",
            "7|false|true|true|false|true|false",
        ],
    );
    let ids = |condition: &str, expected: &[&str]| {
        fixture.check(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"), expected);
    };
    ids("NOT i = ANY (a)", &["3", "5", "7"]);
    ids("i <> ALL (a)", &["3", "5", "7"]);
    ids("(i = ANY (a)) IS NULL", &["1", "4", "6"]);
    ids("3 = ANY (a)", &[]);
    ids("NOT 3 = ANY (a)", &["3", "5", "6", "7"]);
    ids("i = ANY (ARRAY[3, NULL])", &["1", "3", "4", "5"]);
    ids("NOT i = ANY (ARRAY[1, NULL])", &[]);
    ids("i <> ALL (ARRAY[1, 2])", &["1", "3", "4", "5"]);
    ids("i > ALL (ARRAY[1, 2])", &["1", "3", "4", "5"]);
    ids(
        "i >= ANY ((SELECT array_agg(id) FROM t WHERE id > 1)::BIGINT[])",
        &["1", "3", "4", "5"],
    );
    // A zero is a zero.
    ids("x = ANY (ARRAY[y])", &["1", "4", "5", "6", "7"]);
    ids("x = ALL (ARRAY[y, 0])", &["1", "4"]);
    // A list that is none of the elements' type.
    fixture.check_error_part(
        "SELECT i = ANY ('{1,3}') FROM t",
        ErrorCode::TypeMismatch,
        "= ANY compares",
    );
}

#[test]
fn lists_of_constants_find_keys_and_lists_of_parameters_too() {
    let fixture = fixture();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(3), None, Some(5)])]);
    let given = || parameters(vec![Arc::new(list.clone())]);
    let check = |sql: &str, expected: &[&str]| {
        assert_eq!(fixture.rows_as(&fixture.root, sql, given()), expected, "{sql}");
    };
    check("SELECT id FROM t WHERE id = ANY ($1) ORDER BY id", &["3", "5"]);
    check("SELECT id FROM t WHERE id <> ALL ($1) ORDER BY id", &[]);
    check("SELECT id FROM t WHERE NOT id <> ALL ($1) ORDER BY id", &["3", "5"]);
    check(
        "SELECT id FROM t WHERE id > ANY ($1) ORDER BY id",
        &["4", "5", "6", "7"],
    );
    let one = parameters(vec![Arc::new(Int64Array::from(vec![2]))]);
    assert_eq!(
        fixture.rows_as(&fixture.root, "SELECT id FROM t WHERE $1 = ANY (a) ORDER BY id", one),
        ["1", "2", "3"]
    );
    let plan = fixture
        .rows("EXPLAIN SELECT id FROM t WHERE id = ANY (ARRAY[3, 5])")
        .join("\n");
    assert!(!plan.contains("FilterExec"), "the scan takes the keys alone: {plan}");
}

#[test]
fn elements_have_their_type() {
    let fixture = fixture();
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    fixture.run(&[
        &format!("UPDATE t SET us = ['{uuid}', NULL] WHERE id = 1"),
        "UPDATE t SET n = [INTERVAL '24 hours'] WHERE id = 1",
    ]);
    let check = |comparison: &str, expected: &str| {
        fixture.check(&format!("SELECT {comparison} FROM t WHERE id = 1"), &[expected]);
    };
    check(&format!("'{uuid}' = ANY (us)"), "true");
    check(&format!("'{uuid}'::UUID = ANY (us)"), "true");
    check(&format!("us[1] = ANY (ARRAY['{uuid}'])"), "true");
    check("'ffffffff-4455-6677-8899-aabbccddeeff' = ANY (us)", "NULL");
    check("2.5 = ANY (ARRAY[2]::BIGINT[])", "false");
    check("2.5 = ANY (a)", "NULL");
    check("2.0 = ANY (a)", "true");
    check("INTERVAL '1 day' = ANY (n)", "true");
    check("INTERVAL '1 month' > ALL (n)", "true");
    fixture.check_error_part("SELECT 'none' = ANY (us) FROM t", ErrorCode::TypeMismatch, "not a UUID");
}
