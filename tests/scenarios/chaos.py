"""A run under kills: orders are produced in portions, workers are killed at random moments in between, the judge decides.

Moments are chosen by progress (so many outputs seen), never by a clock, so a slow machine sees the same run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.scenarios.judge import Verdict, Watcher, judge_doubled, judge_sums
from tests.scenarios.orders import PARTITIONS, STEP_MS, USERS
from tests.scenarios.processes import Workers

STALL_S = 90.0
"""Longest wait for progress; far beyond session timeout and restart."""


@dataclass(frozen=True)
class Outcome:
    """What the judge found."""

    doubled: Verdict
    sums: Verdict
    kills: int

    @property
    def clean(self) -> bool:
        return self.doubled.clean and self.sums.clean


class Run:
    """One app under chaos. `portion`: orders produced between two disturbances."""

    def __init__(self, bootstrap: str, app: str, guarantee: str, folder: Path, *, portion: int, seed: int) -> None:
        self.bootstrap, self.app = bootstrap, app
        self.portion = portion
        self.random = random.Random(seed)
        self.workers = Workers("tests.scenarios.orders", folder, [bootstrap, app, guarantee])
        topics = [NewTopic(f"{app}.{name}", PARTITIONS, 1) for name in ("orders", "doubled", "sums")]
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics(topics).values():
            future.result()
        # Idempotent: without it a retry of this client may change the order of a user's orders before they are even read.
        sending = {"partitioner": "murmur2_random", "linger.ms": 5, "enable.idempotence": True}
        self.producer = Producer({"bootstrap.servers": bootstrap, **sending})
        self.doubled = Watcher(bootstrap, f"{app}.doubled", PARTITIONS)
        self.sums = Watcher(bootstrap, f"{app}.sums", PARTITIONS)
        self.produced = 0
        self.kills = 0

    def produce(self, count: int | None = None) -> None:
        """The next orders; the events' time goes on by `STEP_MS` each."""
        for number in range(self.produced, self.produced + (count or self.portion)):
            user = f"user-{self.random.randrange(USERS)}"
            order = {"id": number, "user": user, "amount": self.random.randrange(1000), "ts": number * STEP_MS}
            self.producer.produce(f"{self.app}.orders", orjson.dumps(order), user)
            self.producer.poll(0)
        self.produced += count or self.portion
        self.producer.flush()

    def wait_for(self, share: float) -> None:
        """Until this share of what was produced has come out (counted once each)."""
        wanted = int(self.produced * share)
        if not self.doubled.read_until(lambda rows: len({row["id"] for row in rows}) >= wanted, STALL_S):
            raise AssertionError(f"no progress to {wanted} of {self.produced} in {STALL_S} s\n{self.workers.logs()}")

    def kill_one(self) -> None:
        """A random worker, at a random point of the portion, and starts it again."""
        victim = self.random.choice(self.workers.running())
        self.workers.kill(victim)
        self.kills += 1
        self.workers.start(victim)

    def rounds(self, count: int, disturb: Callable[[], None]) -> None:
        """Produce a portion, let some of it come out, disturb; `count` times."""
        for _ in range(count):
            before = self.produced
            self.produce()
            self.wait_for((before + self.portion * self.random.random() * 0.8) / self.produced)
            disturb()

    def finish(self) -> Outcome:
        """Everything comes out; the judge's verdict against the input topic itself."""
        self.wait_for(1.0)
        orders = self._orders()
        self.sums.read_until(lambda rows: not judge_sums(orders, rows).lost, 30)
        for watcher in (self.doubled, self.sums):
            watcher.read(2.0)
            watcher.close()
        return Outcome(judge_doubled(orders, self.doubled.rows), judge_sums(orders, self.sums.rows), self.kills)

    def _orders(self) -> list[dict[str, Any]]:
        watcher = Watcher(self.bootstrap, f"{self.app}.orders", PARTITIONS)
        assert watcher.read_until(lambda rows: len(rows) >= self.produced, STALL_S)
        watcher.close()
        return watcher.rows
