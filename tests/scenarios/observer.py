"""What is seen from outside while a run goes on: outputs as they become visible, committed offsets, who owns what.

Two threads of another client library. Times are seconds since the observer was made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.scenarios.judge import SILENT, Verdict, Watcher, end_of, reading
from tests.scenarios.orders import Job

SAMPLE_S = 0.2
ASK_S = 10
_PAUSE_S = 0.02


@dataclass(frozen=True)
class Backwards:
    """A committed offset below one seen before."""

    at_s: float
    partition: int
    before: int
    after: int


class Observer:
    """Reads `totals` and `sums` beside the run, and samples the group's committed offsets."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun = time.monotonic()
        self.totals = Watcher(job.bootstrap, f"{job.app}.totals", job.partitions)
        self.sums = Watcher(job.bootstrap, f"{job.app}.sums", job.partitions)
        self.seen_at: list[float] = []
        """When each row of `totals` was seen."""
        self.latest: dict[int, int] = {}
        """Offset of the last row of `totals` seen, by partition."""
        self.committed: dict[int, int] = {}
        self.backwards: list[Backwards] = []
        self._different: set[int] = set()
        self._asking = reading(job.bootstrap, job.app)
        self._ends = reading(job.bootstrap)
        self._admin = AdminClient({"bootstrap.servers": job.bootstrap, "log_level": SILENT})
        self._over = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._sample)]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        return time.monotonic() - self.begun

    @property
    def outputs(self) -> int:
        """Orders whose output was seen, each counted once."""
        return len(self._different)

    def wait(self, outputs: int, stall_s: float) -> bool:
        """Until so many orders have come out; False when nothing new came for so long."""
        waiting, before, until = threading.Event(), -1, 0.0
        while self.outputs < outputs:
            if self.outputs > before:
                before, until = self.outputs, self.now() + stall_s
            if self.now() > until:
                return False
            waiting.wait(_PAUSE_S)
        return True

    def wait_sums(self, enough: Callable[[list[dict[str, Any]]], bool], deadline_s: float) -> bool:
        """Until what was seen of `sums` is enough."""
        return self._wait(lambda: enough(self.sums.rows), deadline_s)

    def wait_committed(self, ends: Mapping[int, int], deadline_s: float) -> bool:
        """Until the sampled offsets are there."""
        return self._wait(lambda: all(self.committed.get(index, 0) >= end for index, end in ends.items()), deadline_s)

    def _wait(self, done: Callable[[], bool], deadline_s: float) -> bool:
        waiting, until = threading.Event(), self.now() + deadline_s
        while not done():
            if self.now() > until:
                return False
            waiting.wait(SAMPLE_S)
        return True

    def stop(self) -> None:
        """Ends the threads; what was seen stays. Both topics are read to their ends first."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.totals.read_to_end(ASK_S)
        self.sums.read_to_end(ASK_S)
        for consumer in (self.totals, self.sums, self._asking, self._ends):
            consumer.close()

    def visible_ends(self) -> dict[int, int]:
        """The last stable offset of `totals` by partition: what becomes visible from there on was committed later."""
        return {index: end_of(self._ends, TopicPartition(self.totals.topic, index)) for index in self._partitions()}

    def owned_by(self, instance: str) -> set[int]:
        """Partitions of the input the group has given to this static member."""
        told = self._admin.describe_consumer_groups([self.job.app])[self.job.app].result(ASK_S)
        return {
            owned.partition
            for member in told.members
            if member.group_instance_id == instance and member.assignment is not None
            for owned in member.assignment.topic_partitions
            if owned.topic == f"{self.job.app}.orders"
        }

    def commit_verdict(self, ends: Mapping[int, int]) -> Verdict:
        """`ends`: of the input. To be asked after everything was worked off."""
        self._sample_once()
        behind = sum(self.committed.get(index, 0) != end for index, end in ends.items() if end)
        return Verdict(went_back=len(self.backwards) + behind)

    def _partitions(self) -> range:
        return range(self.job.partitions)

    def _read(self) -> None:
        while not self._over.is_set():
            before = len(self.totals.rows)
            self.totals.read(0.02)
            self.sums.read(0)
            at = self.now()
            fresh = self.totals.rows[before:]
            self.seen_at += [at] * len(fresh)
            self.latest.update(self.totals.places[before:])
            self._different.update(row["id"] for row in fresh)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._sample_once()

    def _sample_once(self) -> None:
        asked = [TopicPartition(f"{self.job.app}.orders", index) for index in self._partitions()]
        try:
            told: list[Any] = self._asking.committed(asked, ASK_S)
        except KafkaException:  # a broker that is away; the next sample is as good
            return
        for answer in told:
            before = self.committed.get(answer.partition, 0)
            if answer.error is not None:
                continue
            offset = max(answer.offset, 0)
            if offset < before:
                self.backwards.append(Backwards(self.now(), answer.partition, before, offset))
            self.committed[answer.partition] = offset
