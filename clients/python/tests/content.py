"""Whether two tables hold the same rows, in whatever order and however they are cut into batches."""

from __future__ import annotations

import hashlib

import pyarrow as pa


def types(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Names and exact types, in order."""
    return [(field.name, field.type) for field in schema]


def digest(table: pa.Table, key: list[str]) -> str:
    """A hash of the rows that does not depend on their order: that of the rows in the order of their unique key."""
    ordered = table.sort_by([(name, "ascending") for name in key]).combine_chunks()
    fields = [pa.field(field.name, field.type, True) for field in ordered.schema]
    ordered = pa.table(ordered.columns, schema=pa.schema(fields))
    hashing = _Hashing()
    with pa.ipc.new_stream(pa.PythonFile(hashing, mode="w"), ordered.schema) as writer:
        writer.write_table(ordered, max_chunksize=65536)
    return hashing.hash.hexdigest()


class _Hashing:
    """A file that keeps the hash of what is written."""

    closed = False

    def __init__(self):
        self.hash = hashlib.sha256()

    def write(self, data):
        self.hash.update(data)
        return len(data)

    def flush(self):
        pass

    def close(self):
        pass
