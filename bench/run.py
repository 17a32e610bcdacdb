"""`make bench`: fetch and ingest of TPC-H lineitem, beside L1, as ratios of one run. (`W=S1` is `s1`'s, `W=NEIGHBOURS` `neighbours`'s.)

L1 is `flight_noop` (tests/src/bin): a Flight server that sends the same resident batches, in messages of the same size,
to the same client, and drops what it is sent. Both servers run at once and are measured by turns, so that whatever else
the machine does meets both. Count and an order-independent hash are checked before anything is timed.

Prints a table, and writes bench/out/result.json and bench/out/result.svg. Not a test: nothing is asserted of timings.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet

import neighbours
import s1
from servers import (
    PASSWORD,
    ROOT,
    count_rows,
    disk_bytes,
    fetch_batches,
    make_directory,
    put,
    start_kalamdb,
    start_noop,
    stop,
)
from work import Work, check, measure

from conftest import plain  # noqa: E402
from content import digest, types  # noqa: E402
from kalamdb_connect import connect, flight as connect_flight, ingest_options  # noqa: E402

KEY = ["l_orderkey", "l_linenumber"]
MIB = 1 << 20
#: Rows of one message that is sent; the ADBC driver takes at most 16 MiB.
INGEST_ROWS = 65_536


def lineitem(scale_factor: str) -> pa.Table:
    """TPC-H lineitem from tpchgen-cli, kept between runs, as plain types."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    directory = cache / "kalamdb" / "tpch" / f"sf{scale_factor}"
    file = directory / "lineitem.parquet"
    if not file.exists():
        # Beside and renamed: an interrupted run leaves no half file.
        with tempfile.TemporaryDirectory(dir=make_directory(directory)) as partial:
            tool = pathlib.Path(sys.executable).with_name("tpchgen-cli")
            command = [str(tool), "parquet", "-s", scale_factor, "--tables", "lineitem", "--output-dir", partial, "-q"]
            subprocess.run(command, check=True)
            (pathlib.Path(partial) / "lineitem.parquet").rename(file)
    table = pyarrow.parquet.read_table(file)
    return table.replace_schema_metadata(None).cast(plain(table.schema))


def bench(scale_factor: str, repetitions: int, out: pathlib.Path) -> None:
    table = lineitem(scale_factor)
    size_bytes = table.nbytes
    print(f"lineitem SF {scale_factor}: {table.num_rows:,} rows, {size_bytes / 1e6:,.0f} MB of Arrow", flush=True)
    with tempfile.TemporaryDirectory(prefix="kalamdb-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        kalamdb = start_kalamdb(scratch / "data", scratch / "kalamdb.log")
        servers = [kalamdb]
        try:
            connection = connect(kalamdb.url, "root", PASSWORD)
            cursor = connection.cursor()
            ingest_options(connection, primary_key=",".join(KEY))
            cursor.adbc_ingest("lineitem", table.to_reader(INGEST_ROWS), mode="create")
            client, options = connect_flight(kalamdb.url, "root", PASSWORD)
            everything = flight.FlightDescriptor.for_command(b"SELECT * FROM lineitem")

            expected = digest(table, KEY)
            batches = list(fetch_batches(client, options, everything))
            fetched = pa.Table.from_batches(batches)
            check(types(fetched.schema) == types(table.schema), "the fetched types differ")
            check(fetched.num_rows == table.num_rows, "the fetched count differs")
            check(digest(fetched, KEY) == expected, "the fetched rows differ")

            # The same rows in messages of the same size.
            message_rows = max(1, round(fetched.num_rows / len(batches)))
            resident = scratch / "lineitem.arrows"
            with pa.OSFile(str(resident), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                for start_row in range(0, table.num_rows, message_rows):
                    writer.write_table(table.slice(start_row, message_rows).combine_chunks())
            messages = len(batches)
            del batches, fetched
            noop = start_noop(resident, scratch / "noop.log")
            servers.append(noop)
            noop_client, noop_options = connect_flight(noop.url, "nobody", "")
            sent = pa.Table.from_batches(fetch_batches(noop_client, noop_options, everything))
            check(digest(sent, KEY) == expected, "L1 sends other rows")
            del sent
            print(f"checked: count and hash agree; {messages} messages of about {message_rows} rows", flush=True)

            fetch = Work("fetch", "kalamdb", table.num_rows, size_bytes)
            fetch_noop = Work("fetch", "L1", table.num_rows, size_bytes)
            for _ in range(repetitions):
                measure(fetch, kalamdb, lambda: count_rows(fetch_batches(client, options, everything)))
                measure(fetch_noop, noop, lambda: count_rows(fetch_batches(noop_client, noop_options, everything)))
            disk = disk_bytes(scratch / "data")
            fetch_peak = kalamdb.peak_resident_bytes()

            ingest = Work("ingest with key", "kalamdb", table.num_rows, size_bytes)
            ingest_noop = Work("ingest with key", "L1", table.num_rows, size_bytes)
            path = flight.FlightDescriptor.for_path("public", "lineitem")

            def load() -> int:
                return cursor.adbc_ingest("loaded", table.to_reader(INGEST_ROWS), mode="replace")

            for _ in range(repetitions):
                measure(ingest, kalamdb, load)
                measure(ingest_noop, noop, lambda: put(noop_client, noop_options, path, table, INGEST_ROWS))
            cursor.close()
            connection.close()
            peaks = {server.name: server.peak_resident_bytes() for server in servers}
        finally:
            for server in servers:
                stop(server)

    works = [fetch, fetch_noop, ingest, ingest_noop]
    result = {
        "scale_factor": scale_factor,
        "rows": table.num_rows,
        "arrow_bytes": size_bytes,
        "disk_bytes": disk,
        "message_rows": message_rows,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "fetch_to_l1": ratio(fetch, fetch_noop),
        "ingest_to_l1": ratio(ingest, ingest_noop),
        "peak_resident_bytes": {**peaks, "kalamdb after fetching": fetch_peak},
        "works": [work.summary() for work in works],
    }
    make_directory(out)
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "result.svg").write_text(chart(works))
    print_table(result)
    print(f"\nwritten: {out / 'result.json'}, {out / 'result.svg'}")


def ratio(work: Work, base: Work) -> float:
    return statistics.median(base.seconds) / statistics.median(work.seconds)


def print_table(result: dict) -> None:
    head = ["work", "server", "M rows/s (min–max)", "GB/s", "server CPU-s", "client CPU-s"]
    rows = []
    for work in result["works"]:
        low, middle, high = (work[f"rows_per_second_{name}"] / 1e6 for name in ("min", "median", "max"))
        rows.append([
            work["work"],
            work["server"],
            f"{middle:.2f} ({low:.2f}–{high:.2f})",
            f"{work['gb_per_second_median']:.2f}",
            f"{work['server_cpu_seconds_median']:.2f}",
            f"{work['client_cpu_seconds_median']:.2f}",
        ])
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    print()
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"\nfetch:  {result['fetch_to_l1']:.2f} x L1")
    print(f"ingest: {result['ingest_to_l1']:.2f} x L1 (which drops what it is sent)")
    print(f"disk:   {result['disk_bytes'] / 1e6:,.0f} MB of {result['arrow_bytes'] / 1e6:,.0f} MB of Arrow")
    for name, peak in result["peak_resident_bytes"].items():
        print(f"peak:   {peak / MIB:,.0f} MiB, {name}")


