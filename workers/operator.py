"""A step of a pipeline: what it declares (`Step`, plain data in the graph) and what runs (`Operator`, one a task).

    graph: Step --build()--> Operator: open -> ( process* advance* flush )* -> thrown away

An operator is a plain synchronous object: no wall clock, no randomness, no waiting. It is given batches and watermarks and
gives batches. What it keeps between batches is in its `states`; after a crash or an aborted commit a new operator is built,
its states are restored, and `open` rebuilds whatever derives from them.

Event time (semantics.md section 1): rows carry `BEFORE`, the watermark of their own input partition just before them, and
lateness is judged by that column alone. `advance(W)` comes after the rows; results of closing windows are given there. The
watermark an operator passes on is `W - delay_ms`: a result's time is never below what was passed on before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..state.store import DurableState
from ..topics.batch import Batch
from ..topics.schema import Schema


@dataclass(frozen=True, slots=True)
class Emit:
    """Rows an operator gives, and on which of its outputs (0 is the main one)."""

    batch: Batch
    output: int = 0


class Context(Protocol):
    """What an operator may ask of the task it runs in."""

    @property
    def step(self) -> str:
        """The step's name in the plan."""
        ...

    @property
    def partition(self) -> int: ...

    def count(self, what: str, amount: int) -> None:
        """Adds to the step's counter, e.g. `late_rows`, `late_rows.partition_woke`. Nothing is lost silently."""
        ...

    def reject(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str]) -> None:
        """These rows of the batch cannot be worked on: a dead letter each (or a stop, by the source's policy)."""
        ...


class Operator:
    """A running step. Subclasses override `process`, and the rest where they need it."""

    delay_ms: int = 0
    """By how much the watermark is lowered when it is passed on."""

    states: Sequence[DurableState] = ()
    """What must survive a crash."""

    context: Context

    def open(self, context: Context, watermark: int) -> None:
        """After the states are restored, before the first row. `watermark`: as committed, `MIN_TIME` at the first start."""
        self.context = context

    def process(self, batch: Batch, input_index: int) -> Iterable[Emit]:
        """Rows of one input. Never called with an empty batch. What may become much more than the batch is made as it is taken;
        it is taken to its end before the operator is called again."""
        raise NotImplementedError

    def advance(self, watermark: int) -> Iterable[Emit]:
        """The watermark of the operator's input (the smallest over its inputs) has risen to this."""
        return ()

    def flush(self) -> Sequence[Emit]:
        """A commit is about to be made: give what is given once a commit (`emit="update"`)."""
        return ()


class Step(Protocol):
    """What a step is, as a value in the graph. Frozen, comparable, with no open files or threads."""

    kind: ClassVar[str]
    """The name of its file, as in YAML and in `describe`."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        """One schema an output. Raises PlanError (or SchemaError) naming the column when the inputs do not fit."""
        ...

    def build(self, inputs: Sequence[Schema]) -> Operator | AsyncOperator:
        """A fresh operator for one task."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Short texts of what it does, for `describe` and for the graph's fingerprint: stable over restarts."""
        ...


@dataclass(frozen=True, slots=True)
class StateDefinition:
    """What determines the format and the meaning of a step's state, in short texts that are the same at every start.

    Code that changes it is refused over the old state (`fingerprint.py`), so nothing else belongs in here.
    """

    parameters: Mapping[str, str]
    limits: Mapping[str, int] = field(default_factory=dict)
    """In ms. They may become smaller while state is kept, never larger: what they freed cannot come back."""


@runtime_checkable
class CoPartitioned(Protocol):
    """A step with several inputs of which equal keys must meet: all have the same number of partitions, by the same key."""

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        """The key columns of an input, in the order in which they correspond."""
        ...


@runtime_checkable
class ReadsTables(Protocol):
    """A step that looks into a table as of now: the table's inputs are read to their end before rows of the others."""

    table_inputs: ClassVar[tuple[int, ...]]


@runtime_checkable
class DefinesState(Protocol):
    """A step that tells its state from the rest of it. Of one that does not, all of `describe` counts."""

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition: ...


@dataclass(frozen=True, slots=True)
class Call:
    """Work that waits, of one row: the shell awaits `run()` and hands the outcome back.

    `key`: calls of one key are never under way together and are run in the order of the rows; None: no such order.
    """

    row: Batch
    run: Callable[[], Awaitable[Any]]
    key: bytes | None = None


class AsyncOperator:
    """A step that must wait (a model, an endpoint). It never awaits itself: it gives calls and takes their outcomes.

    Calls run beside each other up to `concurrency_max`; outcomes are handed back strictly in the order of the rows, so
    what is given is as if one had waited for each. The offset committed is that of the first row still under way;
    therefore only stateless steps may stand between such a step and its source topic. State may be changed in `complete`
    only.
    """

    concurrency_max: int = 16
    pending_rows_max: int = 1_000
    """No new input is read while so many rows wait."""

    delay_ms: int = 0
    states: Sequence[DurableState] = ()
    context: Context

    def open(self, context: Context, watermark: int) -> None:
        self.context = context

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        """One call a row, in the order of the rows."""
        raise NotImplementedError

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        """The outcome of the oldest call under way: what `run` returned, or the exception it ended with."""
        raise NotImplementedError

    def close(self) -> None:
        """The task ends: let go of what `open` took."""
