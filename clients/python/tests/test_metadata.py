"""Metadata through ADBC: objects, schemas, table types, info, and what a user is shown of them."""

import pyarrow as pa
import pytest


@pytest.fixture
def tables(cursor, namespace):
    public = "WITH (ACCESS_LEVEL = 'public')"
    cursor.execute(f"CREATE SHARED TABLE {namespace}.open (id BIGINT PRIMARY KEY, v TEXT NOT NULL) {public}")
    cursor.execute(f"CREATE SHARED TABLE {namespace}.closed (note TEXT, a INTEGER, b TEXT, PRIMARY KEY (b, a))")
    cursor.execute(f"CREATE USER TABLE {namespace}.own (id BIGINT PRIMARY KEY, d DECIMAL(10,2))")
    return namespace


def objects(connection, **filters):
    """{namespace: {table: row}} of adbc_get_objects."""
    (catalog,) = connection.adbc_get_objects(**filters).read_all().to_pylist()
    assert catalog["catalog_name"] == "kalam"
    found = {}
    for schema in catalog["catalog_db_schemas"] or []:
        tables = schema["db_schema_tables"]
        found[schema["db_schema_name"]] = {table["table_name"]: table for table in tables or []}
    return found


def test_catalogs_and_namespaces(connection, tables):
    (catalog,) = connection.adbc_get_objects(depth="catalogs").read_all().to_pylist()
    assert catalog["catalog_name"] == "kalam"
    found = objects(connection, depth="db_schemas")
    assert {tables, "public", "system"} <= found.keys()
    assert objects(connection, depth="db_schemas", db_schema_filter=tables).keys() == {tables}
    assert objects(connection, depth="db_schemas", db_schema_filter=tables[:-1] + "_").keys() >= {tables}


def test_tables(connection, tables):
    found = objects(connection, depth="tables", db_schema_filter=tables)[tables]
    assert {name: table["table_type"] for name, table in found.items()} == {
        "open": "TABLE",
        "closed": "TABLE",
        "own": "TABLE",
    }
    some = objects(connection, depth="tables", db_schema_filter=tables, table_name_filter="o%")
    assert some[tables].keys() == {"open", "own"}
    system = objects(connection, depth="tables", table_types_filter=["SYSTEM TABLE"])["system"]
    assert {"users", "tables", "queries", "settings"} <= system.keys()
    assert {table["table_type"] for table in system.values()} == {"SYSTEM TABLE"}


def test_columns(connection, tables):
    found = objects(connection, depth="all", db_schema_filter=tables)[tables]
    columns = [(c["column_name"], c["ordinal_position"]) for c in found["closed"]["table_columns"]]
    assert columns == [("note", 1), ("a", 2), ("b", 3)]
    only = objects(
        connection, depth="columns", db_schema_filter=tables, table_name_filter="own", column_name_filter="d"
    )
    assert [c["column_name"] for c in only[tables]["own"]["table_columns"]] == ["d"]


def test_table_schema(connection, tables):
    schema = connection.adbc_get_table_schema("closed", db_schema_filter=tables)
    assert [(f.name, f.type, f.nullable) for f in schema] == [
        ("note", pa.string(), True),
        ("a", pa.int32(), False),
        ("b", pa.string(), False),
    ]
    with pytest.raises(Exception, match="NOT_FOUND|not find|no table|NotFound"):
        connection.adbc_get_table_schema("nothing", db_schema_filter=tables)


def test_table_types(connection):
    assert sorted(connection.adbc_get_table_types()) == ["SYSTEM TABLE", "TABLE", "VIEW"]


def test_info(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "KalamDB"
    assert info["vendor_version"]
    assert info["driver_arrow_version"]


def test_users_are_shown_what_they_may_read(server, cursor, tables):
    cursor.execute("CREATE USER 'meta_user' WITH PASSWORD 'a password for metadata' ROLE user")
    try:
        with server.connect("meta_user", "a password for metadata") as connection:
            assert objects(connection, depth="tables", db_schema_filter=tables)[tables].keys() == {"open", "own"}
            with pytest.raises(Exception, match="NOT_FOUND|not find|no table|NotFound"):
                connection.adbc_get_table_schema("closed", db_schema_filter=tables)
    finally:
        cursor.execute("DROP USER 'meta_user'")
