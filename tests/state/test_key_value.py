"""KeyValueState against a dict, through commits, checkpoints, crashes at any of them, over both databases."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.state.checkpoint import write
from millstream.state.key_value import KeyValueState
from millstream.state.restore import ChangelogTail, restore
from millstream.state.store import Changes, Database
from millstream.state.stores.memory import Fault, MemoryDatabase, SimulatedCrashError

KEYS = st.sampled_from([b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff", b""])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("commit")),
        st.tuples(st.just("checkpoint"), st.sampled_from([None, Fault.CRASH_BEFORE, Fault.CRASH_AFTER])),
        st.tuples(st.just("crash")),
    ),
    max_size=25,
)


class Run:
    """What a task does with one state: a changelog, a database, a model that crashes alongside."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.changelog: list[Changes] = []
        self.model: dict[bytes, bytes] = {}
        self.committed: dict[bytes, bytes] = {}
        self.start()

    def start(self) -> None:
        self.state = KeyValueState("kv")
        at = int(self.database.meta("changelog") or b"0")
        tail = ChangelogTail()
        for changes in self.changelog[at:]:
            tail.add("kv", changes)
        restore(self.database, {"kv": self.state}, {"kv": tail.of("kv")})
        self.model = dict(self.committed)

    def put(self, key: bytes, value: bytes) -> None:
        self.state.put(key, value)
        self.model[key] = value

    def delete(self, key: bytes) -> None:
        self.state.delete(key)
        self.model.pop(key, None)

    def commit(self) -> None:
        self.changelog += self.state.take_changes()
        self.committed = dict(self.model)

    def checkpoint(self, fault: Fault | None) -> None:
        self.commit()
        if isinstance(self.database, MemoryDatabase):
            self.database.fail_next(fault)
        try:
            write(self.database, {"kv": self.state}, {"changelog": b"%d" % len(self.changelog)})
        except SimulatedCrashError:
            self.start()

    def crash(self) -> None:
        self.start()

    def check(self) -> None:
        keys = [b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff", b"", b"a"]
        assert self.state.get_many(keys) == [self.model.get(key) for key in keys]
        assert [self.state.get(key) for key in keys] == [self.model.get(key) for key in keys]
        for prefix in (b"", b"a", b"\xff", b"nothing"):
            wanted = sorted(pair for pair in self.model.items() if pair[0].startswith(prefix))
            assert list(self.state.scan_prefix(prefix, chunk_rows_max=2)) == wanted


@settings(max_examples=80)
@given(STEPS)
def test_it_is_a_dict_that_survives(steps: list[tuple]) -> None:
    run = Run(MemoryDatabase())
    for name, *arguments in steps:
        getattr(run, name)(*arguments)
        run.check()


def entries(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"%03d" % number, b"v" * number) for number in range(count)]


def test_its_memory_is_what_the_store_does_not_have() -> None:
    """Grows by writes, not by overwriting; a checkpoint brings it to nothing; reads go on."""
    run = Run(MemoryDatabase())
    for _ in range(3):
        for key, value in entries(100):
            run.put(key, value)
    size = run.state.size_bytes
    assert sum(len(key) + len(value) for key, value in entries(100)) < size < 40_000
    run.checkpoint(None)
    assert (run.state.size_bytes, dict(run.state.scan_prefix())) == (0, dict(entries(100)))


def test_what_is_written_while_a_checkpoint_is_under_way_stays() -> None:
    run = Run(MemoryDatabase())
    run.put(b"a", b"1")
    run.put(b"b", b"1")
    run.commit()
    given_away = run.state.take_checkpoint()
    run.put(b"b", b"2")
    run.delete(b"a")
    run.database.write({"kv": given_away}, {})
    run.state.checkpoint_written()
    run.check()
    run.checkpoint(None)
    run.check()


def test_the_same_object_written_again_is_still_a_change() -> None:
    """A value can be the very object the checkpoint was given."""
    run, value = Run(MemoryDatabase()), b"1"
    run.put(b"a", value)
    run.commit()
    given_away = run.state.take_checkpoint()
    run.put(b"a", value)
    run.database.write({"kv": given_away}, {})
    run.state.checkpoint_written()
    assert [changes.keys.to_pylist() for changes in run.state.take_changes()] == [[b"a"]]


def test_changes_are_the_net_ones() -> None:
    state = KeyValueState("kv")
    state.put(b"a", b"1")
    state.put(b"a", b"2")
    state.delete(b"b")
    (changes,) = state.take_changes()
    assert (changes.keys.to_pylist(), changes.values.to_pylist()) == ([b"a", b"b"], [b"2", None])
    assert state.take_changes() == []


def test_without_a_store_it_is_all_in_memory() -> None:
    state = KeyValueState("kv")
    state.restore([Changes.of([b"a", b"b"], [b"1", b"2"])], [Changes.of([b"a"], [None])])
    state.put(b"c", b"3")
    assert list(state.scan_prefix()) == [(b"b", b"2"), (b"c", b"3")]
    again = KeyValueState("kv")
    again.restore(state.take_checkpoint().changes, [])
    assert list(again.scan_prefix()) == [(b"b", b"2"), (b"c", b"3")]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_over_rocksdb_too(tmp_path_factory, steps: list[tuple]) -> None:
    from millstream.state.stores.rocksdb import RocksDatabase, RocksShared

    folder: Path = tmp_path_factory.mktemp("db")
    run = Run(RocksDatabase(folder, RocksShared()))
    for name, *arguments in steps:
        getattr(run, name)(*arguments)
    run.check()
    run.database.close()
