"""Groups come back as they were, from the database, the changelog's tail, or both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.checkpoint import write
from millstream.state.groups import GroupState
from millstream.state.restore import restore
from millstream.state.slots import Accumulator
from millstream.state.store import Changes
from millstream.state.stores.memory import MemoryDatabase
from millstream.workers.reducers.collect import Collect
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum


def accumulators() -> list[Accumulator]:
    return [Count().accumulator(None), Sum("v").accumulator(pl.Int64()), Collect("v").accumulator(pl.Int64())]


def state() -> GroupState:
    return GroupState("groups", accumulators)


ROW = st.tuples(st.sampled_from(["", "ada", "bob", "čeněk"]), st.integers(-5, 5), st.integers(-(10**12), 10**12))
STEP = st.sampled_from(["commit", "checkpoint", "crash"]) | st.lists(ROW, min_size=1, max_size=5)


def add(groups: GroupState, rows: Sequence[tuple[str, int, int]]) -> None:
    keys, values, times = zip(*rows, strict=True)
    column = pl.Series(values, dtype=pl.Int64)
    groups.add(pl.Series(keys, dtype=pl.String), [None, column, column], np.array(times, np.int64))


class Disk:
    """A task's database and changelog, as a worker keeps them: a checkpoint only of what is committed."""

    def __init__(self) -> None:
        self.groups, self.database, self.changelog, self.written = state(), MemoryDatabase(), list[Changes](), 0

    def commit(self) -> None:
        self.changelog += self.groups.take_changes()

    def checkpoint(self) -> None:
        write(self.database, {"groups": self.groups}, {})
        self.written = len(self.changelog)

    def crash(self) -> None:
        self.groups = state()
        restore(self.database, {"groups": self.groups}, {"groups": self.changelog[self.written :]})


@given(st.lists(STEP, max_size=25))
def test_whatever_happens_the_groups_are_those_of_the_committed_rows(
    steps: list[str | list[tuple[str, int, int]]],
) -> None:
    disk, committed, pending = Disk(), list[tuple[str, int, int]](), list[tuple[str, int, int]]()
    for step in [*steps, "commit", "crash"]:
        if isinstance(step, list):
            add(disk.groups, step)
            pending += step
        elif step == "crash":
            disk.crash()
            pending = []
        else:
            disk.commit()
            committed, pending = committed + pending, []
            if step == "checkpoint":
                disk.checkpoint()
    disk.crash()
    assert everything(disk.groups) == expected(committed)


def everything(groups: GroupState) -> dict[str, tuple[int, int, int, list[int]]]:
    """All groups, made to be given by an update of none of their values."""
    groups._flags.touch(np.flatnonzero(groups._latest.columns[0] > np.iinfo(np.int64).min))
    rows = groups.take_updates()
    if rows is None:
        return {}
    columns = [rows.times.tolist(), *(result.to_list() for result in rows.results)]
    return dict(zip(rows.keys.to_list(), zip(*columns, strict=True), strict=True))


def expected(rows: Sequence[tuple[str, int, int]]) -> dict[str, tuple[int, int, int, list[int]]]:
    found = {}
    for key in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == key]
        in_time = [row[1] for row in sorted(mine, key=lambda row: row[2])]
        found[key] = (max(row[2] for row in mine), len(mine), sum(row[1] for row in mine), in_time)
    return found


def test_only_what_changed_is_given_told_and_saved() -> None:
    groups = state()
    add(groups, [("ada", 1, 10), ("bob", 2, 20)])
    assert len(groups.take_updates() or ()) == 2
    assert groups.take_updates() is None
    add(groups, [("ada", 1, 5)])
    rows = groups.take_updates()
    assert rows is not None
    assert (rows.keys.to_list(), rows.times.tolist(), rows.results[0].to_list()) == (["ada"], [10], [2])
    assert [len(changes) for changes in groups.take_changes()] == [2]
    assert groups.take_changes() == []
    assert [len(changes) for changes in groups.take_checkpoint().changes] == [2]
    assert list(groups.take_checkpoint().changes) == []
