"""What every `Database` and its stores promise (state/store.py), over RocksDB and over memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.state.settings import StateSettings
from millstream.state.store import Changes, Database, KeyRange, Store, StoreWrite
from millstream.state.stores.memory import MemoryDatabases
from millstream.state.stores.rocksdb import BATCH_KEYS_MAX, RocksDatabase, RocksShared

MIB = 1 << 20
ALL = KeyRange(b"")
SMALL = StateSettings(block_cache_bytes=4 * MIB, write_buffers_bytes=2 * MIB, store_write_buffer_bytes=MIB)


class Disk:
    """Opens databases; `reopen` is a restart."""

    def __init__(self, open_database: Callable[[str], Database]) -> None:
        self._open = open_database
        self._opened: list[Database] = []
        self._names = 0

    def new(self) -> Database:
        self._names += 1
        return self._keep(f"shop-0/{self._names}")

    def reopen(self, database: Database) -> Database:
        self.forget(database)
        return self._keep(f"shop-0/{self._names}")

    def forget(self, database: Database) -> None:
        database.close()
        self._opened.remove(database)

    def close(self) -> None:
        for database in self._opened:
            database.close()

    def _keep(self, name: str) -> Database:
        self._opened.append(self._open(name))
        return self._opened[-1]


@pytest.fixture(params=["rocksdb", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    shared, memory = RocksShared(SMALL), MemoryDatabases()

    def on_disk(name: str) -> Database:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        return RocksDatabase(tmp_path / name, shared)

    made = Disk(on_disk if request.param == "rocksdb" else memory.open)
    yield made
    made.close()


def put(**entries: bytes | None) -> StoreWrite:
    return StoreWrite([Changes.of([key.encode() for key in entries], list(entries.values()))])


def held(store: Store, keys: KeyRange = ALL, chunk_rows_max: int = 10_000) -> list[tuple[bytes, bytes]]:
    chunks = store.scan(keys, chunk_rows_max=chunk_rows_max)
    return [(key, value or b"") for chunk in chunks for key, value in chunk.pairs()]


def test_a_new_database_is_empty(disk: Disk) -> None:
    database = disk.new()
    store = database.store("a")
    assert (store.name, store.get(b"x"), store.get_many([b"x", b"y"]), store.get_many([])) == (
        "a",
        None,
        [None] * 2,
        [],
    )
    assert (held(store), database.meta("input"), database.store_names()) == ([], None, ["a"])


def test_what_is_written_is_read_from_its_store_only(disk: Disk) -> None:
    """Stores are apart, meta entries too; a name not seen before is made by the write."""
    database = disk.new()
    database.write({"a": put(k=b"1"), "b": put(k=b"2", other=b"")}, {"k": b"3"})
    assert [database.store(name).get(b"k") for name in "ab"] == [b"1", b"2"]
    assert (database.store("b").get(b"other"), database.store("a").get(b"other")) == (b"", None)
    assert (database.meta("k"), database.store_names()) == (b"3", ["a", "b"])


def test_a_restart_finds_what_was_written(disk: Disk) -> None:
    database = disk.new()
    database.write({"a": put(k=b"1"), "b": put(k=b"2")}, {"input": b"17"})
    database = disk.reopen(database)
    assert (database.store_names(), database.meta("input")) == (["a", "b"], b"17")
    assert [held(database.store(name)) for name in "ab"] == [[(b"k", b"1")], [(b"k", b"2")]]


def test_of_several_writes_of_a_key_the_last_counts(disk: Disk) -> None:
    """Also within one write, and within one column; a null deletes."""
    database = disk.new()
    first = Changes.of([b"a", b"a", b"b", b"c"], [b"1", b"2", b"3", b"4"])
    database.write({"s": StoreWrite([first, Changes.of([b"b", b"c", b"c"], [None, None, b"5"])])}, {})
    assert held(database.store("s")) == [(b"a", b"2"), (b"c", b"5")]


def test_ranges_are_deleted_before_the_changes(disk: Disk) -> None:
    database = disk.new()
    database.write({"s": put(a=b"1", b=b"2", c=b"3", d=b"4")}, {})
    database.write({"s": StoreWrite([Changes.of([b"bb"], [b"new"])], [KeyRange(b"b", b"d")])}, {})
    assert held(database.store("s")) == [(b"a", b"1"), (b"bb", b"new"), (b"d", b"4")]


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (KeyRange(b""), []),
        (KeyRange(b"b"), [b"a"]),
        (KeyRange(b"b", b"b"), [b"a", b"b", b"\xff\xff"]),
        (KeyRange(b"c", b"a"), [b"a", b"b", b"\xff\xff"]),
        (KeyRange(b"a", b"b"), [b"b", b"\xff\xff"]),
        (KeyRange(b"", b"\xff\xff"), [b"\xff\xff"]),
    ],
)
def test_bounds_of_a_deleted_range(disk: Disk, keys: KeyRange, left: list[bytes]) -> None:
    """The start is in it, the stop is not; no stop: to the end; nothing between them: nothing."""
    database = disk.new()
    database.write({"s": StoreWrite([Changes.of([b"a", b"b", b"\xff\xff"], [b"1"] * 3)])}, {})
    database.write({"s": StoreWrite(deleted=[keys])}, {})
    assert [key for key, _ in held(database.store("s"))] == left


def test_a_scan_sees_the_store_as_it_was(disk: Disk) -> None:
    """What is written after the call is not seen, not even before the first chunk was taken."""
    database = disk.new()
    database.write({"s": put(a=b"1", b=b"2", c=b"3")}, {})
    chunks = database.store("s").scan(chunk_rows_max=1)
    database.write({"s": put(a=None, b=b"9", d=b"4")}, {})
    assert [chunk.values.to_pylist() for chunk in chunks] == [[b"1"], [b"2"], [b"3"]]


@pytest.mark.parametrize("length", [2, 16, 200])
def test_a_scan_ends_where_its_range_did_although_that_is_gone(disk: Disk, length: int) -> None:
    """RocksDB keeps the address of the end and no copy; the keys read, as long as it was, would come to stand there."""
    database = disk.new()
    keys = [bytes([first]) + bytes([second]) * (length - 1) for first in range(1, 5) for second in range(50)]
    database.write({"s": StoreWrite([Changes.of(keys, keys)])}, {})
    chunks = database.store("s").scan(KeyRange(keys[10], bytes(bytearray(keys[170]))), chunk_rows_max=1)
    assert [key for chunk in chunks for key, _ in chunk.pairs()] == keys[10:170]


def test_get_many_keeps_the_order_asked_for(disk: Disk) -> None:
    database = disk.new()
    database.write({"s": put(a=b"1", b=b"2", c=b"3")}, {})
    assert database.store("s").get_many([b"c", b"x", b"a", b"c", b""]) == [b"3", None, b"1", b"3", None]


def test_meta_entries_are_deleted_by_none(disk: Disk) -> None:
    database = disk.new()
    database.write({}, {"a": b"1", "b": b"2"})
    database.write({}, {"a": None, "c": None})
    assert [database.meta(key) for key in "abc"] == [None, b"2", None]


def test_a_write_of_many_keys_is_one_write(disk: Disk) -> None:
    """More keys than one batch takes, over two stores, with a range before them."""
    database = disk.new()
    database.write({"a": put(old=b"1")}, {})
    keys = [b"%06d" % number for number in range(2 * BATCH_KEYS_MAX + 7)]
    many = Changes.of(keys, keys)
    database.write({"a": StoreWrite([many], [KeyRange(b"")]), "b": StoreWrite([many])}, {"input": b"1"})
    database = disk.reopen(database)
    assert [key for key, _ in held(database.store("a"))] == [key for key, _ in held(database.store("b"))] == keys
    assert database.meta("input") == b"1"


def test_large_values_come_in_small_chunks(disk: Disk) -> None:
    database = disk.new()
    blocks = [bytes([number]) * MIB for number in range(20)]
    database.write({"s": StoreWrite([Changes.of([bytes([n]) for n in range(20)], blocks)])}, {})
    assert [value for _, value in held(database.store("s"))] == blocks


def test_clear_forgets_everything(disk: Disk) -> None:
    """A store taken before goes on working."""
    database = disk.new()
    store = database.store("a")
    database.write({"a": put(k=b"1"), "b": put(k=b"2")}, {"input": b"1"})
    database.clear()
    assert (database.store_names(), database.meta("input"), store.get(b"k")) == ([], None, None)
    database.write({"a": put(k=b"3")}, {})
    assert (store.get(b"k"), disk.reopen(database).store("a").get(b"k")) == (b"3", b"3")


KEYS = st.binary(max_size=2).map(lambda key: key.replace(b"\x02", b"\xff"))
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=8).map(
    lambda pairs: Changes.of([key for key, _ in pairs], [value for _, value in pairs])
)
WRITES = st.builds(
    StoreWrite, st.lists(CHANGES, max_size=2), st.lists(st.builds(KeyRange, KEYS, st.none() | KEYS), max_size=2)
)


def applied(model: dict[bytes, bytes], write: StoreWrite) -> dict[bytes, bytes]:
    for keys in write.deleted:
        model = {k: v for k, v in model.items() if k < keys.start or (keys.stop is not None and k >= keys.stop)}
    for changes in write.changes:
        for key, value in changes.pairs():
            model = {k: v for k, v in model.items() if k != key} | ({} if value is None else {key: value})
    return model


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(WRITES, max_size=4), keys=st.builds(KeyRange, KEYS, st.none() | KEYS), rows=st.integers(1, 3))
def test_any_writes_are_as_on_a_sorted_map(disk: Disk, writes: list[StoreWrite], keys: KeyRange, rows: int) -> None:
    database, model = disk.new(), dict[bytes, bytes]()
    for write in writes:
        database.write({"s": write}, {})
        model = applied(model, write)
    store = database.store("s")
    wanted = sorted((k, v) for k, v in model.items() if k >= keys.start and (keys.stop is None or k < keys.stop))
    assert held(store, keys, rows) == wanted
    assert store.get_many(sorted(model)) == [model[key] for key in sorted(model)]
    disk.forget(database)
