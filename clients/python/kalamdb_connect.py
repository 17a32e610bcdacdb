"""How to connect to KalamDB with stock drivers. It owns no protocol: everything is ADBC's and pyarrow's own."""

from __future__ import annotations

import pyarrow.flight
from adbc_driver_flightsql import ConnectionOptions, dbapi


def connect(url: str, user: str, password: str) -> dbapi.Connection:
    """A DB-API connection in autocommit: each statement is atomic and durable when it returns."""
    return dbapi.connect(url, db_kwargs={"username": user, "password": password}, autocommit=True)


def ingest_options(
    connection: dbapi.Connection,
    *,
    primary_key: str | None = None,
    table_type: str | None = None,
    on_conflict: str | None = None,
) -> None:
    """Says how `adbc_ingest` makes tables and treats existing keys, for the rest of the connection.

    `primary_key`: column names, comma-separated. `table_type`: SHARED, USER or STREAM. `on_conflict`: error, replace or
    ignore. What is None goes back to the server's default.
    """
    given = {"primary_key": primary_key, "table_type": table_type, "on_conflict": on_conflict}
    set_one = ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value + "ingest."
    erase_one = ConnectionOptions.OPTION_ERASE_SESSION_OPTION_PREFIX.value + "ingest."
    for name, value in given.items():
        option = {erase_one + name: ""} if value is None else {set_one + name: value}
        connection.adbc_connection.set_options(**option)


def flight(
    url: str, user: str, password: str
) -> tuple[pyarrow.flight.FlightClient, pyarrow.flight.FlightCallOptions]:
    """A bare Flight client and the options that each of its calls needs."""
    client = pyarrow.flight.FlightClient(url)
    token = client.authenticate_basic_token(user, password)
    return client, pyarrow.flight.FlightCallOptions(headers=[token])
