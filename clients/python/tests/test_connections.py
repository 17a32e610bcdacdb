"""The bound of connections, with stock drivers: who finds no place is told what to do, and has one as soon as another closes."""

from __future__ import annotations

import adbc_driver_manager
import pyarrow as pa
import pytest
from conftest import serve

#: What a person needs to know, in the driver's own error.
WHAT_TO_DO = r"max_connections.*close some of yours, try again later"


@pytest.fixture
def small(tmp_path):
    """A server of one connection."""
    with serve(tmp_path, "--max-connections", "1") as server:
        yield server


def value(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def test_drivers_tell_that_there_is_no_place(small):
    with small.connect() as first:
        with pytest.raises(adbc_driver_manager.Error, match=WHAT_TO_DO):
            small.connect()
        with pytest.raises(pa.ArrowException, match=WHAT_TO_DO):
            small.flight()
        # Whoever was in goes on.
        assert value(first) == 1
    with small.connect() as next_one:
        assert value(next_one) == 1
