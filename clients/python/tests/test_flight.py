"""Bare pyarrow.flight: handshake, plain descriptors, DoPut, ListFlights, actions, session options, errors."""

import pyarrow as pa
import pyarrow.flight as flight
import pytest


@pytest.fixture
def client(server):
    client, options = server.flight()
    with client:
        yield client, options


@pytest.fixture
def items(cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.items (id BIGINT PRIMARY KEY, name TEXT)")
    cursor.execute(f"INSERT INTO {namespace}.items VALUES (1, 'one'), (2, 'two')")
    return namespace


def fetch(client, options, descriptor):
    info = client.get_flight_info(descriptor, options)
    tables = [client.do_get(endpoint.ticket, options).read_all() for endpoint in info.endpoints]
    return info, pa.concat_tables(tables)


def test_path_and_command(client, items):
    for descriptor in (
        flight.FlightDescriptor.for_path(items, "items"),
        flight.FlightDescriptor.for_command(f"SELECT * FROM {items}.items ORDER BY id".encode()),
    ):
        info, table = fetch(*client, descriptor)
        assert info.schema.equals(table.schema)
        assert info.endpoints and all(not endpoint.locations for endpoint in info.endpoints)
        assert table.sort_by("id").to_pydict() == {"id": [1, 2], "name": ["one", "two"]}
        flights, options = client
        assert flights.get_schema(descriptor, options).schema.equals(table.schema)


def test_list_flights(client, items):
    flights, options = client
    paths = {tuple(part.decode() for part in info.descriptor.path) for info in flights.list_flights(options=options)}
    assert (items, "items") in paths
    for info in flights.list_flights(options=options):
        if info.descriptor.path == [items.encode(), b"items"]:
            assert info.schema.names == ["id", "name"]


def test_do_put_by_path(client, cursor, items):
    flights, options = client
    table = pa.table({"id": [3, 4], "name": ["three", "four"]})
    descriptor = flight.FlightDescriptor.for_path(items, "items")
    writer, _ = flights.do_put(descriptor, table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
    cursor.execute(f"SELECT count(*) FROM {items}.items")
    assert cursor.fetchall() == [(4,)]
    with pytest.raises(pa.ArrowException, match="DUPLICATE_KEY"):
        writer, reader = flights.do_put(descriptor, table.schema, options)
        writer.write_table(table)
        writer.done_writing()
        reader.read()
        writer.close()
    cursor.execute(f"SELECT count(*) FROM {items}.items")
    assert cursor.fetchall() == [(4,)]


def test_actions_are_those_that_work(client):
    flights, options = client
    advertised = {action.type for action in flights.list_actions(options)}
    assert {"CreatePreparedStatement", "ClosePreparedStatement", "SetSessionOptions", "CloseSession"} <= advertised
    assert not advertised & {"BeginTransaction", "BeginSavepoint"}, "these belong to a later version"
    with pytest.raises(pa.ArrowException, match="UNSUPPORTED.*NoSuchAction"):
        list(flights.do_action(flight.Action("NoSuchAction", b""), options))


def test_a_closed_session_is_closed(server):
    client, options = server.flight()
    with client:
        list(client.do_action(flight.Action("CloseSession", b""), options))
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 1"), options)


def test_errors(server, client, items):
    flights, options = client
    for descriptor, error, words in (
        (flight.FlightDescriptor.for_path(items, "itemz"), flight.FlightError, "TABLE_NOT_FOUND(?!.*line).*itemz"),
        (flight.FlightDescriptor.for_path("a", "b", "c", "d"), flight.FlightError, "INVALID_REQUEST|NOT_FOUND"),
        (flight.FlightDescriptor.for_command(b"SELEC 1"), flight.FlightError, "SYNTAX_ERROR.*line 1, column 1"),
        (flight.FlightDescriptor.for_command(b"\xff\xfe"), flight.FlightError, "INVALID_REQUEST"),
    ):
        with pytest.raises((error, pa.ArrowInvalid, KeyError), match=words):
            flights.get_flight_info(descriptor, options)
    with pytest.raises((flight.FlightError, pa.ArrowInvalid), match="INVALID_TICKET|INVALID_REQUEST"):
        flights.do_get(flight.Ticket(b"nonsense"), options).read_all()
    with pytest.raises(flight.FlightUnauthenticatedError):
        flights.get_flight_info(flight.FlightDescriptor.for_path(items, "items"))
    with pytest.raises(flight.FlightUnauthenticatedError):
        flight.FlightClient(server.url).authenticate_basic_token("root", "wrong")


def test_two_streams_at_once(client, cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t AS SELECT value AS id FROM generate_series(1, 200000)")
    flights, options = client
    info = flights.get_flight_info(flight.FlightDescriptor.for_path(namespace, "t"), options)
    readers = [flights.do_get(info.endpoints[0].ticket, options) for _ in range(2)]
    counts = [0, 0]
    open_readers = {0, 1}
    while open_readers:
        for index in sorted(open_readers):
            try:
                counts[index] += readers[index].read_chunk().data.num_rows
            except StopIteration:
                open_readers.discard(index)
    assert counts == [200_000, 200_000]


def test_a_cancelled_stream_leaves_the_session_in_order(client, cursor, namespace):
    cursor.execute(f"CREATE TABLE {namespace}.t AS SELECT value AS id FROM generate_series(1, 500000)")
    flights, options = client
    info = flights.get_flight_info(flight.FlightDescriptor.for_path(namespace, "t"), options)
    reader = flights.do_get(info.endpoints[0].ticket, options)
    reader.read_chunk()
    reader.cancel()
    _, table = fetch(flights, options, flight.FlightDescriptor.for_command(b"SELECT 1 AS one"))
    assert table.to_pydict() == {"one": [1]}
