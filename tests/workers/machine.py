"""A world for the coordinator: performs its instructions as a shell would, one at a time a shard, each answered by one event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from millstream.topics.batch import Fetch, Partition
from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.coordinator import Coordinator, Instruction
from millstream.workers.input_wait import TaskInputs
from millstream.workers.shard import ShardRules

RULES = ShardRules(exactly_once=True, commit_interval_ms=100, tick_interval_ms=50)


def fetch(shard: int, rows: int = 1, topic: str = "in") -> Fetch:
    numbers = np.arange(rows, dtype=np.int64)
    return Fetch(Partition(topic, shard), 0, rows, rows, [None] * rows, [b"{}"] * rows, numbers, numbers)


COMMIT_STEPS: dict[type[do.CommitStep], type[ev.CommitStepDone]] = {
    do.AwaitAcknowledgements: ev.Acknowledged,
    do.SendOffsets: ev.OffsetsSent,
    do.CommitTransaction: ev.CommitDone,
    do.CommitOffsets: ev.CommitDone,
}


class World:
    """Performs instructions as a shell would: one at a time a shard, each answered by one event."""

    def __init__(self, rules: ShardRules = RULES) -> None:
        self.coordinator = Coordinator(rules)
        self.under_way: dict[int, do.ShardInstruction] = {}
        self.performed: list[str] = []
        self.said: list[str] = []
        self.dirty: set[int] = set()
        self.without_checkpoint: set[int] = set()
        """Shards whose commits are followed by none."""
        self.halves: set[int] = set()
        """Shards whose next batch stops in the middle, until what it gave is sent."""
        self.behind: set[int] = set()
        """Shards whose task has a second input, `other`, that is not caught up."""
        self.checkpoint_at_ms: int | None = None
        """What commits say of it."""

    def tell(self, *events: object) -> None:
        for event in events:
            self._take(self.coordinator.handle(event))  # type: ignore[arg-type]

    def _take(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, do.ShardInstruction):
                self.under_way[instruction.shard] = instruction
            else:
                self.said.append(type(instruction).__name__)

    def answer(self, shard: int) -> None:
        """The instruction under way succeeds."""
        instruction = self.under_way.pop(shard)
        self.performed.append(type(instruction).__name__)
        self.tell(self.outcome(instruction))

    def fail(self, shard: int, failure: ev.Failure) -> None:
        instruction = self.under_way.pop(shard)
        self.tell(ev.Failed(shard, instruction.epoch, failure))

    def outcome(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        shard, epoch = instruction.shard, instruction.epoch
        match instruction:
            case do.Process():
                if instruction.fetches:
                    self.dirty.add(shard)
                more = bool(instruction.fetches) and self._stops(shard)
                sends, inputs = len(instruction.fetches), self._inputs(shard)
                return ev.Processed(shard, epoch, sends, dirty=shard in self.dirty, more=more, inputs=inputs)
            case do.Resume():
                return ev.Resumed(shard, epoch, self._inputs(shard))
            case do.Prepare():
                prepared = ev.Prepared(shard, epoch, shard in self.dirty, shard not in self.without_checkpoint)
                self.dirty.discard(shard)
                return prepared
            case do.CommitStep() if instruction.ahead:
                self.dirty.add(shard)
                more, inputs = self._stops(shard), self._inputs(shard)
                worked = ev.Processed(shard, epoch, len(instruction.ahead), dirty=True, more=more, inputs=inputs)
                return COMMIT_STEPS[type(instruction)](shard, epoch, worked)
            case do.CommitStep():
                done = COMMIT_STEPS[type(instruction)](shard, epoch)
                at_ms = self.checkpoint_at_ms
                return replace(done, checkpoint_at_ms=at_ms) if isinstance(done, ev.CommitDone) else done
        simple = {
            do.StartProducer: ev.ProducerReady,
            do.ReadPositions: ev.Positioned,
            do.Restore: ev.Restored,
            do.SendOutbox: ev.Sent,
            do.WriteCheckpoint: ev.CheckpointWritten,
            do.Drop: ev.Dropped,
            do.Close: ev.Dropped,
        }
        if isinstance(instruction, do.Drop):
            self.dirty.discard(shard)
        return simple[type(instruction)](shard, epoch)

    def _inputs(self, shard: int) -> tuple[TaskInputs, ...]:
        own, other = Partition("in", shard), Partition("other", shard)
        return (TaskInputs(frozenset({own, other}), frozenset({other})),) if shard in self.behind else ()

    def _stops(self, shard: int) -> bool:
        stops = shard in self.halves
        self.halves.discard(shard)
        return stops

    def settle(self, rounds_max: int = 1_000) -> None:
        for _ in range(rounds_max):
            if not self.under_way:
                return
            self.answer(next(iter(self.under_way)))
        raise AssertionError(f"never settles: {self.under_way}")


def working(rules: ShardRules = RULES, shards: frozenset[int] = frozenset({0})) -> World:
    world = World(rules)
    world.tell(ev.Assigned(shards, 1))
    world.settle()
    return world
