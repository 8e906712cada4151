"""Rows as blocks of bounded size: Arrow streams, lz4."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from .errors import CorruptStoreError, StateError


def cut(first: int, frame: pl.DataFrame, bytes_max: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Parts of bounded size, by halves: rows may be of very different sizes. One row alone is never cut."""
    if frame.height == 1 or frame.estimated_size() <= bytes_max:
        yield first, frame
        return
    half = frame.height // 2
    yield from cut(first, frame[:half], bytes_max)
    yield from cut(first + half, frame[half:], bytes_max)


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, rechunk=True) if len(frames) > 1 else frames[0]


def write_block(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()


def read_block(block: bytes, schema: Mapping[str, pl.DataType], where: str) -> pl.DataFrame:
    """Raises CorruptStoreError, and StateError naming the columns that have changed."""
    try:
        frame = pl.read_ipc_stream(io.BytesIO(block))
    except pl.exceptions.PolarsError as error:
        raise CorruptStoreError(f"join {where}: not a block of rows: {error}") from error
    if dict(frame.schema) != schema:
        differing = [
            f"{name} ({frame.schema.get(name, 'none')} in the state, {schema.get(name, 'none')} now)"
            for name in {**frame.schema, **schema}
            if frame.schema.get(name) != schema.get(name)
        ] or [f"their order ({', '.join(frame.columns)} in the state, {', '.join(schema)} now)"]
        raise StateError(
            f"join {where}: the columns have changed: {'; '.join(differing)}; reset the application's state, "
            "or give the step another name to begin with an empty one"
        )
    return frame
