"""A batch that becomes very many rows is given, and sent, bit by bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from millstream.topics.batch import Fetch, Partition
from millstream.topics.broker import Committed
from millstream.workers.app import App
from millstream.workers.errors import InvariantError
from millstream.workers.instrument import Silent
from millstream.workers.pieces import Piece, Pieces
from millstream.workers.task import Task, TaskSettings


def test_a_piece_stops_when_there_is_enough_and_goes_on_later() -> None:
    """In order, one at a time: a second piece begins when the first has ended."""
    given: list[str] = []
    pieces = Pieces(lambda: len(given) >= 2)

    def piece(name: str) -> Piece:
        for number in range(3):
            given.append(f"{name}{number}")
            yield

    pieces.do(piece("a"))
    pieces.do(piece("b"))
    seen = []
    while pieces.under_way:
        seen.append([*given])
        given.clear()
        pieces.go_on()
    assert [*seen, given] == [["a0", "a1"], ["a2", "b0"], ["b1", "b2"], []]


HOT = {"user": "string", "n": "int", "ts": "timestamp_ms"}


def hot_task(rows: int, given_rows_max: int | None) -> Iterator[Task]:
    """A join of `rows` rows of one key on either side, before the right ones are given, and after."""
    app = App("hot")
    left, right = (app.stream(app.topic(name, HOT, key="user", event_time="ts")) for name in ("left", "right"))
    left.interval_join(right, on="user", lower="-1h", upper="1h").to(app.topic("pairs"))
    topology = app.plan()
    task = Task(topology, topology.subs[0], 0, TaskSettings(given_rows_max=given_rows_max), Silent())
    for state in task.states.values():
        state.restore((), ())
    task.open({partition: Committed(0) for partition in task.inputs})
    numbers = np.arange(rows, dtype=np.int64)
    values: list[bytes | None] = [orjson.dumps({"user": "hot", "n": number, "ts": number}) for number in range(rows)]
    keys: list[bytes | None] = [b"hot"] * rows
    for topic in ("left", "right"):
        task.process(Fetch(Partition(topic, 0), 0, rows, rows, keys, values, numbers, numbers), 0)
        yield task


def sent(rows: int, given_rows_max: int | None) -> Iterator[list[bytes | None]]:
    """What the shell would send, before it has the task go on."""
    for task in hot_task(rows, given_rows_max):
        while task.pieces.under_way:
            yield [value for send in task.take_sends() for value in send.records.values.to_pylist()]
            task.pieces.go_on()
        yield [value for send in task.take_sends() for value in send.records.values.to_pylist()]


def test_pairs_of_a_hot_key_are_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them once, in the same order as at one go, never many more at a time than was said."""
    monkeypatch.setattr("millstream.workers.operators.interval_join._PAIRS_MAX", 700)
    whole, parts = list(sent(100, None)), list(sent(100, 1_000))
    assert [len(part) for part in whole] == [0, 10_000]
    assert [value for part in parts for value in part] == whole[1]
    assert max(map(len, parts)) < 1_000 + 700


def test_no_commit_in_the_middle_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.workers.operators.interval_join._PAIRS_MAX", 700)
    for task in hot_task(100, 1_000):
        if task.pieces.under_way:
            with pytest.raises(InvariantError, match="in the middle of a batch"):
                task.prepare_commit()
            return
    raise AssertionError("the task never stopped")


def growth(rows: str, given_rows_max: str) -> int:
    """Most anonymous memory above that at the start, in bytes; "0": all pairs at one go."""
    limit = int(given_rows_max) or None
    begun = peak()
    pairs = 0
    for task in hot_task(int(rows), limit):
        while True:
            stopped = task.pieces.under_way
            pairs += sum(len(send.records) for send in task.take_sends())
            if not stopped:
                break
            task.pieces.go_on()
    assert pairs == int(rows) ** 2
    return peak() - begun


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def test_memory_of_a_hot_key_is_bounded() -> None:
    """Four million pairs of two thousand rows on either side; without the limit they are all in memory at once."""
    limited, unlimited = (
        int(
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import sys; from {__name__} import growth; print(growth(*sys.argv[1:]))",
                    "2000",
                    limit,
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for limit in ("100000", "0")
    )
    assert limited < 160 << 20
    assert unlimited > 400 << 20
