//! Parameters: `$1` and `?`.

use std::sync::Arc;

use arrow::array::types::Int64Type;
use arrow::array::{
    Array, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, NullArray, StringArray,
};
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

/// The statement gives this with these values; what describes it for them is exactly what it gives.
#[track_caller]
fn check_bound(fixture: &Fixture, sql: &str, given: Vec<Arc<dyn Array>>, expected: &[&str]) {
    let given = parameters(given);
    let described = fixture.block_on(fixture.database.describe_bound(&fixture.root, sql, &given));
    let described = described.unwrap_or_else(|error| panic!("{sql}: {error}"));
    // Nothing is bound while a statement is prepared; that it can be described then is what a driver needs.
    let prepared = fixture.block_on(fixture.database.describe(&fixture.root, sql));
    let prepared = prepared.unwrap_or_else(|error| panic!("{sql}: {error}"));
    for field in prepared.parameters.fields() {
        assert_ne!(*field.data_type(), DataType::Null, "{sql}");
    }
    if !prepared.follows_bound_types {
        assert_eq!(prepared.result, described.result, "{sql}");
        assert_eq!(prepared.parameters, described.parameters, "{sql}");
    }
    let execution = fixture.block_on(fixture.database.execute(&fixture.root, sql, given));
    let crate::Execution::Rows(stream) = execution.unwrap_or_else(|error| panic!("{sql}: {error}")) else {
        panic!("{sql}: no rows")
    };
    assert_eq!(stream.schema(), described.result, "{sql}");
    let batches = fixture.block_on(crate::testing::collect(stream));
    let batches = batches.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows: Vec<String> = batches.iter().flat_map(crate::testing::texts).collect();
    assert_eq!(rows, expected, "{sql}");
}

#[test]
fn what_is_told_at_one_place_holds_at_all() {
    let fixture = fixture();
    let check =
        |sql: &str, value: i64, expected: &[&str]| check_bound(&fixture, sql, vec![ints(vec![value])], expected);
    check("SELECT $1 AS x, id FROM t WHERE id = $1", 2, &["2|2"]);
    check("SELECT id, name, $1 AS asof FROM t WHERE id <= $1", 1, &["1|a|1"]);
    check("SELECT $1 AS wanted, count(*) FROM t WHERE id = $1", 2, &["2|1"]);
    check("SELECT $1, id + $1 FROM t ORDER BY id", 5, &["5|6", "5|7"]);
    check("SELECT id + $1, $1 FROM t ORDER BY id", 5, &["6|5", "7|5"]);
    check(
        "SELECT id, id > $1, $1 FROM t ORDER BY id",
        1,
        &["1|false|1", "2|true|1"],
    );
    check("SELECT $1, $1 + 1", 5, &["5|6"]);
    check("SELECT $1, count(*) FROM t WHERE id > $1 GROUP BY $1", 0, &["0|2"]);
    check("SELECT $1 + 1, count(*) FROM t GROUP BY $1 + 1", 4, &["5|2"]);
    check("SELECT $1 = $1, id FROM t WHERE id = $1", 1, &["true|1"]);
    check(
        "SELECT x, $1 FROM (SELECT id AS x FROM t WHERE id >= $1) ORDER BY x",
        2,
        &["2|2"],
    );
    check("SELECT $1 UNION ALL SELECT id FROM t WHERE id = $1", 2, &["2", "2"]);
    check("SELECT $1, name, name FROM t WHERE id = $1", 2, &["2|b|b"]);
    // Of two types the one that takes the values of both.
    check("SELECT id FROM t WHERE id = $1 AND price > $1", 1, &["1"]);
    check(
        "SELECT id FROM t WHERE id > $1 OR price > $1 ORDER BY id",
        1,
        &["1", "2"],
    );
    // By way of one another.
    check_bound(
        &fixture,
        "SELECT $1 FROM t WHERE $1 = $2 AND $2 = $3 AND $3 = id",
        vec![ints(vec![2]), ints(vec![2]), ints(vec![2])],
        &["2"],
    );
    fixture.check_error_as(
        &fixture.root,
        "SELECT id FROM t WHERE id = $1 OR name = $1",
        parameters(vec![ints(vec![1])]),
        ErrorCode::InvalidStatement,
        None,
        "parameter $1 is INTEGER at one place and TEXT at another; write CAST($1 AS …)",
    );
    check("SELECT id FROM t WHERE id = $1 OR name = CAST($1 AS TEXT)", 1, &["1"]);
}

