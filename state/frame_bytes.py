"""What a frame takes in memory, and how one lets go of what it does not need.

polars keeps text as views of 16 bytes into buffers, and rows that are taken out of a frame share its buffers: one row of a
million can hold the texts of all, and would bring them all into a file.
"""

from __future__ import annotations

from typing import Final, cast

import polars as pl

_VIEW_BYTES: Final = 16
_WASTE_MAX: Final = 2
_WORTH_BYTES: Final = 1 << 16


def frame_bytes(frame: pl.DataFrame) -> int:
    """Of its own rows; `estimated_size` leaves the views out."""
    views = sum(kind in (pl.String, pl.Binary) for kind in frame.dtypes)
    return int(frame.estimated_size()) + _VIEW_BYTES * views * frame.height


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows; copied where the buffers behind them are more than twice what they need, and 64 KiB."""
    held = frame.to_arrow(compat_level=pl.CompatLevel.newest()).get_total_buffer_size()
    if held <= max(_WASTE_MAX * frame_bytes(frame), _WORTH_BYTES):
        return frame
    copied = pl.from_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return cast(pl.DataFrame, copied).cast(frame.schema)
