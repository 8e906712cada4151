"""What one commit of one task is made of (semantics.md section 5), as values: the shell carries them out.

outputs, repartition blocks, dead letters   -> sent as they come
changelog                                   -> sent when the commit is made
positions                                   -> committed with them: in the transaction, or after the acknowledgements
store writes                                -> kept back until the commit has happened, written at a checkpoint
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..topics.batch import Partition, Records
from ..topics.broker import Committed

METADATA_BYTES_MAX = 4096
"""`offset.metadata.max.bytes` of a broker that was left alone."""


@dataclass(frozen=True, slots=True)
class Send:
    """Records for one partition. `store`: the state whose changelog they are; None: rows for others."""

    partition: Partition
    records: Records
    store: str | None = None


@dataclass(frozen=True, slots=True)
class TaskCommit:
    """A task's part of a commit."""

    sends: Sequence[Send]
    positions: Mapping[Partition, Committed]


def metadata_text(saved: Mapping[str, Any]) -> str:
    """What is kept beside an offset, as compact JSON."""
    return json.dumps(saved, separators=(",", ":"))


def metadata_of(committed: Committed | None) -> dict[str, Any]:
    """The reverse; nothing for an offset that was committed by somebody else (a reset tool)."""
    if committed is None or not committed.metadata.startswith("{"):
        return {}
    try:
        saved = json.loads(committed.metadata)
    except ValueError:
        return {}
    return saved if isinstance(saved, dict) else {}
