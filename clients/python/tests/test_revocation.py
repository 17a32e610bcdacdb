"""Credentials that end, with stock clients: what is open ends at once; and logins that fail back off, for nobody else."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import urllib.error
import urllib.request

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from conftest import ROOT_PASSWORD

PASSWORD = "a password that will end"
#: More than any client takes in advance.
ENDLESS = "SELECT value, 'some text to fill batches with' AS text FROM generate_series(1, 10000000000)"
NO_MORE = (adbc_driver_manager.Error, flight.FlightError, urllib.error.HTTPError)

_numbers = itertools.count()


@pytest.fixture
def user(server):
    name = f"leaver{next(_numbers)}"
    run(server, f"CREATE USER '{name}' WITH PASSWORD '{PASSWORD}' ROLE user")
    yield name
    run(server, f"DROP USER IF EXISTS '{name}'")


def run(server, sql: str) -> list[tuple]:
    """As root."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


class OverAdbc:
    """A connection, which logs in once."""

    def __init__(self, server, user: str):
        self.connection = server.connect(user, PASSWORD)
        # A cursor would prepare, and fail to close what went with the session.
        self.statement = adbc_driver_manager.AdbcStatement(self.connection.adbc_connection)

    def close(self):
        self.statement.close()
        self.connection.close()

    def ask(self):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 42")
            return cursor.fetchone()[0]

    def stream(self):
        self.statement.set_sql_query(ENDLESS)
        handle, _ = self.statement.execute_query()
        return pa.RecordBatchReader.from_stream(handle)


class OverPyarrow:
    """A client with the token of a handshake."""

    def __init__(self, server, user: str):
        self.client, self.call = server.flight(user, PASSWORD)

    def close(self):
        self.client.close()

    def read(self, sql: str):
        info = self.client.get_flight_info(flight.FlightDescriptor.for_command(sql.encode()), self.call)
        return self.client.do_get(info.endpoints[0].ticket, self.call)

    def ask(self):
        return self.read("SELECT 42").read_all().column(0)[0].as_py()

    def stream(self):
        return self.read(ENDLESS).to_reader()


class OverHttp:
    """Calls with the token of a handshake."""

    def __init__(self, server, user: str):
        client = flight.FlightClient(server.url)
        _, header = client.authenticate_basic_token(user, PASSWORD)
        client.close()
        self.server, self.header = server, header.decode()

    def close(self):
        pass

    def ask(self):
        headers = {"authorization": self.header, "content-type": "application/json"}
        request = urllib.request.Request(f"{self.server.http}/api/sql", data=b'{"sql": "SELECT 42"}', headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["results"][0]["rows"][0][0]


@pytest.fixture
def log_in(server):
    """Opens clients, which are closed in the end."""
    with contextlib.ExitStack() as opened:
        yield lambda way, user: opened.enter_context(contextlib.closing(way(server, user)))


def kill_sessions(server, user: str):
    for (session,) in run(server, f"SELECT session_id FROM system.sessions WHERE user_id = '{user}'"):
        run(server, f"KILL SESSION '{session}'")


def drop_and_make_again(server, user: str):
    run(server, f"DROP USER '{user}'")
    run(server, f"CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE user")


ENDS = {
    "a new password": lambda server, user: run(server, f"ALTER USER '{user}' SET PASSWORD 'another password of theirs'"),
    "the same password anew": lambda server, user: run(server, f"ALTER USER '{user}' SET PASSWORD '{PASSWORD}'"),
    "no user any more": lambda server, user: run(server, f"DROP USER '{user}'"),
    "another user of the name": drop_and_make_again,
    "KILL SESSION": kill_sessions,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", [OverAdbc, OverPyarrow, OverHttp])
def test_an_open_session_ends_at_once(way, end, server, user, log_in):
    client = log_in(way, user)
    assert client.ask() == 42
    ENDS[end](server, user)
    with pytest.raises(NO_MORE) as refused:
        client.ask()
    said = refused.value.read().decode() if isinstance(refused.value, urllib.error.HTTPError) else str(refused.value)
    assert "UNAUTHENTICATED" in said
    assert run(server, f"SELECT count(*) FROM system.sessions WHERE user_id = '{user}'") == [(0,)]
    # Others notice nothing.
    assert run(server, "SELECT 42") == [(42,)]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", [OverAdbc, OverPyarrow])
def test_what_a_session_runs_ends_with_it(way, end, server, user, log_in):
    client = log_in(way, user)
    stream = client.stream()
    assert stream.read_next_batch().num_rows > 0
    ENDS[end](server, user)
    with pytest.raises((adbc_driver_manager.Error, pa.ArrowException, OSError), match="CANCELLED|cancelled"):
        while True:
            stream.read_next_batch()
    running = f"SELECT count(*) FROM system.queries WHERE user_id = '{user}' AND status = 'running'"
    assert run(server, running) == [(0,)]


def test_who_changes_their_own_password_goes_on(server, user, log_in):
    here, there = log_in(OverAdbc, user), log_in(OverAdbc, user)
    assert (here.ask(), there.ask()) == (42, 42)
    with here.connection.cursor() as cursor:
        cursor.execute(f"ALTER USER '{user}' SET PASSWORD 'another password of theirs'")
    assert here.ask() == 42
    with pytest.raises(NO_MORE):
        there.ask()
    with pytest.raises(NO_MORE):
        log_in(OverAdbc, user).ask()


def over_http(server, user: str, password: str) -> tuple[int, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.http}/api/sql", data=b'{"sql": "SELECT 42"}', headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def over_adbc(server, user: str, password: str) -> tuple[int, str]:
    try:
        with server.connect(user, password) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 42")
            return 200, str(cursor.fetchone())
    except adbc_driver_manager.Error as error:
        status = 401 if "UNAUTHENTICATED" in str(error) else 429 if "TOO_MANY_REQUESTS" in str(error) else 500
        return status, str(error)


@pytest.mark.parametrize("way", [over_http, over_adbc])
def test_failed_logins_back_off_and_lock_nobody_else_out(way, server, user, log_in):
    session = log_in(OverAdbc, user)
    # A name that nobody has is treated alike.
    for name in (user, f"no {user}"):
        statuses = []
        while not statuses or statuses[-1] == 401:
            status, said = way(server, name, "the wrong password")
            assert status in (401, 429) and name not in said, said
            statuses.append(status)
            assert len(statuses) < 20, statuses
        assert len(statuses) > 5, "people mistype"
    # What is open is not held up, nor is anybody else from the same address.
    assert session.ask() == 42
    assert run(server, "SELECT 42") == [(42,)]
    assert way(server, "root", ROOT_PASSWORD)[0] == 200
