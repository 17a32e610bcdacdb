"""Parameters through stock ADBC: what a statement tells of their types, and the types of what is bound where it tells nothing."""

import datetime
import decimal
import json
import urllib.request
from base64 import b64encode

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from conftest import ROOT_PASSWORD

D = decimal.Decimal


@pytest.fixture
def stock(server):
    """The driver without anything of ours around it."""
    kwargs = {"username": "root", "password": ROOT_PASSWORD}
    with dbapi.connect(server.url, db_kwargs=kwargs, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def n(stock, namespace):
    stock.execute(f"CREATE TABLE {namespace}.n (id BIGINT PRIMARY KEY, v TEXT, amount DECIMAL(10,2))")
    stock.execute(f"INSERT INTO {namespace}.n VALUES (1, 'one', 1.10), (9, 'nine', 9.90), (20, 'twenty', 20.00)")
    return f"{namespace}.n"


REPEATED = (
    ("SELECT $1 AS x, id FROM n WHERE id = $1", (9,), [(9, 9)]),
    ("SELECT id, v, $1 AS asof FROM n WHERE id <= $1 ORDER BY id", (9,), [(1, "one", 9), (9, "nine", 9)]),
    ("SELECT $1 AS wanted, count(*) FROM n WHERE id = $1", (9,), [(9, 1)]),
    ("SELECT $1, id + $1 FROM n ORDER BY id", (1,), [(1, 2), (1, 10), (1, 21)]),
    ("SELECT id + $1, $1 FROM n ORDER BY id", (1,), [(2, 1), (10, 1), (21, 1)]),
    ("SELECT id, id > $1, $1 FROM n ORDER BY id", (9,), [(1, False, 9), (9, False, 9), (20, True, 9)]),
    ("SELECT $1, $1 + 1", (9,), [(9, 10)]),
    ("SELECT $1, count(*) FROM n WHERE id > $1 GROUP BY $1", (1,), [(1, 2)]),
)

UNTOLD = (
    ("SELECT $1", (5,), [(5,)]),
    ("SELECT $1", ("x",), [("x",)]),
    ("SELECT $1", (None,), [(None,)]),
    ("SELECT $1", (D("1.50"),), [(D("1.50"),)]),
    ("SELECT $1", (datetime.date(2026, 2, 28),), [(datetime.date(2026, 2, 28),)]),
    ("SELECT [$1, $2]", (10, 9), [([10, 9],)]),
    ("SELECT array_length($1)", ([1, 2, 3],), [(3,)]),
    ("SELECT GREATEST($1, $2)", (10, 9), [(10,)]),
    ("SELECT id FROM n WHERE id < GREATEST($1, $2) ORDER BY id", (10, 9), [(1,), (9,)]),
    ("SELECT max(x) FROM (VALUES ($1), ($2)) t(x)", (10, 9), [(10,)]),
    ("SELECT x FROM (VALUES ($1), ($2)) t(x) ORDER BY x", (10, 9), [(9,), (10,)]),
    ("SELECT $1 + $2", (10, 9), [(19,)]),
    ("SELECT $1 + $2", (0.5, 1), [(1.5,)]),
    ("SELECT $1 + $2", (10, None), [(None,)]),
    ("SELECT $1 = $2", (1, 1), [(True,)]),
    ("SELECT id FROM n WHERE id > $1 - $2", (20, 10), [(20,)]),
    ("SELECT substr(v, $1) FROM n WHERE id = 9", (3,), [("ne",)]),
    ("SELECT left(v, $1) FROM n WHERE id = 9", (2,), [("ni",)]),
    ("SELECT repeat(v, $1) FROM n WHERE id = 1", (2,), [("oneone",)]),
    ("SELECT split_part('a-b', $1, $2)", ("-", 2), [("b",)]),
    ("SELECT round($1, 2)", (1.234,), [(1.23,)]),
    ("SELECT NOT $1", (True,), [(False,)]),
    ("SELECT id FROM n WHERE $1 AND id = 1", (True,), [(1,)]),
    ("SELECT count(*) FROM n WHERE $1", (True,), [(3,)]),
)


@pytest.mark.parametrize(("sql", "values", "rows"), UNTOLD)
def test_results_are_of_the_values_bound(stock, n, sql, values, rows):
    sql = sql.replace("FROM n", f"FROM {n}")
    # Twice by the same prepared statement.
    for _ in range(2):
        stock.execute(sql, values)
        assert stock.fetchall() == rows


@pytest.mark.parametrize(("sql", "values", "rows"), REPEATED)
def test_a_parameter_has_one_type_at_all_its_places(stock, n, sql, values, rows):
    sql = sql.replace("FROM n", f"FROM {n}")
    stock.execute(sql, values)
    table = stock.fetch_arrow_table()
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    # Of the statement as it is prepared, before anything is bound.
    assert stock.adbc_execute_schema(sql, values).types == table.schema.types


def test_one_prepared_statement_takes_values_of_any_type(stock):
    sql = "SELECT $1, GREATEST($1, $2)"
    for values in ((10, 9), ("10", "9"), (1.5, 0.5), (D("1.5"), D("0.5")), (None, 3)):
        stock.execute(sql, values)
        expected = max(value for value in values if value is not None)
        assert stock.fetchall() == [(values[0], expected)]


def test_prepared_parameters_are_never_of_no_type(stock, n):
    for sql, types in (
        (f"SELECT $1 AS x, id FROM {n} WHERE id = $1", [pa.int64()]),
        ("SELECT $1 + $2", [pa.int64(), pa.int64()]),
        ("SELECT $1 = $2", [pa.string(), pa.string()]),
        ("SELECT GREATEST($1, $2)", [pa.string(), pa.string()]),
        (f"SELECT substr(v, $1) FROM {n}", [pa.int64()]),
        (f"SELECT id FROM {n} WHERE $1", [pa.bool_()]),
        (f"INSERT INTO {n} VALUES ($1, $2 || $3, 4)", [pa.int64(), pa.string(), pa.string()]),
        (f"UPDATE {n} SET amount = $1 + $2", [pa.int64(), pa.int64()]),
    ):
        assert stock.adbc_prepare(sql).types == types, sql


def test_writes_compute_with_what_is_bound(stock, n):
    stock.execute(f"INSERT INTO {n} VALUES ($1 + $2, $3, abs($4))", (30, 1, "x", -5))
    stock.execute(f"INSERT INTO {n} VALUES ($1, $2 || $3, 4)", (32, "a", "b"))
    stock.executemany(f"UPDATE {n} SET amount = $1 + $2 WHERE id = $3", [(1, 2, 31), (3, 4, 32)])
    assert stock.rowcount == 2
    stock.execute(f"SELECT id, v, amount FROM {n} WHERE id > 30 ORDER BY id")
    assert stock.fetchall() == [(31, "x", D("3.00")), (32, "ab", D("7.00"))]
    stock.executemany(f"INSERT INTO {n} (id, v) VALUES ($1 + 100, upper($2))", [(i, f"r{i}") for i in range(500)])
    assert stock.rowcount == 500
    stock.executemany(f"DELETE FROM {n} WHERE id = GREATEST($1, $2)", [(100 + i, i) for i in range(10)])
    assert stock.rowcount == 10


def test_refusals_name_parameter_types_and_what_to_do(stock, n):
    for sql, values, part in (
        (f"SELECT * FROM {n} WHERE id = $1", (True,), r"parameter \$1 \(BIGINT\) takes no BOOLEAN; bind a value"),
        (f"SELECT * FROM {n} WHERE id = $1", (1.5,), r"1.5 \(row 1\) does not fit parameter \$1 \(BIGINT\); bind"),
        ("SELECT NOT $1", (1,), r"parameter \$1 \(BOOLEAN\) takes no BIGINT"),
    ):
        with pytest.raises(Exception, match="TYPE_MISMATCH.*" + part):
            stock.execute(sql, values)
            stock.fetchall()


def test_unsupported_statements_say_so(stock, n):
    for sql, values in (
        (f'SELECT v COLLATE "C" FROM {n} WHERE id = ?', (1,)),
        (f"MERGE INTO {n} USING {n} AS s ON {n}.id = s.id AND s.id = ? WHEN MATCHED THEN DELETE", (1,)),
        (f"COPY {n} TO ?", ("x",)),
        (f"CREATE VIEW {n}v AS SELECT ?", (1,)),
        (f"CREATE TABLE {n}d (id BIGINT PRIMARY KEY, v INTEGER DEFAULT ?)", (1,)),
    ):
        with pytest.raises(dbapi.Error) as caught:
            stock.execute(sql, values)
        assert "IngestTargetTable" not in str(caught.value), sql
        assert any(code in str(caught.value) for code in ("UNSUPPORTED", "INVALID_STATEMENT")), (sql, caught.value)
    # Without parameters the driver's own class says it.
    with pytest.raises(dbapi.NotSupportedError, match="UNSUPPORTED"):
        stock.execute(f"COPY {n} TO 'x'")


def test_json_parameters_keep_their_types(server):
    def rows(sql, params):
        credentials = b64encode(f"root:{ROOT_PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        body = json.dumps({"sql": sql, "params": params}).encode()
        request = urllib.request.Request(f"{server.http}/api/sql", body, headers)
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["results"][0]["rows"]

    assert rows("SELECT GREATEST($1, $2)", [10, 9]) == [[10]]
    assert rows("SELECT $1 + $2", [10, None]) == [[None]]
    assert rows("SELECT $1, $1 + 1", [9]) == [[9, 10]]
    assert rows("SELECT left('abc', $1)", [2]) == [["ab"]]
    assert rows("SELECT NOT $1", [True]) == [[False]]
    assert rows("SELECT $1 || 'x'", ["a"]) == [["ax"]]
    assert rows("SELECT GREATEST($1, $2)", [1.5, 0.25]) == [["1.50"]]