def chart(works: list[Work]) -> str:
    """A bar for each median, a line for its spread."""
    bar, gap, left, width = 26, 12, 190, 460
    most = max(max(work.rows_per_second()) for work in works)
    height = len(works) * (bar + gap) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 120}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<text x="8" y="20" font-weight="bold">lineitem, million rows per second (median, spread)</text>',
    ]
    for index, work in enumerate(works):
        rates = work.rows_per_second()
        middle = statistics.median(rates)
        y = 36 + index * (bar + gap)
        x = [left + width * rate / most for rate in (min(rates), middle, max(rates))]
        color = "#4878a8" if work.server == "kalamdb" else "#b0b0b0"
        parts += [
            f'<text x="8" y="{y + 18}">{work.name}, {work.server}</text>',
            f'<rect x="{left}" y="{y}" width="{x[1] - left:.1f}" height="{bar}" fill="{color}"/>',
            f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="{y + bar / 2}" y2="{y + bar / 2}" stroke="black"/>',
            f'<text x="{max(x[1], x[2]) + 8:.1f}" y="{y + 18}">{middle / 1e6:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workload",
        choices=["lineitem", "S1", "NEIGHBOURS"],
        default=os.environ.get("W") or "lineitem",
        help="what is measured (W); default lineitem",
    )
    parser.add_argument("--sf", default=os.environ.get("SF") or "1", help="TPC-H scale factor (SF); default 1")
    parser.add_argument(
        "--reps", type=int, default=int(os.environ.get("REPS") or 7), help="repetitions of each (REPS); default 7"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=int(os.environ.get("ROWS") or 100_000_000),
        help="rows of S1 (ROWS), which takes a tenth of them before; default 100 million",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=int(os.environ.get("PAIRS") or 1000),
        help="writes and reads of NEIGHBOURS in each of its phases (PAIRS); default 1000",
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "out", help="where results are written")
    given = parser.parse_args()
    if given.reps < 1:
        parser.error("--reps must be at least 1")
    if shutil.which("make") is None and not os.environ.get("BINARY_UNDER_TEST"):
        parser.error("make is needed to find the binary; or set BINARY_UNDER_TEST")
    if given.workload == "NEIGHBOURS":
        neighbours.bench(given.pairs, given.out)
    elif given.workload == "S1":
        s1.bench(given.rows, given.out)
    else:
        bench(given.sf, given.reps, given.out)


if __name__ == "__main__":
    main()
