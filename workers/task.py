"""One sub-topology on one partition: fetches and ticks in, records and positions out. All of it synchronous.

    created -> states restored -> open -> ( process | tick | finished )* with prepare_commit between

A task decides nothing about transactions and waits for nothing. What it gives is kept until it is taken: sends by
`take_sends`, a commit's part by `prepare_commit`; its `states` are written to its database at a checkpoint. After a commit
that failed the task is thrown away, since its state is ahead of what is committed, and a new one is restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..state.spill import is_spilling
from ..state.store import DurableState
from ..topics.batch import MAX_TIME, MIN_TIME, Batch, Fetch, Partition, Records
from ..topics.broker import Committed
from ..topics.codec_of import codec_named
from ..topics.schema import Schema
from .commit import METADATA_BYTES_MAX, Send, TaskCommit, metadata_of, metadata_text
from .errors import InvariantError, PlanError
from .global_rows import GlobalRows
from .graph import Port
from .inputs import Input, inputs_of
from .instrument import Instrument
from .naming import changelog_topic, repartition_topic
from .operator import AsyncOperator, Operator
from .outputs import RepartitionWriter, SinkWriter
from .pieces import Piece, Pieces
from .pipeline import Pipeline, Waiting
from .rejects import Rejects
from .topology import SubTopology, Topology
from .watermark import smallest


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """A sub-topology and a partition."""

    sub: str
    partition: int

    def __str__(self) -> str:
        return f"{self.sub}_{self.partition}"


@runtime_checkable
class LooksUpGlobally(Protocol):
    """An operator that looks into a global table."""

    @property
    def global_topic(self) -> str: ...

    def bind_global(self, rows: GlobalRows) -> None: ...


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What a task needs to know of the app."""

    watermark_interval_ms: int = 1_000
    """A repartition's watermark is told to partitions without rows when it moved by so much."""
    advance_when_idle: bool = False
    """Whether event time follows the wall clock once all inputs have been caught up for `idle_after`."""
    given_rows_max: int | None = None
    """Work stops when so many rows wait to be taken (`pieces.py`); None: never."""
    spill_folder: Path | None = None
    """Where states that outgrow `join_buffer_bytes_max` have their scratch files; None: they stay in memory."""
    join_buffer_bytes_max: int = 256 << 20


