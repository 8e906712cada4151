"""Records are given in portions that fit into a transaction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import Fetch, Partition
from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.portions import STOPS_MAX, Portions
from tests.workers.machine import fetch, working


def fetched(topic: str, offsets: list[int], stop: int) -> Fetch:
    numbers = np.array(offsets, np.int64)
    values: list[bytes | None] = [b"%d" % offset for offset in offsets]
    headers = {row: (("h", b"%d" % offset),) for row, offset in enumerate(offsets) if offset % 3 == 0}
    return Fetch(
        Partition(topic, 0), offsets[0] - 1 if offsets else 0, stop, stop, values, values, numbers, numbers, headers
    )


OFFSETS = st.lists(st.integers(1, 100), unique=True, max_size=20).map(sorted)


@given(OFFSETS, OFFSETS, st.integers(1, 7))
def test_portions_are_the_same_records_in_their_order(one: list[int], other: list[int], rows_max: int) -> None:
    """Nothing twice, nothing left out, headers beside their records, positions without a gap; of two inputs the oldest first."""
    whole = [fetched("a", one, 101), fetched("b", other, 101)]
    portions = Portions(rows_max)
    left, seen = whole, []
    while left:
        given_now, left = portions.take(left)
        assert sum(map(len, given_now)) <= rows_max
        seen += given_now
    for start in whole:
        parts = [part for part in seen if part.partition == start.partition]
        assert [value for part in parts for value in part.values] == list(start.values)
        assert [offset for part in parts for offset in part.offsets] == list(start.offsets)
        assert parts[0].first_offset == start.first_offset
        assert [part.next_offset for part in parts] == [*(part.first_offset for part in parts[1:]), start.next_offset]
        assert [part.caught_up for part in parts] == [False] * (len(parts) - 1) + [True]
        for part in parts:
            told = {int(part.offsets[row]): value for row, ((_, value),) in part.headers.items()}
            assert told == {offset: b"%d" % offset for offset in part.offsets.tolist() if offset % 3 == 0}


def test_what_stops_too_often_is_cut_and_grows_again() -> None:
    portions = Portions()

    def give(rows: int, stops: int) -> int:
        portions.take([fetch(0, rows)])
        for _ in range(stops):
            portions.stopped()
        given_rows = portions.rows
        portions.ended()
        return given_rows

    assert give(50_000, STOPS_MAX) == 50_000
    assert give(50_000, 100 * STOPS_MAX) == 50_000
    assert [give(50_000, 1) for _ in range(8)] == [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 50_000]
    assert give(3, 100 * STOPS_MAX) == 3
    assert give(50_000, 0) == 1


def test_a_shard_commits_between_two_portions() -> None:
    """A batch that stopped very often: the next records are given one by one, and a commit that is due comes in between."""
    world = working()
    shard = world.coordinator.shards[0]
    shard.portions = replace(shard.portions, rows_max=1)
    world.tell(ev.Fetched([fetch(0, rows=3)]))
    given_rows = []
    for _ in range(3):
        process = world.under_way[0]
        assert isinstance(process, do.Process)
        given_rows.append(sum(map(len, process.fetches)))
        shard.portions.stops = STOPS_MAX + 1
        world.answer(0)
        world.tell(ev.Tick(world.coordinator.now_ms + 200))
        world.performed.clear()
        while world.under_way and not isinstance(world.under_way[0], do.Process):
            world.answer(0)
        assert "CommitTransaction" in world.performed
    assert given_rows == [1, 1, 1]
