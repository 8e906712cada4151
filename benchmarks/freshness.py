"""How long until a change of a document is seen by a question, while other documents change all the time. On a real Kafka.

    python -m benchmarks.freshness [--updates 50] [--changes 40]

`--updates` changes a second of other documents (put, edited, deleted) come in, at their times however long others take. Meanwhile a
document is put, edited and deleted, one change after another: from the record's leaving until a question through a gateway that waits
for it (`fresh`) has been answered with what is there now; an answer with anything else ends the run. The embedder is `hashing`, so next to
no time is embedding.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from millstream.client import AsyncClient
from millstream.ops.local_broker import LocalBroker
from millstream.rag.document import Document

from .serving import CONTENT_TYPE, running, serving, text

DOCUMENTS = 1_000
UPDATES_PER_S = 50
CHANGES = 40
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PENDING_MAX = 1_000
"""Updates under way; one more means that the pipeline does not keep up, and ends the run."""


@dataclass
class Seen:
    """Milliseconds of each change until it was seen."""

    put: list[float] = field(default_factory=list)
    edit: list[float] = field(default_factory=list)
    delete: list[float] = field(default_factory=list)


@asynccontextmanager
async def updates(client: AsyncClient, per_s: float) -> AsyncIterator[list[int]]:
    """So many a second until it is left; gives how many were done."""
    done = [0]

    async def one(number: int) -> None:
        uri = f"{number % DOCUMENTS}.txt"
        if number % 10 == 0:
            await client.delete(uri)
        else:
            await client.put(uri, text=text(number % DOCUMENTS, number), content_type=CONTENT_TYPE)
        done[0] += 1

    async def all_of_them() -> None:
        started, number = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while True:
                number += 1
                await asyncio.sleep(max(0.0, started + number / per_s - time.perf_counter()))
                assert number - done[0] < PENDING_MAX, f"{PENDING_MAX} updates are under way: fewer a second, please"
                group.create_task(one(number))

    task = asyncio.create_task(all_of_them())
    try:
        yield done
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def seen(topics: AsyncClient, http: AsyncClient, number: int, into: Seen) -> None:
    """A document's life."""
    uri = f"mine-{number}.txt"
    for took, turn in ((into.put, 1), (into.edit, 2), (into.delete, None)):
        started = time.perf_counter()
        wanted = None if turn is None else text(number, turn)
        if wanted is None:
            await topics.delete(uri)
        else:
            await topics.put(uri, text=wanted, content_type=CONTENT_TYPE)
        hits = await http.retrieve(f"Where was thing{number} made?", k=5, filter=f"uri == '{uri}'", fresh=True)
        took.append((time.perf_counter() - started) * 1e3)
        assert [hit.chunk.text for hit in hits] == ([] if wanted is None else [wanted]), (uri, turn, hits)


async def measured(bootstrap: str, guarantee: str, commit: str, per_s: float, changes: int) -> tuple[Seen, float]:
    """And how many updates a second were done meanwhile."""
    name, into = f"freshness-{guarantee.replace('_', '-')}", Seen()
    async with running(bootstrap, name, guarantee, commit) as pipeline, serving(bootstrap, pipeline) as url:  # noqa: SIM117
        async with (
            AsyncClient(name, bootstrap=bootstrap, timeout_s=120) as topics,
            AsyncClient(name, bootstrap=bootstrap, timeout_s=120) as others,
            AsyncClient(url=url, timeout_s=120) as http,
        ):
            documents = [Document(f"{n}.txt", text=text(n), content_type=CONTENT_TYPE) for n in range(DOCUMENTS)]
            await others.put_many(documents)
            await http.retrieve("ready", fresh=True)
            async with updates(others, per_s) as done:
                before, started = done[0], time.perf_counter()
                for number in range(changes):
                    await seen(topics, http, number, into)
                rate = (done[0] - before) / (time.perf_counter() - started)
    return into, rate


def results(per_s: float = UPDATES_PER_S, changes: int = CHANGES) -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    rows: list[dict[str, Any]] = []
    with LocalBroker() as broker:
        for guarantee, commit in (("at_least_once", "5ms"), ("exactly_once", "100ms")):
            into, rate = asyncio.run(measured(broker.bootstrap, guarantee, commit, per_s, changes))
            rows.append(row(f"freshness_updates_{guarantee}", rate, "updates/s", "higher"))
            for what, took in vars(into).items():
                rows += quantiles(f"freshness_{what}_{guarantee}", took)
    return rows


def quantiles(name: str, took: Sequence[float]) -> list[dict[str, Any]]:
    return [row(f"{name}_{at}", float(np.quantile(took, share)), "ms", "lower") for at, share in QUANTILES.items()]


def row(name: str, value: float, unit: str, better: str) -> dict[str, Any]:
    return {"name": name, "value": round(value, 2), "unit": unit, "better": better, "target": None}


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--updates", type=float, default=UPDATES_PER_S, help="a second, of other documents")
    options.add_argument("--changes", type=int, default=CHANGES, help="of each kind, that are measured")
    given = options.parse_args()
    for one in results(given.updates, given.changes):
        print(f"{one['name']:36} {one['value']:10,.2f} {one['unit']}", flush=True)
