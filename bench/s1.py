"""`make bench W=S1`: narrow rows are loaded, written, flushed, counted, scanned and looked up, few and many; how much memory?

Almost all rows are one load, which goes to segments; the last are written in small parts, hot, and are what is flushed.

Memory is flat when the server's peak for many rows is about what it is for a tenth of them. What does grow with the rows are the
indexes of open segments, about 1.5 MiB for a million rows, up to the setting segment_cache: the peak for a tenth of the rows and
that setting together bound the peak, and are printed beside it. Each number of rows has a server
and a data directory of its own. The client makes rows as it sends them and drops them as it receives them; its own peak is
measured too. What comes back is checked: the count, the sums of two columns, and each row that is looked up.

Prints a table, and writes bench/out/s1.json. Not a test: nothing is asserted of timings or memory.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import random
import tempfile
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

from servers import PASSWORD, Memory, Server, disk_bytes, fetch_batches, make_directory, start_kalamdb, stop
from work import Work, check, measure

from kalamdb_connect import connect, flight as connect_flight  # noqa: E402

MIB = 1 << 20
SCHEMA = pa.schema([("id", pa.int64()), ("user_id", pa.int64()), ("value", pa.float64())])
ROW_BYTES = 24
BATCH_ROWS = 65_536
#: Rows that are written hot, after the others, and are flushed; so few at once are no bulk load.
HOT_ROWS = 400_000
WRITE_ROWS = 10_000
USERS = 100_003
POINTS = 1000
FIRST = pa.array(range(BATCH_ROWS), pa.int64())


def user_of(row: int) -> int:
    return row * 48_271 % USERS


def value_of(row: int) -> float:
    return row * 0.5


def batches(first: int, end: int) -> Iterator[pa.RecordBatch]:
    """Rows in the order of their ids, made as they are asked for."""
    for start in range(first, end, BATCH_ROWS):
        ids = pc.add(FIRST.slice(0, min(BATCH_ROWS, end - start)), start)
        product = pc.multiply(ids, 48_271)
        users = pc.subtract(product, pc.multiply(pc.divide(product, USERS), USERS))
        yield pa.record_batch([ids, users, pc.multiply(ids.cast(pa.float64()), 0.5)], schema=SCHEMA)


class Phases:
    """What is done to one server, each piece with the peak memory of both sides while it lasts."""

    def __init__(self, server: Server, rows: int):
        self.server = server
        self.rows = rows
        self.done: list[dict] = []

    def run(self, name: str, rows: int, work: Callable[[], int]) -> None:
        """Measures `work`, which returns how many rows it handled: `rows`."""
        ours, theirs = Memory(os.getpid()), self.server.memory()
        ours.forget_peak()
        theirs.forget_peak()
        cost = Work(name, self.server.name, rows, rows * ROW_BYTES)
        measure(cost, self.server, work)
        self.done.append({
            **cost.summary(),
            "server_peak_bytes": theirs.peak_resident_bytes(),
            "client_peak_bytes": ours.peak_resident_bytes(),
        })
        peak = self.done[-1]["server_peak_bytes"] / MIB
        print(f"{self.rows:>13,} rows: {name}, {cost.seconds[0]:.2f} s, server peak {peak:,.0f} MiB", flush=True)


def run(rows: int) -> dict:
    """All phases with so many rows."""
    with tempfile.TemporaryDirectory(prefix="kalamdb-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        server = start_kalamdb(scratch / "data", scratch / "kalamdb.log")
        try:
            with connect(server.url, "root", PASSWORD) as connection:
                segment_cache_bytes = setting(connection, "segment_cache")
                phases = run_phases(server, connection, rows)
            disk = disk_bytes(scratch / "data")
        finally:
            stop(server)
    return {"rows": rows, "disk_bytes": disk, "segment_cache_bytes": segment_cache_bytes, "phases": phases}


def setting(connection, name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(value AS BIGINT) FROM system.settings WHERE name = ?", (name,))
        return cursor.fetchone()[0]


def run_phases(server: Server, connection, rows: int) -> list[dict]:
    client, options = connect_flight(server.url, "root", PASSWORD)
    cursor = connection.cursor()
    # Both are sessions of their own.
    cursor.execute("SET statement_timeout = 0")
    list(fetch_batches(client, options, flight.FlightDescriptor.for_command(b"SET statement_timeout = 0")))
    # Nothing is flushed before it is asked for.
    policy = "FLUSH_POLICY = 'rows:10000000,interval:86400s'"
    cursor.execute(f"CREATE SHARED TABLE s1 (id BIGINT PRIMARY KEY, user_id BIGINT, value DOUBLE) WITH ({policy})")
    phases = Phases(server, rows)
    hot_rows = min(HOT_ROWS, rows // 10)
    cold_rows = rows - hot_rows

    def ingest(first: int, end: int) -> int:
        # A cursor that ingested does nothing else.
        with connection.cursor() as ingesting:
            reader = pa.RecordBatchReader.from_batches(SCHEMA, batches(first, end))
            return ingesting.adbc_ingest("s1", reader, mode="append")

    def load() -> int:
        return ingest(0, cold_rows)

    def write() -> int:
        parts = range(cold_rows, rows, WRITE_ROWS)
        return sum(ingest(first, min(first + WRITE_ROWS, rows)) for first in parts)

    def flush() -> int:
        cursor.execute("FLUSH TABLE s1")
        moved = cursor.fetch_arrow_table()
        return sum(moved.column("rows").to_pylist())

    def count() -> int:
        cursor.execute("SELECT count(*) FROM s1")
        return cursor.fetchone()[0]

    def scan() -> int:
        received, ids, values = 0, 0, 0.0
        for batch in fetch_batches(client, options, flight.FlightDescriptor.for_command(b"SELECT * FROM s1")):
            received += batch.num_rows
            ids += pc.sum(batch.column("id")).as_py()
            values += pc.sum(batch.column("value")).as_py()
        of_ids = rows * (rows - 1) // 2
        check(ids == of_ids, f"the ids of {rows:,} rows make {ids}")
        # Halves of integers, whose sums a double has exactly up to here.
        check(of_ids // 2 > 1 << 52 or values == of_ids / 2, f"the values of {rows:,} rows make {values}")
        return received

    def points() -> int:
        for row in random.Random(rows).choices(range(rows), k=POINTS):
            cursor.execute("SELECT user_id, value FROM s1 WHERE id = ?", (row,))
            found = cursor.fetchall()
            check(found == [(user_of(row), value_of(row))], f"row {row:,} is {found}")
        return POINTS

    phases.run("load", cold_rows, load)
    phases.run("write", hot_rows, write)
    phases.run("FLUSH TABLE", hot_rows, flush)
    phases.run("count", rows, count)
    phases.run("scan", rows, scan)
    phases.run("point reads", POINTS, points)
    cursor.close()
    return phases.done


def bench(rows: int, out: pathlib.Path) -> None:
    check(rows >= 10, "S1 takes at least 10 rows")
    runs = [run(rows // 10), run(rows)]
    result = {
        "workload": "S1",
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "peak_ratios": {
            many["work"]: many["server_peak_bytes"] / few["server_peak_bytes"]
            for few, many in zip(runs[0]["phases"], runs[1]["phases"])
        },
        "peak_bounds_bytes": {
            few["work"]: few["server_peak_bytes"] + runs[1]["segment_cache_bytes"] for few in runs[0]["phases"]
        },
        "runs": runs,
    }
    make_directory(out)
    (out / "s1.json").write_text(json.dumps(result, indent=2) + "\n")
    print_table(result)
    print(f"\nwritten: {out / 's1.json'}")


def print_table(result: dict) -> None:
    few, many = result["runs"]
    head = ["phase"]
    for each in (few, many):
        head += [f"rows/s of {each['rows']:,}", "server MiB", "client MiB"]
    table = [[*head, "server's ratio", "its bound, MiB"]]
    for pair in zip(few["phases"], many["phases"]):
        line = [pair[0]["work"]]
        for phase in pair:
            line += [
                f"{phase['rows_per_second_median']:,.0f}",
                f"{phase['server_peak_bytes'] / MIB:,.0f}",
                f"{phase['client_peak_bytes'] / MIB:,.0f}",
            ]
        work = pair[0]["work"]
        table.append([*line, f"{result['peak_ratios'][work]:.2f}", f"{result['peak_bounds_bytes'][work] / MIB:,.0f}"])
    widths = [max(len(line[index]) for line in table) for index in range(len(table[0]))]
    print()
    for line in [table[0], ["-" * width for width in widths], *table[1:]]:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        print("  ".join(cells))
    factor = many["rows"] / few["rows"]
    most = max(result["peak_ratios"].values())
    print(f"\nmemory: {factor:.0f} times the rows take at most {most:.2f} times the peak memory (1.00 is flat)")
    cache = many["segment_cache_bytes"] / MIB
    print(f"bound:  the peak for a tenth of the rows and segment_cache, {cache:,.0f} MiB: open segments alone grow with the rows")
    for phase in many["phases"]:
        if phase["server_peak_bytes"] > result["peak_bounds_bytes"][phase["work"]]:
            print(f"beyond: {phase['work']} took more than its bound")
    for each in (few, many):
        print(f"disk:   {each['disk_bytes'] / 1e6:,.0f} MB of {each['rows'] * ROW_BYTES / 1e6:,.0f} MB of {each['rows']:,} rows")
