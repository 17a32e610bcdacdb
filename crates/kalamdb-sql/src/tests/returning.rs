//! RETURNING of INSERT, UPDATE and DELETE, and changes by joins.

use std::sync::Arc;

use arrow::array::{Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use kalamdb_core::ErrorCode;

use crate::StatementKind;
use crate::execution::Execution;
use crate::parameters::Parameters;
use crate::testing::{Fixture, Outcome, parameters, texts};

/// A table of each type with the same columns, and one to join.
const KINDS: [&str; 3] = ["shared_t", "user_t", "stream_t"];

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE shared_t (id INT PRIMARY KEY, a BIGINT DEFAULT 7, b TEXT NOT NULL)",
        "CREATE USER TABLE user_t (id INT PRIMARY KEY, a BIGINT DEFAULT 7, b TEXT NOT NULL)",
        "CREATE STREAM TABLE stream_t (id INT PRIMARY KEY, a BIGINT DEFAULT 7, b TEXT NOT NULL) WITH (TTL_SECONDS = 60)",
        "CREATE TABLE u (id INT, v BIGINT)",
        "INSERT INTO u VALUES (1, 100), (1, 101), (3, 300)",
    ]);
    fixture
}

#[test]
fn an_insert_returns_what_it_wrote() {
    let fixture = fixture();
    for table in KINDS {
        let check = |sql: &str, expected: &[&str]| fixture.check(&sql.replace("TABLE", table), expected);
        check(
            "INSERT INTO TABLE (b, id) VALUES ('x', 1), ('y', 2) RETURNING *",
            &["1|7|x", "2|7|y"],
        );
        check(
            "INSERT INTO TABLE SELECT value, value * 2, 'z' FROM generate_series(3, 4) RETURNING id, a + 1 AS next, TABLE.b",
            &["3|7|z", "4|9|z"],
        );
        check(
            "INSERT INTO TABLE VALUES (5, NULL, 'w') RETURNING (SELECT count(*) FROM TABLE) AS before, upper(b), 1.5",
            &["4|W|1.5"],
        );
        check(
            "INSERT INTO TABLE SELECT id, a, b FROM TABLE WHERE false RETURNING id",
            &[],
        );
        check("SELECT count(*) FROM TABLE", &["5"]);
    }
}

#[test]
fn an_update_returns_new_rows_and_a_delete_old_ones() {
    let fixture = fixture();
    for table in KINDS {
        let check = |sql: &str, expected: &[&str]| fixture.check(&sql.replace("TABLE", table), expected);
        check(
            "INSERT INTO TABLE VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z') RETURNING 1 AS one",
            &["1"; 3],
        );
        check(
            "UPDATE TABLE SET a = a + 1 WHERE id = 2 RETURNING id, a, b",
            &["2|21|y"],
        );
        check(
            "UPDATE TABLE AS t SET id = 9, a = DEFAULT WHERE t.id = 9 RETURNING t.id",
            &[],
        );
        check(
            "UPDATE TABLE AS t SET id = id + 10 WHERE t.id = 3 RETURNING t.*",
            &["13|30|z"],
        );
        check(
            "DELETE FROM TABLE WHERE id = 13 RETURNING b || '!' AS gone, id",
            &["z!|13"],
        );
        check("DELETE FROM TABLE WHERE false RETURNING *", &[]);
        check("SELECT * FROM TABLE ORDER BY id", &["1|10|x", "2|21|y"]);
    }
}

#[test]
fn a_row_that_matches_twice_is_changed_and_returned_once() {
    let fixture = fixture();
    for table in KINDS {
        let sql = |sql: &str| sql.replace("TABLE", table);
        fixture.run(&[&sql("INSERT INTO TABLE VALUES (1, 0, 'x'), (2, 0, 'y'), (3, 0, 'z')")]);
        let mut returned = fixture.rows(&sql(
            "UPDATE TABLE SET a = u.v FROM u WHERE u.id = TABLE.id RETURNING TABLE.id, a, u.v, u.id AS other",
        ));
        returned.sort();
        assert_eq!(returned.len(), 2);
        let [first, third] = [&returned[0], &returned[1]];
        assert!(first == "1|100|100|1" || first == "1|101|101|1", "{first}");
        assert_eq!(third, "3|300|300|3");
        fixture.check(
            &sql("SELECT a FROM TABLE WHERE id = 1"),
            &[first.split('|').nth(1).expect("a value")],
        );
        let returned = fixture.rows(&sql(
            "DELETE FROM TABLE USING u WHERE u.id = TABLE.id AND u.id = 1 RETURNING *",
        ));
        let [row] = returned.as_slice() else {
            panic!("{returned:?}")
        };
        // The columns of both tables.
        assert_eq!(row.split('|').count(), 5, "{row}");
        fixture.check(
            &sql("DELETE FROM TABLE AS t USING u AS x JOIN u AS y ON x.id = y.id WHERE t.id = x.id RETURNING t.b, x.v, y.v AS w"),
            &["z|300|300"],
        );
        fixture.check(&sql("SELECT * FROM TABLE"), &["2|0|y"]);
    }
}

