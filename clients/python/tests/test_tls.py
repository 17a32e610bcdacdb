"""TLS and mutual TLS of both doors, with stock clients, and certificates that must not do."""

from __future__ import annotations

import base64
import datetime
import pathlib
import socket
import ssl
import urllib.error
import urllib.request

import adbc_driver_manager
import pyarrow.flight as flight
import pytest
import trustme
from adbc_driver_flightsql import DatabaseOptions, dbapi
from conftest import ROOT_PASSWORD, serve


class Authority:
    """An authority and what it certifies, as files."""

    def __init__(self, directory: pathlib.Path, name: str):
        self.directory, self.name = directory, name
        self.authority = trustme.CA()
        self.file = directory / f"{name}.pem"
        self.authority.cert_pem.write_to_path(str(self.file))

    def certify(self, name: str, **how) -> tuple[pathlib.Path, pathlib.Path]:
        """Files of a certificate with its chain, and of its key."""
        made = self.authority.issue_cert(name, **how)
        certificate, key = self.directory / f"{self.name}-{name}.pem", self.directory / f"{self.name}-{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(files):
    return Authority(files, "ours")


@pytest.fixture(scope="module")
def stranger(files):
    return Authority(files, "strange")


@pytest.fixture(scope="module")
def encrypted(authority, tmp_path_factory):
    """A server with TLS."""
    certificate, key = authority.certify("127.0.0.1")
    options = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    with serve(tmp_path_factory.mktemp("encrypted"), *options, encrypted=True) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(authority, tmp_path_factory):
    """A server that asks its clients for certificates."""
    certificate, key = authority.certify("127.0.0.1")
    options = ["--tls-certificate", str(certificate), "--tls-key", str(key), "--tls-client-authority", str(authority.file)]
    with serve(tmp_path_factory.mktemp("mutual"), *options, encrypted=True) as server:
        yield server


def over_adbc(server, roots: pathlib.Path, client=None):
    """The answer of `SELECT 42`."""
    options = {
        "username": "root",
        "password": ROOT_PASSWORD,
        DatabaseOptions.TLS_ROOT_CERTS.value: roots.read_text(),
    }
    if client:
        certificate, key = client
        options[DatabaseOptions.MTLS_CERT_CHAIN.value] = certificate.read_text()
        options[DatabaseOptions.MTLS_PRIVATE_KEY.value] = key.read_text()
    with dbapi.connect(server.url, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        return cursor.fetchone()[0]


def over_pyarrow(server, roots: pathlib.Path, client=None):
    options = {"tls_root_certs": roots.read_bytes()}
    if client:
        certificate, key = client
        options |= {"cert_chain": certificate.read_bytes(), "private_key": key.read_bytes()}
    with flight.FlightClient(server.url, **options) as connection:
        token = connection.authenticate_basic_token("root", ROOT_PASSWORD)
        call = flight.FlightCallOptions(headers=[token], timeout=30)
        info = connection.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 42"), call)
        return connection.do_get(info.endpoints[0].ticket, call).read_all().column(0)[0].as_py()


def over_http(server, roots: pathlib.Path, client=None):
    context = ssl.create_default_context(cafile=str(roots))
    if client:
        certificate, key = client
        context.load_cert_chain(str(certificate), str(key))
    credentials = base64.b64encode(f"root:{ROOT_PASSWORD}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.http}/api/sql", data=b'{"sql": "SELECT 42"}', headers=headers)
    with urllib.request.urlopen(request, context=context, timeout=30) as response:
        assert b"[[42]]" in response.read()
    return 42


WAYS = [over_adbc, over_pyarrow, over_http]
REFUSED = (adbc_driver_manager.Error, flight.FlightError, urllib.error.URLError, ConnectionError, ssl.SSLError)


@pytest.mark.parametrize("way", WAYS)
def test_clients_that_trust_the_authority_are_served(way, encrypted, authority):
    assert way(encrypted, authority.file) == 42


@pytest.mark.parametrize("way", WAYS)
def test_clients_that_trust_another_authority_turn_away(way, encrypted, stranger):
    with pytest.raises(REFUSED):
        way(encrypted, stranger.file)


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_of_the_authority_lets_a_client_in(way, mutual, authority):
    assert way(mutual, authority.file, authority.certify("client@example.org")) == 42


@pytest.mark.parametrize("way", WAYS)
def test_a_client_without_certificate_stays_outside(way, mutual, authority):
    with pytest.raises(REFUSED):
        way(mutual, authority.file)


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_of_another_authority_does_not_let_in(way, mutual, authority, stranger):
    with pytest.raises(REFUSED):
        way(mutual, authority.file, stranger.certify("client@example.org"))


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_that_has_expired_does_not_let_in(way, mutual, authority):
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    with pytest.raises(REFUSED):
        way(mutual, authority.file, authority.certify("late@example.org", not_after=yesterday))


@pytest.mark.parametrize("door", ["url", "http"])
def test_nothing_is_said_without_encryption(door, encrypted):
    host, _, port = getattr(encrypted, door).partition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: kalamdb\r\nConnection: close\r\n\r\n")
        said = b""
        while part := connection.recv(4096):
            said += part
    # A TLS alert at most.
    assert b"HTTP" not in said and len(said) < 16


def test_connections_that_never_shake_hands_delay_no_other(encrypted, authority):
    host, _, port = encrypted.url.partition("://")[2].rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=30) for _ in range(64)]
    try:
        assert over_adbc(encrypted, authority.file) == 42
    finally:
        for connection in silent:
            connection.close()
