"""adbc_ingest: what each mode makes of a table, the options, and types that come back as they went."""

import datetime
import decimal

import pyarrow as pa
import pytest
from kalamdb_connect import ingest_options


def rows(first, count, word):
    ids = range(first, first + count)
    return pa.table({"id": pa.array(ids, pa.int64()), "v": pa.array([f"{word} {id}" for id in ids], pa.string())})


def content(cursor, table):
    cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
    return cursor.fetch_arrow_table()


def test_modes(connection, cursor, namespace):
    ingest_options(connection, primary_key="id")
    table = f"{namespace}.t"

    def ingest(data, mode):
        return cursor.adbc_ingest("t", data, mode=mode, db_schema_name=namespace)

    with pytest.raises(Exception, match="TABLE_NOT_FOUND"):
        ingest(rows(0, 3, "a"), "append")
    assert ingest(rows(0, 3, "a"), "create") == 3
    with pytest.raises(Exception, match="ALREADY_EXISTS"):
        ingest(rows(0, 3, "b"), "create")
    assert ingest(rows(3, 2, "b"), "append") == 2
    assert content(cursor, table).to_pydict() == {"id": [0, 1, 2, 3, 4], "v": ["a 0", "a 1", "a 2", "b 3", "b 4"]}
    with pytest.raises(Exception, match="DUPLICATE_KEY"):
        ingest(rows(4, 3, "c"), "append")
    assert content(cursor, table).num_rows == 5
    assert ingest(rows(5, 1, "d"), "create_append") == 1
    assert content(cursor, table).num_rows == 6
    # REPLACE takes the new schema as well.
    assert ingest(pa.table({"id": [7], "other": [1.5]}), "replace") == 1
    assert content(cursor, table).to_pydict() == {"id": [7], "other": [1.5]}
    assert cursor.adbc_ingest("fresh", rows(0, 2, "e"), mode="create_append", db_schema_name=namespace) == 2
    assert content(cursor, f"{namespace}.fresh").num_rows == 2


def test_on_conflict(connection, cursor, namespace):
    ingest_options(connection, primary_key="id")
    cursor.adbc_ingest("t", rows(0, 4, "old"), mode="create", db_schema_name=namespace)
    ingest_options(connection, primary_key="id", on_conflict="ignore")
    cursor.adbc_ingest("t", rows(2, 4, "ignored"), mode="append", db_schema_name=namespace)
    expected = ["old 0", "old 1", "old 2", "old 3", "ignored 4", "ignored 5"]
    assert content(cursor, f"{namespace}.t")["v"].to_pylist() == expected
    ingest_options(connection, primary_key="id", on_conflict="replace")
    cursor.adbc_ingest("t", rows(5, 2, "new"), mode="append", db_schema_name=namespace)
    expected = expected[:5] + ["new 5", "new 6"]
    assert content(cursor, f"{namespace}.t")["v"].to_pylist() == expected
    # Back to the default.
    ingest_options(connection, primary_key="id")
    with pytest.raises(Exception, match="DUPLICATE_KEY"):
        cursor.adbc_ingest("t", rows(6, 1, "x"), mode="append", db_schema_name=namespace)


def test_table_types(connection, cursor, namespace):
    ingest_options(connection, primary_key="id", table_type="USER")
    cursor.adbc_ingest("mine", rows(0, 2, "m"), mode="create", db_schema_name=namespace)
    cursor.execute(f"SELECT table_type FROM system.tables WHERE namespace_id = '{namespace}'")
    assert cursor.fetchall() == [("USER",)]
    with pytest.raises(Exception, match="table_type"):
        ingest_options(connection, table_type="GLOBAL")
    with pytest.raises(Exception, match="on_conflict"):
        ingest_options(connection, on_conflict="perhaps")
    option = "adbc.flight.sql.session.option.ingest.primary_kee"
    with pytest.raises(Exception, match="primary_kee"):
        connection.adbc_connection.set_options(**{option: "id"})


def test_a_stream_table_gets_its_options(connection, cursor, namespace):
    ingest_options(connection, primary_key="id", table_type="STREAM")
    with pytest.raises(Exception, match="TTL_SECONDS"):
        cursor.adbc_ingest("s", rows(0, 2, "m"), mode="create", db_schema_name=namespace)
    option = "adbc.flight.sql.session.option.ingest.with.ttl_seconds"
    connection.adbc_connection.set_options(**{option: "3600"})
    for mode in ("create", "replace"):
        cursor.adbc_ingest("s", rows(0, 2, "m"), mode=mode, db_schema_name=namespace)
    cursor.execute(f"SELECT table_type FROM system.tables WHERE namespace_id = '{namespace}'")
    assert cursor.fetchall() == [("STREAM",)]
    assert content(cursor, f"{namespace}.s").num_rows == 2