class Task:
    """Raises PlanError when the steps cannot be put together."""

    def __init__(
        self, topology: Topology, sub: SubTopology, partition: int, settings: TaskSettings, instrument: Instrument
    ) -> None:
        self.id = TaskId(sub.name, partition)
        self.topology = topology
        self.sub = sub
        self.settings = settings
        self.operators = {work.name: work.step.build(_input_schemas(topology, work.inputs)) for work in sub.works}
        self.states: dict[str, DurableState] = _named_states(self.operators)
        if settings.spill_folder is not None:
            for state in filter(is_spilling, self.states.values()):
                state.spill_to(settings.spill_folder, settings.join_buffer_bytes_max)
        self.pipeline = Pipeline(sub, self.operators)
        self.pieces = Pieces(self._given_enough)
        self.inputs = {item.partition: item for item in inputs_of(topology, sub, partition)}
        tables = {partition: item for partition, item in self.inputs.items() if item.source.name in sub.table_sources}
        self._tables = tables
        self._timed = [item.time for partition, item in self.inputs.items() if partition not in tables]
        """What the watermark is made of: a table that is looked into is as of now, and holds no time back."""
        self.rejects = Rejects(topology.app, sub.sources, topology.partition_counts, instrument)
        self.instrument = instrument
        self.watermark = MIN_TIME
        self.ended = False
        self._writers = _sink_writers(topology, sub, partition)
        self._repartitions = _repartition_writers(topology, sub, partition, settings)
        self._sends: list[Send] = []
        self._committed: dict[Partition, Committed] = {}
        self._worked = False

    # -- beginning

    def bind_globals(self, tables: Mapping[str, GlobalRows]) -> None:
        """Gives steps the global tables they look into; by topic."""
        for operator in self.operators.values():
            if isinstance(operator, LooksUpGlobally):
                operator.bind_global(tables[operator.global_topic])

    def open(self, committed: Mapping[Partition, Committed]) -> None:
        """After the states were restored. `committed`: offsets to go on from, with what was kept beside them."""
        for partition, item in self.inputs.items():
            saved = metadata_of(committed.get(partition))
            item.time.load(saved)
            item.position = committed[partition].offset
            self.watermark = max(self.watermark, int(saved.get("t", MIN_TIME)))
        self.watermark = smallest(self._timed, self.watermark)
        contexts = {name: _StepContext(self, name) for name in self.operators}
        self.pipeline.open(contexts, self.watermark)
        self._committed = dict(committed)

    # -- work

    def arrived(self, fetches: Iterable[Fetch]) -> None:
        """What will be processed next, of any tasks' inputs."""
        for fetch in fetches:
            if fetch.partition in self.inputs:
                self.inputs[fetch.partition].arrived(fetch)

    def process(self, fetch: Fetch, now_ms: int) -> None:
        """Records of one of the task's inputs. What comes of them may not be all there yet: `pieces.under_way`."""
        self.pieces.do(self._process(fetch, now_ms))

    def _process(self, fetch: Fetch, now_ms: int) -> Piece:
        item = self.inputs[fetch.partition]
        if fetch.first_offset < item.position and len(fetch) and int(fetch.offsets[0]) < item.position:
            raise InvariantError(
                f"task {self.id}: {fetch.partition} is at {item.position}, got {int(fetch.offsets[0])} again"
            )
        self.rejects.reading(fetch)
        batch, rejected = item.read(fetch, now_ms)
        self.instrument.count("records_in", len(fetch), topic=fetch.partition.topic)
        if rejected:
            self.rejects.records(fetch, rejected)
        if len(batch):
            self._worked = True
            yield from self.pipeline.push(item.source.name, batch)
        yield from self._advance()
        self.rejects.read(fetch.partition)

    def push(self, partition: Partition, batch: Batch, watermark: int | None) -> None:
        """Rows of an input that were read elsewhere, and the partition's watermark after them."""
        self.pieces.do(self._push(partition, batch, watermark))

    def _push(self, partition: Partition, batch: Batch, watermark: int | None) -> Piece:
        item = self.inputs[partition]
        self._worked = True
        yield from self.pipeline.push(item.source.name, batch)
        if watermark is not None:
            item.time.saw_rows(watermark)
        yield from self._advance()

    def tick(self, now_ms: int) -> None:
        """Time has passed: partitions may have become idle."""
        self.pieces.do(self._tick(now_ms))

    def _tick(self, now_ms: int) -> Piece:
        for item in self.inputs.values():
            item.time.tick(now_ms)
        if self.settings.advance_when_idle and not self.ended:
            yield from self._follow_clock(now_ms)
        yield from self._advance()

    def _follow_clock(self, now_ms: int) -> Piece:
        """All inputs caught up for long enough: the watermark goes to the clock, less what could still come."""
        reached = now_ms
        for item in self._streams():
            follows = item.follows_clock_to(now_ms)
            if follows is None:
                return
            reached = min(reached, follows)
        for item in self._streams():
            item.time.watermark = max(item.time.watermark, reached)
        self.watermark = max(self.watermark, min(reached, MAX_TIME))
        yield from self.pipeline.advance(self.watermark)

    def _streams(self) -> list[Input]:
        return [item for partition, item in self.inputs.items() if partition not in self._tables]

    def waits(self, partition: Partition) -> bool:
        """Whether nothing is to be read of this input yet: tables are loaded before the rows that look into them."""
        return partition not in self._tables and not all(item.loaded for item in self._tables.values())

    def behind(self) -> frozenset[Partition]:
        """Inputs that may be read and of which more is there than was fetched, as far as known."""
        return frozenset(
            partition
            for partition, item in self.inputs.items()
            if item.time.caught_up_since_ms is None and not item.time.held and not self.waits(partition)
        )

    def end(self, *, outside_only: bool = False) -> None:
        """The bounded input has been read to its end: every window closes.

        `outside_only`: inputs that are repartition topics end by what their writers say.
        """
        self.ended = True
        for item in self.inputs.values():
            if not outside_only or item.time.writers is None:
                item.time.watermark, item.time.idle = MAX_TIME, False
        self.pieces.do(self._advance())

    def _advance(self) -> Piece:
        reached = smallest(self._timed, self.watermark)
        if reached > self.watermark:
            self.watermark = reached
            yield from self.pipeline.advance(reached)

    # -- calls

    def startable(self) -> list[Waiting]:
        return self.pipeline.startable()

    def finished(self, waiting: Waiting, outcome: object) -> None:
        """A call's outcome; results go on in the order of the rows."""
        self._worked = True
        self.pieces.do(self.pipeline.finished(waiting, outcome))

    @property
    def full(self) -> bool:
        return self.pipeline.full()

    @property
    def waiting_rows(self) -> int:
        return self.pipeline.pending_rows()

    # -- what is given

    def take_sends(self) -> list[Send]:
        """Records for sinks and dead letters since the last call. Repartition blocks wait for the commit, or for many rows."""
        sends = [send for name, writer in self._writers.items() for send in self._sends_of(name, writer)]
        for name, repartition in self._repartitions.items():
            if self.pieces.under_way or _rows(self.pipeline.collected.get(name, ())) >= REPARTITION_ROWS_MAX:
                sends += self._blocks_of(name, repartition, quiet=False)
        sends += self.rejects.take()
        return sends

    def _sends_of(self, name: str, writer: SinkWriter) -> list[Send]:
        batches = self.pipeline.collected.pop(name, None)
        if not batches:
            return []
        self.instrument.count("records_out", _rows(batches), topic=writer.topic)
        return writer.sends(batches)

    def _blocks_of(self, name: str, writer: RepartitionWriter, *, quiet: bool) -> list[Send]:
        node = next(node for node in self.sub.repartitions if node.name == name)
        idle = all(time.idle for time in self._timed)
        batches = self.pipeline.collected.pop(name, [])
        return writer.sends(batches, self.pipeline.watermark_at(node), idle, quiet=quiet)

    def _given_enough(self) -> bool:
        limit = self.settings.given_rows_max
        return limit is not None and sum(map(_rows, self.pipeline.collected.values())) >= limit

    def needs_commit(self) -> bool:
        """Whether anything would be lost if the task were restored from its last commit."""
        return self._worked or self._positions() != self._committed

    def prepare_commit(self) -> TaskCommit:
        """Everything of the task that goes into the next commit, changelog included."""
        if self.pieces.under_way:
            raise InvariantError(f"task {self.id} was to be committed in the middle of a batch")
        quiet = not self._worked
        self.pipeline.flush()
        sends = self.take_sends()
        for name, repartition in self._repartitions.items():
            sends += self._blocks_of(name, repartition, quiet=quiet)
        sends += self.take_changelog()
        self._committed = self._positions()
        self._worked = False
        return TaskCommit(sends, self._committed)

    def take_changelog(self) -> list[Send]:
        return [
            Send(
                Partition(changelog_topic(self.topology.app, name), self.id.partition),
                Records(changes.keys, changes.values),
                name,
            )
            for name, state in self.states.items()
            for changes in state.take_changes()
            if len(changes)
        ]

    def _positions(self) -> dict[Partition, Committed]:
        return {partition: self._position(item) for partition, item in self.inputs.items()}

    def _position(self, item: Input) -> Committed:
        pending = self.pipeline.oldest_pending(item.partition)
        saved = {**item.time.saved(), "t": self.watermark}
        if pending is not None:
            # Rows from `pending` on will be read again: their time must not have been counted yet.
            saved = metadata_of(self._committed.get(item.partition))
        text = metadata_text(saved)
        if len(text) > METADATA_BYTES_MAX:
            raise PlanError(
                f"task {self.id}: what is kept beside the offset of {item.partition} takes {len(text)} bytes, the broker "
                f"takes {METADATA_BYTES_MAX}; use fewer upstream partitions, or raise offset.metadata.max.bytes"
            )
        return Committed(item.position if pending is None else pending, text)

    def close(self) -> None:
        self.pipeline.close()


