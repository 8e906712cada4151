"""The steps of one task, wired: rows in at the sources, rows out at the sinks, watermarks after the rows.

Rows are pushed depth first, a batch at a time; watermarks go through the steps in topological order, so that whatever a
step gives when the watermark reaches it arrives at the next step before that step's own watermark rises. A step that waits
(`AsyncOperator`) holds rows and watermarks in one queue, in their order, until the outcomes of its calls are there.

What makes rows is a `Piece` (`pieces.py`), to be worked off to its end before the next: it stops after each batch at a sink.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..topics.batch import MIN_TIME, OFFSET, Batch, Partition
from .errors import InvariantError, PlanError
from .graph import Node, Port, Repartition, Sink, Source, Work, ports_of
from .operator import AsyncOperator, Call, Context, Emit, Operator
from .pieces import Piece
from .topology import SubTopology

_UNDER_WAY = object()


@dataclass(slots=True, eq=False)
class Waiting:
    """One call of an asynchronous step, from `submit` to `complete`."""

    step: str
    call: Call
    started: bool = False
    outcome: object = _UNDER_WAY

    @property
    def done(self) -> bool:
        return self.outcome is not _UNDER_WAY


@dataclass(slots=True, eq=False)
class _Held:
    """A watermark that waits behind the rows before it."""

    watermark: int


@dataclass(slots=True)
class _Queue:
    """What an asynchronous step has not given yet, oldest first."""

    items: deque[Waiting | _Held] = field(default_factory=deque)

    def waiting(self) -> list[Waiting]:
        return [item for item in self.items if isinstance(item, Waiting)]


class Pipeline:
    """Built once a task; `open` before the first row."""

    def __init__(self, sub: SubTopology, operators: Mapping[str, Operator | AsyncOperator]) -> None:
        self.sub = sub
        self.operators = operators
        self.collected: dict[str, list[Batch]] = {}
        """Rows that reached a sink or a repartition, by its name, until they are taken."""
        self._readers = {port: sub.readers(port) for node in sub.nodes for port in _reading_ports(node)}
        self._queues = {name: _Queue() for name, op in operators.items() if isinstance(op, AsyncOperator)}
        self._passed_on = {node.name: MIN_TIME for node in sub.nodes if not isinstance(node, Sink)}
        _check_asynchronous(sub, operators)

    def open(self, contexts: Mapping[str, Context], watermark: int) -> None:
        """After restore: every step learns the watermark its predecessor had passed on."""
        for node in self.sub.nodes:
            if isinstance(node, Work):
                operator = self.operators[node.name]
                reached = self._input_watermark(node)
                operator.open(contexts[node.name], reached)
                self._passed_on[node.name] = _lowered(reached, operator.delay_ms)
            elif isinstance(node, Source):
                self._passed_on[node.name] = watermark
            elif isinstance(node, Repartition):
                self._passed_on[node.name] = self._input_watermark(node)

    # -- rows

    def push(self, source: str, batch: Batch) -> Piece:
        """Rows of a source."""
        return self._give(Port(source), batch)

    def _give(self, port: Port, batch: Batch) -> Piece:
        if len(batch) == 0:
            return
        for node, index in self._readers.get(port, ()):
            if isinstance(node, Work):
                yield from self._work(node, batch, index)
            else:
                self.collected.setdefault(node.name, []).append(batch)
                yield

    def _work(self, node: Work, batch: Batch, index: int) -> Piece:
        operator = self.operators[node.name]
        if isinstance(operator, AsyncOperator):
            calls = operator.submit(batch, index)
            self._queues[node.name].items.extend(Waiting(node.name, call) for call in calls)
        else:
            yield from self._give_all(node, operator.process(batch, index))

    def _give_all(self, node: Work, emits: Iterable[Emit]) -> Piece:
        for emit in emits:
            yield from self._give(Port(node.name, emit.output), emit.batch)

    # -- time

    def advance(self, watermark: int) -> Piece:
        """The task's watermark has risen."""
        for node in self.sub.nodes:
            if isinstance(node, Source):
                self._passed_on[node.name] = max(self._passed_on[node.name], watermark)
            elif isinstance(node, Repartition):
                self._passed_on[node.name] = self._input_watermark(node)
            elif isinstance(node, Work):
                yield from self._advance_work(node)

    def _advance_work(self, node: Work) -> Piece:
        reached = self._input_watermark(node)
        operator = self.operators[node.name]
        if _lowered(reached, operator.delay_ms) <= self._passed_on[node.name]:
            return
        if isinstance(operator, AsyncOperator):
            self._hold(node.name, reached)
            yield from self._settle(node, operator)
        else:
            yield from self._give_all(node, operator.advance(reached))
            self._passed_on[node.name] = _lowered(reached, operator.delay_ms)

    def _hold(self, name: str, watermark: int) -> None:
        """One watermark behind the last row is enough, however often it rises while calls are under way."""
        items = self._queues[name].items
        if items and isinstance(last := items[-1], _Held):
            last.watermark = max(last.watermark, watermark)
        else:
            items.append(_Held(watermark))

    def _input_watermark(self, node: Node) -> int:
        return min(self._passed_on[port.node] for port in node.inputs)

    def watermark_at(self, node: Repartition) -> int:
        """How far a repartition's rows are: what its control records say."""
        return self._passed_on[node.name]

    def flush(self) -> None:
        """A commit is about to be made. What the steps give is net, and is taken at once."""
        for node in self.sub.nodes:
            if isinstance(node, Work):
                operator = self.operators[node.name]
                if isinstance(operator, Operator):
                    deque(self._give_all(node, operator.flush()), maxlen=0)

    # -- calls

    def startable(self) -> list[Waiting]:
        """Calls that may be started now: within the step's concurrency, and none whose key has one under way."""
        return [waiting for name in self._queues for waiting in self._startable_of(name)]

    def _startable_of(self, name: str) -> list[Waiting]:
        operator = self.operators[name]
        if not isinstance(operator, AsyncOperator):
            raise InvariantError(f"step {name!r} has a queue and does not wait")
        queue = self._queues[name].waiting()
        free = operator.concurrency_max - sum(1 for waiting in queue if waiting.started and not waiting.done)
        blocked: set[bytes] = set()
        ready: list[Waiting] = []
        for waiting in queue:
            key = waiting.call.key
            if not waiting.started and (key is None or key not in blocked) and len(ready) < free:
                ready.append(waiting)
            if key is not None:
                blocked.add(key)
        return ready

    def finished(self, waiting: Waiting, outcome: object) -> Piece:
        """A call has ended: with what it returned, or with the exception it raised."""
        waiting.outcome = outcome
        node = next(work for work in self.sub.works if work.name == waiting.step)
        operator = self.operators[waiting.step]
        if not isinstance(operator, AsyncOperator):
            raise InvariantError(f"step {waiting.step!r} has a call and does not wait")
        yield from self._settle(node, operator)
        yield from self.advance(MIN_TIME)

    def _settle(self, node: Work, operator: AsyncOperator) -> Piece:
        """Gives what is complete at the head of the queue, rows and watermarks in their order."""
        items = self._queues[node.name].items
        while items:
            head = items[0]
            if isinstance(head, _Held):
                self._passed_on[node.name] = max(
                    self._passed_on[node.name], _lowered(head.watermark, operator.delay_ms)
                )
            elif head.done:
                yield from self._give_all(node, operator.complete(head.call, head.outcome))
            else:
                return
            items.popleft()

    def pending_rows(self) -> int:
        return sum(len(queue.waiting()) for queue in self._queues.values())

    def full(self) -> bool:
        """Whether a waiting step has as many rows as it may hold: read nothing more for now."""
        return any(
            len(queue.waiting()) >= operator.pending_rows_max
            for name, queue in self._queues.items()
            if isinstance(operator := self.operators[name], AsyncOperator)
        )

    def oldest_pending(self, partition: Partition) -> int | None:
        """Offset of the oldest row of the partition that still waits: nothing from there on may be committed."""
        offsets = [
            int(waiting.call.row.frame[OFFSET][0])
            for queue in self._queues.values()
            for waiting in queue.waiting()
            if waiting.call.row.origin == partition
        ]
        return min(offsets, default=None)

    def close(self) -> None:
        for operator in self.operators.values():
            if isinstance(operator, AsyncOperator):
                operator.close()


