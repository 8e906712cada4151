"""A tenant finds what a view of its chunks alone would find, and nothing of anybody else, whatever is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.filter import Filter
from millstream.rag.index import Index
from millstream.rag.indexes.exact import Exact
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings
from millstream.rag.tenants import Tenants, tenant_of
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase

HASHING = Hashing(32)
PLAN = ViewPlan("updates", "id-1", HASHING.fingerprint(), 32)
WORDS = ["lamp", "train", "clock", "map", "rope", "bell"]
TEXTS = [f"The {a} and the {b} are in room {n}." for n, a in enumerate(WORDS) for b in WORDS[:n]]
TENANTS = ["acme", "blue", None]


def chunk(text: str, tenant: object, document: str = "d") -> Chunk:
    metadata = {} if tenant is None else {"tenant": tenant}
    return Chunk(chunk_ids(f"{document} {tenant}", [text])[0], f"{document} {tenant}", text, metadata)


async def record(one: Chunk) -> tuple[bytes, bytes]:
    (vector,) = await HASHING.embed([one.text], "document")
    return one.key.encode(), write_update(one, vector_bytes(vector, "f16"), PLAN.model, "f16")


async def found(view: ViewState, question: str, tenant: str | None, text: str | None = None) -> list[tuple[str, float]]:
    (vector,) = await HASHING.embed([question], "query")
    wanted = Wanted(question, vector, 5, None if text is None else Filter(text), tenant)
    hits = Retriever(view, RetrievalSettings()).retrieve(wanted)
    return sorted((hit.chunk.key, round(hit.score, 3)) for hit in hits)


changes = st.lists(
    st.tuples(st.sampled_from(["put", "put", "remove"]), st.integers(0, len(TEXTS) - 1), st.sampled_from(TENANTS)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(changes, st.integers(0, 5), st.sampled_from([None, "uri glob '*'", "tenant != 'acme'", "not tenant == 'blue'"]))
async def test_a_tenant_finds_what_it_would_find_alone(steps: list, asked: int, text: str | None) -> None:
    """Chunks and scores: neither its words' rarity nor the scale of its cosines tells of others."""
    view, alone = ViewState(PLAN, MemoryDatabase()), ViewState(PLAN, MemoryDatabase())
    for at, (what, number, tenant) in enumerate(steps):
        key, value = await record(chunk(TEXTS[number], tenant))
        change = (key, value if what == "put" else None)
        view.apply(0, at + 1, [change])
        if tenant == "acme":
            alone.apply(0, at + 1, [change])
    question = f"Where is the {WORDS[asked]}?"
    mine = await found(view, question, "acme", text)
    assert mine == await found(alone, question, None, text)
    everything = await found(view, question, None)
    assert bool(everything) == (len(view) > 0)


@pytest.mark.parametrize(
    "text",
    [
        "tenant == 'blue'",
        "tenant == 'acme' or tenant == 'blue'",
        "not tenant == 'acme'",
        "tenant glob '*'",
        "uri == 'd blue'",
    ],
)
async def test_a_filter_cannot_leave_the_tenant(text: str) -> None:
    view = ViewState(PLAN, MemoryDatabase())
    chunks = [chunk(text, tenant) for text in TEXTS for tenant in TENANTS]
    view.apply(0, len(chunks), [await record(one) for one in chunks])
    keys = {key for key, _ in await found(view, "the bell", "acme", text)}
    assert keys <= {one.key for one in chunks if one.metadata == {"tenant": "acme"}}
    assert {key for key, _ in await found(view, "the bell", None, "tenant == 'blue'")}  # without a tenant it is found


@pytest.mark.parametrize("tenant", ["ACME", "acme ", "", "nobody", "None", "*", "acme' or tenant == 'blue", "acme\x00"])
async def test_a_tenant_nobody_has_heard_of_finds_nothing(tenant: str) -> None:
    view = ViewState(PLAN, MemoryDatabase())
    chunks = [chunk(TEXTS[0], "acme"), chunk(TEXTS[0], None), chunk(TEXTS[0], "")]
    view.apply(0, 3, [await record(one) for one in chunks])
    assert await found(view, "the lamp", tenant) == []
    assert len(await found(view, "the lamp", "acme")) == 1


@pytest.mark.parametrize(("value", "expected"), [("a", "a"), ("", None), (7, None), (None, None), (["a"], None)])
def test_a_tenant_is_a_string_that_is_not_empty(value: object, expected: str | None) -> None:
    assert tenant_of({"tenant": value}) == expected
    assert tenant_of({}) is None


