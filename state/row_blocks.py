"""Rows of a frame as records of a changelog: Arrow stream blocks of bounded size, and back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from .errors import CorruptStoreError, StateError

BLOCK_BYTES_MAX: Final = 512 << 10
"""Of a block, before compression: a record must stay below what a broker takes (1 MiB by default)."""


def cut(frame: pl.DataFrame, bytes_max: int = BLOCK_BYTES_MAX) -> Iterator[pl.DataFrame]:
    """Parts of bounded size, by halves: rows may be of very different sizes. One row alone is never cut."""
    if frame.height == 1 or frame.estimated_size() <= bytes_max:
        yield frame
        return
    half = frame.height // 2
    yield from cut(frame[:half], bytes_max)
    yield from cut(frame[half:], bytes_max)


def block_of(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()


def rows_of(block: bytes, schema: Mapping[str, pl.DataType], where: str) -> pl.DataFrame:
    """The inverse. Raises CorruptStoreError, and StateError naming the columns that are others now."""
    try:
        frame = pl.read_ipc_stream(io.BytesIO(block))
    except pl.exceptions.PolarsError as error:
        raise CorruptStoreError(f"{where}: not a block of rows: {error}") from error
    if dict(frame.schema) != schema:
        differing = [
            f"{name} ({frame.schema.get(name, 'none')} in the state, {schema.get(name, 'none')} now)"
            for name in {**frame.schema, **schema}
            if frame.schema.get(name) != schema.get(name)
        ] or [f"their order ({', '.join(frame.columns)} in the state, {', '.join(schema)} now)"]
        raise StateError(
            f"{where}: the columns have changed: {'; '.join(differing)}; reset the application's state, "
            "or give the step another name to begin with an empty one"
        )
    return frame
