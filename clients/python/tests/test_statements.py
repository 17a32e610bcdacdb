"""Statements through ADBC's DB-API: parameters, executemany, row counts, exactly-once writes, errors."""

import datetime
import decimal
import warnings

import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from conftest import ROOT_PASSWORD

D = decimal.Decimal


def value(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    ((only,),) = cursor.fetchall()
    return only


def value_rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return cursor.fetchall()


def test_autocommit_warns_of_nothing(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kwargs = {"username": "root", "password": ROOT_PASSWORD}
        with dbapi.connect(server.url, db_kwargs=kwargs, autocommit=True) as connection:
            with connection.cursor() as cursor:
                assert value(cursor, "SELECT 1") == 1


def test_basic_credentials_must_be_right(server):
    for user, password in (("root", "wrong"), ("nobody", ROOT_PASSWORD)):
        with pytest.raises(Exception, match="UNAUTHENTICATED") as caught:
            server.connect(user, password)
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.UNAUTHENTICATED


def test_parameters_in_both_spellings(cursor, namespace):
    columns = "id BIGINT PRIMARY KEY, v TEXT, d DECIMAL(38,10), day DATE, at TIMESTAMP, b BYTEA"
    cursor.execute(f"CREATE TABLE {namespace}.t ({columns})")
    row = (
        1,
        "it's $1 and ?",
        D("12345678901234567890.0123456789"),
        datetime.date(2026, 2, 28),
        datetime.datetime(2026, 2, 28, 23, 59, 59, 123456),
        b"\x00\xff",
    )
    cursor.execute(f"INSERT INTO {namespace}.t VALUES ($1, $2, $3, $4, $5, $6)", row)
    cursor.execute(f"INSERT INTO {namespace}.t VALUES (?, ?, ?, ?, ?, ?)", (2, None, None, None, None, None))
    cursor.execute(f"SELECT * FROM {namespace}.t WHERE id = $1", (1,))
    assert cursor.fetchall() == [row]
    cursor.execute(f"SELECT v FROM {namespace}.t WHERE id = ? AND '?' <> $$x$$ -- ? in a comment\n", (2,))
    assert cursor.fetchall() == [(None,)]
    # In any order, and more than once.
    assert value(cursor, "SELECT concat($2, $1, $2)", ("a", "b")) == "bab"
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t WHERE id IN (?, ?)", (1, 2)) == 2
    cursor.execute(f"UPDATE {namespace}.t SET v = $2 WHERE id = $1", (2, "new"))
    assert cursor.rowcount == 1
    assert value(cursor, f"SELECT v FROM {namespace}.t WHERE id = 2") == "new"
    cursor.execute(f"SELECT id FROM {namespace}.t ORDER BY id LIMIT $1", (1,))
    assert cursor.fetchall() == [(1,)]


def test_parameter_types_are_inferred(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, v TEXT, n INTEGER, d DECIMAL(10,2))")
    all_types = [pa.int64(), pa.string(), pa.int32(), pa.decimal128(10, 2)]
    for sql, types in (
        (f"INSERT INTO {namespace}.t VALUES ($1, $2, $3, $4)", all_types),
        (f"INSERT INTO {namespace}.t (n, id) VALUES (?, ?)", [pa.int32(), pa.int64()]),
        (f"SELECT * FROM {namespace}.t WHERE v = ? AND n > ?", [pa.string(), pa.int32()]),
        (f"UPDATE {namespace}.t SET d = $2 WHERE id = $1", [pa.int64(), pa.decimal128(10, 2)]),
        (f"DELETE FROM {namespace}.t WHERE id = ?", [pa.int64()]),
    ):
        schema = cursor.adbc_prepare(sql)
        assert [field.type for field in schema] == types, sql
        assert all(field.nullable for field in schema), sql


def test_executemany_is_one_atomic_statement(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, v TEXT)")
    insert = f"INSERT INTO {namespace}.t VALUES (?, ?)"
    cursor.executemany(insert, [(n, f"row {n}") for n in range(500)])
    assert cursor.rowcount == 500
    with pytest.raises(Exception, match="DUPLICATE_KEY"):
        cursor.executemany(insert, [(1000, "x"), (7, "again"), (1001, "y")])
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t") == 500
    cursor.executemany(f"UPDATE {namespace}.t SET v = $2 WHERE id = $1", [(1, "one"), (2, "two")])
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t WHERE v IN ('one', 'two')") == 2
    with pytest.raises(Exception, match="row 3 of the parameters"):
        cursor.executemany(f"UPDATE {namespace}.t SET v = v || $2 WHERE id = $1", [(1, "a"), (2, "b"), (1, "c")])
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t WHERE v IN ('one', 'two')") == 2
    cursor.executemany(f"DELETE FROM {namespace}.t WHERE id = $1", [(n,) for n in range(10)])
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t") == 490
    # From Arrow, without a Python object for each row.
    batch = pa.record_batch({"id": pa.array([2000, 2001]), "v": ["a", "b"]})
    cursor.executemany(insert, batch)
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t") == 492


def test_writes_run_exactly_once(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.log (v TEXT)")
    cursor.execute(f"INSERT INTO {namespace}.log VALUES ('a'), ('b')")
    # Nothing was fetched.
    assert cursor.rowcount == 2
    assert value(cursor, f"SELECT count(*) FROM {namespace}.log") == 2
    cursor.execute(f"INSERT INTO {namespace}.log SELECT v || '!' FROM {namespace}.log")
    assert cursor.fetchall() == []
    assert value(cursor, f"SELECT count(*) FROM {namespace}.log") == 4
    cursor.execute(f"UPDATE {namespace}.log SET v = 'x' WHERE v LIKE '%!'")
    assert cursor.rowcount == 2
    cursor.execute(f"DELETE FROM {namespace}.log")
    assert cursor.rowcount == 4
    cursor.executescript(f"INSERT INTO {namespace}.log VALUES ('script')")
    assert value(cursor, f"SELECT count(*) FROM {namespace}.log") == 1
    # Asking for the schema runs nothing.
    cursor.adbc_prepare(f"DELETE FROM {namespace}.log")
    assert value(cursor, f"SELECT count(*) FROM {namespace}.log") == 1


def test_returning_gives_the_rows_of_what_ran_once(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, v TEXT DEFAULT 'x', u UUID, doc JSON)")
    insert = f"INSERT INTO {namespace}.t (id, v) VALUES (?, ?) RETURNING id * 10 AS ten, v"
    assert value_rows(cursor, insert, (1, "one")) == [(10, "one")]
    assert cursor.rowcount == 1
    # The same prepared statement again, and rows that are never fetched.
    assert value_rows(cursor, insert, (2, "two")) == [(20, "two")]
    cursor.execute(insert, (3, "three"))
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t") == 3
    with pytest.raises(adbc_driver_manager.Error, match="DUPLICATE_KEY"):
        cursor.execute(insert, (3, "again"))
    update = f"UPDATE {namespace}.t SET v = upper(v) WHERE id > $1 RETURNING *"
    cursor.execute(update, (1,))
    table = cursor.fetch_arrow_table()
    assert table.column("v").to_pylist() == ["TWO", "THREE"]
    assert cursor.adbc_execute_schema(update, (1,)).names == ["id", "v", "u", "doc"]
    assert value_rows(cursor, f"DELETE FROM {namespace}.t WHERE id = 1 RETURNING v") == [("one",)]
    assert value_rows(cursor, f"DELETE FROM {namespace}.t WHERE id = 1 RETURNING v") == []
    # More rows than a ticket carries.
    rows = 300_000
    fill = f"INSERT INTO {namespace}.t (id) SELECT value FROM generate_series(10, {rows + 9}) RETURNING id, v"
    cursor.execute(fill)
    assert cursor.rowcount == rows
    table = cursor.fetch_arrow_table()
    assert table.num_rows == rows and sorted(table.column("id").to_pylist()) == list(range(10, rows + 10))
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t") == rows + 2
    # Many rows of parameters are one statement, and its count is what executemany wants.
    cursor.executemany(insert, [(-1, "a"), (-2, "b")])
    assert value(cursor, f"SELECT count(*) FROM {namespace}.t WHERE id < 0") == 2


def test_extension_types_are_arrows(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, u UUID, doc JSON)")
    one = "00112233-4455-6677-8899-aabbccddeeff"
    cursor.execute(f"INSERT INTO {namespace}.t VALUES (1, '{one}', '{{\"a\": [1, \"x\"]}}')")
    cursor.execute(f"SELECT u, doc, doc -> 'a' AS a, doc -> 'a' ->> 1 AS x, '{one}'::UUID AS v FROM {namespace}.t")
    schema = cursor.fetch_arrow_table().schema
    assert schema.field("u").type == pa.uuid() and schema.field("v").type == pa.uuid()
    assert schema.field("doc").type == pa.json_() and schema.field("a").type == pa.json_()
    assert schema.field("x").type == pa.string()


def test_views_are_read_as_tables(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, v TEXT)")
    cursor.execute(f"CREATE VIEW {namespace}.w AS SELECT v, id FROM {namespace}.t")
    cursor.execute(f"INSERT INTO {namespace}.t VALUES (1, 'a')")
    assert value_rows(cursor, f"SELECT * FROM {namespace}.w WHERE id = ?", (1,)) == [("a", 1)]
    objects = cursor.connection.adbc_get_objects(db_schema_filter=namespace).read_all().to_pylist()
    (schema,) = objects[0]["catalog_db_schemas"]
    tables = {table["table_name"]: table for table in schema["db_schema_tables"]}
    assert {name: table["table_type"] for name, table in tables.items()} == {"t": "TABLE", "w": "VIEW"}
    assert [column["column_name"] for column in tables["w"]["table_columns"]] == ["v", "id"]
    cursor.execute(f"DROP VIEW {namespace}.w")
    with pytest.raises(adbc_driver_manager.Error, match="TABLE_NOT_FOUND"):
        cursor.execute(f"SELECT * FROM {namespace}.w")


def test_row_counts_of_queries(cursor):
    cursor.execute("SELECT * FROM (VALUES (1), (2), (3)) AS t(a)")
    assert cursor.rowcount in (-1, 3)
    assert cursor.description[0][0] == "a"
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(5) == [(2,), (3,)]
    assert cursor.fetchone() is None
    cursor.execute("SELECT 1 AS one WHERE false")
    assert cursor.fetch_arrow_table().schema.names == ["one"]


def test_large_results_stream(cursor):
    cursor.execute("SELECT value AS id, 'row ' || value AS v FROM generate_series(1, 1000000)")
    reader = cursor.fetch_record_batch()
    count = total = 0
    for batch in reader:
        count += batch.num_rows
        total += pa.compute.sum(batch["id"]).as_py()
    assert (count, total) == (1_000_000, 500_000_500_000)


def test_partitions_are_read_from_any_connection(server, cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t AS SELECT value AS id FROM generate_series(1, 1000)")
    partitions, schema = cursor.adbc_execute_partitions(f"SELECT id FROM {namespace}.t")
    assert schema.names == ["id"]
    ids = []
    for partition in partitions:
        with server.connect() as other, other.cursor() as reader:
            reader.adbc_read_partition(partition)
            ids += [row[0] for row in reader.fetchall()]
    assert sorted(ids) == list(range(1, 1001))


def test_errors_say_what_and_where(cursor, namespace):
    code = adbc_driver_manager.AdbcStatusCode
    cursor.execute(f"CREATE TABLE {namespace}.items (id BIGINT PRIMARY KEY, name TEXT NOT NULL)")
    cursor.execute(f"INSERT INTO {namespace}.items VALUES (1, 'one')")
    for sql, words, status in (
        (f"SELECT * FROM {namespace}.itemz", "TABLE_NOT_FOUND.*itemz.*line 1, column 15", code.NOT_FOUND),
        (f"SELECT nam FROM {namespace}.items", "COLUMN_NOT_FOUND.*nam.*name", code.NOT_FOUND),
        (f"INSERT INTO {namespace}.items VALUES (1, 'x')", "DUPLICATE_KEY", code.ALREADY_EXISTS),
        (f"INSERT INTO {namespace}.items VALUES (2, NULL)", "NOT_NULL_VIOLATION.*name", code.INVALID_ARGUMENT),
        ("SELEC 1", "SYNTAX_ERROR.*line 1, column 1", code.INVALID_ARGUMENT),
        (f"ALTER TABLE {namespace}.items ADD COLUMN size INTEGER", "UNSUPPORTED", code.NOT_IMPLEMENTED),
    ):
        with pytest.raises(Exception, match=words) as caught:
            cursor.execute(sql)
            cursor.fetchall()
        assert caught.value.status_code == status, sql
    assert value(cursor, f"SELECT count(*) FROM {namespace}.items") == 1


def test_a_transaction_is_refused_in_words(server):
    kwargs = {"username": "root", "password": ROOT_PASSWORD}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with dbapi.connect(server.url, db_kwargs=kwargs) as connection, connection.cursor() as cursor:
            assert value(cursor, "SELECT 1") == 1
    assert any("autocommit" in str(warning.message) for warning in seen), [str(w.message) for w in seen]


def test_sessions_are_separate(server, namespace):
    with server.connect() as one, server.connect() as two:
        with one.cursor() as first, two.cursor() as second:
            first.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY)")
            first.execute(f"USE {namespace}")
            first.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(Exception, match="TABLE_NOT_FOUND"):
                second.execute("SELECT * FROM t")
            assert value(second, f"SELECT count(*) FROM {namespace}.t") == 1
    # A closed connection's session is gone.
    count = "SELECT count(*) FROM system.sessions"
    with server.connect() as three, three.cursor() as cursor:
        before = value(cursor, count)
        with server.connect() as four, four.cursor() as beside:
            assert value(beside, count) == before + 1
        assert value(cursor, count) == before
