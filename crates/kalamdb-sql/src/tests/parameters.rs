//! Parameters: `$1` and `?`.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::{Fixture, parameters};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, price DECIMAL(10, 2), raw BYTEA)",
        "INSERT INTO t VALUES (1, 'a', 1.25, NULL), (2, 'b', 2.50, '\\x00')",
    ]);
    fixture
}

fn ints(values: Vec<i64>) -> Arc<dyn Array> {
    Arc::new(Int64Array::from(values))
}

fn texts(values: Vec<&str>) -> Arc<dyn Array> {
    Arc::new(StringArray::from(values))
}

#[test]
fn types_are_inferred() {
    let fixture = fixture();
    let check = |sql: &str, expected: &[DataType]| {
        let description = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql);
        let types: Vec<DataType> = description
            .parameters
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        assert_eq!(types, expected, "{sql}");
        assert!(
            description
                .parameters
                .fields()
                .iter()
                .enumerate()
                .all(|(n, f)| *f.name() == format!("${}", n + 1) && f.is_nullable())
        );
    };
    let decimal = DataType::Decimal128(10, 2);
    check("SELECT * FROM t WHERE id = $1", &[DataType::Int32]);
    check(
        "SELECT * FROM t WHERE id = ? AND name = ?",
        &[DataType::Int32, DataType::Utf8],
    );
    check(
        "SELECT * FROM t WHERE id IN ($1, $2) LIMIT $3",
        &[DataType::Int32, DataType::Int32, DataType::Int64],
    );
    check("SELECT $1", &[DataType::Utf8]);
    check("SELECT $2 FROM t WHERE price > $1", &[decimal.clone(), DataType::Utf8]);
    check(
        "INSERT INTO t VALUES ($1, $2, $3, $4)",
        &[DataType::Int32, DataType::Utf8, decimal.clone(), DataType::Binary],
    );
    check(
        "INSERT INTO t (price, id) VALUES (?, ?)",
        &[decimal.clone(), DataType::Int32],
    );
    check(
        "INSERT INTO t (id, price) SELECT $1, $2",
        &[DataType::Int32, decimal.clone()],
    );
    check(
        "UPDATE t SET price = $1, name = upper($2) WHERE id = $3",
        &[decimal, DataType::Utf8, DataType::Int32],
    );
    check("DELETE FROM t WHERE id = $1", &[DataType::Int32]);
    check("CREATE TABLE x (id INT PRIMARY KEY)", &[]);
}

#[test]
fn a_query_takes_one_row() {
    let fixture = fixture();
    let rows = |sql: &str, given: Parameters| fixture.rows_as(&fixture.root, sql, given);
    assert_eq!(
        rows("SELECT name FROM t WHERE id = ?", parameters(vec![ints(vec![2])])),
        ["b"]
    );
    assert_eq!(
        rows("SELECT name FROM t WHERE id = $1", parameters(vec![texts(vec!["2"])])),
        ["b"]
    );
    assert_eq!(
        rows("SELECT id FROM t ORDER BY id LIMIT $1", parameters(vec![ints(vec![1])])),
        ["1"]
    );
    assert_eq!(rows("SELECT $1", parameters(vec![ints(vec![5])])), ["5"]);
    assert_eq!(
        rows(
            "SELECT id FROM t WHERE raw = $1",
            parameters(vec![Arc::new(BinaryArray::from(vec![&[0u8][..]]))])
        ),
        ["2"]
    );
    let error = |given: Parameters, code, part: &str| {
        fixture.check_error_as(&fixture.root, "SELECT * FROM t WHERE id = $1", given, code, None, part);
    };
    error(
        Parameters::none(),
        ErrorCode::InvalidArgument,
        "takes 1 parameter, 0 given",
    );
    error(
        parameters(vec![ints(vec![1]), ints(vec![1])]),
        ErrorCode::InvalidArgument,
        "2 given",
    );
    error(
        parameters(vec![ints(vec![1, 2])]),
        ErrorCode::InvalidArgument,
        "one row of parameters, 2 given",
    );
    error(
        parameters(vec![ints(vec![1 << 40])]),
        ErrorCode::TypeMismatch,
        "parameter $1",
    );
    error(
        parameters(vec![Arc::new(Float64Array::from(vec![1.5]))]),
        ErrorCode::TypeMismatch,
        "parameter $1",
    );
}

#[test]
fn a_description_holds_for_each_execution() {
    let fixture = fixture();
    for (sql, given) in [
        (
            "SELECT id, name, $1 AS p FROM t WHERE id = $2",
            vec![texts(vec!["x"]), ints(vec![1])],
        ),
        (
            "SELECT id FROM t WHERE id = $1",
            vec![Arc::new(Int32Array::from(vec![None::<i32>])) as Arc<dyn Array>],
        ),
    ] {
        let described = fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql)
            .result;
        let execution = fixture
            .block_on(fixture.database.execute(&fixture.root, sql, parameters(given)))
            .expect(sql);
        let crate::Execution::Rows(stream) = execution else {
            panic!("{sql}")
        };
        assert_eq!(stream.schema(), described, "{sql}");
    }
}

#[test]
fn a_write_takes_many_rows_as_one() {
    let fixture = fixture();
    let many = parameters(vec![ints(vec![10, 11, 12]), texts(vec!["1.10", "2.20", "3.30"])]);
    fixture.check_count(
        "INSERT INTO t (id, name, price) VALUES ($1, 'n' || $1::TEXT, $2)",
        many.clone(),
        3,
    );
    fixture.check(
        "SELECT id, name, price FROM t WHERE id >= 10 ORDER BY id",
        &["10|n10|1.10", "11|n11|2.20", "12|n12|3.30"],
    );
    fixture.check_count("INSERT INTO t (id, price) SELECT $1 + 10, $2", many, 3);
    fixture.check("SELECT id FROM t WHERE id >= 20 ORDER BY id", &["20", "21", "22"]);
    fixture.check_count(
        "INSERT INTO t (id) VALUES ($1), ($1 + 100)",
        parameters(vec![ints(vec![200, 201])]),
        4,
    );
    // The second row is a duplicate: none stays.
    let duplicate = parameters(vec![ints(vec![30, 1])]);
    fixture.check_error_as(
        &fixture.root,
        "INSERT INTO t (id) VALUES ($1)",
        duplicate,
        ErrorCode::DuplicateKey,
        None,
        "",
    );
    fixture.check("SELECT count(*) FROM t WHERE id = 30", &["0"]);
    fixture.check_count(
        "UPDATE t SET name = $2 WHERE id = $1",
        parameters(vec![ints(vec![1, 2, 999]), texts(vec!["x", "y", "z"])]),
        2,
    );
    fixture.check("SELECT name FROM t WHERE id <= 2 ORDER BY id", &["x", "y"]);
    fixture.check_count("DELETE FROM t WHERE id = ?", parameters(vec![ints(vec![1, 1, 2])]), 2);
    fixture.check_count("DELETE FROM t WHERE id = ?", parameters(vec![ints(vec![])]), 0);
    fixture.check("SELECT count(*) FROM t WHERE id <= 2", &["0"]);
}