async def test_a_chunk_that_changes_hands_is_the_new_one_s_alone() -> None:
    view = ViewState(PLAN, MemoryDatabase())
    key, value = await record(Chunk(chunk_ids("d", ["one"])[0], "d", "one", {"tenant": "acme"}))
    _, other = await record(Chunk(chunk_ids("d", ["one"])[0], "d", "one", {"tenant": "blue"}))
    view.apply(0, 1, [(key, value)])
    view.apply(0, 2, [(key, other)])
    assert await found(view, "one", "acme") == []
    assert len(await found(view, "one", "blue")) == 1
    assert view.statistics().tenants == 1


def vectors(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tenants_over(index: Index, own_chunks_min: int = 20, indexes_max: int = 2) -> Tenants:
    return Tenants(
        index.vectors,
        index.similarities,
        lambda: Exact(8),
        indexes_max=indexes_max,
        own_chunks_min=own_chunks_min,
    )


steps = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, 2**31), st.integers(1, 40), st.sampled_from(["a", "a", "b", "c", "d", None])
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(steps)
def test_an_index_of_its_own_finds_what_a_scan_finds(steps: list) -> None:
    """Tenants that grow past the limit and shrink again, more of them than may have an index, numbers that change hands."""
    index = Exact(8)
    tenants = tenants_over(index)
    owners: dict[int, str | None] = {}
    rows: dict[int, np.ndarray] = {}
    for turn, (put, drawn, count, tenant) in enumerate(steps):
        seed = drawn * 32 + turn  # equal vectors would go by their place in the tenant's own index
        draw = np.random.default_rng(seed)
        numbers = draw.choice(120, count, replace=False)
        if put:
            new = vectors(seed, count)
            index.upsert(numbers, new)
            tenants.upsert(numbers.tolist(), [tenant] * count, new)
            owners |= dict.fromkeys(numbers.tolist(), tenant)
            rows |= dict(zip(numbers.tolist(), new, strict=True))
        else:
            tenants.remove(numbers.tolist())
            index.remove(numbers)
            for number in numbers.tolist():
                owners.pop(number, None)
        allowed = draw.random(100) < 0.5
        query = vectors(seed + 1, 1)[0]
        assert len(list(tenants.own_indexes())) <= 2
        assert len(tenants) == len({owner for owner in owners.values() if owner is not None})
        for asked in ("a", "b", "c", "d"):
            for bitmap in (None, allowed):
                mine = [
                    number
                    for number, owner in owners.items()
                    if owner == asked and (bitmap is None or (number < 100 and bitmap[number]))
                ]
                best = sorted(mine, key=lambda number: (-float(rows[number] @ query), number))[:7]
                assert tenants.search(asked, query, 7, bitmap).numbers.tolist() == best


def test_a_large_tenant_has_an_index_of_its_own_until_it_is_small_again() -> None:
    index = Exact(8)
    tenants = tenants_over(index)
    rows = vectors(0, 100)
    index.upsert(np.arange(100), rows)
    tenants.upsert(range(20), ["a"] * 20, rows[:20])
    assert list(tenants.own_indexes()) == []
    tenants.upsert(range(20, 40), ["a"] * 20, rows[20:40])
    assert [len(own) for own in tenants.own_indexes()] == [40]
    tenants.upsert(range(40, 100), ["b"] * 30 + ["c"] * 30, rows[40:])
    assert [len(own) for own in tenants.own_indexes()] == [40, 30]  # two are the limit
    tenants.remove(list(range(30)))
    assert [len(own) for own in tenants.own_indexes()] == [30]
    tenants.upsert([70], ["c"], rows[70:71])
    assert [len(own) for own in tenants.own_indexes()] == [30, 30]


@pytest.mark.parametrize("kind", ["auto", "exact", "hnsw"])
async def test_a_restart_finds_the_tenants(kind: str) -> None:
    plan = ViewPlan("updates", "id-1", PLAN.model, 32, Part(kind))
    database = MemoryDatabase()
    view = ViewState(plan, database)
    chunks = [chunk(text, tenant) for text in TEXTS for tenant in TENANTS]
    view.apply(0, len(chunks), [await record(one) for one in chunks])
    view.checkpoint(1)
    again = ViewState(plan, database)
    assert again.statistics().tenants == 2
    for tenant in TENANTS:
        assert await found(again, "the bell", tenant) == await found(view, "the bell", tenant) != []
