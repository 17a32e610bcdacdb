"""The real binary on free ports, one server for the session, and a namespace of its own for each test."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients" / "python"))

import kalamdb_connect  # noqa: E402

READY_SECONDS = 60
ROOT_PASSWORD = "a root password for tests"


@dataclass
class Server:
    """A running server and how to reach it."""

    url: str
    http: str
    process: subprocess.Popen

    def connect(self, user="root", password=ROOT_PASSWORD):
        return kalamdb_connect.connect(self.url, user, password)

    def flight(self, user="root", password=ROOT_PASSWORD):
        return kalamdb_connect.flight(self.url, user, password)


def binary() -> str:
    """The binary under test: BINARY_UNDER_TEST, or what `make -s binary-path` says."""
    path = os.environ.get("BINARY_UNDER_TEST")
    if not path:
        made = subprocess.run(["make", "-s", "binary-path"], cwd=ROOT, check=True, capture_output=True, text=True)
        path = made.stdout.strip()
    assert pathlib.Path(path).is_file(), f"{path} does not exist; build it first (make test does)"
    return path


def clean_environment() -> dict[str, str]:
    """The environment without what would configure a server or a client by hand."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KALAMDB_")}


def first_line(process: subprocess.Popen, seconds: float, wanted=lambda line: True) -> str:
    """The first line of a process's output that is wanted, with a deadline; the rest is read and dropped."""
    lines: queue.Queue[str] = queue.Queue()

    def read():
        with process.stdout:
            while not wanted(line := process.stdout.readline()):
                pass
            lines.put(line)
            for _ in process.stdout:
                pass

    threading.Thread(target=read, daemon=True).start()
    return lines.get(timeout=seconds)


@contextlib.contextmanager
def serve(directory: pathlib.Path, *options: str, encrypted: bool = False):
    """A server with its data in this directory; it has to end well."""
    log = directory / "stderr"
    command = [binary(), "serve", "--data-dir", str(directory / "data")]
    command += ["--flight-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", *options]
    environment = {**clean_environment(), "KALAMDB_ROOT_PASSWORD": ROOT_PASSWORD}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        line = first_line(process, READY_SECONDS)
        words = dict(word.split("=", 1) for word in line.split()[1:])
        assert line.startswith("ready "), f"not the ready line: {line!r}\n{log.read_text()}"
        grpc, http = ("grpc+tls", "https") if encrypted else ("grpc", "http")
        yield Server(f"{grpc}://{words['flight']}", f"{http}://{words['http']}", process)
        process.terminate()
        assert process.wait(timeout=READY_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server")) as server:
        yield server


_numbers = itertools.count()


@pytest.fixture
def namespace(server):
    """A namespace that no other test uses."""
    name = f"test{next(_numbers)}"
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE NAMESPACE {name}")
        yield name
        cursor.execute(f"DROP NAMESPACE {name} CASCADE")


@pytest.fixture
def connection(server):
    with server.connect() as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema with views as their plain types and without field metadata: what a table comes back as."""
    replaced = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    fields = [pa.field(f.name, replaced.get(f.type, f.type), f.nullable) for f in schema]
    return pa.schema(fields)


@pytest.fixture(scope="session")
def lineitem(tmp_path_factory):
    """TPC-H lineitem at scale factor 0.1, as plain types."""
    directory = tmp_path_factory.mktemp("tpch")
    tool = pathlib.Path(sys.executable).with_name("tpchgen-cli")
    tool = str(tool) if tool.exists() else shutil.which("tpchgen-cli")
    command = [tool, "parquet", "--scale-factor", "0.1", "--tables", "lineitem", "--output-dir", str(directory), "-q"]
    subprocess.run(command, check=True)
    table = pyarrow.parquet.read_table(directory / "lineitem.parquet")
    return table.replace_schema_metadata(None).cast(plain(table.schema))
