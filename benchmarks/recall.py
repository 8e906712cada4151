"""The graph against exact search at 100,000 x 384: recall@10 when it is new and when half was replaced one by one, and the time of
a search while 200 updates a second come in. `python -m benchmarks.recall` ends with 1 where a recall is below 0.95.

    python -m benchmarks.recall                        what `make bench` has
    python -m benchmarks.recall --memory [COUNT]       memory, recall and time by type of graph, each in a process of its own

Vectors lie around 1,000 topics, as chunks of documents do. Updates are applied as a worker does, in batches of `live_records_max`
between two searches of one event loop; a search waits for the batch under way. Rebuilds run in a thread, as in a worker.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from millstream.rag.index import Index
from millstream.rag.parts import part_named
from millstream.rag.settings import ViewSettings

CHUNKS = 100_000
DIMENSIONS = 384
TOPICS = 1_000
QUERIES = 200
K = 10
RECALL_MIN = 0.95
UPDATES_PER_SECOND = 200
SECONDS = 20
_BLOCK = 1_000
"""Vectors are made by blocks, the same at every call: nobody has to hold them."""


@dataclass(frozen=True)
class Vectors:
    """By number; `turn` counts how often a number's vector was replaced."""

    dimensions: int = DIMENSIONS
    topics: int = TOPICS
    seed: int = 0

    def __post_init__(self) -> None:
        topics = np.random.default_rng(self.seed).normal(size=(self.topics, self.dimensions)).astype(np.float32)
        object.__setattr__(self, "centres", topics)

    def block(self, number: int, turn: int = 0) -> np.ndarray:
        """Numbers `number` to `number + 999`."""
        return self._around(np.random.default_rng([self.seed, number, turn]), _BLOCK)

    def queries(self, count: int = QUERIES) -> np.ndarray:
        return self._around(np.random.default_rng([self.seed, 1 << 40]), count)

    def _around(self, draw: np.random.Generator, count: int) -> np.ndarray:
        centres: np.ndarray = self.centres  # type: ignore[attr-defined]
        rows = centres[draw.integers(len(centres), size=count)]
        rows = rows + draw.normal(size=rows.shape).astype(np.float32) * np.float32(1.2)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


@dataclass
class Corpus:
    """What the index holds: how often each block was replaced."""

    vectors: Vectors
    count: int
    turns: dict[int, int] = field(default_factory=dict)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, self.count, _BLOCK):
            yield start, self.vectors.block(start, self.turns.get(start, 0))

    def best(self, queries: np.ndarray) -> np.ndarray:
        """Numbers of the K nearest of each query, exactly."""
        numbers = np.zeros((len(queries), 0), np.int64)
        scores = np.zeros((len(queries), 0), np.float32)
        for start, rows in self.blocks():
            scores = np.concatenate([scores, queries @ rows.T], axis=1)
            block = np.broadcast_to(np.arange(start, start + len(rows)), (len(queries), len(rows)))
            numbers = np.concatenate([numbers, block], axis=1)
            kept = np.argsort(-scores, axis=1)[:, :K]
            scores, numbers = np.take_along_axis(scores, kept, 1), np.take_along_axis(numbers, kept, 1)
        return numbers


def loaded(index: Index, corpus: Corpus) -> None:
    for start, rows in corpus.blocks():
        index.upsert(np.arange(start, start + len(rows)), rows)


def recall(index: Index, corpus: Corpus) -> float:
    queries = corpus.vectors.queries()
    pairs = zip(corpus.best(queries).tolist(), queries, strict=True)
    hits = sum(len(set(best) & set(index.search(query, K).numbers.tolist())) for best, query in pairs)
    return hits / (len(queries) * K)


def replace_half(index: Index, corpus: Corpus) -> int:
    """Every second block, one vector after another; how often the index was built anew meanwhile."""
    rebuilds = 0
    for start in range(0, corpus.count, 2 * _BLOCK):
        corpus.turns[start] = corpus.turns.get(start, 0) + 1
        for place, row in enumerate(corpus.vectors.block(start, corpus.turns[start])):
            index.upsert(np.array([start + place]), row[None])
        rebuilds += _rebuilt(index)
    return rebuilds


def _rebuilt(index: Index) -> bool:
    if not index.wants_rebuild:
        return False
    rebuild = index.begin_rebuild()
    while True:
        thread = threading.Thread(target=rebuild.run)
        thread.start()
        thread.join()
        if index.finish_rebuild(rebuild):
            return True


