"""Standing questions: which of them a batch of index updates may touch. Decisions only; `standing_work.py` does the rest.

    touched     a chunk among a question's candidates went, or came again with another version
                a chunk that came could be a candidate: cos / sigma + w * cov >= the score of the worst there is
    asked again only when the hits that were looked up for it really are others than those its answer was made from

The questions' vectors stand in an index of their own, so a batch is one product of a few chunks with all of them; keyword
coverage is computed for those alone that it could lift over the bar. Rarity (idf) is that of when the question was last looked
at. Questions that are touched in vain cost a look-up, about a millisecond, and no call of the model.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from .document import Answer, Chunk, Hit, digest
from .index import Vector
from .indexes.exact import Exact
from .terms import Terms

Place = tuple[int, bytes]
"""A standing question: the partition of its record, and its key."""


@dataclass(frozen=True, slots=True)
class Standing:
    """As it is kept in the state of its task."""

    query: bytes
    """The record that asks it again."""
    shown: str
    """Of the hits its answer was made from (`signature`)."""
    answer: str
    """Of what was published last (`answer_print`)."""
    revision: int = 0

    def to_bytes(self) -> bytes:
        return orjson.dumps([self.query.decode(), self.shown, self.answer, self.revision])

    @classmethod
    def from_bytes(cls, stored: bytes) -> Standing:
        query, shown, answer, revision = orjson.loads(stored)
        return cls(query.encode(), shown, answer, revision)


def signature(hits: Sequence[Hit]) -> str:
    """Changes when other chunks are found, in another order, or in another version. Scores do not count."""
    return digest(*(f"{hit.chunk.key} {hit.chunk.version} {digest(hit.chunk.shown)}" for hit in hits), hex_digits=32)


def answer_print(answer: Answer) -> str:
    """What makes an answer another one: its words, the same words from other sources are the same answer; where only the chunks
    were asked for (`retrieve`), those.
    """
    chunks = [] if answer.answer or answer.no_answer else [hit.chunk.key for hit in answer.sources]
    return digest(repr((answer.answer, answer.no_answer, chunks)), hex_digits=32)


@dataclass(frozen=True, slots=True)
class Revised:
    """What becomes of a standing question once it was answered."""

    held: Standing | None
    """To be kept; None: what was kept stays, if there was any."""
    answer: Answer | None
    """To be published; None: it says what was said before, or went wrong."""


def revised(held: Standing | None, answer: Answer, query: bytes, shown: str, *, again: bool) -> Revised:
    """`again`: asked because its documents changed, not by whoever wants to know. A question that fails when it is first asked
    does not stand: whoever asked is told; one that fails later keeps the answer it has.
    """
    if answer.error is not None:
        return Revised(None, None if again else answer)
    if again and (held is None or held.query != query):
        return Revised(None, None)
    printed = answer_print(answer)
    if again and held is not None and held.answer == printed:
        return Revised(replace(held, shown=shown), None)
    revision = 0 if held is None else held.revision + 1
    return Revised(Standing(query, shown, printed, revision), replace(answer, revision=revision))


@dataclass(slots=True)
class _Watched:
    number: int
    candidates: frozenset[str]
    floor: float
    """Score of the worst candidate; below everything where all chunks are candidates."""
    weights: Mapping[str, float]
    """Of the question's terms."""
    sigma: float | None
    """By which its scores were made: a tenant has its own. None: that of all chunks."""


def retry_pause_ms(failures: int, first_ms: int, longest_ms: int) -> int:
    """After so many retries that failed: twice as long each time."""
    return min(first_ms << min(failures, 32), longest_ms)


class StandingIndex:
    """The questions of one process. Used in the event loop only."""

    def __init__(self, dimensions: int, coverage_weight: float | None, terms: Terms) -> None:
        """`coverage_weight`: of the ranking; None: it goes by another formula, and every chunk that comes touches every question."""
        self._index = Exact(dimensions)
        self._coverage_weight = coverage_weight or 0.0
        self._is_bounded = coverage_weight is not None
        self._terms = terms
        self._watched: dict[Place, _Watched] = {}
        self._place: dict[int, Place] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._watched)

    def watch(
        self,
        place: Place,
        vector: Vector,
        candidates: Sequence[Hit],
        wanted: int,
        weights: Mapping[str, float],
        *,
        sigma: float | None = None,
    ) -> None:
        """`candidates`: what was looked up, before reranking; `wanted`: how many there could have been."""
        known = self._watched.get(place)
        number = known.number if known else self._free.pop() if self._free else len(self._watched)
        is_full = self._is_bounded and len(candidates) >= wanted
        floor = candidates[-1].score if is_full else -math.inf
        keys = frozenset(hit.chunk.key for hit in candidates)
        self._watched[place] = _Watched(number, keys, floor, weights, sigma)
        self._place[number] = place
        self._index.upsert(np.array([number]), vector[None, :])

    def drop(self, places: Collection[Place]) -> None:
        """Those that are not there are passed over."""
        for place in places:
            watched = self._watched.pop(place, None)
            if watched is not None:
                del self._place[watched.number]
                self._free.append(watched.number)
                self._index.remove(np.array([watched.number]))

    def places(self, partition: int) -> list[Place]:
        return [place for place in self._watched if place[0] == partition]

    def touched(self, keys: Collection[str], came: Sequence[tuple[Chunk, Vector]], sigma: float) -> set[Place]:
        """`keys`: of all chunks that came or went; `came`: those that are there now."""
        found = {place for place, watched in self._watched.items() if not watched.candidates.isdisjoint(keys)}
        numbers = np.array(sorted(self._place), np.int64)
        for chunk, vector in came if len(numbers) else ():
            near = self._index.similarities(vector, numbers)
            found |= self._lifted(chunk, numbers.tolist(), near.tolist(), found, sigma)
        return found

    def _lifted(
        self, chunk: Chunk, numbers: Sequence[int], near: Sequence[float], found: Collection[Place], sigma: float
    ) -> set[Place]:
        """Questions of which the chunk could become a candidate."""
        lifted = set()
        terms: frozenset[str] | None = None
        for number, cosine in zip(numbers, near, strict=True):
            watched = self._watched[self._place[number]]
            score = cosine / (watched.sigma or sigma)
            if self._place[number] in found or score + self._coverage_weight < watched.floor:
                continue
            terms = frozenset(self._terms.all(chunk.text)) if terms is None else terms
            if score + self._coverage_weight * _coverage(watched.weights, terms) >= watched.floor:
                lifted.add(self._place[number])
        return lifted


def _coverage(weights: Mapping[str, float], terms: frozenset[str]) -> float:
    whole = sum(weights.values())
    return sum(weight for term, weight in weights.items() if term in terms) / whole if whole else 0.0
