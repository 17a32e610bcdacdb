"""Values of every type, bit for bit: as rows that are hot, flushed into segments, and after a restart; by ingest and from SQL."""

from __future__ import annotations

import decimal
import json

import pyarrow as pa
import pytest
from conftest import serve
from kalamdb_connect import ingest_options

D = decimal.Decimal
UNITS = ("s", "ms", "us", "ns")
INT32 = (-(2**31), -1, 0, 1, 2**31 - 1)
INT64 = (-(2**63), -1, 0, 1, 2**63 - 1)
#: Bits of floats: both zeros, infinities, the smallest and largest numbers, quiet and signalling NaN with payloads.
FLOAT16 = (0x0000, 0x8000, 0x7C00, 0xFC00, 0x0001, 0x7BFF, 0x7E01, 0xFD55)
FLOAT32 = (0x0, 0x80000000, 0x7F800000, 0xFF800000, 0x1, 0x7F7FFFFF, 0x7FC00001, 0xFFA55555)
FLOAT64 = (0x0, 1 << 63, 0x7FF0 << 48, 0xFFF0 << 48, 0x1, (0x7FF0 << 48) - 1, (0x7FF8 << 48) + 1, (0xFFF5 << 48) + 5)
TEXTS = ("", " ", "a\x00b", "żółw 🐢", "'; DROP TABLE t; --", "x" * 70_000, "\u202e\ufeff")


def bits(values, integer: pa.DataType, type: pa.DataType) -> pa.Array:
    """An array of values that Python has no words for, by their bits, and a NULL."""
    return pa.array([*values, None], integer).view(type)


def decimals(precision: int, scale: int) -> list[D | None]:
    with decimal.localcontext() as context:
        context.prec = 80
        most = D(10**precision - 1).scaleb(-scale)
        return [most, -most, D(1).scaleb(-scale), D(0), None]


#: Columns, each with a NULL, lengths as they come.
COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, False, None]),
    **{f"int{w}": pa.array([-(2 ** (w - 1)), 2 ** (w - 1) - 1, 0, None], f"int{w}") for w in (8, 16, 32, 64)},
    **{f"uint{w}": pa.array([2**w - 1, 0, None], f"uint{w}") for w in (8, 16, 32, 64)},
    "float16": bits(FLOAT16, pa.uint16(), pa.float16()),
    "float32": bits(FLOAT32, pa.uint32(), pa.float32()),
    "float64": bits(FLOAT64, pa.uint64(), pa.float64()),
    "decimal32": pa.array(decimals(9, 2), pa.decimal32(9, 2)),
    "decimal64": pa.array(decimals(18, 18), pa.decimal64(18, 18)),
    "decimal128": pa.array(decimals(38, 10), pa.decimal128(38, 10)),
    "decimal128_whole": pa.array(decimals(38, 0), pa.decimal128(38, 0)),
    "decimal256": pa.array(decimals(76, 38), pa.decimal256(76, 38)),
    "decimal256_whole": pa.array(decimals(76, 0), pa.decimal256(76, 0)),
    "text": pa.array([*TEXTS, None]),
    "large_text": pa.array([*TEXTS, None], pa.large_string()),
    "bytes": pa.array([b"", b"\x00", b"\xff\xfe", bytes(range(256)) * 100, None]),
    "large_bytes": pa.array([b"", bytes(range(256)), None], pa.large_binary()),
    "fixed_bytes": pa.array([b"\x00" * 16, b"\xff" * 16, None], pa.binary(16)),
    "date32": bits((*INT32, 2_932_897, -719_529), pa.int32(), pa.date32()),
    "date64": pa.array([0, -86_400_000, 253_402_300_800_000, None], pa.int64()).view(pa.date64()),
    "time_s": pa.array([0, 86_399, None], pa.time32("s")),
    "time_ms": pa.array([0, 86_399_999, None], pa.time32("ms")),
    "time_us": pa.array([0, 86_399_999_999, None], pa.time64("us")),
    "time_ns": pa.array([0, 86_399_999_999_999, None], pa.time64("ns")),
    **{f"timestamp_{u}": bits(INT64, pa.int64(), pa.timestamp(u)) for u in UNITS},
    **{f"timestamp_{u}_utc": bits(INT64, pa.int64(), pa.timestamp(u, "UTC")) for u in UNITS},
    "timestamp_zone": bits(INT64, pa.int64(), pa.timestamp("us", "Europe/Warsaw")),
    "timestamp_offset": bits(INT64, pa.int64(), pa.timestamp("ms", "-05:30")),
    **{f"duration_{u}": bits(INT64, pa.int64(), pa.duration(u)) for u in UNITS},
    "interval": pa.array([(1, -2, 3), (-(2**31), 2**31 - 1, 2**63 - 1), None], pa.month_day_nano_interval()),
    "list": pa.array([[], [None], [1, None, 3], list(range(5000)), None], pa.list_(pa.int32())),
    "large_list": pa.array([[], ["", None, "a"], None], pa.large_list(pa.string())),
    "fixed_list": pa.array([[1, 2], [None, 4], None], pa.list_(pa.int16(), 2)),
    "struct": pa.array(
        [{"x": 1, "y": "a"}, {"x": None, "y": None}, None], pa.struct([("x", pa.int32()), ("y", pa.string())])
    ),
    "map": pa.array([[], [("k", 1), ("l", None)], None], pa.map_(pa.string(), pa.int64())),
    "nested": pa.array(
        [[], [None], [{"a": []}, {"a": None}, {"a": [[], None, [-0.0]]}], None],
        pa.list_(pa.struct([("a", pa.list_(pa.list_(pa.float64())))])),
    ),
    "map_of_structs": pa.array(
        [[("k", {"d": D("1.10"), "t": [None]})], [("k", None)], None],
        pa.map_(pa.string(), pa.struct([("d", pa.decimal128(10, 2)), ("t", pa.list_(pa.date32()))])),
    ),
}