#[test]
fn many_rows_that_match_twice_are_changed_once() {
    const ROWS: usize = 100_000;
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE big (id BIGINT PRIMARY KEY, a BIGINT)",
        "INSERT INTO big SELECT value, 0 FROM generate_series(1, 100000)",
        "CREATE TABLE twice (id BIGINT, v BIGINT)",
        "INSERT INTO twice SELECT id, 1 FROM big",
        "INSERT INTO twice SELECT id, 1 FROM big",
    ]);
    let returned =
        fixture.rows("UPDATE big SET a = a + twice.v FROM twice WHERE twice.id = big.id RETURNING big.id, a");
    assert_eq!(returned.len(), ROWS);
    fixture.check("SELECT count(*), min(a), max(a) FROM big", &["100000|1|1"]);
    let returned = fixture.rows("DELETE FROM big USING twice WHERE twice.id = big.id AND big.id > 10 RETURNING big.id");
    assert_eq!(returned.len(), ROWS - 10);
    fixture.check("SELECT count(*) FROM big", &["10"]);
}

#[test]
fn an_error_in_returning_changes_nothing() {
    let fixture = fixture();
    fixture.run(&["INSERT INTO shared_t VALUES (1, 1, 'x')"]);
    for (sql, column) in [
        ("INSERT INTO shared_t VALUES (2, 0, 'y') RETURNING 1 / a", 51),
        ("UPDATE shared_t SET a = 0 RETURNING 1 / a", 37),
        ("DELETE FROM shared_t RETURNING 1 / (a - 1)", 32),
    ] {
        fixture.check_error(sql, ErrorCode::InvalidArgument, Some((1, column)), "");
    }
    fixture.check("SELECT * FROM shared_t", &["1|1|x"]);
    fixture.check_error(
        "INSERT INTO shared_t VALUES (1, 0, 'y') RETURNING id",
        ErrorCode::DuplicateKey,
        None,
        "id",
    );
    fixture.check_error(
        "INSERT INTO shared_t VALUES (2, 0, 'y') RETURNING nothing",
        ErrorCode::ColumnNotFound,
        Some((1, 51)),
        "nothing",
    );
    fixture.check_error(
        "INSERT INTO shared_t VALUES (2, 0, 'y') RETURNING _seq",
        ErrorCode::Unsupported,
        Some((1, 51)),
        "at the commit",
    );
    fixture.check_error(
        "DELETE FROM shared_t RETURNING count(*)",
        ErrorCode::Unsupported,
        Some((1, 32)),
        "aggregate",
    );
    fixture.check_error(
        "DELETE FROM shared_t RETURNING row_number() OVER ()",
        ErrorCode::Unsupported,
        Some((1, 32)),
        "window",
    );
    fixture.check("SELECT * FROM shared_t", &["1|1|x"]);
    fixture.check_error(
        "INSERT INTO shared_t SELECT value, 1, repeat('x', 1000) FROM generate_series(10, 100000) RETURNING b",
        ErrorCode::StatementTooLarge,
        None,
        "RETURNING",
    );
    fixture.check("SELECT * FROM shared_t", &["1|1|x"]);
}