#[test]
fn an_untold_parameter_has_the_type_of_its_value() {
    let fixture = fixture();
    let floats = |values: Vec<f64>| -> Arc<dyn Array> { Arc::new(Float64Array::from(values)) };
    let check = |sql: &str, given: Vec<Arc<dyn Array>>, expected: &[&str]| check_bound(&fixture, sql, given, expected);
    let two = |first: i64, second: i64| vec![ints(vec![first]), ints(vec![second])];
    let null = || -> Arc<dyn Array> { Arc::new(NullArray::new(1)) };
    check("SELECT GREATEST($1, $2)", two(10, 9), &["10"]);
    check(
        "SELECT id FROM t WHERE id < GREATEST($1, $2) ORDER BY id",
        two(10, 9),
        &["1", "2"],
    );
    check("SELECT max(x) FROM (VALUES ($1), ($2)) v(x)", two(10, 9), &["10"]);
    check(
        "SELECT x FROM (VALUES ($1), ($2)) v(x) ORDER BY x",
        two(10, 9),
        &["9", "10"],
    );
    check("SELECT [$1, $2]", two(10, 9), &["[10, 9]"]);
    check("SELECT [[$1], [$2, 7]][2][1]", two(10, 9), &["9"]);
    check(
        "SELECT $1 || $2, $3 + $4",
        vec![null(), null(), ints(vec![1]), ints(vec![2])],
        &["NULL|3"],
    );
    check("SELECT $1 + $2", two(10, 9), &["19"]);
    check("SELECT $1 + $2", vec![floats(vec![0.5]), ints(vec![1])], &["1.5"]);
    check("SELECT $1 + $2", vec![ints(vec![5]), null()], &["NULL"]);
    check("SELECT $1 + $2", vec![texts(vec!["5"]), texts(vec!["6"])], &["11"]);
    check("SELECT $1 = $2", two(1, 1), &["true"]);
    check("SELECT id FROM t WHERE id > $1 - $2", two(10, 9), &["2"]);
    check(
        "SELECT substr(name, $1) FROM t WHERE id = 1",
        vec![ints(vec![1])],
        &["a"],
    );
    check(
        "SELECT substr(name, $1) FROM t WHERE id = 1",
        vec![texts(vec!["1"])],
        &["a"],
    );
    check("SELECT left('abc', $1)", vec![ints(vec![2])], &["ab"]);
    check(
        "SELECT repeat(name, $1) FROM t WHERE id = 1",
        vec![ints(vec![3])],
        &["aaa"],
    );
    check(
        "SELECT split_part('a-b', $1, $2)",
        vec![texts(vec!["-"]), ints(vec![2])],
        &["b"],
    );
    check(
        "SELECT power(id, $1) FROM t WHERE id = 2",
        vec![ints(vec![3])],
        &["8.0"],
    );
    check("SELECT round($1, 2)", vec![floats(vec![1.234])], &["1.23"]);
    check("SELECT upper($1)", vec![texts(vec!["x"])], &["X"]);
    check("SELECT $1 || $2", vec![texts(vec!["x"]), texts(vec!["y"])], &["xy"]);
    let yes = || -> Vec<Arc<dyn Array>> { vec![Arc::new(BooleanArray::from(vec![true]))] };
    check("SELECT NOT $1", yes(), &["false"]);
    check("SELECT NOT $1", vec![texts(vec!["true"])], &["false"]);
    check("SELECT id FROM t WHERE $1 ORDER BY id", yes(), &["1", "2"]);
    check("SELECT CASE WHEN $1 THEN 'a' ELSE 'b' END", yes(), &["a"]);
    check("SELECT $1 AND $2", vec![yes().remove(0), yes().remove(0)], &["true"]);
    check("SELECT $1 IS NULL", vec![ints(vec![1])], &["false"]);
    check("SELECT $1", vec![null()], &["NULL"]);
    check("SELECT coalesce($1, $2)", vec![null(), ints(vec![7])], &["7"]);
    check("SELECT $1 IN (1, 2)", vec![ints(vec![2])], &["true"]);
    let list = |values: Vec<Option<i64>>| -> Arc<dyn Array> {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(values)]))
    };
    check("SELECT array_length($1)", vec![list(vec![Some(7), Some(8)])], &["2"]);
    // A cast that is written takes what its type can be cast from.
    check("SELECT CAST($1 AS INTEGER) + 1", vec![texts(vec!["41"])], &["42"]);
    check("SELECT CAST($1 AS TEXT)", vec![ints(vec![41])], &["41"]);
}

