"""An independent judge: reads with another client library (librdkafka), and takes the input topic itself as the truth."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import Consumer, TopicPartition

from tests.scenarios.orders import WINDOW_MS


@dataclass
class Watcher:
    """A read_committed reader of one topic from its beginning, which remembers everything."""

    bootstrap: str
    topic: str
    partitions: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"judge-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.assign([TopicPartition(self.topic, index, 0) for index in range(self.partitions)])

    def read(self, timeout_s: float = 0.1) -> int:
        """Takes what is there; how many rows are known now."""
        for message in self._consumer.consume(10_000, timeout_s):
            value = message.value()
            if message.error() is None and value is not None:
                self.rows.append(orjson.loads(value))
        return len(self.rows)

    def read_until(self, enough: Callable[[list[dict[str, Any]]], bool], deadline_s: float) -> bool:
        """Reads until it is enough; False when the deadline passed first."""
        until = time.monotonic() + deadline_s
        while not enough(self.rows):
            if time.monotonic() > until:
                return False
            self.read(0.2)
        return True

    def close(self) -> None:
        self._consumer.close()


@dataclass(frozen=True)
class Verdict:
    """What was wrong; all zero for a run without fault."""

    lost: int
    duplicated: int
    wrong: int
    out_of_order: int

    @property
    def clean(self) -> bool:
        return self == Verdict(0, 0, 0, 0)


def judge_doubled(orders: list[dict[str, Any]], doubled: list[dict[str, Any]]) -> Verdict:
    """One output an order, with the right value, in the order of each user's orders."""
    truth = {order["id"]: order["amount"] * 2 for order in orders}
    seen = Counter(row["id"] for row in doubled)
    wrong = sum(1 for row in doubled if truth.get(row["id"]) != row["twice"])
    last: dict[str, int] = {}
    out_of_order = 0
    for row in doubled:
        out_of_order += row["id"] < last.get(row["user"], -1)
        last[row["user"]] = max(row["id"], last.get(row["user"], -1))
    lost = len(truth.keys() - seen.keys())
    return Verdict(lost, sum(count - 1 for count in seen.values()), wrong, out_of_order)


def judge_sums(orders: list[dict[str, Any]], sums: list[dict[str, Any]]) -> Verdict:
    """Each closed window of each user once, with the right count and sum."""
    truth: dict[tuple[str, int], list[int]] = {}
    for order in orders:
        entry = truth.setdefault((order["user"], order["ts"] // WINDOW_MS * WINDOW_MS), [0, 0])
        entry[0] += 1
        entry[1] += order["amount"]
    seen = Counter((row["user"], row["window_start"]) for row in sums)
    wrong = sum(1 for row in sums if truth.get((row["user"], row["window_start"])) != [row["n"], row["total"]])
    # The last windows stay open: nothing later has come that would close them.
    newest = max(order["ts"] for order in orders)
    closed = {key for key in truth if key[1] + WINDOW_MS <= newest - WINDOW_MS}
    return Verdict(len(closed - seen.keys()), sum(count - 1 for count in seen.values()), wrong, 0)
