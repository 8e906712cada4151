"""Looking up chunks while updates stream in: 20,000 chunks of 384 dimensions, p50 and p99 of one question.

What is measured: from asking to the hits with their texts, beside a stream of updates that are applied in the same event loop,
as in a worker; so a question also waits for the batch that is being applied. Not in it: embedding the question, and the model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.filter import Filter
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings, ViewSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase

CHUNKS = 20_000
DIMENSIONS = 384
UPDATES_PER_SECOND = 200
QUESTIONS = 400
WORDS = 20_000


@dataclass(frozen=True)
class Corpus:
    """Chunks of 60 words whose frequencies fall as in a language (Zipf), around 200 topics so that neighbours are near."""

    seed: int = 0

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        object.__setattr__(self, "topics", draw.normal(size=(200, DIMENSIONS)))

    def record(self, number: int, turn: int) -> tuple[bytes, bytes]:
        draw = np.random.default_rng([self.seed, number, turn])
        text = " ".join(f"word{int(word) % WORDS}" for word in draw.zipf(1.3, 60))
        chunk = Chunk(chunk_ids(f"d{number}", ["same"])[0], f"d{number}", text, {"group": number % 50})
        vector = self.vector(draw)
        return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f16"), "bench", "f16")

    def vector(self, draw: np.random.Generator) -> np.ndarray:
        topics: np.ndarray = self.topics  # type: ignore[attr-defined]
        row = topics[draw.integers(len(topics))] + draw.normal(size=DIMENSIONS) * 1.2
        return (row / np.linalg.norm(row)).astype(np.float32)

    def questions(self, count: int) -> Iterator[tuple[str, np.ndarray]]:
        draw = np.random.default_rng(self.seed + 1)
        for _ in range(count):
            yield " ".join(f"word{int(word) % WORDS}" for word in draw.zipf(1.3, 7)), self.vector(draw)


def loaded(index: str, records: list[tuple[bytes, bytes]]) -> ViewState:
    view = ViewState(ViewPlan("bench", "", "bench", DIMENSIONS, Part(index)), MemoryDatabase())
    for start in range(0, CHUNKS, 1_000):
        view.apply(0, start + 1_000, records[start : start + 1_000])
    view.checkpoint(0)
    return view


async def stream_updates(view: ViewState, updates: list[tuple[bytes, bytes]], batch: int) -> None:
    """At the rate wanted, for as long as it is let."""
    started, done = time.perf_counter(), 0
    while done < len(updates):
        view.apply(0, view.positions[0] + batch, updates[done : done + batch])
        done += batch
        await asyncio.sleep(max(0.0, started + done / UPDATES_PER_SECOND - time.perf_counter()))


async def asked(view: ViewState, corpus: Corpus, chosen: Filter | None) -> list[float]:
    """Milliseconds of each question."""
    retriever = Retriever(view, RetrievalSettings())
    took = []
    for question, vector in corpus.questions(QUESTIONS):
        due = time.perf_counter()
        await asyncio.sleep(0)  # whatever is being applied comes first
        retriever.retrieve(Wanted(question, vector, 5, chosen))
        took.append((time.perf_counter() - due) * 1e3)
    return took


async def measured(view: ViewState, corpus: Corpus, chosen: Filter | None = None) -> dict[str, float]:
    updates = [corpus.record(number % CHUNKS, 1) for number in range(2_000)]
    writer = asyncio.create_task(stream_updates(view, updates, ViewSettings().live_records_max))
    took = await asked(view, corpus, chosen)
    writer.cancel()
    return {"p50": float(np.median(took)), "p99": float(np.quantile(took, 0.99)), "max": max(took)}


def results() -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    corpus = Corpus()
    records = [corpus.record(number, 0) for number in range(CHUNKS)]
    found: list[dict[str, Any]] = []
    for index in ("exact", "hnsw"):
        started = time.perf_counter()
        view = loaded(index, records)
        print(f"{index}: {CHUNKS} chunks loaded in {time.perf_counter() - started:.1f} s", flush=True)
        for name, chosen in (("", None), ("_filtered", Filter("group == 7"))):
            took = asyncio.run(measured(view, corpus, chosen))
            print(f"{index}{name}: " + ", ".join(f"{what} {value:.2f} ms" for what, value in took.items()), flush=True)
            found += [
                {
                    "name": f"retrieval_{index}{name}_{what}",
                    "value": round(took[what], 3),
                    "unit": "ms",
                    "better": "lower",
                    "target": None,
                }
                for what in ("p50", "p99")
            ]
    return found


if __name__ == "__main__":
    results()
