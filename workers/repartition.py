"""Rows through an internal topic: written as blocks of columns, one block a target partition.

Nobody but this app reads these topics and they are not compacted, so a record need not be a row: a record's value is an
Arrow IPC stream of many rows (codec `arrow`), which costs a tenth of a record a row. The record key is null; where a block
belongs was decided by the partitioner from the rows' key columns, exactly as for any other topic. The event time travels
as a column, because record timestamps may not be negative or in the future.
"""

from __future__ import annotations

BLOCK_TIME = "__block_time"
"""The column by which event time travels."""

BLOCK_ROWS_MAX = 10_000
"""Rows in one block: some hundred KiB, well below every broker's limit for a record."""