#[test]
fn untold_parameters_are_described_as_what_their_places_take() {
    let fixture = fixture();
    let check = |sql: &str, expected: &[DataType]| {
        let described = fixture.block_on(fixture.database.describe(&fixture.root, sql));
        let described = described.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let fields = described.parameters.fields().iter();
        let types: Vec<DataType> = fields.map(|field| field.data_type().clone()).collect();
        assert_eq!(types, expected, "{sql}");
    };
    check("SELECT $1, $2", &[DataType::Utf8, DataType::Utf8]);
    check("SELECT GREATEST($1, $2)", &[DataType::Utf8, DataType::Utf8]);
    check("SELECT substr(name, $1) FROM t", &[DataType::Int64]);
    check("SELECT left(name, $1) FROM t", &[DataType::Int64]);
    check(
        "SELECT split_part(name, $1, $2) FROM t",
        &[DataType::Utf8, DataType::Int64],
    );
    check("SELECT NOT $1", &[DataType::Boolean]);
    check("SELECT id FROM t WHERE $1", &[DataType::Boolean]);
    check("SELECT $1 AND $2", &[DataType::Boolean, DataType::Boolean]);
    check("SELECT CAST($1 AS DATE)", &[DataType::Date32]);
    check("SELECT upper($1)", &[DataType::Utf8]);
    check("SELECT $1 + $2", &[DataType::Int64, DataType::Int64]);
    check("SELECT $3", &[DataType::Utf8, DataType::Utf8, DataType::Utf8]);
    check(
        "INSERT INTO t (id, name) VALUES ($1 + $2, $3 || $4)",
        &[DataType::Int64, DataType::Int64, DataType::Utf8, DataType::Utf8],
    );
    check("UPDATE t SET price = $1 + $2", &[DataType::Int64, DataType::Int64]);
}

#[test]
fn writes_take_untold_parameters_by_their_values() {
    let fixture = fixture();
    let floats = |values: Vec<f64>| -> Arc<dyn Array> { Arc::new(Float64Array::from(values)) };
    fixture.check_count(
        "INSERT INTO t (id, name, price) VALUES ($1 + $2, $3 || $4, abs($5))",
        parameters(vec![
            ints(vec![10, 20]),
            ints(vec![1, 2]),
            texts(vec!["x", "y"]),
            texts(vec!["1", "2"]),
            ints(vec![-5, 6]),
        ]),
        2,
    );
    fixture.check(
        "SELECT id, name, price FROM t WHERE id > 10 ORDER BY id",
        &["11|x1|5.00", "22|y2|6.00"],
    );
    fixture.check_count(
        "UPDATE t SET price = $1 + $2 WHERE id = $3",
        parameters(vec![floats(vec![0.25, 0.5]), ints(vec![1, 2]), ints(vec![11, 22])]),
        2,
    );
    fixture.check("SELECT price FROM t WHERE id > 10 ORDER BY id", &["1.25", "2.50"]);
    fixture.check_count(
        "DELETE FROM t WHERE id = GREATEST($1, $2)",
        parameters(vec![ints(vec![9, 22]), ints(vec![11, 3])]),
        2,
    );
    let given = parameters(vec![ints(vec![1]), ints(vec![2]), ints(vec![30])]);
    assert_eq!(
        fixture.rows_as(
            &fixture.root,
            "INSERT INTO t (id) VALUES ($3) RETURNING $1 + $2, id",
            given
        ),
        ["3|30"]
    );
}

#[test]
fn refusals_of_values_say_types_and_what_to_do() {
    let fixture = fixture();
    let check = |sql: &str, given: Vec<Arc<dyn Array>>, part: &str| {
        fixture.check_error_as(
            &fixture.root,
            sql,
            parameters(given),
            ErrorCode::TypeMismatch,
            None,
            part,
        );
    };
    let yes = || -> Vec<Arc<dyn Array>> { vec![Arc::new(BooleanArray::from(vec![true]))] };
    check(
        "SELECT id FROM t WHERE id = $1",
        yes(),
        "parameter $1 (INTEGER) takes no BOOLEAN; bind a value of that type, or write CAST($1 AS …)",
    );
    check(
        "SELECT NOT $1",
        vec![ints(vec![1])],
        "parameter $1 (BOOLEAN) takes no BIGINT",
    );
    check(
        "SELECT $1 + $2",
        vec![texts(vec!["a"]), texts(vec!["b"])],
        "'a' (row 1) does not fit parameter $1 (BIGINT)",
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
