"""The index in PostgreSQL, on a real server: restarts of either side, several workers, hostile names, waits that stop nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream import App
from millstream.client import AnswerError, AsyncClient
from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import IndexDamagedError, IndexUnavailableError, PartError
from millstream.rag.filter import Filter
from millstream.rag.indexes.exact import Exact
from millstream.rag.indexes.pgvector import Pgvector
from millstream.rag.parse_job import Part
from millstream.rag.pg_session import PgSession
from millstream.rag.pipeline import bind_answers, document_pipeline
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.memory import MemoryBroker
from millstream.workers.worker import Worker
from tests.postgres import Postgres

SIZE = 16
HASHING = Hashing(32)
PLAN = ViewPlan("updates", "id-1", HASHING.fingerprint(), 32, Part("pgvector"))


@pytest.fixture(autouse=True)
def server(postgres: Postgres) -> Iterator[Postgres]:
    """With no tables and no connections left of other tests."""
    postgres.start()
    postgres.empty()
    yield postgres
    postgres.start()


def vectors(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def record(document: str, text: str, **metadata: object) -> tuple[bytes, bytes]:
    chunk = Chunk(chunk_ids(document, [text])[0], document, text, metadata)
    (vector,) = await HASHING.embed([text], "document")
    return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f16"), PLAN.model, "f16")


async def found(view: ViewState, question: str, **options: object) -> list[str]:
    (vector,) = await HASHING.embed([question], "query")
    hits = await Retriever(view, RetrievalSettings()).look_up(Wanted(question, vector, 50, **options))  # type: ignore[arg-type]
    return [hit.chunk.document for hit in hits]


async def settled(view: ViewState) -> None:
    assert isinstance(view.index, Pgvector)
    await view.index.settle()


def closed(view: ViewState) -> Pgvector:
    """As if its process had ended."""
    assert isinstance(view.index, Pgvector)
    view.index.close()
    return view.index


# What is noted, and what is stored


async def test_what_was_just_put_is_found_before_it_is_stored() -> None:
    index, rows = Pgvector(SIZE), vectors(0, 10)
    index.upsert(np.arange(10), rows)
    near = await index.find(rows[3], 2, None, np.array([7, 99]))
    assert (near.near[0], sorted(near.cosines.keys() - set(near.near.tolist()))) == (3, [7])
    assert index.written_rows == 0
    await index.settle()
    assert index.written_rows == 10
    index.remove(np.array([3]))
    index.upsert(np.array([4]), rows[3:4])
    near = await index.find(rows[3], 10, None, np.array([], np.int64))
    assert near.near[0] == 4
    assert sorted(near.near.tolist()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_searches_go_on_while_the_first_batch_is_written() -> None:
    """When the table is made, and not yet to be seen."""
    index, rows = Pgvector(SIZE, batch_rows=20), vectors(0, 100)
    index.upsert(np.arange(100), rows)
    settling = asyncio.create_task(index.settle())
    while not settling.done():
        assert (await index.find(rows[3], 1, None, np.array([99]))).near.tolist() == [3]
    await settling
    assert index.written_rows == 100


steps = st.lists(
    st.tuples(st.sampled_from(["upsert", "remove", "settle"]), st.integers(0, 2**31), st.integers(1, 9)), max_size=12
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(steps)
async def test_awaited_searches_find_what_an_exact_search_finds(steps: list) -> None:
    """Whatever of it is stored already."""
    index, exact = Pgvector(SIZE), Exact(SIZE)
    for what, seed, count in steps:
        draw = np.random.default_rng(seed)
        numbers = draw.choice(30, count, replace=False)
        for one in (index, exact):
            if what == "upsert":
                one.upsert(numbers, vectors(seed, count))
            elif what == "remove":
                one.remove(numbers)
        if what == "settle":
            await index.settle()
        query, allowed = vectors(seed + 1, 1)[0], draw.random(30) < 0.5
        for bitmap in (None, allowed):
            near, expected = await index.find(query, 5, bitmap, numbers), exact.search(query, 5, bitmap)
            best = [near.cosines[number] for number in near.near.tolist()]
            np.testing.assert_allclose(best, expected.similarities, atol=0.002)
            there = exact.search(query, 30).numbers
            asked = {number for number in numbers.tolist() if number in set(there.tolist())}
            assert asked <= near.cosines.keys() <= set(there.tolist())
    numbers = np.sort(exact.search(vectors(0, 1)[0], 30).numbers)
    np.testing.assert_allclose(await index.fetch(numbers), exact.vectors(numbers), atol=0.002)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_filters_are_answered_in_full(share: float) -> None:
    """Few matches are scanned, many fetched from the graph; both ways of a table that is too large to be scanned whole."""
    index, rows = Pgvector(SIZE, scan_rows_max=40), vectors(0, 600)
    index.upsert(np.arange(600), rows)
    allowed = np.random.default_rng(1).random(600) < share
    hits = 0
    for query in vectors(2, 10):
        best = np.argsort(-np.where(allowed, rows @ query, -2))[:5]
        numbers = index.search(query, 5, allowed).numbers
        assert len(numbers) == 5
        assert allowed[numbers].all()
        hits += len(set(best.tolist()) & set(numbers.tolist()))
    assert hits >= 45


async def test_a_wait_for_the_server_stops_nothing_else(server: Postgres) -> None:
    """And what goes meanwhile is passed over."""
    index, rows = Pgvector(SIZE), vectors(0, 5)
    index.upsert(np.arange(5), rows)
    await index.settle()
    assert index._table.claim is not None
    with psycopg.connect(server.uri) as blocker:
        blocker.execute(f"lock table {index._table.claim.table} in access exclusive mode")
        searching = asyncio.create_task(index.find(rows[1], 3, None, np.array([2])))
        await server.wait_for_a_lock()  # it asks, and the loop goes on
        assert not searching.done()
        index.remove(np.array([1]))
        index.upsert(np.array([2]), rows[4:5])
    near = await searching
    assert not {1, 2} & (near.cosines.keys() | set(near.near.tolist()))
    assert set(near.near.tolist()) <= {0, 3, 4}


# Restarts


async def test_a_server_that_was_restarted_is_found_again(server: Postgres) -> None:
    """Updates meanwhile are kept, and written afterwards."""
    index, rows = Pgvector(SIZE), vectors(0, 5)
    index.upsert(np.arange(4), rows[:4])
    await index.settle()
    server.stop()
    index.upsert(np.array([4]), rows[4:5])
    with pytest.raises(IndexUnavailableError, match="MILLSTREAM_PGVECTOR_URI"):
        await index.settle()
    with pytest.raises(IndexUnavailableError):
        await index.find(rows[0], 3, None, np.array([], np.int64))
    server.start()
    await index.settle()
    assert index.search(rows[4], 1).numbers.tolist() == [4]
    assert len(index.search(rows[0], 9)) == 5


async def test_a_restart_reads_only_the_tail(tmp_path: Path) -> None:
    """Nothing that the checkpoint knows is written again; what came after it comes again, perhaps under other numbers."""
    database = MemoryDatabase()
    view = ViewState(PLAN, database, tmp_path)
    view.apply(0, 40, [await record(f"d{n}", f"room {n} lamp") for n in range(40)])
    view.apply(0, 41, [(record_key, None) for record_key, _ in [await record("d5", "room 5 lamp")]])
    view.checkpoint(1)
    tail: list[list[tuple[bytes | None, bytes | None]]] = [
        [await record("new", "a train at noon")],
        [((await record("d7", "room 7 lamp"))[0], None)],
        [await record("newer", "a clock")],
    ]
    for number, records in enumerate(tail):
        view.apply(0, 42 + number, records)
        await settled(view)
    closed(view)
    again = ViewState(PLAN, database, tmp_path)
    assert isinstance(again.index, Pgvector)
    assert (again.positions, len(again), again.index.written_rows) == ({0: 41}, 39, 0)
    assert "new" not in await found(again, "a train at noon")
    for number, records in enumerate(reversed(tail)):
        again.apply(0, 42 + number, records)
        await settled(again)
    assert again.index.written_rows == 3
    assert (await found(again, "a train at noon"))[0] == "new"
    assert "d7" not in await found(again, "room 7 lamp")
    assert len(again.index.search(np.ones(32, np.float32) / 32**0.5, 99)) == len(again) == 40
    closed(again)


@pytest.mark.parametrize(
    "harm",
    [
        "drop table millstream_0",
        "delete from millstream_0 where number = 1",
        "update millstream_owners set incarnation = 'of another'",
        "update millstream_owners set writes = 0",
        "drop table millstream_owners",
    ],
)
async def test_a_table_that_is_not_what_it_was_is_filled_anew(server: Postgres, tmp_path: Path, harm: str) -> None:
    """By hand, or from an old backup."""
    database = MemoryDatabase()
    view = ViewState(PLAN, database, tmp_path)
    view.apply(0, 3, [await record(f"d{n}", f"room {n} lamp") for n in range(3)])
    view.checkpoint(1)
    closed(view)
    server.execute(harm)
    again = ViewState(PLAN, database, tmp_path)
    await settled(again)
    assert isinstance(again.index, Pgvector)
    assert again.index.written_rows == 3
    assert (await found(again, "room 1 lamp"))[0] == "d1"
    closed(again)


# Several workers


async def test_workers_have_a_table_each(tmp_path: Path) -> None:
    """They number chunks by themselves: one table would mix up their rows."""
    views = [ViewState(PLAN, MemoryDatabase(), tmp_path) for _ in range(2)]
    for view, names in zip(views, (["a", "b", "c"], ["c", "b", "x"]), strict=True):
        view.apply(0, 3, [await record(name, f"the lamp of {name}") for name in names])
        await settled(view)
    assert [sorted(await found(view, "lamp")) for view in views] == [["a", "b", "c"], ["b", "c", "x"]]
    tables = {view.index._table.claim.table for view in views}  # type: ignore[attr-defined]
    assert tables == {"millstream_0", "millstream_1"}
    for view in views:
        closed(view)


def test_more_workers_than_tables_are_told() -> None:
    first, second = Pgvector(SIZE, tables_max=1), Pgvector(SIZE, tables_max=1)
    first.upsert(np.arange(1), vectors(0, 1))
    first.search(vectors(0, 1)[0], 1)
    second.upsert(np.arange(1), vectors(0, 1))
    with pytest.raises(IndexUnavailableError, match="raise tables_max"):
        second.search(vectors(0, 1)[0], 1)


@pytest.mark.parametrize("taken", [True, False])
def test_who_lost_its_table_writes_nothing_into_it(server: Postgres, taken: bool) -> None:
    """Cut off for so long that another took it. (Not taken: it goes on, which shows that it is the row that refuses.)"""
    index = Pgvector(SIZE)
    index.upsert(np.arange(2), vectors(0, 2))
    index.search(vectors(0, 1)[0], 1)
    if taken:
        server.execute("update millstream_owners set incarnation = 'another' where name = 'millstream_0'")
    index.upsert(np.array([2]), vectors(1, 1))
    if taken:
        with pytest.raises(IndexDamagedError, match="restart this one"):
            index.search(vectors(0, 1)[0], 1)
    else:
        index.search(vectors(0, 1)[0], 1)
    assert server.execute("select count(*) from millstream_0") == [(2 if taken else 3,)]


# Tenants and filters, in the view


async def test_tenants_and_filters_are_kept_apart() -> None:
    view = ViewState(PLAN, MemoryDatabase())
    view.apply(0, 8, [await record(f"d{n}", f"lamp {n}", tenant="ab"[n % 2], n=n) for n in range(8)])
    for _ in range(2):
        assert sorted(await found(view, "lamp", tenant="a")) == ["d0", "d2", "d4", "d6"]
        assert sorted(await found(view, "lamp", tenant="b", filter=Filter("n > 3"))) == ["d5", "d7"]
        assert sorted(await found(view, "lamp", filter=Filter("n < 2"))) == ["d0", "d1"]
        assert await found(view, "lamp", tenant="c") == []
        await settled(view)
    closed(view)


async def test_a_pipeline_answers_from_it(server: Postgres, tmp_path: Path) -> None:
    """While the server is away a question is told so; afterwards all is as it should be."""
    broker, app = MemoryBroker(), App("help")
    document_pipeline(app, embedder="hashing", index="pgvector")
    bind_answers(app, broker, MemoryDatabase, tmp_path)
    worker = Worker(app, broker)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while not worker.ready:
            await asyncio.sleep(0.01)
    async with AsyncClient("help", broker=broker) as client:
        await client.put("lamp.md", text="The lamp is made in Jena.", content_type="text/markdown")
        assert (await client.ask("Where is the lamp made?", fresh=True)).answer == "The lamp is made in Jena. [1]"
        server.stop()
        with pytest.raises(AnswerError, match="MILLSTREAM_PGVECTOR_URI"):
            await client.ask("Where is the lamp made?")
        server.start()
        await client.put("clock.md", text="The clock is made in Basel.", content_type="text/markdown")
        assert (await client.ask("Where is the clock made?", fresh=True)).answer == "The clock is made in Basel. [1]"
        await client.delete("lamp.md")
        found = await client.retrieve("Where is the lamp made?", fresh=True)
        assert [hit.chunk.document for hit in found] == ["clock.md"]
    worker.stop()
    await running


# Names, passwords, errors


@pytest.mark.parametrize("table", ['x"; drop table y; --', "two words", "Größe", "SELECT", "a{}{table}"])
def test_a_name_is_a_name_whatever_is_in_it(table: str) -> None:
    index, rows = Pgvector(SIZE, table=table), vectors(0, 3)
    index.upsert(np.arange(3), rows)
    assert index.search(rows[1], 1).numbers.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"table": "x" * 49}, "1 to 48 bytes"),
        ({"table": "a\0b"}, "1 to 48 bytes"),
        ({"table": ""}, "1 to 48 bytes"),
        ({"table": "a%s"}, "neither % nor"),
        ({"batch_rows": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pgvector(SIZE, **options)
    with pytest.raises(ValueError, match="from 1 to 4000"):
        Pgvector(4_001)


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        (None, PartError, "OURS is not set; give it a URI such as"),
        ("postgresql://ada:geheim@127.0.0.1:1/db", IndexUnavailableError, "OURS.*127.0.0.1"),
        ("postgresql://ada:geheim@127.0.0.1:port/db", IndexUnavailableError, "OURS"),
        ("postgres//ada:geheim@127.0.0.1/db", PartError, "OURS is no PostgreSQL URI"),
        ("postgresql://ada:geheim@127.0.0.1/db?x=y", PartError, "OURS is no PostgreSQL URI"),
    ],
)
def test_an_error_names_the_variable_and_no_password(
    monkeypatch: pytest.MonkeyPatch, uri: str | None, error: type[Exception], reason: str
) -> None:
    if uri is not None:
        monkeypatch.setenv("OURS", uri)
    with pytest.raises(error, match=reason) as raised:
        _asked("OURS")
    assert "geheim" not in f"{raised.value!r} {raised.value.__cause__!r}"


def _asked(uri_env: str) -> None:
    index = Pgvector(SIZE, uri_env=uri_env)
    assert "geheim" not in repr(index) + repr(index._writer)
    index.upsert(np.arange(1), vectors(0, 1))
    index.search(vectors(0, 1)[0], 1)


def test_a_statement_that_takes_too_long_is_ended() -> None:
    session = PgSession("MILLSTREAM_PGVECTOR_URI", connect_timeout_s=5, statement_timeout_ms=50)
    with pytest.raises(IndexUnavailableError, match="raise statement_timeout_ms"):
        session.run(lambda connection: connection.execute("select pg_sleep(60)"))
    assert session.run(lambda connection: connection.execute("select 1").fetchone()) == (1,)
    session.close()
