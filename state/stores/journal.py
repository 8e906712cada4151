"""A large write as one file: what makes many small batches all or nothing.

    <database>/journal/write.arrow.tmp  -- fsync, rename -->  write.arrow  -- applied, database synced -->  removed

A file under its final name is whole, by the rename. Found when the database is opened, it is applied again: puts, deletes
and range deletes done twice, in the same order, are as if done once. A `.tmp` was never promised to anybody and is removed.
This is redo logging as in any database (Gray and Reuter, "Transaction Processing", 1993); the columns make it cheap: one
Arrow record batch a piece, written from the buffers as they are (0.06 us a key, with the GIL released), where putting the
keys into RocksDB costs 2.

Layout: an Arrow IPC file of columns `key`, `value` (large binary); each record batch says in its metadata what it is:

    what=changes  store=<name>     a null value: delete
    what=ranges   store=<name>     key: first key deleted; value: the key after the last (null: to the end)
    what=meta                      key: UTF-8 name; a null value: delete

Within a store the ranges stand before the changes, as they are applied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pyarrow as pa

from ..errors import CorruptStoreError
from ..store import Changes, KeyRange, StoreWrite

_SCHEMA = pa.schema([("key", pa.large_binary()), ("value", pa.large_binary())])
_NAME = "write.arrow"


class Journal:
    """The journal of one database. Holds at most one write: the next is begun after the last was applied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / _NAME
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_NAME}.tmp").unlink(missing_ok=True)

    def put(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        """On disk for good when it returns. Raises OSError, having left nothing."""
        part = self._file.with_suffix(".arrow.tmp")
        try:
            with part.open("wb") as file:
                with pa.ipc.new_file(file, _SCHEMA) as writer:
                    for batch, what in _batches(stores, meta):
                        writer.write_batch(batch, custom_metadata=what)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._file)
            self._sync_folder()
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def pending(self) -> tuple[dict[str, StoreWrite], dict[str, bytes | None]] | None:
        """The write that was not known to be applied, if there is one. Raises CorruptStoreError."""
        if not self._file.exists():
            return None
        try:
            return _read(self._file)
        except (pa.ArrowInvalid, KeyError, UnicodeDecodeError) as error:
            raise CorruptStoreError(f"{self._file}: not a journal of ours: {error}") from error

    def done(self) -> None:
        """The database holds the write, synced."""
        self._file.unlink(missing_ok=True)

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _batches(
    stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]
) -> Iterator[tuple[pa.RecordBatch, dict[bytes, bytes]]]:
    for name, write in stores.items():
        if write.deleted:
            ranges = Changes.of([one.start for one in write.deleted], [one.stop for one in write.deleted])
            yield _batch(ranges), {b"what": b"ranges", b"store": name.encode()}
        for changes in write.changes:
            yield _batch(changes), {b"what": b"changes", b"store": name.encode()}
    names = Changes.of([name.encode() for name in meta], list(meta.values()))
    yield _batch(names), {b"what": b"meta", b"store": b""}


def _batch(changes: Changes) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([changes.keys, changes.values], schema=_SCHEMA)


def _read(file: Path) -> tuple[dict[str, StoreWrite], dict[str, bytes | None]]:
    changes: dict[str, list[Changes]] = {}
    ranges: dict[str, list[KeyRange]] = {}
    meta: dict[str, bytes | None] = {}
    with pa.ipc.open_file(file.read_bytes()) as reader:
        for number in range(reader.num_record_batches):
            found = reader.get_batch_with_custom_metadata(number)
            keys, values = cast("list[pa.LargeBinaryArray]", found.batch.columns)
            one, said = Changes(keys, values), found.custom_metadata
            what, name = said[b"what"], said[b"store"].decode()
            if what == b"changes":
                changes.setdefault(name, []).append(one)
            elif what == b"ranges":
                ranges.setdefault(name, []).extend(KeyRange(start, stop) for start, stop in one.pairs())
            else:
                meta.update((key.decode(), value) for key, value in one.pairs())
    names = [*changes, *(name for name in ranges if name not in changes)]
    return {name: StoreWrite(changes.get(name, ()), ranges.get(name, ())) for name in names}, meta
