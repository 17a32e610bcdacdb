"""Pieces of work and what they cost: wall time, and the processor time of both sides."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass, field

from servers import Server


@dataclass
class Work:
    """Repetitions of one piece of work on one server."""

    name: str
    server: str
    rows: int
    size_bytes: int
    seconds: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)

    def rows_per_second(self) -> list[float]:
        return [self.rows / seconds for seconds in self.seconds]

    def summary(self) -> dict:
        rates = self.rows_per_second()
        return {
            "work": self.name,
            "server": self.server,
            "rows": self.rows,
            "repetitions": len(rates),
            "rows_per_second_median": statistics.median(rates),
            "rows_per_second_min": min(rates),
            "rows_per_second_max": max(rates),
            "gb_per_second_median": self.size_bytes / statistics.median(self.seconds) / 1e9,
            "server_cpu_seconds_median": statistics.median(self.server_cpu),
            "client_cpu_seconds_median": statistics.median(self.client_cpu),
            "seconds": self.seconds,
        }


def measure(work: Work, server: Server, run) -> None:
    """Runs once more and notes wall time and the processor time of both sides."""
    server_before, client_before = server.cpu_seconds(), own_cpu_seconds()
    started = time.perf_counter()
    rows = run()
    work.seconds.append(time.perf_counter() - started)
    work.server_cpu.append(server.cpu_seconds() - server_before)
    work.client_cpu.append(own_cpu_seconds() - client_before)
    assert rows == work.rows, f"{work.name} on {work.server}: {rows} rows instead of {work.rows}"


def own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"not measured: {otherwise}")
