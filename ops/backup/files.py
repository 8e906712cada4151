"""Records as files: Arrow IPC streams, compressed with zstd.

changelog      key: large_binary, value: large_binary                           the newest of each key, no deletions
repartition    value: large_binary, timestamp: int64, headers: list<(name, value)>    every record, in order
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...state.store import Changes
from ...topics.batch import Fetch, Headers, Partition, Records
from ..errors import BackupError
from .manifest import FileEntry

PART_BYTES_MAX: Final = 64 << 20
"""Of the records in one file, before compression; a single record may be larger."""

_HEADER: Final = pa.struct([("name", pa.string()), ("value", pa.binary())])
_CHANGELOG: Final[dict[str, pa.DataType]] = {"key": pa.large_binary(), "value": pa.large_binary()}
_REPARTITION: Final[dict[str, pa.DataType]] = {
    "value": pa.large_binary(),
    "timestamp": pa.int64(),
    "headers": pa.list_(_HEADER),
}
CHANGELOG: Final = pa.schema(_CHANGELOG)
REPARTITION: Final = pa.schema(_REPARTITION)


def changelog_tables(changes: Changes) -> Iterator[pa.Table]:
    """Without deletions: in an empty changelog there is nothing to delete."""
    table = pa.Table.from_arrays([changes.keys, changes.values], schema=CHANGELOG)
    yield from _parts(table.filter(pc.is_valid(table["value"])))


def repartition_table(fetch: Fetch, end: int) -> pa.Table:
    """The records of a fetch below an offset."""
    rows = int(np.searchsorted(fetch.offsets, end))
    headers = [[{"name": name, "value": value} for name, value in fetch.headers.get(row, ())] for row in range(rows)]
    values = pa.array([fetch.values[row] for row in range(rows)], pa.large_binary())
    times = pa.array(np.asarray(fetch.timestamps[:rows]), pa.int64())
    return pa.Table.from_arrays([values, times, pa.array(headers, pa.list_(_HEADER))], schema=REPARTITION)


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    rows = max(1, table.num_rows * PART_BYTES_MAX // max(1, table.nbytes))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def encoded(table: pa.Table, at: Partition, part: int) -> tuple[FileEntry, bytes]:
    """The file, and how it is entered."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    content = sink.getvalue()
    path = f"{at.topic}/{at.index}-{part}.arrow"
    sha256 = hashlib.sha256(content).hexdigest()
    return FileEntry(path, at.topic, at.index, table.num_rows, len(content), sha256), content


def decoded(content: bytes, entry: FileEntry, schema: pa.Schema) -> pa.Table:
    """Raises BackupError for what is no such file, though it has the checksum."""
    try:
        with pa.ipc.open_stream(content) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise BackupError(f"{entry.path} cannot be read: {error}") from error
    if table.schema != schema or table.num_rows != entry.records:
        raise BackupError(f"{entry.path} has other columns or another number of records than millstream backup writes")
    return table


def records_of(table: pa.Table) -> Iterator[Records]:
    """To be sent, in pieces that a producer takes."""
    for batch in table.to_batches(max_chunksize=10_000):
        values = cast(pa.LargeBinaryArray, batch.column("value"))
        if "key" in batch.schema.names:
            yield Records(cast(pa.LargeBinaryArray, batch.column("key")), values)
        else:
            times = batch.column("timestamp").to_numpy(zero_copy_only=False)
            yield Records(None, values, times, _headers(batch.column("headers").to_pylist()))


def _headers(rows: Sequence[Any]) -> list[Headers]:
    return [tuple((one["name"], one["value"]) for one in row) for row in rows]
