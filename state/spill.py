"""Columns on disk instead of in memory, and how a state is told where: derived data, of one process, never synced.

    | array 0 .. | array 1 .. | Arrow IPC file of the frame, not compressed |      each from a multiple of 64 bytes

A scratch file has no name (`O_TMPFILE`, or unlinked at once where a file system has none of these) and is mapped whole: the
kernel pages it in and out, nothing of it counts as the process's own memory, and it is gone when the last array or frame that
points into it is, however the process ends. So there is nothing to clean up at a start, and nothing is ever read back from
another run: what is in here can be had again from the changelog.

Names that are not there cannot be listed: `du` does not see these files, `df` does.
"""

from __future__ import annotations

import io
import mmap
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeGuard, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .frame_bytes import compact
from .on_disk import on_disk
from .store import DurableState

_ALIGNED_BYTES: Final = 64
"""What Arrow asks of its buffers."""


class Spills(DurableState, Protocol):
    """A state that holds derived structures in memory up to a limit, and the rest in scratch files.

    Called before `restore`; without the call everything stays in memory.
    """

    def spill_to(self, folder: Path, bytes_max: int) -> None:
        """`folder` is made when the first file is written. `bytes_max`: of memory."""
        ...


def is_spilling(state: DurableState) -> TypeGuard[Spills]:
    return hasattr(state, "spill_to")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What was written, mapped: read only."""

    frame: pl.DataFrame
    arrays: Sequence[NDArray[Any]]
    size_bytes: int


def write_columns(folder: Path, frame: pl.DataFrame, arrays: Sequence[NDArray[Any]]) -> OnDisk:
    """Raises DiskError."""
    with on_disk(folder), _scratch_file(folder) as file:
        starts = [_written(file, array) for array in arrays]
        rows_at = file.tell()
        table = compact(frame).to_arrow(compat_level=pl.CompatLevel.newest())
        with pa.ipc.new_file(cast(io.IOBase, file), table.schema) as writer:
            writer.write_table(table)
        size = file.tell()
        file.flush()
        mapped = _mapped(file)
    placed = [
        np.frombuffer(mapped, array.dtype, len(array), start) for array, start in zip(arrays, starts, strict=True)
    ]
    rows = pa.py_buffer(mapped).slice(rows_at, size - rows_at)
    read = pl.from_arrow(pa.ipc.open_file(pa.BufferReader(rows)).read_all(), rechunk=False)
    return OnDisk(cast(pl.DataFrame, read).cast(frame.schema), placed, size)


class ScratchValues:
    """Values of bytes, one behind the other: `put` them all, then `get`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with on_disk(folder):
            self._file = _scratch_file(folder)
        self._mapped: mmap.mmap | None = None

    def put(self, value: bytes) -> slice:
        """Where it stands. Raises DiskError."""
        with on_disk(self._folder):
            start = self._file.tell()
            self._file.write(value)
            return slice(start, start + len(value))

    def get(self, where: slice) -> bytes:
        if self._mapped is None:
            with on_disk(self._folder), self._file as file:
                file.flush()
                self._mapped = _mapped(file)
        return self._mapped[where]


def _scratch_file(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return cast("IO[bytes]", tempfile.TemporaryFile(dir=folder))


def _written(file: IO[bytes], array: NDArray[Any]) -> int:
    start = file.tell()
    file.write(np.ascontiguousarray(array).data)
    file.write(bytes(-file.tell() % _ALIGNED_BYTES))
    return start


def _mapped(file: IO[bytes]) -> mmap.mmap:
    """Python keeps a descriptor a mapping before 3.13, whether it is of use or not."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
