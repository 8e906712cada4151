"""A source: what is outside Kafka, as records of a topic. One source, one file in `sources/`.

    source.run(remembered) -> SourceBatch, SourceBatch, ...        pump: send -> acknowledged -> remember -> the next

A source remembers where it is as a map of texts and says with each batch of records what changes in it. The pump remembers a
change only when its records are acknowledged: after a crash some records come twice, none is lost. What a source gives must
therefore bear repetition: records of a compacted topic, keyed by what they are about, do.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import orjson
import pyarrow as pa

from .batch import Partition, Records
from .broker import Producer
from .errors import ConfigurationError, RecordTooLargeError
from .partitioner import murmur2_partitions

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Records by key (a null value: it is gone), and what the source wants remembered once they are written."""

    records: Sequence[tuple[bytes, bytes | None]]
    remember: Mapping[str, str | None] = field(default_factory=dict)
    """Changes of what is remembered; None: forget."""


class Source(Protocol):
    """Reads from outside. May be run again after it ended with an error, with what is remembered by then."""

    def run(self, remembered: Mapping[str, str]) -> AsyncIterator[SourceBatch]:
        """First what changed since `remembered`, then what changes, for ever."""
        ...


class Memory(Protocol):
    """Where a source's map is kept."""

    def load(self) -> dict[str, str]: ...

    def save(self, changes: Mapping[str, str | None]) -> None:
        """All or nothing, durable when it returns."""
        ...


class FileMemory:
    """In a JSON file, written aside and renamed. Lost, the source gives everything again, but no deletion that it missed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] | None = None

    def load(self) -> dict[str, str]:
        """Raises ConfigurationError when the file is not one of ours."""
        if self._values is None:
            self._values = self._read()
        return dict(self._values)

    def save(self, changes: Mapping[str, str | None]) -> None:
        values = self.load() | {name: value for name, value in changes.items() if value is not None}
        values = {name: value for name, value in values.items() if changes.get(name, "") is not None}
        aside = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(orjson.dumps(values, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        self._values = values

    def _read(self) -> dict[str, str]:
        try:
            values = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(
                f"{self._path}: not a source's memory ({error}); remove it to start anew"
            ) from None
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ConfigurationError(f"{self._path}: not a source's memory; remove it to start anew")
        return values


async def pump(source: Source, producer: Producer, topic: str, partitions: int, memory: Memory) -> None:
    """Runs a source into a topic until it is cancelled. The producer is started, and not transactional.

    A record too large for the broker is left out, with a log line. Raises what the source, the producer or the memory raise.
    """
    async for batch in source.run(memory.load()):
        await _send(producer, topic, partitions, batch.records)
        memory.save(batch.remember)


async def _send(producer: Producer, topic: str, partitions: int, records: Sequence[tuple[bytes, bytes | None]]) -> None:
    if not records:
        return
    keys = pa.array([key for key, _ in records], pa.large_binary())
    targets = murmur2_partitions(keys, partitions).tolist()
    sent = []
    for (key, value), index in zip(
        records, targets, strict=True
    ):  # one by one: the size of one is not another's trouble
        one = Records(pa.array([key], pa.large_binary()), pa.array([value], pa.large_binary()))
        sent.append(asyncio.ensure_future(_acknowledged(producer, Partition(topic, index), one)))
    await asyncio.gather(*sent)


async def _acknowledged(producer: Producer, partition: Partition, records: Records) -> None:
    try:
        await (await producer.send(partition, records))
    except RecordTooLargeError as error:
        _LOG.warning("%s: %r is left out: %s", partition.topic, records.keys and records.keys[0].as_py(), error)
