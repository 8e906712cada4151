"""Rows from a command line, a file or stdin as records: values as they are, keys taken out of them where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..topics.batch import Partition, Records
from .errors import InputError

if TYPE_CHECKING:
    from ..topics.broker import Broker, Producer

BATCH_RECORDS_MAX: Final = 5_000
LINE_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """A record to be."""

    key: bytes | None
    value: bytes


def row_of_argument(text: str) -> Row:
    """`alice:{"page": "/"}` is a key and a value; what begins like JSON is a value without a key."""
    key, colon, value = text.partition(":")
    if not colon or text.lstrip()[:1] in {"{", "[", '"'}:
        return Row(None, text.encode())
    return Row(key.encode(), value.encode())


def rows_of_lines(lines: Iterable[bytes], key: Sequence[str], place: str) -> Iterator[Row]:
    """A value a line, empty lines left out. `key`: fields of the JSON value that make the key. Raises InputError with the line."""
    for number, line in enumerate(lines, 1):
        value = line.strip(b"\r\n")
        if len(value) > LINE_BYTES_MAX:
            raise InputError(f"{place}:{number}: the line has {len(value)} bytes, at most {LINE_BYTES_MAX} are taken")
        if value.strip():
            yield Row(key_of(value, key, f"{place}:{number}") if key else None, value)


def key_of(value: bytes, key: Sequence[str], place: str) -> bytes | None:
    """As the engine writes keys: the UTF-8 of one text, else a compact JSON array; null for one field that is null."""
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error}), so it has no {key[0]!r} for the key") from None
    if not isinstance(row, dict):
        raise InputError(
            f"{place}: expected a JSON object for --key {','.join(key)}, got {value[:60].decode(errors='replace')}"
        )
    missing = [name for name in key if name not in row]
    if missing:
        raise InputError(f"{place}: no field {missing[0]!r} for the key; fields are {', '.join(row)}")
    parts: list[Any] = [row[name] for name in key]
    if len(parts) == 1 and (parts[0] is None or isinstance(parts[0], str)):
        return None if parts[0] is None else parts[0].encode()
    return orjson.dumps(parts)


async def send(broker: Broker, topic: str, partitions: int, rows: Iterable[Row]) -> int:
    """Sends all rows, waits for every acknowledgement, and gives their number. Rows without a key go round."""
    producer = broker.producer()
    await producer.start()
    sent, left = 0, iter(rows)
    try:
        while batch := list(islice(left, BATCH_RECORDS_MAX)):
            await _send_batch(producer, topic, partitions, batch, sent)
            sent += len(batch)
    finally:
        await producer.stop()
    return sent


async def _send_batch(producer: Producer, topic: str, partitions: int, rows: Sequence[Row], before: int) -> None:
    by_partition: dict[int, list[Row]] = {}
    for row, index in zip(rows, targets(rows, partitions, before), strict=True):
        by_partition.setdefault(index, []).append(row)
    waiting = [await producer.send(Partition(topic, index), _records(chosen)) for index, chosen in by_partition.items()]
    for acknowledged in waiting:
        await acknowledged


def targets(rows: Sequence[Row], partitions: int, before: int = 0) -> list[int]:
    """The partition of each row: by its key as Java's client does, else in turn. `before`: rows already sent."""
    import pyarrow as pa

    from ..topics.partitioner import murmur2_partitions

    keyed = murmur2_partitions(pa.array([row.key or b"" for row in rows], pa.large_binary()), partitions)
    return [
        (before + number) % partitions if row.key is None else int(keyed[number]) for number, row in enumerate(rows)
    ]


def _records(rows: Sequence[Row]) -> Records:
    import pyarrow as pa

    keys = pa.array([row.key for row in rows], pa.large_binary())
    return Records(
        keys if keys.null_count < len(keys) else None, pa.array([row.value for row in rows], pa.large_binary())
    )
