"""State on disk against its changelogs, both read from outside after the workers were stopped in good order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, TopicPartition

from millstream.state.store import Database
from tests.scenarios.judge import reading
from tests.scenarios.orders import Job, state_directory

ASK_S = 30

Changelog = list[tuple[int, bytes, bytes | None]]
"""Offset, key and value of each record."""


@dataclass(frozen=True)
class Copy:
    """A store of one partition as one worker has it. `position`: in its changelog."""

    store: str
    partition: int
    worker: int
    position: int
    entries: Mapping[bytes, bytes]

    def __str__(self) -> str:
        return f"{self.store}/{self.partition} at worker {self.worker}, as of {self.position}"


def differences(job: Job, folder: Path, numbers: Iterable[int]) -> list[str]:
    """One text an entry that differs. Every copy a worker has, an old owner's too, must be its changelog up to the position it
    says it stands for: no more (what never committed) and no less."""
    copies = [copy for number in numbers for copy in _copies(job, folder, number)]
    assert any(copy.position > 0 for copy in copies), "no state on disk: this judge would find nothing wrong"
    changelogs: dict[tuple[str, int], Changelog] = {}
    found = []
    for copy in copies:
        place = (f"{job.app}-{copy.store}-changelog", copy.partition)
        if place not in changelogs:
            changelogs[place] = changelog(job.bootstrap, *place)
        told = compacted(changelogs[place], copy.position)
        different = [key for key in told.keys() | copy.entries.keys() if told.get(key) != copy.entries.get(key)]
        found += [f"{copy}, key {key!r}: {copy.entries.get(key)!r}, changelog {told.get(key)!r}" for key in different]
    return sorted(found)


def _copies(job: Job, folder: Path, number: int) -> Iterator[Copy]:
    """Everything a worker has on disk."""
    directory = state_directory(job, number, folder)
    try:
        for task in directory.tasks():
            database = directory.open(task)
            try:
                for store in database.store_names():
                    position = int(database.meta(f"changelog/{store}") or -1)
                    yield Copy(store, int(task.partition("/")[2]), number, position, _entries(database, store))
            finally:
                database.close()
    finally:
        directory.close()


def _entries(database: Database, store: str) -> Mapping[bytes, bytes]:
    pairs = (pair for changes in database.store(store).scan() for pair in changes.pairs())
    return {key: value for key, value in pairs if value is not None}


def compacted(records: Changelog, stop: int) -> Mapping[bytes, bytes]:
    """The newest value of each key before that offset; deleted keys are not there."""
    newest = {key: value for offset, key, value in records if offset < stop}
    return {key: value for key, value in newest.items() if value is not None}


def changelog(bootstrap: str, topic: str, index: int) -> Changelog:
    """The committed records of a partition. (Nothing has been compacted away: its only segment is the active one.)"""
    consumer, records = reading(bootstrap), Changelog()
    consumer.assign([TopicPartition(topic, index, 0)])
    at_end, until = False, time.monotonic() + ASK_S
    while not at_end:
        assert time.monotonic() < until, f"{topic}/{index}: could not be read in {ASK_S} s"
        for message in consumer.consume(10_000, 0.1):
            error = message.error()
            at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
            assert error is None or at_end, error
            if error is None:
                records.append((message.offset() or 0, bytes(message.key() or b""), message.value()))
    consumer.close()
    return records