def _reading_ports(node: Node) -> Sequence[Port]:
    """A repartition's output is read in another sub-topology."""
    return () if isinstance(node, Repartition) else ports_of(node)


def _lowered(watermark: int, delay_ms: int) -> int:
    return watermark if watermark == MIN_TIME else watermark - delay_ms


def _check_asynchronous(sub: SubTopology, operators: Mapping[str, Operator | AsyncOperator]) -> None:
    """Rows before a waiting step are read again after a crash, so nothing but stateless steps may have seen them."""
    for node in sub.works:
        if not isinstance(operators[node.name], AsyncOperator):
            continue
        name = node.inputs[0].node
        while True:
            before = next(n for n in sub.nodes if n.name == name and not isinstance(n, Repartition))
            readers = [reader for port in ports_of(before) for reader in sub.readers(port)]
            if len(readers) > 1:
                raise PlanError(
                    f"step {node.name!r} waits for calls, and {before.name!r} before it is read by other steps too; "
                    "write the rows to a topic with .to(...) and read them from there"
                )
            if isinstance(before, Source):
                break
            operator = operators[before.name]
            if isinstance(operator, AsyncOperator) or operator.states or len(before.inputs) > 1:
                raise PlanError(
                    f"step {node.name!r} waits for calls, and {before.name!r} before it keeps state or waits itself; "
                    "write the rows to a topic with .to(...) and read them from there"
                )
            name = before.inputs[0].node
