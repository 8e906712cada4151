"""The newest row of each key is found, whatever was put, deleted, restored and forgotten before."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state import key_codes
from millstream.state.rows import NO_ROW, TableState
from millstream.state.store import Changes
from millstream.workers.row_bytes import RowBytes

COLUMNS = {"id": pl.String(), "n": pl.Int64(), "text": pl.String()}


def fresh() -> TableState:
    return TableState("t", COLUMNS, RowBytes(COLUMNS))


def put(state: TableState, writes: list[tuple[str, int | None]]) -> None:
    """None: a tombstone."""
    keys = [key for key, _ in writes]
    rows = pl.DataFrame(
        {
            "id": keys,
            "n": [number for _, number in writes],
            "text": [None if number is None or number % 3 == 0 else f"é{number}" for _, number in writes],
        },
        schema=COLUMNS,
    )
    state.put(pl.Series(keys, dtype=pl.String), rows, np.array([number is None for _, number in writes]))


def found(state: TableState, keys: list[str]) -> list[int | None]:
    return state.get_many(pl.Series(keys, dtype=pl.String))["n"].to_list()


def content(state: TableState) -> dict[str, tuple[int, str | None]]:
    keys, rows = state.scan()
    assert rows["id"].to_list() == keys.to_list()
    return {key: (n, text) for key, (_, n, text) in zip(keys, rows.iter_rows(), strict=True)}


@dataclass
class Stored:
    """What a task would hold of the state outside of it."""

    database: dict[bytes, bytes] = field(default_factory=dict)
    tail: list[Changes] = field(default_factory=list)

    def commit(self, state: TableState) -> None:
        self.tail += state.take_changes()

    def checkpoint(self, state: TableState) -> None:
        for changes in state.take_checkpoint().changes:
            for key, value in changes.pairs():
                if value is None:
                    self.database.pop(key, None)
                else:
                    self.database[key] = value
        self.tail = []

    def restored(self) -> TableState:
        state = fresh()
        items = sorted(self.database.items())
        state.restore([Changes.of([key for key, _ in items], [value for _, value in items])], self.tail)
        return state


WRITES = st.lists(st.tuples(st.sampled_from([f"k{n}" for n in range(12)]), st.none() | st.integers(0, 99)), min_size=1)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(WRITES, st.sampled_from(["", "commit", "checkpoint", "crash"])), max_size=12))
def test_equals_a_dict(steps: list[tuple[list[tuple[str, int | None]], str]]) -> None:
    """After any puts and deletes, commits, checkpoints and crashes the rows are those of a dict."""
    state, stored = fresh(), Stored()
    now: dict[str, int] = {}
    committed: dict[str, int] = {}
    for writes, then in steps:
        put(state, writes)
        for key, number in writes:
            if number is None:
                now.pop(key, None)
            else:
                now[key] = number
        if then in {"commit", "checkpoint"}:
            stored.commit(state)
            committed = dict(now)
        if then == "checkpoint":
            stored.checkpoint(state)
        if then == "crash":
            state, now = stored.restored(), dict(committed)
        asked = [*[f"k{n}" for n in range(12)], "never"]
        assert found(state, asked) == [now.get(key) for key in asked]
        assert {key: number for key, (number, _) in content(state).items()} == now
        assert len(state) == len(now)


def test_of_several_of_one_key_the_last_counts() -> None:
    state = fresh()
    put(state, [("a", 1), ("a", None), ("b", 2), ("b", None), ("a", 4)])
    assert content(state) == {"a": (4, "é4")}


def test_nothing_is_found_in_an_empty_table() -> None:
    state = fresh()
    assert found(state, ["a", "b"]) == [None, None]
    assert state.find(pl.Series(["a"])).tolist() == [NO_ROW]
    assert state.take_changes() == []


def test_replaced_rows_do_not_stay() -> None:
    """One key written for ever takes the memory of a few rows."""
    state = fresh()
    for number in range(5_000):
        put(state, [("a", number)])
    assert sum(len(chunk.codes) for chunk in state._chunks) < 2_100


def test_keys_that_were_only_asked_for_are_forgotten(monkeypatch) -> None:
    """The dictionary does not grow with the keys of a stream that looks for partners."""
    monkeypatch.setattr(key_codes, "_DEAD_CODES_MIN", 64)
    state = fresh()
    put(state, [("a", 1), ("b", 2), ("gone", 3)])
    put(state, [("gone", None)])
    for start in range(0, 5_000, 50):
        found(state, [f"asked{n}" for n in range(start, start + 50)])
        assert state._codes.size < 250
    put(state, [("c", 4)])
    assert found(state, ["a", "b", "c", "gone"]) == [1, 2, 4, None]
    (changes,) = state.take_changes()
    told = {key: value is None for key, value in changes.pairs()}
    assert told == {b"a": False, b"b": False, b"c": False, b"gone": True}


@settings(deadline=None, max_examples=100)
@given(st.lists(WRITES, max_size=12), st.lists(st.integers(0, 99), max_size=6))
def test_rows_are_found_by_another_column(puts: list[list[tuple[str, int | None]]], wanted: list[int]) -> None:
    """All living rows with one of the values, each once, in the order in which they were put."""
    state = fresh()
    now: dict[str, int] = {}
    for writes in puts:
        put(state, writes)
        for key, number in writes:
            now.pop(key, None)
            if number is not None:
                now[key] = number
    numbers = state.where("n", pl.Series(wanted, dtype=pl.Int64))
    assert sorted(state.rows(numbers)["id"]) == sorted(key for key, number in now.items() if number in wanted)
    assert numbers.tolist() == sorted(set(numbers.tolist()))
