"""Workers that do it wrongly: the same harness must see it, or it proves nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.consumer import MemoryGroupConsumer
from millstream.topics.memory.producer import MemoryProducer
from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.known_offsets import KnownOffsets
from tests.crashes.enumeration import killed_once, wrong_runs
from tests.crashes.pipelines import BY_NAME
from tests.crashes.process import Connection, CrashingWorker
from tests.crashes.world import Faulty, bounded, run, shared, zombie


class WritesBeforeTheCommit(CrashingWorker):
    """State goes to the database when it is prepared, not when it is committed."""

    async def performed(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        if isinstance(instruction, do.CommitTransaction):
            self._runtimes[instruction.shard]._write_checkpoint()
        return await super().performed(instruction)


def test_state_written_before_the_commit_gives_wrong_sums() -> None:
    faulty = Faulty(worker=WritesBeforeTheCommit)
    said = killed_once(BY_NAME["windows, final"], bounded, only="writing", faulty=faulty)
    assert any("windows: wrong" in one for one in said)


class SendsAheadOfItsOffsets(CrashingWorker):
    """What is computed while a commit is under way goes into that commit, whose offsets do not know of it."""

    async def performed(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        event = await super().performed(instruction)
        if isinstance(event, ev.Acknowledged) and event.ahead is not None:
            await self._runtimes[instruction.shard]._send(begin=False)
        return event


def test_a_batch_computed_ahead_and_sent_at_once_gives_results_twice() -> None:
    said = killed_once(BY_NAME["rows"], bounded, faulty=Faulty(worker=SendsAheadOfItsOffsets))
    assert any("twice" in one for one in said)


class CheckpointsAhead(CrashingWorker):
    """State goes to the database after its commit, but with what was computed while that was under way."""

    async def performed(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        event = await super().performed(instruction)
        if isinstance(event, ev.Prepared):
            return replace(event, checkpoint_due=False)
        if isinstance(event, ev.CommitDone):
            self._runtimes[instruction.shard]._write_checkpoint()
        return event


def test_a_checkpoint_with_a_batch_computed_ahead_gives_wrong_sums() -> None:
    said = killed_once(BY_NAME["windows, final"], bounded, faulty=Faulty(worker=CheckpointsAhead))
    assert any("windows: wrong" in one for one in said)


class NamesOfItsOwn(Connection):
    """Each process has transactional ids of its own, so nobody is fenced."""

    def producer(self, *, transactional_id: str | None = None) -> MemoryProducer:
        return super().producer(transactional_id=transactional_id and f"{transactional_id}.{id(self)}")


def test_without_fencing_a_zombie_writes_its_results_a_second_time() -> None:
    case = BY_NAME["rows"]
    points = run(case, shared).processes[0].points
    sent = [at for at, p in enumerate(points) if (p.what[:6], p.when) == ("AwaitA", "after") and p.nth == 1]
    runs = [Faulty(freezes={0: at}, connection=NamesOfItsOwn) for at in sent]
    assert any("twice" in one for one in wrong_runs(case, zombie, runs, must_crash=False))
    fenced = [replace(faulty, connection=Connection) for faulty in runs]
    assert wrong_runs(case, zombie, fenced, must_crash=False) == []


def test_at_least_once_repeats_some_results_and_loses_none() -> None:
    said = killed_once(BY_NAME["rows"], bounded, faulty=Faulty(settings={"guarantee": "at_least_once"}))
    assert any("twice" in one for one in said)
    assert not any("lost" in one or "wrong" in one for one in said)


class _Forgetful(MemoryGroupConsumer):
    """Answers as a coordinator that is still loading looks to a client that does not check for errors."""

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        await super().committed(partitions)
        return {}


class ForgetsOffsets(Connection):
    """Its consumers find no committed offset."""

    def consumer(self, **options: Any) -> MemoryGroupConsumer:
        return self.noted(_Forgetful(self._cluster, **{"isolation": "read_committed", **options}))


@pytest.mark.parametrize(("pipeline", "what"), [("rows", "twice"), ("windows, update", "wrong")])
def test_committed_offsets_that_are_not_found_give_results_twice_and_wrong_sums(pipeline: str, what: str) -> None:
    faulty = Faulty(connection=ForgetsOffsets, settings={"checkpoint_interval_ms": 60_000})
    assert any(what in one for one in killed_once(BY_NAME[pipeline], bounded, at_most=30, faulty=faulty))


class _ForgetfulForAMoment(MemoryGroupConsumer):
    """A coordinator that was elected twice while it loaded: what is asked of it first, when there is something, it has forgotten."""

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        told = await super().committed(partitions)
        if not told or vars(self).setdefault("_forgot", False):
            return told
        self._forgot = True
        return {}


class ForgetsForAMoment(Connection):
    """Its consumers are told once that there is no committed offset."""

    def consumer(self, **options: Any) -> MemoryGroupConsumer:
        return self.noted(_ForgetfulForAMoment(self._cluster, **{"isolation": "read_committed", **options}))


@pytest.mark.parametrize(("pipeline", "what"), [("rows", "twice"), ("windows, update", "wrong")])
def test_offsets_that_were_acknowledged_are_asked_for_again_when_they_are_not_told(
    pipeline: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard is taken again in the same process, which knows what it has committed. Without that knowledge: wrong."""
    rare = {"checkpoint_interval_ms": 60_000}
    runs = [
        Faulty(connection=ForgetsForAMoment, settings=rare, prepare=partial(_lose_produce, nth))
        for nth in range(4, 20, 2)
    ]
    assert wrong_runs(BY_NAME[pipeline], bounded, runs, must_crash=False) == []
    monkeypatch.setattr(KnownOffsets, "check", lambda known, told: None)
    assert any(what in one for one in wrong_runs(BY_NAME[pipeline], bounded, runs, must_crash=False))


def _lose_produce(nth: int, broker: MemoryBroker) -> None:
    broker.faults.lose("produce", nth, "after")


def test_at_least_once_tells_a_contradiction_twice() -> None:
    said = killed_once(BY_NAME["contradictions"], bounded, faulty=Faulty(settings={"guarantee": "at_least_once"}))
    assert any("contradictions: twice" in one for one in said)
    assert not any("lost" in one for one in said)
