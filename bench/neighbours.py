"""`make bench W=NEIGHBOURS`: how long a user's small statements take while another user is at a quota's limit, all the time.

One user writes a row and reads it back, again and again. First alone, then for each quota beside another user who does nothing but
reach that limit, and in the end alone once more: how far the first and the last part differ is the spread to compare the others with.

Prints a table, and writes bench/out/neighbours.json. Not a test: nothing is asserted of timings.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import tempfile
import threading
import time

import pyarrow as pa
import pyarrow.flight as flight

from servers import PASSWORD, make_directory, start_kalamdb, stop
from work import check

from kalamdb_connect import flight as connect_flight  # noqa: E402

THEIRS = "a password for benches"
PAIR = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value = 1"
#: Quota, what is said of its breach, and a statement that breaches it; none for one more login.
LIMITS = [
    ("rows = 1000", "ROW_QUOTA_EXCEEDED", "SELECT value FROM generate_series(1, 1000000)"),
    ("bytes = '1MB'", "BYTE_QUOTA_EXCEEDED", "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"),
    ("memory = '4MB'", "MEMORY_QUOTA_EXCEEDED", "SELECT array_agg(value) FROM generate_series(1, 10000000)"),
    ("statement_time = '100ms'", "TIME_QUOTA_EXCEEDED", PAIR),
    ("queries = 1", "QUERY_QUOTA_EXCEEDED", "SELECT 1"),
    ("sessions = 1", "SESSION_QUOTA_EXCEEDED", None),
]


class User:
    """One session."""

    def __init__(self, url: str, name: str, password: str):
        self.url, self.name, self.password = url, name, password
        self.client, self.call = connect_flight(url, name, password)

    def open(self, sql: str):
        info = self.client.get_flight_info(flight.FlightDescriptor.for_command(sql.encode()), self.call)
        return self.client.do_get(info.endpoints[0].ticket, self.call)

    def run(self, sql: str):
        return self.open(sql).read_all()


def at_limit(user: User, code: str, sql: str | None, done: threading.Event, breaches: list[int]) -> None:
    """Reaches the limit until it is done."""
    unread = user.open("SELECT value FROM generate_series(1, 10000000000)") if code.startswith("QUERY") else None
    while not done.is_set():
        try:
            if sql is None:
                connect_flight(user.url, user.name, user.password)
            else:
                user.run(sql)
        except (flight.FlightError, pa.ArrowException) as error:
            check(code in str(error), f"{code} expected, not: {error}")
            breaches.append(1)
    if unread is not None:
        unread.cancel()


def latencies(user: User, first: int, count: int) -> list[float]:
    seconds = []
    for row in range(first, first + count):
        started = time.perf_counter()
        user.run(f"INSERT INTO notes VALUES ({row}, 'some text')")
        found = user.run(f"SELECT text FROM notes WHERE id = {row}")
        seconds.append(time.perf_counter() - started)
        check(found.num_rows == 1, f"row {row} was not read back")
    return seconds


def bench(count: int, out: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = start_kalamdb(pathlib.Path(directory) / "data", pathlib.Path(directory) / "log")
        try:
            phases = run(server.url, count)
        finally:
            stop(server)
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    make_directory(out)
    result = {"workload": "NEIGHBOURS", "machine": machine, "pairs": count, "phases": phases}
    (out / "neighbours.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{'beside a user at the limit':28}  {'median ms':>10}  {'95 % ms':>10}  {'99 % ms':>10}  {'breaches':>10}")
    for phase in phases:
        figures = "  ".join(f"{phase[name] * 1e3:10.2f}" for name in ("median", "p95", "p99"))
        print(f"{phase['beside']:28}  {figures}  {phase['breaches']:10,}")
    print(f"\nwritten: {out / 'neighbours.json'}")


def run(url: str, count: int) -> list[dict]:
    root = User(url, "root", PASSWORD)
    root.run("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, text TEXT)")
    for name in ("greedy", "neighbour"):
        root.run(f"CREATE USER '{name}' WITH PASSWORD '{THEIRS}' ROLE user")
    greedy, neighbour = User(url, "greedy", THEIRS), User(url, "neighbour", THEIRS)
    latencies(neighbour, 0, count)
    phases = []

    def phase(beside: str, breaches: list[int]) -> None:
        seconds = latencies(neighbour, count * (len(phases) + 1), count)
        cuts = statistics.quantiles(seconds, n=100)
        figures = {"median": statistics.median(seconds), "p95": cuts[94], "p99": cuts[98]}
        phases.append({"beside": beside, **figures, "breaches": len(breaches), "seconds": seconds})

    phase("nobody", [])
    for quota, code, sql in LIMITS:
        root.run(f"ALTER USER 'greedy' SET QUOTA {quota}")
        done, breaches = threading.Event(), []
        thread = threading.Thread(target=at_limit, args=(greedy, code, sql, done, breaches))
        thread.start()
        try:
            phase(quota, breaches)
        finally:
            done.set()
            thread.join()
        check(bool(breaches), f"{quota} was never reached")
        root.run(f"ALTER USER 'greedy' SET QUOTA {quota.split()[0]} = DEFAULT")
    phase("nobody, again", [])
    return phases
