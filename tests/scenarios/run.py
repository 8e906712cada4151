"""One app under a steady load, with hands to disturb it. What is done is written down; the judge decides at the end.

run = Run(job, folder, rate=1_500, seed=7)
with run:
    run.begin(0, 1, 2)              # workers, then load; returns when results come
    run.kill(run.random.choice(run.workers.running()))
    run.let_pass(2_000)             # moments are chosen by progress, never by a clock
outcome = run.finish("kills")       # inside the with
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.scenarios.judge import SILENT, Verdict, Watcher, end_of, judge_readers, judge_sums, judge_totals, reading
from tests.scenarios.load import Load
from tests.scenarios.observer import Observer
from tests.scenarios.orders import Job
from tests.scenarios.outcome import Kill, Mark, Outcome, Seen, recoveries, stalls, throughput
from tests.scenarios.processes import Workers
from tests.scenarios.stores import differences

STALL_S = 100.0
"""Longest wait for progress; far beyond session timeout, fault and restart together."""
LOST_S = 20.0
"""The same for what a negative control may have lost."""
ASK_S = 30
NOTES_MAX = 5
"""Differing entries that are told in full."""


class Run:
    """`program`: the module of the worker processes, with its first arguments."""

    def __init__(
        self, job: Job, folder: Path, *, rate: int, seed: int, program: tuple[str, ...] = ("tests.scenarios.orders",)
    ) -> None:
        self.job, self.folder = job, folder
        self.random = random.Random(seed)
        self.workers = Workers(program[0], folder, [*program[1:], job.text()])
        admin = AdminClient({"bootstrap.servers": job.bootstrap, "log_level": SILENT})
        nodes = len(admin.list_topics(timeout=ASK_S).brokers)
        names = [f"{job.app}.{name}" for name in ("orders", "totals", "sums")]
        for future in admin.create_topics([NewTopic(name, job.partitions, min(nodes, 3)) for name in names]).values():
            future.result()
        self.load = Load(job.bootstrap, names[0], rate, seed)
        self.observer = Observer(job)
        self.marks: list[Mark] = []
        self.kills: list[Kill] = []
        self.notes: list[str] = []
        self._numbers: set[int] = set()

    def __enter__(self) -> Self:
        self.workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.load.stop_now()
        self.workers.__exit__(kind, error, trace)

    # -- the course of events

    def begin(self, *numbers: int) -> None:
        self.start(*numbers)
        self.load.start()
        self.let_pass(1)

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.workers.start(number)
            self._numbers.add(number)

    def let_pass(self, outputs: int) -> None:
        """Until so many more orders have come out. Raises AssertionError when nothing comes for `STALL_S`."""
        if not self.observer.wait(self.observer.outputs + outputs, STALL_S):
            raise AssertionError(f"no progress in {STALL_S} s\n{self.workers.logs()}")

    def let_some_pass(self, at_most: int) -> None:
        self.let_pass(self.random.randrange(1, at_most))

    def owned(self, number: int) -> set[int]:
        return self.observer.owned_by(f"{self.job.app}-{number}")

    def a_worker(self) -> int:
        """Any that runs, which may just be starting."""
        return self.random.choice(self.workers.running())

    def a_working_worker(self) -> int:
        """One whose results have been seen since it was last started; waits for one."""
        self._until(lambda: bool(self._working()), "a worker at work")
        return self.random.choice(self._working() or self.workers.running())

    def _working(self) -> list[int]:
        """Of a worker that was killed, each partition must have come further than it was."""
        latest, started_at = self.observer.latest, {kill.worker: kill.visible for kill in self.kills}
        return [
            number
            for number in self.workers.running()
            if (owned := self.owned(number))
            and all(latest.get(index, -1) >= started_at.get(number, {}).get(index, 0) for index in owned)
        ]

    def kill(self, number: int, *, restart: bool = True) -> None:
        """`kill -9`; the same worker again at once, or not at all."""
        owned = self.owned(number)
        at_s = self.observer.now()
        self.workers.kill(number)
        if restart:
            self.workers.start(number)
        self.kills.append(Kill(at_s, number, frozenset(owned), self.observer.visible_ends(), restart))
        self.mark("kill" if restart else "kill, not restarted", f"worker {number}", at_s)

    def mark(self, kind: str, detail: str = "", at_s: float | None = None) -> None:
        self.marks.append(Mark(self.observer.now() if at_s is None else at_s, kind, detail))

    @contextmanager
    def lasting(self, kind: str, detail: str = "") -> Iterator[None]:
        """A fault from here to the end of the block."""
        at_s = self.observer.now()
        yield
        self.marks.append(Mark(at_s, kind, detail, self.observer.now()))

    def wait_handed_over(self, partitions: Iterable[int], giver: int) -> None:
        """Until the group has given these partitions to other workers and they are working on them."""
        wanted, others = set(partitions), self._numbers - {giver}
        self._until(lambda: wanted <= {index for other in others for index in self.owned(other)}, "handing over")

    def wait_committed(self, partitions: Iterable[int]) -> None:
        """Until the committed offset of each of them has moved."""
        before = {index: self.observer.committed.get(index, 0) for index in partitions}
        committed = self.observer.committed
        self._until(lambda: all(committed.get(index, 0) > at for index, at in before.items()), "commits")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        """Asked again at the pace of the load."""
        for _ in range(int(STALL_S * 10)):
            if done():
                return
            self.load.wait_sent(self.load.rate // 10, STALL_S)
        raise AssertionError(f"{what}: not in {STALL_S} s\n{self.workers.logs()}")

    # -- the end

    def finish(self, name: str, *, stores: bool = True) -> Outcome:
        """Stops the load, lets everything come out, stops the workers in good order; the verdict against the input itself.

        `stores`: whether state on disk is compared with its changelogs, too; False for a negative control.
        """
        self.load.stop()
        orders = self._orders()
        self.observer.wait(len(orders), STALL_S if stores else LOST_S)
        self.observer.wait_sums(lambda rows: not judge_sums(orders, rows).lost, ASK_S)
        verdict = self._commit_verdict()
        self._stop_workers()
        self.observer.stop()
        for watcher in (self.observer.totals, self.observer.sums):
            verdict += judge_readers(watcher.places, self._afterwards(watcher))
        verdict += judge_totals(orders, self.observer.totals.rows) + judge_sums(orders, self.observer.sums.rows)
        if stores:
            different = differences(self.job, self.folder, self._numbers)
            self.notes += different[:NOTES_MAX]
            verdict += Verdict(stores_wrong=len(different))
        return self._outcome(name, len(orders), verdict)

    def _outcome(self, name: str, records: int, verdict: Verdict) -> Outcome:
        places = zip(self.observer.totals.places, self.observer.seen_at, strict=False)
        seen = [Seen(partition, offset, at_s) for (partition, offset), at_s in places]
        logs = "" if verdict.clean else self.workers.logs()
        outcome = Outcome(name, records, verdict, self.marks, self.kills, notes=self.notes, logs=logs)
        return replace(
            outcome,
            recoveries_s=recoveries([kill for kill in self.kills if kill.restarted], seen),
            failovers_s=recoveries([kill for kill in self.kills if not kill.restarted], seen),
            stalls=stalls(seen),
            throughput=throughput(seen),
        )

    def _commit_verdict(self) -> Verdict:
        """Commits follow the last outputs by an interval at most: asked until they are there or time is up."""
        consumer = reading(self.job.bootstrap)
        ends = {
            index: end_of(consumer, TopicPartition(f"{self.job.app}.orders", index))
            for index in range(self.job.partitions)
        }
        consumer.close()
        self.observer.wait_committed(ends, ASK_S)
        return self.observer.commit_verdict(ends)

    def _stop_workers(self) -> None:
        """All at once; one that had ended by itself is found here."""
        numbers = self.workers.started()
        for number in numbers:
            self.workers.wait_joined(number)  # before, it has no handler for SIGTERM
        statuses = self.workers.stop(*numbers)
        assert not any(statuses), f"exit statuses {statuses} of workers {numbers}\n{self.workers.logs()}"

    def _orders(self) -> list[dict[str, object]]:
        watcher = Watcher(self.job.bootstrap, f"{self.job.app}.orders", self.job.partitions)
        assert watcher.read_to_end(STALL_S), "the input could not be read"
        watcher.close()
        return watcher.rows

    def _afterwards(self, watcher: Watcher) -> list[tuple[int, int]]:
        again = Watcher(self.job.bootstrap, watcher.topic, self.job.partitions)
        assert again.read_to_end(STALL_S), f"{watcher.topic} could not be read"
        again.close()
        return again.places
