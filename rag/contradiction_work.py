"""One chunk that changed, from its key to what its neighbours contradict: the part that waits.

    wait until the index has passed the change    -> is the chunk there, and with what text?
    its nearest chunks in other documents         -> pairs
    the judge, pair by pair                       -> findings

The chunk is looked at as the index has it, which may be further than the change: then the later change finds the same, and says
nothing. Documents of two tenants are never laid beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..state.key_value import KeyValueState
from .answer_work import AnswerParts
from .call_cache import CallCache
from .contradiction import CHUNK_KEY_BYTES_MAX, ContradictionSettings, Finding, Judge, ordered_pair
from .contradiction_pairs import Judged, text_print
from .document import Chunk, Tokens
from .errors import ModelError
from .index import Vector
from .llm import Completion
from .prompt import Prompt
from .remote_index import RemoteIndex
from .tenants import tenant_of
from .view_state import ViewState

_CANDIDATES_MAX: Final = 4_096
"""Nearest chunks that are looked through for some of other documents."""


@dataclass(slots=True)
class Work:
    """What came of a change, and what it cost."""

    judged: Judged
    failures: list[str] = field(default_factory=list)
    """Why pairs were not judged."""
    tokens: Tokens = Tokens()
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)
    """For the cache of calls."""


class CallsAhead(CallCache):
    """Finds what was paid for already from when it came, before `put` has made it durable: a pair that both of its chunks'
    changes ask about is paid for once.
    """

    def __init__(self, state: KeyValueState, entries_max: int) -> None:
        super().__init__(state, entries_max)
        self._ahead: dict[bytes, bytes] = {}

    def note(self, key: bytes, result: bytes) -> None:
        self._ahead[key] = result

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        ahead = [self._ahead.get(key) for key in keys]  # before the state: `put` moves entries from here to there
        found = super().get_many(keys)
        return [before or kept for before, kept in zip(ahead, found, strict=True)]

    def put(self, key: bytes, result: bytes) -> None:
        super().put(key, result)
        self._ahead.pop(key, None)


class Judging:
    """Of one task. `settings` say how far, `judge` says what contradicts what."""

    def __init__(self, parts: AnswerParts, judge: Judge, settings: ContradictionSettings, cache: CallsAhead) -> None:
        self._parts = parts
        self._judge = judge
        self._settings = settings
        self._cache = cache

    async def work(self, key: str, positions: Mapping[int, int]) -> Work:
        """`positions`: offsets by partition that the index must have passed. Raises NotFreshError, IndexUnavailableError."""
        view, timeout_ms = self._parts.view, self._settings.fresh_timeout_ms
        self._parts.start()
        await view.wait_ready(timeout_ms)
        await view.wait_passed(positions, timeout_ms)
        number = view.state.number(key.encode())
        if number is None or len(key.encode()) > CHUNK_KEY_BYTES_MAX:
            return Work(Judged(key, None, {}))
        (chunk,) = view.state.chunks([number])
        near = await neighbours(view.state, number, chunk, self._settings)
        return await self._judged(chunk, near)

    async def _judged(self, chunk: Chunk, near: Sequence[tuple[Chunk, float]]) -> Work:
        pairs: dict[str, Finding | None] = {}
        done = Work(Judged(chunk.key, text_print(chunk.text), pairs))
        ask = _Asking(self._parts, self._cache, done)
        for other, similarity in near:
            one, two = ordered_pair(chunk, other)
            try:
                verdict = await self._judge.judge(one, two, ask)
            except ModelError as error:
                done.failures.append(f"{other.key}: {error}")
                continue
            named = self._settings.judge.name
            pairs[other.key] = None if verdict is None else Finding(one, two, verdict, named, similarity)
            await asyncio.sleep(0)  # a question may come between
        return done


class _Asking:
    """The pipeline's own model, for one change."""

    def __init__(self, parts: AnswerParts, cache: CallsAhead, work: Work) -> None:
        self._parts = parts
        self._cache = cache
        self._work = work

    async def __call__(self, prompt: Prompt) -> Completion:
        paid = await self._parts.asking.completions.complete(prompt, None, self._cache)
        self._work.tokens += paid.completion.tokens
        if paid.entry is not None:
            self._cache.note(*paid.entry)
            self._work.entries.append(paid.entry)
        return paid.completion


async def neighbours(
    state: ViewState, number: int, chunk: Chunk, settings: ContradictionSettings
) -> list[tuple[Chunk, float]]:
    """The nearest chunks of other documents of the same tenant with their cosines, nearest first, ties by number."""
    vector = await _vector(state, number)
    if vector is None:
        return []
    tenant, wanted = tenant_of(chunk.metadata), 4 * settings.neighbours_max
    while True:
        near = await _near(state, vector, wanted, tenant)
        is_all = len(near) < wanted or near[-1][1] < settings.similarity_min or wanted >= _CANDIDATES_MAX
        close = [(one, cosine) for one, cosine in near if cosine >= settings.similarity_min]
        close = [(one, cosine) for one, cosine in close if state.document(one) != chunk.document]
        found = [
            (other, cosine)
            for other, (_, cosine) in zip(state.chunks([one for one, _ in close]), close, strict=True)
            if tenant_of(other.metadata) == tenant and len(other.key.encode()) <= CHUNK_KEY_BYTES_MAX
        ]
        if is_all or len(found) >= settings.neighbours_max:
            return found[: settings.neighbours_max]
        wanted *= 4


async def _vector(state: ViewState, number: int) -> Vector | None:
    """None: the chunk was changed while a store elsewhere was asked, and its change comes next."""
    numbers = np.array([number], np.int64)
    index = state.index
    vectors = await index.fetch(numbers) if isinstance(index, RemoteIndex) else index.vectors(numbers)
    return vectors[0] if len(vectors) else None


async def _near(state: ViewState, vector: Vector, k: int, tenant: str | None) -> list[tuple[int, float]]:
    index = state.index
    if isinstance(index, RemoteIndex):
        found = await index.find(vector, k, None, np.zeros(0, np.int64))
        return [(number, found.cosines[number]) for number in found.near.tolist() if number in found.cosines]
    near = state.nearest(vector, k, tenant=tenant)
    return list(zip(near.numbers.tolist(), near.similarities.tolist(), strict=True))
