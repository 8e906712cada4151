"""What a foreign-key join gives is brought into order again, however late each of the ways is that its rows take.

The step that sends, the joins of three partitions, and the step that brings their results together are run by hand here: on each way rows
keep their order, as in a repartition topic, and nothing else is promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from millstream.topics.batch import BEFORE, DELETED, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Operator
from millstream.workers.operators.foreign_key_join import ForeignKeyJoin
from millstream.workers.operators.newest import Newest, NewestOperator
from millstream.workers.operators.rekey import SEQUENCE, Rekey
from tests.oracles.tables import foreign_key_join

LEFT = Schema.of({"id": "string", "ref": "string", "n": "int"})
RIGHT = Schema.of({"id": "string", "r": "int"})
REFS = ["r0", "r1", "r2"]


class Nowhere:
    """A context that wants to hear of nothing."""

    step = "test"
    partition = 0

    def count(self, what: str, amount: int) -> None:
        raise AssertionError(what)

    def reject(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str]) -> None:
        raise AssertionError(reasons)


def opened(operator: Any) -> Operator:
    for state in operator.states:
        state.restore((), ())
    operator.open(Nowhere(), MIN_TIME)
    assert isinstance(operator, Operator)
    return operator


def rows(given: Sequence[dict[str, Any]], schema: Schema) -> Batch:
    frame = pl.DataFrame(
        [{name: row.get(name) for name in schema.names} for row in given], schema=schema.polars(), orient="row"
    )
    gone = [bool(row.get("gone")) for row in given]
    return Batch(
        frame.with_columns(
            *(pl.lit(0, pl.Int64).alias(name) for name in (TIME, BEFORE, OFFSET)), pl.Series(DELETED, gone)
        )
    )


class Ways:
    """`how`: of the join. `newest=False`: the control, without the step that brings the ways together."""

    def __init__(self, how: Any, *, newest: bool = True) -> None:
        join = ForeignKeyJoin(("id",), ("ref",), ("id",), how)
        self.rekey = opened(Rekey(("id",), ("ref",)).build([LEFT]))
        sent = Schema((*LEFT.columns, (SEQUENCE, pl.Int64())))
        self.joins = [opened(join.build([sent, RIGHT])) for _ in range(3)]
        self.ways: list[deque[Batch]] = [deque() for _ in self.joins]
        (joined,) = join.output_schemas([sent, RIGHT])
        self.newest = opened(Newest(("id",)).build([joined]))
        if not newest:
            assert isinstance(self.newest, NewestOperator)
            self.newest._accepted = lambda keys, numbers, deleted: np.arange(len(keys))  # type: ignore[method-assign]
        self.table: dict[str, dict[str, Any]] = {}

    def left(self, row: dict[str, Any]) -> None:
        for emit in self.rekey.process(rows([row], LEFT), 0):
            for (ref,), part in emit.batch.frame.group_by("ref", maintain_order=True):
                at = REFS.index(str(ref)) if ref in REFS else 0
                self.joins[at].process(Batch(part), 0)

    def right(self, row: dict[str, Any]) -> None:
        self.joins[REFS.index(row["id"])].process(rows([row], RIGHT), 1)

    def commit(self, at: int) -> None:
        self.ways[at].extend(emit.batch for emit in self.joins[at].flush())

    def arrive(self, at: int) -> None:
        if self.ways[at]:
            for emit in self.newest.process(self.ways[at].popleft(), 0):
                for row in emit.batch.frame.iter_rows(named=True):
                    if row.get(DELETED):
                        self.table.pop(row["id"], None)
                    else:
                        self.table[row["id"]] = {name: row[name] for name in ("id", "ref", "n", "r")}

    def end(self) -> None:
        for at in range(len(self.joins)):
            self.commit(at)
        while any(self.ways):
            for at in reversed(range(len(self.joins))):
                self.arrive(at)


ORDER = st.tuples(st.sampled_from(["a", "b"]), st.none() | st.sampled_from(REFS), st.integers(0, 9), st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        ORDER.map(lambda one: ("left", {"id": one[0], "ref": one[1], "n": one[2], "gone": one[3] == 0})),
        st.tuples(st.sampled_from(REFS), st.none() | st.integers(0, 9)).map(
            lambda one: ("right", {"id": one[0], "r": one[1], "gone": one[1] is None})
        ),
        st.tuples(st.sampled_from(["commit", "arrive"]), st.integers(0, 2)),
    ),
    max_size=40,
)


def play(ways: Ways, steps: Sequence[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """What should be in the table at the end."""
    sides: dict[str, dict[str, dict[str, Any]]] = {"left": {}, "right": {}}
    for what, given_ in steps:
        getattr(ways, what)(given_)
        if what in sides:
            row = {name: value for name, value in given_.items() if name != "gone"}
            if given_["gone"]:
                sides[what].pop(row["id"], None)
            else:
                sides[what][row["id"]] = row
    ways.end()
    return sides


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["inner", "left"]), STEPS)
def test_whatever_way_is_late_the_table_is_the_join(how: Any, steps: list[tuple[str, Any]]) -> None:
    ways = Ways(how)
    sides = play(ways, steps)
    assert ways.table == foreign_key_join(sides["left"], sides["right"], how)


def overtaken(*, newest: bool) -> dict[str, dict[str, Any]]:
    """A row moves from r2 to r0; what is told of r2 arrives after what is told of r0."""
    ways = Ways("inner", newest=newest)
    for ref in REFS:
        ways.right({"id": ref, "r": 1})
    ways.left({"id": "a", "ref": "r2", "n": 1})
    ways.commit(2)
    ways.left({"id": "a", "ref": "r0", "n": 2})
    for at in range(3):
        ways.commit(at)
    for at in (0, 2, 2):
        ways.arrive(at)
    return ways.table


def test_a_row_that_was_overtaken_changes_nothing() -> None:
    assert overtaken(newest=True) == {"a": {"id": "a", "ref": "r0", "n": 2, "r": 1}}


def test_negative_control_without_the_numbers_the_row_is_lost() -> None:
    assert overtaken(newest=False) == {}