REPARTITION_ROWS_MAX = 50_000
"""Rows kept for a repartition topic before they are sent without waiting for the commit."""


class _StepContext:
    """What a step may ask of its task."""

    def __init__(self, task: Task, step: str) -> None:
        self.task = task
        self.step = step
        self.partition = task.id.partition

    def count(self, what: str, amount: int) -> None:
        self.task.instrument.count(what, amount, step=self.step)

    def reject(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str]) -> None:
        self.task.rejects.rows(batch, rows, reasons, self.step)


def _input_schemas(topology: Topology, ports: Iterable[Port]) -> list[Schema]:
    return [topology.graph.schema(port) for port in ports]


def store_names(step: str, states: Sequence[DurableState]) -> list[str]:
    """A step's only state is named as the step; of several each has its own name behind it."""
    return [step if len(states) == 1 else f"{step}-{state.name}" for state in states]


def _named_states(operators: Mapping[str, Operator | AsyncOperator]) -> dict[str, DurableState]:
    return {
        name: state
        for step, operator in operators.items()
        for name, state in zip(store_names(step, operator.states), operator.states, strict=True)
    }


def _sink_writers(topology: Topology, sub: SubTopology, partition: int) -> dict[str, SinkWriter]:
    return {
        sink.name: SinkWriter(
            sink.topic.name,
            codec_named(sink.topic.codec),
            sink.key,
            topology.partition_counts[sink.topic.name],
            partition,
        )
        for sink in sub.sinks
    }


def _repartition_writers(
    topology: Topology, sub: SubTopology, partition: int, settings: TaskSettings
) -> dict[str, RepartitionWriter]:
    return {
        node.name: RepartitionWriter(
            topic := repartition_topic(topology.app, node.name),
            node.key,
            tuple(node.schema.names),
            topology.partition_counts[topic],
            sub.name,
            partition,
            settings.watermark_interval_ms,
        )
        for node in sub.repartitions
    }


def _rows(batches: Iterable[Batch]) -> int:
    return sum(len(batch) for batch in batches)