def every_column() -> pa.Table:
    """All columns side by side, the shorter ones filled with NULL."""
    rows = max(len(values) for values in COLUMNS.values())
    filled = {name: pa.concat_arrays([a, pa.nulls(rows - len(a), a.type)]) for name, a in COLUMNS.items()}
    return pa.table({"id": pa.array(range(rows), pa.int64()), **filled})


def plain_bytes(table: pa.Table) -> dict[str, bytes]:
    """Each column in an encoding that depends on its values and type alone, NaN's payload and all."""
    encoded = {}
    for name in table.column_names:
        # Taking rows afresh leaves no offsets, slices or padding of whoever made the array.
        values = table[name].combine_chunks().take(pa.array(range(len(table))))
        encoded[name] = json.dumps([str(values.type), shape(values)]).encode()
    return encoded


def shape(values: pa.Array) -> list:
    """One thing for each value: lists of such things, integers, text, or None."""
    kind = values.type
    if pa.types.is_struct(kind):
        fields = [shape(field) for field in values.flatten()]
        return [[f[row] for f in fields] if v.is_valid else None for row, v in enumerate(values)]
    if pa.types.is_nested(kind):
        return [shape(value.values) if value.is_valid else None for value in values]
    floats = {pa.float16(): pa.uint16(), pa.float32(): pa.uint32(), pa.float64(): pa.uint64()}
    if kind in floats:
        return values.view(floats[kind]).to_pylist()
    if pa.types.is_temporal(kind) and kind.id != pa.month_day_nano_interval().id:
        return values.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
    return [None if v is None else v.hex() if isinstance(v, bytes) else str(v) for v in values.to_pylist()]


class Restarted:
    """A server that can be stopped and started over its data."""

    def __init__(self, directory):
        self.directory = directory
        self.running = None
        self.start()

    def start(self):
        self.running = serve(self.directory)
        self.server = self.running.__enter__()
        self.connection = self.server.connect()
        self.cursor = self.connection.cursor()

    def stop(self):
        self.cursor.close()
        self.connection.close()
        self.running.__exit__(None, None, None)

    def restart(self):
        self.stop()
        self.start()


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    restarted = Restarted(tmp_path_factory.mktemp("types"))
    yield restarted
    restarted.stop()


KINDS = {
    "shared": {"table_type": "SHARED", "primary_key": "id"},
    "keyless": {"table_type": "SHARED"},
    "user": {"table_type": "USER", "primary_key": "id"},
}


def content(cursor, table: str) -> pa.Table:
    cursor.execute(f"SELECT * FROM {table}")
    return cursor.fetch_arrow_table()


def flush(cursor, table: str) -> None:
    cursor.execute(f"FLUSH TABLE {table}")
    cursor.execute(f"SELECT sum(rows) FROM system.segments s JOIN system.tables t ON s.table_id = t.table_id WHERE t.table_name = '{table}'")
    assert cursor.fetchone()[0] > 0


