"""The main job on real input: lineitem in by adbc_ingest, and out by every way there is, the same."""

import base64
import json
import urllib.request

import pyarrow as pa
import pyarrow.flight
import pytest
from conftest import ROOT_PASSWORD
from content import digest, types
from kalamdb_connect import ingest_options

KEY = ["l_orderkey", "l_linenumber"]


@pytest.fixture(scope="module")
def loaded(server, lineitem):
    """The name of a SHARED table that holds lineitem."""
    with server.connect() as connection:
        ingest_options(connection, primary_key=",".join(KEY))
        with connection.cursor() as cursor:
            cursor.execute("CREATE NAMESPACE tpch")
            # The driver's own limit is 16 MiB a message.
            batches = lineitem.to_reader(max_chunksize=65_536)
            count = cursor.adbc_ingest("lineitem", batches, mode="create", db_schema_name="tpch")
            assert count == lineitem.num_rows
        yield "tpch.lineitem"
        with connection.cursor() as cursor:
            cursor.execute("DROP NAMESPACE tpch CASCADE")


def same(table: pa.Table, lineitem: pa.Table):
    assert types(table.schema) == types(lineitem.schema)
    assert table.num_rows == lineitem.num_rows
    assert digest(table, KEY) == digest(lineitem, KEY)


def test_the_table_is_shared_with_its_key(loaded, cursor):
    cursor.execute("SELECT table_type FROM system.tables WHERE namespace_id = 'tpch' AND table_name = 'lineitem'")
    assert cursor.fetchall() == [("SHARED",)]
    cursor.execute("SELECT count(*), count(DISTINCT _seq) FROM tpch.lineitem")
    (counts,) = cursor.fetchall()
    assert counts[0] == counts[1] > 600_000
    with pytest.raises(Exception, match="DUPLICATE_KEY"):
        again = "INSERT INTO tpch.lineitem SELECT * FROM tpch.lineitem"
        cursor.execute(f"{again} WHERE l_orderkey = 1 AND l_linenumber = 1")


def test_back_through_adbc(loaded, cursor, lineitem):
    cursor.execute(f"SELECT * FROM {loaded}")
    same(cursor.fetch_arrow_table(), lineitem)


def test_back_through_pyarrow_flight(server, loaded, lineitem):
    client, options = server.flight()
    for descriptor in (
        pyarrow.flight.FlightDescriptor.for_path("tpch", "lineitem"),
        pyarrow.flight.FlightDescriptor.for_command(f"SELECT * FROM {loaded}".encode()),
    ):
        info = client.get_flight_info(descriptor, options)
        assert types(info.schema) == types(lineitem.schema)
        tables = [client.do_get(endpoint.ticket, options).read_all() for endpoint in info.endpoints]
        same(pa.concat_tables(tables), lineitem)


def test_back_through_http_arrow(server, loaded, lineitem):
    credentials = base64.b64encode(f"root:{ROOT_PASSWORD}".encode()).decode()
    request = urllib.request.Request(
        f"{server.http}/api/sql",
        data=json.dumps({"sql": f"SELECT * FROM {loaded}"}).encode(),
        headers={
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/json",
            "Accept": "application/vnd.apache.arrow.stream",
        },
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        assert reply.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
        same(pa.ipc.open_stream(reply.read()).read_all(), lineitem)


def test_a_query_over_it_is_right(loaded, cursor, lineitem):
    cursor.execute(
        f"SELECT l_returnflag, count(*) AS n, sum(l_quantity) AS q FROM {loaded} GROUP BY l_returnflag ORDER BY 1"
    )
    expected = lineitem.group_by("l_returnflag").aggregate([([], "count_all"), ("l_quantity", "sum")])
    expected = sorted(zip(*(expected[name].to_pylist() for name in ("l_returnflag", "count_all", "l_quantity_sum"))))
    assert cursor.fetchall() == expected


def test_a_part_of_it(loaded, cursor, lineitem):
    cursor.execute(f"SELECT l_comment, l_shipdate FROM {loaded} WHERE l_orderkey = $1 AND l_linenumber = $2", (1, 1))
    first = lineitem.filter(
        pa.compute.and_(pa.compute.equal(lineitem["l_orderkey"], 1), pa.compute.equal(lineitem["l_linenumber"], 1))
    ).to_pylist()[0]
    assert cursor.fetchall() == [(first["l_comment"], first["l_shipdate"])]