def test_sessions_are_in_namespaces_that_there_are(connection):
    with pytest.raises(Exception, match="schema"):
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.schema": "nowhere"})


def test_columns_are_matched_by_name(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t (id BIGINT PRIMARY KEY, v TEXT DEFAULT 'none', n INTEGER)")
    cursor.adbc_ingest("t", pa.table({"v": ["a"], "id": [1]}), mode="append", db_schema_name=namespace)
    other = pa.table({"n": pa.array([5], pa.int64()), "id": [2]})
    cursor.adbc_ingest("t", other, mode="append", db_schema_name=namespace)
    assert content(cursor, f"{namespace}.t").to_pydict() == {"id": [1, 2], "v": ["a", "none"], "n": [None, 5]}
    with pytest.raises(Exception, match="COLUMN_NOT_FOUND.*nope"):
        cursor.adbc_ingest("t", pa.table({"id": [3], "nope": [1]}), mode="append", db_schema_name=namespace)
    with pytest.raises(Exception, match="TYPE_MISMATCH|INVALID"):
        cursor.adbc_ingest("t", pa.table({"id": [3], "n": ["many"]}), mode="append", db_schema_name=namespace)
    with pytest.raises(Exception, match="NOT_NULL_VIOLATION"):
        cursor.adbc_ingest("t", pa.table({"v": ["x"]}), mode="append", db_schema_name=namespace)
    assert content(cursor, f"{namespace}.t").num_rows == 2


def test_a_stream_that_fails_leaves_nothing(cursor, namespace):
    schema = pa.schema([("id", pa.int64())])

    def batches():
        for number in range(5):
            if number == 4:
                raise RuntimeError("the source broke")
            ids = pa.array(range(number * 30_000, (number + 1) * 30_000), pa.int64())
            yield pa.record_batch([ids], schema=schema)

    with pytest.raises(Exception, match="the source broke"):
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        cursor.adbc_ingest("broken", reader, mode="create", db_schema_name=namespace)
    with pytest.raises(Exception, match="TABLE_NOT_FOUND"):
        cursor.execute(f"SELECT * FROM {namespace}.broken")
    # Its name is free at once.
    assert cursor.adbc_ingest("broken", rows(0, 1, "x"), mode="create", db_schema_name=namespace) == 1


def test_empty_streams(cursor, namespace):
    schema = rows(0, 0, "x").schema
    # The driver sends nothing at all for a table without batches, not even the table's name.
    empty = pa.RecordBatchReader.from_batches(schema, [pa.RecordBatch.from_pylist([], schema=schema)])
    assert cursor.adbc_ingest("t", empty, mode="create", db_schema_name=namespace) == 0
    assert content(cursor, f"{namespace}.t").schema.names == ["id", "v"]


def test_many_small_and_few_large_batches(connection, cursor, namespace):
    ingest_options(connection, primary_key="id")
    small = rows(0, 2_000, "s").to_batches(max_chunksize=1)
    reader = pa.RecordBatchReader.from_batches(small[0].schema, small)
    assert cursor.adbc_ingest("small", reader, mode="create", db_schema_name=namespace) == 2_000
    assert cursor.adbc_ingest("large", rows(0, 300_000, "l"), mode="create", db_schema_name=namespace) == 300_000
    cursor.execute(f"SELECT count(*), min(id), max(id) FROM {namespace}.large")
    assert cursor.fetchall() == [(300_000, 0, 299_999)]
    # Values as large as a few messages.
    huge = pa.table({"id": [1, 2], "v": ["x" * 5_000_000, "y" * 3_000_000]})
    assert cursor.adbc_ingest("huge", huge, mode="create", db_schema_name=namespace) == 2
    assert content(cursor, f"{namespace}.huge").to_pydict() == huge.to_pydict()


D = decimal.Decimal
UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2026, 2, 28, 23, 59, 59, 123456)

WIDTHS = (8, 16, 32, 64)

