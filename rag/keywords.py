"""Words: how much of a question's weight a chunk holds (coverage), or how well it fits by BM25.

    terms = unique stemmed non-stopwords of the question
    idf(t) = ln(1 + (N - df + .5) / (df + .5)), unseen terms with df = 0
    cov    = sum of idf(terms in the chunk) / sum of idf(terms)               # 0 .. 1

    bm25   = sum of idf(t) * tf (k1 + 1) / (tf + k1 (1 - b + b * length / mean length))         # rankings/bm25.py

Coverage ignores how often a term occurs and how long the chunk is, so a paraphrase gets little keyword weight; beside vectors that
ranks better than BM25 or rank fusion, on two corpora and with no labels (rag.md). An inverted index of our own, in memory: a
list of postings a term, new ones at its end; a chunk that goes leaves its postings behind as dead, and they are swept when they
are half of all. tantivy computes the same on disk (a `should` of constant scores), at 7 ms a commit, which a view that applies
updates in batches of a few cannot pay.
"""

from __future__ import annotations

import copy
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .index import Numbers
from .terms import Terms

_SWEEP_DEAD_MIN: Final = 1_000
_COUNT_MAX: Final = 65_535
_UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How rare a question's terms are, and how long chunks are: of one index, or of several together."""

    chunks: int = 0
    length: int = 0
    """Terms in all of them, each as often as it occurs."""
    holding: Mapping[str, int] = field(default_factory=dict)
    """Chunks that hold it, by term."""

    def __add__(self, other: TermCounts) -> TermCounts:
        terms = dict.fromkeys((*self.holding, *other.holding))
        holding = {term: self.holding.get(term, 0) + other.holding.get(term, 0) for term in terms}
        return TermCounts(self.chunks + other.chunks, self.length + other.length, holding)


