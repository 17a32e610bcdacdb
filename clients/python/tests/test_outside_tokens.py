"""Tokens (JWTs) of an outside issuer, as bearer tokens of stock clients; and tokens that must not do."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
import urllib.error
import urllib.request

import adbc_driver_manager
import jwt
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions, dbapi
from conftest import serve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER, AUDIENCE = "https://issuer.example.org", "kalamdb-test"


class Issuer:
    """An issuer with an RSA and an elliptic curve key, and its JWK set over HTTP."""

    def __init__(self):
        self.keys = {
            "rsa": ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
        }

    def jwk_set(self) -> str:
        keys = []
        for name, (algorithm, key) in self.keys.items():
            kind = jwt.algorithms.RSAAlgorithm if algorithm == "RS256" else jwt.algorithms.ECAlgorithm
            keys.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig", "alg": algorithm})
        return json.dumps({"keys": keys})

    def token(self, key: str = "rsa", headers: dict | None = None, **claims) -> str:
        algorithm, private = self.keys[key]
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "roles": ["user"], "exp": now + 600, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, private, algorithm=algorithm, headers={"kid": key, **(headers or {})})


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@pytest.fixture(scope="module")
def server(issuer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("jwt")
    keys = directory / "keys.json"
    keys.write_text(issuer.jwk_set())
    with serve(directory, *options(str(keys))) as server:
        wait_for_keys(server, issuer)
        yield server


def options(keys: str) -> list[str]:
    return ["--jwt-keys", keys, "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE, "--jwt-role-claim", "roles"]


def wait_for_keys(server, issuer) -> None:
    """The server is ready before an issuer has to answer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return over_http(server, issuer.token(sub="first", roles="user"))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


QUERY = "SELECT CURRENT_USER, CURRENT_ROLE"


def over_adbc(server, token: str):
    kwargs = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    with dbapi.connect(server.url, db_kwargs=kwargs, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        return cursor.fetchone()


def over_pyarrow(server, token: str):
    with flight.FlightClient(server.url) as client:
        call = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
        info = client.get_flight_info(flight.FlightDescriptor.for_command(QUERY.encode()), call)
        row = client.do_get(info.endpoints[0].ticket, call).read_all().to_pylist()[0]
        return tuple(row.values())


def over_http(server, token: str, sql: str = QUERY):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    body = json.dumps({"sql": sql}).encode()
    request = urllib.request.Request(f"{server.http}/api/sql", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return tuple(json.load(response)["results"][0]["rows"][0])


WAYS = [over_adbc, over_pyarrow, over_http]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_the_issuer_names_user_and_role(way, key, server, issuer):
    assert way(server, issuer.token(key, sub=f"by {way.__name__} {key}")) == (f"by {way.__name__} {key}", "user")


def test_the_role_of_the_last_token_counts(server, issuer):
    assert over_http(server, issuer.token(sub="climber", roles=["visitor", "user", "dba"])) == ("climber", "dba")
    assert over_http(server, issuer.token(sub="climber", roles="service")) == ("climber", "service")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT role FROM system.users WHERE user_id = 'climber'")
        assert cursor.fetchall() == [("service",)]


def unsigned(issuer) -> str:
    """The form that says `alg: none`."""
    encode = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()  # noqa: E731
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "roles": "dba", "exp": int(time.time()) + 600}
    return f"{encode({'alg': 'none', 'typ': 'JWT'})}.{encode(claims)}."


def tampered(issuer) -> str:
    head, claims, signature = issuer.token().split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    said["roles"] = ["dba"]
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{signature}"


def confused(issuer) -> str:
    """Signed with the public key as if it were a shared secret."""
    public = issuer.keys["rsa"][1].public_key()
    secret = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "roles": "dba", "exp": int(time.time()) + 600}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "rsa"})


NOW = int(time.time())
#: What is wrong, how such a token is made, and what the answer says.
BAD = {
    "expired": (lambda i: i.token(exp=NOW - 3600), "expired"),
    "without end": (lambda i: i.token(exp=None), "exp"),
    "not yet valid": (lambda i: i.token(nbf=NOW + 3600), "not valid yet"),
    "wrong issuer": (lambda i: i.token(iss="https://other.example.org"), "another issuer"),
    "no issuer": (lambda i: i.token(iss=None), "iss"),
    "wrong audience": (lambda i: i.token(aud="another service"), "another audience"),
    "no audience": (lambda i: i.token(aud=None), "aud"),
    "tampered": (tampered, "signed"),
    "unsigned": (unsigned, "token"),
    "signed with the public key": (confused, "token"),
    "another key under a known name": (lambda i: Issuer().token(), "signed"),
    "an unknown key": (lambda i: i.token(headers={"kid": "nobody's"}), "key"),
    "the wrong kind of key": (lambda i: i.token("ec", headers={"kid": "rsa"}), "key"),
    "critical of what nobody knows": (lambda i: i.token(headers={"crit": ["b64"], "b64": True}), "crit"),
    "no user": (lambda i: i.token(sub=None), "names no user"),
    "a user that is no text": (lambda i: i.token(sub=""), "names no user"),
    "no role": (lambda i: i.token(roles=["visitor"]), "no role"),
    "role system": (lambda i: i.token(roles=["system"]), "system"),
    "root": (lambda i: i.token(sub="root"), "password"),
}


@pytest.mark.parametrize("wrong", BAD)
@pytest.mark.parametrize("way", WAYS)
def test_bad_tokens_do_not_let_in(way, wrong, server, issuer):
    make, expected = BAD[wrong]
    try:
        answer = way(server, make(issuer))
    except urllib.error.HTTPError as error:
        assert error.code == 401
        said = error.read().decode()
    except (adbc_driver_manager.Error, flight.FlightUnauthenticatedError) as error:
        said = str(error)
    else:
        pytest.fail(f"a token that is {wrong} gave {answer}")
    assert expected in said
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM system.users WHERE user_id = 'ada'")
        assert cursor.fetchone() == (0,)


def test_a_user_with_a_password_is_not_meant(server, issuer):
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER 'local' WITH PASSWORD 'a long password' ROLE user")
    with pytest.raises(urllib.error.HTTPError) as refused:
        over_http(server, issuer.token(sub="local"))
    refused.value.close()
    assert refused.value.code == 401


def test_keys_over_http_are_fetched_again_for_an_unknown_key(tmp_path):
    issuer = Issuer()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = issuer.jwk_set().encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as keys:
        threading.Thread(target=keys.serve_forever, daemon=True).start()
        with serve(tmp_path, *options(f"http://127.0.0.1:{keys.server_port}/keys")) as server:
            wait_for_keys(server, issuer)
            issuer.keys["new"] = ("ES256", ec.generate_private_key(ec.SECP256R1()))
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert over_http(server, issuer.token("new", sub="late")) == ("late", "user")
                    break
                except urllib.error.HTTPError as error:
                    error.close()
                    assert error.code == 401 and time.monotonic() < deadline
                time.sleep(0.2)
        keys.shutdown()