def test_every_type_comes_back_bit_for_bit(restarted):
    sent = every_column()
    for kind, options in KINDS.items():
        ingest_options(restarted.connection, **{"primary_key": None, "table_type": None, **options})
        with restarted.connection.cursor() as cursor:
            assert cursor.adbc_ingest(f"every_{kind}", sent, mode="create") == len(sent)

    def check(stage: str) -> None:
        for kind in KINDS:
            back = content(restarted.cursor, f"every_{kind}").sort_by("id")
            assert [f.type for f in back.schema] == [f.type for f in sent.schema], (stage, kind)
            expected, found = plain_bytes(sent), plain_bytes(back)
            for name in sent.column_names:
                assert found[name] == expected[name], (stage, kind, name)

    check("hot")
    restarted.restart()
    check("hot, restarted")
    for kind in KINDS:
        flush(restarted.cursor, f"every_{kind}")
    check("flushed")
    restarted.restart()
    check("flushed, restarted")


def test_values_of_ten_megabytes(restarted):
    size = 10_000_000
    sent = pa.table({
        "id": pa.array([1, 2, 3], pa.int64()),
        "text": pa.array(["ż" * (size // 2), "", None]),
        "bytes": pa.array([None, bytes(range(256)) * (size // 256), b""]),
        "list": pa.array([[], None, list(range(size // 8))], pa.list_(pa.int64())),
    })
    ingest_options(restarted.connection, primary_key="id")
    with restarted.connection.cursor() as cursor:
        # A message of the driver holds 16 MiB at most, and it sends slices whole.
        rows = [pa.RecordBatch.from_pylist([row], sent.schema) for row in sent.to_pylist()]
        reader = pa.RecordBatchReader.from_batches(sent.schema, rows)
        assert cursor.adbc_ingest("long_values", reader, mode="create") == 3

    def check(stage: str) -> None:
        back = content(restarted.cursor, "long_values").sort_by("id")
        same = [back[name].combine_chunks().equals(sent[name].combine_chunks()) for name in sent.column_names]
        assert same == [True] * len(same), stage

    check("hot")
    flush(restarted.cursor, "long_values")
    check("flushed")
    restarted.restart()
    check("restarted")


#: SQL type, literals, and what a driver gets of them: a type and values.
FROM_SQL = {
    "boolean": ("BOOLEAN", ["true", "false", "NULL"], pa.bool_(), [True, False, None]),
    "smallint": ("SMALLINT", ["-32768", "32767"], pa.int16(), [-32768, 32767]),
    "bigint": ("BIGINT", ["-9223372036854775808", "9223372036854775807"], pa.int64(), [-(2**63), 2**63 - 1]),
    "unsigned": ("BIGINT UNSIGNED", ["18446744073709551615", "0"], pa.uint64(), [2**64 - 1, 0]),
    "real": ("REAL", ["1.5", "-0.0"], pa.float32(), [1.5, -0.0]),
    "double": ("DOUBLE", ["1e300", "0.1"], pa.float64(), [1e300, 0.1]),
    "decimal": (
        "DECIMAL(38,10)",
        ["12345678901234567890.0123456789", "-0.0000000001"],
        pa.decimal128(38, 10),
        [D("12345678901234567890.0123456789"), D("-0.0000000001")],
    ),
    "long_decimal": ("DECIMAL(76,2)", ["9" * 74 + ".99"], pa.decimal256(76, 2), [D("9" * 74 + ".99")]),
    "text": ("TEXT", ["''", "'it''s'", "'żółw 🐢'"], pa.string(), ["", "it's", "żółw 🐢"]),
    "bytea": ("BYTEA", [r"'\x00ff'", "''"], pa.binary(), [b"\x00\xff", b""]),
    "date": ("DATE", ["'1969-12-31'", "'9999-12-31'"], pa.date32(), ["1969-12-31", "9999-12-31"]),
    "time": ("TIME", ["'23:59:59.999999'"], None, ["23:59:59.999999"]),
    "timestamp_s": ("TIMESTAMP(0)", ["'1969-12-31 23:59:59'"], pa.timestamp("s"), ["1969-12-31 23:59:59"]),
    "timestamp_ns": (
        "TIMESTAMP(9)",
        ["'2026-01-01 00:00:00.123456789'"],
        pa.timestamp("ns"),
        ["2026-01-01 00:00:00.123456789"],
    ),
    "timestamptz": (
        "TIMESTAMP(6) WITH TIME ZONE",
        ["'2026-06-01 12:00:00+02:00'"],
        pa.timestamp("us", "UTC"),
        ["2026-06-01 10:00:00.000000Z"],
    ),
    "array": ("INT[]", ["[1, NULL, 3]", "[]"], None, [[1, None, 3], []]),
}


def test_literals_come_back_as_they_were_written(restarted):
    cursor = restarted.cursor
    for name, (sql_type, literals, _, _) in FROM_SQL.items():
        cursor.execute(f"CREATE TABLE sql_{name} (id INT PRIMARY KEY, v {sql_type})")
        rows = ", ".join(f"({row}, {literal})" for row, literal in enumerate(literals))
        cursor.execute(f"INSERT INTO sql_{name} VALUES {rows}")

    def check(stage: str) -> None:
        for name, (_, _, type, values) in FROM_SQL.items():
            restarted.cursor.execute(f"SELECT v FROM sql_{name} ORDER BY id")
            back = restarted.cursor.fetch_arrow_table()["v"].combine_chunks()
            assert type is None or back.type == type, (stage, name)
            if pa.types.is_temporal(back.type):
                back = back.cast(pa.string())
            expected = values if type is None or pa.types.is_temporal(type) else pa.array(values, type).to_pylist()
            assert str(back.to_pylist()) == str(expected), (stage, name)

    check("hot")
    for name in FROM_SQL:
        flush(restarted.cursor, f"sql_{name}")
    check("flushed")
    restarted.restart()
    check("restarted")


#: SQL type, and literals far out, from the smallest up; each names its row and no other.
EXTREMES = {
    "d0": ("DECIMAL(38,0)", [str(-(10**38) + 1), "-18446744073709551616", "-18446744073709551615", "-9223372036854776000",
                             "-9223372036854775809", "-9223372036854775808", "9223372036854775808", "18446744073709551616"]),
    "d76": ("DECIMAL(76,0)", ["-" + "9" * 76, "-9223372036854775809", "-9223372036854775808", "9" * 76]),
    "int8": ("BIGINT", [str(-(2**63)), str(-(2**63) + 1), str(2**63 - 1)]),
    "uint8": ("BIGINT UNSIGNED", ["0", str(2**64 - 2), str(2**64 - 1)]),
    "date": ("DATE", ["'0001-01-01'", "'1969-12-31'", "'9999-12-31'", "'+10000-01-01'"]),
    **{
        f"ts{digits}": (f"TIMESTAMP({digits})", ["'0001-01-01 00:00:00'", "'1600-01-01'", "'2300-01-01 00:00:00'", "'9999-12-31'"])
        for digits in (0, 3, 6)
    },
    "tz": ("TIMESTAMPTZ", ["'1600-01-01 00:00:00Z'", "'2300-01-01 00:00:00Z'", "TIMESTAMPTZ '9999-12-31 00:00:00Z'"]),
    "typed": ("TIMESTAMP", [f"TIMESTAMP '{at}'" for at in ("0001-01-01 00:00:00", "1970-01-01", "2300-01-01 00:00:00.000001")]),
}


def test_extreme_values_are_found_by_what_names_them(restarted):
    cursor = restarted.cursor

    def ids(sql: str) -> list[int]:
        cursor.execute(sql)
        return sorted(row[0] for row in cursor.fetchall())

    for name, (sql_type, literals) in EXTREMES.items():
        cursor.execute(f"CREATE TABLE far_{name} (id INT PRIMARY KEY, v {sql_type})")
        rows = ", ".join(f"({row}, {literal})" for row, literal in enumerate(literals))
        cursor.execute(f"INSERT INTO far_{name} VALUES {rows}")

    def check(stage: str) -> None:
        for name, (_, literals) in EXTREMES.items():
            for row, literal in enumerate(literals):
                for predicate, expected in (
                    (f"v = {literal}", [row]),
                    (f"v IN ({literal})", [row]),
                    (f"v BETWEEN {literal} AND {literal}", [row]),
                    (f"v < {literal}", list(range(row))),
                    (f"v >= {literal}", list(range(row, len(literals)))),
                ):
                    found = ids(f"SELECT id FROM far_{name} WHERE {predicate}")
                    assert found == expected, (stage, name, predicate)

    check("hot")
    for name in EXTREMES:
        flush(cursor, f"far_{name}")
    check("flushed")
    for name, (_, literals) in EXTREMES.items():
        for row, literal in enumerate(literals):
            assert ids(f"DELETE FROM far_{name} WHERE v = {literal} RETURNING id") == [row], (name, literal)