async def searched(index: Index, corpus: Corpus) -> dict[str, float]:
    """Milliseconds of a search, p50 and p99, over `SECONDS` of updates."""
    updating = asyncio.create_task(_update(index, corpus))
    queries, took = corpus.vectors.queries(), []
    while not updating.done():
        for query in queries:
            due = time.perf_counter()
            await asyncio.sleep(0)  # what is being applied comes first
            index.search(query, K)
            took.append((time.perf_counter() - due) * 1e3)
    await updating
    return {"p50": float(np.median(took)), "p99": float(np.quantile(took, 0.99))}


async def _update(index: Index, corpus: Corpus) -> None:
    """Every number of the last block again and again, at the rate wanted; then as they were."""
    start, batch = corpus.count - _BLOCK, ViewSettings().live_records_max
    rows, begun = corpus.vectors.block(start, corpus.turns.get(start, 0)), time.perf_counter()
    for done in range(0, UPDATES_PER_SECOND * SECONDS, batch):
        places = np.arange(done, done + batch) % _BLOCK
        index.upsert(start + places, rows[places])
        await asyncio.sleep(max(0.0, begun + (done + batch) / UPDATES_PER_SECOND - time.perf_counter()))


def results(count: int = CHUNKS) -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    corpus = Corpus(Vectors(), count)
    index: Index = part_named("index", "hnsw", {"dimensions": DIMENSIONS})
    started = time.perf_counter()
    loaded(index, corpus)
    print(f"hnsw: {count} x {DIMENSIONS} loaded in {time.perf_counter() - started:.1f} s", flush=True)
    fresh = recall(index, corpus)
    took = asyncio.run(searched(index, corpus))
    started = time.perf_counter()
    rebuilds = replace_half(index, corpus)
    print(f"half replaced in {time.perf_counter() - started:.1f} s, {rebuilds} rebuilds", flush=True)
    after = recall(index, corpus)
    return [
        _row("index_recall", fresh, "share", "higher", RECALL_MIN),
        _row("index_recall_half_replaced", after, "share", "higher", RECALL_MIN),
        _row("index_search_p50", took["p50"], "ms", "lower", 1.0),
        _row("index_search_p99", took["p99"], "ms", "lower", 5.0),
    ]


def too_low(rows: list[dict[str, Any]]) -> str | None:
    """What a command that measured these ends with; None: all is well."""
    low = [f"{row['name']} is {row['value']}" for row in rows if "recall" in row["name"] and row["value"] < RECALL_MIN]
    return f"{', '.join(low)}; recall@{K} must be {RECALL_MIN}" if low else None


def _row(name: str, value: float, unit: str, better: str, target: float) -> dict[str, Any]:
    print(f"{name}: {value:.3f} {unit}", flush=True)
    return {"name": name, "value": round(value, 4), "unit": unit, "better": better, "target": target}


# Memory by type


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory_of(name: str, dtype: str | None, count: int) -> dict[str, float]:
    """MiB that the index needs, recall@10, and the median of a search in ms; in a process that holds nothing else."""
    options = {"dimensions": DIMENSIONS} | ({} if dtype is None else {"dtype": dtype})
    warm: Index = part_named("index", name, options)
    warm.upsert(np.arange(_BLOCK), Vectors().block(0))
    corpus, index = Corpus(Vectors(), count), part_named("index", name, options)
    before = resident_mib()
    loaded(index, corpus)
    needs, took = resident_mib() - before, []
    for query in corpus.vectors.queries():
        started = time.perf_counter()
        index.search(query, K)
        took.append((time.perf_counter() - started) * 1e3)
    return {"mib": needs, "recall": recall(index, corpus), "p50_ms": float(np.median(took))}


def memory(count: int) -> None:
    print(f"{count:,} x {DIMENSIONS}: memory, recall@{K}, p50 of a search", flush=True)
    for name, dtype in (("exact", None), *(("hnsw", dtype) for dtype in ("i8", "bf16", "f16", "f32"))):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            told = alone.submit(memory_of, name, dtype, count).result()
        what = f"{name} {dtype or 'f32'}"
        print(f"{what:10} {told['mib']:6.0f} MiB   {told['recall']:.3f}   {told['p50_ms']:.2f} ms", flush=True)


def main(words: list[str]) -> None:
    if words[:1] == ["--memory"]:
        memory(int(words[1]) if len(words) > 1 else CHUNKS)
    else:
        sys.exit(too_low(results()))


if __name__ == "__main__":
    main(sys.argv[1:])
