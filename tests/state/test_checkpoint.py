"""When a checkpoint is due, what is written, and how states come back from it and from the changelog."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.checkpoint import CheckpointClock, write
from millstream.state.errors import CorruptStoreError, DiskError
from millstream.state.restore import ChangelogTail, newest, restore
from millstream.state.settings import StateSettings
from millstream.state.store import Changes, StoreWrite
from millstream.state.stores.memory import Fault, MemoryDatabase, SimulatedCrashError

CLOCK = """
at ms    what            due after it    due at the latest
0        -               no              -
1000     commit 10       no              11000
5000     commit 10       no              11000
10999    -               no              11000
11000    -               yes             11000
11000    written         no              -
20000    commit 99       no              30000
20001    commit 1        no              30000
20002    commit 80       yes             30000
20003    written         no              -
99999    -               no              -
"""


def test_when_a_checkpoint_is_due() -> None:
    """10 s after the first commit that is not in it, or at 180 bytes."""
    clock = CheckpointClock(interval_ms=10_000, bytes_max=180)
    for line in CLOCK.strip().splitlines()[1:]:
        at, *what, due, latest = line.split()
        if what[0] == "commit":
            clock = clock.committed(int(at), int(what[1]))
        elif what[0] == "written":
            clock = clock.written()
        said = ("yes" if clock.due(int(at)) else "no", str(clock.due_at_ms() or "-"))
        assert said == (due, latest), line


def test_a_commit_without_changes_is_checkpointed_too() -> None:
    """Its offsets moved."""
    clock = CheckpointClock.of(StateSettings(checkpoint_interval_ms=50)).committed(100, 0)
    assert (clock.due(149), clock.due(150)) == (False, True)


@pytest.mark.parametrize(
    "wrong", [{"checkpoint_interval_ms": 0}, {"open_files_max": -1}, {"write_buffers_bytes": 1 << 40}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StateSettings(**wrong)


class Kept:
    """The simplest DurableState: a dict."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[bytes, bytes | None] = {}

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in (*stored, *tail):
            self.values.update(changes.pairs())

    def take_changes(self) -> list[Changes]:
        return [Changes.of(list(self.values), list(self.values.values()))]

    def take_checkpoint(self) -> StoreWrite:
        return StoreWrite(self.take_changes())


META: dict[str, bytes | None] = {"changelog": b"5", "input": b"offsets"}


def test_a_checkpoint_holds_the_states_and_what_they_stand_for() -> None:
    database, states = MemoryDatabase(), {"a": Kept("a"), "b": Kept("b")}
    states["a"].values = {b"k": b"1"}
    write(database, states, META)
    again = {"a": Kept("a"), "b": Kept("b")}
    restore(database, again, {"b": [Changes.of([b"x"], [b"2"])]})
    assert [state.values for state in again.values()] == [{b"k": b"1"}, {b"x": b"2"}]
    assert {name: database.meta(name) for name in META} == META


def test_a_database_without_a_checkpoint_stands_for_nothing() -> None:
    assert MemoryDatabase().meta("changelog") is None


@pytest.mark.parametrize(
    ("fault", "error", "there"),
    [
        (Fault.CRASH_BEFORE, SimulatedCrashError, False),
        (Fault.CRASH_AFTER, SimulatedCrashError, True),
        (Fault.DISK_FULL, DiskError, False),
        (Fault.CORRUPT, CorruptStoreError, False),
    ],
)
def test_a_fault_hits_one_write(fault: Fault, error: type[BaseException], there: bool) -> None:
    database, state = MemoryDatabase(), Kept("a")
    database.fail_next(fault)
    with pytest.raises(error):
        write(database, {"a": state}, META)
    assert (database.meta("input") is not None) == there
    write(database, {"a": state}, META)
    assert database.meta("input") == b"offsets"


RECORDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([b"x", b"y", b""]), st.none() | st.binary(max_size=2))
)


@given(RECORDS, st.integers(1, 5), st.integers(1, 60))
def test_a_folded_tail_is_the_last_of_each_key(
    records: list[tuple[str, bytes, bytes | None]], chunk: int, fold: int
) -> None:
    """However the records were cut and folded on the way; deletions are kept, the database may have the key."""
    tail = ChangelogTail(fold_bytes=fold)
    wanted: dict[str, dict[bytes, bytes | None]] = {"a": {}, "b": {}}
    for at in range(0, len(records), chunk):
        for state in "ab":
            part = [(key, value) for name, key, value in records[at : at + chunk] if name == state]
            tail.add(state, Changes.of([key for key, _ in part], [value for _, value in part]))
    for name, key, value in records:
        wanted[name][key] = value
    states = {name: Kept(name) for name in "ab"}
    restore(MemoryDatabase(), states, {name: tail.of(name) for name in states})
    assert {name: state.values for name, state in states.items()} == wanted


def test_a_tail_does_not_outgrow_the_state() -> None:
    tail = ChangelogTail(fold_bytes=1_000)
    for number in range(1_000):
        tail.add("a", Changes.of([b"%d" % (number % 10)], [b"%d" % number]))
        assert tail.size_bytes <= 2_100
    assert max(value or b"" for one in tail.of("a") for _, value in one.pairs()) == b"999"


def test_newest_of_nothing() -> None:
    assert len(newest([])) == 0
