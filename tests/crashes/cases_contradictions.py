"""Contradictions: chunks of two partitions that come, change and go, one task that holds all pairs; the model's calls beside each other.

The input is what `changed_chunks` gives, which keeps nothing. The index of each process is as far as the step asks, and begins anew with
the process. What is found on the way depends on how far it was; what holds in the end does not, and every record says something new.
"""

from __future__ import annotations

import asyncio
from itertools import combinations
from typing import Any

import orjson

from millstream.rag.contradiction import ContradictionSettings, pair_key, write_change
from millstream.rag.document_topics import CONTRADICTION_TOPICS
from millstream.rag.llm import Completion
from millstream.rag.operators.contradictions import Contradictions
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.rag.prompt import Prompt
from millstream.rag.shared import Shared
from millstream.rag.updates import read_update
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS
from tests.rag.following_index import FollowingView, Record, parts_of, update


class _Compares:
    """Two texts contradict each other unless they are the same. Others get turns before it answers, more or fewer."""

    def __init__(self) -> None:
        self._asked = 0

    def fingerprint(self) -> str:
        return "compares"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        self._asked += 1
        for _ in range(3 * (self._asked % 3)):
            await asyncio.sleep(0)
        one, other = prompt.passages
        return Completion("no" if one.text == other.text else f"yes: {one.text}, {other.text}")

    async def close(self) -> None:
        """Nothing to let go of."""


def build(app: App) -> None:
    looked_for = ContradictionSettings(Part("llm"), neighbours_max=50, similarity_min=-1.0)
    model = DocumentSettings.of(app.name, llm=Part("scripted"), contradictions=looked_for, partitions=PARTITIONS)
    pipeline = DocumentPipeline(model)
    shared: Shared[Any] = Shared(lambda: parts_of(FollowingView(LOG), _Compares()))
    object.__setattr__(pipeline.answer, "parts", shared)
    changes, found = (pipeline.topic(name) for name in CONTRADICTION_TOPICS[::-1])
    step = Contradictions(looked_for, pipeline.answer.parts, pipeline.bind)
    app.records(changes).then(step, name="contradictions").to(found)


async def _log() -> list[list[Record]]:
    """Four documents of one chunk each: written, edited (under the same id, as other producers do, or under another), deleted."""
    log: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for turn, text in enumerate(["forty", "fifty", "forty", "sixty"]):
        for number in range(4):
            uri = f"doc-{number}"
            part = log[number % PARTITIONS]
            if number < 2:
                part.append(await update(uri, f"{text} {number * turn % 2}", slot="its only chunk"))
            else:
                before = [key for key, value in part if key.startswith(uri.encode()) and value]
                part += [await update(uri, text), *((key, None) for key in before[-1:])]
    log[0].append(((await update("doc-0", "", slot="its only chunk"))[0], None))
    return log


def _expected() -> dict[bytes, list[str]]:
    last = dict(record for part in LOG for record in part)
    chunks = [read_update(key, value).chunk for key, value in last.items() if value is not None]
    pairs = [sorted(pair, key=lambda one: one.key) for pair in combinations(chunks, 2)]
    return {pair_key(one.key, two.key): [one.text, two.text] for one, two in pairs if one.text != two.text}


def judge(outputs: Outputs) -> list[str]:
    """What holds in the end, and that no record repeats what the one of its key before it said."""
    held: dict[bytes | None, list[str] | None] = {}
    wrong = []
    for partition in outputs[f"{NAME}.contradictions"]:
        for record in partition:
            said = None if record.value is None else [side["text"] for side in record.row["between"]]
            if held.get(record.key) == said:
                wrong.append(f"contradictions: twice {record.key!r} {said}")
            held[record.key] = said
    there = [(key, said) for key, said in held.items() if said is not None]
    letters = [record.value for partition in outputs[f"{NAME}.dead-letters"] for record in partition]
    return [
        *wrong,
        *differences("contradictions", list(_expected().items()), there),
        *differences("dead", [], [orjson.dumps(str(one)) for one in letters]),
    ]


def _changes() -> list[Record]:
    """By turns of the partitions, some together."""
    told = [
        [(key, write_change(partition, at)) for at, (key, _) in enumerate(log)] for partition, log in enumerate(LOG)
    ]
    return [change for at in range(0, max(map(len, LOG)), 3) for part in told for change in part[at : at + 3]]


LOG: list[list[Record]] = asyncio.run(_log())
CASE = Case("contradictions", build, {f"{NAME}.contradictions-changes": [_changes()]}, judge)