#[test]
fn parameters_stand_anywhere() {
    let fixture = fixture();
    let rows = |sql: &str, columns: Vec<Arc<dyn Array>>| fixture.rows_as(&fixture.root, sql, parameters(columns));
    let number = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as Arc<dyn Array>;
    let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as Arc<dyn Array>;
    // Several rows of parameters are one statement.
    assert_eq!(
        rows(
            "INSERT INTO shared_t (id, b) VALUES ($1, $2) RETURNING id, b",
            vec![number(vec![1, 2]), text(vec!["x", "y"])]
        ),
        ["1|x", "2|y"]
    );
    assert_eq!(
        rows(
            "UPDATE shared_t SET b = ? WHERE id = ? RETURNING b, id",
            vec![text(vec!["p", "q"]), number(vec![1, 2])]
        ),
        ["p|1", "q|2"]
    );
    assert_eq!(
        rows(
            "DELETE FROM shared_t WHERE id = $1 RETURNING id + $2 AS next",
            vec![number(vec![1]), Arc::new(Int64Array::from(vec![10]))]
        ),
        ["11"]
    );
    fixture.check_error_as(
        &fixture.root,
        "DELETE FROM shared_t WHERE id = $1 RETURNING id + $2",
        parameters(vec![number(vec![1, 2]), Arc::new(Int64Array::from(vec![10, 20]))]),
        ErrorCode::Unsupported,
        None,
        "one row of parameters",
    );
    fixture.check("SELECT id FROM shared_t", &["2"]);
}

#[test]
fn describing_tells_the_columns_and_changes_nothing() {
    let fixture = fixture();
    fixture.run(&["INSERT INTO shared_t VALUES (1, 1, 'x')"]);
    for sql in [
        "INSERT INTO shared_t VALUES (2, 2, $1) RETURNING id, a AS \"A\", b",
        "UPDATE shared_t SET a = 5 WHERE b = $1 RETURNING id, a AS \"A\", b",
        "DELETE FROM shared_t WHERE b = $1 RETURNING id, a AS \"A\", b",
    ] {
        let described = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql);
        assert_eq!(described.kind, StatementKind::Operation, "{sql}");
        assert_eq!(described.parameters.fields().len(), 1, "{sql}");
        let columns: Vec<(&str, &DataType)> = described
            .result
            .fields()
            .iter()
            .map(|field| (field.name().as_str(), field.data_type()))
            .collect();
        assert_eq!(
            columns,
            [
                ("id", &DataType::Int32),
                ("A", &DataType::Int64),
                ("b", &DataType::Utf8)
            ],
            "{sql}"
        );
        assert!(
            !fixture
                .rows_as(
                    &fixture.root,
                    &format!("EXPLAIN {sql}"),
                    parameters(vec![Arc::new(StringArray::from(vec!["x"]))])
                )
                .is_empty()
        );
        fixture.check("SELECT * FROM shared_t", &["1|1|x"]);
        let parameters = parameters(vec![Arc::new(StringArray::from(vec!["x"]))]);
        match fixture.execute_as(&fixture.root, sql, parameters).expect(sql) {
            Outcome::Rows(batches) => assert!(batches.iter().all(|batch| batch.schema() == described.result), "{sql}"),
            Outcome::Done(_) => panic!("{sql}: no rows"),
        }
        fixture.run(&["DELETE FROM shared_t", "INSERT INTO shared_t VALUES (1, 1, 'x')"]);
    }
}

#[test]
fn what_returns_rows_also_counts_them() {
    let fixture = fixture();
    let sql = "INSERT INTO shared_t VALUES (1, 1, 'x'), (2, 2, 'y') RETURNING id";
    match fixture.block_on(fixture.database.execute(&fixture.root, sql, Parameters::none())) {
        Ok(Execution::Report(report)) => {
            assert_eq!(texts(&report.rows), ["1", "2"]);
            assert_eq!(report.completion.rows, Some(2));
            assert_eq!(report.completion.message, "2 rows inserted");
        }
        Ok(Execution::Rows(_) | Execution::Done(_)) => panic!("no report"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn rows_that_are_returned_are_ones_own() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE USER 'ann' ROLE user",
        "INSERT INTO user_t VALUES (1, 1, 'of root')",
    ]);
    let ann = fixture.session("ann");
    let rows = |sql: &str| fixture.rows_as(&ann, sql, Parameters::none());
    assert_eq!(
        rows("INSERT INTO user_t VALUES (1, 2, 'of ann') RETURNING b, CURRENT_USER"),
        ["of ann|ann"]
    );
    assert_eq!(rows("UPDATE user_t SET a = 3 RETURNING b"), ["of ann"]);
    assert_eq!(rows("DELETE FROM user_t RETURNING b"), ["of ann"]);
    fixture.check("SELECT * FROM user_t", &["1|1|of root"]);
    // Who may not read a table does not read it by writing.
    fixture.check_error_as(
        &ann,
        "INSERT INTO shared_t VALUES (1, 1, 'x') RETURNING id",
        Parameters::none(),
        ErrorCode::TableNotFound,
        Some((1, 13)),
        "shared_t",
    );
}
