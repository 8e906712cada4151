"""An independent judge: reads with another client library (librdkafka), and takes the input topic itself as the truth."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.scenarios.orders import WINDOW_MS

ASKED_MAX = 100

SILENT = 0
"""Of librdkafka's log: brokers that are away are what these runs are about."""

Place = tuple[int, int]
"""Partition and offset."""


def reading(bootstrap: str, group: str | None = None) -> Consumer:
    """A read_committed consumer that never commits."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or f"judge-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            "enable.partition.eof": True,
            "log_level": SILENT,
        }
    )


@dataclass
class Watcher:
    """A read_committed reader of one topic from its beginning, which remembers everything."""

    bootstrap: str
    topic: str
    partitions: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    """Of each row."""

    def __post_init__(self) -> None:
        self._consumer = reading(self.bootstrap)
        self._ends: dict[int, int] = {}
        self._consumer.assign([TopicPartition(self.topic, index, 0) for index in range(self.partitions)])

    def read(self, timeout_s: float = 0.1) -> int:
        """Takes what is there; how many rows are known now."""
        for message in self._consumer.consume(10_000, timeout_s):
            place, value, error = (message.partition() or 0, message.offset() or 0), message.value(), message.error()
            if error is None and value is not None:
                self.rows.append(orjson.loads(value))
                self.places.append(place)
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._ends[place[0]] = place[1]
        return len(self.rows)

    def read_until(self, enough: Callable[[list[dict[str, Any]]], bool], deadline_s: float) -> bool:
        """Reads until it is enough; False when the deadline passed first."""
        until = time.monotonic() + deadline_s
        while not enough(self.rows):
            if time.monotonic() > until:
                return False
            self.read(0.2)
        return True

    def read_to_end(self, deadline_s: float) -> bool:
        """Reads to the last stable offset as it is now; False when the deadline passed first."""
        ends = {index: end_of(self._consumer, TopicPartition(self.topic, index)) for index in range(self.partitions)}
        until = time.monotonic() + deadline_s
        while any(self._ends.get(index, 0) < end for index, end in ends.items()):
            if time.monotonic() > until:
                return False
            self.read(0.2)
        return True

    def close(self) -> None:
        self._consumer.close()


def end_of(consumer: Consumer, partition: TopicPartition) -> int:
    """The last stable offset. A topic that was just made may have no leader yet: then it is asked again."""
    for _ in range(ASKED_MAX):
        try:
            ends = consumer.get_watermark_offsets(partition, timeout=30, cached=False)
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            consumer.poll(0.1)
        else:
            assert ends is not None, f"{partition}: no answer"
            return int(ends[1])
    raise AssertionError(f"{partition} has no leader")


@dataclass(frozen=True)
class Verdict:
    """What was wrong; all zero for a run without fault."""

    lost: int = 0
    """Inputs, or closed windows, without their output."""
    duplicated: int = 0
    wrong: int = 0
    """Outputs with another value than recomputed record by record."""
    out_of_order: int = 0
    vanished: int = 0
    """Rows a concurrent reader saw that are not there later, or are there and it did not see."""
    went_back: int = 0
    """Committed offsets, sampled during the run, below an earlier one; or not at the input's end when all is done."""
    stores_wrong: int = 0
    """Entries of a store on disk that differ from its compacted changelog."""

    @property
    def clean(self) -> bool:
        return self == Verdict()

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


def judge_totals(orders: Iterable[Mapping[str, Any]], totals: Iterable[Mapping[str, Any]]) -> Verdict:
    """One output an order, with the user's totals up to this order, in the order of each user's orders.

    `orders` in the order of their partitions, which is that of each user's.
    """
    truth = _running(orders)
    outputs = list(totals)
    seen = Counter(row["id"] for row in outputs)
    wrong = sum(1 for row in outputs if truth.get(row["id"]) != (row["n"], row["total"]))
    last: dict[str, int] = {}
    out_of_order = 0
    for row in outputs:
        out_of_order += row["id"] < last.get(row["user"], -1)
        last[row["user"]] = max(row["id"], last.get(row["user"], -1))
    lost = len(truth.keys() - seen.keys())
    return Verdict(lost, sum(count - 1 for count in seen.values()), wrong, out_of_order)


def _running(orders: Iterable[Mapping[str, Any]]) -> dict[int, tuple[int, int]]:
    """Number and sum of its user's orders up to each order."""
    by_user: dict[str, tuple[int, int]] = {}
    truth: dict[int, tuple[int, int]] = {}
    for order in orders:
        n, total = by_user.get(order["user"], (0, 0))
        truth[order["id"]] = by_user[order["user"]] = (n + 1, total + order["amount"])
    return truth


def judge_sums(orders: Iterable[Mapping[str, Any]], sums: Iterable[Mapping[str, Any]]) -> Verdict:
    """Each closed window of each user once, with the right count and sum."""
    truth: dict[tuple[str, int], list[int]] = {}
    newest = 0
    for order in orders:
        entry = truth.setdefault((order["user"], order["ts"] // WINDOW_MS * WINDOW_MS), [0, 0])
        entry[0] += 1
        entry[1] += order["amount"]
        newest = max(newest, order["ts"])
    outputs = list(sums)
    seen = Counter((row["user"], row["window_start"]) for row in outputs)
    wrong = sum(1 for row in outputs if truth.get((row["user"], row["window_start"])) != [row["n"], row["total"]])
    # The last windows stay open: nothing later has come that would close them.
    closed = {key for key in truth if key[1] + WINDOW_MS <= newest - WINDOW_MS}
    return Verdict(len(closed - seen.keys()), sum(count - 1 for count in seen.values()), wrong)


def judge_readers(concurrent: Iterable[Place], afterwards: Iterable[Place]) -> Verdict:
    """A reader beside the run saw exactly what one sees afterwards, each row once."""
    seen, there = Counter(concurrent), Counter(afterwards)
    return Verdict(vanished=sum((seen - there).values()) + sum((there - seen).values()))