#: Values of every Arrow type; each column also holds a NULL.
EVERY_TYPE = {
    "bool": pa.array([True, None, False], pa.bool_()),
    **{f"int{w}": pa.array([-(2 ** (w - 1)), None, 2 ** (w - 1) - 1], pa.type_for_alias(f"int{w}")) for w in WIDTHS},
    **{f"uint{w}": pa.array([0, None, 2**w - 1], pa.type_for_alias(f"uint{w}")) for w in WIDTHS},
    "float32": pa.array([1.5, None, float("inf")], pa.float32()),
    "float64": pa.array([-0.0, None, 1e300], pa.float64()),
    "decimal128": pa.array([D("12345678901234567890.0123456789"), None, D("-0.0000000001")], pa.decimal128(38, 10)),
    "decimal256": pa.array([D(10) ** 60, None, D(-1)], pa.decimal256(70, 5)),
    "string": pa.array(["", None, "żółw 🐢"], pa.string()),
    "binary": pa.array([b"", None, b"\x00\xff"], pa.binary()),
    "large_string": pa.array(["a", None, "b" * 1000], pa.large_string()),
    "large_binary": pa.array([b"a", None, b"b" * 1000], pa.large_binary()),
    "fixed": pa.array([b"0123", None, b"\xff" * 4], pa.binary(4)),
    "date32": pa.array([datetime.date(1969, 12, 31), None, datetime.date(9999, 12, 31)], pa.date32()),
    "date64": pa.array([datetime.date(1969, 12, 31), None, datetime.date(2026, 1, 1)], pa.date64()),
    "time32s": pa.array([0, None, 86399], pa.time32("s")),
    "time32ms": pa.array([0, None, 86399999], pa.time32("ms")),
    "time64us": pa.array([0, None, 86399999999], pa.time64("us")),
    "time64ns": pa.array([0, None, 86399999999999], pa.time64("ns")),
    "timestamp_s": pa.array([-1, None, 1772323199], pa.timestamp("s")),
    "timestamp_ms": pa.array([-1, None, 1772323199123], pa.timestamp("ms")),
    "timestamp_us": pa.array([MOMENT, None, MOMENT], pa.timestamp("us")),
    "timestamp_ns": pa.array([-1, None, 1772323199123456789], pa.timestamp("ns")),
    "timestamp_utc": pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "UTC")),
    "timestamp_zone": pa.array([MOMENT, None, MOMENT], pa.timestamp("ms", "Europe/Warsaw")),
    "duration": pa.array([-5, None, 10**12], pa.duration("us")),
    "interval": pa.array([(1, 2, 3), None, (-1, -2, -3)], pa.month_day_nano_interval()),
    "list": pa.array([[], None, [1, None, 3]], pa.list_(pa.int32())),
    "large_list": pa.array([[], None, ["a", None]], pa.large_list(pa.string())),
    "fixed_list": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
    "struct": pa.array(
        [{"x": 1, "y": "a"}, None, {"x": None, "y": None}], pa.struct([("x", pa.int32()), ("y", pa.string())])
    ),
    "map": pa.array([[], None, [("k", 1), ("l", None)]], pa.map_(pa.string(), pa.int64())),
    "nested": pa.array(
        [[{"a": [1.5]}], None, [None, {"a": None}]], pa.list_(pa.struct([("a", pa.list_(pa.float64()))]))
    ),
}

#: What goes in as the first type comes back as the second.
PLAIN = {
    "string_view": (pa.array(["a", None, "a long enough view"], pa.string_view()), pa.string()),
    "binary_view": (pa.array([b"a", None, b"a long enough view"], pa.binary_view()), pa.binary()),
    "dictionary": (pa.array(["x", None, "x"], pa.string()).dictionary_encode(), pa.string()),
    "dictionary_int": (pa.array([10, None, 10], pa.int64()).dictionary_encode(), pa.int64()),
}


@pytest.mark.parametrize("name", [*EVERY_TYPE, *PLAIN])
def test_types_come_back_as_they_went(cursor, namespace, name):
    if name in PLAIN:
        sent, type_back = PLAIN[name]
    else:
        sent, type_back = EVERY_TYPE[name], EVERY_TYPE[name].type
    data = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "v": sent})
    assert cursor.adbc_ingest("t", data, mode="create", db_schema_name=namespace) == 3
    back = content(cursor, f"{namespace}.t")
    assert back.schema.field("v").type == type_back
    assert back["v"].combine_chunks().equals(sent.cast(type_back))
    # A schema asked for in advance is that of the rows.
    assert cursor.adbc_execute_schema(f"SELECT * FROM {namespace}.t").field("v").type == type_back
