"""Records that could not be used, and how they are written to a dead-letter topic.

A dead letter is the original record (key, value, headers) with these headers after its own:

| header                    | text in it                                                          |
|---------------------------|---------------------------------------------------------------------|
| `__dead_letter.topic`     | topic it was read from                                              |
| `__dead_letter.partition` | partition, decimal                                                  |
| `__dead_letter.offset`    | offset, decimal                                                     |
| `__dead_letter.timestamp` | the record's own timestamp, milliseconds, decimal (-1: it had none) |
| `__dead_letter.error`     | class of the reason, one of `ErrorClass`                            |
| `__dead_letter.reason`    | what is wrong, for people                                           |
| `__dead_letter.step`      | the step that refused it: "decode", or an operator's name           |
| `__dead_letter.app`       | application, where one is known                                     |

A value too large to be written again is kept by reference: the dead letter's value is null, and a ninth header
`__dead_letter.value_bytes` gives its length; topic, partition and offset find it while it is retained. A key too large to
be written goes the same way (`__dead_letter.key_bytes`), and headers that are too large are left out
(`__dead_letter.header_bytes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .arrow_buffers import large_binary
from .batch import Fetch, Headers, Records

ErrorClass = Literal["decode", "null_value", "event_time", "null_key", "too_large", "function"]
"""decode: not of the codec or the schema. event_time: null, absurd. function: user code raised."""

PREFIX: Final = "__dead_letter."
RECORD_BYTES_MAX: Final = 1_000_000
"""Default limit of what is written again: below the broker's default `message.max.bytes` (1,048,588) with room for headers."""
_REASON_CHARACTERS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record of a fetch that goes no further."""

    row: int
    """Its row number in the fetch."""
    error: ErrorClass
    reason: str
    step: str = "decode"


def dead_letter_records(
    fetch: Fetch, rejected: Sequence[Rejected], *, app: str = "", record_bytes_max: int = RECORD_BYTES_MAX
) -> Records:
    """One record a rejected one, in their order, with the timestamps of the originals (-1 becomes 0: Kafka takes no
    negative time)."""
    letters = [_letter(fetch, one, app, record_bytes_max) for one in rejected]
    timestamps = fetch.timestamps[[one.row for one in rejected]].clip(min=0)
    keys = large_binary([key for key, _, _ in letters])
    return Records(keys, large_binary([value for _, value, _ in letters]), timestamps, [h for _, _, h in letters])


def _letter(
    fetch: Fetch, rejected: Rejected, app: str, record_bytes_max: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers, without what does not fit: the largest part is left out first."""
    row = rejected.row
    key, value, headers = fetch.keys[row], fetch.values[row], fetch.headers.get(row, ())
    sizes = {"value": len(value or b""), "key": len(key or b""), "header": header_bytes(headers)}
    references: list[tuple[str, str]] = []
    for part in sorted(sizes, key=lambda name: -sizes[name]):
        if sum(sizes.values()) <= record_bytes_max:
            break
        references.append((f"{part}_bytes", str(sizes[part])))
        sizes[part] = 0
    dropped = {name for name, _ in references}
    said = [*_said(fetch, rejected, app), *references]
    ours: Headers = tuple((PREFIX + name, text.encode("utf-8", "replace")) for name, text in said)
    return (
        None if "key_bytes" in dropped else key,
        None if "value_bytes" in dropped else value,
        ours if "header_bytes" in dropped else (*headers, *ours),
    )


def _said(fetch: Fetch, rejected: Rejected, app: str) -> list[tuple[str, str]]:
    row = rejected.row
    return [
        ("topic", fetch.partition.topic),
        ("partition", str(fetch.partition.index)),
        ("offset", str(int(fetch.offsets[row]))),
        ("timestamp", str(int(fetch.timestamps[row]))),
        ("error", rejected.error),
        ("reason", rejected.reason[:_REASON_CHARACTERS_MAX]),
        ("step", rejected.step),
        *([("app", app)] if app else []),
    ]


def header_bytes(headers: Headers) -> int:
    """Bytes of names and values."""
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)
