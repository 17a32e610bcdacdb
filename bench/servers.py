"""Servers under measurement: started, watched, asked and stopped. What is measured of them is `work`'s."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

import pyarrow as pa

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "clients" / "python"), str(ROOT / "clients" / "python" / "tests")]

from conftest import binary, clean_environment, first_line  # noqa: E402

PASSWORD = "a root password for benches"
READY_SECONDS = 60
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Memory:
    """The resident memory of a process."""

    pid: int

    def peak_resident_bytes(self) -> int:
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmHWM in /proc")

    def forget_peak(self) -> None:
        """From here on the peak is counted anew."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@dataclass
class Server:
    """A server process under measurement."""

    name: str
    process: subprocess.Popen
    url: str

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory(self) -> Memory:
        return Memory(self.process.pid)

    def peak_resident_bytes(self) -> int:
        return self.memory().peak_resident_bytes()


def make_directory(path: pathlib.Path) -> pathlib.Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def start_kalamdb(data_dir: pathlib.Path, log: pathlib.Path) -> Server:
    command = [binary(), "serve", "--data-dir", str(data_dir)]
    command += ["--flight-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    environment = {**clean_environment(), "KALAMDB_ROOT_PASSWORD": PASSWORD}
    return start("kalamdb", command, environment, log)


def start_noop(file: pathlib.Path, log: pathlib.Path) -> Server:
    command = [str(pathlib.Path(binary()).with_name("flight_noop")), str(file)]
    if not pathlib.Path(command[0]).is_file():
        sys.exit(f"{command[0]} is missing: build it with cargo build --release -p kalamdb-tests --bin flight_noop")
    return start("L1", command, clean_environment(), log)


def start(name: str, command: list[str], environment: dict[str, str], log: pathlib.Path) -> Server:
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    line = first_line(process, READY_SECONDS)
    if not line.startswith("ready "):
        process.kill()
        sys.exit(f"{name} did not get ready: {line!r}\n{log.read_text()}")
    words = dict(word.split("=", 1) for word in line.split()[1:])
    return Server(name, process, f"grpc://{words['flight']}")


def stop(server: Server) -> None:
    server.process.stdin.close()
    server.process.terminate()
    try:
        server.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def fetch_batches(client, options, descriptor):
    """Every batch, as it comes off the wire."""
    info = client.get_flight_info(descriptor, options)
    for endpoint in info.endpoints:
        for chunk in client.do_get(endpoint.ticket, options):
            yield chunk.data


def count_rows(batches) -> int:
    return sum(batch.num_rows for batch in batches)


def put(client, options, descriptor, table: pa.Table, chunk_rows: int) -> int:
    """Sends a table by DoPut; returns how many rows the server says it took."""
    writer, reader = client.do_put(descriptor, table.schema, options)
    for batch in table.to_batches(max_chunksize=chunk_rows):
        writer.write_batch(batch)
    writer.done_writing()
    answer = reader.read()
    writer.close()
    return int(answer.to_pybytes()) if answer else 0


def disk_bytes(directory: pathlib.Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