class Keywords:
    """Chunks by the view's number. Memory: 6 bytes a term of a chunk."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._postings: dict[str, array[int]] = {}
        self._counts: dict[str, array[int]] = {}
        """How often the term occurs, beside each posting."""
        self._entry: dict[int, int] = {}
        """Entry of a number: entries only ever grow, so that an old posting never speaks for a new chunk."""
        self._number = np.zeros(256, np.int64)
        """Number of an entry, or -1 once it is dead."""
        self._length = np.zeros(256, np.int64)
        """Terms of an entry, each as often as it occurs."""
        self._entries = 0
        self._counted: TermCounts | None = None
        """Instead of our own counts: this is a part of something larger."""

    def __len__(self) -> int:
        return len(self._entry)

    @property
    def terms(self) -> Terms:
        return self._terms

    def upsert(self, number: int, text: str) -> None:
        self.remove(number)
        if self._entries == len(self._number):
            self._number = np.concatenate([self._number, np.zeros_like(self._number)])
            self._length = np.concatenate([self._length, np.zeros_like(self._length)])
        entry = self._entries
        self._entries += 1
        self._number[entry] = number
        self._entry[number] = entry
        counts = Counter(self._terms.all(text))
        self._length[entry] = counts.total()
        for term, count in counts.items():
            self._postings.setdefault(term, array("I")).append(entry)
            self._counts.setdefault(term, array("H")).append(min(count, _COUNT_MAX))

    def remove(self, number: int) -> None:
        """A number that is not there is passed over."""
        entry = self._entry.pop(number, None)
        if entry is None:
            return
        self._number[entry] = _UNKNOWN
        if self._entries - len(self._entry) > max(_SWEEP_DEAD_MIN, len(self._entry)):
            self._sweep()

    def counts(self, question: str, within: Numbers | None = None) -> TermCounts:
        """Of this index alone, or of those `within` it."""
        inside = self._inside(within)
        terms = self._terms.unique(question)
        holding = {term: len(found) for term, found in zip(terms, self._hits(terms, within), strict=True)}
        return TermCounts(int(inside.sum()), int(self._length[: self._entries][inside].sum()), holding)

    def counted(self, counts: TermCounts) -> Keywords:
        """The same chunks, their words as rare as these counts say. For one question, until the next update."""
        part = copy.copy(self)
        part._counted = counts
        return part

    def coverage(self, question: str, within: Numbers | None = None) -> tuple[Numbers, NDArray[np.float32]]:
        """The numbers that hold at least one term, in ascending order, and how much of the question they cover.

        `within`: as if there were no others; rarity, too, is that among them.
        """
        terms = self._terms.unique(question)
        hits = self._hits(terms, within)
        count = self._count(len(self) if within is None else len(within))
        weights = [self._idf(self._holding(term, len(found)), count) for term, found in zip(terms, hits, strict=True)]
        if not any(len(found) for found in hits):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        numbers, sums = _summed(hits, weights)
        return numbers, sums / np.float32(sum(weights))

    def bm25(
        self, question: str, k1: float, b: float, within: Numbers | None = None
    ) -> tuple[Numbers, NDArray[np.float32]]:
        """The numbers that hold at least one term, in ascending order, and their scores; `within` as for `coverage`."""
        inside = self._inside(within)
        lengths, count = self._length[: self._entries], self._count(int(inside.sum()))
        total = int(lengths[inside].sum()) if self._counted is None else self._counted.length
        mean = float(total) / max(1, count) or 1.0
        damped = k1 * (1 - b + b * lengths / mean)
        found = []
        for term in self._terms.unique(question):
            entries, tf = self._occurrences(term, inside)
            idf = self._idf(self._holding(term, len(entries)), count)
            found.append((self._number[entries], idf * tf * (k1 + 1) / (tf + damped[entries])))
        if not any(len(numbers) for numbers, _ in found):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return _summed([numbers for numbers, _ in found], [weights for _, weights in found])

    def _count(self, own: int) -> int:
        return own if self._counted is None else self._counted.chunks

    def _holding(self, term: str, own: int) -> int:
        return own if self._counted is None else self._counted.holding.get(term, own)

    def _inside(self, within: Numbers | None) -> NDArray[np.bool_]:
        """Whether an entry is alive, and one of those within."""
        numbers = self._number[: self._entries]
        inside: NDArray[np.bool_] = numbers != _UNKNOWN
        return inside if within is None else inside & np.isin(numbers, within)

    def _occurrences(self, term: str, inside: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """Entries inside that hold the term, and how often each does."""
        entries = np.frombuffer(self._postings.get(term, array("I")), np.uint32)
        kept = inside[entries]
        counts = np.frombuffer(self._counts.get(term, array("H")), np.uint16)
        return entries[kept], counts[kept].astype(np.float64)

    def idf(self, term: str, within: Numbers | None = None) -> float:
        """How rare a (stemmed) term is among the chunks, or among those `within`."""
        (found,) = self._hits([term], within)
        return self._idf(len(found), len(self) if within is None else len(within))

    @staticmethod
    def _idf(df: int, count: int) -> float:
        return float(np.log1p((count - df + 0.5) / (df + 0.5)))

    def _hits(self, terms: Sequence[str], within: Numbers | None) -> list[Numbers]:
        hits = [self._alive(term) for term in terms]
        if within is None:
            return hits
        inside = np.zeros(1 + max((int(found.max()) for found in (*hits, within) if len(found)), default=0), np.bool_)
        inside[within] = True
        return [found[inside[found]] for found in hits]

    def _alive(self, term: str) -> Numbers:
        postings = self._postings.get(term)
        if postings is None:
            return np.zeros(0, np.int64)
        numbers: Numbers = self._number[np.frombuffer(postings, np.uint32)]
        alive: Numbers = numbers[numbers != _UNKNOWN]
        return alive

    def _sweep(self) -> None:
        """Entries anew, without the dead ones."""
        alive = np.flatnonzero(self._number[: self._entries] != _UNKNOWN)
        renamed = np.full(self._entries, _UNKNOWN, np.int64)
        renamed[alive] = np.arange(len(alive))
        self._number = np.concatenate([self._number[alive], np.zeros(256, np.int64)])
        self._length = np.concatenate([self._length[alive], np.zeros(256, np.int64)])
        self._entries = len(alive)
        self._entry = {int(number): entry for entry, number in enumerate(self._number[: self._entries])}
        for term, postings in list(self._postings.items()):
            kept = renamed[np.frombuffer(postings, np.uint32)]
            there = kept != _UNKNOWN
            if there.any():
                counts = np.frombuffer(self._counts[term], np.uint16)[there]
                self._postings[term] = array("I", kept[there].astype(np.uint32).tobytes())
                self._counts[term] = array("H", counts.tobytes())
            else:
                del self._postings[term], self._counts[term]


def _summed(
    hits: Sequence[Numbers], weights: Sequence[float | NDArray[np.float64]]
) -> tuple[Numbers, NDArray[np.float32]]:
    """Of each term the numbers that hold it, and what it is worth to all of them or to each."""
    end = 1 + max(int(found.max()) for found in hits if len(found))
    sums = np.zeros(end, np.float32)
    for found, weight in zip(hits, weights, strict=True):
        sums[found] += np.asarray(weight, np.float32)
    numbers = np.flatnonzero(sums)
    return numbers, sums[numbers]
